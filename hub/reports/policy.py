"""What must be true of a report before it may be submitted or signed."""

from __future__ import annotations

from hub.accounts.roles import Role
from hub.exams.models import Exam
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Invalid
from hub.kit.i18n import Message, _
from hub.reading.policy import is_resident, may_issue_preliminary, needs_second_signature
from hub.reading.signatures import hours_words, policy_of
from hub.reports.models import ReportVersion
from hub.reports.states import VersionState

AMENDABLE = frozenset({State.SIGNED, State.RETURNED, State.SEEN})
"""States of an exam whose signed report may get an addendum or a correction."""

MAX_TEXT = 20_000
MAX_KEY_IMAGES = 8


def check_complete(version: ReportVersion) -> None:
    """Refuse a report that lacks a mandatory field.

    Raises:
        Invalid: With the fields.
    """
    missing: dict[str, Message | str] = {}
    if not version.findings.strip():
        missing["findings"] = _("请填写检查所见")
    if not version.impression.strip():
        missing["impression"] = _("请填写诊断意见")
    if version.positive is None:
        missing["positive"] = _("请选择阳性或阴性")
    if missing:
        raise Invalid(_("报告还不完整"), code="report-incomplete", fields=missing)


def check_identity(exam: Exam) -> None:
    """Refuse a formal signature while it is open whose images these are.

    An emergency enters the queue at once and may be read; only its signature waits.

    Raises:
        Conflict: `identity-open`.
    """
    if exam.identity == "open":
        raise Conflict(
            _("患者身份尚未核对:影像与登记信息不一致。核对完成之前可以书写和提交,但不能正式签发;请联系卫生院核对。"),
            code="identity-open",
        )


def signing_event(exam: Exam, version: ReportVersion, actor: Actor) -> Event:
    """The exam's event that this signature raises.

    Raises:
        Conflict: `needs-review` (a second pair of eyes is due), `own-report` (author and signer are one),
            `exam-held` (somebody else's draft), `attending-needed` (residents sign nothing), `wrong-state`.
    """
    double = needs_second_signature(exam, actor.id)
    if version.author_id != actor.id and is_resident(exam, actor.id):
        raise attending_needed()
    if version.kind == "original":
        if exam.state == State.REVIEWING and version.state == VersionState.SUBMITTED:
            if double and version.author_id == actor.id:
                raise own_report()
            return Event.SIGN
        if exam.state == State.READING and version.state == VersionState.DRAFT:
            if double:
                raise Conflict(_("阅片医院实行双签:请提交审核,由另一位医师审核签发"), code="needs-review")
            return Event.SIGN
    elif State(exam.state) in AMENDABLE:
        if double and version.state == VersionState.DRAFT:
            raise Conflict(_("阅片医院实行双签:请提交审核,由另一位医师审核签发"), code="needs-review")
        if double and version.author_id == actor.id:
            raise own_report()
        if version.state == VersionState.DRAFT and version.author_id != actor.id:
            # No lease guards it: who has not submitted it yet may be in the middle of a sentence.
            raise Conflict(_("{name}正在书写这份报告").format(name=version.author_name), code="exam-held")
        return Event.AMEND
    raise Conflict(_("这份报告现在不能签发,请刷新页面"), code="wrong-state", state=exam.state)


def may_review_amendment(exam: Exam, version: ReportVersion, actor: Actor) -> bool:
    """Whether the actor may review an addendum or correction and sign it; no lease guards it."""
    if State(exam.state) not in AMENDABLE or version.state != VersionState.SUBMITTED:
        return False
    if exam.reading_org_id != actor.org_id or not actor.has(Role.REVIEWER):
        return False
    own = version.author_id == actor.id
    return not needs_second_signature(exam, actor.id) if own else not is_resident(exam, actor.id)


def check_preliminary(exam: Exam, version: ReportVersion, actor: Actor) -> None:
    """Refuse a preliminary report that the hospital's policy does not let this doctor issue now.

    Raises:
        Conflict: `preliminary-not-allowed`, with what the policy says; `wrong-state` (it is not his draft).
    """
    if exam.state != State.READING or version.state != VersionState.DRAFT or version.kind != "original":
        raise Conflict(_("只有书写中的报告可以先发急诊报告"), code="wrong-state", state=exam.state)
    if not may_issue_preliminary(exam, actor.id, clock.now()):
        policy = policy_of(exam.reading_org)
        raise Conflict(
            _("按本院规定,现在不能先发急诊报告(时段:{hours})。请提交审核").format(
                hours=hours_words(policy.preliminary_hours)
            )
            if policy.preliminary
            else _("本院不发急诊报告。请提交审核"),
            code="preliminary-not-allowed",
        )


def attending_needed() -> Conflict:
    """The refusal of a review by a resident."""
    return Conflict(_("住院医师不能审核签发,须由主治及以上医师审核"), code="attending-needed")


def own_report() -> Conflict:
    """The refusal of a second signature by the author."""
    return Conflict(_("阅片医院实行双签,书写医师不能审核自己的报告"), code="own-report")
