"""What readers of another hospital are told of a report, and what costs the hub no more than it should."""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit.db import database
from hub.reading.conversation import thread
from hub.reading.conversation.models import ThreadPicture
from hub.reports.models import ReportVersion
from hub.reports.review import peer
from hub.reports.review.diff import compare
from hub.reports.review.models import Arbitration, Review
from hub.reports.texts.history import between
from hub.studies.models import ExamStudy, Study
from hub.turnaround import quality
from support.reading import cheap_keys, claim, make_exam, make_patient, ok, open_key, sign, submitted, write
from support.review import set_policy

if TYPE_CHECKING:
    from support.world import World


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_keys(monkeypatch)


def test_a_draft_of_another_hospital_is_not_told_to_who_holds_an_exam_of_the_same_patient(world: World) -> None:
    with database().writing() as session:
        patient = make_patient(session, world)
    here, there = make_exam(world, patient=patient), make_exam(world, patient=patient, reading="H02")
    author = world.client("reporter.h02")
    lease = claim(author, there)
    version = write(author, there, lease, findings="没有人签过的字。")
    reader = world.client("reporter")
    claim(reader, here)
    assert ok(reader.get(f"/api/exams/{there}")), "the exam itself he may know"
    assert ok(reader.get(f"/api/exams/{there}/reports"))["versions"] == []
    known = version["version_id"]
    for path in ("", "/saved", "/changes", "/checks", "/passages"):
        assert reader.get(f"/api/reports/{known}{path}").status_code in (403, 404), path
    assert reader.get(f"/reports/{known}").status_code == 404
    assert reader.get(f"/api/exams/{there}/drawings").status_code == 404
    for path in (f"/read/{there}", f"/read/{there}/panel"):
        page = reader.get(path)
        assert (page.status_code, "没有人签过的字" in page.text, known in page.text) == (200, False, False)
    # The hospital's own, and who oversees the county, read on.
    for login in ("reporter.h02", "reviewer.h02", "director", "quality"):
        assert ok(world.client(login).get(f"/api/reports/{known}"))["findings"] == "没有人签过的字。"
    # Signed, it is told; how it came about is not.
    ok(author.post(f"/api/exams/{there}/submit", json={"lease": lease, "revision": version["revision"]}))
    reviewer = world.client("reviewer.h02")
    lease = claim(reviewer, there)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    assert ok(reader.get(f"/api/reports/{known}"))["state"] == "signed"
    assert len(ok(reader.get(f"/api/exams/{there}/reports"))["versions"]) == 1
    for path in ("/saved", "/changes", "/checks", "/passages"):
        assert reader.get(f"/api/reports/{known}{path}").status_code in (403, 404), path


def test_a_link_to_another_patients_study_is_refused(world: World) -> None:
    exam_id, other = make_exam(world), make_exam(world, name="李娜")
    client = world.client("reporter")
    lease = claim(client, exam_id)
    write(client, exam_id, lease, findings="长径 12.4 mm")
    uids = {}
    with database().reading() as session:
        for one in (exam_id, other):
            statement = select(Study.uid).join(ExamStudy, ExamStudy.study_id == Study.id)
            uids[one] = session.scalars(statement.where(ExamStudy.exam_id == one)).one()
    path, link = f"/api/exams/{exam_id}/report/links", {"lease": lease, "label": "12.4 mm"}
    refused = client.post(path, json={**link, "study": uids[other]})
    assert (refused.status_code, refused.json()["code"]) == (422, "other-exam")
    assert len(ok(client.post(path, json={**link, "study": uids[exam_id]}))["links"]) == 1


def _picture() -> dict[str, Any]:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return {"file": ("a.png", out.getvalue(), "image/png")}


def test_pictures_that_nobody_sends_are_not_kept_without_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread, "MAX_WAITING", 2)
    exam_id = make_exam(world)
    client, path = world.client("technologist"), f"/api/exams/{exam_id}/thread/pictures"
    first = ok(client.post(path, files=_picture()), 201)
    ok(client.post(path, files=_picture()), 201)
    stored: list[bytes] = []
    monkeypatch.setattr("hub.reports.images.store", lambda data, **_more: stored.append(data))
    refused = client.post(path, files=_picture())
    assert (refused.status_code, refused.json()["code"], stored) == (422, "too-many-images", []), "not even stored"
    monkeypatch.undo()
    monkeypatch.setattr(thread, "MAX_WAITING", 2)
    sent = {"text": "请看", "pictures": [first["id"]]}
    ok(client.post(f"/api/exams/{exam_id}/thread", json=sent), 201)
    ok(client.post(path, files=_picture()), 201)
    with database().reading() as session:
        assert len(session.scalars(select(ThreadPicture)).all()) == 3


