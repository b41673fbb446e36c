"""What the delivery API takes and gives."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from hub.delivery.models import Delivery
from hub.delivery.service import InboxItem
from hub.reading.schemas import PatientRef
from hub.reading.words import age_words, exam_words


class DeliveryAnswer(BaseModel):
    """A report on its way, and its receipts."""

    id: str
    version_id: str
    exam_id: str
    state: str
    queued_at: datetime
    delivered_at: datetime | None
    seen_at: datetime | None
    seen_by: str


class InboxRow(DeliveryAnswer):
    """A report in the clinic's inbox."""

    number: str
    version: int
    kind: str
    superseded: bool = Field(description="A correction was signed since; read that one.")
    accession: str
    patient: PatientRef
    exam: str
    priority: str
    positive: bool | None
    critical: bool
    issuer: str
    author: str
    reviewer: str
    signed_at: datetime | None
    page: str
    pdf: str


class InboxAnswer(BaseModel):
    """The clinic's reports, newest first."""

    reports: list[InboxRow]
    unseen: int = Field(description="Counted up to 100.")


def delivery_of(delivery: Delivery) -> DeliveryAnswer:
    """A delivery for those whom it concerns."""
    return DeliveryAnswer(
        id=delivery.id,
        version_id=delivery.version_id,
        exam_id=delivery.exam_id,
        state=delivery.state,
        queued_at=delivery.queued_at,
        delivered_at=delivery.delivered_at,
        seen_at=delivery.seen_at,
        seen_by=delivery.seen_by_name,
    )


def inbox_row(item: InboxItem, locale: str) -> InboxRow:
    """A row of the inbox."""
    exam, version = item.exam, item.version
    return InboxRow(
        **delivery_of(item.delivery).model_dump(),
        number=item.number,
        version=version.number,
        kind=version.kind,
        superseded=item.superseded,
        accession=exam.accession,
        patient=PatientRef(
            name=exam.patient.name, sex=exam.patient.sex, age=age_words(exam, locale), number=exam.patient.number
        ),
        exam=exam_words(exam, locale),
        priority=exam.priority,
        positive=version.positive,
        critical=version.critical,
        issuer=exam.reading_org.name if exam.reading_org else "",
        author=version.author_name,
        reviewer=version.reviewer_name,
        signed_at=version.signed_at,
        page=f"/reports/{version.id}",
        pdf=f"/api/reports/{version.id}/pdf",
    )
