"""Object keys: opaque, random, and safe as a file name, an S3 key and a URL path."""

from __future__ import annotations

import re
import secrets

from storage.errors import InvalidKey

MAX_KEY_LENGTH = 512
MAX_SEGMENT_LENGTH = 200

# A segment never starts with a dot, so that neither `..` nor the store's own dot folders can be named.
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def new_key(namespace: str) -> str:
    """Make a key that nobody has: `namespace/ab/<30 hex digits>`.

    128 random bits, of which the first two hex digits are a folder: 256 folders hold tens of thousands each after
    fifteen years of a county, and are few enough that a store soon has them all and need not make new ones, nor each
    of its processes flush their names again.

    Args:
        namespace: What the object is for, e.g. `instances`; itself a valid key.

    Raises:
        InvalidKey: If the namespace is not a valid key.
    """
    token = secrets.token_hex(16)
    return validate_key(f"{namespace}/{token[:2]}/{token[2:]}")


def validate_key(key: str) -> str:
    """Return the key unchanged if it is safe everywhere.

    Safe means: `/`-separated segments of ASCII letters, digits, `.`, `_`, `-`, none empty, none starting with a dot;
    at most 512 characters, 200 per segment. So it is never absolute, never climbs, and has no control character.

    Raises:
        InvalidKey: Otherwise.
    """
    if not isinstance(key, str) or not key or len(key) > MAX_KEY_LENGTH:
        raise InvalidKey("an object key must be text of 1 to 512 characters")
    for segment in key.split("/"):
        if len(segment) > MAX_SEGMENT_LENGTH or _SEGMENT.fullmatch(segment) is None:
            raise InvalidKey(f"not a safe object key: {key[:80]!r}")
    return key


def validate_prefix(prefix: str) -> str:
    """Return a prefix for listing unchanged: empty, or the beginning of a valid key.

    Raises:
        InvalidKey: Otherwise.
    """
    if prefix:
        # "a/" and "a/b" begin valid keys alike; one more letter makes either a whole key.
        validate_key(f"{prefix}x" if prefix.endswith("/") else prefix)
    return prefix
