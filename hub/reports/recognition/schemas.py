"""What the JSON API of mutual recognition says and hears."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field

from hub.reports.recognition.models import EvaluatedItem, Recognition
from hub.reports.recognition.service import Shown


class SignedText(BaseModel):
    """A signed version of a report."""

    kind: str
    number: int
    signed_at: datetime | None
    findings: str
    impression: str
    recommendation: str


class RecognisableOut(BaseModel):
    """An exam that may stand for the new one. Recognised are images and data, not the diagnostic conclusion."""

    exam_id: str
    accession: str
    org_name: str
    reading_org_name: str
    modality: str
    body_parts: list[str]
    taken_at: datetime
    mark: str = Field(description="Scope + HR.")
    images: int
    versions: list[SignedText]


class RecognitionOut(BaseModel):
    """An offer, and what became of it. `exams` is empty when its time is over or it was decided to repeat."""

    id: str
    exam_id: str
    state: str
    version: int
    offered_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by_name: str
    chosen_id: str | None
    access_until: datetime | None
    reason: str
    reason_text: str
    exams: list[RecognisableOut]


class OfferAnswer(BaseModel):
    """`recognition` is null where nothing may be recognised."""

    recognition: RecognitionOut | None


class ReuseBody(BaseModel):
    """Which exam is used instead of a new one."""

    exam_id: str = Field(max_length=26)


class RepeatBody(BaseModel):
    """Why images are taken again all the same."""

    model_config = ConfigDict(
        str_strip_whitespace=True, json_schema_extra={"examples": [{"reason": "changed", "text": ""}]}
    )

    reason: str = Field("", max_length=20, description="changed, fast, decisive, emergency, forensic, other.")
    text: str = Field("", max_length=400, description="In words; due for `other`.")


class KindBody(BaseModel):
    """An item of the table of equivalence."""

    code: str = Field(min_length=2, max_length=40, pattern=r"^[a-z0-9_]+$")
    modality: str = Field(max_length=4)
    parts: list[str] = Field(min_length=1, max_length=24)
    days: int = Field(ge=0, le=365)


class RulesBody(BaseModel):
    """The county's rules of mutual recognition."""

    minutes: int
    access_days: int
    marks: dict[str, str]
    kinds: list[KindBody] = Field(max_length=400)


class EvaluationBody(BaseModel):
    """Items of which an organisation passed quality evaluation."""

    model_config = ConfigDict(
        str_strip_whitespace=True,
        json_schema_extra={
            "examples": [
                {
                    "org_id": "01hq3v7m9x2b4c6d8e0f1g2h3j",
                    "items": ["ct_chest"],
                    "scope": "county",
                    "valid_from": "2026-01-01",
                    "evidence": "县影像质控中心 2026-01 号",
                }
            ]
        },
    )

    org_id: str = Field(max_length=26)
    items: list[str] = Field(max_length=200)
    scope: str = Field(max_length=10)
    valid_from: date
    valid_until: date | None = None
    evidence: str = Field("", max_length=200)


class EvaluationOut(BaseModel):
    """One item that an organisation passed."""

    id: str
    org_id: str
    item: str
    scope: str
    evidence: str
    valid_from: date
    valid_until: date | None
    noted_at: datetime
    ended_at: datetime | None


def evaluation_out(row: EvaluatedItem) -> EvaluationOut:
    """An evaluation for the API."""
    return EvaluationOut(**{name: getattr(row, name) for name in EvaluationOut.model_fields})


def recognition_out(row: Recognition, shown: list[Shown], locale: str) -> RecognitionOut:
    """An offer for the API."""
    columns = {name: getattr(row, name) for name in RecognitionOut.model_fields if name != "exams"}
    return RecognitionOut(
        **columns,
        exams=[
            RecognisableOut(
                exam_id=one.exam.id,
                accession=one.exam.accession,
                org_name=one.exam.org.name_en if locale == "en" and one.exam.org.name_en else one.exam.org.name,
                reading_org_name=one.exam.reading_org.name if one.exam.reading_org else "",
                modality=one.exam.modality,
                body_parts=one.exam.body_parts,
                taken_at=one.exam.exam_at or one.exam.registered_at,
                mark=one.mark.text if one.mark else "",
                images=one.exam.received_count,
                versions=[
                    SignedText(**{name: getattr(version, name) for name in SignedText.model_fields})
                    for version in one.versions
                ],
            )
            for one in shown
        ],
    )
