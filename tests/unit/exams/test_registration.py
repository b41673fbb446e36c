"""Registering, completing, cancelling; what is wrong is said field by field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from hub.dicom.identity import check_digit
from hub.exams import listing, registration, service
from hub.exams.models import Exam
from hub.exams.states import Event
from hub.kit import clock, live
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid
from hub.patients.links import UNKNOWN_NAME
from hub.patients.models import CountyPatient, Patient, PatientPair
from support.clinic_files import form, form_values

if TYPE_CHECKING:
    from support.world import World


def identity_number(born: str = "19810512", serial: str = "001") -> str:
    first = f"360731{born}{serial}"
    return first + check_digit(first)


def register(world: World, login: str = "technologist", **changes: Any) -> Exam:
    with database().writing() as session:
        exam = registration.register(session, world.actor(login), form(**changes))
        session.flush()
        session.expunge_all()
    return exam


def errors(world: World, **changes: Any) -> set[str]:
    with pytest.raises(Invalid) as caught, database().writing() as session:
        registration.register(session, world.actor("technologist"), form(**changes))
    assert all(str(text) for text in caught.value.fields.values())
    return set(caught.value.fields)


def test_a_registration_becomes_an_exam_with_number_hospital_and_live_change(world: World) -> None:
    exam = register(world)
    assert exam.state == "registered"
    assert exam.reading_org_id == world.orgs["H01"].id
    assert exam.incomplete == []
    assert len(exam.accession) <= 16
    assert register(world, number="P2", name="李娜", sex="F").accession != exam.accession
    with database().reading() as session:
        assert session.query(live.Change).filter_by(topic="exam", ref=exam.id).count() == 1
        patient = session.query(Patient).filter_by(number="P1").one()
        assert (patient.pinyin, patient.initials) == ("wangwei", "ww")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"history": ""}, {"history"}),
        ({"history": " ,。"}, {"history"}),
        ({"name": ""}, {"name"}),
        ({"sex": ""}, {"sex"}),
        ({"sex": "X"}, {"sex"}),
        ({"birth_date": "", "age": ""}, {"birth_date"}),
        ({"birth_date": "1981-13-01"}, {"birth_date"}),
        ({"birth_date": "2999-01-01"}, {"birth_date"}),
        ({"birth_date": "", "age": "old"}, {"age"}),
        ({"birth_date": "", "age": "999"}, {"age"}),
        ({"age": "12"}, {"age"}),
        ({"modality": "ZZ"}, {"modality"}),
        ({"body_parts": []}, {"body_parts"}),
        ({"body_parts": ["tail"]}, {"body_parts"}),
        ({"priority": "now"}, {"priority"}),
        ({"encounter": "visit"}, {"encounter"}),
        ({"doctor": ""}, {"doctor"}),
        ({"doctor_phone": ""}, {"doctor_phone"}),
        ({"phone": "12"}, {"phone"}),
        ({"identity_number": "123"}, {"identity_number"}),
        ({"identity_number": identity_number()[:-1] + "0"}, {"identity_number"}),
        ({"identity_number": identity_number("19820101")}, {"birth_date"}),
        ({"identity_number": identity_number(serial="002")}, {"sex"}),
        ({"name": "", "sex": "", "history": "", "doctor": ""}, {"name", "sex", "history", "doctor"}),
        ({"sex": "F", "body_parts": ["pelvis"]}, {"pregnancy"}),
        ({"sex": "F", "body_parts": ["pelvis"], "pregnancy": "perhaps"}, {"pregnancy"}),
    ],
)
def test_what_is_wrong_is_said_by_field(world: World, changes: dict[str, Any], wrong: set[str]) -> None:
    if identity_number()[-1] == "0" and changes.get("identity_number", "").endswith("0"):
        pytest.skip("the right check digit is 0 itself")
    assert errors(world, **changes) == wrong


@pytest.mark.parametrize(
    "changes",
    [
        {"body_parts": ["pelvis"]},
        {"sex": "F", "body_parts": ["pelvis"], "modality": "US"},
        {"sex": "F", "body_parts": ["chest"]},
        {"sex": "F", "body_parts": ["pelvis"], "birth_date": "1940-01-01"},
        {"sex": "F", "body_parts": ["pelvis"], "pregnancy": "no"},
        {"encounter": "checkup", "doctor": "", "doctor_phone": ""},
    ],
)
def test_questions_are_asked_only_where_they_apply(world: World, changes: dict[str, Any]) -> None:
    assert register(world, **changes).incomplete == []


def test_an_identity_number_gives_sex_and_birth_date(world: World) -> None:
    exam = register(world, sex="", birth_date="", identity_number=identity_number().lower())
    with database().reading() as session:
        patient = session.get_one(Patient, exam.patient_id)
        assert (patient.sex, str(patient.birth_date)) == ("M", "1981-05-12")
        assert patient.identity_number == identity_number()


@pytest.mark.parametrize(("age", "stored"), [("45", "045Y"), ("45岁", "045Y"), ("8个月", "008M"), ("12天", "012D")])
def test_an_age_is_kept_as_stated(world: World, age: str, stored: str) -> None:
    exam = register(world, birth_date="", age=age)
    assert exam.stated_age == stored
    assert exam.stated_birth_date is None
    with database().reading() as session:
        assert session.get_one(Patient, exam.patient_id).birth_estimated


def test_an_emergency_enters_incomplete_and_is_completed_later(world: World) -> None:
    exam = register(
        world, name="", sex="", birth_date="", number="", history="", doctor="", doctor_phone="", priority="emergency"
    )
    assert set(exam.incomplete) == {"name", "sex", "birth", "history", "doctor", "doctor_phone"}
    with database().writing() as session:
        found = session.get_one(Exam, exam.id)
        assert found.patient.name == UNKNOWN_NAME
        registration.complete_registration(
            session, world.actor("technologist"), found, {"name": "王伟", "sex": "M", "age": "45", "history": "头痛"}
        )
        assert set(found.incomplete) == {"doctor", "doctor_phone"}
        assert found.patient.name == "王伟"
        changes = {"doctor": "李明", "doctor_phone": "13900001234"}
        registration.complete_registration(session, world.actor("technologist"), found, changes)
        assert found.incomplete == []
        assert found.state == "registered"


def test_other_clinics_can_neither_complete_nor_cancel(world: World) -> None:
    exam = register(world)
    with database().writing() as session:
        found = session.get_one(Exam, exam.id)
        other = world.actor("technologist.c02")
        with pytest.raises(Forbidden):
            registration.complete_registration(session, other, found, {"history": "x" * 10})
        with pytest.raises(Forbidden):
            registration.cancel(session, other, found, reason="mine now")
    answer = world.client("technologist.c02").patch(f"/api/exams/{exam.id}", json={"history": "咳嗽"})
    assert answer.status_code == 404


def test_the_clinics_number_belongs_to_one_patient(world: World) -> None:
    first = register(world)
    assert register(world).patient_id == first.patient_id
    assert errors(world, name="赵敏", sex="F") == {"number"}
    # The same number at another clinic is another person.
    assert register(world, "technologist.c02", name="赵敏", sex="F").patient_id != first.patient_id


def test_correcting_one_exam_does_not_rewrite_the_patient_of_earlier_ones(world: World) -> None:
    first, second = register(world), register(world)
    with database().writing() as session:
        found = session.get_one(Exam, second.id)
        with pytest.raises(Invalid) as caught:
            registration.complete_registration(session, world.actor("technologist"), found, {"name": "赵敏"})
        assert "number" in caught.value.fields
        changes = {"name": "赵敏", "sex": "F", "number": "P9"}
        registration.complete_registration(session, world.actor("technologist"), found, changes)
        assert found.patient.name == "赵敏"
        assert session.get_one(Exam, first.id).patient.name == "王伟"


def test_cancel_wants_a_reason_and_the_right_state(world: World) -> None:
    exam = register(world)
    with database().writing() as session:
        found = session.get_one(Exam, exam.id)
        with pytest.raises(Invalid):
            registration.cancel(session, world.actor("technologist"), found, reason=" ")
        registration.cancel(session, world.actor("technologist"), found, reason="病人未到")
        assert (found.state, found.end_reason) == ("cancelled", "病人未到")
        with pytest.raises(Conflict):
            registration.cancel(session, world.actor("technologist"), found, reason="again")


def test_an_exam_without_images_alerts_its_clinic_once(world: World) -> None:
    exam = register(world)
    with database().writing() as session:
        assert registration.alert_no_images(session) == []
    later = datetime.now(UTC) + timedelta(minutes=61)
    clock.set_source(lambda: later)
    with database().writing() as session:
        assert registration.alert_no_images(session) == [exam.id]
        assert registration.alert_no_images(session) == []
    with database().reading() as session:
        assert listing.alert_counts(session, world.actor("technologist"))["no_images"] == 1
        assert listing.alert_counts(session, world.actor("technologist.c02"))["no_images"] == 0


def test_an_exam_that_nobody_verifies_alerts_once(world: World) -> None:
    exam = register(world)
    with database().writing() as session:
        row = session.get_one(Exam, exam.id)
        service.apply(session, SYSTEM, row, Event.IMAGES_ARRIVE)
        service.apply(session, SYSTEM, row, Event.DISAGREE)
        assert registration.alert_unverified(session) == []
    later = datetime.now(UTC) + timedelta(minutes=31)
    clock.set_source(lambda: later)
    with database().writing() as session:
        assert registration.alert_unverified(session) == [exam.id]
        assert registration.alert_unverified(session) == []


@pytest.mark.parametrize("text", ["王", "王伟", "wangwei", "WangW", "ww", "P1", "wang wei"])
def test_found_by_name_pinyin_initials_and_number(world: World, text: str) -> None:
    exam = register(world)
    register(world, name="李娜", sex="F", number="Q7")
    register(world, "technologist.c02")
    client = world.client("technologist")
    assert [item["id"] for item in client.get("/api/exams", params={"q": text}).json()["items"]] == [exam.id]
    found = client.get("/api/patients/search", params={"q": text}).json()
    assert [item["name"] for item in found] == ["王伟"]


def test_wildcards_in_a_search_are_letters(world: World) -> None:
    register(world)
    client = world.client("technologist")
    assert client.get("/api/patients/search", params={"q": "%"}).json() == []
    assert client.get("/api/patients/search", params={"q": "_"}).json() == []


def test_over_http_with_words_in_both_languages(world: World) -> None:
    client = world.client("technologist")
    made = client.post("/api/exams", json=form_values())
    assert made.status_code == 201
    assert made.json()["patient"]["name"] == "王伟"
    bad = client.post("/api/exams", json=form_values(history=""))
    assert bad.status_code == 422
    assert "病史" in bad.json()["fields"]["history"]
    client.cookies.set("hub_locale", "en")
    assert "history" in client.post("/api/exams", json=form_values(history="")).json()["fields"]["history"]
    unknown = client.patch(f"/api/exams/{made.json()['id']}", json={"state": "signed"})
    assert unknown.status_code == 422


def test_links_across_clinics_only_on_number_name_sex_and_birth_date(world: World) -> None:
    number = identity_number()
    one = register(world, identity_number=number)
    same = register(world, "technologist.c02", identity_number=number, number="X9")
    other = register(world, "technologist.c02", identity_number=number, name="李强", number="X10")
    none = register(world, "technologist.c02", number="X11")
    with database().reading() as session:
        county = {
            exam.id: session.get_one(Exam, exam.id).patient.county_patient_id for exam in (one, same, other, none)
        }
        assert county[one.id] == county[same.id]
        assert len(set(county.values())) == 3
        assert session.query(PatientPair).filter_by(state="conflict").count() == 1
        assert session.query(CountyPatient).count() == 4


def test_a_link_can_be_undone_and_is_not_made_again(world: World) -> None:
    from hub.patients import links
    from hub.patients import service as patients

    number = identity_number()
    one = register(world, identity_number=number)
    two = register(world, "technologist.c02", identity_number=number, number="X9")
    with database().writing() as session:
        patient = session.get_one(Patient, two.patient_id)
        pair = links.pair_of(session, one.patient_id, two.patient_id)
        assert pair is not None
        links.undo(session, world.actor("director"), pair.id, reason="不是同一人")
        assert not patients.link_automatically(session, patient)
        assert patient.county_patient_id != session.get_one(Patient, one.patient_id).county_patient_id
        with pytest.raises(Conflict):
            links.undo(session, world.actor("director"), pair.id, reason="不是同一人")
