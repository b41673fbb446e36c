"""Critical values of the exam: flagging one, and those that run."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.accounts.roles import Permission, Role
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.reports import repository as reports
from hub.reports.critical import repository
from hub.reports.critical.moment import now
from hub.reports.critical.states import OPEN, STATE_NAMES, CriticalState
from hub.web.critical_views import item_of
from hub.web.pages import can
from hub.web.reading.panel import Panel

_NOT_FLAGGED = frozenset({State.CANCELLED, State.VOID})


def values(panel: Panel) -> dict[str, Any]:
    """Those that were not withdrawn, and whether the actor may flag another."""
    return of_exam(panel.session, panel.actor, panel.exam, panel.locale)


def of_exam(session: Session, actor: Actor, exam: Exam, locale: str) -> dict[str, Any]:
    """The part's values for an exam that the actor may know; also for the rows by themselves."""
    at = now(session)
    found = [
        item_of(row, actor, at, locale)
        for row in repository.of_exam(session, exam.id)
        if row.state != CriticalState.WITHDRAWN
        and (row.hospital_id == actor.org_id or actor.has(Role.DIRECTOR, Role.QUALITY))
    ]
    may_flag = (
        can(actor, Permission.CRITICAL_FLAG)
        and exam.reading_org_id in (None, actor.org_id)
        and exam.state not in _NOT_FLAGGED
    )
    draft = reports.open_version(session, exam.id) if reports.may_see_drafts(actor, exam) else None
    return {
        "items": found,
        "names": {state.value: name for state, name in STATE_NAMES.items()},
        "may_flag": may_flag,
        "marked": bool(draft is not None and draft.critical),
        "data": {"open": [item.row.id for item in found if item.row.state in OPEN], "may_flag": may_flag},
    }
