"""Which exam a study belongs to. Images never stay invisible: where no exam fits, one is made from the header."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import String, and_, bindparam, cast, func, or_, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.dicom import pinyin
from hub.exams import catalogue, registration
from hub.exams import service as exams
from hub.exams.models import Exam
from hub.exams.states import Event, State
from hub.kit import clock, jobs
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, NotFound
from hub.kit.i18n import _
from hub.kit.settings import get_settings
from hub.patients import service as patients
from hub.patients.models import Patient
from hub.studies.models import ExamStudy, Instance, Series, Study

AWAITING: Final = (State.REGISTERED.value, State.RECEIVING.value)
"""States in which an exam waits for images, so that a study may find it by its patient."""

ENDED: Final = frozenset({State.CANCELLED, State.VOID, State.RETAKE})
"""States in which nobody will read an exam any more: images that come now are for another one."""

_BEFORE_READING: Final = frozenset({State.REGISTERED, State.TO_VERIFY, State.TO_READ})
_MATCH_DAYS: Final = 14
_CLOCK_PAST: Final = timedelta(days=30)
_CLOCK_FUTURE: Final = timedelta(minutes=10)
_BEFORE_REGISTRATION: Final = timedelta(hours=24)
# Objects that stand beside images and say nothing about what was asked for.
_NO_IMAGE: Final = frozenset({"SR", "PR", "KO", "DOC", "OT", "REG", "SEG", "RTSTRUCT", "AU", ""})
ANNOUNCED_EVERY: Final = 25
"""Open pages are told of so many images at a time."""
PREVIEW_PAUSE: Final = 2.0
"""Seconds between images of one study before its previews are made again."""

MODALITY_CLOCK: Final = "modality"
REGISTRATION_CLOCK: Final = "registration"
ARRIVAL_CLOCK: Final = "arrival"


# Built once: building a statement costs as much as running it.
_LINKED = (
    select(Exam)
    .join(ExamStudy, ExamStudy.exam_id == Exam.id)
    .where(ExamStudy.study_id == bindparam("study"), Exam.state.not_in([state.value for state in ENDED]))
)


class WrongExam(NotFound):
    """The exam that the images were sent for is not one of the sender's."""

    code = "wrong-exam"


def find_exam(
    session: Session, org_id: str, header: dict[str, Any], *, accession: str, modality: str, body_part: str
) -> Exam | None:
    """The exam of `org_id` that a new study is for, without being told.

    First the accession number; then an exam that waits for images of the same patient and kind: by the clinic's
    number, or by a name that is equal, in ideographs or pinyin, with the same sex. Several that fit equally well by
    name alone are no match: a person decides rather than chance.

    Args:
        session: The transaction.
        org_id: The sender.
        header: As `Study.header_patient`.
        accession: AccessionNumber (0008,0050), or "".
        modality: Modality (0008,0060).
        body_part: BodyPartExamined and descriptions.
    """
    if accession:
        found = session.scalars(
            select(Exam).where(
                Exam.org_id == org_id,
                Exam.accession == accession,
                Exam.state.not_in([state.value for state in ENDED]),
            )
        ).one_or_none()
        if found is not None:
            return found
    waiting = select(Exam).where(
        Exam.org_id == org_id,
        Exam.state.in_(AWAITING),
        Exam.registered_at > clock.now() - timedelta(days=_MATCH_DAYS),
    )
    number = str(header.get("patient_id") or "")
    if number:
        same = waiting.join(Patient, Patient.id == Exam.patient_id).where(Patient.number == number)
        by_number = [
            exam
            for exam in session.scalars(same)
            # Against a registration both sides are shown to a person; other images alone are no reason to doubt these.
            if fits(exam.modality, modality) and (exam.source != "images" or _may_be(exam.patient, header))
        ]
        if by_number:
            return _best(by_number, body_part)
    owner = patients.find_by_number(session, org_id, number) if number else None
    if owner is not None and not owner.from_header:
        # The clinic knows somebody else by this number: a like name is not enough.
        return None
    named = [
        exam
        for exam in session.scalars(waiting.where(Exam.source != "images"))
        if fits(exam.modality, modality) and _same_person(exam.patient, header)
    ]
    if len({exam.patient_id for exam in named}) != 1:
        return None
    return _best(named, body_part)


