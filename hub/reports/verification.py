"""What anybody may learn of a report: whether it is what was issued, and no more than is needed for that."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.db import database
from hub.kit.errors import NotFound
from hub.kit.i18n import Message, _
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.reports import identities, repository
from hub.reports.models import Report, ReportVersion
from hub.reports.signing.signer import Standing, standing_sentence
from hub.reports.signing.verify import (
    NOTES,
    PROBLEMS,
    BadCode,
    Verification,
    format_code,
    normalise_code,
    verify_pdf,
)
from hub.reports.states import RELEASED
from hub.sites.models import Organisation
from storage.errors import StorageError

log = get_logger(__name__)
MAX_FILE = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class IssuedReport:
    """The public part of a signed version.

    Attributes:
        patient: masked name, e.g. 王*.
        newer: number and time of a later correction, which counts instead.
        added: number and time of a later addendum, to be read with it.
    """

    number: str
    version: int
    kind: str
    issuer: str
    issuer_en: str
    signed_at: datetime
    signer: str
    patient: str
    code: str
    sha256: str
    newer: tuple[int, datetime] | None
    added: tuple[int, datetime] | None
    sample: bool
    void: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of the public page.

    `verdict`: "valid"; "void" (well signed, but its exam was made void); "superseded" (a correction counts);
    "changed" (not the bytes that were signed); "invalid" (no or a bad signature); "unknown" (well signed, but the
    hub has no record of having issued it); "unreadable" (the hub's own copy is out of reach).
    """

    verdict: str
    report: IssuedReport | None
    signature: Verification | None
    standing: Message | None
    problems: tuple[Message, ...] = ()
    notes: tuple[Message, ...] = ()


def mask_name(name: str) -> str:
    """Keep the first character: 王伟 → 王*, Müller → M*****. The length of a Chinese name says little; it is kept."""
    name = name.strip()
    return name[:1] + "*" * max(1, min(len(name) - 1, 6)) if name else "*"


def by_code(code: str) -> Finding:
    """Look up a verification code, and check the hub's own copy of the file.

    Raises:
        NotFound: No such code. A code with a typing mistake says so.
    """
    try:
        plain = normalise_code(code)
    except BadCode:
        raise NotFound(_("查验码有误:应为 16 位字母和数字,请核对后重新输入"), code="bad-code") from None
    with database().reading() as session:
        version = session.scalars(
            select(ReportVersion).where(ReportVersion.verification_code == plain, ReportVersion.state.in_(RELEASED))
        ).one_or_none()
        if version is None:
            raise NotFound(_("没有查到这个查验码"), code="unknown-code")
        issued, key = _issued(session, version), version.pdf_key
    try:
        pdf = object_store().read(key)
    except StorageError as error:
        log.error("a signed report is out of reach", kind=type(error).__name__)
        return Finding("unreadable", issued, None, None)
    return _judged(pdf, issued)


def by_file(pdf: bytes) -> Finding:
    """Judge a file by itself and by what the hub has issued."""
    sha256 = hashlib.sha256(pdf).hexdigest()
    with database().reading() as session:
        version = session.scalars(
            select(ReportVersion).where(ReportVersion.pdf_sha256 == sha256, ReportVersion.state.in_(RELEASED))
        ).first()
        issued = _issued(session, version) if version is not None else None
    return _judged(pdf, issued)


def _judged(pdf: bytes, issued: IssuedReport | None) -> Finding:
    with database().reading() as session:
        roots = identities.trust_roots(session)
    revoked = identities.revocation_list()
    found = verify_pdf(
        pdf,
        trust_roots=roots,
        tsa_roots=_tsa_roots(),
        revocation_lists=[revoked] if revoked else [],
        known_sha256=issued.sha256 if issued else None,
    )
    problems = tuple(PROBLEMS[code] for code in found.problems)
    notes = tuple(NOTES[code] for code in found.notes)
    standing = standing_sentence(Standing(found.standing)) if found.standing is not None else None
    if found.valid and issued is not None:
        verdict = "void" if issued.void else "superseded" if issued.newer else "valid"
    elif found.valid:
        verdict = "unknown"
    else:
        verdict = "changed" if found.changed_after_signing else "invalid"
    return Finding(verdict, issued, found, standing, problems, notes)


def _tsa_roots() -> list[bytes]:
    """The roots of the time-stamp authority, DER; none where the operator named none."""
    name = get_settings().tsa_roots
    if not name:
        return []
    try:
        found = x509.load_pem_x509_certificates(Path(name).read_bytes())
    except (OSError, ValueError) as error:
        log.error("HUB_TSA_ROOTS cannot be read", kind=type(error).__name__)
        return []
    return [certificate.public_bytes(Encoding.DER) for certificate in found]


def _formal(session: Session, version: ReportVersion) -> tuple[int, datetime] | None:
    """What prevails over a preliminary report: the formal one, or a later preliminary."""
    found = repository.latest_signed(session, version.report_id) or repository.preliminary_of(
        session, version.report_id
    )
    later = found is not None and found.number > version.number and found.signed_at is not None
    return (found.number, found.signed_at) if found is not None and found.signed_at is not None and later else None


def _issued(session: Session, version: ReportVersion) -> IssuedReport:
    report = session.get_one(Report, version.report_id)
    exam = session.get_one(Exam, report.exam_id)
    issuer = session.get_one(Organisation, version.issuer_id or exam.reading_org_id)

    def later(kind: str) -> tuple[int, datetime] | None:
        found = repository.later_signed(session, version, kind)
        return (found.number, found.signed_at) if found is not None and found.signed_at is not None else None

    assert version.signed_at is not None
    return IssuedReport(
        number=report.number or "",
        version=version.number,
        kind=version.kind,
        issuer=issuer.name,
        issuer_en=issuer.name_en,
        signed_at=version.signed_at,
        signer=version.reviewer_name or version.author_name,
        patient=mask_name(exam.patient.name),
        code=format_code(version.verification_code or ""),
        sha256=version.pdf_sha256,
        newer=_formal(session, version) if version.kind == "preliminary" else later("correction"),
        added=later("addendum"),
        sample=bool(issuer.sample or exam.org.sample),
        void=exam.state == State.VOID,
    )
