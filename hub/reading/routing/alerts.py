"""Alerts at 50, 80 and 100 percent of an exam's limit, and of exams that nobody answered.

Each is a row with its time. A scheduled pass (`watch`) keeps the rows in step with the exams' due times, whoever
changed them, and another (`raise_due`) takes those whose time has come, each exactly once. While an exam's clock stands
still (`paused_at`) nothing of it is raised.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, func, literal_column, or_, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams import calendar, limits
from hub.exams.models import Exam
from hub.exams.repository import lock
from hub.exams.states import QUEUE_STATES, State
from hub.kit import clock, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.kit.turns import one_at_a_time
from hub.reading.routing.models import LimitAlert

LEVELS: Final = (50, 80, 100)
UNANSWERED: Final = "unanswered"
WATCHED: Final = tuple(sorted(state.value for state in QUEUE_STATES))
_PASS = "limit alerts"  # noqa: S105
WAITING, RAISED, PASSED, CLOSED = "waiting", "raised", "passed", "closed"
# Written out, not bound: only so do databases know the index of these few. Nearly all alerts are closed ones.
_IS_RAISED: Final = LimitAlert.state == literal_column(f"'{RAISED}'")


@dataclass(frozen=True, slots=True)
class Alert:
    """One line of the list: the highest open alert of an exam."""

    row: LimitAlert
    exam: Exam
    mine: bool


def moment(session: Session, exam: Exam, limit: limits.Limit, level: int) -> datetime | None:
    """When `level` percent of the exam's limit are used up; None where the exam has no due time.

    Counted back from the due time, in the limit's own minutes: where the due time was put off (a pause), what is left
    of the limit is what counts.
    """
    # A due time may be older than a limit whose clock has no start here: it is watched all the same.
    start, due = limits.started_at(exam, limit.clock) or exam.registered_at, exam.due_at
    if due is None:
        return None
    left = limit.minutes * (100 - level) / 100
    if not left:
        return due
    if not limit.working:
        return max(start, due - timedelta(minutes=left))
    hours = calendar.load(session)
    return hours.add_working_minutes(start, max(0.0, hours.working_minutes_between(start, due) - left))


def watch(session: Session, *, limit: int = 500) -> int:
    """Bring the rows in step with the exams of the queue; returns how many exams were looked at."""
    one_at_a_time(session, _PASS)
    known = exists().where(LimitAlert.exam_id == Exam.id, LimitAlert.due_at == Exam.due_at)
    found = session.scalars(
        select(Exam)
        .where(Exam.state.in_(WATCHED), Exam.paused_at.is_(None), Exam.due_at.is_not(None), ~known)
        .order_by(Exam.id)
        .limit(limit)
        .execution_options(populate_existing=True)
    ).all()
    for exam in found:
        _rows_for(session, exam)
    session.flush()
    return len(found)


def _rows_for(session: Session, exam: Exam) -> None:
    limit = limits.limit_for(session, exam)
    present = {
        (row.limit_key, row.level): row
        for row in session.scalars(select(LimitAlert).where(LimitAlert.exam_id == exam.id))
    }
    for row in present.values():
        # Another limit counts now: what was reached of the former one is no matter any more.
        if row.limit_key not in (limit.key, UNANSWERED):
            row.due_at = None
            if row.state in (WAITING, RAISED):
                row.state = CLOSED
    for level in LEVELS:
        at = moment(session, exam, limit, level)
        if at is None:
            continue
        kept = present.get((limit.key, level))
        if kept is None:
            session.add(
                LimitAlert(exam_id=exam.id, limit_key=limit.key, level=level, at=at, due_at=exam.due_at, state=WAITING)
            )
            continue
        gone, kept.due_at = kept.due_at is None, exam.due_at
        answered = kept.county_seen_at is not None and kept.hospital_seen_at is not None
        if (kept.state in (WAITING, PASSED) and at > clock.now()) or (gone and kept.state == CLOSED and not answered):
            # Of an exam that is back in the queue, or has its former limit again, what is late is said again.
            kept.at, kept.state = at, WAITING
        elif kept.state == WAITING:
            kept.at = at


def raise_due(session: Session, *, limit: int = 200) -> int:
    """Raise what is due, each once; returns how many. Of several levels of one exam the highest is raised."""
    one_at_a_time(session, _PASS)
    now = clock.now()
    ids = session.scalars(
        select(LimitAlert.exam_id)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(LimitAlert.state == WAITING, LimitAlert.at <= now, Exam.paused_at.is_(None))
        .order_by(LimitAlert.at)
        .limit(limit)
    ).all()
    if not ids:
        return 0
    wanted = sorted(set(ids))
    lock(session, *wanted)
    rows = session.execute(
        select(LimitAlert, Exam)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(LimitAlert.exam_id.in_(wanted), LimitAlert.state == WAITING, LimitAlert.at <= now)
        .order_by(LimitAlert.exam_id, LimitAlert.level.desc())
        .execution_options(populate_existing=True)
    ).all()
    raised: set[str] = set()
    for row, exam in rows:
        if exam.paused_at is not None:
            continue
        if exam.state not in WATCHED:
            _close(session, row)
        elif row.due_at != exam.due_at:
            # Just changed: the next pass of `watch` gives it its new time.
            continue
        elif exam.id in raised:
            row.state = PASSED
        else:
            raised.add(exam.id)
            _raise(session, row, exam)
    session.flush()
    return len(raised)


def _close(session: Session, row: LimitAlert) -> None:
    """Close an alert whose exam has left the queue; without due times, so that `watch` looks at it when it is back."""
    row.state, row.due_at = CLOSED, None
    session.execute(
        update(LimitAlert)
        .where(LimitAlert.exam_id == row.exam_id, LimitAlert.limit_key == row.limit_key)
        .values(due_at=None)
        .execution_options(synchronize_session=False)
    )


def _raise(session: Session, row: LimitAlert, exam: Exam) -> None:
    now = clock.now()
    held = exam.lease_person_id if exam.lease_until is not None and exam.lease_until > now else None
    row.state, row.raised_at, row.hospital_id, row.holder_id = RAISED, now, exam.reading_org_id, held
    session.execute(
        update(LimitAlert)
        .where(
            LimitAlert.exam_id == exam.id,
            LimitAlert.limit_key == row.limit_key,
            LimitAlert.level < row.level,
            LimitAlert.state == RAISED,
        )
        .values(state=CLOSED)
        .execution_options(synchronize_session="fetch")
    )
    audit.record(
        session,
        SYSTEM,
        "exam.limit_alert",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        level=row.level,
        limit=row.limit_key,
    )
    announce(session, exam, event="limit_alert", level=row.level, holder=held or "")


def unanswered(session: Session, exam: Exam) -> None:
    """Tell hospital and county, once, that an exam was left without an answer. The exam is locked."""
    row = session.scalars(
        select(LimitAlert).where(LimitAlert.exam_id == exam.id, LimitAlert.limit_key == UNANSWERED)
    ).one_or_none()
    if row is not None:
        row.hospital_id = exam.reading_org_id
        return
    now = clock.now()
    session.add(
        LimitAlert(
            exam_id=exam.id, limit_key=UNANSWERED, level=0, at=now, due_at=None, state=RAISED, raised_at=now,
            hospital_id=exam.reading_org_id,
        )
    )  # fmt: skip
    announce(session, exam, event="unanswered")


def close_done(session: Session) -> int:
    """Close the alerts of exams that are done; returns how many."""
    rows = session.scalars(
        select(LimitAlert)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(
            _IS_RAISED,
            or_(
                Exam.state.not_in(WATCHED),
                and_(LimitAlert.limit_key == UNANSWERED, Exam.state != State.TO_READ.value),
            ),
        )
    ).all()
    for row in rows:
        _close(session, row)
    if rows:
        session.flush()
        live.publish(session, "alert", "", orgs=[*{row.hospital_id or "shared" for row in rows}], event="closed")
    return len(rows)


def announce(session: Session, exam: Exam, **data: Any) -> None:
    """Tell the readers of the exam's hospital, director and administrators; a clinic hears nothing."""
    live.publish(session, "alert", exam.id, orgs=[exam.reading_org_id or "shared"], **data)


