"""Signing one displayed report: render, sign, store, and then one transaction.

Rendering, signing and storing take time and hold no lock. All that others can see happens in the one transaction at
the end: killed before it, nothing was signed and only an object that nobody refers to is left; killed after it, the
report is signed and the jobs that return it lie in the outbox. Asked again, a signed report answers as it did.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.accounts.models import LoginSession, Person
from hub.audit import service as audit
from hub.dicom.identity import mask
from hub.exams import limits
from hub.exams import service as exams
from hub.exams.catalogue import ENCOUNTERS
from hub.exams.models import Exam
from hub.exams.service import NO_LEASE
from hub.exams.states import Event
from hub.kit import clock, jobs, live
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, HubError, NotFound, Unavailable
from hub.kit.i18n import _, translate
from hub.kit.ids import new_id
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.serials import next_serial
from hub.kit.settings import Settings, get_settings
from hub.patients.models import CountyPatient
from hub.reading import service as reading
from hub.reading.words import age_words, body_part_words, modality_words, sex_words
from hub.reports import identities, repository
from hub.reports.checks import service as checks
from hub.reports.critical import record as critical_record
from hub.reports.critical import service as criticals
from hub.reports.document import Exam as PrintedExam
from hub.reports.document import (
    Issuer,
    KeyFigure,
    Patient,
    ReportDocument,
    ReportKind,
    SignatureStatement,
    render_pdf,
)
from hub.reports.models import Report, ReportVersion
from hub.reports.policy import check_complete, check_identity, check_preliminary, signing_event
from hub.reports.recognition.marks import mark_of
from hub.reports.review import service as review
from hub.reports.service import TEXTS, body_of, content_hash, keep, move
from hub.reports.signing.signer import UnlockedKey, describe, standing_sentence
from hub.reports.signing.verify import format_code, new_verification_code, normalise_code
from hub.reports.states import KIND_NAMES, RELEASED, VersionEvent, VersionState
from hub.reports.texts import copied, links
from hub.sites.models import Organisation
from storage.errors import StorageError
from storage.keys import new_key

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SignedReport:
    """What the signer gets: `repeated` where the report had been signed by this very request before."""

    version_id: str
    exam_id: str
    number: str
    version: int
    signed_at: datetime
    verification_code: str
    timestamped: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class _Draft:
    """Everything that the page needs, read in one transaction."""

    version_id: str
    revision: int
    document: ReportDocument
    figures: tuple[tuple[str, str, str], ...]
    key: UnlockedKey
    hash: str
    code: str
    at: datetime
    preliminary: bool
    reason: str


def sign(
    actor: Actor,
    version_id: str,
    *,
    lease: str,
    revision: int,
    shown: str,
    cookie: str | None,
    preliminary: bool = False,
    settings: Settings | None = None,
) -> SignedReport:
    """Sign the report that was displayed.

    A preliminary report is signed like a formal one, by its author alone and with what his certificate is worth; it
    says on each page what it is, becomes a version of its own, and the draft goes on to its review.

    Args:
        actor: The signer.
        version_id: The version on his screen.
        lease: Token of his lease on the exam; empty for an addendum or correction.
        revision: The version's revision on his screen.
        shown: Content hash of what stood there.
        cookie: What his browser's signing cookie holds.
        preliminary: Issue it as a preliminary report.
        settings: By default those of the process.

    Raises:
        KeyLocked: The PIN is due.
        Conflict: `revision-conflict`, `content-changed`, `lease-lost`, `own-report`, `needs-review`, `identity-open`,
            `wrong-state`, `attending-needed`, `grade-missing`, `conclusion-unstated`, `conclusion-differs`,
            `preliminary-not-allowed`, `checks` (a warning that nobody answered).
        Invalid: A mandatory field is empty.
        Unavailable: The object store is out of reach; nothing was signed.
    """
    settings = settings or get_settings()
    with database().reading() as session:
        if (done := _already(session, actor, version_id, shown, preliminary)) is not None:
            return done
        version, exam, _event = _checked(
            session,
            actor,
            version_id,
            lease=lease,
            revision=revision,
            shown=shown,
            preliminary=preliminary,
            lock=False,
        )
        checks.enforce(session, actor, exam, version)
        identities.session_key(session, actor, cookie, settings)
    number = _number(actor, version_id, settings)
    with database().reading() as session:
        draft = _gather(session, actor, version_id, number, shown, cookie, settings, preliminary)
    try:
        pdf, serial, timestamped = _render_and_sign(draft, settings)
        store, key = object_store(), new_key("reports")
        sha256 = hashlib.sha256(pdf).hexdigest()
        store.put(key, pdf, size=len(pdf), sha256=sha256, content_type="application/pdf")
    except StorageError as error:
        log.error("object store out of reach while signing", kind=type(error).__name__)
        raise Unavailable(_("对象存储暂时不可用,报告没有签发,请稍后再试"), code="store-unavailable") from error
    try:
        with database().writing() as session:
            return _commit(
                session,
                actor,
                draft,
                lease=lease,
                number=number,
                serial=serial,
                pdf_key=key,
                pdf_sha256=sha256,
                timestamped=timestamped,
            )
    except HubError:
        # Refused before the commit, so nobody refers to the object. After any other error the commit may have happened.
        with contextlib.suppress(StorageError):
            store.delete(key)
        with database().reading() as session:
            # Two requests of one click: the other one was first.
            if (done := _already(session, actor, version_id, shown, preliminary)) is not None:
                return done
        raise


def _already(
    session: Session, actor: Actor, version_id: str, shown: str, preliminary: bool
) -> SignedReport | None:  # fmt: skip
    version = session.get(ReportVersion, version_id, populate_existing=True)
    if version is not None and preliminary and version.state == VersionState.DRAFT:
        # Taken back since, word for word the same: it is to be issued again, or its formal report would never come.
        version = None
    elif version is not None and preliminary:
        # The draft goes on; what was issued of it is a version beside it.
        version = session.scalars(
            select(ReportVersion)
            .where(
                ReportVersion.report_id == version.report_id,
                ReportVersion.state == VersionState.ISSUED,
                ReportVersion.content_sha256 == shown,
                ReportVersion.signer_id == actor.id,
            )
            .order_by(ReportVersion.number.desc())
            .limit(1)
        ).one_or_none()
    elif version is not None and version.state != VersionState.SIGNED:
        version = None
    if version is None:
        return None
    if version.signer_id != actor.id or version.content_sha256 != shown:
        raise Conflict(_("这份报告已经签发"), code="already-signed")
    report = session.get_one(Report, version.report_id)
    assert version.signed_at is not None
    return SignedReport(
        version_id=version.id,
        exam_id=report.exam_id,
        number=report.number or "",
        version=version.number,
        signed_at=version.signed_at,
        verification_code=version.verification_code or "",
        timestamped=version.timestamped,
        repeated=True,
    )


def _checked(
    session: Session,
    actor: Actor,
    version_id: str,
    *,
    lease: str,
    revision: int,
    shown: str,
    preliminary: bool,
    lock: bool,
) -> tuple[ReportVersion, Exam, Event]:
    """Version and exam, if this very text may be signed by this very person now."""
    version, _report, exam = repository.get_version(session, actor, version_id)
    if lock:
        exam = reading.locked(session, actor, exam.id)
        session.refresh(version, with_for_update=True)
    if exam.reading_org_id != actor.org_id:
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    if preliminary:
        check_preliminary(exam, version, actor)
        event = Event.ISSUE_PRELIMINARY
    else:
        event = signing_event(exam, version, actor)
    held = event in (Event.SIGN, Event.ISSUE_PRELIMINARY)
    if held and (not lease or exam.lease_token != lease or exam.lease_person_id != actor.id):
        raise reading.lease_lost(session, exam)
    exams.rule_for(exam, event, actor)
    if version.revision != revision:
        raise Conflict(
            _("报告的文字在您核对之后有改动,请核对最新内容再签名"), code="revision-conflict", revision=version.revision
        )
    if content_hash(version, exam) != shown:
        raise Conflict(_("报告内容与您核对的不一致,请刷新页面后再签名"), code="content-changed")
    check_complete(version)
    copied.check(version)
    check_identity(exam)
    if not preliminary:
        review.check_before_signing(session, actor, version, exam)
    return version, exam, event


def _number(actor: Actor, version_id: str, settings: Settings) -> str:
    """The report's number: `hospital code-date-serial`, given once and kept should the signature fail."""
    with database().writing() as session:
        version, report, exam = repository.get_version(session, actor, version_id)
        session.refresh(report, with_for_update=True)
        if report.number is None:
            hospital = session.get_one(Organisation, exam.reading_org_id)
            day = clock.local(clock.now(), settings.timezone).strftime("%Y%m%d")
            serial = next_serial(session, f"report:{hospital.code}:{day}")
            report.number = f"{hospital.code}-{day}-{serial:04d}"
            audit.record(
                session,
                actor,
                "report.number",
                "report",
                report.id,
                org_id=exam.org_id,
                patient_id=exam.patient_id,
                number=report.number,
                version=version.id,
            )
        return report.number


