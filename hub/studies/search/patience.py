"""Patience: what no index serves is looked through for a bounded time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from hub.kit.i18n import _
from hub.studies.search.query import Query, TooBroad
from hub.studies.search.scope import Scope

PATIENCE: Final = 5.0
"""Seconds that a search may look through studies which no index orders."""

_ASIDE: Final = 30.0
_MOST_REFUSED: Final = 1_000
_SERVED: Final = frozenset(
    {"00080020", "00080050", "00100010", "00100020", "00100021", "0020000D", "0020000E", "00080018"}
)
_STOPPED: Final = ("interrupted", "57014")
"""What the databases say of a statement that they were told to give up: SQLite's text, PostgreSQL's state."""

_TOO_BROAD: Final = _("符合的检查太多,查找的时间太长;请加上日期、姓名开头或编号再查")
refused: dict[tuple[Scope, Query], float] = {}
"""Until when (monotonic) a question is refused at once."""


def _served(query: Query) -> bool:
    """Whether indexes serve every key: then a page is found soon, however many studies there are."""
    return all(
        path in _SERVED and not any(value.startswith(("*", "?")) and value.strip("*") for value in values)
        for path, values in query.keys
        if any(value.strip("*") for value in values)
    )


@contextmanager
def bounded(session: Session, scope: Scope, query: Query) -> Iterator[None]:
    """Let the database work for a bounded time; the same question is refused at once for a while after."""
    if query.study_uid or _served(query):
        yield
        return
    key = (scope, query)
    if refused.get(key, 0.0) > time.monotonic():
        raise TooBroad(_TOO_BROAD)
    connection = session.connection()
    held: Any = connection.connection.dbapi_connection
    sqlite = connection.dialect.name == "sqlite"
    if sqlite:
        end = time.monotonic() + PATIENCE
        held.set_progress_handler(lambda: time.monotonic() > end, 100_000)
    else:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {int(PATIENCE * 1000)}")
    try:
        yield
    except OperationalError as error:
        if (str(error.orig) if sqlite else getattr(error.orig, "sqlstate", "")) not in _STOPPED:
            raise
        if len(refused) >= _MOST_REFUSED:
            refused.clear()
        refused[key] = time.monotonic() + _ASIDE
        raise TooBroad(_TOO_BROAD) from error
    finally:
        if sqlite:
            held.set_progress_handler(None, 0)
