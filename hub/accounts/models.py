"""Tables of people and their sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default


class Person(Base):
    """Somebody who logs in. `roles` holds codes of hub.accounts.roles.Role; one person may hold several."""

    __tablename__ = "person"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"), index=True)
    login: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(String(60))
    name_en: Mapped[str] = mapped_column(String(60), default="")
    title: Mapped[str] = mapped_column(String(60), default="")
    phone: Mapped[str] = mapped_column(String(40), default="")
    roles: Mapped[list[str]]
    password_hash: Mapped[str] = mapped_column(String(200))
    must_change_password: Mapped[bool] = mapped_column(default=False)
    totp_secret: Mapped[str | None] = mapped_column(String(400))
    totp_last_step: Mapped[int | None]
    locale: Mapped[str] = mapped_column(String(5), default="zh")
    licence: Mapped[dict[str, Any]] = mapped_column(default=dict)
    active: Mapped[bool] = mapped_column(default=True)
    sample: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]


class LoginSession(Base):
    """A session kept on the server; the cookie holds a random token whose SHA-256 is `id`.

    `signing_blob` is the signer's key opened by its PIN, sealed again under a key that only the browser's second
    cookie holds; it is dropped when the signing times run out.
    """

    __tablename__ = "login_session"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    created_at: Mapped[datetime]
    last_action_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    csrf: Mapped[str] = mapped_column(String(64))
    second_factor: Mapped[bool] = mapped_column(default=False)
    ip: Mapped[str] = mapped_column(String(45), default="")
    agent: Mapped[str] = mapped_column(String(200), default="")
    signing_blob: Mapped[bytes | None] = mapped_column(LargeBinary)
    signing_until: Mapped[datetime | None]
    signing_used_at: Mapped[datetime | None]


class LoginFailure(Base):
    """A failed login, wrong PIN or wrong second factor, for throttling."""

    __tablename__ = "login_failure"
    __table_args__ = (Index("ix_login_failure_subject_at", "subject", "at"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    subject: Mapped[str] = mapped_column(String(120))
    at: Mapped[datetime]
