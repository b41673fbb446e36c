"""Health and readiness."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from hub.kit import health
from hub.web import system

if TYPE_CHECKING:
    import pytest

    from support.world import World


def test_many_who_ask_at_once_cost_few_probes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask, and each probe writes to the object store."""
    probes: list[float] = []
    together = threading.Barrier(20)
    real = health.run

    def run(*arguments: Any) -> Any:
        probes.append(time.monotonic())
        time.sleep(0.2)
        return real(*arguments)

    def ask(_number: int) -> bool:
        together.wait()
        return bool(system._ready()["ok"])

    monkeypatch.setattr(health, "run", run)
    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(ask, range(20)))
    assert 1 <= len(probes) <= 4
    before = len(probes)
    assert world.anonymous().get("/readyz").status_code == 200
    assert len(probes) == before + 1, "what is told is never older than the question"
