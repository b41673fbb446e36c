"""Limits of turnaround: how long a report may take, by class of exam.

Each limit names the clock at which it starts and whether its minutes count by the working calendar. The values live in
the county setting `limits`; the defaults come from one hospital's public notice and are not national, except the
national indicator (2024: emergency X-ray and CT within two hours from exam start to formal issue).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast, get_args

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from hub.exams import calendar
from hub.exams.models import Exam, ExamPause
from hub.kit import clock
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.sites.models import CountySetting

SETTING = "limits"

Clock = Literal["registered", "exam", "received", "preliminary"]
"""Where a limit starts: registration, exam start, fully received, issue of the preliminary report."""

CLOCK_NAMES: dict[str, Message] = {
    "registered": _("完成登记"),
    "exam": _("检查开始"),
    "received": _("接收完整"),
    "preliminary": _("急诊报告发出"),
}


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `minutes` from `clock` to the signature; `working`: minutes of the working calendar."""

    key: str
    minutes: int
    clock: Clock
    working: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """All that the county has set.

    `classes` by class key; `stages` minutes that each stage of an exam should take at most (the county's own wish, for
    the share within limit of a stage); `national_minutes` and `national_target` (percent) of the national indicator.
    `pauses`: whether the readers' clock stands still while a clinic owes an answer. The national one never does.
    """

    classes: dict[str, Limit]
    stages: dict[str, int]
    national_minutes: int
    national_target: float
    pauses: bool = True


CLASS_NAMES: dict[str, Message] = {
    "emergency_xray": _("急诊 X 线"),
    "emergency_ct": _("急诊 CT"),
    "emergency_ct_head": _("急诊头颅 CT"),
    "emergency_other": _("急诊其他检查"),
    "urgent_xray": _("加急 X 线"),
    "urgent_ct": _("加急 CT"),
    "urgent_other": _("加急其他检查"),
    "routine_xray": _("常规 X 线"),
    "ct_outpatient": _("门诊 CT"),
    "ct_inpatient": _("住院 CT"),
    "routine_other": _("常规其他检查"),
    "formal": _("急诊报告后的正式报告"),
    "complex": _("疑难会诊"),
}

STAGES: dict[str, Message] = {
    "upload": _("上传"),
    "verify": _("核对"),
    "wait": _("等待"),
    "read": _("书写"),
    "review": _("审核"),
    "return": _("回传"),
    "seen": _("临床查看"),
}
"""Stages of an exam in their order; their clocks are in hub.turnaround."""

_CLASSES: dict[str, tuple[int, Clock, bool]] = {
    "emergency_xray": (30, "received", False),
    "emergency_ct": (60, "received", False),
    "emergency_ct_head": (30, "received", False),
    "emergency_other": (60, "received", False),
    "urgent_xray": (60, "received", False),
    "urgent_ct": (120, "received", False),
    "urgent_other": (120, "received", False),
    "routine_xray": (120, "received", False),
    "ct_outpatient": (240, "received", True),
    "ct_inpatient": (360, "received", True),
    "routine_other": (360, "received", True),
    "formal": (240, "preliminary", True),
    "complex": (1440, "received", False),
}

DEFAULTS = Limits(
    classes={key: Limit(key, *value) for key, value in _CLASSES.items()},
    stages={"upload": 30, "verify": 30, "wait": 30, "read": 30, "review": 30, "return": 5, "seen": 60},
    national_minutes=120,
    national_target=95.0,
)

_XRAY = frozenset({"DX", "MG", "RF"})
_MOST_MINUTES = 60 * 24 * 60


def class_of(exam: Exam) -> str:
    """The class whose limit counts for `exam` now.

    A preliminary report changes it to the limit of the formal one, a consultation to that of complex exams.
    """
    if exam.preliminary_at is not None:
        return "formal"
    if exam.consultation_at is not None:
        return "complex"
    return first_class(exam.modality, exam.priority, exam.encounter, exam.body_parts)


def first_class(modality: str, priority: str, encounter: str, body_parts: list[str]) -> str:
    """The class of an exam as it was asked for."""
    kind = "ct" if modality == "CT" else "xray" if modality in _XRAY else "other"
    if priority == "emergency":
        # Head alone: an emergency of head and chest together is not read faster than a chest.
        return "emergency_ct_head" if kind == "ct" and body_parts == ["head"] else f"emergency_{kind}"
    if priority == "urgent":
        return f"urgent_{kind}"
    if kind == "ct":
        return "ct_inpatient" if encounter == "inpatient" else "ct_outpatient"
    return f"routine_{kind}"


def load(session: Session) -> Limits:
    """The county's limits, or the defaults; remembered for the length of the session."""
    known = session.info.get("limits")
    if not isinstance(known, Limits):
        row = session.get(CountySetting, SETTING)
        known = parse(row.value) if row is not None else DEFAULTS
        session.info["limits"] = known
    return known


def limit_for(session: Session, exam: Exam) -> Limit:
    """The limit that counts for `exam` now."""
    return load(session).classes[class_of(exam)]


def started_at(exam: Exam, clock: Clock) -> datetime | None:
    """The moment at which `clock` started for `exam`; None where it has not."""
    moments: dict[Clock, datetime | None] = {
        "registered": exam.registered_at,
        "exam": exam.exam_at,
        # Verified by hand without a count: its queue entry is then the moment of full reception.
        "received": exam.received_at or exam.queued_at,
        "preliminary": exam.preliminary_at,
    }
    return moments[clock]


