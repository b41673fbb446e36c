"""Two who decide of the same patients at once, and a registration in between."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from hub.dicom.identity import check_digit
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.patients import links
from hub.patients import service as patients
from hub.patients.links import Identity
from hub.patients.models import Patient, PatientPair
from support.meeting import meet

if TYPE_CHECKING:
    from support.world import World

pytestmark = pytest.mark.server
BORN = date(1981, 5, 12)


def _number(serial: int) -> str:
    first = f"36073119810512{serial:02d}1"
    return first + check_digit(first)


def _two(world: World, number: str = "") -> tuple[str, str, str]:
    """Two patients of one name, the second with a number; their ids, and that of the pair."""
    with database().writing() as session:
        one = patients.ensure(session, world.orgs["C01"].id, "1", "王伟", "M", BORN)
        two = patients.ensure(session, world.orgs["C02"].id, "2", "王伟", "M", BORN, identity_number=number)
        links.suggest(session, one.id)
        return one.id, two.id, session.scalars(select(PatientPair.id)).one()


def test_of_two_deciders_at_once_one_decides(world: World) -> None:
    _one, _other, pair = _two(world)
    refused: list[str] = []

    def second() -> None:
        with database().writing() as session:
            try:
                links.keep_apart(session, world.actor("quality"), pair, reason="两个人", version=2)
            except Conflict as error:
                refused.append(error.code)

    meet(lambda session: links.link(session, world.actor("director"), pair, reason="核实", version=2), second)
    assert refused == ["changed-meanwhile"]
    with database().reading() as session:
        assert session.get_one(PatientPair, pair).state == "linked"


def test_a_number_corrected_while_a_link_is_made_never_ends_in_two_numbers_of_one(world: World) -> None:
    one, two, pair = _two(world, _number(1))

    def second() -> None:
        with database().writing() as session:
            wanted = Identity(identity_number=_number(2))
            links.correct(session, world.actor("quality"), one, wanted, reason="补录身份证号")

    meet(lambda session: links.link(session, world.actor("director"), pair, reason="核实"), second)
    with database().reading() as session:
        rows = [session.get_one(Patient, row) for row in (one, two)]
        assert len({row.identity_number for row in rows}) == 2
        assert rows[0].county_patient_id != rows[1].county_patient_id
        assert session.get_one(PatientPair, pair).state == "conflict"
