"""Keeping the house small and seen to be alive."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete

from hub.accounts.models import LoginSession
from hub.kit import clock, health, jobs, live
from hub.kit.db import database
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.reports import identities
from hub.reports.drawings import service as drawings
from hub.studies import intake, trash
from workers.registry import periodic

KEEP_JOBS = timedelta(days=7)


@periodic("housekeeping.beat", every=10)
def beat() -> None:
    """Show that a worker is alive."""
    health.beat()


@periodic("housekeeping.prune", every=600)
def prune() -> None:
    """Drop changes that no page can ask for, jobs done long ago, sessions that ended, messages already read."""
    now = clock.now()
    with database().writing() as session:
        live.prune(session)
        session.execute(delete(jobs.Job).where(jobs.Job.state == jobs.DONE, jobs.Job.finished_at < now - KEEP_JOBS))
        session.execute(delete(LoginSession).where(LoginSession.expires_at < now))
        identities.drop_lapsed(session)
    settings = get_settings()
    if settings.is_sqlite:
        # Without statistics SQLite walks the wrong index of a large table; a sample takes 20 ms at 100,000 exams.
        with database().engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA analysis_limit=1000")
            connection.exec_driver_sql("ANALYZE")
            connection.commit()
    prune_broker(settings.broker_url)


def prune_broker(url: str) -> None:
    """Drop the messages that were read: the embedded transport marks them and leaves their rows."""
    name = url.removeprefix("sqla+sqlite:///")
    if name == url or not Path(name).exists():
        return
    with contextlib.closing(sqlite3.connect(name, timeout=10)) as connection, connection:
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'kombu_message'").fetchone():
            connection.execute("DELETE FROM kombu_message WHERE visible = 0")


@periodic("housekeeping.trash", every=3_600)
def empty_trash() -> None:
    """Purge what has been in the trash for long enough."""
    trash.empty()


@periodic("housekeeping.drawings", every=86_400)
def drop_drawings() -> None:
    """Drop drawings that were removed long ago."""
    while True:
        # Sought without holding up the writers: the table is read from end to end.
        with database().reading() as session:
            names = drawings.lapsed(session)
        if not names:
            return
        with database().writing() as session:
            drawings.drop(session, names)


@periodic("housekeeping.objects", every=86_400)
def sweep_objects() -> None:
    """Drop what half-finished writes left in the object store."""
    store = object_store()
    # A hub that has stored nothing yet has no bucket to look into; the check makes it.
    store.check()
    store.sweep()
    intake.sweep_orphans()
    intake.sweep_staging()
