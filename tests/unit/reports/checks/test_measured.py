"""How often the checks are right, on a list of report snippets whose wanted answers were written before the rules.

Two thirds of the list were looked at while the rules were written, a third was held out. `pytest -s` prints the table.
`HUB_WRITE_MEASURED=1 pytest` writes the figures that the settings page shows; otherwise a difference fails.
"""

from __future__ import annotations

import json
import os

import pytest

from hub.reports.checks.catalogue import CHECKS, MEASURED, PRECISION, RULES, Level, Measured, default_level, measured
from support.report_checks import Snippet, as_json, measure, snippets, table


@pytest.fixture(scope="module")
def answers() -> list[tuple[Snippet, set[str]]]:
    """Each snippet with what the checks said."""
    return [(one, one.found()) for one in snippets()]


def test_the_list_is_large_enough_and_in_both_languages() -> None:
    listed = snippets()
    assert sum(one.chinese for one in listed) >= 120
    assert sum(not one.chinese for one in listed) >= 40
    assert len({one.id for one in listed}) == len(listed)
    assert sum(one.part == "held-out" for one in listed) >= len(listed) // 4
    assert all(one.expect <= set(CHECKS) for one in listed)
    # Each check has something to find, and there is much in which nothing should be found.
    assert {code for one in listed for code in one.expect} == set(CHECKS)
    assert sum(not one.expect for one in listed) >= len(listed) // 4


def test_the_figures_are_what_the_settings_page_shows(answers: list[tuple[Snippet, set[str]]]) -> None:
    figures = measure(answers)
    print("\n" + table(figures))
    if os.environ.get("HUB_WRITE_MEASURED"):
        text = json.dumps(as_json(figures, len(answers)), indent=1, ensure_ascii=False)
        MEASURED.write_text(text + "\n", encoding="utf-8")
        measured.cache_clear()
    assert json.loads(MEASURED.read_text(encoding="utf-8")) == as_json(figures, len(answers))
    assert measured() == figures


def test_what_is_on_by_default_is_right_often_enough(answers: list[tuple[Snippet, set[str]]]) -> None:
    figures = measure(answers)
    for code in CHECKS:
        precision = figures[code]["all"].precision
        if default_level(code) is Level.OFF:
            assert precision is None or precision < PRECISION, code
        else:
            assert precision is not None and precision >= PRECISION, code


def test_a_check_that_was_never_measured_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for kept, level in (
        ({}, Level.OFF),
        ({"all": Measured(10, 0, 0)}, Level.OFF),
        ({"all": Measured(20, 20, 18)}, Level.OFF),
        ({"all": Measured(20, 20, 19)}, Level.WARN),
    ):
        monkeypatch.setattr("hub.reports.checks.catalogue.measured", lambda kept=kept: {"unit": kept})
        assert default_level("unit") is level


def test_each_check_has_a_rule_and_no_rule_fails_on_the_list(answers: list[tuple[Snippet, set[str]]]) -> None:
    assert set(RULES) == set(CHECKS)
    assert [one.outcome().not_run for one, _said in answers[:40]] == [[]] * 40


def test_every_passage_is_where_it_says() -> None:
    for one in snippets():
        for finding in one.outcome().findings:
            text = one.texts.get(finding.field, "")
            assert 0 <= finding.start < finding.end <= len(text), (one.id, finding)
            assert text[finding.start : finding.end] == finding.passage
