"""JSON API of "next for me": the queue, with what came back to its author and corrections to review before it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reading.repository import QueueFilters
from hub.reading.schemas import AheadAnswer, NextAnswer, NextBody, lease_of
from hub.reports import returned
from hub.studies import repository as studies

router = APIRouter(prefix="/api", tags=["reading"])


def _filters(body: NextBody) -> QueueFilters:
    return QueueFilters(
        states=tuple(body.state),
        clinic_id=body.clinic,
        modality=body.modality,
        priority=body.priority,
        text=body.q,
        mine=body.mine,
        overdue=body.overdue,
    )


@router.post("/queue/next", summary="Take the most urgent exam that I may read")
def take_next(body: NextBody, session: WriteDb, actor: Annotated[Actor, require("report.write")]) -> NextAnswer:
    """Claims it; `next` is null where nothing waits.

    My own rejected reports and open corrections come first, behind emergencies only, and after them corrections of
    others that wait for my review. A correction is answered with an empty `lease`: it is written without one.
    """
    lease = returned.next_for(session, actor, _filters(body), without=body.without, review=body.review)
    return NextAnswer(next=lease_of(lease) if lease else None)


@router.post("/queue/ahead", summary="The exam that would be next, without taking it")
def ahead(
    body: NextBody, session: ReadDb, actor: Annotated[Actor, require("report.write", passive=True)]
) -> AheadAnswer:
    """Asked by the reading page itself, which fetches its images while the doctor writes; keeps no session awake."""
    exam = returned.upcoming(session, actor, _filters(body), without=body.without, review=body.review)
    if exam is None:
        return AheadAnswer()
    return AheadAnswer(exam_id=exam.id, studies=[study.uid for study in studies.of_exam(session, exam.id)])
