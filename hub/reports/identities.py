"""People's signing certificates: issued by the hub's CA or imported, opened with a PIN once per session.

Deriving a key from a PIN takes a tenth of a second by design, so it never happens inside a transaction: every function
here that needs a PIN opens its own transactions around it, and wrong PINs are counted in one that is committed whatever
happens next.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.accounts.models import LoginFailure, LoginSession, Person
from hub.accounts.roles import ROLE_NAMES, Role
from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound, TooMany
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.kit.settings import Settings, get_settings
from hub.kit.turns import one_at_a_time
from hub.reports.models import CertificateAuthority, SigningIdentity
from hub.reports.signing import ca, pkcs12
from hub.reports.signing.signer import (
    KeyLocked,
    SealedKey,
    Standing,
    UnlockedKey,
    WrongPin,
    change_pin,
    check_pin,
    describe,
    open_session,
    reseal_for_session,
    unlock,
)
from hub.reports.signing.verify import TrustRoot
from hub.sites.models import Organisation

PIN_ATTEMPTS = 5
PIN_PAUSE = timedelta(minutes=15)
_CA_ROW = 1


@dataclass(frozen=True, slots=True)
class Opened:
    """A key opened for a session: what the browser's second cookie must hold, and until when at most."""

    cookie: str
    until: datetime


@dataclass(frozen=True, slots=True)
class SigningState:
    """How a person's signing stands in his session."""

    unlocked: bool
    until: datetime | None
    idle_until: datetime | None


# --- the hub's own CA ---------------------------------------------------------------------------------------------


def ensure_ca(settings: Settings | None = None) -> SealedKey:
    """The hub's CA, made on first need. Two processes may make one; the first to store it wins."""
    settings = settings or get_settings()
    with database().reading() as session:
        if (found := _ca(session)) is not None:
            return found
    made = ca.create_ca(
        f"{settings.county_name}影像中心自建CA",
        f"{settings.county_name}县域医共体",
        ca.passphrase(settings.secret()),
        now=clock.now(),
    )
    try:
        with database().writing() as session:
            if (found := _ca(session)) is not None:
                return found
            session.add(
                CertificateAuthority(
                    id=_CA_ROW,
                    certificate_pem=ca.to_pem(made.certificate).decode(),
                    sealed_key={"sealed": made.to_json()},
                    created_at=clock.now(),
                )
            )
            audit.record(session, SYSTEM, "signing.ca-created", "certificate_authority", str(_CA_ROW))
    except IntegrityError:
        with database().reading() as session:
            found = _ca(session)
        if found is None:
            raise
        return found
    return made


def _ca(session: Session) -> SealedKey | None:
    row = session.get(CertificateAuthority, _CA_ROW)
    return SealedKey.from_json(row.sealed_key["sealed"]) if row else None


def ca_certificate(session: Session) -> bytes | None:
    """The CA's certificate, PEM; None while nobody has needed it."""
    row = session.get(CertificateAuthority, _CA_ROW)
    return row.certificate_pem.encode() if row else None


def trust_roots(session: Session) -> list[TrustRoot]:
    """Certificates that a report's signature may lead to, and what each stands for."""
    roots: dict[bytes, TrustRoot] = {}
    own = _ca(session)
    if own is not None:
        roots[own.certificate] = TrustRoot(own.certificate, Standing.HUB_CA)
    for row in session.scalars(select(SigningIdentity).where(SigningIdentity.standing != Standing.HUB_CA.value)):
        sealed = SealedKey.from_json(row.sealed_key["sealed"])
        root = sealed.chain[-1] if sealed.chain else sealed.certificate
        roots.setdefault(root, TrustRoot(root, sealed.standing))
    return list(roots.values())


_lists: dict[str, tuple[int, datetime, bytes]] = {}


def revocation_list(settings: Settings | None = None) -> bytes | None:
    """The CA's list of revoked certificates, DER; None while there is no CA. Made anew after a revocation or a day."""
    settings = settings or get_settings()
    with database().reading() as session:
        sealed = _ca(session)
        if sealed is None:
            return None
        rows = session.execute(
            select(SigningIdentity.serial, SigningIdentity.revoked_at, SigningIdentity.revoked_reason).where(
                SigningIdentity.revoked_at.is_not(None), SigningIdentity.standing == Standing.HUB_CA.value
            )
        ).all()
    name, now = sealed.certificate.hex()[-64:], clock.now()
    kept = _lists.get(name)
    if kept is not None and kept[0] == len(rows) and kept[1] > now - timedelta(days=1):
        return kept[2]
    key = ca.open_ca(sealed, ca.passphrase(settings.secret()))
    # A list counts whole seconds. Rounded up, so that what was signed in the same second stands as signed before: after
    # the revocation the hub itself no longer lets the key sign.
    entries = [
        ca.Revocation(row[0], (row[1] + timedelta(seconds=1)).replace(microsecond=0), _reason(row[2]))
        for row in rows
        if row[1] is not None
    ]
    made = ca.revocation_list(key, entries, number=int(now.timestamp()), now=now)
    _lists[name] = (len(rows), now, made)
    return made


