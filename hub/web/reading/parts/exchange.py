"""What goes to and fro between reader and clinic: the thread, questions, returns for retake, void exams."""

from __future__ import annotations

from typing import Any

from hub.reading.conversation import words
from hub.web import conversation
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The thread, the exam's retakes, and the county's reasons and questions for the dialogs."""
    talk = conversation.values_of(panel.request, panel.session, panel.actor, panel.exam)
    last = next((one for one in reversed(talk["lines"]) if one["line"].side == "clinic"), None)
    answered = last if last and last["line"].kind in ("history_answered", "retake_declined") else None
    rules = words.load(panel.session)
    return {
        "talk": talk,
        "answered": answered,
        "data": {
            "unread": talk["unread"],
            "reasons": [{"code": code, "name": name} for code, name in talk["reasons"]],
            "questions": list(rules.questions),
            "patient": panel.exam.patient.name,
        },
    }
