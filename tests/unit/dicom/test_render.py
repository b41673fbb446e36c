"""Previews: exact grey values of the pipeline, right way round, right shape, and the choice of an image."""

from __future__ import annotations

import io
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pydicom.data
import pytest
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array

from hub.dicom import codecs, render
from hub.dicom.render import InstanceBrief


def _header(**attributes: Any) -> pydicom.Dataset:
    ds = pydicom.Dataset()
    ds.Modality = "CT"
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    for name, value in attributes.items():
        setattr(ds, name, value)
    return ds


def _gray(values: Any, dtype: str = "i2", *, window: Any = None, frame_number: int = 1, **attributes: Any) -> list[int]:
    array = np.array([values], dtype=dtype)
    image = render.preview(array, _header(**attributes), max_edge=4096, window=window, frame_number=frame_number)
    assert image.mode == "L"
    return [int(value) for value in np.asarray(image)[0]]


# y = ((x - (c - 0.5)) / (w - 1) + 0.5) * 255 by PS3.3 C.11.2.1.2.1
def test_linear_window_by_the_formula() -> None:
    got = _gray([-10, 0, 1, 20, 40, 60, 78, 79, 90], WindowCenter="40", WindowWidth="80")
    assert got == [0, 0, 3, 65, 129, 194, 252, 255, 255]


def test_linear_exact_and_sigmoid() -> None:
    exact = _gray([0, 20, 40, 60, 80], WindowCenter="40", WindowWidth="80", VOILUTFunction="LINEAR_EXACT")
    assert exact == [0, 64, 128, 191, 255]
    sigmoid = _gray([0, 20, 40, 60, 80], WindowCenter="40", WindowWidth="80", VOILUTFunction="SIGMOID")
    assert sigmoid == [30, 69, 128, 186, 225]
    narrow = _gray([0, 1], WindowCenter="0.5", WindowWidth="0.5", VOILUTFunction="LINEAR_EXACT")
    assert narrow == [0, 255]
    threshold = _gray([9, 10, 11], WindowCenter="10.5", WindowWidth="1")
    assert threshold == [0, 0, 255]


def test_rescale_comes_before_the_window() -> None:
    got = _gray(
        [1024, 1064, 1104], "u2", RescaleSlope="1", RescaleIntercept="-1024", WindowCenter="40", WindowWidth="80"
    )
    assert got == [0, 129, 255]


def test_the_first_of_several_windows_counts_and_one_given_goes_before() -> None:
    both = {"WindowCenter": ["40", "-600"], "WindowWidth": ["80", "1600"]}
    assert _gray([0, 40, 80], **both) == [0, 129, 255]
    assert _gray([-1400, -600, 199], window=(-600, 1600), **both) == [0, 128, 255]


def test_monochrome1_is_turned() -> None:
    got = _gray([0, 40, 80], PhotometricInterpretation="MONOCHROME1", WindowCenter="40", WindowWidth="80")
    assert got == [255, 126, 0]


def test_modality_lut() -> None:
    item = pydicom.Dataset()
    item.LUTDescriptor = [4, 10, 16]
    item.add_new(0x00283006, "OW", np.array([0, 200, 400, 1000], dtype="<u2").tobytes())
    item.ModalityLUTType = "OD"
    got = _gray([0, 10, 11, 12, 13, 99], "u2", ModalityLUTSequence=[item], WindowCenter="500.5", WindowWidth="1001")
    assert got == [0, 0, 51, 102, 255, 255]


@pytest.mark.parametrize("as_list", [True, False])
def test_voi_lut_goes_before_the_window(as_list: bool) -> None:
    item = pydicom.Dataset()
    item.LUTDescriptor = [3, -1, 12]
    entries = [0, 2048, 4095]
    if as_list:
        item.add_new(0x00283006, "US", entries)
    else:
        item.add_new(0x00283006, "OW", np.array(entries, dtype="<u2").tobytes())
    got = _gray([-5, -1, 0, 1, 7], VOILUTSequence=[item], WindowCenter="40", WindowWidth="80")
    assert got == [0, 0, 128, 255, 255]
    assert _gray([0, 40, 80], VOILUTSequence=[item], window=(40, 80)) == [0, 129, 255]


