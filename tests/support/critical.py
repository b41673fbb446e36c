"""Critical values for tests: flagged by H01's reporter on an exam of C01."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import select

from hub.kit import clock
from hub.kit.db import database
from hub.reports.critical.models import CriticalEntry, CriticalValue
from support.reading import make_exam, ok
from support.world import World

FINDING = "右侧基底节区脑出血,约 30 ml,中线左移 4 mm"
READ_BACK = "王伟,头颅CT,右侧基底节脑出血三十毫升"


def body(**changes: Any) -> dict[str, Any]:
    """What a page sends to flag."""
    return {"class_code": "cerebral_haemorrhage", "finding": FINDING, **changes}


def flagged(world: World, *, client: TestClient | None = None, exam_id: str = "", **changes: Any) -> Any:
    """A flagged critical value, as the API says it."""
    exam_id = exam_id or make_exam(world)
    return ok((client or world.client("reporter")).post(f"/api/exams/{exam_id}/critical", json=body(**changes)), 201)


def row_of(critical_id: str) -> CriticalValue:
    """The row in the database."""
    with database().reading() as session:
        return session.get_one(CriticalValue, critical_id)


def events(critical_id: str) -> list[str]:
    """The record's events, in order."""
    with database().reading() as session:
        return list(
            session.scalars(
                select(CriticalEntry.event).where(CriticalEntry.critical_id == critical_id).order_by(CriticalEntry.id)
            )
        )


@contextmanager
def later(minutes: float) -> Iterator[datetime]:
    """The hub's clock stands so many minutes on."""
    at = datetime.now(UTC) + timedelta(minutes=minutes)
    clock.set_source(lambda: at)
    try:
        yield at
    finally:
        clock.set_source(None)
