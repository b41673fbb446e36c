"""Pages of routing: rules with their dry-run, the rota, alerts, and how the hospitals stand beside the queue."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.accounts.roles import Role
from hub.exams.calendar import WEEKDAYS
from hub.exams.catalogue import BODY_PARTS, ENCOUNTERS, MODALITIES, PRIORITIES
from hub.exams.limits import CLASS_NAMES
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.kit.i18n import translate, use_locale
from hub.kit.settings import get_settings
from hub.reading import service as reading
from hub.reading.routing import alerts, balance, plan, rota, service
from hub.reading.routing import skills as skill_words
from hub.reading.words import exam_words
from hub.sites.models import Organisation, OrgKind
from hub.web.pages import locale_of, render

router = APIRouter(tags=["routing"], include_in_schema=False)

Keeper = Annotated[Actor, require(P.ROUTING_MANAGE)]
Alerted = Annotated[Actor, require(P.ALERTS_VIEW)]
Quiet = Annotated[Actor, require(P.ALERTS_VIEW, passive=True)]
DAYS = 7


def _organisations(session: Session, english: bool) -> dict[str, list[dict[str, str]]]:
    """Clinics and reading hospitals for choosing: id, code, name."""
    rows = session.scalars(select(Organisation).where(Organisation.active).order_by(Organisation.code))
    found: dict[str, list[dict[str, str]]] = {"clinics": [], "hospitals": []}
    for org in rows:
        kind = "clinics" if org.kind == OrgKind.CLINIC else "hospitals" if org.kind in service.READS else ""
        if kind:
            name = org.name_en if english and org.name_en else org.name
            found[kind].append({"id": org.id, "code": org.code, "name": name})
    return found


# --- rules --------------------------------------------------------------------------------------------------------


@router.get("/admin/routing", response_class=HTMLResponse)
def routing_page(request: Request, actor: Keeper, session: ReadDb) -> HTMLResponse:
    """Rules, trying them out, earlier versions."""
    locale = locale_of(request)
    number, rules = service.load(session)
    orgs = _organisations(session, locale == "en")
    with use_locale(locale):
        data = {
            "number": number,
            "plan": plan.to_json(rules),
            **orgs,
            "modalities": [[code, translate(name)] for code, name in MODALITIES.items()],
            "body_parts": [[code, translate(part.name)] for code, part in BODY_PARTS.items()],
            "priorities": [[code, translate(name)] for code, name in PRIORITIES.items()],
            "encounters": [[code, translate(name)] for code, name in ENCOUNTERS.items()],
            "weekdays": [[str(day), translate(name)] for day, name in enumerate(WEEKDAYS)],
        }
    values = {
        "data": data,
        "versions": service.versions(session),
        "editor": service.editor,
        "number": number,
        "priorities": PRIORITIES,
        "plan": rules,
        "real": actor.has(Role.DIRECTOR),
        **orgs,
        "modalities": MODALITIES,
        "body_parts": BODY_PARTS,
        "encounters": ENCOUNTERS,
    }
    return render(request, "routing/rules.html", values)


# --- rota ---------------------------------------------------------------------------------------------------------


def _rota(request: Request, session: Session, actor: Actor, start: str, hospital: str) -> dict[str, Any]:
    locale = locale_of(request)
    zone = ZoneInfo(get_settings().timezone)
    today = clock.now().astimezone(zone).date()
    try:
        first = date.fromisoformat(start) if start else today - timedelta(days=today.weekday())
    except ValueError:
        first = today - timedelta(days=today.weekday())
    last = first + timedelta(days=DAYS)
    begin = datetime.combine(first, time(), zone)
    orgs = _organisations(session, locale == "en")
    hospital = hospital if any(org["id"] == hospital for org in orgs["hospitals"]) else ""
    found = rota.shifts(session, begin, datetime.combine(last, time(), zone), hospital_id=hospital)
    days = [first + timedelta(days=number) for number in range(DAYS)]
    table = []
    for org in orgs["hospitals"]:
        mine = [one for one in found if one.hospital.id == org["id"]]
        if hospital and org["id"] != hospital:
            continue
        table.append({"org": org, "days": [_shifts_of(mine, day, zone, days[0]) for day in days], "count": len(mine)})
    now = clock.now()
    return {
        "table": table,
        "days": [
            {"date": day, "name": WEEKDAYS[day.weekday()], "today": day == today, "iso": day.isoformat()}
            for day in days
        ],
        "first": first.isoformat(),
        "last": (last - timedelta(days=1)).isoformat(),
        "before": (first - timedelta(days=DAYS)).isoformat(),
        "after": last.isoformat(),
        "hospital": hospital,
        "hospitals": orgs["hospitals"],
        "manages": P.ROUTING_MANAGE in _permissions(actor),
        "roles": rota.ROLES,
        "now": now,
        "keeping": rota.keeping(session, now),
        "duty": rota.names_on_duty(session, now),
    }


def _permissions(actor: Actor) -> frozenset[str]:
    from hub.accounts.roles import permissions_of

    return frozenset(permissions_of(actor.roles, actor.scopes))


def _shifts_of(shifts: list[rota.Shift], day: date, zone: ZoneInfo, first: date) -> list[dict[str, Any]]:
    """What begins on `day`; on the first day also what began before it and goes on."""
    begin, end = datetime.combine(day, time(), zone), datetime.combine(day + timedelta(days=1), time(), zone)
    now = clock.now()
    cells = []
    for shift in shifts:
        starts = shift.row.starts_at
        if not (begin <= starts < end or (day == first and starts < begin)):
            continue
        local_start, local_end = starts.astimezone(zone), shift.row.ends_at.astimezone(zone)
        over = local_end.date() > local_start.date() and not (
            local_end.time() == time() and local_end.date() == local_start.date() + timedelta(days=1)
        )
        ends = "24:00" if local_end.time() == time() and not over else f"{local_end:%H:%M}"
        cells.append(
            {
                "id": shift.row.id,
                "name": shift.person.name,
                "login": shift.person.login,
                "hospital": shift.hospital.code,
                "from": f"{local_start:%H:%M}",
                "to": ends,
                "next_day": over,
                "earlier": starts < begin,
                "starts": f"{local_start:%Y-%m-%dT%H:%M}",
                "ends": f"{local_end:%Y-%m-%dT%H:%M}",
                "role": shift.row.role,
                "skills": list(shift.row.skills),
                "now": starts <= now < shift.row.ends_at,
            }
        )
    return cells


Start = Annotated[str, Query(alias="from", max_length=10)]
Hospital = Annotated[str, Query(max_length=26)]


@router.get("/admin/rota", response_class=HTMLResponse)
def rota_page(
    request: Request,
    actor: Annotated[Actor, require(P.ROTA_VIEW)],
    session: ReadDb,
    first: Start = "",
    hospital: Hospital = "",
) -> HTMLResponse:
    """Who is on duty, week by week; what each reader reads."""
    locale = locale_of(request)
    values = _rota(request, session, actor, first, hospital)
    declared = rota.declared_skills(session)
    people = [
        {
            "id": person.id,
            "name": person.name,
            "login": person.login,
            "title": person.title,
            "hospital": org.code,
            "hospital_name": org.name_en if locale == "en" and org.name_en else org.name,
            "skills": declared.get(person.id, []),
            "words": skill_words.words(declared.get(person.id, []), locale),
        }
        for person, org in rota.readers(session)
        if not values["hospital"] or org.id == values["hospital"]
    ]
    values["people"] = people
    values["modalities"] = MODALITIES
    values["body_parts"] = BODY_PARTS
    with use_locale(locale):
        values["data"] = {
            "people": [{"login": one["login"], "name": one["name"], "hospital": one["hospital"]} for one in people],
            "roles": {code: translate(name) for code, name in rota.ROLES.items()},
        }
    return render(request, "routing/rota.html", values)


@router.get("/admin/rota/table", response_class=HTMLResponse)
def rota_table(
    request: Request,
    actor: Annotated[Actor, require(P.ROTA_VIEW, passive=True)],
    session: ReadDb,
    first: Start = "",
    hospital: Hospital = "",
) -> HTMLResponse:
    """The part of the rota that changes."""
    return render(request, "routing/_rota.html", _rota(request, session, actor, first, hospital))


# --- alerts -------------------------------------------------------------------------------------------------------


def _alerts(request: Request, session: Session, actor: Actor) -> dict[str, Any]:
    locale = locale_of(request)
    found = alerts.of(session, actor)
    clinical = actor.has(Role.DIRECTOR, Role.REPORTER, Role.REVIEWER)
    names = reading.holder_names(session, [one.exam for one in found])
    return {
        "alerts": [
            {
                "id": one.row.id,
                "exam": one.exam,
                "level": one.row.level,
                "raised_at": one.row.raised_at,
                "title": exam_words(one.exam, locale),
                # The community's office sees how long everything took, and nobody's name.
                "patient": one.exam.patient.name if clinical else "",
                "limit": CLASS_NAMES.get(one.row.limit_key, ""),
                "clinic": _org_name(one.exam.org, locale),
                "hospital": _org_name(one.exam.reading_org, locale) if one.exam.reading_org else "",
                "holder": names.get(one.exam.lease_person_id or "", "") if reading.lease_is_live(one.exam) else "",
                "since": one.exam.received_at or one.exam.queued_at,
                "mine": one.mine,
                "href": f"/read/{one.exam.id}" if clinical else f"/turnaround/exams/{one.exam.id}",
            }
            for one in found
        ],
        "clinical": clinical,
        "county": alerts.county_side(actor),
    }


def _org_name(org: Organisation, locale: str) -> str:
    return org.name_en if locale == "en" and org.name_en else org.name


@router.get("/alerts", response_class=HTMLResponse)
def alerts_page(request: Request, actor: Alerted, session: ReadDb) -> HTMLResponse:
    """Exams whose limit runs out."""
    return render(request, "routing/alerts.html", _alerts(request, session, actor))


@router.get("/alerts/rows", response_class=HTMLResponse)
def alert_rows(request: Request, actor: Quiet, session: ReadDb) -> HTMLResponse:
    """The part of the list that changes."""
    return render(request, "routing/_alerts.html", _alerts(request, session, actor))


# --- beside the queue ---------------------------------------------------------------------------------------------


def board(request: Request, session: Session, actor: Actor, hospital: str = "") -> dict[str, Any]:
    """What stands above the queue: alerts, who is on duty, shares; for the director every hospital."""
    locale = locale_of(request)
    director = actor.has(Role.DIRECTOR)
    loads = balance.loads(session)
    if not director:
        loads = [one for one in loads if one.hospital.id == actor.org_id]
    now = clock.now()
    mine = alerts.of(session, actor, hospital_id=hospital if hospital != "pool" else "")
    return {
        "board": {
            "hospitals": [
                {
                    "id": one.hospital.id,
                    "code": one.hospital.code,
                    "name": _org_name(one.hospital, locale),
                    "load": one,
                    "chosen": one.hospital.id == hospital,
                    "on_duty": one.duty,
                }
                for one in loads
                if director is False
                or one.waiting
                or one.held
                or one.review
                or one.keeps_rota
                or one.hospital.kind == OrgKind.HOSPITAL
            ],
            "pool": balance.pool_waiting(session),
            "director": director,
            "alerts": len(mine),
            "late": sum(one.row.level == 100 for one in mine),
            "worst": [
                {
                    "id": one.row.id,
                    "exam": one.exam,
                    "level": one.row.level,
                    "title": exam_words(one.exam, locale),
                    "mine": one.mine,
                }
                for one in mine[:4]
            ],
            "skills": skill_words.words(rota.skills_of(session, actor.id, now), locale),
            "hours": service.load(session)[1].share_hours,
        }
    }


@router.get("/queue/board", response_class=HTMLResponse)
def board_part(
    request: Request,
    actor: Annotated[Actor, require(P.QUEUE_VIEW, passive=True)],
    session: ReadDb,
    hospital: Hospital = "",
) -> HTMLResponse:
    """The part above the queue that changes."""
    return render(request, "reading/_board.html", board(request, session, actor, hospital))
