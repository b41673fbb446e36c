"""Registering, completing, cancelling and verifying exams.

Everything a person types is checked here and answered field by field in words. An emergency may enter incomplete:
what is missing stands in `Exam.incomplete` and is asked for later.
"""

from __future__ import annotations

import unicodedata
from datetime import date, datetime, timedelta
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, CompoundSelect, func, select, union_all
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.dicom.identity import IdentityNumber, age_at, age_string, check_identity_number, parse_age
from hub.exams import limits, repository
from hub.exams.catalogue import (
    BODY_PARTS,
    ENCOUNTERS,
    MODALITIES,
    PREGNANCY,
    PRIORITIES,
    PRIORITY_RANKS,
    SEXES,
    pregnancy_applies,
    years_between,
)
from hub.exams.models import Exam
from hub.exams.service import announce, apply
from hub.exams.states import OPEN_STATES, QUEUE_STATES, Event, State
from hub.kit import clock, jobs
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, Invalid
from hub.kit.i18n import Message, _
from hub.kit.serials import next_serial
from hub.kit.settings import get_settings
from hub.patients import links
from hub.patients import service as patients
from hub.patients.links import UNKNOWN_NAME
from hub.patients.models import Patient
from hub.sites.models import Agreement, Organisation

REGISTRATION = "registration"
"""In Exam.incomplete: the exam was made from image headers and nobody has registered it yet."""

FIELD_NAMES: dict[str, Message] = {
    "name": _("姓名"),
    "sex": _("性别"),
    "birth": _("出生日期或年龄"),
    "body_parts": _("检查部位"),
    "history": _("病史"),
    "doctor": _("申请医生"),
    "doctor_phone": _("医生电话"),
    "pregnancy": _("是否怀孕"),
    REGISTRATION: _("登记信息"),
}
"""What people call the entries of Exam.incomplete."""


_AGE_SUFFIX = {"Y": "", "M": "月", "W": "周", "D": "天"}


class RegistrationForm(BaseModel):
    """What a clinic says when it registers an exam. Empty text means: not given.

    Birth date as YYYY-MM-DD, or an age such as `45`, `45岁`, `8月`, `12天`. `number` is the clinic's own patient
    number. `patient_id` names a patient that the page found.
    """

    model_config = ConfigDict(
        str_strip_whitespace=True,
        json_schema_extra={
            "examples": [
                {
                    "name": "王伟",
                    "sex": "M",
                    "age": "45",
                    "phone": "13800000000",
                    "encounter": "outpatient",
                    "encounter_number": "MZ20260102",
                    "department": "内科",
                    "doctor": "李明",
                    "doctor_phone": "13900000000",
                    "modality": "CT",
                    "body_parts": ["chest"],
                    "history": "咳嗽咳痰一周,发热两天",
                    "priority": "routine",
                }
            ]
        },
    )

    patient_id: str = Field("", max_length=26)
    name: str = Field("", max_length=60)
    sex: str = Field("", max_length=4)
    birth_date: str = Field("", max_length=20)
    age: str = Field("", max_length=10)
    identity_number: str = Field("", max_length=40)
    number: str = Field("", max_length=64)
    phone: str = Field("", max_length=40)
    encounter: str = Field("outpatient", max_length=12)
    encounter_number: str = Field("", max_length=40)
    bed: str = Field("", max_length=20)
    department: str = Field("", max_length=60)
    doctor: str = Field("", max_length=60)
    doctor_phone: str = Field("", max_length=40)
    modality: str = Field("", max_length=4)
    body_parts: list[str] = Field(default_factory=list, max_length=12)
    procedure: str = Field("", max_length=200)
    history: str = Field("", max_length=4000)
    priority: str = Field("routine", max_length=10)
    pregnancy: str = Field("", max_length=10)


