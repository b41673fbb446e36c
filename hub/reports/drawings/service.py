"""Keeping drawings, and giving them back to whoever reads or reviews the exam."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams import repository as exam_rows
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import _
from hub.reading import repository as reading_rows
from hub.reports import repository, service
from hub.reports.drawings.models import ExamDrawings
from hub.studies.models import ExamStudy, Study

MOST: Final = 300
MOST_BYTES: Final = 1 << 20

_IMAGE: Final = re.compile(
    r"wadors:/viewer/dicomweb/studies/([0-9.]{1,64})/series/[0-9.]{1,64}/instances/[0-9.]{1,64}/frames/[0-9]{1,6}",
    re.ASCII,
)
"""How the viewer addresses an image (hub/web/src/ohif/app-config.js)."""


def drawings_of(session: Session, actor: Actor, exam_id: str) -> ExamDrawings | None:
    """The drawings on an exam's images; None where there are none.

    Raises:
        NotFound: The exam is not the actor's to know, or he sees no drafts.
    """
    exam = exam_rows.get(session, actor, exam_id)
    if not repository.may_see_drafts(actor, exam):
        raise NotFound(_("没有找到这项检查"))
    return session.get(ExamDrawings, exam.id)


def save(
    session: Session, actor: Actor, exam_id: str, *, lease: str, drawings: Sequence[dict[str, Any]]
) -> ExamDrawings:
    """Keep all drawings on an exam's images in the place of those before.

    Args:
        session: The transaction.
        actor: Who writes the exam's report.
        exam_id: The exam.
        lease: Token of his lease; empty for an addendum or correction.
        drawings: The viewer's records, each with the address of the image that it lies on.

    Raises:
        Conflict: The report is not the actor's to write, or not any more.
        Invalid: Too many, or one lies on images of somebody else, or on none.
    """
    if len(drawings) > MOST or len(json.dumps(drawings, ensure_ascii=False).encode()) > MOST_BYTES:
        raise Invalid(_("影像上的标注太多,没有保存"), code="too-many-drawings")
    studies = {_study_of(one) for one in drawings}
    exam, _version = service.writable(session, actor, exam_id, lease)
    if not studies <= _allowed(session, actor, exam):
        raise Invalid(_("标注画在另一位患者的影像上,没有保存"), code="other-exam")
    kept = session.get(ExamDrawings, exam.id, with_for_update=True)
    if kept is None:
        kept = ExamDrawings(exam_id=exam.id, body=[], revision=0, saved_at=clock.now(), saved_by="")
        session.add(kept)
    if kept.saved_by != actor.id:
        audit.record(session, actor, "report.draw", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id)
    kept.body = list(drawings)
    kept.revision += 1
    kept.saved_at = clock.now()
    kept.saved_by = actor.id
    session.flush()
    return kept


def _study_of(drawing: dict[str, Any]) -> str:
    metadata = drawing.get("metadata")
    uid = drawing.get("annotationUID")
    if isinstance(metadata, dict) and isinstance(metadata.get("toolName"), str) and isinstance(uid, str):
        found = _IMAGE.fullmatch(str(metadata.get("referencedImageId") or ""))
        if found is not None:
            return found[1]
    raise Invalid(_("影像上的标注不完整,没有保存"), code="bad-drawing")


def _allowed(session: Session, actor: Actor, exam: Exam) -> set[str]:
    """Studies of the exam, and of its patient's earlier exams that the actor may see beside it."""
    exams = [exam.id, *(prior.id for prior in reading_rows.priors(session, actor, exam))]
    return set(
        session.scalars(
            select(Study.uid).join(ExamStudy, ExamStudy.study_id == Study.id).where(ExamStudy.exam_id.in_(exams))
        )
    )
