"""JSON API of drawings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reports.drawings import service
from hub.reports.drawings.service import Changed, Clash, Kept, Removed

router = APIRouter(prefix="/api", tags=["reports"])

_Revision = Annotated[int, Field(ge=0, le=2**31 - 1)]


class ChangedBody(BaseModel):
    """A drawing that was made or changed."""

    revision: _Revision = Field(0, description="Of this drawing, as the window knows it; 0: it is new.")
    drawing: dict[str, Any] = Field(description="The viewer's own record.")


class RemovedBody(BaseModel):
    """A drawing that was taken off its image."""

    revision: _Revision = 0
    uid: str = Field(max_length=128)


class DrawingsBody(BaseModel):
    """What one window changed of the drawings on an exam's images."""

    lease: str = Field("", max_length=64, description="Token of the lease; empty for an addendum or correction.")
    window: str = Field("", max_length=40, description="A name that the window keeps for itself while it is open.")
    changed: list[ChangedBody] = Field([], max_length=service.MOST)
    removed: list[RemovedBody] = Field([], max_length=service.MOST)

    model_config = {"json_schema_extra": {"examples": [{"lease": "", "window": "w1", "changed": [], "removed": []}]}}


class ConflictRef(BaseModel):
    """A drawing that another window changed as well. Nothing of either is lost."""

    uid: str
    kind: Clash = Field(
        description="`both`: both forms are kept, this window's as `copy`; `kept`: not removed, for it was changed "
        "elsewhere; `back`: removed elsewhere, and there again."
    )
    copy_uid: str = Field(serialization_alias="copy")


class DrawingsAnswer(BaseModel):
    """The drawings that are kept."""

    revision: int = Field(description="How often they were saved; 0: never.")
    drawings: list[dict[str, Any]]
    revisions: dict[str, int] = Field(description="Of each drawing, by its annotationUID.")
    conflicts: list[ConflictRef] = []


def _answer(kept: Kept) -> DrawingsAnswer:
    return DrawingsAnswer(
        revision=kept.revision,
        drawings=[row.body for row in kept.drawings],
        revisions={row.uid: row.revision for row in kept.drawings},
        conflicts=[ConflictRef(uid=one.uid, kind=one.kind, copy_uid=one.copy) for one in kept.conflicts],
    )


@router.get("/exams/{exam_id}/drawings", summary="Drawings on an exam's images")
def drawings(exam_id: str, session: ReadDb, actor: Annotated[Actor, require("queue.view")]) -> DrawingsAnswer:
    """As the writers of the report left them."""
    return _answer(service.drawings_of(session, actor, exam_id))


@router.patch("/exams/{exam_id}/drawings", summary="Keep what was changed of the drawings on an exam's images")
def save_drawings(
    exam_id: str, body: DrawingsBody, session: WriteDb, actor: Annotated[Actor, require("report.write")]
) -> DrawingsAnswer:
    """Only by whoever writes the report at this moment. Changes from several windows are brought together.

    What another window has changed since is not written over: see `conflicts`.
    """
    kept = service.save(
        session,
        actor,
        exam_id,
        lease=body.lease,
        window=body.window,
        changed=[Changed(one.revision, one.drawing) for one in body.changed],
        removed=[Removed(one.revision, one.uid) for one in body.removed],
    )
    return _answer(kept)
