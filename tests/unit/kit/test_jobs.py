"""The outbox: nothing that was asked for is lost, nothing is done by two at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from hub.kit import clock, jobs
from hub.kit.db import database
from hub.kit.jobs import Claim, Job

LIMIT = 3


class Time:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def pass_(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def time(hub_env: Path) -> Iterator[Time]:
    source = Time()
    clock.set_source(source)
    yield source
    clock.set_source(None)


def ask(key: str | None = "k", **more: object) -> None:
    with database().writing() as session:
        jobs.enqueue(session, "t.work", {"n": 1}, key=key, **more)  # type: ignore[arg-type]


def claim(reference: str = "key:k", *, lease: float = 60) -> Claim | None:
    with database().writing() as session:
        return jobs.claim(session, reference, lease_seconds=lease, attempts=LIMIT)


def must_claim(reference: str = "key:k") -> Claim:
    found = claim(reference)
    assert found is not None
    return found


def finish(claimed: Claim) -> bool:
    with database().writing() as session:
        return jobs.finish(session, claimed)


def fail(claimed: Claim, *, permanent: bool = False) -> bool:
    with database().writing() as session:
        return jobs.fail(session, claimed, "broke", attempts=LIMIT, permanent=permanent)


def rows() -> list[Job]:
    with database().reading() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


def only() -> Job:
    [job] = rows()
    return job


def test_a_key_is_one_job(time: Time) -> None:
    ask()
    ask()
    assert only().state == jobs.QUEUED


def test_jobs_without_a_key_are_all_kept(time: Time) -> None:
    ask(None)
    ask(None)
    assert len(rows()) == 2
    with database().reading() as session:
        references = jobs.due(session)
    assert all(finish(must_claim(reference)) for reference in references)
    assert [job.state for job in rows()] == [jobs.DONE, jobs.DONE]


def test_a_rolled_back_change_has_no_job(time: Time) -> None:
    sent: list[str] = []
    jobs.set_sender(lambda reference, *_more: sent.append(reference))
    with pytest.raises(RuntimeError), database().writing() as session:
        jobs.enqueue(session, "t.work", {}, key="k")
        raise RuntimeError
    assert not rows()
    assert not sent


def test_the_broker_is_told_once_after_the_commit(time: Time) -> None:
    sent: list[tuple[str, int]] = []
    jobs.set_sender(lambda reference, *_more: sent.append((reference, len(rows()))))
    with database().writing() as session:
        jobs.enqueue(session, "t.work", {}, key="k")
        jobs.enqueue(session, "t.work", {}, key="k")
    assert sent == [("key:k", 1)]


def test_a_broker_that_is_away_does_not_undo_the_commit(time: Time) -> None:
    def away(*_more: object) -> None:
        raise ConnectionError

    jobs.set_sender(away)
    ask()
    assert only().state == jobs.QUEUED


def test_one_of_two_claims(time: Time) -> None:
    ask()
    assert must_claim()
    assert claim() is None
    with database().reading() as session:
        assert jobs.due(session) == []


def test_a_done_job_frees_its_key(time: Time) -> None:
    ask()
    assert finish(must_claim())
    ask()
    assert [job.state for job in rows()] == [jobs.DONE, jobs.QUEUED]
    assert claim() is not None


def test_asked_for_while_running_it_runs_again(time: Time) -> None:
    ask()
    running = must_claim()
    ask()
    assert finish(running)
    assert only().state == jobs.QUEUED
    assert finish(must_claim())
    assert only().state == jobs.DONE


@pytest.mark.parametrize("permanent", [True, False])
def test_asked_for_while_its_last_try_fails_it_runs_again(time: Time, permanent: bool) -> None:
    ask()
    for _try in range(LIMIT - 1):
        assert fail(must_claim())
        time.pass_(700)
    running = must_claim()
    ask()
    assert fail(running, permanent=permanent)
    assert only().state == jobs.QUEUED
    assert must_claim().attempts == 1


def test_asked_for_with_a_delay_while_running_it_waits_that_long(time: Time) -> None:
    ask()
    running = must_claim()
    time.pass_(5)
    ask(delay=30)
    assert finish(running)
    assert claim() is None
    time.pass_(31)
    assert claim() is not None


def test_postponed_while_running_it_is_neither_lost_nor_early(time: Time) -> None:
    ask()
    running = must_claim()
    ask(delay=60, postpone=True)
    time.pass_(50)
    ask(delay=60, postpone=True)
    assert finish(running)
    time.pass_(59)
    assert claim() is None
    time.pass_(2)
    assert claim() is not None


def test_postponing_moves_and_haste_brings_forward(time: Time) -> None:
    ask(delay=60, postpone=True)
    time.pass_(30)
    ask(delay=60, postpone=True)
    time.pass_(45)
    assert claim() is None
    ask(delay=0, postpone=True)
    assert claim() is not None


def test_without_postponing_the_earlier_time_counts(time: Time) -> None:
    ask(delay=10)
    ask(delay=60)
    time.pass_(11)
    assert finish(must_claim())
    ask(delay=60)
    ask(delay=10)
    time.pass_(11)
    assert claim() is not None


def test_the_more_urgent_priority_counts(time: Time) -> None:
    ask(priority=5)
    ask(priority=2)
    ask(priority=7)
    assert only().priority == 2


def test_a_failure_is_tried_again_later_and_then_given_up(time: Time) -> None:
    ask()
    for attempt in range(1, LIMIT):
        assert fail(must_claim())
        assert claim() is None
        time.pass_(2**attempt + 1)
    assert fail(must_claim())
    assert only().state == jobs.FAILED
    with database().reading() as session:
        assert jobs.due(session) == []


def test_asking_for_a_job_that_was_given_up_revives_it(time: Time) -> None:
    ask()
    assert fail(must_claim(), permanent=True)
    ask()
    job = only()
    assert (job.state, job.attempts, job.finished_at) == (jobs.QUEUED, 0, None)
    assert finish(must_claim())


def test_a_retried_job_keeps_its_key(time: Time) -> None:
    ask()
    assert fail(must_claim(), permanent=True)
    with database().writing() as session:
        assert jobs.retry_failed(session) == 1
    ask()
    assert only().key == "k"
    assert finish(must_claim())


def test_a_lost_lease_can_be_claimed_and_its_old_holder_writes_nothing(time: Time) -> None:
    ask()
    first = must_claim()
    time.pass_(61)
    second = must_claim()
    with database().writing() as session:
        assert not jobs.extend(session, first, lease_seconds=60)
    assert not finish(first)
    assert not fail(first)
    assert finish(second)


def test_a_kept_lease_lasts(time: Time) -> None:
    ask()
    running = must_claim()
    time.pass_(50)
    with database().writing() as session:
        assert jobs.extend(session, running, lease_seconds=60)
    time.pass_(50)
    assert claim() is None
    assert finish(running)


def test_a_job_that_ends_its_process_each_time_is_given_up(time: Time) -> None:
    ask()
    for _try in range(LIMIT):
        assert claim() is not None
        time.pass_(61)
    assert claim() is None
    assert only().state == jobs.FAILED


def test_when_no_worker_lives_every_lease_can_end(time: Time) -> None:
    ask()
    must_claim()
    with database().writing() as session:
        assert jobs.release_all(session) == 1
    assert claim() is not None


def test_the_most_urgent_comes_first(time: Time) -> None:
    ask("later", priority=5)
    ask("soon", priority=2)
    with database().reading() as session:
        [first, _second] = jobs.due(session)
    assert must_claim(first).kind == "t.work"
    with database().reading() as session:
        assert session.scalars(select(Job.key).where(Job.id == first)).one() == "soon"


def test_asked_for_in_the_instant_in_which_it_ends(time: Time) -> None:
    """The other transaction has written `again` and not committed when `finish` looks (PostgreSQL)."""
    ask()
    running = must_claim()
    asked, go = threading.Event(), threading.Event()

    def other() -> None:
        with database().writing() as session:
            jobs.enqueue(session, "t.work", {"n": 2}, key="k")
            asked.set()
            go.wait(60)

    ended: list[bool] = []
    thread = threading.Thread(target=other)
    thread.start()
    assert asked.wait(60)
    finisher = threading.Thread(target=lambda: ended.append(finish(running)))
    finisher.start()
    finisher.join(0.5)
    go.set()
    thread.join()
    finisher.join(60)
    assert ended == [True]
    assert only().state == jobs.QUEUED


def test_many_claim_and_ask_at_once(hub_env: Path) -> None:
    """Every request is followed by a run that began after it; no two runs overlap."""
    asked = 0
    begun: list[int] = []
    busy = threading.Lock()
    errors: list[str] = []
    done = threading.Event()

    def work() -> None:
        while True:
            last = done.is_set()
            with database().reading() as session:
                references = jobs.due(session)
            if not references and last:
                return
            for reference in references:
                claimed = claim(reference)
                if claimed is None:
                    continue
                if not busy.acquire(blocking=False):
                    errors.append("two at once")
                    return
                begun.append(asked)
                busy.release()
                finish(claimed)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _number in range(60):
        ask()
        asked += 1
    done.set()
    for worker in workers:
        worker.join(120)
    assert not errors
    assert {job.state for job in rows()} == {jobs.DONE}
    assert begun[-1] >= 59
