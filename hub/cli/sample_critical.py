"""The sample county's critical values: whom to ring, and one that went its whole way."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from hub.cli.client import Client
from hub.cli.county import person_name
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.ids import new_id
from hub.reports.critical.models import CriticalContact
from hub.reports.critical.moment import now
from hub.sites.models import Organisation, OrgKind

STORY = "24002"
"""The head CT with a haemorrhage; it still waits for its report."""

FINDING = "左侧基底节区脑出血,约 20 ml,中线轻度移位"
_CLINIC: tuple[tuple[str, str, str], ...] = (
    ("值班医生", "08:00", "18:00"),
    ("夜班医生", "18:00", "08:00"),
    ("院长", "", ""),
)


_DUTY: tuple[tuple[str, str, str], ...] = (("总值班", "", ""),)


def write() -> None:
    """Contacts of every clinic, duty officers of hospitals and county, where there are none."""
    with database().writing() as session:
        if session.scalar(select(CriticalContact.id).limit(1)) is not None:
            return
        rows = session.scalars(select(Organisation).where(Organisation.sample).order_by(Organisation.code))
        for number, org in enumerate(rows):
            if org.kind == OrgKind.CLINIC:
                people = _CLINIC
            elif org.kind in (OrgKind.HOSPITAL, OrgKind.HUB):
                people = _DUTY
            else:
                continue
            for position, (role, begins, ends) in enumerate(people, 1):
                session.add(
                    CriticalContact(
                        id=new_id(),
                        org_id=org.id,
                        position=position,
                        name=person_name(number * 3 + position),
                        role=role,
                        phone=f"1390000{number:02}{position:02}",
                        days=[],
                        begins=begins,
                        ends=ends,
                        changed_at=now(session),
                        changed_by_name=SYSTEM.name,
                    )
                )


def play(client: Callable[[str], Client]) -> None:
    """Flagged before its report, read back, acted on, closed; nothing where there is a critical value already."""
    reader, doctor = client("reader01a"), client("doctor01")
    if reader.get("/api/critical", all=True)["criticals"]:
        return
    found = doctor.get("/api/exams", q=f"P{STORY}")["items"]
    if not found or found[0]["state"] in ("registered", "receiving", "to_verify"):
        return
    body = {"class_code": "cerebral_haemorrhage", "finding": FINDING}
    critical = reader.post(f"/api/exams/{found[0]['id']}/critical", body)
    path = f"/api/critical/{critical['id']}"
    call = {"whom": "doctor", "name": "刘医生", "number": "0790-5501121", "result": "no_answer"}
    reader.post(f"{path}/calls", call)
    doctor.post(f"{path}/read-back", {"text": "李建国,头颅CT,左侧基底节脑出血二十毫升"})
    reader.post(f"{path}/confirm", {})
    doctor.post(f"{path}/actions", {"action": "patient_reached"})
    doctor.post(f"{path}/actions", {"action": "emergency_called", "note": "120 已出发"})
    doctor.post(f"{path}/close", {"text": "已转青溪县人民医院"})
