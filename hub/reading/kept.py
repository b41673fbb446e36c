"""Exams that are kept for a reader for a while: the clinic has answered what he asked.

Others see the exam and may open it by hand; "next for me" leaves it to him until his time is over.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, ForeignKey, String, delete, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import Base


class KeptExam(Base):
    """Who asked about an exam. `until` is empty while the clinic owes the answer, then the end of his first right."""

    __tablename__ = "kept_exam"

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    person_id: Mapped[str] = mapped_column(String(26), index=True)
    since: Mapped[datetime]
    until: Mapped[datetime | None]


def keep(session: Session, exam: Exam, person_id: str) -> None:
    """Remember who asked about the exam. The exam must be locked."""
    row = session.get(KeptExam, exam.id, populate_existing=True)
    if row is None:
        session.add(KeptExam(exam_id=exam.id, person_id=person_id, since=clock.now(), until=None))
    else:
        row.person_id, row.since, row.until = person_id, clock.now(), None
    session.flush()


def answered(session: Session, exam: Exam, minutes: int) -> str | None:
    """Give who asked `minutes` before anybody else; returns who that is. The exam must be locked."""
    row = session.get(KeptExam, exam.id, populate_existing=True)
    if row is None:
        return None
    row.until = clock.now() + timedelta(minutes=minutes)
    session.flush()
    return row.person_id


def drop(session: Session, exam_id: str) -> None:
    """Nobody has a first right to the exam any more."""
    session.execute(
        delete(KeptExam).where(KeptExam.exam_id == exam_id).execution_options(synchronize_session=False)
    )  # fmt: skip


def is_kept(session: Session, exam_id: str) -> bool:
    """Whether somebody has the first right to the exam now."""
    row = session.get(KeptExam, exam_id, populate_existing=True)
    return row is not None and row.until is not None and row.until > clock.now()


def by_others(session: Session, actor: Actor) -> frozenset[str]:
    """Ids of the exams that are kept for somebody else now."""
    now = clock.now()
    return frozenset(
        session.scalars(select(KeptExam.exam_id).where(KeptExam.person_id != actor.id, KeptExam.until > now))
    )


def mine(actor: Actor) -> ColumnElement[bool]:
    """The condition that the exam waits for an answer to `actor`, or has come back to him first."""
    rows = select(KeptExam.exam_id).where(
        KeptExam.person_id == actor.id, or_(KeptExam.until.is_(None), KeptExam.until > clock.now())
    )
    return Exam.id.in_(rows)


def first_for(session: Session, actor: Actor) -> list[str]:
    """Ids of the exams that came back to `actor` first, the earliest answered first."""
    return list(
        session.scalars(
            select(KeptExam.exam_id)
            .where(KeptExam.person_id == actor.id, KeptExam.until > clock.now())
            .order_by(KeptExam.until)
            .limit(20)
        )
    )
