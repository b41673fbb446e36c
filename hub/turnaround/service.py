"""Turnaround: today's board, numbers by period, the exams behind a number, and the settings they are judged by.

Whoever holds the permission sees the county's clocks. No function here reads a patient's name, history or report: the
pages name exams by accession number and lead, for those who may, to the clinical pages, which have their own scope.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, get_args

import numpy as np
from sqlalchemy import ColumnElement, extract, func, select, update
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Permission, permissions_of
from hub.audit import service as audit
from hub.exams import calendar, limits
from hub.exams.catalogue import MODALITIES, PRIORITIES
from hub.exams.limits import CLASS_NAMES, Limits
from hub.exams.models import Exam, Transition
from hub.exams.repository import hold, is_open, visibility
from hub.exams.states import OPEN_STATES, State
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _, current_locale
from hub.kit.settings import get_settings
from hub.sites.models import CountySetting, Organisation
from hub.turnaround import measures
from hub.turnaround.frame import Frame, Mask, Seconds, Text, bounds, of_class, pull
from hub.turnaround.measures import MEASURES, Cell, Share, Stage

By = Literal["clinic", "hospital", "author", "reviewer", "modality", "priority", "class", "day"]

GROUPINGS: dict[By, Message] = {
    "clinic": _("卫生院"),
    "hospital": _("阅片医院"),
    "author": _("书写医师"),
    "reviewer": _("审核医师"),
    "modality": _("检查类型"),
    "priority": _("优先级"),
    "class": _("时限类别"),
    "day": _("日期"),
}

NONE = "none"
"""Key of the group without a hospital (shared pool) or doctor (nobody yet)."""

LONGEST_PERIOD_DAYS = 366 * 3
EARLIEST, LATEST = date(1990, 1, 1), date(2999, 12, 31)
OVERDUE_SHOWN = 12
SOON = timedelta(minutes=30)

SOURCE_NAMES: dict[str, Message] = {
    "modality": _("设备时钟"),
    "registration": _("以登记时间代替"),
    "arrival": _("以首幅影像到达时间代替"),
}

WAITS_FOR: dict[State, Message] = {
    State.REGISTERED: _("等卫生院上传影像"),
    State.RECEIVING: _("等影像传完"),
    State.TO_VERIFY: _("等核对身份或影像数"),
    State.TO_READ: _("等医师开始书写"),
    State.READING: _("正在书写"),
    State.TO_REVIEW: _("等医师开始审核"),
    State.REVIEWING: _("正在审核"),
    State.SIGNED: _("等回传卫生院"),
    State.RETURNED: _("等临床查看"),
    State.PRELIMINARY: _("等正式审核"),
    State.REJECTED: _("等书写医师修改"),
    State.HISTORY_REQUESTED: _("等卫生院补充病史"),
    State.CONSULTATION: _("等会诊意见"),
}
"""What an exam waits for in each state; the other states wait for nothing."""


@dataclass(frozen=True, slots=True)
class Filters:
    """A period (local days of registration, both included) and what is chosen from it.

    `late` chooses, in `stage`: "within" the limit, "late" over it, "open" unfinished and over it, "done" finished.
    """

    first: date
    last: date
    clinic: str = ""
    hospital: str = ""
    author: str = ""
    reviewer: str = ""
    modality: str = ""
    priority: str = ""
    klass: str = ""
    day: str = ""
    stage: str = "report"
    late: str = ""

    def address(self, **changes: str) -> dict[str, str]:
        """The query parameters that give these filters again."""
        values = {
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "clinic": self.clinic,
            "hospital": self.hospital,
            "author": self.author,
            "reviewer": self.reviewer,
            "modality": self.modality,
            "priority": self.priority,
            "class": self.klass,
            "day": self.day,
            "stage": "" if self.stage == "report" else self.stage,
            "late": self.late,
            **changes,
        }
        return {name: value for name, value in values.items() if value}


def today() -> date:
    """The present day in the county."""
    return clock.local(clock.now(), get_settings().timezone).date()


def make_filters(first: str = "", last: str = "", *, days: int = 30, **chosen: str) -> Filters:
    """Filters from what stands in an address; without dates the last `days` days.

    Raises:
        Invalid: A date that is none, a period that ends before it begins or is too long, an unknown stage.
    """
    fields: dict[str, Message | str] = {}

    def day(name: str, text: str, default: date) -> date:
        try:
            found = date.fromisoformat(text) if text else default
        except ValueError:
            found = date.min
        if not EARLIEST <= found <= LATEST:
            fields[name] = _("日期应写作 2026-10-01")
            return default
        return found

    end = day("to", last, today())
    begin = day("from", first, end - timedelta(days=days - 1))
    day("day", chosen.get("day", ""), end)
    if not fields and begin > end:
        fields["from"] = _("开始日期晚于结束日期")
    elif not fields and not (end - begin).days < LONGEST_PERIOD_DAYS:
        fields["from"] = _("时间段最长三年")
    if chosen.get("klass", "") not in ("", *CLASS_NAMES):
        fields["class"] = _("没有这一项")
    if chosen.get("stage", "report") not in MEASURES:
        fields["stage"] = _("没有这一项")
    if chosen.get("late", "") not in ("", "within", "late", "open", "done"):
        fields["late"] = _("没有这一项")
    if fields:
        raise Invalid(fields=fields)
    return Filters(begin, end, **chosen)


def grouping(by: str) -> By:
    """The grouping that an address names.

    Raises:
        Invalid: There is none of that name.
    """
    if by not in get_args(By):
        raise Invalid(fields={"by": _("没有这一项")})
    return by  # type: ignore[return-value]


def may_measure(actor: Actor) -> None:
    """Refuse whoever may not see the county's clocks.

    Raises:
        Forbidden: The actor lacks the permission.
    """
    if Permission.TURNAROUND_VIEW not in permissions_of(actor.roles):
        raise Forbidden()


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    begin, end = bounds(filters.first, filters.last)
    found: list[ColumnElement[bool]] = [Exam.registered_at >= begin, Exam.registered_at < end]
    columns = (
        (Exam.org_id, filters.clinic),
        (Exam.reading_org_id, filters.hospital),
        (Exam.author_id, filters.author),
        (Exam.reviewer_id, filters.reviewer),
        (Exam.modality, filters.modality),
        (Exam.priority, filters.priority),
    )
    for column, value in columns:
        if value:
            found.append(column.is_(None) if value == NONE else column == value)
    if filters.klass:
        found.append(of_class(filters.klass))
    if filters.day:
        morning, evening = bounds(date.fromisoformat(filters.day), date.fromisoformat(filters.day))
        found += [Exam.registered_at >= morning, Exam.registered_at < evening]
    return found


def select_frame(session: Session, filters: Filters) -> Frame:
    """The clocks of the exams that the filters choose (stage and lateness apart)."""
    return pull(session, *_conditions(filters))


def _keys(frame: Frame, by: By) -> Text:
    columns: dict[By, Text] = {
        "clinic": frame.clinic,
        "hospital": frame.hospital,
        "author": frame.author,
        "reviewer": frame.reviewer,
        "modality": frame.modality,
        "priority": frame.priority,
        "class": frame.klass,
    }
    keys = frame.days() if by == "day" else columns[by]
    return np.where(keys == "", NONE, keys)


# --- Names ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Names:
    """Names of organisations and doctors by id."""

    orgs: dict[str, tuple[str, str]] = field(default_factory=dict)
    people: dict[str, tuple[str, str]] = field(default_factory=dict)

    def org(self, key: str) -> Message | str:
        """An organisation in the reader's language."""
        if key in ("", NONE):
            return _("共享池")
        return _pick(self.orgs.get(key), key)

    def person(self, key: str) -> Message | str:
        """A doctor in the reader's language."""
        if key in ("", NONE):
            return _("尚无")
        return _pick(self.people.get(key), key)

    def label(self, by: By, key: str) -> Message | str:
        """What people call the group `key`."""
        if by in ("clinic", "hospital"):
            return self.org(key)
        if by in ("author", "reviewer"):
            return self.person(key)
        known = {"modality": MODALITIES, "priority": PRIORITIES, "class": CLASS_NAMES}.get(by, {})
        return known.get(key, key)


