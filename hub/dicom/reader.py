"""Reading a DICOM file once: its header, where its frames lie, its hashes (PS3.5 §7, PS3.10 §7).

The walk is our own rather than pydicom's for three reasons: it uses no recursion and counts what it meets, so that a
hostile file costs bounded time and memory; it never touches pixel data; and text is repaired before anything decodes
it. What it yields is an ordinary pydicom data set of raw elements, converted when they are first looked at.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import re
import struct
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final, Literal, cast

from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import BaseTag

from hub.dicom import framing
from hub.dicom.errors import DicomRefused
from hub.dicom.framing import Buffer, FrameIndex
from hub.dicom.identity import Age, parse_age
from hub.dicom.text import TEXT_VRS, RepairedText, TextCell, charset_notes, repair_dataset_text

UTF8: Final = "ISO_IR 192"
DICOMDIR_CLASS: Final = "1.2.840.10008.1.3.10"
IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"
_IMPLICIT: Final = frozenset({IMPLICIT_LE, "1.2.840.113619.5.2"})
_DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_RLE: Final = "1.2.840.10008.1.2.5"
_VIDEO: Final = frozenset(
    f"1.2.840.10008.1.2.4.{n}" for n in ("100", "101", "102", "103", "104", "105", "106", "107", "108")
) | frozenset(f"1.2.840.10008.1.2.4.{n}.1" for n in ("100", "101", "102", "103", "104", "105", "106"))

_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_VR_NAMES: Final = {v: v.decode() for v in _LONG_VRS | _SHORT_VRS}
_LARGE_TEXT: Final = frozenset({"UT", "LT", "ST", "UC"})
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNDEFINED: Final = 0xFFFFFFFF
_CHUNK: Final = 1 << 20
_EXECUTABLES: Final = (
    (b"MZ", "Windows MZ"),
    (b"\x7fELF", "ELF"),
    (b"#!", "#! script"),
    (b"\xfe\xed\xfa\xce", "Mach-O"),
    (b"\xfe\xed\xfa\xcf", "Mach-O"),
    (b"\xce\xfa\xed\xfe", "Mach-O"),
    (b"\xcf\xfa\xed\xfe", "Mach-O"),
    (b"\xca\xfe\xba\xbe", "Mach-O / Java"),
    (b"\xbe\xba\xfe\xca", "Mach-O"),
)
_KNOWN_OTHERS: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "ZIP"),
    (b"Rar!", "RAR"),
    (b"7z\xbc\xaf", "7-Zip"),
    (b"\x1f\x8b", "gzip"),
    (b"BM", "BMP"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xd0\xcf\x11\xe0", "Office"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "HTML"),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file may cost.

    Attributes:
        max_file_bytes: Size of the file.
        max_inflated_bytes: Size of a deflated data set once inflated (it goes to a temporary file, never to memory).
        max_inflate_ratio: Inflated to deflated size, looked at beyond 16 MiB.
        max_frame_bytes: Decoded size of one frame, as declared by the header or by the frame's own code stream.
        max_depth: Nesting of sequences.
        max_elements: Elements and items together.
        max_fragments: Items of encapsulated pixel data.
        max_header_bytes: Values kept in memory, all together.
        max_inline_bytes: A binary value beyond this is left in the file and noted as bulk data.
    """

    max_file_bytes: int = 10 << 30
    max_inflated_bytes: int = 1 << 30
    max_inflate_ratio: int = 200
    max_frame_bytes: int = 512 << 20
    max_depth: int = 64
    max_elements: int = 500_000
    max_fragments: int = 500_000
    max_header_bytes: int = 64 << 20
    max_inline_bytes: int = 64 << 10


@dataclass(frozen=True, slots=True)
class BulkElement:
    """A value left in the file.

    Attributes:
        path: Tags and item numbers from the root: ``(0x00420011,)`` or ``(0x00880200, 0, 0x7FE00010)``.
        vr: Two letters.
        segments: (offset, length) ranges; several for encapsulated values. They count in what `FrameIndex.base` says.
    """

    path: tuple[int, ...]
    vr: str
    segments: tuple[tuple[int, int], ...]

    @property
    def name(self) -> str:
        """The path as in a URL: ``00880200/0/7FE00010``."""
        return "/".join(str(p) if i % 2 else f"{p:08X}" for i, p in enumerate(self.path))


@dataclass(frozen=True, slots=True)
class PatientAttributes:
    """Patient module (PS3.3 C.7.1.1); texts are repaired, absent ones are empty.

    Attributes:
        patient_id: PatientID, unique only together with the sending organisation.
        issuer: IssuerOfPatientID.
        name: PatientName with its `^` and `=`.
        name_flagged: Whether the name's character set is a guess that a person should look at.
        name_charset: The character set believed.
        sex: ``M``, ``F``, ``O`` or empty.
        birth_date: None where absent or no real date.
        age: PatientAge.
        other_ids: OtherPatientIDs.
    """

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    name_flagged: bool = False
    name_charset: str = ""
    sex: str = ""
    birth_date: date | None = None
    age: Age | None = None
    other_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StudyAttributes:
    """What QIDO-RS and the work list need of a study (PS3.18 Table 10.6.1-3). Times are ``HHMMSS[.ffffff]`` as sent."""

    study_id: str = ""
    study_date: date | None = None
    study_time: str = ""
    timezone_offset: str = ""
    accession_number: str = ""
    description: str = ""
    referring_physician: str = ""
    institution: str = ""
    department: str = ""
    admission_id: str = ""
    requested_procedure: str = ""


