"""Rebalancing: when a hospital falls behind, what waits there and nobody holds is given to others who can read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.exams import limits
from hub.exams.models import Exam
from hub.exams.repository import is_open, lock, visible_to
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Forbidden, Invalid
from hub.kit.i18n import Message, _
from hub.reading import kept
from hub.reading.routing import alerts, rota, rows, service
from hub.reading.routing.decide import Decision, decide
from hub.reading.routing.models import ExamRoute
from hub.reading.routing.plan import Plan
from hub.sites.models import Organisation

MOST = 200


@dataclass(frozen=True, slots=True)
class Load:
    """How a hospital stands.

    Attributes:
        hospital: The organisation.
        waiting: Exams that wait to be read.
        held: Exams that its people hold.
        review: Reports that wait for review.
        overdue: Exams of it past their limit.
        oldest: Since when the longest waiting one waits.
        behind: How many waiting ones are past the county's bounds.
        is_behind: Whether that makes it one that falls behind.
        routed: Exams that came to it within the plan's window.
        share: Its part of all exams of that window, in percent; None where there were none.
        duty: Who is on duty, with the end of each shift.
        keeps_rota: Whether it keeps a rota at all.
    """

    hospital: Organisation
    waiting: int
    held: int
    review: int
    overdue: int
    oldest: datetime | None
    behind: int
    is_behind: bool
    routed: int
    share: float | None
    duty: list[tuple[str, datetime]]
    keeps_rota: bool


@dataclass(frozen=True, slots=True)
class Move:
    """An exam that would go elsewhere. `target` is a hospital's code, or None: the shared pool."""

    exam: Exam
    source: str
    target: str | None
    why: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A move that somebody saw and agreed to; it is done only where the exam still lies at `source`."""

    exam_id: str
    source: str
    target: str | None


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a wanted move; `refusal` says why it was not done."""

    exam_id: str
    refusal: Message | None


def loads(session: Session, *, plan: Plan | None = None) -> list[Load]:
    """How every reading hospital stands, by code."""
    if plan is None:
        _number, plan = service.load(session)
    now = clock.now()
    hospitals = session.scalars(
        select(Organisation)
        .where(Organisation.active, Organisation.kind.in_(service.READS))
        .order_by(Organisation.kind, Organisation.code)
    ).all()
    counts: dict[tuple[str | None, str], int] = {}
    states = [State.TO_READ, State.READING, State.REJECTED, State.TO_REVIEW, State.REVIEWING, State.PRELIMINARY]
    for org_id, state, number in session.execute(
        select(Exam.reading_org_id, Exam.state, func.count())
        .where(is_open(), Exam.state.in_([state.value for state in states]))
        .group_by(Exam.reading_org_id, Exam.state)
    ):
        counts[org_id, state] = number
    late: dict[str | None, int] = {}
    for org_id, number in session.execute(
        select(Exam.reading_org_id, func.count())
        .where(is_open(), Exam.state.in_([state.value for state in states]), Exam.due_at < now)
        .group_by(Exam.reading_org_id)
    ):
        late[org_id] = number
    oldest: dict[str | None, datetime] = {
        org_id: since
        for org_id, since in session.execute(
            select(Exam.reading_org_id, func.min(Exam.queued_at))
            .where(is_open(), Exam.state == State.TO_READ.value)
            .group_by(Exam.reading_org_id)
        )
        if since is not None
    }
    routed: dict[str | None, int] = {}
    for org_id, number in session.execute(
        select(ExamRoute.hospital_id, func.count())
        .where(ExamRoute.decided_at >= rows.window(plan.share_hours))
        .group_by(ExamRoute.hospital_id)
    ):
        routed[org_id] = number
    whole = sum(number for org_id, number in routed.items() if org_id is not None)
    behind = _count_behind(session, plan, now)
    duty, keeping = rota.names_on_duty(session, now), rota.keeping(session, now)
    return [
        Load(
            hospital=org,
            waiting=counts.get((org.id, State.TO_READ), 0) + counts.get((org.id, State.REJECTED), 0),
            held=counts.get((org.id, State.READING), 0) + counts.get((org.id, State.REVIEWING), 0),
            review=counts.get((org.id, State.TO_REVIEW), 0) + counts.get((org.id, State.PRELIMINARY), 0),
            overdue=late.get(org.id, 0),
            oldest=oldest.get(org.id),
            behind=behind[org.id],
            is_behind=behind[org.id] >= plan.balance.exams,
            routed=routed.get(org.id, 0),
            share=round(100 * routed.get(org.id, 0) / whole, 1) if whole else None,
            duty=duty.get(org.id, []),
            keeps_rota=org.code in keeping,
        )
        for org in hospitals
    ]


