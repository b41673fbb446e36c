"""The thread of an exam: what reader and clinic say to each other, and what readers say among themselves.

Lines are written once and stay. A line for both sides is read by the other one when a person of that side opens the
thread; a note belongs to the readers of one hospital and to those who oversee the county, and to nobody else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, CursorResult, and_, case, false, func, or_, select, true, update
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.audit import service as audit
from hub.exams.models import Exam, Transition
from hub.exams.repository import get as exam_of
from hub.exams.repository import lock, visibility
from hub.exams.states import Event, State
from hub.kit import clock, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import _
from hub.kit.ids import new_id
from hub.reading.conversation.models import ThreadEntry, ThreadPicture
from hub.sites.models import Organisation

Side = Literal["clinic", "reader", "hub"]

MAX_TEXT = 2000
MAX_PICTURES = 6
MAX_WAITING = 24
"""Pictures that one person has put in for one exam and not sent."""
CLOSED = frozenset({State.REGISTERED, State.RECEIVING, State.CANCELLED})
"""States without a thread: no reader knows the exam yet, or it never came."""

_TOLD = {Event.RETURN.value: "returned"}
"""Changes of state that the thread shows beside its lines."""

READERS = (Role.REPORTER, Role.REVIEWER)
CLINIC = (Role.TECHNOLOGIST, Role.CLINICIAN)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as a line shows it."""

    id: str
    caption: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the thread as one actor sees it. `own`: he wrote it. `read_at`: when the other side opened it."""

    id: str
    at: datetime
    kind: str
    side: Side
    note: bool
    person: str
    org: str
    text: str
    data: dict[str, Any]
    pictures: tuple[Picture, ...]
    own: bool
    read_at: datetime | None
    read_by: str
    org_en: str = ""


def side_of(actor: Actor, exam: Exam) -> Literal["clinic", "reader"] | None:
    """On which side of this exam's thread the actor speaks; None: on none.

    The county's overseers speak beside the readers: they too are the centre to a clinic.
    """
    if actor.kind != "person":
        return None
    if exam.org_id == actor.org_id and actor.has(*CLINIC):
        return "clinic"
    if actor.has(*READERS) and exam.reading_org_id in (None, actor.org_id):
        return "reader"
    return "reader" if actor.has(*COUNTY_WIDE_ROLES) else None


def may_write(actor: Actor, exam: Exam) -> bool:
    """Whether the actor may write a message now."""
    return side_of(actor, exam) is not None and State(exam.state) not in CLOSED


def may_note(actor: Actor, exam: Exam) -> bool:
    """Whether the actor may write and read notes among the readers of this exam."""
    return side_of(actor, exam) == "reader" and actor.has(*READERS, *COUNTY_WIDE_ROLES)


def _audible(actor: Actor) -> ColumnElement[bool]:
    """The lines that the actor may know, of exams that he may know."""
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return true()
    everybody = ThreadEntry.audience == "all"
    if actor.org_id and actor.has(*READERS):
        return or_(everybody, ThreadEntry.org_id == actor.org_id)
    return everybody


def add(
    session: Session,
    actor: Actor,
    exam: Exam,
    kind: str,
    *,
    side: str,
    text: str = "",
    note: bool = False,
    data: dict[str, Any] | None = None,
    pictures: Sequence[str] = (),
) -> ThreadEntry:
    """Write a line; the caller has seen to it that the actor may, and holds the exam.

    Raises:
        Invalid: A picture is not his, not of this exam, or was sent already.
    """
    now = clock.now()
    home = exam.org_id if side == "clinic" else (actor.org_id or exam.reading_org_id)
    if note and actor.has(*COUNTY_WIDE_ROLES) and not actor.has(*READERS):
        home = exam.reading_org_id
    entry = ThreadEntry(
        id=new_id(),
        exam_id=exam.id,
        at=now,
        kind=kind,
        side=side,
        audience="readers" if note else "all",
        org_id=home,
        person_id=actor.id,
        person_name=actor.name if actor.kind != "system" else "",
        text=text,
        data=data or {},
        # A note has no other side that could have it before it.
        read_at=now if note else None,
    )
    session.add(entry)
    session.flush()
    if not note:
        session.execute(
            update(Exam)
            .where(Exam.id == exam.id)
            .values(thread_last=entry.id)
            .execution_options(synchronize_session=False)
        )
    _attach(session, actor, exam, entry, pictures)
    live.publish(
        session,
        "thread",
        exam.id,
        orgs=[home] if note else [exam.org_id, exam.reading_org_id or "shared"],
        event=kind,
        side=side,
        note=note,
    )
    return entry


def _attach(session: Session, actor: Actor, exam: Exam, entry: ThreadEntry, pictures: Sequence[str]) -> None:
    wanted = list(dict.fromkeys(pictures))
    if len(wanted) > MAX_PICTURES:
        raise Invalid(_("一次最多 {n} 张图片").format(n=MAX_PICTURES), code="too-many-images")
    if not wanted:
        return
    result = session.execute(
        update(ThreadPicture)
        .where(
            ThreadPicture.id.in_(wanted),
            ThreadPicture.exam_id == exam.id,
            ThreadPicture.person_id == actor.id,
            ThreadPicture.entry_id.is_(None),
        )
        .values(entry_id=entry.id)
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != len(wanted):
        raise Invalid(_("图片已失效,请重新添加"), code="no-such-picture")


def post(
    session: Session,
    actor: Actor,
    exam: Exam,
    text: str,
    *,
    note: bool = False,
    pictures: Sequence[str] = (),
    key: str = "",
) -> ThreadEntry:
    """Write a message, or a note among readers. The exam must be locked.

    Args:
        session: The transaction.
        actor: Who writes.
        exam: The exam, as `reading.locked` gives it.
        text: What he writes.
        note: For the readers of his hospital alone.
        pictures: Ids of pictures that he has put in.
        key: Made by the page once for each message, so that a message that is sent again is not said twice.

    Raises:
        Forbidden: Not of the clinic, nor of the hospital that reads the exam.
        Conflict: `wrong-state`.
        Invalid: Empty, or too long.
    """
    side = side_of(actor, exam)
    if side is None or (note and not may_note(actor, exam)):
        raise Forbidden(_("只有卫生院和阅片医院可以在这里留言"), code="not-a-side")
    if State(exam.state) in CLOSED:
        raise Conflict(_("检查进入阅片队列之后才能留言"), code="wrong-state", state=exam.state)
    text = text.strip()
    if not text and not pictures:
        raise Invalid(fields={"text": _("请填写内容")})
    if len(text) > MAX_TEXT:
        raise Invalid(fields={"text": _("最多 {n} 个字").format(n=MAX_TEXT)})
    mark = hashlib.sha256(f"{actor.id} {key}".encode()).hexdigest()[:24] if key else ""
    if mark and (known := _sent(session, exam, actor, mark)) is not None:
        return known
    entry = add(
        session,
        actor,
        exam,
        "message",
        side=side,
        text=text,
        note=note,
        data={"key": mark} if mark else {},
        pictures=pictures,
    )
    audit.record(
        session,
        actor,
        "thread.note" if note else "thread.message",
        "exam",
        exam.id,
        org_id=exam.org_id,
        patient_id=exam.patient_id,
        entry=entry.id,
    )
    return entry


def _sent(session: Session, exam: Exam, actor: Actor, mark: str) -> ThreadEntry | None:
    recent = session.scalars(
        select(ThreadEntry)
        .where(ThreadEntry.exam_id == exam.id, ThreadEntry.person_id == actor.id, ThreadEntry.kind == "message")
        .order_by(ThreadEntry.id.desc())
        .limit(50)
    )
    return next((entry for entry in recent if entry.data.get("key") == mark), None)


def lines(session: Session, actor: Actor, exam: Exam) -> list[Line]:
    """The thread as the actor may know it, in order. `exam` must be one that he may know."""
    rows = session.execute(
        select(ThreadEntry, Organisation.name, Organisation.name_en)
        .outerjoin(Organisation, Organisation.id == ThreadEntry.org_id)
        .where(ThreadEntry.exam_id == exam.id, _audible(actor))
        .order_by(ThreadEntry.at, ThreadEntry.id)
        .execution_options(populate_existing=True)
    ).all()
    pictures: dict[str, list[Picture]] = {}
    for row in session.scalars(
        select(ThreadPicture)
        .where(ThreadPicture.exam_id == exam.id, ThreadPicture.entry_id.is_not(None))
        .order_by(ThreadPicture.id)
    ):
        pictures.setdefault(row.entry_id or "", []).append(Picture(row.id, row.caption, row.width, row.height))
    found = [
        Line(
            id=entry.id,
            at=entry.at,
            kind=entry.kind,
            side="hub" if entry.person_id == SYSTEM.id else "clinic" if entry.side == "clinic" else "reader",
            note=entry.audience != "all",
            person=entry.person_name,
            org=org or "",
            text=entry.text,
            data=entry.data,
            pictures=tuple(pictures.get(entry.id, ())),
            own=entry.person_id == actor.id,
            read_at=entry.read_at if entry.audience == "all" else None,
            read_by=entry.read_by_name,
            org_en=org_en or "",
        )
        for entry, org, org_en in rows
    ]
    found += [
        Line(f"t{step.id}", step.at, _TOLD[step.event], "hub", False, "", "", "", {}, (), False, None, "")
        for step in session.scalars(
            select(Transition).where(Transition.exam_id == exam.id, Transition.event.in_(list(_TOLD)))
        )
    ]
    return sorted(found, key=lambda line: (line.at, line.id))


def mark_read(session: Session, actor: Actor, exam_id: str) -> int:
    """Say that the actor's side has the other side's lines before it; returns how many it had not read.

    Only people of the two sides: an overseer who looks in reads nothing in a clinic's place.
    """
    exam = exam_of(session, actor, exam_id)
    side = side_of(actor, exam)
    if side is None or (side == "reader" and not actor.has(*READERS)):
        return 0
    other = "reader" if side == "clinic" else "clinic"
    result = session.execute(
        update(ThreadEntry)
        .where(
            ThreadEntry.exam_id == exam.id,
            ThreadEntry.side == other,
            ThreadEntry.audience == "all",
            ThreadEntry.read_at.is_(None),
        )
        .values(read_at=clock.now(), read_by=actor.id, read_by_name=actor.name)
        .execution_options(synchronize_session=False)
    )
    number = result.rowcount if isinstance(result, CursorResult) else 0
    if number:
        live.publish(
            session, "thread", exam.id, orgs=[exam.org_id, exam.reading_org_id or "shared"], event="read", side=side
        )
    return number


def _unread_for(actor: Actor) -> ColumnElement[bool]:
    """The lines that wait to be read by the actor's side, joined with Exam."""
    sides: list[ColumnElement[bool]] = []
    if actor.kind == "person" and actor.org_id:
        if actor.has(*CLINIC):
            sides.append(and_(ThreadEntry.side == "reader", Exam.org_id == actor.org_id))
        if actor.has(*READERS):
            ours = or_(Exam.reading_org_id == actor.org_id, Exam.reading_org_id.is_(None))
            sides.append(and_(ThreadEntry.side == "clinic", ours))
    return and_(ThreadEntry.read_at.is_(None), ThreadEntry.audience == "all", or_(false(), *sides))


