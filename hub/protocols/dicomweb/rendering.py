"""Rendered resources and thumbnails (PS3.18 §8.3.5, §10.4.1.1.3 and .4): for finding one's way, not for diagnosis."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import pydicom
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from PIL import Image

from hub.dicom import render
from hub.dicom.codecs import FrameError
from hub.kit.errors import HubError, NotFound
from hub.kit.i18n import _
from hub.kit.ids import new_secret
from hub.kit.objects import object_store
from hub.protocols.dicomweb import multipart, negotiate
from hub.protocols.dicomweb.answers import REVALIDATE, not_modified, related
from hub.studies import pixels, previews, stored
from hub.studies.models import Instance
from storage.errors import ObjectNotFound

FULL: Final = 1 << 15
RENDERED_EDGE: Final = 2048
THUMBNAIL_EDGE: Final = 256
PDF_CLASS: Final = "1.2.840.10008.5.1.4.1.1.104.1"
MEDIA: Final = ("image/jpeg", "image/png", "image/gif")
_LARGEST_VIEWPORT: Final = 8192
_MOST_GIF_FRAMES: Final = 512
_ANNOTATIONS: Final = frozenset({"patient", "technique"})
_FUNCTIONS: Final = {"linear": "LINEAR", "linear-exact": "LINEAR_EXACT", "sigmoid": "SIGMOID"}
_PROFILES: Final = frozenset({"no", "yes", "srgb", "adobergb", "rommrgb", "displayp3"})


class BadParameter(HubError):
    """A query parameter makes no sense (PS3.18 §8.3.5)."""

    status = 400
    code = "bad-parameter"

    def __init__(self, name: str) -> None:
        super().__init__(_("参数 {name} 不正确").format(name=name), parameter=name)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a picture is wanted.

    Attributes:
        viewport: Width and height in pixels that the picture must fit into.
        region: Part of the image in its own pixels: left, top, width, height; a negative size mirrors.
        relative: Part of the image as fractions of it: left, top, right, bottom (WADO-URI).
        window: Centre, width and function.
        quality: Of a JPEG, 1 to 100.
        annotated: Whether annotations were asked for, which are not drawn.
    """

    viewport: tuple[int, int] | None = None
    region: tuple[float | None, float | None, float | None, float | None] | None = None
    relative: tuple[float, float, float, float] | None = None
    window: tuple[float, float, str] | None = None
    quality: int = 85
    annotated: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing but the default is asked for."""
        return replace(self, annotated=False) == Wanted()


def _numbers(text: str, name: str) -> list[float | None]:
    if not re.fullmatch(r"[-+0-9.,eE ]{1,120}", text):
        raise BadParameter(name)
    try:
        found = [float(part) if part.strip() else None for part in text.split(",")]
    except ValueError:
        raise BadParameter(name) from None
    if any(one is not None and not -1e9 < one < 1e9 for one in found):
        raise BadParameter(name)
    return found


def wanted(params: Mapping[str, str], *, thumbnail: bool = False) -> Wanted:
    """The query parameters of a rendered resource.

    Raises:
        BadParameter: One of them makes no sense.
    """
    found = Wanted()
    if text := params.get("viewport", ""):
        numbers = _numbers(text, "viewport")
        if len(numbers) not in ((2,) if thumbnail else (2, 3, 4, 5, 6)):
            raise BadParameter("viewport")
        width, height = numbers[0], numbers[1]
        if not width or not height or not (1 <= width <= _LARGEST_VIEWPORT and 1 <= height <= _LARGEST_VIEWPORT):
            raise BadParameter("viewport")
        region = (*numbers[2:], *[None] * (6 - len(numbers)))
        found = replace(found, viewport=(int(width), int(height)))
        if any(one is not None for one in region):
            found = replace(found, region=(region[0], region[1], region[2], region[3]))
    if thumbnail:
        return found
    if text := params.get("window", ""):
        parts = text.split(",")
        if len(parts) != 3 or parts[2].strip().lower() not in _FUNCTIONS:
            raise BadParameter("window")
        center, width = _numbers(",".join(parts[:2]), "window")
        if center is None or width is None or width <= 0:
            raise BadParameter("window")
        found = replace(found, window=(center, width, _FUNCTIONS[parts[2].strip().lower()]))
    if text := params.get("quality", ""):
        if not text.isdecimal() or not text.isascii() or not 1 <= int(text[:4]) <= 100:
            raise BadParameter("quality")
        found = replace(found, quality=int(text))
    if text := params.get("annotation", ""):
        if not {part.strip().strip('"').lower() for part in text.split(",")} <= _ANNOTATIONS:
            raise BadParameter("annotation")
        found = replace(found, annotated=True)
    if (text := params.get("iccprofile", "")) and text.lower() not in _PROFILES:
        raise BadParameter("iccprofile")
    return found


# --- pictures -------------------------------------------------------------------------------------------------------


def picture(instance: Instance, number: int | None, want: Wanted, edge: int) -> Image.Image:
    """One frame as a picture; what cannot be decoded yields a picture that says so.

    Args:
        instance: The image.
        number: Frame from 0; None for the one that stands for all.
        want: How it is wanted.
        edge: Longest edge where no viewport is named.
    """
    store = object_store()
    if want.viewport is None and want.region is None and want.window is None and want.relative is None:
        return previews.picture_of(store, instance, edge, number)[0]
    chosen = number if number is not None else max(0, instance.frames // 2 if instance.frames > 1 else 0)
    try:
        frame, header = pixels.decode(store, instance, chosen)
    except FrameError as error:
        return render.placeholder(min(edge, 512), render.reason_lines(error))
    window = want.window
    made = render.preview(
        frame,
        header,
        max_edge=FULL,
        window=None if window is None else window[:2],
        function="" if window is None else window[2],
        frame_number=chosen + 1,
    )
    rows, columns = frame.shape[:2]
    made = _cut(made, want, columns, rows)
    return _fitted(made, want.viewport or (edge, edge), enlarge=want.viewport is not None)


def _cut(made: Image.Image, want: Wanted, columns: int, rows: int) -> Image.Image:
    if want.relative is not None:
        left, top, right, bottom = want.relative
        box = (left * made.width, top * made.height, right * made.width, bottom * made.height)
    elif want.region is not None:
        x, y, width, height = want.region
        scale_x, scale_y = made.width / columns, made.height / rows
        x, y = x or 0.0, y or 0.0
        width = columns - x if width is None else width
        height = rows - y if height is None else height
        if width < 0:
            made = made.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            width = -width
        if height < 0:
            made = made.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
            height = -height
        box = (x * scale_x, y * scale_y, (x + width) * scale_x, (y + height) * scale_y)
    else:
        return made
    whole = tuple(round(edge) for edge in box)
    clipped = (max(0, whole[0]), max(0, whole[1]), min(made.width, whole[2]), min(made.height, whole[3]))
    if clipped[0] >= clipped[2] or clipped[1] >= clipped[3]:
        raise BadParameter("viewport" if want.relative is None else "region")
    return made.crop(clipped)


def _fitted(made: Image.Image, viewport: tuple[int, int], *, enlarge: bool) -> Image.Image:
    scale = min(viewport[0] / made.width, viewport[1] / made.height)
    if not enlarge:
        scale = min(1.0, scale)
    size = max(1, round(made.width * scale)), max(1, round(made.height * scale))
    return made if size == made.size else made.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def encoded(instance: Instance, number: int | None, want: Wanted, media: str, edge: int) -> bytes:
    """A picture as a file of `media`; several frames as a moving GIF where none is named."""
    if media == "image/gif":
        out = io.BytesIO()
        moving = number is None and 1 < instance.frames <= _MOST_GIF_FRAMES
        if not moving:
            picture(instance, number, want, edge).save(out, "GIF")
            return out.getvalue()
        small = min(edge, 512)
        first = picture(instance, 0, want, small)
        rest = (picture(instance, one, want, small) for one in range(1, instance.frames))
        first.save(out, "GIF", save_all=True, append_images=rest, duration=66, loop=0)
        return out.getvalue()
    made = picture(instance, number, want, edge)
    return render.to_png(made) if media == "image/png" else render.to_jpeg(made, want.quality)


# --- answers --------------------------------------------------------------------------------------------------------


def _media(request: Request, *, single: bool, pdf: bool = False) -> tuple[str, bool]:
    """Media type and whether in parts."""
    for one in negotiate.accepted(request):
        if pdf and one.inner in ("application/pdf", "application/*", "*/*"):
            return "application/pdf", one.multipart
        for offered in MEDIA:
            if not pdf and one.inner in (offered, "image/*", "*/*") and (single or one.multipart or "*" in one.inner):
                return offered, one.multipart
    raise negotiate.NotAcceptable()


def _headers(want: Wanted) -> dict[str, str]:
    headers = {"Cache-Control": REVALIDATE, "Vary": "Accept, Cookie"}
    if want.annotated:
        headers["Warning"] = '299 hub "annotations are not drawn"'
    return headers


def rendered(
    request: Request,
    instances: Sequence[Instance],
    *,
    numbers: Sequence[int] | None = None,
    place: Callable[[Instance], str],
    thumbnail: bool = False,
    want: Wanted | None = None,
) -> Response:
    """Answer a request for pictures: of one image as the whole body or in parts, of several in parts.

    Args:
        request: The request.
        instances: What is to be shown.
        numbers: Frames from 1, of one instance.
        place: Gives an instance's address.
        thumbnail: A small picture.
        want: How, if not by the request's query parameters.

    Raises:
        NotFound: There is no image, or no such frame.
        NotAcceptable: No media type that is accepted can be made.
        BadParameter: A query parameter makes no sense.
    """
    want = want if want is not None else wanted(request.query_params, thumbnail=thumbnail)
    if len(instances) == 1 and instances[0].sop_class == PDF_CLASS and not thumbnail:
        return _pdf(request, instances[0], place)
    shown = [instance for instance in instances if instance.has_pixels]
    if not shown:
        raise NotFound(_("这个对象没有图像"))
    edge = THUMBNAIL_EDGE if thumbnail else RENDERED_EDGE
    frames: list[int | None] = [None] if numbers is None else [number - 1 for number in numbers]
    if numbers is not None and any(number > shown[0].frames for number in numbers):
        raise NotFound(_("没有这一帧"))
    jobs = [(instance, frame) for instance in shown for frame in frames]
    media, parts = _media(request, single=len(jobs) == 1)
    if len(jobs) == 1 and not parts:
        return _one(request, jobs[0][0], jobs[0][1], want, media, edge)
    boundary = f"hub-{new_secret(12)}"

    def bodies() -> Iterator[tuple[dict[str, str], list[bytes]]]:
        for instance, frame in jobs:
            at = place(instance) + (f"/frames/{frame + 1}" if frame is not None else "") + "/rendered"
            data = encoded(instance, frame, want, media, edge)
            yield {"Content-Type": media, "Content-Location": at}, [data]

    return StreamingResponse(
        multipart.write(bodies(), boundary), headers={**_headers(want), "Content-Type": related(media, boundary)}
    )


def _one(request: Request, instance: Instance, frame: int | None, want: Wanted, media: str, edge: int) -> Response:
    headers = _headers(want)
    if want.plain:
        etag = f'"{instance.id}-{"" if frame is None else frame}-{edge}-{media.rpartition("/")[2]}"'
        if (unchanged := not_modified(request, etag)) is not None:
            return unchanged
        headers["ETag"] = etag
    return Response(encoded(instance, frame, want, media, edge), media_type=media, headers=headers)


def one(request: Request, instance: Instance, number: int | None, want: Wanted, media: str) -> Response:
    """A picture of one frame, counted from 1, as the whole body.

    Raises:
        NotFound: There is no such frame.
    """
    if number is not None and number > instance.frames:
        raise NotFound(_("没有这一帧"))
    return _one(request, instance, None if number is None else number - 1, want, media, RENDERED_EDGE)


def document(instance: Instance) -> bytes:
    """The document within an object of Encapsulated PDF Storage.

    Raises:
        NotFound: There is none.
    """
    try:
        dataset = pydicom.dcmread(io.BytesIO(stored.original_file(instance)), force=True)
        data = bytes(dataset.EncapsulatedDocument)
        return data[: int(dataset.get("EncapsulatedDocumentLength") or len(data))]
    except (ObjectNotFound, AttributeError, TypeError, ValueError) as error:
        raise NotFound(_("没有这项数据")) from error


_PDF_HEADERS: Final = {"Cache-Control": REVALIDATE, "Content-Security-Policy": "sandbox"}


def pdf(instance: Instance) -> Response:
    """An encapsulated document as the whole body."""
    return Response(document(instance), media_type="application/pdf", headers=_PDF_HEADERS)


def _pdf(request: Request, instance: Instance, place: Callable[[Instance], str]) -> Response:
    """An encapsulated document is its own rendering (PS3.18 Table 8.7.4-1)."""
    media, parts = _media(request, single=True, pdf=True)
    if not parts:
        return pdf(instance)
    boundary = f"hub-{new_secret(12)}"
    part = ({"Content-Type": media, "Content-Location": place(instance)}, [document(instance)])
    return Response(
        b"".join(multipart.write([part], boundary)),
        headers={**_PDF_HEADERS, "Content-Type": related(media, boundary)},
    )


def representative(instances: Sequence[Instance]) -> list[Instance]:
    """The image that stands for a study or series: the middle one of the longest series."""
    images: dict[str, list[Instance]] = {}
    for instance in instances:
        if instance.has_pixels and not instance.made_by_hub:
            images.setdefault(instance.series_id, []).append(instance)
    if not images:
        return []
    longest = max(images.values(), key=len)
    return [longest[len(longest) // 2]]
