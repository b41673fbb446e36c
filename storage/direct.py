"""Writing past the page cache.

What is flushed at once gains nothing by a copy in the system's cache, which costs as much as all else that is done
with an image, and pushes out what is read often. Whoever reads such an object first reads it from the disk.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Final

WORTHWHILE: Final = 256 << 10
BUFFER: Final = 2 << 20
_BUFFERS: Final = 4
# The strictest that disks and filesystems in use ask for.
_ALIGNED: Final = 4096
_UNFIT: Final = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}

_lock = threading.Lock()
_free: list[mmap.mmap] = []
_made = 0


def write(descriptor: int, pieces: Sequence[bytes]) -> bool:
    """Write pieces, one after another, into an empty file; the caller flushes it.

    Args:
        descriptor: An open, empty file at its beginning.
        pieces: Its content.

    Returns:
        False where this cannot be done so, or is not worth it: the file is empty as before.

    Raises:
        OSError: The disk refused.
    """
    size = sum(map(len, pieces))
    if size < WORTHWHILE or not hasattr(os, "O_DIRECT"):  # Linux has it
        return False
    buffer = _take()
    if buffer is None:
        return False
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        if _directly(descriptor, flags, pieces, buffer):
            os.ftruncate(descriptor, size)
            return True
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)
        with _lock:
            _free.append(buffer)
    os.ftruncate(descriptor, 0)
    return False


def _directly(descriptor: int, flags: int, pieces: Sequence[bytes], buffer: mmap.mmap) -> bool:
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        with memoryview(buffer) as view:
            at = filled = 0
            for piece in pieces:
                taken = 0
                while taken < len(piece):
                    more = min(len(piece) - taken, BUFFER - filled)
                    view[filled : filled + more] = memoryview(piece)[taken : taken + more]
                    taken, filled = taken + more, filled + more
                    if filled == BUFFER:
                        if os.pwrite(descriptor, view, at) != BUFFER:
                            return False
                        at, filled = at + BUFFER, 0
            rest = -(-filled // _ALIGNED) * _ALIGNED
            # What stands after the end is cut off: it may be another image's.
            with view[:rest] as last:
                return not filled or os.pwrite(descriptor, last, at) == rest
    except OSError as error:
        if error.errno not in _UNFIT:
            raise
        return False


def _take() -> mmap.mmap | None:
    """A buffer that begins at a page; None while all are in use, which bounds the memory."""
    global _made  # noqa: PLW0603
    with _lock:
        if _free:
            return _free.pop()
        if _made == _BUFFERS:
            return None
        _made += 1
    # Private: a forked process must not write into its parent's.
    return mmap.mmap(-1, BUFFER, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
