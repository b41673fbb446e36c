"""Gathering what is known about an exam, running the checks, and holding the door until warnings are answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.dicom.identity import age_at, parse_age
from hub.exams.models import Exam
from hub.exams.repository import visibility, visible_to
from hub.exams.states import State
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Forbidden, HubError, Invalid, NotFound
from hub.kit.i18n import _
from hub.kit.settings import get_settings
from hub.patients.models import Patient
from hub.reading import service as reading
from hub.reports import repository
from hub.reports.checks import policy
from hub.reports.checks.catalogue import CHECKS, RULES, WHY, Level
from hub.reports.checks.core import FIELDS, Facts, Finding, Outcome, Previous, Source, examine
from hub.reports.checks.models import CheckOverride
from hub.reports.checks.text import sides_in
from hub.reports.critical import service as criticals
from hub.reports.models import Report, ReportVersion, Template
from hub.reports.policy import AMENDABLE, check_complete, check_identity
from hub.reports.states import VersionState
from hub.studies.models import ExamStudy, Series

_PRIORS = 20
_RECENT = timedelta(days=3)
_MAX_REASON = 400


@dataclass(frozen=True, slots=True)
class Checked:
    """A finding as the doctor meets it: how loud it is, and what was answered."""

    finding: Finding
    level: Level
    override: CheckOverride | None = None

    @property
    def standing(self) -> bool:
        """Whether it still wants an answer."""
        return self.level is Level.WARN and self.override is None


@dataclass(frozen=True, slots=True)
class Result:
    """What the checks say of a text.

    Attributes:
        stops: What keeps the report from being submitted or signed, and is no matter of opinion.
        checked: Findings of the checks that are on.
        not_run: Checks that failed; they keep nobody from signing.
    """

    stops: list[HubError] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)

    @property
    def standing(self) -> list[Checked]:
        """Warnings that want an answer."""
        return [one for one in self.checked if one.standing]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a doctor answers to a warning. `why` is a key of `catalogue.WHY`; "other" needs a reason in words."""

    fingerprint: str
    why: str
    reason: str = ""


# --- facts --------------------------------------------------------------------------------------------------------


def facts_of(
    session: Session, actor: Actor, exam: Exam, *, positive: bool | None, critical: bool, author_id: str | None = None
) -> Facts:
    """What the hub knows about the exam, as far as it is the actor's to know."""
    day = clock.local(exam.exam_at or exam.registered_at, get_settings().timezone).date()
    born = exam.stated_birth_date or exam.patient.birth_date
    age = parse_age(exam.stated_age) if exam.stated_age else None
    if age is None and born is not None:
        age = age_at(born, day)
    sides, source = _sides(session, exam)
    return Facts(
        name=exam.patient.name,
        sex=exam.patient.sex,
        age_years=age.years if age is not None else None,
        modality=exam.modality,
        body_parts=tuple(exam.body_parts),
        sides=sides,
        sides_from=source,
        history=exam.history,
        priors=_priors(session, actor, exam),
        exam_date=day,
        previous=_previous(session, actor, exam, author_id or actor.id),
        normal_templates=_normal_templates(session, exam, author_id or actor.id),
        positive=positive,
        critical=critical or criticals.raised(session, exam.id),
    )


def _sides(session: Session, exam: Exam) -> tuple[frozenset[str], Source]:
    if found := sides_in(exam.procedure):
        return found, "registration"
    rows = session.scalars(
        select(Series.laterality)
        .join(ExamStudy, ExamStudy.study_id == Series.study_id)
        .where(ExamStudy.exam_id == exam.id)
        .distinct()
    )
    return frozenset(side for side in rows if side in ("L", "R")), "images"


def _priors(session: Session, actor: Actor, exam: Exam) -> tuple[str, ...]:
    """Texts of the same person's signed reports, newest first."""
    ids = session.scalars(
        visible_to(actor)
        .join(Patient, Patient.id == Exam.patient_id)
        .where(Patient.county_patient_id == exam.patient.county_patient_id, Exam.id != exam.id)
        .with_only_columns(Exam.id)
        .order_by(Exam.registered_at.desc())
        .limit(_PRIORS)
    ).all()
    signed = repository.signed_versions(session, ids)
    newest = [versions[0] for versions in signed.values() if versions]
    return tuple(f"{version.findings}\n{version.impression}" for version in newest)


