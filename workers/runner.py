"""Doing one job: claim the row, keep the lease alive, run the handler, write how it ended."""

from __future__ import annotations

import threading

from hub.kit import health, jobs
from hub.kit.db import database
from hub.kit.errors import HubError
from hub.kit.logging import get_logger, place_of
from hub.kit.settings import get_settings
from workers.registry import PermanentError, handlers

log = get_logger(__name__)


def run(reference: str) -> bool:
    """Do the job named by `reference` if it is due and free; False where there was nothing to do."""
    settings = get_settings()
    with database().writing() as session:
        claimed = jobs.claim(
            session, reference, lease_seconds=settings.job_lease_seconds, attempts=settings.job_attempts
        )
    if claimed is None:
        return False
    stop = threading.Event()
    heart = threading.Thread(target=_keep, args=(claimed, stop), daemon=True)
    heart.start()
    try:
        handler = handlers().get(claimed.kind)
        if handler is None:
            raise PermanentError(f"no handler for {claimed.kind}")
        handler(claimed.payload)
    except Exception as error:
        permanent = isinstance(error, PermanentError)
        # The text may quote data; the row keeps the place and the kind of error, and the log no more than that.
        text = f"{type(error).__name__} at {place_of(error)}" + (
            f": {error.code}" if isinstance(error, HubError) else ""
        )
        with database().writing() as session:
            jobs.fail(session, claimed, text, attempts=settings.job_attempts, permanent=permanent)
        log.error("job failed", kind=claimed.kind, job=claimed.id, attempt=claimed.attempts, error=text)
    else:
        with database().writing() as session:
            kept = jobs.finish(session, claimed)
        if not kept:
            log.warning("a job outlived its lease and was done again", kind=claimed.kind, job=claimed.id)
    finally:
        stop.set()
    return True


def sweep(*, most: int = 50) -> int:
    """Do what is due and was not done, the most urgent first; returns how many jobs were done.

    The list is asked for anew after each job, so that an emergency need not wait for what was due before it.
    """
    done = 0
    while done < most:
        with database().reading() as session:
            references = jobs.due(session, limit=20)
        if not any(run(reference) for reference in references):
            break
        done += 1
    return done


def _keep(claimed: jobs.Claim, stop: threading.Event) -> None:
    """Extend the lease, and show that this worker is alive although it has no time for the periodic sign of life."""
    seconds = get_settings().job_lease_seconds
    while not stop.wait(min(seconds / 3, health.WORKER_SILENT.total_seconds() / 3)):
        try:
            with database().writing() as session:
                if not jobs.extend(session, claimed, lease_seconds=seconds):
                    return
            health.beat()
        except Exception as error:
            log.warning("lease not extended", job=claimed.id, kind=type(error).__name__)
