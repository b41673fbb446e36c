"""Serial numbers that are never given twice."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Integer, String
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.kit.db import Base


class Serial(Base):
    """The last number given in a scope (`accession:2026`, `report:H01:20260102`, `county-patient`)."""

    __tablename__ = "serial"

    scope: Mapped[str] = mapped_column(String(60), primary_key=True)
    value: Mapped[int] = mapped_column(Integer, default=0)


def next_serial(session: Session, scope: str) -> int:
    """The next number in `scope`, from 1. A rolled-back transaction gives its number back; a committed one never."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(Serial).values(scope=scope, value=1)
    statement = statement.on_conflict_do_update(index_elements=["scope"], set_={"value": Serial.value + 1})
    return int(session.execute(statement.returning(Serial.value)).scalar_one())
