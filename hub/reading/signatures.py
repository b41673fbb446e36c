"""Who must look at a report before it is signed: the policy that a reading hospital keeps about its own doctors.

The policy is a part (`review`) of `Organisation.policy`, beside the older `double_signature`, which stays the word on
two signatures. `parse` reads it, `checked` refuses what makes no sense, `summary` says it in plain words. The rules
themselves are methods of `ReviewPolicy`; nothing else interprets the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from hub.accounts.models import Person
from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.sites.models import Organisation

KEY = "review"
"""Where it stands in `Organisation.policy`."""

Span = tuple[int, int]
"""Minutes of the day from and until, in the county's zone; from > until reaches past midnight."""

Panel = Literal["others", "own", "any"]
PANELS: dict[str, Message] = {
    "others": _("其他医院的医师"),
    "own": _("本院医师"),
    "any": _("任何医院的医师"),
}
"""Whose doctors read again what this hospital signed."""

RESIDENT_TITLES = ("住院医师", "规培医师", "进修医师", "实习医师")
MAX_RULES = 50
_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")


@dataclass(frozen=True, slots=True)
class Target:
    """A rule of targeted peer review: what is empty fits every report; `rate` is a share from 0 to 1."""

    rate: float
    author_id: str = ""
    modality: str = ""
    body_part: str = ""
    critical: bool = False


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """A hospital's rules on the second pair of eyes.

    Attributes:
        double: Author and signer are two people.
        alone: … but for the cases of the next three, in which an attending may sign his own report.
        alone_by: Who may (ids); empty: every attending with the reviewer's role.
        alone_hours: When; empty: at any time.
        alone_emergency: Only emergencies.
        preliminary: Preliminary reports may be issued.
        preliminary_hours: When; empty: at any time.
        preliminary_attending: Only attendings issue them.
        preliminary_emergency: Only of emergencies and urgent exams.
        resident_titles: Titles of those whose reports an attending always reviews.
        residents, attendings: People of whom the title does not say it (ids).
        grade_required: A reviewer grades his agreement before he signs.
        arbiter_id: Who decides on significant disagreement; empty: the centre's director.
        random: Share of signed reports read again, by modality; "*" for those not named.
        targets: Rules of targeted peer review.
        panel: Whose doctors read again.
        peer_days: Days that a second reader has.
    """

    double: bool = True
    alone: bool = False
    alone_by: frozenset[str] = frozenset()
    alone_hours: tuple[Span, ...] = ()
    alone_emergency: bool = False
    preliminary: bool = False
    preliminary_hours: tuple[Span, ...] = ((18 * 60, 8 * 60),)
    preliminary_attending: bool = False
    preliminary_emergency: bool = True
    resident_titles: frozenset[str] = frozenset(RESIDENT_TITLES)
    residents: frozenset[str] = frozenset()
    attendings: frozenset[str] = frozenset()
    grade_required: bool = False
    arbiter_id: str = ""
    random: Mapping[str, float] = field(default_factory=dict)
    targets: tuple[Target, ...] = ()
    panel: Panel = "others"
    peer_days: int = 7

    def is_resident(self, person: Person | None) -> bool:
        """Whether an attending must review what this person writes. Who is unknown counts as a resident."""
        if person is None:
            return True
        if person.id in self.attendings:
            return False
        return person.id in self.residents or person.title.strip() in self.resident_titles

    def may_sign_alone(self, person: Person | None, *, emergency: bool, at: datetime) -> bool:
        """Whether this person's own signature is enough for a report that he wrote."""
        if person is None or self.is_resident(person):
            return False
        if not self.double:
            return True
        return (
            self.alone
            and (not self.alone_by or person.id in self.alone_by)
            and (emergency or not self.alone_emergency)
            and within(self.alone_hours, at)
        )

    def may_issue_preliminary(self, person: Person | None, *, emergency: bool, at: datetime) -> bool:
        """Whether this person may send the clinic a preliminary report now."""
        return (
            self.preliminary
            and person is not None
            and not (self.preliminary_attending and self.is_resident(person))
            and (emergency or not self.preliminary_emergency)
            and within(self.preliminary_hours, at)
        )

    def random_rate(self, modality: str) -> float:
        """Share of this modality's reports that is read again."""
        return self.random.get(modality, self.random.get("*", 0.0))


def within(spans: Sequence[Span], at: datetime) -> bool:
    """Whether a moment lies in one of the spans, by the county's clock. No span: always."""
    if not spans:
        return True
    local = at.astimezone(ZoneInfo(get_settings().timezone))
    minute = local.hour * 60 + local.minute
    return any(
        start <= minute < end if start < end else minute >= start or minute < end for start, end in spans
    )  # fmt: skip


