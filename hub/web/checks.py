"""The page of the checks: which are on, what each is worth, and how warnings were answered."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.reports.checks import schemas, service
from hub.reports.checks.catalogue import PRECISION, WHY, snippets
from hub.reports.checks.routes import settings_for
from hub.sites import service as sites
from hub.sites.models import OrgKind
from hub.web.pages import can, locale_of, render

router = APIRouter(tags=["checks"], include_in_schema=False)

Watcher = Annotated[Actor, require("checks.view")]


@router.get("/checks", response_class=HTMLResponse)
def page(
    request: Request, session: ReadDb, actor: Watcher, org: Annotated[str, Query(max_length=26)] = ""
) -> HTMLResponse:
    """The county's choice, or with `org` a reading hospital's."""
    locale = locale_of(request)
    hospitals = [
        one for one in sites.organisations(session) if one.kind in (OrgKind.HOSPITAL, OrgKind.TERTIARY) and one.active
    ]
    given = service.answered(session, actor, since=clock.now() - timedelta(days=30), limit=50)
    values = {
        "table": settings_for(session, org or None, locale),
        "hospitals": hospitals,
        "chosen": org,
        "levels": schemas.level_words(locale),
        "why": WHY,
        "given": schemas.given_of(given, locale).answers,
        "limit": PRECISION,
        "snippets": snippets(),
        "editable": can(actor, "checks.settings"),
        "english": locale == "en",
    }
    return render(request, "checks/settings.html", values)
