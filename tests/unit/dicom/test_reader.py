"""Reading files: good, odd, broken and hostile."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import time
import warnings
import zlib
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hub.dicom.dicomjson import to_dicom_json
from hub.dicom.errors import MESSAGES, DicomRefused
from hub.dicom.reader import Limits, read, sniff
from support.dicom_bytes import (
    EXPLICIT,
    ITEM_END,
    SEQUENCE_END,
    UNDEFINED,
    body,
    element,
    identifiers,
    implicit,
    item,
    meta,
    us,
)

BUNDLED = sorted(
    p for p in Path(pydicom.data.__file__).parent.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
)
REFUSED_BUNDLED = {"MR_truncated.dcm": "truncated", "rtplan_truncated.dcm": "truncated", "zipMR.gz": "not-dicom"}


def refusal(data: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(DicomRefused) as caught:
        read(data, limits=limits or Limits())
    found = caught.value
    assert found.message_zh
    assert found.message_en
    assert "{" not in found.message_zh + found.message_en
    return found.code


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.name)
def test_every_bundled_file_is_read_or_refused(path: Path) -> None:
    try:
        parsed = read(path)
    except DicomRefused as refused:
        assert refused.code == REFUSED_BUNDLED.get(path.name, refused.code)
        return
    assert path.name not in REFUSED_BUNDLED
    data = path.read_bytes()
    assert parsed.file_size == len(data)
    assert parsed.file_sha256 == hashlib.sha256(data).hexdigest()
    assert parsed.head == data[: parsed.dataset_offset]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path, force=True)
        if parsed.kind == "instance":
            assert parsed.sop_instance_uid == theirs.SOPInstanceUID
            assert parsed.study_instance_uid == theirs.StudyInstanceUID
        mine = parsed.header
        bulk = {b.path[0] for b in parsed.bulk if len(b.path) == 1}
        for tag in list(theirs.keys()):
            if tag.element == 0 or tag == 0x00080005 or int(tag) in bulk or int(tag) == 0xFFFCFFFC:
                continue
            if theirs[tag].VR in ("SQ", "UN", "PN", "LO", "SH", "LT", "ST", "UT", "UC"):
                assert tag in mine
            else:
                assert mine[tag].value == theirs[tag].value or str(mine[tag].value) == str(theirs[tag].value), tag
        to_dicom_json(mine, bulk_uri=str, bulk=parsed.bulk)


def test_plain_instance() -> None:
    more = element(0x00100030, "DA", b"19800229") + element(0x00100040, "CS", b"F") + element(0x00101010, "AS", b"045Y")
    parsed = read(meta() + body(more=more))
    assert parsed.notes == ()
    assert parsed.kind == "instance"
    assert (parsed.sop_instance_uid, parsed.study_instance_uid, parsed.series_instance_uid) == (
        "1.2.3.4",
        "1.2.3.1",
        "1.2.3.2",
    )
    assert parsed.transfer_syntax_uid == EXPLICIT
    assert (parsed.patient.name, parsed.patient.patient_id, parsed.patient.sex) == ("WANG^WEI", "P1", "F")
    assert str(parsed.patient.birth_date) == "1980-02-29"
    assert parsed.patient.age is not None
    assert parsed.patient.age.years == 45
    assert parsed.series.modality == "CT"
    assert (parsed.instance.rows, parsed.instance.columns, parsed.instance.frames) == (4, 6, 1)
    assert "PixelData" not in parsed.header
    assert parsed.header.PatientName == "WANG^WEI"


def test_from_path_open_file_and_bytes(tmp_path: Path) -> None:
    data = meta() + body()
    path = tmp_path / "a"
    path.write_bytes(data)
    with path.open("rb") as file:
        assert read(path).file_sha256 == read(str(path)).file_sha256 == read(file).file_sha256
    assert read(data, hashes=False).file_sha256 == ""


@pytest.mark.parametrize(
    ("declared", "codec"), [(b"ISO_IR 100", "gbk"), (b"GBK", "gbk"), (None, "utf_8"), (b"ISO_IR 192", "gbk")]
)
def test_text_is_repaired_everywhere(declared: bytes | None, codec: str) -> None:
    nested = element(0x00401001, "SH", "检查一".encode(codec))
    more = element(0x00102297, "PN", "张^誠".encode(codec)) + element(
        0x00400275, "SQ", item(nested + ITEM_END, length=UNDEFINED) + SEQUENCE_END, length=UNDEFINED
    )
    parsed = read(meta() + body(charset=declared, name="王^喆".encode(codec), more=more))
    assert parsed.patient.name == "王^喆"
    assert not parsed.patient.name_flagged
    assert parsed.header.PatientName == "王^喆"
    assert parsed.header.PatientName.family_name == "王"
    assert str(parsed.header[0x00102297].value) == "张^誠"
    assert parsed.header[0x00400275].value[0][0x00401001].value == "检查一"
    assert parsed.header.SpecificCharacterSet == "ISO_IR 192"
    document = to_dicom_json(parsed.header)
    assert document["00100010"]["Value"] == [{"Alphabetic": "王^喆"}]
    assert document["00400275"]["Value"][0]["00401001"]["Value"] == ["检查一"]
    assert ("charset-repaired" in parsed.notes) == (declared != b"GBK")
    assert ("bad-charset-term" in parsed.notes) is False


def test_items_may_have_a_character_set_of_their_own() -> None:
    nested = element(0x00080005, "CS", b"ISO_IR 144") + element(0x00100010, "PN", "Люкceмбypг".encode("iso8859_5"))
    more = element(0x00101002, "SQ", item(nested))
    parsed = read(meta() + body(charset=b"GB18030", name="王伟".encode("gbk"), more=more))
    assert parsed.header[0x00101002].value[0].PatientName == "Люкceмбypг"
    assert parsed.header.PatientName == "王伟"


def test_cyrillic_under_a_latin_set_is_kept_and_flagged() -> None:
    raw = "Емельянова^Антонина^Ивановна".encode("cp1251")
    data = meta() + body(charset=None, name=raw, more=element(0x00101040, "LO", "Пневмония слева".encode("cp1251")))
    parsed = read(data)
    assert parsed.patient.name == raw.decode("latin_1")
    assert parsed.patient.name_flagged
    assert "text-flagged" in parsed.notes
    assert read(data, hint="windows-1251").patient.name == "Емельянова^Антонина^Ивановна"


# -- oddities that are tolerated --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (body(), "no-file-meta"),
        (meta()[128:] + body(), "no-preamble"),
        (meta(None) + body(), "no-transfer-syntax"),
        (meta("1.2.840.10008.1.2") + body(), "encoding-differs"),
        (meta() + body(patient_id=None), "no-patient-id"),
        (meta() + body(charset=b"GBK8"), "bad-charset-term"),
        (meta() + body(charset=b"ISO_IR 58"), "bad-charset-term"),
        (b"II*\0" + meta()[4:] + body(), "preamble-not-empty"),
        (meta() + body(after=bytes(20)), "trailing-bytes"),
        (meta() + body(pixels=bytes(40)), "pixel-data-short"),
        (meta("1.2.840.10008.1.2.4.90") + body(encapsulated=[b"", b"ab"], close=False), "no-sequence-delimiter"),
        (meta(uid="9.9") + body(), "file-meta-uid-differs"),
        (meta() + body(more=element(0x00100030, "DA", b"19801399")), "bad-date"),
        (meta() + body(frames=0, pixels=bytes(48)), "bad-number-of-frames"),
        (meta() + body(frames=2).replace(b"IS\2\0002 ", b"IS\2\0002A"), "bad-number-of-frames"),
        (meta() + body()[:-60], "no-pixel-data"),
        (meta() + body(name=b""), "no-patient-name"),
        (meta() + body(more=element(0x00100020, "LO", b"P2")), "duplicate-element"),
        (meta() + body(more=implicit(0x00102000, b"text ")), "implicit-element-in-explicit"),
        (meta() + body(more=element(0x00101030, "ZZ", b"12")), "unknown-vr"),
    ],
)
def test_tolerated_and_noted(data: bytes, note: str) -> None:
    parsed = read(data)
    assert note in parsed.notes
    assert parsed.study_instance_uid == "1.2.3.1"


def test_implicit_big_endian_and_undefined_length() -> None:
    ids = [(0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0"), (0x00080018, b"1.2.3.4\0")]
    rest = [(0x00100020, b"P1"), (0x0020000D, b"1.2.3.1\0"), (0x0020000E, b"1.2.3.2\0")]
    sequence = implicit(0x00081140, length=UNDEFINED)
    sequence += item(implicit(0x00081155, b"1.2\0") + ITEM_END, length=UNDEFINED) + SEQUENCE_END
    data = b"".join(implicit(t, v) for t, v in ids) + sequence + b"".join(implicit(t, v) for t, v in rest)
    parsed = read(meta("1.2.840.10008.1.2") + data)
    assert parsed.header[0x00081140].value[0][0x00081155].value == "1.2"
    big = b"".join(element(t, "UI" if t != 0x00100020 else "LO", v, little=False) for t, v in ids + rest)
    big += element(0x00280010, "US", b"\x01\x02", little=False)
    parsed = read(meta("1.2.840.10008.1.2.2") + big)
    assert parsed.instance.rows == 0x0102
    assert read(big).transfer_syntax_uid == "1.2.840.10008.1.2.2"


def test_un_of_undefined_length_is_an_implicit_sequence() -> None:
    inner = item(implicit(0x00100020, b"X1") + ITEM_END, length=UNDEFINED) + SEQUENCE_END
    parsed = read(meta() + body(more=element(0x00111010, "UN", inner, length=UNDEFINED)))
    assert parsed.header[0x00111010].value[0].PatientID == "X1"


def test_lost_delimiters_at_the_end() -> None:
    nested = element(0x0040A730, "SQ", item(element(0x00100020, "LO", b"P3"), length=UNDEFINED), length=UNDEFINED)
    parsed = read(meta() + body(after=nested))
    assert "no-item-delimiter" in parsed.notes


def test_dicomdir() -> None:
    record = element(0x00041430, "CS", b"IMAGE") + element(0x00041500, "CS", b"DIR\\IM1")
    data = (
        meta(sop_class="1.2.840.10008.1.3.10")
        + element(0x00041130, "CS", b"X")
        + element(0x00041220, "SQ", item(record))
    )
    parsed = read(data)
    assert parsed.kind == "dicomdir"
    assert parsed.referenced_files == (("DIR", "IM1"),)


def test_large_values_stay_in_the_file() -> None:
    document = bytes(range(256)) * 1024
    data = meta() + body(after=element(0x00420011, "OB", document)).replace(b"", b"", 0)
    parsed = read(data)
    bulk = {b.name: b for b in parsed.bulk}
    assert set(bulk) == {"7FE00010", "00420011"}
    ((offset, length),) = bulk["00420011"].segments
    assert data[offset : offset + length] == document
    assert 0x00420011 not in parsed.header


# -- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello", "not-dicom"),
        (b"\xff\xd8\xff" + bytes(500), "not-dicom"),
        (bytes(1000), "not-dicom"),
        (b"MZ" + meta()[2:] + body(), "executable-preamble"),
        (b"\x7fELF" + meta()[4:] + body(), "executable-preamble"),
        (b"#!/bin/sh\n" + meta()[10:] + body(), "executable-preamble"),
        (b"\xcf\xfa\xed\xfe" + meta()[4:] + body(), "executable-preamble"),
        (b"\xca\xfe\xba\xbe" + meta()[4:] + body(), "executable-preamble"),
        (b"MZ" + bytes(1000), "not-dicom"),
        (meta(), "no-uids"),
        (meta() + identifiers(), "no-uids"),
        (meta() + body()[:-1], "truncated"),
        (meta() + body()[:-55], "truncated"),
        (meta()[:150], "truncated"),
        (meta() + body(more=element(0x00102000, "UT", b"abc", length=0xFFFFFFF0)), "absurd-length"),
        (meta() + body(more=element(0x00081140, "SQ", item(b"abcd", length=1000))), "absurd-length"),
        (meta() + body(more=element(0x00081140, "SQ", b"\1\2\3\4\5\6\7\x08")), "broken-structure"),
        (meta() + body().replace(b"1.2.3.1\0", b"1.2.A.1\0"), "invalid-uid"),
        (meta() + body().replace(b"1.2.3.1\0", b"1..23.1\0"), "invalid-uid"),
        (meta() + body().replace(b"1.2.3.1\0", b"../../x\0"), "invalid-uid"),
        (meta() + body(rows=65535, columns=65535, pixels=b"ab"), "frame-too-large"),
        (meta("1.2.840.10008.1.2.4.90") + body(encapsulated=[b"", b"abcdefgh"])[:-12], "truncated"),
        (meta("1.2.840.10008.1.2.1.99") + b"\xff" * 100, "broken-structure"),
        (meta("1.2.840.10008.1.2.1.99") + zlib.compress(body())[2:-8], "truncated"),
    ],
)
def test_refused_with_the_reason(data: bytes, code: str) -> None:
    assert refusal(data) == code


def test_uid_of_65_characters() -> None:
    long = b"1." + b"2" * 64
    assert refusal(meta() + body().replace(element(0x0020000D, "UI", b"1.2.3.1"), element(0x0020000D, "UI", long))) == (
        "invalid-uid"
    )


def test_file_larger_than_the_limit(tmp_path: Path) -> None:
    claim = tmp_path / "big"
    with claim.open("wb") as file:
        file.truncate(11 << 30)  # sparse
    with pytest.raises(DicomRefused) as caught:
        read(claim)
    assert caught.value.code == "too-large"


def test_code_stream_that_claims_gigabytes() -> None:
    siz = (
        b"\xff\x4f\xff\x51"
        + struct.pack(">HHLLLLLLLLH", 41, 0, 60000, 60000, 0, 0, 60000, 60000, 0, 0, 1)
        + b"\x0f\1\1"
    )
    assert refusal(meta("1.2.840.10008.1.2.4.90") + body(encapsulated=[b"", siz])) == "frame-too-large"
    sof = b"\xff\xd8\xff\xe0\0\4ab\xff\xc0" + struct.pack(">HBHHB", 17, 8, 60000, 60000, 3) + bytes(9)
    assert refusal(meta("1.2.840.10008.1.2.4.50") + body(encapsulated=[b"", sof])) == "frame-too-large"


def test_nesting_bombs() -> None:
    depth = 20_000
    opened = b"".join(element(0x00081140, "SQ", length=UNDEFINED) + item(length=UNDEFINED) for _ in range(depth))
    assert refusal(meta() + body(more=opened)) == "bomb"
    data = b""
    for _ in range(500):  # of defined length
        data = element(0x00081140, "SQ", item(data))
    assert refusal(meta() + body(more=data)) == "bomb"
    private = b""
    for _ in range(3000):  # implicit, hidden in UN
        private = implicit(0x00081140, item(private))
    parsed = read(meta() + body(more=element(0x00111010, "UN", private)))
    to_dicom_json(parsed.header, bulk_uri=str, bulk=parsed.bulk)


def test_element_count_fragments_and_header_bombs() -> None:
    many = b"".join(item() for _ in range(3000))
    assert refusal(meta() + body(more=element(0x00081140, "SQ", many)), Limits(max_elements=2000)) == "bomb"
    data = meta("1.2.840.10008.1.2.4.90") + body(encapsulated=[b""] * 300)
    assert refusal(data, Limits(max_fragments=200)) == "bomb"
    big = b"".join(element(0x00110000 + i, "UN", bytes(60000)) for i in range(16, 60))
    assert refusal(meta() + body(more=big), Limits(max_header_bytes=1 << 20)) == "bomb"


def test_zeros_that_are_not_padding_cost_linear_time() -> None:
    began = time.process_time()
    assert refusal(meta() + body(after=bytes(8 * 100_000) + b"\1" * 20), Limits(max_elements=50_000)) == "bomb"
    assert time.process_time() - began < 5


def test_deflated_is_read() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packer.compress(body()) + packer.flush()
    parsed = read(meta("1.2.840.10008.1.2.1.99") + data)
    assert parsed.patient.name == "WANG^WEI"
    assert parsed.frames.base == "inflated"
    ((offset, length),) = parsed.frames.frame(0)
    assert body()[offset : offset + length] == bytes(48)


BOMB = """
import resource, sys, time
sys.path.insert(0, {root!r})
from hub.dicom.reader import read
from hub.dicom.errors import DicomRefused
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
began = time.process_time()
try:
    read({path!r})
    print("read")
