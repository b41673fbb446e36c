"""Organisations, agreements and API keys."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.ids import new_secret
from hub.kit.settings import get_settings
from hub.sites.models import Agreement, ApiKey, CountySetting, Organisation, OrgKind

KEY_PREFIX = "hub_"
SCOPES = ("stow", "retrieve", "register", "report")
SCOPE_NAMES: dict[str, Message] = {
    "stow": _("上传影像"),
    "retrieve": _("取回影像"),
    "register": _("登记检查"),
    "report": _("取回报告"),
}
_CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}")

KIND_NAMES: dict[OrgKind, Message] = {
    OrgKind.CLINIC: _("乡镇卫生院"),
    OrgKind.HOSPITAL: _("县级医院"),
    OrgKind.TERTIARY: _("上级医院"),
    OrgKind.HUB: _("影像中心"),
}


def add_organisation(
    session: Session,
    actor: Actor,
    *,
    code: str,
    name: str,
    kind: str,
    name_en: str = "",
    phone: str = "",
    reads_for: list[str] | None = None,
    sample: bool = False,
    double_signature: bool = True,
) -> Organisation:
    """Add an organisation.

    Args:
        session: The transaction.
        actor: Who adds it.
        code: Short code, in upper case; part of report numbers and of IssuerOfPatientID.
        name: Chinese name.
        kind: A code of OrgKind.
        name_en: English name.
        phone: Telephone.
        reads_for: Codes of the clinics that a hospital reads for.
        sample: Whether it belongs to the sample county.
        double_signature: Policy of a reading hospital: author and reviewer are two people.

    Raises:
        Invalid: A value is wrong.
        Conflict: The code is taken.
    """
    code = code.strip().upper()
    fields: dict[str, Message | str] = {}
    if not _CODE.fullmatch(code):
        fields["code"] = _("代码只能用大写字母、数字和连字符,最长 16 位")
    if not name.strip():
        fields["name"] = _("请填写名称")
    if kind not in set(OrgKind):
        fields["kind"] = _("没有这种机构")
    if fields:
        raise Invalid(fields=fields)
    org = Organisation(
        code=code,
        name=name.strip(),
        name_en=name_en.strip(),
        kind=kind,
        phone=phone.strip(),
        sample=sample,
        issuer=f"{get_settings().county_code}.{code}",
        policy={"double_signature": double_signature},
        created_at=clock.now(),
    )
    session.add(org)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(_("代码 {code} 已被使用").format(code=code), code="code-taken") from None
    for clinic in reads_for or []:
        agree(session, actor, clinic=by_code(session, clinic), hospital=org)
    audit.record(session, actor, "organisation.add", "organisation", org.id, org_id=org.id, code=code, kind=kind)
    return org


def change_organisation(session: Session, actor: Actor, org_id: str, values: dict[str, Any]) -> Organisation:
    """Change name, name_en, phone, active or the policy of an organisation. Its code stays: numbers hold it."""
    org = get(session, org_id)
    if values.get("active") is False and org.id == actor.org_id:
        raise Invalid(_("不能停用自己所在的机构"), code="own-organisation")
    if "name" in values and not str(values["name"]).strip():
        raise Invalid(fields={"name": _("请填写名称")})
    changed: list[str] = [
        name for name in ("name", "name_en", "phone", "active") if name in values and getattr(org, name) != values[name]
    ]
    for name in changed:
        setattr(org, name, values[name])
    double = values.get("double_signature")
    if double is not None and bool(org.policy.get("double_signature", True)) != double:
        org.policy = {**org.policy, "double_signature": bool(double)}
        changed.append("double_signature")
    if changed:
        detail = {name: values[name] for name in changed if name in ("active", "double_signature")}
        audit.record(
            session, actor, "organisation.change", "organisation", org.id, org_id=org.id, fields=changed, **detail
        )
    return org


def agree(session: Session, actor: Actor, *, clinic: Organisation, hospital: Organisation, rank: int = 1) -> None:
    """Let `hospital` read for `clinic`; the lowest rank is where a new exam goes."""
    if clinic.kind != OrgKind.CLINIC or hospital.kind not in (OrgKind.HOSPITAL, OrgKind.TERTIARY):
        raise Invalid(_("只能由县级或上级医院为乡镇卫生院阅片"), code="wrong-kind")
    found = session.scalars(
        select(Agreement).where(Agreement.clinic_id == clinic.id, Agreement.hospital_id == hospital.id)
    ).one_or_none()
    if found is None:
        session.add(Agreement(clinic_id=clinic.id, hospital_id=hospital.id, rank=rank))
    else:
        found.rank = rank
    audit.record(
        session, actor, "agreement.set", "organisation", clinic.id, org_id=clinic.id, hospital=hospital.code, rank=rank
    )


def set_readers(session: Session, actor: Actor, clinic_id: str, hospital_ids: list[str]) -> None:
    """Say which hospitals read for a clinic, in this order; a new exam goes to the first.

    Raises:
        NotFound: An organisation does not exist.
        Invalid: Not a clinic, or not a hospital.
    """
    clinic = get(session, clinic_id)
    before = {row.hospital_id: row for row in session.scalars(_agreements_of(clinic_id))}
    for hospital_id in set(before) - set(hospital_ids):
        disagree(session, actor, clinic=clinic, hospital=get(session, hospital_id))
    for rank, hospital_id in enumerate(dict.fromkeys(hospital_ids), 1):
        known = before.get(hospital_id)
        if known is None or known.rank != rank:
            agree(session, actor, clinic=clinic, hospital=get(session, hospital_id), rank=rank)


def _agreements_of(clinic_id: str) -> Select[Agreement]:
    return select(Agreement).where(Agreement.clinic_id == clinic_id).order_by(Agreement.rank)


def readers(session: Session) -> dict[str, list[str]]:
    """Clinic id → ids of the hospitals that read for it, by rank."""
    found: dict[str, list[str]] = {}
    for row in session.scalars(select(Agreement).order_by(Agreement.clinic_id, Agreement.rank)):
        found.setdefault(row.clinic_id, []).append(row.hospital_id)
    return found


def disagree(session: Session, actor: Actor, *, clinic: Organisation, hospital: Organisation) -> None:
    """End an agreement; exams already routed stay where they are."""
    found = session.scalars(
        select(Agreement).where(Agreement.clinic_id == clinic.id, Agreement.hospital_id == hospital.id)
    ).one_or_none()
    if found is not None:
        session.delete(found)
        audit.record(
            session, actor, "agreement.end", "organisation", clinic.id, org_id=clinic.id, hospital=hospital.code
        )


def get(session: Session, org_id: str) -> Organisation:
    """The organisation.

    Raises:
        NotFound: There is none.
    """
    org = session.get(Organisation, org_id)
    if org is None:
        raise NotFound(_("没有找到这个机构"))
    return org


def by_code(session: Session, code: str) -> Organisation:
    """The organisation of that code.

    Raises:
        NotFound: There is none.
    """
    org = session.scalars(select(Organisation).where(Organisation.code == code.strip().upper())).one_or_none()
    if org is None:
        raise NotFound(_("没有代码为 {code} 的机构").format(code=code))
    return org


def organisations(session: Session) -> list[Organisation]:
    """All, by kind and code."""
    return list(session.scalars(select(Organisation).order_by(Organisation.kind, Organisation.code)))


def add_key(
    session: Session,
    actor: Actor,
    org: Organisation,
    *,
    label: str = "",
    scopes: list[str] | None = None,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new API key: the row, and the token that is shown this once.

    Raises:
        Invalid: A scope is unknown.
    """
    wanted = scopes if scopes is not None else ["stow", "retrieve"]
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        raise Invalid(fields={"scopes": _("没有这种权限范围:{names}").format(names=", ".join(unknown) or "—")})
    if expires_at is not None and expires_at <= clock.now():
        raise Invalid(fields={"expires_at": _("到期时间已过")})
    token = KEY_PREFIX + new_secret()
    key = ApiKey(
        org_id=org.id,
        label=label.strip()[:100],
        prefix=token[:12],
        sha256=hashlib.sha256(token.encode()).hexdigest(),
        scopes=wanted,
        created_at=clock.now(),
        created_by=actor.id,
        expires_at=expires_at,
    )
    session.add(key)
    session.flush()
    audit.record(session, actor, "key.add", "api_key", key.id, org_id=org.id, scopes=wanted)
    return key, token