def fits(requested: str, modality: str) -> bool:
    """Whether a machine's modality can be what was requested. Objects without a modality of their own fit all."""
    if modality.upper() in _NO_IMAGE:
        return True
    return requested in (catalogue.modality_family(modality), "OT")


def _may_be(patient: Patient, header: dict[str, Any]) -> bool:
    """Whether nothing that both sides know disagrees."""
    return patients.same_human(
        patient,
        name=str(header.get("name") or ""),
        sex=str(header.get("sex") or ""),
        birth_date=iso_date(header.get("birth_date")),
    )


def _same_person(patient: Patient, header: dict[str, Any]) -> bool:
    sex = str(header.get("sex") or "")
    if not header.get("name") or pinyin.same_name(patient.name, str(header["name"])) not in ("equal", "pinyin"):
        return False
    if sex in ("M", "F") and patient.sex in ("M", "F"):
        return sex == patient.sex
    return True


def _best(found: list[Exam], body_part: str) -> Exam:
    part = catalogue.body_part_of(body_part) if body_part else None

    def order(exam: Exam) -> tuple[bool, bool, str]:
        return (part is None or part not in exam.body_parts, exam.state != State.REGISTERED.value, exam.id)

    return min(found, key=order)


def own_exam(session: Session, org_id: str, exam_id: str) -> Exam:
    """The exam that the sender names.

    Raises:
        WrongExam: It is not his, does not exist, or has ended without a report.
    """
    exam = session.get(Exam, exam_id)
    if exam is None or exam.org_id != org_id or exam.state in ENDED:
        raise WrongExam(_("所选的检查不存在、已结束或不属于本机构,影像未归入。请重新选择检查后上传。"))
    return exam


def patient_for(session: Session, org_id: str, header: dict[str, Any], exam: Exam | None) -> Patient:
    """The patient row of a new study: the exam's, if the header can be the same person; else the header's own."""
    number = str(header.get("patient_id") or "")
    name, sex = str(header.get("name") or ""), str(header.get("sex") or "")
    birth = iso_date(header.get("birth_date"))
    if exam is not None and patients.same_human(exam.patient, name=name, sex=sex, birth_date=birth):
        registered = exam.patient
        if number and patients.hub_given(registered.number):
            # Next time the machine sends this number, it is found at once.
            other = patients.find_by_number(session, org_id, number)
            if other is None:
                registered.number = number[:64]
                session.flush()
            elif patients.same_human(other, name=registered.name, sex=registered.sex):
                patients.absorb(session, registered, other)
        return registered
    known = patients.find_by_number(session, org_id, number) if number else None
    if known is not None and not _may_be(known, header):
        # A number typed wrong, or one that the machine gives to everybody: these are not the images of that person.
        number = ""
    return patients.ensure(
        session, org_id, number or None, pinyin.han_of(name) or plain_name(name), sex, birth, from_header=True
    )


def iso_date(text: Any) -> date | None:
    """A date of `Study.header_patient` (ISO), or None."""
    try:
        return datetime.fromisoformat(str(text)).date() if text else None
    except ValueError:
        return None


def plain_name(name: str) -> str:
    """A PN value as people write it: the first group, carets as blanks."""
    return re.sub(r"\s+", " ", name.split("=", maxsplit=1)[0].replace("^", " ")).strip()


