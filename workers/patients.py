"""Work on the county patient index, and clocks of what hangs on it."""

from __future__ import annotations

from typing import Any

from hub.exams import registration
from hub.kit.db import database
from hub.patients import links
from hub.reports.recognition import service as recognition
from workers.registry import handler, periodic


@handler(links.SUGGEST_JOB)
def suggest(payload: dict[str, Any]) -> None:
    """Note who else has a patient's name and birth date."""
    with database().writing() as session:
        links.suggest(session, payload["patient_id"])


@handler(links.CHANGED_JOB)
def changed(payload: dict[str, Any]) -> None:
    """Tell open pages that patients stand under another county patient, or are corrected."""
    with database().writing() as session:
        registration.patients_changed(session, payload["patients"])


@periodic("recognition.lapse", every=60)
def lapse() -> None:
    """Shut offers of mutual recognition whose time ran out."""
    with database().writing() as session:
        recognition.lapse(session)