except DicomRefused as refused:
    print(refused.code)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, time.process_time() - began)
"""


@pytest.mark.slow
def test_deflate_bomb_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = body(rows=4, columns=4, pixels=b"")[:-12]
    data = packer.compress(head + element(0x7FE00010, "OB", length=0x60000000)[:12])
    zeros = bytes(1 << 20)
    data += b"".join(packer.compress(zeros) for _ in range(1536)) + packer.flush()
    path = tmp_path / "bomb.dcm"
    path.write_bytes(meta("1.2.840.10008.1.2.1.99") + data)
    assert path.stat().st_size < 2 << 20
    script = BOMB.format(root=str(Path(__file__).parents[3]), path=str(path))
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    code, numbers = out.stdout.strip().splitlines()
    grown, seconds = map(float, numbers.split())
    assert code == "bomb"
    assert grown < 64, "MiB of memory"
    assert seconds < 20


def test_messages_fill_from_their_parameters() -> None:
    assert all(zh and en for zh, en in MESSAGES.values())
    import pickle

    refused = DicomRefused("truncated", where="(7FE0,0010)", expected=10, found=5)
    again = pickle.loads(pickle.dumps(refused))
    assert (again.code, again.message_zh) == (refused.code, refused.message_zh)
    assert "(7FE0,0010)" in refused.message_zh


def test_sniff() -> None:
    assert sniff((meta() + body())[:200])
    assert sniff(body()[:200])
    assert not sniff(b"hello world, this is no image")


# -- fuzz -------------------------------------------------------------------------------------------------------------

SEEDS = [
    meta() + body(more=element(0x00081140, "SQ", item(element(0x00081155, "UI", b"1.2")))),
    meta() + body(charset=b"GBK", name="王^喆".encode("gbk"), frames=2),
    meta("1.2.840.10008.1.2.4.90")
    + body(encapsulated=[b"\0\0\0\0", b"\xff\x4f\xff\x51" + bytes(60), b"abcd"], frames=2),
    Path(pydicom.data.get_testdata_file("reportsi.dcm")).read_bytes(),
    Path(pydicom.data.get_testdata_file("rtplan.dcm")).read_bytes(),
    Path(pydicom.data.get_testdata_file("DICOMDIR")).read_bytes()[:4000],
]


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    seed=st.integers(0, len(SEEDS) - 1),
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), max_size=8),
    cut=st.one_of(st.none(), st.floats(0, 1)),
)
@example(seed=0, changes=[], cut=0.5)
def test_mutated_files_are_read_or_refused(seed: int, changes: list[tuple[float, bytes]], cut: float | None) -> None:
    data = bytearray(SEEDS[seed])
    for where, what in changes:
        at = int(where * (len(data) - 1))
        data[at : at + len(what)] = what
    if cut is not None:
        del data[int(cut * len(data)) :]
    began = time.process_time()
    try:
        parsed = read(bytes(data))
    except DicomRefused:
        pass
    else:
        to_dicom_json(parsed.header, bulk_uri=str, bulk=parsed.bulk)
        parsed.frames.from_bytes(parsed.frames.to_bytes())
    assert time.process_time() - began < 5


def test_us_is_what_it_says() -> None:
    assert us(0x00280010, 258)[-2:] == b"\x02\x01"
