"""How long OHIF takes to show a study over a slow line, in a real Chromium that throttles itself.

`measure` opens a study in the viewer's own page, at any server that serves OHIF and DICOMweb: the hub, or a peer with
the same files (`peer_files` makes a copy of the built viewer that asks another DICOMweb root).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

CHROMIUM: Final = (
    os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
)
"""The browser; empty where there is none."""
ARGUMENTS: Final = (
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ROOT: Final = "/viewer/dicomweb"
DIST: Final = Path(__file__).parents[2] / "hub/web/dist/ohif"

# Runs in every document before its own scripts. A viewport that still waits for its image renders too: what counts is
# the first rendering after an image was loaded, by a viewport that holds one.
WATCH: Final = """
(() => {
  const seen = (self.hubSeen = { first: 0, loaded: new Map() });
  const now = () => performance.timeOrigin + performance.now();
  document.addEventListener("CORNERSTONE_IMAGE_RENDERED", ({ detail }) => {
    if (seen.first || !seen.loaded.size || /^(noData|loading)$/i.test(detail.viewportStatus ?? "")) return;
    requestAnimationFrame(() => { seen.first ||= now(); });
  }, true);
  const wait = setInterval(() => {
    if (!self.cornerstone?.eventTarget) return;
    clearInterval(wait);
    const { eventTarget, EVENTS } = self.cornerstone;
    eventTarget.addEventListener(EVENTS.IMAGE_LOADED, ({ detail }) => {
      const id = detail.image?.imageId;
      if (id && !seen.loaded.has(id)) seen.loaded.set(id, now());
    });
  }, 5);
})();
"""


@contextmanager
def browser() -> Iterator[Any]:
    """A Chromium without any profile; Playwright's object."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


def measure(
    base_url: str,
    study_uid: str,
    *,
    login: tuple[str, str] | None = None,
    images: int = 28,
    warm: bool = False,
    mbit: float = 10.0,
    latency_ms: float = 50.0,
    viewer: str = "/ohif/viewer",
    timeout: float = 90.0,
) -> dict[str, Any]:
    """Open a study in OHIF over a throttled line and wait until all its images lie decoded in the browser.

    Args:
        base_url: Where the server is, without a slash at its end.
        study_uid: Study Instance UID of a study of one stack.
        login: Login and password of a person of the hub; None where the server asks for none.
        images: How many images the stack has.
        warm: Whether the viewer's files lie in the browser's cache already (and no image does).
        mbit: Throughput both ways in Mbit/s; 0 for no throttling.
        latency_ms: Added to each answer by Chromium.
        viewer: Path of the viewer's page.
        timeout: Seconds after which it is given up.

    Returns:
        `first_image_s` and `all_slices_s` from the start of the navigation to the first image on the canvas and to the
        last of `images` decoded; `bytes` over the network, `requests` sent to it; `image_bytes` of these for DICOMweb;
        `calls`: (milliseconds after the start, bytes, address) of each.

    Raises:
        TimeoutError: The images did not come.
    """
    with browser() as chromium:
        context = chromium.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
        page = context.new_page()
        if login is not None:
            _log_in(page, base_url, login)
        address = f"{base_url}{viewer}?StudyInstanceUIDs={study_uid}"
        if warm:
            _fill_cache(page, base_url, viewer, timeout)
        page.add_init_script(WATCH)
        devtools = context.new_cdp_session(page)
        traffic = _Traffic(devtools)
        if mbit:
            rate = mbit * 1_000_000 / 8
            devtools.send(
                "Network.emulateNetworkConditions",
                {"offline": False, "latency": latency_ms, "downloadThroughput": rate, "uploadThroughput": rate},
            )
        page.goto(address, wait_until="commit", timeout=timeout * 1000)
        until = time.monotonic() + timeout
        while True:
            seen = page.evaluate(
                "() => ({origin: performance.timeOrigin, first: self.hubSeen?.first ?? 0,"
                " loaded: [...(self.hubSeen?.loaded ?? new Map()).values()]})"
            )
            if seen["first"] and len(seen["loaded"]) >= images:
                break
            if time.monotonic() > until:
                raise TimeoutError(f"{len(seen['loaded'])} of {images} images after {timeout} s at {address}")
            page.wait_for_timeout(50)
        page.wait_for_timeout(300)
        return {
            "first_image_s": round((seen["first"] - seen["origin"]) / 1000, 3),
            "all_slices_s": round((sorted(seen["loaded"])[images - 1] - seen["origin"]) / 1000, 3),
            **traffic.sums(),
        }


