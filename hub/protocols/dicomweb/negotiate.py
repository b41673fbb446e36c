"""Choosing the media type of an answer (PS3.18 §8.7, RFC 9110 §12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from fastapi import Request

from hub.kit.errors import HubError
from hub.kit.i18n import Message, _
from hub.protocols.dicomweb.multipart import MediaType, parse_media_type

JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
DICOM: Final = "application/dicom"
OCTETS: Final = "application/octet-stream"
RELATED: Final = "multipart/related"
ZIP: Final = "application/zip"
_MOST_TEXT: Final = 4_000


class NotAcceptable(HubError):
    """None of the media types that the client accepts can be given."""

    status = 406
    code = "not-acceptable"

    def __init__(self, message: Message | str = _("不支持所要求的返回格式"), **kw: Any) -> None:
        super().__init__(message, **kw)


class UnsupportedMediaType(HubError):
    """The body is of a media type that this resource does not take."""

    status = 415
    code = "unsupported-media-type"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One entry of Accept. `inner` is the `type` parameter of multipart/related, else the media type itself."""

    media: MediaType
    weight: float

    @property
    def multipart(self) -> bool:
        """Whether a multipart/related answer is asked for."""
        return self.media.name == RELATED

    @property
    def inner(self) -> str:
        """The media type of the parts, or of the whole."""
        return self.media.params.get("type", "*/*").lower() if self.multipart else self.media.name

    @property
    def syntax(self) -> str:
        """The transfer-syntax parameter, or ""."""
        return self.media.params.get("transfer-syntax", "")


def accepted(request: Request) -> list[Accepted]:
    """The entries of Accept, best first; `*/*` where none.

    The query parameter `accept` takes the header's place (PS3.18 §8.3.3.1).
    """
    return list(parsed(text_of(request)))


def text_of(request: Request) -> str:
    """What the client says that it accepts."""
    return request.query_params.get("accept") or request.headers.get("accept") or "*/*"


@lru_cache(maxsize=512)
def parsed(text: str) -> tuple[Accepted, ...]:
    """The entries of an Accept header by weight, ranges after what is named (RFC 9110 §12.5.1)."""
    found: list[Accepted] = []
    for part in _split(text[:_MOST_TEXT]):
        media = parse_media_type(part)
        try:
            weight = float(media.params.get("q", "1"))
        except ValueError:
            weight = 0.0
        if 0 < weight <= 1 and media.name:
            found.append(Accepted(media, weight))
    return tuple(sorted(found, key=lambda one: (-one.weight, one.media.name.count("*"))))


def _split(text: str) -> list[str]:
    """Split at commas outside of quotes."""
    parts, quoted, start = [], False, 0
    for at, char in enumerate(text):
        if char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            parts.append(text[start:at].strip())
            start = at + 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


def choose(request: Request, offered: Sequence[str]) -> str:
    """The first of `offered` (single-part media types) that the client accepts, by its order of preference.

    `multipart/related; type="application/dicom+xml"` counts as XML: answers have one data set, or one part each.

    Raises:
        NotAcceptable: It accepts none.
    """
    for one in accepted(request):
        name = "application/json" if one.inner == "application/json" else one.inner
        for media in offered:
            if name in (media, "*/*") or (name == "application/*" and media.startswith("application/")):
                return media
            if name == "application/json" and media == JSON:
                return media
    raise NotAcceptable()
