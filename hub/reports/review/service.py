"""Rules of review: what the reviewer changed and thinks of it, what the author is told, who decides a quarrel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.audit import service as audit
from hub.exams.models import Exam
from hub.exams.repository import visibility
from hub.exams.states import State
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.reading import service as reading
from hub.reading.signatures import policy_of
from hub.reports import repository
from hub.reports.critical.moment import now as moment
from hub.reports.models import Report, ReportVersion
from hub.reports.review import alarms
from hub.reports.review.diff import FIELDS, MARKS, Segment, changed_fields, compare, conclusion_differences
from hub.reports.review.grades import ARBITRATED, RADPEER, radpeer
from hub.reports.review.models import Arbitration, ConclusionChange, Review
from hub.reports.review.moves import move
from hub.reports.review.states import ARBITER, CHANGE_OPEN, ArbitrationEvent, ArbitrationState, ChangeEvent, ChangeState
from hub.reports.states import VersionState

MAX_NOTE = 2000
DECISIONS: dict[str, Message] = {
    "first": _("支持书写医师"),
    "second": _("支持审核或复阅医师"),
    "neither": _("双方均需修正"),
}
"""What an arbitration may end with."""

CONCLUSION_NAMES: dict[str, Message] = {
    "impression": _("诊断意见"),
    "positive": _("阳/阴性"),
    "critical": _("危急值"),
}
FIELD_NAMES: dict[str, Message] = {
    "technique": _("检查技术"),
    "comparison": _("对比"),
    "findings": _("检查所见"),
    "recommendation": _("建议"),
    **CONCLUSION_NAMES,
}


def body(version: ReportVersion) -> dict[str, Any]:
    """A version's words and marks."""
    return {name: getattr(version, name) for name in (*FIELDS, *MARKS)}


# --- tracked changes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tracked:
    """A version beside the author's text as he submitted it.

    Attributes:
        author: Who wrote it.
        submitted: His words and marks; what a reviewer changes is changed beside them.
        fields: The pieces of each text field; a field without changes is one piece, or none.
        marks: Marks that differ: (name, before, after).
    """

    version: ReportVersion
    author: str
    submitted: dict[str, Any]
    fields: dict[str, list[Segment]]
    marks: list[tuple[str, Any, Any]]


def submitted_text(session: Session, version: ReportVersion) -> dict[str, Any] | None:
    """The author's own words as he last gave them to review; they are kept whatever the reviewer does."""
    kept = repository.saved_texts(session, version.id, event="submitted", limit=1)
    return kept[0].body if kept else None


def tracked(session: Session, actor: Actor, version_id: str) -> Tracked:
    """What was changed of the author's text.

    Raises:
        NotFound: No such version, or not the actor's to know.
        Forbidden: The actor may not read drafts.
    """
    version, _report, exam = repository.get_version(session, actor, version_id)
    if not repository.may_see_drafts(actor, exam):
        raise Forbidden()
    return track(version, submitted_text(session, version))


def track(version: ReportVersion, before: dict[str, Any] | None) -> Tracked:
    """The comparison of a version with the author's text (without one: with itself)."""
    after = body(version)
    before = before if before is not None else after
    return Tracked(
        version=version,
        author=version.author_name,
        submitted={name: before.get(name) for name in (*FIELDS, *MARKS)},
        fields={name: compare(str(before.get(name) or ""), after[name]) for name in FIELDS},
        marks=[(name, before.get(name), after[name]) for name in MARKS if before.get(name) != after[name]],
    )


# --- the review ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a reviewer's page sends. `conclusion_changed`: against the preliminary report, where there is one."""

    agreement: str = ""
    significant: bool | None = None
    note: str = ""
    conclusion_changed: bool | None = None
    conclusion_note: str = ""
    conclusion_confirmed: bool = False


def review_of(session: Session, version_id: str, reviewer_id: str, *, lock: bool = False) -> Review | None:
    """What this person has said of a version so far."""
    statement = select(Review).where(Review.version_id == version_id, Review.reviewer_id == reviewer_id)
    if lock:
        statement = statement.with_for_update()
    return session.scalars(statement.execution_options(populate_existing=True)).one_or_none()


