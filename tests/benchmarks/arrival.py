"""The way of an exam through a running hub, beside a plain file server: from the first byte to the queue and previews."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import date, datetime
from pathlib import Path
from typing import Any

from hub.cli.client import Client, Outgoing
from hub.dicom.phantoms import PhantomPatient, generate
from support.plain_files import PlainFiles
from support.running import AS_SHIPPED, RunningHub
from tests.benchmarks.rows import Row, text

PLAIN = "PUT of the same files, fsynced"


def head_ct(seed: int, slices: int) -> list[bytes]:
    """A head CT of 512 × 512 pixels, 0.5 MB a slice."""
    patient = PhantomPatient(f"B{seed}", "王伟", "M", birth_date=date(1970, 1, 1))
    return list(
        generate("ct_head", seed=seed, patient=patient, study_time=datetime(2026, 1, 2, 9, seed % 60), slices=slices)  # noqa: DTZ001
    )


def in_parallel(act: Callable[[Any], object], items: list[Any], width: int) -> float:
    """Seconds that `act` takes for all items with `width` at once."""
    with ThreadPoolExecutor(width) as pool:
        started = time.perf_counter()
        list(pool.map(act, items))
        return time.perf_counter() - started


def uploads(hub: RunningHub, plain: PlainFiles, seed: int) -> Iterator[Row]:
    """A CT uploaded by a clinic's page: in the queue, and with previews."""
    tech, reader = hub.client("tech01"), hub.client("reader01a")
    form = {
        "name": "王伟", "sex": "M", "age": "45", "modality": "CT", "body_parts": ["head"], "history": "头痛一周",
        "doctor": "李明", "doctor_phone": "13900000000",
    }  # fmt: skip
    for slices in (64, 300):
        files = [Outgoing(f"IM{n}", data) for n, data in enumerate(head_ct(seed + slices, slices))]
        exam = tech.post("/api/exams", form)
        with reader.live() as live:
            started = time.perf_counter()
            tech.upload(files, exam_id=exam["id"], parallel=4)
            sent = time.perf_counter() - started
            event = live.wait(_settled(exam["id"]), 300)
            assert event is not None, "the exam never reached the queue"
            queued = time.perf_counter() - started
            while not all(s["prepared"] for s in tech.get(f"/api/exams/{exam['id']}/images")["studies"]):
                time.sleep(0.05)
            ready = time.perf_counter() - started
        with Client(plain.url) as other:
            theirs = in_parallel(lambda one: other.request("PUT", "/put", content=one.read()), files, 4)
        name = f"upload of a CT of {slices}"
        yield Row("arrival", f"{name} → acknowledged", "s", [sent], [theirs], PLAIN)
        yield Row("arrival", f"{name} → in the queue", "s", [queued], [theirs], PLAIN)
        yield Row("arrival", f"{name} → with previews", "s", [ready], [theirs], PLAIN)


def _settled(exam_id: str) -> Callable[[dict[str, Any]], bool]:
    return lambda event: event["ref"] == exam_id and event["data"].get("state") in ("to_read", "to_verify")


def play(repeats: int) -> list[Row]:
    """Start a hub and the file server, and measure; readings of one line are put together."""
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder, ExitStack() as stack:
        hub = RunningHub(
            Path(folder) / "var",
            environment={"quiet_period_seconds": 3, "dimse_port": 0, "web_processes": 2, **AS_SHIPPED},
        )
        stack.callback(hub.stop)
        hub.start()
        assert hub.interrupt() == 0
        begun = time.perf_counter()
        hub.start()
        again = Row("arrival", "second start, until it is ready", "s", [time.perf_counter() - begun])
        rows[again.name] = again
        plain = stack.enter_context(PlainFiles(Path(folder) / "plain"))
        for number in range(repeats):
            for row in uploads(hub, plain, 10 + number):
                if row.name in rows:
                    rows[row.name].hub += row.hub
                    rows[row.name].peer += row.peer
                else:
                    rows[row.name] = row
        for row in rows.values():
            print(text(row), flush=True)
    return list(rows.values())
