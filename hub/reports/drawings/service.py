"""Keeping drawings, and giving them back to whoever reads or reviews the exam.

Two windows may draw on one exam at the same time, both of them its reader's. So a window sends what it changed, each
drawing with the revision that it knows of it, and what somebody else has changed since is never written over: both
forms stay on the image, and the window is told.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import ColumnElement, delete, select, tuple_
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams import repository as exam_rows
from hub.exams.models import Exam
from hub.kit import clock, live
from hub.kit.actor import Actor
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import _
from hub.reading import repository as reading_rows
from hub.reports import repository, service
from hub.reports.drawings.models import ExamDrawing, ExamDrawings
from hub.studies.models import ExamStudy, Study

MOST: Final = 300
MOST_BYTES: Final = 1 << 20
LONGEST_UID: Final = 128
KEEP_REMOVED: Final = timedelta(days=7)
"""Longer than any window stays open that could still change what another one removed."""

_IMAGE: Final = re.compile(
    r"wadors:/viewer/dicomweb/studies/([0-9.]{1,64})/series/[0-9.]{1,64}/instances/[0-9.]{1,64}/frames/[0-9]{1,6}",
    re.ASCII,
)
"""How the viewer addresses an image (hub/web/src/ohif/app-config.js)."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A drawing that a window made or changed, and the revision of it that the window knows; 0: it is new."""

    revision: int
    drawing: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Removed:
    """A drawing that a window removed, and the revision of it that the window knows."""

    revision: int
    uid: str


class Clash(StrEnum):
    """What became of two changes of one drawing; nothing is lost in any of them."""

    BOTH = "both"
    """Changed here and elsewhere: the other form stands, this one beside it under a name of its own."""
    KEPT = "kept"
    """Removed here, changed elsewhere: it stays."""
    BACK = "back"
    """Changed here, removed elsewhere: it is there again."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """One drawing that two windows changed; `copy` is the name of this window's form where both are kept."""

    uid: str
    kind: Clash
    copy: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The drawings on an exam's images, oldest first; `revision` counts the saves."""

    revision: int = 0
    drawings: list[ExamDrawing] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


def drawings_of(session: Session, actor: Actor, exam_id: str) -> Kept:
    """The drawings on an exam's images.

    Raises:
        NotFound: The exam is not the actor's to know, or he sees no drafts.
    """
    exam = exam_rows.get(session, actor, exam_id)
    if not repository.may_see_drafts(actor, exam):
        raise NotFound(_("没有找到这项检查"))
    head = session.get(ExamDrawings, exam.id)
    return Kept(head.revision if head is not None else 0, _standing(_rows(session, exam.id)))


def save(
    session: Session,
    actor: Actor,
    exam_id: str,
    *,
    lease: str,
    window: str,
    changed: Sequence[Changed] = (),
    removed: Sequence[Removed] = (),
) -> Kept:
    """Keep what a window changed of the drawings on an exam's images. The same again changes nothing.

    Args:
        session: The transaction.
        actor: Who writes the exam's report.
        exam_id: The exam.
        lease: Token of his lease; empty for an addendum or correction.
        window: The window that sends them; what it saved itself it may change without knowing the revision.
        changed: The viewer's records, each with the address of the image that it lies on.
        removed: What was taken off the images.

    Returns:
        All drawings as they stand now, and what two windows had changed.

    Raises:
        Conflict: The report is not the actor's to write, or not any more.
        Invalid: Too many, or one lies on images of somebody else, or on none.
    """
    studies = {_study_of(one.drawing) for one in changed}
    exam, _version = service.writable(session, actor, exam_id, lease)
    if not studies <= _allowed(session, actor, exam):
        raise Invalid(_("标注画在另一位患者的影像上,没有保存"), code="other-exam")
    head = session.get(ExamDrawings, exam.id, with_for_update=True, populate_existing=True)
    merge = _Merge(
        exam_id=exam.id,
        window=window,
        actor=actor,
        revision=(head.revision if head is not None else 0) + 1,
        rows={row.uid: row for row in _rows(session, exam.id)},
    )
    for one in changed:
        merge.change(one)
    for gone in removed:
        merge.remove(gone)
    standing = _standing(merge.rows.values())
    if not merge.written:
        return Kept(merge.revision - 1, standing, merge.conflicts)
    size = len(json.dumps([row.body for row in standing], ensure_ascii=False).encode())
    if len(standing) > MOST or size > MOST_BYTES:
        raise Invalid(_("影像上的标注太多,没有保存"), code="too-many-drawings")
    if head is None:
        head = ExamDrawings(exam_id=exam.id, revision=0, saved_at=clock.now(), saved_by="")
        session.add(head)
    if head.saved_by != actor.id:
        audit.record(session, actor, "report.draw", "exam", exam.id, org_id=exam.org_id, patient_id=exam.patient_id)
    head.revision, head.saved_at, head.saved_by = merge.revision, clock.now(), actor.id
    session.add_all(merge.rows.values())
    session.flush()
    live.publish(
        session,
        "draft",
        exam.id,
        orgs=[exam.reading_org_id or "shared"],
        event="drawings",
        revision=head.revision,
        window=window,
    )
    return Kept(head.revision, standing, merge.conflicts)


