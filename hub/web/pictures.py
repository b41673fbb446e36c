"""Previews of an exam's images as JPEG, for whoever has been allowed the exam."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.exams.models import Exam
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.kit.objects import object_store
from hub.studies.models import ExamStudy, Instance, Series, Study
from storage.errors import StorageError


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a preview lies, and of which study it is."""

    key: str
    study_id: str


def key_of(session: Session, exam: Exam, kind: str, row_id: str) -> Picture:
    """The preview of an `image`, a `series`, a `study` of the exam, or the contact `sheet` of one.

    Raises:
        NotFound: There is none (yet).
    """
    linked = select(ExamStudy.study_id).where(ExamStudy.exam_id == exam.id)
    statement: Any = {
        "image": select(Instance.preview_key, Instance.study_id).where(
            Instance.id == row_id, Instance.study_id.in_(linked)
        ),
        "series": select(Series.preview_key, Series.study_id).where(Series.id == row_id, Series.study_id.in_(linked)),
        "study": select(Study.preview_key, Study.id).where(Study.id == row_id, Study.id.in_(linked)),
        "sheet": select(Study.sheet_key, Study.id).where(Study.id == row_id, Study.id.in_(linked)),
    }.get(kind)
    row = session.execute(statement).one_or_none() if statement is not None else None
    if row is None or not row[0]:
        raise NotFound(_("预览还没有准备好"))
    return Picture(row[0], row[1])


def answer(request: Request, found: Picture) -> Response:
    """The picture. The caller has noted the view."""
    # Not fetched twice over a slow link, but asked about each time: a shared workstation must not show one person's
    # images to the next.
    etag = f'"{found.key.rsplit("/", 1)[-1]}"'
    headers = {"Cache-Control": "private, no-cache", "ETag": etag, "Vary": "Cookie"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    try:
        body = object_store().read(found.key)
    except StorageError as error:
        raise NotFound(_("预览还没有准备好")) from error
    return Response(body, media_type="image/jpeg", headers=headers)


def series_of(session: Session, study_ids: list[str]) -> list[dict[str, Any]]:
    """Series of studies with the images that have pixels, as the light viewer takes them."""
    found: list[dict[str, Any]] = []
    rows = session.scalars(
        select(Series).where(Series.study_id.in_(study_ids)).order_by(Series.study_id, Series.number, Series.created_at)
    ).all()
    for series in rows:
        images = session.execute(
            select(Instance.id, Instance.number, Instance.preview_note)
            .where(Instance.series_id == series.id, Instance.has_pixels, Instance.made_by_hub.is_(False))
            .order_by(Instance.number, Instance.id)
        ).all()
        if images:
            found.append(
                {
                    "id": series.id,
                    "title": series.description or series.modality,
                    "preview": bool(series.preview_key),
                    "images": [[row[0], row[1] or at + 1, row[2]] for at, row in enumerate(images)],
                }
            )
    return found
