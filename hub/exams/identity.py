"""Whether images belong to the patient of their exam.

Township machines carry pinyin names and birth dates invented from an age: a name that spells the registered one, or
a birth date within the stated age, is agreement, and noted. What truly disagrees stays open with both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from hub.dicom.identity import Age, birth_within_age, parse_age
from hub.dicom.pinyin import same_name
from hub.exams.catalogue import years_between
from hub.exams.models import Exam
from hub.kit.settings import get_settings
from hub.patients.links import UNKNOWN_NAME
from hub.patients.service import hub_given

_SEXES = {"M": "M", "F": "F", "男": "M", "女": "F", "MALE": "M", "FEMALE": "F", "1": "M", "2": "F"}


@dataclass(frozen=True, slots=True)
class IdentityResult:
    """What the comparison found.

    Attributes:
        agreement: "ok", "noted" (agrees by pinyin or age, or one side is silent), "open" (disagrees).
        notes: One dictionary for each thing worth showing: `kind` "identity", `field` (name, sex, birth_date, age,
            number), `agreement` (pinyin, age, missing, differs), `registered`, `header`.
    """

    agreement: Literal["ok", "noted", "open"]
    notes: list[dict[str, Any]] = field(default_factory=list)


def header_sex(text: str) -> str:
    """PatientSex (0010,0040) as "M", "F", or "" where it says neither."""
    return _SEXES.get(text.strip().upper(), "")


def header_date(text: str) -> date | None:
    """A birth date as in Study.header_patient (ISO, or DICOM's DA); None where there is none or it cannot be."""
    digits = "".join(char for char in text if char.isdigit())
    if len(digits) != 8:
        return None
    try:
        found = date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None
    return found if found.year > 1850 else None


def exam_day(exam: Exam) -> date:
    """The civil day of the exam in the county's zone."""
    moment: datetime = exam.exam_at or exam.registered_at
    return moment.astimezone(ZoneInfo(get_settings().timezone)).date()


def check_identity(exam: Exam, header: dict[str, Any]) -> IdentityResult:
    """Compare an exam's registration with the identity in its images' header.

    Args:
        exam: The exam; its patient and `stated_*` are the registered side.
        header: Study.header_patient: `name`, `patient_id`, `sex`, `birth_date` (ISO or ""), `age` (AS text).
    """
    notes: list[dict[str, Any]] = []
    for found in (
        _name(exam, str(header.get("name") or "")),
        _sex(exam, str(header.get("sex") or "")),
        _birth(exam, header),
        _number(exam, str(header.get("patient_id") or "")),
    ):
        if found is not None:
            notes.append({"kind": "identity", **found})
    if any(note["agreement"] == "differs" for note in notes):
        return IdentityResult("open", notes)
    return IdentityResult("noted" if notes else "ok", notes)


def _note(name: str, agreement: str, registered: str, header: str) -> dict[str, Any]:
    return {"field": name, "agreement": agreement, "registered": registered, "header": header}


def _name(exam: Exam, header: str) -> dict[str, Any] | None:
    registered = exam.patient.name
    shown = header.replace("^", " ").strip()
    if registered == UNKNOWN_NAME:
        return _note("name", "differs", registered, shown) if shown else None
    verdict = same_name(registered, header)
    if verdict == "differs" and same_name(header, registered) in ("equal", "pinyin"):
        verdict = "pinyin"
    if verdict == "equal":
        return None
    if verdict == "unknown":
        return _note("name", "missing", registered, shown)
    return _note("name", verdict, registered, shown)


def _sex(exam: Exam, header: str) -> dict[str, Any] | None:
    registered, found = exam.patient.sex, header_sex(header)
    if registered not in ("M", "F") or not found or registered == found:
        return None
    return _note("sex", "differs", registered, found)


def _stated_years(exam: Exam, day: date) -> int | None:
    stated = parse_age(exam.stated_age) if exam.stated_age else None
    if stated is not None:
        return stated.years
    born = exam.stated_birth_date or exam.patient.birth_date
    return years_between(born, day) if born and born <= day else None


def _birth(exam: Exam, header: dict[str, Any]) -> dict[str, Any] | None:
    day = exam_day(exam)
    born = exam.stated_birth_date or (None if exam.patient.birth_estimated else exam.patient.birth_date)
    years = _stated_years(exam, day)
    registered = born.isoformat() if born else exam.stated_age
    found = header_date(str(header.get("birth_date") or ""))
    if found is not None:
        if born == found or (born is None and years is None):
            return None
        if years is not None and birth_within_age(found, years, day):
            return _note("birth_date", "age", registered, found.isoformat())
        return _note("birth_date", "differs", registered, found.isoformat())
    age: Age | None = parse_age(str(header.get("age") or ""))
    if age is None or years is None or abs(age.years - years) <= 1:
        return None
    return _note("age", "differs", registered, str(header.get("age")))


def _number(exam: Exam, header: str) -> dict[str, Any] | None:
    registered, found = exam.patient.number, header.strip()
    if not found or not registered or hub_given(registered):
        return None
    others = {registered, exam.accession, exam.encounter_number, exam.patient.identity_number} - {""}
    if found.casefold() in {other.casefold() for other in others}:
        return None
    return _note("number", "differs", registered, found)
