"""Figures of image quality and mutual recognition, by clinic and over time. No patient, no word of a report.

An empty denominator is None ("no data"), never 0 % or 100 %. What was not judged is no good image and no bad one: every
rate of grades stands on what was scored, and how much that is stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.cells import safe
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.reading.scoring.catalogue import GRADES, INDICATOR_MODALITIES
from hub.reading.scoring.models import ImageScore
from hub.reports.recognition.models import Recognition
from hub.reports.recognition.rules import REASONS
from hub.reports.recognition.states import RecognitionState
from hub.sites import service as sites
from hub.turnaround.frame import bounds

TARGETS = "quality_targets"
DEFAULT_TARGETS: dict[str, float] = {"grade_a": 70.0, "reject": 2.0, "artefact": 2.0}
"""Per cent; the county's own rates and its target for the national indicator of artefacts."""

TARGET_NAMES: dict[str, Message] = {"grade_a": _("甲级片率"), "reject": _("废片率"), "artefact": _("CT/MR 严重伪影率")}
AT_LEAST = frozenset({"grade_a"})
"""Rates of which more is better; of the others less is."""


@dataclass(frozen=True, slots=True)
class Rate:
    """`done` of `of`; `share` is None where there is nothing to share."""

    done: int
    of: int

    @property
    def share(self) -> float | None:
        """done ÷ of."""
        return self.done / self.of if self.of else None


@dataclass(slots=True)
class Images:
    """How images of one clinic (or week, or all) were judged.

    Attributes:
        exams: With images.
        grades: Scored exams by grade.
        indicator: CT and MR exams; `indicator_scored` of them were judged, `bad` had a bad artefact.
        reasons: How often each reason was given.
    """

    exams: int = 0
    grades: dict[str, int] = field(default_factory=lambda: dict.fromkeys(GRADES, 0))
    indicator: int = 0
    indicator_scored: int = 0
    bad: int = 0
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Exams that were judged."""
        return sum(self.grades.values())

    def rate(self, name: str) -> Rate:
        """One of TARGETS' rates.

        The artefact rate is the national indicator, bad ones ÷ all CT and MR exams. While none of them was judged there
        is no data, however many there were: nobody has looked.
        """
        if name == "grade_a":
            return Rate(self.grades["A"], self.scored)
        if name == "reject":
            return Rate(self.grades["reject"], self.scored)
        return Rate(self.bad, self.indicator if self.indicator_scored else 0)

    def top_reasons(self, most: int = 3) -> list[str]:
        """The reasons that were given most often."""
        return sorted(self.reasons, key=lambda code: (-self.reasons[code], code))[:most]

    def add(self, modality: str, grade: str | None, artefact: str | None, reasons: Iterable[str]) -> None:
        """Count one exam."""
        self.exams += 1
        counted = modality in INDICATOR_MODALITIES
        self.indicator += counted
        if grade is None:
            return
        self.grades[grade] += 1
        self.indicator_scored += counted
        self.bad += counted and artefact == "bad"
        for code in reasons:
            self.reasons[code] = self.reasons.get(code, 0) + 1


@dataclass(slots=True)
class ImageFigures:
    """All, by clinic, and by week (its Monday)."""

    total: Images
    clinics: dict[str, Images]
    weeks: dict[date, Images]


_WITHOUT_IMAGES = [State.REGISTERED.value, State.RECEIVING.value, State.CANCELLED.value, State.VOID.value]


def images(session: Session, first: date, last: date, *, clinic: str = "") -> ImageFigures:
    """How the images of exams registered from `first` to `last` (local days, both included) were judged.

    Args:
        session: A session.
        first: First local day.
        last: Last local day.
        clinic: Id of one clinic; empty: all.
    """
    begin, end = bounds(first, last)
    statement = (
        select(
            Exam.org_id,
            Exam.modality,
            Exam.registered_at,
            ImageScore.grade,
            ImageScore.artefact,
            ImageScore.reasons,
        )
        .outerjoin(ImageScore, (ImageScore.exam_id == Exam.id) & ImageScore.replaced_at.is_(None))
        .where(Exam.registered_at >= begin, Exam.registered_at < end, Exam.state.not_in(_WITHOUT_IMAGES))
    )
    if clinic:
        statement = statement.where(Exam.org_id == clinic)
    zone = get_settings().timezone
    found = ImageFigures(Images(), {}, {})
    for org, modality, at, grade, artefact, reasons in session.execute(statement):
        day = clock.local(at, zone).date()
        week = day - timedelta(days=day.weekday())
        for part in (found.total, found.clinics.setdefault(org, Images()), found.weeks.setdefault(week, Images())):
            part.add(modality, grade, artefact, reasons or ())
    # A week without exams is a gap in the line, not a line across it.
    if found.weeks:
        week = min(found.weeks)
        while week <= max(found.weeks):
            found.weeks.setdefault(week, Images())
            week += timedelta(days=7)
    found.weeks = dict(sorted(found.weeks.items()))
    return found


@dataclass(slots=True)
class Recognised:
    """What became of the offers to one clinic (or all)."""

    reused: int = 0
    repeated: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    undecided: int = 0
    opened: int = 0

    @property
    def offered(self) -> int:
        """Offers that were due to be decided."""
        return self.reused + sum(self.repeated.values()) + self.undecided

    @property
    def rate(self) -> Rate:
        """Recognised ÷ offered; who let the time pass is in the denominator, who may still decide is not."""
        return Rate(self.reused, self.offered)


def recognised(
    session: Session, first: date, last: date, *, clinic: str = ""
) -> tuple[Recognised, dict[str, Recognised]]:
    """What became of what was offered in a period: all, and by the clinic that registered."""
    begin, end = bounds(first, last)
    statement = (
        select(Recognition.org_id, Recognition.state, Recognition.reason, func.count())
        .where(Recognition.offered_at >= begin, Recognition.offered_at < end)
        .group_by(Recognition.org_id, Recognition.state, Recognition.reason)
    )
    if clinic:
        statement = statement.where(Recognition.org_id == clinic)
    total: Recognised = Recognised()
    clinics: dict[str, Recognised] = {}
    for org, state, reason, count in session.execute(statement):
        for part in (total, clinics.setdefault(org, Recognised())):
            if state == RecognitionState.REUSED:
                part.reused += count
            elif state == RecognitionState.REPEATED:
                part.repeated[reason] = part.repeated.get(reason, 0) + count
            elif state == RecognitionState.LAPSED:
                part.undecided += count
            elif state == RecognitionState.OFFERED:
                part.opened += count
    return total, clinics


# --- targets --------------------------------------------------------------------------------------------------------


def targets(session: Session) -> dict[str, float]:
    """The county's targets, per cent."""
    kept = sites.county_setting(session, TARGETS, DEFAULT_TARGETS)
    return {name: float(kept.get(name, default)) for name, default in DEFAULT_TARGETS.items()}


