"""Parts of answers that every transaction uses: compression, validators, media types."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import imagecodecs
from fastapi import Request, Response

# A shared workstation must not show one person's images to the next: kept, but asked about each time.
REVALIDATE: Final = "private, no-cache"
_GZIP_LEAST: Final = 1024


_ENCODINGS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "br": lambda body: bytes(imagecodecs.brotli_encode(body, level=5)),
    "zstd": lambda body: bytes(imagecodecs.zstd_encode(body, level=6)),
    "gzip": lambda body: gzip.compress(body, 4, mtime=0),
}
"""Content codings, the one preferred where a client has no preference first."""


@lru_cache(maxsize=256)
def coding(text: str) -> str:
    """The content coding for an Accept-Encoding header (RFC 9110 §12.5.3), or "" for none."""
    weights: dict[str, float] = {}
    for part in text.lower().split(",")[:20]:
        name, *params = (one.strip() for one in part.split(";"))
        weight = 1.0
        for param in params:
            if param.startswith("q="):
                try:
                    weight = float(param[2:])
                except ValueError:
                    weight = 0.0
        if name and 0 <= weight <= 1:
            weights[name.removeprefix("x-")] = weight
    rest = weights.get("*", 0.0)
    best, most = "", 0.0
    for name in _ENCODINGS:
        weight = weights.get(name, rest)
        if weight > most:
            best, most = name, weight
    return best if most >= weights.get("identity", 0.0) else ""


def encode(body: bytes, name: str) -> bytes:
    """A body in a content coding of `coding`."""
    return _ENCODINGS[name](body) if name else body


def compressed(request: Request, body: bytes, media: str, headers: dict[str, str]) -> Response:
    """An answer, compressed where that is accepted and worth it."""
    name = coding(request.headers.get("accept-encoding", "")) if len(body) >= _GZIP_LEAST else ""
    if name:
        body = encode(body, name)
        headers = {**headers, "Content-Encoding": name}
    return Response(body, headers=headers, media_type=media)


def not_modified(request: Request, etag: str) -> Response | None:
    """304 where the client holds what it asks for (RFC 9110 §13.1.2)."""
    held = request.headers.get("if-none-match", "")
    if held and etag in (one.strip().removeprefix("W/") for one in held.split(",")):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": REVALIDATE})
    return None


def related(media: str, boundary: str, **params: str) -> str:
    """A multipart/related Content-Type."""
    more = "".join(f"; {name.replace('_', '-')}={value}" for name, value in params.items())
    return f'multipart/related; type="{media}"{more}; boundary={boundary}'
