"""Originals recompressed without loss at rest, and brought back (docs/decisions/htj2k-at-rest.md).

The order of steps is what keeps every original through a kill at any instruction:

1. the recompressed files and their recipes are put as one new object;
2. that object is read back, each original is rebuilt from it, and its SHA-256 compared with the index;
3. one transaction lets the rows name the new place, each only if it still names the place that was read;
4. the same transaction retires the old object; it is deleted after a grace time, and only when no row names it.

Killed before 3, the new object is an orphan, which the daily sweep takes; killed after, nothing is left to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import mmap
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final

from sqlalchemy import ColumnElement, CursorResult, case, literal, select, update
from sqlalchemy.orm import Session

from hub.dicom import reader
from hub.dicom.errors import DicomRefused
from hub.dicom.framing import Buffer, FrameIndex
from hub.dicom.recompress import HTJ2K, SOURCES, Recompressed, Stays, recompress
from hub.kit import clock, jobs
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.studies import linking, retired, scrubbing, stored, sweeping
from hub.studies.models import Instance, Quarantined, Study
from hub.studies.outcomes import NAMESPACE
from storage.errors import ChecksumMismatch, ObjectNotFound, RangeNotSatisfiable
from storage.keys import new_key

log = get_logger(__name__)

JOB: Final = "studies.recompress"
PACK_BYTES: Final = 64 << 20
QUIET: Final = timedelta(minutes=5)
MAX_FILE: Final = (4 << 30) - 1
RESTORED: Final = "restored"
TURN: Final = 20.0
"""Seconds that a worker goes on with one study."""
PRIORITY: Final = 9
"""After everything that somebody waits for."""

_KEY: Final = "recompress:"
_MOVABLE: Final = 0.5
"""An old object of which less than this share is still named is emptied altogether."""

_COLUMNS: Final = (
    Instance.id,
    Instance.uid,
    Instance.study_id,
    Instance.transfer_syntax,
    Instance.object_key,
    Instance.object_offset,
    Instance.size,
    Instance.dataset_offset,
    Instance.file_sha256,
    Instance.frame_index,
    Instance.notes,
    Instance.original_syntax,
    Instance.original_size,
    Instance.recipe_offset,
    Instance.recipe_size,
    Instance.stored_sha256,
)

_Row = Any
"""A row of `_COLUMNS`; satisfies `stored.Kept`."""


@dataclass(slots=True)
class Tally:
    """What was done.

    Attributes:
        moved: Instances that lie in a new object now.
        before, after: Their bytes before and after.
        kept: Instances that stay as they are, by the reason; ``missing`` and ``damaged`` concern the operator.
        failed: Originals that could not be rebuilt in order to bring them back; they are untouched.
    """

    moved: int = 0
    before: int = 0
    after: int = 0
    kept: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an instance is to lie: the columns of its row. Satisfies `stored.Kept`."""

    object_key: str
    object_offset: int
    size: int
    dataset_offset: int
    transfer_syntax: str
    frame_index: bytes
    file_sha256: str
    stored_sha256: str
    original_syntax: str = ""
    original_size: int = 0
    recipe_offset: int = 0
    recipe_size: int = 0

    def values(self) -> dict[str, Any]:
        """What changes in the row."""
        names = (
            "object_key",
            "object_offset",
            "size",
            "dataset_offset",
            "transfer_syntax",
            "frame_index",
            "stored_sha256",
            "original_syntax",
            "original_size",
            "recipe_offset",
            "recipe_size",
        )
        return {name: getattr(self, name) for name in names}


# --- what is due ----------------------------------------------------------------------------------------------------


def enqueue(session: Session, study_id: str, *, delay: float = 0) -> None:
    """Ask for a study to be recompressed, where the settings want that."""
    if get_settings().recompress:
        jobs.enqueue(session, JOB, {"study_id": study_id}, key=f"{_KEY}{study_id}", delay=delay, priority=PRIORITY)


def enqueue_due(*, most: int = 200) -> int:
    """Ask for the studies to which nothing was added for a while and that were not looked at; returns how many."""
    if not get_settings().recompress:
        return 0
    # What is asked for already, or was given up, waits for its turn, or for the operator.
    asked = select(jobs.Job.id).where(jobs.Job.key == literal(_KEY).concat(Study.id))
    with database().writing() as session:
        due = session.scalars(
            select(Study.id)
            .where(
                Study.archived_revision < Study.revision,
                Study.last_instance_at < clock.now() - QUIET,
                Study.trashed_at.is_(None),
                ~asked.exists(),
            )
            .order_by(Study.last_instance_at)
            .limit(most)
        ).all()
        for study_id in due:
            enqueue(session, study_id)
    return len(due)


