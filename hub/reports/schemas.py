"""What the reports API takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, Field

from hub.exams.models import Exam
from hub.reports.checks.schemas import AnswerBody
from hub.reports.models import Report, ReportVersion, SigningIdentity, Template
from hub.reports.review.schemas import OpinionBody
from hub.reports.service import TEXTS, Content, content_hash
from hub.reports.signing.signer import describe
from hub.reports.templates import scope_of
from hub.reports.texts import copied, links
from hub.reports.texts.copied import Copy


class KeyImageRef(BaseModel):
    """A key image that stays, in its place."""

    id: str
    caption: str = Field("", max_length=100)


class CopiedRef(BaseModel):
    """A sentence of the draft that was copied from a signed report."""

    field: Literal["findings", "impression", "recommendation"]
    text: str = Field(max_length=4000)
    source_id: str = Field(description="The version it was copied from.")


class ReportBody(BaseModel):
    """The whole text of a draft."""

    lease: str = Field("", description="Token of the lease; empty for an addendum or correction.")
    revision: int = Field(0, description="The revision this text is based on; 0 where there was none.")
    technique: str = ""
    comparison: str = ""
    findings: str = Field("", examples=["双侧大脑半球、小脑及脑干形态如常……"])
    impression: str = Field("", examples=["颅脑CT平扫未见明显异常。"])
    recommendation: str = ""
    positive: bool | None = None
    critical: bool = False
    key_images: list[KeyImageRef] | None = Field(None, description="Those that stay, in order; null: leave them.")
    copied: list[CopiedRef] = Field([], max_length=400, description="Sentences copied since the last save.")

    def content(self) -> Content:
        """As the service takes it."""
        images = None
        if self.key_images is not None:
            images = [{"id": image.id, "caption": image.caption} for image in self.key_images]
        return Content(
            **{name: getattr(self, name) for name in TEXTS},
            positive=self.positive,
            critical=self.critical,
            key_images=images,
            copied=tuple(Copy(one.field, one.text, one.source_id) for one in self.copied),
        )


class KeyImageAnswer(BaseModel):
    """A key image of a version."""

    id: str
    caption: str
    width: int
    height: int
    sop_uid: str
    frame: int | None
    url: str


class CopiedAnswer(BaseModel):
    """A copied sentence that stands in the version and waits to be confirmed."""

    id: str
    field: str
    text: str
    source_id: str


class LinkAnswer(BaseModel):
    """What a piece of the text was measured on."""

    id: str
    kind: str
    label: str
    study: str
    series: str
    sop: str
    frame: int | None
    annotation: dict[str, Any] | None


class VersionAnswer(BaseModel):
    """A report version. `content_hash` names what is shown; a request to sign gives it back."""

    version_id: str
    exam_id: str
    number: str | None
    version: int
    kind: Literal["original", "addendum", "correction", "preliminary"]
    reason: str
    state: str
    revision: int
    content_hash: str
    technique: str
    comparison: str
    findings: str
    impression: str
    recommendation: str
    positive: bool | None
    critical: bool
    key_images: list[KeyImageAnswer]
    author_id: str | None
    author: str
    reviewer: str
    review_note: str
    saved_at: datetime
    submitted_at: datetime | None
    signed_at: datetime | None
    verification_code: str | None
    standing: str
    timestamped: bool
    copied: list[CopiedAnswer] = []
    links: list[LinkAnswer] = []


class ReportsAnswer(BaseModel):
    """The versions of an exam's report, newest first."""

    versions: list[VersionAnswer]


class SubmitBody(BaseModel):
    """Give the report to review."""

    lease: str = ""
    revision: int
    answers: list[AnswerBody] = Field(default=[], max_length=50, description="To warnings of the checks, kept first.")


class PassageBody(BaseModel):
    """A place in the text, in characters, and what is wrong with it."""

    field: str = Field(examples=["findings"])
    start: int = Field(ge=0)
    end: int = Field(ge=1)
    comment: str = Field("", examples=["应为左侧"])


class RejectBody(BaseModel):
    """Send the report back to its author."""

    lease: str = ""
    note: str = Field("", examples=["左右侧别请核对"])
    passages: list[PassageBody] = Field([], max_length=30, description="The places that it is about.")
    revision: int | None = Field(None, description="Of the text in which they were marked.")


class AmendBody(BaseModel):
    """Begin a new version of a signed report."""

    kind: Literal["addendum", "correction"]
    reason: str


class SignBody(BaseModel):
    """One deliberate signature on one displayed report."""

    lease: str = ""
    revision: int
    content_hash: str = Field(min_length=64, max_length=64)
    answers: list[AnswerBody] = Field(default=[], max_length=50, description="To warnings of the checks, kept first.")
    review: OpinionBody | None = Field(None, description="The reviewer's opinion, kept before the signature.")


class SignedAnswer(BaseModel):
    """A signed report."""

    version_id: str
    exam_id: str
    number: str
    version: int
    signed_at: datetime
    verification_code: str
    timestamped: bool
    pdf: str


class SavedTextAnswer(BaseModel):
    """Text kept beside a version."""

    id: str
    revision: int
    at: datetime
    event: str
    mine: bool
    body: dict[str, Any]


