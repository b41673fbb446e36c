"""Instances that are sent to a device: which ones, and their bytes in a transfer syntax that it takes."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from hub.dicom import transcoding
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.sites.models import Organisation
from hub.studies import intake, repository, stored
from hub.studies.models import Instance, Series, Study

MOST: Final = 65_535
"""Instances of one request: the counters of sub-operations are 16 bits wide."""

UNCOMPRESSED: Final = (str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian))
"""What anything that can be decoded is offered in where its own syntax is not taken, in this order."""

_ISSUER_TAG: Final = 0x00100021

_LONG: Final = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)
"""Value representations whose length has 32 bits (PS3.5 §7.1.2); a sender may write any into any element."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One instance to send.

    Attributes:
        issuer: IssuerOfPatientID of the organisation that it came from, "" for that organisation's own devices.
        syntax: Transfer syntax in which it was sent to the hub.
    """

    id: str
    uid: str
    sop_class: str
    syntax: str
    study_id: str
    study_uid: str
    org_id: str
    issuer: str


def listed(session: Session, actor: Actor, conditions: Sequence[ColumnElement[bool]]) -> list[Listed]:
    """The instances that `actor` may know under conditions on Study, Series and Instance; at most `MOST` + 1.

    Args:
        session: Reads.
        actor: Whose visibility counts.
        conditions: Further conditions.
    """
    rows = session.execute(
        select(
            Instance.id,
            Instance.uid,
            Instance.sop_class,
            Instance.transfer_syntax,
            Instance.original_syntax,
            Study.id,
            Study.uid,
            Study.org_id,
            Organisation.issuer,
            Instance.made_by_hub,
        )
        .select_from(Instance)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
        .join(Organisation, Organisation.id == Study.org_id)
        .where(repository.visibility(actor), *conditions)
        .order_by(Study.study_date, Study.id, Series.number, Series.uid, Instance.number, Instance.uid)
        .limit(MOST + 1)
    )
    return [
        Listed(
            id=row[0],
            uid=row[1],
            sop_class=row[2],
            syntax=row[4] or row[3],
            study_id=row[5],
            study_uid=row[6],
            org_id=row[7],
            # What the hub wrote names the issuer itself.
            issuer="" if row[7] == actor.org_id or row[9] else row[8],
        )
        for row in rows
    ]


class CannotSend(Exception):
    """No transfer syntax that the receiver takes can be made of an instance."""


def choose(own: str, held: str, accepted: Sequence[str], *, qualified: bool) -> str:
    """The transfer syntax in which an instance is sent.

    Args:
        own: In which it came.
        held: In which it lies in the store; another one if it was recompressed.
        accepted: Those that the receiver takes.
        qualified: IssuerOfPatientID must be written into it, which a deflated data set does not allow as it is.

    Raises:
        CannotSend: None fits.
    """
    if own in accepted and not (qualified and own == DeflatedExplicitVRLittleEndian):
        return own
    if held in accepted and held != own:
        return held
    for syntax in UNCOMPRESSED:
        if syntax in accepted and transcoding.possible(held, syntax):
            return syntax
    raise CannotSend(f"{own} is not taken")


def data_set(one: Listed, accepted: Sequence[str]) -> tuple[Path, int, str]:
    """The bytes of an instance for a receiver.

    As it was sent where the receiver takes that. Outside the organisation that sent it, its PatientID is qualified:
    IssuerOfPatientID (0010,0021) is written into the data set on its way out, and nothing else is touched.

    Args:
        one: The instance.
        accepted: Transfer syntaxes that the receiver takes.

    Returns:
        A temporary file, which is the caller's to delete; where in it the data set begins; its transfer syntax.

    Raises:
        CannotSend: No syntax that the receiver takes can be made of it.
        StorageError: The store does not answer or the object is gone.
        TranscodeError: The image cannot be decoded.
    """
    with database().reading() as session:
        row = session.get(Instance, one.id)
    if row is None:
        raise CannotSend("the instance is gone")
    own, held = row.original_syntax or row.transfer_syntax, row.transfer_syntax
    syntax = choose(own, held, accepted, qualified=bool(one.issuer))
    handle, name = tempfile.mkstemp(dir=intake.staging(), prefix="send-")
    path = Path(name)
    try:
        with os.fdopen(handle, "w+b") as file:
            for piece in stored.iter_original(row) if syntax == own else stored.iter_file(row):
                file.write(piece)
            offset = _offset(file) if syntax == own and row.original_syntax else row.dataset_offset
        if syntax not in (own, held):
            path, offset = _in_syntax(path, syntax)
        if one.issuer:
            path, offset = _qualified(path, offset, syntax, one.issuer)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path, offset, syntax


def _in_syntax(path: Path, syntax: str) -> tuple[Path, int]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="send-")
    made = Path(name)
    try:
        with os.fdopen(handle, "w+b") as out, path.open("rb") as source:
            transcoding.transcode_to(source, out, syntax, max_frame_bytes=intake.limits().max_frame_bytes)
            offset = _offset(out)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    path.unlink()
    return made, offset


def _offset(file: IO[bytes]) -> int:
    """Where the data set of a DICOM file with a regular header begins."""
    file.seek(128)
    head = file.read(16)
    if head[:4] != b"DICM" or head[4:12] != struct.pack("<HH2sH", 2, 0, b"UL", 4):
        raise CannotSend("no regular file header")
    return 144 + int(struct.unpack("<L", head[12:16])[0])


def _qualified(path: Path, offset: int, syntax: str, issuer: str) -> tuple[Path, int]:
    """The data set with IssuerOfPatientID (0010,0021); in place of one that the sender wrote."""
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    handle, name = tempfile.mkstemp(dir=path.parent, prefix="send-")
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, path.open("rb") as source:
            source.seek(offset)
            read_dataset(source, implicit, little, stop_when=lambda tag, _vr, _length: int(tag) >= _ISSUER_TAG)
            at = source.tell()
            after = at + _present(source.read(12), implicit=implicit, little=little)
            source.seek(offset)
            _copy(source, out, at - offset)
            out.write(_element(issuer, implicit=implicit, little=little))
            source.seek(after)
            _copy(source, out, path.stat().st_size - after)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
    path.unlink()
    return made, 0


def _present(head: bytes, *, implicit: bool, little: bool) -> int:
    """Length of the issuer element that begins with `head`, 0 where another one does."""
    order = "<" if little else ">"
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x0010, 0x0021):
        return 0
    size, length = 8, struct.unpack(order + "L", head[4:8])[0]
    if not implicit and head[4:6] in _LONG:
        size, length = 12, struct.unpack(order + "L", head[8:12].ljust(4, b"\0"))[0]
    elif not implicit:
        length = struct.unpack(order + "H", head[6:8])[0]
    if length == 0xFFFFFFFF:
        raise CannotSend("an issuer without an end")
    return size + int(length)


def _element(issuer: str, *, implicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    value = issuer.encode("ascii", "replace")[:64]
    value += b" " * (len(value) % 2)
    if implicit:
        return struct.pack(order + "HHL", 0x0010, 0x0021, len(value)) + value
    return struct.pack(order + "HH2sH", 0x0010, 0x0021, b"LO", len(value)) + value


def _copy(source: IO[bytes], out: IO[bytes], size: int) -> None:
    while size > 0:
        piece = source.read(min(size, 1 << 20))
        if not piece:
            raise CannotSend("the file is shorter than it should be")
        out.write(piece)
        size -= len(piece)
