"""DICOM objects made from a signed report: a Basic Text SR and an Encapsulated PDF.

The SR is Basic Text SR (PS3.3 A.35.1) after TID 2000 "Basic Diagnostic Imaging Report" (PS3.16): the report is text by
section, and of all SR classes this is the one that every archive and viewer takes. It is built here and not by
highdicom, which has no class for it, copies the character set of its evidence and insists on a birth date.

Everything is written in UTF-8 (ISO_IR 192) from text that the hub has already repaired, so that nothing depends on the
character set of the sender. Equal input gives equal bytes: a repeated job writes the same object, not a second one.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, ExplicitVRLittleEndian

from hub.dicom import pinyin as sounds

BASIC_TEXT_SR: Final = "1.2.840.10008.5.1.4.1.1.88.11"
ENCAPSULATED_PDF: Final = "1.2.840.10008.5.1.4.1.1.104.1"
DEFAULT_UID_ROOT: Final = "2.25"
IMPLEMENTATION_NAME: Final = "COUNTYHUB_1"
_SR_SERIES_NUMBER: Final = 9001
_PDF_SERIES_NUMBER: Final = 9002

Code = tuple[str, str, str]
"""Code value, coding scheme designator, code meaning."""

SCHEME: Final = "99CIHUB"
_REPORT: Final[Code] = ("18748-4", "LN", "Diagnostic imaging report")
_REPORT_NUMBER: Final[Code] = ("REPORT-NUMBER", SCHEME, "Report Number")
_REPORT_VERSION: Final[Code] = ("REPORT-VERSION", SCHEME, "Report Version")
_PERFORMER: Final[Code] = ("PERFORMED-AT", SCHEME, "Organization that made the images")
_REPORT_KIND: Final[Code] = ("REPORT-KIND", SCHEME, "Kind of Report")

# Section heading of CID 7001, element of CID 7002 (PS3.16).
_SECTIONS: Final[dict[str, tuple[Code, Code]]] = {
    "history": (("121060", "DCM", "History"), ("121060", "DCM", "History")),
    "technique": (("121064", "DCM", "Current Procedure Descriptions"), ("121065", "DCM", "Procedure Description")),
    "comparison": (("121066", "DCM", "Prior Procedure Descriptions"), ("121065", "DCM", "Procedure Description")),
    "findings": (("121070", "DCM", "Findings"), ("121071", "DCM", "Finding")),
    "impression": (("121072", "DCM", "Impressions"), ("121073", "DCM", "Impression")),
    "recommendation": (("121074", "DCM", "Recommendations"), ("121075", "DCM", "Recommendation")),
}

_KINDS: Final = {
    "preliminary": "急诊报告",
    "final": "诊断报告",
    "addendum": "补充报告",
    "correction": "更正报告",
}


# --------------------------------------------------------------------------------------------- input


@dataclass(frozen=True, slots=True)
class Observer:
    """A person who wrote or verified a report.

    Attributes:
        name: as he signs, Chinese or Latin.
        pinyin: romanised name; empty: derived.
        organization: where he reads.
        at: moment of writing or verifying, aware.
    """

    name: str
    organization: str
    at: datetime
    pinyin: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """An instance on which the report rests. `study_instance_uid` empty: the reported study."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The object of the version that this one amends."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""


@dataclass(frozen=True, slots=True)
class ReportObjectContext:
    """All that the two objects say; plain values, so that nothing of the report can change under way.

    Attributes:
        study_instance_uid: the study which the objects join; patient and study attributes must be those of its images.
        study_date, study_time: as in the images, without a zone.
        patient_name, patient_pinyin: Chinese name and its romanisation; become ``Wang^Wei=王^伟``.
        patient_sex: ``M``, ``F``, ``O`` or empty.
        kind: ``preliminary``, ``final``, ``addendum`` or ``correction``.
        completed, verified: Completion Flag COMPLETE/PARTIAL; Verification Flag, which needs a `reviewer`.
        version: from 1; becomes the Instance Number.
        signed_at: aware; becomes the content date and time in `timezone`.
        predecessors: objects of the version before, same SOP class as the one being written.
    """

    study_instance_uid: str
    patient_id: str
    patient_name: str
    report_number: str
    signed_at: datetime
    author: Observer
    performing_institution: str
    reading_institution: str
    findings: str
    impression: str
    version: int = 1
    kind: str = "final"
    completed: bool = True
    verified: bool = True
    reviewer: Observer | None = None
    study_date: date | None = None
    study_time: time | None = None
    study_id: str = ""
    study_description: str = ""
    accession_number: str = ""
    referring_physician: str = ""
    issuer_of_patient_id: str = ""
    patient_pinyin: str = ""
    patient_sex: str = ""
    patient_birth_date: date | None = None
    recommendation: str = ""
    history: str = ""
    technique: str = ""
    comparison: str = ""
    evidence: tuple[Evidence, ...] = ()
    predecessors: tuple[Predecessor, ...] = ()
    timezone: str = "Asia/Shanghai"