def attach(
    session: Session,
    actor: Actor,
    study: Study,
    *,
    exam_id: str | None = None,
    found: Exam | None = None,
    added: int = 0,
    modality: str = "",
    body_part: str = "",
) -> Exam:
    """Link a study to its exam and tell the exam that images came.

    Args:
        session: The transaction.
        actor: Who sends.
        study: The study, flushed.
        exam_id: The exam that the sender names; of his own organisation only.
        found: What `find_exam` gave for this study in the same transaction, if it was asked.
        added: New instances in this transaction.
        modality: Of the new instances.
        body_part: Of the new instances.

    Returns:
        The exam: the named one, the one already linked unless it has ended without a report, one found by
        `find_exam`, or a new one.

    Raises:
        WrongExam: `exam_id` is not one of the sender's exams.
        Conflict: The exam ended while this transaction went on; asked again, the images find another.
    """
    linked = list(session.scalars(_LINKED, {"study": study.id}))
    named = own_exam(session, study.org_id, exam_id) if exam_id else None
    fresh: Exam | None = None
    if named is not None and named not in linked:
        _link(session, actor, named, study, arrived=own_images(session, study) - added)
        linked.append(named)
        fresh = named
    elif not linked:
        if found is None:
            # Two studies of one patient at once: the second waits here, and finds the exam that the first one made.
            session.execute(select(Patient.id).where(Patient.id == study.patient_id).with_for_update(key_share=True))
        found = found or find_exam(
            session,
            study.org_id,
            study.header_patient,
            accession=study.accession,
            modality=modality,
            body_part=body_part,
        )
        exam = found or _from_header(session, actor, study, modality, body_part)
        _link(session, actor, exam, study, arrived=own_images(session, study) - added)
        linked.append(exam)
        fresh = exam
    for exam in linked:
        _arrived(session, actor, exam, study, added=added, modality=modality, body_part=body_part, anew=exam is fresh)
    return named or linked[0]


_ONE_MORE = (
    update(Exam)
    .where(
        Exam.id.in_(select(ExamStudy.exam_id).where(ExamStudy.study_id == bindparam("study"))),
        select(func.count()).select_from(ExamStudy).where(ExamStudy.study_id == bindparam("study")).scalar_subquery()
        == 1,
        Exam.state == State.RECEIVING.value,
        Exam.exam_at.is_not(None),
        or_(
            Exam.source != "images",
            and_(Exam.modality != "OT", cast(Exam.body_parts, String) != "[]"),
        ),
        or_(Exam.declared_count.is_(None), Exam.received_count + bindparam("more") < Exam.declared_count),
        Exam.received_count > 0,
        Exam.received_count % ANNOUNCED_EVERY + bindparam("more") < ANNOUNCED_EVERY,
    )
    .values(received_count=Exam.received_count + bindparam("more"))
    .returning(Exam.id, Exam.priority)
    .execution_options(synchronize_session=False)
)


def attach_more(session: Session, study_id: str, *, exam_id: str | None, added: int) -> bool:
    """`attach` for images that change nothing but the count of the one exam that receives the study.

    Most files are neither an exam's first nor its last; they cost one statement.

    Args:
        session: The transaction.
        study_id: The study, held.
        exam_id: The exam that the sender names.
        added: New instances in this transaction.

    Returns:
        False where nothing was done, and `attach` must look.
    """
    if exam_id is not None or not added:
        return False
    row = session.execute(_ONE_MORE, {"study": study_id, "more": added}).one_or_none()
    if row is None:
        return False
    _settle_later(session, row.id, row.priority, at_once=False)
    return True


def hold(session: Session, *studies: str) -> None:
    """Lock studies until the transaction ends. Whoever links or counts their images holds them, before any exam."""
    session.execute(
        select(Study.id).where(Study.id.in_(studies)).order_by(Study.uid).with_for_update(key_share=True)
    ).all()


