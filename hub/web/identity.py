"""Identities to verify: the page and what is decided there."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission
from hub.dicom.identity import mask
from hub.exams import catalogue, registration, repository
from hub.exams.models import Exam
from hub.exams.schemas import ExamOut, ReasonIn, exam_out
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import Message, _
from hub.patients import service as patients
from hub.reading.words import age_words, exam_words, sex_words
from hub.studies import verifying
from hub.web.pages import can, locale_of, render

router = APIRouter(tags=["exams"])

Verifier = Annotated[Actor, require(Permission.EXAM_VERIFY)]

FIELDS: dict[str, Message] = {
    "name": _("姓名"),
    "sex": _("性别"),
    "birth_date": _("出生日期"),
    "age": _("年龄"),
    "number": _("患者号"),
}
AGREEMENTS: dict[str, tuple[Message, str]] = {
    "equal": (_("一致"), "green"),
    "pinyin": (_("拼音一致"), "green"),
    "age": (_("与年龄相符"), "green"),
    "missing": (_("影像中没有"), "grey"),
    "differs": (_("不一致"), "red"),
}


class MoveIn(BaseModel):
    """Where a study belongs: an exam of the same clinic, or null: an exam of its own."""

    model_config = ConfigDict(str_strip_whitespace=True)

    to_exam_id: str | None = Field(None, max_length=26)
    reason: str = Field("", max_length=400)


def _side(exam: Exam, side: dict[str, Any], locale: str) -> dict[str, Any]:
    """One study beside the registration, field by field."""
    header, notes = side["header"], side["notes"]
    patient = exam.patient
    registered = {
        "name": patient.name,
        "sex": sex_words(patient.sex, locale),
        "birth_date": (exam.stated_birth_date or patient.birth_date).isoformat()  # type: ignore[union-attr]
        if exam.stated_birth_date or (patient.birth_date and not patient.birth_estimated)
        else "",
        "age": age_words(exam, locale),
        "number": _("中心编号") if patients.hub_given(patient.number) else patient.number,
    }
    shown = {
        "name": str(header.get("name") or "").replace("^", " ").replace("=", " = "),
        "sex": sex_words(str(header.get("sex") or ""), locale) or str(header.get("sex") or ""),
        "birth_date": str(header.get("birth_date") or ""),
        "age": str(header.get("age") or ""),
        "number": str(header.get("patient_id") or ""),
    }
    rows = []
    for name, label in FIELDS.items():
        agreement = notes.get(name, "equal" if shown[name] else "missing")
        if name == "age" and not shown["age"]:
            continue
        rows.append((label, registered[name], shown[name], *AGREEMENTS[agreement]))
    return {"study": side["study"], "rows": rows, "wrong": "differs" in notes.values()}


_OTHERS = 30


def _expected(session: Session, org_id: str) -> list[Exam]:
    """Exams of a clinic that images may belong to, the newest first; one more than a list of others shows."""
    states = [State.REGISTERED.value, State.RECEIVING.value, State.TO_VERIFY.value]
    # Chosen before they are put in order: in order, SQLite walks all exams of the clinic to find them.
    waiting = select(Exam.id).where(Exam.org_id == org_id, Exam.state.in_(states))
    return list(
        session.scalars(
            select(Exam).where(Exam.id.in_(waiting)).order_by(Exam.registered_at.desc()).limit(_OTHERS + 1)
        ).unique()
    )


@router.get("/verify-identity", response_class=HTMLResponse, include_in_schema=False)
def verify_page(request: Request, actor: Verifier, session: ReadDb) -> HTMLResponse:
    """Exams whose images disagree with their registration, with both sides, oldest first."""
    locale = locale_of(request)
    entries: list[dict[str, Any]] = []
    expected: dict[str, list[Exam]] = {}
    for exam in registration.to_verify(session, actor):
        if exam.org_id not in expected:
            expected[exam.org_id] = _expected(session, exam.org_id)
        others = [other for other in expected[exam.org_id] if other.id != exam.id][:_OTHERS]
        count = next((note for note in exam.identity_notes if note.get("kind") == "count"), None)
        entries.append(
            {
                "exam": exam,
                "words": exam_words(exam, locale),
                "person": f"{sex_words(exam.patient.sex, locale)} {age_words(exam, locale)}".strip(),
                "identity_number": mask(exam.patient.identity_number),
                "sides": [_side(exam, side, locale) for side in verifying.sides(session, exam)],
                "count": count,
                "missing": [registration.FIELD_NAMES.get(code, code) for code in exam.incomplete],
                "must_complete": bool(exam.incomplete) and exam.priority != "emergency",
                "queued": exam.state != State.TO_VERIFY,
                "since": exam.verify_since or exam.received_at,
                "due": registration.verify_due(exam),
                "movable": exam.state in verifying.MOVABLE,
                "own": exam.org_id == actor.org_id and can(actor, Permission.EXAM_REGISTER),
                "others": [
                    (other.id, f"{other.patient.name} · {exam_words(other, locale)} · {other.accession}")
                    for other in others
                ],
            }
        )
    return render(
        request,
        "clinic/verify.html",
        {"entries": entries, "priorities": catalogue.PRIORITIES, "whole_county": actor.has("quality", "director")},
    )


@router.post("/api/exams/{exam_id}/verify")
def verify(exam_id: str, body: ReasonIn, actor: Verifier, session: WriteDb) -> ExamOut:
    """The same patient, and these are the images: the exam goes on."""
    exam = repository.get(session, actor, exam_id)
    return exam_out(registration.verify(session, actor, exam, reason=body.reason), own=exam.org_id == actor.org_id)


@router.post("/api/exams/{exam_id}/studies/{study_id}/move")
def move(exam_id: str, study_id: str, body: MoveIn, actor: Verifier, session: WriteDb) -> ExamOut:
    """The images belong elsewhere. The answer is the exam that they are with now."""
    exam = repository.get(session, actor, exam_id)
    target = verifying.move(session, actor, exam, study_id, to_exam_id=body.to_exam_id, reason=body.reason)
    return exam_out(target, own=target.org_id == actor.org_id)
