"""JSON API of hub.exams."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy import func, select

from hub.accounts.roles import Permission
from hub.audit import service as audit
from hub.exams import catalogue, listing, registration, repository
from hub.exams.models import Exam, Transition
from hub.exams.registration import RegistrationForm
from hub.exams.schemas import (
    ExamOut,
    ExamPage,
    PatientFound,
    ReasonIn,
    TransitionOut,
    exam_out,
    transition_out,
)
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import Forbidden, Invalid
from hub.kit.i18n import _
from hub.patients import service as patients

router = APIRouter(prefix="/api", tags=["exams"])

Registrar = Annotated[Actor, require(Permission.EXAM_REGISTER)]
Viewer = Annotated[Actor, require(Permission.EXAM_VIEW)]


@router.post("/exams", status_code=201)
def register(form: RegistrationForm, actor: Registrar, session: WriteDb) -> ExamOut:
    """Register an exam. What is wrong is answered by field (422, `fields`)."""
    return exam_out(registration.register(session, actor, form))


@router.get("/exams")
def find(
    actor: Viewer,
    session: ReadDb,
    q: str = "",
    day: str = "all",
    state: str = "",
    priority: str = "",
    modality: str = "",
    alert: str = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    size: Annotated[int, Query(ge=1, le=200)] = 50,
) -> ExamPage:
    """Exams that the caller may know. `q`: name, pinyin, initials, number; `day`: today, week, all or YYYY-MM-DD."""
    wanted = listing.ExamFilter(q, day, state, priority, modality, alert, page, size)
    found = listing.find(session, actor, wanted)
    return ExamPage(
        total=found.total,
        page=found.page,
        size=size,
        items=[exam_out(exam, own=exam.org_id == actor.org_id) for exam in found.items],
    )


@router.get("/exams/phrases")
def phrases(actor: Registrar, session: ReadDb) -> dict[str, list[str]]:
    """One-tap phrases for the history, by region; `common` fits all."""
    return catalogue.phrases(session)


@router.get("/exams/{exam_id}")
def show(exam_id: str, actor: Viewer, session: ReadDb) -> ExamOut:
    """One exam."""
    exam = repository.get(session, actor, exam_id)
    return exam_out(exam, own=exam.org_id == actor.org_id)


@router.get("/exams/{exam_id}/transitions")
def transitions(exam_id: str, actor: Viewer, session: ReadDb) -> list[TransitionOut]:
    """Every change of an exam's state, in order."""
    exam = repository.get(session, actor, exam_id)
    rows = session.scalars(select(Transition).where(Transition.exam_id == exam.id).order_by(Transition.id))
    return [transition_out(row, repository.reason_for(actor, exam, row)) for row in rows]


@router.patch("/exams/{exam_id}")
def complete(exam_id: str, changes: dict[str, Any], actor: Registrar, session: WriteDb) -> ExamOut:
    """Complete or correct a registration (待补): the fields of `POST /api/exams` that change; the others stay."""
    unknown = sorted(set(changes) - set(RegistrationForm.model_fields))
    if unknown:
        raise Invalid(fields={name: _("没有这个栏目") for name in unknown})
    exam = repository.get(session, actor, exam_id)
    return exam_out(registration.complete_registration(session, actor, exam, changes))


@router.post("/exams/{exam_id}/cancel")
def cancel(
    exam_id: str, body: ReasonIn, actor: Annotated[Actor, require(Permission.EXAM_CANCEL)], session: WriteDb
) -> ExamOut:
    """Cancel an exam that nobody reads yet."""
    exam = repository.get(session, actor, exam_id)
    return exam_out(registration.cancel(session, actor, exam, reason=body.reason))


@router.get("/patients/search")
def search_patients(actor: Registrar, q: str = "") -> list[PatientFound]:
    """Patients of one's own clinic while typing: name, pinyin, initials, number, identity number, phone.

    Identity numbers are whole here, because they fill the form of the clinic that took them; each search is audited.
    """
    if actor.org_id is None:
        raise Forbidden()
    if len(q.strip()) < 1:
        return []
    with database().reading() as session:
        found = patients.search(session, actor.org_id, q)
        last = {
            row[0]: row[1]
            for row in session.execute(
                select(Exam.patient_id, func.max(Exam.registered_at))
                .where(Exam.patient_id.in_([patient.id for patient in found]))
                .group_by(Exam.patient_id)
            )
        }
    if found:
        with database().writing() as session:
            audit.record(
                session, actor, "patient.search", "patient", found[0].id, org_id=actor.org_id, found=len(found)
            )
    return [
        PatientFound(
            id=patient.id,
            number="" if patients.hub_given(patient.number) else patient.number,
            name=patient.name,
            sex=patient.sex,
            birth_date=patient.birth_date.isoformat() if patient.birth_date else "",
            birth_estimated=patient.birth_estimated,
            age=registration.typed_age(patient),
            identity_number=patient.identity_number,
            phone=patient.phone,
            last_exam_at=last.get(patient.id),
        )
        for patient in found
    ]
