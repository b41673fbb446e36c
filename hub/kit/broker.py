"""The Celery client that tells workers of a job. Workers are addressed by task name and never imported."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from kombu.entity import Queue
from kombu.transport.sqlalchemy import Transport as SqlTransport

from hub.kit.settings import Settings

RUN_JOB = "hub.run_job"
CONNECT_SECONDS = 2.0
PAUSE_SECONDS = 10.0
POLL_SECONDS = 0.25
POLLED_AT_ONCE = 4
"""Messages for each worker process in one look, where workers look for them: else four jobs a second are all."""
JOBS = "celery"
TIMERS = "timers"
"""What is due by the clock has a queue of its own: behind a thousand previews, timers would stand still."""


class _Hints(sqlite3.Connection):
    """A connection to a file of messages. It stays whole whatever happens, but its newest may be lost with the power.

    They are hints: to wait for the disk with each of them would hold up the images that are written to the same disk.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA synchronous=NORMAL")


def make_celery(settings: Settings) -> Celery:
    """A Celery application on the settings' broker; results are rows, so it has no result back end."""
    app = Celery("hub", broker=settings.broker_url)
    options: dict[str, Any] = {}
    prefetch = 1
    if settings.broker_url.startswith("sqla+"):
        # Without a server, consumers poll. As a transport option it would be handed to create_engine, which refuses it.
        SqlTransport.polling_interval = POLL_SECONDS
        prefetch = POLLED_AT_ONCE
        options["connect_args"] = {"timeout": 10, "factory": _Hints}
    else:
        options["visibility_timeout"] = 3600
    app.conf.update(
        broker_transport_options=options,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=prefetch,
        task_default_queue=JOBS,
        # Messages are taken from both in turn.
        task_queues=[Queue(name) for name in (JOBS, TIMERS)],  # type: ignore[no-untyped-call]
        # A picture of gigabytes leaves its memory with the process that decoded it.
        worker_max_memory_per_child=1_500_000,
        worker_hijack_root_logger=False,
        task_serializer="json",
        accept_content=["json"],
        timezone="UTC",
    )
    return app


def make_sender(settings: Settings) -> Callable[[str, str, int, float], None]:
    """What hub.kit.jobs calls after a commit: `(reference, kind, priority, delay)`.

    A broker that is out of reach must not hold up who just committed: one short try, and then none for a while. The
    sweeper finds the rows.
    """
    app = make_celery(settings)
    options = dict(app.conf.broker_transport_options, max_retries=0)
    if not settings.broker_url.startswith("sqla+"):
        options |= {"socket_connect_timeout": CONNECT_SECONDS, "socket_timeout": CONNECT_SECONDS}
    app.conf.broker_transport_options = options
    silent_until = 0.0

    def send(reference: str, kind: str, priority: int, delay: float) -> None:
        nonlocal silent_until
        # A delayed job is left to the sweeper: an ETA message would sit in a worker's memory.
        if delay > 0 or time.monotonic() < silent_until:
            return
        try:
            app.send_task(RUN_JOB, args=[reference], retry=False)
        except Exception:
            silent_until = time.monotonic() + PAUSE_SECONDS
            raise

    return send
