"""Two at once about one critical value: one procedure, one receiver, each escalation once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from hub.exams import repository as exam_rows
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.reports.critical import service
from hub.reports.critical.models import CriticalEntry, CriticalValue
from support.critical import FINDING, READ_BACK, events, flagged, later, row_of
from support.meeting import meet
from support.reading import make_exam

if TYPE_CHECKING:
    from support.world import World


def flag(session, world: World, exam_id: str, login: str) -> CriticalValue:
    return service.flag(session, world.actor(login), exam_id, class_code="aortic", finding=FINDING)


def test_flagged_by_two_in_one_instant_it_is_one(world: World) -> None:
    exam_id = make_exam(world)
    first: list[str] = []

    def second() -> str:
        with database().writing() as session:
            return flag(session, world, exam_id, "reviewer").id

    found = meet(lambda session: first.append(flag(session, world, exam_id, "reporter").id), second)
    assert [found] == first
    assert events(found) == ["flag"]


def test_of_two_receivers_one_is_the_receiver(world: World) -> None:
    critical_id = flagged(world)["id"]

    def second() -> None:
        with database().writing() as session:
            service.read_back(session, world.actor("technologist"), critical_id, READ_BACK)

    with pytest.raises(Conflict) as refused:
        meet(lambda session: service.read_back(session, world.actor("clinician"), critical_id, READ_BACK), second)
    assert refused.value.code == "already-received"
    assert row_of(critical_id).received_by == world.people["clinician"].id
    assert events(critical_id) == ["flag", "read_back"]


def test_two_workers_escalate_once(world: World) -> None:
    critical_id = flagged(world)["id"]

    def second() -> int:
        with database().writing() as session:
            return service.sweep_one(session, critical_id)

    with later(11):
        assert meet(lambda session: service.sweep_one(session, critical_id), second) == 0
    assert events(critical_id) == ["flag", "escalate", "breach"]


def test_an_answer_meets_the_timer(world: World) -> None:
    critical_id = flagged(world)["id"]

    def sweep() -> int:
        with database().writing() as session:
            return service.sweep_one(session, critical_id)

    with later(4.9):
        meet(
            lambda session: service.phone(
                session, world.actor("reporter"), critical_id, receiver="王芳", read_back=READ_BACK
            ),
            sweep,
        )
    with later(11):
        assert sweep() == 0
    assert events(critical_id) == ["flag", "phone"]


def test_withdrawn_while_the_clinic_answers(world: World) -> None:
    critical_id = flagged(world)["id"]

    def answer() -> None:
        with database().writing() as session:
            service.read_back(session, world.actor("clinician"), critical_id, READ_BACK)

    with pytest.raises(Conflict):
        meet(lambda session: service.withdraw(session, world.actor("reporter"), critical_id, "误标"), answer)
    assert row_of(critical_id).state == "withdrawn"


@pytest.mark.server
def test_flagged_and_withdrawn_in_a_circle_nobody_waits_for_ever(world: World) -> None:
    """Flagging locks the exam and reads the row; withdrawing takes them in the same order."""
    critical = flagged(world)

    def second() -> str:
        with database().writing() as session:
            return service.flag(
                session, world.actor("reviewer"), critical["exam_id"], class_code="herniation", finding=FINDING
            ).id

    other = meet(lambda session: service.withdraw(session, world.actor("reporter"), critical["id"], "误标"), second)
    with database().reading() as session:
        exam = exam_rows.get(session, SYSTEM, critical["exam_id"])
        assert exam.critical
        assert session.scalar(select(func.count()).select_from(CriticalEntry)) == 3
    assert row_of(other).state == "alarmed"
