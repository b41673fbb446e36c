"""The county's working calendar: hours of each weekday, holidays, make-up working days. Times in and out are aware.

The value lives in the county setting `calendar`. Which days around a holiday are worked is announced anew every year,
so only the statutory days with a fixed date stand in the defaults.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.sites.models import CountySetting

SETTING = "calendar"

Span = tuple[int, int]
"""From and to, in minutes after local midnight; 1440 is the next midnight."""

_DAY = 24 * 60
_OFFICE: list[list[str]] = [["08:00", "12:00"], ["14:00", "17:30"]]

DEFAULT: dict[str, Any] = {
    "week": [_OFFICE, _OFFICE, _OFFICE, _OFFICE, _OFFICE, [], []],
    "holidays": ["01-01", "05-01", "05-02", "10-01", "10-02", "10-03"],
    "make_up": [],
    "make_up_hours": _OFFICE,
}
"""Monday first. A holiday is `MM-DD` (each year) or `YYYY-MM-DD`; a make-up working day `YYYY-MM-DD`."""

WEEKDAYS: tuple[Message, ...] = (_("周一"), _("周二"), _("周三"), _("周四"), _("周五"), _("周六"), _("周日"))

_LONGEST_SEARCH_DAYS = 3700


@dataclass(frozen=True)
class WorkingCalendar:
    """Working time in one zone.

    A make-up day beats a holiday, a holiday beats the week. `week` has seven entries, Monday first; the spans of a
    day are in order and do not overlap.
    """

    week: tuple[tuple[Span, ...], ...]
    holidays: frozenset[str]
    make_up: frozenset[str]
    make_up_hours: tuple[Span, ...]
    zone: ZoneInfo
    _days: dict[date, tuple[tuple[datetime, datetime], ...]] = field(default_factory=dict, repr=False, compare=False)

    def hours(self, day: date) -> tuple[Span, ...]:
        """The working spans of a local day."""
        iso = day.isoformat()
        if iso in self.make_up:
            return self.make_up_hours
        if iso in self.holidays or iso[5:] in self.holidays:
            return ()
        return self.week[day.weekday()]

    def spans(self, day: date) -> tuple[tuple[datetime, datetime], ...]:
        """The working spans of a local day as moments in UTC."""
        found = self._days.get(day)
        if found is None:
            found = tuple((self._moment(day, first), self._moment(day, last)) for first, last in self.hours(day))
            self._days[day] = found
        return found

    def _moment(self, day: date, minute: int) -> datetime:
        if minute == _DAY:
            day, minute = day + timedelta(days=1), 0
        return datetime.combine(day, time(minute // 60, minute % 60), self.zone).astimezone(UTC)

    def _from(self, moment: datetime) -> Iterator[tuple[datetime, datetime]]:
        day = moment.astimezone(self.zone).date()
        for _n in range(_LONGEST_SEARCH_DAYS):
            for first, last in self.spans(day):
                if last > moment:
                    yield max(first, moment), last
            day += timedelta(days=1)

    def is_working(self, moment: datetime) -> bool:
        """Whether `moment` lies in working time."""
        return any(first <= moment < last for first, last in self.spans(moment.astimezone(self.zone).date()))

    def add_working_minutes(self, start: datetime, minutes: float) -> datetime:
        """The first moment at which `minutes` of working time have passed since `start`; UTC.

        Raises:
            ValueError: `start` is naive, `minutes` is negative, or the calendar has no working time within ten years.
        """
        if start.tzinfo is None or minutes < 0:
            raise ValueError("an aware start and minutes of 0 or more")
        left = timedelta(minutes=minutes)
        if not left:
            return start.astimezone(UTC)
        for first, last in self._from(start):
            if last - first >= left:
                return first + left
            left -= last - first
        raise ValueError("the calendar has no working time")

    def working_minutes_between(self, start: datetime, end: datetime) -> float:
        """Minutes of working time from `start` to `end`; negative where `end` comes first."""
        if end < start:
            return -self.working_minutes_between(end, start)
        total = timedelta(0)
        for first, last in self._from(start):
            if first >= end:
                break
            total += min(last, end) - first
        return total / timedelta(minutes=1)


def load(session: Session) -> WorkingCalendar:
    """The county's calendar, or the default; remembered for the length of the session."""
    known = session.info.get("working_calendar")
    if not isinstance(known, WorkingCalendar):
        row = session.get(CountySetting, SETTING)
        known = parse(row.value if row is not None else DEFAULT)
        session.info["working_calendar"] = known
    return known


