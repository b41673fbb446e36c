"""Whole DICOM files from one transfer syntax to another, frame by frame (PS3.5 §8, §10, annex A).

What a client or a peer cannot read as it is stored is given to it in another encoding of the same data set: the same
SOP Instance UID, the same values, the same pixels. So only lossless targets exist here. Values are carried over as
bytes and never decoded, so that text in a wrongly declared character set stays what it was.

No more than one frame is held in memory besides the header.
"""

from __future__ import annotations

import io
import itertools
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, cast

import imagecodecs
import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element, write_file_meta_info
from pydicom.uid import UID

from hub.dicom import codecs, reader
from hub.dicom.codecs import MAX_FRAME_BYTES, FrameError
from hub.dicom.errors import DicomRefused
from hub.dicom.framing import FrameIndex
from hub.dicom.objects import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_NAME

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
GE_PRIVATE: Final = "1.2.840.113619.5.2"
"""Implicit VR Little Endian with big endian Pixel Data."""
JPEG_LS: Final = "1.2.840.10008.1.2.4.80"
JPEG_2000: Final = "1.2.840.10008.1.2.4.90"
HTJ2K: Final = "1.2.840.10008.1.2.4.201"

NATIVE: Final = frozenset({IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN, GE_PRIVATE})
"""Transfer syntaxes whose Pixel Data are not compressed."""

LOSSY: Final = frozenset(
    f"1.2.840.10008.1.2.4.{n}" for n in ("50", "51", "81", "91", "93", "203", *map(str, range(100, 107)))
)
"""Transfer syntaxes that may have lost something."""

NATIVE_TARGETS: Final = frozenset({IMPLICIT, EXPLICIT})
COMPRESSED_TARGETS: Final = frozenset({HTJ2K, JPEG_LS, JPEG_2000})
TARGETS: Final = NATIVE_TARGETS | COMPRESSED_TARGETS
"""What this module writes."""

_METHODS: Final = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
_PIXEL_DATA: Final = 0x7FE00010
_UNDEFINED: Final = 0xFFFFFFFF
_CHUNK: Final = 1 << 20
_MAX_INFLATED: Final = 1 << 30
_SWAPPED: Final = {
    **dict.fromkeys(("US", "SS", "OW", "AT"), "u2"),
    **dict.fromkeys(("UL", "SL", "FL", "OF", "OL"), "u4"),
    **dict.fromkeys(("FD", "OD", "SV", "UV", "OV"), "u8"),
}
_LONG_VRS: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})

Array = npt.NDArray[Any]