def _log_in(page: Any, base_url: str, login: tuple[str, str]) -> None:
    page.goto(f"{base_url}/login")
    page.fill("input[name=login]", login[0])
    page.fill("input[name=password]", login[1])
    page.click("button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)


def _fill_cache(page: Any, base_url: str, viewer: str, timeout: float) -> None:
    """Have the viewer's files in the cache: open it with a study that does not exist, until it is quiet."""
    page.goto(f"{base_url}{viewer}?StudyInstanceUIDs=1.2.3.4.5", timeout=timeout * 1000)
    page.wait_for_function("() => self.cornerstone && self.services", timeout=timeout * 1000)
    page.wait_for_timeout(2000)
    page.goto("about:blank")


class _Traffic:
    """What goes over the network as Chromium's own tools count it: bytes as sent, headers included."""

    def __init__(self, devtools: Any) -> None:
        self.calls: dict[str, list[Any]] = {}
        devtools.on("Network.requestWillBeSent", self._sent)
        devtools.on("Network.requestServedFromCache", lambda event: self.calls.pop(event["requestId"], None))
        devtools.on("Network.loadingFinished", self._finished)
        devtools.send("Network.enable")

    def _sent(self, event: dict[str, Any]) -> None:
        url = event["request"]["url"]
        if url.startswith("http"):
            self.calls[event["requestId"]] = [event["timestamp"], 0, url]

    def _finished(self, event: dict[str, Any]) -> None:
        if event["requestId"] in self.calls:
            self.calls[event["requestId"]][1] = int(event["encodedDataLength"])

    def sums(self) -> dict[str, Any]:
        # A file from the disk cache is told of only by its having cost nothing.
        real = sorted((call for call in self.calls.values() if call[1]), key=lambda call: call[0])
        start = real[0][0] if real else 0.0
        of_images = [call for call in real if "/studies" in call[2]]
        return {
            "bytes": sum(call[1] for call in real),
            "requests": len(real),
            "image_bytes": sum(call[1] for call in of_images),
            "calls": [(round((call[0] - start) * 1000), call[1], call[2]) for call in real],
        }


def peer_files(target: Path, root: str) -> Path:
    """Copy the built viewer for a server whose DICOMweb is at `root` (Orthanc: `/dicom-web`).

    Args:
        target: A folder that does not exist yet.
        root: Path of the peer's DICOMweb.

    Returns:
        `target`: to be served at /ohif/; `measure` opens it with `viewer="/ohif/index.html"`.
    """
    shutil.copytree(DIST, target)
    config = target / "app-config.js"
    text = config.read_text(encoding="utf-8")
    if f'"{ROOT}"' not in text:
        raise AssertionError("the viewer's configuration does not name its DICOMweb root")
    config.write_text(text.replace(f'"{ROOT}"', f'"{root}"'), encoding="utf-8")
    for suffix in (".br", ".gz"):
        config.with_name(config.name + suffix).unlink(missing_ok=True)
    # A plain file server knows no address without a file: the page names itself as the viewer's router wants it.
    boot = target / "boot.js"
    first = 'history.replaceState(null,"",location.href.replace("index.html","viewer"));'
    boot.write_text(first + boot.read_text(encoding="utf-8"), encoding="utf-8")
    for suffix in (".br", ".gz"):
        boot.with_name(boot.name + suffix).unlink(missing_ok=True)
    return target
