"""The turn at writing to SQLite, among threads, connections and processes."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import sqlite3
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hub.kit import db
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.kit.writing_turn import WritingTurn

pytestmark = pytest.mark.embedded
MAKE_ENGINE = db.make_engine


def _hold(path: Path, taken: multiprocessing.synchronize.Event, seen: multiprocessing.synchronize.Event) -> None:
    turn = WritingTurn(path)
    assert turn.take()
    taken.set()
    seen.wait(120)
    time.sleep(0.5)
    # It dies with the turn in its hands.


def test_another_process_holds_the_turn_and_dies_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    taken, seen = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "turn", taken, seen))
    other.start()
    assert taken.wait(60)
    assert not WritingTurn(tmp_path / "turn", patience=0.01).take()
    seen.set()
    mine = WritingTurn(tmp_path / "turn", patience=60)
    assert mine.take()
    other.join(60)
    mine.give()


def test_one_at_a_time_within_a_process(tmp_path: Path) -> None:
    turn = WritingTurn(tmp_path / "turn", patience=0.05)
    assert turn.take()
    missed: list[bool] = []
    thread = threading.Thread(target=lambda: missed.append(turn.take()))
    thread.start()
    thread.join(60)
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


def test_a_turn_that_cannot_be_given_back_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = WritingTurn(tmp_path / "turn", patience=0.1)
    assert turn.take()
    flock = fcntl.flock

    def refused(*_args: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refused)
    turn.give()
    monkeypatch.setattr(fcntl, "flock", flock)
    assert WritingTurn(tmp_path / "turn", patience=0.1).take()


def test_a_wait_that_is_broken_off_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, turn = WritingTurn(tmp_path / "turn"), WritingTurn(tmp_path / "turn", patience=5)
    assert other.take()

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hub.kit.writing_turn.time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        turn.take()
    monkeypatch.undo()
    other.give()
    assert turn.take()
    turn.give()


def test_a_child_does_not_hold_its_parents_turn(tmp_path: Path) -> None:
    turn = WritingTurn(tmp_path / "turn")
    assert turn.take()
    context = multiprocessing.get_context("fork")
    go = context.Event()
    child = context.Process(target=go.wait, args=(120,))
    child.start()
    # As by the death of the parent: its own descriptor is closed without unlocking.
    os.close(turn._file)
    assert WritingTurn(tmp_path / "turn", patience=60).take()
    go.set()
    child.join(60)


def test_a_database_that_stays_busy_says_so_as_any_error_of_it(hub_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "_PATIENCE", 0.05)
    monkeypatch.setattr(db, "make_engine", MAKE_ENGINE)
    db.reset_database()
    stranger = sqlite3.connect(str(get_settings().database_url).partition("///")[2], isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    for _time in range(2):
        with pytest.raises(OperationalError, match="locked"), database().writing() as session:
            session.execute(text("SELECT 1"))
    stranger.execute("ROLLBACK")
    stranger.close()
    with database().writing() as session:
        session.execute(text("CREATE TABLE turns (n INTEGER)"))


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
    thread.join(60)
    with database().reading() as session:
        assert session.scalars(text("SELECT n FROM turns ORDER BY n")).all() == [1, 2]
