"""Tables of drawings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base


class ExamDrawings(Base):
    """How often the drawings on an exam's images were saved, and by whom last; the row that is locked for it."""

    __tablename__ = "exam_drawings"

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    revision: Mapped[int]
    saved_at: Mapped[datetime]
    saved_by: Mapped[str] = mapped_column(String(26))


class ExamDrawing(Base):
    """One drawing: the viewer's own record, as its last writer gave it.

    `revision` is that of the save that changed it; a page that changes or removes it names the one that it knows.
    `saved_in` is the window that saved it. A removed one keeps its last record for a while.
    """

    __tablename__ = "exam_drawing"

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    uid: Mapped[str] = mapped_column(String(128), primary_key=True)
    place: Mapped[int]
    revision: Mapped[int]
    body: Mapped[dict[str, Any]]
    removed: Mapped[bool] = mapped_column(default=False)
    saved_in: Mapped[str] = mapped_column(String(40), default="")
    saved_at: Mapped[datetime]
    saved_by: Mapped[str] = mapped_column(String(26))
