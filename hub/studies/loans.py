"""Images lent to one person for a time: who reads a signed exam again sees its images, and nothing else of it.

A loan makes the exam's studies known to its holder until it ends or is taken back; the exam, its report and the
reports that the hub put among the images stay unknown to him.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Select, String, delete, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.kit.db import Base
from hub.studies.models import ExamStudy


class ImageLoan(Base):
    """That `person_id` may see the images of an exam until a time."""

    __tablename__ = "image_loan"
    __table_args__ = (Index("ix_image_loan_person", "person_id", "until"),)

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    person_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    until: Mapped[datetime]


def lend(session: Session, exam_id: str, person_id: str, until: datetime) -> None:
    """Let a person see an exam's images until a time; lending again changes the time."""
    session.merge(ImageLoan(exam_id=exam_id, person_id=person_id, until=until))
    session.flush()


def take_back(session: Session, exam_id: str, person_id: str) -> None:
    """End a loan at once."""
    session.execute(delete(ImageLoan).where(ImageLoan.exam_id == exam_id, ImageLoan.person_id == person_id))


def lent(person_id: object, at: object) -> Select[str]:
    """Ids of the studies that are lent to a person at a time; both may be parameters."""
    return (
        select(ExamStudy.study_id)
        .join(ImageLoan, ImageLoan.exam_id == ExamStudy.exam_id)
        .where(ImageLoan.person_id == person_id, ImageLoan.until > at)
    )
