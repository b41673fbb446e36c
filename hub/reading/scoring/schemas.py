"""What the JSON API of image scores says and hears."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from hub.reading.scoring.models import ImageScore


class Example(BaseModel):
    """An image that shows what is meant."""

    instance_id: str = Field("", max_length=26)
    sop_uid: str = Field("", max_length=64, description="Instead of `instance_id`: SOP Instance UID.")
    note: str = Field("", max_length=100)


class ScoreBody(BaseModel):
    """A judgement of an exam's images."""

    model_config = ConfigDict(
        str_strip_whitespace=True,
        json_schema_extra={"examples": [{"grade": "B", "reasons": ["position"], "artefact": "none", "number": 0}]},
    )

    grade: str = Field("", max_length=6, description="A, B, C or reject.")
    reasons: list[str] = Field(default_factory=list, max_length=24)
    artefact: str = Field("none", max_length=4, description="none, some or bad.")
    examples: list[Example] = Field(default_factory=list, max_length=24)
    note: str = Field("", max_length=400, description="A word to the clinic.")
    number: int | None = Field(None, description="Of the judgement that was shown; 0: there was none.")


class ScoreOut(BaseModel):
    """One judgement. Who made it is told to readers and overseers only."""

    number: int
    grade: str
    reasons: list[str]
    artefact: str
    examples: list[Example]
    note: str
    at: datetime
    source: str
    person_name: str
    replaced_at: datetime | None


class ScoresOut(BaseModel):
    """All judgements of an exam, the newest first; `current` stands."""

    current: ScoreOut | None
    history: list[ScoreOut]
    retake_suggested: bool = Field(description="The images were judged as waste: send them back.")


def score_out(row: ImageScore, *, named: bool) -> ScoreOut:
    """A judgement for the API."""
    values = {name: getattr(row, name) for name in ScoreOut.model_fields if name not in ("person_name", "examples")}
    return ScoreOut(
        **values,
        examples=[Example(**one) for one in row.examples],
        person_name=row.person_name if named else "",
    )
