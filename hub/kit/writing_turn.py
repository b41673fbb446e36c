"""Whose turn it is to write to a SQLite database, among the threads and processes of one machine.

SQLite lets one transaction write at a time. Whoever comes second asks again after 1, 2, 5 … 100 ms, so that under
several writers the database stands idle most of the time and somebody waits for long. Here the next one is let in as
soon as the one before him has ended. SQLite's own lock still decides: whoever does not come by this door (the sqlite3
shell, a backup), or whose patience is at its end, is only slower.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import weakref
from pathlib import Path
from typing import Final

_LOOK: Final = 0.0005
"""Seconds between two looks whether another process has ended its turn."""


class WritingTurn:
    """The turn at one database.

    Args:
        path: A file beside the database; it is made, and stays.
        patience: Seconds after which somebody goes on without it.
    """

    def __init__(self, path: Path, *, patience: float = 30.0) -> None:
        self._path = path
        self._patience = patience
        self._here = threading.Lock()
        self._file = -1
        _turns.add(self)

    def after_fork(self) -> None:
        """In a child: nothing of it is this process's."""
        self._here = threading.Lock()
        self._forget_file()

    def take(self) -> bool:
        """Wait for the turn; False where it did not come."""
        until = time.monotonic() + self._patience
        if not self._here.acquire(timeout=self._patience):
            return False
        taken = False
        try:
            taken = self._among_processes(until)
        finally:
            if not taken:
                self._here.release()
        return taken

    def _among_processes(self, until: float) -> bool:
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            while True:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic() >= until:
                        return False
                    time.sleep(_LOOK)
                else:
                    return True
        except OSError:
            # A file system without locks, or a full one: SQLite has its own.
            return False

    def give(self) -> None:
        """End the turn that was taken."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError:
            # Closing lets go of it as well; the transaction that has ended must not seem to have failed.
            self._forget_file()
        finally:
            self._here.release()

    def _forget_file(self) -> None:
        descriptor, self._file = self._file, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def close(self) -> None:
        """Let go of the file; the next turn opens it again."""
        with self._here:
            self._forget_file()


def _in_child() -> None:
    """A forked process shares its parent's files: it would hold a turn that its parent took, were that one killed."""
    for turn in list(_turns):
        turn.after_fork()


_turns: weakref.WeakSet[WritingTurn] = weakref.WeakSet()
os.register_at_fork(after_in_child=_in_child)