def _previous(session: Session, actor: Actor, exam: Exam, author_id: str) -> Previous | None:
    """The report that the author gave away last, of another patient."""
    done = func.coalesce(Exam.submitted_at, Exam.signed_at)
    other = session.scalars(
        visible_to(actor)
        .where(
            Exam.author_id == author_id,
            Exam.registered_at >= clock.now() - _RECENT,
            Exam.patient_id != exam.patient_id,
            done.is_not(None),
        )
        .order_by(done.desc())
        .limit(1)
    ).first()
    if other is None or other.patient.county_patient_id == exam.patient.county_patient_id:
        return None
    version = session.scalars(
        select(ReportVersion)
        .join(Report, Report.id == ReportVersion.report_id)
        .where(Report.exam_id == other.id, ReportVersion.state != VersionState.DISCARDED)
        .order_by(ReportVersion.number)
        .limit(1)
    ).first()
    if version is None:
        return None
    return Previous(other.patient.name, version.findings, version.impression)


def _normal_templates(session: Session, exam: Exam, author_id: str) -> tuple[str, ...]:
    rows = session.execute(
        select(Template.findings, Template.impression).where(
            Template.modality == exam.modality,
            Template.normal.is_(True),
            (Template.person_id == author_id)
            | (Template.person_id.is_(None) & (Template.org_id.is_(None) | (Template.org_id == exam.reading_org_id))),
        )
    )
    return tuple(f"{findings}\n{impression}" for findings, impression in rows)


# --- checking -----------------------------------------------------------------------------------------------------


def check(
    session: Session,
    actor: Actor,
    exam: Exam,
    texts: dict[str, str],
    *,
    positive: bool | None,
    critical: bool,
    version: ReportVersion | None = None,
) -> Result:
    """Run the checks that the exam's hospital wants over a text.

    Args:
        session: The transaction; nothing is written.
        actor: Who reads or writes the text.
        exam: The exam, which the actor may know.
        texts: Field → text, as on the page or in the draft.
        positive: The report's flag.
        critical: The report's flag.
        version: The version whose answers count; None where nothing was saved yet.
    """
    wanted = policy.levels(session, exam.reading_org)
    codes = [code for code, level in wanted.items() if level is not Level.OFF]
    author = version.author_id if version is not None else None
    facts = facts_of(session, actor, exam, positive=positive, critical=critical, author_id=author)
    outcome: Outcome = examine(texts, facts, RULES, codes=codes)
    answered = standing_overrides(session, version.id) if version is not None else {}
    return Result(
        stops=_stops(exam, texts, positive),
        checked=[Checked(one, wanted[one.code], answered.get(one.fingerprint)) for one in outcome.findings],
        not_run=outcome.not_run,
    )


def check_version(session: Session, actor: Actor, exam: Exam, version: ReportVersion) -> Result:
    """The same over what a version holds."""
    texts = {name: getattr(version, name) for name in FIELDS}
    return check(
        session, actor, exam, texts, positive=version.positive, critical=version.critical, version=version
    )  # fmt: skip


def _stops(exam: Exam, texts: dict[str, str], positive: bool | None) -> list[HubError]:
    found: list[HubError] = []
    as_if = ReportVersion(findings=texts.get("findings", ""), impression=texts.get("impression", ""), positive=positive)
    try:
        check_complete(as_if)
    except HubError as error:
        found.append(error)
    try:
        check_identity(exam)
    except HubError as error:
        found.append(error)
    return found


def enforce(session: Session, actor: Actor, exam: Exam, version: ReportVersion) -> None:
    """Refuse to submit or sign while a warning stands that nobody answered.

    Raises:
        Conflict: `checks`, with the fingerprints and sentences of the warnings.
    """
    standing = check_version(session, actor, exam, version).standing
    if standing:
        raise Conflict(
            _("有 {n} 处提醒尚未答复:请修改文字,或说明理由").format(n=len(standing)),
            code="checks",
            checks=[
                {"fingerprint": one.finding.fingerprint, "code": one.finding.code, "field": one.finding.field}
                for one in standing
            ],
        )


# --- answers ------------------------------------------------------------------------------------------------------


def standing_overrides(session: Session, version_id: str) -> dict[str, CheckOverride]:
    """Fingerprint → the answer that stands."""
    rows = session.scalars(
        select(CheckOverride).where(CheckOverride.version_id == version_id, CheckOverride.withdrawn_at.is_(None))
    )
    return {row.fingerprint: row for row in rows}


def _held(session: Session, actor: Actor, exam_id: str, lease: str) -> tuple[Exam, ReportVersion]:
    """The exam and its open version, locked, if the actor writes or reviews it now."""
    exam = reading.locked(session, actor, exam_id)
    if State(exam.state) in AMENDABLE:
        if exam.reading_org_id != actor.org_id or not actor.has(Role.REPORTER, Role.REVIEWER):
            raise Forbidden(_("这项检查由其他医院阅片"), code="other-hospital")
    else:
        exam = reading.hold(session, actor, exam_id, lease)
    version = repository.open_version(session, exam_id, lock=True)
    if version is None:
        raise Conflict(_("请先保存报告"), code="wrong-state")
    if State(exam.state) in AMENDABLE and version.state == VersionState.DRAFT and version.author_id != actor.id:
        raise Conflict(_("{name}正在书写这份报告").format(name=version.author_name), code="exam-held")
    return exam, version


