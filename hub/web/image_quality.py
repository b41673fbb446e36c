"""Pages of image quality: the county's figures, the clinic's own with examples, exams to be judged."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.exams.models import Exam
from hub.exams.repository import visible_to
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, require
from hub.kit.i18n import Message, _, translate, use_locale
from hub.reading.scoring.catalogue import ARTEFACTS, GRADES, REASONS
from hub.reading.scoring.models import ImageScore
from hub.reading.scoring.service import NO_IMAGES
from hub.reading.words import exam_words
from hub.reports.recognition.rules import REASONS as REPEAT_REASONS
from hub.sites.models import Organisation, OrgKind
from hub.turnaround import quality, service
from hub.turnaround.frame import bounds
from hub.turnaround.routes import Chosen, Viewer
from hub.web.pages import locale_of, render

router = APIRouter(tags=["image quality"], include_in_schema=False)

PERIODS: tuple[tuple[int, Message], ...] = ((30, _("近 30 天")), (90, _("近 90 天")), (365, _("近一年")))
SAMPLE = 20
LEARNING = 60


def _names(session: Session, locale: str) -> dict[str, str]:
    return {
        org.id: org.name_en if locale == "en" and org.name_en else org.name
        for org in session.scalars(select(Organisation))
    }


def _periods(first: date, last: date, path: str) -> list[dict[str, Any]]:
    today = service.today()
    return [
        {
            "label": label,
            "on": last == today and (last - first).days + 1 == days,
            "href": f"{path}?"
            + urlencode({"from": (today - timedelta(days=days - 1)).isoformat(), "to": today.isoformat()}),
        }
        for days, label in PERIODS
    ]


def _chart(figures: quality.ImageFigures, wanted: dict[str, float], locale: str) -> dict[str, Any]:
    """Weeks with their rates in per cent; None where nothing was judged: the line has a gap there."""
    return {
        "weeks": [week.isoformat() for week in figures.weeks],
        "series": [
            {
                "name": translate(quality.TARGET_NAMES[name], locale),
                "key": name,
                "values": [
                    None if (share := part.rate(name).share) is None else round(share * 100, 1)
                    for part in figures.weeks.values()
                ],
                "target": wanted[name],
            }
            for name in quality.DEFAULT_TARGETS
        ],
    }


@router.get("/turnaround/quality", response_class=HTMLResponse)
def figures_page(request: Request, actor: Viewer, session: ReadDb, filters: Chosen) -> HTMLResponse:
    """Grades, rejects, artefacts and recognition by clinic and over time, against the county's targets."""
    locale = locale_of(request)
    with use_locale(locale):
        figures = quality.images(session, filters.first, filters.last, clinic=filters.clinic)
        use, uses = quality.recognised(session, filters.first, filters.last, clinic=filters.clinic)
        wanted, names = quality.targets(session), _names(session, locale)
        clinics = sorted(figures.clinics, key=lambda org: names.get(org, org))
        return render(
            request,
            "turnaround/quality.html",
            {
                "figures": figures,
                "clinics": [(org, names.get(org, org), figures.clinics[org]) for org in clinics],
                "use": use,
                "uses": [
                    (names.get(org, org), part) for org, part in sorted(uses.items(), key=lambda i: names.get(i[0], ""))
                ],
                "targets": wanted,
                "target_names": quality.TARGET_NAMES,
                "at_least": quality.AT_LEAST,
                "met": lambda name, rate: quality.met(name, rate, wanted),
                "grades": GRADES,
                "reasons": REASONS,
                "repeat_reasons": REPEAT_REASONS,
                "filters": filters,
                "periods": _periods(filters.first, filters.last, "/turnaround/quality"),
                "choices": [
                    (org.id, names[org.id])
                    for org in session.scalars(
                        select(Organisation).where(Organisation.kind == OrgKind.CLINIC).order_by(Organisation.code)
                    )
                ],
                "query": urlencode(filters.address()),
                "chart": _chart(figures, wanted, locale),
            },
        )


