"""WADO-RS: frames and bulk data (PS3.18 §10.4.1.1.2, §10.4.1.1.6)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, Final, Literal

import numpy as np
import pydicom
from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from hub.dicom import codecs, dicomjson, reader, transcoding
from hub.dicom.codecs import FrameError, FrameTooLarge
from hub.dicom.transcoding import BIG_ENDIAN, DEFLATED, EXPLICIT, GE_PRIVATE, HTJ2K, JPEG_2000, JPEG_LS, NATIVE
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import HubError, NotFound
from hub.kit.i18n import _
from hub.kit.ids import new_secret
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants, multipart, negotiate
from hub.protocols.dicomweb.answers import REVALIDATE, not_modified, related
from hub.protocols.dicomweb.grants import Location
from hub.studies import nearby, pixels, stored
from hub.studies.models import Instance, InstanceHeader
from storage.errors import ObjectNotFound

MEDIA: Final = {
    "1.2.840.10008.1.2.5": "image/dicom-rle",
    **{f"1.2.840.10008.1.2.4.{n}": "image/jpeg" for n in ("50", "51", "57", "70")},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jls" for n in ("80", "81")},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jp2" for n in ("90", "91")},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jpx" for n in ("92", "93")},
    **{f"1.2.840.10008.1.2.4.{n}": "image/jphc" for n in ("201", "202", "203")},
    **{f"1.2.840.10008.1.2.4.{n}": "video/mpeg" for n in ("100", "101")},
    **{f"1.2.840.10008.1.2.4.{n}": "video/mp4" for n in ("102", "103", "104", "105", "106")},
}
"""Media types of compressed frames (PS3.18 Table 8.7.3-5)."""

_TARGET_OF: Final = {"image/jls": JPEG_LS, "image/jp2": JPEG_2000, "image/jphc": HTJ2K}
"""What is meant by a media type without a transfer syntax, of those that frames can be encoded in."""

_VIDEO: Final = frozenset(syntax for syntax, media in MEDIA.items() if media.startswith("video/"))


class Undecodable(HubError):
    """The image cannot be given in the form that was asked for."""

    status = 406
    code = "undecodable"


# --- which form -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """How frames are wanted: `target` is the transfer syntax to encode them in."""

    form: Literal["stored", "decoded", "encoded"]
    target: str = ""


@lru_cache(maxsize=2_048)
def wish_of(accept: str, syntax: str) -> Wish | None:
    """The best form of frames stored in `syntax` for a client; None where there is none.

    Args:
        accept: Its Accept header.
        syntax: The stored transfer syntax.
    """
    native = syntax in NATIVE
    present = EXPLICIT if native else syntax
    media = MEDIA.get(syntax, negotiate.OCTETS)
    decodable = native or syntax in codecs.DECODABLE
    for one in negotiate.parsed(accept):
        inner, wanted = one.inner, one.syntax
        octets = inner in (negotiate.OCTETS, "application/*", "*/*")
        own = inner == media or (inner == f"{media.partition('/')[0]}/*" and not native)
        if (octets or own) and wanted in ("*", present):
            return Wish("stored")
        if own and not native and not wanted:
            return Wish("stored")
        # Without the parameter Explicit VR Little Endian is meant (PS3.18 §8.7.3.4).
        if octets and wanted in ("", EXPLICIT) and decodable:
            return Wish("stored" if native else "decoded")
        target = _TARGET_OF.get(inner, "")
        if target and wanted in ("", "*", target) and decodable:
            return Wish("encoded", target)
        if octets and wanted in _TARGET_OF.values() and decodable:
            return Wish("encoded", wanted)
    return None


# --- frames ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it is sent."""

    data: bytes
    media: str
    transfer_syntax: str

    @property
    def content_type(self) -> str:
        """Content-Type with the transfer syntax (PS3.18 §8.7.3.5.2)."""
        return f"{self.media}; transfer-syntax={self.transfer_syntax}"


def frame_numbers(text: str) -> list[int]:
    """The list of frame numbers in an address, from 1.

    Raises:
        NotFound: It is no such list.
    """
    if not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8}){0,999}", text, re.ASCII):
        raise NotFound(_("没有这一帧"))
    return [int(one) for one in text.split(",")]


def etag_of(location: Location, number: int, form: str = "") -> str:
    """Validator of a frame: of what is stored, in which form."""
    return f'"{location.instance_id}-{number}-{location.transfer_syntax.rpartition(".")[2]}{form}"'


def stored_at(location: Location, number: int) -> tuple[int, int] | None:
    """Where in its object a frame lies in one piece, just as it is sent: (offset, length). None where it does not."""
    index = location.frames
    if not 1 <= number <= index.count or index.base == "inflated" or location.transfer_syntax in _TURNED:
        return None
    segments = index.frame(number - 1)
    if len(segments) != 1 or index.first_bit(number - 1):
        return None
    if not 0 <= segments[0][0] <= location.size - segments[0][1]:
        # Beyond its end, another instance lies in the same object.
        return None
    return location.object_offset + segments[0][0], segments[0][1]


