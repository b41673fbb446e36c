"""The journey as four people see it, in browsers: register, upload, read in OHIF, review and sign, receive.

The screenshots are kept in the folder HUB_TEST_SCREENSHOTS, or the test's own.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hub.dicom.phantoms import PhantomPatient, generate
from support.running import RunningHub

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = [
    "--no-sandbox",
    "--headless=new",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NAME = "欧阳静"

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub with the sample county's people."""
    started = RunningHub(tmp_path / "var")
    try:
        yield started.start()
    finally:
        started.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What the clinic's CT wrote on its disk: a head CT, the name in pinyin, an invented birth date."""
    made = tmp_path / "CT 20261101"
    made.mkdir()
    patient = PhantomPatient("E2E1", NAME, "F", pinyin="Ouyang Jing", age=47)
    moment = datetime(2026, 11, 1, 9, 30)  # noqa: DTZ001 (a device's wall clock)
    for number, data in enumerate(
        generate("ct_head", seed=5, patient=patient, study_time=moment, charset="pinyin", slices=12, size=256)
    ):
        (made / f"IM{number:04}").write_bytes(data)
    return made


@pytest.fixture
def people(running: RunningHub, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """`people(login)`: a page in a browser profile of its own, logged in by the form."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found (HUB_TEST_CHROMIUM)")
    from playwright.sync_api import sync_playwright

    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)

        def log_in(login: str) -> Any:
            context = browser.new_context(viewport={"width": 1366, "height": 768}, locale="zh-CN")
            # Headless, the folder picker of the system cannot be answered; the plain input can.
            context.add_init_script("delete window.showDirectoryPicker")
            page = context.new_page()
            page.set_default_timeout(120_000)
            page.on("pageerror", lambda error: faults.append(f"{login}: {error}"))
            page.on("dialog", lambda dialog: dialog.accept())
            page.goto(f"{running.url}/login")
            page.fill("input[name=login]", login)
            page.fill("input[name=password]", "sample-county")
            page.click("button[type=submit]")
            page.wait_for_url(lambda url: "/login" not in url)
            return page

        yield log_in
        assert faults == []
        browser.close()


class Album:
    """Screenshots in the order of the story."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.number = 0

    def take(self, page: Any, name: str) -> None:
        """A screenshot of a page."""
        self.number += 1
        page.screenshot(path=self.folder / f"{self.number:02}-{name}.png")


def _navigations(page: Any) -> list[str]:
    seen: list[str] = []
    page.on("framenavigated", lambda frame: seen.append(frame.url) if frame == page.main_frame else None)
    return seen


def _shades(page: Any, selector: str) -> int:
    """How many different greys an element shows."""
    picture = page.frame_locator("#viewer").locator(selector).first.screenshot()
    return len(np.unique(np.asarray(Image.open(io.BytesIO(picture)).convert("L"))))


def test_four_people_and_one_exam(
    people: Callable[[str], Any], running: RunningHub, folder: Path, tmp_path: Path
) -> None:
    album = Album(Path(os.environ.get("HUB_TEST_SCREENSHOTS") or tmp_path / "screenshots"))

    reader = people("reader01a")
    reader.goto(f"{running.url}/queue")
    reader.wait_for_selector("#queue")
    queue_loads = _navigations(reader)
    doctor = people("doctor01")
    doctor.goto(f"{running.url}/clinic/inbox")
    doctor.wait_for_selector("#inbox")
    inbox_loads = _navigations(doctor)

    # The clinic registers and drops a folder.
    tech = people("tech01")
    tech.goto(f"{running.url}/clinic/register")
    tech.fill("#f-name", NAME)
    tech.locator("label:has(> input[name=sex][value=F])").click()
    tech.fill("input[name=age]", "47")
    tech.fill("input[name=number]", "E2E1")
    tech.locator("label:has(> input[name=modality][value=CT])").click()
    tech.locator("label:has(> input[name=body_parts][value=head])").click()
    tech.fill("#f-history", "头痛两天,无外伤史")
    tech.fill("#f-doctor", "李明")
    tech.fill("#f-doctor_phone", "13900000000")
    album.take(tech, "register")
    tech.click("button[type=submit][value=upload]")
    tech.wait_for_url("**/clinic/upload?exam=*")
    tech.set_input_files("[data-input-folder]", folder)
    tech.wait_for_selector("[data-result]:not([hidden])")
    assert "全部入库" in tech.inner_text("[data-result]")
    album.take(tech, "upload")

    # The radiologist's queue shows it by itself; he opens it, OHIF shows the images beside the report.
    row = reader.locator(f"#queue tr:has-text('{NAME}')")
    row.wait_for()
    assert queue_loads == []
    album.take(reader, "queue")
    row.locator("a").first.click()
    reader.wait_for_url("**/read/*")
    reader.wait_for_selector("#report-form")
    viewport = reader.frame_locator("#viewer").locator(".cornerstone-canvas").first
    viewport.wait_for()
    for _try in range(120):
        if _shades(reader, ".cornerstone-canvas") > 60:
            break
        reader.wait_for_timeout(500)
    assert _shades(reader, ".cornerstone-canvas") > 60, "OHIF shows no image"
    reader.fill("#findings", "双侧大脑半球灰白质分界清楚,脑实质内未见异常密度影。脑室系统不大,中线居中。")
    reader.fill("#impression", "颅脑CT平扫未见明显异常。")
    reader.click("[data-positive=false]")
    reader.wait_for_timeout(1500)
    album.take(reader, "read")
    reader.click("[data-act=submit]")
    reader.wait_for_timeout(1500)

    # A second one reviews and signs with his PIN.
    reviewer = people("reviewer01")
    reviewer.goto(f"{running.url}/queue?view=review")
    reviewer.locator(f"#queue tr:has-text('{NAME}') a").first.click()
    reviewer.wait_for_url("**/read/*")
    reviewer.wait_for_selector("[data-act=sign]")
    album.take(reviewer, "review")
    reviewer.click("[data-act=sign]")
    reviewer.wait_for_selector("#sign-dialog[open]")
    assert "颅脑CT平扫未见明显异常" in reviewer.inner_text("#sign-dialog")
    reviewer.fill("#sign-pin", "271828")
    album.take(reviewer, "sign")
    reviewer.click("#sign-go")

    # It comes home by itself; opened, it is seen; the PDF is the signed one.
    item = doctor.locator(f"#inbox tr:has-text('{NAME}')")
    item.wait_for()
    assert inbox_loads == []
    album.take(doctor, "inbox")
    item.locator("a").first.click()
    doctor.wait_for_url("**/reports/*")
    doctor.wait_for_timeout(1500)
    album.take(doctor, "report")
    version = doctor.url.rpartition("/")[2].partition("?")[0]
    pdf = doctor.request.get(f"{running.url}/api/reports/{version}/pdf")
    assert pdf.body().startswith(b"%PDF")
    tech.goto(f"{running.url}/clinic")
    tech.wait_for_selector(f"tr:has-text('{NAME}'):has-text('已查看')")
    album.take(tech, "clinic")

    # The administrator sees how long it took; the public page says that the signature is valid.
    admin = people("admin01")
    admin.goto(f"{running.url}/turnaround")
    admin.wait_for_timeout(1500)
    album.take(admin, "turnaround")
    code = running.client("doctor01").get(f"/api/reports/{version}")["verification_code"]
    doctor.goto(f"{running.url}/v/{code}")
    doctor.wait_for_selector("body:has-text('有效')")
    album.take(doctor, "verify")
