"""Messages to the county's gateway, against a real HTTP server: signed, tried again, and never an acknowledgement."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.kit import jobs
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.kit.settings import Settings, get_settings
from hub.reports.critical import messages
from hub.reports.critical.models import CriticalMessage
from support.critical import FINDING, flagged, later, row_of
from support.reading import ok
from workers.critical import sweep
from workers.runner import run

if TYPE_CHECKING:
    from support.world import World

SECRET = "a-secret-of-the-gateway"


@dataclass
class Gateway:
    """An SMS gateway on the loopback; `answers` are the statuses of its next answers, then 200."""

    url: str
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def a_gateway() -> Iterator[Gateway]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            gateway.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = gateway.answers.pop(0) if gateway.answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://169.254.169.254/")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    gateway = Gateway(f"http://localhost:{server.server_port}/notify?county=1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def gateway(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    """A gateway, and a hub that knows it."""
    with a_gateway() as found:
        monkeypatch.setenv("HUB_CRITICAL_WEBHOOK_URL", found.url)
        monkeypatch.setenv("HUB_CRITICAL_WEBHOOK_SECRET", SECRET)
        monkeypatch.setenv("HUB_CRITICAL_WEBHOOK_PRIVATE", "true")
        get_settings.cache_clear()
        jobs.set_sender(None)
        yield found


def do_jobs() -> None:
    """Do what is due, as a worker would."""
    with database().reading() as session:
        due = list(session.scalars(select(Job.id).where(Job.kind == messages.JOB, Job.state == "queued")))
    for job in due:
        run(job)


def told(critical_id: str) -> list[CriticalMessage]:
    with database().reading() as session:
        return list(
            session.scalars(
                select(CriticalMessage)
                .where(CriticalMessage.critical_id == critical_id)
                .order_by(CriticalMessage.queued_at)
            )
        )


def test_a_signed_message_without_clinical_content(world: World, gateway: Gateway) -> None:
    contacts = [{"name": "李医生", "phone": "13807970001"}, {"name": "周医生", "phone": "13807970002"}]
    ok(world.client("technologist").put(f"/api/critical/contacts/{world.orgs['C01'].id}", json={"contacts": contacts}))
    critical = flagged(world)
    do_jobs()
    headers, body = gateway.got[0]
    assert headers["x-hub-signature"] == messages.signature(SECRET, headers["x-hub-timestamp"], body)
    assert headers["x-hub-signature"] != messages.signature(SECRET, headers["x-hub-timestamp"], body + b" ")
    assert headers["host"] == gateway.url.split("/")[2]
    said: dict[str, Any] = json.loads(body)
    assert said["event"] == "critical.alarm"
    assert said["exam"] == critical["accession"]
    assert said["contacts"] == [{"name": "李医生", "phone": "13807970001"}]
    assert said["link"].endswith(f"/critical/{critical['id']}")
    text = body.decode()
    assert "王伟" not in text and FINDING not in text and "cerebral" not in text and "脑出血" not in text
    # Taken by the gateway, it acknowledges nothing.
    assert [message.state for message in told(critical["id"])] == ["sent"]
    assert row_of(critical["id"]).state == "alarmed"
    with later(11):
        sweep()
        do_jobs()
    assert [json.loads(body)["event"] for _headers, body in gateway.got] == [
        "critical.alarm", "critical.escalate", "critical.breach"
    ]  # fmt: skip
    assert json.loads(gateway.got[1][1])["contacts"][0]["name"] == "周医生"


def test_what_the_gateway_did_not_take_is_tried_again_later(world: World, gateway: Gateway) -> None:
    gateway.answers = [503, 302]
    critical = flagged(world)
    # The clock stands: the back-off is of seconds, which a busy machine takes for less.
    with later(0):
        do_jobs()
        assert [(message.state, message.status, message.attempts) for message in told(critical["id"])] == [
            ("queued", 503, 1)
        ]
        do_jobs()
        assert len(gateway.got) == 1, "not before its back-off is over"
    with later(1):
        do_jobs()
        # A redirect is not followed: it is no success.
        assert [(message.state, message.status) for message in told(critical["id"])] == [("queued", 302)]
    with later(2):
        do_jobs()
    assert [message.state for message in told(critical["id"])] == ["sent"]
    assert len({headers["x-hub-message"] for headers, _body in gateway.got}) == 1


def test_a_message_about_what_was_answered_is_not_sent(world: World, gateway: Gateway) -> None:
    critical = flagged(world)
    reader = world.client("reporter")
    ok(reader.post(f"/api/critical/{critical['id']}/phone", json={"receiver": "王芳", "read_back": "右侧脑出血"}))
    do_jobs()
    assert gateway.got == []
    assert [message.state for message in told(critical["id"])] == ["skipped"]


def test_without_a_gateway_nothing_is_queued(world: World) -> None:
    assert told(flagged(world)["id"]) == []


@pytest.mark.parametrize(
    ("url", "private", "ok"),
    [
        ("https://127.0.0.1/x", False, False),
        ("https://10.0.0.8/x", False, False),
        ("https://[::1]/x", False, False),
        ("https://[::ffff:10.0.0.8]/x", False, False),
        ("https://169.254.169.254/latest", True, False),
        ("https://0.0.0.0/", True, False),
        ("http://8.8.8.8/", False, False),
        ("ftp://8.8.8.8/", True, False),
        ("https://user:pass@8.8.8.8/", True, False),
        ("https://8.8.8.8/", False, True),
        ("http://10.0.0.8:8080/", True, True),
    ],
)
def test_where_a_message_may_go(url: str, private: bool, ok: bool) -> None:
    if ok:
        assert messages.allowed_address(url, private=private)
    else:
        with pytest.raises(ValueError):
            messages.allowed_address(url, private=private)


def test_a_gateway_without_a_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="HUB_CRITICAL_WEBHOOK_SECRET"):
        Settings(critical_webhook_url="https://gateway.example/")
