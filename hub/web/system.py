"""The operator's page, health, readiness and metrics."""

from __future__ import annotations

import threading
import time
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, Gauge
from pydantic import BaseModel
from sqlalchemy import func, select

from hub.accounts.roles import Permission
from hub.audit import service as audit
from hub.kit import health, jobs
from hub.kit import metrics as figures
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, WriteDb, public, require
from hub.kit.settings import get_settings
from hub.web.pages import render

router = APIRouter(tags=["system"])

JOBS = Gauge("hub_jobs_waiting", "Jobs by state.", ["state"], multiprocess_mode="mostrecent")


@router.get("/healthz", response_class=PlainTextResponse)
def healthz(actor: Annotated[Actor, public()]) -> str:
    """The process answers. Nothing else is looked at: a restart mends nothing that is outside it."""
    return "ok"


@router.get("/readyz")
def readyz(actor: Annotated[Actor, public()]) -> JSONResponse:
    """200 where database and object store work, else 503 with what does not."""
    found = _ready()
    return JSONResponse(found, 200 if found["ok"] else 503, headers={"Cache-Control": "no-store"})


_probing = threading.Lock()
_probed: tuple[float, dict[str, Any]] | None = None


def _ready() -> dict[str, Any]:
    """How database and object store stand now.

    The probe writes, and anybody may ask: one runs at a time, and its answer is for all who asked before it began.
    """
    global _probed  # noqa: PLW0603
    asked = time.monotonic()
    with _probing:
        if _probed is None or _probed[0] <= asked:
            began = time.monotonic()
            _probed = began, health.as_json(health.run(get_settings(), health.READINESS))
        return _probed[1]


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(actor: Annotated[Actor, public()], request: Request) -> Response:
    """Prometheus metrics, without any patient data. The proxy of a real county keeps this path inside."""
    with database().reading() as session:
        # dict() would take the result itself for a mapping, because it has keys().
        rows = session.execute(
            select(jobs.Job.state, func.count()).where(jobs.Job.state != jobs.DONE).group_by(jobs.Job.state)
        ).all()
    counted = {row[0]: row[1] for row in rows}
    for state in (jobs.QUEUED, jobs.RUNNING, jobs.FAILED):
        JOBS.labels(state).set(counted.get(state, 0))
    return Response(figures.text(), media_type=CONTENT_TYPE_LATEST)


def _job_rows(session: ReadDb) -> list[dict[str, Any]]:
    rows = session.execute(
        select(jobs.Job.kind, jobs.Job.state, func.count(), func.min(jobs.Job.run_after), func.max(jobs.Job.error))
        .where(jobs.Job.state != jobs.DONE)
        .group_by(jobs.Job.kind, jobs.Job.state)
        .order_by(jobs.Job.kind)
    )
    return [
        {"kind": kind, "state": state, "count": count, "oldest": oldest, "error": error or ""}
        for kind, state, count, oldest, error in rows
    ]


@router.get("/system", include_in_schema=False, response_class=HTMLResponse)
def page(request: Request, session: ReadDb, actor: Annotated[Actor, require(Permission.SYSTEM_VIEW)]) -> Response:
    """How the system is; no clinical content."""
    return render(request, "system/page.html", {"checks": health.run(get_settings()), "jobs": _job_rows(session)})


class Retried(BaseModel):
    """How many jobs got another try."""

    retried: int


@router.post("/api/system/jobs/retry", tags=["system"])
def retry(session: WriteDb, actor: Annotated[Actor, require(Permission.SYSTEM_VIEW)]) -> Retried:
    """Give every job that was given up another try."""
    count = jobs.retry_failed(session)
    audit.record(session, actor, "system.retry", "job", "failed", count=count)
    return Retried(retried=count)
