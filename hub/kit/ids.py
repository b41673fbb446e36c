"""Identifiers: time-sortable for rows, unguessable for secrets, UUID-derived for DICOM."""

from __future__ import annotations

import secrets
import threading
import time
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_here = threading.local()


def new_id() -> str:
    """26 characters, sortable by the time of creation (the layout of a ULID, in lower case).

    Of one thread each is greater than the one before, within a millisecond and when the clock is set back as well:
    rows of one transaction are listed in the order in which they were made.
    """
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    last: int = getattr(_here, "last", 0)
    if value <= last:
        value = last + 1 + secrets.randbits(64)
    _here.last = value
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_secret(size: int = 32) -> str:
    """URL-safe random text of `size` random bytes."""
    return secrets.token_urlsafe(size)


def new_uid() -> str:
    """A DICOM UID derived from a random UUID (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid4().int}"
