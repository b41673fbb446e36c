"""The queue: its order, its filters, its pages, and its speed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import insert

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_id
from support.reading import claim, make_exam, ok


def ids(answer):
    return [row["id"] for row in answer["exams"]]


def test_order_is_emergencies_overdue_then_priority_by_nearest_limit_then_those_without_one(world):
    routine = make_exam(world, due_minutes=30)
    nolimit = make_exam(world, due_minutes=None)
    urgent_late = make_exam(world, priority="urgent", due_minutes=90)
    urgent_soon = make_exam(world, priority="urgent", due_minutes=20)
    urgent_nolimit = make_exam(world, priority="urgent", due_minutes=None)
    emergency_late = make_exam(world, priority="emergency", due_minutes=-30)
    emergency = make_exam(world, priority="emergency", due_minutes=200)
    overdue = make_exam(world, due_minutes=-5)
    urgent_overdue = make_exam(world, priority="urgent", due_minutes=-1)
    in_pool = make_exam(world, due_minutes=25, reading=None)
    found = ok(world.client("reporter").get("/api/queue"))
    emergencies, late = [emergency_late, emergency], [overdue, urgent_overdue]
    urgent, calm = [urgent_soon, urgent_late, urgent_nolimit], [in_pool, routine, nolimit]
    assert ids(found) == [*emergencies, *late, *urgent, *calm]
    assert [row["overdue"] for row in found["exams"]] == [True, False, True, True] + [False] * 6


def test_a_director_looks_at_one_hospital_or_the_pool(world):
    here = make_exam(world, with_study=False)
    there = make_exam(world, reading="H02", with_study=False)
    pool = make_exam(world, reading=None, with_study=False)
    director, reader = world.client("director"), world.client("reporter")
    assert set(ids(ok(director.get("/api/queue")))) == {here, there, pool}
    for hospital, wanted in ((world.orgs["H01"].id, here), (world.orgs["H02"].id, there), ("pool", pool)):
        found = ok(director.get("/api/queue", params={"hospital": hospital}))
        assert (ids(found), found["counts"]["to_read"]) == ([wanted], 1)
        page = director.get("/queue", params={"hospital": hospital}).text
        assert f"/read/{wanted}" in page
    # What is not a reader's to see stays unseen, whatever he asks for.
    assert ids(ok(reader.get("/api/queue", params={"hospital": world.orgs["H02"].id}))) == []


def test_pages_neither_repeat_nor_leave_out(world):
    wanted = [
        make_exam(world, priority=priority, due_minutes=due, with_study=False)
        for priority in ("routine", "emergency", "urgent")
        for due in (-3, 10, 10, 25, None, None)
    ]
    client = world.client("reporter")
    seen, after = [], ""
    for _page in range(25):
        found = ok(client.get("/api/queue", params={"limit": 4, "after": after}))
        seen += ids(found)
        after = found["after"]
        if not after:
            break
    assert sorted(seen) == sorted(wanted)
    assert seen == ids(ok(client.get("/api/queue", params={"limit": 200})))


@pytest.mark.parametrize("typed", ["王", "王伟", "wangwei", "WangWei", "wang wei", "ww"])
def test_a_name_is_found_as_people_type_it(world, typed):
    wanted = make_exam(world, name="王伟")
    make_exam(world, name="李娜")
    assert ids(ok(world.client("reporter").get("/api/queue", params={"q": typed}))) == [wanted]


def test_filters(world):
    ct = make_exam(world, priority="emergency")
    dx = make_exam(world, modality="DX", body_parts=["chest"], due_minutes=-1)
    review = make_exam(world, state=State.TO_REVIEW)
    client = world.client("reviewer")

    def found(**params):
        return set(ids(ok(client.get("/api/queue", params=params))))

    assert found(modality="DX") == {dx}
    assert found(priority="emergency") == {ct}
    assert found(overdue=True) == {dx}
    assert found(state="to_review") == {review}
    assert found(clinic=world.orgs["C02"].id) == set()
    assert found(clinic=world.orgs["C01"].id) == {ct, dx, review}
    assert found(mine=True) == set()
    claim(client, ct)
    assert found(mine=True) == {ct}
    counts = ok(client.get("/api/queue"))["counts"]
    assert (counts["to_read"], counts["reading"], counts["to_review"], counts["rejected"]) == (1, 1, 1, 0)
    accession = ok(client.get("/api/queue", params={"modality": "DX"}))["exams"][0]["accession"]
    assert found(q=accession.lower()) == {dx}


def test_an_odd_cursor_or_search_is_no_error(world):
    make_exam(world)
    client = world.client("reporter")
    for after in ("x", "bm90LWpzb24", "W10", "🦴"):
        assert client.get("/api/queue", params={"after": after}).status_code == 200
    for q in ("%", "_", "\\", "'", "王%"):
        assert ids(ok(client.get("/api/queue", params={"q": q}))) == []


def test_next_follows_the_order_and_the_filters(world):
    routine = make_exam(world)
    emergency = make_exam(world, priority="emergency")
    make_exam(world, state=State.TO_REVIEW, priority="emergency")
    client = world.client("reporter")
    # Looking ahead names the same exam and takes nothing.
    assert ok(client.post("/api/queue/ahead", json={"priority": "routine"}))["exam_id"] == routine
    found = ok(client.post("/api/queue/ahead", json={}))
    assert (found["exam_id"], len(found["studies"])) == (emergency, 1)
    assert ok(client.post("/api/queue/ahead", json={"without": emergency}))["exam_id"] == routine
    assert ok(client.post("/api/queue/next", json={"priority": "routine"}))["next"]["exam_id"] == routine
    assert ok(client.post("/api/queue/next", json={}))["next"]["exam_id"] == emergency
    assert ok(client.post("/api/queue/next", json={}))["next"] is None
    assert ok(client.post("/api/queue/ahead", json={})) == {"exam_id": None, "studies": []}


def test_the_page_and_its_rows(world):
    exam_id = make_exam(world, priority="emergency", identity="open", incomplete=["registration"])
    client = world.client("reporter")
    page = client.get("/queue", params={"view": "read", "priority": "emergency"})
    assert page.status_code == 200
    assert f"/read/{exam_id}" in page.text
    assert "待补" in page.text
    client.cookies.set("hub_locale", "en")
    rows = client.get("/queue/rows", params={"view": "read"})
    assert "Emergency" in rows.text
    assert "<html" not in rows.text


@pytest.mark.slow
def test_the_queue_of_a_hundred_thousand_shows_one_page_and_bounded_counts(world):
    """All of them waiting, which no county will see: the page still costs a few index ranges."""
    first = make_exam(world, with_study=False)
    with database().reading() as session:
        model = session.get_one(Exam, first)
        values = {c.name: getattr(model, c.name) for c in Exam.__table__.columns}
    now = clock.now()
    with database().writing() as session:
        for start in range(0, 100_000, 5000):
            session.execute(
                insert(Exam),
                [
                    {
                        **values,
                        "id": new_id(),
                        "accession": f"B{n:09d}",
                        "state": ("to_read", "to_review", "seen", "seen")[n % 4],
                        "due_at": now + timedelta(seconds=n % 7000),
                    }
                    for n in range(start, start + 5000)
                ],
            )
    client = world.client("reviewer")
    director = world.client("director")
    for who in (client, director):
        found = ok(who.get("/api/queue"))
        assert len(found["exams"]) == 60
        assert found["counts"]["to_read"] == 200
    assert ok(client.post("/api/queue/next", json={}))["next"]


@pytest.mark.embedded
def test_every_range_of_the_queue_is_one_of_its_index(world):
    """Also those of exams without a limit: sorted by a column they once walked all exams of the hospital."""
    from sqlalchemy import event

    make_exam(world, with_study=False)
    engine, asked = database().engine, []

    def note(_connection, _cursor, statement, parameters, *_more):
        if "UNION ALL" in statement and "priority_rank" in statement:
            asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ok(world.client("reviewer").post("/api/queue/ahead", json={}))
    event.remove(engine, "before_cursor_execute", note)
    assert asked
    with engine.connect() as connection:
        for statement, parameters in asked:
            plan = [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]
            of_exams = [line for line in plan if " exam " in line]
            assert of_exams
            assert [
                line
                for line in of_exams
                if "ix_exam_queue (state=? AND reading_org_id=? AND priority_rank=?" not in line
            ] == []
