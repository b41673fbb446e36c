"""The Celery application: one task that does a job row, one that does periodic work, and the schedule."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery
from celery.signals import setup_logging, worker_process_init

from hub.kit import jobs, lifeline
from hub.kit.broker import RUN_JOB, TIMERS, make_celery, make_sender
from hub.kit.db import reset_database
from hub.kit.logging import configure, describe, get_logger
from hub.kit.objects import reset_object_store
from hub.kit.settings import get_settings
from workers import runner
from workers.registry import load, periodics

log = get_logger(__name__)
PERIODIC = "hub.periodic"
SWEEP = "hub.sweep"
SWEEP_SECONDS = 2.0


def make_app() -> Celery:
    """The Celery application on the settings' broker, with every handler registered."""
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    # Celery would write the texts of exceptions, which may quote patient data, and its own formats.
    setup_logging.connect(_own_logging, weak=False)
    lifeline.hold()
    app = make_celery(settings)
    load()
    jobs.set_sender(make_sender(settings))
    app.conf.beat_schedule = {
        name: {"task": PERIODIC, "schedule": work.every, "args": [name], "options": _timed(work.every)}
        for name, work in periodics().items()
    } | {"sweep": {"task": SWEEP, "schedule": SWEEP_SECONDS, "options": _timed(SWEEP_SECONDS)}}
    app.task(name=RUN_JOB)(run_job)
    app.task(name=PERIODIC)(run_periodic)
    app.task(name=SWEEP)(sweep)
    return app


def _timed(every: float) -> dict[str, Any]:
    return {"expires": every, "queue": TIMERS}


def run_job(reference: str) -> None:
    """Do one job. What fails here (the database is away) is found again by the sweeper."""
    try:
        runner.run(reference)
    except Exception as error:
        log.error("a job could not be settled", error=describe(error))


def run_periodic(name: str) -> None:
    """Do one periodic work; a failure waits for the next turn."""
    work = periodics().get(name)
    if work is None:
        return
    try:
        work.run()
    except Exception as error:
        log.error("periodic work failed", work=name, error=describe(error))


def sweep() -> None:
    """Do what is due and was not done: messages that were lost, leases that ran out, delays that are over."""
    try:
        runner.sweep()
    except Exception as error:
        log.error("the sweep failed", error=describe(error))


def _own_logging(**_kw: Any) -> None:
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _fresh_connections(**_kw: Any) -> None:
    # Whoever sends or looks goes before previews and recompression; a share of the processor remains to them.
    os.nice(get_settings().worker_nice)
    # A forked child must not share its parent's connections, nor close them.
    reset_database(close=False)
    reset_object_store()
