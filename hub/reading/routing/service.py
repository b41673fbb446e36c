"""Routing of exams: the plan in force, decisions about exams that arrive, what follows when nobody answers.

An exam that enters the queue lies where its clinic's first agreement says until a job has decided (`route`, enqueued by
hub.exams.service in the transaction of the event). Nothing here moves an exam that somebody holds or of whose report a
hospital has a draft.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.models import Exam
from hub.exams.repository import lock
from hub.exams.states import State
from hub.kit import clock, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.kit.turns import one_at_a_time
from hub.reading import kept
from hub.reading.routing import alerts, rota, words
from hub.reading.routing import plan as plans
from hub.reading.routing.decide import Decision, Facts, decide
from hub.reading.routing.models import ExamRoute, RoutingPlan
from hub.reading.routing.plan import Plan
from hub.reading.routing.rows import is_free, is_kept, taken_from_pool
from hub.sites.models import Agreement, Organisation, OrgKind

JOB: Final = "routing.route"
READS = (OrgKind.HOSPITAL.value, OrgKind.TERTIARY.value)


@dataclass(frozen=True, slots=True)
class Asked:
    """An exam as far as routing asks of it. `retake_by`: code of the hospital that asked for it as a retake."""

    clinic: str
    modality: str
    body_parts: tuple[str, ...]
    priority: str
    encounter: str
    retake_by: str = ""


# --- the plan -----------------------------------------------------------------------------------------------------


def current(session: Session) -> RoutingPlan | None:
    """The newest version of the plan; None where none was ever saved."""
    return session.scalars(select(RoutingPlan).order_by(RoutingPlan.number.desc()).limit(1)).one_or_none()


def load(session: Session) -> tuple[int, Plan]:
    """Number and rules of the plan in force; 0 and the default where none was saved."""
    row = current(session)
    return (0, plans.DEFAULT) if row is None else (row.number, plans.parse(row.body, clinics=None, hospitals=None))


def versions(session: Session, *, limit: int = 30) -> list[RoutingPlan]:
    """Versions of the plan, newest first."""
    return list(session.scalars(select(RoutingPlan).order_by(RoutingPlan.number.desc()).limit(limit)))


def check(session: Session, body: Mapping[str, Any]) -> Plan:
    """The plan that `body` says.

    Raises:
        Invalid: One message per field.
    """
    rows = session.execute(select(Organisation.code, Organisation.kind)).all()
    return plans.parse(
        body,
        clinics=frozenset(code for code, kind in rows if kind == OrgKind.CLINIC),
        hospitals=frozenset(code for code, kind in rows if kind in READS),
    )


def editor(row: RoutingPlan) -> Message | str:
    """Who saved a version: a person's name, or that it was the hub itself."""
    return _("系统") if row.changed_by == SYSTEM.id else row.changed_by_name


def save(session: Session, actor: Actor, body: Mapping[str, Any], *, based_on: int, note: str = "") -> RoutingPlan:
    """A new version of the plan; exams that arrive from now on follow it.

    Raises:
        Invalid: One message per field.
        Conflict: `plan-changed`: somebody saved another version since the one it is `based_on`.
    """
    one_at_a_time(session, "routing plan")
    before = current(session)
    number = before.number if before is not None else 0
    if based_on != number:
        raise Conflict(
            _("规则刚刚被{name}改过,请刷新后再改").format(name=editor(before) if before else ""),
            code="plan-changed",
            number=number,
        )
    plan = check(session, body)
    row = RoutingPlan(
        number=number + 1,
        body=plans.to_json(plan),
        note=note.strip()[:200],
        changed_at=clock.now(),
        changed_by=actor.id,
        changed_by_name=actor.name[:60],
    )
    session.add(row)
    session.flush()
    old = plans.to_json(plans.parse(before.body, clinics=None, hospitals=None)) if before else plans.to_json(Plan())
    was = {rule["key"]: rule for rule in old["rules"]}
    now = {rule["key"]: rule for rule in row.body["rules"]}
    audit.record(
        session,
        actor,
        "routing.plan",
        "routing_plan",
        str(row.number),
        added=sorted(now.keys() - was.keys()),
        removed=sorted(was.keys() - now.keys()),
        changed=sorted(key for key in now.keys() & was.keys() if now[key] != was[key]),
        settings={name: row.body[name] for name in old if name != "rules" and old[name] != row.body[name]},
    )
    live.publish(session, "routing", str(row.number))
    return row


# --- facts --------------------------------------------------------------------------------------------------------


def asked_of(session: Session, exam: Exam) -> Asked:
    """What routing asks of an exam."""
    by = None
    if exam.retake_of_id is not None:
        by = session.scalar(
            select(Organisation.code)
            .join(Exam, Exam.reading_org_id == Organisation.id)
            .where(Exam.id == exam.retake_of_id)
        )
    return Asked(exam.org.code, exam.modality, tuple(exam.body_parts), exam.priority, exam.encounter, by or "")


