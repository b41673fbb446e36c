"""WADO-RS: Retrieve Metadata (PS3.18 §10.4), from texts made ready or built (hub.studies.metadata)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import Request, Response

from hub.kit.ids import new_secret
from hub.protocols.dicomweb import dicomxml, multipart, negotiate
from hub.protocols.dicomweb.answers import REVALIDATE, coding, encode, not_modified, related
from hub.studies.metadata import Registered, SeriesAt, Texts

_KEPT_BYTES: Final = 8 << 20
_VARY: Final = "Accept, Accept-Encoding, Authorization, Cookie"


@dataclass(frozen=True, slots=True)
class County:
    """How the viewer's door names a patient; `registered` is None where it is not settled who he is."""

    number: str
    issuer: str
    registered: Registered | None = None


class Kept:
    """Bodies by key, the least used let go of where together they are larger than `most`. Safe among threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """The body of `key`."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def put(self, key: str, body: bytes) -> None:
        """Keep a body, unless it alone would take a quarter of the room."""
        if len(body) > self.most // 4:
            return
        with self._lock:
            self.size += len(body) - len(self._kept.pop(key, b""))
            self._kept[key] = body
            while self.size > self.most:
                self.size -= len(self._kept.popitem(last=False)[1])

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()
            self.size = 0


kept: Final = Kept(_KEPT_BYTES)
"""Answers of this process. Their keys name the revision of every series within: none can be older than was asked."""


def tag_of(series: Sequence[SeriesAt], *, study_url: str, county: County | None, sop_uid: str = "", media: str) -> str:
    """What an answer is known by: everything that it depends on."""
    at = ",".join(f"{one.id}:{one.revision}" for one in series)
    whose = f"{county.number}|{county.issuer}|{county.registered}" if county is not None else ""
    return hashlib.sha256(f"{at}|{sop_uid}|{study_url}|{whose}|{media}".encode()).hexdigest()[:32]


def etag_of(tag: str, name: str) -> str:
    """The entity tag of an answer in a content coding: each coding is a representation of its own."""
    return f'"{tag}-{name}"' if name else f'"{tag}"'


def metadata_answer(
    request: Request,
    series: Sequence[SeriesAt],
    load: Callable[[], list[Texts]],
    *,
    study_url: str,
    county: County | None,
    sop_uid: str = "",
) -> Response:
    """Answer a metadata request: JSON or XML, validated by ETag, compressed where the client takes it.

    Args:
        request: For its Accept, Accept-Encoding and If-None-Match.
        series: The series that are asked for, at their present revision.
        load: Reads their texts; not called where the client, or this process, holds the answer.
        study_url: Address of the study.
        county: The patient's identity as the viewer shows it; None: as sent.
        sop_uid: Only of this instance.
    """
    media = negotiate.choose(request, (negotiate.JSON, negotiate.XML))
    tag = tag_of(series, study_url=study_url, county=county, sop_uid=sop_uid, media=media)
    name = coding(request.headers.get("accept-encoding", "")) if media == negotiate.JSON else ""
    etag = etag_of(tag, name)
    if (unchanged := not_modified(request, etag)) is not None:
        return unchanged
    headers = {"ETag": etag, "Cache-Control": REVALIDATE, "Vary": _VARY}

    def whole() -> bytes:
        whose = (county.number, county.issuer) if county is not None else None
        registered = county.registered if county is not None else None
        return b"[" + b",".join(text.of(study_url, whose, registered) for text in load()) + b"]"

    if media == negotiate.XML:
        boundary = f"hub-{new_secret(12)}"
        parts = (({"Content-Type": negotiate.XML}, [dicomxml.write(one)]) for one in json.loads(whole()))
        body = b"".join(multipart.write(parts, boundary))
        return Response(body, headers={**headers, "Content-Type": related(negotiate.XML, boundary)})
    body = kept.get(etag) or b""
    if not body:
        body = encode(whole(), name)
        kept.put(etag, body)
    if name:
        headers["Content-Encoding"] = name
    return Response(body, headers=headers, media_type=negotiate.JSON)
