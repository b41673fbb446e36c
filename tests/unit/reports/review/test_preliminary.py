"""The preliminary report: issued under the policy, at the clinic at once, then the formal one, which prevails."""

from __future__ import annotations

import re
import threading
from datetime import UTC, datetime

import pytest
from pypdf import PdfReader
from sqlalchemy import select

from hub.delivery import service as delivery
from hub.exams import listing
from hub.exams.models import Exam, Transition
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.reports.models import ReportVersion
from hub.reports.review.models import ConclusionChange
from hub.reports.signing.verify import verify_pdf
from support.reading import TEXT, cheap_keys, claim, make_exam, ok, open_key, state_of, write
from support.review import NIGHT, issue, set_policy


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def deliver(version_id):
    with database().writing() as session:
        return delivery.return_report(session, SYSTEM, version_id).id


def text_of(pdf, tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf)
    return re.sub(r"\s+", "", "".join(page.extract_text() for page in PdfReader(path).pages))


def issued(world, **more):
    """An exam with a preliminary report; its id, the draft as it stands, the answer, and the author's client."""
    exam_id = make_exam(world, priority="emergency", **more)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    answer = ok(issue(author, version, lease))
    return exam_id, ok(author.get(f"/api/reports/{version['version_id']}")), answer, author


def test_it_is_at_the_clinic_at_once_and_says_what_it_is(world, tmp_path):
    set_policy(world, **NIGHT)
    exam_id, draft, answer, author = issued(world)
    assert state_of(exam_id) == "preliminary"
    assert (draft["state"], draft["version"], draft["kind"]) == ("submitted", 2, "original")
    assert (answer["version"], answer["number"][:4]) == (1, "H01-")
    assert answer["version_id"] != draft["version_id"]
    with database().reading() as session:
        kinds = {job.kind for job in session.scalars(select(Job))}
        exam = session.get_one(Exam, exam_id)
        # No DICOM object claims to be the report; and none of the formal report's clocks runs.
        assert "delivery.return_report" in kinds
        assert "reports.make_objects" not in kinds
        assert (exam.signed_at, exam.returned_at, exam.seen_at) == (None, None, None)
        assert exam.preliminary_at is not None
        assert exam.lease_token is None

    clinic = world.client("clinician")
    deliver(answer["version_id"])
    deliver(answer["version_id"])
    found = ok(clinic.get(f"/api/exams/{exam_id}/reports"))["versions"]
    assert [(one["kind"], one["state"]) for one in found] == [("preliminary", "issued")]
    assert found[0]["author"] == world.people["reporter"].name
    assert found[0]["reviewer"] == ""
    assert clinic.get(f"/api/reports/{draft['version_id']}").status_code == 404
    row = ok(clinic.get("/api/inbox"))["reports"][0]
    assert (row["kind"], row["superseded"], row["seen_at"]) == ("preliminary", False, None)

    pdf = clinic.get(f"/api/reports/{answer['version_id']}/pdf")
    assert pdf.status_code == 200
    words = text_of(pdf.content, tmp_path)
    assert "急诊报告,以正式报告为准" in words
    assert world.people["reporter"].name in words
    assert verify_pdf(pdf.content, trust_roots=[], known_sha256=None).intact
    row = ok(clinic.get("/api/inbox"))["reports"][0]
    assert row["seen_by"] == world.people["clinician"].name
    # Seeing it is recorded, and is not the formal report's being seen.
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).seen_at is None
        events = select(Transition.event).where(Transition.exam_id == exam_id).order_by(Transition.id)
        steps = session.scalars(events).all()
        alerts = [
            listing.alerts_of(session.get_one(Exam, exam_id)),
            listing.alert_counts(session, world.actor("clinician")),
        ]
    assert steps == ["claim", "issue_preliminary", "return", "see"]
    assert "unseen" not in alerts[0]
    assert alerts[1]["unseen"] == 0
    assert author.get(f"/reports/{answer['version_id']}").status_code == 200

    # Asked again, the same answer; another text is another matter.
    body = {"lease": "gone", "revision": 1, "content_hash": found[0]["content_hash"]}
    again = ok(author.post(f"/api/reports/{draft['version_id']}/issue-preliminary", json=body))
    assert again == answer


def test_its_words_keep_their_links_to_the_images(world):
    set_policy(world, **NIGHT)
    exam_id = make_exam(world, priority="emergency")
    author = world.client("reporter")
    lease = claim(author, exam_id)
    write(author, exam_id, lease)
    link = {"kind": "measurement", "label": "3.2cm×2.5cm", "study": "1.2.3"}
    version = ok(author.post(f"/api/exams/{exam_id}/report/links", json={"lease": lease, **link}))
    open_key(author)
    answer = ok(issue(author, version, lease))
    for version_id in (answer["version_id"], version["version_id"]):
        assert [one["label"] for one in ok(author.get(f"/api/reports/{version_id}"))["links"]] == ["3.2cm×2.5cm"]