def pool_waiting(session: Session) -> int:
    """Exams that wait in the shared pool."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Exam)
            .where(is_open(), Exam.state == State.TO_READ.value, Exam.reading_org_id.is_(None))
        )
        or 0
    )


_COUNTED: Final = (
    *(Exam.reading_org_id, Exam.queued_at, Exam.due_at, Exam.registered_at, Exam.exam_at, Exam.received_at),
    *(Exam.preliminary_at, Exam.consultation_at, Exam.modality, Exam.priority, Exam.encounter, Exam.body_parts),
)
"""What tells whether an exam is past a bound."""


def _waiting(plan: Plan, now: datetime, *what: Any, all_of: str = "") -> Select[Any]:
    """Select `what` of the exams that are free to move and may be past a bound; nothing younger can be."""
    return (
        select(*what)
        .outerjoin(ExamRoute, ExamRoute.exam_id == Exam.id)
        .where(
            is_open(),
            Exam.state == State.TO_READ.value,
            Exam.reading_org_id.is_not(None),
            Exam.lease_person_id.is_(None),
            Exam.author_id.is_(None),
            ExamRoute.kept_by.is_(None),
            or_(
                Exam.queued_at <= now - timedelta(minutes=plan.balance.waiting_minutes),
                Exam.due_at.is_not(None),
                Exam.reading_org_id == all_of,
            ),
        )
        .order_by(Exam.priority_rank, Exam.due_at, Exam.id)
        .limit(2000)
    )


def _is_late(session: Session, exam: Exam, plan: Plan, now: datetime) -> bool:
    bounds = plan.balance
    waited = exam.queued_at is not None and exam.queued_at <= now - timedelta(minutes=bounds.waiting_minutes)
    return waited or _used(session, exam, bounds.limit_percent, now)


def _count_behind(session: Session, plan: Plan, now: datetime) -> Counter[str]:
    """Hospital id → how many of `_behind`. Asked beside every queue page: no exam is loaded whole to be counted."""
    rows_ = session.execute(_waiting(plan, now, *_COUNTED))
    return Counter(row.reading_org_id for row in rows_ if _is_late(session, cast("Exam", row), plan, now))


def _behind(session: Session, plan: Plan, now: datetime, *, all_of: str = "") -> dict[str, list[Exam]]:
    """Hospital id → its waiting exams that are past the county's bounds and free to move; `all_of`: all of that one."""
    found: dict[str, list[Exam]] = {}
    for exam in session.scalars(_waiting(plan, now, Exam, all_of=all_of)):
        if exam.reading_org_id == all_of or _is_late(session, exam, plan, now):
            found.setdefault(exam.reading_org_id, []).append(exam)
    return found


def _used(session: Session, exam: Exam, percent: int, now: datetime) -> bool:
    if exam.due_at is None:
        return False
    limit = limits.limit_for(session, exam)
    if percent >= 100:
        return exam.due_at + timedelta(minutes=limit.minutes * (percent - 100) / 100) <= now
    at = alerts.moment(session, exam, limit, percent)
    return at is not None and at <= now


