"""The viewer beside the report, key images, images that came late."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from hub.accounts.roles import Role
from hub.exams.states import State
from hub.reports.policy import AMENDABLE, MAX_KEY_IMAGES
from hub.web.reading.panel import Panel


def values(panel: Panel) -> dict[str, Any]:
    """The viewer's address, and for the script what it opens with."""
    exam, shown = panel.exam, panel.shown
    uids = [study.uid for study in panel.studies]
    # A report with key images opens at its first one.
    key_image = next((str(one["sop_uid"]) for one in (shown.key_images if shown else []) if one.get("sop_uid")), "")
    return {
        "viewer_search": viewer_search(uids, panel.locale, key_image),
        "may_see_late": panel.same_hospital
        and State(exam.state) in AMENDABLE
        and panel.actor.has(Role.REPORTER, Role.REVIEWER),
        "data": {
            "studies": uids,
            "opening": {"initialSopInstanceUid": key_image},
            "at_most": MAX_KEY_IMAGES,
        },
    }


def viewer_search(studies: list[str], locale: str, key_image: str) -> str:
    """The query with which the frame opens, spelled as the page's script spells it (`viewerSearch`)."""
    asked = {"StudyInstanceUIDs": ",".join(studies), "lng": locale, "initialSopInstanceUid": key_image}
    return "?" + urlencode({name: value for name, value in asked.items() if value}) if studies else ""
