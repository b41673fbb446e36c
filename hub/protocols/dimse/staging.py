"""A data set on its way in: written to a staging file as it arrives, with the header of a DICOM file before it."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from hub.dicom.objects import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_NAME
from hub.kit.errors import Unavailable
from hub.kit.logging import get_logger
from hub.studies import intake

log = get_logger(__name__)

IN_MEMORY: Final = 2 << 20
"""As much of a data set is held before it goes to a file: an ordinary slice needs no file of its own."""

_CHUNK: Final = 256 << 10
_LOOK: Final = 16 << 20
"""Bytes between two looks at the room that is kept for the database."""


def header(*, sop_class: str, sop_uid: str, transfer_syntax: str, sender: str) -> bytes:
    """Preamble and File Meta Information (PS3.10 §7.1) of a data set as it was negotiated.

    Args:
        sop_class: Affected SOP Class UID.
        sop_uid: Affected SOP Instance UID.
        transfer_syntax: The presentation context's.
        sender: The calling AE title, which becomes Source Application Entity Title.
    """
    elements = b"".join(
        (
            struct.pack("<HH2s2xL", 2, 0x0001, b"OB", 2) + b"\x00\x01",
            _short(0x0002, b"UI", sop_class),
            _short(0x0003, b"UI", sop_uid),
            _short(0x0010, b"UI", transfer_syntax),
            _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
            _short(0x0013, b"SH", IMPLEMENTATION_NAME),
            _short(0x0016, b"AE", sender),
        )
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _short(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:
        value += b"\0" if vr == b"UI" else b" "
    return struct.pack("<HH2sH", 2, element, vr, len(value)) + value


class Staged:
    """One data set as it arrives. What cannot be kept is read on and thrown away, so that the sender can be told.

    Attributes:
        size: Bytes so far, with the header.
        too_large: It is longer than any instance may be.
        no_room: The disk would not take it.
    """

    def __init__(self, head: bytes, *, most: int) -> None:
        self.size = len(head)
        self.too_large = False
        self.no_room = False
        self._most = most
        self._pieces: list[bytes | bytearray] = [head]
        self._written = 0
        self._file: IO[bytes] | None = None
        self._path: Path | None = None

    def take(self, fill: Callable[[memoryview], None], size: int) -> None:
        """Read `size` bytes by `fill` and keep them.

        Raises:
            OSError: The connection ended.
        """
        self.size += size
        if self.size > self._most and not self.too_large:
            self.too_large = True
            self.drop()
        keep = not (self.too_large or self.no_room)
        if keep and self._file is None and self.size > IN_MEMORY:
            keep = self._to_file()
        while size:
            part = bytearray(min(size, _CHUNK))
            fill(memoryview(part))
            size -= len(part)
            if keep:
                keep = self._keep(part)

    def _keep(self, part: bytearray) -> bool:
        if self._file is None:
            last = self._pieces[-1]
            if isinstance(last, bytearray) and len(last) + len(part) <= _CHUNK:
                # Of fragments of a byte each, the objects would weigh a hundred times the bytes.
                last += part
            else:
                self._pieces.append(part)
            return True
        try:
            self._written += len(part)
            if self._written >= _LOOK:
                self._written = 0
                intake.check_room()
            self._file.write(part)
        except (OSError, Unavailable) as error:
            return self._full(error)
        return True

    def _to_file(self) -> bool:
        try:
            intake.check_room()
            handle, name = tempfile.mkstemp(dir=intake.staging(), prefix="dimse-")
            self._file, self._path = os.fdopen(handle, "wb"), Path(name)
            for piece in self._pieces:
                self._file.write(piece)
        except (OSError, Unavailable) as error:
            return self._full(error)
        self._pieces = []
        return True

    def _full(self, error: OSError | Unavailable) -> bool:
        log.error("a data set could not be staged", errno=error.errno if isinstance(error, OSError) else 0)
        self.no_room = True
        self.drop()
        return False

    def finish(self) -> Path | bytes:
        """The whole file: where it lies, or its bytes where it is small.

        Raises:
            OSError: The disk would not take its end.
        """
        if self._file is None or self._path is None:
            return b"".join(self._pieces)
        self._file.close()
        return self._path

    def drop(self) -> None:
        """Leave nothing behind."""
        self._pieces = []
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                log.warning("a staging file was not closed in order")
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._file = None
