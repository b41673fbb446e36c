"""What the review API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from hub.exams.models import Exam
from hub.kit.i18n import translate
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports.models import ReportVersion
from hub.reports.review.models import Arbitration, ConclusionChange, PeerReview, Review
from hub.reports.review.peer import Blinded, Figures
from hub.reports.review.service import Opinion, Tracked


class OpinionBody(BaseModel):
    """What a reviewer thinks of the text before him."""

    agreement: Literal["", "agree", "minor", "disagree"] = Field(
        "", description="符合, 基本符合, 不符合; empty: ungraded."
    )
    significant: bool | None = Field(None, description="Whether the difference matters clinically; for the latter two.")
    note: str = Field("", description="To the author.")
    conclusion_changed: bool | None = Field(
        None, description="Against the preliminary report that the clinic has; null where there is none, or not said."
    )
    conclusion_note: str = Field("", description="What changed, in words for the clinic.")
    conclusion_confirmed: bool = Field(False, description="Unchanged, though the hub finds another impression or mark.")

    def opinion(self) -> Opinion:
        """As the service takes it."""
        return Opinion(**self.model_dump())


class ReviewBody(OpinionBody):
    """An opinion with the lease under which it is given."""

    lease: str = Field("", description="Token of the lease; empty for an addendum or correction.")


class ReviewAnswer(OpinionBody):
    """A review. `radpeer` follows from the grade."""

    id: str
    version_id: str
    exam_id: str
    author: str
    reviewer: str
    radpeer: str
    changed: list[str] = Field(description="Fields that the signed text has otherwise than the author's.")
    signed_at: datetime | None
    read_at: datetime | None = Field(description="When the author read it.")


class ReviewState(BaseModel):
    """How my review of a version stands."""

    review: ReviewAnswer | None
    preliminary: str | None = Field(description="The preliminary report that the clinic has.")
    differences: list[str] = Field(description="What of its conclusion differs: impression, positive, critical.")


class SegmentAnswer(BaseModel):
    """A piece: `same` (before = after) or `change`."""

    kind: Literal["same", "change"]
    before: str
    after: str


class ChangesAnswer(BaseModel):
    """A version beside its author's text as he submitted it."""

    version_id: str
    revision: int
    author: str
    submitted: dict[str, Any]
    fields: dict[str, list[SegmentAnswer]]
    marks: list[tuple[str, Any, Any]]


class FeedbackAnswer(BaseModel):
    """Reviews of my reports, newest first."""

    reviews: list[ReviewAnswer]
    unread: int = Field(description="Reviews, and decisions of arbitration, that I have not read.")


class ChangeAnswer(BaseModel):
    """A changed conclusion, and who of the clinic acknowledged it."""

    id: str
    exam_id: str
    state: str
    preliminary_id: str
    version_id: str
    differences: list[str]
    statement: str
    opened_at: datetime
    opened_by: str
    escalate_due: datetime = Field(description="When the second contact's turn is, where nobody acknowledged it.")
    breach_due: datetime = Field(description="When the duty officer's turn is.")
    escalated_at: datetime | None
    breached_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str
    note: str


class ChangesListAnswer(BaseModel):
    """Changed conclusions that concern me."""

    changes: list[ChangeAnswer]


class AcknowledgeBody(BaseModel):
    """What the clinic did about it, if it wants to say."""

    note: str = Field("", max_length=2000)


class ArbitrationAnswer(BaseModel):
    """A significant disagreement."""

    id: str
    source: str
    exam_id: str
    version_id: str
    state: str
    opened_at: datetime
    decision: str
    radpeer: str
    reason: str
    decided_at: datetime | None
    decided_by: str


class ArbitrationsAnswer(BaseModel):
    """Disagreements, newest first."""

    arbitrations: list[ArbitrationAnswer]


class DecideBody(BaseModel):
    """A decision."""

    decision: str = Field(examples=["first"])
    radpeer: str = Field(examples=["2a"])
    reason: str


class PeerAnswer(BaseModel):
    """A reading after signing, as its reader knows it."""

    id: str
    state: str
    modality: str
    assigned_at: datetime | None
    due_at: datetime | None
    verdict: str
    verdict_positive: bool | None
    agreement: str
    significant: bool | None
    radpeer: str
    note: str
    graded_at: datetime | None


class PeerListAnswer(BaseModel):
    """The readings that lie with me."""

    readings: list[PeerAnswer]


class PeerReport(BaseModel):
    """The report that is graded; nobody's name stands in it."""

    technique: str
    comparison: str
    findings: str
    impression: str
    recommendation: str
    positive: bool | None
    critical: bool