class SavedTextsAnswer(BaseModel):
    """Texts kept beside a version, newest first."""

    texts: list[SavedTextAnswer]


class TemplateAnswer(BaseModel):
    """A template."""

    id: str
    scope: Literal["county", "hospital", "own"]
    modality: str
    body_part: str
    sex: str
    age_from: int | None
    age_to: int | None
    name: str
    normal: bool
    technique: str
    findings: str
    impression: str
    recommendation: str


class TemplatesAnswer(BaseModel):
    """Templates."""

    templates: list[TemplateAnswer]


class TemplateBody(BaseModel):
    """A template to keep."""

    modality: str = Field(max_length=4)
    body_part: str = Field(max_length=20)
    sex: Literal["", "M", "F"] = ""
    age_from: int | None = Field(None, description="Years, included.")
    age_to: int | None = Field(None, description="Years, included.")
    name: str = Field(max_length=100)
    normal: bool = False
    technique: str = ""
    findings: str = ""
    impression: str = ""
    recommendation: str = ""
    scope: Literal["own", "hospital", "county"] = Field("own", description="Whose it becomes; stays when changed.")


class PinBody(BaseModel):
    """A signing PIN: six digits or more."""

    pin: str = Field(max_length=64)


class UnlockBody(PinBody):
    """Which certificate to open; by default the newest."""

    identity_id: str | None = None


class NewPinBody(BaseModel):
    """Another PIN."""

    old: str = Field(max_length=64)
    new: str = Field(max_length=64)


class RevokeBody(BaseModel):
    """Why a certificate is revoked (RFC 5280 reason)."""

    reason: str = "unspecified"


class IdentityAnswer(BaseModel):
    """A certificate."""

    id: str
    standing: str
    name: str
    organisation: str
    role: str
    issuer: str
    serial: str
    key_type: str
    fingerprint: str
    valid_from: datetime
    valid_until: datetime
    revoked_at: datetime | None


class SigningAnswer(BaseModel):
    """How one's signing stands."""

    identities: list[IdentityAnswer]
    unlocked: bool
    until: datetime | None
    idle_until: datetime | None


class UnlockedAnswer(BaseModel):
    """The key is open."""

    unlocked: bool
    until: datetime


def version_of(version: ReportVersion, report: Report, exam: Exam) -> VersionAnswer:
    """A version for its reader."""
    return VersionAnswer(
        version_id=version.id,
        exam_id=exam.id,
        number=report.number,
        version=version.number,
        kind=version.kind,
        reason=version.reason,
        state=version.state,
        revision=version.revision,
        content_hash=version.content_sha256 or content_hash(version, exam),
        **{name: getattr(version, name) for name in TEXTS},
        positive=version.positive,
        critical=version.critical,
        key_images=[image_of(version, image) for image in version.key_images],
        author_id=version.author_id,
        author=version.author_name,
        reviewer=version.reviewer_name,
        review_note=version.review_note,
        saved_at=version.saved_at,
        submitted_at=version.submitted_at,
        signed_at=version.signed_at,
        verification_code=version.verification_code,
        standing=version.standing,
        timestamped=version.timestamped,
        copied=[
            CopiedAnswer(id=row.id, field=row.field, text=row.text, source_id=row.source_id)
            for row in copied.waiting(version)
        ],
        links=[
            LinkAnswer(
                id=row.id,
                kind=row.kind,
                label=row.label,
                study=row.study_uid,
                series=row.series_uid,
                sop=row.sop_uid,
                frame=row.frame,
                annotation=row.annotation,
            )
            for row in links.standing(version)
        ],
    )


def image_of(version: ReportVersion, image: dict[str, Any]) -> KeyImageAnswer:
    """A key image for the page."""
    return KeyImageAnswer(
        id=image["id"],
        caption=image.get("caption", ""),
        width=image["width"],
        height=image["height"],
        sop_uid=image.get("sop_uid", ""),
        frame=image.get("frame"),
        url=f"/api/reports/{version.id}/key-images/{image['id']}",
    )


def template_of(template: Template) -> TemplateAnswer:
    """A template for the page."""
    return TemplateAnswer(
        id=template.id,
        scope=scope_of(template),
        modality=template.modality,
        body_part=template.body_part,
        sex=template.sex,
        age_from=template.age_from,
        age_to=template.age_to,
        name=template.name,
        normal=template.normal,
        technique=template.technique,
        findings=template.findings,
        impression=template.impression,
        recommendation=template.recommendation,
    )


def identity_of(row: SigningIdentity) -> IdentityAnswer:
    """A certificate for its owner."""

    der = x509.load_pem_x509_certificate(row.certificate_pem.encode()).public_bytes(Encoding.DER)
    info = describe(der)
    return IdentityAnswer(
        id=row.id,
        standing=row.standing,
        name=info.name,
        organisation=info.organisation,
        role=info.role,
        issuer=info.issuer,
        serial=info.serial,
        key_type=info.key_type,
        fingerprint=info.fingerprint,
        valid_from=row.valid_from,
        valid_until=row.valid_until,
        revoked_at=row.revoked_at,
    )
