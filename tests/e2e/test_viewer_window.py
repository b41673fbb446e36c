"""The images in a window of their own: it follows the report, and what does not agree is neither submitted nor signed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from support.desk import Desk, at_desk, draw, drawings_kept, shown, two_exams

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    """A reader of H01 at a workstation."""
    with at_desk(world, monkeypatch, tmp_path) as made:
        yield made


def test_the_window_follows_the_report_and_stops_what_does_not_agree(desk: Desk, world: World) -> None:
    one, two = two_exams(world)
    desk.read(one)
    shown(desk.page, one)
    screen = desk.detach()
    shown(screen, one)
    desk.agreed()
    assert "王芳" in screen.inner_text("#viewer-who")
    assert "王芳" in desk.page.inner_text("#viewer-away")
    assert desk.page.locator("#viewer").is_hidden()
    desk.take(desk.page, "report")
    desk.take(screen, "images")

    # The next exam: the window follows, without being loaded again.
    loaded: list[str] = []
    screen.on("framenavigated", lambda frame: loaded.append(frame.url) if frame == screen.main_frame else None)
    desk.page.evaluate("(url) => history.pushState({}, '', url)", f"/read/{two.exam_id}")
    desk.page.reload()
    desk.page.wait_for_selector("#report-form")
    screen.locator("#viewer-who", has_text="李国强").wait_for()
    shown(screen, two)
    desk.agreed()
    assert loaded == []

    # Another page of reports takes the window: this one may submit nothing until it has it back.
    desk.filled()
    other = desk.context.new_page()
    other.goto(f"{desk.address}/read/{one.exam_id}")
    screen.locator("#viewer-who", has_text="王芳").wait_for()
    desk.objected("影像窗口显示的是 王芳")
    desk.page.click("[data-act=submit]")
    desk.page.locator(".toast", has_text="不能提交和签发").wait_for()
    desk.take(desk.page, "mismatch")
    other.close()
    desk.page.click("[data-away=follow]")
    desk.agreed()
    shown(screen, two)

    # A closed window stops it too; the images come back into the page, and it goes on.
    screen.close()
    desk.objected("没有打开或没有回应")
    desk.page.click("[data-act=submit]")
    desk.page.locator(".toast", has_text="没有回应,不能提交和签发").wait_for()
    desk.page.keyboard.press("Alt+d")
    shown(desk.page, two)
    with desk.page.expect_response(re.compile("/submit$")) as sent:
        desk.page.click("[data-act=submit]")
    assert sent.value.status == 200


def test_nobody_elses_session_and_no_ended_one_keeps_images(desk: Desk, world: World) -> None:
    one, _two = two_exams(world)
    desk.read(one)
    screen = desk.detach()
    shown(screen, one)
    # Logging out in any page of the browser clears the window at once.
    other = desk.context.new_page()
    other.goto(f"{desk.address}/queue")
    other.locator("details[data-menu] summary").last.click()
    other.click("form[action='/logout'] button")
    screen.locator("[data-cover]", has_text="影像已清除").wait_for()
    assert screen.locator("#viewer").get_attribute("src") == "about:blank"
    assert screen.inner_text("#viewer-who") == ""
    desk.take(screen, "ended")


def drawn(page: Any) -> list[str]:
    """The texts that stand at the drawings of the first viewport."""
    lines = page.frame_locator("#viewer").locator("svg.svg-layer text")
    return [str(one) for one in lines.all_inner_texts()]


def two_windows(desk: Desk, exam: Any) -> tuple[Any, Any]:
    """The same report in two windows of its reader."""
    desk.read(exam)
    shown(desk.page, exam)
    other = desk.context.new_page()
    other.goto(f"{desk.address}/read/{exam.exam_id}")
    other.wait_for_selector("#report-form")
    shown(other, exam)
    return desk.page, other


def drawing_in(page: Any, tool: str, **more: int) -> Any:
    """Draw; what the hub answers."""
    with drawings_kept(page) as kept:
        draw(page, tool, **more)
    assert kept.value.status == 200
    return kept.value.json()


def test_what_is_drawn_before_earlier_drawings_are_given_back_is_kept(desk: Desk, world: World) -> None:
    one, _two = two_exams(world)
    asked: list[Any] = []
    desk.page.route(re.compile("/drawings$"), lambda route: route.continue_() if asked else asked.append(route))
    desk.read(one)
    shown(desk.page, one)
    draw(desk.page, "Length")
    # The viewer tells of it meanwhile, too early for the page to take it for all there is.
    desk.page.wait_for_timeout(1500)
    assert asked, "earlier drawings were not asked for"
    with drawings_kept(desk.page) as kept:
        asked[0].continue_()
    assert [one["metadata"]["toolName"] for one in kept.value.json()["drawings"]] == ["Length"]


def test_two_windows_of_one_report_show_each_others_drawings(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, _two = two_exams(world)
    with at_desk(world, monkeypatch, tmp_path, live=True) as desk:
        page, other = two_windows(desk, one)
        assert drawing_in(page, "Length")["revision"] == 1
        other.frame_locator("#viewer").locator("svg.svg-layer text").first.wait_for()
        answer = drawing_in(other, "Bidirectional", below=80)
        assert (len(answer["drawings"]), answer["conflicts"]) == (2, [])
        page.frame_locator("#viewer").locator("svg.svg-layer text").nth(1).wait_for()
        other.wait_for_timeout(2500)
        desk.take(page, "both-windows")
        found = page.request.get(f"{desk.address}/api/exams/{one.exam_id}/drawings").json()
        assert len(found["drawings"]) == 2
        assert found["revision"] == 2, "what a window is shown is not sent back as changed"


def test_two_windows_that_do_not_hear_of_each_other_lose_no_drawing(desk: Desk, world: World) -> None:
    one, _two = two_exams(world)
    page, other = two_windows(desk, one)
    drawing_in(page, "Length")
    assert drawn(other) == []
    answer = drawing_in(other, "Bidirectional", below=80)
    assert (len(answer["drawings"]), answer["conflicts"]) == (2, [])
    other.frame_locator("#viewer").locator("svg.svg-layer text").nth(1).wait_for()
    # The first window takes its own away, not knowing the other's.
    frame = page.frame_locator("#viewer").locator("body")
    with drawings_kept(page) as gone:
        frame.evaluate(
            "() => { const { state } = cornerstoneTools.annotation;"
            " for (const one of [...state.getAllAnnotations()])"
            "  if (one.metadata.toolName === 'Length') state.removeAnnotation(one.annotationUID); }"
        )
    assert [one["metadata"]["toolName"] for one in gone.value.json()["drawings"]] == ["Bidirectional"]
    page.frame_locator("#viewer").locator("svg.svg-layer text").first.wait_for()
    found = page.request.get(f"{desk.address}/api/exams/{one.exam_id}/drawings").json()
    assert [one["metadata"]["toolName"] for one in found["drawings"]] == ["Bidirectional"]


def pull(page: Any, rise: int, by: int, *, hold: bool = False) -> None:
    """Take the right end of the length that `draw` made, where it lies `rise` below the middle, and pull it down."""
    box = page.frame_locator("#viewer").locator(".cornerstone-canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + rise
    page.mouse.move(x - 20, y - 20)
    page.mouse.move(x, y, steps=3)
    page.mouse.down()
    page.mouse.move(x, y + by, steps=4)
    if not hold:
        page.mouse.up()


@pytest.mark.parametrize("held", [False, True], ids=["just-changed", "under-the-hand"])
def test_a_drawing_changed_in_two_windows_at_once_stays_in_both_forms(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, held: bool
) -> None:
    one, _two = two_exams(world)
    with at_desk(world, monkeypatch, tmp_path, live=True) as desk:
        page, other = two_windows(desk, one)
        drawing_in(page, "Length")
        other.frame_locator("#viewer").locator("svg.svg-layer text").first.wait_for()
        other.wait_for_timeout(1000)
        asked: list[Any] = []
        other.route(re.compile("/drawings$"), lambda route: route.continue_() if asked else asked.append(route))
        page.bring_to_front()
        with drawings_kept(page) as first:
            pull(page, 40, 60)
        assert first.value.json()["conflicts"] == []
        # The other window learns of it while its viewer has not told yet what was changed there.
        other.bring_to_front()
        for _try in range(600):
            if asked:
                break
            other.wait_for_timeout(100)
        assert asked, "the other window did not hear of it"
        with drawings_kept(other) as second:
            pull(other, 40, -60, hold=held)
            asked[0].continue_()
            if held:
                other.wait_for_timeout(1500)
                other.mouse.up()
        answer = second.value.json()
        assert [clash["kind"] for clash in answer["conflicts"]] == ["both"]
        assert len(answer["drawings"]) == 2
        other.locator(".toast", has_text="两种画法都留在影像上").wait_for()
        for window in (page, other):
            window.bring_to_front()
            window.frame_locator("#viewer").locator("svg.svg-layer text").nth(1).wait_for()
        desk.take(other, "both-forms")


def test_a_measurement_goes_into_the_text_and_leads_back(desk: Desk, world: World) -> None:
    one, two = two_exams(world)
    page = desk.page
    desk.read(one)
    shown(page, one)
    page.fill("#findings", "左侧基底节区见低密度影,")
    with drawings_kept(page) as kept:
        draw(page, "Length")
    assert kept.value.status == 200
    page.focus("#findings")
    page.keyboard.press("End")
    with page.expect_response(re.compile("/report/links$")) as linked:
        page.keyboard.press("Alt+l")
    assert linked.value.status == 200
    text = page.input_value("#findings")
    label = re.fullmatch(r"左侧基底节区见低密度影,(长径 \d+(?:\.\d)? mm\(层面 2\))", text)
    assert label, text
    reference = page.locator("#measure-links button", has_text=label[1])
    reference.wait_for()

    # A key image: the picture with the drawing, burnt in it which image of which exam it is.
    with page.expect_response(re.compile("/key-images$")) as captured:
        page.keyboard.press("Alt+k")
    assert captured.value.status == 201
    picture = page.request.get(desk.address + captured.value.json()["key_images"][0]["url"]).body()
    shades = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    height, width, _channels = shades.shape
    grey = shades[: height // 2].mean(axis=2)
    assert len(np.unique(grey.round())) > 60, "the image is in it"
    assert (shades[..., 1] - shades[..., 2] > 100).sum() > 60, "so is the drawing"
    corner = shades[-height // 8 :, : width // 6].min(axis=2)
    assert (corner > 180).sum() > 60, "and which image it is"
    page.locator("#key-images img").first.evaluate("(one) => one.decode()")
    desk.take(page, "measured")

    # Another image, and back by the reference in the text.
    frame = page.frame_locator("#viewer").locator("body")
    frame.evaluate("() => cornerstone.getEnabledElements()[0].viewport.setImageIdIndex(0)")
    reference.click()
    page.frame_locator("#viewer").locator("svg.svg-layer text", has_text="mm").first.wait_for()
    index = "() => cornerstone.getEnabledElements()[0].viewport.getCurrentImageIdIndex()"
    assert frame.evaluate(index) == 1

    # Nothing of it over the next patient; opened again, it is there.
    desk.read(two)
    shown(page, two)
    assert drawn(page) == []
    desk.read(one)
    shown(page, one)
    page.frame_locator("#viewer").locator("svg.svg-layer text", has_text="mm").first.wait_for()
    desk.take(page, "again")
    # From the window on the other screen all of it works as well.
    screen = desk.detach()
    shown(screen, one)
    screen.frame_locator("#viewer").locator("svg.svg-layer text", has_text="mm").first.wait_for()
    with drawings_kept(page):
        draw(screen, "EllipticalROI", 60, below=100)
    page.focus("#findings")
    page.keyboard.press("End")
    with page.expect_response(re.compile("/report/links$")):
        page.keyboard.press("Alt+l")
    assert re.search(r"平均 -?\d+(?:\.\d)? HU,面积 \d+(?:\.\d)? mm²\(层面 2\)", page.input_value("#findings"))
    with page.expect_response(re.compile("/key-images$")) as captured:
        page.keyboard.press("Alt+k")
    assert captured.value.status == 201
    desk.take(screen, "measured-there")


def test_a_report_on_the_web_leads_to_the_image(desk: Desk, world: World) -> None:
    one, _two = two_exams(world)
    page = desk.page
    desk.read(one)
    shown(page, one)
    with drawings_kept(page):
        draw(page, "Length")
    with page.expect_response(re.compile("/report/links$")) as linked:
        page.keyboard.press("Alt+l")
    version = linked.value.json()["version_id"]
    page.goto(f"{desk.address}/reports/{version}")
    page.click("a[href*='/images/']")
    shown(page, one)
    page.frame_locator("#viewer").locator("svg.svg-layer text", has_text="mm").first.wait_for()
    assert "王芳" in page.inner_text("#viewer-who")
    desk.take(page, "report-image")
