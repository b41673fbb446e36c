"""JSON API of the checks: of a text that is being written, answers to warnings, and which checks are on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from hub.exams import repository as exam_rows
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import Forbidden
from hub.kit.i18n import LOCALE_COOKIE, Locale, pick_locale
from hub.reports import repository
from hub.reports.checks import policy, schemas, service
from hub.reports.checks.core import FIELDS
from hub.reports.checks.schemas import (
    AnswersBody,
    CheckAnswer,
    CheckBody,
    CheckSettings,
    CheckSettingsBody,
    GivenAnswers,
)
from hub.reports.models import ReportVersion
from hub.sites import service as sites

router = APIRouter(prefix="/api", tags=["checks"])

Writer = Annotated[Actor, require("report.write")]
Viewer = Annotated[Actor, require("report.view")]
Watcher = Annotated[Actor, require("checks.view")]
Setter = Annotated[Actor, require("checks.settings")]


def locale_of(request: Request) -> Locale:
    """The reader's language: his cookie, then his account's."""
    person = getattr(request.state, "person", None)
    return pick_locale(request.cookies.get(LOCALE_COOKIE) or (person.locale if person is not None else None))


@router.post("/exams/{exam_id}/check", summary="Check a text that is being written")
def check(exam_id: str, body: CheckBody, request: Request, session: ReadDb, actor: Writer) -> CheckAnswer:
    """Says what would be said at submitting and signing, of a text that need not be saved. Nothing is kept."""
    exam = exam_rows.get(session, actor, exam_id)
    version = repository.open_version(session, exam_id) if repository.may_see_drafts(actor, exam) else None
    texts = {name: getattr(body, name).replace("\r\n", "\n") for name in FIELDS}
    result = service.check(
        session, actor, exam, texts, positive=body.positive, critical=body.critical, version=version
    )  # fmt: skip
    return schemas.result_of(result, texts, locale_of(request))


@router.post("/exams/{exam_id}/check/answers", summary="Answer warnings; the text stays")
def answer(exam_id: str, body: AnswersBody, request: Request, session: WriteDb, actor: Writer) -> CheckAnswer:
    """About the saved text. Kept with the version, and shown to the reviewer and the quality officer.

    409 `check-changed` where the saved text has no such warning (any more).
    """
    given = [one.answer() for one in body.answers]
    service.answer(session, actor, exam_id, given, lease=body.lease)
    return _of_version(request, session, actor, exam_id)


@router.delete("/exams/{exam_id}/check/answers/{fingerprint}", summary="Take an answer back")
def reopen(
    exam_id: str,
    fingerprint: str,
    request: Request,
    session: WriteDb,
    actor: Writer,
    lease: Annotated[str, Query(max_length=40)] = "",
) -> CheckAnswer:
    """The warning stands again."""
    service.reopen(session, actor, exam_id, fingerprint, lease=lease)
    return _of_version(request, session, actor, exam_id)


def _of_version(request: Request, session: Session, actor: Actor, exam_id: str) -> CheckAnswer:
    exam = exam_rows.get(session, actor, exam_id)
    version = repository.open_version(session, exam_id)
    assert version is not None
    return _answer(request, session, actor, exam.id, version)


def _answer(request: Request, session: Session, actor: Actor, exam_id: str, version: ReportVersion) -> CheckAnswer:
    exam = exam_rows.get(session, actor, exam_id)
    texts = {name: getattr(version, name) for name in FIELDS}
    return schemas.result_of(service.check_version(session, actor, exam, version), texts, locale_of(request))


@router.get("/reports/{version_id}/checks", summary="What the checks say of a version, with the answers")
def of_version(version_id: str, request: Request, session: ReadDb, actor: Viewer) -> CheckAnswer:
    """For the reviewer, and for who looks at quality afterwards; a clinic is not told what readers asked themselves."""
    version, _report, exam = repository.get_version(session, actor, version_id)
    if not repository.may_see_drafts(actor, exam):
        raise Forbidden()
    return _answer(request, session, actor, exam.id, version)


@router.get("/checks/settings", summary="Which checks are on")
def settings(
    request: Request, session: ReadDb, actor: Watcher, org_id: Annotated[str, Query(max_length=26)] = ""
) -> CheckSettings:
    """The county's, or a hospital's; with each check's measured precision and recall, and how it was answered."""
    del actor
    return settings_for(session, org_id or None, locale_of(request))


def settings_for(session: Session, org_id: str | None, locale: str) -> CheckSettings:
    """The table of the settings page."""
    org = sites.get(session, org_id) if org_id else None
    chosen = policy.hospital_levels(org) if org is not None else policy.county_levels(session)
    counts = service.answer_counts(session, since=schemas.counted_since())
    return schemas.settings_of(org_id, chosen, policy.levels(session, org), counts, locale)


@router.put("/checks/settings", summary="Choose which checks are on")
def set_settings(body: CheckSettingsBody, request: Request, session: WriteDb, actor: Setter) -> CheckSettings:
    """For the county, or for a reading hospital, whose choice goes before the county's."""
    if body.org_id:
        policy.set_hospital(session, actor, body.org_id, body.levels)
    else:
        policy.set_county(session, actor, body.levels)
    session.flush()
    return settings_for(session, body.org_id, locale_of(request))


@router.get("/checks/answers", summary="How warnings were answered")
def answers(
    request: Request, session: ReadDb, actor: Watcher, days: Annotated[int, Query(ge=1, le=365)] = 30
) -> GivenAnswers:
    """Newest first, at most 200."""
    found = service.answered(session, actor, since=clock.now() - timedelta(days=days))
    return schemas.given_of(found, locale_of(request))
