"""Plays of the reading room in browsers, with real images: from the pull to what the clinic sees.

One hub and one browser play all of them; the screenshots go to HUB_TEST_SCREENSHOTS, or the test's own folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.viewer import CHROMIUM, browser
from hub.accounts.sessions import SESSION_COOKIE
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from hub.reports import templates
from support.desk import draw, drawings_kept, shown
from support.imaging import Imaged, imaged_exam, phantom
from support.reading import PIN, cheap_keys, make_exam, ok, open_key, state_of
from support.review import set_policy
from support.serving import serving
from workers import runner
from workers.registry import load

if TYPE_CHECKING:
    from support.world import World

DESK, PHONE = (1440, 900), (390, 844)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


class Stage:
    """People at their screens, and the album of what they saw."""

    def __init__(self, world: World, address: str, chromium: Any, album: Path) -> None:
        self.world, self.address, self.album = world, address, album
        self.faults: list[str] = []
        self._chromium = chromium
        self._contexts: dict[tuple[str, tuple[int, int]], Any] = {}
        self._taken = 0

    def page(self, login: str, path: str, size: tuple[int, int] = DESK) -> Any:
        """A new page of somebody's browser."""
        context = self._contexts.get((login, size))
        if context is None:
            context = self._chromium.new_context(
                viewport={"width": size[0], "height": size[1]}, locale="zh-CN", base_url=self.address
            )
            # Headless, the folder picker of the system cannot be answered; the plain input can.
            context.add_init_script("delete window.showDirectoryPicker")
            context.on("weberror", lambda error: self.faults.append(f"{login}: {error.error}"))
            token = self.world.client(login).cookies.get(SESSION_COOKIE)
            context.add_cookies([{"name": SESSION_COOKIE, "value": str(token), "url": self.address}])
            self._contexts[login, size] = context
        opened = context.new_page()
        opened.goto(path)
        return opened

    def take(self, page: Any, name: str) -> None:
        """A screenshot, numbered in the order of the story."""
        self._taken += 1
        page.screenshot(path=self.album / f"{self._taken:02}-{name}.png")

    def in_english(self, page: Any, name: str, ready: Callable[[], None] = lambda: None) -> None:
        """A screenshot of the page as it is in English, and back."""
        context = page.context
        context.add_cookies([{"name": "hub_locale", "value": "en", "url": self.address}])
        page.reload()
        page.locator("html[lang=en]").wait_for()
        ready()
        self.take(page, f"{name}-en")
        context.add_cookies([{"name": "hub_locale", "value": "zh", "url": self.address}])
        page.reload()
        page.locator("html[lang=zh-CN], html[lang=zh]").wait_for()


@pytest.fixture
def stage(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stage]:
    """The hub of a hospital that grades each review, and a browser."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found (HUB_TEST_CHROMIUM)")
    cheap_keys(monkeypatch)
    grants.forget()
    load()
    templates.ensure_seeded()
    set_policy(world, grade_required=True)
    for login in ("reviewer", "reviewer2"):
        open_key(world.client(login))
    album = Path(os.environ.get("HUB_TEST_SCREENSHOTS") or tmp_path / "screenshots")
    with serving(world.app, live=True) as address, browser() as chromium:
        monkeypatch.setattr(get_settings(), "public_url", address)
        made = Stage(world, address, chromium, album)
        yield made
        assert made.faults == []


def expect(place: Any) -> Any:
    """Playwright's, which is there only where browsers are."""
    from playwright.sync_api import expect as playwrights

    return playwrights(place)


# --- what people do again and again ------------------------------------------------------------------------------


def pull(stage: Stage, login: str, exam_id: str) -> Any:
    """The next one for me, by one key; it is that exam."""
    page = stage.page(login, "/queue")
    expect(page.locator(f"#queue tr[data-exam='{exam_id}']")).to_be_visible()
    page.keyboard.press("n")
    page.wait_for_url(f"**/read/{exam_id}")
    expect(page.locator("#findings")).to_be_focused()
    return page


def normal(page: Any) -> None:
    """The normal report in one key."""
    page.keyboard.press("Alt+0")
    expect(page.locator("#impression")).not_to_have_value("")


def submit(page: Any) -> None:
    """To the second doctor, by key."""
    with page.expect_response(re.compile("/submit$")) as sent:
        page.keyboard.press("Control+Enter")
    assert sent.value.status == 200, sent.value.text()


