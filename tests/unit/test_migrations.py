"""Migrations: the schema is the models', two may start at once, a newer database is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from conftest import SERVER, need
from hub.kit import clock
from hub.kit.db import Base, make_engine
from hub.kit.settings import get_settings
from hub.migrations.models import load_all
from hub.migrations.upgrade import NewerDatabase, current, head, upgrade
from hub.reports.review.models import ConclusionChange


@pytest.fixture
def empty(hub_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An empty database, named by the settings."""
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("HUB_DATABASE_URL", raising=False)
    name = f"hub_{uuid.uuid4().hex[:10]}"
    if SERVER:
        base = make_url(need("HUB_TEST_DATABASE_URL"))
        admin = create_engine(base, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{name}"'))
        monkeypatch.setenv("HUB_DATABASE_URL", base.set(database=name).render_as_string(hide_password=False))
    get_settings.cache_clear()
    engine = make_engine(get_settings())
    yield engine
    engine.dispose()
    get_settings.cache_clear()
    if SERVER:
        with admin.connect() as connection:
            connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


def test_the_schema_is_that_of_the_models(empty: Engine) -> None:
    assert upgrade(get_settings())
    assert not upgrade(get_settings())
    assert current(get_settings()) == head()
    load_all()
    with empty.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = compare_metadata(context, Base.metadata)
    assert not differences


def test_a_newer_database_is_left_alone(empty: Engine) -> None:
    upgrade(get_settings())
    with empty.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'future'"))
    with pytest.raises(NewerDatabase) as caught:
        upgrade(get_settings())
    assert caught.value.revision == "future"


def test_several_start_at_once(empty: Engine) -> None:
    """Web server, worker and scheduler of a new installation each bring the database up."""
    command = [sys.executable, "-m", "hub.cli", "db", "upgrade"]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _number in range(3)
    ]
    ends = [(process.communicate(timeout=120)[0], process.returncode) for process in started]
    assert [code for _text, code in ends] == [0, 0, 0], ends
    assert current(get_settings()) == head()


