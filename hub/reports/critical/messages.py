"""Messages to the outside: a signed POST to the county's SMS or phone gateway.

They carry no clinical content: the exam's reference, whom to ring, and a link behind the log-in. A message that the
gateway took acknowledges nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from sqlalchemy.orm import Session

from hub.kit import clock, jobs
from hub.kit.db import database
from hub.kit.ids import new_id
from hub.kit.settings import Settings, get_settings
from hub.reports.critical.contacts import Phone
from hub.reports.critical.models import CriticalMessage, CriticalValue, OutsideMessage
from hub.reports.critical.states import UNANSWERED

_M = TypeVar("_M", bound=OutsideMessage)

JOB = "critical.message"
TIMEOUT_SECONDS = 10.0
QUEUED, SENT, FAILED, SKIPPED = "queued", "sent", "failed", "skipped"


class NotSent(Exception):
    """The gateway did not take it; the job is tried again."""


def is_set_up() -> bool:
    """Whether the county has a gateway."""
    return bool(get_settings().critical_webhook_url)


def queue(session: Session, row: CriticalValue, level: str, people: Sequence[Phone], at: datetime) -> None:
    """Write a message with the deed it tells of; nothing where no gateway is set up.

    Args:
        session: The transaction of the deed.
        row: The critical value.
        level: "alarm", "escalate", "breach" or "withdraw".
        people: Whom the gateway shall reach.
        at: When.
    """
    if not is_set_up():
        return
    settings = get_settings()
    message = CriticalMessage(id=new_id(), critical_id=row.id, level=level, state=QUEUED, queued_at=at, body={})
    message.body = {
        "event": f"critical.{level}",
        "message": message.id,
        "critical": row.id,
        "exam": row.exam.accession,
        "clinic": row.org.code,
        "hospital": row.hospital.code,
        "discovered_at": row.discovered_at.isoformat(),
        "due_at": row.breach_due.isoformat(),
        "link": f"{settings.public_url}/critical/{row.id}",
        "contacts": [{"name": phone.name, "phone": phone.number} for phone in people],
    }
    session.add(message)
    session.flush()
    jobs.enqueue(session, JOB, {"message_id": message.id}, key=f"critical-message:{message.id}", priority=0)


def signature(secret: str, stamp: str, body: bytes) -> str:
    """HMAC-SHA-256 over `stamp.body`, as the header `X-Hub-Signature` bears it."""
    return "sha256=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def send(message_id: str) -> None:
    """Do the job of one message. Killed after the gateway took it, it is sent once more under the same id.

    Raises:
        NotSent: It is to be tried again.
    """
    send_one(CriticalMessage, message_id, _is_needless)


def _is_needless(session: Session, message: CriticalMessage) -> bool:
    row = session.get_one(CriticalValue, message.critical_id)
    return message.level != "withdraw" and row.state not in UNANSWERED


def send_one(kind: type[_M], message_id: str, needless: Callable[[Session, _M], bool]) -> None:
    """Send one message of a kind.

    Args:
        kind: Its table.
        message_id: Which.
        needless: Whether nobody need be reached any more.

    Raises:
        NotSent: It is to be tried again.
    """
    settings = get_settings()
    with database().reading() as session:
        message = session.get(kind, message_id)
        if message is None or message.state in (SENT, SKIPPED):
            return
        skipped = needless(session, message)
        body, attempts = message.body, message.attempts
    if skipped:
        _write(kind, message_id, state=SKIPPED)
        return
    try:
        status = post(settings, message_id, body)
    except (httpx.HTTPError, OSError, ValueError) as error:
        last = attempts + 1 >= settings.job_attempts
        text = str(error) if isinstance(error, ValueError) else type(error).__name__
        _write(kind, message_id, state=FAILED if last else QUEUED, error=text[:200], attempts=attempts + 1)
        raise NotSent from error
    if not 200 <= status < 300:
        last = attempts + 1 >= settings.job_attempts
        _write(kind, message_id, state=FAILED if last else QUEUED, status=status, error="", attempts=attempts + 1)
        raise NotSent
    _write(kind, message_id, state=SENT, status=status, error="", attempts=attempts + 1, sent_at=clock.now())


def _write(kind: type[OutsideMessage], message_id: str, **values: Any) -> None:
    with database().writing() as session:
        message = session.get_one(kind, message_id, with_for_update=True)
        for name, value in values.items():
            setattr(message, name, value)
        message.tried_at = clock.now()


def post(settings: Settings, message_id: str, body: dict[str, Any]) -> int:
    """POST `body` to the gateway; its status.

    The name is looked up once and the connection goes to the address that was checked, so that a name cannot point
    elsewhere a moment later. Redirects are not followed, and no proxy of the environment is used.

    Raises:
        ValueError: The address may not be called.
        httpx.HTTPError, OSError: It could not be reached.
    """
    parts = urlsplit(settings.critical_webhook_url)
    address = allowed_address(settings.critical_webhook_url, private=settings.critical_webhook_private)
    data = json.dumps(body, ensure_ascii=False, sort_keys=True).encode()
    stamp = str(int(clock.now().timestamp()))
    host = parts.hostname or ""
    headers = {
        "Host": parts.netloc.rpartition("@")[2],
        "Content-Type": "application/json",
        "User-Agent": "imaging-hub",
        "X-Hub-Message": message_id,
        "X-Hub-Timestamp": stamp,
        "X-Hub-Signature": signature(settings.critical_webhook_secret, stamp, data),
    }
    at = f"[{address}]" if ":" in address else address
    url = parts._replace(netloc=f"{at}:{parts.port}" if parts.port else at, fragment="").geturl()
    with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False, trust_env=False) as client:
        answer = client.post(url, content=data, headers=headers, extensions={"sni_hostname": host})
    return answer.status_code


def allowed_address(url: str, *, private: bool) -> str:
    """The IP address to call for `url`.

    Args:
        url: Of the operator's setting.
        private: Whether the gateway may stand in the county's own network; only then may it speak plain HTTP.

    Raises:
        ValueError: Not an address of the web, plain HTTP to the outside, or a private, loopback or reserved address.
        OSError: The name is not known.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("not an http(s) address")
    if parts.username or parts.password:
        raise ValueError("credentials in the address")
    if parts.scheme == "http" and not private:
        raise ValueError("plain http outside the own network")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)}
    for text in sorted(found):
        address = ipaddress.ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_multicast or address.is_unspecified or address.is_link_local:
            raise ValueError("reserved address")
        if not private and not address.is_global:
            raise ValueError("private address")
    return min(found, key=lambda text: (":" in text, text))