class CheckedForm:
    """A form whose texts have become values; `errors` by field, `missing` what an emergency may add later."""

    def __init__(self, form: RegistrationForm, today: date) -> None:
        self.form = form
        self.errors: dict[str, Message | str] = {}
        self.missing: list[str] = []
        self.name = _clean(form.name)
        self.sex = form.sex.upper() if form.sex.upper() in SEXES else {"男": "M", "女": "F"}.get(form.sex, "")
        self.identity_number = ""
        self.birth_date: date | None = None
        self.stated_age = ""
        self.estimated = False
        self._identity(today)
        self._birth(today)
        self._exam(today)

    @property
    def emergency(self) -> bool:
        """Whether it may enter incomplete."""
        return self.form.priority == "emergency"

    def _lacks(self, name: str, field: str, message: Message) -> None:
        """Something mandatory is absent: an error, or 待补 for an emergency."""
        if self.emergency:
            self.missing.append(name)
        else:
            self.errors.setdefault(field, message)

    def _identity(self, today: date) -> None:
        typed = self.form.identity_number
        if not typed:
            return
        found = check_identity_number(typed, today=today)
        if not isinstance(found, IdentityNumber):
            self.errors["identity_number"] = IDENTITY_PROBLEMS.get(found.code, IDENTITY_PROBLEMS["characters"])
            return
        self.identity_number = found.normalised
        self.birth_date = found.birth_date
        if self.sex in ("M", "F") and self.sex != found.sex:
            self.errors["sex"] = _("性别与身份证号不符")
        self.sex = self.sex or found.sex

    def _birth(self, today: date) -> None:
        form = self.form
        if form.birth_date:
            born = _date(form.birth_date)
            if born is None:
                self.errors["birth_date"] = _("出生日期应为 年-月-日,例如 1980-05-12")
            elif not date(1880, 1, 1) <= born <= today:
                self.errors["birth_date"] = _("出生日期不能晚于今天")
            elif self.birth_date is not None and born != self.birth_date:
                self.errors["birth_date"] = _("出生日期与身份证号不符")
            else:
                self.birth_date = born
        if form.age:
            age = parse_age(form.age.replace("个月", "月").replace(" ", ""))
            if age is None or age.years > 150:
                self.errors["age"] = _("年龄应为数字,可加 岁、月 或 天,例如 45 或 8月")
            elif self.birth_date is not None:
                if abs(years_between(self.birth_date, today) - age.years) > 1:
                    self.errors.setdefault("age", _("年龄与出生日期不符"))
            else:
                self.stated_age = f"{age.value:03d}{age.unit}"
                days = {"D": 1, "W": 7, "M": 30}
                if age.unit == "Y":
                    self.birth_date = _years_before(today, age.value)
                else:
                    self.birth_date = today - timedelta(days=age.value * days[age.unit])
                self.estimated = True
        if self.birth_date is not None and not self.stated_age:
            self.stated_age = age_string(self.birth_date, today)
        if self.birth_date is None and not self.errors.keys() & {"birth_date", "age", "identity_number"}:
            self._lacks("birth", "birth_date", _("请填写出生日期或年龄"))

    def _exam(self, today: date) -> None:
        form = self.form
        if not self.name:
            self._lacks("name", "name", _("请填写姓名"))
        if not self.sex:
            if form.sex:
                self.errors["sex"] = _("请选择性别")
            self._lacks("sex", "sex", _("请选择性别"))
        if form.modality not in MODALITIES:
            self.errors["modality"] = _("请选择检查类型")
        unknown = [code for code in form.body_parts if code not in BODY_PARTS]
        if unknown:
            self.errors["body_parts"] = _("没有这个检查部位")
        elif not form.body_parts:
            self._lacks("body_parts", "body_parts", _("请选择检查部位"))
        for code in form.body_parts:
            part = BODY_PARTS.get(code)
            if part and part.sex and self.sex and part.sex != self.sex:
                self.errors["body_parts"] = _("检查部位“{part}”与性别不符", part=part.name)
        if form.priority not in PRIORITIES:
            self.errors["priority"] = _("请选择优先级")
        if form.encounter not in ENCOUNTERS:
            self.errors["encounter"] = _("请选择就诊类型")
        if sum(char.isalnum() for char in form.history) < 2:
            self._lacks("history", "history", _("请填写病史:医生凭病史阅片,可点选常用短语"))
        if form.encounter != "checkup":
            if not form.doctor:
                self._lacks("doctor", "doctor", _("请填写申请医生"))
            if not form.doctor_phone:
                self._lacks("doctor_phone", "doctor_phone", _("请填写能找到医生的电话,危急值要打这个电话"))
        for field in ("phone", "doctor_phone"):
            typed = getattr(form, field)
            if typed and sum(char.isdigit() for char in unicodedata.normalize("NFKC", typed)) < 5:
                self.errors[field] = _("电话号码不完整")
        years = years_between(self.birth_date, today) if self.birth_date else None
        if form.pregnancy and form.pregnancy not in PREGNANCY:
            self.errors["pregnancy"] = _("请选择是否怀孕")
        elif (
            not form.pregnancy
            and self.sex == "F"
            and pregnancy_applies(self.sex, years, form.modality, form.body_parts)
        ):
            self._lacks("pregnancy", "pregnancy", _("腹盆部照射前请询问是否怀孕"))


