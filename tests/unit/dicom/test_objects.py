"""SR and Encapsulated PDF of a signed report: valid to strangers, text unharmed."""

from __future__ import annotations

import io
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import pydicom
import pytest

from hub.dicom import objects
from hub.dicom.objects import Evidence, Observer, Predecessor, ReportObjectContext

CT = "1.2.840.10008.5.1.4.1.1.2"
SIGNED = datetime(2026, 3, 5, 18, 30, 15, tzinfo=UTC)
FINDINGS = "双肺纹理清晰,右肺上叶见磨玻璃结节,大小约 8×6 mm。\n纵隔未见肿大淋巴结。喆珺堃赟祎 䶮 50% > 3.2 cm²"


@pytest.fixture
def context() -> ReportObjectContext:
    return ReportObjectContext(
        study_instance_uid="1.2.3.4.5",
        study_date=date(2026, 3, 5),
        study_time=time(9, 8, 7),
        study_id="S1",
        study_description="胸部CT平扫",
        accession_number="A20260305001",
        patient_id="000123",
        issuer_of_patient_id="YD-01",
        patient_name="王伟",
        patient_sex="M",
        patient_birth_date=date(1960, 2, 29),
        referring_physician="欧阳娜娜",
        performing_institution="示例镇卫生院",
        reading_institution="示例县人民医院",
        author=Observer("单田芳", "示例县人民医院", SIGNED),
        reviewer=Observer("李娜", "示例县人民医院", SIGNED),
        findings=FINDINGS,
        impression="1. 右肺上叶磨玻璃结节。\n2. 未见气胸。",
        recommendation="3 个月后复查。",
        history="咳嗽 2 周",
        technique="CT 平扫,层厚 5 mm",
        report_number="XH20260305-0001",
        signed_at=SIGNED,
        evidence=(
            Evidence("1.2.3.4.5.1", CT, "1.2.3.4.5.1.1"),
            Evidence("1.2.3.4.5.1", CT, "1.2.3.4.5.1.2"),
            Evidence("1.2.3.4.5.2", CT, "1.2.3.4.5.2.1"),
            Evidence("1.2.3.9.1", CT, "1.2.3.9.1.1", study_instance_uid="1.2.3.9"),
        ),
    )


def _read(ds: pydicom.Dataset) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(objects.to_part10(ds)))


@pytest.mark.parametrize(
    ("name", "pinyin", "expected"),
    [
        ("王伟", "", "Wang^Wei=王^伟"),
        ("王伟", "WANG WEI", "WANG^WEI=王^伟"),
        ("王 小 明", "Wang Xiao Ming", "Wang^XiaoMing=王^小明"),
        ("欧阳娜娜", "", "Ouyang^Nana=欧阳^娜娜"),
        ("单田芳", "", "Shan^Tianfang=单^田芳"),
        ("万俟小明", "", "Moqi^Xiaoming=万俟^小明"),
        ("东方", "", "Dong^Fang=东^方"),
        ("买买提·艾力", "", "Mai^Maitiaili=买^买提·艾力"),
        ("吕布", "", "Lv^Bu=吕^布"),
        ("Müller^Hans", "", "Müller^Hans"),
        ("John=Smith\\x", "", "John Smith/x"),
        ("", "", ""),
    ],
)
def test_person_name(name: str, pinyin: str, expected: str) -> None:
    assert objects.person_name(name, pinyin) == expected


def test_uids_are_derived_from_what_they_mean() -> None:
    first = objects.make_uid("2.25", "sr", "N1", 1)
    assert first == objects.make_uid("2.25.", "sr", "N1", 1) != objects.make_uid("2.25", "sr", "N1", 2)
    assert pydicom.uid.UID(first).is_valid
    own = objects.make_uid("1.2.826.0.1.3680043.10.1234", "sr", "N1", 1)
    assert own.startswith("1.2.826.0.1.3680043.10.1234.") and pydicom.uid.UID(own).is_valid
    with pytest.raises(ValueError, match="root"):
        objects.make_uid("1." * 30 + "1", "x")


def test_sr_text_comes_back_unharmed(context: ReportObjectContext) -> None:
    ds = _read(objects.basic_sr(context))
    text = objects.read_basic_sr(ds)
    assert text.sections == {
        name: getattr(context, name) for name in ("history", "technique", "findings", "impression", "recommendation")
    }
    assert (text.report_number, text.version, text.kind) == ("XH20260305-0001", "1", "诊断报告")
    assert text.performing_institution == "示例镇卫生院"
    assert text.author == "Shan^Tianfang=单^田芳"
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    assert str(ds.PatientName) == "Wang^Wei=王^伟"
    assert (ds.ContentDate, ds.ContentTime, ds.TimezoneOffsetFromUTC) == ("20260306", "023015", "+0800")
    verifier = ds.VerifyingObserverSequence[0]
    assert verifier.VerificationDateTime == "20260306023015+0800"
    assert verifier.VerifyingOrganization == "示例县人民医院"
    assert [
        len(s.ReferencedSOPSequence) for s in ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    ] == [2, 1]
    assert ds.PertinentOtherEvidenceSequence[0].StudyInstanceUID == "1.2.3.9"


