"""When an exam's images are all there: count, quiet period, open upload, emergency, registration, late images."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from hub.exams import registration
from hub.exams.models import Exam, Transition
from hub.exams.service import apply
from hub.exams.states import Event, State
from hub.kit import clock, jobs
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.studies import completeness, intake, uploads
from hub.studies.intake import Incoming
from hub.studies.models import UploadBatch, UploadFile
from support.clinic_files import dicom_file, form
from support.world import World

QUIET = 60


class Time:
    def __init__(self) -> None:
        self.moment = clock.now()

    def __call__(self) -> Any:
        return self.moment

    def pass_(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def time(world: World) -> Iterator[Time]:
    source = Time()
    clock.set_source(source)
    yield source
    clock.set_source(None)


def register(world: World, **changes: Any) -> str:
    with database().writing() as session:
        exam = registration.register(session, world.actor("technologist"), form(**changes))
        return exam.id


def send(world: World, exam_id: str | None, count: int = 1, **header: Any) -> str:
    header = {"study": new_uid(), "series": new_uid(), **header}
    files = [dicom_file(number=number + 1, **header) for number in range(count)]
    outcomes = intake.ingest_many(
        world.actor("technologist"),
        [Incoming(file) for file in files],
        org_id=world.orgs["C01"].id,
        source="web",
        exam_id=exam_id,
    )
    assert {outcome.status for outcome in outcomes} == {"stored"}
    return outcomes[0].study_id


def declare(exam_id: str, count: int | None) -> None:
    with database().writing() as session:
        session.get_one(Exam, exam_id).declared_count = count


def batch(world: World, exam_id: str, state: str = "open") -> None:
    with database().writing() as session:
        session.add(
            UploadBatch(
                org_id=world.orgs["C01"].id,
                person_id=world.people["technologist"].id,
                exam_id=exam_id,
                state=state,
                created_at=clock.now(),
            )
        )


def work() -> int:
    """Do the due settle jobs as a worker does; how many."""
    done = 0
    while True:
        with database().reading() as session:
            references = session.scalars(
                select(jobs.Job.id).where(jobs.Job.id.in_(jobs.due(session)), jobs.Job.kind == "studies.settle")
            ).all()
        if not references:
            return done
        for reference in references:
            with database().writing() as session:
                claimed = jobs.claim(session, reference, lease_seconds=60, attempts=3)
            assert claimed is not None
            with database().writing() as session:
                completeness.settle(session, SYSTEM, claimed.payload["exam_id"])
            with database().writing() as session:
                assert jobs.finish(session, claimed)
            done += 1
            assert done < 50, "the jobs never end"


def look(exam_id: str) -> Exam:
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        session.expunge_all()
        return exam


def to_state(world: World, exam_id: str, *steps: tuple[str, Event]) -> None:
    with database().writing() as session:
        for login, event in steps:
            actor = SYSTEM if login == "system" else world.actor(login)
            apply(session, actor, session.get_one(Exam, exam_id), event)


def test_a_reached_count_completes_at_once(world: World, time: Time) -> None:
    exam_id = register(world)
    declare(exam_id, 3)
    send(world, exam_id, 3)
    work()
    exam = look(exam_id)
    assert (exam.state, exam.received_count, exam.identity) == (State.TO_READ, 3, "noted")
    assert exam.due_at is not None
    assert exam.queued_at is not None


def test_without_a_count_silence_decides(world: World, time: Time) -> None:
    exam_id = register(world)
    study, series = new_uid(), new_uid()
    for number in range(1, 5):
        send(world, exam_id, study=study, series=series)
        time.pass_(QUIET - 5)
        work()
        assert look(exam_id).state == State.RECEIVING, number
    time.pass_(10)
    work()
    assert (look(exam_id).state, look(exam_id).received_count) == (State.TO_READ, 4)


def test_an_open_upload_is_waited_for_and_not_for_ever(world: World, time: Time) -> None:
    exam_id = register(world)
    batch(world, exam_id)
    send(world, exam_id)
    for _minute in range(50):
        time.pass_(60)
        work()
    assert look(exam_id).state == State.RECEIVING
    for _minute in range(15):
        time.pass_(60)
        work()
    assert look(exam_id).state == State.TO_READ


def test_a_slow_upload_of_more_than_an_hour_is_one_upload(world: World, time: Time) -> None:
    exam_id = register(world)
    batch(world, exam_id)
    study, series = new_uid(), new_uid()
    for number in range(1, 9):
        send(world, exam_id, study=study, series=series)
        for _minute in range(15):
            time.pass_(60)
            work()
        assert look(exam_id).state == State.RECEIVING, number


def test_an_emergency_waits_a_few_minutes_only(world: World, time: Time) -> None:
    exam_id = register(world, priority="emergency")
    batch(world, exam_id)
    send(world, exam_id)
    for _minute in range(5):
        time.pass_(60)
        work()
    assert look(exam_id).state == State.TO_READ


def test_a_shortfall_asks_a_person_and_the_missing_images_answer(world: World, time: Time) -> None:
    exam_id = register(world)
    declare(exam_id, 3)
    study, series = new_uid(), new_uid()
    send(world, exam_id, 2, study=study, series=series)
    time.pass_(QUIET + 1)
    work()
    exam = look(exam_id)
    assert exam.state == State.TO_VERIFY
    assert {"kind": "count", "declared": 3, "received": 2} in exam.identity_notes
    send(world, exam_id, study=study, series=series)
    work()
    exam = look(exam_id)
    assert (exam.state, exam.identity) == (State.TO_READ, "noted")


def test_an_upload_for_no_exam_that_broke_off_is_no_whole_exam(world: World, time: Time) -> None:
    exam_id = register(world, number="P001")
    study = new_uid()
    clinic, person = world.orgs["C01"].id, world.people["technologist"].id
    with database().writing() as session:
        upload = UploadBatch(org_id=clinic, person_id=person, exam_id=None, state="open", created_at=clock.now())
        session.add(upload)
        session.flush()
        for number, (state, uid) in enumerate([("stored", study), ("receiving", ""), ("receiving", "")]):
            session.add(
                UploadFile(
                    batch_id=upload.id, path=f"{number}", size=1, state=state, study_uid=uid, created_at=clock.now()
                )
            )
        upload_id = upload.id
    send(world, None, study=study, patient_id="P001")
    for _minute in range(30):
        time.pass_(60)
        work()
    assert look(exam_id).state == State.RECEIVING
    for _minute in range(40):
        time.pass_(60)
        work()
    exam = look(exam_id)
    assert exam.state == State.TO_VERIFY
    assert {"kind": "count", "declared": 3, "received": 1} in exam.identity_notes
    with database().writing() as session:
        # The sender says that these are all.
        uploads.close(session, world.actor("technologist"), upload_id, confirm_short=True)
    work()
    assert look(exam_id).state == State.TO_READ


def test_a_confirmed_shortfall_goes_on(world: World, time: Time) -> None:
    exam_id = register(world)
    declare(exam_id, 3)
    batch(world, exam_id, "short")
    send(world, exam_id, 2)
    time.pass_(QUIET + 1)
    work()
    assert look(exam_id).state == State.TO_READ


def test_a_confirmed_shortfall_does_not_cover_a_later_upload(world: World, time: Time) -> None:
    exam_id = register(world)
    batch(world, exam_id, "short")
    batch(world, exam_id, "expired")
    with database().writing() as session:
        later = session.scalars(select(UploadBatch.id).where(UploadBatch.state == "expired")).one()
        session.add(
            UploadFile(batch_id=later, path="1", size=1, state="refused", code="expired", created_at=clock.now())
        )
    declare(exam_id, 4)
    send(world, exam_id, 2)
    time.pass_(QUIET + 1)
    work()
    assert look(exam_id).state == State.TO_VERIFY


@pytest.mark.parametrize(("priority", "state"), [("routine", State.TO_VERIFY), ("emergency", State.TO_READ)])
def test_a_disagreement(world: World, time: Time, priority: str, state: State) -> None:
    exam_id = register(world, priority=priority)
    declare(exam_id, 1)
    send(world, exam_id, name="ZHAO^LIU", sex="F")
    work()
    assert (look(exam_id).state, look(exam_id).identity) == (state, "open")


def test_images_without_a_registration_wait_for_it(world: World, time: Time) -> None:
    send(world, None)
    time.pass_(QUIET + 1)
    work()
    with database().reading() as session:
        exam = session.scalars(select(Exam)).one()
    assert exam.state == State.TO_VERIFY
    assert {"kind": "registration", "missing": ["registration"]} in exam.identity_notes


def test_settling_again_changes_nothing(world: World, time: Time) -> None:
    exam_id = register(world)
    declare(exam_id, 1)
    send(world, exam_id)
    work()
    with database().reading() as session:
        before = len(session.scalars(select(Transition)).all())
    for _turn in range(3):
        with database().writing() as session:
            completeness.settle(session, SYSTEM, exam_id)
    with database().reading() as session:
        assert len(session.scalars(select(Transition)).all()) == before
    with database().writing() as session:
        completeness.settle(session, SYSTEM, "nothing")


STEPS: dict[State, tuple[tuple[str, Event], ...]] = {
    State.TO_READ: (),
    State.READING: (("reporter", Event.CLAIM),),
    State.TO_REVIEW: (("reporter", Event.CLAIM), ("reporter", Event.SUBMIT)),
    State.REVIEWING: (
        ("reporter", Event.CLAIM),
        ("reporter", Event.SUBMIT),
        ("reviewer", Event.CLAIM_REVIEW),
    ),
    State.SIGNED: (
        ("reporter", Event.CLAIM),
        ("reporter", Event.SUBMIT),
        ("reviewer", Event.CLAIM_REVIEW),
        ("reviewer", Event.SIGN),
    ),
}


@pytest.mark.parametrize("state", STEPS)
@pytest.mark.parametrize("stranger", [True, False])
def test_late_images(world: World, time: Time, state: State, stranger: bool) -> None:
    exam_id = register(world)
    declare(exam_id, 1)
    send(world, exam_id)
    work()
    to_state(world, exam_id, *STEPS[state])
    declare(exam_id, None)
    time.pass_(300)
    send(world, exam_id, **({"name": "ZHAO^LIU", "sex": "F", "patient_id": "P9"} if stranger else {}))
    work()
    time.pass_(QUIET + 1)
    work()
    exam = look(exam_id)
    assert exam.received_count == 2
    if state == State.TO_READ:
        assert exam.state == (State.TO_VERIFY if stranger else State.TO_READ)
        return
    assert exam.state == state
    assert exam.late_images_at is not None
    if state != State.SIGNED:
        # The images of somebody else must not be signed with the others.
        assert exam.identity == ("open" if stranger else "noted")


def test_a_decision_does_not_cover_what_comes_after_it(world: World, time: Time) -> None:
    exam_id = register(world)
    declare(exam_id, 1)
    send(world, exam_id, name="ZHAO^LIU")
    work()
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        registration.verify(session, world.actor("technologist"), exam, reason="同一人")
    with database().writing() as session:
        completeness.settle(session, SYSTEM, exam_id)
    assert (look(exam_id).state, look(exam_id).identity) == (State.TO_READ, "verified")
    declare(exam_id, 2)
    send(world, exam_id, name="QIAN^QI", sex="F", patient_id="P9")
    work()
    assert (look(exam_id).state, look(exam_id).identity) == (State.TO_VERIFY, "open")


def test_images_that_arrive_while_it_is_decided_are_counted(world: World) -> None:
    """Both begin before either commits (PostgreSQL); SQLite does them one after the other."""
    exam_id = register(world)
    declare(exam_id, 1)
    study, series = new_uid(), new_uid()
    send(world, exam_id, study=study, series=series)
    begun, errors = threading.Event(), []

    def settle() -> None:
        try:
            with database().writing() as session:
                completeness.settle(session, SYSTEM, exam_id)
                begun.set()
                threading.Event().wait(0.3)
        except Exception as error:
            errors.append(error)

    def more() -> None:
        begun.wait(5)
        try:
            send(world, exam_id, study=study, series=series)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=settle), threading.Thread(target=more)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
    assert not errors
    work()
    with database().writing() as session:
        completeness.settle(session, SYSTEM, exam_id)
    assert look(exam_id).received_count == 2
    assert get_settings().quiet_period_seconds == QUIET
