"""JSON API of image scores."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.accounts.roles import Permission as P
from hub.exams import repository as exams
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.reading.scoring import service
from hub.reading.scoring.schemas import ScoreBody, ScoresOut, score_out

router = APIRouter(prefix="/api", tags=["image scores"])


def answer(session: Session, actor: Actor, exam_id: str) -> ScoresOut:
    """The judgements of an exam that the actor was already allowed."""
    named = actor.has(Role.REPORTER, Role.REVIEWER, *COUNTY_WIDE_ROLES)
    rows = [score_out(row, named=named) for row in service.history(session, exam_id)]
    current = next((row for row in rows if row.replaced_at is None), None)
    return ScoresOut(current=current, history=rows, retake_suggested=current is not None and current.grade == "reject")


@router.get("/exams/{exam_id}/image-score", summary="How an exam's images were judged")
def get_score(exam_id: str, actor: Annotated[Actor, require(P.SCORE_GIVE, P.SCORE_OWN)], session: ReadDb) -> ScoresOut:
    """Readers and overseers see who judged; a clinic sees what was wrong with its own."""
    return answer(session, actor, exams.get(session, actor, exam_id).id)


@router.put("/exams/{exam_id}/image-score", summary="Judge an exam's images")
def put_score(
    exam_id: str, body: ScoreBody, actor: Annotated[Actor, require(P.SCORE_GIVE)], session: WriteDb
) -> ScoresOut:
    """A judgement of before is replaced and kept. 409 `changed-meanwhile` where `number` is not the one that stands."""
    service.score(
        session,
        actor,
        exam_id,
        grade=body.grade,
        reasons=body.reasons,
        artefact=body.artefact,
        examples=[one.model_dump() for one in body.examples],
        note=body.note,
        number=body.number,
    )
    return answer(session, actor, exam_id)
