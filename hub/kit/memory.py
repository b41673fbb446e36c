"""Memory as a server needs it: the collector of cyclic garbage, and the C library's heap."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Callable
from typing import Final, cast

OFTEN: Final = 10_000
"""Objects made beyond those let go of, before the youngest are looked at."""

# Of glibc's malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_KEPT: Final = 32 << 20
_MAPPED_FROM: Final = 4 << 20
_ARENAS: Final = 1

_SECONDS: Final = 5.0


def prepare() -> None:
    """Once for a server's process, when all that lives as long as it is loaded and nobody is served yet."""
    _spare_the_lasting()
    _keep_pages()
    threading.Thread(target=_give_back_now_and_then, name="memory", daemon=True).start()


def _spare_the_lasting() -> None:
    """Modules, routes and mappings are hundreds of thousands of objects, which the collector is not to walk again.

    To do so costs a tenth of what taking images in does, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OFTEN, 20, 20)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc's heap; None where the process runs on another C library."""
    try:
        return cast("Callable[..., int]", getattr(ctypes.CDLL(None), name))
    except (OSError, AttributeError):
        return None


def _keep_pages() -> None:
    """Pieces of images come and go at hundreds of megabytes a second: their pages are used again, not given back.

    By default each piece gets fresh pages of the system, which costs more than to fill them. There is one arena:
    Python's threads allocate in turn, and what one has let go of the next uses, instead of an arena's own. Other C
    libraries than glibc are left as they are.
    """
    if mallopt := _glibc("mallopt"):
        mallopt(_ARENA_MAX, _ARENAS)
        mallopt(_TRIM_THRESHOLD, _KEPT)
        mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)


def give_back() -> None:
    """Let the system have what of the heap is free, wherever it lies.

    By itself the heap gives back only what is free at its end. This takes milliseconds and does not hold the
    interpreter. Other C libraries than glibc are left as they are.
    """
    if trim := _glibc("malloc_trim"):
        trim(0)


def _give_back_now_and_then() -> None:
    """What one load took is not to be added to what the next one takes: loads use different parts of the heap."""
    while True:
        time.sleep(_SECONDS)
        give_back()
