"""Originals recompressed at rest: proven before they go, rebuilt byte for byte, and nothing lost by a kill."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from sqlalchemy import func, select, update

from conftest import SERVER
from hub.audit.models import AuditEntry
from hub.cli import make_app
from hub.dicom import recompress as codec
from hub.kit import clock, health, jobs
from hub.kit.db import database, reset_database
from hub.kit.ids import new_uid
from hub.kit.objects import object_store, reset_object_store
from hub.kit.settings import get_settings
from hub.studies import intake, pixels, previews, recompression, retired, scrubbing, stored, sweeping
from hub.studies.intake import Incoming
from hub.studies.models import Instance, InstanceHeader, RetiredObject, Scrubbing, Study
from storage.errors import ChecksumMismatch, StorageUnavailable
from support.dicom_bytes import element
from support.files import dicom_file
from support.stored import bundled
from workers import runner

if TYPE_CHECKING:
    from support.world import World

HTJ2K = "1.2.840.10008.1.2.4.201"
NOW = timedelta(0)


def images(count: int, *, study: str = "", size: int = 64, **more: Any) -> list[bytes]:
    study, series = study or new_uid(), new_uid()
    return [
        dicom_file(study=study, series=series, number=number + 1, pixel=number, size=size, **more)
        for number in range(count)
    ]


def take(world: World, files: list[bytes]) -> str:
    """Take files in; the study's id."""
    found = intake.ingest_many(
        world.actor("technologist"),
        [Incoming(file, f"{number}.dcm") for number, file in enumerate(files)],
        org_id=world.orgs["C01"].id,
        source="web",
    )
    assert {one.status for one in found} == {"stored"}, found
    with database().reading() as session:
        return session.scalars(select(Study.id).where(Study.uid == found[0].study_uid)).one()


def rows(study_id: str) -> list[Instance]:
    with database().reading() as session:
        return list(session.scalars(select(Instance).where(Instance.study_id == study_id).order_by(Instance.number)))


def objects() -> set[str]:
    return {stat.key for stat in object_store().list("instances/")}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_study_is_recompressed_and_its_originals_are_given_back(world: World) -> None:
    files = images(3)
    study_id = take(world, files)
    before, store = rows(study_id), object_store()
    old = {row.object_key for row in before}
    shown = [pixels.decode(store, row)[0] for row in before]
    with database().reading() as session:
        headers = {row.instance_id: row.body for row in session.scalars(select(InstanceHeader))}

    tally = recompression.recompress_study(study_id)
    assert (tally.moved, tally.failed, dict(tally.kept)) == (3, 0, {})
    after = rows(study_id)
    for file, row, picture in zip(files, after, shown, strict=True):
        assert (row.transfer_syntax, row.original_syntax) == (HTJ2K, "1.2.840.10008.1.2.1")
        assert (row.original_size, row.file_sha256) == (len(file), digest(file))
        assert row.size + row.recipe_size < len(file)
        assert stored.original_file(row) == file
        assert stored.original_length(row) == len(file)
        kept = stored.read_file(row)
        assert digest(kept) == row.stored_sha256
        data = pydicom.dcmread(io.BytesIO(kept))
        assert (data.file_meta.TransferSyntaxUID, data.SOPInstanceUID) == (HTJ2K, row.uid)
        assert np.array_equal(pixels.decode(store, row)[0], picture)
    assert len({row.object_key for row in after}) == 1, "what was recompressed together lies in one object"
    with database().reading() as session:
        assert {row.instance_id: row.body for row in session.scalars(select(InstanceHeader))} == headers
        study = session.get_one(Study, study_id)
        assert study.archived_revision == study.revision

    assert old <= objects(), "whoever reads the old object may finish"
    assert sweeping.sweep_orphans(older_than_hours=-1) == 0, "nor does the sweep of orphans take it"
    assert retired.sweep() == 0
    assert retired.sweep(grace=NOW) == len(old)
    assert objects() == {row.object_key for row in after}
    assert stored.original_file(after[0]) == files[0]
    assert recompression.recompress_study(study_id).moved == 0