def test_padding_is_black_and_counts_for_nothing() -> None:
    values = [-2000] * 50 + list(range(100))
    got = _gray(values, PixelPaddingValue=-2000)
    assert got[:50] == [0] * 50
    assert got[50:] == _gray(list(range(100)))
    inverted = _gray(values, PixelPaddingValue=-2000, PhotometricInterpretation="MONOCHROME1")
    assert inverted[:50] == [0] * 50
    assert inverted[50] == 255
    ranged = _gray([0, 5, 9, 50, 100], "u2", PixelPaddingValue=0, PixelPaddingRangeLimit=9, Modality="DX")
    assert ranged[:3] == [0, 0, 0] and ranged[4] == 255


def test_without_a_window_the_percentiles_are_shown() -> None:
    values = np.arange(1001, dtype="i2")
    center, width = render.automatic_window(values)
    assert (center, width) == (pytest.approx(500), pytest.approx(980, abs=3))
    got = _gray(values)
    assert got[0] == 0 and got[1000] == 255 and got[500] in (127, 128)
    # A black ground does not take the percentile for itself.
    ground = np.concatenate([np.zeros(5000), np.arange(1000, 2000)])
    assert render.automatic_window(ground)[0] == pytest.approx(1500, abs=3)
    assert _gray([7, 7, 7], WindowWidth="0", WindowCenter="3") == [0, 0, 0]


def test_a_window_beside_the_pixels_is_not_believed() -> None:
    values = np.arange(32768, 42768, 10).astype("u2")
    window = {"WindowCenter": "2725", "WindowWidth": "5310"}
    assert set(_gray(values, "u2", Modality="CT", **window)) == {255}
    got = _gray(values, "u2", Modality="DX", **window)
    assert got[0] == 0 and got[-1] == 255


def test_window_of_the_frame_in_an_enhanced_object() -> None:
    def groups(center: str, intercept: str) -> pydicom.Dataset:
        voi, rescale, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        voi.WindowCenter, voi.WindowWidth = center, "80"
        rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = intercept, "1", "HU"
        frame.FrameVOILUTSequence, frame.PixelValueTransformationSequence = [voi], [rescale]
        return frame

    enhanced = {"PerFrameFunctionalGroupsSequence": [groups("40", "0"), groups("140", "100")], "NumberOfFrames": 2}
    assert _gray([0, 40, 80], frame_number=1, **enhanced) == [0, 129, 255]
    assert _gray([0, 40, 80], frame_number=2, **enhanced) == [0, 129, 255]
    shared = {"SharedFunctionalGroupsSequence": [groups("40", "0")], "NumberOfFrames": 2}
    assert _gray([0, 40, 80], frame_number=2, **shared) == [0, 129, 255]


def test_32_bit_and_float_like_ranges() -> None:
    got = _gray([-(2**29), 0, 2**29], "i4", WindowCenter="0", WindowWidth=str(2**31))
    assert got == [64, 128, 191]


def test_palette_and_rgb() -> None:
    ds = _header(PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, SamplesPerPixel=1)
    for name, entries in (("Red", [0, 65535]), ("Green", [0, 32896]), ("Blue", [65535, 0])):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [2, 0, 16])
        setattr(ds, f"{name}PaletteColorLookupTableData", np.array(entries, dtype="<u2").tobytes())
    ds.PixelRepresentation = 0
    image = render.preview(np.array([[0, 1]], dtype="u1"), ds)
    assert [image.getpixel((x, 0)) for x in (0, 1)] == [(0, 0, 255), (255, 128, 0)]
    rgb = np.array([[[65535, 0, 32896]]], dtype="u2")
    assert render.preview(rgb, _header(PhotometricInterpretation="RGB")).getpixel((0, 0)) == (255, 0, 128)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({}, (200, 100)),
        ({"PixelSpacing": [2.0, 1.0]}, (200, 200)),
        ({"PixelSpacing": [1.0, 2.0]}, (400, 100)),
        ({"PixelSpacing": [0.0, 0.0], "ImagerPixelSpacing": [0.2, 0.2]}, (200, 100)),
        ({"PixelAspectRatio": [2, 1]}, (200, 200)),
        ({"PixelSpacing": [1000.0, 0.001]}, (200, 100)),
    ],
)
def test_shape_of_pixels(attributes: dict[str, Any], size: tuple[int, int]) -> None:
    frame = np.zeros((100, 200), dtype="u2")
    assert render.preview(frame, _header(**attributes), max_edge=1000).size == size
    small = render.preview(frame, _header(**attributes), max_edge=50).size
    assert max(small) == 50


