"""What the checks say of the text in the form, and how a warning is answered."""

from __future__ import annotations

from typing import Any

from hub.kit.i18n import translate
from hub.reports.checks.catalogue import WHY
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The reasons that a doctor may give; the findings themselves are asked for by the script."""
    return {"data": {"why": [[code, translate(text, panel.locale)] for code, text in WHY.items()]}}