# --- the list -----------------------------------------------------------------------------------------------------


def county_side(actor: Actor) -> bool:
    """Whether the actor answers for the county: his acknowledgement is the county's."""
    return actor.has(Role.DIRECTOR, Role.ADMINISTRATOR)


def _open(actor: Actor) -> list[ColumnElement[bool]]:
    """Raised, not acknowledged by the actor's side, of an exam that is his hospital's, or anybody's."""
    conditions: list[ColumnElement[bool]] = [_IS_RAISED, Exam.state.in_(WATCHED)]
    if county_side(actor):
        return [*conditions, LimitAlert.county_seen_at.is_(None)]
    return [
        *conditions,
        LimitAlert.hospital_seen_at.is_(None),
        or_(Exam.reading_org_id == actor.org_id, Exam.reading_org_id.is_(None)),
    ]


def of(session: Session, actor: Actor, *, hospital_id: str = "", limit: int = 200) -> list[Alert]:
    """The actor's open alerts, the highest of each exam: what is furthest over first, his own exams before others."""
    statement = (
        select(LimitAlert, Exam)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(*_open(actor))
        .order_by(LimitAlert.level.desc(), Exam.priority_rank, Exam.due_at, LimitAlert.id)
        .limit(limit * 2)
    )
    if hospital_id:
        statement = statement.where(Exam.reading_org_id == hospital_id)
    found: dict[str, Alert] = {}
    for row, exam in session.execute(statement):
        if exam.id not in found:
            found[exam.id] = Alert(row, exam, exam.lease_person_id == actor.id)
    listed = sorted(found.values(), key=lambda one: not one.mine)
    return listed[:limit]


