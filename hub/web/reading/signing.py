"""The page of one's signing certificates."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response

from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.reports import identities
from hub.reports.schemas import identity_of
from hub.reports.signing.signer import Standing, standing_sentence
from hub.web.pages import render

router = APIRouter(tags=["reading"], include_in_schema=False)


@router.get("/signing", include_in_schema=False)
def signing_page(request: Request, session: ReadDb, actor: Annotated[Actor, require("signing.key")]) -> Response:
    """One's certificates and the opened key."""
    rows = [identity_of(row) for row in identities.identities(session, actor)]
    # The cookie of the opened key is sent to the API alone; the page's script asks there.
    return render(
        request,
        "reading/signing.html",
        {
            "identities": rows,
            "standings": {standing.value: standing_sentence(standing) for standing in Standing},
            "current": next((row for row in rows if row.revoked_at is None), None),
        },
    )