def facts(
    session: Session,
    asked: Asked,
    *,
    plan: Plan,
    at: datetime,
    tried: tuple[str, ...] = (),
    settled: str | None = None,
    without: str = "",
) -> Facts:
    """Everything that decides about such an exam at `at`.

    Args:
        session: The transaction.
        asked: The exam, or one that somebody thinks of.
        plan: The rules.
        at: When.
        tried: Codes of hospitals that did not answer.
        settled: Code of the hospital where it was routed before.
        without: Id of the exam, which does not count in its own shares.
    """
    hospitals = select(Organisation.code).where(Organisation.active, Organisation.kind.in_(READS))
    agreed = (
        select(Organisation.code)
        .join(Agreement, Agreement.hospital_id == Organisation.id)
        .where(Organisation.active)
        .where(Agreement.clinic_id.in_(select(Organisation.id).where(Organisation.code == asked.clinic)))
        .order_by(Agreement.rank, Agreement.id)
    )
    return Facts(
        plan=plan,
        at=at,
        zone=get_settings().timezone,
        clinic=asked.clinic,
        modality=asked.modality,
        body_parts=asked.body_parts,
        priority=asked.priority,
        encounter=asked.encounter,
        hospitals=frozenset(session.scalars(hospitals)),
        agreements=tuple(session.scalars(agreed)),
        rota=rota.keeping(session, at),
        duty=rota.on_duty(session, at),
        counts=shares(session, plan, without=without),
        tried=tried,
        settled=settled,
        retake_by=asked.retake_by,
    )


def shares(session: Session, plan: Plan, *, without: str = "") -> dict[tuple[str, str], int]:
    """How many exams each rule gave to each hospital within the plan's window: (rule, code) → number."""
    keys = [rule.key for rule in plan.rules]
    if not keys:
        return {}
    rows = session.execute(
        select(ExamRoute.rule, Organisation.code, func.count())
        .join(Organisation, Organisation.id == ExamRoute.hospital_id)
        .where(
            ExamRoute.rule.in_(keys),
            ExamRoute.decided_at >= clock.now() - timedelta(hours=plan.share_hours),
            ExamRoute.exam_id != without,
        )
        .group_by(ExamRoute.rule, Organisation.code)
    )
    return {(rule, code): count for rule, code, count in rows}


def dry_run(
    session: Session, asked: Asked, *, plan: Plan | None = None, at: datetime | None = None, exam: Exam | None = None
) -> Decision:
    """Where such an exam would go, and why; nothing is written.

    Args:
        session: A session that reads.
        asked: The exam, or one that somebody thinks of.
        plan: Rules that are not saved yet; None: those in force.
        at: When; None: now.
        exam: The real exam that `asked` describes.
    """
    if plan is None:
        _number, plan = load(session)
    return decide(facts(session, asked, plan=plan, at=at or clock.now(), without=exam.id if exam is not None else ""))


# --- routing ------------------------------------------------------------------------------------------------------


def route(session: Session, exam_id: str) -> Decision | None:
    """Decide about an exam that waits to be read; None where there is nothing to decide (any more)."""
    lock(session, exam_id)
    exam = _fresh(session, exam_id)
    if exam is None:
        return None
    row = session.get(ExamRoute, exam_id, populate_existing=True)
    if not is_free(exam, row) or kept.is_kept(session, exam.id):
        return None
    asked = asked_of(session, exam)
    seen = f"{exam.version}:{asked.clinic}:{asked.modality}:{','.join(asked.body_parts)}:{asked.priority}"[:200]
    if row is not None and row.asked == seen:
        return None
    number, plan = load(session)
    settled = _code(session, row.hospital_id) if row is not None and row.decided_at is not None else None
    decision = decide(facts(session, asked, plan=plan, at=clock.now(), settled=settled, without=exam.id))
    place(session, SYSTEM, exam, decision, plan=number, asked=seen, tried=[])
    return decision


def ask_next(session: Session, exam_id: str) -> Decision | None:
    """Nobody answered in time: the next hospital is asked, or the shared pool; None where somebody did."""
    lock(session, exam_id)
    exam = _fresh(session, exam_id)
    row = session.get(ExamRoute, exam_id, populate_existing=True)
    now = clock.now()
    if exam is None or row is None or row.answer_by is None or row.answer_by > now:
        return None
    if not is_free(exam, row):
        row.answer_by = None
        return None
    tried = [*row.tried, _code(session, row.hospital_id) or "pool"]
    number, plan = load(session)
    decision = decide(facts(session, asked_of(session, exam), plan=plan, at=now, tried=tuple(tried), without=exam.id))
    place(session, SYSTEM, exam, decision, plan=number, asked=row.asked, tried=tried)
    alerts.unanswered(session, exam)
    return decision