def test_every_bundled_file_is_given_back_as_it_was_sent(world: World) -> None:
    given = {digest(data): data for data in (path.read_bytes() for path in bundled()) if len(data) < 400_000}
    found = intake.ingest_many(
        world.actor("technologist"),
        [Incoming(data, name) for name, data in given.items()],
        org_id=world.orgs["C01"].id,
        source="web",
    )
    sent = {name: given[name] for name, one in zip(given, found, strict=True) if one.status == "stored"}
    with database().reading() as session:
        studies = set(session.scalars(select(Study.id)))
    decoded: dict[str, Any] = {}
    for row in [row for study_id in studies for row in rows(study_id)]:
        try:
            decoded[row.id] = pixels.decode(object_store(), row)[0]
        except Exception:
            continue
    tallies = [recompression.recompress_study(study_id) for study_id in studies]
    assert sum(tally.moved for tally in tallies) >= 5
    assert not sum(tally.failed + tally.kept.get("unproven", 0) for tally in tallies)
    retired.sweep(grace=NOW)
    every = [row for study_id in studies for row in rows(study_id)]
    assert len(every) == len(sent)
    for row in every:
        assert bool(row.original_syntax) != bool(row.kept_reason), "each was decided about"
        assert stored.original_file(row) == sent[row.file_sha256]
        if row.id in decoded:
            assert np.array_equal(pixels.decode(object_store(), row)[0], decoded[row.id]), row.uid
    assert not scrubbing.verify(studies).findings


def pack(world: World, files: list[bytes]) -> str:
    """A study whose files lie in one object, whatever intake does."""
    study_id = take(world, files)
    by_hash = {digest(file): file for file in files}
    key, data, places = f"instances/abc/{new_uid().replace('.', '')}", b"", {}
    for row in rows(study_id):
        places[row.id] = len(data)
        data += by_hash[row.file_sha256]
    object_store().put(key, data)
    with database().writing() as session:
        for row in session.scalars(select(Instance).where(Instance.study_id == study_id)):
            row.object_key, row.object_offset = key, places[row.id]
    return study_id


