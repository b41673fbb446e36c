"""When an exam's images are all there. DICOM never says so: a declared count does, or a quiet period."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from hub.exams import limits, repository
from hub.exams.identity import check_identity
from hub.exams.models import Exam
from hub.exams.service import announce, apply
from hub.exams.states import QUEUE_STATES, Event, State
from hub.kit import clock, jobs
from hub.kit.actor import Actor
from hub.kit.settings import get_settings
from hub.studies import recompression
from hub.studies.models import ExamStudy, Instance, Study, UploadBatch, UploadFile

Note = dict[str, Any]

RECOMPRESS_AFTER = 30.0
"""Seconds after completion, when previews are made and the first reader has the images."""

PATIENCE = timedelta(hours=1)
EMERGENCY_PATIENCE = timedelta(minutes=3)
"""How long after the last image an upload that is still open is waited for."""


def received(session: Session, exam_id: str) -> int:
    """How many instances of devices the exam's studies hold (the hub's own reports do not count)."""
    count = session.scalar(
        select(func.count(Instance.id))
        .join(ExamStudy, ExamStudy.study_id == Instance.study_id)
        .where(ExamStudy.exam_id == exam_id, Instance.made_by_hub.is_(False))
    )
    return count or 0


def settle(session: Session, actor: Actor, exam_id: str) -> None:
    """Decide whether the exam is fully received, and let it go on: to the queue, or to *to verify*.

    It is complete when the declared count is reached, or nothing came for the quiet period and no upload of the clinic
    is still open. What disagrees (identity, count, missing registration) waits in *to verify*; an emergency enters the
    queue all the same, and only its formal signature waits.
    """
    # Studies before the exam, and in the order in which intake locks them: images that arrive at this moment wait, and
    # are counted by the next look, which they have asked for.
    of_exam = select(Study).join(ExamStudy).where(ExamStudy.exam_id == exam_id).order_by(Study.uid)
    session.execute(of_exam.with_only_columns(Study.id).with_for_update(of=Study, key_share=True)).all()
    repository.lock(session, exam_id)
    # Read after both waits: a study may have been moved away meanwhile, and the exam got another patient.
    studies = list(session.scalars(of_exam.execution_options(populate_existing=True)))
    exam = session.scalars(
        select(Exam).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()
    if exam is None:
        return
    exam.received_count = received(session, exam_id)
    if not studies or exam.state not in QUEUE_STATES | {State.RECEIVING, State.TO_VERIFY}:
        return
    now, quiet = clock.now(), timedelta(seconds=get_settings().quiet_period_seconds)
    declared = exam.declared_count
    counted = declared is not None and exam.received_count >= declared
    if exam.state == State.RECEIVING and not counted:
        last = max(study.last_instance_at for study in studies)
        due = last + quiet
        if due <= now and _still_uploading(session, exam, studies, last):
            due = now + quiet
        if due > now:
            jobs.enqueue(
                session,
                "studies.settle",
                {"exam_id": exam_id},
                key=f"settle:{exam_id}",
                delay=max((due - now).total_seconds(), 1.0),
                postpone=True,
            )
            return
    notes = problems(session, exam, studies)
    blocking = [note for note in notes if note.get("agreement") in (None, "differs")]
    # A decision covers what was seen when it was made, not the images of somebody else that came after it.
    unseen = [note for note in blocking if note["kind"] == "identity" and note not in exam.identity_notes]
    exam.identity_notes = notes
    if exam.identity != "verified" or unseen:
        exam.identity = "open" if blocking else ("noted" if notes else "ok")
    for study in studies:
        study.complete_at = study.complete_at or now
        if study.archived_revision < study.revision:
            recompression.enqueue(session, study.id, delay=RECOMPRESS_AFTER)
    if exam.state == State.TO_VERIFY and not blocking:
        # Somebody completed or corrected the registration, or the missing images came.
        apply(session, actor, exam, Event.VERIFY, received_at=exam.received_at or now)
        exam.due_at = limits.due_at(session, exam)
        return
    waits = bool(blocking) and exam.priority != "emergency" and exam.identity != "verified"
    if exam.state in (State.RECEIVING, State.TO_READ) and waits:
        apply(session, actor, exam, Event.DISAGREE)
        return
    if exam.state != State.RECEIVING:
        announce(session, exam, event="settled")
        return
    apply(session, actor, exam, Event.COMPLETE)
    exam.due_at = limits.due_at(session, exam)


def _still_uploading(session: Session, exam: Exam, studies: list[Study], last: datetime) -> bool:
    """Whether the clinic may be expected to go on sending: its upload is open and was not left for long.

    An emergency is not kept from its reader by a line that went down.
    """
    patience = EMERGENCY_PATIENCE if exam.priority == "emergency" else PATIENCE
    begun = session.scalar(
        select(func.max(UploadBatch.created_at)).where(
            or_(UploadBatch.exam_id == exam.id, UploadBatch.id.in_(_unfinished(session, exam, studies))),
            UploadBatch.state == "open",
        )
    )
    return begun is not None and max(begun, last) > clock.now() - patience


def _unfinished(session: Session, exam: Exam, studies: list[Study]) -> list[str]:
    """Uploads that nobody closed, for no exam, that brought images of these studies: what is unsent may be theirs."""
    unbound = select(UploadBatch.id).where(
        UploadBatch.org_id == exam.org_id, UploadBatch.exam_id.is_(None), UploadBatch.state.in_(["open", "expired"])
    )
    return list(
        session.scalars(
            select(UploadFile.batch_id)
            .where(UploadFile.batch_id.in_(unbound), UploadFile.study_uid.in_([study.uid for study in studies]))
            .distinct()
        )
    )


def _unsent(session: Session, exam: Exam, studies: list[Study]) -> int:
    """How many files of such uploads never came."""
    unfinished = _unfinished(session, exam, studies)
    if not unfinished:
        return 0
    missing = or_(UploadFile.state == "receiving", (UploadFile.state == "refused") & (UploadFile.code == "expired"))
    return session.scalar(select(func.count(UploadFile.id)).where(UploadFile.batch_id.in_(unfinished), missing)) or 0


def _unconfirmed(session: Session, exam: Exam) -> bool:
    """Whether images are missing from an upload for this exam that nobody closed."""
    missing = or_(
        UploadFile.state == "receiving",
        (UploadFile.state == "refused") & UploadFile.code.not_in(["not-dicom", "dicomdir"]),
    )
    found = session.scalar(
        select(UploadFile.id)
        .join(UploadBatch, UploadBatch.id == UploadFile.batch_id)
        .where(UploadBatch.exam_id == exam.id, UploadBatch.state.in_(["open", "expired"]), missing)
        .limit(1)
    )
    return found is not None


def problems(session: Session, exam: Exam, studies: list[Study]) -> list[Note]:
    """What does not agree, both sides of each.

    Notes of identity come from hub.exams.identity and carry `agreement`; those that block an exam without one are
    `{"kind": "count", "declared", "received"}` and `{"kind": "registration", "missing"}`.
    """
    notes: list[Note] = []
    for study in studies:
        for note in check_identity(exam, study.header_patient).notes:
            if note not in notes:
                notes.append(note)
    if exam.declared_count is not None and exam.received_count < exam.declared_count:
        confirmed = session.scalar(
            select(UploadBatch.id).where(UploadBatch.exam_id == exam.id, UploadBatch.state == "short").limit(1)
        )
        # What a person said of one upload says nothing of a later one that broke off.
        if confirmed is None or _unconfirmed(session, exam):
            notes.append({"kind": "count", "declared": exam.declared_count, "received": exam.received_count})
    elif exam.declared_count is None and (unsent := _unsent(session, exam, studies)):
        notes.append({"kind": "count", "declared": exam.received_count + unsent, "received": exam.received_count})
    if exam.incomplete and exam.priority != "emergency":
        notes.append({"kind": "registration", "missing": list(exam.incomplete)})
    return notes
