"""Who may know which exam: every role, every state, and the priors of an exam that a reader holds."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from hub.accounts.roles import Role
from hub.exams import repository
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import ANONYMOUS, SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import NotFound
from hub.kit.ids import new_id
from hub.patients.models import CountyPatient, Patient
from support.world import World


def person(world: World, org: str, county: str | None = None) -> str:
    """A patient of a clinic; his id. `county`: the same human being as that patient."""
    with database().writing() as session:
        if county is None:
            human = CountyPatient(number=new_id(), created_at=clock.now())
            session.add(human)
            session.flush()
            known = human.id
        else:
            known = session.get_one(Patient, county).county_patient_id
        row = Patient(
            org_id=world.orgs[org].id, county_patient_id=known, number=new_id(), name="李四", created_at=clock.now()
        )
        session.add(row)
        session.flush()
        return row.id


def exam(world: World, org: str, reads: str | None, patient: str, state: State = State.TO_READ, **more: object) -> str:
    with database().writing() as session:
        row = Exam(
            accession=new_id()[-14:],
            org_id=world.orgs[org].id,
            reading_org_id=world.orgs[reads].id if reads else None,
            patient_id=patient,
            state=state.value,
            modality="DX",
            body_parts=["chest"],
            registered_at=clock.now(),
            **more,
        )
        session.add(row)
        session.flush()
        return row.id


def seen(actor: Actor) -> set[str]:
    with database().reading() as session:
        return set(session.scalars(select(Exam.id).where(repository.visibility(actor))))


@pytest.mark.parametrize("state", State)
def test_each_role_in_each_state(world: World, state: State) -> None:
    own = exam(world, "C01", "H01", person(world, "C01"), state)
    other = exam(world, "C02", "H02", person(world, "C02"), state)
    shared = exam(world, "C02", None, person(world, "C02"), state)
    read = state not in (State.REGISTERED, State.RECEIVING, State.CANCELLED)
    expected: dict[str, set[str]] = {role.value: set() for role in Role}
    expected[Role.TECHNOLOGIST] = expected[Role.CLINICIAN] = {own}
    expected[Role.REPORTER] = expected[Role.REVIEWER] = {own, shared} if read else set()
    expected[Role.QUALITY] = expected[Role.DIRECTOR] = {own, other, shared}
    for role in Role:
        assert seen(world.actor(role.value)) == expected[role.value], role
    assert seen(world.actor("technologist.c02")) == {other, shared}
    assert seen(world.actor("reporter.h02")) == ({other, shared} if read else set())
    assert seen(SYSTEM) == {own, other, shared}
    assert seen(ANONYMOUS) == set()


def test_a_machine_sees_its_organisation(world: World) -> None:
    own = exam(world, "C01", "H01", person(world, "C01"))
    exam(world, "C02", "H02", person(world, "C02"))
    machine = Actor(kind="machine", id="m", org_id=world.orgs["C01"].id, scopes=frozenset({"register"}))
    assert seen(machine) == {own}


def test_the_priors_of_a_held_exam(world: World) -> None:
    first = person(world, "C01")
    second = person(world, "C02", county=first)
    held = exam(world, "C01", "H01", first)
    prior = exam(world, "C02", "H02", second, State.SEEN)
    arriving = exam(world, "C02", "H02", second, State.RECEIVING)
    same_row = exam(world, "C01", "H02", first, State.SEEN)
    stranger = exam(world, "C02", "H02", person(world, "C02"), State.SEEN)
    reporter = world.actor("reporter")
    assert seen(reporter) == {held}

    def lease(until: timedelta) -> None:
        with database().writing() as session:
            row = session.get_one(Exam, held)
            row.lease_person_id, row.lease_until = reporter.id, clock.now() + until

    lease(timedelta(minutes=5))
    assert seen(reporter) == {held, prior, same_row}
    assert seen(world.actor("reviewer")) == {held}
    assert {stranger, arriving}.isdisjoint(seen(reporter))
    lease(timedelta(minutes=-1))
    assert seen(reporter) == {held}


def test_what_is_not_his_does_not_exist(world: World) -> None:
    other = exam(world, "C02", "H02", person(world, "C02"))
    with database().reading() as session:
        for identifier in (other, "nothing"):
            with pytest.raises(NotFound):
                repository.get(session, world.actor("technologist"), identifier)
        assert repository.get(session, world.actor("technologist.c02"), other).id == other
