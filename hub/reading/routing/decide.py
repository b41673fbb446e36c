"""Where an exam goes, and why: a function of plain facts, the same for exams that arrive and for trying rules out.

Organisations stand in the reasons by their codes (`hospital`, `hospitals`, `clinics`); hub.reading.routing.words says
them by name in the reader's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hub.exams.calendar import WEEKDAYS
from hub.exams.catalogue import BODY_PARTS, ENCOUNTERS, MODALITIES, PRIORITIES
from hub.kit.i18n import Message, _
from hub.reading.routing.plan import Plan, Rule
from hub.reading.routing.skills import covers

Skills = tuple[str, ...]

RETAKE = "retake_asked"
"""Stands for the rule of a retake; no key of a county's rule has an underscore."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision depends on.

    Attributes:
        plan: The rules.
        at: The moment of the decision, aware.
        zone: The county's zone, in which hours and weekdays are meant.
        clinic: Code of the requesting organisation.
        modality: CT, DX, …
        body_parts: Codes of hub.exams.catalogue.
        priority: emergency, urgent, routine.
        encounter: outpatient, emergency, inpatient, checkup.
        hospitals: Codes of the active reading hospitals.
        agreements: Codes of the hospitals that read for the clinic, the first first.
        rota: Codes of the hospitals that keep a rota; the others count as manned at all hours.
        duty: Who is on duty now: code → the skills of each person.
        counts: Exams that a rule gave to a hospital within the plan's window: (rule, hospital) → number.
        tried: Hospitals that were asked and did not answer.
        settled: The hospital where the exam was routed before, which keeps it while it can read it.
        retake_by: Code of the hospital that asked for the images again; empty: it is no retake.
    """

    plan: Plan
    at: datetime
    zone: str
    clinic: str
    modality: str
    body_parts: tuple[str, ...] = ()
    priority: str = "routine"
    encounter: str = "outpatient"
    hospitals: frozenset[str] = frozenset()
    agreements: tuple[str, ...] = ()
    rota: frozenset[str] = frozenset()
    duty: Mapping[str, tuple[Skills, ...]] = field(default_factory=dict)
    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    tried: tuple[str, ...] = ()
    settled: str | None = None
    retake_by: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Where it goes.

    Attributes:
        hospital: Code; None is the shared pool.
        why: In the order of thought; the last line names the result.
        rule: Key of the rule, or `emergency`, `agreement`, `pool`, or RETAKE.
        answer_minutes: After so long without an answer the next is asked; 0: never.
        offered: Codes of the hospitals to whom an emergency in the pool is offered, all with somebody on duty.
    """

    hospital: str | None
    why: tuple[Message, ...]
    rule: str
    answer_minutes: int = 0
    offered: tuple[str, ...] = ()


def decide(facts: Facts) -> Decision:
    """Where the exam goes now."""
    why: list[Message] = []
    usual = facts.plan.answer_minutes.get(facts.priority, 0)
    if facts.retake_by and (found := _retake(facts, why, usual)) is not None:
        return found
    if facts.priority == "emergency" and facts.plan.emergency_to_all:
        found = _emergency(facts, why, usual)
        if found is not None:
            return found
    for rule in facts.plan.rules:
        if not rule.active or not fits(rule, facts):
            continue
        why.append(_("规则“{name}”符合:{conditions}").format(name=rule.name, conditions=_conditions(rule)))
        chosen = _share(rule, facts, why)
        if chosen is None:
            why.append(_("规则“{name}”的医院都接不了,继续看下一条").format(name=rule.name))
            continue
        minutes = usual if rule.answer_minutes is None else rule.answer_minutes
        why.append(_goes(chosen))
        return Decision(chosen, tuple(why), rule.key, minutes)
    if not why:
        why.append(_("没有规则适用于这项检查,按阅片协议"))
    for code in facts.agreements:
        refusal = _unable(code, facts)
        if refusal is None:
            why.append(_("{hospital}与申请机构有阅片协议").format(hospital=code))
            why.append(_goes(code))
            return Decision(code, tuple(why), "agreement", usual)
        why.append(refusal)
    if not facts.agreements:
        why.append(_("申请机构没有阅片协议"))
    why.append(_("进入共享池,任何医院都可以接"))
    return Decision(None, tuple(why), "pool", 0)


def _retake(facts: Facts, why: list[Message], minutes: int) -> Decision | None:
    """Who asked for the images again knows what he looks for: it is his hospital's, while it can and may read it."""
    code = facts.retake_by
    why.append(_("这是重拍检查,由{hospital}要求重拍").format(hospital=code))
    refusal = _unable(code, facts)
    if refusal is None and not _covered(code, facts):
        refusal = _("{hospital}已不在阅片协议和规则之内").format(hospital=code)
    to_all = facts.priority == "emergency" and facts.plan.emergency_to_all
    if refusal is None and to_all and not facts.duty.get(code) and _manned(facts):
        refusal = _("{hospital}没有排值班表,急诊不等").format(hospital=code)
    if refusal is None:
        why.append(_goes(code))
        return Decision(code, tuple(why), RETAKE, minutes)
    why.append(refusal)
    why.append(_("要求重拍的{hospital}接不了,按规则和协议").format(hospital=code))
    return None


def _covered(code: str, facts: Facts) -> bool:
    """Whether a hospital may still be given the clinic's exams: agreement, rule, shared pool, or emergencies to all."""
    return (
        not facts.agreements
        or code in facts.agreements
        or (facts.priority == "emergency" and facts.plan.emergency_to_all)
        or any(
            rule.active
            and not rule.agreed_only
            and fits(rule, facts)
            and any(target.hospital == code for target in rule.targets)
            for rule in facts.plan.rules
        )
    )


