"""The event stream: nothing is missed, nothing is told to those whom it does not concern, and it ends with the session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete
from starlette.requests import Request

from hub.accounts.models import LoginSession
from hub.kit import clock, live
from hub.kit.db import database
from hub.kit.ids import new_id
from hub.web import live as web
from support.world import World

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "POLL_SECONDS", 0.02)


def publish(world: World, ref: str, *orgs: str, number: int | None = None) -> None:
    with database().writing() as session:
        live.publish(session, "exam", ref, orgs=[world.orgs[code].id for code in orgs])
        if number is not None:
            [change] = session.new
            change.id = number  # type: ignore[attr-defined]


def request_of(world: World, login: str) -> Request:
    client = world.client(login)
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/api/live",
        "query_string": b"",
        "headers": [(b"cookie", cookie.encode())],
        "client": ("127.0.0.1", 1),
        "app": world.app,
    }
    return Request(scope)


class Reader:
    """Reads a stream's events in the background."""

    def __init__(self, stream: AsyncIterator[str]) -> None:
        self.refs: list[str] = []
        self.ids: list[int] = []
        self.ended = asyncio.Event()
        self.stream = stream
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for block in self.stream:
            for line in block.splitlines():
                if line.startswith("id: "):
                    self.ids.append(int(line[4:]))
                if line.startswith('data: {"topic"'):
                    found = json.loads(line[6:])
                    self.refs.append(found["ref"] or found["topic"])
        self.ended.set()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(15):
            while len(self.refs) < count:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        return self.refs


@asynccontextmanager
async def running() -> AsyncIterator[web.Hub]:
    hub = web.Hub()
    before, web.hub = web.hub, hub
    await hub.start()
    try:
        yield hub
    finally:
        await hub.stop()
        web.hub = before


def play(scene: Callable[[web.Hub], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running() as hub:
            await scene(hub)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                if task is not hub._task:
                    task.cancel()

    asyncio.run(run())


async def caught_up(hub: web.Hub) -> None:
    """Wait until all that was published was sent to the listeners."""
    with database().reading() as session:
        newest = live.newest(session)
    async with asyncio.timeout(15):
        while hub._last < newest:
            await asyncio.sleep(0.01)


def listen(world: World, login: str, last: int | None = None) -> Reader:
    request = request_of(world, login)
    return Reader(web._stream(request, web._now(request), last))


def test_a_change_reaches_those_whom_it_concerns(world: World) -> None:
    async def scene(hub: web.Hub) -> None:
        clinic, other = listen(world, "technologist"), listen(world, "technologist.c02")
        await asyncio.sleep(0.1)
        publish(world, "one", "C01")
        publish(world, "two", "C02")
        assert await clinic.until(1) == ["one"]
        assert await other.until(1) == ["two"]

    play(scene)


def test_a_first_listener_hears_no_old_news_and_misses_none(world: World) -> None:
    async def scene(hub: web.Hub) -> None:
        publish(world, "old", "C01")
        await caught_up(hub)
        reader = listen(world, "technologist")
        await asyncio.sleep(0.1)
        publish(world, "new", "C01")
        assert await reader.until(1) == ["new"]

    play(scene)


def test_a_lower_number_that_is_committed_later_is_told(world: World) -> None:
    publish(world, "before", "C01", number=10)

    async def scene(hub: web.Hub) -> None:
        reader = listen(world, "technologist")
        await asyncio.sleep(0.1)
        publish(world, "later number", "C01", number=13)
        await reader.until(1)
        publish(world, "lower number", "C01", number=11)
        assert await reader.until(2) == ["later number", "lower number"]
        publish(world, "last", "C01", number=14)
        assert await reader.until(3) == ["later number", "lower number", "last"]

    play(scene)


def test_what_was_missed_is_told_on_return(world: World) -> None:
    publish(world, "known", "C01")
    with database().reading() as session:
        last = live.newest(session)
    publish(world, "missed", "C01")
    publish(world, "not his", "C02")

    async def scene(hub: web.Hub) -> None:
        reader = listen(world, "technologist", last)
        refs = await reader.until(1)
        assert "missed" in refs
        assert "not his" not in refs
        assert min(reader.ids) >= last

    play(scene)


def test_who_missed_too_much_fetches_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BATCH", 5)
    for number in range(10):
        publish(world, f"n{number}", "C01")

    async def scene(hub: web.Hub) -> None:
        assert await listen(world, "technologist", 1).until(1) == ["*"]

    play(scene)


@pytest.mark.parametrize("last", [1, 10**12])
def test_who_asks_from_what_is_not_known_any_more_fetches_everything(world: World, last: int) -> None:
    publish(world, "x", "C01", number=100)

    async def scene(hub: web.Hub) -> None:
        assert await listen(world, "technologist", last).until(1) == ["*"]

    play(scene)


def test_a_slow_browser_fetches_everything(world: World) -> None:
    async def scene(hub: web.Hub) -> None:
        request = request_of(world, "technologist")
        stream = web._stream(request, web._now(request), None)
        await anext(stream)
        [listener] = hub._listeners
        listener.queue = asyncio.Queue(maxsize=3)
        for number in range(10):
            publish(world, f"n{number}", "C01")
        await caught_up(hub)
        reader = Reader(stream)
        assert await reader.until(4) == ["n0", "n1", "n2", "*"]

    play(scene)


def test_a_stream_ends_with_its_session_although_news_keep_coming(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "HEARTBEAT_SECONDS", 0.3)

    async def scene(hub: web.Hub) -> None:
        reader = listen(world, "technologist")
        with database().writing() as session:
            session.execute(delete(LoginSession))
        for _number in range(40):
            publish(world, new_id(), "C01")
            await asyncio.sleep(0.02)
            if reader.ended.is_set():
                break
        await asyncio.wait_for(reader.ended.wait(), 15)
        assert not hub._listeners

    play(scene)


def test_listening_does_not_extend_the_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "HEARTBEAT_SECONDS", 0.05)
    request = request_of(world, "technologist")
    start = clock.now() - timedelta(minutes=30)
    with database().writing() as session:
        session.query(LoginSession).update({"last_action_at": start})

    async def scene(hub: web.Hub) -> None:
        Reader(web._stream(request, web._now(request), None))
        await asyncio.sleep(0.4)

    play(scene)
    with database().reading() as session:
        assert session.query(LoginSession).one().last_action_at == start


def test_a_leaving_browser_is_forgotten(world: World) -> None:
    async def scene(hub: web.Hub) -> None:
        reader = listen(world, "technologist")
        await asyncio.sleep(0.1)
        assert len(hub._listeners) == 1
        reader.task.cancel()
        await asyncio.wait([reader.task], timeout=15)
        assert not hub._listeners

    play(scene)


def test_numbers_are_not_given_again_after_pruning(world: World) -> None:
    publish(world, "old", "C01", number=500)
    with database().writing() as session:
        session.query(live.Change).update({"at": clock.now() - timedelta(days=9)})
        live.prune(session)
    publish(world, "new", "C01")
    with database().reading() as session:
        assert live.newest(session) > 500 or session.get_bind().dialect.name != "sqlite"


def test_nobody_listens_without_a_session(world: World) -> None:
    assert world.anonymous().get("/api/live").status_code == 401
