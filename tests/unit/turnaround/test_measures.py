"""Numbers counted by hand: stages, shares, the national indicator, what stays in a denominator."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.exams import limits
from hub.exams.limits import CLASS_NAMES
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.patients.models import Patient
from hub.turnaround import measures, service
from hub.turnaround.frame import pull
from hub.turnaround.measures import Cell
from hub.turnaround.service import Filters, Summary
from support.exam_population import a_patient, add_exam, add_transition, populate
from support.world import World

NOW = datetime(2026, 9, 24, 8, 0, tzinfo=UTC)  # Thursday 16:00 in the county
START = datetime(2026, 9, 22, 1, 0, tzinfo=UTC)  # Tuesday 09:00

STRAIGHT: dict[str, float | None] = {
    "first_image_at": 5,
    "received_at": 12,
    "reading_at": 40,
    "submitted_at": 55,
    "reviewing_at": 70,
    "signed_at": 75,
    "returned_at": 76,
    "seen_at": 136,
}


@pytest.fixture
def session(world: World) -> Iterator[Session]:
    """A transaction at a stopped clock."""
    clock.set_source(lambda: NOW)
    with database().writing() as session:
        yield session


@pytest.fixture
def patient(session: Session, world: World) -> Patient:
    """Whose exams they are."""
    return a_patient(session, world)


def period(first: str = "2026-09-01", last: str = "2026-09-24", **chosen: str) -> Filters:
    return service.make_filters(first, last, **chosen)


def seconds_of(session: Session, exam: Exam) -> dict[str, float | None]:
    """Each stage in minutes; what still runs counts until now."""
    line = service.lines(pull(session, Exam.id == exam.id), limits.load(session))[0]
    return {name: None if value is None else value / 60 for name, value in line.seconds.items()}


def whole(session: Session, world: World, by: str = "clinic") -> Summary:
    return service.summary(session, world.actor("administrator"), period(), service.grouping(by))


def test_stages_of_a_straight_exam(session: Session, world: World, patient: Patient) -> None:
    exam = add_exam(session, world, patient, START, minutes=STRAIGHT)
    assert seconds_of(session, exam) == {
        "upload": 12,
        "verify": None,
        "wait": 28,
        "read": 15,
        "review": 20,
        "return": 1,
        "seen": 60,
        "report": 63,
    }


def test_the_line_is_not_blamed_for_doubts_and_the_reader_not_for_the_line(
    session: Session, world: World, patient: Patient
) -> None:
    """Disagreement found after 10 minutes, decided after 50: 10 of upload, 40 of verification, none of them waiting."""
    doubted = add_exam(
        session,
        world,
        patient,
        START,
        minutes={"verify_since": 10, "verified_at": 50, "received_at": 50, "reading_at": 60, "submitted_at": 65},
    )
    found = seconds_of(session, doubted)
    assert (found["upload"], found["verify"], found["wait"], found["read"]) == (10, 40, 10, 5)
    later = add_exam(
        session,
        world,
        patient,
        START,
        minutes={"received_at": 10, "verify_since": 15, "verified_at": 35, "reading_at": 40, "submitted_at": 50},
    )
    found = seconds_of(session, later)
    assert (found["upload"], found["verify"], found["wait"]) == (10, 20, 10)
    slow = add_exam(session, world, patient, START, minutes={"received_at": 600, "reading_at": 601, "signed_at": 602})
    found = seconds_of(session, slow)
    assert (found["upload"], found["wait"], found["read"], found["review"], found["report"]) == (600, 1, 1, None, 2)


def test_rework_is_the_authors_and_a_preliminary_report_ends_the_writing(
    session: Session, world: World, patient: Patient
) -> None:
    rejected = add_exam(
        session,
        world,
        patient,
        START,
        state="rejected",
        minutes={"received_at": 10, "reading_at": 20, "submitted_at": 30, "rejected_at": 40},
    )
    found = seconds_of(session, rejected)
    assert found["read"] == (NOW - START).total_seconds() / 60 - 20, "the author has it again: it runs on"
    assert found["review"] is None
    preliminary = add_exam(
        session,
        world,
        patient,
        START,
        priority="emergency",
        minutes={"received_at": 10, "reading_at": 20, "preliminary_at": 30, "reviewing_at": 100, "signed_at": 110},
    )
    found = seconds_of(session, preliminary)
    assert (found["read"], found["review"], found["report"]) == (10, 80, 100)
    # Formal report within four working hours of the preliminary one.
    assert preliminary.due_at == datetime(2026, 9, 22, 7, 30, tzinfo=UTC)


def test_an_addendum_does_not_lengthen_the_first_return(session: Session, world: World, patient: Patient) -> None:
    exam = add_exam(session, world, patient, START, minutes=STRAIGHT)
    week = START + timedelta(days=1)
    add_transition(session, exam, week, "amend", "seen", "signed")
    add_transition(session, exam, week + timedelta(minutes=1), "return", "signed", "returned")
    session.execute(
        update(Exam).where(Exam.id == exam.id).values(state="returned", returned_at=week + timedelta(minutes=1))
    )
    session.expire(exam)
    found = seconds_of(session, exam)
    assert (found["return"], found["seen"]) == (1, 60)


def test_a_clock_that_is_a_little_ahead_gives_no_negative_time(
    session: Session, world: World, patient: Patient
) -> None:
    exam = add_exam(session, world, patient, START, minutes={"exam_at": 20, "received_at": 12})
    assert seconds_of(session, exam)["upload"] == 0


def test_median_p90_and_share_by_hand(session: Session, world: World, patient: Patient) -> None:
    """Ten routine X-rays of one clinic wait 10, 20, … 100 minutes; the limit of the stage is 30."""
    for number in range(1, 11):
        minutes = {**STRAIGHT, "reading_at": 12.0 + 10 * number}
        minutes.update(submitted_at=22.0 + 10 * number, signed_at=32.0 + 10 * number, returned_at=None, seen_at=None)
        add_exam(session, world, patient, START, minutes=minutes)
    found = whole(session, world)
    assert [group.key for group in found.groups] == [world.orgs["C01"].id]
    wait = found.groups[0].cells["wait"]
    assert (wait.n, wait.median, wait.p90, wait.total) == (10, 55 * 60, 91 * 60, 550 * 60)
    assert (wait.within, wait.due, wait.share) == (3, 10, 0.3)
    report = found.total.cells["report"]
    # Signed 30, 40, … 120 minutes after reception; the limit is 120 and counts as kept.
    assert (report.median, report.p90, report.share) == (75 * 60, 111 * 60, 1.0)
    # Nothing was returned, and all ten have waited for it for two days.
    assert found.total.cells["return"] == Cell(n=0, median=None, p90=None, total=0.0, due=10, within=0, late_open=10)
    assert found.total.cells["return"].share == 0.0


def test_an_empty_denominator_is_no_data(session: Session, world: World, patient: Patient) -> None:
    found = whole(session, world)
    assert found.groups == []
    assert found.total.exams == 0
    for cell in found.total.cells.values():
        assert (cell.n, cell.median, cell.p90, cell.share) == (0, None, None, None)
    assert found.total.national.share is None
    # One that is in time and unfinished is not due: still no data, not 0 %.
    add_exam(session, world, patient, NOW - timedelta(minutes=30), minutes={"received_at": 20.0})
    found = whole(session, world)
    assert found.total.exams == 1
    assert found.total.cells["report"].share is None
    assert found.total.cells["wait"].share is None


def test_overdue_and_unfinished_stays_in_the_denominator(session: Session, world: World, patient: Patient) -> None:
    add_exam(session, world, patient, START, minutes=STRAIGHT)
    add_exam(session, world, patient, START, minutes={"received_at": 12.0})
    add_exam(session, world, patient, START, minutes={**STRAIGHT, "signed_at": 133.0, "returned_at": 134.0})
    report = whole(session, world).total.cells["report"]
    assert (report.n, report.within, report.due, report.late_open) == (2, 1, 3, 1)
    assert report.share == pytest.approx(1 / 3)


def test_who_was_cancelled_void_or_sent_back_is_not_waited_for(
    session: Session, world: World, patient: Patient
) -> None:
    for state in ("cancelled", "void"):
        add_exam(session, world, patient, START, state=state, minutes={"received_at": 12.0, "ended_at": 20.0})
    add_exam(
        session,
        world,
        patient,
        START,
        state="retake",
        minutes={"received_at": 12.0, "reading_at": 15, "ended_at": 20.0},
    )
    found = whole(session, world).total
    assert found.exams == 1
    assert (found.cells["wait"].n, found.cells["read"].due, found.cells["report"].due) == (1, 0, 0)


def test_national_indicator(session: Session, world: World, patient: Patient) -> None:
    """Emergency X-ray and CT from exam start, the upload included."""

    def emergency(signed: float | None, **columns: str) -> None:
        minutes = {"received_at": 10.0, "reading_at": 11.0, **({"signed_at": signed} if signed else {})}
        add_exam(
            session, world, patient, START, minutes=minutes, **{"priority": "emergency", "modality": "CT", **columns}
        )

    emergency(60)
    emergency(120)
    emergency(121)
    emergency(None)  # two days old: overdue, stays in the denominator
    emergency(60, modality="US")  # neither X-ray nor CT
    emergency(60, priority="routine")  # no emergency …
    emergency(60, priority="routine", encounter="emergency", modality="DX")  # … but ordered by an emergency department
    late_line = {"received_at": 125.0, "reading_at": 126.0, "signed_at": 130.0}
    add_exam(session, world, patient, START, minutes=late_line, priority="emergency", modality="DX")
    add_exam(session, world, patient, NOW - timedelta(minutes=90), minutes={"received_at": 5.0}, priority="emergency")
    share = whole(session, world).total.national
    assert (share.done, share.of) == (3, 6)


def test_marks_what_is_not_the_modalitys_clock(session: Session, world: World, patient: Patient) -> None:
    for source in ("modality", "registration", "arrival"):
        add_exam(session, world, patient, START, minutes=STRAIGHT, exam_at_source=source)
    assert whole(session, world).marked == 2


def test_groups(session: Session, world: World, patient: Patient) -> None:
    other = a_patient(session, world, "C02")
    add_exam(session, world, patient, START, minutes=STRAIGHT, modality="CT", priority="emergency", body_parts=["head"])
    add_exam(session, world, patient, START, minutes=STRAIGHT, modality="DX")
    add_exam(
        session,
        world,
        other,
        START + timedelta(hours=16),
        clinic="C02",
        hospital="H02",
        author="reporter.h02",
        reviewer="reviewer.h02",
        minutes=STRAIGHT,
    )
    add_exam(session, world, other, START, clinic="C02", hospital=None, minutes={"received_at": 5.0})

    def counts(by: str) -> dict[str, int]:
        return {group.key: group.exams for group in whole(session, world, by).groups}

    orgs, people = world.orgs, world.people
    assert counts("clinic") == {orgs["C01"].id: 2, orgs["C02"].id: 2}
    assert counts("hospital") == {orgs["H01"].id: 2, orgs["H02"].id: 1, "none": 1}
    assert counts("author") == {people["reporter"].id: 2, people["reporter.h02"].id: 1, "none": 1}
    assert counts("reviewer") == {people["reviewer"].id: 2, people["reviewer.h02"].id: 1, "none": 1}
    assert counts("modality") == {"DX": 3, "CT": 1}
    assert counts("priority") == {"emergency": 1, "routine": 3}
    assert counts("class") == {"emergency_ct_head": 1, "routine_xray": 3}
    # 16 hours after Tuesday 09:00 it is Wednesday in the county, though Tuesday in UTC.
    assert counts("day") == {"2026-09-22": 3, "2026-09-23": 1}


def test_period_is_of_local_days(session: Session, world: World, patient: Patient) -> None:
    midnight = datetime(2026, 9, 21, 16, 0, tzinfo=UTC)
    for offset in (-1, 0, 24 * 60 - 1, 24 * 60):
        add_exam(session, world, patient, midnight + timedelta(minutes=offset))
    found = service.exams(session, world.actor("quality"), period("2026-09-22", "2026-09-22"))
    assert found.total == 2


def test_the_exams_behind_a_number_are_as_many_as_it_says(session: Session, world: World) -> None:
    """Some hundreds of exams: each cell's counts are the lengths of the lists that it leads to."""
    populate(session, world, exams=300, days=5)
    actor = world.actor("administrator")
    for by in ("hospital", "class", "reviewer", "day"):
        found = whole(session, world, by)
        assert sum(group.exams for group in found.groups) == found.total.exams > 250
        for group in found.groups:
            name = {"class": "klass"}.get(by, by)
            for stage in ("wait", "report", "seen"):
                cell = group.cells[stage]
                for late, count in (
                    ("", group.exams),
                    ("within", cell.within),
                    ("late", cell.due - cell.within),
                    ("open", cell.late_open),
                    ("done", cell.n),
                ):
                    chosen = period(stage=stage, late=late, **{name: group.key})
                    assert service.exams(session, actor, chosen, size=1).total == count, (by, group.key, stage, late)