def _pick(pair: tuple[str, str] | None, key: str) -> str:
    if pair is None:
        return key
    return pair[1] if current_locale() == "en" and pair[1] else pair[0]


def names(session: Session) -> Names:
    """Names of all organisations and people."""
    return Names(
        {row.id: (row.name, row.name_en) for row in session.execute(select(*_columns(Organisation)))},
        {row.id: (row.name, row.name_en) for row in session.execute(select(*_columns(Person)))},
    )


def _columns(table: type[Organisation] | type[Person]) -> tuple[Any, Any, Any]:
    return table.id, table.name, table.name_en


# --- Today ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """Exams in one state now; `since` is when the one that waits longest entered its stage."""

    state: State
    count: int
    overdue: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class HospitalLoad:
    """What lies at one reading hospital now."""

    hospital: str
    to_read: int
    reading: int
    to_review: int
    overdue: int
    oldest: datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """One exam by its clocks; nothing of the patient."""

    id: str
    accession: str
    state: State
    clinic: str
    hospital: str
    author: str
    reviewer: str
    modality: str
    priority: str
    klass: str
    source: str
    clocks: dict[str, datetime | None]
    seconds: dict[str, float | None]
    late: dict[str, bool]
    running: dict[str, bool]


@dataclass(frozen=True, slots=True)
class Board:
    """Today's board. Counts named `today` are of the county's present day."""

    at: datetime
    waiting: list[Waiting]
    unfinished: int
    overdue: int
    soon: int
    overdue_lines: list[Line]
    hospitals: list[HospitalLoad]
    registered_today: int
    signed_today: int
    returned_unseen: int
    no_images: int
    timely: Share
    national: Share