def parse(value: Mapping[str, Any], zone: str | None = None) -> WorkingCalendar:
    """A calendar from its setting.

    Raises:
        Invalid: With one message per field (`week.0` … `week.6`, `holidays`, `make_up`, `make_up_hours`).
    """
    fields: dict[str, Message | str] = {}
    week: list[tuple[Span, ...]] = []
    days = value.get("week")
    if not isinstance(days, list) or len(days) != 7:
        fields["week"] = _("一周应有七天")
        days = []
    for number, day in enumerate(days):
        week.append(_hours(f"week.{number}", day, fields))
    make_up_hours = _hours("make_up_hours", value.get("make_up_hours", []), fields)
    holidays = _dates("holidays", value.get("holidays", []), fields, yearly=True)
    make_up = _dates("make_up", value.get("make_up", []), fields, yearly=False)
    if not fields and not any(week):
        fields["week"] = _("至少一天要有工作时间")
    if make_up and not make_up_hours and "make_up_hours" not in fields:
        fields["make_up_hours"] = _("调休上班日要有工作时间")
    if fields:
        raise Invalid(fields=fields)
    return WorkingCalendar(tuple(week), holidays, make_up, make_up_hours, ZoneInfo(zone or get_settings().timezone))


def to_json(calendar: WorkingCalendar) -> dict[str, Any]:
    """The setting that gives this calendar again."""

    def text(spans: Sequence[Span]) -> list[list[str]]:
        return [[f"{minute // 60:02d}:{minute % 60:02d}" for minute in span] for span in spans]

    return {
        "week": [text(day) for day in calendar.week],
        "holidays": sorted(calendar.holidays, key=lambda iso: (len(iso), iso)),
        "make_up": sorted(calendar.make_up),
        "make_up_hours": text(calendar.make_up_hours),
    }


def _hours(name: str, value: Any, fields: dict[str, Message | str]) -> tuple[Span, ...]:
    spans: list[Span] = []
    if not isinstance(value, list):
        fields[name] = _("时间应写作 08:00-12:00")
        return ()
    for item in value:
        ends = [_minute(end) for end in item] if isinstance(item, list | tuple) and len(item) == 2 else [None, None]
        if ends[0] is None or ends[1] is None:
            fields[name] = _("时间应写作 08:00-12:00")
            return ()
        spans.append((ends[0], ends[1]))
    spans.sort()
    if any(first >= last for first, last in spans) or any(before[1] > after[0] for before, after in pairwise(spans)):
        fields[name] = _("时段的结束要晚于开始,且互不重叠")
        return ()
    return tuple(spans)


def _minute(text: Any) -> int | None:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})", text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    minute = int(found[1]) * 60 + int(found[2])
    return minute if minute <= _DAY and int(found[2]) < 60 else None


def _dates(name: str, value: Any, fields: dict[str, Message | str], *, yearly: bool) -> frozenset[str]:
    if not isinstance(value, list) or len(value) > 1000:
        fields[name] = _("日期应写作 2026-10-01")
        return frozenset()
    found: set[str] = set()
    for item in value:
        text = str(item).strip()
        try:
            if yearly and re.fullmatch(r"\d\d-\d\d", text):
                date.fromisoformat(f"2024-{text}")
            elif re.fullmatch(r"\d{4}-\d\d-\d\d", text):
                date.fromisoformat(text)
            else:
                raise ValueError
        except ValueError:
            fields[name] = _("“{text}”不是日期").format(text=text[:20])
            return frozenset()
        found.add(text)
    return frozenset(found)