def test_numbers_of_a_population_against_another_way_of_counting(session: Session, world: World) -> None:
    exams = populate(session, world, exams=300, days=10)
    found = whole(session, world).total
    waits = [
        int((exam.reading_at - exam.received_at).total_seconds())
        for exam in exams
        if exam.reading_at is not None and exam.received_at is not None
    ]
    cell = found.cells["wait"]
    assert cell.n == len(waits)
    # Whole seconds of two moments: at most one apart.
    assert cell.median == pytest.approx(statistics.median(waits), abs=1)
    ranked = sorted(waits)
    place = 0.9 * (len(ranked) - 1)
    low = ranked[int(place)]
    assert cell.p90 == pytest.approx(low + (ranked[int(place) + 1] - low) * (place - int(place)), abs=1)
    due = [exam for exam in exams if exam.due_at and (exam.signed_at or exam.due_at < NOW)]
    assert found.cells["report"].due == len(due)
    assert found.cells["report"].within == sum(
        1 for exam in due if exam.signed_at and exam.due_at and exam.signed_at <= exam.due_at
    )


def test_pages_come_longest_first(session: Session, world: World) -> None:
    populate(session, world, exams=120, days=5)
    pages = [
        service.exams(session, world.actor("director"), period(stage="read"), page=page, size=50) for page in (1, 2, 3)
    ]
    found = [line for page in pages for line in page.lines]
    assert len({line.id for line in found}) == len(found) == pages[0].total
    lengths = [line.seconds["read"] if line.seconds["read"] is not None else -1 for line in found]
    assert lengths == sorted(lengths, reverse=True)


