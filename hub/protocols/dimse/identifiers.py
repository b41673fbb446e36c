"""Identifiers of C-FIND, C-MOVE and C-GET: data sets of keys, and the levels they speak of (PS3.4 annex C)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from hub.protocols.dimse import statuses

PATIENT, STUDY, SERIES, IMAGE = "PATIENT", "STUDY", "SERIES", "IMAGE"
ORDER: Final = (PATIENT, STUDY, SERIES, IMAGE)
UNIQUE: Final = {PATIENT: "00100020", STUDY: "0020000D", SERIES: "0020000E", IMAGE: "00080018"}
"""Unique key of each level (PS3.4 §C.6)."""

MOST_INFLATED: Final = 16 << 20
"""Longest data set that a deflated one may turn out to be: what comes plain is 4 MB at most."""

_LEVEL: Final = "00080052"
_NOT_KEYS: Final = frozenset({_LEVEL, "00080005", "00080053", "00080054", "00080201"})


class Refused(Exception):
    """An identifier that cannot be served.

    Attributes:
        status: Status of the response.
        why: For Error Comment.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True, slots=True)
class Identifier:
    """What was asked, in plain values.

    Attributes:
        level: Query/Retrieve Level (0008,0052).
        keys: Tag path (dotted within a sequence) and its values; no values: only to be returned.
        returned: Top-level tags that the answer should hold.
    """

    level: str
    keys: tuple[tuple[str, tuple[str, ...]], ...] = ()
    returned: tuple[str, ...] = field(default=())

    def values(self, tag: str) -> tuple[str, ...]:
        """The values of a key, without what matches everything."""
        return tuple(one for path, values in self.keys if path == tag for one in values if one and one != "*")


def decoded(data: BytesIO, context: Any) -> Dataset:
    """A data set of a request, as its presentation context says.

    Raises:
        ValueError: Inflated it is far longer than any request.
        Exception: It cannot be read; the library says so in many ways.
    """
    syntax = context.transfer_syntax[0]
    if syntax.is_deflated:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        plain = inflating.decompress(data.getvalue(), MOST_INFLATED)
        if inflating.unconsumed_tail:
            raise ValueError("too long")
        data = BytesIO(plain)
    return decode(data, syntax.is_implicit_VR, syntax.is_little_endian)


def read(data: BytesIO | None, context: Any) -> Identifier:
    """An identifier as it came.

    Raises:
        ValueError: It cannot be read, or has no level.
    """
    if data is None:
        raise ValueError("no identifier")
    try:
        dataset = decoded(data, context)
        dataset.decode()
        keys: list[tuple[str, tuple[str, ...]]] = []
        returned: list[str] = []
        level = ""
        for element in dataset:
            tag = f"{int(element.tag):08X}"
            if tag == _LEVEL:
                level = str(element.value or "").strip().upper()
            if tag in _NOT_KEYS or element.tag.element == 0:
                continue
            returned.append(tag)
            if element.VR == "SQ":
                for item in list(element.value or ())[:1]:
                    keys += [(f"{tag}.{int(inner.tag):08X}", _values(inner)) for inner in item if inner.VR != "SQ"]
            else:
                keys.append((tag, _values(element)))
    except Exception as error:
        raise ValueError("an identifier that cannot be read") from error
    if level not in ORDER:
        raise ValueError("no Query/Retrieve Level")
    return Identifier(level, tuple(keys), tuple(returned))


def asked(data: BytesIO | None, context: Any, levels: Mapping[str, tuple[str, ...]]) -> Identifier:
    """The identifier of a request whose SOP class has these levels.

    Args:
        data: The identifier as it came.
        context: The presentation context that it came in.
        levels: By SOP class.

    Raises:
        Refused: It cannot be read, or its level does not fit the SOP class (PS3.4 §C.4.1.1.3.1, §C.4.2.1.4).
    """
    try:
        found = read(data, context)
    except ValueError as error:
        raise Refused(statuses.UNABLE_TO_PROCESS, str(error)) from error
    if found.level not in levels.get(str(context.abstract_syntax), ()):
        raise Refused(statuses.DOES_NOT_MATCH_CLASS, "this model has no such level")
    return found


def require_unique(identifier: Identifier, level: str) -> None:
    """See to it that a level is named by its unique key.

    Raises:
        Refused: It is not.
    """
    if not identifier.values(UNIQUE[level]):
        raise Refused(statuses.DOES_NOT_MATCH_CLASS, f"the unique key of level {level} is missing")


def _values(element: Any) -> tuple[str, ...]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return ()
    found = list(value) if element.VM > 1 else [value]
    return tuple(text for text in (str(one).strip() for one in found) if text)


def write(dataset: Dataset, context: Any) -> BytesIO:
    """A data set for a response.

    Raises:
        ValueError: It holds what cannot be written.
    """
    syntax = context.transfer_syntax[0]
    data = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if data is None:
        raise ValueError("a data set that cannot be written")
    return BytesIO(data)