def test_nonsense_in_the_header_does_no_harm() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = _header(WindowCenter=["", "1"], PixelAspectRatio=[1, 0])
        ds.add_new(0x00281051, "DS", "")
        ds.VOILUTSequence = [pydicom.Dataset()]
        ds.ModalityLUTSequence = []
        ds.SharedFunctionalGroupsSequence = [pydicom.Dataset()]
    image = render.preview(np.arange(100, dtype="u2").reshape(10, 10), ds)
    assert np.asarray(image).max() == 255


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "J2K_pixelrep_mismatch.dcm", "693_J2KI.dcm"])
def test_against_pydicom(name: str) -> None:
    path = pydicom.data.get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom does not bundle {name}")
    ds = pydicom.dcmread(str(path))
    ds.setdefault("WindowCenter", "0")
    if not ds.get("WindowWidth"):
        ds.WindowCenter, ds.WindowWidth = "1000", "2000"
    array = pixel_array(ds)
    expected = apply_voi_lut(apply_modality_lut(array, ds), ds).astype(float)
    low, high = expected.min(), expected.max()
    got = np.asarray(render.preview(codecs.frame_of(ds), ds, max_edge=4096), dtype=float)
    assert got.shape == expected.shape
    # pydicom scales to the range of the stored values; both are linear in one another.
    scaled = (expected - low) / (high - low)
    ours = (got - got.min()) / (got.max() - got.min())
    assert np.abs(scaled - ours).max() < 0.006


def test_colour_files_keep_their_colours() -> None:
    for name in ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "examples_ybr_color.dcm"):
        ds = pydicom.dcmread(str(pydicom.data.get_testdata_file(name, download=False)))
        image = render.preview(codecs.frame_of(ds), ds, max_edge=4096)
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), pixel_array(ds, index=0))


def _frame_mean(image: Image.Image, box: tuple[float, float, float, float]) -> float:
    width, height = image.size
    part = image.crop((int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height)))
    return float(np.asarray(part).mean())


@pytest.mark.parametrize(
    ("name", "dark", "bright"),
    [
        ("chest-cr-philips-j2k-lossy.dcm", (0.2, 0.25, 0.35, 0.4), (0.45, 0.6, 0.55, 0.8)),
        ("chest-cr-philips-jls-near.dcm", (0.2, 0.25, 0.35, 0.4), (0.45, 0.6, 0.55, 0.8)),
        ("chest-dx-canon-j2k.dcm", (0.2, 0.3, 0.35, 0.5), (0.45, 0.6, 0.55, 0.8)),
        ("hand-cr-kodak-j2k-broken-sot.dcm", (0.1, 0.2, 0.2, 0.4), (0.5, 0.6, 0.55, 0.7)),
        ("hip-cr-fuji-jpeg-lossless.dcm", (0.2, 0.85, 0.5, 0.95), (0.3, 0.05, 0.4, 0.2)),
        ("extremity-cr-fuji-j2k.dcm", (0.28, 0.4, 0.33, 0.6), (0.45, 0.6, 0.5, 0.7)),
    ],
)
def test_shared_radiographs_are_the_right_way_round(name: str, dark: Any, bright: Any) -> None:
    path = Path(__file__).parents[4] / "shared" / "data" / "xray" / name
    if not path.is_file():
        pytest.skip("the shared sample images are not there")
    ds = pydicom.dcmread(path)
    image = render.preview(codecs.frame_of(ds), ds)
    assert _frame_mean(image, dark) + 40 < _frame_mean(image, bright)
    assert np.asarray(image).std() > 30


def test_encodings() -> None:
    for image in (Image.new("L", (40, 30), 77), Image.new("RGB", (40, 30), (9, 99, 199))):
        jpeg = Image.open(io.BytesIO(render.to_jpeg(image, 90)))
        png = Image.open(io.BytesIO(render.to_png(image)))
        assert (jpeg.format, jpeg.size, png.format, png.mode) == ("JPEG", (40, 30), "PNG", image.mode)
        assert np.array_equal(np.asarray(png), np.asarray(image))


