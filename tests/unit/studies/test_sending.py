"""IssuerOfPatientID is written into a data set on its way out, whatever its sender wrote there."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hub.studies import sending
from hub.studies.sending import CannotSend

ID = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"001 "
SEX = struct.pack("<HH2sH", 0x0010, 0x0040, b"CS", 2) + b"M "
SPOOFED = struct.pack("<HH2sH", 0x0010, 0x0020, b"LO", 4) + b"002 "


def long(vr: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return struct.pack("<HH2s2xL", 0x0010, 0x0021, vr, size) + value


def qualified(data: bytes, folder: Path, syntax: str = ExplicitVRLittleEndian) -> pydicom.Dataset:
    path = folder / "data"
    path.write_bytes(data)
    made, offset = sending._qualified(path, 0, syntax, "360731.C01")
    return read_dataset(io.BytesIO(made.read_bytes()[offset:]), syntax == ImplicitVRLittleEndian, True)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        struct.pack("<HH2sH", 0x0010, 0x0021, b"LO", 4) + b"OTHR",
        long(b"UN", b"OTHR"),
        long(b"UT", SPOOFED),
        long(b"OB", b""),
    ],
)
def test_one_issuer_and_nothing_else_touched(tmp_path: Path, sent: bytes) -> None:
    found = qualified(ID + sent + SEX, tmp_path)
    assert [int(one.tag) for one in found] == [0x00100020, 0x00100021, 0x00100040]
    assert (found.PatientID, found.IssuerOfPatientID, found.PatientSex) == ("001", "360731.C01", "M")


def test_an_implicit_issuer(tmp_path: Path) -> None:
    def element(tag: int, value: bytes) -> bytes:
        return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value

    data = element(0x00100020, b"001 ") + element(0x00100021, b"UNUT") + element(0x00100040, b"M ")
    found = qualified(data, tmp_path, ImplicitVRLittleEndian)
    assert (found.PatientID, found.IssuerOfPatientID, found.PatientSex) == ("001", "360731.C01", "M")


def test_an_issuer_without_an_end_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(CannotSend):
        qualified(ID + long(b"UN", b"OTHR", 0xFFFFFFFF) + SEX, tmp_path)
