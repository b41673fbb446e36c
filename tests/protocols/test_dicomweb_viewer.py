"""The viewer's door: scoped by session, the county's number as PatientID, frames as whole bodies."""

from __future__ import annotations

import gzip
import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.patients.models import CountyPatient, Patient
from hub.protocols.dicomweb import grants, wado
from hub.studies import intake, repository
from hub.studies import metadata as studies_metadata
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Instance, Study
from support.files import JSON, dicom_file

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}
DOOR = "/viewer/dicomweb"


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    repository.forget_views()


def take(world: World, *files: bytes, org: str = "C01") -> list[Outcome]:
    login = "technologist" if org == "C01" else "technologist.c02"
    actor = world.actor(login)
    return intake.ingest_many(actor, [Incoming(file) for file in files], org_id=world.orgs[org].id, source="web")


def move_to(state: State, **values: Any) -> None:
    with database().writing() as session:
        session.execute(update(Exam).values(state=state.value, **values))


def address(outcome: Outcome) -> str:
    return f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"


def number_of(outcome: Outcome) -> str:
    with database().reading() as session:
        study = session.get_one(Study, outcome.study_id)
        return repository.county_number_of(session, study)


def search(client: TestClient, **params: str) -> list[dict[str, Any]]:
    answer = client.get(f"{DOOR}/studies", params=params, headers={"Accept": JSON})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def value(document: dict[str, Any], tag: str) -> Any:
    return document[tag]["Value"][0]


