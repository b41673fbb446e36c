"""Intake: durable before acknowledged, idempotent, and nobody is told what another clinic holds."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.errors import Unavailable
from hub.kit.i18n import translate
from hub.kit.ids import new_uid
from hub.kit.jobs import Job
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.patients import service as patients
from hub.patients.models import Patient
from hub.sites.models import Organisation
from hub.studies import appending, indexing, intake, previews, quarantine
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import ExamStudy, Instance, InstanceHeader, Quarantined, Series, Study
from storage.errors import StorageFull, StorageUnavailable
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World


def take(
    world: World, *files: bytes, org: str = "C01", exam_id: str | None = None, source: str = "web"
) -> list[Outcome]:
    login = "technologist" if org == "C01" else "technologist.c02"
    return intake.ingest_many(
        world.actor(login),
        [Incoming(file, f"{number}.dcm") for number, file in enumerate(files)],
        org_id=world.orgs[org].id,
        source=source,
        exam_id=exam_id,
    )


def count(model: type) -> int:
    with database().reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def keys() -> set[str]:
    return {stat.key for stat in object_store().list("")}


def test_a_file_is_kept_indexed_and_linked(world: World) -> None:
    file = dicom_file(name=b"WANG^WEI", patient_id=b"P001", frames=3)
    (outcome,) = take(world, file)
    assert outcome.status == "stored"
    with database().reading() as session:
        study = session.scalars(select(Study)).one()
        series = session.scalars(select(Series)).one()
        instance = session.scalars(select(Instance)).one()
        exam = session.scalars(select(Exam)).one()
        assert session.get(ExamStudy, (exam.id, study.id)) is not None
        assert session.get(InstanceHeader, instance.id) is not None
        assert (study.uid, study.instance_count, study.series_count, study.revision) == (outcome.study_uid, 1, 1, 1)
        assert (series.instance_count, series.frame_count, instance.frames) == (1, 3, 3)
        assert (exam.state, exam.source, exam.incomplete) == ("receiving", "images", ["registration"])
        assert (exam.modality, exam.body_parts, exam.received_count) == ("CT", ["head"], 1)
        assert exam.reading_org_id == world.orgs["H01"].id
        jobs = {job.key for job in session.scalars(select(Job))}
        assert {f"preview:{study.id}", f"settle:{exam.id}"} <= jobs
        actions = set(session.scalars(select(AuditEntry.action)))
        assert {"study.receive", "exam.register", "exam.link_study"} <= actions
    assert object_store().read(instance.object_key) == file


def test_the_same_data_set_again_is_known_whatever_its_file_header(world: World) -> None:
    sop = new_uid()
    file = dicom_file(sop=sop)
    take(world, file)
    before = keys()
    other_header = file.replace(sop.encode(), new_uid().encode()[: len(sop)].ljust(len(sop), b"0"), 1)
    assert other_header != file
    outcomes = take(world, file, other_header)
    assert [one.status for one in outcomes] == ["known", "known"]
    assert (count(Instance), count(Exam), keys()) == (1, 1, before)


def test_the_same_file_twice_in_one_call_is_one_instance(world: World) -> None:
    file = dicom_file()
    assert [one.status for one in take(world, file, file)] == ["stored", "known"]
    assert count(Instance) == 1
    assert len(keys()) == 1


def test_other_bytes_under_a_known_uid_are_kept_and_refused(world: World) -> None:
    uids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    take(world, dicom_file(**uids, pixel=1))
    changed = dicom_file(**uids, pixel=2)
    (outcome,) = take(world, changed)
    assert (outcome.status, outcome.code) == ("refused", "changed-content")
    with database().reading() as session:
        row = session.scalars(select(Quarantined)).one()
        assert row.id == outcome.quarantine_id
        assert object_store().read(row.object_key) == changed
        assert session.scalars(select(Instance)).one().file_sha256 != row.sha256
    # A device that sends it every hour fills nothing.
    (again,) = take(world, changed)
    assert again.quarantine_id == row.id
    assert len(keys()) == 2


@pytest.mark.parametrize("same", ["study", "series", "sop"])
def test_one_clinic_is_not_told_what_another_holds(world: World, same: str) -> None:
    uid = new_uid()
    file = dicom_file(**{same: uid})
    take(world, file, org="C01")
    before = count(Instance)
    (theirs,) = take(world, dicom_file(**{same: uid}, pixel=5), org="C02")
    assert (theirs.status, theirs.code) == ("refused", "identifier-conflict")
    said = translate(theirs.reason, "zh") + str(theirs.params)
    for telling in ("机构已", "另一", world.orgs["C01"].name, "organisation"):
        assert telling not in said
    assert theirs.instance_id == theirs.study_id == ""
    assert count(Instance) == before
    with database().reading() as session:
        row = session.scalars(select(Quarantined)).one()
        assert row.org_id == world.orgs["C02"].id
        assert "other" in str(row.params["detail"])


def test_sameness_is_not_looked_up_across_clinics(world: World) -> None:
    file = dicom_file()
    take(world, file, org="C01")
    (theirs,) = take(world, file, org="C02")
    assert (theirs.status, theirs.code) == ("refused", "identifier-conflict")


def test_the_same_study_of_another_patient_is_refused_in_the_same_words(world: World) -> None:
    study = new_uid()
    take(world, dicom_file(study=study, patient_id=b"P001"))
    (outcome,) = take(world, dicom_file(study=study, patient_id=b"P002", name=b"LI^NA"))
    assert outcome.code == "identifier-conflict"
    assert count(Instance) == 1
    # A screen shot without a PatientID, and a spelling of the same patient, do belong.
    same = take(
        world,
        dicom_file(study=study, patient_id=None, name=b"WANG^WEI"),
        dicom_file(study=study, patient_id=b"P001", name=b"WANG WEI"),
    )
    assert [one.status for one in same] == ["stored", "stored"]


def test_a_patient_is_organisation_and_number(world: World) -> None:
    take(world, dicom_file(patient_id=b"001", name=b"WANG^WEI"), org="C01")
    take(world, dicom_file(patient_id=b"001", name=b"LI^NA"), org="C02")
    with database().reading() as session:
        rows = session.scalars(select(Patient)).all()
        assert {row.org_id for row in rows} == {world.orgs["C01"].id, world.orgs["C02"].id}
        assert len({row.county_patient_id for row in rows}) == 2


def test_no_patient_id_gives_each_study_a_patient_of_its_own(world: World) -> None:
    take(world, dicom_file(patient_id=None), dicom_file(patient_id=None))
    with database().reading() as session:
        assert all(patients.hub_given(row.number) for row in session.scalars(select(Patient)))
    assert count(Patient) == 2


def test_two_at_once_make_one_row_and_both_succeed(world: World) -> None:
    study, series = new_uid(), new_uid()
    files = [dicom_file(study=study, series=series, number=number) for number in range(6)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _n: take(world, *files), range(4)))
    statuses = [one.status for outcomes in results for one in outcomes]
    assert set(statuses) == {"stored", "known"}
    assert statuses.count("stored") == 6
    assert (count(Instance), count(Study), count(Exam), len(keys())) == (6, 1, 1, 1)
    with database().reading() as session:
        assert session.scalars(select(Study)).one().instance_count == 6
        assert session.scalars(select(Exam)).one().received_count == 6


def test_a_study_made_between_two_looks_is_no_conflict(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL each query sees what was committed meanwhile: no study at the first look, its series at the next."""
    study, series = new_uid(), new_uid()
    first, second = (dicom_file(study=study, series=series, number=number) for number in range(2))
    take(world, first)
    appending.forget()
    real = indexing.Indexing._study
    looks: list[str] = []

    def too_early(one: indexing.Indexing, uid: str) -> Study | None:
        looks.append(uid)
        if len(looks) == 1:
            one.studies[uid] = None
        return real(one, uid)

    monkeypatch.setattr(indexing.Indexing, "_study", too_early)
    assert [one.status for one in take(world, second)] == ["stored"]
    assert len(looks) > 1
    assert (count(Instance), count(Study), count(Quarantined)) == (2, 1, 0)


