"""A header as DICOM JSON (PS3.18 Annex F), for QIDO-RS, WADO-RS metadata and the viewer.

It reads raw elements itself instead of letting pydicom convert them: half the time, and a bad value costs that value
only, never the object.
"""

from __future__ import annotations

import base64
import json
import math
import re
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Final

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset

from hub.dicom.reader import BulkElement
from hub.dicom.text import TEXT_VRS

JsonObject = dict[str, Any]

_BINARY: Final = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_SWAP: Final[dict[str, int]] = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_NUMBERS: Final[dict[str, tuple[str, int]]] = {
    "US": ("H", 2),
    "SS": ("h", 2),
    "UL": ("L", 4),
    "SL": ("l", 4),
    "FL": ("f", 4),
    "FD": ("d", 8),
    "SV": ("q", 8),
    "UV": ("Q", 8),
}
_ONE_TEXT: Final = frozenset({"LT", "ST", "UT", "UR"})
_PIXELS: Final = frozenset({"7FE00008", "7FE00009", "7FE00010"})
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_MAX_DEPTH: Final = 100


def to_dicom_json(
    header: Dataset,
    *,
    bulk_uri: Callable[[str], str] | None = None,
    bulk: Iterable[BulkElement] = (),
    max_inline: int = 64 << 10,
) -> JsonObject:
    """Write a data set as the DICOM JSON model.

    Args:
        header: As from `reader.read`, or any data set.
        bulk_uri: Gives the URI of a bulk value from its path (``00420011``, ``00880200/0/7FE00010``). Without it bulk
            values are left out.
        bulk: Values that the header does not hold, `ParsedInstance.bulk`.
        max_inline: Binary values beyond this many bytes are bulk, too.

    Returns:
        Tags in ascending order. Values that cannot be valid JSON of their VR (a DS that is no number, NaN) are kept as
        text where the annex allows it, else left out. PixelData is never inline. Never raises.
    """
    out = _dataset(header, "", bulk_uri, max_inline, 0)
    if bulk_uri is not None:
        for element in bulk:
            _place(out, element, bulk_uri(element.name))
    return dict(sorted(out.items()))


