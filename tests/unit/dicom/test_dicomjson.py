"""The DICOM JSON model (PS3.18 Annex F)."""

from __future__ import annotations

import base64
import json
import struct
import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from hub.dicom.dicomjson import compress, decompress, to_dicom_json
from hub.dicom.errors import DicomRefused
from hub.dicom.reader import read
from support.dicom_bytes import body, element, item, meta

BUNDLED = sorted(
    p for p in Path(pydicom.data.__file__).parent.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
)


def document(more: bytes = b"", **kwargs: object) -> dict:
    parsed = read(meta() + body(more=more, **kwargs))
    return to_dicom_json(parsed.header, bulk_uri=lambda path: f"bulk/{path}", bulk=parsed.bulk)


def test_names_have_their_groups() -> None:
    found = document(charset=b"GBK", name="Wang^Wei=王^伟=".encode("gbk"))
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Wang^Wei", "Ideographic": "王^伟"}]}
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}


def test_pixel_data_is_never_inline() -> None:
    assert document()["7FE00010"] == {"vr": "OW", "BulkDataURI": "bulk/7FE00010"}
    parsed = read(meta() + body())
    assert "7FE00010" not in to_dicom_json(parsed.header, bulk=parsed.bulk)
    dataset = Dataset()
    dataset.add_new(0x7FE00010, "OW", b"abcd")
    assert to_dicom_json(dataset) == {}


def test_bulk_within_a_sequence() -> None:
    icon = element(0x00880200, "SQ", item(element(0x00280010, "US", b"\1\0") + element(0x7FE00010, "OB", b"ab")))
    found = document(after=icon)
    inner = found["00880200"]["Value"][0]
    assert inner["7FE00010"] == {"vr": "OB", "BulkDataURI": "bulk/00880200/0/7FE00010"}
    assert inner["00280010"]["Value"] == [1]


@pytest.mark.parametrize(
    ("tag", "vr", "raw", "expected"),
    [
        (0x00101020, "DS", b"1.75\\2 ", [1.75, 2]),
        (0x00101020, "DS", b"tall", ["tall"]),
        (0x00101020, "DS", b"1e400", ["1e400"]),
        (0x00101020, "DS", b"nan", ["nan"]),
        (0x00101020, "DS", b"1\\\\3 ", [1, None, 3]),
        (0x00201208, "IS", b" 12 ", [12]),
        (0x00201208, "IS", b"1A", ["1A"]),
        (0x00280009, "AT", struct.pack("<HH", 0x18, 0x1063), ["00181063"]),
        (0x00280009, "AT", b"\1\2\3", None),
        (0x00189098, "FD", struct.pack("<2d", 1.5, float("nan")), [1.5, None]),
        (0x00280106, "SS", struct.pack("<h", -5), [-5]),
        (0x00280106, "US", b"\1\0\2", [1]),
        (0x00081190, "UR", b"http://a/b ", ["http://a/b"]),
        (0x00104000, "LT", b"a\\b\r\nc  ", ["a\\b\r\nc"]),
        (0x00080008, "CS", b"ORIGINAL\\\\AXIAL ", ["ORIGINAL", None, "AXIAL"]),
        (0x00080064, "CS", b"", None),
    ],
)
def test_values(tag: int, vr: str, raw: bytes, expected: object) -> None:
    raw_element = element(tag, vr, raw, length=len(raw))
    found = document(raw_element)[f"{tag:08X}"]
    assert found["vr"] == vr
    assert found.get("Value") == expected
    json.dumps(found, allow_nan=False)


def test_inline_binary_is_little_endian() -> None:
    parsed = read(
        b"\0" * 128 + b"DICM" + element(0x00020010, "UI", b"1.2.840.10008.1.2.2")
        + b"".join(
            element(t, "UI", v, little=False)
            for t, v in [(0x00080016, b"1.2"), (0x00080018, b"1.3"), (0x0020000D, b"1.4"), (0x0020000E, b"1.5")]
        )
        + element(0x60003000, "OW", b"\1\2\3\4", little=False)
    )  # fmt: skip
    inline = to_dicom_json(parsed.header)["60003000"]["InlineBinary"]
    assert base64.b64decode(inline) == b"\2\1\4\3"


def test_a_data_set_made_in_memory() -> None:
    dataset = Dataset()
    dataset.PatientName = "王^伟"
    dataset.Rows = 5
    dataset.PixelSpacing = [0.5, 0.25]
    dataset.FrameIncrementPointer = 0x00181063
    inner = Dataset()
    inner.CodeMeaning = "头部"
    dataset.AnatomicRegionSequence = Sequence([inner])
    dataset.EncapsulatedDocument = b"%PDF" * 50_000
    found = to_dicom_json(dataset, bulk_uri=lambda p: f"/bulk/{p}")
    assert found["00100010"]["Value"] == [{"Alphabetic": "王^伟"}]
    assert found["00280030"]["Value"] == [0.5, 0.25]
    assert found["00280009"]["Value"] == ["00181063"]
    assert found["00082218"]["Value"][0]["00080104"]["Value"] == ["头部"]
    assert found["00420011"] == {"vr": "OB", "BulkDataURI": "/bulk/00420011"}
    assert list(found) == sorted(found)


def test_a_data_set_that_pydicom_read_in_another_character_set() -> None:
    path = pydicom.data.get_charset_files("chrI2.dcm")[0]
    found = to_dicom_json(pydicom.dcmread(path))
    assert found["00100010"]["Value"][0]["Ideographic"] == "洪^吉洞"


def test_compressed_and_back() -> None:
    found = document(charset=b"ISO_IR 192", name="王^伟".encode())
    packed = compress(found)
    assert decompress(packed) == found
    for bad in (b"", b"no", compress([])[:-3]):  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            decompress(bad)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.name)
def test_agrees_with_pydicom(path: Path) -> None:
    try:
        parsed = read(path)
    except DicomRefused:
        return  # test_reader says which and why
    mine = to_dicom_json(parsed.header, bulk_uri=lambda p: p, bulk=parsed.bulk)
    json.dumps(mine, allow_nan=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path, force=True).to_json_dict(bulk_data_threshold=1 << 62, suppress_invalid_tags=True)
    bulk = {b.name for b in parsed.bulk}
    for key, value in theirs.items():
        if key[4:] == "0000" or key in bulk or key == "00080005" or key not in mine or value["vr"] != mine[key]["vr"]:
            continue
        if "InlineBinary" in value or value["vr"] in ("SQ", "PN", "UN"):
            continue
        expected = [v.strip() if isinstance(v, str) else v for v in value.get("Value", [])]
        got = [v.strip() if isinstance(v, str) else "" if v is None else v for v in mine[key].get("Value", [])]
        if not any(expected):
            expected = [v for v in expected if v != ""]
        if value["vr"] in ("DS", "IS", "FL"):
            assert [str(v) for v in got] == [str(v) for v in expected] or got == pytest.approx(expected)
        else:
            assert got == expected, key