def give_opinion(session: Session, actor: Actor, version_id: str, *, lease: str, opinion: Opinion) -> Review:
    """Keep what the reviewer thinks of the text before him; he may change it until he signs.

    Raises:
        NotFound: No such version, or not the actor's to know.
        Conflict: `lease-lost`, or the version is under no review of his (`wrong-state`).
        Invalid: A grade without its significance, or a text too long.
    """
    version, _report, found = repository.get_version(session, actor, version_id)
    exam = reading.locked(session, actor, found.id)
    session.refresh(version)
    if version.state not in (VersionState.SUBMITTED, VersionState.DRAFT):
        raise Conflict(_("这份报告不在审核中"), code="wrong-state", state=version.state)
    if exam.reading_org_id != actor.org_id or not actor.has(Role.REVIEWER):
        raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    if State(exam.state) in reading.HELD and (exam.lease_token != lease or exam.lease_person_id != actor.id):
        raise reading.lease_lost(session, exam)
    for name in ("note", "conclusion_note"):
        if len(getattr(opinion, name)) > MAX_NOTE:
            raise Invalid(fields={name: _("最多 {n} 个字").format(n=MAX_NOTE)})
    score = radpeer(opinion.agreement, opinion.significant) if opinion.agreement else ""
    if score and version.author_id == actor.id:
        raise Invalid(fields={"agreement": _("不能给自己的报告评定")})
    if opinion.conclusion_changed and not opinion.conclusion_note.strip():
        raise Invalid(fields={"conclusion_note": _("请说明结论改变了什么,卫生院会看到这句话")})
    row = review_of(session, version.id, actor.id, lock=True)
    if row is None:
        row = Review(version_id=version.id, exam_id=exam.id, org_id=exam.reading_org_id, reviewer_id=actor.id)
        session.add(row)
    row.author_id, row.author_name = version.author_id or actor.id, version.author_name
    row.reviewer_name, row.saved_at = actor.name, clock.now()
    row.agreement, row.radpeer = opinion.agreement, score
    row.significant = bool(opinion.significant) if score not in ("", "1") else None
    row.note, row.conclusion_note = opinion.note.strip(), opinion.conclusion_note.strip()
    row.conclusion_changed, row.conclusion_confirmed = opinion.conclusion_changed, opinion.conclusion_confirmed
    session.flush()
    return row


def differences_from_preliminary(session: Session, version: ReportVersion) -> tuple[ReportVersion | None, list[str]]:
    """The preliminary report that the clinic has, and what of its conclusion this version has otherwise."""
    if version.kind != "original":
        return None, []
    preliminary = repository.preliminary_of(session, version.report_id)
    if preliminary is None:
        return None, []
    return preliminary, conclusion_differences(body(preliminary), body(version))


def check_before_signing(session: Session, actor: Actor, version: ReportVersion, exam: Exam) -> None:
    """Refuse a signature for which the policy asks a grade, or which leaves open whether a conclusion changed.

    Raises:
        Conflict: `grade-missing`; `conclusion-unstated` (say whether the conclusion changed);
            `conclusion-differs` (it was said not to have, and the hub finds that it did: confirm or correct).
    """
    row = review_of(session, version.id, actor.id)
    reviewed = version.state == VersionState.SUBMITTED and version.author_id != actor.id
    if reviewed and policy_of(exam.reading_org).grade_required and not (row and row.radpeer):
        raise Conflict(_("请先评定与书写医师的符合程度,再签发"), code="grade-missing")
    _preliminary, found = differences_from_preliminary(session, version)
    if not found:
        return
    names = [str(CONCLUSION_NAMES[name]) for name in found]
    if row is None or row.conclusion_changed is None:
        raise Conflict(
            _("正式报告与已发的急诊报告不同({names})。请说明结论有没有改变,再签发").format(names="、".join(names)),
            code="conclusion-unstated",
            differences=found,
        )
    # What was confirmed holds for the text that stood there then.
    confirmed = row.conclusion_confirmed and row.saved_at >= version.saved_at
    if not row.conclusion_changed and not confirmed:
        raise Conflict(
            _("您选择了“结论未改变”,但{names}与急诊报告不同。请确认,或改选“结论有改变”").format(names="、".join(names)),
            code="conclusion-differs",
            differences=found,
        )


