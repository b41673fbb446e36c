"""JSON API of the indicator of critical values."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from hub.audit import service as audit
from hub.kit.db import database
from hub.kit.edge import ReadDb
from hub.kit.i18n import Message, translate, use_locale
from hub.reports.critical.figures import By, Count, Figures
from hub.turnaround.critical import of_period, rows
from hub.turnaround.export import csv_chunks
from hub.turnaround.routes import Chosen, Spoken, Viewer
from hub.turnaround.service import names

router = APIRouter(prefix="/api", tags=["turnaround"])


class CountOut(BaseModel):
    """Within ten minutes ÷ due; `share` is null where nothing was due."""

    done: int
    of: int
    share: float | None


class FiguresOut(BaseModel):
    """One group's figures."""

    key: str
    label: str
    national: CountOut
    county: CountOut = Field(description="The county's own classes, and what was not classified.")
    open: int = Field(description="Not acknowledged by both sides yet.")
    withdrawn: int
    withdrawn_late: int


class CriticalOut(BaseModel):
    """The indicator of a period."""

    total: FiguresOut
    groups: list[FiguresOut]


def _count(count: Count) -> CountOut:
    return CountOut(done=count.done, of=count.of, share=count.share)


def _out(found: Figures, label: Message | str) -> FiguresOut:
    return FiguresOut(
        key=found.key,
        label=translate(label),
        national=_count(found.national),
        county=_count(found.county),
        open=found.open,
        withdrawn=found.withdrawn,
        withdrawn_late=found.withdrawn_late,
    )


@router.get("/turnaround/critical", summary="Critical values within ten minutes")
def get_figures(
    actor: Viewer, session: ReadDb, filters: Chosen, locale: Spoken, by: Annotated[By, Query()] = "clinic"
) -> CriticalOut:
    """By clinic or hospital, the national classes and the county's apart."""
    with use_locale(locale):
        report, known = of_period(session, actor, filters, by), names(session)
        return CriticalOut(
            total=_out(report.total, ""), groups=[_out(group, known.org(group.key)) for group in report.groups]
        )


@router.get(
    "/turnaround/critical.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV in UTF-8 with byte order mark."}},
    summary="… as CSV",
)
def get_csv(actor: Viewer, filters: Chosen, locale: Spoken, by: Annotated[By, Query()] = "clinic") -> StreamingResponse:
    """One row per clinic or hospital. Recorded in the audit log."""
    with database().reading() as session:
        found = list(rows(of_period(session, actor, filters, by), by, names(session), locale))
    with database().writing() as session:
        audit.record(
            session, actor, "turnaround.export", "turnaround", "csv-critical", filters=filters.address(), by=by
        )
    name = f"critical-{filters.first:%Y%m%d}-{filters.last:%Y%m%d}.csv"
    return StreamingResponse(
        csv_chunks(found),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
    )
