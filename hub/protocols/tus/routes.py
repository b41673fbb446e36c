"""Resumable upload by tus 1.0 (creation, creation-with-upload, termination, expiration, checksum), and its batches."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from datetime import timedelta
from email.utils import format_datetime
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from hub.accounts.roles import Permission
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, public, require
from hub.kit.errors import HubError, Invalid, TooLarge
from hub.kit.i18n import LOCALE_COOKIE, Locale, _, pick_locale, translate
from hub.kit.settings import get_settings
from hub.protocols.tus import receiver
from hub.studies import uploads
from hub.studies.models import UploadBatch, UploadFile

router = APIRouter(prefix="/api", tags=["upload"])

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,termination,expiration,checksum"
BODY_TYPE = "application/offset+octet-stream"

Uploader = Annotated[Actor, require(Permission.IMAGES_UPLOAD)]


class WrongVersion(HubError):
    """The sender speaks another version of tus."""

    status = 412
    code = "wrong-version"


class LinkLost(HubError):
    """The sender went away in the middle of a request."""

    status = 400
    code = "link-lost"


# --- batches ------------------------------------------------------------------------------------------------------


class FileIn(BaseModel):
    """A file to be sent. `dicom`: false where the sender looked and it is none."""

    path: str = Field(max_length=2000)
    size: int = Field(ge=0, le=2**50)
    sha256: str = Field("", max_length=64)
    dicom: bool = True


class DeclareIn(BaseModel):
    """What will be sent; `exam_id` null: the images find or make their exams. `batch_id`: go on with a batch."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"exam_id": None, "files": [{"path": "CT/IM0001.dcm", "size": 526514, "sha256": ""}]}]
        }
    )

    exam_id: str | None = Field(None, max_length=26)
    batch_id: str | None = Field(None, max_length=26)
    files: list[FileIn] = Field(max_length=30_000)


class KnownIn(BaseModel):
    """SHA-256 (hex) of declared files by their id."""

    files: dict[str, str] = Field(max_length=2000)


class CloseIn(BaseModel):
    """`confirm_short`: the shortfall is meant."""

    confirm_short: bool = False


class FileOut(BaseModel):
    """A file of a batch. States: receiving, received, stored, known, refused, expanded, ignored."""

    id: str
    path: str
    size: int
    offset: int
    state: str
    code: str
    reason: str
    study_uid: str
    sop_uid: str
    url: str


class ExamOut(BaseModel):
    """An exam that a batch's images went to."""

    id: str
    accession: str
    state: str
    patient_name: str
    incomplete: list[str]


class BatchOut(BaseModel):
    """A batch with its counts; `shortfall` are images that are not in the hub."""

    id: str
    exam_id: str | None
    state: str
    counts: dict[str, int]
    shortfall: int
    exams: list[ExamOut]
    files: list[FileOut]


def _locale(request: Request) -> Locale:
    person = getattr(request.state, "person", None)
    return pick_locale(
        request.cookies.get(LOCALE_COOKIE) or (person.locale if person else None),
        request.headers.get("accept-language"),
    )


def _file(row: UploadFile, locale: Locale) -> FileOut:
    reason = uploads.reason_of(row)
    return FileOut(
        id=row.id,
        path=row.path,
        size=row.size,
        offset=receiver.present(row),
        state=row.state,
        code=row.code,
        reason=translate(reason, locale) if reason else "",
        study_uid=row.study_uid,
        sop_uid=row.sop_uid,
        url=f"/api/tus/{row.id}",
    )


def _batch(
    session: Any, batch: UploadBatch, found: uploads.Reconciliation, rows: list[UploadFile], locale: Locale
) -> BatchOut:
    exams = [session.get_one(Exam, exam_id) for exam_id in found.exam_ids]
    names = ("files", "bytes", "images", "sent", "stored", "known", "refused", "ignored", "unsent", "processing")
    return BatchOut(
        id=batch.id,
        exam_id=batch.exam_id,
        state=batch.state,
        counts={name: getattr(found, name) for name in names},
        shortfall=found.shortfall,
        exams=[
            ExamOut(
                id=exam.id,
                accession=exam.accession,
                state=exam.state,
                patient_name=exam.patient.name,
                incomplete=exam.incomplete,
            )
            for exam in exams
        ],
        files=[_file(row, locale) for row in rows],
    )


