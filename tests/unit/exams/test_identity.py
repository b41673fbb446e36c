"""Agreement between a registration and what headers of township machines say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hub.exams import registration
from hub.exams.identity import check_identity
from hub.exams.models import Exam
from hub.kit.db import database
from support.clinic_files import form

if TYPE_CHECKING:
    from support.world import World

SAME = {"name": "王伟", "patient_id": "P1", "sex": "M", "birth_date": "1981-05-12", "age": ""}


@pytest.fixture
def exam(world: World) -> Exam:
    with database().writing() as session:
        found = registration.register(session, world.actor("technologist"), form())
        session.refresh(found)
        session.flush()
        session.expunge_all()
    return found


@pytest.mark.parametrize(
    ("header", "agreement", "noted"),
    [
        ({}, "ok", []),
        ({"name": "WANG^WEI"}, "noted", [("name", "pinyin")]),
        ({"name": "Wei Wang"}, "noted", [("name", "pinyin")]),
        ({"name": "Wang Wei=王伟"}, "ok", []),
        ({"name": ""}, "noted", [("name", "missing")]),
        ({"name": "LI^NA"}, "open", [("name", "differs")]),
        ({"name": "王炜"}, "open", [("name", "differs")]),
        ({"name": "WW"}, "open", [("name", "differs")]),
        ({"sex": "F"}, "open", [("sex", "differs")]),
        ({"sex": ""}, "ok", []),
        ({"sex": "O"}, "ok", []),
        ({"sex": "男"}, "ok", []),
        ({"birth_date": "1981-01-01"}, "noted", [("birth_date", "age")]),
        ({"birth_date": "1980-05-12"}, "noted", [("birth_date", "age")]),
        ({"birth_date": "1960-01-01"}, "open", [("birth_date", "differs")]),
        ({"birth_date": ""}, "ok", []),
        ({"birth_date": "", "age": "010Y"}, "open", [("age", "differs")]),
        ({"patient_id": "P2"}, "open", [("number", "differs")]),
        ({"patient_id": ""}, "ok", []),
        ({"patient_id": "p1"}, "ok", []),
    ],
)
def test_each_field(exam: Exam, header: dict[str, Any], agreement: str, noted: list[tuple[str, str]]) -> None:
    result = check_identity(exam, {**SAME, **header})
    assert result.agreement == agreement
    assert [(note["field"], note["agreement"]) for note in result.notes] == noted
    assert all({"registered", "header", "kind"} <= set(note) for note in result.notes)


def test_an_accession_number_as_patient_id_agrees(exam: Exam) -> None:
    assert check_identity(exam, {**SAME, "patient_id": exam.accession}).agreement == "ok"


def test_a_number_that_the_hub_gave_is_not_compared(world: World) -> None:
    with database().writing() as session:
        found = registration.register(session, world.actor("technologist"), form(number=""))
        assert check_identity(found, {**SAME, "patient_id": "44"}).agreement == "ok"


def test_an_age_covers_what_machines_make_of_it(world: World) -> None:
    with database().writing() as session:
        found = registration.register(session, world.actor("technologist"), form(birth_date="", age="45"))
        year = found.registered_at.year - 45
        for header, agreement in (
            (f"{year}-01-01", "noted"),
            (f"{year - 1}-06-30", "noted"),
            (f"{year - 9}-01-01", "open"),
        ):
            assert check_identity(found, {**SAME, "birth_date": header}).agreement == agreement


def test_an_unknown_emergency_patient_is_open_until_named(world: World) -> None:
    with database().writing() as session:
        found = registration.register(
            session, world.actor("technologist"), form(name="", number="", priority="emergency")
        )
        assert check_identity(found, {**SAME, "name": "ZHAO^SI"}).agreement == "open"
