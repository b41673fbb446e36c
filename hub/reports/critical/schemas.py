"""What the API of critical values takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, Field

from hub.kit.i18n import current_locale, translate
from hub.reports.critical.classes import Class, Rules, name_of
from hub.reports.critical.contacts import Phone
from hub.reports.critical.models import CriticalContact, CriticalEntry, CriticalMessage, CriticalValue


class FlagBody(BaseModel):
    """A critical value that was found."""

    class_code: str = Field(examples=["cerebral_haemorrhage"])
    finding: str = Field(max_length=2000, examples=["右侧基底节区脑出血,约 30 ml"])
    discovered_at: AwareDatetime | None = Field(None, description="By the hub's clock; null: now.")
    minutes_ago: int | None = Field(
        None, ge=-24 * 60, le=24 * 60, description="Instead of discovered_at: minutes before now."
    )


class TextBody(BaseModel):
    """Words of whoever acts."""

    text: str = Field("", max_length=2000)


class PhoneBody(BaseModel):
    """A read-back on the phone."""

    receiver: str = Field("", max_length=200, examples=["王芳"])
    role: str = Field("", max_length=60)
    number: str = Field("", max_length=40)
    read_back: str = Field("", max_length=2000)


class CallBody(BaseModel):
    """An attempt to ring somebody."""

    whom: str = Field("", max_length=20, examples=["doctor"])
    name: str = Field("", max_length=60)
    number: str = Field("", max_length=40)
    result: str = Field("", max_length=20, examples=["no_answer"])
    note: str = Field("", max_length=400)


class ActionBody(BaseModel):
    """What the clinic did."""

    action: str = Field("", max_length=30, examples=["emergency_called"])
    note: str = Field("", max_length=1000)


class ContactBody(BaseModel):
    """Somebody to ring."""

    name: str = Field("", max_length=200)
    role: str = Field("", max_length=200)
    phone: str = Field("", max_length=100)
    days: list[int] = Field(default_factory=list, max_length=7, description="0 Monday … 6; none: every day.")
    begins: str = Field("", max_length=5, examples=["08:00"])
    ends: str = Field("", max_length=5)


class ContactsBody(BaseModel):
    """An organisation's whole list, in order."""

    contacts: list[ContactBody] = Field(max_length=50)


class AdditionBody(BaseModel):
    """A class of the county's own."""

    code: str = Field("", max_length=60)
    name: str = Field("", max_length=200)
    name_en: str = Field("", max_length=200)


class RulesBody(BaseModel):
    """The county's rules."""

    additions: list[AdditionBody] = Field(default_factory=list, max_length=100)
    escalate_minutes: int = 5
    breach_minutes: int = 10
    change_escalate_minutes: int | None = Field(
        None, description="Of a preliminary report's changed conclusion; as it was where it is left out."
    )
    change_breach_minutes: int | None = None


class ClassAnswer(BaseModel):
    """A class that may be flagged."""

    code: str
    name: str
    national: bool


class ClassesAnswer(BaseModel):
    """All classes, the national ones first, and the timers."""

    classes: list[ClassAnswer]
    escalate_minutes: int
    breach_minutes: int
    change_escalate_minutes: int = Field(description="Of a preliminary report's changed conclusion.")
    change_breach_minutes: int


class ContactAnswer(BaseModel):
    """Somebody to ring."""

    name: str
    role: str
    phone: str
    days: list[int]
    begins: str
    ends: str


class ContactsAnswer(BaseModel):
    """An organisation's list, in order."""

    contacts: list[ContactAnswer]


class PhoneAnswer(BaseModel):
    """A number of the call panel."""

    kind: str
    name: str
    role: str
    number: str
    on_duty: bool


class EntryAnswer(BaseModel):
    """A line of the record."""

    at: datetime
    event: str
    state: str
    actor: str
    text: str
    detail: dict[str, Any]


class MessageAnswer(BaseModel):
    """A message to the gateway. Sent says nothing about a person."""

    level: str
    state: str
    attempts: int
    status: int | None
    queued_at: datetime
    sent_at: datetime | None


