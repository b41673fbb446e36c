"""Exams with known clocks, written straight into the tables: for tests that count, not for those of states."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.orm import Session

from hub.exams import limits
from hub.exams.catalogue import PRIORITY_RANKS
from hub.exams.models import Exam, Transition
from hub.kit import clock
from hub.kit.ids import new_id
from hub.patients.models import CountyPatient, Patient
from support.world import World

STEPS = (
    ("first_image_at", "images_arrive", "receiving"),
    ("received_at", "complete", "to_read"),
    ("reading_at", "claim", "reading"),
    ("submitted_at", "submit", "to_review"),
    ("reviewing_at", "claim_review", "reviewing"),
    ("signed_at", "sign", "signed"),
    ("returned_at", "return", "returned"),
    ("seen_at", "see", "seen"),
)
"""Clock, event and state of the straight way."""

NAME = "赵机密"
"""Name of every patient here: it may appear on no page and in no export of turnaround."""


def a_patient(session: Session, world: World, clinic: str = "C01") -> Patient:
    """A patient of a clinic."""
    county = CountyPatient(number=new_id(), created_at=clock.now())
    session.add(county)
    session.flush()
    patient = Patient(
        org_id=world.orgs[clinic].id,
        county_patient_id=county.id,
        number=new_id()[:12],
        name=NAME,
        sex="M",
        created_at=clock.now(),
    )
    session.add(patient)
    session.flush()
    return patient


def add_exam(
    session: Session,
    world: World,
    patient: Patient,
    start: datetime,
    *,
    clinic: str = "C01",
    hospital: str | None = "H01",
    author: str | None = "reporter",
    reviewer: str | None = "reviewer",
    state: str = "",
    minutes: dict[str, float | None] | None = None,
    due: float | None = None,
    **columns: Any,
) -> Exam:
    """An exam registered at `start`, whose clocks stand `minutes` after it.

    The straight way's transitions are written up to the last of its clocks, and its state is that of the last one.
    `exam_at` is 0 minutes where it is not named; `due` minutes after `start`, or by the limits where it is not given.
    """
    clocks = {"exam_at": 0.0, **(minutes or {})}
    stamped = {name: start + timedelta(minutes=after) for name, after in clocks.items() if after is not None}
    reached = [step for step in STEPS if step[0] in stamped]
    columns = {"modality": "DX", "body_parts": ["chest"], "priority": "routine", **columns}
    exam = Exam(
        accession=columns.pop("accession", f"A{new_id()[-15:]}"),
        org_id=world.orgs[clinic].id,
        reading_org_id=world.orgs[hospital].id if hospital else None,
        patient_id=patient.id,
        state=state or (reached[-1][2] if reached else "registered"),
        priority_rank=PRIORITY_RANKS[columns["priority"]],
        exam_at_source=columns.pop("exam_at_source", "modality"),
        registered_at=start,
        author_id=world.people[author].id if author and "reading_at" in stamped else None,
        reviewer_id=world.people[reviewer].id if reviewer and "signed_at" in stamped else None,
        **stamped,
        **columns,
    )
    if "received_at" in stamped:
        exam.queued_at = exam.queued_at or stamped["received_at"]
        exam.due_at = start + timedelta(minutes=due) if due is not None else limits.due_at(session, exam)
    session.add(exam)
    session.flush()
    before = "registered"
    for name, event, after_state in reached:
        add_transition(session, exam, stamped[name], event, before, after_state)
        before = after_state
    return exam


def add_transition(
    session: Session, exam: Exam, at: datetime, event: str, before: str, after: str, **more: Any
) -> None:
    """One entry of an exam's log."""
    session.add(
        Transition(exam_id=exam.id, at=at, event=event, from_state=before, to_state=after, actor_id="test", **more)
    )
    session.flush()


def populate(session: Session, world: World, *, exams: int, days: int, seed: int = 1) -> list[Exam]:
    """A believable county: exams of the last `days`, some of the last hours still under way, some late."""
    dice = random.Random(seed)
    now = clock.now().replace(microsecond=0)
    clinics = [code for code, org in world.orgs.items() if org.kind == "clinic"]
    hospitals = [code for code, org in world.orgs.items() if org.kind == "hospital"]
    people: dict[str, list[str]] = {code: [] for code in hospitals}
    for login, person in world.people.items():
        for code in hospitals:
            if person.org_id == world.orgs[code].id:
                people[code].append(login)
    patients = {code: a_patient(session, world, code) for code in clinics}
    made = []
    for _number in range(exams):
        clinic = dice.choice(clinics)
        home = hospitals[clinics.index(clinic) % len(hospitals)]
        hospital = home if dice.random() < 0.85 else dice.choice(hospitals)
        start = now - timedelta(days=dice.random() ** 1.1 * days, minutes=dice.random() * 90)
        priority = dice.choices(["emergency", "urgent", "routine"], [18, 10, 72])[0]
        speed = {"emergency": 0.35, "urgent": 0.7, "routine": 1.0}[priority] * (1 + clinics.index(clinic) % 5 / 4)
        minutes: dict[str, float | None] = {}
        at = 0.0
        for name, typical in (
            ("first_image_at", 4),
            ("received_at", 6),
            ("reading_at", 28),
            ("submitted_at", 11),
            ("reviewing_at", 14),
            ("signed_at", 5),
            ("returned_at", 0.4),
            ("seen_at", 35),
        ):
            at += dice.lognormvariate(0, 0.75) * typical * speed
            if start + timedelta(minutes=at) > now:
                break
            minutes[name] = at
        doctors = people[hospital] or [None]
        made.append(
            add_exam(
                session,
                world,
                patients[clinic],
                start,
                clinic=clinic,
                hospital=hospital if dice.random() < 0.97 else None,
                author=dice.choice(doctors),
                reviewer=doctors[-1],
                minutes=minutes,
                modality=dice.choices(["DX", "CT"], [60, 40])[0],
                body_parts=[dice.choice(["head", "chest", "abdomen", "hand"])],
                priority=priority,
                encounter=dice.choices(["outpatient", "emergency", "inpatient"], [70, 15, 15])[0],
                exam_at_source=dice.choices(["modality", "registration", "arrival"], [94, 3, 3])[0],
            )
        )
    return made
