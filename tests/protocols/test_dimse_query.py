"""C-FIND, C-MOVE and C-GET with DCMTK's tools: what is found, who finds it, and what arrives."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless
from pynetdicom import AE, build_context, build_role, evt
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.studies import intake
from hub.studies.intake import Incoming
from hub.studies.models import ExamStudy, Study
from support.dimse import CT, RunningDimse, ct, device
from support.reading import make_exam
from support.running import free_port, listens
from support.world import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.stranger,
    pytest.mark.skipif(shutil.which("findscu") is None, reason="DCMTK is not installed"),
]
ROOT = "1.2.840.10008.5.1.4.1.2."
STUDY_FIND, STUDY_MOVE, STUDY_GET = (f"{ROOT}2.{number}" for number in (1, 2, 3))
PATIENT_FIND = f"{ROOT}1.1"


def put(world: World, org: str, ds: Dataset) -> Dataset:
    """Take a data set in as an organisation's machine."""
    data = BytesIO()
    ds.save_as(data, enforce_file_format=True)
    actor = Actor(kind="machine", id="test", org_id=world.orgs[org].id, scopes=frozenset({"stow"}))
    (outcome,) = intake.ingest_many(actor, [Incoming(data.getvalue())], org_id=world.orgs[org].id, source="stow")
    assert outcome.status == "stored", outcome
    return ds


def link(world: World, study_uid: str, *, org: str, reading: str | None, state: State = State.TO_READ) -> None:
    """Link a study to an exam that is routed to a hospital, or shared."""
    with database().reading() as session:
        patient = session.scalars(select(Study).where(Study.uid == study_uid)).one().patient
    exam_id = make_exam(world, org=org, reading=reading, state=state, with_study=False, patient=patient)
    with database().writing() as session:
        study = session.scalars(select(Study).where(Study.uid == study_uid)).one()
        for old in session.scalars(select(ExamStudy).where(ExamStudy.study_id == study.id)):
            session.delete(old)
        session.flush()
        session.add(ExamStudy(exam_id=exam_id, study_id=study.id, linked_at=clock.now(), linked_by="test"))


@pytest.fixture
def county(world: World) -> dict[str, Dataset]:
    """Two clinics that both have a "001", whose images are routed, shared, still arriving, and nobody's yet."""
    found = {
        "c1": put(world, "C01", ct(patient="001", name="Wang^Wei=王^伟", SpecificCharacterSet="ISO_IR 192")),
        "c2": put(world, "C02", ct(patient="001", name="Li^Na", StudyDate="20260115", Modality="CR")),
        "shared": put(world, "C02", ct(patient="002", name="Zhao^Min")),
        "arriving": put(world, "C01", ct(patient="003", name="Sun^Li")),
        "unlinked": put(world, "C01", ct(patient="004", name="Zhou^Yi")),
    }
    link(world, found["c1"].StudyInstanceUID, org="C01", reading="H01")
    link(world, found["c2"].StudyInstanceUID, org="C02", reading="H02")
    link(world, found["shared"].StudyInstanceUID, org="C02", reading=None)
    link(world, found["arriving"].StudyInstanceUID, org="C01", reading="H01", state=State.RECEIVING)
    with database().writing() as session:
        unlinked = session.scalars(select(Study).where(Study.uid == found["unlinked"].StudyInstanceUID)).one()
        for row in session.scalars(select(ExamStudy).where(ExamStudy.study_id == unlinked.id)):
            session.delete(row)
    return found


@pytest.fixture
def dimse(world: World, county: dict[str, Dataset]) -> Iterator[RunningDimse]:
    """The service, with an archive of each organisation; the first hospital's listens on `HOME`."""
    del county
    for org in ("C01", "C02", "H02"):
        device(world.orgs[org], f"{org}PACS", queries=True)
    with RunningDimse() as running:
        yield running


def find(
    dimse: RunningDimse, aet: str, level: str, *, model: str = STUDY_FIND, **keys: Any
) -> tuple[list[Dataset], Dataset]:
    """Matches, and the last response."""
    ae = AE(ae_title=aet)
    target = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(model)], ae_title="HUB")
    assert target.is_established
    asked = Dataset()
    asked.SpecificCharacterSet = "ISO_IR 192"
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    found, last = [], Dataset()
    for status, identifier in target.send_c_find(asked, model):
        last = status
        if status.get("Status") in (0xFF00, 0xFF01):
            assert identifier is not None
            found.append(identifier)
    target.release()
    return found, last


