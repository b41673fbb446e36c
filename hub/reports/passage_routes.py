"""JSON API of the passages that a reviewer marked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reports import passages

router = APIRouter(prefix="/api/reports", tags=["reports"])

Writer = Annotated[Actor, require("report.write")]


class PassageAnswer(BaseModel):
    """A marked passage; `start` and `end` count characters of the text as it was rejected."""

    id: str
    field: str
    start: int
    end: int
    quoted: str
    comment: str
    at: datetime
    person: str
    resolved_at: datetime | None
    resolved_by: str


class PassagesAnswer(BaseModel):
    """The passages of a version."""

    passages: list[PassageAnswer]


def passage_of(row: passages.ReviewPassage) -> PassageAnswer:
    """A passage by its row."""
    return PassageAnswer(
        id=row.id,
        field=row.field,
        start=row.start,
        end=row.end,
        quoted=row.quoted,
        comment=row.comment,
        at=row.at,
        person=row.person_name,
        resolved_at=row.resolved_at,
        resolved_by=row.resolved_name,
    )


@router.get("/{version_id}/passages", summary="What the reviewer marked")
def get_passages(version_id: str, session: ReadDb, actor: Writer) -> PassagesAnswer:
    """All of them, resolved or not, in order."""
    return PassagesAnswer(passages=[passage_of(row) for row in passages.get(session, actor, version_id)])


@router.post("/passages/{passage_id}/resolve", summary="Tick a passage off")
def resolve(passage_id: str, session: WriteDb, actor: Writer) -> PassageAnswer:
    """Once; it stays visible with who did it."""
    return passage_of(passages.resolve(session, actor, passage_id))
