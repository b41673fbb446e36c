"""The rows of files whose bytes are stored: one transaction, database only.

Studies, series and what hangs on them (patients, exams, jobs) are few and go through the ORM; instances and their
headers are many and are written in bulk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.orm import Session, lazyload

from hub.audit import service as audit
from hub.dicom.reader import ParsedInstance
from hub.exams import catalogue
from hub.exams.models import Exam
from hub.kit import clock, jobs
from hub.kit.actor import Actor
from hub.kit.health import Concern
from hub.kit.ids import new_id
from hub.kit.logging import get_logger
from hub.sites.models import Organisation
from hub.studies import keys as search_keys
from hub.studies import linking, quarantine, reasons, retired, sameness
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Series, Study
from hub.studies.outcomes import HUB_SOURCE, Outcome, Prepared, Refusal

log = get_logger(__name__)


class LostRace(Exception):
    """Another transaction made a study or an instance, or deleted it, between two looks of this one."""


@dataclass(frozen=True, slots=True)
class Present:
    """An instance that is here, as far as the fate of another one depends on it."""

    id: str
    uid: str
    org_id: str
    study_id: str
    sop_class: str
    file_sha256: str
    made_by_hub: bool


PRESENT = (
    Instance.id,
    Instance.uid,
    Instance.org_id,
    Instance.study_id,
    Instance.sop_class,
    Instance.file_sha256,
    Instance.made_by_hub,
)
"""Columns of `Present`, in order."""

# Built once: building a statement costs as much as running it.
_PRESENT = select(*PRESENT).where(Instance.uid.in_(bindparam("uids", expanding=True)))
_STUDY = (
    select(Study)
    .where(Study.uid == bindparam("uid"))
    .options(lazyload(Study.patient))
    .with_for_update(of=Study, key_share=True)
    .execution_options(populate_existing=True)
)
_SERIES = select(Series).where(Series.uid == bindparam("uid")).execution_options(populate_existing=True)
INSERT_INSTANCE = insert(Instance.__table__)  # type: ignore[arg-type]
INSERT_HEADER = insert(InstanceHeader.__table__)  # type: ignore[arg-type]


class Indexing:
    """One transaction of intake: rows touched so far, so that each study is locked and counted once.

    Args:
        session: The transaction; a lost race raises `IntegrityError` or `LostRace`, upon which the whole may be tried
            again.
        actor: Who sends.
        exam_id: The exam that the files are sent for.
        hint: The character set that the sender's devices are known to use.
    """

    def __init__(self, session: Session, actor: Actor, exam_id: str | None, hint: str | None) -> None:
        self.session = session
        self.actor = actor
        self.exam_id = exam_id
        self.present: dict[str, Present] = {}
        self.made: set[str] = set()
        self.studies: dict[str, Study | None] = {}
        self.series: dict[str, Series | None] = {}
        self.added: dict[str, list[ParsedInstance]] = {}
        self.fresh: set[str] = set()
        self.found: dict[str, Exam] = {}
        self.rows: list[dict[str, Any]] = []
        self.headers: list[dict[str, Any]] = []
        self.hub_made = False
        self.known_hint = hint
        self.hint: tuple[str, str] | None = None

    def run(self, files: Sequence[Prepared | Refusal]) -> list[Outcome]:
        """Write the rows of prepared files of one organisation, and settle their studies; database only.

        Args:
            files: As from `Batch`; refusals get their quarantine rows.

        Returns:
            An outcome for each file, in order. An object whose outcome does not name it is the caller's to delete.
        """
        prepared = [file for file in files if isinstance(file, Prepared)]
        wanted = [file.parsed.sop_instance_uid for file in prepared]
        for row in self.session.execute(_PRESENT, {"uids": sorted(set(wanted))}) if wanted else ():
            self.present[row.uid] = Present(*row)
        outcomes: dict[int, Outcome] = {}
        # Studies in one order everywhere, so that two transactions never wait for each other's.
        order = sorted(range(len(files)), key=lambda number: (_study_uid(files[number]), number))
        with self.session.no_autoflush:
            for number in order:
                file = files[number]
                outcomes[number] = self._refused(file) if isinstance(file, Refusal) else self._one(file)
        self.session.flush()
        if self.rows:
            # By the tables themselves: the ORM's bulk insert costs as much again for each row.
            self.session.execute(INSERT_INSTANCE, self.rows)
            self.session.execute(INSERT_HEADER, self.headers)
        self._settle()
        return [outcomes[number] for number in range(len(files))]

    def _refused(self, file: Refusal) -> Outcome:
        return _keep(self.session, self.actor, file, exam_id=self.exam_id)

    def _one(self, file: Prepared) -> Outcome:
        parsed, session = file.parsed, self.session
        of_hub = file.source == HUB_SOURCE
        present = self.present.get(parsed.sop_instance_uid)
        if present is not None:
            if present.org_id != file.org_id:
                return self._conflict(file, reasons.IDENTIFIER_CONFLICT, "instance-of-other-organisation")
            same = self._same(file, present)
            # What the hub makes twice differs in its time of making only.
            if not same and not (of_hub and present.made_by_hub):
                return self._conflict(file, reasons.CHANGED_CONTENT, "other-bytes")
            return self._known(file, present, same=same)
        if self.exam_id is not None:
            try:
                linking.own_exam(session, file.org_id, self.exam_id)
            except linking.WrongExam:
                return self._conflict(file, reasons.WRONG_EXAM, "exam-not-of-sender")
        study = self._study(parsed.study_instance_uid)
        if study is not None:
            if study.org_id != file.org_id:
                return self._conflict(file, reasons.IDENTIFIER_CONFLICT, "study-of-other-organisation")
            if not of_hub and other_patient(study.header_patient, header_patient(parsed)):
                return self._conflict(file, reasons.IDENTIFIER_CONFLICT, "study-of-other-patient")
            if study.trashed_at is not None:
                # Deleted since it was taken out of the trash for these files: what is acknowledged must not vanish.
                raise LostRace
        series = self._series(parsed.series_instance_uid)
        if series is not None and (study is None or series.study_id != study.id):
            if self.session.scalar(select(Study.uid).where(Study.id == series.study_id)) == parsed.study_instance_uid:
                # PostgreSQL's next query sees what another transaction committed since the last: the study was new.
                raise LostRace
            return self._conflict(file, reasons.IDENTIFIER_CONFLICT, "series-of-other-study")
        study = study or self._new_study(file)
        series = series or self._new_series(study, parsed)
        return _outcome("stored", study.uid, self._new_instance(study, series, file), parsed)

    def _study(self, uid: str) -> Study | None:
        if uid not in self.studies:
            self.studies[uid] = self.session.scalars(_STUDY, {"uid": uid}).one_or_none()
        return self.studies[uid]

    def _series(self, uid: str) -> Series | None:
        if uid not in self.series:
            self.series[uid] = self.session.scalars(_SERIES, {"uid": uid}).one_or_none()
        return self.series[uid]

    def _same(self, file: Prepared, present: Present) -> bool:
        """Whether both hold the same data set; that needs the file's bytes, so it was found out before."""
        if file.parsed.file_sha256 == present.file_sha256:
            return True
        if present.id in self.made:
            # Of files of one call that hold the same, only the first comes here.
            return False
        if file.compared is None or file.compared[0] != present.id:
            raise LostRace
        return file.compared[1]

    def _known(self, file: Prepared, present: Present, *, same: bool) -> Outcome:
        parsed = file.parsed
        study = self._study(parsed.study_instance_uid)
        if study is None or study.id != present.study_id or study.trashed_at is not None:
            # Deleted, or purged, between the two looks: what is acknowledged must not vanish.
            raise LostRace
        if self.exam_id is not None and self.session.get(ExamStudy, (self.exam_id, study.id)) is None:
            self.session.flush()
            try:
                linking.attach(self.session, self.actor, study, exam_id=self.exam_id)
            except linking.WrongExam:
                return self._conflict(file, reasons.WRONG_EXAM, "exam-not-of-sender")
        if same and damaged(self.session, [present.id]):
            self._mend(file, present, study)
        return known(present, study.uid, parsed)

    def _mend(self, file: Prepared, present: Present, study: Study) -> None:
        """Let an instance whose bytes were found damaged or missing lie where the same data set came to lie now."""
        parsed, session = file.parsed, self.session
        row = session.get_one(Instance, present.id, populate_existing=True)
        retired.retire(session, [row.object_key])
        row.object_key, row.object_offset, row.size = file.object_key, file.object_offset, file.size
        row.dataset_offset, row.transfer_syntax = parsed.dataset_offset, parsed.transfer_syntax_uid[:64]
        row.frame_index = parsed.frames.to_bytes() if parsed.frames.kind != "none" else b""
        row.file_sha256, row.notes = parsed.file_sha256, list(parsed.notes)
        row.original_syntax = row.stored_sha256 = row.kept_reason = ""
        row.dataset_sha256 = file.dataset_sha256
        session.execute(
            update(InstanceHeader)
            .where(InstanceHeader.instance_id == row.id)
            .values(file_head=sameness.kept_head(parsed))
        )
        row.original_size = row.recipe_offset = row.recipe_size = 0
        if row.preview_note:
            row.preview_key = row.preview_note = ""
            jobs.enqueue(session, "studies.preview", {"study_id": study.id}, key=f"preview:{study.id}", postpone=True)
        # Readers look up anew where things lie.
        study.revision += 1
        session.execute(delete(Concern).where(Concern.key == present.id))
        log.warning("a damaged original came again", instance=present.id, object=file.object_key)

    def _conflict(self, file: Prepared, code: str, detail: str) -> Outcome:
        parsed = file.parsed
        self.session.flush()
        before = quarantine.known(self.session, org_id=file.org_id, sha256=parsed.file_sha256, code=code)
        kept = before is None and file.size <= quarantine.room(self.session)
        refusal = Refusal(
            code,
            {"detail": detail},
            file.org_id,
            file.source,
            file.name,
            before.object_key if before else file.object_key if kept else "",
            file.size,
            parsed.file_sha256,
            parsed.study_instance_uid,
            parsed.sop_instance_uid,
            parsed.sop_class_uid,
            before.id if before else "",
        )
        return _keep(self.session, self.actor, refusal, exam_id=self.exam_id)

    def _new_study(self, file: Prepared) -> Study:
        parsed, now = file.parsed, clock.now()
        about, header = parsed.study, header_patient(parsed)
        if self.exam_id is not None:
            exam: Exam | None = linking.own_exam(self.session, file.org_id, self.exam_id)
        else:
            exam = linking.find_exam(
                self.session,
                file.org_id,
                header,
                accession=about.accession_number,
                modality=parsed.series.modality,
                body_part=body_part_text(parsed),
            )
        if exam is not None:
            self.found[parsed.study_instance_uid] = exam
        patient = linking.patient_for(self.session, file.org_id, header, exam)
        study = Study(
            id=new_id(),
            uid=parsed.study_instance_uid,
            org_id=file.org_id,
            patient_id=patient.id,
            study_date=about.study_date.strftime("%Y%m%d") if about.study_date else "",
            study_time=about.study_time[:16],
            accession=about.accession_number[:64],
            study_id=about.study_id[:64],
            description=about.description[:200],
            referring=about.referring_physician[:200],
            modalities=[],
            header_patient=header,
            charset="\\".join(parsed.charset)[:40],
            text_flagged=parsed.text_flagged,
            notes=[],
            summary={"timezone_offset": about.timezone_offset} if about.timezone_offset else {},
            series_count=0,
            instance_count=0,
            total_bytes=0,
            revision=0,
            created_at=now,
            last_instance_at=now,
        )
        self.session.add(study)
        self.session.flush()
        self.studies[study.uid] = study
        self.fresh.add(study.uid)
        audit.record(
            self.session,
            self.actor,
            "study.receive",
            "study",
            study.uid,
            org_id=study.org_id,
            patient_id=patient.id,
            source=file.source,
        )
        return study

    def _new_series(self, study: Study, parsed: ParsedInstance) -> Series:
        about = parsed.series
        series = Series(
            id=new_id(),
            study_id=study.id,
            uid=parsed.series_instance_uid,
            modality=about.modality[:16],
            number=about.number,
            description=about.description[:200],
            body_part=about.body_part[:64],
            laterality=about.laterality[:16],
            series_date=about.series_date.strftime("%Y%m%d") if about.series_date else "",
            series_time=about.series_time[:16],
            station=about.station[:64],
            manufacturer=about.manufacturer[:64],
            **search_keys.of_series(parsed.header),
            instance_count=0,
            frame_count=0,
            created_at=clock.now(),
        )
        self.session.add(series)
        self.session.flush()
        self.series[series.uid] = series
        study.series_count += 1
        if about.modality and about.modality[:16] not in study.modalities:
            study.modalities = sorted({*study.modalities, about.modality[:16]})
        return series

    def _new_instance(self, study: Study, series: Series, file: Prepared) -> Present:
        parsed, now = file.parsed, clock.now()
        of_hub = file.source == HUB_SOURCE
        instance = Present(
            new_id(),
            parsed.sop_instance_uid,
            study.org_id,
            study.id,
            parsed.sop_class_uid,
            parsed.file_sha256,
            of_hub,
        )
        self.made.add(instance.id)
        self.rows.append(instance_row(instance.id, file, series.id, study.id, study.org_id, now))
        self.headers.append(header_row(instance.id, file))
        self.present[instance.uid] = instance
        series.instance_count += 1
        series.frame_count += len(parsed.frames)
        study.instance_count += 1
        study.total_bytes += file.size
        study.last_instance_at = now
        if parsed.text_flagged and not study.text_flagged:
            study.text_flagged = True
        fresh = [note for note in parsed.notes if note not in study.notes]
        if fresh:
            study.notes = [*study.notes, *fresh][:40]
        if study.uid not in self.added:
            study.revision += 1
        self.added.setdefault(study.uid, []).append(parsed)
        if of_hub:
            self.hub_made = True
        elif said := hinted(parsed):
            self.hint = (study.org_id, said)
        return instance

    def _settle(self) -> None:
        """Once for each study: exam, jobs, what the sender's devices write in."""
        session = self.session
        for uid, parsed in self.added.items():
            study = self.studies[uid]
            if study is None:
                continue
            if not self.hub_made:
                self._attach(study, parsed)
            ask_for_previews(session, study.id, fresh=uid in self.fresh)
        if self.hint is not None and self.hint[1] != self.known_hint:
            org_id, charset = self.hint
            session.execute(
                update(Organisation)
                .where(Organisation.id == org_id, Organisation.charset_hint != charset)
                .values(charset_hint=charset)
                .execution_options(synchronize_session=False)
            )

    def _attach(self, study: Study, parsed: list[ParsedInstance]) -> None:
        if study.uid not in self.fresh and linking.attach_more(
            self.session, study.id, exam_id=self.exam_id, added=len(parsed)
        ):
            return
        attach(self.session, self.actor, study, parsed, exam_id=self.exam_id, found=self.found.get(study.uid))


