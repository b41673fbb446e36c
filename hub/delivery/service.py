"""Rules of what goes home: a signed report reaches its clinic once, and the clinic's opening it is recorded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.delivery.models import Delivery
from hub.delivery.states import SYSTEM_ROLE, TRANSITIONS, DeliveryEvent, DeliveryState
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.repository import lock
from hub.exams.states import Event, State
from hub.kit import clock, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, NotFound
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.patients.models import Patient
from hub.patients.service import matches
from hub.reports import repository as reports
from hub.reports.models import Report, ReportVersion
from hub.reports.states import RELEASED, VersionState


def return_report(session: Session, actor: Actor, version_id: str) -> Delivery:
    """Put a signed version into the inbox of the clinic that asked for it.

    Safe to run again: there is one delivery of a version to an organisation, and its first times stand.

    Raises:
        Conflict: The version is not signed.
    """
    version = session.get_one(ReportVersion, version_id)
    if version.state not in RELEASED:
        raise Conflict(_("未签发的报告不能回传"), code="not-signed")
    report = session.get_one(Report, version.report_id)
    lock(session, report.exam_id)
    exam = session.scalars(
        select(Exam).where(Exam.id == report.exam_id).execution_options(populate_existing=True)
    ).one()
    now = clock.now()
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    statement: Any = insert(Delivery).values(
        id=new_id(),
        version_id=version.id,
        exam_id=exam.id,
        org_id=exam.org_id,
        state=DeliveryState.QUEUED.value,
        queued_at=version.signed_at or now,
        seen_by_name="",
    )
    session.execute(statement.on_conflict_do_nothing(index_elements=["version_id", "org_id"]))
    delivery = session.scalars(
        select(Delivery).where(Delivery.version_id == version.id, Delivery.org_id == exam.org_id)
    ).one()
    if delivery.state == DeliveryState.QUEUED:
        _move(session, actor, delivery, DeliveryEvent.DELIVER, delivered_at=now)
        audit.record(
            session,
            actor,
            "report.deliver",
            "report_version",
            version.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            exam=exam.id,
        )
        _publish(session, exam, delivery, "delivered")
    latest = reports.latest_signed(session, report.id)
    if exam.state == State.SIGNED and latest is not None and latest.id == version.id:
        # Turnaround counts to the first return; those of later versions stand in their deliveries.
        exams.apply(session, SYSTEM, exam, Event.RETURN, returned_at=exam.returned_at or now)
    elif exam.state == State.PRELIMINARY and version.state == VersionState.ISSUED and delivery.delivered_at == now:
        # The exam's clocks are the formal report's; that the preliminary one went home stands in its delivery.
        exams.apply(session, SYSTEM, exam, Event.RETURN)
    return delivery


def mark_seen(session: Session, actor: Actor, delivery_id: str) -> Delivery:
    """Record that a person of the clinic opened the report. Opening it again changes nothing.

    Raises:
        NotFound: Not his clinic's.
        Forbidden: A machine, or a role that does not receive reports.
        Conflict: Not delivered yet.
    """
    delivery = session.scalars(
        select(Delivery).where(Delivery.id == delivery_id, Delivery.org_id == actor.org_id)
    ).one_or_none()
    if delivery is None:
        raise NotFound(_("没有找到这份报告"))
    if delivery.state == DeliveryState.SEEN:
        return delivery
    lock(session, delivery.exam_id)
    exam = session.scalars(
        select(Exam).where(Exam.id == delivery.exam_id).execution_options(populate_existing=True)
    ).one()
    session.refresh(delivery)
    if delivery.state == DeliveryState.SEEN:
        return delivery
    now = clock.now()
    _move(
        session,
        actor,
        delivery,
        DeliveryEvent.SEE,
        seen_at=now,
        seen_by=actor.id,
        seen_by_name=actor.name,
    )
    audit.record(
        session,
        actor,
        "report.see",
        "report_version",
        delivery.version_id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
    )
    latest = reports.latest_signed(session, delivery.version.report_id)
    if exam.state == State.RETURNED and latest is not None and latest.id == delivery.version_id:
        exams.apply(session, actor, exam, Event.SEE, seen_at=exam.seen_at or now)
    elif exam.state == State.PRELIMINARY and delivery.version.state == VersionState.ISSUED:
        exams.apply(session, actor, exam, Event.SEE)
    _publish(session, exam, delivery, "seen")
    return delivery


def see_version(session: Session, actor: Actor, version_id: str) -> Delivery | None:
    """Record that a version was opened, if `actor` is one of those whose opening it counts; else None."""
    if actor.kind != "person" or actor.roles.isdisjoint(TRANSITIONS[DeliveryState.DELIVERED, DeliveryEvent.SEE].roles):
        return None
    delivery = session.scalars(
        select(Delivery).where(
            Delivery.version_id == version_id,
            Delivery.org_id == actor.org_id,
            Delivery.state != DeliveryState.QUEUED,
        )
    ).one_or_none()
    return mark_seen(session, actor, delivery.id) if delivery is not None else None


def _move(session: Session, actor: Actor, delivery: Delivery, event: DeliveryEvent, **changes: Any) -> None:
    rule = TRANSITIONS.get((DeliveryState(delivery.state), event))
    if rule is None:
        raise Conflict(_("报告还没有送达"), code="wrong-state", state=delivery.state)
    roles = frozenset({SYSTEM_ROLE}) if actor.kind == "system" else actor.roles
    if roles.isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"))
    result = session.execute(
        update(Delivery)
        .where(Delivery.id == delivery.id, Delivery.state == delivery.state)
        .values(state=rule.target.value, **changes)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(delivery)


def _publish(session: Session, exam: Exam, delivery: Delivery, event: str) -> None:
    live.publish(
        session,
        "report",
        exam.id,
        orgs=[exam.org_id, exam.reading_org_id],
        event=event,
        version_id=delivery.version_id,
        delivery_id=delivery.id,
        state=delivery.state,
    )


# --- the inbox ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A delivered report with its exam; `superseded` where a correction, or the formal report, was signed since."""

    delivery: Delivery
    version: ReportVersion
    number: str
    exam: Exam
    superseded: bool