class CriticalAnswer(BaseModel):
    """A critical value."""

    id: str
    exam_id: str
    accession: str
    clinic: str
    hospital: str
    state: str
    class_code: str
    class_name: str
    national: bool
    finding: str
    discovered_at: datetime
    flagged_at: datetime
    flagged_by: str
    escalate_due: datetime
    breach_due: datetime
    escalated_at: datetime | None
    breached_at: datetime | None
    received_at: datetime | None
    received_by: str
    read_back: str
    way: str = Field(description="page: typed by the receiver himself; phone: written down by the caller.")
    confirmed_at: datetime | None = Field(description="Both sides have signed.")
    confirmed_by: str
    closed_at: datetime | None
    withdrawn_at: datetime | None
    withdraw_reason: str
    page: str


class DetailAnswer(CriticalAnswer):
    """… with its record and numbers."""

    entries: list[EntryAnswer]
    messages: list[MessageAnswer]
    phones: list[PhoneAnswer]


class CriticalsAnswer(BaseModel):
    """Several of them. `now` is the clock by which they are counted."""

    now: datetime
    criticals: list[CriticalAnswer]


def classes_of(rules: Rules) -> ClassesAnswer:
    """Classes and timers, in the reader's language."""
    return ClassesAnswer(
        classes=[
            ClassAnswer(code=known.code, name=class_words(known), national=known.national) for known in rules.classes()
        ],
        escalate_minutes=rules.escalate_minutes,
        breach_minutes=rules.breach_minutes,
        change_escalate_minutes=rules.change_escalate_minutes,
        change_breach_minutes=rules.change_breach_minutes,
    )


def class_words(known: Class) -> str:
    """What a class is called in the reader's language."""
    if known.name_en and current_locale() == "en":
        return known.name_en
    return translate(known.name)


def contact_of(row: CriticalContact) -> ContactAnswer:
    """A contact."""
    return ContactAnswer(name=row.name, role=row.role, phone=row.phone, days=row.days, begins=row.begins, ends=row.ends)


def phone_of(phone: Phone) -> PhoneAnswer:
    """A number."""
    return PhoneAnswer(kind=phone.kind, name=phone.name, role=phone.role, number=phone.number, on_duty=phone.on_duty)


def entry_of(row: CriticalEntry) -> EntryAnswer:
    """A line of the record."""
    return EntryAnswer(
        at=row.at, event=row.event, state=row.state, actor=row.actor_name, text=row.text, detail=row.detail
    )


def message_of(row: CriticalMessage) -> MessageAnswer:
    """A message."""
    return MessageAnswer(
        level=row.level,
        state=row.state,
        attempts=row.attempts,
        status=row.status,
        queued_at=row.queued_at,
        sent_at=row.sent_at,
    )


def critical_of(row: CriticalValue) -> CriticalAnswer:
    """A critical value."""
    return CriticalAnswer(
        id=row.id,
        exam_id=row.exam_id,
        accession=row.exam.accession,
        clinic=row.org.name,
        hospital=row.hospital.name,
        state=row.state,
        class_code=row.class_code,
        class_name=translate(name_of(row.class_code, row.class_name, row.class_name_en)),
        national=row.national,
        finding=row.finding,
        discovered_at=row.discovered_at,
        flagged_at=row.flagged_at,
        flagged_by=row.flagged_by_name,
        escalate_due=row.escalate_due,
        breach_due=row.breach_due,
        escalated_at=row.escalated_at,
        breached_at=row.breached_at,
        received_at=row.received_at,
        received_by=row.received_by_name,
        read_back=row.read_back,
        way=row.way,
        confirmed_at=row.confirmed_at,
        confirmed_by=row.confirmed_by_name,
        closed_at=row.closed_at,
        withdrawn_at=row.withdrawn_at,
        withdraw_reason=row.withdraw_reason,
        page=f"/critical/{row.id}",
    )
