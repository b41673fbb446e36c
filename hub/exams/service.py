"""The one writer of an exam's state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams.models import Exam, Transition
from hub.exams.states import STATE_NAMES, SYSTEM_ROLE, TRANSITIONS, Event, Rule, State
from hub.kit import clock, jobs, live
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden
from hub.kit.i18n import _

# Clocks that keep their first stamp when the event happens again; the others show the latest.
_FIRST_STAMP = frozenset({"first_image_at", "reading_at"})


def _roles_of(actor: Actor) -> frozenset[str]:
    """The roles under which `actor` raises events. A clinic's own system registers like its technologist."""
    if actor.kind == "system":
        return frozenset({SYSTEM_ROLE})
    if actor.kind == "machine" and "register" in actor.scopes:
        return frozenset({Role.TECHNOLOGIST})
    return actor.roles


def rule_for(exam: Exam, event: Event, actor: Actor) -> Rule:
    """The rule that lets `actor` raise `event` on `exam` now.

    Raises:
        Conflict: The state does not know the event.
        Forbidden: The actor has none of the roles.
    """
    rule = TRANSITIONS.get((State(exam.state), event))
    if rule is None:
        raise Conflict(
            _("这项检查现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[State(exam.state)]),
            code="wrong-state",
            state=exam.state,
            event=event.value,
        )
    roles = _roles_of(actor)
    if roles.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    return rule


def apply(session: Session, actor: Actor, exam: Exam, event: Event, *, reason: str = "", **changes: Any) -> Exam:
    """Raise `event` on `exam`: state, clock, transition, audit entry and live change in one transaction.

    Args:
        session: The transaction; the caller's edge commits.
        actor: Who raises it.
        exam: The row as the caller saw it; its state and version must still be those in the database.
        event: What happens.
        reason: In the actor's words, where one is due.
        **changes: Further columns of the exam written in the same UPDATE.

    Raises:
        Conflict: The state does not know the event, or somebody else changed the exam first.
        Forbidden: The actor has none of the event's roles.
    """
    rule = rule_for(exam, event, actor)
    now = clock.now()
    before = State(exam.state)
    values: dict[str, Any] = {"state": rule.target.value, "version": exam.version + 1, **changes}
    if rule.clock and rule.clock not in changes and not (rule.clock in _FIRST_STAMP and getattr(exam, rule.clock)):
        values[rule.clock] = now
    if rule.target is State.TO_READ and exam.queued_at is None:
        values.setdefault("queued_at", now)
    session.flush()
    result = session.execute(
        update(Exam)
        .where(Exam.id == exam.id, Exam.state == before.value, Exam.version == exam.version)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("这项检查刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(exam)
    session.add(
        Transition(
            exam_id=exam.id,
            at=now,
            event=event.value,
            from_state=before.value,
            to_state=rule.target.value,
            actor_id=actor.id,
            actor_name=actor.name,
            reason=reason[:400],
        )
    )
    audit.record(
        session,
        actor,
        f"exam.{event.value}",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        state=rule.target.value,
    )
    announce(session, exam, event=event.value)
    if rule.target is State.TO_READ:
        # Until it is decided, the exam lies where the first agreement of its clinic says.
        first = 1 if exam.priority == "emergency" else 2
        jobs.enqueue(session, "routing.route", {"exam_id": exam.id}, key=f"route:{exam.id}", priority=first)
    return exam


def announce(session: Session, exam: Exam, **data: Any) -> None:
    """Tell the open pages of the clinic and the readers that the exam changed."""
    live.publish(
        session,
        "exam",
        exam.id,
        orgs=[exam.org_id, exam.reading_org_id or "shared"],
        state=exam.state,
        priority=exam.priority,
        **data,
    )


def lease_values(actor: Actor, token: str, *, minutes: float) -> dict[str, Any]:
    """Columns that give the exam to `actor` for `minutes`."""
    return {
        "lease_person_id": actor.id,
        "lease_token": token,
        "lease_until": clock.now() + timedelta(minutes=minutes),
    }


NO_LEASE: dict[str, Any] = {"lease_person_id": None, "lease_token": None, "lease_until": None}