def preliminary_words(session: Session, actor: Actor, version: ReportVersion) -> str:
    """What the formal report says of the preliminary one: what was changed, and whether the conclusion was."""
    preliminary, _found = differences_from_preliminary(session, version)
    if preliminary is None:
        return ""
    fields = changed_fields(body(preliminary), body(version))
    where = "、".join(str(FIELD_NAMES[name]) for name in fields)
    if not fields:
        return "与急诊报告相同。"
    row = review_of(session, version.id, actor.id)
    if row is not None and row.conclusion_changed:
        return f"与急诊报告相比结论有改变:{row.conclusion_note}(改动:{where})"[:400]
    return f"与急诊报告相比结论无改变(改动:{where})。"[:400]


def finish(session: Session, actor: Actor, version: ReportVersion, exam: Exam) -> None:
    """What a signature makes final: the review becomes the author's to read, a quarrel and a changed conclusion open.

    Called in the transaction of the signature.
    """
    now = clock.now()
    preliminary, found = differences_from_preliminary(session, version)
    row = review_of(session, version.id, actor.id, lock=True)
    own = (version.author_id or actor.id) == actor.id
    if row is None and not own and version.submitted_at is not None:
        # Nobody asked for a grade; the author still sees what became of his words.
        row = Review(version_id=version.id, exam_id=exam.id, org_id=exam.reading_org_id, reviewer_id=actor.id)
        row.author_id, row.author_name = version.author_id or "", version.author_name
        row.reviewer_name, row.saved_at = actor.name, now
        session.add(row)
    if row is not None and own:
        # What he had thought of another's words, whose author he has become since, grades nobody.
        row.author_id, row.author_name = actor.id, actor.name
        row.agreement, row.radpeer, row.significant = "", "", None
    if row is not None:
        before = submitted_text(session, version) or {}
        row.submitted = {name: before.get(name) for name in (*FIELDS, *MARKS)} if before else {}
        row.changed = changed_fields(before, body(version)) if before else []
        row.signed_at = now
        session.flush()
        if not own:
            _tell(session, exam, row.author_id, "reviewed", row.id)
        if row.radpeer == ARBITRATED:
            open_arbitration(session, actor, exam, version, source="review", source_id=row.id, second_id=actor.id)
    if preliminary is not None and row is not None and row.conclusion_changed:
        opened = moment(session)
        change = ConclusionChange(
            exam_id=exam.id,
            org_id=exam.org_id,
            preliminary_id=preliminary.id,
            version_id=version.id,
            state=ChangeState.OPEN.value,
            differences=found,
            statement=row.conclusion_note,
            opened_at=opened,
            opened_by_name=actor.name,
            hospital_id=exam.reading_org_id,
            rung=[],
            **alarms.timers(session, opened),
        )
        session.add(change)
        session.flush()
        alarms.ring(session, change, "alarm", opened)
        _record(session, actor, exam, "conclusion_change", change.id, "report.conclusion_changed")
        live.publish(
            session, "conclusion", change.id, orgs=[exam.org_id, exam.reading_org_id], event="open", exam=exam.id
        )


def _tell(session: Session, exam: Exam, person_id: str, event: str, ref: str) -> None:
    live.publish(session, "review", ref, orgs=[exam.reading_org_id], event=event, person=person_id)


def _record(session: Session, actor: Actor, exam: Exam, kind: str, ref: str, action: str, **detail: Any) -> None:
    audit.record(
        session, actor, action, kind, ref, org_id=exam.org_id, patient_id=exam.patient_id, exam=exam.id, **detail
    )


# --- what the author is told ----------------------------------------------------------------------------------------


def reviews_of_mine(session: Session, actor: Actor, *, unread: bool = False, limit: int = 100) -> list[Review]:
    """Reviews of what the actor wrote, newest first; of those that were signed only."""
    statement = (
        select(Review)
        .where(Review.author_id == actor.id, Review.reviewer_id != actor.id, Review.signed_at.is_not(None))
        .order_by(Review.signed_at.desc(), Review.id.desc())
        .limit(min(max(limit, 1), 200))
    )
    if unread:
        statement = statement.where(Review.author_seen_at.is_(None))
    return list(session.scalars(statement))


