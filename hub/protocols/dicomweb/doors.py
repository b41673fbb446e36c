"""The two doors of DICOMweb and what their routes share.

`/dicomweb` keeps to the letter of PS3.18 and serves machines; `/viewer/dicomweb` serves the viewer in a person's
session, with the liberties that it needs. Both translate and call the same functions.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request

from hub.accounts.roles import Permission
from hub.kit.actor import Actor
from hub.kit.edge import require
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants, stow

DOOR = "/dicomweb"
VIEWER_DOOR = "/viewer/dicomweb"

Uid = Annotated[str, Path(pattern=r"^[0-9]+(\.[0-9]+)*$", max_length=64)]
Viewer = Annotated[Actor, require(Permission.IMAGES_VIEW)]
FrameViewer = Annotated[Actor, Depends(grants.RequireViewing())]
Sender = Annotated[Actor, require(Permission.IMAGES_UPLOAD)]


def base(request: Request, door: str) -> str:
    """Address of a door as the client sees it, without a slash at its end."""
    return stow.address(request) + door


def issuer() -> str:
    """IssuerOfPatientID of the county's numbers."""
    return get_settings().county_code