def test_taken_back_and_issued_again_word_for_word_it_still_goes_to_its_review(world):
    set_policy(world, **NIGHT)
    exam_id, draft, answer, author = issued(world)
    for number in (2, 3):
        lease = ok(author.post(f"/api/exams/{exam_id}/withdraw"))["lease"]
        assert state_of(exam_id) == "reading"
        draft = ok(author.get(f"/api/reports/{draft['version_id']}"))
        answer = ok(issue(author, draft, lease))
        assert answer["version"] == number
        assert state_of(exam_id) == "preliminary"
        assert ok(issue(author, draft, lease)) == answer


def formal(world, exam_id, draft, *, lease=None, client=None, **opinion):
    reviewer = client or world.client("reviewer")
    lease = lease or claim(reviewer, exam_id)
    open_key(reviewer)
    body = {"lease": lease, "revision": draft["revision"], "content_hash": draft["content_hash"]}
    if opinion:
        body["review"] = opinion
    return reviewer.post(f"/api/reports/{draft['version_id']}/sign", json=body)


def test_the_formal_report_prevails_and_an_unchanged_conclusion_alarms_nobody(world, tmp_path):
    set_policy(world, **NIGHT)
    exam_id, draft, answer, _author = issued(world)
    deliver(answer["version_id"])
    done = ok(formal(world, exam_id, draft))
    assert (done["version"], done["number"]) == (2, answer["number"])
    deliver(done["version_id"])
    clinic = world.client("clinician")
    assert state_of(exam_id) == "returned"
    rows = {row["kind"]: row for row in ok(clinic.get("/api/inbox"))["reports"]}
    assert rows["preliminary"]["superseded"]
    assert not rows["original"]["superseded"]
    words = text_of(clinic.get(f"/api/reports/{done['version_id']}/pdf").content, tmp_path)
    assert "正式报告" in words
    assert "与急诊报告相同" in words
    assert ok(clinic.get("/api/conclusion-changes"))["changes"] == []
    # What was issued stays, readable.
    assert clinic.get(f"/api/reports/{answer['version_id']}/pdf").status_code == 200
    page = clinic.get(f"/reports/{answer['version_id']}")
    assert page.status_code == 200
    assert done["version_id"] in page.text


def test_a_changed_conclusion_must_be_stated_and_acknowledged_by_name(world, tmp_path):
    set_policy(world, **NIGHT)
    exam_id, draft, answer, _author = issued(world)
    deliver(answer["version_id"])
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    other = {**TEXT, "findings": "右侧基底节区见点状钙化。", "impression": "右侧基底节区钙化灶。", "critical": False}
    draft = write(reviewer, exam_id, lease, draft["revision"], **other)

    refused = formal(world, exam_id, draft, lease=lease, client=reviewer)
    assert (refused.status_code, refused.json()["code"]) == (409, "conclusion-unstated")
    assert "impression" in refused.json()["differences"]
    refused = formal(world, exam_id, draft, lease=lease, client=reviewer, conclusion_changed=False)
    assert refused.json()["code"] == "conclusion-differs"
    # Confirmed of one text, and then the text is another: what was confirmed is not this.
    path = f"/api/reports/{draft['version_id']}/review"
    ok(reviewer.put(path, json={"lease": lease, "conclusion_changed": False, "conclusion_confirmed": True}))
    draft = write(reviewer, exam_id, lease, draft["revision"], **{**other, "impression": "右侧基底节区小钙化灶。"})
    assert formal(world, exam_id, draft, lease=lease, client=reviewer).json()["code"] == "conclusion-differs"
    refused = formal(world, exam_id, draft, lease=lease, client=reviewer, conclusion_changed=True)
    assert "conclusion_note" in refused.json()["fields"]
    said = {"conclusion_changed": True, "conclusion_note": "不是出血,是钙化"}
    done = ok(formal(world, exam_id, draft, lease=lease, client=reviewer, **said))
    # The answer was lost on its way: sent again, the same one, and no second alarm.
    assert ok(formal(world, exam_id, draft, lease=lease, client=reviewer, **said)) == done
    assert len(ok(world.client("clinician").get("/api/conclusion-changes"))["changes"]) == 1
    deliver(done["version_id"])
    clinic, stranger, machine = world.client("clinician"), world.client("clinician.c02"), world.machine("C01", "report")
    change = ok(clinic.get("/api/conclusion-changes"))["changes"][0]
    assert (change["state"], change["statement"]) == ("open", "不是出血,是钙化")
    assert (change["preliminary_id"], change["version_id"]) == (answer["version_id"], done["version_id"])
    assert ok(stranger.get("/api/conclusion-changes"))["changes"] == []
    words = text_of(clinic.get(f"/api/reports/{done['version_id']}/pdf").content, tmp_path)
    assert "与急诊报告相比结论有改变:不是出血,是钙化" in words
    # Both reports say it, and so does each page of the clinic; opening one is not acknowledging the change.
    for path in (f"/reports/{answer['version_id']}", f"/reports/{done['version_id']}", "/clinic"):
        page = clinic.get(path)
        assert page.status_code == 200
        assert "不是出血,是钙化" in page.text
    assert "不是出血" not in stranger.get("/clinic").text
    assert ok(clinic.get("/api/conclusion-changes"))["changes"][0]["state"] == "open"
    path = f"/api/conclusion-changes/{change['id']}/acknowledge"
    assert stranger.post(path, json={}).status_code == 404
    assert machine.post(path, json={}).status_code == 403
    assert reviewer.post(path, json={}).status_code == 403
    first = ok(clinic.post(path, json={"note": "已通知患者家属"}))
    assert (first["state"], first["acknowledged_by"]) == ("acknowledged", world.people["clinician"].name)
    again = ok(world.client("technologist").post(path, json={}))
    assert again == first
    assert ok(clinic.get("/api/conclusion-changes"))["changes"] == []


