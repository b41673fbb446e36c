"""Reading originals again, slowly, to find damage before somebody needs them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from sqlalchemy import delete, select

from hub.kit import clock
from hub.kit.db import database
from hub.kit.health import Concern
from hub.kit.logging import get_logger
from hub.studies import stored
from hub.studies.models import Instance, Scrubbing
from storage.errors import ChecksumMismatch, ObjectNotFound, RangeNotSatisfiable

log = get_logger(__name__)

Kind = Literal["missing", "damaged"]

SECONDS: Final = 2.0
"""Of each minute: some 200 GB a day on one machine, and nobody notices."""
BATCH: Final = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """An original that is not what was sent.

    Attributes:
        kind: ``missing`` (no object), or ``damaged``.
        uid: SOP Instance UID.
        object_key: Where it should lie.
    """

    kind: Kind
    uid: str
    object_key: str


@dataclass(slots=True)
class Report:
    """What a reading found."""

    read: int = 0
    findings: list[Finding] = field(default_factory=list)


def verify(study_ids: Iterable[str]) -> Report:
    """Read every original of the studies and compare its SHA-256 with the index.

    Raises:
        StorageUnavailable: The store does not answer, which says nothing of the originals.
    """
    report = Report()
    for study_id in study_ids:
        with database().reading() as session:
            rows = list(session.scalars(select(Instance).where(Instance.study_id == study_id).order_by(Instance.id)))
        for row in rows:
            _look(row, report)
    return report


def scrub(*, seconds: float = SECONDS) -> Report:
    """Read the next originals for so long, beginning anew after the last; the workers do this every minute.

    Raises:
        StorageUnavailable: The store does not answer, which says nothing of the originals.
    """
    report, until = Report(), time.monotonic() + seconds
    with database().reading() as session:
        place = session.get(Scrubbing, 1)
        last = place.last_id if place is not None else ""
        rows = list(session.scalars(select(Instance).where(Instance.id > last).order_by(Instance.id).limit(BATCH)))
    done = last
    for row in rows:
        _look(row, report)
        done = row.id
        if time.monotonic() > until:
            break
    ended = len(rows) < BATCH and (not rows or done == rows[-1].id)
    with database().writing() as session:
        place = session.get(Scrubbing, 1)
        if place is None:
            session.add(place := Scrubbing(id=1, last_id="", begun_at=clock.now()))
        if place.last_id == last:
            place.last_id = "" if ended else done
            if ended:
                place.begun_at = place.ended_at = clock.now()
                # What was removed since is nobody's concern any more.
                there = select(Instance.id)
                session.execute(
                    delete(Concern).where(Concern.kind.in_(("damaged", "missing")), Concern.key.not_in(there))
                )
    return report


def _look(row: Instance, report: Report) -> None:
    """Read one original, and let the operator know, or know that it is mended."""
    report.read += 1
    kind = check(row)
    if kind is not None:
        report.findings.append(Finding(kind, row.uid, row.object_key))
        tell(row.id, kind, row.object_key)
        return
    with database().reading() as session:
        known = session.get(Concern, row.id)
    if known is not None:
        with database().writing() as session:
            session.execute(delete(Concern).where(Concern.key == row.id))


def tell(instance_id: str, kind: Kind, object_key: str) -> None:
    """Let the operator know of an original that is damaged or missing, until it is found whole again."""
    log.error("an original is not what was sent", instance=instance_id, kind=kind, object=object_key)
    with database().writing() as session:
        known = session.get(Concern, instance_id)
        if known is None:
            session.add(Concern(key=instance_id, kind=kind, at=clock.now()))
        else:
            known.kind = kind


def _served_whole(row: Instance) -> bool:
    """Whether the recompressed file is the one that was written: of its header, the original needs nothing."""
    hasher = hashlib.sha256()
    for piece in stored.iter_file(row):
        hasher.update(piece)
    return not row.stored_sha256 or hasher.hexdigest() == row.stored_sha256


def check(row: Instance) -> Kind | None:
    """What is wrong with an instance's original, or with the form in which it is served; None where both are whole.

    Raises:
        StorageUnavailable: The store does not answer.
    """
    for _attempt in range(2):
        try:
            for _piece in stored.iter_original(row):
                pass
            if row.original_syntax and not _served_whole(row):
                return "damaged"
        except ObjectNotFound:
            with database().reading() as session:
                now = session.get(Instance, row.id)
            if now is None:
                return None
            if now.object_key == row.object_key:
                return "missing"
            # It was moved to another object while this looked.
            row = now
        except (ChecksumMismatch, RangeNotSatisfiable):
            return "damaged"
        else:
            return None
    return "missing"
