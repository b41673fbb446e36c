"""What "next for me" offers before the queue: rejected reports and open corrections to their author, and corrections to
who may review them.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.reading import repository as reading_rows
from hub.reading import service as reading
from hub.reading.repository import NO_LIMIT, QueueFilters
from hub.reading.service import Lease
from hub.reports.models import Report, ReportVersion
from hub.reports.policy import AMENDABLE, may_review_amendment
from hub.reports.states import VersionState

MOST = 20


def waiting(session: Session, actor: Actor, filters: QueueFilters, *, review: bool | None = None) -> list[Exam]:
    """Exams whose draft waits for `actor`, who wrote it, in the order in which he is to have them.

    First open addenda and corrections, the oldest first: the clinic goes by a report that he thinks wrong. Then reports
    that had been submitted and are a draft again (rejected, or given back since), by priority and nearest limit.

    Args:
        session: The transaction.
        actor: The author.
        filters: Those of his queue page; with states, only reports in these.
        review: True: only reviews are asked for, so nothing of his own.
    """
    if review is True:
        return []
    states = [state for state in (State.REJECTED, State.TO_READ) if not filters.states or state in filters.states]
    ways: list[ColumnElement[bool]] = [
        and_(
            ReportVersion.kind == "original",
            ReportVersion.submitted_at.is_not(None),
            Exam.state.in_([state.value for state in states]),
        )
    ]
    if not filters.states:
        ways.append(and_(ReportVersion.kind != "original", Exam.state.in_([state.value for state in AMENDABLE])))
    rows = session.execute(
        select(Exam, ReportVersion.kind, ReportVersion.created_at)
        .join(Report, Report.exam_id == Exam.id)
        .join(ReportVersion, ReportVersion.report_id == Report.id)
        .where(
            ReportVersion.state == VersionState.DRAFT.value,
            ReportVersion.author_id == actor.id,
            Exam.reading_org_id == actor.org_id,
            or_(*ways),
            # What he writes is his, whoever wrote the report before it.
            *reading_rows.conditions(actor, replace(filters, mine=False)),
        )
    ).unique()
    found = [(exam, kind == "original", created) for exam, kind, created in rows]
    found.sort(
        key=lambda row: (
            row[1],
            row[0].priority_rank if row[1] else 0,
            (row[0].due_at or NO_LIMIT) if row[1] else row[2],
            row[0].id,
        )
    )
    return [exam for exam, _original, _created in found[:MOST]]


def to_review(session: Session, actor: Actor, filters: QueueFilters, *, review: bool | None = None) -> list[Exam]:
    """Exams with an addendum or a correction that waits for a review which `actor` may give, the oldest first.

    Args:
        session: The transaction.
        actor: The reviewer.
        filters: Those of his queue page; with states none: the exam itself is signed.
        review: False: no reviews are asked for.
    """
    if review is False or filters.states or not actor.has(Role.REVIEWER):
        return []
    rows = session.execute(
        select(Exam, ReportVersion)
        .join(Report, Report.exam_id == Exam.id)
        .join(ReportVersion, ReportVersion.report_id == Report.id)
        .where(
            ReportVersion.state == VersionState.SUBMITTED.value,
            ReportVersion.kind != "original",
            Exam.reading_org_id == actor.org_id,
            *reading_rows.conditions(actor, filters),
        )
        .order_by(ReportVersion.submitted_at, ReportVersion.id)
    ).unique()
    return list(islice((exam for exam, version in rows if may_review_amendment(exam, version, actor)), MOST))


def next_for(
    session: Session, actor: Actor, filters: QueueFilters, *, without: str = "", review: bool | None = None
) -> Lease | None:
    """The next exam for `actor`, his own returned ones first; claimed, where it is written under a lease.

    Args:
        session: The transaction.
        actor: Who asks.
        filters: Those of his queue page.
        without: An exam that he has just left.
        review: True: only reports to review; False: only exams to read; None: both.
    """
    first = _before_the_queue(session, actor, filters, review)
    return reading.next_for(session, actor, filters, without=without, review=review, **first)


def upcoming(
    session: Session, actor: Actor, filters: QueueFilters, *, without: str = "", review: bool | None = None
) -> Exam | None:
    """The exam that `next_for` would give now, left where it is."""
    first = _before_the_queue(session, actor, filters, review)
    return reading.upcoming(session, actor, filters, without=without, review=review, **first)


def _before_the_queue(
    session: Session, actor: Actor, filters: QueueFilters, review: bool | None
) -> dict[str, list[Exam]]:
    return {
        "returned": waiting(session, actor, filters, review=review),
        "corrections": to_review(session, actor, filters, review=review),
    }
