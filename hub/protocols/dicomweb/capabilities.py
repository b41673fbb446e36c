"""What a door of DICOMweb can do, made from its registered routes (PS3.18 §8.9)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final
from xml.etree import ElementTree

from fastapi import APIRouter
from fastapi.routing import APIRoute

WADL: Final = "application/vnd.sun.wadl+xml"
JSON: Final = "application/json"
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"

_QUERY: Final = {
    "rendered": ("accept", "annotation", "quality", "viewport", "window", "iccprofile"),
    "thumbnail": ("accept", "viewport"),
    "wado": (
        "requestType",
        "studyUID",
        "seriesUID",
        "objectUID",
        "contentType",
        "transferSyntax",
        "rows",
        "columns",
        "region",
        "windowCenter",
        "windowWidth",
        "frameNumber",
        "imageQuality",
        "annotation",
    ),
    "search": ("accept", "limit", "offset", "fuzzymatching", "includefield"),
}


def methods_of(routers: Iterable[APIRouter], door: str) -> dict[str, dict[str, str]]:
    """Paths below a door, each with its methods and what they do."""
    found: dict[str, dict[str, str]] = {}
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and (route.path == door or route.path.startswith(f"{door}/")):
                path = route.path.removeprefix(door).replace(":path", "") or "/"
                found.setdefault(path, {}).update(dict.fromkeys(sorted(route.methods or ()), route.summary or ""))
    return found


def allowed(routers: Iterable[APIRouter], path: str) -> list[str]:
    """Methods that some route takes at an address."""
    methods: set[str] = set()
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path_regex.match(path):
                methods |= route.methods or set()
    return sorted(methods)


def _query_of(path: str, method: str) -> Sequence[str]:
    last = path.rstrip("/").rpartition("/")[2]
    if last in _QUERY:
        return _QUERY[last]
    if method == "GET" and last in ("studies", "series", "instances"):
        return _QUERY["search"]
    return ("reason",) if method == "DELETE" else ("accept",)


def as_json(routers: Iterable[APIRouter], door: str, base: str) -> dict[str, Any]:
    """The description as JSON."""
    return {
        "base": base,
        "resources": [
            {
                "path": path,
                "methods": [
                    {"name": name, "id": summary, "query": list(_query_of(path, name))}
                    for name, summary in methods.items()
                ],
            }
            for path, methods in sorted(methods_of(routers, door).items())
        ],
    }


def as_wadl(routers: Iterable[APIRouter], door: str, base: str) -> bytes:
    """The description as WADL."""
    ElementTree.register_namespace("", _NAMESPACE)
    root = ElementTree.Element(f"{{{_NAMESPACE}}}application")
    resources = ElementTree.SubElement(root, f"{{{_NAMESPACE}}}resources", base=base)
    for path, methods in sorted(methods_of(routers, door).items()):
        resource = ElementTree.SubElement(resources, f"{{{_NAMESPACE}}}resource", path=path.lstrip("/") or "/")
        for name in re.findall(r"\{(\w+)\}", path):
            ElementTree.SubElement(resource, f"{{{_NAMESPACE}}}param", name=name, style="template", required="true")
        for method, summary in methods.items():
            one = ElementTree.SubElement(
                resource, f"{{{_NAMESPACE}}}method", name=method, id=re.sub(r"\W+", "-", f"{method}{path}").strip("-")
            )
            ElementTree.SubElement(one, f"{{{_NAMESPACE}}}doc", title=summary)
            request = ElementTree.SubElement(one, f"{{{_NAMESPACE}}}request")
            for name in _query_of(path, method):
                ElementTree.SubElement(request, f"{{{_NAMESPACE}}}param", name=name, style="query")
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))
