"""What pages show of image scores: the card on an exam's page."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.accounts.roles import Permission as P
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.i18n import translate
from hub.reading.scoring import service
from hub.reading.scoring.catalogue import ARTEFACTS, GRADE_NOTES, GRADES, REASONS, reasons_for
from hub.web.pages import can


def card(session: Session, actor: Actor, exam: Exam, studies: list[dict[str, Any]], locale: str) -> dict[str, Any]:
    """The judgement of an exam's images for its page, and the form for who may judge.

    Args:
        session: A session.
        actor: Who looks; he was allowed the exam.
        exam: The exam.
        studies: As the page has them: `series` with `images` of `id` and `number`.
        locale: His language.
    """
    named = actor.has(Role.REPORTER, Role.REVIEWER, *COUNTY_WIDE_ROLES)
    own = exam.org_id == actor.org_id and can(actor, P.SCORE_OWN)
    may = can(actor, P.SCORE_GIVE) and service.may_score(actor, exam)
    rows = service.history(session, exam.id) if named or own else []
    current = next((row for row in rows if row.replaced_at is None), None)
    numbers = {
        image["id"]: image["number"] or at + 1
        for study in studies
        for item in study["series"]
        for at, image in enumerate(item["images"])
    }
    return {
        "shown": may or current is not None,
        "may": may,
        "named": named,
        "current": current,
        "former": [row for row in rows if row.replaced_at is not None] if named else [],
        "grades": GRADES,
        "grade_notes": GRADE_NOTES,
        "artefacts": ARTEFACTS,
        "reasons": reasons_for(exam.modality),
        "all_reasons": REASONS,
        "numbers": numbers,
        "data": {
            "exam": exam.id,
            "number": current.number if current else 0,
            "examples": current.examples if current else [],
            "images": [
                [image["id"], image["number"] or at + 1, item["series"].description or item["series"].modality]
                for study in studies
                for item in study["series"]
                for at, image in enumerate(item["images"])
            ]
            if may
            else [],
            "grades": {code: translate(name, locale) for code, name in GRADES.items()},
        },
    }
