"""Pages, API, exports and settings of turnaround, through the application."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import openpyxl
import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams import calendar, limits
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.cells import safe
from hub.kit.db import database
from hub.sites.models import CountySetting, Organisation
from support.exam_population import NAME, a_patient, add_exam, add_transition, populate
from support.world import World

PAGES = [
    "/turnaround",
    "/turnaround?by=author&from=2026-01-01&to=2026-02-01",
    "/turnaround/board",
    "/turnaround/waits",
    "/turnaround/exams",
    "/turnaround/exams?stage=wait&late=late&class=ct_outpatient&hospital=none",
    "/turnaround/settings",
]
DATA = [
    "/api/turnaround/today",
    "/api/turnaround/summary",
    "/api/turnaround/exams?size=500",
    "/api/turnaround/waits",
    "/api/turnaround/export.csv",
    "/api/turnaround/export.csv?what=summary&by=reviewer",
]


def filled(world: World, exams: int = 60) -> str:
    """A county with exams whose history and reasons must not be seen; gives the id of one."""
    with database().writing() as session:
        populate(session, world, exams=exams, days=5)
        exam = add_exam(
            session,
            world,
            a_patient(session, world),
            clock.now() - timedelta(hours=3),
            minutes={"received_at": 10, "reading_at": 20},
            history="机密病史",
            exam_at_source="registration",
        )
        add_transition(session, exam, clock.now(), "request_history", "reading", "history_requested", reason="机密理由")
        return exam.id


@pytest.mark.parametrize("locale", ["zh", "en"])
@pytest.mark.parametrize("login", ["administrator", "director", "quality"])
def test_every_page_opens_and_names_no_patient(world: World, login: str, locale: str) -> None:
    exam_id = filled(world)
    client = world.client(login)
    client.cookies.set("hub_locale", locale)
    for url in [*PAGES, *DATA, f"/turnaround/exams/{exam_id}"]:
        answer = client.get(url)
        if login == "quality" and url == "/turnaround/settings":
            assert answer.status_code == 403
            continue
        assert answer.status_code == 200, (url, answer.text[:500])
        assert NAME not in answer.text
        assert "机密病史" not in answer.text
    detail = client.get(f"/turnaround/exams/{exam_id}").text
    # Reasons are people's own words and may speak of the patient.
    assert ("机密理由" in detail) == (login != "administrator")
    assert (f"/clinic/exams/{exam_id}" in detail) == (login != "administrator")
    assert ("已替换" if locale == "zh" else "replaced") in detail


def test_pages_of_an_empty_county(world: World) -> None:
    client = world.client("administrator")
    for url in [*PAGES, *DATA, "/api/turnaround/export.xlsx"]:
        assert client.get(url).status_code == 200, url
    assert "无数据" in client.get("/turnaround").text
    assert client.get("/api/turnaround/summary").json()["total"]["stages"]["report"]["share"] is None


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-02-02&to=2026-02-01",
        "from=2000-01-01&to=2026-02-01",
        "from=0001-01-01&to=0001-01-02",
        "to=9999-12-31",
        "stage=lunch",
        "late=never",
        "class=lunch",
        "day=2026-02-30",
    ],
)
def test_an_address_that_says_nonsense_is_refused(world: World, query: str) -> None:
    client = world.client("administrator")
    for path in ("/api/turnaround/summary", "/api/turnaround/exams", "/api/turnaround/export.csv"):
        assert client.get(f"{path}?{query}").status_code == 422, path
    assert client.get("/api/turnaround/summary?by=patient").status_code == 422
    assert client.get("/turnaround/exams/01zzzzzzzzzzzzzzzzzzzzzzzz").status_code == 404


def test_summary_says_what_it_counted(world: World) -> None:
    start = clock.now() - timedelta(hours=20)
    with database().writing() as session:
        patient = a_patient(session, world)
        for reading in (20.0, 40.0):
            minutes = {"received_at": 10.0, "reading_at": reading, "signed_at": reading + 5}
            add_exam(session, world, patient, start, minutes=minutes)
    found = world.client("administrator").get("/api/turnaround/summary?by=clinic").json()
    assert {"from", "to", "by", "marked", "total", "groups"} == set(found)
    group = found["groups"][0]
    assert group["label"] == "银坑镇卫生院"
    assert group["stages"]["wait"] == {
        "n": 2,
        "median": 1200.0,
        "p90": 1680.0,
        "total": 2400.0,
        "due": 2,
        "within": 2,
        "late_open": 0,
        "share": 1.0,
    }


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1+1", '=HYPERLINK("http://x","y")'],
)
def test_a_formula_is_made_text(text: str) -> None:
    assert safe(text) == "'" + text


def test_ordinary_text_stays() -> None:
    for text in ("银坑镇卫生院", "A-1", "", "2026-01-01", "A=B"):
        assert safe(text) == text


def test_exports_run_no_formula_and_are_recorded(world: World) -> None:
    filled(world, 40)
    with database().writing() as session:
        session.get_one(Organisation, world.orgs["C01"].id).name = '=cmd|" /C calc"!A0'
        add_exam(session, world, a_patient(session, world), clock.now(), accession="@SUM(1)")
    client = world.client("administrator")
    answer = client.get("/api/turnaround/export.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    assert answer.content.startswith(b"\xef\xbb\xbf"), "without it Excel takes UTF-8 for GBK"
    rows = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert rows[0][:3] == ["检查号", "状态", "卫生院"]
    assert len(rows) > 40
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert "'@SUM(1)" in cells
    answer = client.get("/api/turnaround/export.xlsx?by=clinic")
    book = openpyxl.load_workbook(io.BytesIO(answer.content))
    assert book.sheetnames == ["汇总", "检查", "危急值", "说明"]
    for sheet in book:
        for row in sheet.iter_rows():
            for cell in row:
                assert cell.data_type != "f", (sheet.title, cell.coordinate)
    assert book["检查"].max_row == len(rows)
    with database().reading() as session:
        entries = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "turnaround.export").order_by(AuditEntry.id)
        ).all()
        assert [entry.object_id for entry in entries] == ["csv-exams", "xlsx"]
        assert entries[0].detail["exams"] == len(rows) - 1
        assert entries[0].actor_id == world.people["administrator"].id


def test_exports_speak_the_readers_language(world: World) -> None:
    filled(world, 20)
    client = world.client("director")
    client.cookies.set("hub_locale", "en")
    text = client.get("/api/turnaround/export.csv").content.decode("utf-8-sig")
    assert text.startswith("Accession,State,Clinic")
    assert "Lingbei Clinic" in text
    book = openpyxl.load_workbook(io.BytesIO(client.get("/api/turnaround/export.xlsx").content))
    assert book.sheetnames == ["Summary", "Exams", "Critical value", "Notes"]


def test_limits_are_set_and_unfinished_exams_follow(world: World) -> None:
    start = clock.now().replace(microsecond=0) - timedelta(minutes=30)
    with database().writing() as session:
        patient = a_patient(session, world)
        waiting = add_exam(session, world, patient, start, minutes={"received_at": 10.0}).id
        done = add_exam(session, world, patient, start, minutes={"received_at": 10.0, "signed_at": 20.0}).id
        before = session.get_one(Exam, done).due_at
    client = world.client("administrator")
    value: dict[str, Any] = client.get("/api/turnaround/settings").json()["limits"]
    value["classes"]["routine_xray"]["minutes"] = 45
    answer = client.put("/api/turnaround/settings/limits", json=value)
    assert answer.status_code == 200
    assert answer.json()["classes"]["routine_xray"]["minutes"] == 45
    with database().reading() as session:
        assert session.get_one(Exam, waiting).due_at == start + timedelta(minutes=55)
        assert session.get_one(Exam, done).due_at == before
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "turnaround.limits")).one()
        assert set(entry.detail["changed"]) == {"classes"}
        assert session.get_one(CountySetting, "limits").changed_by == world.people["administrator"].id
        assert limits.load(session).classes["routine_xray"].minutes == 45
    value["classes"]["routine_xray"]["minutes"] = 0
    answer = client.put("/api/turnaround/settings/limits", json=value)
    assert answer.status_code == 422
    assert "classes.routine_xray.minutes" in answer.json()["fields"]


def test_calendar_is_set(world: World) -> None:
    client = world.client("director")
    value = client.get("/api/turnaround/settings").json()["calendar"]
    value["holidays"].append("2026-02-17")
    value["make_up"] = ["2026-02-14"]
    value["week"][5] = [["08:30", "12:00"]]
    assert client.put("/api/turnaround/settings/calendar", json=value).status_code == 200
    with database().reading() as session:
        found = calendar.load(session)
        assert "2026-02-17" in found.holidays
        assert found.week[5] == ((510, 720),)
    value["week"] = [[]] * 7
    answer = client.put("/api/turnaround/settings/calendar", json=value)
    assert answer.status_code == 422
    assert "week" in answer.json()["fields"]
    assert client.put("/api/turnaround/settings/calendar", json={"week": "always"}).status_code == 422
    assert world.client("quality").put("/api/turnaround/settings/calendar", json=value).status_code == 403