@router.get("/clinic/quality", response_class=HTMLResponse)
def own_page(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.SCORE_OWN, people=True)],
    from_: Annotated[str, Query(alias="from")] = "",
    to: str = "",
    reason: Annotated[str, Query(max_length=20)] = "",
) -> HTMLResponse:
    """A clinic's own images as they were judged: its rates, what was wrong most often, pictures to learn from."""
    locale = locale_of(request)
    with use_locale(locale):
        filters = service.make_filters(from_, to, days=90)
        figures = quality.images(session, filters.first, filters.last, clinic=actor.org_id or "-")
        wanted = quality.targets(session)
        begin, end = bounds(filters.first, filters.last)
        statement = (
            visible_to(actor)
            .join(ImageScore, (ImageScore.exam_id == Exam.id) & ImageScore.replaced_at.is_(None))
            .where(Exam.org_id == actor.org_id, Exam.registered_at >= begin, Exam.registered_at < end)
            .where(ImageScore.grade != "A")
            .add_columns(ImageScore)
            .order_by(ImageScore.at.desc())
            .limit(400)
        )
        found = [(row[0], row[1]) for row in session.execute(statement).unique()]
        chosen = [(exam, score) for exam, score in found if not reason or reason in score.reasons]
        return render(
            request,
            "clinic/quality.html",
            {
                "part": figures.total,
                "targets": wanted,
                "target_names": quality.TARGET_NAMES,
                "at_least": quality.AT_LEAST,
                "met": lambda name, rate: quality.met(name, rate, wanted),
                "grades": GRADES,
                "artefacts": ARTEFACTS,
                "reasons": REASONS,
                "reason": reason,
                "periods": _periods(filters.first, filters.last, "/clinic/quality"),
                "filters": filters,
                "common": [(code, REASONS[code], figures.total.reasons[code]) for code in figures.total.top_reasons(8)],
                "address": lambda code: (
                    "/clinic/quality?"
                    + urlencode({"from": filters.first.isoformat(), "to": filters.last.isoformat(), "reason": code})
                ),
                "items": [
                    {"exam": exam, "score": score, "words": exam_words(exam, locale)}
                    for exam, score in chosen[:LEARNING]
                ],
                "more": max(0, len(chosen) - LEARNING),
                "chart": _chart(figures, wanted, locale),
            },
        )


@router.get("/image-scores", response_class=HTMLResponse)
def to_score(
    request: Request,
    session: ReadDb,
    actor: Annotated[Actor, require(P.SCORE_GIVE, people=True)],
    clinic: Annotated[str, Query(max_length=26)] = "",
    modality: Annotated[str, Query(max_length=4)] = "",
    days: Annotated[int, Query(ge=1, le=365)] = 7,
) -> HTMLResponse:
    """A random sample of exams whose images nobody has judged, for the quality officer and for readers."""
    locale = locale_of(request)
    since, _end = bounds(service.today() - timedelta(days=days - 1), service.today())
    unjudged = ~select(ImageScore.id).where(ImageScore.exam_id == Exam.id).correlate(Exam).exists()
    conditions = [Exam.registered_at >= since, unjudged, Exam.state.not_in([state.value for state in NO_IMAGES])]
    if clinic:
        conditions.append(Exam.org_id == clinic)
    if modality:
        conditions.append(Exam.modality == modality)
    total = session.scalar(select(func.count()).select_from(visible_to(actor).where(*conditions).subquery())) or 0
    picked = session.scalars(visible_to(actor).where(*conditions).order_by(func.random()).limit(SAMPLE)).unique()
    names = _names(session, locale)
    return render(
        request,
        "scoring/sample.html",
        {
            "items": [{"exam": exam, "words": exam_words(exam, locale), "org": names[exam.org_id]} for exam in picked],
            "total": total,
            "clinic": clinic,
            "modality": modality,
            "days": days,
            "clinics": [
                (org.id, names[org.id])
                for org in session.scalars(
                    select(Organisation).where(Organisation.kind == OrgKind.CLINIC).order_by(Organisation.code)
                )
            ],
        },
    )
