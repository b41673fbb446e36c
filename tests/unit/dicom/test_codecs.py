"""Frame decoding: right samples for every transfer syntax, refusal by header, no crash on broken streams."""

from __future__ import annotations

import logging
import struct
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import get_frame
from pydicom.pixels import pixel_array
from pydicom.pixels.decoders.base import get_decoder

from hub.dicom import codecs
from hub.dicom.codecs import FrameTooLarge, FrameUndecodable

HTJ2K = "1.2.840.10008.1.2.4.201"
J2K = "1.2.840.10008.1.2.4.90"
JPEG_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
RLE = "1.2.840.10008.1.2.5"
NATIVE = "1.2.840.10008.1.2.1"

BUNDLED = (
    "693_J2KI.dcm",
    "CT_small.dcm",
    "ExplVR_BigEnd.dcm",
    "GDCMJ2K_TextGBR.dcm",
    "J2K_pixelrep_mismatch.dcm",
    "JPEG-lossy.dcm",
    "JPEG2000.dcm",
    "JPEGLSNearLossless_08.dcm",
    "JPEGLSNearLossless_16.dcm",
    "JPGExtended.dcm",
    "MR_small.dcm",
    "MR_small_RLE.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "MR_small_padded.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_jpeg_no_color_transform_2.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_rgb_jls_lossy_line.dcm",
    "SC_rgb_jls_lossy_sample.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_rle_16bit.dcm",
    "SC_rgb_rle_2frame.dcm",
    "SC_rgb_rle_32bit.dcm",
    "SC_rgb_small_odd.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "SC_rgb_small_odd_jpeg.dcm",
    "SC_ybr_full_422_uncompressed.dcm",
    "examples_overlay.dcm",
    "examples_palette.dcm",
    "examples_rgb_color.dcm",
    "examples_ybr_color.dcm",
    "image_dfl.dcm",
    "liver_1frame.dcm",
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("pydicom").setLevel(logging.CRITICAL)
        yield


def _bundled(name: str) -> pydicom.FileDataset:
    path = pydicom.data.get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom does not bundle {name}")
    return pydicom.dcmread(str(path))


def _parameters(array: np.ndarray, syntax: str, **changes: Any) -> dict[str, Any]:
    bits = 8 * array.dtype.itemsize
    return {
        "transfer_syntax": syntax,
        "rows": array.shape[0],
        "columns": array.shape[1],
        "samples": 1 if array.ndim == 2 else array.shape[2],
        "bits_allocated": bits,
        "bits_stored": bits,
        "signed": array.dtype.kind == "i",
    } | changes


@pytest.mark.parametrize("name", BUNDLED)
def test_samples_equal_pydicoms(name: str) -> None:
    codecs.register()
    ds = _bundled(name)
    expected = pixel_array(ds, index=0)
    decoded = codecs.frame_of(ds)
    assert decoded.shape == expected.shape
    assert np.array_equal(decoded, expected)


def test_later_frames() -> None:
    ds = _bundled("SC_rgb_rle_2frame.dcm")
    assert np.array_equal(codecs.frame_of(ds, 1), pixel_array(ds, index=1))
    ds = _bundled("liver_1frame.dcm")
    assert set(np.unique(codecs.frame_of(ds))) <= {0, 1}
    with pytest.raises(FrameUndecodable, match="no frame 2"):
        codecs.frame_of(ds, 1)


def test_register_twice_makes_pydicom_decode_what_it_cannot() -> None:
    codecs.register()
    codecs.register()
    for syntax in codecs.DECODER_DEPENDENCIES:
        assert get_decoder(syntax).available_plugins.count("imagecodecs") == 1
    rng = np.random.default_rng(1)
    image = rng.integers(0, 4096, (40, 30)).astype("<u2")
    for syntax, stream in (
        (HTJ2K, codecs.encode_htj2k(image)),
        (JPEG_SV1, imagecodecs.ljpeg_encode(image, bitspersample=16)),
    ):
        ds = pydicom.Dataset()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
        ds.Rows, ds.Columns, ds.SamplesPerPixel = 40, 30, 1
        ds.BitsAllocated = ds.BitsStored = 16
        ds.PixelRepresentation, ds.PhotometricInterpretation = 0, "MONOCHROME2"
        ds.PixelData = pydicom.encaps.encapsulate([stream])
        ds["PixelData"].VR = "OB"
        assert np.array_equal(ds.pixel_array, image)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (64, 48), (129, 200)])
def test_htj2k_is_lossless(dtype: str, shape: tuple[int, int]) -> None:
    info = np.iinfo(dtype)
    image = np.random.default_rng(3).integers(info.min, info.max, shape, endpoint=True).astype(dtype)
    stream = codecs.encode_htj2k(image)
    assert np.array_equal(codecs.decode_frame(stream, **_parameters(image, HTJ2K)), image)


