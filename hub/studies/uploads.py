"""Uploads of the web page: batches of declared files, resumable, reconciled at the end.

A batch is one dropped folder. Its declaration (the number of DICOM images) becomes the exam's declared count. A file
is a tus resource whose bytes grow in the staging folder; when it is whole it goes through hub.studies.intake, and only
then is its last part acknowledged. A ZIP is acknowledged when its bytes and the job that expands it are durable.

Names of files are labels: they never become a path.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Select, delete, select, update
from sqlalchemy.orm import Session

from hub.accounts.models import Person
from hub.audit import service as audit
from hub.dicom.archive import ArchiveLimits, Member, is_zip, iter_zip
from hub.exams import repository
from hub.exams.models import Exam
from hub.exams.service import announce
from hub.kit import clock, jobs, live
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unavailable
from hub.kit.health import Concern
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.sites.models import ApiKey, Organisation
from hub.studies import intake, linking, quarantine, reasons
from hub.studies.models import ExamStudy, Instance, Study, UploadBatch, UploadFile

log = get_logger(__name__)

RECEIVING, RECEIVED = "receiving", "received"
STORED, KNOWN, REFUSED, EXPANDED, IGNORED = "stored", "known", "refused", "expanded", "ignored"
OPEN, CLOSED, SHORT, EXPIRED = "open", "closed", "short", "expired"
FINAL: Final = frozenset({STORED, KNOWN, REFUSED, EXPANDED, IGNORED})

SOURCE: Final = "web"
GIVEN_UP: Final = frozenset({"not-sent", "expired"})
"""Refusals that say: it never came whole."""
NO_IMAGE_CODES: Final = frozenset({"not-dicom", "dicomdir"})
"""Refusals that say: this was no image, so none is missing."""

_LITTER = re.compile(
    r"(^|/)(__MACOSX/.*|System Volume Information/.*|\.DS_Store|Thumbs\.db|desktop\.ini|autorun\.inf|\._[^/]*)$",
    re.IGNORECASE,
)
_COMPANIONS: Final = frozenset(
    [
        "exe",
        "dll",
        "com",
        "bat",
        "cmd",
        "msi",
        "jar",
        "htm",
        "html",
        "css",
        "js",
        "txt",
        "xml",
        "inf",
        "ini",
        "ico",
        "cfg",
        "chm",
        "hlp",
        "url",
        "lnk",
        "log",
        "md5",
        "cab",
        "jpg",
        "jpeg",
        "png",
        "gif",
        "bmp",
        "tif",
        "pdf",
        "doc",
        "docx",
        "ttf",
        "swf",
        "json",
        "sh",
        "app",
        "dat",
        "db",
    ]
)
_ZIP_NAME = re.compile(r"\.zip$", re.IGNORECASE)

WORDS: Final[dict[str, Message]] = {
    "litter": _("操作系统的附带文件,不是影像,不需要上传"),
    "companion": _("光盘附带的程序或说明,不是影像,不需要上传"),
    "dicomdir": _("光盘目录文件(DICOMDIR),不是影像;其中列出的影像已一并处理"),
    "expired": _("超过 {hours} 小时没有传完,已清除;请重新上传"),
    "not-sent": _("没有传完,已确认不再补传"),
    "zip-empty": _("压缩包里没有文件;请检查后重新压缩上传"),
}


@dataclass(frozen=True, slots=True)
class Declared:
    """A file that a sender wants to send.

    Attributes:
        path: Name with folders, as a label.
        size: Bytes.
        sha256: Of the whole file, in hex, or "".
        dicom: False where the sender has looked and it is no DICOM file.
    """

    path: str
    size: int
    sha256: str = ""
    dicom: bool = True


@dataclass(slots=True)
class Reconciliation:
    """What became of a batch.

    `images` is the declaration: files (and members of ZIPs) that are or may be DICOM images. `shortfall` are images
    that are not in the hub: not sent, or refused.
    """

    batch_id: str
    state: str
    files: int = 0
    bytes: int = 0
    images: int = 0
    sent: int = 0
    stored: int = 0
    known: int = 0
    refused: int = 0
    ignored: int = 0
    unsent: int = 0
    processing: int = 0
    shortfall: int = 0
    exam_ids: list[str] = field(default_factory=list)


# --- the staging folder -------------------------------------------------------------------------------------------


def staging() -> Path:
    """The folder in which unfinished files grow."""
    folder = get_settings().data_dir / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def part_path(file_id: str) -> Path:
    """Where the bytes of an unfinished file lie. The name is made of the row's id alone."""
    if not re.fullmatch(r"[0-9a-z]{26}", file_id):
        raise NotFound(_("没有这个上传"))
    return staging() / f"{file_id}.part"


