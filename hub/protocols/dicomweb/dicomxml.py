"""The DICOM JSON model written as the Native DICOM Model (PS3.19 §A.1), and read from it."""

from __future__ import annotations

import re
from typing import Any, Final
from xml.etree import ElementTree
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

from pydicom.datadict import keyword_for_tag

_PARTS: Final = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")
_DEEPEST: Final = 64
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(document: dict[str, Any]) -> bytes:
    """One data set as an XML document in UTF-8."""
    out = ['<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xml:space="preserve">']
    _dataset(out, document)
    out.append("</NativeDicomModel>")
    return "".join(out).encode("utf-8", "replace")


def read(data: bytes) -> dict[str, Any]:
    """A document of the Native DICOM Model in the DICOM JSON model.

    Raises:
        ValueError: It is none, or it declares a document type, by which little text becomes gigabytes.
    """
    if b"<!" in data.replace(b"<!--", b""):
        raise ValueError("a document type is declared")
    try:
        # In UTF-8 whatever the document says: in another encoding a declaration would look otherwise.
        parser = ElementTree.XMLParser(encoding="utf-8")  # noqa: S314 - nothing is declared that could be expanded
        root = ElementTree.fromstring(data, parser)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError("no XML") from error
    if root.tag.rpartition("}")[2] != "NativeDicomModel":
        raise ValueError("no Native DICOM Model")
    return _read_dataset(root, 0)


def _read_dataset(parent: Element, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise ValueError("nested too deeply")
    out: dict[str, Any] = {}
    for attribute in parent:
        tag, vr = attribute.get("tag", "").upper(), attribute.get("vr", "")
        if attribute.tag.rpartition("}")[2] != "DicomAttribute" or not re.fullmatch("[0-9A-F]{8}", tag):
            raise ValueError("not an attribute")
        element: dict[str, Any] = {"vr": vr}
        values = []
        for child in attribute:
            name = child.tag.rpartition("}")[2]
            if name == "BulkData":
                element["BulkDataURI"] = child.get("uri", "")
            elif name == "InlineBinary":
                element["InlineBinary"] = child.text or ""
            elif name == "Item":
                values.append((child, _read_dataset(child, depth + 1)))
            elif name == "PersonName":
                groups = {group.tag.rpartition("}")[2]: _read_name(group) for group in child}
                values.append((child, groups))
            elif name == "Value":
                values.append((child, _read_value(vr, child.text or "")))
        if values:
            values.sort(key=lambda pair: int(pair[0].get("number", "0")))
            element["Value"] = [value for _child, value in values]
        out[tag] = element
    return out


def _read_name(group: Element) -> str:
    parts = {part.tag.rpartition("}")[2]: part.text or "" for part in group}
    return "^".join(parts.get(name, "") for name in _PARTS).rstrip("^")


def _read_value(vr: str, text: str) -> Any:
    if vr in ("FL", "FD"):
        return float(text)
    if vr in ("SL", "SS", "SV", "UL", "US", "UV", "IS"):
        return int(text)
    return float(text) if vr == "DS" else text


def _text(value: Any) -> str:
    return escape(_ILLEGAL.sub("", str(value)))


def _dataset(out: list[str], document: dict[str, Any]) -> None:
    for tag, element in document.items():
        keyword = keyword_for_tag(int(tag, 16))
        name = f" keyword={quoteattr(keyword)}" if keyword else ""
        out.append(f'<DicomAttribute tag="{tag}" vr="{element["vr"]}"{name}>')
        if "BulkDataURI" in element:
            out.append(f"<BulkData uri={quoteattr(str(element['BulkDataURI']))}/>")
        elif "InlineBinary" in element:
            out.append(f"<InlineBinary>{element['InlineBinary']}</InlineBinary>")
        for number, value in enumerate(element.get("Value", ()), 1):
            if value is None:
                continue
            if element["vr"] == "SQ":
                out.append(f'<Item number="{number}">')
                _dataset(out, value)
                out.append("</Item>")
            elif element["vr"] == "PN":
                out.append(f'<PersonName number="{number}">')
                for group, text in value.items():
                    parts = zip(_PARTS, str(text).split("^"), strict=False)
                    inner = "".join(f"<{part}>{_text(one)}</{part}>" for part, one in parts if one)
                    out.append(f"<{group}>{inner}</{group}>")
                out.append("</PersonName>")
            else:
                out.append(f'<Value number="{number}">{_text(value)}</Value>')
        out.append("</DicomAttribute>")