def instance_row(
    instance_id: str, file: Prepared, series_id: str, study_id: str, org_id: str, now: datetime
) -> dict[str, Any]:
    """The values of a new instance's row."""
    parsed = file.parsed
    has_pixels = parsed.frames.kind != "none"
    return {
        "id": instance_id,
        "uid": parsed.sop_instance_uid,
        "series_id": series_id,
        "study_id": study_id,
        "org_id": org_id,
        "sop_class": parsed.sop_class_uid,
        "transfer_syntax": parsed.transfer_syntax_uid[:64],
        "number": parsed.instance.number,
        "rows": parsed.instance.rows,
        "columns": parsed.instance.columns,
        "frames": len(parsed.frames),
        "has_pixels": has_pixels,
        "object_key": file.object_key,
        "object_offset": file.object_offset,
        "size": file.size,
        "dataset_offset": parsed.dataset_offset,
        "file_sha256": parsed.file_sha256,
        "dataset_sha256": file.dataset_sha256,
        "frame_index": parsed.frames.to_bytes() if has_pixels else b"",
        "notes": list(parsed.notes),
        "made_by_hub": file.source == HUB_SOURCE,
        "created_at": now,
    }


def header_row(instance_id: str, file: Prepared) -> dict[str, Any]:
    """The row of a new instance's header."""
    return {"instance_id": instance_id, "body": file.header, "file_head": sameness.kept_head(file.parsed)}


