"""Bringing a database to the code's version, and refusing one that is newer."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from hub.kit.db import make_engine
from hub.kit.settings import Settings


class NewerDatabase(Exception):
    """The database was written by a newer hub; this code must not touch it."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


def config() -> Config:
    """Alembic's configuration, without an ini file."""
    result = Config()
    result.set_main_option("script_location", str(Path(__file__).parent))
    return result


def current(settings: Settings) -> str | None:
    """The database's revision; None where it is empty."""
    engine = make_engine(settings)
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def head() -> str | None:
    """The code's revision."""
    return ScriptDirectory.from_config(config()).get_current_head()


def upgrade(settings: Settings) -> bool:
    """Migrate to the code's revision; True if anything was done.

    Raises:
        NewerDatabase: The database's revision is unknown to this code.
    """
    found = current(settings)
    scripts = ScriptDirectory.from_config(config())
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerDatabase(found)
    if found == scripts.get_current_head():
        return False
    command.upgrade(config(), "head")
    return True
