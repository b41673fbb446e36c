"""The state machine of an exam: every (state, event, role) cell, allowed or not."""

from __future__ import annotations

import itertools

import pytest
from sqlalchemy import select

from hub.accounts.roles import Role
from hub.audit.models import AuditEntry
from hub.exams import service
from hub.exams.models import Exam, Transition
from hub.exams.states import STATE_NAMES, SYSTEM_ROLE, TRANSITIONS, Event, State
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden
from support.reading import make_exam

# The table once more, written from the life of an exam and not from the code: event: {from → to}, who.
TECH, CLIN, REP, REV, DIR, QUAL, EXP, SYS = (
    "technologist",
    "clinician",
    "reporter",
    "reviewer",
    "director",
    "quality",
    "expert",
    "system",
)
WANTED: dict[str, list[tuple[str, str, set[str]]]] = {
    "images_arrive": [
        ("registered", "receiving", {TECH, SYS}),
        ("to_verify", "receiving", {TECH, SYS}),
        ("to_read", "receiving", {TECH, SYS}),
    ],
    "complete": [("receiving", "to_read", {SYS})],
    "disagree": [("receiving", "to_verify", {SYS}), ("to_read", "to_verify", {SYS})],
    "verify": [("to_verify", "to_read", {TECH, QUAL, DIR, SYS})],
    "detach": [
        ("to_verify", "registered", {TECH, QUAL, DIR, SYS}),
        ("receiving", "registered", {TECH, QUAL, DIR, SYS}),
        ("to_read", "registered", {TECH, QUAL, DIR, SYS}),
    ],
    "claim": [("to_read", "reading", {REP, REV}), ("rejected", "reading", {REP, REV})],
    "take_over": [("reading", "reading", {REP, REV, DIR})],
    "release": [("reading", "to_read", {REP, REV})],
    "lease_expires": [("reading", "to_read", {SYS})],
    "submit": [("reading", "to_review", {REP, REV})],
    "withdraw": [("to_review", "reading", {REP, REV}), ("preliminary", "reading", {REP, REV})],
    "claim_review": [("to_review", "reviewing", {REV}), ("preliminary", "reviewing", {REV})],
    "take_over_review": [("reviewing", "reviewing", {REV, DIR})],
    "release_review": [("reviewing", "to_review", {REV})],
    "review_lease_expires": [("reviewing", "to_review", {SYS})],
    "reject": [("reviewing", "rejected", {REV})],
    "sign": [("reading", "signed", {REV}), ("reviewing", "signed", {REV})],
    "return": [("signed", "returned", {SYS}), ("preliminary", "preliminary", {SYS})],
    "see": [("returned", "seen", {TECH, CLIN}), ("preliminary", "preliminary", {TECH, CLIN})],
    "amend": [("signed", "signed", {REV}), ("returned", "signed", {REV}), ("seen", "signed", {REV})],
    "issue_preliminary": [("reading", "preliminary", {REP, REV})],
    "request_retake": [("reading", "retake", {REP, REV}), ("reviewing", "retake", {REV})],
    "request_history": [("reading", "history_requested", {REP, REV})],
    "answer_history": [("history_requested", "to_read", {TECH, CLIN})],
    "decline_retake": [("retake", "to_read", {TECH, CLIN})],
    "decline_retake_review": [("retake", "to_review", {TECH, CLIN})],
    "consult": [("reading", "consultation", {REP, REV})],
    "end_consultation": [("consultation", "to_read", {REP, REV, EXP})],
    "cancel": [
        ("registered", "cancelled", {TECH, DIR}),
        ("receiving", "cancelled", {TECH, DIR}),
        ("to_verify", "cancelled", {TECH, DIR}),
        ("to_read", "cancelled", {TECH, DIR}),
    ],
    "void": [
        ("to_read", "void", {DIR}),
        ("to_review", "void", {DIR}),
        ("rejected", "void", {DIR}),
        ("retake", "void", {DIR}),
        ("to_verify", "void", {DIR}),
        ("reading", "void", {DIR}),
        ("reviewing", "void", {DIR}),
        ("history_requested", "void", {DIR}),
        ("consultation", "void", {DIR}),
        ("preliminary", "void", {DIR}),
        ("signed", "void", {DIR}),
        ("returned", "void", {DIR}),
        ("seen", "void", {DIR}),
    ],
}
CELLS = {
    (State(source), Event(event)): (State(target), roles)
    for event, rules in WANTED.items()
    for source, target, roles in rules
}
ROLES = [*(role.value for role in Role), SYSTEM_ROLE]


def actor_of(role: str) -> Actor:
    if role == SYSTEM_ROLE:
        return SYSTEM
    return Actor(kind="person", id=f"person-{role}", name=role, roles=frozenset({role}))


def test_every_state_and_event_has_a_name_and_a_place() -> None:
    assert set(STATE_NAMES) == set(State)
    assert {event for _state, event in TRANSITIONS} == set(Event)
    assert set(WANTED) == {event.value for event in Event}


@pytest.mark.parametrize("state", State)
def test_every_cell(state: State) -> None:
    """17 states × 28 events × 10 roles: the rule, or the right refusal."""
    exam = Exam(id="x", state=state.value, version=1)
    for event, role in itertools.product(Event, ROLES):
        wanted = CELLS.get((state, event))
        where = f"{state} {event} {role}"
        try:
            rule = service.rule_for(exam, event, actor_of(role))
        except Conflict as error:
            assert wanted is None, where
            assert error.code == "wrong-state"
        except Forbidden:
            assert wanted is not None, where
            assert role not in wanted[1], where
        else:
            assert wanted is not None, where
            assert (rule.target, role in wanted[1]) == (wanted[0], True), where


def test_no_role_means_nothing() -> None:
    for state, event in CELLS:
        with pytest.raises(Forbidden):
            service.rule_for(Exam(id="x", state=state.value), event, Actor(kind="person", id="x"))


def test_applying_writes_state_clock_transition_and_audit(world) -> None:
    """Each allowed cell with each of its roles, for real, in the database."""
    for (state, event), (target, roles) in CELLS.items():
        for role in sorted(roles):
            exam_id = make_exam(world, state=state, with_study=False)
            actor = SYSTEM if role == SYS else world.actor(role)
            with database().writing() as session:
                exam = session.get_one(Exam, exam_id)
                version = exam.version
                service.apply(session, actor, exam, event, reason="why")
                assert (exam.state, exam.version) == (target, version + 1)
                clock = TRANSITIONS[state, event].clock
                assert clock is None or getattr(exam, clock) is not None
            with database().reading() as session:
                assert session.get_one(Exam, exam_id).state == target
                step = session.scalars(select(Transition).where(Transition.exam_id == exam_id)).one()
                assert (step.event, step.from_state, step.to_state, step.reason) == (event, state, target, "why")
                entry = session.scalars(select(AuditEntry).where(AuditEntry.object_id == exam_id)).one()
                assert (entry.action, entry.actor_id) == (f"exam.{event}", actor.id)


def test_of_two_who_saw_the_same_version_one_wins(world) -> None:
    exam_id = make_exam(world)
    with database().reading() as session:
        stale = session.get_one(Exam, exam_id)
    with database().writing() as session:
        service.apply(session, world.actor("reporter"), session.get_one(Exam, exam_id), Event.CLAIM)
    with pytest.raises(Conflict) as refused, database().writing() as session:
        service.apply(session, world.actor("reviewer"), session.merge(stale, load=False), Event.CLAIM)
    assert refused.value.code == "changed-meanwhile"
