"""THE state machine of an exam: data, and nothing but data.

`TRANSITIONS` maps (state, event) to (next state, roles that may raise it). `hub.exams.service.apply` is the only
code that writes a state. The life of an exam follows the remote reading workflow of IHE (claim, interpret, verify,
revise): registered → receiving → to verify → to read → reading → to review → reviewing → signed → returned → seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.accounts.roles import Role
from hub.kit.i18n import Message, _


class State(StrEnum):
    """States of an exam."""

    REGISTERED = "registered"
    RECEIVING = "receiving"
    TO_VERIFY = "to_verify"
    TO_READ = "to_read"
    READING = "reading"
    TO_REVIEW = "to_review"
    REVIEWING = "reviewing"
    SIGNED = "signed"
    RETURNED = "returned"
    SEEN = "seen"
    PRELIMINARY = "preliminary"
    REJECTED = "rejected"
    RETAKE = "retake"
    HISTORY_REQUESTED = "history_requested"
    CONSULTATION = "consultation"
    CANCELLED = "cancelled"
    VOID = "void"


class Event(StrEnum):
    """What happens to an exam."""

    IMAGES_ARRIVE = "images_arrive"
    COMPLETE = "complete"
    DISAGREE = "disagree"
    VERIFY = "verify"
    DETACH = "detach"
    CLAIM = "claim"
    TAKE_OVER = "take_over"
    RELEASE = "release"
    LEASE_EXPIRES = "lease_expires"
    SUBMIT = "submit"
    WITHDRAW = "withdraw"
    CLAIM_REVIEW = "claim_review"
    TAKE_OVER_REVIEW = "take_over_review"
    RELEASE_REVIEW = "release_review"
    REVIEW_LEASE_EXPIRES = "review_lease_expires"
    REJECT = "reject"
    SIGN = "sign"
    RETURN = "return"
    SEE = "see"
    AMEND = "amend"
    ISSUE_PRELIMINARY = "issue_preliminary"
    REQUEST_RETAKE = "request_retake"
    DECLINE_RETAKE = "decline_retake"
    DECLINE_RETAKE_REVIEW = "decline_retake_review"
    REQUEST_HISTORY = "request_history"
    ANSWER_HISTORY = "answer_history"
    CONSULT = "consult"
    END_CONSULTATION = "end_consultation"
    CANCEL = "cancel"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Rule:
    """Where an event leads, who may raise it, and the clock (column of Exam) that it stamps."""

    target: State
    roles: frozenset[str]
    clock: str | None = None


SYSTEM_ROLE = "system"

_SYSTEM = frozenset({SYSTEM_ROLE})
_CLINIC = frozenset({Role.TECHNOLOGIST})
_CLINIC_OR_SYSTEM = _CLINIC | _SYSTEM
_ANSWERER = frozenset({Role.TECHNOLOGIST, Role.CLINICIAN})
_AUTHOR = frozenset({Role.REPORTER, Role.REVIEWER})
_REVIEWER = frozenset({Role.REVIEWER})
_DIRECTOR = frozenset({Role.DIRECTOR})
_RECEIVER = frozenset({Role.CLINICIAN, Role.TECHNOLOGIST})
_VERIFIER = frozenset({Role.TECHNOLOGIST, Role.QUALITY, Role.DIRECTOR, SYSTEM_ROLE})

S, E = State, Event

TRANSITIONS: dict[tuple[State, Event], Rule] = {
    (S.REGISTERED, E.IMAGES_ARRIVE): Rule(S.RECEIVING, _CLINIC_OR_SYSTEM, "first_image_at"),
    (S.REGISTERED, E.CANCEL): Rule(S.CANCELLED, _CLINIC | _DIRECTOR, "ended_at"),
    (S.RECEIVING, E.COMPLETE): Rule(S.TO_READ, _SYSTEM, "received_at"),
    (S.RECEIVING, E.DISAGREE): Rule(S.TO_VERIFY, _SYSTEM, "verify_since"),
    (S.RECEIVING, E.CANCEL): Rule(S.CANCELLED, _CLINIC | _DIRECTOR, "ended_at"),
    (S.TO_VERIFY, E.VERIFY): Rule(S.TO_READ, _VERIFIER, "verified_at"),
    # The images were another exam's: this one waits for its own again.
    (S.TO_VERIFY, E.DETACH): Rule(S.REGISTERED, _VERIFIER),
    (S.RECEIVING, E.DETACH): Rule(S.REGISTERED, _VERIFIER),
    (S.TO_READ, E.DETACH): Rule(S.REGISTERED, _VERIFIER),
    (S.TO_VERIFY, E.IMAGES_ARRIVE): Rule(S.RECEIVING, _CLINIC_OR_SYSTEM),
    (S.TO_VERIFY, E.CANCEL): Rule(S.CANCELLED, _CLINIC | _DIRECTOR, "ended_at"),
    (S.TO_READ, E.CLAIM): Rule(S.READING, _AUTHOR, "reading_at"),
    (S.TO_READ, E.DISAGREE): Rule(S.TO_VERIFY, _SYSTEM, "verify_since"),
    (S.TO_READ, E.IMAGES_ARRIVE): Rule(S.RECEIVING, _CLINIC_OR_SYSTEM),
    (S.TO_READ, E.CANCEL): Rule(S.CANCELLED, _CLINIC | _DIRECTOR, "ended_at"),
    (S.TO_READ, E.VOID): Rule(S.VOID, _DIRECTOR, "ended_at"),
    (S.READING, E.RELEASE): Rule(S.TO_READ, _AUTHOR),
    (S.READING, E.TAKE_OVER): Rule(S.READING, _DIRECTOR | _AUTHOR),
    (S.READING, E.LEASE_EXPIRES): Rule(S.TO_READ, _SYSTEM),
    (S.READING, E.SUBMIT): Rule(S.TO_REVIEW, _AUTHOR, "submitted_at"),
    (S.READING, E.SIGN): Rule(S.SIGNED, _REVIEWER, "signed_at"),
    (S.READING, E.ISSUE_PRELIMINARY): Rule(S.PRELIMINARY, _AUTHOR, "preliminary_at"),
    (S.READING, E.REQUEST_RETAKE): Rule(S.RETAKE, _AUTHOR, "ended_at"),
    (S.READING, E.REQUEST_HISTORY): Rule(S.HISTORY_REQUESTED, _AUTHOR, "history_requested_at"),
    (S.READING, E.CONSULT): Rule(S.CONSULTATION, _AUTHOR, "consultation_at"),
    (S.HISTORY_REQUESTED, E.ANSWER_HISTORY): Rule(S.TO_READ, _ANSWERER, "history_answered_at"),
    (S.CONSULTATION, E.END_CONSULTATION): Rule(S.TO_READ, _AUTHOR | frozenset({Role.EXPERT})),
    (S.TO_REVIEW, E.CLAIM_REVIEW): Rule(S.REVIEWING, _REVIEWER, "reviewing_at"),
    (S.TO_REVIEW, E.WITHDRAW): Rule(S.READING, _AUTHOR),
    (S.TO_REVIEW, E.VOID): Rule(S.VOID, _DIRECTOR, "ended_at"),
    (S.REVIEWING, E.RELEASE_REVIEW): Rule(S.TO_REVIEW, _REVIEWER),
    (S.REVIEWING, E.TAKE_OVER_REVIEW): Rule(S.REVIEWING, _DIRECTOR | _REVIEWER),
    (S.REVIEWING, E.REVIEW_LEASE_EXPIRES): Rule(S.TO_REVIEW, _SYSTEM),
    (S.REVIEWING, E.REJECT): Rule(S.REJECTED, _REVIEWER, "rejected_at"),
    (S.REVIEWING, E.SIGN): Rule(S.SIGNED, _REVIEWER, "signed_at"),
    (S.REVIEWING, E.REQUEST_RETAKE): Rule(S.RETAKE, _REVIEWER, "ended_at"),
    (S.REJECTED, E.CLAIM): Rule(S.READING, _AUTHOR),
    (S.REJECTED, E.VOID): Rule(S.VOID, _DIRECTOR, "ended_at"),
    # 已发急诊报告: returned to the clinic and read there, while its formal report waits for review. What a delivery
    # says of it is recorded without a clock of the exam's: those are the formal report's.
    (S.PRELIMINARY, E.CLAIM_REVIEW): Rule(S.REVIEWING, _REVIEWER, "reviewing_at"),
    (S.PRELIMINARY, E.WITHDRAW): Rule(S.READING, _AUTHOR),
    (S.PRELIMINARY, E.RETURN): Rule(S.PRELIMINARY, _SYSTEM),
    (S.PRELIMINARY, E.SEE): Rule(S.PRELIMINARY, _RECEIVER),
    (S.SIGNED, E.RETURN): Rule(S.RETURNED, _SYSTEM, "returned_at"),
    (S.SIGNED, E.AMEND): Rule(S.SIGNED, _REVIEWER),
    (S.RETURNED, E.SEE): Rule(S.SEEN, _RECEIVER, "seen_at"),
    # A correction or addendum is a new signed version: the clinic is told again and must see it again.
    (S.RETURNED, E.AMEND): Rule(S.SIGNED, _REVIEWER),
    (S.SEEN, E.AMEND): Rule(S.SIGNED, _REVIEWER),
    (S.RETAKE, E.VOID): Rule(S.VOID, _DIRECTOR),
    # The clinic cannot take the images again: what there is will be read, or reviewed, as it is.
    (S.RETAKE, E.DECLINE_RETAKE): Rule(S.TO_READ, _ANSWERER),
    (S.RETAKE, E.DECLINE_RETAKE_REVIEW): Rule(S.TO_REVIEW, _ANSWERER),
    # An exam that must not stand (another patient's images) is stopped wherever it is; its report stays, marked.
    **{
        (state, E.VOID): Rule(S.VOID, _DIRECTOR, "ended_at")
        for state in (
            *(S.TO_VERIFY, S.READING, S.REVIEWING, S.HISTORY_REQUESTED, S.CONSULTATION, S.PRELIMINARY),
            *(S.SIGNED, S.RETURNED, S.SEEN),
        )
    },
}

OPEN_STATES = frozenset(State) - {S.SIGNED, S.RETURNED, S.SEEN, S.CANCELLED, S.VOID, S.RETAKE}
"""States in which somebody still owes the clinic a formal report."""

QUEUE_STATES = frozenset(
    {S.TO_READ, S.READING, S.TO_REVIEW, S.REVIEWING, S.REJECTED, S.PRELIMINARY, S.HISTORY_REQUESTED, S.CONSULTATION}
)
"""States that the reading hospitals' queue shows."""

STATE_NAMES: dict[State, Message] = {
    S.REGISTERED: _("已登记"),
    S.RECEIVING: _("接收中"),
    S.TO_VERIFY: _("待核对"),
    S.TO_READ: _("待书写"),
    S.READING: _("书写中"),
    S.TO_REVIEW: _("待审核"),
    S.REVIEWING: _("审核中"),
    S.SIGNED: _("已签发"),
    S.RETURNED: _("已回传"),
    S.SEEN: _("已查看"),
    S.PRELIMINARY: _("已发急诊报告"),
    S.REJECTED: _("驳回修改"),
    S.RETAKE: _("退回重拍"),
    S.HISTORY_REQUESTED: _("补充病史"),
    S.CONSULTATION: _("会诊中"),
    S.CANCELLED: _("已取消"),
    S.VOID: _("作废"),
}
"""What people call each state."""
