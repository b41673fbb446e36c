"""What has come back to its author is what "next for me" offers him first."""

from __future__ import annotations

import pytest

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.reading.routing import rota
from support.reading import cheap_keys, claim, make_exam, ok, signed, state_of, submitted, write


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def next_of(world, login="reporter", **body):
    found = ok(world.client(login).post("/api/queue/next", json=body))["next"]
    return found and found["exam_id"]


def ahead_of(world, login="reporter", **body):
    return ok(world.client(login).post("/api/queue/ahead", json=body))["exam_id"]


def rejected(world, **more):
    exam_id, _version = submitted(world, **more)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    ok(reviewer.post(f"/api/exams/{exam_id}/reject", json={"lease": lease, "note": "左右请核对"}))
    return exam_id


def amended(world, *, kind="correction", **more):
    exam_id, _version = signed(world, **more)
    ok(world.client("reporter").post(f"/api/exams/{exam_id}/amend", json={"kind": kind, "reason": "左右写反"}), 201)
    return exam_id


def test_a_rejected_report_comes_first_to_its_author_and_to_nobody_else(world):
    back = rejected(world, due_minutes=600)
    urgent = make_exam(world, priority="urgent", due_minutes=5)
    overdue = make_exam(world, due_minutes=-20)
    assert ahead_of(world) == back
    assert next_of(world, "reviewer", review=False) == overdue
    assert next_of(world) == back
    assert state_of(back) == "reading"
    assert next_of(world) == urgent


def test_only_emergencies_come_before_it_and_of_emergencies_his_own_first(world):
    back = rejected(world, due_minutes=600)
    emergency = make_exam(world, priority="emergency", due_minutes=200)
    assert ahead_of(world) == emergency
    own = rejected(world, priority="emergency", due_minutes=300)
    assert [next_of(world) for _number in range(3)] == [own, emergency, back]


def test_a_returned_report_that_was_let_go_still_comes_first(world):
    back = rejected(world, due_minutes=600)
    make_exam(world, due_minutes=5)
    author = world.client("reporter")
    lease = claim(author, back)
    ok(author.post(f"/api/exams/{back}/release", json={"lease": lease}))
    assert state_of(back) == "to_read"
    assert ahead_of(world, without=back) != back
    assert next_of(world) == back


def test_an_open_correction_comes_first_without_a_lease(world):
    back = amended(world)
    urgent = make_exam(world, priority="urgent", due_minutes=5)
    author = world.client("reporter")
    assert ahead_of(world) == back
    found = ok(author.post("/api/queue/next", json={}))["next"]
    assert (found["exam_id"], found["lease"], found["until"], found["state"]) == (back, "", None, "signed")
    assert state_of(back) == "signed"
    # Nobody else is sent to it, and he himself not again when he goes on from it.
    assert next_of(world, without=back) == urgent
    assert next_of(world, "reviewer", review=False) is None
    assert '"mode": "amend"' in author.get(f"/read/{back}/panel").text


def test_a_correction_that_was_rejected_comes_back_and_says_why(world):
    back = amended(world)
    author, reviewer = world.client("reporter"), world.client("reviewer")
    version = ok(author.get(f"/api/exams/{back}/reports"))["versions"][0]
    version = write(author, back, "", version["revision"])
    ok(author.post(f"/api/exams/{back}/submit", json={"revision": version["revision"]}))
    other = make_exam(world, due_minutes=5)
    assert ahead_of(world) == other, "it lies with the reviewer"
    ok(reviewer.post(f"/api/exams/{back}/reject", json={"note": "请补充测量值"}))
    assert next_of(world) == back
    assert "请补充测量值" in author.get(f"/read/{back}/panel").text


def test_corrections_stand_before_rejected_reports_and_each_by_its_age(world):
    routine = rejected(world, due_minutes=30)
    later = rejected(world, due_minutes=90)
    first, second = amended(world), amended(world, kind="addendum")
    assert (ahead_of(world), ahead_of(world, without=first)) == (first, second)
    for exam_id in (first, second):
        ok(world.client("reporter").post(f"/api/exams/{exam_id}/discard"), 204)
    assert [next_of(world), next_of(world)] == [routine, later]


def test_what_he_asked_the_queue_for_is_asked_of_returned_reports_too(world):
    back = rejected(world, name="张三")
    other = make_exam(world, name="李四", due_minutes=5)
    amended(world, name="赵六")
    assert ahead_of(world, q="李四") == other
    assert ahead_of(world, q="张三") == back
    assert ahead_of(world, review=True) is None
    assert ahead_of(world, state=[State.TO_READ.value]) == other
    assert ahead_of(world, state=[State.REJECTED.value]) == back


