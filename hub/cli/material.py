"""What `hub rehearse` sends: files of a folder under fresh UIDs, or generated images, one case for each study."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from hub.cli.client import Outgoing
from hub.dicom import phantoms, reader
from hub.dicom.errors import DicomRefused
from hub.exams import catalogue
from hub.kit import clock
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.studies.sameness import dataset_sha256

# UIDs that name a kind of thing, not a thing: SOP classes, transfer syntaxes, implementations (PS3.6 annex A).
_KINDS = frozenset({0x00020002, 0x00020010, 0x00020012, 0x00080016, 0x00081150, 0x00081151, 0x0008001A, 0x00080062})
_WELL_KNOWN = "1.2.840.10008."


@dataclass(slots=True)
class Image:
    """One file of a case: its place in the study and how to send it."""

    path: str
    sop_uid: str
    series_uid: str
    frames: int
    outgoing: Outgoing

    def dataset(self) -> Dataset:
        """As pydicom reads it."""
        source = self.outgoing.source
        return pydicom.dcmread(
            source if isinstance(source, Path) else pydicom.filebase.DicomBytesIO(source), force=True
        )


@dataclass(slots=True)
class Case:
    """One study with what its clinic would register. `form`: the body of `POST /api/exams`."""

    study_uid: str
    form: dict[str, Any]
    images: list[Image] = field(default_factory=list)


@dataclass(slots=True)
class Material:
    """Cases, and files that no case can be made of: they are sent as they are, and the hub should refuse them."""

    cases: list[Case] = field(default_factory=list)
    others: list[Outgoing] = field(default_factory=list)


class _Renewal:
    """Fresh UIDs, the same for the same old one, over all the files of a folder."""

    def __init__(self) -> None:
        self._new: dict[str, str] = {}

    def uid(self, old: str) -> str:
        """The new UID of a thing."""
        return self._new.setdefault(old, new_uid())

    def renew(self, dataset: Dataset) -> None:
        """Replace every UID of a thing in a data set and its sequences; other elements are not even parsed."""
        for tag in list(dataset.keys()):
            if tag in _KINDS:
                continue
            raw = dataset.get_item(tag)
            vr = raw.VR if raw is not None else None
            if vr in (None, "UN"):
                try:
                    vr = dictionary_VR(tag)
                except KeyError:
                    continue
            if vr == "SQ":
                for item in dataset[tag].value or []:
                    self.renew(item)
            elif vr == "UI":
                element = dataset[tag]
                values = element.value if element.VM > 1 else [element.value]
                renewed = [
                    self.uid(str(one)) if one and not str(one).startswith(_WELL_KNOWN) else str(one or "")
                    for one in values
                ]
                element.value = renewed if len(renewed) > 1 else renewed[0]


def gather(folder: Path, work: Path) -> Material:
    """The files below `folder`, with fresh UIDs, as cases.

    Args:
        folder: Read in the order of names; symbolic links are left alone.
        work: Where the rewritten files are put.

    A file that this program cannot read goes as it is.
    """
    found = Material()
    cases: dict[str, Case] = {}
    renewal = _Renewal()
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    hashes: dict[str, str] = {}
    for number, path in enumerate(paths):
        name = path.relative_to(folder).as_posix()
        target = work / f"{number:06}.dcm"
        parsed = _rewritten(path, target, renewal, hashes)
        if parsed is None:
            found.others.append(Outgoing(name, path))
            continue
        study = renewal.uid(parsed.study_instance_uid)
        case = cases.get(study)
        if case is None:
            case = cases[study] = Case(study, form_of(parsed, len(cases)))
            found.cases.append(case)
        case.images.append(
            Image(
                name,
                str(pydicom.dcmread(target, force=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID),
                renewal.uid(parsed.series_instance_uid),
                parsed.frames.count,
                Outgoing(name, target),
            )
        )
    return found


def _rewritten(path: Path, target: Path, renewal: _Renewal, hashes: dict[str, str]) -> reader.ParsedInstance | None:
    """Write `path` with fresh UIDs to `target`; None where it cannot be read.

    Two different images under one SOP Instance UID (copies in another compression, say) become two instances;
    `hashes` remembers the first data set of each.
    """
    try:
        parsed = reader.read(path, hashes=False)
        if parsed.kind != "instance":
            return None
        dataset = pydicom.dcmread(path, force=True)
        renewal.renew(dataset)
        hashed = dataset_sha256(path, parsed.dataset_offset)
        if hashes.setdefault(parsed.sop_instance_uid, hashed) != hashed:
            dataset.SOPInstanceUID = renewal.uid(f"{parsed.sop_instance_uid}/{hashed}")
        meta = getattr(dataset, "file_meta", None)
        if meta is not None and "MediaStorageSOPInstanceUID" in meta:
            meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dcmwrite(target, dataset, enforce_file_format=meta is not None and "TransferSyntaxUID" in meta)
    except (DicomRefused, OSError, ValueError, TypeError, AttributeError, KeyError, NotImplementedError):
        return None
    return parsed


def form_of(parsed: reader.ParsedInstance, number: int) -> dict[str, Any]:
    """A registration that agrees with a header; what the header leaves open is made up."""
    about = parsed.patient
    name = re.sub(r"\s+", " ", about.name.split("=", maxsplit=1)[0].replace("^", " ")).strip()[:60] or "演练患者"
    text = parsed.series.body_part
    if not catalogue.body_part_of(text):
        text = " ".join((parsed.study.description, parsed.series.description, parsed.series.protocol, text))
    modality = catalogue.modality_family(parsed.series.modality)
    part = catalogue.body_part_of(text) or "whole"
    part_sex = catalogue.BODY_PARTS[part].sex
    sex = about.sex if about.sex in ("M", "F", "O") else "O"
    form: dict[str, Any] = {
        "name": name,
        "sex": sex,
        "number": about.patient_id.strip(),
        "phone": "13800000000",
        "encounter": "outpatient",
        "encounter_number": f"YL{number + 1:04}",
        "department": "内科",
        "doctor": "李明",
        "doctor_phone": "13900000000",
        "modality": modality,
        "body_parts": [part if part_sex in ("", sex) else "whole"],
        "history": "演练:咳嗽三天,无发热",
        "priority": ("routine", "urgent", "emergency")[number % 3],
        "pregnancy": "no",
    }
    born, today = about.birth_date, clock.local(clock.now(), get_settings().timezone).date()
    if born is not None and date(1881, 1, 1) < born <= today:
        form["birth_date"] = born.isoformat()
    else:
        form["age"] = str(about.age.years) if about.age and about.age.years <= 150 else "45"
    return form


def generated(*, small: bool = False) -> Material:
    """A chest radiograph and a head CT of people who do not exist, whose headers are written in two ways."""
    found = Material()
    now = clock.local(clock.now(), get_settings().timezone)
    seed = clock.now().microsecond
    plans = (
        (
            "dr_chest",
            "pinyin",
            phantoms.PhantomPatient(f"R{seed:06}", "欧阳喆", "F", pinyin="Ouyang Zhe", age=52),
            "52",
        ),
        (
            "ct_head",
            "gbk-mislabelled",
            phantoms.PhantomPatient(f"R{seed:06}B", "王珺", "M", birth_date=date(1958, 3, 9)),
            "",
        ),
    )
    for number, (kind, charset, patient, age) in enumerate(plans):
        files = phantoms.generate(
            kind,
            seed=seed,
            patient=patient,
            study_time=(now - timedelta(minutes=5)).replace(tzinfo=None),
            charset=charset,  # type: ignore[arg-type]
            slices=8 if small else 60,
            size=128 if small else None,
            uid_root="2.25",
        )
        case = _of_bytes(kind, files, number)
        case.form |= {"name": patient.name, "history": "演练:头痛两天" if kind == "ct_head" else "演练:咳嗽三天"}
        if age:
            case.form["age"] = age
            case.form.pop("birth_date", None)
        found.cases.append(case)
    return found


def _of_bytes(kind: str, files: Iterator[bytes], number: int) -> Case:
    renewal = _Renewal()
    case: Case | None = None
    for index, data in enumerate(files):
        parsed = reader.read(data, hashes=False)
        dataset = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        renewal.renew(dataset)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        out = pydicom.filebase.DicomBytesIO()
        dcmwrite(out, dataset)
        case = case or Case(str(dataset.StudyInstanceUID), form_of(parsed, number))
        name = f"{kind}/{index + 1:04}.dcm"
        case.images.append(
            Image(
                name,
                str(dataset.SOPInstanceUID),
                str(dataset.SeriesInstanceUID),
                parsed.frames.count,
                Outgoing(name, out.getvalue()),
            )
        )
    assert case is not None
    return case
