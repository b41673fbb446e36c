"""The one way in for every file: read, kept durably, indexed, acknowledged; in this order.

`ingest`, `ingest_many` and `Batch` are what the doors call (upload page, STOW-RS, C-STORE). A file is acknowledged
only after its bytes lie in the object store and its rows are committed. A crash in between leaves an object that no
row names: `sweep_orphans` finds it later.

Files that are in memory when they come together lie one after another in one object, a *pack*, of which each row
names its range: one flush to the disk, or one request to the store, for all of them. A pack holds only what was
accepted; refused bytes lie in an object of their own.

Sameness is that of the data sets, without group 0002 (hub.studies.sameness), and it is looked up within the sending
organisation only: a clinic must not learn what another one holds. Other bytes under a known identifier are kept in
quarantine and answered as a failure.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import bindparam, select
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from hub.dicom import dicomjson, reader
from hub.dicom.errors import DicomRefused
from hub.dicom.reader import ParsedInstance
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Unavailable
from hub.kit.i18n import Message, _
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.sites.models import Organisation
from hub.studies import appending, quarantine, reasons, sameness, trash
from hub.studies.indexing import PRESENT, Indexing, LostRace, Present, damaged, header_patient, known, other_patient
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, Study
from hub.studies.outcomes import BULK_PREFIX, HUB_SOURCE, NAMESPACE, PREVIEWS, Incoming, Outcome, Prepared, Refusal
from hub.studies.sweeping import staging_folder as staging
from hub.studies.sweeping import sweep_orphans, sweep_staging, tidy
from storage.errors import StorageError
from storage.keys import new_key

__all__ = [
    "BULK_PREFIX",
    "HUB_SOURCE",
    "NAMESPACE",
    "PREVIEWS",
    "Batch",
    "Incoming",
    "Indexing",
    "LostRace",
    "Outcome",
    "Prepared",
    "Refusal",
    "charset_hint",
    "check_room",
    "ingest",
    "ingest_many",
    "limits",
    "staging",
    "store_own",
    "sweep_orphans",
    "sweep_staging",
]

log = get_logger(__name__)

_RETRIES: Final = 10
_LOST_RACE: Final = frozenset({"40001", "40P01", "55P03"})
_WORKERS: Final = 4
_HINT_SECONDS: Final = 2.0
_OWN_PACK: Final = 1 << 20
"""From this size on a study's files of one call are an object of their own, so that it can be deleted alone."""


# --- room ---------------------------------------------------------------------------------------------------------


