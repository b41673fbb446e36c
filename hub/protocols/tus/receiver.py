"""Appending the bytes of one PATCH to a file (tus 1.0).

Whatever happens, a file holds exactly the bytes of its recorded offset: each request truncates to it, appends, makes
the bytes durable and then records. A killed process leaves bytes behind the offset, which the next request cuts off.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import anyio.to_thread
from starlette.requests import ClientDisconnect

from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, HubError, Invalid, TooLarge, Unavailable
from hub.kit.i18n import _
from hub.studies import uploads
from hub.studies.models import UploadFile

BUFFER = 1 << 20
ALGORITHMS = {"sha256": hashlib.sha256, "sha1": hashlib.sha1, "md5": hashlib.md5}


class Locked(HubError):
    """Another request writes this file now."""

    status = 423
    code = "locked"


class ChecksumMismatch(HubError):
    """The bytes of the request are not those of its Upload-Checksum (tus: status 460)."""

    status = 460
    code = "checksum"


class WrongOffset(Conflict):
    """The request does not begin where the file ends."""

    code = "wrong-offset"


class Hash(Protocol):
    """What hashlib gives."""

    def update(self, data: bytes, /) -> None:
        """Add bytes."""

    def digest(self) -> bytes:
        """The hash."""


def parse_checksum(header: str | None) -> tuple[str, bytes] | None:
    """`Upload-Checksum: sha256 <base64>` as (algorithm, digest); None where there is none.

    Raises:
        Invalid: Not of that form, or an unknown algorithm.
    """
    if not header:
        return None
    name, _space, value = header.strip().partition(" ")
    if name not in ALGORITHMS:
        raise Invalid(_("不支持的校验算法"), code="bad-checksum")
    try:
        return name, base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(_("校验值不正确"), code="bad-checksum") from error


class Part:
    """The open, locked file of an upload; close it in any case."""

    def __init__(self, actor: Actor, file_id: str, offset: int) -> None:
        """Open and lock the file and cut it to its recorded offset.

        Raises:
            NotFound: Not an upload of the actor's organisation.
            Locked: Another request writes it.
            WrongOffset: `offset` is not where it ends.
            Unavailable: No room.
        """
        self.actor = actor
        path = uploads.part_path(file_id)
        with database().reading() as session:
            uploads.get_file(session, actor, file_id)
        # A file of its own is locked: the bytes' own file moves into the store before the row says that it did.
        self._lock = _open(uploads.lock_path(file_id))
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise Locked(_("这个文件正在接收另一段数据")) from error
        try:
            self._file = _open(path)
        except BaseException:
            self._lock.close()
            raise
        try:
            # Read again under the lock: the other writer may just have finished.
            with database().reading() as session:
                self.row, _batch = uploads.get_file(session, actor, file_id)
            if self.row.state != uploads.RECEIVING:
                if self.row.state in uploads.FINAL:
                    path.unlink(missing_ok=True)
                uploads.lock_path(file_id).unlink(missing_ok=True)
                raise WrongOffset(_("文件已经传完"), offset=self.row.size)
            self.start = present(self.row)
            if self.start != self.row.offset:
                # The disk holds less than was recorded (a restored machine): what is missing is asked for again.
                uploads.record_offset(file_id, self.start, before=self.row.offset)
            if offset != self.start:
                raise WrongOffset(_("续传位置不符,请重新查询进度"), offset=self.start)
            if uploads.room() < self.row.size - self.start:
                raise Unavailable(_("中心的存储空间不足,暂时不能接收;请联系影像中心"), code="disk-full")
            self._file.truncate(self.start)
            self._file.seek(self.start)
        except BaseException:
            self.close()
            raise
        self.written = 0

    @property
    def left(self) -> int:
        """Bytes that the file still wants."""
        return self.row.size - self.start - self.written

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self.left == 0

    def append(self, data: bytes) -> None:
        """Write bytes; they are not durable yet."""
        self._file.write(data)
        self.written += len(data)

    def discard(self) -> None:
        """Forget the bytes of this request."""
        self._file.truncate(self.start)
        self.written = 0

    def record(self) -> int:
        """Make the bytes durable and note the new offset; the offset."""
        self._file.flush()
        if self.written and not self.complete:
            os.fsync(self._file.fileno())
            uploads.record_offset(self.row.id, self.start + self.written, before=self.start)
        return self.start + self.written

    def finish(self) -> UploadFile:
        """Take the whole file in; the last bytes count only when this has returned."""
        self._file.flush()
        row = uploads.finish_file(self.actor, self.row.id)
        if row.state != uploads.RECEIVING:
            # Whoever locks the next file of this name finds the row finished.
            uploads.lock_path(row.id).unlink(missing_ok=True)
        return row

    def close(self) -> None:
        """Unlock."""
        self._file.close()
        self._lock.close()


def _open(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")


def present(row: UploadFile) -> int:
    """Bytes of an upload that are surely here; for a finished one all of them."""
    if row.state != uploads.RECEIVING:
        return row.size
    path = uploads.part_path(row.id)
    return min(row.offset, path.stat().st_size if path.exists() else 0)


async def receive(part: Part, body: AsyncIterator[bytes], checksum: tuple[str, bytes] | None) -> tuple[int, Any]:
    """Stream a request's body into `part`.

    Returns:
        The new offset, and the finished row or None.

    Raises:
        TooLarge: More bytes than the upload was made for; none of the request's are kept.
        ChecksumMismatch: None of the request's bytes are kept.
        ClientDisconnect: The link was lost; what came is kept, unless a checksum was promised.
    """
    digest: Hash | None = ALGORITHMS[checksum[0]]() if checksum else None
    buffer = bytearray()

    async def flush() -> None:
        data = bytes(buffer)
        buffer.clear()
        if digest is not None:
            digest.update(data)
        await anyio.to_thread.run_sync(part.append, data)

    try:
        async for piece in body:
            if len(piece) + len(buffer) > part.left:
                await anyio.to_thread.run_sync(part.discard)
                raise TooLarge(_("收到的数据多于申报的文件大小"), code="too-many-bytes")
            buffer += piece
            if len(buffer) >= BUFFER:
                await flush()
        await flush()
    except ClientDisconnect:
        await flush()
        if digest is not None:
            part.discard()
        elif part.complete:
            # The last bytes came but nobody waits for the answer: the sender will ask, and find the file taken in.
            await anyio.to_thread.run_sync(part.finish)
        else:
            await anyio.to_thread.run_sync(part.record)
        raise
    if checksum is not None and digest is not None and digest.digest() != checksum[1]:
        await anyio.to_thread.run_sync(part.discard)
        raise ChecksumMismatch(_("数据在传输中损坏,将重新发送"))
    if part.complete:
        row = await anyio.to_thread.run_sync(part.finish)
        return row.size, row
    return await anyio.to_thread.run_sync(part.record), None