_TURNED: Final = frozenset({BIG_ENDIAN, GE_PRIVATE})


def _stored_bytes(location: Location, number: int) -> bytes:
    index = location.frames
    if not 1 <= number <= index.count:
        raise NotFound(_("没有这一帧"))

    def read(offset: int, length: int) -> bytes:
        if offset < 0 or offset + length > location.size:
            raise Undecodable(_("影像数据不完整"))
        return nearby.read(
            location.object_key, location.object_offset + offset, length, end=max(location.object_end, 0)
        )

    if index.base == "inflated":
        whole = _inflated(location)
        data = b"".join(whole[offset : offset + length] for offset, length in index.frame(number - 1))
    elif location.transfer_syntax in _TURNED and index.kind == "native":
        header = _header_json(location)
        allocated = int((header.get("00280100", {}).get("Value") or [8])[0])
        vr = str(header.get("7FE00010", {}).get("vr", "OW"))
        ((offset, length),) = index.frame(number - 1)
        total = (index.count * index.frame_bits + 7) // 8
        data = transcoding.read_words(
            read,
            offset,
            length,
            begin=index.start,
            end=min(location.size, index.start + total + total % 2),
            width=transcoding.word_width(location.transfer_syntax, vr, allocated),
        )
    else:
        data = b"".join(read(offset, length) for offset, length in index.frame(number - 1))
    skipped = index.first_bit(number - 1)
    if skipped:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skipped : skipped + index.frame_bits]
        data = np.packbits(bits, bitorder="little").tobytes()
    return data


def _inflated(location: Location) -> bytes:
    store, key, start = object_store(), location.object_key, location.object_offset
    try:
        return pixels.inflated(
            lambda offset, length: store.read(key, start + offset, length), location.dataset_offset, location.size
        )
    except FrameTooLarge as error:
        raise Undecodable(_("影像过大,无法取出")) from error


def stored_frame(location: Location, number: int) -> Frame:
    """A frame in its stored transfer syntax; native ones as Explicit VR Little Endian."""
    data = _stored_bytes(location, number)
    syntax = location.transfer_syntax
    if syntax not in NATIVE:
        return Frame(data, MEDIA.get(syntax, negotiate.OCTETS), syntax)
    return Frame(data, negotiate.OCTETS, EXPLICIT)


def _header_json(location: Location) -> dict[str, Any]:
    with database().reading() as session:
        row = session.get(InstanceHeader, location.instance_id)
        return dicomjson.decompress(row.body) if row is not None else {}


def header_of(location: Location) -> pydicom.Dataset:
    """The indexed header of an instance as a data set, without bulk values."""
    kept = {tag: element for tag, element in _header_json(location).items() if "BulkDataURI" not in element}
    return pydicom.Dataset.from_json(kept)


def decoded_frame(location: Location, number: int) -> Frame:
    """A frame decoded to Explicit VR Little Endian.

    What was recompressed at rest comes out as the sender's header describes it.

    Raises:
        Undecodable: It cannot be decoded.
    """
    if location.transfer_syntax in NATIVE:
        return stored_frame(location, number)
    header = header_of(location)
    array, _parameters = _array(location, header, number)
    if location.original_syntax in NATIVE and array.ndim == 3 and header.get("PlanarConfiguration") == 1:
        array = np.moveaxis(array, 2, 0)
    return Frame(array.tobytes(), negotiate.OCTETS, EXPLICIT)


def encoded_frame(location: Location, number: int, target: str) -> Frame:
    """A frame in another compressed transfer syntax, without loss.

    Raises:
        Undecodable: It cannot be decoded, or has no place in `target`.
    """
    if location.transfer_syntax == target:
        return stored_frame(location, number)
    header = header_of(location)
    array, parameters = _array(location, header, number)
    try:
        photometric = transcoding.photometric_of(parameters, lambda: _stored_bytes(location, number))
        data = transcoding.encode_frame(
            array, target, photometric=photometric, bits_stored=int(parameters["bits_stored"])
        )
    except transcoding.TranscodeError as error:
        raise Undecodable(_("影像无法解码:{why}").format(why=str(error))) from error
    return Frame(data, MEDIA[target], target)


def _array(location: Location, header: pydicom.Dataset, number: int) -> tuple[transcoding.Array, dict[str, Any]]:
    limit = get_settings().frame_max_mb << 20
    try:
        parameters = codecs.frame_parameters(header, location.transfer_syntax)
        data = _stored_bytes(location, number)
        if location.transfer_syntax in NATIVE:
            return transcoding.native_cells(data, parameters, max_bytes=limit), parameters
        return codecs.decode_frame(data, **parameters, to_rgb=False, max_bytes=limit), parameters
    except FrameError as error:
        raise Undecodable(_("影像无法解码:{why}").format(why=str(error))) from error


