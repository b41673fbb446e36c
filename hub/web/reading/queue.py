"""The queue's page, and the part of it that changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.exams.catalogue import MODALITIES, PRIORITIES
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.kit.i18n import Message, _
from hub.reading import repository as reading_rows
from hub.reading import service as reading
from hub.reading.conversation import thread
from hub.reading.repository import READ_STATES, REVIEW_STATES, WAITING_STATES, QueueFilters
from hub.reading.routing import alerts
from hub.reading.routing import service as routing
from hub.reading.schemas import row_of
from hub.reports import repository
from hub.sites.models import Organisation, OrgKind
from hub.web.pages import locale_of, render
from hub.web.routing import board

router = APIRouter(tags=["reading"], include_in_schema=False)

QueueViewer = Annotated[Actor, require("queue.view")]
PAGE_SIZE = 60

VIEWS: dict[str, tuple[Message, tuple[State, ...]]] = {
    "": (_("全部"), ()),
    "read": (_("待书写"), READ_STATES),
    "review": (_("待审核"), REVIEW_STATES),
    "waiting": (_("等待答复"), WAITING_STATES),
    "mine": (_("我的"), ()),
    "amend": (_("补充与更正"), ()),
    "late": (_("签发后来像"), ()),
}
"""Tabs of the queue."""


View = Annotated[str, Query(max_length=10)]
Text = Annotated[str, Query(max_length=60)]


@dataclass(frozen=True, slots=True)
class QueueAddress:
    """What the queue's address asks for."""

    view: View = ""
    clinic: Text = ""
    modality: Text = ""
    priority: Text = ""
    q: Text = ""
    overdue: str = ""
    hospital: Text = ""
    after: str = ""


def _queue(request: Request, session: Session, actor: Actor, asked: QueueAddress) -> dict[str, Any]:
    view, after = asked.view, asked.after
    view = view if view in VIEWS else ""
    locale = locale_of(request)
    address = {
        "view": view,
        "clinic": asked.clinic,
        "modality": asked.modality,
        "priority": asked.priority,
        "q": asked.q,
        "overdue": "1" if asked.overdue else "",
        "hospital": asked.hospital,
    }
    address = {name: value for name, value in address.items() if value}
    following = None
    late = reading_rows.late_after_signing(session, actor)
    amended = repository.open_amendments(session, actor)
    if view == "amend":
        exams = amended
        counts: dict[State, int] = reading_rows.count_states(session, actor)
    elif view == "late":
        exams, counts = late, reading_rows.count_states(session, actor)
    else:
        filters = QueueFilters(
            states=VIEWS[view][1],
            clinic_id=asked.clinic,
            modality=asked.modality,
            priority=asked.priority,
            text=asked.q,
            mine=view == "mine",
            overdue=bool(asked.overdue),
            hospital=asked.hospital,
        )
        found = reading.queue(session, actor, filters, after=after, limit=PAGE_SIZE)
        exams, counts, following = found.exams, found.counts, found.after
    names = reading.holder_names(session, exams)

    def count(states: tuple[State, ...]) -> str:
        number = sum(counts.get(state, 0) for state in states)
        return f"{reading_rows.COUNT_LIMIT}+" if number >= reading_rows.COUNT_LIMIT else str(number)

    def url(**changes: str) -> str:
        merged = {**address, **changes}
        text = urlencode({name: value for name, value in merged.items() if value})
        return "/queue" + (f"?{text}" if text else "")

    ids = [exam.id for exam in exams]
    return {
        "levels": alerts.levels_of(session, ids),
        "offers": routing.offered_of(session, ids),
        "hospital_names": _hospital_names(exams, locale) if actor.has(Role.DIRECTOR) else {},
        "rows": [row_of(exam, names, actor, locale) for exam in exams],
        "unread": thread.unread(session, actor, [exam.id for exam in exams]),
        "view": view,
        "views": [
            {
                "key": key,
                "label": label,
                "url": url(view=key),
                "count": str(len(late))
                if key == "late"
                else str(len(amended))
                if key == "amend"
                else count(states or tuple(counts))
                if key != "mine"
                else "",
            }
            for key, (label, states) in VIEWS.items()
            if key != "late" or late or view == "late"
        ],
        "address": address,
        "query": urlencode(address),
        "after": after,
        "following": url(after=following) if following else None,
        "first": url() if after else None,
        "priorities": PRIORITIES,
        "modalities": MODALITIES,
        "wide": not actor.has(Role.REPORTER, Role.REVIEWER),
    }


def _hospital_names(exams: Sequence[Exam], locale: str) -> dict[str, str]:
    """Reading hospitals by id, for who sees the queues of several."""
    return {
        exam.reading_org.id: exam.reading_org.name_en
        if locale == "en" and exam.reading_org.name_en
        else exam.reading_org.name
        for exam in exams
        if exam.reading_org is not None
    }


@router.get("/queue", include_in_schema=False)
def queue_page(
    request: Request,
    session: ReadDb,
    actor: QueueViewer,
    asked: Annotated[QueueAddress, Depends()],
) -> Response:
    """The reading queue."""
    values = _queue(request, session, actor, asked)
    clinics = session.execute(
        select(Organisation.id, Organisation.name, Organisation.name_en)
        .where(Organisation.kind == OrgKind.CLINIC, Organisation.active)
        .order_by(Organisation.code)
    ).all()
    english = locale_of(request) == "en"
    values["clinics"] = [(row[0], (row[2] if english and row[2] else row[1])) for row in clinics]
    values["hospital"] = asked.hospital
    values |= board(request, session, actor, asked.hospital)
    return render(request, "reading/queue.html", values)


@router.get("/queue/rows", include_in_schema=False)
def queue_rows(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require("queue.view", passive=True)],
    asked: Annotated[QueueAddress, Depends()],
) -> Response:
    """The part of the queue that changes; fetched by the page itself, so it keeps no session awake."""
    values = _queue(request, session, actor, asked)
    return render(request, "reading/_rows.html", values)
