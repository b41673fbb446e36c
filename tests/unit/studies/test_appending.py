"""The short way in for more images of a study: the same rows as by the long way, and nothing where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.jobs import Job
from hub.kit.objects import object_store
from hub.studies import appending, intake, stored, trash
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Instance, InstanceHeader, Series, Study
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World

UIDS = {name: new_uid() for name in ("study", "series")}


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    appending.forget()
    yield
    appending.forget()


def take(world: World, *files: bytes, org: str = "C01") -> list[Outcome]:
    login = "technologist" if org == "C01" else "technologist.c02"
    many = [Incoming(file, f"{number}.dcm") for number, file in enumerate(files)]
    return intake.ingest_many(world.actor(login), many, org_id=world.orgs[org].id, source="dimse")


def slices(count: int, first: int = 1, **more: Any) -> list[bytes]:
    return [dicom_file(**{**UIDS, "number": number, **more}) for number in range(first, first + count)]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each call has gone."""
    gone: list[str] = []
    append, run = appending.append, intake.Indexing.run

    def short(*args: Any, **options: Any) -> Any:
        gone.append("short")
        return append(*args, **options)

    def long(self: Any, files: Any) -> Any:
        gone.append("long")
        return run(self, files)

    monkeypatch.setattr(appending, "append", short)
    monkeypatch.setattr(intake.Indexing, "run", long)
    return gone


def rows() -> dict[str, list[dict[str, Any]]]:
    """All that intake has written, without what is new each time."""
    new = {"id", "object_key", "study_id", "series_id", "patient_id", "created_at", "last_instance_at", "exam_id"}
    new |= {"run_after", "lease_until", "version", "registered_at", "state_since", "number", "payload", "key"}
    found: dict[str, list[dict[str, Any]]] = {}
    with database().reading() as session:
        for model in (Study, Series, Instance, Exam):
            found[model.__name__] = [
                {
                    column.name: getattr(row, column.key)
                    for column in model.__table__.columns
                    if column.name not in new and not column.name.endswith("_at")
                }
                for row in session.scalars(select(model).order_by(model.uid if hasattr(model, "uid") else model.id))
            ]
        headers = select(InstanceHeader.body).join(Instance, Instance.id == InstanceHeader.instance_id)
        found["headers"] = [{"body": body} for body in session.scalars(headers.order_by(Instance.uid))]
        jobs = select(Job.kind, Job.state, Job.priority, Job.again).order_by(Job.kind)
        found["jobs"] = [dict(row._mapping) for row in session.execute(jobs)]
    return found


def one_by_one(world: World, files: list[bytes]) -> None:
    for file in files:
        assert [one.status for one in take(world, file)] == ["stored"]


def test_the_rows_are_those_of_the_long_way(world: World, ways: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    # More than are told one by one to open pages.
    files = [*slices(30), *slices(3, first=31, series=new_uid(), frames=2)]
    one_by_one(world, files)
    assert ways.count("long") == 2, "the first image of each series"
    assert ways.count("short") == 31
    by_short = rows()
    with database().writing() as session:
        study = session.scalars(select(Study)).one()
        assert (study.instance_count, study.series_count, study.revision) == (33, 2, 33)
        assert session.scalars(select(Exam.received_count)).one() == 33
        trash.put(session, world.actor("quality"), study.uid, "again")
        session.execute(update(Study).values(trashed_at=clock.now() - timedelta(days=4000)))
    assert trash.empty() == 1
    with database().writing() as session:
        for table in ("job", "exam_study"):
            session.execute(Study.metadata.tables[table].delete())
        session.execute(update(Exam).values(state="cancelled"))
        old = set(session.scalars(select(Exam.id)))
    appending.forget()
    monkeypatch.setattr(appending, "fits", lambda *_args, **_options: None)
    one_by_one(world, files)
    by_long = rows()
    with database().reading() as session:
        fresh = [row for row in session.scalars(select(Exam).order_by(Exam.id)) if row.id not in old]
        assert [row.received_count for row in fresh] == [33]
    for name in ("Study", "Series", "Instance", "headers"):
        assert by_short[name] == by_long[name], name
    wanted = [row for row in by_long["jobs"] if row["kind"] in ("studies.preview", "studies.settle")]
    assert [row for row in by_short["jobs"] if row["kind"] in ("studies.preview", "studies.settle")] == wanted


def test_several_at_once_and_what_they_come_to_hold(world: World, ways: list[str]) -> None:
    other = {"study": new_uid(), "series": new_uid(), "patient_id": b"P2"}
    take(world, *slices(1))
    take(world, *slices(1, **other))
    files = [*slices(4, first=2), *slices(3, first=2, **other)]
    outcomes = take(world, *files)
    assert ways == ["long", "long", "short"]
    with database().reading() as session:
        for file, outcome in zip(files, outcomes, strict=True):
            row = session.get_one(Instance, outcome.instance_id)
            assert (row.uid, row.study_id) == (outcome.sop_uid, outcome.study_id)
            assert stored.original_file(row) == file
        assert sorted(session.scalars(select(Exam.received_count))) == [4, 5]


def test_many_at_once_are_all_counted(world: World) -> None:
    take(world, *slices(1))
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda file: take(world, file)[0].status, slices(24, first=2)))
    assert found == ["stored"] * 24
    with database().reading() as session:
        study = session.scalars(select(Study)).one()
        assert (study.instance_count, session.scalars(select(Exam.received_count)).one()) == (25, 25)
        assert len(session.scalars(select(Instance.id)).all()) == 25


