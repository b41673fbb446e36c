"""Errors at the edge: RFC 9457 problem details for programs, a page for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError
from starlette.exceptions import HTTPException

from hub.kit.actor import ANONYMOUS
from hub.kit.errors import Conflict, Forbidden, HubError, Invalid, NotFound, Unauthenticated, Unavailable
from hub.kit.i18n import Message, _, translate
from hub.kit.logging import describe, get_logger
from hub.kit.settings import get_settings
from hub.web.auth import authenticate
from hub.web.pages import locale_of, render
from storage.errors import StorageError

log = get_logger(__name__)

FIELD_WORDS: dict[str, Message] = {
    "missing": _("必须填写"),
    "string_too_short": _("内容太短"),
    "string_too_long": _("内容太长"),
    "too_long": _("内容太长"),
    "too_short": _("内容太短"),
    "json_invalid": _("请求的内容不是有效的 JSON"),
    "enum": _("不在可选的范围内"),
    "literal_error": _("不在可选的范围内"),
    "int_parsing": _("应填写数字"),
    "float_parsing": _("应填写数字"),
    "int_type": _("应填写数字"),
    "greater_than": _("超出允许的范围"),
    "greater_than_equal": _("超出允许的范围"),
    "less_than": _("超出允许的范围"),
    "less_than_equal": _("超出允许的范围"),
    "extra_forbidden": _("没有这一项"),
}
"""What people are told of the validator's error types; any other is `FIELD_WRONG`."""

FIELD_WRONG = _("格式不正确")

STATUS_WORDS: dict[int, Message] = {
    400: _("请求无法理解"),
    403: _("您没有此项权限"),
    404: _("没有这个页面"),
    405: _("这个地址不支持这种请求"),
    406: _("不能以所要求的格式回答"),
    411: _("请求没有说明长度"),
    413: _("内容太大"),
    415: _("不支持这种内容格式"),
    416: _("所要的范围不存在"),
}
OTHER_STATUS = _("请求被拒绝")


LOST_TO_ANOTHER = frozenset({"40P01", "40001"})
"""SQLSTATE of PostgreSQL: two transactions waited for each other, or could not both be. Nothing is out of reach."""


def wants_page(request: Request) -> bool:
    """Whether a person's browser navigates here (an API, htmx or fetch call is answered with problem details)."""
    path = request.url.path
    if path.startswith(("/api/", "/dicomweb", "/viewer/", "/healthz", "/readyz", "/metrics")):
        return False
    return "text/html" in request.headers.get("accept", "") and "hx-request" not in request.headers


def problem(request: Request, error: HubError) -> Response:
    """`error` as `application/problem+json` (RFC 9457) in the caller's language."""
    locale = locale_of(request, program=True)
    body: dict[str, Any] = {
        "type": f"{get_settings().public_url}/api/docs#{error.code}",
        "title": translate(error.message, locale),
        "status": error.status,
        "code": error.code,
        "instance": request.url.path,
    }
    if isinstance(error, Invalid) and error.fields:
        body["fields"] = {name: translate(text, locale) for name, text in error.fields.items()}
    for name, value in error.detail.items():
        body.setdefault(name, translate(value, locale) if isinstance(value, Message) else value)
    headers = {"Content-Language": "zh-CN" if locale == "zh" else locale, "Cache-Control": "no-store"}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="hub"'
    if "retry_after" in error.detail:
        headers["Retry-After"] = str(error.detail["retry_after"])
    elif error.status == 503:
        headers["Retry-After"] = "5"
    return JSONResponse(body, error.status, headers=headers, media_type="application/problem+json")


