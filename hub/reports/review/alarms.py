"""A changed conclusion that nobody acknowledges: the second contact, then the duty officer, and whom the board names.

The timers are rows. Before anybody's deed those that ran out are recorded (`advance`): a worker that was dead leaves no
hole in the record, and nothing is answered as if it had been in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.models import Exam
from hub.kit import jobs, live
from hub.kit.actor import SYSTEM
from hub.kit.ids import new_id
from hub.kit.settings import get_settings
from hub.reports.critical import contacts, messages
from hub.reports.critical.classes import load
from hub.reports.critical.contacts import Phone
from hub.reports.critical.moment import now as moment
from hub.reports.review.models import ConclusionChange, ConclusionMessage
from hub.reports.review.moves import move
from hub.reports.review.states import CHANGE_OPEN, ChangeEvent, ChangeState
from hub.sites.models import Organisation

JOB: Final = "review.conclusion-message"


def timers(session: Session, opened_at: datetime) -> dict[str, datetime]:
    """The timers of a change that is opened at a moment, as the county has set them."""
    rules = load(session)
    return {
        "escalate_due": opened_at + timedelta(minutes=rules.change_escalate_minutes),
        "breach_due": opened_at + timedelta(minutes=rules.change_breach_minutes),
    }


def ring(session: Session, change: ConclusionChange, level: str, at: datetime, due: datetime | None = None) -> None:
    """Write down who is to be reached at a level (`alarm`, `escalate`, `breach`), and tell the county's gateway."""
    people = contacts.rung_at(session, change, level, at)
    line: dict[str, Any] = {"level": level, "at": at.isoformat(), "contacts": [phone.json() for phone in people]}
    if due is not None:
        line["due"] = due.isoformat()
    change.rung = [*change.rung, line]
    session.flush()
    _queue(session, change, level, people, at)


def _queue(session: Session, change: ConclusionChange, level: str, people: Sequence[Phone], at: datetime) -> None:
    if not messages.is_set_up():
        return
    exam = session.get_one(Exam, change.exam_id)
    hospital = session.get(Organisation, change.hospital_id or "")
    message = ConclusionMessage(id=new_id(), change_id=change.id, level=level, state=messages.QUEUED, queued_at=at)
    message.body = {
        "event": f"conclusion.{level}",
        "message": message.id,
        "conclusion": change.id,
        "exam": exam.accession,
        "clinic": exam.org.code,
        "hospital": hospital.code if hospital is not None else "",
        "opened_at": change.opened_at.isoformat(),
        "due_at": change.breach_due.isoformat(),
        "link": f"{get_settings().public_url}/reports/{change.version_id}",
        "contacts": [{"name": phone.name, "phone": phone.number} for phone in people],
    }
    session.add(message)
    session.flush()
    jobs.enqueue(session, JOB, {"message_id": message.id}, key=f"conclusion-message:{message.id}", priority=0)


def send(message_id: str) -> None:
    """Do the job of one message.

    Raises:
        NotSent: It is to be tried again.
    """
    messages.send_one(ConclusionMessage, message_id, _is_needless)


def _is_needless(session: Session, message: ConclusionMessage) -> bool:
    return session.get_one(ConclusionChange, message.change_id).state not in CHANGE_OPEN


def advance(session: Session, change: ConclusionChange, at: datetime) -> int:
    """Record what the timers of a locked row have become due for; how many steps were taken.

    Each step is taken once, in its order, however late: the record says when it was due and when the hub acted.
    """
    taken = 0
    if change.state == ChangeState.OPEN and change.escalate_due <= at:
        _step(session, change, ChangeEvent.ESCALATE, at, change.escalate_due, escalated_at=at)
        taken += 1
    if change.state == ChangeState.ESCALATED and change.breach_due <= at:
        _step(session, change, ChangeEvent.BREACH, at, change.breach_due, breached_at=at)
        taken += 1
    return taken


def _step(
    session: Session, change: ConclusionChange, event: ChangeEvent, at: datetime, due: datetime, **stamp: Any
) -> None:
    move(session, SYSTEM, change, event, **stamp)
    ring(session, change, event.value, at, due)
    exam = session.get_one(Exam, change.exam_id)
    audit.record(
        session,
        SYSTEM,
        f"report.conclusion_{change.state}",
        "conclusion_change",
        change.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
    )
    live.publish(
        session, "conclusion", change.id, orgs=[change.org_id, change.hospital_id], event=event.value, exam=exam.id
    )


def due(session: Session, at: datetime, *, limit: int = 200) -> list[str]:
    """Ids of those whose timers ran out and were not acted on."""
    return list(
        session.scalars(
            select(ConclusionChange.id)
            .where(
                or_(
                    and_(ConclusionChange.state == ChangeState.OPEN.value, ConclusionChange.escalate_due <= at),
                    and_(ConclusionChange.state == ChangeState.ESCALATED.value, ConclusionChange.breach_due <= at),
                )
            )
            .order_by(ConclusionChange.escalate_due)
            .limit(limit)
        )
    )


def sweep_one(session: Session, change_id: str) -> int:
    """Let the timers of one change act, if they are due; how many steps were taken."""
    change = session.scalars(
        select(ConclusionChange)
        .where(ConclusionChange.id == change_id)
        .with_for_update(of=ConclusionChange)
        .execution_options(populate_existing=True)
    ).one()
    return advance(session, change, moment(session))


def level_of(change: ConclusionChange, at: datetime) -> str:
    """How late it is, from the row and the clock: "", `escalate` or `breach`; also while no worker is alive."""
    if change.state not in CHANGE_OPEN:
        return ""
    if at >= change.breach_due:
        return ChangeEvent.BREACH.value
    return ChangeEvent.ESCALATE.value if at >= change.escalate_due else ""
