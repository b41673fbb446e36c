"""DICOM files made byte by byte, so that they can be wrong on purpose."""

from __future__ import annotations

import struct

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
UNDEFINED = 0xFFFFFFFF
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


def element(tag: int, vr: str, value: bytes = b"", *, length: int | None = None, little: bool = True) -> bytes:
    """One explicit VR element; `length` may lie."""
    order = "<" if little else ">"
    if length is None and len(value) % 2:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    size = len(value) if length is None else length
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF) + vr.encode()
    if vr.encode() in LONG:
        return head + struct.pack(order + "HL", 0, size) + value
    return head + struct.pack(order + "H", size & 0xFFFF) + value


def implicit(tag: int, value: bytes = b"", *, length: int | None = None) -> bytes:
    """One implicit VR little endian element."""
    if length is None and len(value) % 2:
        value += b" "
    return struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


def item(content: bytes = b"", *, length: int | None = None) -> bytes:
    """A sequence item or fragment."""
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(content) if length is None else length) + content


ITEM_END = struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)


def meta(syntax: str | None = EXPLICIT, *, sop_class: str = CT, uid: str = "1.2.3.4") -> bytes:
    """Preamble, mark and group 0002."""
    body = element(0x00020001, "OB", b"\0\1") + element(0x00020002, "UI", sop_class.encode())
    body += element(0x00020003, "UI", uid.encode())
    if syntax is not None:
        body += element(0x00020010, "UI", syntax.encode())
    return b"\0" * 128 + b"DICM" + element(0x00020000, "UL", struct.pack("<L", len(body))) + body


def us(tag: int, number: int) -> bytes:
    """An unsigned short."""
    return element(tag, "US", struct.pack("<H", number))


def identifiers(*, charset: bytes | None = None, sop: str = "1.2.3.4") -> bytes:
    """SOP class to series, in two parts of ascending tags, without patient."""
    head = b"" if charset is None else element(0x00080005, "CS", charset)
    return head + element(0x00080016, "UI", CT.encode()) + element(0x00080018, "UI", sop.encode())


def body(
    *,
    charset: bytes | None = b"ISO_IR 100",
    name: bytes = b"WANG^WEI",
    patient_id: bytes | None = b"P1",
    more: bytes = b"",
    rows: int = 4,
    columns: int = 6,
    bits: int = 16,
    frames: int | None = None,
    pixels: bytes | None = None,
    encapsulated: list[bytes] | None = None,
    after: bytes = b"",
    close: bool = True,
) -> bytes:
    """A small CT data set, explicit VR little endian. `more` goes between groups 0010 and 0020."""
    out = identifiers(charset=charset)
    out += element(0x00080060, "CS", b"CT") + element(0x00100010, "PN", name)
    if patient_id is not None:
        out += element(0x00100020, "LO", patient_id)
    out += more
    out += element(0x0020000D, "UI", b"1.2.3.1") + element(0x0020000E, "UI", b"1.2.3.2")
    out += us(0x00280002, 1) + element(0x00280004, "CS", b"MONOCHROME2")
    if frames is not None:
        out += element(0x00280008, "IS", str(frames).encode())
    out += us(0x00280010, rows) + us(0x00280011, columns) + us(0x00280100, bits) + us(0x00280103, 0)
    if encapsulated is not None:
        out += element(0x7FE00010, "OB", b"".join(item(e) for e in encapsulated), length=UNDEFINED)
        out += SEQUENCE_END if close else b""
    else:
        data = bytes(rows * columns * bits // 8 * (frames or 1)) if pixels is None else pixels
        out += element(0x7FE00010, "OW", data)
    return out + after
