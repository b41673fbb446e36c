"""Rules of critical values: who may flag, receive, confirm, act, close and withdraw, and what the timers do.

A critical value has one writer of its state, `move`. Before anybody's deed the timers that ran out are recorded
(`advance`): a worker that was dead leaves no hole in the record, and nothing is answered as if it were in time.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, CursorResult, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import ROLE_NAMES, Role
from hub.audit import service as audit
from hub.exams import repository as exam_rows
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, Invalid
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.reading import service as reading
from hub.reports import repository as reports
from hub.reports.critical import contacts, messages, repository
from hub.reports.critical.classes import UNCLASSIFIED, Rules, load
from hub.reports.critical.models import CriticalEntry, CriticalValue
from hub.reports.critical.moment import now as moment
from hub.reports.critical.states import (
    OPEN,
    STATE_NAMES,
    SYSTEM_ROLE,
    TRANSITIONS,
    Action,
    CallResult,
    CriticalEvent,
    CriticalState,
    Way,
)
from hub.reports.models import ReportVersion
from hub.reports.states import OPEN as OPEN_VERSIONS

MAX_TEXT = 1000
MAX_REASON = 400
SHORTEST = 2
_NOT_FLAGGED = frozenset({State.REGISTERED, State.RECEIVING, State.CANCELLED, State.VOID})


# --- the one writer -------------------------------------------------------------------------------------------------


def move(session: Session, actor: Actor, row: CriticalValue, event: CriticalEvent, **changes: Any) -> CriticalValue:
    """Raise `event` on a critical value: the one place that writes its state.

    Raises:
        Conflict: The state does not know the event, or somebody else changed the row first.
        Forbidden: The actor has none of the event's roles.
    """
    before = CriticalState(row.state)
    rule = TRANSITIONS.get((before, event))
    if rule is None:
        raise Conflict(
            _("这条危急值现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[before]),
            code="wrong-state",
            state=row.state,
            event=event.value,
        )
    roles = frozenset({SYSTEM_ROLE}) if actor.kind == "system" else actor.roles
    if roles.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    values: dict[str, Any] = {"state": rule.target.value, "version": row.version + 1, **changes}
    if rule.target not in OPEN:
        values["open_key"] = None
    session.flush()
    result = session.execute(
        update(CriticalValue)
        .where(CriticalValue.id == row.id, CriticalValue.state == before.value, CriticalValue.version == row.version)
        .values(**values)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(row)
    return row


def _note(
    session: Session, actor: Actor, row: CriticalValue, event: str, at: datetime, *, text: str = "", **detail: Any
) -> None:
    """Write the record's line, the audit entry and the live change of one deed."""
    session.add(
        CriticalEntry(
            critical_id=row.id,
            at=at,
            event=event,
            state=row.state,
            actor_id=actor.id,
            actor_name=actor.name,
            org_id=actor.org_id,
            text=text,
            detail=detail,
        )
    )
    audit.record(
        session,
        actor,
        f"critical.{event}",
        "critical_value",
        row.id,
        org_id=row.org_id,
        patient_id=row.exam.patient_id,
        exam=row.exam_id,
        state=row.state,
    )
    live.publish(session, "critical", row.id, orgs=[row.org_id, row.hospital_id], event=event, state=row.state)


# --- timers ---------------------------------------------------------------------------------------------------------


def advance(session: Session, row: CriticalValue, at: datetime) -> int:
    """Record what the timers of a locked row have become due for; how many steps were taken.

    Each step is taken once, in its order, however late: the record says when it was due and when the hub acted.
    """
    taken = 0
    if row.state == CriticalState.ALARMED and row.escalate_due <= at:
        _escalate(session, row, CriticalEvent.ESCALATE, at, row.escalate_due, escalated_at=at)
        taken += 1
    if row.breached_at is None and row.breach_due <= at and (row.state, CriticalEvent.BREACH) in TRANSITIONS:
        _escalate(session, row, CriticalEvent.BREACH, at, row.breach_due, breached_at=at)
        taken += 1
    return taken


