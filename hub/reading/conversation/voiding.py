"""Making an exam void: the centre's director stops one that must not stand, another patient's images for example.

It cannot be undone. Images, drafts and signed versions stay and stay readable to those who could read them; nothing is
written or signed any more, a signed report and its public verification say that it is void, and the clinic is told.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams import limits
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.service import NO_LEASE
from hub.exams.states import TRANSITIONS, Event, State
from hub.kit.actor import Actor
from hub.reading import kept
from hub.reading import service as reading
from hub.reading.conversation import retakes, thread
from hub.reading.conversation.models import RetakeRequest
from hub.reading.service import required_reason

VOIDABLE = frozenset(state for state, event in TRANSITIONS if event is Event.VOID)
"""States in which an exam can be made void."""


def void(session: Session, actor: Actor, exam_id: str, reason: str) -> Exam:
    """Make an exam void.

    Whoever holds it loses it; what he types after that is kept beside the draft.

    Raises:
        Invalid: No reason.
        Forbidden: Not a director.
        Conflict: It is void or cancelled, or has no images yet (then it is cancelled instead).
    """
    reason = required_reason(reason)
    exam = reading.locked(session, actor, exam_id)
    was = State(exam.state)
    limits.resume(session, exam)
    exams.apply(session, actor, exam, Event.VOID, reason=reason, end_reason=reason, paused_at=None, **NO_LEASE)
    kept.drop(session, exam.id)
    for row in session.scalars(
        select(RetakeRequest).where(
            RetakeRequest.exam_id == exam.id, RetakeRequest.state == retakes.RetakeState.OPEN.value
        )
    ):
        retakes.move(session, actor, row, retakes.RetakeEvent.CLOSE)
    thread.add(session, actor, exam, "void", side="reader", text=reason, data={"was": was.value})
    return exam
