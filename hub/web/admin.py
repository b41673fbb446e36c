"""People, organisations, API keys and the audit log: pages and API. None of them shows clinical content."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, StreamingResponse
from pydantic import BaseModel, BeforeValidator, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hub.accounts import people
from hub.accounts.models import Person
from hub.accounts.roles import ROLE_NAMES, Role
from hub.accounts.roles import Permission as P
from hub.audit import seal, search
from hub.audit import service as audit
from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import translate
from hub.kit.settings import get_settings
from hub.sites import service as sites
from hub.sites.models import ApiKey, Organisation, OrgKind
from hub.web.actions import ACTION_NAMES, FAMILIES, OBJECT_NAMES
from hub.web.pages import locale_of, render

router = APIRouter(tags=["admin"])

PAGE = 100
# Rows of AuditEntry are counted by 64-bit numbers; SQLite and PostgreSQL refuse larger ones.
MAX_ID = 2**63 - 1

ManagePeople = Annotated[Actor, require(P.PEOPLE_MANAGE)]
ManageSites = Annotated[Actor, require(P.ORGANISATIONS_MANAGE)]
ManageKeys = Annotated[Actor, require(P.KEYS_MANAGE)]
ViewAudit = Annotated[Actor, require(P.AUDIT_VIEW)]


# --- people -----------------------------------------------------------------------------------------------------


class Licence(BaseModel):
    """What a signer has on file."""

    number: str = Field("", max_length=60)
    scope: str = Field("", max_length=60, description="Scope of practice.")
    expires: date | None = None


class PersonOut(BaseModel):
    """Somebody who logs in."""

    id: str
    org_id: str
    org_code: str
    login: str
    name: str
    name_en: str
    title: str
    phone: str
    roles: list[str]
    licence: Licence
    active: bool
    must_change_password: bool
    second_factor: bool
    created_at: datetime


class NewPerson(BaseModel):
    """A person to add. Without a password one is made."""

    org_id: str = Field(max_length=26)
    login: str = Field(max_length=40)
    name: str = Field(max_length=60)
    roles: list[Role] = Field(max_length=9)
    name_en: str = Field("", max_length=60)
    title: str = Field("", max_length=60)
    phone: str = Field("", max_length=40)
    password: str | None = Field(None, max_length=200)

    model_config = {
        "json_schema_extra": {
            "examples": [
                {
                    "org_id": "01hq3v7m9x2b4c6d8e0f1g2h3j",
                    "login": "li.na",
                    "name": "李娜",
                    "roles": ["reporter", "reviewer"],
                    "title": "主治医师",
                    "phone": "0797-6230001",
                }
            ]
        }
    }


class FirstPassword(BaseModel):
    """The first password, shown this once."""

    id: str
    login: str
    password: str


class PersonChange(BaseModel):
    """What to change; what is left out stays."""

    name: str | None = Field(None, max_length=60)
    name_en: str | None = Field(None, max_length=60)
    title: str | None = Field(None, max_length=60)
    phone: str | None = Field(None, max_length=40)
    roles: list[Role] | None = Field(None, max_length=9)
    licence: Licence | None = None
    active: bool | None = None

    model_config = {"json_schema_extra": {"examples": [{"roles": ["reporter"], "active": True}]}}


def _licence(person: Person) -> Licence:
    kept = person.licence or {}
    try:
        return Licence(number=kept.get("number", ""), scope=kept.get("scope", ""), expires=kept.get("expires") or None)
    except ValueError:
        return Licence()


def _person_out(person: Person, org: Organisation) -> PersonOut:
    return PersonOut(
        id=person.id,
        org_id=person.org_id,
        org_code=org.code,
        login=person.login,
        name=person.name,
        name_en=person.name_en,
        title=person.title,
        phone=person.phone,
        roles=[role for role in Role if role in person.roles],
        licence=_licence(person),
        active=person.active,
        must_change_password=person.must_change_password,
        second_factor=person.totp_secret is not None,
        created_at=person.created_at,
    )


@router.get("/admin/people", include_in_schema=False, response_class=HTMLResponse)
def people_page(
    request: Request,
    session: ReadDb,
    actor: ManagePeople,
    q: Annotated[str, Query(max_length=60)] = "",
    org: Annotated[str, Query(max_length=26)] = "",
    role: Annotated[str, Query(max_length=20)] = "",
    state: Annotated[str, Query(max_length=10)] = "active",
) -> Response:
    """Everybody who logs in."""
    locale = locale_of(request)
    wanted = q.strip().lower()
    everybody = [(person, where) for person, where in people.everybody(session)]
    shown = [
        (person, where)
        for person, where in everybody
        if (not wanted or wanted in f"{person.login} {person.name} {person.name_en} {person.phone}".lower())
        and (not org or person.org_id == org)
        and (not role or role in person.roles)
        and (state == "all" or person.active == (state != "inactive"))
    ]
    data = {
        "people": {person.id: _person_out(person, where).model_dump(mode="json") for person, where in shown},
        "kinds": {one.id: one.kind for one in sites.organisations(session)},
        "rolesAt": {kind.value: [r.value for r in Role if r in allowed] for kind, allowed in people.ROLES_AT.items()},
        "roles": [[one.value, translate(ROLE_NAMES[one], locale)] for one in Role],
        "self": actor.id,
    }
    values = {
        "rows": shown,
        "total": len(everybody),
        "organisations": sites.organisations(session),
        "kind_names": sites.KIND_NAMES,
        "roles": [(one.value, ROLE_NAMES[one]) for one in Role],
        "filter": {"q": q, "org": org, "role": role, "state": state},
        "data": data,
        "today": clock.local(clock.now(), get_settings().timezone).date().isoformat(),
    }
    return render(request, "admin/people.html", values)


@router.get("/api/admin/people")
def list_people(session: ReadDb, actor: ManagePeople) -> list[PersonOut]:
    """Everybody, by organisation and login."""
    return [_person_out(person, org) for person, org in people.everybody(session)]


@router.post("/api/admin/people", status_code=201)
def add_person(session: WriteDb, actor: ManagePeople, body: NewPerson) -> FirstPassword:
    """Add somebody; the answer holds the first password, this once."""
    person, password = people.add_person(
        session,
        actor,
        org=sites.get(session, body.org_id),
        login=body.login,
        name=body.name,
        roles=[role.value for role in body.roles],
        password=body.password or None,
        name_en=body.name_en,
        title=body.title,
        phone=body.phone,
    )
    return FirstPassword(id=person.id, login=person.login, password=password)


@router.patch("/api/admin/people/{person_id}")
def change_person(session: WriteDb, actor: ManagePeople, person_id: str, body: PersonChange) -> PersonOut:
    """Change somebody. Taken roles and deactivation end the sessions at once."""
    values: dict[str, Any] = body.model_dump(exclude_none=True, mode="json")
    person = people.change_person(session, actor, person_id, values)
    return _person_out(person, sites.get(session, person.org_id))


@router.post("/api/admin/people/{person_id}/password")
def reset_password(session: WriteDb, actor: ManagePeople, person_id: str) -> FirstPassword:
    """Give a fresh first password; ends the sessions and turns the second factor off."""
    password = people.reset_password(session, actor, person_id)
    return FirstPassword(id=person_id, login=people.get(session, person_id).login, password=password)


@router.delete("/api/admin/people/{person_id}/sessions", status_code=204)
def end_sessions(session: WriteDb, actor: ManagePeople, person_id: str) -> None:
    """Log somebody out everywhere."""
    people.end_sessions_of(session, actor, person_id)


# --- organisations ----------------------------------------------------------------------------------------------


class OrganisationOut(BaseModel):
    """An organisation. `readers` of a clinic: ids of the hospitals that read for it, the first gets new exams."""

    id: str
    code: str
    name: str
    name_en: str
    kind: str
    phone: str
    issuer: str
    double_signature: bool
    readers: list[str]
    active: bool
    created_at: datetime


class NewOrganisation(BaseModel):
    """An organisation to add."""

    code: str = Field(max_length=16, description="Upper case; part of report numbers, so it never changes.")
    name: str = Field(max_length=100)
    kind: OrgKind
    name_en: str = Field("", max_length=100)
    phone: str = Field("", max_length=40)
    double_signature: bool = Field(True, description="Author and reviewer of a report are two people.")
    readers: list[str] = Field(default_factory=list, max_length=20, description="Of a clinic: ids of its hospitals.")

    model_config = {
        "json_schema_extra": {
            "examples": [{"code": "YK", "name": "银坑镇中心卫生院", "kind": "clinic", "phone": "0797-6230001"}]
        }
    }


class OrganisationChange(BaseModel):
    """What to change; what is left out stays."""

    name: str | None = Field(None, max_length=100)
    name_en: str | None = Field(None, max_length=100)
    phone: str | None = Field(None, max_length=40)
    active: bool | None = None
    double_signature: bool | None = None

    model_config = {"json_schema_extra": {"examples": [{"double_signature": False}]}}


class Readers(BaseModel):
    """Ids of the hospitals that read for a clinic, in order."""

    hospitals: list[str] = Field(max_length=20)

    model_config = {"json_schema_extra": {"examples": [{"hospitals": ["01hq3v7m9x2b4c6d8e0f1g2h3j"]}]}}


def _organisation_out(org: Organisation, readers: list[str]) -> OrganisationOut:
    return OrganisationOut(
        id=org.id,
        code=org.code,
        name=org.name,
        name_en=org.name_en,
        kind=org.kind,
        phone=org.phone,
        issuer=org.issuer,
        double_signature=bool(org.policy.get("double_signature", True)),
        readers=readers,
        active=org.active,
        created_at=org.created_at,
    )


@router.get("/admin/organisations", include_in_schema=False, response_class=HTMLResponse)
def organisations_page(request: Request, session: ReadDb, actor: ManageSites) -> Response:
    """Clinics, hospitals, who reads for whom, and the keys of their machines."""
    found = sites.organisations(session)
    readers = sites.readers(session)
    order = list(OrgKind)
    found.sort(key=lambda org: (order.index(OrgKind(org.kind)), not org.active, org.code))
    values = {
        "organisations": found,
        "by_id": {org.id: org for org in found},
        "readers": readers,
        "kinds": [(kind.value, sites.KIND_NAMES[kind]) for kind in OrgKind],
        "kind_names": sites.KIND_NAMES,
        "hospitals": [org for org in found if org.kind in (OrgKind.HOSPITAL, OrgKind.TERTIARY) and org.active],
        "keys": sites.keys(session),
        "scopes": sites.SCOPE_NAMES,
        "data": {org.id: _organisation_out(org, readers.get(org.id, [])).model_dump(mode="json") for org in found},
        "today": clock.local(clock.now(), get_settings().timezone).date().isoformat(),
    }
    return render(request, "admin/organisations.html", values)


@router.get("/api/admin/organisations")
def list_organisations(session: ReadDb, actor: ManageSites) -> list[OrganisationOut]:
    """All organisations."""
    readers = sites.readers(session)
    return [_organisation_out(org, readers.get(org.id, [])) for org in sites.organisations(session)]


@router.post("/api/admin/organisations", status_code=201)
def add_organisation(session: WriteDb, actor: ManageSites, body: NewOrganisation) -> OrganisationOut:
    """Add an organisation."""
    org = sites.add_organisation(
        session,
        actor,
        code=body.code,
        name=body.name,
        kind=body.kind.value,
        name_en=body.name_en,
        phone=body.phone,
        double_signature=body.double_signature,
    )
    if body.readers:
        sites.set_readers(session, actor, org.id, body.readers)
    return _organisation_out(org, body.readers)


@router.patch("/api/admin/organisations/{org_id}")
def change_organisation(session: WriteDb, actor: ManageSites, org_id: str, body: OrganisationChange) -> OrganisationOut:
    """Change an organisation; deactivating it ends the access of its people and machines."""
    org = sites.change_organisation(session, actor, org_id, body.model_dump(exclude_none=True))
    return _organisation_out(org, sites.readers(session).get(org.id, []))


@router.put("/api/admin/organisations/{org_id}/readers", status_code=204)
def set_readers(session: WriteDb, actor: ManageSites, org_id: str, body: Readers) -> None:
    """Say which hospitals read for a clinic; exams already routed stay where they are."""
    sites.set_readers(session, actor, org_id, body.hospitals)


# --- API keys ---------------------------------------------------------------------------------------------------

Scope = Literal["stow", "retrieve", "register", "report"]


class KeyOut(BaseModel):
    """An API key of an organisation's machine; the key itself is not kept."""

    id: str
    org_id: str
    label: str
    prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(BaseModel):
    """A key to make."""

    org_id: str = Field(max_length=26)
    label: str = Field("", max_length=100, description="Which machine it is for.")
    scopes: list[Scope] = Field(["stow", "retrieve"], min_length=1, max_length=4)
    expires_on: date | None = Field(None, description="Its last day, in the county's zone.")

    model_config = {
        "json_schema_extra": {
            "examples": [{"org_id": "01hq3v7m9x2b4c6d8e0f1g2h3j", "label": "CT 工作站", "scopes": ["stow"]}]
        }
    }