def _escalate(
    session: Session, row: CriticalValue, event: CriticalEvent, at: datetime, due: datetime, **stamp: Any
) -> None:
    move(session, SYSTEM, row, event, **stamp)
    people = contacts.rung_at(session, row, event.value, at)
    _note(session, SYSTEM, row, event.value, at, due=due.isoformat(), contacts=[phone.json() for phone in people])
    messages.queue(session, row, event.value, people, at)


def sweep_one(session: Session, critical_id: str) -> int:
    """Let the timers of one critical value act, if they are due; how many steps were taken."""
    row = repository.locked(session, SYSTEM, critical_id)
    return advance(session, row, moment(session))


# --- the reading side -----------------------------------------------------------------------------------------------


def flag(
    session: Session,
    actor: Actor,
    exam_id: str,
    *,
    class_code: str,
    finding: str,
    discovered_at: datetime | None = None,
    minutes_ago: int | None = None,
) -> CriticalValue:
    """Say that an exam shows a critical value: the clock starts at its discovery, the clinic is alarmed at once.

    The report need not be signed, nor the exam be held: whoever of the reading hospital sees it says so. Said twice, or
    by two in the same instant, it is one procedure for a class.

    Args:
        session: The transaction.
        actor: Who flags it.
        exam_id: The exam.
        class_code: Of hub.reports.critical.classes.
        finding: What was found, in words; the read-back is compared with it.
        discovered_at: When it was seen, by the hub's clock; now where it is not said.
        minutes_ago: The same as so many minutes before now, for pages whose own clock may be wrong.

    Raises:
        NotFound: The exam is not his to know.
        Forbidden: Another hospital reads it, or he reads for none.
        Conflict: The exam has no images yet, or was cancelled.
        Invalid: Unknown class, no finding, a discovery in the future or before the exam was registered.
    """
    exam = reading.locked(session, actor, exam_id)
    if not actor.has(Role.REPORTER, Role.REVIEWER):
        raise Forbidden(_("您的角色不能执行此操作"))
    if exam.reading_org_id not in (None, actor.org_id) or actor.org_id is None:
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    if State(exam.state) in _NOT_FLAGGED:
        raise Conflict(_("这项检查现在不能标记危急值"), code="wrong-state", state=exam.state)
    rules = load(session)
    chosen = rules.find(class_code)
    if (known := _open_of(session, exam.id, class_code)) is not None:
        return known
    now = moment(session)
    fields: dict[str, Message | str] = {}
    words = _words(finding, "finding", MAX_TEXT, fields)
    if minutes_ago is not None:
        discovered_at = now - timedelta(minutes=minutes_ago)
        if minutes_ago < 0:
            fields["minutes_ago"] = _("发现时间不能晚于现在")
    found = discovered_at or now
    name = "discovered_at" if minutes_ago is None else "minutes_ago"
    if found > now:
        fields[name] = _("发现时间不能晚于现在")
    elif found < exam.registered_at:
        fields[name] = _("发现时间早于检查登记时间")
    if fields:
        raise Invalid(fields=fields)
    return _open(
        session,
        actor,
        exam,
        rules,
        found,
        now,
        class_code=chosen.code,
        class_name=str(chosen.name),
        class_name_en=chosen.name_en,
        national=chosen.national,
        finding=words,
    )


def _open_of(session: Session, exam_id: str, class_code: str) -> CriticalValue | None:
    return session.scalars(
        select(CriticalValue).where(CriticalValue.open_key == f"{exam_id}:{class_code}")
    ).one_or_none()


