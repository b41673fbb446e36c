"""Drawings on the images are kept beside the draft, for those who write and review it, and lie on that patient's images only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit.db import database
from hub.patients.models import CountyPatient
from hub.reports.drawings import service
from hub.studies.models import ExamStudy, Instance, Series, Study
from support.reading import claim, make_exam, ok, open_key, sign, submitted, write

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


def put(client: Any, exam_id: str, lease: str, *drawings: dict[str, Any]) -> Any:
    return client.put(f"/api/exams/{exam_id}/drawings", json={"lease": lease, "drawings": list(drawings)})


def test_what_is_drawn_comes_back_to_whoever_writes_and_reviews(world: World) -> None:
    exam_id = make_exam(world)
    author = world.client("reporter")
    assert ok(author.get(f"/api/exams/{exam_id}/drawings")) == {"revision": 0, "drawings": []}
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
    assert ok(put(reviewer, exam_id, review, one, two))["revision"] == 2
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


@pytest.mark.parametrize(
    "broken",
    [
        {"annotationUID": None},
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
