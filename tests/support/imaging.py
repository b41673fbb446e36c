"""Exams with real images, for tests that look at them in a browser."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.uid import generate_uid
from sqlalchemy import select

from hub.dicom.phantoms import PhantomPatient, generate
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.patients.models import CountyPatient
from hub.studies import intake
from hub.studies.intake import Incoming
from hub.studies.models import ExamStudy, Study

if TYPE_CHECKING:
    from support.world import World


@dataclass(frozen=True, slots=True)
class Imaged:
    """An exam that waits to be read, and its study."""

    exam_id: str
    study_uid: str
    county_number: str
    sop_uids: tuple[str, ...]


def phantom(kind: str = "ct_head", *, number: str = "PX1", name: str = "王芳", **options: Any) -> list[pydicom.Dataset]:
    """Data sets of a generated study with UIDs of their own."""
    patient = PhantomPatient(number, name, "F", pinyin="Wang Fang", age=47)
    moment = datetime(2026, 11, 1, 9, 30)  # noqa: DTZ001 (a device's wall clock)
    files = generate(kind, seed=3, patient=patient, study_time=moment, charset="utf-8", **options)
    datasets = [pydicom.dcmread(io.BytesIO(data)) for data in files]
    study, series = generate_uid(), generate_uid()
    for dataset in datasets:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = study, series, generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return datasets


def imaged_exam(world: World, datasets: list[pydicom.Dataset], *, org: str = "C01", **more: Any) -> Imaged:
    """Store images at a clinic and give them to an exam in the queue, whose patient is the images' own."""
    files = []
    for dataset in datasets:
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        files.append(Incoming(buffer.getvalue()))
    login = "technologist" if org == "C01" else "technologist.c02"
    found = intake.ingest_many(world.actor(login), files, org_id=world.orgs[org].id, source="web")
    assert {one.status for one in found} == {"stored"}, found
    uid, now = str(datasets[0].StudyInstanceUID), clock.now()
    with database().writing() as session:
        study = session.scalars(select(Study).where(Study.uid == uid)).one()
        exam = session.scalars(
            select(Exam).join(ExamStudy, ExamStudy.exam_id == Exam.id).where(ExamStudy.study_id == study.id)
        ).one()
        registered = {
            "state": State.TO_READ.value,
            "identity": "ok",
            "incomplete": [],
            "reading_org_id": world.orgs["H01"].id,
            "body_parts": ["head"],
            "history": "头痛两天",
            "received_at": now,
            "queued_at": now,
            "due_at": now + timedelta(hours=1),
            "verify_since": None,
        }
        for column, value in {**registered, **more}.items():
            setattr(exam, column, value)
        number = session.get_one(CountyPatient, exam.patient.county_patient_id).number
        return Imaged(exam.id, uid, number, tuple(str(one.SOPInstanceUID) for one in datasets))
