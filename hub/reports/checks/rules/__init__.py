"""The rules, one module for each kind; `RULES` maps each check to its rule."""

from __future__ import annotations

from hub.reports.checks.core import Rule
from hub.reports.checks.rules import (
    anatomy,
    contradictions,
    copied,
    critical_words,
    leftovers,
    measures,
    persons,
    sides,
)

RULES: dict[str, Rule] = {
    "side-exam": sides.against_exam,
    "side-differs": sides.within,
    "sex-organ": anatomy.sex,
    "body-part": anatomy.body_part,
    "modality": anatomy.modality,
    "placeholder": leftovers.blanks,
    "impression-empty": leftovers.impression,
    "contradiction": contradictions.denied,
    "unfounded": contradictions.unfounded,
    "unit": measures.unit,
    "magnitude": measures.magnitude,
    "unit-differs": measures.mixed,
    "removed-organ": anatomy.removed,
    "patient": persons.patient,
    "critical-words": critical_words.unflagged,
    "copied": copied.copied,
    "flag": contradictions.flag,
}