class MadeKey(BaseModel):
    """The key, shown this once."""

    id: str
    key: str


@router.get("/api/admin/keys")
def list_keys(session: ReadDb, actor: ManageKeys) -> list[KeyOut]:
    """All keys, newest first."""
    return [KeyOut.model_validate(_key_values(key)) for key in sites.keys(session)]


def _key_values(key: ApiKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in KeyOut.model_fields}


@router.post("/api/admin/keys", status_code=201)
def add_key(session: WriteDb, actor: ManageKeys, body: NewKey) -> MadeKey:
    """Make a key; the answer holds it this once."""
    key, token = sites.add_key(
        session,
        actor,
        sites.get(session, body.org_id),
        label=body.label,
        scopes=list(dict.fromkeys(body.scopes)),
        expires_at=_day_start(body.expires_on, 1),
    )
    return MadeKey(id=key.id, key=token)


@router.delete("/api/admin/keys/{key_id}", status_code=204)
def revoke_key(session: WriteDb, actor: ManageKeys, key_id: str) -> None:
    """End a key at once."""
    sites.revoke_key(session, actor, key_id)


# --- audit ------------------------------------------------------------------------------------------------------


class EntryOut(BaseModel):
    """One audit entry. Patients appear by row id only."""

    id: int
    at: datetime
    actor_kind: str
    actor_id: str
    actor_name: str
    actor_org_id: str | None
    ip: str
    action: str
    object_type: str
    object_id: str
    org_id: str | None
    patient_id: str | None
    detail: dict[str, Any]
    seal_no: int | None
    seal: str | None


