"""History that a reader asks for: the clinic answers in the thread, the readers' clock stands still meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from hub.exams import limits
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.service import NO_LEASE
from hub.exams.states import Event
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Forbidden, Invalid
from hub.kit.i18n import _
from hub.kit.settings import get_settings
from hub.reading import kept
from hub.reading import service as reading
from hub.reading.conversation import thread, words

MAX_QUESTION = 1000
MAX_ANSWER = 3000
MAX_HISTORY = 12_000


def ask(session: Session, actor: Actor, exam_id: str, token: str, question: str) -> Exam:
    """Ask the clinic for what the history lacks. The exam waits, and comes back to who asked.

    Raises:
        Conflict: `lease-lost`, `wrong-state`.
        Invalid: No question.
    """
    exam = reading.hold(session, actor, exam_id, token)
    question = question.strip()
    if not question:
        raise Invalid(_("请说明原因"), fields={"reason": _("请说明原因")})
    if len(question) > MAX_QUESTION:
        raise Invalid(_("原因太长"), fields={"reason": _("最多 {n} 个字").format(n=MAX_QUESTION)})
    exams.rule_for(exam, Event.REQUEST_HISTORY, actor)
    paused = limits.pause(session, exam, "history")
    exams.apply(session, actor, exam, Event.REQUEST_HISTORY, reason=question, paused_at=paused, **NO_LEASE)
    kept.keep(session, exam, actor.id)
    thread.add(session, actor, exam, "history_asked", side="reader", text=question)
    return exam


def answer(session: Session, actor: Actor, exam_id: str, text: str, *, pictures: Sequence[str] = ()) -> Exam:
    """The clinic's answer: a line of the thread, and added to the history with its time and its author.

    The exam is back in the queue with its place by limit; who asked has the first right to it.

    Raises:
        Forbidden: Not of the clinic.
        Conflict: `wrong-state`: it was answered already, or nothing was asked.
        Invalid: Empty, too long, or there is no room in the history.
    """
    exam = reading.locked(session, actor, exam_id)
    if exam.org_id != actor.org_id:
        raise Forbidden(_("只有卫生院可以补充病史"))
    exams.rule_for(exam, Event.ANSWER_HISTORY, actor)
    text = text.strip()
    if not text and not pictures:
        raise Invalid(fields={"text": _("请填写补充的病史")})
    if len(text) > MAX_ANSWER:
        raise Invalid(fields={"text": _("最多 {n} 个字").format(n=MAX_ANSWER)})
    stamp = clock.local(clock.now(), get_settings().timezone).strftime("%m-%d %H:%M")
    said = text or f"(见图片 {len(pictures)} 张)"
    history = f"{exam.history}\n[{stamp} {actor.name}] {said}".strip()
    if len(history) > MAX_HISTORY:
        raise Invalid(fields={"text": _("病史太长,请精简")})
    back(session, exam)
    exams.apply(
        session,
        actor,
        exam,
        Event.ANSWER_HISTORY,
        history=history,
        paused_at=None,
        due_at=limits.due_at(session, exam) if exam.due_at is not None else None,
    )
    thread.add(session, actor, exam, "history_answered", side="clinic", text=text, pictures=pictures)
    # Whoever answers has the question before him, wherever he answered from.
    thread.mark_read(session, actor, exam.id)
    return exam


def back(session: Session, exam: Exam) -> None:
    """The clinic has answered: its pause is over, and who asked has his time. The exam must be locked."""
    limits.resume(session, exam)
    rules = words.load(session)
    minutes = rules.keep_minutes_emergency if exam.priority == "emergency" else rules.keep_minutes
    kept.answered(session, exam, minutes)
