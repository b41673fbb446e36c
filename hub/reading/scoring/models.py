"""Tables of image scores."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default


class ImageScore(Base):
    """One judgement of an exam's images. A change is a new row; the former one stays, with `replaced_at`.

    `grade`: "A" 甲, "B" 乙, "C" 丙, "reject" 废. `artefact`: "none", "some", "bad" (counts in the national indicator).
    `reasons` are codes of hub.reading.scoring.catalogue. `examples`: `{instance_id, note}`, at most a few.
    """

    __tablename__ = "image_score"
    __table_args__ = (
        UniqueConstraint("exam_id", "number"),
        Index("ix_image_score_at", "at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    number: Mapped[int] = mapped_column(Integer, default=1)
    grade: Mapped[str] = mapped_column(String(6))
    reasons: Mapped[list[str]]
    artefact: Mapped[str] = mapped_column(String(4), default="none")
    examples: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    note: Mapped[str] = mapped_column(String(400), default="")
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    person_name: Mapped[str] = mapped_column(String(100), default="")
    org_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    source: Mapped[str] = mapped_column(String(8), default="reader")
    replaced_at: Mapped[datetime | None]
