"""Telling the broker: it works on the embedded transport, and one that is away holds nobody up."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from hub.kit.broker import RUN_JOB, TIMERS, make_celery, make_sender
from hub.kit.settings import Settings, get_settings
from workers.housekeeping import prune_broker


def received(app: Celery, count: int) -> list[str]:
    """What is in the queue, of which so many are waited for."""
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue("celery")
        found: list[str] = []
        with contextlib.suppress(queue.Empty):
            while True:
                message = queue.get(timeout=60 if len(found) < count else 0.6)
                found.append(message.payload[0][0])
                message.ack()
        return found


def test_a_job_is_told(hub_env: Path) -> None:
    settings = get_settings()
    app = make_celery(settings)
    send = make_sender(settings)
    send("one", "t.work", 5, 0)
    send("delayed", "t.work", 5, 30)
    send("two", "t.work", 5, 0)
    assert received(app, 2) == ["one", "two"]
    assert RUN_JOB == "hub.run_job"


def test_the_embedded_broker_does_not_grow(tmp_path: Path) -> None:
    url = f"sqla+sqlite:///{tmp_path / 'broker.sqlite'}"
    prune_broker(url)
    settings = Settings(data_dir=tmp_path, broker_url=url)
    send = make_sender(settings)
    for number in range(5):
        send(str(number), "t.work", 5, 0)
    assert len(received(make_celery(settings), 5)) == 5
    prune_broker(url)
    with contextlib.closing(sqlite3.connect(tmp_path / "broker.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM kombu_message").fetchone() == (0,)


def test_a_broker_that_is_away_costs_one_short_try(tmp_path: Path) -> None:
    send = make_sender(Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0"))
    started = time.monotonic()
    with pytest.raises(Exception, match=r".*"):
        send("one", "t.work", 5, 0)
    first = time.monotonic() - started
    for _number in range(20):
        send("more", "t.work", 5, 0)
    assert first < 6
    assert time.monotonic() - started - first < 3


@pytest.mark.slow
def test_timers_do_not_wait_behind_a_backlog_of_jobs(hub_env: Path) -> None:
    settings = get_settings()
    app = make_celery(settings)
    done: list[str] = []
    ticked = threading.Event()

    def tick() -> None:
        done.append("tick")
        ticked.set()

    def work(reference: str) -> None:
        done.append(reference)

    app.task(name=RUN_JOB)(work)
    app.task(name="t.tick")(tick)
    send = make_sender(settings)
    for number in range(200):
        send(str(number), "t.work", 5, 0)
    app.send_task("t.tick", queue=TIMERS)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        assert ticked.wait(60)
        assert done.index("tick") < 50
        until = time.monotonic() + 150
        while len(done) < 201 and time.monotonic() < until:
            time.sleep(0.05)
    assert len(done) == 201, "and the backlog is done as well"
