"""Organisations, people and keys from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from hub.cli import app

if TYPE_CHECKING:
    from support.world import World


def hub(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.usefixtures("hub_env")
def test_a_hub_is_filled_from_the_command_line() -> None:
    assert hub("org", "add", "--code", "c01", "--name", "银坑镇卫生院", "--kind", "clinic").exit_code == 0
    told = hub("org", "add", "--code", "H01", "--name", "县医院", "--kind", "hospital", "--reads-for", "C01")
    assert told.exit_code == 0
    assert [one["code"] for one in json.loads(hub("org", "list", "--json").stdout)] == ["C01", "H01"]
    told = hub("user", "add", "--login", "li.na", "--name", "李娜", "--org", "H01", "--role", "reporter")
    assert "first password: " in told.stdout
    (person,) = json.loads(hub("user", "list", "--json").stdout)
    assert (person["login"], person["roles"], person["must_change_password"]) == ("li.na", ["reporter"], True)
    assert "password" not in str({k: v for k, v in person.items() if k != "must_change_password"})
    made = json.loads(hub("key", "add", "--org", "C01", "--label", "CT", "--json").stdout)
    assert made["key"].startswith("hub_")
    listed = hub("key", "list", "--json").stdout
    assert made["key"] not in listed
    assert hub("key", "revoke", made["id"]).exit_code == 0
    assert json.loads(hub("key", "list", "--json").stdout)[0]["revoked"]
    assert made["key"] not in hub("key", "list").stdout


def test_a_lost_password_and_somebody_who_left(world: World) -> None:
    client = world.client("reporter")
    told = hub("user", "reset-password", "--login", "reporter")
    first = told.stdout.strip().rpartition(" ")[2]
    assert client.get("/nav").status_code == 401
    answer = world.anonymous().post("/api/session", json={"login": "reporter", "password": first})
    assert answer.json()["must_change_password"]
    assert hub("user", "deactivate", "--login", "reporter").exit_code == 0
    answer = world.anonymous().post("/api/session", json={"login": "reporter", "password": first})
    assert answer.status_code == 401
    assert "(inactive)" in hub("user", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("user", "reset-password", "--login", "nobody"), "Nobody has the login nobody"),
        (("key", "revoke", "nothing"), "There is no such key"),
        (("key", "add", "--org", "X99"), "No organisation has the code X99"),
        (("user", "add", "--login", "A B", "--name", "x", "--org", "C01", "--role", "clinician"), "login:"),
        (("user", "add", "--login", "ab", "--name", "x", "--org", "C01", "--role", "director"), "roles:"),
    ],
)
def test_refusals_are_said_in_words(world: World, arguments: tuple[str, ...], words: str) -> None:
    told = hub(*arguments)
    assert told.exit_code == 1
    assert words in told.stderr


def test_audit_seals_and_verifies(world: World, hub_env: Path) -> None:
    world.anonymous().post("/api/session", json={"login": "reporter", "password": "wrong"})
    assert "1 entries sealed" in hub("audit", "seal").stdout
    told = hub("audit", "verify")
    assert told.exit_code == 0
    assert "The log is whole." in told.stdout
    assert (hub_env / "audit-heads.jsonl").exists()
