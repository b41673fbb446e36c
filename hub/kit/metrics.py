"""Metrics of several processes as one: each writes its own file, whoever is asked adds them up."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from hub.kit.settings import Settings

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Variable by which prometheus-client knows, when it is imported, where the processes keep their files."""


def folder(settings: Settings) -> Path:
    """Where the processes of this hub keep their figures."""
    return settings.data_dir / "metrics"


def clear(settings: Settings) -> None:
    """Begin anew: counters count from the hub's start."""
    shutil.rmtree(folder(settings), ignore_errors=True)
    folder(settings).mkdir(parents=True, exist_ok=True)


def text() -> bytes:
    """All figures in the text format."""
    if VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
