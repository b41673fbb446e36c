"""A critical value that nobody answers, in three browsers: the reader's, the clinic's on a phone, the duty officer's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hub.app import create_app
from hub.kit import clock
from support.critical import FINDING, READ_BACK, events
from support.reading import make_exam, ok
from support.serving import serving
from workers.critical import sweep

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
        page.screenshot(path=str(Path(PICTURES) / f"critical-{name}.png"))


def test_nobody_answers_then_the_clinic_reads_back_acts_and_it_is_closed(world: World, browser: Any) -> None:
    administrator = world.client("administrator")
    for org, people in (
        ("C01", [("李医生", "13807970001"), ("周医生", "13807970002")]),
        ("H01", [("陈主任", "13807970003")]),
    ):
        contacts = [{"name": name, "role": "值班", "phone": phone} for name, phone in people]
        ok(administrator.put(f"/api/critical/contacts/{world.orgs[org].id}", json={"contacts": contacts}))
    exam_id = make_exam(world, priority="emergency")
    clinic, director = browser.person("clinician", 390, 844), browser.person("director")
    clinic.goto("/clinic/inbox")
    director.goto("/queue")
    assert clinic.locator("[data-critical-item]").count() == 0

    reader = browser.person("reporter")
    reader.goto(f"/read/{exam_id}")
    reader.wait_for_selector("#findings:focus")
    reader.keyboard.type("右侧基底节区高密度影")
    reader.keyboard.press("Alt+w")
    reader.wait_for_selector("#critical-flag[open]")
    reader.select_option("#critical-class", "cerebral_haemorrhage")
    reader.fill("#critical-finding", FINDING)
    picture(reader, "flag")
    reader.click("#critical-flag button[type=submit]")
    reader.wait_for_selector("#critical-dialog .critical-phones")
    assert "13807970001" in reader.inner_text("#critical-place")
    picture(reader, "call")

    # The alarm is on the clinic's page without anybody's reload, and it rings.
    clinic.wait_for_selector("[data-critical-item][data-rings]")
    item = clinic.locator("[data-critical-item]")
    critical_id = item.get_attribute("data-critical-item")
    assert item.get_attribute("data-level") == ""
    picture(clinic, "clinic-alarm")
    reader.click("#critical-dialog [data-close-dialog]")
    reader.wait_for_selector("#critical[aria-pressed=true]")
    reader.wait_for_selector("#critical-rows [data-critical-row]")
    picture(reader, "reading")

    began = datetime.now(UTC)
    clock.set_source(lambda: began + timedelta(minutes=5, seconds=10))
    sweep()
    for page in (clinic, reader, director):
        page.wait_for_selector('[data-critical-item][data-level="escalate"]')
    reader.wait_for_selector("[data-critical-item] >> text=周医生 13807970002")
    reader.wait_for_selector("[data-critical-item][data-rings]")
    clock.set_source(lambda: began + timedelta(minutes=10, seconds=20))
    sweep()
    for page in (clinic, reader, director):
        page.wait_for_selector('[data-critical-item][data-level="breach"]')
    director.wait_for_selector("[data-critical-item] >> text=陈主任 13807970003")
    picture(director, "duty-officer")
    picture(clinic, "clinic-breach")

    # A page that is opened only now has it as well, and nothing closes it.
    clinic.goto("/clinic")
    clinic.wait_for_selector("[data-critical-item][data-rings]")
    clinic.click("[data-critical-item] .critical-go")
    clinic.wait_for_url("**/critical/*")
    clinic.wait_for_selector("#read-back")
    picture(clinic, "clinic-read-back")
    clinic.fill("#read-back", READ_BACK)
    clinic.click("form[data-critical-post$='read-back'] button[type=submit]")
    clinic.wait_for_selector(".critical-head[data-state=received]")

    reader.wait_for_selector('#critical-rows [data-state="received"]')
    reader.click('#critical-rows [data-act="critical-open"]')
    reader.wait_for_selector("#critical-place .critical-compare >> text=" + READ_BACK)
    picture(reader, "compare")
    reader.click("#critical-place [data-critical-do$='confirm']")
    reader.wait_for_selector("#critical-place .critical-head[data-state=notified]")

    clinic.wait_for_selector(".critical-head[data-state=notified]")
    clinic.wait_for_selector("[data-critical-item][data-rings]", state="detached")
    clinic.check("input[name=action][value=emergency_called]")
    clinic.fill("#act-note", "120 已出发")
    clinic.click("form[data-critical-post$='actions'] button[type=submit]")
    clinic.wait_for_selector(".critical-head[data-state=acting]")
    picture(clinic, "clinic-acting")
    clinic.fill("#close-text", "已转县人民医院")
    clinic.click("form[data-critical-post$='close'] button[type=submit]")
    clinic.wait_for_selector(".critical-head[data-state=closed]")
    for page in (clinic, director):
        page.wait_for_selector("[data-critical-item]", state="detached")
    assert events(str(critical_id)) == ["flag", "escalate", "breach", "read_back", "confirm", "act", "close"]
    director.goto("/critical")
    director.wait_for_selector(".critical-table >> text=超时")
    picture(director, "board")
    director.click(".critical-table a")
    director.wait_for_selector(".timeline >> text=核对复述一致")
    picture(director, "record")

    # A page whose login has ended does not look as if all were quiet.
    clinic.context.clear_cookies()
    clinic.evaluate("document.dispatchEvent(new CustomEvent('hub:change', {detail: {topic: 'critical', ref: ''}}))")
    clinic.wait_for_selector("[data-critical-deaf] >> text=登录已失效")
