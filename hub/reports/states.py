"""The state machine of a report version: data, and nothing but data.

`TRANSITIONS` maps (state, event) to (next state, roles that may raise it). `hub.reports.service.move` is the only code
that writes a version's state. The exam has a machine of its own (hub.exams.states); a version moves with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _


class VersionState(StrEnum):
    """States of a report version."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    SIGNED = "signed"
    ISSUED = "issued"
    DISCARDED = "discarded"


class VersionEvent(StrEnum):
    """What happens to a report version."""

    SAVE = "save"
    SUBMIT = "submit"
    WITHDRAW = "withdraw"
    REJECT = "reject"
    SIGN = "sign"
    ISSUE = "issue"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class VersionRule:
    """Where an event leads and who may raise it."""

    target: VersionState
    roles: frozenset[str]


_AUTHOR = frozenset({Role.REPORTER, Role.REVIEWER})
_REVIEWER = frozenset({Role.REVIEWER})

S, E = VersionState, VersionEvent

TRANSITIONS: dict[tuple[VersionState, VersionEvent], VersionRule] = {
    (S.DRAFT, E.SAVE): VersionRule(S.DRAFT, _AUTHOR),
    (S.DRAFT, E.SUBMIT): VersionRule(S.SUBMITTED, _AUTHOR),
    # Where the hospital's policy is a single signature; hub.reports.policy decides.
    (S.DRAFT, E.SIGN): VersionRule(S.SIGNED, _REVIEWER),
    # A preliminary report: the draft's words as its author issued them. The draft itself goes on to its review.
    (S.DRAFT, E.ISSUE): VersionRule(S.ISSUED, _AUTHOR),
    (S.DRAFT, E.DISCARD): VersionRule(S.DISCARDED, _AUTHOR),
    (S.SUBMITTED, E.SAVE): VersionRule(S.SUBMITTED, _REVIEWER),
    (S.SUBMITTED, E.WITHDRAW): VersionRule(S.DRAFT, _AUTHOR),
    (S.SUBMITTED, E.REJECT): VersionRule(S.DRAFT, _REVIEWER),
    (S.SUBMITTED, E.SIGN): VersionRule(S.SIGNED, _REVIEWER),
}

OPEN = frozenset({S.DRAFT, S.SUBMITTED})
"""States in which a version may still change."""

RELEASED = frozenset({S.SIGNED, S.ISSUED})
"""States that the clinic may read: the formal report, and the preliminary one that it prevails over."""

KIND_NAMES: dict[str, Message] = {
    "original": _("诊断报告"),
    "addendum": _("补充报告"),
    "correction": _("更正报告"),
    "preliminary": _("急诊报告"),
}
"""What people call each kind of version."""

STATE_NAMES: dict[VersionState, Message] = {
    S.DRAFT: _("草稿"),
    S.SUBMITTED: _("已提交审核"),
    S.SIGNED: _("已签发"),
    S.ISSUED: _("已发急诊报告"),
    S.DISCARDED: _("已放弃"),
}
"""What people call each state."""