def sign(page: Any, *, grade: str = "Alt+7", before: Callable[[], None] | None = None) -> None:
    """Grade what the author wrote, and sign."""
    if grade:
        page.keyboard.press(grade)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sign-dialog")).to_have_attribute("open", "")
    pin = page.locator("#sign-pin")
    if pin.is_visible():
        pin.fill(PIN)
    if before:
        before()
    with page.expect_response(re.compile("/reports/[^/]+/sign$")) as sent:
        page.click("#sign-go")
    assert sent.value.status == 200, sent.value.text()
    # What a worker does next: the report goes home.
    runner.sweep()


# --- the plays ---------------------------------------------------------------------------------------------------


def from_the_pull_to_the_clinic(stage: Stage) -> None:
    """Template, measurement, key image; another doctor changes words, grades, signs; the clinic sees it."""
    exam = imaged_exam(stage.world, phantom(slices=3, size=256, number="P1", name="王芳"))
    inbox = stage.page("clinician", "/clinic/inbox", PHONE)
    expect(inbox.locator("#inbox")).to_contain_text("还没有报告")

    author = pull(stage, "reporter", exam.exam_id)
    shown(author, exam)
    author.keyboard.press("Alt+t")
    author.locator("#template-search").fill("慢性硬膜下")
    expect(author.locator("#template-list [aria-selected=true]")).to_contain_text("头颅CT 慢性硬膜下血肿")
    stage.take(author, "template")
    author.keyboard.press("Enter")
    # Its fields by keys: left, where, how dense, how thick, the midline; side and place again in the impression.
    expect(author.locator("#open-fields")).to_be_visible()
    stage.take(author, "fields")
    for key in ("z", "1", "2", "8", "Tab", "1", "1", "1"):
        author.keyboard.press(key)
    expect(author.locator("#open-fields")).to_be_hidden()
    expect(author.locator("#findings")).to_have_value(
        re.compile("^左侧额颞顶部颅骨内板下见新月形稍低密度影,最厚处约8 mm。")
    )
    expect(author.locator("#impression")).to_have_value("左侧额颞顶部慢性硬膜下血肿。")
    # A line on the image, into the text and on a key image.
    with drawings_kept(author):
        draw(author, "Length")
    author.keyboard.press("Alt+1")
    author.keyboard.press("Control+End")
    author.keyboard.type("\n血肿")
    with author.expect_response(re.compile("/report/links$")):
        author.keyboard.press("Alt+l")
    expect(author.locator("#findings")).to_have_value(re.compile(r"血肿长径 \d+(\.\d)? mm\(层面 2\)$"))
    with author.expect_response(re.compile("/key-images$")) as captured:
        author.keyboard.press("Alt+k")
    assert captured.value.status == 201
    author.locator("#key-images img").first.evaluate("(one) => one.decode()")
    author.locator("#measure-links button").wait_for()
    stage.take(author, "written")
    stage.in_english(author, "written", lambda: shown(author, exam))
    shown(author, exam)
    submit(author)

    reviewer = pull(stage, "reviewer", exam.exam_id)
    shown(reviewer, exam)
    text = reviewer.locator("#impression").input_value()
    reviewer.locator("#impression").fill(text.replace("血肿。", "血肿,中线居中。"))
    expect(reviewer.locator("[data-change-count]")).to_have_text("1")
    reviewer.keyboard.press("Alt+r")
    expect(reviewer.locator("[data-original=impression] ins")).to_have_text(",中线居中")
    reviewer.keyboard.press("Alt+8")
    reviewer.check("[name=significant][value=no]")
    expect(reviewer.locator("[data-score]")).to_have_text("RADPEER 2a")
    stage.take(reviewer, "reviewed")
    sign(reviewer, grade="", before=lambda: stage.take(reviewer, "sign"))
    assert state_of(exam.exam_id) == "returned"

    row = inbox.locator("#inbox tr", has_text="王芳")
    expect(row).to_contain_text("未查看")
    stage.take(inbox, "inbox")
    row.locator("a").first.click()
    inbox.locator("#report-paper").wait_for()
    assert state_of(exam.exam_id) == "seen"
    expect(inbox.locator("#report-paper")).to_contain_text("血肿,中线居中")
    picture = inbox.locator(".paper-images img").first
    picture.scroll_into_view_if_needed()
    picture.evaluate("(one) => one.decode()")
    stage.take(inbox, "report-phone")
    report = stage.page("clinician", inbox.url)
    expect(report.locator("#report-paper")).to_contain_text("血肿长径")
    stage.take(report, "report")
    stage.in_english(report, "report")
    told = stage.page("reporter", "/reviews")
    expect(told.locator("#reviews ins")).to_have_text(",中线居中")
    expect(told.locator("#reviews")).to_contain_text("RADPEER 2a")
    stage.take(told, "feedback")