def test_a_picture_of_who_is_on_no_side_is_not_stored(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with database().writing() as session:
        patient = make_patient(session, world)
    here, there = make_exam(world, patient=patient), make_exam(world, patient=patient, reading="H02")
    reader = world.client("reporter")
    claim(reader, here)
    stored: list[bytes] = []
    monkeypatch.setattr("hub.reports.images.store", lambda data, **_more: stored.append(data))
    assert reader.post(f"/api/exams/{there}/thread/pictures", files=_picture()).status_code == 403
    assert stored == []


@pytest.mark.parametrize("text", ["啊" * 20_000, "啊。" * 10_000, "啊哦" * 10_000])
def test_texts_that_repeat_themselves_are_compared_in_no_time(text: str) -> None:
    other = f"左{text[2:-2]}右"
    begun = time.process_time()
    pieces = compare(text, other)
    assert between({"findings": text}, {"findings": other})
    assert time.process_time() - begun < 2
    assert "".join(piece.before for piece in pieces) == text
    assert "".join(piece.after for piece in pieces) == other
    assert all(piece.before == piece.after for piece in pieces if piece.kind == "same")
    assert [piece.kind for piece in compare(text, text)] == ["same"]


def test_a_number_of_thousands_of_digits_in_a_table_is_no_failure_of_the_hub(world: World) -> None:
    table = f"modality,body_part,name,sex,age_from,age_to,findings\nCT,head,头颅,,{'9' * 5000},,未见异常。\n"
    files = {"file": ("t.csv", table.encode(), "text/csv")}
    answer = world.client("reporter").post("/api/texts/import", files=files, data={"kind": "templates"})
    assert (answer.status_code, answer.json()["code"]) == (422, "import-rows")
    exam_id = make_exam(world)
    body = {"class_code": "cerebral_haemorrhage", "finding": "脑出血", "minutes_ago": -(10**30)}
    assert world.client("reporter").post(f"/api/exams/{exam_id}/critical", json=body).status_code == 422


def test_who_became_the_author_grades_nobody_by_what_he_had_thought_before(world: World) -> None:
    set_policy(world, double=False)
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    opinion = {"agreement": "disagree", "significant": True, "note": "左右写反"}
    ok(reviewer.put(f"/api/reports/{version['version_id']}/review", json={"lease": lease, **opinion}))
    ok(reviewer.post(f"/api/exams/{exam_id}/reject", json={"lease": lease, "note": "左右写反"}))
    lease = claim(reviewer, exam_id)
    mine = write(reviewer, exam_id, lease, version["revision"], recommendation="建议复查。")
    mine = ok(reviewer.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": mine["revision"]}))
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, mine, lease))
    with database().reading() as session:
        signed = session.get_one(ReportVersion, version["version_id"])
        assert signed.author_id == signed.signer_id == world.people["reviewer"].id
        assert session.scalars(select(Arbitration)).all() == []
        assert [row.radpeer for row in session.scalars(select(Review))] == [""]


def test_a_name_in_the_table_of_quality_is_no_formula() -> None:
    figures = quality.ImageFigures(quality.Images(), {"one": quality.Images()}, {})
    lines = list(quality.rows(figures, {}, {"one": "=1+1"}, ["卫生院"]))
    assert [line[0] for line in lines] == ["卫生院", "'=1+1"]


def test_while_a_blinded_quarrel_is_open_its_page_names_nobody(world: World) -> None:
    set_policy(world, random={"*": 1.0})
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    for step in (peer.draw, peer.assign):
        with database().writing() as session:
            assert step(session) == 1
    reader, director = world.client("reviewer.h02"), world.client("director")
    case = ok(reader.get("/api/peer"))["readings"][0]["id"]
    with database().writing() as session:
        session.get_one(Exam, exam_id).history = "外伤\n[11-23 08:05 赵护士] 三天前摔倒 [左侧]"
    for answer in (reader.get(f"/peer/{case}"), reader.get(f"/api/peer/{case}")):
        assert ("三天前摔倒 [左侧]" in answer.text, "赵护士" in answer.text) == (True, False)
    ok(reader.post(f"/api/peer/{case}/verdict", json={"verdict": "钙化", "positive": False}))
    grade = {"agreement": "disagree", "significant": True, "note": "误诊"}
    ok(reader.post(f"/api/peer/{case}/grade", json=grade))
    second = world.people["reviewer.h02"].name
    page = director.get("/quality/reviews").text
    assert (second in page, f"/reports/{version['version_id']}" in page) == (False, False)
    row = ok(director.get("/api/arbitrations"))["arbitrations"][0]["id"]
    ok(director.post(f"/api/arbitrations/{row}/decide", json={"decision": "first", "radpeer": "1", "reason": "出血"}))
    page = director.get("/quality/reviews").text
    assert (second in page, f"/reports/{version['version_id']}" in page) == (True, True)


def test_why_a_report_was_rejected_stays_in_its_hospital(world: World) -> None:
    with database().writing() as session:
        patient = make_patient(session, world)
    here, there = make_exam(world, patient=patient), make_exam(world, patient=patient, reading="H02")
    author, reviewer = world.client("reporter.h02"), world.client("reviewer.h02")
    lease = claim(author, there)
    version = write(author, there, lease)
    ok(author.post(f"/api/exams/{there}/submit", json={"lease": lease, "revision": version["revision"]}))
    ok(reviewer.post(f"/api/exams/{there}/reject", json={"lease": claim(reviewer, there), "note": "左右写反"}))
    reader = world.client("reporter")
    claim(reader, here)
    for login, told in ((reader, False), (world.client("technologist"), False), (author, True)):
        reasons = [one["reason"] for one in ok(login.get(f"/api/exams/{there}/transitions"))]
        assert ("左右写反" in reasons) is told
        assert ("左右写反" in login.get(f"/clinic/exams/{there}").text) is told


def test_days_in_other_digits_are_refused(world: World) -> None:
    day = "2026-03-02".translate({ord("0") + value: 0x660 + value for value in range(10)})
    for path in ("/api/rota", "/api/rota/export.csv"):
        assert world.client("director").get(path, params={"from": day, "to": day}).status_code == 422


def test_looking_at_a_pair_of_patients_by_the_api_is_noted_as_on_its_page(world: World) -> None:
    with database().writing() as session:
        ids = [make_patient(session, world, org=org).id for org in ("C01", "C02")]
    client = world.client("quality")
    pair = ok(client.post("/api/patients/pairs", json={"one_id": ids[0], "two_id": ids[1]}), 201)["id"]
    ok(client.get(f"/api/patients/pairs/{pair}"))
    with database().reading() as session:
        seen = session.scalars(select(AuditEntry.object_id).where(AuditEntry.action == "patient.view")).all()
    assert sorted(seen) == sorted(ids * 2)