def lock_path(file_id: str) -> Path:
    """The file that who appends to an unfinished file holds locked."""
    return part_path(file_id).with_suffix(".lock")


def room() -> int:
    """Bytes that may still be taken in before the disk's reserve is touched; may be negative."""
    settings = get_settings()
    return shutil.disk_usage(staging()).free - settings.min_free_mb * 2**20


def clean_path(path: str) -> str:
    """A sender's file name as a label: no root, no drive, no `..`, no control characters, at most 400 characters."""
    text = unicodedata.normalize("NFC", path).replace("\\", "/")
    text = "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    parts = [part.strip() for part in re.sub(r"^[A-Za-z]:", "", text).split("/")]
    return "/".join(part for part in parts if part not in ("", ".", ".."))[-400:].lstrip("/") or "?"


# --- declaring ----------------------------------------------------------------------------------------------------


def _org(actor: Actor) -> str:
    if actor.org_id is None:
        raise Forbidden(_("只有医疗机构可以上传影像"))
    return actor.org_id


def get_batch(session: Session, actor: Actor, batch_id: str, *, lock: bool = False) -> UploadBatch:
    """A batch of the actor's organisation, or NotFound; with `lock` nobody else changes its rows together meanwhile.

    Locks are taken in one order: batch, files, studies, exam.
    """
    held = {"key_share": True} if lock else None
    batch = session.get(UploadBatch, batch_id, with_for_update=held, populate_existing=lock)
    if batch is None or batch.org_id != actor.org_id:
        raise NotFound(_("没有这个上传"))
    return batch


def get_file(session: Session, actor: Actor, file_id: str) -> tuple[UploadFile, UploadBatch]:
    """A file of the actor's organisation with its batch, or NotFound."""
    found = session.execute(
        select(UploadFile, UploadBatch)
        .join(UploadBatch, UploadBatch.id == UploadFile.batch_id)
        .where(UploadFile.id == file_id, UploadBatch.org_id == actor.org_id)
    ).one_or_none()
    if found is None:
        raise NotFound(_("没有这个上传"))
    return found[0], found[1]


def declare(
    session: Session,
    actor: Actor,
    *,
    files: Sequence[Declared],
    exam_id: str | None = None,
    batch_id: str | None = None,
) -> tuple[UploadBatch, list[UploadFile]]:
    """Say what will be sent. Saying it again, for the same batch, gives the same rows with their progress.

    Args:
        session: The transaction.
        actor: Technologist or machine of a clinic.
        files: All files of the folder.
        exam_id: The exam that the images are for; None: they find or make their exams.
        batch_id: A batch to go on with.

    Returns:
        The batch and one row for each file, in the same order. Rows in a final state need not be sent: `known` are in
        the hub already, `ignored` are no images, `refused` say why.

    Raises:
        WrongExam: The exam is not one of the actor's organisation.
        Unavailable: Not enough room.
        Conflict: The batch is closed.
    """
    org_id = _org(actor)
    settings = get_settings()
    if len(files) > settings.zip_max_files:
        raise TooLarge(_("一次最多上传 {n} 个文件,请分批上传", n=settings.zip_max_files), code="too-many-files")
    if batch_id:
        batch = get_batch(session, actor, batch_id, lock=True)
        if batch.state != OPEN:
            raise Conflict(_("这批上传已经结束,请重新选择文件"), code="batch-closed")
        if exam_id and batch.exam_id not in (None, exam_id):
            raise Conflict(_("这批影像属于另一项检查"), code="other-exam")
    else:
        if exam_id:
            linking.own_exam(session, org_id, exam_id)
        batch = UploadBatch(org_id=org_id, person_id=actor.id, exam_id=exam_id, state=OPEN, created_at=clock.now())
        session.add(batch)
        session.flush()
        audit.record(session, actor, "upload.open", "upload", batch.id, org_id=org_id, exam=exam_id, files=len(files))
    present = {
        (row.path): row
        for row in session.scalars(
            select(UploadFile).where(UploadFile.batch_id == batch.id, UploadFile.parent_id.is_(None))
        )
    }
    rows: list[UploadFile] = []
    used: set[str] = set()
    for item in files:
        path = _unused(clean_path(item.path), used)
        used.add(path)
        row = present.get(path)
        if row is not None and row.size != item.size and row.state in (RECEIVING, REFUSED):
            # The same name with other bytes: the folder changed since.
            row.size, row.offset, row.sha256, row.state, row.code, row.reason = item.size, 0, "", RECEIVING, "", ""
            row.params = {}
        if row is None:
            row = UploadFile(
                id=new_id(), batch_id=batch.id, path=path, size=item.size, state=RECEIVING, created_at=clock.now()
            )
            session.add(row)
            present[path] = row
        if row.state == RECEIVING:
            row.sha256 = row.sha256 or _hex(item.sha256)
            _judge(row, item)
        rows.append(row)
    session.flush()
    _mark_known(session, actor, batch, [row for row in rows if row.state == RECEIVING and row.sha256])
    outstanding = sum(row.size - row.offset for row in rows if row.state == RECEIVING)
    if outstanding > room():
        raise Unavailable(_("中心的存储空间不足,暂时不能接收;请联系影像中心"), code="disk-full")
    batch.declared_files = len(present)
    batch.declared_bytes = sum(row.size for row in present.values())
    session.flush()
    recount(session, batch)
    return batch, rows


