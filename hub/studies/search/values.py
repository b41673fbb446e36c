"""Values of keys as they are written: wildcards, lists, dates and times (PS3.4 §C.2.2.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from hub.kit.i18n import _
from hub.studies.search.query import BadQuery, Key

WILD: Final = re.compile(r"[*?]")
EMPTY: Final = '""'
"""The value that means: without a value (PS3.4 §C.2.2.2.7)."""


def not_understood(key: Key, value: str) -> BadQuery:
    """The refusal of a value that is none of its key's kind."""
    return BadQuery(_("{keyword} 的值无法理解:{value}").format(keyword=key.keyword, value=value[:64]))


def above(prefix: str) -> str | None:
    """The least text that is greater than all that begin with `prefix`, by code points."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


def glob(value: str) -> str:
    """A value with wildcards as a pattern of SQLite's GLOB."""
    return value.replace("[", "[[]")


def like(value: str) -> str:
    """A value with wildcards as a pattern of LIKE, escaped by a backslash."""
    return "".join({"*": "%", "?": "_"}.get(char, f"\\{char}" if char in "%_\\" else char) for char in value)


def day_range(value: str) -> tuple[str, str] | None:
    """First and last day (YYYYMMDD, or "") of a date or a range of dates; None where it is neither."""
    found = re.fullmatch(r"([0-9]{8})?(-)?([0-9]{8})?", value.strip(), re.ASCII)
    if found is None or not (found[1] or found[3]) or (found[1] and found[3] and not found[2]):
        return None
    first, last = found[1] or "", (found[3] or "") if found[2] else found[1] or ""
    if not found[2] and not found[1]:
        return None
    for day in filter(None, (first, last)):
        if not ("01" <= day[4:6] <= "12" and "01" <= day[6:8] <= "31"):
            return None
    return first, last


_TIME: Final = re.compile(r"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?", re.ASCII)


def time_range(value: str) -> tuple[str, str] | None:
    """Bounds, as texts to compare with, of a time or a range of times; None where it is neither.

    A time says as much as it has digits: `10` is the whole hour, and a range ends with the last moment of its end.
    """
    parts = value.strip().replace(":", "").split("-")
    if len(parts) > 2 or not any(parts) or any(part and not _TIME.fullmatch(part) for part in parts):
        return None
    first, last = parts[0], parts[-1]
    return _earliest(first), _latest(last)


def _earliest(value: str) -> str:
    # Stored times are as long as they were sent: 10:00:00 may stand there as 10, which is less than 1000.
    if "." in value:
        value = value.rstrip("0").rstrip(".")
    while len(value) > 2 and len(value) % 2 == 0 and "." not in value and value.endswith("00"):
        value = value[:-2]
    return value


def _latest(value: str) -> str:
    if not value:
        return ""
    whole, dot, fraction = value.partition(".")
    whole += "5959"[len(whole) - 2 :] if len(whole) < 6 else ""
    return f"{whole}.{fraction.ljust(6, '9') if dot else '999999'}"


def split(values: Iterable[str]) -> list[str]:
    """The values of a list, which may be written as one with commas or backslashes."""
    return [part.strip() for value in values for part in re.split(r"[,\\]", value) if part.strip()]


def with_hyphens(day: str) -> str:
    """A day (YYYYMMDD, or "") with hyphens."""
    return f"{day[:4]}-{day[4:6]}-{day[6:8]}" if day else ""


def one(key: Key, values: Sequence[str]) -> str:
    """The only value of a key.

    Raises:
        BadQuery: There are several.
    """
    if len(values) > 1:
        raise BadQuery(_("{keyword} 只能给出一次").format(keyword=key.keyword))
    return values[0]