def compress(document: JsonObject) -> bytes:
    """Pack a JSON document for the database: UTF-8 without spaces, deflated."""
    return zlib.compress(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"), 6)


def decompress(data: bytes) -> JsonObject:
    """Unpack what `compress` packed.

    Raises:
        ValueError: Other bytes.
    """
    try:
        document = json.loads(zlib.decompress(data))
    except zlib.error as problem:
        raise ValueError("not a packed document") from problem
    if not isinstance(document, dict):
        raise ValueError("not a packed document")
    return document


def _place(out: JsonObject, element: BulkElement, uri: str) -> None:
    here = out
    for i in range(0, len(element.path) - 1, 2):
        items = here.get(f"{element.path[i]:08X}", {}).get("Value")
        number = element.path[i + 1]
        if not isinstance(items, list) or number >= len(items):
            return
        here = items[number]
    here[f"{element.path[-1]:08X}"] = {"vr": element.vr, "BulkDataURI": uri}


def _dataset(
    dataset: Dataset, prefix: str, bulk_uri: Callable[[str], str] | None, max_inline: int, depth: int
) -> JsonObject:
    out: JsonObject = {}
    if depth > _MAX_DEPTH:
        return out
    for tag, element in dataset._dict.items():  # iterating the data set itself would convert every element
        number = int(tag)
        if number & 0xFFFF == 0 or number >> 16 in (0, 2):
            continue
        key = f"{number:08X}"
        path = prefix + key
        try:
            found = _element(dataset, key, path, element, bulk_uri, max_inline, depth)
        except Exception:  # noqa: S112 - one bad value costs itself only
            continue
        if found is not None:
            out[key] = found
    return out


def _element(
    dataset: Dataset,
    key: str,
    path: str,
    element: Any,
    bulk_uri: Callable[[str], str] | None,
    max_inline: int,
    depth: int,
) -> JsonObject | None:
    if isinstance(element, RawDataElement):
        vr = element.VR
        raw = element.value
        if vr is None or not isinstance(raw, bytes) or vr == "SQ":
            element = dataset[element.tag]
        elif vr in TEXT_VRS and not raw.isascii() and dataset.original_character_set != ["utf_8"]:
            element = dataset[element.tag]  # not one of the reader's, whose text is UTF-8
        elif not raw and vr not in ("SQ",) and key not in _PIXELS:
            return {"vr": vr}
        elif vr in _BINARY or key in _PIXELS:
            return _binary(vr, key, path, raw, element.is_little_endian, bulk_uri, max_inline)
        elif vr in _NUMBERS or vr == "AT":
            return _with(vr, _unpacked(vr, raw, element.is_little_endian))
        else:
            return _with(vr, _texts(vr, raw.decode("utf-8", "replace")))
    if not isinstance(element, DataElement):
        return None
    vr = str(element.VR)
    value = element.value
    if vr == "SQ":
        items = [
            dict(sorted(_dataset(item, f"{path}/{i}/", bulk_uri, max_inline, depth + 1).items()))
            for i, item in enumerate(value or ())
        ]
        return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
    if vr in _BINARY or key in _PIXELS or " or " in vr:
        if isinstance(value, bytes):
            vr = "OW" if " or " in vr else vr
            return _binary(vr, key, path, value, dataset.original_encoding[1] is not False, bulk_uri, max_inline)
        vr = vr.split(" or ")[0]
    if value is None or value in ("", []):
        return {"vr": vr}
    values = list(value) if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    if vr == "AT":
        return _with(vr, [f"{int(v):08X}" for v in values])
    if vr in _NUMBERS:
        return _with(vr, [_finite(v) for v in values])
    return _with(vr, _texts(vr, "\\".join("" if v is None else str(v) for v in values)))


def _with(vr: str, values: list[Any]) -> JsonObject:
    return {"vr": vr, "Value": values} if any(v is not None for v in values) else {"vr": vr}


def _binary(
    vr: str,
    key: str,
    path: str,
    raw: bytes,
    little: bool,
    bulk_uri: Callable[[str], str] | None,
    max_inline: int,
) -> JsonObject | None:
    if key in _PIXELS or len(raw) > max_inline:
        return {"vr": vr, "BulkDataURI": bulk_uri(path)} if bulk_uri is not None else None
    if not raw:
        return {"vr": vr}
    width = _SWAP.get(vr, 1)
    if not little and width > 1 and len(raw) % width == 0:
        # JSON's inline binary is little endian (PS3.18 F.2.7).
        raw = b"".join(raw[i : i + width][::-1] for i in range(0, len(raw), width))
    return {"vr": vr, "InlineBinary": base64.b64encode(raw).decode("ascii")}


def _finite(value: Any) -> Any:
    number = float(value) if isinstance(value, float) else value
    return None if isinstance(number, float) and not math.isfinite(number) else number


def _unpacked(vr: str, raw: bytes, little: bool) -> list[Any]:
    order = "<" if little else ">"
    if vr == "AT":
        pairs = struct.unpack(f"{order}{len(raw) // 4 * 2}H", raw[: len(raw) // 4 * 4])
        return [f"{a:04X}{b:04X}" for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
    code, width = _NUMBERS[vr]
    count = len(raw) // width
    return [_finite(v) for v in struct.unpack(f"{order}{count}{code}", raw[: count * width])]


def _texts(vr: str, text: str) -> list[Any]:
    text = text.replace("\0", "")
    if vr in _ONE_TEXT:
        text = text.rstrip(" ")
        return [text] if text else []
    parts = text.split("\\")
    if vr == "PN":
        return [_name(p) for p in parts]
    if vr == "DS":
        return [_number(p) for p in parts]
    if vr == "IS":
        return [_integer(p) for p in parts]
    if vr == "UC":
        return [p.rstrip(" ") or None for p in parts]
    return [p.strip(" ") or None for p in parts]


def _name(text: str) -> JsonObject | None:
    groups = {k: g for k, part in zip(_GROUPS, text.split("="), strict=False) if (g := part.rstrip(" ").rstrip("^"))}
    return groups or None


_DECIMAL: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def _number(text: str) -> Any:
    text = text.strip(" ")
    if not text:
        return None
    if _DECIMAL.fullmatch(text) and math.isfinite(number := float(text)):
        # 1 rather than 1.0, as it was written, where nothing is lost by it.
        return int(number) if number.is_integer() and abs(number) < 1 << 53 and text.lstrip("+-").isdigit() else number
    return text[:64]  # F.2.3: DS and IS may be strings


def _integer(text: str) -> Any:
    text = text.strip(" ")
    if not text:
        return None
    if re.fullmatch(r"[+-]?\d{1,15}", text, re.ASCII):
        return int(text)
    return text[:64]
