"""A store request of metadata and bulk data (PS3.18 §10.5.1.1.2): instances are built of both and taken in as files.

Metadata come first or last; only when the body is whole is it known what belongs together, so bulk data wait in
staging files beyond a little memory. Each instance is then built, one at a time, within a bound of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

from starlette.concurrency import run_in_threadpool

from hub.dicom import assembling
from hub.dicom.assembling import Bulk, MissingBulk, Unfit
from hub.kit.actor import Actor
from hub.kit.errors import TooLarge
from hub.kit.i18n import _
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import dicomxml, negotiate
from hub.protocols.dicomweb.multipart import MultipartError, parse_media_type
from hub.protocols.dicomweb.receiving import GROUP_BYTES, GROUP_PARTS, SOURCE, Part
from hub.studies import intake, reasons
from hub.studies.intake import Batch, Incoming, Outcome

COERCED: Final = "coerced"
"""Note of an outcome: a value was replaced, its character set."""

_METADATA_BYTES: Final = 16 << 20
_BULK_BYTES: Final = 64 << 20
_IN_MEMORY: Final = 16 << 20
_MOST_PARTS: Final = 20_000


class MetadataReceiver:
    """One request's metadata and bulk data.

    Args:
        actor: Who sends.
        org_id: Whose the instances become.
        study_uid: The study of the request's address, or "".
        media: Media type of the metadata, DICOM JSON or XML.
        base: The request's address, by which relative references are resolved.
    """

    def __init__(self, actor: Actor, org_id: str, study_uid: str, *, media: str, base: str) -> None:
        self.outcomes: list[Outcome] = []
        self._actor = actor
        self._org_id = org_id
        self._study_uid = study_uid
        self._media = media
        self._base = base
        self._part: Part | None = None
        self._metadata: list[Part] = []
        self._bulk: dict[str, list[Part]] = {}
        self._used: set[str] = set()
        self._in_memory = 0
        self._count = 0
        self._limit = get_settings().instance_max_mb * 2**20

    async def begin(self, headers: dict[str, str]) -> None:
        """A part begins."""
        self._count += 1
        if self._count > _MOST_PARTS:
            raise MultipartError("too many parts")
        self._part = Part(headers)

    async def data(self, data: bytes | memoryview) -> None:
        """Bytes of the present part."""
        part = self._part
        if part is None:
            return
        most = _METADATA_BYTES if part.kind == self._media else self._limit
        if part.size + len(data) > most:
            raise TooLarge(_("单个影像文件过大,未接收"), code="instance-too-large")
        await part.add(data)

    async def end(self) -> None:
        """The present part is whole."""
        part, self._part = self._part, None
        if part is None:
            return
        if part.kind == self._media:
            self._metadata.append(part)
        else:
            self._bulk.setdefault(self._address(part.headers.get("content-location", "")), []).append(part)
        if self._in_memory + part.size > _IN_MEMORY:
            await part.to_file()
        else:
            self._in_memory += part.size
        await part.finish()

    def _address(self, location: str) -> str:
        return urljoin(self._base, location.strip())

    async def finish(self) -> None:
        """Build the instances and take them in.

        Raises:
            MultipartError: The metadata are none.
        """
        if not self._metadata:
            raise MultipartError("no metadata")
        await run_in_threadpool(self._take)

    def _take(self) -> None:
        batch, held, waiting = self._new_batch(), 0, list[tuple[int, bool]]()
        # The same bulk data in every instance would fill the disks with what arrived once.
        left = get_settings().stow_max_request_mb * 2**20
        for number, item in enumerate(self._items(), 1):
            if number > _MOST_PARTS or left < 0:
                raise TooLarge(_("请求过大,超过 {mb} MB;请分几次发送").format(mb=get_settings().stow_max_request_mb))
            try:
                data, coerced = assembling.assemble(item, self._find)
            except (Unfit, MissingBulk) as error:
                self.outcomes.append(_refused(item, error))
                continue
            left -= len(data)
            if held and (held + len(data) > GROUP_BYTES or len(batch) >= GROUP_PARTS):
                self._commit(batch, waiting)
                batch, held, waiting = self._new_batch(), 0, []
            waiting.append((len(self.outcomes), coerced))
            self.outcomes.append(Outcome("refused", reasons.PROCESSING_FAILED))
            batch.read([Incoming(data, f"#{len(self.outcomes)}", want_study=self._study_uid)])
            held += len(data)
        self._commit(batch, waiting)
        for address, parts in self._bulk.items():
            if address not in self._used:
                reason = reasons.message(reasons.UNREFERENCED)
                self.outcomes += [Outcome("refused", reasons.UNREFERENCED, reason)] * len(parts)

    def _new_batch(self) -> Batch:
        return Batch(self._actor, org_id=self._org_id, source=SOURCE)

    def _commit(self, batch: Batch, waiting: list[tuple[int, bool]]) -> None:
        if not waiting:
            return
        intake.check_room()
        for (place, coerced), outcome in zip(waiting, batch.commit(), strict=True):
            self.outcomes[place] = replace(outcome, notes=(*outcome.notes, COERCED)) if coerced else outcome

    def _items(self) -> Iterator[Any]:
        for part in self._metadata:
            try:
                if self._media == negotiate.XML:
                    found: Any = [dicomxml.read(_bytes(part))]
                else:
                    found = json.loads(_bytes(part))
            except (ValueError, RecursionError) as error:
                raise MultipartError("the metadata are malformed") from error
            yield from found if isinstance(found, list) else [found]

    def _find(self, uri: str) -> Bulk:
        address = self._address(uri)
        parts = self._bulk.get(address)
        if parts is None and f"{address}/frames/1" in self._bulk:
            parts, number = [], 1
            while (frame := self._bulk.get(f"{address}/frames/{number}")) is not None:
                self._used.add(f"{address}/frames/{number}")
                parts += frame
                number += 1
        if not parts:
            raise MissingBulk
        self._used.add(address)
        if sum(part.size for part in parts) > _BULK_BYTES:
            raise Unfit("too much bulk data for this kind of request")
        media = parse_media_type(parts[0].headers.get("content-type", "") or negotiate.OCTETS)
        return Bulk([_bytes(part) for part in parts], media.name, media.params.get("transfer-syntax", ""))

    async def close(self) -> None:
        """Leave no file and no bytes behind."""
        for part in (*self._metadata, *(one for parts in self._bulk.values() for one in parts)):
            part.release()
        if self._part is not None:
            self._part.release()


def _bytes(part: Part) -> bytes:
    found = part.content
    return found.read_bytes() if isinstance(found, Path) else found


def _refused(item: Any, error: Exception) -> Outcome:
    code = reasons.MISSING_BULK if isinstance(error, MissingBulk) else reasons.BAD_METADATA
    params = {} if isinstance(error, MissingBulk) else {"why": str(error)}
    sop, sop_class = _uid(item, "00080018"), _uid(item, "00080016")
    return Outcome("refused", code, reasons.message(code, params), params, sop_uid=sop, sop_class_uid=sop_class)


def _uid(item: Any, tag: str) -> str:
    """A UID of metadata that could not be built upon, for the answer; "" where it is none."""
    try:
        value = item[tag]["Value"][0]
    except (KeyError, IndexError, TypeError):
        return ""
    return value if isinstance(value, str) and len(value) <= 64 and value.replace(".", "").isdigit() else ""
