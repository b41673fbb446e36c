"""Writing in a browser: a report by keys only, fields and phrases, an earlier report beside it, nothing typed lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hub.app import create_app
from hub.kit.db import database
from hub.reports import templates
from hub.reports.models import ReportVersion
from support.reading import cheap_keys, claim, make_exam, make_patient, ok, signed, write
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

CHROMIUM = os.environ.get("HUB_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or ""
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
PICTURES = os.environ.get("HUB_TEST_PICTURES", "")

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def browser(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A browser of the reader; `browser.base` is the hub's address."""
    if not CHROMIUM:
        pytest.skip("no Chromium was found")
    from playwright.sync_api import sync_playwright

    cheap_keys(monkeypatch)
    templates.ensure_seeded()
    cookie = world.client("reporter").cookies["hub_session"]
    with serving(create_app()) as url, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = chromium.new_context(viewport={"width": 1440, "height": 900})
        context.add_cookies([{"name": "hub_session", "value": cookie, "url": url}])
        # The images are not what is tested here, and loading the viewer takes longer than all the rest.
        context.route("**/ohif/**", lambda route: route.fulfill(body="<html></html>", content_type="text/html"))
        context.base = url
        faults: list[str] = []
        context.on("weberror", lambda error: faults.append(str(error.error)))
        yield context
        assert faults == []
        chromium.close()


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/{name}.png")


def opened(browser: Any, exam_id: str) -> Any:
    """The reading page of an exam, ready to be written in."""
    page = browser.new_page()
    with page.expect_response(lambda answer: answer.url.endswith("/claim")):
        page.goto(f"{browser.base}/read/{exam_id}", wait_until="commit")
    page.wait_for_selector("#findings:focus")
    return page


def saved(page: Any) -> None:
    """Wait until the hub has what stands in the form."""
    page.locator("#save-state", has_text=re.compile("已保存")).wait_for()


def chest(world: World, **more: Any) -> str:
    return make_exam(world, modality="DX", body_parts=["chest"], history="体检", **more)


