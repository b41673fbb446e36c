"""Identifiers of rows."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hub.kit.ids import new_id


def test_each_is_greater_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    made = [new_id() for _number in range(100)]
    # A millisecond lasts as long as it likes, and the clock is set back.
    monkeypatch.setattr(time, "time", lambda: now)
    made += [new_id() for _number in range(1000)]
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    made += [new_id() for _number in range(1000)]
    assert made == sorted(set(made))
    assert {len(one) for one in made} == {26}


def test_those_made_at_once_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    with ThreadPoolExecutor(4) as pool:
        made = [one for part in pool.map(lambda _n: [new_id() for _number in range(500)], range(4)) for one in part]
    assert len(set(made)) == len(made) == 2000
