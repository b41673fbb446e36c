"""The state machines of a report version and of a delivery: every (state, event, role) cell."""

from __future__ import annotations

import itertools

import pytest

from hub.accounts.roles import Role
from hub.delivery.models import Delivery
from hub.delivery.service import _move as move_delivery
from hub.delivery.states import TRANSITIONS as DELIVERY
from hub.delivery.states import DeliveryEvent, DeliveryState
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden
from hub.reports.models import ReportVersion
from hub.reports.service import move
from hub.reports.states import STATE_NAMES, TRANSITIONS, VersionEvent, VersionState

REP, REV = "reporter", "reviewer"
WANTED = {
    ("draft", "save"): ("draft", {REP, REV}),
    ("draft", "submit"): ("submitted", {REP, REV}),
    ("draft", "sign"): ("signed", {REV}),
    ("draft", "issue"): ("issued", {REP, REV}),
    ("draft", "discard"): ("discarded", {REP, REV}),
    ("submitted", "save"): ("submitted", {REV}),
    ("submitted", "withdraw"): ("draft", {REP, REV}),
    ("submitted", "reject"): ("draft", {REV}),
    ("submitted", "sign"): ("signed", {REV}),
}


class Nothing:
    """A session that must not be reached where a cell is refused, and says that no row was changed."""

    def flush(self) -> None:
        pass

    def execute(self, *_args: object, **_more: object) -> None:
        return None


def actor(role: str) -> Actor:
    return SYSTEM if role == "system" else Actor(kind="person", id=role, roles=frozenset({role}))


@pytest.mark.parametrize("state", VersionState)
def test_every_cell_of_a_version(state: VersionState) -> None:
    for event, role in itertools.product(VersionEvent, [*(r.value for r in Role), "system"]):
        wanted = WANTED.get((state.value, event.value))
        where = f"{state} {event} {role}"
        version = ReportVersion(id="x", state=state.value, revision=1)
        with pytest.raises((Conflict, Forbidden)) as refused:
            move(Nothing(), actor(role), version, event)  # type: ignore[arg-type]
        if wanted is None:
            assert refused.value.code == "wrong-state", where
        elif role not in wanted[1]:
            assert refused.type is Forbidden, where
        else:
            # Allowed: it got as far as the database, which knows no such row.
            assert refused.value.code == "changed-meanwhile", where
            assert TRANSITIONS[state, event].target == wanted[0], where


def test_a_signed_version_never_changes() -> None:
    assert not [event for state, event in TRANSITIONS if state is VersionState.SIGNED]
    assert not [event for state, event in TRANSITIONS if state is VersionState.DISCARDED]
    assert set(STATE_NAMES) == set(VersionState)
    assert {event for _state, event in TRANSITIONS} == set(VersionEvent)


@pytest.mark.parametrize("state", DeliveryState)
def test_every_cell_of_a_delivery(state: DeliveryState) -> None:
    wanted = {
        ("queued", "deliver"): ("delivered", {"system"}),
        ("delivered", "see"): ("seen", {"clinician", "technologist"}),
    }
    for event, role in itertools.product(DeliveryEvent, [*(r.value for r in Role), "system"]):
        cell = wanted.get((state.value, event.value))
        with pytest.raises((Conflict, Forbidden)) as refused:
            move_delivery(Nothing(), actor(role), Delivery(id="x", state=state.value), event)  # type: ignore[arg-type]
        if cell is None:
            assert refused.value.code == "wrong-state"
        elif role not in cell[1]:
            assert refused.type is Forbidden
        else:
            assert refused.value.code == "changed-meanwhile"
            assert DELIVERY[state, event].target == cell[0]