@router.post("/uploads", status_code=201)
def declare(request: Request, body: DeclareIn, actor: Uploader, session: WriteDb) -> BatchOut:
    """Declare a folder; the answer's `files`, in the same order, say which need not be sent."""
    batch, rows = uploads.declare(
        session,
        actor,
        files=[uploads.Declared(item.path, item.size, item.sha256, item.dicom) for item in body.files],
        exam_id=body.exam_id,
        batch_id=body.batch_id,
    )
    return _batch(session, batch, uploads.reconcile(session, batch.id), rows, _locale(request))


@router.get("/uploads")
def list_batches(request: Request, actor: Uploader, session: ReadDb) -> list[BatchOut]:
    """One's own batches that wait to be continued."""
    return [
        _batch(session, batch, uploads.reconcile(session, batch.id), [], _locale(request))
        for batch in uploads.open_batches(session, actor)
    ]


@router.get("/uploads/{batch_id}")
def show(request: Request, batch_id: str, actor: Uploader, session: ReadDb, files: str = "") -> BatchOut:
    """The state of a batch. `files`: states whose files are listed, by comma (`refused,ignored`), or `all`."""
    batch = uploads.get_batch(session, actor, batch_id)
    rows: list[UploadFile] = []
    if files:
        wanted = [] if files == "all" else files.split(",")
        rows = uploads.files_of(session, batch.id, states=wanted)
    return _batch(session, batch, uploads.reconcile(session, batch.id), rows, _locale(request))


@router.post("/uploads/{batch_id}/known")
def check_known(batch_id: str, body: KnownIn, actor: Uploader, session: WriteDb) -> dict[str, list[str]]:
    """Tell hashes before sending; gives the ids of the files that the hub already has."""
    return {"known": [row.id for row in uploads.check_known(session, actor, batch_id, body.files)]}


@router.post("/uploads/{batch_id}/close")
def close(request: Request, batch_id: str, body: CloseIn, actor: Uploader, session: WriteDb) -> BatchOut:
    """End a batch. A shortfall is a conflict (`shortfall`) until `confirm_short`."""
    found = uploads.close(session, actor, batch_id, confirm_short=body.confirm_short)
    batch = uploads.get_batch(session, actor, batch_id)
    rows = uploads.files_of(session, batch_id, states=[uploads.REFUSED, uploads.IGNORED])
    return _batch(session, batch, found, rows, _locale(request))


# --- tus ----------------------------------------------------------------------------------------------------------


def _headers(row: UploadFile, offset: int) -> dict[str, str]:
    headers = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(offset),
        "Cache-Control": "no-store",
        "X-Upload-State": row.state,
    }
    if row.code:
        headers["X-Upload-Code"] = row.code
    if row.state == uploads.RECEIVING:
        expires = row.created_at + timedelta(hours=get_settings().upload_expire_hours)
        headers["Upload-Expires"] = format_datetime(expires, usegmt=True)
    return headers


def _check_version(request: Request) -> None:
    if request.headers.get("tus-resumable", VERSION) != VERSION:
        raise WrongVersion(_("不支持的续传协议版本"), supported=VERSION)


def _number(request: Request, name: str) -> int:
    text = request.headers.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        raise Invalid(_("请求头 {name} 缺失或不正确", name=name), code="bad-header", header=name)
    return int(text)


def _metadata(header: str) -> dict[str, str]:
    """`Upload-Metadata`: pairs of key and base64 value, by comma."""
    found: dict[str, str] = {}
    for pair in header.split(","):
        key, _space, value = pair.strip().partition(" ")
        if key:
            try:
                found[key] = base64.b64decode(value, validate=True).decode("utf-8", "replace")
            except (binascii.Error, ValueError) as error:
                raise Invalid(_("请求头 {name} 缺失或不正确", name="Upload-Metadata"), code="bad-header") from error
    return found


@router.options("/tus")
def options(_actor: Annotated[Actor, public()]) -> Response:
    """What this server can do."""
    return Response(
        status_code=204,
        headers={
            "Tus-Resumable": VERSION,
            "Tus-Version": VERSION,
            "Tus-Extension": EXTENSIONS,
            "Tus-Max-Size": str(get_settings().upload_max_file_mb * 2**20),
            "Tus-Checksum-Algorithm": ",".join(receiver.ALGORITHMS),
        },
    )


