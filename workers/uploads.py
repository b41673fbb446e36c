"""Files that arrived by upload."""

from __future__ import annotations

from typing import Any

from hub.studies import uploads
from workers.registry import handler, periodic


@handler("uploads.ingest")
def ingest(payload: dict[str, Any]) -> None:
    """Take a complete file in that the web process did not get to."""
    uploads.ingest_file(payload["file_id"])


@handler("uploads.expand")
def expand(payload: dict[str, Any]) -> None:
    """Take the members of a ZIP in."""
    uploads.expand_file(payload["file_id"])


@periodic("uploads.expire", every=900)
def expire() -> None:
    """Drop unfinished uploads that nobody goes on with."""
    uploads.expire()