def test_htj2k_in_colour_is_lossless() -> None:
    image = np.random.default_rng(3).integers(0, 256, (61, 43, 3)).astype("u1")
    stream = codecs.encode_htj2k(image)
    assert np.array_equal(codecs.decode_frame(stream, **_parameters(image, HTJ2K, photometric="YBR_RCT")), image)
    with pytest.raises(FrameUndecodable):
        codecs.encode_htj2k(image.astype("f4"))


def test_sign_is_taken_from_the_data_set() -> None:
    # JPEG-LS knows no sign: -2 in 12 bits is 0xFFE.
    stored = np.array([[0x7FF, 0x800], [0xFFE, 3]], dtype="u2")
    stream = imagecodecs.jpegls_encode(stored)
    decoded = codecs.decode_frame(
        stream, **_parameters(stored, JPEG_LS, bits_stored=codecs.stream_info(stream, JPEG_LS).precision, signed=True)
    )
    assert decoded.dtype == np.int16
    native = codecs.native_frame(stored.tobytes(), rows=2, columns=2, bits_stored=12, signed=True)
    assert native.tolist() == [[2047, -2048], [-2, 3]]


def test_bits_beside_the_stored_ones_are_dropped() -> None:
    cells = np.array([[0xF123, 0x0456]], dtype="<u2")
    assert codecs.native_frame(cells.tobytes(), rows=1, columns=2, bits_stored=12).tolist() == [[0x123, 0x456]]
    high = codecs.native_frame(cells.tobytes(), rows=1, columns=2, bits_stored=12, high_bit=15)
    assert high.tolist() == [[0xF12, 0x045]]
    assert codecs.native_frame(cells.tobytes(), rows=1, columns=2, big_endian=True).tolist() == [[0x23F1, 0x5604]]


def test_planes_and_pixels() -> None:
    planes = bytes([1, 2, 3, 4, 5, 6])
    by_plane = codecs.native_frame(planes, rows=1, columns=2, samples=3, bits_allocated=8, planar=1, photometric="RGB")
    assert by_plane.tolist() == [[[1, 3, 5], [2, 4, 6]]]
    by_pixel = codecs.native_frame(planes, rows=1, columns=2, samples=3, bits_allocated=8, photometric="RGB")
    assert by_pixel.tolist() == [[[1, 2, 3], [4, 5, 6]]]
    grey = bytes([90, 128, 128, 90, 128, 128])
    full = codecs.native_frame(grey, rows=1, columns=2, samples=3, bits_allocated=8, photometric="YBR_FULL")
    assert full.tolist() == [[[90] * 3, [90] * 3]]
    raw = codecs.native_frame(
        grey, rows=1, columns=2, samples=3, bits_allocated=8, photometric="YBR_FULL", to_rgb=False
    )
    assert raw.tolist() == [[[90, 128, 128]] * 2]
    half = codecs.native_frame(
        bytes([90, 70, 128, 128]), rows=1, columns=2, samples=3, bits_allocated=8, photometric="YBR_FULL_422"
    )
    assert half.tolist() == [[[90] * 3, [70] * 3]]


def _siz(rows: int, columns: int, components: int = 1) -> bytes:
    body = (
        struct.pack(">HIIIIIIIIH", 0, columns, rows, 0, 0, columns, rows, 0, 0, components)
        + b"\x0f\x01\x01" * components
    )
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(body) + 2) + body + b"\xff\x52" + bytes(200)


