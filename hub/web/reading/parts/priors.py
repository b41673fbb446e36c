"""The county patient's earlier exams with their reports."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import select

from hub.exams.models import Exam
from hub.kit.i18n import format_time
from hub.kit.settings import get_settings
from hub.reading.words import exam_words
from hub.reports import repository
from hub.studies.models import ExamStudy, Study
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """`rows` for the pane, `data` for comparing images."""
    priors, session = panel.priors, panel.session
    reports = repository.signed_versions(session, [prior.id for prior in priors])
    studies: dict[str, list[str]] = {}
    if priors:
        for prior_id, uid in session.execute(
            select(ExamStudy.exam_id, Study.uid)
            .join(Study, Study.id == ExamStudy.study_id)
            .where(ExamStudy.exam_id.in_([prior.id for prior in priors]))
        ):
            studies.setdefault(prior_id, []).append(uid)
    return {
        "rows": [
            {
                "exam": prior,
                "title": exam_words(prior, panel.locale),
                "label": _label(prior, panel.locale),
                "clinic": prior.org.name_en if panel.english and prior.org.name_en else prior.org.name,
                "versions": reports.get(prior.id, []),
                "studies": studies.get(prior.id, []),
            }
            for prior in priors
        ],
        "data": [
            {"studies": studies[prior.id], "title": _label(prior, panel.locale)}
            for prior in priors
            if studies.get(prior.id)
        ],
    }


def _label(prior: Exam, locale: str) -> str:
    at = format_time(prior.exam_at or prior.registered_at, "date", ZoneInfo(get_settings().timezone))
    return f"{at} {exam_words(prior, locale)}"
