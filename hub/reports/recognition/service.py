"""Offering, looking at, reusing and repeating.

What a clinic sees here it sees nowhere else, so the door is narrow. It opens for an exam that the clinic has registered
and of which there are no images yet; for a patient whose identity is certain (a valid number, with the name, sex and
birth date under which the county knows that number); to exactly the exams that may be recognised; for so many minutes.
Every look is in the audit log with its purpose. After "reused" the chosen exam alone stays open to the clinic, for so
many days. When the link between the patients is undone the door is shut at once: it is asked at every look.

What is not offered gives no sign: whoever types a stranger's number finds nothing, whether there is something or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.exams import repository as exams
from hub.exams.models import Exam
from hub.exams.service import announce, apply
from hub.exams.states import Event, State
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import _
from hub.patients import links
from hub.patients.models import Patient
from hub.reading.scoring import service as scoring
from hub.reports import repository as reports
from hub.reports.models import ReportVersion
from hub.reports.recognition import rules as county
from hub.reports.recognition.marks import Mark, mark_of
from hub.reports.recognition.models import Recognition
from hub.reports.recognition.rules import OTHER, REASONS, Rules
from hub.reports.recognition.states import (
    STATE_NAMES,
    SYSTEM_ROLE,
    TRANSITIONS,
    RecognitionEvent,
    RecognitionState,
)
from hub.studies.models import ExamStudy, Study

PURPOSE = "mutual-recognition"
WINDOW = timedelta(minutes=15)
MOST_OFFERS = 20
"""Offers to one person within WINDOW; more is not registering but searching."""

_SIGNED = (State.SIGNED.value, State.RETURNED.value, State.SEEN.value)
S, E = RecognitionState, RecognitionEvent


@dataclass(frozen=True, slots=True)
class Recognisable:
    """An exam that may stand for the new one."""

    exam: Exam
    mark: Mark


@dataclass(frozen=True, slots=True)
class Shown:
    """An exam as the clinic sees it: its signed versions (the newest first) and studies."""

    exam: Exam
    mark: Mark | None
    versions: list[ReportVersion]
    studies: list[Study]


# --- whose, and which ---------------------------------------------------------------------------------------------


def _same_people(session: Session, patient: Patient) -> list[str]:
    """Rows that are certainly the same human being: linked in the county, and of the same number, name and birth."""
    if links.sure_number(patient) is None:
        return []
    rows = session.scalars(
        select(Patient).where(
            Patient.county_patient_id == patient.county_patient_id,
            Patient.identity_number == patient.identity_number,
        )
    )
    return [row.id for row in rows if row.id == patient.id or links.verdict(patient, row) is links.PairEvent.LINK_SURE]


def recognisable(session: Session, exam: Exam, rules: Rules) -> list[Recognisable]:
    """Signed exams of the same kind and the same person, young enough, with a mark and images; the newest first."""
    kinds = county.kinds_of(rules, exam.modality, exam.body_parts)
    people = _same_people(session, exam.patient) if kinds else []
    if not kinds or not people:
        return []
    now = clock.now()
    since = now - timedelta(days=county.days_of(rules, kinds))
    at = func.coalesce(Exam.exam_at, Exam.registered_at)
    rows = session.scalars(
        select(Exam)
        .where(
            Exam.patient_id.in_(people),
            Exam.id != exam.id,
            Exam.state.in_(_SIGNED),
            Exam.modality == exam.modality,
            at >= since,
            at <= now,
            select(ExamStudy.study_id)
            .join(Study, Study.id == ExamStudy.study_id)
            .where(ExamStudy.exam_id == Exam.id, Study.trashed_at.is_(None))
            .correlate(Exam)
            .exists(),
        )
        .order_by(at.desc(), Exam.id)
        .limit(20)
    ).unique()
    found = []
    for row in rows:
        theirs = county.kinds_of(rules, row.modality, row.body_parts)
        mark = mark_of(session, row, rules) if theirs and kinds <= theirs else None
        score = scoring.current(session, row.id) if mark else None
        # What was judged as waste is no one's image to go by.
        if mark is not None and (score is None or score.grade != "reject"):
            found.append(Recognisable(row, mark))
    return found


def mistaken(session: Session, exam: Exam) -> bool:
    """Whether the county knows the patient's identity number under another name: a slip, or somebody fishing."""
    patient = exam.patient
    if not patient.identity_number:
        return False
    others = session.scalars(
        select(Patient).where(Patient.identity_number == patient.identity_number, Patient.id != patient.id).limit(50)
    )
    said = {links.verdict(patient, other) for other in others}
    # Where the county knows him by this name too, the slip was made elsewhere.
    return links.PairEvent.CONTRADICT in said and links.PairEvent.LINK_SURE not in said


