"""Tables of the archive: what machines sent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.exams.models import Exam
from hub.kit.db import Base, Id, code_points, id_default
from hub.patients.models import Patient
from hub.studies import keys

BigInt = BigInteger().with_variant(Integer, "sqlite")
_LIVE = text("trashed_at IS NULL")


NO_READERS, ALL_READERS, ASK_EXAMS = "", "*", "+"
"""Values of `Study.readers` that are no hospital's id."""


def _live(name: str, *columns: str) -> Index:
    """An index for searching, of what is not in the trash; that column too, so that SQLite need not look at the row."""
    return Index(name, *columns, sqlite_where=_LIVE, postgresql_where=_LIVE)


class Study(Base):
    """What a machine sent under one Study Instance UID (0020,000D). Text is repaired; the stored bytes are not."""

    __tablename__ = "study"
    __table_args__ = (
        # A search walks one of these in its order and stops at the page's end, however many studies there are.
        _live("ix_study_live_date", "study_date", "id", "trashed_at", "readers"),
        _live("ix_study_live_latin", "name_latin", "id", "trashed_at", "readers"),
        _live("ix_study_live_han", "name_han", "id", "trashed_at", "readers"),
        _live("ix_study_live_sound", "name_sound", "id", "trashed_at", "readers"),
        _live("ix_study_live_number", "patient_number", "id", "trashed_at", "readers"),
        _live("ix_study_live_org_date", "org_id", "study_date", "id", "trashed_at"),
        _live("ix_study_live_org_latin", "org_id", "name_latin", "id", "trashed_at"),
        _live("ix_study_live_org_han", "org_id", "name_han", "id", "trashed_at"),
        Index("ix_study_org_created", "org_id", "created_at"),
        Index(
            "ix_study_unpacked",
            "last_instance_at",
            sqlite_where=text("archived_revision < revision"),
            postgresql_where=text("archived_revision < revision"),
        ),
        Index(
            "ix_study_trashed_at",
            "trashed_at",
            sqlite_where=text("trashed_at IS NOT NULL"),
            postgresql_where=text("trashed_at IS NOT NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    study_date: Mapped[str] = mapped_column(String(8), default="")
    study_time: Mapped[str] = mapped_column(String(16), default="")
    accession: Mapped[str] = mapped_column(code_points(64), default="", index=True)
    study_id: Mapped[str] = mapped_column(String(64), default="")
    description: Mapped[str] = mapped_column(String(200), default="")
    referring: Mapped[str] = mapped_column(String(200), default="")
    modalities: Mapped[list[str]] = mapped_column(default=list)
    series_count: Mapped[int] = mapped_column(default=0)
    instance_count: Mapped[int] = mapped_column(default=0)
    total_bytes: Mapped[int] = mapped_column(BigInt, default=0)
    # The header's own identity, repaired, kept apart from the patient row for the verify page.
    header_patient: Mapped[dict[str, Any]] = mapped_column(default=dict)
    # What searches compare (hub.studies.keys).
    name_latin: Mapped[str] = mapped_column(code_points(200), default=keys.latin_default, server_default="")
    name_han: Mapped[str] = mapped_column(code_points(200), default=keys.han_default, server_default="")
    name_sound: Mapped[str] = mapped_column(code_points(200), default=keys.sound_default, server_default="")
    patient_number: Mapped[str] = mapped_column(code_points(64), default=keys.number_default, server_default="")
    # Which hospital's readers may know it by its exams: `NO_READERS`, `ALL_READERS`, the id of one hospital, or
    # `ASK_EXAMS`. Kept by the database itself (triggers of migration 0005) whenever a link or an exam changes.
    readers: Mapped[str] = mapped_column(String(26), default="", server_default="")
    charset: Mapped[str] = mapped_column(String(40), default="")
    text_flagged: Mapped[bool] = mapped_column(default=False)
    notes: Mapped[list[str]] = mapped_column(default=list)
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    revision: Mapped[int] = mapped_column(default=1)
    prepared_revision: Mapped[int] = mapped_column(default=0)
    # Up to which revision it was looked at whether originals can be recompressed (hub.studies.recompression).
    archived_revision: Mapped[int] = mapped_column(default=0, server_default="0")
    sheet_key: Mapped[str] = mapped_column(String(200), default="")
    preview_key: Mapped[str] = mapped_column(String(200), default="")
    complete_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    last_instance_at: Mapped[datetime]
    trashed_at: Mapped[datetime | None]
    trashed_by: Mapped[str] = mapped_column(String(26), default="", server_default="")
    trash_reason: Mapped[str] = mapped_column(Text, default="", server_default="")

    patient: Mapped[Patient] = relationship(lazy="joined")
    series: Mapped[list[Series]] = relationship(back_populates="study", order_by="Series.number")


class Series(Base):
    """One series (0020,000E) of a study."""

    __tablename__ = "series"
    __table_args__ = (Index("ix_series_modality_study", "modality", "study_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), index=True)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    modality: Mapped[str] = mapped_column(String(16), default="")
    number: Mapped[int | None]
    description: Mapped[str] = mapped_column(String(200), default="")
    body_part: Mapped[str] = mapped_column(String(64), default="")
    laterality: Mapped[str] = mapped_column(String(16), default="")
    series_date: Mapped[str] = mapped_column(String(8), default="")
    series_time: Mapped[str] = mapped_column(String(16), default="")
    station: Mapped[str] = mapped_column(String(64), default="")
    manufacturer: Mapped[str] = mapped_column(String(64), default="")
    # Performed procedure step and what was requested: [{"step": …, "procedure": …}] (hub.studies.keys.of_series).
    performed_date: Mapped[str] = mapped_column(String(8), default="", server_default="")
    performed_time: Mapped[str] = mapped_column(String(16), default="", server_default="")
    requests: Mapped[list[dict[str, Any]]] = mapped_column(default=list, server_default="[]")
    instance_count: Mapped[int] = mapped_column(default=0)
    frame_count: Mapped[int] = mapped_column(default=0)
    preview_key: Mapped[str] = mapped_column(String(200), default="")
    preview_note: Mapped[str] = mapped_column(String(400), default="")
    created_at: Mapped[datetime]

    study: Mapped[Study] = relationship(back_populates="series")


class Instance(Base):
    """One stored SOP instance. A location is (object key, offset, length), so that many may lie in one object.

    What lies there is the file as it was sent, or, where `original_syntax` is set, the file recompressed without
    loss: then `transfer_syntax`, `size`, `dataset_offset` and `frame_index` are the stored file's, `file_sha256`,
    `dataset_sha256` and `original_size` remain the sent one's, and `recipe_offset` and `recipe_size` say where in the
    same object lies what rebuilds it byte for byte. Read through `hub.studies.stored` only.
    """

    __tablename__ = "instance"
    __table_args__ = (Index("ix_instance_series_number", "series_id", "number"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    uid: Mapped[str] = mapped_column(String(64), unique=True)
    series_id: Mapped[str] = mapped_column(ForeignKey("series.id"))
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    sop_class: Mapped[str] = mapped_column(String(64))
    transfer_syntax: Mapped[str] = mapped_column(String(64))
    number: Mapped[int | None]
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    frames: Mapped[int] = mapped_column(default=0)
    has_pixels: Mapped[bool] = mapped_column(default=False)
    object_key: Mapped[str] = mapped_column(String(200), index=True)
    object_offset: Mapped[int] = mapped_column(BigInt, default=0)
    size: Mapped[int] = mapped_column(BigInt)
    dataset_offset: Mapped[int] = mapped_column(default=0)
    file_sha256: Mapped[str] = mapped_column(String(64), index=True)
    # Only where the header's row has no head of the file: see hub.studies.sameness.
    dataset_sha256: Mapped[str] = mapped_column(String(64), default="")
    original_syntax: Mapped[str] = mapped_column(String(64), default="", server_default="")
    original_size: Mapped[int] = mapped_column(BigInt, default=0, server_default="0")
    recipe_offset: Mapped[int] = mapped_column(BigInt, default=0, server_default="0")
    recipe_size: Mapped[int] = mapped_column(default=0, server_default="0")
    stored_sha256: Mapped[str] = mapped_column(String(64), default="", server_default="")
    # Why the original stays as it came, in one word; "" where that was not decided.
    kept_reason: Mapped[str] = mapped_column(String(40), default="", server_default="")
    frame_index: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    notes: Mapped[list[str]] = mapped_column(default=list)
    preview_key: Mapped[str] = mapped_column(String(200), default="")
    preview_note: Mapped[str] = mapped_column(String(400), default="")
    made_by_hub: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class InstanceHeader(Base):
    """The instance's header as DICOM JSON (PS3.18 Annex F), repaired to UTF-8 and compressed; bulk data by URI.

    `file_head` is what stood before the data set in the file as it was sent (hub.studies.sameness).
    """

    __tablename__ = "instance_header"

    instance_id: Mapped[str] = mapped_column(ForeignKey("instance.id"), primary_key=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    file_head: Mapped[bytes | None] = mapped_column(LargeBinary)


class SeriesMetadata(Base):
    """The DICOM JSON of all instances of a series, made ready and compressed (hub.studies.metadata).

    `revision` is the series' instance count when it was made: it is served only while that is still the count.
    """

    __tablename__ = "series_metadata"

    series_id: Mapped[str] = mapped_column(ForeignKey("series.id", ondelete="CASCADE"), primary_key=True)
    revision: Mapped[int]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[datetime]


class RetiredObject(Base):
    """A stored object whose instances were moved to another; deleted after a grace time, when no row names it."""

    __tablename__ = "retired_object"

    object_key: Mapped[str] = mapped_column(String(200), primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)


class Scrubbing(Base):
    """How far the workers have come in reading all originals again: one row."""

    __tablename__ = "scrubbing"

    id: Mapped[int] = mapped_column(primary_key=True)
    last_id: Mapped[str] = mapped_column(String(26), default="")
    begun_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]  # of the last round that came to the end


class ExamStudy(Base):
    """Exam and study are many-to-many."""

    __tablename__ = "exam_study"
    # Whether a reader may know a study is asked for every study that a search walks past: by this index alone.
    __table_args__ = (Index("ix_exam_study_study_exam", "study_id", "exam_id"),)

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    study_id: Mapped[str] = mapped_column(ForeignKey("study.id"), primary_key=True)
    linked_at: Mapped[datetime]
    linked_by: Mapped[str] = mapped_column(String(26))

    exam: Mapped[Exam] = relationship()
    study: Mapped[Study] = relationship()


class Quarantined(Base):
    """Bytes that came and were refused: kept, bounded, shown to the quality officer.

    `decision` is "", "released" (went in after all) or "discarded".
    """

    __tablename__ = "quarantined"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    at: Mapped[datetime] = mapped_column(index=True)
    source: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(300), default="")
    code: Mapped[str] = mapped_column(String(40))
    reason: Mapped[str] = mapped_column(Text)
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    object_key: Mapped[str] = mapped_column(String(200), default="")
    size: Mapped[int] = mapped_column(BigInt)
    sha256: Mapped[str] = mapped_column(String(64))
    study_uid: Mapped[str] = mapped_column(String(64), default="")
    sop_uid: Mapped[str] = mapped_column(String(64), default="")
    exam_id: Mapped[str | None] = mapped_column(String(26))
    decision: Mapped[str] = mapped_column(String(12), default="")
    decided_by: Mapped[str | None] = mapped_column(String(26))
    decided_at: Mapped[datetime | None]


class UploadBatch(Base):
    """One dropped folder: what the clinic says it sends, for one exam or for none yet."""

    __tablename__ = "upload_batch"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    person_id: Mapped[str] = mapped_column(String(26))
    exam_id: Mapped[str | None] = mapped_column(ForeignKey("exam.id"), index=True)
    declared_files: Mapped[int] = mapped_column(default=0)
    declared_bytes: Mapped[int] = mapped_column(BigInt, default=0)
    state: Mapped[str] = mapped_column(String(12), default="open")  # open, closed, short (closed with a shortfall)
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class UploadFile(Base):
    """One file of a batch: a tus upload resource (its id is the last part of the tus URL).

    `state`: receiving → received → stored | known | refused | expanded (a ZIP whose members are rows of their own)
    | ignored (DICOMDIR and the like, said in `reason`).
    """

    __tablename__ = "upload_file"
    __table_args__ = (UniqueConstraint("batch_id", "path"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    batch_id: Mapped[str] = mapped_column(ForeignKey("upload_batch.id"), index=True)
    parent_id: Mapped[str | None] = mapped_column(String(26), index=True)
    path: Mapped[str] = mapped_column(String(500))
    size: Mapped[int] = mapped_column(BigInt)
    offset: Mapped[int] = mapped_column(BigInt, default=0)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(10), default="receiving")
    code: Mapped[str] = mapped_column(String(40), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    study_uid: Mapped[str] = mapped_column(String(64), default="")
    sop_uid: Mapped[str] = mapped_column(String(64), default="")
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