def _emergency(facts: Facts, why: list[Message], minutes: int) -> Decision | None:
    manned = _manned(facts)
    if not manned:
        why.append(_("急诊发给所有值班医院,但值班表上现在没有人,按规则和协议"))
        return None
    able = [code for code in manned if any(covers(one, facts.modality, facts.body_parts) for one in facts.duty[code])]
    if not able:
        why.append(_("值班医师都没有登记这类检查的阅片能力;急诊不等,仍发给全部值班医院"))
        able = manned
    for code in able:
        why.append(_("{hospital}现有 {n} 人值班").format(hospital=code, n=len(facts.duty[code])))
    if len(able) == 1 and able[0] not in facts.tried:
        why.append(_goes(able[0]))
        return Decision(able[0], tuple(why), "emergency", minutes, tuple(able))
    if facts.tried:
        why.append(_("已等过 {hospitals},无人应答").format(hospitals="、".join(facts.tried)))
    why.append(_("急诊同时发给 {hospitals},先接先得").format(hospitals="、".join(able)))
    return Decision(None, tuple(why), "emergency", 0 if facts.tried else minutes, tuple(able))


def _manned(facts: Facts) -> list[str]:
    """Codes of the hospitals with somebody on duty now."""
    return [code for code in sorted(facts.duty) if code in facts.hospitals and facts.duty[code]]


def fits(rule: Rule, facts: Facts) -> bool:
    """Whether the conditions of `rule` hold."""
    return (
        (not rule.clinics or facts.clinic in rule.clinics)
        and (not rule.modalities or facts.modality in rule.modalities)
        and (not rule.body_parts or not set(rule.body_parts).isdisjoint(facts.body_parts))
        and (not rule.priorities or facts.priority in rule.priorities)
        and (not rule.encounters or facts.encounter in rule.encounters)
        and within(rule, facts.at, facts.zone)
    )


def within(rule: Rule, at: datetime, zone: str) -> bool:
    """Whether `at` lies in the rule's hours; a span over midnight belongs to the weekday on which it begins."""
    local = at.astimezone(ZoneInfo(zone))
    days = rule.weekdays or tuple(range(7))
    today, yesterday = local.weekday(), (local - timedelta(days=1)).weekday()
    if not rule.start or rule.start == rule.end:
        # The whole day from `start` on: what lies before it belongs to the day before.
        return (today if not rule.start or f"{local:%H:%M}" >= rule.start else yesterday) in days
    now = f"{local:%H:%M}"
    if rule.start < rule.end:
        return today in days and rule.start <= now < rule.end
    return (today in days and now >= rule.start) or (yesterday in days and now < rule.end)


def _share(rule: Rule, facts: Facts, why: list[Message]) -> str | None:
    """The hospital of `rule` that is furthest behind its part of the load, of those who can read the exam."""
    able = []
    for target in rule.targets:
        refusal = _unable(target.hospital, facts)
        if refusal is None and rule.agreed_only and target.hospital not in facts.agreements:
            refusal = _("{hospital}与申请机构没有阅片协议").format(hospital=target.hospital)
        if refusal is None:
            able.append(target)
        else:
            why.append(refusal)
    weighted = [target for target in able if target.weight > 0] or able
    if not weighted:
        return None
    if any(target.hospital == facts.settled for target in weighted):
        why.append(_("已经在{hospital},不再变动").format(hospital=facts.settled or ""))
        return facts.settled
    if len(weighted) == 1:
        return weighted[0].hospital
    whole = sum(target.weight for target in weighted) or len(weighted)
    loads = []
    for place, target in enumerate(weighted):
        count = facts.counts.get((rule.key, target.hospital), 0)
        weight = target.weight or 1
        loads.append(((count + 1) / weight, place, target.hospital))
        why.append(
            _("{hospital}应占 {share}%,近 {hours} 小时已接 {n} 份").format(
                hospital=target.hospital,
                share=round(100 * weight / whole),
                hours=facts.plan.share_hours,
                n=count,
            )
        )
    return min(loads)[2]


def _unable(code: str, facts: Facts) -> Message | None:
    """Why a hospital cannot read the exam now; None where it can."""
    if code not in facts.hospitals:
        return _("{hospital}已停用或不阅片").format(hospital=code)
    if code in facts.tried:
        return _("{hospital}已被询问,无人应答").format(hospital=code)
    if code not in facts.rota:
        return None
    people = facts.duty.get(code, ())
    if not people:
        return _("{hospital}现在无人值班").format(hospital=code)
    if not any(covers(one, facts.modality, facts.body_parts) for one in people):
        return _("{hospital}的值班医师没有登记这类检查的阅片能力").format(hospital=code)
    return None


def _goes(code: str) -> Message:
    return _("因此到{hospital}").format(hospital=code)


def _conditions(rule: Rule) -> Message:
    said: list[Message] = []
    if rule.clinics:
        said.append(_("{clinics}申请").format(clinics="、".join(rule.clinics)))
    for values, known in (
        (rule.priorities, PRIORITIES),
        (rule.encounters, ENCOUNTERS),
        (rule.modalities, MODALITIES),
    ):
        said += [known[value] for value in values if value in known]
    said += [BODY_PARTS[part].name for part in rule.body_parts if part in BODY_PARTS]
    if rule.weekdays:
        said += [WEEKDAYS[day] for day in rule.weekdays]
    if rule.start:
        said.append(_("{start} 至 {end}").format(start=rule.start, end=rule.end))
    return _listed(said) if said else _("所有检查")


def _listed(parts: list[Message]) -> Message:
    """Several words as one message, so that each is said in the reader's language."""
    names = [f"w{number}" for number in range(len(parts))]
    return Message("、".join(f"{{{name}}}" for name in names), dict(zip(names, parts, strict=True)))
