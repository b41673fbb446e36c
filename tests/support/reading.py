"""Exams that wait to be read, and people who read them, for the tests of reading, reports and delivery."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_id, new_uid
from hub.patients.models import CountyPatient, Patient
from hub.reports.signing import signer
from hub.studies.models import ExamStudy, Instance, Series, Study
from support.world import World

PIN = "258036"
TEXT = {
    "technique": "头颅CT平扫。",
    "findings": "右侧基底节区见团块状高密度影,大小约3.2cm×2.5cm。",
    "impression": "右侧基底节区脑出血。",
    "positive": True,
    "critical": True,
}
_numbers = itertools.count(1)


def cheap_keys(monkeypatch: Any) -> None:
    """Sealing a key costs a tenth of a second by design; tests do not need that."""
    monkeypatch.setattr(signer.KdfCost, "__init__", _cheap)


def _cheap(self: Any, passes: int = 1, memory_kib: int = 64, lanes: int = 1) -> None:
    del passes, memory_kib, lanes
    for name, value in (("passes", 1), ("memory_kib", 64), ("lanes", 1)):
        object.__setattr__(self, name, value)


def make_patient(session: Session, world: World, *, org: str = "C01", name: str = "王伟", **more: Any) -> Patient:
    """A patient of a clinic."""
    from hub.patients.service import search_keys

    number = next(_numbers)
    now = clock.now()
    county = more.pop("county", None)
    if county is None:
        county = CountyPatient(id=new_id(), number=f"360731{90_000_000 + number}", created_at=now)
        session.add(county)
        session.flush()
    pinyin, initials = search_keys(name)
    patient = Patient(
        id=new_id(),
        org_id=world.orgs[org].id,
        county_patient_id=county.id,
        number=f"P{number:06d}",
        name=name,
        pinyin=pinyin,
        initials=initials,
        sex="M",
        birth_date=date(1970, 5, 4),
        created_at=now,
        **more,
    )
    session.add(patient)
    session.flush()
    return patient


def make_exam(
    world: World,
    *,
    state: State = State.TO_READ,
    org: str = "C01",
    reading: str | None = "H01",
    patient: Patient | None = None,
    name: str = "王伟",
    priority: str = "routine",
    due_minutes: float | None = 60,
    waited_minutes: float = 10,
    with_study: bool = True,
    **more: Any,
) -> str:
    """An exam in a state, as if it had come there; returns its id."""
    now = clock.now()
    number = next(_numbers)
    with database().writing() as session:
        patient = session.merge(patient) if patient is not None else make_patient(session, world, org=org, name=name)
        values: dict[str, Any] = {
            "id": new_id(),
            "accession": f"A{number:08d}",
            "org_id": world.orgs[org].id,
            "reading_org_id": world.orgs[reading].id if reading else None,
            "patient_id": patient.id,
            "state": state.value,
            "modality": "CT",
            "body_parts": ["head"],
            "priority": priority,
            "priority_rank": {"emergency": 0, "urgent": 1, "routine": 2}[priority],
            "history": "突发左侧肢体无力2小时",
            "doctor": "李建国",
            "doctor_phone": "13807970000",
            "department": "急诊科",
            "registered_at": now - timedelta(minutes=waited_minutes + 5),
            "exam_at": now - timedelta(minutes=waited_minutes + 2),
            "received_at": now - timedelta(minutes=waited_minutes),
            "queued_at": now - timedelta(minutes=waited_minutes),
            "due_at": now + timedelta(minutes=due_minutes) if due_minutes is not None else None,
            "incomplete": [],
            "identity_notes": [],
        }
        exam = Exam(**{**values, **more})
        session.add(exam)
        session.flush()
        if with_study:
            study = Study(
                id=new_id(),
                uid=new_uid(),
                org_id=exam.org_id,
                patient_id=patient.id,
                study_date="20260302",
                study_time="094100",
                created_at=now,
                last_instance_at=now,
                modalities=["CT"],
                header_patient={},
                notes=[],
                summary={},
            )
            series = Series(id=new_id(), study_id=study.id, uid=new_uid(), modality="CT", number=1, created_at=now)
            session.add(study)
            session.flush()
            session.add(series)
            session.add(ExamStudy(exam_id=exam.id, study_id=study.id, linked_at=now, linked_by="test"))
            session.flush()
            session.add(
                Instance(
                    id=new_id(),
                    uid=new_uid(),
                    series_id=series.id,
                    study_id=study.id,
                    org_id=exam.org_id,
                    sop_class="1.2.840.10008.5.1.4.1.1.2",
                    transfer_syntax="1.2.840.10008.1.2.1",
                    number=1,
                    object_key="instances/000/0",
                    size=1,
                    file_sha256="0" * 64,
                    notes=[],
                    created_at=now,
                )
            )
        return exam.id


def state_of(exam_id: str) -> str:
    """The exam's state in the database."""
    with database().reading() as session:
        return session.get_one(Exam, exam_id).state


def ok(response: Any, status: int = 200) -> Any:
    """The JSON of an answer that must have succeeded."""
    assert response.status_code == status, f"{response.status_code} {response.text[:600]}"
    return response.json() if response.content else None


def claim(client: TestClient, exam_id: str) -> str:
    """Claim an exam; returns the lease."""
    return str(ok(client.post(f"/api/exams/{exam_id}/claim"))["lease"])


def write(client: TestClient, exam_id: str, lease: str, revision: int = 0, **changes: Any) -> Any:
    """Save a whole report."""
    body = {"lease": lease, "revision": revision, **TEXT, **changes}
    return ok(client.put(f"/api/exams/{exam_id}/report", json=body))


def open_key(client: TestClient, pin: str = PIN) -> None:
    """Issue a certificate where there is none, and open it."""
    if not [i for i in ok(client.get("/api/signing"))["identities"] if i["revoked_at"] is None]:
        ok(client.post("/api/signing/identities", json={"pin": pin}), 201)
    ok(client.post("/api/signing/unlock", json={"pin": pin}))


def submitted(world: World, **more: Any) -> tuple[str, Any]:
    """An exam whose report waits for review; returns its id and the version."""
    exam_id = make_exam(world, **more)
    author = world.client("reporter")
    lease = claim(author, exam_id)
    version = write(author, exam_id, lease)
    return exam_id, ok(
        author.post(f"/api/exams/{exam_id}/submit", json={"lease": lease, "revision": version["revision"]})
    )


def sign(client: TestClient, version: Any, lease: str) -> Any:
    """The answer to a request to sign what `version` shows."""
    body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
    return client.post(f"/api/reports/{version['version_id']}/sign", json=body)


def signed(world: World, **more: Any) -> tuple[str, Any]:
    """An exam with a signed report; returns its id and the version."""
    exam_id, version = submitted(world, **more)
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    return exam_id, ok(reviewer.get(f"/api/reports/{version['version_id']}"))
