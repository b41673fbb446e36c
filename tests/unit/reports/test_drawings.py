"""Drawings on the images are kept beside the draft, for those who write and review it, and lie on that patient's images only."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit.db import database
from hub.kit.live import Change
from hub.patients.models import CountyPatient
from hub.reports.drawings import service
from hub.reports.drawings.models import ExamDrawing
from hub.studies.models import ExamStudy, Instance, Series, Study
from support.critical import later
from support.reading import claim, make_exam, ok, open_key, sign, submitted, write
from workers import housekeeping

if TYPE_CHECKING:
    from support.world import World


def drawing(exam_id: str, uid: str = "a1", **more: Any) -> dict[str, Any]:
    """What the viewer keeps of a length on an exam's first image."""
    with database().reading() as session:
        study, series, sop = session.execute(
            select(Study.uid, Series.uid, Instance.uid)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .join(Series, Series.study_id == Study.id)
            .join(Instance, Instance.series_id == Series.id)
            .where(ExamStudy.exam_id == exam_id)
        ).one()
    image = f"wadors:/viewer/dicomweb/studies/{study}/series/{series}/instances/{sop}/frames/1"
    metadata = {"toolName": "Length", "referencedImageId": image}
    return {"annotationUID": uid, "metadata": metadata, "data": {"label": "左侧"}, **more}


def patch(client: Any, exam_id: str, lease: str, **body: Any) -> Any:
    return client.patch(f"/api/exams/{exam_id}/drawings", json={"lease": lease, **body})


def put(client: Any, exam_id: str, lease: str, *drawings: dict[str, Any], window: str = "w") -> Any:
    """New drawings, or changed ones of the same window."""
    return patch(client, exam_id, lease, window=window, changed=[{"drawing": one} for one in drawings])


def kept_of(client: Any, exam_id: str) -> Any:
    return ok(client.get(f"/api/exams/{exam_id}/drawings"))


def test_what_is_drawn_comes_back_to_whoever_writes_and_reviews(world: World) -> None:
    exam_id = make_exam(world)
    author = world.client("reporter")
    assert kept_of(author, exam_id) == {"revision": 0, "drawings": [], "revisions": {}, "conflicts": []}
    lease = claim(author, exam_id)
    one = drawing(exam_id)
    assert ok(put(author, exam_id, lease, one))["revision"] == 1
    version = write(author, exam_id, lease)
    ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]}))
    reviewer = world.client("reviewer")
    assert ok(reviewer.get(f"/api/exams/{exam_id}/drawings"))["drawings"] == [one]
    # It is the reviewer's now: the author's window, still open, changes nothing.
    review = claim(reviewer, exam_id)
    assert put(author, exam_id, lease).status_code == 409
    two = drawing(exam_id, "a2")
    assert ok(put(reviewer, exam_id, review, two))["revision"] == 2
    open_key(reviewer)
    ok(sign(reviewer, version, review))
    assert put(reviewer, exam_id, review).status_code == 409
    assert ok(author.get(f"/api/exams/{exam_id}/drawings"))["drawings"] == [one, two]
    with database().reading() as session:
        noted = session.scalars(select(AuditEntry.actor_id).where(AuditEntry.action == "report.draw")).all()
    assert sorted(noted) == sorted(world.people[login].id for login in ("reporter", "reviewer"))


def test_drawings_are_not_for_clinics_nor_other_hospitals(world: World) -> None:
    exam_id, _version = submitted(world)
    for login, status in (("technologist", 403), ("clinician", 403), ("reporter.h02", 404), ("director", 200)):
        assert world.client(login).get(f"/api/exams/{exam_id}/drawings").status_code == status
    assert put(world.client("director"), exam_id, "").status_code == 403
    assert put(world.client("reporter.h02"), exam_id, "").status_code == 404


def test_a_drawing_on_somebody_elses_images_is_refused(world: World) -> None:
    exam_id, other = make_exam(world), make_exam(world, name="李娜")
    author = world.client("reporter")
    lease = claim(author, exam_id)
    answer = put(author, exam_id, lease, drawing(exam_id), drawing(other, "a2"))
    assert (answer.status_code, answer.json()["code"]) == (422, "other-exam")
    assert ok(author.get(f"/api/exams/{exam_id}/drawings"))["drawings"] == []
    # Beside an earlier exam of the same human being one measures both.
    with database().writing() as session:
        mine, prior = session.get_one(Exam, exam_id), session.get_one(Exam, other)
        prior.patient.county_patient_id = mine.patient.county_patient_id
        assert session.get_one(CountyPatient, mine.patient.county_patient_id)
    assert put(author, exam_id, lease, drawing(exam_id), drawing(other, "a2")).status_code == 200