IDENTITY_PROBLEMS: dict[str, Message] = {
    "length": _("身份证号应为 18 位"),
    "characters": _("身份证号只能是数字,末位可为 X"),
    "region": _("身份证号前两位不是省级代码"),
    "date": _("身份证号中的出生日期不存在"),
    "check-digit": _("身份证号校验位不符,请核对"),
}


def _clean(text: str) -> str:
    plain = "".join(char for char in unicodedata.normalize("NFKC", text) if char.isprintable())
    return " ".join(plain.split())


def _date(text: str) -> date | None:
    digits = unicodedata.normalize("NFKC", text).replace("/", "-").replace(".", "-").strip()
    for pattern in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(digits, pattern).date()  # noqa: DTZ007 - a civil date
        except ValueError:
            continue
    return None


def _years_before(day: date, years: int) -> date:
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def today() -> date:
    """The civil day in the county."""
    return clock.local(clock.now(), get_settings().timezone).date()


def accession_number(session: Session) -> str:
    """A fresh accession number (0008,0050), 12 of at most 16 characters: `E`, the day, a serial of the day."""
    day = f"{today():%y%m%d}"
    return f"E{day}{next_serial(session, f'accession:{day}'):05d}"


def reading_org_of(session: Session, clinic_id: str) -> str | None:
    """The hospital that reads for a clinic by its first agreement; None: the shared pool."""
    return session.scalars(
        select(Agreement.hospital_id)
        .join(Organisation, Organisation.id == Agreement.hospital_id)
        .where(Agreement.clinic_id == clinic_id, Organisation.active)
        .order_by(Agreement.rank, Agreement.id)
        .limit(1)
    ).one_or_none()


def _own_org(actor: Actor) -> str:
    if actor.org_id is None:
        raise Forbidden(_("只有医疗机构可以登记检查"))
    return actor.org_id


def _check(form: RegistrationForm) -> CheckedForm:
    checked = CheckedForm(form, today())
    if checked.errors:
        raise Invalid(fields=checked.errors)
    return checked


def _used_elsewhere(session: Session, patient: Patient, exam_id: str) -> bool:
    return session.scalar(select(Exam.id).where(Exam.patient_id == patient.id, Exam.id != exam_id).limit(1)) is not None


