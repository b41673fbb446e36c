"""Tables of review."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.kit.db import Base, Id, id_default
from hub.reports.critical.models import OutsideMessage
from hub.reports.models import ReportVersion

_UNREAD = text("author_seen_at IS NULL")


class Review(Base):
    """What a reviewer thought of the author's text, beside the version that he signed.

    Written while he reviews, by nobody else; final with his signature (`signed_at`), and from then on the author's to
    read: `author_seen_at` is when he did. `agreement` and `significant` give `radpeer`
    (hub.reports.review.grades). `submitted` is the author's text as it came, `changed` the fields that the
    signed text has otherwise.
    """

    __tablename__ = "review"
    __table_args__ = (
        UniqueConstraint("version_id", "reviewer_id"),
        Index("ix_review_author", "author_id", "signed_at"),
        Index("ix_review_signed", "signed_at"),
        Index("ix_review_unread", "author_id", "signed_at", sqlite_where=_UNREAD, postgresql_where=_UNREAD),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    author_id: Mapped[str] = mapped_column(String(26))
    author_name: Mapped[str] = mapped_column(String(60), default="")
    reviewer_id: Mapped[str] = mapped_column(String(26))
    reviewer_name: Mapped[str] = mapped_column(String(60), default="")
    agreement: Mapped[str] = mapped_column(String(10), default="")
    significant: Mapped[bool | None]
    radpeer: Mapped[str] = mapped_column(String(2), default="")
    note: Mapped[str] = mapped_column(Text, default="")
    conclusion_changed: Mapped[bool | None]
    conclusion_note: Mapped[str] = mapped_column(Text, default="")
    conclusion_confirmed: Mapped[bool] = mapped_column(default=False)
    submitted: Mapped[dict[str, Any]] = mapped_column(default=dict)
    changed: Mapped[list[str]] = mapped_column(default=list)
    saved_at: Mapped[datetime]
    signed_at: Mapped[datetime | None]
    author_seen_at: Mapped[datetime | None]

    version: Mapped[ReportVersion] = relationship()


class ConclusionChange(Base):
    """The formal report says something else than the preliminary one: the clinic must acknowledge it by name.

    `state` (hub.reports.review.states): open → escalated → breached, acknowledged from each. `differences` lists what
    the hub itself found (`impression`, `positive`, `critical`), `statement` what the reviewer said of it.

    Its timers are `escalate_due` and `breach_due`; `escalated_at` and `breached_at` say when the hub acted on them,
    which is later where no worker was alive. `rung` lists who was to be rung: `{level, at, due, contacts}`.
    `hospital_id` is the hospital that signed.
    """

    __tablename__ = "conclusion_change"
    __table_args__ = (
        Index("ix_conclusion_change_open", "org_id", "state"),
        Index("ix_conclusion_change_due", "state", "escalate_due"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    preliminary_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), unique=True)
    state: Mapped[str] = mapped_column(String(12), default="open")
    differences: Mapped[list[str]]
    statement: Mapped[str] = mapped_column(Text, default="")
    opened_at: Mapped[datetime]
    opened_by_name: Mapped[str] = mapped_column(String(60), default="")
    hospital_id: Mapped[str | None] = mapped_column(String(26))
    escalate_due: Mapped[datetime]
    breach_due: Mapped[datetime]
    escalated_at: Mapped[datetime | None]
    breached_at: Mapped[datetime | None]
    rung: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None] = mapped_column(String(26))
    acknowledged_by_name: Mapped[str] = mapped_column(String(60), default="")
    note: Mapped[str] = mapped_column(Text, default="")

    preliminary: Mapped[ReportVersion] = relationship(foreign_keys=[preliminary_id], lazy="joined", innerjoin=True)
    version: Mapped[ReportVersion] = relationship(foreign_keys=[version_id], lazy="joined", innerjoin=True)


class ConclusionMessage(OutsideMessage, Base):
    """A message to the outside about a changed conclusion; see hub.reports.critical.messages."""

    __tablename__ = "conclusion_message"

    change_id: Mapped[str] = mapped_column(ForeignKey("conclusion_change.id"), index=True)


class Arbitration(Base):
    """A significant disagreement, and who decided it. `state` (hub.reports.review.states): open → decided.

    `source` is "review" or "peer"; `source_id` that row. `first_id` wrote the report, `second_id` disagreed.
    """

    __tablename__ = "arbitration"
    __table_args__ = (
        UniqueConstraint("source", "source_id"),
        Index("ix_arbitration_state", "state", "opened_at"),
        Index("ix_arbitration_first", "first_id"),
        Index("ix_arbitration_second", "second_id"),
        Index("ix_arbitration_arbiter", "arbiter_id"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    source: Mapped[str] = mapped_column(String(8))
    source_id: Mapped[str] = mapped_column(String(26))
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    first_id: Mapped[str] = mapped_column(String(26))
    second_id: Mapped[str] = mapped_column(String(26))
    arbiter_id: Mapped[str] = mapped_column(String(26), default="")
    state: Mapped[str] = mapped_column(String(10), default="open")
    opened_at: Mapped[datetime]
    decision: Mapped[str] = mapped_column(String(10), default="")
    radpeer: Mapped[str] = mapped_column(String(2), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(String(26))
    decided_by_name: Mapped[str] = mapped_column(String(60), default="")
    first_seen_at: Mapped[datetime | None]
    second_seen_at: Mapped[datetime | None]

    version: Mapped[ReportVersion] = relationship()


class PeerDraw(Base):
    """That a signed version was considered for reading again, once, at the rate of that moment.

    `share` is what was drawn (0 ≤ share < 1): a keyed hash of the version, so the same each time and not to be known
    beforehand by anybody. The version was taken where it is below `rate`; the rule that took it is `rule`.
    """

    __tablename__ = "peer_draw"

    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), primary_key=True)
    at: Mapped[datetime]
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    modality: Mapped[str] = mapped_column(String(4))
    share: Mapped[float]
    rate: Mapped[float]
    rule: Mapped[str] = mapped_column(String(10), default="")
    taken: Mapped[bool]


class PeerReview(Base):
    """A signed report that is read again, blindly. `state`: hub.reports.review.states.PeerState.

    The second reader writes his own `verdict` before he is shown the report; then he grades it. Declining and running
    out of time give it to somebody else (`passed` holds who had it before).
    """

    __tablename__ = "peer_review"
    __table_args__ = (
        Index("ix_peer_review_reader", "reader_id", "state", "graded_at"),
        Index("ix_peer_review_state", "state", "due_at"),
        Index("ix_peer_review_graded", "state", "graded_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), unique=True)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    modality: Mapped[str] = mapped_column(String(4))
    rule: Mapped[str] = mapped_column(String(10))
    state: Mapped[str] = mapped_column(String(10), default="waiting")
    drawn_at: Mapped[datetime]
    reader_id: Mapped[str | None] = mapped_column(String(26))
    reader_name: Mapped[str] = mapped_column(String(60), default="")
    reader_org_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    assigned_at: Mapped[datetime | None]
    due_at: Mapped[datetime | None]
    passed: Mapped[list[str]] = mapped_column(default=list)
    verdict: Mapped[str] = mapped_column(Text, default="")
    verdict_positive: Mapped[bool | None]
    verdict_at: Mapped[datetime | None]
    agreement: Mapped[str] = mapped_column(String(10), default="")
    significant: Mapped[bool | None]
    radpeer: Mapped[str] = mapped_column(String(2), default="")
    note: Mapped[str] = mapped_column(Text, default="")
    graded_at: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(String(400), default="")

    version: Mapped[ReportVersion] = relationship()
