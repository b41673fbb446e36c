"""Reading again after signing: drawn fairly, given to somebody who had no part in it, read blindly, graded.

The draw is a keyed hash of the version: the same each time it is computed, spread evenly, and known to nobody before.
Each signed report is drawn once. Readings are given to whoever has had the fewest lately. While one lies with a reader
its images are lent to him (hub.studies.loans), and nothing else of the exam.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams.models import Exam, Transition
from hub.exams.states import State
from hub.kit import clock, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import _
from hub.kit.settings import get_settings
from hub.reading.service import required_reason
from hub.reading.signatures import ReviewPolicy, policy_of
from hub.reports.models import Report, ReportVersion
from hub.reports.review.grades import ARBITRATED, RADPEER, Agreement, radpeer
from hub.reports.review.models import PeerDraw, PeerReview, Review
from hub.reports.review.moves import move
from hub.reports.review.service import MAX_NOTE, open_arbitration
from hub.reports.review.states import PEER_OPEN, READER, PeerEvent, PeerState
from hub.reports.states import VersionState
from hub.sites.models import Organisation, OrgKind
from hub.studies import loans
from hub.studies.models import ExamStudy, Study

WINDOW = timedelta(days=30)
"""A report older than this when the hub first looks is not drawn any more."""
_PATIENCE = timedelta(days=60)
"""A reading that nobody could be given is dropped after this."""
_LATELY = timedelta(days=30)


def _share(*parts: str) -> float:
    """A number from 0 up to 1 that follows from `parts` and the hub's secret."""
    digest = hmac.new(get_settings().secret().encode(), ":".join(("peer", *parts)).encode(), hashlib.sha256).digest()
    return int.from_bytes(digest[:8]) / 2**64


def rate_for(policy: ReviewPolicy, exam: Exam, version: ReportVersion) -> tuple[float, float]:
    """The random and the highest targeted share at which a report is taken."""
    targeted = max(
        (
            target.rate
            for target in policy.targets
            if (not target.author_id or target.author_id == version.author_id)
            and (not target.modality or target.modality == exam.modality)
            and (not target.body_part or target.body_part in exam.body_parts)
            and (not target.critical or version.critical)
        ),
        default=0.0,
    )
    return policy.random_rate(exam.modality), targeted


def draw(session: Session, *, limit: int = 200) -> int:
    """Consider signed reports that were not considered yet; returns how many were taken."""
    now = clock.now()
    rows = session.execute(
        select(ReportVersion, Exam)
        .join(Report, Report.id == ReportVersion.report_id)
        .join(Exam, Exam.id == Report.exam_id)
        .outerjoin(PeerDraw, PeerDraw.version_id == ReportVersion.id)
        .where(
            ReportVersion.state == VersionState.SIGNED,
            ReportVersion.kind == "original",
            ReportVersion.signed_at > now - WINDOW,
            PeerDraw.version_id.is_(None),
        )
        .order_by(ReportVersion.signed_at, ReportVersion.id)
        .limit(limit)
        .with_for_update(of=ReportVersion, skip_locked=True)
    ).unique()
    taken = 0
    for version, exam in rows:
        hospital = session.get_one(Organisation, version.issuer_id or exam.reading_org_id)
        random, targeted = rate_for(policy_of(hospital), exam, version)
        share, rate = _share(version.id), max(random, targeted)
        rule = "random" if share < random else "targeted" if share < targeted else ""
        session.add(
            PeerDraw(
                version_id=version.id,
                at=now,
                org_id=hospital.id,
                modality=exam.modality,
                share=share,
                rate=rate,
                rule=rule,
                taken=bool(rule),
            )
        )
        if rule:
            taken += 1
            row = PeerReview(
                version_id=version.id,
                exam_id=exam.id,
                org_id=hospital.id,
                modality=exam.modality,
                rule=rule,
                state=PeerState.WAITING.value,
                drawn_at=now,
                passed=[],
            )
            session.add(row)
            session.flush()
            _record(session, SYSTEM, exam, row, "peer.draw", rule=rule)
    session.flush()
    return taken


