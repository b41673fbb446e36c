"""Searches and metadata without the framework, for whoever has just been allowed them.

As `fastpath` for frames: who asks is remembered for a few seconds by `grants`, and so is which studies he may see. What
there is to see is read anew for every request: a search runs its query, metadata compare the revisions of their
series. Everything else, every first request and every error is left to the ordinary route.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import perf_counter
from typing import Final

from anyio import to_thread
from sqlalchemy import text
from starlette.requests import Request, cookie_parser
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.accounts.sessions import SESSION_COOKIE
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import HubError
from hub.kit.logging import get_logger
from hub.protocols.dicomweb import answers, grants, metadata, negotiate, qido
from hub.protocols.dicomweb.doors import VIEWER_DOOR, base, issuer
from hub.studies import repository
from hub.studies.metadata import SeriesAt
from hub.studies.models import Study
from hub.studies.search import Level

log = get_logger(__name__)

_UID: Final = r"([0-9.]{1,64})"
_SEARCH: Final = re.compile(r"((?:/viewer)?/dicomweb)/(studies|series|instances)", re.ASCII)
_METADATA: Final = re.compile(rf"(/dicomweb)/studies/{_UID}(?:/series/{_UID})?/metadata", re.ASCII)
_LEVELS: Final = {"studies": Level.STUDY, "series": Level.SERIES, "instances": Level.INSTANCE}
_VARY: Final = b"Accept, Accept-Encoding, Authorization, Cookie"
_LEAST: Final = 1024

_SERIES: Final = text(
    "SELECT s.id, s.uid, s.instance_count FROM series s JOIN study t ON t.id = s.study_id"
    " WHERE s.uid = :series AND t.id = :study AND t.trashed_at IS NULL"
)
_ALL_SERIES: Final = text(
    "SELECT s.id, s.uid, s.instance_count FROM series s JOIN study t ON t.id = s.study_id"
    " WHERE t.id = :study AND t.trashed_at IS NULL ORDER BY s.number IS NULL, s.number, s.uid"
)

Pairs = Sequence[tuple[bytes, bytes]]
_Answer = tuple[int, list[tuple[bytes, bytes]], bytes, str]
"""Status, headers, body, and the route for the metrics."""

Counted = Callable[[str, str, int, float], None]


def allow(actor: Actor, study: Study) -> None:
    """Remember for a few seconds that `actor` may see a study and that this was noted."""
    if repository.ahead.get():
        # Remembered, it would let the first look pass that is to be audited.
        return
    grants.allowed.put((actor.id, actor.session_id, study.uid), study.id)


class FastSearch:
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "GET" or not await self._answered(scope, send):
            await self.app(scope, receive, send)

    async def _answered(self, scope: Scope, send: Send) -> bool:
        path = scope["path"]
        if not path.startswith(("/dicomweb/", "/viewer/dicomweb/")):
            return False
        searched = _SEARCH.fullmatch(path)
        asked = None if searched else _METADATA.fullmatch(path)
        if not searched and not asked:
            return False
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if not _takes_json(headers.get(b"accept", b"")) or b"accept=" in scope["query_string"]:
            return False
        key = grants.credential(headers.get(b"authorization", b"").decode("latin-1"), _session(headers.get(b"cookie")))
        actor = grants.known(key)
        if actor is None:
            return False
        answer: _Answer | None
        try:
            if searched:
                answer = await self._search(scope, headers, actor, searched[1], _LEVELS[searched[2]])
            else:
                assert asked is not None
                answer = await self._metadata(scope, headers, actor, *asked.groups())
        except HubError:
            return False
        except Exception as error:
            log.warning("a search is left to the ordinary route", kind=type(error).__name__)
            return False
        if answer is None:
            return False
        status, more, body, route = answer
        more += self.fixed
        if body or status == 200:
            more.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": more})
        await send({"type": "http.response.body", "body": body})
        if self.counted is not None:
            self.counted("GET", route, status, perf_counter() - started)
        return True

    async def _search(
        self, scope: Scope, headers: dict[bytes, bytes], actor: Actor, door: str, level: Level
    ) -> _Answer:
        viewer = door == VIEWER_DOOR
        query = qido.parse(scope["query_string"].decode("latin-1"), level, issuer=issuer() if viewer else None)
        request = Request(scope)
        address, host = base(request, door), request.url.netloc
        coding = answers.coding(headers.get(b"accept-encoding", b"").decode("latin-1"))
        found, body, coding = await to_thread.run_sync(_find, actor, query, address, host, coding)
        more = [(b"cache-control", answers.REVALIDATE.encode()), (b"vary", _VARY)]
        more += [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in found.headers]
        if not found.count and not viewer:
            return 204, more, b"", scope["path"]
        more.append((b"content-type", negotiate.JSON.encode()))
        if coding:
            more.append((b"content-encoding", coding.encode()))
        return 200, more, body, scope["path"]

    async def _metadata(
        self, scope: Scope, headers: dict[bytes, bytes], actor: Actor, door: str, study: str, series: str | None
    ) -> _Answer | None:
        study_id = grants.allowed.get((actor.id, actor.session_id, study))
        if study_id is None:
            return None
        now = await to_thread.run_sync(_revisions, study_id, series or "")
        if not now:
            return None
        address = f"{base(Request(scope), door)}/studies/{study}"
        tag = metadata.tag_of(now, study_url=address, county=None, media=negotiate.JSON)
        coding = answers.coding(headers.get(b"accept-encoding", b"").decode("latin-1"))
        etag = metadata.etag_of(tag, coding)
        route = f"{door}/studies/{{study}}{'/series/{series}' if series else ''}/metadata"
        more = [(b"cache-control", answers.REVALIDATE.encode()), (b"vary", _VARY), (b"etag", etag.encode())]
        held = headers.get(b"if-none-match", b"").decode("latin-1")
        if held and etag in (one.strip().removeprefix("W/") for one in held.split(",")):
            return 304, more, b"", route
        body = metadata.kept.get(etag)
        if body is None:
            return None
        more.append((b"content-type", negotiate.JSON.encode()))
        if coding:
            more.append((b"content-encoding", coding.encode()))
        return 200, more, body, route


def _find(actor: Actor, asked: qido.Asked, address: str, host: str, coding: str) -> tuple[qido.Answer, bytes, str]:
    with database().reading() as session:
        found = qido.answer(session, actor, asked, base=address, service=host)
    if coding and len(found.body) >= _LEAST:
        return found, answers.encode(found.body, coding), coding
    return found, found.body, ""


def _revisions(study_id: str, series_uid: str) -> list[SeriesAt]:
    with database().reader.connect() as connection:
        if series_uid:
            rows = connection.execute(_SERIES, {"study": study_id, "series": series_uid})
        else:
            rows = connection.execute(_ALL_SERIES, {"study": study_id})
        return [SeriesAt(*row) for row in rows]


@lru_cache(maxsize=256)
def _takes_json(accept: bytes) -> bool:
    """Whether JSON is what the client wants first; anything less plain is the ordinary route's to judge."""
    names = [part.partition(b";")[0].strip().lower() for part in accept.split(b",")] if accept else [b"*/*"]
    plain = {b"application/dicom+json", b"application/json", b"*/*"}
    return names[0] in plain and b"q=" not in accept


def _session(cookies: bytes | None) -> str:
    return cookie_parser(cookies.decode("latin-1")).get(SESSION_COOKIE, "") if cookies else ""