def unread(session: Session, actor: Actor) -> int:
    """How many reviews of his reports, and decisions about them, the actor has not read."""
    reviews = session.scalar(
        select(func.count())
        .select_from(Review)
        .where(
            Review.author_id == actor.id,
            Review.reviewer_id != actor.id,
            Review.signed_at.is_not(None),
            Review.author_seen_at.is_(None),
        )
    )
    decided = session.scalar(
        select(func.count()).select_from(Arbitration).where(_undisclosed(actor), Arbitration.state == "decided")
    )
    return (reviews or 0) + (decided or 0)


def _undisclosed(actor: Actor) -> Any:
    return or_(
        and_(Arbitration.first_id == actor.id, Arbitration.first_seen_at.is_(None)),
        and_(Arbitration.second_id == actor.id, Arbitration.second_seen_at.is_(None)),
    )


def mark_read(session: Session, actor: Actor, review_id: str) -> Review:
    """The author has read a review. Again, it changes nothing.

    Raises:
        NotFound: No such review, or of another's report.
    """
    row = session.scalars(
        select(Review).where(Review.id == review_id, Review.author_id == actor.id, Review.signed_at.is_not(None))
    ).one_or_none()
    if row is None:
        raise NotFound(_("没有找到这条审核反馈"))
    session.execute(
        update(Review).where(Review.id == row.id, Review.author_seen_at.is_(None)).values(author_seen_at=clock.now())
    )
    session.refresh(row)
    return row


# --- changed conclusions --------------------------------------------------------------------------------------------


def _known(actor: Actor) -> ColumnElement[bool]:
    """The condition that a change is of an exam that the actor may know.

    Asked of each change: joined, SQLite may begin with every exam of his.
    """
    exam = select(Exam.id).where(Exam.id == ConclusionChange.exam_id, visibility(actor))
    return exam.correlate(ConclusionChange).exists()


def changes_for(session: Session, actor: Actor, *, only_open: bool = True, limit: int = 50) -> list[ConclusionChange]:
    """Changed conclusions that concern the actor: his clinic's, his hospital's, or (county-wide roles) all.

    Of the open ones those that wait longest, else the latest.
    """
    statement = select(ConclusionChange).where(_known(actor)).limit(limit)
    if only_open:
        statement = statement.where(ConclusionChange.state.in_(CHANGE_OPEN)).order_by(ConclusionChange.opened_at)
    else:
        statement = statement.order_by(ConclusionChange.opened_at.desc())
    return list(session.scalars(statement))


def changes_of(session: Session, exam_id: str) -> list[ConclusionChange]:
    """Changed conclusions of an exam that the caller has been allowed, newest first."""
    return list(
        session.scalars(
            select(ConclusionChange)
            .where(ConclusionChange.exam_id == exam_id)
            .order_by(ConclusionChange.opened_at.desc())
        )
    )


def on_reading_side(actor: Actor, change: ConclusionChange) -> bool:
    """Whether the actor rings a clinic that does not acknowledge: a reader of the hospital, or the director."""
    return actor.has(Role.DIRECTOR) or (actor.has(Role.REPORTER, Role.REVIEWER) and change.hospital_id == actor.org_id)


def alarming(session: Session, actor: Actor, at: datetime, *, limit: int = 20) -> list[ConclusionChange]:
    """Changed conclusions that nobody has acknowledged and that stand on every page of the actor.

    A clinic's own at once; those of a hospital's readers, and all to a director, from the second contact's turn on.
    """
    ways: list[ColumnElement[bool]] = [ConclusionChange.org_id == actor.org_id] if actor.org_id else []
    late = ConclusionChange.escalate_due <= at
    if actor.has(Role.DIRECTOR):
        ways.append(late)
    elif actor.has(Role.REPORTER, Role.REVIEWER):
        ways.append(and_(ConclusionChange.hospital_id == actor.org_id, late))
    if not ways:
        return []
    return list(
        session.scalars(
            select(ConclusionChange)
            .where(_known(actor), ConclusionChange.state.in_(CHANGE_OPEN), or_(*ways))
            .order_by(ConclusionChange.opened_at)
            .limit(limit)
        )
    )


