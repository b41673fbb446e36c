"""The DIMSE section of the conformance statement says what the code registers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub.protocols.dimse import query, retrieve, service, statuses

TEXT = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text("utf-8").partition("## 8 DIMSE")[2]


def section(name: str) -> str:
    return TEXT.partition(f"### {name}\n")[2].partition("\n### ")[0]


def test_sop_classes() -> None:
    listed = set(re.findall(r"^\| [^|]+ \| (1\.2\.840[.\d]+) \| SCP \|", section("SOP classes"), re.MULTILINE))
    assert listed == set(service.SERVICES)


def test_levels() -> None:
    assert set(retrieve.MOVES.values()) == set(retrieve.GETS.values()) == set(query.LEVELS_OF.values())


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("C-STORE", statuses.STORE),
        ("C-FIND", statuses.FIND),
        ("C-MOVE and C-GET", statuses.RETRIEVE),
        ("Storage Commitment", statuses.COMMITMENT),
    ],
)
def test_statuses(name: str, known: dict[int, str]) -> None:
    listed = re.findall(r"^\| ([0-9A-F]{4}) \| (.+) \|$", section(name), re.MULTILINE)
    assert {int(code, 16): meaning for code, meaning in listed} == known


def test_every_status_that_is_answered_is_in_a_table() -> None:
    """A status constant that a service uses stands in that service's table."""
    tables = {
        "store": statuses.STORE,
        "query": statuses.FIND,
        "retrieve": statuses.RETRIEVE,
    }
    for name, table in tables.items():
        source = (Path(query.__file__).parent / f"{name}.py").read_text("utf-8")
        used = {getattr(statuses, word) for word in re.findall(r"statuses\.([A-Z][A-Z_]+)\b", source)}
        # A sub-operation that failed in the hub is counted, not answered.
        extra = {statuses.PROCESSING_FAILURE} if name == "retrieve" else set()
        assert {one for one in used if isinstance(one, int)} - extra <= set(table), name


def test_comments_fit_their_element() -> None:
    said = statuses.comment("影像 " + "x" * 100 + "\\\n")
    assert len(said) == 64 and said.isascii() and "\\" not in said
    assert statuses.comment("short") == "short"