# --------------------------------------------------------------------------------------------- text


_HAN: Final = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff·]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]")


def line_text(text: str, limit: int = 64) -> str:
    """Fit text into one value of SH, LO or PN: no backslash, no control characters, at most `limit` characters."""
    flat = re.sub(r"\s+", " ", text.replace("\\", "/"))
    return _CONTROL.sub("", flat).strip()[:limit].strip()


def block_text(text: str) -> str:
    """Fit text into UT: lines end with CR LF, other control characters go (PS3.5 section 6.1.3)."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\r\n".join(_CONTROL.sub("", line).rstrip() for line in lines).strip("\r\n")


def person_name(name: str, pinyin: str = "") -> str:
    """Make a PN value (PS3.5 section 6.2.1.2).

    Args:
        name: ``王伟``, ``Müller^Hans`` or ``John Smith``.
        pinyin: ``Wang Wei`` or ``Wang^Wei``: family name first; empty: derived for Chinese names.

    Returns:
        ``Wang^Wei=王^伟`` for Chinese names, the name itself for others, empty for an empty one.
    """
    plain = line_text(name.replace("=", " "))
    if not plain:
        return ""
    compact = plain.replace(" ", "").replace("^", "")
    if not _HAN.fullmatch(compact):
        return plain
    size = sounds.family_size(compact)
    family, given = plain.split("^", 1) if "^" in plain else (compact[:size], compact[size:])
    ideographic = f"{family}^{given}".rstrip("^")
    latin = line_text(pinyin.replace("=", " "))
    if latin and "^" not in latin:
        first, _, rest = latin.partition(" ")
        latin = f"{first}^{rest.replace(' ', '')}".rstrip("^")
    if not latin.isascii() or not latin:
        latin = "^".join(part.capitalize() for part in sounds.spelled(family, given)).rstrip("^")
    return f"{latin}={ideographic}"


# --------------------------------------------------------------------------------------------- parts


def make_uid(root: str, *parts: object) -> str:
    """Derive a UID from its meaning; equal parts give equal UIDs.

    Args:
        root: the county's UID root, or ``2.25`` for UIDs of the UUID form (PS3.5 annex B.2).
        parts: what the UID stands for.
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    number = int.from_bytes(digest[:16], "big")
    root = root.strip().rstrip(".") or DEFAULT_UID_ROOT
    if root == DEFAULT_UID_ROOT:
        # The shape of a version 8 UUID: what is written after 2.25 must be a UUID.
        number = number & ~(0xF << 76) | (0x8 << 76)
        number = number & ~(0x3 << 62) | (0x2 << 62)
        return f"2.25.{number}"
    room = 64 - len(root) - 1
    if room < 16:
        raise ValueError("the UID root is too long")
    return f"{root}.{str(number)[:room].lstrip('0') or '1'}"


IMPLEMENTATION_CLASS_UID: Final = make_uid(DEFAULT_UID_ROOT, "implementation", IMPLEMENTATION_NAME)
"""Who wrote a file and who speaks on a connection (PS3.7 D.3.3.2)."""


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def _content(value_type: str, relationship: str, concept: Code | None) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    if concept is not None:
        item.ConceptNameCodeSequence = [_code(concept)]
    return item


def _text(relationship: str, concept: Code, text: str) -> Dataset:
    item = _content("TEXT", relationship, concept)
    item.TextValue = text
    return item


def _coded(relationship: str, concept: Code, value: Code) -> Dataset:
    item = _content("CODE", relationship, concept)
    item.ConceptCodeSequence = [_code(value)]
    return item