def uids(found: list[Dataset]) -> set[str]:
    return {str(one.StudyInstanceUID) for one in found}


def test_each_archive_finds_what_its_people_may_know(
    dimse: RunningDimse, county: dict[str, Dataset], world: World
) -> None:
    device(world.orgs["H01"], "H01PACS", stores=False, queries=True)
    device(world.orgs["C01"], "C01CT")
    seen = {
        aet: {
            name
            for name, ds in county.items()
            if ds.StudyInstanceUID in uids(find(dimse, aet, "STUDY", StudyInstanceUID="")[0])
        }
        for aet in ("C01PACS", "C02PACS", "H01PACS", "H02PACS")
    }
    assert seen == {
        "C01PACS": {"c1", "arriving", "unlinked"},
        "C02PACS": {"c2", "shared"},
        "H01PACS": {"c1", "shared"},
        "H02PACS": {"c2", "shared"},
    }
    # Knowing a UID helps nobody, at no level.
    foreign = county["c2"]
    for level in ("STUDY", "SERIES", "IMAGE"):
        keys = {"StudyInstanceUID": foreign.StudyInstanceUID, "SeriesInstanceUID": foreign.SeriesInstanceUID}
        found, last = find(dimse, "C01PACS", level, **keys)
        assert (found, last.Status) == ([], 0x0000)
    found, last = find(dimse, "C01CT", "STUDY", StudyInstanceUID="")
    assert (found, last.Status) == ([], 0x0124)


def test_a_patient_id_never_comes_without_its_issuer(
    dimse: RunningDimse, county: dict[str, Dataset], world: World
) -> None:
    link(world, county["c2"].StudyInstanceUID, org="C02", reading=None)
    device(world.orgs["H01"], "H01PACS", queries=True)
    found, _last = find(dimse, "H01PACS", "PATIENT", model=PATIENT_FIND, PatientID="001", PatientName="")
    issuers = {org: world.orgs[org].issuer for org in ("C01", "C02")}
    assert {(one.PatientID, one.IssuerOfPatientID) for one in found} == {("001", one) for one in issuers.values()}
    found, _last = find(dimse, "H01PACS", "STUDY", PatientID="001", IssuerOfPatientID=issuers["C02"])
    assert uids(found) == {county["c2"].StudyInstanceUID}
    assert found[0].IssuerOfPatientID == issuers["C02"]


def test_matching(dimse: RunningDimse, county: dict[str, Dataset]) -> None:
    c1, arriving = county["c1"].StudyInstanceUID, county["arriving"].StudyInstanceUID
    for keys, expected in (
        ({"PatientName": "WANG*"}, {c1}),
        ({"PatientName": "王伟"}, {c1}),
        ({"PatientName": "wangwei"}, {c1}),
        ({"PatientName": "W?ng^*"}, {c1}),
        ({"StudyDate": "20260201-20260331", "PatientID": "001"}, {c1}),
        ({"StudyDate": "-20251231"}, set()),
        ({"StudyInstanceUID": f"{c1}\\{arriving}"}, {c1, arriving}),
        ({"ModalitiesInStudy": "MR"}, set()),
        ({"ModalitiesInStudy": "MR\\CT", "PatientID": "003"}, {arriving}),
    ):
        found, last = find(dimse, "C01PACS", "STUDY", **keys)
        assert (uids(found), last.Status) == (expected, 0x0000), keys
    (one,), _last = find(
        dimse, "C01PACS", "STUDY", StudyInstanceUID=c1, PatientName="", PatientBirthDate="", NumberOfStudyRelatedInstances="",
        StudyDescription="", PatientAge="",
    )  # fmt: skip
    assert str(one.PatientName) == "Wang^Wei=王^伟" and one.SpecificCharacterSet == "ISO_IR 192"
    assert one.PatientBirthDate == "19600102" and one.NumberOfStudyRelatedInstances == 1
    assert one.StudyDescription == "HEAD" and one.QueryRetrieveLevel == "STUDY" and one.RetrieveAETitle == "HUB"
    assert "PatientAge" in one and not one.PatientAge
    assert "StudyTime" not in one
    (series,), _last = find(dimse, "C01PACS", "SERIES", StudyInstanceUID=c1, Modality="CT", SeriesNumber="")
    assert series.SeriesInstanceUID == county["c1"].SeriesInstanceUID and series.SeriesNumber == 1
    (image,), _last = find(
        dimse, "C01PACS", "IMAGE", StudyInstanceUID=c1, SeriesInstanceUID=series.SeriesInstanceUID, SOPInstanceUID=""
    )
    assert image.SOPInstanceUID == county["c1"].SOPInstanceUID