def _rows(session: Session, *where: ColumnElement[bool]) -> Sequence[_Row]:
    return session.execute(
        select(*_COLUMNS).where(*where).order_by(Instance.series_id, Instance.number, Instance.id)
    ).all()


# --- a study --------------------------------------------------------------------------------------------------------


def recompress_study(study_id: str, *, seconds: float = math.inf) -> Tally:
    """Recompress what can be of a study. May run twice at once and be killed at any instruction.

    Args:
        study_id: The study.
        seconds: After so long it stops between two instances and asks to be continued, so that a worker is soon free
            for what somebody waits for.

    Raises:
        StorageError: The store does not answer, or has no room.
    """
    with database().reading() as session:
        study = session.execute(select(Study.revision, Study.trashed_at).where(Study.id == study_id)).one_or_none()
        rows = _rows(session, Instance.study_id == study_id, Instance.original_syntax == "", Instance.kept_reason == "")
    if study is None or study.trashed_at is not None:
        return Tally()
    tally = Tally()
    until, finished = time.monotonic() + seconds, True
    reasons: dict[str, list[str]] = defaultdict(list)
    with _Packer(study_id, tally) as packer:
        for row in rows:
            if time.monotonic() > until:
                finished = False
                break
            try:
                _recompress(row, packer)
            except Stays as stays:
                reasons[stays.code].append(row.id)
                if stays.code == "damaged":
                    scrubbing.tell(row.id, "damaged", row.object_key)
            except ObjectNotFound:
                # It may have been moved by another worker; if not, the operator is told.
                if _unmoved(row):
                    reasons["missing"].append(row.id)
                    scrubbing.tell(row.id, "missing", row.object_key)
            except (RangeNotSatisfiable, ChecksumMismatch):
                reasons["damaged"].append(row.id)
                scrubbing.tell(row.id, "damaged", row.object_key)
        packer.flush()
        for reason, ids in (*reasons.items(), ("unproven", packer.unproven)):
            _keep(ids, reason)
            if ids:
                tally.kept[reason] += len(ids)
        _empty(packer)
    if tally.moved:
        log.debug("originals recompressed", study=study_id, count=tally.moved, before=tally.before, after=tally.after)
    looked_at = study.revision + packer.bumps
    with database().writing() as session:
        if not finished:
            enqueue(session, study_id)
            return tally
        session.execute(
            update(Study)
            .where(Study.id == study_id, Study.archived_revision < looked_at)
            .values(archived_revision=looked_at)
            .execution_options(synchronize_session=False)
        )
    return tally


def _recompress(row: _Row, packer: _Packer) -> None:
    if row.transfer_syntax not in SOURCES:
        raise Stays("syntax")
    index = FrameIndex.from_bytes(row.frame_index) if row.frame_index else FrameIndex()
    if index.kind == "none":
        raise Stays("no-pixels")
    if row.size > MAX_FILE:
        raise Stays("size")
    with _original(row) as buf:
        if _sha256(buf) != row.file_sha256:
            raise Stays("damaged")
        try:
            made = recompress(
                buf,
                syntax=row.transfer_syntax,
                dataset_offset=row.dataset_offset,
                frames=index,
                sha256=row.file_sha256,
                notes=row.notes,
                folder=sweeping.staging_folder(),
            )
        except (Stays, OSError):
            raise
        except Exception as error:
            # Whatever a hostile header does to the arithmetic: one image must not stop its study.
            log.warning("an original cannot be recompressed", instance=row.id, kind=type(error).__name__)
            raise Stays("odd") from error
    try:
        _look(row, made)
        packer.add_recompressed(row, made)
    finally:
        made.file.close()


def _look(row: _Row, made: Recompressed) -> None:
    """Read the new file as any that arrives: it must be the same instance, with the frames where they are said to be.

    Raises:
        Stays: It is not.
    """
    source = made.file if _has_descriptor(made.file) else made.file.read()
    try:
        parsed = reader.read(source, hashes=False)
    except DicomRefused as error:
        raise Stays("odd") from error
    made.file.seek(0)
    found = (parsed.sop_instance_uid, parsed.transfer_syntax_uid, parsed.dataset_offset, parsed.frames)
    if found != (row.uid, HTJ2K, made.dataset_offset, made.frames):
        raise Stays("odd")


def _has_descriptor(file: IO[bytes]) -> bool:
    try:
        file.fileno()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _original(row: stored.Stored) -> Iterator[Buffer]:
    """The stored file: in memory, or mapped from a temporary file where it is large."""
    if row.size <= PACK_BYTES:
        yield stored.read_file(row)
        return
    with tempfile.TemporaryFile(dir=sweeping.staging_folder()) as file:
        for chunk in stored.iter_file(row):
            file.write(chunk)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def _sha256(buf: Buffer) -> str:
    hasher = hashlib.sha256()
    for start in range(0, len(buf), 1 << 20):
        hasher.update(buf[start : start + (1 << 20)])
    return hasher.hexdigest()


