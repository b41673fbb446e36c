"""The one writer of a state: two at once, one row or a conflict, and everything in one transaction."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from hub.audit.models import AuditEntry
from hub.exams import service
from hub.exams.models import Exam, Transition
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, HubError
from hub.kit.ids import new_id
from hub.kit.live import Change
from hub.patients.models import CountyPatient, Patient
from support.world import World


@pytest.fixture
def exam_id(world: World) -> str:
    with database().writing() as session:
        human = CountyPatient(number="K1", created_at=clock.now())
        session.add(human)
        session.flush()
        patient = Patient(
            org_id=world.orgs["C01"].id, county_patient_id=human.id, number="1", name="李四", created_at=clock.now()
        )
        session.add(patient)
        session.flush()
        exam = Exam(
            accession=new_id()[-14:],
            org_id=world.orgs["C01"].id,
            reading_org_id=world.orgs["H01"].id,
            patient_id=patient.id,
            state=State.TO_READ.value,
            modality="DX",
            body_parts=["chest"],
            registered_at=clock.now(),
        )
        session.add(exam)
        session.flush()
        return exam.id


def state_of(exam_id: str) -> str:
    with database().reading() as session:
        return session.get_one(Exam, exam_id).state


def count(model: type) -> int:
    with database().reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def test_one_event_writes_state_clock_transition_audit_and_change(world: World, exam_id: str) -> None:
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    clock.set_source(lambda: moment)
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        service.apply(session, world.actor("reporter"), exam, Event.CLAIM, reason="x" * 900)
        assert (exam.state, exam.version, exam.reading_at) == (State.READING, 2, moment)
    assert (count(Transition), count(AuditEntry), count(Change)) == (1, 1, 1)


def test_a_refused_event_writes_nothing(world: World, exam_id: str) -> None:
    with pytest.raises(Forbidden), database().writing() as session:
        service.apply(session, world.actor("technologist"), session.get_one(Exam, exam_id), Event.CLAIM)
    with pytest.raises(Conflict), database().writing() as session:
        service.apply(session, SYSTEM, session.get_one(Exam, exam_id), Event.RETURN)
    assert state_of(exam_id) == State.TO_READ
    assert (count(Transition), count(AuditEntry), count(Change)) == (0, 0, 0)


def test_a_stale_view_is_a_conflict(world: World, exam_id: str) -> None:
    with database().reading() as session:
        stale = session.get_one(Exam, exam_id)
        session.expunge_all()
    with database().writing() as session:
        service.apply(session, world.actor("reporter"), session.get_one(Exam, exam_id), Event.CLAIM)
    with pytest.raises(Conflict) as caught, database().writing() as session:
        service.apply(session, world.actor("reviewer"), stale, Event.CLAIM)
    assert caught.value.code == "changed-meanwhile"


def test_of_two_at_once_one_wins(world: World, exam_id: str) -> None:
    """Both have read the exam before either writes (PostgreSQL); SQLite lets the second read only after the first."""
    both = threading.Barrier(2)
    ends: list[str] = []

    def claim(login: str) -> None:
        try:
            with database().writing() as session:
                exam = session.get_one(Exam, exam_id)
                if session.get_bind().dialect.name == "postgresql":
                    both.wait(60)
                service.apply(session, world.actor(login), exam, Event.CLAIM)
            ends.append("won")
        except HubError as error:
            ends.append(error.code)

    threads = [threading.Thread(target=claim, args=(login,)) for login in ("reporter", "reviewer")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sorted(ends) in (["changed-meanwhile", "won"], ["won", "wrong-state"])
    assert count(Transition) == 1


def test_first_stamps_stay_and_the_others_move(world: World, exam_id: str) -> None:
    hours = iter(range(1, 20))
    clock.set_source(lambda: datetime(2026, 1, 2, next(hours), tzinfo=UTC))
    reporter = world.actor("reporter")
    stamps = []
    for event in (Event.CLAIM, Event.RELEASE, Event.CLAIM):
        with database().writing() as session:
            stamps.append(service.apply(session, reporter, session.get_one(Exam, exam_id), event).reading_at)
    assert stamps[0] is not None
    assert stamps[0] == stamps[2]