def _in_own_process(org_id: str, files: list[bytes], queue: multiprocessing.Queue[list[str]]) -> None:
    from hub.kit.actor import Actor
    from hub.kit.db import reset_database
    from hub.kit.objects import reset_object_store

    reset_database()
    reset_object_store()
    actor = Actor(kind="machine", id="k" * 26, org_id=org_id, scopes=frozenset({"stow"}))
    outcomes = intake.ingest_many(actor, [Incoming(file) for file in files], org_id=org_id, source="stow")
    queue.put([one.status for one in outcomes])


@pytest.mark.slow
def test_two_processes_at_once_make_one_row(world: World) -> None:
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[list[str]] = context.Queue()
    study = new_uid()
    files = [dicom_file(study=study, number=number) for number in range(4)]
    org_id = world.orgs["C01"].id
    running = [context.Process(target=_in_own_process, args=(org_id, files, queue)) for _ in range(2)]
    for process in running:
        process.start()
    results = [queue.get(timeout=120) for _ in running]
    for process in running:
        process.join(120)
    flat = [status for result in results for status in result]
    assert sorted(flat) == ["known"] * 4 + ["stored"] * 4
    assert (count(Instance), count(Exam)) == (4, 1)


def test_a_failed_commit_acknowledges_nothing_and_leaves_the_file(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file())

    def broken(*_args: object, **_kw: object) -> None:
        raise RuntimeError("the database is gone")

    monkeypatch.setattr(intake.Indexing, "run", broken)
    with pytest.raises(RuntimeError):
        intake.ingest(world.actor("technologist"), path, org_id=world.orgs["C01"].id, source="web")
    assert path.exists()
    assert count(Instance) == 0
    monkeypatch.undo()
    outcome = intake.ingest(world.actor("technologist"), path, org_id=world.orgs["C01"].id, source="web")
    assert outcome.status == "stored"
    assert not path.exists()


