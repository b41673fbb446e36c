"""Pages of critical values: the bar on every page, the board, one with its record, contacts, the county's rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.exams import repository as exams
from hub.exams.calendar import WEEKDAYS
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.kit.i18n import Message, _, translate, use_locale
from hub.kit.settings import get_settings
from hub.reports.critical import classes, contacts, repository
from hub.reports.critical.contacts import Phone
from hub.reports.critical.figures import By
from hub.reports.critical.messages import FAILED, QUEUED, SENT, SKIPPED
from hub.reports.critical.models import CriticalEntry, CriticalValue
from hub.reports.critical.moment import now as moment
from hub.reports.critical.routes import Keeper, Setter, Viewer
from hub.reports.critical.service import CALLED
from hub.reports.critical.states import (
    ACTION_NAMES,
    CALL_RESULTS,
    EVENT_NAMES,
    STATE_NAMES,
    WAY_NAMES,
    Action,
    CallResult,
    CriticalState,
    Way,
)
from hub.sites.models import OrgKind
from hub.turnaround import critical as turnaround
from hub.turnaround.routes import Chosen
from hub.turnaround.routes import Viewer as Measurer
from hub.turnaround.service import names
from hub.web.critical_views import CLINIC, TONES, bar_values, item_of
from hub.web.pages import locale_of, org_name, render
from hub.web.reading.parts.critical import of_exam
from hub.web.review_views import conclusion_board

router = APIRouter(tags=["critical values"], include_in_schema=False)

PAGE_SIZE = 50

PHONE_KINDS: dict[str, Message] = {
    "doctor": _("申请医生"),
    "contact": _("卫生院联系人"),
    "clinic": _("卫生院总机"),
    "patient": _("患者或家属"),
    "duty": _("值班负责人"),
}

MESSAGE_STATES: dict[str, Message] = {
    QUEUED: _("等待发出"),
    SENT: _("网关已收下(不等于有人看到)"),
    FAILED: _("没有发出"),
    SKIPPED: _("已有人接收,不再发出"),
}

MESSAGE_LEVELS: dict[str, Message] = {
    "alarm": _("通知第一联系人"),
    "escalate": _("通知第二联系人"),
    "breach": _("通知值班负责人"),
    "withdraw": _("通知撤销"),
}

_BAD = frozenset({"escalate", "breach", "ask_again", "ask_again_escalated", "ask_again_breached", "withdraw"})


@router.get("/critical/bar", response_class=HTMLResponse)
def bar(request: Request, actor: Annotated[Actor, require(P.CRITICAL_VIEW, people=True, passive=True)]) -> HTMLResponse:
    """The bar by itself; every page asks for it when something changes, and now and then in case it was not told."""
    return render(request, "critical/_bar.html", {"critical": bar_values(actor, locale_of(request))})


@router.get("/critical", response_class=HTMLResponse)
def board(
    request: Request,
    session: ReadDb,
    actor: Viewer,
    q: Annotated[str, Query(max_length=60)] = "",
    class_code: Annotated[str, Query(max_length=30, alias="class")] = "",
    first: Annotated[str, Query(max_length=10, alias="from")] = "",
    last: Annotated[str, Query(max_length=10, alias="to")] = "",
    before: Annotated[str, Query(max_length=40)] = "",
) -> HTMLResponse:
    """The open ones, and a search through all of them."""
    locale, at = locale_of(request), moment(session)
    rules = classes.load(session)
    rows = repository.history(
        session,
        actor,
        text=q,
        class_code=class_code,
        begins=_midnight(first),
        ends=_midnight(last, days=1),
        before=_moment(before),
        limit=PAGE_SIZE + 1,
    )
    return render(
        request,
        "critical/board.html",
        {
            **_words(),
            "items": [item_of(row, actor, at, locale) for row in repository.open_ones(session, actor)],
            "history": [item_of(row, actor, at, locale) for row in rows[:PAGE_SIZE]],
            "older": rows[PAGE_SIZE - 1].discovered_at.isoformat() if len(rows) > PAGE_SIZE else "",
            "rules": rules,
            "filter": {"q": q, "class": class_code, "from": first, "to": last},
            "conclusions": conclusion_board(session, actor, locale),
            "rung_names": MESSAGE_LEVELS,
        },
    )


def _midnight(text: str, *, days: int = 0) -> datetime | None:
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
        return datetime.combine(day, time(), ZoneInfo(get_settings().timezone))
    except (ValueError, OverflowError):
        return None


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


@router.get("/critical/contacts", response_class=HTMLResponse)
def contacts_page(
    request: Request, session: ReadDb, actor: Keeper, org: Annotated[str, Query(max_length=26)] = ""
) -> HTMLResponse:
    """Whom to ring, of one organisation."""
    kept = contacts.kept_by(session, actor)
    chosen = contacts.kept_org(session, actor, org) if org else (kept[0] if kept else None)
    at = moment(session)
    zone = get_settings().timezone
    rows = contacts.of_org(session, chosen.id) if chosen else []
    return render(
        request,
        "critical/contacts.html",
        {
            "kept": kept,
            "chosen": chosen,
            "clinic": chosen is not None and chosen.kind == OrgKind.CLINIC,
            "rows": [(row, contacts.on_duty(row, at, zone)) for row in rows],
            "empty": [
                entry for entry in kept if entry.kind == OrgKind.CLINIC and not contacts.of_org(session, entry.id)
            ],
            "weekdays": WEEKDAYS,
        },
    )


@router.get("/critical/rules", response_class=HTMLResponse)
def rules_page(request: Request, session: ReadDb, actor: Setter) -> HTMLResponse:
    """The county's own classes and its timers."""
    del actor
    return render(
        request,
        "critical/rules.html",
        {
            "rules": classes.load(session),
            "national": classes.NATIONAL,
            "gateway": bool(get_settings().critical_webhook_url),
        },
    )


