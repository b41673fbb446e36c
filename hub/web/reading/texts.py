"""The page on which templates and phrases are kept."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response

from hub.exams.catalogue import BODY_PARTS, MODALITIES, SEXES
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import require
from hub.kit.i18n import translate
from hub.reports import templates
from hub.reports.schemas import template_of
from hub.reports.texts import phrases, scopes
from hub.reports.texts.fields import open_fields
from hub.reports.texts.initials import initials
from hub.web.pages import locale_of, render

router = APIRouter(tags=["reading"], include_in_schema=False)


def _order(one: dict[str, Any]) -> tuple[int, str, str, bool]:
    return scopes.SCOPES.index(one["scope"]), one["modality"], one["body_part"], not one["normal"]


@router.get("/templates")
def templates_page(
    request: Request, actor: Annotated[Actor, require("template.edit", people=True)]
) -> Response:  # fmt: skip
    """One's own, the hospital's and the county's templates and phrases."""
    templates.ensure_seeded()
    locale = locale_of(request)
    with database().reading() as session:
        rows = templates.usable(session, actor)
        known = phrases.usable(session, actor)
        answers = {row.id: template_of(row).model_dump() for row in rows}
    parts = {code: part.name for code, part in BODY_PARTS.items()}
    return render(
        request,
        "reading/templates.html",
        {
            "templates": [
                {
                    **one,
                    "part": parts.get(one["body_part"], one["body_part"]),
                    "fields": len(open_fields(one["findings"] + one["impression"] + one["recommendation"])),
                    "search": f"{one['name']} {initials(one['name'])} {one['findings']} {one['impression']}".lower(),
                    "may": scopes.may_keep(actor, one["scope"]),
                }
                for one in sorted(answers.values(), key=_order)
            ],
            "phrases": [
                {"row": one, "search": f"{one.code} {one.text}".lower(), "may": scopes.may_keep(actor, one.scope)}
                for one in known
            ],
            "scopes": scopes.NAMES,
            "keeps": [scope for scope in scopes.SCOPES if scopes.may_keep(actor, scope)],
            "modalities": MODALITIES,
            "parts": parts,
            "sexes": {code: SEXES[code] for code in ("M", "F")},
            "data": {
                "templates": answers,
                "phrases": {
                    one.id: {"scope": one.scope, "code": one.code, "modality": one.modality, "text": one.text}
                    for one in known
                },
                "scopes": {scope: translate(name, locale) for scope, name in scopes.NAMES.items()},
            },
        },
    )
