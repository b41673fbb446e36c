"""The table: what was measured on both sides, and whether the target is reached."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

STACKS = ("embedded", "server")


@dataclass(frozen=True)
class Target:
    """What a ratio must be: at least or at most `value`."""

    sense: Literal["≥", "≤"]
    value: float
    unit: str = "×"

    def __str__(self) -> str:
        return f"{self.sense} {self.value:g}{'×' if self.unit == '×' else f' {self.unit}'}"

    def reached(self, found: float) -> bool:
        """Whether `found` meets it."""
        return found >= self.value if self.sense == "≥" else found <= self.value


@dataclass
class Row:
    """One line: the hub's readings, the peer's, taken in turn, and what is wanted of their medians.

    Attributes:
        part: Which load it is of.
        name: What was measured.
        unit: Of both readings.
        hub: The hub's readings.
        peer: The peer's; empty where the hub is measured against a fixed limit.
        peer_is: Who the peer is.
        target: What the ratio (or the hub's own reading, without a peer) must be; None: for information.
        note: How to read it.
    """

    part: str
    name: str
    unit: str
    hub: list[float]
    peer: list[float] = field(default_factory=list)
    peer_is: str = "Orthanc"
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """The hub's median to the peer's; None without a peer."""
        if not self.peer or not statistics.median(self.peer):
            return None
        return statistics.median(self.hub) / statistics.median(self.peer)

    @property
    def reached(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        found = self.ratio if self.target.unit == "×" else statistics.median(self.hub)
        return found is not None and self.target.reached(found)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "part": self.part,
            "name": self.name,
            "unit": self.unit,
            "hub": self.hub,
            "peer": self.peer,
            "peer_is": self.peer_is,
            "ratio": self.ratio,
            "target": str(self.target) if self.target else None,
            "reached": self.reached,
            "note": self.note,
        }


def _number(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _spread(values: list[float]) -> str:
    """The median, and least to most where there are several."""
    if not values:
        return "–"
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))}–{_number(max(values))})"


def _cells(row: Row) -> list[str]:
    ratio = row.ratio
    verdict = {None: "", True: "yes", False: "**no**"}[row.reached]
    peer = _spread(row.peer)
    if row.peer and row.peer_is != "Orthanc":
        peer += f" ({row.peer_is})"
    return [
        f"{row.name}, {row.unit}",
        _spread(row.hub),
        peer,
        "–" if ratio is None else f"{ratio:.2f}×",
        str(row.target) if row.target else "",
        verdict,
    ]


def text(row: Row) -> str:
    """A line for the terminal."""
    name, hub, peer, ratio, target, verdict = _cells(row)
    wanted = f"  target {target}: {verdict.strip('*')}" if target else ""
    note = f"\n    {row.note}" if row.note else ""
    return f"{name:<62} hub {hub:<24} peer {peer:<24} {ratio:>7}{wanted}{note}"


def markdown(rows: list[Row], **about: Any) -> str:
    """The table of docs/benchmarks.md, under when and on what it was measured."""
    measured = time.strftime("%Y-%m-%d", time.gmtime())
    more = "".join(f"; {about[name]}" for name in ("peer", "images") if name in about)
    failed = [f"- {part} could not be measured: {why.splitlines()[0]}" for part, why in about.get("failed", {}).items()]
    lines = [f"Measured {measured} on {machine()}{more}.", ""]
    lines += ["| What | Hub | Peer | Ratio | Target | Reached |", "|---|---|---|---|---|---|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    notes = [f"- {row.name}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", *notes, *failed]).rstrip("\n") + "\n"


def renew(path: Path, section: str, content: str) -> None:
    """Put `content` between the marks of a section of a document; a file without these marks becomes the content.

    Args:
        path: Of the document.
        section: What stands in its marks, such as `core embedded`.
        content: Markdown.
    """
    begin, end = f"<!-- {section} -->\n", f"<!-- /{section} -->"
    known = path.read_text("utf-8") if path.exists() else ""
    head, found, rest = known.partition(begin)
    _old, closed, tail = rest.partition(end)
    path.write_text(f"{head}{begin}{content}{end}{tail}" if found and closed else content, "utf-8")


def machine() -> str:
    """What it ran on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def write_json(path: Path, stack: str, rows: list[Row], **about: Any) -> None:
    """All readings, with when and where."""
    found = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "stack": stack,
        **about,
        "rows": [row.as_dict() for row in rows],
    }
    path.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", "utf-8")
