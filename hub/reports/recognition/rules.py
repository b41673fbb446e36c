"""The county's rules of mutual recognition, which the administrator changes: kinds, days, reasons, names of marks.

A kind is what counts as the same item: a modality with body parts that stand for each other. An exam of several parts
is of several kinds. `days` is how old an exam of that kind may be to stand for a new one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.kit.actor import Actor
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.sites import service as sites

SETTING = "recognition"
OTHER = "other"

REASONS: dict[str, Message] = {
    "changed": _("病情变化,已有结果难以反映当前状况"),
    "fast": _("疾病发展演变较快"),
    "decisive": _("对治疗方案有决定性影响(手术、重大治疗前)"),
    "emergency": _("急诊、急救等紧急状态"),
    "forensic": _("司法、伤残或病退等鉴定"),
    OTHER: _("其他(须写明)"),
}
"""Why an exam may be repeated although one could be recognised [国卫医发〔2022〕6号]."""

SCOPES: dict[str, Message] = {"national": _("全国"), "province": _("省级"), "county": _("县级")}
"""The scopes of a mark, the widest first."""


@dataclass(frozen=True, slots=True)
class Kind:
    """An item of the county's table of equivalence.

    Attributes:
        code: Its key in evaluations and decisions.
        modality: As requested ("CT", "DX").
        parts: Codes of body parts that stand for each other.
        days: How old an exam may be; 0: never recognised.
    """

    code: str
    modality: str
    parts: frozenset[str]
    days: int


@dataclass(frozen=True, slots=True)
class Rules:
    """What the county keeps.

    Attributes:
        kinds: By code.
        minutes: How long a clinic may look at what was offered before it decides.
        access_days: How long a clinic may look at what it reused.
        marks: What stands before HR, by scope.
    """

    kinds: dict[str, Kind]
    minutes: int
    access_days: int
    marks: dict[str, str]


_DAYS = {"CT": 14, "DX": 7, "MG": 90, "MR": 30, "US": 7}
"""How old an exam may be where the county has not said otherwise [practice]."""

DEFAULT: dict[str, Any] = {
    "minutes": 30,
    "access_days": 30,
    "marks": {"national": "全国", "province": "江西省", "county": "青溪县"},
    "kinds": [
        {"code": f"{modality.lower()}_{part}", "modality": modality, "parts": [part], "days": days}
        for modality, days in _DAYS.items()
        for part in BODY_PARTS
        # What has no bounds is the same as nothing else; the breast has its own modality.
        if part != "whole" and (part == "breast" or modality != "MG")
    ],
}


def load(session: Session) -> Rules:
    """The county's rules, or the defaults."""
    return _rules({**DEFAULT, **sites.county_setting(session, SETTING, DEFAULT)})


def _rules(value: dict[str, Any]) -> Rules:
    kinds = [Kind(row["code"], row["modality"], frozenset(row["parts"]), int(row["days"])) for row in value["kinds"]]
    return Rules(
        {kind.code: kind for kind in kinds}, int(value["minutes"]), int(value["access_days"]), dict(value["marks"])
    )


def to_json(rules: Rules) -> dict[str, Any]:
    """The rules as they are kept."""
    return {
        "minutes": rules.minutes,
        "access_days": rules.access_days,
        "marks": rules.marks,
        "kinds": [
            {"code": kind.code, "modality": kind.modality, "parts": sorted(kind.parts), "days": kind.days}
            for kind in rules.kinds.values()
        ],
    }


def save(session: Session, actor: Actor, value: dict[str, Any]) -> Rules:
    """Replace the county's rules.

    Raises:
        Invalid: By field: bounds of the numbers, unknown parts, a part that two kinds of one modality claim.
    """
    fields: dict[str, Message | str] = {}
    if not 5 <= int(value["minutes"]) <= 240:
        fields["minutes"] = _("应为 5 到 240 分钟")
    if not 1 <= int(value["access_days"]) <= 365:
        fields["access_days"] = _("应为 1 到 365 天")
    if any(not str(value["marks"].get(scope, "")).strip() for scope in SCOPES):
        fields["marks"] = _("请填写每一级标识的名称")
    claimed: set[tuple[str, str]] = set()
    codes: set[str] = set()
    for row in value["kinds"]:
        parts = list(row["parts"])
        if row["modality"] not in MODALITIES or not parts or any(part not in BODY_PARTS for part in parts):
            fields["kinds"] = _("没有这个检查类型或部位")
        if not 0 <= int(row["days"]) <= 365:
            fields["kinds"] = _("天数应为 0 到 365,0 表示不互认")
        if row["code"] in codes or any((row["modality"], part) in claimed for part in parts):
            fields["kinds"] = _("同一检查类型的一个部位只能属于一个项目")
        codes.add(row["code"])
        claimed |= {(row["modality"], part) for part in parts}
    if fields:
        raise Invalid(fields=fields)
    rules = _rules(value)
    sites.set_county_setting(session, actor, SETTING, to_json(rules))
    return rules


def kinds_of(rules: Rules, modality: str, parts: Iterable[str]) -> frozenset[str] | None:
    """The kinds of an exam by code; None where a part of it is of no kind, so that nothing can stand for it."""
    found: set[str] = set()
    for part in parts:
        kind = next((k for k in rules.kinds.values() if k.modality == modality and part in k.parts), None)
        if kind is None or kind.days == 0:
            return None
        found.add(kind.code)
    return frozenset(found) or None


def days_of(rules: Rules, kinds: Iterable[str]) -> int:
    """How old an exam of these kinds may be: as old as the strictest of them lets it."""
    return min((rules.kinds[code].days for code in kinds if code in rules.kinds), default=0)