def _open(
    session: Session, actor: Actor, exam: Exam, rules: Rules, found: datetime, now: datetime, **values: Any
) -> CriticalValue:
    """Begin a procedure on a locked exam."""
    version = reports.open_version(session, exam.id, lock=True)
    if version is None and (report := reports.report_of(session, exam.id)) is not None:
        version = reports.latest_signed(session, report.id)
    row = CriticalValue(
        id=new_id(),
        exam_id=exam.id,
        version_id=version.id if version is not None else None,
        org_id=exam.org_id,
        hospital_id=exam.reading_org_id or actor.org_id,
        open_key=f"{exam.id}:{values['class_code']}",
        state=CriticalState.ALARMED.value,
        version=1,
        discovered_at=found,
        flagged_at=now,
        flagged_by=actor.id,
        flagged_by_name=actor.name,
        escalate_due=found + timedelta(minutes=rules.escalate_minutes),
        breach_due=found + timedelta(minutes=rules.breach_minutes),
        **values,
    )
    session.add(row)
    session.flush()
    session.refresh(row)
    _mark(session, exam, critical=True)
    people = contacts.rung_at(session, row, "alarm", now)
    _note(session, actor, row, "flag", now, text=row.finding, contacts=[phone.json() for phone in people])
    messages.queue(session, row, "alarm", people, now)
    advance(session, row, now)
    return row


def _mark(session: Session, exam: Exam, *, critical: bool) -> None:
    """Bring the marks of the exam and of its open version to what its procedures say.

    The draft's revision stays: no word of it changed, and its writer must not meet a conflict over it.
    """
    session.execute(
        update(ReportVersion)
        .where(
            ReportVersion.id.in_([open_.id] if (open_ := reports.open_version(session, exam.id)) else []),
            ReportVersion.state.in_([state.value for state in OPEN_VERSIONS]),
        )
        .values(critical=critical)
        .execution_options(synchronize_session=False)
    )
    report = reports.report_of(session, exam.id)
    signed = reports.latest_signed(session, report.id) if report is not None else None
    exam.critical = critical or bool(signed is not None and signed.critical)
    session.flush()
    exams.announce(session, exam, event="critical")


def must_be_marked(session: Session, exam_id: str) -> bool:
    """Whether the exam has an open critical value: a draft that says otherwise is marked all the same."""
    return _any(session, exam_id, CriticalValue.state.in_([state.value for state in OPEN]))


def raised(session: Session, exam_id: str) -> bool:
    """Whether somebody has said that the exam shows a critical value, and it was not withdrawn."""
    return _any(session, exam_id, CriticalValue.state != CriticalState.WITHDRAWN.value)


def _any(session: Session, exam_id: str, condition: ColumnElement[bool]) -> bool:
    found = session.scalar(select(CriticalValue.id).where(CriticalValue.exam_id == exam_id, condition).limit(1))
    return found is not None


def carried(session: Session, exam_id: str, marked: bool) -> bool:
    """The mark with which a new version of a signed report begins, where the signed one is `marked` or not.

    Flagged since, it is marked; with all that was flagged withdrawn since, it is not: signing it would alarm again.
    """
    states = set(session.scalars(select(CriticalValue.state).where(CriticalValue.exam_id == exam_id)))
    if states & {state.value for state in OPEN}:
        return True
    return marked and states != {CriticalState.WITHDRAWN.value}


def on_issue(session: Session, actor: Actor, exam: Exam, version: ReportVersion) -> CriticalValue | None:
    """See to it that no report leaves marked as critical without an alarm; called with its signature, exam locked.

    A person ticked the mark, so nothing is guessed from words; the class is left open, and what was found is what the
    report concludes.

    Returns:
        The procedure that was begun; None where there is one already, or the report is not marked.
    """
    if not version.critical:
        return None
    known = session.scalar(
        select(CriticalValue.id)
        .where(CriticalValue.exam_id == exam.id, CriticalValue.state != CriticalState.WITHDRAWN.value)
        .limit(1)
    )
    if known is not None:
        return None
    now = moment(session)
    return _open(
        session,
        actor,
        exam,
        load(session),
        now,
        now,
        class_code=UNCLASSIFIED,
        class_name="",
        class_name_en="",
        national=False,
        finding=(version.impression.strip() or version.findings.strip())[:MAX_TEXT],
    )


