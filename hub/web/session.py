"""Login, logout, one's own account."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

import segno
from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, Field

from hub.accounts import service, sessions
from hub.accounts.roles import Permission as P
from hub.accounts.roles import Role
from hub.accounts.sessions import SESSION_COOKIE, SIGNING_COOKIE
from hub.kit.actor import ANONYMOUS, Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, public, require
from hub.kit.errors import TooMany, Unauthenticated
from hub.kit.i18n import LOCALE_COOKIE
from hub.kit.settings import get_settings
from hub.web.auth import client_ip
from hub.web.pages import navigation, render

router = APIRouter(tags=["session"])

HOMES = (
    (Role.REVIEWER, "/queue"),
    (Role.REPORTER, "/queue"),
    (Role.TECHNOLOGIST, "/clinic"),
    (Role.CLINICIAN, "/clinic/inbox"),
    (Role.DIRECTOR, "/queue"),
    (Role.QUALITY, "/verify-identity"),
    (Role.ADMINISTRATOR, "/turnaround"),
    (Role.OPERATOR, "/system"),
)


def home_of(actor: Actor) -> str:
    """The page where the actor's day begins."""
    return next((href for role, href in HOMES if actor.has(role)), "/account")


def _safe_next(target: str) -> str:
    parts = urlsplit(target)
    # `//host` and `/\host` are other hosts to a browser.
    if parts.scheme or parts.netloc or not target.startswith("/") or target[1:2] in ("/", "\\"):
        return ""
    return target


def _end_former(request: Request) -> None:
    """A browser that logs in anew leaves no older session of its own behind."""
    former = getattr(request.state, "login_session", None)
    if former is not None:
        with database().writing() as session:
            service.end_session(session, former.id)


def set_session_cookie(response: Response, token: str) -> None:
    """Give the browser its session: HttpOnly, SameSite, over TLS where the hub is."""
    settings = get_settings()
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=settings.session_hours * 3600,
        httponly=True,
        samesite="lax",
        secure=bool(settings.secure_cookies),
    )


@router.get("/", include_in_schema=False)
def home(request: Request, actor: Annotated[Actor, public()]) -> Response:
    """To where the day begins, or to the login."""
    return RedirectResponse("/login" if actor is ANONYMOUS else home_of(actor), 303)


@router.get("/login", include_in_schema=False, response_class=HTMLResponse)
def login_page(request: Request, actor: Annotated[Actor, public()], next: str = "") -> Response:
    """The login page."""
    if actor is not ANONYMOUS:
        return RedirectResponse(_safe_next(next) or home_of(actor), 303)
    return render(request, "session/login.html", {"error": None, "login": "", "next": _safe_next(next), "ask": False})


@router.post("/login", include_in_schema=False, response_class=HTMLResponse)
def log_in(
    request: Request,
    actor: Annotated[Actor, public()],
    login: Annotated[str, Form(max_length=60)] = "",
    password: Annotated[str, Form(max_length=200)] = "",
    totp: Annotated[str, Form(max_length=10)] = "",
    next: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """Log in by the page's form."""
    try:
        token, _row, person = service.log_in(
            login=login,
            password=password,
            totp=totp,
            ip=client_ip(request),
            agent=request.headers.get("user-agent", ""),
            settings=get_settings(),
        )
    except (Unauthenticated, TooMany) as error:
        ask = isinstance(error, service.SecondFactorNeeded) or error.code == "bad-totp"
        values = {"error": error, "login": login, "next": _safe_next(next), "ask": ask}
        return render(request, "session/login.html", values, status=error.status)
    _end_former(request)
    if person.must_change_password:
        target = "/account"
    else:
        target = _safe_next(next) or home_of(Actor(kind="person", id=person.id, roles=frozenset(person.roles)))
    response = RedirectResponse(target, 303)
    set_session_cookie(response, token)
    return response


@router.post("/logout", include_in_schema=False)
def log_out(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)]) -> Response:
    """End the session."""
    service.log_out(session, actor)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE)
    response.delete_cookie(SIGNING_COOKIE)
    return response


class Credentials(BaseModel):
    """What a program logs in with."""

    login: str = Field(max_length=60)
    password: str = Field(max_length=200)
    totp: str = Field("", max_length=10, description="Six digits, where the account has a second factor.")

    model_config = {"json_schema_extra": {"examples": [{"login": "zhang.wei", "password": "…", "totp": ""}]}}


class LoggedIn(BaseModel):
    """The session that was opened. The cookie comes beside it; `csrf` goes into `X-CSRF-Token` of every change."""

    csrf: str
    person_id: str
    name: str
    roles: list[str]
    org_id: str
    must_change_password: bool = Field(description="Until it is changed nothing but the account is open.")


