"""JSON API of hub.turnaround."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from hub.exams import calendar, limits
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.i18n import LOCALE_COOKIE, _, pick_locale, translate, use_locale
from hub.reports.critical.figures import By
from hub.sites import service as sites
from hub.turnaround import critical, export, quality, service
from hub.turnaround.export import What
from hub.turnaround.schemas import CalendarIn, ExamsOut, LimitsIn, QualityTargetsIn, SummaryOut, TodayOut, WaitOut
from hub.turnaround.service import Filters

router = APIRouter(prefix="/api", tags=["turnaround"])

Viewer = Annotated[Actor, require("turnaround.view")]
Setter = Annotated[Actor, require("turnaround.settings")]

_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def get_filters(
    from_: Annotated[str, Query(alias="from", description="First local day, ISO; default 29 days before `to`.")] = "",
    to: Annotated[str, Query(description="Last local day, ISO; default today.")] = "",
    clinic: Annotated[str, Query(max_length=26)] = "",
    hospital: Annotated[str, Query(max_length=26, description="`none`: the shared pool.")] = "",
    author: Annotated[str, Query(max_length=26, description="`none`: nobody yet.")] = "",
    reviewer: Annotated[str, Query(max_length=26, description="`none`: nobody yet.")] = "",
    modality: Annotated[str, Query(max_length=4)] = "",
    priority: Annotated[str, Query(max_length=10)] = "",
    klass: Annotated[str, Query(alias="class", max_length=24, description="Class of the limit.")] = "",
    day: Annotated[str, Query(max_length=10, description="One local day of registration, ISO.")] = "",
    stage: Annotated[str, Query(max_length=10)] = "",
    late: Annotated[str, Query(max_length=10, description="within, late, open or done in `stage`.")] = "",
) -> Filters:
    """Filters of an address."""
    return service.make_filters(
        from_,
        to,
        clinic=clinic,
        hospital=hospital,
        author=author,
        reviewer=reviewer,
        modality=modality,
        priority=priority,
        klass=klass,
        day=day,
        stage=stage or "report",
        late=late,
    )


def get_locale(request: Request) -> str:
    """The language of a caller."""
    return pick_locale(request.cookies.get(LOCALE_COOKIE), request.headers.get("accept-language"))


Chosen = Annotated[Filters, Depends(get_filters)]
Spoken = Annotated[str, Depends(get_locale)]


@router.get("/turnaround/today")
def get_today(actor: Viewer, session: ReadDb, locale: Spoken) -> TodayOut:
    """Today's board: what waits, what is overdue, how the day went. No patient data."""
    with use_locale(locale):
        return TodayOut.of_board(service.board(session, actor), service.names(session))


@router.get("/turnaround/summary", response_model_by_alias=True)
def get_summary(actor: Viewer, session: ReadDb, filters: Chosen, locale: Spoken, by: str = "clinic") -> SummaryOut:
    """Median, P90 and share within limit of every stage, by clinic, hospital, author, reviewer, modality, priority,
    class or day."""
    with use_locale(locale):
        found = service.summary(session, actor, filters, service.grouping(by))
        return SummaryOut.of_summary(found, service.names(session))


@router.get("/turnaround/waits")
def get_waits(actor: Viewer, session: ReadDb, filters: Chosen) -> list[WaitOut]:
    """For what the exams of a period waited, in sum."""
    return [WaitOut.of_wait(wait) for wait in service.waits(session, actor, filters)]


@router.get("/turnaround/exams")
def get_exams(
    actor: Viewer,
    session: ReadDb,
    filters: Chosen,
    locale: Spoken,
    page: Annotated[int, Query(ge=1)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 50,
) -> ExamsOut:
    """The exams behind a number, the longest in `stage` first."""
    with use_locale(locale):
        return ExamsOut.of_page(service.exams(session, actor, filters, page=page, size=size), service.names(session))


def _name(filters: Filters, what: str, form: str) -> str:
    return f"turnaround-{what}-{filters.first:%Y%m%d}-{filters.last:%Y%m%d}.{form}"


def _prepare(actor: Actor, filters: Filters, by: str, kind: str, locale: str) -> export.Export:
    # Its own short transaction: the audit entry must be committed before the first byte leaves.
    chosen = service.grouping(by)
    with database().reading() as session, use_locale(locale):
        found = export.prepare(session, actor, filters, chosen, locale=locale)
    with database().writing() as session:
        export.record(session, actor, found, kind=kind)
    return found


@router.get(
    "/turnaround/export.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV in UTF-8 with byte order mark."}},
)
def get_csv(
    actor: Viewer, filters: Chosen, locale: Spoken, by: str = "clinic", what: What = "exams"
) -> StreamingResponse:
    """One row per exam (`what=exams`) or per group (`what=summary`). Recorded in the audit log."""
    found = _prepare(actor, filters, by, f"csv-{what}", locale)
    return StreamingResponse(
        export.csv_chunks(found.exams() if what == "exams" else found.groups()),
        media_type="text/csv; charset=utf-8",
        headers=_headers(_name(filters, what, "csv")),
    )


