"""Unpacking uploaded ZIP files that may be hostile.

Names in an archive are only ever shown, never used as a path; members are unpacked one at a time into temporary files
of our own naming, within limits that count the bytes that really come out.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from hub.dicom.errors import DicomRefused
from hub.dicom.text import repair

#: What seeking to a place that a damaged table names gives; any other number is the disk's trouble.
_ARCHIVE_ERRNO: Final = (None, errno.EINVAL)
_CHUNK: Final = 1 << 20
_ZIP_MAGIC: Final = (b"PK\x03\x04", b"PK\x05\x06")
_METHODS: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
_NOISE: Final = re.compile(r"(^|/)(__MACOSX/|\.DS_Store$|Thumbs\.db$|desktop\.ini$|\._[^/]*$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What an archive may cost.

    Attributes:
        max_members: Files, over all levels.
        max_total_bytes: Unpacked bytes, over all levels.
        max_member_bytes: Unpacked bytes of one file.
        max_ratio: Unpacked to packed size of one file, looked at beyond 16 MiB.
        max_depth: Archives within archives: 1 is the uploaded file alone.
        max_directory_bytes: Size of the table of contents, which has to be read into memory.
    """

    max_members: int = 50_000
    max_total_bytes: int = 20 << 30
    max_member_bytes: int = 4 << 30
    max_ratio: int = 200
    max_depth: int = 2
    max_directory_bytes: int = 32 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """One file out of an archive, unpacked and valid until the iterator is asked for the next.

    Attributes:
        name: Cleaned name to show, with `/` and without `..`; those of a nested archive follow its own and `!/`.
        size: Bytes.
        path: Where it lies unpacked; a name of our making.
    """

    name: str
    size: int
    path: Path

    def open(self) -> BinaryIO:
        """Open the unpacked file."""
        return self.path.open("rb")


@dataclass(frozen=True, slots=True)
class RefusedMember:
    """A file, or the rest of an archive, that was not unpacked.

    Attributes:
        name: As in `Member`; of the archive itself where all of it is meant.
        reason: Why.
    """

    name: str
    reason: DicomRefused


DEFAULT_LIMITS: Final = ArchiveLimits()


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Say by its first bytes whether a file is a ZIP archive."""
    with Path(path).open("rb") as file:
        return file.read(4) in _ZIP_MAGIC


def iter_zip(
    path: str | os.PathLike[str],
    *,
    limits: ArchiveLimits = DEFAULT_LIMITS,
    workdir: str | os.PathLike[str] | None = None,
    name: str = "",
) -> Iterator[Member | RefusedMember]:
    """Unpack an archive file by file.

    Args:
        path: The archive on disk.
        limits: What it may cost.
        workdir: Where temporary files go; needs room for the largest member.
        name: What to call the archive in refusals.

    Yields:
        Each file, or why it was refused; the others go on. A refusal of the archive as a whole (bomb, damaged) comes
        last. Folders and the litter of operating systems are passed over.
    """
    with tempfile.TemporaryDirectory(prefix="unzip-", dir=workdir) as folder:
        yield from _Unpacker(limits, Path(folder)).run(Path(path), name or Path(path).name, "", 1)


def clean_name(info_name: str) -> str:
    """Make a member's name safe to show and to store: no drive, no root, no `..`, no control signs, 255 characters."""
    text = unicodedata.normalize("NFC", info_name).replace("\\", "/")
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf", "Cs"))
    parts = [p for p in re.sub(r"^[A-Za-z]:", "", text).split("/") if p not in ("", ".", "..")]
    return "/".join(parts)[-255:].lstrip("/") or "?"


