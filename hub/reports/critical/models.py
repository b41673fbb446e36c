"""Tables of critical values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.exams.models import Exam
from hub.kit.db import Base, Id, id_default
from hub.sites.models import Organisation

_OPEN = text("open_key IS NOT NULL")


class CriticalValue(Base):
    """One critical value of one exam; `state` (hub.reports.critical.states) is written by service.move alone.

    Its timers are `escalate_due` and `breach_due`, counted from `discovered_at`. `escalated_at` and `breached_at` say
    when the hub acted on them, which is later where no worker was alive.

    Of the acknowledgement, `received_*` is the clinic's side (`way`: on the page by the person himself, or by phone as
    the caller wrote it down), `confirmed_*` the reading side, who compared the read-back with the finding.

    `open_key` is `exam:class` while it is open and None afterwards: there is one open procedure of a class on an exam.
    `class_name` and `class_name_en` keep the names of a county's class as they were.
    """

    __tablename__ = "critical_value"
    __table_args__ = (
        Index("ix_critical_value_escalate", "state", "escalate_due"),
        Index("ix_critical_value_org", "org_id", "state"),
        Index("ix_critical_value_hospital", "hospital_id", "state"),
        Index("ix_critical_value_discovered", "discovered_at"),
        Index("ix_critical_value_open", "discovered_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_critical_value_org_discovered", "org_id", "discovered_at"),
        Index("ix_critical_value_hospital_discovered", "hospital_id", "discovered_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    version_id: Mapped[str | None] = mapped_column(ForeignKey("report_version.id"))
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    hospital_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    open_key: Mapped[str | None] = mapped_column(String(60), unique=True)
    state: Mapped[str] = mapped_column(String(12))
    version: Mapped[int] = mapped_column(Integer, default=1)

    class_code: Mapped[str] = mapped_column(String(30))
    class_name: Mapped[str] = mapped_column(String(60), default="")
    class_name_en: Mapped[str] = mapped_column(String(80), default="")
    national: Mapped[bool] = mapped_column(default=False)
    finding: Mapped[str] = mapped_column(Text)

    discovered_at: Mapped[datetime]
    flagged_at: Mapped[datetime]
    flagged_by: Mapped[str] = mapped_column(String(26))
    flagged_by_name: Mapped[str] = mapped_column(String(60), default="")
    escalate_due: Mapped[datetime]
    breach_due: Mapped[datetime]
    escalated_at: Mapped[datetime | None]
    breached_at: Mapped[datetime | None]

    received_at: Mapped[datetime | None]
    received_by: Mapped[str | None] = mapped_column(String(26))
    received_by_name: Mapped[str] = mapped_column(String(60), default="")
    received_role: Mapped[str] = mapped_column(String(60), default="")
    read_back: Mapped[str] = mapped_column(Text, default="")
    way: Mapped[str] = mapped_column(String(8), default="")
    confirmed_at: Mapped[datetime | None]
    confirmed_by: Mapped[str | None] = mapped_column(String(26))
    confirmed_by_name: Mapped[str] = mapped_column(String(60), default="")
    acted_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    closed_by_name: Mapped[str] = mapped_column(String(60), default="")
    withdrawn_at: Mapped[datetime | None]
    withdrawn_by_name: Mapped[str] = mapped_column(String(60), default="")
    withdraw_reason: Mapped[str] = mapped_column(String(400), default="")
    withdrawal_seen_at: Mapped[datetime | None]

    exam: Mapped[Exam] = relationship(lazy="joined")
    org: Mapped[Organisation] = relationship(foreign_keys=[org_id], lazy="joined")
    hospital: Mapped[Organisation] = relationship(foreign_keys=[hospital_id], lazy="joined")


class CriticalEntry(Base):
    """One line of a critical value's record; never changed.

    `event` is an event of the state machine, "flag" or "call". `at` is when it was written down; where a timer had run
    out before, `detail["due"]` says when.
    """

    __tablename__ = "critical_entry"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    critical_id: Mapped[str] = mapped_column(ForeignKey("critical_value.id"), index=True)
    at: Mapped[datetime]
    event: Mapped[str] = mapped_column(String(20))
    state: Mapped[str] = mapped_column(String(12))
    actor_id: Mapped[str] = mapped_column(String(26))
    actor_name: Mapped[str] = mapped_column(String(100), default="")
    org_id: Mapped[str | None] = mapped_column(String(26))
    text: Mapped[str] = mapped_column(Text, default="")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)


class CriticalContact(Base):
    """Whom to ring: a clinic's contacts in their order, or the duty officers of a hospital or of the county (the hub).

    `days` are weekdays (0 Monday) and `begins`–`ends` local times `HH:MM`; both empty: at any time. An end before the
    beginning is on the next morning.
    """

    __tablename__ = "critical_contact"
    __table_args__ = (Index("ix_critical_contact_org", "org_id", "position"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    position: Mapped[int] = mapped_column(Integer, default=1)
    name: Mapped[str] = mapped_column(String(60))
    role: Mapped[str] = mapped_column(String(60), default="")
    phone: Mapped[str] = mapped_column(String(40))
    days: Mapped[list[int]] = mapped_column(default=list)
    begins: Mapped[str] = mapped_column(String(5), default="")
    ends: Mapped[str] = mapped_column(String(5), default="")
    changed_at: Mapped[datetime]
    changed_by_name: Mapped[str] = mapped_column(String(60), default="")


class OutsideMessage:
    """A message to the outside (SMS or phone gateway): `state` is "queued", "sent", "failed" or "skipped".

    *Sent* says that the gateway took it, and nothing about a person.
    """

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    level: Mapped[str] = mapped_column(String(12))
    body: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(8), default="queued")
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    status: Mapped[int | None]
    error: Mapped[str] = mapped_column(String(200), default="")
    queued_at: Mapped[datetime]
    tried_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]


class CriticalMessage(OutsideMessage, Base):
    """A message to the outside about a critical value."""

    __tablename__ = "critical_message"

    critical_id: Mapped[str] = mapped_column(ForeignKey("critical_value.id"), index=True)