def propose(session: Session, *, hospital_id: str = "") -> list[Move]:
    """What would be moved now: what is past the bounds where a hospital is behind, or all that waits at the one named.

    A target is chosen by the rules as if the hospital had not answered; where they name nobody, it is the one with the
    fewest waiting for each person on duty. A hospital that is behind itself gets nothing.
    """
    number, plan = service.load(session)
    del number
    now = clock.now()
    behind = _behind(session, plan, now, all_of=hospital_id)
    codes = {load.hospital.id: load for load in loads(session, plan=plan)}
    weary = {
        load.hospital.code
        for load in codes.values()
        if load.is_behind or (hospital_id and load.hospital.id == hospital_id)
    }
    waiting = {load.hospital.code: load.waiting for load in codes.values()}
    hands = {load.hospital.code: max(1, len(load.duty)) for load in codes.values()}
    found: list[Move] = []
    for source_id, exams in behind.items():
        load = codes.get(source_id)
        if load is None or (hospital_id and source_id != hospital_id) or not (load.is_behind or hospital_id):
            continue
        source = load.hospital.code
        for exam in exams[: MOST - len(found)]:
            asked = service.asked_of(session, exam)
            facts = service.facts(session, asked, plan=plan, at=now, tried=tuple(sorted(weary)), without=exam.id)
            decision = decide(facts)
            if decision.hospital is None and decision.rule == "pool":
                # No rule names anybody else: whoever has the fewest waiting and could read it.
                others = [
                    code
                    for code in facts.hospitals - weary
                    if code in facts.duty
                    and waiting.get(code, 0) / hands.get(code, 1) < waiting[source] / hands[source]
                ]
                if others:
                    least = min(others, key=lambda code: (waiting.get(code, 0) / hands.get(code, 1), code))
                    decision = Decision(
                        least,
                        (_("{hospital}有人值班,等待的检查最少").format(hospital=least),),
                        "balance",
                    )
            reasons = decision.why
            if load.behind:
                late = _("{hospital}有 {n} 份检查等待超过界限").format(hospital=source, n=load.behind)
                reasons = (late, *reasons)
            found.append(Move(exam, source, decision.hospital, reasons))
            waiting[source] = waiting.get(source, 1) - 1
            if decision.hospital:
                waiting[decision.hospital] = waiting.get(decision.hospital, 0) + 1
    return found


def move(session: Session, actor: Actor, wanted: Sequence[Wanted], *, reason: str = "") -> list[Moved]:
    """Do what was proposed, each where it still holds: nobody holds the exam, nobody has a draft, it lies where it lay.

    Raises:
        Forbidden: Only the director (and the hub itself) moves exams.
        Invalid: Too many at once, or an unknown hospital.
    """
    if actor.kind != "system" and not actor.has(Role.DIRECTOR):
        raise Forbidden()
    if len(wanted) > MOST:
        raise Invalid(_("一次最多移动 {n} 份").format(n=MOST))
    known = {row.code: row.id for row in session.scalars(
        select(Organisation).where(Organisation.active, Organisation.kind.in_(service.READS))
    )}  # fmt: skip
    for one in wanted:
        if one.target is not None and one.target not in known:
            raise Invalid(fields={"target": _("没有“{name}”").format(name=one.target[:40])})
    number, plan = service.load(session)
    lock(session, *sorted({one.exam_id for one in wanted}))
    done: list[Moved] = []
    for one in wanted:
        exam = session.scalars(
            visible_to(actor).where(Exam.id == one.exam_id).execution_options(populate_existing=True)
        ).one_or_none()
        if exam is None:
            done.append(Moved(one.exam_id, _("没有找到这项检查")))
            continue
        row = session.get(ExamRoute, exam.id, populate_existing=True)
        here = exam.reading_org.code if exam.reading_org is not None else None
        refusal = None
        if exam.state != State.TO_READ:
            refusal = _("已有人处理,不再移动")
        elif not rows.is_free(exam, row):
            refusal = _("医院已有草稿,不再移动")
        elif kept.is_kept(session, exam.id):
            refusal = _("已有人处理,不再移动")
        elif here != one.source:
            refusal = _("已被移到别处")
        elif here == one.target:
            refusal = _("已在那里")
        if refusal is not None:
            done.append(Moved(exam.id, refusal))
            continue
        why = [_("由{name}移动").format(name=actor.name) if actor.kind == "person" else _("系统自动再平衡")]
        if reason.strip():
            why.append(Message("{reason}", {"reason": reason.strip()[:200]}))
        why.append(
            _("因此到{hospital}").format(hospital=one.target) if one.target else _("进入共享池,任何医院都可以接")
        )
        decision = Decision(one.target, tuple(why), "balance" if actor.kind == "system" else "hand",
                            plan.answer_minutes.get(exam.priority, 0) if one.target else 0)  # fmt: skip
        asked = row.asked if row is not None else ""
        tried = [*(row.tried if row is not None else []), one.source]
        service.place(session, actor, exam, decision, plan=number, asked=asked, tried=tried)
        done.append(Moved(exam.id, None))
    return done


def automatic(session: Session) -> int:
    """Move what `propose` says, where the county has switched that on; returns how many were moved."""
    _number, plan = service.load(session)
    if not plan.balance.automatic:
        return 0
    wanted = [Wanted(one.exam.id, one.source, one.target) for one in propose(session) if one.target != one.source]
    return sum(one.refusal is None for one in move(session, SYSTEM, wanted)) if wanted else 0