def check_room(more: int = 0) -> None:
    """Refuse before anything is read where the disks are nearly full.

    Raises:
        Unavailable: Less than `min_free_mb` would be left after `more` bytes.
    """
    settings = get_settings()
    least = settings.min_free_mb * 2**20 + more
    free = [shutil.disk_usage(settings.data_dir).free]
    stored = object_store().free_bytes()
    if stored is not None:
        free.append(stored)
    if min(free) < least:
        log.error("too little room for images", free_mb=min(free) // 2**20)
        raise Unavailable(_("中心的存储空间不足,暂时不能接收影像;请保留原文件,稍后再发送。"), code="no-room")


def limits() -> reader.Limits:
    """What one file may cost, by the settings."""
    settings = get_settings()
    return reader.Limits(max_file_bytes=settings.instance_max_mb * 2**20, max_frame_bytes=settings.frame_max_mb * 2**20)


# --- reading ------------------------------------------------------------------------------------------------------

_hints: dict[str, tuple[float, str | None]] = {}


def charset_hint(org_id: str) -> str | None:
    """The character set that the organisation's devices were last seen to use, as of the last seconds."""
    at, hint = _hints.get(org_id, (-_HINT_SECONDS, None))
    if time.monotonic() - at < _HINT_SECONDS:
        return hint
    with database().reading() as session:
        hint = session.scalar(select(Organisation.charset_hint).where(Organisation.id == org_id)) or None
    if len(_hints) > 10_000:
        _hints.clear()
    _hints[org_id] = (time.monotonic(), hint)
    return hint


_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class _Readable:
    parsed: ParsedInstance
    header: bytes


@dataclass(frozen=True, slots=True)
class _Unreadable:
    code: str
    params: dict[str, Any]
    size: int
    sha256: str
    parsed: ParsedInstance | None = None


def _read(source: Path | bytes, *, hint: str | None) -> _Readable | _Unreadable:
    if isinstance(source, Path) and (source.is_symlink() or not source.is_file()):
        # Nothing outside the staging folder may be named by what a sender chose.
        return _Unreadable("not-dicom", {"why": "不是普通文件"}, 0, _EMPTY_SHA256)
    try:
        parsed = reader.read(source, limits=limits(), hint=hint)
        if parsed.kind == "dicomdir":
            return _Unreadable(reasons.DICOMDIR, {}, parsed.file_size, parsed.file_sha256)
        document = dicomjson.to_dicom_json(parsed.header, bulk_uri=BULK_PREFIX.__add__, bulk=parsed.bulk)
        return _Readable(parsed, dicomjson.compress(document))
    except DicomRefused as refused:
        code, params = reasons.from_dicom(refused)
        return _Unreadable(code, params, *_measure(source))
    except OSError:
        raise
    except Exception as error:
        # A file that confuses the reader must not stop the files beside it.
        log.exception("the reader failed on a file", kind=type(error).__name__)
        return _Unreadable(reasons.PROCESSING_FAILED, {}, *_measure(source))


def _measure(source: Path | bytes) -> tuple[int, str]:
    if isinstance(source, bytes):
        return len(source), hashlib.sha256(source).hexdigest()
    with source.open("rb") as file:
        return source.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()


def _checked(file: Incoming, hint: str | None) -> _Readable | _Unreadable:
    seen = _read(file.source, hint=hint)
    if isinstance(seen, _Unreadable):
        return seen
    parsed, code = seen.parsed, ""
    if file.want_study and parsed.study_instance_uid != file.want_study:
        code = reasons.STUDY_MISMATCH
    elif file.want_instance is not None and (parsed.sop_class_uid, parsed.sop_instance_uid) != file.want_instance:
        code = reasons.WRONG_INSTANCE
    return _Unreadable(code, {}, parsed.file_size, parsed.file_sha256, parsed) if code else seen


# --- the whole way ------------------------------------------------------------------------------------------------

_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()


def _workers() -> ThreadPoolExecutor:
    # Reading releases the interpreter while it hashes, storing while it waits for the disk.
    global _pool  # noqa: PLW0603
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="intake")
        return _pool


class _Mixed(Exception):
    """A pack holds files that the transaction did not accept: they must be taken out of it first."""

    def __init__(self, numbers: set[int]) -> None:
        super().__init__("files that are not accepted lie among some that are")
        self.numbers = numbers


