"""Decoding of single frames, native and compressed, with a limit on what a code stream may claim.

pydicom has no decoder of its own for JPEG Lossless and HTJ2K and does not use imagecodecs by itself. ``register()``
makes imagecodecs a plugin of pydicom's decoders; ``decode_frame`` is the hub's own way, which never looks at more than
one frame and refuses a frame by its header before a decoder allocates anything (PS3.5 section 8 and annex A.4).
"""

from __future__ import annotations

import math
import struct
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import convert_color_space
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.pixels.utils import expand_ybr422
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pydicom.uid import JPEG2000 as J2K_ANY

Frame = npt.NDArray[Any]

_unraisable = threading.Lock()

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
"""Default limit for one decoded frame; a stitched full-spine radiograph takes about 60 MB."""

_NATIVE: Final = frozenset(
    map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))
)
_JPEG: Final = frozenset(map(str, (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1)))
_JPEG_LS: Final = frozenset(map(str, (JPEGLSLossless, JPEGLSNearLossless)))
_J2K: Final = frozenset(map(str, (JPEG2000Lossless, J2K_ANY)))
_HTJ2K: Final = frozenset(map(str, (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)))
_LOSSLESS_JPEG: Final = frozenset(map(str, (JPEGLossless, JPEGLosslessSV1)))

DECODABLE: Final = _NATIVE | _JPEG | _JPEG_LS | _J2K | _HTJ2K | {str(RLELossless)}
"""Transfer syntax UIDs whose frames this module decodes."""


class FrameError(Exception):
    """A frame could not be had.

    Attributes:
        code: one of ``too-large``, ``broken-stream``, ``size-mismatch``, ``truncated``, ``unsupported-syntax``,
            ``unsupported-pixels``, ``no-pixels``.
        reason: an English sentence part without patient data, fit for a log.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class FrameTooLarge(FrameError):
    """The frame would decode to more than the limit. Nothing was decoded."""

    def __init__(self, reason: str) -> None:
        super().__init__("too-large", reason)


class FrameUndecodable(FrameError):
    """The frame is broken, of another size than declared, or in a format that has no decoder here."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the header of a code stream says of itself.

    Attributes:
        rows, columns, components: size of the image.
        precision: bits of a sample (largest component).
        signed: JPEG 2000 only; whether samples are signed.
        color: ``"rgb"``, ``"ybr"`` or ``""`` (the stream does not say; the data set decides).
    """

    rows: int
    columns: int
    components: int
    precision: int
    signed: bool = False
    color: str = ""

    @property
    def decoded_bytes(self) -> int:
        """Size of the decoded samples in whole bytes each."""
        return self.rows * self.columns * self.components * max(1, math.ceil(self.precision / 8))


# --------------------------------------------------------------------------------------------- headers


def _jpeg_info(data: bytes) -> StreamInfo:
    """Read the frame header of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    if data[:2] != b"\xff\xd8":
        raise FrameUndecodable("broken-stream", "not a JPEG stream")
    offset, color = 2, ""
    while offset + 4 <= len(data):
        if data[offset] != 0xFF:
            raise FrameUndecodable("broken-stream", "a JPEG marker is missing")
        marker = data[offset + 1]
        if marker == 0xFF:  # fill byte
            offset += 1
            continue
        length = int.from_bytes(data[offset + 2 : offset + 4], "big")
        body = data[offset + 4 : offset + 2 + length]
        if marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            color = "ybr" if body[11] else "rgb"
        elif marker == 0xE0 and body[:4] == b"JFIF" and not color:
            color = "ybr"
        elif marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            if len(body) < 6:
                break
            precision, rows, columns, components = struct.unpack(">BHHB", body[:6])
            if body[6::3][:3] in (b"RGB", b"rgb"):
                color = "rgb"
            return StreamInfo(rows, columns, components, precision, color=color)
        elif marker in (0xDA, 0xD9):
            break
        offset += 2 + max(length, 2)
    raise FrameUndecodable("broken-stream", "no JPEG frame header")