_ENTERED: dict[State, Any] = {
    State.REGISTERED: Exam.registered_at,
    State.RECEIVING: Exam.first_image_at,
    State.TO_VERIFY: Exam.verify_since,
    State.TO_READ: Exam.received_at,
    State.READING: Exam.reading_at,
    State.TO_REVIEW: Exam.submitted_at,
    State.REVIEWING: Exam.reviewing_at,
    State.SIGNED: Exam.signed_at,
    State.RETURNED: Exam.returned_at,
    State.PRELIMINARY: Exam.preliminary_at,
    State.REJECTED: Exam.rejected_at,
    State.HISTORY_REQUESTED: Exam.history_requested_at,
    State.CONSULTATION: Exam.consultation_at,
}

_UNSEEN_DAYS = 30


def board(session: Session, actor: Actor) -> Board:
    """What waits now, what is overdue, and how today went."""
    may_measure(actor)
    now = clock.now()
    begin, _end = bounds(today(), today())
    recent = now - timedelta(days=_UNSEEN_DAYS)
    at_home = Exam.state.in_([State.SIGNED.value, State.RETURNED.value]) & (Exam.signed_at >= recent)
    entered = {
        state: (count, oldest)
        for state, column in _ENTERED.items()
        for count, oldest in session.execute(
            select(func.count(), func.min(column)).where(
                Exam.state == state.value, *([at_home] if state in (State.SIGNED, State.RETURNED) else [])
            )
        )
        if count
    }
    frame = pull(session, either=(is_open(), Exam.id.in_(select(Exam.id).where(Exam.signed_at >= begin))))
    found = measures.stages(frame, limits.load(session))
    unsigned = np.isnan(frame.signed_at)
    late = found["report"].late & unsigned
    overdue_by_state = {state: int((late & (frame.state == state.value)).sum()) for state in State}
    order = np.flatnonzero(late)[np.argsort(frame.due_at[late], kind="stable")]
    signed_today = ~unsigned & (frame.signed_at >= begin.timestamp())
    judged = (found["report"].within & signed_today) | (found["report"].late & (unsigned | signed_today))
    return Board(
        at=now,
        waiting=[
            Waiting(
                state, *entered.get(state, (0, None))[:1], overdue_by_state[state], entered.get(state, (0, None))[1]
            )
            for state in _ENTERED
        ],
        unfinished=int(unsigned.sum()),
        overdue=int(late.sum()),
        soon=int((unsigned & (frame.due_at >= frame.now) & (frame.due_at <= frame.now + SOON.total_seconds())).sum()),
        overdue_lines=lines(frame.take(order[:OVERDUE_SHOWN]), limits.load(session)),
        hospitals=_loads(frame, late & unsigned),
        registered_today=session.scalar(
            select(func.count()).where(Exam.registered_at >= begin, Exam.state != State.CANCELLED.value)
        )
        or 0,
        signed_today=int(signed_today.sum()),
        returned_unseen=entered.get(State.RETURNED, (0, None))[0],
        no_images=session.scalar(
            select(func.count()).where(Exam.state == State.REGISTERED.value, Exam.alerted_at.is_not(None))
        )
        or 0,
        timely=Share(int((found["report"].within & signed_today).sum()), int(judged.sum())),
        national=measures.share(measures.national(frame, limits.load(session)), signed_today | unsigned),
    )


