"""Queries for what machines sent. Every one starts from `visible_to`."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, String, and_, bindparam, exists, false, func, or_, select, true, union_all
from sqlalchemy.orm import Session, aliased

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.audit import service as audit
from hub.audit.models import AuditEntry
from hub.exams import repository as exams
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import UtcDateTime, database
from hub.kit.errors import Gone, NotFound
from hub.kit.i18n import _
from hub.patients.models import CountyPatient, Patient
from hub.studies import loans
from hub.studies.models import ALL_READERS, ASK_EXAMS, ExamStudy, Instance, InstanceHeader, Series, Study

VIEWED: Final = "images.view"
FETCHED_AHEAD: Final = "images.ahead"

ahead: ContextVar[bool] = ContextVar("ahead", default=False)
"""Whether this request fetches what a person may look at next: images that have not been opened."""


def visibility(actor: Actor, *, few: bool = False) -> ColumnElement[bool]:
    """The condition under which `actor` may know a study: his clinic's own, or linked to an exam that he may know.

    What is in the trash is nobody's to know; its own service (hub.studies.trash) looks there.

    Args:
        actor: Who asks.
        few: The same condition, for an actor whose exams are few: his studies are listed, instead of each being asked.
    """
    return and_(Study.trashed_at.is_(None), _scope(actor, few=few))


def _scope(actor: Actor, *, few: bool = False, known: Sequence[str] | None = None) -> ColumnElement[bool]:
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return true()
    conditions: list[ColumnElement[bool]] = []
    if actor.org_id and (actor.kind == "machine" or actor.has(Role.TECHNOLOGIST, Role.CLINICIAN)):
        conditions.append(Study.org_id == actor.org_id)
    if actor.kind == "person" or exams.archive_of_readers(actor):
        linked = _linked().where(exams.visibility(actor, held=known is None))
        conditions.append(Study.id.in_(linked) if few else _each(linked))
        if known:
            conditions.append(Study.id.in_(known))
        elif known is None and exams.reads(actor):
            conditions.append(Study.id.in_(loans.lent(actor.id, clock.now())))
    return or_(*conditions) if conditions else false()


def _linked() -> Select[str]:
    return select(ExamStudy.study_id).join(Exam, Exam.id == ExamStudy.exam_id)


def _each(linked: Select[str]) -> ColumnElement[bool]:
    # With OFFSET 0, PostgreSQL asks each study that it passes; without it, it would first list those of all exams.
    return linked.where(ExamStudy.study_id == Study.id).correlate(Study).offset(0).exists()


def visibility_knowing(actor: Actor, priors: Sequence[str], *, few: bool = False) -> ColumnElement[bool]:
    """`visibility`, where `prior_studies` have been looked up."""
    return and_(Study.trashed_at.is_(None), _scope(actor, few=few, known=priors))


def indexed_visibility(actor: Actor, priors: Sequence[str]) -> ColumnElement[bool]:
    """`visibility` by what stands in the indexes that a search walks (`Study.readers`): no exam is asked.

    For passing over many studies; what is shown of them must still fulfil `visibility`.

    Args:
        actor: Who asks.
        priors: His `prior_studies`.
    """
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return Study.trashed_at.is_(None)
    conditions: list[ColumnElement[bool]] = []
    if actor.org_id and (actor.kind == "machine" or actor.has(Role.TECHNOLOGIST, Role.CLINICIAN)):
        conditions.append(Study.org_id == actor.org_id)
    if actor.kind == "person" or exams.archive_of_readers(actor):
        if exams.reads(actor) or exams.archive_of_readers(actor):
            conditions.append(Study.readers.in_((ALL_READERS, actor.org_id)))
        each = _each(_linked().where(exams.visibility(actor, held=False)))
        conditions.append(and_(Study.readers == ASK_EXAMS, each))
        if priors:
            conditions.append(Study.id.in_(priors))
    return and_(Study.trashed_at.is_(None), or_(*conditions) if conditions else false())


_PRIORS: Final = (
    _linked()
    .where(exams.priors(bindparam("holder", type_=String), bindparam("at", type_=UtcDateTime)))
    .distinct()
    .order_by(ExamStudy.study_id)
)


def prior_studies(session: Session, actor: Actor) -> tuple[str, ...]:
    """Ids of the studies that `actor` may know only because he holds an exam of the same human being, in order."""
    if actor.kind != "person" or not exams.reads(actor) or actor.has(*COUNTY_WIDE_ROLES):
        return ()
    now = clock.now()
    found = tuple(session.connection().scalars(_PRIORS, {"holder": actor.id, "at": now}))
    return tuple(sorted({*found, *session.scalars(loans.lent(actor.id, now))}))


def only_lent(session: Session, actor: Actor) -> frozenset[str]:
    """Ids of the studies that `actor` may know for a loan alone: of these he is shown the images, and no report."""
    if actor.kind != "person" or not exams.reads(actor) or actor.has(*COUNTY_WIDE_ROLES):
        return frozenset()
    found = set(session.scalars(loans.lent(actor.id, clock.now())))
    if found:
        known = visibility_knowing(
            actor, tuple(session.connection().scalars(_PRIORS, {"holder": actor.id, "at": clock.now()}))
        )
        found -= set(session.scalars(select(Study.id).where(Study.id.in_(found), known)))
    return frozenset(found)


_REPORT_SERIES: Final = select(Instance.series_id).where(Instance.made_by_hub.is_(True))


def no_reports(lent: frozenset[str]) -> ColumnElement[bool]:
    """Series that may be shown where these studies are only lent: not those in which the hub put their reports."""
    reports = _REPORT_SERIES.where(Instance.study_id.in_(lent))
    return Series.id.not_in(reports)


def seen_lastingly(session: Session, actor: Actor, study_id: str) -> bool:
    """Whether `actor` may know a study for more than an exam that he holds at this moment.

    What he knows as a prior hangs on a lease and on who is whom in the county; both may end at any time.
    """
    if actor.kind != "person" or not exams.reads(actor):
        return True
    return session.scalar(select(Study.id).where(Study.id == study_id, visibility_knowing(actor, ()))) is not None


def visible_to(actor: Actor) -> Select[Study]:
    """Select of the studies that `actor` may know."""
    return select(Study).where(visibility(actor))


def by_uid(session: Session, actor: Actor, uid: str) -> Study:
    """The study of a Study Instance UID.

    Raises:
        NotFound: There is none, or it is not the actor's to know.
        Gone: It is in the trash.
    """
    study = session.scalars(visible_to(actor).where(Study.uid == uid)).one_or_none()
    if study is None:
        raise missing(session, actor, uid)
    session.info[_LENT] = only_lent(session, actor)
    return study


_LENT: Final = "only-lent"
"""Where a session remembers of which studies its actor is shown no report."""


def shown(session: Session, study_id: str) -> ColumnElement[bool]:
    """The condition on the series of a study that `by_uid` has just allowed in this session."""
    lent: frozenset[str] = session.info.get(_LENT, frozenset())
    return no_reports(lent) if study_id in lent else true()


def missing(session: Session, actor: Actor, uid: str) -> NotFound | Gone:
    """What to raise where `actor` finds no study of this UID: that it is in the trash, if he could see it before."""
    trashed = select(Study.id).where(Study.uid == uid, Study.trashed_at.is_not(None), _scope(actor))
    if session.scalar(trashed) is not None:
        return Gone(_("这些影像已删除"))
    return NotFound(_("没有找到这些影像"))


def of_exam(session: Session, exam_id: str) -> list[Study]:
    """The studies linked to an exam that the caller has already been allowed, oldest first."""
    return list(
        session.scalars(
            select(Study)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .where(ExamStudy.exam_id == exam_id)
            .order_by(Study.created_at)
        )
    )


def series_of(session: Session, study_ids: Sequence[str]) -> list[Series]:
    """Series of studies by number."""
    return list(
        session.scalars(
            select(Series)
            .where(Series.study_id.in_(study_ids))
            .order_by(Series.study_id, Series.number.is_(None), Series.number, Series.created_at)
        )
    )


def instances_of(session: Session, study_ids: Sequence[str]) -> list[Instance]:
    """Instances of studies by number, without the columns that only frames need."""
    return list(
        session.scalars(
            select(Instance)
            .where(Instance.study_id.in_(study_ids))
            .order_by(Instance.series_id, Instance.number.is_(None), Instance.number, Instance.uid)
        )
    )


def instance(session: Session, actor: Actor, study_uid: str, series_uid: str, sop_uid: str) -> tuple[Study, Instance]:
    """One instance by its address.

    Raises:
        NotFound: The address names nothing, or nothing that the actor may know.
    """
    row = session.execute(
        select(Study, Instance)
        .join(Instance, Instance.study_id == Study.id)
        .join(Series, Series.id == Instance.series_id)
        .where(Study.uid == study_uid, Series.uid == series_uid, Instance.uid == sop_uid, visibility(actor))
        .where(no_reports(only_lent(session, actor)))
    ).one_or_none()
    if row is None:
        raise missing(session, actor, study_uid)
    return row[0], row[1]


@dataclass(frozen=True, slots=True)
class HeaderRow:
    """The stored header of an instance, with the UIDs that make its address."""

    series_uid: str
    sop_uid: str
    body: bytes


def headers(session: Session, study: Study, *, series_uid: str = "", sop_uid: str = "") -> list[HeaderRow]:
    """Headers of a study, a series or an instance, in order of series and instance number.

    Raises:
        NotFound: There are none.
    """
    statement = (
        select(Series.uid, Instance.uid, InstanceHeader.body)
        .join(Instance, Instance.series_id == Series.id)
        .join(InstanceHeader, InstanceHeader.instance_id == Instance.id)
        .where(Instance.study_id == study.id, shown(session, study.id))
        .order_by(Series.number, Series.uid, Instance.number, Instance.uid)
    )
    if series_uid:
        statement = statement.where(Series.uid == series_uid)
    if sop_uid:
        statement = statement.where(Instance.uid == sop_uid)
    found = [HeaderRow(*row) for row in session.execute(statement)]
    if not found:
        raise NotFound(_("没有找到这些影像"))
    return found


def instances(session: Session, study: Study, *, series_uid: str = "", sop_uid: str = "") -> list[Instance]:
    """Instances of a study, a series, or one, in order of series and instance number.

    Raises:
        NotFound: There are none.
    """
    statement = (
        select(Instance)
        .join(Series, Series.id == Instance.series_id)
        .where(Instance.study_id == study.id, shown(session, study.id))
        .order_by(Series.number, Series.uid, Instance.number, Instance.uid)
    )
    if series_uid:
        statement = statement.where(Series.uid == series_uid)
    if sop_uid:
        statement = statement.where(Instance.uid == sop_uid)
    found = list(session.scalars(statement))
    if not found:
        raise NotFound(_("没有找到这些影像"))
    return found


# --- the county's view of a study's patient -------------------------------------------------------------------------


def county_number() -> ColumnElement[Any]:
    """The county's number of a study's patient: the one of its exam, who was registered and verified, comes first."""
    of_exam = (
        select(CountyPatient.number)
        .join(Patient, Patient.county_patient_id == CountyPatient.id)
        .join(Exam, Exam.patient_id == Patient.id)
        .join(ExamStudy, ExamStudy.exam_id == Exam.id)
        .where(ExamStudy.study_id == Study.id)
        .order_by(ExamStudy.linked_at, Exam.id)
        .limit(1)
        .correlate(Study)
        .scalar_subquery()
    )
    own = (
        select(CountyPatient.number)
        .join(Patient, Patient.county_patient_id == CountyPatient.id)
        .where(Patient.id == Study.patient_id)
        .correlate(Study)
        .scalar_subquery()
    )
    return func.coalesce(of_exam, own)


def county_number_of(session: Session, study: Study) -> str:
    """The county's number of one study's patient."""
    return str(session.scalar(select(county_number()).select_from(Study).where(Study.id == study.id)) or "")


def of_people(people: Select[str]) -> ColumnElement[bool]:
    """Studies whose exam's patient is among `people`; a study without an exam goes by its own patient.

    Looked up from the patients: asked of each study, it would walk the whole archive for one person.
    """
    linked = select(ExamStudy.study_id).join(Exam, Exam.id == ExamStudy.exam_id).where(Exam.patient_id.in_(people))
    other = aliased(Study)
    unlinked = select(other.id).where(other.patient_id.in_(people), ~exists().where(ExamStudy.study_id == other.id))
    return Study.id.in_(union_all(linked, unlinked))


OTHER_IDENTITIES: Final = (
    *("00101000", "00101002", "00100022", "00100024", "00100026", "00100027"),
    # Original Attributes Sequence: what another archive put in the place of, which mostly is the patient's number.
    "04000561",
)
"""Other identifiers of a patient in a header, which are the sending clinic's business."""