def test_identifiers_that_cannot_be_served(dimse: RunningDimse) -> None:
    assert find(dimse, "C01PACS", "SERIES", Modality="CT")[1].Status == 0xA900
    assert find(dimse, "C01PACS", "PATIENT", PatientID="001")[1].Status == 0xA900
    assert find(dimse, "C01PACS", "NOTHING", PatientID="001")[1].Status == 0xC001
    assert find(dimse, "C01PACS", "STUDY", StudyDate="yesterday")[1].Status == 0xC001
    # A key that is not matched is said to be none.
    ae = AE(ae_title="C01PACS")
    target = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(STUDY_FIND)], ae_title="HUB")
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.PatientComments = "STUDY", "tall"
    assert [status.Status for status, _identifier in target.send_c_find(asked, STUDY_FIND)] == [0xFF01] * 3 + [0]
    target.release()


def test_findscu(dimse: RunningDimse, county: dict[str, Dataset]) -> None:
    done = dimse.call("findscu", "-v", "-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientID=001", "-k", "StudyInstanceUID", aet="C01PACS")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert county["c1"].StudyInstanceUID in done.stderr + done.stdout
    assert county["c2"].StudyInstanceUID not in done.stderr + done.stdout


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """`storescp` of DCMTK on a free port: where it listens, and where it writes."""
    folder, port = tmp_path / "received", free_port()
    folder.mkdir()
    process = subprocess.Popen(["storescp", "-od", str(folder), "+B", "+xa", str(port)], stderr=subprocess.DEVNULL)
    listens(port)
    yield port, folder
    process.kill()
    process.wait()


def test_movescu_to_the_own_archive_and_to_nobody_else(
    dimse: RunningDimse, county: dict[str, Dataset], world: World, receiver: tuple[int, Path]
) -> None:
    port, folder = receiver
    device(world.orgs["H01"], "H01PACS", queries=True, host="127.0.0.1", port=port)
    device(world.orgs["H02"], "H02HOME", queries=True, host="127.0.0.1", port=port)
    ds = county["c1"]

    def move(destination: str, uid: str) -> subprocess.CompletedProcess[str]:
        return dimse.call(
            "movescu", "-v", "-S", "-aem", destination, "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={uid}",
            aet="H01PACS",
        )  # fmt: skip

    assert "Unknown" in (move("NOWHERE", ds.StudyInstanceUID).stderr)
    assert "Unknown" in (move("H02HOME", ds.StudyInstanceUID).stderr)
    assert move("H01PACS", county["c2"].StudyInstanceUID).returncode == 0
    assert not list(folder.iterdir())
    done = move("H01PACS", ds.StudyInstanceUID)
    assert done.returncode == 0, done.stderr
    (arrived,) = folder.iterdir()
    found = dcmread(arrived)
    assert found.PixelData == ds.PixelData
    # Outside the clinic its number says whose it is; nothing else was touched.
    assert found.IssuerOfPatientID == world.orgs["C01"].issuer
    del found.IssuerOfPatientID
    assert found == ds
    with database().reading() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "study.send")).one()
    assert entry.object_id == ds.StudyInstanceUID and entry.actor_name == "H01PACS"


