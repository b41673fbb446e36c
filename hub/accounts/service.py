"""Logging in and out, one's own account."""

from __future__ import annotations

import hmac
import unicodedata
from typing import Any

import pyotp
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from hub.accounts import passwords, sessions, throttle
from hub.accounts.models import LoginSession, Person
from hub.accounts.secrets import seal_secret, unseal_secret
from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Invalid, Unauthenticated
from hub.kit.i18n import _
from hub.kit.settings import Settings
from hub.sites.models import Organisation

TOTP_STEP = 30


class SecondFactorNeeded(Unauthenticated):
    """The password is right; the six digits of the authenticator are asked for."""

    code = "second-factor-needed"


def log_in(
    *, login: str, password: str, totp: str = "", ip: str, agent: str, settings: Settings
) -> tuple[str, LoginSession, Person]:
    """Open a session: `(cookie token, session, person)`.

    It keeps its own transactions, because a failure must be recorded although nothing else happens.

    Raises:
        TooMany: Too many failures of this name or from this address.
        SecondFactorNeeded: The password is right and the account has a second factor.
        Unauthenticated: Anything else is wrong; the answer does not tell what.
    """
    login = login.strip().lower()
    subjects = (f"login:{login}", f"ip:{ip}")
    throttle.check(*subjects, limit=settings.login_attempts)
    with database().reading() as session:
        person = session.scalars(select(Person).where(Person.login == login)).one_or_none()
        organisation = session.get(Organisation, person.org_id) if person else None
    right = passwords.matches(person.password_hash if person else passwords.dummy(), password)
    if not person or not organisation or not right or not person.active or not organisation.active:
        _refuse(login, subjects, ip, person, "password")
        raise Unauthenticated(_("用户名或密码不正确"), code="bad-login")
    step = None
    if person.totp_secret:
        if not totp:
            raise SecondFactorNeeded(_("请输入身份验证器上的 6 位数字"))
        step = _totp_step(person, totp)
        if step is None:
            _refuse(login, subjects, ip, person, "totp")
            raise Unauthenticated(_("6 位数字不正确或已过期"), code="bad-totp")
    replayed = False
    with database().writing() as session:
        # Held: of two who send the same six digits at once, one gets in.
        fresh = session.get_one(Person, person.id, with_for_update={"key_share": True})
        if fresh.password_hash != person.password_hash or not fresh.active:
            raise Unauthenticated(_("用户名或密码不正确"), code="bad-login")
        if step is not None:
            replayed = fresh.totp_last_step is not None and step <= fresh.totp_last_step
            fresh.totp_last_step = max(step, fresh.totp_last_step or 0)
        if not replayed:
            token, row = sessions.start(
                session, fresh, ip=ip, agent=agent, settings=settings, second_factor=step is not None
            )
            actor = sessions.actor_of(row, fresh, organisation, ip=ip)
            audit.record(session, actor, "session.start", "person", fresh.id, org_id=fresh.org_id)
    if replayed:
        _refuse(login, subjects, ip, person, "totp-again")
        raise Unauthenticated(_("6 位数字不正确或已过期"), code="bad-totp")
    throttle.succeeded(subjects[0])
    return token, row, fresh


def _refuse(login: str, subjects: tuple[str, ...], ip: str, person: Person | None, what: str) -> None:
    throttle.failed(*subjects)
    with database().writing() as session:
        actor = Actor(kind="anonymous", id="anonymous", ip=ip)
        audit.record(
            session,
            actor,
            "session.refused",
            "person",
            person.id if person else "unknown",
            org_id=person.org_id if person else None,
            what=what,
        )


def _totp_step(person: Person, code: str) -> int | None:
    """The time step that `code` belongs to (one step of clock error either way), or None. RFC 6238."""
    assert person.totp_secret
    totp = pyotp.TOTP(unseal_secret(person.totp_secret))
    now = int(clock.now().timestamp()) // TOTP_STEP
    # A Chinese keyboard gives full-width digits.
    code = "".join(unicodedata.normalize("NFKC", code).split())
    for step in (now, now - 1, now + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.encode(errors="replace")):
            return step
    return None


def log_out(session: Session, actor: Actor) -> None:
    """End the actor's session."""
    if actor.session_id:
        session.execute(delete(LoginSession).where(LoginSession.id == actor.session_id))
        audit.record(session, actor, "session.end", "person", actor.id, org_id=actor.org_id)


