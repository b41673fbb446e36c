"""Doing a job: every way that it can end, and the sweep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from hub.kit import clock, health, jobs
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.kit.settings import get_settings
from workers import app, registry, runner

SECRET = "王秘密"


@pytest.fixture
def done(hub_env: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kinds of work for tests; what was done, in order."""
    found: list[str] = []

    def good(payload: dict[str, Any]) -> None:
        found.append(payload["name"])

    def bad(payload: dict[str, Any]) -> None:
        raise ValueError(f"cannot read {SECRET}")

    def refused(payload: dict[str, Any]) -> None:
        raise Conflict(SECRET, code="changed-meanwhile")

    def hopeless(payload: dict[str, Any]) -> None:
        raise registry.PermanentError(SECRET)

    def slow(payload: dict[str, Any]) -> None:
        time.sleep(1.6)
        found.append(payload["name"])

    kinds = {"t.good": good, "t.bad": bad, "t.refused": refused, "t.hopeless": hopeless, "t.slow": slow}
    monkeypatch.setattr(runner, "handlers", lambda: kinds)
    yield found


def ask(kind: str, name: str = "x", **more: Any) -> None:
    with database().writing() as session:
        jobs.enqueue(session, kind, {"name": name}, key=name, **more)


def job() -> jobs.Job:
    with database().reading() as session:
        return session.scalars(select(jobs.Job)).one()


def test_a_good_job(done: list[str]) -> None:
    ask("t.good")
    assert runner.run("key:x")
    assert not runner.run("key:x")
    assert (done, job().state) == (["x"], jobs.DONE)


@pytest.mark.parametrize(
    ("kind", "state", "text"),
    [
        ("t.bad", jobs.QUEUED, "ValueError at test_runner.py:"),
        ("t.refused", jobs.QUEUED, "changed-meanwhile"),
        ("t.hopeless", jobs.FAILED, "PermanentError"),
        ("t.unknown", jobs.FAILED, "PermanentError"),
    ],
)
def test_a_bad_job(done: list[str], kind: str, state: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    ask(kind)
    assert runner.run("key:x")
    assert job().state == state
    assert text in (job().error or "")
    written = capsys.readouterr()
    assert SECRET not in (job().error or "") + written.out + written.err


def test_a_long_job_keeps_its_lease_and_shows_that_its_worker_lives(
    done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "job_lease_seconds", 1)
    ask("t.slow")
    assert runner.run("key:x")
    assert job().state == jobs.DONE
    assert health.last_beat() is not None


def test_the_sweep_does_what_is_due_the_most_urgent_first(done: list[str]) -> None:
    ask("t.good", "later", priority=6)
    ask("t.bad", "broken", priority=1)
    ask("t.good", "urgent", priority=2)
    ask("t.good", "tomorrow", delay=3600)
    assert runner.sweep() == 3
    assert done == ["urgent", "later"]


def test_the_sweep_takes_what_a_killed_worker_held(done: list[str]) -> None:
    ask("t.good")
    with database().writing() as session:
        assert jobs.claim(session, "key:x", lease_seconds=60, attempts=3)
    assert runner.sweep() == 0
    with database().writing() as session:
        session.execute(update(jobs.Job).values(lease_until=clock.now()))
    assert runner.sweep() == 1
    assert done == ["x"]


def test_tasks_never_raise(hub_env: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Celery would write the text of the exception into the log."""

    def broken(*_more: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(runner, "run", broken)
    monkeypatch.setattr(runner, "sweep", broken)
    monkeypatch.setattr(app, "periodics", lambda: {"t": registry.Periodic("t", 1, broken)})
    app.run_job("x")
    app.sweep()
    app.run_periodic("t")
    app.run_periodic("nothing")
    written = capsys.readouterr()
    assert SECRET not in written.out + written.err


def test_every_kind_that_is_asked_for_has_a_handler() -> None:
    import re

    root = Path(__file__).parents[3] / "hub"
    asked = {
        kind
        for path in root.rglob("*.py")
        for kind in re.findall(r"enqueue\(\s*session,\s*\"([a-z_.]+)\"", path.read_text())
    }
    assert asked
    assert asked <= registry.handlers().keys()
    assert len(registry.periodics()) > 4


def test_every_periodic_work_runs_on_a_fresh_hub(hub_env: Path) -> None:
    for work in registry.periodics().values():
        work.run()
