"""Rules of reading: who holds an exam, for how long, and what he may ask of the clinic.

A lease is three columns of the exam. Whoever holds it is named to everybody; its token is known to the holder's page
alone, and every write names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CursorResult, select, update
from sqlalchemy.orm import Session

from hub.accounts.models import LoginSession, Person
from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.repository import lock, visible_to
from hub.exams.service import NO_LEASE, lease_values
from hub.exams.states import QUEUE_STATES, Event, State
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, HubError, Invalid, NotFound
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.kit.settings import get_settings
from hub.reading import kept, repository
from hub.reading.policy import is_resident, needs_second_signature
from hub.reading.repository import QueueFilters, QueuePage
from hub.reading.routing import rota, rows
from hub.reading.routing import service as routing
from hub.reading.routing import skills as skill_words
from hub.sites.models import Agreement, Organisation

HELD = frozenset({State.READING, State.REVIEWING})
"""States in which somebody holds the exam."""

_CLAIMS = {
    State.TO_READ: Event.CLAIM,
    State.REJECTED: Event.CLAIM,
    State.TO_REVIEW: Event.CLAIM_REVIEW,
    State.PRELIMINARY: Event.CLAIM_REVIEW,
}
MAX_REASON = 400


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on an exam: its token goes to the holder's page only.

    An addendum or correction is written without one: its exam comes with an empty token and no end.
    """

    exam: Exam
    token: str
    until: datetime | None


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """Whether a page still holds its exam; `holder` is who does, by name."""

    held: bool
    state: State
    until: datetime | None
    holder: str


def queue(session: Session, actor: Actor, filters: QueueFilters, *, after: str = "", limit: int = 60) -> QueuePage:
    """One page of the reading queue."""
    return repository.page(session, actor, filters, after=after, limit=min(max(limit, 1), 200))


def holder_names(session: Session, exams_: Sequence[Exam]) -> dict[str, str]:
    """Names of those who hold or wrote these exams, by person."""
    ids = {i for exam in exams_ for i in (exam.lease_person_id, exam.author_id, exam.reviewer_id) if i}
    if not ids:
        return {}
    return {row[0]: row[1] for row in session.execute(select(Person.id, Person.name).where(Person.id.in_(ids)))}