def _unmoved(row: _Row) -> bool:
    with database().reading() as session:
        key = session.scalar(select(Instance.object_key).where(Instance.id == row.id))
    return bool(key == row.object_key)


def _keep(ids: Sequence[str], reason: str) -> None:
    """Remember why instances stay as they are, so that they are not looked at again."""
    for start in range(0, len(ids), 500):
        with database().writing() as session:
            session.execute(
                update(Instance)
                .where(Instance.id.in_(ids[start : start + 500]), Instance.original_syntax == "")
                .values(kept_reason=reason)
            )


def _empty(packer: _Packer) -> None:
    """Move what remains in an object of which most was moved away, so that the whole of it can go.

    A request's images share an object; a report among them must not hold the space of all.
    """
    for key in sorted(packer.left):
        with database().reading() as session:
            rows = _rows(session, Instance.object_key == key)
            quarantined = session.scalar(select(Quarantined.id).where(Quarantined.object_key == key).limit(1))
        named = sum(row.size + row.recipe_size for row in rows)
        if not rows or quarantined is not None:
            continue
        try:
            if named >= object_store().stat(key).size * _MOVABLE:
                continue
            for row in rows:
                packer.add_as_it_is(row)
        except ObjectNotFound:
            # Another worker emptied it at the same time.
            continue
    packer.flush()


# --- bringing back --------------------------------------------------------------------------------------------------


def restore_study(study_id: str) -> Tally:
    """Store the originals of a study again as they were sent.

    Raises:
        ChecksumMismatch: An original cannot be rebuilt; the others were brought back.
    """
    with database().reading() as session:
        rows = _rows(session, Instance.study_id == study_id, Instance.original_syntax != "")
    tally, broken = Tally(), list[ChecksumMismatch]()
    with _Packer(study_id, tally) as packer:
        for row in rows:
            try:
                packer.add_original(row)
            except ChecksumMismatch as error:
                log.error("an original cannot be rebuilt", instance=row.id)
                broken.append(error)
        packer.flush()
    tally.failed += len(broken)
    if broken:
        raise broken[0]
    return tally


# --- packs ----------------------------------------------------------------------------------------------------------


class _Packer:
    """Collects instances into one new object after another.

    Attributes:
        left: Objects from which instances were moved.
        unproven: Instances whose original could not be rebuilt from the new object.
        bumps: How often the study's revision was raised.
    """

    def __init__(self, study_id: str, tally: Tally) -> None:
        self.left: set[str] = set()
        self.unproven: list[str] = []
        self.bumps = 0
        self._study_id = study_id
        self._tally = tally
        self._key = ""
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self._hasher = hashlib.sha256()
        self._size = 0
        self._entries: list[tuple[_Row, _Place]] = []

    def __enter__(self) -> _Packer:
        return self

    def __exit__(self, *_error: object) -> None:
        self._drop()

    def add_recompressed(self, row: _Row, made: Recompressed) -> None:
        """Add a recompressed file and its recipe."""
        offset = self._begin(made.size + len(made.recipe))
        while chunk := made.file.read(1 << 20):
            self._write(chunk)
        recipe_offset = self._size
        self._write(made.recipe)
        self._entries.append(
            (
                row,
                _Place(
                    self._key,
                    offset,
                    made.size,
                    made.dataset_offset,
                    HTJ2K,
                    made.frames.to_bytes(),
                    row.file_sha256,
                    made.sha256,
                    row.transfer_syntax,
                    row.size,
                    recipe_offset,
                    len(made.recipe),
                ),
            )
        )

    def add_as_it_is(self, row: _Row) -> None:
        """Add a stored file unchanged, with its recipe if it has one."""
        offset = self._begin(row.size + row.recipe_size)
        for chunk in stored.iter_file(row):
            self._write(chunk)
        recipe_offset = self._size if row.recipe_size else 0
        if row.recipe_size:
            self._write(object_store().read(row.object_key, row.recipe_offset, row.recipe_size))
        self._entries.append(
            (
                row,
                _Place(
                    self._key,
                    offset,
                    row.size,
                    row.dataset_offset,
                    row.transfer_syntax,
                    row.frame_index,
                    row.file_sha256,
                    row.stored_sha256,
                    row.original_syntax,
                    row.original_size,
                    recipe_offset,
                    row.recipe_size,
                ),
            )
        )

    def add_original(self, row: _Row) -> None:
        """Add the file as it was sent.

        Raises:
            ChecksumMismatch: It cannot be rebuilt.
        """
        with tempfile.TemporaryFile(dir=sweeping.staging_folder()) as file:
            for piece in stored.iter_original(row):
                file.write(piece)
            file.flush()
            file.seek(0)
            parsed = reader.read(file, hashes=False)
            file.seek(0)
            offset = self._begin(row.original_size)
            while chunk := file.read(1 << 20):
                self._write(chunk)
        self._entries.append(
            (
                row,
                _Place(
                    self._key,
                    offset,
                    row.original_size,
                    parsed.dataset_offset,
                    row.original_syntax,
                    parsed.frames.to_bytes(),
                    row.file_sha256,
                    "",
                ),
            )
        )

    def _begin(self, coming: int) -> int:
        """Make room for so many bytes; returns where they begin."""
        if self._entries and self._size + coming > PACK_BYTES:
            self.flush()
        if self._file is None:
            descriptor, name = tempfile.mkstemp(prefix="pack-", dir=sweeping.staging_folder())
            self._path, self._file = Path(name), os.fdopen(descriptor, "wb")
            self._key, self._hasher, self._size = new_key(NAMESPACE), hashlib.sha256(), 0
        return self._size

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        self._file.write(data)
        self._hasher.update(data)
        self._size += len(data)

    def _drop(self) -> None:
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._file, self._path, self._entries, self._size = None, None, [], 0

    def flush(self) -> None:
        """Put what was collected, prove it, and let the rows name it."""
        if self._file is None or self._path is None:
            return
        self._file.close()
        key, entries, size = self._key, self._entries, self._size
        try:
            object_store().put_file(key, self._path, sha256=self._hasher.hexdigest(), move=True)
        finally:
            self._drop()
        source: stored.Source = _InMemory(object_store().read(key)) if size <= PACK_BYTES else object_store()
        proven = []
        for row, place in entries:
            if _proven(place, source):
                proven.append((row, place))
            else:
                log.error("an original could not be rebuilt from its recompressed form", instance=row.id)
                self.unproven.append(row.id)
        del source
        moved = _switch(proven) if proven else []
        if moved:
            self.bumps += any(row.study_id == self._study_id for row, _place in moved)
            self.left.update(row.object_key for row, _place in moved)
            self._tally.moved += len(moved)
            self._tally.before += sum(row.size + row.recipe_size for row, _place in moved)
            self._tally.after += sum(place.size + place.recipe_size for _row, place in moved)
        else:
            sweeping.tidy([key])