def _j2k_info(data: bytes) -> StreamInfo:
    """Read the SIZ segment of a JPEG 2000 or HTJ2K stream, bare or inside JP2 boxes (ISO/IEC 15444-1 A.5.1, I.4)."""
    offset = 0
    if data[4:8] == b"jP  ":
        while True:
            header = data[offset : offset + 16]
            if len(header) < 8:
                raise FrameUndecodable("broken-stream", "no code stream in the JP2 file")
            length = int.from_bytes(header[:4], "big")
            start = 8
            if length == 1:
                length, start = int.from_bytes(header[8:16], "big"), 16
            if header[4:8] == b"jp2c":
                offset += start
                break
            if length < 8:
                raise FrameUndecodable("broken-stream", "a JP2 box is broken")
            offset += length
    siz = data[offset : offset + 42]
    if len(siz) < 42 or siz[:4] != b"\xff\x4f\xff\x51":
        raise FrameUndecodable("broken-stream", "not a JPEG 2000 code stream")
    x1, y1, x0, y0 = struct.unpack(">4I", siz[8:24])
    tile_w, tile_h, tile_x, tile_y = struct.unpack(">4I", siz[24:40])
    components = int.from_bytes(siz[40:42], "big")
    parts = data[offset + 42 : offset + 42 + 3 * components]
    depths = parts[::3]
    # A tile grid that begins behind the image sends decoders into endless loops.
    sound = (
        0 < components <= 16384
        and len(parts) == 3 * components
        and x1 > x0
        and y1 > y0
        and tile_x <= x0 < tile_x + tile_w
        and tile_y <= y0 < tile_y + tile_h
        and math.ceil((x1 - tile_x) / tile_w) * math.ceil((y1 - tile_y) / tile_h) <= 65535
        and 0 not in parts[1::3]
        and 0 not in parts[2::3]
    )
    if not sound:
        raise FrameUndecodable("broken-stream", "the JPEG 2000 size segment is broken")
    precision = max((depth & 0x7F) + 1 for depth in depths)
    return StreamInfo(y1 - y0, x1 - x0, components, precision, signed=bool(depths[0] & 0x80))


def stream_info(data: bytes, transfer_syntax: str) -> StreamInfo | None:
    """Read the header of a compressed frame without decoding it.

    Returns:
        None for native and RLE frames, which have no header of their own.

    Raises:
        FrameUndecodable: the header cannot be read.
    """
    syntax = str(transfer_syntax)
    if syntax in _JPEG or syntax in _JPEG_LS:
        return _jpeg_info(data)
    if syntax in _J2K or syntax in _HTJ2K:
        return _j2k_info(data)
    return None


# --------------------------------------------------------------------------------------------- decoding


def _check_size(size: int, max_bytes: int, what: str) -> None:
    if size > max_bytes:
        raise FrameTooLarge(f"{what} of {size} bytes, the limit is {max_bytes}")


def _transformed(data: bytes) -> bool:
    """Whether a bare code stream has a transform between its components (ISO/IEC 15444-1 A.6.1)."""
    offset = 2
    while offset + 9 <= len(data) and data[offset] == 0xFF and data[offset + 1] != 0x90:
        if data[offset + 1] == 0x52:
            return bool(data[offset + 8])
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return True


def _decode_htj2k(data: bytes, info: StreamInfo) -> Frame:
    """Decode HTJ2K, and notice when it fails half-way.

    imagecodecs reports an error of the last stage as "unraisable" only and returns what happens to be in memory: the
    hook catches that, and the picture starts out as zeros. What a cut stream lacks is left blank without a word: the
    end marker must be there (ISO/IEC 15444-1 A.4.4).
    """
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        raise FrameUndecodable("truncated", "the code stream has no end")
    shape = (info.rows, info.columns) if info.components == 1 else (info.rows, info.columns, info.components)
    width = next(size for size in (1, 2, 4, 8) if 8 * size >= info.precision)
    out = np.zeros(shape, dtype=f"{'i' if info.signed else 'u'}{width}")
    planes: Frame | None = None
    if info.components > 1 and not _transformed(data):
        # Without a transform between the components the library gives plane after plane.
        planes = np.zeros((info.components, info.rows, info.columns), dtype=out.dtype)
    failures: list[str] = []
    thread = threading.get_ident()

    def notice(event: Any) -> None:
        if threading.get_ident() == thread:
            failures.append(str(event.exc_value))
        else:
            previous(event)

    with _unraisable:
        previous, printer = sys.unraisablehook, sys.excepthook
        sys.unraisablehook = notice
        sys.excepthook = lambda *_: None  # else the library prints the same error a second time
        try:
            imagecodecs.htj2k_decode(data, out=planes if planes is not None else out)
        finally:
            sys.unraisablehook, sys.excepthook = previous, printer
    if failures:
        raise FrameUndecodable("broken-stream", failures[0][:160])
    return out if planes is None else np.moveaxis(planes, 0, 2)


