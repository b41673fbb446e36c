"""Reading one frame of a stored instance: by range where the frame index allows it."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset

from hub.dicom import codecs, framing
from hub.dicom.codecs import FrameTooLarge, FrameUndecodable
from hub.kit.settings import get_settings
from hub.studies import stored
from hub.studies.models import Instance
from storage.base import ObjectStore
from storage.errors import StorageError

MAX_HEADER_BYTES = 64 << 20


def index_of(instance: Instance) -> framing.FrameIndex:
    """Where the frames of `instance` lie."""
    return framing.FrameIndex.from_bytes(instance.frame_index) if instance.frame_index else framing.FrameIndex()


def reader_of(store: ObjectStore, instance: Instance) -> Callable[[int, int], bytes]:
    """What reads `(offset, length)` of the instance's file."""
    return stored.reader_of(instance, store=store)


def frame_bytes(store: ObjectStore, instance: Instance, number: int) -> bytes:
    """The bytes of frame `number` (from 0) in the stored transfer syntax.

    Raises:
        IndexError: There is no such frame.
    """
    index = index_of(instance)
    if index.base == "inflated":
        whole = inflated(reader_of(store, instance), instance.dataset_offset, instance.size)
        return framing.read_frame(index, number, lambda offset, length: whole[offset : offset + length])
    return framing.read_frame(index, number, reader_of(store, instance))


def header_of(store: ObjectStore, instance: Instance) -> Dataset:
    """The stored data set without its pixels (lookup tables included, text as it was sent)."""
    index = index_of(instance)
    if index.base == "inflated":
        raw = inflated(reader_of(store, instance), instance.dataset_offset, instance.size)
        implicit = False
    else:
        first = min((offset for offset, _length in index.frame(0)), default=instance.size) if index.count else None
        length = min(instance.size, first if first is not None else instance.size, MAX_HEADER_BYTES)
        raw = reader_of(store, instance)(instance.dataset_offset, max(0, length - instance.dataset_offset))
        implicit = instance.transfer_syntax == "1.2.840.10008.1.2"
    big = instance.transfer_syntax == "1.2.840.10008.1.2.2"
    dataset: Dataset = pydicom.filereader.read_dataset(
        io.BytesIO(raw), implicit, not big, stop_when=lambda tag, _vr, _length: tag in _PIXELS
    )
    return dataset


_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})


def decode(store: ObjectStore, instance: Instance, number: int = 0) -> tuple[npt.NDArray[Any], Dataset]:
    """Frame `number` (from 0) decoded, and the header.

    Raises:
        FrameUndecodable, FrameTooLarge: With the reason.
        StorageError: The object cannot be read; that says nothing of the image.
    """
    try:
        header = header_of(store, instance)
    except (StorageError, FrameTooLarge):
        raise
    except Exception as error:
        raise FrameUndecodable("broken-stream", "the header cannot be read") from error
    index = index_of(instance)
    if not 0 <= number < index.count:
        raise FrameUndecodable("no-pixels", f"there is no frame {number + 1}")
    limit = get_settings().frame_max_mb << 20
    parameters = codecs.frame_parameters(header, instance.transfer_syntax)
    if index.base == "inflated":
        parameters["transfer_syntax"] = "1.2.840.10008.1.2.1"
    data = frame_bytes(store, instance, number)
    skipped = index.first_bit(number)
    if skipped:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skipped:]
        data = np.packbits(bits, bitorder="little").tobytes()
    return codecs.decode_frame(data, **parameters, max_bytes=limit), header


def inflated(read: framing.RangeReader, start: int, size: int) -> bytes:
    """The data set of a file in a deflated transfer syntax.

    Args:
        read: Gives `length` bytes of the file at `offset`.
        start: Where the data set begins in the file.
        size: Of the file, in bytes.

    Raises:
        FrameTooLarge: It is more than a decoded frame may be.
    """
    limit = get_settings().frame_max_mb << 20
    data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(read(start, size - start), limit)
    if len(data) >= limit:
        raise FrameTooLarge("the inflated data set is too large")
    return data
