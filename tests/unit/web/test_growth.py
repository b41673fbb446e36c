"""Pages and badges of a county with years of exams that are done: they cost what waits and what they show.

Counted are SQLite's own steps, so that a busy machine changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, update

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.reading.conversation import thread
from support.reading import make_exam, ok

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

pytestmark = [pytest.mark.embedded, pytest.mark.slow]

EVERY = 20
"""Steps between two looks at SQLite's counter."""
FEW, MANY = 1200, 6000
PAGES = {
    "technologist": (
        *("/nav", "/account", "/clinic", "/clinic?state=seen", "/messages", "/messages?unread=1"),
        *("/verify-identity", "/critical/bar", "/api/inbox", "/api/exams?alert=verify"),
        *("/clinic?alert=no_images", "/clinic?alert=verify", "/clinic?alert=incomplete", "/clinic?alert=unseen"),
        *("/clinic?alert=history", "/clinic?alert=retake", "/api/conclusion-changes"),
    ),
    "clinician": ("/nav", "/clinic/inbox", "/api/inbox", "/messages", "/review/bar"),
    "reviewer": (
        *("/nav", "/queue", "/queue/rows", "/queue/board", "/messages", "/alerts", "/reviews", "/peer"),
        *("/api/queue", "/api/alerts", "/api/reviews", "/api/peer", "/api/arbitrations", "/api/conclusion-changes"),
    ),
    "director": (
        *("/nav", "/queue", "/messages", "/verify-identity", "/turnaround/board", "/api/turnaround/today", "/alerts"),
        *("/patients", "/api/conclusion-changes", "/api/checks/answers", "/checks"),
    ),
    "quality": ("/nav", "/verify-identity", "/messages", "/patients", "/api/checks/answers"),
}


@pytest.fixture
def steps() -> Iterator[Callable[[TestClient, str], int]]:
    """Asks for a page, and gives the steps that SQLite took for it."""
    engine, taken = database().engine, [0]

    def tick() -> int:
        taken[0] += 1
        return 0

    def watch(connection: Any, _record: Any) -> None:
        connection.set_progress_handler(tick, EVERY)

    def ask(client: TestClient, path: str) -> int:
        # The first time fills caches of the process.
        assert client.get(path).status_code == 200, path
        taken[0] = 0
        client.get(path)
        return taken[0] * EVERY

    event.listen(engine, "connect", watch)
    engine.dispose()
    yield ask
    event.remove(engine, "connect", watch)
    engine.dispose()


