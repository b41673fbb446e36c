"""Open the store that a URL names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from storage.base import ObjectStore
from storage.filesystem import FilesystemStore
from storage.keys import validate_key

if TYPE_CHECKING:
    from storage.s3 import S3Store

_S3_OPTIONS = {"secure", "region", "sse", "ca", "attempts", "timeout"}


def open_store(url: str, *, reserve_bytes: int = 0, attempts: int = 5) -> ObjectStore:
    """Open an object store; nothing is contacted or made before the first use (`ObjectStore.check` proves it works).

    Args:
        url: `file:///absolute/folder`, or `s3://ACCESS:SECRET@host:port/bucket[/prefix]` with the options `secure`
            (1, the default, or 0), `region` (`us-east-1`), `sse` (`s3`, `kms:KEY-ID`), `ca` (PEM file), `attempts`,
            `timeout` (seconds). Access, secret and paths are percent-encoded where they hold `:/@?#%`.
        reserve_bytes: Room a filesystem store leaves on its disk.
        attempts: Tries of one S3 call before it counts as unavailable; the URL's own option wins.

    Raises:
        ValueError: The URL is malformed; the message never repeats its secret.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or parts.query:
            raise ValueError("a filesystem store is file:///absolute/folder")
        return FilesystemStore(Path(unquote(parts.path)), reserve_bytes=reserve_bytes)
    if parts.scheme == "s3":
        return _open_s3(url, attempts)
    raise ValueError(f"an object store is file:///… or s3://…, not {parts.scheme or 'text without a scheme'}://")


def _open_s3(url: str, attempts: int) -> S3Store:
    # Its client takes a quarter of a second to load, and an embedded hub has no use for it.
    from storage.s3 import S3Store

    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := set(options) - _S3_OPTIONS:
        raise ValueError(f"unknown option of an S3 store: {', '.join(sorted(unknown))}")
    if options.get("secure", "1") not in ("0", "1"):
        raise ValueError("secure is 0 or 1")
    bucket, _, prefix = unquote(parts.path).strip("/").partition("/")
    if not (parts.username and parts.password and parts.hostname and bucket):
        raise ValueError("an S3 store is s3://ACCESS:SECRET@host:port/bucket")
    if re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) is None:
        raise ValueError(f"not a bucket name (3 to 63 of a-z, 0-9, -, .): {bucket[:80]!r}")
    endpoint = parts.netloc.rpartition("@")[2]
    return S3Store(
        endpoint,
        unquote(parts.username),
        unquote(parts.password),
        bucket,
        prefix=f"{validate_key(prefix)}/" if prefix else "",
        secure=options.get("secure", "1") == "1",
        region=options.get("region", "us-east-1"),
        sse=options.get("sse", ""),
        ca=options.get("ca"),
        attempts=int(options.get("attempts", attempts)),
        timeout=float(options.get("timeout", 60)),
    )
