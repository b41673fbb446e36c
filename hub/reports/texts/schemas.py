"""What the writing API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from hub.reports.policy import MAX_TEXT


class LinkBody(BaseModel):
    """Link a piece of the draft's text with a place in the exam's images."""

    lease: str = ""
    kind: str = Field("measurement", max_length=20, examples=["measurement", "image"])
    label: str = Field(
        max_length=200, description="The piece of the text, as it stands there.", examples=["长径 12.4 mm"]
    )
    study: str = Field(max_length=64)
    series: str = Field("", max_length=64)
    sop: str = Field("", max_length=64)
    frame: int | None = Field(None, ge=1)
    annotation: dict[str, Any] | None = Field(None, description="The viewer's own record, drawn again from it.")


class ConfirmBody(BaseModel):
    """Copied sentences that hold for this exam."""

    lease: str = ""
    ids: list[str] = Field(max_length=400)


class EntryAnswer(BaseModel):
    """A text of the report that was kept."""

    id: str
    at: datetime
    person: str
    mine: bool
    event: str
    version: int | None
    current: bool
    body: dict[str, Any]


class HistoryAnswer(BaseModel):
    """All texts of a report, newest first."""

    texts: list[EntryAnswer]


class Texts(BaseModel):
    """The texts of a report."""

    technique: str = Field("", max_length=MAX_TEXT)
    comparison: str = Field("", max_length=MAX_TEXT)
    findings: str = Field("", max_length=MAX_TEXT)
    impression: str = Field("", max_length=MAX_TEXT)
    recommendation: str = Field("", max_length=MAX_TEXT)


class DifferenceBody(BaseModel):
    """Two texts to compare."""

    before: Texts
    after: Texts


class SegmentAnswer(BaseModel):
    """A piece: `same`, or `change` with what was struck out and what was put in."""

    kind: Literal["same", "change"]
    before: str
    after: str


class DifferenceAnswer(BaseModel):
    """By field; fields that both leave empty are left out."""

    fields: dict[str, list[SegmentAnswer]]


class PhraseBody(BaseModel):
    """An abbreviation and what it stands for; without a code, the initials of the text's pinyin."""

    scope: Literal["own", "hospital", "county"] = "own"
    code: str = Field("", max_length=20, examples=["wjyc"])
    modality: str = Field("", max_length=4)
    text: str = Field(max_length=4000, examples=["未见明显异常。"])


class PhraseAnswer(BaseModel):
    """A phrase."""

    id: str
    scope: Literal["own", "hospital", "county"]
    code: str
    modality: str
    text: str


class PhrasesAnswer(BaseModel):
    """Phrases: one's own before the hospital's before the county's."""

    phrases: list[PhraseAnswer]


class ImportAnswer(BaseModel):
    """What an import did, or would do."""

    applied: bool
    added: int
    changed: int
    same: int
