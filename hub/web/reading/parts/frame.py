"""What all parts see: whose exam it is, in words, and the version that is shown."""

from __future__ import annotations

from typing import Any

from hub.accounts.roles import Role
from hub.exams.catalogue import ENCOUNTERS, PREGNANCY
from hub.patients.models import CountyPatient
from hub.reading import service as reading
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports.schemas import version_of
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The names without a prefix; `data` is the script's `page.exam`."""
    exam, locale, shown = panel.exam, panel.locale, panel.shown
    county = panel.session.get_one(CountyPatient, exam.patient.county_patient_id)
    title, age, sex = exam_words(exam, locale), age_words(exam, locale), sex_words(exam.patient.sex, locale)
    return {
        "exam": exam,
        "mode": panel.mode,
        "writes": panel.writes,
        "shown": shown,
        "report": panel.report,
        "age": age,
        "sex": sex,
        "title": title,
        "clinic": exam.org.name_en if panel.english and exam.org.name_en else exam.org.name,
        "encounter": ENCOUNTERS.get(exam.encounter),
        "pregnancy": PREGNANCY.get(exam.pregnancy),
        "county_number": county.number,
        "author": panel.version.author_name if panel.version else panel.names.get(exam.author_id or "", ""),
        "data": {
            "exam_id": exam.id,
            "accession": exam.accession,
            "state": exam.state,
            "mode": panel.mode,
            "modality": exam.modality,
            "main_part": exam.body_parts[0] if exam.body_parts else "",
            "county_number": county.number,
            "version": version_of(shown, panel.report, exam).model_dump(mode="json")
            if shown and panel.report
            else None,
            "patient": f"{exam.patient.name} {sex} {age}",
            "exam": title,
            "person": panel.actor.id,
            "claimable": reading.may_claim(exam, panel.actor) and panel.actor.has(Role.REPORTER, Role.REVIEWER),
        },
    }
