"""What is acknowledged is there: across the trash, lost answers of the database, damaged originals."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.health import Concern
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.protocols.dimse import commitment
from hub.protocols.dimse.staging import Staged
from hub.studies import intake, linking, previews, recompression, retired, scrubbing, stored, trash, uploads
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import ExamStudy, Instance, Series, Study
from support.files import dicom_file
from support.meeting import meet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hub.kit.actor import Actor
    from support.world import World


def take(world: World, *files: bytes) -> list[Outcome]:
    return intake.ingest_many(
        world.actor("technologist"),
        [Incoming(file, f"{number}.dcm") for number, file in enumerate(files)],
        org_id=world.orgs["C01"].id,
        source="stow",
    )


def instances() -> list[Instance]:
    with database().reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.number, Instance.uid)))


def objects() -> set[str]:
    return {stat.key for stat in object_store().list("instances/")}


def _into_the_trash(world: World, uid: str, *, days: int = 0) -> None:
    with database().writing() as session:
        study = trash.put(session, world.actor("quality"), uid, "sent twice by mistake")
        study.trashed_at = clock.now() - timedelta(days=days)


def test_what_is_purged_at_the_moment_it_is_sent_again_is_stored_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was here when the sender's file was looked up, and a worker purged it before it could be restored."""
    file = dicom_file()
    (first,) = take(world, file)
    _into_the_trash(world, first.study_uid, days=1000)
    wake = trash.wake

    def too_late(actor: Actor, org_id: str, uids: Iterable[str]) -> None:
        assert trash.empty() in (0, 1)
        wake(actor, org_id, uids)

    monkeypatch.setattr(trash, "wake", too_late)
    (again,) = take(world, file)
    assert again.status == "stored"
    (row,) = instances()
    assert row.id == again.instance_id
    assert stored.original_file(row) == file


def test_what_is_deleted_at_the_moment_it_is_sent_again_is_restored(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = dicom_file()
    (first,) = take(world, file)
    _into_the_trash(world, first.study_uid)
    # As if it had been deleted only after the look.
    monkeypatch.setattr(intake.Batch, "_foresee", lambda _batch: {})
    (again,) = take(world, file)
    assert (again.status, again.instance_id) == ("known", first.instance_id)
    with database().reading() as session:
        assert session.scalars(select(Study.trashed_at)).one() is None
    assert len(objects()) == 1


def test_what_a_commit_without_an_answer_may_name_is_not_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_args: object, **_kw: object) -> None:
        raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    monkeypatch.setattr(intake.Indexing, "run", cut_off)
    with pytest.raises(OperationalError):
        take(world, dicom_file())
    assert len(objects()) == 1, "the sweep takes it, when no commit can be under way any more"