def _decode_stream(data: bytes, syntax: str, info: StreamInfo) -> Frame:
    """Decode one code stream to (rows, columns) or (rows, columns, samples), without a change of colour space."""
    try:
        if syntax in _JPEG:
            space = "YCBCR" if info.components == 3 else None
            return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace=space))
        if syntax in _JPEG_LS:
            if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
                # Without an end marker the decoder counts its way through 2³¹ bits before it gives up.
                data = data + b"\xff\xd9"
            decoded = np.asarray(imagecodecs.jpegls_decode(data))
            if decoded.ndim == 3 and decoded.shape[0] == info.components and decoded.shape[2] != info.components:
                decoded = np.moveaxis(decoded, 0, 2)
            return decoded
        if syntax in _J2K:
            return np.asarray(imagecodecs.jpeg2k_decode(data))
        return _decode_htj2k(data, info)
    except FrameError:
        raise
    except MemoryError as error:
        raise FrameTooLarge(f"no memory for {info.decoded_bytes} bytes") from error
    except Exception as error:  # decoders raise types of their own, one for each library
        text = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise FrameUndecodable("broken-stream", text) from error


def _unpack_rle(data: bytes, size: int) -> bytearray:
    """Undo PackBits, never writing more than `size` bytes (PS3.5 G.3.2)."""
    out = bytearray()
    offset, end = 0, len(data)
    while offset < end and len(out) < size:
        control = data[offset]
        if control < 128:
            out += data[offset + 1 : offset + 2 + control]
            offset += 2 + control
        elif control > 128:
            out += data[offset + 1 : offset + 2] * (257 - control)
            offset += 2
        else:
            offset += 1
    if len(out) < size:
        raise FrameUndecodable("truncated", f"an RLE segment holds {len(out)} of {size} bytes")
    return out[:size]