def test_a_migration_that_fails_leaves_nothing_behind(empty: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.migrations import upgrade as module

    folder = get_settings().data_dir / "migrations"
    source = Path(module.__file__).parent
    (folder / "versions").mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        (folder / name).write_text((source / name).read_text())
    for path in (source / "versions").glob("*.py"):
        (folder / "versions" / path.name).write_text(path.read_text())
    (folder / "versions" / "9999_broken.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\n"
        f"revision = '9999'\ndown_revision = '{head()}'\n"
        "def upgrade():\n    op.create_table('half', sa.Column('id', sa.Integer))\n    raise RuntimeError('broken')\n"
    )
    before = head()
    original = module.config()
    original.set_main_option("script_location", str(folder))
    monkeypatch.setattr(module, "config", lambda: original)
    with pytest.raises(RuntimeError):
        upgrade(get_settings())
    assert current(get_settings()) == before
    assert "half" not in inspect(empty).get_table_names()
    assert "exam" in inspect(empty).get_table_names()


def test_recompressed_originals_are_not_left_to_a_schema_that_cannot_name_them(empty: Engine) -> None:
    """Back below the archive's columns and forward again with rows in the tables; refused while they are needed."""
    from alembic import command

    from hub.migrations.upgrade import config

    command.upgrade(config(), "0003")
    at = "2026-01-01 00:00:00"
    rows = {
        "organisation": {"id": "o", "code": "C01", "name": "n"},
        "county_patient": {"id": "c"},
        "patient": {"id": "p", "org_id": "o", "county_patient_id": "c"},
        "study": {"id": "t", "uid": "1.2", "org_id": "o", "patient_id": "p", "revision": 3},
        "series": {"id": "s", "uid": "1.3", "study_id": "t"},
        "instance": {"id": "i", "uid": "1.4", "series_id": "s", "study_id": "t", "org_id": "o", "object_key": "k"},
    }
    kinds = {"VARCHAR": "", "TEXT": "", "INTEGER": 0, "BIGINT": 0, "BOOLEAN": False, "DATETIME": at, "TIMESTAMP": at}
    with empty.begin() as connection:
        for table, given in rows.items():
            values = dict(given)
            for column in inspect(connection).get_columns(table):
                if column["name"] in values or column["nullable"]:
                    continue
                kind = str(column["type"]).partition("(")[0].partition(" ")[0]
                values[column["name"]] = kinds.get(kind, b"" if kind in ("BLOB", "BYTEA") else "{}")
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({marks})'), values)

    command.upgrade(config(), "0004")
    with empty.begin() as connection:
        found = connection.execute(
            text("SELECT original_syntax, original_size, recipe_size, kept_reason, stored_sha256 FROM instance")
        ).one()
        assert tuple(found) == ("", 0, 0, "", "")
        assert connection.execute(text("SELECT archived_revision, trashed_at FROM study")).one() == (0, None)
        connection.execute(text("UPDATE instance SET original_syntax = '1.2.840.10008.1.2', recipe_size = 9"))
    with pytest.raises(RuntimeError, match="restore"):
        command.downgrade(config(), "0003")
    assert current(get_settings()) == "0004"
    with empty.begin() as connection:
        connection.execute(text("UPDATE instance SET original_syntax = '', recipe_size = 0"))
    command.downgrade(config(), "0003")
    assert "retired_object" not in inspect(empty).get_table_names()
    upgrade(get_settings())
    with empty.connect() as connection:
        assert connection.execute(text("SELECT object_key FROM instance")).scalar() == "k"
        assert not compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def test_links_of_patients_become_pairs_and_links_again(empty: Engine) -> None:
    """0011 and back with links in the tables: who stood together stands together, and what was undone stays undone."""
    from alembic import command

    from hub.migrations.upgrade import config

    command.upgrade(config(), "0010")
    at = "2026-01-01 00:00:00+00:00" if SERVER else "2026-01-01 00:00:00.000000"
    with empty.begin() as connection:
        _insert(connection, "organisation", id="o", code="C01", name="n", kind="clinic")
        for county in ("c1", "c2", "c3", "c4"):
            _insert(connection, "county_patient", id=county, number=county)
        for patient, county in (("p1", "c1"), ("p2", "c1"), ("p3", "c3"), ("p4", "c4")):
            _insert(connection, "patient", id=patient, org_id="o", county_patient_id=county, number=patient)
        for row, patient, other, home, status in (
            ("l1", "p2", "p1", "c2", "linked"),
            ("l2", "p3", "p1", "c3", "undone"),
            ("l3", "p4", "p1", "c4", "conflict"),
        ):
            undone = {"undone_at": at, "undone_by": "somebody"} if status == "undone" else {}
            _insert(
                connection,
                "patient_link",
                **{"id": row, "patient_id": patient, "other_id": other, "from_county_id": home, "to_county_id": "c1"},
                **{"status": status, "at": at, **undone},
            )
    command.upgrade(config(), "0011")
    with empty.connect() as connection:
        pairs = connection.execute(text("SELECT one_id, two_id, state FROM patient_pair ORDER BY two_id")).all()
        homes = connection.execute(text("SELECT home_county_id FROM patient ORDER BY id")).scalars().all()
        events = connection.execute(text("SELECT count(*) FROM patient_pair_event")).scalar()
    assert [tuple(row) for row in pairs] == [("p1", "p2", "linked"), ("p1", "p3", "apart"), ("p1", "p4", "conflict")]
    assert (homes, events) == (["c1", "c2", "c3", "c4"], 3)
    command.downgrade(config(), "0010")
    with empty.connect() as connection:
        back = connection.execute(
            text("SELECT patient_id, other_id, from_county_id, status FROM patient_link ORDER BY status")
        ).all()
    assert {frozenset(row[:2]): row[3] for row in back} == {
        frozenset(("p1", "p2")): "linked",
        frozenset(("p1", "p3")): "undone",
        frozenset(("p1", "p4")): "conflict",
    }
    assert next(tuple(row) for row in back if row[3] == "linked") == ("p2", "p1", "c2", "linked")
    upgrade(get_settings())
    with empty.connect() as connection:
        assert not compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def _insert(connection: Connection, table: str, **given: object) -> None:
    """A row of the present schema; what is not given and may not be empty gets a plain value."""
    at = "2026-01-01 00:00:00"
    kinds = {"VARCHAR": "", "TEXT": "", "INTEGER": 0, "BIGINT": 0, "BOOLEAN": False, "DATETIME": at, "TIMESTAMP": at}
    values = dict(given)
    for column in inspect(connection).get_columns(table):
        if column["name"] not in values and not column["nullable"]:
            values[column["name"]] = kinds.get(str(column["type"]).partition("(")[0].partition(" ")[0], "{}")
    names = ", ".join(f'"{name}"' for name in values)
    marks = ", ".join(f":{name}" for name in values)
    connection.execute(text(f'INSERT INTO "{table}" ({names}) VALUES ({marks})'), values)


def test_drawings_become_rows_of_their_own_and_a_list_again(empty: Engine) -> None:
    """0013 and back with drawings kept: each has a row in the old order, and what was removed since is not in the list."""
    from alembic import command

    from hub.migrations.upgrade import config

    command.upgrade(config(), "0012")
    kept = [{"annotationUID": "b", "data": {"label": "左"}}, {"annotationUID": "a"}, {"annotationUID": "b"}, {}]
    with empty.begin() as connection:
        _insert(connection, "organisation", id="o", code="C01", name="n", kind="clinic")
        _insert(connection, "county_patient", id="c", number="c")
        _insert(connection, "patient", id="p", org_id="o", county_patient_id="c", number="p")
        _insert(connection, "exam", id="e", accession="A1", org_id="o", patient_id="p", state="reading")
        _insert(connection, "exam", id="f", accession="A2", org_id="o", patient_id="p", state="reading")
        _insert(connection, "exam_drawings", exam_id="e", body=json.dumps(kept), revision=7, saved_by="x")
        _insert(connection, "exam_drawings", exam_id="f", body="[]", revision=2, saved_by="x")
    command.upgrade(config(), "0013")
    with empty.begin() as connection:
        rows = connection.execute(text("SELECT uid, revision, saved_by FROM exam_drawing ORDER BY place")).all()
        connection.execute(text("UPDATE exam_drawing SET removed = true WHERE uid = 'a'"))
    assert [tuple(row) for row in rows[:2]] == [("b", 7, "x"), ("a", 7, "x")]
    # Two of one name, or none, cannot stand on one image; they are kept under names of their own.
    assert len({row[0] for row in rows}) == 4
    others = [row[0] for row in rows[2:]]
    command.downgrade(config(), "0012")
    with empty.connect() as connection:
        rows = connection.execute(text("SELECT exam_id, CAST(body AS TEXT) FROM exam_drawings")).all()
    bodies = {row[0]: row[1] for row in rows}
    assert [one["annotationUID"] for one in json.loads(bodies["e"])] == ["b", *others]
    assert json.loads(bodies["e"])[0] == kept[0]
    assert json.loads(bodies["f"]) == []
    upgrade(get_settings())
    with empty.connect() as connection:
        assert not compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def test_changed_conclusions_get_their_timers_and_go_back_open(empty: Engine) -> None:
    """0014 and back with rows: what is open has timers from the upgrade on, what was escalated is open again."""
    from alembic import command

    from hub.migrations.upgrade import config

    command.upgrade(config(), "0013")
    at = "2026-01-01 08:00:00+00:00" if SERVER else "2026-01-01 08:00:00.000000"
    with empty.begin() as connection:
        for org, kind in (("o", "clinic"), ("h", "hospital")):
            _insert(connection, "organisation", id=org, code=org, name="n", kind=kind)
        _insert(connection, "county_patient", id="c", number="c")
        _insert(connection, "patient", id="p", org_id="o", county_patient_id="c", number="p")
        _insert(
            connection, "exam", id="e", accession="A1", org_id="o", patient_id="p", state="signed", reading_org_id="h"
        )
        _insert(connection, "report", id="r", exam_id="e")
        for number in (1, 2, 3):
            _insert(connection, "report_version", id=f"v{number}", report_id="r", number=number, state="signed")
        for change, version, state in (("x", "v2", "open"), ("y", "v3", "acknowledged")):
            _insert(
                connection,
                "conclusion_change",
                **{"id": change, "exam_id": "e", "org_id": "o", "preliminary_id": "v1", "version_id": version},
                **{"state": state, "opened_at": at, "differences": "[]"},
            )
    command.upgrade(config(), "0014")
    with Session(empty) as session:
        rows = session.scalars(select(ConclusionChange).order_by(ConclusionChange.id)).all()
        assert [(row.state, row.hospital_id, row.rung) for row in rows] == [
            ("open", "h", []),
            ("acknowledged", "h", []),
        ]
        assert all(row.breach_due - row.escalate_due == timedelta(minutes=15) for row in rows)
        waits = rows[0].escalate_due - clock.now()
        assert timedelta(minutes=10) < waits <= timedelta(minutes=15)
        assert rows[1].escalate_due - rows[1].opened_at == timedelta(minutes=15)
        session.execute(text("UPDATE conclusion_change SET state = 'breached' WHERE id = 'x'"))
        session.commit()
    command.downgrade(config(), "0013")
    with empty.connect() as connection:
        states = connection.execute(text("SELECT state FROM conclusion_change ORDER BY id")).scalars().all()
    assert states == ["open", "acknowledged"]
    upgrade(get_settings())
    with empty.connect() as connection:
        assert not compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)


