"""Sealing the audit log, and finding out whether somebody altered it.

Entries are appended without a chain, because a chain inside every transaction would serialise all writers. One
sealer at a time then gives each entry a number and a seal, the SHA-256 over the entry, its number and the seal
before it. A chain alone notices neither a cut tail nor a table rewritten from front to back, so each time it advances a
signed head (number and seal of the newest entry) goes to two places outside the database: the object store below
`audit/heads/`, and `audit-heads.jsonl` in the data folder.

Heads are signed by an Ed25519 key derived from the hub's secret: who can write the database but does not hold the
secret cannot make one. Of each day the last head is kept for ever, the ones it replaces are dropped, except those that
the table contradicts: they are the evidence.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.orm import Session

from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from storage.errors import ObjectExists, StorageError

log = get_logger(__name__)

FIRST = "0" * 64
"""What stands for the seal before the first."""

SEALED_COLUMNS = (
    "id",
    "at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "actor_org_id",
    "ip",
    "action",
    "object_type",
    "object_id",
    "org_id",
    "patient_id",
    "detail",
)
HEADS_PREFIX = "audit/heads/"
HEADS_FILE = "audit-heads.jsonl"
BATCH = 500
READ_BATCH = 5_000
MAX_FINDINGS = 200
LATE = timedelta(hours=1)
STALE = timedelta(minutes=10)

_FILE_LIMIT = 1_000_000
_LOCK = 0x6175646974
_table = AuditEntry.__table__
_columns = [_table.c[name] for name in SEALED_COLUMNS]


def canonical(entry: Mapping[str, Any]) -> str:
    """The one JSON text of an entry: sorted keys, no blanks, ASCII only, times in UTC with microseconds."""
    values = {name: entry[name] for name in SEALED_COLUMNS}
    values["at"] = values["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps(values, sort_keys=True, separators=(",", ":"))


def seal_of(number: int, previous: str, content: str) -> str:
    """SHA-256 (hex) over an entry's number, the seal before it and its canonical text."""
    return hashlib.sha256(f"1\n{number}\n{previous}\n{content}".encode()).hexdigest()


# --- heads ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """The newest entry at some moment, signed."""

    seal_no: int
    seal: str
    at: str
    key: str
    signature: str

    def line(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))


class _Found(NamedTuple):
    head: Head | None
    where: str


def _signer() -> Ed25519PrivateKey:
    derived = HKDF(SHA256(), 32, salt=None, info=b"hub audit heads 1").derive(get_settings().secret().encode())
    return Ed25519PrivateKey.from_private_bytes(derived)


def public_key() -> str:
    """The key (hex) by which heads are verified."""
    return _signer().public_key().public_bytes_raw().hex()


def _signed_text(seal_no: int, seal: str, at: str) -> bytes:
    return f"hub audit head 1\n{seal_no}\n{seal}\n{at}".encode()


def make_head(seal_no: int, seal: str) -> Head:
    """A signed head."""
    at = clock.now().isoformat(timespec="seconds")
    signature = _signer().sign(_signed_text(seal_no, seal, at)).hex()
    return Head(seal_no, seal, at, public_key(), signature)


def _parse(line: str) -> Head | None:
    """The head in a line of JSON if its signature is ours, else None."""
    try:
        values = json.loads(line)
        head = Head(
            int(values["seal_no"]),
            str(values["seal"]),
            str(values["at"]),
            str(values["key"]),
            str(values["signature"]),
        )
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key()))
        key.verify(bytes.fromhex(head.signature), _signed_text(head.seal_no, head.seal, head.at))
    except (ValueError, KeyError, TypeError, InvalidSignature):
        return None
    return head


def _heads_file() -> Path:
    return get_settings().data_dir / HEADS_FILE


def _file_heads(path: Path) -> Iterator[_Found]:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                # A line without its end was being written when the power went; the next head replaces it.
                if line.endswith("}\n"):
                    yield _Found(_parse(line), f"{path.name}:{number}")
    except FileNotFoundError:
        return


def _store_heads(prefix: str = HEADS_PREFIX) -> Iterator[_Found]:
    store = object_store()
    for found in store.list(prefix):
        yield _Found(_parse(store.read(found.key).decode("utf-8", "replace")), found.key)