@router.get(
    "/turnaround/export.xlsx",
    response_class=FileResponse,
    responses={200: {"content": {_XLSX: {}}, "description": "Workbook: summary, exams, notes."}},
)
def get_xlsx(actor: Viewer, filters: Chosen, locale: Spoken, by: str = "clinic") -> Response:
    """A workbook with the summary, every exam, and how they were counted. Recorded in the audit log."""
    found = _prepare(actor, filters, by, "xlsx", locale)
    handle, name = tempfile.mkstemp(prefix="turnaround-", suffix=".xlsx")
    os.close(handle)
    path = Path(name)
    try:
        export.write_xlsx(found, path, more=_critical_sheet(actor, filters, by, locale))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return FileResponse(
        path,
        media_type=_XLSX,
        headers=_headers(_name(filters, "summary", "xlsx")),
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _critical_sheet(actor: Actor, filters: Filters, by: str, locale: str) -> export.Sheet:
    chosen: By = "hospital" if by == "hospital" else "clinic"
    with database().reading() as session:
        report = critical.of_period(session, actor, filters, chosen)
        found = list(critical.rows(report, chosen, service.names(session), locale))
    return _("危急值"), iter(found), (24, 14)


def _headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


@router.get("/turnaround/settings")
def get_settings_json(actor: Viewer, session: ReadDb) -> dict[str, Any]:
    """The county's limits and working calendar."""
    return {
        "limits": limits.to_json(limits.load(session)),
        "calendar": calendar.to_json(calendar.load(session)),
    }


@router.put("/turnaround/settings/limits")
def put_limits(actor: Setter, session: WriteDb, body: LimitsIn) -> dict[str, Any]:
    """Replace the limits; due times of unfinished exams follow. Recorded in the audit log."""
    return limits.to_json(service.set_limits(session, actor, body.model_dump()))


@router.put("/turnaround/settings/calendar")
def put_calendar(actor: Setter, session: WriteDb, body: CalendarIn) -> dict[str, Any]:
    """Replace the working calendar; due times of unfinished exams follow. Recorded in the audit log."""
    return calendar.to_json(service.set_calendar(session, actor, body.model_dump()))


@router.get("/turnaround/quality", summary="Image quality and mutual recognition")
def get_quality(actor: Viewer, session: ReadDb, filters: Chosen) -> dict[str, Any]:
    """Rates of grades, of bad artefacts (CT and MR) and of recognition by clinic and week; null: no data."""
    figures = quality.images(session, filters.first, filters.last, clinic=filters.clinic)
    use = quality.recognised(session, filters.first, filters.last, clinic=filters.clinic)
    return {**quality.as_json(figures, use), "targets": quality.targets(session)}


@router.get(
    "/turnaround/quality.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV in UTF-8 with byte order mark."}},
)
def get_quality_csv(actor: Viewer, filters: Chosen, locale: Spoken) -> StreamingResponse:
    """A line for each clinic. Recorded in the audit log."""
    with database().reading() as session:
        figures = quality.images(session, filters.first, filters.last, clinic=filters.clinic)
        _all, clinics = quality.recognised(session, filters.first, filters.last, clinic=filters.clinic)
        named = {org.id: org.name for org in sites.organisations(session)}
    with database().writing() as session:
        quality.record_export(session, actor, filters.first, filters.last)
    head = [translate(name, locale) for name in quality.COLUMNS]
    return StreamingResponse(
        export.csv_chunks(list(quality.rows(figures, clinics, named, head))),
        media_type="text/csv; charset=utf-8",
        headers=_headers(_name(filters, "quality", "csv")),
    )


@router.put("/turnaround/settings/quality")
def put_quality_targets(actor: Setter, session: WriteDb, body: QualityTargetsIn) -> dict[str, float]:
    """Replace the targets of the county's quality rates, per cent."""
    return quality.set_targets(session, actor, body.model_dump())
