"""The job outbox: a row written with the business change is the truth, the message only a hint.

A service calls `enqueue` in its transaction. After the commit the job's id is sent to the broker; should that
fail, the sweeper finds the row. A worker claims the row with a lease; a row whose lease ran out may be claimed
again, so a task must be safe to run twice and to be killed at any instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import CursorResult, Index, Integer, String, Text, and_, case, event, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from hub.kit import clock
from hub.kit.db import Base
from hub.kit.ids import new_id
from hub.kit.logging import get_logger

log = get_logger(__name__)

QUEUED, RUNNING, DONE, FAILED = "queued", "running", "done", "failed"


class Job(Base):
    """One piece of background work.

    `key` is unique among jobs that are not done: asking twice for the same work gives one row, and asking for work
    that was given up revives it. `again` remembers that it was asked for while running, so that it runs once more.
    """

    __tablename__ = "job"

    id: Mapped[str] = mapped_column(String(26), primary_key=True, default=new_id)
    kind: Mapped[str] = mapped_column(String(60))
    payload: Mapped[dict[str, Any]]
    key: Mapped[str | None] = mapped_column(String(200), unique=True)
    priority: Mapped[int] = mapped_column(Integer, default=5)
    state: Mapped[str] = mapped_column(String(10), default=QUEUED)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    again: Mapped[bool] = mapped_column(default=False)
    run_after: Mapped[datetime]
    lease_until: Mapped[datetime | None]
    lease_token: Mapped[str | None] = mapped_column(String(26))
    created_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (Index("ix_job_due", "state", "run_after"),)


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a job."""

    id: str
    kind: str
    payload: dict[str, Any]
    token: str
    attempts: int


_sender: Callable[[str, str, int, float], None] | None = None


def set_sender(sender: Callable[[str, str, int, float], None] | None) -> None:
    """Install what tells the broker: `sender(job_id, kind, priority, delay_seconds)`; None: rows only."""
    global _sender  # noqa: PLW0603
    _sender = sender


def enqueue(
    session: Session,
    kind: str,
    payload: dict[str, Any],
    *,
    key: str | None = None,
    delay: float = 0,
    priority: int = 5,
    postpone: bool = False,
) -> None:
    """Write a job with the business change.

    Args:
        session: The transaction of the change.
        kind: Name of the handler, such as `studies.preview`.
        payload: Identifiers only.
        key: Work of the same key is done once; asked for while running, it runs once more.
        delay: Seconds before it may run.
        priority: 0 (first) to 9.
        postpone: An unfinished job of the same key is moved to `now + delay` (quiet periods); otherwise it keeps the
            earlier of its times.
    """
    now = clock.now()
    row: dict[str, Any] = {
        "id": new_id(),
        "kind": kind,
        "payload": payload,
        "key": key,
        "priority": priority,
        "state": QUEUED,
        "attempts": 0,
        "again": False,
        "run_after": now + timedelta(seconds=delay),
        "created_at": now,
    }
    session.execute(_insert(session.get_bind().dialect.name, keyed=key is not None, postpone=postpone), row)
    _pending(session).append((row["id"] if key is None else f"key:{key}", kind, priority, delay))


@lru_cache
def _insert(dialect: str, *, keyed: bool, postpone: bool) -> Any:
    """The statement that writes a job, built once: a study of a thousand slices asks for its jobs a thousand times."""
    # By the table: an insert by the class goes the ORM's way for many rows, which costs twice as much.
    table: Any = Job.__table__
    statement: Any = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    if not keyed:
        return statement
    fresh = statement.excluded
    # What was asked for before and waits, or was asked for again while running, may be due earlier.
    waits = (Job.state == QUEUED) | ((Job.state == RUNNING) & Job.again.is_(True))
    sooner = case((waits & (Job.run_after < fresh.run_after), Job.run_after), else_=fresh.run_after)
    return statement.on_conflict_do_update(
        index_elements=["key"],
        set_={
            "again": True,
            "payload": fresh.payload,
            "priority": case((Job.priority < fresh.priority, Job.priority), else_=fresh.priority),
            "run_after": fresh.run_after if postpone else sooner,
            "state": case((Job.state == FAILED, QUEUED), else_=Job.state),
            "attempts": case((Job.state == FAILED, 0), else_=Job.attempts),
            "finished_at": None,
        },
    )


def _pending(session: Session) -> list[tuple[str, str, int, float]]:
    pending: list[tuple[str, str, int, float]] = session.info.setdefault("hub_jobs", [])
    return pending