# --- two windows ----------------------------------------------------------------------------------------------------


def labelled(exam_id: str, uid: str, label: str) -> dict[str, Any]:
    return drawing(exam_id, uid, data={"label": label})


def names(answer: Any) -> list[str]:
    return [one["annotationUID"] for one in answer["drawings"]]


def test_two_windows_of_one_reader_keep_what_each_has_drawn(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    assert claim(client, exam_id) == lease, "his second window holds the exam by the same lease"
    ok(put(client, exam_id, lease, drawing(exam_id, "first"), window="one"))
    found = ok(put(client, exam_id, lease, drawing(exam_id, "second"), window="two"))
    assert (names(found), found["conflicts"]) == (["first", "second"], [])
    assert found["revisions"] == {"first": 1, "second": 2}
    # The first one's other window is told; it need not look for itself.
    with database().reading() as session:
        heard = [one.data for one in session.scalars(select(Change).where(Change.topic == "draft").order_by(Change.id))]
    assert [(one["event"], one["revision"], one["window"]) for one in heard if one["event"] == "drawings"] == [
        ("drawings", 1, "one"), ("drawings", 2, "two"),
    ]  # fmt: skip


def test_of_two_changes_of_one_drawing_both_are_kept_and_said(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    ok(put(client, exam_id, lease, labelled(exam_id, "a", "原来"), window="one"))
    ok(patch(client, exam_id, lease, window="two", changed=[{"revision": 1, "drawing": labelled(exam_id, "a", "二")}]))
    mine = {"window": "one", "changed": [{"revision": 1, "drawing": labelled(exam_id, "a", "一")}]}
    found = ok(patch(client, exam_id, lease, **mine))
    (clash,) = found["conflicts"]
    assert (clash["uid"], clash["kind"]) == ("a", "both")
    assert {one["annotationUID"]: one["data"]["label"] for one in found["drawings"]} == {"a": "二", clash["copy"]: "一"}
    # Its answer lost, and sent again: the same, and nothing more.
    again = ok(patch(client, exam_id, lease, **mine))
    assert (again["drawings"], again["revision"], again["conflicts"]) == (
        found["drawings"], found["revision"], found["conflicts"],
    )  # fmt: skip
    # Knowing the other form, it may change it.
    ok(patch(client, exam_id, lease, window="one", changed=[{"revision": 2, "drawing": labelled(exam_id, "a", "三")}]))
    assert kept_of(client, exam_id)["drawings"][0]["data"]["label"] == "三"


def test_a_window_goes_on_with_its_own_drawing_though_an_answer_was_lost(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    ok(put(client, exam_id, lease, labelled(exam_id, "a", "一"), window="one"))
    found = ok(put(client, exam_id, lease, labelled(exam_id, "a", "二"), window="one"))
    assert ([one["data"]["label"] for one in found["drawings"]], found["conflicts"]) == (["二"], [])


def test_what_one_window_removes_and_the_other_changes_stays(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    ok(put(client, exam_id, lease, *(labelled(exam_id, uid, "原来") for uid in "abc"), window="one"))
    two = {"window": "two", "changed": [{"revision": 1, "drawing": labelled(exam_id, "a", "改过")}]}
    ok(patch(client, exam_id, lease, **two, removed=[{"revision": 1, "uid": "b"}]))
    found = ok(
        patch(
            client, exam_id, lease, window="one",
            removed=[{"revision": 1, "uid": "a"}, {"revision": 1, "uid": "c"}, {"revision": 1, "uid": "unknown"}],
            changed=[{"revision": 1, "drawing": labelled(exam_id, "b", "也改过")}],
        )
    )  # fmt: skip
    assert {one["annotationUID"]: one["data"]["label"] for one in found["drawings"]} == {"a": "改过", "b": "也改过"}
    assert [(one["uid"], one["kind"]) for one in found["conflicts"]] == [("b", "back"), ("a", "kept")]
    gone = ok(patch(client, exam_id, lease, window="one", removed=[{"revision": 2, "uid": "a"}]))
    assert (names(gone), gone["conflicts"]) == (["b"], [])


def test_what_is_kept_together_has_a_bound(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    ok(put(client, exam_id, lease, *(drawing(exam_id, f"a{number}") for number in range(service.MOST))))
    more = put(client, exam_id, lease, drawing(exam_id, "one-more"), window="two")
    assert (more.status_code, more.json()["code"]) == (422, "too-many-drawings")
    assert kept_of(client, exam_id)["revision"] == 1


def test_a_removed_drawing_is_dropped_after_some_days_and_one_that_is_there_again_is_not(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    ok(put(client, exam_id, lease, *(labelled(exam_id, uid, "原来") for uid in "abc")))
    ok(patch(client, exam_id, lease, window="w", removed=[{"uid": "a"}, {"uid": "b"}]))
    ok(put(client, exam_id, lease, labelled(exam_id, "b", "又画")))

    def rows() -> list[str]:
        with database().reading() as session:
            return sorted(session.scalars(select(ExamDrawing.uid).where(ExamDrawing.exam_id == exam_id)))

    housekeeping.drop_drawings()
    assert rows() == ["a", "b", "c"], "another window may still hold what was removed"
    with later(minutes=60 * 24 * 7 + 1):
        housekeeping.drop_drawings()
    assert rows() == ["b", "c"]
    assert names(kept_of(client, exam_id)) == ["b", "c"]


@pytest.mark.server
def test_windows_that_save_at_once_lose_nothing(world: World) -> None:
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    sent = [drawing(exam_id, f"a{number}") for number in range(8)]
    clients = [world.client("reporter") for _one in sent]

    def save(number: int) -> int:
        return put(clients[number], exam_id, lease, sent[number], window=f"w{number}").status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(save, range(8))) == {200}
    assert sorted(names(kept_of(client, exam_id))) == sorted(one["annotationUID"] for one in sent)


@pytest.mark.parametrize(
    "broken",
    [
        {"annotationUID": None},
        {"annotationUID": ""},
        {"annotationUID": "a" * (service.LONGEST_UID + 1)},
        {"metadata": None},
        {"metadata": {"toolName": "Length"}},
        {"metadata": {"toolName": "Length", "referencedImageId": "wadors:https://elsewhere/studies/1/series/2"}},
        {"data": "x" * (service.MOST_BYTES + 1)},
    ],
)
def test_what_is_no_drawing_is_refused(world: World, broken: dict[str, Any]) -> None:
    exam_id = make_exam(world)
    author = world.client("reporter")
    answer = put(author, exam_id, claim(author, exam_id), {**drawing(exam_id), **broken})
    assert answer.status_code == 422
    assert ok(author.get(f"/api/exams/{exam_id}/drawings"))["revision"] == 0


def test_a_signed_report_leads_to_the_image_of_its_measurement(world: World) -> None:
    exam_id = make_exam(world)
    author, reviewer = world.client("reporter"), world.client("reviewer")
    lease = claim(author, exam_id)
    one = drawing(exam_id)
    study, series, sop = one["metadata"]["referencedImageId"].split("/")[4:9:2]
    label = "长径 12.3 mm(层面 15)"
    version = write(author, exam_id, lease, findings=f"右侧基底节区见团块状高密度影,{label}。")
    link = {"lease": lease, "kind": "measurement", "label": label, "study": study, "series": series, "sop": sop}
    version = ok(author.post(f"/api/exams/{exam_id}/report/links", json={**link, "frame": 1, "annotation": one}))
    ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]}))
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    (kept,) = ok(reviewer.get(f"/api/reports/{version['version_id']}"))["links"]
    page = f"/reports/{version['version_id']}"
    image = f"{page}/images/{kept['id']}"
    clinician = world.client("clinician")
    assert image in clinician.get(page).text
    shown = clinician.get(image)
    assert shown.status_code == 200
    assert sop in shown.text
    assert label in shown.text
    assert world.client("clinician.c02").get(image).status_code == 404
    assert clinician.get(f"{page}/images/{'0' * 26}").status_code == 404
