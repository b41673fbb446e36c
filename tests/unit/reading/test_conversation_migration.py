"""Forward with exams in the tables: what was asked before stands in the threads, what is open can still be answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, inspect, text

from conftest import SERVER
from hub.kit.settings import get_settings
from hub.migrations.upgrade import config, upgrade

AT = "2026-01-01 08:00:00"
KINDS = {"VARCHAR": "", "TEXT": "", "INTEGER": 0, "BIGINT": 0, "BOOLEAN": False, "DATETIME": AT, "TIMESTAMP": AT}


@pytest.mark.skipif(SERVER, reason="the steps of the schema on PostgreSQL are walked by tests/unit/test_migrations.py")
def test_open_questions_and_returns_are_carried_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("HUB_DATABASE_URL", raising=False)
    get_settings.cache_clear()
    command.upgrade(config(), "0011")
    engine = create_engine(f"sqlite:///{tmp_path / 'hub.sqlite'}")

    def put(table: str, **given: object) -> None:
        with engine.begin() as connection:
            for column in inspect(connection).get_columns(table):
                kind = str(column["type"]).partition("(")[0].partition(" ")[0]
                if column["name"] not in given and not column["nullable"] and column.get("autoincrement") is not True:
                    given[column["name"]] = KINDS.get(kind, json.dumps([]))
            names = ", ".join(f'"{name}"' for name in given)
            marks = ", ".join(f":{name}" for name in given)
            connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({marks})'), given)

    put("organisation", id="o", code="C01", name="n")
    put("county_patient", id="c")
    put("patient", id="p", org_id="o", county_patient_id="c")
    for exam, state in (("waits", "history_requested"), ("back", "to_read"), ("returned", "retake")):
        put("exam", id=exam, accession=exam, org_id="o", patient_id="p", state=state, history_requested_at=AT)
    steps = [
        ("waits", "request_history", "有无外伤?"),
        ("back", "request_history", "有无手术史?"),
        ("back", "answer_history", ""),
        ("returned", "request_retake", "呼吸伪影"),
    ]
    for number, (exam, event, reason) in enumerate(steps, 1):
        put("exam_transition", id=number, exam_id=exam, event=event, reason=reason, from_state="reading", at=AT)

    command.upgrade(config(), "0012")
    with engine.connect() as connection:
        lines = connection.execute(text("SELECT exam_id, kind, text, read_at IS NULL FROM thread_entry")).all()
        assert sorted(map(tuple, lines)) == [
            ("back", "history_answered", "", 0),
            ("back", "history_asked", "有无手术史?", 0),
            ("returned", "retake_asked", "呼吸伪影", 1),
            ("waits", "history_asked", "有无外伤?", 1),
        ]
        assert connection.execute(text("SELECT exam_id, state, from_state FROM retake_request")).all() == [
            ("returned", "open", "reading")
        ]
        assert connection.execute(text("SELECT exam_id, ended_at FROM exam_pause")).all() == [("waits", None)]
        paused = connection.execute(text("SELECT id FROM exam WHERE paused_at IS NOT NULL")).scalars().all()
        assert paused == ["waits"]
        triggers = connection.execute(text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'")).scalar()
    command.upgrade(config(), "0015")
    with engine.connect() as connection:
        heads = connection.execute(
            text("SELECT e.id, t.kind FROM exam e JOIN thread_entry t ON t.id = e.thread_last AND t.exam_id = e.id")
        )
        found = dict(map(tuple, heads))
        # Question and answer of "back" were written in the same moment.
        assert found.pop("back") in ("history_asked", "history_answered")
        assert found == {"returned": "retake_asked", "waits": "history_asked"}
    command.downgrade(config(), "0011")
    with engine.connect() as connection:
        assert "thread_entry" not in inspect(connection).get_table_names()
        assert "paused_at" not in [column["name"] for column in inspect(connection).get_columns("exam")]
        assert (
            connection.execute(text("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'")).scalar() == triggers
        )
    upgrade(get_settings())
    engine.dispose()
    get_settings.cache_clear()
