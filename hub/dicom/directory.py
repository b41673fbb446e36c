"""A DICOMDIR (PS3.10 §8, PS3.3 annex F) for files that are about to be written, from their headers alone."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from hub.dicom.transcoding import EXPLICIT, encode_dataset, meta_of

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

KEYS: Final = (
    "00080020",
    "00080023",
    "00080030",
    "00080033",
    "00080050",
    "00080060",
    "00081030",
    "0008103E",
    "00100010",
    "00100020",
    "0020000D",
    "0020000E",
    "00200010",
    "00200011",
    "00200013",
    "00280008",
    "00280010",
    "00280011",
    "0040A032",
    "0040A043",
    "0040A491",
    "0040A493",
    "00420010",
    "00420012",
    "00700080",
    "00700081",
    "00700082",
    "00700083",
    "00700084",
)
"""Attributes that records are made of, by tag."""

_BY_WORD: Final = (
    ("Key Object Selection", "KEY OBJECT DOC"),
    ("SR Storage", "SR DOCUMENT"),
    ("SR - Trial", "SR DOCUMENT"),
    ("Structured Report", "SR DOCUMENT"),
    (" SR ", "SR DOCUMENT"),
    ("CAD", "SR DOCUMENT"),
    ("Dose SR", "SR DOCUMENT"),
    ("Encapsulated", "ENCAP DOC"),
    ("Presentation State", "PRESENTATION"),
    ("Waveform", "WAVEFORM"),
    ("ECG", "WAVEFORM"),
    ("RT Dose", "RT DOSE"),
    ("RT Structure Set", "RT STRUCTURE SET"),
    ("RT Plan", "RT PLAN"),
    ("RT Ion Plan", "RT PLAN"),
    ("Treatment Record", "RT TREAT RECORD"),
    ("Registration", "REGISTRATION"),
    ("Fiducials", "FIDUCIAL"),
    ("Real World Value", "VALUE MAP"),
    ("Spectroscopy", "SPECTROSCOPY"),
    ("Raw Data", "RAW DATA"),
)

_NEXT_AT: Final = 8 + 8
_LOWER_AT: Final = 8 + 12 + 10 + 8
"""Where in an item the offsets of the next and of the lower record stand."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the file-set.

    Attributes:
        path: Components of its name, each up to 8 characters of A–Z, 0–9 and _ (PS3.10 §8.2).
        sop_class: SOP Class UID.
        sop_instance: SOP Instance UID.
        syntax: Transfer Syntax UID.
        header: Its header as DICOM JSON (PS3.18 annex F); `KEYS` are looked at.
        has_pixels: Whether it is an image.
    """

    path: tuple[str, ...]
    sop_class: str
    sop_instance: str
    syntax: str
    header: dict[str, Any]
    has_pixels: bool


@dataclass(slots=True)
class _Record:
    data: Dataset
    lower: list[_Record] = field(default_factory=list)
    offset: int = 0
    body: bytearray = field(default_factory=bytearray)


def record_type(sop_class: str, *, has_pixels: bool) -> str:
    """The type of the record for objects of a SOP class; "" where the standard has none."""
    name = str(UID(sop_class).name)
    for word, kind in _BY_WORD:
        if word in name:
            return kind
    return "IMAGE" if has_pixels else ""


def dicomdir(entries: Iterable[Entry], *, uid: str, name: str = "") -> bytes:
    """Make a DICOMDIR.

    Args:
        entries: The files, in order. Those of which the standard has no record are left out, as it allows.
        uid: SOP Instance UID of the directory.
        name: File-set ID.

    Returns:
        The file.
    """
    roots: list[_Record] = []
    patients: dict[str, _Record] = {}
    studies: dict[str, _Record] = {}
    series: dict[str, _Record] = {}
    for entry in entries:
        kind = record_type(entry.sop_class, has_pixels=entry.has_pixels)
        if not kind:
            continue
        header = Dataset.from_json({tag: entry.header[tag] for tag in KEYS if _plain(entry.header.get(tag))})
        number = _text(header, "PatientID") or "NONE"
        if number not in patients:
            patients[number] = _record("PATIENT", header, {"PatientName": "", "PatientID": "NONE"})
            roots.append(patients[number])
        study_uid = _text(header, "StudyInstanceUID")
        if study_uid not in studies:
            made = _record(
                "STUDY",
                header,
                {
                    "StudyDate": "",
                    "StudyTime": "",
                    "AccessionNumber": "",
                    "StudyDescription": "",
                    "StudyInstanceUID": "",
                    "StudyID": "1",
                },
            )
            studies[study_uid] = made
            patients[number].lower.append(made)
        series_uid = _text(header, "SeriesInstanceUID")
        if series_uid not in series:
            made = _record(
                "SERIES",
                header,
                {"Modality": "OT", "SeriesInstanceUID": "", "SeriesNumber": str(len(series) + 1)},
            )
            series[series_uid] = made
            studies[study_uid].lower.append(made)
        series[series_uid].lower.append(_leaf(kind, entry, header, len(series[series_uid].lower) + 1))
    return _written(roots, uid, name)


def _plain(element: Any) -> bool:
    return isinstance(element, dict) and "vr" in element and "BulkDataURI" not in element


def _text(header: Dataset, keyword: str) -> str:
    return str(header.get(keyword) or "").strip()


def _record(kind: str, header: Dataset, keys: dict[str, str]) -> _Record:
    data = Dataset()
    data.OffsetOfTheNextDirectoryRecord = 0
    data.RecordInUseFlag = 0xFFFF
    data.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    data.DirectoryRecordType = kind
    data.SpecificCharacterSet = "ISO_IR 192"
    for keyword, default in keys.items():
        value = header.get(keyword)
        setattr(data, keyword, default if value is None or not str(value).strip() else value)
    return _Record(data)


_LEAF_KEYS: Final[dict[str, dict[str, str]]] = {
    "SR DOCUMENT": {
        "ContentDate": "19000101",
        "ContentTime": "000000",
        "CompletionFlag": "PARTIAL",
        "VerificationFlag": "UNVERIFIED",
    },
    "KEY OBJECT DOC": {"ContentDate": "19000101", "ContentTime": "000000"},
    "ENCAP DOC": {
        "ContentDate": "",
        "ContentTime": "",
        "DocumentTitle": "",
        "MIMETypeOfEncapsulatedDocument": "application/pdf",
    },
    "PRESENTATION": {
        "ContentLabel": "UNKNOWN",
        "ContentDescription": "",
        "PresentationCreationDate": "19000101",
        "PresentationCreationTime": "000000",
        "ContentCreatorName": "",
    },
    "WAVEFORM": {"ContentDate": "19000101", "ContentTime": "000000"},
}
"""Keys of a record beside Instance Number, with what stands where the object has none."""


def _leaf(kind: str, entry: Entry, header: Dataset, number: int) -> _Record:
    made = _record(kind, header, {"InstanceNumber": str(number), **_LEAF_KEYS.get(kind, {})})
    data = made.data
    data.ReferencedFileID = list(entry.path)
    data.ReferencedSOPClassUIDInFile = entry.sop_class
    data.ReferencedSOPInstanceUIDInFile = entry.sop_instance
    data.ReferencedTransferSyntaxUIDInFile = entry.syntax
    if kind in ("SR DOCUMENT", "KEY OBJECT DOC", "ENCAP DOC"):
        concept = header.get("ConceptNameCodeSequence")
        data.ConceptNameCodeSequence = concept if concept is not None else []
    if kind == "IMAGE":
        for keyword in ("NumberOfFrames", "Rows", "Columns"):
            if header.get(keyword):
                setattr(data, keyword, header.get(keyword))
    return made


def _written(roots: list[_Record], uid: str, name: str) -> bytes:
    meta = meta_of(MEDIA_STORAGE_DIRECTORY, uid, EXPLICIT)
    head = Dataset()
    head.FileSetID = name
    head.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    head.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    head.FileSetConsistencyFlag = 0
    lead = encode_dataset(head, implicit=False)
    # Offsets are numbers of a fixed length: lay all out first, then fill them in.
    order: list[_Record] = []

    def laid(records: list[_Record]) -> None:
        for record in records:
            order.append(record)
            laid(record.lower)

    laid(roots)
    at = len(meta) + len(lead) + 12
    for record in order:
        body = encode_dataset(record.data, implicit=False)
        record.body = bytearray(struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body)
        record.offset = at
        at += len(record.body)

    def linked(records: list[_Record]) -> None:
        for record, following in zip(records, [*records[1:], None], strict=False):
            struct.pack_into("<L", record.body, _NEXT_AT, following.offset if following is not None else 0)
            struct.pack_into("<L", record.body, _LOWER_AT, record.lower[0].offset if record.lower else 0)
            linked(record.lower)

    linked(roots)
    head.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = roots[0].offset if roots else 0
    head.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = roots[-1].offset if roots else 0
    items = b"".join(bytes(record.body) for record in order)
    sequence = struct.pack("<HH", 0x0004, 0x1220) + b"SQ" + struct.pack("<HL", 0, len(items))
    return meta + encode_dataset(head, implicit=False) + sequence + items