def _loads(frame: Frame, late: Mask) -> list[HospitalLoad]:
    reading = [State.READING.value, State.REJECTED.value, State.HISTORY_REQUESTED.value, State.CONSULTATION.value]
    review = [State.TO_REVIEW.value, State.REVIEWING.value, State.PRELIMINARY.value]
    here = np.isin(frame.state, [State.TO_READ.value, *reading, *review])
    found = []
    keys = _keys(frame, "hospital")
    for key in measures.groups(keys):
        mine = (keys == key) & here
        if mine.any():
            oldest = frame.received_at[mine & ~np.isnan(frame.received_at)]
            found.append(
                HospitalLoad(
                    hospital=key,
                    to_read=int((mine & (frame.state == State.TO_READ.value)).sum()),
                    reading=int((mine & np.isin(frame.state, reading)).sum()),
                    to_review=int((mine & np.isin(frame.state, review)).sum()),
                    overdue=int((mine & late).sum()),
                    oldest=_moment(float(oldest.min())) if oldest.size else None,
                )
            )
    return sorted(found, key=lambda load: (-load.overdue, -(load.to_read + load.reading + load.to_review)))


# --- A period -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """One row of the summary: `exams` of the period, numbers of each stage, national indicator, returns for retake."""

    key: str
    exams: int
    cells: dict[str, Cell]
    national: Share
    returns: Share


@dataclass(frozen=True, slots=True)
class Summary:
    """Numbers of a period: the whole and its groups. `marked` exams have a start that is not the modality's clock."""

    filters: Filters
    by: By
    total: Group
    groups: list[Group]
    marked: int


def summary(session: Session, actor: Actor, filters: Filters, by: By) -> Summary:
    """Median, P90 and share within limit of every stage, by group.

    Exams belong to the day of their registration, so that each counts in one period, finished or not.
    """
    may_measure(actor)
    return summarise(select_frame(session, filters), limits.load(session), filters, by)


def summarise(frame: Frame, county: Limits, filters: Filters, by: By) -> Summary:
    """The summary of a frame."""
    found = measures.stages(frame, county)
    national = measures.national(frame, county)
    returns = measures.returns(frame)

    def group(key: str, places: measures.Places | None) -> Group:
        return Group(
            key=key,
            exams=len(frame) if places is None else len(places),
            cells={name: measures.cell(stage, places) for name, stage in found.items()},
            national=measures.share(national, places),
            returns=measures.share(returns, places),
        )

    rows = [group(key, places) for key, places in measures.groups(_keys(frame, by)).items()] if len(frame) else []
    if by == "day":
        rows.sort(key=lambda row: row.key)
    elif by in ("priority", "class"):
        known = list(PRIORITIES if by == "priority" else CLASS_NAMES)
        rows.sort(key=lambda row: known.index(row.key) if row.key in known else len(known))
    marked = int((~np.isnan(frame.exam_at) & (frame.source != "modality")).sum())
    return Summary(filters, by, group("", None), rows, marked)


@dataclass(frozen=True, slots=True)
class Wait:
    """How often and how long exams stood in one state, in sum. `seconds` counts until now for those that still do."""

    state: State
    times: int
    seconds: float


def waits(session: Session, actor: Actor, filters: Filters) -> list[Wait]:
    """For what the exams of a period waited, in sum: exact, from the log of transitions."""
    may_measure(actor)
    ended = [State.CANCELLED.value, State.VOID.value]
    chosen = select(Exam.id).where(*_conditions(filters), Exam.state.not_in(ended))
    left = func.lead(extract("epoch", Transition.at)).over(
        partition_by=Transition.exam_id, order_by=(Transition.at, Transition.id)
    )
    inner = (
        select(
            Transition.to_state.label("state"),
            extract("epoch", Transition.at).label("came"),
            left.label("went"),
        )
        .where(Transition.exam_id.in_(chosen))
        .subquery()
    )
    now = int(clock.now().timestamp())
    rows = session.execute(
        select(inner.c.state, func.count(), func.sum(func.coalesce(inner.c.went, now) - inner.c.came)).group_by(
            inner.c.state
        )
    )
    found = {State(state): Wait(State(state), int(times), float(seconds)) for state, times, seconds in rows}
    # No transition leads into the first state: it lasts from registration to the first transition.
    earliest = select(func.min(Transition.at)).where(Transition.exam_id == Exam.id).scalar_subquery()
    times, seconds = session.execute(
        select(
            func.count(),
            func.sum(func.coalesce(extract("epoch", earliest), now) - extract("epoch", Exam.registered_at)),
        ).where(Exam.id.in_(chosen))
    ).one()
    if times:
        found[State.REGISTERED] = Wait(State.REGISTERED, int(times), max(0.0, float(seconds or 0)))
    return [found[state] for state in WAITS_FOR if state in found]