def _unused(path: str, used: set[str]) -> str:
    """A label of its own for each file: two hostile names may become the same when cleaned."""
    if path not in used:
        return path
    number = 2
    while f"{path} ({number})" in used:
        number += 1
    return f"{path} ({number})"


def _hex(text: str) -> str:
    lower = text.strip().lower()
    return lower if re.fullmatch(r"[0-9a-f]{64}", lower) else ""


def _judge(row: UploadFile, item: Declared) -> None:
    """Settle what can be said of a file by its name and size."""
    name = row.path.rsplit("/", 1)[-1]
    extension = name.rsplit(".", 1)[-1].lower() if "." in name else ""
    if name.upper() == "DICOMDIR":
        _set(row, IGNORED, "dicomdir", WORDS["dicomdir"])
    elif _LITTER.search(row.path):
        _set(row, IGNORED, "litter", WORDS["litter"])
    elif not item.dicom and extension in _COMPANIONS:
        _set(row, IGNORED, "companion", WORDS["companion"])
    elif item.size == 0:
        _set(row, REFUSED, "empty", reasons.message("empty"))
    else:
        limit = get_settings().upload_max_file_mb * 2**20
        if item.size > limit:
            _set(row, REFUSED, "too-large", reasons.message("too-large", {"size": item.size, "limit": limit}))


def _set(row: UploadFile, state: str, code: str, reason: Message) -> None:
    row.state, row.code, row.reason, row.finished_at = state, code, reason.msgid, clock.now()
    row.params = {name: value.msgid if isinstance(value, Message) else value for name, value in reason.params.items()}


def reason_of(row: UploadFile) -> Message | None:
    """Why a file was refused or ignored, in words that can be translated."""
    return reasons.words(row.reason, row.params) if row.reason else None


def check_known(session: Session, actor: Actor, batch_id: str, hashes: dict[str, str]) -> list[UploadFile]:
    """Tell the hashes of declared files before sending them; gives those that the hub already has.

    Only what the same organisation has sent is looked up: sameness across organisations would tell one clinic what
    another one holds.
    """
    batch = get_batch(session, actor, batch_id, lock=True)
    rows = session.scalars(
        select(UploadFile).where(UploadFile.batch_id == batch.id, UploadFile.id.in_(list(hashes)[:2000]))
    ).all()
    waiting = [row for row in rows if row.state == RECEIVING]
    for row in waiting:
        row.sha256 = _hex(hashes[row.id])
    session.flush()
    found = _mark_known(session, actor, batch, [row for row in waiting if row.sha256])
    if found:
        recount(session, batch)
    return found


def _here(org_id: str, rows: Sequence[UploadFile]) -> Select[str, str, Study]:
    """Which of some files are here: (SHA-256, SOP Instance UID, study)."""
    harmed = select(Concern.key).where(Concern.key == Instance.id, Concern.kind.in_(("damaged", "missing")))
    return (
        select(Instance.file_sha256, Instance.uid, Study)
        .join(Study, Study.id == Instance.study_id)
        .where(
            Instance.org_id == org_id,
            Instance.made_by_hub.is_(False),
            Instance.file_sha256.in_({row.sha256 for row in rows}),
            # What lies in the trash will be gone: sent again, it is taken out. What is damaged is mended so.
            Study.trashed_at.is_(None),
            ~harmed.exists(),
        )
    )