@pytest.mark.parametrize("recompressed", [False, True])
@pytest.mark.parametrize("gone", [False, True])
def test_who_sends_a_damaged_original_again_mends_it(world: World, recompressed: bool, gone: bool) -> None:
    study, series = new_uid(), new_uid()
    files = [dicom_file(study=study, series=series, number=number, size=64) for number in (1, 2)]
    outcomes = take(world, *files)
    study_id = outcomes[0].study_id
    if recompressed:
        assert recompression.recompress_study(study_id).moved == 2
    row = instances()[0]
    whole = object_store().read(row.object_key)
    object_store().delete(row.object_key)
    if not gone:
        place = row.object_offset + row.dataset_offset + 200
        object_store().put(row.object_key, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert scrubbing.verify([study_id]).findings
    before = len(scrubbing.verify([study_id]).findings)
    again = take(world, *files, dicom_file(study=study, series=series, number=3))
    assert [one.status for one in again] == ["known", "known", "stored"]
    assert not scrubbing.verify([study_id]).findings
    assert [stored.original_file(row) for row in instances()[:2]] == files
    with database().reading() as session:
        assert session.scalar(select(func.count()).select_from(Concern)) == 0
        assert session.get_one(Study, study_id).revision > 2
    assert before in (1, 2)
    # What it was is deleted, and only that; the mended original can be recompressed like any other.
    clock.set_source(lambda: _later)
    retired.sweep()
    clock.set_source(None)
    assert {one.object_key for one in instances()} == objects()
    recompression.recompress_study(study_id)
    assert [stored.original_file(row) for row in instances()[:2]] == files
    assert [one.status for one in take(world, *files)] == ["known", "known"]


_later = clock.now() + timedelta(days=40)


def test_a_damaged_original_is_not_committed_to_its_sender(world: World) -> None:
    """Storage Commitment: the modality deletes its own copy upon it."""
    study, series = new_uid(), new_uid()
    files = [dicom_file(study=study, series=series, number=number) for number in (1, 2)]
    take(world, *files)
    whole, harmed = instances()
    references = [(one.sop_class, one.uid) for one in (whole, harmed)]
    org_id = world.orgs["C01"].id
    assert commitment.verify(org_id, references).committed == references
    scrubbing.tell(harmed.id, "damaged", harmed.object_key)
    assert commitment.verify(org_id, references).committed == references[:1]
    take(world, files[1])
    assert commitment.verify(org_id, references).committed == references
    # An object that is there, but shorter than what it should hold.
    data = object_store().read(whole.object_key)
    object_store().delete(whole.object_key)
    object_store().put(whole.object_key, data[: whole.object_offset + whole.size - 1])
    assert commitment.verify(org_id, references).committed == references[1:]


def test_the_machines_clock_is_known_also_after_the_previews(world: World) -> None:
    (outcome,) = take(world, dicom_file(size=64))
    with database().writing() as session:
        session.get_one(Study, outcome.study_id).summary = {"timezone_offset": "+0600", "kvp": 1}
    previews.prepare_study(outcome.study_id)
    with database().reading() as session:
        summary = session.get_one(Study, outcome.study_id).summary
    assert summary["timezone_offset"] == "+0600"
    assert "kvp" not in summary


@pytest.mark.server
def test_who_only_refers_to_a_study_does_not_hold_its_recompression(world: World) -> None:
    (outcome,) = take(world, dicom_file(size=64))
    with ThreadPoolExecutor(1) as pool, database().writing() as session:
        session.add(Series(study_id=outcome.study_id, uid=new_uid(), created_at=clock.now()))
        session.flush()
        moved = pool.submit(recompression.recompress_study, outcome.study_id).result(timeout=60)
    assert moved.moved == 1


def test_fragments_of_a_byte_weigh_their_bytes() -> None:
    def fill(view: memoryview) -> None:
        view[:] = b"x" * len(view)

    staged = Staged(b"head", most=1 << 30)
    tracemalloc.start()
    for _number in range(100_000):
        staged.take(fill, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert staged.finish() == b"head" + b"x" * 100_000
    assert peak < 1 << 20


@pytest.mark.server
def test_two_studies_for_one_exam_do_not_wait_in_a_circle(world: World) -> None:
    """Each links its study, and then counts its images, as two associations of one scanner do."""
    *ids, other = [take(world, dicom_file(patient_id=f"Q{n}".encode()))[0].study_id for n in range(3)]
    with database().reading() as session:
        exam_id = session.scalars(select(ExamStudy.exam_id).where(ExamStudy.study_id == other)).one()
    both = threading.Barrier(2)

    def link(study_id: str) -> None:
        with database().writing() as session:
            linking.hold(session, study_id)
            exam = session.get_one(Exam, exam_id)
            linking._link(session, SYSTEM, exam, session.get_one(Study, study_id), arrived=0)
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(1)
            linking._count(session, exam, 1)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(link, ids))
    with database().reading() as session:
        assert session.get_one(Exam, exam_id).received_count == 3


def _asked_for(world: World, file: bytes) -> list[str]:
    """What the upload page hears of a file that it offers by its hash: the states of those that it need not send."""
    actor = world.actor("technologist")
    with database().writing() as session:
        batch, (row,) = uploads.declare(session, actor, files=[uploads.Declared("a/1", len(file))])
        batch_id, file_id = batch.id, row.id
    with database().writing() as session:
        found = uploads.check_known(session, actor, batch_id, {file_id: hashlib.sha256(file).hexdigest()})
        return [one.state for one in found]


def test_a_damaged_original_is_asked_for_by_the_upload_page(world: World) -> None:
    file = dicom_file()
    take(world, file)
    assert _asked_for(world, file) == ["known"]
    (row,) = instances()
    scrubbing.tell(row.id, "missing", row.object_key)
    assert _asked_for(world, file) == []


def test_what_is_just_being_deleted_is_asked_for_by_the_upload_page(world: World) -> None:
    file = dicom_file()
    (outcome,) = take(world, file)
    quality = world.actor("quality")
    found = meet(
        lambda session: trash.put(session, quality, outcome.study_uid, "sent twice by mistake"),
        lambda: _asked_for(world, file),
    )
    assert found == []
