"""What a person decides about images whose identity does not agree: whose they are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams import registration, repository
from hub.exams.identity import check_identity
from hub.exams.models import Exam
from hub.exams.service import apply
from hub.exams.states import Event, State
from hub.kit import jobs
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import _
from hub.studies import linking
from hub.studies.models import ExamStudy, Study

MOVABLE = frozenset({State.RECEIVING, State.TO_VERIFY, State.TO_READ})
"""States in which nobody reads the images yet, so that they may be taken away."""


def studies_of(session: Session, exam_id: str) -> list[Study]:
    """The studies of an exam, oldest first."""
    return list(
        session.scalars(
            select(Study)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .where(ExamStudy.exam_id == exam_id)
            .order_by(Study.created_at)
        ).unique()
    )


def sides(session: Session, exam: Exam) -> list[dict[str, Any]]:
    """For each study of an exam, what its header says and how that agrees with the registration."""
    return [
        {
            "study": study,
            "header": study.header_patient,
            "notes": {note["field"]: note["agreement"] for note in check_identity(exam, study.header_patient).notes},
        }
        for study in studies_of(session, exam.id)
    ]


def move(session: Session, actor: Actor, exam: Exam, study_id: str, *, to_exam_id: str | None, reason: str) -> Exam:
    """Take a study away from an exam that it does not belong to.

    Args:
        session: The transaction.
        actor: Technologist of the clinic, quality officer or director.
        exam: Where the images are now.
        study_id: The study.
        to_exam_id: The exam of the same clinic that they belong to; None: they get an exam of their own, made from
            their header, whose registration has to be completed.
        reason: Why, in words.

    Returns:
        The exam that the images are with now.

    Raises:
        Invalid: No reason was given.
        NotFound: The exam has no such study.
        WrongExam: The other exam is not of the same clinic.
        Conflict: Somebody reads the images already.
    """
    if not reason.strip():
        raise Invalid(fields={"reason": _("请写明核对的依据")})
    if not registration.may_verify(actor, exam):
        raise Forbidden(_("只能核对本机构的检查"))
    # Held before they are looked at: a reader may just be taking the exam, somebody else moving the images.
    linking.hold(session, study_id)
    repository.lock(session, exam.id, *filter(None, [to_exam_id]))
    repository.hold(session, exam)
    if State(exam.state) not in MOVABLE:
        raise Conflict(_("影像已在阅片中,不能移走;请联系阅片医院"), code="wrong-state", state=exam.state)
    study = session.get(Study, study_id)
    if study is None or session.get(ExamStudy, (exam.id, study_id), populate_existing=True) is None:
        raise NotFound(_("这项检查没有这组影像"))
    if to_exam_id:
        target = linking.own_exam(session, exam.org_id, to_exam_id)
        if target.id == exam.id:
            raise Invalid(fields={"to_exam_id": _("请选择另一项检查")})
    else:
        target = _own_exam_of(session, actor, study, exam)
    linking.relink(session, actor, study, from_exam=exam, to_exam=target)
    session.flush()
    session.refresh(exam)
    left(session, actor, exam, reason.strip()[:400])
    return target


def left(session: Session, actor: Actor, exam: Exam, reason: str) -> None:
    """Tell an exam that a study was taken away from it: without any it waits for images again."""
    if studies_of(session, exam.id):
        jobs.enqueue(session, "studies.settle", {"exam_id": exam.id}, key=f"settle:{exam.id}", priority=2)
        return
    apply(
        session,
        actor,
        exam,
        Event.DETACH,
        reason=reason,
        identity="ok",
        identity_notes=[],
        declared_count=None,
        received_count=0,
        first_image_at=None,
        exam_at=None,
        exam_at_source="",
        received_at=None,
        verify_since=None,
        queued_at=None,
        due_at=None,
    )


def _own_exam_of(session: Session, actor: Actor, study: Study, exam: Exam) -> Exam:
    patient = linking.patient_for(session, study.org_id, study.header_patient, None)
    return registration.from_images(
        session,
        actor,
        patient=patient,
        modality=exam.modality,
        body_parts=list(exam.body_parts),
        procedure=study.description,
        stated_age=str(study.header_patient.get("age") or ""),
    )
