"""The report's form: what can be put into it by a key."""

from __future__ import annotations

from typing import Any

from hub.exams.catalogue import BODY_PARTS
from hub.kit.i18n import translate
from hub.reports import templates
from hub.reports.schemas import template_of
from hub.reports.texts import phrases
from hub.reports.texts.fields import open_fields
from hub.reports.texts.initials import initials
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """Templates and phrases for the script, with the letters by which they are found."""
    session, actor, exam = panel.session, panel.actor, panel.exam
    offered = templates.for_exam(session, actor, exam) if panel.writes else []
    known = phrases.for_modality(session, actor, exam.modality) if panel.writes else []
    sex, years = exam.patient.sex, templates.years_of(exam)
    texts = [text for row in offered for text in (row.findings, row.impression, row.recommendation)]
    choices = {
        one for text in (*texts, *(row.text for row in known)) for field in open_fields(text) for one in field.choices
    }
    return {
        "data": {
            "templates": [
                {
                    **template_of(row).model_dump(),
                    "fits": templates.fits(row, sex, years),
                    "initials": initials(row.name),
                }
                for row in offered
            ],
            "normals": [row.id for row in templates.normals(offered, exam)],
            "phrases": [{"code": row.code, "text": row.text, "initials": initials(row.text[:12])} for row in known],
            "initials": {one: initials(one) for one in sorted(choices)},
            "body_parts": {
                row.body_part: translate(BODY_PARTS[row.body_part].name, panel.locale)
                if row.body_part in BODY_PARTS
                else row.body_part
                for row in offered
            },
        }
    }
