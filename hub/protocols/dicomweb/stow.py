"""STOW-RS: Store Instances (PS3.18 §10.5). Bodies stream; only small parts are ever held in memory.

Parts are taken in while later ones still arrive, in groups that share one transaction. A body that is cut off is
answered 400: what of it was whole may have been stored, which a repetition finds as already known, but nothing is
acknowledged.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from hub.kit.actor import Actor
from hub.kit.errors import HubError, TooLarge
from hub.kit.i18n import Locale, _, pick_locale, translate
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import dicomxml, negotiate
from hub.protocols.dicomweb.assembled import COERCED, MetadataReceiver
from hub.protocols.dicomweb.multipart import (
    MultipartError,
    MultipartReader,
    PartBegin,
    PartData,
    PartEnd,
    parse_media_type,
)
from hub.protocols.dicomweb.receiving import Receiver
from hub.studies import intake, reasons
from hub.studies.intake import Outcome

log = get_logger(__name__)

# Failure reasons of the Store Instances response (PS3.18 Table I.2-2).
PROCESSING_FAILURE: Final = 0x0110
NO_SUCH_CLASS: Final = 0x0122
OUT_OF_RESOURCES: Final = 0xA700
MISMATCH: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
COERCION: Final = 0xB000
DOES_NOT_MATCH: Final = 0xB007

_FAILURES: Final[dict[str, int]] = {
    reasons.CHANGED_CONTENT: PROCESSING_FAILURE,
    reasons.IDENTIFIER_CONFLICT: PROCESSING_FAILURE,
    reasons.PROCESSING_FAILED: PROCESSING_FAILURE,
    reasons.WRONG_EXAM: PROCESSING_FAILURE,
    reasons.STUDY_MISMATCH: MISMATCH,
    reasons.WRONG_INSTANCE: MISMATCH,
    reasons.DICOMDIR: NO_SUCH_CLASS,
    reasons.STORE_UNAVAILABLE: OUT_OF_RESOURCES,
    reasons.QUARANTINE_FULL: OUT_OF_RESOURCES,
    "too-large": OUT_OF_RESOURCES,
}
# What was tolerated and yet makes an image incomplete: said to the sender, who alone can mend it.
_WARNINGS: Final = frozenset({"pixel-data-short", "frames-missing", "no-image-size", "bad-offset-table", "no-frames"})


class BadBody(HubError):
    """The body is not what its headers say, or it is cut off."""

    status = 400
    code = "bad-body"


async def store(request: Request, actor: Actor, *, door: str, study_uid: str = "") -> Response:
    """Take in the body of a Store Instances request and answer it.

    Args:
        request: Its body has not been read.
        actor: Whose organisation the instances become.
        door: Path of the service, for RetrieveURL.
        study_uid: The study of the request's address, or "".

    Raises:
        BadBody: 400: malformed or cut off.
        TooLarge: 413.
        UnsupportedMediaType: 415.
        NotAcceptable: 406.
        Unavailable: 503: no room.
    """
    settings = get_settings()
    media = negotiate.choose(request, (negotiate.JSON, negotiate.XML))
    if actor.org_id is None:
        raise BadBody(_("发送者不属于任何机构"))
    kind = parse_media_type(request.headers.get("content-type", ""))
    reader = _reader(kind.name, kind.params)
    most = settings.stow_max_request_mb * 2**20
    length = request.headers.get("content-length", "")
    said = int(length) if length.isdigit() else None
    if said is not None and said > most:
        raise TooLarge(_("请求过大,超过 {mb} MB;请分几次发送").format(mb=settings.stow_max_request_mb))
    await run_in_threadpool(intake.check_room, said or 0)
    receiver: Receiver | MetadataReceiver
    if reader is not None and (metadata := kind.params.get("type", "").lower()) in (negotiate.JSON, negotiate.XML):
        receiver = MetadataReceiver(actor, actor.org_id, study_uid, media=metadata, base=str(request.url))
    else:
        receiver = Receiver(actor, actor.org_id, study_uid, length=said)
    try:
        if reader is None:
            await receiver.begin({"content-type": negotiate.DICOM})
        received = 0
        async for chunk in request.stream():
            received += len(chunk)
            if received > most:
                raise TooLarge(_("请求过大,超过 {mb} MB;请分几次发送").format(mb=settings.stow_max_request_mb))
            if reader is None:
                await receiver.data(chunk)
                continue
            for event in reader.feed(chunk):
                if isinstance(event, PartData):
                    await receiver.data(event.data)
                elif isinstance(event, PartBegin):
                    await receiver.begin(event.headers)
                elif isinstance(event, PartEnd):
                    await receiver.end()
        if reader is None:
            await receiver.end()
        else:
            reader.finish()
        await receiver.finish()
    except MultipartError as error:
        log.warning("a malformed store request", why=str(error), parts=reader.parts if reader else 0)
        raise BadBody(_("请求内容不完整或格式有误({why});请重新发送。").format(why=str(error))) from error
    except ClientDisconnect as error:
        raise BadBody(_("连接在传输中断开;请重新发送。"), code="cut-off") from error
    finally:
        await receiver.close()
    if not receiver.outcomes:
        raise BadBody(_("请求中没有影像文件"), code="no-parts")
    locale = pick_locale(None, request.headers.get("accept-language"))
    base = address(request) + door
    document = response_document(receiver.outcomes, base=base, locale=locale)
    body = (
        dicomxml.write(document)
        if media == negotiate.XML
        else json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    )
    return Response(body, status_of(receiver.outcomes), media_type=media)


def address(request: Request) -> str:
    """The hub's address as the client knows it, for the addresses in answers.

    Some libraries name the host without its port; the hub's public address is then the one that works.
    """
    public, host = get_settings().public_url, request.headers.get("host", "")
    if host and host == urlsplit(public).hostname:
        return public
    return str(request.base_url).rstrip("/")


def _reader(kind: str, params: dict[str, str]) -> MultipartReader | None:
    """The reader of a multipart body; None where the body is one instance."""
    if kind == negotiate.DICOM:
        return None
    taken = (negotiate.DICOM, negotiate.JSON, negotiate.XML)
    if kind != negotiate.RELATED or params.get("type", negotiate.DICOM).lower() not in taken:
        raise negotiate.UnsupportedMediaType(
            _('只接受 multipart/related; type="application/dicom" 或 application/dicom')
        )
    try:
        return MultipartReader(params.get("boundary", ""))
    except MultipartError as error:
        raise BadBody(_("请求内容不完整或格式有误({why});请重新发送。").format(why=str(error))) from error


def failure_reason(outcome: Outcome) -> int:
    """Failure Reason (0008,1197) of a refusal."""
    return _FAILURES.get(outcome.code, NOT_UNDERSTOOD)


def _warned(outcome: Outcome) -> bool:
    return outcome.status == "stored" and not (COERCED not in outcome.notes and _WARNINGS.isdisjoint(outcome.notes))


def status_of(outcomes: list[Outcome]) -> int:
    """The HTTP status of PS3.18 Table 10.5.3-1: 200 all, 202 some or with warnings, 409 none, 503 for want of room."""
    taken = [one for one in outcomes if one.status != "refused"]
    if not taken:
        return 503 if all(one.code == reasons.STORE_UNAVAILABLE for one in outcomes) else 409
    return 202 if len(taken) < len(outcomes) or any(_warned(one) for one in taken) else 200


def response_document(outcomes: list[Outcome], *, base: str, locale: Locale) -> dict[str, Any]:
    """The Store Instances Response (PS3.18 Table I.2-1) in the DICOM JSON model.

    Args:
        outcomes: One for each part.
        base: Address of the service, without a slash at its end.
        locale: Language of the readable reasons, which stand in Error Comment (0000,0902) and, where that is too
            short for them, in Text Value (0040,A160).
    """
    stored: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    for one in outcomes:
        reference: dict[str, Any] = {}
        if one.sop_uid:
            reference["00081150"] = {"vr": "UI", "Value": [one.sop_class_uid]}
            reference["00081155"] = {"vr": "UI", "Value": [one.sop_uid]}
        if one.status != "refused":
            address = f"{base}/studies/{one.study_uid}/series/{one.series_uid}/instances/{one.sop_uid}"
            reference["00081190"] = {"vr": "UR", "Value": [address]}
            if _warned(one):
                # Elements are never discarded, so B006 is never said.
                reference["00081196"] = {"vr": "US", "Value": [COERCION if COERCED in one.notes else DOES_NOT_MATCH]}
            stored.append(dict(sorted(reference.items())))
            continue
        said = translate(one.reason, locale)
        reference["00081197"] = {"vr": "US", "Value": [failure_reason(one)]}
        reference["00000902"] = {"vr": "LO", "Value": [said[:64]]}
        if len(said) > 64:
            reference["0040A160"] = {"vr": "UT", "Value": [said]}
        (failed if one.sop_uid else unknown).append(dict(sorted(reference.items())))
    document: dict[str, Any] = {"00080005": {"vr": "CS", "Value": ["ISO_IR 192"]}}
    if unknown:
        document["0008119A"] = {"vr": "SQ", "Value": unknown}
    studies = {one.study_uid for one in outcomes if one.status != "refused"}
    if len(studies) == 1:
        document["00081190"] = {"vr": "UR", "Value": [f"{base}/studies/{studies.pop()}"]}
    if failed:
        document["00081198"] = {"vr": "SQ", "Value": failed}
    if stored:
        document["00081199"] = {"vr": "SQ", "Value": stored}
    return document