def inbox(
    session: Session,
    actor: Actor,
    *,
    unseen: bool = False,
    text: str = "",
    before: datetime | None = None,
    limit: int = 50,
) -> list[InboxItem]:
    """Reports that came to the actor's clinic, newest first.

    Args:
        session: A session.
        actor: Somebody of a clinic.
        unseen: Only those that nobody has opened.
        text: Beginning of the patient's name, pinyin, initials or number.
        before: Only those delivered before this (the last one's `delivered_at` gives the next page).
        limit: How many at most.
    """
    statement = (
        select(Delivery, Report.number, Exam)
        .join(ReportVersion, ReportVersion.id == Delivery.version_id)
        .join(Report, Report.id == ReportVersion.report_id)
        .join(Exam, Exam.id == Delivery.exam_id)
        .where(Delivery.org_id == actor.org_id, Delivery.delivered_at.is_not(None))
        .order_by(Delivery.delivered_at.desc(), Delivery.id.desc())
        .limit(min(max(limit, 1), 200))
    )
    if unseen:
        statement = statement.where(Delivery.state == DeliveryState.DELIVERED.value)
    if before is not None:
        statement = statement.where(Delivery.delivered_at < before)
    if text.strip():
        # A clinic's reports are of its own patients.
        named = select(Patient.id).where(Patient.org_id == actor.org_id, matches(text))
        statement = statement.where(Exam.patient_id.in_(named))
    rows = session.execute(statement).all()
    newest, heads = _latest(session, {row[0].version.report_id for row in rows})
    # A preliminary report gives way to whatever comes after it.
    return [
        InboxItem(
            delivery=row[0],
            version=row[0].version,
            number=row[1] or "",
            exam=row[2],
            superseded=row[0].version.number
            < (heads if row[0].version.kind == "preliminary" else newest).get(row[0].version.report_id, 0),
        )
        for row in rows
    ]


def _latest(session: Session, report_ids: set[str]) -> tuple[dict[str, int], dict[str, int]]:
    """By report: the number of the last correction that was signed, and of the last version that went out at all.

    What state a version has is asked here: asked in the statement, SQLite walks all signed versions by its index.
    """
    corrections: dict[str, int] = {}
    heads: dict[str, int] = {}
    if not report_ids:
        return corrections, heads
    rows = session.execute(
        select(ReportVersion.report_id, ReportVersion.number, ReportVersion.state, ReportVersion.kind)
        .where(ReportVersion.report_id.in_(report_ids))
        .order_by(ReportVersion.number)
    )
    for report_id, number, state, kind in rows:
        if state in RELEASED:
            heads[report_id] = number
        if state == VersionState.SIGNED and kind == "correction":
            corrections[report_id] = number
    return corrections, heads


def unseen_count(session: Session, org_id: str | None, *, limit: int = 100) -> int:
    """How many reports nobody of the clinic has opened, counted up to `limit`."""
    few = (
        select(Delivery.id)
        .where(Delivery.org_id == org_id, Delivery.state == DeliveryState.DELIVERED.value)
        .limit(limit)
        .subquery()
    )
    return session.scalar(select(func.count()).select_from(few)) or 0


def deliveries_of(session: Session, version_ids: list[str]) -> dict[str, Delivery]:
    """The delivery of each version, by version."""
    rows = session.scalars(select(Delivery).where(Delivery.version_id.in_(version_ids)))
    return {row.version_id: row for row in rows}
