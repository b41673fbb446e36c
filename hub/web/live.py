"""One event stream per browser: changes that the reader may know, as server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from hub.accounts.roles import COUNTY_WIDE_ROLES, Permission, Role
from hub.kit import live
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import require
from hub.kit.errors import HubError
from hub.kit.logging import get_logger
from hub.web.auth import authenticate, granted

router = APIRouter(tags=["live"])
log = get_logger(__name__)

POLL_SECONDS = 0.4
HEARTBEAT_SECONDS = 15.0
GAP_SECONDS = 60.0
BATCH = 1000
ROOM = 500
RESYNC = json.dumps({"topic": "*", "ref": "", "data": {}}, separators=(",", ":"))
"""Tells a page that it must fetch everything again: more happened than can be told."""

Audience = tuple[frozenset[str], bool]
"""Organisations whose changes are heard, and whether all are."""

NOBODY: Audience = (frozenset(), False)


@dataclass(eq=False)
class _Listener:
    audience: Audience
    queue: asyncio.Queue[tuple[int, str]] = field(default_factory=lambda: asyncio.Queue(maxsize=ROOM))
    overrun: bool = False


def _audience(actor: Actor) -> Audience:
    if Permission.LIVE not in granted(actor):
        return NOBODY
    orgs = {actor.org_id} if actor.org_id else set()
    if actor.has(Role.REPORTER, Role.REVIEWER):
        orgs.add("shared")
    return frozenset(orgs), actor.has(*COUNTY_WIDE_ROLES, Role.ADMINISTRATOR)


def _concerns(audience: Audience, change: live.Change) -> bool:
    orgs, everything = audience
    return everything or not orgs.isdisjoint(change.orgs)


def _text(change: live.Change) -> str:
    return json.dumps({"topic": change.topic, "ref": change.ref, "data": change.data}, separators=(",", ":"))


class Hub:
    """Reads the change table once for all the streams of this process."""

    def __init__(self) -> None:
        self._listeners: set[_Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._last = 0
        # Numbers given to transactions that had not committed when a higher number was seen, and until when to look.
        self._gaps: dict[int, float] = {}

    async def start(self) -> None:
        """Begin to poll."""
        self._last = await anyio.to_thread.run_sync(_newest)
        self._gaps = {number: time.monotonic() + GAP_SECONDS for number in await anyio.to_thread.run_sync(_holes)}
        self._task = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """End to poll."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _fetch(self) -> list[live.Change]:
        with database().reading() as session:
            return live.since(session, self._last, gaps=self._gaps, limit=BATCH)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                changes = await anyio.to_thread.run_sync(self._fetch)
            except Exception as error:
                log.warning("change table out of reach", kind=type(error).__name__)
                continue
            self._note([change.id for change in changes])
            for change in changes:
                self._send(change)

    def _note(self, numbers: list[int]) -> None:
        now = time.monotonic()
        for number in numbers:
            self._gaps.pop(number, None)
            if number > self._last:
                for missing in range(max(self._last + 1, number - BATCH), number):
                    self._gaps[missing] = now + GAP_SECONDS
                self._last = number
        self._gaps = {number: until for number, until in self._gaps.items() if until > now}

    def _send(self, change: live.Change) -> None:
        text = _text(change)
        for listener in list(self._listeners):
            if _concerns(listener.audience, change):
                try:
                    listener.queue.put_nowait((change.id, text))
                except asyncio.QueueFull:
                    listener.overrun = True

    def join(self, audience: Audience) -> _Listener:
        """A listener for what concerns `audience`."""
        listener = _Listener(audience)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: _Listener) -> None:
        """Forget a listener."""
        self._listeners.discard(listener)


hub = Hub()


def _newest() -> int:
    with database().reading() as session:
        return live.newest(session)


def _holes() -> list[int]:
    """Numbers that are missing among the latest: their transactions may still be about to commit."""
    with database().reading() as session:
        last = live.newest(session)
        found = {change.id for change in live.since(session, last - BATCH // 10, limit=BATCH)}
    return [number for number in range(max(1, min(found, default=last)), last) if number not in found]


def _missed(number: int, audience: Audience) -> list[tuple[int, str]]:
    """What came after `number`; one line that says "everything" where it is too much, or not known any more."""
    with database().reading() as session:
        newest = live.newest(session)
        # A little before it: a lower number may have been committed after a higher one.
        changes = live.since(session, number - 20, limit=BATCH + 1)
    if len(changes) > BATCH or number > newest or (changes and changes[0].id > number + 1):
        return [(newest, RESYNC)]
    latest = {(change.topic, change.ref): change for change in changes if _concerns(audience, change)}
    return [(max(change.id, number), _text(change)) for change in latest.values()]


@router.get("/api/live", response_class=StreamingResponse)
async def events(request: Request, actor: Annotated[Actor, require("live", passive=True)]) -> StreamingResponse:
    """Server-sent events `{topic, ref, data}`; `Last-Event-ID` brings what was missed meanwhile.

    The topic `*` means that more was missed than is told: fetch everything again.
    """
    last = request.headers.get("last-event-id", "") or request.query_params.get("last_event_id", "")
    return StreamingResponse(
        _stream(request, _audience(actor), int(last) if last.isdecimal() and len(last) < 19 else None),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(request: Request, audience: Audience, last: int | None) -> AsyncIterator[str]:
    # Listening begins before the look back, so that nothing falls between.
    listener = hub.join(audience)
    try:
        yield "retry: 2000\nevent: hello\ndata: {}\n\n"
        if last is not None:
            for number, text in await anyio.to_thread.run_sync(_missed, last, audience):
                yield f"id: {number}\ndata: {text}\n\n"
        checked = time.monotonic()
        while True:
            with suppress(TimeoutError):
                wait = max(0.01, checked + HEARTBEAT_SECONDS - time.monotonic())
                number, text = await asyncio.wait_for(listener.queue.get(), wait)
                yield f"id: {number}\ndata: {text}\n\n"
            if listener.overrun and listener.queue.empty():
                listener.overrun = False
                yield f"data: {RESYNC}\n\n"
            if time.monotonic() - checked >= HEARTBEAT_SECONDS:
                # A session that ended, or a person whose roles changed, must not go on listening.
                if await anyio.to_thread.run_sync(_now, request) != audience:
                    yield "event: goodbye\ndata: {}\n\n"
                    return
                checked = time.monotonic()
                yield ": still here\n\n"
    finally:
        hub.leave(listener)


def _now(request: Request) -> Audience:
    try:
        return _audience(authenticate(request, True))
    except HubError:
        return NOBODY
    except Exception as error:
        # The page opens the stream again, and is answered as it must be then.
        log.warning("a stream's session could not be checked", kind=type(error).__name__)
        return NOBODY