def test_review_goes_back_with_rows_and_leaves_no_state_that_nobody_knows(empty: Engine) -> None:
    """0009 and back: a preliminary version becomes a given-up draft, the report beside it stays what it is."""
    from alembic import command

    from hub.migrations.upgrade import config

    command.upgrade(config(), "0009")
    with empty.begin() as connection:
        _insert(connection, "organisation", id="o", code="C01", name="n", kind="clinic")
        _insert(connection, "county_patient", id="c", number="c")
        _insert(connection, "patient", id="p", org_id="o", county_patient_id="c", number="p")
        _insert(connection, "exam", id="e", accession="A1", org_id="o", patient_id="p", state="preliminary")
        _insert(connection, "report", id="r", exam_id="e")
        _insert(connection, "report_version", id="v1", report_id="r", number=1, kind="preliminary", state="issued")
        _insert(connection, "report_version", id="v2", report_id="r", number=2, kind="original", state="submitted")
        _insert(connection, "review", id="w", version_id="v2", exam_id="e", org_id="o", reviewer_id="x", author_id="y")
        _insert(connection, "image_loan", exam_id="e", person_id="x")
    command.downgrade(config(), "0008")
    with empty.connect() as connection:
        rows = connection.execute(text("SELECT id, state, kind, number FROM report_version ORDER BY id")).all()
        assert "review" not in inspect(connection).get_table_names()
    assert [tuple(row) for row in rows] == [
        ("v1", "discarded", "original", -1000001),
        ("v2", "submitted", "original", 2),
    ]
    upgrade(get_settings())
    with empty.connect() as connection:
        assert not compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata)
