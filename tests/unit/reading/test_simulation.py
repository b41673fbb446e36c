"""A small day of `python -m tests.simulation`: readers, clinics and a director at once, through HTTP."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hub.app import create_app
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.reading import service as reading
from simulation.actors import Habits
from simulation.county import seed
from simulation.play import play
from simulation.verdict import faults
from support.reading import cheap_keys
from support.serving import serving
from workers import runner
from workers.registry import load

LEASE_SECONDS = 10.0
"""Long enough for a reader on a slow machine to end what he began: else all read the same again and again."""


@contextmanager
def workers() -> Iterator[None]:
    """What the scheduler and a worker do, in a thread of this process: leases that ran out, jobs that are due."""
    ended = threading.Event()
    load()

    def work() -> None:
        while not ended.wait(0.1):
            with database().writing() as session:
                reading.expire_leases(session)
            runner.sweep()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)


# Twelve people, the hub and the workers are one process: beside another busy one the day takes minutes.
@pytest.mark.timeout(900)
def test_nothing_is_read_twice_lost_or_left(hub_env, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_LEASE_MINUTES", str(LEASE_SECONDS / 60))
    get_settings.cache_clear()
    cheap_keys(monkeypatch)
    chance = random.Random(7)
    county = seed(8, 16, chance=chance)
    habits = Habits(
        crash=0.1,
        history=0.1,
        retake=0.1,
        reject=0.1,
        double=0.4,
        lease_seconds=3,
        first_crashes=True,
        most_interventions=8,
    )
    with serving(create_app()) as url, workers():
        ledger = play(url, county, habits, chance=chance, within=700)
    with database().writing() as session:
        reading.expire_leases(session)
    with database().reading() as session:
        assert faults(session, county.exams, ledger) == []
    assert len(ledger.signed) >= 8
    assert ledger.deeds["crash"] and ledger.deeds["double click"]
