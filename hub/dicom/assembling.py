"""A DICOM file made of its metadata and of bulk data that came apart from it (PS3.18 §8.7.3, §10.5.1, Annex F)."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGBaseline8Bit

UTF8: Final = "ISO_IR 192"
MOST_BULK: Final = 64 << 20
"""Bulk data of one instance in bytes, as often as each is referred to."""
_PIXELS: Final = "7FE00010"
_OCTETS: Final = "application/octet-stream"
# Where a media type names no transfer syntax, the one that every code stream of its kind may be labelled with.
_SYNTAXES: Final = {
    "image/jls": "1.2.840.10008.1.2.4.81",
    "image/jp2": "1.2.840.10008.1.2.4.91",
    "image/jphc": "1.2.840.10008.1.2.4.203",
    "image/dicom-rle": "1.2.840.10008.1.2.5",
}
_JPEG_BY_MARKER: Final = {
    0xC0: str(JPEGBaseline8Bit),
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC3: "1.2.840.10008.1.2.4.57",
}
_NATIVE: Final = frozenset({"", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"})


class Unfit(ValueError):
    """The metadata are no data set of an instance; the message is a short reason in English, without values."""


class MissingBulk(LookupError):
    """A BulkDataURI names nothing that came along."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """Bulk data of one reference: one piece, or one for each frame.

    Attributes:
        pieces: The bytes; native values are little endian.
        media: Media type in lower case.
        syntax: Transfer syntax that came with the media type, or "".
    """

    pieces: Sequence[bytes]
    media: str = _OCTETS
    syntax: str = ""


def assemble(item: dict[str, Any], bulk: Callable[[str], Bulk]) -> tuple[bytes, bool]:
    """Write a Part 10 file.

    Args:
        item: A data set in the DICOM JSON model.
        bulk: What a BulkDataURI stands for; raises `MissingBulk`.

    Returns:
        The file, and whether a declared character set was replaced: text arrives as UTF-8 and is written as such.

    Raises:
        Unfit: It is no data set of an instance.
        MissingBulk: Something that it refers to did not come.
    """
    if not isinstance(item, dict):
        raise Unfit("a data set is an object")
    seen: dict[str, Bulk] = {}
    taken = 0

    def resolve(_tag: str, _vr: str, uri: str) -> bytes:
        if not isinstance(uri, str) or not uri:
            raise MissingBulk
        nonlocal taken
        found = seen.get(uri)
        if found is None:
            found = seen[uri] = bulk(uri)
        taken += sum(map(len, found.pieces))
        if taken > MOST_BULK:
            raise Unfit("too much bulk data for this kind of request")
        return b"".join(found.pieces)

    plain = {tag: element for tag, element in item.items() if not tag.startswith("0002")}
    try:
        dataset = Dataset.from_json(plain, resolve)
        coerced = _to_utf8(dataset, 0)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(str(dataset.SOPClassUID))
        meta.MediaStorageSOPInstanceUID = UID(str(dataset.SOPInstanceUID))
        meta.TransferSyntaxUID = UID(_pixels(dataset, item, seen))
        dataset.file_meta = meta
        out = io.BytesIO()
        dataset.save_as(out, enforce_file_format=True)
    except (MissingBulk, Unfit):
        raise
    except Exception as error:
        # pydicom raises whatever a value makes it stumble over; the value itself must not be repeated.
        raise Unfit(type(error).__name__) from error
    return out.getvalue(), coerced


def _to_utf8(dataset: Dataset, depth: int) -> bool:
    if depth > 64:
        raise Unfit("sequences nested too deeply")
    replaced = False
    for element in dataset:
        if element.VR == "SQ":
            for one in element.value or ():
                replaced |= _to_utf8(one, depth + 1)
    declared = dataset.get("SpecificCharacterSet")
    replaced |= bool(declared) and declared not in (UTF8, "ISO_IR 6")
    if declared is not None or depth == 0:
        dataset.SpecificCharacterSet = UTF8
    return replaced


def _pixels(dataset: Dataset, item: dict[str, Any], seen: dict[str, Bulk]) -> str:
    """The transfer syntax, after compressed frames were put into fragments."""
    uri = item.get(_PIXELS, {}).get("BulkDataURI")
    found = seen.get(uri[0] if isinstance(uri, list) else uri) if uri else None
    if found is None:
        return str(ExplicitVRLittleEndian)
    syntax = found.syntax or _SYNTAXES.get(found.media, "")
    if found.media == "image/jpeg" and not syntax:
        syntax = _jpeg(found.pieces[0])
    if found.media == _OCTETS and syntax in _NATIVE:
        return str(ExplicitVRLittleEndian)
    if not syntax or syntax in _NATIVE or not UID(syntax).is_encapsulated:
        raise Unfit("pixel data without a known transfer syntax")
    dataset.PixelData = encapsulate([bytes(piece) for piece in found.pieces])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    return syntax


def _jpeg(stream: bytes) -> str:
    """The transfer syntax of a JPEG code stream, by its frame header (ITU-T T.81 §B.2.2)."""
    at = 2
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in _JPEG_BY_MARKER:
            return _JPEG_BY_MARKER[marker]
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    raise Unfit("no JPEG frame header")
