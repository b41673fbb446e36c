"""Tables of the checks."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default

_STANDING = text("withdrawn_at IS NULL")


class CheckOverride(Base):
    """A doctor's answer to a warning: he has looked, and says why the text stands.

    `fingerprint` names the finding by check, field and passage, so that the answer holds while the passage stays.
    `why` is a key of `catalogue.WHY`. One that was taken back keeps its row.
    """

    __tablename__ = "report_check_override"
    __table_args__ = (
        Index(
            "uq_report_check_override_standing",
            "version_id",
            "fingerprint",
            unique=True,
            sqlite_where=_STANDING,
            postgresql_where=_STANDING,
        ),
        Index("ix_report_check_override_at", "at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), index=True)
    revision: Mapped[int]
    fingerprint: Mapped[str] = mapped_column(String(24))
    code: Mapped[str] = mapped_column(String(24))
    field: Mapped[str] = mapped_column(String(16), default="")
    passage: Mapped[str] = mapped_column(Text, default="")
    why: Mapped[str] = mapped_column(String(12))
    reason: Mapped[str] = mapped_column(String(400), default="")
    person_id: Mapped[str] = mapped_column(String(26))
    person_name: Mapped[str] = mapped_column(String(60), default="")
    at: Mapped[datetime]
    withdrawn_at: Mapped[datetime | None]
