"""Frames without the framework, for whoever has just been allowed them.

Of what a frame costs, most is finding its route and resolving its dependencies. This stands around the application,
answers what `grants` has at hand and what can be read without waiting, and leaves everything else, every first request
and every error to the ordinary route.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from anyio import to_thread
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.accounts.sessions import SESSION_COOKIE
from hub.dicom.transcoding import EXPLICIT, NATIVE
from hub.kit.logging import get_logger
from hub.protocols.dicomweb import answers, grants, negotiate, wado
from hub.protocols.dicomweb.doors import DOOR, VIEWER_DOOR
from hub.studies import nearby

log = get_logger(__name__)

_UID: Final = r"([0-9.]{1,64})"
_FRAME: Final = re.compile(
    rf"((?:/viewer)?/dicomweb)/studies/{_UID}/series/{_UID}/instances/{_UID}/frames/([1-9][0-9]{{0,8}})", re.ASCII
)
_ROUTE: Final = "/studies/{study}/series/{series}/instances/{sop}/frames/{numbers}"

Pairs = Sequence[tuple[bytes, bytes]]
Counted = Callable[[str, str, int, float], None]


class FastFrames:
    """ASGI middleware, outermost.

    Args:
        app: The application with everything around it.
        fixed: Headers of every answer.
        counted: Is told (method, route, status, seconds) of each answer.
    """

    def __init__(self, app: ASGIApp, *, fixed: Pairs = (), counted: Counted | None = None) -> None:
        self.app = app
        self.fixed = tuple(fixed)
        self.counted = counted
        self._renewals: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not await self._answered(scope, send):
            await self.app(scope, receive, send)

    async def _answered(self, scope: Scope, send: Send) -> bool:
        found = _FRAME.fullmatch(scope["path"])
        if found is None:
            return False
        started = perf_counter()
        door, study, series, sop, digits = found.groups()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        cookies = headers.get(b"cookie")
        key = grants.credential(headers.get(b"authorization", b"").decode("latin-1"), _session(cookies))
        location = grants.at_hand(key, study, series, sop)
        if location is None:
            return False
        number, viewer = int(digits), door == VIEWER_DOOR
        if not viewer:
            if scope["query_string"]:
                return False
            wish = wado.wish_of(headers.get(b"accept", b"*/*").decode("latin-1"), location.transfer_syntax)
            if wish is None or wish.form != "stored":
                return False
        etag = wado.etag_of(location, number).encode() if viewer else b""
        answer = [(b"cache-control", answers.REVALIDATE.encode()), *self.fixed]
        if viewer:
            answer += ((b"etag", etag), (b"vary", b"Cookie"))
            if etag in headers.get(b"if-none-match", b""):
                await self._send(send, 304, answer, b"")
                self._count(door, 304, started)
                return True
        try:
            place = wado.stored_at(location, number)
            data = nearby.at_hand(location.object_key, *place) if place is not None else None
            if data is None:
                data = (await to_thread.run_sync(wado.stored_frame, location, number)).data
        except Exception as error:
            # The ordinary route says what is the matter, and looks whether the object was stored anew.
            log.info("a frame is left to the ordinary route", kind=type(error).__name__)
            return False
        syntax = location.transfer_syntax
        media, syntax = (
            (negotiate.OCTETS, EXPLICIT) if syntax in NATIVE else (wado.MEDIA.get(syntax, negotiate.OCTETS), syntax)
        )
        kind = f"{media}; transfer-syntax={syntax}"
        if viewer:
            answer.append((b"content-type", kind.encode()))
        else:
            boundary = f"hub-{secrets.token_hex(12)}"
            place_of = f"{scope.get('scheme', 'http')}://{headers.get(b'host', b'').decode('latin-1')}{scope['path']}"
            head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Location: {place_of}\r\n\r\n"
            data = b"".join((head.encode("latin-1"), data, f"\r\n--{boundary}--\r\n".encode()))
            answer.append((b"content-type", answers.related(media, boundary).encode()))
            answer.append((b"vary", b"Accept, Cookie"))
        await self._send(send, 200, answer, data)
        self._count(door, 200, started)
        if grants.ageing(key, study):
            task = asyncio.create_task(grants.renew(Request(scope), key, study))
            self._renewals.add(task)
            task.add_done_callback(self._renewals.discard)
        return True

    async def _send(self, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if status != 304:
            headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _count(self, door: str, status: int, started: float) -> None:
        if self.counted is not None:
            self.counted(
                "GET", (VIEWER_DOOR if door == VIEWER_DOOR else DOOR) + _ROUTE, status, perf_counter() - started
            )


def _session(cookies: bytes | None) -> str:
    return cookie_parser(cookies.decode("latin-1")).get(SESSION_COOKIE, "") if cookies else ""
