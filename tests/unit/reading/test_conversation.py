"""What reader and clinic say to each other about an exam, and what comes of it."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from PIL import Image
from sqlalchemy import func, select

from hub.accounts.roles import Role
from hub.exams import limits
from hub.exams.models import Exam, ExamPause
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid
from hub.kit.live import Change
from hub.reading import kept
from hub.reading import service as reading
from hub.reading.conversation import retakes, thread, words
from hub.reading.conversation.models import RetakeRequest, ThreadEntry
from hub.reading.conversation.voiding import VOIDABLE
from support.reading import cheap_keys, claim, make_exam, ok, sign, signed, state_of, submitted
from support.reading import open_key as open_signing_key


def png(colour: str = "black") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(out, "PNG")
    return out.getvalue()


def put_picture(client: Any, exam_id: str, **more: str) -> str:
    answer = client.post(
        f"/api/exams/{exam_id}/thread/pictures", files={"file": ("a.png", png(), "image/png")}, data=more
    )
    return str(ok(answer, 201)["id"])


def say(client: Any, exam_id: str, text: str, status: int = 201, **more: Any) -> Any:
    return ok(client.post(f"/api/exams/{exam_id}/thread", json={"text": text, **more}), status)


def texts(client: Any, exam_id: str) -> list[str]:
    return [line["text"] for line in ok(client.get(f"/api/exams/{exam_id}/thread"))["lines"]]


def exam_row(exam_id: str) -> Exam:
    with database().reading() as session:
        return session.get_one(Exam, exam_id)


def ask_history(world: Any, exam_id: str, question: str = "有无外伤?", login: str = "reporter") -> None:
    reader = world.client(login)
    lease = claim(reader, exam_id)
    ok(reader.post(f"/api/exams/{exam_id}/request-history", json={"lease": lease, "reason": question}))


def ask_retake(world: Any, exam_id: str, *, login: str = "reporter", **body: Any) -> Any:
    reader = world.client(login)
    lease = claim(reader, exam_id)
    body = {"reasons": ["motion"], "reason": "右肺下野", **body}
    return reader.post(f"/api/exams/{exam_id}/request-retake", json={"lease": lease, **body})


# --- the thread -----------------------------------------------------------------------------------------------------


def test_each_side_reads_the_other_and_sees_when_it_was_read(world):
    exam_id = make_exam(world)
    reader, clinic = world.client("reporter"), world.client("clinician")
    say(reader, exam_id, "右侧有无手术史?")
    assert ok(clinic.get(f"/api/exams/{exam_id}/thread"))["unread"] == 1
    line = ok(reader.get(f"/api/exams/{exam_id}/thread"))["lines"][0]
    assert (line["side"], line["own"], line["read_at"]) == ("reader", True, None)
    assert ok(clinic.post(f"/api/exams/{exam_id}/thread/read"))["read"] == 1
    assert ok(clinic.post(f"/api/exams/{exam_id}/thread/read"))["read"] == 0
    line = ok(reader.get(f"/api/exams/{exam_id}/thread"))["lines"][0]
    assert line["read_at"] and line["read_by"] == world.people["clinician"].name
    say(clinic, exam_id, "没有")
    assert ok(world.client("reviewer").get(f"/api/exams/{exam_id}/thread"))["unread"] == 1
    assert ok(clinic.get(f"/api/exams/{exam_id}/thread"))["unread"] == 0


def test_an_overseer_who_looks_in_reads_nothing_in_anybodys_place(world):
    exam_id = make_exam(world)
    say(world.client("technologist"), exam_id, "请加急")
    assert ok(world.client("director").post(f"/api/exams/{exam_id}/thread/read"))["read"] == 0
    assert ok(world.client("reporter").post(f"/api/exams/{exam_id}/thread/read"))["read"] == 1


def test_a_note_among_readers_is_for_the_readers_of_the_hospital_and_overseers(world):
    exam_id = make_exam(world)
    reader = world.client("reporter")
    say(reader, exam_id, "像是肿瘤,先不写", note=True)
    say(reader, exam_id, "请问病程")
    secret = "像是肿瘤,先不写"
    for login in ("reviewer", "reviewer2", "director", "quality"):
        assert secret in texts(world.client(login), exam_id), login
    for login in ("technologist", "clinician"):
        client = world.client(login)
        assert texts(client, exam_id) == ["请问病程"], login
        for path in (f"/clinic/exams/{exam_id}", f"/clinic/exams/{exam_id}/thread", "/messages", "/clinic"):
            assert secret not in client.get(path).text, path
    assert world.client("technologist").post(
        f"/api/exams/{exam_id}/thread", json={"text": "x", "note": True}
    ).status_code == 403  # fmt: skip
    with database().reading() as session:
        told = [row.orgs for row in session.scalars(select(Change).where(Change.topic == "thread")) if row.data["note"]]
    assert told == [[world.orgs["H01"].id]]


def test_a_reader_of_another_hospital_who_sees_a_prior_sees_no_note(world):
    from support.reading import make_patient

    with database().writing() as session:
        patient = make_patient(session, world)
    here, there = make_exam(world, patient=patient), make_exam(world, patient=patient, reading="H02")
    say(world.client("reporter.h02"), there, "本院内部", note=True)
    say(world.client("reporter.h02"), there, "请问病史")
    reader = world.client("reporter")
    assert reader.get(f"/api/exams/{there}/thread").status_code == 404
    claim(reader, here)
    assert texts(reader, there) == ["请问病史"]
    assert reader.post(f"/api/exams/{there}/thread", json={"text": "x"}).status_code == 403


def test_a_note_stays_with_its_hospital_when_the_exam_goes_to_another(world):
    exam_id = make_exam(world)
    say(world.client("reporter"), exam_id, "只在本院", note=True)
    with database().writing() as session:
        session.get_one(Exam, exam_id).reading_org_id = world.orgs["H02"].id
    assert texts(world.client("reporter.h02"), exam_id) == []
    assert texts(world.client("quality"), exam_id) == ["只在本院"]


@pytest.mark.parametrize("state", State)
def test_in_which_states_there_is_a_thread(world, state):
    exam_id = make_exam(world, state=state)
    answer = world.client("technologist").post(f"/api/exams/{exam_id}/thread", json={"text": "在吗"})
    closed = state in (State.REGISTERED, State.RECEIVING, State.CANCELLED)
    assert answer.status_code == (409 if closed else 201), state


def test_strangers_know_nothing_of_it(world):
    exam_id = make_exam(world)
    for login in ("technologist.c02", "reporter.h02"):
        client = world.client(login)
        assert client.get(f"/api/exams/{exam_id}/thread").status_code == 404
        assert client.post(f"/api/exams/{exam_id}/thread", json={"text": "x"}).status_code == 404
        assert client.post(f"/api/exams/{exam_id}/thread/read").status_code == 404


def test_what_is_sent_twice_is_said_once_and_what_is_wrong_is_told(world):
    exam_id = make_exam(world)
    clinic = world.client("technologist")
    first, second = (say(clinic, exam_id, "好的", key="a" * 36) for _time in range(2))
    assert first["id"] == second["id"]
    assert say(clinic, exam_id, "好的")["id"] != first["id"]
    assert clinic.post(f"/api/exams/{exam_id}/thread", json={"text": "  "}).status_code == 422
    assert clinic.post(f"/api/exams/{exam_id}/thread", json={"text": "长" * 2001}).status_code == 422


def test_pictures_belong_to_their_line(world):
    exam_id, other = make_exam(world), make_exam(world)
    reader, clinic = world.client("reporter"), world.client("technologist")
    mark = put_picture(reader, exam_id, caption="这里", sop_uid="1.2.3")
    url = f"/api/exams/{exam_id}/thread/pictures/{mark}"
    assert reader.get(url).content[:2] == b"\xff\xd8"
    assert clinic.get(url).status_code == 404, "not sent yet"
    assert reader.post(f"/api/exams/{other}/thread", json={"text": "x", "pictures": [mark]}).status_code == 422
    assert clinic.post(f"/api/exams/{exam_id}/thread", json={"text": "x", "pictures": [mark]}).status_code == 422
    say(reader, exam_id, "", pictures=[mark])
    assert clinic.get(url).status_code == 200
    assert clinic.get(url, headers={"If-None-Match": clinic.get(url).headers["etag"]}).status_code == 304
    assert world.client("technologist.c02").get(url).status_code == 404
    assert reader.post(f"/api/exams/{exam_id}/thread", json={"text": "x", "pictures": [mark]}).status_code == 422
    note = put_picture(reader, exam_id)
    say(reader, exam_id, "内部", note=True, pictures=[note])
    assert clinic.get(f"/api/exams/{exam_id}/thread/pictures/{note}").status_code == 404
    bad = {"file": ("a.png", b"no image", "image/png")}
    assert clinic.post(f"/api/exams/{exam_id}/thread/pictures", files=bad).status_code == 422


def test_messages_list_those_of_ones_own_side_unread_first(world):
    mine, other = make_exam(world, name="张三"), make_exam(world, org="C02", reading="H02", name="李四")
    say(world.client("reporter"), mine, "请补充")
    say(world.client("reporter.h02"), other, "别处")
    page = world.client("technologist").get("/messages").text
    assert "张三" in page and "请补充" in page and "李四" not in page
    assert ok(world.client("technologist").post(f"/api/exams/{mine}/thread/read"))["read"] == 1
    assert "请补充" not in world.client("technologist").get("/messages?unread=1").text
    assert "张三" in world.client("director").get("/messages").text


def test_images_that_come_late_are_told_once_for_each_arrival(world):
    exam_id = make_exam(world, state=State.READING, late_images_at=clock.now())
    for _time in range(2):
        with database().writing() as session:
            thread.images_late(session, exam_id)
    lines = ok(world.client("technologist").get(f"/api/exams/{exam_id}/thread"))["lines"]
    assert [(line["kind"], line["side"]) for line in lines] == [("images_late", "hub")]


# --- history --------------------------------------------------------------------------------------------------------


def test_the_clock_stands_still_while_the_clinic_owes_an_answer(world):
    start = clock.now().replace(microsecond=0)
    clock.set_source(lambda: start)
    exam_id = make_exam(world, priority="emergency", waited_minutes=10, due_minutes=20)
    due = exam_row(exam_id).due_at
    assert due == start + timedelta(minutes=20)
    ask_history(world, exam_id)
    clock.set_source(lambda: start + timedelta(minutes=45))
    waiting = exam_row(exam_id)
    assert (waiting.state, waiting.paused_at, waiting.due_at) == ("history_requested", start, due)
    assert not limits.is_overdue(waiting, clock.now())
    row = ok(world.client("reporter").get("/api/queue"))["exams"][0]
    assert not row["overdue"]
    assert ok(world.client("reporter").get("/api/queue", params={"overdue": True}))["exams"] == []
    ok(world.client("technologist").post(f"/api/exams/{exam_id}/answer-history", json={"text": "跌倒"}))
    back = exam_row(exam_id)
    assert (back.state, back.paused_at, back.due_at) == ("to_read", None, due + timedelta(minutes=45))
    with database().reading() as session:
        pause = session.scalars(select(ExamPause).where(ExamPause.exam_id == exam_id)).one()
        assert (pause.began_at, pause.ended_at) == (start, start + timedelta(minutes=45))
        assert limits.due_at(session, session.get_one(Exam, exam_id)) == back.due_at, "counted anew it is the same"


def test_a_county_may_let_the_clock_run_on(world):
    exam_id = make_exam(world)
    with database().writing() as session:
        from hub.sites.models import CountySetting

        session.add(CountySetting(name="limits", value={"pauses": False}, changed_at=clock.now(), changed_by="x"))
    due = exam_row(exam_id).due_at
    ask_history(world, exam_id)
    assert exam_row(exam_id).paused_at is None
    ok(world.client("clinician").post(f"/api/exams/{exam_id}/answer-history", json={"text": "跌倒"}))
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(ExamPause)) == 0
        exam = session.get_one(Exam, exam_id)
        assert exam.due_at == limits.due_at(session, exam) != due + timedelta(hours=9)


def test_an_answer_stands_in_the_thread_and_in_the_history_with_its_author(world):
    exam_id = make_exam(world)
    clinic = world.client("clinician")
    ask_history(world, exam_id, "有无手术史?")
    assert "有无手术史?" in clinic.get(f"/clinic/exams/{exam_id}").text
    photo = put_picture(clinic, exam_id)
    ok(clinic.post(f"/api/exams/{exam_id}/answer-history", json={"text": "2019 年阑尾切除", "pictures": [photo]}))
    assert texts(world.client("reporter"), exam_id) == ["有无手术史?", "2019 年阑尾切除"]
    assert f"{world.people['clinician'].name}] 2019 年阑尾切除" in exam_row(exam_id).history
    asked = ok(world.client("reporter").get(f"/api/exams/{exam_id}/thread"))["lines"][0]
    assert asked["read_at"], "who answers has read the question"
    again = clinic.post(f"/api/exams/{exam_id}/answer-history", json={"text": "再说一次"})
    assert (again.status_code, again.json()["code"]) == (409, "wrong-state")
    assert exam_row(exam_id).history.count("再说一次") == 0


def test_what_was_asked_comes_back_to_who_asked_first(world):
    clock.set_source(lambda start=clock.now(): start)
    exam_id = make_exam(world, due_minutes=5)
    other = make_exam(world, due_minutes=60 * 24 * 30)
    ask_history(world, exam_id, login="reporter")
    reporter, reviewer = world.actor("reporter"), world.actor("reviewer")
    mine = ok(world.client("reporter").get("/api/queue", params={"mine": True}))["exams"]
    assert [row["id"] for row in mine] == [exam_id], "what waits for an answer is among one's own"
    ok(world.client("technologist").post(f"/api/exams/{exam_id}/answer-history", json={"text": "无"}))
    with database().reading() as session:
        assert reading.upcoming(session, reviewer).id == other
        assert reading.upcoming(session, reporter).id == exam_id
        rules = words.load(session)
    later = clock.now() + timedelta(minutes=rules.keep_minutes, seconds=1)
    clock.set_source(lambda: later)
    with database().reading() as session:
        assert reading.upcoming(session, reviewer).id == exam_id
    claim(world.client("reviewer"), exam_id)
    with database().reading() as session:
        assert kept.first_for(session, reporter) == []


def test_anybody_may_open_a_kept_exam_by_hand(world):
    exam_id = make_exam(world)
    ask_history(world, exam_id)
    ok(world.client("technologist").post(f"/api/exams/{exam_id}/answer-history", json={"text": "无"}))
    assert claim(world.client("reviewer"), exam_id)


# --- retakes --------------------------------------------------------------------------------------------------------


def test_a_retake_from_the_mark_to_the_new_exam(world):
    exam_id = make_exam(world, priority="emergency", body_parts=["chest"], modality="DX")
    reader, clinic = world.client("reporter"), world.client("technologist")
    mark = put_picture(reader, exam_id, caption="伪影", sop_uid="1.2.3")
    ok(ask_retake(world, exam_id, reasons=["motion", "underexposed"], pictures=[mark]))
    old = exam_row(exam_id)
    assert (old.state, old.lease_token) == ("retake", None)
    assert old.end_reason == "呼吸/运动伪影、曝光不足;右肺下野"
    page = clinic.get(f"/clinic/exams/{exam_id}").text
    assert "呼吸/运动伪影" in page and f"/thread/pictures/{mark}" in page
    made = ok(clinic.post(f"/api/exams/{exam_id}/retake"), 201)
    assert ok(clinic.post(f"/api/exams/{exam_id}/retake"), 201) == made, "two clicks make one"
    new = exam_row(made["exam_id"])
    assert (new.state, new.retake_of_id, new.patient_id, new.priority) == (
        "registered", exam_id, old.patient_id, "emergency",
    )  # fmt: skip
    assert (new.history, new.body_parts, new.reading_org_id) == (old.history, old.body_parts, old.reading_org_id)
    assert made["accession"] in clinic.get(f"/clinic/exams/{exam_id}").text
    assert old.accession in clinic.get(f"/clinic/exams/{new.id}").text
    assert exam_row(exam_id).state == "retake"
    refused = clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "patient_left"})
    assert (refused.status_code, refused.json()["code"]) == (409, "retake-registered")


def test_a_retake_that_was_cancelled_may_be_registered_again_or_declined(world):
    exam_id = make_exam(world)
    clinic = world.client("technologist")
    ok(ask_retake(world, exam_id))
    first = ok(clinic.post(f"/api/exams/{exam_id}/retake"), 201)["exam_id"]
    ok(clinic.post(f"/api/exams/{first}/cancel", json={"reason": "病人走了"}))
    second = ok(clinic.post(f"/api/exams/{exam_id}/retake"), 201)["exam_id"]
    assert second != first
    ok(clinic.post(f"/api/exams/{second}/cancel", json={"reason": "病人走了"}))
    ok(clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "patient_left"}))
    assert state_of(exam_id) == "to_read"


def test_a_clinic_that_cannot_says_so_and_the_exam_is_read_as_it_is(world):
    start = clock.now().replace(microsecond=0)
    clock.set_source(lambda: start)
    exam_id = make_exam(world, priority="emergency")
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        exam.due_at = due = limits.due_at(session, exam)
    ok(ask_retake(world, exam_id))
    clock.set_source(lambda: start + timedelta(minutes=30))
    clinic = world.client("clinician")
    assert clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "nonsense"}).status_code == 422
    assert clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "other_decline"}).status_code == 422
    ok(clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "patient_left", "note": "电话不通"}))
    exam = exam_row(exam_id)
    assert (exam.state, exam.ended_at, exam.end_reason) == ("to_read", None, "")
    assert exam.due_at == due + timedelta(minutes=30)
    lines = ok(world.client("reporter").get(f"/api/exams/{exam_id}/thread"))["lines"]
    assert [line["kind"] for line in lines] == ["retake_asked", "retake_declined"]
    assert clinic.post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "patient_left"}).status_code == 409
    with database().reading() as session:
        assert reading.upcoming(session, world.actor("reporter")).id == exam_id
    ok(ask_retake(world, exam_id, reasons=["coverage"]))
    with database().reading() as session:
        states = session.scalars(select(RetakeRequest.state).order_by(RetakeRequest.id)).all()
    assert states == ["declined", "open"]


def test_returned_from_review_it_goes_back_to_review(world):
    exam_id, _version = submitted(world)
    ok(ask_retake(world, exam_id, login="reviewer"))
    ok(world.client("technologist").post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "device"}))
    assert state_of(exam_id) == "to_review"
    assert claim(world.client("reviewer"), exam_id)


def test_reasons_are_of_the_list(world):
    exam_id = make_exam(world)
    reader = world.client("reporter")
    lease = claim(reader, exam_id)
    for body in ({"reasons": []}, {"reasons": ["other"]}, {"reasons": ["nonsense"]}):
        answer = reader.post(f"/api/exams/{exam_id}/request-retake", json={"lease": lease, **body})
        assert answer.status_code == 422, body
    assert state_of(exam_id) == "reading"


def test_only_the_clinic_answers(world):
    exam_id = make_exam(world)
    ok(ask_retake(world, exam_id))
    assert world.client("technologist.c02").post(f"/api/exams/{exam_id}/retake").status_code == 404
    stranger = world.client("clinician.c02").post(f"/api/exams/{exam_id}/decline-retake", json={"reason": "device"})
    assert stranger.status_code == 404
    assert world.client("clinician").post(f"/api/exams/{exam_id}/retake").status_code == 403
    assert state_of(exam_id) == "retake"


ROLES = [role.value for role in Role]


@pytest.mark.parametrize("state", retakes.RetakeState)
def test_every_cell_of_a_retakes_request(world, state):
    wanted = {
        ("open", "register"): ("registered", {"technologist"}),
        ("open", "decline"): ("declined", {"technologist", "clinician"}),
        ("open", "close"): ("closed", {"director"}),
        ("registered", "register"): ("registered", {"technologist"}),
        ("registered", "decline"): ("declined", {"technologist", "clinician"}),
    }
    exam_id = make_exam(world, state=State.RETAKE)
    for event in retakes.RetakeEvent:
        for role in ROLES:
            with database().writing() as session:
                row = RetakeRequest(
                    exam_id=exam_id, at=clock.now(), person_id="x", from_state="reading", state=state.value
                )
                session.add(row)
                session.flush()
                actor = Actor(kind="person", id="x", roles=frozenset({role}))
                rule = wanted.get((state.value, event.value))
                try:
                    retakes.move(session, actor, row, event)
                except Conflict as error:
                    assert rule is None and error.code == "answered-already"
                except Forbidden:
                    assert rule is not None and role not in rule[1]
                else:
                    assert rule is not None and role in rule[1] and row.state == rule[0]
                session.delete(row)


def test_of_registering_and_declining_at_once_one_counts(world):
    exam_id = make_exam(world)
    ok(ask_retake(world, exam_id))
    first, second = world.client("technologist"), world.client("clinician")
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.post, f"/api/exams/{exam_id}/retake")
        two = pool.submit(second.post, f"/api/exams/{exam_id}/decline-retake", json={"reason": "patient_left"})
    codes = sorted([one.result().status_code, two.result().status_code])
    assert codes in ([200, 409], [201, 409])
    with database().reading() as session:
        made = session.scalar(select(func.count()).select_from(Exam).where(Exam.retake_of_id == exam_id))
    assert (state_of(exam_id), made) == (("retake", 1) if one.result().status_code == 201 else ("to_read", 0))


def test_two_clicks_register_one_retake_and_answer_once(world):
    exam_id, other = make_exam(world), make_exam(world)
    ok(ask_retake(world, exam_id))
    ask_history(world, other)
    clinics = [world.client("technologist") for _number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda client: client.post(f"/api/exams/{exam_id}/retake"), clinics))
        said = list(pool.map(lambda c: c.post(f"/api/exams/{other}/answer-history", json={"text": "三天"}), clinics))
    assert {answer.json()["exam_id"] for answer in made} == {made[0].json()["exam_id"]}
    assert sorted(answer.status_code for answer in said) == [200, 409, 409]
    assert exam_row(other).history.count("三天") == 1
    with database().reading() as session:
        assert session.scalar(
            select(func.count()).select_from(ThreadEntry).where(ThreadEntry.kind == "retake_registered")
        ) == 1  # fmt: skip


# --- the county's lists ---------------------------------------------------------------------------------------------


def test_the_lists_are_data(world):
    administrator = world.client("administrator")
    value = words.to_json(words.DEFAULTS)
    value["retake"] = [{"code": "tilted", "name": "倾斜", "name_en": "Tilted", "modalities": ["CT"]}]
    ok(administrator.put("/api/conversation/settings", json=value))
    assert "倾斜" in administrator.get("/admin/conversation").text
    exam_id = make_exam(world)
    assert ask_retake(world, exam_id, reasons=["motion"]).status_code == 422
    ok(ask_retake(world, exam_id, reasons=["tilted"], reason=""))
    assert exam_row(exam_id).end_reason == "倾斜"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"retake": []}, "retake"),
        ({"retake": [{"code": "Bad Code", "name": "x"}]}, "retake.0.code"),
        ({"retake": [{"code": "a", "name": ""}]}, "retake.0.name"),
        ({"retake": [{"code": "a", "name": "x", "modalities": ["??"]}]}, "retake.0.modalities"),
        ({"retake": [{"code": "patient_left", "name": "x"}]}, "decline.0.code"),
        ({"keep_minutes": -1}, "keep_minutes"),
        ({"questions": "x"}, "questions"),
    ],
)
def test_what_is_wrong_in_the_lists_is_named(changes, field):
    with pytest.raises(Invalid) as refused:
        words.parse({**words.to_json(words.DEFAULTS), **changes})
    assert field in refused.value.fields


def test_the_defaults_come_back_from_their_setting():
    assert words.parse(words.to_json(words.DEFAULTS)) == words.DEFAULTS
    codes = [one.code for one in (*words.DEFAULTS.retake, *words.DEFAULTS.decline)]
    assert len(codes) == len(set(codes))
    for modality in ("CT", "DX", "MR", "MG", "US"):
        offered = {one.code for one in words.DEFAULTS.retake if one.fits(modality)}
        assert {"positioning", "wrong_part", "other"} <= offered
        assert ("underexposed" in offered) == (modality in ("DX", "MG"))


# --- void -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_from_which_states_an_exam_is_made_void(world, state):
    exam_id = make_exam(world, state=state, lease_person_id="somebody", lease_token="t", lease_until=clock.now())
    answer = world.client("director").post(f"/api/exams/{exam_id}/void", json={"reason": "他人影像"})
    if state not in VOIDABLE:
        assert answer.status_code == 409 and state_of(exam_id) == state
        return
    ok(answer)
    exam = exam_row(exam_id)
    assert (exam.state, exam.end_reason, exam.lease_person_id) == ("void", "他人影像", None)
    assert ok(world.client("technologist").get(f"/api/exams/{exam_id}/thread"))["unread"] == 1
    assert "他人影像" in world.client("technologist").get(f"/clinic/exams/{exam_id}").text
    assert world.client("director").post(f"/api/exams/{exam_id}/void", json={"reason": "再次"}).status_code == 409


def test_void_states_are_all_but_those_without_images_and_the_ends():
    assert set(State) - VOIDABLE == {State.REGISTERED, State.RECEIVING, State.CANCELLED, State.VOID}


def test_who_writes_when_it_is_made_void_loses_no_word(world):
    exam_id = make_exam(world)
    reader = world.client("reporter")
    lease = claim(reader, exam_id)
    assert world.client("director").post(f"/api/exams/{exam_id}/void", json={"reason": " "}).status_code == 422
    body = {"lease": lease, "revision": 0, "findings": "双肺", "impression": "正常", "positive": False}
    version = ok(reader.put(f"/api/exams/{exam_id}/report", json=body))
    ok(world.client("director").post(f"/api/exams/{exam_id}/void", json={"reason": "他人影像"}))
    late = reader.put(
        f"/api/exams/{exam_id}/report", json={**body, "revision": version["revision"], "findings": "双肺清晰"}
    )
    assert (late.status_code, late.json()["code"]) == (409, "lease-lost")
    saved = ok(reader.get(f"/api/reports/{version['version_id']}/saved"))["texts"]
    assert saved[0]["body"]["findings"] == "双肺清晰"


def test_a_signed_report_of_a_void_exam_says_so_everywhere(world, monkeypatch):
    cheap_keys(monkeypatch)
    exam_id, version = signed(world)
    code = ok(world.client("reviewer").get(f"/api/reports/{version['version_id']}"))["verification_code"]
    public = world.anonymous()
    assert ok(public.get(f"/api/verify/{code}"))["verdict"] == "valid"
    ok(world.client("director").post(f"/api/exams/{exam_id}/void", json={"reason": "他人影像"}))
    found = ok(public.get(f"/api/verify/{code}"))
    assert (found["verdict"], found["valid"]) == ("void", False)
    assert "他人影像" in world.client("clinician").get(f"/reports/{version['version_id']}").text
    assert ok(world.client("reviewer").get(f"/api/reports/{version['version_id']}"))["state"] == "signed"
    amend = world.client("reviewer").post(f"/api/exams/{exam_id}/amend", json={"kind": "correction", "reason": "x"})
    assert amend.status_code == 409


# --- passages -------------------------------------------------------------------------------------------------------


def test_marked_passages_reach_the_author_and_are_ticked_off_one_by_one(world, monkeypatch):
    cheap_keys(monkeypatch)
    exam_id, version = submitted(world)
    reviewer, author, clinic = world.client("reviewer"), world.client("reporter"), world.client("technologist")
    lease = claim(reviewer, exam_id)
    start = version["findings"].index("右侧")
    marks = [
        {"field": "findings", "start": start, "end": start + 2, "comment": "应为左侧"},
        {"field": "impression", "start": 0, "end": 2, "comment": ""},
    ]
    body = {"lease": lease, "note": "", "revision": version["revision"]}
    outside = [{"field": "impression", "start": 3, "end": 9999}]
    assert reviewer.post(f"/api/exams/{exam_id}/reject", json={**body, "passages": outside}).status_code == 422
    stale = reviewer.post(f"/api/exams/{exam_id}/reject", json={**body, "revision": 1, "passages": marks})
    assert (stale.status_code, stale.json()["code"]) == (409, "revision-conflict")
    assert state_of(exam_id) == "reviewing"
    ok(reviewer.post(f"/api/exams/{exam_id}/reject", json={**body, "passages": marks}))
    assert state_of(exam_id) == "rejected"
    found = ok(author.get(f"/api/reports/{version['version_id']}/passages"))["passages"]
    assert [(one["quoted"], one["comment"], one["resolved_at"]) for one in found] == [
        ("右侧", "应为左侧", None),
        (version["impression"][:2], "", None),
    ]
    assert clinic.get(f"/api/reports/{version['version_id']}/passages").status_code in (403, 404)
    assert world.client("reporter.h02").get(f"/api/reports/{version['version_id']}/passages").status_code == 404
    done = ok(author.post(f"/api/reports/passages/{found[0]['id']}/resolve"))
    assert done["resolved_by"] == world.people["reporter"].name
    assert ok(reviewer.post(f"/api/reports/passages/{found[0]['id']}/resolve")) == done, "once"
    lease = claim(author, exam_id)
    page = author.get(f"/read/{exam_id}/panel").text
    assert "应为左侧" in page
    text = ok(author.get(f"/api/reports/{version['version_id']}"))
    again = ok(author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": text["revision"]}))
    lease = claim(reviewer, exam_id)
    open_signing_key(reviewer)
    ok(sign(reviewer, again, lease))
    assert author.post(f"/api/reports/passages/{found[1]['id']}/resolve").status_code == 409
