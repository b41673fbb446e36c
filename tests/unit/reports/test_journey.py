"""A report from claim to the clinic, through the HTTP API."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from hub.delivery import service as delivery
from hub.exams.models import Exam
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.reports.signing.verify import verify_pdf
from support.reading import PIN, claim, make_exam, ok, open_key, sign, signed, state_of, submitted, write


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    from support.reading import cheap_keys

    cheap_keys(monkeypatch)


def deliver(version_id):
    with database().writing() as session:
        return delivery.return_report(session, SYSTEM, version_id).id


def test_the_whole_way(world):
    exam_id = make_exam(world, priority="emergency")
    author, reviewer, clinic = world.client("reporter"), world.client("reviewer"), world.client("clinician")
    queue = ok(author.get("/api/queue"))
    assert [row["id"] for row in queue["exams"]] == [exam_id]
    assert queue["exams"][0]["claimable"]

    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    version = ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]}))
    assert version["state"] == "submitted"
    assert state_of(exam_id) == "to_review"
    assert ok(clinic.get(f"/api/exams/{exam_id}/reports"))["versions"] == []
    assert clinic.get(f"/api/reports/{version['version_id']}").status_code == 404

    lease = claim(reviewer, exam_id)
    refused = sign(reviewer, version, lease)
    assert (refused.status_code, refused.json()["code"]) == (403, "key-locked")
    open_key(reviewer)
    done = ok(sign(reviewer, version, lease))
    assert done["number"].startswith("H01-")
    assert done["number"].endswith("-0001")
    assert state_of(exam_id) == "signed"
    again = ok(sign(reviewer, version, lease))
    assert again == done

    with database().reading() as session:
        kinds = {job.kind: job.payload for job in session.scalars(select(Job))}
        exam = session.get_one(Exam, exam_id)
        assert (exam.author_id, exam.reviewer_id) == (world.people["reporter"].id, world.people["reviewer"].id)
        assert exam.lease_token is None
    assert kinds["delivery.return_report"] == {"version_id": version["version_id"]}
    assert kinds["reports.make_objects"] == {"version_id": version["version_id"]}

    deliver(version["version_id"])
    deliver(version["version_id"])
    assert state_of(exam_id) == "returned"
    inbox = ok(clinic.get("/api/inbox"))
    assert (inbox["unseen"], len(inbox["reports"])) == (1, 1)
    assert ok(world.client("clinician.c02").get("/api/inbox"))["reports"] == []

    pdf = clinic.get(done["pdf"])
    assert pdf.headers["content-type"] == "application/pdf"
    assert verify_pdf(pdf.content, trust_roots=[]).problems == ("unknown-issuer",)
    assert state_of(exam_id) == "seen"
    seen = ok(clinic.post(f"/api/deliveries/{inbox['reports'][0]['id']}/seen"))
    assert seen["seen_by"] == world.people["clinician"].name
    assert ok(clinic.get("/api/inbox"))["unseen"] == 0
    assert world.client("technologist.c02").get(done["pdf"]).status_code == 404


def test_a_changed_text_is_not_signed(world):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    newer = write(reviewer, exam_id, lease, version["revision"], impression="改过的意见")
    old = sign(reviewer, version, lease)
    assert (old.status_code, old.json()["code"]) == (409, "revision-conflict")
    forged = sign(reviewer, {**newer, "content_hash": "0" * 64}, lease)
    assert forged.json()["code"] == "content-changed"
    assert state_of(exam_id) == "reviewing"
    ok(sign(reviewer, newer, lease))
    texts = ok(reviewer.get(f"/api/reports/{version['version_id']}/saved"))["texts"]
    assert {"submitted", "overwritten"} == {text["event"] for text in texts}
    assert texts[0]["body"]["impression"] == version["impression"]


def test_nobody_reviews_his_own_report_where_two_must_sign(world):
    exam_id = make_exam(world)
    author = world.client("reviewer")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    refused = sign(author, version, lease)
    assert refused.json()["code"] == "needs-review"
    ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]}))
    assert author.post(f"/api/exams/{exam_id}/claim").json()["code"] == "own-report"
    assert claim(world.client("reviewer2"), exam_id)


def test_a_hospital_may_allow_one_signature(world):
    from hub.sites.models import Organisation

    with database().writing() as session:
        session.get_one(Organisation, world.orgs["H01"].id).policy = {"double_signature": False}
    exam_id = make_exam(world)
    author = world.client("reviewer")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    ok(sign(author, version, lease))
    found = ok(author.get(f"/api/reports/{version['version_id']}"))
    assert (found["author"], found["reviewer"]) == (world.people["reviewer"].name, "")


def test_what_is_printed_of_the_request_is_not_signed_unseen(world):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    shown = version
    for field, value in (("history", "右侧肢体无力"), ("bed", "12"), ("encounter_number", "Z0001")):
        with database().writing() as session:
            setattr(session.get_one(Exam, exam_id), field, value)
        assert sign(reviewer, shown, lease).json()["code"] == "content-changed"
        shown = ok(reviewer.get(f"/api/reports/{version['version_id']}"))
    ok(sign(reviewer, shown, lease))


def test_nobody_signs_an_amendment_that_another_still_writes(world):
    from hub.sites.models import Organisation

    with database().writing() as session:
        session.get_one(Organisation, world.orgs["H01"].id).policy = {"double_signature": False}
    exam_id, _version = signed(world)
    author, other = world.client("reviewer"), world.client("reviewer2")
    ok(author.post(f"/api/exams/{exam_id}/amend", json={"kind": "addendum", "reason": "补充"}), 201)
    draft = write(author, exam_id, "", 1)
    open_key(other)
    assert sign(other, draft, "").json()["code"] == "exam-held"
    open_key(author)
    ok(sign(author, draft, ""))


def test_an_open_identity_holds_back_the_signature_alone(world):
    exam_id, version = submitted(world, priority="emergency", identity="open")
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    refused = sign(reviewer, version, lease)
    assert (refused.status_code, refused.json()["code"]) == (409, "identity-open")
    assert "核对" in refused.json()["title"]
    with database().writing() as session:
        session.get_one(Exam, exam_id).identity = "verified"
    ok(sign(reviewer, version, lease))


def test_an_incomplete_report_is_neither_submitted_nor_signed(world):
    exam_id = make_exam(world)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease, impression=" ", positive=None)
    refused = author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]})
    assert refused.status_code == 422
    assert set(refused.json()["fields"]) == {"impression", "positive"}


def test_rejection_goes_back_to_the_author_with_its_note(world):
    exam_id, version = submitted(world)
    author, reviewer = world.client("reporter"), world.client("reviewer")
    lease = claim(reviewer, exam_id)
    ok(reviewer.post(f"/api/exams/{exam_id}/reject", json={"lease": lease, "note": "左右请核对"}))
    assert state_of(exam_id) == "rejected"
    found = ok(author.post("/api/queue/next", json={}))["next"]
    assert found["exam_id"] == exam_id
    current = ok(author.get(f"/api/reports/{version['version_id']}"))
    assert (current["state"], current["review_note"]) == ("draft", "左右请核对")

    # What readers say of a draft is not for the clinic, nor that it speaks of a critical finding.
    clinic = world.client("technologist")
    for client, known in ((clinic, False), (author, True)):
        changes = ok(client.get(f"/api/exams/{exam_id}/transitions"))
        assert [change["reason"] for change in changes if change["event"] == "reject"] == ["左右请核对" * known]
    page = clinic.get(f"/clinic/exams/{exam_id}", headers={"Accept": "text/html"}).text
    assert "驳回修改" in page
    assert "左右请核对" not in page
    assert not ok(clinic.get(f"/api/exams/{exam_id}"))["critical"]


def test_withdrawing_gives_the_author_his_exam_again(world):
    exam_id, _version = submitted(world)
    author = world.client("reporter")
    assert ok(author.post(f"/api/exams/{exam_id}/withdraw"))["exam_id"] == exam_id
    assert state_of(exam_id) == "reading"


def test_a_correction_is_a_new_version_and_the_clinic_is_told_again(world):
    exam_id, first = signed(world)
    deliver(first["version_id"])
    clinic = world.client("clinician")
    clinic.get(f"/api/reports/{first['version_id']}/pdf")
    assert state_of(exam_id) == "seen"
    author, reviewer = world.client("reviewer2"), world.client("reviewer")
    ask = {"kind": "correction", "reason": "左右写反"}
    second = ok(author.post(f"/api/exams/{exam_id}/amend", json=ask), 201)
    assert second["findings"] == first["findings"]
    assert reviewer.post(f"/api/exams/{exam_id}/amend", json=ask).json()["code"] == "amendment-open"
    second = write(
        author,
        exam_id,
        "",
        second["revision"],
        findings="左侧基底节区见团块状高密度影,大小约3.2cm×2.5cm。",
        impression="左侧基底节区脑出血。",
    )
    assert state_of(exam_id) == "seen"
    second = ok(author.post(f"/api/exams/{exam_id}/submit", json={"revision": second["revision"]}))
    open_key(reviewer)
    done = ok(sign(reviewer, second, ""))
    assert (done["number"], done["version"]) == (first["number"], 2)
    assert state_of(exam_id) == "signed"
    deliver(second["version_id"])
    assert state_of(exam_id) == "returned"
    reports = ok(clinic.get("/api/inbox"))["reports"]
    assert [(r["version"], r["superseded"]) for r in reports] == [(2, False), (1, True)]
    assert ok(clinic.get(f"/api/reports/{first['version_id']}"))["impression"] == first["impression"]
    clinic.get(done["pdf"])
    assert state_of(exam_id) == "seen"


def test_a_discarded_amendment_gives_its_number_back(world):
    exam_id, first = signed(world)
    author = world.client("reporter")
    ask = {"kind": "addendum", "reason": "补充"}
    ok(author.post(f"/api/exams/{exam_id}/amend", json=ask), 201)
    ok(author.post(f"/api/exams/{exam_id}/discard"), 204)
    second = ok(author.post(f"/api/exams/{exam_id}/amend", json=ask), 201)
    assert (first["version"], second["version"], second["findings"]) == (1, 2, "")


def test_wrong_pins_are_counted_and_stopped(world):
    reviewer = world.client("reviewer")
    ok(reviewer.post("/api/signing/identities", json={"pin": PIN}), 201)
    codes = [reviewer.post("/api/signing/unlock", json={"pin": "999998"}).json()["code"] for _n in range(6)]
    assert codes == ["wrong-pin"] * 5 + ["pin-throttled"]
    assert reviewer.post("/api/signing/unlock", json={"pin": PIN}).status_code == 429


def test_a_pin_must_be_good(world):
    reviewer = world.client("reviewer")
    for pin in ("12345", "123456", "111111", "abcdef"):
        assert reviewer.post("/api/signing/identities", json={"pin": pin}).json()["code"] == "weak-pin"
    identity = ok(reviewer.post("/api/signing/identities", json={"pin": PIN}), 201)
    url = f"/api/signing/identities/{identity['id']}"
    assert reviewer.post(f"{url}/pin", json={"old": "000001", "new": "864209"}).json()["code"] == "wrong-pin"
    ok(reviewer.post(f"{url}/pin", json={"old": PIN, "new": "864209"}))
    open_key(reviewer, "864209")
    ok(reviewer.post(f"{url}/revoke", json={"reason": "keyCompromise"}))
    assert reviewer.post("/api/signing/unlock", json={"pin": "864209"}).json()["code"] == "no-certificate"
    assert not ok(reviewer.get("/api/signing"))["unlocked"]


def test_an_opened_key_closes_when_idle(world, monkeypatch):
    from datetime import UTC, datetime, timedelta

    from hub.kit import clock

    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    assert ok(reviewer.get("/api/signing"))["unlocked"]
    clock.set_source(lambda: datetime.now(UTC) + timedelta(minutes=16))
    assert not ok(reviewer.get("/api/signing"))["unlocked"]
    assert sign(reviewer, version, lease).json()["code"] == "key-locked"


def test_another_browser_cannot_use_an_opened_key(world):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    reviewer.cookies.delete("hub_signing")
    assert sign(reviewer, version, lease).json()["code"] == "key-locked"