def _decode_rle(data: bytes, rows: int, columns: int, samples: int, bits_allocated: int) -> Frame:
    """Decode an RLE frame to (rows, columns, samples) of unsigned samples (PS3.5 annex G)."""
    if len(data) < 64 or bits_allocated not in (8, 16, 32):
        raise FrameUndecodable("broken-stream", "not an RLE frame")
    width = bits_allocated // 8
    count, *offsets = struct.unpack("<16L", data[:64])
    if count != samples * width:
        raise FrameUndecodable("broken-stream", f"{count} RLE segments where {samples * width} belong")
    bounds = [*offsets[:count], len(data)]
    planes = np.empty((samples, rows * columns, width), dtype=np.uint8)
    for index in range(count):
        start, end = bounds[index], bounds[index + 1]
        if not 64 <= start <= end <= len(data):
            raise FrameUndecodable("broken-stream", "the RLE offsets are broken")
        plane = np.frombuffer(_unpack_rle(data[start:end], rows * columns), dtype=np.uint8)
        planes[index // width, :, width - 1 - index % width] = plane  # most significant byte first
    array = planes.view(f"<u{width}").reshape(samples, rows, columns)
    return np.moveaxis(array, 0, 2)


def _fit(array: Frame, *, precision: int, signed: bool, bits_allocated: int) -> Frame:
    """Cut samples to `precision` bits and give them the sign and the container that the data set declares."""
    width = max(1, math.ceil(max(bits_allocated, precision) / 8))
    width = next((size for size in (1, 2, 4, 8) if size >= width), 8)
    wide = array.astype(f"<i{width}" if signed else f"<u{width}", copy=False)
    shift = 8 * width - precision
    if shift > 0:
        # Overlays may lie in the unused bits, and a signed sample may come without its sign extended (PS3.5 8.1.1).
        wide = np.right_shift(np.left_shift(wide, shift), shift)
    return wide


def _rgb(array: Frame, photometric: str, color: str) -> Frame:
    """Bring three samples to RGB where the data set, or the code stream more surely, calls them YBR."""
    ybr = color == "ybr" or (not color and photometric.startswith("YBR_FULL"))
    if ybr and array.dtype == np.uint8:
        return np.asarray(convert_color_space(array, "YBR_FULL", "RGB"))
    return array


def decode_frame(
    data: bytes,
    *,
    transfer_syntax: str,
    rows: int,
    columns: int,
    samples: int = 1,
    bits_allocated: int = 16,
    bits_stored: int | None = None,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    planar: int = 0,
    high_bit: int | None = None,
    to_rgb: bool = True,
    max_bytes: int = MAX_FRAME_BYTES,
) -> Frame:
    """Decode one frame.

    Args:
        data: the frame's bytes: the joined fragments of an encapsulated frame, or native bytes.
        transfer_syntax: UID of the transfer syntax of `data`.
        rows, columns, samples: size the data set declares.
        bits_allocated, bits_stored, signed, high_bit: the pixel cell of the data set; `bits_stored` None means all.
        photometric: Photometric Interpretation of the data set.
        planar: Planar Configuration, used for native frames.
        to_rgb: bring YBR_FULL and YBR_FULL_422 to RGB. YBR_RCT and YBR_ICT always come out as RGB.
        max_bytes: limit for the decoded frame.

    Returns:
        A new array (rows, columns) for one sample, (rows, columns, samples) for more; little endian integers of
        `bits_allocated` bits, signed as declared.

    Raises:
        FrameTooLarge: the data set or the code stream claims more than `max_bytes`; nothing was decoded.
        FrameUndecodable: anything else that stands against decoding; `code` and `reason` say what.
    """
    syntax = str(transfer_syntax)
    bits_stored = bits_stored or bits_allocated
    if syntax in _NATIVE:
        return native_frame(
            data,
            rows=rows,
            columns=columns,
            samples=samples,
            bits_allocated=bits_allocated,
            bits_stored=bits_stored,
            signed=signed,
            photometric=photometric,
            planar=planar,
            high_bit=high_bit,
            big_endian=syntax == str(ExplicitVRBigEndian),
            to_rgb=to_rgb,
            max_bytes=max_bytes,
        )
    if syntax not in DECODABLE:
        raise FrameUndecodable("unsupported-syntax", f"no decoder for transfer syntax {syntax[:64]}")
    _check_cell(rows, columns, samples, bits_allocated, bits_stored)
    _check_size(rows * columns * samples * max(1, bits_allocated // 8), max_bytes, "a frame")
    color = ""
    if syntax == str(RLELossless):
        array = _decode_rle(data, rows, columns, samples, bits_allocated)
        precision = bits_stored
    else:
        info = stream_info(data, syntax)
        assert info is not None
        _check_size(info.decoded_bytes, max_bytes, "a code stream")
        if (info.rows, info.columns, info.components) != (rows, columns, samples):
            raise FrameUndecodable(
                "size-mismatch",
                f"the code stream is {info.columns}x{info.rows}x{info.components}, "
                f"the data set says {columns}x{rows}x{samples}",
            )
        array = _decode_stream(data, syntax, info)
        # The stream's own precision decides, save in JPEG, which codes the sign of a 12-bit sample as 16 bits.
        precision = bits_stored if syntax in _LOSSLESS_JPEG and signed else info.precision
        color = "rgb" if syntax in _J2K or syntax in _HTJ2K or syntax in _LOSSLESS_JPEG else info.color
    array = array.reshape(rows, columns, samples) if array.size == rows * columns * samples else array
    if array.shape != (rows, columns, samples):
        raise FrameUndecodable("size-mismatch", f"decoded to {array.shape}")
    array = _fit(array, precision=precision, signed=signed, bits_allocated=bits_allocated)
    if samples == 1:
        array = array[:, :, 0]
    elif samples == 3 and to_rgb:
        array = _rgb(array, photometric, color)
    return np.ascontiguousarray(array)


def native_frame(
    data: bytes | memoryview,
    *,
    rows: int,
    columns: int,
    samples: int = 1,
    bits_allocated: int = 16,
    bits_stored: int | None = None,
    signed: bool = False,
    photometric: str = "MONOCHROME2",
    planar: int = 0,
    high_bit: int | None = None,
    big_endian: bool = False,
    to_rgb: bool = True,
    max_bytes: int = MAX_FRAME_BYTES,
) -> Frame:
    """Shape the bytes of one uncompressed frame (PS3.5 section 8.1.1, PS3.3 C.7.6.3).

    Args, result and errors as `decode_frame`. Padding behind the frame is ignored. One-bit frames must start on a byte.
    """
    bits_stored = bits_stored or bits_allocated
    _check_cell(rows, columns, samples, bits_allocated, bits_stored)
    count = rows * columns * samples
    subsampled = photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") and samples == 3 and bits_allocated == 8
    needed = native_frame_bytes(rows, columns, samples, bits_allocated, photometric)
    # Some devices declare YBR_FULL_422 and yet write every sample.
    if subsampled and len(data) >= count:
        subsampled, needed = False, count
    _check_size(max(count * max(1, bits_allocated // 8), needed), max_bytes, "a frame")
    if len(data) < needed:
        raise FrameUndecodable("truncated", f"{len(data)} of {needed} bytes of the frame are there")
    cell = data[:needed]
    if bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(cell, dtype=np.uint8), bitorder="little")[:count]
        return bits.reshape(rows, columns)
    if subsampled:
        array = np.frombuffer(expand_ybr422(bytes(cell), 8), dtype=np.uint8).reshape(rows, columns, 3)
    else:
        order = ">" if big_endian else "<"
        flat = np.frombuffer(cell, dtype=f"{order}u{bits_allocated // 8}")
        if samples > 1 and planar == 1:
            array = np.moveaxis(flat.reshape(samples, rows, columns), 0, 2)
        else:
            array = flat.reshape(rows, columns, samples)
    if high_bit is not None and bits_stored <= high_bit + 1 <= bits_allocated and high_bit + 1 > bits_stored:
        array = np.right_shift(array, high_bit + 1 - bits_stored)
    array = _fit(array, precision=bits_stored, signed=signed, bits_allocated=bits_allocated)
    if samples == 1:
        return np.array(array.reshape(rows, columns))
    if samples == 3 and to_rgb:
        array = _rgb(array, photometric, "")
    return np.ascontiguousarray(array).copy()


def native_frame_bytes(rows: int, columns: int, samples: int, bits_allocated: int, photometric: str) -> int:
    """Length of one uncompressed frame in bytes, one-bit frames rounded up (PS3.5 section 8.1.1)."""
    bits = rows * columns * samples * bits_allocated
    if photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") and samples == 3:
        bits = bits // 3 * 2
    return (bits + 7) // 8


def _check_cell(rows: int, columns: int, samples: int, bits_allocated: int, bits_stored: int) -> None:
    if rows < 1 or columns < 1:
        raise FrameUndecodable("no-pixels", "the data set has no rows or no columns")
    if samples not in (1, 3, 4) or bits_allocated not in (1, 8, 16, 32) or not 1 <= bits_stored <= bits_allocated:
        raise FrameUndecodable(
            "unsupported-pixels", f"{samples} samples of {bits_stored} bits in {bits_allocated} have no meaning here"
        )
    if bits_allocated == 1 and samples != 1:
        raise FrameUndecodable("unsupported-pixels", "one-bit samples in colour")


# --------------------------------------------------------------------------------------------- data sets


def frame_parameters(header: Dataset, transfer_syntax: str) -> dict[str, Any]:
    """Collect the keyword arguments of `decode_frame` from a data set (PS3.3 C.7.6.3).

    Raises:
        FrameUndecodable: an attribute is missing or is no number.
    """
    try:
        return {
            "transfer_syntax": str(transfer_syntax),
            "rows": int(header.Rows),
            "columns": int(header.Columns),
            "samples": int(header.get("SamplesPerPixel") or 1),
            "bits_allocated": int(header.BitsAllocated),
            "bits_stored": int(header.get("BitsStored") or header.BitsAllocated),
            "signed": bool(header.get("PixelRepresentation") or 0),
            "photometric": str(header.get("PhotometricInterpretation") or "MONOCHROME2").strip().upper(),
            "planar": int(header.get("PlanarConfiguration") or 0),
            "high_bit": None if header.get("HighBit") is None else int(header.HighBit),
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise FrameUndecodable("no-pixels", "the data set does not describe its pixels") from error


def frame_of(dataset: Dataset, index: int = 0, *, max_bytes: int = MAX_FRAME_BYTES) -> Frame:
    """Decode frame `index` (from 0) of a data set that holds its Pixel Data.

    Raises:
        FrameTooLarge, FrameUndecodable: as `decode_frame`; also where there is no such frame.
    """
    meta = getattr(dataset, "file_meta", None)
    syntax = str(getattr(meta, "TransferSyntaxUID", "") or ImplicitVRLittleEndian)
    parameters = frame_parameters(dataset, syntax)
    try:
        pixels = dataset.PixelData
        count = int(dataset.get("NumberOfFrames") or 1)
    except (AttributeError, TypeError, ValueError) as error:
        raise FrameUndecodable("no-pixels", "there is no Pixel Data") from error
    if not 0 <= index < count:
        raise FrameUndecodable("no-pixels", f"there is no frame {index + 1}")
    if syntax in _NATIVE:
        if syntax == str(ExplicitVRBigEndian) and parameters["bits_allocated"] == 8 and dataset["PixelData"].VR == "OW":
            # Bytes written as big endian words lie swapped (PS3.5 section 7.3).
            pixels = np.frombuffer(pixels[: len(pixels) // 2 * 2], dtype=">u2").astype("<u2").tobytes()
        length = native_frame_bytes(
            parameters["rows"],
            parameters["columns"],
            parameters["samples"],
            parameters["bits_allocated"],
            parameters["photometric"],
        )
        if count == 1:  # lets native_frame see a mislabelled YBR_FULL_422
            return decode_frame(pixels, **parameters, max_bytes=max_bytes)
        return decode_frame(
            bytes(memoryview(pixels)[index * length : (index + 1) * length]), **parameters, max_bytes=max_bytes
        )
    try:
        data = get_frame(pixels, index, number_of_frames=count)
    except Exception as error:  # pydicom raises ValueError, struct.error, EOFError by the kind of damage
        raise FrameUndecodable("broken-stream", "the encapsulation of the pixel data is broken") from error
    return decode_frame(data, **parameters, max_bytes=max_bytes)


# --------------------------------------------------------------------------------------------- encoding


def encode_htj2k(frame: Frame) -> bytes:
    """Encode a frame as HTJ2K Lossless, RPCL progression (1.2.840.10008.1.2.4.201).

    Args:
        frame: integers of 8 or 16 bits, (rows, columns) or (rows, columns, 3). Colour is transformed reversibly: its
            data set must say YBR_RCT and Planar Configuration 0 (PS3.5 A.4.4, PS3.3 C.7.6.3.1.2).

    Returns:
        The code stream, without padding to even length.

    Raises:
        FrameUndecodable: the samples are of another kind than the above.
    """
    color = frame.ndim == 3
    if frame.dtype.kind not in "iu" or frame.dtype.itemsize > 2 or frame.ndim not in (2, 3) or 0 in frame.shape:
        raise FrameUndecodable("unsupported-pixels", f"HTJ2K of {frame.dtype} {frame.shape}")
    if color and frame.shape[2] != 3:
        raise FrameUndecodable("unsupported-pixels", f"HTJ2K of {frame.shape[2]} samples")
    array = np.ascontiguousarray(frame, dtype=frame.dtype.newbyteorder("="))
    return bytes(imagecodecs.htj2k_encode(array, rgb=True) if color else imagecodecs.htj2k_encode(array))


# --------------------------------------------------------------------------------------------- pydicom's plugin

_PLUGIN: Final = "imagecodecs"
_PLUGIN_SYNTAXES: Final = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    JPEG2000Lossless,
    J2K_ANY,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    HTJ2K,
)
DECODER_DEPENDENCIES: Final = dict.fromkeys(_PLUGIN_SYNTAXES, ("numpy", "imagecodecs"))
_registering = threading.Lock()


def is_available(uid: str) -> bool:
    """Whether this plugin decodes `uid`; pydicom asks this of every plugin."""
    return str(uid) in {str(syntax) for syntax in _PLUGIN_SYNTAXES}


def _decode_for_pydicom(src: bytes, runner: DecodeRunner) -> bytes:
    """Decode one frame on behalf of a pydicom decoder, which does sign and colour itself."""
    syntax = str(runner.transfer_syntax)
    info = stream_info(src, syntax)
    assert info is not None
    _check_size(info.decoded_bytes, MAX_FRAME_BYTES, "a code stream")
    expected = (runner.rows, runner.columns, runner.samples_per_pixel)
    if (info.rows, info.columns, info.components) != expected:
        raise FrameUndecodable("size-mismatch", "the code stream is of another size than the data set")
    array = _decode_stream(src, syntax, info)
    width = array.dtype.itemsize
    if info.components > 1:
        runner.set_option("planar_configuration", 0)
        photometric = str(runner.photometric_interpretation)
        if photometric in ("YBR_ICT", "YBR_RCT") or info.color == "rgb":
            runner.set_option("photometric_interpretation", "RGB")
        elif info.color == "ybr" and syntax not in _LOSSLESS_JPEG and not photometric.startswith("YBR"):
            runner.set_option("photometric_interpretation", "YBR_FULL")
    runner.set_option("bits_allocated", 8 * width)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()


def register() -> None:
    """Make imagecodecs a decoding plugin of pydicom. May be called any number of times, from any thread."""
    from pydicom.pixels.decoders.base import get_decoder

    with _registering:
        for syntax in _PLUGIN_SYNTAXES:
            decoder = get_decoder(UID(syntax))
            if _PLUGIN not in decoder.available_plugins:
                decoder.add_plugin(_PLUGIN, (__name__, "_decode_for_pydicom"))
