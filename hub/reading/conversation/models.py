"""Tables of what readers and clinics say to each other about an exam."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default

_UNREAD = text("read_at IS NULL")
_OPEN = text("state = 'open'")


class ThreadEntry(Base):
    """One line of an exam's thread. Written once; only its receipt (`read_*`) is added, and only once.

    `kind` is of hub.reading.conversation.words.KINDS: "message" from a person, the others from what he did. `side` is
    who speaks ("clinic" or "reader"). `audience` is "all", or "readers": a note among the readers of the hospital
    `org_id`, which never leaves it. `data` holds codes and identifiers (reasons, the retake's exam), no words.
    """

    __tablename__ = "thread_entry"
    __table_args__ = (
        Index("ix_thread_entry_exam", "exam_id", "id"),
        Index("ix_thread_entry_unread", "side", "exam_id", sqlite_where=_UNREAD, postgresql_where=_UNREAD),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(20), default="message")
    side: Mapped[str] = mapped_column(String(10))
    audience: Mapped[str] = mapped_column(String(10), default="all")
    org_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    person_id: Mapped[str] = mapped_column(String(26), default="")
    person_name: Mapped[str] = mapped_column(String(100), default="")
    text: Mapped[str] = mapped_column(Text, default="")
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    read_at: Mapped[datetime | None]
    read_by: Mapped[str] = mapped_column(String(26), default="")
    read_by_name: Mapped[str] = mapped_column(String(100), default="")


class ThreadPicture(Base):
    """A picture that belongs to a line of the thread: marked by a reader, or a photograph from the clinic.

    Its bytes lie in the object store before the row is there; `entry_id` is empty until the line is sent.
    """

    __tablename__ = "thread_picture"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    entry_id: Mapped[str | None] = mapped_column(ForeignKey("thread_entry.id"), index=True)
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    object_key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    content_type: Mapped[str] = mapped_column(String(40))
    width: Mapped[int]
    height: Mapped[int]
    caption: Mapped[str] = mapped_column(String(100), default="")
    sop_uid: Mapped[str] = mapped_column(String(64), default="")
    frame: Mapped[int | None]


class RetakeRequest(Base):
    """One return of an exam for new images. States and who moves them: hub.reading.conversation.retakes.

    `reasons` are codes of the county's list; `from_state` is where the exam was when it was returned, and where it goes
    back to if the clinic cannot take the images again (`answer_reason`, `answer_note`). `retake_id` is the new exam.
    """

    __tablename__ = "retake_request"
    __table_args__ = (
        Index("ix_retake_request_exam", "exam_id", "id"),
        Index("ix_retake_request_at", "at"),
        # One open request of an exam, whatever happens at once.
        Index(
            "ix_retake_request_open", "exam_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
        ),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    person_name: Mapped[str] = mapped_column(String(100), default="")
    from_state: Mapped[str] = mapped_column(String(20))
    reasons: Mapped[list[str]] = mapped_column(default=list)
    note: Mapped[str] = mapped_column(Text, default="")
    state: Mapped[str] = mapped_column(String(12), default="open")
    answered_at: Mapped[datetime | None]
    answered_by: Mapped[str] = mapped_column(String(26), default="")
    answered_name: Mapped[str] = mapped_column(String(100), default="")
    answer_reason: Mapped[str] = mapped_column(String(40), default="")
    answer_note: Mapped[str] = mapped_column(Text, default="")
    retake_id: Mapped[str | None] = mapped_column(ForeignKey("exam.id"), index=True)
