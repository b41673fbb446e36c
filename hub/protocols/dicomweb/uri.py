"""WADO-URI: one object by query parameters (PS3.18 §9)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from fastapi import Request, Response

from hub.kit.errors import HubError
from hub.kit.i18n import _
from hub.protocols.dicomweb import instances, negotiate, rendering
from hub.protocols.dicomweb.rendering import BadParameter, Wanted
from hub.protocols.dicomweb.wado import Undecodable
from hub.studies.models import Instance

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*", re.ASCII)
_LARGEST: Final = 8192


class NotSupported(HubError):
    """The request asks for something that this server does not do."""

    status = 406
    code = "not-supported"


def address(params: Mapping[str, str]) -> tuple[str, str, str]:
    """Study, series and SOP Instance UID of a request.

    Raises:
        BadParameter: It is no such request (PS3.18 §9.4.1).
    """
    if params.get("requestType", "") != "WADO":
        raise BadParameter("requestType")
    found = []
    for name in ("studyUID", "seriesUID", "objectUID"):
        value = params.get(name, "")
        if len(value) > 64 or not _UID.fullmatch(value):
            raise BadParameter(name)
        found.append(value)
    return found[0], found[1], found[2]


def _whole(params: Mapping[str, str], name: str, most: int) -> int | None:
    text = params.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise BadParameter(name)
    return int(text)


def _real(params: Mapping[str, str], name: str) -> float | None:
    text = params.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[-+]?[0-9]{1,9}(\.[0-9]{0,9})?([eE][-+]?[0-9])?", text, re.ASCII):
        raise BadParameter(name)
    return float(text)


def wanted(params: Mapping[str, str]) -> tuple[Wanted, int | None]:
    """How a picture is wanted, and which frame from 1.

    Raises:
        BadParameter: A parameter makes no sense.
    """
    rows, columns = _whole(params, "rows", _LARGEST), _whole(params, "columns", _LARGEST)
    viewport = (columns or _LARGEST, rows or _LARGEST) if rows or columns else None
    center, width = _real(params, "windowCenter"), _real(params, "windowWidth")
    if (center is None) != (width is None) or (width is not None and width < 1):
        raise BadParameter("windowWidth")
    relative = None
    if text := params.get("region", ""):
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            raise BadParameter("region") from None
        if len(numbers) != 4 or not (0 <= numbers[0] < numbers[2] <= 1 and 0 <= numbers[1] < numbers[3] <= 1):
            raise BadParameter("region")
        relative = (numbers[0], numbers[1], numbers[2], numbers[3])
    quality = _whole(params, "imageQuality", 100)
    annotation = params.get("annotation", "")
    if annotation and not {part.strip().lower() for part in annotation.split(",")} <= {"patient", "technique"}:
        raise BadParameter("annotation")
    return (
        Wanted(
            viewport=viewport,
            relative=relative,
            window=None if center is None or width is None else (center, width, "LINEAR"),
            quality=quality if quality is not None else 85,
            annotated=bool(annotation),
        ),
        _whole(params, "frameNumber", 10**9 - 1),
    )


def answer(request: Request, instance: Instance) -> Response:
    """Answer for an instance that the caller may see.

    Raises:
        BadParameter, NotSupported, NotAcceptable, NotFound, Undecodable: With the reason.
    """
    params = request.query_params
    if params.get("anonymize", ""):
        raise NotSupported(_("本系统不做去标识处理"), code="no-anonymization")
    if params.get("presentationUID", "") or params.get("presentationSeriesUID", ""):
        raise NotSupported(_("本系统不套用显示状态"), code="no-presentation-states")
    kinds = [negotiate.parsed(part)[0].media.name for part in params.get("contentType", "").split(",") if part.strip()]
    if not kinds:
        # PS3.18 §9.5: images of one frame as JPEG, all else as DICOM.
        kinds = ["image/jpeg"] if instance.has_pixels and instance.frames <= 1 else [negotiate.DICOM]
    for kind in kinds:
        if kind in (negotiate.DICOM, "*/*", "application/*"):
            return _dicom(request, instance, params.get("transferSyntax", ""))
        for media in rendering.MEDIA:
            if kind in (media, "image/*") and instance.has_pixels:
                return _picture(request, instance, media)
        if kind == "application/pdf" and instance.sop_class == rendering.PDF_CLASS:
            return rendering.pdf(instance)
    raise negotiate.NotAcceptable()


def _dicom(request: Request, instance: Instance, syntax: str) -> Response:
    for name in ("annotation", "rows", "columns", "region", "windowCenter", "windowWidth", "imageQuality"):
        if request.query_params.get(name, ""):
            raise BadParameter(name)
    if syntax and not _UID.fullmatch(syntax):
        raise BadParameter("transferSyntax")
    # A syntax that cannot be had is answered in the default one (PS3.18 §9.5.1.2.2).
    if syntax and instances.form_for(instance, syntax) is None:
        syntax = ""
    try:
        return instances.single(request, instance, syntax)
    except Undecodable:
        return instances.single(request, instance, "")


def _picture(request: Request, instance: Instance, media: str) -> Response:
    want, number = wanted(request.query_params)
    if request.query_params.get("transferSyntax", ""):
        raise BadParameter("transferSyntax")
    return rendering.one(request, instance, number, want, media)
