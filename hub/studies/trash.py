"""Deleting studies: into a trash that empties later, by one role, with a reason, never what was reported.

Images are kept for decades; what is deleted is what should never have come: another patient's, a test, a duplicate.
A study that was read, reported or signed stays, and so does one whose exam is under way to that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams import repository as exams
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.studies import linking, repository, retired, verifying
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, SeriesMetadata, Study

log = get_logger(__name__)

DELETED: Final = "study.delete"
RESTORED: Final = "study.restore"
PURGED: Final = "study.purge"

DELETABLE: Final = verifying.MOVABLE | {State.CANCELLED}
"""States of an exam whose images may go: nobody has begun to read them, or nobody ever will."""

_LEAST_REASON: Final = 4
_MOST_REASON: Final = 500


def put(session: Session, actor: Actor, uid: str, reason: str) -> Study:
    """Put a study into the trash.

    Args:
        session: The transaction.
        actor: Who does it; the edge has looked at his permission.
        uid: Study Instance UID.
        reason: Why; goes into the audit log.

    Raises:
        NotFound: There is no such study that the actor may know.
        Gone: It is there already.
        Invalid: The reason is missing.
        Conflict: It was read or reported, or is about to be.
    """
    reason = reason.strip()
    if not _LEAST_REASON <= len(reason) <= _MOST_REASON:
        raise Invalid(_("请说明删除的原因"), fields={"reason": _("请说明删除的原因")}, code="reason-needed")
    visible = repository.visible_to(actor).where(Study.uid == uid)
    linking.hold(session, *session.scalars(visible.with_only_columns(Study.id)))
    study = session.scalars(visible.execution_options(populate_existing=True)).one_or_none()
    if study is None:
        raise repository.missing(session, actor, uid)
    _take_away(session, actor, study, reason)
    study.trashed_at, study.trashed_by, study.trash_reason = clock.now(), actor.id, reason
    audit.record(
        session,
        actor,
        DELETED,
        "study",
        study.uid,
        org_id=study.org_id,
        patient_id=study.patient_id,
        reason=reason,
        instances=study.instance_count,
    )
    return study


def _take_away(session: Session, actor: Actor, study: Study, reason: str) -> None:
    """Take a study from its exams, if all of them can spare it: what is deleted is no exam's image any more."""
    # The study was locked first, then its exams: the order of all who link images.
    linked = list(session.scalars(select(ExamStudy.exam_id).where(ExamStudy.study_id == study.id)))
    exams.lock(session, *linked)
    found = list(
        session.scalars(select(Exam).where(Exam.id.in_(linked)).execution_options(populate_existing=True)).unique()
    )
    made = session.scalar(
        select(Instance.id).where(Instance.study_id == study.id, Instance.made_by_hub.is_(True)).limit(1)
    )
    if made is not None or not {State(exam.state) for exam in found} <= DELETABLE:
        raise Conflict(_("已进入阅片或已有报告的影像不能删除"), code="not-deletable")
    for exam in found:
        linking.detach(session, exam, study)
        if State(exam.state) in verifying.MOVABLE:
            verifying.left(session, actor, exam, reason)


def listed(session: Session) -> list[Study]:
    """What is in the trash, the latest first."""
    return list(
        session.scalars(select(Study).where(Study.trashed_at.is_not(None)).order_by(Study.trashed_at.desc()).limit(500))
    )


def restore(session: Session, actor: Actor, uid: str, *, cause: str = "") -> Study:
    """Take a study out of the trash; it finds its exam like one that just came, or is given one.

    Raises:
        NotFound: It is not there.
    """
    trashed = select(Study).where(Study.uid == uid, Study.trashed_at.is_not(None))
    linking.hold(session, *session.scalars(trashed.with_only_columns(Study.id)))
    study = session.scalars(trashed.execution_options(populate_existing=True)).one_or_none()
    if study is None:
        raise NotFound(_("回收站里没有这些影像"))
    study.trashed_at, study.trashed_by, study.trash_reason = None, "", ""
    images = linking.own_images(session, study)
    first = session.scalars(select(Series).where(Series.study_id == study.id).order_by(Series.number).limit(1)).first()
    linking.attach(
        session,
        actor,
        study,
        added=images,
        modality=first.modality if first is not None else "",
        body_part=first.body_part if first is not None else "",
    )
    audit.record(
        session, actor, RESTORED, "study", study.uid, org_id=study.org_id, patient_id=study.patient_id, cause=cause
    )
    return study


def wake(actor: Actor, org_id: str, uids: Iterable[str]) -> None:
    """Take out of the trash what its sender sends again: it is about to be acknowledged, so it must not vanish.

    Opens transactions of its own; costs one look at a nearly empty index where nothing is in the trash.
    """
    wanted = sorted(set(uids))
    if not wanted:
        return
    with database().reading() as session:
        trashed = list(
            session.scalars(
                select(Study.uid).where(Study.trashed_at.is_not(None), Study.org_id == org_id, Study.uid.in_(wanted))
            )
        )
    for uid in trashed:
        with database().writing() as session:
            try:
                restore(session, actor, uid, cause="sent-again")
            except NotFound:
                log.info("a study was restored meanwhile")


def due(session: Session, now: datetime) -> list[str]:
    """Studies whose time in the trash is over."""
    limit = now - timedelta(days=get_settings().trash_days)
    return list(session.scalars(select(Study.id).where(Study.trashed_at < limit).limit(200)))


def empty() -> int:
    """Purge what was in the trash for `HUB_TRASH_DAYS`; returns how many studies.

    Rows go in one transaction for each study; objects are retired in the same, and deleted later where no row names
    them. May be killed anywhere and run again.
    """
    with database().reading() as session:
        ids = due(session, clock.now())
    return sum(_purge(study_id) for study_id in ids)


def _purge(study_id: str) -> bool:
    with database().writing() as session:
        study = session.scalars(select(Study).where(Study.id == study_id).with_for_update(of=Study)).one_or_none()
        limit = clock.now() - timedelta(days=get_settings().trash_days)
        if study is None or study.trashed_at is None or study.trashed_at >= limit:
            return False
        instances = session.execute(
            select(Instance.object_key, Instance.preview_key).where(Instance.study_id == study.id)
        ).all()
        series = select(Series.id).where(Series.study_id == study.id)
        previews = session.scalars(select(Series.preview_key).where(Series.study_id == study.id))
        keys = {key for row in instances for key in row} | set(previews) | {study.preview_key, study.sheet_key}
        audit.record(
            session,
            SYSTEM,
            PURGED,
            "study",
            study.uid,
            org_id=study.org_id,
            patient_id=study.patient_id,
            instances=len(instances),
        )
        retired.retire(session, keys - {""})
        mine = select(Instance.id).where(Instance.study_id == study.id)
        session.execute(delete(InstanceHeader).where(InstanceHeader.instance_id.in_(mine)))
        session.execute(delete(Instance).where(Instance.study_id == study.id))
        session.execute(delete(SeriesMetadata).where(SeriesMetadata.series_id.in_(series)))
        session.execute(delete(Series).where(Series.study_id == study.id))
        session.execute(delete(ExamStudy).where(ExamStudy.study_id == study.id))
        session.expunge(study)
        session.execute(delete(Study).where(Study.id == study_id))
    log.info("a study was purged from the trash")
    return True
