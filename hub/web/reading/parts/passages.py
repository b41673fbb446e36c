"""Passages that the reviewer marked: the author finds and ticks them off, the reviewer sees what became of them."""

from __future__ import annotations

from typing import Any

from hub.reports import passages
from hub.reports.passage_routes import passage_of
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The passages of the version that is written or reviewed."""
    version = panel.version
    rows = passages.of_version(panel.session, version.id) if version is not None and panel.mode != "view" else []
    return {
        "rows": rows,
        "open": [row for row in rows if row.resolved_at is None],
        "reviews": panel.mode in ("review", "amend-review"),
        "fields": passages.FIELDS,
        "data": {
            "rows": [passage_of(row).model_dump(mode="json") for row in rows],
            "reviews": panel.mode in ("review", "amend-review"),
            "most": passages.MAX_PASSAGES,
            "longest": passages.MAX_QUOTED,
        },
    }
