"""What the reading API takes and gives."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from hub.exams import limits
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.reading.service import Lease, LeaseStatus, lease_is_live, may_claim
from hub.reading.words import age_words, exam_words


class OrgRef(BaseModel):
    """An organisation by name."""

    id: str
    name: str
    name_en: str


class PatientRef(BaseModel):
    """As much of a patient as a queue needs."""

    name: str
    sex: str
    age: str
    number: str


class HolderRef(BaseModel):
    """Who holds an exam."""

    id: str
    name: str
    mine: bool
    until: datetime | None


class QueueRow(BaseModel):
    """One exam of the queue."""

    id: str
    accession: str
    state: State
    version: int
    priority: str
    since: datetime = Field(description="Fully received; the waiting time counts from here.")
    due_at: datetime | None
    paused_at: datetime | None = Field(description="Since when the readers' clock stands still.")
    overdue: bool
    clinic: OrgRef
    reading_org_id: str | None
    patient: PatientRef
    modality: str
    body_parts: list[str]
    exam: str = Field(examples=["CT 头颅"])
    author: str
    reviewer: str
    holder: HolderRef | None
    claimable: bool = Field(description="Whether opening it gives you its lease.")
    identity: str
    incomplete: list[str]
    late_images_at: datetime | None
    critical: bool


class QueueAnswer(BaseModel):
    """One page of the queue."""

    exams: list[QueueRow]
    after: str | None = Field(description="Give it as `after` to get the next page.")
    counts: dict[State, int] = Field(description="Exams by state, counted up to 200.")
    now: datetime


class LeaseAnswer(BaseModel):
    """A lease just taken; its token goes with every write."""

    exam_id: str
    lease: str = Field(description="Empty for an addendum or correction, which is written without one.")
    until: datetime | None
    state: State


class NextAnswer(BaseModel):
    """The next exam, or nothing where nothing waits."""

    next: LeaseAnswer | None


class HeartbeatBody(BaseModel):
    """A page that still shows its exam."""

    lease: str
    active: bool = Field(False, description="The reader did something since the last call.")


class LeaseStatusAnswer(BaseModel):
    """How a page's lease stands."""

    held: bool
    state: State
    until: datetime | None
    holder: str


class LeaseBody(BaseModel):
    """An act under a lease."""

    lease: str


class TakeOverBody(BaseModel):
    """Why somebody's exam is taken over."""

    reason: str


class NextBody(BaseModel):
    """Which exam would suit; the filters of the queue page."""

    state: list[State] = []
    clinic: str = ""
    modality: str = ""
    priority: str = ""
    q: str = ""
    mine: bool = False
    overdue: bool = False
    without: str = Field("", description="An exam that was just given back.")
    review: bool | None = Field(None, description="Only reviews (true), only reading (false), or both.")


class AheadAnswer(BaseModel):
    """The exam that would be next, for fetching its images ahead; nothing is claimed."""

    exam_id: str | None = None
    studies: list[str] = Field([], description="Study Instance UIDs.")


class StateAnswer(BaseModel):
    """The exam's state after an act."""

    exam_id: str
    state: State


def row_of(exam: Exam, names: dict[str, str], actor: Actor, locale: str) -> QueueRow:
    """An exam as a row of the queue."""
    now = clock.now()
    holder = None
    if lease_is_live(exam) and exam.lease_person_id:
        holder = HolderRef(
            id=exam.lease_person_id,
            name=names.get(exam.lease_person_id, ""),
            mine=exam.lease_person_id == actor.id,
            until=exam.lease_until,
        )
    return QueueRow(
        id=exam.id,
        accession=exam.accession,
        state=State(exam.state),
        version=exam.version,
        priority=exam.priority,
        since=exam.received_at or exam.queued_at or exam.registered_at,
        due_at=exam.due_at,
        paused_at=exam.paused_at,
        overdue=limits.is_overdue(exam, now),
        clinic=OrgRef(id=exam.org.id, name=exam.org.name, name_en=exam.org.name_en),
        reading_org_id=exam.reading_org_id,
        patient=PatientRef(
            name=exam.patient.name, sex=exam.patient.sex, age=age_words(exam, locale), number=exam.patient.number
        ),
        modality=exam.modality,
        body_parts=list(exam.body_parts),
        exam=exam_words(exam, locale),
        author=names.get(exam.author_id or "", ""),
        reviewer=names.get(exam.reviewer_id or "", ""),
        holder=holder,
        claimable=may_claim(exam, actor),
        identity=exam.identity,
        incomplete=list(exam.incomplete),
        late_images_at=exam.late_images_at,
        critical=exam.critical,
    )


def lease_of(lease: Lease) -> LeaseAnswer:
    """A lease for its holder's page."""
    return LeaseAnswer(exam_id=lease.exam.id, lease=lease.token, until=lease.until, state=State(lease.exam.state))


def status_of(status: LeaseStatus) -> LeaseStatusAnswer:
    """How a lease stands, for the page."""
    return LeaseStatusAnswer(held=status.held, state=status.state, until=status.until, holder=status.holder)