def test_a_normal_chest_without_a_mouse(browser: Any, world: World) -> None:
    exam_id = chest(world)
    page = opened(browser, exam_id)
    page.evaluate(
        "() => { window.mice = 0; for (const kind of ['pointerdown', 'mousedown', 'click'])"
        " addEventListener(kind, (event) => { if (event.isTrusted && event.detail !== 0) window.mice += 1; }, true); }"
    )
    begun = time.monotonic()
    page.keyboard.press("Alt+0")
    page.keyboard.press("Alt+2")
    page.keyboard.press("Control+End")
    page.keyboard.type("\njhlc ")
    assert page.input_value("#impression").endswith("\n请结合临床。")
    picture(page, "normal")
    with page.expect_response(lambda answer: answer.url.endswith("/submit")) as done:
        page.keyboard.press("Control+Enter")
    assert done.value.status == 200, done.value.text()
    took = time.monotonic() - begun
    print(f"normal chest by keys: {took:.1f} s")
    assert page.evaluate("() => window.mice") == 0
    version = ok(world.client("reporter").get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    assert version["state"] == "submitted"
    assert version["positive"] is False
    assert "两肺" in version["findings"] or "双肺" in version["findings"]


def test_fields_and_phrases_by_keys(browser: Any, world: World) -> None:
    exam_id = make_exam(world)
    page = opened(browser, exam_id)
    page.keyboard.type("nzj ")
    # 左|右 by pinyin, 上叶 by number, 磨玻璃 by arrows, a length, 毛刺 by its letters.
    page.keyboard.press("z")
    picture(page, "fields")
    page.keyboard.press("1")
    for _step in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.type("12")
    page.keyboard.press("Tab")
    page.keyboard.press("m")
    assert page.input_value("#findings") == "左肺上叶见磨玻璃结节,长径约12 mm,边缘毛刺。"
    assert page.locator("#open-fields").is_hidden()
    # Who goes on without choosing leaves the field open, and is told.
    page.keyboard.press("Enter")
    page.keyboard.type("jdq ")
    for _step in range(4):
        page.keyboard.press("Tab")
    assert "[侧别:左侧|右侧|双侧]基底节区" in page.input_value("#findings")
    assert "4" in page.inner_text("#open-fields")
    picture(page, "open")
    page.keyboard.press("Control+z")
    page.keyboard.press("?")
    page.keyboard.press("Escape")


def earlier(world: World) -> Any:
    """A patient with a signed report of the chest."""
    with database().writing() as session:
        patient = make_patient(session, world)
    _exam, version = signed(world, patient=patient)
    with database().writing() as session:
        row = session.get_one(ReportVersion, version["version_id"])
        row.findings = "双肺纹理清晰,未见实变。\n右肺上叶见结节,长径5 mm。\n心影不大。"
        row.impression = "1. 右肺上叶小结节。\n2. 心、膈未见异常。"
    return patient


def test_what_is_copied_from_an_earlier_report_is_confirmed_before_it_leaves(browser: Any, world: World) -> None:
    exam_id = chest(world, patient=earlier(world))
    page = opened(browser, exam_id)
    page.keyboard.press("Alt+b")
    page.wait_for_selector(".beside-sentence:focus")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("a")
    assert page.input_value("#findings") == "双肺纹理清晰,未见实变。\n右肺上叶见结节,长径5 mm。"
    assert page.input_value("#impression") == "1. 右肺上叶小结节。\n2. 心、膈未见异常。"
    picture(page, "beside")
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+p")
    page.keyboard.press("Control+Enter")
    page.locator(".toast", has_text="4 句").wait_for()
    saved(page)
    assert ok(world.client("reporter").get(f"/api/exams/{exam_id}/reports"))["versions"][0]["state"] == "draft"
    # One is rewritten, one confirmed, the rest by one key.
    text = page.locator("#findings").input_value().replace("长径5 mm", "长径7 mm")
    page.fill("#findings", text)
    page.locator("#open-copied", has_text="3 句").wait_for()
    page.keyboard.press("Alt+c")
    page.keyboard.press("Alt+c")
    page.locator("#open-copied", has_text="2 句").wait_for()
    picture(page, "copied")
    page.keyboard.press("Alt+x")
    page.locator("#beside-body ins", has_text="7").wait_for()
    picture(page, "difference")
    page.keyboard.press("Alt+a")
    page.locator("#open-copied").wait_for(state="hidden")
    version = ok(world.client("reporter").get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    assert version["copied"] == []


def test_words_survive_a_dead_line_and_a_closed_window(browser: Any, world: World) -> None:
    exam_id, other = chest(world), chest(world)
    page = opened(browser, exam_id)
    browser.set_offline(True)
    page.keyboard.type("offline words")
    page.locator("#save-state.is-bad").wait_for()
    # Its last words are sent in vain: the line is dead when the window goes.
    page.goto("about:blank")
    page.close()
    browser.set_offline(False)
    # Another exam's page tells that something was left behind, and leads there.
    second = opened(browser, other)
    second.locator(".toast a").wait_for()
    assert second.locator(".toast a").get_attribute("href") == f"/read/{exam_id}"
    again = opened(browser, exam_id)
    assert again.input_value("#findings") == "offline words"
    # Either this window has just saved it, or the last words of the other one got through after all.
    again.locator("#save-state", has_text=re.compile("已保存|已打开草稿")).wait_for()
    version = ok(world.client("reporter").get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    assert version["findings"] == "offline words"
    assert again.evaluate("() => Object.keys(localStorage).filter((key) => key.startsWith('hub-draft:')).length") == 0


def test_two_windows_show_both_texts_and_keep_both(browser: Any, world: World) -> None:
    exam_id = chest(world)
    page = opened(browser, exam_id)
    page.keyboard.type("first window")
    saved(page)
    # The other window writes under the same lease.
    held: dict[str, Any] = {}
    page.on("request", lambda request: held.update(json.loads(request.post_data)) if request.method == "PUT" else None)
    with page.expect_response(lambda answer: answer.request.method == "PUT"):
        page.keyboard.type(".")
    saved(page)
    body = {"lease": held["lease"], "revision": held["revision"] + 1, "findings": "second window", "impression": "x"}
    ok(world.client("reporter").put(f"/api/exams/{exam_id}/report", json=body))
    page.keyboard.type(" goes on")
    page.locator("#conflict-dialog[open]").wait_for()
    assert page.locator("[data-conflict=mine] ins").count() > 0
    assert "second window" in page.inner_text("[data-conflict=theirs]")
    picture(page, "conflict")
    page.locator("[data-keep=theirs]").click()
    assert page.input_value("#findings") == "second window"
    page.keyboard.press("Alt+y")
    page.locator("#saved-dialog[open]").wait_for()
    page.locator("#history-list li", has_text="冲突").click()
    page.locator("#history-text ins, #history-text del").first.wait_for()
    picture(page, "history")
    page.locator("#history-base").select_option("")
    page.locator("#history-text", has_text="first window. goes on").wait_for()
    page.locator("#history-back").click()
    assert page.input_value("#findings") == "first window. goes on"


def test_an_exam_taken_away_before_the_first_save_loses_no_word(browser: Any, world: World) -> None:
    exam_id = chest(world)
    page = opened(browser, exam_id)
    director = world.client("director")
    ok(director.post(f"/api/exams/{exam_id}/take-over", json={"reason": "急"}))
    page.keyboard.type("typed too late")
    page.locator("#lease-lost:not([hidden])").wait_for()
    found = ok(world.client("reporter").get(f"/api/exams/{exam_id}/report/history"))["texts"]
    assert [(one["event"], one["body"]["findings"]) for one in found] == [("lease-lost", "typed too late")]


def test_the_keys_that_are_listed_are_those_that_work(browser: Any, world: World) -> None:
    client = world.client("reporter")
    exam_id = chest(world)
    write(client, exam_id, claim(client, exam_id), findings="x")
    page = opened(browser, exam_id)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("?")
    page.locator("#keys-dialog[open]").wait_for()
    keys = page.locator("#keys-dialog .kbd").all_inner_texts()
    assert len(keys) == len(set(keys)), keys
    assert {"Alt+0", "Alt+t", "Alt+b", "Alt+c", "Alt+y", "Ctrl+Enter"} <= set(keys)
    picture(page, "keys")


def test_templates_are_found_added_and_imported_whole_or_not_at_all(browser: Any, world: World) -> None:
    page = browser.new_page()
    page.goto(f"{browser.base}/templates")
    page.fill("#find", "fjj")
    page.locator("#pane-templates [data-row]:visible", has_text="肺结节").first.wait_for()
    picture(page, "templates")
    page.fill("#find", "")
    page.locator("[data-new=template]").click()
    page.locator("#template-form [name=name]").fill("我的胸片")
    page.locator("#template-form [name=findings]").fill("双肺[形态:清晰|模糊")
    page.locator("#template-form [type=submit]").click()
    page.locator("#template-form .field-error").wait_for()
    picture(page, "template-form")
    page.locator("#template-form [name=findings]").fill("双肺[形态:清晰|模糊]")
    page.locator("#template-form [type=submit]").click()
    page.locator("#pane-templates [data-scope=own]", has_text="我的胸片").wait_for()
    page.locator("#tab-phrases").click()
    picture(page, "phrases")
    page.locator("[data-open-dialog=import-dialog]").click()
    page.locator("#import-form [name=kind]").select_option("phrases")
    for text, wanted in (("!!,,x\nab,,y\n", "第 2 行"), ("zz,,x\nab,,y\n", "2")):
        data = f"code,modality,text\n{text}".encode()
        page.locator("#import-form [name=file]").set_input_files(
            {"name": "phrases.csv", "mimeType": "text/csv", "buffer": data}
        )
        page.locator("#import-go", has_text="检查文件").click()
        page.locator("#import-told", has_text=wanted).wait_for()
        picture(page, f"import-{len(wanted)}")
    page.locator("#import-go", has_text=re.compile("^导入$")).click()
    page.locator("#pane-phrases [data-scope=own]").nth(1).wait_for()
    assert {
        one["code"] for one in ok(world.client("reporter").get("/api/phrases"))["phrases"] if one["scope"] == "own"
    } == {"zz", "ab"}
    browser.add_cookies([{"name": "hub_locale", "value": "en", "url": browser.base}])
    page.goto(f"{browser.base}/templates")
    page.locator("h1", has_text="Templates and phrases").wait_for()
    picture(page, "templates-en")
