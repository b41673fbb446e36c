"""What every part of the reading page's panel is about: the exam, its report, and what the actor may do with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from fastapi import Request
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams import repository as exam_rows
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.i18n import Locale
from hub.reading import repository as reading_rows
from hub.reading import service as reading
from hub.reports import repository
from hub.reports.models import Report, ReportVersion
from hub.reports.policy import AMENDABLE, may_review_amendment
from hub.reports.states import RELEASED, VersionState
from hub.studies.models import ExamStudy, Study
from hub.web.pages import locale_of


@dataclass(frozen=True)
class Panel:
    """One exam on the reading page of one actor.

    Attributes:
        mode: What the page lets the actor do: edit, review, amend, amend-review, or view.
        version: The version that may still change.
        versions: All of them, newest first.
        shown: The version whose text stands in the panel.
    """

    request: Request
    session: Session
    actor: Actor
    exam: Exam
    locale: Locale
    mode: str
    report: Report | None
    version: ReportVersion | None
    versions: Sequence[ReportVersion]
    shown: ReportVersion | None

    @property
    def writes(self) -> bool:
        """Whether there is a form."""
        return self.mode != "view"

    @property
    def english(self) -> bool:
        """Whether the page is in English."""
        return self.locale == "en"

    @property
    def same_hospital(self) -> bool:
        """Whether the actor's hospital reads the exam."""
        return self.exam.reading_org_id == self.actor.org_id

    @cached_property
    def studies(self) -> Sequence[Study]:
        """The exam's studies, oldest first."""
        return self.session.scalars(
            select(Study)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .where(ExamStudy.exam_id == self.exam.id)
            .order_by(Study.created_at)
        ).all()

    @cached_property
    def priors(self) -> Sequence[Exam]:
        """The county patient's earlier exams that the actor may know, newest first."""
        return reading_rows.priors(self.session, self.actor, self.exam)

    @cached_property
    def names(self) -> dict[str, str]:
        """Names of the exam's holder and author, by person."""
        return reading.holder_names(self.session, [self.exam])

    @property
    def holder(self) -> str:
        """Who works on the exam at this moment."""
        return self.names.get(self.exam.lease_person_id or "", "") if reading.lease_is_live(self.exam) else ""


def open_panel(request: Request, session: Session, actor: Actor, exam_id: str) -> Panel:
    """The panel of an exam.

    Raises:
        NotFound: There is none, or it is not the actor's to know.
    """
    exam = exam_rows.get(session, actor, exam_id)
    report = repository.report_of(session, exam.id)
    drafts = repository.may_see_drafts(actor, exam)
    version = repository.open_version(session, exam.id) if drafts else None
    versions = list(repository.versions_of(session, report.id)) if report else []
    versions = [one for one in versions if drafts or one.state in RELEASED]
    latest = next((v for v in versions if v.state == VersionState.SIGNED), None)
    mode = mode_of(exam, version, actor)
    shown = version if version is not None and (mode != "view" or latest is None) else latest
    return Panel(request, session, actor, exam, locale_of(request), mode, report, version, versions, shown)


def mode_of(exam: Exam, version: ReportVersion | None, actor: Actor) -> str:
    """What the page lets the actor do: edit, review, amend, amend-review, or view."""
    held = exam.lease_person_id == actor.id
    if exam.state == State.READING and held:
        return "edit"
    if exam.state == State.REVIEWING and held:
        return "review"
    if State(exam.state) in AMENDABLE and version is not None and exam.reading_org_id == actor.org_id:
        if version.state == VersionState.DRAFT and version.author_id == actor.id:
            return "amend"
        if may_review_amendment(exam, version, actor):
            return "amend-review"
    return "view"
