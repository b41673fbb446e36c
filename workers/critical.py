"""Timers of critical values, and messages to the county's gateway."""

from __future__ import annotations

from typing import Any

from hub.kit.db import database
from hub.reports.critical import messages, repository, service
from hub.reports.critical.moment import now
from workers.registry import handler, periodic


@periodic("critical.sweep", every=15)
def sweep() -> None:
    """Ring the second contact and the duty officer where nobody answered; each once, however many workers look.

    Each in a transaction of its own: one that cannot be done must not keep the others from being rung.
    """
    with database().reading() as session:
        due = repository.due(session, now(session))
    problem: Exception | None = None
    for critical_id in due:
        try:
            with database().writing() as session:
                service.sweep_one(session, critical_id)
        except Exception as error:
            problem = problem or error
    if problem is not None:
        raise problem


@handler(messages.JOB)
def send_message(payload: dict[str, Any]) -> None:
    """One signed POST; what the gateway did not take is tried again."""
    messages.send(payload["message_id"])
