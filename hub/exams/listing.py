"""Lists of exams as a clinic looks at them: search, filters, what needs doing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, CompoundSelect, Select, case, func, or_, select, union
from sqlalchemy.orm import Session, object_session

from hub.exams.models import Exam, Transition
from hub.exams.repository import is_open, knows_own_alone, open_identity, reads, visibility, visible_to
from hub.exams.states import OPEN_STATES, Event, State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.settings import get_settings
from hub.patients import service as patients
from hub.patients.models import Patient

ALERTS = ("no_images", "verify", "incomplete", "unseen", "history", "retake")


@dataclass(frozen=True, slots=True)
class ExamFilter:
    """What a list shows.

    `day` is "today", "week", "all" or YYYY-MM-DD (days of registration in the county's zone); `alert` one of ALERTS.
    Without text or alert, unfinished exams of earlier days are shown beside today's.
    """

    text: str = ""
    day: str = "today"
    state: str = ""
    priority: str = ""
    modality: str = ""
    alert: str = ""
    page: int = 1
    size: int = 50


@dataclass(slots=True)
class Found:
    """A page of exams."""

    items: list[Exam] = field(default_factory=list)
    total: int = 0
    page: int = 1
    pages: int = 1


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The moments between which a civil day of the county lies."""
    zone = ZoneInfo(get_settings().timezone)
    start = datetime.combine(day, time(), zone)
    return start, datetime.combine(day + timedelta(days=1), time(), zone)


def alert_condition(alert: str) -> Any:
    """The condition under which an exam wants its clinic's attention."""
    late = clock.now() - timedelta(minutes=get_settings().no_images_alert_minutes)
    # Each says by itself of which states it is: then the few exams of those states are looked at, not all.
    unseen = Exam.state.in_([State.RETURNED.value, State.PRELIMINARY.value])
    return {
        "no_images": (Exam.state == State.REGISTERED.value) & (Exam.registered_at <= late),
        "verify": is_open() & or_(Exam.state == State.TO_VERIFY.value, open_identity()),
        "incomplete": is_open() & func.length(_text(Exam.incomplete)).op(">")(2),
        # Not by its clock, which keeps the first time: a correction of a report that was seen is to be seen too.
        "unseen": unseen & or_(Exam.state == State.RETURNED.value, ~_preliminary_seen()),
        "history": Exam.state == State.HISTORY_REQUESTED.value,
        "retake": (Exam.state == State.RETAKE.value) & (Exam.ended_at > clock.now() - timedelta(days=7)),
    }[alert]


def _preliminary_seen() -> Any:
    # The exam's clocks are the formal report's: that a preliminary one was seen stands in the log alone.
    seen = (Transition.event == Event.SEE.value) & (Transition.at >= Exam.preliminary_at)
    return select(Transition.id).where(Transition.exam_id == Exam.id, seen).correlate(Exam).exists()


def _text(column: Any) -> Any:
    # A JSON list as text: "[]" has two characters on every database.
    from sqlalchemy import String, cast

    return cast(column, String)


def _conditions(actor: Actor, wanted: ExamFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if typed := wanted.text.strip():
        matching = select(Patient.id).where(patients.matches(typed))
        if knows_own_alone(actor):
            matching = matching.where(Patient.org_id == actor.org_id)
        conditions = [Exam.patient_id.in_(matching), Exam.accession == typed.upper()]
        if any(char.isdigit() for char in typed):
            conditions.append(Exam.encounter_number == typed)
        found.append(or_(*conditions))
    if wanted.state in set(State):
        found.append(Exam.state == wanted.state)
    if wanted.priority:
        found.append(Exam.priority == wanted.priority)
    if wanted.modality:
        found.append(Exam.modality == wanted.modality)
    return found


def _few(actor: Actor, wanted: ExamFilter) -> Select[Any] | CompoundSelect[Any] | None:
    """Ids of what is shown where that is a small part of all: what waits, and what happened today. None: it is not.

    Each part is a range of an index. Chosen by one condition with "or", or put in order at once, a database may look
    at everything that the clinic ever had.
    """
    own = select(Exam.id).where(visibility(actor), *_conditions(actor, wanted))
    if wanted.alert in ALERTS:
        return own.where(alert_condition(wanted.alert))
    if wanted.state in OPEN_STATES and wanted.day == "today":
        return own
    if wanted.day != "today":
        return None
    start, _end = day_bounds(clock.local(clock.now(), get_settings().timezone).date())
    parts = [own.where(Exam.registered_at >= start), own.where(Exam.returned_at >= start)]
    if wanted.state not in set(State):
        parts.append(own.where(is_open()))
    return union(*parts)


def _chosen(actor: Actor, wanted: ExamFilter, known: ColumnElement[bool] | None = None) -> Select[Exam]:
    """The exams of the list; `known` is the actor's `visibility`, where it is to be asked in another way."""
    few = _few(actor, wanted)
    if few is not None:
        return select(Exam).where(Exam.id.in_(few))
    statement = (visible_to(actor) if known is None else select(Exam).where(known)).where(*_conditions(actor, wanted))
    now = clock.local(clock.now(), get_settings().timezone).date()
    if wanted.day == "week":
        start, _end = day_bounds(now - timedelta(days=6))
        statement = statement.where(Exam.registered_at >= start)
    elif wanted.day not in ("all", ""):
        try:
            start, end = day_bounds(date.fromisoformat(wanted.day))
        except ValueError:
            return statement
        statement = statement.where(Exam.registered_at >= start, Exam.registered_at < end)
    return statement


def find(session: Session, actor: Actor, wanted: ExamFilter) -> Found:
    """A page of the exams that `actor` may know, emergencies first among those still open, then newest first."""
    statement = _chosen(actor, wanted)
    total = session.scalar(select(func.count()).select_from(statement.with_only_columns(Exam.id).subquery())) or 0
    size = max(1, min(wanted.size, 200))
    pages = max(1, -(-total // size))
    page = max(1, min(wanted.page, pages))
    if reads(actor) and not wanted.text.strip():
        # As CASE: walked in the page's order, which soon is full, and not all that a hospital reads.
        statement = _chosen(actor, wanted, case((visibility(actor), 1), else_=0) == 1)
    ordered = statement.order_by(Exam.registered_at.desc(), Exam.id.desc()).offset((page - 1) * size).limit(size)
    return Found(list(session.scalars(ordered).unique()), total, page, pages)


def alert_counts(session: Session, actor: Actor) -> dict[str, int]:
    """How many exams of the actor want attention, by kind."""
    found: dict[str, int] = {}
    for alert in ALERTS:
        statement = visible_to(actor).where(alert_condition(alert)).with_only_columns(Exam.id)
        found[alert] = session.scalar(select(func.count()).select_from(statement.subquery())) or 0
    return found


def alerts_of(exam: Exam) -> list[str]:
    """The alerts that hold for one exam, as codes of ALERTS."""
    found: list[str] = []
    now = clock.now()
    minutes = get_settings().no_images_alert_minutes
    if exam.state == State.REGISTERED and exam.registered_at <= now - timedelta(minutes=minutes):
        found.append("no_images")
    if exam.state == State.TO_VERIFY or (exam.identity == "open" and exam.state in OPEN_STATES):
        found.append("verify")
    if exam.incomplete and exam.state in OPEN_STATES:
        found.append("incomplete")
    session = object_session(exam)
    waits = exam.state == State.PRELIMINARY and (
        session is None or session.scalar(select(Exam.id).where(Exam.id == exam.id, _preliminary_seen())) is None
    )
    if exam.state == State.RETURNED or waits:
        found.append("unseen")
    if exam.state == State.HISTORY_REQUESTED:
        found.append("history")
    if exam.state == State.RETAKE:
        found.append("retake")
    return found