def _gather(
    session: Session,
    actor: Actor,
    version_id: str,
    number: str,
    shown: str,
    cookie: str | None,
    settings: Settings,
    preliminary: bool,
) -> _Draft:
    version, report, exam = repository.get_version(session, actor, version_id)
    hospital = session.get_one(Organisation, exam.reading_org_id)
    key = identities.session_key(session, actor, cookie, settings)
    code, at = new_verification_code(), clock.now().replace(microsecond=0)
    previous = repository.latest_signed(session, report.id) or repository.preliminary_of(session, report.id)
    reason = version.reason if preliminary else version.reason or review.preliminary_words(session, actor, version)
    return _Draft(
        version_id=version.id,
        revision=version.revision,
        document=document_of(
            session,
            version,
            exam,
            hospital,
            number=number,
            previous=previous,
            signer=session.get_one(Person, actor.id),
            signed_at=at,
            key=key,
            code=code,
            settings=settings,
            kind=ReportKind.PRELIMINARY if preliminary else ReportKind(version.kind),
            reason=reason,
        ),
        figures=tuple((image["key"], image["sha256"], image.get("caption", "")) for image in version.key_images),
        key=key,
        hash=shown,
        code=code,
        at=at,
        preliminary=preliminary,
        reason=reason,
    )


