"""What the conversation's API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from hub.exams.states import State
from hub.reading.conversation.models import ThreadPicture
from hub.reading.conversation.thread import Line


class MessageBody(BaseModel):
    """A message to the other side, or a note among readers."""

    text: str = Field("", examples=["请问患者右侧是否做过手术?"])
    note: bool = Field(False, description="For the readers of the hospital alone.")
    pictures: list[str] = Field([], description="Ids of pictures that were put in before.")
    key: str = Field("", max_length=64, description="Made by the caller; the same message sent again is said once.")


class AskHistoryBody(BaseModel):
    """A question about the history."""

    lease: str
    reason: str = Field(examples=["请补充外伤史及症状侧别"])


class AnswerHistoryBody(BaseModel):
    """The clinic's answer to a question about the history."""

    text: str = Field("", examples=["患者三天前骑车摔倒,右肩着地"])
    pictures: list[str] = []


class AskRetakeBody(BaseModel):
    """Why an exam goes back for new images."""

    lease: str
    reasons: list[str] = Field([], examples=[["motion"]], description="Codes of the county's list.")
    reason: str = Field("", examples=["右肺下野呼吸伪影,请嘱患者屏气"])
    pictures: list[str] = Field([], description="Ids of marked pictures that were put in before.")


class DeclineRetakeBody(BaseModel):
    """Why the images cannot be taken again."""

    reason: str = Field(examples=["patient_left"])
    note: str = ""


class VoidBody(BaseModel):
    """Why an exam is void."""

    reason: str = Field(examples=["影像属于另一位患者"])


class ExamState(BaseModel):
    """The exam's state after an act."""

    exam_id: str
    state: State


class RetakeAnswer(BaseModel):
    """The retake's exam."""

    exam_id: str
    accession: str
    retake_of: str


class PictureAnswer(BaseModel):
    """A picture of the thread."""

    id: str
    caption: str
    width: int
    height: int
    url: str


class LineAnswer(BaseModel):
    """A line of the thread. `side`: clinic, reader, or hub for what nobody says."""

    id: str
    at: datetime
    kind: str
    side: str
    note: bool
    person: str
    org: str
    text: str
    data: dict[str, Any]
    pictures: list[PictureAnswer]
    own: bool
    read_at: datetime | None
    read_by: str


class ThreadAnswer(BaseModel):
    """The thread of an exam."""

    exam_id: str
    lines: list[LineAnswer]
    unread: int
    may_write: bool
    may_note: bool


class ReadAnswer(BaseModel):
    """How many lines had not been read before."""

    read: int


class SettingsBody(BaseModel):
    """The county's lists, see hub.reading.conversation.words."""

    retake: list[dict[str, Any]] | None = None
    decline: list[dict[str, Any]] | None = None
    questions: list[str] | None = None
    keep_minutes: int = 15
    keep_minutes_emergency: int = 3


def picture_of(exam_id: str, row: ThreadPicture) -> PictureAnswer:
    """A picture by its row."""
    return PictureAnswer(
        id=row.id, caption=row.caption, width=row.width, height=row.height, url=picture_url(exam_id, row.id)
    )


def picture_url(exam_id: str, picture_id: str) -> str:
    """Where a picture's bytes are."""
    return f"/api/exams/{exam_id}/thread/pictures/{picture_id}"


def line_of(exam_id: str, line: Line) -> LineAnswer:
    """A line for the API."""
    return LineAnswer(
        id=line.id,
        at=line.at,
        kind=line.kind,
        side=line.side,
        note=line.note,
        person=line.person,
        org=line.org,
        text=line.text,
        data={key: value for key, value in line.data.items() if key != "key"},
        pictures=[
            PictureAnswer(
                id=one.id,
                caption=one.caption,
                width=one.width,
                height=one.height,
                url=picture_url(exam_id, one.id),
            )
            for one in line.pictures
        ],
        own=line.own,
        read_at=line.read_at,
        read_by=line.read_by,
    )
