"""SQLite connections are kept open, and no reader's snapshot outlives its session."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from hub.kit.db import database

pytestmark = pytest.mark.embedded

MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) SELECT i FROM n"


def test_a_cursor_that_is_still_read_does_not_outlive_its_session(hub_env: Path) -> None:
    with database().writing() as session:
        session.execute(text("CREATE TABLE probe (n INTEGER)"))
        session.execute(text("INSERT INTO probe " + MANY))
    with database().reading() as session:
        left = session.connection().exec_driver_sql("SELECT n FROM probe").cursor
        assert left is not None
        assert left.fetchone() == (1,)
        first = session.connection().connection.dbapi_connection
    with database().writing() as session:
        session.execute(text("DELETE FROM probe"))
    with database().reading() as session:
        assert session.connection().connection.dbapi_connection is first, "the connection was kept"
        assert session.scalar(text("SELECT count(*) FROM probe")) == 0, "and reads what is there now"
    with pytest.raises(Exception, match="closed"):
        left.fetchone()


def test_a_broken_statement_leaves_a_usable_connection(hub_env: Path) -> None:
    for _attempt in range(3):
        with pytest.raises(DBAPIError), database().writing() as session:
            session.execute(text("SELECT nothing FROM nowhere"))
        with database().writing() as session:
            assert session.scalar(text("SELECT 1")) == 1