def set_targets(session: Session, actor: Actor, wanted: dict[str, float]) -> dict[str, float]:
    """Replace the targets.

    Raises:
        Invalid: By field: not a per cent.
    """
    fields: dict[str, Message | str] = {
        name: _("应为 0 到 100") for name in DEFAULT_TARGETS if not 0 <= float(wanted.get(name, -1)) <= 100
    }
    if fields:
        raise Invalid(fields=fields)
    sites.set_county_setting(session, actor, TARGETS, {name: float(wanted[name]) for name in DEFAULT_TARGETS})
    return targets(session)


def met(name: str, rate: Rate, wanted: dict[str, float]) -> bool | None:
    """Whether a rate meets its target; None where there is no data."""
    if rate.share is None:
        return None
    per_cent = rate.share * 100
    return per_cent >= wanted[name] if name in AT_LEAST else per_cent <= wanted[name]


# --- the export -----------------------------------------------------------------------------------------------------

Cell = str | int | float | datetime | None


def rows(
    figures: ImageFigures, recognition: dict[str, Recognised], names: dict[str, str], head: Sequence[str]
) -> Iterable[list[Cell]]:
    """A line for each clinic, under `head` (words for `COLUMNS`); what has no denominator is an empty cell."""
    yield list(head)
    for org in sorted(set(figures.clinics) | set(recognition), key=lambda key: names.get(key, key)):
        part, use = figures.clinics.get(org, Images()), recognition.get(org, Recognised())
        shares = [part.rate(name).share for name in DEFAULT_TARGETS]
        yield [
            safe(names.get(org, org)),
            part.exams,
            part.scored,
            *part.grades.values(),
            part.indicator,
            part.indicator_scored,
            part.bad,
            *(None if share is None else round(share * 100, 2) for share in shares),
            use.offered,
            use.reused,
            *(use.repeated[reason] for reason in REASONS),
            use.undecided,
            None if use.rate.share is None else round(use.rate.share * 100, 2),
        ]


COLUMNS: tuple[Message, ...] = (
    _("卫生院"),
    _("有影像的检查"),
    _("已评分"),
    *GRADES.values(),
    _("CT/MR 检查"),
    _("其中已评分"),
    _("严重伪影"),
    *(TARGET_NAMES[name] for name in DEFAULT_TARGETS),
    _("可互认"),
    _("已互认"),
    *REASONS.values(),
    _("未作决定"),
    _("互认率"),
)


def record_export(session: Session, actor: Actor, first: date, last: date) -> None:
    """Write down that the figures left the hub."""
    audit.record(
        session,
        actor,
        "turnaround.export",
        "county_setting",
        "quality",
        kind="csv-quality",
        first=first.isoformat(),
        last=last.isoformat(),
    )


def as_json(figures: ImageFigures, use: tuple[Recognised, dict[str, Recognised]]) -> dict[str, Any]:
    """The figures for the API: organisations by id."""

    def of(part: Images) -> dict[str, Any]:
        return {
            "exams": part.exams,
            "scored": part.scored,
            "grades": part.grades,
            "ct_mr": part.indicator,
            "ct_mr_scored": part.indicator_scored,
            "bad_artefact": part.bad,
            **{name: part.rate(name).share for name in DEFAULT_TARGETS},
            "reasons": part.reasons,
        }

    def used(part: Recognised) -> dict[str, Any]:
        return {
            "offered": part.offered,
            "reused": part.reused,
            "repeated": part.repeated,
            "undecided": part.undecided,
            "open": part.opened,
            "rate": part.rate.share,
        }

    return {
        "total": of(figures.total),
        "clinics": {org: of(part) for org, part in figures.clinics.items()},
        "weeks": {week.isoformat(): of(part) for week, part in figures.weeks.items()},
        "recognition": {"total": used(use[0]), "clinics": {org: used(part) for org, part in use[1].items()}},
    }