def _store_key(head: Head) -> str:
    return f"{HEADS_PREFIX}{head.at[:10]}/{head.seal_no:015d}"


def _put_in_store(head: Head) -> None:
    store = object_store()
    try:
        store.put(_store_key(head), (head.line() + "\n").encode(), content_type="application/json")
    except ObjectExists:
        return  # another sealer was quicker, a moment earlier
    older = [found for found in _store_heads(f"{HEADS_PREFIX}{head.at[:10]}/") if found.where != _store_key(head)]
    for found in _droppable(older, head):
        store.delete(found.where)


def _append_to_file(head: Head) -> None:
    path = _heads_file()
    with path.with_name(f".{HEADS_FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with path.open("ab+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # what a power cut tore stays a line of its own
            file.write((head.line() + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
        if size > _FILE_LIMIT:
            _compact_file(path, head)


def _compact_file(path: Path, newest: Head) -> None:
    found = [one for one in _file_heads(path) if one.head is not None]
    last_of_day = {one.head.at[:10]: one.where for one in found if one.head is not None}
    dropped = {one.where for one in _droppable(found, newest)} - set(last_of_day.values())
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    kept = [line for number, line in enumerate(lines, 1) if f"{path.name}:{number}" not in dropped]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _droppable(found: Iterable[_Found], newest: Head) -> list[_Found]:
    """Heads that `newest` replaces. One that is not ours, or that the table contradicts, is never dropped."""
    ours = [(one, one.head) for one in found if one.head is not None and one.head.seal_no < newest.seal_no]
    if not ours:
        return []
    with database().reading() as session:
        return [one for one, head in ours if _seal_at(session, head.seal_no) == head.seal]


def _seal_at(session: Session, number: int) -> str | None:
    return session.scalar(select(AuditEntry.seal).where(AuditEntry.seal_no == number))


# --- sealing ----------------------------------------------------------------------------------------------------

_known: dict[tuple[str, str], Head] = {}
"""The newest head of each place, by (place, address of the database); read once, then kept."""


def _newest_head(place: str) -> Head | None:
    key = (place, get_settings().database_url)
    if key not in _known:
        found = _file_heads(_heads_file()) if place == "file" else _store_heads()
        heads = [one.head for one in found if one.head is not None]
        if not heads:
            return None
        _known[key] = max(heads, key=lambda head: head.seal_no)
    return _known[key]


def _outside() -> Head | None:
    newest: Head | None = None
    for place in ("file", "store"):
        try:
            head = _newest_head(place)
        except (StorageError, OSError) as error:
            log.error("audit heads out of reach", place=place, error=type(error).__name__)
            continue
        if head is not None and (newest is None or head.seal_no > newest.seal_no):
            newest = head
    return newest


def _lock(session: Session) -> None:
    # SQLite's writing sessions begin IMMEDIATE: one at a time already.
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


_SET_SEAL = (
    update(_table)  # type: ignore[arg-type]
    .where(_table.c.id == bindparam("row_id"), _table.c.seal_no.is_(None))
    .values(seal_no=bindparam("number"), seal=bindparam("value"))
)


def _seal_batch(head: Head | None) -> tuple[int, int, str]:
    """Seal up to BATCH entries: (how many, newest number, its seal)."""
    with database().writing() as session:
        _lock(session)
        newest = session.execute(
            select(AuditEntry.seal_no, AuditEntry.seal)
            .where(AuditEntry.seal_no.is_not(None))
            .order_by(AuditEntry.seal_no.desc())
            .limit(1)
        ).one_or_none()
        number, previous = (int(newest[0] or 0), str(newest[1] or FIRST)) if newest else (0, FIRST)
        if head is not None and head.seal_no > number:
            # The table ends before a head that was given out: its tail was cut, or an older copy was restored. The
            # numbers of what is missing are never used again, so that the gap stays for `verify` to find.
            log.error("the audit log is shorter than its signed head", table=number, head=head.seal_no)
            number, previous = head.seal_no, head.seal
        rows = session.execute(
            select(*_columns).where(_table.c.seal_no.is_(None)).order_by(_table.c.id).limit(BATCH)
        ).mappings()
        sealed: list[dict[str, Any]] = []
        for row in rows:
            number += 1
            previous = seal_of(number, previous, canonical(dict(row)))
            sealed.append({"row_id": row["id"], "number": number, "value": previous})
        if sealed:
            session.connection().execute(_SET_SEAL, sealed)
        return len(sealed), number, previous


def seal_pending() -> int:
    """Seal all entries written since, and put the signed head outside the database.

    Safe to call from several processes at once: one seals, the others find nothing left. An entry that is committed
    after one of a higher id was sealed is sealed next: the order of the log is `seal_no`.

    Returns:
        How many entries were sealed.
    """
    total = 0
    head = _outside()
    while True:
        count, number, seal = _seal_batch(head)
        total += count
        if count < BATCH:
            break
    if number:
        _put_outside(number, seal)
    return total


def _put_outside(number: int, seal: str) -> None:
    head: Head | None = None
    for place, put in (("file", _append_to_file), ("store", _put_in_store)):
        try:
            known = _newest_head(place)
            if known is not None and known.seal_no >= number:
                continue
            if known is not None:
                _alarm_if_contradicted(known)
            head = head or make_head(number, seal)
            put(head)
        except (StorageError, OSError) as error:
            # Tried again in the next round; verify() tells how far each place is behind.
            log.error("the audit head could not be put outside", place=place, error=type(error).__name__)
        else:
            _known[(place, get_settings().database_url)] = head


def _alarm_if_contradicted(head: Head) -> None:
    with database().reading() as session:
        if _seal_at(session, head.seal_no) not in (head.seal, None):
            log.error("the audit log was rewritten: run `hub audit verify`", number=head.seal_no)


# --- verifying --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Finding:
    """Something that must not be; `kind`: changed, reordered, missing, cut, rewritten, head-forged or no-heads."""

    kind: str
    what: str
    seal_no: int | None = None
    entry_id: int | None = None


@dataclass(slots=True)
class Report:
    """What `verify` found. `ok` if there is no finding; warnings are for the operator."""

    sealed: int = 0
    unsealed: int = 0
    oldest_unsealed_seconds: int | None = None
    newest_seal_no: int | None = None
    heads: int = 0
    newest_head: int | None = None
    public_key: str = ""
    findings: list[Finding] = field(default_factory=list)
    further_findings: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def add(self, kind: str, what: str, *, seal_no: int | None = None, entry_id: int | None = None) -> None:
        """Note a finding; past MAX_FINDINGS they are only counted."""
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(Finding(kind, what, seal_no, entry_id))
        else:
            self.further_findings += 1

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"ok": self.ok, **asdict(self)}


class _Broken(NamedTuple):
    number: int
    row_id: int
    content: str
    seal: str
    before: str


def verify(extra_heads: Path | None = None) -> Report:
    """Read the whole log and compare it with its seals and with the heads outside the database.

    It reads in batches and keeps only heads and findings in memory.

    Args:
        extra_heads: A copy of `audit-heads.jsonl` that was kept elsewhere, to compare with as well.
    """
    report = Report(public_key=public_key())
    heads = _all_heads(report, extra_heads)
    broken, last = _walk(report, heads)
    _name_broken(report, broken)
    _compare_ends(report, heads, last)
    _unsealed(report)
    return report


def _all_heads(report: Report, extra: Path | None) -> dict[int, set[str]]:
    heads: dict[int, set[str]] = {}
    places: list[tuple[str, Any]] = [("the data folder", lambda: _file_heads(_heads_file()))]
    places.append(("the object store", _store_heads))
    if extra is not None:
        places.append((str(extra), lambda: _file_heads(extra)))
    for name, read in places:
        count = 0
        try:
            for found in read():
                if found.head is None:
                    report.add("head-forged", f"{found.where} is not signed by this hub's key")
                    continue
                count += 1
                heads.setdefault(found.head.seal_no, set()).add(found.head.seal)
        except (StorageError, OSError) as error:
            report.warnings.append(f"{name} is out of reach ({type(error).__name__}): its heads were not compared")
            continue
        if not count:
            report.warnings.append(f"{name} holds no head")
        report.heads += count
    report.newest_head = max(heads, default=None)
    return heads


def _walk(report: Report, heads: dict[int, set[str]]) -> tuple[list[_Broken], int]:
    broken: list[_Broken] = []
    last, previous, newest_at = 0, FIRST, datetime(1970, 1, 2, tzinfo=UTC)
    agreed = 0
    for row in _sealed_rows():
        number, seal, content = int(row["seal_no"]), str(row["seal"] or ""), canonical(row)
        report.sealed += 1
        comparable = True
        if number != last + 1:
            what = f"entry {last + 1} is" if number == last + 2 else f"entries {last + 1} to {number - 1} are"
            report.add("missing", f"{what} missing", seal_no=last + 1)
            outside = heads.get(number - 1, set())
            comparable = len(outside) == 1
            previous = next(iter(outside), "")
        if comparable and seal_of(number, previous, content) != seal:
            broken.append(_Broken(number, row["id"], content, seal, previous))
        if number in heads:
            if heads[number] == {seal}:
                agreed = number
            else:
                report.add(
                    "rewritten",
                    f"entry {number} does not carry the seal of its signed head: "
                    f"something from entry {agreed + 1} to {number} was rewritten",
                    seal_no=number,
                    entry_id=row["id"],
                )
        if row["at"] < newest_at - LATE:
            report.warnings.append(
                f"entry {number} (id {row['id']}) is dated over an hour before the one sealed before"
            )
        newest_at = max(newest_at, row["at"])
        last, previous = number, seal
    report.newest_seal_no = last or None
    if len(report.warnings) > MAX_FINDINGS:
        del report.warnings[MAX_FINDINGS:]
    return broken, last


def _sealed_rows() -> Iterator[dict[str, Any]]:
    after: int | None = None
    while True:
        statement = select(*_columns, _table.c.seal_no, _table.c.seal).where(_table.c.seal_no.is_not(None))
        if after is not None:
            statement = statement.where(_table.c.seal_no > after)
        with database().reading() as session:
            rows = session.execute(statement.order_by(_table.c.seal_no).limit(READ_BATCH)).mappings().all()
        yield from (dict(row) for row in rows)
        if len(rows) < READ_BATCH:
            return
        after = rows[-1]["seal_no"]


def _name_broken(report: Report, broken: list[_Broken]) -> None:
    """Tell entries that stand at another place from entries whose content is other."""
    moved: set[int] = set()
    few = broken[:24]
    seals = {one.seal for one in few}
    befores = {one.before for one in few} | seals
    for one in few:
        if any(seal_of(other.number, before, one.content) in seals for other in few for before in befores):
            moved.add(one.number)
    for one in broken:
        if one.number in moved:
            report.add(
                "reordered", f"entry {one.number} stands at another place", seal_no=one.number, entry_id=one.row_id
            )
        else:
            what = f"entry {one.number} was changed or inserted, or the seal of the one before it was"
            report.add("changed", what, seal_no=one.number, entry_id=one.row_id)


def _compare_ends(report: Report, heads: dict[int, set[str]], last: int) -> None:
    if last and not heads:
        report.add("no-heads", "there are sealed entries and no signed head outside the database")
    ahead = max(heads, default=0)
    if ahead > last:
        what = f"the log ends at entry {last}, its newest signed head is {ahead}: {ahead - last} entries were cut off"
        report.add("cut", what, seal_no=last + 1)
    if len(heads.get(ahead, ())) > 1:
        report.add("rewritten", f"two signed heads differ about entry {ahead}", seal_no=ahead)


def _unsealed(report: Report) -> None:
    with database().reading() as session:
        count, oldest = session.execute(
            select(func.count(), func.min(AuditEntry.at)).where(AuditEntry.seal_no.is_(None))
        ).one()
    report.unsealed = count
    if oldest is not None:
        age = clock.now() - oldest
        report.oldest_unsealed_seconds = max(0, int(age.total_seconds()))
        if age > STALE:
            report.warnings.append(
                f"{count} entries are not sealed yet, the oldest for {report.oldest_unsealed_seconds // 60} minutes: "
                "is the worker running?"
            )


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the sealing is, for a page."""

    newest_seal_no: int
    unsealed: int
    oldest_unsealed_at: datetime | None


def standing(session: Session) -> Standing:
    """How far the sealing is; cheap, it verifies nothing."""
    unsealed, oldest = session.execute(
        select(func.count(), func.min(AuditEntry.at)).where(AuditEntry.seal_no.is_(None))
    ).one()
    return Standing(session.scalar(select(func.max(AuditEntry.seal_no))) or 0, unsealed, oldest)