def test_what_shared_an_object_with_images_does_not_hold_their_space(world: World) -> None:
    study = new_uid()
    report = dicom_file(study=study, number=99, sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR", size=2)
    files = [*images(3, study=study), report]
    study_id = pack(world, files)
    old = rows(study_id)[0].object_key
    tally = recompression.recompress_study(study_id)
    assert tally.moved == 4
    assert tally.kept == {"no-gain": 1}
    after = rows(study_id)
    assert old not in {row.object_key for row in after}
    assert (after[-1].original_syntax, after[-1].kept_reason) == ("", "no-gain")
    retired.sweep(grace=NOW)
    assert old not in objects()
    assert [stored.original_file(row) for row in after] == files


def test_an_object_that_others_still_name_is_not_deleted(world: World) -> None:
    first, second = images(1, size=32), images(1, size=96)
    one, two = take(world, first), take(world, second)
    with database().writing() as session:
        key = session.scalars(select(Instance).where(Instance.study_id == two)).one().object_key
    # The two share an object, of which the larger part is another study's.
    shared, data = "instances/abc/shared", first[0] + second[0]
    object_store().put(shared, data)
    with database().writing() as session:
        session.execute(update(Instance).where(Instance.study_id == one).values(object_key=shared, object_offset=0))
        session.execute(
            update(Instance).where(Instance.study_id == two).values(object_key=shared, object_offset=len(first[0]))
        )
    object_store().delete(key)
    recompression.recompress_study(one)
    retired.sweep(grace=NOW)
    assert shared in objects()
    assert stored.original_file(rows(two)[0]) == second[0]
    recompression.recompress_study(two)
    retired.sweep(grace=NOW)
    assert shared not in objects()
    assert [stored.original_file(rows(study)[0]) for study in (one, two)] == [first[0], second[0]]


def _signed(file: bytes) -> bytes:
    return file + element(0xFFFAFFFA, "SQ", b"")


def _overlay(file: bytes) -> bytes:
    data = bytearray(file)
    data[-1] |= 0xF0
    return bytes(data)


@pytest.mark.parametrize(("change", "reason"), [(_signed, "signed"), (_overlay, "unused-bits")])
def test_what_stays_says_why_and_is_not_tried_again(world: World, change: Any, reason: str) -> None:
    (file,) = images(1)
    study_id = take(world, [change(file)])
    assert recompression.recompress_study(study_id).kept == {reason: 1}
    (row,) = rows(study_id)
    assert (row.kept_reason, row.original_syntax) == (reason, "")
    assert stored.original_file(row) == change(file)
    assert not recompression.recompress_study(study_id).kept


def test_a_form_that_does_not_give_the_original_back_is_never_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = images(2)
    study_id = take(world, files)
    before, there = rows(study_id), objects()
    encode = codec.encode
    # Reversible as far as the encoder can tell, and yet other pixels.
    monkeypatch.setattr(
        codec, "encode", lambda data, layout, **more: encode(bytes([data[0] ^ 1]) + data[1:], layout, **more)
    )
    assert recompression.recompress_study(study_id).kept == {"unproven": 2}
    assert [row.object_key for row in rows(study_id)] == [row.object_key for row in before]
    assert objects() == there, "the useless object is gone"
    assert [stored.original_file(row) for row in rows(study_id)] == files


def test_a_damaged_original_is_left_alone_and_never_given_out_whole(world: World) -> None:
    (file,) = images(1)
    study_id = take(world, [file])
    (row,) = rows(study_id)
    damaged = bytearray(object_store().read(row.object_key))
    damaged[row.object_offset + 2000] ^= 1
    object_store().delete(row.object_key)
    object_store().put(row.object_key, bytes(damaged))
    assert recompression.recompress_study(study_id).kept == {"damaged": 1}
    received = b""
    with pytest.raises(ChecksumMismatch):
        for piece in stored.iter_original(row):
            received += piece
    assert len(received) < len(file)
    assert [finding.kind for finding in scrubbing.verify([study_id]).findings] == ["damaged"]
    object_store().delete(row.object_key)
    assert [finding.kind for finding in scrubbing.verify([study_id]).findings] == ["missing"]


def test_the_workers_come_to_every_original_and_tell_the_operator(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told() -> bool:
        return health.check_originals(get_settings()).ok

    monkeypatch.setattr(scrubbing, "BATCH", 2)
    study_id = take(world, images(5))
    recompression.recompress_study(study_id)
    assert [scrubbing.scrub().read for _round in range(4)] == [2, 2, 1, 2]
    with database().reading() as session:
        assert session.get_one(Scrubbing, 1).ended_at is not None
    assert [scrubbing.scrub(seconds=-1).read for _round in range(2)] == [1, 1]
    assert told()
    key = rows(study_id)[0].object_key
    whole = object_store().read(key)
    object_store().delete(key)
    findings = [finding.kind for _round in range(3) for finding in scrubbing.scrub().findings]
    assert set(findings) == {"missing"}
    assert not told()
    object_store().put(key, whole)
    assert not scrubbing.verify([study_id]).findings
    assert told()


def test_a_damaged_recompressed_file_is_noticed(world: World) -> None:
    study_id = take(world, images(1))
    recompression.recompress_study(study_id)
    (row,) = rows(study_id)
    whole = object_store().read(row.object_key)
    for place in (row.object_offset + row.size - 40, row.recipe_offset + row.recipe_size // 2):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        object_store().delete(row.object_key)
        object_store().put(row.object_key, bytes(damaged))
        with pytest.raises(ChecksumMismatch):
            stored.original_file(row)


def test_a_lost_original_is_told_and_the_rest_is_done(world: World) -> None:
    files = images(3)
    study_id = take(world, files)
    lost = rows(study_id)[1]
    with database().writing() as session:
        session.get_one(Instance, lost.id).object_key = "instances/abc/lost"
    assert recompression.recompress_study(study_id).kept == {"missing": 1}
    assert [bool(row.original_syntax) for row in rows(study_id)] == [True, False, True]
    assert not health.check_originals(get_settings()).ok


def test_what_makes_the_work_stumble_is_not_tried_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(2)
    study_id = take(world, files)

    def stumble(*_given: Any, **_more: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(recompression, "recompress", stumble)
        assert recompression.recompress_study(study_id).kept == {"odd": 2}
    assert [stored.original_file(row) for row in rows(study_id)] == files


def test_a_move_by_another_worker_wins_and_nothing_is_doubled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(2)
    study_id = take(world, files)
    proven = recompression._proven
    raced = False

    def race(*args: Any) -> bool:
        nonlocal raced
        if not raced:
            raced = True
            recompression.recompress_study(study_id)
        return proven(*args)

    monkeypatch.setattr(recompression, "_proven", race)
    assert recompression.recompress_study(study_id).moved == 0
    retired.sweep(grace=NOW)
    after = rows(study_id)
    assert objects() == {row.object_key for row in after}
    assert [stored.original_file(row) for row in after] == files


def test_a_store_out_of_reach_leaves_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = images(2)
    study_id = take(world, files)

    def broken(*_args: Any, **_more: Any) -> None:
        raise StorageUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(type(object_store()), "put_file", broken)
        with pytest.raises(StorageUnavailable):
            recompression.recompress_study(study_id)
    assert [stored.original_file(row) for row in rows(study_id)] == files
    assert not list(sweeping.staging_folder().iterdir())
    assert recompression.recompress_study(study_id).moved == 2


def test_originals_are_brought_back(world: World) -> None:
    files = images(3)
    study_id = take(world, files)
    before = rows(study_id)
    recompression.recompress_study(study_id)
    assert recompression.restore_study(study_id).moved == 3
    after = rows(study_id)
    for was, row, file in zip(before, after, files, strict=True):
        assert (row.transfer_syntax, row.size, row.original_syntax, row.recipe_size) == (
            was.transfer_syntax,
            was.size,
            "",
            0,
        )
        assert (row.frame_index, row.dataset_offset) == (was.frame_index, was.dataset_offset)
        assert stored.read_file(row) == file
    retired.sweep(grace=NOW)
    assert objects() == {row.object_key for row in after}
    assert recompression.recompress_study(study_id).moved == 0, "what was brought back stays"


def test_a_frame_of_many_is_a_range(world: World) -> None:
    (file,) = images(1, frames=40, size=48)
    study_id = take(world, [file])
    was = [pixels.decode(object_store(), rows(study_id)[0], number)[0] for number in range(40)]
    recompression.recompress_study(study_id)
    (row,) = rows(study_id)
    assert row.original_syntax
    for number in (0, 17, 39):
        assert np.array_equal(pixels.decode(object_store(), row, number)[0], was[number])
    assert stored.original_file(row) == file


def test_it_is_asked_for_when_quiet_and_only_if_wanted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = take(world, images(1))

    def asked() -> int:
        with database().reading() as session:
            return session.scalar(select(func.count()).where(jobs.Job.kind == recompression.JOB)) or 0

    assert recompression.enqueue_due() == 0
    later = clock.now() + recompression.QUIET + timedelta(seconds=1)
    clock.set_source(lambda: later)
    monkeypatch.setenv("HUB_RECOMPRESS", "0")
    get_settings.cache_clear()
    assert (recompression.enqueue_due(), asked()) == (0, 0)
    monkeypatch.delenv("HUB_RECOMPRESS")
    get_settings.cache_clear()
    assert (recompression.enqueue_due(), asked()) == (1, 1)
    assert recompression.enqueue_due() == 0, "it waits for its turn"
    assert runner.sweep() >= 1
    assert rows(study_id)[0].original_syntax, "the worker did it"
    assert recompression.enqueue_due() == 0


def test_a_long_study_is_done_in_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = take(world, images(3))
    recompress, each = recompression._recompress, 10.0
    done: list[object] = []
    monkeypatch.setattr(recompression, "_recompress", lambda *given: done.append(recompress(*given)))
    monkeypatch.setattr(recompression, "time", SimpleNamespace(monotonic=lambda: each * len(done)))
    assert recompression.recompress_study(study_id, seconds=each / 2).moved == 1
    with database().reading() as session:
        assert session.scalar(select(jobs.Job.state).where(jobs.Job.kind == recompression.JOB)) == jobs.QUEUED
        study = session.get_one(Study, study_id)
        assert study.archived_revision < study.revision
    assert recompression.recompress_study(study_id).moved == 2


def test_previews_stay_ready(world: World) -> None:
    study_id = take(world, images(2))
    previews.prepare_study(study_id)
    recompression.recompress_study(study_id)
    with database().reading() as session:
        study = session.get_one(Study, study_id)
        assert study.prepared_revision == study.revision


def test_the_command_line(world: World, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    files = images(2)
    study_id = take(world, files)
    with database().reading() as session:
        uid = session.get_one(Study, study_id).uid
    run, app = CliRunner(), make_app("archive")

    def hub(*words: str) -> Any:
        return run.invoke(app, ["archive", *words])

    assert "not looked at yet" in hub("status").output
    assert "2 instances recompressed" in hub("recompress", "--grace", "0").output
    assert "2 recompressed" in hub("status").output
    assert "2 files" in hub("originals", uid, str(tmp_path / "out")).output
    with database().reading() as session:
        exported = session.scalars(select(AuditEntry).where(AuditEntry.action == "images.export")).one()
    assert (exported.object_id, exported.detail["instances"]) == (uid, 2)
    assert [path.read_bytes() for path in sorted((tmp_path / "out").iterdir())] == files
    assert "0 damaged" in hub("verify").output
    assert "2 originals brought back" in hub("restore", "--study", uid).output
    assert hub("verify", "--study", "1.2.3").exit_code == 2
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(RetiredObject))
    object_store().delete(rows(study_id)[0].object_key)
    assert hub("verify").exit_code == 1
    assert hub("originals", uid, str(tmp_path / "out")).exit_code == 1


# --- kills ----------------------------------------------------------------------------------------------------------

_WATCHED = ("recompression.py", "retired.py", "sweeping.py", "filesystem.py", "s3.py", "base.py", "stored.py")


def _killed(study_id: str, line: int, lines: Any) -> None:
    """Recompress, and end by SIGKILL before the given line of the code that matters runs."""
    reset_database()
    reset_object_store()
    seen = 0

    def trace(frame: Any, event: str, _argument: Any) -> Any:
        nonlocal seen
        if not frame.f_code.co_filename.endswith(_WATCHED):
            return None
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
    try:
        recompression.recompress_study(study_id)
        retired.sweep(grace=NOW)
    finally:
        sys.settrace(None)
        lines.value = seen
        os._exit(0)


def _kills(world: World, points: int) -> None:
    """Kill at so many instructions, spread over the whole; after each, everything is there and the work goes on."""
    context = multiprocessing.get_context("fork")
    lines = context.Value("i", 0)
    files = images(2)
    study_id = pack(world, files)

    def child(study: str, line: int) -> int | None:
        reset_database()
        reset_object_store()
        process = context.Process(target=_killed, args=(study, line, lines))
        process.start()
        process.join(120)
        return process.exitcode

    def whole(study: str, sent: list[bytes]) -> None:
        found = rows(study)
        assert [stored.original_file(row) for row in found] == sent
        for row in found:
            pixels.decode(object_store(), row)

    assert child(study_id, 0) == 0
    whole(study_id, files)
    total = lines.value
    assert total > 200
    for number in range(points):
        line = 1 + number * (total - 1) // (points - 1)
        files = images(2)
        study_id = pack(world, files)
        assert child(study_id, line) in (-signal.SIGKILL, 0)
        whole(study_id, files)
        recompression.recompress_study(study_id)
        retired.sweep(grace=NOW)
        whole(study_id, files)
        assert all(row.original_syntax for row in rows(study_id))
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(RetiredObject)) == 0
        named = set(session.scalars(select(Instance.object_key)))
    assert named <= objects()
    sweeping.sweep_orphans(older_than_hours=-1, most=10_000)
    assert objects() == named, "what a kill left is an orphan, and goes"


def test_a_kill_at_any_instruction_loses_nothing(world: World) -> None:
    _kills(world, 16 if not SERVER else 10)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_many_kills_lose_nothing(world: World) -> None:
    _kills(world, 400)