def _mark_known(session: Session, actor: Actor, batch: UploadBatch, rows: list[UploadFile]) -> list[UploadFile]:
    found: list[UploadFile] = []
    studies: dict[str, Study] = {}
    parts = [rows[start : start + 500] for start in range(0, len(rows), 500)]
    # Held before they are said to be here: somebody may just be deleting them.
    held: set[str] = set()
    for part in parts:
        held.update(session.scalars(_here(batch.org_id, part).with_only_columns(Study.id).distinct()))
    if held:
        linking.hold(session, *sorted(held))
    for part in parts:
        instances = session.execute(
            _here(batch.org_id, part).where(Study.id.in_(held)).execution_options(populate_existing=True)
        ).all()
        by_hash = {sha256: (uid, study) for sha256, uid, study in instances}
        for row in part:
            if row.sha256 not in by_hash:
                continue
            sop_uid, study = by_hash[row.sha256]
            row.state, row.offset, row.finished_at = KNOWN, row.size, clock.now()
            row.study_uid, row.sop_uid = study.uid, sop_uid
            studies[study.id] = study
            found.append(row)
    for study in studies.values():
        # Known images may now be sent for an exam that they are not linked to yet.
        if batch.exam_id and session.get(ExamStudy, (batch.exam_id, study.id)) is None:
            linking.attach(session, actor, study, exam_id=batch.exam_id)
    session.flush()
    return found


# --- receiving ----------------------------------------------------------------------------------------------------


def record_offset(file_id: str, offset: int, *, before: int) -> bool:
    """Note that `offset` bytes are durable; False where another writer was faster."""
    with database().writing() as session:
        result = session.execute(
            update(UploadFile)
            .where(UploadFile.id == file_id, UploadFile.offset == before, UploadFile.state == RECEIVING)
            .values(offset=offset)
        )
        return bool(getattr(result, "rowcount", 0))


def terminate(actor: Actor, file_id: str) -> None:
    """Drop an unfinished file (tus termination); a finished one stays what it is."""
    with database().writing() as session:
        row, batch = get_file(session, actor, file_id)
        get_batch(session, actor, batch.id, lock=True)
        row = _held(session, file_id)
        if row.state != RECEIVING:
            raise Conflict(_("文件已经传完,不能撤销"), code="finished")
        session.delete(row)
        session.flush()
        batch.declared_files = max(0, batch.declared_files - 1)
        batch.declared_bytes = max(0, batch.declared_bytes - row.size)
        recount(session, batch)
    part_path(file_id).unlink(missing_ok=True)
    lock_path(file_id).unlink(missing_ok=True)


def finish_file(actor: Actor, file_id: str) -> UploadFile:
    """Take a whole file in: all its bytes lie in the staging folder, its last part is not acknowledged yet.

    A DICOM file is stored and indexed here; a ZIP is left to the job `uploads.expand`. Should the object store or the
    database fail, the bytes are made durable where they are and the job `uploads.ingest` tries again.

    Returns:
        The row as it now stands: `stored`, `known`, `refused`, `ignored`, or `received` where a job goes on.

    Raises:
        Conflict: The bytes are not those that were declared; sending starts anew.
    """
    with database().reading() as session:
        row, batch = get_file(session, actor, file_id)
    if row.state != RECEIVING:
        return row
    path = part_path(file_id)
    if row.sha256 and _sha256(path) != row.sha256:
        _restart(file_id, path)
        raise Conflict(_("文件在传输中损坏,将重新发送"), code="checksum")
    if is_zip(path):
        _sync(path)
        return _hold(file_id, "uploads.expand")
    try:
        return _ingest(actor, row, batch, path)
    except (Unavailable, OSError, _storage_error()) as error:
        log.warning("an upload is kept for later", file_id=file_id, kind=type(error).__name__)
        if not path.exists():
            raise
        _sync(path)
        return _hold(file_id, "uploads.ingest")


def _storage_error() -> type[Exception]:
    from storage.errors import StorageError

    return StorageError


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _restart(file_id: str, path: Path) -> None:
    path.unlink(missing_ok=True)
    with database().writing() as session:
        session.execute(
            update(UploadFile).where(UploadFile.id == file_id, UploadFile.state == RECEIVING).values(offset=0)
        )


def _hold(file_id: str, kind: str) -> UploadFile:
    """Acknowledge bytes that a job will take further."""
    with database().writing() as session:
        row = _held(session, file_id)
        row.state, row.offset = RECEIVED, row.size
        session.flush()
        jobs.enqueue(
            session, kind, {"file_id": file_id}, key=f"{kind}:{file_id}", delay=0 if kind == "uploads.expand" else 5
        )
        batch = session.get_one(UploadBatch, row.batch_id)
        recount(session, batch)
        live.publish(session, "upload", batch.id, orgs=[batch.org_id], file=row.id, state=row.state)
    return row