class Batch:
    """Files of one sender that are stored and indexed together: `read` as they come, then `commit` once.

    Args:
        actor: Who sends them.
        org_id: Whose they are.
        source: The door (`web`, `stow`, `dimse`).
        exam_id: The exam that they are sent for.
    """

    def __init__(self, actor: Actor, *, org_id: str, source: str, exam_id: str | None = None) -> None:
        self._actor = actor
        self._org_id = org_id
        self._source = source
        self._exam_id = exam_id
        self._hint: str | None = None
        self._files: list[Incoming] = []
        self._seen: list[_Readable | _Unreadable] = []
        self._outcomes: dict[int, Outcome] = {}
        # What needs no second try: refused bytes that are in quarantine, files that are objects of their own.
        self._settled: dict[int, Prepared | Refusal] = {}
        self._apart: set[int] = set()
        # By file: an instance of the same UID, and whether it holds the same data set.
        self._compared: dict[int, tuple[str, bool]] = {}

    def __len__(self) -> int:
        return len(self._files)

    def read(self, files: Sequence[Incoming]) -> None:
        """Parse and hash files; nothing is stored yet.

        Raises:
            OSError: A local file cannot be read.
        """
        hint = self._hint = charset_hint(self._org_id)
        if len(files) > 1 and any(isinstance(file.source, Path) for file in files):
            seen = list(_workers().map(lambda file: _checked(file, hint), files))
        else:
            seen = [_checked(file, hint) for file in files]
        self._files += files
        self._seen += seen

    def join(self, other: Batch) -> None:
        """Take over what another batch of the same sender has read, after one's own files."""
        self._files += other._files
        self._seen += other._seen

    def commit(self) -> list[Outcome]:
        """Store what was read, write its rows, and say what became of each file, in order.

        A file whose bytes could not be stored is `refused` with the code `store-unavailable`; a local one stays.

        Raises:
            Unavailable: The database is out of reach, or too busy; all local files are untouched.
        """
        quick = self._append()
        if quick is not None:
            return quick
        twice = self._sent_twice()
        for _attempt in range(_RETRIES):
            found = self._foresee()
            todo = [n for n in range(len(self._files)) if not (n in twice or n in found or n in self._outcomes)]
            packs = self._store(todo)
            ready = {n: file for n, file in self._settled.items() if n not in found}
            ready.update((n, file) for pack in packs for n, file in pack.items())
            try:
                decided = self._commit(ready, packs)
            except _Mixed as mixed:
                self._apart |= mixed.numbers
                tidy([next(iter(pack.values())).object_key for pack in packs])
                continue
            except Exception as error:
                # Of a commit whose answer was lost nobody knows whether it has happened, or happens yet: what it may
                # come to name is left to the sweep, as it is by a process that is being ended.
                if not isinstance(error, DBAPIError):
                    tidy([file.object_key for file in ready.values() if file.object_key])
                raise
            self._outcomes.update(found)
            self._outcomes.update(decided)
            stored = {n for n, outcome in decided.items() if outcome.status == "stored"}
            rest = [file for n, file in {**self._settled, **ready}.items() if n not in stored]
            tidy([file.object_key for file in rest if file.object_key])
            break
        else:
            raise _busy()
        for number, first in twice.items():
            before = self._outcomes[first]
            self._outcomes[number] = replace(before, status="known") if before.status == "stored" else before
        for number, file in enumerate(self._files):
            gone = self._outcomes[number].code != reasons.STORE_UNAVAILABLE
            if file.move and isinstance(file.source, Path) and gone:
                file.source.unlink(missing_ok=True)
        return [self._outcomes[number] for number in range(len(self._files))]

    def _append(self) -> list[Outcome] | None:
        """The short way, for more images of studies that this process has just indexed; None where it is not theirs."""
        parsed = [one.parsed for one in self._seen if isinstance(one, _Readable)]
        if (
            self._exam_id is not None
            or self._source == HUB_SOURCE
            or len(parsed) != len(self._files)
            or not all(isinstance(file.source, bytes) for file in self._files)
        ):
            return None
        known_studies = appending.fits(self._org_id, parsed, hint=self._hint)
        if known_studies is None:
            return None
        packs = self._store(range(len(self._files)))
        files = {number: file for pack in packs for number, file in pack.items()}
        keys = [next(iter(pack.values())).object_key for pack in packs]
        try:
            if self._outcomes:
                raise appending.NotAsRemembered
            with database().writing() as session:
                ready = [files[number] for number in range(len(self._files))]
                return appending.append(session, self._actor, self._org_id, known_studies, ready)
        except (appending.NotAsRemembered, Conflict):
            tidy(keys)
        except DBAPIError as error:
            # Whether it was committed nobody knows: what it may have come to name is left to the sweep.
            if not _may_retry(error) and not isinstance(error, DataError):
                raise
        except Exception:
            tidy(keys)
            raise
        appending.forget(self._org_id, [one.study_instance_uid for one in parsed])
        return None

    def _sent_twice(self) -> dict[int, int]:
        """Files that are the same as an earlier one: their fate is that one's."""
        by_uid: dict[str, list[int]] = {}
        for number, one in enumerate(self._seen):
            if isinstance(one, _Readable):
                by_uid.setdefault(one.parsed.sop_instance_uid, []).append(number)
        twice: dict[int, int] = {}
        for numbers in by_uid.values():
            first: dict[str, int] = {}
            for number in numbers if len(numbers) > 1 else ():
                hashed = sameness.dataset_sha256(self._files[number].source, self._parsed(number).dataset_offset)
                if first.setdefault(hashed, number) != number:
                    twice[number] = first[hashed]
        return twice

    def _compare(self, here: Mapping[int, Present]) -> None:
        """Find out which files hold the same data set as the instance that is here under their UID."""
        unlike = {
            number: present
            for number, present in here.items()
            if self._parsed(number).file_sha256 != present.file_sha256
            and self._compared.get(number, ("", False))[0] != present.id
        }
        if not unlike:
            return
        with database().reading() as session:
            rows = {
                row.id: row for row in session.execute(_HEADS, {"ids": sorted({one.id for one in unlike.values()})})
            }
        for number, present in unlike.items():
            row = rows.get(present.id)
            # One that was deleted meanwhile is looked for anew by the transaction that decides.
            if row is not None:
                same = sameness.same(
                    self._parsed(number),
                    self._files[number].source,
                    file_sha256=row.file_sha256,
                    kept=row.file_head,
                    hashed=row.dataset_sha256,
                )
                self._compared[number] = (present.id, same)

    def _parsed(self, number: int) -> ParsedInstance:
        one = self._seen[number]
        assert isinstance(one, _Readable)
        return one.parsed

    def _same(self, number: int, present: Present) -> bool:
        if self._parsed(number).file_sha256 == present.file_sha256:
            return True
        return self._compared.get(number) == (present.id, True)

    def _foresee(self) -> dict[int, Outcome]:
        """Outcomes of files that are here already, whose bytes need not be stored; and whom to keep out of packs.

        What another transaction changes meanwhile is found out in the one that decides.
        """
        readable = {n: one.parsed for n, one in enumerate(self._seen) if isinstance(one, _Readable)}
        if not readable:
            return {}
        outcomes: dict[int, Outcome] = {}
        with database().reading() as session:
            here = _present(session, {parsed.sop_instance_uid for parsed in readable.values()})
            studies = _studies(session, {parsed.study_instance_uid for parsed in readable.values()})
            # Of a study that is not here hardly any series can be, and a file alone spoils nobody's pack.
            look = len(readable) > 1 and studies
            series = _series(session, {parsed.series_instance_uid for parsed in readable.values()}) if look else {}
            linked: set[str] | None = None
            if self._exam_id is not None and here:
                linked = set(session.scalars(select(ExamStudy.study_id).where(ExamStudy.exam_id == self._exam_id)))
            lost = damaged(session, (present.id for present, _study_uid in here.values()))
        found = {number: here.get(parsed.sop_instance_uid) for number, parsed in readable.items()}
        self._compare({number: one[0] for number, one in found.items() if one and one[0].org_id == self._org_id})
        if any(study.trashed_at is not None for study in studies.values()):
            self._wake()
        for number, parsed in readable.items():
            present = here.get(parsed.sop_instance_uid)
            study = studies.get(parsed.study_instance_uid)
            if study is not None and study.trashed_at is not None:
                # It may be purged at this moment: only the transaction that holds it can tell.
                continue
            if present is not None:
                instance, study_uid = present
                if instance.id in lost:
                    self._apart.add(number)
                    continue
                same = instance.org_id == self._org_id and self._same(number, instance)
                if same and (linked is None or instance.study_id in linked):
                    outcomes[number] = known(instance, study_uid, parsed)
                else:
                    self._apart.add(number)
                continue
            if study is not None and (
                study.org_id != self._org_id or other_patient(study.header_patient, header_patient(parsed))
            ):
                self._apart.add(number)
            if series.get(parsed.series_instance_uid, parsed.study_instance_uid) != parsed.study_instance_uid:
                self._apart.add(number)
        return outcomes

    def _wake(self) -> None:
        """Take out of the trash what is sent again."""
        readable = [one.parsed for one in self._seen if isinstance(one, _Readable)]
        trash.wake(self._actor, self._org_id, {parsed.study_instance_uid for parsed in readable})

    # -- bytes ---------------------------------------------------------------------------------------------------

    def _store(self, numbers: Iterable[int]) -> list[dict[int, Prepared]]:
        """Put the bytes of files durably: packs are returned, all else is in `_settled`, failures in `_outcomes`."""
        alone: list[int] = []
        together: dict[str, list[int]] = {}
        for number in numbers:
            one = self._seen[number]
            if number in self._settled:
                continue
            if (
                isinstance(one, _Readable)
                and isinstance(self._files[number].source, bytes)
                and number not in self._apart
            ):
                together.setdefault(one.parsed.study_instance_uid, []).append(number)
            else:
                alone.append(number)
        packs = [self._pack(group) for group in self._groups(together)]
        if len(alone) > 1:
            list(_workers().map(self._store_alone, alone))
        else:
            for number in alone:
                self._store_alone(number)
        return [pack for pack in packs if pack]

    def _groups(self, together: Mapping[str, list[int]]) -> list[list[int]]:
        """Each study's files for themselves; those of small studies together."""
        groups: list[list[int]] = []
        small: list[int] = []
        for numbers in together.values():
            if len(together) == 1 or sum(self._size(number) for number in numbers) >= _OWN_PACK:
                groups.append(numbers)
            else:
                small += numbers
        return [*groups, small] if small else groups

    def _size(self, number: int) -> int:
        one = self._seen[number]
        return one.parsed.file_size if isinstance(one, _Readable) else one.size

    def _pack(self, numbers: Sequence[int]) -> dict[int, Prepared]:
        key = new_key(NAMESPACE)
        pieces: list[bytes] = []
        pack: dict[int, Prepared] = {}
        offset = 0
        for number in numbers:
            source, one = self._files[number].source, self._seen[number]
            assert isinstance(source, bytes) and isinstance(one, _Readable)
            pieces.append(source)
            pack[number] = self._prepared(number, one, key, offset)
            offset += len(source)
        try:
            with _store_errors():
                object_store().put_pieces(key, pieces)
        except Unavailable as error:
            for number in numbers:
                self._outcomes[number] = self._unavailable(number, error)
            return {}
        return pack

    def _prepared(self, number: int, one: _Readable, key: str, offset: int = 0) -> Prepared:
        file = self._files[number]
        return Prepared(
            one.parsed,
            one.header,
            self._org_id,
            self._source,
            file.name,
            key,
            one.parsed.file_size,
            offset,
            sameness.kept_hash(one.parsed, file.source),
            self._compared.get(number),
        )

    def _compared_anew(self, ready: Mapping[int, Prepared | Refusal]) -> dict[int, Prepared | Refusal]:
        """Compare with what another transaction has put here meanwhile."""
        uids = {file.parsed.sop_instance_uid for file in ready.values() if isinstance(file, Prepared)}
        with database().reading() as session:
            here = {uid: present for uid, (present, _study_uid) in _present(session, uids).items()}
        found = {n: here.get(file.parsed.sop_instance_uid) for n, file in ready.items() if isinstance(file, Prepared)}
        self._compare({n: present for n, present in found.items() if present and present.org_id == self._org_id})
        return {
            n: replace(file, compared=self._compared.get(n)) if isinstance(file, Prepared) else file
            for n, file in ready.items()
        }

    def _store_alone(self, number: int) -> None:
        one, file = self._seen[number], self._files[number]
        try:
            with _store_errors():
                if isinstance(one, _Unreadable):
                    self._settled[number] = self._refuse(file, one)
                    return
                key = new_key(NAMESPACE)
                if isinstance(file.source, bytes):
                    object_store().put_pieces(key, [file.source])
                else:
                    if file.move:
                        # The sweep goes by the object's age, and a resumed upload may have been finished long ago.
                        os.utime(file.source)
                    # Not copied, and yet still there should nothing come of it.
                    object_store().put_file(key, file.source, sha256=one.parsed.file_sha256, move=file.move, keep=True)
            self._settled[number] = self._prepared(number, one, key)
        except Unavailable as error:
            self._outcomes[number] = self._unavailable(number, error)

    def _unavailable(self, number: int, error: Unavailable) -> Outcome:
        one = self._seen[number]
        parsed = one.parsed
        message = error.message if isinstance(error.message, Message) else Message(error.message)
        if parsed is None:
            return Outcome("refused", reasons.STORE_UNAVAILABLE, message)
        return Outcome(
            "refused",
            reasons.STORE_UNAVAILABLE,
            message,
            study_uid=parsed.study_instance_uid,
            sop_uid=parsed.sop_instance_uid,
            sop_class_uid=parsed.sop_class_uid,
        )

    def _refuse(self, file: Incoming, seen: _Unreadable) -> Refusal:
        with database().reading() as session:
            before = quarantine.known(session, org_id=self._org_id, sha256=seen.sha256, code=seen.code)
        quarantine_id, key = (before.id, before.object_key) if before else ("", "")
        if before is None and seen.code != reasons.DICOMDIR:
            key = quarantine.put_bytes(file.source, size=seen.size, sha256=seen.sha256)
        return Refusal(
            seen.code,
            seen.params,
            self._org_id,
            self._source,
            file.name,
            key,
            seen.size,
            seen.sha256,
            study_uid=seen.parsed.study_instance_uid if seen.parsed else "",
            sop_uid=seen.parsed.sop_instance_uid if seen.parsed else "",
            sop_class_uid=seen.parsed.sop_class_uid if seen.parsed else "",
            quarantine_id=quarantine_id,
        )

    # -- rows ----------------------------------------------------------------------------------------------------

    def _commit(
        self, ready: Mapping[int, Prepared | Refusal], packs: Sequence[Mapping[int, Prepared]]
    ) -> dict[int, Outcome]:
        """Write the rows; a lost race is run again.

        Raises:
            _Mixed: Nothing was written: some packs hold what was not accepted.
        """
        if not ready:
            return {}
        numbers = sorted(ready)
        for attempt in range(_RETRIES):
            try:
                with database().writing() as session:
                    indexing = Indexing(session, self._actor, self._exam_id, self._hint)
                    decided = dict(zip(numbers, indexing.run([ready[n] for n in numbers]), strict=True))
                    _look_at_packs(packs, decided)
                appending.remember(indexing)
                return decided
            except (DBAPIError, Conflict, LostRace) as error:
                if isinstance(error, DataError):
                    if any(packs):
                        raise _Mixed({number for pack in packs for number in pack}) from error
                    return self._singly(ready, error)
                if not _may_retry(error):
                    raise
                if attempt == _RETRIES - 1:
                    log.error("a transaction of intake lost every race", kind=type(error).__name__)
                    raise _busy() from error
                if isinstance(error, LostRace):
                    self._wake()
                ready = self._compared_anew(ready)
                time.sleep(random.uniform(0.002, 0.02 * 2 ** min(attempt, 5)))  # noqa: S311 - only to part two writers
        raise AssertionError("unreachable")

    def _singly(self, ready: Mapping[int, Prepared | Refusal], error: DBAPIError) -> dict[int, Outcome]:
        """One value that the database does not take must not stop the files beside it."""
        if len(ready) > 1:
            return {n: outcome for one in ready for n, outcome in self._commit({one: ready[one]}, []).items()}
        ((number, file),) = ready.items()
        log.error("a file's values do not fit the database", kind=type(error.orig).__name__)
        if isinstance(file, Refusal):
            raise error
        parsed = file.parsed
        refusal = Refusal(
            reasons.PROCESSING_FAILED,
            {},
            file.org_id,
            file.source,
            file.name,
            file.object_key,
            file.size,
            parsed.file_sha256,
            parsed.study_instance_uid,
            parsed.sop_instance_uid,
            parsed.sop_class_uid,
        )
        return self._commit({number: refusal}, [])