@dataclass(frozen=True, slots=True)
class SeriesAttributes:
    """What QIDO-RS, the viewer and routing need of a series (PS3.18 Table 10.6.1-4)."""

    modality: str = ""
    number: int | None = None
    description: str = ""
    series_date: date | None = None
    series_time: str = ""
    body_part: str = ""
    laterality: str = ""
    protocol: str = ""
    manufacturer: str = ""
    model: str = ""
    station: str = ""
    device_serial: str = ""
    patient_position: str = ""
    view_position: str = ""
    frame_of_reference_uid: str = ""
    procedure_step_date: date | None = None
    procedure_step_time: str = ""
    performing_physician: str = ""


@dataclass(frozen=True, slots=True)
class InstanceAttributes:
    """What QIDO-RS, previews and sorting need of an instance (PS3.18 Table 10.6.1-5).

    `slice_thickness` and the positions are in mm, `pixel_spacing` is (between rows, between columns) in mm.
    """

    number: int | None = None
    acquisition_number: int | None = None
    acquisition_date: date | None = None
    acquisition_time: str = ""
    content_date: date | None = None
    content_time: str = ""
    image_type: tuple[str, ...] = ()
    rows: int | None = None
    columns: int | None = None
    frames: int = 0
    samples_per_pixel: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    pixel_representation: int | None = None
    photometric: str = ""
    window_center: float | None = None
    window_width: float | None = None
    image_position: tuple[float, ...] = ()
    image_orientation: tuple[float, ...] = ()
    pixel_spacing: tuple[float, ...] = ()
    slice_location: float | None = None
    slice_thickness: float | None = None
    lossy: bool = False
    burned_in_annotation: str = ""


@dataclass(frozen=True, slots=True)
class ParsedInstance:
    """One file, read.

    Attributes:
        kind: ``instance``, or ``dicomdir`` for a directory of other files, which has no UIDs and is not stored.
        file_size: Bytes.
        dataset_offset: Where the data set begins, i.e. where group 0002 ends.
        file_sha256: Hex hash of the whole file.
        head: What stands before the data set; None where it is longer than `MAX_HEAD`.
        charset: SpecificCharacterSet as declared.
        charset_found: What non-ASCII text turned out to be, or None if there is none; teaches the sender's hint.
        text_flagged: Whether some text is a guess.
        notes: Codes of the oddities that were tolerated.
        frames: Where each frame lies.
        bulk: Values left in the file, pixel data included.
        referenced_files: For a DICOMDIR, the files it names, as path components.
        header: All else as a data set: text repaired, SpecificCharacterSet ISO_IR 192, no bulk values, no group 0002.
    """

    kind: Literal["instance", "dicomdir"]
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    file_size: int
    dataset_offset: int
    file_sha256: str
    head: bytes | None
    charset: tuple[str, ...]
    charset_found: str | None
    text_flagged: bool
    patient: PatientAttributes
    study: StudyAttributes
    series: SeriesAttributes
    instance: InstanceAttributes
    notes: tuple[str, ...]
    frames: FrameIndex
    bulk: tuple[BulkElement, ...]
    header: Dataset
    referenced_files: tuple[tuple[str, ...], ...] = ()


DEFAULT_LIMITS: Final = Limits()
MAX_HEAD: Final = 4096
"""Bytes of preamble and group 0002 that are kept; what is usual has some four hundred."""


def read(
    source: str | os.PathLike[str] | bytes | IO[bytes],
    *,
    limits: Limits = DEFAULT_LIMITS,
    hint: str | None = None,
    hashes: bool = True,
) -> ParsedInstance:
    """Read one DICOM file without loading its pixels.

    Args:
        source: Path, open file with a descriptor, or bytes. It must not shrink meanwhile.
        limits: What it may cost.
        hint: Character set that the sender is known to use (`text.repair`).
        hashes: Whether to hash the bytes (the only step that reads all of them).

    Returns:
        The parsed instance.

    Raises:
        DicomRefused: With the reason; no other exception comes from a file's content.
        OSError: The file cannot be read.
    """
    with _opened(source, limits) as buf:
        return _Reader(buf, limits, hint).run(hashes=hashes)


@contextmanager
def _opened(source: str | os.PathLike[str] | bytes | IO[bytes], limits: Limits) -> Iterator[Buffer]:
    if isinstance(source, bytes):
        yield source
        return
    if isinstance(source, io.BytesIO):
        yield source.getvalue()
        return
    opened: IO[bytes] | None = None
    if isinstance(source, (str, os.PathLike)):
        opened = Path(source).open("rb", buffering=0)  # noqa: SIM115
        handle: Any = opened
    else:
        handle = source
        handle.flush() if handle.writable() else None
    try:
        size = os.fstat(handle.fileno()).st_size
        if size > limits.max_file_bytes:
            raise DicomRefused("too-large", size=size, limit=limits.max_file_bytes)
        if size == 0:
            raise DicomRefused("empty")
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped
    finally:
        if opened is not None:
            opened.close()


def sniff(head: bytes) -> bool:
    """Say from a file's first 132 bytes or more whether it is worth reading as DICOM."""
    return head[128:132] == b"DICM" or head[:4] == b"DICM" or _guess_encoding(head, 0, len(head)) is not None


def _guess_encoding(buf: Buffer, pos: int, end: int) -> tuple[bool, bool] | None:
    """Guess (explicit VR, little endian) from the first element; None where no data set begins."""
    head = bytes(buf[pos : min(end, pos + 8)])
    if len(head) < 8:
        return None
    group_le, element_le = struct.unpack("<HH", head[:4])
    group_be, element_be = struct.unpack(">HH", head[:4])
    if head[4:6] in _VR_NAMES:
        if group_le in (2, 8, 0x10, 0x18, 0x20, 0x28) and element_le < 0x4000:
            return True, True
        if group_be in (2, 8, 0x10, 0x18, 0x20, 0x28) and element_be < 0x4000:
            return True, False
        return None
    length = struct.unpack("<L", head[4:])[0]
    if group_le in (2, 8) and element_le < 0x2000 and length <= end - pos:
        # Eight bytes are thin evidence: the tag must be in the dictionary, too.
        tag = group_le << 16 | element_le
        return (False, True) if _public_vr(tag) or element_le == 0 else None
    return None


