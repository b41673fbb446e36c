"""Data sets of DIMSE requests that are smaller than what they unfold to."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pynetdicom.dsutils import encode
from pynetdicom.presentation import build_context

from hub.protocols.dimse import commitment, identifiers

CONTEXT = build_context("1.2.840.10008.5.1.4.1.2.2.1", DeflatedExplicitVRLittleEndian)


def deflated(head: bytes, zeros: int) -> BytesIO:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pieces = [packer.compress(head + struct.pack("<HH2s2xL", 0x0008, 0x0119, b"UT", zeros))]
    pieces += [packer.compress(bytes(1 << 20)) for _ in range(zeros >> 20)]
    return BytesIO(b"".join([*pieces, packer.flush()]))


def test_a_deflated_identifier_is_read() -> None:
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    asked.PatientID = "001"
    data = encode(asked, is_implicit_vr=False, is_little_endian=True, deflated=True)
    assert data is not None
    assert identifiers.read(BytesIO(data), CONTEXT).values("00100020") == ("001",)


def test_what_unfolds_without_end_is_refused() -> None:
    level = struct.pack("<HH2sH", 0x0008, 0x0052, b"CS", 6) + b"STUDY "
    data = deflated(level, 256 << 20)
    assert len(data.getvalue()) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cannot be read"):
            identifiers.read(data, CONTEXT)
        with pytest.raises(ValueError, match="cannot be read"):
            commitment._read(data, CONTEXT)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
