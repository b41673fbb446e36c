"""Who holds the exam; taking it back from him."""

from __future__ import annotations

from typing import Any

from hub.accounts.roles import Role
from hub.exams.states import State
from hub.reading import service as reading
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """Who holds the exam, and whether the actor may take it from him."""
    exam, actor = panel.exam, panel.actor
    return {
        "holder": panel.holder,
        "mine": exam.lease_person_id == actor.id,
        "may_take_over": actor.has(Role.DIRECTOR)
        and State(exam.state) in reading.HELD
        and not (panel.writes and panel.same_hospital),
    }