def _ingest(actor: Actor, row: UploadFile, batch: UploadBatch, path: Path) -> UploadFile:
    outcome = intake.ingest(actor, path, org_id=batch.org_id, source=SOURCE, name=row.path, exam_id=batch.exam_id)
    concluded = _conclude(row.id, outcome)
    path.unlink(missing_ok=True)
    return concluded


def _held(session: Session, file_id: str) -> UploadFile:
    """A file's row, which nobody else changes until the transaction ends; NotFound if it was dropped meanwhile."""
    row = session.get(UploadFile, file_id, with_for_update={"key_share": True}, populate_existing=True)
    if row is None:
        raise NotFound(_("没有这个上传"))
    return row


def _conclude(file_id: str, outcome: intake.Outcome) -> UploadFile:
    with database().writing() as session:
        row = _held(session, file_id)
        batch = session.get_one(UploadBatch, row.batch_id)
        given_up = row.state == REFUSED and row.code in GIVEN_UP
        if row.state in FINAL and not given_up:
            return row
        # Its batch was closed while its last bytes were taken in: it came all the same.
        row.code, row.reason, row.params = "", "", {}
        row.offset, row.finished_at = row.size, clock.now()
        row.study_uid, row.sop_uid = outcome.study_uid or "", outcome.sop_uid or ""
        if outcome.status == "refused":
            ignored = outcome.code == "dicomdir"
            row.state, row.code = (IGNORED if ignored else REFUSED), outcome.code
            row.reason = WORDS["dicomdir"].msgid if ignored else outcome.reason.msgid
            row.params = {} if ignored else _plain({**outcome.reason.params, **outcome.params})
        else:
            row.state = STORED if outcome.status == "stored" else KNOWN
        session.flush()
        if row.state != STORED or given_up:
            recount(session, batch)
            live.publish(session, "upload", batch.id, orgs=[batch.org_id], file=row.id, state=row.state)
        session.execute(
            delete(jobs.Job).where(jobs.Job.key == f"uploads.ingest:{file_id}", jobs.Job.state == jobs.QUEUED)
        )
    return row


def _plain(params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.msgid if isinstance(value, Message) else value
        for name, value in params.items()
        if isinstance(value, Message | str | int | float | bool)
    }


# --- jobs ---------------------------------------------------------------------------------------------------------


def sender_of(session: Session, batch: UploadBatch) -> Actor:
    """Who sent a batch, as an actor for work that goes on after the request."""
    person = session.get(Person, batch.person_id)
    kind = session.scalar(select(Organisation.kind).where(Organisation.id == batch.org_id))
    if person is not None:
        return Actor(
            kind="person",
            id=person.id,
            name=person.name,
            org_id=batch.org_id,
            org_kind=kind,
            roles=frozenset(person.roles),
        )
    key = session.get(ApiKey, batch.person_id)
    return Actor(
        kind="machine",
        id=batch.person_id,
        name=key.label if key else "",
        org_id=batch.org_id,
        org_kind=kind,
        scopes=frozenset(key.scopes if key else ()),
    )


def _received(file_id: str) -> tuple[UploadFile, UploadBatch, Actor] | None:
    with database().reading() as session:
        row = session.get(UploadFile, file_id)
        if row is None or row.state != RECEIVED:
            return None
        batch = session.get_one(UploadBatch, row.batch_id)
        return row, batch, sender_of(session, batch)


def ingest_file(file_id: str) -> None:
    """Job `uploads.ingest`: take in a file whose bytes are here but whose intake failed. Safe to run twice."""
    found = _received(file_id)
    if found is None:
        return
    row, batch, actor = found
    path = part_path(file_id)
    if path.exists():
        _ingest(actor, row, batch, path)
        settle_soon(batch.id)
        return
    # Killed after the bytes had moved into the store and before the row was written: nothing was acknowledged as
    # stored, so the sender is asked for it again.
    with database().writing() as session:
        again = session.get_one(UploadFile, file_id)
        again.state, again.offset = RECEIVING, 0


