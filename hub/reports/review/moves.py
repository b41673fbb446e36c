"""The one writer of the states of review."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import CursorResult, update
from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden
from hub.kit.i18n import _
from hub.reports.review.models import Arbitration, ConclusionChange, PeerReview
from hub.reports.review.states import (
    ARBITRATIONS,
    CHANGES,
    PEERS,
    SYSTEM_ROLE,
    ArbitrationState,
    ChangeState,
    PeerState,
    Rule,
)

Row = Arbitration | ConclusionChange | PeerReview

_MACHINES: dict[type[Any], tuple[type[StrEnum], Mapping[Any, Rule]]] = {
    ConclusionChange: (ChangeState, CHANGES),
    Arbitration: (ArbitrationState, ARBITRATIONS),
    PeerReview: (PeerState, PEERS),
}


def move(session: Session, actor: Actor, row: Row, event: StrEnum, *, part: str = "", **changes: Any) -> None:
    """Raise `event` on a row.

    Args:
        session: The transaction.
        actor: Who raises it.
        row: A changed conclusion, an arbitration, or a reading after signing.
        event: What happens.
        part: What the actor is to this very row (hub.reports.review.states.ARBITER, READER), where he is.
        **changes: Further columns written in the same UPDATE.

    Raises:
        Conflict: The state does not know the event, or somebody else was first.
        Forbidden: It is not the actor's to do.
    """
    states, table = _MACHINES[type(row)]
    rule = table.get((states(row.state), event))
    if rule is None:
        raise Conflict(_("这一项的状态已变,请刷新后再试"), code="wrong-state", state=row.state, event=event.value)
    held = frozenset({SYSTEM_ROLE}) if actor.kind == "system" else actor.roles | {part}
    if held.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    session.flush()
    kind = type(row)
    result = session.execute(
        update(kind)
        .where(kind.id == row.id, kind.state == row.state)
        .values(state=rule.target.value, **changes)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(row)