def answer(request: Request, error: HubError) -> Response:
    """The right form of `error` for whoever asked."""
    person = getattr(request.state, "person", None)
    if (
        isinstance(error, Forbidden)
        and error.code == "forbidden"
        and person is not None
        and person.must_change_password
    ):
        if wants_page(request) and request.method == "GET":
            return RedirectResponse("/account", 303)
        error = Forbidden(_("请先修改初始密码"), code="password-change-needed")
    if not wants_page(request):
        return problem(request, error)
    if isinstance(error, Unauthenticated) and request.method == "GET":
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/login?next={quote(target, safe='')}", 303)
    try:
        _recognise(request)
        return render(request, "error.html", {"error": error}, status=error.status)
    except Exception as cause:
        # The page's own frame needs what just failed, for instance the database.
        log.error("the error page failed", error=describe(cause))
        return PlainTextResponse(translate(error.message, locale_of(request)), error.status)


def _recognise(request: Request) -> None:
    """Ask who it is where no route has: the page of an unknown address has his bar and his language too."""
    if hasattr(request.state, "actor"):
        return
    try:
        request.state.actor = authenticate(request, True)
    except HubError:
        request.state.actor = ANONYMOUS


def unexpected(request: Request, exc: Exception) -> Response:
    """What is answered to a fault of the hub itself."""
    log.error("unexpected error", path=request.url.path, error=describe(exc))
    error = HubError(_("系统出错,已记录;请稍后再试或联系运维"), code="internal-error")
    error.status = 500
    return answer(request, error)


def install(app: FastAPI, allowed: Callable[[str], Sequence[str]] = lambda _path: ()) -> None:
    """Register the handlers on `app`; `allowed` gives the methods of an address, where it knows them."""

    @app.exception_handler(HubError)
    def _hub(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HubError)
        return answer(request, exc)

    @app.exception_handler(RequestValidationError)
    def _validation(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, RequestValidationError)
        fields: dict[str, Message | str] = {
            ".".join(str(part) for part in error["loc"][1:]) or str(error["loc"][0]): FIELD_WORDS.get(
                error["type"], FIELD_WRONG
            )
            for error in exc.errors()
        }
        return answer(request, Invalid(fields=fields))

    @app.exception_handler(HTTPException)
    def _http(request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        if exc.status_code == 404:
            return answer(request, NotFound(STATUS_WORDS[404]))
        error = HubError(STATUS_WORDS.get(exc.status_code, OTHER_STATUS), code="http-error")
        error.status = exc.status_code
        response = answer(request, error)
        response.headers.update(exc.headers or {})
        if exc.status_code == 405 and (methods := allowed(request.url.path)):
            # The router names the methods of one route only, and an address may have several.
            response.headers["Allow"] = ", ".join(methods)
        return response

    @app.exception_handler(IntegrityError)
    @app.exception_handler(StaleDataError)
    def _integrity(request: Request, exc: Exception) -> Response:
        log.warning("two writers met", path=request.url.path, kind=type(exc).__name__)
        return answer(request, Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile"))

    @app.exception_handler(DataError)
    @app.exception_handler(UnicodeEncodeError)
    @app.exception_handler(OverflowError)
    def _unstorable(request: Request, exc: Exception) -> Response:
        # A NUL (PostgreSQL) or half of a surrogate pair: text that no database keeps;
        # or a number beyond its integers.
        log.info("unstorable text", path=request.url.path, kind=type(exc).__name__)
        return answer(request, Invalid(_("填写的内容含有无法保存的字符"), code="unstorable"))

    @app.exception_handler(OperationalError)
    @app.exception_handler(PoolTimeout)
    def _database(request: Request, exc: Exception) -> Response:
        if getattr(getattr(exc, "orig", None), "sqlstate", None) in LOST_TO_ANOTHER:
            return _integrity(request, exc)
        log.error("database out of reach", path=request.url.path, kind=type(exc.__cause__ or exc).__name__)
        return answer(request, Unavailable(_("数据库暂时不可用,请稍后再试"), code="database-unavailable"))

    @app.exception_handler(StorageError)
    def _objects(request: Request, exc: Exception) -> Response:
        if not getattr(exc, "retriable", False):
            return unexpected(request, exc)
        log.error("object store out of reach", path=request.url.path, kind=type(exc).__name__)
        return answer(request, Unavailable(_("影像存储暂时不可用,请稍后再试"), code="store-unavailable"))
