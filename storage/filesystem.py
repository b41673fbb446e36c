"""Objects as files below one folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat as stat_module
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from storage import direct
from storage.base import COPY_CHUNK, ObjectStat, ObjectStore, RangeIterator, as_stream, check_expected, clip_range
from storage.errors import InvalidKey, ObjectNotFound, StorageError, StorageFull, StorageUnavailable
from storage.keys import validate_key, validate_prefix

# EFBIG: a quota or limit on the size of files, which to the caller is the same want of room.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
_TEMP = ".tmp"
_PIECES_AT_ONCE = 512


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    """Turn the operating system's errors about the store into the store's own."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise ObjectNotFound(key) from error
    except (NotADirectoryError, IsADirectoryError, FileExistsError) as error:
        raise InvalidKey(f"{key}: another object's key is a folder of this one, or the reverse") from error
    except OSError as error:
        raise _translate(error) from error


def _translate(error: OSError) -> StorageError:
    if error.errno in _FULL:
        return StorageFull(f"no room left in the object folder ({error.strerror})")
    return StorageUnavailable(f"the object folder failed: {error.strerror or error}")


class FilesystemStore(ObjectStore):
    """Objects as files, made durable by flushing the file and every folder that leads to it.

    A put writes to `.tmp/` on the same filesystem, flushes, and links the file to its name: linking, unlike renaming,
    never replaces, so of two writers of one key exactly one wins.

    Args:
        root: Folder, made if missing.
        reserve_bytes: Room to leave on the disk: a put that would start below it is refused, so that a database on
            the same disk can still write.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0) -> None:
        self.root = root.absolute()
        self.reserve_bytes = reserve_bytes
        self._temp = self.root / _TEMP
        # Folders known to be on the disk, not only in memory: flushing each once per process is enough.
        self._durable_dirs: set[Path] = set()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"FilesystemStore({str(self.root)!r})"

    # --- writing -----------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        source: BinaryIO | bytes,
        *,
        size: int | None = None,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectStat:
        """Store an object; see `ObjectStore.put`. The content type is not kept."""
        del content_type
        target = self._path(key)
        stream = as_stream(source)
        self._check_room(len(source) if isinstance(source, bytes) else size or 0)
        descriptor, temp = self._temp_file()
        try:
            # Only the store's own calls are translated: an error of the source is the caller's and passes as it is.
            try:
                hasher, written = hashlib.sha256(), 0
                while data := stream.read(COPY_CHUNK):
                    hasher.update(data)
                    with _translated(key):
                        _write_all(descriptor, data)
                    written += len(data)
                digest = hasher.hexdigest()
                check_expected(key, written, digest, size, sha256)
                with _translated(key):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            return self._publish(key, temp, target, digest, written)
        finally:
            temp.unlink(missing_ok=True)

    def put_pieces(self, key: str, pieces: Sequence[bytes]) -> ObjectStat:
        """Store the pieces as one object; see `ObjectStore.put_pieces`."""
        target, size = self._path(key), sum(map(len, pieces))
        self._check_room(size)
        descriptor, temp = self._temp_file()
        try:
            try:
                with _translated(key):
                    if not direct.write(descriptor, pieces):
                        for start in range(0, len(pieces), _PIECES_AT_ONCE):
                            _write_pieces(descriptor, pieces[start : start + _PIECES_AT_ONCE])
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            with _translated(key):
                if self._name(temp, target):
                    return ObjectStat(key, size, None, datetime.now(UTC))
            return self._publish(key, temp, target, hashlib.sha256(b"".join(pieces)).hexdigest(), size)
        finally:
            temp.unlink(missing_ok=True)

    def put_file(
        self, key: str, path: Path, *, sha256: str | None = None, move: bool = True, keep: bool = False
    ) -> ObjectStat:
        """Store a finished local file; see `ObjectStore.put_file`."""
        target = self._path(key)
        with open_regular(path) as source:
            info = os.fstat(source.fileno())
            self._check_room(0 if move else info.st_size)
            self._prepare_temp(key)
            if move and info.st_nlink == 1 and info.st_dev == self._temp.stat().st_dev:
                hasher, length = hashlib.sha256(), 0
                while data := source.read(COPY_CHUNK):
                    hasher.update(data)
                    length += len(data)
                digest = hasher.hexdigest()
                check_expected(key, length, digest, info.st_size, sha256)
                with _translated(key):
                    os.fsync(source.fileno())
                stat = self._publish(key, path, target, digest, length)
            else:
                stat = self.put(key, source, size=info.st_size, sha256=sha256)
        if move and not keep:
            path.unlink(missing_ok=True)
        return stat

    def _publish(self, key: str, finished: Path, target: Path, digest: str, size: int) -> ObjectStat:
        """Give a flushed file its name; returns when the name, too, is on the disk."""
        with _translated(key):
            if self._name(finished, target):
                return ObjectStat(key, size, digest, datetime.now(UTC))
            if target.is_dir():
                raise InvalidKey(f"{key} is a folder of other objects")
            stat = self._settle_existing(key, digest, size)
            # The writer who won may not have flushed the folder yet; this answer promises it as well.
            fsync_dir(target.parent)
            return stat

    def _name(self, finished: Path, target: Path) -> bool:
        """Link a flushed file to its name and flush the name; False where the name is taken."""
        self._make_durable_dir(target.parent)
        try:
            linked = _link(finished, target)
        except FileNotFoundError:
            # Somebody tidied an empty folder away: make it anew, once.
            self._durable_dirs.discard(target.parent)
            self._make_durable_dir(target.parent)
            try:
                linked = _link(finished, target)
            except FileNotFoundError as error:
                raise StorageUnavailable(f"the object folder {self.root} changes under the store") from error
        if linked:
            fsync_dir(target.parent)
        return linked

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is success."""
        target = self._path(key)
        with _translated(key), contextlib.suppress(FileNotFoundError):
            target.unlink()
            fsync_dir(target.parent)

    def sweep(self, older_than_seconds: float = 86_400) -> int:
        """Remove temporary files that no running put can still own."""
        removed, limit = 0, time.time() - older_than_seconds
        with _translated(_TEMP):
            for path in self._temp.iterdir() if self._temp.is_dir() else ():
                with contextlib.suppress(FileNotFoundError):
                    if path.lstat().st_mtime <= limit:
                        path.unlink()
                        removed += 1
        return removed

    # --- reading -----------------------------------------------------------------------------------------------

    def open(self, key: str) -> BinaryIO:
        """Open an object for streaming."""
        with _translated(key):
            return open_regular(self._path(key))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range whole into memory."""
        with self.open(key) as stream, _translated(key):
            descriptor = stream.fileno()
            wanted = clip_range(os.fstat(descriptor).st_size, offset, length)
            data = os.pread(descriptor, wanted, offset)
            while len(data) < wanted and (more := os.pread(descriptor, wanted - len(data), offset + len(data))):
                data += more
            return data

    def read_now(self, key: str, offset: int, length: int) -> bytes | None:
        """What lies in the page cache."""
        if not hasattr(os, "RWF_NOWAIT"):  # Linux has it
            return None
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            data = bytearray(length)
            if os.preadv(descriptor, [data], offset, os.RWF_NOWAIT) != length:
                return None
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return bytes(data)

    def iter_range(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = COPY_CHUNK
    ) -> Iterator[bytes]:
        """Stream a range."""
        stream = self.open(key)
        try:
            wanted = clip_range(os.fstat(stream.fileno()).st_size, offset, length)
            stream.seek(offset)
        except BaseException:
            stream.close()
            raise
        return RangeIterator(stream, wanted, chunk)

    def stat(self, key: str) -> ObjectStat:
        """Size and time; the hash is the index's to know."""
        with _translated(key):
            info = self._path(key).lstat()
        if not stat_module.S_ISREG(info.st_mode):
            raise ObjectNotFound(key)
        return ObjectStat(key, info.st_size, None, datetime.fromtimestamp(info.st_mtime, UTC))

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`."""
        validate_prefix(prefix)
        start = self.root / prefix.rpartition("/")[0]
        for folder, folders, files in os.walk(start):
            place = Path(folder)
            # The store's own folders start with a dot; those that cannot lead to the prefix are not entered.
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and _may_lead((place / name).relative_to(self.root).as_posix(), prefix)
            ]
            for name in files:
                key = (place / name).relative_to(self.root).as_posix()
                if key.startswith(prefix) and not name.startswith("."):
                    with contextlib.suppress(ObjectNotFound):
                        yield self.stat(key)

    def free_bytes(self) -> int | None:
        """Room left to this user on the disk, in bytes."""
        with _translated(_TEMP):
            place = self.root
            while not place.exists():
                place = place.parent
            return shutil.disk_usage(place).free

    def check(self) -> None:
        """Prove that the folder can be written, read and cleared."""
        self._check_room(0)
        super().check()

    # --- places ------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self.root / validate_key(key)

    def _check_room(self, coming: int) -> None:
        if self.reserve_bytes and (self.free_bytes() or 0) - coming < self.reserve_bytes:
            raise StorageFull(f"the disk of {self.root} has no room beyond its reserve of {self.reserve_bytes} bytes")

    def _prepare_temp(self, key: str) -> None:
        try:
            self._make_durable_dir(self._temp)
        except OSError as error:
            if error.errno in _FULL:
                raise _translate(error) from error
            raise StorageUnavailable(f"the object folder {self.root} is not writable: {error.strerror}") from error

    def _temp_file(self) -> tuple[int, Path]:
        self._prepare_temp(_TEMP)
        try:
            descriptor, name = tempfile.mkstemp(prefix="put-", dir=self._temp)
        except FileNotFoundError as error:
            raise StorageUnavailable(f"the object folder {self.root} is gone (not mounted?)") from error
        except OSError as error:
            raise _translate(error) from error
        return descriptor, Path(name)

    def _make_durable_dir(self, folder: Path) -> None:
        """Make a folder and flush the names that lead to it.

        Another process may have made it without having flushed it yet, so its existence alone proves nothing.
        """
        if folder in self._durable_dirs:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = folder
        while place not in self._durable_dirs and place != self.root.parent.parent:
            with contextlib.suppress(PermissionError):  # a parent of the root may be unreadable to this user
                fsync_dir(place.parent)
            with self._lock:
                self._durable_dirs.add(place)
            place = place.parent


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, never following a link at the last step.

    Raises:
        FileNotFoundError: It is missing.
        InvalidKey: It is a symbolic link, a folder or a device.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise InvalidKey(f"{path.name} is not a regular file") from error
        raise
    if not stat_module.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidKey(f"{path.name} is not a regular file")
    return os.fdopen(descriptor, "rb")


def fsync_dir(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_pieces(descriptor: int, pieces: Sequence[bytes]) -> None:
    written = os.writev(descriptor, pieces)
    for piece in pieces:
        if written < len(piece):
            _write_all(descriptor, memoryview(piece)[written:])
        written = max(0, written - len(piece))


def _link(finished: Path, target: Path) -> bool:
    """Name a file without ever replacing another; False where the name is taken."""
    try:
        os.link(finished, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _rename_unless_taken(finished, target)
    return True


def _rename_unless_taken(finished: Path, target: Path) -> bool:
    """`_link` for filesystems without hard links: writers of one folder take turns (a dead one holds no lock)."""
    descriptor = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if target.exists():
            return False
        finished.rename(target)
        return True
    finally:
        os.close(descriptor)


def _may_lead(folder: str, prefix: str) -> bool:
    """Whether keys below a folder can start with the prefix."""
    below = folder + "/"
    return below.startswith(prefix) or prefix.startswith(below)