def attach(
    session: Session,
    actor: Actor,
    study: Study,
    parsed: Sequence[ParsedInstance],
    *,
    exam_id: str | None = None,
    found: Exam | None = None,
) -> None:
    """`linking.attach` for new instances of a study: what they show is said by the first that is an image."""
    image = next((one for one in parsed if one.frames.kind != "none"), parsed[0])
    linking.attach(
        session,
        actor,
        study,
        exam_id=exam_id,
        found=found,
        added=len(parsed),
        modality=image.series.modality,
        body_part=body_part_text(image),
    )


def ask_for_previews(session: Session, study_id: str, *, fresh: bool) -> None:
    """A study arrives file by file: its pictures are made when it starts (`fresh`), and when it pauses."""
    jobs.enqueue(
        session,
        "studies.preview",
        {"study_id": study_id},
        key=f"preview:{study_id}",
        delay=0 if fresh else linking.PREVIEW_PAUSE,
        postpone=True,
    )


def hinted(parsed: ParsedInstance) -> str:
    """The character set that a file shows its sender's devices to use; "" where it shows none."""
    return parsed.charset_found[:20] if parsed.charset_found and not parsed.text_flagged else ""


def _study_uid(file: Prepared | Refusal) -> str:
    return file.parsed.study_instance_uid if isinstance(file, Prepared) else ""