def lapsed(session: Session, *, most: int = 500) -> list[tuple[str, str]]:
    """Names (exam, drawing) of drawings that were removed long ago."""
    rows = session.execute(select(ExamDrawing.exam_id, ExamDrawing.uid).where(*_lapsed()).limit(most))
    return [(exam_id, uid) for exam_id, uid in rows]


def drop(session: Session, names: Sequence[tuple[str, str]]) -> None:
    """Drop removed drawings; one that is there again stays."""
    session.execute(delete(ExamDrawing).where(tuple_(ExamDrawing.exam_id, ExamDrawing.uid).in_(names), *_lapsed()))


def _lapsed() -> tuple[ColumnElement[bool], ...]:
    return ExamDrawing.removed.is_(True), ExamDrawing.saved_at < clock.now() - KEEP_REMOVED


@dataclass(slots=True)
class _Merge:
    """The drawings of an exam while one window's changes are brought into them."""

    exam_id: str
    window: str
    actor: Actor
    revision: int
    rows: dict[str, ExamDrawing]
    conflicts: list[Conflict] = field(default_factory=list)
    written: bool = False

    def change(self, one: Changed) -> None:
        uid = str(one.drawing["annotationUID"])
        row = self.rows.get(uid)
        if row is None:
            self._add(uid, one.drawing)
        elif row.removed:
            if not self._knows(row, one.revision):
                self.conflicts.append(Conflict(uid, Clash.BACK))
            self._write(row, one.drawing)
        elif row.body == one.drawing:
            return
        elif self._knows(row, one.revision):
            self._write(row, one.drawing)
        else:
            # The name follows from the drawing: sent again, it is the same copy.
            mark = hashlib.sha256(json.dumps(one.drawing, sort_keys=True).encode()).hexdigest()[:8]
            copy = f"{uid[: LONGEST_UID - 9]}~{mark}"
            self.conflicts.append(Conflict(uid, Clash.BOTH, copy))
            body = {**one.drawing, "annotationUID": copy}
            if copy not in self.rows:
                self._add(copy, body)
            elif self.rows[copy].removed:
                self._write(self.rows[copy], body)

    def remove(self, gone: Removed) -> None:
        row = self.rows.get(gone.uid)
        if row is None or row.removed:
            return
        if self._knows(row, gone.revision):
            self._write(row, row.body, removed=True)
        else:
            self.conflicts.append(Conflict(gone.uid, Clash.KEPT))

    def _knows(self, row: ExamDrawing, revision: int) -> bool:
        return row.revision == revision or (bool(self.window) and row.saved_in == self.window)

    def _add(self, uid: str, body: dict[str, Any]) -> None:
        place = max((row.place for row in self.rows.values()), default=0) + 1
        row = ExamDrawing(exam_id=self.exam_id, uid=uid, place=place)
        self.rows[uid] = row
        self._write(row, body)

    def _write(self, row: ExamDrawing, body: dict[str, Any], *, removed: bool = False) -> None:
        row.body, row.removed, row.revision = body, removed, self.revision
        row.saved_in, row.saved_at, row.saved_by = self.window, clock.now(), self.actor.id
        self.written = True


def _rows(session: Session, exam_id: str) -> Sequence[ExamDrawing]:
    return session.scalars(
        select(ExamDrawing).where(ExamDrawing.exam_id == exam_id).execution_options(populate_existing=True)
    ).all()


def _standing(rows: Any) -> list[ExamDrawing]:
    return sorted((row for row in rows if not row.removed), key=lambda row: row.place)


def _study_of(drawing: dict[str, Any]) -> str:
    metadata = drawing.get("metadata")
    uid = drawing.get("annotationUID")
    named = isinstance(uid, str) and 0 < len(uid) <= LONGEST_UID
    if named and isinstance(metadata, dict) and isinstance(metadata.get("toolName"), str):
        found = _IMAGE.fullmatch(str(metadata.get("referencedImageId") or ""))
        if found is not None:
            return found[1]
    raise Invalid(_("影像上的标注不完整,没有保存"), code="bad-drawing")


def _allowed(session: Session, actor: Actor, exam: Exam) -> set[str]:
    """Studies of the exam, and of its patient's earlier exams that the actor may see beside it."""
    exams = [exam.id, *(prior.id for prior in reading_rows.priors(session, actor, exam))]
    return set(
        session.scalars(
            select(Study.uid).join(ExamStudy, ExamStudy.study_id == Study.id).where(ExamStudy.exam_id.in_(exams))
        )
    )
