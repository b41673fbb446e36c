"""Two transactions that meet: the second begins while the first has written and not yet committed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.kit.db import database
from hub.kit.settings import get_settings

T = TypeVar("T")

_PATIENCE = 30.0


def meet(first: Callable[[Session], object], second: Callable[[], T]) -> T:
    """Do `first` in a transaction, start `second`, and commit the first when the second waits for it or has ended.

    On PostgreSQL `second` looks at the database as it was before the first one's commit, as far as no lock keeps it from
    looking; on SQLite it waits from its beginning.

    Returns:
        What `second` returns; what it raises is raised.
    """
    with ThreadPoolExecutor(1) as pool:
        with database().writing() as session:
            first(session)
            session.flush()
            running = pool.submit(second)
            until_it_waits(running)
        return running.result(timeout=_PATIENCE)


def until_it_waits(running: Future[Any]) -> None:
    """Return when what runs has ended, or waits for a lock of the database."""
    ended = threading.Event()
    running.add_done_callback(lambda _done: ended.set())
    if get_settings().is_sqlite:
        ended.wait(0.05)
        return
    limit = time.monotonic() + _PATIENCE
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with database().engine.connect() as connection:
        while not ended.wait(0.01):
            if connection.scalar(waiting):
                return
            connection.rollback()
            assert time.monotonic() < limit, "the second neither waits nor ends"
