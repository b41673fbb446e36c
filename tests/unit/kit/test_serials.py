"""A number is given once."""

from __future__ import annotations

import threading
from pathlib import Path

from hub.kit.db import database
from hub.kit.serials import next_serial


def test_numbers_follow_one_another_and_scopes_do_not_meet(hub_env: Path) -> None:
    with database().writing() as session:
        assert [next_serial(session, "a"), next_serial(session, "a"), next_serial(session, "b")] == [1, 2, 1]


def test_many_writers_get_different_numbers(hub_env: Path) -> None:
    given: list[int] = []

    def take() -> None:
        for _number in range(10):
            with database().writing() as session:
                given.append(next_serial(session, "a"))

    threads = [threading.Thread(target=take) for _number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(given) == list(range(1, 41))
