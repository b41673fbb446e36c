"""Tables of reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.exams.models import Exam
from hub.kit.db import Base, Id, id_default

_AMENDING = text("kind <> 'original' AND state IN ('draft', 'submitted')")


class Report(Base):
    """The report of an exam: a number that is never reused, and its versions.

    The number is given when the first version is about to be signed: it names the hospital that issues the report, and
    until then the exam may still go to another one.
    """

    __tablename__ = "report"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), unique=True)
    number: Mapped[str | None] = mapped_column(String(40), unique=True)
    created_at: Mapped[datetime]

    exam: Mapped[Exam] = relationship()
    versions: Mapped[list[ReportVersion]] = relationship(back_populates="report", order_by="ReportVersion.number")


class ReportVersion(Base):
    """One version. `state` (hub.reports.states): draft → submitted → signed; a signed one never changes.

    `kind` is "original", "addendum" or "correction"; the latter two carry a `reason`. `revision` counts saves of the
    draft: a save names the revision it is based on, so that two windows cannot overwrite each other unseen.
    `number` counts from 1; a discarded draft gives its number back and keeps a negative one.
    `key_images` holds `{id, key, sha256, type, width, height, caption, sop_uid, frame}`, in printing order.
    `issuer_id` is the reading hospital at the time of signing, `content_sha256` what its signer saw.
    """

    __tablename__ = "report_version"
    __table_args__ = (
        UniqueConstraint("report_id", "number"),
        Index("ix_report_version_signed", "signed_at"),
        Index("ix_report_version_open", "state", "kind"),
        Index(
            "ix_report_version_amending", "created_at", "report_id", sqlite_where=_AMENDING, postgresql_where=_AMENDING
        ),
    )

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    report_id: Mapped[str] = mapped_column(ForeignKey("report.id"), index=True)
    number: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str] = mapped_column(String(12), default="original")
    reason: Mapped[str] = mapped_column(String(400), default="")
    state: Mapped[str] = mapped_column(String(10), default="draft")
    revision: Mapped[int] = mapped_column(default=1)
    technique: Mapped[str] = mapped_column(Text, default="")
    comparison: Mapped[str] = mapped_column(Text, default="")
    findings: Mapped[str] = mapped_column(Text, default="")
    impression: Mapped[str] = mapped_column(Text, default="")
    recommendation: Mapped[str] = mapped_column(Text, default="")
    positive: Mapped[bool | None]
    critical: Mapped[bool] = mapped_column(default=False)
    key_images: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    author_id: Mapped[str | None] = mapped_column(String(26))
    author_name: Mapped[str] = mapped_column(String(60), default="")
    reviewer_id: Mapped[str | None] = mapped_column(String(26))
    reviewer_name: Mapped[str] = mapped_column(String(60), default="")
    review_note: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]
    saved_at: Mapped[datetime]
    saved_by: Mapped[str | None] = mapped_column(String(26))
    submitted_at: Mapped[datetime | None]
    signed_at: Mapped[datetime | None]
    signer_id: Mapped[str | None] = mapped_column(String(26))
    issuer_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    content_sha256: Mapped[str] = mapped_column(String(64), default="")
    certificate_serial: Mapped[str] = mapped_column(String(60), default="")
    verification_code: Mapped[str | None] = mapped_column(String(24), unique=True)
    pdf_key: Mapped[str] = mapped_column(String(200), default="")
    pdf_sha256: Mapped[str] = mapped_column(String(64), default="", index=True)
    standing: Mapped[str] = mapped_column(String(12), default="")
    timestamped: Mapped[bool] = mapped_column(default=False)
    sr_uid: Mapped[str] = mapped_column(String(64), default="")
    pdf_uid: Mapped[str] = mapped_column(String(64), default="")

    report: Mapped[Report] = relationship(back_populates="versions")
    copied: Mapped[list[CopiedText]] = relationship(order_by="CopiedText.id", foreign_keys="CopiedText.version_id")
    links: Mapped[list[ReportLink]] = relationship(order_by="ReportLink.id")


class SavedText(Base):
    """Text that is no longer the draft's: nothing typed is lost.

    `event` says why it was kept: "overwritten", "submitted" (the author's own words, before a reviewer changed them),
    "conflict" (came from a window that did not know the newest text) or "lease-lost".
    """

    __tablename__ = "saved_text"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), index=True)
    revision: Mapped[int]
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    event: Mapped[str] = mapped_column(String(12), default="overwritten")
    body: Mapped[dict[str, Any]]


class StrayText(Base):
    """Text that came when there was no version it could lie beside: the lease was gone before the first save."""

    __tablename__ = "stray_text"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    exam_id: Mapped[str] = mapped_column(ForeignKey("exam.id"), index=True)
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    body: Mapped[dict[str, Any]]


class CopiedText(Base):
    """A sentence that was copied from an earlier report and waits to be confirmed.

    While `confirmed_at` is None and the sentence stands in `field` of the version, the version is not submitted. A
    sentence that was rewritten or taken out is nobody's concern, and one that comes back (Ctrl+Z) is again.
    """

    __tablename__ = "copied_text"
    __table_args__ = (UniqueConstraint("version_id", "field", "sha256"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), index=True)
    field: Mapped[str] = mapped_column(String(16))
    text: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    source_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"))
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))
    confirmed_at: Mapped[datetime | None]
    confirmed_by: Mapped[str | None] = mapped_column(String(26))


class ReportLink(Base):
    """What a piece of a version's text was measured on: `label` is that piece, `annotation` the viewer's own record."""

    __tablename__ = "report_link"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    version_id: Mapped[str] = mapped_column(ForeignKey("report_version.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    label: Mapped[str] = mapped_column(String(200))
    study_uid: Mapped[str] = mapped_column(String(64))
    series_uid: Mapped[str] = mapped_column(String(64), default="")
    sop_uid: Mapped[str] = mapped_column(String(64), default="")
    frame: Mapped[int | None]
    annotation: Mapped[dict[str, Any] | None]
    at: Mapped[datetime]
    person_id: Mapped[str] = mapped_column(String(26))


class Template(Base):
    """Text for a kind of exam. `org_id`/`person_id` None: the county's.

    `sex` is empty for everybody; `age_from` and `age_to` are years, both included, None without limit.
    """

    __tablename__ = "report_template"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    org_id: Mapped[str | None] = mapped_column(ForeignKey("organisation.id"))
    person_id: Mapped[str | None] = mapped_column(String(26))
    modality: Mapped[str] = mapped_column(String(4))
    body_part: Mapped[str] = mapped_column(String(20))
    sex: Mapped[str] = mapped_column(String(1), default="", server_default="")
    age_from: Mapped[int | None]
    age_to: Mapped[int | None]
    name: Mapped[str] = mapped_column(String(100))
    normal: Mapped[bool] = mapped_column(default=False)
    technique: Mapped[str] = mapped_column(Text, default="")
    findings: Mapped[str] = mapped_column(Text)
    impression: Mapped[str] = mapped_column(Text)
    recommendation: Mapped[str] = mapped_column(Text, default="")


class Phrase(Base):
    """Text that an abbreviation stands for. `scope` is "county", "org:<id>" or "own:<id>"; an empty modality is any."""

    __tablename__ = "report_phrase"
    __table_args__ = (UniqueConstraint("scope", "code", "modality"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    scope: Mapped[str] = mapped_column(String(32), index=True)
    code: Mapped[str] = mapped_column(String(20))
    modality: Mapped[str] = mapped_column(String(4), default="")
    text: Mapped[str] = mapped_column(Text)


class SigningIdentity(Base):
    """A person's certificate and, for keys that the hub keeps, the private key sealed under its owner's PIN."""

    __tablename__ = "signing_identity"

    id: Mapped[str] = mapped_column(Id, primary_key=True, default=id_default)
    person_id: Mapped[str] = mapped_column(ForeignKey("person.id"), index=True)
    standing: Mapped[str] = mapped_column(String(12))
    certificate_pem: Mapped[str] = mapped_column(Text)
    chain_pem: Mapped[str] = mapped_column(Text, default="")
    sealed_key: Mapped[dict[str, Any]]
    serial: Mapped[str] = mapped_column(String(60), index=True)
    valid_from: Mapped[datetime]
    valid_until: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    revoked_reason: Mapped[str] = mapped_column(String(30), default="")
    created_at: Mapped[datetime]


class CertificateAuthority(Base):
    """The hub's own small CA: one row. Its key is sealed under the hub's secret."""

    __tablename__ = "certificate_authority"

    id: Mapped[int] = mapped_column(primary_key=True)
    certificate_pem: Mapped[str] = mapped_column(Text)
    sealed_key: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
