"""Tables of mutual recognition."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default


class Recognition(Base):
    """A registered exam for which the county already had one of the same kind, and what the clinic decided.

    While `state` is "offered" and `expires_at` has not come, the clinic may look at the images and signed reports of
    `found`; after "reused", of `chosen_id` until `access_until`. `item` is the kind by the county's table at that time.
    """

    __tablename__ = "recognition"
    __table_args__ = (
        Index("ix_recognition_org_offered", "org_id", "offered_at"),
        Index("ix_recognition_state", "state", "expires_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), unique=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    patient_id: Mapped[str] = mapped_column(ForeignKey("patient.id"), index=True)
    item: Mapped[str] = mapped_column(String(200))
    found: Mapped[list[str]]
    state: Mapped[str] = mapped_column(String(10), default="offered")
    version: Mapped[int] = mapped_column(Integer, default=1)
    offered_at: Mapped[datetime]
    offered_to: Mapped[str] = mapped_column(String(26))
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str] = mapped_column(String(26), default="")
    decided_by_name: Mapped[str] = mapped_column(String(100), default="")
    chosen_id: Mapped[str | None] = mapped_column(ForeignKey("exam.id"), index=True)
    access_until: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(String(20), default="")
    reason_text: Mapped[str] = mapped_column(String(400), default="")


class EvaluatedItem(Base):
    """An item of an organisation that passed quality evaluation: its exams carry the mark, scope + HR.

    `scope` is "national", "province" or "county". Rows are ended, never removed: the mark of an old report stays true.
    """

    __tablename__ = "evaluated_item"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    item: Mapped[str] = mapped_column(String(40))
    scope: Mapped[str] = mapped_column(String(10))
    evidence: Mapped[str] = mapped_column(String(200), default="")
    valid_from: Mapped[date]
    valid_until: Mapped[date | None]
    noted_at: Mapped[datetime]
    noted_by: Mapped[str] = mapped_column(String(26))
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str] = mapped_column(String(26), default="")
