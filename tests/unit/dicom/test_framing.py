"""Frame ranges against pydicom's own extraction."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import pydicom
import pydicom.data
import pytest
from pydicom.encaps import generate_frames

from hub.dicom.errors import DicomRefused
from hub.dicom.framing import FrameIndex, code_stream, read_frame
from hub.dicom.reader import read
from support.dicom_bytes import body, meta

BUNDLED = sorted(
    p for p in Path(pydicom.data.__file__).parent.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")
)
J2K = "1.2.840.10008.1.2.4.90"
STREAM = b"\xff\x4f\xff\x51" + struct.pack(">HHLLLLLLLLH", 41, 0, 6, 4, 0, 0, 6, 4, 0, 0, 1) + b"\x0f\1\1"


def frames_of(data: bytes) -> tuple[list[bytes], tuple[str, ...]]:
    parsed = read(data)
    index = parsed.frames
    assert FrameIndex.from_bytes(index.to_bytes()) == index
    return [read_frame(index, i, lambda o, n: data[o : o + n]) for i in range(index.count)], parsed.notes


@pytest.mark.parametrize("path", BUNDLED, ids=lambda p: p.name)
def test_bundled_files_frame_by_frame(path: Path) -> None:
    try:
        parsed = read(path)
    except DicomRefused:
        return  # test_reader says which and why
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = pydicom.dcmread(path, force=True)
        if "PixelData" not in theirs:
            assert parsed.frames.kind == "none"
            return
        value = theirs.PixelData
    index = parsed.frames
    assert FrameIndex.from_bytes(index.to_bytes()) == index
    data = path.read_bytes()
    if index.base == "inflated":
        import zlib

        data = zlib.decompress(data[parsed.dataset_offset :], -15)
    mine = [read_frame(index, i, lambda o, n: data[o : o + n]) for i in range(len(index))]
    said = str(theirs.get("NumberOfFrames", 1) or 1)
    number = int(said) if said.isdigit() else 1
    assert len(mine) == number
    if index.kind == "encapsulated":
        assert mine == list(generate_frames(value, number_of_frames=number))
    else:
        assert b"".join(mine) == value[: len(b"".join(mine))]
        size = theirs.Rows * theirs.Columns * theirs.SamplesPerPixel * theirs.BitsAllocated // 8
        if "422" in theirs.PhotometricInterpretation:
            size = size * 2 // 3
        assert {len(m) for m in mine} == {size}


def table(*offsets: int) -> bytes:
    return struct.pack(f"<{len(offsets)}L", *offsets)


def test_one_frame_in_many_fragments() -> None:
    found, notes = frames_of(meta(J2K) + body(encapsulated=[b"", STREAM, b"bbbb", b"cc"]))
    assert found == [STREAM + b"bbbbcc"]
    assert notes == ()


def test_basic_offset_table_with_fragments_spanning() -> None:
    fragments = [STREAM, b"b1", STREAM, b"c1", b"c2"]
    second = len(STREAM) + 8 + 2 + 8
    found, notes = frames_of(meta(J2K) + body(encapsulated=[table(0, second), *fragments], frames=2))
    assert found == [STREAM + b"b1", STREAM + b"c1c2"]
    assert notes == ()


def test_without_a_table_streams_are_told_by_their_beginnings() -> None:
    found, notes = frames_of(meta(J2K) + body(encapsulated=[b"", STREAM, b"b1", STREAM, STREAM, b"d1"], frames=3))
    assert found == [STREAM + b"b1", STREAM, STREAM + b"d1"]
    assert notes == ()


def test_a_table_that_lies_is_noted_and_not_believed() -> None:
    found, notes = frames_of(meta(J2K) + body(encapsulated=[table(0, 3), STREAM, b"b1", STREAM], frames=2))
    assert found == [STREAM + b"b1", STREAM]
    assert "bad-offset-table" in notes


def test_extended_offset_table() -> None:
    from support.dicom_bytes import element

    data = body(encapsulated=[b"", b"aaaa", b"bb", b"cccc"], frames=2)
    at = data.index(struct.pack("<HH", 0x7FE0, 0x0010))
    eot = element(0x7FE00001, "OV", struct.pack("<2Q", 0, 4 + 8 + 2 + 8)) + element(
        0x7FE00002, "OV", struct.pack("<2Q", 6, 4)
    )
    found, notes = frames_of(meta(J2K) + data[:at] + eot + data[at:])
    assert found == [b"aaaabb", b"cccc"]
    assert notes == ()


def test_frames_that_are_not_there_are_noted() -> None:
    found, notes = frames_of(meta(J2K) + body(encapsulated=[b"", STREAM, STREAM], frames=5))
    assert len(found) == 2
    assert "frames-missing" in notes
    found, notes = frames_of(meta(J2K) + body(encapsulated=[b""], frames=1))
    assert found == []
    assert "no-frames" in notes


def test_declared_billions_of_frames_cost_nothing() -> None:
    found, notes = frames_of(meta() + body(frames=2_000_000_000, pixels=bytes(96)))
    assert len(found) == 2
    assert "pixel-data-short" in notes


def test_one_bit_frames_need_not_end_on_a_byte() -> None:
    parsed = read(meta() + body(rows=3, columns=5, bits=1, frames=3, pixels=bytes(range(6))))
    index = parsed.frames
    assert index.count == 3
    start = index.start
    assert [index.frame(i) for i in range(3)] == [((start, 2),), ((start + 1, 3),), ((start + 3, 3),)]
    assert [index.first_bit(i) for i in range(3)] == [0, 7, 6]


def test_index_is_small_and_checked() -> None:
    many = FrameIndex("encapsulated", count=1000, segments=tuple(((5000 + i * 100_008, 100_000),) for i in range(1000)))
    assert len(many.to_bytes()) < 5100
    assert FrameIndex.from_bytes(many.to_bytes()) == many
    for bad in (b"", b"\x02", many.to_bytes()[:-1]):
        with pytest.raises(ValueError):
            FrameIndex.from_bytes(bad)
    with pytest.raises(IndexError):
        many.frame(1000)
    with pytest.raises(IndexError):
        many.frame(-1)


def test_code_streams() -> None:
    found = code_stream(STREAM, 0, len(STREAM))
    assert found is not None
    assert (found.columns, found.rows, found.bits, found.family) == (6, 4, 16, "jpeg2000")
    assert code_stream(b"\xff\xd8\xff\xd9", 0, 4) is None
    assert code_stream(b"plain", 0, 5) is None
