"""JSON API of mutual recognition: for clinics and their systems, and the county's rules."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from sqlalchemy.orm import Session

from hub.accounts import throttle
from hub.accounts.roles import Permission as P
from hub.audit import service as audit
from hub.exams import repository as exams
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import TooMany
from hub.kit.i18n import LOCALE_COOKIE, pick_locale
from hub.reports.recognition import marks, rules, service
from hub.reports.recognition.models import Recognition
from hub.reports.recognition.schemas import (
    EvaluationBody,
    EvaluationOut,
    OfferAnswer,
    RecognitionOut,
    RepeatBody,
    ReuseBody,
    RulesBody,
    evaluation_out,
    recognition_out,
)

router = APIRouter(prefix="/api", tags=["mutual recognition"])

Viewer = Annotated[Actor, require(P.RECOGNITION_VIEW)]
Registrar = Annotated[Actor, require(P.EXAM_REGISTER)]
Keeper = Annotated[Actor, require(P.RECOGNITION_SETTINGS)]

MOST_MISTAKES = 5
"""Numbers typed under a name that the county knows otherwise, by one person within 15 minutes."""


def _shown(request: Request, session: Session, actor: Actor, row: Recognition) -> RecognitionOut:
    """An offer with its open exams; the look is noted."""
    found = service.show(session, actor, row)
    for one in found:
        service.note_look(session, actor, row, one.exam, "report")
    return recognition_out(row, found, pick_locale(request.cookies.get(LOCALE_COOKIE)))


def guarded(actor: Actor, exam_id: str) -> bool:
    """Whether an offer may be asked for: a number under another name, again and again, is no slip of the pen.

    Who is refused is told nothing: his answer is that of a patient of whom the county has nothing.
    """
    subject = f"recognition:{actor.id}"
    with database().reading() as session:
        exam = exams.get(session, actor, exam_id)
        wrong, much = service.mistaken(session, exam), service.too_many(session, actor)
        org_id, patient_id = exam.org_id, exam.patient_id
    if wrong:
        throttle.failed(subject)
    try:
        throttle.check(subject, limit=MOST_MISTAKES)
        refused = much
    except TooMany:
        refused = True
    if refused or wrong:
        with database().writing() as session:
            audit.record(
                session,
                actor,
                "recognition.refused" if refused else "recognition.mismatch",
                "exam",
                exam_id,
                org_id=org_id,
                patient_id=patient_id,
                purpose=service.PURPOSE,
            )
    return not refused


@router.post("/exams/{exam_id}/recognition", summary="Look whether a registered exam can be spared")
def ask(request: Request, exam_id: str, actor: Registrar) -> OfferAnswer:
    """To be asked after registering. Only for a patient whose identity is certain, and before images have come."""
    if not guarded(actor, exam_id):
        return OfferAnswer(recognition=None)
    with database().writing() as session:
        row = service.offer(session, actor, exam_id)
        return OfferAnswer(recognition=_shown(request, session, actor, row) if row is not None else None)


@router.get("/recognition/{recognition_id}", summary="An offer, its exams and reports while they are open")
def show(request: Request, recognition_id: str, actor: Viewer, session: WriteDb) -> RecognitionOut:
    """Each look is written to the audit log with its purpose."""
    return _shown(request, session, actor, service.get(session, actor, recognition_id))


@router.post("/recognition/{recognition_id}/reuse", summary="Use an exam that the county has")
def reuse(request: Request, recognition_id: str, body: ReuseBody, actor: Registrar, session: WriteDb) -> RecognitionOut:
    """The new exam is cancelled as recognised. Images and data are recognised, not the diagnostic conclusion."""
    return _shown(request, session, actor, service.reuse(session, actor, recognition_id, body.exam_id))


@router.post("/recognition/{recognition_id}/repeat", summary="Take images again, for a reason")
def repeat(
    request: Request, recognition_id: str, body: RepeatBody, actor: Registrar, session: WriteDb
) -> RecognitionOut:
    """The exams that could have been recognised are shut again."""
    row = service.repeat(session, actor, recognition_id, reason=body.reason, text=body.text)
    return _shown(request, session, actor, row)


# --- what the administrator keeps -------------------------------------------------------------------------------------


@router.get("/recognition-rules", summary="The county's rules of mutual recognition")
def get_rules(actor: Keeper, session: ReadDb) -> dict[str, Any]:
    """Kinds with their days, minutes to decide, days of access, names of marks."""
    return rules.to_json(rules.load(session))


@router.put("/recognition-rules", summary="Replace the county's rules of mutual recognition")
def put_rules(body: RulesBody, actor: Keeper, session: WriteDb) -> dict[str, Any]:
    """What was offered before keeps its own times."""
    return rules.to_json(rules.save(session, actor, body.model_dump()))


@router.get("/recognition-evaluations", summary="What organisations passed")
def list_evaluations(actor: Keeper, session: ReadDb, ended: bool = False) -> list[EvaluationOut]:
    """An exam carries the mark only for what the organisation that took the images had passed on that day."""
    return [evaluation_out(row) for row in marks.evaluations(session, ended=ended)]


@router.post("/recognition-evaluations", status_code=201, summary="Note that an organisation passed items")
def add_evaluations(body: EvaluationBody, actor: Keeper, session: WriteDb) -> list[EvaluationOut]:
    """One row for each item."""
    return [evaluation_out(row) for row in marks.note(session, actor, **body.model_dump())]


@router.post("/recognition-evaluations/{row_id}/end", summary="End an evaluation")
def end_evaluation(row_id: str, actor: Keeper, session: WriteDb) -> EvaluationOut:
    """Exams of before keep their mark."""
    return evaluation_out(marks.end(session, actor, row_id))
