"""JSON API of critical values: flagging, receiving, the record, contacts, the county's rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import LOCALE_COOKIE, pick_locale, use_locale
from hub.reports.critical import classes, contacts, repository, service
from hub.reports.critical.classes import SETTING
from hub.reports.critical.models import CriticalValue
from hub.reports.critical.moment import now as moment
from hub.reports.critical.schemas import (
    ActionBody,
    CallBody,
    ClassesAnswer,
    ContactsAnswer,
    ContactsBody,
    CriticalAnswer,
    CriticalsAnswer,
    DetailAnswer,
    FlagBody,
    PhoneBody,
    RulesBody,
    TextBody,
    classes_of,
    contact_of,
    critical_of,
    entry_of,
    message_of,
    phone_of,
)
from hub.sites import service as sites

router = APIRouter(prefix="/api", tags=["critical values"])

Viewer = Annotated[Actor, require(P.CRITICAL_VIEW, people=True)]
Flagger = Annotated[Actor, require(P.CRITICAL_FLAG, people=True)]
Caller = Annotated[Actor, require(P.CRITICAL_CALL, people=True)]
Receiver = Annotated[Actor, require(P.CRITICAL_RECEIVE, people=True)]
Either = Annotated[Actor, require(P.CRITICAL_CALL, P.CRITICAL_RECEIVE, people=True)]
Keeper = Annotated[Actor, require(P.CRITICAL_CONTACTS, people=True)]
Setter = Annotated[Actor, require(P.CRITICAL_SETTINGS, people=True)]


def _said(request: Request, row: CriticalValue) -> CriticalAnswer:
    with use_locale(pick_locale(request.cookies.get(LOCALE_COOKIE))):
        return critical_of(row)


@router.get("/critical/classes", summary="What may be flagged")
def list_classes(request: Request, session: ReadDb, actor: Viewer) -> ClassesAnswer:
    """The thirteen national classes and the county's additions."""
    del actor
    with use_locale(pick_locale(request.cookies.get(LOCALE_COOKIE))):
        return classes_of(classes.load(session))


@router.put("/critical/rules", summary="The county's classes and timers")
def set_rules(body: RulesBody, request: Request, session: WriteDb, actor: Setter) -> ClassesAnswer:
    """Written whole; procedures that run keep the times they began with."""
    said = body.model_dump(exclude_none=True)
    rules = classes.parse(classes.to_json(classes.load(session)) | said)
    sites.set_county_setting(session, actor, SETTING, classes.to_json(rules))
    with use_locale(pick_locale(request.cookies.get(LOCALE_COOKIE))):
        return classes_of(rules)


@router.get("/critical/contacts/{org_id}", summary="Whom to ring, in order")
def get_contacts(org_id: str, session: ReadDb, actor: Keeper) -> ContactsAnswer:
    """Contacts of a clinic, duty officers of a hospital or of the hub."""
    org = contacts.kept_org(session, actor, org_id)
    return ContactsAnswer(contacts=[contact_of(row) for row in contacts.of_org(session, org.id)])


@router.put("/critical/contacts/{org_id}", summary="Write whom to ring")
def put_contacts(org_id: str, body: ContactsBody, session: WriteDb, actor: Keeper) -> ContactsAnswer:
    """The whole list, in order."""
    rows = contacts.set_contacts(session, actor, org_id, [entry.model_dump() for entry in body.contacts])
    return ContactsAnswer(contacts=[contact_of(row) for row in rows])


