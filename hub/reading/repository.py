"""Queries of the queue. Every one starts from `visible_to`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, union_all
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES
from hub.exams.models import Exam
from hub.exams.repository import is_open, visibility
from hub.exams.states import QUEUE_STATES, State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.patients.models import Patient
from hub.patients.service import matches
from hub.reading import kept
from hub.sites.models import Organisation, OrgKind

READ_STATES = (State.TO_READ, State.READING, State.REJECTED)
REVIEW_STATES = (State.TO_REVIEW, State.REVIEWING, State.PRELIMINARY)
WAITING_STATES = (State.HISTORY_REQUESTED, State.CONSULTATION)
NO_LIMIT = datetime(9999, 1, 1, tzinfo=UTC)
"""Sorts exams without a limit behind those that have one."""


@dataclass(frozen=True, slots=True)
class QueueFilters:
    """What the queue shows.

    Attributes:
        states: of QUEUE_STATES; empty: all.
        clinic_id: requesting organisation.
        modality: CT, DX, …
        priority: emergency, urgent, routine.
        text: beginning of a name (王), of its pinyin (wangwei) or initials (ww), an accession or patient number.
        mine: only what the actor holds, wrote or must correct.
        overdue: only what is past its limit.
        hospital: reading organisation, or POOL; for those who see several.
    """

    states: tuple[State, ...] = ()
    clinic_id: str = ""
    modality: str = ""
    priority: str = ""
    text: str = ""
    mine: bool = False
    overdue: bool = False
    hospital: str = ""


POOL = "pool"
"""Stands for the shared pool where a hospital is named."""


class Tier(IntEnum):
    """The order of the queue: emergencies, then whatever is past its limit, then urgent, then routine exams."""

    EMERGENCY = 0
    OVERDUE = 1
    URGENT = 2
    ROUTINE = 3


@dataclass(frozen=True, slots=True)
class QueueKey:
    """A place in the queue's order."""

    tier: int
    due_at: datetime | None
    id: str

    def encode(self) -> str:
        """Opaque text for addresses."""
        parts = [self.tier, self.due_at.isoformat() if self.due_at else None, self.id]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> QueueKey | None:
        """The place, or None where the text is not one."""
        try:
            tier, due, row = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            return cls(int(tier), datetime.fromisoformat(due) if due else None, str(row))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class QueuePage:
    """One page of the queue, the key at which the next begins, and bounded counts by state."""

    exams: list[Exam]
    after: str | None
    counts: dict[State, int] = field(default_factory=dict)


COUNT_LIMIT = 200
_NOT_SIGNED = sorted(state.value for state in set(State) - {State.SIGNED, State.RETURNED, State.SEEN})


def reading_orgs(session: Session, actor: Actor, only: str = "") -> list[str | None]:
    """Hospitals whose queue the actor may see; None stands for the shared pool. `only` one of them, or POOL."""
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        hospitals = select(Organisation.id).where(Organisation.kind != OrgKind.CLINIC).order_by(Organisation.id)
        found: list[str | None] = [*session.scalars(hospitals), None]
    else:
        found = [actor.org_id, None]
    if only:
        wanted = None if only == POOL else only
        return [org for org in found if org == wanted]
    return found


def late_after_signing(session: Session, actor: Actor, *, limit: int = 100) -> list[Exam]:
    """Exams of the actor's hospital that got images after their report was signed, unlooked at, oldest first."""
    hospitals = [org for org in reading_orgs(session, actor) if org]
    return list(
        session.scalars(
            select(Exam)
            .where(
                Exam.late_images_at.is_not(None),
                # NOT IN: most exams are in one of these states, and SQLite would walk them all by an index of states.
                Exam.state.not_in(_NOT_SIGNED),
                Exam.reading_org_id.in_(hospitals),
            )
            .order_by(Exam.late_images_at)
            .limit(limit)
        ).unique()
    )


def conditions(actor: Actor, filters: QueueFilters) -> list[ColumnElement[bool]]:
    """What `filters` ask of an exam, but for its state and hospital."""
    found: list[ColumnElement[bool]] = []
    if filters.clinic_id:
        found.append(Exam.org_id == filters.clinic_id)
    if filters.modality:
        found.append(Exam.modality == filters.modality)
    if filters.priority:
        found.append(Exam.priority == filters.priority)
    if filters.overdue:
        found.append(Exam.due_at < func.coalesce(Exam.paused_at, clock.now()))
    if filters.mine:
        found.append(or_(Exam.lease_person_id == actor.id, Exam.author_id == actor.id, kept.mine(actor)))
    text = filters.text.strip()
    if text:
        # Asked of the patients of the queue: all of that name in the county would be looked for once for each state.
        named = select(Patient.id).where(Patient.id == Exam.patient_id, matches(text)).correlate(Exam).exists()
        found.append(or_(Exam.accession == text.upper(), named))
    return found


