"""Generated studies: readable, geometrically sound, labelled, the same for the same seed, in every character set."""

from __future__ import annotations

import io
import shutil
import subprocess
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from hub.dicom import codecs, phantoms, render
from hub.dicom.phantoms import PhantomPatient

PATIENT = PhantomPatient(
    "000123",
    "欧阳小明",
    "M",
    date(1960, 2, 29),
    age=66,
    institution="示例镇卫生院",
    referring_physician="单田芳",
)
WHEN = datetime(2026, 3, 5, 9, 8, 7)  # noqa: DTZ001 - a device knows no zone


def _files(kind: str, **changes: Any) -> list[bytes]:
    arguments: dict[str, Any] = {"seed": 7, "patient": PATIENT, "study_time": WHEN, "slices": 6, "size": 64} | changes
    return list(phantoms.generate(kind, **arguments))


def _read(kind: str, **changes: Any) -> list[pydicom.FileDataset]:
    return [pydicom.dcmread(io.BytesIO(data)) for data in _files(kind, **changes)]


@pytest.mark.parametrize("kind", phantoms.KINDS)
def test_equal_seeds_give_equal_bytes(kind: str) -> None:
    first = _files(kind)
    assert first == _files(kind)
    assert first != _files(kind, seed=8)
    assert len(first) == (6 if kind.startswith("ct") else 1)


@pytest.mark.parametrize("kind", ["ct_head", "ct_chest"])
def test_ct_geometry_suits_reconstruction(kind: str) -> None:
    slices = _read(kind, slices=64, size=32)
    assert len(slices) == 64
    places = [float(ds.ImagePositionPatient[2]) for ds in slices]
    assert np.allclose(np.diff(places), float(slices[0].SliceThickness))
    assert [float(ds.SliceLocation) for ds in slices] == places
    assert [ds.InstanceNumber for ds in slices] == list(range(1, 65))
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({str(ds[name].value) for ds in slices}) == 1
    assert len({str(ds.SOPInstanceUID) for ds in slices}) == 64
    middle = slices[32]
    assert middle.RescaleType == "HU" and middle.PatientPosition == "HFS"
    assert [float(value) for value in middle.ImageOrientationPatient] == [1, 0, 0, 0, 1, 0]
    assert float(middle.ImagePositionPatient[0]) == pytest.approx(-31 / 2 * float(middle.PixelSpacing[1]))


def test_hounsfield_units_are_those_of_tissue() -> None:
    head = codecs.frame_of(_read("ct_head", slices=64, size=128)[36]).astype(int)
    assert head[:8, :8].mean() == pytest.approx(-1000, abs=15)
    brain = head[70:80, 45:55]
    assert 20 < brain.mean() < 45
    assert head.max() > 900
    chest = codecs.frame_of(_read("ct_chest", slices=32, size=128)[18]).astype(int)
    lung = chest[60:75, 30:40]
    assert -900 < np.median(lung) < -800


@pytest.mark.slow
def test_findings_are_there() -> None:
    normal, bleeding = (_read("ct_head", slices=32, size=96, finding=finding) for finding in ("", "hemorrhage"))
    assert _between(bleeding, 55, 85) > _between(normal, 55, 85) + 500
    normal, wet = (_read("ct_chest", slices=16, size=96, finding=finding) for finding in ("", "effusion"))
    assert _between(wet, -700, 3000) > _between(normal, -700, 3000)
    for kind, findings in phantoms.FINDINGS.items():
        for finding in findings:
            assert _files(kind, finding=finding) != _files(kind)


