"""Figures of image quality and recognition: what is counted, what is no data, and who sees it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.reading.scoring import service as scoring
from hub.reports.recognition.models import Recognition
from hub.turnaround import quality, service
from support.reading import make_exam, ok

if TYPE_CHECKING:
    from support.world import World


def _exam(world: World, grade: str = "", *, artefact: str = "none", days: int = 0, **values: Any) -> str:
    exam_id = make_exam(
        world, state=State.SEEN, registered_at=clock.now() - timedelta(days=days), **{"modality": "CT", **values}
    )
    if grade:
        with database().writing() as session:
            reasons = [] if grade == "A" else ["position"]
            scoring.score(session, world.actor("quality"), exam_id, grade=grade, reasons=reasons, artefact=artefact)
    return exam_id


def _images(days: int = 30) -> quality.ImageFigures:
    today = service.today()
    with database().reading() as session:
        return quality.images(session, today - timedelta(days=days - 1), today)


def test_what_nobody_judged_is_no_data(world: World) -> None:
    _exam(world)
    make_exam(world, state=State.CANCELLED)
    total = _images().total
    assert (total.exams, total.scored, total.indicator) == (1, 0, 1)
    assert {total.rate(name).share for name in quality.DEFAULT_TARGETS} == {None}


def test_rates_stand_on_what_was_scored_and_the_indicator_on_all(world: World) -> None:
    for grade in ("A", "A", "B", "reject"):
        _exam(world, grade, artefact="bad" if grade == "reject" else "none")
    _exam(world)
    _exam(world, "C", artefact="bad", modality="DX", org="C02")
    total = _images().total
    assert total.rate("grade_a") == quality.Rate(2, 5)
    assert total.rate("reject") == quality.Rate(1, 5)
    # Of five CT one is bad; the radiograph is not of the national indicator.
    assert total.rate("artefact") == quality.Rate(1, 5)
    clinics = _images().clinics
    assert clinics[world.orgs["C02"].id].rate("artefact").share is None
    assert clinics[world.orgs["C02"].id].top_reasons() == ["position"]
    wanted = quality.DEFAULT_TARGETS
    assert [quality.met(name, total.rate(name), wanted) for name in wanted] == [False, False, False]
    assert quality.met("grade_a", quality.Rate(7, 10), wanted)
    assert quality.met("reject", quality.Rate(0, 0), wanted) is None


def test_only_the_judgement_that_stands_counts(world: World) -> None:
    exam_id = _exam(world, "reject")
    with database().writing() as session:
        scoring.score(session, world.actor("quality"), exam_id, grade="A")
    assert _images().total.grades == {"A": 1, "B": 0, "C": 0, "reject": 0}


def test_weeks_without_exams_are_there_and_empty(world: World) -> None:
    _exam(world, "A", days=21)
    _exam(world, "B", days=0)
    weeks = list(_images().weeks.values())
    assert len(weeks) == 4
    assert [part.rate("grade_a").share for part in weeks] == [1.0, None, None, 0.0]


def _recognition(world: World, state: str, reason: str = "", org: str = "C02") -> None:
    exam_id = make_exam(world, org=org, with_study=False)
    with database().writing() as session:
        session.add(
            Recognition(
                exam_id=exam_id,
                org_id=world.orgs[org].id,
                patient_id=session.get_one(Exam, exam_id).patient_id,
                item="ct_head",
                found=[],
                state=state,
                reason=reason,
                offered_at=clock.now(),
                offered_to="x",
                expires_at=clock.now(),
            )
        )


def test_who_lets_the_time_pass_stays_in_the_denominator(world: World) -> None:
    for state, reason in (
        ("reused", ""), ("repeated", "changed"), ("repeated", "other"), ("lapsed", ""), ("offered", ""), ("withdrawn", ""),
    ):  # fmt: skip
        _recognition(world, state, reason)
    today = service.today()
    with database().reading() as session:
        total, clinics = quality.recognised(session, today, today)
        nothing, _none = quality.recognised(session, today, today, clinic=world.orgs["C01"].id)
    assert (total.rate, total.opened) == (quality.Rate(1, 4), 1)
    assert total.repeated["changed"] == total.repeated["other"] == 1
    assert list(clinics) == [world.orgs["C02"].id]
    assert nothing.rate.share is None


def test_pages_and_export_hold_no_patient(world: World) -> None:
    _exam(world, "B")
    _recognition(world, "reused")
    for login in ("administrator", "quality", "director"):
        page = world.client(login).get("/turnaround/quality")
        assert page.status_code == 200
        assert "王伟" not in page.text
    client = world.client("administrator")
    rows = list(csv.reader(io.StringIO(client.get("/api/turnaround/quality.csv").text.lstrip("\ufeff"))))
    assert len({len(row) for row in rows}) == 1
    assert {row[0] for row in rows[1:]} == {"银坑镇卫生院", "岭背镇卫生院"}
    found = ok(client.get("/api/turnaround/quality"))
    assert (found["total"]["grade_a"], found["total"]["artefact"]) == (0.0, 0.0)
    assert found["recognition"]["total"]["rate"] == 1.0


def test_targets_are_per_cent(world: World) -> None:
    client = world.client("director")
    bad = client.put("/api/turnaround/settings/quality", json={"grade_a": 170, "reject": 1, "artefact": -2})
    assert set(bad.json()["fields"]) == {"grade_a", "artefact"}
    good = {"grade_a": 80.0, "reject": 1.0, "artefact": 1.5}
    assert ok(client.put("/api/turnaround/settings/quality", json=good)) == good


@pytest.mark.parametrize("reason", ["", "position", "motion"])
def test_a_clinic_learns_from_its_own_only(world: World, reason: str) -> None:
    own, other = _exam(world, "B"), _exam(world, "C", org="C02")
    page = world.client("technologist").get("/clinic/quality", params={"reason": reason}).text
    assert (f"/clinic/exams/{own}" in page) == (reason != "motion")
    assert other not in page


def test_a_sample_is_drawn_from_what_nobody_judged(world: World) -> None:
    judged, open_ = _exam(world, "A"), _exam(world)
    page = world.client("quality").get("/image-scores").text
    assert open_ in page
    assert judged not in page
    assert world.client("reporter.h02").get("/image-scores").text.count("/clinic/exams/") == 0
