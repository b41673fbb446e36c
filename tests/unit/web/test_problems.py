"""Every kind of error is answered in the right form, in the caller's language, and without a word of data."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient
from psycopg.errors import DeadlockDetected
from pydantic import BaseModel, Field
from sqlalchemy import text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import StaleDataError

from hub.accounts.models import Person
from hub.kit import errors
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import WriteDb, public
from hub.kit.i18n import _
from storage.errors import ObjectNotFound, StorageUnavailable
from support.world import World

SECRET = "王秘密"

RAISED: dict[str, tuple[Exception, int, str]] = {
    "bad": (errors.HubError("x"), 400, "bad-request"),
    "invalid": (errors.Invalid(fields={"name": _("没有找到")}), 422, "invalid"),
    "unauthenticated": (errors.Unauthenticated(), 401, "unauthenticated"),
    "forbidden": (errors.Forbidden(), 403, "forbidden"),
    "missing": (errors.NotFound(), 404, "not-found"),
    "conflict": (errors.Conflict("x"), 409, "conflict"),
    "large": (errors.TooLarge("x"), 413, "too-large"),
    "many": (errors.TooMany("x", retry_after=900), 429, "too-many-requests"),
    "away": (errors.Unavailable("x"), 503, "unavailable"),
    "integrity": (IntegrityError("INSERT", {"name": SECRET}, Exception(SECRET)), 409, "changed-meanwhile"),
    "stale": (StaleDataError(SECRET), 409, "changed-meanwhile"),
    "deadlock": (OperationalError("UPDATE", {"name": SECRET}, DeadlockDetected(SECRET)), 409, "changed-meanwhile"),
    "data": (DataError("INSERT", {"name": SECRET}, Exception(SECRET)), 422, "unstorable"),
    "database": (OperationalError("SELECT", {"name": SECRET}, Exception(SECRET)), 503, "database-unavailable"),
    "pool": (PoolTimeout(SECRET), 503, "database-unavailable"),
    "store": (StorageUnavailable(SECRET), 503, "store-unavailable"),
    "object": (ObjectNotFound(SECRET), 500, "internal-error"),
    "fault": (ValueError(SECRET), 500, "internal-error"),
}

router = APIRouter()


class Form(BaseModel):
    name: str = Field(max_length=5)
    number: int


@router.get("/api/raise/{kind}")
@router.get("/raise/{kind}")
def raising(kind: str, actor: Annotated[Actor, public()]) -> None:
    raise RAISED[kind][0]


@router.post("/api/form")
def form(body: Form, actor: Annotated[Actor, public()]) -> None:
    return None


@router.post("/api/commit/{kind}")
def commit(kind: str, session: WriteDb, actor: Annotated[Actor, public()]) -> dict[str, bool]:
    """All is well until the commit."""
    original = session.commit

    def failing() -> None:
        original()
        raise RAISED[kind][0]

    session.commit = failing  # type: ignore[method-assign]
    return {"saved": True}


@router.post("/api/login-name")
def unstorable(body: dict[str, str], session: WriteDb, actor: Annotated[Actor, public()]) -> None:
    session.execute(text("SELECT :name"), {"name": body["name"]})


@pytest.fixture
def app(world: World) -> FastAPI:
    app = world.app
    # In front of the catch-all mounts.
    for route in router.routes:
        app.router.routes.insert(0, route)
    return app


@pytest.fixture
def client(app: FastAPI, world: World) -> Iterator[TestClient]:
    yield world.anonymous()


@pytest.mark.parametrize("kind", RAISED)
def test_a_program_gets_problem_details(client: TestClient, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _error, status, code = RAISED[kind]
    answer = client.get(f"/api/raise/{kind}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["instance"]) == (status, code, f"/api/raise/{kind}")
    assert body["type"].endswith(f"#{code}")
    assert body["title"]
    assert SECRET not in answer.text
    assert SECRET not in caplog.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert ("www-authenticate" in answer.headers) == (status == 401)
    assert ("retry-after" in answer.headers) == (status in (429, 503))


@pytest.mark.parametrize("kind", RAISED)
def test_a_person_gets_a_page(client: TestClient, kind: str) -> None:
    _error, status, _code = RAISED[kind]
    answer = client.get(f"/raise/{kind}", headers={"accept": "text/html"})
    if status == 401:
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/login?next=%2Fraise")
        return
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/html")
    assert SECRET not in answer.text
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/admin/people", 403), ("/raise/missing", 404)])
def test_an_error_page_has_the_bar_of_whoever_meets_it_and_a_way_back(
    client: TestClient, world: World, path: str, status: int
) -> None:
    page = {"accept": "text/html"}
    reader = world.client("reporter")
    for locale, queue, home in (("zh", "阅片队列", "回到首页"), ("en", "Reading queue", "Back to the start")):
        reader.cookies.set("hub_locale", locale)
        answer = reader.get(path, headers=page)
        assert answer.status_code == status
        assert f'href="/queue">{queue}</a>' in answer.text
        assert f'<a class="btn" href="/">{home}' in answer.text
        assert world.people["reporter"].name in answer.text
    if status == 404:
        answer = client.get(path, headers=page)
        assert answer.status_code == status
        assert '<a class="btn btn--primary" href="/login">登录</a>' in answer.text
        assert "/queue" not in answer.text


def test_the_page_of_an_expired_form_has_the_bar_too(world: World, client: TestClient) -> None:
    answer = world.client("reporter").post("/logout", headers={"accept": "text/html", "x-csrf-token": "old"})
    assert answer.status_code == 403
    assert 'href="/queue">阅片队列</a>' in answer.text


def test_the_language_is_the_cookies_then_the_persons_then_the_programs(world: World, client: TestClient) -> None:
    def title(**headers: str) -> Any:
        return client.get("/api/raise/missing", headers=headers).json()["title"]

    assert title() == "没有找到"
    assert title(**{"accept-language": "en"}) == "Not found"
    # A browser sends the language it was installed in; the page beside the message is Chinese.
    assert title(**{"accept-language": "en", "sec-fetch-mode": "cors"}) == "没有找到"
    client.cookies.set("hub_locale", "en")
    assert title() == "Not found"
    with database().writing() as session:
        session.get_one(Person, world.people["reporter"].id).locale = "en"
    assert world.client("reporter").get("/api/raise/missing").json()["title"] == "Not found"


def test_fields_are_named_in_words(client: TestClient) -> None:
    answer = client.post("/api/form", json={"name": "123456", "number": "x"})
    assert answer.status_code == 422
    assert answer.json()["fields"] == {"name": "内容太长", "number": "应填写数字"}
    answer = client.post("/api/form", json={}, headers={"accept-language": "en"})
    assert answer.json()["fields"] == {"name": "Must be filled in", "number": "Must be filled in"}
    answer = client.post("/api/form", content=b"{", headers={"content-type": "application/json"})
    assert answer.status_code == 422


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/api/nothing", 404), ("DELETE", "/api/form", 405)])
def test_what_the_router_refuses_is_a_problem_too(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"].isascii() is False


@pytest.mark.parametrize("kind", ["integrity", "database", "fault"])
def test_a_failing_commit_is_never_a_success(client: TestClient, kind: str) -> None:
    answer = client.post(f"/api/commit/{kind}")
    assert answer.status_code == RAISED[kind][1]
    assert "saved" not in answer.text


@pytest.mark.parametrize("name", ["a\x00b", "a\ud800b"])
def test_text_that_no_database_keeps_is_the_callers_fault(client: TestClient, name: str) -> None:
    content = b'{"name": "a\\u0000b"}' if "\x00" in name else b'{"name": "a\\ud800b"}'
    answer = client.post("/api/login-name", content=content, headers={"content-type": "application/json"})
    assert answer.status_code in (200, 422)


def test_the_error_page_stands_without_a_database(world: World, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.client("operator")

    def broken(*_more: object) -> None:
        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr("hub.web.pages.navigation", broken)
    answer = client.get("/raise/database", headers={"accept": "text/html"})
    assert answer.status_code == 503
    assert "数据库" in answer.text
