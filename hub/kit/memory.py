"""Memory as a server needs it: the collector of cyclic garbage, and the C library's heap."""

from __future__ import annotations

import ctypes
import gc
from typing import Final

OFTEN: Final = 10_000
"""Objects made beyond those let go of, before the youngest are looked at."""

# Of glibc's malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_KEPT: Final = 32 << 20
_MAPPED_FROM: Final = 4 << 20
_ARENAS: Final = 4


def prepare() -> None:
    """Once for a server's process, when all that lives as long as it is loaded and nobody is served yet."""
    _spare_the_lasting()
    _keep_pages()


def _spare_the_lasting() -> None:
    """Modules, routes and mappings are hundreds of thousands of objects, which the collector is not to walk again.

    To do so costs a tenth of what taking images in does, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OFTEN, 20, 20)


def _keep_pages() -> None:
    """Pieces of images come and go at hundreds of megabytes a second: their pages are used again, not given back.

    By default each piece gets fresh pages of the system, which costs more than to fill them. What is kept is bounded
    for each arena, and the arenas are. Other C libraries than glibc are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_ARENA_MAX, _ARENAS)
    mallopt(_TRIM_THRESHOLD, _KEPT)
    mallopt(_MMAP_THRESHOLD, _MAPPED_FROM)
