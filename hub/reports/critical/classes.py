"""The classes of critical values: the national thirteen as fixed data, the county's additions, counted apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _, current_locale
from hub.sites import service as sites

SETTING = "critical"
"""Name of the county's setting: additions, and the minutes of the timers."""

ESCALATE_MINUTES = 5
BREACH_MINUTES = 10
NATIONAL_MINUTES = 10
"""The national indicator's limit; the county's own timers may be shorter, never longer."""

CHANGE_ESCALATE_MINUTES = 15
CHANGE_BREACH_MINUTES = 30
MOST_CHANGE_MINUTES = 24 * 60

MOST_ADDITIONS = 40
UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True)
class Class:
    """A kind of critical value. `national`: counted by the national indicator."""

    code: str
    name: Message | str
    name_en: str = ""
    national: bool = False


# The two kinds of air under pressure or in quantity in the pleura are one class: the list of conditions is longer
# than the thirteen classes that are counted.
NATIONAL: tuple[Class, ...] = (
    Class("pulmonary_embolism", _("急性肺栓塞"), national=True),
    Class("aortic", _("主动脉夹层或破裂"), national=True),
    Class("tamponade", _("心包填塞"), national=True),
    Class("pneumothorax", _("大量血气胸或张力性气胸"), national=True),
    Class("airway_foreign_body", _("气道异物"), national=True),
    Class("cerebral_infarction", _("急性脑梗死"), national=True),
    Class("cerebral_haemorrhage", _("脑出血"), national=True),
    Class("epidural_subdural", _("硬膜外或硬膜下血肿"), national=True),
    Class("subarachnoid", _("蛛网膜下腔出血"), national=True),
    Class("herniation", _("脑疝"), national=True),
    Class("perforation", _("消化道穿孔"), national=True),
    Class("organ_rupture", _("脏器破裂"), national=True),
    Class("strangulation", _("绞窄性肠梗阻"), national=True),
)

OTHER = Class(UNCLASSIFIED, _("其他(未分类)"))
"""A value that fits no class, and a report that was signed as critical without a procedure; counted as the county's."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The county's rules: its own classes, and after how many minutes the second contact and the duty officer ring.

    The latter two of the minutes are those of a preliminary report's changed conclusion, which has no national limit.
    """

    additions: tuple[Class, ...] = ()
    escalate_minutes: int = ESCALATE_MINUTES
    breach_minutes: int = BREACH_MINUTES
    change_escalate_minutes: int = CHANGE_ESCALATE_MINUTES
    change_breach_minutes: int = CHANGE_BREACH_MINUTES

    def classes(self) -> tuple[Class, ...]:
        """All classes that may be flagged, the national ones first."""
        return (*NATIONAL, *self.additions, OTHER)

    def find(self, code: str) -> Class:
        """The class of that code.

        Raises:
            Invalid: There is none.
        """
        for known in self.classes():
            if known.code == code:
                return known
        raise Invalid(fields={"class_code": _("没有这类危急值")})


_NATIONAL_CODES = {known.code: known for known in (*NATIONAL, OTHER)}


def name_of(code: str, kept: str, kept_en: str = "", *, locale: str | None = None) -> Message | str:
    """What people call a class.

    Args:
        code: Its code.
        kept: The name that a county's addition had when it was flagged.
        kept_en: The same in English; may be empty.
        locale: Of whoever reads; by default that of `use_locale`.
    """
    known = _NATIONAL_CODES.get(code)
    if known is not None:
        return known.name
    return kept_en if kept_en and (locale or current_locale()) == "en" else kept


def parse(value: Mapping[str, Any]) -> Rules:
    """Rules from their setting.

    Raises:
        Invalid: With one message per field.
    """
    fields: dict[str, Message | str] = {}
    found: list[Class] = []
    seen = set(_NATIONAL_CODES)
    given = value.get("additions", [])
    if not isinstance(given, list) or len(given) > MOST_ADDITIONS:
        raise Invalid(fields={"additions": _("最多 {n} 项").format(n=MOST_ADDITIONS)})
    for place, entry in enumerate(given):
        code = str(entry.get("code", "")).strip().lower() if isinstance(entry, dict) else ""
        name = str(entry.get("name", "")).strip() if isinstance(entry, dict) else ""
        if not code.replace("_", "").isalnum() or not code.isascii() or len(code) > 30:
            fields[f"additions.{place}.code"] = _("代码只能用小写字母、数字和下划线,最长 30 位")
        elif code in seen:
            fields[f"additions.{place}.code"] = _("代码重复,或与国家分类相同")
        if not name or len(name) > 60:
            fields[f"additions.{place}.name"] = _("请填写名称,最长 60 字")
        seen.add(code)
        found.append(Class(code, name, str(entry.get("name_en", "")).strip()[:80] if isinstance(entry, dict) else ""))
    escalate, breach = _minutes(value, "", ESCALATE_MINUTES, BREACH_MINUTES, NATIONAL_MINUTES, fields)
    changed = _minutes(value, "change_", CHANGE_ESCALATE_MINUTES, CHANGE_BREACH_MINUTES, MOST_CHANGE_MINUTES, fields)
    if fields:
        raise Invalid(fields=fields)
    return Rules(tuple(found), escalate, breach, *changed)


def _minutes(
    value: Mapping[str, Any], what: str, escalate: int, breach: int, most: int, fields: dict[str, Message | str]
) -> tuple[int, int]:
    """The minutes of the second contact and of the duty officer, in their order."""
    found: list[int] = []
    for name, usual in ((f"{what}escalate_minutes", escalate), (f"{what}breach_minutes", breach)):
        minutes = value.get(name, usual)
        if isinstance(minutes, bool) or not isinstance(minutes, int) or not 1 <= minutes <= most:
            fields[name] = _("应为 1 到 {most} 之间的整数分钟").format(most=most)
        else:
            found.append(minutes)
    if len(found) < 2:
        return escalate, breach
    if found[0] >= found[1]:
        fields[f"{what}escalate_minutes"] = _("第二联系人的时间应早于值班负责人")
    return found[0], found[1]


def load(session: Session) -> Rules:
    """The county's rules now."""
    return parse(sites.county_setting(session, SETTING, {}))


def to_json(rules: Rules) -> dict[str, Any]:
    """The setting that gives these rules again."""
    return {
        "additions": [
            {"code": known.code, "name": str(known.name), "name_en": known.name_en} for known in rules.additions
        ],
        "escalate_minutes": rules.escalate_minutes,
        "breach_minutes": rules.breach_minutes,
        "change_escalate_minutes": rules.change_escalate_minutes,
        "change_breach_minutes": rules.change_breach_minutes,
    }
