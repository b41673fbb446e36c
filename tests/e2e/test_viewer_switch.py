"""From one exam to the next without loading the viewer anew, and the images that are fetched before they are opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit.db import database
from support.desk import Desk, at_desk, shown, two_exams
from support.imaging import Imaged, imaged_exam, phantom

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

# Each time that the screen is painted: whom the bar names, and whose images stand there uncovered.
WATCH = """() => {
  const seen = (window.hubSeen = new Set());
  const look = () => {
    const frame = document.getElementById("viewer");
    if (document.getElementById("viewer-cover").hidden && frame.style.visibility !== "hidden") {
      const who = document.getElementById("viewer-who").textContent;
      for (const { viewport } of frame.contentWindow.cornerstone?.getEnabledElements() ?? []) {
        const id = viewport.element.isConnected ? viewport.getCurrentImageId?.() : null;
        if (id) seen.add(`${who}|${/studies\\/([0-9.]+)/.exec(id)[1]}`);
      }
    }
    requestAnimationFrame(look);
  };
  look();
}"""


@pytest.fixture
def desk(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    """A reader of H01 at a workstation."""
    with at_desk(world, monkeypatch, tmp_path) as made:
        yield made


def _next(page: Any, exam: Imaged) -> None:
    page.keyboard.press("Alt+n")
    page.click("dialog[open] button[value=yes]")
    page.wait_for_url(f"**/read/{exam.exam_id}")


def test_the_next_exam_without_loading_the_viewer(desk: Desk, world: World) -> None:
    one, two = two_exams(world)
    page = desk.page
    desk.read(one)
    shown(page, one)
    page.evaluate(WATCH)
    page.frame_locator("#viewer").locator("body").evaluate("() => { self.stillHere = true; }")
    for exam in (two, one, two):
        _next(page, exam)
        shown(page, exam)
    assert page.frame_locator("#viewer").locator("body").evaluate("() => self.stillHere") is True
    seen = {tuple(one.split("|")) for one in page.evaluate("() => [...window.hubSeen]")}
    assert {(who[:2], study) for who, study in seen} == {("王芳", one.study_uid), ("李国", two.study_uid)}


def _linked(one: Imaged, other: Imaged) -> None:
    with database().writing() as session:
        mine, prior = session.get_one(Exam, one.exam_id), session.get_one(Exam, other.exam_id)
        prior.patient.county_patient_id = mine.patient.county_patient_id


def test_what_comes_next_and_what_was_before_are_fetched_ahead(desk: Desk, world: World) -> None:
    one, two = two_exams(world)
    prior = imaged_exam(world, phantom(slices=3, size=128, number="P9", name="王芳"), org="C02", state="seen")
    _linked(one, prior)
    asked: dict[str, int] = {}

    def note(response: Any) -> None:
        found = re.search(r"/viewer/dicomweb/studies/([0-9.]+)/.*/frames/", response.url)
        if found and response.request.headers.get("x-hub-ahead") and response.status == 200:
            asked[found[1]] = asked.get(found[1], 0) + 1

    page = desk.page
    page.on("response", note)
    desk.read(one)
    shown(page, one)
    for _try in range(1200):
        if asked == {prior.study_uid: 3, two.study_uid: 3}:
            break
        page.wait_for_timeout(50)
    assert asked == {prior.study_uid: 3, two.study_uid: 3}
    assert _noted(two) == ["images.ahead"]
    _next(page, two)
    shown(page, two)
    for _try in range(1200):
        if len(_noted(two)) == 2:
            break
        page.wait_for_timeout(50)
    assert _noted(two) == ["images.ahead", "images.view"]


def _noted(exam: Imaged) -> list[str]:
    with database().reading() as session:
        return list(
            session.scalars(
                select(AuditEntry.action)
                .where(AuditEntry.object_type == "study", AuditEntry.object_id == exam.study_uid)
                .where(AuditEntry.action.in_(["images.ahead", "images.view"]))
                .order_by(AuditEntry.id)
            )
        )
