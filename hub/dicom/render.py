"""Previews: one frame of any image object as an 8-bit picture, the right way round and with a useful contrast.

The grey-scale pipeline is that of PS3.4 annex N.2: Modality LUT, VOI LUT, then the sense of the Photometric
Interpretation. Previews are for finding one's way; a diagnosis is made in the viewer on the original pixels.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pylopdf_fonts_zh_cn
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut

from hub.dicom.codecs import FrameError

Array = npt.NDArray[Any]
Window = tuple[float, float]

_INK: Final = 235
_DIM: Final = 150
_GROUND: Final = 24


# --------------------------------------------------------------------------------------------- reading attributes


def _number(value: Any) -> float | None:
    """First value as a finite number, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__iter__"):
        value = next(iter(value), None)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _pair(value: Any) -> tuple[float, float] | None:
    """Two positive finite numbers, or None. Some senders write 0 for a spacing they do not know."""
    try:
        first, second = (float(part) for part in value)
    except (TypeError, ValueError):
        return None
    return (first, second) if 0 < first < math.inf and 0 < second < math.inf else None


def _functional_group(header: Dataset, name: str, frame_number: int) -> Dataset | None:
    """Item of a functional group macro for one frame, per-frame before shared (PS3.3 C.7.6.16)."""
    try:
        per_frame = header.get("PerFrameFunctionalGroupsSequence") or []
        if 1 <= frame_number <= len(per_frame):
            items = per_frame[frame_number - 1].get(name)
            if items:
                return items[0]
        shared = header.get("SharedFunctionalGroupsSequence") or []
        items = shared[0].get(name) if shared else None
        return items[0] if items else None
    except (AttributeError, TypeError, IndexError):
        return None


@dataclass(frozen=True, slots=True)
class _Lut:
    """A look-up table of PS3.3 C.11.1.1: `entries`, the stored value of the first one, and the bits of an entry."""

    entries: Array
    first: int
    bits: int

    def apply(self, values: Array) -> Array:
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[index]


def _lut(item: Dataset | None, *, signed_input: bool) -> _Lut | None:
    """Read a LUT item; None where it is missing or makes no sense."""
    if item is None:
        return None
    try:
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        data = item.LUTData
    except (AttributeError, TypeError, ValueError):
        return None
    count = (count & 0xFFFF) or 0x10000
    if signed_input and first > 0x7FFF:
        first -= 0x10000
    elif not signed_input and first < 0:
        first &= 0xFFFF
    if isinstance(data, (bytes, bytearray)):
        narrow = bits <= 8 and len(data) in (count, count + 1)
        entries = np.frombuffer(
            bytes(data)[: len(data) // (1 if narrow else 2) * (1 if narrow else 2)], dtype=np.uint8 if narrow else "<u2"
        )
    else:
        entries = np.atleast_1d(np.asarray(data)).astype(np.int64) & 0xFFFF
    entries = entries[:count].astype(np.float64)
    if len(entries) < 2 or not 1 <= bits <= 16:
        return None
    return _Lut(entries, first, bits)


# --------------------------------------------------------------------------------------------- grey scale


def _linear(values: Array, center: float, width: float) -> Array:
    """PS3.3 C.11.2.1.2.1 with y from 0 to 255."""
    width = max(width, 1.0)
    if width == 1.0:
        return np.where(values <= center - 0.5, 0.0, 255.0)
    return np.clip(((values - (center - 0.5)) / (width - 1) + 0.5) * 255.0, 0.0, 255.0)


def _linear_exact(values: Array, center: float, width: float) -> Array:
    """PS3.3 C.11.2.1.3.2 with y from 0 to 255."""
    return np.clip(((values - center) / width + 0.5) * 255.0, 0.0, 255.0)


def _sigmoid(values: Array, center: float, width: float) -> Array:
    """PS3.3 C.11.2.1.3.1 with y from 0 to 255."""
    return np.asarray(255.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -60.0, 60.0))))


