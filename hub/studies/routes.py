"""JSON API of hub.studies: the images of an exam, their previews, the quarantine."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import select

from hub.accounts.roles import Permission
from hub.dicom import render
from hub.exams import repository as exams
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import Conflict, NotFound, Unavailable
from hub.kit.i18n import LOCALE_COOKIE, _, pick_locale, translate
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.sites.models import Organisation
from hub.studies import intake, previews, quarantine, reasons, repository, trash
from hub.studies.models import Instance, Quarantined, Series, Study
from storage.errors import ObjectNotFound

router = APIRouter(prefix="/api", tags=["studies"])

Deleter = Annotated[Actor, require(Permission.IMAGES_DELETE)]
ImageViewer = Annotated[Actor, require(Permission.IMAGES_VIEW)]
QuarantineViewer = Annotated[Actor, require(Permission.QUARANTINE_VIEW)]
QuarantineDecider = Annotated[Actor, require(Permission.QUARANTINE_DECIDE)]

# A shared workstation must not show one person's images to the next: kept, but asked about each time.
_REVALIDATE = "private, no-cache"
_FALLBACK_EDGE = 512


# --- the trash ------------------------------------------------------------------------------------------------------


class TrashedView(BaseModel):
    """A deleted study: until `purged_at` it can be restored."""

    uid: str
    org_id: str
    date: str
    description: str
    modalities: list[str]
    instance_count: int
    trashed_at: datetime
    trashed_by: str
    reason: str
    purged_at: datetime


@router.get("/trash", summary="Deleted studies")
def trashed_studies(session: ReadDb, actor: Deleter) -> list[TrashedView]:
    """What is in the trash, the latest first."""
    keep = timedelta(days=get_settings().trash_days)
    return [
        TrashedView(
            uid=study.uid,
            org_id=study.org_id,
            date=study.study_date,
            description=study.description,
            modalities=study.modalities,
            instance_count=study.instance_count,
            trashed_at=study.trashed_at,
            trashed_by=study.trashed_by,
            reason=study.trash_reason,
            purged_at=study.trashed_at + keep,
        )
        for study in trash.listed(session)
        if study.trashed_at is not None
    ]


@router.post("/trash/{uid}/restore", status_code=204, summary="Restore a deleted study")
def restore_study(uid: str, session: WriteDb, actor: Deleter) -> Response:
    """Take a study out of the trash."""
    trash.restore(session, actor, uid, cause="asked")
    return Response(status_code=204)


# --- images of an exam ----------------------------------------------------------------------------------------------


class InstanceView(BaseModel):
    """One instance. `preview_note` is the code of why its picture is a placeholder, or ""."""

    id: str
    uid: str
    sop_class: str
    number: int | None
    rows: int | None
    columns: int | None
    frames: int
    has_pixels: bool
    made_by_hub: bool
    notes: list[str]
    preview_url: str | None
    preview_note: str


class SeriesView(BaseModel):
    """One series with its instances in order."""

    id: str
    uid: str
    number: int | None
    modality: str
    description: str
    body_part: str
    laterality: str
    instance_count: int
    frame_count: int
    preview_url: str | None
    preview_note: str
    instances: list[InstanceView]


class StudyView(BaseModel):
    """One study. `prepared`: the worker has made its previews as of now; `notes`: oddities that were tolerated."""

    id: str
    uid: str
    date: str
    time: str
    description: str
    modalities: list[str]
    series_count: int
    instance_count: int
    total_bytes: int
    notes: list[str]
    text_flagged: bool
    summary: dict[str, Any]
    header_patient: dict[str, Any]
    prepared: bool
    sheet_url: str | None
    preview_url: str | None
    received_at: datetime
    series: list[SeriesView]


class ImagesView(BaseModel):
    """The images of an exam."""

    exam_id: str
    received_count: int
    declared_count: int | None
    late_images_at: datetime | None
    studies: list[StudyView]


def _instance_view(row: Instance) -> InstanceView:
    return InstanceView(
        id=row.id,
        uid=row.uid,
        sop_class=row.sop_class,
        number=row.number,
        rows=row.rows,
        columns=row.columns,
        frames=row.frames,
        has_pixels=row.has_pixels,
        made_by_hub=row.made_by_hub,
        notes=row.notes,
        preview_url=f"/api/previews/instance/{row.id}" if row.has_pixels else None,
        preview_note=row.preview_note,
    )


@router.get("/exams/{exam_id}/images", summary="The images of an exam")
def exam_images(session: ReadDb, exam_id: str, actor: ImageViewer) -> ImagesView:
    """Studies, series and instances of an exam with the addresses of their previews."""
    return images_of(session, actor, exam_id)


def images_of(session: ReadDb, actor: Actor, exam_id: str) -> ImagesView:
    """What `exam_images` answers, for pages.

    Raises:
        NotFound: The exam is not the actor's to know.
    """
    exam = exams.get(session, actor, exam_id)
    studies = repository.of_exam(session, exam.id)
    ids = [study.id for study in studies]
    instances: dict[str, list[Instance]] = {}
    for row in repository.instances_of(session, ids):
        instances.setdefault(row.series_id, []).append(row)
    series: dict[str, list[SeriesView]] = {}
    for one in repository.series_of(session, ids):
        found = instances.get(one.id, [])
        has_pixels = any(row.has_pixels for row in found)
        series.setdefault(one.study_id, []).append(
            SeriesView(
                id=one.id,
                uid=one.uid,
                number=one.number,
                modality=one.modality,
                description=one.description,
                body_part=one.body_part,
                laterality=one.laterality,
                instance_count=one.instance_count,
                frame_count=one.frame_count,
                preview_url=f"/api/previews/series/{one.id}" if has_pixels else None,
                preview_note=one.preview_note,
                instances=[_instance_view(row) for row in found],
            )
        )
    return ImagesView(
        exam_id=exam.id,
        received_count=exam.received_count,
        declared_count=exam.declared_count,
        late_images_at=exam.late_images_at,
        studies=[
            StudyView(
                id=study.id,
                uid=study.uid,
                date=study.study_date,
                time=study.study_time,
                description=study.description,
                modalities=study.modalities,
                series_count=study.series_count,
                instance_count=study.instance_count,
                total_bytes=study.total_bytes,
                notes=study.notes,
                text_flagged=study.text_flagged,
                summary=study.summary,
                header_patient=study.header_patient,
                prepared=study.prepared_revision >= study.revision,
                sheet_url=f"/api/previews/sheet/{study.id}" if study.sheet_key else None,
                preview_url=f"/api/previews/study/{study.id}" if study.preview_key else None,
                received_at=study.created_at,
                series=series.get(study.id, []),
            )
            for study in studies
        ],
    )


@router.get(
    "/previews/{kind}/{item}",
    summary="A preview picture",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}}, 404: {"description": "There is none, or not yet."}},
)
def preview(
    request: Request,
    session: ReadDb,
    kind: Literal["sheet", "study", "series", "instance"],
    item: str,
    actor: ImageViewer,
) -> Response:
    """A contact sheet, or the picture of a study, a series or an instance.

    A picture of a series or an instance that the worker has not made yet is made on the spot.
    """
    study_id, key, instance = _preview_source(session, actor, kind, item)
    repository.note_view(actor, study_id)
    etag = f'"{key.rsplit("/", 1)[-1] if key else f"{item}-now"}"'
    headers = {"ETag": etag, "Cache-Control": _REVALIDATE, "Vary": "Cookie"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if key:
        try:
            return Response(object_store().read(key), media_type="image/jpeg", headers=headers)
        except ObjectNotFound:
            # The worker has just made it anew.
            headers.pop("ETag")
    if instance is None:
        raise NotFound(_("预览还在生成,请稍候"), code="not-ready")
    picture, _note = previews.picture_of(object_store(), instance, _FALLBACK_EDGE)
    return Response(render.to_jpeg(picture), media_type="image/jpeg", headers=headers)


def _preview_source(session: ReadDb, actor: Actor, kind: str, item: str) -> tuple[str, str, Instance | None]:
    visible = repository.visibility(actor)
    if kind in ("sheet", "study"):
        study = session.scalars(select(Study).where(Study.id == item, visible)).one_or_none()
        if study is None:
            raise NotFound(_("没有找到这些影像"))
        return study.id, study.sheet_key if kind == "sheet" else study.preview_key, None
    if kind == "instance":
        found = session.scalars(
            select(Instance).join(Study, Study.id == Instance.study_id).where(Instance.id == item, visible)
        ).one_or_none()
        if found is None or not found.has_pixels:
            raise NotFound(_("没有找到这些影像"))
        return found.study_id, found.preview_key, found
    series = session.scalars(
        select(Series).join(Study, Study.id == Series.study_id).where(Series.id == item, visible)
    ).one_or_none()
    if series is None:
        raise NotFound(_("没有找到这些影像"))
    images = session.scalars(
        select(Instance)
        .where(Instance.series_id == series.id, Instance.has_pixels)
        .order_by(Instance.number, Instance.uid)
    ).all()
    return series.study_id, series.preview_key, images[len(images) // 2] if images else None


# --- quarantine -----------------------------------------------------------------------------------------------------


class QuarantineView(BaseModel):
    """Refused bytes. `kept` is false where there was no room for them; `detail` is for the quality officer only."""

    id: str
    at: datetime
    org_id: str
    org_name: str
    source: str
    name: str
    code: str
    reason: str
    detail: str
    size: int
    sha256: str
    study_uid: str
    sop_uid: str
    exam_id: str | None
    kept: bool
    decision: str
    decided_at: datetime | None


class QuarantinePage(BaseModel):
    """A page of the quarantine; `room_bytes` is what may still be kept."""

    items: list[QuarantineView]
    total: int
    page: int
    room_bytes: int


class DiscardForm(BaseModel):
    """Why refused bytes are let go."""

    reason: str = Field(max_length=400, examples=["卫生院确认是误传的文件"])


class ReleaseResult(BaseModel):
    """What came of a release."""

    status: Literal["stored", "known"]
    study_uid: str
    instance_id: str


def quarantine_view(row: Quarantined, org_name: str, locale: str) -> QuarantineView:
    """A row for people, in their language."""
    shown = {name: value for name, value in row.params.items() if name != "detail"}
    return QuarantineView(
        id=row.id,
        at=row.at,
        org_id=row.org_id,
        org_name=org_name,
        source=row.source,
        name=row.name,
        code=row.code,
        reason=translate(reasons.words(row.reason, shown), locale),
        detail=str(row.params.get("detail", "")),
        size=row.size,
        sha256=row.sha256,
        study_uid=row.study_uid,
        sop_uid=row.sop_uid,
        exam_id=row.exam_id,
        kept=bool(row.object_key),
        decision=row.decision,
        decided_at=row.decided_at,
    )


def _called(org: Organisation, locale: str) -> str:
    return org.name_en if locale == "en" and org.name_en else org.name


def quarantine_page(
    session: ReadDb, actor: Actor, *, locale: str, page: int = 1, size: int = 50, **filters: Any
) -> QuarantinePage:
    """What `list_quarantine` answers, for the page."""
    rows, total = quarantine.search(session, actor, page=page, size=size, **filters)
    senders = select(Organisation).where(Organisation.id.in_({row.org_id for row in rows}))
    names = {org.id: _called(org, locale) for org in session.scalars(senders)}
    return QuarantinePage(
        items=[quarantine_view(row, names.get(row.org_id, ""), locale) for row in rows],
        total=total,
        page=page,
        room_bytes=max(0, quarantine.room(session)),
    )


def _locale(request: Request) -> str:
    return pick_locale(request.cookies.get(LOCALE_COOKIE), request.headers.get("accept-language"))


@router.get("/quarantine", summary="Refused files")
def list_quarantine(
    request: Request,
    session: ReadDb,
    actor: QuarantineViewer,
    decided: bool = False,
    org: str = "",
    code: str = "",
    source: str = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> QuarantinePage:
    """Refused files, newest first."""
    return quarantine_page(
        session,
        actor,
        locale=_locale(request),
        page=page,
        open_only=not decided,
        org_id=org,
        code=code,
        source=source,
    )


@router.get("/quarantine/{item}", summary="A refused file")
def get_quarantined(request: Request, session: ReadDb, item: str, actor: QuarantineViewer) -> QuarantineView:
    """One refused file."""
    row = quarantine.get(session, actor, item)
    locale, sender = _locale(request), session.get(Organisation, row.org_id)
    return quarantine_view(row, _called(sender, locale) if sender else "", locale)


@router.get("/quarantine/{item}/file", summary="The original bytes", response_class=StreamingResponse)
def download_quarantined(item: str, actor: QuarantineDecider) -> StreamingResponse:
    """The refused bytes as they came; taking them is audited."""
    with database().reading() as session:
        row = quarantine.get(session, actor, item)
        key = row.object_key
    if not key:
        raise Conflict(_("隔离区没有保留这个文件的内容"), code="not-kept")
    try:
        chunks = object_store().iter_range(key)
    except ObjectNotFound as error:
        raise Unavailable(_("存储中没有找到这个文件"), code="object-missing") from error
    with database().writing() as session:
        quarantine.note_download(session, actor, quarantine.get(session, actor, item))
    return StreamingResponse(
        chunks,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename=\"{item}.bin\"; filename*=UTF-8''{quote(item)}.bin",
            "Content-Length": str(row.size),
            "Cache-Control": "no-store",
        },
    )


@router.post("/quarantine/{item}/release", summary="Take a refused file in after all")
def release_quarantined(item: str, actor: QuarantineDecider) -> ReleaseResult:
    """Try the bytes once more as their organisation's; 409 with the reason where they still do not fit."""
    return release(actor, item)