def relink(session: Session, actor: Actor, study: Study, *, from_exam: Exam, to_exam: Exam) -> None:
    """Move a study to another exam of the same organisation: somebody found that it belongs there.

    Raises:
        WrongExam: The exams are not of the study's organisation.
        Conflict: The study is not linked to `from_exam`.
    """
    if not (study.org_id == from_exam.org_id == to_exam.org_id):
        raise WrongExam(_("所选的检查不存在、已结束或不属于本机构,影像未归入。请重新选择检查后上传。"))
    hold(session, study.id)
    link = session.get(ExamStudy, (from_exam.id, study.id), populate_existing=True)
    if link is None:
        raise Conflict(_("影像已不在原来的检查中,请刷新"), code="changed-meanwhile")
    session.delete(link)
    _count(session, from_exam, -own_images(session, study))
    rest = session.scalars(
        select(Study)
        .join(ExamStudy, ExamStudy.study_id == Study.id)
        .where(ExamStudy.exam_id == from_exam.id, Study.id != study.id)
        .order_by(Study.created_at, Study.id)
        .limit(1)
    ).one_or_none()
    # The clock of images that were somebody else's is no clock of this exam.
    from_exam.exam_at, from_exam.exam_at_source = exam_time(session, from_exam, rest) if rest else (None, "")
    if session.get(ExamStudy, (to_exam.id, study.id)) is None:
        _link(session, actor, to_exam, study, arrived=own_images(session, study))
    study.patient_id = to_exam.patient_id
    session.flush()
    audit.record(
        session,
        actor,
        "study.relink",
        "study",
        study.uid,
        org_id=study.org_id,
        patient_id=to_exam.patient_id,
        from_exam=from_exam.id,
        to_exam=to_exam.id,
    )
    _arrived(session, actor, to_exam, study, added=0, modality="", body_part="", anew=True)


def detach(session: Session, exam: Exam, study: Study) -> None:
    """Take a study away from an exam, which the caller holds; `own_images` of it no longer count there."""
    link = session.get(ExamStudy, (exam.id, study.id), populate_existing=True)
    if link is not None:
        session.delete(link)
        _count(session, exam, -own_images(session, study))
        session.flush()


def own_images(session: Session, study: Study) -> int:
    """Instances of a study that were received, not made by the hub."""
    return (
        session.scalar(
            select(func.count())
            .select_from(Instance)
            .where(Instance.study_id == study.id, Instance.made_by_hub.is_(False))
        )
        or 0
    )


def _link(session: Session, actor: Actor, exam: Exam, study: Study, *, arrived: int) -> None:
    session.add(ExamStudy(exam_id=exam.id, study_id=study.id, linked_at=clock.now(), linked_by=actor.id))
    if arrived > 0:
        _count(session, exam, arrived)
    session.flush()
    audit.record(
        session,
        actor,
        "exam.link_study",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        study=study.uid,
    )


_COUNT = (
    update(Exam)
    .where(Exam.id == bindparam("exam"))
    .values(received_count=Exam.received_count + bindparam("more"))
    .returning(Exam)
    .execution_options(synchronize_session=False)
)


def _count(session: Session, exam: Exam, number: int) -> None:
    # In the database, not in the object: several processes receive images of one exam.
    # The row is held from here on: what the exam has become meanwhile decides what these images are to it.
    session.scalars(_COUNT, {"exam": exam.id, "more": number}, execution_options={"populate_existing": True}).one()


def _from_header(session: Session, actor: Actor, study: Study, modality: str, body_part: str) -> Exam:
    family = catalogue.modality_family(modality) if modality.upper() not in _NO_IMAGE else "OT"
    part = catalogue.body_part_of(body_part) if body_part else None
    return registration.new_exam(
        session,
        actor,
        session.get_one(Patient, study.patient_id),
        org_id=study.org_id,
        source="images",
        modality=family,
        body_parts=[part] if part else [],
        procedure=study.description,
        stated_age=str(study.header_patient.get("age") or "")[:10],
        incomplete=[registration.REGISTRATION],
    )