def test_contact_sheet() -> None:
    images = [Image.new("L", (64, 32), 10 * index + 50) for index in range(5)]
    sheet = render.contact_sheet(images, 3, 64, [f"第{index}张" for index in range(5)])
    bare = render.contact_sheet(images, 3, 64)
    assert sheet.width == bare.width == 3 * 66 + 2
    assert sheet.height > bare.height == 2 * 66 + 2
    assert bare.getpixel((2 + 66 + 32, 2 + 66 + 32)) == 90
    assert bare.getpixel((2 + 2 * 66 + 32, 2 + 66 + 32)) == 0
    assert render.contact_sheet([], 4, 64).size == (68, 68)
    assert render.contact_sheet([Image.new("RGB", (9, 9))], 4, 64).mode == "RGB"


def test_contact_indices() -> None:
    assert render.contact_indices(3, 12) == [0, 1, 2]
    assert render.contact_indices(100, 4) == [0, 33, 66, 99]
    assert render.contact_indices(10, 1) == [5]
    assert render.contact_indices(0, 4) == []


def test_placeholder_says_why() -> None:
    lines = render.reason_lines(codecs.FrameTooLarge("x"))
    assert lines[0] == "解码后超过大小上限"
    plain, said = render.placeholder(512), render.placeholder(512, lines)
    assert said.size == (512, 384)
    assert np.asarray(said).max() > 200
    assert np.asarray(plain).sum() < np.asarray(said).sum()
    render.placeholder(10, ["很长的原因" * 200, "\x00\x07", "x" * 999])


# ------------------------------------------------------------------------------------------ the choice of an image


def _stack(uid: str, count: int, **changes: Any) -> list[InstanceBrief]:
    base = InstanceBrief(series_uid=uid, modality="CT", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), series_number=2)
    return [
        replace(base, **({"instance_number": index + 1, "position": 100.0 - 5 * index} | changes))
        for index in range(count)
    ]


def test_the_middle_by_place() -> None:
    stack = _stack("a", 9)
    assert render.representative_index(stack) == 4
    assert render.representative_index([stack[i] for i in (8, 0, 7, 1, 6, 2, 5, 3, 4)]) == 8
    assert render.representative_index(_stack("a", 9, position=None)) == 4


def test_scouts_reports_and_console_pictures_are_passed_over() -> None:
    scout = InstanceBrief("s", "CT", ("ORIGINAL", "PRIMARY", "LOCALIZER"), 1, 1, 0.0)
    dose = [InstanceBrief("d", "CT", ("DERIVED", "SECONDARY", "RESULTS"), 9, n, None) for n in range(40)]
    report = InstanceBrief("r", "SR", is_image=False)
    study = [scout, report, *dose, *_stack("a", 5)]
    assert study[render.representative_index(study) or 0].series_uid == "a"
    assert render.representative_index([scout]) == 0
    assert render.representative_index([report, dose[0]]) == 1
    assert render.representative_index([report]) is None
    assert render.representative_index([]) is None


def test_key_images_and_broken_ones() -> None:
    stack = _stack("a", 9)
    stack[7] = replace(stack[7], key=True)
    assert render.representative_index(stack) == 7
    stack[7] = replace(stack[7], decodable=False)
    assert render.representative_index(stack) != 7
    assert render.representative_index([replace(stack[0], decodable=False)]) == 0


def test_the_first_radiograph_stands_for_its_series() -> None:
    views = [InstanceBrief("x", "DX", ("DERIVED", "PRIMARY"), 1, number) for number in (3, 1, 2)]
    assert render.representative_index(views) == 1


def test_brief_from_a_header() -> None:
    ds = _header(
        SeriesInstanceUID="1.2", SeriesNumber="3", InstanceNumber="4", ImageType=["ORIGINAL", "PRIMARY"], Rows=5
    )
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [-100, -100, 37.5]
    brief = InstanceBrief.from_header(ds)
    assert brief == InstanceBrief("1.2", "CT", ("ORIGINAL", "PRIMARY"), 3, 4, 37.5)
    assert InstanceBrief.from_header(pydicom.Dataset()).is_image is False


def test_shared_phantom_study() -> None:
    folder = Path(__file__).parents[4] / "shared" / "data" / "ct-phantom-philips"
    if not folder.is_dir():
        pytest.skip("the shared sample images are not there")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    briefs = [InstanceBrief.from_header(pydicom.dcmread(path, stop_before_pixels=True)) for path in paths]
    chosen = render.representative_index(briefs)
    assert chosen is not None
    assert paths[chosen].parent.name == "S3010"
