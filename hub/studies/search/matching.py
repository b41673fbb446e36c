"""Matching: the conditions that a column fulfils for a key's values (PS3.4 §C.2.2.2), in the words of each database."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, false, or_, true

from hub.studies.search.query import Key
from hub.studies.search.values import (
    EMPTY,
    WILD,
    above,
    day_range,
    glob,
    like,
    not_understood,
    one,
    split,
    time_range,
    with_hyphens,
)

Condition = ColumnElement[bool]
_BY_CODE_POINT: Final = frozenset(
    {"name_latin", "name_han", "name_sound", "patient_number", "accession", "name", "pinyin"}
)


def same(column: Any, value: str) -> Condition:
    """The column has this value."""
    return column == value  # type: ignore[no-any-return]


def nothing(column: Any) -> Condition:
    """The column has no value."""
    return or_(column == "", column.is_(None))


def between(column: Any, first: str, last: str) -> Condition:
    """The column lies within bounds, each of which may be ""."""
    # Without a beginning, too, what has no date is not before anything.
    conditions = [column >= first] if first else [column != ""]
    return and_(*conditions, column <= last) if last else and_(*conditions)


class Matching:
    """How columns are compared.

    Attributes:
        sqlite: In the words of SQLite, else of PostgreSQL.
        empty_values: `""` matches what has no value.
    """

    def __init__(self, *, sqlite: bool, empty_values: bool) -> None:
        self.sqlite = sqlite
        self.empty_values = empty_values

    def empty(self, value: str) -> bool:
        """Whether what has no value is asked for."""
        return value == EMPTY and self.empty_values

    def text(self, column: Any, value: str) -> Condition:
        """Single value, wildcard, or no value."""
        return nothing(column) if self.empty(value) else self.pattern(column, value)

    def pattern(self, column: Any, value: str) -> Condition:
        """Single value or wildcard matching (PS3.4 §C.2.2.2.1, .4); an index serves the beginning as a range."""
        wild = WILD.search(value)
        if wild is None:
            return same(column, value)
        conditions: list[Condition] = []
        prefix, rest = value[: wild.start()], value[wild.start() :]
        # Elsewhere than in columns ordered by code points, PostgreSQL compares by the rules of a language.
        ranged = bool(prefix) and (self.sqlite or getattr(column, "key", "") in _BY_CODE_POINT)
        if ranged:
            conditions.append(column >= prefix)
            if (end := above(prefix)) is not None:
                conditions.append(column < end)
        if rest.strip("*") or not ranged:
            conditions.append(
                column.op("GLOB", is_comparison=True)(glob(value))
                if self.sqlite
                else column.like(like(value), escape="\\")
            )
        return and_(*conditions)

    def codes(self, column: Any, values: Sequence[str]) -> Condition:
        """Any of a list of codes, in upper case, each of which may have wildcards."""
        if len(values) == 1 and self.empty(values[0]):
            return nothing(column)
        given = [value.upper() for value in split(values)]
        plain = [value for value in given if not WILD.search(value)]
        conditions: list[Condition] = [self.pattern(column, value) for value in given if WILD.search(value)]
        if plain:
            conditions.append(column.in_(plain))
        return or_(*conditions) if conditions else true()

    @staticmethod
    def uids(key: Key, column: Any, values: Sequence[str]) -> Condition:
        """List of UID matching (PS3.4 §C.2.2.2.2).

        Raises:
            BadQuery: One is no UID.
        """
        given = split(values)
        for uid in given:
            if not re.fullmatch(r"[0-9.]{1,64}", uid, re.ASCII):
                raise not_understood(key, uid)
        return column.in_(given) if given else true()

    def number(self, key: Key, column: Any, values: Sequence[str]) -> Condition:
        """One whole number.

        Raises:
            BadQuery: The value is none, or there are several.
        """
        value = one(key, values)
        if self.empty(value):
            return column.is_(None)  # type: ignore[no-any-return]
        # Not isdigit(): it takes "²" for a digit, which is no number.
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", value.strip(), re.ASCII):
            raise not_understood(key, value)
        number = int(value)
        return column == number if abs(number) < 1 << 31 else false()

    def days(self, key: Key, column: Any, values: Sequence[str], *, iso: bool = False) -> Condition:
        """A date or a range of dates (PS3.4 §C.2.2.2.5); with `iso`, the column's are written with hyphens.

        Raises:
            BadQuery: The value is none, or there are several.
        """
        value = one(key, values)
        if self.empty(value):
            return nothing(column)
        bounds = day_range(value)
        if bounds is None:
            raise not_understood(key, value)
        first, last = map(with_hyphens, bounds) if iso else bounds
        if first == last:
            return same(column, first)
        return between(column, first, last)

    def times(self, key: Key, column: Any, values: Sequence[str]) -> Condition:
        """A time or a range of times (PS3.4 §C.2.2.2.5).

        Raises:
            BadQuery: The value is none, or there are several.
        """
        value = one(key, values)
        if self.empty(value):
            return nothing(column)
        bounds = time_range(value)
        if bounds is None:
            raise not_understood(key, value)
        return between(column, *bounds)

    @staticmethod
    def moment(day: str, hour: str, days: Any, times: Any) -> Condition | None:
        """Combined date and time (PS3.4 §C.2.2.2.5.4) where both are ranges of one stretch of time; else None."""
        span, clock = day_range(day), time_range(hour)
        if span is None or clock is None or span[0] == span[1]:
            return None
        conditions: list[Condition] = [days != ""]
        (first, last), (start, end) = span, clock
        if first:
            conditions.append(days >= first)
            if start:
                conditions.append(or_(days > first, times >= start))
        if last:
            conditions.append(days <= last)
            if end:
                conditions.append(or_(days < last, and_(times <= end, times != "")))
        return and_(*conditions)
