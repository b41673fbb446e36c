"""What the routing API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from hub.kit.i18n import translate
from hub.reading.routing import words
from hub.reading.routing.alerts import Alert
from hub.reading.routing.balance import Load, Move
from hub.reading.routing.decide import Decision
from hub.reading.routing.rota import Checked, Shift, moment_words
from hub.reading.words import exam_words

_RULE = {
    "key": "night-ct",
    "name": "夜间 CT",
    "modalities": ["CT"],
    "start": "20:00",
    "end": "08:00",
    "targets": [{"hospital": "H01", "weight": 2}, {"hospital": "H02", "weight": 1}],
}


class PlanAnswer(BaseModel):
    """The rules in force, or an earlier version of them."""

    number: int = Field(description="Version; 0: nothing was ever saved, these are the defaults.")
    plan: dict[str, Any]
    note: str = ""
    changed_at: datetime | None = None
    changed_by: str = ""


class PlanBody(BaseModel):
    """A new version of the rules."""

    plan: dict[str, Any] = Field(examples=[{"rules": [_RULE], "emergency_to_all": True, "share_hours": 24}])
    based_on: int = Field(ge=0, description="Number of the version that was changed.")
    note: str = Field("", max_length=200)


class DryRunBody(BaseModel):
    """A real exam by its number, or one that somebody thinks of; optionally under rules that are not saved."""

    accession: str = Field("", max_length=16)
    clinic: str = Field("", max_length=20, examples=["C01"])
    modality: str = Field("", max_length=4, examples=["CT"])
    body_parts: list[str] = Field([], max_length=12, examples=[["head"]])
    priority: str = Field("routine", max_length=10)
    encounter: str = Field("outpatient", max_length=12)
    at: str = Field("", max_length=20, description="`2026-03-02 21:00` in the county's zone; empty: now.")
    retake_by: str = Field("", max_length=20, description="Hospital that asked for it as a retake; empty: it is none.")
    plan: dict[str, Any] | None = None


class DecisionAnswer(BaseModel):
    """Where an exam would go, and why."""

    hospital: str | None = Field(description="Code; null: the shared pool.")
    name: str
    rule: str
    why: list[str]
    answer_minutes: int = Field(description="After so long without an answer the next is asked; 0: never.")
    offered: list[str] = Field(description="Hospitals to whom an emergency is offered.")


class RouteAnswer(BaseModel):
    """Where an exam was routed, and why."""

    hospital: str | None
    rule: str
    plan: int
    why: list[str]
    decided_at: datetime | None
    answer_by: datetime | None


class ShiftBody(BaseModel):
    """One shift; times in the county's zone."""

    person: str = Field(max_length=60, description="Login, or a name that is the only one in its hospital.")
    hospital: str = Field(max_length=100, examples=["H01"])
    starts: str = Field(max_length=20, examples=["2026-03-02 08:00"])
    ends: str = Field(max_length=20, examples=["2026-03-02 20:00"])
    role: str = Field("all", max_length=10)
    skills: str = Field("", max_length=200, examples=["CT;DX:chest"])


class ShiftAnswer(BaseModel):
    """A row of the rota."""

    id: str
    person: str
    login: str
    hospital: str
    starts: datetime
    ends: datetime
    role: str
    skills: list[str]


class RotaAnswer(BaseModel):
    """Shifts of a span of time."""

    shifts: list[ShiftAnswer]


class LineError(BaseModel):
    """What is wrong with a line of a file."""

    line: int
    message: str


class LineAnswer(BaseModel):
    """What a line of a file says."""

    line: int
    person: str
    hospital: str
    starts: str
    ends: str
    known: bool = Field(description="Stands in the rota already.")


class ImportAnswer(BaseModel):
    """What a file did, or would do. With any error nothing is written."""

    written: bool
    added: int
    known: int
    removed: int
    errors: list[LineError]
    lines: list[LineAnswer]


class SkillsBody(BaseModel):
    """What a person reads; empty: everything."""

    skills: str = Field(max_length=400, examples=["CT;DX:chest"])


class SkillsAnswer(BaseModel):
    """What a person reads."""

    person_id: str
    skills: list[str]
    words: list[str]


class LoadAnswer(BaseModel):
    """How a hospital stands."""

    hospital: str
    name: str
    waiting: int
    held: int
    review: int
    overdue: int
    behind: int
    is_behind: bool
    routed: int
    share: float | None = Field(description="Percent of the exams of the plan's window; null: there were none.")
    on_duty: list[str]
    keeps_rota: bool


class LoadsAnswer(BaseModel):
    """How all hospitals stand."""

    hospitals: list[LoadAnswer]


class MoveAnswer(BaseModel):
    """An exam that would go elsewhere."""

    exam_id: str
    accession: str
    exam: str
    priority: str
    due_at: datetime | None
    waiting_since: datetime | None
    source: str
    target: str | None
    source_name: str
    target_name: str
    why: list[str]


