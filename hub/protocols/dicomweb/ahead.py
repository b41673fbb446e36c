"""What a browser fetches before its reader opens it: the viewer's door tells it from a look at images."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from hub.protocols.dicomweb.doors import VIEWER_DOOR
from hub.studies import repository

HEADER: Final = b"x-hub-ahead"

_FETCHED: Final = re.compile(
    rf"{VIEWER_DOOR}/studies/[0-9.]+(?:/series/[0-9.]+)?(?:/series|/metadata|/instances/[0-9.]+/frames/[0-9]+)",
    re.ASCII,
)
"""What the reading page's script fetches; nobody can say of a file or a picture that he did not look at it."""


class FetchedAhead:
    """ASGI middleware around everything that answers images.

    A request for frames or metadata through the viewer's door with the header `X-Hub-Ahead` passes the same checks as
    any other; it is noted in the audit as fetched ahead, and the same images opened later as viewed. The header hides
    nothing: whoever sends it is in the audit too. Files and pictures are viewed with it as without it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != "http"
            or not scope["path"].startswith(VIEWER_DOOR)
            or all(name != HEADER for name, _value in scope["headers"])
            or _FETCHED.fullmatch(scope["path"]) is None
        ):
            await self.app(scope, receive, send)
            return
        token = repository.ahead.set(True)
        try:
            await self.app(scope, receive, send)
        finally:
            repository.ahead.reset(token)
