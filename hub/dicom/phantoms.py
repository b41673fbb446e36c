"""Generated sample studies: head and chest CT, chest and hand radiographs.

Nothing here comes from a patient. Bodies are put together from ellipsoids, tubes and noise by a seed, so that the same
call gives the same bytes; they are labelled as generated in the header. They serve to try the hub, not to teach
anatomy.

Lengths are millimetres in patient coordinates (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z to the
head. CT slices are computed one by one, so that a study of any length needs the memory of one slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pypinyin
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from hub.dicom.objects import make_uid, person_name, to_part10
from hub.dicom.render import font_of

F32 = npt.NDArray[np.float32]
Rng = np.random.Generator
Charset = Literal["utf-8", "gb18030", "gbk-mislabelled", "pinyin"]

KINDS: Final = ("ct_head", "ct_chest", "dr_chest", "dr_limb")
FINDINGS: Final[dict[str, tuple[str, ...]]] = {
    "ct_head": ("hemorrhage",),
    "ct_chest": ("nodule", "effusion"),
    "dr_chest": ("nodule", "effusion"),
    "dr_limb": ("fracture",),
}
"""What each kind can show beside the normal, for `generate(finding=…)`."""

_COMMENT: Final = "GENERATED PHANTOM - NOT A PATIENT"


@dataclass(frozen=True, slots=True)
class PhantomPatient:
    """Who the generated study says it is of, and where it says it was made.

    Attributes:
        name: Chinese name; written as the `charset` of the study has it.
        pinyin: family name first; empty: derived.
        sex: ``M``, ``F``, ``O`` or empty.
        age: years, for devices that write an age instead of a birth date.
        device: manufacturer and model.
    """

    patient_id: str
    name: str
    sex: str = ""
    birth_date: date | None = None
    pinyin: str = ""
    age: int | None = None
    institution: str = ""
    referring_physician: str = ""
    study_description: str = ""
    device: tuple[str, str] = ("Generated", "Phantom")


# --------------------------------------------------------------------------------------------- noise


def _band_noise(rng: Rng, shape: tuple[int, ...], low: float, high: float) -> F32:
    """Gaussian noise between two spatial frequencies (cycles per sample), unit variance, periodic."""
    white = rng.standard_normal(shape, dtype=np.float32)
    radius: Any = np.float32(0)
    for axis, count in enumerate(shape):
        frequency = np.fft.rfftfreq(count) if axis == len(shape) - 1 else np.fft.fftfreq(count)
        ways = [-1 if other == axis else 1 for other in range(len(shape))]
        radius = radius + (frequency.astype(np.float32) ** 2).reshape(ways)
    gain = np.exp(-radius / (2 * high * high)) * (1 - np.exp(-radius / (2 * max(low, 1e-6) ** 2)))
    field = np.fft.irfftn(np.fft.rfftn(white) * gain, s=shape, axes=tuple(range(len(shape)))).astype(np.float32)
    return np.asarray(field / max(float(field.std()), 1e-6), dtype=np.float32)


def _scaled(field: F32, size: tuple[int, int]) -> F32:
    """Enlarge a 2-D field to (rows, columns) smoothly."""
    picture = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    return np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BICUBIC), dtype=np.float32)


def _smooth(array: F32, factor: int) -> F32:
    """Cheap wide blur: shrink and enlarge again."""
    rows, columns = array.shape
    picture = Image.fromarray(np.ascontiguousarray(array, dtype=np.float32))
    small = picture.resize((max(1, columns // factor), max(1, rows // factor)), Image.Resampling.BOX)
    return np.asarray(small.resize((columns, rows), Image.Resampling.BICUBIC), dtype=np.float32)


# --------------------------------------------------------------------------------------------- CT slices


class _Slice:
    """One axial slice under construction: Hounsfield units on a grid in millimetres."""

    def __init__(self, x: F32, y: F32, z: float, pixel: float, fill: float = -1000.0) -> None:
        self.x, self.y, self.z, self.pixel = x, y, z, pixel
        self.hu: F32 = np.full((y.shape[0], x.shape[1]), fill, dtype=np.float32)

    def lay(self, inside: Any, value: Any) -> None:
        """Blend `value` in where `inside` (millimetres below a surface) is positive; edges are one pixel soft."""
        mask = np.clip(inside * (1.0 / self.pixel) + 0.5, 0.0, 1.0)
        self.hu += mask * (value - self.hu)

    def mix(self, weight: Any, value: Any) -> None:
        """Blend `value` in by a weight from 0 to 1."""
        self.hu += weight * (value - self.hu)

    def ball(
        self, center: tuple[float, float, float], radii: tuple[float, float, float], value: float, *, turn: float = 0.0
    ) -> None:
        """Lay an ellipsoid, turned about z by `turn` radians. Costs only its bounding box."""
        rise = (self.z - center[2]) / radii[2]
        if abs(rise) >= 1:
            return
        reach = max(radii[0], radii[1]) + 2 * self.pixel
        rows, columns = self._box(center[0] - reach, center[0] + reach, center[1] - reach, center[1] + reach)
        dx, dy = self.x[:, columns] - center[0], self.y[rows] - center[1]
        if turn:
            cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            dx, dy = dx * cos + dy * sin, dy * cos - dx * sin
        cut = np.sqrt(1 - rise * rise)
        radius = np.sqrt((dx / radii[0]) ** 2 + (dy / radii[1]) ** 2)
        mask = np.clip((cut - radius) * (min(radii[0], radii[1]) / self.pixel) + 0.5, 0.0, 1.0)
        part = self.hu[rows, columns]
        part += mask * (value - part)

    def tube(self, start: F32, end: F32, radius: float, value: float, thickness: float) -> None:
        """Lay a capsule; a slice of `thickness` takes what crosses it, thinner things fainter."""
        half = thickness / 2
        low, high = min(start[2], end[2]) - radius - half, max(start[2], end[2]) + radius + half
        if not low < self.z < high:
            return
        rows, columns = self._box(
            float(min(start[0], end[0])) - radius - 2,
            float(max(start[0], end[0])) + radius + 2,
            float(min(start[1], end[1])) - radius - 2,
            float(max(start[1], end[1])) + radius + 2,
        )
        px, py = self.x[:, columns] - start[0], self.y[rows] - start[1]
        axis = end - start
        length = float(axis @ axis) or 1.0
        pz = self.z - start[2]
        along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / length, 0.0, 1.0)
        dz = np.maximum(np.abs(pz - along * axis[2]) - half * 0.6, 0.0)
        distance = np.sqrt((px - along * axis[0]) ** 2 + (py - along * axis[1]) ** 2 + dz * dz)
        weight = np.clip((radius - distance) / self.pixel + 0.5, 0.0, 1.0) * min(1.0, 0.35 + radius / thickness)
        part = self.hu[rows, columns]
        part += weight * np.maximum(value - part, 0.0)

    def _box(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice]:
        column = np.searchsorted(self.x[0], (x0, x1))
        row = np.searchsorted(self.y[:, 0], (y0, y1))
        return slice(int(row[0]), int(row[1])), slice(int(column[0]), int(column[1]))


def _grid(size: int, fov: float) -> tuple[F32, F32, float]:
    pixel = fov / size
    line = ((np.arange(size, dtype=np.float32) - (size - 1) / 2) * pixel).astype(np.float32)
    return line[None, :], line[:, None], pixel


def _ramp(value: Any, start: Any, end: Any) -> Any:
    """0 at `start`, 1 at `end`, smooth between; works downwards too."""
    t = np.clip((value - start) / (end - start), 0.0, 1.0)
    return t * t * (3 - 2 * t)


class _CtNoise:
    """Quantum noise with the grain of a filtered back projection; cheap by reusing a few tiles."""

    def __init__(self, rng: Rng, size: int) -> None:
        self.rng, self.size = rng, size
        self.tiles = [_band_noise(rng, (size, size), 0.03, 0.17) for _ in range(3)]

    def __call__(self, sigma: float) -> F32:
        weights = self.rng.standard_normal(3)
        weights /= np.sqrt((weights**2).sum())
        shifts = self.rng.integers(0, self.size, (3, 2))
        total = sum(
            np.float32(weight * sigma) * np.roll(tile, (int(shift[0]), int(shift[1])), (0, 1))
            for weight, tile, shift in zip(weights, self.tiles, shifts, strict=True)
        )
        return np.asarray(total, dtype=np.float32)


def _ct_head(rng: Rng, size: int, slices: int, finding: str) -> Iterator[tuple[float, F32]]:
    """Yield (z, HU) from the skull base to the vertex."""
    x, y, pixel = _grid(size, 236.0)
    z_low, z_high = -30.0, 98.0
    step = (z_high - z_low) / slices
    noise = _CtNoise(rng, size)
    gyri = _band_noise(rng, (max(16, slices), 72, 72), 0.10, 0.105)
    folds = _band_noise(rng, (max(16, slices), 72, 72), 0.08, 0.16)
    patchy = _band_noise(rng, (max(16, slices), 40, 40), 0.01, 0.08)
    cells = _band_noise(rng, (size, size), 0.02, 0.06)
    grow = 1.0 + 0.03 * float(rng.standard_normal())
    width, length = 73.0 * grow, 92.0 * grow
    atrophy = float(rng.uniform(0.7, 1.4))
    bleed = np.array([rng.choice([-1, 1]) * rng.uniform(24, 29), rng.uniform(0, 8), rng.uniform(17, 24)])
    bleed_size = float(rng.uniform(12, 17))
    theta = np.arctan2(x, -y)
    narrow = 1.0 - 0.10 * np.clip(-y / length, -1.0, 1.0) * np.abs(np.clip(y / length, -1.0, 1.0))
    flat = np.sqrt((x / (width * narrow)) ** 2 + (y / length) ** 2)
    side = np.abs(x)
    for index in range(slices):
        z = z_low + (index + 0.5) * step
        s = _Slice(x, y, z, pixel)
        g = _scaled(gyri[index % len(gyri)], (size, size))
        f = _scaled(folds[index % len(folds)], (size, size))
        p = _scaled(patchy[index % len(patchy)], (size, size))
        # Skull: an ellipsoid above its widest level, a slowly narrowing cylinder below.
        if z > 32:
            depth = (1.0 - np.sqrt(flat**2 + ((z - 32) / 78.0) ** 2)) * 80.0
        else:
            depth = ((1.0 - 0.000018 * (32 - z) ** 2 - 0.0006 * (32 - z)) - flat) * 80.0
        depth += 1.2 * np.cos(3 * theta + 0.5) + 0.7 * p
        thick = 6.0 + 1.6 * np.cos(2 * theta) + 1.2 * np.cos(theta) ** 4 + 0.5 * p
        scalp = 5.5 + 1.5 * np.cos(theta + 3.14) + 5.0 * _ramp(z, 20.0, -20.0) * np.abs(np.sin(theta)) ** 2
        s.lay(depth + scalp, -75.0 + 18 * p)
        s.lay(depth + scalp * 0.35, 35.0 + 10 * p)
        s.lay(np.minimum(depth + scalp, 1.8 - depth - scalp), 20.0)
        s.lay(depth, 1250.0)
        diploe = np.minimum(depth - 1.7, thick - 1.6 - depth)
        s.lay(diploe, 620.0 + 170.0 * f)
        brain = depth - thick
        s.lay(brain, 9.0)
        # Cortex over white matter; the border follows the gyri.
        edge = 1.2 * atrophy
        s.lay(brain - edge, 37.5 + 0.8 * p)
        white = brain - edge - 3.4 - 0.8 * f
        ridge = np.abs(g + 0.2 * f)
        folded = np.where(brain < 15.0, ridge - 0.52 * np.clip(1.0 - (brain - 11.0) / 5.0, 0.0, 1.0), 1.0) * 8.0
        s.mix(_ramp(np.minimum(white, folded), -0.9, 0.9), 28.0 + 0.6 * p)
        sulcus = 0.17 * atrophy * np.clip(1 - brain / (13.0 + 4.0 * f), 0.0, 1.0) * _ramp(z, -12.0, 20.0)
        crack = (sulcus - ridge) * 8.0
        s.mix(np.clip(crack / 1.0 + 0.5, 0, 1) * (brain > edge) * (sulcus > 0.01) * 0.85, 13.0)
        # Midline: fissure and falx.
        wobble = 0.8 * np.sin(y * 0.05 + 1.0) + 0.4 * p
        ends = np.maximum(_ramp(y, -26.0, -34.0), np.maximum(_ramp(y, 38.0, 48.0), _ramp(z, 44.0, 52.0)))
        line = np.abs(x - wobble)
        inner = (brain > 0.5) * ends * _ramp(z, -2.0, 12.0)
        s.mix(np.clip((1.5 * atrophy - line) / pixel + 0.5, 0, 1) * inner, 13.0)
        s.mix(np.clip((0.55 - line) / pixel + 0.5, 0, 1) * inner * 0.8, 52.0)
        _head_depths(s, side, brain, g, f, atrophy)
        _head_base(s, side, brain, depth, cells, p, f)
        if finding == "hemorrhage":
            away = np.sqrt((x - bleed[0]) ** 2 + ((y - bleed[1]) / 1.45) ** 2 + ((z - bleed[2]) / 1.15) ** 2)
            away += 1.3 * g + 1.6 * p
            s.mix(_ramp(away, bleed_size + 8.0, bleed_size + 2.5) * (brain > 2) * 0.75, 19.0)
            s.mix(_ramp(away, bleed_size + 0.8, bleed_size - 1.2) * (brain > 2), 67.0 + 3.0 * f)
        # Headrest.
        rest = np.sqrt((x / 1.05) ** 2 + (y + 6) ** 2)
        s.mix((np.abs(rest - 109.0) < 1.3) * (y > 40), 60.0)
        s.mix((np.abs(rest - 112.5) < 2.2) * (y > 38), -880.0)
        # The view of a scanner: a little blur by the kernel, grain, and streaks between dense bones.
        picture = s.hu
        base = float(_ramp(z, 4.0, -14.0))
        if base > 0:
            fan = np.sin(np.arctan2(y - 8, x) * 34.0 + z) * np.exp(-((y - 4) ** 2) / 900.0) * np.exp(-(x**2) / 2600.0)
            picture = picture + (5.0 * base) * fan * (brain > 0)
        yield z, picture + noise(2.9 + 1.8 * base)


def _head_depths(s: _Slice, side: F32, brain: F32, g: F32, f: F32, atrophy: float) -> None:
    """Ventricles, basal ganglia, insula, cisterns, calcifications."""
    y, z = s.y, s.z
    wide = 0.8 + 0.25 * atrophy
    # Deep grey matter.
    for sign in (-1.0, 1.0):
        s.ball((sign * 11.5, 9.0, 21.0), (9.0, 14.0, 10.0), 36.5, turn=sign * 0.35)
        s.ball((sign * 23.5, -3.0, 18.0), (8.0, 17.0, 12.0), 38.0, turn=-sign * 0.3)
        s.ball((sign * 12.0, -22.0, 24.0), (6.0, 9.0, 10.0), 38.0, turn=sign * 0.25)
    # Sylvian fissure and insula.
    if 2 < z < 34:
        fade = float(_ramp(z, 2.0, 8.0) * _ramp(z, 34.0, 27.0))
        path = 36.5 + 0.010 * (y + 6.0) ** 2
        deep = np.abs(side - path - 1.2 * g)
        within = _ramp(y, -26.0, -20.0) * _ramp(y, 24.0, 16.0)
        s.mix(_ramp(deep, 7.0, 5.0) * within * fade, 37.5)
        s.mix(_ramp(deep, 2.4 * atrophy, 1.0) * within * fade, 12.0)
        stem = np.abs(y + 8.0 + 0.25 * (side - 40.0) + 1.5 * f)
        s.mix(_ramp(stem, 2.6 * atrophy, 1.0) * (side > 37) * (brain > 0) * fade, 12.0)
    # Lateral ventricles: horn, body, atrium follow one curved line in the plane.
    if 13 < z < 50:
        lift = 31.0 + 0.10 * np.clip(y, -40, 40)
        body = 3.4 + 4.6 * _ramp(y, 18.0, 34.0) + 1.2 * _ramp(y, -14.0, -24.0)
        rise = np.clip(1 - ((z - lift) / (13.0 + 3.0 * _ramp(y, 10.0, 30.0))) ** 2, 0.0, 1.0)
        center = 6.5 + 0.0095 * np.clip(y + 6, -30, 60) ** 2 + 0.22 * np.clip(z - 30, 0, 20)
        reach = _ramp(y, -37.0, -30.0) * _ramp(y, 56.0, 44.0)
        half = body * wide * np.sqrt(rise) * reach
        s.mix(np.clip((half - np.abs(side - center)) / s.pixel + 0.5, 0, 1) * (half > 0.6), 7.0)
        s.mix(np.clip((0.7 - side) / s.pixel + 0.5, 0, 1) * (rise > 0.3) * (y > -30) * (y < 0) * (z < 38), 30.0)
    s.ball((0.0, 6.0, 15.0), (2.2 * wide, 13.0, 10.0), 8.0)
    # Cisterns.
    s.ball((0.0, 27.0, 15.0), (9.0, 5.5, 7.0), 11.0)
    if -6 < z < 10:
        fade = float(_ramp(z, -6.0, -1.0) * _ramp(z, 10.0, 5.0))
        angle = np.arctan2(s.x, -(y + 12.0))
        star = np.hypot(s.x, y + 12.0)
        s.mix(_ramp(star, 15.0 + 5.0 * np.cos(5 * angle), 11.0 + 5.0 * np.cos(5 * angle)) * fade, 10.0)
        ring = np.abs(np.hypot(s.x / 1.05, y - 10.0) - 17.0)
        s.mix(_ramp(ring, 3.0, 1.2) * (y > 4) * fade, 11.0)
        s.ball((0.0, 8.0, 2.0), (14.5, 13.0, 14.0), 33.0)
    # Calcified pineal gland and plexus, as in most adults.
    s.ball((0.3, 22.0, 19.0), (2.0, 2.2, 2.4), 170.0)
    for sign in (-1.0, 1.0):
        s.ball((sign * 19.0, 34.0, 27.0), (2.6, 3.6, 3.5), 120.0, turn=sign * 0.5)


def _head_base(s: _Slice, side: F32, brain: F32, depth: F32, cells: F32, p: F32, f: F32) -> None:
    """Posterior fossa and skull base: everything below the tentorium and before the temporal lobes."""
    x, y, z = s.x, s.y, s.z
    low = float(_ramp(z, 6.0, -4.0))
    # Tentorium and cerebellum.
    if z < 18:
        fade = float(_ramp(z, 18.0, 10.0))
        fossa = 1.0 - np.hypot(x / 50.0, (y - 44.0) / 34.0)
        inside = np.clip(fossa * 40 / s.pixel + 0.5, 0, 1) * (brain > 1.5) * fade * (y > 8)
        leaf = 37.0 + 2.2 * np.sin((np.hypot(x * 0.8, y - 22.0)) * 1.5 + 2.2 * p)
        s.mix(inside, leaf)
        s.mix(np.clip((1.1 - np.abs(fossa * 40)) / 1.2, 0, 1) * (brain > 1.5) * fade * (y > 12) * 0.7, 50.0)
        s.ball((0.0, 27.0, -6.0), (5.5, 4.0, 10.0), 8.0)
        s.ball((0.0, 46.0, -6.0), (5.0, 12.0, 14.0), 41.0)
    if low <= 0:
        return
    ring = np.clip((brain > 0) * 1.0, 0, 1)
    # Anterior fossa floor gives way to orbits, ethmoid and sphenoid.
    roof = float(_ramp(z, 1.5, -4.0))
    front = _ramp(y, -34.0 - 6 * np.cos(x / 14.0), -42.0 - 6 * np.cos(x / 14.0)) * roof * (depth > 1.0)
    s.mix(front, 420.0 + 160.0 * f)
    if z < 1:
        for sign in (-1.0, 1.0):
            s.ball((sign * 31.0, -58.0, -16.0), (19.5, 27.0, 19.0), 900.0, turn=-sign * 0.32)
            s.ball((sign * 31.0, -59.0, -16.0), (17.5, 25.5, 17.5), -85.0, turn=-sign * 0.32)
            for offset, turn in ((-9.0, 0.18), (10.0, -0.30)):
                s.ball((sign * (30.0 + offset * 0.7), -56.0, -18.0), (1.9, 15.0, 8.0), 48.0, turn=-sign * (0.3 + turn))
            s.ball((sign * 27.5, -49.0, -17.0), (2.1, 14.0, 3.5), 36.0, turn=-sign * 0.35)
            s.ball((sign * 33.0, -72.5, -18.0), (12.2, 12.2, 12.2), 55.0)
            s.ball((sign * 33.0, -72.5, -18.0), (11.2, 11.2, 11.2), 12.0)
            s.ball((sign * 33.0, -79.0, -18.0), (4.6, 2.2, 4.6), 75.0)
        nose = (side < 11.5 - 0.06 * (y + 60.0)) * (y > -84) * (y < -36) * _ramp(z, -2.0, -8.0)
        s.mix(nose, np.where(np.abs(np.sin(y * 0.36 + 0.8 * p)) + 0.3 * cells > 0.33, -960.0, 320.0))
        s.mix((side < 0.8) * nose, 350.0)
        s.ball((0.0, -24.0, -17.0), (13.0, 12.0, 9.0), 700.0)
        s.ball((-6.0, -24.0, -17.0), (5.4, 10.0, 7.5), -980.0)
        s.ball((6.2, -24.5, -17.5), (5.6, 9.6, 7.0), -980.0)
    # Temporal lobes lie in their fossae; wings of the sphenoid before them.
    wing = np.abs(y + 36.0 - 0.25 * (side - 30.0))
    s.mix(_ramp(wing, 4.5, 2.5) * (side > 10) * ring * roof, 900.0)
    # Petrous bone with its cells.
    axis = (y - 4.0) - 0.42 * (side - 18.0)
    bulk = 3.0 + 0.10 * np.clip(side - 14.0, 0, 50)
    stone = _ramp(np.abs(axis), bulk + 1.5, bulk - 0.5) * (side > 13) * (depth > 0)
    s.mix(stone * float(_ramp(z, 0.0, -7.0)), 1050.0 + 220.0 * f)
    honey = stone * (side > 38) * _ramp(cells, 0.1, 0.5) * float(_ramp(z, -4.0, -10.0))
    s.mix(honey, -780.0)
    s.mix((np.abs(axis) < 1.6) * (side > 22) * (side < 38) * float(_ramp(z, -12.0, -15.0)), -300.0)
    # Clivus and the way down of the brain stem.
    s.mix(_ramp(np.hypot(x / 1.6, y + 6.0), 8.5, 6.5) * float(_ramp(z, -3.0, -9.0)), 650.0 + 120.0 * f)
    s.mix(_ramp(np.hypot(x, (y - 13.0) * 1.1), 15.0, 13.5) * float(_ramp(z, 4.0, -2.0)) * (y > 0), 9.0)
    s.mix(_ramp(np.hypot(x, (y - 13.5) * 1.1), 12.6, 11.6) * float(_ramp(z, 4.0, -2.0)), 33.0)


# --------------------------------------------------------------------------------------------- chest


@dataclass(frozen=True, slots=True)
class _Branch:
    """A piece of a vessel and the levels it touches."""

    start: F32
    end: F32
    radius: float
    low: float
    high: float


def _vessels(rng: Rng, root: tuple[float, float, float], sign: float, depth: int = 6) -> list[_Branch]:
    """Grow a vessel tree from a hilum into one lung (`sign` +1: patient's left)."""
    heading = np.array(
        [
            (0.45, -0.45, 0.85),
            (0.60, 0.55, 0.70),
            (0.80, -0.60, 0.35),
            (0.95, 0.10, 0.25),
            (0.90, -0.55, -0.20),
            (0.80, 0.70, -0.10),
            (0.75, -0.25, -0.65),
            (0.65, 0.60, -0.60),
            (0.50, 0.20, -0.95),
        ]
    ) * (sign, 1.0, 1.0)
    count = len(heading)
    heading = _unit(heading + 0.12 * rng.standard_normal((count, 3)))
    place = np.tile(np.array(root, dtype=np.float64), (count, 1))
    radius, length = np.full(count, 4.6), np.full(count, 30.0)
    starts, ends, radii = [], [], []
    for _ in range(depth + 1):
        for _ in range(2):
            heading = _unit(heading + 0.16 * rng.standard_normal(heading.shape))
            tip = place + heading * (length / 2)[:, None]
            starts.append(place)
            ends.append(tip)
            radii.append(radius)
            place = tip
        alive = radius >= 0.42
        heading, place, radius, length = (
            np.repeat(each[alive], 2, axis=0) for each in (heading, place, radius, length)
        )
        across = _unit(np.cross(heading, rng.standard_normal(heading.shape)))
        across *= np.where(np.arange(len(across)) % 2, 1.0, -1.0)[:, None]
        heading = _unit(heading + across * rng.uniform(0.35, 0.75, len(heading))[:, None])
        radius = radius * rng.uniform(0.68, 0.88, len(radius))
        length = length * rng.uniform(0.68, 0.86, len(length))
    # Small vessels fill the rest of the lung, pointing away from the hilum.
    place = rng.uniform((22, -75, -130), (125, 75, 135), (1300, 3)) * (sign, 1.0, 1.0)
    away = place - root
    distance = np.linalg.norm(away, axis=1)
    starts.append(place)
    ends.append(place + _unit(away + 14 * rng.standard_normal(place.shape)) * rng.uniform(5, 16, 1300)[:, None])
    radii.append(rng.uniform(0.6, 1.0, 1300) * np.clip(1.75 - distance / 95.0, 0.55, None))
    first, last = np.concatenate(starts).astype(np.float32), np.concatenate(ends).astype(np.float32)
    thick = np.concatenate(radii)
    low = np.minimum(first[:, 2], last[:, 2]) - thick
    high = np.maximum(first[:, 2], last[:, 2]) + thick
    return [
        _Branch(one, two, float(wide), float(bottom), float(top))
        for one, two, wide, bottom, top in zip(first, last, thick, low, high, strict=True)
    ]


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale rows to length one."""
    return np.asarray(vectors / np.clip(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9, None), dtype=np.float64)


def _ct_chest(rng: Rng, size: int, slices: int, finding: str) -> Iterator[tuple[float, F32]]:
    """Yield (z, HU) from the upper abdomen to the lung apices."""
    x, y, pixel = _grid(size, 356.0)
    z_low, z_high = -170.0, 150.0
    step = (z_high - z_low) / slices
    noise = _CtNoise(rng, size)
    rough = _band_noise(rng, (max(16, slices), 48, 48), 0.01, 0.07)
    fine = _band_noise(rng, (size, size), 0.01, 0.05)
    grow = 1.0 + 0.04 * float(rng.standard_normal())
    fat = float(rng.uniform(9.0, 20.0))
    trees = [*_vessels(rng, (-30.0, 2.0, 12.0), -1.0), *_vessels(rng, (32.0, 4.0, 18.0), 1.0)]
    nodule = (-float(rng.uniform(62, 88)), float(rng.uniform(-30, 25)), float(rng.uniform(45, 80)))
    theta = np.arctan2(np.abs(x), y + 5.0)  # 0 at the spine, π at the sternum
    side = np.abs(x)
    for index in range(slices):
        z = z_low + (index + 0.5) * step
        s = _Slice(x, y, z, pixel)
        p = _scaled(rough[index % len(rough)], (size, size))
        shoulder = float(_ramp(z, 85.0, 150.0))
        a, b = (158.0 + 22.0 * shoulder) * grow, (112.0 - 16.0 * shoulder) * grow
        power = 2.5
        flat = ((side / a) ** power + np.abs((y + 2.0) / b) ** power) ** (1 / power)
        skin = (1.0 - flat) * b + 1.0 * p
        s.lay(skin, -102.0 + 6 * p)
        s.lay(np.minimum(skin, 2.0 - skin), 10.0)
        s.lay(skin - fat - 4.0 * np.cos(2 * theta), 52.0 + 5 * p)
        # Thorax inside the muscles; narrower at its top.
        top = float(_ramp(z, 40.0, 152.0))
        ta, tb = (132.0 - 62.0 * top) * grow, (88.0 - 30.0 * top) * grow
        ring = ((side / ta) ** 2.3 + np.abs((y - 2.0 + 4 * top) / tb) ** 2.3) ** (1 / 2.3)
        wall = (1.0 - ring) * tb
        s.mix(_ramp(np.abs(wall + 11.0), 6.0, 2.0) * (side > 30) * (skin > fat + 6) * 0.55, -70.0)
        s.lay(wall, -88.0 + 10 * p)
        _chest_organs(s, side, wall, theta, p, fine, trees, step)
        if finding == "nodule":
            away = np.sqrt((x - nodule[0]) ** 2 + (y - nodule[1]) ** 2 + (z - nodule[2]) ** 2)
            spikes = 1.6 * np.sin(7 * np.arctan2(y - nodule[1], x - nodule[0]) + 1.0) + 0.8 * p
            s.mix(_ramp(away + spikes, 10.0, 7.5), 34.0)
        if finding == "effusion" and z < 20:
            level = 44.0 - 34.0 * float(_ramp(z, -20.0, -110.0)) + 8.0 * np.cos(x / 40.0)
            fluid = (y > level) * (x > 18) * (wall > 2.5) * (s.hu < -300)
            s.mix(fluid.astype(np.float32), 11.0)
        _chest_bones(s, side, wall, theta, p, shoulder)
        table = y - 118.0 + 0.0011 * x**2
        s.mix((np.abs(table) < 1.4) * (side < 200), -150.0)
        s.mix((table > 1.4) * (table < 16) * (side < 195), -930.0)
        shade = 9.0 + 9.0 * shoulder + 3.0 * float(_ramp(z, -60.0, -150.0))
        streak = 14.0 * shoulder * np.sin(y * 0.55 + 2 * np.sin(x * 0.01)) * np.exp(-(((y - 5) / 45.0) ** 2))
        yield z, s.hu + noise(shade) + streak


def _chest_organs(
    s: _Slice, side: F32, wall: F32, theta: F32, p: F32, fine: F32, trees: list[_Branch], step: float
) -> None:
    x, y, z = s.x, s.y, s.z
    # Domes of the diaphragm: lung lies above them, abdomen below.
    dome_r = -48.0 - 0.0085 * ((x + 68.0) ** 2) - 0.012 * (y + 8.0) ** 2 - 0.28 * np.clip(y, 0, 90)
    dome_l = -60.0 - 0.0085 * ((x - 70.0) ** 2) - 0.012 * (y + 8.0) ** 2 - 0.28 * np.clip(y, 0, 90)
    dome = np.where(x < 0, dome_r, dome_l)
    above = z - dome
    # Width of the mediastinum by level and depth.
    heart = float(_ramp(z, 5.0, -25.0) * _ramp(z, -112.0, -88.0))
    middle = 24.0 + 8.0 * np.cos(y / 26.0) + 10.0 * _ramp(y, -30.0, -70.0) * float(_ramp(z, 30.0, 90.0))
    middle = middle - 14.0 * _ramp(y, -40.0, -62.0) * float(_ramp(z, -40.0, 10.0)) * float(_ramp(z, 70.0, 30.0))
    lung = np.minimum(wall - 3.0 - 0.4 * p, side - middle)
    lung = np.minimum(lung, above * 0.7)
    gravity = 45.0 * (y / 90.0)
    s.lay(lung, -868.0 + gravity + 14.0 * p + 8.0 * fine)
    inside = lung > 1.0
    lung_part = s.hu.copy()
    for branch in trees:
        if branch.low - step < z < branch.high + step:
            s.tube(branch.start, branch.end, branch.radius, 38.0, step)
    # What grew beyond the lung is cut off again.
    s.hu = np.where(inside, s.hu, lung_part).astype(np.float32)
    # Fissures: faint lines.
    for tilt, offset in ((0.62, 8.0), (0.55, 2.0)):
        gap = np.abs(y - offset + tilt * z + 0.004 * x**2 * 0.2)
        s.mix(_ramp(gap, 1.6, 0.4) * inside * (x < 0 if tilt > 0.6 else x > 0) * 0.12, -500.0)
    # Heart with its fat.
    if heart > 0:
        bulge = float(np.sqrt(max(0.0, 1 - ((z + 52.0) / 62.0) ** 2)))
        turned = 0.62
        u = (x - 22.0) * np.cos(turned) + (y + 22.0) * np.sin(turned)
        v = -(x - 22.0) * np.sin(turned) + (y + 22.0) * np.cos(turned)
        body = (bulge - np.hypot(u / 66.0, v / 48.0)) * 50.0
        s.lay(np.minimum(body + 5.0 + 2 * p, wall - 3), -95.0)
        s.lay(np.minimum(body, wall - 4), 42.0 + 2 * p)
        s.mix(_ramp(np.abs(u - 12.0), 2.6, 1.0) * (body > 0) * (body < 10) * 0.7, -70.0)
    # Great vessels, windpipe, gullet.
    arch = float(_ramp(z, 46.0, 52.0) * _ramp(z, 74.0, 66.0))
    if z < 62:
        s.ball((25.0, 37.0, z), (12.5, 12.5, 9.0), 44.0)
    if 0 < z < 60:
        s.ball((-12.0, -28.0, z), (16.5, 16.5, 9.0), 44.0)
        s.ball((-32.0, -20.0, z), (9.0, 10.0, 9.0), 42.0)
    if arch > 0:
        path = np.hypot((x - 4.0) * 0.9 + (y - 6.0) * 0.42, ((y - 6.0) - (x - 4.0) * 0.42) / 3.1)
        s.mix(_ramp(path, 14.0, 12.5) * arch, 44.0)
    if z > 66:
        for px, py, r in ((-14.0, -22.0, 7.0), (0.0, -26.0, 5.0), (16.0, -12.0, 5.5), (-24.0, -30.0, 8.0)):
            s.ball((px * (1 + 0.004 * (z - 66)), py + 0.12 * (z - 66), z), (r, r, 9.0), 43.0)
    if 4 < z < 36:
        s.ball((16.0, -22.0, 20.0), (15.0, 21.0, 18.0), 43.0, turn=-0.6)
        s.ball((-16.0, -4.0, 12.0), (25.0, 9.0, 12.0), 43.0, turn=0.15)
        s.ball((32.0, 4.0, 22.0), (12.0, 10.0, 14.0), 43.0)
    s.ball((6.0, 25.0, z), (7.0, 5.0, 9.0), 32.0)
    if z > 30:
        s.ball((1.0, 10.0, z), (10.5, 10.5, 9.0), 30.0)
        s.ball((1.0, 10.0, z), (8.6, 8.8, 9.0), -995.0)
    else:
        run = 30.0 - z
        if run < 62:
            for sign in (-1.0, 1.0):
                wide = 7.6 if run < 35 else 5.2
                where = (sign * (8.0 + run * (0.75 if sign > 0 else 0.62)), 10.0 + 0.1 * run, z)
                s.ball(where, (wide + 1.4, wide + 0.6, 9.0), 25.0)
                s.ball(where, (wide, wide - 0.8, 9.0), -990.0)
    # Abdomen.
    below = np.minimum(-above * 0.7, wall - 4.0)
    if float(below.max()) > 0:
        s.lay(below, -95.0 + 8 * p)
        liver = np.minimum(below - 1.5, 42.0 - x - 0.35 * y)
        liver = np.minimum(liver, 96.0 - np.hypot((x + 55) * 0.72, y + 2.0))
        s.lay(liver, 60.0 + 2.0 * p)
        twig = np.abs(np.sin(x * 0.07 + 2.2 * p) + np.sin(y * 0.08 - 1.7 * p))
        s.mix(_ramp(twig, 0.10, 0.03) * (liver > 6), 45.0)
        s.ball((84.0, 32.0, -138.0), (28.0, 42.0, 46.0), 50.0, turn=0.3)
        s.ball((58.0, -22.0, -138.0), (40.0, 38.0, 42.0), 42.0)
        air = np.minimum(36.0 - np.hypot((x - 58.0), (y + 22.0) * 1.05) - 0.25 * abs(z + 138.0), -28.0 - y)
        if z < -100:
            s.lay(air, -950.0)
        s.ball((25.0, 37.0, z), (12.0, 12.0, 9.0), 44.0)
        s.ball((6.0, 25.0, z), (7.0, 5.0, 9.0), 38.0)
        s.mix(_ramp(np.hypot(side - 16.0, (y - 40.0) / 2.2), 5.0, 3.0) * (z < -120), 45.0)


def _chest_bones(s: _Slice, side: F32, wall: F32, theta: F32, p: F32, shoulder: float) -> None:
    x, y, z = s.x, s.y, s.z
    # Ribs slope down from the spine to the front: one pattern, repeated every 27 mm.
    fall = 78.0 * (theta / np.pi) ** 1.25
    phase = (z + fall - 160.0) / 27.0
    away = (phase - np.round(phase)) * 27.0
    rank = np.round(phase)
    real = (rank <= 0) & (rank >= -11)
    front = _ramp(theta, 2.75, 2.55)
    rib = 1.0 - np.sqrt((away / 6.6) ** 2 + ((wall + 3.5) / 4.1) ** 2)
    keep = real * (theta > 0.28) * front
    s.mix(np.clip(rib * 4.0 / s.pixel + 0.5, 0, 1) * keep, 640.0)
    s.mix(np.clip((rib - 0.42) * 4.0 / s.pixel + 0.5, 0, 1) * keep, 190.0 + 50.0 * p)
    gristle = 1.0 - np.sqrt((away / 6.0) ** 2 + ((wall + 3.0) / 4.0) ** 2)
    s.mix(np.clip(gristle * 4.0 / s.pixel + 0.5, 0, 1) * real * (1 - front) * (side > 16), 105.0)
    # Breast bone.
    if -75 < z < 78:
        plate = 1.0 - np.hypot(x / (17.0 + 5.0 * float(_ramp(z, 40.0, 70.0))), (wall + 4.5) / 5.5)
        ahead = plate * (y < 0)
        s.mix(np.clip(ahead * 5 / s.pixel + 0.5, 0, 1) * (y < 0), 420.0)
        s.mix(np.clip((plate - 0.28) * 5 / s.pixel + 0.5, 0, 1) * (y < 0), 160.0 + 40 * p)
    # Spine: bodies and discs in turn, canal, arches.
    level = (z + 400.0) % 25.0
    disc = float(_ramp(level, 0.0, 1.6) * _ramp(level, 7.0, 5.2))
    cy = 51.0 - 4.0 * shoulder
    body = 1.0 - np.hypot(x / 18.5, (y - cy) / 15.0)
    edge = np.clip(body * 16 / s.pixel + 0.5, 0, 1)
    s.mix(edge, 480.0 * (1 - disc) + 92.0 * disc)
    s.mix(np.clip((body - 0.11) * 16 / s.pixel + 0.5, 0, 1), (185.0 + 45.0 * p) * (1 - disc) + 88.0 * disc)
    arch = np.hypot(x / 1.1, y - cy - 21.0)
    s.mix(_ramp(np.abs(arch - 12.0), 4.2, 2.8) * (y > cy + 8), 420.0)
    s.mix(_ramp(arch, 9.8, 9.0), 22.0)
    s.mix(_ramp(np.hypot(x, y - cy - 21.0), 5.4, 4.6), 40.0)
    spine = 1.0 - np.hypot(x / 3.6, (y - cy - 37.0) / 11.0)
    s.mix(np.clip(spine * 4 / s.pixel + 0.5, 0, 1) * (0.35 + 0.65 * (1 - disc)), 330.0)
    cross = 1.0 - np.hypot((side - 24.0) / 15.0, (y - cy - 17.0 - 0.25 * (side - 20)) / 4.4)
    s.mix(np.clip(cross * 4 / s.pixel + 0.5, 0, 1) * (1 - disc) * float(_ramp(level, 8.0, 12.0)), 400.0)
    # Shoulder blades, collar bones, heads of the arms.
    if z > 10:
        blade = np.abs((y - 62.0) + 0.55 * (side - 100.0) + 0.0016 * (z - 80) ** 2 * 0.2)
        span = (side > 62 + 0.25 * max(0.0, 90 - z)) * (side < 134)
        s.mix(_ramp(blade, 3.4, 2.0) * span * (wall < -9) * float(_ramp(z, 10.0, 24.0)), 520.0)
    if z > 96:
        part = np.clip((side - 14.0) / 118.0, 0.0, 1.0)
        off = (y - (-54.0 + 62.0 * part * part)) / np.sqrt(1 + (1.05 * part) ** 2)
        collar = np.hypot(off, (z - 118.0 - 16.0 * part) / 1.15)
        end = (side > 13) * (side < 134)
        s.mix(np.clip((7.4 - collar) / s.pixel + 0.5, 0, 1) * end, 640.0)
        s.mix(np.clip((4.6 - collar) / s.pixel + 0.5, 0, 1) * end, 220.0)
    if z > 104:
        for sign in (-1.0, 1.0):
            s.ball((sign * 146.0, 6.0, 140.0), (24.0, 24.0, 28.0), 560.0)
            s.ball((sign * 146.0, 6.0, 140.0), (21.0, 21.0, 25.0), 210.0)


# --------------------------------------------------------------------------------------------- radiographs


class _Film:
    """Attenuation summed along the beam, in millimetres of water, on a grid in millimetres (x right, z up)."""

    def __init__(self, rows: int, columns: int, pixel: float, x0: float, z0: float) -> None:
        self.pixel = pixel
        self.x: F32 = (x0 + np.arange(columns, dtype=np.float32) * pixel).astype(np.float32)[None, :]
        self.z: F32 = (z0 - np.arange(rows, dtype=np.float32) * pixel).astype(np.float32)[:, None]
        self.t: F32 = np.zeros((rows, columns), dtype=np.float32)

    def box(self, x_low: float, x_high: float, z_low: float, z_high: float) -> tuple[slice, slice]:
        """Slices of the part that covers a rectangle."""
        rows, columns = self.t.shape
        left = int(np.clip((x_low - self.x[0, 0]) / self.pixel, 0, columns))
        right = int(np.clip((x_high - self.x[0, 0]) / self.pixel + 2, 0, columns))
        top = int(np.clip((self.z[0, 0] - z_high) / self.pixel, 0, rows))
        bottom = int(np.clip((self.z[0, 0] - z_low) / self.pixel + 2, 0, rows))
        return slice(top, bottom), slice(left, right)

    def blob(
        self, x: float, z: float, rx: float, rz: float, weight: float, *, turn: float = 0.0, depth: float = 0
    ) -> None:
        """Add an ellipsoid; `depth` is its half thickness along the beam (default: the smaller radius)."""
        reach = max(rx, rz)
        where = self.box(x - reach, x + reach, z - reach, z + reach)
        dx, dz = self.x[:, where[1]] - x, self.z[where[0]] - z
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        u, v = dx * cos + dz * sin, dz * cos - dx * sin
        chord = np.sqrt(np.clip(1 - (u / rx) ** 2 - (v / rz) ** 2, 0, None))
        self.t[where] += np.float32(weight * 2 * (depth or min(rx, rz))) * chord

    def hollow(
        self,
        canvas: F32,
        start: tuple[float, float],
        end: tuple[float, float],
        radius: tuple[float, float],
        wall: float,
        marrow: float = 0.15,
    ) -> None:
        """Draw a hollow tube into `canvas`; the maximum joins pieces, so that joints are not counted twice."""
        reach = max(radius)
        where = self.box(
            min(start[0], end[0]) - reach,
            max(start[0], end[0]) + reach,
            min(start[1], end[1]) - reach,
            max(start[1], end[1]) + reach,
        )
        dx, dz = self.x[:, where[1]] - start[0], self.z[where[0]] - start[1]
        ax, az = end[0] - start[0], end[1] - start[1]
        along = np.clip((dx * ax + dz * az) / max(ax * ax + az * az, 1e-6), 0, 1)
        square = (dx - along * ax) ** 2 + (dz - along * az) ** 2
        outer = radius[0] + along * (radius[1] - radius[0])
        inner = np.clip(outer - wall, 0, None)
        full = np.sqrt(np.clip(outer**2 - square, 0, None))
        empty = np.sqrt(np.clip(inner**2 - square, 0, None))
        np.maximum(canvas[where], 2 * (full - (1 - marrow) * empty), out=canvas[where])

    def line(
        self,
        points: list[tuple[float, float]],
        radius: float | tuple[float, float],
        wall: float,
        weight: float,
        marrow: float = 0.15,
    ) -> None:
        """Add one bone that follows `points`."""
        ends = radius if isinstance(radius, tuple) else (radius, radius)
        canvas = np.zeros(self.t.shape, dtype=np.float32)
        count = len(points) - 1
        for index in range(count):
            here = ends[0] + (ends[1] - ends[0]) * index / count
            there = ends[0] + (ends[1] - ends[0]) * (index + 1) / count
            self.hollow(canvas, points[index], points[index + 1], (here, there), wall, marrow)
        reach = max(ends)
        across, up = [point[0] for point in points], [point[1] for point in points]
        where = self.box(min(across) - reach, max(across) + reach, min(up) - reach, max(up) + reach)
        self.t[where] += np.float32(weight) * canvas[where]


def _expose(rng: Rng, film: _Film, detail: float, flatten: float) -> F32:
    """Turn attenuation into what a detector's processing shows: 0 dark to 1 bright.

    Photon noise grows where little comes through; wide contrast is pressed together, edges are lifted.
    """
    grain = rng.standard_normal(film.t.shape, dtype=np.float32)
    signal = film.t * np.float32(0.019)
    signal += np.float32(0.008) * np.exp(signal * 0.42) * grain
    wide = _smooth(signal, max(8, film.t.shape[0] // 40))
    near = _smooth(signal, 4)
    return np.asarray(flatten * wide + (signal - wide) + detail * (signal - near), dtype=np.float32)


def _to_bits(picture: F32, low: float, high: float, bits: int) -> npt.NDArray[np.uint16]:
    top = (1 << bits) - 1
    return np.asarray(np.rint(np.clip((picture - low) / (high - low), 0, 1) * top), dtype=np.uint16)


def _mark(pixels: npt.NDArray[np.uint16], letter: str, place: tuple[float, float], value: int) -> None:
    """Burn a lead letter in; `place` is its middle as a share of width and height."""
    rows, columns = pixels.shape
    size = max(10, rows // 26)
    stamp = Image.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(stamp)
    x, y = place[0] * columns, place[1] * rows
    draw.text((x, y), letter, font=font_of(size), fill=255, anchor="mm", stroke_width=max(1, size // 22))
    edge = size * 0.72
    draw.ellipse((x - edge, y - edge, x + edge, y + edge), outline=255, width=max(1, size // 16))
    mask = np.asarray(stamp, dtype=np.float32) / 255
    pixels[:] = np.rint(pixels + mask * (value - pixels.astype(np.float32))).astype(np.uint16)


def _dr_chest(rng: Rng, size: int, finding: str) -> tuple[npt.NDArray[np.uint16], float]:
    """Return a chest radiograph, posterior-anterior, as (pixels of 14 bits, spacing in mm)."""
    pixel = 400.0 / size
    film = _Film(size, size, pixel, -200.0, 212.0)
    x, z = film.x, film.z
    side = np.abs(x)
    grow = 1.0 + 0.04 * float(rng.standard_normal())
    texture = _scaled(_band_noise(rng, (128, 128), 0.02, 0.12), (size, size))
    # Trunk, shoulders, neck.
    trunk = 158.0 * grow + 6.0 * np.cos(z / 60.0)
    slope = 172.0 - 0.42 * np.clip(side - 58.0, 0, None) - 0.0016 * np.clip(side - 110, 0, None) ** 2
    chord = np.clip(1 - (np.clip(side / trunk, 0, 1)) ** 3.2, 0, 1) ** 0.55
    body = 205.0 * chord * np.sqrt(np.clip((slope - z) / 90.0, 0, 1))
    armpit = 62.0 - 0.9 * np.clip(side - 146.0, -20, None)
    arm = np.sqrt(np.clip((slope - z) / 60.0, 0, 1) * np.clip((z - armpit) / 34.0, 0, 1))
    shoulder = 128.0 * arm * np.clip((226.0 - side) / 50, 0, 1) ** 0.5
    neck = 112.0 * np.sqrt(np.clip(1 - (side / (58.0 + 30.0 * _ramp(z, 185.0, 135.0))) ** 2, 0, 1))
    neck = neck * _ramp(z, 70.0, 165.0)
    film.t += (body**4 + shoulder**4 + neck**4) ** 0.25 * (1 + 0.008 * texture)
    # Lungs: air between rib cage, mediastinum and diaphragm.
    height = np.clip((z + 95.0) / 238.0, 0, 1)
    lung = np.zeros_like(film.t)
    for sign in (-1.0, 1.0):
        inner = 21.0 + 5.0 * np.cos(z / 30.0) + 20.0 * _ramp(height, 0.62, 1.0)
        outer = inner + 114.0 * grow * np.clip(1 - height**3.0, 0, 1) ** 0.5
        place = sign * x
        middle, half = (outer + inner) / 2, np.clip((outer - inner) / 2, 1, None)
        across = np.clip(1 - np.abs((place - middle) / half) ** 3.0, 0, 1) ** 0.6
        dome = (-58.0 if sign < 0 else -72.0) - 0.0062 * (place - 58.0) ** 2 - 18.0 * _ramp(place, 95.0, 135.0)
        open_front = np.clip((z - dome) / 2.2 + 0.5, 0, 1)
        behind = 0.26 * np.clip((z - dome + 38.0) / 34.0, 0, 1)
        depth = (150.0 - 62.0 * _ramp(height, 0.35, 1.0)) * (0.74 * open_front + behind)
        lung += across * depth * (outer > inner) * (place > 0) * (z < 143.0)
    if finding == "effusion":
        surface = -44.0 + 0.0042 * (np.clip(x, 0, None) - 20.0) ** 2
        lung *= 1 - 0.97 * _ramp(z, surface + 14.0, surface - 6.0) * (x > 0)
    # Heart and great vessels take the place of lung: their outline is seen only against air.
    solid = _Film(size, size, pixel, -200.0, 212.0)
    solid.blob(20.0, -44.0, 68.0 * grow, 49.0 * grow, 1.0, turn=-0.62, depth=50.0)
    solid.blob(-10.0, -30.0, 38.0, 52.0, 1.0, depth=44.0)
    solid.blob(17.0, 60.0, 21.0, 19.0, 1.0, depth=26.0)
    solid.blob(20.0, 24.0, 24.0, 27.0, 1.0, depth=26.0)
    solid.blob(-17.0, 62.0, 15.0, 58.0, 1.0, depth=20.0)
    for sign in (-1.0, 1.0):
        solid.blob(sign * 31.0, 14.0, 14.0, 24.0, 0.75, turn=sign * 0.35, depth=16.0)
    lung = np.clip(lung - solid.t, 0.0, None)
    film.t -= 0.74 * lung
    airy = _ramp(lung, 5.0, 60.0)
    film.t += airy * 1.4 * texture
    film.line([(23.0, 52.0), (25.0, 10.0), (23.0, -50.0), (14.0, -110.0)], 11.0, 0.0, 0.3, 1.0)
    film.t += 10.0 * _ramp(side, 34.0, 12.0) * _ramp(z, 150.0, 100.0)
    windpipe = np.sqrt(np.clip(1 - ((x - 1.5) / 9.0) ** 2, 0, 1)) * _ramp(z, 34.0, 44.0)
    film.t -= 17.0 * windpipe
    for sign in (-1.0, 1.0):
        canvas = np.zeros_like(film.t)
        film.hollow(canvas, (sign * 2, 42.0), (sign * 34.0, 42.0 - (30.0 if sign < 0 else 24.0)), (6.5, 5.0), 0.0, 1.0)
        film.t -= 0.9 * canvas
    # Vessels.
    canvas = np.zeros_like(film.t)
    for root, sign in (((-30.0, 2.0, 12.0), -1.0), ((32.0, 4.0, 18.0), 1.0)):
        for branch in _vessels(rng, root, sign, depth=5):
            if branch.radius >= 0.5:
                a, b = branch.start, branch.end
                thin = (branch.radius, branch.radius * 0.9)
                film.hollow(canvas, (float(a[0]), float(a[2])), (float(b[0]), float(b[2])), thin, 0.0, 1.0)
    film.t += 1.7 * canvas * airy
    if finding == "nodule":
        film.blob(-float(rng.uniform(62, 85)), float(rng.uniform(30, 62)), 10.5, 9.5, 1.35, depth=10.0)
    # Spine.
    for level in range(-9, 10):
        center = level * 24.5 + 3.0
        bone = np.clip((18.5 + 0.03 * (center - z) ** 2 * 0.6 - side) / 2.5, 0, 1) * np.clip(
            (10.6 - np.abs(z - center)) / 1.4, 0, 1
        )
        rim = np.clip((np.abs(z - center) - 8.6) / 1.0, 0, 1) + np.clip((side - 15.8) / 1.6, 0, 1)
        film.t += bone * (6.5 + 3.0 * np.clip(rim, 0, 1))
        film.blob(0.0, center - 5.0, 3.4, 9.0, 0.8, depth=5.0)
        for sign in (-1.0, 1.0):
            ring: list[tuple[float, float]] = [
                (sign * 10.5 + 3.6 * np.cos(a), center + 3.0 + 5.0 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 11)
            ]
            where = film.box(sign * 10.5 - 8, sign * 10.5 + 8, center - 8, center + 12)
            part = np.zeros(film.t.shape, dtype=np.float32)
            for first, second in pairwise(ring):
                film.hollow(part, first, second, (1.3, 1.3), 0.0, 1.0)
            film.t[where] += 0.9 * part[where]
            if -5 < level < 7:
                film.line([(sign * 14.0, center + 1.0), (sign * 31.0, center + 5.0)], (3.6, 3.0), 1.0, 0.8)
    _chest_film_bones(film, grow)
    # Gas below the left dome and in the gut.
    film.blob(62.0, -98.0, 27.0, 16.0, -0.8, depth=24.0)
    film.blob(96.0, -132.0, 22.0, 17.0, -0.55, turn=0.5, depth=18.0)
    picture = _expose(rng, film, detail=0.8, flatten=0.55)
    bright = np.percentile(picture, 99.2)
    dark = np.percentile(picture[airy > 0.9], 2.0) if (airy > 0.9).any() else 0.0
    pixels = _to_bits(picture, float(dark - 0.16 * (bright - dark)), float(bright * 1.02), 14)
    edge = max(1, size // 90)
    pixels[:edge] = pixels[-edge:] = 0
    pixels[:, :edge] = pixels[:, -edge:] = 0
    _mark(pixels, "R", (0.075, 0.085), 16200)
    return pixels, pixel


def _chest_film_bones(film: _Film, grow: float) -> None:
    for sign in (-1.0, 1.0):
        for rib in range(10):
            z0 = 136.0 - 23.5 * rib
            reach = grow * float(np.interp(rib, [0, 1, 2, 4, 7, 9], [58.0, 86.0, 106.0, 128.0, 134.0, 126.0]))
            fall = float(np.interp(rib, [0, 3, 9], [34.0, 78.0, 88.0]))
            back: list[tuple[float, float]] = []
            front: list[tuple[float, float]] = []
            for t in np.linspace(0.0, 1.0, 44):
                angle = np.pi * (0.045 + 0.745 * t)
                place = sign * (reach * np.sin(angle) ** 0.92 + 8.0 * t)
                drop = z0 + 8.0 * np.sin(np.pi * min(1.0, t * 2.6)) - fall * t**1.5
                (back if t <= 0.52 else front).append((float(place), float(drop)))
            front.insert(0, back[-1])
            film.line(back, 5.8, 1.6, 1.55, 0.34)
            if rib < 8:
                film.line(front, (5.4, 5.0), 1.2, 0.95, 0.34)
        collar = [
            (sign * (15.0 + 120.0 * t), 116.0 + 26.0 * t + 7.0 * np.sin(np.pi * 2 * t)) for t in np.linspace(0, 1, 18)
        ]
        film.line(collar, (8.0, 5.6), 1.9, 1.5, 0.3)
        blade = [
            (120.0, 122.0),
            (106.0, 96.0),
            (101.0, 60.0),
            (108.0, 22.0),
            (122.0, 4.0),
            (134.0, 36.0),
            (150.0, 88.0),
        ]
        film.line([(sign * px, pz) for px, pz in blade], 2.6, 0.0, 0.85, 1.0)
        film.line([(sign * 112.0, 104.0), (sign * 150.0, 126.0), (sign * 166.0, 138.0)], (3.4, 6.0), 1.2, 0.8)
        film.blob(sign * 173.0, 110.0, 24.0, 25.0, 0.8, depth=21.0)
        film.line([(sign * 176.0, 104.0), (sign * 189.0, 40.0), (sign * 197.0, -10.0)], (20.0, 11.0), 3.4, 0.75, 0.2)


# Joints of a right hand, palm down, in millimetres from the wrist: (start, end, radius of base, shaft and head).
_HAND_BONES: Final[tuple[tuple[tuple[float, float], tuple[float, float], tuple[float, float, float]], ...]] = (
    ((-12.0, -112.0), (-9.5, -13.0), (7.0, 7.4, 14.5)),
    ((14.0, -112.0), (15.5, -19.0), (6.4, 5.2, 8.6)),
    ((-23.0, 12.0), (-44.0, 43.0), (7.6, 5.0, 7.6)),
    ((-11.5, 21.0), (-22.0, 84.0), (8.2, 4.5, 8.0)),
    ((-1.0, 23.5), (-3.5, 86.0), (7.6, 4.5, 7.8)),
    ((8.0, 21.5), (14.5, 79.0), (6.6, 3.8, 6.9)),
    ((16.0, 18.0), (30.5, 69.0), (6.6, 3.9, 6.8)),
    ((-47.0, 50.0), (-58.0, 75.0), (7.4, 4.8, 6.2)),
    ((-61.0, 80.5), (-69.0, 98.0), (6.6, 3.4, 4.0)),
    ((-23.5, 93.0), (-31.0, 127.0), (8.0, 4.6, 6.0)),
    ((-32.2, 132.5), (-36.3, 152.5), (6.6, 3.9, 5.0)),
    ((-37.2, 157.5), (-39.4, 171.5), (5.2, 2.4, 3.7)),
    ((-3.8, 95.0), (-4.6, 134.0), (8.0, 4.8, 6.2)),
    ((-4.7, 139.8), (-5.0, 164.5), (6.8, 4.1, 5.2)),
    ((-5.0, 169.7), (-5.1, 185.0), (5.3, 2.5, 3.9)),
    ((15.8, 87.5), (21.8, 124.0), (7.4, 4.3, 5.8)),
    ((22.8, 129.5), (26.5, 152.5), (6.3, 3.7, 4.9)),
    ((27.4, 157.6), (29.6, 172.0), (5.0, 2.3, 3.6)),
    ((33.0, 77.0), (42.0, 105.0), (6.8, 3.7, 5.0)),
    ((43.6, 109.8), (48.8, 125.0), (5.4, 3.2, 4.2)),
    ((50.4, 129.5), (54.4, 141.5), (4.4, 2.0, 3.1)),
)
_HAND_FLESH: Final[tuple[tuple[tuple[float, float], ...], ...]] = (
    ((-23.0, 12.0), (-45.0, 47.0), (-59.5, 78.0), (-70.5, 102.0)),
    ((-11.5, 21.0), (-22.5, 88.0), (-31.5, 130.0), (-36.7, 155.0), (-40.0, 176.0)),
    ((-1.0, 23.5), (-3.6, 90.0), (-4.6, 137.0), (-5.0, 167.0), (-5.1, 190.0)),
    ((8.0, 21.5), (15.0, 83.0), (22.3, 127.0), (27.0, 155.0), (30.2, 176.0)),
    ((16.0, 18.0), (31.5, 73.0), (42.8, 107.5), (49.5, 127.5), (56.0, 146.0)),
)
_CARPALS: Final[tuple[tuple[float, float, float, float, float], ...]] = (
    (-12.5, 2.0, 6.6, 11.0, -0.55),
    (0.5, -2.5, 7.6, 7.0, 0.1),
    (11.5, 0.5, 6.6, 7.4, 0.6),
    (14.5, -1.5, 4.8, 5.2, 0.0),
    (-20.0, 10.5, 6.8, 6.6, 0.4),
    (-10.8, 14.2, 5.6, 5.6, 0.2),
    (-0.8, 11.5, 7.2, 10.6, 0.0),
    (10.2, 11.0, 7.6, 8.4, -0.3),
)


def _bone(film: _Film, bone: Any, speckle: F32, crack: tuple[float, float] | None = None) -> None:
    """Add a long bone with flared ends, a shell thick at the shaft, and spongy ends.

    `crack`: place along the bone and angle of what lies beyond it.
    """
    (x0, z0), (x1, z1), (base, shaft, head) = bone
    reach = max(base, head) + 2
    where = film.box(min(x0, x1) - reach - 4, max(x0, x1) + reach + 4, min(z0, z1) - reach, max(z0, z1) + reach)
    length = float(np.hypot(x1 - x0, z1 - z0))
    ux, uz = (x1 - x0) / length, (z1 - z0) / length
    dx, dz = film.x[:, where[1]] - x0, film.z[where[0]] - z0
    along, across = dx * ux + dz * uz, dx * -uz + dz * ux
    if crack is not None:
        place, angle = crack[0] * length, crack[1]
        jag = 1.2 * np.sin(across * 1.9) + 0.5 * np.sin(across * 4.3 + 1)
        beyond = along > place + jag
        gap = np.abs(along - place - jag)
        across = np.where(beyond, across - (along - place) * np.float32(np.tan(angle)) - 1.1, across)
    grown = along / length
    radius = (
        shaft + (base - shaft) * np.exp(-((grown / 0.17) ** 2)) + (head - shaft) * np.exp(-(((1 - grown) / 0.15) ** 2))
    )
    # Ends are rounded: beyond the axis the radius shrinks like an ellipse.
    over = np.clip(np.maximum(-along / (0.42 * base), (along - length) / (0.5 * head)), 0, 1)
    radius = radius * np.sqrt(1 - over**2)
    shell = 0.55 + 1.25 * np.exp(-(((grown - 0.5) / 0.27) ** 4)) * (shaft / 4.5)
    outer = np.sqrt(np.clip(radius**2 - across**2, 0, None))
    inner = np.sqrt(np.clip(np.clip(radius - shell, 0, None) ** 2 - across**2, 0, None))
    sponge = 0.15 + (0.24 + 0.03 * speckle[where]) * (1 - np.exp(-(((np.clip(grown, 0, 1) - 0.5) / 0.30) ** 4)))
    added = 2 * (outer - inner) + 2 * inner * sponge
    if crack is not None:
        added = added * (1 - 0.75 * np.exp(-((gap / 0.55) ** 2)))
    film.t[where] += np.float32(1.5) * added.astype(np.float32)


def _dr_limb(rng: Rng, size: int, finding: str) -> tuple[npt.NDArray[np.uint16], float]:
    """Return a radiograph of a right hand, posterior-anterior, as (pixels of 14 bits, spacing in mm)."""
    pixel = 272.0 / size
    film = _Film(size, size, pixel, -140.0, 208.0)
    x, z = film.x, film.z
    speckle = _scaled(_band_noise(rng, (640, 640), 0.08, 0.25), (size, size))
    flesh = np.zeros_like(film.t)
    for finger, points in enumerate(_HAND_FLESH):
        thick = 9.6 if finger == 0 else (9.4, 9.6, 9.0, 7.9)[finger - 1]
        count = len(points) - 1
        for index in range(count):
            first = thick + (7.5 if index == 0 else 0.6) - 0.75 * index
            second = thick + (0.6 if index < count - 1 else -0.8) - 0.75 * index
            film.hollow(flesh, points[index], points[index + 1], (first, second), 0.0, 1.0)
    palm = [(-14.0, 12.0), (-12.0, 48.0), (4.0, 62.0), (14.0, 40.0), (10.0, 8.0), (-6.0, 30.0)]
    for first_point, second_point in pairwise(palm):
        film.hollow(flesh, first_point, second_point, (19.5, 18.5), 0.0, 1.0)
    wrist = 27.0 + 5.5 * _ramp(z, -30.0, -110.0) + 3.0 * _ramp(z, -8.0, 15.0)
    forearm = 2 * 19.0 * np.sqrt(np.clip(1 - ((x - 1.5) / wrist) ** 2, 0, 1)) * _ramp(z, 26.0, 4.0)
    flesh = np.maximum(flesh, forearm.astype(np.float32))
    flesh = np.where(flesh > 0, 0.45 * flesh + 0.55 * _smooth(flesh, max(2, size // 80)), 0).astype(np.float32)
    film.t += 0.92 * np.clip(flesh, 0, 34.0) ** 0.92 * (1 + 0.012 * speckle)
    broken = int(rng.integers(0, 2)) if finding == "fracture" else -1
    for index, bone in enumerate(_HAND_BONES):
        crack = None
        if broken == 0 and index == 6:
            crack = (0.74, 0.26)
        elif broken == 1 and index == 0:
            crack = (0.83, -0.16)
        _bone(film, bone, speckle, crack)
    for cx, cz, rx, rz, turn in _CARPALS:
        before = film.t.copy()
        film.blob(cx, cz, rx, rz, 1.0, turn=turn, depth=6.2)
        film.blob(cx, cz, rx - 0.9, rz - 0.9, -0.62, turn=turn, depth=5.6)
        film.t += (film.t - before) * 0.06 * speckle
    for cx, cz in ((-36.0, 44.5), (-41.0, 41.0)):
        film.blob(cx, cz, 2.5, 2.9, 1.5)
    picture = _expose(rng, film, detail=0.5, flatten=0.85)
    pixels = _to_bits(picture, -0.07, float(np.percentile(picture, 99.85)) * 1.04, 14)
    edge_x, edge_z = max(1, size // 26), max(1, size // 60)
    pixels[:edge_z] = pixels[-edge_z:] = 0
    pixels[:, :edge_x] = pixels[:, -edge_x:] = 0
    _mark(pixels, "R", (0.85, 0.14), 16200)
    return pixels, pixel


# --------------------------------------------------------------------------------------------- files

_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_DX: Final = "1.2.840.10008.5.1.4.1.1.1.1"
_CHARSETS: Final[dict[str, tuple[str, str]]] = {
    "utf-8": ("ISO_IR 192", "utf-8"),
    "gb18030": ("GB18030", "gb18030"),
    "gbk-mislabelled": ("ISO_IR 100", "gbk"),
    "pinyin": ("ISO_IR 100", "ascii"),
}
_TITLES: Final = {
    "ct_head": ("颅脑CT平扫", "头颅 轴位"),
    "ct_chest": ("胸部CT平扫", "胸部 轴位"),
    "dr_chest": ("胸部正位DR", "胸部后前位"),
    "dr_limb": ("右手正位DR", "右手后前位"),
}


def _latin(text: str) -> str:
    """Romanise running text for a device without Chinese."""
    return (
        "".join(part.capitalize() if part.isalpha() else part for part in pypinyin.lazy_pinyin(text, v_to_u=False))
        .encode("ascii", "replace")
        .decode("ascii")
    )


class _Writer:
    """Puts text into a data set as a device with a certain idea of character sets does."""

    def __init__(self, charset: Charset) -> None:
        if charset not in _CHARSETS:
            raise ValueError(f"unknown charset {charset}")
        self.charset = charset
        self.term, self.codec = _CHARSETS[charset]

    def text(self, value: str) -> str:
        """Text as pydicom must be given it so that the wanted bytes come out."""
        if self.charset == "pinyin":
            return _latin(value)
        if self.charset == "gbk-mislabelled":
            # GBK bytes under a Latin label: what a reader that believes the label sees.
            return value.encode("gbk", "replace").decode("latin-1")
        return value

    def name(self, name: str, pinyin: str) -> str:
        """A person's name, each device with its own habit."""
        full = person_name(name, pinyin)
        if self.charset == "pinyin":
            return full.partition("=")[0].replace("^", " ").upper() or ""
        if self.charset == "gbk-mislabelled":
            return self.text(name)
        if self.charset == "gb18030":
            return full.partition("=")[2] or full
        return full


def generate(
    kind: str,
    *,
    seed: int,
    patient: PhantomPatient,
    study_time: datetime,
    accession: str = "",
    charset: Charset = "utf-8",
    slices: int = 64,
    size: int | None = None,
    finding: str = "",
    uid_root: str = "2.25",
    monochrome1: bool | None = None,
) -> Iterator[bytes]:
    """Make one study of one series, file by file.

    Args:
        kind: one of `KINDS`.
        seed: equal arguments give equal bytes.
        patient: whose study it claims to be.
        study_time: local wall clock of the device; a zone is ignored.
        accession: Accession Number.
        charset: how text is written. ``utf-8``: ``Wang^Wei=王^伟`` in ISO_IR 192; ``gb18030``: ``王^伟``;
            ``gbk-mislabelled``: GBK bytes declared ISO_IR 100; ``pinyin``: ``WANG WEI``, all text in ASCII.
        slices: number of CT slices, over the same length of body.
        size: rows and columns; 512 for CT and 2000 for radiographs unless given. Small ones for tests.
        finding: empty for a normal study, or one of `FINDINGS[kind]`.
        uid_root: root of all UIDs; they depend on it, the seed, the kind, the patient's ID and the time.
        monochrome1: radiographs: store bright as low values; None: hands so, chests not.

    Yields:
        DICOM files (PS3.10), CT from the feet to the head; the CT is made while it is read.

    Raises:
        ValueError: unknown kind, charset or finding, or a size below 16.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind}")
    if finding and finding not in FINDINGS[kind]:
        raise ValueError(f"{kind} has no finding {finding}")
    if slices < 1 or (size is not None and size < 16):
        raise ValueError("too small")
    writer = _Writer(charset)
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    identity = (seed, kind, patient.patient_id, study_time.strftime("%Y%m%d%H%M%S"), finding, charset)
    base = _base(kind, writer, patient, study_time, accession, identity, uid_root)
    if kind.startswith("ct_"):
        return _ct_files(kind, base, writer, rng, size or 512, slices, finding, study_time, identity, uid_root)
    return _dx_files(kind, base, writer, rng, size or 2000, finding, identity, uid_root, monochrome1)


def _base(
    kind: str,
    writer: _Writer,
    patient: PhantomPatient,
    study_time: datetime,
    accession: str,
    identity: tuple[object, ...],
    uid_root: str,
) -> Dataset:
    """Patient, study, series and equipment modules (PS3.3 C.7.1 to C.7.5)."""
    day, clock = study_time.strftime("%Y%m%d"), study_time.strftime("%H%M%S")
    title, protocol = _TITLES[kind]
    ds = Dataset()
    ds.SpecificCharacterSet = writer.term
    ds.SOPClassUID = _CT if kind.startswith("ct_") else _DX
    ds.InstanceCreationDate, ds.InstanceCreationTime = day, clock
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = day
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = clock
    ds.AccessionNumber = accession[:16]
    ds.Modality = "CT" if kind.startswith("ct_") else "DX"
    ds.Manufacturer, ds.ManufacturerModelName = patient.device
    ds.DeviceSerialNumber = "0"
    ds.SoftwareVersions = "phantom 1"
    if patient.institution:
        ds.InstitutionName = writer.text(patient.institution)
    ds.ReferringPhysicianName = writer.name(patient.referring_physician, "") if patient.referring_physician else ""
    ds.StudyDescription = writer.text(patient.study_description or title)
    ds.SeriesDescription = writer.text(protocol)
    ds.ProtocolName = writer.text(protocol)
    ds.PatientName = writer.name(patient.name, patient.pinyin)
    ds.PatientID = patient.patient_id
    ds.PatientBirthDate = patient.birth_date.strftime("%Y%m%d") if patient.birth_date else ""
    ds.PatientSex = patient.sex
    if patient.age is not None:
        ds.PatientAge = f"{patient.age:03d}Y"
    ds.StudyInstanceUID = make_uid(uid_root, "phantom-study", *identity)
    ds.SeriesInstanceUID = make_uid(uid_root, "phantom-series", *identity)
    ds.StudyID = "1"
    ds.SeriesNumber = 1
    ds.BodyPartExamined = {"ct_head": "HEAD", "ct_chest": "CHEST", "dr_chest": "CHEST", "dr_limb": "HAND"}[kind]
    ds.ImageComments = _COMMENT
    ds.BurnedInAnnotation = "NO"
    ds.PixelRepresentation = 0
    ds.SamplesPerPixel = 1
    ds.BitsAllocated = 16
    ds.LossyImageCompression = "00"
    return ds


def _file(ds: Dataset, uid: str, pixels: npt.NDArray[Any]) -> bytes:
    ds.SOPInstanceUID = uid
    ds.Rows, ds.Columns = pixels.shape
    ds.add_new(0x7FE00010, "OW", np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<")).tobytes())
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(ds.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(make_uid("2.25", "implementation", "phantom"))
    meta.ImplementationVersionName = "COUNTYHUB_1"
    ds.file_meta = meta
    return to_part10(ds)


def _ct_files(
    kind: str,
    ds: Dataset,
    writer: _Writer,
    rng: Rng,
    size: int,
    slices: int,
    finding: str,
    study_time: datetime,
    identity: tuple[object, ...],
    uid_root: str,
) -> Iterator[bytes]:
    """CT Image IOD (PS3.3 A.3, C.8.2.1)."""
    head = kind == "ct_head"
    maker: Callable[[Rng, int, int, str], Iterator[tuple[float, F32]]] = _ct_head if head else _ct_chest
    fov, length = (236.0, 128.0) if head else (356.0, 320.0)
    pixel, step = fov / size, length / slices
    ds.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    ds.DerivationDescription = "Computed from a mathematical phantom"
    ds.FrameOfReferenceUID = make_uid(uid_root, "phantom-frame", *identity)
    ds.PositionReferenceIndicator = ""
    ds.PatientPosition = "HFS"
    ds.SliceThickness = f"{step:.6g}"
    ds.SpacingBetweenSlices = f"{step:.6g}"
    ds.KVP = "120"
    ds.XRayTubeCurrent = 220 if head else 150
    ds.ExposureTime = 1000
    ds.ConvolutionKernel = "STANDARD"
    ds.GantryDetectorTilt = "0"
    ds.DataCollectionDiameter = "500"
    ds.ReconstructionDiameter = f"{fov:.6g}"
    ds.TableHeight = "150"
    ds.RotationDirection = "CW"
    ds.AcquisitionNumber = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 15, 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "HU"
    ds.WindowCenter, ds.WindowWidth = (["40", "600"], ["80", "2800"]) if head else (["40", "-600"], ["400", "1500"])
    ds.WindowCenterWidthExplanation = ["BRAIN", "BONE"] if head else ["MEDIASTINUM", "LUNG"]
    ds.PixelSpacing = [f"{pixel:.8g}", f"{pixel:.8g}"]
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    corner = -(size - 1) / 2 * pixel
    for index, (z, hu) in enumerate(maker(rng, size, slices, finding)):
        moment = study_time + timedelta(milliseconds=350 * index)
        ds.AcquisitionTime = ds.ContentTime = moment.strftime("%H%M%S.%f")
        ds.AcquisitionDate = ds.ContentDate = moment.strftime("%Y%m%d")
        ds.InstanceNumber = index + 1
        ds.ImagePositionPatient = [f"{corner:.8g}", f"{corner:.8g}", f"{z:.8g}"]
        ds.SliceLocation = f"{z:.8g}"
        pixels = np.rint(np.clip(hu, -1024, 3071)).astype(np.int16)
        yield _file(ds, make_uid(uid_root, "phantom-image", *identity, index), pixels)


def _coded(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _dx_files(
    kind: str,
    ds: Dataset,
    writer: _Writer,
    rng: Rng,
    size: int,
    finding: str,
    identity: tuple[object, ...],
    uid_root: str,
    monochrome1: bool | None,
) -> Iterator[bytes]:
    """Digital X-Ray Image IOD for presentation (PS3.3 A.26, C.8.11)."""
    chest = kind == "dr_chest"
    pixels, pixel = (_dr_chest if chest else _dr_limb)(rng, size, finding)
    inverse = (not chest) if monochrome1 is None else monochrome1
    if inverse:
        pixels = (16383 - pixels).astype(np.uint16)
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.DerivationDescription = "Computed from a mathematical phantom"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.InstanceNumber = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if inverse else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    ds.BitsStored, ds.HighBit = 14, 13
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.WindowCenter, ds.WindowWidth = "8192", "16384"
    ds.PixelIntensityRelationship = "LOG"
    # Bright means dense: low values are much radiation in MONOCHROME2, little in MONOCHROME1.
    ds.PixelIntensityRelationshipSign = 1 if inverse else -1
    ds.ImagerPixelSpacing = [f"{pixel:.8g}", f"{pixel:.8g}"]
    ds.PixelSpacing = [f"{pixel:.8g}", f"{pixel:.8g}"]
    ds.PixelSpacingCalibrationType = "GEOMETRY"
    ds.PixelSpacingCalibrationDescription = "Computed in the plane of the body"
    ds.DetectorType = "DIRECT"
    ds.KVP = "120" if chest else "52"
    ds.ExposureInuAs = 3200 if chest else 4000
    ds.ViewPosition = "PA"
    ds.PatientOrientation = ["L", "F"] if chest else ["L", "H"]
    ds.ImageLaterality = "U" if chest else "R"
    ds.PositionerType = "NONE"
    region = _coded("51185008", "SCT", "Chest") if chest else _coded("85562004", "SCT", "Hand")
    if not chest:
        region.AnatomicRegionModifierSequence = [_coded("24028007", "SCT", "Right")]
    ds.AnatomicRegionSequence = [region]
    view = _coded("399348003", "SCT", "postero-anterior")
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.AcquisitionContextSequence = []
    yield _file(ds, make_uid(uid_root, "phantom-image", *identity, 0), pixels)
