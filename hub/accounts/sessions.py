"""Server-side sessions and machine keys: how a request becomes an actor."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.accounts.models import LoginSession, Person
from hub.accounts.roles import Role
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.ids import new_secret
from hub.kit.settings import Settings
from hub.sites.models import ApiKey, Organisation

SESSION_COOKIE = "hub_session"
SIGNING_COOKIE = "hub_signing"
KEY_PREFIX = "hub_"


def digest(token: str) -> str:
    """SHA-256 of a random token, as kept in the database. Tokens have 256 random bits, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).hexdigest()


def start(
    session: Session, person: Person, *, ip: str, agent: str, settings: Settings, second_factor: bool
) -> tuple[str, LoginSession]:
    """Open a session for `person`; returns the cookie's token and the row."""
    token, now = new_secret(), clock.now()
    row = LoginSession(
        id=digest(token),
        person_id=person.id,
        created_at=now,
        last_action_at=now,
        expires_at=now + timedelta(hours=settings.session_hours),
        csrf=new_secret(24),
        ip=ip,
        agent=agent[:200],
        second_factor=second_factor,
    )
    session.add(row)
    return token, row


def find(session: Session, token: str, settings: Settings) -> tuple[LoginSession, Person, Organisation] | None:
    """The live session behind a cookie, with its person and organisation; None if it ended or they are inactive."""
    now = clock.now()
    row = session.execute(
        select(LoginSession, Person, Organisation)
        .join(Person, Person.id == LoginSession.person_id)
        .join(Organisation, Organisation.id == Person.org_id)
        .where(
            LoginSession.id == digest(token),
            LoginSession.expires_at > now,
            LoginSession.last_action_at > now - timedelta(minutes=settings.session_idle_minutes),
            Person.active,
            Organisation.active,
        )
    ).one_or_none()
    return None if row is None else (row[0], row[1], row[2])


def touch(session: Session, session_id: str) -> None:
    """Note a deliberate action, which extends the idle limit."""
    session.execute(update(LoginSession).where(LoginSession.id == session_id).values(last_action_at=clock.now()))


def actor_of(row: LoginSession, person: Person, organisation: Organisation, *, ip: str) -> Actor:
    """The actor that a session stands for; with no role at all until a first password was changed."""
    held = [] if person.must_change_password else person.roles
    return Actor(
        kind="person",
        id=person.id,
        name=person.name,
        org_id=person.org_id,
        org_kind=organisation.kind,
        roles=frozenset(role for role in held if role in set(Role)),
        session_id=row.id,
        ip=ip,
    )


def machine(session: Session, token: str, *, ip: str) -> Actor | None:
    """The machine behind an API key; None if the key is unknown, revoked or expired."""
    now = clock.now()
    found = session.execute(
        select(ApiKey, Organisation)
        .join(Organisation, Organisation.id == ApiKey.org_id)
        .where(ApiKey.sha256 == digest(token), ApiKey.revoked_at.is_(None), Organisation.active)
    ).one_or_none()
    if found is None or (found[0].expires_at is not None and found[0].expires_at <= now):
        return None
    key, organisation = found[0], found[1]
    return Actor(
        kind="machine",
        id=key.id,
        name=key.label or key.prefix,
        org_id=key.org_id,
        org_kind=organisation.kind,
        scopes=frozenset(key.scopes),
        ip=ip,
    )


def note_key_use(key_id: str) -> None:
    """Remember that a key was used; written at most once a minute, so that its requests need not wait for a writer."""
    now = clock.now()
    with database().reading() as session:
        used = session.scalar(select(ApiKey.last_used_at).where(ApiKey.id == key_id))
    if used is not None and now - used < timedelta(minutes=1):
        return
    with database().writing() as session:
        session.execute(update(ApiKey).where(ApiKey.id == key_id).values(last_used_at=now))


def of_person(session: Session, person_id: str, settings: Settings) -> list[LoginSession]:
    """A person's live sessions, the latest first."""
    now = clock.now()
    return list(
        session.scalars(
            select(LoginSession)
            .where(
                LoginSession.person_id == person_id,
                LoginSession.expires_at > now,
                LoginSession.last_action_at > now - timedelta(minutes=settings.session_idle_minutes),
            )
            .order_by(LoginSession.last_action_at.desc())
        )
    )


def csrf_matches(row: LoginSession, sent: str | None) -> bool:
    """Whether a request that changes something carries its session's token."""
    return bool(sent) and hmac.compare_digest(row.csrf.encode(), (sent or "").encode(errors="replace"))
