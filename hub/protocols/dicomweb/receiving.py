"""The body of a store request, part by part: small parts in memory, large ones in staging files, taken in by groups.

A group is what one transaction and, as a rule, one stored object holds. While a group is read or committed by a
thread, the next parts arrive. What may lie in memory is bounded for the process, not only for a request: beyond that
bound parts go to staging files, so that nobody waits for another's memory.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from starlette.concurrency import run_in_threadpool

from hub.kit.actor import Actor
from hub.kit.errors import TooLarge, Unavailable
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import negotiate
from hub.protocols.dicomweb.multipart import parse_media_type
from hub.studies import intake, reasons
from hub.studies.intake import Batch, Incoming, Outcome

log = get_logger(__name__)

SOURCE: Final = "stow"
GROUP_BYTES: Final = 16 << 20
"""Of a request that is no larger, all is one group. Of a larger one up to three times this lie in memory at once: what
arrives, what is being committed, and its copy that is on its way to a remote store. So its groups are half as large."""
GROUP_PARTS: Final = 256
MOST_PARTS: Final = 50_000
"""Parts of one request: each has an outcome that is held until the answer."""
PART_IN_MEMORY: Final = 4 << 20
PROCESS_IN_MEMORY: Final = 96 << 20
_SMALL_GROUP: Final = 2 << 20
_MOST_PIECES: Final = 2_048
_READ_AT_ONCE: Final = 2 << 20
_WRITE_AT_ONCE: Final = 1 << 20


class _Held:
    """Bytes of bodies that lie in this process' memory; only the event loop counts."""

    total = 0


