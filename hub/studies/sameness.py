"""Whether two files hold the same data set, whatever stands before it.

What stands before a data set (preamble and group 0002, PS3.10 §7.1) names who wrote the file and how it travelled; it
changes when the same image comes by another way. So the hash of a file says only that two files are equal. Hashing
every data set by itself as well would be a second reading of all that arrives, for a question that is seldom asked:
the index keeps a file's head instead. Where that head before another file's data set gives the hash of the first file,
both hold the same data set.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hub.dicom.reader import ParsedInstance

_CHUNK: Final = 1 << 20
_MAX_HEAD: Final = 1 << 16


def dataset_sha256(source: Path | bytes, offset: int) -> str:
    """Hex hash of a file's bytes from `offset` on."""
    return _sha256(b"", source, offset)


def kept_head(parsed: ParsedInstance) -> bytes | None:
    """What the index keeps of what stands before the data set; None where that is too long to be kept."""
    return None if parsed.head is None else zlib.compress(parsed.head, 1)


def kept_hash(parsed: ParsedInstance, source: Path | bytes) -> str:
    """The hash of the data set that the index keeps where it cannot keep the head; else ""."""
    return dataset_sha256(source, parsed.dataset_offset) if parsed.head is None else ""


def same(parsed: ParsedInstance, source: Path | bytes, *, file_sha256: str, kept: bytes | None, hashed: str) -> bool:
    """Whether a file holds the data set of one that is in the index.

    Args:
        parsed: The file, read.
        source: Its bytes.
        file_sha256: Hash of the file in the index, whole.
        kept: Its head as from `kept_head`.
        hashed: The hash of its data set, where that is known.
    """
    if parsed.file_sha256 == file_sha256:
        return True
    if kept is not None:
        head = zlib.decompressobj().decompress(kept, _MAX_HEAD)
        return _sha256(head, source, parsed.dataset_offset) == file_sha256
    return dataset_sha256(source, parsed.dataset_offset) == hashed


def _sha256(before: bytes, source: Path | bytes, offset: int) -> str:
    hasher = hashlib.sha256(before)
    for piece in _pieces(source, offset):
        hasher.update(piece)
    return hasher.hexdigest()


def _pieces(source: Path | bytes, offset: int) -> Iterator[bytes | memoryview]:
    if isinstance(source, bytes):
        yield memoryview(source)[offset:]
        return
    with source.open("rb") as file:
        file.seek(offset)
        while piece := file.read(_CHUNK):
            yield piece