def acknowledge(session: Session, actor: Actor, change_id: str, note: str = "") -> ConclusionChange:
    """Somebody of the clinic says, by name, that he knows of the changed conclusion. Again, it changes nothing.

    Raises:
        NotFound: No such change, or another clinic's.
        Forbidden: Not a role that receives reports.
        Invalid: The note is too long.
    """
    change = session.scalars(
        select(ConclusionChange)
        .where(ConclusionChange.id == change_id, ConclusionChange.org_id == actor.org_id)
        .with_for_update(of=ConclusionChange)
        .execution_options(populate_existing=True)
    ).one_or_none()
    if change is None:
        raise NotFound(_("没有找到这项改变"))
    if change.state == ChangeState.ACKNOWLEDGED and actor.has(Role.CLINICIAN, Role.TECHNOLOGIST):
        return change
    if len(note) > MAX_NOTE:
        raise Invalid(fields={"note": _("最多 {n} 个字").format(n=MAX_NOTE)})
    now = moment(session)
    alarms.advance(session, change, now)
    move(
        session,
        actor,
        change,
        ChangeEvent.ACKNOWLEDGE,
        acknowledged_at=now,
        acknowledged_by=actor.id,
        acknowledged_by_name=actor.name,
        note=note.strip(),
    )
    exam = session.get_one(Exam, change.exam_id)
    _record(session, actor, exam, "conclusion_change", change.id, "report.conclusion_acknowledged")
    live.publish(
        session, "conclusion", change.id, orgs=[exam.org_id, exam.reading_org_id], event="acknowledged", exam=exam.id
    )
    return change


# --- arbitration ----------------------------------------------------------------------------------------------------


def open_arbitration(
    session: Session, actor: Actor, exam: Exam, version: ReportVersion, *, source: str, source_id: str, second_id: str
) -> Arbitration:
    """Put a significant disagreement before the arbiter: whom the hospital names, or the centre's director.

    Who is one of the two does not decide their own quarrel; then it is the director's.
    """
    first = version.author_id or ""
    named = policy_of(exam.reading_org).arbiter_id
    row = Arbitration(
        source=source,
        source_id=source_id,
        exam_id=exam.id,
        version_id=version.id,
        org_id=version.issuer_id or exam.reading_org_id,
        first_id=first,
        second_id=second_id,
        arbiter_id="" if named in (first, second_id) else named,
        state=ArbitrationState.OPEN.value,
        opened_at=clock.now(),
    )
    session.add(row)
    session.flush()
    _record(session, actor, exam, "arbitration", row.id, "arbitration.open", source=source)
    # Whoever sees the whole hub is told by a change that names no organisation; the named arbiter by his hospital's.
    live.publish(session, "arbitration", row.id, orgs=[row.org_id], event="open", person=row.arbiter_id)
    return row


def arbitrations(session: Session, actor: Actor, *, state: str = "", limit: int = 100) -> list[Arbitration]:
    """Disagreements that concern the actor: all (director, quality officer), those he decides, and his own."""
    statement = select(Arbitration).order_by(Arbitration.opened_at.desc()).limit(limit)
    if not actor.has(*COUNTY_WIDE_ROLES):
        statement = statement.where(
            or_(Arbitration.arbiter_id == actor.id, and_(_party(actor), Arbitration.source == "review"))
            | and_(_party(actor), Arbitration.state == ArbitrationState.DECIDED.value)
        )
    if state:
        statement = statement.where(Arbitration.state == state)
    return list(session.scalars(statement))


def open_arbitrations(session: Session) -> int:
    """How many disagreements wait for a decision in the county."""
    return (
        session.scalar(
            select(func.count()).select_from(Arbitration).where(Arbitration.state == ArbitrationState.OPEN.value)
        )
        or 0
    )


def undecided_readings(session: Session) -> list[str]:
    """Ids of the blinded readings about which a disagreement is open."""
    return list(
        session.scalars(
            select(Arbitration.source_id).where(
                Arbitration.source == "peer", Arbitration.state == ArbitrationState.OPEN.value
            )
        )
    )


