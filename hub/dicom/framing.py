"""Where each frame lies in a stored object, so that a frame is a range read and not a parse (PS3.5 §8, §A.4)."""

from __future__ import annotations

import itertools
import mmap
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from hub.dicom.errors import DicomRefused

Buffer = bytes | memoryview | mmap.mmap
Segment = tuple[int, int]

_ITEM: Final = 0xE000
_SEQ_END: Final = 0xE0DD
_J2K: Final = b"\xff\x4f\xff\x51"


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Frames of one instance as byte ranges.

    Attributes:
        kind: ``none`` (no pixels), ``native`` (equal slices of one element) or ``encapsulated`` (fragments).
        base: What offsets count from: ``file``, or ``inflated`` for a deflated transfer syntax, where a frame cannot
            be had by range and offsets are in the inflated data set.
        count: Number of frames.
        start: Native only: offset of the first frame in bytes.
        frame_bits: Native only: size of a frame in bits (1-bit images need not end on a byte).
        segments: Encapsulated only: per frame, its fragments as (offset, length), item headers left out.
    """

    kind: Literal["none", "native", "encapsulated"] = "none"
    base: Literal["file", "inflated"] = "file"
    count: int = 0
    start: int = 0
    frame_bits: int = 0
    segments: tuple[tuple[Segment, ...], ...] = ()

    def __len__(self) -> int:
        return self.count

    def frame(self, number: int) -> tuple[Segment, ...]:
        """Give the byte ranges of a frame.

        Args:
            number: Counted from 0.

        Returns:
            (offset, length) pairs to be read and joined. For 1-bit native images the range covers the frame's bits;
            `first_bit` says where in its first byte they begin.

        Raises:
            IndexError: There is no such frame.
        """
        if not 0 <= number < self.count:
            raise IndexError(number)
        if self.kind == "native":
            first = number * self.frame_bits
            return ((self.start + first // 8, (first + self.frame_bits + 7) // 8 - first // 8),)
        return self.segments[number]

    def first_bit(self, number: int) -> int:
        """Give the bit within the first byte where a native frame begins (0 unless 1-bit pixels)."""
        return (number * self.frame_bits) % 8

    def to_bytes(self) -> bytes:
        """Serialise: about 4 bytes a frame."""
        out = bytearray([1, ("none", "native", "encapsulated").index(self.kind), self.base == "inflated"])
        _put(out, self.count)
        if self.kind == "native":
            _put(out, self.start)
            _put(out, self.frame_bits)
        elif self.kind == "encapsulated":
            end = 0
            for parts in self.segments:
                _put(out, len(parts))
                for offset, length in parts:
                    # Fragments mostly follow one another with 8 bytes between: the zigzag distance is one byte.
                    step = offset - end
                    _put(out, step * 2 if step >= 0 else -step * 2 - 1)
                    _put(out, length)
                    end = offset + length
        return bytes(out)

    @classmethod
    def from_bytes(cls, data: bytes) -> FrameIndex:
        """Read back what `to_bytes` wrote.

        Raises:
            ValueError: Other bytes.
        """
        try:
            if data[0] != 1:
                raise ValueError("unknown version of a frame index")
            kinds: tuple[Literal["none", "native", "encapsulated"], ...] = ("none", "native", "encapsulated")
            kind = kinds[data[1]]
            base: Literal["file", "inflated"] = "inflated" if data[2] else "file"
            count, pos = _get(data, 3)
            if kind == "native":
                start, pos = _get(data, pos)
                bits, pos = _get(data, pos)
                return cls(kind, base, count, start, bits)
            frames: list[tuple[Segment, ...]] = []
            end = 0
            for _ in range(count):
                number, pos = _get(data, pos)
                parts: list[Segment] = []
                for _ in range(number):
                    step, pos = _get(data, pos)
                    length, pos = _get(data, pos)
                    offset = end + (step // 2 if step % 2 == 0 else -(step + 1) // 2)
                    parts.append((offset, length))
                    end = offset + length
                frames.append(tuple(parts))
        except IndexError as problem:
            raise ValueError("a frame index that ends too early") from problem
        return cls(kind, base, count, segments=tuple(frames))


def _put(out: bytearray, number: int) -> None:
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)


def _get(data: bytes, pos: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[pos]
        pos += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, pos
        shift += 7


def native_index(offset: int, length: int, *, frame_bits: int, frames: int) -> tuple[FrameIndex, list[str]]:
    """Index native pixel data.

    Args:
        offset: Where the value begins.
        length: Its length in bytes.
        frame_bits: Rows × Columns × samples × BitsAllocated, after chroma subsampling.
        frames: NumberOfFrames as declared.

    Returns:
        Index of the frames that are whole, and notes: ``pixel-data-short`` or ``pixel-data-long``.
    """
    if frame_bits <= 0:
        return FrameIndex("native", count=0, start=offset), ["no-image-size"]
    whole = length * 8 // frame_bits
    notes = []
    if whole < frames:
        notes.append("pixel-data-short")
    elif length > (frames * frame_bits + 7) // 8 + 1:
        notes.append("pixel-data-long")
    return FrameIndex("native", count=min(frames, whole), start=offset, frame_bits=frame_bits), notes


def scan_fragments(buf: Buffer, pos: int, end: int, *, limit: int) -> tuple[list[Segment], int, list[str]]:
    """Walk the items of encapsulated pixel data from header to header, reading none of the pixels (PS3.5 §A.4).

    Args:
        buf: File or inflated data set.
        pos: Just after the element's header.
        end: Where the data set ends.
        limit: Most items to accept.

    Returns:
        All items (the first is the Basic Offset Table), the position after the sequence, and notes.

    Raises:
        DicomRefused: A fragment reaches beyond the end, or what stands there is no item.
    """
    items: list[Segment] = []
    unpack = struct.Struct("<HHL").unpack_from
    notes: list[str] = []
    while True:
        if pos + 8 > end:
            if items and not any(buf[pos:end]):
                # All pixels are here; only the closing delimiter was lost.
                return items, end, [*notes, "no-sequence-delimiter"]
            raise DicomRefused("truncated", where=f"(7FE0,0010)+{pos}", expected=8, found=end - pos)
        group, element, length = unpack(buf, pos)
        pos += 8
        if group != 0xFFFE or element not in (_ITEM, _SEQ_END):
            if len(items) > 1 and bytes(buf[pos - 8 : pos - 3]) == b"\0\xfe\xff\xdd\xe0":
                # pydicom pads a fragment of odd length behind its item instead of within it.
                notes.append("odd-fragment")
                return items, pos + 1, notes
            if len(items) > 1:
                notes.append("no-sequence-delimiter")
                return items, pos - 8, notes
            raise DicomRefused("broken-structure", where=f"(7FE0,0010)+{pos - 8}", why="no item")
        if element == _SEQ_END:
            return items, pos, notes
        if length == 0xFFFFFFFF:
            raise DicomRefused("absurd-length", where=f"(7FE0,0010)+{pos - 8}", length=length)
        if pos + length > end:
            raise DicomRefused("truncated", where=f"(7FE0,0010)+{pos - 8}", expected=length, found=end - pos)
        items.append((pos, length))
        if len(items) > limit:
            raise DicomRefused("bomb", why="fragments", limit=limit)
        pos += length


def encapsulated_index(
    buf: Buffer,
    items: Sequence[Segment],
    *,
    frames: int,
    extended: Sequence[int] = (),
    one_fragment_each: bool = False,
    video: bool = False,
) -> tuple[FrameIndex, list[str]]:
    """Tell which fragments make which frame.

    Args:
        buf: What the offsets count in; only a few bytes at fragments' edges are looked at.
        items: As from `scan_fragments`, the first being the Basic Offset Table.
        frames: NumberOfFrames as declared.
        extended: Extended Offset Table, if any.
        one_fragment_each: RLE, where a frame is exactly one fragment.
        video: MPEG and the like, where all fragments are one stream and frames cannot be had singly.

    Returns:
        The index, and notes: ``bad-offset-table``, ``frames-missing``, ``frames-differ``.
    """
    notes: list[str] = []
    if not items:
        return FrameIndex("encapsulated"), ["no-frames"]
    table_at, table_length = items[0]
    fragments = list(items[1:])
    if not fragments:
        return FrameIndex("encapsulated"), ["no-frames"]
    if video:
        return FrameIndex("encapsulated", count=1, segments=(tuple(fragments),)), ["video-stream"]
    if frames == 1 and not one_fragment_each:
        return _built([fragments]), notes
    if len(fragments) == frames:
        return _built([[f] for f in fragments]), notes
    if one_fragment_each:
        notes.append("frames-missing" if len(fragments) < frames else "frames-differ")
        return _built([[f] for f in fragments[:frames]]), notes
    offsets: list[int] = list(extended)
    if not offsets and table_length >= 4:
        count = table_length // 4
        offsets = list(struct.unpack_from(f"<{count}L", buf, table_at))
    if offsets:
        grouped = _by_offsets(fragments, offsets, base=table_at + table_length)
        if grouped is not None:
            if len(grouped) != frames:
                notes.append("frames-missing" if len(grouped) < frames else "frames-differ")
            return _built(grouped[:frames]), notes
        notes.append("bad-offset-table")
    grouped = _by_markers(buf, fragments)
    if len(grouped) != frames:
        notes.append("frames-missing" if len(grouped) < frames else "frames-differ")
    return _built(grouped[:frames]), notes


def _built(frames: Sequence[Sequence[Segment]]) -> FrameIndex:
    return FrameIndex("encapsulated", count=len(frames), segments=tuple(tuple(f) for f in frames))


def _by_offsets(fragments: Sequence[Segment], offsets: Sequence[int], *, base: int) -> list[list[Segment]] | None:
    """Group by offset table; None where an offset is no fragment's item header."""
    starts = {f[0] - 8 - base: i for i, f in enumerate(fragments)}
    places = [starts.get(o) for o in offsets]
    if places[0] != 0 or any(p is None for p in places):
        return None
    cuts = [p for p in places if p is not None]
    if any(b <= a for a, b in itertools.pairwise(cuts)):
        return None
    return [list(fragments[a:b]) for a, b in zip(cuts, [*cuts[1:], len(fragments)], strict=True)]


