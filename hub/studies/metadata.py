"""The DICOM JSON of a series, made ready by a worker: one compressed object instead of a header for each instance.

What is made ready names the revision of its series (how many instances it had), and is used only while that is still
the series' revision; else the answer is built from the headers, as if nothing were there. So a worker that dies at any
instruction, or never ran, costs time and never truth.

A text is the series' data sets joined by commas. It holds marks, control characters that stand in no JSON text, for
what depends on who asks: the address of the study and, in the county's view, who the patient is. There the name, birth
date and sex are those of the registration once the exam's identity is settled; what the sender had written stands in
Original Attributes Sequence (PS3.3 §C.12.1.1.9), and is put back where they are not.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import imagecodecs
from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.patients.models import Patient
from hub.studies.intake import BULK_PREFIX
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, SeriesMetadata, Study
from hub.studies.repository import OTHER_IDENTITIES, shown

log = get_logger(__name__)

ADDRESS, NUMBER, ISSUER = b"\x01", b"\x02", b"\x03"
NAME, BORN, SEX = b"\x04", b"\x05", b"\x06"
"""Each in the place of a whole element."""
_WHO: Final = (("00100010", "PN", NAME), ("00100030", "DA", BORN), ("00100040", "CS", SEX))
_ORIGINAL: Final = "04000561"
_BETWEEN: Final = b"\x00"
_FORM: Final = b"2\n"
"""Which marks a packed text has. One of another form is built anew."""
_LEVEL: Final = 9
_MOST: Final = 512 << 20
"""Uncompressed text beyond this is not made ready."""


@dataclass(frozen=True, slots=True)
class Registered:
    """Who the patient of a study is by the registration, once nothing about it is open.

    Attributes:
        name: As registered.
        birth: YYYYMMDD, or empty.
        sex: M, F, O or empty.
    """

    name: str
    birth: str
    sex: str


@dataclass(frozen=True, slots=True)
class Texts:
    """A series' data sets, joined by commas, with marks: as they were sent, and as the county shows them."""

    sent: bytes
    county: bytes

    def of(self, address: str, county: tuple[str, str] | None, registered: Registered | None = None) -> bytes:
        """The text for one door.

        Args:
            address: Of the study, as the client knows it.
            county: The patient's number and its issuer; None for the data sets as they were sent.
            registered: Whom the county's view names; None: whom the sender named.
        """
        if county is None:
            return self.sent.replace(ADDRESS, _inner(address))
        text = self.county if registered is not None else _as_sent(self.county)
        if registered is not None:
            text = text.replace(NAME, _element("PN", {"Alphabetic": registered.name} if registered.name else None))
            text = text.replace(BORN, _element("DA", registered.birth)).replace(SEX, _element("CS", registered.sex))
        text = text.replace(ADDRESS, _inner(address))
        return text.replace(NUMBER, _inner(county[0])).replace(ISSUER, _inner(county[1]))


def _element(vr: str, value: Any) -> bytes:
    return json.dumps({"vr": vr, "Value": [value]} if value else {"vr": vr}, ensure_ascii=False).encode()


def _as_sent(county: bytes) -> bytes:
    """The county's text with the sender's name, birth date and sex in their places."""
    words = [(mark, secrets.token_hex(12).encode()) for mark in (ADDRESS, NUMBER, ISSUER)]
    for _tag, _vr, mark in _WHO:
        county = county.replace(mark, b"null")
    for mark, word in words:
        county = county.replace(mark, word)
    documents: list[dict[str, Any]] = json.loads(b"[" + county + b"]")
    for document in documents:
        before = document.pop(_ORIGINAL)["Value"][0]["04000550"]["Value"][0]
        for tag, _vr, _mark in _WHO:
            document.pop(tag)
            if tag in before:
                document[tag] = before[tag]
    text = b",".join(_dumped(dict(sorted(one.items()))) for one in documents)
    for mark, word in words:
        text = text.replace(word, mark)
    return text