@dataclass(slots=True)
class Part:
    """A part: its bytes, or the staging file that holds them."""

    headers: dict[str, str]
    size: int = 0
    path: Path | None = None
    _pieces: list[bytes | memoryview] = field(default_factory=list)
    _pending: int = 0
    _file: IO[bytes] | None = None

    @property
    def kind(self) -> str:
        """Media type of the part, `application/dicom` where it has none."""
        return parse_media_type(self.headers.get("content-type", "") or negotiate.DICOM).name

    async def add(self, data: bytes | memoryview) -> None:
        """Append bytes, to a file once there are many."""
        self.size += len(data)
        self._pending += len(data)
        _Held.total += len(data)
        self._pieces.append(data)
        if len(self._pieces) >= _MOST_PIECES:
            # Of a body that comes byte by byte, the objects would weigh a hundred times the bytes.
            self._pieces = [b"".join(self._pieces)]
        if self._file is not None:
            if self._pending >= _WRITE_AT_ONCE:
                await self._spill()
        elif self.size > PART_IN_MEMORY or (_Held.total > PROCESS_IN_MEMORY and self.size > _WRITE_AT_ONCE):
            await self._spill()

    async def _spill(self) -> None:
        pieces, count = self._pieces, self._pending
        self._pieces, self._pending = [], 0
        try:
            await run_in_threadpool(self._write, pieces)
        finally:
            _Held.total -= count

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        # Parts of gigabytes must not take the room that is kept for the database.
        intake.check_room()
        try:
            if self._file is None:
                handle, name = tempfile.mkstemp(dir=intake.staging(), prefix="stow-")
                self._file, self.path = os.fdopen(handle, "wb", buffering=0), Path(name)
            rest = memoryview(b"".join(pieces))
            while rest:
                # A disk that is just full takes a part of it, and says so only the next time.
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            log.error("a part could not be staged", errno=error.errno)
            raise Unavailable(
                _("中心的存储空间不足,暂时不能接收影像;请保留原文件,稍后再发送。"), code="no-room"
            ) from error

    async def to_file(self) -> None:
        """Let its bytes lie in a staging file, however few they are."""
        if self._pieces:
            await self._spill()

    async def finish(self) -> Path | bytes:
        """The whole part; its file, if it has one, is closed. Bytes still count as held until `release`."""
        if self._file is not None:
            await self._spill()
            self._file.close()
        else:
            self._pieces = [b"".join(self._pieces)]
        return self.content

    @property
    def content(self) -> Path | bytes:
        """The whole of a finished part."""
        return self.path if self.path is not None else bytes(self._pieces[0])

    def release(self) -> None:
        """Its bytes are no longer wanted."""
        _Held.total -= self._pending
        self._pieces, self._pending = [], 0
        if self._file is not None:
            self._file.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class Receiver:
    """One request's parts, groups and outcomes; every part is one instance.

    Args:
        actor: Who sends.
        org_id: Whose the instances become.
        study_uid: The study of the request's address, or "".
        length: Bytes of the request's body, where it says so.
    """

    def __init__(self, actor: Actor, org_id: str, study_uid: str, *, length: int | None = None) -> None:
        self.outcomes: list[Outcome] = []
        self._most = GROUP_BYTES if length is not None and length <= GROUP_BYTES else GROUP_BYTES // 2
        self.limit = get_settings().instance_max_mb * 2**20
        self._actor = actor
        self._org_id = org_id
        self._study_uid = study_uid
        self._part: Part | None = None
        self._parts = 0
        self._group = self._new_group()
        self._running: asyncio.Task[None] | None = None

    def _new_group(self) -> _Group:
        return _Group(Batch(self._actor, org_id=self._org_id, source=SOURCE))

    async def begin(self, headers: dict[str, str]) -> None:
        """A part begins."""
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise TooLarge(_("请求过大,超过 {mb} MB;请分几次发送").format(mb=get_settings().stow_max_request_mb))
        self._part = Part(headers)

    async def data(self, data: bytes | memoryview) -> None:
        """Bytes of the present part."""
        part = self._part
        if part is None:
            return
        if part.size + len(data) > self.limit:
            raise TooLarge(_("单个影像文件过大,未接收"), code="instance-too-large")
        await part.add(data)

    async def end(self) -> None:
        """The present part is whole."""
        part, self._part = self._part, None
        if part is None:
            return
        if part.kind not in (negotiate.DICOM, negotiate.OCTETS):
            part.release()
            await self.refuse(
                Outcome(
                    "refused",
                    reasons.UNSUPPORTED_PART,
                    reasons.message(reasons.UNSUPPORTED_PART, {"type": part.kind[:60]}),
                )
            )
            return
        await self.take(part)

    async def take(self, part: Part) -> None:
        """Let a whole part be taken in."""
        most = self._most if _Held.total <= PROCESS_IN_MEMORY else _SMALL_GROUP
        if self._group.bytes + part.size > most and self._group.count:
            await self.flush()
        group = self._group
        group.parts.append(part)
        group.unread.append(Incoming(await part.finish(), f"#{self._parts}", want_study=self._study_uid))
        group.count += 1
        group.bytes += part.size
        group.unread_bytes += part.size
        if group.count >= GROUP_PARTS:
            await self.flush()
        elif group.unread_bytes >= _READ_AT_ONCE and (self._running is None or self._running.done()):
            await self._settle()
            self._running = asyncio.create_task(self._work(group, group.hand_over()))

    async def refuse(self, outcome: Outcome) -> None:
        """A part that is no instance, in its place among the others."""
        self._group.refused.append((self._group.count, outcome))

    async def flush(self) -> None:
        """Let the group be committed while the next one arrives; at most one is under way."""
        await self._settle()
        group, self._group = self._group, self._new_group()
        self._running = asyncio.create_task(self._work(group, group.hand_over(), finish=True))

    async def finish(self) -> None:
        """Commit what is left and wait for it."""
        await self.flush()
        await self._settle()

    async def _work(self, group: _Group, files: list[Incoming], *, finish: bool = False) -> None:
        if not finish:
            await run_in_threadpool(group.batch.read, files)
            return
        try:
            outcomes = await run_in_threadpool(group.commit, files) if group.count else []
            for place, outcome in reversed(group.refused):
                outcomes.insert(place, outcome)
            self.outcomes += outcomes
        finally:
            group.release()

    async def _settle(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            await running

    async def close(self) -> None:
        """Leave no file, no task and no bytes behind, whatever happened."""
        if self._running is not None:
            await asyncio.gather(self._running, return_exceptions=True)
        if self._part is not None:
            self._part.release()
        self._group.release()


class _Group:
    """Parts that are committed together."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.parts: list[Part] = []
        self.unread: list[Incoming] = []
        self.refused: list[tuple[int, Outcome]] = []
        self.count = 0
        self.bytes = 0
        self.unread_bytes = 0

    def hand_over(self) -> list[Incoming]:
        """What a thread is to read next."""
        files, self.unread, self.unread_bytes = self.unread, [], 0
        return files

    def commit(self, rest: list[Incoming]) -> list[Outcome]:
        """Read the rest, store and index; without room, each is refused for the want of it."""
        try:
            intake.check_room()
            self.batch.read(rest)
            return self.batch.commit()
        except Unavailable as error:
            return [Outcome("refused", reasons.STORE_UNAVAILABLE, reasons.words(str(error.message), {}))] * self.count

    def release(self) -> None:
        """Forget the bytes."""
        for part in self.parts:
            part.release()
        self.parts = []
