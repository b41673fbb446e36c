"""WADO-RS: whole instances (PS3.18 §10.4.1.1.1): one as the whole body or many in parts, ranges, a study as ZIP."""

from __future__ import annotations

import io
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final, Literal

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from hub.dicom import transcoding
from hub.dicom.transcoding import COMPRESSED_TARGETS, EXPLICIT, IMPLICIT, LOSSY, TranscodeError
from hub.kit.db import database
from hub.kit.i18n import _
from hub.kit.ids import new_secret
from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import multipart, negotiate
from hub.protocols.dicomweb.answers import REVALIDATE, not_modified, related
from hub.protocols.dicomweb.negotiate import Accepted
from hub.protocols.dicomweb.wado import Undecodable
from hub.studies import stored
from hub.studies.models import Instance
from storage.errors import ObjectNotFound

log = get_logger(__name__)

_CHUNK: Final = 1 << 20
_SPOOLED: Final = 16 << 20
BARE: Final = frozenset({"no-preamble", "no-file-meta", "no-transfer-syntax"})
"""Notes of files that came without what PS3.10 wants before the data set."""


# --- which form -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """How an instance is given: `sent` is the file as it came, byte for byte."""

    kind: Literal["stored", "sent", "transcoded"]
    syntax: str


def syntax_sent(instance: Instance) -> str:
    """The transfer syntax in which an instance came."""
    return instance.original_syntax or instance.transfer_syntax


def form_for(instance: Instance, wanted: str) -> Form | None:
    """How an instance is given to whoever names a transfer syntax; None where that cannot be.

    Args:
        instance: The instance.
        wanted: The parameter: a UID, `*`, or "" where none is named, which means Explicit VR Little Endian unless
            there is only a lossy form (PS3.18 §8.7.3.4). What cannot be decoded is then given as it is, too.
    """
    sent, present = syntax_sent(instance), instance.transfer_syntax
    if wanted == "*":
        return Form("stored", present)
    if wanted == sent:
        return Form("sent", sent)
    if wanted == present:
        return Form("stored", present)
    if not wanted:
        if sent == EXPLICIT:
            return Form("sent", sent)
        if sent in LOSSY or not transcoding.possible(present, EXPLICIT):
            return Form("sent", sent)
        return Form("transcoded", EXPLICIT)
    # Implicit VR and big endian have no place in web services, but for who asks for what he once sent.
    if wanted == IMPLICIT or not transcoding.possible(present, wanted):
        return None
    if wanted in COMPRESSED_TARGETS and not instance.has_pixels:
        # Compression concerns images; anything else is in the default transfer syntax.
        return Form("sent" if sent == EXPLICIT else "transcoded", EXPLICIT)
    return Form("transcoded", wanted)


def _takes_dicom(one: Accepted) -> bool:
    return one.inner in (negotiate.DICOM, "application/*", "*/*")


