"""Routes of WADO-RS and WADO-URI: instances, frames, bulk data, pictures; and of deleting a study.

Both doors have the same routes on the same functions. The viewer's takes one liberty: a single frame is the whole body.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.accounts.roles import Permission
from hub.audit import service as audit
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.ids import new_secret
from hub.protocols.dicomweb import answers, grants, instances, multipart, negotiate, package, rendering, uri, wado
from hub.protocols.dicomweb.doors import DOOR, VIEWER_DOOR, FrameViewer, Uid, Viewer, base
from hub.protocols.dicomweb.instances import range_of
from hub.studies import repository, trash
from hub.studies.models import Instance, Study

Deleter = Annotated[Actor, require(Permission.IMAGES_DELETE)]

EXPORTED = "images.export"


def _placed(session: Session, study: Study, request: Request, door: str) -> Callable[[Instance], str]:
    """What gives the address of an instance."""
    series = {one.id: one.uid for one in repository.series_of(session, [study.id])}
    root = f"{base(request, door)}/studies/{study.uid}"
    return lambda instance: f"{root}/series/{series.get(instance.series_id, '')}/instances/{instance.uid}"


def _retrieve(
    request: Request, session: Session, actor: Actor, door: str, study_uid: str, series_uid: str = "", sop_uid: str = ""
) -> Response:
    study = repository.by_uid(session, actor, study_uid)
    found = repository.instances(session, study, series_uid=series_uid, sop_uid=sop_uid)
    if not series_uid and _wants_zip(request):
        with database().writing() as writing:
            audit.record(
                writing,
                actor,
                EXPORTED,
                "study",
                study.uid,
                org_id=study.org_id,
                patient_id=study.patient_id,
                instances=len(found),
            )
        return package.answer(study, found)
    answer = instances.answer(request, found, place=_placed(session, study, request, door))
    repository.note_view(actor, study.id)
    return answer


def _wants_zip(request: Request) -> bool:
    for one in negotiate.accepted(request):
        if one.media.name == negotiate.ZIP:
            return True
        if one.inner in (negotiate.DICOM, "application/*", "*/*"):
            return False
    return False


def _shown(
    request: Request,
    session: Session,
    actor: Actor,
    door: str,
    study_uid: str,
    series_uid: str = "",
    sop_uid: str = "",
    numbers: str = "",
    *,
    thumbnail: bool = False,
) -> Response:
    study = repository.by_uid(session, actor, study_uid)
    found = repository.instances(session, study, series_uid=series_uid, sop_uid=sop_uid)
    if thumbnail and not sop_uid:
        found = rendering.representative(found)
    place = _placed(session, study, request, door)
    repository.note_view(actor, study.id)
    wanted = wado.frame_numbers(numbers) if numbers else None
    return rendering.rendered(request, found, numbers=wanted, place=place, thumbnail=thumbnail)


async def _bulk(request: Request, actor: Actor, study: str, series: str, sop: str, path: str) -> Response:
    location = await grants.locate(actor, study, series, sop)
    value = await run_in_threadpool(wado.bulk_value, location, path)
    media = negotiate.OCTETS
    if location.sop_class == rendering.PDF_CLASS and path.strip("/") == "00420011":
        media = "application/pdf"
    headers = {"Cache-Control": answers.REVALIDATE, "Vary": "Accept, Cookie", "Content-Security-Policy": "sandbox"}
    form = next(
        (
            one
            for one in negotiate.accepted(request)
            if one.inner in (media, negotiate.OCTETS, "application/*", "*/*")
            or (path.strip("/").upper() == "7FE00010" and one.inner.startswith(("image/", "video/")))
        ),
        None,
    )
    if form is None:
        value.file.close()
        raise negotiate.NotAcceptable()
    if form.multipart:
        boundary = f"hub-{new_secret(12)}"
        place = quote(str(request.url).split("?", maxsplit=1)[0], safe=":/%")
        parts: Iterator[bytes] = multipart.write(
            [({"Content-Type": media, "Content-Location": place}, _pieces(value))], boundary
        )
        return StreamingResponse(parts, headers={**headers, "Content-Type": answers.related(media, boundary)})
    etag = f'"{location.instance_id}-{path.strip("/").upper()}"'
    headers |= {"ETag": etag, "Accept-Ranges": "bytes", "Content-Type": media}
    if (unchanged := answers.not_modified(request, etag)) is not None:
        value.file.close()
        return unchanged
    asked = range_of(request, value.size, etag)
    if asked == "unsatisfiable":
        value.file.close()
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{value.size}"})
    if asked is None:
        return StreamingResponse(_pieces(value), headers={**headers, "Content-Length": str(value.size)})
    offset, length = asked
    headers |= {
        "Content-Length": str(length),
        "Content-Range": f"bytes {offset}-{offset + length - 1}/{value.size}",
    }
    return StreamingResponse(_pieces(value, offset, length), 206, headers=headers)


def _pieces(value: wado.Bulk, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    left = value.size - offset if length is None else length
    with value.file as file:
        for begin, size in value.segments:
            if offset >= size:
                offset -= size
                continue
            file.seek(begin + offset)
            here = min(size - offset, left)
            offset = 0
            while here and (data := file.read(min(1 << 20, here))):
                here -= len(data)
                left -= len(data)
                yield data
            if not left:
                return


def _delete(session: Session, actor: Actor, study: str, reason: str) -> Response:
    trash.put(session, actor, study, reason)
    grants.forget()
    return Response(status_code=204)


_SERIES = "/studies/{study}/series/{series}"
_INSTANCE = f"{_SERIES}/instances/{{sop}}"


def _routes(door: str) -> APIRouter:
    """The routes of one door."""
    router = APIRouter(prefix=door, tags=["dicomweb"])
    viewer = door == VIEWER_DOOR

    @router.get("/studies/{study}", summary="Retrieve a study (WADO-RS)")
    def retrieve_study(request: Request, session: ReadDb, study: Uid, actor: Viewer) -> Response:
        """All instances of a study (PS3.18 §10.4); as a ZIP with DICOMDIR where that is accepted."""
        return _retrieve(request, session, actor, door, study)

    @router.get(_SERIES, summary="Retrieve a series (WADO-RS)")
    def retrieve_series(request: Request, session: ReadDb, study: Uid, series: Uid, actor: Viewer) -> Response:
        """All instances of a series (PS3.18 §10.4)."""
        return _retrieve(request, session, actor, door, study, series)

    @router.get(_INSTANCE, summary="Retrieve an instance (WADO-RS)")
    def retrieve_instance(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, actor: Viewer
    ) -> Response:
        """One instance (PS3.18 §10.4), in parts or as the whole body, of which ranges can be had."""
        return _retrieve(request, session, actor, door, study, series, sop)

    @router.get(f"{_INSTANCE}/frames/{{numbers}}", summary="Retrieve frames (WADO-RS)")
    async def retrieve_frames(
        request: Request, study: Uid, series: Uid, sop: Uid, numbers: str, actor: FrameViewer
    ) -> Response:
        """Frames of one instance (PS3.18 §10.4)."""
        return await wado.frames(request, actor, study, series, sop, wado.frame_numbers(numbers), viewer=viewer)

    @router.get(f"{_INSTANCE}/bulkdata/{{path:path}}", summary="Retrieve bulk data (WADO-RS)")
    async def retrieve_bulk(
        request: Request, study: Uid, series: Uid, sop: Uid, path: str, actor: FrameViewer
    ) -> Response:
        """A value that metadata names by its address (PS3.18 §10.4)."""
        return await _bulk(request, actor, study, series, sop, path)

    @router.get("/studies/{study}/rendered", summary="Pictures of a study (WADO-RS)")
    def rendered_study(request: Request, session: ReadDb, study: Uid, actor: Viewer) -> Response:
        """A picture of each image of a study, in parts."""
        return _shown(request, session, actor, door, study)

    @router.get(f"{_SERIES}/rendered", summary="Pictures of a series (WADO-RS)")
    def rendered_series(request: Request, session: ReadDb, study: Uid, series: Uid, actor: Viewer) -> Response:
        """A picture of each image of a series, in parts."""
        return _shown(request, session, actor, door, study, series)

    @router.get(f"{_INSTANCE}/rendered", summary="A picture of an instance (WADO-RS)")
    def rendered_instance(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, actor: Viewer
    ) -> Response:
        """An instance as JPEG, PNG or GIF; an undecodable one as a picture that says so."""
        return _shown(request, session, actor, door, study, series, sop)

    @router.get(f"{_INSTANCE}/frames/{{numbers}}/rendered", summary="Pictures of frames (WADO-RS)")
    def rendered_frames(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, numbers: str, actor: Viewer
    ) -> Response:
        """Frames as pictures; several in parts."""
        return _shown(request, session, actor, door, study, series, sop, numbers)

    @router.get("/studies/{study}/thumbnail", summary="A small picture of a study (WADO-RS)")
    def thumbnail_study(request: Request, session: ReadDb, study: Uid, actor: Viewer) -> Response:
        """A study as one small picture."""
        return _shown(request, session, actor, door, study, thumbnail=True)

    @router.get(f"{_SERIES}/thumbnail", summary="A small picture of a series (WADO-RS)")
    def thumbnail_series(request: Request, session: ReadDb, study: Uid, series: Uid, actor: Viewer) -> Response:
        """A series as one small picture."""
        return _shown(request, session, actor, door, study, series, thumbnail=True)

    @router.get(f"{_INSTANCE}/thumbnail", summary="A small picture of an instance (WADO-RS)")
    def thumbnail_instance(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, actor: Viewer
    ) -> Response:
        """An instance as a small picture."""
        return _shown(request, session, actor, door, study, series, sop, thumbnail=True)

    @router.get(f"{_INSTANCE}/frames/{{numbers}}/thumbnail", summary="A small picture of a frame (WADO-RS)")
    def thumbnail_frame(
        request: Request, session: ReadDb, study: Uid, series: Uid, sop: Uid, numbers: str, actor: Viewer
    ) -> Response:
        """A frame as a small picture."""
        return _shown(request, session, actor, door, study, series, sop, numbers, thumbnail=True)

    @router.delete("/studies/{study}", status_code=204, summary="Delete a study")
    def delete_study(
        session: WriteDb, study: Uid, actor: Deleter, reason: Annotated[str, Query(max_length=500)] = ""
    ) -> Response:
        """Put a study into the trash (no part of the standard); the reason is kept in the audit log."""
        return _delete(session, actor, study, reason)

    return router


STANDARD = _routes(DOOR)
VIEWER = _routes(VIEWER_DOOR)


@STANDARD.get("/wado", summary="Retrieve an object (WADO-URI)")
def wado_uri(request: Request, session: ReadDb, actor: Viewer) -> Response:
    """One object by query parameters (PS3.18 §9)."""
    row, instance = repository.instance(session, actor, *uri.address(request.query_params))
    answer = uri.answer(request, instance)
    repository.note_view(actor, row.id)
    return answer
