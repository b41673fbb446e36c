"""Table of drawings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base


class ExamDrawings(Base):
    """The drawings on an exam's images as its last writer left them: the viewer's own records, as it gave them."""

    __tablename__ = "exam_drawings"

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    body: Mapped[list[dict[str, Any]]]
    revision: Mapped[int]
    saved_at: Mapped[datetime]
    saved_by: Mapped[str] = mapped_column(String(26))