@router.get("/critical/exams/{exam_id}/rows", response_class=HTMLResponse)
def exam_rows(
    request: Request,
    exam_id: str,
    session: ReadDb,
    actor: Annotated[Actor, require(P.CRITICAL_CALL, people=True, passive=True)],
) -> HTMLResponse:
    """What runs on one exam, for the reading page while somebody writes there."""
    exam = exams.get(session, actor, exam_id)
    values = of_exam(session, actor, exam, locale_of(request))
    return render(request, "critical/_rows.html", {"critical": values, "writes": True})


@router.get("/critical/{critical_id}", response_class=HTMLResponse)
def detail_page(request: Request, critical_id: str, session: ReadDb, actor: Viewer) -> HTMLResponse:
    """One critical value: what is to be done, whom to ring, the record."""
    row = repository.get(session, actor, critical_id)
    return render(request, "critical/detail.html", _detail(request, session, actor, row))


@router.get("/critical/{critical_id}/panel", response_class=HTMLResponse)
def panel(
    request: Request,
    critical_id: str,
    session: ReadDb,
    actor: Annotated[Actor, require(P.CRITICAL_VIEW, people=True, passive=True)],
) -> HTMLResponse:
    """The same without a frame, for the page itself when it changes, and for the reading page's call panel."""
    row = repository.get(session, actor, critical_id)
    return render(request, "critical/_panel.html", _detail(request, session, actor, row))


@router.get("/turnaround/critical", response_class=HTMLResponse)
def figures_fragment(
    request: Request, session: ReadDb, actor: Measurer, filters: Chosen, by: str = "clinic"
) -> HTMLResponse:
    """The indicator of a period; the turnaround page asks for it."""
    chosen: By = "hospital" if by == "hospital" else "clinic"
    with use_locale(locale_of(request)):
        return render(
            request,
            "turnaround/_critical.html",
            {
                "report": turnaround.of_period(session, actor, filters, chosen),
                "names": names(session),
                "by": chosen,
                "note": turnaround.NOTE,
                "query": urlencode({**filters.address(), "by": chosen}),
                "sources": {},
            },
        )


def _words() -> dict[str, Any]:
    return {
        "state_names": {state.value: name for state, name in STATE_NAMES.items()},
        "tones": TONES,
        "way_names": {way.value: name for way, name in WAY_NAMES.items()},
    }


