"""Figures of several web processes add up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hub.kit import metrics
from hub.kit.settings import get_settings


def test_figures_of_several_processes_are_one(hub_env: Path) -> None:
    metrics.clear(get_settings())
    env = os.environ | {metrics.VARIABLE: str(metrics.folder(get_settings()))}
    count = "from prometheus_client import Counter; Counter('hub_probe', 'Probes.').inc(2)"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=env, check=True)
    show = "from hub.kit import metrics; print(metrics.text().decode())"
    said = subprocess.run([sys.executable, "-c", show], env=env, check=True, capture_output=True, text=True).stdout
    assert "hub_probe_total 4.0" in said


def test_a_new_start_counts_anew(hub_env: Path) -> None:
    metrics.clear(get_settings())
    (metrics.folder(get_settings()) / "counter_1.db").write_bytes(b"old")
    metrics.clear(get_settings())
    assert not list(metrics.folder(get_settings()).iterdir())