def confirm(session: Session, actor: Actor, critical_id: str) -> CriticalValue:
    """Say that the read-back matches the finding: both sides have signed. Said again, it changes nothing.

    Raises:
        NotFound, Forbidden, Conflict: Not his, or nothing was read back.
    """
    row, now = _begin(session, actor, critical_id)
    _reading_side(actor, row)
    if row.state == CriticalState.NOTIFIED and row.confirmed_by == actor.id:
        return row
    move(
        session,
        actor,
        row,
        CriticalEvent.CONFIRM,
        confirmed_at=now,
        confirmed_by=actor.id,
        confirmed_by_name=actor.name,
    )
    _note(session, actor, row, "confirm", now, text=row.read_back)
    return row


def ask_again(session: Session, actor: Actor, critical_id: str, note: str) -> CriticalValue:
    """Say that the read-back is not what was found; the alarm rings again where its clock is.

    Raises:
        Invalid: No word on what is wrong.
        NotFound, Forbidden, Conflict: Not his, or nothing was read back.
    """
    fields: dict[str, Message | str] = {}
    words = _words(note, "note", MAX_REASON, fields)
    if fields:
        raise Invalid(fields=fields)
    row, now = _begin(session, actor, critical_id)
    _reading_side(actor, row)
    if row.breached_at is not None:
        event = CriticalEvent.ASK_AGAIN_BREACHED
    elif row.escalated_at is not None:
        event = CriticalEvent.ASK_AGAIN_ESCALATED
    else:
        event = CriticalEvent.ASK_AGAIN
    said, by = row.read_back, row.received_by_name
    move(session, actor, row, event, **_NOT_RECEIVED)
    _note(session, actor, row, event.value, now, text=words, read_back=said, receiver=by)
    # Past five minutes the second contact rings now.
    advance(session, row, now)
    return row


_NOT_RECEIVED: dict[str, Any] = {
    "received_at": None,
    "received_by": None,
    "received_by_name": "",
    "received_role": "",
    "read_back": "",
    "way": "",
}


def phone(
    session: Session,
    actor: Actor,
    critical_id: str,
    *,
    receiver: str,
    role: str = "",
    number: str = "",
    read_back: str,
) -> CriticalValue:
    """Record a phone call in which a named person of the clinic read the finding back. It counts from now.

    Raises:
        Invalid: No name, or no read-back.
        NotFound, Forbidden, Conflict: Not his, or it is acknowledged already.
    """
    fields: dict[str, Message | str] = {}
    name = _words(receiver, "receiver", 60, fields)
    said = _words(read_back, "read_back", MAX_TEXT, fields)
    if fields:
        raise Invalid(fields=fields)
    row, now = _begin(session, actor, critical_id)
    _reading_side(actor, row)
    if row.state == CriticalState.NOTIFIED and row.confirmed_by == actor.id and row.read_back == said:
        return row
    move(
        session,
        actor,
        row,
        CriticalEvent.PHONE,
        received_at=now,
        received_by=None,
        received_by_name=name,
        received_role=role.strip()[:60],
        read_back=said,
        way=Way.PHONE.value,
        confirmed_at=now,
        confirmed_by=actor.id,
        confirmed_by_name=actor.name,
    )
    _note(
        session, actor, row, "phone", now, text=said, receiver=name, role=role.strip()[:60], number=number.strip()[:40]
    )
    return row