@router.get("/critical", summary="Critical values: open ones, or all")
def list_criticals(
    request: Request,
    session: ReadDb,
    actor: Viewer,
    everything: Annotated[bool, Query(alias="all", description="Not only the open ones.")] = False,
    q: Annotated[str, Query(max_length=60)] = "",
    class_code: Annotated[str, Query(max_length=30)] = "",
    before: AwareDatetime | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> CriticalsAnswer:
    """Within what the actor may know; open ones by urgency, all of them newest first."""
    if everything or q or class_code or before:
        rows = repository.history(session, actor, text=q, class_code=class_code, before=before, limit=limit)
    else:
        rows = repository.open_ones(session, actor, limit=limit)
    return CriticalsAnswer(now=moment(session), criticals=[_said(request, row) for row in rows])


@router.post("/exams/{exam_id}/critical", summary="Flag a critical value", status_code=201)
def flag(exam_id: str, body: FlagBody, request: Request, session: WriteDb, actor: Flagger) -> CriticalAnswer:
    """Alarms the clinic at once. Sent twice, it answers with the same procedure."""
    row = service.flag(
        session,
        actor,
        exam_id,
        class_code=body.class_code,
        finding=body.finding,
        discovered_at=body.discovered_at,
        minutes_ago=body.minutes_ago,
    )
    return _said(request, row)


@router.get("/critical/{critical_id}", summary="One critical value with its record")
def detail(critical_id: str, request: Request, session: ReadDb, actor: Viewer) -> DetailAnswer:
    """Record, messages and numbers to ring."""
    row = repository.get(session, actor, critical_id)
    return _detail(request, session, row)


def _detail(request: Request, session: Session, row: CriticalValue) -> DetailAnswer:
    return DetailAnswer(
        **_said(request, row).model_dump(),
        entries=[entry_of(entry) for entry in repository.entries(session, row.id)],
        messages=[message_of(message) for message in repository.messages(session, row.id)],
        phones=[phone_of(phone) for phone in contacts.phones_of(session, row, moment(session))],
    )


@router.post("/critical/{critical_id}/read-back", summary="Receive it, reading back what was found")
def read_back(critical_id: str, body: TextBody, request: Request, session: WriteDb, actor: Receiver) -> CriticalAnswer:
    """By a person of the clinic, for himself. 409 `already-received` names who was first."""
    return _said(request, service.read_back(session, actor, critical_id, body.text))


@router.post("/critical/{critical_id}/confirm", summary="The read-back matches")
def confirm(critical_id: str, request: Request, session: WriteDb, actor: Caller) -> CriticalAnswer:
    """Both sides have signed."""
    return _said(request, service.confirm(session, actor, critical_id))


@router.post("/critical/{critical_id}/ask-again", summary="The read-back does not match")
def ask_again(critical_id: str, body: TextBody, request: Request, session: WriteDb, actor: Caller) -> CriticalAnswer:
    """The alarm rings again."""
    return _said(request, service.ask_again(session, actor, critical_id, body.text))


@router.post("/critical/{critical_id}/phone", summary="Read back on the phone")
def phone(critical_id: str, body: PhoneBody, request: Request, session: WriteDb, actor: Caller) -> CriticalAnswer:
    """By a named person of the clinic, heard by the caller."""
    row = service.phone(
        session,
        actor,
        critical_id,
        receiver=body.receiver,
        role=body.role,
        number=body.number,
        read_back=body.read_back,
    )
    return _said(request, row)


@router.post("/critical/{critical_id}/calls", summary="Record a call", status_code=201)
def call(critical_id: str, body: CallBody, request: Request, session: WriteDb, actor: Either) -> CriticalAnswer:
    """An attempt, whatever its result; it acknowledges nothing."""
    row = service.call(
        session,
        actor,
        critical_id,
        whom=body.whom,
        name=body.name,
        number=body.number,
        result=body.result,
        note=body.note,
    )
    return _said(request, row)


@router.post("/critical/{critical_id}/actions", summary="Record what the clinic did", status_code=201)
def act(critical_id: str, body: ActionBody, request: Request, session: WriteDb, actor: Either) -> CriticalAnswer:
    """As often as there is something to record."""
    return _said(request, service.act(session, actor, critical_id, action=body.action, note=body.note))


@router.post("/critical/{critical_id}/close", summary="Close it")
def close(critical_id: str, body: TextBody, request: Request, session: WriteDb, actor: Either) -> CriticalAnswer:
    """409 `no-action` where nothing was done yet."""
    return _said(request, service.close(session, actor, critical_id, body.text))


@router.post("/critical/{critical_id}/withdraw", summary="Withdraw it")
def withdraw(critical_id: str, body: TextBody, request: Request, session: WriteDb, actor: Caller) -> CriticalAnswer:
    """With a reason; the clinic is told."""
    return _said(request, service.withdraw(session, actor, critical_id, body.text))


@router.post("/critical/{critical_id}/withdrawal-seen", summary="The clinic knows that it was withdrawn")
def see_withdrawal(critical_id: str, request: Request, session: WriteDb, actor: Receiver) -> CriticalAnswer:
    """Takes the notice off the clinic's pages."""
    return _said(request, service.see_withdrawal(session, actor, critical_id))
