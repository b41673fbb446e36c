"""The web application: every router and what surrounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from hub.delivery.routes import router as delivery_routes
from hub.exams.routes import router as exams_routes
from hub.kit import edge, jobs
from hub.kit.broker import make_sender
from hub.kit.settings import Settings, get_settings
from hub.patients.routes import router as patients_routes
from hub.protocols.dicomweb.ahead import FetchedAhead
from hub.protocols.dicomweb.fastpath import FastFrames
from hub.protocols.dicomweb.fastsearch import FastSearch
from hub.protocols.dicomweb.opening import OpenedEarly
from hub.protocols.dicomweb.routes import ROUTERS as DICOMWEB_ROUTERS
from hub.protocols.dicomweb.routes import allowed
from hub.protocols.tus.routes import router as tus_routes
from hub.reading.conversation.routes import router as conversation_routes
from hub.reading.routes import router as reading_routes
from hub.reading.routing.routes import router as routing_routes
from hub.reading.scoring.routes import router as scoring_routes
from hub.reports.checks.routes import router as checks_routes
from hub.reports.critical.routes import router as critical_routes
from hub.reports.drawings.routes import router as drawings_routes
from hub.reports.passage_routes import router as passage_routes
from hub.reports.queue_routes import router as next_routes
from hub.reports.recognition.routes import router as recognition_routes
from hub.reports.review.routes import router as review_routes
from hub.reports.routes import router as reports_routes
from hub.reports.texts.routes import router as texts_routes
from hub.studies.routes import router as studies_routes
from hub.turnaround.critical_routes import router as critical_figures
from hub.turnaround.routes import router as turnaround_routes
from hub.web import (
    admin,
    auth,
    checks,
    clinic,
    conversation,
    critical,
    docs,
    guard,
    identity,
    image_quality,
    live,
    ohif,
    patients,
    problems,
    quality,
    reading,
    recognition,
    review,
    routing,
    session,
    system,
    turnaround,
    verification,
    viewer,
)
from hub.web.static import ohif_app, static_app

ROUTERS = (
    session.router,
    system.router,
    live.router,
    clinic.router,
    conversation.router,
    identity.router,
    critical.router,
    *reading.ROUTERS,
    routing.router,
    review.router,
    quality.router,
    checks.router,
    patients.router,
    recognition.router,
    image_quality.router,
    turnaround.router,
    admin.router,
    docs.router,
    verification.router,
    viewer.router,
    patients_routes,
    scoring_routes,
    recognition_routes,
    exams_routes,
    studies_routes,
    reading_routes,
    next_routes,
    routing_routes,
    conversation_routes,
    passage_routes,
    review_routes,
    checks_routes,
    reports_routes,
    texts_routes,
    drawings_routes,
    critical_routes,
    delivery_routes,
    turnaround_routes,
    critical_figures,
    *DICOMWEB_ROUTERS,
    tus_routes,
)
"""Everything that answers; the access tests walk it."""

DESCRIPTION = (
    "The imaging hub of a county: clinics upload, radiologists report, reports go back, turnaround is audited."
)


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    await live.hub.start()
    yield
    await live.hub.stop()


def create_app(settings: Settings | None = None) -> FastAPI:
    """The ASGI application.

    Args:
        settings: Settings of the process; by default those of the environment.
    """
    settings = settings or get_settings()
    app = FastAPI(
        title=f"{settings.county_name_en} imaging hub",
        description=DESCRIPTION,
        version="0.1.0",
        docs_url=None,
        openapi_url="/api/openapi.json",
        swagger_ui_oauth2_redirect_url=None,
        redoc_url=None,
        lifespan=_life,
    )
    edge.install(auth.authenticate, auth.granted)
    jobs.set_sender(make_sender(settings))
    problems.install(app, allowed)
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", static_app())
    app.mount("/ohif", ohif_app(ohif.csp_for))
    guard.install(app, settings)
    app.add_middleware(FastSearch, fixed=guard.fixed_headers(settings), counted=guard.counted)
    app.add_middleware(FastFrames, fixed=guard.fixed_headers(settings), counted=guard.counted)
    app.add_middleware(FetchedAhead)
    app.add_middleware(OpenedEarly)
    return app