@pytest.mark.parametrize("error", [StorageFull("full"), StorageUnavailable("away")])
def test_a_store_that_fails_loses_nothing(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file())
    store = object_store()

    def broken(*_args: object, **_kw: object) -> None:
        raise error

    monkeypatch.setattr(store, "put_file", broken)
    with pytest.raises(Unavailable):
        intake.ingest(world.actor("technologist"), path, org_id=world.orgs["C01"].id, source="web")
    assert path.exists()
    assert count(Instance) == count(Study) == 0


def test_too_little_room_refuses_before_anything_is_read(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "min_free_mb", 10**9)
    path = tmp_path / "a.dcm"
    path.write_bytes(dicom_file())
    with pytest.raises(Unavailable) as refused:
        intake.ingest(world.actor("technologist"), path, org_id=world.orgs["C01"].id, source="web")
    assert refused.value.code == "no-room"
    assert path.exists()


def test_a_symbolic_link_is_not_followed(world: World, tmp_path: Path) -> None:
    secret = tmp_path / "secret.dcm"
    secret.write_bytes(dicom_file())
    link = tmp_path / "link.dcm"
    link.symlink_to(secret)
    outcome = intake.ingest(world.actor("technologist"), link, org_id=world.orgs["C01"].id, source="web")
    assert (outcome.status, outcome.code) == ("refused", "not-dicom")
    assert secret.exists()
    assert count(Instance) == 0


def test_a_name_with_dots_is_only_a_name(world: World) -> None:
    (outcome,) = intake.ingest_many(
        world.actor("technologist"),
        [Incoming(b"no image", "../../etc/pass\0wd" + "x" * 400)],
        org_id=world.orgs["C01"].id,
        source="web",
    )
    assert outcome.code == "not-dicom"
    with database().reading() as session:
        row = session.scalars(select(Quarantined)).one()
        assert len(row.name) <= 300
        assert row.object_key.startswith("quarantine/")


