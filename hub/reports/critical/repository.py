"""Queries for critical values. Every one starts from `visibility`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, false, or_, select, true
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.exams.models import Exam
from hub.exams.repository import reads
from hub.kit.actor import Actor
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.patients.models import Patient
from hub.patients.service import matches
from hub.reports.critical.models import CriticalEntry, CriticalMessage, CriticalValue
from hub.reports.critical.states import OPEN, UNANSWERED, CriticalState


def is_clinic(actor: Actor) -> bool:
    """Whether `actor` is a person who receives for a clinic."""
    return bool(actor.kind == "person" and actor.org_id and actor.has(Role.TECHNOLOGIST, Role.CLINICIAN))


def visibility(actor: Actor) -> ColumnElement[bool]:
    """The condition under which `actor` may know a critical value.

    A clinic knows those of its exams; a reader those that his hospital flagged, wherever the exam went since; quality
    officer and director all.
    """
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return true()
    conditions: list[ColumnElement[bool]] = []
    if is_clinic(actor):
        conditions.append(CriticalValue.org_id == actor.org_id)
    if reads(actor):
        conditions.append(CriticalValue.hospital_id == actor.org_id)
    return or_(*conditions) if conditions else false()


def get(session: Session, actor: Actor, critical_id: str) -> CriticalValue:
    """The critical value.

    Raises:
        NotFound: It does not exist, or is not the actor's to know.
    """
    row = session.scalars(select(CriticalValue).where(CriticalValue.id == critical_id, visibility(actor))).one_or_none()
    if row is None:
        raise NotFound(_("没有找到这条危急值"))
    return row


def locked(session: Session, actor: Actor, critical_id: str) -> CriticalValue:
    """The critical value, fresh and locked until the transaction ends.

    Raises:
        NotFound: It does not exist, or is not the actor's to know.
    """
    # A statement of its own: what is read after it is as the one before left it.
    session.execute(
        select(CriticalValue.id).where(CriticalValue.id == critical_id).with_for_update(key_share=True)
    ).all()
    row = session.scalars(
        select(CriticalValue)
        .where(CriticalValue.id == critical_id, visibility(actor))
        .execution_options(populate_existing=True)
    ).one_or_none()
    if row is None:
        raise NotFound(_("没有找到这条危急值"))
    return row


# The key as well as the states: only what is open has one, and an index of these few.
_OPEN = and_(CriticalValue.open_key.is_not(None), CriticalValue.state.in_([state.value for state in OPEN]))
_URGENCY = case(
    (CriticalValue.state.in_([state.value for state in UNANSWERED]), 0),
    (CriticalValue.state == CriticalState.RECEIVED.value, 1),
    else_=2,
)


def open_ones(session: Session, actor: Actor, *, limit: int = 100) -> list[CriticalValue]:
    """Those that somebody still has something to do for, the most urgent first; for the board."""
    return list(
        session.scalars(
            select(CriticalValue)
            .where(visibility(actor), _OPEN)
            .order_by(_URGENCY, CriticalValue.discovered_at)
            .limit(limit)
        )
    )


def concerning(session: Session, actor: Actor, *, limit: int = 20) -> list[CriticalValue]:
    """Those that stand on every page of `actor`: the open ones of his clinic or hospital, a director's all.

    To a clinic also those that were withdrawn, until somebody there has seen it.
    """
    if actor.kind != "person" or not actor.has(
        Role.TECHNOLOGIST, Role.CLINICIAN, Role.REPORTER, Role.REVIEWER, Role.DIRECTOR
    ):
        return []
    wanted: ColumnElement[bool] = _OPEN
    if is_clinic(actor):
        wanted = or_(
            wanted,
            and_(
                CriticalValue.org_id == actor.org_id,
                CriticalValue.state == CriticalState.WITHDRAWN.value,
                CriticalValue.withdrawal_seen_at.is_(None),
            ),
        )
    return list(
        session.scalars(
            select(CriticalValue)
            .where(visibility(actor), wanted)
            .order_by(_URGENCY, CriticalValue.discovered_at)
            .limit(limit)
        )
    )


def history(
    session: Session,
    actor: Actor,
    *,
    text: str = "",
    class_code: str = "",
    begins: datetime | None = None,
    ends: datetime | None = None,
    before: datetime | None = None,
    limit: int = 50,
) -> list[CriticalValue]:
    """All of them, the newest discovery first.

    Args:
        session: A session.
        actor: Who asks.
        text: Beginning of the patient's name, pinyin, initials or number; or an accession number.
        class_code: Of one class.
        begins: Discovered from this moment on.
        ends: Discovered before this moment.
        before: Only older ones (the last one's `discovered_at` gives the next page).
        limit: How many at most.
    """
    statement = select(CriticalValue).where(visibility(actor))
    if class_code:
        statement = statement.where(CriticalValue.class_code == class_code)
    if begins is not None:
        statement = statement.where(CriticalValue.discovered_at >= begins)
    if ends is not None:
        statement = statement.where(CriticalValue.discovered_at < ends)
    if before is not None:
        statement = statement.where(CriticalValue.discovered_at < before)
    if text := text.strip():
        # Asked of each critical value: exams of that name are looked for among few, not in the whole county.
        named = (
            select(Exam.id)
            .join(Patient, Patient.id == Exam.patient_id)
            .where(Exam.id == CriticalValue.exam_id, or_(Exam.accession == text.upper(), matches(text)))
            .correlate(CriticalValue)
        )
        statement = statement.where(named.exists())
    return list(session.scalars(statement.order_by(CriticalValue.discovered_at.desc()).limit(limit)))


def of_exam(session: Session, exam_id: str) -> list[CriticalValue]:
    """An exam's, oldest first; for whoever may see the exam's report."""
    return list(
        session.scalars(
            select(CriticalValue).where(CriticalValue.exam_id == exam_id).order_by(CriticalValue.flagged_at)
        )
    )


def entries(session: Session, critical_id: str) -> Sequence[CriticalEntry]:
    """The record, in order."""
    return session.scalars(
        select(CriticalEntry).where(CriticalEntry.critical_id == critical_id).order_by(CriticalEntry.id)
    ).all()


def messages(session: Session, critical_id: str) -> Sequence[CriticalMessage]:
    """What was sent to the outside, in order."""
    return session.scalars(
        select(CriticalMessage).where(CriticalMessage.critical_id == critical_id).order_by(CriticalMessage.queued_at)
    ).all()


def due(session: Session, at: datetime, *, limit: int = 200) -> list[str]:
    """Ids of those whose timers ran out and were not acted on."""
    waiting = [CriticalState.ALARMED.value, CriticalState.ESCALATED.value, CriticalState.RECEIVED.value]
    return list(
        session.scalars(
            select(CriticalValue.id)
            .where(
                CriticalValue.state.in_(waiting),
                or_(
                    and_(CriticalValue.state == CriticalState.ALARMED.value, CriticalValue.escalate_due <= at),
                    and_(CriticalValue.breached_at.is_(None), CriticalValue.breach_due <= at),
                ),
            )
            .order_by(CriticalValue.breach_due)
            .limit(limit)
        )
    )
