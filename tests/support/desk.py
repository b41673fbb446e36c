"""A reader at his workstation: the reading page in Chromium, with real images."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.viewer import CHROMIUM, browser
from hub.accounts.sessions import SESSION_COOKIE
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from support.imaging import Imaged, imaged_exam, phantom
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

PATIENCE = 60_000
"""Milliseconds of a wait, which ends with its state: the time is for machines that do much else."""
AGREES = "影像窗口:同一患者、同一检查"


class Desk:
    """A reader with his browser."""

    def __init__(self, world: World, address: str, context: Any, shots: Path) -> None:
        self.world, self.address, self.context, self.shots = world, address, context, shots
        self.faults: list[str] = []
        context.on("page", self._watched)
        self.page = context.new_page()

    def _watched(self, page: Any) -> None:
        page.on("pageerror", lambda error: self.faults.append(str(error)))

    def read(self, exam: Imaged) -> None:
        """Open an exam, with its images."""
        self.page.goto(f"{self.address}/read/{exam.exam_id}")
        self.page.wait_for_selector("#report-form")

    def detach(self) -> Any:
        """The images into a window of their own."""
        with self.context.expect_page() as opened:
            self.page.click("#viewer-detach")
        return opened.value

    def take(self, page: Any, name: str) -> None:
        """A screenshot."""
        page.screenshot(path=self.shots / f"{name}.png")

    def agreed(self) -> None:
        """Both windows name the same exam."""
        self.page.locator("[data-away=state]", has_text=AGREES).wait_for()

    def objected(self, why: str) -> None:
        """The page says that they do not."""
        self.page.locator("[data-away=state]", has_text=why).wait_for()

    def filled(self) -> None:
        """A report that could be submitted."""
        self.page.fill("#findings", "双侧大脑半球灰白质分界清楚。")
        self.page.fill("#impression", "颅脑未见明显异常。")
        self.page.click("[data-positive=false]")


def shown(page: Any, exam: Imaged) -> None:
    """The images of an exam stand uncovered in a page."""
    page.locator("#viewer-cover").wait_for(state="hidden")
    until = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < until:
        found = studies(page)
        if found == [exam.study_uid]:
            return
        assert found == [], "images of another study"
        page.wait_for_timeout(50)
    raise AssertionError("no images")


def studies(page: Any) -> list[str]:
    """Studies whose images are painted."""
    frame = page.frame_locator("#viewer").locator("body")
    ids = frame.evaluate(
        "() => (self.cornerstone?.getEnabledElements() ?? []).map(({ viewport }) => viewport.getCurrentImageId?.() ?? '')"
    )
    return sorted({found[1] for one in ids if (found := re.search(r"/studies/([0-9.]+)/", one))})


def draw(page: Any, tool: str, rise: int = 40, below: int = 0) -> None:
    """Draw with a tool across the first viewport of a page, from its middle or below."""
    frame = page.frame_locator("#viewer")
    frame.locator("body").evaluate("(_body, tool) => commandsManager.run('setToolActive', { toolName: tool })", tool)
    box = frame.locator(".cornerstone-canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2 + below
    page.mouse.move(x - 60, y)
    page.mouse.down()
    page.mouse.move(x + 60, y + rise, steps=6)
    page.mouse.up()


def drawings_kept(page: Any) -> Any:
    """Wait for the hub's answer to what was drawn; that the page asks for earlier drawings is not it."""
    return page.expect_response(lambda answer: answer.url.endswith("/drawings") and answer.request.method == "PATCH")


@contextmanager
def at_desk(
    world: World, monkeypatch: pytest.MonkeyPatch, folder: Path, login: str = "reporter", *, live: bool = False
) -> Iterator[Desk]:
    """A reader at a workstation; his screenshots go to HUB_TEST_SCREENSHOTS, or the folder. `live`: as of serving."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found (HUB_TEST_CHROMIUM)")
    grants.forget()
    shots = Path(os.environ.get("HUB_TEST_SCREENSHOTS") or folder / "screenshots")
    with serving(world.app, live=live) as address, browser() as chromium:
        monkeypatch.setattr(get_settings(), "public_url", address)
        context = chromium.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
        token = world.client(login).cookies.get(SESSION_COOKIE)
        context.add_cookies([{"name": SESSION_COOKIE, "value": str(token), "url": address}])
        made = Desk(world, address, context, shots)
        yield made
        assert made.faults == []


def two_exams(world: World) -> tuple[Imaged, Imaged]:
    """Two patients' exams."""
    return (
        imaged_exam(world, phantom(slices=3, size=128, number="P1", name="王芳")),
        imaged_exam(world, phantom(slices=3, size=128, number="P2", name="李国强")),
    )