def _look_at_packs(packs: Sequence[Mapping[int, Prepared]], decided: Mapping[int, Outcome]) -> None:
    """Only what was accepted may lie in a pack that stays; one of which all is known goes as a whole."""
    for pack in packs:
        statuses = {decided[number].status for number in pack}
        if statuses not in ({"stored"}, {"known"}):
            raise _Mixed({number for number in pack if decided[number].status != "stored"})


# Built once: building a statement costs as much as running it.
_UIDS: Any = bindparam("uids", expanding=True)
_PRESENT = select(*PRESENT, Study.uid).join(Study, Study.id == Instance.study_id).where(Instance.uid.in_(_UIDS))
_HEADS = (
    select(Instance.id, Instance.file_sha256, Instance.dataset_sha256, InstanceHeader.file_head)
    .outerjoin(InstanceHeader, InstanceHeader.instance_id == Instance.id)
    .where(Instance.id.in_(bindparam("ids", expanding=True)))
)
_STUDIES = select(Study.uid, Study.org_id, Study.header_patient, Study.trashed_at).where(Study.uid.in_(_UIDS))
_SERIES = select(Series.uid, Study.uid).join(Study, Study.id == Series.study_id).where(Series.uid.in_(_UIDS))


def _present(session: Session, uids: set[str]) -> dict[str, tuple[Present, str]]:
    return {row[1]: (Present(*row[:-1]), row[-1]) for row in session.execute(_PRESENT, {"uids": sorted(uids)})}


