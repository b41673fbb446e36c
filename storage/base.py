"""The interface every object store keeps, and what the implementations share."""

from __future__ import annotations

import contextlib
import hashlib
import io
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Self

from storage.errors import (
    ChecksumMismatch,
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageError,
    StorageFull,
    StorageUnavailable,
)

__all__ = [
    "ChecksumMismatch",
    "InvalidKey",
    "ObjectExists",
    "ObjectNotFound",
    "ObjectStat",
    "ObjectStore",
    "RangeNotSatisfiable",
    "StorageError",
    "StorageFull",
    "StorageUnavailable",
]

COPY_CHUNK = 1024 * 1024
PROBE_NAMESPACE = "probe"


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What a store knows of an object.

    Attributes:
        key: The object's key.
        size: Bytes.
        sha256: Lower-case hex digest; always set by `put`, `put_file` and `verify`; otherwise only where the store
            keeps it (S3 metadata). The caller's index is the authority.
        modified: When it was stored (aware UTC), where known.
    """

    key: str
    size: int
    sha256: str | None = None
    modified: datetime | None = None


class RangeIterator(Iterator[bytes]):
    """Exactly `length` bytes of an open stream in chunks; closes the stream at the end, on error, and when dropped.

    The first chunk is read at once, so that a missing object or a bad range is known before a response starts.
    """

    def __init__(self, stream: BinaryIO, length: int, chunk: int) -> None:
        self._stream = stream
        self._left = length
        self._chunk = max(1, chunk)
        self._first: bytes | None = self._take() if length else None
        if not self._left:
            self._stream.close()

    def _take(self) -> bytes:
        try:
            data = self._stream.read(min(self._chunk, self._left))
        except OSError as error:
            self.close()
            raise StorageUnavailable(f"reading failed: {error}") from error
        except BaseException:
            self.close()
            raise
        if not data:
            self.close()
            raise ChecksumMismatch("the object ended before its recorded size")
        self._left -= len(data)
        return data

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            data, self._first = self._first, None
            return data
        if not self._left:
            self.close()
            raise StopIteration
        return self._take()

    def close(self) -> None:
        """Release the file or connection."""
        self._stream.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()


def clip_range(size: int, offset: int, length: int | None) -> int:
    """Return how many bytes a range covers.

    Args:
        size: Bytes in the object.
        offset: First byte.
        length: Bytes wanted; None: to the end.

    Raises:
        RangeNotSatisfiable: If the range is negative or leaves the object. A short answer is never given: for a frame
            it would be a damaged image.
    """
    if offset < 0 or (length is not None and length < 0):
        raise RangeNotSatisfiable("a range starts at 0 or later and has no negative length")
    if offset > size or (length is not None and offset + length > size):
        raise RangeNotSatisfiable(f"bytes {offset}+{length} leave the object of {size} bytes")
    return size - offset if length is None else length


def check_expected(key: str, size: int, digest: str, want_size: int | None, want_sha256: str | None) -> None:
    """Compare what arrived with what was promised.

    Raises:
        ChecksumMismatch: If size or hash differ.
    """
    if want_size is not None and size != want_size:
        raise ChecksumMismatch(f"{key}: {size} bytes arrived where {want_size} were promised")
    if want_sha256 is not None and digest != want_sha256.lower():
        raise ChecksumMismatch(f"{key}: the bytes that arrived have another SHA-256 than promised")


class ObjectStore(ABC):
    """Immutable objects under opaque keys.

    Every method may raise `StorageUnavailable`; every method taking a key may raise `InvalidKey`. Instances may be
    used by several threads, and several processes may use one store.
    """

    @abstractmethod
    def put(
        self,
        key: str,
        source: BinaryIO | bytes,
        *,
        size: int | None = None,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectStat:
        """Store an object, hashing while it streams.

        On return the bytes are durable. Before that nothing is visible under the key, and nothing stays if it fails.
        The same bytes under an existing key are success.

        Args:
            key: A key from `storage.keys.new_key`.
            source: Bytes, or a stream read from where it stands to its end.
            size: Bytes promised, if known.
            sha256: Hex digest promised, if known.
            content_type: Kept where the store can.

        Raises:
            ObjectExists: The key holds other bytes.
            ChecksumMismatch: Size or hash differ from what was promised.
            StorageFull: No room.
        """

    def put_pieces(self, key: str, pieces: Sequence[bytes]) -> ObjectStat:
        """Store the pieces, one after another, as one object; durable on return, like `put`.

        For a caller who knows the hash of each piece and names the pieces by their ranges: the whole is not hashed
        (`sha256` of the answer is None), which for many images costs more than writing them.

        Raises:
            ObjectExists: The key holds other bytes.
            StorageFull: No room.
        """
        return self.put(key, b"".join(pieces))

    @abstractmethod
    def put_file(
        self, key: str, path: Path, *, sha256: str | None = None, move: bool = True, keep: bool = False
    ) -> ObjectStat:
        """Store a finished local file; with `move` the file is gone after success and untouched after failure.

        With `move` and `keep` it stays until the caller removes it, perhaps as another name of the object itself: for
        a caller who does not know yet whether the object will be wanted. He promises never to write to it again.

        On a filesystem the file is linked into place where it lies on the same device and nobody else has a link to
        it, so the caller must have closed it. Promises and errors as `put`.

        Raises:
            FileNotFoundError: The local file is missing.
            InvalidKey: Also where `path` is a symbolic link or not a regular file.
        """

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """Open an object for streaming; seekable. Close it (or use `with`) to release the file or connection.

        Raises:
            ObjectNotFound: No such object.
        """

    @abstractmethod
    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range whole into memory; `length` None reads to the end.

        Raises:
            ObjectNotFound: No such object.
            RangeNotSatisfiable: The range leaves the object.
        """

    def read_now(self, key: str, offset: int, length: int) -> bytes | None:
        """A range that can be had without waiting for a disk or a network; None where it cannot, whatever the reason.

        For event loops, which must not wait: who gets None asks `read` from a thread.
        """
        del key, offset, length
        return None

    @abstractmethod
    def iter_range(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = COPY_CHUNK
    ) -> Iterator[bytes]:
        """Stream a range in chunks of at most `chunk` bytes. Errors as `read`, raised before the first chunk."""

    @abstractmethod
    def stat(self, key: str) -> ObjectStat:
        """Size and what else is known.

        Raises:
            ObjectNotFound: No such object.
        """

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`, in no promised order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; a missing one is success."""

    def presign(self, key: str, seconds: int) -> str | None:
        """A URL that serves this object for so many seconds; None where the store has no such thing."""
        del key, seconds
        return None

    def free_bytes(self) -> int | None:
        """Room left, in bytes; None where the store cannot say."""
        return None

    def sweep(self, older_than_seconds: float = 86_400) -> int:
        """Remove what interrupted puts left behind (never visible as objects) and return how many were removed."""
        del older_than_seconds
        return 0

    def exists(self, key: str) -> bool:
        """Whether the key holds an object."""
        try:
            self.stat(key)
        except ObjectNotFound:
            return False
        return True

    def verify(self, key: str, sha256: str, size: int | None = None) -> ObjectStat:
        """Read an object whole and compare it with the index.

        Raises:
            ObjectNotFound: No such object.
            ChecksumMismatch: The bytes are damaged, truncated or others.
        """
        stat = self.stat(key)
        digest, length = self._digest(key)
        check_expected(key, length, digest, stat.size if size is None else size, sha256)
        return ObjectStat(key, length, digest, stat.modified)

    def check(self) -> None:
        """Prove that the store works: really write, read and delete a probe.

        Raises:
            StorageUnavailable: With a sentence for the operator.
            StorageFull: No room.
        """
        token = secrets.token_hex(16)
        key, payload = f"{PROBE_NAMESPACE}/{token}", token.encode()
        self.put(key, payload)
        try:
            if self.read(key) != payload:
                raise StorageUnavailable("the store gave back other bytes than were just written")
        except ObjectNotFound as error:
            raise StorageUnavailable("the store does not have what it just acknowledged") from error
        finally:
            self.delete(key)

    def close(self) -> None:  # noqa: B027 (most stores hold nothing)
        """Release connections."""

    def _digest(self, key: str) -> tuple[str, int]:
        hasher, length = hashlib.sha256(), 0
        with self.open(key) as stream:
            try:
                while data := stream.read(COPY_CHUNK):
                    hasher.update(data)
                    length += len(data)
            except OSError as error:
                raise StorageUnavailable(f"{key}: reading failed: {error}") from error
        return hasher.hexdigest(), length

    def _settle_existing(self, key: str, digest: str, size: int) -> ObjectStat:
        """Decide about a key that is taken: the same bytes are success, others are not.

        The stored bytes themselves are hashed where the sizes agree: a label could be right and the bytes damaged.
        """
        stat = self.stat(key)
        if stat.size == size and self._digest(key)[0] == digest:
            return ObjectStat(key, size, digest, stat.modified)
        raise ObjectExists(f"{key} already holds other bytes")


def as_stream(source: BinaryIO | bytes) -> BinaryIO:
    """Give bytes the shape of a stream."""
    return io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