def _shown(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & 0x800:
        return clean_name(info.filename)
    # Without the UTF-8 flag the module assumes cp437; Chinese Windows writes GBK there.
    try:
        raw = info.orig_filename.encode("cp437")
    except UnicodeEncodeError:
        return clean_name(info.filename)
    if raw.isascii():
        return clean_name(info.filename)
    fixed = repair(raw, (), hint="GB18030")
    return clean_name(fixed.text if not fixed.flagged else info.filename)


class _Unpacker:
    def __init__(self, limits: ArchiveLimits, folder: Path) -> None:
        self.limits = limits
        self.folder = folder
        self.total = 0
        self.members = 0
        self.stopped = False

    def run(self, path: Path, shown: str, prefix: str, depth: int) -> Iterator[Member | RefusedMember]:
        try:
            self._check_directory(path)
            archive = zipfile.ZipFile(path)
        except DicomRefused as reason:
            yield RefusedMember(shown, reason)
            return
        except (zipfile.BadZipFile, zipfile.LargeZipFile, ValueError, struct.error, NotImplementedError, OSError) as e:
            if isinstance(e, OSError) and e.errno not in _ARCHIVE_ERRNO:
                raise
            yield RefusedMember(shown, DicomRefused("zip-bad", why=_short(e)))
            return
        with archive:
            for info in archive.infolist():
                if self.stopped:
                    return
                if info.is_dir() or _NOISE.search(info.filename):
                    continue
                self.members += 1
                name = prefix + _shown(info)
                if self.members > self.limits.max_members:
                    self.stopped = True
                    many = DicomRefused("zip-bomb", why=("文件过多", "files"), limit=self.limits.max_members)
                    yield RefusedMember(shown, many)
                    return
                yield from self._one(archive, info, name, depth)

    def _one(
        self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, depth: int
    ) -> Iterator[Member | RefusedMember]:
        target = self.folder / f"{depth}-{self.members}"
        try:
            try:
                size = self._unpack(archive, info, name, target)
            except DicomRefused as reason:
                yield RefusedMember(name, reason)
                return
            except (
                zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError, struct.error,
                OSError,
            ) as problem:  # fmt: skip
                if isinstance(problem, OSError) and problem.errno not in _ARCHIVE_ERRNO:
                    raise  # the disk's trouble, not the archive's
                yield RefusedMember(name, DicomRefused("zip-bad", why=_short(problem)))
                return
            with target.open("rb") as file:
                nested = file.read(4) in _ZIP_MAGIC
            if not nested:
                yield Member(name, size, target)
            elif depth >= self.limits.max_depth:
                yield RefusedMember(name, DicomRefused("zip-nested", name=name, limit=self.limits.max_depth))
            else:
                yield from self.run(target, name, f"{name}!/", depth + 1)
        finally:
            target.unlink(missing_ok=True)

    def _unpack(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, target: Path) -> int:
        limits = self.limits
        if info.flag_bits & 0x1 or info.compress_type == 99:
            raise DicomRefused("zip-encrypted", name=name)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise DicomRefused("zip-symlink", name=name)
        if info.compress_type not in _METHODS:
            raise DicomRefused("unsupported", why=f"ZIP method {info.compress_type}")
        if info.file_size > limits.max_member_bytes:
            raise DicomRefused("zip-bomb", why=("单个文件过大", "one file's size"), limit=limits.max_member_bytes)
        size = 0
        with archive.open(info) as source, target.open("wb") as out:
            while piece := source.read(_CHUNK):
                size += len(piece)
                self.total += len(piece)
                if self.total > limits.max_total_bytes:
                    self.stopped = True
                    raise DicomRefused("zip-bomb", why=("总量过大", "total size"), limit=limits.max_total_bytes)
                if size > limits.max_member_bytes:
                    raise DicomRefused(
                        "zip-bomb", why=("单个文件过大", "one file's size"), limit=limits.max_member_bytes
                    )
                if size > 16 << 20 and size > max(info.compress_size, 1) * limits.max_ratio:
                    raise DicomRefused("zip-bomb", why=("压缩比过高", "compression ratio"), limit=limits.max_ratio)
                out.write(piece)
        return size

    def _check_directory(self, path: Path) -> None:
        """Bound the table of contents before the module reads all of it into memory (APPNOTE 4.3.14-16)."""
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - 65557))
            tail = file.read()
            at = tail.rfind(b"PK\x05\x06")
            if at < 0 or at + 22 > len(tail):
                raise DicomRefused("zip-bad", why=("缺少目录,可能未传完整", "its table of contents is missing"))
            count, directory = struct.unpack_from("<HL", tail, at + 10)
            if at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
                # The standard follows the locator's offset, the module looks just before the locator: neither may
                # hide what the other reads.
                (named,) = struct.unpack_from("<Q", tail, at - 12)
                beside = self._record64(file, size - len(tail) + at - 76)
                there = self._record64(file, named) if named < size else None
                found = [one for one in (beside or (count, directory), there) if one is not None]
                count, directory = max(one[0] for one in found), max(one[1] for one in found)
        if count > self.limits.max_members * 2:
            raise DicomRefused("zip-bomb", why=("文件过多", "files"), limit=self.limits.max_members)
        if directory > self.limits.max_directory_bytes:
            raise DicomRefused("zip-bomb", why=("目录过大", "table of contents"), limit=self.limits.max_directory_bytes)

    @staticmethod
    def _record64(file: BinaryIO, where: int) -> tuple[int, int] | None:
        """Number of entries and bytes of the table of contents, by the ZIP64 record at `where` (APPNOTE 4.3.14)."""
        file.seek(max(0, where))
        record = file.read(56)
        if len(record) < 56 or record[:4] != b"PK\x06\x06":
            return None
        count, directory = struct.unpack_from("<QQ", record, 32)
        return count, directory


def _short(problem: Exception) -> str:
    # The module's messages may quote a member's name: that can be a patient's.
    return re.sub(r"'[^']*'", "…", str(problem))[:80] or type(problem).__name__