def test_classes_in_sql_are_the_classes_in_python(session: Session, world: World, patient: Patient) -> None:
    for modality in ("CT", "DX", "MG", "US", "OT"):
        for priority in ("emergency", "urgent", "routine"):
            for encounter in ("outpatient", "inpatient"):
                for parts in (["head"], ["head", "chest"], ["hand"]):
                    add_exam(
                        session,
                        world,
                        patient,
                        START,
                        modality=modality,
                        priority=priority,
                        encounter=encounter,
                        body_parts=parts,
                    )
    add_exam(session, world, patient, START, minutes={"received_at": 1, "preliminary_at": 2, "consultation_at": 3})
    add_exam(session, world, patient, START, minutes={"received_at": 1, "consultation_at": 3})
    frame = pull(session)
    everything = {exam.id: exam for exam in session.query(Exam)}
    assert all(limits.class_of(everything[key]) == klass for key, klass in zip(frame.id, frame.klass, strict=True))
    for klass in CLASS_NAMES:
        chosen = service.select_frame(session, period(klass=klass))
        assert set(chosen.id) == set(frame.id[frame.klass == klass]), klass


def test_waits_in_sum_and_of_one_exam(session: Session, world: World, patient: Patient) -> None:
    exam = add_exam(session, world, patient, START, minutes=STRAIGHT)
    add_exam(session, world, patient, START, minutes={"first_image_at": 10, "received_at": 20})
    actor = world.actor("administrator")
    found = {wait.state: (wait.times, wait.seconds / 60) for wait in service.waits(session, actor, period())}
    since = (NOW - START).total_seconds() / 60
    assert found == {
        State.REGISTERED: (2, 5 + 10),
        State.RECEIVING: (2, 7 + 10),
        State.TO_READ: (2, 28 + since - 20),
        State.READING: (1, 15),
        State.TO_REVIEW: (1, 15),
        State.REVIEWING: (1, 5),
        State.SIGNED: (1, 1),
        State.RETURNED: (1, 60),
    }
    detail = service.detail(session, actor, exam.id)
    assert {wait.state: wait.seconds / 60 for wait in detail.sums} == {
        State.REGISTERED: 5,
        State.RECEIVING: 7,
        State.TO_READ: 28,
        State.READING: 15,
        State.TO_REVIEW: 15,
        State.REVIEWING: 5,
        State.SIGNED: 1,
        State.RETURNED: 60,
    }
    assert [step.event for step in detail.steps][:3] == ["", "images_arrive", "complete"]


