"""Routing of exams that enter the queue, what follows when nobody answers, alerts of limits, rebalancing."""

from __future__ import annotations

from typing import Any

from hub.kit.db import database
from hub.reading.routing import alerts, balance, service
from workers.registry import handler, periodic


@handler(service.JOB)
def route(payload: dict[str, Any]) -> None:
    """Decide where an exam that waits to be read goes."""
    with database().writing() as session:
        service.route(session, payload["exam_id"])


@periodic("routing.answers", every=15)
def ask_next() -> None:
    """Ask the next hospital for exams that nobody answered; each in a transaction of its own."""
    with database().reading() as session:
        waiting = service.overdue_answers(session)
    for exam_id in waiting:
        with database().writing() as session:
            service.ask_next(session, exam_id)


@periodic("routing.alerts", every=15)
def raise_alerts() -> None:
    """Alerts at 50, 80 and 100 percent of the limits."""
    with database().writing() as session:
        alerts.watch(session)
    with database().writing() as session:
        alerts.raise_due(session)
        alerts.close_done(session)


@periodic("routing.balance", every=60)
def rebalance() -> None:
    """Move waiting exams away from a hospital that falls behind, where the county wants it done by itself."""
    with database().writing() as session:
        balance.automatic(session)