@event.listens_for(Session, "after_commit")
def _send(session: Session) -> None:
    pending = session.info.pop("hub_jobs", [])
    if _sender is None:
        return
    for reference, kind, priority, delay in dict.fromkeys(pending):
        try:
            _sender(reference, kind, priority, delay)
        except Exception:
            log.warning("broker out of reach; the sweeper will send the job", kind=kind)
            return


@event.listens_for(Session, "after_rollback")
def _forget(session: Session) -> None:
    session.info.pop("hub_jobs", None)


def _due(now: datetime) -> Any:
    return or_(
        and_(Job.state == QUEUED, Job.run_after <= now),
        and_(Job.state == RUNNING, Job.lease_until <= now),
    )


def claim(session: Session, reference: str, *, lease_seconds: float, attempts: int) -> Claim | None:
    """Take the job named by `reference` (an id, or `key:…`) if it is due and nobody holds it.

    A job that ended the process that did it, `attempts` times, is given up: it would end every worker for ever.
    """
    now = clock.now()
    where = Job.key == reference[4:] if reference.startswith("key:") else Job.id == reference
    job = session.scalars(select(Job).where(where, _due(now)).with_for_update(skip_locked=True)).one_or_none()
    if job is None:
        return None
    if job.state == RUNNING and job.attempts >= attempts:
        job.state, job.finished_at, job.lease_token, job.lease_until = FAILED, now, None, None
        job.error = "the process that did it died each time"
        log.error("job given up", kind=job.kind, job=job.id, error=job.error)
        return None
    job.state, job.again, job.attempts = RUNNING, False, job.attempts + 1
    job.lease_token, job.lease_until = new_id(), now + timedelta(seconds=lease_seconds)
    session.flush()
    return Claim(job.id, job.kind, dict(job.payload), job.lease_token, job.attempts)


def due(session: Session, *, limit: int = 200) -> list[str]:
    """References of jobs that may run now, most urgent first."""
    statement = select(Job.id).where(_due(clock.now())).order_by(Job.priority, Job.run_after).limit(limit)
    return list(session.scalars(statement))


def extend(session: Session, claimed: Claim, *, lease_seconds: float) -> bool:
    """Keep a long job; False if the lease was lost."""
    until = clock.now() + timedelta(seconds=lease_seconds)
    return _write(session, claimed, lease_until=until)


def finish(session: Session, claimed: Claim) -> bool:
    """Record success; False if the lease was lost. A job asked for again while it ran is queued once more."""
    # One statement: PostgreSQL decides `again` on the newest row, also where another transaction just sets it.
    return _write(
        session,
        claimed,
        state=case((Job.again.is_(True), QUEUED), else_=DONE),
        key=case((Job.again.is_(True), Job.key), else_=None),
        finished_at=case((Job.again.is_(True), None), else_=clock.now()),
        attempts=case((Job.again.is_(True), 0), else_=Job.attempts),
        error=None,
        lease_token=None,
        lease_until=None,
    )


def fail(session: Session, claimed: Claim, error: str, *, attempts: int, permanent: bool = False) -> bool:
    """Record a failure; False if the lease was lost.

    It is tried again after 2, 4, 8 … seconds (at most 10 minutes), until `attempts` are used up; then it is given up,
    unless it was asked for again meanwhile.
    """
    now = clock.now()
    common: dict[str, Any] = {"error": error[:2000], "lease_token": None, "lease_until": None}
    if permanent or claimed.attempts >= attempts:
        return _write(
            session,
            claimed,
            state=case((Job.again.is_(True), QUEUED), else_=FAILED),
            finished_at=case((Job.again.is_(True), None), else_=now),
            attempts=case((Job.again.is_(True), 0), else_=Job.attempts),
            **common,
        )
    wait = min(600.0, 2.0**claimed.attempts)
    return _write(session, claimed, state=QUEUED, run_after=now + timedelta(seconds=wait), **common)


def retry_failed(session: Session) -> int:
    """Give every job that was given up another try; returns how many."""
    return _count(
        session.execute(
            update(Job)
            .where(Job.state == FAILED)
            .values(state=QUEUED, attempts=0, run_after=clock.now(), lease_until=None, finished_at=None)
        )
    )


def release_all(session: Session) -> int:
    """End every lease; for the moment when it is known that no worker lives. Returns how many."""
    return _count(session.execute(update(Job).where(Job.state == RUNNING).values(lease_until=clock.now())))


def _write(session: Session, claimed: Claim, *where: Any, **values: Any) -> bool:
    result = session.execute(
        update(Job).where(Job.id == claimed.id, Job.lease_token == claimed.token, *where).values(**values)
    )
    return _count(result) == 1


def _count(result: Any) -> int:
    return result.rowcount if isinstance(result, CursorResult) else 0
