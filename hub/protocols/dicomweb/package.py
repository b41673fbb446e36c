"""A study as a ZIP with a DICOMDIR (PS3.10 file-set, PS3.12 annex V), written while it is sent."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

from fastapi import Response
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from hub.dicom import dicomjson, transcoding
from hub.dicom.directory import KEYS, Entry, dicomdir
from hub.dicom.objects import DEFAULT_UID_ROOT, make_uid
from hub.dicom.transcoding import NATIVE
from hub.kit.db import database
from hub.protocols.dicomweb import negotiate
from hub.protocols.dicomweb.answers import REVALIDATE
from hub.protocols.dicomweb.instances import BARE, begun, syntax_sent
from hub.studies import stored
from hub.studies.models import Instance, InstanceHeader, Study

_AT_ONCE: Final = 200
_DAY: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Packed:
    """An instance and its name in the archive."""

    instance: Instance
    path: tuple[str, ...]


def named(instances: Sequence[Instance]) -> list[Packed]:
    """Names for the files of a study: a folder for each series, all of eight characters at most (PS3.10 §8.2)."""
    series: dict[str, int] = {}
    counts: dict[str, int] = {}
    packed = []
    for instance in instances:
        folder = series.setdefault(instance.series_id, len(series) + 1)
        counts[instance.series_id] = number = counts.get(instance.series_id, 0) + 1
        packed.append(Packed(instance, ("DICOM", f"S{folder:05}", f"I{number:05}")))
    return packed


def directory_of(study: Study, packed: Sequence[Packed]) -> bytes:
    """The DICOMDIR of a study, from the indexed headers."""
    entries: list[Entry] = []
    for begin in range(0, len(packed), _AT_ONCE):
        part = packed[begin : begin + _AT_ONCE]
        with database().reading() as session:
            rows = session.execute(
                select(InstanceHeader.instance_id, InstanceHeader.body).where(
                    InstanceHeader.instance_id.in_([one.instance.id for one in part])
                )
            )
            bodies = {row[0]: row[1] for row in rows}
        for one in part:
            body = bodies.get(one.instance.id)
            header = dicomjson.decompress(body) if body else {}
            entries.append(
                Entry(
                    one.path,
                    one.instance.sop_class,
                    one.instance.uid,
                    syntax_sent(one.instance),
                    {tag: header[tag] for tag in KEYS if tag in header},
                    one.instance.has_pixels,
                )
            )
    return dicomdir(entries, uid=make_uid(DEFAULT_UID_ROOT, "dicomdir", study.uid, study.revision), name="STUDY")


class _Sink(io.RawIOBase):
    """What is written and not yet sent. It cannot seek, so that sizes are written behind each file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(cast(bytes, data))
        self._pieces.append(piece)
        self._at += len(piece)
        return len(piece)

    def tell(self) -> int:
        raise OSError("a stream")

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def written(study: Study, packed: Sequence[Packed]) -> Iterator[bytes]:
    """The archive, piece by piece: every file as it was sent, byte for byte."""
    sink = _Sink()
    with zipfile.ZipFile(cast(io.BytesIO, sink), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        info = zipfile.ZipInfo("DICOMDIR", _DAY)
        info.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(info, directory_of(study, packed))
        yield sink.taken()
        for one in packed:
            instance = one.instance
            info = zipfile.ZipInfo("/".join(one.path), _DAY)
            # What is compressed already gains nothing.
            info.compress_type = zipfile.ZIP_DEFLATED if syntax_sent(instance) in NATIVE else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=stored.original_length(instance) > 2**31 - 2**20) as file:
                if not BARE.isdisjoint(instance.notes):
                    file.write(transcoding.meta_of(instance.sop_class, instance.uid, syntax_sent(instance)))
                    pieces = stored.iter_file(instance, instance.dataset_offset)
                else:
                    pieces = stored.iter_original(instance)
                for piece in pieces:
                    file.write(piece)
                    if data := sink.taken():
                        yield data
    yield sink.taken()


def answer(study: Study, instances: Sequence[Instance]) -> Response:
    """The archive as an answer."""
    return StreamingResponse(
        begun(written(study, named(instances))),
        media_type=negotiate.ZIP,
        headers={
            "Cache-Control": REVALIDATE,
            "Content-Disposition": f'attachment; filename="{study.uid}.zip"',
            "Vary": "Accept, Cookie",
        },
    )