def count(session: Session, actor: Actor) -> int:
    """How many exams have an open alert for the actor."""
    few = (
        select(LimitAlert.exam_id)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(*_open(actor))
        .distinct()
        .limit(100)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(few)) or 0


def acknowledge(session: Session, actor: Actor, alert_ids: Sequence[str]) -> int:
    """The actor's side has seen these alerts: they leave its list; a higher level will come back.

    Raises:
        NotFound: One of them is not the actor's to know, or not open.
    """
    wanted = sorted(set(alert_ids))
    rows = session.scalars(
        select(LimitAlert)
        .join(Exam, Exam.id == LimitAlert.exam_id)
        .where(LimitAlert.id.in_(wanted), *_open(actor))
        .with_for_update(of=LimitAlert)
    ).all()
    if len(rows) < len(wanted):
        raise NotFound(_("没有找到这条提醒,可能已经处理"))
    now, county = clock.now(), county_side(actor)
    for row in rows:
        if county:
            row.county_seen_at, row.county_seen_by = now, actor.id
        else:
            row.hospital_seen_at, row.hospital_seen_by = now, actor.id
        if row.county_seen_at is not None and row.hospital_seen_at is not None:
            row.state = CLOSED
        audit.record(
            session, actor, "alert.acknowledge", "exam", row.exam_id, level=row.level, limit=row.limit_key,
            side="county" if county else "hospital",
        )  # fmt: skip
    session.flush()
    live.publish(session, "alert", "", orgs=_audience(rows), event="acknowledged")
    return len(rows)


def _audience(rows: Iterable[LimitAlert]) -> list[str]:
    return sorted({row.hospital_id or "shared" for row in rows})


def levels_of(session: Session, exam_ids: Sequence[str]) -> dict[str, int]:
    """Exam id → the highest level of its limit that was reached, for marks in the queue."""
    if not exam_ids:
        return {}
    rows = session.execute(
        select(LimitAlert.exam_id, func.max(LimitAlert.level))
        .where(LimitAlert.exam_id.in_(exam_ids), LimitAlert.raised_at.is_not(None))
        .group_by(LimitAlert.exam_id)
    )
    return {exam_id: level for exam_id, level in rows}  # noqa: C416