# --- The exams behind a number --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A page of exams, the longest in the chosen stage first."""

    lines: list[Line]
    total: int
    page: int
    pages: int


def exams(session: Session, actor: Actor, filters: Filters, *, page: int = 1, size: int = 50) -> Page:
    """The exams that a number was counted from."""
    may_measure(actor)
    county = limits.load(session)
    frame = choose(select_frame(session, filters), county, filters)
    total = len(frame)
    pages = max(1, -(-total // size))
    page = min(max(1, page), pages)
    return Page(lines(frame.take(np.arange((page - 1) * size, min(page * size, total))), county), total, page, pages)


def choose(frame: Frame, county: Limits, filters: Filters) -> Frame:
    """Those in the chosen stage and lateness, longest first; of equals the latest registered first."""
    stage = measures.stages(frame, county)[filters.stage]
    length = np.where(np.isnan(stage.seconds), frame.now - stage.since, stage.seconds)
    masks: dict[str, Mask] = {
        "": np.ones(len(frame), bool),
        "within": stage.within,
        "late": stage.late,
        "open": stage.late & ~np.isnan(stage.since),
        "done": ~np.isnan(stage.seconds),
    }
    chosen = np.flatnonzero(masks[filters.late])
    order = np.lexsort((-frame.registered_at[chosen], -np.nan_to_num(length[chosen], nan=-1.0)))
    return frame.take(chosen[order])


_LINE_CLOCKS = (
    "registered_at",
    "exam_at",
    "received_at",
    "reading_at",
    "submitted_at",
    "preliminary_at",
    "signed_at",
    "returned_at",
    "seen_at",
    "due_at",
)


def lines(frame: Frame, county: Limits) -> list[Line]:
    """Each exam of a frame by itself."""
    found = measures.stages(frame, county)
    clocks: dict[str, Seconds] = {name: getattr(frame, name) for name in _LINE_CLOCKS}
    return [
        Line(
            id=str(frame.id[index]),
            accession=str(frame.accession[index]),
            state=State(frame.state[index]),
            clinic=str(frame.clinic[index]),
            hospital=str(frame.hospital[index]),
            author=str(frame.author[index]),
            reviewer=str(frame.reviewer[index]),
            modality=str(frame.modality[index]),
            priority=str(frame.priority[index]),
            klass=str(frame.klass[index]),
            source=str(frame.source[index]),
            clocks={name: _moment(float(column[index])) for name, column in clocks.items()},
            seconds={name: _length(stage, index, frame.now) for name, stage in found.items()},
            late={name: bool(stage.late[index]) for name, stage in found.items()},
            running={name: not np.isnan(stage.since[index]) for name, stage in found.items()},
        )
        for index in range(len(frame))
    ]


def _length(stage: Stage, index: int, now: float) -> float | None:
    seconds = float(stage.seconds[index])
    if np.isnan(seconds):
        seconds = now - float(stage.since[index])
    return None if np.isnan(seconds) else seconds


def _moment(seconds: float) -> datetime | None:
    return None if np.isnan(seconds) else datetime.fromtimestamp(seconds, UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """A state in which an exam stood: from when, how long (None: it still does, or it is the end), who ended it."""

    state: State
    at: datetime
    seconds: float | None
    event: str
    who: str
    reason: str


@dataclass(frozen=True, slots=True)
class Detail:
    """All clocks of one exam. `clinical`: the actor may open its clinical page."""

    line: Line
    limit: limits.Limit
    steps: list[Step]
    sums: list[Wait]
    clinical: bool
    late_images_at: datetime | None


def detail(session: Session, actor: Actor, exam_id: str) -> Detail:
    """One exam: its clocks, every transition, and for what it waited how long.

    Raises:
        NotFound: There is none (or it was cancelled or made void).
    """
    may_measure(actor)
    frame = pull(session, Exam.id == exam_id)
    if not len(frame):
        raise NotFound(_("没有找到这项检查"))
    exam = session.get_one(Exam, exam_id)
    clinical = session.scalar(select(Exam.id).where(Exam.id == exam_id, visibility(actor))) is not None
    rows = session.scalars(select(Transition).where(Transition.exam_id == exam_id).order_by(Transition.id)).all()
    now = clock.now()
    # Reasons are in people's own words and may speak of the patient.
    steps = [
        Step(
            State(row.to_state),
            row.at,
            ((rows[index + 1].at if index + 1 < len(rows) else now) - row.at).total_seconds()
            if State(row.to_state) in WAITS_FOR
            else None,
            row.event,
            row.actor_name,
            row.reason if clinical else "",
        )
        for index, row in enumerate(rows)
    ]
    first = rows[0].at if rows else now
    begun = Step(State.REGISTERED, exam.registered_at, (first - exam.registered_at).total_seconds(), "", "", "")
    sums: dict[State, Wait] = {}
    for step in (begun, *steps):
        if step.seconds is not None:
            known = sums.get(step.state, Wait(step.state, 0, 0.0))
            sums[step.state] = replace(known, times=known.times + 1, seconds=known.seconds + max(0.0, step.seconds))
    return Detail(
        line=lines(frame, limits.load(session))[0],
        limit=limits.limit_for(session, exam),
        steps=[begun, *steps],
        sums=[sums[state] for state in WAITS_FOR if state in sums],
        clinical=clinical,
        late_images_at=exam.late_images_at,
    )


# --- Settings -------------------------------------------------------------------------------------------------------


def set_limits(session: Session, actor: Actor, value: dict[str, Any]) -> Limits:
    """Replace the county's limits; the due times of unfinished exams follow.

    Raises:
        Invalid: With one message per field, see hub.exams.limits.parse.
    """
    found = limits.parse(value)
    before = limits.to_json(limits.load(session))
    _write(session, actor, limits.SETTING, limits.to_json(found), before)
    session.info["limits"] = found
    return found


def set_calendar(session: Session, actor: Actor, value: dict[str, Any]) -> calendar.WorkingCalendar:
    """Replace the county's working calendar; the due times of unfinished exams follow.

    Raises:
        Invalid: With one message per field, see hub.exams.calendar.parse.
    """
    found = calendar.parse(value)
    before = calendar.to_json(calendar.load(session))
    _write(session, actor, calendar.SETTING, calendar.to_json(found), before)
    session.info["working_calendar"] = found
    return found


def _write(session: Session, actor: Actor, name: str, value: dict[str, Any], before: dict[str, Any]) -> None:
    if Permission.TURNAROUND_SETTINGS not in permissions_of(actor.roles):
        raise Forbidden()
    row = session.get(CountySetting, name)
    if row is None:
        row = CountySetting(name=name, value=value, changed_at=clock.now(), changed_by=actor.id)
        session.add(row)
    row.value, row.changed_at, row.changed_by = value, clock.now(), actor.id
    session.flush()
    session.info.pop("limits", None)
    session.info.pop("working_calendar", None)
    changed = {key: {"from": before.get(key), "to": value.get(key)} for key in value if before.get(key) != value[key]}
    audit.record(session, actor, f"turnaround.{name}", "county_setting", name, changed=changed)
    refresh_due(session)
    live.publish(session, "turnaround", name)


def refresh_due(session: Session) -> int:
    """Count the due times of all unfinished exams anew; returns how many changed."""
    changed = 0
    rows = session.scalars(
        select(Exam)
        .where(Exam.state.in_([state.value for state in OPEN_STATES]), Exam.due_at.is_not(None))
        .order_by(Exam.id)
    ).all()
    for exam in rows:
        due = limits.due_at(session, exam)
        if due is not None and due != exam.due_at:
            # Its priority may just have been corrected, and another limit be its own.
            hold(session, exam)
            due = limits.due_at(session, exam)
            session.execute(
                update(Exam).where(Exam.id == exam.id).values(due_at=due).execution_options(synchronize_session=False)
            )
            session.expire(exam, ["due_at"])
            changed += 1
    return changed
