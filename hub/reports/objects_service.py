"""A signed report as DICOM objects of its study: a Basic Text SR and an Encapsulated PDF."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.dicom.objects import (
    BASIC_TEXT_SR,
    ENCAPSULATED_PDF,
    Evidence,
    Observer,
    Predecessor,
    ReportObjectContext,
    basic_sr,
    encapsulated_pdf,
    to_part10,
)
from hub.exams.models import Exam
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.reading.words import exam_words
from hub.reports.models import Report, ReportVersion
from hub.reports.states import VersionState
from hub.sites.models import Organisation
from hub.studies import intake
from hub.studies.models import ExamStudy, Instance, Series, Study

log = get_logger(__name__)
_MAX_EVIDENCE = 2000


def make_objects(version_id: str) -> None:
    """Store the SR and the Encapsulated PDF of a signed version; the body of the job `reports.make_objects`.

    The UIDs follow from the report's number and version, so a job that is run again finds what it stored before.

    Raises:
        Conflict: The version is not signed.
        StorageError: The object store is out of reach; the job is tried again.
    """
    with database().reading() as session:
        version = session.get_one(ReportVersion, version_id)
        if version.state != VersionState.SIGNED:
            raise Conflict(_("未签发的报告没有 DICOM 对象"), code="not-signed")
        if version.sr_uid and version.pdf_uid:
            return
        report = session.get_one(Report, version.report_id)
        exam = session.get_one(Exam, report.exam_id)
        study = _study(session, exam)
        if study is None:
            # An exam without images (voided ones apart) cannot be signed; a study may have been moved since.
            log.warning("a signed report has no study", version=version_id)
            return
        context = _context(session, version, report, exam, study)
        predecessor = _predecessor(session, version, report, study)
        pdf_key = version.pdf_key
        scope = {"org_id": exam.org_id, "patient_id": exam.patient_id}
    pdf = object_store().read(pdf_key)
    before_sr, before_pdf = predecessor
    sr = basic_sr(replace(context, predecessors=before_sr))
    wrapped = encapsulated_pdf(replace(context, predecessors=before_pdf), pdf)
    for name, made in (("sr", sr), ("pdf", wrapped)):
        outcome = intake.store_own(SYSTEM, study, to_part10(made), name=f"report-{name}")
        if outcome.status == "refused":
            raise Conflict(outcome.reason, code=outcome.code)
    with database().writing() as session:
        version = session.get_one(ReportVersion, version_id)
        version.sr_uid, version.pdf_uid = str(sr.SOPInstanceUID), str(wrapped.SOPInstanceUID)
        audit.record(session, SYSTEM, "report.objects", "report_version", version_id, sr=version.sr_uid, **scope)


def _study(session: Session, exam: Exam) -> Study | None:
    """The study which the objects join: the exam's first."""
    return session.scalars(
        select(Study)
        .join(ExamStudy, ExamStudy.study_id == Study.id)
        .where(ExamStudy.exam_id == exam.id)
        .order_by(Study.created_at, Study.id)
        .limit(1)
    ).one_or_none()


def _context(session: Session, version: ReportVersion, report: Report, exam: Exam, study: Study) -> ReportObjectContext:
    issuer = session.get_one(Organisation, version.issuer_id or exam.reading_org_id)
    assert version.signed_at is not None
    author = Observer(version.author_name, issuer.name, version.submitted_at or version.signed_at)
    reviewer = Observer(version.reviewer_name or version.author_name, issuer.name, version.signed_at)
    evidence = session.execute(
        select(Series.uid, Instance.sop_class, Instance.uid, Study.uid)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .join(ExamStudy, ExamStudy.study_id == Study.id)
        .where(ExamStudy.exam_id == exam.id, Instance.made_by_hub.is_(False))
        .order_by(Series.number, Instance.number, Instance.uid)
        .limit(_MAX_EVIDENCE)
    )
    # The person of the report, who may be another one than the header's number stands for in the clinic's index (a
    # machine that uses a number twice); and the number by which the other objects of the study know him.
    patient = exam.patient
    number = str(study.header_patient.get("patient_id") or "") or patient.number
    kind = {"original": "final"}.get(version.kind, version.kind)
    return ReportObjectContext(
        study_instance_uid=study.uid,
        patient_id=number,
        patient_name=patient.name,
        patient_sex=patient.sex,
        patient_birth_date=None if patient.birth_estimated else patient.birth_date,
        issuer_of_patient_id=exam.org.issuer,
        report_number=report.number or "",
        signed_at=version.signed_at,
        author=author,
        reviewer=reviewer,
        performing_institution=exam.org.name,
        reading_institution=issuer.name,
        findings=version.findings,
        impression=version.impression,
        recommendation=version.recommendation,
        history=exam.history,
        technique=version.technique,
        comparison=version.comparison,
        version=version.number,
        kind=kind,
        study_date=_date(study.study_date),
        study_time=_time(study.study_time),
        study_id=study.study_id,
        study_description=study.description or exam_words(exam),
        accession_number=exam.accession,
        referring_physician=exam.doctor,
        evidence=tuple(Evidence(series, sop_class, sop, of) for series, sop_class, sop, of in evidence),
        timezone=get_settings().timezone,
    )


def _predecessor(
    session: Session, version: ReportVersion, report: Report, study: Study
) -> tuple[tuple[Predecessor, ...], tuple[Predecessor, ...]]:
    """SR and PDF of the version before, where it has any."""
    before = session.scalars(
        select(ReportVersion)
        .where(
            ReportVersion.report_id == report.id,
            ReportVersion.state == VersionState.SIGNED,
            ReportVersion.number < version.number,
        )
        .order_by(ReportVersion.number.desc())
        .limit(1)
    ).one_or_none()
    found: list[tuple[Predecessor, ...]] = []
    for sop_class, uid in (
        (BASIC_TEXT_SR, before.sr_uid if before else ""),
        (ENCAPSULATED_PDF, before.pdf_uid if before else ""),
    ):
        series = session.scalar(
            select(Series.uid).join(Instance, Instance.series_id == Series.id).where(Instance.uid == uid)
        )
        found.append((Predecessor(series, sop_class, uid, study.uid),) if uid and series else ())
    return found[0], found[1]


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    except ValueError:
        return None


def _time(text: str) -> time | None:
    try:
        return time(int(text[:2]), int(text[2:4] or 0), int(text[4:6] or 0))
    except ValueError:
        return None
