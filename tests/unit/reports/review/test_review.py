"""A review: graded, told to the author, put to arbitration where it matters; who may sign what."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.kit.db import database
from hub.reports.models import SavedText
from hub.reports.review.models import Arbitration, Review
from support.reading import TEXT, cheap_keys, claim, make_exam, ok, open_key, sign, state_of, submitted, write
from support.review import set_policy


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def sign_with(client, version, lease, **review):
    body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"], "review": review}
    return client.post(f"/api/reports/{version['version_id']}/sign", json=body)


def reviewed(world, login="reviewer", text=None, **review):
    """A report of the reporter's, reviewed and signed; its id, the answer, the reviewer's client."""
    exam_id, version = submitted(world)
    reviewer = world.client(login)
    lease = claim(reviewer, exam_id)
    if text:
        version = write(reviewer, exam_id, lease, version["revision"], **text)
    open_key(reviewer)
    return exam_id, ok(sign_with(reviewer, version, lease, **review)), reviewer


def test_the_author_is_told_what_was_changed_and_thought(world):
    author, other = world.client("reporter"), world.client("reporter.h02")
    text = {"impression": "右侧基底节区脑出血,破入脑室。"}
    _exam, done, reviewer = reviewed(world, text=text, agreement="minor", significant=False, note="注意脑室")
    found = ok(author.get("/api/reviews"))
    assert found["unread"] == 1
    row = found["reviews"][0]
    assert (row["radpeer"], row["note"], row["changed"]) == ("2a", "注意脑室", ["impression"])
    assert row["reviewer"] == world.people["reviewer"].name
    changes = ok(author.get(f"/api/reports/{done['version_id']}/changes"))
    assert changes["submitted"]["impression"] == TEXT["impression"]
    pieces = [(one["before"], one["after"]) for one in changes["fields"]["impression"] if one["kind"] == "change"]
    assert pieces == [("", ",破入脑室")]
    assert {piece["kind"] for piece in changes["fields"]["findings"]} == {"same"}
    # Mine, and nobody else's.
    assert ok(reviewer.get("/api/reviews"))["reviews"] == []
    assert other.post(f"/api/reviews/{row['id']}/read").status_code == 404
    assert other.get(f"/api/reports/{done['version_id']}/changes").status_code == 404
    assert world.client("clinician").get(f"/api/reports/{done['version_id']}/changes").status_code == 403
    page = author.get("/reviews")
    assert page.status_code == 200
    assert "注意脑室" in page.text
    assert "<ins>,破入脑室</ins>" in page.text
    assert ok(author.post(f"/api/reviews/{row['id']}/read"))["read_at"]
    assert ok(author.get("/api/reviews"))["unread"] == 0
    assert ok(author.get("/api/reviews?unread=true"))["reviews"] == []


def test_until_the_signature_it_is_the_reviewers_own(world):
    exam_id, version = submitted(world)
    reviewer, other, author = world.client("reviewer"), world.client("reviewer2"), world.client("reporter")
    path = f"/api/reports/{version['version_id']}/review"
    assert other.put(path, json={"agreement": "agree"}).status_code == 200
    lease = claim(reviewer, exam_id)
    assert other.put(path, json={"agreement": "agree"}).json()["code"] == "lease-lost"
    assert reviewer.put(path, json={"lease": "no", "agreement": "agree"}).json()["code"] == "lease-lost"
    for bad in ({"agreement": "disagree"}, {"agreement": "agree", "significant": True}):
        assert "significant" in reviewer.put(path, json={"lease": lease, **bad}).json()["fields"]
    kept = ok(reviewer.put(path, json={"lease": lease, "agreement": "disagree", "significant": True, "note": "误"}))
    assert kept["radpeer"] == "3b"
    assert ok(reviewer.get(path))["review"]["note"] == "误"
    assert ok(author.get("/api/reviews"))["reviews"] == []
    assert author.get(path).status_code == 403
    with database().reading() as session:
        assert session.scalars(select(Arbitration)).all() == []


def test_a_grade_may_be_required(world):
    set_policy(world, grade_required=True)
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    refused = sign(reviewer, version, lease)
    assert (refused.status_code, refused.json()["code"]) == (409, "grade-missing")
    ok(sign_with(reviewer, version, lease, agreement="agree"))
    assert state_of(exam_id) == "signed"


def test_the_authors_words_stay_whatever_the_reviewer_does(world):
    _exam, done, _reviewer = reviewed(world, text={"findings": "另写", "impression": "另写"}, agreement="agree")
    with database().reading() as session:
        kept = session.scalars(
            select(SavedText).where(SavedText.version_id == done["version_id"], SavedText.event == "submitted")
        ).one()
        assert kept.body["findings"] == TEXT["findings"]
        row = session.scalars(select(Review)).one()
        assert row.submitted["impression"] == TEXT["impression"]


def test_significant_disagreement_goes_to_arbitration_and_both_are_told(world):
    author, director = world.client("reporter"), world.client("director")
    _exam, done, reviewer = reviewed(
        world, text={"impression": "右侧基底节区钙化。"}, agreement="disagree", significant=True, note="不是出血"
    )
    case = ok(director.get("/api/arbitrations?state=open"))["arbitrations"][0]
    assert (case["source"], case["version_id"]) == ("review", done["version_id"])
    path = f"/api/arbitrations/{case['id']}/decide"
    decision = {"decision": "second", "radpeer": "3b", "reason": "CT值支持钙化"}
    assert reviewer.post(path, json=decision).json()["code"] == "own-case"
    assert author.post(path, json=decision).json()["code"] == "own-case"
    assert world.client("reviewer2").post(path, json=decision).status_code == 404
    assert world.client("quality").post(path, json=decision).status_code == 403
    assert set(director.post(path, json={**decision, "reason": " "}).json()["fields"]) == {"reason"}
    decided = ok(director.post(path, json=decision))
    assert (decided["state"], decided["decided_by"]) == ("decided", world.people["director"].name)
    assert director.post(path, json=decision).json()["code"] == "wrong-state"
    assert world.client("reporter.h02").get("/api/arbitrations").json()["arbitrations"] == []
    for client, feedback in ((author, 2), (reviewer, 1)):
        assert ok(client.get("/api/reviews"))["unread"] == feedback
        assert "CT值支持钙化" in client.get("/reviews").text
        ok(client.post(f"/api/arbitrations/{case['id']}/read"))
        assert ok(client.get("/api/reviews"))["unread"] == feedback - 1
    with database().reading() as session:
        actions = [entry.action for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id))]
    assert [action for action in actions if action.startswith("arbitration.")] == [
        "arbitration.open",
        "arbitration.decide",
    ]


def test_a_named_arbiter_decides_but_never_his_own_case(world):
    set_policy(world, arbiter_id=world.people["reviewer2"].id)
    _exam, _done, _reviewer = reviewed(world, agreement="disagree", significant=True, note="误")
    arbiter = world.client("reviewer2")
    case = ok(arbiter.get("/api/arbitrations"))["arbitrations"][0]
    body = {"decision": "first", "radpeer": "1", "reason": "书写无误"}
    ok(arbiter.post(f"/api/arbitrations/{case['id']}/decide", json=body))
    # His own disagreement is the director's.
    _exam, _done, _reviewer = reviewed(world, login="reviewer2", agreement="disagree", significant=True, note="误")
    own = next(one for one in ok(arbiter.get("/api/arbitrations"))["arbitrations"] if one["state"] == "open")
    assert arbiter.post(f"/api/arbitrations/{own['id']}/decide", json=body).json()["code"] == "own-case"
    ok(world.client("director").post(f"/api/arbitrations/{own['id']}/decide", json=body))


# --- who may sign -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "priority", "alone"),
    [
        ({}, "emergency", False),
        ({"double": False}, "routine", True),
        ({"alone": True}, "routine", True),
        ({"alone": True, "alone_emergency": True}, "routine", False),
        ({"alone": True, "alone_emergency": True}, "emergency", True),
        ({"alone": True, "alone_hours": [["03:00", "03:01"]]}, "routine", False),
        ({"alone": True, "alone_by": ["reviewer2"]}, "routine", False),
        ({"alone": True, "alone_by": ["reviewer"]}, "routine", True),
        ({"double": False, "residents": ["reviewer"]}, "routine", False),
    ],
)
def test_one_signature_is_enough_where_the_policy_says_so(world, monkeypatch, policy, priority, alone):
    for name in ("alone_by", "residents"):
        if name in policy:
            policy = {**policy, name: [world.people[login].id for login in policy[name]]}
    set_policy(world, **policy)
    exam_id = make_exam(world, priority=priority)
    doctor = world.client("reviewer")
    lease = claim(doctor, exam_id)
    version = write(doctor, exam_id, lease)
    open_key(doctor)
    answer = sign(doctor, version, lease)
    assert (answer.status_code == 200) is alone, answer.text
    if not alone:
        assert answer.json()["code"] == "needs-review"
        # His own report is no review of his, either.
        submit = {"lease": lease, "revision": version["revision"]}
        version = ok(doctor.post(f"/api/exams/{exam_id}/submit", json=submit))
        refused = doctor.post(f"/api/exams/{exam_id}/claim")
        assert refused.json()["code"] in ("own-report", "attending-needed")
    assert state_of(exam_id) == ("signed" if alone else "to_review")


def test_a_resident_reviews_nothing(world):
    set_policy(world, residents=[world.people["reviewer"].id])
    exam_id, version = submitted(world)
    resident, attending = world.client("reviewer"), world.client("reviewer2")
    assert resident.post(f"/api/exams/{exam_id}/claim").json()["code"] == "attending-needed"
    lease = claim(attending, exam_id)
    open_key(attending)
    ok(sign(attending, version, lease))


def test_a_policy_changed_during_the_review_counts(world):
    exam_id, version = submitted(world)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    set_policy(world, residents=[world.people["reviewer"].id])
    assert sign(reviewer, version, lease).json()["code"] == "attending-needed"


@pytest.mark.server
def test_of_two_reviewers_one_gets_it_and_of_two_signatures_one_counts(world):
    exam_id, version = submitted(world)
    clients = [world.client("reviewer"), world.client("reviewer2")]
    answers = at_once([lambda client=client: client.post(f"/api/exams/{exam_id}/claim") for client in clients])
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    winner = clients[0 if answers[0].status_code == 200 else 1]
    lease = next(answer.json()["lease"] for answer in answers if answer.status_code == 200)
    open_key(winner)
    signatures = at_once(
        [lambda: sign_with(winner, version, lease, agreement="disagree", significant=True, note="误")] * 2
    )
    assert 200 in {answer.status_code for answer in signatures}
    assert state_of(exam_id) == "signed"
    with database().reading() as session:
        assert len(session.scalars(select(Review)).all()) == 1
        assert len(session.scalars(select(Arbitration)).all()) == 1


@pytest.mark.server
def test_taking_back_and_claiming_at_once_leaves_one(world):
    exam_id, _version = submitted(world)
    author, reviewer = world.client("reporter"), world.client("reviewer")
    answers = at_once(
        [
            lambda: author.post(f"/api/exams/{exam_id}/withdraw"),
            lambda: reviewer.post(f"/api/exams/{exam_id}/claim"),
        ]
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert state_of(exam_id) == ("reading" if answers[0].status_code == 200 else "reviewing")


def at_once(deeds):
    gate, answers = threading.Barrier(len(deeds)), [None] * len(deeds)

    def go(index):
        gate.wait()
        answers[index] = deeds[index]()

    threads = [threading.Thread(target=go, args=(index,)) for index in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