def _local(context: ReportObjectContext, moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("times of a report must be aware")
    return moment.astimezone(ZoneInfo(context.timezone))


def _da(day: date | None) -> str:
    return day.strftime("%Y%m%d") if day else ""


def _tm(moment: time | datetime | None) -> str:
    return moment.strftime("%H%M%S") if moment else ""


def _dt(moment: datetime) -> str:
    return moment.strftime("%Y%m%d%H%M%S%z")


def _common(context: ReportObjectContext, sop_class: str) -> Dataset:
    """Patient, General Study, General Equipment, SOP Common (PS3.3 C.7.1.1, C.7.2.1, C.7.5.1, C.12.1)."""
    signed = _local(context, context.signed_at)
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID = sop_class
    ds.InstanceCreationDate, ds.InstanceCreationTime = _da(signed), _tm(signed)
    ds.TimezoneOffsetFromUTC = signed.strftime("%z")
    ds.StudyDate, ds.StudyTime = _da(context.study_date), _tm(context.study_time)
    ds.ContentDate, ds.ContentTime = _da(signed), _tm(signed)
    ds.SeriesDate, ds.SeriesTime = _da(signed), _tm(signed)
    ds.AccessionNumber = line_text(context.accession_number, 16)
    ds.ReferringPhysicianName = person_name(context.referring_physician)
    ds.Manufacturer = "County Imaging Hub"
    ds.InstitutionName = line_text(context.reading_institution)
    ds.ManufacturerModelName = "County Imaging Hub"
    ds.SoftwareVersions = IMPLEMENTATION_NAME
    if context.study_description:
        ds.StudyDescription = line_text(context.study_description)
    ds.PatientName = person_name(context.patient_name, context.patient_pinyin)
    ds.PatientID = line_text(context.patient_id)
    if context.issuer_of_patient_id:
        ds.IssuerOfPatientID = line_text(context.issuer_of_patient_id)
    ds.PatientBirthDate = _da(context.patient_birth_date)
    ds.PatientSex = context.patient_sex if context.patient_sex in ("M", "F", "O") else ""
    ds.StudyInstanceUID = context.study_instance_uid
    ds.StudyID = line_text(context.study_id, 16)
    ds.InstanceNumber = context.version
    return ds


def _title(context: ReportObjectContext) -> str:
    return f"{_KINDS.get(context.kind, _KINDS['final'])} {context.report_number} v{context.version}"


def _references(items: Iterable[Evidence | Predecessor], own_study: str, *, other: bool = False) -> list[Dataset]:
    """Group instances by study and series (Hierarchical SOP Instance Reference Macro, PS3.3 C.17.2.1)."""
    studies: dict[str, dict[str, dict[str, str]]] = {}
    for one in items:
        study = one.study_instance_uid or own_study
        studies.setdefault(study, {}).setdefault(one.series_instance_uid, {})[one.sop_instance_uid] = one.sop_class_uid
    sequence = []
    for study, series in studies.items():
        if other == (study == own_study):
            continue
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = []
        for series_uid, instances in series.items():
            part = Dataset()
            part.SeriesInstanceUID = series_uid
            part.ReferencedSOPSequence = [_sop(cls, uid) for uid, cls in instances.items()]
            item.ReferencedSeriesSequence.append(part)
        sequence.append(item)
    return sequence


def _sop(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = sop_class
    item.ReferencedSOPInstanceUID = sop_instance
    return item


def _person(observer: Observer) -> str:
    return person_name(observer.name, observer.pinyin)


def _observer_context(observer: Observer) -> list[Dataset]:
    """TID 1001 → 1002 → 1003: a person (PS3.16)."""
    name = _content("PNAME", "HAS OBS CONTEXT", ("121008", "DCM", "Person Observer Name"))
    name.PersonName = _person(observer)
    items = [
        _coded("HAS OBS CONTEXT", ("121005", "DCM", "Observer Type"), ("121006", "DCM", "Person")),
        name,
    ]
    if observer.organization:
        concept: Code = ("121009", "DCM", "Person Observer's Organization Name")
        items.append(_text("HAS OBS CONTEXT", concept, line_text(observer.organization)))
    return items


# --------------------------------------------------------------------------------------------- the two objects


def basic_sr(
    context: ReportObjectContext,
    *,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
    uid_root: str = DEFAULT_UID_ROOT,
) -> Dataset:
    """Make the Basic Text SR of a report (PS3.3 A.35.1, C.17; TID 2000).

    Args:
        context: the report.
        series_instance_uid, sop_instance_uid: given, or derived from the report's number and version under `uid_root`.
        uid_root: the county's UID root.

    Returns:
        A data set with file meta; `to_part10` writes it.

    Raises:
        ValueError: findings and impression are both empty, a time is naive, or it is verified without a reviewer.
    """
    if not block_text(context.findings) and not block_text(context.impression):
        raise ValueError("a report needs findings or an impression")
    if context.verified and context.reviewer is None:
        raise ValueError("a verified report needs its reviewer")
    ds = _common(context, BASIC_TEXT_SR)
    identity = (context.study_instance_uid, context.report_number)
    ds.SOPInstanceUID = sop_instance_uid or make_uid(uid_root, "sr", *identity, context.version)
    ds.Modality = "SR"
    ds.SeriesInstanceUID = series_instance_uid or make_uid(uid_root, "sr-series", *identity)
    ds.SeriesNumber = _SR_SERIES_NUMBER
    ds.SeriesDescription = line_text(_title(context))
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence()
    scheme = Dataset()
    scheme.CodingSchemeDesignator = SCHEME
    scheme.CodingSchemeName = "County Imaging Hub"
    scheme.CodingSchemeResponsibleOrganization = "County Imaging Hub"
    ds.CodingSchemeIdentificationSequence = [scheme]

    author = Dataset()
    author.ObserverType = "PSN"
    author.PersonName = _person(context.author)
    author.PersonIdentificationCodeSequence = DicomSequence()
    author.InstitutionName = line_text(context.author.organization)
    author.InstitutionCodeSequence = DicomSequence()
    ds.AuthorObserverSequence = [author]
    ds.CompletionFlag = "COMPLETE" if context.completed else "PARTIAL"
    ds.VerificationFlag = "VERIFIED" if context.verified else "UNVERIFIED"
    ds.PreliminaryFlag = "PRELIMINARY" if context.kind == "preliminary" else "FINAL"
    if context.verified and context.reviewer is not None:
        verifier = Dataset()
        verifier.VerifyingObserverName = _person(context.reviewer)
        verifier.VerifyingObserverIdentificationCodeSequence = DicomSequence()
        verifier.VerifyingOrganization = line_text(context.reviewer.organization or context.reading_institution)
        verifier.VerificationDateTime = _dt(_local(context, context.reviewer.at))
        ds.VerifyingObserverSequence = [verifier]
    if context.predecessors:
        ds.PredecessorDocumentsSequence = [
            *_references(context.predecessors, context.study_instance_uid),
            *_references(context.predecessors, context.study_instance_uid, other=True),
        ]
    request = Dataset()
    request.StudyInstanceUID = context.study_instance_uid
    request.ReferencedStudySequence = DicomSequence()
    request.AccessionNumber = ds.AccessionNumber
    request.PlacerOrderNumberImagingServiceRequest = ""
    request.FillerOrderNumberImagingServiceRequest = ""
    request.RequestedProcedureID = ""
    request.RequestedProcedureDescription = line_text(context.study_description)
    request.RequestedProcedureCodeSequence = DicomSequence()
    ds.ReferencedRequestSequence = [request]
    ds.PerformedProcedureCodeSequence = DicomSequence()
    if own := _references(context.evidence, context.study_instance_uid):
        ds.CurrentRequestedProcedureEvidenceSequence = own
    if priors := _references(context.evidence, context.study_instance_uid, other=True):
        ds.PertinentOtherEvidenceSequence = priors

    ds.ValueType = "CONTAINER"
    ds.ContinuityOfContent = "SEPARATE"
    ds.ConceptNameCodeSequence = [_code(_REPORT)]
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2000"
    ds.ContentTemplateSequence = [template]
    language = _coded(
        "HAS CONCEPT MOD",
        ("121049", "DCM", "Language of Content Item and Descendants"),
        ("zh", "RFC5646", "Chinese"),
    )
    language.ContentSequence = [
        _coded("HAS CONCEPT MOD", ("121046", "DCM", "Country of Language"), ("CN", "ISO3166_1", "China"))
    ]
    content = [
        language,
        _text("HAS CONCEPT MOD", _REPORT_KIND, _KINDS.get(context.kind, _KINDS["final"])),
        *_observer_context(context.author),
    ]
    content.append(_text("HAS OBS CONTEXT", _REPORT_NUMBER, line_text(context.report_number)))
    content.append(_text("HAS OBS CONTEXT", _REPORT_VERSION, str(context.version)))
    if performer := line_text(context.performing_institution):
        content.append(_text("HAS OBS CONTEXT", _PERFORMER, performer))
    for name, (heading, element) in _SECTIONS.items():
        text = block_text(getattr(context, name))
        if text:
            section = _content("CONTAINER", "CONTAINS", heading)
            section.ContinuityOfContent = "SEPARATE"
            section.ContentSequence = [_text("CONTAINS", element, text)]
            content.append(section)
    ds.ContentSequence = content
    return _with_meta(ds)


def encapsulated_pdf(
    context: ReportObjectContext,
    pdf: bytes,
    *,
    series_instance_uid: str = "",
    sop_instance_uid: str = "",
    uid_root: str = DEFAULT_UID_ROOT,
) -> Dataset:
    """Wrap the signed PDF of a report (PS3.3 A.45.1, C.24.2). Args and result as `basic_sr`.

    The PDF's bytes stay as they are; Encapsulated Document Length tells them from the padding to an even length.

    Raises:
        ValueError: `pdf` is no PDF, or a time is naive.
    """
    if not pdf.startswith(b"%PDF-"):
        raise ValueError("not a PDF")
    ds = _common(context, ENCAPSULATED_PDF)
    identity = (context.study_instance_uid, context.report_number)
    ds.SOPInstanceUID = sop_instance_uid or make_uid(uid_root, "pdf", *identity, context.version)
    ds.Modality = "DOC"
    ds.SeriesInstanceUID = series_instance_uid or make_uid(uid_root, "pdf-series", *identity)
    ds.SeriesNumber = _PDF_SERIES_NUMBER
    ds.SeriesDescription = line_text(_title(context))
    ds.ConversionType = "WSD"
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"
    ds.DocumentTitle = _title(context)
    ds.ConceptNameCodeSequence = [_code(_REPORT)]
    ds.VerificationFlag = "VERIFIED" if context.verified else "UNVERIFIED"
    sources = dict.fromkeys((one.sop_class_uid, one.sop_instance_uid) for one in context.evidence)
    if sources:
        ds.SourceInstanceSequence = [_sop(*source) for source in sources]
    if context.predecessors:
        ds.PredecessorDocumentsSequence = [
            *_references(context.predecessors, context.study_instance_uid),
            *_references(context.predecessors, context.study_instance_uid, other=True),
        ]
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pdf)
    ds.add_new(0x00420011, "OB", pdf + b"\0" * (len(pdf) % 2))
    return _with_meta(ds)


def _with_meta(ds: Dataset) -> Dataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    ds.file_meta = meta
    return ds


def to_part10(ds: Dataset) -> bytes:
    """Write a data set with file meta as a DICOM file (PS3.10 section 7)."""
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


# --------------------------------------------------------------------------------------------- reading back


@dataclass(frozen=True, slots=True)
class ReportText:
    """Text found in an SR; empty where a section is missing. Lines end with LF."""

    report_number: str = ""
    version: str = ""
    kind: str = ""
    author: str = ""
    performing_institution: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)


