"""The page that describes the API, from our own files: FastAPI's would load its scripts from elsewhere."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from hub.kit.actor import Actor
from hub.kit.edge import public
from hub.web.pages import render

router = APIRouter(tags=["docs"])


@router.get("/api/docs", include_in_schema=False, response_class=HTMLResponse)
def api_docs(request: Request, actor: Annotated[Actor, public()]) -> Response:
    """The API described; open to everybody, as the program itself is."""
    return render(request, "docs/api.html")