# --- one file -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Body:
    """A whole DICOM file that is about to be sent.

    Attributes:
        syntax: Its transfer syntax.
        size: Its length in bytes.
        etag: Changes with its bytes; empty where it cannot be told.
    """

    syntax: str
    size: int
    etag: str
    _file: IO[bytes] | None
    _instance: Instance | None

    def chunks(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """A range of it. May be taken once."""
        left = self.size - offset if length is None else length
        if self._file is None:
            assert self._instance is not None
            yield from stored.iter_file(self._instance, offset, left)
            return
        with self._file as file:
            file.seek(offset)
            while left and (data := file.read(min(_CHUNK, left))):
                left -= len(data)
                yield data

    def close(self) -> None:
        """Release what it holds."""
        if self._file is not None:
            self._file.close()


def body_of(instance: Instance, form: Form) -> Body:
    """Make an instance ready to be sent.

    Memory is bounded: what is made anew lies in a file above `_SPOOLED` bytes.

    Raises:
        TranscodeError: It cannot be given so.
        StorageError: It cannot be read.
    """
    bare = not BARE.isdisjoint(instance.notes)
    if form.kind == "transcoded":
        made: IO[bytes] = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115 - closed by whoever sends it
        try:
            limit = get_settings().frame_max_mb << 20
            with _local(stored.iter_file(instance)) as source:
                transcoding.transcode_to(source, made, form.syntax, max_frame_bytes=limit)
        except BaseException:
            made.close()
            raise
        return Body(form.syntax, made.tell(), "", made, None)
    recompressed = bool(instance.original_syntax)
    if form.kind == "sent" and recompressed:
        file = _local(stored.iter_original(instance))
        size = file.seek(0, io.SEEK_END)
        return Body(form.syntax, size, f'"{instance.file_sha256[:40]}"', file, None)
    if bare:
        # PS3.10 wants what the sender left out.
        made = tempfile.SpooledTemporaryFile(_SPOOLED)  # noqa: SIM115
        made.write(transcoding.meta_of(instance.sop_class, instance.uid, form.syntax))
        for chunk in stored.iter_file(instance, instance.dataset_offset):
            made.write(chunk)
        return Body(form.syntax, made.tell(), f'"{instance.file_sha256[:40]}-whole"', made, None)
    digest = (instance.stored_sha256 if recompressed else "") or instance.file_sha256
    return Body(form.syntax, instance.size, f'"{digest[:40]}"', None, instance)


def _local(pieces: Iterator[bytes]) -> IO[bytes]:
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for piece in pieces:
            file.write(piece)
        file.flush()
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _again(instance: Instance) -> Instance | None:
    """The row as it is now: an object may have been stored anew since it was read."""
    with database().reading() as session:
        row = session.get(Instance, instance.id)
        if row is not None:
            session.expunge(row)
        return row


def ready(instance: Instance, wanted: str) -> Body:
    """An instance in the transfer syntax that was named, ready to be sent.

    Where none was named and the pixels do not decode, as it came.

    Raises:
        Undecodable: It cannot be given so.
    """
    for last in (False, True):
        form = form_for(instance, wanted)
        if form is None:
            raise negotiate.NotAcceptable()
        try:
            return body_of(instance, form)
        except TranscodeError as error:
            if wanted:
                raise Undecodable(_("影像无法解码:{why}").format(why=str(error))) from error
            log.info("an instance is given as it came", instance=instance.id, code=error.code)
            return body_of(instance, Form("sent", syntax_sent(instance)))
        except ObjectNotFound:
            row = None if last else _again(instance)
            if row is None:
                raise
            instance = row
    raise AssertionError


# --- ranges ---------------------------------------------------------------------------------------------------------

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def range_of(request: Request, size: int, etag: str) -> tuple[int, int] | Literal["unsatisfiable"] | None:
    """The one range that is asked for (RFC 9110 §14): (offset, length); None to send all.

    Several ranges are answered with the whole, as the RFC allows.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    condition = request.headers.get("if-range")
    if condition is not None and (not etag or condition.strip() != etag):
        return None
    if not found[1]:
        length = min(int(found[2]), size)
        return (size - length, length) if length else "unsatisfiable"
    first = int(found[1])
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    if first >= size:
        return "unsatisfiable"
    return None if found[2] and int(found[2]) < first else (first, last - first + 1)


def single(request: Request, instance: Instance, wanted: str) -> Response:
    """One instance as the whole body; ranges of it."""
    body = ready(instance, wanted)
    headers = {
        "Cache-Control": REVALIDATE,
        "Vary": "Accept, Cookie",
        "Content-Type": f"{negotiate.DICOM}; transfer-syntax={body.syntax}",
        "Content-Disposition": f'attachment; filename="{instance.uid}.dcm"',
    }
    if body.etag:
        headers |= {"ETag": body.etag, "Accept-Ranges": "bytes"}
        if (unchanged := not_modified(request, body.etag)) is not None:
            body.close()
            return unchanged
    asked = range_of(request, body.size, body.etag) if body.etag else None
    if asked == "unsatisfiable":
        body.close()
        return Response(status_code=416, headers={"Content-Range": f"bytes */{body.size}", **headers})
    if asked is None:
        headers["Content-Length"] = str(body.size)
        return StreamingResponse(begun(body.chunks()), headers=headers)
    offset, length = asked
    headers |= {"Content-Length": str(length), "Content-Range": f"bytes {offset}-{offset + length - 1}/{body.size}"}
    return StreamingResponse(begun(body.chunks(offset, length)), 206, headers=headers)


def begun(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now, so that what cannot be read is an error and no broken answer."""
    first = next(chunks, b"")

    def rest() -> Iterator[bytes]:
        yield first
        yield from chunks

    return rest()


# --- many -----------------------------------------------------------------------------------------------------------


def answer(request: Request, instances: Sequence[Instance], *, place: Callable[[Instance], str]) -> Response:
    """Answer a request for whole instances by Accept.

    Args:
        request: The request.
        instances: What is asked for; at least one.
        place: Gives an instance's address.

    Raises:
        NotAcceptable: None of the forms that the client takes can be given.
    """
    for one in negotiate.accepted(request):
        if not _takes_dicom(one):
            continue
        if one.media.name == negotiate.DICOM and len(instances) > 1:
            continue  # more than one instance has no place in one part
        if any(form_for(instance, one.syntax) is None for instance in instances):
            continue
        if one.media.name == negotiate.DICOM:
            return single(request, instances[0], one.syntax)
        return _parts(instances, one.syntax, place)
    raise negotiate.NotAcceptable()


def _parts(instances: Sequence[Instance], wanted: str, place: Callable[[Instance], str]) -> Response:
    boundary = f"hub-{new_secret(12)}"

    def bodies() -> Iterator[tuple[dict[str, str], Iterator[bytes]]]:
        for instance in instances:
            try:
                body = ready(instance, wanted)
            except Undecodable:
                if len(instances) == 1:
                    raise
                # The answer has begun: given as it came, and said so, it is not lost to the client.
                body = body_of(instance, Form("sent", syntax_sent(instance)))
            yield (
                {
                    "Content-Type": f"{negotiate.DICOM}; transfer-syntax={body.syntax}",
                    "Content-Location": place(instance),
                },
                body.chunks(),
            )

    return StreamingResponse(
        begun(multipart.write(bodies(), boundary)),
        headers={
            "Content-Type": related(negotiate.DICOM, boundary),
            "Cache-Control": REVALIDATE,
            "Vary": "Accept, Cookie",
        },
    )
