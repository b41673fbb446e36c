"""Return for retake: why, marked on the image; the clinic takes the images again, or says why it cannot.

The exam that is returned keeps its images and ends; the retake is an exam of its own that names it. A clinic that
cannot take the images again gives the exam back, to be read as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams import limits, registration
from hub.exams import service as exams
from hub.exams.models import Exam, ExamPause
from hub.exams.repository import visible_to
from hub.exams.service import NO_LEASE
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, Invalid
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.reading import kept
from hub.reading import service as reading
from hub.reading.conversation import history, thread, words
from hub.reading.conversation.models import RetakeRequest

MAX_NOTE = 1000
MAX_REASONS = 8


class RetakeState(StrEnum):
    """States of a request for a retake."""

    OPEN = "open"
    REGISTERED = "registered"
    DECLINED = "declined"
    CLOSED = "closed"


class RetakeEvent(StrEnum):
    """What happens to a request."""

    REGISTER = "register"
    DECLINE = "decline"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Rule:
    """Where an event leads and who may raise it."""

    target: RetakeState
    roles: frozenset[str]


_CLINIC = frozenset({Role.TECHNOLOGIST})
_ANSWERER = frozenset({Role.TECHNOLOGIST, Role.CLINICIAN})
_DIRECTOR = frozenset({Role.DIRECTOR})

S, E = RetakeState, RetakeEvent

TRANSITIONS: dict[tuple[RetakeState, RetakeEvent], Rule] = {
    (S.OPEN, E.REGISTER): Rule(S.REGISTERED, _CLINIC),
    (S.OPEN, E.DECLINE): Rule(S.DECLINED, _ANSWERER),
    (S.OPEN, E.CLOSE): Rule(S.CLOSED, _DIRECTOR),
    # The retake that was registered never came about (cancelled): another one, or none after all.
    (S.REGISTERED, E.REGISTER): Rule(S.REGISTERED, _CLINIC),
    (S.REGISTERED, E.DECLINE): Rule(S.DECLINED, _ANSWERER),
}
"""A request for a retake. `move` is the one writer."""

_COPIED = (
    *("modality", "body_parts", "procedure", "priority", "priority_rank", "encounter", "encounter_number", "bed"),
    *("department", "doctor", "doctor_phone", "history", "pregnancy", "stated_age", "stated_birth_date"),
)


def move(session: Session, actor: Actor, row: RetakeRequest, event: RetakeEvent, **changes: Any) -> RetakeRequest:
    """Raise `event` on a request: the one place that writes its state.

    Raises:
        Conflict: The state does not know the event, or somebody else was first.
        Forbidden: The actor has none of the event's roles.
    """
    rule = TRANSITIONS.get((RetakeState(row.state), event))
    if rule is None:
        raise Conflict(_("这次退回已经答复过,请刷新页面"), code="answered-already", state=row.state)
    if actor.roles.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    session.flush()
    same = RetakeRequest.retake_id == row.retake_id if row.retake_id else RetakeRequest.retake_id.is_(None)
    result = session.execute(
        update(RetakeRequest)
        .where(RetakeRequest.id == row.id, RetakeRequest.state == row.state, same)
        .values(
            state=rule.target.value,
            answered_at=clock.now(),
            answered_by=actor.id,
            answered_name=actor.name,
            **changes,
        )
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("这次退回已经答复过,请刷新页面"), code="answered-already")
    session.refresh(row)
    return row


def ask(
    session: Session,
    actor: Actor,
    exam_id: str,
    token: str,
    *,
    reasons: Sequence[str],
    note: str = "",
    pictures: Sequence[str] = (),
) -> Exam:
    """Send the exam back for new images.

    Args:
        session: The transaction.
        actor: Who holds the exam.
        exam_id: The exam.
        token: Of his lease.
        reasons: Codes of the county's list.
        note: In his own words; needed where no reason is chosen, or the reason is "other".
        pictures: Ids of marked pictures, put in before.

    Raises:
        Conflict: `lease-lost`, `wrong-state`.
        Invalid: No reason, or one that the list does not have.
    """
    exam = reading.hold(session, actor, exam_id, token)
    chosen = list(dict.fromkeys(reasons))
    known = {one.code: one for one in words.load(session).retake}
    note = note.strip()
    if any(code not in known for code in chosen) or len(chosen) > MAX_REASONS:
        raise Invalid(fields={"reasons": _("没有这个退回原因,请刷新页面")})
    if not note and (not chosen or chosen == ["other"]):
        raise Invalid(_("请选择或写明退回的原因"), fields={"reason": _("请选择或写明退回的原因")})
    if len(note) > MAX_NOTE:
        raise Invalid(fields={"reason": _("最多 {n} 个字").format(n=MAX_NOTE)})
    said = said_of([known[code].name for code in chosen], note)
    before = exam.state
    exams.apply(session, actor, exam, Event.REQUEST_RETAKE, reason=said, end_reason=said[:400], **NO_LEASE)
    kept.keep(session, exam, actor.id)
    row = RetakeRequest(
        id=new_id(),
        exam_id=exam.id,
        at=clock.now(),
        person_id=actor.id,
        person_name=actor.name,
        from_state=before,
        reasons=chosen,
        note=note,
        state=RetakeState.OPEN.value,
    )
    session.add(row)
    session.flush()
    # The names stand with the codes: a list that is changed later does not change what was said.
    names = [{"code": code, "name": known[code].name, "name_en": known[code].name_en} for code in chosen]
    thread.add(
        session,
        actor,
        exam,
        "retake_asked",
        side="reader",
        text=note,
        data={"request": row.id, "reasons": names},
        pictures=pictures,
    )
    return exam


def said_of(names: Sequence[str], note: str) -> str:
    """Reasons and the reader's own words in one line."""
    return ";".join(part for part in ("、".join(names), note) if part)


