"""Tables of the county patient index."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, code_points, id_default


class CountyPatient(Base):
    """One human being as the county knows him. `number` is what other organisations see as PatientID."""

    __tablename__ = "county_patient"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    number: Mapped[str] = mapped_column(String(32), unique=True)
    created_at: Mapped[datetime]


class Patient(Base):
    """A patient as one organisation knows him: the key is (organisation, PatientID), never PatientID alone.

    `number` is the organisation's own (PatientID); the hub gives one where the clinic has none. `identity_number`
    is the 18-digit number, checked and normalised, or empty. `county_patient_id` follows from the linked pairs
    (hub.patients.links), `home_county_id` is the one that he had when he was linked with nobody; None: the present one.
    """

    __tablename__ = "patient"
    __table_args__ = (
        UniqueConstraint("org_id", "number"),
        Index("ix_patient_pinyin", "pinyin"),
        Index("ix_patient_initials", "initials"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    county_patient_id: Mapped[str] = mapped_column(ForeignKey("county_patient.id"), index=True)
    home_county_id: Mapped[str | None] = mapped_column(Id)
    number: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(code_points(200), index=True)
    pinyin: Mapped[str] = mapped_column(code_points(400), default="")
    initials: Mapped[str] = mapped_column(String(60), default="")
    sex: Mapped[str] = mapped_column(String(1), default="")
    birth_date: Mapped[date | None]
    birth_estimated: Mapped[bool] = mapped_column(default=False)
    identity_number: Mapped[str] = mapped_column(String(18), default="", index=True)
    phone: Mapped[str] = mapped_column(String(40), default="")
    from_header: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class PatientPair(Base):
    """What the county holds of two patients: one row for each pair of which anything was ever said.

    `one_id` is the smaller of the two ids. States are written by hub.patients.links alone; who stands under one county
    patient follows from the pairs that are "linked". `basis` says on what the present state rests: "number" (the same
    identity number), "name" (name and birth date), "person" (somebody decided).
    """

    __tablename__ = "patient_pair"
    __table_args__ = (
        UniqueConstraint("one_id", "two_id"),
        Index("ix_patient_pair_state", "state", "changed_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    one_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    two_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    state: Mapped[str] = mapped_column(String(10), default="none")
    basis: Mapped[str] = mapped_column(String(10), default="")
    version: Mapped[int] = mapped_column(Integer, default=1)
    reason: Mapped[str] = mapped_column(String(400), default="")
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(26), default="")
    changed_by_name: Mapped[str] = mapped_column(String(100), default="")


class PatientPairEvent(Base):
    """One change of a pair. `sides` is what both sides said at that moment: what the decision was made upon."""

    __tablename__ = "patient_pair_event"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("patient_pair.id"), index=True)
    at: Mapped[datetime]
    event: Mapped[str] = mapped_column(String(12))
    from_state: Mapped[str] = mapped_column(String(10))
    to_state: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[str] = mapped_column(String(26))
    actor_name: Mapped[str] = mapped_column(String(100), default="")
    reason: Mapped[str] = mapped_column(String(400), default="")
    sides: Mapped[list[dict[str, Any]]] = mapped_column(default=list)


class PatientCorrection(Base):
    """Something typed wrong in a patient's identity that was put right; both values are kept."""

    __tablename__ = "patient_correction"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    patient_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    at: Mapped[datetime]
    actor_id: Mapped[str] = mapped_column(String(26))
    actor_name: Mapped[str] = mapped_column(String(100), default="")
    reason: Mapped[str] = mapped_column(String(400))
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
