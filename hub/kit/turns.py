"""One after the other, where what is decided upon is no row that could be held."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session


def one_at_a_time(session: Session, name: str) -> None:
    """Wait for whoever holds `name`, and hold it until the transaction ends; look at nothing that it guards before.

    SQLite's writers come one after the other already. Different names may, very rarely, wait for each other.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name})