def _reason(text: str) -> ca.RevocationReason:
    return ca.RevocationReason(text) if text in set(ca.RevocationReason) else ca.RevocationReason.UNSPECIFIED


# --- wrong PINs ---------------------------------------------------------------------------------------------------


def _begin_attempt(actor: Actor) -> str:
    """Count an attempt before it is made, so that guessing in parallel gains nothing.

    Raises:
        TooMany: Too many wrong PINs in the last quarter of an hour.
    """
    with database().writing() as session:
        attempt = _count_attempt(session, actor)
    if attempt is not None:
        return attempt
    raise TooMany(
        _("签名密码错误次数过多,请 {n} 分钟后再试").format(n=int(PIN_PAUSE.total_seconds() // 60)),
        code="pin-throttled",
    )


def _count_attempt(session: Session, actor: Actor) -> str | None:
    subject, now = f"pin:{actor.id}", clock.now()
    one_at_a_time(session, subject)
    tried = session.scalar(
        select(func.count())
        .select_from(LoginFailure)
        .where(LoginFailure.subject == subject, LoginFailure.at > now - PIN_PAUSE)
    )
    if (tried or 0) >= PIN_ATTEMPTS:
        return None
    attempt = LoginFailure(id=new_id(), subject=subject, at=now)
    session.add(attempt)
    return attempt.id


def _end_attempt(actor: Actor, attempt: str, identity_id: str, *, right: bool) -> None:
    with database().writing() as session:
        if right:
            row = session.get(LoginFailure, attempt)
            if row is not None:
                session.delete(row)
        else:
            audit.record(session, actor, "signing.wrong-pin", "signing_identity", identity_id, org_id=actor.org_id)


def _open(actor: Actor, identity_id: str, sealed: SealedKey, pin: str, settings: Settings) -> UnlockedKey:
    attempt = _begin_attempt(actor)
    try:
        key = unlock(sealed, pin, pepper=ca.pepper(settings.secret()))
    except WrongPin:
        _end_attempt(actor, attempt, identity_id, right=False)
        raise
    _end_attempt(actor, attempt, identity_id, right=True)
    return key


# --- certificates of people ---------------------------------------------------------------------------------------


def identities(session: Session, actor: Actor) -> list[SigningIdentity]:
    """The actor's certificates, newest first."""
    return list(
        session.scalars(
            select(SigningIdentity)
            .where(SigningIdentity.person_id == actor.id)
            .order_by(SigningIdentity.created_at.desc(), SigningIdentity.id.desc())
        )
    )


def usable(session: Session, actor: Actor, identity_id: str | None = None) -> SigningIdentity:
    """The certificate that signs: the newest valid one, or the one asked for.

    Raises:
        Conflict: `no-certificate`.
    """
    now = clock.now()
    for row in identities(session, actor):
        if row.revoked_at is None and row.valid_from <= now < row.valid_until and identity_id in (None, row.id):
            return row
    raise Conflict(_("您还没有有效的签名证书,请先在“签名证书”页申领或导入"), code="no-certificate")


def _own(session: Session, actor: Actor, identity_id: str) -> SigningIdentity:
    row = session.get(SigningIdentity, identity_id)
    if row is None or row.person_id != actor.id:
        raise NotFound(_("没有找到这张证书"))
    return row


def issue(actor: Actor, pin: str, settings: Settings | None = None) -> SigningIdentity:
    """Issue a certificate by the hub's CA, its key sealed under `pin`; earlier ones of the CA are revoked.

    Raises:
        WeakPin: Fewer than six digits, or too easily guessed.
        Forbidden: The person signs no reports.
    """
    settings = settings or get_settings()
    if not actor.has(Role.REPORTER, Role.REVIEWER):
        raise Forbidden()
    check_pin(pin)
    with database().reading() as session:
        person = session.get_one(Person, actor.id)
        organisation = session.get_one(Organisation, person.org_id)
        role = Role.REVIEWER if Role.REVIEWER in person.roles else Role.REPORTER
        subject = ca.Subject(person.name, organisation.name, person.login, str(ROLE_NAMES[role]))
    authority = ca.open_ca(ensure_ca(settings), ca.passphrase(settings.secret()))
    sealed = ca.issue(authority, subject, pin, now=clock.now(), pepper=ca.pepper(settings.secret()))
    with database().writing() as session:
        _alone(session, actor)
        for old in identities(session, actor):
            if old.standing == Standing.HUB_CA.value and old.revoked_at is None:
                _revoke(session, actor, old, ca.RevocationReason.SUPERSEDED)
        return _store(session, actor, sealed, "signing.issue")


def import_p12(actor: Actor, data: bytes, password: str, pin: str, settings: Settings | None = None) -> SigningIdentity:
    """Take over a certificate that the person already has; once more, it gets the new PIN.

    Raises:
        Conflict: It was revoked.
        Pkcs12Error, WeakPin: See hub.reports.signing.pkcs12.
        Forbidden: The person signs no reports.
    """
    settings = settings or get_settings()
    if not actor.has(Role.REPORTER, Role.REVIEWER):
        raise Forbidden()
    sealed = pkcs12.import_pkcs12(data, password, pin, now=clock.now(), pepper=ca.pepper(settings.secret()))
    with database().writing() as session:
        _alone(session, actor)
        same = session.scalars(
            select(SigningIdentity).where(SigningIdentity.certificate_pem == ca.to_pem(sealed.certificate).decode())
        ).all()
        if any(row.revoked_at is not None for row in same):
            raise Conflict(_("这张证书已经吊销"), code="certificate-revoked")
        own = next((row for row in same if row.person_id == actor.id), None)
        if own is None:
            return _store(session, actor, sealed, "signing.import")
        # One row for one certificate: a second one would go on signing when the first is revoked.
        own.sealed_key, own.created_at = {"sealed": sealed.to_json()}, clock.now()
        audit.record(
            session, actor, "signing.import", "signing_identity", own.id, org_id=actor.org_id, serial=own.serial
        )
        _lock(session, actor)
        return own


def _alone(session: Session, actor: Actor) -> None:
    """One change of a person's certificates at a time: two at once would each miss the other's."""
    one_at_a_time(session, f"certificates:{actor.id}")


def _store(session: Session, actor: Actor, sealed: SealedKey, action: str) -> SigningIdentity:
    info = describe(sealed.certificate)
    row = SigningIdentity(
        id=new_id(),
        person_id=actor.id,
        standing=sealed.standing.value,
        certificate_pem=ca.to_pem(sealed.certificate).decode(),
        chain_pem="".join(ca.to_pem(part).decode() for part in sealed.chain),
        sealed_key={"sealed": sealed.to_json()},
        serial=info.serial,
        valid_from=info.not_before,
        valid_until=info.not_after,
        created_at=clock.now(),
    )
    session.add(row)
    audit.record(session, actor, action, "signing_identity", row.id, org_id=actor.org_id, serial=info.serial)
    _lock(session, actor)
    return row


def set_pin(actor: Actor, identity_id: str, old: str, new: str, settings: Settings | None = None) -> SigningIdentity:
    """Seal a key under another PIN.

    Raises:
        WrongPin, WeakPin, TooMany: The old PIN is wrong, the new one too weak, or guessing was stopped.
    """
    settings = settings or get_settings()
    with database().reading() as session:
        row = _own(session, actor, identity_id)
        if row.revoked_at is not None:
            raise Conflict(_("这张证书已经吊销"), code="certificate-revoked")
        sealed = SealedKey.from_json(row.sealed_key["sealed"])
    check_pin(new)
    _open(actor, identity_id, sealed, old, settings)
    changed = change_pin(sealed, old, new, pepper=ca.pepper(settings.secret()))
    with database().writing() as session:
        row = _own(session, actor, identity_id)
        row.sealed_key = {"sealed": changed.to_json()}
        audit.record(session, actor, "signing.pin", "signing_identity", row.id, org_id=actor.org_id)
        return row


def revoke(session: Session, actor: Actor, identity_id: str, reason: str = "unspecified") -> SigningIdentity:
    """Revoke a certificate of one's own. Reports that it signed stay valid, unless its key was compromised.

    Raises:
        Invalid: An unknown reason.
        Conflict: It is revoked already.
    """
    row = _own(session, actor, identity_id)
    if row.revoked_at is not None:
        raise Conflict(_("这张证书已经吊销"), code="certificate-revoked")
    if reason not in set(ca.RevocationReason):
        raise Invalid(fields={"reason": _("未知的吊销原因")})
    _revoke(session, actor, row, ca.RevocationReason(reason))
    _lock(session, actor)
    return row


def _revoke(session: Session, actor: Actor, row: SigningIdentity, reason: ca.RevocationReason) -> None:
    row.revoked_at, row.revoked_reason = clock.now(), reason.value
    audit.record(
        session,
        actor,
        "signing.revoke",
        "signing_identity",
        row.id,
        org_id=actor.org_id,
        serial=row.serial,
        reason=reason.value,
    )


# --- the opened key of a session ----------------------------------------------------------------------------------


def open_for_session(
    actor: Actor, pin: str, *, identity_id: str | None = None, settings: Settings | None = None
) -> Opened:
    """Open the actor's key for his session.

    The opened key lies in the session's row, sealed under a key that only the browser's second cookie holds: neither
    the database nor the cookie alone can sign.

    Raises:
        Conflict: `no-certificate`.
        WrongPin, TooMany: The PIN is wrong, or guessing was stopped.
    """
    settings = settings or get_settings()
    if actor.session_id is None:
        raise Forbidden()
    with database().reading() as session:
        row = usable(session, actor, identity_id)
        identity, sealed = row.id, SealedKey.from_json(row.sealed_key["sealed"])
    key = _open(actor, identity, sealed, pin, settings)
    blob, session_key = reseal_for_session(key, binding=actor.session_id.encode())
    now = clock.now()
    until = now + timedelta(hours=settings.signing_hours)
    with database().writing() as session:
        session.execute(
            update(LoginSession)
            .where(LoginSession.id == actor.session_id)
            .values(signing_blob=blob, signing_until=until, signing_used_at=now)
        )
        audit.record(session, actor, "signing.unlock", "signing_identity", identity, org_id=actor.org_id)
    return Opened(base64.urlsafe_b64encode(session_key).decode(), until)


def lock(session: Session, actor: Actor) -> None:
    """Drop the opened key of the actor's session."""
    if actor.session_id:
        _drop(session, LoginSession.id == actor.session_id)
        audit.record(session, actor, "signing.lock", "person", actor.id, org_id=actor.org_id)


def _lock(session: Session, actor: Actor) -> None:
    """Drop the opened keys of all the actor's sessions: after a new or revoked certificate none may be used on."""
    _drop(session, LoginSession.person_id == actor.id)


def _drop(session: Session, which: object) -> None:
    session.execute(
        update(LoginSession)
        .where(which)  # type: ignore[arg-type]
        .values(signing_blob=None, signing_until=None, signing_used_at=None)
    )


def drop_lapsed(session: Session, settings: Settings | None = None) -> None:
    """Drop opened keys whose time ran out. Called by the scheduler; an unswept one does not open either."""
    settings, now = settings or get_settings(), clock.now()
    idle = now - timedelta(minutes=settings.signing_idle_minutes)
    _drop(
        session,
        LoginSession.signing_blob.is_not(None)
        & ((LoginSession.signing_until < now) | (LoginSession.signing_used_at < idle)),
    )


def state_of(session: Session, actor: Actor, cookie: str | None, settings: Settings | None = None) -> SigningState:
    """Whether the actor could sign now without his PIN."""
    settings, now = settings or get_settings(), clock.now()
    row = session.get(LoginSession, actor.session_id) if actor.session_id else None
    if row is None or row.signing_blob is None or row.signing_until is None or row.signing_used_at is None:
        return SigningState(False, None, None)
    idle_until = row.signing_used_at + timedelta(minutes=settings.signing_idle_minutes)
    alive = bool(cookie) and row.signing_until > now and idle_until > now
    return SigningState(alive, row.signing_until if alive else None, idle_until if alive else None)


def session_key(session: Session, actor: Actor, cookie: str | None, settings: Settings | None = None) -> UnlockedKey:
    """The opened key of the actor's session.

    Raises:
        KeyLocked: There is none, its time ran out, the browser's cookie does not fit, or its certificate was revoked.
    """
    if not state_of(session, actor, cookie, settings).unlocked or not cookie or not actor.session_id:
        raise KeyLocked()
    row = session.get_one(LoginSession, actor.session_id)
    try:
        secret = base64.urlsafe_b64decode(cookie)
    except (binascii.Error, ValueError):
        raise KeyLocked() from None
    key = open_session(row.signing_blob or b"", secret, binding=actor.session_id.encode())
    check_unrevoked(session, actor, describe(key.certificate).serial)
    return key


def check_unrevoked(session: Session, actor: Actor, serial: str) -> SigningIdentity:
    """The certificate of that serial number, if it is the actor's and may still sign.

    Raises:
        KeyLocked: It is not, or was revoked, or has expired.
    """
    now = clock.now()
    row = session.scalars(
        select(SigningIdentity).where(SigningIdentity.person_id == actor.id, SigningIdentity.serial == serial)
    ).first()
    if row is None or row.revoked_at is not None or not row.valid_from <= now < row.valid_until:
        raise KeyLocked(_("签名证书已吊销或过期,请更换证书"))
    return row
