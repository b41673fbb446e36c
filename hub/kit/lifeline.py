"""Children that end with their supervisor, however it ends.

The supervisor keeps the writing end of a pipe and writes nothing; every child holds the reading end. When the
supervisor is gone, by kill -9 too, the kernel closes the pipe, and each child ends itself.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "HUB_LIFELINE"
GRACE_SECONDS = 8.0


def hold() -> None:
    """End this process when its supervisor ends. Nothing happens where there is none, or when called again."""
    descriptor = os.environ.pop(VARIABLE, "")
    if descriptor.isdigit():
        threading.Thread(target=_watch, args=(int(descriptor),), daemon=True, name="lifeline").start()


def _watch(descriptor: int) -> None:
    try:
        while os.read(descriptor, 1):
            pass
    except OSError:
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    # The process leads a group of its own: its children go with it.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