def unread(session: Session, actor: Actor, exam_ids: Iterable[str] | None = None) -> dict[str, int]:
    """How many lines wait for the actor's side, by exam; of these exams, or of all."""
    statement = (
        select(ThreadEntry.exam_id, func.count())
        .join(Exam, Exam.id == ThreadEntry.exam_id)
        .where(_unread_for(actor))
        .group_by(ThreadEntry.exam_id)
        .limit(1000)
    )
    if exam_ids is not None:
        statement = statement.where(ThreadEntry.exam_id.in_(list(exam_ids)))
    return {row[0]: row[1] for row in session.execute(statement)}


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread in a list: its exam, its last line for both sides, and how much of it is unread."""

    exam: Exam
    last: ThreadEntry
    unread: int


def threads(session: Session, actor: Actor, *, only_unread: bool = False, limit: int = 60) -> list[Thread]:
    """Threads of the actor's side, unread ones first, the latest first."""
    sides = _sides(actor)
    if not sides:
        return []
    waiting = unread(session, actor)
    # CASE: the few that wait are looked up by their ids, and not in the index of all threads of the side.
    known = select(Exam.id, Exam.thread_last).where(Exam.thread_last.is_not(None), visibility(actor, held=False))
    asked = [known.where(Exam.id.in_(list(waiting)), case((or_(*sides), 1), else_=0) == 1)] if waiting else []
    if not only_unread:
        # Each side by itself: its latest threads are the end of an index.
        asked += [known.where(side).order_by(Exam.thread_last.desc()).limit(limit) for side in sides]
    last = {row[0]: row[1] or "" for statement in asked for row in session.execute(statement)}
    latest = sorted(last, key=lambda exam_id: last[exam_id], reverse=True)
    shown = sorted(latest, key=lambda exam_id: exam_id not in waiting)[:limit]
    entries = {
        row.exam_id: row
        for row in session.scalars(select(ThreadEntry).where(ThreadEntry.id.in_([last[one] for one in shown])))
    }
    exams = {row.id: row for row in session.scalars(select(Exam).where(Exam.id.in_(shown))).unique()}
    return [Thread(exams[exam_id], entries[exam_id], waiting.get(exam_id, 0)) for exam_id in shown]