@router.post("/api/session", tags=["session"])
def open_session(
    request: Request, actor: Annotated[Actor, public()], body: Credentials, response: Response
) -> LoggedIn:
    """Log in for programs: sets the session cookie and gives the CSRF token."""
    token, row, person = service.log_in(
        login=body.login,
        password=body.password,
        totp=body.totp,
        ip=client_ip(request),
        agent=request.headers.get("user-agent", ""),
        settings=get_settings(),
    )
    _end_former(request)
    set_session_cookie(response, token)
    return LoggedIn(
        csrf=row.csrf,
        person_id=person.id,
        name=person.name,
        roles=person.roles,
        org_id=person.org_id,
        must_change_password=person.must_change_password,
    )


@router.get("/account", include_in_schema=False, response_class=HTMLResponse)
def account(request: Request, session: ReadDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)]) -> Response:
    """One's own account."""
    person = request.state.person
    values = {
        "role_codes": [role for role in Role if role in person.roles],
        "sessions": sessions.of_person(session, actor.id, get_settings()),
        "here": actor.session_id,
        "device": device,
    }
    return render(request, "session/account.html", values)


def device(agent: str) -> str:
    """What a User-Agent says in two words: browser and system, or its first word."""
    browser = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return " · ".join(part for part in (browser, system) if part) or agent.split("/", maxsplit=1)[0][:30] or "—"


# Order matters: Edge also calls itself Chrome, and Chrome calls itself Safari.
_BROWSERS = (("Edg/", "Edge"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("Mac OS", "macOS"),
    ("Linux", "Linux"),
)


@router.get("/nav", include_in_schema=False, response_class=HTMLResponse)
def nav(request: Request, actor: Annotated[Actor, require(P.ACCOUNT_SELF, passive=True)], at: str = "/") -> Response:
    """The application bar's entries, fetched again when something moved."""
    return render(request, "_nav.html", {"nav": lambda: navigation(actor, at), "at": at})


class PasswordChange(BaseModel):
    """Old and new password."""

    old: str = Field(max_length=200)
    password: str = Field(max_length=200)

    model_config = {"json_schema_extra": {"examples": [{"old": "abcd-efgh-jkmn-pqrs", "password": "…"}]}}


@router.post("/api/account/password", status_code=204)
def change_password(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)], body: PasswordChange) -> None:
    """Change one's own password; all other sessions end."""
    service.check_own_password(actor, body.old, get_settings(), field="old")
    service.change_password(session, actor, old=body.old, new=body.password)


@router.delete("/api/account/sessions", status_code=204)
def end_other_sessions(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)]) -> None:
    """Log out everywhere but here."""
    service.end_other_sessions(session, actor)


class TotpOffer(BaseModel):
    """A secret to scan; `svg` is its QR code."""

    secret: str
    uri: str
    svg: str


class TotpCode(BaseModel):
    """The secret offered and a code that proves it was scanned."""

    secret: str = Field(max_length=64)
    code: str = Field(max_length=10)


class PasswordAgain(BaseModel):
    """The password, asked for again."""

    password: str = Field(max_length=200)


@router.post("/api/account/totp")
def offer_totp(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)]) -> TotpOffer:
    """Begin to turn the second factor on."""
    offer = service.offer_totp(session, actor, get_settings())
    return TotpOffer(**offer, svg=segno.make(offer["uri"]).svg_inline(scale=4, border=2))


@router.put("/api/account/totp", status_code=204)
def confirm_totp(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)], body: TotpCode) -> None:
    """Turn the second factor on."""
    service.confirm_totp(session, actor, secret=body.secret, code=body.code)


@router.delete("/api/account/totp", status_code=204)
def drop_totp(session: WriteDb, actor: Annotated[Actor, require(P.ACCOUNT_SELF)], body: PasswordAgain) -> None:
    """Turn the second factor off."""
    service.check_own_password(actor, body.password, get_settings())
    service.drop_totp(session, actor)


class LocaleChoice(BaseModel):
    """`zh` or `en`."""

    locale: Literal["zh", "en"]


@router.put("/api/locale", status_code=204)
def set_locale(
    request: Request, session: WriteDb, actor: Annotated[Actor, public()], body: LocaleChoice, response: Response
) -> None:
    """Choose the language: for this browser, and for the person if one is logged in."""
    locale = body.locale
    if actor.kind == "person":
        service.set_locale(session, actor, locale)
    response.set_cookie(
        LOCALE_COOKIE, locale, max_age=31_536_000, samesite="lax", secure=bool(get_settings().secure_cookies)
    )
