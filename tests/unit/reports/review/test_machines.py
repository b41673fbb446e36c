"""The state machines of review: every (state, event, who) cell, allowed or not."""

from __future__ import annotations

import itertools

import pytest

from hub.accounts.roles import Role
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden
from hub.reports.review.models import Arbitration, ConclusionChange, PeerReview
from hub.reports.review.moves import move
from hub.reports.review.states import (
    ARBITRATION_NAMES,
    ARBITRATIONS,
    CHANGE_NAMES,
    CHANGES,
    PEER_NAMES,
    PEERS,
    ArbitrationEvent,
    ArbitrationState,
    ChangeEvent,
    ChangeState,
    PeerEvent,
    PeerState,
)

# The tables once more, written from what the work asks and not from the code.
WANTED_CHANGES = {
    ("open", "escalate"): ("escalated", {"system"}),
    ("escalated", "breach"): ("breached", {"system"}),
    ("open", "acknowledge"): ("acknowledged", {"clinician", "technologist"}),
    ("escalated", "acknowledge"): ("acknowledged", {"clinician", "technologist"}),
    ("breached", "acknowledge"): ("acknowledged", {"clinician", "technologist"}),
}
WANTED_ARBITRATIONS = {("open", "decide"): ("decided", {"director", "arbiter"})}
WANTED_PEERS = {
    ("waiting", "assign"): ("assigned", {"system"}),
    ("waiting", "drop"): ("dropped", {"system"}),
    ("assigned", "decline"): ("waiting", {"peer"}),
    ("assigned", "expire"): ("waiting", {"system"}),
    ("assigned", "judge"): ("judged", {"peer"}),
    ("assigned", "drop"): ("dropped", {"system"}),
    ("judged", "grade"): ("graded", {"peer"}),
    ("judged", "expire"): ("dropped", {"system"}),
    ("judged", "drop"): ("dropped", {"system"}),
}
MACHINES = [
    (ConclusionChange, ChangeState, ChangeEvent, CHANGES, WANTED_CHANGES, CHANGE_NAMES),
    (Arbitration, ArbitrationState, ArbitrationEvent, ARBITRATIONS, WANTED_ARBITRATIONS, ARBITRATION_NAMES),
    (PeerReview, PeerState, PeerEvent, PEERS, WANTED_PEERS, PEER_NAMES),
]
PARTS = ("arbiter", "peer")
WHO = [*(role.value for role in Role), *PARTS, "system", "nobody"]


class Nothing:
    """A session that must not be reached where a cell is refused, and says that no row was changed."""

    def flush(self) -> None:
        pass

    def execute(self, *_args: object, **_more: object) -> None:
        return None


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine[0].__tablename__)
def test_every_cell(machine) -> None:
    model, states, events, table, wanted, names = machine
    assert {(state.value, event.value) for state, event in table} == set(wanted)
    assert set(names) == set(states)
    for state, event, who in itertools.product(states, events, WHO):
        where = f"{model.__tablename__} {state} {event} {who}"
        actor = SYSTEM if who == "system" else Actor(kind="person", id=who, roles=frozenset({who} - {*PARTS, "nobody"}))
        cell = wanted.get((state.value, event.value))
        row = model(id="x", state=state.value)
        with pytest.raises((Conflict, Forbidden)) as refused:
            move(Nothing(), actor, row, event, part=who if who in PARTS else "")  # type: ignore[arg-type]
        if cell is None:
            assert refused.value.code == "wrong-state", where
        elif who not in cell[1]:
            assert refused.type is Forbidden, where
        else:
            # Allowed: it got as far as the database, which knows no such row.
            assert refused.value.code == "changed-meanwhile", where
            assert table[state, event].target == cell[0], where