def policy_of(org: Organisation | None) -> ReviewPolicy:
    """The policy of a hospital; of an exam that no hospital has taken yet, the strict one."""
    return parse(org.policy) if org is not None else ReviewPolicy()


def parse(policy: Mapping[str, Any]) -> ReviewPolicy:
    """The rules in `Organisation.policy`. What an older or foreign hand wrote and makes no sense counts as default."""
    found = policy.get(KEY)
    double = bool(policy.get("double_signature", True))
    try:
        return _read(found if isinstance(found, Mapping) else {}, double)
    except Invalid:
        return ReviewPolicy(double=double)


def checked(values: Mapping[str, Any], *, double: bool) -> ReviewPolicy:
    """The rules of what a page sent.

    Raises:
        Invalid: With each field that makes no sense.
    """
    return _read(values, double)


def _read(values: Mapping[str, Any], double: bool) -> ReviewPolicy:
    default = ReviewPolicy(double=double)
    fields: dict[str, Message | str] = {}
    flags: dict[str, Any] = {}
    for name in (
        *("alone", "alone_emergency", "preliminary", "preliminary_attending", "preliminary_emergency"),
        "grade_required",
    ):
        flags[name] = values.get(name, getattr(default, name))
        if not isinstance(flags[name], bool):
            fields[name] = _("只能是“是”或“否”")
    people: dict[str, Any] = {}
    for name in ("alone_by", "residents", "attendings"):
        people[name] = frozenset(_texts(name, values.get(name, []), 26, fields))
    both = people["residents"] & people["attendings"]
    if both:
        fields["attendings"] = _("同一人不能既按住院医师又按主治医师对待")
    titles = frozenset(_texts("resident_titles", values.get("resident_titles", list(RESIDENT_TITLES)), 60, fields))
    arbiter = values.get("arbiter_id", "")
    if not isinstance(arbiter, str) or len(arbiter) > 26:
        fields["arbiter_id"] = _("没有这个人")
    panel = values.get("panel", default.panel)
    if panel not in PANELS:
        fields["panel"] = _("没有这种范围")
    days = values.get("peer_days", default.peer_days)
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= 60:
        fields["peer_days"] = _("应为 1 到 60 天")
    hours: dict[str, Any] = {
        "alone_hours": _spans("alone_hours", values.get("alone_hours", []), fields),
        "preliminary_hours": _spans("preliminary_hours", values.get("preliminary_hours", [["18:00", "08:00"]]), fields),
    }
    random = _rates(values.get("random", {}), fields)
    targets = _targets(values.get("targets", []), fields)
    if fields:
        raise Invalid(fields=fields)
    return ReviewPolicy(
        double=double,
        **flags,
        **people,
        **hours,
        resident_titles=titles,
        arbiter_id=str(arbiter),
        random=random,
        targets=targets,
        panel=panel,
        peer_days=days,
    )


def _texts(name: str, value: Any, longest: int, fields: dict[str, Message | str]) -> list[str]:
    if not isinstance(value, list) or any(not isinstance(one, str) or len(one) > longest for one in value):
        fields[name] = _("应为一列文字")
        return []
    return [one.strip() for one in value if one.strip()]


def _spans(name: str, value: Any, fields: dict[str, Message | str]) -> tuple[Span, ...]:
    found: list[Span] = []
    for span in value if isinstance(value, list) else [None]:
        ends = [_minute(one) for one in span] if isinstance(span, list | tuple) and len(span) == 2 else [None]
        if None in ends or ends[0] == ends[1]:
            fields[name] = _("时段应写作 18:00–08:00,起止不能相同")
            return ()
        found.append((ends[0] or 0, ends[1] or 0))
    return tuple(found)


