"""The page of a report: to read, to print."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.delivery import service as delivery
from hub.exams.catalogue import ENCOUNTERS
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import require
from hub.patients.models import CountyPatient
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports import repository
from hub.reports.critical import record as critical_record
from hub.reports.models import Report, ReportVersion
from hub.reports.recognition.marks import mark_of
from hub.reports.review import service as review
from hub.reports.signing.signer import Standing, standing_sentence
from hub.reports.signing.verify import format_code
from hub.reports.states import KIND_NAMES, RELEASED, VersionState
from hub.reports.texts import links
from hub.sites.models import Organisation
from hub.studies.models import ExamStudy, Instance
from hub.web import recognition
from hub.web.pages import locale_of, render

router = APIRouter(tags=["reading"], include_in_schema=False)


@router.get("/reports/{version_id}", include_in_schema=False)
def report_page(request: Request, version_id: str, actor: Annotated[Actor, require("report.view")]) -> Response:
    """A signed report to read and print; opened by somebody of the clinic, it counts as seen."""
    with database().reading() as session:
        version, report, exam = repository.get_version(session, actor, version_id)
    with database().writing() as session:
        audit.record(
            session,
            actor,
            "report.view",
            "report_version",
            version.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            exam=exam.id,
        )
        delivery.see_version(session, actor, version.id)
    with database().reading() as session:
        version, report, exam = repository.get_version(session, actor, version_id)
        values = _report(request, session, actor, version, report, exam)
    return render(request, "reports/report.html", values)


def _report(
    request: Request, session: Session, actor: Actor, version: ReportVersion, report: Report, exam: Exam
) -> dict[str, Any]:
    locale = locale_of(request)
    english = locale == "en"
    drafts = repository.may_see_drafts(actor, exam)
    own_clinic = exam.org_id == actor.org_id
    versions = [v for v in repository.versions_of(session, report.id) if drafts or v.state in RELEASED]
    signed = [v for v in versions if v.state == VersionState.SIGNED]
    preliminary = version.kind == "preliminary"
    # A preliminary report gives way to whatever was signed or issued after it, another version to a correction only.
    newer = [
        v
        for v in versions
        if v.number > version.number
        and v.state in RELEASED
        and (preliminary or (v.kind == "correction" and v.state == VersionState.SIGNED))
    ]
    issuer = session.get(Organisation, version.issuer_id or exam.reading_org_id or "")
    county = session.get_one(CountyPatient, exam.patient.county_patient_id)
    deliveries = delivery.deliveries_of(session, [v.id for v in versions])
    return {
        "exam": exam,
        "report": report,
        "version": version,
        "versions": versions,
        "newer": newer[0] if newer else None,
        "formal": newer[0] if preliminary and newer and newer[0].state == VersionState.SIGNED else None,
        "added": next((v for v in signed if v.number > version.number and v.kind == "addendum"), None)
        if not preliminary
        else None,
        "changes": review.changes_of(session, exam.id),
        "critical_record": critical_record.lines(session, exam.id, marked=version.critical),
        "conclusion_names": review.CONCLUSION_NAMES,
        "kind_names": KIND_NAMES,
        "issuer": (issuer.name_en if english and issuer.name_en else issuer.name) if issuer else "",
        "issuer_phone": issuer.phone if issuer else "",
        "clinic": exam.org.name_en if english and exam.org.name_en else exam.org.name,
        "code": format_code(version.verification_code or ""),
        "sample": bool(exam.org.sample or (issuer and issuer.sample)),
        "age": age_words(exam, locale),
        "sex": sex_words(exam.patient.sex, locale),
        "title": exam_words(exam, locale),
        "encounter": ENCOUNTERS.get(exam.encounter),
        "county_number": county.number,
        "mark": mark_of(session, exam) if version.state == VersionState.SIGNED else None,
        "recognition": recognition.notice(session, actor, exam),
        "own_clinic": own_clinic,
        "deliveries": deliveries,
        "report_links": links.standing(version),
        "delivery": deliveries.get(version.id),
        "standing": standing_sentence(Standing(version.standing)) if version.standing else None,
        "has_images": session.scalar(
            select(Instance.id)
            .join(ExamStudy, ExamStudy.study_id == Instance.study_id)
            .where(ExamStudy.exam_id == exam.id)
            .limit(1)
        )
        is not None,
    }
