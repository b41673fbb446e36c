"""Keeping the list of people."""

from __future__ import annotations

import re
import secrets
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.accounts import passwords
from hub.accounts.models import Person
from hub.accounts.roles import Role
from hub.accounts.service import end_sessions
from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.turns import one_at_a_time
from hub.sites.models import Organisation, OrgKind

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._-]{1,39}")

ROLES_AT: dict[OrgKind, frozenset[Role]] = {
    OrgKind.CLINIC: frozenset({Role.TECHNOLOGIST, Role.CLINICIAN}),
    OrgKind.HOSPITAL: frozenset(
        {Role.REPORTER, Role.REVIEWER, Role.TECHNOLOGIST, Role.CLINICIAN, Role.QUALITY, Role.DIRECTOR}
    ),
    OrgKind.TERTIARY: frozenset({Role.EXPERT, Role.REPORTER, Role.REVIEWER}),
    OrgKind.HUB: frozenset({Role.QUALITY, Role.DIRECTOR, Role.ADMINISTRATOR, Role.OPERATOR}),
}
"""Which roles make sense at which kind of organisation: a reader's rights follow the hospital he reads for."""


def random_password() -> str:
    """A first password that can be read out: four groups of four."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _n in range(4)) for _g in range(4))


def _check_roles(org: Organisation, roles: list[str]) -> None:
    allowed = ROLES_AT[OrgKind(org.kind)]
    if not roles:
        raise Invalid(fields={"roles": _("请至少选择一个角色")})
    if len(set(roles)) != len(roles):
        raise Invalid(fields={"roles": _("角色重复")})
    for role in roles:
        if role not in set(Role) or Role(role) not in allowed:
            raise Invalid(fields={"roles": _("该机构不能有此角色:{role}").format(role=role)})


def add_person(
    session: Session,
    actor: Actor,
    *,
    org: Organisation,
    login: str,
    name: str,
    roles: list[str],
    password: str | None = None,
    password_hash: str = "",
    name_en: str = "",
    title: str = "",
    phone: str = "",
    sample: bool = False,
    must_change_password: bool = True,
) -> tuple[Person, str]:
    """Add somebody: the row, and the first password (made where none is given), shown this once.

    `password_hash` spares the hashing of a password that many people are given (the sample county).

    Raises:
        Invalid: A value is wrong.
        Conflict: The login is taken.
    """
    login = login.strip().lower()
    fields: dict[str, Message | str] = {}
    if not _LOGIN.fullmatch(login):
        fields["login"] = _("用户名用小写字母、数字、点、横线,2 到 40 位")
    if not name.strip():
        fields["name"] = _("请填写姓名")
    if fields:
        raise Invalid(fields=fields)
    _check_roles(org, roles)
    if password is None:
        password = random_password()
    else:
        passwords.check_strength(password, login=login)
    person = Person(
        org_id=org.id,
        login=login,
        name=name.strip(),
        name_en=name_en.strip(),
        title=title.strip(),
        phone=phone.strip(),
        roles=roles,
        password_hash=password_hash or passwords.hash_password(password),
        must_change_password=must_change_password,
        sample=sample,
        created_at=clock.now(),
    )
    session.add(person)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(_("用户名 {login} 已被使用").format(login=login), code="login-taken") from None
    audit.record(session, actor, "person.add", "person", person.id, org_id=org.id, roles=roles)
    return person, password


def change_person(session: Session, actor: Actor, person_id: str, values: dict[str, Any]) -> Person:
    """Change name, name_en, title, phone, roles, licence or active. Taken rights end at once: the sessions end.

    Raises:
        Invalid: A value is wrong, or somebody would take his own rights (the last administrator could not come back)
            or give himself some.
        NotFound: There is no such person.
    """
    if {"roles", "active"} & set(values):
        _still_entitled(session, actor)
    person = get(session, person_id)
    if "name" in values and not str(values["name"]).strip():
        raise Invalid(fields={"name": _("请填写姓名")})
    if person.id == actor.id and "roles" in values and set(values["roles"]) != set(person.roles):
        raise Invalid(_("不能修改自己的角色,请由另一位管理员操作"), code="own-account")
    org = session.get_one(Organisation, person.org_id)
    if "roles" in values:
        _check_roles(org, values["roles"])
    if values.get("active") is False and person.id == actor.id:
        raise Invalid(_("不能停用自己的账户"), code="own-account")
    changed = [
        name
        for name in ("name", "name_en", "title", "phone", "roles", "licence", "active")
        if name in values and getattr(person, name) != values[name]
    ]
    for name in changed:
        setattr(person, name, values[name])
    if {"roles", "active"} & set(changed):
        end_sessions(session, person.id)
    if changed:
        detail = {name: values[name] for name in changed if name in ("roles", "active")}
        audit.record(
            session, actor, "person.change", "person", person.id, org_id=person.org_id, fields=changed, **detail
        )
    return person


def _still_entitled(session: Session, actor: Actor) -> None:
    """Two administrators who take each other's rights at once would leave none: the second has none any more."""
    one_at_a_time(session, "rights")
    if actor.kind != "person":
        return
    own = session.get(Person, actor.id, populate_existing=True)
    if own is None or not own.active or not actor.roles <= set(own.roles):
        raise Forbidden()


def end_sessions_of(session: Session, actor: Actor, person_id: str) -> None:
    """Log somebody out everywhere."""
    person = get(session, person_id)
    end_sessions(session, person.id)
    audit.record(session, actor, "person.log-out", "person", person.id, org_id=person.org_id)


def reset_password(session: Session, actor: Actor, person_id: str) -> str:
    """Give a fresh first password, shown this once; ends the sessions and turns the second factor off."""
    person = get(session, person_id)
    password = random_password()
    person.password_hash = passwords.hash_password(password)
    person.must_change_password = True
    person.totp_secret, person.totp_last_step = None, None
    end_sessions(session, person.id)
    audit.record(session, actor, "person.reset-password", "person", person.id, org_id=person.org_id)
    return password


def get(session: Session, person_id: str) -> Person:
    """The person.

    Raises:
        NotFound: There is none.
    """
    person = session.get(Person, person_id)
    if person is None:
        raise NotFound(_("没有找到这个人"))
    return person


def by_login(session: Session, login: str) -> Person:
    """The person of that login.

    Raises:
        NotFound: There is none.
    """
    person = session.scalars(select(Person).where(Person.login == login.strip().lower())).one_or_none()
    if person is None:
        raise NotFound(_("没有用户名为 {login} 的人").format(login=login))
    return person


def everybody(session: Session) -> list[tuple[Person, Organisation]]:
    """All people with their organisations, by organisation and login."""
    rows = session.execute(
        select(Person, Organisation)
        .join(Organisation, Organisation.id == Person.org_id)
        .order_by(Organisation.kind, Organisation.code, Person.login)
    )
    return [(person, org) for person, org in rows]
