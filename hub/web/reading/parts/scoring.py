"""The quality of the images: one key says that they are good, another opens the form."""

from __future__ import annotations

from typing import Any

from hub.kit.i18n import translate
from hub.reading.scoring import service
from hub.reading.scoring.catalogue import ARTEFACTS, GRADE_NOTES, GRADES, reasons_for
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The judgement that stands, and what may be said of this modality's images."""
    current = service.current(panel.session, panel.exam.id)
    return {
        "may": service.may_score(panel.actor, panel.exam),
        "current": current,
        "name": GRADES[current.grade] if current else None,
        "data": {
            "number": current.number if current else 0,
            "grade": current.grade if current else "",
            "artefact": current.artefact if current else "none",
            "reasons": current.reasons if current else [],
            "note": current.note if current else "",
            "examples": current.examples if current else [],
            "grades": {
                code: [translate(name, panel.locale), translate(GRADE_NOTES[code], panel.locale)]
                for code, name in GRADES.items()
            },
            # Pairs: the keys of an object lose their order on the way to the script.
            "artefacts": [[code, translate(name, panel.locale)] for code, name in ARTEFACTS.items()],
            "options": [
                [code, translate(reason.name, panel.locale), translate(reason.advice, panel.locale)]
                for code, reason in reasons_for(panel.exam.modality).items()
            ],
        },
    }
