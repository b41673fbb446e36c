"""Pages of mutual recognition: the clinic's decision, and what the administrator keeps."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.exams import repository as exams
from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, require
from hub.kit.errors import NotFound
from hub.kit.i18n import _, translate
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.reading.words import age_words, exam_words, sex_words
from hub.reports.models import Report, ReportVersion
from hub.reports.recognition import marks, rules, service
from hub.reports.recognition.rules import REASONS, SCOPES
from hub.reports.recognition.states import STATE_NAMES, RecognitionState
from hub.sites.models import Organisation, OrgKind
from hub.studies.repository import note_view
from hub.web import pictures
from hub.web.pages import can, locale_of, render
from storage.errors import StorageError

router = APIRouter(tags=["mutual recognition"])

Viewer = Annotated[Actor, require(P.RECOGNITION_VIEW, people=True)]
Keeper = Annotated[Actor, require(P.RECOGNITION_SETTINGS, people=True)]


def org_name(org: Organisation, locale: str) -> str:
    """An organisation in the reader's language."""
    return org.name_en if locale == "en" and org.name_en else org.name


def item_name(code: str, kinds: dict[str, rules.Kind], locale: str) -> str:
    """What people call an item of the table: `CT 胸部`."""
    kind = kinds.get(code)
    if kind is None:
        return code
    parts = [translate(BODY_PARTS[part].name, locale) for part in BODY_PARTS if part in kind.parts]
    return f"{translate(MODALITIES[kind.modality], locale)} {('、' if locale == 'zh' else ', ').join(parts)}"


def notice(session: Session, actor: Actor, exam: Exam) -> dict[str, Any]:
    """What an exam's page says of recognition: an offer to its own clinic, and who recognised this exam."""
    own = exam.org_id == actor.org_id and can(actor, P.RECOGNITION_VIEW)
    row = service.of_exam(session, exam.id) if own else None
    uses = service.uses_of(session, exam.id)
    names = {
        org.id: org.name
        for org in session.scalars(select(Organisation).where(Organisation.id.in_({u.org_id for u in uses})))
    }
    return {
        "row": row,
        "state": STATE_NAMES[RecognitionState(row.state)] if row is not None else None,
        "reason": REASONS.get(row.reason) if row is not None else None,
        "open": row is not None and bool(service.open_exams(session, row)),
        "uses": [(names.get(use.org_id, ""), use.decided_at) for use in uses],
    }


@router.get("/clinic/exams/{exam_id}/recognition", response_class=HTMLResponse, include_in_schema=False)
def decide_page(request: Request, exam_id: str, actor: Viewer) -> HTMLResponse:
    """What may be recognised for a registered exam: reports, images, and the decision. Each look is noted."""
    locale = locale_of(request)
    with database().writing() as session:
        exam = exams.get(session, actor, exam_id)
        row = service.of_exam(session, exam.id) if exam.org_id == actor.org_id else None
        if row is None:
            raise NotFound(_("这项检查没有可互认的检查"))
        shown = service.show(session, actor, row)
        for one in shown:
            service.note_look(session, actor, row, one.exam, "page")
        series = {one.exam.id: pictures.series_of(session, [study.id for study in one.studies]) for one in shown}
        held = [study.id for one in shown for study in one.studies]
        table = rules.load(session)
        values = {
            "exam": exam,
            "words": exam_words(exam, locale),
            "person": " ".join(part for part in (sex_words(exam.patient.sex, locale), age_words(exam, locale)) if part),
            "row": row,
            "state": STATE_NAMES[RecognitionState(row.state)],
            "reason": REASONS.get(row.reason),
            "may_decide": can(actor, P.EXAM_REGISTER) and row.state in ("offered", "lapsed"),
            "reasons": REASONS,
            "access_days": table.access_days,
            "items": [
                {
                    "shown": one,
                    "words": exam_words(one.exam, locale),
                    "org": org_name(one.exam.org, locale),
                    "reader": org_name(one.exam.reading_org, locale) if one.exam.reading_org else "",
                    "days": (clock.now() - marks.moment_of(one.exam)).days,
                    "at": marks.moment_of(one.exam),
                    "series": series[one.exam.id],
                }
                for one in shown
            ],
            "page_data": {
                "recognition": row.id,
                "exam": exam.id,
                "series": {
                    entry["id"]: {**entry, "exam": exam_} for exam_, entries in series.items() for entry in entries
                },
            },
        }
    for study_id in held:
        note_view(actor, study_id)
    return render(request, "recognition/decide.html", values)


@router.get(
    "/recognition/{recognition_id}/exams/{exam_id}/pictures/{kind}/{row_id}",
    response_class=Response,
    include_in_schema=False,
)
def picture(request: Request, recognition_id: str, exam_id: str, kind: str, row_id: str, actor: Viewer) -> Response:
    """A preview of an exam that is open to the actor for recognition; whether it still is, is asked for each."""
    with database().reading() as session:
        exam = service.open_exam(session, actor, recognition_id, exam_id)
        found = pictures.key_of(session, exam, kind, row_id)
    note_view(actor, found.study_id)
    return pictures.answer(request, found)


@router.get(
    "/recognition/{recognition_id}/exams/{exam_id}/reports/{version_id}.pdf",
    response_class=Response,
    include_in_schema=False,
)
def report(request: Request, recognition_id: str, exam_id: str, version_id: str, actor: Viewer) -> Response:
    """A signed report of an exam that is open to the actor, as it was signed."""
    with database().writing() as session:
        exam = service.open_exam(session, actor, recognition_id, exam_id)
        key = session.scalar(
            select(ReportVersion.pdf_key)
            .join(Report, Report.id == ReportVersion.report_id)
            .where(ReportVersion.id == version_id, Report.exam_id == exam.id, ReportVersion.signed_at.is_not(None))
        )
        if not key:
            raise NotFound(_("没有找到这份报告"))
        service.note_look(session, actor, service.get(session, actor, recognition_id), exam, "pdf")
    try:
        body = object_store().read(key)
    except StorageError as error:
        raise NotFound(_("没有找到这份报告")) from error
    headers = {"Cache-Control": "private, no-store", "Content-Disposition": 'inline; filename="report.pdf"'}
    return Response(body, media_type="application/pdf", headers=headers)


@router.get("/admin/recognition", response_class=HTMLResponse, include_in_schema=False)
def settings_page(request: Request, actor: Keeper, session: ReadDb) -> HTMLResponse:
    """Which organisation passed what, how old an exam may be, and what stands for what."""
    locale = locale_of(request)
    table = rules.load(session)
    orgs = {org.id: org for org in session.scalars(select(Organisation).order_by(Organisation.kind, Organisation.code))}
    today = clock.local(clock.now(), get_settings().timezone).date()
    return render(
        request,
        "recognition/settings.html",
        {
            "rules": table,
            "scopes": SCOPES,
            "reasons": REASONS,
            "today": today,
            "orgs": [(org.id, org_name(org, locale)) for org in orgs.values() if org.kind != OrgKind.HUB],
            "kinds": [(kind, item_name(kind.code, table.kinds, locale)) for kind in table.kinds.values()],
            "modalities": {
                code: translate(name, locale)
                for code, name in MODALITIES.items()
                if any(kind.modality == code for kind in table.kinds.values())
            },
            "rows": [
                {
                    "row": row,
                    "org": org_name(orgs[row.org_id], locale),
                    "item": item_name(row.item, table.kinds, locale),
                    "over": row.valid_until is not None and row.valid_until < today,
                }
                for row in marks.evaluations(session)
            ],
            "page_data": rules.to_json(table),
        },
    )
