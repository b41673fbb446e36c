"""The features of the reading page's panel; each has a module here, a template part and a script of its own.

A module offers ``values(panel)``: what its template parts see as ``{{ <name>.… }}``. The entry ``data`` of it, plain
JSON values, is the script's ``page.exam.<name>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.web.reading.panel import Panel
from hub.web.reading.parts import (
    checks,
    copied,
    critical,
    editor,
    exchange,
    frame,
    images,
    lease,
    passages,
    priors,
    review,
    scoring,
    signing,
    versions,
)

PARTS: dict[str, Callable[[Panel], dict[str, Any]]] = {
    "lease": lease.values,
    "images": images.values,
    "priors": priors.values,
    "editor": editor.values,
    "copied": copied.values,
    "review": review.values,
    "exchange": exchange.values,
    "passages": passages.values,
    "checks": checks.values,
    "critical": critical.values,
    "scoring": scoring.values,
    "signing": signing.values,
    "versions": versions.values,
}
"""Name of a part → what it gives to its template and its script."""


def panel_values(panel: Panel) -> dict[str, Any]:
    """Everything that the panel's template sees."""
    values = frame.values(panel)
    data: dict[str, Any] = values["data"]
    for name, part in PARTS.items():
        found = part(panel)
        values[name] = found
        data[name] = found.get("data", {})
    return values