def too_many(session: Session, actor: Actor) -> bool:
    """Whether a person was offered so much in a short time that he is not registering patients."""
    since = clock.now() - WINDOW
    count = session.scalar(
        select(func.count()).where(Recognition.offered_to == actor.id, Recognition.offered_at > since)
    )
    return (count or 0) >= MOST_OFFERS


# --- the one writer -----------------------------------------------------------------------------------------------


def _roles_of(actor: Actor) -> frozenset[str]:
    if actor.kind == "system":
        return frozenset({SYSTEM_ROLE})
    if actor.kind == "machine" and "register" in actor.scopes:
        return frozenset({Role.TECHNOLOGIST})
    return actor.roles


def _move(session: Session, actor: Actor, row: Recognition, event: RecognitionEvent, **changes: Any) -> None:
    rule = TRANSITIONS.get((RecognitionState(row.state), event))
    if rule is None:
        raise Conflict(
            _("这次互认现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[RecognitionState(row.state)]),
            code="wrong-state",
            state=row.state,
            event=event.value,
        )
    if _roles_of(actor).isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    result = session.execute(
        update(Recognition)
        .where(Recognition.id == row.id, Recognition.state == row.state, Recognition.version == row.version)
        .values(state=rule.target.value, version=row.version + 1, **changes)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(row)


def _decided(actor: Actor) -> dict[str, Any]:
    return {"decided_at": clock.now(), "decided_by": actor.id, "decided_by_name": actor.name}


# --- offering -----------------------------------------------------------------------------------------------------


def _own(session: Session, actor: Actor, exam_id: str) -> Exam:
    exams.lock(session, exam_id)
    exam = session.scalars(
        exams.visible_to(actor).where(Exam.id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()
    if exam is None or exam.org_id != actor.org_id:
        raise NotFound(_("没有找到这项检查"))
    return exam


def of_exam(session: Session, exam_id: str) -> Recognition | None:
    """What was offered for an exam."""
    return session.scalars(
        select(Recognition).where(Recognition.exam_id == exam_id).execution_options(populate_existing=True)
    ).one_or_none()


def offer(session: Session, actor: Actor, exam_id: str) -> Recognition | None:
    """Look whether an exam that was just registered can be spared, and open what may be recognised to its clinic.

    Returns:
        The offer; None where there is nothing, or nothing that may be shown.

    Raises:
        NotFound: Not an exam of the actor's organisation.
    """
    exam = _own(session, actor, exam_id)
    row = of_exam(session, exam.id)
    if row is not None and (
        row.state in (S.REUSED, S.REPEATED) or (row.state == S.OFFERED and row.expires_at > clock.now())
    ):
        return row
    if exam.state != State.REGISTERED:
        return row
    rules = county.load(session)
    found = recognisable(session, exam, rules)
    if not found:
        if row is not None and row.state == S.OFFERED:
            _move(session, SYSTEM, row, E.WITHDRAW)
        audit.record(
            session,
            actor,
            "recognition.none",
            "exam",
            exam.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            purpose=PURPOSE,
        )
        return None
    now = clock.now()
    kinds = county.kinds_of(rules, exam.modality, exam.body_parts) or frozenset()
    fresh: dict[str, Any] = {
        "patient_id": exam.patient_id,
        "item": ",".join(sorted(kinds))[:200],
        "found": [one.exam.id for one in found],
        "offered_at": now,
        "offered_to": actor.id,
        "expires_at": now + timedelta(minutes=rules.minutes),
    }
    if row is None:
        row = Recognition(exam_id=exam.id, org_id=exam.org_id, state=S.OFFERED.value, version=1, **fresh)
        session.add(row)
        session.flush()
    elif row.state == S.OFFERED:
        _move(session, SYSTEM, row, E.LAPSE)
        _move(session, actor, row, E.OFFER, **fresh)
    else:
        _move(session, actor, row, E.OFFER, **fresh)
    audit.record(
        session,
        actor,
        "recognition.offer",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        recognition=row.id,
        found=row.found,
        purpose=PURPOSE,
    )
    if exam.priority == "emergency":
        _move(session, SYSTEM, row, E.REPEAT, reason="emergency", **_decided(SYSTEM))
        audit.record(
            session,
            SYSTEM,
            "recognition.repeat",
            "exam",
            exam.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            recognition=row.id,
            reason="emergency",
        )
    announce(session, exam, event="recognition")
    return row


# --- looking ------------------------------------------------------------------------------------------------------


def get(session: Session, actor: Actor, recognition_id: str) -> Recognition:
    """An offer to the actor's own organisation.

    Raises:
        NotFound: There is none, or it is another's.
    """
    row = session.get(Recognition, recognition_id, populate_existing=True)
    if row is None or row.org_id != actor.org_id:
        raise NotFound(_("没有找到这次互认"))
    return row


def open_exams(session: Session, row: Recognition) -> list[Recognisable]:
    """What of an offer its clinic may look at now; asked anew each time."""
    now = clock.now()
    exam = session.get_one(Exam, row.exam_id)
    if row.state == S.OFFERED and row.expires_at > now and exam.state == State.REGISTERED:
        return [one for one in recognisable(session, exam, county.load(session)) if one.exam.id in row.found]
    if row.state == S.REUSED and row.access_until is not None and row.access_until > now and row.chosen_id:
        chosen = session.get_one(Exam, row.chosen_id)
        patient = session.get_one(Patient, row.patient_id)
        if chosen.patient_id in _same_people(session, patient) and chosen.state in _SIGNED:
            mark = mark_of(session, chosen)
            return [Recognisable(chosen, mark)] if mark else []
    return []


def show(session: Session, actor: Actor, row: Recognition) -> list[Shown]:
    """The open exams with their signed reports and images; the caller notes the look (`note_look`)."""
    found = open_exams(session, row)
    ids = [one.exam.id for one in found]
    versions = reports.signed_versions(session, ids)
    studies: dict[str, list[Study]] = {}
    for exam_id, study in session.execute(
        select(ExamStudy.exam_id, Study)
        .join(Study, Study.id == ExamStudy.study_id)
        .where(ExamStudy.exam_id.in_(ids), Study.trashed_at.is_(None))
        .order_by(Study.created_at)
    ):
        studies.setdefault(exam_id, []).append(study)
    return [Shown(one.exam, one.mark, versions.get(one.exam.id, []), studies.get(one.exam.id, [])) for one in found]


def open_exam(session: Session, actor: Actor, recognition_id: str, exam_id: str) -> Exam:
    """One open exam of an offer.

    Raises:
        NotFound: It is not open to the actor now.
    """
    row = get(session, actor, recognition_id)
    for one in open_exams(session, row):
        if one.exam.id == exam_id:
            return one.exam
    raise NotFound(_("没有找到这项检查,或查看时间已过"))


def note_look(session: Session, actor: Actor, row: Recognition, exam: Exam, what: str) -> None:
    """Write down that somebody of the registering clinic looked at another organisation's exam, and for what."""
    audit.record(
        session,
        actor,
        "recognition.view",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        recognition=row.id,
        for_exam=row.exam_id,
        what=what,
        purpose=PURPOSE,
    )


# --- deciding -----------------------------------------------------------------------------------------------------


def _held(session: Session, actor: Actor, recognition_id: str) -> tuple[Recognition, Exam]:
    row = get(session, actor, recognition_id)
    exam = _own(session, actor, row.exam_id)
    return get(session, actor, recognition_id), exam


def reuse(session: Session, actor: Actor, recognition_id: str, chosen_id: str) -> Recognition:
    """Use an exam that the county has: the new one is cancelled as recognised, and both say so.

    Raises:
        NotFound: Not the actor's, or the chosen exam is not open to him (any more).
        Conflict: `wrong-state`: decided already, or images of the new exam have come.
        Forbidden: Not a technologist of the clinic.
    """
    row, exam = _held(session, actor, recognition_id)
    chosen = next((one for one in open_exams(session, row) if one.exam.id == chosen_id), None)
    if row.state != S.OFFERED:
        _move(session, actor, row, E.REUSE)
    if exam.state != State.REGISTERED:
        raise Conflict(_("检查已有影像,不能再改为互认"), code="wrong-state", state=exam.state)
    if chosen is None:
        raise NotFound(_("没有找到这项检查,或查看时间已过"))
    rules = county.load(session)
    _move(
        session,
        actor,
        row,
        E.REUSE,
        chosen_id=chosen_id,
        access_until=clock.now() + timedelta(days=rules.access_days),
        **_decided(actor),
    )
    source = f"{chosen.exam.org.name} {chosen.exam.accession}"
    reason = str(_("检查结果互认:{source}({mark})", source=source, mark=chosen.mark.text))
    apply(session, actor, exam, Event.CANCEL, reason=reason, end_reason=reason)
    for one in (exam, chosen.exam):
        audit.record(
            session,
            actor,
            "recognition.reuse",
            "exam",
            one.id,
            org_id=one.org_id,
            patient_id=one.patient_id,
            recognition=row.id,
            purpose=PURPOSE,
        )
    announce(session, chosen.exam, event="recognition")
    return row


def repeat(session: Session, actor: Actor, recognition_id: str, *, reason: str, text: str = "") -> Recognition:
    """Take images again although an exam could be recognised, for one of the county's reasons.

    Raises:
        Invalid: No such reason, or "other" without words.
        NotFound: Not the actor's.
        Conflict: Decided already.
        Forbidden: Not a technologist of the clinic.
    """
    if reason not in REASONS:
        raise Invalid(fields={"reason": _("请选择重新检查的理由")})
    if reason == OTHER and sum(char.isalnum() for char in text) < 4:
        raise Invalid(fields={"text": _("请写明理由")})
    row, exam = _held(session, actor, recognition_id)
    _move(session, actor, row, E.REPEAT, reason=reason, reason_text=text.strip()[:400], **_decided(actor))
    audit.record(
        session,
        actor,
        "recognition.repeat",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        recognition=row.id,
        reason=reason,
    )
    announce(session, exam, event="recognition")
    return row


def lapse(session: Session, *, limit: int = 200) -> int:
    """Shut offers whose time ran out, and withdraw those of exams that were cancelled. Called by the scheduler."""
    rows = session.scalars(
        select(Recognition)
        .join(Exam, Exam.id == Recognition.exam_id)
        .where(
            Recognition.state == S.OFFERED.value,
            (Recognition.expires_at < clock.now()) | (Exam.state != State.REGISTERED.value),
        )
        .order_by(Recognition.expires_at)
        .limit(limit)
        .with_for_update(of=Recognition, skip_locked=True)
    ).all()
    for row in rows:
        exam = session.get_one(Exam, row.exam_id)
        cancelled = exam.state in (State.CANCELLED, State.VOID)
        _move(session, SYSTEM, row, E.WITHDRAW if cancelled else E.LAPSE)
        audit.record(
            session,
            SYSTEM,
            "recognition.withdraw" if cancelled else "recognition.lapse",
            "exam",
            exam.id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            recognition=row.id,
        )
        announce(session, exam, event="recognition")
    return len(rows)


def uses_of(session: Session, exam_id: str) -> list[Recognition]:
    """For whom an exam was recognised, the oldest first: its report says so."""
    return list(
        session.scalars(
            select(Recognition)
            .where(Recognition.chosen_id == exam_id, Recognition.state == S.REUSED.value)
            .order_by(Recognition.decided_at)
        )
    )
