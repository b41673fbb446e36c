"""JSON API of hub.reading."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import LOCALE_COOKIE, pick_locale
from hub.reading import service
from hub.reading.repository import QueueFilters
from hub.reading.schemas import (
    HeartbeatBody,
    LeaseAnswer,
    LeaseBody,
    LeaseStatusAnswer,
    NextAnswer,
    QueueAnswer,
    StateAnswer,
    TakeOverBody,
    lease_of,
    row_of,
    status_of,
)

router = APIRouter(prefix="/api", tags=["reading"])

Reader = Annotated[Actor, require("report.write")]


@router.get("/queue", summary="The reading queue")
def get_queue(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require("queue.view")],
    state: Annotated[list[State] | None, Query()] = None,
    clinic: str = "",
    modality: str = "",
    priority: str = "",
    q: Annotated[str, Query(description="王, wangwei, ww, an accession or patient number", max_length=60)] = "",
    mine: bool = False,
    overdue: bool = False,
    hospital: Annotated[str, Query(description="A reading hospital's id, or `pool`.", max_length=26)] = "",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 60,
) -> QueueAnswer:
    """Exams that wait, in reading order: emergencies, overdue, urgent, routine; nearest limit first."""
    filters = QueueFilters(
        states=tuple(state or ()),
        clinic_id=clinic,
        modality=modality,
        priority=priority,
        text=q,
        mine=mine,
        overdue=overdue,
        hospital=hospital,
    )
    found = service.queue(session, actor, filters, after=after, limit=limit)
    names = service.holder_names(session, found.exams)
    locale = pick_locale(request.cookies.get(LOCALE_COOKIE))
    return QueueAnswer(
        exams=[row_of(exam, names, actor, locale) for exam in found.exams],
        after=found.after,
        counts=found.counts,
        now=clock.now(),
    )


@router.post("/exams/{exam_id}/claim", summary="Take an exam for reading or review")
def claim(exam_id: str, session: WriteDb, actor: Reader) -> LeaseAnswer:
    """Of two who ask at once one gets it; the other is told who (409 `exam-held`). The holder gets his lease again."""
    return lease_of(service.claim(session, actor, exam_id))


@router.post("/exams/{exam_id}/lease", summary="Keep the lease of an open page")
def heartbeat(
    exam_id: str,
    body: HeartbeatBody,
    session: WriteDb,
    actor: Annotated[Actor, require("report.write", passive=True)],
) -> LeaseStatusAnswer:
    """Extends the lease; `held` false means that it is lost. Does not extend the login session."""
    return status_of(service.heartbeat(session, actor, exam_id, body.lease, active=body.active))


@router.post("/exams/{exam_id}/release", summary="Give an exam back to the queue")
def release(exam_id: str, body: LeaseBody, session: WriteDb, actor: Reader) -> StateAnswer:
    """The draft stays."""
    exam = service.release(session, actor, exam_id, body.lease)
    return StateAnswer(exam_id=exam.id, state=State(exam.state))


@router.post("/exams/{exam_id}/take-over", summary="Take an exam from whoever holds it")
def take_over(
    exam_id: str,
    body: TakeOverBody,
    session: WriteDb,
    actor: Annotated[Actor, require("report.write", "lease.break")],
) -> NextAnswer:
    """A director at any time, others after the lease has run out. A director who does not read gives it back."""
    lease = service.take_over(session, actor, exam_id, body.reason)
    return NextAnswer(next=lease_of(lease) if lease else None)


@router.post("/exams/{exam_id}/late-images-seen", summary="The late images have been looked at")
def late_images_seen(exam_id: str, body: LeaseBody, session: WriteDb, actor: Reader) -> StateAnswer:
    """Takes the mark off the exam."""
    exam = service.see_late_images(session, actor, exam_id, body.lease)
    return StateAnswer(exam_id=exam.id, state=State(exam.state))
