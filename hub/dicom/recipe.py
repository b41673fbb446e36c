"""Rebuilding an original from its recompressed form: what is needed besides the pixels.

A recompressed instance is a DICOM file of its own, whose frames are HTJ2K code streams. Its recipe holds every byte of
the original that is no pixel: preamble, group 0002, the data set before and after Pixel Data, padding. Original =
prefix + the decoded frames in their old layout + suffix; its SHA-256 stands in the recipe as well as in the index, so
that an object can be rebuilt, and proven, without a database.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Final

import imagecodecs
import numpy as np

MAGIC: Final = b"HUBRECIPE1\n"
MAX_BYTES: Final = 64 << 20
"""Most bytes besides the pixels that a recipe keeps."""


class BrokenRecipe(Exception):
    """The recipe, or a frame it is to be used with, is not what was written."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How frames lay in the original.

    Attributes:
        frames: Their number.
        rows, columns, samples: Size of one.
        dtype: Sample as numpy names it: `|u1`, `<u2`, `<i2`, ….
        planar: Whether the samples of a colour lie apart (Planar Configuration 1).
    """

    frames: int
    rows: int
    columns: int
    samples: int
    dtype: str
    planar: bool = False

    @property
    def frame_bytes(self) -> int:
        """Length of one frame in bytes."""
        return self.rows * self.columns * self.samples * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything of an original that is no pixel.

    Attributes:
        prefix: The file's bytes before its first frame.
        suffix: The bytes behind its last frame.
        layout: How the frames lay between them.
        sha256: Lower-case hex digest of the original.
    """

    prefix: bytes
    suffix: bytes
    layout: Layout
    sha256: str

    @property
    def size(self) -> int:
        """Length of the original in bytes."""
        return len(self.prefix) + self.layout.frames * self.layout.frame_bytes + len(self.suffix)

    def to_bytes(self) -> bytes:
        """Serialise, compressed."""
        head = json.dumps({"prefix": len(self.prefix), "sha256": self.sha256, **asdict(self.layout)}).encode()
        return MAGIC + zlib.compress(head + b"\n" + self.prefix + self.suffix, 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> Recipe:
        """Read back what `to_bytes` wrote.

        Raises:
            BrokenRecipe: Other bytes.
        """
        try:
            if not data.startswith(MAGIC):
                raise ValueError("no recipe")
            inflater = zlib.decompressobj()
            body = inflater.decompress(data[len(MAGIC) :], MAX_BYTES + 65536)
            if not inflater.eof:
                raise ValueError("the recipe ends early, or is larger than any that was written")
            head, _, rest = body.partition(b"\n")
            fields = json.loads(head)
            cut, digest = int(fields.pop("prefix")), str(fields.pop("sha256"))
            return cls(rest[:cut], rest[cut:], Layout(**fields), digest)
        except (ValueError, TypeError, KeyError, zlib.error) as error:
            raise BrokenRecipe(str(error)[:200]) from error

    def rebuild(self, frame: Callable[[int], bytes]) -> Iterator[bytes]:
        """The original, piece by piece: never more than one frame is held.

        The caller compares the hash: a decoder that fails half-way gives other bytes, not always an error.

        Args:
            frame: Gives code stream `number`, counted from 0.

        Raises:
            BrokenRecipe: A frame cannot be decoded, or is of another size.
        """
        if self.prefix:
            yield self.prefix
        for number in range(self.layout.frames):
            yield native_frame(frame(number), self.layout)
        if self.suffix:
            yield self.suffix


def native_frame(stream: bytes, layout: Layout) -> bytes:
    """One HTJ2K code stream as the bytes of the original frame.

    Raises:
        BrokenRecipe: It is no such stream, or one of another size.
    """
    shape = (layout.rows, layout.columns) if layout.samples == 1 else (layout.rows, layout.columns, layout.samples)
    kind = np.dtype(layout.dtype)
    # Zeros: where the decoder leaves a part out, it must not be memory of others that is hashed or seen.
    out = np.zeros(shape, kind.newbyteorder("="))
    try:
        imagecodecs.htj2k_decode(stream, out=out)
    except Exception as error:  # the library raises types of its own
        raise BrokenRecipe(f"a frame cannot be decoded: {type(error).__name__}") from error
    if layout.planar and layout.samples > 1:
        out = np.ascontiguousarray(np.moveaxis(out, 2, 0))
    return out.astype(kind, copy=False).tobytes()
