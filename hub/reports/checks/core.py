"""Examining a report: texts and facts in, findings out. No database, no clock, no settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Literal

from hub.kit.i18n import Message
from hub.kit.logging import describe, get_logger
from hub.reports.checks.lexicon import Reading
from hub.reports.checks.text import Document

log = get_logger(__name__)

FIELDS = ("technique", "comparison", "findings", "impression", "recommendation")
Source = Literal["text", "registration", "images", "history", "prior", "previous-report"]


@dataclass(frozen=True, slots=True)
class Previous:
    """The report that the same author wrote before this one, of another patient."""

    patient_name: str = ""
    findings: str = ""
    impression: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the exam beside the text of its report.

    Attributes:
        name: The patient's.
        sex: "M", "F", or what nothing follows from.
        age_years: Completed years at the exam; None where it is not known.
        modality: The requested one ("CT", "DX", …), empty where it is not known.
        body_parts: Codes of hub.exams.catalogue.
        sides: "L" and "R" as registered (in the procedure's name) or as the images say; empty where nobody said.
        sides_from: Where `sides` comes from.
        history: What the clinic wrote.
        priors: Texts of the same person's earlier signed reports.
        exam_date: The day of the exam in the county's zone.
        previous: The author's previous report, if it is of the last few days.
        normal_templates: Texts that may be the same in every report.
        positive: The flag of the report; None where it is not set.
        critical: Whether the critical flag is set, or a critical value was raised and stands, open or closed.
    """

    name: str = ""
    sex: str = ""
    age_years: int | None = None
    modality: str = ""
    body_parts: tuple[str, ...] = ()
    sides: frozenset[str] = frozenset()
    sides_from: Source = "registration"
    history: str = ""
    priors: tuple[str, ...] = ()
    exam_date: date | None = None
    previous: Previous | None = None
    normal_templates: tuple[str, ...] = ()
    positive: bool | None = None
    critical: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to look at again.

    Attributes:
        code: The check, a key of `catalogue.CHECKS`.
        field: One of FIELDS, or empty where it is about the report as a whole.
        start: First character of the passage, counted in code points.
        end: One past its last character.
        passage: The passage itself.
        message: What is wrong, in one sentence.
        explanation: Why the check thinks so, and what to do.
        source: Where the other side of the disagreement stands.
        other: The words of that other side; they tell two findings on one passage apart.
    """

    code: str
    field: str
    start: int
    end: int
    passage: str
    message: Message
    explanation: Message
    source: Source = "text"
    other: str = ""

    @property
    def fingerprint(self) -> str:
        """What an answer to this finding is kept under: it holds while its passage stays, wherever that moves."""
        said = "\x1f".join((self.code, self.field, " ".join(self.passage.split()), " ".join(self.other.split())))
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Findings in reading order, and the checks that could not be run."""

    findings: list[Finding] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)


class Report:
    """The texts of one report, each read once for all rules."""

    def __init__(self, texts: dict[str, str], facts: Facts) -> None:
        self.texts = {name: texts.get(name, "") for name in FIELDS}
        self.facts = facts
        self._readings: dict[str, Reading] = {}

    def __getitem__(self, name: str) -> Document:
        return self.documents[name]

    @cached_property
    def documents(self) -> dict[str, Document]:
        """Each field, taken apart."""
        return {name: Document(text) for name, text in self.texts.items()}

    def reading(self, name: str) -> Reading:
        """What a field names: organs, lesions, sides."""
        known = self._readings.get(name)
        if known is None:
            known = self._readings[name] = Reading(self.documents[name])
        return known

    @cached_property
    def history(self) -> Document:
        """What the clinic wrote."""
        return Document(self.facts.history)

    @cached_property
    def priors(self) -> list[Document]:
        """Earlier reports."""
        return [Document(text) for text in self.facts.priors]

    def finding(
        self,
        code: str,
        field_: str,
        span: tuple[int, int],
        message: Message,
        explanation: Message,
        *,
        source: Source = "text",
        other: str = "",
    ) -> Finding:
        """A finding at `span` of a field."""
        start, end = span
        passage = self.texts[field_][start:end] if field_ else ""
        return Finding(code, field_, start, end, passage, message, explanation, source, other)


Rule = Callable[[Report], Iterable[Finding]]
MOST = 20
"""Findings of one check in one report; more would not be read."""


def examine(
    texts: dict[str, str], facts: Facts, rules: dict[str, Rule], *, codes: Iterable[str] | None = None
) -> Outcome:
    """Run the checks over a report.

    Args:
        texts: Field of the report → its text; what is missing is empty.
        facts: What is known beside it.
        rules: Check → rule (`catalogue.RULES`).
        codes: Which checks; by default all.

    Returns:
        What they found. A rule that fails is named in `not_run` and keeps no other from running.
    """
    outcome = Outcome()
    report = Report(texts, facts)
    for code in rules if codes is None else codes:
        try:
            found = list(rules[code](report))[:MOST]
        except Exception as error:
            log.error("a check of a report failed", check=code, error=describe(error))
            outcome.not_run.append(code)
        else:
            outcome.findings.extend(found)
    order = {name: index for index, name in enumerate(FIELDS)}
    outcome.findings.sort(key=lambda f: (order.get(f.field, -1), f.start, f.code))
    return outcome