def _party(actor: Actor) -> Any:
    return or_(Arbitration.first_id == actor.id, Arbitration.second_id == actor.id)


def arbitration(session: Session, actor: Actor, arbitration_id: str, *, lock: bool = False) -> Arbitration:
    """One disagreement.

    Raises:
        NotFound: No such one, or none of the actor's business.
    """
    statement = select(Arbitration).where(Arbitration.id == arbitration_id)
    if lock:
        statement = statement.with_for_update()
    row = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if row is not None and (
        actor.has(*COUNTY_WIDE_ROLES)
        or row.arbiter_id == actor.id
        or (actor.id in (row.first_id, row.second_id) and (row.source == "review" or row.state == "decided"))
    ):
        return row
    raise NotFound(_("没有找到这项分歧"))


def may_decide(row: Arbitration, actor: Actor) -> bool:
    """Whether the decision is the actor's: the named arbiter's or the director's, never that of one of the two."""
    if row.state != ArbitrationState.OPEN or actor.id in (row.first_id, row.second_id):
        return False
    return actor.has(Role.DIRECTOR) or bool(row.arbiter_id and row.arbiter_id == actor.id)


def decide(
    session: Session, actor: Actor, arbitration_id: str, *, decision: str, score: str, reason: str
) -> Arbitration:
    """Decide a disagreement; both doctors are told.

    Args:
        session: The transaction.
        actor: The arbiter.
        arbitration_id: Which.
        decision: A code of DECISIONS.
        score: The RADPEER score that counts from now on.
        reason: In the arbiter's words.

    Raises:
        NotFound, Forbidden: Not his to know, or not his to decide.
        Conflict: Decided already.
        Invalid: No decision, score or reason.
    """
    row = arbitration(session, actor, arbitration_id, lock=True)
    fields: dict[str, Message | str] = {}
    if decision not in DECISIONS:
        fields["decision"] = _("请选择裁定结果")
    if score not in RADPEER:
        fields["radpeer"] = _("请选择最终评分")
    if not reason.strip() or len(reason) > MAX_NOTE:
        fields["reason"] = _("请写明裁定理由(最多 {n} 字)").format(n=MAX_NOTE)
    if fields:
        raise Invalid(fields=fields)
    if actor.id in (row.first_id, row.second_id):
        raise Forbidden(_("当事医师不能裁定自己的分歧"), code="own-case")
    move(
        session,
        actor,
        row,
        ArbitrationEvent.DECIDE,
        part=ARBITER if row.arbiter_id == actor.id else "",
        decision=decision,
        radpeer=score,
        reason=reason.strip(),
        decided_at=clock.now(),
        decided_by=actor.id,
        decided_by_name=actor.name,
    )
    exam = session.get_one(Exam, row.exam_id)
    _record(session, actor, exam, "arbitration", row.id, "arbitration.decide", decision=decision, radpeer=score)
    orgs = session.scalars(select(Person.org_id).where(Person.id.in_((row.first_id, row.second_id))))
    live.publish(session, "review", row.id, orgs=orgs, event="decided")
    return row


def read_decision(session: Session, actor: Actor, arbitration_id: str) -> Arbitration:
    """One of the two doctors has read the decision. Again, it changes nothing."""
    row = arbitration(session, actor, arbitration_id)
    if row.state == ArbitrationState.DECIDED:
        for name, person in (("first_seen_at", row.first_id), ("second_seen_at", row.second_id)):
            if person == actor.id and getattr(row, name) is None:
                setattr(row, name, clock.now())
    session.flush()
    return row


def exams_of(session: Session, rows: Sequence[Any]) -> dict[str, Exam]:
    """The exams of such rows, by id; the caller has been allowed the rows."""
    wanted = {row.exam_id for row in rows}
    return {exam.id: exam for exam in session.scalars(select(Exam).where(Exam.id.in_(wanted)))} if wanted else {}


def numbers_of(session: Session, rows: Sequence[Any]) -> dict[str, str]:
    """Report numbers by exam."""
    wanted = {row.exam_id for row in rows}
    found = session.execute(select(Report.exam_id, Report.number).where(Report.exam_id.in_(wanted)))
    return {row[0]: row[1] or "" for row in found}