def overdue_answers(session: Session, *, limit: int = 100) -> list[str]:
    """Ids of exams whose hospital has not answered in time."""
    return list(
        session.scalars(
            select(ExamRoute.exam_id)
            .where(ExamRoute.answer_by <= clock.now())
            .order_by(ExamRoute.answer_by)
            .limit(limit)
        )
    )


def place(
    session: Session, actor: Actor, exam: Exam, decision: Decision, *, plan: int, asked: str, tried: list[str]
) -> None:
    """Write a decision: the exam's hospital, why, and when the next is asked. The exam is locked and free."""
    now = clock.now()
    hospital_id = _id(session, decision.hospital)
    before = exam.reading_org_id
    row = session.get(ExamRoute, exam.id)
    if row is None:
        row = ExamRoute(exam_id=exam.id)
        session.add(row)
    row.hospital_id, row.rule, row.plan, row.why = hospital_id, decision.rule, plan, words.to_json(decision.why)
    row.asked, row.tried, row.offered = asked, tried, list(decision.offered)
    row.decided_at, row.taken_by, row.taken_at = now, None, None
    row.answer_by = now + timedelta(minutes=decision.answer_minutes) if decision.answer_minutes else None
    session.flush()
    session.execute(
        update(Exam)
        .where(Exam.id == exam.id)
        .values(reading_org_id=hospital_id)
        .execution_options(synchronize_session=False)
    )
    session.refresh(exam)
    audit.record(
        session,
        actor,
        "exam.route",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        hospital=decision.hospital,
        rule=decision.rule,
        plan=plan,
        moved=before != hospital_id,
    )
    if before != hospital_id:
        # Whose queue it leaves must hear of it as well.
        live.publish(
            session,
            "exam",
            exam.id,
            orgs=[exam.org_id, before or "shared", hospital_id or "shared"],
            state=exam.state,
            priority=exam.priority,
            event="routed",
        )
    if decision.offered:
        offered = list(session.scalars(select(Organisation.id).where(Organisation.code.in_(decision.offered))))
        live.publish(session, "routing", exam.id, orgs=offered, event="emergency_offered")


def explain(session: Session, exam: Exam) -> tuple[ExamRoute | None, list[Message]]:
    """Where routing put an exam and why; no row where it never looked at it."""
    row = session.get(ExamRoute, exam.id)
    return row, words.from_json(row.why) if row is not None else []


def stays(session: Session, exam: Exam) -> bool:
    """Whether nobody may give the exam to another hospital."""
    return exam.state != State.TO_READ or is_kept(exam, session.get(ExamRoute, exam.id))


def over_pool_share(session: Session, hospital_id: str | None) -> bool:
    """Whether a hospital has taken more than its part of the shared pool within the plan's window."""
    _number, plan = load(session)
    since = clock.now() - timedelta(hours=plan.share_hours)
    taken = taken_from_pool(session, since)
    mine = taken.get(hospital_id or "", 0)
    if not mine:
        return False
    weights = {
        row.id: plan.pool_shares.get(row.code, 1)
        for row in session.execute(
            select(Organisation.id, Organisation.code).where(Organisation.active, Organisation.kind == OrgKind.HOSPITAL)
        )
    }
    whole = sum(weights.values())
    return mine > sum(taken.values()) * weights.get(hospital_id or "", 0) / whole if whole else False


def is_offered(session: Session, exam: Exam, hospital: str | None) -> bool:
    """Whether an exam of the shared pool is offered to a hospital; any may pick it by hand."""
    row = session.get(ExamRoute, exam.id)
    return row is None or not row.offered or hospital in row.offered


def offered_of(session: Session, exam_ids: Sequence[str]) -> dict[str, list[str]]:
    """Exam id → codes of the hospitals to whom it is offered at once, for marks in the queue."""
    if not exam_ids:
        return {}
    rows = session.execute(
        select(ExamRoute.exam_id, ExamRoute.offered).where(
            ExamRoute.exam_id.in_(exam_ids), ExamRoute.hospital_id.is_(None), ExamRoute.taken_at.is_(None)
        )
    )
    return {exam_id: list(codes) for exam_id, codes in rows if codes}


def _fresh(session: Session, exam_id: str) -> Exam | None:
    return session.scalars(
        select(Exam).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()


def _code(session: Session, org_id: str | None) -> str | None:
    return session.scalar(select(Organisation.code).where(Organisation.id == org_id)) if org_id else None


def _id(session: Session, code: str | None) -> str | None:
    return session.scalars(select(Organisation.id).where(Organisation.code == code)).one() if code else None
