"""The county's routing rules as data: what an administrator keeps on a page, exports and takes in again.

Organisations stand in it by their code, which never changes. The first rule that fits an exam and of whose hospitals
one can read it decides; without one, the agreements of the exam's clinic do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hub.exams.catalogue import BODY_PARTS, ENCOUNTERS, MODALITIES, PRIORITIES
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _

MAX_RULES = 100
MOST_MINUTES = 24 * 60
MOST_WEIGHT = 1000
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_KEY = re.compile(r"[a-z0-9-]{1,32}")
RESERVED = frozenset({"emergency", "agreement", "pool", "balance", "hand"})
"""Keys of decisions that no rule made."""


@dataclass(frozen=True, slots=True)
class Target:
    """A hospital of a rule and its part of the load; weight 0 is asked only when the others cannot."""

    hospital: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """One line. An empty condition fits everything.

    Attributes:
        key: Its name among the decisions, `[a-z0-9-]`; its load shares are counted under it.
        name: For people.
        active: Whether it counts.
        clinics: Codes of requesting organisations.
        modalities: CT, DX, …
        body_parts: Fits an exam that has one of them.
        priorities: emergency, urgent, routine.
        encounters: outpatient, emergency, inpatient, checkup.
        weekdays: 0 Monday … 6 Sunday: the day on which the span of hours begins.
        start: `HH:MM` in the county's zone, or empty.
        end: `HH:MM`, or empty; before `start` it is of the next day, equal to it the whole day.
        targets: Hospitals and their weights.
        agreed_only: Only those of `targets` that have an agreement with the exam's clinic.
        answer_minutes: After so long without an answer the next is asked; 0 never; None: as the plan says.
    """

    key: str
    name: str = ""
    active: bool = True
    clinics: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    encounters: tuple[str, ...] = ()
    weekdays: tuple[int, ...] = ()
    start: str = ""
    end: str = ""
    targets: tuple[Target, ...] = ()
    agreed_only: bool = False
    answer_minutes: int | None = None


@dataclass(frozen=True, slots=True)
class Balance:
    """When a hospital counts as behind: an exam of it waits unclaimed for `waiting_minutes`, or has used
    `limit_percent` of its limit; at least `exams` such. `automatic`: the hub moves them by itself."""

    waiting_minutes: int = 60
    limit_percent: int = 80
    exams: int = 3
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it.

    Attributes:
        rules: In order.
        emergency_to_all: Emergencies go to all hospitals that have somebody on duty; the first claim takes one.
        answer_minutes: By priority; 0: nobody else is asked.
        share_hours: Load shares are counted over so many hours.
        pool_shares: Weight of a hospital's part of the shared pool; 1 for who is not named.
        balance: When waiting exams are moved.
    """

    rules: tuple[Rule, ...] = ()
    emergency_to_all: bool = True
    answer_minutes: Mapping[str, int] = field(
        default_factory=lambda: {"emergency": 10, "urgent": 30, "routine": 0}, hash=False
    )
    share_hours: int = 24
    pool_shares: Mapping[str, int] = field(default_factory=dict, hash=False)
    balance: Balance = Balance()


DEFAULT = Plan()


def to_json(plan: Plan) -> dict[str, Any]:
    """What `parse` reads again."""
    body = asdict(plan)
    body["answer_minutes"], body["pool_shares"] = dict(plan.answer_minutes), dict(plan.pool_shares)
    body["rules"] = [
        {
            name: [dict(one) if isinstance(one, dict) else one for one in value] if isinstance(value, tuple) else value
            for name, value in rule.items()
        }
        for rule in body["rules"]
    ]
    return body


