"""A study's headers and first images are asked for while the browser reads the viewer, and once only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hub.kit.i18n import LOCALE_COOKIE
from support.desk import Desk, at_desk, shown
from support.imaging import imaged_exam, phantom

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

SLICES = 5


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    """A reader of H01 at a workstation."""
    with at_desk(world, monkeypatch, tmp_path) as made:
        yield made


class Calls:
    """What the viewer's frame asks the hub of images: by address, how often it came over the line, and how early."""

    def __init__(self, page: Any) -> None:
        self.early: set[str] = set()
        self.order: list[str] = []
        self.over_the_line: dict[str, int] = {}
        self.from_cache: set[str] = set()
        self.lasting: dict[str, bool] = {}
        devtools = page.context.new_cdp_session(page)
        devtools.on("Network.requestWillBeSent", self._sent)
        devtools.on("Network.responseReceived", self._received)
        devtools.send("Network.enable")

    def _sent(self, event: dict[str, Any]) -> None:
        request = event["request"]
        if "/viewer/dicomweb/studies" in request["url"]:
            self.order.append(request["url"])
            if any(name.lower() == "x-hub-opening" for name in request["headers"]):
                self.early.add(request["url"])

    def _received(self, event: dict[str, Any]) -> None:
        url, response = event["response"]["url"], event["response"]
        if "/viewer/dicomweb/studies" not in url or response["status"] not in (200, 304):
            return
        said = {name.lower(): value for name, value in response["headers"].items()}
        self.lasting[url] = "max-age" in said.get("cache-control", "")
        if response["status"] == 304:
            return
        if response.get("fromDiskCache"):
            self.from_cache.add(url)
        else:
            self.over_the_line[url] = self.over_the_line.get(url, 0) + 1


@pytest.mark.parametrize("language", ["zh", "en"])
def test_what_opening_takes_is_fetched_early_and_once(desk: Desk, world: World, language: str) -> None:
    desk.context.add_cookies([{"name": LOCALE_COOKIE, "value": language, "url": desk.address}])
    exam = imaged_exam(world, phantom(slices=SLICES, size=128, number="P1", name="王芳"))
    calls = Calls(desk.page)
    desk.read(exam)
    shown(desk.page, exam)
    frames: set[str] = set()
    for _try in range(1200):
        frames = {url for url in calls.over_the_line if "/frames/" in url}
        if len(frames) == SLICES and frames <= calls.from_cache:
            break
        desk.page.wait_for_timeout(50)
    assert len(frames) == SLICES
    # The middle of the stack is what the viewer begins with.
    first = next(url for url in calls.order if "/frames/" in url)
    assert first in calls.early
    assert first in calls.from_cache
    metadata = {url for url in calls.over_the_line if url.endswith("/metadata")}
    series = {url for url in calls.over_the_line if "/series?" in url}
    assert metadata and series
    assert metadata | series <= calls.early & calls.from_cache, "the viewer spells its requests as the page does"
    # From now on the viewer is told what a study holds when it asks.
    for _try in range(1200):
        if not any(calls.lasting[url] for url in metadata | series):
            break
        desk.page.wait_for_timeout(50)
    assert not any(calls.lasting[url] for url in metadata | series)
    twice = {url: count for url, count in calls.over_the_line.items() if count > 1 and "/frames/" in url}
    assert not twice