def check_own_password(actor: Actor, password: str, settings: Settings, *, field: str = "password") -> None:
    """Ask for the password again before something that an unattended browser must not do.

    It keeps its own transactions, like `log_in`: guessing is slowed down here as well.

    Raises:
        TooMany: Too many failures.
        Invalid: It is wrong; the message stands at `field`.
    """
    subject = f"own:{actor.id}"
    throttle.check(subject, limit=settings.login_attempts)
    with database().reading() as session:
        stored = session.get_one(Person, actor.id).password_hash
    if passwords.matches(stored, password):
        return
    throttle.failed(subject)
    with database().writing() as session:
        audit.record(session, actor, "person.refused", "person", actor.id, org_id=actor.org_id, what="password")
    words = _("原密码不正确") if field == "old" else _("密码不正确")
    raise Invalid(fields={field: words}, code="bad-password")


def change_password(session: Session, actor: Actor, *, old: str, new: str) -> None:
    """Change one's own password, after `check_own_password`; all other sessions of the person end.

    Raises:
        Invalid: The new one is weak, or the old one again; or the old one was taken away since it was checked.
    """
    person = session.get_one(Person, actor.id, with_for_update={"key_share": True})
    passwords.check_strength(new, login=person.login)
    if not passwords.matches(person.password_hash, old):
        raise Invalid(fields={"old": _("原密码不正确")}, code="bad-password")
    if old == new:
        raise Invalid(fields={"password": _("新密码不能与原密码相同")}, code="weak-password")
    person.password_hash = passwords.hash_password(new)
    person.must_change_password = False
    end_sessions(session, person.id, but=actor.session_id)
    audit.record(session, actor, "person.password", "person", person.id, org_id=person.org_id)


def end_session(session: Session, session_id: str) -> None:
    """End one session."""
    session.execute(delete(LoginSession).where(LoginSession.id == session_id))


def end_sessions(session: Session, person_id: str, *, but: str | None = None) -> None:
    """End a person's sessions, except `but`."""
    statement = delete(LoginSession).where(LoginSession.person_id == person_id)
    session.execute(statement.where(LoginSession.id != but) if but else statement)


def offer_totp(session: Session, actor: Actor, settings: Settings) -> dict[str, Any]:
    """A fresh second-factor secret to scan: `{"secret", "uri"}`. It counts once `confirm_totp` has seen a code."""
    person = session.get_one(Person, actor.id)
    secret = pyotp.random_base32()
    return {
        "secret": secret,
        "uri": pyotp.TOTP(secret).provisioning_uri(name=person.login, issuer_name=settings.county_name),
    }


def confirm_totp(session: Session, actor: Actor, *, secret: str, code: str) -> None:
    """Turn the second factor on.

    Raises:
        Conflict: It is on already.
        Invalid: The code does not belong to the secret now.
    """
    person = session.get_one(Person, actor.id, with_for_update={"key_share": True})
    if person.totp_secret:
        # Another secret in its place would turn this one off without the password.
        raise Conflict(_("页面已过期,请刷新后再试"), code="totp-on")
    try:
        right = pyotp.TOTP(secret).verify(code, valid_window=1, for_time=clock.now())
    except ValueError:  # not base32
        right = False
    if not right:
        raise Invalid(fields={"code": _("6 位数字不正确或已过期")}, code="bad-totp")
    person.totp_secret = seal_secret(secret)
    person.totp_last_step = int(clock.now().timestamp()) // TOTP_STEP
    audit.record(session, actor, "person.totp-on", "person", person.id, org_id=person.org_id)


def end_other_sessions(session: Session, actor: Actor) -> None:
    """Log out everywhere but here."""
    end_sessions(session, actor.id, but=actor.session_id)
    audit.record(session, actor, "session.end-others", "person", actor.id, org_id=actor.org_id)


def drop_totp(session: Session, actor: Actor) -> None:
    """Turn the second factor off, after `check_own_password`."""
    person = session.get_one(Person, actor.id)
    person.totp_secret, person.totp_last_step = None, None
    audit.record(session, actor, "person.totp-off", "person", person.id, org_id=person.org_id)


def set_locale(session: Session, actor: Actor, locale: str) -> None:
    """Remember the person's language."""
    session.get_one(Person, actor.id).locale = "en" if locale == "en" else "zh"
