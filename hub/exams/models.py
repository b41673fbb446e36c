"""Tables of exams."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.kit.db import Base, Id, id_default
from hub.patients.models import Patient
from hub.sites.models import Organisation

_OPEN = text("state NOT IN ('cancelled', 'retake', 'returned', 'seen', 'signed', 'void')")
_OPEN_IDENTITY = text("identity = 'open'")
_LATE = text("late_images_at IS NOT NULL")
_TALKED = text("thread_last IS NOT NULL")


class Exam(Base):
    """What a clinic asks for. States are written by hub.exams.service alone.

    Clocks: `exam_at` is when the machine exposed (or, where that clock cannot be right, registration or first
    arrival: `exam_at_source` says which); `received_at` fully received; `signed_at`; `seen_at`. The others stamp
    the steps between.

    `modality` is the requested one ("CT", "DX"); `body_parts` codes of hub.exams.catalogue.
    `stated_*` keep what was typed at registration apart from the patient row.
    `identity` is "ok", "noted" (agreement by pinyin or age, see `identity_notes`), "open" (disagrees: both sides in
    `identity_notes`) or "verified". An emergency enters the queue with "open"; its formal signature waits.
    `paused_at` is set while the readers' clock stands still (ExamPause): nobody is late by time that the clinic takes.
    `thread_last` is the id of the last line that both sides may read, written with it (hub.reading.conversation): the
    latest threads of a clinic or hospital are found without reading them all.
    """

    __tablename__ = "exam"
    __table_args__ = (
        Index("ix_exam_queue", "state", "reading_org_id", "priority_rank", "due_at"),
        # With the id: in the order of a list, and enough to tell which exams are of a time without their wide rows.
        Index("ix_exam_org_registered", "org_id", "registered_at", "id"),
        Index("ix_exam_registered", "registered_at", "id"),
        Index("ix_exam_signed", "signed_at", "id"),
        Index("ix_exam_returned", "returned_at", "id"),
        Index("ix_exam_org_returned", "org_id", "returned_at", "id"),
        # The rows of hub.exams.repository.is_open().
        Index("ix_exam_open", "org_id", "state", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_exam_open_reading", "reading_org_id", "state", "due_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
        # What a clinic still has to do something about, beside years of exams that are done.
        Index("ix_exam_org_state", "org_id", "state", "registered_at"),
        Index("ix_exam_identity_open", "state", "org_id", sqlite_where=_OPEN_IDENTITY, postgresql_where=_OPEN_IDENTITY),
        Index("ix_exam_late_images", "reading_org_id", "late_images_at", sqlite_where=_LATE, postgresql_where=_LATE),
        Index("ix_exam_thread", "thread_last", sqlite_where=_TALKED, postgresql_where=_TALKED),
        Index("ix_exam_thread_org", "org_id", "thread_last", sqlite_where=_TALKED, postgresql_where=_TALKED),
        Index(
            "ix_exam_thread_reading", "reading_org_id", "thread_last", sqlite_where=_TALKED, postgresql_where=_TALKED
        ),
        # What visibility asks of an exam, without its wide row; and whose exams a hospital may see at all.
        Index("ix_exam_seen", "id", "state", "reading_org_id", "patient_id"),
        Index("ix_exam_reading_org", "reading_org_id", "id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    accession: Mapped[str] = mapped_column(String(16), unique=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    reading_org_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    state: Mapped[str] = mapped_column(String(20), index=True)
    version: Mapped[int] = mapped_column(Integer, default=1)

    modality: Mapped[str] = mapped_column(String(4))
    body_parts: Mapped[list[str]]
    procedure: Mapped[str] = mapped_column(String(200), default="")
    priority: Mapped[str] = mapped_column(String(10), default="routine")
    priority_rank: Mapped[int] = mapped_column(Integer, default=2)
    encounter: Mapped[str] = mapped_column(String(12), default="outpatient")
    encounter_number: Mapped[str] = mapped_column(String(40), default="")
    bed: Mapped[str] = mapped_column(String(20), default="")
    department: Mapped[str] = mapped_column(String(60), default="")
    doctor: Mapped[str] = mapped_column(String(60), default="")
    doctor_phone: Mapped[str] = mapped_column(String(40), default="")
    history: Mapped[str] = mapped_column(Text, default="")
    pregnancy: Mapped[str] = mapped_column(String(10), default="")
    incomplete: Mapped[list[str]] = mapped_column(default=list)
    stated_age: Mapped[str] = mapped_column(String(10), default="")
    stated_birth_date: Mapped[date | None]
    source: Mapped[str] = mapped_column(String(12), default="web")

    identity: Mapped[str] = mapped_column(String(10), default="ok")
    identity_notes: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    declared_count: Mapped[int | None]
    received_count: Mapped[int] = mapped_column(default=0)
    late_images_at: Mapped[datetime | None]
    alerted_at: Mapped[datetime | None]
    sheet_key: Mapped[str] = mapped_column(String(200), default="")

    registered_by: Mapped[str] = mapped_column(String(26), default="")
    registered_at: Mapped[datetime]
    exam_at: Mapped[datetime | None]
    exam_at_source: Mapped[str] = mapped_column(String(12), default="")
    first_image_at: Mapped[datetime | None]
    received_at: Mapped[datetime | None]
    verify_since: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    queued_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    reading_at: Mapped[datetime | None]
    submitted_at: Mapped[datetime | None]
    reviewing_at: Mapped[datetime | None]
    rejected_at: Mapped[datetime | None]
    preliminary_at: Mapped[datetime | None]
    history_requested_at: Mapped[datetime | None]
    history_answered_at: Mapped[datetime | None]
    consultation_at: Mapped[datetime | None]
    signed_at: Mapped[datetime | None]
    returned_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    author_id: Mapped[str | None] = mapped_column(String(26), index=True)
    reviewer_id: Mapped[str | None] = mapped_column(String(26), index=True)
    lease_person_id: Mapped[str | None] = mapped_column(String(26))
    lease_token: Mapped[str | None] = mapped_column(String(26))
    lease_until: Mapped[datetime | None] = mapped_column(index=True)
    positive: Mapped[bool | None]
    critical: Mapped[bool] = mapped_column(default=False)
    retake_of_id: Mapped[str | None] = mapped_column(String(26))
    end_reason: Mapped[str] = mapped_column(String(400), default="")
    paused_at: Mapped[datetime | None]
    thread_last: Mapped[str | None] = mapped_column(Id)

    patient: Mapped[Patient] = relationship(lazy="joined")
    org: Mapped[Organisation] = relationship(foreign_keys=[org_id], lazy="joined")
    reading_org: Mapped[Organisation | None] = relationship(foreign_keys=[reading_org_id], lazy="joined")


class Transition(Base):
    """One change of state: the clock of everything that is measured."""

    __tablename__ = "exam_transition"
    __table_args__ = (
        # Few exams are ever amended; whoever measures must find them without reading the whole log.
        Index(
            "ix_exam_transition_amended",
            "exam_id",
            sqlite_where=text("event = 'amend'"),
            postgresql_where=text("event = 'amend'"),
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    at: Mapped[datetime] = mapped_column(index=True)
    event: Mapped[str] = mapped_column(String(24))
    from_state: Mapped[str] = mapped_column(String(20))
    to_state: Mapped[str] = mapped_column(String(20))
    actor_id: Mapped[str] = mapped_column(String(26))
    actor_name: Mapped[str] = mapped_column(String(100), default="")
    reason: Mapped[str] = mapped_column(String(400), default="")


class ExamPause(Base):
    """Time in which the readers' clock stood still, because the clinic had been asked: off the limit, never hidden.

    `why` is "history" or "retake". `ended_at` is empty while it lasts.
    """

    __tablename__ = "exam_pause"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    why: Mapped[str] = mapped_column(String(10))
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