def withdraw(session: Session, actor: Actor, critical_id: str, reason: str) -> CriticalValue:
    """Take a critical value back, with a reason; the clinic is told, and the record stays.

    Raises:
        Invalid: No reason.
        NotFound, Forbidden, Conflict: Not his, or closed.
    """
    words = reading.required_reason(reason)
    found = repository.get(session, actor, critical_id)
    # The exam first: flagging locks in this order.
    exam_rows.lock(session, found.exam_id)
    row, now = _begin(session, actor, critical_id)
    _reading_side(actor, row)
    if row.state == CriticalState.WITHDRAWN:
        return row
    move(
        session,
        actor,
        row,
        CriticalEvent.WITHDRAW,
        withdrawn_at=now,
        withdrawn_by_name=actor.name,
        withdraw_reason=words,
    )
    _note(session, actor, row, "withdraw", now, text=words)
    messages.queue(session, row, "withdraw", contacts.rung_at(session, row, "alarm", now), now)
    exam = session.scalars(select(Exam).where(Exam.id == row.exam_id).execution_options(populate_existing=True)).one()
    _mark(session, exam, critical=raised(session, exam.id))
    return row


# --- the clinic -----------------------------------------------------------------------------------------------------


def read_back(session: Session, actor: Actor, critical_id: str, text: str) -> CriticalValue:
    """Receive a critical value: a person of the clinic types what he understood.

    Of two who do so in the same instant one is the receiver; the other is told who (409 `already-received`).

    Raises:
        Invalid: Nothing was read back.
        NotFound, Forbidden, Conflict: Not his clinic's, or received already.
    """
    fields: dict[str, Message | str] = {}
    said = _words(text, "text", MAX_TEXT, fields)
    if fields:
        raise Invalid(fields=fields)
    row, now = _begin(session, actor, critical_id)
    _clinic_side(actor, row)
    if row.received_at is not None and row.state in OPEN:
        if row.received_by == actor.id and row.read_back == said:
            return row
        raise Conflict(_("{name}已经接收了这条危急值").format(name=row.received_by_name), code="already-received")
    move(
        session,
        actor,
        row,
        CriticalEvent.READ_BACK,
        received_at=now,
        received_by=actor.id,
        received_by_name=actor.name,
        received_role="、".join(str(ROLE_NAMES[Role(role)]) for role in sorted(actor.roles))[:60],
        read_back=said,
        way=Way.PAGE.value,
    )
    _note(session, actor, row, "read_back", now, text=said)
    return row


def see_withdrawal(session: Session, actor: Actor, critical_id: str) -> CriticalValue:
    """Say that the clinic knows that a critical value was withdrawn. Said again, it changes nothing.

    Raises:
        NotFound, Forbidden, Conflict: Not his clinic's, or it was not withdrawn.
    """
    row, now = _begin(session, actor, critical_id)
    _clinic_side(actor, row)
    if row.withdrawal_seen_at is not None:
        return row
    move(session, actor, row, CriticalEvent.SEE_WITHDRAWAL, withdrawal_seen_at=now)
    _note(session, actor, row, "see_withdrawal", now)
    return row


# --- both sides -----------------------------------------------------------------------------------------------------


def act(session: Session, actor: Actor, critical_id: str, *, action: str, note: str = "") -> CriticalValue:
    """Record what the clinic did. From the reading side it is what the clinic said on the phone, and is marked so.

    Raises:
        Invalid: An unknown action, or "other" without a word.
        NotFound, Forbidden, Conflict: Not his, or nobody has received it.
    """
    if action not in {known.value for known in Action}:
        raise Invalid(fields={"action": _("请选择处置")})
    words = note.strip()
    if (action == Action.OTHER and len(words) < SHORTEST) or len(words) > MAX_REASON:
        raise Invalid(fields={"note": _("请写明处置,最多 {n} 个字").format(n=MAX_REASON)})
    row, now = _begin(session, actor, critical_id)
    heard = not _of_the_clinic(actor, row)
    if heard:
        _reading_side(actor, row)
    move(session, actor, row, CriticalEvent.ACT, acted_at=row.acted_at or now)
    _note(session, actor, row, "act", now, text=words, action=action, heard=heard)
    return row