class _InMemory:
    """An object that was read back whole."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        del key
        return self._data[offset : len(self._data) if length is None else offset + length]

    def iter_range(self, key: str, offset: int = 0, length: int | None = None, chunk: int = 1 << 20) -> Iterator[bytes]:
        end = len(self._data) if length is None else offset + length
        for start in range(offset, end, chunk):
            yield self.read(key, start, min(chunk, end - start))


def _proven(place: _Place, source: stored.Source) -> bool:
    """Whether the new object, as read back from the store, gives the file that was sent and the file to be served."""
    try:
        for _piece in stored.iter_original(place, store=source):
            pass
    except ChecksumMismatch:
        return False
    if not place.original_syntax:
        return True
    hasher = hashlib.sha256()
    for chunk in stored.iter_file(place, store=source):
        hasher.update(chunk)
    return hasher.hexdigest() == place.stored_sha256


def _switch(entries: Sequence[tuple[_Row, _Place]]) -> list[tuple[_Row, _Place]]:
    """Let the rows name their new places, in one transaction; returns those that still named the old ones."""
    moved = []
    with database().writing() as session:
        # Studies first and in the order in which intake locks them.
        wanted = {row.study_id for row, _place in entries}
        linking.hold(session, *sorted(wanted))
        for row, place in sorted(entries, key=lambda entry: str(entry[0].id)):
            values = place.values()
            if row.original_syntax and not place.original_syntax:
                values["kept_reason"] = RESTORED
            result = session.execute(
                update(Instance)
                .where(
                    Instance.id == row.id,
                    Instance.object_key == row.object_key,
                    Instance.object_offset == row.object_offset,
                    Instance.original_syntax == row.original_syntax,
                )
                .values(**values)
                .execution_options(synchronize_session=False)
            )
            if isinstance(result, CursorResult) and result.rowcount == 1:
                moved.append((row, place))
        # A new revision has readers look up anew where things lie. Previews that were ready remain so.
        session.execute(
            update(Study)
            .where(Study.id.in_({row.study_id for row, _place in moved}))
            .values(
                revision=Study.revision + 1,
                prepared_revision=case(
                    (Study.prepared_revision >= Study.revision, Study.revision + 1), else_=Study.prepared_revision
                ),
            )
            .execution_options(synchronize_session=False)
        )
        retired.retire(session, {row.object_key for row, _place in moved})
    return moved
