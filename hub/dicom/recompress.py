"""Recompressing an uncompressed DICOM file to HTJ2K Lossless, so that the original can be rebuilt (PS3.5 annex A.4.4).

The new file is a DICOM file of its own in transfer syntax 1.2.840.10008.1.2.4.201. Of a file in Explicit VR Little
Endian every byte of the data set outside Pixel Data is carried over, save what the standard makes change: colour
images say YBR_RCT and Planar Configuration 0, and retired group lengths go. Of one in Implicit VR Little Endian the
values are carried over as they are, and each element gets its VR. What was there byte for byte lies in the recipe.

Whatever is not plainly understood stays as it came: this is a rewriting of somebody else's file, and it is done only
where nothing about it is in doubt.
"""

from __future__ import annotations

import hashlib
import io
import struct
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR

from hub.dicom.framing import Buffer, FrameIndex
from hub.dicom.objects import DEFAULT_UID_ROOT, make_uid
from hub.dicom.recipe import MAX_BYTES, Layout, Recipe

HTJ2K: Final = "1.2.840.10008.1.2.4.201"
IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
SOURCES: Final = frozenset({IMPLICIT, EXPLICIT})
"""Transfer syntaxes of files that can be recompressed."""

WORTH: Final = 0.95
"""A recompressed file, with its recipe, must be smaller than this share of the original."""

ODD: Final = frozenset(
    {
        "bad-number-of-frames",
        "duplicate-element",
        "encoding-differs",
        "frames-differ",
        "frames-missing",
        "implicit-element-in-explicit",
        "implicit-file-meta",
        "native-under-compressed-syntax",
        "no-item-delimiter",
        "no-sequence-delimiter",
        "no-transfer-syntax",
        "not-encapsulated",
        "odd-fragment",
        "pixel-data-short",
        "stray-delimiter",
        "trailing-bytes",
        "unknown-vr",
        "zlib-header",
    }
)
"""Notes of the reader (`ParsedInstance.notes`) with which a file stays as it came."""

_LONG: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA: Final = 0x7FE00010
_SIGNED: Final = frozenset({0x4FFE0001, 0xFFFAFFFA})  # MAC Parameters Sequence, Digital Signatures Sequence
_DEPTH: Final = 64
_IN_MEMORY: Final = 64 << 20
_IMPLEMENTATION: Final = make_uid(DEFAULT_UID_ROOT, "implementation", "COUNTYHUB_1")


