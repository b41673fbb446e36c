"""The 18-digit resident identity number (GB 11643-1999), ages, and birth dates invented from an age."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECK: Final = "10X98765432"
_REGIONS: Final = frozenset(
    {11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52, 53, 54}
    | {61, 62, 63, 64, 65, 71, 81, 82, 83, 91}
)


@dataclass(frozen=True, slots=True)
class IdentityNumber:
    """A valid number.

    Attributes:
        normalised: 17 digits and a digit or capital X.
        birth_date: Digits 7 to 14.
        sex: From the 17th digit: odd M, even F.
    """

    normalised: str
    birth_date: date
    sex: Literal["M", "F"]


@dataclass(frozen=True, slots=True)
class IdentityProblem:
    """Why a number is not valid.

    Attributes:
        code: ``empty``, ``length``, ``characters``, ``region``, ``date``, ``check-digit``.
        message_zh: A sentence for the person typing.
        message_en: The same in English.
    """

    code: str
    message_zh: str
    message_en: str


def check_identity_number(text: str, *, today: date | None = None) -> IdentityNumber | IdentityProblem:
    """Check and normalise an identity number as typed: full-width digits, spaces and a small x are forgiven.

    Args:
        text: As typed.
        today: Birth dates after it are wrong; the current day if absent.
    """
    number = re.sub(r"[\s\-]", "", unicodedata.normalize("NFKC", text)).upper().replace("×", "X").replace("Х", "X")
    if not number:
        return IdentityProblem("empty", "未填写身份证号。", "No identity number was given.")
    if len(number) != 18:
        return IdentityProblem(
            "length",
            f"身份证号应为 18 位,现有 {len(number)} 位。",
            f"An identity number has 18 characters, this has {len(number)}.",
        )
    if not re.fullmatch(r"[0-9]{17}[0-9X]", number):
        return IdentityProblem(
            "characters", "身份证号只能是数字,末位可为 X。", "Only digits are allowed, and an X at the end."
        )
    if int(number[:2]) not in _REGIONS:
        return IdentityProblem("region", "身份证号前两位不是省级代码。", "The first two digits are no province's.")
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        born = date.min
    now = today or date.today()  # noqa: DTZ011 - a civil date; a day's difference at midnight does not matter here
    if not date(1880, 1, 1) <= born <= now + timedelta(days=1):
        return IdentityProblem(
            "date", "身份证号中的出生日期不存在。", "The birth date within the number is no real date."
        )
    total = sum(int(d) * w for d, w in zip(number, _WEIGHTS, strict=False))
    if _CHECK[total % 11] != number[17]:
        return IdentityProblem(
            "check-digit", "身份证号校验位不符,请核对。", "The number's check digit does not fit; look again."
        )
    return IdentityNumber(number, born, "M" if int(number[16]) % 2 else "F")


def check_digit(first17: str) -> str:
    """Give the 18th character for 17 digits.

    Raises:
        ValueError: Not 17 ASCII digits.
    """
    if not re.fullmatch(r"[0-9]{17}", first17):
        msg = "17 digits expected"
        raise ValueError(msg)
    return _CHECK[sum(int(d) * w for d, w in zip(first17, _WEIGHTS, strict=True)) % 11]


def mask(number: str) -> str:
    """Hide all but the region's first four and the last two characters; short numbers are hidden whole."""
    if len(number) < 10:
        return "*" * len(number)
    return number[:4] + "*" * (len(number) - 6) + number[-2:]


@dataclass(frozen=True, slots=True)
class Age:
    """An age as DICOM's AS writes it.

    Attributes:
        value: How many.
        unit: Y years, M months, W weeks, D days.
    """

    value: int
    unit: Literal["Y", "M", "W", "D"]

    @property
    def years(self) -> int:
        """Whole years."""
        per: dict[str, int] = {"Y": 1, "M": 12, "W": 52, "D": 365}
        return self.value // per[self.unit]


def parse_age(text: str) -> Age | None:
    """Parse an AS value (PS3.5 §6.2), tolerating missing zeros, small letters, ``岁`` and a missing unit (years)."""
    m = re.fullmatch(r"(\d{1,3})\s*([YMWDymwd岁月周天]?)", unicodedata.normalize("NFKC", text).strip(" \0"))
    if not m:
        return None
    unit = m[2].upper() or "Y"
    value = int(m[1])
    if unit in "Y岁":
        return Age(value, "Y")
    if unit in "M月":
        return Age(value, "M")
    return Age(value, "W") if unit in "W周" else Age(value, "D")


def age_at(birth: date, at: date) -> Age | None:
    """Give the age on a day: years from 2 on, months from 2 months on, days below; None before birth."""
    if at < birth:
        return None
    months = (at.year - birth.year) * 12 + at.month - birth.month - (at.day < birth.day)
    if months >= 24:
        return Age(months // 12, "Y")
    return Age(months, "M") if months >= 2 else Age((at - birth).days, "D")


def age_text(birth: date, at: date, *, language: str = "zh") -> str:
    """Say the age on a day: ``45岁``, ``8个月``, ``12天`` (``45 y``, ``8 mo``, ``12 d``); empty before birth."""
    age = age_at(birth, at)
    if age is None:
        return ""
    words = {"Y": "岁", "M": "个月", "W": "周", "D": "天"} if language.startswith("zh") else {
        "Y": " y", "M": " mo", "W": " wk", "D": " d",
    }  # fmt: skip
    return f"{age.value}{words[age.unit]}"


def age_string(birth: date, at: date) -> str:
    """Give PatientAge for a day in AS form (``045Y``); empty before birth."""
    age = age_at(birth, at)
    return f"{min(age.value, 999):03d}{age.unit}" if age else ""


def birth_within_age(header_birth: date, age_years: int, at: date, *, tolerance_years: int = 1) -> bool:
    """Say whether a header's birth date may have been invented from the stated age.

    Machines make it 1 January of the year, or the exam's day so many years ago; ages are counted by the birthday or by
    the calendar year, hence the tolerance.

    Args:
        header_birth: PatientBirthDate.
        age_years: Age as stated at registration, whole years.
        at: Day of the exam.
        tolerance_years: Years that the two may differ by.
    """
    if header_birth > at:
        return False
    years = at.year - header_birth.year - ((at.month, at.day) < (header_birth.month, header_birth.day))
    return (
        abs(years - age_years) <= tolerance_years or abs(at.year - header_birth.year - age_years) <= tolerance_years - 1
    )