def _patient(
    session: Session, org_id: str, checked: CheckedForm, present: Patient | None = None, exam_id: str = ""
) -> Patient:
    """The patient row that a form speaks of: the chosen, that of the number, that of the identity number, or new.

    Raises:
        Invalid: The number belongs to somebody else.
    """
    form = checked.form
    name = checked.name or UNKNOWN_NAME
    found: Patient | None = None
    # Before any patient is held: what is changed here may change who is whom.
    links.lock(session)
    if form.patient_id:
        found = patients.get_own(session, org_id, form.patient_id)
    if form.number and (found is None or found.number != form.number):
        by_number = patients.find_by_number(session, org_id, form.number)
        if by_number is not None or found is None or not patients.hub_given(found.number):
            found = by_number
    if found is None and present is not None and (not form.number or patients.hub_given(present.number)):
        found = present
    if found is None and checked.identity_number:
        found = patients.find_by_identity_number(session, org_id, checked.identity_number)
        if found is not None and not patients.same_human(
            found, name=name, sex=checked.sex, birth_date=checked.birth_date
        ):
            found = None
    if found is not None:
        # Nobody corrects the patient, or registers another exam for him, between these questions and their answer.
        patients.hold(session, found)
    own = present is not None and found is not None and found.id == present.id
    if found is not None and found.name != UNKNOWN_NAME and checked.name:
        agrees = patients.same_human(
            found,
            name=name,
            sex=checked.sex,
            birth_date=checked.birth_date,
            identity_number=checked.identity_number,
        )
        if own and not agrees and _used_elsewhere(session, found, exam_id):
            # Correcting this exam must not rewrite the patient under exams of before.
            own = False
            found = None if patients.hub_given(found.number) else found
        if found is not None and not own and not agrees:
            raise Invalid(
                fields={
                    "number": _("此患者号在本机构属于“{name}”,与填写的信息不符,请核对", name=found.name)
                    if form.number
                    else _("所选患者是“{name}”,与填写的信息不符,请核对", name=found.name)
                }
            )
    if found is None:
        return patients.ensure(
            session,
            org_id,
            form.number or None,
            name,
            checked.sex,
            checked.birth_date,
            birth_estimated=checked.estimated,
            identity_number=checked.identity_number,
            phone=form.phone,
        )
    patients.fill(
        found,
        overwrite=own or found.from_header or found.name == UNKNOWN_NAME,
        name=checked.name,
        sex=checked.sex,
        birth_date=checked.birth_date if not (checked.estimated and _fits(found, checked.birth_date)) else None,
        birth_estimated=checked.estimated,
        identity_number=checked.identity_number,
        phone=form.phone,
    )
    if form.number and patients.hub_given(found.number):
        found.number = form.number
    if checked.name:
        found.from_header = False
    session.flush()
    links.evaluate(session, found)
    return found


def _fits(patient: Patient, estimated: date | None) -> bool:
    """Whether a known birth date already says what an age only estimates."""
    known = patient.birth_date
    return known is not None and estimated is not None and abs((known - estimated).days) < 2 * 366


def _columns(checked: CheckedForm) -> dict[str, Any]:
    form = checked.form
    return {
        "modality": form.modality,
        "body_parts": list(dict.fromkeys(form.body_parts)),
        "procedure": form.procedure,
        "priority": form.priority,
        "priority_rank": PRIORITY_RANKS[form.priority],
        "encounter": form.encounter,
        "encounter_number": form.encounter_number,
        "bed": form.bed,
        "department": form.department,
        "doctor": form.doctor,
        "doctor_phone": form.doctor_phone,
        "history": form.history.strip(),
        "pregnancy": form.pregnancy,
        "incomplete": list(dict.fromkeys(checked.missing)),
        "stated_age": checked.stated_age,
        "stated_birth_date": None if checked.estimated else checked.birth_date,
    }


def register(session: Session, actor: Actor, form: RegistrationForm, *, source: str = "web") -> Exam:
    """Register an exam for the actor's organisation.

    Args:
        session: The transaction.
        actor: Technologist of a clinic, or its machine.
        form: What was typed.
        source: "web", or what sent it.

    Raises:
        Invalid: With a message for each wrong field.
    """
    org_id = _own_org(actor)
    checked = _check(form)
    patient = _patient(session, org_id, checked)
    exam = new_exam(
        session,
        actor,
        patient,
        org_id=org_id,
        source="web" if actor.kind == "person" else source if source != "web" else "api",
        **_columns(checked),
    )
    return exam


