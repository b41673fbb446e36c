"""Tables of organisations."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default


class OrgKind(StrEnum):
    """What an organisation is to the county."""

    CLINIC = "clinic"
    HOSPITAL = "hospital"
    TERTIARY = "tertiary"
    HUB = "hub"


class Organisation(Base):
    """A clinic, county hospital, supporting hospital, or the hub's own office.

    `issuer` is the IssuerOfPatientID under which its PatientIDs are qualified outside it.
    `policy` of a reading hospital: `double_signature` (bool), see hub.reports.service.
    """

    __tablename__ = "organisation"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    code: Mapped[str] = mapped_column(String(20), unique=True)
    name: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    kind: Mapped[str] = mapped_column(String(10))
    issuer: Mapped[str] = mapped_column(String(64), default="")
    phone: Mapped[str] = mapped_column(String(40), default="")
    policy: Mapped[dict[str, Any]] = mapped_column(default=dict)
    charset_hint: Mapped[str] = mapped_column(String(20), default="")
    sample: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]


class Agreement(Base):
    """A hospital reads for a clinic. The first by `rank` is where a new exam goes; without one, the shared pool."""

    __tablename__ = "agreement"
    __table_args__ = (UniqueConstraint("clinic_id", "hospital_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    clinic_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    rank: Mapped[int] = mapped_column(default=1)


class ApiKey(Base):
    """A machine's key. Only its SHA-256 is kept; `prefix` names it in lists."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    label: Mapped[str] = mapped_column(String(100), default="")
    prefix: Mapped[str] = mapped_column(String(12))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(26))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class Device(Base):
    """A machine that speaks DICOM's own protocol (DIMSE): known by its AE title, and where it comes from.

    `address` is an IP address or a network (CIDR), `certificate` the SHA-256 of its TLS certificate in hex; what is
    empty is not asked for. `host` and `port` are where it listens itself: the destination of C-MOVE and of
    storage commitment reports.
    """

    __tablename__ = "device"
    __table_args__ = (UniqueConstraint("aet", "address", "certificate"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    aet: Mapped[str] = mapped_column(String(16))
    address: Mapped[str] = mapped_column(String(43), default="")
    certificate: Mapped[str] = mapped_column(String(64), default="")
    stores: Mapped[bool] = mapped_column(default=True)
    queries: Mapped[bool] = mapped_column(default=False)
    host: Mapped[str] = mapped_column(String(255), default="")
    port: Mapped[int | None]
    tls: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(26))


class CountySetting(Base):
    """A setting that administrators change on a page (limits, working calendar, phrases), kept as JSON."""

    __tablename__ = "county_setting"

    name: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[dict[str, Any]]
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(26))
