"""The reading page in a browser: what is typed stays, whatever the line does."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hub.app import create_app
from support.reading import claim, make_exam, write
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


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
        opened.faults = []
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        yield opened
        assert opened.faults == []
        browser.close()


def test_words_typed_before_the_claim_is_answered_stay(page: Any, world: World) -> None:
    client = world.client("reporter")
    exam_id = make_exam(world)
    write(client, exam_id, claim(client, exam_id), findings="", impression="未见异常")

    held: list[Any] = []
    page.route("**/claim", lambda route: held.append(route))  # noqa: PLW0108 - the library wraps functions only
    page.goto(f"{page.base}/read/{exam_id}", wait_until="commit")
    page.wait_for_selector("#findings:focus")
    page.keyboard.type("双肺纹理清晰")
    page.wait_for_timeout(1500)
    for _try in range(1200):
        if held:
            break
        page.wait_for_timeout(50)
    assert held, "the claim was not asked for"
    with page.expect_response(lambda response: response.request.method == "PUT") as saved:
        held[0].continue_()
    assert saved.value.status == 200
    assert page.input_value("#findings") == "双肺纹理清晰"
    page.reload()
    page.wait_for_selector("#findings:focus")
    assert page.input_value("#findings") == "双肺纹理清晰"


def test_what_is_asked_before_the_claim_is_answered_waits_for_it(page: Any, world: World) -> None:
    exam_id = make_exam(world, with_study=False)
    # As from the queue: the form is there with the page, and the page asks for its lease.
    claim(world.client("reporter"), exam_id)
    held: list[Any] = []
    page.route("**/claim", lambda route: held.append(route))  # noqa: PLW0108 - the library wraps functions only
    page.goto(f"{page.base}/read/{exam_id}")
    page.click(".read-foot summary")
    page.click("[data-act=history]")
    page.fill("#history-dialog textarea", "有无外伤?")
    page.click("#history-dialog [type=submit]")
    page.wait_for_timeout(500)
    assert held, "the claim was not asked for"
    with page.expect_response("**/request-history") as asked:
        held[0].continue_()
    assert asked.value.ok