def test_unchanged_against_the_hubs_finding_must_be_confirmed(world):
    set_policy(world, **NIGHT)
    exam_id, draft, _answer, _author = issued(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    draft = write(reviewer, exam_id, lease, draft["revision"], impression="右侧基底节区脑出血,建议复查。")
    done = formal(
        world, exam_id, draft, lease=lease, client=reviewer, conclusion_changed=False, conclusion_confirmed=True
    )
    ok(done)
    with database().reading() as session:
        assert session.scalars(select(ConclusionChange)).all() == []


@pytest.mark.parametrize(
    ("policy", "login", "priority", "code"),
    [
        ({}, "reporter", "emergency", "preliminary-not-allowed"),
        ({**NIGHT, "preliminary_hours": [["00:00", "00:01"]]}, "reporter", "emergency", "preliminary-not-allowed"),
        ({**NIGHT, "preliminary_emergency": True}, "reporter", "routine", "preliminary-not-allowed"),
        ({**NIGHT, "preliminary_attending": True, "resident_titles": [""]}, "reporter", "emergency", None),
    ],
)
def test_the_policy_says_who_may_issue_and_when(world, monkeypatch, policy, login, priority, code):
    # 09:00 in the county: outside the minute that one of the policies allows.
    clock.set_source(lambda: datetime(2026, 3, 2, 1, 0, tzinfo=UTC))
    set_policy(world, **policy)
    exam_id = make_exam(world, priority=priority)
    author = world.client(login)
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    answer = issue(author, version, lease)
    assert (answer.json().get("code") if answer.status_code != 200 else None) == code
    assert state_of(exam_id) == ("reading" if code else "preliminary")


def test_the_author_may_take_it_back_to_mend_it_and_issue_a_better_one(world):
    set_policy(world, **NIGHT)
    exam_id, draft, answer, author = issued(world)
    deliver(answer["version_id"])
    lease = ok(author.post(f"/api/exams/{exam_id}/withdraw"))["lease"]
    assert state_of(exam_id) == "reading"
    better = write(author, exam_id, lease, draft["revision"], impression="右侧基底节区脑出血破入脑室。")
    second = ok(issue(author, better, lease))
    assert (second["version"], ok(author.get(f"/api/reports/{draft['version_id']}"))["version"]) == (2, 3)
    deliver(second["version_id"])
    clinic = world.client("clinician")
    rows = {row["version"]: row["superseded"] for row in ok(clinic.get("/api/inbox"))["reports"]}
    assert rows == {1: True, 2: False}
    with database().reading() as session:
        states = session.scalars(select(ReportVersion.state).order_by(ReportVersion.number)).all()
    assert states == ["issued", "issued", "submitted"]


@pytest.mark.server
def test_taking_back_and_claiming_the_review_at_once_leaves_one(world):
    set_policy(world, **NIGHT)
    exam_id, _draft, _answer, author = issued(world)
    reviewers = [world.client("reviewer"), world.client("reviewer2")]
    gate, answers = threading.Barrier(3), {}

    def go(name, client, path):
        gate.wait()
        answers[name] = client.post(path).status_code

    threads = [
        threading.Thread(target=go, args=("author", author, f"/api/exams/{exam_id}/withdraw")),
        *(
            threading.Thread(target=go, args=(number, client, f"/api/exams/{exam_id}/claim"))
            for number, client in enumerate(reviewers)
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [200, 409, 409]
    assert state_of(exam_id) == ("reading" if answers["author"] == 200 else "reviewing")


def test_another_doctors_draft_is_not_issued_and_a_lost_lease_neither(world):
    set_policy(world, **NIGHT)
    exam_id = make_exam(world)
    author, other = world.client("reporter"), world.client("reviewer")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    open_key(other)
    assert issue(other, version, lease).json()["code"] == "lease-lost"
    assert issue(author, version, "another").json()["code"] == "lease-lost"
    wrong = {**version, "content_hash": "0" * 64}
    assert issue(author, wrong, lease).json()["code"] == "content-changed"
    assert state_of(exam_id) == "reading"


def test_a_resident_issues_it_and_an_attending_must_review(world):
    set_policy(world, double=False, residents=[world.people["reporter"].id], **NIGHT)
    exam_id, draft, _answer, _author = issued(world)
    done = ok(formal(world, exam_id, draft))
    assert done["version"] == 2
