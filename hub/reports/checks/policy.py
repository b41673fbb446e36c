"""Which checks a county and a hospital want, and how loudly."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.kit.actor import Actor
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.reports.checks.catalogue import CHECKS, Level, default_level
from hub.sites import service as sites
from hub.sites.models import Organisation, OrgKind

SETTING = "report_checks"
"""Name of the CountySetting, and key in Organisation.policy of a hospital: {check: level}."""

KEY = "checks"


def _valid(value: Any) -> dict[str, Level]:
    """What a kept value says of checks that exist; anything else in it is as if it were not there."""
    if not isinstance(value, dict):
        return {}
    return {code: Level(level) for code, level in value.items() if code in CHECKS and level in set(Level)}


def county_levels(session: Session) -> dict[str, Level]:
    """What the county chose; checks that it left alone are missing."""
    return _valid(sites.county_setting(session, SETTING, {}))


def hospital_levels(org: Organisation | None) -> dict[str, Level]:
    """What a hospital chose; checks that it left to the county are missing."""
    return _valid(org.policy.get(KEY)) if org is not None else {}


def levels(session: Session, org: Organisation | None) -> dict[str, Level]:
    """Every check's level for reports of `org`: the hospital's choice, else the county's, else the default."""
    county, hospital = county_levels(session), hospital_levels(org)
    return {code: hospital.get(code) or county.get(code) or default_level(code) for code in CHECKS}


def _checked(values: dict[str, str]) -> dict[str, str]:
    fields: dict[str, Message | str] = {}
    chosen: dict[str, str] = {}
    for code, level in values.items():
        if code not in CHECKS:
            fields[code] = _("没有这项检查")
        elif level and level not in set(Level):
            fields[code] = _("只能是不检查、只提示或提醒")
        elif level:
            chosen[code] = level
    if fields:
        raise Invalid(fields=fields)
    return chosen


def set_county(session: Session, actor: Actor, values: dict[str, str]) -> None:
    """Choose for the county; an empty level leaves a check to its default.

    Raises:
        Invalid: No such check or level.
    """
    sites.set_county_setting(session, actor, SETTING, _checked(values))


def set_hospital(session: Session, actor: Actor, org_id: str, values: dict[str, str]) -> None:
    """Choose for a hospital; an empty level leaves a check to the county.

    Raises:
        NotFound: No such organisation.
        Invalid: It reads nothing, or no such check or level.
    """
    org = sites.get(session, org_id)
    if org.kind not in (OrgKind.HOSPITAL, OrgKind.TERTIARY):
        raise Invalid(_("只有阅片医院有报告检查设置"), code="wrong-kind")
    chosen = _checked(values)
    org.policy = {
        **{key: value for key, value in org.policy.items() if key != KEY},
        **({KEY: chosen} if chosen else {}),
    }
    audit.record(session, actor, "setting.change", "organisation", org.id, org_id=org.id, setting=SETTING)