def due_at(session: Session, exam: Exam) -> datetime | None:
    """When the report of `exam` is due; None while the clock of its limit has not started.

    Time for which the clock stood still is given back; a pause that lasts counts from its end on.
    """
    limit = limit_for(session, exam)
    start = started_at(exam, limit.clock)
    if start is None:
        return None
    given = sum(_minutes(session, max(start, began), ended, limit) for began, ended in pauses_of(session, exam.id))
    return add(session, start, limit, more=given)


def pauses_of(session: Session, exam_id: str) -> list[tuple[datetime, datetime]]:
    """From when to when the exam's clock stood still, without a pause that still lasts."""
    rows = session.execute(
        select(ExamPause.began_at, ExamPause.ended_at)
        .where(ExamPause.exam_id == exam_id, ExamPause.ended_at.is_not(None))
        .order_by(ExamPause.began_at)
    )
    return [(began, ended) for began, ended in rows if ended is not None]


def _minutes(session: Session, began: datetime, ended: datetime, limit: Limit) -> float:
    if ended <= began:
        return 0.0
    if limit.working:
        return calendar.load(session).working_minutes_between(began, ended)
    return (ended - began) / timedelta(minutes=1)


def pause(session: Session, exam: Exam, why: str) -> datetime | None:
    """Let the exam's clock stand still, if the county wants so; returns the value of its `paused_at`."""
    if not load(session).pauses:
        return None
    now = clock.now()
    session.add(ExamPause(exam_id=exam.id, why=why, began_at=now, ended_at=None))
    session.flush()
    return now


def resume(session: Session, exam: Exam) -> None:
    """End the exam's pause, if it has one. Its `due_at` must be counted anew and its `paused_at` emptied."""
    session.execute(
        update(ExamPause)
        .where(ExamPause.exam_id == exam.id, ExamPause.ended_at.is_(None))
        .values(ended_at=clock.now())
        .execution_options(synchronize_session=False)
    )


def is_overdue(exam: Exam, now: datetime) -> bool:
    """Whether the report is late at `now`: the clock of a paused exam shows the time at which it stopped."""
    return exam.due_at is not None and exam.due_at < (exam.paused_at or now)


def add(session: Session, start: datetime, limit: Limit, *, more: float = 0) -> datetime:
    """The end of `limit`, and `more` minutes of its kind, that starts at `start`."""
    if limit.working:
        return calendar.load(session).add_working_minutes(start, limit.minutes + more)
    return start + timedelta(minutes=limit.minutes + more)


def to_json(limits: Limits) -> dict[str, Any]:
    """The setting that gives these limits again."""
    return {
        "classes": {
            key: {name: value for name, value in asdict(limit).items() if name != "key"}
            for key, limit in limits.classes.items()
        },
        "stages": dict(limits.stages),
        "national_minutes": limits.national_minutes,
        "national_target": limits.national_target,
        "pauses": limits.pauses,
    }


def parse(value: Mapping[str, Any]) -> Limits:
    """Limits from their setting; what is not named keeps its default.

    Raises:
        Invalid: With one message per field (`classes.emergency_ct.minutes`, `stages.read`, `national_target` …).
    """
    fields: dict[str, Message | str] = {}

    def minutes(name: str, given: Any) -> int:
        if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _MOST_MINUTES:
            fields[name] = _("应为 1 到 {most} 之间的整数分钟").format(most=_MOST_MINUTES)
            return 1
        return given

    def part(name: str, known: Mapping[str, object]) -> Mapping[str, Any]:
        given = value.get(name, {})
        if not isinstance(given, dict):
            fields[name] = _("格式不对")
            return {}
        for key in given:
            if key not in known:
                fields[f"{name}.{str(key)[:40]}"] = _("没有这一项")
        return given

    classes: dict[str, Limit] = {}
    given_classes = part("classes", DEFAULTS.classes)
    for key, default in DEFAULTS.classes.items():
        given = given_classes.get(key, {})
        if not isinstance(given, dict):
            fields[f"classes.{key}"] = _("格式不对")
            continue
        start, working = given.get("clock", default.clock), given.get("working", default.working)
        if start not in get_args(Clock):
            fields[f"classes.{key}.clock"] = _("没有这个起点")
            start = default.clock
        elif start == "preliminary" and key != "formal":
            # Nobody else's clock would ever start, and without one an exam is never overdue.
            fields[f"classes.{key}.clock"] = _("只有正式报告的时限能从急诊报告算起")
        if not isinstance(working, bool):
            fields[f"classes.{key}.working"] = _("格式不对")
            working = default.working
        classes[key] = Limit(
            key, minutes(f"classes.{key}.minutes", given.get("minutes", default.minutes)), cast(Clock, start), working
        )
    given_stages = part("stages", DEFAULTS.stages)
    stages = {key: minutes(f"stages.{key}", given_stages.get(key, default)) for key, default in DEFAULTS.stages.items()}
    national = minutes("national_minutes", value.get("national_minutes", DEFAULTS.national_minutes))
    target = value.get("national_target", DEFAULTS.national_target)
    if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target <= 100:
        fields["national_target"] = _("应为 0 到 100 之间的数")
        target = DEFAULTS.national_target
    pauses = value.get("pauses", DEFAULTS.pauses)
    if not isinstance(pauses, bool):
        fields["pauses"] = _("格式不对")
    if fields:
        raise Invalid(fields=fields)
    return Limits(classes, stages, national, float(target), bool(pauses))
