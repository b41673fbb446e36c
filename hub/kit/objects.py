"""The object store of this process."""

from __future__ import annotations

from hub.kit.settings import get_settings
from storage.base import ObjectStore
from storage.factory import open_store

_store: ObjectStore | None = None


def object_store() -> ObjectStore:
    """The object store named by the settings, opened on first use."""
    global _store  # noqa: PLW0603
    if _store is None:
        _store = open_store(get_settings().object_store_url)
    return _store


def reset_object_store() -> None:
    """Forget the process's store (tests; after a fork)."""
    global _store  # noqa: PLW0603
    _store = None
