"""What a report says, as plain values: the whole input of the printed page.

Nothing here knows a database. Times are aware; the page shows them in ``ReportDocument.zone``. Free text is
plain text with line breaks; nothing in it is ever read as markup.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class ReportKind(StrEnum):
    """Which version of a report this is."""

    ORIGINAL = "original"
    ADDENDUM = "addendum"
    CORRECTION = "correction"
    PRELIMINARY = "preliminary"


@dataclass(frozen=True, slots=True)
class Issuer:
    """The organisation that read the images and answers for the report.

    Attributes:
        name: full name, printed as the letterhead.
        phone: number a clinician may ring about the report; empty if none.
        centre: the county's imaging centre, printed small above the letterhead; empty if none.
    """

    name: str
    phone: str = ""
    centre: str = ""


@dataclass(frozen=True, slots=True)
class Patient:
    """Who the report is about, as it may be printed.

    Attributes:
        sex: printed as given, e.g. ``"男"``.
        age: text with unit, e.g. ``"63岁"``, ``"12天"``.
        masked_identity: identity number already masked (``"360731********1234"``); the full one is never printed.
        clinic_number: the requesting organisation's own patient number.
        county_number: the county index's number.
    """

    name: str
    sex: str = ""
    age: str = ""
    birth_date: date | None = None
    masked_identity: str = ""
    clinic_number: str = ""
    county_number: str = ""
    outpatient_number: str = ""
    inpatient_number: str = ""
    bed: str = ""


@dataclass(frozen=True, slots=True)
class Exam:
    """The exam that was read.

    Attributes:
        modality: printed as given, e.g. ``"CT"``.
        performed_at: when the images were taken; None if the device's clock cannot be right.
        registered_at: when the clinic registered the request.
        encounter: e.g. ``"急诊"``.
    """

    modality: str
    body_parts: tuple[str, ...] = ()
    performed_at: datetime | None = None
    registered_at: datetime | None = None
    accession_number: str = ""
    encounter: str = ""
    department: str = ""
    doctor: str = ""


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A key image: JPEG or PNG bytes (told apart by their first bytes) and a caption of one line."""

    image: bytes
    caption: str = ""


@dataclass(frozen=True, slots=True)
class SignatureStatement:
    """What the foot of the page says about the signature, so that nobody takes it for more than it is.

    Attributes:
        standing: one sentence on the certificate, e.g. `standing_sentence(Standing.HUB_CA)`.
        certificate_serial: serial number of the certificate as hexadecimal text.
        time_stamp: a trusted time stamp is part of the signature. False prints that it is missing.
    """

    standing: str
    certificate_serial: str = ""
    time_stamp: bool = False


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """One version of one report, ready to be printed.

    Attributes:
        issuer: the *reading* organisation; it issues the report.
        requesting_organisation: the clinic that asked for it. Never printed as the issuer.
        number: report number issued by the hub.
        version: 1 for the first.
        reason: why this version exists; for an addendum or a correction.
        prior_version: reference to the version that this one adds to or replaces, e.g. ``"第1版 2026-03-02 10:41"``.
        positive: True 阳性, False 阴性, None not stated.
        critical_record: who was told of each critical value, when and how, as it stood at signing.
        author, reviewer: names; the reviewer is empty where one signature is the policy.
        signed_at: None for a draft.
        recognition_mark: scope + HR, e.g. ``"江西HR"``; it covers the images, not the conclusion.
        verification_code, verification_url: the code is printed, the address becomes the QR code.
        sample: made by the sample county; printed across each page so that nobody takes it for real.
        zone: IANA name of the county's time zone.
    """

    issuer: Issuer
    requesting_organisation: str
    number: str
    patient: Patient
    exam: Exam
    findings: str
    impression: str
    version: int = 1
    kind: ReportKind = ReportKind.ORIGINAL
    reason: str = ""
    prior_version: str = ""
    history: str = ""
    technique: str = ""
    comparison: str = ""
    recommendation: str = ""
    positive: bool | None = None
    critical: bool = False
    critical_record: tuple[str, ...] = ()
    author: str = ""
    reviewer: str = ""
    signed_at: datetime | None = None
    figures: tuple[KeyFigure, ...] = ()
    verification_code: str = ""
    verification_url: str = ""
    recognition_mark: str = ""
    signature: SignatureStatement | None = None
    sample: bool = False
    zone: str = "Asia/Shanghai"