def _after(tier: Tier, key: QueueKey | None, *, with_limit: bool) -> list[ColumnElement[bool]] | None:
    """What of a tier comes after `key`; None: nothing."""
    if key is None or tier > key.tier:
        return []
    if tier < key.tier or (with_limit and key.due_at is None):
        return None
    if with_limit:
        return [or_(Exam.due_at > key.due_at, (Exam.due_at == key.due_at) & (Exam.id > key.id))]
    return [Exam.id > key.id] if key.due_at is None else []


_RANKS = {Tier.EMERGENCY: (0,), Tier.OVERDUE: (1, 2), Tier.URGENT: (1,), Tier.ROUTINE: (2,)}


def _branches(tier: Tier, now: datetime, key: QueueKey | None) -> Iterator[tuple[list[ColumnElement[bool]], Any]]:
    """Conditions and order of the ranges of one state of one hospital that make up a tier.

    NULLs sort first on SQLite and last on PostgreSQL; apart, they sort the same. The few without a limit are not
    ordered by a column: that would let a database walk all exams of the hospital in the order of an index on it.
    """
    limited = _after(tier, key, with_limit=True)
    if limited is not None:
        for rank in _RANKS[tier]:
            bound: ColumnElement[bool] = Exam.due_at.is_not(None)
            if tier is Tier.OVERDUE:
                bound = Exam.due_at < now
            elif tier is not Tier.EMERGENCY:
                bound = Exam.due_at >= now
            yield [Exam.priority_rank == rank, bound, *limited], (Exam.due_at, Exam.id)
    unlimited = _after(tier, key, with_limit=False)
    if unlimited is not None and tier is not Tier.OVERDUE:
        yield [Exam.priority_rank == _RANKS[tier][0], Exam.due_at.is_(None), *unlimited], (Exam.id.concat(""),)


def _ordered_ids(
    session: Session,
    orgs: Sequence[str | None],
    filters: QueueFilters,
    asked: Sequence[ColumnElement[bool]],
    key: QueueKey | None,
    limit: int,
    *,
    tiers: Sequence[Tier] = tuple(Tier),
) -> list[tuple[int, datetime | None, str]]:
    """The first `limit` keys of the queue of these hospitals.

    One state and priority of one hospital is a range of the queue's index that is already in order. So each such range
    gives at most `limit` rows, and what is sorted is never the whole queue, however long it is; tiers that are not
    needed any more are not asked for.
    """
    states = [state for state in (filters.states or tuple(QUEUE_STATES)) if state in QUEUE_STATES]
    now = clock.now()
    found: list[tuple[int, datetime | None, str]] = []
    for tier in tiers:
        parts: list[Select[Any]] = []
        for org in orgs:
            routed = Exam.reading_org_id == org if org else Exam.reading_org_id.is_(None)
            for state in sorted(states):
                for bounds, order in _branches(tier, now, key):
                    part = (
                        select(Exam.due_at, Exam.id)
                        .where(Exam.state == state.value, routed, *bounds, *asked)
                        .order_by(*order)
                        .limit(limit)
                        .subquery()
                    )
                    parts.append(select(part))
        if not parts:
            continue
        rows = [(int(tier), row[0], row[1]) for row in session.execute(union_all(*parts))]
        rows.sort(key=lambda row: (row[1] or NO_LIMIT, row[2]))
        found += rows
        if len(found) >= limit:
            break
    return found[:limit]


def page(
    session: Session, actor: Actor, filters: QueueFilters, *, after: str = "", limit: int = 60, counts: bool = True
) -> QueuePage:
    """One page of the queue in its stable order: emergencies, overdue, urgent, routine; each by nearest limit."""
    asked = conditions(actor, filters)
    key = QueueKey.decode(after) if after else None
    keys = _ordered_ids(session, reading_orgs(session, actor, filters.hospital), filters, asked, key, limit + 1)
    more = len(keys) > limit
    keys = keys[:limit]
    ids = [row for _tier, _due, row in keys]
    loaded = {
        exam.id: exam
        for exam in session.scalars(select(Exam).where(visibility(actor), Exam.id.in_(ids)))
    }  # fmt: skip
    exams = [loaded[row] for row in ids if row in loaded]
    return QueuePage(
        exams=exams,
        after=QueueKey(*keys[-1]).encode() if more and keys else None,
        counts=count_states(session, actor, hospital=filters.hospital) if counts else {},
    )


