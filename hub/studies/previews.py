"""Previews of a study: each image, each series, a contact sheet for stacks, and a summary of the header.

Made by workers from the stored originals; safe to run again and to be killed: an object is written first, the row
that names it after, and what it replaced is deleted last. An undecodable image yields a placeholder that says so and
does not stop its study.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any

from PIL import Image
from pydicom.dataset import Dataset
from sqlalchemy import select

from hub.dicom import codecs, dicomjson, render
from hub.dicom.codecs import FrameError
from hub.exams.models import Exam
from hub.exams.service import announce
from hub.kit import jobs
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.studies import pixels
from hub.studies.intake import PREVIEWS
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, Study
from storage.base import ObjectStore
from storage.errors import ObjectNotFound, StorageError
from storage.keys import new_key

log = get_logger(__name__)

INSTANCE_EDGE = 1024
SERIES_EDGE = 512
SHEET_CELLS = 20
SHEET_COLUMNS = 5
SHEET_CELL = 200
JPEG_QUALITY = 82


@dataclass(slots=True)
class _Made:
    """The preview of one instance as it was made."""

    instance: Instance
    brief: render.InstanceBrief
    key: str
    note: str


def prepare_study(study_id: str, actor: Actor = SYSTEM) -> bool:
    """Make what is missing for a study; False where the study is gone.

    The revision that was prepared is written at the end: images that arrived meanwhile ask for another turn.
    """
    with database().reading() as session:
        study = session.get(Study, study_id)
        if study is None:
            return False
        revision, sheet_key = study.revision, study.sheet_key
        series = list(session.scalars(select(Series).where(Series.study_id == study_id).order_by(Series.number)))
        instances = list(
            session.scalars(select(Instance).where(Instance.study_id == study_id).order_by(Instance.number))
        )
        headers = {
            row.instance_id: row.body
            for row in session.scalars(
                select(InstanceHeader)
                .join(Instance, Instance.id == InstanceHeader.instance_id)
                .where(Instance.study_id == study_id)
            )
        }
    codecs.register()
    store = object_store()
    made: list[_Made] = []
    for one in series:
        mine = [instance for instance in instances if instance.series_id == one.id and instance.has_pixels]
        done = [_instance_preview(store, instance, headers.get(instance.id)) for instance in mine]
        made += done
        _series_preview(store, one, done)
    _study_preview(store, study_id, sheet_key, made, headers, revision)
    return True


def _brief(instance: Instance, body: bytes | None, *, decodable: bool) -> render.InstanceBrief:
    try:
        header = Dataset.from_json(_without_bulk(dicomjson.decompress(body))) if body else Dataset()
        return render.InstanceBrief.from_header(header, decodable=decodable)
    except Exception:  # a header with impossible values still has its place in the stack by number
        return render.InstanceBrief.from_header(Dataset(), decodable=decodable)


_BRIEF_TAGS = (
    "0020000E",
    "00080060",
    "00080008",
    "00200011",
    "00200013",
    "00200032",
    "00200037",
    "00201041",
    "00280010",
)


def _without_bulk(document: dict[str, Any]) -> dict[str, Any]:
    return {tag: document[tag] for tag in _BRIEF_TAGS if tag in document}


def _instance_preview(store: ObjectStore, instance: Instance, body: bytes | None) -> _Made:
    if instance.preview_key:
        brief = _brief(instance, body, decodable=not instance.preview_note)
        return _Made(instance, brief, instance.preview_key, instance.preview_note)
    picture, note = picture_of(store, instance, INSTANCE_EDGE)
    made = new_key(PREVIEWS)
    store.put(made, render.to_jpeg(picture, JPEG_QUALITY), content_type="image/jpeg")
    key = made
    with database().writing() as session:
        row = session.get(Instance, instance.id)
        if row is None or row.preview_key:
            # Another worker was here first.
            key, note = (row.preview_key, row.preview_note) if row is not None else ("", note)
        else:
            row.preview_key, row.preview_note = key, note
    if key != made:
        store.delete(made)
    return _Made(instance, _brief(instance, body, decodable=not note), key, note)


def picture_of(store: ObjectStore, instance: Instance, edge: int, number: int | None = None) -> tuple[Image.Image, str]:
    """A picture of an instance, and "" or the code of why it is a placeholder.

    Args:
        store: Where the original lies.
        instance: The image.
        edge: Longest edge in pixels.
        number: Frame from 0; the middle one where it is left out.
    """
    wanted = number if number is not None else max(0, instance.frames // 2 if instance.frames > 1 else 0)
    try:
        frame, header = pixels.decode(store, instance, wanted)
        return render.preview(frame, header, max_edge=edge, frame_number=wanted + 1), ""
    except FrameError as error:
        log.info("an image cannot be shown", instance=instance.id, code=error.code)
        return render.placeholder(min(edge, SERIES_EDGE), render.reason_lines(error)), error.code
    except Exception as error:
        if isinstance(error, StorageError) and error.retriable:
            raise
        # Whatever a hostile header does to the arithmetic, and a lost object, must not stop the study.
        log.warning("an image cannot be shown", instance=instance.id, kind=type(error).__name__)
        return render.placeholder(
            min(edge, SERIES_EDGE), ["图像无法显示", "The image cannot be shown"]
        ), "broken-stream"


def _order(one: _Made) -> tuple[float, float]:
    position = one.brief.position
    return (position if position is not None else 1e12, float(one.instance.number or 0))


def _load(store: ObjectStore, key: str) -> Image.Image:
    return Image.open(io.BytesIO(store.read(key)))


def _put(store: ObjectStore, picture: Image.Image, present: str) -> str:
    """The key of `picture` as it is stored: `present` where that is the very picture, else a new one."""
    data = render.to_jpeg(picture, JPEG_QUALITY)
    if present:
        with contextlib.suppress(ObjectNotFound):
            if store.read(present) == data:
                return present
    key = new_key(PREVIEWS)
    store.put(key, data, content_type="image/jpeg")
    return key


def _series_preview(store: ObjectStore, series: Series, made: list[_Made]) -> None:
    chosen = render.representative_index([one.brief for one in made])
    if chosen is None:
        return
    note = made[chosen].note
    picture = _load(store, made[chosen].key)
    picture.thumbnail((SERIES_EDGE, SERIES_EDGE))
    key = _put(store, picture, series.preview_key)
    with database().writing() as session:
        row = session.get(Series, series.id)
        replaced = row.preview_key if row is not None else key
        if row is not None:
            row.preview_key, row.preview_note = key, note
    if replaced and replaced != key:
        store.delete(replaced)


def _sheet(store: ObjectStore, made: list[_Made]) -> Image.Image | None:
    """The contact sheet of the largest stack: evenly spread slices in order, numbered."""
    made = [one for one in made if one.key]
    planes = [one for one in made if not (one.brief.is_scout or one.brief.is_screen)] or made
    groups: dict[str, list[_Made]] = {}
    for one in planes:
        groups.setdefault(one.brief.series_uid, []).append(one)
    stacks = sorted(groups.values(), key=len, reverse=True)
    stack = sorted(stacks[0], key=_order) if stacks else []
    if len(stack) < 4:
        return None
    chosen = [stack[index] for index in render.contact_indices(len(stack), SHEET_CELLS)]
    images = [_load(store, one.key) for one in chosen]
    captions = [f"{one.instance.number or ''}" for one in chosen]
    return render.contact_sheet(images, SHEET_COLUMNS, SHEET_CELL, captions)


def _study_preview(
    store: ObjectStore, study_id: str, present_sheet: str, made: list[_Made], headers: dict[str, bytes], revision: int
) -> None:
    sheet = _sheet(store, made)
    sheet_key = _put(store, sheet, present_sheet) if sheet is not None else ""
    chosen = render.representative_index([one.brief for one in made])
    summary = (
        summarise(dicomjson.decompress(headers[made[chosen].instance.id]))
        if chosen is not None and (made[chosen].instance.id in headers)
        else {}
    )
    summary["undecodable"] = sum(1 for one in made if one.note)
    with database().writing() as session:
        study = session.get(Study, study_id)
        if study is None:
            return
        replaced, study.sheet_key = study.sheet_key, sheet_key
        study.preview_key = made[chosen].key if chosen is not None else ""
        # By which clock the machine goes, intake has noted; these are what a reader wants to know.
        study.summary = summary | {name: study.summary[name] for name in _KEPT if name in study.summary}
        study.prepared_revision = max(study.prepared_revision, revision)
        if study.revision != revision:
            jobs.enqueue(session, "studies.preview", {"study_id": study_id}, key=f"preview:{study_id}")
        for exam in session.scalars(select(Exam).join(ExamStudy).where(ExamStudy.study_id == study_id)):
            announce(session, exam, event="previews")
    if replaced and replaced != sheet_key:
        store.delete(replaced)


_KEPT = ("timezone_offset",)
_SUMMARY = {
    "manufacturer": "00080070",
    "model": "00081090",
    "station": "00081010",
    "institution": "00080080",
    "kvp": "00180060",
    "tube_current": "00181151",
    "exposure": "00181152",
    "slice_thickness": "00180050",
    "spacing": "00280030",
    "kernel": "00181210",
    "view": "00185101",
    "body_part": "00180015",
    "protocol": "00181030",
    "rows": "00280010",
    "columns": "00280011",
    "bits_stored": "00280101",
    "photometric": "00280004",
    "window_center": "00281050",
    "window_width": "00281051",
    "contrast": "00180010",
    "comments": "00204000",
}


def summarise(document: dict[str, Any]) -> dict[str, Any]:
    """The technical part of a header that a reader wants at a glance; no patient data.

    Args:
        document: DICOM JSON of the representative image.
    """
    found: dict[str, Any] = {}
    for name, tag in _SUMMARY.items():
        values = document.get(tag, {}).get("Value")
        if values:
            plain = [value for value in values if isinstance(value, (str, int, float))]
            if plain:
                found[name] = plain[0] if len(plain) == 1 else plain
    return found