def assign(session: Session, *, limit: int = 100) -> int:
    """Give waiting readings to readers; returns how many were given."""
    now = clock.now()
    waiting = session.scalars(
        select(PeerReview)
        .where(PeerReview.state == PeerState.WAITING.value)
        # Drawn by lot: those that nobody can be given (a hospital of one reader) must not stand before all others.
        .order_by(func.random())
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    if not waiting:
        return 0
    people = _readers(session)
    load = Counter(
        {
            row[0]: row[1]
            for row in session.execute(
                select(PeerReview.reader_id, func.count())
                .where(PeerReview.reader_id.is_not(None), PeerReview.assigned_at > now - _LATELY)
                .group_by(PeerReview.reader_id)
            )
        }
    )
    given = 0
    for row in waiting:
        exam = session.get_one(Exam, row.exam_id)
        if exam.state == State.VOID or row.drawn_at < now - _PATIENCE:
            reason = "void" if exam.state == State.VOID else "nobody"
            move(session, SYSTEM, row, PeerEvent.DROP, reason=reason)
            continue
        policy = policy_of(session.get_one(Organisation, row.org_id))
        barred = {*row.passed, *_had_part(session, row)}
        fitting = [
            person
            for person in people
            if person.id not in barred
            and (policy.panel != "others" or person.org_id != row.org_id)
            and (policy.panel != "own" or person.org_id == row.org_id)
        ]
        if not fitting:
            continue
        reader = min(fitting, key=lambda person: (load[person.id], _share(row.id, person.id)))
        load[reader.id] += 1
        due = now + timedelta(days=policy.peer_days)
        move(
            session,
            SYSTEM,
            row,
            PeerEvent.ASSIGN,
            reader_id=reader.id,
            reader_name=reader.name,
            reader_org_id=reader.org_id,
            assigned_at=now,
            due_at=due,
        )
        loans.lend(session, row.exam_id, reader.id, due)
        _record(session, SYSTEM, exam, row, "peer.assign", reader=reader.id)
        _tell(session, row, reader.org_id, "assigned")
        given += 1
    return given


def _readers(session: Session) -> list[Person]:
    """Attendings of reading hospitals who review."""
    found = []
    for person, org in session.execute(
        select(Person, Organisation)
        .join(Organisation, Organisation.id == Person.org_id)
        .where(
            Person.active,
            Organisation.active,
            Organisation.kind.in_((OrgKind.HOSPITAL, OrgKind.TERTIARY)),
        )
        .order_by(Person.id)
    ):
        if Role.REVIEWER in person.roles and not policy_of(org).is_resident(person):
            found.append(person)
    return found


def _had_part(session: Session, row: PeerReview) -> set[str]:
    """Everybody who wrote, reviewed or held the exam: nobody reads his own case again."""
    report_id = session.scalar(select(ReportVersion.report_id).where(ReportVersion.id == row.version_id))
    found = set(session.scalars(select(Transition.actor_id).where(Transition.exam_id == row.exam_id)))
    for names in session.execute(
        select(
            ReportVersion.author_id, ReportVersion.reviewer_id, ReportVersion.signer_id, ReportVersion.saved_by
        ).where(ReportVersion.report_id == report_id)
    ):
        found |= {name for name in names if name}
    return found | set(session.scalars(select(Review.reviewer_id).where(Review.exam_id == row.exam_id)))


def expire(session: Session, *, limit: int = 200) -> int:
    """Take back what was not done in time, and what became of a voided exam; returns how many."""
    now = clock.now()
    rows = session.execute(
        select(PeerReview, Exam.state)
        .join(Exam, Exam.id == PeerReview.exam_id)
        .where(PeerReview.state.in_(PEER_OPEN), (PeerReview.due_at < now) | (Exam.state == State.VOID.value))
        .limit(limit)
        .with_for_update(of=PeerReview, skip_locked=True)
    ).all()
    for row, state in rows:
        reader = row.reader_id or ""
        loans.take_back(session, row.exam_id, reader)
        if state == State.VOID:
            move(session, SYSTEM, row, PeerEvent.DROP, reason="void")
        elif row.state == PeerState.JUDGED:
            move(session, SYSTEM, row, PeerEvent.EXPIRE, reason="late")
        else:
            move(session, SYSTEM, row, PeerEvent.EXPIRE, passed=[*row.passed, reader], **_NOBODY)
        _tell(session, row, row.reader_org_id, "expired")
    return len(rows)


_NOBODY: dict[str, Any] = {"reader_id": None, "reader_name": "", "assigned_at": None, "due_at": None}


# --- the second reader ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blinded:
    """What the second reader is shown: the request and the images; the report when he has written his verdict.

    No name of a doctor, of a clinic or of the hospital that signed stands in it.
    """

    row: PeerReview
    exam: Exam
    history: str
    studies: list[str]
    images: int
    report: ReportVersion | None


def mine(session: Session, actor: Actor, *, done: bool = False, limit: int = 100) -> list[PeerReview]:
    """The readings that lie with the actor, nearest limit first; or those that he has graded."""
    states = (PeerState.GRADED,) if done else PEER_OPEN
    order = PeerReview.graded_at.desc() if done else PeerReview.due_at
    return list(
        session.scalars(
            select(PeerReview)
            .where(PeerReview.reader_id == actor.id, PeerReview.state.in_(states))
            .order_by(order)
            .limit(limit)
        )
    )


def waiting(session: Session, actor: Actor) -> int:
    """How many readings lie with the actor."""
    return (
        session.scalar(
            select(func.count())
            .select_from(PeerReview)
            .where(PeerReview.reader_id == actor.id, PeerReview.state.in_(PEER_OPEN))
        )
        or 0
    )


def _mine(session: Session, actor: Actor, peer_id: str, *, lock: bool = False) -> PeerReview:
    statement = select(PeerReview).where(
        PeerReview.id == peer_id,
        PeerReview.reader_id == actor.id,
        PeerReview.state.in_((*PEER_OPEN, PeerState.GRADED)),
    )
    if lock:
        statement = statement.with_for_update()
    row = session.scalars(statement.execution_options(populate_existing=True)).one_or_none()
    if row is None:
        raise NotFound(_("没有找到这项复阅任务"))
    return row


_ADDED = re.compile(r"^\[(\d\d-\d\d \d\d:\d\d) [^\]\n]*\]", re.MULTILINE)


def show(session: Session, actor: Actor, peer_id: str) -> Blinded:
    """One reading of the actor's.

    Raises:
        NotFound: No such one, or not (any more) his.
    """
    row = _mine(session, actor, peer_id)
    studies = session.execute(
        select(Study.uid, Study.instance_count)
        .join(ExamStudy, ExamStudy.study_id == Study.id)
        .where(ExamStudy.exam_id == row.exam_id, Study.trashed_at.is_(None))
        .order_by(Study.created_at)
    ).all()
    exam = session.get_one(Exam, row.exam_id)
    return Blinded(
        row=row,
        exam=exam,
        # What a clinic added later stands there under its author's name (hub.reading.conversation.history).
        history=_ADDED.sub(r"[\1]", exam.history),
        studies=[study[0] for study in studies],
        images=sum(study[1] for study in studies),
        report=None if row.state == PeerState.ASSIGNED else row.version,
    )


def decline(session: Session, actor: Actor, peer_id: str, reason: str) -> PeerReview:
    """Give a reading back (he knows the case, it is not his field); somebody else gets it.

    Raises:
        NotFound, Conflict: Not his, or his verdict is written.
        Invalid: No reason.
    """
    reason = required_reason(reason)
    row = _mine(session, actor, peer_id, lock=True)
    exam = session.get_one(Exam, row.exam_id)
    move(
        session,
        actor,
        row,
        PeerEvent.DECLINE,
        part=READER,
        reason=reason,
        passed=[*row.passed, actor.id],
        **_NOBODY,
    )
    loans.take_back(session, row.exam_id, actor.id)
    _record(session, actor, exam, row, "peer.decline")
    _tell(session, row, actor.org_id, "declined")
    return row


def judge(session: Session, actor: Actor, peer_id: str, *, verdict: str, positive: bool | None) -> PeerReview:
    """Write one's own verdict on the images; from now on the report may be read.

    Raises:
        NotFound, Conflict: Not his, or done already.
        Invalid: No verdict.
    """
    verdict = verdict.strip()
    if not verdict or len(verdict) > MAX_NOTE:
        raise Invalid(fields={"verdict": _("请先写下您自己的诊断意见(最多 {n} 字)").format(n=MAX_NOTE)})
    if positive is None:
        raise Invalid(fields={"positive": _("请选择阳性或阴性")})
    row = _mine(session, actor, peer_id, lock=True)
    move(
        session,
        actor,
        row,
        PeerEvent.JUDGE,
        part=READER,
        verdict=verdict,
        verdict_positive=positive,
        verdict_at=clock.now(),
    )
    _record(session, actor, session.get_one(Exam, row.exam_id), row, "peer.judge")
    return row


def grade(
    session: Session, actor: Actor, peer_id: str, *, agreement: str, significant: bool | None, note: str
) -> PeerReview:
    """Grade the report against one's own verdict; its images are his to see no longer.

    Raises:
        NotFound, Conflict: Not his, no verdict yet, or graded already.
        Invalid: No grade, or a difference without a word on it.
    """
    score = radpeer(agreement, significant)
    note = note.strip()
    if len(note) > MAX_NOTE or (score != "1" and not note):
        raise Invalid(fields={"note": _("请写明差异是什么(最多 {n} 字)").format(n=MAX_NOTE)})
    row = _mine(session, actor, peer_id, lock=True)
    move(
        session,
        actor,
        row,
        PeerEvent.GRADE,
        part=READER,
        agreement=agreement,
        significant=bool(significant) if score != "1" else None,
        radpeer=score,
        note=note,
        graded_at=clock.now(),
    )
    loans.take_back(session, row.exam_id, actor.id)
    exam = session.get_one(Exam, row.exam_id)
    _record(session, actor, exam, row, "peer.grade", radpeer=score)
    if score == ARBITRATED:
        open_arbitration(session, actor, exam, row.version, source="peer", source_id=row.id, second_id=actor.id)
    # To the quality officer, who sees the whole hub.
    live.publish(session, "peer", row.id, event="graded")
    return row


def _record(session: Session, actor: Actor, exam: Exam, row: PeerReview, action: str, **detail: Any) -> None:
    audit.record(
        session,
        actor,
        action,
        "peer_review",
        row.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
        **detail,
    )


def _tell(session: Session, row: PeerReview, org_id: str | None, event: str) -> None:
    live.publish(session, "peer", row.id, orgs=[org_id], event=event)


# --- figures --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What the grades of a time say. An empty denominator is no data: the rates are None.

    Attributes:
        graded: How many reports were graded.
        radpeer: How many got each score; every score is named.
        agreement: Share of 符合 among the graded, 0 to 1.
        concordance: Share of 符合 and 基本符合 without significance (1, 2a), 0 to 1.
        significant: Share of differences with clinical significance (2b, 3b), 0 to 1.
    """

    graded: int
    radpeer: dict[str, int]
    agreement: float | None
    concordance: float | None
    significant: float | None


def _figures(scores: Sequence[str]) -> Figures:
    counts = dict.fromkeys(RADPEER, 0) | dict(Counter(scores))
    total = sum(counts.values())

    def rate(*wanted: str) -> float | None:
        return sum(counts[score] for score in wanted) / total if total else None

    return Figures(total, counts, rate("1"), rate("1", "2a"), rate("2b", "3b"))


def peer_figures(
    session: Session, since: datetime, until: datetime, *, org_id: str = "", modality: str = "", rule: str = ""
) -> Figures:
    """Grades of readings after signing, graded in [since, until)."""
    statement = select(PeerReview.radpeer).where(
        PeerReview.state == PeerState.GRADED.value, PeerReview.graded_at >= since, PeerReview.graded_at < until
    )
    for column, value in (
        (PeerReview.org_id, org_id),
        (PeerReview.modality, modality),
        (PeerReview.rule, rule),
    ):
        if value:
            statement = statement.where(column == value)
    return _figures(session.scalars(statement).all())


def review_figures(session: Session, since: datetime, until: datetime, *, org_id: str = "") -> Figures:
    """Grades of reviews before signing, of reports signed in [since, until)."""
    statement = select(Review.radpeer).where(
        Review.radpeer != "", Review.signed_at >= since, Review.signed_at < until
    )  # fmt: skip
    if org_id:
        statement = statement.where(Review.org_id == org_id)
    return _figures(session.scalars(statement).all())


def results(session: Session, *, org_id: str = "", limit: int = 200) -> list[PeerReview]:
    """Graded readings, newest first, for the quality officer and the director; the edge has asked who he is."""
    statement = (
        select(PeerReview)
        .where(PeerReview.state == PeerState.GRADED.value)
        .order_by(PeerReview.graded_at.desc())
        .limit(limit)
    )
    if org_id:
        statement = statement.where(PeerReview.org_id == org_id)
    return list(session.scalars(statement))


def progress(session: Session) -> dict[PeerState, int]:
    """How many readings are in each state."""
    rows = session.execute(select(PeerReview.state, func.count()).group_by(PeerReview.state))
    return {PeerState(row[0]): row[1] for row in rows}


AGREEMENTS = tuple(Agreement)