def test_pages_do_not_grow_with_the_exams_that_are_done(
    world: World, steps: Callable[[TestClient, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.benchmarks import population

    # Only the two clinics and hospitals of `world`: half of all is of the one that looks.
    monkeypatch.setattr(population, "CLINICS", 2)
    monkeypatch.setattr(population, "HOSPITALS", 2)
    monkeypatch.setattr(population, "_PEOPLE", [world.people["reviewer"].id, *population._PEOPLE[:3]])
    clients = {login: world.client(login) for login in PAGES}

    def cost() -> dict[str, int]:
        return {f"{login} {path}": steps(clients[login], path) for login, paths in PAGES.items() for path in paths}

    population.populate(FEW, waiting=40, seed=1, stories=True)
    _put_to_somebody()
    before = cost()
    population.populate(MANY, waiting=1, seed=2, stories=True)
    after = cost()
    # What walks all of a clinic's or hospital's exams takes six times as many.
    grown = {page: (before[page], after[page]) for page in after if after[page] > 1.5 * before[page] + 4000}
    assert grown == {}


def _put_to_somebody() -> None:
    """Some of what waits also waits for a decision."""
    now = clock.now()
    with database().writing() as session:
        waiting = list(
            session.scalars(Exam.__table__.select().where(Exam.state == "to_read").with_only_columns(Exam.id))
        )
        session.execute(update(Exam).where(Exam.id.in_(waiting[:6])).values(state="to_verify", verify_since=now))
        session.execute(update(Exam).where(Exam.id.in_(waiting[6:12])).values(identity="open"))


def _asked(ask: Callable[[], object], part: str) -> list[tuple[str, Any]]:
    """The statements of `ask` in which `part` stands, with their parameters."""
    engine, found = database().engine, []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if part in statement:
            found.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    ask()
    event.remove(engine, "before_cursor_execute", note)
    return found


def _plans(ask: Callable[[], object], part: str) -> list[str]:
    """How SQLite goes about the statements of `ask` in which `part` stands."""
    asked = _asked(ask, part)
    assert asked, part
    with database().engine.connect() as connection:
        return [
            str(row[3])
            for statement, parameters in asked
            for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)
        ]


def test_badges_are_counted_once_for_a_page_and_for_no_part_of_one(world: World) -> None:
    client = world.client("reviewer")
    for path, times in (("/queue", 1), ("/nav", 1), ("/queue/rows", 0), ("/critical/bar", 0)):
        assert len(_asked(lambda path=path: client.get(path), "review.author_seen_at IS NULL")) == times, path


WAYS = (
    ("technologist", "/nav", "exam.identity = 'open'", "ix_exam_identity_open"),
    ("director", "/nav", "exam.identity = 'open'", "ix_exam_identity_open"),
    ("technologist", "/messages", "ORDER BY exam.thread_last", "ix_exam_thread_org"),
    ("reviewer", "/messages", "ORDER BY exam.thread_last", "ix_exam_thread_reading"),
    ("director", "/messages", "ORDER BY exam.thread_last", "ix_exam_thread"),
    ("reviewer", "/queue", "exam.late_images_at IS NOT NULL", "ix_exam_late_images"),
    ("reviewer", "/nav", "review.author_seen_at IS NULL", "ix_review_unread"),
    ("reviewer", "/nav", "FROM limit_alert", "ix_limit_alert_raised"),
    ("director", "/critical/bar", "open_key IS NOT NULL", "SEARCH critical_value USING INDEX"),
    ("reviewer", "/queue", "ORDER BY report_version.created_at", "ix_report_version_amending"),
    ("reviewer", "/queue", "LIMIT ? OFFSET ?) AS anon_2 UNION ALL", "ix_exam_open_reading"),
    ("director", "/turnaround/board", "AND (exam.state NOT IN", "ix_exam_open"),
    ("reviewer", "/api/conclusion-changes", "FROM conclusion_change", "SEARCH conclusion_change USING INDEX"),
    ("technologist", "/clinic", "exam.returned_at >=", "ix_exam_org_returned"),
)
"""Who asks for what; a part of the statement that is meant; the index that finds it."""


def test_what_waits_is_found_by_its_own_index(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by statistics after which nearly all rows are in one state, and no state looks worth an index."""
    from tests.benchmarks import population

    monkeypatch.setattr(population, "CLINICS", 2)
    monkeypatch.setattr(population, "HOSPITALS", 2)
    population.populate(3000, waiting=30, stories=True)
    database().engine.dispose()
    wrong: list[str] = []
    for login, path, part, index in WAYS:
        client = world.client(login)
        plan = _plans(lambda client=client, path=path: client.get(path), part)
        if not [line for line in plan if index in line]:
            wrong.append(f"{login} {path}: {index} is not in {plan}")
    assert not wrong, "\n".join(wrong)


def test_the_badge_counts_what_the_page_of_identities_shows(world: World) -> None:
    from hub.exams import registration

    for state in (State.TO_VERIFY, State.TO_READ, State.RECEIVING, State.SIGNED, State.REGISTERED):
        for identity in ("ok", "open", "verified"):
            for org in ("C01", "C02"):
                make_exam(world, state=state, org=org, identity=identity, with_study=False)
    for login, number in (("technologist", 5), ("technologist.c02", 5), ("director", 10), ("quality", 10)):
        actor = world.actor(login)
        with database().reading() as session:
            found = registration.to_verify(session, actor)
            assert len({exam.id for exam in found}) == len(found) == number
            assert registration.count_to_verify(session, actor) == number
        assert all(exam.state == "to_verify" or exam.identity == "open" for exam in found)


def test_the_clinics_list_of_the_day_is_what_came_what_waits_and_what_came_home(world: World) -> None:
    # 12:00 in the county: an exam of a quarter of an hour ago is of the same day.
    noon = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
    clock.set_source(lambda: noon)
    long_ago = noon - timedelta(days=40)
    today = make_exam(world, state=State.SEEN, with_study=False)
    waiting = make_exam(world, registered_at=long_ago, with_study=False)
    home = make_exam(world, state=State.SEEN, registered_at=long_ago, returned_at=clock.now(), with_study=False)
    done = make_exam(world, state=State.SEEN, registered_at=long_ago, returned_at=long_ago, with_study=False)
    make_exam(world, org="C02", with_study=False)
    client = world.client("technologist")

    def found(**params: str) -> set[str]:
        return {row["id"] for row in ok(client.get("/api/exams", params=params))["items"]}

    assert found(day="today") == {today, waiting, home}
    assert found(day="today", state="seen") == {today, home}
    assert found(day="today", state="to_read") == {waiting}
    assert found(day="all", state="seen") == {today, home, done}
    reader = world.client("reporter")
    assert {today, waiting, home, done} <= {row["id"] for row in ok(reader.get("/api/exams"))["items"]}


def test_a_thread_stands_where_its_last_line_for_both_sides_puts_it(world: World) -> None:
    first, second, silent = (make_exam(world, with_study=False) for _number in range(3))
    reader, clinic = world.actor("reporter"), world.actor("technologist")
    with database().writing() as session:
        for exam_id, actor, note in ((first, reader, False), (second, clinic, False), (first, reader, True)):
            thread.post(session, actor, session.get_one(Exam, exam_id), "请看。", note=note)
    for who in (reader, clinic, world.actor("director")):
        with database().reading() as session:
            assert [row.exam.id for row in thread.threads(session, who)][-2:] != []
            last = {row.exam.id: row.last for row in thread.threads(session, who)}
            assert set(last) == {first, second}
            assert last[first].audience == "all"
    with database().writing() as session:
        thread.post(session, clinic, session.get_one(Exam, first), "好的。")
        thread.post(session, clinic, session.get_one(Exam, silent), "好的。", note=False)
    with database().reading() as session:
        # Unread ones first, then the latest first.
        assert [row.exam.id for row in thread.threads(session, world.actor("director"))] == [silent, first, second]
        assert [row.exam.id for row in thread.threads(session, clinic)] == [first, silent, second]
        assert [row.exam.id for row in thread.threads(session, reader, only_unread=True)] == [silent, first, second]
