"""The one place that tells the time, so that tests can stop it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

_source: Callable[[], datetime] = lambda: datetime.now(UTC)  # noqa: E731
_stopped = False


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return _source()


def set_source(source: Callable[[], datetime] | None) -> None:
    """Replace the clock (tests), or put the real one back with None."""
    global _source, _stopped  # noqa: PLW0603
    _source = source or (lambda: datetime.now(UTC))
    _stopped = source is not None


def stopped() -> bool:
    """Whether the clock was replaced."""
    return _stopped


def local(moment: datetime, zone: str) -> datetime:
    """`moment` in the county's zone."""
    return moment.astimezone(ZoneInfo(zone))
