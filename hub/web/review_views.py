"""What pages show of reviews."""

from __future__ import annotations

from typing import Any

from hub.accounts.roles import Permission, permissions_of
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.reading.words import exam_words
from hub.reports.review import service


def open_conclusions(actor: Actor, locale: str) -> list[dict[str, Any]]:
    """Changed conclusions that the actor's clinic has not acknowledged, for the bar of each of its pages."""
    if Permission.REPORT_SEE not in permissions_of(actor.roles, actor.scopes):
        return []
    with database().reading() as session:
        if not service.open_changes(session, actor.org_id):
            return []
        changes = [row for row in service.changes_for(session, actor) if row.org_id == actor.org_id]
        exams = service.exams_of(session, changes)
        return [
            {
                "change": row,
                "patient": exams[row.exam_id].patient.name,
                "exam": exam_words(exams[row.exam_id], locale),
            }
            for row in changes
        ]
