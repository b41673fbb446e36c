"""The clocks of many exams at once, as columns.

Medians and percentiles differ between databases (SQLite has none), so the columns are pulled by Core as seconds since
1970 and counted with numpy: the same numbers on every database. No column of a patient is ever pulled.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, Self
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Float, String, cast, extract, false, func, literal_column, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from hub.exams import limits
from hub.exams.catalogue import MODALITIES, PRIORITIES
from hub.exams.models import Exam, ExamPause, Transition
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.settings import get_settings

Text = npt.NDArray[np.object_]
Seconds = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_TEXTS: dict[str, InstrumentedAttribute[Any]] = {
    "id": Exam.id,
    "accession": Exam.accession,
    "state": Exam.state,
    "clinic": Exam.org_id,
    "hospital": Exam.reading_org_id,
    "author": Exam.author_id,
    "reviewer": Exam.reviewer_id,
    "modality": Exam.modality,
    "priority": Exam.priority,
    "encounter": Exam.encounter,
    "source": Exam.exam_at_source,
}
_CLOCKS: dict[str, InstrumentedAttribute[datetime | None]] = {
    "exam_at": Exam.exam_at,
    "received_at": Exam.received_at,
    "verify_since": Exam.verify_since,
    "verified_at": Exam.verified_at,
    "due_at": Exam.due_at,
    "reading_at": Exam.reading_at,
    "submitted_at": Exam.submitted_at,
    "preliminary_at": Exam.preliminary_at,
    "consultation_at": Exam.consultation_at,
    "signed_at": Exam.signed_at,
    "returned_at": Exam.returned_at,
    "seen_at": Exam.seen_at,
    "ended_at": Exam.ended_at,
}


@dataclass(frozen=True)
class Frame:
    """One entry per exam in every column; times in seconds since 1970 UTC, NaN where the clock has not been stamped.

    `returned_at` and `seen_at` are those of the first signed version: an addendum a week later tells the clinic again,
    and must not turn an hour into a week. `now` is the moment at which unfinished exams are judged. `paused`: for how
    many seconds the readers' clock stood still because the clinic had been asked; `due_at` of an exam whose clock
    stands still goes on with it. `sent_back`: whether a reader ever returned the exam for new images.
    """

    id: Text
    accession: Text
    state: Text
    clinic: Text
    hospital: Text
    author: Text
    reviewer: Text
    modality: Text
    priority: Text
    encounter: Text
    source: Text
    klass: Text
    registered_at: Seconds
    exam_at: Seconds
    received_at: Seconds
    verify_since: Seconds
    verified_at: Seconds
    due_at: Seconds
    reading_at: Seconds
    submitted_at: Seconds
    preliminary_at: Seconds
    consultation_at: Seconds
    signed_at: Seconds
    returned_at: Seconds
    seen_at: Seconds
    ended_at: Seconds
    paused: Seconds
    sent_back: Mask
    now: float

    def __len__(self) -> int:
        return len(self.id)

    def take(self, chosen: Mask | npt.NDArray[np.intp]) -> Self:
        """The exams that a mask or indices choose."""
        columns = {item.name: getattr(self, item.name)[chosen] for item in fields(self) if item.name != "now"}
        return type(self)(**columns, now=self.now)

    def days(self) -> Text:
        """The local day of registration of each exam, ISO."""
        zone = ZoneInfo(get_settings().timezone)
        return np.array([datetime.fromtimestamp(at, zone).date().isoformat() for at in self.registered_at], object)


def bounds(first: date, last: date) -> tuple[datetime, datetime]:
    """From the local midnight that begins `first` to the one that ends `last`."""
    zone = ZoneInfo(get_settings().timezone)
    begin = datetime.combine(first, datetime.min.time(), zone)
    end = datetime.combine(date.fromordinal(last.toordinal() + 1), datetime.min.time(), zone)
    return begin, end


def _seconds(column: Any) -> ColumnElement[float]:
    return cast(extract("epoch", column), Float)


def pull(session: Session, *conditions: ColumnElement[bool], either: Sequence[ColumnElement[bool]] = ()) -> Frame:
    """The exams that meet `conditions`, without those that were cancelled or made void.

    Whole seconds: SQLite gives no more, and nobody waits for less.

    Args:
        session: A session.
        *conditions: All of them are met.
        either: One of them is met. Each is asked by itself: joined by "or", SQLite would walk all exams of the county.
    """
    alive = Exam.state.not_in([State.CANCELLED.value, State.VOID.value])
    ways = [(*conditions, one, alive) for one in either] or [(*conditions, alive)]
    statement = select(
        *_TEXTS.values(),
        cast(Exam.body_parts, String),
        _seconds(Exam.registered_at),
        *(_seconds(column) for column in _CLOCKS.values()),
    )
    by_id = {row.id: row for meets in ways for row in session.connection().execute(statement.where(*meets))}
    rows: Sequence[Any] = list(by_id.values())
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * (len(_TEXTS) + 2 + len(_CLOCKS))
    texts = {name: _texts(columns[index]) for index, name in enumerate(_TEXTS)}
    offset = len(_TEXTS)
    parts = columns[offset]
    clocks = {
        name: np.floor(np.array(columns[offset + 1 + index], float))
        for index, name in enumerate(("registered_at", *_CLOCKS))
    }
    _first_return(session, ways, texts["id"], clocks)
    asked = _asked(session, ways, texts["id"], clocks)
    pulled: dict[str, Any] = {**texts, **clocks, **asked, "klass": _classes(texts, parts, clocks)}
    return Frame(**pulled, now=float(int(clock.now().timestamp())))


Ways = Sequence[tuple[ColumnElement[bool], ...]]
"""Conditions of which an exam meets all of one tuple, or of several."""


def _asked(session: Session, ways: Ways, ids: Text, clocks: dict[str, Seconds]) -> dict[str, Any]:
    """Pauses, and who was returned for new images."""
    place = {exam_id: index for index, exam_id in enumerate(ids)}
    paused, sent_back = np.zeros(len(ids)), np.zeros(len(ids), bool)
    now = float(int(clock.now().timestamp()))
    pauses = select(ExamPause.id, ExamPause.exam_id, _seconds(ExamPause.began_at), _seconds(ExamPause.ended_at)).join(
        Exam, Exam.id == ExamPause.exam_id
    )
    rows: dict[str, Any] = {row.id: row for meets in ways for row in session.connection().execute(pauses.where(*meets))}
    for _id, exam_id, began, ended in rows.values():
        if exam_id in place:
            index = place[exam_id]
            paused[index] += (now if ended is None else np.floor(ended)) - np.floor(began)
            if ended is None:
                clocks["due_at"][index] += now - np.floor(began)
    returned = (
        select(Transition.exam_id)
        .join(Exam, Exam.id == Transition.exam_id)
        .where(Transition.event == Event.REQUEST_RETAKE.value)
    )
    for meets in ways:
        for (exam_id,) in session.connection().execute(returned.where(*meets)):
            if exam_id in place:
                sent_back[place[exam_id]] = True
    return {"paused": paused, "sent_back": sent_back}


def of_class(key: str) -> ColumnElement[bool]:
    """The condition that an exam has the class `key` of hub.exams.limits.class_of."""
    if key == "formal":
        return Exam.preliminary_at.is_not(None)
    if key == "complex":
        return Exam.preliminary_at.is_(None) & Exam.consultation_at.is_not(None)
    parts = cast(Exam.body_parts, String)
    fitting = [
        (Exam.modality == modality)
        & (Exam.priority == priority)
        & ((Exam.encounter == "inpatient") if inpatient else (Exam.encounter != "inpatient"))
        & ((parts == _HEAD_ALONE) if head else (parts != _HEAD_ALONE))
        for modality in MODALITIES
        for priority in PRIORITIES
        for inpatient in (True, False)
        for head in (True, False)
        if limits.first_class(
            modality, priority, "inpatient" if inpatient else "", json.loads(_HEAD_ALONE) if head else []
        )
        == key
    ]
    return Exam.preliminary_at.is_(None) & Exam.consultation_at.is_(None) & or_(false(), *fitting)


_HEAD_ALONE = json.dumps(["head"])


def _texts(column: Sequence[Any]) -> Text:
    found = np.empty(len(column), object)
    found[:] = [value or "" for value in column]
    return found


def _classes(texts: dict[str, Text], parts: Sequence[str], clocks: dict[str, Seconds]) -> Text:
    known: dict[tuple[str, str, str, str], str] = {}
    found = np.empty(len(parts), object)
    keys = zip(texts["modality"], texts["priority"], texts["encounter"], parts, strict=True)
    for index, key in enumerate(keys):
        if key not in known:
            known[key] = limits.first_class(key[0], key[1], key[2], json.loads(key[3]))
        found[index] = known[key]
    found[~np.isnan(clocks["consultation_at"])] = "complex"
    found[~np.isnan(clocks["preliminary_at"])] = "formal"
    return found


def _first_return(session: Session, ways: Ways, ids: Text, clocks: dict[str, Seconds]) -> None:
    amended = aliased(Transition)
    amendments = (
        select(amended.exam_id)
        .join(Exam, Exam.id == amended.exam_id)
        # Written out, not bound: only so can SQLite use the index of amended exams.
        .where(amended.event == literal_column(f"'{Event.AMEND.value}'"))
        .distinct()
    )
    found = sorted({exam_id for meets in ways for exam_id in session.scalars(amendments.where(*meets))})
    if not found:
        return
    place = {exam_id: index for index, exam_id in enumerate(ids)}
    for start in range(0, len(found), 500):
        statement = (
            select(Transition.exam_id, Transition.event, _seconds(func.min(Transition.at)))
            .where(
                Transition.event.in_([Event.RETURN.value, Event.SEE.value]),
                Transition.exam_id.in_(found[start : start + 500]),
            )
            .group_by(Transition.exam_id, Transition.event)
        )
        for exam_id, event, at in session.connection().execute(statement):
            if exam_id in place:
                clocks["returned_at" if event == Event.RETURN.value else "seen_at"][place[exam_id]] = np.floor(at)