def answer(session: Session, actor: Actor, exam_id: str, answers: Iterable[Answer], *, lease: str) -> None:
    """Keep what the doctor answers to warnings about the saved text.

    The same answer again changes nothing, so that a request may be repeated.

    Raises:
        Conflict: `lease-lost`; `check-changed` where the saved text has no such warning (any more).
        Invalid: No such reason, or none in words where words are due.
    """
    given = list(answers)
    for one in given:
        if one.why not in WHY:
            raise Invalid(fields={"why": _("没有这种理由")})
        if one.why == "other" and len(one.reason.strip()) < 2:
            raise Invalid(fields={"reason": _("请写明理由")})
        if len(one.reason) > _MAX_REASON:
            raise Invalid(fields={"reason": _("最多 {n} 个字").format(n=_MAX_REASON)})
    if not given:
        return
    exam, version = _held(session, actor, exam_id, lease)
    found = {one.finding.fingerprint: one for one in check_version(session, actor, exam, version).checked}
    for answer_ in given:
        one_found = found.get(answer_.fingerprint)
        if one_found is None:
            raise Conflict(_("文字已有变化,这处提醒不在了,请看最新的提醒"), code="check-changed")
        if one_found.override is not None:
            continue
        session.add(
            CheckOverride(
                version_id=version.id,
                revision=version.revision,
                fingerprint=answer_.fingerprint,
                code=one_found.finding.code,
                field=one_found.finding.field,
                passage=one_found.finding.passage,
                why=answer_.why,
                reason=answer_.reason.strip(),
                person_id=actor.id,
                person_name=actor.name,
                at=clock.now(),
            )
        )
        _record(session, actor, exam, version, "report.check-override", check=one_found.finding.code, why=answer_.why)
    session.flush()
    _announce(session, exam, version)


def reopen(session: Session, actor: Actor, exam_id: str, fingerprint: str, *, lease: str) -> None:
    """Take an answer back; the warning stands again.

    Raises:
        NotFound: There is no such answer.
        Conflict: `lease-lost`.
    """
    exam, version = _held(session, actor, exam_id, lease)
    row = standing_overrides(session, version.id).get(fingerprint)
    if row is None:
        raise NotFound(_("没有这条答复"))
    row.withdrawn_at = clock.now()
    _record(session, actor, exam, version, "report.check-reopen", check=row.code)
    session.flush()
    _announce(session, exam, version)


def _record(session: Session, actor: Actor, exam: Exam, version: ReportVersion, action: str, **detail: Any) -> None:
    audit.record(
        session,
        actor,
        action,
        "report_version",
        version.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        exam=exam.id,
        **detail,
    )


def _announce(session: Session, exam: Exam, version: ReportVersion) -> None:
    live.publish(
        session,
        "draft",
        exam.id,
        orgs=[exam.reading_org_id or "shared"],
        event="checks",
        version_id=version.id,
        revision=version.revision,
        state=version.state,
        by=None,
    )


# --- looking back -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer with the report that it belongs to."""

    row: CheckOverride
    exam: Exam


def answered(session: Session, actor: Actor, *, since: datetime, limit: int = 200) -> list[Answered]:
    """Answers to warnings, newest first, for those who watch quality."""
    exam_of = (
        select(Exam.id)
        .join(Report, Report.exam_id == Exam.id)
        .join(ReportVersion, ReportVersion.report_id == Report.id)
        .where(ReportVersion.id == CheckOverride.version_id, visibility(actor))
        .correlate(CheckOverride)
    )
    # Asked of each answer: joined, SQLite may begin with every report of the county.
    rows = session.execute(
        select(CheckOverride, exam_of.scalar_subquery())
        .where(CheckOverride.at >= since, CheckOverride.withdrawn_at.is_(None), exam_of.exists())
        .order_by(CheckOverride.at.desc(), CheckOverride.id.desc())
        .limit(limit)
    ).all()
    ids = {row[1] for row in rows}
    exams = {exam.id: exam for exam in session.scalars(select(Exam).where(Exam.id.in_(ids)))} if ids else {}
    return [Answered(row, exams[exam_id]) for row, exam_id in rows]


def answer_counts(session: Session, *, since: datetime) -> dict[str, dict[str, int]]:
    """Check → why → how often, since then: what the checks are worth in this county's own use."""
    rows = session.execute(
        select(CheckOverride.code, CheckOverride.why, func.count())
        .where(CheckOverride.at >= since, CheckOverride.withdrawn_at.is_(None))
        .group_by(CheckOverride.code, CheckOverride.why)
    )
    counts: dict[str, dict[str, int]] = {code: {} for code in CHECKS}
    for code, why, number in rows:
        counts.setdefault(code, {})[why] = number
    return counts
