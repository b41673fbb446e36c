"""Identity numbers, ages, invented birth dates."""

from __future__ import annotations

from datetime import date

import pytest

from hub.dicom.identity import (
    Age,
    IdentityNumber,
    IdentityProblem,
    age_string,
    age_text,
    birth_within_age,
    check_digit,
    check_identity_number,
    mask,
    parse_age,
)

# The number that the standard itself uses as its example.
EXAMPLE = "11010519491231002X"


def test_valid_number_and_its_spellings() -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) for c in EXAMPLE)
    for text in (EXAMPLE, EXAMPLE.lower(), f" {EXAMPLE[:6]} {EXAMPLE[6:]} ", wide):
        found = check_identity_number(text)
        assert found == IdentityNumber(EXAMPLE, date(1949, 12, 31), "F")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        (EXAMPLE[:-1], "length"),
        ("1101051949123100ZX", "characters"),
        ("990105194912310021", "region"),
        ("110105194902310021", "date"),
        ("110105209912310021", "date"),
        ("110105194912310021", "check-digit"),
        ("110105194912310020", "check-digit"),
    ],
)
def test_problems(text: str, code: str) -> None:
    found = check_identity_number(text)
    assert isinstance(found, IdentityProblem)
    assert found.code == code
    assert found.message_zh
    assert found.message_en


def test_every_single_wrong_digit_is_found() -> None:
    first = "36073119800229101"
    number = first + check_digit(first)
    assert isinstance(check_identity_number(number), IdentityNumber)
    for i in range(17):
        for digit in "0123456789":
            if digit != number[i]:
                assert isinstance(check_identity_number(number[:i] + digit + number[i + 1 :]), IdentityProblem)


def test_check_digit_wants_17_digits() -> None:
    with pytest.raises(ValueError, match="17"):
        check_digit("123")


def test_mask() -> None:
    assert mask(EXAMPLE) == "1101************2X"
    assert mask("12345") == "*****"


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("045Y", Age(45, "Y")),
        ("008M", Age(8, "M")),
        ("012D", Age(12, "D")),
        ("3W", Age(3, "W")),
        ("45", Age(45, "Y")),
        ("45岁", Age(45, "Y")),
        ("8月", Age(8, "M")),
        ("", None),
        ("old", None),
    ],
)
def test_age_strings(text: str, age: Age | None) -> None:
    assert parse_age(text) == age


def test_age_texts() -> None:
    at = date(2026, 3, 1)
    assert age_text(date(1980, 3, 1), at) == "46岁"
    assert age_text(date(1980, 3, 2), at) == "45岁"
    assert age_text(date(2025, 7, 1), at) == "8个月"
    assert age_text(date(2026, 2, 17), at) == "12天"
    assert age_text(date(2027, 1, 1), at) == ""
    assert age_text(date(1980, 3, 1), at, language="en") == "46 y"
    assert age_string(date(1980, 3, 1), at) == "046Y"


def test_birth_dates_invented_from_an_age() -> None:
    at = date(2026, 3, 1)
    assert birth_within_age(date(1981, 1, 1), 45, at)  # 1 January
    assert birth_within_age(date(1981, 3, 1), 45, at)  # the exam's day
    assert birth_within_age(date(1980, 6, 1), 45, at)  # a true one
    assert not birth_within_age(date(1975, 1, 1), 45, at)
    assert not birth_within_age(date(1990, 1, 1), 45, at)
    assert not birth_within_age(date(2027, 1, 1), 0, at)