def back_for_a_retake(stage: Stage, folder: Path) -> None:
    """Returned with a reason and a mark on the image; the clinic takes it again, sends it; both name each other."""
    first = imaged_exam(stage.world, phantom(slices=3, size=256, number="P2", name="李国强"))
    phone = stage.page("technologist", f"/clinic/exams/{first.exam_id}", PHONE)
    reader = pull(stage, "reporter", first.exam_id)
    shown(reader, first)
    reader.locator(".read-foot summary").click()
    reader.click("[data-act=retake]")
    canvas = reader.locator("#retake-dialog canvas")
    canvas.wait_for()
    box = canvas.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    reader.mouse.move(x + 60, y - 50)
    reader.mouse.down()
    reader.mouse.move(x + 8, y - 6, steps=4)
    reader.mouse.up()
    reader.check("#retake-dialog [value=motion]")
    reader.fill("#retake-reason", "头部移动,请固定后重拍")
    stage.take(reader, "retake")
    reader.click("#retake-dialog [type=submit]")

    # The clinic's open page says so at once, with the mark; one tap registers the retake.
    ask = phone.locator("#ask")
    expect(ask).to_contain_text("头部移动,请固定后重拍")
    ask.locator("img").evaluate("(one) => one.decode()")
    stage.take(phone, "returned")
    stage.in_english(phone, "returned")
    phone.click("[data-retake]")
    expect(phone.locator("#exam-live")).to_contain_text("这是重拍")
    second = phone.url.rpartition("/")[2]
    assert (second != first.exam_id, state_of(first.exam_id)) == (True, "retake")
    stage.take(phone, "registered")

    # New images by the upload page.
    images = folder / "CT"
    images.mkdir()
    accession = phone.locator(".breadcrumbs").inner_text().rpartition("/")[2].strip()
    datasets = phantom(slices=3, size=256, number="P2", name="李国强")
    for number, dataset in enumerate(datasets):
        dataset.AccessionNumber = accession
        dataset.save_as(images / f"IM{number:03}.dcm", enforce_file_format=True)
    phone.get_by_role("link", name="上传影像").click()
    phone.wait_for_url("**/clinic/upload?exam=*")
    phone.set_input_files("[data-input-folder]", images)
    expect(phone.locator("[data-result]")).to_contain_text("全部入库")
    stage.take(phone, "uploaded")
    runner.sweep()
    assert state_of(second) == "to_read"

    again = Imaged(second, str(datasets[0].StudyInstanceUID), "", ())
    reader.close()
    reader = pull(stage, "reporter", second)
    shown(reader, again)
    expect(reader.locator("#read-warnings")).to_contain_text("这是重拍")
    normal(reader)
    stage.take(reader, "again")
    submit(reader)
    sign(pull(stage, "reviewer", second))
    for one, other in ((second, first.exam_id), (first.exam_id, second)):
        phone.goto(f"/clinic/exams/{one}")
        phone.locator(f"#exam-live a[href='/clinic/exams/{other}']").wait_for()
        stage.take(phone, "linked")
    assert (state_of(first.exam_id), state_of(second)) == ("retake", "returned")


