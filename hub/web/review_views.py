"""What pages show of reviews."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hub.accounts.roles import Permission, Role, permissions_of
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.i18n import Message, _
from hub.reading.words import exam_words
from hub.reports.critical import contacts
from hub.reports.critical.contacts import Phone
from hub.reports.critical.moment import now as moment
from hub.reports.review import alarms, service
from hub.reports.review.models import ConclusionChange
from hub.reports.review.states import CHANGE_NAMES, ChangeState


@dataclass(frozen=True, slots=True)
class OpenChange:
    """A changed conclusion that nobody has acknowledged, as one person sees it at one moment.

    `own` is whether it is his clinic's to acknowledge; `rings` whether he is of the reading side, which rings, and
    `phones` whom now: others are not shown anybody's number. `level` is counted
    from the row and the clock: "", `escalate` (the second contact's turn) or `breach` (the duty officer's).
    """

    change: ConclusionChange
    exam: Exam
    title: str
    own: bool
    level: str
    rings: bool
    phones: list[Phone]
    now: datetime

    @property
    def patient(self) -> str:
        """Whose it is."""
        return self.exam.patient.name

    @property
    def minutes(self) -> int:
        """Since the formal report was signed."""
        return max(0, int((self.now - self.change.opened_at).total_seconds() // 60))

    @property
    def state_name(self) -> Message:
        """What its state is called; that of the level, where no worker has recorded it yet."""
        reached = {"escalate": ChangeState.ESCALATED, "breach": ChangeState.BREACHED}
        return CHANGE_NAMES[reached.get(self.level, ChangeState(self.change.state))]

    @property
    def call(self) -> Message:
        """What is to be done now, to this person."""
        if self.own:
            return _("请查看并署名确认")
        if self.level == "breach":
            return _("超时无人确认,请值班负责人联系卫生院")
        return _("第一联系人没有确认,请打给第二联系人") if self.level else _("等待卫生院署名确认")


def _of(session: Session, actor: Actor, rows: list[ConclusionChange], locale: str) -> list[OpenChange]:
    exams = service.exams_of(session, rows)
    at = moment(session)
    found = []
    for row in rows:
        level = alarms.level_of(row, at)
        rings = service.on_reading_side(actor, row)
        people = contacts.rung_at(session, row, level or "alarm", at) if rings else []
        exam = exams[row.exam_id]
        own = row.org_id == actor.org_id
        found.append(OpenChange(row, exam, exam_words(exam, locale), own, level, rings, people, at))
    order = {"breach": 0, "escalate": 1, "": 2}
    return sorted(found, key=lambda one: (order[one.level], one.change.opened_at))


def conclusion_board(session: Session, actor: Actor, locale: str) -> list[OpenChange]:
    """Changed conclusions that nobody has acknowledged, the most overdue first, for the board."""
    return _of(session, actor, service.changes_for(session, actor, limit=100), locale)


def open_conclusions(actor: Actor, locale: str) -> list[OpenChange]:
    """What stands on each page: a clinic's until it acknowledges, the reading side's from the second contact on."""
    held = permissions_of(actor.roles, actor.scopes)
    clinic = Permission.REPORT_SEE in held
    reading = Permission.CRITICAL_VIEW in held and actor.has(Role.REPORTER, Role.REVIEWER, Role.DIRECTOR)
    if not clinic and not reading:
        return []
    with database().reading() as session:
        rows = service.alarming(session, actor, moment(session))
        return _of(session, actor, rows, locale) if rows else []
