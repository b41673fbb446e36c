"""What surrounds every answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from hub.web import guard
from hub.web.guard import MAX_BODY, Guard
from support.world import World


@pytest.fixture
def client(world: World) -> TestClient:
    return world.anonymous()


@pytest.mark.parametrize("path", ["/login", "/healthz", "/api/nothing", "/nothing"])
def test_every_answer_carries_the_headers(client: TestClient, path: str) -> None:
    answer = client.get(path, headers={"accept": "text/html"})
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "SAMEORIGIN"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert len(answer.headers["x-request-id"]) == 12


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://[", "http://testserver.evil"])
def test_another_sites_form_is_refused(client: TestClient, origin: str) -> None:
    answer = client.post("/api/session", json={}, headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["code"] == "cross-origin"
    assert answer.headers["content-type"] == "application/problem+json"


def test_our_own_form_is_not(client: TestClient) -> None:
    assert client.post("/api/nothing", headers={"origin": "http://testserver"}).status_code in (404, 405)


def test_a_body_that_says_it_is_huge_is_refused_unread(client: TestClient) -> None:
    answer = client.post("/api/session", content=b"x", headers={"content-length": str(MAX_BODY + 1)})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_of_unknown_length_is_counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_BODY", 1000)

    def endless() -> Any:
        for _number in range(50):
            yield b"[" * 100

    answer = client.post("/api/session", content=endless(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_stream_passes_piece_by_piece() -> None:
    """The guard neither gathers a request's body nor an answer's."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _number in range(3):
            message = await receive()
            seen.append(f"got {message['body'].decode()}")
            await send({"type": "http.response.body", "body": message["body"], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def run() -> None:
        pieces = iter([b"1", b"2", b"3"])

        async def receive() -> Message:
            body = next(pieces)
            seen.append(f"sent {body.decode()}")
            return {"type": "http.request", "body": body, "more_body": True}

        async def send(message: Message) -> None:
            if message.get("body"):
                seen.append(f"answered {message['body'].decode()}")

        scope = {"type": "http", "method": "PUT", "path": "/dicomweb/studies", "headers": []}
        await Guard(app, secure=False)(scope, receive, send)

    asyncio.run(run())
    assert seen == [f"{what} {n}" for n in "123" for what in ("sent", "got", "answered")]


def test_an_answer_that_breaks_midway_is_broken_for_the_caller_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError

    async def run() -> None:
        async def nothing(*_more: Any) -> Any:
            return None

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await Guard(app, secure=False)(scope, nothing, nothing)

    with pytest.raises(ValueError):
        asyncio.run(run())


def test_strange_methods_do_not_fill_the_metrics(client: TestClient) -> None:
    for number in range(3):
        client.request(f"STRANGE{number}", "/healthz")
    assert "STRANGE" not in client.get("/metrics").text
