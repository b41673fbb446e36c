"""multipart/related (RFC 2387, RFC 2046 §5.1) read as it streams, and written.

The reader is fed chunks of any size and hands out pieces of parts as soon as it is sure that they belong to them; it
never holds more than a chunk and a boundary, and copies no data: what costs is finding the boundary, once over all
bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Final, Literal

_MAX_HEADERS: Final = 16 << 10
_MAX_PREAMBLE: Final = 64 << 10
_MAX_PADDING: Final = 1 << 10
# RFC 2046 §5.1.1 allows 70; Orthanc's client makes 73.
_LONGEST_BOUNDARY: Final = 200


class MultipartError(ValueError):
    """The body is not the multipart message that its header promised."""


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; header names are in lower case."""

    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class PartData:
    """Bytes of the present part."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The present part is whole: its boundary was seen."""


Event = PartBegin | PartData | PartEnd


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type with its parameters; type and parameter names are in lower case."""

    name: str
    params: dict[str, str] = field(default_factory=dict)


def parse_media_type(text: str) -> MediaType:
    """Parse a Content-Type or one Accept entry, with quoted or unquoted parameters (RFC 9110 §8.3.1)."""
    message = Message()
    message["Content-Type"] = text
    params = {str(name).lower(): str(value) for name, value in (message.get_params(failobj=[]) or [])[1:]}
    return MediaType(text.split(";", maxsplit=1)[0].strip().lower(), params)


class MultipartReader:
    """A push parser of one message.

    Args:
        boundary: The parameter of the Content-Type, unquoted.

    Raises:
        MultipartError: The boundary is not one.
    """

    def __init__(self, boundary: str) -> None:
        raw = boundary.encode("latin-1", "replace")
        if not 1 <= len(raw) <= _LONGEST_BOUNDARY or b"\r" in raw or b"\n" in raw:
            raise MultipartError("the boundary is missing or too long")
        self._mark = b"\r\n--" + raw
        # The first boundary may stand at the very beginning, without a line break before it.
        self._rest = b"\r\n"
        self._buffer = b""
        self._at = 0
        self._state: Literal["preamble", "boundary", "headers", "data", "epilogue"] = "preamble"
        self._in_part = False
        self._blank = False
        self._skipped = 0
        self.parts = 0

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Give the next bytes of the message.

        Yields:
            What became certain by them. Data are views of `chunk`, not copies.

        Raises:
            MultipartError: They cannot belong to a multipart message.
        """
        if self._state == "epilogue":
            return
        self._buffer = self._rest + chunk if self._rest else chunk
        self._at = 0
        while (step := self._step()) is not None:
            yield from step
        self._rest = self._buffer[self._at :] if self._at < len(self._buffer) else b""
        self._buffer = b""

    def finish(self) -> None:
        """Say that no more bytes come.

        Raises:
            MultipartError: The closing boundary was never seen: the message is cut off.
        """
        if self._state != "epilogue":
            raise MultipartError("the message ends before its closing boundary")

    def _step(self) -> list[Event] | None:
        if self._state == "data":
            return self._data()
        if self._state == "boundary":
            return self._boundary()
        if self._state == "headers":
            return self._headers()
        if self._state == "preamble":
            return self._preamble()
        self._at = len(self._buffer)
        return None

    def _preamble(self) -> list[Event] | None:
        found = self._buffer.find(self._mark, self._at)
        keep = len(self._mark) - 1
        end = found if found >= 0 else max(self._at, len(self._buffer) - keep)
        self._skipped += end - self._at
        if self._skipped > _MAX_PREAMBLE:
            raise MultipartError("no boundary where the message should begin")
        self._at = end if found < 0 else end + len(self._mark)
        if found < 0:
            return None
        self._state = "boundary"
        return []

    def _boundary(self) -> list[Event] | None:
        """After `--boundary`: `--` ends the message, blanks and a line break begin a part, else it was data."""
        buffer, at = self._buffer, self._at
        if len(buffer) - at < 2:
            return None
        if buffer.startswith(b"--", at):
            self._state = "epilogue"
            return self._ended()
        end = buffer.find(b"\r\n", at, at + _MAX_PADDING)
        padding = buffer[at : end if end >= 0 else at + _MAX_PADDING]
        if padding.rstrip(b"\r").strip(b" \t"):
            return self._not_a_boundary()
        if end < 0:
            if len(padding) >= _MAX_PADDING:
                return self._not_a_boundary()
            return None
        # The line break is left: where a part has no headers, it is the blank line, too.
        self._at = end
        self._state = "headers"
        return self._ended()

    def _not_a_boundary(self) -> list[Event]:
        if not self._in_part:
            self._state = "preamble"
            return []
        self._state = "data"
        return [PartData(self._mark)]

    def _ended(self) -> list[Event]:
        ended: list[Event] = [PartEnd()] if self._in_part else []
        self._in_part = False
        return ended

    def _headers(self) -> list[Event] | None:
        buffer, at = self._buffer, self._at
        end = buffer.find(b"\r\n\r\n", at, at + _MAX_HEADERS + 4)
        if end < 0:
            if len(buffer) - at > _MAX_HEADERS:
                raise MultipartError("the headers of a part are too long")
            return None
        headers: dict[str, str] = {}
        name = ""
        for line in buffer[at + 2 : end].split(b"\r\n") if end > at else []:
            text = line.decode("utf-8", "replace")
            if text[:1] in (" ", "\t") and name:
                headers[name] += " " + text.strip()
                continue
            name, colon, value = text.partition(":")
            name = name.strip().lower()
            if not colon or not name:
                raise MultipartError("a header of a part is malformed")
            headers[name] = value.strip()
        # A part without a body ends with the very next boundary, whose line break is then the blank line's.
        self._at = end + 2
        self._state, self._in_part, self._blank = "data", True, True
        self.parts += 1
        return [PartBegin(headers)]

    def _data(self) -> list[Event] | None:
        buffer, mark, at = self._buffer, self._mark, self._at
        if self._blank:
            # Of "headers CRLF CRLF --boundary" the second break may be the boundary's own.
            if len(buffer) - at < len(mark) and mark.startswith(buffer[at:]):
                return None
            self._blank = False
            if not buffer.startswith(mark, at):
                at += 2
        found = buffer.find(mark, at)
        if found >= 0:
            self._at = found + len(mark)
            self._state = "boundary"
            return self._piece(at, found)
        self._at = self._sure(at)
        return self._piece(at, self._at) or None

    def _sure(self, at: int) -> int:
        """How far the bytes from `at` on can be no beginning of a boundary."""
        buffer, mark = self._buffer, self._mark
        cut = buffer.find(b"\r", max(at, len(buffer) - len(mark) + 1))
        while cut >= 0:
            if mark.startswith(buffer[cut:]):
                return cut
            cut = buffer.find(b"\r", cut + 1)
        return len(buffer)

    def _piece(self, start: int, end: int) -> list[Event]:
        if start >= end:
            return []
        if start == 0 and end == len(self._buffer):
            return [PartData(self._buffer)]
        return [PartData(memoryview(self._buffer)[start:end])]


def write(parts: Iterable[tuple[dict[str, str], Iterable[bytes]]], boundary: str) -> Iterator[bytes]:
    """Write a multipart message piece by piece.

    Args:
        parts: (headers, chunks of the body).
        boundary: Text that stands in no part.
    """
    mark = boundary.encode("ascii")
    for headers, chunks in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        yield b"--" + mark + b"\r\n" + lines.encode("latin-1", "replace") + b"\r\n"
        yield from chunks
        yield b"\r\n"
    yield b"--" + mark + b"--\r\n"