def _studies(session: Session, uids: set[str]) -> dict[str, Any]:
    return {row.uid: row for row in session.execute(_STUDIES, {"uids": sorted(uids)})}


def _series(session: Session, uids: set[str]) -> dict[str, str]:
    """Study Instance UID by Series Instance UID."""
    return {row[0]: row[1] for row in session.execute(_SERIES, {"uids": sorted(uids)})}


def _busy() -> Unavailable:
    return Unavailable(_("中心正忙,文件没有被接收;请稍后再发送。"), code="busy")


def _may_retry(error: Exception) -> bool:
    """Whether another writer was first: then everything is looked up anew and fits."""
    if isinstance(error, IntegrityError | Conflict | LostRace):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return state in _LOST_RACE or "database is locked" in str(getattr(error, "orig", ""))


@contextlib.contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        log.error("object store refused", kind=type(error).__name__)
        raise Unavailable(_("影像存储暂时不可用,文件没有被接收;请稍后再发送。"), code="store-unavailable") from error


def ingest(
    actor: Actor, path: Path, *, org_id: str, source: str, name: str = "", exam_id: str | None = None
) -> Outcome:
    """Take one finished local file in; on return its fate is committed and the file is gone.

    Args:
        actor: Who sends it.
        path: The file; untouched if this raises.
        org_id: Whose it is.
        source: The door (`web`, `stow`, `dimse`).
        name: Its name as sent.
        exam_id: The exam it is sent for.

    Raises:
        Unavailable: No room, or a store or the database is out of reach; the same call may succeed later.
    """
    outcome = ingest_many(actor, [Incoming(path, name)], org_id=org_id, source=source, exam_id=exam_id)[0]
    if outcome.code == reasons.STORE_UNAVAILABLE:
        raise Unavailable(outcome.reason, code=outcome.code)
    return outcome