def new_exam(session: Session, actor: Actor, patient: Patient, *, org_id: str, source: str, **columns: Any) -> Exam:
    """Write a new exam in state `registered`, with accession number, reading hospital, audit entry and live change.

    The columns are values of Exam that have been checked.
    """
    exam = Exam(
        accession=accession_number(session),
        org_id=org_id,
        reading_org_id=reading_org_of(session, org_id),
        patient_id=patient.id,
        state=State.REGISTERED.value,
        version=1,
        source=source,
        registered_by=actor.id,
        registered_at=clock.now(),
        **columns,
    )
    session.add(exam)
    session.flush()
    session.refresh(exam)
    audit.record(
        session,
        actor,
        "exam.register",
        "exam",
        exam.id,
        org_id=org_id,
        patient_id=patient.id,
        source=source,
        incomplete=exam.incomplete,
    )
    announce(session, exam, event="register")
    return exam


def from_images(
    session: Session,
    actor: Actor,
    *,
    patient: Patient,
    modality: str,
    body_parts: list[str],
    procedure: str = "",
    stated_age: str = "",
) -> Exam:
    """An exam for images that came before their registration: visible at once, its registration still to be done.

    Args:
        session: The transaction.
        actor: Who sends the images.
        patient: The row made from the header; its organisation owns the exam.
        modality: Requested modality that the images stand for.
        body_parts: Codes, as far as the header tells.
        procedure: StudyDescription (0008,1030).
        stated_age: PatientAge (0010,1010).
    """
    age = parse_age(stated_age) if stated_age else None
    return new_exam(
        session,
        actor,
        patient,
        org_id=patient.org_id,
        source="images",
        modality=modality,
        body_parts=body_parts,
        procedure=procedure[:200],
        stated_age=f"{age.value:03d}{age.unit}" if age else "",
        stated_birth_date=patient.birth_date,
        incomplete=[REGISTRATION],
    )


def typed_age(patient: Patient) -> str:
    """Today's age of a patient whose birth date was worked out from one, as the form takes it; else empty."""
    if patient.birth_date is None or not patient.birth_estimated:
        return ""
    age = age_at(patient.birth_date, today())
    return f"{age.value}{_AGE_SUFFIX[age.unit]}" if age else ""


def form_of(exam: Exam) -> RegistrationForm:
    """What the registration page shows for an exam that exists."""
    patient = exam.patient
    age = parse_age(exam.stated_age) if exam.stated_age else None
    known = exam.stated_birth_date or (None if patient.birth_estimated else patient.birth_date)
    return RegistrationForm(
        name="" if patient.name == UNKNOWN_NAME else patient.name[:60],
        sex=patient.sex,
        birth_date=known.isoformat() if known else "",
        age="" if known or age is None else f"{age.value}{_AGE_SUFFIX[age.unit]}",
        identity_number=patient.identity_number,
        number="" if patients.hub_given(patient.number) else patient.number,
        phone=patient.phone,
        encounter=exam.encounter,
        encounter_number=exam.encounter_number,
        bed=exam.bed,
        department=exam.department,
        doctor=exam.doctor,
        doctor_phone=exam.doctor_phone,
        modality=exam.modality,
        body_parts=[code for code in exam.body_parts if code in BODY_PARTS],
        procedure=exam.procedure,
        history=exam.history,
        priority=exam.priority,
        pregnancy=exam.pregnancy,
    )


