"""Two at once, each right by itself: what the first has not committed yet, the second must not decide without.

On PostgreSQL every query of a transaction sees what was committed since the one before. These tests let the second
begin while the first is about to commit; on SQLite, where writers come one after the other, they hold as well.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING, Any

import pyotp
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts import people
from hub.accounts import service as accounts
from hub.accounts.models import LoginSession, Person
from hub.accounts.secrets import seal_secret
from hub.dicom.identity import check_digit
from hub.exams import limits, registration, repository
from hub.exams.models import Exam
from hub.exams.service import apply
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound, TooMany, Unauthenticated
from hub.kit.ids import new_id, new_uid
from hub.kit.settings import get_settings
from hub.patients import service as patients
from hub.patients.models import Patient
from hub.reading import service as reading
from hub.reports import identities
from hub.reports.models import SigningIdentity
from hub.sites import devices
from hub.studies import completeness, intake, linking, uploads, verifying
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import ExamStudy, Study, UploadBatch, UploadFile
from hub.turnaround import service as turnaround
from support.clinic_files import dicom_file, form
from support.meeting import meet, until_it_waits
from support.reading import cheap_keys, make_exam
from support.world import PASSWORD

if TYPE_CHECKING:
    from support.world import World


def count(model: type, *where: object) -> int:
    with database().reading() as session:
        return session.scalar(select(func.count()).select_from(model).where(*where)) or 0  # type: ignore[arg-type]


def exam_in_db(exam_id: str) -> Exam:
    with database().reading() as session:
        return session.get_one(Exam, exam_id)


# --- registration ---------------------------------------------------------------------------------------------------


def completing(world: World, exam_id: str, **changes: object) -> None:
    actor = world.actor("technologist")
    with database().writing() as session:
        registration.complete_registration(session, actor, repository.get(session, actor, exam_id), changes)


def test_two_who_add_to_one_registration_leave_nothing_to_ask_for(world: World) -> None:
    technologist = world.actor("technologist")
    with database().writing() as session:
        exam_id = registration.register(
            session, technologist, form(priority="emergency", doctor="", history="", modality="CT")
        ).id

    def first(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        registration.complete_registration(session, technologist, exam, {"doctor": "李明"})

    meet(first, lambda: completing(world, exam_id, history="头痛两小时"))
    exam = exam_in_db(exam_id)
    assert (exam.doctor, exam.history, exam.incomplete) == ("李明", "头痛两小时", [])


def test_a_registration_is_not_corrected_under_a_signature(world: World) -> None:
    exam_id = make_exam(world, state=State.READING, author_id=world.people["reviewer"].id)

    def sign(session: Session) -> None:
        apply(session, world.actor("reviewer"), session.get_one(Exam, exam_id), Event.SIGN)

    with pytest.raises(Conflict, match="检查已结束"):
        meet(sign, lambda: completing(world, exam_id, name="李四", history="头痛两小时"))
    exam = exam_in_db(exam_id)
    assert (exam.patient.name, exam.history) == ("王伟", "突发左侧肢体无力2小时")


def test_who_waited_for_an_exam_sees_its_new_patient(world: World) -> None:
    """A reader's lock that had to wait for a corrected registration: PostgreSQL gives the new exam with the old join."""
    exam_id = make_exam(world, with_study=False)
    other = make_exam(world, name="王伟", with_study=False)
    technologist = world.actor("technologist")
    assert other

    def correct(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        registration.complete_registration(
            session, technologist, exam, {"name": "李娜", "sex": "F", "number": "P-NEW", "history": "头痛两小时"}
        )

    def look() -> str:
        with database().writing() as session:
            exam = reading.locked(session, world.actor("reporter"), exam_id)
            return exam.patient.name

    assert meet(correct, look) == "李娜"


def test_who_waited_for_an_exam_sees_its_patient_corrected(world: World) -> None:
    exam_id = make_exam(world, with_study=False)
    technologist = world.actor("technologist")

    def correct(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        registration.complete_registration(
            session, technologist, exam, {"name": "王卫", "doctor": "陈明", "history": "头痛两小时"}
        )

    def look() -> str:
        with database().writing() as session:
            return reading.locked(session, world.actor("reporter"), exam_id).patient.name

    assert meet(correct, look) == "王卫"


# --- images and their exam ------------------------------------------------------------------------------------------


def add_study(session: Session, world: World, owner: str, **header: str) -> Study:
    now = clock.now()
    study = Study(
        id=new_id(),
        uid=new_uid(),
        org_id=world.orgs["C01"].id,
        patient_id=owner,
        study_date="20260302",
        study_time="094100",
        created_at=now,
        last_instance_at=now,
        modalities=["CT"],
        header_patient=header,
        notes=[],
        summary={},
    )
    session.add(study)
    session.flush()
    return study


def second_study(world: World, exam_id: str) -> str:
    with database().writing() as session:
        study = add_study(session, world, session.get_one(Exam, exam_id).patient_id)
        session.add(ExamStudy(exam_id=exam_id, study_id=study.id, linked_at=clock.now(), linked_by="test"))
        return study.id


def take(world: World, *files: bytes, exam_id: str | None = None) -> list[Outcome]:
    return intake.ingest_many(
        world.actor("technologist"),
        [Incoming(file) for file in files],
        org_id=world.orgs["C01"].id,
        source="web",
        exam_id=exam_id,
    )


def test_two_studies_of_a_known_patient_make_one_exam(world: World) -> None:
    with database().writing() as session:
        patient_id = patients.ensure(session, world.orgs["C01"].id, "P1", "王伟", "M").id

    def first(session: Session) -> None:
        study = add_study(session, world, patient_id, patient_id="P1", name="WANG^WEI", sex="M")
        linking.attach(session, world.actor("technologist"), study, modality="CT", body_part="CHEST")

    (outcome,) = meet(first, lambda: take(world, dicom_file(patient_id="P1", name="WANG^WEI", sex="M")))
    assert outcome.status == "stored"
    assert (count(Study), count(Exam)) == (2, 1)


def test_images_that_meet_a_reader_are_marked_as_late(world: World) -> None:
    exam_id = make_exam(world, state=State.RECEIVING)

    def settle_and_claim(session: Session) -> None:
        apply(session, SYSTEM, session.get_one(Exam, exam_id), Event.COMPLETE)
        reading.claim(session, world.actor("reporter"), exam_id)

    (outcome,) = meet(settle_and_claim, lambda: take(world, dicom_file(), exam_id=exam_id))
    assert outcome.status == "stored"
    exam = exam_in_db(exam_id)
    assert exam.state == "reading"
    assert exam.late_images_at is not None


def test_images_do_not_go_into_an_exam_that_is_just_cancelled(world: World) -> None:
    technologist = world.actor("technologist")
    with database().writing() as session:
        exam_id = registration.register(session, technologist, form()).id
    take(world, dicom_file(patient_id="P1"), exam_id=exam_id)

    def cancel(session: Session) -> None:
        registration.cancel(session, technologist, repository.get(session, technologist, exam_id), reason="重复")

    (outcome,) = meet(cancel, lambda: take(world, dicom_file(patient_id="P1")))
    assert outcome.status == "stored"
    with database().reading() as session:
        states = session.scalars(
            select(Exam.state)
            .join(ExamStudy, ExamStudy.exam_id == Exam.id)
            .where(ExamStudy.study_id == outcome.study_id)
        ).all()
    assert states == ["receiving"]


def moving(world: World, exam_id: str, study_id: str, to_exam_id: str | None) -> None:
    actor = world.actor("technologist")
    with database().writing() as session:
        exam = repository.get(session, actor, exam_id)
        verifying.move(session, actor, exam, study_id, to_exam_id=to_exam_id, reason="拍错")


def test_images_are_not_moved_away_under_a_reader(world: World) -> None:
    exam_id, other = make_exam(world), make_exam(world)
    study_id = second_study(world, exam_id)
    with pytest.raises(Conflict, match="影像已在阅片中"):
        meet(
            lambda session: reading.claim(session, world.actor("reporter"), exam_id),
            lambda: moving(world, exam_id, study_id, other),
        )
    assert count(ExamStudy, ExamStudy.exam_id == exam_id) == 2


def test_a_study_is_moved_once(world: World) -> None:
    exam_id, one, two = make_exam(world), make_exam(world), make_exam(world)
    study_id = second_study(world, exam_id)
    technologist = world.actor("technologist")

    def first(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        verifying.move(session, technologist, exam, study_id, to_exam_id=one, reason="拍错")

    with pytest.raises(NotFound):
        meet(first, lambda: moving(world, exam_id, study_id, two))
    assert count(ExamStudy, ExamStudy.study_id == study_id) == 1


# --- uploads --------------------------------------------------------------------------------------------------------


def declared(world: World, session: Session, names: list[str], exam_id: str, **more: Any) -> tuple[str, list[str]]:
    files = [uploads.Declared(name, 1000) for name in names]
    batch, rows = uploads.declare(session, world.actor("technologist"), files=files, exam_id=exam_id, **more)
    return batch.id, [row.id for row in rows]


def test_two_uploads_for_one_exam_declare_the_sum(world: World) -> None:
    exam_id = make_exam(world, state=State.REGISTERED, with_study=False)

    def second() -> None:
        with database().writing() as session:
            declared(world, session, ["b/1", "b/2", "b/3"], exam_id)

    meet(lambda session: declared(world, session, ["a/1", "a/2"], exam_id), second)
    assert exam_in_db(exam_id).declared_count == 5


def test_an_upload_is_closed_with_what_the_last_file_became(world: World) -> None:
    exam_id = make_exam(world, state=State.REGISTERED, with_study=False)
    with database().writing() as session:
        batch_id, (file_id,) = declared(world, session, ["a/1"], exam_id)

    def arrives(session: Session) -> None:
        session.get_one(UploadFile, file_id).state = uploads.STORED

    def close() -> uploads.Reconciliation:
        with database().writing() as session:
            return uploads.close(session, world.actor("technologist"), batch_id, confirm_short=True)

    found = meet(arrives, close)
    assert (found.state, found.stored, found.shortfall) == ("closed", 1, 0)


def test_a_file_that_came_while_its_upload_was_closed_counts_as_come(world: World) -> None:
    exam_id = make_exam(world, state=State.REGISTERED, with_study=False)
    with database().writing() as session:
        batch_id, (file_id,) = declared(world, session, ["a/1"], exam_id)
    row = meet(
        lambda session: uploads.close(session, world.actor("technologist"), batch_id, confirm_short=True),
        lambda: uploads._conclude(file_id, Outcome("stored", study_uid="1.2.3", sop_uid="1.2.3.4")),
    )
    assert (row.state, row.code) == ("stored", "")
    with database().reading() as session:
        found = uploads.reconcile(session, batch_id)
    assert (found.stored, found.shortfall) == (1, 0)


def test_no_file_is_added_to_an_upload_that_is_just_closed(world: World) -> None:
    exam_id = make_exam(world, state=State.REGISTERED, with_study=False)
    with database().writing() as session:
        batch_id, _files = declared(world, session, ["a/1"], exam_id)

    def add() -> None:
        with database().writing() as session:
            declared(world, session, ["a/1", "a/2"], exam_id, batch_id=batch_id)

    with pytest.raises(Conflict, match="已经结束"):
        meet(
            lambda session: uploads.close(session, world.actor("technologist"), batch_id, confirm_short=True),
            add,
        )


def test_known_images_are_linked_once_by_two_requests(world: World) -> None:
    study = new_uid()
    series = new_uid()
    files = [dicom_file(study=study, series=series, number=number) for number in range(2)]
    take(world, *files)
    exam_id = make_exam(world, state=State.REGISTERED, with_study=False)
    with database().writing() as session:
        batch_id, ids = declared(world, session, ["a/1", "a/2"], exam_id)
    sums = [hashlib.sha256(file).hexdigest() for file in files]

    def check(session: Session, number: int) -> int:
        actor = world.actor("technologist")
        return len(uploads.check_known(session, actor, batch_id, {ids[number]: sums[number]}))

    def second() -> int:
        with database().writing() as session:
            return check(session, 1)

    assert meet(lambda session: check(session, 0), second) == 1
    assert count(ExamStudy, ExamStudy.exam_id == exam_id) == 1
    assert count(UploadFile, UploadFile.state == uploads.KNOWN) == 2
    assert count(UploadBatch) == 1


# --- patients -------------------------------------------------------------------------------------------------------


def test_a_patient_is_not_renamed_under_an_exam_that_is_just_registered(world: World) -> None:
    technologist = world.actor("technologist")
    with database().writing() as session:
        exam = registration.register(session, technologist, form(number=""))
        exam_id, patient_id = exam.id, exam.patient_id
    meet(
        lambda session: registration.register(session, technologist, form(number="", patient_id=patient_id)),
        lambda: completing(world, exam_id, name="李娜", sex="F"),
    )
    assert exam_in_db(exam_id).patient.name == "李娜"
    with database().reading() as session:
        assert session.get_one(Patient, patient_id).name == "王伟"


def test_no_exam_is_registered_for_a_patient_who_is_just_renamed(world: World) -> None:
    technologist = world.actor("technologist")
    with database().writing() as session:
        exam = registration.register(session, technologist, form(number=""))
        exam_id, patient_id = exam.id, exam.patient_id

    def rename(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        registration.complete_registration(session, technologist, exam, {"name": "李娜", "sex": "F"})

    def register() -> None:
        with database().writing() as session:
            registration.register(session, technologist, form(number="", patient_id=patient_id))

    with pytest.raises(Invalid):
        meet(rename, register)
    assert count(Exam) == 1


def test_one_human_being_registered_by_two_clinics_at_once_is_linked(world: World) -> None:
    number = "36073119810512001"
    number += check_digit(number)

    def ensure(session: Session, org: str) -> None:
        born = date(1981, 5, 12)
        patients.ensure(session, world.orgs[org].id, "P1", "王伟", "M", born, identity_number=number)

    def second() -> None:
        with database().writing() as session:
            # The serial of county numbers is not what makes the two wait for each other.
            ensure(session, "C02")

    with database().writing() as session:
        patients.ensure(session, world.orgs["C02"].id, "P1", "王伟", "M", date(1981, 5, 12))
    meet(lambda session: ensure(session, "C01"), second)
    with database().reading() as session:
        assert len(set(session.scalars(select(Patient.county_patient_id)))) == 1


# --- people, keys, devices ------------------------------------------------------------------------------------------


def test_two_administrators_cannot_take_each_others_rights(world: World) -> None:
    one = world.actor("administrator")
    with database().writing() as session:
        other, _password = people.add_person(
            session, one, org=world.orgs["HUB"], login="administrator2", name="二", roles=["administrator"]
        )
        session.expunge_all()
    two = replace(one, id=other.id, name=other.name)

    def second() -> None:
        with database().writing() as session:
            people.change_person(session, two, one.id, {"active": False})

    with pytest.raises(Forbidden):
        meet(lambda session: people.change_person(session, one, two.id, {"active": False}), second)
    assert count(Person, Person.active, Person.login.like("administrator%")) == 1


def test_six_digits_count_once_also_at_the_same_instant(world: World) -> None:
    secret = pyotp.random_base32()
    person_id = world.people["reporter"].id
    with database().writing() as session:
        session.get_one(Person, person_id).totp_secret = seal_secret(secret)
    now = clock.now()
    clock.set_source(lambda: now)

    def first(session: Session) -> None:
        session.get_one(Person, person_id).totp_last_step = int(now.timestamp()) // accounts.TOTP_STEP

    def again() -> None:
        accounts.log_in(
            login="reporter",
            password=PASSWORD,
            totp=pyotp.TOTP(secret).at(now),
            ip="127.0.0.1",
            agent="test",
            settings=get_settings(),
        )

    with pytest.raises(Unauthenticated):
        meet(first, again)


def test_who_logs_in_while_his_password_is_taken_does_not_get_in(world: World) -> None:
    def log_in() -> None:
        accounts.log_in(login="reporter", password=PASSWORD, ip="127.0.0.1", agent="test", settings=get_settings())

    with pytest.raises(Unauthenticated):
        meet(
            lambda session: people.reset_password(session, world.actor("administrator"), world.people["reporter"].id),
            log_in,
        )
    assert count(LoginSession) == 0


def test_pins_guessed_at_once_are_counted_one_by_one(world: World) -> None:
    reporter = world.actor("reporter")
    for _attempt in range(identities.PIN_ATTEMPTS - 1):
        identities._begin_attempt(reporter)
    with pytest.raises(TooMany):
        meet(lambda session: identities._count_attempt(session, reporter), lambda: identities._begin_attempt(reporter))


def test_a_person_has_one_valid_certificate_of_the_hub(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_keys(monkeypatch)
    reporter = world.actor("reporter")
    identities.issue(reporter, "258036")
    real = identities._store
    second: list[Future[object]] = []

    def store(session: Session, *arguments: Any) -> SigningIdentity:
        row = real(session, *arguments)
        if not second:
            session.flush()
            second.append(pool.submit(identities.issue, reporter, "258036"))
            until_it_waits(second[0])
        return row

    monkeypatch.setattr(identities, "_store", store)
    with ThreadPoolExecutor(1) as pool:
        identities.issue(reporter, "258036")
        second[0].result(timeout=30)
    assert count(SigningIdentity) == 3
    assert count(SigningIdentity, SigningIdentity.revoked_at.is_(None)) == 1


def test_one_ae_title_is_not_given_to_two_clinics_at_once(world: World) -> None:
    administrator = world.actor("administrator")

    def add(session: Session, org: str, address: str) -> None:
        devices.add(session, administrator, org=world.orgs[org], aet="CT1", address=address)

    def second() -> None:
        with database().writing() as session:
            add(session, "C02", "10.1.1.7")

    with pytest.raises(Conflict, match="另一家机构"):
        meet(lambda session: add(session, "C01", "10.1.0.0/16"), second)


def test_a_password_taken_away_is_not_changed_by_who_knew_it(world: World) -> None:
    reporter = world.actor("reporter")

    def change() -> None:
        with database().writing() as session:
            accounts.change_password(session, reporter, old=PASSWORD, new="another-horse-7")

    with pytest.raises(Invalid):
        meet(lambda session: people.reset_password(session, world.actor("administrator"), reporter.id), change)


def test_new_limits_meet_a_corrected_priority(world: World) -> None:
    exam_id = make_exam(world, with_study=False)
    technologist = world.actor("technologist")

    def hurry(session: Session) -> None:
        exam = repository.get(session, technologist, exam_id)
        registration.complete_registration(session, technologist, exam, {"priority": "emergency"})

    def change() -> None:
        with database().writing() as session:
            turnaround.set_limits(session, world.actor("director"), {"classes": {"ct_outpatient": {"minutes": 500}}})

    meet(hurry, change)
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert exam.due_at == limits.due_at(session, exam)


def test_who_only_refers_to_an_exam_is_not_waited_for(world: World) -> None:
    """An upload that was begun for an exam links its images while the exam is settled: no circle of waiting."""
    exam_id = make_exam(world, state=State.RECEIVING)
    other = make_exam(world, with_study=False)
    with database().reading() as session:
        study_id = session.scalars(select(ExamStudy.study_id).where(ExamStudy.exam_id == exam_id)).one()

    def settle() -> None:
        with database().writing() as session:
            completeness.settle(session, SYSTEM, exam_id)

    with ThreadPoolExecutor(1) as pool:
        with database().writing() as session:
            actor, now = world.actor("technologist"), clock.now()
            session.add(UploadBatch(org_id=str(actor.org_id), person_id=actor.id, exam_id=exam_id, created_at=now))
            session.flush()
            settling = pool.submit(settle)
            until_it_waits(settling)
            session.add(ExamStudy(exam_id=other, study_id=study_id, linked_at=now, linked_by="test"))
        settling.result(timeout=30)
