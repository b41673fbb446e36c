"""Priors hang on who is whom: with a link they come, with its undoing they go, at once and everywhere."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.patients import links
from hub.patients.models import Patient
from hub.protocols.dicomweb import grants
from hub.reading import repository as reading
from hub.studies import intake, repository
from hub.studies.intake import Incoming, Outcome
from support.files import JSON, dicom_file

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    repository.forget_views()


def _take(world: World, org: str, login: str, number: bytes) -> Outcome:
    file = dicom_file(patient_id=number, name=b"WANG^WEI")
    (outcome,) = intake.ingest_many(world.actor(login), [Incoming(file)], org_id=world.orgs[org].id, source="web")
    return outcome


def _seen(client: TestClient, outcome: Outcome) -> set[int]:
    """What comes of every way to an image; twice, so that whatever is remembered is asked, too."""
    one = f"/studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"
    found = set()
    for _turn in range(2):
        for door in ("/viewer/dicomweb", "/dicomweb"):
            found.add(client.get(f"{door}{one}/frames/1", headers=FRAME).status_code)
            found.add(client.get(f"{door}/studies/{outcome.study_uid}/metadata", headers={"Accept": JSON}).status_code)
            found.add(client.get(f"{door}{one}/rendered").status_code)
    return found


def test_images_of_another_patient_go_with_the_link(world: World) -> None:
    """Three clinics; nothing that was remembered for the reader outlives the undoing of a link."""
    present = _take(world, "C01", "technologist", b"001")
    prior = _take(world, "C02", "technologist.c02", b"77")
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
        by_org = {exam.org_id: exam for exam in session.scalars(select(Exam))}
        held, other = by_org[world.orgs["C01"].id], by_org[world.orgs["C02"].id]
        held.lease_person_id, held.lease_until = world.people["reporter"].id, clock.now() + timedelta(minutes=5)
        pair = links.pair_for(session, held.patient_id, other.patient_id)
        pair_id, held_id = pair.id, held.id
    reader = world.client("reporter")
    assert _seen(reader, prior) == {404}
    assert _seen(reader, present) == {200}

    with database().writing() as session:
        links.link(session, world.actor("director"), pair_id, reason="电话核实为同一人")
    assert _seen(reader, prior) == {200}
    assert _priors(world, held_id) == {other.id}

    with database().writing() as session:
        links.undo(session, world.actor("quality"), pair_id, reason="其实是两个人")
    assert _seen(reader, prior) == {404}
    assert _seen(reader, present) == {200}
    assert _priors(world, held_id) == set()

    with database().writing() as session:
        links.link(session, world.actor("director"), pair_id, reason="又核实")
    assert _seen(reader, prior) == {200}
    with database().writing() as session:
        session.get_one(Exam, held_id).lease_until = clock.now()
    assert _seen(reader, prior) == {404}, "the exam was given back"


def _priors(world: World, exam_id: str) -> set[str]:
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        return {prior.id for prior in reading.priors(session, world.actor("reporter"), exam)}


def test_priors_come_from_three_clinics(world: World) -> None:
    outcomes = [
        _take(world, "C01", "technologist", b"001"),
        _take(world, "C02", "technologist.c02", b"77"),
        _take(world, "C02", "technologist.c02", b"78"),
    ]
    with database().writing() as session:
        # Of the third, its reading hospital is another one, too.
        session.execute(update(Exam).values(state=State.SIGNED.value))
        exams = list(session.scalars(select(Exam).order_by(Exam.id)))
        third = session.get_one(Patient, exams[2].patient_id)
        third.org_id = exams[2].org_id = world.orgs["T01"].id
        exams[0].state, exams[0].lease_person_id = State.READING.value, world.people["reporter"].id
        exams[0].lease_until = clock.now() + timedelta(minutes=5)
        for exam in exams[1:]:
            pair = links.pair_for(session, exams[0].patient_id, exam.patient_id)
            links.link(session, world.actor("director"), pair.id, reason="核实")
        held_id, others = exams[0].id, {exam.id for exam in exams[1:]}
    assert _priors(world, held_id) == others
    reader = world.client("reporter")
    assert [_seen(reader, outcome) for outcome in outcomes] == [{200}] * 3
