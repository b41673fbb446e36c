"""Pulling the next exam, at 100,000 exams in the system, beside a page that asks the database for nothing.

Both through HTTP against the same hub by the same person: `POST /api/queue/next` claims the exam (and gives it back
outside of the measured time); the empty page is that of the person's own account, a form with the navigation around it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.rows import Row, Target, text

EXAMS = 100_000
QUICK = 2_000
TARGET = 3.0
"""Of the ratio: pulling looks for the exam, claims it, writes its transition, audit entry and live change, and commits."""


def play(repeats: int = 40, *, quick: bool = False) -> list[Row]:
    """Measure on the database of the environment; a fresh one in a temporary folder where none is named."""
    if "HUB_DATABASE_URL" not in os.environ:
        os.environ["HUB_DATA_DIR"] = tempfile.mkdtemp(prefix="hub-pulling-")
    from fastapi.testclient import TestClient
    from sqlalchemy import select

    from hub.accounts import passwords, sessions
    from hub.accounts.models import Person
    from hub.app import create_app
    from hub.kit import clock
    from hub.kit.db import database
    from hub.kit.settings import get_settings
    from hub.migrations.upgrade import upgrade
    from hub.sites.models import Organisation
    from tests.benchmarks.population import populate

    get_settings.cache_clear()
    settings = get_settings()
    upgrade(settings)
    count = QUICK if quick else EXAMS

    def reader() -> tuple[str, str]:
        with database().writing() as session:
            org = session.scalars(select(Organisation).where(Organisation.code == "H01")).one()
            person = session.scalars(select(Person).where(Person.login == "benchmark")).one_or_none()
            if person is None:
                person = Person(
                    org_id=org.id, login="benchmark", name="Benchmark", roles=["reporter", "reviewer"],
                    password_hash=passwords.hash_password("not for logging in"), created_at=clock.now(),
                )  # fmt: skip
                session.add(person)
                session.flush()
            token, row = sessions.start(session, person, ip="", agent="", settings=settings, second_factor=False)
            return token, row.csrf

    def timed(client: TestClient) -> tuple[list[float], list[float]]:
        pulls, pages = [], []
        for _number in range(repeats + 3):
            seconds, answer = _clocked(lambda: client.post("/api/queue/next", json={}))
            found = answer.json()["next"]
            client.post(f"/api/exams/{found['exam_id']}/release", json={"lease": found["lease"]}).raise_for_status()
            pulls.append(seconds * 1000)
            pages.append(_clocked(lambda: client.get("/account"))[0] * 1000)
        # The first few fill caches of statements and pages.
        return pulls[3:], pages[3:]

    rows = []
    with TestClient(create_app()) as client:
        for size, waiting in ((min(1000, count), 200), (count, max(200, count // 50)), (count, count // 2)):
            populate(size, waiting=waiting, seed=len(rows) + 1, say=True)
            token, csrf = reader()
            client.cookies.set(sessions.SESSION_COOKIE, token)
            client.headers["X-CSRF-Token"] = csrf
            pulls, pages = timed(client)
            name = f"next exam, {size:,} exams more of which {waiting:,} wait"
            target = Target("≤", TARGET) if size == count else None
            row = Row("queue", name, "ms", pulls, pages, "empty page", target)
            rows.append(row)
            print(text(row), flush=True)
    return rows


def _clocked(act: Callable[[], object]) -> tuple[float, object]:
    started = time.perf_counter()
    answer = act()
    return time.perf_counter() - started, answer


if __name__ == "__main__":
    ROOT = Path(__file__).parents[2]
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    print(statistics.median(play()[-1].hub))