def read_basic_sr(ds: Dataset) -> ReportText:
    """Read back what `basic_sr` wrote."""

    def key(item: Dataset) -> str:
        names: Sequence[Any] = item.get("ConceptNameCodeSequence") or []
        return str(names[0].CodeValue) if names else ""

    top = {key(item): item for item in ds.ContentSequence}
    sections = {}
    for name, (heading, _) in _SECTIONS.items():
        section = top.get(heading[0])
        if section is not None:
            parts = [str(part.TextValue) for part in section.ContentSequence if part.ValueType == "TEXT"]
            sections[name] = "\n".join(parts).replace("\r\n", "\n")
    texts = {code: str(top[code].TextValue) for code in top if top[code].ValueType == "TEXT"}
    name = top["121008"].PersonName if "121008" in top else ""
    return ReportText(
        report_number=texts.get(_REPORT_NUMBER[0], ""),
        version=texts.get(_REPORT_VERSION[0], ""),
        kind=texts.get(_REPORT_KIND[0], ""),
        author=str(name),
        performing_institution=texts.get(_PERFORMER[0], ""),
        sections=sections,
    )


def read_pdf(ds: Dataset) -> bytes:
    """Take the PDF out of an Encapsulated PDF, without the padding."""
    length = ds.get("EncapsulatedDocumentLength")
    document: bytes = ds.EncapsulatedDocument
    return document[: int(length)] if length is not None else document
