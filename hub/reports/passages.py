"""Passages that a reviewer marked when he sent a report back: what stands there, and what is wrong with it.

The places are those of the text as it was rejected. While its author writes, they move; the quoted words find them
again, and a passage whose words are gone is shown as changed. The author ticks them off one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import CursorResult, ForeignKey, Index, String, Text, select, update
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.audit import service as audit
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.db import Base, Id, id_default
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.reading import service as reading
from hub.reports import repository
from hub.reports.models import ReportVersion
from hub.reports.states import OPEN

FIELDS: dict[str, Message] = {
    "technique": _("检查技术"),
    "comparison": _("对比"),
    "findings": _("检查所见"),
    "impression": _("诊断意见"),
    "recommendation": _("建议"),
}
MAX_PASSAGES = 30
MAX_QUOTED = 1000
MAX_COMMENT = 400


class ReviewPassage(Base):
    """A marked passage: `quoted` stood in `field` from `start` to `end` (characters) at `revision` of the version.

    Written once. Only `resolved_*` is added later, by whoever writes the draft, and only once.
    """

    __tablename__ = "review_passage"
    __table_args__ = (Index("ix_review_passage_version", "version_id", "id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    revision: Mapped[int]
    field: Mapped[str] = mapped_column(String(20))
    start: Mapped[int]
    end: Mapped[int]
    quoted: Mapped[str] = mapped_column(Text)
    comment: Mapped[str] = mapped_column(Text, default="")
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    person_name: Mapped[str] = mapped_column(String(100), default="")
    resolved_at: Mapped[datetime | None]
    resolved_by: Mapped[str] = mapped_column(String(26), default="")
    resolved_name: Mapped[str] = mapped_column(String(100), default="")


@dataclass(frozen=True, slots=True)
class Marked:
    """A passage as the reviewer's page sends it."""

    field: str
    start: int
    end: int
    comment: str = ""


def passages_note(marked: Sequence[Marked]) -> str:
    """The note of a rejection that says nothing beside its passages."""
    comments = list(dict.fromkeys(one.comment.strip() for one in marked if one.comment.strip()))
    return ";".join(comments)[:400] or f"标出 {len(marked)} 处,请核对"


def mark(session: Session, actor: Actor, version: ReportVersion, marked: Sequence[Marked]) -> list[ReviewPassage]:
    """Keep the passages of a rejection. The version must be locked; its text is the one that they speak of.

    Raises:
        Invalid: A place outside its text, an empty one, or too many.
    """
    if len(marked) > MAX_PASSAGES:
        raise Invalid(_("一次最多标出 {n} 处").format(n=MAX_PASSAGES), code="too-many-passages")
    now = clock.now()
    rows: list[ReviewPassage] = []
    for number, one in enumerate(marked):
        text = str(getattr(version, one.field)) if one.field in FIELDS else ""
        if not 0 <= one.start < one.end <= len(text) or one.end - one.start > MAX_QUOTED:
            raise Invalid(fields={f"passages.{number}": _("标出的文字不在报告中,请刷新后重新标出")})
        if len(one.comment) > MAX_COMMENT:
            raise Invalid(fields={f"passages.{number}": _("最多 {n} 个字").format(n=MAX_COMMENT)})
        rows.append(
            ReviewPassage(
                id=new_id(),
                version_id=version.id,
                revision=version.revision,
                field=one.field,
                start=one.start,
                end=one.end,
                quoted=text[one.start : one.end],
                comment=one.comment.strip(),
                at=now,
                person_id=actor.id,
                person_name=actor.name,
            )
        )
    session.add_all(rows)
    session.flush()
    return rows


def of_version(session: Session, version_id: str) -> list[ReviewPassage]:
    """All passages of a version: rejection by rejection, each in the order of the report."""
    rows = session.scalars(
        select(ReviewPassage).where(ReviewPassage.version_id == version_id).execution_options(populate_existing=True)
    )
    place = list(FIELDS)
    return sorted(rows, key=lambda row: (row.at, place.index(row.field), row.start, row.id))


def get(session: Session, actor: Actor, version_id: str) -> list[ReviewPassage]:
    """The passages of a version, for readers.

    Raises:
        NotFound: The version is not the actor's to know, or he is of a clinic: this is among readers.
    """
    version, _report, exam = repository.get_version(session, actor, version_id)
    if not repository.may_see_drafts(actor, exam):
        raise NotFound(_("没有找到这份报告"))
    return of_version(session, version.id)


def resolve(session: Session, actor: Actor, passage_id: str) -> ReviewPassage:
    """Tick a passage off. Twice is once.

    Raises:
        NotFound: There is none that the actor may know.
        Forbidden: Another hospital's report.
        Conflict: The report is signed or given up.
    """
    row = session.get(ReviewPassage, passage_id)
    if row is None:
        raise NotFound(_("没有找到这处意见"))
    _version, _report, known = repository.get_version(session, actor, row.version_id)
    if not repository.may_see_drafts(actor, known):
        raise NotFound(_("没有找到这处意见"))
    exam = reading.locked(session, actor, known.id)
    if exam.reading_org_id != actor.org_id:
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    version = session.get_one(ReportVersion, row.version_id, populate_existing=True)
    if version.state not in OPEN:
        raise Conflict(_("这份报告已经不能修改"), code="wrong-state", state=version.state)
    result = session.execute(
        update(ReviewPassage)
        .where(ReviewPassage.id == row.id, ReviewPassage.resolved_at.is_(None))
        .values(resolved_at=clock.now(), resolved_by=actor.id, resolved_name=actor.name)
        .execution_options(synchronize_session=False)
    )
    session.refresh(row)
    if isinstance(result, CursorResult) and result.rowcount == 1:
        audit.record(
            session,
            actor,
            "report.passage-resolved",
            "report_version",
            version.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            exam=exam.id,
            passage=row.id,
        )
        live.publish(
            session, "draft", exam.id, orgs=[exam.reading_org_id or "shared"], event="passage", version_id=version.id
        )
    return row