def test_the_bound_of_the_quarantine_is_loud(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    object_store().check()
    monkeypatch.setattr(get_settings(), "quarantine_max_mb", 0)
    (outcome,) = take(world, b"this is no image at all, and there is no room for it")
    assert (outcome.status, outcome.code) == ("refused", "quarantine-full")
    assert "保留原文件" in str(outcome.reason)
    assert "不是 DICOM" in str(outcome.reason)
    with database().reading() as session:
        row = session.scalars(select(Quarantined)).one()
        assert (row.object_key, row.code) == ("", "not-dicom")
    assert keys() == set()
    # The same for what only the transaction finds out.
    uids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    take(world, dicom_file(**uids, pixel=1))
    (changed,) = take(world, dicom_file(**uids, pixel=2))
    assert changed.code == "quarantine-full"
    assert len(keys()) == 1


def test_orphans_are_swept_and_nothing_else(world: World) -> None:
    uids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    take(world, dicom_file(**uids, pixel=1), dicom_file(**uids, pixel=2), b"no image")
    with database().reading() as session:
        previews.prepare_study(session.scalars(select(Study.id)).one())
    used = keys()
    assert {key.partition("/")[0] for key in used} == {"instances", "quarantine", "previews"}
    store = object_store()
    store.put("instances/aaa/orphan", b"put, and then the process died")
    store.put("previews/aaa/orphan", b"a picture that was made anew")
    store.put("reports/aaa/not-ours", b"another namespace")
    assert intake.sweep_orphans() == 0, "young objects may belong to a transaction under way"
    clock.set_source(lambda: _later)
    assert intake.sweep_orphans(older_than_hours=24) == 2
    assert keys() == used | {"reports/aaa/not-ours"}


_later = clock.now() + timedelta(days=3)


def bytes_of(instance: Instance) -> bytes:
    return object_store().read(instance.object_key, instance.object_offset, instance.size)


def test_the_files_of_a_call_lie_in_one_object_and_each_is_its_range(world: World) -> None:
    study = new_uid()
    files = [dicom_file(study=study, number=number, size=8 + number) for number in range(5)]
    outcomes = take(world, *files)
    with database().reading() as session:
        rows = [session.get_one(Instance, one.instance_id) for one in outcomes]
    assert len({row.object_key for row in rows}) == 1
    assert [bytes_of(row) for row in rows] == files
    assert len(keys()) == 1
    # What is known already is not stored again, beside what is new.
    more = dicom_file(study=study, number=9)
    assert [one.status for one in take(world, *files[:2], more)] == ["known", "known", "stored"]
    assert sorted(stat.size for stat in object_store().list("")) == sorted([len(more), sum(map(len, files))])


def test_small_studies_share_an_object_and_large_ones_do_not(world: World) -> None:
    large = [dicom_file(size=800), dicom_file(size=810)]
    outcomes = take(world, dicom_file(), large[0], dicom_file(), large[1])
    with database().reading() as session:
        where = [session.get_one(Instance, one.instance_id).object_key for one in outcomes]
    assert where[0] == where[2]
    assert len(set(where)) == 3


def test_what_the_transaction_refuses_is_taken_out_of_its_pack(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another sender was first, after this one had looked: only what is accepted may lie in the object that stays."""
    study = new_uid()
    ids = {"study": study, "series": new_uid(), "sop": new_uid()}
    before, changed, known = dicom_file(**ids, pixel=1), dicom_file(**ids, pixel=2), dicom_file(study=study, number=7)
    take(world, before, known)
    good = [dicom_file(study=study, number=number) for number in (1, 2)]
    monkeypatch.setattr(intake.Batch, "_foresee", lambda _batch: {})
    outcomes = take(world, good[0], changed, known, good[1])
    assert [one.status for one in outcomes] == ["stored", "refused", "known", "stored"]
    with database().reading() as session:
        rows = [session.get_one(Instance, outcomes[n].instance_id) for n in (0, 3)]
        kept = session.scalars(select(Quarantined)).one()
    assert [bytes_of(row) for row in rows] == good
    assert object_store().stat(rows[0].object_key).size == sum(map(len, good))
    assert object_store().read(kept.object_key) == changed
    assert len(keys()) == 3, "nothing is left of the object that held them all"


def _killed_between(org_id: str, files: list[bytes]) -> None:
    from hub.kit.actor import Actor
    from hub.kit.db import reset_database
    from hub.kit.objects import reset_object_store

    reset_database()
    reset_object_store()
    intake.Indexing.run = lambda *_args, **_kw: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    actor = Actor(kind="machine", id="k" * 26, org_id=org_id, scopes=frozenset({"stow"}))
    intake.ingest_many(actor, [Incoming(file) for file in files], org_id=org_id, source="stow")


@pytest.mark.slow
def test_a_kill_between_put_and_commit_leaves_an_orphan_only(world: World) -> None:
    study = new_uid()
    files = [dicom_file(study=study, number=number) for number in range(3)]
    process = multiprocessing.get_context("spawn").Process(target=_killed_between, args=(world.orgs["C01"].id, files))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    (orphan,) = keys()
    assert (object_store().stat(orphan).size, count(Instance)) == (sum(map(len, files)), 0)
    assert [one.status for one in take(world, *files)] == ["stored"] * 3
    clock.set_source(lambda: _later)
    assert intake.sweep_orphans() == 1
    assert orphan not in keys()
    with database().reading() as session:
        rows = list(session.scalars(select(Instance).order_by(Instance.object_offset)))
    assert [bytes_of(row) for row in rows] == files


def test_many_orphans_mean_an_old_database_and_are_left(world: World) -> None:
    store = object_store()
    for number in range(6):
        store.put(f"instances/aaa/orphan{number}", b"x")
    clock.set_source(lambda: _later)
    assert intake.sweep_orphans(most=5) == 0
    assert len(keys()) == 6


def test_staging_is_swept(world: World) -> None:
    old, young = intake.staging() / "old", intake.staging() / "young"
    for path in (old, young):
        path.write_bytes(b"x")
    os.utime(old, (1, 1))
    assert intake.sweep_staging() == 1
    assert young.exists()
    assert not old.exists()


def test_what_devices_write_in_is_remembered(world: World) -> None:
    name = "张智宏".encode("gbk")
    take(world, dicom_file(name=name, charset=b"ISO_IR 100", description="头部平扫".encode("gbk")))
    with database().reading() as session:
        assert session.scalar(select(Organisation.charset_hint).where(Organisation.code == "C01")) == "GB18030"
        assert session.scalar(select(Organisation.charset_hint).where(Organisation.code == "C02")) == ""
        study = session.scalars(select(Study)).one()
        assert study.header_patient["name"] == "张智宏"
        assert study.description == "头部平扫"
        row = session.scalars(select(Patient)).one()
        assert (row.name, row.pinyin, row.initials) == ("张智宏", "zhangzhihong", "zzh")
        instance = session.scalars(select(Instance)).one()
    assert name in object_store().read(instance.object_key), "the stored bytes are never altered"


@pytest.mark.parametrize(
    ("charset", "codec"),
    [
        (b"ISO_IR 100", "gbk"),
        (b"GBK", "gbk"),
        (b"GB18030", "gb18030"),
        (b"ISO_IR 192", "utf-8"),
        (None, "gbk"),
        (b"", "utf-8"),
        (b"ISO_IR 100", "utf-8"),
        (b"NONSENSE", "gb18030"),
    ],
)
@pytest.mark.parametrize("name", ["王伟", "喆珺", "欧阳娜娜", "刘堃"])
def test_names_are_found_however_they_were_sent(world: World, charset: bytes | None, codec: str, name: str) -> None:
    take(world, dicom_file(name=name.encode(codec), charset=charset))
    with database().reading() as session:
        row = session.scalars(select(Patient)).one()
        assert row.name == name
        for typed in (name[0], row.pinyin, row.initials):
            assert patients.search(session, row.org_id, typed) == [row]


def test_a_chinese_name_within_escape_sequences(world: World) -> None:
    name = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="
    take(world, dicom_file(name=name, charset=b"\\ISO 2022 IR 58"))
    with database().reading() as session:
        assert session.scalars(select(Patient)).one().name == "张小东"
        assert session.scalars(select(Study)).one().header_patient["name"].startswith("Zhang^XiaoDong=张^小东")


def test_what_the_hub_makes_joins_its_study_without_telling_the_exam(world: World) -> None:
    (first,) = take(world, dicom_file())
    with database().reading() as session:
        study = session.scalars(select(Study)).one()
        version = session.scalars(select(Exam)).one().version
    sop = new_uid()
    report = dicom_file(
        study=study.uid, sop=sop, sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR", patient_id=b"HUB-9"
    )
    outcome = intake.store_own(world.actor("reviewer"), study, report)
    assert outcome.status == "stored"
    later = dicom_file(study=study.uid, sop=sop, sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR", pixel=9)
    assert intake.store_own(world.actor("reviewer"), study, later).status == "known"
    with database().reading() as session:
        exam = session.scalars(select(Exam)).one()
        assert (exam.received_count, exam.version, exam.late_images_at) == (1, version, None)
        assert session.get_one(Instance, outcome.instance_id).made_by_hub
        assert not session.get_one(Instance, first.instance_id).made_by_hub
        assert session.scalars(select(Study)).one().instance_count == 2
    with pytest.raises(ValueError, match="study-mismatch"):
        intake.store_own(world.actor("reviewer"), study, dicom_file())


def test_quarantine_is_the_quality_officers(world: World) -> None:
    take(world, b"no image")
    with database().reading() as session:
        assert quarantine.search(session, world.actor("quality"))[1] == 1
        assert quarantine.search(session, world.actor("director"))[1] == 1
        assert quarantine.search(session, world.actor("technologist"))[1] == 0