def test_what_was_sent_before_is_known_and_leaves_no_bytes(world: World, ways: list[str]) -> None:
    files = slices(3)
    one_by_one(world, files)
    before = {stat.key for stat in object_store().list("instances/")}
    assert take(world, files[1])[0].status == "known"
    assert ways.count("short") == 3, "tried, and found here"
    assert take(world, files[2])[0].status == "known"
    assert ways.count("short") == 3, "not tried again for a study that is sent again"
    assert {stat.key for stat in object_store().list("instances/")} == before


@pytest.mark.parametrize(
    "changed",
    [{"patient_id": b"OTHER"}, {"name": b"SOMEBODY^ELSE"}, {"series": new_uid()}],
    ids=["patient-id", "name", "series"],
)
def test_what_is_not_as_before_goes_the_long_way(world: World, ways: list[str], changed: dict[str, Any]) -> None:
    take(world, *slices(1))
    take(world, *slices(1, first=2, **changed))
    assert ways == ["long", "long"]


def test_the_same_identifiers_from_another_clinic_are_refused(world: World, ways: list[str]) -> None:
    take(world, *slices(2))
    (outcome,) = take(world, *slices(1, first=3), org="C02")
    assert (outcome.status, outcome.code) == ("refused", "identifier-conflict")
    (outcome,) = take(world, dicom_file(sop=outcome.sop_uid, study=new_uid(), series=new_uid()), org="C02")
    assert outcome.status == "stored", "nothing of it is held by the first clinic"


def test_images_for_a_study_in_the_trash_bring_it_back(world: World, ways: list[str]) -> None:
    take(world, *slices(2))
    with database().writing() as session:
        trash.put(session, world.actor("quality"), UIDS["study"], "sent by mistake")
    (outcome,) = take(world, *slices(1, first=3))
    assert (outcome.status, ways[-2:]) == ("stored", ["short", "long"])
    with database().reading() as session:
        study = session.scalars(select(Study)).one()
        assert (study.trashed_at, study.instance_count) == (None, 3)


def test_a_study_that_another_took_the_place_of_meanwhile_gets_nothing_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the transaction it is purged, and its identifiers come again for somebody else."""
    take(world, *slices(2))
    store = intake.Batch._store

    def meanwhile(batch: intake.Batch, numbers: Any) -> Any:
        monkeypatch.setattr(intake.Batch, "_store", store)
        found = store(batch, numbers)
        with database().writing() as session:
            study = trash.put(session, world.actor("quality"), UIDS["study"], "sent by mistake")
            study.trashed_at = clock.now() - timedelta(days=4000)
        assert trash.empty() == 1
        assert take(world, *slices(1, first=9, patient_id=b"P2", name=b"LI^NA"))[0].status == "stored"
        return found

    monkeypatch.setattr(intake.Batch, "_store", meanwhile)
    (outcome,) = take(world, *slices(1, first=3))
    assert (outcome.status, outcome.code) == ("refused", "identifier-conflict")
    with database().reading() as session:
        study = session.scalars(select(Study)).one()
        assert (study.header_patient["patient_id"], study.instance_count) == ("P2", 1)


def test_late_images_are_still_noticed(world: World, ways: list[str]) -> None:
    take(world, *slices(2))
    with database().writing() as session:
        session.execute(update(Exam).values(state="to_review"))
    take(world, *slices(1, first=3))
    assert ways == ["long", "short"]
    with database().reading() as session:
        assert session.scalars(select(Exam.late_images_at)).one() is not None


def test_a_store_that_fails_acknowledges_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.errors import StorageUnavailable

    take(world, *slices(1))

    def away(*_args: Any, **_options: Any) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(type(object_store()), "put_pieces", away)
    (outcome,) = take(world, *slices(1, first=2))
    assert (outcome.status, outcome.code) == ("refused", "store-unavailable")
    monkeypatch.undo()
    assert take(world, *slices(1, first=2))[0].status == "stored"
