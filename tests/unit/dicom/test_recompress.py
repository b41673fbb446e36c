"""Recompressing a file: every value outside the pixels kept, the original rebuilt, whatever is odd left alone."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from hub.dicom import codecs, framing, reader, recompress
from hub.dicom.errors import DicomRefused
from hub.dicom.recipe import BrokenRecipe, Layout, Recipe, native_frame
from hub.dicom.recompress import Recompressed, Stays
from support.dicom_bytes import ITEM_END, SEQUENCE_END, UNDEFINED, element, implicit, item, meta, us
from support.files import dicom_file

IMPLICIT = "1.2.840.10008.1.2"
HTJ2K = "1.2.840.10008.1.2.4.201"


def run(data: bytes) -> tuple[Recompressed, bytes]:
    parsed = reader.read(data)
    made = recompress.recompress(
        data,
        syntax=parsed.transfer_syntax_uid,
        dataset_offset=parsed.dataset_offset,
        frames=parsed.frames,
        sha256=parsed.file_sha256,
        notes=parsed.notes,
    )
    return made, made.file.read()


def rebuilt(made: Recompressed, file: bytes) -> bytes:
    recipe = Recipe.from_bytes(made.recipe)
    return b"".join(
        recipe.rebuild(
            lambda number: framing.read_frame(made.frames, number, lambda start, size: file[start : start + size])
        )
    )


def bundled(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def implicit_file(extra: bytes = b"", *, signed: int = 0, after: bytes = b"") -> bytes:
    def short(tag: int, value: int) -> bytes:
        return implicit(tag, struct.pack("<H", value))

    rng = np.random.default_rng(1)
    cells = (np.cumsum(rng.integers(-3, 4, (64, 64)), axis=1) + (0 if signed else 500)).astype("<i2")
    body = implicit(0x00080016, b"1.2.840.10008.5.1.4.1.1.2\0") + implicit(0x00080018, b"1.2.3.4\0")
    body += implicit(0x00080060, b"CT") + implicit(0x00081030, b"\xcd\xb7\xb2\xbf")  # GB18030 under no charset
    body += implicit(0x0020000D, b"1.2.3\0") + implicit(0x0020000E, b"1.2.3.1\0")
    body += short(0x00280002, 1) + implicit(0x00280004, b"MONOCHROME2 ") + short(0x00280010, 64)
    body += short(0x00280011, 64) + short(0x00280100, 16) + short(0x00280101, 16) + short(0x00280102, 15)
    body += short(0x00280103, signed) + extra + implicit(0x7FE00010, cells.tobytes()) + after
    return meta(IMPLICIT) + body


def test_values_of_an_implicit_file_are_carried_over() -> None:
    inner = implicit(0x00080100, b"CODE") + implicit(0x00080104, b"meaning ")
    extra = implicit(0x00280106, struct.pack("<h", -5)) + implicit(0x00280107, struct.pack("<h", 900))
    extra += implicit(0x00281050, b"40\\400") + implicit(0x00290010, b"MAKER ") + implicit(0x00291001, b"\1\2\3\4")
    extra += implicit(0x00291002, length=UNDEFINED) + item(inner, length=UNDEFINED) + ITEM_END + SEQUENCE_END
    extra += implicit(0x00400275, item(implicit(0x00400008, item(inner)))) + implicit(0x00400400, b"x" * 70_000)
    data = implicit_file(extra, signed=1, after=implicit(0xFFFCFFFC, b"\0" * 10))
    made, file = run(data)
    assert rebuilt(made, file) == data
    old, new = (pydicom.dcmread(io.BytesIO(one)) for one in (data, file))
    assert new.file_meta.TransferSyntaxUID == HTJ2K
    assert new[0x00280106].VR == "SS"
    assert new.SmallestImagePixelValue == -5
    assert new[0x00291002].value[0].CodeMeaning == "meaning"
    assert new.RequestAttributesSequence[0].ScheduledProtocolCodeSequence[0].CodeValue == "CODE"
    assert new.get_item(0x00081030).value == b"\xcd\xb7\xb2\xbf"
    for one in old:
        if one.tag not in (0x7FE00010, 0x00291002, 0x00400400):
            assert new[one.tag].value == one.value, one
    assert (new[0x00400400].VR, new[0x00400400].value) == ("UN", b"x" * 70_000), "too long for the length of a text"
    codecs.register()
    assert np.array_equal(new.pixel_array, old.pixel_array)


def test_bytes_of_an_explicit_file_are_kept() -> None:
    data = bundled("CT_small.dcm")
    made, file = run(data)
    assert rebuilt(made, file) == data
    parsed, again = reader.read(data), reader.read(file)
    head = data[parsed.dataset_offset : parsed.frames.start - 12]
    # Group lengths are all that may be missing.
    assert len(head) - len(file[again.dataset_offset : again.frames.segments[0][0][0]]) < 200
    assert (again.frames, again.dataset_offset, again.file_sha256) == (made.frames, made.dataset_offset, made.sha256)
    assert len(made.recipe) + made.size < len(data)


def test_colour_is_transformed_reversibly() -> None:
    data = bundled("examples_rgb_color.dcm")
    made, file = run(data)
    assert rebuilt(made, file) == data
    old, new = (pydicom.dcmread(io.BytesIO(one)) for one in (data, file))
    assert (new.PhotometricInterpretation, new.PlanarConfiguration) == ("YBR_RCT", 0)
    codecs.register()
    assert np.array_equal(new.pixel_array, old.pixel_array)


def colour_file(planar: int) -> bytes:
    y, x = np.mgrid[:48, :40]
    picture = np.stack([x * 3, y * 2, x + y], axis=2).astype(np.uint8)
    cells = (np.moveaxis(picture, 2, 0) if planar else picture).tobytes()
    data = dicom_file(size=8)
    head = data[: data.index(struct.pack("<HH", 0x28, 2) + b"US")]
    body = us(0x00280002, 3) + element(0x00280004, "CS", b"RGB") + us(0x00280006, planar)
    body += element(0x00280008, "IS", b"2") + us(0x00280010, 48) + us(0x00280011, 40) + us(0x00280100, 8)
    body += us(0x00280101, 8) + us(0x00280102, 7) + us(0x00280103, 0)
    return head + body + element(0x7FE00010, "OB", cells * 2)


@pytest.mark.parametrize("planar", [0, 1])
def test_planes_and_frames_come_back_in_their_order(planar: int) -> None:
    data = colour_file(planar)
    made, file = run(data)
    assert rebuilt(made, file) == data
    old, new = (pydicom.dcmread(io.BytesIO(one)) for one in (data, file))
    codecs.register()
    assert np.array_equal(new.pixel_array, old.pixel_array)


def _cells(file: bytes, tag: int, value: int) -> bytes:
    at = file.index(struct.pack("<HH", tag >> 16, tag & 0xFFFF) + b"US")
    return file[: at + 8] + struct.pack("<H", value) + file[at + 10 :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data + element(0xFFFAFFFA, "SQ", b""), "signed"),
        (lambda data: data.replace(b"MONOCHROME2 ", b"YBR_FULL    "), "photometric"),
        (lambda data: _cells(data, 0x00280102, 15), "bits"),
        (lambda data: data[:-1] + b"\xf0", "unused-bits"),
        (lambda data: data + b"\1", "odd"),
    ],
)
def test_whatever_is_not_plain_stays(change: Any, reason: str) -> None:
    data = change(dicom_file(size=64))
    try:
        with pytest.raises(Stays) as caught:
            run(data)
    except DicomRefused:
        return
    assert caught.value.code == reason


def test_signatures_inside_sequences_are_found() -> None:
    inner = implicit(0x4FFE0001, item(implicit(0x04000005, b"\1\0")))
    with pytest.raises(Stays) as caught:
        run(implicit_file(implicit(0x00400275, item(inner))))
    assert caught.value.code == "signed"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_small_RLE.dcm", "syntax"),
        ("JPEG2000.dcm", "syntax"),
        ("MR_small_bigendian.dcm", "syntax"),
        ("image_dfl.dcm", "syntax"),
        ("liver_1frame.dcm", "bits"),
        ("rtdose_1frame.dcm", "bits"),
        ("test-SR.dcm", "no-pixels"),
    ],
)
def test_files_of_other_kinds_stay(name: str, reason: str) -> None:
    data = bundled(name)
    with pytest.raises(Stays) as caught:
        run(data)
    assert caught.value.code == reason


def test_noise_stays() -> None:
    noise = np.random.default_rng(2).integers(0, 1 << 16, (64, 64), dtype=np.uint16).tobytes()
    data = _cells(_cells(dicom_file(size=64), 0x00280101, 16), 0x00280102, 15)
    with pytest.raises(Stays) as caught:
        run(data[: -len(noise)] + noise)
    assert caught.value.code == "no-gain"


def test_a_hostile_file_is_left_alone_or_comes_back() -> None:
    rng, base = random.Random(7), implicit_file(implicit(0x00400275, item(implicit(0x00400008, item(b"")))))
    head = len(base) - 64 * 64 * 2
    came_back = 0
    for _number in range(500):
        data = bytearray(base)
        for _change in range(rng.randint(1, 3)):
            data[rng.randrange(132, head)] = rng.randrange(256)
        try:
            made, file = run(bytes(data))
        except (Stays, DicomRefused):
            continue
        assert rebuilt(made, file) == data
        reader.read(file)
        came_back += 1
    assert came_back > 30


def test_a_broken_recipe_is_an_error() -> None:
    whole = Recipe(b"before", b"after", Layout(1, 2, 2, 1, "<u2"), "00").to_bytes()
    assert Recipe.from_bytes(whole).size == 6 + 8 + 5
    for broken in (b"", b"x" + whole, whole[:-3], whole[:20]):
        with pytest.raises(BrokenRecipe):
            Recipe.from_bytes(broken)
    with pytest.raises(BrokenRecipe):
        native_frame(b"no code stream", Layout(1, 2, 2, 1, "<u2"))
