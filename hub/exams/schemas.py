"""What the JSON API of exams says and hears."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from hub.dicom.identity import mask
from hub.exams.models import Exam, Transition


class PatientOut(BaseModel):
    """A patient; the identity number is masked."""

    id: str
    number: str
    name: str
    pinyin: str
    sex: str
    birth_date: str
    birth_estimated: bool
    identity_number: str
    phone: str


class ClocksOut(BaseModel):
    """When what happened. `exam_at_source`: modality, registration or arrival, where the modality's clock was wrong."""

    registered_at: datetime
    exam_at: datetime | None
    exam_at_source: str
    first_image_at: datetime | None
    received_at: datetime | None
    verify_since: datetime | None
    verified_at: datetime | None
    queued_at: datetime | None
    due_at: datetime | None
    reading_at: datetime | None
    submitted_at: datetime | None
    reviewing_at: datetime | None
    preliminary_at: datetime | None
    signed_at: datetime | None
    returned_at: datetime | None
    seen_at: datetime | None
    ended_at: datetime | None
    late_images_at: datetime | None


class ExamOut(BaseModel):
    """An exam."""

    id: str
    accession: str
    state: str
    version: int
    org_id: str
    org_name: str
    reading_org_id: str | None
    patient: PatientOut
    modality: str
    body_parts: list[str]
    procedure: str
    priority: str
    encounter: str
    encounter_number: str
    bed: str
    department: str
    doctor: str
    doctor_phone: str
    history: str
    pregnancy: str
    stated_age: str
    incomplete: list[str]
    source: str
    identity: str
    identity_notes: list[dict[str, Any]]
    declared_count: int | None
    received_count: int
    positive: bool | None
    critical: bool
    end_reason: str
    clocks: ClocksOut


class ExamPage(BaseModel):
    """A page of exams, newest first."""

    total: int
    page: int
    size: int
    items: list[ExamOut]


class TransitionOut(BaseModel):
    """One change of state."""

    at: datetime
    event: str
    from_state: str
    to_state: str
    actor_name: str
    reason: str


class ReasonIn(BaseModel):
    """Why, in words."""

    model_config = ConfigDict(
        str_strip_whitespace=True, json_schema_extra={"examples": [{"reason": "病人未到,改日检查"}]}
    )

    reason: str = Field("", max_length=400)


class PatientFound(BaseModel):
    """A patient of the clinic that fits what was typed; enough to fill the form."""

    id: str
    number: str
    name: str
    sex: str
    birth_date: str
    birth_estimated: bool
    age: str
    identity_number: str
    phone: str
    last_exam_at: datetime | None = None


def exam_out(exam: Exam, *, own: bool = True) -> ExamOut:
    """An exam for the API; outside its clinic the patient goes by the county's number (see `hub.patients`)."""
    patient = exam.patient
    columns = {
        name: getattr(exam, name)
        for name in ExamOut.model_fields
        if name not in ("patient", "clocks", "org_name") and hasattr(exam, name)
    }
    # Written when the draft goes to review; until the signature it is among readers.
    columns["critical"] = exam.critical and exam.signed_at is not None
    return ExamOut(
        **columns,
        org_name=exam.org.name,
        patient=PatientOut(
            id=patient.id,
            number=patient.number if own else f"{exam.org.issuer}:{patient.number}",
            name=patient.name,
            pinyin=patient.pinyin,
            sex=patient.sex,
            birth_date=patient.birth_date.isoformat() if patient.birth_date else "",
            birth_estimated=patient.birth_estimated,
            identity_number=mask(patient.identity_number),
            phone=patient.phone,
        ),
        clocks=ClocksOut(**{name: getattr(exam, name) for name in ClocksOut.model_fields}),
    )


def transition_out(row: Transition, reason: str) -> TransitionOut:
    """A change of state for the API, with the reason as far as its reader may know it."""
    return TransitionOut(
        at=row.at,
        event=row.event,
        from_state=row.from_state,
        to_state=row.to_state,
        actor_name=row.actor_name,
        reason=reason,
    )
