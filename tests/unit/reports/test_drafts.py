"""What a draft holds besides its words: key images, templates, kept texts; and the pages that show it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from hub.kit.db import database
from hub.kit.errors import Unavailable
from hub.reports import signing_service, templates
from hub.reports.models import Report, ReportVersion, Template
from storage.errors import StorageUnavailable
from support.reading import cheap_keys, claim, make_exam, make_patient, ok, open_key, sign, signed, submitted, write


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def png(size=(900, 700)):
    out = io.BytesIO()
    Image.linear_gradient("L").resize(size).save(out, "PNG")
    return out.getvalue()


def add_image(client, exam_id, lease, data=None, **more):
    return client.post(
        f"/api/exams/{exam_id}/key-images",
        files={"file": ("key.png", data or png(), "image/png")},
        data={"lease": lease, "caption": "基底节层面", "sop_uid": "1.2.3", "frame": "2", **more},
    )


def test_key_images_come_into_the_report_and_its_pdf(world):
    exam_id = make_exam(world)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    plain = version["content_hash"]
    version = ok(add_image(author, exam_id, lease), 201)
    version = ok(add_image(author, exam_id, lease), 201)
    assert version["content_hash"] != plain
    first, second = version["key_images"]
    picture = author.get(first["url"])
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (900, 700)
    held = {"If-None-Match": picture.headers["etag"]}
    assert picture.headers["cache-control"] == "private, no-cache", "the next person at this screen is asked for"
    assert author.get(first["url"], headers=held).status_code == 304
    assert world.client("reporter.h02").get(first["url"], headers=held).status_code == 404
    version = write(
        author,
        exam_id,
        lease,
        version["revision"],
        key_images=[{"id": second["id"], "caption": "改过的说明"}, {"id": "unknown"}],
    )
    assert [(image["id"], image["caption"]) for image in version["key_images"]] == [(second["id"], "改过的说明")]
    version = ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]}))
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    assert b"/Image" in reviewer.get(f"/api/reports/{version['version_id']}/pdf").content
    assert world.client("clinician").get(second["url"]).status_code == 200
    assert world.client("clinician.c02").get(second["url"]).status_code == 404


def test_what_is_no_image_is_refused(world):
    exam_id = make_exam(world)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    for data in (b"not an image", png()[:200], b"GIF89a" + bytes(50)):
        assert add_image(author, exam_id, lease, data).json()["code"] == "bad-image"
    assert add_image(author, exam_id, "wrong").status_code == 409
    for _n in range(8):
        ok(add_image(author, exam_id, lease), 201)
    assert add_image(author, exam_id, lease).json()["code"] == "too-many-images"


def test_templates_are_given_and_can_be_added(world):
    templates.ensure_seeded()
    templates.ensure_seeded()
    author, other = world.client("reporter"), world.client("reporter.h02")
    found = ok(author.get("/api/templates", params={"modality": "CT", "body_part": "head"}))["templates"]
    assert found[0]["normal"]
    assert found[0]["scope"] == "county"
    everything = ok(author.get("/api/templates"))["templates"]
    assert len(everything) >= 14
    for one in everything:
        assert one["findings"] and one["impression"], one["name"]
        assert one["normal"] == ("未见异常" in one["name"]), one["name"]
    body = {"modality": "CT", "body_part": "head", "name": "我的", "findings": "所见", "impression": "意见"}
    own = ok(author.post("/api/templates", json=body), 201)
    assert author.post("/api/templates", json={**body, "scope": "hospital"}).status_code == 403
    shared = ok(world.client("reviewer").post("/api/templates", json={**body, "scope": "hospital"}), 201)
    assert (own["scope"], shared["scope"]) == ("own", "hospital")
    names = {one["id"] for one in ok(world.client("reviewer").get("/api/templates"))["templates"]}
    assert shared["id"] in names
    assert own["id"] not in names
    assert shared["id"] not in {one["id"] for one in ok(other.get("/api/templates"))["templates"]}
    assert other.delete(f"/api/templates/{shared['id']}").status_code == 404
    assert author.delete(f"/api/templates/{found[0]['id']}").status_code == 403
    ok(author.delete(f"/api/templates/{own['id']}"), 204)


def test_removed_defaults_stay_away(world):
    templates.ensure_seeded()
    with database().writing() as session:
        for row in session.query(Template):
            session.delete(row)
    templates.ensure_seeded()
    assert ok(world.client("reporter").get("/api/templates"))["templates"] == []


def test_the_reading_page_has_all_that_is_known(world):
    with database().writing() as session:
        patient = make_patient(session, world)
    before, old = signed(world, patient=patient)
    exam_id = make_exam(world, patient=patient, identity="open", identity_notes=[], incomplete=["registration"])
    author = world.client("reporter")
    claim(author, exam_id)
    page = author.get(f"/read/{exam_id}")
    assert page.status_code == 200
    for text in ("王伟", "李建国", "13807970000", "突发左侧肢体无力2小时", "患者身份待核对", old["impression"]):
        assert text in page.text, text
    panel = author.get(f"/read/{before}/panel")
    assert panel.status_code == 200
    assert "<html" not in panel.text
    author.cookies.set("hub_locale", "en")
    english = author.get(f"/read/{exam_id}").text
    for text in ("Findings", "Impression", "Submit", "Previous exams"):
        assert text in english, text


def test_a_report_opened_by_the_clinic_counts_as_seen(world):
    from hub.delivery import service as delivery
    from hub.kit.actor import SYSTEM
    from support.reading import state_of

    exam_id, version = signed(world)
    with database().writing() as session:
        delivery.return_report(session, SYSTEM, version["version_id"])
    reader = world.client("reporter").get(f"/reports/{version['version_id']}")
    assert reader.status_code == 200
    assert state_of(exam_id) == "returned"
    page = world.client("clinician").get(f"/reports/{version['version_id']}")
    assert version["impression"] in page.text
    assert state_of(exam_id) == "seen"
    assert world.client("clinician.c02").get(f"/reports/{version['version_id']}").status_code == 404


def test_nothing_is_signed_while_the_store_is_out_of_reach(world, monkeypatch):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)

    class Broken:
        def put(self, *_args, **_more):
            raise StorageUnavailable("gone")

        def read(self, *_args, **_more):
            raise StorageUnavailable("gone")

    monkeypatch.setattr(signing_service, "object_store", Broken)
    refused = sign(reviewer, version, lease)
    assert (refused.status_code, refused.json()["code"]) == (Unavailable.status, "store-unavailable")
    monkeypatch.undo()
    cheap_keys(monkeypatch)
    done = ok(sign(reviewer, version, lease))
    with database().reading() as session:
        assert session.query(Report).one().number == done["number"]


def test_a_commit_that_fails_leaves_nothing_half_signed(world, monkeypatch):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)

    def fail(*_args, **_more):
        raise RuntimeError("power cut")

    monkeypatch.setattr(signing_service.jobs, "enqueue", fail)
    assert sign(reviewer, version, lease).status_code == 500
    with database().reading() as session:
        row = session.get_one(ReportVersion, version["version_id"])
        assert (row.state, row.pdf_key, row.signed_at) == ("submitted", "", None)
    monkeypatch.undo()
    cheap_keys(monkeypatch)
    assert ok(sign(reviewer, version, lease))["number"].endswith("-0001")


def test_two_requests_of_one_click_sign_once(world):
    import threading

    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(sign(reviewer, version, lease))) for _n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3
    assert len({answer.json()["verification_code"] for answer in answers}) == 1


def test_the_objects_of_a_report_join_its_study(world):
    import pydicom
    from sqlalchemy import select

    from hub.dicom.objects import read_basic_sr, read_pdf
    from hub.kit.objects import object_store
    from hub.reports.objects_service import make_objects
    from hub.studies.models import Instance

    _exam, version = signed(world)
    make_objects(version["version_id"])
    make_objects(version["version_id"])
    with database().reading() as session:
        made = session.scalars(select(Instance).where(Instance.made_by_hub).order_by(Instance.sop_class)).all()
        row = session.get_one(ReportVersion, version["version_id"])
    assert {row.sr_uid, row.pdf_uid} == {one.uid for one in made}
    assert len(made) == 2
    sets = [
        pydicom.dcmread(io.BytesIO(object_store().read(one.object_key, one.object_offset, one.size))) for one in made
    ]
    pdf, sr = sets
    text = read_basic_sr(sr)
    assert text.sections["findings"] == version["findings"]
    assert text.sections["impression"] == version["impression"]
    assert read_pdf(pdf) == world.client("reviewer").get(f"/api/reports/{version['version_id']}/pdf").content
    assert "王^伟" in str(sr.PatientName)


def test_the_objects_bear_the_person_of_the_report_and_the_number_of_the_images(world):
    import pydicom
    from sqlalchemy import select

    from hub.exams.models import Exam
    from hub.kit.objects import object_store
    from hub.reports.objects_service import make_objects
    from hub.studies.models import ExamStudy, Instance, Study

    exam_id, version = signed(world)
    with database().writing() as session:
        # The machine used the number of somebody else, as which the header was filed; the registration was verified.
        stranger = make_patient(session, world, name="李娜")
        study = session.get_one(Study, session.scalars(select(ExamStudy.study_id)).one())
        study.patient_id, study.header_patient = stranger.id, {"patient_id": stranger.number, "name": "WANG^WEI"}
        number, name = stranger.number, session.get_one(Exam, exam_id).patient.name
    make_objects(version["version_id"])
    with database().reading() as session:
        made = session.scalars(select(Instance).where(Instance.made_by_hub)).all()
    assert len(made) == 2
    for one in made:
        data = pydicom.dcmread(io.BytesIO(object_store().read(one.object_key, one.object_offset, one.size)))
        assert (data.PatientID, str(data.PatientName).split("=")[1].replace("^", "")) == (number, name)


@pytest.mark.parametrize("what", ["body part", "birth date"])
def test_a_registration_corrected_after_the_report_was_displayed_is_shown_before_it_is_signed(world, what):
    from datetime import date

    from hub.exams.models import Exam

    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    version = ok(reviewer.get(f"/api/reports/{version['version_id']}"))
    open_key(reviewer)
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        if what == "body part":
            exam.body_parts = ["head", "neck"]
        else:
            exam.patient.birth_date = date(1999, 9, 9)
    body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
    refused = reviewer.post(f"/api/reports/{version['version_id']}/sign", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "content-changed")
    version = ok(reviewer.get(f"/api/reports/{version['version_id']}"))
    assert ok(sign(reviewer, version, lease))["number"]


def test_an_image_of_another_exam_is_no_key_image(world):
    from sqlalchemy import select

    from hub.studies.models import ExamStudy, Instance

    exam_id, other = make_exam(world), make_exam(world)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    uids = {}
    with database().reading() as session:
        for one in (exam_id, other):
            uids[one] = session.scalars(
                select(Instance.uid)
                .join(ExamStudy, ExamStudy.study_id == Instance.study_id)
                .where(ExamStudy.exam_id == one)
            ).one()
    refused = add_image(author, exam_id, lease, sop_uid=uids[other])
    assert (refused.status_code, refused.json()["code"]) == (422, "other-exam")
    assert len(ok(add_image(author, exam_id, lease, sop_uid=uids[exam_id]), 201)["key_images"]) == 1