def damaged(session: Session, instance_ids: Iterable[str]) -> set[str]:
    """Those of some instances whose originals were found damaged or missing: who sends them again mends them."""
    found: set[str] = set()
    wanted = list(instance_ids)
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        found.update(
            session.scalars(select(Concern.key).where(Concern.key.in_(part), Concern.kind.in_(("damaged", "missing"))))
        )
    return found


def known(present: Present, study_uid: str, parsed: ParsedInstance) -> Outcome:
    """The outcome of a file that is here already."""
    return _outcome("known", study_uid, present, parsed)


def _outcome(status: Literal["stored", "known"], study_uid: str, present: Present, parsed: ParsedInstance) -> Outcome:
    return Outcome(
        status,
        study_uid=study_uid,
        series_uid=parsed.series_instance_uid,
        sop_uid=present.uid,
        sop_class_uid=present.sop_class,
        instance_id=present.id,
        study_id=present.study_id,
        notes=parsed.notes,
    )


def _keep(session: Session, actor: Actor, file: Refusal, *, exam_id: str | None) -> Outcome:
    """The quarantine row of refused bytes and the outcome for their sender, who is not told the `detail`."""
    reason = reasons.template(file.code)
    shown = {name: value for name, value in file.params.items() if name != "detail"}
    code, row_id = file.code, file.quarantine_id
    message = reasons.words(reason, shown)
    if not row_id and file.code != reasons.DICOMDIR:
        row_id = quarantine.keep(
            session,
            actor,
            org_id=file.org_id,
            source=file.source,
            name=file.name.replace("\0", ""),
            code=file.code,
            reason=reason,
            params=file.params,
            object_key=file.object_key,
            size=file.size,
            sha256=file.sha256,
            study_uid=file.study_uid,
            sop_uid=file.sop_uid,
            exam_id=exam_id,
        ).id
        if not file.object_key and file.size:
            code = reasons.QUARANTINE_FULL
            shown = {"why": str(message)}
            message = reasons.message(code).format(why=message)
    return Outcome(
        "refused",
        code,
        message,
        shown,
        study_uid=file.study_uid,
        sop_uid=file.sop_uid,
        sop_class_uid=file.sop_class_uid,
        quarantine_id=row_id,
    )


def header_patient(parsed: ParsedInstance) -> dict[str, Any]:
    """The header's own identity, as `Study.header_patient` keeps it."""
    about = parsed.patient
    return {
        "name": about.name,
        "patient_id": about.patient_id[:64],
        "issuer": about.issuer[:64],
        "sex": about.sex,
        "birth_date": about.birth_date.isoformat() if about.birth_date else "",
        "age": f"{about.age.value:03d}{about.age.unit}" if about.age else "",
        "name_flagged": about.name_flagged,
    }


def other_patient(study: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    """Whether a header names another patient than its study: by PatientID; where one side has none, by name."""
    if study.get("patient_id") and header.get("patient_id"):
        return bool(study["patient_id"] != header["patient_id"])
    ours, theirs = str(study.get("name") or ""), str(header.get("name") or "")
    return bool(ours and theirs) and linking.plain_name(ours).casefold() != linking.plain_name(theirs).casefold()


def body_part_text(parsed: ParsedInstance) -> str:
    """What a header says about the body part: BodyPartExamined where it is one, else the descriptions."""
    about = parsed.series
    if about.body_part and catalogue.body_part_of(about.body_part):
        return about.body_part
    return " ".join(filter(None, (parsed.study.description, about.description, about.protocol, about.body_part)))
