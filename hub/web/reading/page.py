"""The reading page: OHIF beside the report."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from hub.audit import service as audit
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import require
from hub.reports import templates
from hub.web.pages import render
from hub.web.reading.panel import open_panel
from hub.web.reading.parts import panel_values

router = APIRouter(tags=["reading"], include_in_schema=False)

QueueViewer = Annotated[Actor, require("queue.view")]


def _values(request: Request, actor: Actor, exam_id: str) -> dict[str, Any]:
    with database().reading() as session:
        values = panel_values(open_panel(request, session, actor, exam_id))
    _viewed(actor, values["exam"])
    return values


def _viewed(actor: Actor, exam: Exam) -> None:
    with database().writing() as session:
        audit.record(session, actor, "exam.open", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id)


@router.get("/read/{exam_id}")
def read_page(request: Request, exam_id: str, actor: QueueViewer) -> Response:
    """The reading page: OHIF beside the report."""
    templates.ensure_seeded()
    return render(request, "reading/read.html", _values(request, actor, exam_id))


@router.get("/read/{exam_id}/panel")
def read_panel(request: Request, exam_id: str, actor: QueueViewer) -> Response:
    """The report's side of the reading page, for the next exam without loading the viewer again."""
    return render(request, "reading/_panel.html", _values(request, actor, exam_id))