# --- viewing is audited once a session and study --------------------------------------------------------------------

_noted: OrderedDict[tuple[str, str, str], None] = OrderedDict()
_noted_lock = threading.Lock()
_MOST_NOTED: Final = 20_000


def note_view(actor: Actor, study_id: str) -> None:
    """Audit that `actor` looks at the images of a study; once for each session (a machine: each key and day).

    What his browser fetched `ahead` is not looked at: it is noted as that, and opening the images later as a view.
    Opens its own transaction: the routes that show images only read.
    """
    day = clock.now().strftime("%Y%m%d")
    mark = actor.session_id[:24] if actor.session_id else f"{day}:{actor.id}"
    # Only readers' pages fetch ahead; of others the header is not believed.
    action = FETCHED_AHEAD if ahead.get() and actor.has(Role.REPORTER, Role.REVIEWER) else VIEWED
    with _noted_lock:
        if (mark, study_id, action) in _noted:
            return
    with database().writing() as session:
        # Held, so that another process does not note the same view at the same instant.
        study = session.get(Study, study_id, with_for_update={"key_share": True, "of": Study})
        if study is None:
            return
        since = clock.now() - timedelta(days=2)
        earlier = session.scalars(
            select(AuditEntry.detail).where(
                AuditEntry.object_type == "study",
                AuditEntry.object_id == study.uid,
                AuditEntry.action == action,
                AuditEntry.actor_id == actor.id,
                AuditEntry.at > since,
            )
        )
        if not any(detail.get("session_mark") == mark for detail in earlier):
            audit.record(
                session,
                actor,
                action,
                "study",
                study.uid,
                org_id=study.org_id,
                patient_id=study.patient_id,
                session_mark=mark,
            )
    with _noted_lock:
        _noted[(mark, study_id, action)] = None
        while len(_noted) > _MOST_NOTED:
            _noted.popitem(last=False)


def forget_views() -> None:
    """Forget which views were noted (tests)."""
    with _noted_lock:
        _noted.clear()
