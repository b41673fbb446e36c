"""Whom to ring: a clinic's contacts in their order, the duty officers of hospitals and of the county."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.kit.settings import get_settings
from hub.reports.critical.models import CriticalContact, CriticalValue
from hub.sites.models import Organisation, OrgKind

MOST_CONTACTS = 12
_PHONE = re.compile(r"\+?[0-9][0-9 \-()转,#*]{2,38}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


@dataclass(frozen=True, slots=True)
class Phone:
    """A number that may be rung, and whose it is. `kind`: doctor, clinic, contact, patient, duty, flagger."""

    kind: str
    name: str
    role: str
    number: str
    on_duty: bool = True

    def json(self) -> dict[str, str]:
        """For the record of an escalation."""
        return {"kind": self.kind, "name": self.name, "role": self.role, "phone": self.number}


def may_keep(actor: Actor, org: Organisation) -> bool:
    """Whether `actor` keeps the list of `org`: a clinic its own, administrator and director everybody's."""
    if actor.kind == "person" and actor.has(Role.ADMINISTRATOR, Role.DIRECTOR):
        return True
    return org.kind == OrgKind.CLINIC and org.id == actor.org_id and actor.has(Role.TECHNOLOGIST, Role.CLINICIAN)


def kept_by(session: Session, actor: Actor) -> list[Organisation]:
    """The organisations whose lists the actor keeps, by kind and code."""
    rows = session.scalars(
        select(Organisation).where(Organisation.active).order_by(Organisation.kind, Organisation.code)
    )
    return [org for org in rows if may_keep(actor, org)]


def kept_org(session: Session, actor: Actor, org_id: str) -> Organisation:
    """The organisation, if the actor keeps its list.

    Raises:
        NotFound: There is none, or its list is not the actor's to keep.
    """
    org = session.get(Organisation, org_id)
    if org is None or not may_keep(actor, org):
        raise NotFound(_("没有找到这个机构"))
    return org


def of_org(session: Session, org_id: str) -> list[CriticalContact]:
    """An organisation's contacts in their order."""
    return list(
        session.scalars(
            select(CriticalContact).where(CriticalContact.org_id == org_id).order_by(CriticalContact.position)
        )
    )


def set_contacts(
    session: Session, actor: Actor, org_id: str, given: Sequence[Mapping[str, Any]]
) -> list[CriticalContact]:
    """Write the whole list of an organisation, in order.

    Args:
        session: The transaction.
        actor: Who keeps it.
        org_id: A clinic (contacts), a hospital or the hub (duty officers).
        given: `name`, `role`, `phone`, `days` (0 Monday … 6), `begins` and `ends` (`HH:MM`; empty: at any time).

    Raises:
        NotFound: Not his to keep.
        Invalid: With one message per field (`contacts.0.phone`).
        Forbidden: The last contact of a clinic may not go: its alarm would name nobody.
    """
    org = kept_org(session, actor, org_id)
    session.execute(select(Organisation.id).where(Organisation.id == org.id).with_for_update(key_share=True)).all()
    if len(given) > MOST_CONTACTS:
        raise Invalid(fields={"contacts": _("最多 {n} 项").format(n=MOST_CONTACTS)})
    before = of_org(session, org.id)
    if before and not given and org.kind == OrgKind.CLINIC:
        raise Forbidden(_("至少保留一位联系人"), code="last-contact")
    fields: dict[str, Message | str] = {}
    rows = [_row(place, entry, fields) for place, entry in enumerate(given)]
    if fields:
        raise Invalid(fields=fields)
    session.execute(delete(CriticalContact).where(CriticalContact.org_id == org.id))
    found = [
        CriticalContact(
            id=new_id(),
            org_id=org.id,
            position=place,
            changed_at=clock.now(),
            changed_by_name=actor.name,
            **values,
        )
        for place, values in enumerate(rows, 1)
    ]
    session.add_all(found)
    audit.record(
        session, actor, "critical.contacts", "organisation", org.id, org_id=org.id, before=len(before), now=len(found)
    )
    return found


