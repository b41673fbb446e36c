"""Let everybody work until nothing waits any more."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

from simulation.actors import Clinic, Director, Habits, Ledger, Person, Reader
from simulation.county import County


def play(
    url: str,
    county: County,
    habits: Habits,
    *,
    chance: random.Random,
    within: float,
    say: Callable[[str], None] = lambda _line: None,
) -> Ledger:
    """Run the readers, clinics and the director at `url`; returns what they have written down.

    Raises:
        AssertionError: Somebody's thread failed, or something still waits after `within` seconds.
    """
    ledger, stop, hard_stop = Ledger(), threading.Event(), threading.Event()
    director = Director(
        Person(url, county.director, county.password, ledger), ledger, habits, stop, chance.randrange(1 << 30)
    )
    clinics = [
        Clinic(Person(url, login, county.password, ledger), ledger, hard_stop, chance.randrange(1 << 30))
        for login in county.clinics
    ]
    readers = [
        Reader(
            Person(url, login, county.password, ledger),
            ledger,
            habits,
            stop,
            chance.randrange(1 << 30),
            reviews=login in county.reviewers,
        )
        for login in county.readers
    ]
    everybody: list[Any] = [*readers, *clinics, director]
    for one in everybody:
        one.start()
    until = time.monotonic() + within
    quiet = 0
    told = 0.0
    while time.monotonic() < until:
        failed = [f"{one.name}: {one.failure!r}" for one in everybody if one.failure]
        assert not failed, failed
        left = director.left()
        quiet = quiet + 1 if left == 0 and all(clinic.idle.is_set() for clinic in clinics) else 0
        if quiet >= 3:
            break
        if time.monotonic() - told > 15:
            told = time.monotonic()
            say(f"{left} exams wait, {len(ledger.signed)} signed, {sum(ledger.deeds.values())} deeds")
        time.sleep(0.3)
    else:
        raise AssertionError(f"{director.left()} exams still wait after {within:.0f} s")
    stop.set()
    for one in [*readers, director]:
        one.join(60)
    hard_stop.set()
    for one in clinics:
        one.join(60)
    failed = [f"{one.name}: {one.failure!r}" for one in everybody if one.failure]
    assert not failed, failed
    return ledger
