"""The second pair of eyes on the reading page: the author's words, the reviewer's grade, the preliminary report."""

from __future__ import annotations

from typing import Any

from hub.exams.states import State
from hub.kit import clock
from hub.reading.policy import may_issue_preliminary
from hub.reading.signatures import policy_of
from hub.reports import repository
from hub.reports.review import service
from hub.reports.review.grades import AGREEMENT_NAMES
from hub.reports.review.schemas import review_answer
from hub.reports.states import VersionState
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The author's text as he submitted it, what the reviewer has said of it, and what the clinic has already."""
    version, actor = panel.version, panel.actor
    reviewing = panel.mode in ("review", "amend-review") and version is not None
    original = service.submitted_text(panel.session, version) if reviewing and version is not None else None
    own = version is not None and version.author_id == actor.id
    preliminary = repository.preliminary_of(panel.session, panel.report.id) if panel.report is not None else None
    row = service.review_of(panel.session, version.id, actor.id) if version is not None and panel.writes else None
    signs = panel.writes and version is not None and version.kind == "original"
    before = (
        {"id": preliminary.id, **{name: getattr(preliminary, name) for name in service.CONCLUSION_NAMES}}
        if preliminary is not None
        else None
    )
    return {
        "original": original,
        "author": version.author_name if version is not None else "",
        "grades": reviewing and not own,
        "grade_required": policy_of(panel.exam.reading_org).grade_required,
        "agreements": AGREEMENT_NAMES,
        "preliminary": preliminary,
        "states_conclusion": preliminary is not None and signs,
        "may_issue": panel.mode == "edit" and may_issue_preliminary(panel.exam, actor.id, clock.now()),
        "may_withdraw": version is not None
        and version.state == VersionState.SUBMITTED
        and own
        and (panel.exam.state in (State.TO_REVIEW, State.PRELIMINARY) or version.kind != "original"),
        "data": {
            "original": original,
            "grades": reviewing and not own,
            "required": reviewing and not own and policy_of(panel.exam.reading_org).grade_required,
            "mine": review_answer(row).model_dump(mode="json") if row is not None else None,
            "preliminary": before if signs else None,
        },
    }