class Stays(Exception):
    """The file stays as it came.

    Attributes:
        code: Why, in one word: ``syntax``, ``no-pixels``, ``odd``, ``signed``, ``float``, ``bits``, ``unused-bits``,
            ``photometric``, ``size``, ``no-gain``.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(slots=True)
class Recompressed:
    """A file recompressed.

    Attributes:
        file: The new file, to be read from its beginning; close it.
        size: Its length in bytes.
        sha256: Its hex digest.
        dataset_offset: Where its data set begins.
        frames: Where its frames lie.
        recipe: What rebuilds the original from it.
    """

    file: IO[bytes]
    size: int
    sha256: str
    dataset_offset: int
    frames: FrameIndex
    recipe: bytes


def recompress(
    buf: Buffer,
    *,
    syntax: str,
    dataset_offset: int,
    frames: FrameIndex,
    sha256: str,
    notes: Collection[str] = (),
    folder: Path | None = None,
) -> Recompressed:
    """Recompress one file. Memory is bounded by one frame and 64 MiB.

    Args:
        buf: The file.
        syntax: Its transfer syntax UID.
        dataset_offset: Where its data set begins (`ParsedInstance.dataset_offset`).
        frames: Where its frames lie.
        sha256: Its hex digest, for the recipe.
        notes: What the reader found odd about it.
        folder: For temporary files, where it is large.

    Raises:
        Stays: It cannot be, or is not worth it.
    """
    if syntax not in SOURCES:
        raise Stays("syntax")
    if frames.kind == "none":
        raise Stays("no-pixels")
    if frames.kind != "native" or frames.base != "file" or not frames.count or not ODD.isdisjoint(notes):
        raise Stays("odd")
    image = _Image.of(buf, dataset_offset, syntax == IMPLICIT, frames)
    layout = image.layout
    last = frames.start + layout.frames * layout.frame_bytes
    if frames.start + len(buf) - last > MAX_BYTES:
        raise Stays("size")
    recipe = Recipe(bytes(buf[: frames.start]), bytes(buf[last:]), layout, sha256).to_bytes()
    limit = int(len(buf) * WORTH) - len(recipe)
    meta = _meta(buf, dataset_offset)
    streams = _spool(layout.frames * layout.frame_bytes, folder)
    try:
        lengths = _encode(buf, image, streams, limit)
        return _assemble(meta, image, streams, lengths, recipe, limit, folder)
    finally:
        streams.close()


def _spool(size: int, folder: Path | None) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder) if size > _IN_MEMORY else io.BytesIO()


def _encode(buf: Buffer, image: _Image, out: IO[bytes], limit: int) -> list[int]:
    """Write the code stream of each frame, padded to even length; returns their lengths."""
    layout = image.layout
    lengths: list[int] = []
    total = 0
    for number in range(layout.frames):
        begin = image.start + number * layout.frame_bytes
        stream = encode(bytes(buf[begin : begin + layout.frame_bytes]), layout, bits_stored=image.bits_stored)
        stream += b"\0" * (len(stream) % 2)
        out.write(stream)
        lengths.append(len(stream))
        total += len(stream)
        if total > limit or total > _UNDEFINED - (1 << 20):
            raise Stays("no-gain" if total > limit else "size")
    return lengths


def encode(data: bytes, layout: Layout, *, bits_stored: int) -> bytes:
    """One native frame as an HTJ2K code stream.

    Raises:
        Stays: Bits beyond Bits Stored hold something (an overlay, a missing sign): the code stream would keep it, but
            a decoder would show it.
    """
    array: npt.NDArray[Any] = np.frombuffer(data, layout.dtype)
    kind = array.dtype
    if bits_stored < 8 * kind.itemsize:
        low, high = (
            (-(1 << bits_stored - 1), (1 << bits_stored - 1) - 1) if kind.kind == "i" else (0, (1 << bits_stored) - 1)
        )
        if int(array.min()) < low or int(array.max()) > high:
            raise Stays("unused-bits")
    shaped: npt.NDArray[Any]
    if layout.samples == 1:
        shaped = array.reshape(layout.rows, layout.columns)
    elif layout.planar:
        shaped = np.moveaxis(array.reshape(layout.samples, layout.rows, layout.columns), 0, 2)
    else:
        shaped = array.reshape(layout.rows, layout.columns, layout.samples)
    native = np.ascontiguousarray(shaped, kind.newbyteorder("="))
    return bytes(
        imagecodecs.htj2k_encode(native, rgb=True) if layout.samples == 3 else imagecodecs.htj2k_encode(native)
    )


def _assemble(
    meta: bytes,
    image: _Image,
    streams: IO[bytes],
    lengths: list[int],
    recipe: bytes,
    limit: int,
    folder: Path | None,
) -> Recompressed:
    table: list[int] = []
    offset = 0
    for length in lengths:
        table.append(offset)
        offset += 8 + length
    head = b"".join(
        (
            meta,
            image.before,
            struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, _UNDEFINED),
            struct.pack("<HHL", 0xFFFE, 0xE000, 4 * len(table)),
            struct.pack(f"<{len(table)}L", *table),
        )
    )
    tail = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0) + image.after
    size = len(head) + offset + len(tail)
    if size > limit:
        raise Stays("no-gain")
    file, hasher = _spool(size, folder), hashlib.sha256()
    try:
        segments: list[tuple[tuple[int, int], ...]] = []
        place = len(head)
        streams.seek(0)
        for piece in _pieces(head, streams, lengths, tail):
            file.write(piece)
            hasher.update(piece)
        for length in lengths:
            segments.append(((place + 8, length),))
            place += 8 + length
        file.seek(0)
    except BaseException:
        file.close()
        raise
    frames = FrameIndex("encapsulated", count=len(segments), segments=tuple(segments))
    return Recompressed(file, size, hasher.hexdigest(), len(meta), frames, recipe)


def _pieces(head: bytes, streams: IO[bytes], lengths: list[int], tail: bytes) -> Iterator[bytes]:
    yield head
    for length in lengths:
        yield struct.pack("<HHL", 0xFFFE, 0xE000, length)
        yield streams.read(length)
    yield tail


# --- the file's head ------------------------------------------------------------------------------------------------


def _meta(buf: Buffer, end: int) -> bytes:
    """Preamble and group 0002 of the new file: the old elements, with the new transfer syntax and the writer's name.

    Raises:
        Stays: Group 0002 is not as PS3.10 §7.1 has it.
    """
    elements: dict[int, bytes] = {}
    place = 132 if bytes(buf[128:132]) == b"DICM" else 4 if bytes(buf[:4]) == b"DICM" else 0
    while place < end:
        tag, _code, start, length = _head(buf, place, end, implicit=False)
        if tag >> 16 != 2 or length == _UNDEFINED or start + length > end:
            raise Stays("odd")
        elements[tag] = bytes(buf[place : start + length])
        place = start + length
    if 0x00020002 not in elements or 0x00020003 not in elements:
        raise Stays("odd")
    elements.setdefault(0x00020001, struct.pack("<HH2sHL", 2, 1, b"OB", 0, 2) + b"\0\1")
    elements[0x00020010] = _uid(0x0010, HTJ2K)
    elements[0x00020012] = _uid(0x0012, _IMPLEMENTATION)
    elements.pop(0x00020013, None)
    elements.pop(0x00020000, None)
    body = b"".join(elements[tag] for tag in sorted(elements))
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(body)) + body


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value


# --- the data set ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Image:
    """What was understood of a file.

    Attributes:
        layout: How its frames lie.
        start: Where the first begins.
        bits_stored: Of a sample.
        before: The new data set up to Pixel Data.
        after: The new data set behind it.
    """

    layout: Layout
    start: int
    bits_stored: int
    before: bytes
    after: bytes

    @classmethod
    def of(cls, buf: Buffer, begin: int, implicit: bool, frames: FrameIndex) -> _Image:
        """Walk the data set.

        Raises:
            Stays: It is not an image that can be recompressed.
        """
        walk = _Walk(buf, implicit)
        before = bytearray()
        place = walk.elements(begin, len(buf), before, 0, 0, until=_PIXEL_DATA)
        values = walk.values
        if place is None:
            raise Stays("float" if values.keys() & {0x7FE00008, 0x7FE00009} else "odd")
        tag, _code, start, length = _head(buf, place, len(buf), implicit=implicit)
        if tag != _PIXEL_DATA or start != frames.start or length == _UNDEFINED or start + length > len(buf):
            raise Stays("odd")
        layout, bits_stored = _layout(values, frames)
        if layout.frames * layout.frame_bytes > length:
            raise Stays("odd")
        if values.keys() & {0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00008, 0x7FE00009}:
            raise Stays("odd")
        after = bytearray()
        walk.elements(start + length, len(buf), after, 0, 0)
        if layout.samples == 3:
            before = _colour(bytes(before))
        return cls(layout, frames.start, bits_stored, bytes(before), bytes(after))


def _layout(values: dict[int, bytes], frames: FrameIndex) -> tuple[Layout, int]:
    """How the frames lie, and Bits Stored (PS3.3 C.7.6.3).

    Raises:
        Stays: They are of a kind that is not recompressed.
    """

    def number(tag: int, default: int | None = None) -> int:
        value = values.get(tag, b"")
        if not value and default is not None:
            return default
        if len(value) != 2:
            raise Stays("odd")
        return int(struct.unpack("<H", value)[0])

    rows, columns, samples = number(0x00280010), number(0x00280011), number(0x00280002, 1)
    allocated = number(0x00280100)
    if allocated not in (8, 16):
        raise Stays("bits")
    stored = number(0x00280101, allocated)
    if not 1 <= stored <= allocated or number(0x00280102, stored - 1) != stored - 1:
        raise Stays("bits")
    signed, planar = number(0x00280103, 0), number(0x00280006, 0)
    photometric = values.get(0x00280004, b"").decode("ascii", "replace").strip(" \0")
    colour = samples == 3 and photometric == "RGB" and allocated == 8 and not signed
    if not colour and (samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")):
        raise Stays("photometric")
    if signed > 1 or planar > 1 or (signed and allocated == 8) or not rows or not columns:
        raise Stays("odd")
    kind = "|u1" if allocated == 8 else "<i2" if signed else "<u2"
    layout = Layout(frames.count, rows, columns, samples, kind, colour and planar == 1)
    try:
        declared = int(values.get(0x00280008, b"").decode("ascii").strip(" \0") or 1)
    except ValueError as error:
        raise Stays("odd") from error
    if layout.frame_bytes * 8 != frames.frame_bits or declared != frames.count:
        raise Stays("odd")
    return layout, stored


def _colour(data: bytes) -> bytearray:
    """The data set with what a reversible colour transform makes it say (PS3.3 C.7.6.3.1.2, C.7.6.3.1.3)."""
    out = bytearray()
    place = 0
    while place < len(data):
        tag, _code, start, length = _head(data, place, len(data), implicit=False)
        if length == _UNDEFINED:
            end = _Walk(data, implicit=False).sequence(start, len(data), length, bytearray(), 1, 0)
        else:
            end = start + length
        if tag == 0x00280004:
            out += struct.pack("<HH2sH", 0x28, 4, b"CS", 8) + b"YBR_RCT "
        elif tag == 0x00280006:
            out += struct.pack("<HH2sHH", 0x28, 6, b"US", 2, 0)
        else:
            out += data[place:end]
        place = end
    return out


def _head(buf: Buffer, place: int, end: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
    """Tag, VR (empty in implicit), start and length of the element at `place`.

    Raises:
        Stays: There is none, or its VR is none.
    """
    if place + 8 > end:
        raise Stays("odd")
    group, element = struct.unpack_from("<HH", buf, place)
    tag = group << 16 | element
    if implicit or group == 0xFFFE:
        return tag, b"", place + 8, struct.unpack_from("<L", buf, place + 4)[0]
    vr = bytes(buf[place + 4 : place + 6])
    if vr in _SHORT:
        return tag, vr, place + 8, struct.unpack_from("<H", buf, place + 6)[0]
    if vr not in _LONG or place + 12 > end:
        raise Stays("odd")
    return tag, vr, place + 12, struct.unpack_from("<L", buf, place + 8)[0]


class _Walk:
    """Carries a data set over into Explicit VR Little Endian, value by value."""

    def __init__(self, buf: Buffer, implicit: bool) -> None:
        self._buf = buf
        self._implicit = implicit
        # Short values of the outermost data set.
        self.values: dict[int, bytes] = {}

    def elements(
        self, place: int, end: int, out: bytearray, depth: int, signed: int, *, until: int = 0, item: bool = False
    ) -> int | None:
        """Carry the elements from `place` on over to `out`.

        Args:
            place, end: Where the data set lies.
            out: What is added to.
            depth: Of nesting.
            signed: Pixel Representation of the enclosing data set.
            until: Tag to stop before.
            item: Whether an item delimiter ends it.

        Returns:
            Where it stopped: at the element `until` (None: there is none), behind the item delimiter, or at the end.
        """
        buf, last = self._buf, -1
        while place < end:
            tag, vr, start, length = _head(buf, place, end, implicit=self._implicit)
            if item and tag == _ITEM_END:
                return start
            if tag == until:
                return place
            if tag >> 16 == 0xFFFE or tag <= last or (length != _UNDEFINED and start + length > end):
                raise Stays("odd")
            if tag in _SIGNED:
                raise Stays("signed")
            last = tag
            if not depth:
                self.values[tag] = bytes(buf[start : start + min(length, 64)])
            if tag == 0x00280103 and length == 2:
                signed = buf[start]
            kind = vr or _vr(tag, signed, length).encode()
            if kind == b"SQ" or length == _UNDEFINED:
                if tag == _PIXEL_DATA or kind not in (b"SQ", b"UN") or depth >= _DEPTH:
                    raise Stays("odd")
                body = bytearray()
                inner = self if kind == b"SQ" or self._implicit else _Walk(buf, implicit=True)
                place = inner.sequence(start, end, length, body, depth + 1, signed)
                out += _explicit(tag, b"SQ", _UNDEFINED if length == _UNDEFINED else len(body)) + body
                continue
            place = start + length
            # Group lengths are retired, and wrong as soon as anything in their group changes.
            if tag & 0xFFFF:
                out += _explicit(tag, kind, length)
                out += buf[start:place]
        if item:
            raise Stays("odd")
        return None if until else place

    def sequence(self, place: int, end: int, length: int, out: bytearray, depth: int, signed: int) -> int:
        """Carry the items of a sequence over; returns where it ends."""
        buf = self._buf
        stop = end if length == _UNDEFINED else place + length
        while place < stop:
            tag, _code, start, size = _head(buf, place, stop, implicit=True)
            if tag == _SEQUENCE_END and length == _UNDEFINED:
                out += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
                return start
            if tag != _ITEM or (size != _UNDEFINED and start + size > stop):
                raise Stays("odd")
            body = bytearray()
            if size == _UNDEFINED:
                place = self.elements(start, stop, body, depth, signed, item=True) or stop
                out += struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED) + body
                out += struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            else:
                self.elements(start, start + size, body, depth, signed)
                place = start + size
                out += struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body
        if length == _UNDEFINED:
            raise Stays("odd")
        return place


def _explicit(tag: int, vr: bytes, length: int) -> bytes:
    if vr in _SHORT and length <= 0xFFFF:
        return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr, length)
    # A value too long for its VR is written as UN (PS3.5 §6.2.2, note 4).
    return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, vr if vr in _LONG else b"UN", 0, length)


@lru_cache(maxsize=8192)
def _public(tag: int) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UN"


def _vr(tag: int, signed: int, length: int) -> str:
    """The VR of an element of an implicit data set (PS3.5 §7.1.2, PS3.6)."""
    if tag >> 16 & 1:
        return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF and length != _UNDEFINED else "UN"
    if not tag & 0xFFFF:
        return "UL"
    vr = _public(tag)
    if " or " not in vr:
        return vr
    if "OW" in vr:
        return "OW"
    return "SS" if vr == "US or SS" and signed else vr.split(" or ")[0]