def test_equal_input_gives_equal_bytes(context: ReportObjectContext) -> None:
    assert objects.to_part10(objects.basic_sr(context)) == objects.to_part10(objects.basic_sr(context))
    given = objects.basic_sr(context, series_instance_uid="1.9", sop_instance_uid="1.9.1")
    assert (given.SeriesInstanceUID, given.SOPInstanceUID) == ("1.9", "1.9.1")


@pytest.mark.parametrize("size", [2000, 2001])
def test_pdf_comes_back_to_the_byte(context: ReportObjectContext, size: int) -> None:
    pdf = (b"%PDF-1.7\n" + b"x" * size)[:size]
    ds = _read(objects.encapsulated_pdf(context, pdf))
    assert ds.EncapsulatedDocumentLength == size
    assert len(ds.EncapsulatedDocument) == size + size % 2
    assert objects.read_pdf(ds) == pdf
    assert ds.DocumentTitle == "诊断报告 XH20260305-0001 v1"


def test_correction_names_its_predecessor(context: ReportObjectContext) -> None:
    first = objects.basic_sr(context)
    second = objects.basic_sr(
        replace(
            context,
            kind="correction",
            version=2,
            predecessors=(Predecessor(first.SeriesInstanceUID, objects.BASIC_TEXT_SR, first.SOPInstanceUID),),
        )
    )
    assert second.SOPInstanceUID != first.SOPInstanceUID
    assert second.SeriesInstanceUID == first.SeriesInstanceUID
    item = second.PredecessorDocumentsSequence[0]
    assert item.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID


def test_what_cannot_be_a_report_is_refused(context: ReportObjectContext) -> None:
    with pytest.raises(ValueError, match="findings"):
        objects.basic_sr(replace(context, findings="", impression=" \n"))
    with pytest.raises(ValueError, match="reviewer"):
        objects.basic_sr(replace(context, reviewer=None))
    with pytest.raises(ValueError, match="aware"):
        objects.basic_sr(replace(context, signed_at=datetime(2026, 3, 5)))  # noqa: DTZ001
    with pytest.raises(ValueError, match="PDF"):
        objects.encapsulated_pdf(context, b"<html>")


def test_control_characters_and_backslashes_do_no_harm(context: ReportObjectContext) -> None:
    ds = _read(
        objects.basic_sr(replace(context, findings="a\x00b\\c\x1b\r\nd\te", study_description="头\\颈\n部" * 30))
    )
    assert objects.read_basic_sr(ds).sections["findings"] == "ab\\c\nd\te"
    assert isinstance(ds.StudyDescription, str) and len(ds.StudyDescription) <= 64 and "\\" not in ds.StudyDescription


def _variants(context: ReportObjectContext) -> dict[str, ReportObjectContext]:
    return {
        "full": context,
        "no-birth-date": replace(context, patient_birth_date=None, patient_sex="", study_date=None, study_time=None),
        "bare": replace(
            context,
            evidence=(),
            history="",
            technique="",
            recommendation="",
            accession_number="",
            study_description="",
            referring_physician="",
            issuer_of_patient_id="",
            impression="",
        ),
        "preliminary": replace(context, kind="preliminary", verified=False, reviewer=None, completed=False),
        "correction": replace(
            context,
            kind="correction",
            version=2,
            predecessors=(Predecessor("1.2.8", objects.BASIC_TEXT_SR, "1.2.8.1"),),
        ),
    }


@pytest.mark.stranger
@pytest.mark.parametrize("variant", ["full", "no-birth-date", "bare", "preliminary", "correction"])
def test_dciodvfy_finds_no_error(context: ReportObjectContext, variant: str, tmp_path: Path) -> None:
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    chosen = _variants(context)[variant]
    for name, ds in (
        ("sr", objects.basic_sr(chosen)),
        ("pdf", objects.encapsulated_pdf(chosen, b"%PDF-1.7\n%%EOF")),
    ):
        path = tmp_path / f"{name}.dcm"
        path.write_bytes(objects.to_part10(ds))
        done = subprocess.run([tool, "-new", str(path)], capture_output=True, text=True, errors="replace", check=False)
        said = done.stdout + done.stderr
        assert "Error" not in said, said
        assert {"sr": "BasicTextSR", "pdf": "EncapsulatedPDF"}[name] in said


@pytest.mark.stranger
def test_dsrdump_reads_the_sr(context: ReportObjectContext, tmp_path: Path) -> None:
    tool = shutil.which("dsrdump")
    if tool is None:
        pytest.skip("dsrdump (DCMTK) is not installed")
    path = tmp_path / "sr.dcm"
    path.write_bytes(objects.to_part10(objects.basic_sr(context)))
    done = subprocess.run([tool, "+Pl", str(path)], capture_output=True, check=False)
    text = done.stdout.decode("utf-8")
    assert done.returncode == 0, done.stderr
    assert "未见气胸" in text and "磨玻璃结节" in text
    assert "error" not in done.stderr.decode().lower(), done.stderr
