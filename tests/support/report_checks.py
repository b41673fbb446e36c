"""The list of report snippets with the wanted answers, and how well the checks give them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from hub.reports.checks.catalogue import CHECKS, RULES, Measured
from hub.reports.checks.core import Facts, Outcome, Previous, examine

SNIPPETS = Path(__file__).parents[1] / "corpora" / "report_checks.jsonl"
PARTS = ("all", "development", "held-out")


@dataclass(frozen=True, slots=True)
class Snippet:
    """A report with what the checks should say of it: the codes, each once."""

    id: str
    part: str
    expect: frozenset[str]
    texts: dict[str, str]
    facts: Facts

    @property
    def chinese(self) -> bool:
        """Its language."""
        return self.id.startswith("zh")

    def outcome(self) -> Outcome:
        """What the checks say."""
        return examine(self.texts, self.facts, RULES)

    def found(self) -> set[str]:
        """Which checks spoke."""
        return {finding.code for finding in self.outcome().findings}


def _facts(values: dict[str, Any]) -> Facts:
    return Facts(
        name=values.get("name", ""),
        sex=values.get("sex", ""),
        age_years=values.get("age"),
        modality=values.get("modality", ""),
        body_parts=tuple(values.get("parts", ())),
        sides=frozenset(values.get("sides", "")),
        history=values.get("history", ""),
        priors=tuple(values.get("priors", ())),
        exam_date=date.fromisoformat(values["date"]) if "date" in values else None,
        previous=Previous(**values["previous"]) if "previous" in values else None,
        normal_templates=tuple(values.get("normal", ())),
        positive=values.get("positive"),
        critical=values.get("critical", False),
    )


def snippets() -> list[Snippet]:
    """All of them."""
    rows = (json.loads(line) for line in SNIPPETS.read_text(encoding="utf-8").splitlines() if line)
    return [
        Snippet(row["id"], row["part"], frozenset(row["expect"]), row["texts"], _facts(row["facts"])) for row in rows
    ]


def measure(found: Iterable[tuple[Snippet, set[str]]]) -> dict[str, dict[str, Measured]]:
    """Check → part → how often it should speak, spoke, and spoke where it should. A snippet counts once for a check."""
    found = list(found)
    return {
        code: {
            part: Measured(
                wanted=sum(code in one.expect for one, _said in found if part in ("all", one.part)),
                found=sum(code in said for one, said in found if part in ("all", one.part)),
                right=sum(code in said and code in one.expect for one, said in found if part in ("all", one.part)),
            )
            for part in PARTS
        }
        for code in CHECKS
    }


def as_json(figures: dict[str, dict[str, Measured]], total: int) -> dict[str, Any]:
    """The figures as hub/reports/checks/data/measured.json keeps them."""
    return {
        "snippets": total,
        "checks": {
            code: {part: {"wanted": one.wanted, "found": one.found, "right": one.right} for part, one in parts.items()}
            for code, parts in figures.items()
        },
    }


def table(figures: dict[str, dict[str, Measured]]) -> str:
    """The figures for people."""

    def percent(value: float | None) -> str:
        return "    —" if value is None else f"{value:5.0%}"

    lines = [f"{'check':<17}" + "".join(f"{part + ' P':>15}{'R':>7}{'(right/found/wanted)':>22}" for part in PARTS)]
    for code, parts in figures.items():
        line = f"{code:<17}"
        for part in PARTS:
            one = parts[part]
            line += f"{percent(one.precision):>15}{percent(one.recall):>7}"
            line += f"{f'{one.right}/{one.found}/{one.wanted}':>22}"
        lines.append(line)
    return "\n".join(lines)
