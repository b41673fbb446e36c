"""What the checks find."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub.kit import clock, health, jobs
from hub.kit.db import database
from hub.kit.settings import get_settings


def found(name: str) -> health.Check:
    [check] = [check for check in health.run(get_settings()) if check.name == name]
    return check


def test_a_fresh_hub_lacks_only_its_worker(hub_env: Path) -> None:
    bad = {check.name for check in health.run(get_settings()) if not check.ok}
    assert bad == {"worker"}
    health.beat()
    health.beat()
    assert found("worker").ok
    later = datetime.now(UTC) + timedelta(minutes=5)
    clock.set_source(lambda: later)
    assert not found("worker").ok


def test_jobs_given_up_and_jobs_that_wait_are_told(hub_env: Path) -> None:
    with database().writing() as session:
        jobs.enqueue(session, "t.work", {}, key="k")
    assert found("jobs").ok
    later = datetime.now(UTC) + timedelta(minutes=6)
    clock.set_source(lambda: later)
    assert not found("jobs").ok
    with database().writing() as session:
        claimed = jobs.claim(session, "key:k", lease_seconds=60, attempts=1)
        assert claimed is not None
        jobs.fail(session, claimed, "x", attempts=1)
    assert not found("jobs").ok


def test_what_is_away_is_told_with_advice(hub_env: Path, monkeypatch: object) -> None:
    settings = get_settings().model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    check = health.check_broker(settings)
    assert not check.ok
    assert str(check.advice)
    assert set(health.as_json(health.run(settings, health.READINESS))["checks"]) == {"database", "objects"}
