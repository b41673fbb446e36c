"""The change table that live pages read: written in the business transaction, polled by one reader per process."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Integer, String, delete, func, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.kit import clock
from hub.kit.db import Base


class Change(Base):
    """Something that an open page may show.

    `orgs` holds the organisations it concerns; None: only those who see the whole hub.
    `data` holds states and row identifiers, never patient data.
    """

    __tablename__ = "change"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    topic: Mapped[str] = mapped_column(String(30), index=True)
    ref: Mapped[str] = mapped_column(String(64))
    orgs: Mapped[list[str]]
    data: Mapped[dict[str, Any]]


def publish(session: Session, topic: str, ref: str, *, orgs: Iterable[str | None] = (), **data: Any) -> None:
    """Tell open pages that `ref` changed, with the transaction that changes it."""
    audience = sorted({org for org in orgs if org})
    session.add(Change(at=clock.now(), topic=topic, ref=ref, orgs=audience, data=data))


def newest(session: Session) -> int:
    """The highest change number so far."""
    return session.scalar(select(func.max(Change.id))) or 0


def since(session: Session, number: int, *, gaps: Iterable[int] = (), limit: int = 1000) -> list[Change]:
    """Changes after `number` and those that fill `gaps`, in order.

    On PostgreSQL numbers are given before the commit, so a lower one may appear after a higher: a poller remembers
    the numbers that it has not seen and asks for them again.
    """
    wanted = sorted(gaps)
    after = Change.id > number
    statement = select(Change).where(or_(after, Change.id.in_(wanted)) if wanted else after)
    return list(session.scalars(statement.order_by(Change.id).limit(limit)))


def prune(session: Session, *, hours: int = 48) -> None:
    """Drop changes that no page can still ask for.

    The newest stays: SQLite gives the number after the highest, and an open page waits for higher ones.
    """
    session.execute(delete(Change).where(Change.at < clock.now() - timedelta(hours=hours), Change.id < newest(session)))
