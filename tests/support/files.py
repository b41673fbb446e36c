"""Whole DICOM files for tests, with identifiers of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hub.kit.ids import new_uid
from support.dicom_bytes import CT, EXPLICIT, element, meta, us

JSON = "application/dicom+json"


def dicom_file(
    *,
    study: str | None = None,
    series: str | None = None,
    sop: str | None = None,
    sop_class: str = CT,
    modality: str = "CT",
    patient_id: bytes | None = b"P001",
    name: bytes = b"WANG^WEI",
    sex: bytes = b"M",
    charset: bytes | None = b"ISO_IR 100",
    accession: str = "",
    number: int = 1,
    day: str = "",
    hour: str = "",
    body_part: str = "HEAD",
    pixel: int = 0,
    size: int = 8,
    frames: int = 1,
    birth: bytes = b"19800101",
    description: bytes = b"",
) -> bytes:
    """A small native image, explicit VR little endian; `pixel` is the value of all its pixels."""
    study, series, sop = study or new_uid(), series or new_uid(), sop or new_uid()
    body = b"" if charset is None else element(0x00080005, "CS", charset)
    body += element(0x00080016, "UI", sop_class.encode()) + element(0x00080018, "UI", sop.encode())
    body += element(0x00080020, "DA", day.encode()) + element(0x00080030, "TM", hour.encode())
    body += element(0x00080050, "SH", accession.encode()) + element(0x00080060, "CS", modality.encode())
    if description:
        body += element(0x00081030, "LO", description)
    body += element(0x00100010, "PN", name)
    if patient_id is not None:
        body += element(0x00100020, "LO", patient_id)
    body += element(0x00100030, "DA", birth) + element(0x00100040, "CS", sex)
    body += element(0x00180015, "CS", body_part.encode())
    body += element(0x0020000D, "UI", study.encode()) + element(0x0020000E, "UI", series.encode())
    body += element(0x00200011, "IS", b"1") + element(0x00200013, "IS", str(number).encode())
    body += us(0x00280002, 1) + element(0x00280004, "CS", b"MONOCHROME2")
    if frames > 1:
        body += element(0x00280008, "IS", str(frames).encode())
    body += us(0x00280010, size) + us(0x00280011, size) + us(0x00280100, 16) + us(0x00280101, 12) + us(0x00280102, 11)
    body += us(0x00280103, 0)
    cells = b"".join(struct.pack("<H", (pixel + frame) & 0xFFF) * (size * size) for frame in range(frames))
    body += element(0x7FE00010, "OW", cells)
    return meta(EXPLICIT, sop_class=sop_class, uid=sop) + body


def multipart_body(files: Iterable[bytes], *, boundary: str = "B", kind: str = "application/dicom") -> bytes:
    """A multipart/related body of DICOM files."""
    out = b""
    for file in files:
        out += f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + file + b"\r\n"
    return out + f"--{boundary}--\r\n".encode()


def related(boundary: str = "B") -> dict[str, str]:
    """Headers of a Store Instances request."""
    return {"Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}', "Accept": JSON}
