"""The last reports of the patient beside the one that is written, to compare with and to copy from."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from hub.kit.i18n import format_time
from hub.kit.settings import get_settings
from hub.reading.words import exam_words
from hub.reports import repository
from hub.reports.service import TEXTS
from hub.web.reading.panel import Panel

AT_MOST = 12


def values(panel: Panel) -> dict[str, Any]:
    """The signed reports of earlier exams, newest first; of the exam's modality before others."""
    if not panel.writes:
        return {"any": False, "data": {"reports": []}}
    reports = repository.signed_versions(panel.session, [prior.id for prior in panel.priors])
    zone = ZoneInfo(get_settings().timezone)
    found = [
        {
            "version_id": reports[prior.id][0].id,
            "title": f"{format_time(prior.exam_at or prior.registered_at, 'date', zone)} "
            f"{exam_words(prior, panel.locale)}",
            "clinic": prior.org.name_en if panel.english and prior.org.name_en else prior.org.name,
            "same": prior.modality == panel.exam.modality and bool(set(prior.body_parts) & set(panel.exam.body_parts)),
            "texts": {name: getattr(reports[prior.id][0], name) for name in TEXTS},
        }
        for prior in panel.priors
        if reports.get(prior.id)
    ]
    found.sort(key=lambda one: not one["same"])
    return {"any": bool(found), "data": {"reports": found[:AT_MOST]}}