def close(session: Session, actor: Actor, critical_id: str, note: str = "") -> CriticalValue:
    """End the procedure: both sides have signed and an action is on record.

    Raises:
        Conflict: `no-action`, or `wrong-state`.
        NotFound, Forbidden: Not his.
    """
    if len(note.strip()) > MAX_REASON:
        raise Invalid(fields={"note": _("最多 {n} 个字").format(n=MAX_REASON)})
    row, now = _begin(session, actor, critical_id)
    if not _of_the_clinic(actor, row):
        _reading_side(actor, row)
    if row.state == CriticalState.CLOSED:
        return row
    if row.state in OPEN and row.acted_at is None:
        raise Conflict(_("请先记录至少一项处置,再关闭"), code="no-action")
    move(session, actor, row, CriticalEvent.CLOSE, closed_at=now, closed_by_name=actor.name)
    _note(session, actor, row, "close", now, text=note.strip())
    return row


def call(
    session: Session,
    actor: Actor,
    critical_id: str,
    *,
    whom: str,
    name: str = "",
    number: str = "",
    result: str,
    note: str = "",
) -> CriticalValue:
    """Record an attempt to ring somebody. It acknowledges nothing, whatever its result.

    Raises:
        Invalid: Nobody is named, or an unknown result.
        NotFound, Forbidden: Not his.
        Conflict: The procedure is over.
    """
    fields: dict[str, Message | str] = {}
    if whom not in CALLED:
        fields["whom"] = _("请选择拨打对象")
    if result not in {known.value for known in CallResult}:
        fields["result"] = _("请选择通话结果")
    if not number.strip() and not name.strip():
        fields["number"] = _("请填写姓名或号码")
    if fields:
        raise Invalid(fields=fields)
    row, now = _begin(session, actor, critical_id)
    if not _of_the_clinic(actor, row):
        _reading_side(actor, row)
    if row.state not in OPEN:
        raise Conflict(
            _("这条危急值现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[CriticalState(row.state)]),
            code="wrong-state",
            state=row.state,
        )
    _note(
        session,
        actor,
        row,
        "call",
        now,
        text=note.strip()[:MAX_REASON],
        whom=whom,
        name=name.strip()[:60],
        number=number.strip()[:40],
        result=result,
    )
    return row


CALLED: dict[str, Message] = {
    "doctor": _("申请医生"),
    "contact": _("卫生院联系人"),
    "clinic": _("卫生院总机"),
    "patient": _("患者或家属"),
    "duty": _("值班负责人"),
    "other": _("其他"),
}
"""Whom a call was made to."""


# --- helpers --------------------------------------------------------------------------------------------------------


def _begin(session: Session, actor: Actor, critical_id: str) -> tuple[CriticalValue, datetime]:
    """The locked row with its timers brought up to date, and the present moment."""
    row = repository.locked(session, actor, critical_id)
    now = moment(session)
    advance(session, row, now)
    return row, now


def _of_the_clinic(actor: Actor, row: CriticalValue) -> bool:
    return repository.is_clinic(actor) and actor.org_id == row.org_id


def _clinic_side(actor: Actor, row: CriticalValue) -> None:
    if not _of_the_clinic(actor, row):
        raise Forbidden(_("只有卫生院的人员可以接收"), code="not-the-clinic")


def _reading_side(actor: Actor, row: CriticalValue) -> None:
    if actor.kind == "person" and (
        actor.has(Role.DIRECTOR) or (actor.has(Role.REPORTER, Role.REVIEWER) and actor.org_id == row.hospital_id)
    ):
        return
    raise Forbidden(_("只有阅片医院或影像中心主任可以执行此操作"), code="not-the-reader")


def _words(text: str, name: str, most: int, fields: dict[str, Message | str]) -> str:
    words = text.strip()
    if len(words) < SHORTEST:
        fields[name] = _("请填写")
    elif len(words) > most:
        fields[name] = _("最多 {n} 个字").format(n=most)
    return words