async def frames(
    request: Request, actor: Actor, study: str, series: str, sop: str, numbers: list[int], *, viewer: bool
) -> Response:
    """Answer a request for frames.

    The viewer gets a single frame as the whole body, as stored: its script need not search for a boundary. The
    standard's door answers multipart/related, in the stored transfer syntax where the client takes it, else decoded or
    encoded anew. Several frames are read one after the other while they are sent.
    """
    location = await grants.locate(actor, study, series, sop)
    wish = Wish("stored") if viewer else wish_of(negotiate.text_of(request), location.transfer_syntax)
    if wish is None:
        raise negotiate.NotAcceptable()
    if viewer and len(numbers) == 1:
        etag = etag_of(location, numbers[0])
        if (unchanged := not_modified(request, etag)) is not None:
            return unchanged
        frame = await _fetch(actor, study, series, sop, numbers[0], wish)
        return Response(
            frame.data,
            headers={
                "Content-Type": frame.content_type,
                "ETag": etag,
                "Cache-Control": REVALIDATE,
                "Vary": "Cookie",
            },
        )
    if any(not 1 <= number <= location.frames.count for number in numbers):
        raise NotFound(_("没有这一帧"))
    first = await _fetch(actor, study, series, sop, numbers[0], wish)
    boundary = f"hub-{new_secret(12)}"
    base = str(request.url).split("?", maxsplit=1)[0].rpartition("/")[0]
    headers = {"Content-Type": related(first.media, boundary), "Cache-Control": REVALIDATE, "Vary": "Accept, Cookie"}
    if len(numbers) == 1:
        part = ({"Content-Type": first.content_type, "Content-Location": f"{base}/{numbers[0]}"}, [first.data])
        return Response(b"".join(multipart.write([part], boundary)), headers=headers)

    async def parts() -> AsyncIterator[bytes]:
        for number in numbers:
            frame = first if number == numbers[0] else await _fetch(actor, study, series, sop, number, wish)
            yield (
                (
                    f"--{boundary}\r\nContent-Type: {frame.content_type}\r\nContent-Location: {base}/{number}\r\n\r\n"
                ).encode("latin-1", "replace")
                + frame.data
                + b"\r\n"
            )
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(parts(), headers=headers)


async def _fetch(actor: Actor, study: str, series: str, sop: str, number: int, wish: Wish) -> Frame:
    location = await grants.locate(actor, study, series, sop)
    try:
        return await run_in_threadpool(_made, location, number, wish)
    except ObjectNotFound:
        grants.moved(actor, study)
        return await run_in_threadpool(_made, await grants.locate(actor, study, series, sop), number, wish)


def _made(location: Location, number: int, wish: Wish) -> Frame:
    if wish.form == "decoded":
        return decoded_frame(location, number)
    if wish.form == "encoded":
        return encoded_frame(location, number, wish.target)
    return stored_frame(location, number)


# --- bulk data ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Bulk:
    """A value in a local file, in pieces."""

    file: IO[bytes]
    segments: Sequence[tuple[int, int]]

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return sum(length for _offset, length in self.segments)


def bulk_value(location: Location, path: str) -> Bulk:
    """A value that metadata names by address, of the file as it was sent.

    Args:
        location: The instance.
        path: Tags and item numbers: `00420011`, `00880200/0/7FE00010`.

    Raises:
        NotFound: The instance has no such value.
    """
    wanted = path.strip("/").upper()
    file = local_copy(location.instance_id)
    try:
        parsed = reader.read(file, hashes=False)
        for element in parsed.bulk:
            if element.name != wanted:
                continue
            if parsed.frames.base == "inflated" or parsed.transfer_syntax_uid == DEFLATED:
                whole = transcoding.inflated(file, parsed.dataset_offset)
                file.close()
                return Bulk(whole, element.segments)
            return Bulk(file, element.segments)
    except BaseException:
        file.close()
        raise
    file.close()
    raise NotFound(_("没有这项数据"))


def local_copy(instance_id: str) -> IO[bytes]:
    """An instance as it was sent, as a local file that is gone when it is closed.

    Raises:
        NotFound: There is no such instance any more.
    """
    for again in (False, True):
        with database().reading() as session:
            row = session.get(Instance, instance_id)
            if row is None:
                raise NotFound(_("没有找到这些影像"))
            session.expunge(row)
        file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            for chunk in stored.iter_original(row):
                file.write(chunk)
            file.flush()
            file.seek(0)
        except ObjectNotFound:
            file.close()
            if again:
                raise
            continue
        except BaseException:
            file.close()
            raise
        return file
    raise NotFound(_("没有找到这些影像"))