def test_getscu(dimse: RunningDimse, county: dict[str, Dataset], tmp_path: Path) -> None:
    ds = county["c1"]
    done = dimse.call(
        "getscu", "-v", "-S", "-od", tmp_path, "-k", "QueryRetrieveLevel=IMAGE",
        "-k", f"StudyInstanceUID={ds.StudyInstanceUID}", "-k", f"SeriesInstanceUID={ds.SeriesInstanceUID}",
        "-k", f"SOPInstanceUID={ds.SOPInstanceUID}", aet="C01PACS",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (arrived,) = [one for one in tmp_path.iterdir() if one.is_file()]
    found = dcmread(arrived)
    # The clinic's own archive gets what the clinic sent, whole.
    assert found == ds and "IssuerOfPatientID" not in found


def _get(dimse: RunningDimse, aet: str, syntax: str, **keys: str) -> tuple[list[Dataset], list[Dataset]]:
    """Statuses, and the data sets that came, with their file meta."""
    came: list[Dataset] = []

    def store(event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        came.append(ds)
        return 0x0000

    ae = AE(ae_title=aet)
    target = ae.associate(
        "127.0.0.1", dimse.port, contexts=[build_context(STUDY_GET), build_context(CT, syntax)], ae_title="HUB",
        ext_neg=[build_role(CT, scp_role=True)], evt_handlers=[(evt.EVT_C_STORE, store)],
    )  # fmt: skip
    asked = Dataset()
    asked.QueryRetrieveLevel = "STUDY"
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    answers = []
    for status, identifier in target.send_c_get(asked, STUDY_GET):
        status.failed = str(identifier.get("FailedSOPInstanceUIDList", "")) if identifier else ""
        answers.append(status)
    target.release()
    return answers, came


def test_what_the_receiver_does_not_take_is_decoded_or_listed(dimse: RunningDimse, world: World) -> None:
    from pydicom.data import get_testdata_file

    compressed = dcmread(get_testdata_file("MR_small_jp2klossless.dcm"))
    plain = dcmread(get_testdata_file("MR_small.dcm"))
    compressed.SOPClassUID = compressed.file_meta.MediaStorageSOPClassUID = CT
    put(world, "C01", compressed)
    for syntax in ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2"):
        answers, (got,) = _get(dimse, "C01PACS", syntax, StudyInstanceUID=compressed.StudyInstanceUID)
        assert answers[-1].Status == 0x0000 and answers[-1].NumberOfCompletedSuboperations == 1
        assert got.file_meta.TransferSyntaxUID == syntax
        assert (got.pixel_array == plain.pixel_array).all()
    answers, (got,) = _get(dimse, "C01PACS", str(JPEG2000Lossless), StudyInstanceUID=compressed.StudyInstanceUID)
    assert got.file_meta.TransferSyntaxUID == JPEG2000Lossless and got.PixelData == compressed.PixelData
    answers, came = _get(dimse, "C01PACS", "1.2.840.10008.1.2.4.50", StudyInstanceUID=compressed.StudyInstanceUID)
    assert not came and answers[-1].Status == 0xA702
    assert answers[-1].NumberOfFailedSuboperations == 1 and answers[-1].failed == compressed.SOPInstanceUID


def test_a_patient_id_of_two_clinics_is_not_retrieved_without_its_issuer(
    dimse: RunningDimse, county: dict[str, Dataset], world: World, receiver: tuple[int, Path]
) -> None:
    port, folder = receiver
    link(world, county["c2"].StudyInstanceUID, org="C02", reading=None)
    device(world.orgs["H01"], "H01PACS", queries=True, host="127.0.0.1", port=port)

    def move(*more: str) -> subprocess.CompletedProcess[str]:
        keys = [part for one in ("QueryRetrieveLevel=PATIENT", "PatientID=001", *more) for part in ("-k", one)]
        return dimse.call("movescu", "-v", "-P", "-aem", "H01PACS", *keys, aet="H01PACS")

    assert move().returncode != 0 or not list(folder.iterdir())
    assert not list(folder.iterdir())
    move(f"IssuerOfPatientID={world.orgs['C02'].issuer}")
    (arrived,) = folder.iterdir()
    assert dcmread(arrived).SOPInstanceUID == county["c2"].SOPInstanceUID


def test_a_query_and_a_retrieval_can_be_cancelled(dimse: RunningDimse, world: World) -> None:
    for number in range(30):
        put(world, "C01", ct(patient=f"X{number:03d}"))
    ae = AE(ae_title="C01PACS")
    target = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(STUDY_FIND)], ae_title="HUB")
    asked = Dataset()
    asked.QueryRetrieveLevel, asked.PatientID = "STUDY", "X*"
    statuses = []
    for status, _identifier in target.send_c_find(asked, STUDY_FIND, msg_id=7):
        statuses.append(status.Status)
        if len(statuses) == 1:
            target.send_c_cancel(7, query_model=STUDY_FIND)
    # Answers may already be on their way.
    assert statuses[-1] in (0xFE00, 0x0000)
    assert set(statuses[:-1]) == {0xFF00}
    target.release()