def _between(slices: list[pydicom.FileDataset], low: int, high: int) -> int:
    middle = slices[len(slices) // 4 : -len(slices) // 4]
    return sum(int(((ds.pixel_array > low) & (ds.pixel_array < high)).sum()) for ds in middle)


@pytest.mark.parametrize("kind", ["dr_chest", "dr_limb"])
def test_radiographs(kind: str) -> None:
    (ds,) = _read(kind, size=300)
    assert ds.PhotometricInterpretation == ("MONOCHROME2" if kind == "dr_chest" else "MONOCHROME1")
    (other,) = _read(kind, size=300, monochrome1=kind == "dr_chest")
    assert other.PhotometricInterpretation != ds.PhotometricInterpretation
    pictures = [np.asarray(render.preview(codecs.frame_of(one), one), dtype=int) for one in (ds, other)]
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # right way round, however it is stored
    assert pictures[0][0, 0] == 0
    corner = pictures[0][:60, :60] if kind == "dr_chest" else pictures[0][:90, 220:290]
    assert corner.max() > 240  # the side marker


@pytest.mark.parametrize("kind", phantoms.KINDS)
def test_nobody_takes_it_for_a_patient(kind: str) -> None:
    ds = _read(kind)[0]
    assert ds.ImageComments == "GENERATED PHANTOM - NOT A PATIENT"
    assert ds.ImageType[0] == "DERIVED"
    assert ds.BurnedInAnnotation == "NO"
    assert "phantom" in ds.DerivationDescription


def test_character_sets() -> None:
    (utf8,) = _read("dr_limb", charset="utf-8")
    assert utf8.SpecificCharacterSet == "ISO_IR 192"
    assert str(utf8.PatientName) == "Ouyang^Xiaoming=欧阳^小明"
    assert utf8.InstitutionName == "示例镇卫生院"
    (gb,) = _read("dr_limb", charset="gb18030")
    assert gb.SpecificCharacterSet == "GB18030"
    assert str(gb.PatientName) == "欧阳^小明"
    (wrong,) = _read("dr_limb", charset="gbk-mislabelled")
    assert wrong.SpecificCharacterSet == "ISO_IR 100"
    assert "欧阳小明".encode("gbk") in _files("dr_limb", charset="gbk-mislabelled")[0]
    assert str(wrong.PatientName).encode("latin-1").decode("gbk") == "欧阳小明"
    (latin,) = _read("dr_limb", charset="pinyin")
    assert str(latin.PatientName) == "OUYANG XIAOMING"
    assert str(latin.StudyDescription).isascii() and str(latin.InstitutionName).isascii()


def test_attributes_by_parameter() -> None:
    root = "1.2.826.0.1.3680043.10.4321"
    (ds,) = _read("dr_chest", accession="A1", uid_root=root)
    assert (ds.PatientID, ds.AccessionNumber, ds.PatientAge) == ("000123", "A1", "066Y")
    assert (ds.StudyDate, ds.StudyTime, ds.PatientBirthDate) == ("20260305", "090807", "19600229")
    for uid in (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID):
        assert uid.startswith(root + ".") and uid.is_valid
    (nobody,) = _read("dr_chest", patient=PhantomPatient("1", ""))
    assert (nobody.PatientBirthDate, str(nobody.PatientName)) == ("", "")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mr_knee", {}),
        ("ct_head", {"finding": "nodule"}),
        ("ct_head", {"slices": 0}),
        ("dr_limb", {"size": 4}),
        ("dr_limb", {"charset": "ebcdic"}),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(kind: str, changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"seed": 1, "patient": PATIENT, "study_time": WHEN} | changes
    with pytest.raises(ValueError, match=r"\w"):
        phantoms.generate(kind, **arguments)


@pytest.mark.stranger
@pytest.mark.parametrize("kind", phantoms.KINDS)
@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "gbk-mislabelled", "pinyin"])
def test_dciodvfy_finds_no_error(kind: str, charset: str, tmp_path: Path) -> None:
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    path = tmp_path / "image.dcm"
    path.write_bytes(_files(kind, charset=charset)[-1])
    done = subprocess.run([tool, "-new", str(path)], capture_output=True, check=False)
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert "Error" not in said, said
    assert ("CTImage" if kind.startswith("ct") else "DXImageForPresentation") in said


def test_previews_are_pictures() -> None:
    for kind in phantoms.KINDS:
        ds = _read(kind, size=128)[3 if kind.startswith("ct") else 0]
        image = render.preview(codecs.frame_of(ds), ds)
        assert isinstance(image, Image.Image)
        assert np.asarray(image).std() > 20
