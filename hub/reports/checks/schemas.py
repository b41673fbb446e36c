"""What the checks' API takes and gives."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from hub.kit import clock
from hub.kit.i18n import translate
from hub.reports.checks.catalogue import CHECKS, LEVEL_NAMES, WHY, Level, default_level, measured
from hub.reports.checks.core import Finding
from hub.reports.checks.service import Answer, Answered, Checked, Result

COUNTED_DAYS = 90
"""Over which past the settings page counts answers."""


class CheckBody(BaseModel):
    """The text as it stands on the page, saved or not."""

    technique: str = Field("", max_length=20_000)
    comparison: str = Field("", max_length=20_000)
    findings: str = Field("", max_length=20_000, examples=["右肺下叶见片状密度增高影。"])
    impression: str = Field("", max_length=20_000, examples=["左肺下叶炎症。"])
    recommendation: str = Field("", max_length=20_000)
    positive: bool | None = None
    critical: bool = False


class AnswerBody(BaseModel):
    """A warning is answered, and the text stays."""

    fingerprint: str = Field(min_length=24, max_length=24)
    why: str = Field(max_length=12, examples=["confirmed"], description="`false-alarm`, `confirmed` or `other`.")
    reason: str = Field("", max_length=400, description="In words; due where `why` is `other`.")

    def answer(self) -> Answer:
        """For the service."""
        return Answer(self.fingerprint, self.why, self.reason)


class AnswersBody(BaseModel):
    """Answers to warnings of the saved text."""

    lease: str = ""
    answers: list[AnswerBody] = Field(min_length=1, max_length=50)


class OverrideAnswer(BaseModel):
    """Who answered what."""

    why: str
    why_text: str
    reason: str
    person: str
    at: datetime


class FindingAnswer(BaseModel):
    """Something to look at again. `start` and `end` count UTF-16 units, as a text field in a browser does."""

    fingerprint: str
    code: str
    name: str
    field: str
    start: int
    end: int
    passage: str
    message: str
    explanation: str
    source: str
    level: Literal["hint", "warn"]
    precision: float | None = Field(description="Measured share of right warnings of this check; null: never measured.")
    override: OverrideAnswer | None


class StopAnswer(BaseModel):
    """What keeps the report from being submitted or signed, whatever anybody answers."""

    code: str
    message: str


class CheckAnswer(BaseModel):
    """What the checks say of a text."""

    stops: list[StopAnswer]
    findings: list[FindingAnswer]
    standing: int = Field(description="Warnings that want an answer before the report is submitted or signed.")
    not_run: list[str] = Field(description="Names of checks that failed; they keep nobody from signing.")


class CheckSetting(BaseModel):
    """A check, what it is worth, and how loud it is."""

    code: str
    name: str
    help: str
    level: str = Field(description="As chosen here; empty where it is left to the county, or to the default.")
    effective: Literal["off", "hint", "warn"]
    default: Literal["off", "hint", "warn"]
    precision: float | None
    at_least: float | None = Field(description="Lower end of the precision's 95 % confidence interval (Wilson).")
    recall: float | None
    wanted: int
    found: int
    right: int
    answers: dict[str, int]


class CheckSettings(BaseModel):
    """The checks of the county or a hospital."""

    org_id: str | None
    counted_days: int
    checks: list[CheckSetting]


class CheckSettingsBody(BaseModel):
    """Levels by check; an empty one goes back to the county's choice, or to the default."""

    org_id: str | None = Field(None, max_length=26, description="A reading hospital; null for the county.")
    levels: dict[str, str] = Field(max_length=50, examples=[{"unit": "warn", "copied": "off"}])


class GivenAnswer(BaseModel):
    """An answer that a doctor gave."""

    at: datetime
    exam_id: str
    accession: str
    version_id: str
    check: str
    name: str
    field: str
    passage: str
    why: str
    why_text: str
    reason: str
    person: str


class GivenAnswers(BaseModel):
    """Newest first."""

    answers: list[GivenAnswer]


def _units(text: str, place: int) -> int:
    return len(text[:place].encode("utf-16-le", "surrogatepass")) // 2


def finding_of(one: Checked, text: str, locale: str) -> FindingAnswer:
    """A finding in somebody's language; `text` is that of its field."""
    finding: Finding = one.finding
    figure = measured().get(finding.code, {}).get("all")
    row = one.override
    return FindingAnswer(
        fingerprint=finding.fingerprint,
        code=finding.code,
        name=translate(CHECKS[finding.code].name, locale),
        field=finding.field,
        start=_units(text, finding.start),
        end=_units(text, finding.end),
        passage=finding.passage,
        message=translate(finding.message, locale),
        explanation=translate(finding.explanation, locale),
        source=finding.source,
        level="warn" if one.level is Level.WARN else "hint",
        precision=figure.precision if figure else None,
        override=OverrideAnswer(
            why=row.why,
            why_text=translate(WHY[row.why], locale) if row.why in WHY else row.why,
            reason=row.reason,
            person=row.person_name,
            at=row.at,
        )
        if row is not None
        else None,
    )


def result_of(result: Result, texts: dict[str, str], locale: str) -> CheckAnswer:
    """All that was found, in somebody's language."""
    return CheckAnswer(
        stops=[StopAnswer(code=stop.code, message=translate(stop.message, locale)) for stop in result.stops],
        findings=[finding_of(one, texts.get(one.finding.field, ""), locale) for one in result.checked],
        standing=len(result.standing),
        not_run=[translate(CHECKS[code].name, locale) for code in result.not_run],
    )


def settings_of(
    org_id: str | None,
    chosen: dict[str, Level],
    effective: dict[str, Level],
    counts: dict[str, dict[str, int]],
    locale: str,
) -> CheckSettings:
    """The settings page's table."""
    figures = measured()
    rows = []
    for code, check in CHECKS.items():
        figure = figures.get(code, {}).get("all")
        rows.append(
            CheckSetting(
                code=code,
                name=translate(check.name, locale),
                help=translate(check.help, locale),
                level=chosen[code].value if code in chosen else "",
                effective=effective[code].value,
                default=default_level(code).value,
                precision=figure.precision if figure else None,
                at_least=figure.at_least if figure else None,
                recall=figure.recall if figure else None,
                wanted=figure.wanted if figure else 0,
                found=figure.found if figure else 0,
                right=figure.right if figure else 0,
                answers=counts.get(code, {}),
            )
        )
    return CheckSettings(org_id=org_id, counted_days=COUNTED_DAYS, checks=rows)


def given_of(found: list[Answered], locale: str) -> GivenAnswers:
    """Answers for those who watch quality."""
    return GivenAnswers(
        answers=[
            GivenAnswer(
                at=one.row.at,
                exam_id=one.exam.id,
                accession=one.exam.accession,
                version_id=one.row.version_id,
                check=one.row.code,
                name=translate(CHECKS[one.row.code].name, locale) if one.row.code in CHECKS else one.row.code,
                field=one.row.field,
                passage=one.row.passage,
                why=one.row.why,
                why_text=translate(WHY[one.row.why], locale) if one.row.why in WHY else one.row.why,
                reason=one.row.reason,
                person=one.row.person_name,
            )
            for one in found
        ]
    )


def counted_since() -> datetime:
    """From when answers are counted."""
    return clock.now() - timedelta(days=COUNTED_DAYS)


def level_words(locale: str) -> dict[str, str]:
    """Level → what people call it."""
    return {level.value: translate(name, locale) for level, name in LEVEL_NAMES.items()}
