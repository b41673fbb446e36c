"""A worker process that is killed at any instruction while it makes metadata ready: nothing stale or half is served."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.kit.db import database, reset_database
from hub.kit.ids import new_uid
from hub.kit.objects import reset_object_store
from hub.protocols.dicomweb import grants
from hub.protocols.dicomweb import metadata as answers
from hub.studies import intake, metadata
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Series, SeriesMetadata
from support.files import JSON, dicom_file

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

POINTS = 10


def _killed(study_id: str, line: int, lines: Any) -> None:
    """Make metadata ready, and end by SIGKILL before the given line of their code runs."""
    reset_database()
    reset_object_store()
    seen = 0

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith("hub/studies/metadata.py"):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        metadata.prepare_study(study_id)
    finally:
        sys.settrace(None)
        lines.value = seen
        os._exit(0)


def _take(world: World, outcome: Outcome | None, number: int) -> Outcome:
    uids = (outcome.study_uid, outcome.series_uid) if outcome else (new_uid(), new_uid())
    file = dicom_file(study=uids[0], series=uids[1], number=number)
    (stored,) = intake.ingest_many(
        world.actor("technologist"), [Incoming(file)], org_id=world.orgs["C01"].id, source="web"
    )
    assert stored.status == "stored"
    return stored


def _served(client: TestClient, door: str, outcome: Outcome) -> list[int]:
    answers.kept.clear()
    path = f"{door}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    answer = client.get(path, headers={"Accept": JSON})
    assert answer.status_code == 200
    return [one["00200013"]["Value"][0] for one in answer.json()]


def _ready(outcome: Outcome) -> tuple[int, int]:
    """Revision of what lies ready (0: nothing does), and of the series."""
    with database().reading() as session:
        series = session.scalars(select(Series).where(Series.uid == outcome.series_uid)).one()
        kept = session.get(SeriesMetadata, series.id)
        return (kept.revision if kept else 0, series.instance_count)


@pytest.mark.parametrize("earlier", [False, True], ids=["first", "again"])
def test_a_kill_at_any_instruction_leaves_nothing_stale(world: World, earlier: bool) -> None:
    """`earlier`: older metadata lie ready, which the killed process was to replace."""
    grants.forget()
    context = multiprocessing.get_context("fork")
    lines = context.Value("i", 0)
    doors = ((world.machine(), "/dicomweb"), (world.client("technologist"), "/viewer/dicomweb"))

    def child(study_id: str, line: int) -> int | None:
        reset_database()
        reset_object_store()
        process = context.Process(target=_killed, args=(study_id, line, lines))
        process.start()
        process.join(120)
        return process.exitcode

    def prepared() -> Outcome:
        outcome = _take(world, None, 1)
        if earlier:
            assert metadata.prepare_study(outcome.study_id) == 1
        return _take(world, outcome, 2)

    outcome = prepared()
    assert child(outcome.study_id, 0) == 0
    assert _ready(outcome) == (2, 2)
    total = lines.value
    assert total > 40
    left = set()
    for number in range(POINTS):
        outcome = prepared()
        assert child(outcome.study_id, 1 + number * (total - 1) // (POINTS - 1)) in (-signal.SIGKILL, 0)
        left.add(_ready(outcome)[0])
        for client, door in doors:
            assert _served(client, door, outcome) == [1, 2]
        # What it left is of an older revision as soon as another image comes, and is not served either.
        _take(world, outcome, 3)
        for client, door in doors:
            assert _served(client, door, outcome) == [1, 2, 3]
        # The job, which was not acknowledged, runs again.
        assert metadata.prepare_study(outcome.study_id) == 1
        assert _ready(outcome) == (3, 3)
        assert _served(*doors[0], outcome) == [1, 2, 3]
    assert left == {1 if earlier else 0, 2}, "kills before and after the writing"