class MovesAnswer(BaseModel):
    """What would be moved."""

    moves: list[MoveAnswer]


class MoveBody(BaseModel):
    """One exam to move."""

    exam_id: str = Field(max_length=26)
    source: str = Field(max_length=20)
    target: str | None = Field(None, max_length=20, description="Code; null: the shared pool.")


class MovesBody(BaseModel):
    """Exams to move, as they were shown."""

    moves: list[MoveBody] = Field(max_length=200)
    reason: str = Field("", max_length=200)


class MovedOne(BaseModel):
    """What became of one."""

    exam_id: str
    moved: bool
    refusal: str = ""


class MovedAnswer(BaseModel):
    """What became of each."""

    moved: list[MovedOne]


class AlertAnswer(BaseModel):
    """An exam whose limit is used up so far, or that nobody answered."""

    id: str
    exam_id: str
    accession: str
    level: int = Field(description="50, 80 or 100 percent; 0: nobody answered.")
    raised_at: datetime | None
    due_at: datetime | None
    hospital_id: str | None
    exam: str
    priority: str
    mine: bool


class AlertsAnswer(BaseModel):
    """Open alerts, what is furthest over first."""

    alerts: list[AlertAnswer]


class AcknowledgeBody(BaseModel):
    """Alerts that were seen."""

    ids: list[str] = Field(min_length=1, max_length=200)


class CountAnswer(BaseModel):
    """How many."""

    count: int


def decision_of(session: Session, decision: Decision, locale: str) -> DecisionAnswer:
    """A decision in the reader's language."""
    named = words.names(session, locale)
    return DecisionAnswer(
        hospital=decision.hospital,
        name=named.get(decision.hospital, decision.hospital) if decision.hospital else "",
        rule=decision.rule,
        why=[words.say(reason, locale, named) for reason in decision.why],
        answer_minutes=decision.answer_minutes,
        offered=list(decision.offered),
    )


def shift_of(shift: Shift) -> ShiftAnswer:
    """A row of the rota."""
    return ShiftAnswer(
        id=shift.row.id,
        person=shift.person.name,
        login=shift.person.login,
        hospital=shift.hospital.code,
        starts=shift.row.starts_at,
        ends=shift.row.ends_at,
        role=shift.row.role,
        skills=list(shift.row.skills),
    )


def import_of(found: Checked, *, written: bool, locale: str) -> ImportAnswer:
    """What a file did or would do."""
    return ImportAnswer(
        written=written,
        added=sum(not entry.known for entry in found.entries),
        known=sum(entry.known for entry in found.entries),
        removed=len(found.removed),
        errors=[LineError(line=line, message=translate(message, locale)) for line, message in found.errors],
        lines=[
            LineAnswer(
                line=entry.number,
                person=entry.person.name,
                hospital=entry.hospital.name,
                starts=moment_words(entry.starts_at),
                ends=moment_words(entry.ends_at),
                known=entry.known,
            )
            for entry in found.entries
        ],
    )


def load_of(load: Load, locale: str) -> LoadAnswer:
    """How a hospital stands."""
    org = load.hospital
    return LoadAnswer(
        hospital=org.code,
        name=org.name_en if locale == "en" and org.name_en else org.name,
        waiting=load.waiting,
        held=load.held,
        review=load.review,
        overdue=load.overdue,
        behind=load.behind,
        is_behind=load.is_behind,
        routed=load.routed,
        share=load.share,
        on_duty=[name for name, _ends in load.duty],
        keeps_rota=load.keeps_rota,
    )


def move_of(session: Session, move: Move, locale: str, named: dict[str, str]) -> MoveAnswer:
    """A move that is proposed."""
    return MoveAnswer(
        exam_id=move.exam.id,
        accession=move.exam.accession,
        exam=exam_words(move.exam, locale),
        priority=move.exam.priority,
        due_at=move.exam.due_at,
        waiting_since=move.exam.queued_at,
        source=move.source,
        target=move.target,
        source_name=named.get(move.source, move.source),
        target_name=named.get(move.target, move.target) if move.target else "",
        why=[words.say(reason, locale, named) for reason in move.why],
    )


def alert_of(alert: Alert, locale: str) -> AlertAnswer:
    """A line of the list; no patient, an administrator reads it as well."""
    return AlertAnswer(
        id=alert.row.id,
        exam_id=alert.exam.id,
        accession=alert.exam.accession,
        level=alert.row.level,
        raised_at=alert.row.raised_at,
        due_at=alert.exam.due_at,
        hospital_id=alert.exam.reading_org_id,
        exam=exam_words(alert.exam, locale),
        priority=alert.exam.priority,
        mine=alert.mine,
    )