def document_of(
    session: Session,
    version: ReportVersion,
    exam: Exam,
    hospital: Organisation,
    *,
    number: str,
    previous: ReportVersion | None,
    signer: Person,
    signed_at: datetime,
    key: UnlockedKey,
    code: str,
    settings: Settings,
    kind: ReportKind,
    reason: str,
) -> ReportDocument:
    """What the page says; its figures are put in by whoever renders it."""
    patient, clinic = exam.patient, exam.org
    county = session.get_one(CountyPatient, patient.county_patient_id)
    issued = kind is ReportKind.PRELIMINARY
    alone = issued or version.author_id == signer.id
    encounter = exam.encounter
    zone = settings.timezone
    prior = ""
    if previous is not None and previous.signed_at is not None:
        what = "急诊报告 " if previous.kind == "preliminary" else ""
        prior = f"{what}{number} 第{previous.number}版 {clock.local(previous.signed_at, zone):%Y-%m-%d %H:%M}"
    return ReportDocument(
        issuer=Issuer(hospital.name, hospital.phone, f"{settings.county_name}影像中心"),
        requesting_organisation=clinic.name,
        number=number,
        recognition_mark=mark.text if (mark := mark_of(session, exam)) and kind is not ReportKind.PRELIMINARY else "",
        patient=Patient(
            name=patient.name,
            sex=sex_words(patient.sex),
            age=age_words(exam),
            birth_date=None if patient.birth_estimated else patient.birth_date,
            masked_identity=mask(patient.identity_number) if patient.identity_number else "",
            clinic_number=patient.number,
            county_number=county.number,
            outpatient_number=exam.encounter_number if encounter != "inpatient" else "",
            inpatient_number=exam.encounter_number if encounter == "inpatient" else "",
            bed=exam.bed,
        ),
        exam=PrintedExam(
            modality=modality_words(exam.modality),
            body_parts=tuple(body_part_words(exam)) or ((exam.procedure,) if exam.procedure else ()),
            performed_at=exam.exam_at,
            registered_at=exam.registered_at,
            accession_number=exam.accession,
            encounter=str(ENCOUNTERS[encounter]) if encounter in ENCOUNTERS else "",
            department=exam.department,
            doctor=exam.doctor,
        ),
        findings=version.findings,
        impression=version.impression,
        version=version.number,
        kind=kind,
        reason=reason,
        prior_version=prior,
        history=exam.history,
        technique=version.technique,
        comparison=version.comparison,
        recommendation=version.recommendation,
        positive=version.positive,
        critical=version.critical,
        critical_record=tuple(
            translate(line, "zh") for line in critical_record.lines(session, exam.id, marked=version.critical)
        ),
        author=signer.name if issued else version.author_name or signer.name,
        reviewer="" if alone else signer.name,
        signed_at=signed_at,
        verification_code=format_code(normalise_code(code)),
        verification_url=f"{settings.public_url}/v/{normalise_code(code)}",
        signature=SignatureStatement(
            translate(standing_sentence(key.standing), "zh"), describe(key.certificate).serial, False
        ),
        sample=bool(hospital.sample or clinic.sample),
        zone=zone,
    )


