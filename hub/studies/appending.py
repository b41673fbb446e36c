"""More images of studies that this process has just indexed: the rows that `indexing` writes, by fewer statements.

All but the first images of a series change nothing but counts. What `indexing` would look up for them is known from the
last time: whose the study is, what its header says of the patient, which series it has. Such facts never change; what
can change meanwhile is asked of the database by the statements themselves, and where anything is not as remembered
nothing is written, and the files go the long way.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.dicom.reader import ParsedInstance
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.ids import new_id
from hub.studies import linking
from hub.studies.indexing import (
    INSERT_HEADER,
    INSERT_INSTANCE,
    Indexing,
    ask_for_previews,
    attach,
    header_patient,
    header_row,
    hinted,
    instance_row,
)
from hub.studies.models import Series, Study
from hub.studies.outcomes import HUB_SOURCE, Outcome, Prepared

_MOST: Final = 256
"""Studies that are remembered: those under way, not those of the day."""


class NotAsRemembered(Exception):
    """A study, a series or an instance is not as this process remembers it; nothing may be committed."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What never changes of a study, and which series it has."""

    id: str
    patient: Mapping[str, Any]
    notes: frozenset[str]
    text_flagged: bool
    series: Mapping[str, str]


_remembered: OrderedDict[tuple[str, str], Remembered] = OrderedDict()
_lock = threading.Lock()


def remember(indexing: Indexing) -> None:
    """Keep in mind what a committed transaction has found or made."""
    for uid, study in indexing.studies.items():
        if study is None or uid not in indexing.added or indexing.hub_made:
            continue
        key = (study.org_id, uid)
        with _lock:
            before = _remembered.get(key)
            series = dict(before.series) if before is not None and before.id == study.id else {}
            series |= {one.uid: one.id for one in indexing.series.values() if one and one.study_id == study.id}
            _remembered[key] = Remembered(
                study.id, study.header_patient, frozenset(study.notes), study.text_flagged, series
            )
            _remembered.move_to_end(key)
            while len(_remembered) > _MOST:
                _remembered.popitem(last=False)


def forget(org_id: str | None = None, uids: Sequence[str] = ()) -> None:
    """Ask the database about these studies the next time; about all of them where none is named."""
    with _lock:
        if org_id is None:
            _remembered.clear()
        for uid in uids:
            _remembered.pop((org_id or "", uid), None)


def fits(org_id: str, files: Sequence[ParsedInstance], *, hint: str | None) -> Mapping[str, Remembered] | None:
    """The studies of which all of these files are more images that change nothing but counts; None where some are not.

    Args:
        org_id: The sender.
        files: What was read of them.
        hint: The character set that the sender's devices are known to use.

    Returns:
        By Study Instance UID what the files were compared with: what is remembered later may be of another study that
        took its place.
    """
    if not files or len({parsed.sop_instance_uid for parsed in files}) != len(files):
        return None
    studies: dict[str, Remembered] = {}
    for parsed in files:
        uid = parsed.study_instance_uid
        study = studies.get(uid) or _remembered.get((org_id, uid))
        if (
            study is None
            or parsed.series_instance_uid not in study.series
            or not study.notes.issuperset(parsed.notes)
            or (parsed.text_flagged and not study.text_flagged)
            or hinted(parsed) not in ("", hint)
            or header_patient(parsed) != study.patient
        ):
            return None
        studies[uid] = study
    return studies


# By the tables, and built once: what the ORM adds costs more than the statements do.
_COUNT_STUDY: Final = (
    update(Study.__table__)  # type: ignore[arg-type]
    .where(
        Study.__table__.c.id == bindparam("study"),
        Study.__table__.c.org_id == bindparam("org"),
        Study.__table__.c.trashed_at.is_(None),
    )
    .values(
        instance_count=Study.__table__.c.instance_count + bindparam("more"),
        total_bytes=Study.__table__.c.total_bytes + bindparam("size"),
        revision=Study.__table__.c.revision + 1,
        last_instance_at=bindparam("now"),
    )
)
_COUNT_SERIES: Final = (
    update(Series.__table__)  # type: ignore[arg-type]
    .where(Series.__table__.c.id == bindparam("series"), Series.__table__.c.study_id == bindparam("study"))
    .values(
        instance_count=Series.__table__.c.instance_count + bindparam("more"),
        frame_count=Series.__table__.c.frame_count + bindparam("images"),
    )
)


def append(
    session: Session, actor: Actor, org_id: str, known: Mapping[str, Remembered], files: Sequence[Prepared]
) -> list[Outcome]:
    """Write the rows of files that fit; database only.

    Args:
        session: The transaction.
        actor: Who sends.
        org_id: Whose they are.
        known: What `fits` has compared them with.
        files: As from `Batch`.

    Returns:
        An outcome for each file, in order; each is `stored`.

    Raises:
        NotAsRemembered: Some study, series or instance is not as it was; the transaction must be rolled back.
        Conflict: As `linking.attach`.
    """
    connection, now = session.connection(), clock.now()
    by_study: dict[str, list[Prepared]] = {}
    for file in files:
        assert file.source != HUB_SOURCE
        by_study.setdefault(file.parsed.study_instance_uid, []).append(file)
    rows: list[dict[str, Any]] = []
    headers: list[dict[str, Any]] = []
    outcomes: dict[str, Outcome] = {}
    studies: list[tuple[Remembered, list[Prepared]]] = []
    # Studies in one order everywhere, so that two transactions never wait for each other's.
    for uid, group in sorted(by_study.items()):
        study = known[uid]
        studies.append((study, group))
        counted = connection.execute(
            _COUNT_STUDY,
            {"study": study.id, "org": org_id, "more": len(group), "size": sum(one.size for one in group), "now": now},
        )
        if counted.rowcount != 1:
            raise NotAsRemembered
        by_series: dict[str, list[Prepared]] = {}
        for file in group:
            by_series.setdefault(file.parsed.series_instance_uid, []).append(file)
        for series_uid, part in by_series.items():
            series_id = study.series.get(series_uid, "")
            frames = sum(len(one.parsed.frames) for one in part)
            counted = connection.execute(
                _COUNT_SERIES, {"series": series_id, "study": study.id, "more": len(part), "images": frames}
            )
            if counted.rowcount != 1:
                raise NotAsRemembered
            for file in part:
                parsed, instance_id = file.parsed, new_id()
                rows.append(instance_row(instance_id, file, series_id, study.id, org_id, now))
                headers.append(header_row(instance_id, file))
                outcomes[parsed.sop_instance_uid] = Outcome(
                    "stored",
                    study_uid=uid,
                    series_uid=series_uid,
                    sop_uid=parsed.sop_instance_uid,
                    sop_class_uid=parsed.sop_class_uid,
                    instance_id=instance_id,
                    study_id=study.id,
                    notes=parsed.notes,
                )
    try:
        connection.execute(INSERT_INSTANCE, rows)
    except IntegrityError as error:
        # Sent before, here or by somebody else.
        raise NotAsRemembered from error
    connection.execute(INSERT_HEADER, headers)
    for study, group in studies:
        if not linking.attach_more(session, study.id, exam_id=None, added=len(group)):
            attach(session, actor, session.get_one(Study, study.id), [file.parsed for file in group])
        ask_for_previews(session, study.id, fresh=False)
    return [outcomes[file.parsed.sop_instance_uid] for file in files]
