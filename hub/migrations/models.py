"""Imports every table of the project, so that metadata is whole."""

from __future__ import annotations

import importlib

MODULES = (
    "hub.kit.health",
    "hub.kit.jobs",
    "hub.kit.live",
    "hub.kit.serials",
    "hub.audit.models",
    "hub.sites.models",
    "hub.accounts.models",
    "hub.patients.models",
    "hub.exams.models",
    "hub.reading.routing.models",
    "hub.studies.models",
    "hub.studies.loans",
    "hub.reading.kept",
    "hub.reading.conversation.models",
    "hub.reports.models",
    "hub.reports.drawings.models",
    "hub.reading.scoring.models",
    "hub.reports.recognition.models",
    "hub.reports.checks.models",
    "hub.reports.review.models",
    "hub.reports.passages",
    "hub.reports.critical.models",
    "hub.delivery.models",
)


def load_all() -> None:
    """Import all modules that declare tables."""
    for name in MODULES:
        importlib.import_module(name)
