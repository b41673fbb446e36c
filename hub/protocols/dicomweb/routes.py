"""Routes of DICOMweb, by transaction: store, search and metadata, retrieve; and what they are together."""

from __future__ import annotations

import json

from fastapi import APIRouter, Request, Response

from hub.protocols.dicomweb import answers, capabilities, negotiate
from hub.protocols.dicomweb.doors import DOOR, Viewer, base
from hub.protocols.dicomweb.retrieve_routes import STANDARD, VIEWER
from hub.protocols.dicomweb.search_routes import router as search
from hub.protocols.dicomweb.store_routes import router as store

described = APIRouter(tags=["dicomweb"])

ROUTERS = (store, search, STANDARD, VIEWER, described)


@described.get(f"{DOOR}/", summary="Retrieve capabilities")
def retrieve_capabilities(request: Request, actor: Viewer) -> Response:
    """What this door can do (PS3.18 §8.9), as WADL or JSON."""
    return _capabilities(request)


@described.options(f"{DOOR}/", summary="Retrieve capabilities")
def options_capabilities(request: Request, actor: Viewer) -> Response:
    """What this door can do (PS3.18 §8.9), as WADL or JSON."""
    return _capabilities(request)


def _capabilities(request: Request) -> Response:
    media = negotiate.choose(request, (capabilities.WADL, "application/xml", capabilities.JSON))
    headers = {"Cache-Control": answers.REVALIDATE, "Vary": "Accept", "Allow": "GET, OPTIONS"}
    address = f"{base(request, DOOR)}/"
    if media == capabilities.JSON:
        document = capabilities.as_json(ROUTERS, DOOR, address)
        return Response(json.dumps(document), media_type=media, headers=headers)
    return Response(capabilities.as_wadl(ROUTERS, DOOR, address), media_type=media, headers=headers)


def allowed(path: str) -> list[str]:
    """Methods that an address of DICOMweb takes; empty where there is no such address."""
    return capabilities.allowed(ROUTERS, path)