def test_what_the_viewer_asks_for_a_study(world: World) -> None:
    (outcome,) = take(world, dicom_file(patient_id=b"001", name="王伟".encode(), charset=b"ISO_IR 192"))
    move_to(State.TO_READ)
    client = world.client("reporter")
    fields = "00081030,00080060,00080090,00100030"
    (study,) = search(
        client, limit="101", offset="0", fuzzymatching="false", includefield=fields, StudyInstanceUID=outcome.study_uid
    )
    assert value(study, "0020000D") == outcome.study_uid
    assert value(study, "00100010") == {"Alphabetic": "王伟"}
    assert value(study, "00100020") == number_of(outcome) != "001"
    assert value(study, "00100021") == "360731"
    series = client.get(f"{DOOR}/studies/{outcome.study_uid}/series?includefield=00080021,0008103E").json()
    assert value(series[0], "0020000E") == outcome.series_uid
    instances = client.get(f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/instances").json()
    assert value(instances[0], "00080018") == outcome.sop_uid
    assert len(client.get(f"{DOOR}/studies/{outcome.study_uid}/instances").json()) == 1


def test_metadata_carry_the_countys_number_and_no_other(world: World) -> None:
    (outcome,) = take(world, dicom_file(patient_id=b"001"))
    move_to(State.TO_READ)
    client = world.client("reporter")
    for path in (f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}", address(outcome)):
        answer = client.get(f"{path}/metadata", headers={"Accept": JSON})
        (document,) = answer.json()
        assert value(document, "00100020") == number_of(outcome)
        assert value(document, "00100021") == "360731"
        assert "00101000" not in document
        assert document["7FE00010"]["BulkDataURI"].startswith(f"http://testserver{DOOR}/studies/")
        again = client.get(f"{path}/metadata", headers={"Accept": JSON, "If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_metadata_are_compressed(world: World) -> None:
    study, series = new_uid(), new_uid()
    (outcome, *_rest) = take(world, *(dicom_file(study=study, series=series, number=n) for n in range(20)))
    client = world.client("technologist")
    path = f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    with client.stream("GET", path, headers={"Accept": JSON, "Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    documents = json.loads(gzip.decompress(raw))
    assert [value(one, "00200013") for one in documents] == list(range(20))
    assert len(raw) < len(gzip.decompress(raw)) / 4


def test_a_new_image_changes_the_etag(world: World) -> None:
    study, series = new_uid(), new_uid()
    (outcome,) = take(world, dicom_file(study=study, series=series))
    client = world.client("technologist")
    path = f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    first = client.get(path, headers={"Accept": JSON})
    take(world, dicom_file(study=study, series=series, number=2))
    second = client.get(path, headers={"Accept": JSON, "If-None-Match": first.headers["etag"]})
    assert len(second.json()) == 2


def test_frames_are_whole_bodies_by_range(world: World) -> None:
    (outcome,) = take(world, dicom_file(frames=3, pixel=7))
    move_to(State.TO_READ)
    client = world.client("reporter")
    for number in (1, 2, 3):
        answer = client.get(f"{address(outcome)}/frames/{number}", headers=FRAME)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"
        assert answer.content == (6 + number).to_bytes(2, "little") * 64
        held = {**FRAME, "If-None-Match": answer.headers["etag"]}
        assert client.get(f"{address(outcome)}/frames/{number}", headers=held).status_code == 304
    several = client.get(f"{address(outcome)}/frames/1,3", headers=FRAME)
    assert several.headers["content-type"].startswith('multipart/related; type="application/octet-stream"')
    for wrong in ("0", "4", "x", "1-2", "1,", "-1"):
        assert client.get(f"{address(outcome)}/frames/{wrong}", headers=FRAME).status_code == 404


def test_the_standards_door_answers_frames_in_parts(world: World) -> None:
    (outcome,) = take(world, dicom_file(pixel=7))
    path = address(outcome).replace("/viewer", "") + "/frames/1"
    client = world.machine()
    answer = client.get(path, headers={"Accept": 'multipart/related; type="application/octet-stream"'})
    assert answer.headers["content-type"].startswith("multipart/related")
    assert (7).to_bytes(2, "little") * 64 in answer.content
    assert client.get(path, headers={"Accept": 'multipart/related; type="image/jpeg"'}).status_code == 406
    assert client.get(path, headers={"Accept": "text/html"}).status_code == 406


def test_an_object_that_was_stored_anew_is_found(world: World) -> None:
    (outcome,) = take(world, dicom_file(pixel=7))
    client = world.client("technologist")
    first = client.get(f"{address(outcome)}/frames/1", headers=FRAME)
    with database().writing() as session:
        row = session.get_one(Instance, outcome.instance_id)
        data = object_store().read(row.object_key)
        object_store().delete(row.object_key)
        row.object_key = "instances/abc/anew"
        object_store().put(row.object_key, data)
    assert client.get(f"{address(outcome)}/frames/1", headers=FRAME).content == first.content


def test_rendered_and_thumbnail(world: World) -> None:
    (outcome,) = take(world, dicom_file(size=32))
    client = world.client("technologist")
    for kind in ("rendered", "thumbnail"):
        answer = client.get(f"{address(outcome)}/{kind}", headers={"Accept": "image/jpeg"})
        assert answer.headers["content-type"] == "image/jpeg"
        assert answer.content[:2] == b"\xff\xd8"


def test_a_frame_that_was_just_allowed_goes_past_the_framework(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (outcome,) = take(world, dicom_file(frames=2, pixel=7))
    client, path = world.client("technologist"), f"{address(outcome)}/frames/1"
    ordinary = client.get(path, headers=FRAME)
    asked: list[str] = []
    plain = wado.frames

    async def noted(*args: Any, **kw: Any) -> Any:
        asked.append("route")
        return await plain(*args, **kw)

    monkeypatch.setattr(wado, "frames", noted)
    fast = client.get(path, headers=FRAME)
    assert asked == []
    assert fast.content == ordinary.content
    for name in ("content-type", "etag", "cache-control", "content-length", "x-content-type-options"):
        assert fast.headers[name] == ordinary.headers[name]
    assert client.get(path, headers={**FRAME, "If-None-Match": fast.headers["etag"]}).status_code == 304
    assert client.get(f"{address(outcome)}/frames/3", headers=FRAME).status_code == 404
    # Nobody else gets in by it: not without the session, not with another's, not with a header beside it.
    for stranger, status in ((world.anonymous(), 401), (world.client("technologist.c02"), 404)):
        assert stranger.get(path, headers=FRAME).status_code == status
    assert client.get(path, headers={**FRAME, "Authorization": "Basic eDp5"}).status_code == 200
    assert world.anonymous().get(path, headers={**FRAME, "Authorization": "Basic eDp5"}).status_code == 401


# --- who sees what --------------------------------------------------------------------------------------------------


def paths(outcome: Outcome) -> list[str]:
    study = f"{DOOR}/studies/{outcome.study_uid}"
    one = address(outcome)
    return [
        f"{study}/metadata",
        f"{study}/series",
        f"{study}/instances",
        f"{study}/series/{outcome.series_uid}/metadata",
        f"{study}/series/{outcome.series_uid}/instances",
        f"{one}/metadata",
        f"{one}/frames/1",
        f"{one}/bulkdata/7FE00010",
        f"{one}/rendered",
        f"{one}/thumbnail",
        f"/dicomweb/studies/{outcome.study_uid}",
        f"/dicomweb/studies/{outcome.study_uid}/metadata",
        f"/dicomweb/studies/{outcome.study_uid}/series/{outcome.series_uid}",
        f"{one.replace('/viewer', '')}",
        f"{one.replace('/viewer', '')}/frames/1",
        f"{one.replace('/viewer', '')}/bulkdata/7FE00010",
    ]


def see(client: TestClient, outcome: Outcome) -> set[int]:
    accept = {"Accept": "*/*"}
    statuses = {client.get(path, headers=accept).status_code for path in paths(outcome)}
    found = search(client, StudyInstanceUID=outcome.study_uid)
    assert bool(found) == (statuses == {200}), statuses
    return statuses


@pytest.mark.parametrize(
    ("login", "state", "status"),
    [
        ("technologist", State.RECEIVING, 200),
        ("clinician", State.SEEN, 200),
        ("technologist.c02", State.SEEN, 404),
        ("clinician.c02", State.TO_READ, 404),
        ("reporter", State.TO_READ, 200),
        ("reviewer", State.SIGNED, 200),
        ("reporter", State.RECEIVING, 404),
        ("reporter.h02", State.TO_READ, 404),
        ("expert", State.TO_READ, 404),
        ("quality", State.RECEIVING, 200),
        ("director", State.TO_READ, 200),
    ],
)
def test_each_sees_his_own(world: World, login: str, state: State, status: int) -> None:
    (outcome,) = take(world, dicom_file())
    move_to(state)
    assert see(world.client(login), outcome) == {status}


@pytest.mark.parametrize("login", ["administrator", "operator"])
def test_some_see_no_images_at_all(world: World, login: str) -> None:
    (outcome,) = take(world, dicom_file())
    client = world.client(login)
    assert {client.get(path).status_code for path in paths(outcome)} == {403}
    assert client.get(f"{DOOR}/studies").status_code == 403


def test_machines_see_their_own_organisation(world: World) -> None:
    (outcome,) = take(world, dicom_file())
    assert see(world.machine("C01", "retrieve"), outcome) == {200}
    assert see(world.machine("C02", "retrieve"), outcome) == {404}
    assert {world.machine("C01", "stow").get(path).status_code for path in paths(outcome)} == {403}
    assert {world.anonymous().get(path).status_code for path in paths(outcome)} == {401}


def test_the_priors_of_a_patient_are_seen_while_his_exam_is_held(world: World) -> None:
    """Two clinics both have a 001; the same human being at another clinic is found by the county's number."""
    (present,) = take(world, dicom_file(patient_id=b"001", name=b"WANG^WEI"), org="C01")
    (prior,) = take(world, dicom_file(patient_id=b"77", name=b"WANG^WEI"), org="C02")
    (stranger,) = take(world, dicom_file(patient_id=b"001", name=b"LI^NA"), org="C02")
    move_to(State.TO_READ)
    with database().writing() as session:
        county = session.scalars(
            select(CountyPatient).join(Patient).where(Patient.org_id == world.orgs["C01"].id)
        ).one()
        session.execute(update(Patient).where(Patient.number == "77").values(county_patient_id=county.id))
        number = county.number
    client = world.client("reporter")
    found = search(client, **{"00100020": number, "limit": "101"})
    assert [value(one, "0020000D") for one in found] == [present.study_uid]
    with database().writing() as session:
        exam = session.scalars(select(Exam).where(Exam.org_id == world.orgs["C01"].id)).one()
        exam.lease_person_id, exam.lease_until = world.people["reporter"].id, clock.now() + timedelta(minutes=5)
    found = search(client, **{"00100020": number, "limit": "101"})
    assert {value(one, "0020000D") for one in found} == {present.study_uid, prior.study_uid}
    assert {value(one, "00100020") for one in found} == {number}
    assert see(client, prior) == {200}
    grants.forget()
    assert see(client, stranger) == {404}
    assert search(client, PatientID="001") == []


def test_two_clinics_with_a_001_apart_linked_and_apart_again(world: World) -> None:
    """The viewer lists a patient's earlier studies by PatientID, which at its door is the county's number alone."""
    (one,) = take(world, dicom_file(patient_id=b"001", name=b"WANG^WEI"), org="C01")
    (two,) = take(world, dicom_file(patient_id=b"001", name=b"LI^NA"), org="C02")
    move_to(State.TO_READ, identity="ok")
    director = world.client("director")

    def listed(outcome: Outcome) -> set[str]:
        found = search(director, limit="101", offset="0", fuzzymatching="false", **{"00100020": number_of(outcome)})
        assert {value(each, "00100020") for each in found} == {number_of(outcome)}
        return {value(each, "0020000D") for each in found}

    def link(county_id: str) -> None:
        with database().writing() as session:
            session.execute(
                update(Patient).where(Patient.org_id == world.orgs["C02"].id).values(county_patient_id=county_id)
            )

    with database().reading() as session:
        numbers = {row[0]: row[1] for row in session.execute(select(Patient.org_id, Patient.county_patient_id))}
    assert (listed(one), listed(two)) == ({one.study_uid}, {two.study_uid})
    assert search(director, PatientID="001") == []
    link(numbers[world.orgs["C01"].id])
    assert listed(one) == listed(two) == {one.study_uid, two.study_uid}
    for outcome in (one, two):
        path = f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
        (document,) = director.get(path, headers={"Accept": JSON}).json()
        assert value(document, "00100020") == number_of(one)
    # A link that is undone holds at once, in the list and in what the images say of themselves.
    link(numbers[world.orgs["C02"].id])
    assert (listed(one), listed(two)) == ({one.study_uid}, {two.study_uid})
    (document,) = director.get(path, headers={"Accept": JSON}).json()
    assert value(document, "00100020") == number_of(two) != number_of(one)


def test_a_revoked_session_gets_no_more_frames(world: World) -> None:
    from hub.accounts.models import LoginSession

    (outcome,) = take(world, dicom_file())
    client = world.client("technologist")
    assert client.get(f"{address(outcome)}/frames/1", headers=FRAME).status_code == 200
    with database().writing() as session:
        for row in session.scalars(select(LoginSession)):
            session.delete(row)
    grants._actors.seconds = grants._grants.seconds = 0.0
    try:
        grants.forget()
        assert client.get(f"{address(outcome)}/frames/1", headers=FRAME).status_code == 401
    finally:
        grants._actors.seconds = grants._grants.seconds = grants.TTL
    assert grants.TTL <= 5


def test_viewing_is_audited_once_a_session_and_study(world: World) -> None:
    study, series = new_uid(), new_uid()
    outcomes = take(world, *(dicom_file(study=study, series=series, number=n) for n in range(3)))

    def entries() -> list[AuditEntry]:
        with database().reading() as session:
            return list(session.scalars(select(AuditEntry).where(AuditEntry.action == "images.view")))

    client = world.client("technologist")
    client.get(f"{DOOR}/studies/{study}/metadata")
    for outcome in outcomes:
        client.get(f"{address(outcome)}/frames/1", headers=FRAME)
        client.get(f"{address(outcome)}/rendered")
    (entry,) = entries()
    assert (entry.object_id, entry.actor_id) == (study, world.people["technologist"].id)
    assert entry.org_id == world.orgs["C01"].id
    assert entry.patient_id
    repository.forget_views()
    client.get(f"{DOOR}/studies/{study}/metadata")
    assert len(entries()) == 1, "another process of the hub knows from the log"
    world.client("technologist").get(f"{DOOR}/studies/{study}/metadata")
    assert len(entries()) == 2
    search(client)
    assert len(entries()) == 2, "a search shows no images"


def test_what_was_fetched_ahead_is_not_viewed_until_it_is_opened(world: World) -> None:
    study = new_uid()
    (outcome,) = take(world, dicom_file(study=study))
    move_to(State.TO_READ)
    client = world.client("reporter")
    ahead = {"X-Hub-Ahead": "1"}

    def actions() -> list[str]:
        with database().reading() as session:
            rows = session.scalars(select(AuditEntry).where(AuditEntry.object_id == study).order_by(AuditEntry.at))
            return [row.action for row in rows if row.action.startswith("images.")]

    for _time in range(2):
        assert client.get(f"{DOOR}/studies/{study}/metadata", headers=ahead).status_code == 200
        found = client.get(f"{address(outcome)}/frames/1", headers={**FRAME, **ahead})
        assert found.status_code == 200
    assert actions() == ["images.ahead"]
    # From the browser's cache, with nothing but a question whether it still holds: that is a look.
    again = client.get(f"{address(outcome)}/frames/1", headers={**FRAME, "If-None-Match": found.headers["etag"]})
    assert again.status_code == 304
    assert actions() == ["images.ahead", "images.view"]
    stranger = world.client("administrator")
    assert stranger.get(f"{address(outcome)}/frames/1", headers={**FRAME, **ahead}).status_code == 403


def test_what_the_page_asks_for_before_the_viewer_runs_lasts_a_moment(world: World) -> None:
    study = new_uid()
    (outcome,) = take(world, dicom_file(study=study))
    move_to(State.TO_READ)
    client = world.client("reporter")
    early = {"X-Hub-Opening": "1"}
    metadata, frame = f"{DOOR}/studies/{study}/metadata", f"{address(outcome)}/frames/1"
    for path, accept in ((metadata, {}), (frame, FRAME), (f"{DOOR}/studies/{study}/series", {})):
        for _time in range(2):
            found = client.get(path, headers={**accept, **early})
            assert (found.status_code, found.headers["cache-control"]) == (200, "private, max-age=60")
            assert "cookie" in found.headers["vary"].lower()
        if "etag" in found.headers:
            again = client.get(path, headers={**accept, **early, "If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.headers["cache-control"]) == (304, "private, max-age=60")
        usual = client.get(path, headers=accept)
        assert (usual.status_code, usual.headers["cache-control"]) == (200, "private, no-cache")
    # A look like any other, and no door for anybody else.
    with database().reading() as session:
        viewed = session.scalars(select(AuditEntry.action).where(AuditEntry.object_id == study)).all()
    assert "images.view" in viewed
    refused = world.client("administrator").get(frame, headers={**FRAME, **early})
    assert refused.status_code == 403
    assert "max-age" not in refused.headers.get("cache-control", "")
    machines = client.get(f"/dicomweb/studies/{study}/metadata", headers=early)
    assert machines.headers["cache-control"] == "private, no-cache"


# --- searching ------------------------------------------------------------------------------------------------------


def test_search_keys(world: World) -> None:
    (first,) = take(
        world,
        dicom_file(
            patient_id=b"A1",
            name="王伟".encode("gbk"),
            charset=b"ISO_IR 100",
            day="20260301",
            accession="ACC1",
            description="头部平扫".encode("gbk"),
        ),
    )
    (second,) = take(world, dicom_file(patient_id=b"A2", name=b"LI^NA", modality="DX", day="20260305"))
    client = world.client("technologist")

    def found(**params: str) -> set[str]:
        return {value(one, "0020000D") for one in search(client, **params)}

    both = {first.study_uid, second.study_uid}
    assert found() == both
    assert found(PatientName="王*") == found(PatientName="wangwei") == found(PatientName="WANG*") == {first.study_uid}
    assert found(StudyDate="20260301") == found(StudyDate="-20260302") == {first.study_uid}
    assert found(StudyDate="20260301-20260305") == both
    assert found(ModalitiesInStudy="DX") == {second.study_uid}
    assert found(AccessionNumber="acc1") == found(StudyDescription="头部*") == {first.study_uid}
    assert found(StudyInstanceUID=f"{first.study_uid},{second.study_uid}") == both
    assert found(PatientID=number_of(second)) == {second.study_uid}
    assert found(PatientID="A1") == set(), "the clinic's own number is not the county's"
    assert len(found(limit="1")) == len(found(limit="1", offset="1")) == 1
    assert found(limit="1") != found(limit="1", offset="1")
    assert found(PatientName="%") == set()
    for params in ({"SeriesNumber": "²"}, {"SeriesNumber": "9" * 40}):
        answer = client.get(f"/viewer/dicomweb/studies/{first.study_uid}/series", params=params)
        assert answer.status_code == 400, "it is no number"
    for wrong in ({"limit": "x"}, {"offset": "-1"}, {"StudyDate": "yesterday"}):
        assert client.get(f"{DOOR}/studies", params=wrong).status_code == 400


# --- whom the images name ---------------------------------------------------------------------------------------------


def _whom(document: dict[str, Any]) -> tuple[str, str, str]:
    values = (document[tag].get("Value", [""])[0] for tag in ("00100010", "00100030", "00100040"))
    name, born, sex = values
    return name["Alphabetic"], born, sex


@pytest.mark.parametrize("ready", [False, True])
def test_images_name_whom_the_registration_names(world: World, ready: bool) -> None:
    (outcome,) = take(world, dicom_file(patient_id=b"001", name=b"OUYANG^JING"))
    move_to(State.TO_READ, identity="noted")
    with database().writing() as session:
        session.execute(update(Patient).values(name="欧阳静", birth_date=date(1978, 3, 4), sex="F"))
    if ready:
        assert studies_metadata.prepare_study(outcome.study_id) == 1
    client = world.client("reporter")
    path = f"{DOOR}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    first = client.get(path, headers={"Accept": JSON})
    (document,) = first.json()
    assert _whom(document) == ("欧阳静", "19780304", "F")
    # What the sender had written is kept beside it, without his number of the patient.
    before = value(document["04000561"]["Value"][0], "04000550")
    assert value(before, "00100010") == {"Alphabetic": "OUYANG^JING"}
    assert set(before) <= {"00100010", "00100030", "00100040"}
    # While it is open whose images these are, they say what they said; a corrected name is served at once.
    for change in ({"identity": "open"}, {"identity": "ok", "state": State.TO_VERIFY.value}):
        with database().writing() as session:
            session.execute(update(Exam).values(**change))
        (document,) = client.get(path, headers={"Accept": JSON, "If-None-Match": first.headers["etag"]}).json()
        assert _whom(document)[0] == "OUYANG^JING"
        assert "04000561" not in document
        assert value(document, "00100020") == number_of(outcome)
        assert document["7FE00010"]["BulkDataURI"].startswith(f"http://testserver{DOOR}/studies/")
    move_to(State.TO_READ, identity="verified")
    with database().writing() as session:
        session.execute(update(Patient).values(name='欧阳"婧', birth_date=None, sex=""))
    (document,) = client.get(path, headers={"Accept": JSON}).json()
    assert _whom(document) == ('欧阳"婧', "", "")
    # Machines get what was sent.
    (sent,) = world.machine().get(path.replace("/viewer", ""), headers={"Accept": JSON}).json()
    assert value(sent, "00100010") == {"Alphabetic": "OUYANG^JING"}
    assert "04000561" not in sent
