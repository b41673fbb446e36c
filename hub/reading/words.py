"""How an exam and its patient are named to people."""

from __future__ import annotations

from hub.dicom.identity import age_at, parse_age
from hub.exams.catalogue import BODY_PARTS, MODALITIES, SEXES
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.i18n import Message, _, translate
from hub.kit.settings import get_settings

_AGES = {"Y": _("{n}岁"), "M": _("{n}个月"), "W": _("{n}周"), "D": _("{n}天")}


def age_of(exam: Exam) -> Message | None:
    """The patient's age at the exam: by his date of birth, or as the clinic stated it."""
    day = clock.local(exam.exam_at or exam.registered_at, get_settings().timezone).date()
    born = exam.stated_birth_date or exam.patient.birth_date
    age = parse_age(exam.stated_age) if exam.stated_age else None
    if age is None and born is not None:
        age = age_at(born, day)
    return _AGES[age.unit].format(n=age.value) if age is not None else None


def age_words(exam: Exam, locale: str = "zh") -> str:
    """The age in words; empty where it is not known."""
    age = age_of(exam)
    return translate(age, locale) if age is not None else ""


def sex_words(sex: str, locale: str = "zh") -> str:
    """The sex in words; empty where it is not known."""
    return translate(SEXES[sex], locale) if sex in SEXES else ""


def body_part_words(exam: Exam, locale: str = "zh") -> list[str]:
    """Names of the body parts that were asked for."""
    return [translate(BODY_PARTS[part].name, locale) if part in BODY_PARTS else part for part in exam.body_parts]


def modality_words(modality: str, locale: str = "zh") -> str:
    """The modality as people call it."""
    return translate(MODALITIES[modality], locale) if modality in MODALITIES else modality


def exam_words(exam: Exam, locale: str = "zh") -> str:
    """`CT 头颅、颈部` / `CT Head, Neck`."""
    parts = ("、" if locale == "zh" else ", ").join(body_part_words(exam, locale))
    return f"{modality_words(exam.modality, locale)} {parts or exam.procedure}".strip()
