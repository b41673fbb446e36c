"""What reading tells routing: an exam was taken, or has a draft and stays."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.reading.routing.models import ExamRoute


def taken(session: Session, exam: Exam, hospital_id: str | None) -> None:
    """Somebody of `hospital_id` has claimed the exam: nobody else is asked for it."""
    session.execute(
        update(ExamRoute)
        .where(ExamRoute.exam_id == exam.id)
        .values(answer_by=None, taken_by=hospital_id, taken_at=clock.now())
        .execution_options(synchronize_session=False)
    )


def keep(session: Session, exam: Exam) -> None:
    """The hospital that holds the exam has begun a draft of its report: the exam stays there."""
    row = session.get(ExamRoute, exam.id, populate_existing=True)
    if row is None:
        row = ExamRoute(exam_id=exam.id, hospital_id=exam.reading_org_id, why=[], tried=[], offered=[])
        session.add(row)
    row.kept_by = exam.reading_org_id
    row.answer_by = None
    session.flush()


def is_kept(exam: Exam, row: ExamRoute | None) -> bool:
    """Whether the exam stays where it is: a hospital has a draft of its report."""
    return exam.author_id is not None or (row is not None and row.kept_by is not None)


def came_from_pool(session: Session, exam: Exam) -> bool | None:
    """Whether the exam was in the shared pool before it was taken; None where routing has not seen it."""
    row = session.get(ExamRoute, exam.id, populate_existing=True)
    if is_kept(exam, row):
        # Also where routing has not decided: the row is the draft's own.
        return False
    if row is None or row.decided_at is None:
        return None
    return row.hospital_id is None


def is_free(exam: Exam, row: ExamRoute | None) -> bool:
    """Whether the exam may be given to another hospital: it waits, nobody holds it, nobody has a draft."""
    return exam.state == State.TO_READ and exam.lease_person_id is None and not is_kept(exam, row)


def taken_from_pool(session: Session, since: datetime) -> dict[str, int]:
    """Hospital id → how many exams it took from the shared pool since then."""
    rows = session.execute(
        select(ExamRoute.taken_by, func.count())
        .where(ExamRoute.taken_at >= since, ExamRoute.hospital_id.is_(None), ExamRoute.taken_by.is_not(None))
        .group_by(ExamRoute.taken_by)
    )
    return {hospital: count for hospital, count in rows if hospital}


def window(hours: int) -> datetime:
    """Where a window of so many hours begins."""
    return clock.now() - timedelta(hours=hours)
