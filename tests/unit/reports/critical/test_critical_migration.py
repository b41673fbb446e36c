"""The schema of critical values, on a database with data: forward, back, and refused while anything is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from alembic import command
from sqlalchemy import inspect, text

from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.migrations.upgrade import config, current, upgrade
from support.critical import flagged
from support.reading import make_exam

if TYPE_CHECKING:
    from support.world import World

TABLES = {"critical_value", "critical_entry", "critical_contact", "critical_message"}


def tables() -> set[str]:
    return set(inspect(database().engine).get_table_names()) & TABLES


def test_nothing_on_record_is_lost_by_going_back(world: World) -> None:
    exam_id = make_exam(world)
    assert tables() == TABLES
    command.downgrade(config(), "0009")
    assert tables() == set()
    with database().reading() as session:
        assert session.scalar(text("SELECT count(*) FROM exam")) == 1
    upgrade(get_settings())
    assert tables() == TABLES
    critical = flagged(world, exam_id=exam_id)
    command.downgrade(config(), "0010")
    with pytest.raises(RuntimeError, match="on record"):
        command.downgrade(config(), "0009")
    assert current(get_settings()) == "0010"
    with database().reading() as session:
        assert session.scalar(text("SELECT id FROM critical_value")) == critical["id"]
