"""Queries for exams. Every one starts from `visible_to`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, false, literal_column, or_, select, true
from sqlalchemy.orm import Session, aliased

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.exams.models import Exam, Transition
from hub.exams.states import OPEN_STATES, Event, State
from hub.kit import clock
from hub.kit.actor import QUERY_SCOPE, Actor
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.patients.models import Patient
from hub.sites.models import OrgKind

READERS_DO_NOT_SEE = (State.REGISTERED, State.RECEIVING, State.CANCELLED)
"""What has no images yet, is still arriving, or never came, is the clinic's alone."""

AMONG_READERS = frozenset({Event.REJECT, Event.TAKE_OVER, Event.TAKE_OVER_REVIEW})
"""Events whose reason is a word among readers: it speaks of a text that nobody has signed."""


def visibility(actor: Actor, *, held: bool = True) -> ColumnElement[bool]:
    """The condition under which `actor` may know an exam.

    A clinic sees its own; a reader what is routed to his hospital or shared, and the priors (same county patient)
    of an exam that he holds; quality officer and director everything; an administrator and an operator nothing
    clinical.

    Args:
        actor: Who asks.
        held: False leaves out the priors, for who has looked up `priors` already.
    """
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return true()
    conditions: list[ColumnElement[bool]] = []
    if actor.org_id and (actor.kind == "machine" or actor.has(Role.TECHNOLOGIST, Role.CLINICIAN)):
        conditions.append(Exam.org_id == actor.org_id)
    if reads(actor):
        # NOT IN: SQLite would take a list of most states for selective, and walk an index of all exams by state.
        routed = [Exam.reading_org_id == actor.org_id, Exam.reading_org_id.is_(None)]
        if held:
            routed.append(_prior(actor.id, clock.now()))
        conditions.append(Exam.state.not_in(READERS_DO_NOT_SEE) & or_(*routed))
    if archive_of_readers(actor):
        conditions.append(
            Exam.state.not_in(READERS_DO_NOT_SEE)
            & or_(Exam.reading_org_id == actor.org_id, Exam.reading_org_id.is_(None))
        )
    return or_(*conditions) if conditions else false()


def reads(actor: Actor) -> bool:
    """Whether `actor` is a reader of a hospital: he knows what is routed there, what is shared, and priors."""
    return bool(actor.org_id and actor.has(Role.REPORTER, Role.REVIEWER))


def _prior(holder_id: Any, at: Any) -> ColumnElement[bool]:
    held, holder, other = aliased(Exam), aliased(Patient), aliased(Patient)
    same_human = (
        select(other.id)
        .join(holder, holder.county_patient_id == other.county_patient_id)
        .join(held, held.patient_id == holder.id)
        .where(held.lease_person_id == holder_id, held.lease_until > at)
    )
    return Exam.patient_id.in_(same_human)


def priors(holder_id: Any, at: Any) -> ColumnElement[bool]:
    """The part of a reader's `visibility` that is no hospital's: exams of the people of whom he holds one `at` a time.

    Both may be parameters of a statement that is made once.
    """
    return Exam.state.not_in(READERS_DO_NOT_SEE) & _prior(holder_id, at)


def archive_of_readers(actor: Actor) -> bool:
    """Whether `actor` is the picture archive of a reading hospital: it knows what is routed there or shared.

    It holds no exam, so it sees nobody's priors by one. The archive of a clinic knows what its clinic sent.
    """
    return bool(
        actor.kind == "machine"
        and actor.org_id
        and QUERY_SCOPE in actor.scopes
        and actor.org_kind in (OrgKind.HOSPITAL, OrgKind.TERTIARY)
    )


def is_open() -> ColumnElement[bool]:
    """The condition that somebody still owes the clinic a formal report.

    Written out, not bound: only so do databases know the index of these few exams by it.
    """
    return Exam.state.not_in([literal_column(f"'{state.value}'") for state in sorted(set(State) - OPEN_STATES)])


def open_identity() -> ColumnElement[bool]:
    """The condition that images and registration disagree, and nobody has decided.

    Written out, not bound: only so can SQLite use the index of these few exams.
    """
    return Exam.identity == literal_column("'open'")


def knows_own_alone(actor: Actor) -> bool:
    """Whether `actor` knows no exams but those of his own clinic, whose patients are the clinic's own, too."""
    county = actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES)
    return not (county or reads(actor) or archive_of_readers(actor))


def visible_to(actor: Actor) -> Select[Exam]:
    """Select of the exams that `actor` may know."""
    return select(Exam).where(visibility(actor))


def get(session: Session, actor: Actor, exam_id: str) -> Exam:
    """The exam, or NotFound where it does not exist or is not the actor's to know."""
    exam = session.scalars(visible_to(actor).where(Exam.id == exam_id)).one_or_none()
    if exam is None:
        raise NotFound(_("没有找到这项检查"))
    return exam


def lock(session: Session, *exam_ids: str) -> None:
    """Keep others from changing these exams until the transaction ends; what is read afterwards is as they left it.

    A statement of its own: PostgreSQL joins a row for which it had to wait with the rows of before the wait, and an
    exam would come with the patient that it had, or with none. FOR NO KEY UPDATE: a row that only refers to an exam (an
    upload, a link, a transition) is written without waiting, and so cannot wait in a circle.
    """
    session.execute(
        select(Exam.id).where(Exam.id.in_(exam_ids)).order_by(Exam.id).with_for_update(key_share=True)
    ).all()


def hold(session: Session, exam: Exam) -> None:
    """Lock an exam that was read before, and read it again with its patient: what is decided now stays true."""
    lock(session, exam.id)
    session.scalars(select(Exam).where(Exam.id == exam.id).execution_options(populate_existing=True)).one()


def reason_for(actor: Actor, exam: Exam, row: Transition) -> str:
    """Why an exam's state changed, as far as it is the actor's to read.

    What readers say of a draft never goes to a clinic, nor to the readers of another hospital.
    """
    if Event(row.event) not in AMONG_READERS or actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return row.reason
    inside = exam.reading_org_id in (None, actor.org_id)
    return row.reason if inside and actor.has(Role.REPORTER, Role.REVIEWER, Role.EXPERT) else ""