def locked(session: Session, actor: Actor, exam_id: str) -> Exam:
    """The exam, fresh and locked until the transaction ends, so that nobody changes it between check and write.

    Raises:
        NotFound: It does not exist or is not the actor's to know.
    """
    lock(session, exam_id)
    exam = session.scalars(
        visible_to(actor).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()
    if exam is None:
        raise NotFound(_("没有找到这项检查"))
    return exam


def lease_is_live(exam: Exam) -> bool:
    """Whether somebody holds the exam now."""
    return exam.lease_person_id is not None and exam.lease_until is not None and exam.lease_until > clock.now()


def claim(session: Session, actor: Actor, exam_id: str) -> Lease:
    """Take the exam for reading or review.

    Of two who ask in the same instant one gets it. Whoever holds it already gets his lease again, longer: his browser
    may have crashed.

    Raises:
        Conflict: `exam-held` (somebody else has it), `own-report` (review by the author), `wrong-state`.
        Forbidden: His role or his hospital does not read it.
    """
    exam = locked(session, actor, exam_id)
    minutes = get_settings().lease_minutes
    if State(exam.state) in HELD:
        if exam.lease_person_id == actor.id and exam.lease_token:
            values = lease_values(actor, exam.lease_token, minutes=minutes)
            session.execute(update(Exam).where(Exam.id == exam.id).values(**values))
            session.refresh(exam)
            return Lease(exam, str(exam.lease_token), values["lease_until"])
        if lease_is_live(exam):
            raise held_by_other(session, exam)
        _expire(session, exam)
    if exam.reading_org_id not in (None, actor.org_id):
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    event = _CLAIMS.get(State(exam.state), Event.CLAIM)
    rule = exams.rule_for(exam, event, actor)
    if event is Event.CLAIM_REVIEW and exam.author_id == actor.id and needs_second_signature(exam, actor.id):
        raise Conflict(_("阅片医院实行双签,书写医师不能审核自己的报告"), code="own-report")
    if event is Event.CLAIM_REVIEW and is_resident(exam, actor.id):
        raise Conflict(_("住院医师不能审核签发,须由主治及以上医师审核"), code="attending-needed")
    changes = lease_values(actor, new_id(), minutes=minutes)
    if exam.reading_org_id is None:
        changes["reading_org_id"] = actor.org_id
    exams.apply(session, actor, exam, event, **changes)
    kept.drop(session, exam.id)
    if event is Event.CLAIM:
        rows.taken(session, exam, actor.org_id)
    session.refresh(exam, ["reading_org"])
    assert rule.target in HELD
    return Lease(exam, changes["lease_token"], changes["lease_until"])


def held_by_other(session: Session, exam: Exam) -> Conflict:
    """The refusal that names who holds the exam."""
    name = holder_names(session, [exam]).get(exam.lease_person_id or "", "")
    return Conflict(
        _("{name}正在处理这项检查").format(name=name),
        code="exam-held",
        holder=name,
        until=exam.lease_until.isoformat() if exam.lease_until else None,
    )


def hold(session: Session, actor: Actor, exam_id: str, token: str) -> Exam:
    """The exam, locked, if `actor` still holds it by `token`; every write of a reader begins here.

    A lease past its time counts until somebody else or the sweep takes it: text is never refused without need.

    Raises:
        Conflict: `lease-lost`, with the name of who has it now.
    """
    exam = locked(session, actor, exam_id)
    if (
        State(exam.state) not in HELD
        or not token
        or exam.lease_token != token
        or exam.lease_person_id != actor.id
    ):  # fmt: skip
        raise lease_lost(session, exam)
    return exam


def lease_lost(session: Session, exam: Exam) -> Conflict:
    """The refusal of a write without the lease."""
    name = holder_names(session, [exam]).get(exam.lease_person_id or "", "")
    return Conflict(
        _("您已不再持有这项检查,当前由{name}处理;您的文字已另存").format(name=name)
        if name
        else _("您已不再持有这项检查;您的文字已另存"),
        code="lease-lost",
        holder=name,
        state=exam.state,
    )


def heartbeat(session: Session, actor: Actor, exam_id: str, token: str, *, active: bool = False) -> LeaseStatus:
    """Keep the lease of an open page, and say how things stand.

    Args:
        session: The transaction.
        actor: Whose page it is.
        exam_id: The exam on it.
        token: The lease's token.
        active: The person did something at the page since the last call; keeps an opened signing key open.
    """
    until = clock.now() + _lease_time()
    result = session.execute(
        update(Exam)
        .where(
            Exam.id == exam_id,
            Exam.lease_person_id == actor.id,
            Exam.lease_token == token,
            Exam.state.in_(HELD),
        )
        .values(lease_until=until)
    )
    held = isinstance(result, CursorResult) and result.rowcount == 1
    if held and active and actor.session_id:
        now = clock.now()
        session.execute(
            update(LoginSession)
            .where(
                LoginSession.id == actor.session_id,
                LoginSession.signing_blob.is_not(None),
                LoginSession.signing_used_at > now - _signing_idle(),
            )
            .values(signing_used_at=now)
        )
    return status(session, actor, exam_id, token)


def status(session: Session, actor: Actor, exam_id: str, token: str) -> LeaseStatus:
    """How the lease of a page stands."""
    exam = session.scalars(
        visible_to(actor).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()
    if exam is None:
        raise NotFound(_("没有找到这项检查"))
    held = bool(token) and exam.lease_token == token and exam.lease_person_id == actor.id
    name = holder_names(session, [exam]).get(exam.lease_person_id or "", "") if lease_is_live(exam) else ""
    return LeaseStatus(held=held, state=State(exam.state), until=exam.lease_until, holder=name)


def release(session: Session, actor: Actor, exam_id: str, token: str) -> Exam:
    """Give the exam back to the queue; its draft stays."""
    exam = hold(session, actor, exam_id, token)
    event = Event.RELEASE if exam.state == State.READING else Event.RELEASE_REVIEW
    return exams.apply(session, actor, exam, event, **NO_LEASE, **_home(session, exam))


def take_over(session: Session, actor: Actor, exam_id: str, reason: str) -> Lease | None:
    """Take an exam from whoever holds it.

    A director may do so at any time; one who does not read himself gives it back to the queue (None). Everybody else
    only after the lease has run out.

    Raises:
        Conflict: `exam-held`, `wrong-state`, `own-report`.
        Invalid: No reason.
    """
    reason = required_reason(reason)
    exam = locked(session, actor, exam_id)
    if State(exam.state) not in HELD:
        exams.rule_for(exam, Event.TAKE_OVER, actor)
    if not actor.has(Role.DIRECTOR):
        if lease_is_live(exam) and exam.lease_person_id != actor.id:
            raise held_by_other(session, exam)
        return claim(session, actor, exam_id)
    reviewing = exam.state == State.REVIEWING
    event = Event.TAKE_OVER_REVIEW if reviewing else Event.TAKE_OVER
    reads = actor.has(Role.REVIEWER) if reviewing else actor.has(Role.REPORTER, Role.REVIEWER)
    own = reviewing and (
        (exam.author_id == actor.id and needs_second_signature(exam, actor.id)) or is_resident(exam, actor.id)
    )
    if reads and exam.reading_org_id == actor.org_id and not own:
        changes = lease_values(actor, new_id(), minutes=get_settings().lease_minutes)
        exams.apply(session, actor, exam, event, reason=reason, **changes)
        return Lease(exam, changes["lease_token"], changes["lease_until"])
    exams.apply(session, actor, exam, event, reason=reason, lease_until=clock.now())
    _expire(session, exam)
    return None


def _expire(session: Session, exam: Exam) -> None:
    event = Event.LEASE_EXPIRES if exam.state == State.READING else Event.REVIEW_LEASE_EXPIRES
    exams.apply(session, SYSTEM, exam, event, **NO_LEASE, **_home(session, exam))


def _home(session: Session, exam: Exam) -> dict[str, Any]:
    """An exam from the shared pool returns there, unless the hospital has begun its report."""
    if exam.state != State.READING or exam.author_id is not None:
        return {}
    pooled = rows.came_from_pool(session, exam)
    if pooled is None:
        pooled = session.scalar(select(Agreement.id).where(Agreement.clinic_id == exam.org_id).limit(1)) is None
    return {"reading_org_id": None} if pooled else {}


def expire_leases(session: Session, *, limit: int = 200) -> int:
    """Give back the exams whose readers have fallen silent; returns how many. Called by the scheduler."""
    statement = (
        select(Exam)
        .where(Exam.state.in_(HELD), Exam.lease_until < clock.now())
        .order_by(Exam.lease_until)
        .limit(limit)
        .with_for_update(of=Exam, skip_locked=True)
        .execution_options(populate_existing=True)
    )
    lapsed = session.scalars(statement).all()
    for exam in lapsed:
        _expire(session, exam)
    return len(lapsed)


def next_for(
    session: Session,
    actor: Actor,
    filters: QueueFilters | None = None,
    *,
    without: str = "",
    review: bool | None = None,
    returned: Sequence[Exam] = (),
    corrections: Sequence[Exam] = (),
) -> Lease | None:
    """Claim the most urgent exam that `actor` may take; None where nothing waits for him.

    What came back to him is offered first, behind emergencies only, and corrections to review after it. All else in
    the queue's order; of exams that his skills do not cover none is offered. While his hospital has taken more than its
    part of the shared pool, what is neither an emergency nor overdue there comes after the hospital's own.

    Args:
        session: The transaction.
        actor: Who asks.
        filters: Those of his queue page.
        without: An exam that he has just given back.
        review: True: only reports to review; False: only exams to read; None: both.
        returned: Exams whose text waits for him, in the order in which he is to have them; those outside the queue
            (an addendum or correction of his) come without a lease.
        corrections: Additions and corrections that wait for a review which he may give; without a lease too.
    """
    passed: list[str] = []
    drafts = {exam.id for exam in (*returned, *corrections) if State(exam.state) not in QUEUE_STATES}
    for exam in _suitable(session, actor, filters or QueueFilters(), without, review, returned, corrections):
        if exam.id in drafts:
            return Lease(exam, "", None)
        if not may_claim(exam, actor):
            continue
        if not repository.is_free_now(session, exam):
            passed.append(exam.id)
            continue
        with suppress(Conflict, Forbidden, NotFound):
            return claim(session, actor, exam.id)
    # Who was busy with these may have been no reader; nothing else is left, so it is worth waiting for.
    for exam_id in passed[:3]:
        with suppress(Conflict, Forbidden, NotFound):
            return claim(session, actor, exam_id)
    return None


def upcoming(
    session: Session,
    actor: Actor,
    filters: QueueFilters | None = None,
    *,
    without: str = "",
    review: bool | None = None,
    returned: Sequence[Exam] = (),
    corrections: Sequence[Exam] = (),
) -> Exam | None:
    """The exam that `next_for` would claim now, left where it is: its images may be fetched ahead.

    Args:
        session: The transaction.
        actor: Who asks.
        filters: Those of his queue page.
        without: The exam on his page.
        review: As for `next_for`.
        returned: As for `next_for`.
        corrections: As for `next_for`.
    """
    for exam in _suitable(session, actor, filters or QueueFilters(), without, review, returned, corrections):
        if State(exam.state) not in QUEUE_STATES or may_claim(exam, actor):
            return exam
    return None


def _suitable(
    session: Session,
    actor: Actor,
    chosen: QueueFilters,
    without: str,
    review: bool | None,
    returned: Sequence[Exam],
    corrections: Sequence[Exam],
) -> Iterator[Exam]:
    wanted: list[State] = []
    if review is not True:
        wanted += [State.TO_READ, State.REJECTED]
    if review is not False and actor.has(Role.REVIEWER):
        wanted += [State.TO_REVIEW, State.PRELIMINARY]
    if chosen.states:
        wanted = [state for state in wanted if state in chosen.states]
    if not wanted:
        return
    search = replace(chosen, states=tuple(wanted))
    not_mine = kept.by_others(session, actor)
    skills = rota.skills_of(session, actor.id, clock.now())
    code = session.scalar(select(Organisation.code).where(Organisation.id == actor.org_id))
    found = repository.candidates(
        session,
        actor,
        search,
        modalities=skill_words.modalities(skills),
        pool_last=routing.over_pool_share(session, actor.org_id),
    )
    own = {exam.id for exam in returned}
    offered = _beyond((*returned, *corrections), without)
    last = {exam.id for exam in corrections}
    back = [exam for exam in offered if exam.id not in last]
    for exam in _came_back(session, actor, search, found, back, [exam for exam in offered if exam.id in last]):
        if exam.id == without or exam.id in not_mine:
            continue
        mine = exam.state == State.REJECTED or exam.id in own
        if not mine and not skill_words.covers(skills, exam.modality, exam.body_parts):
            continue
        if exam.reading_org_id is None and not routing.is_offered(session, exam, code):
            continue
        yield exam


def _came_back(
    session: Session,
    actor: Actor,
    search: QueueFilters,
    found: Iterator[Exam],
    returned: Sequence[Exam],
    corrections: Sequence[Exam],
) -> Iterator[Exam]:
    """`found` with what came back to `actor` before it: emergencies first of all, the rest behind those of others.

    His own text comes before what the clinic answered him, and what he is to review of others after both.
    """
    back = kept.first_for(session, actor) if search == QueueFilters(states=search.states) else []
    answered = (
        session.scalars(select(Exam).where(Exam.id.in_(back), Exam.state.in_(search.states))).unique().all()
        if back
        else ()
    )
    first = {exam.id: exam for exam in (*returned, *answered, *corrections)}
    yield from (exam for exam in first.values() if _is_emergency(exam))
    pending = [exam for exam in first.values() if not _is_emergency(exam)]
    for exam in found:
        if pending and exam.priority != "emergency":
            yield from pending
            pending = []
        if exam.id not in first:
            yield exam
    yield from pending


def _is_emergency(exam: Exam) -> bool:
    """Whether the patient waits for it as an emergency: what is written after the signature is no such thing."""
    return exam.priority == "emergency" and State(exam.state) in QUEUE_STATES


def _beyond(returned: Sequence[Exam], without: str) -> Sequence[Exam]:
    """Without the additions and corrections up to the one just left: each is offered in turn, and then the queue."""
    drafts = [exam.id for exam in returned if State(exam.state) not in QUEUE_STATES]
    if without not in drafts:
        return returned
    passed = set(drafts[: drafts.index(without) + 1])
    return [exam for exam in returned if exam.id not in passed]


def may_claim(exam: Exam, actor: Actor) -> bool:
    """Whether opening the exam would give the actor its lease."""
    if State(exam.state) in HELD:
        if exam.lease_person_id == actor.id:
            return True
        if lease_is_live(exam):
            return False
        event = Event.TAKE_OVER if exam.state == State.READING else Event.TAKE_OVER_REVIEW
    elif State(exam.state) in _CLAIMS:
        event = _CLAIMS[State(exam.state)]
    else:
        return False
    if exam.reading_org_id not in (None, actor.org_id):
        return False
    review = event in (Event.CLAIM_REVIEW, Event.TAKE_OVER_REVIEW)
    if review and (
        (exam.author_id == actor.id and needs_second_signature(exam, actor.id)) or is_resident(exam, actor.id)
    ):
        return False
    needed = (Role.REVIEWER,) if review else (Role.REPORTER, Role.REVIEWER)
    try:
        exams.rule_for(exam, event, actor)
    except HubError:
        return False
    return actor.has(*needed)


def see_late_images(session: Session, actor: Actor, exam_id: str, token: str) -> Exam:
    """The reader has looked at images that came late; the mark goes, the record stays.

    After the signature nobody holds the exam: then any reader of the hospital that signed may say so.
    """
    exam = locked(session, actor, exam_id)
    if State(exam.state) not in (State.SIGNED, State.RETURNED, State.SEEN):
        exam = hold(session, actor, exam_id, token)
    elif exam.reading_org_id != actor.org_id:
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    if exam.late_images_at is not None:
        session.execute(update(Exam).where(Exam.id == exam.id).values(late_images_at=None))
        audit.record(
            session, actor, "exam.late-images-seen", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id
        )
        session.refresh(exam)
        exams.announce(session, exam, event="late_images_seen")
    return exam


def required_reason(reason: str) -> str:
    """`reason` without blanks around it.

    Raises:
        Invalid: It is empty or too long.
    """
    reason = reason.strip()
    if not reason:
        raise Invalid(_("请说明原因"), fields={"reason": _("请说明原因")})
    if len(reason) > MAX_REASON:
        raise Invalid(_("原因太长"), fields={"reason": _("最多 {n} 个字").format(n=MAX_REASON)})
    return reason


def _lease_time() -> timedelta:
    return timedelta(minutes=get_settings().lease_minutes)


def _signing_idle() -> timedelta:
    return timedelta(minutes=get_settings().signing_idle_minutes)
