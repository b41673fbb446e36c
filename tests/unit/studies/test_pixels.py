"""A frame of a stored file, by range."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from hub.dicom import codecs
from hub.dicom.codecs import FrameError
from hub.kit.objects import object_store
from hub.studies import pixels
from storage.base import ObjectStore
from support.clinic_files import dicom_file
from support.stored import bundled, stored


@pytest.fixture
def store(hub_env: Path) -> Iterator[ObjectStore]:
    codecs.register()
    yield object_store()


NATIVE = [
    path
    for path in bundled()
    if path.name
    in {
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
        "liver_1frame.dcm",
        "image_dfl.dcm",
        "rtdose.dcm",
        "rtdose_1frame.dcm",
        "SC_rgb_32bit_2frame.dcm",
    }
]


@pytest.mark.parametrize("path", NATIVE, ids=lambda path: path.stem)
def test_every_frame_is_what_the_library_reads(store: ObjectStore, path: Path) -> None:
    instance = stored(path)
    assert instance is not None
    dataset = pydicom.dcmread(path, force=True)
    expected = dataset.pixel_array
    if instance.frames == 1:
        expected = expected[np.newaxis]
    for number in range(instance.frames):
        frame, header = pixels.decode(store, instance, number)
        assert np.array_equal(np.squeeze(frame), np.squeeze(expected[number]))
        assert header.Rows == dataset.Rows
        assert "PixelData" not in header


def one_bit(frames: int, side: int) -> tuple[bytes, np.ndarray]:
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 2, (frames, side, side), dtype=np.uint8)
    packed = np.packbits(picture.ravel(), bitorder="little").tobytes()
    data = dicom_file(
        side=side,
        BitsAllocated=1,
        BitsStored=1,
        HighBit=0,
        NumberOfFrames=frames,
        PixelData=packed + b"\0" * (len(packed) % 2),
    )
    return data, picture


@pytest.mark.parametrize("side", [16, 15, 7])
def test_one_bit_frames_that_begin_within_a_byte(store: ObjectStore, side: int) -> None:
    data, picture = one_bit(3, side)
    instance = stored(data)
    assert instance is not None
    for number in range(3):
        frame, _header = pixels.decode(store, instance, number)
        assert np.array_equal(np.squeeze(frame) > 0, picture[number] > 0)


@pytest.mark.parametrize("number", [-1, 1, 10**9])
def test_a_frame_that_is_not_there(store: ObjectStore, number: int) -> None:
    instance = stored(dicom_file())
    assert instance is not None
    with pytest.raises(FrameError):
        pixels.decode(store, instance, number)


def test_a_deflate_bomb_is_not_inflated(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom_file(side=64)))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    instance = stored(out.getvalue())
    assert instance is not None
    frame, _header = pixels.decode(store, instance)
    assert frame.shape[:2] == (64, 64)
    monkeypatch.setenv("HUB_FRAME_MAX_MB", "1")
    from hub.kit.settings import get_settings

    get_settings.cache_clear()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = out.getvalue()[: instance.dataset_offset] + packer.compress(b"\0" * (4 << 20)) + packer.flush()
    store.put("instances/bomb", bomb)
    instance.object_key, instance.size = "instances/bomb", len(bomb)
    with pytest.raises(FrameError):
        pixels.decode(store, instance)
