"""What nobody gets by asking in an unusual way: other identities, looks that leave no trace, others' bytes."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING

import pydicom
import pytest
from pydicom.dataset import Dataset
from sqlalchemy import select, update

from hub.accounts.models import LoginSession
from hub.audit.models import AuditEntry
from hub.dicom.framing import FrameIndex
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.protocols.dicomweb import grants, wado
from hub.studies import intake, repository
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Study
from support.files import JSON, dicom_file

if TYPE_CHECKING:
    from support.world import World

VIEWER, DOOR = "/viewer/dicomweb", "/dicomweb"
FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
AHEAD = {"X-Hub-Ahead": "1"}


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    repository.forget_views()


@pytest.fixture
def taken(world: World) -> Outcome:
    """An image of C01 that waits to be read."""
    file = Incoming(dicom_file(study=new_uid(), patient_id=b"001"))
    (outcome,) = intake.ingest_many(world.actor("technologist"), [file], org_id=world.orgs["C01"].id, source="web")
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    return outcome


def noted() -> list[str]:
    with database().reading() as session:
        rows = session.scalars(select(AuditEntry.action).order_by(AuditEntry.at))
        return [action for action in rows if action.startswith("images.")]


@pytest.mark.parametrize("asked", ["includefield=all", "includefield=00100020,00101000", "includefield=PatientID"])
@pytest.mark.parametrize("below", ["series", "instances", "series/{series}/instances"])
def test_below_a_study_the_patient_is_the_countys_too(world: World, taken: Outcome, asked: str, below: str) -> None:
    path = f"/studies/{taken.study_uid}/{below.format(series=taken.series_uid)}?{asked}"
    client = world.client("reporter")
    (found,) = client.get(f"{VIEWER}{path}", headers={"Accept": JSON}).json()
    with database().reading() as session:
        number = repository.county_number_of(session, session.get_one(Study, taken.study_id))
    assert found["00100020"]["Value"] == [number] != ["001"]
    assert found["00100021"]["Value"] == ["360731"]
    assert "00101000" not in found
    # At the standard's door it is the sender's, and never without its issuer.
    (sent,) = client.get(f"{DOOR}{path}", headers={"Accept": JSON}).json()
    assert sent["00100020"]["Value"] == ["001"]
    assert sent["00100021"]["Value"] == [world.orgs["C01"].issuer]


def test_nobody_says_of_a_file_or_a_picture_that_he_did_not_look(world: World, taken: Outcome) -> None:
    one = f"/studies/{taken.study_uid}/series/{taken.series_uid}/instances/{taken.sop_uid}"
    for path in (one, f"{one}/rendered", f"{one}/thumbnail", f"{one}/bulkdata/7FE00010"):
        repository.forget_views()
        grants.forget()
        before = noted()
        client = world.client("reporter")
        answer = client.get(f"{VIEWER}{path}", headers={"Accept": "*/*", **AHEAD})
        assert answer.status_code == 200, path
        assert noted() == [*before, "images.view"], path


@pytest.mark.parametrize("login", ["technologist", "director"])
def test_only_a_reader_fetches_ahead(world: World, taken: Outcome, login: str) -> None:
    path = f"{VIEWER}/studies/{taken.study_uid}/series/{taken.series_uid}/instances/{taken.sop_uid}/frames/1"
    assert world.client(login).get(path, headers={**FRAME, **AHEAD}).status_code == 200
    assert noted() == ["images.view"]


def test_metadata_fetched_ahead_open_no_other_door(world: World, taken: Outcome) -> None:
    client = world.client("reporter")
    accept = {"Accept": JSON, "Accept-Encoding": "identity"}
    # At the other door the answer is kept by this process, which others asked for.
    assert world.client("reviewer").get(f"{DOOR}/studies/{taken.study_uid}/metadata", headers=accept).is_success
    assert client.get(f"{VIEWER}/studies/{taken.study_uid}/metadata", headers={**accept, **AHEAD}).is_success
    assert noted() == ["images.view", "images.ahead"]
    assert client.get(f"{DOOR}/studies/{taken.study_uid}/metadata", headers=accept).is_success
    assert noted() == ["images.view", "images.ahead", "images.view"]


def test_what_is_fetched_ahead_keeps_no_session_awake(world: World, taken: Outcome) -> None:
    client = world.client("reporter")
    path = f"{VIEWER}/studies/{taken.study_uid}/series/{taken.series_uid}/instances/{taken.sop_uid}/frames/1"
    idle = clock.now() - timedelta(minutes=5)

    def slept() -> None:
        grants.forget()
        with database().writing() as session:
            session.execute(update(LoginSession).values(last_action_at=idle))

    def awake() -> bool:
        with database().reading() as session:
            return any(row.last_action_at > idle for row in session.scalars(select(LoginSession)))

    slept()
    assert client.get(path, headers={**FRAME, **AHEAD}).is_success
    assert not awake()
    slept()
    assert client.get(path, headers=FRAME).is_success
    assert awake()


def test_a_frame_is_read_within_its_own_instance() -> None:
    index = FrameIndex("native", count=2, start=200, frame_bits=800)
    held = grants.Location("i", "1.2", "1.2.840.10008.1.2.1", "key", 1_000, 400, index)
    assert wado.stored_at(held, 2) == (1_300, 100)
    cut = grants.Location("i", "1.2", "1.2.840.10008.1.2.1", "key", 1_000, 399, index)
    assert wado.stored_at(cut, 1) == (1_200, 100)
    assert wado.stored_at(cut, 2) is None


def test_what_is_not_returned_is_said_once(world: World) -> None:
    client = world.client("technologist")
    found = client.get(f"{DOOR}/studies?includefield=" + ",".join(["00090010"] * 3000), headers={"Accept": JSON})
    (warning,) = found.headers.get_list("warning")
    assert "00090010" in warning
    assert len(warning) < 1000


def test_a_machines_looks_are_noted_each_day(world: World, taken: Outcome) -> None:
    client = world.anonymous()
    client.headers["Authorization"] = f"Bearer {world.key('C01', 'retrieve')}"
    path = f"{DOOR}/studies/{taken.study_uid}/metadata"
    today = clock.now()
    try:
        for day in (0, 0, 1, 1, 2):
            clock.set_source(lambda at=today + timedelta(days=day): at)  # type: ignore[misc]
            grants.forget()
            assert client.get(path).is_success
    finally:
        clock.set_source(None)
    assert noted() == ["images.view"] * 3


def test_what_another_archive_replaced_is_no_countys_business(world: World) -> None:
    file = pydicom.dcmread(io.BytesIO(dicom_file(patient_id=b"001")))
    before, change = Dataset(), Dataset()
    before.PatientID = "OLD-NUMBER"
    change.ModifiedAttributesSequence = [before]
    file.OriginalAttributesSequence = [change]
    group = Dataset()
    group.PatientID = "OLD-NUMBER"
    file.SourcePatientGroupIdentificationSequence = [group]
    out = io.BytesIO()
    file.save_as(out)
    (outcome,) = intake.ingest_many(
        world.actor("technologist"), [Incoming(out.getvalue())], org_id=world.orgs["C01"].id, source="web"
    )
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    study = f"/studies/{outcome.study_uid}"
    client = world.client("reporter")
    for path in (f"{study}/metadata", f"{study}/instances?includefield=all"):
        assert "OLD-NUMBER" in client.get(f"{DOOR}{path}", headers={"Accept": JSON}).text
        assert "OLD-NUMBER" not in client.get(f"{VIEWER}{path}", headers={"Accept": JSON}).text