@lru_cache(maxsize=8192)
def _public_vr(tag: int) -> str:
    try:
        return str(dictionary_VR(tag))
    except KeyError:
        return "UL" if tag & 0xFFFF == 0 else ""


@lru_cache(maxsize=16384)
def _base(tag: int) -> Any:
    return BaseTag(tag)


def _tag_name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


@dataclass(slots=True)
class _Level:
    """A data set being read, or a sequence whose items are."""

    end: int
    path: tuple[int, ...]
    explicit: bool
    charset: list[str]
    elements: dict[Any, Any] = field(default_factory=dict)
    is_sequence: bool = False
    items: list[Dataset] = field(default_factory=list)
    undefined: bool = False
    tag: int = 0


class _Reader:
    """State of one reading."""

    def __init__(self, buf: Buffer, limits: Limits, hint: str | None) -> None:
        self.buf: Buffer = buf
        self.size = len(buf)
        self.limits = limits
        self.hint = hint
        self.notes: dict[str, None] = {}
        self.cells: list[TextCell] = []
        self.bulk: list[BulkElement] = []
        self.kept = 0
        self.count = 0
        self.pixel: tuple[int, int, int] | None = None  # tag, offset, length
        self.items: list[tuple[int, int]] = []
        self.little = True
        self.looked_for_padding = False

    def note(self, code: str) -> None:
        self.notes.setdefault(code)

    def run(self, *, hashes: bool) -> ParsedInstance:
        meta, offset = self._meta()
        syntax = _text(meta, 0x00020010).strip()
        file_hash = self._hash() if hashes else ""
        whole, size = self.buf, self.size
        head = bytes(whole[:offset]) if offset <= MAX_HEAD else None
        if syntax in _DEFLATED:
            with self._inflated(offset) as inflated:
                self.buf, self.size = inflated, len(inflated)
                parsed = self._dataset(meta, 0, syntax, offset, size, file_hash, head, deflated=True)
                self.buf = whole
            return parsed
        return self._dataset(meta, offset, syntax, offset, size, file_hash, head, deflated=False)

    # -- beginning of the file ----------------------------------------------------------------------------------

    def _meta(self) -> tuple[dict[Any, Any], int]:
        """Read group 0002 (PS3.10 §7.1) and give it with where it ends."""
        buf = self.buf
        if self.size == 0:
            raise DicomRefused("empty")
        head = bytes(buf[:132])
        for magic, name in _EXECUTABLES:
            if head.startswith(magic):
                # Runnable and readable as an image at once: nobody makes such a file by mistake.
                raise DicomRefused("executable-preamble" if head[128:132] == b"DICM" else "not-dicom", why=name)
        if head[128:132] == b"DICM":
            pos = 132
            if head[:128].strip(b"\0"):
                self.note("preamble-not-empty")
        elif head[:4] == b"DICM":
            pos = 4
            self.note("no-preamble")
        else:
            for magic, name in _KNOWN_OTHERS:
                if head.startswith(magic):
                    raise DicomRefused("not-dicom", why=name)
            if _guess_encoding(buf, 0, self.size) is None:
                raise DicomRefused("not-dicom", why=("没有 DICOM 标志", "it lacks the DICOM mark"))
            pos = 0
            self.note("no-preamble")
        return self._group_two(pos)

    def _group_two(self, pos: int) -> tuple[dict[Any, Any], int]:
        buf, end = self.buf, self.size
        meta: dict[Any, Any] = {}
        while pos + 8 <= end:
            group, element = struct.unpack_from("<HH", buf, pos)
            if group != 2:
                break
            vr = bytes(buf[pos + 4 : pos + 6])
            tag = group << 16 | element
            if vr in _LONG_VRS:
                if pos + 12 > end:
                    raise DicomRefused("truncated", where=_tag_name(tag), expected=12, found=end - pos)
                length, start = struct.unpack_from("<L", buf, pos + 8)[0], pos + 12
            elif vr in _SHORT_VRS:
                length, start = struct.unpack_from("<H", buf, pos + 6)[0], pos + 8
            else:
                length, start = struct.unpack_from("<L", buf, pos + 4)[0], pos + 8
                self.note("implicit-file-meta")
            if start + length > end or length > 1 << 20:
                code = "absurd-length" if length > 1 << 20 else "truncated"
                raise DicomRefused(code, where=_tag_name(tag), length=length, expected=length, found=end - start)
            meta[tag] = RawDataElement(
                _base(tag), _VR_NAMES.get(vr) or _public_vr(tag) or "UN", length, bytes(buf[start : start + length]),
                start, False, True,
            )  # fmt: skip
            pos = start + length
            if len(meta) > 1000:
                raise DicomRefused("bomb", why="group 0002", limit=1000)
        if not meta:
            self.note("no-file-meta")
        return meta, pos

    @contextmanager
    def _inflated(self, offset: int) -> Iterator[Buffer]:
        """Inflate a deflated data set into a temporary file, stopping at the limit (PS3.5 §A.5)."""
        limits = self.limits
        packed = self.size - offset
        engine = zlib.decompressobj(-zlib.MAX_WBITS)
        if bytes(self.buf[offset : offset + 1]) == b"\x78" and packed > 2:
            # Some writers leave the zlib header on.
            first = struct.unpack_from(">H", self.buf, offset)[0]
            if first % 31 == 0:
                engine = zlib.decompressobj()
                self.note("zlib-header")
        total = 0
        with tempfile.TemporaryFile() as out:
            pos = offset
            data = b""
            try:
                while not engine.eof:
                    if not data:
                        data = bytes(self.buf[pos : pos + 65536])
                        pos += len(data)
                        if not data:
                            break
                    piece = engine.decompress(data, _CHUNK)
                    data = engine.unconsumed_tail
                    total += len(piece)
                    if total > limits.max_inflated_bytes:
                        raise DicomRefused(
                            "bomb", why=("解压后过大", "it inflates to too much"), limit=limits.max_inflated_bytes
                        )
                    if total > 16 << 20 and total > packed * limits.max_inflate_ratio:
                        raise DicomRefused(
                            "bomb", why=("压缩比过高", "its compression ratio"), limit=limits.max_inflate_ratio
                        )
                    out.write(piece)
                if not engine.eof:
                    rest = engine.flush(_CHUNK)
                    total += len(rest)
                    out.write(rest)
                    raise DicomRefused(
                        "truncated", where=("压缩数据", "the deflated data set"), expected=packed + 1, found=packed
                    )
            except zlib.error as problem:
                raise DicomRefused(
                    "broken-structure", where=("压缩数据", "the deflated data set"), why=str(problem)[:80]
                ) from problem
            if total == 0:
                raise DicomRefused("no-uids", missing="SOPInstanceUID")
            out.flush()
            with mmap.mmap(out.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                yield mapped

    def _hash(self) -> str:
        with memoryview(self.buf) as view:
            return hashlib.sha256(view).hexdigest()

    # -- the data set ---------------------------------------------------------------------------------------------

    def _encoding(self, pos: int, syntax: str) -> tuple[bool, bool]:
        """Decide (explicit, little) by the transfer syntax, unless the first element says otherwise."""
        guess = _guess_encoding(self.buf, pos, self.size)
        if not syntax:
            self.note("no-transfer-syntax")
            return guess or (False, True)
        declared = (syntax not in _IMPLICIT, syntax != EXPLICIT_BE)
        if guess is not None and guess != declared and pos + 8 <= self.size:
            first = bytes(self.buf[pos + 4 : pos + 6])
            # A length can look like a VR, hardly ever the other way round.
            if (first in _VR_NAMES) != declared[0] or guess[1] != declared[1]:
                self.note("encoding-differs")
                return guess
        return declared

    def _dataset(
        self,
        meta: dict[Any, Any],
        pos: int,
        syntax: str,
        offset: int,
        file_size: int,
        file_hash: str,
        head: bytes | None,
        *,
        deflated: bool,
    ) -> ParsedInstance:
        explicit, self.little = self._encoding(pos, syntax)
        root = _Level(end=self.size, path=(), explicit=explicit, charset=[])
        self._walk(pos, root)
        elements = root.elements

        declared = tuple(c.strip() for c in _text(elements, 0x00080005).split("\\")) if 0x00080005 in elements else ()
        if charset_notes(declared):
            self.note("bad-charset-term")
        name_cell, charset_found, flagged = self._repair(root, declared)
        elements[_base(0x00080005)] = RawDataElement(
            _base(0x00080005), "CS", 10, b"ISO_IR 192", 0, not explicit, self.little
        )
        # By plain numbers: pydicom's tags compare themselves in Python, a hundred times a file.
        header = _made({tag: elements[tag] for tag in sorted(elements, key=int)}, explicit, self.little)

        is_directory = (
            _text(meta, 0x00020002).strip() == DICOMDIR_CLASS or _text(elements, 0x00080016).strip() == DICOMDIR_CLASS
        )
        instance = _instance(elements)
        if is_directory:
            uids = (DICOMDIR_CLASS, "", "", "")
            frames = FrameIndex()
        else:
            uids = self._uids(meta, elements)
            frames, syntax = self._frames(elements, instance, syntax, explicit, deflated=deflated)
        if not syntax:
            syntax = (EXPLICIT_LE if explicit else IMPLICIT_LE) if self.little else EXPLICIT_BE
        self._look(elements, is_directory=is_directory)
        patient = _patient(elements, name_cell)
        return ParsedInstance(
            kind="dicomdir" if is_directory else "instance",
            sop_class_uid=uids[0],
            sop_instance_uid=uids[1],
            study_instance_uid=uids[2],
            series_instance_uid=uids[3],
            transfer_syntax_uid=syntax,
            file_size=file_size,
            dataset_offset=offset,
            file_sha256=file_hash,
            head=head,
            charset=declared,
            charset_found=charset_found,
            text_flagged=flagged,
            patient=patient,
            study=_study(elements),
            series=_series(elements),
            instance=_with_frames(instance, frames),
            notes=tuple(self.notes),
            frames=frames,
            bulk=tuple(self.bulk),
            header=header,
            referenced_files=_referenced(elements) if is_directory else (),
        )

    def _walk(self, pos: int, root: _Level) -> None:
        """Read elements into levels, one loop for all depths."""
        buf, size, limits = self.buf, self.size, self.limits
        order = "<" if self.little else ">"
        head_explicit = struct.Struct(order + "HH2sH").unpack_from
        head_implicit = struct.Struct(order + "HHL").unpack_from
        long_length = struct.Struct(order + "L").unpack_from
        stack = [root]
        level = root
        while True:
            if level.is_sequence:
                pos = self._next_item(pos, level, stack, head_implicit)
                level = stack[-1]
                continue
            end = level.end
            if pos + 8 > end:
                if pos < end and any(buf[pos:end]) and not (level is root and self.pixel):
                    raise DicomRefused("truncated", where=f"@{pos}", expected=8, found=end - pos)
                if pos < end:
                    self.note("trailing-bytes")
                if level.undefined and end == size:
                    # The delimiters that close what is open were lost with the end of the file; no value was.
                    self.note("no-item-delimiter")
                if level is root:
                    return
                pos = end
                level = self._close(stack)
                continue
            self.count += 1
            if self.count > limits.max_elements:
                raise DicomRefused("bomb", why=("元素过多", "elements"), limit=limits.max_elements)
            if level.explicit:
                group, element, code, length = head_explicit(buf, pos)
                start = pos + 8
                vr = _VR_NAMES.get(code, "")
                if code in _LONG_VRS:
                    if start + 4 > end:
                        raise DicomRefused(
                            "truncated", where=_tag_name(group << 16 | element), expected=12, found=end - pos
                        )
                    length = long_length(buf, start)[0]
                    start += 4
                elif not vr:
                    length, vr = self._odd_vr(pos, group, element, code, length, head_implicit)
            else:
                group, element, length = head_implicit(buf, pos)
                start = pos + 8
                vr = ""
            tag = group << 16 | element
            if group == 0xFFFE:
                if element == 0xE00D and level is not root:
                    pos = start
                    level = self._close(stack)
                    continue
                if element in (0xE00D, 0xE0DD) and level is root:
                    self.note("stray-delimiter")
                    pos += 8
                    continue
                if element == 0xE0DD and level.undefined:
                    # An item without its delimiter: the sequence's own ends both.
                    self.note("no-item-delimiter")
                    level = self._close(stack)
                    continue
                raise DicomRefused("broken-structure", where=f"{_tag_name(tag)}@{pos}", why=("多余的项", "stray item"))
            if tag == 0 and length == 0 and level is root and self._only_zeros(pos, size):
                self.note("trailing-bytes")
                return
            if not vr:
                vr = self._implicit_vr(tag, level, root)
            if length == _UNDEFINED or vr == "SQ":
                if tag in _PIXELS or (vr in ("OB", "OW") and length == _UNDEFINED):
                    if length == _UNDEFINED:
                        pos = self._encapsulated(tag, vr, start, level, root)
                        continue
                else:
                    # UN of undefined length holds an implicit VR little endian sequence (PS3.5 §6.2.2 note 4).
                    if len(stack) // 2 >= limits.max_depth:
                        raise DicomRefused("bomb", why=("嵌套过深", "nesting of sequences"), limit=limits.max_depth)
                    if length != _UNDEFINED and start + length > end:
                        raise self._beyond(tag, length, start, end)
                    stack.append(
                        _Level(
                            end=end if length == _UNDEFINED else start + length,
                            path=(*level.path, tag),
                            explicit=level.explicit and vr != "UN",
                            charset=level.charset,
                            is_sequence=True,
                            undefined=length == _UNDEFINED,
                            tag=tag,
                        )
                    )
                    level = stack[-1]
                    pos = start
                    continue
            stop = start + length
            if stop > end:
                raise self._beyond(tag, length, start, end)
            if tag in _PIXELS:
                if level is root:
                    self.pixel = (tag, start, length)
                self.bulk.append(BulkElement((*level.path, tag), vr or "OW", ((start, length),)))
            elif length > limits.max_inline_bytes and (vr not in _LARGE_TEXT or length > 16 * limits.max_inline_bytes):
                self.bulk.append(BulkElement((*level.path, tag), vr or "UN", ((start, length),)))
            elif element != 0:
                self.kept += length
                if self.kept > limits.max_header_bytes:
                    raise DicomRefused("bomb", why=("头信息过大", "header"), limit=limits.max_header_bytes)
                value = bytes(buf[start:stop])
                base = _base(tag)
                if base in level.elements:
                    self.note("duplicate-element")
                level.elements[base] = RawDataElement(
                    base, vr or "UN", length, value, start, not level.explicit, self.little
                )
                if tag == 0x00080005:
                    level.charset = [c.strip() for c in value.decode("latin_1").strip(" \0").split("\\")]
                elif vr in TEXT_VRS and (not value.isascii() or b"\x1b" in value):
                    self.cells.append(TextCell((level.elements, base), vr, value, level.charset))
            pos = stop

    def _only_zeros(self, pos: int, size: int) -> bool:
        """Whether nothing but zeros follows: padding, which some media writers leave. Looked at once per file."""
        if self.looked_for_padding:
            return False
        self.looked_for_padding = True
        return all(not bytes(self.buf[at : at + _CHUNK]).strip(b"\0") for at in range(pos, size, _CHUNK))

    def _beyond(self, tag: int, length: int, start: int, end: int) -> DicomRefused:
        where = f"{_tag_name(tag)}@{start}"
        if end < self.size or (length > 1 << 30 and tag not in _PIXELS) or length > self.limits.max_file_bytes:
            return DicomRefused("absurd-length", where=where, length=length)
        return DicomRefused("truncated", where=where, expected=length, found=end - start)

    def _odd_vr(
        self, pos: int, group: int, element: int, code: bytes, length: int, head_implicit: Any
    ) -> tuple[int, str]:
        """Read on where explicit VR should stand and none known does."""
        if group == 0xFFFE:
            return int(head_implicit(self.buf, pos)[2]), ""
        if code.isalpha() and code.isupper():
            self.note("unknown-vr")
            return length, "UN"
        # Some devices write private or nested elements without a VR into explicit data sets.
        self.note("implicit-element-in-explicit")
        return int(head_implicit(self.buf, pos)[2]), _public_vr(group << 16 | element).split(" or ")[0]

    def _implicit_vr(self, tag: int, level: _Level, root: _Level) -> str:
        if tag >> 16 & 1:
            return "LO" if 0x10 <= tag & 0xFFFF <= 0xFF else ""
        vr = _public_vr(tag)
        if " or " not in vr:
            return vr
        if vr == "US or SS":
            found = level.elements.get(0x00280103) or root.elements.get(0x00280103)
            return "SS" if found is not None and bytes(found.value or b"").strip(b"\0") else "US"
        return "OW" if "OW" in vr else vr.split(" or ")[0]

    def _close(self, stack: list[_Level]) -> _Level:
        """Finish the innermost data set or sequence and hand it to what holds it."""
        done = stack.pop()
        parent = stack[-1]
        if done.is_sequence:
            sequence = DicomSequence()
            sequence._list = done.items  # the public constructor re-validates every item
            element = DataElement(_base(done.tag), "SQ", sequence)
            parent.elements[_base(done.tag)] = element
        else:
            if 0x00080005 in done.elements:
                done.elements[_base(0x00080005)] = RawDataElement(
                    _base(0x00080005), "CS", 10, b"ISO_IR 192", 0, not done.explicit, self.little
                )
            parent.items.append(_made(done.elements, done.explicit, self.little))
        return parent

    def _next_item(self, pos: int, level: _Level, stack: list[_Level], head: Any) -> int:
        """Open the next item of a sequence or close the sequence; give the new position."""
        if pos >= level.end or pos + 8 > level.end:
            if level.undefined and level.end == self.size:
                self.note("no-sequence-delimiter")
            elif pos < level.end and any(self.buf[pos : level.end]):
                raise DicomRefused("broken-structure", where=f"{_tag_name(level.tag)}@{pos}", why="sequence")
            self._close(stack)
            return max(pos, level.end) if not level.undefined else pos if pos + 8 > level.end else level.end
        group, element, length = head(self.buf, pos)
        if group == 0xFFFE and element == 0xE0DD:
            if not level.undefined:
                self.note("stray-delimiter")
                return pos + 8
            self._close(stack)
            return pos + 8
        if group != 0xFFFE or element != 0xE000:
            if group == 0xFFFE and element == 0xE00D:
                self.note("stray-delimiter")
                return pos + 8
            raise DicomRefused(
                "broken-structure", where=f"{_tag_name(level.tag)}@{pos}", why=("应为序列项", "an item was expected")
            )
        self.count += 1
        if self.count > self.limits.max_elements:
            raise DicomRefused("bomb", why=("元素过多", "elements"), limit=self.limits.max_elements)
        start = pos + 8
        if length != _UNDEFINED and start + length > level.end:
            raise self._beyond(level.tag, length, start, level.end)
        stack.append(
            _Level(
                end=level.end if length == _UNDEFINED else start + length,
                path=(*level.path, len(level.items)),
                explicit=level.explicit,
                charset=level.charset,
                undefined=length == _UNDEFINED,
            )
        )
        return start

    def _encapsulated(self, tag: int, vr: str, start: int, level: _Level, root: _Level) -> int:
        items, pos, notes = framing.scan_fragments(self.buf, start, level.end, limit=self.limits.max_fragments)
        for code in notes:
            self.note(code)
        if level is root and tag in _PIXELS:
            self.pixel = (tag, start, _UNDEFINED)
            self.items = items
        self.bulk.append(BulkElement((*level.path, tag), vr or "OB", tuple(items[1:])))
        return pos

    # -- what was found -------------------------------------------------------------------------------------------

    def _repair(self, root: _Level, declared: Sequence[str]) -> tuple[RepairedText | None, str | None, bool]:
        """Re-code all non-ASCII text to UTF-8 within the raw elements."""
        if not self.cells:
            return None, None, False
        done = repair_dataset_text(self.cells, declared, self.hint)
        name: RepairedText | None = None
        for key, text in done.values:
            elements, tag = cast(tuple[dict[Any, Any], Any], key)
            old = elements[tag]
            if not isinstance(old, RawDataElement):
                continue
            value = text.text.encode("utf-8", "replace")
            elements[tag] = old._replace(value=value, length=len(value))
            if elements is root.elements and tag == 0x00100010:
                name = text
        if done.flagged:
            self.note("text-flagged")
        if done.differs:
            self.note("charset-repaired")
        return name, done.charset, done.flagged

    def _uids(self, meta: dict[Any, Any], elements: dict[Any, Any]) -> tuple[str, str, str, str]:
        names = (
            (0x00080016, "SOPClassUID"),
            (0x00080018, "SOPInstanceUID"),
            (0x0020000D, "StudyInstanceUID"),
            (0x0020000E, "SeriesInstanceUID"),
        )
        found = [_text(elements, tag).strip(" \0") for tag, _ in names]
        if not found[0] and (from_meta := _text(meta, 0x00020002).strip(" \0")):
            found[0] = from_meta
            self.note("sop-class-from-file-meta")
        missing = [name for (_, name), value in zip(names, found, strict=True) if not value]
        if missing:
            raise DicomRefused("no-uids", missing=", ".join(missing))
        for (tag, _), value in zip(names, found, strict=True):
            if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", value, re.ASCII) or len(value) > 64:
                raise DicomRefused("invalid-uid", where=_tag_name(tag), value=_printable(value))
            if re.search(r"(^|\.)0[0-9]", value):
                self.note("uid-leading-zero")
        in_meta = _text(meta, 0x00020003).strip(" \0")
        if in_meta and in_meta != found[1]:
            self.note("file-meta-uid-differs")
        return found[0], found[1], found[2], found[3]

    def _frames(
        self, elements: dict[Any, Any], info: InstanceAttributes, syntax: str, explicit: bool, *, deflated: bool
    ) -> tuple[FrameIndex, str]:
        if self.pixel is None:
            if info.rows and info.columns:
                # Cut off exactly before its pixels, or never had any: the two cannot be told apart.
                self.note("no-pixel-data")
            return FrameIndex(), syntax
        tag, start, length = self.pixel
        rows, columns = info.rows or 0, info.columns or 0
        samples = info.samples_per_pixel or 1
        bits = {0x7FE00008: 32, 0x7FE00009: 64}.get(tag) or info.bits_allocated or 0
        limit = self.limits.max_frame_bytes
        size = rows * columns * samples * max(bits, 8) // 8
        if size > limit:
            where = f"{columns}×{rows}×{samples}×{bits} bit"
            raise DicomRefused("frame-too-large", size=size, limit=limit, where=where)
        count = _integer(elements, 0x00280008)
        if count is None or count < 1:
            if _text(elements, 0x00280008).strip():
                self.note("bad-number-of-frames")
            count = 1
        first = framing.code_stream(self.buf, start, length) if length != _UNDEFINED else None
        if length == _UNDEFINED or first is not None:
            if first is not None and length != _UNDEFINED:
                # A code stream put into the element without items.
                self.note("not-encapsulated")
                self.items = [(start, 0), (start, length)]
            extended: tuple[int, ...] = ()
            if (table := elements.get(0x7FE00001)) is not None and table.value:
                whole = len(table.value) // 8
                extended = struct.unpack(f"{'<' if self.little else '>'}{whole}Q", table.value[: whole * 8])
            index, notes = framing.encapsulated_index(
                self.buf,
                self.items,
                frames=count,
                extended=extended,
                one_fragment_each=syntax == _RLE,
                video=syntax in _VIDEO,
            )
            for number, parts in enumerate(index.segments):
                stream = framing.code_stream(self.buf, *parts[0]) if parts else None
                if stream is None:
                    continue
                if stream.decoded_bytes > limit:
                    raise DicomRefused(
                        "frame-too-large",
                        size=stream.decoded_bytes,
                        limit=limit,
                        where=f"#{number + 1}: {stream.columns}×{stream.rows}×{stream.components}×{stream.bits} bit",
                    )
                if (stream.columns, stream.rows) != (columns, rows):
                    self.note("code-stream-size-differs")
                if not syntax:
                    syntax = _syntax_of(stream)
        else:
            photometric = info.photometric
            frame_bits = rows * columns * samples * bits
            if samples == 3 and photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") and length * 8 < frame_bits * count:
                frame_bits = frame_bits * 2 // 3
            elif samples == 3 and photometric == "YBR_PARTIAL_420" and length * 8 < frame_bits * count:
                frame_bits //= 2
            index, notes = framing.native_index(start, length, frame_bits=frame_bits, frames=count)
            if syntax and syntax not in _DEFLATED and (syntax.startswith("1.2.840.10008.1.2.4.") or syntax == _RLE):
                self.note("native-under-compressed-syntax")
        for code in notes:
            self.note(code)
        if deflated:
            index = FrameIndex(index.kind, "inflated", index.count, index.start, index.frame_bits, index.segments)
        return index, syntax

    def _look(self, elements: dict[Any, Any], *, is_directory: bool) -> None:
        if is_directory:
            return
        if not _text(elements, 0x00100020).strip():
            self.note("no-patient-id")
        if not _text(elements, 0x00100010).strip(" ^="):
            self.note("no-patient-name")
        modality = _text(elements, 0x00080060).strip()
        if not modality:
            self.note("no-modality")
        elif modality == "DR":
            self.note("modality-dr")
        for tag in (0x00080020, 0x00100030):
            if _text(elements, tag).strip() and _date(elements, tag) is None:
                self.note("bad-date")


def _syntax_of(stream: framing.CodeStream) -> str:
    """Give the transfer syntax that a frame's own header suggests, for a file that names none."""
    if stream.family == "jpeg2000":
        return "1.2.840.10008.1.2.4.91"
    if stream.family == "jpeg-ls":
        return "1.2.840.10008.1.2.4.81"
    return {0xC0: "1.2.840.10008.1.2.4.50", 0xC3: "1.2.840.10008.1.2.4.70"}.get(
        stream.process, "1.2.840.10008.1.2.4.51"
    )


def _made(elements: dict[Any, Any], explicit: bool, little: bool) -> Dataset:
    dataset = Dataset(elements)
    dataset.set_original_encoding(not explicit, little, ["utf_8"])
    return dataset


def _printable(value: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in value[:80])


# -- typed attributes -------------------------------------------------------------------------------------------------


def _raw(elements: dict[Any, Any], tag: int) -> bytes:
    found = elements.get(tag)
    return (found.value or b"") if isinstance(found, RawDataElement) else b""


def _text(elements: dict[Any, Any], tag: int) -> str:
    return _raw(elements, tag).decode("utf-8", "replace").replace("\0", "").rstrip(" ")


def _first(elements: dict[Any, Any], tag: int) -> str:
    return _text(elements, tag).split("\\")[0].strip()


def _date(elements: dict[Any, Any], tag: int) -> date | None:
    value = _first(elements, tag).replace(".", "").replace("-", "").replace("/", "")
    if not re.fullmatch(r"[0-9]{8}", value, re.ASCII):
        return None
    try:
        return date(int(value[:4]), int(value[4:6]), int(value[6:]))
    except ValueError:
        return None


def _time(elements: dict[Any, Any], tag: int) -> str:
    value = _first(elements, tag).replace(":", "")
    return value if re.fullmatch(r"[0-9]{2,6}(\.[0-9]{1,6})?", value, re.ASCII) else ""


def _integer(elements: dict[Any, Any], tag: int) -> int | None:
    value = _first(elements, tag)
    if not re.fullmatch(r"[+-]?[0-9]{1,12}(\.0*)?", value, re.ASCII):
        return None
    number = int(value.split(".")[0])
    return number if -(1 << 31) <= number < 1 << 31 else None


def _floats(elements: dict[Any, Any], tag: int) -> tuple[float, ...]:
    out = []
    for part in _text(elements, tag).split("\\")[:16]:
        try:
            number = float(part)
        except ValueError:
            return ()
        if not abs(number) < 1e30:  # also not a number
            return ()
        out.append(number)
    return tuple(out)


def _float(elements: dict[Any, Any], tag: int) -> float | None:
    return next(iter(_floats(elements, tag)), None)


def _short(elements: dict[Any, Any], tag: int) -> int | None:
    found = elements.get(tag)
    if not isinstance(found, RawDataElement) or not found.value or len(found.value) < 2:
        return None
    return int.from_bytes(found.value[:2], "little" if found.is_little_endian else "big")


def _patient(e: dict[Any, Any], name: RepairedText | None) -> PatientAttributes:
    sex = _first(e, 0x00100040).upper()
    return PatientAttributes(
        patient_id=_text(e, 0x00100020).strip(),
        issuer=_first(e, 0x00100021),
        name=_text(e, 0x00100010).split("\\")[0].strip(),
        name_flagged=name is not None and name.flagged,
        name_charset=name.charset if name is not None else "ISO_IR 6",
        sex=sex if sex in ("M", "F", "O") else "",
        birth_date=_date(e, 0x00100030),
        age=parse_age(_first(e, 0x00101010)),
        other_ids=tuple(v for p in _text(e, 0x00101000).split("\\") if (v := p.strip())),
    )


def _study(e: dict[Any, Any]) -> StudyAttributes:
    return StudyAttributes(
        study_id=_first(e, 0x00200010),
        study_date=_date(e, 0x00080020),
        study_time=_time(e, 0x00080030),
        timezone_offset=_first(e, 0x00080201),
        accession_number=_first(e, 0x00080050),
        description=_text(e, 0x00081030).strip(),
        referring_physician=_first(e, 0x00080090),
        institution=_first(e, 0x00080080),
        department=_first(e, 0x00081040),
        admission_id=_first(e, 0x00380010),
        requested_procedure=_first(e, 0x00321060),
    )


def _series(e: dict[Any, Any]) -> SeriesAttributes:
    return SeriesAttributes(
        modality=_first(e, 0x00080060).upper(),
        number=_integer(e, 0x00200011),
        description=_text(e, 0x0008103E).strip(),
        series_date=_date(e, 0x00080021),
        series_time=_time(e, 0x00080031),
        body_part=_first(e, 0x00180015),
        laterality=_first(e, 0x00200060) or _first(e, 0x00200062),
        protocol=_first(e, 0x00181030),
        manufacturer=_first(e, 0x00080070),
        model=_first(e, 0x00081090),
        station=_first(e, 0x00081010),
        device_serial=_first(e, 0x00181000),
        patient_position=_first(e, 0x00185100),
        view_position=_first(e, 0x00185101),
        frame_of_reference_uid=_first(e, 0x00200052),
        procedure_step_date=_date(e, 0x00400244),
        procedure_step_time=_time(e, 0x00400245),
        performing_physician=_first(e, 0x00081050),
    )


def _instance(e: dict[Any, Any]) -> InstanceAttributes:
    return InstanceAttributes(
        number=_integer(e, 0x00200013),
        acquisition_number=_integer(e, 0x00200012),
        acquisition_date=_date(e, 0x00080022),
        acquisition_time=_time(e, 0x00080032),
        content_date=_date(e, 0x00080023),
        content_time=_time(e, 0x00080033),
        image_type=tuple(p.strip() for p in _text(e, 0x00080008).split("\\") if p.strip()),
        rows=_short(e, 0x00280010),
        columns=_short(e, 0x00280011),
        samples_per_pixel=_short(e, 0x00280002),
        bits_allocated=_short(e, 0x00280100),
        bits_stored=_short(e, 0x00280101),
        pixel_representation=_short(e, 0x00280103),
        photometric=_first(e, 0x00280004),
        window_center=_float(e, 0x00281050),
        window_width=_float(e, 0x00281051),
        image_position=_floats(e, 0x00200032),
        image_orientation=_floats(e, 0x00200037),
        pixel_spacing=_floats(e, 0x00280030) or _floats(e, 0x00181164),
        slice_location=_float(e, 0x00201041),
        slice_thickness=_float(e, 0x00180050),
        lossy=_first(e, 0x00282110) == "01",
        burned_in_annotation=_first(e, 0x00280301),
    )


def _with_frames(info: InstanceAttributes, frames: FrameIndex) -> InstanceAttributes:
    object.__setattr__(info, "frames", frames.count)  # just made, not yet handed out
    return info


def _referenced(elements: dict[Any, Any]) -> tuple[tuple[str, ...], ...]:
    """List the files that a DICOMDIR names (PS3.3 F.3.2.2, Referenced File ID)."""
    records = elements.get(0x00041220)
    if not isinstance(records, DataElement) or records.VR != "SQ":
        return ()
    out = []
    for item in records.value:
        parts = tuple(p.strip() for p in _text(item._dict, 0x00041500).split("\\") if p.strip())
        if parts:
            out.append(parts)
    return tuple(out)
