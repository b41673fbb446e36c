"""Warnings of the checks in a browser: shown while writing, answered by keys, asked again before the report leaves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from e2e.test_read_page import ARGUMENTS, CHROMIUM
from hub.app import create_app
from hub.exams.states import State
from hub.kit.db import database
from hub.reports.checks.models import CheckOverride
from support.reading import make_exam, state_of
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

FINDINGS = "胸廓对称。右肺下叶见片状密度增高影,边缘模糊,大小约  cm。余肺野清晰。"


@pytest.fixture
def page(world: World) -> Iterator[Any]:
    """A page in which the reader is logged in; `page.base` is the hub's address."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import sync_playwright

    cookie = world.client("reporter").cookies["hub_session"]
    with serving(create_app()) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "hub_session", "value": cookie, "url": url}])
        opened = context.new_page()
        opened.base = url
        yield opened
        browser.close()


def test_warnings_are_shown_jumped_to_answered_and_asked_before_submitting(page: Any, world: World) -> None:
    exam_id = make_exam(world, body_parts=["chest"], with_study=False)
    page.goto(f"{page.base}/read/{exam_id}")
    page.wait_for_selector("#findings:focus")
    page.keyboard.type(FINDINGS)
    page.fill("#impression", "左肺下叶炎症。")
    page.keyboard.press("Alt+p")
    side = page.locator("#checks [data-check=side-differs]")
    side.wait_for()
    page.locator("#checks [data-check=placeholder]").wait_for()

    # A click selects the passage in its field.
    side.locator(".check-words").click()
    page.wait_for_selector("#impression:focus")
    assert page.evaluate("window.getSelection().toString()") == "左肺下叶炎症"

    # Mended, the warning goes by itself.
    page.fill("#findings", FINDINGS.replace("约  cm", "约3.2cm×2.5cm"))
    page.locator("#checks [data-check=placeholder]").wait_for(state="detached")

    # Submitting asks; going back keeps the report here.
    page.keyboard.press("Control+Enter")
    dialog = page.locator("#checks-dialog[open]")
    dialog.wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    # The page leads back to the passage once the deed has ended: until then it takes no other.
    page.wait_for_selector("#impression:focus")
    assert state_of(exam_id) == State.READING

    # One key opens the reasons, one answers.
    page.keyboard.press("Alt+o")
    dialog.wait_for()
    page.keyboard.press("2")
    page.locator("#checks .check-row--answered[data-check=side-differs]").wait_for()
    with database().reading() as session:
        assert [row.why for row in session.scalars(select(CheckOverride))] == ["confirmed"]

    with page.expect_response("**/submit") as answer:
        page.keyboard.press("Control+Enter")
    assert answer.value.ok
    assert state_of(exam_id) == State.TO_REVIEW
