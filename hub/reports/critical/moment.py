"""The time by which critical values are counted: one clock for every process, and never a browser's."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.kit import clock


def now(session: Session) -> datetime:
    """The present moment by the clock that all processes of this hub share.

    On a database server that is the server's clock, so that a web server and a worker on two machines, one of them
    wrong, count the same ten minutes. With the embedded database all processes stand on one machine. A clock that
    tests have stopped counts on both.
    """
    if clock.stopped() or session.get_bind().dialect.name != "postgresql":
        return clock.now()
    found = session.scalar(select(func.clock_timestamp()))
    assert isinstance(found, datetime)
    return found.astimezone(UTC)
