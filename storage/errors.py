"""What can go wrong in an object store, sorted by what the caller should do about it."""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Base of every error of this package.

    Attributes:
        retriable: Whether the same call may succeed later without anybody changing it.
    """

    retriable: ClassVar[bool] = False


class InvalidKey(StorageError, ValueError):
    """The key is not one that `storage.keys` would make or accept."""


class ObjectNotFound(StorageError):
    """No object has this key."""


class ObjectExists(StorageError):
    """The key already holds other bytes; objects are never altered in place."""


class ChecksumMismatch(StorageError):
    """The bytes are not those that were promised: other hash, other size, truncated or damaged."""


class RangeNotSatisfiable(StorageError, ValueError):
    """The range does not lie within the object."""


class StorageUnavailable(StorageError):
    """The store does not answer, refuses, or fails; nothing is known to be stored."""

    retriable = True


class StorageFull(StorageError):
    """No room is left; retrying helps only after somebody made some."""

    retriable = True
