"""docker-compose.yml and its Dockerfile keep their promises, as far as can be told without Docker."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
# Not settings of the hub: passwords of its neighbours, and how the proxy gets its certificate.
NEIGHBOURS = {"HUB_POSTGRES_PASSWORD", "HUB_VALKEY_PASSWORD", "HUB_MINIO_PASSWORD", "HUB_TLS", "HUB_DIMSE_PUBLISH"}
INTERPOLATION = re.compile(r"\$\{(?P<name>\w+)(?:(?P<how>:?[?-])(?P<rest>[^}]*))?\}")
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN", re.IGNORECASE)

TEXT = (REPOSITORY / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (REPOSITORY / ".docker" / "Dockerfile").read_text()


def one_shots() -> set[str]:
    return {
        name
        for service in SERVICES.values()
        for name, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }


def is_hub(service: dict[str, Any]) -> bool:
    return service.get("build", {}).get("target") == "hub"


def settings_fields() -> set[str]:
    from hub.kit.settings import Settings

    return {f"HUB_{name.upper()}" for name in Settings.model_fields}


def test_all_parts_are_there() -> None:
    assert set(SERVICES) == {"migrate", "web", "dimse", "worker", "scheduler", "postgres", "valkey", "minio", "proxy"}
    assert one_shots() == {"migrate"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_lasting_service_has_a_health_check_and_is_restarted(name: str) -> None:
    if name in one_shots():
        assert SERVICES[name]["restart"] == "no"
        return
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_dependencies_are_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how["condition"] in ("service_healthy", "service_completed_successfully")
        assert how["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_password_has_a_value_here(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        found = [match for match in INTERPOLATION.finditer(value) if SECRET.search(match["name"])]
        if SECRET.search(key):
            assert found and INTERPOLATION.fullmatch(value), f"{name}: {key} is not taken whole from the environment"
        if re.search(r"://[^/]*@", INTERPOLATION.sub("", value)):
            credentials = value.split("://", 1)[1].rsplit("@", 1)[0]
            assert INTERPOLATION.fullmatch(credentials.split(":", 1)[1]), f"{name}: {key} has a literal password"


def test_a_missing_password_stops_the_start_with_a_sentence() -> None:
    for match in INTERPOLATION.finditer(TEXT):
        if SECRET.search(match["name"]):
            assert match["how"] == ":?", f"{match['name']} may be missing or empty"
            assert match["rest"].startswith(f"Set {match['name']}, ")


def test_variables_are_settings_of_the_hub() -> None:
    known = settings_fields()
    for match in INTERPOLATION.finditer(TEXT):
        assert match["name"] in known | NEIGHBOURS, match["name"]
    for name, service in SERVICES.items():
        for key in service.get("environment", {}):
            if key.startswith("HUB_") and name != "proxy":
                assert key in known, f"{name}: {key} is no setting"
    wanted = {"HUB_DATABASE_URL", "HUB_BROKER_URL", "HUB_OBJECT_STORE_URL", "HUB_SECRET_KEY", "HUB_PUBLIC_URL"}
    for service in SERVICES.values():
        if is_hub(service):
            assert wanted | {"HUB_BIND", "HUB_HTTP_PORT", "HUB_DATA_DIR"} <= set(service["environment"])
    for key in re.findall(r"\b(HUB_\w+)=", DOCKERFILE):
        assert key in known


def test_settings_make_sense_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.kit.settings import Settings
    from storage.factory import open_store

    for key, value in SERVICES["web"]["environment"].items():
        plain = INTERPOLATION.sub(lambda match: match["rest"] if match["how"] == ":-" else "0a1b2c", value)
        monkeypatch.setenv(key, "https://imaging.example.org" if key == "HUB_PUBLIC_URL" else plain)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    assert not settings.is_sqlite
    assert settings.secure_cookies
    assert settings.sample_county is False
    assert repr(open_store(settings.object_store_url)) == "S3Store(minio:9000/hub/)"


def walk_command(words: list[str]) -> None:
    """Follow words through the `hub` command line."""
    import hub.cli

    assert words[0] == "hub"
    command: Any = typer.main.get_command(hub.cli.app)
    for word in words[1:]:
        assert word in command.commands, f"{' '.join(words)} is no command"
        command = command.commands[word]


@pytest.mark.parametrize("name", sorted(name for name, service in SERVICES.items() if is_hub(service)))
def test_commands_exist(name: str) -> None:
    walk_command(SERVICES[name]["command"])
    test = SERVICES[name].get("healthcheck", {}).get("test", [])
    if test[1:2] == ["hub"]:
        walk_command(test[1:])


def test_data_lives_in_named_volumes_only() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *options = volume.split(":")
            assert source in COMPOSE["volumes"] or options == ["ro"], f"{name}: {volume}"
            assert target.startswith("/")


def test_only_the_proxy_is_reached_from_outside() -> None:
    assert {name for name, service in SERVICES.items() if service.get("ports")} == {"proxy", "dimse"}
    # Devices are let in by the operator's word alone: who names no address publishes nothing.
    for port in SERVICES["dimse"]["ports"]:
        assert port.startswith("${HUB_DIMSE_PUBLISH:-127.0.0.1}:")
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "valkey", "minio"):
        assert SERVICES[name]["networks"] == ["inside"]
    proxy = SERVICES["proxy"]["networks"]["edge"]["ipv4_address"]
    assert SERVICES["web"]["environment"]["HUB_TRUSTED_PROXIES"] == proxy


@pytest.mark.parametrize("name", sorted(name for name, service in SERVICES.items() if is_hub(service)))
def test_hub_runs_with_the_least(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]


def test_dockerfile() -> None:
    final = DOCKERFILE.split(" AS hub\n", 1)[1]
    assert "\nUSER hub\n" in final
    assert "--require-hashes -r .locks/run.txt" in DOCKERFILE
    assert "python -m hub.web.build" in DOCKERFILE
    for line in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        stages = set(re.findall(r" AS (\S+)", DOCKERFILE))
        assert line in stages or re.search(r":\d", line), f"{line} has no version"
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets <= set(re.findall(r" AS (\S+)", DOCKERFILE))


@pytest.mark.parametrize("package", ["github.com/minio/minio", "github.com/versity/versitygw/cmd/versitygw"])
def test_object_servers_are_the_tested_ones(package: str) -> None:
    services = (REPOSITORY / ".ci" / "services").read_text()
    version = re.search(re.escape(package) + r"@(\S+)", DOCKERFILE)
    assert version is not None
    assert f"_VERSION={version[1]}\n" in services
