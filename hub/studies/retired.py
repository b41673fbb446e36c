"""Objects that were given up: deleted when no row names them and nobody can still be reading them.

Whoever moves instances to another object, or removes them, retires the old object in the same transaction. Readers
remember for minutes where an instance lies, long answers go on for longer, and a backup that took the database first
comes to the objects hours later; until the grace time (`HUB_REPLACED_HOURS`) is over both places hold the same image.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.kit import clock
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.studies.models import Instance, Quarantined, RetiredObject

log = get_logger(__name__)


def retire(session: Session, keys: Iterable[str]) -> None:
    """Have objects deleted after the grace time, in so far as no row names them then. May be called again."""
    now = clock.now()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    for key in sorted(set(keys)):
        statement: Any = insert(RetiredObject).values(object_key=key, at=now)
        session.execute(statement.on_conflict_do_update(index_elements=["object_key"], set_={"at": now}))


def sweep(*, grace: timedelta | None = None, most: int = 2_000) -> int:
    """Delete retired objects whose grace time is over; returns how many.

    Safe among several processes and to be killed: an object goes before its row, and deleting twice is no harm. No row
    ever comes to name an object anew, since every object is stored under a key of its own.
    """
    limit = clock.now() - (timedelta(hours=get_settings().replaced_hours) if grace is None else grace)
    with database().reading() as session:
        due = session.execute(
            select(RetiredObject.object_key, RetiredObject.at)
            .where(RetiredObject.at <= limit)
            .order_by(RetiredObject.at)
            .limit(most)
        ).all()
    deleted = 0
    for key, at in due:
        with database().reading() as session:
            named = _named(session, key)
        if not named:
            object_store().delete(key)
            deleted += 1
        with database().writing() as session:
            # Unless it was retired again meanwhile: then whoever moved the last instance away counts on this row.
            session.execute(delete(RetiredObject).where(RetiredObject.object_key == key, RetiredObject.at == at))
    if deleted:
        log.debug("retired objects deleted", count=deleted)
    return deleted


def _named(session: Session, key: str) -> bool:
    return any(
        session.scalar(select(table.id).where(table.object_key == key).limit(1)) is not None
        # In this order: a file released from quarantine goes from one table to the other.
        for table in (Quarantined, Instance)
    )
