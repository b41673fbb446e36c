"""What a report says of the notification of its critical values: whom, when, how, and what is still open."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Session

from hub.kit import clock
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.reports.critical import repository
from hub.reports.critical.classes import name_of
from hub.reports.critical.models import CriticalValue
from hub.reports.critical.states import OPEN, WAY_NAMES, CriticalState, Way


def lines(session: Session, exam_id: str, *, marked: bool = False) -> list[Message]:
    """One sentence for each critical value of an exam that was not withdrawn, as it stands now.

    Args:
        session: A session.
        exam_id: The exam.
        marked: The report is being signed as critical: a procedure begins with the signature at the latest.
    """
    found = [sentence(row) for row in repository.of_exam(session, exam_id) if row.state != CriticalState.WITHDRAWN]
    if marked and not found:
        return [_("签发时向卫生院发出危急值警报;卫生院尚未确认接收。")]
    return found


def sentence(row: CriticalValue) -> Message:
    """The notification of one critical value."""
    known = {
        "name": name_of(row.class_code, row.class_name),
        "found": _time(row.discovered_at),
        "caller": row.flagged_by_name,
    }
    if row.received_at is None:
        return _(
            "{name}:{found} 发现,{caller}报告;卫生院尚未确认接收。",
            **known,
        )
    known |= {
        "received": _time(row.received_at),
        "receiver": row.received_by_name,
        "way": WAY_NAMES[Way(row.way)],
    }
    if row.confirmed_at is None:
        return _(
            "{name}:{found} 发现,{caller}报告;{received} {receiver}接收({way});复述尚未核对。",
            **known,
        )
    return _(
        "{name}:{found} 发现,{caller}报告;{received} {receiver}接收({way});{confirmed} {checker}核对复述一致。",
        **known,
        confirmed=_time(row.confirmed_at),
        checker=row.confirmed_by_name,
    )


def pending(session: Session, exam_id: str) -> bool:
    """Whether an open critical value of the exam is not acknowledged by both sides."""
    return any(row.state in OPEN and row.confirmed_at is None for row in repository.of_exam(session, exam_id))


def _time(at: datetime) -> str:
    return f"{clock.local(at, get_settings().timezone):%Y-%m-%d %H:%M}"
