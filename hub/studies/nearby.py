"""Pieces of instances that can be had without waiting: the page cache, or what was read ahead from a remote store.

A viewer asks for one frame after another of the same series, and the frames of a request lie in one object: from a
remote store they are read in blocks, of which the next frames are a part. Objects are never altered in place, so a
block is right for as long as it is kept. What is given out stays within the range that was asked for.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from hub.kit.objects import object_store
from hub.kit.settings import get_settings

BLOCK: Final = 2 << 20
"""Bytes read at a time from a remote store."""


class Blocks:
    """Blocks of objects, at most `room` bytes of them; the longest unused go first. Safe among threads."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()
        self._reading: dict[tuple[str, int], threading.Lock] = {}

    def get(self, key: str, offset: int, length: int) -> bytes | None:
        """A range, if all of it is here."""
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        with self._lock:
            parts = []
            for number in range(first, last + 1):
                block = self._kept.get((key, number))
                if block is None:
                    return None
                self._kept.move_to_end((key, number))
                begin = max(0, offset - number * BLOCK)
                parts.append(block[begin : offset + length - number * BLOCK])
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        return data if len(data) == length else None

    def read(self, key: str, offset: int, length: int, end: int) -> bytes:
        """A range, its blocks being read where they are not here. `end`: up to where the object surely reaches.

        Raises:
            StorageError: As `ObjectStore.read`.
        """
        for number in range(offset // BLOCK, (offset + length - 1) // BLOCK + 1):
            place = (key, number)
            with self._lock:
                turn = self._reading.setdefault(place, threading.Lock())
            # Of several who want the same block one reads it.
            with turn:
                if place in self._kept:
                    continue
                begin = number * BLOCK
                try:
                    self._put(place, object_store().read(key, begin, min(BLOCK, end - begin)))
                finally:
                    with self._lock:
                        self._reading.pop(place, None)
        found = self.get(key, offset, length)
        return found if found is not None else object_store().read(key, offset, length)

    def _put(self, place: tuple[str, int], block: bytes) -> None:
        with self._lock:
            self._size += len(block) - len(self._kept.pop(place, b""))
            self._kept[place] = block
            while self._size > self.room and len(self._kept) > 1:
                _place, gone = self._kept.popitem(last=False)
                self._size -= len(gone)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self._size = 0


_blocks: Blocks | None = None


def blocks() -> Blocks | None:
    """The blocks of this process; None where objects are local files, which the system caches itself."""
    global _blocks  # noqa: PLW0603
    settings = get_settings()
    if settings.cache_mb <= 0 or settings.object_store_url.startswith("file:"):
        return None
    if _blocks is None or _blocks.room != settings.cache_mb << 20:
        _blocks = Blocks(settings.cache_mb << 20)
    return _blocks


def forget() -> None:
    """Forget all blocks (tests, and after objects were purged)."""
    if _blocks is not None:
        _blocks.clear()


def at_hand(key: str, offset: int, length: int) -> bytes | None:
    """A range of an object, if it can be had without waiting."""
    kept = blocks()
    if kept is not None:
        return kept.get(key, offset, length)
    return object_store().read_now(key, offset, length)


def read(key: str, offset: int, length: int, *, end: int) -> bytes:
    """A range of an object; may wait.

    Args:
        key: The object.
        offset: Where the range begins.
        length: Its length in bytes.
        end: Up to where the object surely reaches: so far may be read ahead.

    Raises:
        StorageError: As `ObjectStore.read`.
    """
    kept = blocks()
    if kept is None or not 0 < length <= kept.room // 4 or offset + length > end:
        return object_store().read(key, offset, length)
    return kept.read(key, offset, length, end)