def complete_registration(session: Session, actor: Actor, exam: Exam, changes: dict[str, Any]) -> Exam:
    """Add to or correct the registration of an exam that is not signed yet.

    Args:
        session: The transaction.
        actor: Of the exam's own organisation.
        exam: The exam.
        changes: Fields of RegistrationForm; the others stay.

    Raises:
        Invalid: With a message for each wrong field.
        Conflict: The exam is finished.
    """
    if exam.org_id != actor.org_id:
        raise Forbidden(_("只有登记的机构可以修改登记"))
    # Two who add to one registration must each see what the other added, and nobody corrects what is just signed.
    repository.hold(session, exam)
    if exam.state not in OPEN_STATES:
        raise Conflict(_("检查已结束,不能再修改登记"), code="wrong-state", state=exam.state)
    present = form_of(exam).model_dump()
    if "age" in changes and "birth_date" not in changes and changes["age"]:
        present["birth_date"] = ""
    checked = _check(RegistrationForm.model_validate({**present, **changes}))
    patient = _patient(session, exam.org_id, checked, present=exam.patient, exam_id=exam.id)
    before = exam.patient_id
    columns = _columns(checked)
    changed = sorted(name for name, value in columns.items() if getattr(exam, name) != value)
    for name, value in columns.items():
        setattr(exam, name, value)
    exam.patient_id = patient.id
    if exam.received_at is not None:
        exam.due_at = limits.due_at(session, exam)
    session.flush()
    session.refresh(exam)
    audit.record(
        session,
        actor,
        "exam.complete_registration",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        changed=changed,
        former_patient=before if before != exam.patient_id else None,
        incomplete=exam.incomplete,
    )
    announce(session, exam, event="registration")
    if exam.state != State.REGISTERED:
        # The headers are compared anew, by what knows them.
        jobs.enqueue(session, "studies.settle", {"exam_id": exam.id}, key=f"settle:{exam.id}", priority=2)
    if exam.state == State.TO_READ:
        jobs.enqueue(session, "routing.route", {"exam_id": exam.id}, key=f"route:{exam.id}", priority=2)
    return exam


def patients_changed(session: Session, patient_ids: list[str]) -> None:
    """Bring open pages and the comparison with image headers up to date after who is whom was decided or corrected.

    Exams of the whole group that somebody holds: their reader sees other priors now.
    """
    counties = select(Patient.county_patient_id).where(Patient.id.in_(patient_ids))
    theirs = Exam.patient_id.in_(select(Patient.id).where(Patient.county_patient_id.in_(counties)))
    opened = Exam.state.in_([state.value for state in OPEN_STATES])
    held = Exam.lease_until > clock.now()
    corrected = Exam.patient_id.in_(patient_ids)
    for exam in session.scalars(select(Exam).where(theirs | corrected, opened | held).limit(500)).unique():
        announce(session, exam, event="patient")
        if exam.patient_id in patient_ids and exam.state != State.REGISTERED:
            jobs.enqueue(session, "studies.settle", {"exam_id": exam.id}, key=f"settle:{exam.id}", priority=2)


def cancel(session: Session, actor: Actor, exam: Exam, *, reason: str) -> Exam:
    """Cancel an exam that nobody reads yet.

    Raises:
        Invalid: No reason was given.
        Conflict: It is being read or finished.
        Forbidden: Not of the actor's organisation, or not his role.
    """
    if not reason.strip():
        raise Invalid(fields={"reason": _("请写明取消的原因")})
    if exam.org_id != actor.org_id and not actor.has("director"):
        raise Forbidden(_("只有登记的机构可以取消检查"))
    return apply(session, actor, exam, Event.CANCEL, reason=reason.strip()[:400], end_reason=reason.strip()[:400])


def may_verify(actor: Actor, exam: Exam) -> bool:
    """Whether it is the actor's to decide about this exam's identity."""
    return actor.kind == "system" or actor.has("quality", "director") or exam.org_id == actor.org_id


def verify(
    session: Session,
    actor: Actor,
    exam: Exam,
    decision: Literal["same"] = "same",
    *,
    reason: str,
) -> Exam:
    """Decide that images and registration belong together although they disagree, and let the exam go on.

    An exam in state `to_verify` enters the queue; an emergency already there may then be signed.

    Args:
        session: The transaction.
        actor: Technologist of the clinic, quality officer or director.
        exam: The exam.
        decision: "same": the same patient, and these are all the images.
        reason: Why, in words.

    Raises:
        Invalid: No reason was given, or the registration still lacks something mandatory.
        Conflict: There is nothing to verify.
    """
    if not reason.strip():
        raise Invalid(fields={"reason": _("请写明核对的依据")})
    if not may_verify(actor, exam):
        raise Forbidden(_("只能核对本机构的检查"))
    reason = reason.strip()[:400]
    repository.hold(session, exam)
    if exam.state == State.TO_VERIFY:
        if exam.incomplete and exam.priority != "emergency":
            raise Invalid(_("请先补全登记信息"), fields={"registration": _("请先补全登记信息")}, code="incomplete")
        if exam.received_at is None:
            exam.received_at = clock.now()
        return apply(
            session,
            actor,
            exam,
            Event.VERIFY,
            reason=reason,
            identity="verified",
            received_at=exam.received_at,
            due_at=limits.due_at(session, exam),
        )
    if exam.identity != "open" or exam.state not in OPEN_STATES:
        raise Conflict(_("这项检查没有待核对的问题"), code="nothing-to-verify")
    exam.identity = "verified"
    exam.verified_at = clock.now()
    session.flush()
    audit.record(
        session,
        actor,
        "exam.verify",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        state=exam.state,
    )
    announce(session, exam, event="verify")
    return exam


