"""Working time: hand-counted cases across weekends, holidays and make-up days, and what must hold for any."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.exams import calendar
from hub.exams.calendar import DEFAULT, WorkingCalendar, parse
from hub.kit.errors import Invalid

ZONE = "Asia/Shanghai"
CHINA = ZoneInfo(ZONE)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=CHINA)


@pytest.fixture
def office() -> WorkingCalendar:
    """Monday to Friday 8–12 and 14–17:30; National Day 1–7 October 2026, Saturday 10 October worked instead."""
    holidays = [f"2026-10-0{day}" for day in range(1, 8)]
    return parse({**DEFAULT, "holidays": holidays, "make_up": ["2026-10-10"]}, ZONE)


@pytest.mark.parametrize(
    ("start", "minutes", "end"),
    [
        ("2026-09-21T08:00", 240, "2026-09-21T12:00"),
        ("2026-09-21T11:30", 60, "2026-09-21T14:30"),
        ("2026-09-21T12:30", 1, "2026-09-21T14:01"),
        ("2026-09-21T17:00", 240, "2026-09-22T11:30"),
        ("2026-09-25T17:00", 240, "2026-09-28T11:30"),  # over a weekend
        ("2026-09-26T03:00", 450, "2026-09-28T17:30"),  # from a Saturday night, a whole day
        ("2026-09-30T17:00", 60, "2026-10-08T08:30"),  # over the holidays
        ("2026-10-09T17:00", 240, "2026-10-10T11:30"),  # into a Saturday that is worked
        ("2026-10-10T17:00", 240, "2026-10-12T11:30"),
        ("2026-09-21T23:59", 0, "2026-09-21T23:59"),
    ],
)
def test_adds_working_minutes(office: WorkingCalendar, start: str, minutes: int, end: str) -> None:
    assert office.add_working_minutes(at(start), minutes) == at(end)
    assert office.working_minutes_between(at(start), at(end)) == minutes


def test_counts_working_minutes(office: WorkingCalendar) -> None:
    assert office.working_minutes_between(at("2026-09-21T11:00"), at("2026-09-21T15:00")) == 120
    assert office.working_minutes_between(at("2026-09-21T15:00"), at("2026-09-21T11:00")) == -120
    assert office.working_minutes_between(at("2026-10-01T00:00"), at("2026-10-08T00:00")) == 0
    # 5 whole days before, 1 working Saturday.
    assert office.working_minutes_between(at("2026-09-20T00:00"), at("2026-09-27T00:00")) == 5 * 450
    assert office.is_working(at("2026-10-10T09:00"))
    assert not office.is_working(at("2026-10-10T12:00"))
    assert not office.is_working(at("2026-10-01T09:00"))


def test_yearly_holidays_and_the_zone() -> None:
    defaults = parse(DEFAULT, ZONE)
    assert defaults.hours(date(2031, 10, 1)) == ()
    assert defaults.hours(date(2031, 10, 8)) != ()
    # 08:00 in China is midnight in UTC, whatever the season: the zone has no summer time.
    for month in (1, 7):
        begin = defaults.spans(date(2026, month, 6))[0][0]
        assert begin == datetime(2026, month, 6, 0, 0, tzinfo=UTC)


def test_round_the_clock_is_elapsed_time() -> None:
    always = parse({"week": [[["00:00", "24:00"]]] * 7}, ZONE)
    start = at("2026-09-26T23:50")
    assert always.add_working_minutes(start, 3000) == start + timedelta(minutes=3000)
    assert always.working_minutes_between(start, start + timedelta(days=3)) == 3 * 1440


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"week": []}, "week"),
        ({"week": [[]] * 7}, "week"),
        ({"week": [[["08:00"]]] + [[]] * 6}, "week.0"),
        ({"week": [[["12:00", "08:00"]]] + [[]] * 6}, "week.0"),
        ({"week": [[["08:00", "12:00"], ["11:00", "13:00"]]] + [[]] * 6}, "week.0"),
        ({"week": [[["08:00", "25:00"]]] + [[]] * 6}, "week.0"),
        ({"week": [[["08:61", "09:00"]]] + [[]] * 6}, "week.0"),
        ({"holidays": ["2026-02-30"]}, "holidays"),
        ({"holidays": ["13-01"]}, "holidays"),
        ({"make_up": ["10-01"]}, "make_up"),
        ({"make_up": ["2026-02-14"], "make_up_hours": []}, "make_up_hours"),
    ],
)
def test_refuses_what_is_no_calendar(change: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        parse({**DEFAULT, **change}, ZONE)
    assert field in refusal.value.fields


_MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(CHINA))  # noqa: DTZ001


@st.composite
def calendars(draw: st.DrawFn) -> WorkingCalendar:
    def spans() -> list[list[str]]:
        ends = sorted(draw(st.sets(st.integers(0, 1440), max_size=4)))
        pairs = zip(ends[::2], ends[1::2], strict=False)
        return [[f"{first // 60:02d}:{first % 60:02d}", f"{last // 60:02d}:{last % 60:02d}"] for first, last in pairs]

    week = [spans() for _day in range(7)]
    week[draw(st.integers(0, 6))] = [["08:00", "12:00"]]
    days = st.dates(date(2024, 1, 1), date(2028, 1, 1)).map(date.isoformat)
    return parse(
        {
            "week": week,
            "holidays": draw(st.lists(days, max_size=20)),
            "make_up": draw(st.lists(days, max_size=5)),
            "make_up_hours": [["09:00", "11:00"]],
        },
        ZONE,
    )


@given(calendars(), _MOMENTS, st.integers(1, 3000))
def test_adding_and_counting_agree(office: WorkingCalendar, start: datetime, minutes: int) -> None:
    end = office.add_working_minutes(start, minutes)
    assert end > start
    assert office.working_minutes_between(start, end) == pytest.approx(minutes)
    # The first such moment: a little earlier it was not yet enough.
    assert office.working_minutes_between(start, end - timedelta(seconds=1)) < minutes


@given(calendars(), _MOMENTS, st.integers(0, 1000), st.integers(0, 1000))
def test_adding_twice_is_adding_the_sum(office: WorkingCalendar, start: datetime, one: int, two: int) -> None:
    if one:
        assert office.add_working_minutes(office.add_working_minutes(start, one), two) == (
            office.add_working_minutes(start, one + two)
        )


@given(calendars(), st.tuples(_MOMENTS, _MOMENTS, _MOMENTS).map(sorted))
def test_counting_is_additive_and_never_more_than_elapsed(office: WorkingCalendar, moments: list[datetime]) -> None:
    first, middle, last = moments
    whole = office.working_minutes_between(first, last)
    parts = office.working_minutes_between(first, middle) + office.working_minutes_between(middle, last)
    assert whole == pytest.approx(parts)
    assert 0 <= whole <= (last - first).total_seconds() / 60 + 1e-6


@given(calendars())
def test_the_setting_gives_the_calendar_again(office: WorkingCalendar) -> None:
    assert parse(calendar.to_json(office), ZONE) == office
