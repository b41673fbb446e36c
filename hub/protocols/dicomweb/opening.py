"""What the viewer's page asks for before the viewer itself runs: a browser may take it from its cache for a moment."""

from __future__ import annotations

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.protocols.dicomweb.answers import REVALIDATE
from hub.protocols.dicomweb.doors import VIEWER_DOOR

HEADER: Final = b"x-hub-opening"

SECONDS: Final = 60
"""Longer than a browser needs until the viewer asks for the same, on a slow line too."""

_KEPT: Final = f"private, max-age={SECONDS}".encode()


class OpenedEarly:
    """ASGI middleware around everything that answers images.

    The page that shows the viewer asks for a study's headers and first images while the browser still reads the
    viewer's scripts, with the header `X-Hub-Opening`. Such a request is one like any other, to the checks and to the
    audit. Its answer alone need not be asked about again for `SECONDS`, so that the viewer's own request, a moment
    later, is answered at once; once it shows images the page asks again, without the header, what the study holds. The
    page asks early only for what its reader may see lastingly (hub.studies.opening). Answers vary by the cookie: nobody
    who logs in afterwards is given them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or not scope["path"].startswith(VIEWER_DOOR)
            or all(name != HEADER for name, _value in scope["headers"])
        ):
            await self.app(scope, receive, send)
            return

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] in (200, 304):
                revalidate = (b"cache-control", REVALIDATE.encode())
                message["headers"] = [
                    (name, _KEPT) if (bytes(name).lower(), value) == revalidate else (name, value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await self.app(scope, receive, keep)