def latest(session: Session, exam_id: str) -> RetakeRequest | None:
    """The last request for a retake of an exam."""
    return session.scalars(
        select(RetakeRequest)
        .where(RetakeRequest.exam_id == exam_id)
        .order_by(RetakeRequest.id.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _of_clinic(session: Session, actor: Actor, exam_id: str) -> tuple[Exam, RetakeRequest]:
    exam = reading.locked(session, actor, exam_id)
    if exam.org_id != actor.org_id:
        raise Forbidden(_("只有卫生院可以答复退回"))
    row = latest(session, exam.id)
    if row is None or exam.state != State.RETAKE:
        raise Conflict(_("这项检查没有待答复的退回"), code="wrong-state", state=exam.state)
    return exam, row


def _lives(session: Session, row: RetakeRequest) -> Exam | None:
    """The retake of a request, unless it was cancelled or made void."""
    made = session.get(Exam, row.retake_id, populate_existing=True) if row.retake_id else None
    return made if made is not None and made.state not in (State.CANCELLED, State.VOID) else None


def register(session: Session, actor: Actor, exam_id: str) -> Exam:
    """Register the retake: a new exam of the same patient and request that names the returned one.

    It keeps the priority and goes to the hospital that asked for it. Asked twice, it answers with the same exam.

    Raises:
        Forbidden: Not of the clinic, or not a technologist.
        Conflict: Nothing waits to be taken again.
    """
    exam, row = _of_clinic(session, actor, exam_id)
    made = _lives(session, row)
    if made is not None:
        return made
    if not actor.has(Role.TECHNOLOGIST):
        raise Forbidden(_("您的角色不能执行此操作"), event=RetakeEvent.REGISTER.value)
    columns = {name: getattr(exam, name) for name in _COPIED}
    columns["incomplete"] = [name for name in exam.incomplete if name != registration.REGISTRATION]
    retake = registration.new_exam(
        session, actor, exam.patient, org_id=exam.org_id, source="retake", retake_of_id=exam.id, **columns
    )
    if exam.reading_org_id is not None and retake.reading_org_id != exam.reading_org_id:
        retake.reading_org_id = exam.reading_org_id
        session.flush()
        session.refresh(retake)
    move(session, actor, row, RetakeEvent.REGISTER, retake_id=retake.id)
    kept.drop(session, exam.id)
    audit.record(
        session,
        actor,
        "exam.retake",
        "exam",
        retake.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        retake_of=exam.id,
    )
    thread.add(
        session,
        actor,
        exam,
        "retake_registered",
        side="clinic",
        data={"exam": retake.id, "accession": retake.accession},
    )
    thread.mark_read(session, actor, exam.id)
    exams.announce(session, exam, event="retake_registered")
    return retake


def decline(session: Session, actor: Actor, exam_id: str, reason: str, note: str = "") -> Exam:
    """Say that the images cannot be taken again: the exam goes back to be read, or reviewed, as it is.

    The time that the clinic took is off the readers' clock, as with a question about the history.

    Raises:
        Forbidden: Not of the clinic.
        Conflict: Nothing waits for an answer, or the retake is registered and stands.
        Invalid: No reason of the list, or "other" without words.
    """
    exam, row = _of_clinic(session, actor, exam_id)
    known = {one.code: one for one in words.load(session).decline}
    note = note.strip()
    if reason not in known:
        raise Invalid(_("请选择原因"), fields={"reason": _("请选择原因")})
    if reason == "other_decline" and not note:
        raise Invalid(fields={"note": _("请写明原因")})
    if len(note) > MAX_NOTE:
        raise Invalid(fields={"note": _("最多 {n} 个字").format(n=MAX_NOTE)})
    made = _lives(session, row)
    if made is not None:
        raise Conflict(
            _("重拍检查 {accession} 已经登记;确实拍不了请先取消它").format(accession=made.accession),
            code="retake-registered",
        )
    move(session, actor, row, RetakeEvent.DECLINE, answer_reason=reason, answer_note=note)
    if limits.load(session).pauses:
        session.add(
            ExamPause(exam_id=exam.id, why="retake", began_at=exam.ended_at or row.at, ended_at=clock.now())
        )  # fmt: skip
        session.flush()
    history.back(session, exam)
    review = row.from_state == State.REVIEWING
    exams.apply(
        session,
        actor,
        exam,
        Event.DECLINE_RETAKE_REVIEW if review else Event.DECLINE_RETAKE,
        reason=said_of([known[reason].name], note),
        ended_at=None,
        end_reason="",
        due_at=limits.due_at(session, exam) if exam.due_at is not None else None,
    )
    name = {"code": reason, "name": known[reason].name, "name_en": known[reason].name_en}
    thread.add(session, actor, exam, "retake_declined", side="clinic", text=note, data={"reasons": [name]})
    thread.mark_read(session, actor, exam.id)
    return exam


def retake_of(session: Session, actor: Actor, exam: Exam) -> Exam | None:
    """The exam that this one repeats, if the actor may know it."""
    if exam.retake_of_id is None:
        return None
    return session.scalars(visible_to(actor).where(Exam.id == exam.retake_of_id)).unique().one_or_none()


def retaken_by(session: Session, actor: Actor, exam: Exam) -> Exam | None:
    """The exam that repeats this one, if there is one that the actor may know."""
    made = select(RetakeRequest.retake_id).where(RetakeRequest.exam_id == exam.id, RetakeRequest.retake_id.is_not(None))
    return session.scalars(
        visible_to(actor)
        .where(Exam.id.in_(made), Exam.state.not_in([State.CANCELLED, State.VOID]))
        .order_by(Exam.registered_at.desc())
        .limit(1)
    ).first()
