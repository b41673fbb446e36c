"""The window of the images on a reader's second screen, and the image that a report's measurement was made on."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, Field

from hub.accounts.roles import Permission
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, public, require
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.patients.models import CountyPatient
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports import repository
from hub.reports.texts import links
from hub.studies import opening
from hub.web import ohif
from hub.web.pages import can, locale_of, render
from hub.web.static import AssetMissingError, ohif_page

router = APIRouter(tags=["reading"], include_in_schema=False)


@router.get("/viewer")
def viewer_page(request: Request, actor: Annotated[Actor, require("queue.view")]) -> Response:
    """An empty window: whose images it shows, the reading page of the same browser tells it."""
    return render(request, "reading/viewer.html")


_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_BEFORE = "<script "


@router.get("/ohif/viewer")
def viewer_document(request: Request, session: ReadDb, actor: Annotated[Actor, public(passive=True)]) -> Response:
    """OHIF's page; with it, for whoever may see the images, what opening them begins with (ohif/early.js).

    The page itself holds nothing and is everybody's, as all of the viewer's files are.
    """
    try:
        page = ohif_page()
    except AssetMissingError as error:
        raise NotFound(_("没有安装影像查看器")) from error
    if can(actor, Permission.IMAGES_VIEW):
        named = ",".join(request.query_params.getlist("StudyInstanceUIDs")).split(",")
        wanted = request.query_params.get("initialSopInstanceUid", "")
        first = wanted if _UID.fullmatch(wanted) else ""
        found = [opening.of(session, actor, uid, first=first) for uid in named[:2] if _UID.fullmatch(uid)]
        text = json.dumps([asdict(one) for one in found if one is not None], separators=(",", ":"))
        # It could end the block.
        text = text.replace("<", "\\u003c")
        block = f'<script type="application/json" id="hub-opening">{text}</script>'
        page = page.replace(_BEFORE, block + _BEFORE, 1)
    headers = {
        "Cache-Control": "private, no-cache",
        "Vary": "Cookie",
        "Content-Security-Policy": ohif.csp_for("index.html"),
        "X-Frame-Options": "SAMEORIGIN",
    }
    return HTMLResponse(page, headers=headers)


class Whose(BaseModel):
    """Who is logged in with this browser."""

    user: str = Field(description="Id of the person")


@router.get("/viewer/session")
def viewer_session(actor: Annotated[Actor, require("queue.view", passive=True)]) -> Whose:
    """Asked by the window itself every few seconds, so that it outlives no session; keeps none awake."""
    return Whose(user=actor.id)


@router.get("/reports/{version_id}/images/{link_id}")
def report_image(
    version_id: str,
    link_id: str,
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require("report.view")],
) -> Response:
    """The image of a measurement, with its drawing; the viewer's door asks once more who may see it."""
    version, _report, exam = repository.get_version(session, actor, version_id)
    link = next((one for one in links.standing(version) if one.id == link_id), None)
    if link is None:
        raise NotFound(_("没有找到这些影像"))
    locale = locale_of(request)
    sex, age = sex_words(exam.patient.sex, locale), age_words(exam, locale)
    shown = {
        "subject": {
            "exam_id": exam.id,
            "accession": exam.accession,
            "patient": f"{exam.patient.name} {sex} {age}",
            "exam": exam_words(exam, locale),
            "county_number": session.get_one(CountyPatient, exam.patient.county_patient_id).number,
            "studies": [link.study_uid],
            "priors": [],
        },
        "image": {"sop": link.sop_uid, "frame": link.frame or 1, "drawing": link.annotation},
    }
    return render(request, "reports/image.html", {"shown": shown, "label": link.label, "version": version})