def _padding(frame: Array, header: Dataset) -> Array | None:
    """Mask of the padded pixels, or None (PS3.3 C.7.5.1.1.2). Values are those stored, before any look-up table."""
    value = _number(header.get("PixelPaddingValue"))
    if value is None:
        return None
    limit = _number(header.get("PixelPaddingRangeLimit"))
    limit = value if limit is None else limit
    if frame.dtype.kind == "u" and min(value, limit) < 0:  # written as SS where US belongs
        span = 1 << (8 * frame.dtype.itemsize)
        value, limit = value % span, limit % span
    mask = (frame >= min(value, limit)) & (frame <= max(value, limit))
    return mask if mask.any() else None


def _modality(header: Dataset, frame_number: int, *, signed: bool) -> Callable[[Array], Array]:
    """Make the function from stored values to modality values (PS3.3 C.11.1)."""
    group = _functional_group(header, "PixelValueTransformationSequence", frame_number)
    items = header.get("ModalityLUTSequence")
    table = _lut(items[0] if items else None, signed_input=signed)
    if table is not None and group is None:
        return table.apply
    source = group if group is not None else header
    slope = _number(source.get("RescaleSlope"))
    intercept = _number(source.get("RescaleIntercept")) or 0.0
    slope = 1.0 if slope is None or slope == 0 else slope
    return lambda values: values * slope + intercept


@dataclass(frozen=True, slots=True)
class _Voi:
    """What the data set says about the range to show."""

    center: float | None
    width: float | None
    function: str
    table: _Lut | None


def _voi(header: Dataset, frame_number: int, *, signed: bool) -> _Voi:
    group = _functional_group(header, "FrameVOILUTSequence", frame_number)
    source = group if group is not None else header
    items = source.get("VOILUTSequence")
    center, width = _number(source.get("WindowCenter")), _number(source.get("WindowWidth"))
    function = str(source.get("VOILUTFunction") or "LINEAR").strip().upper()
    if width is None or width <= 0 or (function == "LINEAR" and width < 1):
        center = width = None
    return _Voi(center, width, function, _lut(items[0] if items else None, signed_input=signed))