def asked_for_history(stage: Stage) -> None:
    """The clock stands still while the clinic is asked; its answer brings the exam back to who asked."""
    exam_id = make_exam(stage.world, name="赵敏", with_study=False)
    reader = pull(stage, "reporter", exam_id)
    normal(reader)
    findings = reader.locator("#findings").input_value()
    reader.locator(".read-foot summary").click()
    reader.click("[data-act=history]")
    reader.fill("#history-dialog textarea", "有无外伤?")
    stage.take(reader, "ask")
    reader.click("#history-dialog [type=submit]")
    waiting = stage.page("reporter", "/queue?view=waiting")
    row = waiting.locator(f"#queue tr[data-exam='{exam_id}']")
    expect(row.locator(".clock--paused")).to_contain_text("暂停")
    stage.take(waiting, "paused")
    stage.in_english(waiting, "paused")

    phone = stage.page("technologist", f"/clinic/exams/{exam_id}", PHONE)
    expect(phone.locator("#thread")).to_contain_text("有无外伤?")
    phone.click("[data-open-dialog=history-dialog]")
    phone.fill("#history-text", "三天前跌倒,枕部着地")
    stage.take(phone, "answer")
    phone.click("#history-dialog [type=submit]")
    expect(phone.locator("[data-talk-lines]")).to_contain_text("三天前跌倒")
    stage.take(phone, "answered")
    clocks = stage.page("director", f"/turnaround/exams/{exam_id}")
    expect(clocks.locator("#main")).to_contain_text("等卫生院补充病史")
    stage.take(clocks, "clocks")

    reader = pull(stage, "reporter", exam_id)
    expect(reader.locator("#read-warnings")).to_contain_text("三天前跌倒")
    expect(reader.locator("#findings")).to_have_value(findings)
    expect(reader.locator(".read-who .clock")).not_to_have_class(re.compile("paused"))
    stage.take(reader, "back")
    submit(reader)
    sign(pull(stage, "reviewer", exam_id))
    assert state_of(exam_id) == "returned"


def corrected(stage: Stage) -> None:
    """A signed report that was seen is corrected with a reason: told, seen again; the old one is kept and marked."""
    exam_id = make_exam(stage.world, name="孙丽", with_study=False)
    author = pull(stage, "reporter", exam_id)
    normal(author)
    submit(author)
    sign(pull(stage, "reviewer", exam_id))
    old = ok(stage.world.client("reviewer").get(f"/api/exams/{exam_id}/reports"))["versions"][0]["version_id"]
    inbox = stage.page("clinician", "/clinic/inbox", PHONE)
    inbox.locator("#inbox tr", has_text="孙丽").locator("a").first.click()
    expect(inbox.locator("#report-paper")).to_be_visible()
    assert state_of(exam_id) == "seen"
    inbox.goto("/clinic/inbox")

    author.goto(f"/read/{exam_id}?view=1")
    author.click("[data-open-dialog=amend-dialog]")
    author.check("#amend-dialog [value=correction]")
    author.fill("#amend-dialog textarea", "漏看左侧颞骨骨折线")
    stage.take(author, "correct")
    author.click("#amend-dialog [type=submit]")
    expect(author.locator(".read-kind")).to_contain_text("漏看左侧颞骨骨折线")
    author.fill("#findings", "左侧颞骨见线状透亮影,断端无移位。脑实质内未见异常密度影。")
    author.fill("#impression", "左侧颞骨线状骨折。")
    author.click("[data-positive=true]")
    stage.take(author, "correcting")
    submit(author)
    # A report of a new version waits beside the queue, counted.
    waits = stage.page("reviewer2", "/queue")
    waits.get_by_role("link", name=re.compile("补充与更正 *1")).click()
    waits.wait_for_url("**/queue?view=amend")
    stage.take(waits, "waits")
    waits.locator(f"#queue tr[data-exam='{exam_id}']").click()
    waits.wait_for_url(f"**/read/{exam_id}")
    expect(waits.locator("#findings")).to_have_value(re.compile("左侧颞骨"))
    stage.take(waits, "correction-review")
    sign(waits)

    row = inbox.locator("#inbox tr.is-unseen", has_text="孙丽")
    expect(row).to_contain_text("更正报告")
    stage.take(inbox, "correction")
    row.locator("a").first.click()
    paper = inbox.locator("#report-paper")
    expect(paper).to_contain_text("漏看左侧颞骨骨折线")
    assert inbox.url.rpartition("/")[2] != old
    stage.take(inbox, "corrected")
    before = stage.page("clinician", f"/reports/{old}")
    expect(before.locator(".alert--bad").first).to_contain_text("这一版已被取代")
    expect(before.locator("#report-paper")).not_to_contain_text("颞骨骨折")
    stage.take(before, "superseded")
    stage.in_english(before, "superseded")


def test_plays(stage: Stage, tmp_path: Path) -> None:
    from_the_pull_to_the_clinic(stage)
    back_for_a_retake(stage, tmp_path)
    asked_for_history(stage)
    corrected(stage)