def _sides(actor: Actor) -> list[ColumnElement[bool]]:
    """For each side on which the actor is, the condition that an exam's thread is of it."""
    if actor.has(*COUNTY_WIDE_ROLES):
        return [true()]
    found: list[ColumnElement[bool]] = []
    if actor.org_id and actor.has(*CLINIC):
        found.append(Exam.org_id == actor.org_id)
    if actor.org_id and actor.has(*READERS):
        found.append(Exam.reading_org_id == actor.org_id)
    return found


# --- pictures -------------------------------------------------------------------------------------------------------


def check_picture(session: Session, actor: Actor, exam_id: str) -> Exam:
    """The exam, if the actor may put in a picture; asked before its bytes are stored.

    Raises:
        NotFound: The exam is not the actor's to know.
        Forbidden: Not of a side.
        Invalid: Too many of his wait to be sent.
    """
    exam = exam_of(session, actor, exam_id)
    if side_of(actor, exam) is None:
        raise Forbidden(_("只有卫生院和阅片医院可以在这里留言"), code="not-a-side")
    waiting = session.scalar(
        select(func.count())
        .select_from(ThreadPicture)
        .where(
            ThreadPicture.exam_id == exam.id,
            ThreadPicture.person_id == actor.id,
            ThreadPicture.entry_id.is_(None),
            ThreadPicture.at > clock.now() - timedelta(days=1),
        )
    )
    if (waiting or 0) >= MAX_WAITING:
        raise Invalid(_("一次最多 {n} 张图片").format(n=MAX_PICTURES), code="too-many-images")
    return exam