def _by_markers(buf: Buffer, fragments: Sequence[Segment]) -> list[list[Segment]]:
    """Group by code streams: a frame begins where a JPEG, JPEG-LS or JPEG 2000 stream begins."""
    frames: list[list[Segment]] = []
    for offset, length in fragments:
        head = bytes(buf[offset : offset + min(length, 8)])
        starts = head[:3] == b"\xff\xd8\xff" or head[:4] == _J2K or head[4:] == b"jP  "
        if starts or not frames:
            frames.append([])
        frames[-1].append((offset, length))
    return frames


@dataclass(frozen=True, slots=True)
class CodeStream:
    """What a compressed frame says of itself.

    Attributes:
        family: ``jpeg``, ``jpeg-ls``, ``jpeg2000``.
        columns: Width in pixels.
        rows: Height in pixels.
        components: Samples per pixel.
        bits: Bits of a sample.
        process: JPEG's SOF marker (0xC0 to 0xCF, 0xF7), else 0.
    """

    family: Literal["jpeg", "jpeg-ls", "jpeg2000"]
    columns: int
    rows: int
    components: int
    bits: int
    process: int

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded frame in bytes."""
        return self.columns * self.rows * self.components * ((self.bits + 7) // 8)


def code_stream(buf: Buffer, offset: int, length: int) -> CodeStream | None:
    """Read a code stream's own size from its first header, a few hundred bytes at most; None if it has none."""
    end = offset + length
    head = bytes(buf[offset : min(end, offset + 64)])
    if head[:4] == _J2K and len(head) >= 43:
        width, height, x0, y0 = struct.unpack_from(">LLLL", head, 8)
        components = struct.unpack_from(">H", head, 40)[0]
        return CodeStream("jpeg2000", width - x0, height - y0, components, (head[42] & 0x7F) + 1, 0)
    if head[:2] != b"\xff\xd8":
        return None
    pos = offset + 2
    for _ in range(64):
        if pos + 4 > end or buf[pos] != 0xFF:
            return None
        marker = buf[pos + 1]
        if marker == 0xFF:
            pos += 1
            continue
        size = (buf[pos + 2] << 8) + buf[pos + 3]
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            part = bytes(buf[pos + 4 : pos + 10])
            if len(part) < 6:
                return None
            bits, height, width, components = struct.unpack(">BHHB", part)
            return CodeStream("jpeg-ls" if marker == 0xF7 else "jpeg", width, height, components, bits, marker)
        if marker in (0xD9, 0xDA) or size < 2:
            return None
        pos += 2 + size
    return None


#: What reads a byte range of a stored object.
RangeReader = Callable[[int, int], bytes]


def read_frame(index: FrameIndex, number: int, read: RangeReader) -> bytes:
    """Fetch one frame by its ranges and join its fragments.

    Args:
        index: As indexed at intake.
        number: Counted from 0.
        read: Gives `length` bytes at `offset`.
    """
    return b"".join(read(offset, length) for offset, length in index.frame(number))
