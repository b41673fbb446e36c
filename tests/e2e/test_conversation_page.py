"""History loop, retake loop and marked passages in browsers: the reader's, and the clinic's on a phone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hub.app import create_app
from support.reading import make_exam, ok, state_of, submitted
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
PICTURES = os.environ.get("HUB_TEST_PICTURES", "")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def browser(world: World) -> Iterator[Any]:
    """`browser.person(login, width, height)` gives somebody's page."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import sync_playwright

    with serving(create_app(), live=True) as url, sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        faults: list[str] = []

        def person(login: str, width: int = 1440, height: int = 900) -> Any:
            context = opened.new_context(viewport={"width": width, "height": height}, base_url=url)
            context.add_cookies(
                [{"name": "hub_session", "value": world.client(login).cookies["hub_session"], "url": url}]
            )
            context.route("**/ohif/**", lambda route: route.fulfill(body="<!doctype html>"))
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            return page

        opened.person = person
        yield opened
        assert faults == []
        opened.close()


def picture(page: Any, name: str) -> None:
    """Keep what the page shows, where somebody wants to look at it."""
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"conversation-{name}.png"))


def test_history_and_retake_loops(world: World, browser: Any) -> None:
    from playwright.sync_api import expect

    asked = make_exam(world, name="王伟")
    reader, phone = browser.person("reporter"), browser.person("technologist", 390, 844)
    phone.goto(f"/clinic/exams/{asked}")
    reader.goto(f"/read/{asked}")
    reader.locator(".read-foot summary").click()
    reader.locator("[data-act=history]").click()
    reader.locator("#history-dialog textarea").fill("有无外伤?")
    reader.locator("#history-dialog [type=submit]").click()
    # Live: the phone shows the question without being touched, and the badge counts it.
    expect(phone.locator("#ask")).to_contain_text("有无外伤?")
    picture(phone, "asked")
    phone.reload()
    phone.locator("[data-open-dialog=history-dialog]").click()
    phone.locator("#history-text").fill("三天前跌倒")
    picture(phone, "answering")
    phone.locator("#history-dialog [type=submit]").click()
    expect(phone.locator("[data-talk-lines]")).to_contain_text("三天前跌倒")
    assert state_of(asked) == "to_read"

    reader.goto(f"/read/{asked}")
    expect(reader.locator("#read-warnings")).to_contain_text("三天前跌倒")
    reader.locator("#tab-talk").click()
    reader.locator("#talk-text").fill("谢谢")
    reader.locator("#talk-text").press("Control+Enter")
    expect(phone.locator("[data-talk-lines]")).to_contain_text("谢谢")
    expect(reader.locator("[data-talk-lines] .talk-line--mine").last).to_contain_text("已读")
    picture(reader, "thread")

    reader.locator(".read-foot summary").click()
    reader.locator("[data-act=retake]").click()
    reader.locator("#retake-dialog [value=motion]").check()
    reader.locator("#retake-dialog textarea").fill("呼吸伪影")
    picture(reader, "retake")
    reader.locator("#retake-dialog [type=submit]").click()
    expect(phone.locator("#ask")).to_contain_text("呼吸伪影")
    picture(phone, "returned")
    phone.reload()
    phone.locator("[data-retake]").click()
    phone.wait_for_url(lambda url: asked not in url)
    expect(phone.locator("#exam-live")).to_contain_text("这是重拍")
    assert state_of(asked) == "retake"


def test_marked_passages(world: World, browser: Any) -> None:
    from playwright.sync_api import expect

    exam_id, version = submitted(world)
    reviewer = browser.person("reviewer")
    reviewer.goto(f"/read/{exam_id}")
    findings = reviewer.locator("#findings")
    expect(findings).to_have_value(version["findings"])
    findings.focus()
    findings.press("Control+Home")
    for _character in range(2):
        findings.press("Shift+ArrowRight")
    reviewer.locator("[data-act=mark]").click()
    reviewer.locator("#passages input").fill("应为左侧")
    picture(reviewer, "marking")
    reviewer.locator("[data-act=reject]").click()
    reviewer.locator("#reject-dialog [type=submit]").click()
    expect(reviewer.locator("#toasts")).to_contain_text("已驳回")
    author = browser.person("reporter")
    author.goto(f"/read/{exam_id}")
    expect(author.locator("#passages")).to_contain_text("应为左侧")
    expect(author.locator(".lit mark")).to_have_text(version["findings"][:2])
    picture(author, "marked")
    author.get_by_role("button", name="已改好").click()
    expect(author.locator("#passages .is-done")).to_have_count(1)
    rows = ok(world.client("reporter").get(f"/api/reports/{version['version_id']}/passages"))["passages"]
    assert [(row["quoted"], bool(row["resolved_at"])) for row in rows] == [(version["findings"][:2], True)]