def test_what_another_hospital_reads_by_now_is_not_offered(world):
    back = amended(world)
    assert ahead_of(world) == back
    with database().writing() as session:
        session.get_one(Exam, back).reading_org_id = world.orgs["H02"].id
    assert ahead_of(world) is None


def test_what_is_written_after_the_signature_is_no_emergency_and_is_passed_one_by_one(world):
    first = amended(world, kind="addendum", priority="emergency")
    second = amended(world, kind="addendum", priority="emergency")
    emergency = make_exam(world, priority="emergency", due_minutes=-5)
    assert ahead_of(world) == emergency
    assert next_of(world, without=first) == emergency
    # Nothing that waits for a reader is left: his own are offered in turn, and not for ever.
    assert [next_of(world), next_of(world, without=first), next_of(world, without=second)] == [first, second, None]


def test_from_one_correction_to_the_next_and_then_to_the_queue(world):
    first, second = amended(world), amended(world)
    urgent = make_exam(world, priority="urgent", due_minutes=-5)
    assert next_of(world) == first
    assert next_of(world, without=first) == second
    assert next_of(world, without=second) == urgent


def handed_in(world, **more):
    """A correction by H01's reporter that waits for a reviewer."""
    exam_id = amended(world, **more)
    author = world.client("reporter")
    version = ok(author.get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    version = write(author, exam_id, "", version["revision"])
    ok(author.post(f"/api/exams/{exam_id}/submit", json={"revision": version["revision"]}))
    return exam_id


def test_a_correction_that_waits_for_review_is_offered_to_who_may_review_it(world):
    first, second = handed_in(world, name="张三"), handed_in(world)
    report, _version = submitted(world, due_minutes=-20)
    emergency = make_exam(world, priority="emergency", due_minutes=200)
    assert ahead_of(world) == emergency
    assert ahead_of(world, "reviewer") == emergency
    assert ahead_of(world, "reviewer", review=False) == emergency
    # Before the queue, the oldest first, and passed one by one.
    reviewer = world.client("reviewer")
    found = ok(reviewer.post("/api/queue/next", json={"review": True}))["next"]
    assert (found["exam_id"], found["lease"], found["state"]) == (first, "", "signed")
    assert '"mode": "amend-review"' in reviewer.get(f"/read/{first}/panel").text
    assert ahead_of(world, "reviewer", review=True, without=first) == second
    assert ahead_of(world, "reviewer", review=True, without=second) == report
    # What he asked the queue for is asked of them too; to its author it is nothing that waits.
    assert ahead_of(world, "reviewer", q="张三") == first
    assert ahead_of(world, "reviewer", state=[State.TO_REVIEW.value]) == report
    assert ahead_of(world, without=emergency) is None
    assert ahead_of(world, "reporter.h02", without=emergency) is None


def test_ones_own_returned_work_comes_before_corrections_of_others(world):
    other = handed_in(world)
    own = make_exam(world)
    reviewer = world.client("reviewer")
    version = write(reviewer, own, lease := claim(reviewer, own))
    ok(reviewer.post(f"/api/exams/{own}/submit", json={"lease": lease, "revision": version["revision"]}))
    ok(reviewer.post(f"/api/exams/{own}/withdraw", json={}))
    ok(reviewer.post(f"/api/exams/{own}/release", json={"lease": claim(reviewer, own)}))
    assert next_of(world, "reviewer") == own
    assert next_of(world, "reviewer", without=own) == other


def test_a_reviewer_reads_no_correction_of_his_own_nor_one_that_his_skills_do_not_cover(world):
    exam_id, _version = signed(world)
    reviewer = world.client("reviewer")
    ok(reviewer.post(f"/api/exams/{exam_id}/amend", json={"kind": "addendum", "reason": "补充测量"}), 201)
    version = ok(reviewer.get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    version = write(reviewer, exam_id, "", version["revision"])
    ok(reviewer.post(f"/api/exams/{exam_id}/submit", json={"revision": version["revision"]}))
    assert ahead_of(world, "reviewer") is None
    other = handed_in(world)
    assert ahead_of(world, "reviewer") == other
    with database().writing() as session:
        rota.set_skills(session, SYSTEM, world.people["reviewer"].id, "DX;US")
    assert ahead_of(world, "reviewer") is None
