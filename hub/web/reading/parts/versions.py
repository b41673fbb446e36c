"""The versions of the report, and beginning another one."""

from __future__ import annotations

from typing import Any

from hub.accounts.roles import Role
from hub.delivery import service as delivery
from hub.exams.states import State
from hub.reports.policy import AMENDABLE
from hub.reports.states import KIND_NAMES
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The versions with their receipts."""
    return {
        "rows": panel.versions,
        "kind_names": KIND_NAMES,
        "deliveries": delivery.deliveries_of(panel.session, [v.id for v in panel.versions]),
        "may_amend": panel.same_hospital
        and State(panel.exam.state) in AMENDABLE
        and panel.version is None
        and panel.actor.has(Role.REPORTER, Role.REVIEWER),
    }