def _create(actor: Actor, size: int, metadata: dict[str, str]) -> UploadFile:
    uploads.require_declared(size)
    with database().writing() as session:
        if metadata.get("file"):
            row, _batch = uploads.get_file(session, actor, metadata["file"])
            if row.size != size:
                raise Invalid(_("文件大小与申报的不符"), code="other-size")
            return row
        name = metadata.get("path") or metadata.get("relativePath") or metadata.get("filename") or metadata.get("name")
        _new, rows = uploads.declare(
            session,
            actor,
            files=[uploads.Declared(name or "file", size, metadata.get("sha256", ""))],
            exam_id=metadata.get("exam_id") or None,
            batch_id=metadata.get("batch") or None,
        )
        return rows[0]


@router.post("/tus", status_code=201)
async def create(request: Request, actor: Uploader) -> Response:
    """Create an upload (creation, creation-with-upload).

    Metadata: `file` names a declared file; or `batch` and `path`; or `filename` alone, with `exam_id`, for a batch of
    its own.
    """
    _check_version(request)
    if "upload-defer-length" in request.headers:
        raise Invalid(_("请求头 {name} 缺失或不正确", name="Upload-Length"), code="bad-header")
    size = _number(request, "Upload-Length")
    metadata = _metadata(request.headers.get("upload-metadata", ""))
    row = await anyio.to_thread.run_sync(_create, actor, size, metadata)
    offset = receiver.present(row)
    with_body = request.headers.get("content-type", "") == BODY_TYPE
    if with_body and row.state == uploads.RECEIVING and offset == 0:
        offset, row = await _append(request, actor, row, 0)
    return Response(status_code=201, headers={"Location": f"/api/tus/{row.id}", **_headers(row, offset)})


@router.head("/tus/{file_id}")
def progress(request: Request, file_id: str, actor: Uploader, session: ReadDb) -> Response:
    """How many bytes of an upload are here."""
    _check_version(request)
    row, _owner = uploads.get_file(session, actor, file_id)
    return Response(headers={"Upload-Length": str(row.size), **_headers(row, receiver.present(row))})


@router.patch("/tus/{file_id}", status_code=204)
async def append(request: Request, file_id: str, actor: Uploader) -> Response:
    """Append bytes at `Upload-Offset`. The part that completes a file is answered when the file is taken in.

    `X-Upload-State` then says what became of it, `X-Upload-Code` why it was refused.
    """
    _check_version(request)
    if request.headers.get("content-type", "") != BODY_TYPE:
        error = HubError(_("请求头 {name} 缺失或不正确", name="Content-Type"), code="bad-header")
        error.status = 415
        raise error
    start = _number(request, "Upload-Offset")

    def _find() -> UploadFile:
        with database().reading() as session:
            return uploads.get_file(session, actor, file_id)[0]

    row = await anyio.to_thread.run_sync(_find)
    offset, row = await _append(request, actor, row, start)
    return Response(status_code=204, headers=_headers(row, offset))


async def _append(request: Request, actor: Actor, row: UploadFile, start: int) -> tuple[int, UploadFile]:
    checksum = receiver.parse_checksum(request.headers.get("upload-checksum"))
    part = await anyio.to_thread.run_sync(receiver.Part, actor, row.id, start)
    try:
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > part.left:
            raise TooLarge(_("收到的数据多于申报的文件大小"), code="too-many-bytes")
        offset, finished = await receiver.receive(part, _body(request), checksum)
        return offset, finished or row
    except ClientDisconnect as error:
        # Nobody reads this answer; what came is recorded.
        raise LinkLost(_("连接中断")) from error
    finally:
        await anyio.to_thread.run_sync(part.close)


async def _body(request: Request) -> AsyncIterator[bytes]:
    async for piece in request.stream():
        if piece:
            yield piece


@router.delete("/tus/{file_id}", status_code=204)
def terminate(request: Request, file_id: str, actor: Uploader) -> Response:
    """Drop an unfinished upload (termination)."""
    _check_version(request)
    uploads.terminate(actor, file_id)
    return Response(status_code=204, headers={"Tus-Resumable": VERSION})