class Entries(BaseModel):
    """A page of entries, newest first; `next` goes into `before` for the page after."""

    entries: list[EntryOut]
    next: int | None


def _blank_is_none(value: object) -> object:
    return None if value == "" else value


Day = Annotated[date | None, BeforeValidator(_blank_is_none)]
"""A date of a form, where an empty field arrives as an empty text."""


class AuditQuery(BaseModel):
    """What to look for."""

    person: str = Field("", max_length=60, description="Login, part of a name, or the id of an actor.")
    action: str = Field("", max_length=60, description="An action, or a family of them ending in a dot: `report.`")
    object_type: str = Field("", max_length=30)
    object_id: str = Field("", max_length=80)
    patient: str = Field("", max_length=26, description="Row id of a patient.")
    org: str = Field("", max_length=26, description="Id of the organisation of the data or of the actor.")
    since: Day = Field(None, description="First day, in the county's zone.")
    until: Day = Field(None, description="Last day, in the county's zone.")

    def address(self, **more: object) -> str:
        """As a query string."""
        return urlencode({k: str(v) for k, v in {**self.model_dump(exclude_none=True), **more}.items() if v})


class AuditPage(AuditQuery):
    """What to look for, and from where on."""

    before: int | None = Field(None, ge=1, le=MAX_ID)
    limit: int = Field(PAGE, ge=1, le=500)