class _Reader:
    """Reads values and remembers what is wrong with which."""

    def __init__(self) -> None:
        self.errors: dict[str, Message | str] = {}

    def whole(self, where: str, value: Any, least: int, most: int, default: int) -> int:
        """A whole number within bounds."""
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.errors[where] = _("应为 {least} 到 {most} 之间的整数").format(least=least, most=most)
            return default
        return value

    def flag(self, where: str, value: Any) -> bool:
        """True or false."""
        if not isinstance(value, bool):
            self.errors[where] = _("格式不对")
            return False
        return value

    def text(self, where: str, value: Any, most: int) -> str:
        """A short text."""
        if not isinstance(value, str) or len(value) > most:
            self.errors[where] = _("最多 {n} 个字").format(n=most)
            return ""
        return value.strip()

    def some(self, where: str, value: Any, known: Mapping[Any, object] | frozenset[Any] | None) -> tuple[Any, ...]:
        """A list of known values, each once."""
        if not isinstance(value, list | tuple) or len(value) > 500:
            self.errors[where] = _("格式不对")
            return ()
        for one in value:
            hashable = isinstance(one, str | int) and not isinstance(one, bool)
            if not hashable or (known is not None and one not in known):
                self.errors[where] = _("没有“{name}”").format(name=str(one)[:40])
                return ()
        return tuple(dict.fromkeys(value))

    def time(self, where: str, value: Any) -> str:
        """HH:MM, 24:00 as 00:00, or nothing."""
        text = str(value or "").strip().replace("24:00", "00:00")
        if text and not _TIME.fullmatch(text):
            self.errors[where] = _("时间应写作 08:00")
            return ""
        return text

    def unknown(self, where: str, value: Mapping[str, Any], known: set[str]) -> None:
        """Names that nobody reads are errors: a misspelt condition would otherwise fit everything."""
        for name in value:
            if name not in known:
                self.errors[f"{where}{str(name)[:40]}"] = _("没有这一项")


def parse(value: Mapping[str, Any], *, clinics: frozenset[str] | None, hospitals: frozenset[str] | None) -> Plan:
    """A plan from its JSON; what is not named keeps its default.

    Args:
        value: As `to_json` writes it.
        clinics: Codes that `clinics` may name; None: not checked (a version that was checked when it was saved).
        hospitals: Codes that `targets` and `pool_shares` may name; None: not checked.

    Raises:
        Invalid: One message per field, such as `rules.0.targets`.
    """
    read = _Reader()
    if not isinstance(value, Mapping):
        raise Invalid(fields={"rules": _("格式不对")})
    read.unknown("", value, set(Plan.__slots__))
    answer = value.get("answer_minutes", {})
    if not isinstance(answer, dict):
        read.errors["answer_minutes"] = _("格式不对")
        answer = {}
    read.unknown("answer_minutes.", answer, set(PRIORITIES))
    minutes = {
        name: read.whole(f"answer_minutes.{name}", answer.get(name, usual), 0, MOST_MINUTES, usual)
        for name, usual in DEFAULT.answer_minutes.items()
    }
    shares = value.get("pool_shares", {})
    if not isinstance(shares, dict):
        read.errors["pool_shares"] = _("格式不对")
        shares = {}
    if hospitals is not None:
        read.unknown("pool_shares.", shares, set(hospitals))
    rules = value.get("rules", [])
    if not isinstance(rules, list | tuple) or len(rules) > MAX_RULES:
        read.errors["rules"] = _("最多 {n} 条规则").format(n=MAX_RULES)
        rules = []
    parsed = tuple(_rule(read, f"rules.{number}", one, clinics, hospitals) for number, one in enumerate(rules))
    keys = [rule.key for rule in parsed]
    for number, key in enumerate(keys):
        if key in keys[:number]:
            read.errors[f"rules.{number}.key"] = _("规则编号重复")
    plan = Plan(
        rules=parsed,
        emergency_to_all=read.flag("emergency_to_all", value.get("emergency_to_all", DEFAULT.emergency_to_all)),
        answer_minutes=minutes,
        share_hours=read.whole("share_hours", value.get("share_hours", DEFAULT.share_hours), 1, 24 * 31, 24),
        pool_shares={
            str(code): read.whole(f"pool_shares.{code}", weight, 0, MOST_WEIGHT, 1) for code, weight in shares.items()
        },
        balance=_balance(read, value.get("balance", {})),
    )
    if read.errors:
        raise Invalid(fields=read.errors)
    return plan


