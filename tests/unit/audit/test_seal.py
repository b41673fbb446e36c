"""Every way to tamper with the log, on real rows, by somebody who dropped the triggers first."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from typer.testing import CliRunner

from hub.audit import seal, service
from hub.audit.models import AuditEntry
from hub.cli import app
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.objects import object_store
from hub.kit.settings import get_settings

ZHANG = Actor(kind="person", id="01person", name="张智宏", org_id="01org", ip="10.0.0.7")


@pytest.fixture(autouse=True)
def forget_heads() -> Iterator[None]:
    """Each test is a process that has just started."""
    seal._known.clear()
    yield
    seal._known.clear()


def write(count: int) -> None:
    with database().writing() as session:
        for number in range(count):
            service.record(
                session, ZHANG, "images.view", "study", f"1.2.{number}", patient_id=f"p{number}", why="初诊", n=number
            )


def sql(*statements: str, attacker: bool = True) -> None:
    """Run statements as somebody who owns the database."""
    with database().writing() as session:
        if attacker:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("ALTER TABLE audit_entry DISABLE TRIGGER USER"))
            else:
                for name in ("no_update", "no_delete", "no_forged_seal"):
                    session.execute(text(f"DROP TRIGGER IF EXISTS audit_entry_{name}"))
        for statement in statements:
            session.execute(text(statement))


def kinds() -> set[str]:
    return {finding.kind for finding in seal.verify().findings}


def reseal(first: int, previous: str) -> None:
    """Chain everything from `first` anew, as somebody would who knows how seals are made."""
    with database().reading() as session:
        rows = [dict(row) for row in session.execute(seal.select(*seal._columns, seal._table.c.seal_no)).mappings()]
    rows.sort(key=lambda row: row["seal_no"])
    with database().writing() as session:
        for row in rows:
            if row["seal_no"] < first:
                continue
            previous = seal.seal_of(row["seal_no"], previous, seal.canonical(row))
            session.execute(
                text("UPDATE audit_entry SET seal = :seal WHERE id = :id"), {"seal": previous, "id": row["id"]}
            )


def seal_no(number: int) -> str:
    with database().reading() as session:
        return seal._seal_at(session, number) or ""


@pytest.mark.usefixtures("hub_env")
class TestSealing:
    def test_untouched_log_is_whole(self) -> None:
        write(12)
        assert seal.seal_pending() == 12
        write(3)
        assert seal.seal_pending() == 3
        assert seal.seal_pending() == 0
        report = seal.verify()
        assert report.ok, report.findings
        assert (report.sealed, report.unsealed, report.newest_head) == (15, 0, 15)
        assert not report.warnings

    def test_more_than_one_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seal, "BATCH", 7)
        monkeypatch.setattr(seal, "READ_BATCH", 5)
        write(30)
        assert seal.seal_pending() == 30
        assert seal.verify().ok

    def test_an_empty_log_is_whole(self) -> None:
        assert seal.seal_pending() == 0
        assert seal.verify().ok

    def test_every_column_but_the_seal_is_sealed(self) -> None:
        assert set(seal.SEALED_COLUMNS) | {"seal_no", "seal"} == set(AuditEntry.__table__.c.keys())

    def test_a_lower_id_committed_late_is_sealed_next(self) -> None:
        write(3)
        sql("UPDATE audit_entry SET id = id + 10 WHERE id = 2")
        seal.seal_pending()
        with database().writing() as session:
            service.record(session, SYSTEM, "late", "x", "1")
        sql("UPDATE audit_entry SET id = 2 WHERE action = 'late'")
        seal.seal_pending()
        assert seal.verify().ok
        with database().reading() as session:
            assert session.get_one(AuditEntry, 2).seal_no == 4

    def test_sealers_at_once_seal_each_entry_once(self) -> None:
        write(60)
        faults: list[BaseException] = []

        def work() -> None:
            try:
                for _round in range(5):
                    seal.seal_pending()
            except BaseException as fault:
                faults.append(fault)

        threads = [threading.Thread(target=work) for _n in range(4)]
        for thread in threads:
            thread.start()
        write(40)
        for thread in threads:
            thread.join()
        seal.seal_pending()
        assert not faults
        report = seal.verify()
        assert report.ok
        assert report.sealed == 100

    def test_unsealed_entries_are_reported_with_their_age(self) -> None:
        write(2)
        start = clock.now()
        clock.set_source(lambda: start + timedelta(minutes=30))
        report = seal.verify()
        assert report.ok
        assert report.unsealed == 2
        assert report.oldest_unsealed_seconds is not None
        assert report.oldest_unsealed_seconds >= 1790
        assert "worker" in report.warnings[-1]

    def test_an_unreachable_store_delays_its_head_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        write(2)

        def broken(*_a: object, **_k: object) -> None:
            raise seal.StorageError("away")

        with monkeypatch.context() as patch:
            patch.setattr(type(object_store()), "put", broken)
            assert seal.seal_pending() == 2
        assert not list(seal._store_heads())
        assert seal.seal_pending() == 0
        assert [one.head.seal_no for one in seal._store_heads() if one.head] == [2]

    def test_heads_of_a_day_do_not_pile_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(seal, "_FILE_LIMIT", 2_000)
        start = clock.now().replace(hour=6)
        for day in range(3):
            clock.set_source(lambda day=day: start + timedelta(days=day))  # type: ignore[misc]
            for _n in range(20):
                write(1)
                seal.seal_pending()
        assert sorted(one.head.seal_no for one in seal._store_heads() if one.head) == [20, 40, 60]
        lines = seal._heads_file().read_text().splitlines()
        assert len(lines) < 20
        assert {20, 40, 60} <= {json.loads(line)["seal_no"] for line in lines}
        assert seal.verify().ok

    def test_a_torn_last_line_is_not_a_forgery(self) -> None:
        write(2)
        seal.seal_pending()
        with seal._heads_file().open("a") as file:
            file.write('{"seal_no": 3, "se')
        write(1)
        seal.seal_pending()
        assert seal.verify().ok


@pytest.mark.usefixtures("hub_env")
class TestTampering:
    @pytest.fixture(autouse=True)
    def sealed_log(self, hub_env: Path) -> None:
        write(10)
        seal.seal_pending()
        write(10)
        seal.seal_pending()

    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("actor_name", "'李四'"),
            ("actor_id", "'other'"),
            ("actor_kind", "'system'"),
            ("actor_org_id", "NULL"),
            ("ip", "'10.0.0.8'"),
            ("action", "'images.vieW'"),
            ("object_type", "'exam'"),
            ("object_id", "'9'"),
            ("org_id", "'x'"),
            ("patient_id", "NULL"),
            ("detail", """'{"n": 5, "why": "复诊"}'"""),
            ("at", "'2024-01-01 00:00:00.000000'"),
        ],
    )
    def test_changed(self, column: str, value: str) -> None:
        sql(f"UPDATE audit_entry SET {column} = {value} WHERE seal_no = 5")
        report = seal.verify()
        assert [(one.kind, one.seal_no) for one in report.findings] == [("changed", 5)]

    def test_changed_and_sealed_again(self) -> None:
        sql("UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 5")
        before = seal_no(4)
        with database().reading() as session:
            row = dict(session.execute(seal.select(*seal._columns).where(seal._table.c.seal_no == 5)).mappings().one())
        sql(f"UPDATE audit_entry SET seal = '{seal.seal_of(5, before, seal.canonical(row))}' WHERE seal_no = 5")
        report = seal.verify()
        assert [(one.kind, one.seal_no) for one in report.findings] == [("changed", 6)]

    def test_removed(self) -> None:
        sql("DELETE FROM audit_entry WHERE seal_no = 5")
        report = seal.verify()
        assert [(one.kind, one.seal_no) for one in report.findings] == [("missing", 5)]

    def test_removed_and_numbered_anew(self) -> None:
        sql(
            "DELETE FROM audit_entry WHERE seal_no = 15",
            "UPDATE audit_entry SET seal_no = seal_no - 1 WHERE seal_no = 16",
        )
        found = seal.verify().findings
        assert ("changed", 15) in {(one.kind, one.seal_no) for one in found}
        assert ("missing", 16) in {(one.kind, one.seal_no) for one in found}

    def test_first_entries_removed(self) -> None:
        sql("DELETE FROM audit_entry WHERE seal_no <= 3")
        assert "missing" in kinds()

    def test_reordered(self) -> None:
        sql(
            "UPDATE audit_entry SET seal_no = 1000 WHERE seal_no = 5",
            "UPDATE audit_entry SET seal_no = 5 WHERE seal_no = 8",
            "UPDATE audit_entry SET seal_no = 8 WHERE seal_no = 1000",
        )
        found = seal.verify().findings
        assert {("reordered", 5), ("reordered", 8)} <= {(one.kind, one.seal_no) for one in found}

    def test_inserted_with_a_forged_seal(self) -> None:
        forged = "ab" * 32
        sql(
            "INSERT INTO audit_entry (id, at, actor_kind, actor_id, actor_name, ip, action, object_type, object_id, "
            "detail, seal_no, seal) SELECT 999, at, actor_kind, actor_id, actor_name, ip, 'forged', object_type, "
            f"object_id, detail, 21, '{forged}' FROM audit_entry WHERE seal_no = 3"
        )
        found = seal.verify().findings
        assert [(one.kind, one.seal_no) for one in found] == [("changed", 21)]

    def test_cut_tail(self) -> None:
        sql("DELETE FROM audit_entry WHERE seal_no > 15")
        report = seal.verify()
        assert [(one.kind, one.seal_no) for one in report.findings] == [("cut", 16)]

    def test_cut_tail_and_more_sealed_after_it(self) -> None:
        sql("DELETE FROM audit_entry WHERE seal_no > 15")
        write(4)
        seal._known.clear()
        seal.seal_pending()
        report = seal.verify()
        assert [(one.kind, one.seal_no) for one in report.findings] == [("missing", 16)]
        assert report.newest_seal_no == 24

    def test_whole_table_gone(self) -> None:
        sql("DELETE FROM audit_entry")
        assert kinds() == {"cut"}

    def test_rewritten_from_one_entry_to_the_end(self) -> None:
        sql("UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 13")
        reseal(13, seal_no(12))
        report = seal.verify()
        assert {one.kind for one in report.findings} == {"rewritten"}
        assert "from entry 11 to 20" in report.findings[0].what

    def test_rewritten_and_longer_than_the_head(self) -> None:
        write(5)
        sql(
            "UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 2",
            "UPDATE audit_entry SET seal_no = id, seal = 'x' WHERE seal_no IS NULL",
        )
        reseal(1, seal.FIRST)
        seal._known.clear()
        seal.seal_pending()
        write(1)
        seal.seal_pending()
        assert kinds() == {"rewritten"}

    def test_seals_removed_to_be_sealed_again(self) -> None:
        sql(
            "UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 18",
            "UPDATE audit_entry SET seal_no = NULL, seal = NULL WHERE seal_no >= 18",
        )
        seal._known.clear()
        seal.seal_pending()
        assert "missing" in kinds()

    def test_forged_head(self) -> None:
        sql("UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 20")
        reseal(20, seal_no(19))
        for found in list(seal._store_heads()):
            object_store().delete(found.where)
        head = json.loads(seal._heads_file().read_text().splitlines()[-1])
        head["seal"] = seal_no(20)
        seal._heads_file().write_text(json.dumps(head) + "\n")
        assert "head-forged" in kinds()

    def test_head_by_another_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HUB_SECRET_KEY", "another-" + "y" * 40)
        get_settings.cache_clear()
        assert kinds() == {"head-forged", "no-heads"}

    def test_no_heads_left(self) -> None:
        for found in list(seal._store_heads()):
            object_store().delete(found.where)
        seal._heads_file().unlink()
        assert kinds() == {"no-heads"}

    def test_one_place_of_heads_is_enough(self) -> None:
        seal._heads_file().unlink()
        sql("DELETE FROM audit_entry WHERE seal_no > 15")
        assert kinds() == {"cut"}

    def test_an_entry_dated_back_is_pointed_at(self) -> None:
        write(1)
        sql("UPDATE audit_entry SET at = '2024-01-01 00:00:00.000000' WHERE seal_no IS NULL")
        seal.seal_pending()
        report = seal.verify()
        assert report.ok
        assert "dated over an hour before" in report.warnings[0]

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE audit_entry SET actor_name = 'x' WHERE seal_no = 5",
            "UPDATE audit_entry SET actor_name = 'x' WHERE seal_no IS NULL",
            "UPDATE audit_entry SET seal = 'x' WHERE seal_no = 5",
            "UPDATE audit_entry SET seal_no = 99 WHERE seal_no = 5",
            "UPDATE audit_entry SET seal_no = NULL, seal = NULL WHERE seal_no = 5",
            "UPDATE audit_entry SET seal_no = 99 WHERE seal_no IS NULL",
            "DELETE FROM audit_entry WHERE seal_no = 5",
            "DELETE FROM audit_entry WHERE seal_no IS NULL",
            "INSERT INTO audit_entry (at, actor_kind, actor_id, actor_name, ip, action, object_type, object_id, "
            "detail, seal_no, seal) SELECT at, actor_kind, actor_id, actor_name, ip, action, object_type, object_id, "
            "detail, 99, seal FROM audit_entry WHERE seal_no = 5",
        ],
    )
    def test_the_database_itself_refuses(self, statement: str) -> None:
        write(1)
        with pytest.raises(DatabaseError, match="append-only"):
            sql(statement, attacker=False)
        seal.seal_pending()
        assert seal.verify().ok

    def test_command_says_what_and_where(self) -> None:
        runner = CliRunner()
        assert runner.invoke(app, ["audit", "verify"]).exit_code == 0
        sql("UPDATE audit_entry SET actor_name = '李四' WHERE seal_no = 5")
        told = runner.invoke(app, ["audit", "verify"])
        assert told.exit_code == 1
        assert "CHANGED: entry 5" in told.stderr
        told = runner.invoke(app, ["audit", "verify", "--json"])
        assert told.exit_code == 1
        found = json.loads(told.stdout)
        assert not found["ok"]
        assert found["findings"][0]["seal_no"] == 5

    def test_a_copy_of_the_heads_kept_elsewhere(self, tmp_path: Path) -> None:
        copy = tmp_path / "heads-of-yesterday.jsonl"
        copy.write_text(seal._heads_file().read_text())
        for found in list(seal._store_heads()):
            object_store().delete(found.where)
        seal._heads_file().unlink()
        sql("DELETE FROM audit_entry WHERE seal_no > 15")
        told = CliRunner().invoke(app, ["audit", "verify", "--heads", str(copy), "--json"])
        assert told.exit_code == 1
        assert [one["kind"] for one in json.loads(told.stdout)["findings"]] == ["cut"]
