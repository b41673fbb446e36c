"""The rota: read from files as people make them, all of it or nothing, and nobody on duty twice at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from hub.accounts.models import Person
from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import Invalid
from hub.reading.routing import rota
from hub.reading.routing.models import RotaShift
from support.meeting import meet
from support.reading import ok

HEAD = "医师,医院,开始,结束,职责,阅片能力"


def count() -> int:
    with database().reading() as session:
        return session.scalar(select(func.count()).select_from(RotaShift)) or 0


def send(client, text, *, encoding="utf-8", **form):
    data = text if isinstance(text, bytes) else text.encode(encoding)
    return client.post("/api/rota/import", files={"file": ("rota.csv", data)}, data=form)


def lines(*rows):
    return "\r\n".join([HEAD, *rows]) + "\r\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_a_file_as_people_make_it(world, encoding):
    name = world.people["reporter"].name
    director = world.client("director")
    text = lines(
        f"{name},县人民医院,2026-03-02 20:00,2026-03-03 08:00,书写,CT;DX:胸部",
        "reviewer.h02,h02,2026/3/2 8:00,2026/3/2 24:00,,",
    )
    tried = ok(send(director, text, encoding=encoding, dry="true"))
    assert (tried["written"], tried["added"], tried["errors"], count()) == (False, 2, [], 0)
    done = ok(send(director, text, encoding=encoding))
    assert (done["written"], done["added"]) == (True, 2)
    found = ok(director.get("/api/rota", params={"from": "2026-03-02", "to": "2026-03-02"}))["shifts"]
    assert [(one["hospital"], one["role"], one["skills"]) for one in found] == [
        ("H02", "all", []),
        ("H01", "read", ["CT", "DX:chest"]),
    ]
    # 20:00 in the county is 12:00 UTC; the shift that ends at 24:00 ends with the day.
    assert datetime.fromisoformat(found[1]["starts"]) == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert datetime.fromisoformat(found[0]["ends"]) == datetime(2026, 3, 2, 16, tzinfo=UTC)
    again = ok(send(director, text, encoding=encoding))
    assert (again["added"], again["known"], count()) == (0, 2, 2)


def test_what_was_exported_is_taken_in_again(world):
    director = world.client("director")
    ok(send(director, lines("reporter,H01,2026-03-02 08:00,2026-03-03 08:00,read,CT")))
    span = {"from": "2026-03-02", "to": "2026-03-08"}
    file = director.get("/api/rota/export.csv", params=span)
    assert file.headers["content-type"].startswith("text/csv")
    (shift,) = ok(director.get("/api/rota", params=span))["shifts"]
    assert director.delete(f"/api/rota/{shift['id']}").status_code == 204
    assert ok(send(director, file.content))["added"] == 1
    (back,) = ok(director.get("/api/rota", params=span))["shifts"]
    assert {**back, "id": ""} == {**shift, "id": ""}


def test_every_wrong_line_is_named_and_nothing_is_imported(world):
    with database().writing() as session:
        first = session.get_one(Person, world.people["reviewer"].id)
        session.get_one(Person, world.people["reviewer2"].id).name = first.name
        session.get_one(Person, world.people["reviewer.h02"].id).active = False
    twice = world.people["reviewer"].name
    good = "reporter,H01,2026-03-02 08:00,2026-03-02 20:00,,"
    wrong = [
        ("谁也不是,H01,2026-03-02 08:00,2026-03-02 20:00,,", "没有叫"),
        (f"{twice},H01,2026-03-02 08:00,2026-03-02 20:00,,", "请写登录名"),
        (f"{world.people['reporter'].name},H02,2026-03-02 08:00,2026-03-02 20:00,,", "不属于"),
        ("reporter,H02,2026-03-02 08:00,2026-03-02 20:00,,", "不属于"),
        ("technologist,C01,2026-03-02 08:00,2026-03-02 20:00,,", "没有医院"),
        ("reviewer.h02,H02,2026-03-02 08:00,2026-03-02 20:00,,", "停用"),
        (",H01,2026-03-02 08:00,2026-03-02 20:00,,", "没有写医师"),
        ("reporter,H01,2026-03-32 08:00,2026-03-02 20:00,,", "不是时间"),
        ("reporter,H01,2026-03-02,2026-03-02 20:00,,", "不是时间"),
        ("reporter,H01,2026-03-02 20:00,2026-03-02 20:00,,", "晚于"),
        ("reporter,H01,2026-03-02 20:00,2026-03-05 20:00,,", "最长 48 小时"),
        ("reporter,H01,2026-03-04 08:00,2026-03-04 20:00,打杂,", "职责"),
        ("reporter,H01,2026-03-04 08:00,2026-03-04 20:00,,骨龄", "阅片能力"),
        ("reporter,H01,2026-03-02 19:00,2026-03-03 08:00,,", "第 2 行的班次重叠"),
    ]
    director = world.client("director")
    found = ok(send(director, lines(good, *(line for line, _words in wrong))))
    assert (found["written"], count()) == (False, 0)
    said = {error["line"]: error["message"] for error in found["errors"]}
    assert sorted(said) == list(range(3, 3 + len(wrong)))
    for number, (_line, words) in enumerate(wrong, 3):
        assert words in said[number]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "no-heading"),
        ("医师,医院,开始\r\n".encode(), "no-heading"),
        ((HEAD + "\r\n").encode(), "empty-file"),
        (b"PK\x03\x04rest", "not-csv"),
        (b"\xff\xfe\x00\x81", "not-csv"),
        (b"a\x00b", "not-csv"),
        (b"x" * (rota.MAX_BYTES + 1), "file-too-large"),
        ((HEAD + "\r\n" + "a,b,c,d,e,f\r\n" * (rota.MAX_LINES + 1)).encode(), "file-too-large"),
    ],
)
def test_what_is_no_such_file(world, data, code):
    answer = send(world.client("director"), data)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_replacing_a_week_touches_only_its_hospital_and_its_days(world):
    director = world.client("director")
    ok(
        send(
            director,
            lines(
                "reporter,H01,2026-03-01 08:00,2026-03-01 20:00,,",
                "reporter,H01,2026-03-02 08:00,2026-03-02 20:00,,",
                "reporter,H01,2026-03-03 08:00,2026-03-03 20:00,,",
                "reporter.h02,H02,2026-03-03 08:00,2026-03-03 20:00,,",
            ),
        )
    )
    week = lines(
        "reviewer,H01,2026-03-02 08:00,2026-03-02 20:00,,",
        "reporter,H01,2026-03-03 08:00,2026-03-03 20:00,,",
        "reporter,H01,2026-03-04 08:00,2026-03-04 20:00,,",
    )
    tried = ok(send(director, week, replace="true", dry="true"))
    assert (tried["added"], tried["known"], tried["removed"]) == (2, 1, 1)
    ok(send(director, week, replace="true"))
    with database().reading() as session:
        rows = session.scalars(select(RotaShift).order_by(RotaShift.starts_at, RotaShift.hospital_id)).all()
        names = {person.id: login for login, person in world.people.items()}
        found = [(rota.moment_words(one.starts_at)[:10], names[one.person_id]) for one in rows]
    assert sorted(found) == [
        ("2026-03-01", "reporter"),
        ("2026-03-02", "reviewer"),
        ("2026-03-03", "reporter"),
        ("2026-03-03", "reporter.h02"),
        ("2026-03-04", "reporter"),
    ]


def test_shifts_one_by_one(world):
    director = world.client("director")
    body = {"person": "reporter", "hospital": "H01", "starts": "2026-03-02T08:00", "ends": "2026-03-02T20:00"}
    ok(director.post("/api/rota", json=body), 201)
    clash = director.post("/api/rota", json={**body, "starts": "2026-03-02T19:59", "ends": "2026-03-03T08:00"})
    assert (clash.status_code, clash.json()["code"]) == (422, "rota-errors")
    assert "已有班次" in clash.json()["fields"]["lines.0"]
    ok(director.post("/api/rota", json={**body, "starts": "2026-03-02T20:00", "ends": "2026-03-03T08:00"}), 201)
    first, second = ok(director.get("/api/rota", params={"from": "2026-03-02", "to": "2026-03-02"}))["shifts"]
    # Moved within its own time it does not clash with itself, but with its neighbour.
    ok(director.put(f"/api/rota/{first['id']}", json={**body, "starts": "2026-03-02T09:00"}))
    later = {**body, "starts": "2026-03-02T09:00", "ends": "2026-03-02T21:00"}
    first = ok(director.get("/api/rota", params={"from": "2026-03-02", "to": "2026-03-02"}))["shifts"][0]
    assert director.put(f"/api/rota/{first['id']}", json=later).status_code == 422
    assert director.delete(f"/api/rota/{second['id']}").status_code == 204
    assert director.delete(f"/api/rota/{second['id']}").status_code == 404
    ok(director.put(f"/api/rota/{first['id']}", json=later))
    assert count() == 1


@pytest.mark.server
def test_two_who_enter_the_same_person_at_once(world):
    """The second sees what the first wrote, although it had not been committed when he began."""
    actor = world.actor("director")
    one = rota.Line(0, "reporter", "H01", "2026-03-02 08:00", "2026-03-02 20:00")
    other = rota.Line(0, "reporter", "H01", "2026-03-02 19:00", "2026-03-03 08:00")

    def second():
        with database().writing() as session:
            rota.apply(session, actor, [other])

    with pytest.raises(Invalid):
        meet(lambda session: rota.apply(session, actor, [one]), second)
    assert count() == 1


def test_on_duty_is_from_the_beginning_until_before_the_end(world):
    start = datetime(2026, 3, 2, 12, tzinfo=UTC)
    with database().writing() as session:
        lines_ = [
            rota.Line(1, "reporter", "H01", "2026-03-02 20:00", "2026-03-03 08:00", skills="CT"),
            rota.Line(2, "reviewer", "H01", "2026-03-02 20:00", "2026-03-03 08:00", role="review"),
        ]
        rota.apply(session, world.actor("director"), lines_)
        rota.set_skills(session, world.actor("director"), world.people["reporter"].id, "DX")
    with database().reading() as session:
        for moment, wanted in (
            (start - timedelta(seconds=1), {}),
            (start, {"H01": (("CT",),)}),
            (start + timedelta(hours=12, seconds=-1), {"H01": (("CT",),)}),
            (start + timedelta(hours=12), {}),
        ):
            assert rota.on_duty(session, moment) == wanted
        person = world.people["reporter"].id
        assert rota.skills_of(session, person, start) == ["CT"]
        assert rota.skills_of(session, person, start - timedelta(hours=1)) == ["DX"]
        assert rota.keeping(session, start + timedelta(days=6)) == {"H01"}
        assert rota.keeping(session, start + timedelta(days=8)) == frozenset()
    assert clock.now()


def test_a_week_over_midnight_on_the_page(world):
    with database().writing() as session:
        rota.apply(
            session,
            world.actor("director"),
            [
                rota.Line(1, "reporter", "H01", "2026-03-01 20:00", "2026-03-02 08:00"),
                rota.Line(2, "reporter", "H01", "2026-03-08 20:00", "2026-03-09 08:00"),
            ],
        )
    page = world.client("director").get("/admin/rota/table", params={"from": "2026-03-02"}).text
    assert page.count("data-shift") == 2
    assert "← 20:00–08:00" in page
    assert world.client("director").get("/admin/rota", params={"from": "yesterday"}).status_code == 200