def _balance(read: _Reader, value: Any) -> Balance:
    if not isinstance(value, dict):
        read.errors["balance"] = _("格式不对")
        return Balance()
    read.unknown("balance.", value, set(Balance.__slots__))
    usual = Balance()
    return Balance(
        waiting_minutes=read.whole(
            "balance.waiting_minutes", value.get("waiting_minutes", usual.waiting_minutes), 1, 7 * MOST_MINUTES, 60
        ),
        limit_percent=read.whole("balance.limit_percent", value.get("limit_percent", usual.limit_percent), 1, 200, 80),
        exams=read.whole("balance.exams", value.get("exams", usual.exams), 1, 1000, 3),
        automatic=read.flag("balance.automatic", value.get("automatic", usual.automatic)),
    )


def _rule(
    read: _Reader, where: str, value: Any, clinics: frozenset[str] | None, hospitals: frozenset[str] | None
) -> Rule:
    if not isinstance(value, dict):
        read.errors[where] = _("格式不对")
        return Rule(key=where)
    read.unknown(f"{where}.", value, set(Rule.__slots__))
    key = value.get("key", "")
    if not isinstance(key, str) or not _KEY.fullmatch(key) or key in RESERVED:
        read.errors[f"{where}.key"] = _("规则编号只能用小写字母、数字和连字符")
        key = where
    name = read.text(f"{where}.name", value.get("name", ""), 60)
    if not name:
        read.errors.setdefault(f"{where}.name", _("请填写名称"))
    targets: list[Target] = []
    given = value.get("targets", [])
    for number, one in enumerate(given if isinstance(given, list | tuple) and len(given) <= 50 else []):
        code = one.get("hospital") if isinstance(one, dict) else None
        if not isinstance(code, str) or (hospitals is not None and code not in hospitals):
            read.errors[f"{where}.targets"] = _("没有“{name}”").format(name=str(code)[:40])
            continue
        weight = read.whole(f"{where}.targets.{number}", one.get("weight", 1), 0, MOST_WEIGHT, 1)
        targets.append(Target(code, weight))
    if not targets:
        read.errors.setdefault(f"{where}.targets", _("请至少选择一家医院"))
    elif len({target.hospital for target in targets}) < len(targets):
        read.errors[f"{where}.targets"] = _("同一家医院出现了两次")
    start, end = (read.time(f"{where}.{name}", value.get(name, "")) for name in ("start", "end"))
    if bool(start) != bool(end):
        read.errors.setdefault(f"{where}.start", _("起止时间要么都填,要么都不填"))
    answer = value.get("answer_minutes")
    return Rule(
        key=key,
        name=name,
        active=read.flag(f"{where}.active", value.get("active", True)),
        clinics=read.some(f"{where}.clinics", value.get("clinics", []), clinics),
        modalities=read.some(f"{where}.modalities", value.get("modalities", []), MODALITIES),
        body_parts=read.some(f"{where}.body_parts", value.get("body_parts", []), BODY_PARTS),
        priorities=read.some(f"{where}.priorities", value.get("priorities", []), PRIORITIES),
        encounters=read.some(f"{where}.encounters", value.get("encounters", []), ENCOUNTERS),
        weekdays=read.some(f"{where}.weekdays", value.get("weekdays", []), frozenset(range(7))),
        start=start,
        end=end,
        targets=tuple(targets),
        agreed_only=read.flag(f"{where}.agreed_only", value.get("agreed_only", False)),
        answer_minutes=None if answer is None else read.whole(f"{where}.answer_minutes", answer, 0, MOST_MINUTES, 0),
    )
