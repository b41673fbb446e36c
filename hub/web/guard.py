"""What surrounds every answer: security headers, the origin check, a request id for the log, metrics."""

from __future__ import annotations

import time
import uuid
from functools import lru_cache

import structlog
from fastapi import FastAPI
from prometheus_client import Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.kit.errors import Forbidden, TooLarge
from hub.kit.i18n import _
from hub.kit.settings import Settings
from hub.web import problems

REQUESTS = Counter("hub_http_requests", "Answered requests.", ["method", "route", "status"])
SECONDS = Histogram(
    "hub_http_request_seconds",
    "Time to answer a request.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)

PAGE_CSP = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; worker-src 'self' blob:; frame-src 'self'; frame-ancestors 'self'; form-action 'self'; "
    "base-uri 'none'; object-src 'none'"
)

STREAMED = ("/dicomweb/", "/viewer/", "/api/uploads")
"""Addresses that take bodies as a stream and limit them themselves; elsewhere a body is read into memory."""

MAX_BODY = 40 << 20
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Guard:
    """ASGI middleware (not BaseHTTPMiddleware, which would buffer streams)."""

    def __init__(self, app: ASGIApp, *, secure: bool) -> None:
        self.app = app
        self.secure = secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = uuid.uuid4().hex[:12]
        structlog.contextvars.bind_contextvars(request=request_id)
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                sent = MutableHeaders(scope=message)
                sent.setdefault("X-Content-Type-Options", "nosniff")
                sent.setdefault("Referrer-Policy", "same-origin")
                sent.setdefault("X-Frame-Options", "SAMEORIGIN")
                sent.setdefault("X-Request-Id", request_id)
                sent.setdefault("Content-Security-Policy", PAGE_CSP)
                if self.secure:
                    sent.setdefault("Strict-Transport-Security", "max-age=31536000")
            await send(message)

        try:
            refused = self._refuse(scope, headers)
            if refused is not None:
                await problems.answer(Request(scope), refused)(scope, receive, answer)
            elif scope["path"].startswith(STREAMED):
                await self.app(scope, receive, answer)
            else:
                await self.app(scope, _limited(receive), answer)
        except Exception as error:
            if status:
                # The answer has begun: only breaking the connection tells that it is not whole.
                raise
            await problems.unexpected(Request(scope), error)(scope, receive, answer)
        finally:
            route = scope.get("route")
            name = getattr(route, "path", "static" if scope["path"].startswith(("/static", "/ohif")) else "none")
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, name, str(status)).inc()
            SECONDS.labels(name).observe(time.perf_counter() - started)
            structlog.contextvars.unbind_contextvars("request")

    def _refuse(self, scope: Scope, headers: Headers) -> Forbidden | TooLarge | None:
        # SameSite cookies stop most of this; the login form has no session yet, so it needs the check.
        if (
            scope["method"] not in ("GET", "HEAD", "OPTIONS")
            and "authorization" not in headers
            and headers.get("origin", "")
            and headers["origin"].partition("://")[2] != headers.get("host", "")
        ):
            return Forbidden(_("请求来自别的网站,已拒绝"), code="cross-origin")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY and not scope["path"].startswith(STREAMED):
            return TooLarge(_("内容太大"))
        return None


def _limited(receive: Receive) -> Receive:
    """Count a body that did not say its length."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise HTTPException(413)
        return message

    return counted


def fixed_headers(settings: Settings) -> list[tuple[bytes, bytes]]:
    """The headers of every answer, for what is answered outside of the guard."""
    fixed = {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "X-Frame-Options": "SAMEORIGIN",
        "Content-Security-Policy": PAGE_CSP,
    }
    if settings.secure_cookies:
        fixed["Strict-Transport-Security"] = "max-age=31536000"
    return [(name.lower().encode(), value.encode()) for name, value in fixed.items()]


def counted(method: str, route: str, status: int, seconds: float) -> None:
    """Count an answer that was given outside of the guard."""
    requests, times = _counters(method, route, status)
    requests.inc()
    times.observe(seconds)


@lru_cache(maxsize=256)
def _counters(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(route)


def install(app: FastAPI, settings: Settings) -> None:
    """Put the guard around `app`."""
    app.add_middleware(Guard, secure=bool(settings.secure_cookies))