def add_picture(session: Session, actor: Actor, exam_id: str, image: dict[str, Any]) -> ThreadPicture:
    """Keep a picture, whose bytes lie in the object store already, until its line is sent.

    Args:
        session: The transaction.
        actor: Who puts it in.
        exam_id: The exam.
        image: `{key, sha256, type, width, height, caption, sop_uid, frame}`.

    Raises:
        Forbidden, Invalid: See `check_picture`.
    """
    exam = check_picture(session, actor, exam_id)
    row = ThreadPicture(
        id=new_id(),
        exam_id=exam.id,
        entry_id=None,
        at=clock.now(),
        person_id=actor.id,
        object_key=image["key"],
        sha256=image["sha256"],
        content_type=image["type"],
        width=image["width"],
        height=image["height"],
        caption=image.get("caption") or "",
        sop_uid=image.get("sop_uid") or "",
        frame=image.get("frame"),
    )
    session.add(row)
    session.flush()
    return row


def get_picture(session: Session, actor: Actor, exam_id: str, picture_id: str) -> ThreadPicture:
    """A picture of a line that the actor may know, or one that he has just put in.

    Raises:
        NotFound: It does not exist or is not his to know.
    """
    exam = exam_of(session, actor, exam_id)
    row = session.get(ThreadPicture, picture_id)
    if row is not None and row.exam_id == exam.id:
        if row.entry_id is None:
            if row.person_id == actor.id:
                return row
        elif session.scalar(select(ThreadEntry.id).where(ThreadEntry.id == row.entry_id, _audible(actor))):
            return row
    raise NotFound(_("没有找到这张图片"))


def images_late(session: Session, exam_id: str) -> None:
    """Tell both sides in the thread that images came after reading had begun; of one arrival it is told once."""
    lock(session, exam_id)
    exam = session.get(Exam, exam_id, populate_existing=True)
    if exam is None or exam.late_images_at is None or State(exam.state) in CLOSED:
        return
    at = exam.late_images_at.isoformat()
    told = session.scalars(
        select(ThreadEntry).where(ThreadEntry.exam_id == exam_id, ThreadEntry.kind == "images_late")
    )  # fmt: skip
    if any(entry.data.get("at") == at for entry in told):
        return
    add(session, SYSTEM, exam, "images_late", side="clinic", data={"at": at, "received": exam.received_count})
