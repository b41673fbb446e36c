"""JSON API of hub.delivery: the clinic's inbox, receipts, and the signed PDF."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from hub.audit import service as audit
from hub.delivery import service
from hub.delivery.schemas import DeliveryAnswer, InboxAnswer, delivery_of, inbox_row
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import LOCALE_COOKIE, pick_locale
from hub.kit.objects import object_store
from hub.reports import signing_service

router = APIRouter(prefix="/api", tags=["delivery"])


@router.get("/inbox", summary="Reports that came to my clinic")
def inbox(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require("report.see")],
    unseen: bool = False,
    q: Annotated[str, Query(max_length=60)] = "",
    before: datetime | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> InboxAnswer:
    """Newest first."""
    locale = pick_locale(request.cookies.get(LOCALE_COOKIE))
    items = service.inbox(session, actor, unseen=unseen, text=q, before=before, limit=limit)
    return InboxAnswer(
        reports=[inbox_row(item, locale) for item in items], unseen=service.unseen_count(session, actor.org_id)
    )


@router.post("/deliveries/{delivery_id}/seen", summary="Acknowledge a report")
def seen(delivery_id: str, session: WriteDb, actor: Annotated[Actor, require("report.see")]) -> DeliveryAnswer:
    """Records who and when; again, it changes nothing."""
    return delivery_of(service.mark_seen(session, actor, delivery_id))


@router.get("/reports/{version_id}/pdf", response_class=Response, summary="The signed PDF")
def pdf(
    version_id: str,
    actor: Annotated[Actor, require("report.view")],
    download: Annotated[bool, Query(description="As a file to keep, not to show.")] = False,
) -> Response:
    """The bytes that were signed. Opened by a person of the clinic, it counts as seen."""
    with database().reading() as session:
        version, report, exam = signing_service.read_pdf(session, actor, version_id)
        key, name = version.pdf_key, signing_service.file_name(version, report)
        org_id, patient_id, exam_id = exam.org_id, exam.patient_id, exam.id
    body = object_store().read(key)
    with database().writing() as session:
        audit.record(
            session,
            actor,
            "report.pdf",
            "report_version",
            version_id,
            org_id=org_id,
            patient_id=patient_id,
            exam=exam_id,
        )
        service.see_version(session, actor, version_id)
    kind = "attachment" if download else "inline"
    return Response(
        body,
        media_type="application/pdf",
        headers={"Content-Disposition": f'{kind}; filename="{name}"', "Cache-Control": "private, no-store"},
    )
