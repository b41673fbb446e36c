"""The state machine of a delivery: data, and nothing but data.

*Delivered* means that the report lies in the clinic's inbox; *seen* that a person of the clinic opened it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _


class DeliveryState(StrEnum):
    """States of a delivery."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    SEEN = "seen"


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    DELIVER = "deliver"
    SEE = "see"


@dataclass(frozen=True, slots=True)
class DeliveryRule:
    """Where an event leads and who may raise it."""

    target: DeliveryState
    roles: frozenset[str]


SYSTEM_ROLE = "system"
S, E = DeliveryState, DeliveryEvent

TRANSITIONS: dict[tuple[DeliveryState, DeliveryEvent], DeliveryRule] = {
    (S.QUEUED, E.DELIVER): DeliveryRule(S.DELIVERED, frozenset({SYSTEM_ROLE})),
    (S.DELIVERED, E.SEE): DeliveryRule(S.SEEN, frozenset({Role.CLINICIAN, Role.TECHNOLOGIST})),
}

STATE_NAMES: dict[DeliveryState, Message] = {
    S.QUEUED: _("待送达"),
    S.DELIVERED: _("已送达"),
    S.SEEN: _("已查看"),
}
"""What people call each state."""