def _render_and_sign(draft: _Draft, settings: Settings) -> tuple[bytes, str, bool]:
    """The signed PDF, its certificate's serial number, and whether it bears a time stamp. No transaction is open."""
    store = object_store()
    figures = []
    for key, sha256, caption in draft.figures:
        data = store.read(key)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise Unavailable(_("一张关键图像已损坏,请删除后重新截取"), code="figure-damaged")
        figures.append(KeyFigure(data, caption))
    document = replace(draft.document, figures=tuple(figures))
    statement = document.signature
    assert statement is not None

    def render(stamped: bool) -> bytes:
        rendered = render_pdf(replace(document, signature=replace(statement, time_stamp=stamped)))
        if rendered.replaced_characters:
            log.info("characters without a glyph", version=draft.version_id, count=len(rendered.replaced_characters))
        return rendered.bytes

    # pyHanko comes with it: twenty megabytes that only who signs needs.
    from hub.reports.signing.pades import sign_rendered

    signed = sign_rendered(
        render,
        draft.key,
        reason=f"{KIND_NAMES[document.kind.value]} {document.number}",
        location=document.issuer.name,
        name=describe(draft.key.certificate).name,
        signed_at=draft.at,
        tsa_url=settings.tsa_url or None,
    )
    if signed.timestamp == "missing":
        log.warning("no time stamp", version=draft.version_id, reason=signed.timestamp_error)
    return signed.pdf, signed.serial, signed.timestamp == "present"


def _commit(
    session: Session,
    actor: Actor,
    draft: _Draft,
    *,
    lease: str,
    number: str,
    serial: str,
    pdf_key: str,
    pdf_sha256: str,
    timestamped: bool,
) -> SignedReport:
    """All that others see, in one transaction."""
    version, exam, event = _checked(
        session,
        actor,
        draft.version_id,
        lease=lease,
        revision=draft.revision,
        shown=draft.hash,
        preliminary=draft.preliminary,
        lock=True,
    )
    identities.check_unrevoked(session, actor, serial)
    signature: dict[str, Any] = {
        "signed_at": draft.at,
        "signer_id": actor.id,
        "issuer_id": exam.reading_org_id,
        "content_sha256": draft.hash,
        "certificate_serial": serial,
        "verification_code": normalise_code(draft.code),
        "pdf_key": pdf_key,
        "pdf_sha256": pdf_sha256,
        "standing": draft.key.standing.value,
        "timestamped": timestamped,
    }
    if draft.preliminary:
        version = _issue(session, actor, exam, version, signature)
        _announce_signed(session, actor, exam, version, number)
        return _answer(version, exam, number)
    if draft.reason != (version.reason or review.preliminary_words(session, actor, version)):
        raise Conflict(_("报告内容与您核对的不一致,请刷新页面后再签名"), code="content-changed")
    review.finish(session, actor, version, exam)
    alone = version.author_id == actor.id
    move(
        session,
        actor,
        version,
        VersionEvent.SIGN,
        author_id=version.author_id or actor.id,
        author_name=version.author_name or actor.name,
        reviewer_id=None if alone else actor.id,
        reviewer_name="" if alone else actor.name,
        reason=draft.reason,
        **signature,
    )
    changes: dict[str, Any] = {"positive": version.positive, "critical": version.critical}
    if event is Event.SIGN:
        changes |= {"author_id": version.author_id, "reviewer_id": version.reviewer_id, **NO_LEASE}
    exams.apply(session, actor, exam, event, reason=version.reason, **changes)
    _announce_signed(session, actor, exam, version, number)
    return _answer(version, exam, number)


