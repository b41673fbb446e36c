"""An alert is said once: not again on every page that is opened after it."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from hub.app import create_app
from hub.kit import live
from hub.kit.db import database
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


def alert(world: World, *, holder: str = "") -> None:
    """An exam is past its limit: a message that stays until somebody closes it."""
    with database().writing() as session:
        live.publish(session, "alert", "x", orgs=[world.orgs["H01"].id], event="limit_alert", level=100, holder=holder)


def test_an_alert_is_not_said_again_on_the_next_page(world: World) -> None:
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import expect, sync_playwright

    with serving(create_app(), live=True) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(base_url=url)
        token = world.client("reporter").cookies["hub_session"]
        context.add_cookies([{"name": "hub_session", "value": token, "url": url}])
        page = context.new_page()
        on = page.locator("[data-live-indicator][data-state=on]")
        page.goto("/alerts")
        expect(on).to_be_attached()
        alert(world)
        expect(page.locator("#toasts")).to_contain_text("有检查已超过时限")
        page.goto("/queue")
        expect(on).to_be_attached()
        # What is new comes after whatever is repeated.
        alert(world, holder=world.people["reporter"].id)
        expect(page.locator("#toasts")).to_contain_text("您正在处理的检查已超过时限")
        expect(page.locator("#toasts .toast")).to_have_count(1)
        expect(page.locator("#toasts")).not_to_contain_text("有检查已超过时限")
        browser.close()
