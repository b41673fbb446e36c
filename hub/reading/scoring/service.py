"""Scoring: one judgement stands for an exam at a time, and every former one is kept.

Whoever reads the exam may judge its images, and the quality officer any. The clinic sees what was wrong and what to do
better; who said so stays among the readers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams.models import Exam
from hub.exams.repository import READERS_DO_NOT_SEE, lock, visible_to
from hub.exams.service import announce
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.reading.scoring.catalogue import ARTEFACTS, GRADES, REASONS, reasons_for
from hub.reading.scoring.models import ImageScore
from hub.studies.models import ExamStudy, Instance

MOST_EXAMPLES = 6
MAX_NOTE = 400
NO_IMAGES = frozenset({*READERS_DO_NOT_SEE, State.TO_VERIFY, State.VOID})
"""States in which there is nothing to judge, or nobody knows yet whose images they are."""


def current(session: Session, exam_id: str) -> ImageScore | None:
    """The judgement that stands."""
    return session.scalars(
        select(ImageScore)
        .where(ImageScore.exam_id == exam_id, ImageScore.replaced_at.is_(None))
        .execution_options(populate_existing=True)
    ).one_or_none()


def current_of(session: Session, exam_ids: Collection[str]) -> dict[str, ImageScore]:
    """The judgements that stand, by exam."""
    rows = session.scalars(
        select(ImageScore).where(ImageScore.exam_id.in_(list(exam_ids)), ImageScore.replaced_at.is_(None))
    )
    return {row.exam_id: row for row in rows}


def history(session: Session, exam_id: str) -> list[ImageScore]:
    """All judgements of an exam, the newest first."""
    return list(
        session.scalars(select(ImageScore).where(ImageScore.exam_id == exam_id).order_by(ImageScore.number.desc()))
    )


def may_score(actor: Actor, exam: Exam) -> bool:
    """Whether it is the actor's to judge: readers what their hospital reads, the quality officer everything."""
    if exam.state in NO_IMAGES:
        return False
    if actor.has(Role.QUALITY):
        return True
    return actor.has(Role.REPORTER, Role.REVIEWER) and exam.reading_org_id in (None, actor.org_id)


def score(
    session: Session,
    actor: Actor,
    exam_id: str,
    *,
    grade: str,
    reasons: Collection[str] = (),
    artefact: str = "none",
    examples: Collection[dict[str, Any]] = (),
    note: str = "",
    number: int | None = None,
) -> ImageScore:
    """Judge an exam's images; a judgement of before is replaced and kept.

    Args:
        session: The transaction.
        actor: A reader of the exam's hospital, or the quality officer.
        exam_id: The exam.
        grade: Of GRADES.
        reasons: Of the modality's reasons; at least one, unless the grade is A.
        artefact: Of ARTEFACTS.
        examples: `{instance_id, note}` or `{sop_uid, note}`: images of this exam that show what is meant.
        note: A word to the clinic.
        number: Of the judgement that the actor saw; 0 where he saw none. None: whatever stands is replaced.

    Raises:
        NotFound: No such exam for the actor.
        Forbidden: Not his to judge.
        Invalid: By field.
        Conflict: `changed-meanwhile`: somebody else judged it first.
    """
    lock(session, exam_id)
    exam = session.scalars(
        visible_to(actor).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()
    if exam is None:
        raise NotFound(_("没有找到这项检查"))
    if not may_score(actor, exam):
        raise Forbidden(_("这项检查的影像现在不由您评分"))
    chosen = [code for code in REASONS if code in set(reasons)]
    shown = _examples(session, exam, examples)
    _check(session, exam, grade, set(reasons), artefact, [one["instance_id"] for one in shown], note)
    before = current(session, exam_id)
    if number is not None and number != (before.number if before else 0):
        raise Conflict(_("刚刚有人评过这项检查,请看过后再改"), code="changed-meanwhile")
    now = clock.now()
    if before is not None:
        before.replaced_at = now
        session.flush()
    last = session.scalar(select(func.max(ImageScore.number)).where(ImageScore.exam_id == exam_id)) or 0
    row = ImageScore(
        exam_id=exam_id,
        number=last + 1,
        grade=grade,
        reasons=chosen,
        artefact=artefact,
        examples=shown,
        note=note.strip()[:MAX_NOTE],
        at=now,
        person_id=actor.id,
        person_name=actor.name,
        org_id=actor.org_id,
        source="quality" if actor.has(Role.QUALITY) else "reader",
    )
    session.add(row)
    session.flush()
    audit.record(
        session,
        actor,
        "image.score",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        grade=grade,
        reasons=chosen,
        artefact=artefact,
        number=row.number,
    )
    announce(session, exam, event="score")
    return row


def _examples(session: Session, exam: Exam, wanted: Collection[dict[str, Any]]) -> list[dict[str, Any]]:
    """Examples by the row of their image; a viewer knows it by its UID."""
    uids = [str(one["sop_uid"]) for one in wanted if one.get("sop_uid")]
    known: dict[str, str] = {}
    if uids:
        own = select(Instance.uid, Instance.id).join(ExamStudy, ExamStudy.study_id == Instance.study_id)
        rows = session.execute(own.where(ExamStudy.exam_id == exam.id, Instance.uid.in_(uids)))
        known = {row[0]: row[1] for row in rows}
    return [
        {
            "instance_id": known.get(str(one.get("sop_uid") or "")) or str(one.get("instance_id") or ""),
            "note": str(one.get("note") or "")[:100],
        }
        for one in wanted
    ]


def _check(
    session: Session,
    exam: Exam,
    grade: str,
    reasons: set[str],
    artefact: str,
    images: list[str],
    note: str,
) -> None:
    fields: dict[str, Message | str] = {}
    if grade not in GRADES:
        fields["grade"] = _("请选择等级")
    if artefact not in ARTEFACTS:
        fields["artefact"] = _("请选择有无伪影")
    if reasons - set(reasons_for(exam.modality)):
        fields["reasons"] = _("没有这个原因,或不适用于这种检查")
    elif grade != "A" and not reasons:
        fields["reasons"] = _("乙级以下请选择原因,卫生院据此改进")
    elif "other" in reasons and len(note.strip()) < 2:
        fields["note"] = _("请写明是什么原因")
    if grade == "A" and artefact == "bad":
        fields["artefact"] = _("有严重伪影的不能是甲级")
    if len(images) > MOST_EXAMPLES:
        fields["examples"] = _("示例图像最多 {n} 幅").format(n=MOST_EXAMPLES)
    elif images:
        own = select(Instance.id).join(ExamStudy, ExamStudy.study_id == Instance.study_id)
        found = set(session.scalars(own.where(ExamStudy.exam_id == exam.id, Instance.id.in_(images))))
        if found != set(images):
            fields["examples"] = _("示例图像不属于这项检查")
    if fields:
        raise Invalid(fields=fields)