class TranscodeError(Exception):
    """A file cannot be given in the transfer syntax that was asked for.

    Attributes:
        code: one of ``unsupported-syntax`` (the source cannot be decoded), ``unsupported-target``, ``no-pixels`` (a
            compressed target for what has none), ``unsupported-pixels``, ``truncated``, ``broken-stream``,
            ``size-mismatch``, ``too-large`` (the result has no place in the syntax, or a frame is above the limit),
            ``broken-structure`` (the data set cannot be walked).
        reason: an English sentence part without patient data, fit for a log.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


def possible(source: str, target: str) -> bool:
    """Whether files of transfer syntax `source` can as a rule be given in `target`; one file may still refuse."""
    return source == target or (target in TARGETS and (source in codecs.DECODABLE or source in NATIVE))


def transcode(file: bytes | Path, target: str, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> bytes:
    """Give a whole DICOM file (PS3.10) in another transfer syntax.

    Args:
        file: A file, or where it lies. Preamble and file meta information may be missing.
        target: One of `TARGETS`. A file that is in it already, with file meta information, comes back as it is.
        max_frame_bytes: Limit for a decoded frame.

    Returns:
        A file with preamble and file meta information.

    Raises:
        TranscodeError: With the reason; no other exception comes from a file's content.
        OSError: The file cannot be read.
    """
    with io.BytesIO() as out:
        if isinstance(file, bytes):
            with tempfile.TemporaryFile() if len(file) > 64 * _CHUNK else io.BytesIO() as source:
                source.write(file)
                source.seek(0)
                transcode_to(cast(IO[bytes], source), out, target, max_frame_bytes=max_frame_bytes)
        else:
            with file.open("rb") as source:
                transcode_to(source, out, target, max_frame_bytes=max_frame_bytes)
        return out.getvalue()


def transcode_to(source: IO[bytes], out: IO[bytes], target: str, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
    """Write a whole DICOM file in another transfer syntax.

    Args:
        source: An open local file (with a descriptor, or BytesIO).
        out: Takes the result from where it stands; must be seekable.
        target: One of `TARGETS`.
        max_frame_bytes: Limit for a decoded frame.

    Raises:
        TranscodeError, OSError: As `transcode`. `out` then holds an incomplete file.
    """
    if target not in TARGETS:
        raise TranscodeError("unsupported-target", f"nothing is written in transfer syntax {target[:64]}")
    try:
        parsed = reader.read(source, hashes=False)
    except DicomRefused as error:
        raise TranscodeError("broken-structure", error.code) from error
    syntax = parsed.transfer_syntax_uid
    if syntax not in NATIVE and syntax not in codecs.DECODABLE and syntax != target:
        raise TranscodeError("unsupported-syntax", f"no decoder for transfer syntax {syntax[:64]}")
    whole = {"no-preamble", "no-file-meta", "no-transfer-syntax"}.isdisjoint(parsed.notes)
    if syntax == target and whole:
        source.seek(0)
        shutil.copyfileobj(source, out, _CHUNK)
        return
    try:
        with _Source.opened(source, parsed) as opened:
            _write(opened, out, target, max_frame_bytes)
    except (TranscodeError, OSError):
        raise
    except FrameError as error:
        raise TranscodeError(error.code, error.reason) from error
    except DicomRefused as error:
        raise TranscodeError("broken-structure", error.code) from error
    except Exception as error:  # pydicom raises many types by the kind of damage
        raise TranscodeError("broken-structure", type(error).__name__) from error


# --- reading --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Source:
    """A file in parts: the data set before its Pixel Data, the pixels, what comes behind."""

    file: IO[bytes]
    syntax: str
    meta: FileMetaDataset
    head: Dataset
    frames: FrameIndex
    pixel_vr: str | None
    pixels_at: int
    pixels_length: int
    tail: Dataset
    owned: IO[bytes] | None = None

    @classmethod
    def opened(cls, file: IO[bytes], parsed: reader.ParsedInstance) -> _Source:
        """Take a file apart."""
        syntax = parsed.transfer_syntax_uid
        meta = _meta_of(file, parsed)
        owned: IO[bytes] | None = None
        at = parsed.dataset_offset
        if syntax == DEFLATED:
            owned = inflated(file, at)
            file, at = owned, 0
        implicit, little = syntax in (IMPLICIT, GE_PRIVATE), syntax != BIG_ENDIAN
        file.seek(at)
        stop: Callable[..., bool] = lambda tag, _vr, _length: tag >= _PIXEL_DATA  # noqa: E731
        head = read_dataset(file, implicit, little, stop_when=stop)
        vr, value_at, length = None, 0, 0
        begin = file.tell()
        mark = file.read(12)
        if len(mark) >= 8:
            order = "<" if little else ">"
            if struct.unpack(f"{order}HH", mark[:4]) == (0x7FE0, 0x0010):
                if implicit:
                    vr, value_at = "OW", begin + 8
                    (length,) = struct.unpack(f"{order}L", mark[4:8])
                else:
                    vr, value_at = mark[4:6].decode("latin-1"), begin + 12
                    (length,) = struct.unpack(f"{order}L", mark[8:12])
        if vr is None:
            # Only what comes behind the pixels' place.
            file.seek(begin)
        elif length == _UNDEFINED:
            file.seek(_after_fragments(file, value_at))
        else:
            file.seek(value_at + length)
        tail = read_dataset(file, implicit, little) if vr is None or length == _UNDEFINED or length else Dataset()
        frames = parsed.frames
        if vr is not None and syntax not in NATIVE and length != _UNDEFINED and frames.kind == "native":
            syntax = EXPLICIT  # uncompressed pixels under the name of a compressed syntax
        return cls(file, syntax, meta, head, frames, vr, value_at, length, tail, owned)

    def __enter__(self) -> _Source:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.owned is not None:
            self.owned.close()

    def frame(self, number: int) -> bytes:
        """Bytes of frame `number` (from 0), uncompressed ones in little endian."""
        if self.syntax in NATIVE:
            (part,) = self.frames.frame(number)
            return self._native(*part)
        parts = []
        for offset, length in self.frames.frame(number):
            self.file.seek(offset)
            parts.append(self.file.read(length))
        return b"".join(parts)

    def _native(self, offset: int, length: int) -> bytes:
        allocated = int(self.head.get("BitsAllocated") or 8)
        return read_words(
            lambda at, size: (self.file.seek(at), self.file.read(size))[1],
            offset,
            length,
            begin=self.pixels_at,
            end=self.pixels_at + self.pixels_length,
            width=word_width(self.syntax, self.pixel_vr or "OW", allocated),
        )


def _meta_of(file: IO[bytes], parsed: reader.ParsedInstance) -> FileMetaDataset:
    meta = FileMetaDataset()
    if {"no-file-meta", "no-preamble"}.isdisjoint(parsed.notes):
        file.seek(132)
        found = read_dataset(
            io.BytesIO(file.read(max(0, parsed.dataset_offset - 132))),
            is_implicit_VR=False,
            is_little_endian=True,
            stop_when=lambda tag, _vr, _length: tag.group != 2,
        )
        # Who sent it and private information stay; what describes the file is written anew.
        for tag in (0x00020016, 0x00020017, 0x00020018, 0x00020100, 0x00020102):
            if tag in found:
                meta[tag] = found[tag]
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(parsed.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(parsed.sop_instance_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    return meta


def inflated(file: IO[bytes], at: int) -> IO[bytes]:
    """The data set of a deflated file, which begins at `at`, as a local file; the caller closes it.

    Raises:
        TranscodeError: It is cut off, or too large.
    """
    out: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the owner
    try:
        file.seek(at)
        engine, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not engine.eof:
            packed = engine.unconsumed_tail or file.read(_CHUNK)
            if not packed:
                raise TranscodeError("truncated", "the deflated data set has no end")
            data = engine.decompress(packed, _CHUNK)
            size += len(data)
            if size > _MAX_INFLATED:
                raise TranscodeError("too-large", "the inflated data set is too large")
            out.write(data)
        out.seek(0)
    except BaseException:
        out.close()
        raise
    return out


def _after_fragments(file: IO[bytes], at: int) -> int:
    """Where encapsulated pixels that begin at `at` end; the end of the file where they are not closed."""
    while True:
        file.seek(at)
        mark = file.read(8)
        if len(mark) < 8:
            return file.seek(0, io.SEEK_END)
        group, element, length = struct.unpack("<HHL", mark)
        at += 8
        if (group, element) == (0xFFFE, 0xE0DD):
            return at
        if (group, element) != (0xFFFE, 0xE000) or length == _UNDEFINED:
            return file.seek(0, io.SEEK_END)
        at += length


# --- writing --------------------------------------------------------------------------------------------------------


def _write(source: _Source, out: IO[bytes], target: str, limit: int) -> None:
    head, plan = source.head, None
    if target in COMPRESSED_TARGETS or (source.pixel_vr is not None and source.syntax not in NATIVE):
        if source.pixel_vr is None:
            raise TranscodeError("no-pixels", "there is no Pixel Data to compress")
        if source.syntax != target:
            plan = _Plan.of(source, target, limit)
            plan.describe(head)
    source.meta.TransferSyntaxUID = UID(target)
    with io.BytesIO() as meta:
        write_file_meta_info(cast(Any, meta), source.meta, enforce_standard=True)
        out.write(b"\0" * 128 + b"DICM" + meta.getvalue())
    implicit = target == IMPLICIT
    out.write(encode_dataset(head, implicit=implicit))
    if source.pixel_vr is not None:
        if plan is None and source.syntax not in NATIVE:
            _copy_fragments(source, out)
        elif plan is None:
            _copy_native(source, out, implicit=implicit)
        elif target in NATIVE_TARGETS:
            _write_native(plan, out, implicit=implicit)
        else:
            _write_encapsulated(plan, out)
    out.write(encode_dataset(source.tail, implicit=implicit, after=source.pixel_vr is not None))


def _pixel_header(vr: str, length: int, *, implicit: bool) -> bytes:
    tag = struct.pack("<HH", 0x7FE0, 0x0010)
    return tag + (struct.pack("<L", length) if implicit else vr.encode("ascii") + struct.pack("<HL", 0, length))


def _copy_native(source: _Source, out: IO[bytes], *, implicit: bool) -> None:
    """Uncompressed to uncompressed: the cells are the same, save for their order of bytes."""
    allocated = int(source.head.get("BitsAllocated") or 8)
    vr = source.pixel_vr or "OW"
    if vr not in ("OB", "OW"):
        vr = "OW"
    out.write(_pixel_header(vr, source.pixels_length + source.pixels_length % 2, implicit=implicit))
    source.file.seek(source.pixels_at)
    left = source.pixels_length
    width = word_width(source.syntax, vr, allocated)
    while left:
        data = source.file.read(min(_CHUNK, left))
        if not data:
            raise TranscodeError("truncated", "the pixels end too early")
        left -= len(data)
        out.write(swapped(data, width))
    out.write(b"\0" * (source.pixels_length % 2))


def word_width(syntax: str, vr: str, allocated: int) -> int:
    """Bytes of a word of Pixel Data that must be turned for little endian; 1 where none need be (PS3.5 §7.3)."""
    if syntax not in (BIG_ENDIAN, GE_PRIVATE):
        return 1
    if vr == "OB":
        return 1
    # 32-bit cells are written as one number by every sender seen; the standard knows words of 16 bits.
    return 4 if allocated == 32 else 2


def read_words(
    read: Callable[[int, int], bytes], offset: int, length: int, *, begin: int, end: int, width: int
) -> bytes:
    """Read a range of Pixel Data in little endian; a frame of single bytes may begin within a word.

    Args:
        read: Gives `length` bytes at `offset`.
        offset: Where the range begins.
        length: Its length.
        begin: Where the value of Pixel Data begins.
        end: Where it ends.
        width: As `word_width` gives it.
    """
    if width == 1:
        return read(offset, length)
    first = offset - (offset - begin) % width
    last = min(end, offset + length + -(offset + length - begin) % width)
    return swapped(read(first, last - first), width)[offset - first : offset - first + length]


def swapped(data: bytes, width: int) -> bytes:
    """Turn the bytes within each word of `width` bytes; an incomplete last word stays."""
    if width == 1:
        return data
    even = len(data) // width * width
    return np.frombuffer(data[:even], f">u{width}").astype(f"<u{width}").tobytes() + data[even:]


def _copy_fragments(source: _Source, out: IO[bytes]) -> None:
    end = _after_fragments(source.file, source.pixels_at)
    out.write(_pixel_header("OB", _UNDEFINED, implicit=False))
    source.file.seek(source.pixels_at)
    left = end - source.pixels_at
    while left and (data := source.file.read(min(_CHUNK, left))):
        left -= len(data)
        out.write(data)


@dataclass(slots=True)
class _Plan:
    """How frames are decoded, and what they become."""

    source: _Source
    target: str
    parameters: dict[str, Any]
    count: int
    photometric: str
    limit: int

    @classmethod
    def of(cls, source: _Source, target: str, limit: int) -> _Plan:
        head = source.head
        parameters = codecs.frame_parameters(head, source.syntax)
        count = source.frames.count
        try:
            declared = max(1, int(head.get("NumberOfFrames") or 1))
        except (TypeError, ValueError):
            declared = count
        if count < 1 or count < declared:
            raise TranscodeError("truncated", f"{count} of {declared} frames are there")
        if target in COMPRESSED_TARGETS:
            if parameters["bits_allocated"] not in (8, 16) or parameters["samples"] not in (1, 3):
                raise TranscodeError(
                    "unsupported-pixels",
                    f"{parameters['samples']} samples of {parameters['bits_allocated']} bits cannot be compressed",
                )
            if any(_overlay_in_pixels(head, group) for group in range(0x6000, 0x6020, 2)):
                raise TranscodeError("unsupported-pixels", "an overlay lies in the unused bits of the pixels")
        return cls(source, target, parameters, count, photometric_of(parameters, lambda: source.frame(0)), limit)

    @property
    def color(self) -> bool:
        """Whether there are three samples for each pixel."""
        return int(self.parameters["samples"]) > 1

    def describe(self, head: Dataset) -> None:
        """Change the attributes that describe how pixels are encoded (PS3.5 §8.2, PS3.3 C.7.6.3)."""
        photometric = self.photometric
        if self.target in (HTJ2K, JPEG_2000) and photometric == "RGB":
            photometric = "YBR_RCT"
        if str(head.get("PhotometricInterpretation") or "").strip().upper() != photometric:
            head.PhotometricInterpretation = photometric
        if self.color and head.get("PlanarConfiguration") != 0:
            head.PlanarConfiguration = 0
        high = int(self.parameters["bits_stored"]) - 1
        if head.get("HighBit") != high:
            head.HighBit = high
        # Another encoding has other offsets.
        for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
            if name in head:
                del head[name]
        if self.source.syntax in LOSSY and not str(head.get("LossyImageCompression") or "").strip():
            head.LossyImageCompression = "01"
            if self.source.syntax in _METHODS and not head.get("LossyImageCompressionMethod"):
                head.LossyImageCompressionMethod = _METHODS[self.source.syntax]

    def array(self, number: int) -> Array:
        """Frame `number` (from 0), colour by pixel, without a change of its colour space."""
        data = self.source.frame(number)
        if self.source.syntax not in NATIVE:
            return codecs.decode_frame(data, **self.parameters, to_rgb=False, max_bytes=self.limit)
        return native_cells(data, self.parameters, max_bytes=self.limit)


def native_cells(data: bytes, parameters: dict[str, Any], *, max_bytes: int = MAX_FRAME_BYTES) -> Array:
    """Cells of an uncompressed frame with every bit that they have, for another lossless encoding.

    Args:
        data: The frame, in little endian.
        parameters: As `codecs.frame_parameters` gives them.
        max_bytes: Limit.

    Raises:
        FrameError: As `codecs.native_frame`.
    """
    values = {name: value for name, value in parameters.items() if name != "transfer_syntax"}
    # Values beyond Bits Stored occur (padding), and what is lossless keeps them.
    if values["high_bit"] is None or values["high_bit"] + 1 == values["bits_stored"]:
        values["bits_stored"], values["high_bit"] = values["bits_allocated"], None
    return codecs.native_frame(data, **values, to_rgb=False, max_bytes=max_bytes)


def _overlay_in_pixels(head: Dataset, group: int) -> bool:
    return (group << 16 | 0x0100) in head and (group << 16 | 0x3000) not in head


def photometric_of(parameters: dict[str, Any], first: Callable[[], bytes]) -> str:
    """Photometric Interpretation of decoded, not colour converted frames.

    Args:
        parameters: As `codecs.frame_parameters` gives them.
        first: Gives the first frame, whose code stream may know better than its data set.
    """
    declared, syntax = str(parameters["photometric"]), str(parameters["transfer_syntax"])
    if parameters["samples"] != 3:
        return declared
    if declared in ("YBR_RCT", "YBR_ICT"):
        return "RGB"
    if syntax in NATIVE:
        return "YBR_FULL" if declared == "YBR_FULL_422" else declared
    if syntax in ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"):
        info = codecs.stream_info(first(), syntax)
        if info is not None and info.color:
            # The stream knows what it is; some senders call every colour image RGB.
            return "RGB" if info.color == "rgb" else "YBR_FULL"
    return "YBR_FULL" if declared == "YBR_FULL_422" else declared


def encode_frame(array: Array, target: str, *, photometric: str, bits_stored: int) -> bytes:
    """Encode a frame losslessly.

    Args:
        array: Integers of 8 or 16 bits, (rows, columns) or (rows, columns, 3).
        target: One of `COMPRESSED_TARGETS`.
        photometric: Of `array`; RGB is transformed reversibly where the target has such a transform (its data set then
            says YBR_RCT).
        bits_stored: Bits that samples are said to have.

    Returns:
        The code stream.

    Raises:
        TranscodeError: The samples are of another kind.
    """
    if array.dtype.kind not in "iu" or array.dtype.itemsize > 2:
        raise TranscodeError("unsupported-pixels", f"{array.dtype} cannot be compressed")
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    rgb = array.ndim == 3 and photometric in ("RGB", "YBR_RCT")
    if target == HTJ2K:
        if array.ndim == 3 and not rgb:
            return bytes(imagecodecs.htj2k_encode(array, rgb=False, planar=False))
        return codecs.encode_htj2k(array)
    if target == JPEG_LS:
        data = bytes(imagecodecs.jpegls_encode(array.view(f"u{array.dtype.itemsize}")))
        # The library writes a file with a SPIFF header; a frame is the code stream within (PS3.5 §8.2.3).
        return data[max(0, data.find(b"\xff\xd8\xff\xf7", 0, 256)) :]
    return bytes(
        imagecodecs.jpeg2k_encode(
            array,
            level=0,
            codecformat="J2K",
            reversible=True,
            mct=rgb,
            colorspace="SRGB" if array.ndim == 3 else None,
            bitspersample=_depth(array, bits_stored),
        )
    )


def _depth(array: Array, bits_stored: int) -> int:
    """Bits that the samples need: Bits Stored, unless a value goes beyond."""
    low, high = int(array.min()), int(array.max())
    if array.dtype.kind == "i":
        fits = -(1 << (bits_stored - 1)) <= low and high < 1 << (bits_stored - 1)
    else:
        fits = high < 1 << bits_stored
    return bits_stored if fits else 8 * array.dtype.itemsize


def _write_native(plan: _Plan, out: IO[bytes], *, implicit: bool) -> None:
    parameters = plan.parameters
    allocated = int(parameters["bits_allocated"])
    frame = int(parameters["rows"]) * int(parameters["columns"]) * int(parameters["samples"]) * max(1, allocated // 8)
    total = frame * plan.count
    if total > _UNDEFINED - 2:
        raise TranscodeError("too-large", "the pixels have no place in an uncompressed transfer syntax")
    out.write(_pixel_header("OW" if allocated > 8 else "OB", total + total % 2, implicit=implicit))
    for number in range(plan.count):
        data = plan.array(number).tobytes()
        if len(data) != frame:
            raise TranscodeError("size-mismatch", "a frame is of another size than the first")
        out.write(data)
    out.write(b"\0" * (total % 2))


def _write_encapsulated(plan: _Plan, out: IO[bytes]) -> None:
    """One fragment for each frame, and a Basic Offset Table unless offsets are too large for it (PS3.5 §A.4)."""
    out.write(_pixel_header("OB", _UNDEFINED, implicit=False))
    table = out.tell()
    out.write(struct.pack("<HHL", 0xFFFE, 0xE000, 4 * plan.count) + b"\0" * (4 * plan.count))
    begin, offsets = out.tell(), []
    for number in range(plan.count):
        offsets.append(out.tell() - begin)
        data = encode_frame(
            plan.array(number),
            plan.target,
            photometric=plan.photometric,
            bits_stored=int(plan.parameters["bits_stored"]),
        )
        padded = len(data) + len(data) % 2
        out.write(struct.pack("<HHL", 0xFFFE, 0xE000, padded) + data + b"\0" * (len(data) % 2))
    out.write(struct.pack("<HHL", 0xFFFE, 0xE0DD, 0))
    if offsets[-1] > _UNDEFINED:
        raise TranscodeError("too-large", "the compressed pixels have no place behind an offset table")
    end = out.tell()
    out.seek(table + 8)
    out.write(struct.pack(f"<{plan.count}L", *offsets))
    out.seek(end)


# --- data sets, element by element ----------------------------------------------------------------------------------


def encode_dataset(dataset: Dataset, *, implicit: bool, after: bool = False) -> bytes:
    """Encode a data set in little endian, values as the bytes they are.

    Args:
        dataset: As pydicom read it; elements that were set since are written by pydicom.
        implicit: Implicit VR, else explicit.
        after: Only what comes after Pixel Data.
    """
    return b"".join(_elements(dataset, implicit, (), after=after))


def _elements(
    dataset: Dataset, implicit: bool, ancestors: tuple[Dataset, ...], *, after: bool = False
) -> Iterator[bytes]:
    for tag in sorted(dataset.keys()):
        if tag.element == 0 or tag.group == 2 or (after and tag <= _PIXEL_DATA):
            continue  # group lengths are retired, and would be wrong
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement):
            vr = element.VR if element.VR not in (None, "") else _vr(element, dataset, ancestors)
            if vr != "SQ" and element.length != _UNDEFINED:
                value = element.value or b""
                if not element.is_little_endian:
                    value = _little(value, vr)
                yield from _element(tag, vr, value, implicit)
                continue
            element = dataset[tag]
        if element.VR == "SQ":
            yield from _sequence(element, implicit, (*ancestors, dataset))
            continue
        with DicomBytesIO() as out:
            out.is_little_endian, out.is_implicit_VR = True, implicit
            write_data_element(out, element, _charset(dataset, ancestors))
            yield out.getvalue()


def _element(tag: Any, vr: str, value: bytes, implicit: bool) -> Iterator[bytes]:
    value += b"\0" * (len(value) % 2)
    head = struct.pack("<HH", tag.group, tag.element)
    if implicit:
        yield head + struct.pack("<L", len(value))
    elif vr in _LONG_VRS:
        yield head + vr.encode("ascii") + struct.pack("<HL", 0, len(value))
    elif len(value) > 0xFFFE:
        # PS3.5 §6.2.2: what has no place in a short length is of unknown VR.
        yield head + b"UN" + struct.pack("<HL", 0, len(value))
    else:
        yield head + vr.encode("ascii") + struct.pack("<H", len(value))
    yield value


def _sequence(element: DataElement, implicit: bool, ancestors: tuple[Dataset, ...]) -> Iterator[bytes]:
    """A sequence; lengths stay undefined where they were."""
    items = []
    for item in element.value or []:
        body = b"".join(_elements(item, implicit, ancestors))
        if getattr(item, "is_undefined_length_sequence_item", False):
            items.append(
                struct.pack("<HHL", 0xFFFE, 0xE000, _UNDEFINED) + body + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
            )
        else:
            items.append(struct.pack("<HHL", 0xFFFE, 0xE000, len(body)) + body)
    body = b"".join(items)
    open_end = element.is_undefined_length
    length = _UNDEFINED if open_end else len(body)
    head = struct.pack("<HH", element.tag.group, element.tag.element)
    yield head + (struct.pack("<L", length) if implicit else b"SQ" + struct.pack("<HL", 0, length))
    yield body
    if open_end:
        yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def _little(value: bytes, vr: str) -> bytes:
    kind = _SWAPPED.get(vr)
    return swapped(value, int(kind[1])) if kind else value


def _charset(dataset: Dataset, ancestors: tuple[Dataset, ...]) -> Any:
    for one in itertools.chain((dataset,), reversed(ancestors)):
        if "SpecificCharacterSet" in one:
            return one.get("SpecificCharacterSet")
    return None


def _vr(element: RawDataElement, dataset: Dataset, ancestors: tuple[Dataset, ...]) -> str:
    """VR of an element that was implicit, by the dictionary (PS3.6) and, where that has a choice, by the pixels."""
    tag = element.tag
    if tag.group % 2:
        return "LO" if 0x10 <= tag.element <= 0xFF else "UN"
    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    if " or " not in vr:
        return str(vr)
    if vr == "US or SS":
        for one in itertools.chain((dataset,), reversed(ancestors)):
            representation = one.get("PixelRepresentation")
            if representation is not None:
                return "SS" if representation == 1 else "US"
        return "US"
    if tag == 0x54001010 and dataset.get("WaveformBitsAllocated") == 8:
        return "OB"
    return "OW"


def meta_of(sop_class: str, sop_instance: str, syntax: str) -> bytes:
    """Preamble and file meta information for a data set that came without them (PS3.10 §7.1)."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = UID(sop_class)
    meta.MediaStorageSOPInstanceUID = UID(sop_instance)
    meta.TransferSyntaxUID = UID(syntax)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_NAME
    with io.BytesIO() as file:
        file.write(b"\0" * 128 + b"DICM")
        pydicom.filewriter.write_file_meta_info(cast(Any, file), meta, enforce_standard=True)
        return file.getvalue()