def expand_file(file_id: str) -> None:
    """Job `uploads.expand`: unpack a ZIP, one row for each member. Killed and run again it goes on where it was."""
    found = _received(file_id)
    if found is None:
        return
    row, batch, actor = found
    path = part_path(file_id)
    settings = get_settings()
    limits = ArchiveLimits(
        max_members=settings.zip_max_files,
        max_total_bytes=settings.zip_max_mb * 2**20,
        max_member_bytes=settings.instance_max_mb * 2**20,
    )
    with database().reading() as session:
        done = {
            member.path: member.state
            for member in session.scalars(select(UploadFile).where(UploadFile.parent_id == file_id))
        }
    used: set[str] = set()
    refused: tuple[str, str, dict[str, Any]] | None = None
    for member in iter_zip(path, limits=limits, workdir=staging(), name=row.path):
        label = _unused(f"{row.path}!/{clean_path(member.name)}"[-500:], used)
        used.add(label)
        if isinstance(member, Member):
            if done.get(label) in FINAL:
                continue
            _expand_member(actor, row, batch, label, member)
        else:
            code, params = reasons.from_dicom(member.reason)
            refused = refused or (code, reasons.template(code), params)
            if done.get(label) not in FINAL:
                _member(row, label, size=0, state=REFUSED, code=code, reason=reasons.template(code), params=params)
        if len(used) % 20 == 0:
            _tell(batch)
    if refused is not None:
        _quarantine(actor, row, batch, path, refused)
    with database().writing() as session:
        whole = session.get_one(UploadFile, file_id)
        if used:
            whole.state = EXPANDED
        else:
            _set(whole, REFUSED, "zip-empty", WORDS["zip-empty"])
        whole.finished_at = clock.now()
        session.flush()
        recount(session, session.get_one(UploadBatch, batch.id))
        live.publish(session, "upload", batch.id, orgs=[batch.org_id], file=row.id, state=whole.state)
    path.unlink(missing_ok=True)
    settle_soon(batch.id)


def _expand_member(actor: Actor, row: UploadFile, batch: UploadBatch, label: str, member: Member) -> None:
    name = label.rsplit("/", 1)[-1]
    if name.upper() == "DICOMDIR" or _LITTER.search(label):
        code = "dicomdir" if name.upper() == "DICOMDIR" else "litter"
        _member(row, label, size=member.size, state=IGNORED, code=code, reason=WORDS[code].msgid, params={})
        return
    child = _member(row, label, size=member.size, state=RECEIVED, code="", reason="", params={})
    outcome = intake.ingest(actor, member.path, org_id=batch.org_id, source=SOURCE, name=label, exam_id=batch.exam_id)
    _conclude(child, outcome)


def _member(
    row: UploadFile, label: str, *, size: int, state: str, code: str, reason: str, params: dict[str, Any]
) -> str:
    """Write (or find) the row of a ZIP's member; its id."""
    with database().writing() as session:
        found = session.scalars(
            select(UploadFile).where(UploadFile.batch_id == row.batch_id, UploadFile.path == label)
        ).one_or_none()
        if found is None:
            found = UploadFile(
                id=new_id(),
                batch_id=row.batch_id,
                parent_id=row.id,
                path=label,
                size=size,
                offset=size,
                state=state,
                code=code,
                reason=reason,
                params=params,
                created_at=clock.now(),
                finished_at=clock.now() if state in FINAL else None,
            )
            session.add(found)
        return found.id


def _quarantine(
    actor: Actor, row: UploadFile, batch: UploadBatch, path: Path, refused: tuple[str, str, dict[str, Any]]
) -> None:
    """Keep an archive of which something was refused unread."""
    code, reason, params = refused
    sha256, size = _sha256(path), path.stat().st_size
    with database().reading() as session:
        if quarantine.known(session, org_id=batch.org_id, sha256=sha256, code=code):
            return
    key = quarantine.put_bytes(path, size=size, sha256=sha256, move=False)
    with database().writing() as session:
        quarantine.keep(
            session,
            actor,
            org_id=batch.org_id,
            source=SOURCE,
            name=row.path,
            code=code,
            reason=reason,
            params=params,
            object_key=key,
            size=size,
            sha256=sha256,
            exam_id=batch.exam_id,
        )


def _tell(batch: UploadBatch) -> None:
    with database().writing() as session:
        live.publish(session, "upload", batch.id, orgs=[batch.org_id])


def settle_soon(batch_id: str) -> None:
    """Have the exams of a batch looked at, after images came by another way than a request."""
    with database().writing() as session:
        for exam_id in exams_of(session, session.get_one(UploadBatch, batch_id)):
            jobs.enqueue(session, "studies.settle", {"exam_id": exam_id}, key=f"settle:{exam_id}")


