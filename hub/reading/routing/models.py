"""Tables of routing: the plan's versions, the rota, skills, where each exam went and why, and alerts of limits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from hub.kit.db import Base, Id, id_default


class RoutingPlan(Base):
    """One version of the county's routing rules; the highest number is in force, the others stay readable.

    `body` is what hub.reading.routing.plan.parse reads.
    """

    __tablename__ = "routing_plan"

    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    body: Mapped[dict[str, Any]]
    note: Mapped[str] = mapped_column(String(200), default="")
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(26))
    changed_by_name: Mapped[str] = mapped_column(String(60), default="")


class RotaShift(Base):
    """Somebody is on duty for a hospital from `starts_at` until before `ends_at`.

    `role` is what he does: `read`, `review` or `all`. `skills` (hub.reading.routing.skills), where stated, count
    instead of the person's own while the shift lasts.
    """

    __tablename__ = "rota_shift"
    __table_args__ = (
        Index("ix_rota_shift_times", "ends_at", "starts_at"),
        Index("ix_rota_shift_hospital", "hospital_id", "ends_at"),
        Index("ix_rota_shift_person", "person_id", "ends_at"),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    hospital_id: Mapped[str] = mapped_column(ForeignKey("organisation.id"))
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"))
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    role: Mapped[str] = mapped_column(String(10), default="all")
    skills: Mapped[list[str]] = mapped_column(default=list)
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(26))


class ReadingSkill(Base):
    """What a person has declared that he reads; who has no row reads everything."""

    __tablename__ = "reading_skill"

    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), primary_key=True)
    skills: Mapped[list[str]]
    changed_at: Mapped[datetime]
    changed_by: Mapped[str] = mapped_column(String(26))


class ExamRoute(Base):
    """Where an exam was routed and why.

    `hospital_id`: None is the shared pool. `rule`: key of the rule, or `emergency`, `agreement`, `pool`, `balance`,
    `hand`, `retake_asked`. `asked` is the state of the exam that was decided about: asked again for the same, nothing
    is done. `tried`: codes of hospitals that did not answer. `answer_by`: when the next one is asked; None: no timer,
    or somebody took it. `taken_by`: the hospital of who claimed it last. `kept_by`: the hospital that has a draft of
    its report; such an exam is moved by nobody.
    """

    __tablename__ = "exam_route"
    __table_args__ = (
        Index("ix_exam_route_share", "rule", "decided_at"),
        Index("ix_exam_route_decided", "decided_at", "hospital_id"),
        Index("ix_exam_route_answer", "answer_by"),
        Index("ix_exam_route_taken", "taken_at"),
    )

    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), primary_key=True)
    hospital_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    rule: Mapped[str] = mapped_column(String(40), default="")
    plan: Mapped[int] = mapped_column(Integer, default=0)
    why: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    asked: Mapped[str] = mapped_column(String(200), default="")
    tried: Mapped[list[str]] = mapped_column(default=list)
    offered: Mapped[list[str]] = mapped_column(default=list)
    decided_at: Mapped[datetime | None]
    answer_by: Mapped[datetime | None]
    taken_by: Mapped[str | None] = mapped_column(String(26))
    taken_at: Mapped[datetime | None]
    kept_by: Mapped[str | None] = mapped_column(String(26))


_RAISED = text("state = 'raised'")


class LimitAlert(Base):
    """A share of an exam's limit that is used up at `at`, or an exam that nobody answered.

    `limit_key` is the class of the limit (hub.exams.limits), or `unanswered`; `level` 50, 80 or 100 percent (0 for
    `unanswered`). States: `waiting` (for its time), `raised`, `passed` (a higher level was raised with it), `closed`
    (acknowledged by both sides, or the exam is done). `due_at` is the exam's when `at` was counted. `hospital_id` and
    `holder_id` are whose it was when it was raised.
    """

    __tablename__ = "limit_alert"
    __table_args__ = (
        UniqueConstraint("exam_id", "limit_key", "level"),
        Index("ix_limit_alert_due", "state", "at"),
        Index("ix_limit_alert_raised", "exam_id", sqlite_where=_RAISED, postgresql_where=_RAISED),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"))
    limit_key: Mapped[str] = mapped_column(String(20))
    level: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(10))
    raised_at: Mapped[datetime | None]
    hospital_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    holder_id: Mapped[str | None] = mapped_column(String(26))
    hospital_seen_at: Mapped[datetime | None]
    hospital_seen_by: Mapped[str] = mapped_column(String(26), default="")
    county_seen_at: Mapped[datetime | None]
    county_seen_by: Mapped[str] = mapped_column(String(26), default="")
