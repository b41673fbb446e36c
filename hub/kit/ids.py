"""Identifiers: time-sortable for rows, unguessable for secrets, UUID-derived for DICOM."""

from __future__ import annotations

import secrets
import time
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """26 characters, sortable by the millisecond of creation (the layout of a ULID, in lower case)."""
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def new_secret(size: int = 32) -> str:
    """URL-safe random text of `size` random bytes."""
    return secrets.token_urlsafe(size)


def new_uid() -> str:
    """A DICOM UID derived from a random UUID (PS3.5 section B.2)."""
    return f"2.25.{uuid.uuid4().int}"