def _sof(marker: int, rows: int, columns: int) -> bytes:
    body = struct.pack(">BHHB", 16, rows, columns, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + bytes(100)


@pytest.mark.parametrize(
    ("syntax", "stream"),
    [
        (J2K, _siz(2**31, 2**31)),
        (HTJ2K, _siz(60000, 60000)),
        (J2K, _siz(4000, 4000, 3000)),
        (JPEG_SV1, _sof(0xC3, 65535, 65535)),
        (JPEG_LS, _sof(0xF7, 65535, 65535)),
    ],
)
def test_a_stream_that_claims_gigabytes_is_refused_before_decoding(syntax: str, stream: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(FrameTooLarge) as caught:
        codecs.decode_frame(stream, transfer_syntax=syntax, rows=512, columns=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "too-large"
    assert peak < 1_000_000


@pytest.mark.parametrize("syntax", [NATIVE, RLE, J2K, HTJ2K])
def test_a_data_set_that_claims_gigabytes_is_refused(syntax: str) -> None:
    with pytest.raises(FrameTooLarge):
        codecs.decode_frame(bytes(1000), transfer_syntax=syntax, rows=65535, columns=65535)
    image = np.zeros((20, 20), dtype="u2")
    with pytest.raises(FrameTooLarge):
        codecs.decode_frame(codecs.encode_htj2k(image), **_parameters(image, HTJ2K), max_bytes=799)
    assert codecs.decode_frame(codecs.encode_htj2k(image), **_parameters(image, HTJ2K), max_bytes=800).shape == (20, 20)


def test_an_rle_segment_never_unpacks_beyond_its_plane() -> None:
    bomb = struct.pack("<16L", 2, 64, 64 + 200_000, *[0] * 13) + b"\x81\x00" * 200_000
    tracemalloc.start()
    frame = codecs.decode_frame(bomb, transfer_syntax=RLE, rows=8, columns=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert frame.tolist() == [[0] * 8] * 8
    assert peak < 1_000_000
    with pytest.raises(FrameUndecodable, match="truncated"):
        codecs.decode_frame(
            struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00", **_parameters(np.zeros((80, 80), "u1"), RLE)
        )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rows": 0}, "no-pixels"),
        ({"rows": 21}, "size-mismatch"),
        ({"samples": 2}, "unsupported-pixels"),
        ({"bits_allocated": 12}, "unsupported-pixels"),
        ({"bits_stored": 17}, "unsupported-pixels"),
        ({"transfer_syntax": "1.2.840.10008.1.2.4.102"}, "unsupported-syntax"),
        ({"transfer_syntax": JPEG_LS}, "broken-stream"),
    ],
)
def test_reasons(changes: dict[str, Any], code: str) -> None:
    image = np.zeros((20, 20), dtype="u2")
    with pytest.raises(FrameUndecodable) as caught:
        codecs.decode_frame(codecs.encode_htj2k(image), **_parameters(image, HTJ2K) | changes)
    assert caught.value.code == code
    assert caught.value.reason


def test_truncated_native_frame() -> None:
    with pytest.raises(FrameUndecodable) as caught:
        codecs.frame_of(_bundled("MR_truncated.dcm"))
    assert caught.value.code == "truncated"
    with pytest.raises(FrameUndecodable):
        codecs.frame_of(pydicom.Dataset())


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_half_a_stream_is_refused_soon(share: float) -> None:
    image = np.random.default_rng(2).integers(0, 4096, (256, 256)).astype("u2")
    for syntax, stream in ((HTJ2K, codecs.encode_htj2k(image)), (JPEG_LS, imagecodecs.jpegls_encode(image))):
        started = time.process_time()
        with pytest.raises(FrameUndecodable):
            codecs.decode_frame(stream[: int(share * len(stream))], **_parameters(image, syntax))
        assert time.process_time() - started < 1


def test_jpeg_ls_without_an_end_marker_is_decoded() -> None:
    image = np.random.default_rng(2).integers(0, 4096, (64, 32)).astype("u2")
    stream = imagecodecs.jpegls_encode(image)
    assert stream.endswith(b"\xff\xd9")
    assert np.array_equal(codecs.decode_frame(stream[:-2], **_parameters(image, JPEG_LS)), image)


_SOURCES = ("JPEG2000.dcm", "JPEGLSNearLossless_16.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_RLE.dcm")


@settings(max_examples=150, deadline=None)
@given(
    source=st.sampled_from(_SOURCES),
    cut=st.floats(0, 1),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damage_is_an_error_never_a_crash(source: str, cut: float, edits: list[tuple[float, int]]) -> None:
    ds = _bundled(source)
    stream = bytearray(get_frame(ds.PixelData, 0, number_of_frames=1))
    for place, value in edits:
        stream[int(place**3 * len(stream))] = value
    parameters = codecs.frame_parameters(ds, ds.file_meta.TransferSyntaxUID)
    try:
        frame = codecs.decode_frame(bytes(stream[: int(cut * len(stream)) + 1]), **parameters)
    except codecs.FrameError as error:
        assert error.code
    else:
        assert frame.shape[:2] == (ds.Rows, ds.Columns)


def test_shared_radiographs() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "xray"
    if not folder.is_dir():
        pytest.skip("the shared sample images are not there")
    undecodable = []
    for path in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(path)
        try:
            frame = codecs.frame_of(ds)
        except FrameUndecodable:
            undecodable.append(path.name)
        else:
            assert frame.shape == (ds.Rows, ds.Columns)
            assert frame.max() > frame.min()
    assert undecodable == ["chest-dx-canon-j2k-undecodable.dcm"]


def test_a_tile_grid_behind_the_image_is_refused_at_once() -> None:
    stream = bytearray(codecs.encode_htj2k(np.zeros((80, 70), dtype="u2")))
    stream[39] = 11  # YTOsiz: OpenJPH never comes back from this
    with pytest.raises(FrameUndecodable, match="size segment"):
        codecs.decode_frame(bytes(stream), transfer_syntax=HTJ2K, rows=80, columns=70)


def test_an_error_of_the_last_stage_is_not_lost(capfd: pytest.CaptureFixture[str]) -> None:
    image = np.random.default_rng(0).integers(0, 500, (80, 70)).astype("u2")
    good = codecs.encode_htj2k(image)
    refused = 0
    for place in range(100, 400, 5):
        broken = bytearray(good)
        broken[place] ^= 0xFF
        try:
            codecs.decode_frame(bytes(broken), **_parameters(image, HTJ2K))
        except FrameUndecodable:
            refused += 1
    assert refused > 5
    assert capfd.readouterr().err == ""
