"""The state machine of a critical value: every (state, event, role) cell."""

from __future__ import annotations

import itertools

import pytest

from hub.accounts.roles import Role
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden
from hub.reports.critical.models import CriticalValue
from hub.reports.critical.service import move
from hub.reports.critical.states import EVENT_NAMES, OPEN, STATE_NAMES, TRANSITIONS, CriticalEvent, CriticalState

CLINIC = {"technologist", "clinician"}
READERS = {"reporter", "reviewer", "director"}
HUB = {"system"}
UNANSWERED = ("alarmed", "escalated", "breached")
WANTED: dict[tuple[str, str], tuple[str, set[str]]] = {
    ("alarmed", "escalate"): ("escalated", HUB),
    ("escalated", "breach"): ("breached", HUB),
    ("received", "breach"): ("received", HUB),
    **{(state, "read_back"): ("received", CLINIC) for state in UNANSWERED},
    **{(state, "phone"): ("notified", READERS) for state in (*UNANSWERED, "received")},
    ("received", "confirm"): ("notified", READERS),
    ("received", "ask_again"): ("alarmed", READERS),
    ("received", "ask_again_escalated"): ("escalated", READERS),
    ("received", "ask_again_breached"): ("breached", READERS),
    ("received", "act"): ("received", CLINIC | READERS),
    ("notified", "act"): ("acting", CLINIC | READERS),
    ("acting", "act"): ("acting", CLINIC | READERS),
    ("notified", "close"): ("closed", CLINIC | READERS),
    ("acting", "close"): ("closed", CLINIC | READERS),
    **{(state, "withdraw"): ("withdrawn", READERS) for state in (*UNANSWERED, "received", "notified", "acting")},
    ("withdrawn", "see_withdrawal"): ("withdrawn", CLINIC),
}


class Nothing:
    """A session that must not be reached where a cell is refused, and says that no row was changed."""

    def flush(self) -> None:
        pass

    def execute(self, *_args: object, **_more: object) -> None:
        return None


def actor(role: str) -> Actor:
    return SYSTEM if role == "system" else Actor(kind="person", id=role, roles=frozenset({role}))


@pytest.mark.parametrize("state", CriticalState)
def test_every_cell(state: CriticalState) -> None:
    for event, role in itertools.product(CriticalEvent, [*(r.value for r in Role), "system"]):
        wanted = WANTED.get((state.value, event.value))
        where = f"{state} {event} {role}"
        row = CriticalValue(id="x", state=state.value, version=1)
        with pytest.raises((Conflict, Forbidden)) as refused:
            move(Nothing(), actor(role), row, event)  # type: ignore[arg-type]
        if wanted is None:
            assert refused.value.code == "wrong-state", where
        elif role not in wanted[1]:
            assert refused.type is Forbidden, where
        else:
            # Allowed: it got as far as the database, which knows no such row.
            assert refused.value.code == "changed-meanwhile", where
            assert TRANSITIONS[state, event].target == wanted[0], where


def test_each_state_and_event_has_a_name_and_an_end_is_reached_from_every_open_state() -> None:
    assert set(STATE_NAMES) == set(CriticalState)
    assert {event.value for event in CriticalEvent} | {"flag", "call"} == set(EVENT_NAMES)
    for state in OPEN:
        assert (state, CriticalEvent.WITHDRAW) in TRANSITIONS
    assert CriticalState.CLOSED not in OPEN and CriticalState.WITHDRAWN not in OPEN
