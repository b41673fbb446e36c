"""One exam's walk by chance: real services on a real database, with crashes between steps and double clicks.

The plain model is the table of states itself and a few words: who holds the exam, who wrote it, what was signed. Whatever
is done, the exam moves along the table or stays exactly as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.delivery import service as delivery
from hub.delivery.models import Delivery
from hub.exams.models import Exam, ExamPause, Transition
from hub.exams.states import TRANSITIONS, Event, State
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import HubError
from hub.reading import service as reading
from hub.reading.conversation import history, retakes, thread, voiding
from hub.reports import repository, service
from hub.reports.models import Report, ReportVersion
from hub.reports.passages import Marked
from hub.reports.service import Content
from hub.reports.states import VersionState
from support.reading import cheap_keys, make_exam, open_key

if TYPE_CHECKING:
    from support.world import World

ANYBODY = st.sampled_from(["reporter", "reviewer", "reviewer2"])
READERS = st.sampled_from(["holder", "holder", "holder", "reporter", "reviewer", "reviewer2"])
"""Mostly who holds the exam: others are refused, and a walk of refusals comes nowhere."""
CLINIC = st.sampled_from(["technologist", "clinician"])
HELD = {"reading", "reviewing"}


class Crash(Exception):
    """The process dies before the commit."""


class Walk(RuleBasedStateMachine):
    """Everything that people and the hub do with one exam."""

    world: World
    met: ClassVar[Counter[str]] = Counter()

    @initialize(far=st.sampled_from(["waits", "waits", "submitted", "reviewing"]))
    def begin(self, far: str) -> None:
        self.now = datetime.fromisoformat("2026-03-02T01:00:00+00:00")
        clock.set_source(lambda: self.now)
        self.exam = make_exam(self.world, modality="DX", body_parts=["chest"])
        self.state = "to_read"
        self.holder: str | None = None
        self.leases: dict[str, str] = {}
        self.signed: dict[str, tuple[Any, ...]] = {}
        self.steps = 0
        self.texts = 0
        # Many walks never come to the end of a long way: some begin on it.
        if far != "waits":
            self.read_it("reporter")
        if far == "reviewing":
            self.claim("reviewer", "good")

    def teardown(self) -> None:
        clock.set_source(None)
        if hasattr(self, "exam"):
            # The next walk's readers must not pull this one's exam.
            with database().writing() as session:
                session.execute(update(Exam).where(Exam.id == self.exam).values(state="cancelled"))

    # --- doing something, with bad luck ---

    def person(self, login: str) -> str:
        """Who acts: the one who holds the exam, or somebody."""
        return (self.holder or "reporter") if login == "holder" else login

    def picture(self) -> tuple[Any, ...]:
        """All of the exam and its versions that a step could change."""
        with database().reading() as session:
            exam = session.get_one(Exam, self.exam)
            versions = session.scalars(
                select(ReportVersion).join(Report).where(Report.exam_id == self.exam).order_by(ReportVersion.id)
            ).all()
            steps = session.scalar(select(func.count()).where(Transition.exam_id == self.exam))
            pauses = session.scalars(select(ExamPause.ended_at).where(ExamPause.exam_id == self.exam)).all()
            columns = tuple(getattr(exam, column.key) for column in Exam.__table__.columns)
            return columns, tuple((v.id, v.state, v.revision, v.findings) for v in versions), steps, tuple(pauses)

    def attempt(
        self, act: Callable[[Session], Any], luck: str, event: Event | None, login: str | None, *, holds: bool = False
    ) -> Any:
        """Do it: well, dying before the commit, or twice. It moves the exam by `event`, or changes nothing."""
        before, was = self.picture(), self.state
        if luck == "crash":
            with pytest.raises((Crash, HubError)), database().writing() as session:
                act(session)
                raise Crash
            assert self.picture() == before
            return None
        try:
            with database().writing() as session:
                done = act(session)
        except HubError:
            assert self.picture() == before
            return None
        self._moved(was, event, login, holds=holds)
        if luck == "double":
            after = self.picture()
            try:
                with database().writing() as session:
                    act(session)
            except HubError:
                assert self.picture() == after
            else:
                # Asked again it answered again: the same holder, the same state, no second step.
                assert self.picture()[2] == after[2]
        return done

    def _moved(self, was: str, event: Event | None, login: str | None, *, holds: bool) -> None:
        with database().reading() as session:
            exam = session.get_one(Exam, self.exam)
            last = session.scalars(
                select(Transition).where(Transition.exam_id == self.exam).order_by(Transition.id.desc()).limit(1)
            ).one_or_none()
            steps = session.scalar(select(func.count()).where(Transition.exam_id == self.exam)) or 0
            made = steps - self.steps
            self.steps = steps
            self.state = exam.state
        if made == 0:
            assert self.state == was
            return
        self.met[last.event if last else ""] += 1
        assert last is not None
        step = TRANSITIONS[State(last.from_state), Event(last.event)]
        assert (made > 1 or last.from_state == was) and step.target == self.state
        assert event is None or made > 1 or last.event == event, (was, last.event, event)
        if login is not None and made == 1 and last.actor_id != SYSTEM.id:
            assert not self.world.actor(login).roles.isdisjoint(step.roles)
        if holds and self.state in HELD:
            self.holder = login
        elif self.state not in HELD:
            self.holder = None

    # --- readers ---

    LUCK = st.sampled_from(["good", "good", "good", "crash", "double"])

    @precondition(lambda self: self.state not in HELD)
    @rule(login=ANYBODY, luck=LUCK)
    def claim(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        lease = self.attempt(lambda s: reading.claim(s, actor, self.exam), luck, None, login, holds=True)
        if lease is not None:
            self.leases[login] = lease.token
            self.holder = login

    @precondition(lambda self: self.state not in HELD)
    @rule(login=ANYBODY, luck=LUCK)
    def pull(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)

        def act(session: Session) -> Any:
            lease = reading.next_for(session, actor)
            assert lease is None or lease.exam.id == self.exam or lease.exam.org_id
            if lease is not None and lease.exam.id != self.exam:
                raise HubError("another example's exam")
            return lease

        lease = self.attempt(act, luck, None, login, holds=True)
        if lease is not None:
            self.leases[login] = lease.token
            self.holder = login

    @precondition(lambda self: self.steps % 4 == 1)
    @rule(login=ANYBODY, luck=LUCK)
    def claim_in_any_state(self, login: str, luck: str) -> None:
        self.claim(login, luck)

    @precondition(lambda self: self.state == "to_read")
    @rule(login=ANYBODY)
    def read_it(self, login: str) -> None:
        """What goes well most of the time: claim, write, submit."""
        self.claim(login, "good")
        self.write(login, "good")
        self.submit(login, "good")

    @precondition(lambda self: self.state == "to_review")
    @rule(login=st.sampled_from(["reviewer", "reviewer2"]), luck=st.sampled_from(["good", "double"]))
    def review_it(self, login: str, luck: str) -> None:
        """A second pair of eyes, and the signature."""
        self.claim(login, "good")
        if self.state == "reviewing" and self.holder == login:
            self._sign(luck)

    @precondition(lambda self: self.state in HELD or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def write(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        self.texts += 1
        words = f"双肺清晰 {self.texts}"

        def act(session: Session) -> Any:
            version = repository.open_version(session, self.exam)
            content = Content(findings=words, impression="正常", positive=False)
            saved = service.save(
                session, actor, self.exam, lease=lease, revision=version.revision if version else 0, content=content
            )
            if saved.problem is not None:
                raise saved.problem
            return saved

        self.attempt(act, luck, None, login)

    def _revision(self, session: Session) -> int:
        version = repository.open_version(session, self.exam)
        return version.revision if version else 0

    @precondition(lambda self: self.state in {"reading"} or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def submit(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        self.attempt(
            lambda s: service.submit(s, actor, self.exam, lease=lease, revision=self._revision(s)),
            luck,
            Event.SUBMIT,
            login,
        )

    @precondition(lambda self: self.state in {"to_review", "reviewing"})
    @rule(login=ANYBODY, luck=LUCK)
    def withdraw(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        done = self.attempt(lambda s: service.withdraw(s, actor, self.exam), luck, Event.WITHDRAW, login, holds=True)
        if done is not None and done[1] is not None:
            self.leases[login] = done[1].token

    @precondition(lambda self: self.state in {"reviewing"} or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def reject(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        marked = [Marked("findings", 0, 2, "请核对")]
        self.attempt(
            lambda s: service.reject(s, actor, self.exam, lease=lease, note="改", passages=marked),
            luck,
            Event.REJECT,
            login,
        )

    @precondition(lambda self: self.state in HELD or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def release(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        self.attempt(lambda s: reading.release(s, actor, self.exam, lease), luck, None, login)

    @precondition(lambda self: self.state in HELD)
    @rule(login=READERS)
    def beat(self, login: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        with database().writing() as session:
            if State(self.state) in (State.READING, State.REVIEWING):
                status = reading.heartbeat(session, actor, self.exam, lease)
                assert status.held == (self.holder == login and bool(lease)) or not status.held

    @precondition(lambda self: self.state == "reviewing" and self.holder in ("reviewer", "reviewer2"))
    @rule(luck=st.sampled_from(["good", "double"]))
    def sign(self, luck: str) -> None:
        self._sign(luck)

    def _sign(self, luck: str) -> None:
        assert self.holder is not None
        client = self.world.client(self.holder)
        open_key(client)
        version = client.get(f"/api/exams/{self.exam}/reports").json()["versions"][0]
        body = {
            "lease": self.leases.get(self.holder, ""),
            "revision": version["revision"],
            "content_hash": version["content_hash"],
        }
        was, signer = self.state, self.holder
        answers = [
            client.post(f"/api/reports/{version['version_id']}/sign", json=body)
            for _click in range(2 if luck == "double" else 1)
        ]
        if answers[0].status_code == 200:
            assert all(answer.json()["number"] == answers[0].json()["number"] for answer in answers)
            self._moved(was, Event.SIGN, signer, holds=False)
        else:
            assert answers[0].status_code < 500, answers[0].text

    # --- the clinic ---

    @precondition(lambda self: self.state in {"reading"} or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def ask_history(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        self.attempt(lambda s: history.ask(s, actor, self.exam, lease, "有无外伤?"), luck, Event.REQUEST_HISTORY, login)

    @precondition(lambda self: self.state == "history_requested" or self.steps % 5 == 0)
    @rule(login=CLINIC, luck=LUCK)
    def answer_history(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        self.attempt(lambda s: history.answer(s, actor, self.exam, "无"), luck, Event.ANSWER_HISTORY, login)

    @precondition(lambda self: self.state in HELD or self.steps % 5 == 0)
    @rule(login=READERS, luck=LUCK)
    def ask_retake(self, login: str, luck: str) -> None:
        login = self.person(login)
        actor, lease = self.world.actor(login), self.leases.get(login, "")
        self.attempt(
            lambda s: retakes.ask(s, actor, self.exam, lease, reasons=["motion"]), luck, Event.REQUEST_RETAKE, login
        )

    @precondition(lambda self: self.state == "retake" or self.steps % 5 == 0)
    @rule(login=CLINIC, luck=LUCK)
    def decline_retake(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        self.attempt(lambda s: retakes.decline(s, actor, self.exam, "patient_left"), luck, None, login)

    @precondition(lambda self: self.steps % 4 == 3)
    @rule(login=CLINIC, luck=LUCK)
    def say(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        self.attempt(
            lambda s: thread.post(s, actor, reading.locked(s, actor, self.exam), "在吗", key="k" * 30),
            luck,
            None,
            login,
        )

    # --- the centre, the hub and time ---

    @precondition(lambda self: self.state in HELD and self.steps % 3 == 0)
    @rule(luck=LUCK)
    def break_lease(self, luck: str) -> None:
        director = self.world.actor("director")
        self.attempt(lambda s: reading.take_over(s, director, self.exam, "电脑故障"), luck, None, None)

    @precondition(lambda self: self.steps > 14)
    @rule(luck=LUCK)
    def void(self, luck: str) -> None:
        director = self.world.actor("director")
        self.attempt(lambda s: voiding.void(s, director, self.exam, "他人影像"), luck, Event.VOID, "director")

    @precondition(lambda self: self.state in HELD)
    @rule(minutes=st.sampled_from([1, 11]))
    def pass_time(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @precondition(lambda self: self.state in HELD)
    @rule(luck=LUCK)
    def sweep(self, luck: str) -> None:
        self.attempt(reading.expire_leases, luck, None, None)

    @precondition(lambda self: self.state in ("signed", "returned"))
    @rule(luck=LUCK)
    def deliver(self, luck: str) -> None:
        with database().reading() as session:
            version = session.scalars(
                select(ReportVersion.id)
                .join(Report)
                .where(Report.exam_id == self.exam, ReportVersion.state == "signed")
            ).first()
        self.attempt(lambda s: delivery.return_report(s, SYSTEM, str(version)), luck, Event.RETURN, None)

    @precondition(lambda self: self.state == "returned")
    @rule(login=CLINIC, luck=LUCK)
    def see(self, login: str, luck: str) -> None:
        actor = self.world.actor(login)
        with database().reading() as session:
            sent = session.scalars(select(Delivery.id).where(Delivery.exam_id == self.exam)).first()
        self.attempt(lambda s: delivery.mark_seen(s, actor, str(sent)), luck, Event.SEE, login)

    # --- what must always hold ---

    @invariant()
    def one_holder(self) -> None:
        if not hasattr(self, "exam"):
            return
        with database().reading() as session:
            exam = session.get_one(Exam, self.exam)
            held = exam.state in HELD
            assert held == bool(exam.lease_token) == bool(exam.lease_person_id) == bool(exam.lease_until)
            if held and self.holder:
                assert exam.lease_person_id == self.world.people[self.holder].id
            assert exam.version == self.steps + 1

    @invariant()
    def the_report_fits_its_exam(self) -> None:
        if not hasattr(self, "exam"):
            return
        with database().reading() as session:
            version = repository.open_version(session, self.exam)
            rows = session.scalars(select(ReportVersion).join(Report).where(Report.exam_id == self.exam)).all()
        assert len(rows) <= 1
        if self.state in ("to_review", "reviewing"):
            assert version is not None and version.state == VersionState.SUBMITTED
        elif self.state in ("to_read", "reading", "rejected", "history_requested"):
            assert version is None or version.state == VersionState.DRAFT
        elif self.state in ("signed", "returned", "seen"):
            assert version is None and len(rows) == 1

    @invariant()
    def what_is_signed_stays_by_two_people(self) -> None:
        if not hasattr(self, "exam"):
            return
        with database().reading() as session:
            for row in session.scalars(
                select(ReportVersion).join(Report).where(Report.exam_id == self.exam, ReportVersion.state == "signed")
            ):
                seen = (row.findings, row.impression, row.content_sha256, row.pdf_sha256, row.signed_at, row.signer_id)
                assert self.signed.setdefault(row.id, seen) == seen
                assert row.author_id != row.signer_id
        assert len(self.signed) <= 1

    @invariant()
    def clocks_go_on(self) -> None:
        if not hasattr(self, "exam"):
            return
        with database().reading() as session:
            steps = session.scalars(
                select(Transition).where(Transition.exam_id == self.exam).order_by(Transition.id)
            ).all()
            exam = session.get_one(Exam, self.exam)
            pauses = session.scalars(select(ExamPause).where(ExamPause.exam_id == self.exam)).all()
        assert [step.at for step in steps] == sorted(step.at for step in steps)
        assert all(one.to_state == two.from_state for one, two in pairwise(steps))
        assert (exam.paused_at is not None) == (exam.state == State.HISTORY_REQUESTED)
        assert sum(pause.ended_at is None for pause in pauses) == (exam.paused_at is not None)
        assert all(pause.ended_at is None or pause.ended_at >= pause.began_at for pause in pauses)


def test_an_exam_walks_the_table_whatever_happens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_keys(monkeypatch)
    Walk.world = world
    quiet = settings(
        max_examples=18,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    Walk.met.clear()
    run_state_machine_as_test(Walk, settings=quiet)
    # The walk is worth something only where it came to.
    for event in (Event.CLAIM, Event.SUBMIT, Event.CLAIM_REVIEW, Event.SIGN, Event.RETURN):
        assert Walk.met[event] > 0, Walk.met
    assert len(Walk.met) >= 10, Walk.met
