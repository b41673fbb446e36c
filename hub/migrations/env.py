"""Alembic environment: the models of every feature, on the database of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import context
from sqlalchemy import Engine, text

from hub.kit.db import Base, make_engine
from hub.kit.settings import get_settings
from hub.kit.writing_turn import WritingTurn
from hub.migrations.models import load_all

load_all()


LOCK = 0x6875622D  # any number, the same for every hub
PATIENCE = 3600.0


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Wait for another process that migrates: between two migrations it is not alone by its transactions."""
    if engine.dialect.name != "postgresql":
        turn = WritingTurn(Path(f"{engine.url.database}-migration"), patience=PATIENCE)
        taken = turn.take()
        try:
            yield
        finally:
            if taken:
                turn.give()
            turn.close()
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        try:
            yield
        finally:
            # The lock ends with its session.
            connection.invalidate()


def run() -> None:
    """Run migrations on a connection, batch mode on SQLite (it cannot ALTER most things)."""
    engine = make_engine(get_settings())
    with engine.connect() as connection, _alone(engine):
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            compare_type=True,
            # SQLite can roll DDL back when transactions are begun by hand, as hub.kit.db does.
            transactional_ddl=True,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
