"""Who holds an exam: one at a time, for as long as his page lives, and nobody loses text."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from hub.exams.models import Exam, Transition
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.reading import service
from hub.reports.models import SavedText
from support.reading import claim, make_exam, make_patient, ok, state_of, submitted, write


def later(minutes: float) -> None:
    clock.set_source(lambda: datetime.now(UTC) + timedelta(minutes=minutes))


def lease_until(exam_id: str) -> datetime | None:
    with database().reading() as session:
        return session.get_one(Exam, exam_id).lease_until


def test_opening_takes_the_exam_for_one(world):
    exam_id = make_exam(world)
    first, second = world.client("reporter"), world.client("reviewer")
    lease = claim(first, exam_id)
    refused = second.post(f"/api/exams/{exam_id}/claim")
    assert (refused.status_code, refused.json()["code"]) == (409, "exam-held")
    assert refused.json()["holder"] == world.people["reporter"].name
    assert claim(first, exam_id) == lease
    row = ok(second.get("/api/queue"))["exams"][0]
    assert (row["state"], row["holder"]["name"], row["claimable"]) == ("reading", world.people["reporter"].name, False)


def test_of_many_who_click_in_the_same_instant_one_gets_it(world):
    exam_id = make_exam(world)
    actors = [world.actor(login) for login in ("reporter", "reviewer", "reviewer2")] * 2
    barrier, got, refused = threading.Barrier(len(actors)), [], []

    def click(actor):
        barrier.wait()
        try:
            with database().writing() as session:
                got.append((actor.id, service.claim(session, actor, exam_id).token))
        except Conflict as error:
            refused.append(error.code)

    threads = [threading.Thread(target=click, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 1, "one person, one lease (his second click gives him the same)"
    assert set(refused) <= {"exam-held", "changed-meanwhile"}
    with database().reading() as session:
        assert len(session.scalars(select(Transition).where(Transition.exam_id == exam_id)).all()) == 1


def test_many_who_ask_for_the_next_get_different_exams(world):
    wanted = {make_exam(world) for _n in range(3)}
    got = {
        ok(world.client(login).post("/api/queue/next", json={}))["next"]["exam_id"]
        for login in ("reporter", "reviewer", "reviewer2")
    }
    assert got == wanted
    assert ok(world.client("reporter").post("/api/queue/next", json={"without": ""}))["next"] is None


def test_a_heartbeat_keeps_it_and_silence_loses_it(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    later(8)
    assert ok(client.post(f"/api/exams/{exam_id}/lease", json={"lease": lease}))["held"]
    later(16)
    with database().writing() as session:
        assert service.expire_leases(session) == 0
    later(19)
    with database().writing() as session:
        assert service.expire_leases(session) == 1
    assert state_of(exam_id) == "to_read"
    status = ok(client.post(f"/api/exams/{exam_id}/lease", json={"lease": lease}))
    assert (status["held"], status["state"]) == (False, "to_read")


def test_an_expired_lease_goes_to_the_next_who_asks(world):
    exam_id = make_exam(world)
    lease = claim(world.client("reporter"), exam_id)
    later(11)
    assert claim(world.client("reviewer"), exam_id) != lease


def test_text_of_a_lost_lease_is_kept_beside_the_draft(world):
    exam_id = make_exam(world)
    first, second = world.client("reporter"), world.client("reviewer")
    lease = claim(first, exam_id)
    version = write(first, exam_id, lease)
    later(11)
    other = claim(second, exam_id)
    write(second, exam_id, other, version["revision"], findings="另一位医师的文字")
    body = {"lease": lease, "revision": version["revision"], "findings": "还没有保存的文字", "impression": "…"}
    refused = first.put(f"/api/exams/{exam_id}/report", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "lease-lost")
    with database().reading() as session:
        kept = {text.event: text.body["findings"] for text in session.scalars(select(SavedText))}
    assert kept["lease-lost"] == "还没有保存的文字"
    assert kept["overwritten"] == version["findings"]


def test_a_second_window_does_not_overwrite_unseen(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    first = write(client, exam_id, lease)
    write(client, exam_id, lease, first["revision"], findings="第一个窗口")
    body = {"lease": lease, "revision": first["revision"], "findings": "第二个窗口", "impression": "…"}
    refused = client.put(f"/api/exams/{exam_id}/report", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "revision-conflict")
    assert refused.json()["current"]["findings"] == "第一个窗口"
    texts = ok(client.get(f"/api/reports/{first['version_id']}/saved"))["texts"]
    assert "第二个窗口" in {text["body"]["findings"] for text in texts}


def test_saving_the_same_again_is_no_conflict(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    first = write(client, exam_id, lease)
    again = write(client, exam_id, lease, 0)
    assert again["revision"] == first["revision"]


def test_releasing_leaves_the_draft(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    version = write(client, exam_id, lease)
    ok(client.post(f"/api/exams/{exam_id}/release", json={"lease": lease}))
    assert state_of(exam_id) == "to_read"
    other = world.client("reviewer")
    claim(other, exam_id)
    assert ok(other.get(f"/api/exams/{exam_id}/reports"))["versions"][0]["findings"] == version["findings"]


def test_a_director_breaks_a_lease_with_a_reason(world):
    exam_id = make_exam(world)
    reader, director = world.client("reporter"), world.client("director")
    lease = claim(reader, exam_id)
    assert director.post(f"/api/exams/{exam_id}/take-over", json={"reason": " "}).status_code == 422
    assert ok(director.post(f"/api/exams/{exam_id}/take-over", json={"reason": "电脑故障"}))["next"] is None
    assert state_of(exam_id) == "to_read"
    assert not ok(reader.post(f"/api/exams/{exam_id}/lease", json={"lease": lease}))["held"]
    with database().reading() as session:
        steps = session.scalars(select(Transition).where(Transition.exam_id == exam_id).order_by(Transition.id)).all()
    assert [(step.event, step.reason) for step in steps] == [
        ("claim", ""),
        ("take_over", "电脑故障"),
        ("lease_expires", ""),
    ]


def test_a_colleague_takes_over_only_what_has_lapsed(world):
    exam_id = make_exam(world)
    claim(world.client("reporter"), exam_id)
    other = world.client("reviewer")
    refused = other.post(f"/api/exams/{exam_id}/take-over", json={"reason": "急"})
    assert refused.json()["code"] == "exam-held"
    later(11)
    assert ok(other.post(f"/api/exams/{exam_id}/take-over", json={"reason": "急"}))["next"]["exam_id"] == exam_id


def test_another_hospital_does_not_read_it(world):
    exam_id = make_exam(world, reading="H01")
    stranger = world.client("reviewer.h02")
    assert stranger.post(f"/api/exams/{exam_id}/claim").status_code == 404
    assert ok(stranger.get("/api/queue"))["exams"] == []


def test_a_prior_of_another_hospital_is_seen_but_not_claimed(world):
    with database().writing() as session:
        patient = make_patient(session, world)
    here = make_exam(world, patient=patient)
    there = make_exam(world, patient=patient, reading="H02")
    reader = world.client("reviewer")
    assert reader.get(f"/api/exams/{there}/reports").status_code == 404
    claim(reader, here)
    assert reader.get(f"/api/exams/{there}/reports").status_code == 200
    refused = reader.post(f"/api/exams/{there}/claim")
    assert (refused.status_code, refused.json()["code"]) == (403, "other-hospital")


def test_the_shared_pool_goes_to_who_takes_it_and_comes_back(world):
    from hub.sites.models import Agreement

    with database().writing() as session:
        for row in session.scalars(select(Agreement).where(Agreement.clinic_id == world.orgs["C01"].id)):
            session.delete(row)
    exam_id = make_exam(world, reading=None)
    reader = world.client("reviewer.h02")
    lease = claim(reader, exam_id)
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).reading_org_id == world.orgs["H02"].id
    ok(reader.post(f"/api/exams/{exam_id}/release", json={"lease": lease}))
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).reading_org_id is None
    assert claim(world.client("reporter"), exam_id)


def test_history_is_asked_for_and_answered(world):
    exam_id = make_exam(world)
    reader, clinic = world.client("reporter"), world.client("technologist")
    lease = claim(reader, exam_id)
    ok(reader.post(f"/api/exams/{exam_id}/request-history", json={"lease": lease, "reason": "有无外伤?"}))
    assert state_of(exam_id) == "history_requested"
    assert (
        world.client("technologist.c02").post(f"/api/exams/{exam_id}/answer-history", json={"text": "x"}).status_code
        == 404
    )
    ok(clinic.post(f"/api/exams/{exam_id}/answer-history", json={"text": "三天前摔倒"}))
    assert state_of(exam_id) == "to_read"
    with database().reading() as session:
        assert "三天前摔倒" in session.get_one(Exam, exam_id).history


def test_a_retake_ends_the_exam_with_its_reason(world):
    exam_id = make_exam(world)
    reader = world.client("reporter")
    lease = claim(reader, exam_id)
    ok(reader.post(f"/api/exams/{exam_id}/request-retake", json={"lease": lease, "reason": "呼吸伪影"}))
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        assert (exam.state, exam.end_reason, exam.lease_token) == ("retake", "呼吸伪影", None)


def test_a_reviewers_lease_expires_back_to_review(world):
    exam_id, _version = submitted(world)
    claim(world.client("reviewer"), exam_id)
    later(11)
    with database().writing() as session:
        assert service.expire_leases(session) == 1
    assert state_of(exam_id) == "to_review"


@pytest.mark.parametrize("state", [State.REGISTERED, State.SIGNED, State.CANCELLED, State.HISTORY_REQUESTED])
def test_only_what_waits_can_be_claimed(world, state):
    exam_id = make_exam(world, state=state)
    answer = world.client("reviewer").post(f"/api/exams/{exam_id}/claim")
    assert answer.status_code in (404, 409)
    assert state_of(exam_id) == state


def test_late_images_are_acknowledged_by_the_reader(world):
    exam_id = make_exam(world, late_images_at=clock.now())
    reader = world.client("reporter")
    assert ok(reader.get("/api/queue"))["exams"][0]["late_images_at"]
    lease = claim(reader, exam_id)
    ok(reader.post(f"/api/exams/{exam_id}/late-images-seen", json={"lease": lease}))
    assert ok(reader.get("/api/queue"))["exams"][0]["late_images_at"] is None


@pytest.mark.parametrize("state", [State.SIGNED, State.RETURNED, State.SEEN])
def test_images_that_come_after_the_signature_are_brought_before_a_reader(world, state):
    reader = world.client("reporter")
    assert "签发后来像" not in reader.get("/queue").text
    exam_id = make_exam(world, state=state, late_images_at=clock.now())
    assert "签发后来像" in reader.get("/queue").text
    assert exam_id in reader.get("/queue?view=late").text
    assert 'data-act="late-seen"' in reader.get(f"/read/{exam_id}").text
    stranger = world.client("reporter.h02").post(f"/api/exams/{exam_id}/late-images-seen", json={"lease": ""})
    assert stranger.status_code in (403, 404)
    ok(reader.post(f"/api/exams/{exam_id}/late-images-seen", json={"lease": ""}))
    assert state_of(exam_id) == state
    assert exam_id not in reader.get("/queue?view=late").text
