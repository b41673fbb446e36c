"""Which exam a study finds, and what an exam learns of its images."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams import registration
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.jobs import Job
from hub.kit.live import Change
from hub.patients import service as patients
from hub.studies import intake, linking
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import ExamStudy, Study
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World

NOW = datetime(2026, 3, 9, 2, 0, tzinfo=UTC)  # ten in the morning in the county


@pytest.fixture(autouse=True)
def stopped_clock(world: World) -> None:
    clock.set_source(lambda: NOW)


def exam_of(world: World, *, name: str = "王伟", number: str | None = "P001", org: str = "C01", **columns: Any) -> str:
    login = "technologist" if org == "C01" else "technologist.c02"
    with database().writing() as session:
        patient = patients.ensure(session, world.orgs[org].id, number, name, "M")
        values = {"modality": "CT", "body_parts": ["head"], "incomplete": [], **columns}
        return registration.new_exam(
            session, world.actor(login), patient, org_id=world.orgs[org].id, source="web", **values
        ).id


def take(world: World, *files: bytes, exam_id: str | None = None) -> list[Outcome]:
    return intake.ingest_many(
        world.actor("technologist"),
        [Incoming(file) for file in files],
        org_id=world.orgs["C01"].id,
        source="web",
        exam_id=exam_id,
    )


def linked(outcome: Outcome) -> list[Exam]:
    with database().reading() as session:
        return list(
            session.scalars(
                select(Exam).join(ExamStudy, ExamStudy.exam_id == Exam.id).where(ExamStudy.study_id == outcome.study_id)
            )
        )


def test_the_named_exam_is_taken(world: World) -> None:
    other = exam_of(world)
    named = exam_of(world, name="李娜", number="P002")
    (outcome,) = take(world, dicom_file(patient_id=b"P001"), exam_id=named)
    assert [exam.id for exam in linked(outcome)] == [named]
    with database().reading() as session:
        assert session.get_one(Exam, other).state == "registered"
        # The header names another patient: the study stays under that one until a person has looked.
        assert session.get_one(Study, outcome.study_id).patient.number == "P001"


@pytest.mark.parametrize("whose", ["other clinic", "nobody", "cancelled", "retake"])
def test_an_exam_that_is_not_the_senders_is_refused(world: World, whose: str) -> None:
    exam_id = "0" * 26
    if whose == "other clinic":
        exam_id = exam_of(world, org="C02")
    elif whose == "cancelled":
        exam_id = exam_of(world)
        with database().writing() as session:
            registration.cancel(session, world.actor("technologist"), session.get_one(Exam, exam_id), reason="登记错误")
    elif whose == "retake":
        exam_id = exam_of(world)
        with database().writing() as session:
            session.get_one(Exam, exam_id).state = "retake"
    (outcome,) = take(world, dicom_file(), exam_id=exam_id)
    assert (outcome.status, outcome.code) == ("refused", "wrong-exam")
    with database().reading() as session:
        assert session.scalars(select(Study)).all() == []


def test_the_accession_number_finds_the_exam(world: World) -> None:
    exam_of(world)
    wanted = exam_of(world, name="李娜", number="P002")
    with database().reading() as session:
        accession = session.get_one(Exam, wanted).accession
    (outcome,) = take(world, dicom_file(patient_id=b"XX", name=b"LI^NA", sex=b"", accession=accession))
    assert [exam.id for exam in linked(outcome)] == [wanted]


def test_another_clinics_accession_number_finds_nothing(world: World) -> None:
    theirs = exam_of(world, org="C02")
    with database().reading() as session:
        accession = session.get_one(Exam, theirs).accession
    (outcome,) = take(world, dicom_file(accession=accession))
    assert linked(outcome)[0].source == "images"
    with database().reading() as session:
        assert session.get_one(Exam, theirs).state == "registered"


def test_number_and_modality_find_the_exam(world: World) -> None:
    exam_of(world, modality="DX", body_parts=["chest"])
    wanted = exam_of(world)
    (outcome,) = take(world, dicom_file(patient_id=b"P001", modality="CT"))
    assert [exam.id for exam in linked(outcome)] == [wanted]


def test_the_body_part_decides_between_two_exams(world: World) -> None:
    exam_of(world, modality="DX", body_parts=["chest"])
    hand = exam_of(world, modality="DX", body_parts=["hand"])
    (outcome,) = take(world, dicom_file(patient_id=b"P001", modality="CR", body_part="HAND"))
    assert [exam.id for exam in linked(outcome)] == [hand]


@pytest.mark.parametrize("name", ["王伟".encode(), b"WANG^WEI", b"Wang Wei", b"WEI^WANG"])
def test_a_name_in_ideographs_or_pinyin_finds_the_exam_and_teaches_the_number(world: World, name: bytes) -> None:
    wanted = exam_of(world, number=None)
    (outcome,) = take(world, dicom_file(patient_id=b"CT-4711", name=name, charset=b"ISO_IR 192"))
    assert [exam.id for exam in linked(outcome)] == [wanted]
    with database().reading() as session:
        exam = session.get_one(Exam, wanted)
        assert exam.patient.number == "CT-4711"
        assert session.get_one(Study, outcome.study_id).patient_id == exam.patient_id


@pytest.mark.parametrize(
    "header", [{"sex": b"F"}, {"modality": "DX"}, {"name": b"WANG^FANG"}], ids=["sex", "modality", "name"]
)
def test_what_disagrees_is_no_match(world: World, header: dict[str, Any]) -> None:
    exam_of(world, number=None)
    (outcome,) = take(world, dicom_file(**{"patient_id": b"CT-4711", "name": b"WANG^WEI", **header}))
    assert linked(outcome)[0].source == "images"


def test_two_patients_of_one_name_are_left_to_a_person(world: World) -> None:
    exam_of(world, number="A1")
    exam_of(world, number="A2")
    (outcome,) = take(world, dicom_file(patient_id=b"CT-4711"))
    assert linked(outcome)[0].source == "images"


def test_all_images_of_a_study_stay_with_its_exam(world: World) -> None:
    study = new_uid()
    (first,) = take(world, dicom_file(study=study, patient_id=b"P009"))
    exam_of(world, number="P009")
    (second,) = take(world, dicom_file(study=study, patient_id=b"P009", number=2))
    exams = linked(second)
    assert [exam.id for exam in exams] == [exam.id for exam in linked(first)]
    assert exams[0].received_count == 2


def settle_job(exam_id: str) -> Job:
    with database().reading() as session:
        return session.scalars(select(Job).where(Job.key == f"settle:{exam_id}")).one()


def test_images_one_by_one_are_all_counted_and_told_now_and_then(world: World) -> None:
    study, series = new_uid(), new_uid()
    exam_id = exam_of(world, declared_count=54)
    for number in range(1, 54):
        outcome = take(world, dicom_file(study=study, series=series, number=number))[0]
    assert linked(outcome)[0].id == exam_id
    assert linked(outcome)[0].received_count == 53
    assert settle_job(exam_id).run_after > clock.now()
    with database().reading() as session:
        changes = session.scalars(select(Change).where(Change.ref == exam_id).order_by(Change.id))
        told = [change.data.get("received") for change in changes]
    assert [count for count in told if count] == [25, 50]
    # Several at once pass the mark that one would have stood on.
    take(world, *(dicom_file(study=study, series=series, number=number) for number in range(54, 80)))
    assert linked(outcome)[0].received_count == 79
    assert settle_job(exam_id).run_after <= clock.now()


def test_a_quiet_period_is_postponed_and_a_reached_count_settles_at_once(world: World) -> None:
    study, exam_id = new_uid(), exam_of(world)
    with database().writing() as session:
        session.get_one(Exam, exam_id).declared_count = 2
    take(world, dicom_file(study=study), exam_id=exam_id)
    assert settle_job(exam_id).run_after == NOW + timedelta(seconds=60)
    clock.set_source(lambda: NOW + timedelta(seconds=30))
    take(world, dicom_file(study=study, number=2), exam_id=exam_id)
    assert settle_job(exam_id).run_after == NOW + timedelta(seconds=30)


@pytest.mark.parametrize("state", ["registered", "to_verify", "to_read"])
def test_images_before_the_reading_make_the_exam_receive(world: World, state: str) -> None:
    exam_id = exam_of(world)
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = state
    take(world, dicom_file(), exam_id=exam_id)
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).state == "receiving"


@pytest.mark.parametrize("state", ["reading", "to_review", "reviewing", "signed", "returned", "seen", "preliminary"])
def test_late_images_are_seen_and_change_no_state(world: World, state: str) -> None:
    exam_id, study = exam_of(world), new_uid()
    take(world, dicom_file(study=study), exam_id=exam_id)
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = state
    (outcome,) = take(world, dicom_file(study=study, number=2))
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert (exam.state, exam.late_images_at, exam.received_count) == (state, NOW, 2)
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "exam.late_images")).one()
        assert (entry.object_id, entry.detail["added"]) == (exam_id, 1)
        changes = session.scalars(select(Change).where(Change.ref == exam_id)).all()
        assert any(change.data.get("event") == "late_images" for change in changes)
    assert outcome.status == "stored"


@pytest.mark.parametrize("state", ["cancelled", "void", "retake"])
@pytest.mark.parametrize("by", ["study", "accession"])
def test_images_after_an_exam_has_ended_without_a_report_become_visible(world: World, state: str, by: str) -> None:
    exam_id, study = exam_of(world), new_uid()
    take(world, dicom_file(study=study), exam_id=exam_id)
    with database().writing() as session:
        ended = session.get_one(Exam, exam_id)
        ended.state, accession = state, ended.accession
    if by == "study":
        (outcome,) = take(world, dicom_file(study=study, number=2))
    else:
        (outcome,) = take(world, dicom_file(accession=accession))
    anew = next(exam for exam in linked(outcome) if exam.id != exam_id)
    assert (anew.state, anew.source, anew.incomplete) == ("receiving", "images", ["registration"])
    assert anew.received_count == (2 if by == "study" else 1)
    with database().reading() as session:
        ended = session.get_one(Exam, exam_id)
        assert (ended.state, ended.late_images_at, ended.received_count) == (state, None, 1)
    assert settle_job(anew.id)


def test_a_new_registration_takes_the_images_that_come_after_a_retake_was_asked_for(world: World) -> None:
    exam_id, study = exam_of(world, number="P009"), new_uid()
    take(world, dicom_file(study=study, patient_id=b"P009"), exam_id=exam_id)
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = "retake"
    again = exam_of(world, number="P009")
    (outcome,) = take(world, dicom_file(study=study, patient_id=b"P009", number=2))
    assert {exam.id: exam.state for exam in linked(outcome)} == {exam_id: "retake", again: "receiving"}


def test_the_clock_of_images_that_were_moved_away_goes_with_them(world: World) -> None:
    exam_id = exam_of(world)
    other = exam_of(world, name="李娜", number="P002")
    (wrong,) = take(world, dicom_file(day="20260309", hour="070000"), exam_id=exam_id)
    take(world, dicom_file(day="20260309", hour="093000"), exam_id=exam_id)
    with database().writing() as session:
        linking.relink(
            session,
            world.actor("technologist"),
            session.get_one(Study, wrong.study_id),
            from_exam=session.get_one(Exam, exam_id),
            to_exam=session.get_one(Exam, other),
        )
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).exam_at == NOW - timedelta(minutes=30)
        assert session.get_one(Exam, other).exam_at == NOW - timedelta(hours=3)


def test_a_known_image_is_not_late(world: World) -> None:
    exam_id, file = exam_of(world), dicom_file()
    take(world, file, exam_id=exam_id)
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = "signed"
    assert take(world, file)[0].status == "known"
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).late_images_at is None


def test_known_images_join_the_exam_that_is_named_later(world: World) -> None:
    files = [dicom_file(study=(study := new_uid())), dicom_file(study=study, number=2)]
    take(world, *files)
    exam_id = exam_of(world)
    outcomes = take(world, *files, exam_id=exam_id)
    assert {one.status for one in outcomes} == {"known"}
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert (exam.state, exam.received_count) == ("receiving", 2)
    assert settle_job(exam_id)


@pytest.mark.parametrize(
    ("day", "hour", "source", "moment"),
    [
        ("20260309", "093000", "modality", NOW - timedelta(minutes=30)),
        ("20260308", "2330", "modality", datetime(2026, 3, 8, 15, 30, tzinfo=UTC)),
        ("20260310", "120000", "registration", NOW - timedelta(hours=1)),  # in the future
        ("20190101", "093000", "registration", NOW - timedelta(hours=1)),
        ("20260301", "093000", "registration", NOW - timedelta(hours=1)),  # a week before it was asked for
        ("", "", "registration", NOW - timedelta(hours=1)),
    ],
)
def test_the_clock_of_the_modality_is_believed_where_it_can_be_right(
    world: World, day: str, hour: str, source: str, moment: datetime
) -> None:
    clock.set_source(lambda: NOW - timedelta(hours=1))
    exam_id = exam_of(world)
    clock.set_source(lambda: NOW)
    take(world, dicom_file(day=day, hour=hour), exam_id=exam_id)
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert (exam.exam_at_source, exam.exam_at) == (source, moment)


@pytest.mark.parametrize(
    ("day", "source"), [("20260301", "modality"), ("20190101", "arrival"), ("20990101", "arrival")]
)
def test_without_a_registration_the_arrival_counts(world: World, day: str, source: str) -> None:
    (outcome,) = take(world, dicom_file(day=day, hour="080000"))
    exam = linked(outcome)[0]
    assert exam.exam_at_source == source
    if source == "arrival":
        assert exam.exam_at == NOW


def test_a_study_can_be_moved(world: World) -> None:
    (outcome,) = take(world, dicom_file(patient_id=b"P007"))
    wrong = linked(outcome)[0].id
    right = exam_of(world, name="李娜", number="P002")
    with database().writing() as session:
        linking.relink(
            session,
            world.actor("technologist"),
            session.get_one(Study, outcome.study_id),
            from_exam=session.get_one(Exam, wrong),
            to_exam=session.get_one(Exam, right),
        )
    assert [exam.id for exam in linked(outcome)] == [right]
    with database().reading() as session:
        assert session.get_one(Exam, wrong).received_count == 0
        exam = session.get_one(Exam, right)
        assert (exam.received_count, exam.state) == (1, "receiving")


@pytest.mark.parametrize("registered", [True, False])
def test_a_number_that_is_somebody_elses_does_not_put_images_under_his_name(world: World, registered: bool) -> None:
    if registered:
        with database().writing() as session:
            patients.ensure(session, world.orgs["C01"].id, "1", "张三", "M")
    else:
        take(world, dicom_file(patient_id=b"1", name=b"ZHANG^SAN", sex=b"M"))
    (outcome,) = take(world, dicom_file(patient_id=b"1", name=b"LI^SI", sex=b"F"))
    (exam,) = linked(outcome)
    with database().reading() as session:
        exam = session.get_one(Exam, exam.id)
        study = session.get_one(Study, outcome.study_id)
        assert (exam.patient.name, study.patient.name) == ("LI SI", "LI SI")
        assert study.header_patient["patient_id"] == "1"
        owner = patients.find_by_number(session, world.orgs["C01"].id, "1")
        assert owner is not None
        assert owner.id != exam.patient_id


def test_a_machine_brings_images_in_without_a_role(world: World) -> None:
    from hub.kit.actor import Actor

    exam_id = exam_of(world)
    machine = Actor(kind="machine", id="k" * 26, org_id=world.orgs["C01"].id, scopes=frozenset({"stow"}))
    intake.ingest_many(machine, [Incoming(dicom_file())], org_id=world.orgs["C01"].id, source="stow")
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).state == "receiving"
