"""The `hub` command as an operator types it, each time in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.running import hub, hub_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """A migrated, empty hub that nobody runs."""
    made = hub_environment(tmp_path)
    done = hub("db", "upgrade", env=made)
    assert done.returncode == 0, done.stderr
    assert "now" in done.stdout
    return made


def test_help_names_every_command(tmp_path: Path) -> None:
    said = hub("--help", env=hub_environment(tmp_path)).stdout
    for name in (
        "run", "serve", "worker", "scheduler", "db", "org", "user", "key", "sample", "doctor", "rehearse", "audit",
        "settings",
    ):  # fmt: skip
        assert f"\n│ {name} " in said or f"\n  {name} " in said, name


def test_an_upgrade_is_done_once(env: dict[str, str]) -> None:
    assert "already" in hub("db", "upgrade", env=env).stdout


def test_a_county_is_set_up_from_the_command_line(env: dict[str, str]) -> None:
    for arguments in (
        ("--code", "C01", "--name", "石桥卫生院", "--kind", "clinic"),
        ("--code", "H01", "--name", "县人民医院", "--kind", "hospital", "--reads-for", "C01"),
    ):
        assert hub("org", "add", *arguments, env=env).returncode == 0
    listed = json.loads(hub("org", "list", "--json", env=env).stdout)
    assert [(org["code"], org["kind"]) for org in listed] == [("C01", "clinic"), ("H01", "hospital")]
    added = hub(
        "user", "add", "--login", "wang.wei", "--name", "王伟", "--org", "C01", "--role", "technologist", env=env
    )
    assert added.returncode == 0
    assert "first password: " in added.stdout
    first, second = (hub("key", "add", "--org", "C01", env=env).stdout.strip() for _ in range(2))
    assert first != second
    assert len(first) > 30
    # Not the sample county: its passwords are not to be had here.
    assert hub("sample", "--json", env=env).returncode == 1


def test_a_wrong_value_is_refused_in_words(env: dict[str, str]) -> None:
    done = hub("key", "add", "--org", "NONE", env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("Refused: ")
    assert "Traceback" not in done.stderr


def test_doctor_says_what_is_wrong_and_what_to_do(env: dict[str, str]) -> None:
    # Nobody runs a worker here.
    done = hub("doctor", "--json", env=env)
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert not found["ok"]
    checks = {check["name"]: check for check in found["checks"]}
    assert checks["database"]["ok"]
    assert checks["objects"]["ok"]
    bad = [check for check in checks.values() if not check["ok"]]
    assert bad
    assert all(check["advice"] for check in bad)


def test_settings_hide_secrets(env: dict[str, str]) -> None:
    url = "postgresql+psycopg://hub:geheim@db/hub"
    said = hub("settings", "--json", env=env | {"HUB_DATABASE_URL": url, "HUB_SECRET_KEY": "geheim" * 8}).stdout
    rows = {row["name"]: row for row in json.loads(said)}
    assert "geheim" not in said
    assert rows["HUB_DATABASE_URL"]["value"] == "postgresql+psycopg://…@db/hub"
    assert all(row["meaning"] for row in rows.values())


def test_rehearse_without_a_hub_says_so(tmp_path: Path) -> None:
    done = hub("rehearse", env=hub_environment(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "there is no hub in" in done.stderr
    assert "Traceback" not in done.stderr
