"""The guides stay true: what they say of routes, settings, commands and formats is compared with the code."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest
import typer.main
from fastapi.routing import APIRoute

from hub.cli import app as command
from hub.dicom import codecs, errors, objects
from hub.kit.settings import Settings
from hub.protocols.dicomweb import stow
from hub.protocols.dicomweb.routes import ROUTERS as DICOMWEB
from hub.protocols.tus.routes import router as tus
from hub.studies import reasons, search

ROOT = Path(__file__).parents[2]
GUIDES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@lru_cache
def read(name: str) -> str:
    """The text of a file below the project's folder."""
    return (ROOT / name).read_text("utf-8")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("guide", GUIDES, ids=relative)
def test_links_and_pictures_lead_somewhere(guide: Path) -> None:
    """Links within the project resolve, headings included."""
    text = FENCE.sub("", guide.read_text("utf-8"))
    broken = []
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _hash, anchor = target.partition("#")
        place = (guide.parent / name).resolve() if name else guide
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            broken.append(target)
    assert not broken


def anchors(guide: Path) -> set[str]:
    """Anchors of a guide's headings, as the usual hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", guide.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\- ]", "", heading.strip().lower())) for heading in headings}


@pytest.mark.parametrize(
    "route",
    [
        f"{method} {r.path}"
        for router in DICOMWEB
        for r in router.routes
        if isinstance(r, APIRoute)
        for method in sorted(r.methods)
    ],
)
def test_every_dicomweb_route_is_in_the_conformance_statement(route: str) -> None:
    assert f"`{route.replace(':path', '')}`" in read("docs/conformance.md")


def test_the_conformance_statement_names_no_other_dicomweb_route() -> None:
    known = {
        f"{method} {r.path.replace(':path', '')}"
        for router in DICOMWEB
        for r in router.routes
        if isinstance(r, APIRoute)
        for method in r.methods
    }
    named = set(re.findall(r"`((?:GET|POST|PUT|DELETE) /(?:viewer/)?dicomweb[^`]*)`", read("docs/conformance.md")))
    assert named <= known


def test_matching_keys_are_those_of_the_code() -> None:
    section = read("docs/conformance.md").partition("### Search (QIDO-RS)")[2].partition("\n## ")[0]
    row = r"^\| (study|series|instance) \| `([^`]+)` \| ([0-9A-F.]+) \| ([^|]+) \|$"
    listed = re.findall(row, section, re.MULTILINE)
    assert listed == [(key.level.value, key.keyword, key.path, key.match.value) for key in search.KEYS]


def test_decoded_transfer_syntaxes_are_those_of_the_code() -> None:
    listed = re.findall(r"^\| [^|]+ \| (1\.2\.840\.10008\.1\.2[.\d]*) \|$", read("docs/conformance.md"), re.MULTILINE)
    assert sorted(listed) == sorted(codecs.DECODABLE)


def test_created_sop_classes_are_those_of_the_code() -> None:
    section = read("docs/conformance.md").partition("## 4 ")[2].partition("\n## ")[0]
    assert set(re.findall(r"1\.2\.840\.10008\.5[.\d]+\d", section)) == {
        objects.BASIC_TEXT_SR,
        objects.ENCAPSULATED_PDF,
    }


def test_failure_reasons_are_those_of_the_code() -> None:
    """Each code stands in the table beside the value that the sender gets."""
    section = read("docs/conformance.md").partition("### Failure reasons")[2].partition("### ")[0]
    listed = {
        code: int(value, 16)
        for value, codes in re.findall(r"^\| ([0-9A-F]{4})H \| (`[^|]+`) \|", section, re.MULTILINE)
        for code in re.findall(r"`([^`]+)`", codes)
    }
    own = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    codes = own | set(errors.MESSAGES)
    archives = {code for code in codes if code.startswith("zip-")}
    expected = {code: stow._FAILURES.get(code, stow.NOT_UNDERSTOOD) for code in codes - archives}
    assert listed == expected
    assert all(f"`{code}`" in section for code in archives)


def test_every_setting_is_in_the_operators_table() -> None:
    listed = re.findall(r"^\| `(HUB_[A-Z_]+)` \|", read("docs/operator.md"), re.MULTILINE)
    assert sorted(listed) == sorted(f"HUB_{name.upper()}" for name in Settings.model_fields)


def test_defaults_in_the_operators_table_are_those_of_the_code() -> None:
    listed = dict(re.findall(r"^\| `(HUB_[A-Z_]+)` \| ([^|]*) \|", read("docs/operator.md"), re.MULTILINE))
    wrong = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        if default in ("", None):
            text = "–"
        elif isinstance(default, bool):
            text = f"`{str(default).lower()}`"
        else:
            text = f"`{default}`"
        said = listed[f"HUB_{name.upper()}"].strip()
        if said != text:
            wrong[name] = (said, text)
    assert not wrong


def hub_commands() -> set[str]:
    """Every `hub` command, `db upgrade` included."""
    group = typer.main.get_command(command)
    found: set[str] = set()
    for name, one in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(one, "commands", None)
        found |= {f"{name} {sub}" for sub in inner} if inner else {name}
    return found


@pytest.mark.parametrize("guide", GUIDES, ids=relative)
def test_hub_commands_in_the_guides_exist(guide: Path) -> None:
    known = hub_commands()
    text = guide.read_text("utf-8")
    named = re.findall(r"(?:^|[`\s/(])hub ([a-z]+)(?: ([a-z][a-z-]*))?", code_of(text), re.MULTILINE)
    unknown = {" ".join(filter(None, pair)) for pair in named if pair[0] not in known and " ".join(pair) not in known}
    assert not unknown


def code_of(text: str) -> str:
    """What a guide writes as code: fenced blocks and inline spans."""
    fences = [re.sub(r"\s# .*", "", block) for block in FENCE.findall(text)]
    return "\n".join([*fences, *re.findall(r"`[^`\n]+`", FENCE.sub("", text))])


@pytest.mark.parametrize("guide", GUIDES, ids=relative)
def test_settings_named_in_the_guides_exist(guide: Path) -> None:
    known = {f"HUB_{name.upper()}" for name in Settings.model_fields}
    # Passwords and the proxy's mode belong to the compose file alone.
    known |= set(re.findall(r"\$\{(HUB_[A-Z_]+)", read("docker-compose.yml")))
    named = set(re.findall(r"\bHUB_[A-Z]+(?:_[A-Z]+)*\b", guide.read_text("utf-8")))
    assert {name for name in named if not name.startswith("HUB_TEST_")} <= known


def test_addresses_in_the_integrators_guide_exist() -> None:
    """Every address of the API that the guide names is one that the hub answers."""
    from hub.app import ROUTERS

    paths = {route.path for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)}
    paths |= {"/api/openapi.json", *(route.path for route in tus.routes if isinstance(route, APIRoute))}
    patterns = [re.compile("^" + re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(path)) + "$") for path in paths]
    named = set(
        re.findall(
            r"`(?:(?:GET|POST|PUT|PATCH|DELETE|HEAD|OPTIONS) )(/(?:api|v)/[^`?]*)(?:\?[^`]*)?`",
            read("docs/integrator.md"),
        )
    )
    assert named
    unknown = {name for name in named if not any(pattern.match(name) for pattern in patterns)}
    assert not unknown


def test_the_pictures_are_small_enough_to_load() -> None:
    heavy = {p.name: p.stat().st_size for p in (ROOT / "docs/pictures").glob("*.png") if p.stat().st_size > 250_000}
    assert not heavy