MOST_TO_VERIFY = 300


def _undecided(actor: Actor) -> CompoundSelect[str]:
    """Ids of the exams whose identity or image count waits, and that `actor` may decide about.

    A range of an index each: asked as one condition, SQLite looks at every exam that the clinic ever had.
    """
    mine: list[ColumnElement[bool]] = []
    if not actor.has("quality", "director"):
        mine.append(Exam.org_id == actor.org_id)
    moved = sorted(state.value for state in QUEUE_STATES | {State.RECEIVING})
    return union_all(
        select(Exam.id).where(repository.is_open(), Exam.state == State.TO_VERIFY.value, *mine),
        select(Exam.id).where(Exam.state.in_(moved), repository.open_identity(), *mine),
    )


def to_verify(session: Session, actor: Actor) -> list[Exam]:
    """Exams whose identity or image count waits for a decision and that `actor` may decide about, oldest first."""
    return list(
        session.scalars(
            select(Exam)
            .where(Exam.id.in_(_undecided(actor)))
            .order_by(Exam.priority_rank, Exam.verify_since, Exam.registered_at)
            .limit(MOST_TO_VERIFY)
        )
    )


def count_to_verify(session: Session, actor: Actor) -> int:
    """How many `to_verify` gives."""
    few = _undecided(actor).limit(MOST_TO_VERIFY).subquery()
    return session.scalar(select(func.count()).select_from(few)) or 0


def verify_due(exam: Exam) -> datetime | None:
    """When the verification of an exam must be done."""
    since = exam.verify_since or (exam.received_at if exam.identity == "open" else None)
    return since + timedelta(minutes=get_settings().verify_limit_minutes) if since else None


def alert_no_images(session: Session) -> list[str]:
    """Mark and announce registered exams that have had no images for too long; the ids of those newly marked."""
    now = clock.now()
    late = now - timedelta(minutes=get_settings().no_images_alert_minutes)
    found = session.scalars(
        select(Exam)
        .where(Exam.state == State.REGISTERED.value, Exam.alerted_at.is_(None), Exam.registered_at <= late)
        .order_by(Exam.registered_at)
        .limit(200)
    ).all()
    for exam in found:
        exam.alerted_at = now
        audit.record(
            session, SYSTEM, "exam.alert_no_images", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id
        )
        announce(session, exam, event="alert_no_images")
    session.flush()
    return [exam.id for exam in found]


def alert_unverified(session: Session) -> list[str]:
    """Mark and announce exams whose verification is past its limit; the ids of those newly marked."""
    now = clock.now()
    late = now - timedelta(minutes=get_settings().verify_limit_minutes)
    since = func.coalesce(Exam.verify_since, Exam.received_at)
    found = session.scalars(
        select(Exam)
        .where(
            (Exam.state == State.TO_VERIFY.value)
            | (Exam.state.in_([state.value for state in QUEUE_STATES]) & repository.open_identity()),
            since <= late,
            Exam.alerted_at.is_(None) | (Exam.alerted_at < since),
        )
        .order_by(since)
        .limit(200)
    ).all()
    for exam in found:
        exam.alerted_at = now
        audit.record(
            session, SYSTEM, "exam.alert_unverified", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id
        )
        announce(session, exam, event="alert_unverified")
    session.flush()
    return [exam.id for exam in found]