def expire() -> int:
    """Drop what was never finished, and ask again for what waits for a job; the number of files dropped."""
    settings = get_settings()
    now = clock.now()
    stale = now - timedelta(hours=settings.upload_expire_hours)
    dropped: list[str] = []
    with database().writing() as session:
        batches = session.scalars(
            select(UploadBatch)
            .where(UploadBatch.state == OPEN, UploadBatch.created_at < stale)
            .limit(200)
            .with_for_update(skip_locked=True, key_share=True)
        ).all()
        for batch in batches:
            for row in _receiving(session, batch.id):
                _set(row, REFUSED, "expired", WORDS["expired"].format(hours=settings.upload_expire_hours))
                dropped.append(row.id)
            batch.state, batch.closed_at = EXPIRED, now
            live.publish(session, "upload", batch.id, orgs=[batch.org_id], state=batch.state)
            for exam_id in exams_of(session, batch):
                jobs.enqueue(session, "studies.settle", {"exam_id": exam_id}, key=f"settle:{exam_id}")
        waiting = session.scalars(
            select(UploadFile).where(
                UploadFile.state == RECEIVED,
                UploadFile.parent_id.is_(None),
                UploadFile.created_at < now - timedelta(minutes=30),
            )
        ).all()
        for row in waiting:
            path = part_path(row.id)
            kind = "uploads.expand" if path.exists() and is_zip(path) else "uploads.ingest"
            jobs.enqueue(session, kind, {"file_id": row.id}, key=f"{kind}:{row.id}", delay=1)
        keep = set(session.scalars(select(UploadFile.id).where(UploadFile.state.in_([RECEIVING, RECEIVED]))))
    for path in (*staging().glob("*.part"), *staging().glob("*.lock")):
        if path.stem not in keep and path.stat().st_mtime < now.timestamp() - 3600:
            path.unlink(missing_ok=True)
    return len(dropped)


# --- counting -----------------------------------------------------------------------------------------------------


def _is_image(row: UploadFile) -> bool:
    """Whether a file counts as an image of the declaration."""
    if row.state in (EXPANDED, IGNORED):
        return False
    return not (row.state == REFUSED and row.code in NO_IMAGE_CODES)


def _declared(rows: Iterable[UploadFile]) -> int | None:
    """Distinct images in rows; None while an archive's content is not known.

    The same file may have been declared twice (a folder dropped again): it counts once, by its SOP Instance UID where
    that is known, else by name and size.
    """
    by_name: dict[tuple[str, int], str] = {}
    for row in rows:
        if (row.state == RECEIVED and row.parent_id is None) or (row.state == RECEIVING and _ZIP_NAME.search(row.path)):
            return None
        if not _is_image(row):
            continue
        name = (row.path, row.size)
        by_name[name] = by_name.get(name) or row.sop_uid
    return len({uid or name for name, uid in by_name.items()})


def recount(session: Session, batch: UploadBatch) -> None:
    """Write the declaration of all the batches of an exam into its declared count."""
    if batch.exam_id is None:
        return
    session.flush()
    # Two who count at once would each miss what the other has not committed; the later one waits, and counts all.
    repository.lock(session, batch.exam_id)
    rows = session.scalars(
        select(UploadFile)
        .join(UploadBatch, UploadBatch.id == UploadFile.batch_id)
        .where(UploadBatch.exam_id == batch.exam_id)
        .order_by(UploadFile.created_at)
        .execution_options(populate_existing=True)
    ).all()
    count = _declared(rows)
    exam = session.get_one(Exam, batch.exam_id)
    session.refresh(exam, ["declared_count"])
    if exam.declared_count != count:
        exam.declared_count = count
        session.flush()


def exams_of(session: Session, batch: UploadBatch) -> list[str]:
    """Exams that a batch's images went to."""
    uids = select(UploadFile.study_uid).where(UploadFile.batch_id == batch.id, UploadFile.study_uid != "")
    found = set(
        session.scalars(
            select(ExamStudy.exam_id)
            .join(Study, Study.id == ExamStudy.study_id)
            .where(Study.uid.in_(uids), Study.org_id == batch.org_id)
        )
    )
    if batch.exam_id:
        found.add(batch.exam_id)
    return sorted(found)


def files_of(session: Session, batch_id: str, *, states: Iterable[str] = (), limit: int = 30_000) -> list[UploadFile]:
    """The files of a batch by name."""
    statement = select(UploadFile).where(UploadFile.batch_id == batch_id)
    wanted = list(states)
    if wanted:
        statement = statement.where(UploadFile.state.in_(wanted))
    return list(session.scalars(statement.order_by(UploadFile.path).limit(limit)))