def _detail(request: Request, session: Session, actor: Actor, row: CriticalValue) -> dict[str, Any]:
    locale, at = locale_of(request), moment(session)
    item = item_of(row, actor, at, locale)
    phones = contacts.phones_of(session, row, at)
    if item.side == CLINIC:
        # The clinic rings the patient and the reader, not itself.
        phones = [phone for phone in phones if phone.kind in ("patient", "doctor", "duty")]
        if row.hospital.phone:
            phones.append(Phone("duty", org_name(row.hospital, locale), "", row.hospital.phone))
    else:
        own = org_name(row.org, locale)
        phones = [replace(phone, name=own) if phone.kind == "clinic" else phone for phone in phones]
    return {
        **_words(),
        "item": item,
        "phones": phones,
        "phone_kinds": PHONE_KINDS,
        "called": [(code, translate(name, locale)) for code, name in CALLED.items()],
        "results": {result.value: CALL_RESULTS[result] for result in CallResult},
        "actions": [(action.value, translate(ACTION_NAMES[action], locale)) for action in Action],
        "steps": _steps(row),
        "timeline": [_line(entry) for entry in repository.entries(session, row.id)],
        "messages": [
            (MESSAGE_LEVELS[message.level], message, MESSAGE_STATES[message.state])
            for message in repository.messages(session, row.id)
        ],
    }


def _steps(row: CriticalValue) -> list[dict[str, Any]]:
    """The way it goes, with the times of what is done."""
    steps: list[tuple[Message, datetime | None, str]] = [
        (_("发现时间"), row.discovered_at, row.flagged_by_name),
        (_("卫生院接收复述"), row.received_at, row.received_by_name),
        (_("双方确认"), row.confirmed_at, row.confirmed_by_name),
        (_("处置"), row.acted_at, ""),
        (_("办结"), row.closed_at, row.closed_by_name),
    ]
    if row.state == CriticalState.WITHDRAWN:
        steps = [(what, at, who) for what, at, who in steps if at is not None]
        steps.append((_("已撤销"), row.withdrawn_at, row.withdrawn_by_name))
    return [{"what": what, "time": at, "who": who} for what, at, who in steps]


def _line(entry: CriticalEntry) -> dict[str, Any]:
    """A line of the record in words."""
    detail = entry.detail
    notes: list[Message | str] = []
    what = EVENT_NAMES[entry.event]
    if entry.event == "act":
        what = ACTION_NAMES[Action(detail["action"])]
        if detail.get("heard"):
            notes.append(_("卫生院电话告知,由报告方记录"))
    elif entry.event == "call":
        notes.append(
            _("{whom} {name} {number}:{result}").format(
                whom=CALLED.get(detail.get("whom", ""), ""),
                name=detail.get("name", ""),
                number=detail.get("number", ""),
                result=CALL_RESULTS[CallResult(detail["result"])],
            )
        )
    elif entry.event == "phone":
        notes.append(
            _("{way};接收人 {name} {role} {number}").format(
                way=WAY_NAMES[Way.PHONE],
                name=detail.get("receiver", ""),
                role=detail.get("role", ""),
                number=detail.get("number", ""),
            )
        )
    elif entry.event == "read_back":
        notes.append(WAY_NAMES[Way.PAGE])
    people = ", ".join(
        f"{one['name']} {one['phone']}".strip() for one in detail.get("contacts", []) if isinstance(one, dict)
    )
    if people:
        notes.append(_("应联系:{people}").format(people=people))
    elif entry.event in ("flag", "escalate", "breach"):
        notes.append(_("没有登记联系人"))
    due = _moment(detail.get("due", ""))
    late = due is not None and (entry.at - due).total_seconds() > 60
    return {
        "time": entry.at,
        "what": what,
        "who": "" if entry.actor_id == "system" else entry.actor_name,
        "text": entry.text,
        "read_back": detail.get("read_back", ""),
        "notes": notes,
        "due": due if late else None,
        "tone": "bad" if entry.event in _BAD else "done",
    }
