"""Alerts at 50, 80 and 100 percent of a limit: each once, to those concerned, and gone when they were seen."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from hub.exams import limits
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock, live
from hub.kit.db import database
from hub.reading.routing import alerts
from hub.reading.routing.models import LimitAlert
from hub.sites.models import CountySetting
from hub.turnaround.service import refresh_due
from support.meeting import meet
from support.reading import claim, make_exam, ok
from workers import routing as worker

START = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
"""A Monday, 10:00 in the county."""


def at(minutes: float) -> None:
    clock.set_source(lambda: START + timedelta(minutes=minutes))


def emergency(world, **more) -> str:
    """An emergency CT of the chest, received at START: 60 minutes."""
    at(0)
    return make_exam(world, priority="emergency", body_parts=["chest"], waited_minutes=0, due_minutes=60, **more)


def raised() -> list[tuple[int, str]]:
    with database().reading() as session:
        rows = session.scalars(select(LimitAlert).where(LimitAlert.raised_at.is_not(None)).order_by(LimitAlert.level))
        return [(one.level, one.state) for one in rows]


def said() -> list[dict]:
    with database().reading() as session:
        rows = session.scalars(select(live.Change).order_by(live.Change.id))
        return [change.data for change in rows if change.topic == "alert"]


def test_each_level_once(world):
    emergency(world)
    for minute, wanted in ((29, []), (30, [50]), (31, [50]), (48, [50, 80]), (59, [50, 80]), (60, [50, 80, 100])):
        at(minute)
        worker.raise_alerts()
        worker.raise_alerts()
        assert [level for level, _state in raised()] == wanted
    at(600)
    worker.raise_alerts()
    assert [one["level"] for one in said() if one.get("event") == "limit_alert"] == [50, 80, 100]


def test_after_a_silence_only_the_highest_is_raised(world):
    emergency(world)
    at(55)
    worker.raise_alerts()
    assert raised() == [(80, "raised")]


@pytest.mark.server
def test_two_workers_raise_once(world):
    emergency(world)
    worker.raise_alerts()
    at(31)

    def again():
        with database().writing() as session:
            return alerts.raise_due(session)

    assert meet(alerts.raise_due, again) == 0
    assert raised() == [(50, "raised")]


def test_who_hears_of_it(world):
    exam_id = emergency(world)
    claim(world.client("reporter"), exam_id)
    at(9)
    with database().writing() as session:
        session.get_one(Exam, exam_id).lease_until = START + timedelta(minutes=90)
    at(31)
    worker.raise_alerts()
    with database().reading() as session:
        (change,) = [one for one in session.scalars(select(live.Change)) if one.topic == "alert"]
        assert change.orgs == [world.orgs["H01"].id], "no clinic, no other hospital"
        assert (change.data["level"], change.data["holder"]) == (50, world.people["reporter"].id)
    for login, wanted in (
        ("reporter", 1), ("reviewer", 1), ("director", 1), ("administrator", 1), ("reporter.h02", 0)
    ):  # fmt: skip
        assert len(ok(world.client(login).get("/api/alerts"))["alerts"]) == wanted
    (mine,) = ok(world.client("reporter").get("/api/alerts"))["alerts"]
    assert (mine["level"], mine["mine"]) == (50, True)
    for login in ("reporter", "administrator"):
        client = world.client(login)
        assert 'href="/alerts">时限提醒<span class="count">1</span>' in client.get("/nav").text
        page = client.get("/alerts").text
        assert mine["accession"] in page
        assert ("王伟" in page) is (login == "reporter"), "the community's office reads nobody's name"
        assert (f"/turnaround/exams/{exam_id}" in page) is (login == "administrator")


def test_each_side_acknowledges_for_itself_and_the_next_level_comes_back(world):
    emergency(world)
    at(31)
    worker.raise_alerts()
    reader, director = world.client("reporter"), world.client("director")
    (alert,) = ok(reader.get("/api/alerts"))["alerts"]
    stranger = world.client("reporter.h02").post("/api/alerts/acknowledge", json={"ids": [alert["id"]]})
    assert stranger.status_code == 404
    assert ok(reader.post("/api/alerts/acknowledge", json={"ids": [alert["id"]]}))["count"] == 1
    assert ok(world.client("reviewer").get("/api/alerts"))["alerts"] == [], "one of the hospital has seen it"
    assert len(ok(director.get("/api/alerts"))["alerts"]) == 1
    ok(director.post("/api/alerts/acknowledge", json={"ids": [alert["id"]]}))
    assert raised() == [(50, "closed")]
    at(49)
    worker.raise_alerts()
    assert [one["level"] for one in ok(reader.get("/api/alerts"))["alerts"]] == [80]
    assert [one["level"] for one in ok(director.get("/api/alerts"))["alerts"]] == [80]


def test_a_report_ends_its_alerts(world):
    exam_id = emergency(world)
    at(61)
    worker.raise_alerts()
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = State.SIGNED.value
    assert ok(world.client("director").get("/api/alerts"))["alerts"] == []
    worker.raise_alerts()
    assert raised() == [(100, "closed")]
    later = emergency(world)
    worker.raise_alerts()
    with database().writing() as session:
        session.get_one(Exam, later).state = State.CANCELLED.value
    at(70)
    worker.raise_alerts()
    assert raised() == [(100, "closed")]


def test_while_the_clock_stands_still_nothing_is_raised_and_the_rest_of_the_limit_counts(world):
    exam_id = emergency(world)
    worker.raise_alerts()
    at(20)
    reader = world.client("reporter")
    lease = claim(reader, exam_id)
    reason = {"lease": lease, "reason": "有无外伤?", "text": "有无外伤?"}
    ok(reader.post(f"/api/exams/{exam_id}/request-history", json=reason))
    at(50)
    worker.raise_alerts()
    assert raised() == []
    answer = world.client("technologist").post(f"/api/exams/{exam_id}/answer-history", json={"text": "有"})
    assert answer.status_code == 200
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert exam.due_at == START + timedelta(minutes=90), "thirty minutes were the clinic's"
    at(59)
    worker.raise_alerts()
    assert raised() == []
    at(61)
    worker.raise_alerts()
    assert raised() == [(50, "raised")]


def test_a_changed_limit_moves_what_is_still_to_come(world):
    exam_id = emergency(world)
    worker.raise_alerts()
    at(31)
    worker.raise_alerts()
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        exam.priority, exam.priority_rank = "urgent", 1
        refresh_due(session)
    at(50)
    worker.raise_alerts()
    # An urgent CT has 120 minutes: its own alerts, and the emergency's are no matter any more.
    with database().reading() as session:
        rows = {(one.limit_key, one.level): one.state for one in session.scalars(select(LimitAlert))}
    assert rows[("emergency_ct", 50)] == "closed"
    assert rows[("urgent_ct", 50)] == "waiting"
    at(61)
    worker.raise_alerts()
    assert [level for level, state in raised() if state == "raised"] == [50]


def test_working_hours_are_counted_in_working_minutes(world):
    """Outpatient CT, four working hours from Monday 16:00 in the county: half of it ends on Tuesday at 08:30."""
    clock.set_source(lambda: START + timedelta(hours=6))
    exam_id = make_exam(world, waited_minutes=0, due_minutes=None)
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        exam.due_at = limits.due_at(session, exam)
        half = alerts.moment(session, exam, limits.limit_for(session, exam), 50)
        assert half == datetime(2026, 3, 3, 0, 30, tzinfo=UTC)
        assert alerts.moment(session, exam, limits.limit_for(session, exam), 100) == exam.due_at


def test_marks_in_the_queue_and_above_it(world):
    exam_id = emergency(world)
    at(55)
    worker.raise_alerts()
    page = world.client("reporter").get("/queue").text
    assert "80 %" in page
    assert f"/read/{exam_id}" in page
    assert "1 份检查的时限将到或已过" in page


def test_an_exam_that_comes_back_is_watched_again(world):
    """Returned for a retake that the clinic cannot take: what ran out meanwhile, and what is to come, is said."""
    exam_id = emergency(world)
    other = emergency(world, name="李娜")
    at(49)
    worker.raise_alerts()
    assert raised() == [(80, "raised"), (80, "raised")]
    for minute, state in ((50, State.RETAKE), (61, State.RETAKE), (62, State.TO_READ)):
        at(minute)
        with database().writing() as session:
            session.get_one(Exam, exam_id).state = state.value
            if state is State.RETAKE:
                session.get_one(Exam, other).state = State.SIGNED.value
        worker.raise_alerts()
        worker.raise_alerts()
    with database().reading() as session:
        rows = {(one.exam_id, one.level): one.state for one in session.scalars(select(LimitAlert))}
    assert (rows[exam_id, 100], rows[other, 100]) == ("raised", "closed")
    at(63)
    worker.raise_alerts()
    assert [one["level"] for one in said() if one.get("event") == "limit_alert"] == [80, 80, 100]


def test_the_former_limit_counts_again_when_it_is_the_limit_again(world):
    exam_id = emergency(world)
    worker.raise_alerts()
    for priority, rank in (("urgent", 1), ("emergency", 0)):
        with database().writing() as session:
            exam = session.get_one(Exam, exam_id)
            exam.priority, exam.priority_rank = priority, rank
            refresh_due(session)
        worker.raise_alerts()
    at(31)
    worker.raise_alerts()
    assert [(level, state) for level, state in raised() if state == "raised"] == [(50, "raised")]


def test_due_times_older_than_the_limits_clock_do_not_keep_others_from_being_watched(world):
    """The county lets a limit begin at the exam's start; of some that wait nobody knows it."""
    for _number in range(2):
        emergency(world, exam_at=None, with_study=False)
    last = emergency(world, with_study=False)
    with database().writing() as session:
        rules = limits.to_json(limits.load(session))
        rules["classes"]["emergency_ct"]["clock"] = "exam"
        session.add(CountySetting(name=limits.SETTING, value=rules, changed_at=clock.now(), changed_by="test"))
    for _number in range(2):
        with database().writing() as session:
            alerts.watch(session, limit=2)
    with database().reading() as session:
        assert session.scalars(select(LimitAlert).where(LimitAlert.exam_id == last)).first() is not None
