"""Night and morning in a browser: preliminary report, tracked review, a changed conclusion acknowledged by name."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hub.app import create_app
from hub.delivery import service as delivery
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from support.reading import PIN, cheap_keys, claim, make_exam, ok, open_key, state_of, write
from support.review import NIGHT, set_policy
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip

BENIGN, MALIGNANT = "右肺上叶结节,考虑良性。", "右肺上叶结节,考虑恶性。"

PICTURES = os.environ.get("HUB_TEST_PICTURES", "")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


def deliver(exam_id: str, client: Any) -> str:
    """What the worker does with the newest version that was released."""
    version = next(
        one
        for one in ok(client.get(f"/api/exams/{exam_id}/reports"))["versions"]
        if one["state"] in ("signed", "issued")
    )
    with database().writing() as session:
        delivery.return_report(session, SYSTEM, version["version_id"])
    return str(version["version_id"])


def picture(page: Any, name: str) -> None:
    """Keep what the page shows, where somebody wants to look at it."""
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"review-{name}.png"))


def test_a_night_and_its_morning(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import expect, sync_playwright

    cheap_keys(monkeypatch)
    set_policy(world, grade_required=True, **NIGHT)
    author, reviewer, clinic = world.client("reporter"), world.client("reviewer"), world.client("clinician")
    # No images: what the play is about is the report, and a viewer takes its seconds.
    exam_id = make_exam(world, priority="emergency", with_study=False, body_parts=["chest"])
    text = {"technique": "胸部CT平扫。", "findings": "右肺上叶见一结节,边缘清楚。", "impression": BENIGN}
    write(author, exam_id, claim(author, exam_id), **text, critical=False)
    open_key(author)
    open_key(reviewer)
    with serving(create_app(), live=True) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        faults: list[str] = []

        def opened(client: Any, path: str) -> Any:
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            context.add_cookies([{"name": "hub_session", "value": client.cookies["hub_session"], "url": url}])
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(url + path)
            return page

        def sign(page: Any) -> None:
            """Confirm the dialog; the browser has no opened key yet."""
            pin = page.locator("#sign-pin")
            expect(page.locator("#sign-dialog")).to_have_attribute("open", "")
            if pin.is_visible():
                pin.fill(PIN)
            page.click("#sign-go")

        night = opened(author, f"/read/{exam_id}")
        night.click("[data-act=preliminary]")
        expect(night.locator("[data-sign-preliminary]")).to_be_visible()
        sign(night)
        expect(night.locator("#toasts")).to_contain_text("已签发")
        assert state_of(exam_id) == "preliminary"
        preliminary = deliver(exam_id, author)

        desk = opened(clinic, "/clinic/inbox")
        expect(desk.locator("#inbox")).to_contain_text("急诊报告")
        # The clinic reads and acts on it in the night; what is no news in the morning is not the conclusion.
        desk.locator("#inbox tr.is-unseen a").first.click()
        expect(desk.locator(".paper-mark")).to_contain_text("急诊报告,以正式报告为准")
        picture(desk, "preliminary")
        assert ok(clinic.get(f"/api/exams/{exam_id}/reports"))["versions"][0]["version_id"] == preliminary
        desk.goto(f"{url}/clinic/inbox")
        expect(desk.locator("#inbox tr.is-unseen")).to_have_count(0)
        assert state_of(exam_id) == "preliminary"

        morning = opened(reviewer, f"/read/{exam_id}")
        expect(morning.locator("[data-conclusion]")).to_be_visible()
        morning.fill("#impression", MALIGNANT)
        expect(morning.locator("[data-change-count]")).to_have_text("1")
        morning.click("[data-act=original]")
        change = morning.locator("[data-original=impression] .change")
        expect(change.locator("del")).to_have_text("良")
        expect(change.locator("ins")).to_have_text("恶")
        # Taken back, the author's words stand again; and once more his own.
        change.locator("button").nth(1).click()
        expect(morning.locator("#impression")).to_have_value(BENIGN)
        morning.fill("#impression", MALIGNANT)
        morning.click("[data-act=sign]")
        expect(morning.locator("[data-grade]")).to_have_class(re.compile("is-asked"))
        morning.check("[name=agreement][value=disagree]")
        morning.check("[name=significant][value=yes]")
        expect(morning.locator("[data-score]")).to_have_text("RADPEER 3b")
        morning.click("[data-act=sign]")
        expect(morning.locator("[data-conclusion]")).to_have_class(re.compile("is-asked"))
        morning.check("[name=conclusion][value=yes]")
        morning.fill("[name=conclusion_note]", "考虑恶性,不是良性")
        picture(morning, "review")
        morning.click("[data-act=sign]")
        sign(morning)
        expect(morning.locator("#toasts")).to_contain_text("已签发")
        formal = deliver(exam_id, reviewer)

        # The clinic's open page hears of it, and keeps saying so until somebody acknowledges it.
        expect(desk.locator("#conclusion-bar")).to_contain_text("考虑恶性,不是良性")
        picture(desk, "alarm")
        desk.goto(f"{url}/reports/{preliminary}")
        expect(desk.locator(".paper-mark")).to_contain_text("急诊报告,以正式报告为准")
        expect(desk.locator(".alert--bad").first).to_contain_text("正式报告")
        picture(desk, "superseded")
        desk.goto(f"{url}/reports/{formal}")
        desk.click("[data-acknowledge]")
        desk.click("dialog[open] button[value=yes]")
        expect(desk.locator("#main")).to_contain_text("确认知悉")
        expect(desk.locator("#conclusion-bar")).to_be_empty()

        told = opened(author, "/reviews")
        expect(told.locator("#reviews ins")).to_have_text("恶")
        expect(told.locator("#reviews")).to_contain_text("RADPEER 3b")
        browser.close()
    assert faults == []
    change = ok(clinic.get("/api/conclusion-changes?state=all"))["changes"][0]
    assert change["acknowledged_by"] == world.people["clinician"].name