def _minute(text: Any) -> int | None:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        return None
    return int(text[:2]) * 60 + int(text[3:])


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _rate(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _rates(value: Any, fields: dict[str, Message | str]) -> dict[str, float]:
    if not isinstance(value, Mapping):
        fields["random"] = _("应为各检查类型的比例")
        return {}
    found: dict[str, float] = {}
    for modality, given in value.items():
        rate = _rate(given)
        if modality != "*" and modality not in MODALITIES:
            fields[f"random.{modality}"] = _("没有这种检查类型")
        elif rate is None:
            fields[f"random.{modality}"] = _("比例应在 0 到 100% 之间")
        else:
            found[modality] = rate
    return found


def _targets(value: Any, fields: dict[str, Message | str]) -> tuple[Target, ...]:
    if not isinstance(value, list) or len(value) > MAX_RULES:
        fields["targets"] = _("规则最多 {n} 条").format(n=MAX_RULES)
        return ()
    found: list[Target] = []
    for number, rule in enumerate(value):
        rate = _rate(rule.get("rate")) if isinstance(rule, Mapping) else None
        if rate is None:
            fields[f"targets.{number}.rate"] = _("比例应在 0 到 100% 之间")
            continue
        modality, part = str(rule.get("modality", "")), str(rule.get("body_part", ""))
        if modality and modality not in MODALITIES:
            fields[f"targets.{number}.modality"] = _("没有这种检查类型")
        if part and part not in BODY_PARTS:
            fields[f"targets.{number}.body_part"] = _("没有这个部位")
        target = Target(rate, str(rule.get("author_id", ""))[:26], modality, part, bool(rule.get("critical", False)))
        if target == Target(rate):
            fields[f"targets.{number}.rate"] = _("定向复查的规则须至少限定一项;不限定的请用随机抽查")
        found.append(target)
    return tuple(found)


def to_json(policy: ReviewPolicy) -> dict[str, Any]:
    """What is kept under `review`, and what a page is filled with."""
    return {
        "alone": policy.alone,
        "alone_by": sorted(policy.alone_by),
        "alone_hours": [[_clock(start), _clock(end)] for start, end in policy.alone_hours],
        "alone_emergency": policy.alone_emergency,
        "preliminary": policy.preliminary,
        "preliminary_hours": [[_clock(start), _clock(end)] for start, end in policy.preliminary_hours],
        "preliminary_attending": policy.preliminary_attending,
        "preliminary_emergency": policy.preliminary_emergency,
        "resident_titles": sorted(policy.resident_titles),
        "residents": sorted(policy.residents),
        "attendings": sorted(policy.attendings),
        "grade_required": policy.grade_required,
        "arbiter_id": policy.arbiter_id,
        "random": dict(policy.random),
        "targets": [
            {
                "rate": one.rate,
                "author_id": one.author_id,
                "modality": one.modality,
                "body_part": one.body_part,
                "critical": one.critical,
            }
            for one in policy.targets
        ],
        "panel": policy.panel,
        "peer_days": policy.peer_days,
    }


def hours_words(spans: Sequence[Span]) -> Message | str:
    """Spans as people write them."""
    if not spans:
        return _("全天")
    return "、".join(f"{_clock(start)}–{_clock(end)}" for start, end in spans)


def summary(policy: ReviewPolicy, names: Mapping[str, str]) -> list[Message | str]:
    """The policy as sentences.

    Args:
        policy: The rules.
        names: Names of the people whom it mentions, by id.
    """

    def of(people: frozenset[str]) -> str:
        return "、".join(sorted(names.get(one, "?") for one in people))

    found: list[Message | str] = []
    if not policy.double:
        found.append(_("单签:主治及以上医师写完可以自己签发。"))
    elif not policy.alone:
        found.append(_("双签:每份正式报告由一人书写、另一人审核签发。"))
    else:
        found.append(
            _("双签;但{who}在{hours}可以单独签发{what}。").format(
                who=of(policy.alone_by) or _("主治及以上的审核医师"),
                hours=hours_words(policy.alone_hours),
                what=_("急诊检查的报告") if policy.alone_emergency else _("自己书写的报告"),
            )
        )
    found.append(
        _("职称为{titles}的医师{more}书写的报告,任何时候都须由主治及以上医师审核。").format(
            titles="、".join(sorted(policy.resident_titles)) or "—",
            more=_("(以及{names})").format(names=of(policy.residents)) if policy.residents else "",
        )
    )
    if policy.preliminary:
        found.append(
            _(
                "{hours}可以先发急诊报告({who};{what}),注明“以正式报告为准”,之后再审核签发正式报告;结论有变时卫生院须署名确认。"
            ).format(
                hours=hours_words(policy.preliminary_hours),
                who=_("限主治及以上医师") if policy.preliminary_attending else _("书写医师即可"),
                what=_("限急诊和加急检查") if policy.preliminary_emergency else _("不限急诊"),
            )
        )
    else:
        found.append(_("不发急诊报告:卫生院只收到正式报告。"))
    found.append(
        _("审核签发前须评定符合程度;“不符合且有临床意义”的交{who}裁定。").format(
            who=names.get(policy.arbiter_id, "") or _("影像中心主任")
        )
        if policy.grade_required
        else _("审核时可以不评定符合程度。")
    )
    rates = [f"{name} {rate:.0%}" for name, rate in sorted(policy.random.items()) if rate]
    if rates or policy.targets:
        found.append(
            _("签发后抽查:随机 {rates};定向规则 {n} 条。由{panel}盲法复阅,{days} 天内完成。").format(
                rates="、".join(rates) or "—", n=len(policy.targets), panel=PANELS[policy.panel], days=policy.peer_days
            )
        )
    else:
        found.append(_("签发后不抽查。"))
    return found
