"""Limits: each class, its clock, and what a setting may say."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hub.exams import limits
from hub.exams.limits import DEFAULTS, first_class, parse
from hub.kit.db import database
from hub.kit.errors import Invalid
from support.exam_population import a_patient, add_exam
from support.world import World

CHINA = ZoneInfo("Asia/Shanghai")
FRIDAY = datetime(2026, 9, 25, 16, 0, tzinfo=CHINA)


@pytest.mark.parametrize(
    ("modality", "priority", "encounter", "parts", "key", "minutes", "working"),
    [
        ("DX", "emergency", "emergency", ["chest"], "emergency_xray", 30, False),
        ("CT", "emergency", "emergency", ["head"], "emergency_ct_head", 30, False),
        ("CT", "emergency", "emergency", ["head", "chest"], "emergency_ct", 60, False),
        ("CT", "emergency", "inpatient", ["abdomen"], "emergency_ct", 60, False),
        ("MR", "emergency", "emergency", ["head"], "emergency_other", 60, False),
        ("DX", "urgent", "outpatient", ["hand"], "urgent_xray", 60, False),
        ("CT", "urgent", "inpatient", ["head"], "urgent_ct", 120, False),
        ("US", "urgent", "outpatient", ["abdomen"], "urgent_other", 120, False),
        ("DX", "routine", "inpatient", ["chest"], "routine_xray", 120, False),
        ("MG", "routine", "outpatient", ["breast"], "routine_xray", 120, False),
        ("CT", "routine", "outpatient", ["head"], "ct_outpatient", 240, True),
        ("CT", "routine", "checkup", ["chest"], "ct_outpatient", 240, True),
        ("CT", "routine", "inpatient", ["chest"], "ct_inpatient", 360, True),
        ("OT", "routine", "outpatient", [], "routine_other", 360, True),
    ],
)
def test_class_of_an_exam(
    modality: str, priority: str, encounter: str, parts: list[str], key: str, minutes: int, working: bool
) -> None:
    assert first_class(modality, priority, encounter, parts) == key
    limit = DEFAULTS.classes[key]
    assert (limit.minutes, limit.working, limit.clock) == (minutes, working, "received")


def test_due_by_the_clock_of_its_class(world: World) -> None:
    with database().writing() as session:
        patient = a_patient(session, world)

        def due(**columns: Any) -> datetime | None:
            minutes = columns.pop("minutes", {"received_at": 10.0})
            return limits.due_at(session, add_exam(session, world, patient, FRIDAY, minutes=minutes, **columns))

        received = FRIDAY + timedelta(minutes=10)
        assert due(minutes={}) is None
        assert due(modality="DX", priority="emergency") == received + timedelta(minutes=30)
        assert due(modality="DX") == received + timedelta(hours=2)
        # 16:10–17:30 on Friday are 80 working minutes; 160 more from Monday 08:00.
        assert due(modality="CT", encounter="outpatient") == datetime(2026, 9, 28, 10, 40, tzinfo=CHINA)
        # 280 more: 08:00–12:00 and 40 minutes from 14:00.
        assert due(modality="CT", encounter="inpatient") == datetime(2026, 9, 28, 14, 40, tzinfo=CHINA)
        issued = {"received_at": 10.0, "reading_at": 12.0, "preliminary_at": 30.0}
        # From the preliminary report at 16:30: 60 minutes on Friday, 180 on Monday.
        assert due(modality="CT", priority="emergency", minutes=issued) == datetime(2026, 9, 28, 11, 0, tzinfo=CHINA)
        discussed = {"received_at": 10.0, "reading_at": 12.0, "consultation_at": 30.0}
        assert due(modality="CT", minutes=discussed) == received + timedelta(hours=24)


def test_a_limit_may_start_at_another_clock(world: World) -> None:
    from hub.sites.models import CountySetting

    value = {"classes": {"routine_xray": {"minutes": 45, "clock": "exam", "working": False}}}
    with database().writing() as session:
        session.add(CountySetting(name="limits", value=value, changed_at=FRIDAY, changed_by="x"))
        session.flush()
        exam = add_exam(
            session, world, a_patient(session, world), FRIDAY, minutes={"received_at": 30.0, "exam_at": 5.0}
        )
        assert exam.due_at == FRIDAY + timedelta(minutes=50)
        assert limits.limit_for(session, exam).minutes == 45
        assert limits.load(session).classes["emergency_ct"] == DEFAULTS.classes["emergency_ct"]


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"classes": {"emergency_ct": {"minutes": 0}}}, "classes.emergency_ct.minutes"),
        ({"classes": {"emergency_ct": {"minutes": 1.5}}}, "classes.emergency_ct.minutes"),
        ({"classes": {"emergency_ct": {"minutes": True}}}, "classes.emergency_ct.minutes"),
        ({"classes": {"emergency_ct": {"minutes": 10**9}}}, "classes.emergency_ct.minutes"),
        ({"classes": {"emergency_ct": {"clock": "signed"}}}, "classes.emergency_ct.clock"),
        ({"classes": {"emergency_ct": {"clock": "preliminary"}}}, "classes.emergency_ct.clock"),
        ({"classes": {"emergency_ct": {"working": "yes"}}}, "classes.emergency_ct.working"),
        ({"classes": {"lunch": {"minutes": 60}}}, "classes.lunch"),
        ({"classes": []}, "classes"),
        ({"stages": {"read": -1}}, "stages.read"),
        ({"stages": {"nap": 5}}, "stages.nap"),
        ({"national_minutes": "120"}, "national_minutes"),
        ({"national_target": 101}, "national_target"),
    ],
)
def test_refuses_what_is_no_limit(value: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse(value)
    assert field in refusal.value.fields


def test_the_setting_gives_the_limits_again() -> None:
    assert parse(limits.to_json(DEFAULTS)) == DEFAULTS
    assert parse({}) == DEFAULTS