def _day_start(day: date | None, add: int = 0) -> datetime | None:
    """Midnight of a day in the county's zone, `add` days later."""
    if day is None:
        return None
    try:
        return datetime.combine(day + timedelta(days=add), time(), ZoneInfo(get_settings().timezone)).astimezone()
    except OverflowError:
        return None


def _filter(session: Session, query: AuditQuery) -> search.Filter:
    text = query.person.strip()
    actors: tuple[str, ...] | None = None
    if text:
        like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        found = session.scalars(
            select(Person.id)
            .where(or_(Person.login == text.lower(), Person.name.like(like, escape="\\"), Person.id == text))
            .limit(200)
        )
        # The id of a machine, of the hub itself, or of somebody unknown.
        actors = tuple(found) or (text,)
    return search.Filter(
        actor_ids=actors,
        action=query.action.strip(),
        object_type=query.object_type.strip(),
        object_id=query.object_id.strip(),
        patient_id=query.patient.strip(),
        org_id=query.org,
        since=_day_start(query.since),
        until=_day_start(query.until, 1),
    )


def _entry_values(entry: AuditEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in EntryOut.model_fields}


@router.get("/admin/audit", include_in_schema=False, response_class=HTMLResponse)
def audit_page(request: Request, session: ReadDb, actor: ViewAudit, query: Annotated[AuditPage, Query()]) -> Response:
    """Search the audit log."""
    rows = search.find(session, _filter(session, query), before=query.before, limit=PAGE + 1)
    shown = rows[:PAGE]
    orgs = {org.id: org for org in sites.organisations(session)}
    plain = AuditQuery.model_validate(query.model_dump(exclude={"before", "limit"}))
    values = {
        "rows": shown,
        "query": plain,
        "orgs": orgs,
        "actions": ACTION_NAMES,
        "families": FAMILIES,
        "objects": OBJECT_NAMES,
        "standing": seal.standing(session),
        "address": plain.address(),
        "older": plain.address(before=shown[-1].id) if len(rows) > PAGE else "",
        "paged": query.before is not None,
        "filtered": bool(plain.address()),
        "stale": seal.STALE,
    }
    return render(request, "admin/audit.html", values)


@router.get("/api/admin/audit")
def list_audit(session: ReadDb, actor: ViewAudit, query: Annotated[AuditPage, Query()]) -> Entries:
    """Search the audit log, newest first."""
    rows = search.find(session, _filter(session, query), before=query.before, limit=query.limit + 1)
    more = len(rows) > query.limit
    rows = rows[: query.limit]
    return Entries(
        entries=[EntryOut.model_validate(_entry_values(row)) for row in rows], next=rows[-1].id if more else None
    )


@router.get("/api/admin/audit/export.csv", response_class=StreamingResponse)
def export_audit(actor: ViewAudit, query: Annotated[AuditQuery, Query()]) -> Response:
    """All entries that fit as CSV; the export itself is an entry."""
    with database().writing() as session:
        wanted = _filter(session, query)
        audit.record(
            session, actor, "audit.export", "audit_entry", "export", org_id=actor.org_id, filter=wanted.described()
        )
    settings = get_settings()
    name = f"audit-{clock.local(clock.now(), settings.timezone):%Y%m%d-%H%M%S}.csv"
    return StreamingResponse(
        search.as_csv(wanted, settings.timezone),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
