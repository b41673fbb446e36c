"""A critical value from its flag to its end: both sides sign, nobody else's pages show it, no timer is missed."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import openpyxl
import pypdf
import pytest
from sqlalchemy import func, select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.live import Change
from hub.reports.critical import figures, record, repository
from hub.reports.critical.classes import NATIONAL
from hub.reports.critical.models import CriticalEntry, CriticalValue
from hub.reports.models import ReportVersion
from support.critical import FINDING, READ_BACK, body, events, flagged, later, row_of
from support.reading import TEXT, cheap_keys, claim, make_exam, ok, open_key, sign, signed, submitted, write
from support.world import World
from workers.critical import sweep


def contact(name: str, phone: str, **more: object) -> dict[str, object]:
    return {"name": name, "role": "值班医生", "phone": phone, **more}


def post(client, critical, what, json=None, status=200):
    return ok(client.post(f"/api/critical/{critical['id']}/{what}", json=json or {}), status)


def test_there_are_thirteen_national_classes() -> None:
    assert len({known.code for known in NATIONAL}) == 13
    assert all(known.national for known in NATIONAL)


def test_the_whole_way(world: World) -> None:
    critical = flagged(world)
    assert (critical["state"], critical["national"], critical["finding"]) == ("alarmed", True, FINDING)
    assert critical["flagged_by"] == world.people["reporter"].name
    clinician, reader = world.client("clinician"), world.client("reporter")
    received = post(clinician, critical, "read-back", {"text": READ_BACK})
    assert (received["state"], received["way"], received["received_by"]) == (
        "received", "page", world.people["clinician"].name
    )  # fmt: skip
    assert received["confirmed_at"] is None
    confirmed = post(reader, critical, "confirm")
    assert (confirmed["state"], confirmed["confirmed_by"]) == ("notified", world.people["reporter"].name)
    refused = clinician.post(f"/api/critical/{critical['id']}/close", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "no-action")
    assert post(clinician, critical, "actions", {"action": "patient_reached"}, 201)["state"] == "acting"
    post(world.client("technologist"), critical, "actions", {"action": "emergency_called", "note": "10:20"}, 201)
    assert post(clinician, critical, "close", {"text": "已转县人民医院"})["state"] == "closed"
    assert events(critical["id"]) == ["flag", "read_back", "confirm", "act", "act", "close"]
    with database().reading() as session:
        audited = list(
            session.scalars(
                select(AuditEntry.action).where(AuditEntry.object_id == critical["id"]).order_by(AuditEntry.id)
            )
        )
        assert audited == [f"critical.{event}" for event in events(critical["id"])]
        text = " ".join(str(entry.detail) for entry in session.scalars(select(AuditEntry)))
        assert FINDING not in text and READ_BACK not in text


def test_the_clock_starts_at_the_discovery_which_is_never_in_the_future(world: World) -> None:
    now = datetime.now(UTC)
    clock.set_source(lambda: now)
    critical = flagged(world, minutes_ago=3)
    row = row_of(critical["id"])
    assert row.discovered_at == now - timedelta(minutes=3)
    assert row.escalate_due == now + timedelta(minutes=2)
    assert row.breach_due == now + timedelta(minutes=7)
    reporter = world.client("reporter")
    exam_id = make_exam(world)
    for changes in (
        {"discovered_at": (now + timedelta(seconds=1)).isoformat()},
        {"minutes_ago": -1},
        {"minutes_ago": 600},
        {"discovered_at": "2026-01-01T10:00:00"},
        {"class_code": "flu"},
        {"finding": " "},
    ):
        answer = reporter.post(f"/api/exams/{exam_id}/critical", json=body(**changes))
        assert answer.status_code == 422, changes
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(CriticalValue)) == 1


def test_found_long_ago_it_is_late_at_once(world: World) -> None:
    critical = flagged(world, minutes_ago=12)
    assert critical["state"] == "breached"
    assert events(critical["id"]) == ["flag", "escalate", "breach"]


def test_said_twice_it_is_one_and_another_class_is_another(world: World) -> None:
    exam_id = make_exam(world)
    first = flagged(world, exam_id=exam_id)
    again = flagged(world, exam_id=exam_id, client=world.client("reviewer"), finding="别的话")
    assert again == first
    other = flagged(world, exam_id=exam_id, class_code="herniation")
    assert other["id"] != first["id"]
    assert events(first["id"]) == ["flag"]
    # Once it is over, the same class may be found anew.
    post(world.client("reporter"), first, "withdraw", {"text": "误标"})
    assert flagged(world, exam_id=exam_id)["id"] != first["id"]


def test_who_may_know_it_and_who_may_do_what(world: World) -> None:
    critical = flagged(world)
    path = f"/api/critical/{critical['id']}"
    for login in ("technologist", "clinician", "reporter", "reviewer", "reviewer2", "director", "quality"):
        assert world.client(login).get(path).status_code == 200, login
        assert [row["id"] for row in ok(world.client(login).get("/api/critical"))["criticals"]] == [critical["id"]]
    for login in ("technologist.c02", "clinician.c02", "reporter.h02", "reviewer.h02"):
        client = world.client(login)
        assert client.get(path).status_code == 404, login
        assert client.get(f"/critical/{critical['id']}").status_code == 404, login
        assert ok(client.get("/api/critical"))["criticals"] == []
        assert ok(client.get("/api/critical", params={"all": True}))["criticals"] == []
        assert critical["id"] not in client.get("/critical/bar").text
    assert world.client("clinician.c02").post(f"{path}/read-back", json={"text": READ_BACK}).status_code == 404
    assert world.client("reporter.h02").post(f"{path}/withdraw", json={"text": "误标"}).status_code == 404
    exam = critical["exam_id"]
    assert world.client("reporter.h02").post(f"/api/exams/{exam}/critical", json=body()).status_code == 404
    for login in ("expert", "administrator", "operator"):
        assert world.client(login).get(path).status_code == 403, login
    assert row_of(critical["id"]).state == "alarmed"


def test_nobody_answers(world: World) -> None:
    administrator = world.client("administrator")
    for org, people in (
        ("C01", [contact("李医生", "13807970001"), contact("周医生", "13807970002")]),
        ("H01", [contact("陈主任", "13807970003")]),
        ("HUB", [contact("总值班", "13807970004")]),
    ):
        ok(administrator.put(f"/api/critical/contacts/{world.orgs[org].id}", json={"contacts": people}))
    critical = flagged(world)
    sweep()
    assert events(critical["id"]) == ["flag"]
    with later(5.1):
        sweep()
        sweep()
        assert row_of(critical["id"]).state == "escalated"
    with later(10.1):
        for _worker in range(3):
            sweep()
    assert events(critical["id"]) == ["flag", "escalate", "breach"]
    row = row_of(critical["id"])
    assert (row.state, row.escalated_at is not None, row.breached_at is not None) == ("breached", True, True)
    with database().reading() as session:
        rung = [
            [one["name"] for one in entry.detail["contacts"]]
            for entry in session.scalars(select(CriticalEntry).order_by(CriticalEntry.id))
        ]
        assert rung == [["李医生"], ["周医生"], ["陈主任", "总值班"]]
        told = session.scalars(select(Change).where(Change.topic == "critical").order_by(Change.id))
        assert [change.data["event"] for change in told] == ["flag", "escalate", "breach"]


def test_a_worker_that_was_dead_for_an_hour_records_what_was_due(world: World) -> None:
    critical = flagged(world)
    row = row_of(critical["id"])
    with later(61) as at:
        # The pages count by themselves meanwhile.
        assert 'data-level="breach"' in world.client("reporter").get("/critical/bar").text
        assert row_of(critical["id"]).state == "alarmed"
        sweep()
    found = row_of(critical["id"])
    assert (found.escalated_at, found.breached_at, found.state) == (at, at, "breached")
    with database().reading() as session:
        entries = repository.entries(session, critical["id"])
        assert [entry.event for entry in entries] == ["flag", "escalate", "breach"]
        assert [datetime.fromisoformat(entry.detail["due"]) for entry in entries[1:]] == [
            row.escalate_due, row.breach_due
        ]  # fmt: skip


def test_an_answer_while_the_worker_is_dead_is_not_taken_for_one_in_time(world: World) -> None:
    critical = flagged(world)
    with later(12):
        post(world.client("clinician"), critical, "read-back", {"text": READ_BACK})
    assert events(critical["id"]) == ["flag", "escalate", "breach", "read_back"]


def test_read_back_in_time_and_never_compared_is_a_breach_and_no_second_contact(world: World) -> None:
    critical = flagged(world)
    with later(2):
        post(world.client("clinician"), critical, "read-back", {"text": READ_BACK})
    with later(7):
        sweep()
        assert events(critical["id"]) == ["flag", "read_back"]
    with later(11):
        sweep()
        sweep()
        assert row_of(critical["id"]).state == "received"
        post(world.client("reporter"), critical, "confirm")
    assert events(critical["id"]) == ["flag", "read_back", "breach", "confirm"]


def test_a_read_back_that_does_not_match_rings_again_where_its_clock_is(world: World) -> None:
    critical = flagged(world)
    clinician, reader = world.client("clinician"), world.client("reporter")
    with later(2):
        post(clinician, critical, "read-back", {"text": "左侧脑出血"})
        assert reader.post(f"/api/critical/{critical['id']}/ask-again", json={"text": ""}).status_code == 422
        again = post(reader, critical, "ask-again", {"text": "侧别不对,是右侧"})
        assert (again["state"], again["read_back"], again["received_at"]) == ("alarmed", "", None)
    with later(4):
        post(clinician, critical, "read-back", {"text": "左侧脑出血"})
    with later(6):
        # Past five minutes the second contact's turn is now.
        assert post(reader, critical, "ask-again", {"text": "右侧"})["state"] == "escalated"
        post(clinician, critical, "read-back", {"text": READ_BACK})
        assert post(reader, critical, "confirm")["state"] == "notified"
    assert events(critical["id"]) == [
        "flag", "read_back", "ask_again", "read_back", "ask_again", "escalate", "read_back", "confirm"
    ]  # fmt: skip
    detail = ok(reader.get(f"/api/critical/{critical['id']}"))
    assert detail["entries"][2]["detail"]["read_back"] == "左侧脑出血"


def test_a_call_acknowledges_nothing_a_read_back_on_the_phone_does_and_says_so(world: World) -> None:
    critical = flagged(world)
    reader = world.client("reporter")
    call = {"whom": "doctor", "name": "李建国", "number": "13807970000", "result": "answered"}
    assert post(reader, critical, "calls", call, 201)["state"] == "alarmed"
    assert reader.post(f"/api/critical/{critical['id']}/calls", json={**call, "result": "fine"}).status_code == 422
    for missing in ({"receiver": "王芳"}, {"read_back": READ_BACK}):
        assert reader.post(f"/api/critical/{critical['id']}/phone", json=missing).status_code == 422
    done = post(reader, critical, "phone", {"receiver": "王芳", "role": "护士", "read_back": READ_BACK})
    assert (done["state"], done["way"], done["received_by"]) == ("notified", "phone", "王芳")
    row = row_of(critical["id"])
    assert row.received_by is None and row.confirmed_by == world.people["reporter"].id
    # The clinic tells on the phone what it did; the record says that it was told.
    post(reader, critical, "actions", {"action": "hospital_told", "note": "县人民医院急诊"}, 201)
    entry = ok(reader.get(f"/api/critical/{critical['id']}"))["entries"][-1]
    assert entry["detail"] == {"action": "hospital_told", "heard": True}


def test_a_reader_does_not_receive_for_the_clinic_nor_the_clinic_confirm(world: World) -> None:
    critical = flagged(world)
    reader, clinician = world.client("reporter"), world.client("clinician")
    assert reader.post(f"/api/critical/{critical['id']}/read-back", json={"text": READ_BACK}).status_code == 403
    post(clinician, critical, "read-back", {"text": READ_BACK})
    assert clinician.post(f"/api/critical/{critical['id']}/confirm").status_code == 403
    taken = world.client("technologist").post(f"/api/critical/{critical['id']}/read-back", json={"text": READ_BACK})
    assert (taken.status_code, taken.json()["code"]) == (409, "already-received")
    assert world.people["clinician"].name in taken.text
    # Sent twice by the same hand, it is one.
    post(clinician, critical, "read-back", {"text": READ_BACK})
    assert events(critical["id"]) == ["flag", "read_back"]


def test_withdrawn_with_a_reason_the_clinic_is_told_until_it_has_seen(world: World) -> None:
    exam_id = make_exam(world)
    reader = world.client("reporter")
    lease = claim(reader, exam_id)
    version = write(reader, exam_id, lease, critical=False)
    critical = flagged(world, exam_id=exam_id)
    with database().reading() as session:
        assert session.get_one(ReportVersion, version["version_id"]).critical
        assert session.get_one(Exam, exam_id).critical
    # A box in a draft does not take it back.
    saved = write(reader, exam_id, lease, revision=version["revision"], critical=False, impression="脑出血")
    assert saved["critical"]
    assert reader.post(f"/api/critical/{critical['id']}/withdraw", json={"text": " "}).status_code == 422
    post(reader, critical, "withdraw", {"text": "复核为钙化"})
    with database().reading() as session:
        assert not session.get_one(ReportVersion, version["version_id"]).critical
        assert not session.get_one(Exam, exam_id).critical
    clinician = world.client("clinician")
    assert critical["id"] in clinician.get("/critical/bar").text
    assert critical["id"] not in reader.get("/critical/bar").text
    post(clinician, critical, "withdrawal-seen")
    post(clinician, critical, "withdrawal-seen")
    assert critical["id"] not in clinician.get("/critical/bar").text
    assert events(critical["id"]) == ["flag", "withdraw", "see_withdrawal"]
    assert ok(clinician.get(f"/api/critical/{critical['id']}"))["withdraw_reason"] == "复核为钙化"


def test_it_stays_on_every_page_of_those_concerned_until_it_is_closed(world: World) -> None:
    critical = flagged(world)
    pages = {
        "clinician": ("/clinic/inbox", "/account"),
        "technologist": ("/clinic", "/clinic/register"),
        "reporter": ("/queue",),
        "reviewer2": ("/queue",),
        "director": ("/turnaround",),
    }
    for login, addresses in pages.items():
        client = world.client(login)
        for address in addresses:
            text = client.get(address).text
            assert f'data-critical-item="{critical["id"]}"' in text, (login, address)
    for login, address in (("clinician.c02", "/clinic"), ("reporter.h02", "/queue"), ("administrator", "/turnaround")):
        assert critical["id"] not in world.client(login).get(address).text
    reader = world.client("reporter")
    post(reader, critical, "phone", {"receiver": "王芳", "read_back": READ_BACK})
    assert critical["id"] in world.client("clinician").get("/clinic").text
    post(reader, critical, "actions", {"action": "treated"}, 201)
    post(reader, critical, "close")
    assert critical["id"] not in world.client("clinician").get("/clinic").text


def test_it_rings_for_whom_it_waits(world: World) -> None:
    critical = flagged(world)
    rings = "data-rings"

    def bar(login: str) -> str:
        return world.client(login).get("/critical/bar").text

    assert rings in bar("clinician")
    assert rings not in bar("reporter")
    with later(6):
        assert rings in bar("reporter") and rings in bar("director")
    post(world.client("clinician"), critical, "read-back", {"text": READ_BACK})
    assert rings not in bar("clinician")
    assert rings in bar("reporter")


def test_contacts_in_their_order_and_hours(world: World) -> None:
    clinic = world.orgs["C01"].id
    technologist = world.client("technologist")
    path = f"/api/critical/contacts/{clinic}"
    night = contact("夜班", "13800000001", begins="18:00", ends="08:00")
    day = contact("白班", "13800000002", begins="08:00", ends="18:00", days=[0, 1, 2, 3, 4])
    ok(technologist.put(path, json={"contacts": [day, night, contact("院长", "13800000003")]}))
    assert [row["name"] for row in ok(technologist.get(path))["contacts"]] == ["白班", "夜班", "院长"]
    for bad in (
        {"phone": "abc"},
        {"name": ""},
        {"begins": "25:00", "ends": "08:00"},
        {"begins": "08:00"},
        {"days": [9]},
    ):
        answer = technologist.put(path, json={"contacts": [{**contact("甲", "13800000001"), **bad}]})
        assert answer.status_code == 422, bad
        assert any(name.startswith("contacts.0.") for name in answer.json()["fields"]), bad
    assert technologist.put(f"/api/critical/contacts/{world.orgs['C02'].id}", json={"contacts": []}).status_code == 404
    assert technologist.put(f"/api/critical/contacts/{world.orgs['H01'].id}", json={"contacts": []}).status_code == 404
    assert world.client("reporter").get(path).status_code == 403

    def first(at: str) -> str:
        moment = datetime.fromisoformat(at)
        with database().reading() as session:
            from hub.reports.critical import contacts

            return contacts.clinic_contacts(session, clinic, moment)[0].name

    # 2026-11-23 is a Monday; the county's clock is eight hours ahead of UTC.
    assert first("2026-11-23T02:00+00:00") == "白班"
    assert first("2026-11-23T12:00+00:00") == "夜班"
    assert first("2026-11-23T23:30+00:00") == "夜班"
    assert first("2026-11-22T02:00+00:00") == "院长"


def test_the_countys_own_classes_are_counted_apart(world: World) -> None:
    administrator = world.client("administrator")
    rules = {"additions": [{"code": "hydrocephalus", "name": "急性脑积水", "name_en": "Acute hydrocephalus"}]}
    ok(administrator.put("/api/critical/rules", json=rules))
    for bad in (
        {"additions": [{"code": "aortic", "name": "重复"}]},
        {"additions": [{"code": "x y", "name": "甲"}]},
        {"escalate_minutes": 10, "breach_minutes": 5},
        {"breach_minutes": 30},
    ):
        assert administrator.put("/api/critical/rules", json=bad).status_code == 422, bad
    listed = ok(world.client("reporter").get("/api/critical/classes"))["classes"]
    assert [known["national"] for known in listed].count(True) == 13
    assert flagged(world, class_code="hydrocephalus")["class_name"] == "急性脑积水"
    with database().reading() as session:
        found = counted(session)
        assert (found.national.share, found.county.share, found.open) == (None, None, 1)


def counted(session, **more):
    now = datetime.now(UTC)
    return figures.figures(session, now - timedelta(days=1), now + timedelta(days=1), **more).total


def test_the_indicator(world: World) -> None:
    reader = world.client("reporter")
    in_time = flagged(world)
    post(reader, in_time, "phone", {"receiver": "王芳", "read_back": READ_BACK})
    late = flagged(world, minutes_ago=11)
    post(reader, late, "phone", {"receiver": "王芳", "read_back": READ_BACK})
    flagged(world)
    wrong = flagged(world, minutes_ago=12)
    post(reader, wrong, "withdraw", {"text": "误标"})
    with database().reading() as session:
        found = counted(session)
        assert (found.national.done, found.national.of, found.open) == (1, 2, 1)
        assert (found.county.share, found.withdrawn, found.withdrawn_late) == (None, 1, 1)
        assert counted(session, clinic=world.orgs["C02"].id).national.share is None
    with later(20), database().reading() as session:
        # Nobody answered the third: over the limit it is due, and not done.
        assert (counted(session).national.done, counted(session).national.of) == (1, 3)


@pytest.fixture
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_keys(monkeypatch)


@pytest.mark.usefixtures("_cheap")
def test_no_report_leaves_marked_without_an_alarm(world: World) -> None:
    exam_id, _version = signed(world)
    with database().reading() as session:
        row = session.scalars(select(CriticalValue).where(CriticalValue.exam_id == exam_id)).one()
        assert (row.class_code, row.national, row.finding) == ("unclassified", False, TEXT["impression"])
        assert row.flagged_by == world.people["reviewer"].id
    assert row.id in world.client("clinician").get("/clinic").text


@pytest.mark.usefixtures("_cheap")
def test_flagged_before_signing_it_is_one_procedure_and_the_report_says_who_was_told(world: World) -> None:
    exam_id, version = submitted(world, **{})
    critical = flagged(world, exam_id=exam_id)
    with database().reading() as session:
        said = [str(line) for line in record.lines(session, exam_id)]
    assert len(said) == 1 and "尚未确认接收" in said[0]
    post(world.client("clinician"), critical, "read-back", {"text": READ_BACK})
    post(world.client("reporter"), critical, "confirm")
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(CriticalValue)) == 1
        said = [str(line) for line in record.lines(session, exam_id)]
    assert world.people["clinician"].name in said[0] and "核对复述一致" in said[0]
    # After signing it is still found: the clinic is alarmed, the signed report stays as it is.
    after = flagged(world, exam_id=exam_id, class_code="herniation")
    assert after["state"] == "alarmed"


def test_two_words_of_the_sweep_leave_the_answered_alone(world: World) -> None:
    critical = flagged(world)
    post(world.client("reporter"), critical, "phone", {"receiver": "王芳", "read_back": READ_BACK})
    with later(30):
        sweep()
    assert events(critical["id"]) == ["flag", "phone"]


def test_found_again_by_name_accession_and_class(world: World) -> None:
    critical = flagged(world)
    flagged(world, exam_id=make_exam(world, name="李娜"), class_code="aortic")
    client = world.client("clinician")

    def found(**query: str) -> list[str]:
        return [row["id"] for row in ok(client.get("/api/critical", params=query))["criticals"]]

    assert found(q="王伟") == [critical["id"]]
    assert found(q=critical["accession"]) == [critical["id"]]
    assert found(class_code="cerebral_haemorrhage") == [critical["id"]]
    assert len(found(all="true")) == 2
    page = client.get("/critical", params={"q": "ww", "from": "2020-01-01"}).text
    assert FINDING in page


def test_the_indicator_in_turnaround_and_its_exports(world: World) -> None:
    reader = world.client("reporter")
    done = flagged(world)
    post(reader, done, "phone", {"receiver": "王芳", "read_back": READ_BACK})
    administrator = world.client("administrator")
    found = ok(administrator.get("/api/turnaround/critical"))
    assert found["total"]["national"] == {"done": 1, "of": 1, "share": 1.0}
    assert found["total"]["county"] == {"done": 0, "of": 0, "share": None}
    assert [group["key"] for group in found["groups"]] == [world.orgs["C01"].id]
    hospital = ok(administrator.get("/api/turnaround/critical", params={"by": "hospital"}))
    assert [group["key"] for group in hospital["groups"]] == [world.orgs["H01"].id]
    empty = ok(administrator.get("/api/turnaround/critical", params={"from": "2020-01-01", "to": "2020-01-02"}))
    assert empty["total"]["national"]["share"] is None
    lines = administrator.get("/api/turnaround/critical.csv").content.decode("utf-8-sig").splitlines()
    assert lines[1].split(",")[1:4] == ["1", "1", "1.0"]
    assert lines[1].split(",")[4:7] == ["0", "0", ""], "an empty denominator is no data"
    page = administrator.get("/turnaround/critical").text
    assert "100.0%" in page and "无数据" in page and FINDING not in page
    book = openpyxl.load_workbook(io.BytesIO(administrator.get("/api/turnaround/export.xlsx").content))
    assert "危急值" in book.sheetnames


@pytest.mark.usefixtures("_cheap")
def test_the_printed_report_says_who_was_told_and_who_not_yet(world: World) -> None:
    exam_id, version = submitted(world)
    told = flagged(world, exam_id=exam_id)
    post(world.client("reporter"), told, "phone", {"receiver": "赵护士", "read_back": READ_BACK})
    flagged(world, exam_id=exam_id, class_code="herniation")
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    pdf = reviewer.get(f"/api/reports/{version['version_id']}/pdf").content
    text = "".join(page.extract_text() for page in pypdf.PdfReader(io.BytesIO(pdf)).pages).replace("\n", "")
    assert "危急值通知(截至签发时)" in text
    assert "赵护士接收(电话复述,由报告方记录)" in text
    assert "脑疝" in text and "卫生院尚未确认接收" in text