def ingest_many(
    actor: Actor, files: Sequence[Incoming], *, org_id: str, source: str, exam_id: str | None = None
) -> list[Outcome]:
    """Take several files in with one transaction; an outcome for each, in order.

    A file whose bytes could not be stored is `refused` with the code `store-unavailable` and stays where it is.

    Raises:
        Unavailable: No room at all, or the database is out of reach; all files are untouched.
    """
    if source != HUB_SOURCE:
        check_room()
    batch = Batch(actor, org_id=org_id, source=source, exam_id=exam_id)
    batch.read(files)
    return batch.commit()


def store_own(actor: Actor, study: Study, data: bytes, *, name: str = "") -> Outcome:
    """Store an object that the hub made (a report) as an instance of `study`.

    Safe to run twice: an object of the same SOP Instance UID that the hub made before is `known`.

    Args:
        actor: On whose behalf.
        study: The study; a detached row will do.
        data: A whole DICOM file whose Study Instance UID is the study's.
        name: For the quarantine, should it be refused.

    Raises:
        ValueError: The object was refused: the hub made something that it does not accept itself.
        Unavailable: No room, or a store is out of reach.
    """
    outcome = ingest_many(actor, [Incoming(data, name, want_study=study.uid)], org_id=study.org_id, source=HUB_SOURCE)[
        0
    ]
    if outcome.code == reasons.STORE_UNAVAILABLE:
        raise Unavailable(outcome.reason, code=outcome.code)
    if outcome.status == "refused":
        raise ValueError(f"an object of the hub's own was refused: {outcome.code}")
    return outcome
