"""Sentences copied from an earlier report: true of another day, each is confirmed before the report leaves."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.exams.repository import visible_to
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.reports.models import CopiedText, Report, ReportVersion
from hub.reports.states import VersionState

FIELDS = ("findings", "impression", "recommendation")
MAX_COPIED = 400
_SENTENCE = re.compile(r"[^。;;!!??\n]*[。;;!!??]+\n*|[^。;;!!??\n]+\n*|\n+")


@dataclass(frozen=True, slots=True)
class Copy:
    """A sentence put into `field` from the version `source_id`."""

    field: str
    text: str
    source_id: str


def pieces(text: str) -> list[str]:
    """The sentences of a text with what ends them; joined they are the text."""
    return _SENTENCE.findall(text)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its stop; a number at a line's head belongs to its sentence."""
    return [found.strip() for found in pieces(text) if found.strip()]


def add(session: Session, actor: Actor, version: ReportVersion, copies: Iterable[Copy]) -> None:
    """Mark sentences of a draft as copied. A sentence that is marked already keeps its mark, and its confirmation.

    A source that is no signed report of the actor's to read is passed over: a save never fails for a mark's sake.
    """
    known = {(row.field, row.sha256) for row in version.copied}
    fresh: dict[tuple[str, str], Copy] = {}
    for copy in copies:
        key = (copy.field, hashlib.sha256(copy.text.encode()).hexdigest())
        if copy.field in FIELDS and copy.text.strip() and key not in known:
            fresh[key] = copy
    if not fresh:
        return
    readable = set(
        session.scalars(
            select(ReportVersion.id)
            .join(Report, Report.id == ReportVersion.report_id)
            .where(
                ReportVersion.id.in_({copy.source_id for copy in fresh.values()}),
                ReportVersion.state == VersionState.SIGNED,
                Report.exam_id.in_(visible_to(actor).with_only_columns(Exam.id)),
            )
        )
    )
    for (field, digest), copy in list(fresh.items())[: max(0, MAX_COPIED - len(known))]:
        if copy.source_id in readable:
            session.add(
                CopiedText(
                    id=new_id(),
                    version_id=version.id,
                    field=field,
                    text=copy.text,
                    sha256=digest,
                    source_id=copy.source_id,
                    at=clock.now(),
                    person_id=actor.id,
                )
            )
    session.flush()
    session.expire(version, ["copied"])


def waiting(version: ReportVersion) -> list[CopiedText]:
    """The copied sentences that stand in the version and that nobody has confirmed, in the order of the text."""
    found = [row for row in version.copied if row.confirmed_at is None and row.text in getattr(version, row.field)]
    return sorted(found, key=lambda row: (FIELDS.index(row.field), getattr(version, row.field).index(row.text)))


def confirm(session: Session, actor: Actor, version: ReportVersion, ids: Sequence[str]) -> None:
    """The actor has read these sentences and they hold for this exam. Again is no error."""
    now = clock.now()
    for row in version.copied:
        if row.id in ids and row.confirmed_at is None:
            row.confirmed_at, row.confirmed_by = now, actor.id
    session.flush()


def check(version: ReportVersion) -> None:
    """Refuse a report with a copied sentence that nobody has confirmed.

    Raises:
        Conflict: `copied-unconfirmed`, with their ids.
    """
    rows = waiting(version)
    if rows:
        raise Conflict(
            _("有 {n} 句从既往报告复制的文字还没有逐句确认,不能提交或签发").format(n=len(rows)),
            code="copied-unconfirmed",
            copied=[row.id for row in rows],
        )
