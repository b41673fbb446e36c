"""What pages show of a critical value, and to whom it is what: the alarm of a clinic, the worry of a reader."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission, Role, permissions_of
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.i18n import Message, _
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports.critical import contacts, repository
from hub.reports.critical.classes import name_of
from hub.reports.critical.models import CriticalValue
from hub.reports.critical.moment import now as moment
from hub.reports.critical.states import OPEN, UNANSWERED, CriticalState

TONES: dict[str, str] = {
    "alarmed": "red",
    "escalated": "red",
    "breached": "red",
    "received": "amber",
    "notified": "green",
    "acting": "blue",
    "closed": "grey",
    "withdrawn": "grey",
}

CLINIC, READING, WATCHING = "clinic", "reading", "watching"


@dataclass(frozen=True, slots=True)
class Item:
    """One critical value as one person sees it at one moment.

    `level` is counted from the row and the clock, so that a page says that it is late also while no worker is alive:
    "" (nobody late), "escalate" (the second contact's turn) or "breach" (over the limit).
    """

    row: CriticalValue
    side: str
    now: datetime
    patient: str
    person: str
    exam: str
    name: Message | str

    @property
    def unanswered(self) -> bool:
        """Whether nobody of the clinic has received it."""
        return self.row.state in UNANSWERED

    @property
    def open(self) -> bool:
        """Whether somebody still has something to do."""
        return self.row.state in OPEN

    @property
    def level(self) -> str:
        """How late it is."""
        if self.row.confirmed_at is not None or not self.open:
            return ""
        if self.now >= self.row.breach_due:
            return "breach"
        return "escalate" if self.unanswered and self.now >= self.row.escalate_due else ""

    @property
    def rings(self) -> bool:
        """Whether this person's page sounds: the clinic until it answers, the reader when he is waited for."""
        state = self.row.state
        if self.side == CLINIC:
            return self.unanswered
        if self.side == READING:
            return state == CriticalState.RECEIVED or self.level != ""
        return False

    @property
    def waits_for_me(self) -> bool:
        """Whether the next step is this person's."""
        if self.side == CLINIC:
            return self.row.state != CriticalState.RECEIVED
        return self.side == READING and (self.unanswered or self.row.state == CriticalState.RECEIVED)

    @property
    def call(self) -> Message:
        """What is to be done now, to this person."""
        state = self.row.state
        if state == CriticalState.WITHDRAWN:
            return _("阅片医院已撤销这条危急值")
        if self.unanswered:
            return _("请立即接收并复述") if self.side == CLINIC else _("卫生院尚未接收,请打电话")
        if state == CriticalState.RECEIVED:
            return _("等待阅片医师核对复述") if self.side == CLINIC else _("卫生院已复述,请核对")
        if self.row.acted_at is None:
            return _("请找到患者并记录处置") if self.side == CLINIC else _("等待卫生院记录处置")
        return _("处置完成后请关闭") if self.side == CLINIC else _("卫生院处置中")

    @property
    def seconds(self) -> int:
        """Since its discovery; until both sides had signed, where they have."""
        return max(0, int(((self.row.confirmed_at or self.now) - self.row.discovered_at).total_seconds()))

    @property
    def escalate_in(self) -> int:
        """Seconds until the second contact's turn; negative when it has passed."""
        return int((self.row.escalate_due - self.now).total_seconds())

    @property
    def breach_in(self) -> int:
        """Seconds until the limit; negative when it has passed."""
        return int((self.row.breach_due - self.now).total_seconds())

    @property
    def tone(self) -> str:
        """Colour of its state."""
        return TONES[self.row.state]


def side_of(actor: Actor, row: CriticalValue) -> str:
    """Which side of a critical value the actor is on."""
    if repository.is_clinic(actor) and actor.org_id == row.org_id:
        return CLINIC
    if actor.has(Role.DIRECTOR) or (actor.has(Role.REPORTER, Role.REVIEWER) and actor.org_id == row.hospital_id):
        return READING
    return WATCHING


def item_of(row: CriticalValue, actor: Actor, at: datetime, locale: str) -> Item:
    """A critical value for `actor`."""
    exam = row.exam
    return Item(
        row=row,
        side=side_of(actor, row),
        now=at,
        patient=exam.patient.name,
        person=f"{sex_words(exam.patient.sex, locale)} {age_words(exam, locale)}".strip(),
        exam=exam_words(exam, locale),
        name=name_of(row.class_code, row.class_name, row.class_name_en, locale=locale),
    )


def bar_items(session: Session, actor: Actor, locale: str) -> list[Item]:
    """What stands on every page of `actor`: those that wait for him first."""
    at = moment(session)
    found = [item_of(row, actor, at, locale) for row in repository.concerning(session, actor)]
    return sorted(found, key=lambda item: (not item.rings, not item.waits_for_me))


def bar_values(actor: Actor, locale: str) -> dict[str, Any] | None:
    """The values of the bar; None for those who have none."""
    if Permission.CRITICAL_VIEW not in permissions_of(actor.roles):
        return None
    with database().reading() as session:
        items = bar_items(session, actor, locale)
        return {
            "items": items,
            "ring": {item.row.id: next_phone(session, item) for item in items if item.unanswered},
        }


def of_exams(session: Session, actor: Actor, exam_ids: list[str]) -> dict[str, CriticalValue]:
    """The newest critical value of each exam that `actor` may know, without those withdrawn."""
    rows = session.scalars(
        select(CriticalValue)
        .where(
            repository.visibility(actor),
            CriticalValue.exam_id.in_(exam_ids),
            CriticalValue.state != CriticalState.WITHDRAWN.value,
        )
        .order_by(CriticalValue.flagged_at)
    )
    return {row.exam_id: row for row in rows}


def next_phone(session: Session, item: Item) -> contacts.Phone | None:
    """Whom to ring now: the contact of the level, or else the first number there is."""
    level = item.level or "alarm"
    people = contacts.rung_at(session, item.row, level, item.now) if item.side == READING else []
    if not people and item.side == READING:
        people = contacts.phones_of(session, item.row, item.now)
    return people[0] if people else None
