"""Every text of a report that was ever kept, and what changed between two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.exams import repository as exam_rows
from hub.kit.actor import Actor
from hub.kit.errors import Forbidden
from hub.reports import repository
from hub.reports.models import ReportVersion, SavedText, StrayText
from hub.reports.review.diff import Segment, compare, opcodes
from hub.reports.service import TEXTS, body_of
from hub.reports.states import VersionState
from hub.reports.texts.copied import pieces

_BY_WORDS = 4000


@dataclass(frozen=True, slots=True)
class Entry:
    """A text of an exam's report.

    Attributes:
        id: `version:…`, `saved:…` or `stray:…`.
        event: A version's state, or why the text was kept (SavedText.event).
        version: Number of the version it belongs to; None where there was none. Discarded ones are negative.
        current: Whether this is what the version says now.
    """

    id: str
    at: datetime
    person: str
    mine: bool
    event: str
    version: int | None
    current: bool
    body: Mapping[str, Any]


def of_exam(session: Session, actor: Actor, exam_id: str) -> list[Entry]:
    """All texts of an exam's report, newest first.

    Raises:
        NotFound: The exam is not the actor's to know.
        Forbidden: Drafts are not his to read.
    """
    exam = exam_rows.get(session, actor, exam_id)
    if not (actor.kind == "system" or actor.has(Role.REPORTER, Role.REVIEWER, *COUNTY_WIDE_ROLES)):
        raise Forbidden()
    report = repository.report_of(session, exam.id)
    inside = repository.may_see_drafts(actor, exam)
    wanted = select(ReportVersion).where(ReportVersion.report_id == (report.id if report else ""))
    # Another hospital's reader is told what was signed; how it came about stays where it was written.
    versions = list(session.scalars(wanted if inside else wanted.where(ReportVersion.state == VersionState.SIGNED)))
    numbers = {version.id: version.number for version in versions}
    kept = select(SavedText).where(SavedText.version_id.in_(numbers if inside else []))
    saved = list(session.scalars(kept))
    stray = list(
        session.scalars(select(StrayText).where(StrayText.exam_id == exam.id, StrayText.person_id == actor.id))
    )
    people = {row.person_id for row in saved} | {row.person_id for row in stray} | {row.saved_by for row in versions}
    known = session.execute(select(Person.id, Person.name).where(Person.id.in_([one for one in people if one])))
    names = {row.id: row.name for row in known}

    def entry(kind: str, row: Any, at: datetime, person: str | None, event: str, version: int | None) -> Entry:
        body = body_of(row) if isinstance(row, ReportVersion) else row.body
        name = names.get(person or "", "")
        return Entry(f"{kind}:{row.id}", at, name, person == actor.id, event, version, kind == "version", body)

    found = [
        entry("version", row, row.signed_at or row.saved_at, row.saved_by, row.state, row.number) for row in versions
    ]
    found += [entry("saved", row, row.at, row.person_id, row.event, numbers[row.version_id]) for row in saved]
    found += [entry("stray", row, row.at, row.person_id, "lease-lost", None) for row in stray]
    return sorted(found, key=lambda one: (one.at, one.current), reverse=True)


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Segment]]:
    """What changed between two bodies, by field; fields that both leave empty are left out."""
    return {
        name: _compare(str(before.get(name) or ""), str(after.get(name) or ""))
        for name in TEXTS
        if before.get(name) or after.get(name)
    }


def _compare(before: str, after: str) -> list[Segment]:
    if len(before) + len(after) <= _BY_WORDS:
        return compare(before, after)
    # The comparison's time grows with the square of the words; longer texts are compared by sentence.
    old, new = pieces(before), pieces(after)
    found = []
    for tag, i1, i2, j1, j2 in opcodes(old, new):
        was, now = "".join(old[i1:i2]), "".join(new[j1:j2])
        if tag != "equal" and len(was) + len(now) <= _BY_WORDS:
            found += compare(was, now)
        else:
            found.append(Segment("same" if tag == "equal" else "change", was, now))
    return found
