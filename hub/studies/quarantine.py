"""Refused bytes: kept within a bound, shown to the quality officer, released or discarded by a person.

Nothing is dropped silently: where the bound is reached, the row says that the bytes were not kept, and the sender is
told to keep the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Select, false, func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission, permissions_of
from hub.audit import service as audit
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Invalid, NotFound, Unavailable
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.studies.models import Instance, Quarantined
from storage.errors import ObjectNotFound, StorageFull
from storage.keys import new_key

log = get_logger(__name__)

NAMESPACE: Final = "quarantine"
RELEASED: Final = "released"
DISCARDED: Final = "discarded"


def room(session: Session) -> int:
    """Bytes that may still be kept under `quarantine_max_mb`; may be negative."""
    used = session.scalar(
        select(func.coalesce(func.sum(Quarantined.size), 0)).where(
            Quarantined.object_key != "", Quarantined.decision == ""
        )
    )
    return get_settings().quarantine_max_mb * 2**20 - int(used or 0)


def known(session: Session, *, org_id: str, sha256: str, code: str) -> Quarantined | None:
    """The undecided row that already keeps these very bytes: a device that sends them every hour fills nothing."""
    return session.scalars(
        select(Quarantined)
        .where(
            Quarantined.org_id == org_id,
            Quarantined.sha256 == sha256,
            Quarantined.code == code,
            Quarantined.decision == "",
            Quarantined.object_key != "",
        )
        .limit(1)
    ).one_or_none()


def put_bytes(file: Path | bytes, *, size: int, sha256: str, move: bool = False) -> str:
    """Put refused bytes durably into the object store; the key, or "" where no room is left for them.

    Raises:
        StorageError: The store is out of reach.
    """
    with database().reading() as session:
        if size == 0 or size > room(session):
            return ""
    key = new_key(NAMESPACE)
    try:
        if isinstance(file, bytes):
            object_store().put(key, file, size=size, sha256=sha256)
        else:
            if move:
                os.utime(file)
            object_store().put_file(key, file, sha256=sha256, move=move)
    except StorageFull:
        return ""
    return key


def keep(
    session: Session,
    actor: Actor,
    *,
    org_id: str,
    source: str,
    name: str,
    code: str,
    reason: str,
    params: dict[str, Any],
    object_key: str,
    size: int,
    sha256: str,
    study_uid: str = "",
    sop_uid: str = "",
    exam_id: str | None = None,
) -> Quarantined:
    """Write the row of refused bytes, audited and shown to the quality officers.

    Args:
        session: The transaction.
        actor: Who sent them.
        org_id: Whose they are.
        source: The door they came through (`web`, `stow`, `dimse`).
        name: File name as sent.
        code: Why, for programs.
        reason: Why, as a sentence's source text.
        params: Parameters of the sentence; `detail` may hold what only a quality officer may know.
        object_key: Where the bytes lie; "" if they could not be kept.
        size: Bytes.
        sha256: Hash of the whole file.
        study_uid: As far as known.
        sop_uid: As far as known.
        exam_id: The exam they were sent for.
    """
    row = Quarantined(
        org_id=org_id,
        at=clock.now(),
        source=source,
        name=name[-300:],
        code=code,
        reason=reason,
        params=params,
        object_key=object_key,
        size=size,
        sha256=sha256,
        study_uid=study_uid[:64],
        sop_uid=sop_uid[:64],
        exam_id=exam_id,
    )
    session.add(row)
    session.flush()
    audit.record(
        session, actor, "quarantine.keep", "quarantined", row.id, org_id=org_id, code=code, kept=bool(object_key)
    )
    live.publish(session, "quarantine", row.id, orgs=[], code=code)
    return row


def visible_to(actor: Actor) -> Select[Quarantined]:
    """Rows that `actor` may know: quality officers and directors all, nobody else any."""
    statement = select(Quarantined)
    held = permissions_of(actor.roles, actor.scopes)
    return statement if Permission.QUARANTINE_VIEW in held else statement.where(false())


def search(
    session: Session,
    actor: Actor,
    *,
    open_only: bool = True,
    org_id: str = "",
    code: str = "",
    source: str = "",
    since: datetime | None = None,
    page: int = 1,
    size: int = 50,
) -> tuple[list[Quarantined], int]:
    """A page of rows, newest first, and how many there are in all."""
    statement = visible_to(actor)
    if open_only:
        statement = statement.where(Quarantined.decision == "")
    if org_id:
        statement = statement.where(Quarantined.org_id == org_id)
    if code:
        statement = statement.where(Quarantined.code == code)
    if source:
        statement = statement.where(Quarantined.source == source)
    if since is not None:
        statement = statement.where(Quarantined.at >= since)
    total = session.scalar(select(func.count()).select_from(statement.subquery())) or 0
    ordered = statement.order_by(Quarantined.at.desc(), Quarantined.id.desc())
    return list(session.scalars(ordered.offset((page - 1) * size).limit(size))), total


def get(session: Session, actor: Actor, quarantine_id: str) -> Quarantined:
    """One row.

    Raises:
        NotFound: There is none, or it is not the actor's to know.
    """
    row = session.scalars(visible_to(actor).where(Quarantined.id == quarantine_id)).one_or_none()
    if row is None:
        raise NotFound(_("隔离区里没有这个文件"))
    return row


def note_download(session: Session, actor: Actor, row: Quarantined) -> None:
    """Audit that somebody takes the original bytes."""
    audit.record(session, actor, "quarantine.download", "quarantined", row.id, org_id=row.org_id, code=row.code)


def _lock(session: Session, actor: Actor, quarantine_id: str) -> Quarantined:
    row = session.scalars(visible_to(actor).where(Quarantined.id == quarantine_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFound(_("隔离区里没有这个文件"))
    if row.decision:
        raise Conflict(_("这个文件已经处理过了"), code="already-decided", decision=row.decision)
    return row


def discard(actor: Actor, quarantine_id: str, *, reason: str) -> None:
    """Let refused bytes go, with a reason; the row and the audit entry stay.

    Opens its own transaction, because the bytes may only go after the commit.

    Raises:
        Invalid: No reason given.
        NotFound: No such row.
        Conflict: Somebody decided already.
    """
    if not reason.strip():
        raise Invalid(fields={"reason": _("请填写原因")})
    with database().writing() as session:
        row = _lock(session, actor, quarantine_id)
        key, row.object_key = row.object_key, ""
        _decide(session, actor, row, DISCARDED, reason=reason.strip()[:400])
        unused = bool(key) and session.scalar(select(Instance.id).where(Instance.object_key == key).limit(1)) is None
    if unused:
        try:
            object_store().delete(key)
        except Exception:
            # Nothing refers to the object any more: the sweep takes it later.
            log.warning("a discarded object is left to the sweep", quarantine_id=quarantine_id)


def _decide(session: Session, actor: Actor, row: Quarantined, decision: str, **detail: Any) -> None:
    row.decision, row.decided_by, row.decided_at = decision, actor.id, clock.now()
    audit.record(
        session, actor, f"quarantine.{decision}", "quarantined", row.id, org_id=row.org_id, code=row.code, **detail
    )
    live.publish(session, "quarantine", row.id, orgs=[], decision=decision)


def release(
    actor: Actor, quarantine_id: str, *, ingest: Callable[[Path, Quarantined], tuple[bool, dict[str, Any]]]
) -> dict[str, Any]:
    """Try the bytes once more, as their organisation's; decided only if they went in.

    Args:
        actor: The quality officer.
        quarantine_id: The row.
        ingest: Takes a copy of the file in; `(went in, what came of it)`.

    Returns:
        What came of it.

    Raises:
        NotFound: No such row.
        Conflict: Somebody decided already, or the bytes were not kept.
        Unavailable: The object store does not have them.
    """
    with database().reading() as session:
        row = get(session, actor, quarantine_id)
        if row.decision:
            raise Conflict(_("这个文件已经处理过了"), code="already-decided", decision=row.decision)
        if not row.object_key:
            raise Conflict(_("隔离区没有保留这个文件的内容"), code="not-kept")
    folder = get_settings().data_dir / "staging"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"release-{quarantine_id}-{clock.now().timestamp():.6f}"
    try:
        with path.open("wb") as out:
            for chunk in object_store().iter_range(row.object_key):
                out.write(chunk)
        went_in, result = ingest(path, row)
    except ObjectNotFound as error:
        raise Unavailable(_("存储中没有找到这个文件"), code="object-missing") from error
    finally:
        path.unlink(missing_ok=True)
    if went_in:
        with database().writing() as session:
            locked = _lock(session, actor, quarantine_id)
            key, locked.object_key = locked.object_key, ""
            _decide(session, actor, locked, RELEASED, **result)
            unused = session.scalar(select(Instance.id).where(Instance.object_key == key).limit(1)) is None
        if unused:
            try:
                object_store().delete(key)
            except Exception:
                log.warning("a released object is left to the sweep", quarantine_id=quarantine_id)
    return result