def _dumped(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _inner(text: str) -> bytes:
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def _document(series_uid: str, sop_uid: str, packed: bytes) -> tuple[bytes, bytes]:
    prefix = b'"BulkDataURI":"'
    address = f"/series/{series_uid}/instances/{sop_uid}/{BULK_PREFIX}".encode()
    # Within a JSON text a quote in a value is escaped: this can only be the start of a stored address.
    stored, wanted = zlib.decompress(packed), prefix + BULK_PREFIX.encode()
    sent = stored.replace(wanted, prefix + ADDRESS + address)
    # A value may hold any character, escaped; so what becomes a mark is first a word that nobody could have sent.
    word = secrets.token_hex(12)
    document: dict[str, Any] = json.loads(stored.replace(wanted, prefix + f"{word}1".encode() + address))
    for tag in OTHER_IDENTITIES:
        document.pop(tag, None)
    document["00100020"] = {"vr": "LO", "Value": [f"{word}2"]}
    document["00100021"] = {"vr": "LO", "Value": [f"{word}3"]}
    before = {tag: document[tag] for tag, _vr, _mark in _WHO if tag in document}
    document[_ORIGINAL] = {"vr": "SQ", "Value": [{
        "04000550": {"vr": "SQ", "Value": [before]},
        "04000563": {"vr": "LO", "Value": ["hub"]},
        "04000564": {"vr": "LO"},
        "04000565": {"vr": "CS", "Value": ["COERCE"]},
    }]}  # fmt: skip
    for tag, _vr, mark in _WHO:
        document[tag] = f"{word}{mark[0]}"
    county = _dumped(dict(sorted(document.items())))
    for _tag, _vr, mark in _WHO:
        county = county.replace(f'"{word}{mark[0]}"'.encode(), mark)
    for number, mark in ((1, ADDRESS), (2, NUMBER), (3, ISSUER)):
        county = county.replace(f"{word}{number}".encode(), mark)
    return sent, county


def build(rows: Iterable[tuple[str, str, bytes]]) -> Texts:
    """Texts of (Series Instance UID, SOP Instance UID, packed header), in their order."""
    pairs = [_document(*row) for row in rows]
    return Texts(b",".join(pair[0] for pair in pairs), b",".join(pair[1] for pair in pairs))


def pack(texts: Texts) -> bytes:
    """Compress for the database."""
    # The two views are nearly the same: one after the other the second costs little.
    return bytes(imagecodecs.zstd_encode(_FORM + texts.sent + _BETWEEN + texts.county, level=_LEVEL))


def unpack(data: bytes) -> Texts:
    """What `pack` packed.

    Raises:
        ValueError: Other bytes, or a text of another form.
    """
    try:
        sent, between, county = bytes(imagecodecs.zstd_decode(data)).partition(_BETWEEN)
    except RuntimeError as error:
        raise ValueError("not a packed text") from error
    if not between or not sent.startswith(_FORM):
        raise ValueError("not a packed text")
    sent = sent[len(_FORM) :]
    return Texts(sent, county)


def _headers(session: Session, series_id: str, sop_uid: str = "") -> Sequence[Any]:
    statement = (
        select(Series.uid, Instance.uid, InstanceHeader.body)
        .join(Instance, Instance.series_id == Series.id)
        .join(InstanceHeader, InstanceHeader.instance_id == Instance.id)
        .where(Series.id == series_id)
        .order_by(Instance.number.is_(None), Instance.number, Instance.uid)
    )
    if sop_uid:
        statement = statement.where(Instance.uid == sop_uid)
    return session.execute(statement).all()


@dataclass(frozen=True, slots=True)
class SeriesAt:
    """A series at one revision."""

    id: str
    uid: str
    revision: int


def series_of(session: Session, study_id: str, series_uid: str = "") -> list[SeriesAt]:
    """The series of a study, or one, in order of number; what the caller has been allowed.

    Raises:
        NotFound: There are none.
    """
    statement = (
        select(Series.id, Series.uid, Series.instance_count)
        .join(Study, Study.id == Series.study_id)
        .where(Series.study_id == study_id, Study.trashed_at.is_(None), shown(session, study_id))
        .order_by(Series.number.is_(None), Series.number, Series.uid)
    )
    if series_uid:
        statement = statement.where(Series.uid == series_uid)
    found = [SeriesAt(*row) for row in session.execute(statement)]
    if not found:
        raise NotFound(_("没有找到这些影像"))
    return found


def texts(session: Session, series: Sequence[SeriesAt], *, sop_uid: str = "") -> list[Texts]:
    """Texts of series: those made ready where they are of the present revision, else built.

    Args:
        session: Reads.
        series: As from `series_of` in the same transaction.
        sop_uid: Only of this instance.

    Raises:
        NotFound: There is no such instance.
    """
    if sop_uid:
        found = [build([tuple(row) for row in rows]) for one in series if (rows := _headers(session, one.id, sop_uid))]
        if not found:
            raise NotFound(_("没有找到这些影像"))
        return found
    statement = select(SeriesMetadata.series_id, SeriesMetadata.revision, SeriesMetadata.body).where(
        SeriesMetadata.series_id.in_([one.id for one in series])
    )
    ready = {row[0]: (row[1], row[2]) for row in session.execute(statement)}
    made: list[Texts] = []
    for one in series:
        revision, body = ready.get(one.id, (-1, b""))
        if revision == one.revision:
            try:
                made.append(unpack(body))
                continue
            except ValueError:
                log.error("metadata made ready cannot be read; they are built anew", series=one.id)
        made.append(build([tuple(row) for row in _headers(session, one.id)]))
    return made


def registered_of(session: Session, study_id: str) -> Registered | None:
    """Who a study's patient is by the registration of its exam; None without an exam, or while that is open."""
    row = session.execute(
        select(Patient.name, Patient.birth_date, Patient.sex, Exam.identity, Exam.state)
        .join(Exam, Exam.patient_id == Patient.id)
        .join(ExamStudy, ExamStudy.exam_id == Exam.id)
        .where(ExamStudy.study_id == study_id)
        .order_by(ExamStudy.linked_at, Exam.id)
        .limit(1)
    ).one_or_none()
    if row is None or row.identity == "open" or row.state == State.TO_VERIFY:
        return None
    return Registered(row.name, row.birth_date.strftime("%Y%m%d") if row.birth_date else "", row.sex or "")


def prepare_study(study_id: str) -> int:
    """Make the metadata of a study's series ready where they are not; how many were made.

    May be killed at any instruction, and run twice.
    """
    with database().reading() as session:
        statement = (
            select(Series.id)
            .outerjoin(SeriesMetadata, SeriesMetadata.series_id == Series.id)
            .where(
                Series.study_id == study_id,
                Series.instance_count > 0,
                func.coalesce(SeriesMetadata.revision, -1) != Series.instance_count,
            )
        )
        wanted = list(session.scalars(statement))
    return sum(_prepare(series_id) for series_id in wanted)


def _prepare(series_id: str) -> bool:
    with database().reading() as session:
        revision = session.scalar(select(Series.instance_count).where(Series.id == series_id))
        rows = [tuple(row) for row in _headers(session, series_id)]
    if revision is None or len(rows) != revision:
        # An instance came between the two looks: its own job makes them.
        return False
    made = build(rows)
    if len(made.sent) > _MOST:
        return False
    values = {"revision": revision, "body": pack(made), "made_at": clock.now()}
    with database().writing() as session:
        insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
        statement = insert(SeriesMetadata).values(series_id=series_id, **values)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=["series_id"], set_=values, where=SeriesMetadata.revision < revision
            )
        )
    return True
