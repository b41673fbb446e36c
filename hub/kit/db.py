"""The database: engine, sessions that read and sessions that write, and the column types of the project."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import DateTime, Engine, MetaData, String, create_engine, event
from sqlalchemy.engine import Dialect, make_url
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import JSON, TypeDecorator

from hub.kit.ids import new_id
from hub.kit.settings import Settings, get_settings
from hub.kit.writing_turn import WritingTurn


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database; SQLite keeps it without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """Declarative base with names for constraints, which migrations on SQLite need."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[str]: JSON,
        list[Any]: JSON,
        list[int]: JSON,
        list[dict[str, Any]]: JSON,
    }


Id = String(26)
"""Column type of a row's identifier (hub.kit.ids.new_id)."""

id_default = new_id


def code_points(length: int) -> String:
    """Column type of text that is searched by its beginning: ordered by code points on every database."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


class _Connection(sqlite3.Connection):
    """A connection that knows its cursors, so that none outlives the session that opened it.

    A cursor that somebody (another thread, a generator) still reads from would hold its old snapshot of the database,
    and the next session that gets the connection would read in it. Its reader gets an error instead.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._cursors: weakref.WeakSet[sqlite3.Cursor] = weakref.WeakSet()
        self._turn: WritingTurn | None = None

    def cursor(self, factory: Any = sqlite3.Cursor) -> Any:
        """A cursor, remembered as long as it lives."""
        made = super().cursor(factory)
        self._cursors.add(made)
        return made

    def end_cursors(self) -> None:
        """Close what is still open."""
        for cursor in list(self._cursors):
            cursor.close()

    def take_turn(self, turn: WritingTurn) -> None:
        """Wait until it is this connection's turn to write; it ends with the transaction."""
        if turn.take():
            self._turn = turn

    def commit(self) -> None:
        """Commit, and let the next one write."""
        super().commit()
        self.end_turn()

    def rollback(self) -> None:
        """Roll back, and let the next one write."""
        try:
            super().rollback()
        finally:
            self.end_turn()

    def close(self) -> None:
        """Close; what was not committed is rolled back."""
        try:
            super().close()
        finally:
            self.end_turn()

    def end_turn(self) -> None:
        """Let the next one write."""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give()


_PATIENCE: Final = 15.0
"""Seconds that a writer of SQLite waits for its turn, and then for whoever writes without one."""


def make_engine(settings: Settings) -> Engine:
    """An engine for `settings.database_url`.

    SQLite: WAL, `synchronous=FULL` (an acknowledged commit survives a power cut), and every transaction of a
    writing session begins IMMEDIATE, because an upgrade from a read lock fails or loses updates under several
    writer processes.
    """
    if not settings.is_sqlite:
        server = create_engine(
            settings.database_url, pool_pre_ping=True, pool_size=10, max_overflow=60, hide_parameters=True
        )

        @event.listens_for(server, "connect")
        def _plainly(connection: Any, _record: Any) -> None:
            # Compiling a statement takes longer than any of ours should run.
            with connection.cursor() as cursor:
                cursor.execute("SET jit = off")
            connection.commit()

        return server
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    turn = _turn_of(settings)
    engine = create_engine(
        settings.database_url,
        connect_args={"timeout": _PATIENCE, "check_same_thread": False, "factory": _Connection},
        poolclass=QueuePool,
        pool_size=8,
        max_overflow=64,
        # The one used last has its pages at hand; the others are let go of.
        pool_use_lifo=True,
        hide_parameters=True,
    )

    @event.listens_for(engine, "reset")
    def _hand_back(connection: Any, _record: Any, _state: Any) -> None:
        connection.end_cursors()

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={round(_PATIENCE * 1000)}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-8192")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        mode = connection.get_execution_options().get("hub_begin", "IMMEDIATE")
        if mode != "IMMEDIATE" or turn is None:
            connection.exec_driver_sql(f"BEGIN {mode}")
            return
        own = connection.connection.driver_connection
        own.take_turn(turn)
        try:
            # By SQLAlchemy, so that a refusal is an error that everybody knows to handle.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        except BaseException:
            own.end_turn()
            raise

    return engine


def _turn_of(settings: Settings) -> WritingTurn | None:
    """The turn of a database that is a file; one in memory has no second writer."""
    name = make_url(settings.database_url).database
    if not name or name == ":memory:" or name.startswith("file:"):
        return None
    return WritingTurn(Path(f"{name}-turn"), patience=_PATIENCE)


class Database:
    """One engine and its two kinds of session."""

    def __init__(self, settings: Settings) -> None:
        self.engine = make_engine(settings)
        self.reader = self.engine.execution_options(hub_begin="DEFERRED")
        """For reading without a session."""
        self._write = sessionmaker(self.engine, expire_on_commit=False)
        self._read = sessionmaker(self.reader, expire_on_commit=False, autoflush=False)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that commits at the end, or rolls back on any exception. No I/O inside: it holds locks."""
        with self._write() as session:
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads; on SQLite it blocks no writer."""
        with self._read() as session:
            yield session


_database: Database | None = None
_inherited: list[Database] = []


def database() -> Database:
    """The database of this process, opened on first use."""
    global _database  # noqa: PLW0603
    if _database is None:
        _database = Database(get_settings())
    return _database


def reset_database(*, close: bool = True) -> None:
    """Forget the process's database.

    Args:
        close: Close its connections (tests); after a fork they are the parent's to close.
    """
    global _database  # noqa: PLW0603
    if _database is not None and close:
        _database.engine.dispose()
    elif _database is not None:
        # Nothing of it may be closed in this process, not even by the collector of garbage: SQLite would take it for
        # the end of the parent's connection.
        _inherited.append(_database)
    _database = None
