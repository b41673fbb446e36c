"""Small DICOM files and registration forms as a township clinic would send them."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hub.exams.registration import RegistrationForm
from hub.kit.ids import new_uid

CT = "1.2.840.10008.5.1.4.1.1.2"


def dicom_file(
    *,
    study: str | None = None,
    series: str | None = None,
    sop: str | None = None,
    name: str = "WANG^WEI",
    patient_id: str = "P1",
    sex: str = "M",
    birth: str = "19810101",
    modality: str = "CT",
    number: int = 1,
    accession: str = "",
    side: int = 16,
    **more: Any,
) -> bytes:
    """One image of 16 × 16 pixels unless told otherwise."""
    sop = sop or new_uid()
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = CT, sop
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study or new_uid(), series or new_uid()
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = name, patient_id, sex, birth
    ds.Modality, ds.InstanceNumber, ds.AccessionNumber = modality, number, accession
    ds.StudyDate, ds.StudyTime, ds.BodyPartExamined = "20260102", "101500", "CHEST"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    rng = np.random.default_rng(number)
    ds.PixelData = rng.integers(0, 4000, (side, side), dtype=np.uint16).tobytes()
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = CT, sop
    out = io.BytesIO()
    ds.save_as(out, enforce_file_format=True)
    return out.getvalue()


def zip_of(files: dict[str, bytes]) -> bytes:
    """A ZIP with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def form_values(**changes: Any) -> dict[str, Any]:
    """A complete registration as JSON values."""
    return {
        "name": "王伟",
        "sex": "M",
        "birth_date": "1981-05-12",
        "number": "P1",
        "phone": "13800001234",
        "department": "内科",
        "doctor": "李明",
        "doctor_phone": "13900001234",
        "modality": "CT",
        "body_parts": ["chest"],
        "history": "咳嗽咳痰一周",
        **changes,
    }


def form(**changes: Any) -> RegistrationForm:
    """A complete registration."""
    return RegistrationForm.model_validate(form_values(**changes))
