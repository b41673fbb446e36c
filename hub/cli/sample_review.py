"""The sample county's second pair of eyes: a policy for each hospital, and reviewers who say what they think."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.reading.signatures import KEY
from hub.reports.review import keeping
from hub.sites.models import Organisation, OrgKind

STRICT = "H04"
POLICY: dict[str, Any] = {
    "preliminary": True,
    "preliminary_hours": [["18:00", "08:00"]],
    "random": {"CT": 0.2, "DX": 0.1},
    "targets": [{"rate": 1.0, "critical": True}],
}


def write() -> None:
    """A policy for every reading hospital that has none of its own."""
    with database().writing() as session:
        for org in session.scalars(
            select(Organisation).where(Organisation.sample, Organisation.kind == OrgKind.HOSPITAL)
        ):
            if KEY not in org.policy:
                # One of them asks for a grade of every report.
                policy = {**POLICY, "grade_required": org.code == STRICT}
                keeping.change(session, SYSTEM, org.id, policy, double=bool(org.policy.get("double_signature", True)))


def opinion(exam: dict[str, Any]) -> dict[str, Any]:
    """What a reviewer says of the author's text: mostly that he agrees."""
    number = sum(map(ord, str(exam.get("accession", ""))))
    if number % 5:
        return {"agreement": "agree"}
    return {"agreement": "minor", "significant": False, "note": "描述可以更具体:请写明范围和边界"}