class PeerCase(PeerAnswer):
    """One reading with its request and images; `report` once the verdict is written."""

    exam: str
    sex: str
    age: str
    history: str
    studies: list[str]
    images: int
    report: PeerReport | None


class DeclineBody(BaseModel):
    """Why a reading is given back."""

    reason: str


class VerdictBody(BaseModel):
    """One's own verdict on the images."""

    verdict: str
    positive: bool | None = None


class GradeBody(BaseModel):
    """The grade of the report against one's own verdict."""

    agreement: str
    significant: bool | None = None
    note: str = ""


class FiguresAnswer(BaseModel):
    """Grades of a time. Rates are null where nothing was graded."""

    graded: int
    radpeer: dict[str, int]
    agreement: float | None
    concordance: float | None
    significant: float | None


class PeerFiguresAnswer(BaseModel):
    """Figures of the peer review and of the reviews before signing."""

    peer: FiguresAnswer
    random: FiguresAnswer
    review: FiguresAnswer
    progress: dict[str, int]


class PolicyBody(BaseModel):
    """A hospital's policy. `review` as docs/administrator.md names it; what is left out takes its default."""

    double_signature: bool = True
    review: dict[str, Any] = Field(default_factory=dict)


class PolicyAnswer(PolicyBody):
    """The policy, and what it means in plain words."""

    org_id: str
    summary: list[str]


def review_answer(row: Review) -> ReviewAnswer:
    """A review for its reader."""
    agreement: Any = row.agreement
    return ReviewAnswer(
        id=row.id,
        version_id=row.version_id,
        exam_id=row.exam_id,
        author=row.author_name,
        reviewer=row.reviewer_name,
        agreement=agreement,
        significant=row.significant,
        radpeer=row.radpeer,
        note=row.note,
        conclusion_changed=row.conclusion_changed,
        conclusion_note=row.conclusion_note,
        conclusion_confirmed=row.conclusion_confirmed,
        changed=row.changed,
        signed_at=row.signed_at,
        read_at=row.author_seen_at,
    )


def changes_answer(found: Tracked) -> ChangesAnswer:
    """Tracked changes for the page."""
    return ChangesAnswer(
        version_id=found.version.id,
        revision=found.version.revision,
        author=found.author,
        submitted=found.submitted,
        fields={
            name: [SegmentAnswer(kind=one.kind, before=one.before, after=one.after) for one in pieces]
            for name, pieces in found.fields.items()
        },
        marks=found.marks,
    )


def change_answer(row: ConclusionChange) -> ChangeAnswer:
    """A changed conclusion for those whom it concerns."""
    return ChangeAnswer(
        id=row.id,
        exam_id=row.exam_id,
        state=row.state,
        preliminary_id=row.preliminary_id,
        version_id=row.version_id,
        differences=row.differences,
        statement=row.statement,
        opened_at=row.opened_at,
        opened_by=row.opened_by_name,
        escalate_due=row.escalate_due,
        breach_due=row.breach_due,
        escalated_at=row.escalated_at,
        breached_at=row.breached_at,
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by_name,
        note=row.note,
    )


def arbitration_answer(row: Arbitration) -> ArbitrationAnswer:
    """A disagreement for those whom it concerns."""
    return ArbitrationAnswer(
        id=row.id,
        source=row.source,
        exam_id=row.exam_id,
        version_id=row.version_id,
        state=row.state,
        opened_at=row.opened_at,
        decision=row.decision,
        radpeer=row.radpeer,
        reason=row.reason,
        decided_at=row.decided_at,
        decided_by=row.decided_by_name,
    )


def peer_answer(row: PeerReview) -> PeerAnswer:
    """A reading for its reader."""
    return PeerAnswer(**{name: getattr(row, name) for name in PeerAnswer.model_fields})


def peer_report(version: ReportVersion) -> PeerReport:
    """A report without its names."""
    return PeerReport(**{name: getattr(version, name) for name in PeerReport.model_fields})


def peer_case(found: Blinded, locale: str) -> PeerCase:
    """One reading for its reader, blinded."""
    exam: Exam = found.exam
    return PeerCase(
        **peer_answer(found.row).model_dump(),
        exam=exam_words(exam, locale),
        sex=translate(sex_words(exam.patient.sex, locale), locale),
        age=age_words(exam, locale),
        history=found.history,
        studies=found.studies,
        images=found.images,
        report=peer_report(found.report) if found.report is not None else None,
    )


def figures_answer(found: Figures) -> FiguresAnswer:
    """Figures as JSON."""
    return FiguresAnswer(
        graded=found.graded,
        radpeer=found.radpeer,
        agreement=found.agreement,
        concordance=found.concordance,
        significant=found.significant,
    )
