"""JSON API of drawings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reports.drawings import service
from hub.reports.drawings.models import ExamDrawings

router = APIRouter(prefix="/api", tags=["reports"])


class DrawingsBody(BaseModel):
    """All drawings on the images of an exam."""

    lease: str = Field("", max_length=64, description="Token of the lease; empty for an addendum or correction.")
    drawings: list[dict[str, Any]] = Field(max_length=service.MOST, description="The viewer's own records.")

    model_config = {"json_schema_extra": {"examples": [{"lease": "", "drawings": []}]}}


class DrawingsAnswer(BaseModel):
    """The drawings that are kept."""

    revision: int = Field(description="How often they were saved; 0: never.")
    drawings: list[dict[str, Any]]


def _answer(kept: ExamDrawings | None) -> DrawingsAnswer:
    return DrawingsAnswer(revision=kept.revision if kept else 0, drawings=kept.body if kept else [])


@router.get("/exams/{exam_id}/drawings", summary="Drawings on an exam's images")
def drawings(exam_id: str, session: ReadDb, actor: Annotated[Actor, require("queue.view")]) -> DrawingsAnswer:
    """As the last writer of the report left them."""
    return _answer(service.drawings_of(session, actor, exam_id))


@router.put("/exams/{exam_id}/drawings", summary="Keep the drawings on an exam's images")
def save_drawings(
    exam_id: str, body: DrawingsBody, session: WriteDb, actor: Annotated[Actor, require("report.write")]
) -> DrawingsAnswer:
    """All of them, in the place of those before; only by whoever writes the report at this moment."""
    return _answer(service.save(session, actor, exam_id, lease=body.lease, drawings=body.drawings))