_BATCH = 40
_MOST_BATCHES = 50


def candidates(
    session: Session,
    actor: Actor,
    filters: QueueFilters,
    *,
    modalities: Sequence[str] = (),
    pool_last: bool = False,
) -> Iterator[Exam]:
    """Exams of the queue that might be offered to `actor`, in order, as far as he asks for more.

    Args:
        session: The session.
        actor: Who asks; reports that were rejected are offered to their authors alone.
        filters: Those of his queue page.
        modalities: Only these; empty: all.
        pool_last: His hospital has had its share of the shared pool: what is neither an emergency nor overdue there
            comes after all that is his hospital's own.
    """
    asked = conditions(actor, filters)
    asked.append(or_(Exam.state != State.REJECTED.value, Exam.author_id == actor.id))
    if modalities:
        asked.append(or_(Exam.modality.in_(modalities), Exam.state == State.REJECTED.value))
    orgs = reading_orgs(session, actor, filters.hospital)
    rounds: list[tuple[list[str | None], tuple[Tier, ...]]] = [(orgs, tuple(Tier))]
    if pool_last and None in orgs:
        own: list[str | None] = [org for org in orgs if org]
        calm = (Tier.URGENT, Tier.ROUTINE)
        rounds = [(orgs, (Tier.EMERGENCY, Tier.OVERDUE)), (own, calm), ([None], calm)]
    for hospitals, tiers in rounds:
        key: QueueKey | None = None
        for _number in range(_MOST_BATCHES):
            keys = _ordered_ids(session, hospitals, filters, asked, key, _BATCH, tiers=tiers)
            ids = [row for _tier, _due, row in keys]
            # The first is nearly always taken: the rows of the others, the widest there are, are seldom looked at.
            for start, end in ((0, 1), (1, 8), (8, _BATCH)):
                some = ids[start:end]
                loaded = {one.id: one for one in session.scalars(select(Exam).where(Exam.id.in_(some)))} if some else {}
                yield from (loaded[row] for row in some if row in loaded)
            if len(keys) < _BATCH:
                break
            key = QueueKey(*keys[-1])


def is_free_now(session: Session, exam: Exam) -> bool:
    """Lock the exam if nobody else is about to change it: who pulls the next one does not wait for who was faster."""
    return (
        session.scalar(
            select(Exam.id)
            .where(Exam.id == exam.id, Exam.state == exam.state)
            .with_for_update(key_share=True, skip_locked=True)
        )
        is not None
    )


def count_states(session: Session, actor: Actor, *, hospital: str = "", limit: int = COUNT_LIMIT) -> dict[State, int]:
    """How many exams wait in each state, counted up to `limit`: a queue of 100,000 is not counted to show "200+"."""
    counts: dict[State, int] = dict.fromkeys(QUEUE_STATES, 0)
    parts: list[Select[Any]] = []
    for org in reading_orgs(session, actor, hospital):
        routed = Exam.reading_org_id == org if org else Exam.reading_org_id.is_(None)
        for state in sorted(QUEUE_STATES):
            few = select(Exam.id).where(is_open(), Exam.state == state.value, routed).limit(limit).subquery()
            part: Select[Any] = select(literal(state.value), func.count()).select_from(few)  # type: ignore[assignment]
            parts.append(part)
    if not parts:
        return counts
    for value, number in session.execute(union_all(*parts)):
        counts[State(value)] = min(limit, counts[State(value)] + number)
    return counts


def priors(session: Session, actor: Actor, exam: Exam, *, limit: int = 20) -> Sequence[Exam]:
    """Other exams of the same human being that the actor may see, newest first."""
    statement = (
        select(Exam)
        .join(Patient, Patient.id == Exam.patient_id)
        .where(
            visibility(actor),
            Patient.county_patient_id == exam.patient.county_patient_id,
            Exam.id != exam.id,
            Exam.state.not_in([State.CANCELLED, State.VOID]),
        )
        .order_by(Exam.registered_at.desc())
        .limit(limit)
    )
    return session.scalars(statement).all()
