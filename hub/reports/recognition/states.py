"""The state machine of a recognition: data, and nothing but data. `service` holds the one writer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _


class RecognitionState(StrEnum):
    """What became of an offer."""

    OFFERED = "offered"
    REUSED = "reused"
    REPEATED = "repeated"
    LAPSED = "lapsed"
    WITHDRAWN = "withdrawn"


class RecognitionEvent(StrEnum):
    """What happens to an offer."""

    REUSE = "reuse"
    REPEAT = "repeat"
    LAPSE = "lapse"
    WITHDRAW = "withdraw"
    OFFER = "offer"


@dataclass(frozen=True, slots=True)
class RecognitionRule:
    """Where an event leads and who may raise it."""

    target: RecognitionState
    roles: frozenset[str]


SYSTEM_ROLE = "system"
_SYSTEM = frozenset({SYSTEM_ROLE})
_CLINIC = frozenset({Role.TECHNOLOGIST})

S, E = RecognitionState, RecognitionEvent

TRANSITIONS: dict[tuple[RecognitionState, RecognitionEvent], RecognitionRule] = {
    (S.OFFERED, E.REUSE): RecognitionRule(S.REUSED, _CLINIC),
    # An emergency is never held up: the hub writes the reason itself.
    (S.OFFERED, E.REPEAT): RecognitionRule(S.REPEATED, _CLINIC | _SYSTEM),
    (S.OFFERED, E.LAPSE): RecognitionRule(S.LAPSED, _SYSTEM),
    (S.OFFERED, E.WITHDRAW): RecognitionRule(S.WITHDRAWN, _SYSTEM),
    (S.LAPSED, E.REPEAT): RecognitionRule(S.REPEATED, _CLINIC),
    (S.LAPSED, E.OFFER): RecognitionRule(S.OFFERED, _CLINIC),
    (S.WITHDRAWN, E.OFFER): RecognitionRule(S.OFFERED, _CLINIC),
}

STATE_NAMES: dict[RecognitionState, Message] = {
    S.OFFERED: _("待决定"),
    S.REUSED: _("已互认"),
    S.REPEATED: _("重新检查"),
    S.LAPSED: _("未作决定"),
    S.WITHDRAWN: _("不再适用"),
}