def test_board(session: Session, world: World, patient: Patient) -> None:
    def recent(minutes_ago: float, **columns: object) -> Exam:
        return add_exam(session, world, patient, NOW - timedelta(minutes=minutes_ago), **columns)  # type: ignore[arg-type]

    recent(50, minutes={"exam_at": None})  # registered, nothing came
    recent(40, minutes={"first_image_at": 5})
    recent(30, minutes={"received_at": 10})  # due in 100 minutes
    recent(110, minutes={"received_at": 10})  # due in 20 minutes
    late = recent(200, minutes={"received_at": 10, "reading_at": 20}, priority="emergency")  # 160 minutes over
    later = recent(150, minutes={"received_at": 10, "reading_at": 20, "submitted_at": 30}, hospital="H02")  # 20 over
    recent(100, minutes=dict(STRAIGHT, seen_at=None))  # signed today in time
    recent(24 * 60, minutes=dict(STRAIGHT, seen_at=None))  # yesterday
    board = service.board(session, world.actor("director"))
    counts = {row.state.value: row.count for row in board.waiting if row.count}
    assert counts == {"registered": 1, "receiving": 1, "to_read": 2, "reading": 1, "to_review": 1, "returned": 2}
    assert {row.state.value: row.overdue for row in board.waiting if row.overdue} == {"reading": 1, "to_review": 1}
    assert (board.unfinished, board.overdue, board.soon, board.signed_today) == (6, 2, 1, 1)
    assert board.returned_unseen == 2
    assert board.registered_today == 7
    assert [line.id for line in board.overdue_lines] == [late.id, later.id]
    # One signed in time; two overdue stay in the denominator.
    assert (board.timely.done, board.timely.of) == (1, 3)
    assert (board.national.done, board.national.of) == (0, 1)
    loads = {load.hospital: (load.to_read, load.reading, load.to_review, load.overdue) for load in board.hospitals}
    assert loads == {world.orgs["H01"].id: (2, 1, 0, 1), world.orgs["H02"].id: (0, 0, 1, 1)}
    oldest = {row.state.value: row.since for row in board.waiting}
    assert oldest["to_read"] == NOW - timedelta(minutes=100)


def test_an_empty_county(session: Session, world: World) -> None:
    actor = world.actor("administrator")
    board = service.board(session, actor)
    assert (board.unfinished, board.overdue, board.timely.share, board.hospitals) == (0, 0, None, [])
    assert service.exams(session, actor, period()).lines == []
    assert service.waits(session, actor, period()) == []
    assert len(pull(session)) == 0
    assert np.isnan(measures.stages(pull(session), limits.DEFAULTS)["wait"].seconds).all()
