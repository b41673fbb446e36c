"""Routes of STOW-RS."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from hub.protocols.dicomweb import stow
from hub.protocols.dicomweb.doors import DOOR, VIEWER_DOOR, Sender, Uid

router = APIRouter(tags=["dicomweb"])

STORED: dict[int | str, dict[str, Any]] = {
    200: {"description": "All instances are stored, or were known.", "content": {"application/dicom+json": {}}},
    202: {"description": "Some are not stored, or with warnings; the answer says which and why."},
    400: {"description": "The body is malformed or cut off; nothing is acknowledged."},
    409: {"description": "None is stored; the answer says why."},
    413: {"description": "The request or one instance is too large."},
    415: {"description": "Not multipart/related with application/dicom, and not application/dicom."},
    503: {"description": "No room, or a store is out of reach; nothing is lost by trying later."},
}


@router.post(f"{DOOR}/studies", responses=STORED, summary="Store instances (STOW-RS)")
async def store_instances(request: Request, actor: Sender) -> Response:
    """Store the instances of the body (PS3.18 §10.5)."""
    return await stow.store(request, actor, door=DOOR)


@router.post(f"{DOOR}/studies/{{study}}", responses=STORED, summary="Store instances of one study (STOW-RS)")
async def store_study(request: Request, study: Uid, actor: Sender) -> Response:
    """Store the instances of the body, which must all belong to `study` (PS3.18 §10.5)."""
    return await stow.store(request, actor, door=DOOR, study_uid=study)


@router.post(f"{VIEWER_DOOR}/studies", responses=STORED, summary="Store what the viewer made")
async def store_from_viewer(request: Request, actor: Sender) -> Response:
    """Store what the viewer made, in the session of a person who may upload."""
    return await stow.store(request, actor, door=VIEWER_DOOR)
