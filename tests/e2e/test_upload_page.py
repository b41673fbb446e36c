"""The upload page in a browser: a reload, a lost link and a killed server in the middle, and the reconciliation."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.studies.models import Instance, UploadBatch
from support.clinic_files import dicom_file, form_values
from support.running import free_port

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
COUNT = 24

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


class Web:
    """The hub's web process on a port of its own; it can be killed and started again."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "hub.app:create_app", "--port", str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 90
        while time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/login", timeout=5, trust_env=False)
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the web process did not start")

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def web(world: World) -> Iterator[Web]:
    running = Web()
    running.start()
    yield running
    if running.process is not None and running.process.poll() is None:
        running.kill()


@pytest.fixture
def page(web: Web, world: World) -> Iterator[Any]:
    """A page in which the technologist is logged in."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import sync_playwright

    cookie = world.client("technologist").cookies["hub_session"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1366, "height": 768})
        context.add_cookies([{"name": "hub_session", "value": cookie, "url": web.url}])
        # Headless, the folder picker of the system cannot be answered; the plain input can.
        context.add_init_script("delete window.showDirectoryPicker")
        opened = context.new_page()
        opened.faults = []
        opened.on("pageerror", lambda error: opened.faults.append(str(error)))
        opened.on("dialog", lambda dialog: dialog.accept())
        yield opened
        assert opened.faults == []
        browser.close()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "CT 胸部"
    folder.mkdir()
    study, series = new_uid(), new_uid()
    for number in range(COUNT):
        (folder / f"IM{number:03}").write_bytes(dicom_file(study=study, series=series, number=number, side=256))
    return folder


def register(world: World) -> str:
    return str(world.client("technologist").post("/api/exams", json=form_values()).json()["id"])


def slow(page: Any, seconds: float = 0.25) -> None:
    """A link on which each file takes a while."""

    def later(route: Any) -> None:
        time.sleep(seconds)
        route.continue_()

    page.route("**/api/tus**", later)


def stored() -> int:
    with database().reading() as session:
        return session.query(Instance).count()


def arrived(page: Any, number: int, seconds: float = 120) -> None:
    """Wait until the page shows so many files as stored. (The pages' policy forbids to evaluate a script for it.)"""
    until = time.monotonic() + seconds
    while page.locator(".file-row[data-state=stored]").count() < number:
        assert time.monotonic() < until, "it did not happen"
        page.wait_for_timeout(50)


def result(page: Any, timeout: float = 90_000) -> str:
    page.wait_for_selector("[data-result]:not([hidden])", timeout=timeout)
    return str(page.inner_text("[data-result]"))


def test_a_folder_with_other_things_in_it(page: Any, web: Web, world: World, images: Path) -> None:
    (images / "DICOMDIR").write_bytes(b"x" * 300)
    (images / "viewer.exe").write_bytes(b"MZ" + b"\0" * 300)
    (images / "broken.dcm").write_bytes((images / "IM000").read_bytes()[:600])
    page.goto(f"{web.url}/clinic/upload?exam={register(world)}")
    page.set_input_files("[data-input-folder]", images)
    said = result(page)
    assert f"发送 {COUNT + 1}" in said.replace("\n", " ").replace("  ", " ")
    assert "还差 1 幅" in said
    assert "请从设备重新导出" in said
    page.click("text=确认只有这些 >> nth=0")
    page.click("dialog[open] .btn--primary")
    page.wait_for_selector("text=已确认:还差 1 幅")
    with database().reading() as session:
        assert session.query(UploadBatch).one().state == "short"
    # The same folder again: all is known, nothing travels twice.
    (images / "broken.dcm").unlink()
    page.goto(f"{web.url}/clinic/upload")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method) if "/api/tus" in request.url else None)
    page.set_input_files("[data-input-folder]", images)
    assert f"其中 {COUNT} 个中心已有" in result(page)
    assert sent == []
    assert stored() == COUNT


def test_a_reload_in_the_middle_goes_on_where_it_stopped(page: Any, web: Web, world: World, images: Path) -> None:
    page.goto(f"{web.url}/clinic/upload?exam={register(world)}")
    slow(page)
    page.set_input_files("[data-input-folder]", images)
    arrived(page, 4)
    page.reload()
    before = stored()
    assert 4 <= before < COUNT
    page.wait_for_selector("[data-resume]:not([hidden])")
    assert f"共 {COUNT} 个文件" in page.inner_text("[data-resume]")
    page.unroute("**/api/tus**")
    with page.expect_file_chooser() as chooser:
        page.click("[data-resume-pick]")
    chooser.value.set_files(images)
    said = result(page)
    assert f"申报 {COUNT} 幅影像,全部入库" in said
    with database().reading() as session:
        assert session.query(UploadBatch).count() == 1
    assert stored() == COUNT


def test_a_killed_server_and_a_lost_link_are_survived(page: Any, web: Web, world: World, images: Path) -> None:
    page.goto(f"{web.url}/clinic/upload?exam={register(world)}")
    slow(page)
    page.set_input_files("[data-input-folder]", images)
    arrived(page, 3)
    web.kill()
    page.wait_for_selector("[data-offline]:not([hidden])")
    assert "自动重试" in page.inner_text("[data-offline]")
    web.start()
    arrived(page, 8)
    page.context.set_offline(True)
    page.wait_for_selector("[data-offline]:not([hidden])")
    page.context.set_offline(False)
    assert f"申报 {COUNT} 幅影像,全部入库" in result(page)
    assert stored() == COUNT
