"""A changed conclusion that no clinic acknowledges: second contact, duty officer, and the board; by rows and not sleeps."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.kit.live import Change
from hub.kit.settings import get_settings
from hub.reports.critical import messages
from hub.reports.critical.classes import parse, to_json
from hub.reports.critical.models import CriticalContact
from hub.reports.review import alarms
from hub.reports.review.models import ConclusionChange, ConclusionMessage
from support.reading import TEXT, cheap_keys, claim, make_exam, ok, open_key, write
from support.review import NIGHT, issue, set_policy
from workers import review as worker

OTHER = {**TEXT, "findings": "右侧基底节区见点状钙化。", "impression": "右侧基底节区钙化灶。", "critical": False}


@pytest.fixture(autouse=True)
def _still(monkeypatch):
    cheap_keys(monkeypatch)
    monkeypatch.setattr(messages, "post", lambda *_a: 200)
    start = clock.now()
    clock.set_source(lambda: start)
    yield
    clock.set_source(None)


def later(minutes):
    moment = clock.now() + timedelta(minutes=minutes)
    clock.set_source(lambda: moment)


def contact(world, code, position, name, phone):
    with database().writing() as session:
        session.add(
            CriticalContact(
                org_id=world.orgs[code].id, position=position, name=name, phone=phone, changed_at=clock.now()
            )
        )


def changed(world):
    """The id of a changed conclusion; the clinic has two contacts, hospital and county a duty officer."""
    for code, position, name, phone in (
        ("C01", 1, "刘医生", "111111"), ("C01", 2, "陈院长", "222222"),
        ("H01", 1, "医院总值班", "333333"), ("HUB", 1, "县值班", "444444"),
    ):  # fmt: skip
        contact(world, code, position, name, phone)
    set_policy(world, **NIGHT)
    exam_id = make_exam(world, priority="emergency")
    author, reviewer = world.client("reporter"), world.client("reviewer")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    open_key(author)
    ok(issue(author, version, lease))
    open_key(reviewer)
    lease = claim(reviewer, exam_id)
    version = write(reviewer, exam_id, lease, version["revision"], **OTHER)
    body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
    said = {"conclusion_changed": True, "conclusion_note": "不是出血,是钙化"}
    ok(reviewer.post(f"/api/reports/{version['version_id']}/sign", json={**body, "review": said}))
    (change,) = ok(world.client("clinician").get("/api/conclusion-changes"))["changes"]
    return change["id"]


def row(change_id):
    with database().reading() as session:
        return session.get_one(ConclusionChange, change_id)


def rung(change_id):
    return [(line["level"], [one["name"] for one in line["contacts"]]) for line in row(change_id).rung]


def test_second_contact_then_duty_officer_each_once(world):
    change = changed(world)
    opened = row(change).opened_at
    assert (row(change).escalate_due, row(change).breach_due) == (
        opened + timedelta(minutes=15), opened + timedelta(minutes=30),
    )  # fmt: skip
    assert rung(change) == [("alarm", ["刘医生"])]
    later(14)
    worker.sweep_conclusions()
    assert row(change).state == "open"
    later(1)
    worker.sweep_conclusions()
    worker.sweep_conclusions()
    assert (row(change).state, row(change).escalated_at) == ("escalated", opened + timedelta(minutes=15))
    assert rung(change)[1:] == [("escalate", ["陈院长"])]
    later(15)
    worker.sweep_conclusions()
    worker.sweep_conclusions()
    assert row(change).state == "breached"
    assert rung(change)[2:] == [("breach", ["医院总值班", "县值班"])]
    with database().reading() as session:
        deeds = session.scalars(
            select(AuditEntry.action).where(AuditEntry.object_id == change).order_by(AuditEntry.id)
        ).all()
        heard = session.scalars(select(Change).where(Change.ref == change).order_by(Change.id)).all()
    assert [deed for deed in deeds if "conclusion" in deed] == [
        "report.conclusion_changed", "report.conclusion_escalated", "report.conclusion_breached",
    ]  # fmt: skip
    assert [one.data["event"] for one in heard] == ["open", "escalate", "breach"]
    assert all({world.orgs["C01"].id, world.orgs["H01"].id} <= set(one.orgs) for one in heard)


def test_a_dead_worker_leaves_no_hole(world):
    change = changed(world)
    due = row(change).escalate_due
    later(90)
    with database().reading() as session:
        assert alarms.due(session, clock.now()) == [change]
    worker.sweep_conclusions()
    found = row(change)
    assert (found.state, found.escalated_at, found.breached_at) == ("breached", clock.now(), clock.now())
    assert found.rung[1]["due"] == due.isoformat() and found.rung[1]["at"] == clock.now().isoformat()


def test_an_acknowledgement_ends_it_and_says_how_late_it_was(world):
    change = changed(world)
    clinic = world.client("clinician")
    later(20)
    # No worker has looked: the record has the second contact all the same.
    done = ok(clinic.post(f"/api/conclusion-changes/{change}/acknowledge", json={"note": "已通知"}))
    assert (done["state"], done["escalated_at"] is not None, done["breached_at"]) == ("acknowledged", True, None)
    later(60)
    worker.sweep_conclusions()
    assert row(change).state == "acknowledged"
    assert [level for level, _people in rung(change)] == ["alarm", "escalate"]


def test_a_breached_one_is_still_the_clinics_to_acknowledge(world):
    change = changed(world)
    later(60)
    worker.sweep_conclusions()
    clinic = world.client("clinician")
    assert [one["state"] for one in ok(clinic.get("/api/conclusion-changes"))["changes"]] == ["breached"]
    assert "不是出血,是钙化" in clinic.get("/clinic").text
    assert f'data-acknowledge="{change}"' in clinic.get(f"/reports/{row(change).version_id}").text
    assert ok(clinic.post(f"/api/conclusion-changes/{change}/acknowledge", json={}))["state"] == "acknowledged"
    assert "不是出血" not in clinic.get("/review/bar").text


def test_the_board_shows_whom_to_ring_also_while_no_worker_is_alive(world):
    change = changed(world)
    reader, director, clinic = world.client("reviewer"), world.client("director"), world.client("clinician")
    stranger = world.client("reviewer.h02")
    page = reader.get("/critical").text
    assert f'data-conclusion="{change}"' in page and "111111" in page and "待确认" in page
    # Before the second contact's turn it is on the board alone.
    assert "不是出血" not in reader.get("/review/bar").text
    later(16)
    for client in (reader, director):
        page = client.get("/critical").text
        assert "已升级第二联系人" in page and "222222" in page
        assert "222222" in client.get("/review/bar").text
        assert "222222" in client.get("/alerts").text, "it stands on every page"
    assert "222222" not in clinic.get("/critical").text
    assert 'data-level="escalate"' in clinic.get("/critical").text
    later(15)
    worker.sweep_conclusions()
    page = reader.get("/critical").text
    assert "超时未确认" in page and "333333" in page
    assert "通知第二联系人 · 陈院长 222222" in page
    page = clinic.get("/critical").text
    assert "通知第二联系人" in page and "222222" not in page, "who does not ring is shown nobody's number"
    for client in (stranger, world.client("clinician.c02")):
        assert change not in client.get("/critical").text
        assert "不是出血" not in client.get("/review/bar").text
    reader.cookies.set("hub_locale", "en")
    assert "the duty officer rings the clinic" in reader.get("/critical").text
    ok(clinic.post(f"/api/conclusion-changes/{change}/acknowledge", json={}))
    assert change not in director.get("/critical").text


def test_the_gateway_hears_of_each_level_without_clinical_words_and_not_after_the_answer(world, monkeypatch):
    monkeypatch.setattr(get_settings(), "critical_webhook_url", "https://gateway.example/")
    sent = []
    monkeypatch.setattr(messages, "post", lambda _settings, _id, body: sent.append(body) or 200)
    change = changed(world)
    later(16)
    worker.sweep_conclusions()
    with database().reading() as session:
        rows = session.scalars(select(ConclusionMessage).order_by(ConclusionMessage.queued_at)).all()
        jobs = session.scalars(select(Job).where(Job.kind == alarms.JOB)).all()
    assert [(one.level, one.body["contacts"][0]["phone"]) for one in rows] == [
        ("alarm", "111111"), ("escalate", "222222"),
    ]  # fmt: skip
    assert {job.payload["message_id"] for job in jobs} == {one.id for one in rows}
    worker.send_conclusion_message({"message_id": rows[0].id})
    worker.send_conclusion_message({"message_id": rows[0].id})
    assert [body["event"] for body in sent] == ["conclusion.alarm"]
    text = json.dumps(sent, ensure_ascii=False)
    assert "钙化" not in text and "王伟" not in text
    ok(world.client("clinician").post(f"/api/conclusion-changes/{change}/acknowledge", json={}))
    worker.send_conclusion_message({"message_id": rows[1].id})
    assert len(sent) == 1
    with database().reading() as session:
        assert session.get_one(ConclusionMessage, rows[1].id).state == "skipped"


def test_the_minutes_are_the_countys(world):
    director = world.client("director")
    ok(director.put("/api/critical/rules", json={"change_escalate_minutes": 3, "change_breach_minutes": 7}))
    page = director.get("/critical/rules").text
    assert 'name="change_escalate_minutes"' in page and 'value="7"' in page
    found = row(changed(world))
    assert found.escalate_due - found.opened_at == timedelta(minutes=3)
    assert found.breach_due - found.opened_at == timedelta(minutes=7)
    kept = ok(director.put("/api/critical/rules", json={"escalate_minutes": 4}))
    assert (kept["escalate_minutes"], kept["change_escalate_minutes"], kept["change_breach_minutes"]) == (4, 3, 7)
    wrong = {"change_escalate_minutes": 9, "change_breach_minutes": 7}
    refused = director.put("/api/critical/rules", json=wrong)
    assert (refused.status_code, list(refused.json()["fields"])) == (422, ["change_escalate_minutes"])
    refused = director.put("/api/critical/rules", json={"change_breach_minutes": 1441})
    assert list(refused.json()["fields"]) == ["change_breach_minutes"]
    # A setting of before has none of its own.
    assert parse(to_json(parse({"escalate_minutes": 4}))).change_breach_minutes == 30