def automatic_window(values: Array) -> Window:
    """Choose a window from the pixels themselves: from the 1st to the 99th percentile.

    Args:
        values: modality values without padding; any shape.

    Returns:
        Centre and width for LINEAR_EXACT.

    A large flat ground (collimated black, or air) would take both percentiles for itself: the most frequent extreme
    value is left out where it fills more than a tenth of the image.
    """
    flat = values.ravel()
    if flat.size > 1_000_000:
        flat = flat[:: flat.size // 500_000]
    if not flat.size:
        return 0.5, 1.0
    for extreme in (flat.min(), flat.max()):
        inner = flat[flat != extreme]
        if inner.size < 0.9 * flat.size and inner.size and inner.max() > inner.min():
            flat = inner
    low, high = (float(edge) for edge in np.percentile(flat, (1.0, 99.0)))
    if high <= low:
        low, high = float(flat.min()), float(flat.max())
    if high <= low:
        high = low + 1.0
    return (low + high) / 2, high - low


def _gray(
    frame: Array, header: Dataset, window: Window | None, frame_number: int, shape_of: str = ""
) -> npt.NDArray[np.uint8]:
    """Run the grey-scale pipeline; shape stays."""
    signed = frame.dtype.kind == "i"
    if frame.dtype.kind not in "iu":
        frame = np.rint(frame).astype(np.int32)
        signed = True
    modality = _modality(header, frame_number, signed=signed)
    voi = _voi(header, frame_number, signed=signed)
    mask = _padding(frame, header)
    kept = frame[~mask] if mask is not None else frame
    # Values repeat: the pipeline runs once for each value between the extremes, then every pixel is looked up.
    low, high = (int(kept.min()), int(kept.max())) if kept.size else (0, 0)
    tabled = high - low < 1 << 17
    grid = np.arange(low, high + 1, dtype=np.float64) if tabled else frame.astype(np.float64)
    values = modality(grid)

    def sample() -> Array:
        step = max(1, kept.size // 400_000)
        return modality(kept.ravel()[::step].astype(np.float64))

    center, width, function = voi.center, voi.width, voi.function
    if window is not None:
        center, width = float(window[0]), max(float(window[1]), 1e-6)
        function = shape_of or function
        if function not in ("LINEAR_EXACT", "SIGMOID") and width < 1:
            function = "LINEAR_EXACT"
    if window is None and voi.table is not None:
        output = voi.table.apply(values) * (255.0 / ((1 << voi.table.bits) - 1))
        if voi.table.entries.max() > (1 << voi.table.bits) - 1:  # the descriptor understates its bits
            output = voi.table.apply(values) * (255.0 / voi.table.entries.max())
    else:
        if window is None and center is not None and width is not None and _misses(header, center, width, sample()):
            center = None
        if center is None or width is None:
            center, width = automatic_window(sample())
            function = "LINEAR_EXACT"
        shape = {"LINEAR_EXACT": _linear_exact, "SIGMOID": _sigmoid}.get(function, _linear)
        output = shape(values, center, width)
    gray = np.rint(np.clip(output, 0.0, 255.0)).astype(np.uint8)
    if str(header.get("PhotometricInterpretation") or "").strip().upper() == "MONOCHROME1":
        gray = 255 - gray
    if tabled:
        gray = gray[np.clip(frame.astype(np.int64) - low, 0, high - low)]
    if mask is not None:
        gray[mask] = 0
    return np.asarray(gray, dtype=np.uint8)


def _misses(header: Dataset, center: float, width: float, values: Array) -> bool:
    """Whether a declared window shows nothing of the image.

    Some detectors write values shifted by half their range and keep the window of the unshifted ones: all would be
    white.
    CT is calibrated, a slice of pure air is meant to be black.
    """
    if str(header.get("Modality") or "") == "CT" or not values.size:
        return False
    low, high = np.percentile(values, (1.0, 99.0))
    return bool(low >= center + width / 2 or high <= center - width / 2)


# --------------------------------------------------------------------------------------------- pictures


def _color(frame: Array, header: Dataset) -> npt.NDArray[np.uint8]:
    """Bring decoded colour (RGB already, see codecs) to 8 bits."""
    if frame.dtype == np.uint8:
        return np.asarray(frame[:, :, :3], dtype=np.uint8)
    bits = int(header.get("BitsStored") or 8 * frame.dtype.itemsize)
    scale = 255.0 / ((1 << bits) - 1)
    return np.rint(np.clip(frame[:, :, :3].astype(np.float64) * scale, 0, 255)).astype(np.uint8)


def pixel_aspect(header: Dataset, frame_number: int = 1) -> float:
    """Height of a pixel ÷ its width; 1.0 where unknown or absurd (PS3.3 C.7.6.3.1.7, 10.7.1)."""
    group = _functional_group(header, "PixelMeasuresSequence", frame_number)
    candidates = [group.get("PixelSpacing") if group is not None else None]
    candidates += [
        header.get(name)
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
    ]
    for candidate in candidates:
        pair = _pair(candidate)
        if pair is not None:
            aspect = pair[0] / pair[1]
            return aspect if 0.05 <= aspect <= 20 else 1.0
    return 1.0


def preview(
    frame_array: Array,
    header: Dataset,
    *,
    max_edge: int = 512,
    window: Window | None = None,
    function: str = "",
    frame_number: int = 1,
) -> Image.Image:
    """Render one frame.

    Args:
        frame_array: stored values as `codecs.decode_frame` gives them: (rows, columns), or RGB (rows, columns, 3).
        header: data set of the image; pixel data is not needed.
        max_edge: longest edge of the result in pixels. Images are never enlarged beyond their own longest edge.
        window: centre and width in modality values, in place of what the data set says.
        function: VOI LUT Function for `window`; by default that of the data set.
        frame_number: number of the frame, from 1, for functional groups.

    Returns:
        Mode ``L``, or ``RGB`` for colour. Grey images show dark as dark whatever their Photometric Interpretation.
        Without a usable window the 1st to 99th percentile is shown. Padding is black and counts for nothing.
    """
    photometric = str(header.get("PhotometricInterpretation") or "").strip().upper()
    if frame_array.ndim == 3:
        picture = Image.fromarray(np.ascontiguousarray(_color(frame_array, header)))
    elif photometric == "PALETTE COLOR":
        try:
            colored = apply_color_lut(frame_array, header)
            top = 255 if colored.dtype == np.uint8 else 65535
            picture = Image.fromarray(np.rint(colored[:, :, :3] * (255.0 / top)).astype(np.uint8))
        except Exception:  # a broken palette: pydicom raises several types; grey is better than nothing
            picture = Image.fromarray(_gray(frame_array, header, window, frame_number, function))
    elif frame_array.dtype == np.uint8 and int(header.get("BitsAllocated") or 8) == 1:
        picture = Image.fromarray(np.where(frame_array > 0, np.uint8(255), np.uint8(0)))
    else:
        picture = Image.fromarray(_gray(frame_array, header, window, frame_number, function))
    return _fit(picture, pixel_aspect(header, frame_number), max_edge)


def _fit(picture: Image.Image, aspect: float, max_edge: int) -> Image.Image:
    width, height = float(picture.width), float(picture.height)
    if aspect > 1:
        height *= aspect
    else:
        width /= aspect
    scale = min(1.0, max_edge / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if size == picture.size:
        return picture
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def to_jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """Encode as progressive JPEG without metadata."""
    out = io.BytesIO()
    plain = image if image.mode in ("L", "RGB") else image.convert("RGB")
    plain.save(out, "JPEG", quality=quality, optimize=True, progressive=True)
    return out.getvalue()


def to_png(image: Image.Image) -> bytes:
    """Encode as PNG without metadata."""
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False, compress_level=6)
    return out.getvalue()


@lru_cache(maxsize=16)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Noto Sans SC in pixels, which covers all Han characters of GBK."""
    return ImageFont.truetype(str(pylopdf_fonts_zh_cn.sans_path()), size)


def _clean(text: str) -> str:
    """One line without control characters, which Pillow would draw as boxes."""
    return "".join(" " if unicodedata.category(char)[0] == "C" else char for char in text).strip()


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a line to `width` pixels: at spaces, and between Han characters, which need none."""
    lines, current = [], ""
    for token in re.findall(r"[\u2e80-\u9fff\uff00-\uffef]|[^\s\u2e80-\u9fff\uff00-\uffef]+|\s+", text):
        if current and font.getlength(current + token) > width:
            lines.append(current.rstrip())
            current = token.lstrip()
        else:
            current += token
        while font.getlength(current) > width and len(current) > 1:
            cut = max(1, int(len(current) * width / font.getlength(current)))
            lines.append(current[:cut])
            current = current[cut:]
    return [*lines, current.rstrip()] if current.strip() else lines


def contact_sheet(images: Sequence[Image.Image], columns: int, cell: int, captions: Sequence[str] = ()) -> Image.Image:
    """Lay previews out in rows on black.

    Args:
        images: previews in the order of the sheet.
        columns: cells in a row.
        cell: edge of the square cells in pixels; a preview is scaled down to fit, never up.
        captions: text below each image; may be shorter than `images`.

    Returns:
        Mode ``L``, or ``RGB`` where any image is in colour. One empty cell for no images.
    """
    columns = max(1, min(columns, len(images) or 1))
    rows = max(1, math.ceil(len(images) / columns))
    line = max(12, cell // 11) if any(captions) else 0
    gap = 2
    mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
    width, height = columns * (cell + gap) + gap, rows * (cell + line + gap) + gap
    sheet = Image.new(mode, (width, height))
    draw = ImageDraw.Draw(sheet)
    font = font_of(max(9, line * 3 // 4)) if line else None
    for index, image in enumerate(images):
        left = gap + index % columns * (cell + gap)
        top = gap + index // columns * (cell + line + gap)
        small = image
        if max(image.size) > cell:
            scale = cell / max(image.size)
            size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
            small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
        sheet.paste(small.convert(mode), (left + (cell - small.width) // 2, top + (cell - small.height) // 2))
        if font is not None and index < len(captions) and captions[index]:
            text = (_wrap(_clean(captions[index]), font, cell) or [""])[0]
            ink: Any = 200 if mode == "L" else (200, 200, 200)
            draw.text((left + cell / 2, top + cell + line / 2), text, font=font, fill=ink, anchor="mm")
    return sheet


def contact_indices(count: int, cells: int) -> list[int]:
    """Positions of at most `cells` images spread evenly over `count`, ends included."""
    if count <= cells:
        return list(range(max(0, count)))
    if cells <= 1:
        return [count // 2]
    return [round(index * (count - 1) / (cells - 1)) for index in range(cells)]


_REASONS: Final[dict[str, tuple[str, str]]] = {
    "too-large": ("解码后超过大小上限", "It would decode to more than the permitted size"),
    "broken-stream": ("压缩数据已损坏", "The compressed data is broken"),
    "size-mismatch": ("图像尺寸与文件头不符", "The image is of another size than its header says"),
    "truncated": ("像素数据不完整", "The pixel data is incomplete"),
    "unsupported-syntax": ("不支持的压缩格式", "The compression is not supported"),
    "unsupported-pixels": ("不支持的像素格式", "The pixel format is not supported"),
    "no-pixels": ("文件中没有图像", "The file holds no image"),
}


def reason_lines(error: FrameError) -> list[str]:
    """Say in Chinese and in English why a frame could not be decoded."""
    chinese, english = _REASONS.get(error.code, _REASONS["broken-stream"])
    return [chinese, english]


def placeholder(max_edge: int = 512, lines: Sequence[str] = ()) -> Image.Image:
    """Draw a picture that stands for an image which cannot be decoded and says so in Chinese and English.

    Args:
        max_edge: width of the picture; its height is three quarters of it.
        lines: the reason and what else helps, e.g. `reason_lines(error)`; wrapped, cut where they do not fit.

    Returns:
        Mode ``L``.
    """
    width = max(96, max_edge)
    height = width * 3 // 4
    picture = Image.new("L", (width, height), _GROUND)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((1, 1, width - 2, height - 2), outline=90, width=max(1, width // 256))
    edge = height * 0.15
    center_x, center_y = width / 2, height * 0.2
    stroke = max(2, width // 110)
    draw.rectangle(
        (center_x - edge * 0.8, center_y - edge * 0.6, center_x + edge * 0.8, center_y + edge * 0.6),
        outline=_DIM,
        width=stroke,
    )
    draw.line(
        (center_x - edge * 0.8, center_y + edge * 0.6, center_x + edge * 0.8, center_y - edge * 0.6),
        fill=_DIM,
        width=stroke,
    )
    top = height * 0.37
    room = width * 0.9
    blocks = [("此图像无法解码", width // 15, _INK), ("This image cannot be decoded", width // 21, _INK)]
    blocks += [(_clean(line), max(9, width // 27), _DIM) for line in lines]
    for text, size, ink in blocks:
        font = font_of(max(8, size))
        for part in _wrap(text, font, room):
            if top + size * 1.3 > height:
                return picture
            draw.text((center_x, top), part, font=font, fill=ink, anchor="ma")
            top += size * 1.5
    return picture


# --------------------------------------------------------------------------------------------- choice


@dataclass(frozen=True, slots=True)
class InstanceBrief:
    """What the choice of a representative image needs to know of an instance.

    Attributes:
        series_uid: groups the instances.
        modality: DICOM modality of the series.
        image_type: Image Type, all values.
        series_number, instance_number: as numbered by the device, None if absent.
        position: place along the stack in mm (projection of Image Position on the normal, or Slice Location).
        is_image: has pixels at all (reports and presentation states have none).
        key: marked as key image by somebody.
        decodable: False once a decoder refused it.
    """

    series_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    series_number: int | None = None
    instance_number: int | None = None
    position: float | None = None
    is_image: bool = True
    key: bool = False
    decodable: bool = True

    @classmethod
    def from_header(cls, header: Dataset, *, key: bool = False, decodable: bool = True) -> InstanceBrief:
        """Collect from a data set; nothing in it needs to be right."""
        image_type = header.get("ImageType")
        values = [image_type] if isinstance(image_type, str) else list(image_type or [])
        series_number, instance_number = (_number(header.get(name)) for name in ("SeriesNumber", "InstanceNumber"))
        return cls(
            series_uid=str(header.get("SeriesInstanceUID") or ""),
            modality=str(header.get("Modality") or "").strip().upper(),
            image_type=tuple(str(value).strip().upper() for value in values),
            series_number=None if series_number is None else int(series_number),
            instance_number=None if instance_number is None else int(instance_number),
            position=slice_position(header),
            is_image=header.get("Rows") is not None,
            key=key,
            decodable=decodable,
        )

    @property
    def is_scout(self) -> bool:
        """A localizer, or a screen shot of one."""
        return any(word in value for value in self.image_type for word in ("LOCALIZER", "SURVIEW", "SCOUT", "TOPO"))

    @property
    def is_screen(self) -> bool:
        """A picture made by the console (dose report, result page), not by the detector."""
        return "SECONDARY" in self.image_type or any(
            word in value for value in self.image_type for word in ("SCREEN SAVE", "RESULTS", "DOSE")
        )


def slice_position(header: Dataset) -> float | None:
    """Place of a slice along its own normal in mm (PS3.3 C.7.6.2), else Slice Location, else None."""
    try:
        orientation = [float(value) for value in header.ImageOrientationPatient]
        origin = [float(value) for value in header.ImagePositionPatient]
        normal = np.cross(orientation[:3], orientation[3:6])
        position = float(np.dot(normal, origin))
        if math.isfinite(position):
            return position
    except (AttributeError, TypeError, ValueError):
        pass
    return _number(header.get("SliceLocation"))


def representative_index(instances: Sequence[InstanceBrief]) -> int | None:
    """Choose the image that stands for a series, or for a study when given all its instances.

    A key image wins. Else the middle one of the largest series that holds neither scouts nor console pictures (unless
    there is nothing else), ordered by place, then by instance number; radiographs: the first one. Images known as
    undecodable are taken only when there is no other.

    Returns:
        Index into `instances`, None if none of them is an image.
    """
    images = [index for index, one in enumerate(instances) if one.is_image]
    if not images:
        return None
    candidates: Iterable[int] = [index for index in images if instances[index].decodable] or images
    keys = [index for index in candidates if instances[index].key]
    if keys:
        return _middle(instances, keys)
    detector = [index for index in candidates if not instances[index].is_screen]
    planes = [index for index in detector if not instances[index].is_scout]
    candidates = planes or detector or candidates
    groups: dict[str, list[int]] = {}
    for index in candidates:
        groups.setdefault(instances[index].series_uid, []).append(index)
    largest = min(groups.values(), key=lambda group: (-len(group), _order(instances[group[0]].series_number)))
    return _middle(instances, largest)


def _order(number: float | None) -> float:
    return math.inf if number is None else number


def _middle(instances: Sequence[InstanceBrief], group: Sequence[int]) -> int:
    stacked = all(instances[index].position is not None for index in group)
    ordered = sorted(
        group,
        key=lambda index: (
            _order(instances[index].position) if stacked else 0.0,
            _order(instances[index].instance_number),
            index,
        ),
    )
    if instances[ordered[0]].modality in ("CR", "DX", "DR", "RF", "XA", "MG", "IO", "PX") and not stacked:
        return ordered[0]
    return ordered[len(ordered) // 2]
