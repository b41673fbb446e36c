"""Running a coroutine of pyHanko's from code that may or may not stand inside an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run(job: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a coroutine from code that may or may not stand inside an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(job())
    box: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            box.append(asyncio.run(job()))
        except BaseException as error:  # handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return box[0]