def revoke_key(session: Session, actor: Actor, key_id: str) -> None:
    """End a key at once.

    Raises:
        NotFound: There is none.
    """
    key = session.get(ApiKey, key_id)
    if key is None:
        raise NotFound(_("没有找到这个密钥"))
    if key.revoked_at is None:
        key.revoked_at = clock.now()
        audit.record(session, actor, "key.revoke", "api_key", key.id, org_id=key.org_id)


def keys(session: Session) -> list[ApiKey]:
    """All keys, newest first."""
    return list(session.scalars(select(ApiKey).order_by(ApiKey.created_at.desc())))


def county_setting(session: Session, name: str, default: dict[str, Any]) -> dict[str, Any]:
    """A setting that administrators change on a page, or its default."""
    row = session.get(CountySetting, name)
    return dict(row.value) if row is not None else dict(default)


def set_county_setting(session: Session, actor: Actor, name: str, value: dict[str, Any]) -> None:
    """Write such a setting."""
    row = session.get(CountySetting, name)
    if row is None:
        row = CountySetting(name=name, value=value, changed_at=clock.now(), changed_by=actor.id)
        session.add(row)
    else:
        row.value, row.changed_at, row.changed_by = value, clock.now(), actor.id
    audit.record(session, actor, "setting.change", "county_setting", name)
