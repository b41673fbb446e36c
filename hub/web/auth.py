"""How a request becomes an actor: session cookie with CSRF token, or `Authorization: Bearer` of a machine."""

from __future__ import annotations

from datetime import timedelta

from fastapi import Request
from sqlalchemy.exc import OperationalError

from hub.accounts import sessions
from hub.accounts.roles import ANYBODY, permissions_of
from hub.kit import clock, live
from hub.kit.actor import ANONYMOUS, Actor
from hub.kit.db import database
from hub.kit.errors import Forbidden, Unauthenticated
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings

log = get_logger(__name__)
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-csrf-token"


def client_ip(request: Request) -> str:
    """The peer's address; uvicorn has already applied X-Forwarded-For of trusted proxies."""
    return request.client.host if request.client else ""


def authenticate(request: Request, passive: bool) -> Actor:
    """The actor of `request`; ANONYMOUS where it carries neither a session nor a key.

    Raises:
        Unauthenticated: A key was sent and is not valid.
        Forbidden: A request that changes something carries no CSRF token of its session.
    """
    ip = client_ip(request)
    scheme, _space, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with database().reading() as session:
            machine = sessions.machine(session, token.strip(), ip=ip)
        if machine is None:
            raise Unauthenticated(_("API 密钥无效、已停用或已过期"), code="bad-key")
        sessions.note_key_use(machine.id)
        return machine
    cookie = request.cookies.get(sessions.SESSION_COOKIE)
    if not cookie:
        return ANONYMOUS
    settings = get_settings()
    with database().reading() as session:
        if "text/html" in request.headers.get("accept", ""):
            # Before the page's own queries: what changes from here on is told to it.
            request.state.live_since = live.newest(session)
        found = sessions.find(session, cookie, settings)
        if found is None:
            return ANONYMOUS
        row, person, organisation = found
        actor = sessions.actor_of(row, person, organisation, ip=ip)
    request.state.login_session = row
    request.state.person = person
    request.state.organisation = organisation
    # An error page has the bar of whoever is refused.
    request.state.actor = actor
    if request.method not in SAFE_METHODS and not (
        sessions.csrf_matches(row, request.headers.get(CSRF_HEADER)) or _plain_form_of_ours(request)
    ):
        raise Forbidden(_("页面已过期,请刷新后再试"), code="csrf")
    # Written at most once a minute: a page's every request must not wait for the database's writer.
    if not passive and clock.now() - row.last_action_at > timedelta(minutes=1):
        try:
            with database().writing() as session:
                sessions.touch(session, row.id)
        except OperationalError as error:
            # Reading goes on where nothing can be written for the moment.
            log.warning("the session was not extended", kind=type(error).__name__)
    return actor


def _plain_form_of_ours(request: Request) -> bool:
    """A form that a browser sent from our own page without a script: it names its origin, and cannot choose it."""
    kind = request.headers.get("content-type", "").partition(";")[0]
    origin = request.headers.get("origin", "")
    return (
        kind == "application/x-www-form-urlencoded"
        and bool(origin)
        and origin.partition("://")[2] == request.headers.get("host", "")
    )


def granted(actor: Actor) -> frozenset[str]:
    """Permissions of an actor. A person whose first password waits to be changed has no role, but his account."""
    own = ANYBODY if actor.kind == "person" else frozenset()
    return frozenset(p.value for p in permissions_of(actor.roles, actor.scopes) | own)