def _arrived(
    session: Session,
    actor: Actor,
    exam: Exam,
    study: Study,
    *,
    added: int,
    modality: str,
    body_part: str,
    anew: bool = False,
) -> None:
    if added:
        _count(session, exam, added)
    if exam.state in ENDED:
        raise Conflict(_("这项检查刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    if exam.source == "images" and exam.modality == "OT" and modality and modality.upper() not in _NO_IMAGE:
        exam.modality = catalogue.modality_family(modality)
    if exam.source == "images" and not exam.body_parts and body_part:
        part = catalogue.body_part_of(body_part)
        exam.body_parts = [part] if part else []
    if exam.exam_at is None:
        exam.exam_at, exam.exam_at_source = exam_time(session, exam, study)
    session.flush()
    state = State(exam.state)
    if not added and not anew and state is not State.REGISTERED:
        return
    late = False
    if state in _BEFORE_READING:
        # A machine has no role, and the hub itself saw the images arrive.
        raiser = actor if actor.has(Role.TECHNOLOGIST) else SYSTEM
        exams.apply(session, raiser, exam, Event.IMAGES_ARRIVE)
    elif state is not State.RECEIVING:
        _late(session, actor, exam, study, added)
        late = True
    elif (
        exam.received_count == added
        or exam.received_count // ANNOUNCED_EVERY != (exam.received_count - added) // ANNOUNCED_EVERY
    ):
        exams.announce(session, exam, event="images", received=exam.received_count)
    enough = exam.declared_count is not None and exam.received_count >= exam.declared_count
    # Whose late images are is looked at before somebody signs.
    _settle_later(session, exam.id, exam.priority, at_once=enough or late)


def _settle_later(session: Session, exam_id: str, priority: str, *, at_once: bool) -> None:
    jobs.enqueue(
        session,
        "studies.settle",
        {"exam_id": exam_id},
        key=f"settle:{exam_id}",
        delay=0 if at_once else get_settings().quiet_period_seconds,
        postpone=True,
        priority=2 if priority == "emergency" else 4,
    )


def _late(session: Session, actor: Actor, exam: Exam, study: Study, added: int) -> None:
    """Images for an exam that somebody already reads or has read: seen at once by all, acted on by the reader."""
    exam.late_images_at = clock.now()
    session.flush()
    audit.record(
        session,
        actor,
        "exam.late_images",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        study=study.uid,
        added=added,
        state=exam.state,
    )
    exams.announce(session, exam, event="late_images", received=exam.received_count)
    # Told in the thread once they have settled, and not for each file of a hundred.
    jobs.enqueue(
        session, "conversation.images_late", {"exam_id": exam.id}, key=f"late:{exam.id}", delay=20, postpone=True
    )


def exam_time(session: Session, exam: Exam, study: Study) -> tuple[datetime, str]:
    """When the machine exposed, and whose clock says so.

    The modality's clock is not believed where it lies in the future, more than 30 days back, or more than a day
    before a registration that was made ahead of the images; then the registration counts, or else the first arrival.
    """
    now = clock.now()
    registered_first = exam.source != "images" and exam.registered_at <= study.created_at
    moment = header_time(session, study)
    if (
        moment is not None
        and now - _CLOCK_PAST <= moment <= now + _CLOCK_FUTURE
        and (not registered_first or moment >= exam.registered_at - _BEFORE_REGISTRATION)
    ):
        return min(moment, now), MODALITY_CLOCK
    if registered_first:
        return exam.registered_at, REGISTRATION_CLOCK
    return study.created_at, ARRIVAL_CLOCK


def header_time(session: Session, study: Study) -> datetime | None:
    """The start of the study as its header has it; of a series where the study has no time."""
    zone = ZoneInfo(get_settings().timezone)
    offset = str(study.summary.get("timezone_offset") or "")
    candidates = [(study.study_date, study.study_time)]
    candidates += [
        (series.series_date, series.series_time)
        for series in session.scalars(select(Series).where(Series.study_id == study.id).limit(5))
    ]
    for day, hour in candidates:
        if len(day) == 8 and len(hour) >= 4:
            try:
                naive = datetime.combine(
                    datetime.strptime(day, "%Y%m%d").date(),  # noqa: DTZ007 - the zone follows
                    time(int(hour[:2]), int(hour[2:4]), min(59, int(hour[4:6] or 0))),
                )
            except ValueError:
                continue
            if re.fullmatch(r"[+-]\d{4}", offset):
                sign = -1 if offset[0] == "-" else 1
                shift = sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:]))
                return (naive - shift).replace(tzinfo=UTC)
            return naive.replace(tzinfo=zone).astimezone(UTC)
    return None