def _receiving(session: Session, batch_id: str) -> list[UploadFile]:
    """The files of a batch that are not whole; they stay so until the transaction ends."""
    return list(
        session.scalars(
            select(UploadFile)
            .where(UploadFile.batch_id == batch_id, UploadFile.state == RECEIVING)
            .order_by(UploadFile.id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
    )


def reconcile(session: Session, batch_id: str) -> Reconciliation:
    """Count what was declared against what is in the hub."""
    batch = session.get_one(UploadBatch, batch_id)
    found = Reconciliation(batch_id=batch_id, state=batch.state)
    for row in files_of(session, batch_id):
        if row.state == EXPANDED:
            continue
        found.files += 1
        found.bytes += row.size
        image = _is_image(row)
        found.images += image
        if row.state in (STORED, KNOWN):
            found.sent += 1
            found.stored += row.state == STORED
            found.known += row.state == KNOWN
        elif row.state == REFUSED:
            found.refused += 1
            found.sent += row.code not in GIVEN_UP
            found.shortfall += image
        elif row.state == IGNORED:
            found.ignored += 1
        elif row.state == RECEIVED:
            found.processing += 1
        else:
            found.unsent += 1
            found.shortfall += 1
    found.exam_ids = exams_of(session, batch)
    return found


def close(session: Session, actor: Actor, batch_id: str, *, confirm_short: bool = False) -> Reconciliation:
    """End a batch: all arrived, or a person has said that the shortfall is meant.

    Args:
        session: The transaction.
        actor: Of the batch's organisation.
        batch_id: The batch.
        confirm_short: The click that a shortfall asks for.

    Raises:
        Conflict: `still-working` while archives are unpacked; `shortfall` where images are missing and nobody confirmed
            it. Its `detail` holds the numbers.
    """
    batch = get_batch(session, actor, batch_id, lock=True)
    # A file that is just being taken in is waited for, and counted as what it has become.
    rest = _receiving(session, batch_id)
    found = reconcile(session, batch_id)
    if batch.state != OPEN:
        return found
    if found.processing:
        raise Conflict(_("还有文件正在处理,请稍候"), code="still-working", processing=found.processing)
    if found.shortfall and not confirm_short:
        raise Conflict(
            _("有 {n} 个影像没有入库,请补传,或确认就这些", n=found.shortfall),
            code="shortfall",
            shortfall=found.shortfall,
            unsent=found.unsent,
            refused=found.refused,
        )
    now = clock.now()
    for row in rest:
        _set(row, REFUSED, "not-sent", WORDS["not-sent"])
    batch.state, batch.closed_at = (SHORT if found.shortfall else CLOSED), now
    session.flush()
    recount(session, batch)
    for exam_id in found.exam_ids:
        exam = session.get_one(Exam, exam_id)
        if batch.exam_id is None and exam.declared_count is None:
            exam.declared_count = _images_in(session, batch, exam_id)
        jobs.enqueue(session, "studies.settle", {"exam_id": exam_id}, key=f"settle:{exam_id}", priority=2)
        announce(session, exam, event="upload")
    audit.record(
        session,
        actor,
        "upload.close",
        "upload",
        batch.id,
        org_id=batch.org_id,
        state=batch.state,
        stored=found.stored,
        known=found.known,
        refused=found.refused,
        shortfall=found.shortfall,
    )
    live.publish(session, "upload", batch.id, orgs=[batch.org_id], state=batch.state)
    session.flush()
    return reconcile(session, batch_id)


def _images_in(session: Session, batch: UploadBatch, exam_id: str) -> int:
    uids = set(
        session.scalars(
            select(UploadFile.sop_uid)
            .join(Study, Study.uid == UploadFile.study_uid)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .where(
                UploadFile.batch_id == batch.id,
                UploadFile.state.in_([STORED, KNOWN]),
                ExamStudy.exam_id == exam_id,
            )
        )
    )
    return len(uids)


def open_batches(session: Session, actor: Actor) -> list[UploadBatch]:
    """Batches of the actor's own that wait to be continued, newest first."""
    return list(
        session.scalars(
            select(UploadBatch)
            .where(UploadBatch.org_id == actor.org_id, UploadBatch.person_id == actor.id, UploadBatch.state == OPEN)
            .order_by(UploadBatch.created_at.desc())
            .limit(20)
        )
    )


def require_declared(size: int) -> None:
    """Refuse a size that can never be taken in.

    Raises:
        Invalid: Negative.
        TooLarge: Over `upload_max_file_mb`.
        Unavailable: No room on the disk.
    """
    settings = get_settings()
    if size < 0:
        raise Invalid(_("文件大小不正确"), code="bad-length")
    if size > settings.upload_max_file_mb * 2**20:
        raise TooLarge(
            _("文件太大,单个文件最大 {mb} MB", mb=settings.upload_max_file_mb), max_mb=settings.upload_max_file_mb
        )
    if size > room():
        raise Unavailable(_("中心的存储空间不足,暂时不能接收;请联系影像中心"), code="disk-full")
