"""What is left behind and taken away: objects that no row names, files of processes that died."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.studies import quarantine
from hub.studies.models import Instance, Quarantined, RetiredObject, Series, Study
from hub.studies.outcomes import NAMESPACE, PREVIEWS

log = get_logger(__name__)


def staging_folder() -> Path:
    """The folder for files on their way in: beside the objects, so that they need not be copied."""
    folder = get_settings().data_dir / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def referenced(session: Session, keys: Iterable[str], namespace: str = NAMESPACE) -> set[str]:
    """Those of `keys` that some row names; one object may be named by many, each with a range of its own."""
    wanted = list(keys)
    found: set[str] = set()
    columns = (
        (Instance.preview_key, Series.preview_key, Study.preview_key, Study.sheet_key, Exam.sheet_key)
        if namespace == PREVIEWS
        # In this order: a file released from quarantine goes from one table to the other while this looks.
        else (RetiredObject.object_key, Quarantined.object_key, Instance.object_key)
    )
    for column in columns:
        for start in range(0, len(wanted), 500):
            found.update(session.scalars(select(column).where(column.in_(wanted[start : start + 500]))))
    return found


def tidy(keys: Sequence[str]) -> None:
    """Delete those of some objects of ours that no row came to name (a file already known, a lost transaction)."""
    if not keys:
        return
    try:
        with database().reading() as session:
            used = referenced(session, keys)
        for key in set(keys) - used:
            object_store().delete(key)
    except Exception as error:
        # They are orphans now, which the sweep takes.
        log.warning("orphaned objects are left to the sweep", count=len(keys), kind=type(error).__name__)


def sweep_orphans(*, older_than_hours: float = 24, most: int = 200) -> int:
    """Delete objects that no row names: put, and then the process died before its commit; previews made anew.

    Deleting is the exception here, and made hard: only old objects, only of the archive's own namespaces, looked up
    after the listing; and if many seem orphaned, none is deleted, because then it is far more likely that the
    database is an older copy than that so many transactions died.

    Args:
        older_than_hours: Younger objects are left alone; a transaction may still be about to name them.
        most: More orphans than this (and than one in fifty objects) are reported, not deleted.

    Returns:
        How many were deleted.
    """
    store, limit = object_store(), clock.now() - timedelta(hours=older_than_hours)
    orphans: list[str] = []
    total = 0

    def look(batch: list[str]) -> None:
        with database().reading() as session:
            used = referenced(session, batch, namespace)
        orphans.extend(key for key in batch if key not in used)

    for namespace in (NAMESPACE, quarantine.NAMESPACE, PREVIEWS):
        batch: list[str] = []
        for stat in store.list(f"{namespace}/"):
            total += 1
            if stat.modified is None or stat.modified > limit:
                continue
            batch.append(stat.key)
            if len(batch) >= 500:
                look(batch)
                batch = []
        look(batch)
    if len(orphans) > max(most, total // 50):
        log.error("too many objects without a row: nothing deleted", orphans=len(orphans), objects=total)
        return 0
    removed = 0
    for key in orphans:
        with database().reading() as session:
            if referenced(session, [key], key.partition("/")[0]):
                continue
        store.delete(key)
        removed += 1
    if removed:
        log.info("orphaned objects deleted", count=removed)
    return removed


def sweep_staging(*, older_than_hours: float = 24) -> int:
    """Delete files that a killed process left in the staging folder; returns how many."""
    limit = time.time() - older_than_hours * 3600
    removed = 0
    for path in staging_folder().iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.lstat().st_mtime < limit:
                path.unlink()
                removed += 1
    return removed
