"""The one reader of instances' bytes: as stored, and as they were sent.

An instance lies at (object key, offset, size): several may share an object. What lies there is the file that was sent,
or the same image recompressed without loss (`original_syntax` says so), beside which lies the recipe that rebuilds the
sent file byte for byte. Every read stays within the instance: a neighbour's bytes are never given out.

Whole originals are proven: the last piece is withheld until the SHA-256 of all equals that of the index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from hub.dicom import framing
from hub.dicom.framing import FrameIndex
from hub.dicom.recipe import BrokenRecipe, Recipe
from hub.kit.objects import object_store
from storage.base import COPY_CHUNK
from storage.errors import ChecksumMismatch, RangeNotSatisfiable

WINDOW: Final = 8 << 20


class Stored(Protocol):
    """Where a file lies; `Instance` is one, and so is any record with these fields."""

    @property
    def object_key(self) -> str:
        """The object."""

    @property
    def object_offset(self) -> int:
        """Where in the object the file begins."""

    @property
    def size(self) -> int:
        """Length of the stored file in bytes."""


class Kept(Stored, Protocol):
    """A stored file of which the original can be had."""

    @property
    def file_sha256(self) -> str:
        """Lower-case hex digest of the file as it was sent."""

    @property
    def original_syntax(self) -> str:
        """Transfer syntax in which it was sent, if it was recompressed; else ""."""

    @property
    def original_size(self) -> int:
        """Length of the file as it was sent, if it was recompressed."""

    @property
    def recipe_offset(self) -> int:
        """Where in the object the recipe begins."""

    @property
    def recipe_size(self) -> int:
        """Length of the recipe in bytes."""

    @property
    def frame_index(self) -> bytes:
        """Where the frames lie (`FrameIndex.to_bytes`)."""


class Source(Protocol):
    """What objects are read from: the object store, or what stands in for it."""

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """A range of an object; see `ObjectStore.read`."""

    def iter_range(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = COPY_CHUNK
    ) -> Iterator[bytes]:
        """A range of an object in chunks; see `ObjectStore.iter_range`."""


# --- as stored ------------------------------------------------------------------------------------------------------


def read_file(at: Stored, *, store: Source | None = None) -> bytes:
    """The stored file, whole.

    Raises:
        ObjectNotFound: The object is gone: it may have been stored anew, so read the row again.
        StorageUnavailable: The store does not answer.
    """
    return (store or object_store()).read(at.object_key, at.object_offset, at.size)


def read_range(at: Stored, offset: int, length: int, *, store: Source | None = None) -> bytes:
    """`length` bytes at `offset` of the stored file.

    Raises:
        RangeNotSatisfiable: The range leaves the file. Others as `read_file`.
    """
    _within(at, offset, length)
    return (store or object_store()).read(at.object_key, at.object_offset + offset, length)


def iter_file(
    at: Stored,
    offset: int = 0,
    length: int | None = None,
    *,
    chunk: int = COPY_CHUNK,
    store: Source | None = None,
) -> Iterator[bytes]:
    """A range of the stored file (to its end where `length` is None) in chunks; errors come before the first chunk."""
    wanted = at.size - offset if length is None else length
    _within(at, offset, wanted)
    return (store or object_store()).iter_range(at.object_key, at.object_offset + offset, wanted, chunk)


def reader_of(at: Stored, *, store: Source | None = None) -> Callable[[int, int], bytes]:
    """What reads `(offset, length)` of the stored file."""
    return lambda offset, length: read_range(at, offset, length, store=store)


def read_frame(at: Stored, index: FrameIndex, number: int, *, store: Source | None = None) -> bytes:
    """The stored bytes of frame `number`, counted from 0; only for an index whose base is the file.

    Raises:
        IndexError: There is no such frame. Others as `read_range`.
    """
    return framing.read_frame(index, number, reader_of(at, store=store))


def _within(at: Stored, offset: int, length: int) -> None:
    if offset < 0 or length < 0 or offset + length > at.size:
        raise RangeNotSatisfiable(f"bytes {offset}+{length} leave the file of {at.size} bytes")


# --- as sent --------------------------------------------------------------------------------------------------------


def original_length(at: Kept) -> int:
    """Length in bytes of the file as it was sent."""
    return at.original_size if at.original_syntax else at.size


def original_file(at: Kept, *, store: Source | None = None) -> bytes:
    """The file as it was sent, byte for byte, proven by its SHA-256.

    Raises:
        ChecksumMismatch: What is stored does not give the file that was sent. Others as `read_file`.
    """
    return b"".join(iter_original(at, store=store))


def iter_original(at: Kept, *, store: Source | None = None) -> Iterator[bytes]:
    """The file as it was sent, in pieces; memory is bounded by one frame and a window.

    The last piece is given only when the hash of all agrees: whoever receives a whole file receives the right one.

    Raises:
        ChecksumMismatch: As `original_file`, in place of the last piece. Others as `read_file`, with the first piece.
    """
    pieces = _rebuilt(at, store or object_store()) if at.original_syntax else iter_file(at, store=store)
    return _proven(pieces, at.file_sha256)


def _proven(pieces: Iterator[bytes], sha256: str) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    held: bytes | None = None
    for piece in pieces:
        if held is not None:
            yield held
        hasher.update(piece)
        held = piece
    if hasher.hexdigest() != sha256:
        raise ChecksumMismatch("the stored bytes do not give the file that was sent")
    if held is not None:
        yield held


def _rebuilt(at: Kept, store: Source) -> Iterator[bytes]:
    index = FrameIndex.from_bytes(at.frame_index)
    window = _Window(at, store)
    try:
        recipe = Recipe.from_bytes(store.read(at.object_key, at.recipe_offset, at.recipe_size))
        if recipe.size != at.original_size or recipe.layout.frames != index.count:
            raise BrokenRecipe("the recipe belongs to another file")
        yield from recipe.rebuild(lambda number: framing.read_frame(index, number, window.read))
    except BrokenRecipe as error:
        raise ChecksumMismatch(f"the original cannot be rebuilt: {error}") from error


class _Window:
    """Reads a file forward in large pieces, so that a thousand small frames are not a thousand requests."""

    def __init__(self, at: Stored, store: Source) -> None:
        self._at, self._store = at, store
        self._start, self._data = 0, b""

    def read(self, offset: int, length: int) -> bytes:
        if not self._start <= offset <= offset + length <= self._start + len(self._data):
            _within(self._at, offset, length)
            take = min(max(length, WINDOW), self._at.size - offset)
            self._start, self._data = offset, read_range(self._at, offset, take, store=self._store)
        begin = offset - self._start
        return self._data[begin : begin + length]
