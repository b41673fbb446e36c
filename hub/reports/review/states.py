"""The state machines of review: data, and nothing but data. `hub.reports.review.moves.move` writes the states."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _

SYSTEM_ROLE = "system"
ARBITER = "arbiter"
"""Whom the hospital's policy names to arbitrate, whatever his roles are."""
READER = "peer"
"""To whom this very reading is given."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Where an event leads and who may raise it: roles, or one of the parts above."""

    target: StrEnum
    roles: frozenset[str]


class ChangeState(StrEnum):
    """States of a changed conclusion."""

    OPEN = "open"
    ESCALATED = "escalated"
    BREACHED = "breached"
    ACKNOWLEDGED = "acknowledged"


class ChangeEvent(StrEnum):
    """What happens to a changed conclusion."""

    ESCALATE = "escalate"
    BREACH = "breach"
    ACKNOWLEDGE = "acknowledge"


class ArbitrationState(StrEnum):
    """States of an arbitration."""

    OPEN = "open"
    DECIDED = "decided"


class ArbitrationEvent(StrEnum):
    """What happens to an arbitration."""

    DECIDE = "decide"


class PeerState(StrEnum):
    """States of a reading after signing."""

    WAITING = "waiting"
    ASSIGNED = "assigned"
    JUDGED = "judged"
    GRADED = "graded"
    DROPPED = "dropped"


class PeerEvent(StrEnum):
    """What happens to it."""

    ASSIGN = "assign"
    DECLINE = "decline"
    EXPIRE = "expire"
    JUDGE = "judge"
    GRADE = "grade"
    DROP = "drop"


_SYSTEM = frozenset({SYSTEM_ROLE})
_READER = frozenset({READER})
_RECEIVERS = frozenset({Role.CLINICIAN, Role.TECHNOLOGIST})

CHANGES: dict[tuple[ChangeState, ChangeEvent], Rule] = {
    (ChangeState.OPEN, ChangeEvent.ESCALATE): Rule(ChangeState.ESCALATED, _SYSTEM),
    (ChangeState.ESCALATED, ChangeEvent.BREACH): Rule(ChangeState.BREACHED, _SYSTEM),
    **{
        (state, ChangeEvent.ACKNOWLEDGE): Rule(ChangeState.ACKNOWLEDGED, _RECEIVERS)
        for state in (ChangeState.OPEN, ChangeState.ESCALATED, ChangeState.BREACHED)
    },
}

CHANGE_OPEN = (ChangeState.OPEN, ChangeState.ESCALATED, ChangeState.BREACHED)
"""States in which nobody of the clinic has acknowledged."""

ARBITRATIONS: dict[tuple[ArbitrationState, ArbitrationEvent], Rule] = {
    (ArbitrationState.OPEN, ArbitrationEvent.DECIDE): Rule(
        ArbitrationState.DECIDED, frozenset({Role.DIRECTOR, ARBITER})
    ),
}

PEERS: dict[tuple[PeerState, PeerEvent], Rule] = {
    (PeerState.WAITING, PeerEvent.ASSIGN): Rule(PeerState.ASSIGNED, _SYSTEM),
    (PeerState.WAITING, PeerEvent.DROP): Rule(PeerState.DROPPED, _SYSTEM),
    (PeerState.ASSIGNED, PeerEvent.DECLINE): Rule(PeerState.WAITING, _READER),
    (PeerState.ASSIGNED, PeerEvent.EXPIRE): Rule(PeerState.WAITING, _SYSTEM),
    (PeerState.ASSIGNED, PeerEvent.JUDGE): Rule(PeerState.JUDGED, _READER),
    (PeerState.ASSIGNED, PeerEvent.DROP): Rule(PeerState.DROPPED, _SYSTEM),
    (PeerState.JUDGED, PeerEvent.GRADE): Rule(PeerState.GRADED, _READER),
    # He has seen the report: nobody can finish it for him, and it counts as no data.
    (PeerState.JUDGED, PeerEvent.EXPIRE): Rule(PeerState.DROPPED, _SYSTEM),
    (PeerState.JUDGED, PeerEvent.DROP): Rule(PeerState.DROPPED, _SYSTEM),
}

PEER_OPEN = (PeerState.ASSIGNED, PeerState.JUDGED)
"""States in which a reading lies with somebody, who may look at its images."""

PEER_NAMES: dict[PeerState, Message] = {
    PeerState.WAITING: _("待分配"),
    PeerState.ASSIGNED: _("待复阅"),
    PeerState.JUDGED: _("待评定"),
    PeerState.GRADED: _("已评定"),
    PeerState.DROPPED: _("未完成"),
}
ARBITRATION_NAMES: dict[ArbitrationState, Message] = {
    ArbitrationState.OPEN: _("待裁定"),
    ArbitrationState.DECIDED: _("已裁定"),
}
CHANGE_NAMES: dict[ChangeState, Message] = {
    ChangeState.OPEN: _("待确认"),
    ChangeState.ESCALATED: _("已升级第二联系人"),
    ChangeState.BREACHED: _("超时未确认"),
    ChangeState.ACKNOWLEDGED: _("已确认"),
}
