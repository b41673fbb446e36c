"""Whether the actor's key ends the report, or another doctor's."""

from __future__ import annotations

from typing import Any

from hub.accounts.roles import Role
from hub.reading.policy import needs_second_signature
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """Whether the actor may sign what stands in the form."""
    double = needs_second_signature(panel.exam, panel.actor.id)
    may_sign = panel.actor.has(Role.REVIEWER) and (
        panel.mode in ("review", "amend-review") or (panel.mode in ("edit", "amend") and not double)
    )
    return {"may_sign": may_sign, "data": {"identity_open": panel.exam.identity == "open"}}