@router.post("/quarantine/{item}/discard", summary="Discard a refused file", status_code=204)
def discard_quarantined(item: str, form: DiscardForm, actor: QuarantineDecider) -> None:
    """Let the bytes go, with a reason; the row stays."""
    quarantine.discard(actor, item, reason=form.reason)


def release(actor: Actor, item: str) -> ReleaseResult:
    """Take a refused file in after all.

    Raises:
        Conflict: It still does not fit, was decided already, or was not kept.
        NotFound: No such file.
    """
    refused: list[intake.Outcome] = []

    def again(path: Path, row: Quarantined) -> tuple[bool, dict[str, Any]]:
        outcome = intake.ingest_many(
            actor,
            [intake.Incoming(path, row.name)],
            org_id=row.org_id,
            source=row.source,
            exam_id=row.exam_id if row.code != reasons.WRONG_EXAM else None,
        )[0]
        if outcome.status == "refused":
            refused.append(outcome)
            return False, {}
        return True, {
            "status": outcome.status,
            "study_uid": outcome.study_uid,
            "instance_id": outcome.instance_id,
        }

    result = quarantine.release(actor, item, ingest=again)
    if refused:
        raise Conflict(_("仍不能接收:{why}").format(why=refused[0].reason), code=refused[0].code)
    return ReleaseResult.model_validate(result)
