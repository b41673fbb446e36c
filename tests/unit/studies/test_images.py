"""The images of an exam for pages: what is there, and its previews."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.studies import intake, previews, repository
from hub.studies.intake import Incoming
from hub.studies.models import Study
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World


@pytest.fixture
def exam_id(world: World) -> str:
    repository.forget_views()
    study, series = new_uid(), new_uid()
    files = [dicom_file(study=study, series=series, number=number, pixel=number, size=16) for number in (3, 1, 2, 4)]
    intake.ingest_many(
        world.actor("technologist"), [Incoming(file) for file in files], org_id=world.orgs["C01"].id, source="web"
    )
    with database().reading() as session:
        return session.scalars(select(Exam.id)).one()


def test_the_images_of_an_exam(world: World, exam_id: str) -> None:
    client = world.client("technologist")
    images = client.get(f"/api/exams/{exam_id}/images").json()
    assert (images["exam_id"], images["received_count"]) == (exam_id, 4)
    (study,) = images["studies"]
    assert (study["instance_count"], study["prepared"], study["sheet_url"]) == (4, False, None)
    (series,) = study["series"]
    assert [one["number"] for one in series["instances"]] == [1, 2, 3, 4]
    assert study["header_patient"]["patient_id"] == "P001"
    for url in (series["preview_url"], series["instances"][0]["preview_url"]):
        answer = client.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert answer.content[:2] == b"\xff\xd8"
    assert world.client("technologist.c02").get(f"/api/exams/{exam_id}/images").status_code == 404
    assert client.get("/api/exams/nothing/images").status_code == 404


def test_previews_that_the_worker_made(world: World, exam_id: str) -> None:
    with database().reading() as session:
        study_id = session.scalars(select(Study.id)).one()
    client = world.client("clinician")
    assert client.get(f"/api/previews/sheet/{study_id}").json()["code"] == "not-ready"
    previews.prepare_study(study_id)
    (study,) = client.get(f"/api/exams/{exam_id}/images").json()["studies"]
    assert study["prepared"]
    for url in (study["sheet_url"], study["preview_url"], study["series"][0]["preview_url"]):
        answer = client.get(url)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "private, no-cache")
        again = client.get(url, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert world.client("technologist.c02").get(url).status_code == 404
        assert world.client("operator").get(url).status_code == 403
        assert world.anonymous().get(url).status_code == 401
    with database().reading() as session:
        views = session.scalars(select(AuditEntry).where(AuditEntry.action == "images.view")).all()
    assert [view.actor_id for view in views] == [world.people["clinician"].id]


def test_kinds_that_are_none(world: World, exam_id: str) -> None:
    client = world.client("technologist")
    assert client.get("/api/previews/exam/x").status_code == 422
    for kind in ("sheet", "study", "series", "instance"):
        assert client.get(f"/api/previews/{kind}/x").status_code == 404