def _issue(
    session: Session, actor: Actor, exam: Exam, draft: ReportVersion, signature: dict[str, Any]
) -> ReportVersion:  # fmt: skip
    """The preliminary version; the draft, one number on, waits for its review."""
    now = clock.now()
    number = draft.number
    move(
        session,
        actor,
        draft,
        VersionEvent.SUBMIT,
        number=number + 1,
        author_id=actor.id,
        author_name=actor.name,
        submitted_at=now,
        review_note="",
    )
    keep(session, actor, draft, "submitted", body_of(draft))
    version = ReportVersion(
        id=new_id(),
        report_id=draft.report_id,
        number=number,
        kind="preliminary",
        state=VersionState.DRAFT.value,
        revision=draft.revision,
        **{name: getattr(draft, name) for name in (*TEXTS, "positive", "critical")},
        key_images=list(draft.key_images),
        author_id=actor.id,
        author_name=actor.name,
        created_at=now,
        saved_at=draft.saved_at,
        saved_by=draft.saved_by,
        submitted_at=now,
    )
    session.add(version)
    session.flush()
    links.carry(session, draft, version)
    move(session, actor, version, VersionEvent.ISSUE, **signature)
    exams.apply(
        session, actor, exam, Event.ISSUE_PRELIMINARY, author_id=actor.id, critical=version.critical, **NO_LEASE
    )
    # From here the formal report's limit counts.
    exam.due_at = limits.due_at(session, exam)
    session.flush()
    return version


def _announce_signed(session: Session, actor: Actor, exam: Exam, version: ReportVersion, number: str) -> None:
    """The jobs, the record and the live change of a signature."""
    issued = version.state == VersionState.ISSUED
    criticals.on_issue(session, actor, exam, version)
    urgent = 1 if exam.priority == "emergency" else 3
    jobs.enqueue(
        session, "delivery.return_report", {"version_id": version.id}, key=f"return:{version.id}", priority=urgent
    )
    if not issued:
        jobs.enqueue(session, "reports.make_objects", {"version_id": version.id}, key=f"objects:{version.id}")
    if actor.session_id:
        session.execute(
            update(LoginSession).where(LoginSession.id == actor.session_id).values(signing_used_at=clock.now())
        )
    audit.record(
        session,
        actor,
        "report.issue_preliminary" if issued else "report.sign",
        "report_version",
        version.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
        number=number,
        pdf_sha256=version.pdf_sha256,
        certificate=version.certificate_serial,
        standing=version.standing,
        timestamped=version.timestamped,
    )
    live.publish(
        session,
        "report",
        exam.id,
        orgs=[exam.org_id, exam.reading_org_id],
        event="issued" if issued else "signed",
        version_id=version.id,
    )


def _answer(version: ReportVersion, exam: Exam, number: str) -> SignedReport:
    assert version.signed_at is not None
    return SignedReport(
        version_id=version.id,
        exam_id=exam.id,
        number=number,
        version=version.number,
        signed_at=version.signed_at,
        verification_code=version.verification_code or "",
        timestamped=version.timestamped,
    )


def read_pdf(session: Session, actor: Actor, version_id: str) -> tuple[ReportVersion, Report, Exam]:
    """A signed or issued version whose PDF the actor may open.

    Raises:
        NotFound: It is not signed, or not his to know.
    """
    version, report, exam = repository.get_version(session, actor, version_id)
    if version.state not in RELEASED or not version.pdf_key:
        raise NotFound(_("这份报告还没有签发"))
    return version, report, exam


def file_name(version: ReportVersion, report: Report) -> str:
    """The PDF's name for a download: the report's number, and no patient data."""
    return f"{report.number}-v{version.number}.pdf"
