"""Queries for reports. Every one is reached from an exam that the actor may know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, literal_column, select
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.exams.models import Exam
from hub.exams.repository import visibility, visible_to
from hub.kit.actor import Actor
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.reports.models import Report, ReportVersion, SavedText
from hub.reports.states import OPEN, RELEASED, VersionState


def report_of(session: Session, exam_id: str) -> Report | None:
    """The exam's report, if one was begun."""
    return session.scalars(select(Report).where(Report.exam_id == exam_id)).one_or_none()


def open_version(session: Session, exam_id: str, *, lock: bool = False) -> ReportVersion | None:
    """The version that may still change; at most one."""
    statement = (
        select(ReportVersion)
        .join(Report, Report.id == ReportVersion.report_id)
        .where(Report.exam_id == exam_id, ReportVersion.state.in_(OPEN))
        .order_by(ReportVersion.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    )
    if lock:
        statement = statement.with_for_update(of=ReportVersion)
    return session.scalars(statement).one_or_none()


def signed_versions(session: Session, exam_ids: Iterable[str]) -> dict[str, list[ReportVersion]]:
    """Signed versions of exams, newest first."""
    found: dict[str, list[ReportVersion]] = {}
    rows = session.execute(
        select(Report.exam_id, ReportVersion)
        .join(Report, Report.id == ReportVersion.report_id)
        .where(Report.exam_id.in_(list(exam_ids)), ReportVersion.state == VersionState.SIGNED)
        .order_by(ReportVersion.number.desc())
    )
    for exam_id, version in rows:
        found.setdefault(exam_id, []).append(version)
    return found


def versions_of(session: Session, report_id: str) -> Sequence[ReportVersion]:
    """All versions that were not discarded, newest first."""
    return session.scalars(
        select(ReportVersion)
        .where(ReportVersion.report_id == report_id, ReportVersion.state != VersionState.DISCARDED)
        .order_by(ReportVersion.number.desc())
    ).all()


def may_see_drafts(actor: Actor, exam: Exam) -> bool:
    """Whether unsigned text of an exam, and what was said of it before it was signed, is the actor's to read.

    Readers of the hospital that reads the exam and the county's overseers; never a clinic, and not a reader of another
    hospital, who knows the exam as a prior of one that he holds: he is told what was signed.
    """
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return True
    return actor.has(Role.REPORTER, Role.REVIEWER, Role.EXPERT) and exam.reading_org_id in (None, actor.org_id)


def get_version(session: Session, actor: Actor, version_id: str) -> tuple[ReportVersion, Report, Exam]:
    """A version with its report and exam.

    Raises:
        NotFound: It does not exist, or is not the actor's to know (a clinic and the readers of other hospitals know
            what was signed or issued only).
    """
    version = session.get(ReportVersion, version_id, populate_existing=True)
    if version is not None:
        report = session.get_one(Report, version.report_id)
        exam = session.scalars(visible_to(actor).where(Exam.id == report.exam_id)).one_or_none()
        if exam is not None and (version.state in RELEASED or may_see_drafts(actor, exam)):
            return version, report, exam
    raise NotFound(_("没有找到这份报告"))


def latest_signed(session: Session, report_id: str) -> ReportVersion | None:
    """The version that counts."""
    return session.scalars(
        select(ReportVersion)
        .where(ReportVersion.report_id == report_id, ReportVersion.state == VersionState.SIGNED)
        .order_by(ReportVersion.number.desc())
        .limit(1)
    ).one_or_none()


def preliminary_of(session: Session, report_id: str) -> ReportVersion | None:
    """The preliminary report that the clinic has, the newest of them."""
    return session.scalars(
        select(ReportVersion)
        .where(ReportVersion.report_id == report_id, ReportVersion.state == VersionState.ISSUED)
        .order_by(ReportVersion.number.desc())
        .limit(1)
    ).one_or_none()


def later_signed(session: Session, version: ReportVersion, kind: str) -> ReportVersion | None:
    """The newest signed version of a kind after this one: a correction replaces it, an addendum adds to it."""
    return session.scalars(
        select(ReportVersion)
        .where(
            ReportVersion.report_id == version.report_id,
            ReportVersion.state == VersionState.SIGNED,
            ReportVersion.kind == kind,
            ReportVersion.number > version.number,
        )
        .order_by(ReportVersion.number.desc())
        .limit(1)
    ).one_or_none()


def saved_texts(session: Session, version_id: str, *, event: str | None = None, limit: int = 50) -> Sequence[SavedText]:
    """Text that the draft no longer holds, newest first."""
    statement = select(SavedText).where(SavedText.version_id == version_id)
    if event:
        statement = statement.where(SavedText.event == event)
    return session.scalars(statement.order_by(SavedText.at.desc(), SavedText.id.desc()).limit(limit)).all()


def open_amendments(session: Session, actor: Actor, *, limit: int = 100) -> list[Exam]:
    """Exams whose signed report is getting an addendum or a correction, oldest first."""
    # The few versions by themselves, and written out: so their own index gives them, and no other report is looked at.
    words: list[ColumnElement[str]] = [literal_column(f"'{state.value}'") for state in sorted(OPEN)]
    began: dict[str, datetime] = {}
    for report_id, at in session.execute(
        select(ReportVersion.report_id, ReportVersion.created_at)
        .where(ReportVersion.kind != literal_column("'original'"), ReportVersion.state.in_(words))
        .order_by(ReportVersion.created_at)
    ):
        began.setdefault(report_id, at)
    if not began:
        return []
    rows = session.execute(
        select(Exam, Report.id)
        .join(Report, Report.exam_id == Exam.id)
        .where(visibility(actor), Report.id.in_(list(began)))
    ).unique()
    return [exam for exam, _report in sorted(rows, key=lambda row: began[row[1]])][:limit]
