"""The state machine of a critical value: data, and nothing but data.

`TRANSITIONS` maps (state, event) to (next state, roles that may raise it). `hub.reports.critical.service.move` is the
only code that writes a critical value's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _

SYSTEM_ROLE = "system"


class CriticalState(StrEnum):
    """States of a critical value."""

    ALARMED = "alarmed"
    ESCALATED = "escalated"
    BREACHED = "breached"
    RECEIVED = "received"
    NOTIFIED = "notified"
    ACTING = "acting"
    CLOSED = "closed"
    WITHDRAWN = "withdrawn"


class CriticalEvent(StrEnum):
    """What happens to a critical value."""

    ESCALATE = "escalate"
    BREACH = "breach"
    READ_BACK = "read_back"
    CONFIRM = "confirm"
    ASK_AGAIN = "ask_again"
    ASK_AGAIN_ESCALATED = "ask_again_escalated"
    ASK_AGAIN_BREACHED = "ask_again_breached"
    PHONE = "phone"
    ACT = "act"
    CLOSE = "close"
    WITHDRAW = "withdraw"
    SEE_WITHDRAWAL = "see_withdrawal"


@dataclass(frozen=True, slots=True)
class CriticalRule:
    """Where an event leads and who may raise it."""

    target: CriticalState
    roles: frozenset[str]


_HUB = frozenset({SYSTEM_ROLE})
_CLINIC = frozenset({Role.TECHNOLOGIST, Role.CLINICIAN})
# A director answers for the reading side where its readers do not: at night he is whom the hub rings last.
_READERS = frozenset({Role.REPORTER, Role.REVIEWER, Role.DIRECTOR})
_EITHER = _CLINIC | _READERS

S, E = CriticalState, CriticalEvent

TRANSITIONS: dict[tuple[CriticalState, CriticalEvent], CriticalRule] = {
    # Nobody has answered.
    (S.ALARMED, E.ESCALATE): CriticalRule(S.ESCALATED, _HUB),
    (S.ESCALATED, E.BREACH): CriticalRule(S.BREACHED, _HUB),
    (S.ALARMED, E.READ_BACK): CriticalRule(S.RECEIVED, _CLINIC),
    (S.ESCALATED, E.READ_BACK): CriticalRule(S.RECEIVED, _CLINIC),
    (S.BREACHED, E.READ_BACK): CriticalRule(S.RECEIVED, _CLINIC),
    (S.ALARMED, E.PHONE): CriticalRule(S.NOTIFIED, _READERS),
    (S.ESCALATED, E.PHONE): CriticalRule(S.NOTIFIED, _READERS),
    (S.BREACHED, E.PHONE): CriticalRule(S.NOTIFIED, _READERS),
    # The clinic has read back; the reading side has not compared yet. The ten minutes go on.
    (S.RECEIVED, E.BREACH): CriticalRule(S.RECEIVED, _HUB),
    (S.RECEIVED, E.CONFIRM): CriticalRule(S.NOTIFIED, _READERS),
    (S.RECEIVED, E.PHONE): CriticalRule(S.NOTIFIED, _READERS),
    # What was read back is not what was found: the alarm is again where its clock is.
    (S.RECEIVED, E.ASK_AGAIN): CriticalRule(S.ALARMED, _READERS),
    (S.RECEIVED, E.ASK_AGAIN_ESCALATED): CriticalRule(S.ESCALATED, _READERS),
    (S.RECEIVED, E.ASK_AGAIN_BREACHED): CriticalRule(S.BREACHED, _READERS),
    # Who treats does not wait for a comparison. A reader writes down what the clinic tells him on the phone.
    (S.RECEIVED, E.ACT): CriticalRule(S.RECEIVED, _EITHER),
    (S.NOTIFIED, E.ACT): CriticalRule(S.ACTING, _EITHER),
    (S.ACTING, E.ACT): CriticalRule(S.ACTING, _EITHER),
    # With at least one action on record; the service sees to it.
    (S.NOTIFIED, E.CLOSE): CriticalRule(S.CLOSED, _EITHER),
    (S.ACTING, E.CLOSE): CriticalRule(S.CLOSED, _EITHER),
    **{
        (state, E.WITHDRAW): CriticalRule(S.WITHDRAWN, _READERS)
        for state in (S.ALARMED, S.ESCALATED, S.BREACHED, S.RECEIVED, S.NOTIFIED, S.ACTING)
    },
    (S.WITHDRAWN, E.SEE_WITHDRAWAL): CriticalRule(S.WITHDRAWN, _CLINIC),
}

UNANSWERED = frozenset({S.ALARMED, S.ESCALATED, S.BREACHED})
"""States in which nobody of the clinic has answered."""

OPEN = UNANSWERED | {S.RECEIVED, S.NOTIFIED, S.ACTING}
"""States in which somebody still has something to do."""

STATE_NAMES: dict[CriticalState, Message] = {
    S.ALARMED: _("等待接收"),
    S.ESCALATED: _("已升级第二联系人"),
    S.BREACHED: _("超时未接收"),
    S.RECEIVED: _("已复述,待核对"),
    S.NOTIFIED: _("双方已确认"),
    S.ACTING: _("处置中"),
    S.CLOSED: _("已关闭"),
    S.WITHDRAWN: _("已撤销"),
}
"""What people call each state."""

EVENT_NAMES: dict[str, Message] = {
    "flag": _("发现并标记危急值"),
    "escalate": _("无人接收,升级至第二联系人"),
    "breach": _("超过时限,升级至值班负责人"),
    "read_back": _("卫生院接收并复述"),
    "confirm": _("核对复述一致"),
    "ask_again": _("复述不一致,请重新复述"),
    "ask_again_escalated": _("复述不一致,请重新复述"),
    "ask_again_breached": _("复述不一致,请重新复述"),
    "phone": _("电话通知并听取复述"),
    "act": _("处置"),
    "close": _("已关闭"),
    "withdraw": _("撤销危急值"),
    "see_withdrawal": _("卫生院已知悉撤销"),
    "call": _("拨打电话"),
}
"""What the timeline calls each entry."""


class Way(StrEnum):
    """How the clinic acknowledged."""

    PAGE = "page"
    PHONE = "phone"


WAY_NAMES: dict[Way, Message] = {Way.PAGE: _("本人在页面复述"), Way.PHONE: _("电话复述,由报告方记录")}


class Action(StrEnum):
    """What the clinic did."""

    PATIENT_REACHED = "patient_reached"
    EMERGENCY_CALLED = "emergency_called"
    HOSPITAL_TOLD = "hospital_told"
    TREATED = "treated"
    PATIENT_UNREACHABLE = "patient_unreachable"
    OTHER = "other"


ACTION_NAMES: dict[Action, Message] = {
    Action.PATIENT_REACHED: _("已找到患者"),
    Action.EMERGENCY_CALLED: _("已呼叫 120"),
    Action.HOSPITAL_TOLD: _("已通知接收医院"),
    Action.TREATED: _("已救治"),
    Action.PATIENT_UNREACHABLE: _("暂时联系不上患者"),
    Action.OTHER: _("其他处置"),
}


class CallResult(StrEnum):
    """How a phone call ended. None of them acknowledges: only a read-back does."""

    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    WRONG_NUMBER = "wrong_number"
    MESSAGE_LEFT = "message_left"


CALL_RESULTS: dict[CallResult, Message] = {
    CallResult.ANSWERED: _("已接通"),
    CallResult.NO_ANSWER: _("无人接听"),
    CallResult.BUSY: _("占线"),
    CallResult.WRONG_NUMBER: _("号码错误"),
    CallResult.MESSAGE_LEFT: _("已留言或转告"),
}
