"""What the JSON API of the county patient index says and hears."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import BaseModel, ConfigDict, Field

from hub.dicom.identity import mask
from hub.patients import links
from hub.patients.models import Patient, PatientPair


class PatientSide(BaseModel):
    """One side of a pair; the identity number is masked."""

    id: str
    org_id: str
    county_patient_id: str
    number: str
    name: str
    sex: str
    birth_date: str
    birth_estimated: bool
    identity_number: str


class PairOut(BaseModel):
    """Two patients and what the county holds of them."""

    id: str
    state: str
    basis: str
    version: int
    reason: str
    changed_at: datetime
    changed_by_name: str
    one: PatientSide
    two: PatientSide
    differences: list[str] = Field(description="Of name, sex, birth_date, identity_number.")


class PairsOut(BaseModel):
    """A page of pairs, the newest first."""

    total: int
    page: int
    items: list[PairOut]


class Decision(BaseModel):
    """What a person decides of a pair, and why."""

    model_config = ConfigDict(
        str_strip_whitespace=True,
        json_schema_extra={"examples": [{"reason": "电话核实,身份证原件一致", "version": 2}]},
    )

    reason: str = Field("", max_length=400)
    version: int | None = Field(None, description="Of the pair, as it was shown.")


class Undoing(Decision):
    """Undoing a link; `with_one` where others link the two as well."""

    with_one: list[str] | None = Field(
        None, max_length=100, description="Who else of the group is the same human being as the first."
    )


class NewPair(BaseModel):
    """Two patients about whom nobody asked."""

    one_id: str = Field(max_length=26)
    two_id: str = Field(max_length=26)


class CorrectionIn(BaseModel):
    """What was typed wrong. What is left out stays; an empty identity number takes the wrong one away."""

    model_config = ConfigDict(
        str_strip_whitespace=True,
        json_schema_extra={"examples": [{"name": "王伟", "reason": "身份证原件为王伟"}]},
    )

    name: str | None = Field(None, max_length=60)
    sex: str | None = Field(None, max_length=1)
    birth_date: date | None = None
    identity_number: str | None = Field(None, max_length=40)
    reason: str = Field("", max_length=400)


def side_of(patient: Patient) -> PatientSide:
    """A patient for the API."""
    return PatientSide(
        id=patient.id,
        org_id=patient.org_id,
        county_patient_id=patient.county_patient_id,
        number=patient.number,
        name=patient.name,
        sex=patient.sex,
        birth_date=patient.birth_date.isoformat() if patient.birth_date else "",
        birth_estimated=patient.birth_estimated,
        identity_number=mask(patient.identity_number),
    )


def pair_out(pair: PatientPair, one: Patient, two: Patient) -> PairOut:
    """A pair for the API."""
    return PairOut(
        id=pair.id,
        state=pair.state,
        basis=pair.basis,
        version=pair.version,
        reason=pair.reason,
        changed_at=pair.changed_at,
        changed_by_name=pair.changed_by_name,
        one=side_of(one),
        two=side_of(two),
        differences=links.differences(one, two),
    )
