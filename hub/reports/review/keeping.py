"""Keeping a hospital's policy of review: who may change it, what is checked against the people there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.audit import service as audit
from hub.kit.actor import Actor
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.reading.signatures import KEY, ReviewPolicy, checked, policy_of, to_json
from hub.sites.models import Organisation, OrgKind

READING = (OrgKind.HOSPITAL, OrgKind.TERTIARY)


def hospitals(session: Session) -> list[Organisation]:
    """Organisations that read, by code."""
    return list(
        session.scalars(
            select(Organisation)
            .where(Organisation.kind.in_(READING), Organisation.active)
            .order_by(Organisation.kind, Organisation.code)
        )
    )


def doctors(session: Session, org_id: str) -> list[Person]:
    """The readers of a hospital, by name."""
    found = session.scalars(select(Person).where(Person.org_id == org_id, Person.active).order_by(Person.name))
    return [person for person in found if {Role.REPORTER, Role.REVIEWER} & set(person.roles)]


def arbiters(session: Session, org_id: str) -> list[Person]:
    """Who may be named to arbitrate: reviewers of the hospital, and those who see the whole county."""
    found = session.scalars(select(Person).where(Person.active).order_by(Person.name))
    return [
        person
        for person in found
        if (person.org_id == org_id and Role.REVIEWER in person.roles) or set(COUNTY_WIDE_ROLES) & set(person.roles)
    ]


def hospital(session: Session, org_id: str) -> Organisation:
    """A reading hospital.

    Raises:
        NotFound: No such one.
    """
    org = session.get(Organisation, org_id)
    if org is None or org.kind not in READING:
        raise NotFound(_("没有找到这家阅片医院"))
    return org


def change(session: Session, actor: Actor, org_id: str, values: Mapping[str, Any], *, double: bool) -> ReviewPolicy:
    """Change a hospital's policy. It holds from the next deed on; what was signed or drawn stays.

    Raises:
        NotFound: No such hospital.
        Invalid: With each field that makes no sense.
    """
    hospital(session, org_id)
    org = session.scalars(
        select(Organisation)
        .where(Organisation.id == org_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    policy = checked(values, double=double)
    fields: dict[str, Message | str] = {}
    known = {person.id for person in doctors(session, org_id)}
    for name in ("alone_by", "residents", "attendings"):
        if getattr(policy, name) - known:
            fields[name] = _("名单中有人不是本院的阅片医师")
    for number, target in enumerate(policy.targets):
        if target.author_id and target.author_id not in known:
            fields[f"targets.{number}.author_id"] = _("这个人不是本院的阅片医师")
    if policy.arbiter_id and policy.arbiter_id not in {person.id for person in arbiters(session, org_id)}:
        fields["arbiter_id"] = _("裁定人应是本院审核医师、质控员或影像中心主任")
    if fields:
        raise Invalid(fields=fields)
    before, after = policy_of(org), to_json(policy)
    org.policy = {**org.policy, "double_signature": policy.double, KEY: after}
    if before != policy:
        old = {**to_json(before), "double": before.double}
        changed = [name for name, value in {**after, "double": policy.double}.items() if old[name] != value]
        audit.record(session, actor, "review.policy", "organisation", org.id, org_id=org.id, fields=changed)
    session.flush()
    return policy
