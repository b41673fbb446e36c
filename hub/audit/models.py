"""Tables of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base


class AuditEntry(Base):
    """Who did what to whose data, when, from where. Only appended, in the transaction of the deed.

    `seal_no` and `seal` are set once by the sealer, which chains the entries; see hub.audit.seal.
    """

    __tablename__ = "audit_entry"
    __table_args__ = (
        Index("ix_audit_entry_object", "object_type", "object_id"),
        Index("ix_audit_entry_unsealed", "seal_no"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor_kind: Mapped[str] = mapped_column(String(10))
    actor_id: Mapped[str] = mapped_column(String(26), index=True)
    actor_name: Mapped[str] = mapped_column(String(100), default="")
    actor_org_id: Mapped[str | None] = mapped_column(String(26))
    ip: Mapped[str] = mapped_column(String(45), default="")
    action: Mapped[str] = mapped_column(String(60), index=True)
    object_type: Mapped[str] = mapped_column(String(30))
    object_id: Mapped[str] = mapped_column(String(80))
    org_id: Mapped[str | None] = mapped_column(String(26), index=True)
    patient_id: Mapped[str | None] = mapped_column(String(26), index=True)
    detail: Mapped[dict[str, Any]]
    seal_no: Mapped[int | None] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), unique=True)
    seal: Mapped[str | None] = mapped_column(String(64))
