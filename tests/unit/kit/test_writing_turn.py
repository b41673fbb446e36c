"""The turn at writing to SQLite, among threads, connections and processes."""

from __future__ import annotations

import multiprocessing
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.kit.writing_turn import WritingTurn

pytestmark = pytest.mark.embedded


def _hold(path: Path, seconds: float, taken: multiprocessing.synchronize.Event) -> None:
    turn = WritingTurn(path)
    assert turn.take()
    taken.set()
    time.sleep(seconds)
    # It dies with the turn in its hands.


def test_another_process_holds_the_turn_and_dies_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    taken = context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "turn", 0.5, taken))
    other.start()
    assert taken.wait(20)
    assert not WritingTurn(tmp_path / "turn", patience=0.01).take()
    mine = WritingTurn(tmp_path / "turn", patience=20)
    assert mine.take()
    other.join(10)
    mine.give()


def test_one_at_a_time_within_a_process(tmp_path: Path) -> None:
    turn = WritingTurn(tmp_path / "turn", patience=0.05)
    assert turn.take()
    missed: list[bool] = []
    thread = threading.Thread(target=lambda: missed.append(turn.take()))
    thread.start()
    thread.join(5)
    assert missed == [False]
    turn.give()
    assert turn.take()
    turn.give()


def test_a_folder_without_room_for_it_only_costs_the_turn(tmp_path: Path) -> None:
    turn = WritingTurn(tmp_path / "missing" / "turn")
    assert not turn.take()
    assert not turn.take()


def test_the_turn_ends_with_the_transaction_however_it_ends(hub_env: Path) -> None:
    with database().writing() as session:
        session.execute(text("CREATE TABLE turns (n INTEGER)"))
    with pytest.raises(ZeroDivisionError), database().writing() as session:
        session.execute(text("INSERT INTO turns VALUES (1)"))
        raise ZeroDivisionError
    begun = time.monotonic()
    with database().writing() as session:
        session.execute(text("INSERT INTO turns VALUES (2)"))
    assert time.monotonic() - begun < 10
    with database().reading() as session:
        assert session.scalars(text("SELECT n FROM turns")).all() == [2]


def test_who_does_not_come_by_this_door_still_excludes_the_others(hub_env: Path) -> None:
    with database().writing() as session:
        session.execute(text("CREATE TABLE turns (n INTEGER)"))
    stranger = sqlite3.connect(str(get_settings().database_url).partition("///")[2], isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    stranger.execute("INSERT INTO turns VALUES (1)")
    done = threading.Event()

    def write() -> None:
        with database().writing() as session:
            session.execute(text("INSERT INTO turns SELECT max(n) + 1 FROM turns"))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    assert not done.wait(0.2)
    stranger.execute("COMMIT")
    stranger.close()
    thread.join(30)
    with database().reading() as session:
        assert session.scalars(text("SELECT n FROM turns ORDER BY n")).all() == [1, 2]
