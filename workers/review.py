"""Reading again after signing, and the timers of changed conclusions with their messages to the county's gateway."""

from __future__ import annotations

from typing import Any

from hub.kit.db import database
from hub.reports.critical.moment import now
from hub.reports.review import alarms, peer
from workers.registry import handler, periodic


@periodic("review.peer", every=60)
def peer_review() -> None:
    """Each step in its own transaction: what one has done stays, whatever becomes of the next."""
    for step in (peer.expire, peer.draw, peer.assign):
        with database().writing() as session:
            step(session)


@periodic("review.conclusions", every=15)
def sweep_conclusions() -> None:
    """Ring the second contact and the duty officer where no clinic acknowledged a changed conclusion.

    Each in a transaction of its own: one that cannot be done must not keep the others from being rung.
    """
    with database().reading() as session:
        due = alarms.due(session, now(session))
    problem: Exception | None = None
    for change_id in due:
        try:
            with database().writing() as session:
                alarms.sweep_one(session, change_id)
        except Exception as error:
            problem = problem or error
    if problem is not None:
        raise problem


@handler(alarms.JOB)
def send_conclusion_message(payload: dict[str, Any]) -> None:
    """One signed POST; what the gateway did not take is tried again."""
    alarms.send(payload["message_id"])