def _row(place: int, entry: Mapping[str, Any], fields: dict[str, Message | str]) -> dict[str, Any]:
    name, phone = str(entry.get("name", "")).strip(), str(entry.get("phone", "")).strip()
    begins, ends = str(entry.get("begins", "")).strip(), str(entry.get("ends", "")).strip()
    days = sorted({int(day) for day in entry.get("days", [])})
    at = f"contacts.{place}"
    if not name or len(name) > 60:
        fields[f"{at}.name"] = _("请填写姓名")
    if not _PHONE.fullmatch(phone):
        fields[f"{at}.phone"] = _("请填写可以拨打的电话号码")
    if bool(begins) != bool(ends) or (begins and not (_TIME.fullmatch(begins) and _TIME.fullmatch(ends))):
        fields[f"{at}.begins"] = _("时间应写作 08:00,起止都要填写,或都留空")
    elif begins and begins == ends:
        fields[f"{at}.begins"] = _("起止时间不能相同")
    if any(not 0 <= day <= 6 for day in days):
        fields[f"{at}.days"] = _("没有这一天")
    return {
        "name": name,
        "role": str(entry.get("role", "")).strip()[:60],
        "phone": phone,
        "days": [] if len(days) == 7 else days,
        "begins": begins,
        "ends": ends,
    }


def on_duty(contact: CriticalContact, at: datetime, zone: str) -> bool:
    """Whether a contact is there at a moment, by the county's clock. The early hours belong to the evening before."""
    moment = clock.local(at, zone)
    day, time = moment.weekday(), moment.strftime("%H:%M")
    if contact.begins:
        overnight = contact.ends <= contact.begins
        if overnight and time < contact.ends:
            day = (day - 1) % 7
        elif (overnight and time < contact.begins) or (not overnight and not contact.begins <= time < contact.ends):
            return False
    return not contact.days or day in contact.days


def _on(session: Session, org_id: str, at: datetime, kind: str) -> list[Phone]:
    """Who of an organisation is to be rung now, in order; those who are off follow, so that nobody is left out."""
    zone = get_settings().timezone
    phones = [
        Phone(kind, contact.name, contact.role, contact.phone, on_duty(contact, at, zone))
        for contact in of_org(session, org_id)
    ]
    return sorted(phones, key=lambda phone: not phone.on_duty)


def clinic_contacts(session: Session, org_id: str, at: datetime) -> list[Phone]:
    """A clinic's contacts, those on duty first."""
    return _on(session, org_id, at, "contact")


def duty_officers(session: Session, hospital_id: str | None, at: datetime) -> list[Phone]:
    """The duty officers of the reading hospital and then of the county."""
    hubs = session.scalars(
        select(Organisation.id).where(Organisation.kind == OrgKind.HUB).order_by(Organisation.code)
    ).all()
    keepers = [org_id for org_id in dict.fromkeys([hospital_id, *hubs]) if org_id]
    return [phone for org_id in keepers for phone in _on(session, org_id, at, "duty")]


class Alarm(Protocol):
    """What a clinic must answer: a critical value, or a changed conclusion; its clinic, and the hospital that reads."""

    @property
    def org_id(self) -> str: ...

    @property
    def hospital_id(self) -> str | None: ...


def rung_at(session: Session, row: Alarm, level: str, at: datetime) -> list[Phone]:
    """Who is to be rung at a level: `alarm` the first contact, `escalate` the second, `breach` the duty officers."""
    if level == "breach":
        officers = duty_officers(session, row.hospital_id, at)
        return [phone for phone in officers if phone.on_duty] or officers
    people = clinic_contacts(session, row.org_id, at)
    if level == "escalate":
        return people[1:2] or people[:1]
    return people[:1]


def phones_of(session: Session, row: CriticalValue, at: datetime) -> list[Phone]:
    """The call panel: the requesting doctor, the clinic's contacts and its own number, the patient, duty officers."""
    exam = row.exam
    found: list[Phone] = []
    if exam.doctor_phone:
        found.append(Phone("doctor", exam.doctor, exam.department, exam.doctor_phone))
    found += clinic_contacts(session, row.org_id, at)
    if row.org.phone:
        found.append(Phone("clinic", row.org.name, "", row.org.phone))
    if exam.patient.phone:
        found.append(Phone("patient", exam.patient.name, "", exam.patient.phone))
    return [*found, *duty_officers(session, row.hospital_id, at)]
