"""Tables of what goes home."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.kit.db import Base, Id, id_default
from hub.reports.models import ReportVersion


class Delivery(Base):
    """One signed version on its way to one organisation. `state` (hub.delivery.states): queued → delivered → seen.

    *Delivered* means that the report lies in the clinic's inbox; *seen* that a person of the clinic opened it.
    """

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("version_id", "org_id"),
        Index("ix_delivery_inbox", "org_id", "state", "delivered_at"),
        Index("ix_delivery_org_delivered", "org_id", "delivered_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    state: Mapped[str] = mapped_column(String(10), default="queued")
    queued_at: Mapped[datetime]
    delivered_at: Mapped[datetime | None]
    seen_at: Mapped[datetime | None]
    seen_by: Mapped[str | None] = mapped_column(String(26))
    seen_by_name: Mapped[str] = mapped_column(String(60), default="")

    version: Mapped[ReportVersion] = relationship(lazy="joined")
