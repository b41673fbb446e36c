"""Links from a report's text to the images it was measured on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Invalid
from hub.kit.i18n import _
from hub.reports.models import ReportLink, ReportVersion
from hub.reports.review.diff import FIELDS

MAX_LINKS = 200
MAX_ANNOTATION = 64 * 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A place in the images: `annotation` is what the viewer draws there again."""

    kind: str
    label: str
    study_uid: str
    series_uid: str = ""
    sop_uid: str = ""
    frame: int | None = None
    annotation: dict[str, Any] | None = None


def add(session: Session, actor: Actor, version: ReportVersion, target: Target) -> None:
    """Link a piece of a version's text with a place in its exam's images; the same link again is brought up to date.

    Raises:
        Invalid: No label, or too much of it.
    """
    if not target.label.strip() or len(target.label) > 200:
        raise Invalid(fields={"label": _("链接的文字应为 1 到 200 个字")})
    if target.annotation is not None and len(json.dumps(target.annotation)) > MAX_ANNOTATION:
        raise Invalid(fields={"annotation": _("标注太大")})
    known = list(version.links)
    key = (target.kind, target.label, target.sop_uid)
    row = next((link for link in known if (link.kind, link.label, link.sop_uid) == key), None)
    if row is None:
        if len(known) >= MAX_LINKS:
            raise Invalid(_("一份报告最多 {n} 个链接").format(n=MAX_LINKS))
        row = ReportLink(version_id=version.id, kind=target.kind, label=target.label)
        session.add(row)
    row.study_uid, row.series_uid, row.sop_uid = target.study_uid, target.series_uid, target.sop_uid
    row.frame, row.annotation = target.frame, target.annotation
    row.at, row.person_id = clock.now(), actor.id
    session.flush()
    session.expire(version, ["links"])


def carry(session: Session, base: ReportVersion, version: ReportVersion) -> None:
    """The links of a version's text come along into one that begins with its words."""
    for link in base.links:
        names = ("kind", "label", "study_uid", "series_uid", "sop_uid", "frame", "annotation", "at", "person_id")
        session.add(ReportLink(version_id=version.id, **{name: getattr(link, name) for name in names}))


def standing(version: ReportVersion) -> list[ReportLink]:
    """The links whose text still stands somewhere in the version."""
    texts = [getattr(version, name) for name in FIELDS]
    return [link for link in version.links if any(link.label in text for text in texts)]
