"""QIDO-RS by the letter (PS3.18 §10.6, PS3.4 §C.2.2.2): every resource, key, form of key and option, for several roles."""

from __future__ import annotations

import fnmatch
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import imagecodecs
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlalchemy import select, text, update

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants, metadata, qido
from hub.studies import intake, keys, repository, search
from hub.studies import metadata as studies_metadata
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Series, SeriesMetadata, Study
from hub.studies.search import Level, Query, patience, plans, scope
from hub.studies.search import names as search_names
from hub.studies.search.statements import Asked
from support.files import JSON
from support.serving import serving

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    metadata.kept.clear()
    repository.forget_views()


def file_of(**values: Any) -> bytes:
    """An image whose header has these values; UIDs are made up where none are given."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = values.pop("SOPClassUID", CT)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(dataset, keyword, values.pop(keyword, new_uid()))
    dataset.Modality = values.pop("Modality", "CT")
    dataset.PatientName = values.pop("PatientName", "WANG^WEI")
    dataset.PatientID = values.pop("PatientID", "001")
    dataset.InstanceNumber = values.pop("InstanceNumber", 1)
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.PixelData = bytes(8)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def take(world: World, *files: bytes, org: str = "C01") -> list[Outcome]:
    actor = world.actor("technologist" if org == "C01" else "technologist.c02")
    found = intake.ingest_many(actor, [Incoming(file) for file in files], org_id=world.orgs[org].id, source="web")
    assert {one.status for one in found} == {"stored"}, [one.code for one in found]
    return found


def requested(step: str, procedure: str) -> Dataset:
    item = Dataset()
    item.ScheduledProcedureStepID, item.RequestedProcedureID = step, procedure
    return item


def rich(world: World) -> tuple[Outcome, Outcome]:
    """Two studies of one clinic that differ in every key; the first has two series and three instances."""
    study, series = new_uid(), new_uid()
    common = {
        "StudyInstanceUID": study, "PatientName": "Müller^Jörg=王^伟", "PatientID": "A1", "PatientSex": "M",
        "PatientBirthDate": "19800102", "StudyDate": "20260301", "StudyTime": "101530.5", "AccessionNumber": "ACC1",
        "StudyID": "S1", "StudyDescription": "Head plain", "ReferringPhysicianName": "LI^Ming",
        "InstitutionName": "Clinic",
    }  # fmt: skip
    first, *_more = take(
        world,
        file_of(
            **common, SeriesInstanceUID=series, SeriesNumber=3, SeriesDescription="Axial", BodyPartExamined="HEAD",
            PerformedProcedureStepStartDate="20260301", PerformedProcedureStepStartTime="1016",
            RequestAttributesSequence=[requested("SPS1", "RP1"), requested("SPS2", "RP2")], KVP="120",
        ),
        file_of(**common, SeriesInstanceUID=series, SeriesNumber=3, InstanceNumber=2),
        file_of(**common, SeriesNumber=4, Modality="DX", SOPClassUID=DX),
    )  # fmt: skip
    (second,) = take(
        world,
        file_of(
            PatientName="LI^NA", PatientID="A2", PatientSex="F", PatientBirthDate="19900405", StudyDate="20260305",
            StudyTime="0930", AccessionNumber="ACC2", StudyID="S2", StudyDescription="Chest", Modality="DX",
            SOPClassUID=DX, SeriesNumber=1, ReferringPhysicianName="ZHAO^MIN",
        ),
    )  # fmt: skip
    return first, second


class Asking:
    """Searches of one client at one door."""

    def __init__(self, client: TestClient, door: str = "/dicomweb") -> None:
        self.client = client
        self.door = door

    def answer(self, path: str = "/studies", **params: Any) -> Any:
        return self.client.get(self.door + path, params=params, headers={"Accept": JSON})

    def documents(self, path: str = "/studies", **params: Any) -> list[dict[str, Any]]:
        answer = self.answer(path, **params)
        assert answer.status_code in (200, 204), answer.text
        return [] if answer.status_code == 204 else list(answer.json())

    def uids(self, path: str = "/studies", tag: str = "0020000D", **params: Any) -> set[str]:
        return {one[tag]["Value"][0] for one in self.documents(path, **params)}


def test_every_study_key(world: World) -> None:
    first, second = rich(world)
    ask = Asking(world.machine())
    one, two = first.study_uid, second.study_uid
    for params, expected in [
        ({"StudyDate": "20260301"}, {one}),
        ({"StudyDate": "20260301-20260305"}, {one, two}),
        ({"StudyDate": "-20260304"}, {one}),
        ({"StudyDate": "20260302-"}, {two}),
        ({"StudyTime": "1015"}, {one}),
        ({"StudyTime": "0900-1000"}, {two}),
        ({"StudyTime": "101530.5"}, {one}),
        ({"StudyDate": "20260301-20260305", "StudyTime": "1100-1000"}, {two}),
        ({"StudyDate": "20260301-20260305", "StudyTime": "1000-0900"}, {one}),
        ({"AccessionNumber": "ACC2"}, {two}),
        ({"AccessionNumber": "ACC?"}, {one, two}),
        ({"AccessionNumber": "acc2"}, set()),
        ({"ModalitiesInStudy": "CT"}, {one}),
        ({"ModalitiesInStudy": "CT,DX"}, {one, two}),
        ({"ModalitiesInStudy": ["CT", "MR"]}, {one}),
        ({"ModalitiesInStudy": "D*"}, {one, two}),
        ({"ReferringPhysicianName": "li^*"}, {one}),
        ({"PatientName": "MULLER^JORG"}, {one}),
        ({"PatientName": "müller*"}, {one}),
        ({"PatientName": "王*"}, {one}),
        ({"PatientName": "王伟"}, {one}),
        ({"PatientName": "muller*=王^伟"}, {one}),
        ({"PatientName": "*NA"}, {two}),
        ({"PatientName": "%"}, set()),
        ({"PatientName": "[L]*"}, set()),
        ({"PatientID": "A1"}, {one}),
        ({"PatientID": "A*"}, {one, two}),
        ({"PatientID": "A_"}, set()),
        ({"IssuerOfPatientID": "360731.C01"}, {one, two}),
        ({"IssuerOfPatientID": "360731.C02"}, set()),
        ({"PatientBirthDate": "19800102"}, {one}),
        ({"PatientBirthDate": "19850101-"}, {two}),
        ({"PatientSex": "F"}, {two}),
        ({"StudyInstanceUID": f"{one},{two}"}, {one, two}),
        ({"StudyInstanceUID": f"{one}\\1.2.3"}, {one}),
        ({"StudyInstanceUID": [one, two]}, {one, two}),
        ({"StudyID": "S2"}, {two}),
        ({"StudyDescription": "Head*"}, {one}),
        ({"StudyDescription": ""}, {one, two}),
        ({"PatientName": "*", "00080050": "ACC1"}, {one}),
        ({"SeriesInstanceUID": first.series_uid}, {one}),
        ({"SOPInstanceUID": second.sop_uid}, {two}),
        ({"Modality": "CT"}, {one}),
        ({"SeriesNumber": "1"}, {two}),
        ({"RequestAttributesSequence.RequestedProcedureID": "RP1"}, {one}),
    ]:
        for _again in range(3):  # the ordinary way, the short one, and by what was put into SQL for good
            assert ask.uids(**params) == expected, params


def test_every_series_and_instance_key(world: World) -> None:
    first, _second = rich(world)
    ask = Asking(world.machine())
    everywhere = [
        ("/series", "/instances"),
        (f"/studies/{first.study_uid}/series", f"/studies/{first.study_uid}/instances"),
    ]
    for series, instances in everywhere:
        for params in (
            {"Modality": "CT"},
            {"SeriesInstanceUID": first.series_uid},
            {"SeriesNumber": "3"},
            {"SeriesNumber": "03"},
            {"SeriesDescription": "Ax*"},
            {"BodyPartExamined": "HEAD"},
            {"PerformedProcedureStepStartDate": "20260301"},
            {"PerformedProcedureStepStartTime": "10"},
            {"PerformedProcedureStepStartTime": "1000-1020"},
            {"RequestAttributesSequence.ScheduledProcedureStepID": "SPS2"},
            {"00400275.00401001": "RP?", "00400275.00400009": "SPS1"},
            {"SOPInstanceUID": first.sop_uid},
            {"InstanceNumber": "2"},
            {"StudyDate": "20260301", "Modality": "CT"},
            {"PatientName": "muller*", "Modality": "CT"},
        ):
            assert ask.uids(series, "0020000E", **params) == {first.series_uid}, params
        mixed = {"00400275.00401001": "RP1", "00400275.00400009": "SPS2"}
        assert ask.uids(series, "0020000E", **mixed) == set(), "one item must fit all keys"
        for params, count in (
            ({"SOPClassUID": CT}, 2),
            ({"SOPInstanceUID": first.sop_uid}, 1),
            ({"InstanceNumber": "2"}, 1),
            ({"Modality": "CT", "InstanceNumber": "1"}, 1),
            ({"AccessionNumber": "ACC1", "SOPClassUID": DX}, 1),
        ):
            assert len(ask.uids(instances, "00080018", **params)) == count, params
    assert len(ask.uids("/instances", "00080018")) == 4
    path = f"/studies/{first.study_uid}/series/{first.series_uid}/instances"
    assert len(ask.uids(path, "00080018")) == 2
    assert ask.answer(f"/studies/{new_uid()}/series").status_code == 404


def test_what_an_answer_holds(world: World) -> None:
    first, _second = rich(world)
    ask = Asking(world.machine())
    (study,) = ask.documents(StudyInstanceUID=first.study_uid)
    address = f"http://testserver/dicomweb/studies/{first.study_uid}"
    assert list(study) == sorted(study)
    assert {tag: one.get("Value") for tag, one in study.items()} == {
        "00080005": ["ISO_IR 192"],
        "00080020": ["20260301"],
        "00080030": ["101530.5"],
        "00080050": ["ACC1"],
        "00080056": ["ONLINE"],
        "00080061": ["CT", "DX"],
        "00080090": [{"Alphabetic": "LI^Ming"}],
        "00081030": ["Head plain"],
        "00081190": [address],
        "00100010": [{"Alphabetic": "Müller^Jörg", "Ideographic": "王^伟"}],
        "00100020": ["A1"],
        "00100021": ["360731.C01"],
        "00100030": ["19800102"],
        "00100040": ["M"],
        "0020000D": [first.study_uid],
        "00200010": ["S1"],
        "00201206": [2],
        "00201208": [3],
    }
    (series,) = ask.documents("/series", SeriesInstanceUID=first.series_uid)
    assert series["00201209"]["Value"] == [2]
    assert series["00400244"]["Value"] == ["20260301"]
    assert series["00400275"]["Value"][1]["00401001"]["Value"] == ["RP2"]
    assert series["00081190"]["Value"] == [f"{address}/series/{first.series_uid}"]
    assert series["00100020"]["Value"] == ["A1"], "all studies were searched: which one is said"
    (inner,) = ask.documents(f"/studies/{first.study_uid}/series", SeriesNumber="3")
    assert "00100020" not in inner
    (instance,) = ask.documents("/instances", SOPInstanceUID=first.sop_uid)
    assert instance["00081190"]["Value"] == [f"{address}/series/{first.series_uid}/instances/{first.sop_uid}"]
    assert instance["00280010"]["Value"] == [2]
    assert instance["00080016"]["Value"] == [CT]


def test_includefield(world: World) -> None:
    first, _second = rich(world)
    ask = Asking(world.machine())
    this = {"StudyInstanceUID": first.study_uid}
    for fields in ("InstitutionName", "00080080", ["PatientName", "InstitutionName,StudyID"], "all"):
        (study,) = ask.documents(**this, includefield=fields)
        assert study["00080080"]["Value"] == ["Clinic"], fields
        assert "00180060" not in study, "KVP is no attribute of a study"
    (instance,) = ask.documents("/instances", SOPInstanceUID=first.sop_uid, includefield="KVP,7FE00010")
    assert [float(value) for value in instance["00180060"]["Value"]] == [120]
    assert "7FE00010" not in instance
    (universal,) = ask.documents(**this, InstitutionName="")
    assert universal["00080080"]["Value"] == ["Clinic"]
    private = ask.answer(**this, includefield="00091001,InstitutionName")
    assert (private.status_code, private.json()[0]["00080080"]["Value"]) == (200, ["Clinic"])
    assert "00091001" in private.headers["Warning"]
    assert private.headers["Warning"].startswith("299 testserver ")
    for wrong in ("NoSuchName", "0008", "FFFE0000"):
        assert ask.answer(includefield=wrong).status_code == 400, wrong


def test_what_cannot_be_understood_is_400(world: World) -> None:
    rich(world)
    ask = Asking(world.machine())
    for wrong in (
        {"limit": "x"}, {"limit": "-1"}, {"offset": "1.5"}, {"StudyDate": "yesterday"}, {"StudyDate": "20261301"},
        {"StudyDate": "-"}, {"StudyTime": "25"}, {"StudyTime": "1-2-3"}, {"SeriesNumber": "²"}, {"SeriesNumber": "1*"},
        {"StudyInstanceUID": "abc"}, {"fuzzymatching": "maybe"}, {"NoSuchKey": "1"}, {"PatientID": ["A", "B"]},
    ):  # fmt: skip
        answer = ask.answer(**wrong)
        assert answer.status_code == 400, wrong
        assert answer.headers["content-type"].startswith("application/problem+json")
    unmatched = ask.answer(InstitutionName="Clinic", limit="1")
    assert unmatched.status_code == 200
    assert "00080080" in unmatched.headers["Warning"]


def test_names_by_sound(world: World) -> None:
    named = {
        name: take(world, file_of(PatientName=name, PatientID=str(number)))[0].study_uid
        for number, name in enumerate(("王伟", "WANG^WEI", "Wang Weiming", "吕布", "LI^NA"))
    }
    ask = Asking(world.machine())

    def found(value: str) -> set[str]:
        uids = ask.uids(PatientName=value, fuzzymatching="true")
        return {name for name, uid in named.items() if uid in uids}

    wangs = {"王伟", "WANG^WEI", "Wang Weiming"}
    for value in ("wang wei", "WEI^WANG", "wangwei", "王伟", "王", "Wáng Wěi", "wangw*"):
        assert found(value) == wangs, value
    assert found("lv") == found("lü bu") == {"吕布"}
    assert ask.uids(PatientName="wangwei") == set(), "by the letter it is no name of theirs"
    assert "PatientName only" in ask.answer(ReferringPhysicianName="X", fuzzymatching="true").headers["Warning"]


def test_pages_are_stable_and_totals_said(world: World) -> None:
    (model,) = take(world, file_of(StudyDate="20260101"))
    with database().writing() as session:
        row = session.get_one(Study, model.study_id)
        for number in range(1, 1030):
            session.add(
                Study(
                    uid=new_uid(), org_id=row.org_id, patient_id=row.patient_id, header_patient={"name": f"K{number:04}"},
                    study_date=f"2026{number % 12 + 1:02}01", created_at=clock.now(), last_instance_at=clock.now(),
                )
            )  # fmt: skip
    ask = Asking(world.machine())
    seen: list[str] = []
    for offset in itertools.count(0, 300):
        answer = ask.answer(limit=300, offset=offset)
        if answer.status_code == 204:
            break
        seen += [one["0020000D"]["Value"][0] for one in answer.json()]
        assert answer.headers["X-Total-Count"] == ("1000+" if offset + 300 < 1030 else "1030")
    assert len(seen) == len(set(seen)) == 1030
    cut = ask.answer(limit=300)
    assert cut.headers["Warning"] == (
        '299 testserver "There are more than 700 additional results that can be requested"'
    )
    few = ask.answer(StudyDate="20260201", limit=10)
    assert few.headers["X-Total-Count"] == "86"
    assert "There are 76 additional results" in few.headers["Warning"]
    assert "Warning" not in ask.answer(StudyDate="20260201").headers
    assert len(ask.documents()) == search.MOST
    assert "The limit is 1000" in ask.answer(limit=5000).headers["Warning"]
    names = [one["00100010"]["Value"][0]["Alphabetic"] for one in ask.documents(PatientName="K00*", limit=20)]
    assert names == sorted(names)
    assert ask.answer(offset=10**12 - 1).status_code == 204
    assert ask.answer(limit=0).status_code == 204


def test_who_finds_what(world: World) -> None:
    """Two clinics both have a 001: outside of them the number is qualified."""
    (ours,) = take(world, file_of(PatientID="001", PatientName="A^A"))
    (theirs,) = take(world, file_of(PatientID="001", PatientName="B^B"), org="C02")
    both = {ours.study_uid, theirs.study_uid}
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    expected = {
        "technologist": {ours.study_uid}, "clinician": {ours.study_uid}, "technologist.c02": {theirs.study_uid},
        "reporter": {ours.study_uid}, "reporter.h02": {theirs.study_uid}, "expert": set(), "quality": both,
        "director": both,
    }  # fmt: skip
    for login, uids in expected.items():
        for door in ("/dicomweb", "/viewer/dicomweb"):
            ask = Asking(world.client(login), door)
            for _again in range(2):  # once by the ordinary way, once by the short one
                assert ask.uids() == ask.uids("/series") == ask.uids("/instances") == uids, (login, door)
    assert Asking(world.machine("C01")).uids(PatientID="001") == {ours.study_uid}
    assert Asking(world.machine("C02")).uids(PatientID="001") == {theirs.study_uid}
    wide = Asking(world.client("director"))
    assert wide.uids(PatientID="001") == both
    assert wide.uids(PatientID="001", IssuerOfPatientID="360731.C02") == {theirs.study_uid}
    assert {one["00100021"]["Value"][0] for one in wide.documents()} == {"360731.C01", "360731.C02"}
    county = Asking(world.client("director"), "/viewer/dicomweb")
    numbers = {one["00100020"]["Value"][0] for one in county.documents()}
    assert len(numbers) == 2
    assert "001" not in numbers
    assert [len(county.uids(PatientID=number, IssuerOfPatientID="360731")) for number in numbers] == [1, 1]
    for login in ("administrator", "operator"):
        assert Asking(world.client(login)).answer().status_code == 403
    assert Asking(world.anonymous()).answer().status_code == 401


def test_a_reader_of_few_and_of_many_finds_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (outcome,) = take(world, file_of())
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    for few in (0, 2_000):
        scope.sizes.clear()
        monkeypatch.setattr(scope, "FEW", few)
        with database().reading() as session:
            for login, count in (("reporter", 1), ("reporter.h02", 0)):
                page = search.search(session, world.actor(login), Query(Level.STUDY))
                assert [row.study_uid for row in page.rows] == [outcome.study_uid] * count
    scope.sizes.clear()


def test_a_rare_name_and_a_common_one_are_found_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up by its indexes or walked past: the same rows, the same order, the same total."""
    names = ["WANG^WEI", "WANG^WEI", "Wang Weiming=王伟明", "LI^NA", "Li^Wang", "王^伟", "W"]
    for number, name in enumerate(names):
        take(world, file_of(PatientName=name, PatientID=str(number), StudyDate=f"2026030{number + 1}"))
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
        session.execute(update(Study).where(Study.study_date == "20260302").values(trashed_at=clock.now()))
        renamed = session.scalars(select(Study).where(Study.study_date == "20260304")).one().patient
        renamed.name, renamed.pinyin = "WANG LI", "wangli"
    for login, value, fuzzy, county, level in itertools.product(
        ("reporter", "reporter.h02", "technologist", "director"),
        ("wang*", "王*", "wang^wei", "wei wang", "w?n*", "li*=", "zz*", "*"),
        (False, True),
        (False, True),
        (Level.STUDY, Level.SERIES),
    ):
        query = Query(level, (("00100010", (value,)),), fuzzy=fuzzy, county=county, issuer="360731", limit=2)
        found = []
        for rare in (-1, 10_000):
            plans.kept.clear()
            monkeypatch.setattr(search_names, "RARE", rare)
            with database().reading() as session:
                page = search.search(session, world.actor(login), query)
                found.append(([row.study_uid for row in page.rows], page.total, page.more))
                every = search.search(session, world.actor(login), replace(query, limit=100))
                assert len(every.rows) == page.total == every.total
        assert found[0] == found[1], query
    plans.kept.clear()


def test_a_search_that_takes_too_long_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database gives it up; the same again is refused at once; the connection is as good as new."""
    (outcome,) = take(world, file_of(StudyDescription="Head"))
    endless = text("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x > 0) SELECT count(*) FROM n")
    real, ran = Asked.page, []

    def slow(self: Any, wanted: Any) -> Any:
        ran.append(self.query)
        if any(path == "00081030" for path, _values in self.query.keys):
            self.session.execute(endless)
        return real(self, wanted)

    monkeypatch.setattr(Asked, "page", slow)
    monkeypatch.setattr(patience, "PATIENCE", 0.2)
    ask = Asking(world.machine())
    for _again in range(3):
        answer = ask.answer(StudyDescription="*ea*")
        assert (answer.status_code, answer.json()["code"]) == (413, "too-broad")
        assert answer.headers["content-type"].startswith("application/problem+json")
    assert len(ran) == 1
    monkeypatch.undo()
    assert ask.uids(StudyDescription="He*") == ask.uids(PatientName="*WEI") == {outcome.study_uid}
    patience.refused.clear()
    assert ask.uids(StudyDescription="*ea*") == {outcome.study_uid}


def test_what_is_in_the_trash_is_not_found(world: World) -> None:
    (outcome,) = take(world, file_of())
    ask = Asking(world.machine())
    assert ask.uids() == {outcome.study_uid}
    path = f"/dicomweb/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    for _again in range(2):
        assert ask.client.get(path, headers={"Accept": JSON}).status_code == 200
    with database().writing() as session:
        session.execute(update(Study).values(trashed_at=clock.now()))
    assert ask.answer().status_code == 204
    assert ask.documents("/series") == ask.documents("/instances") == []
    assert ask.client.get(path, headers={"Accept": JSON}).status_code in (404, 410)


def test_answers_are_of_now(world: World) -> None:
    """What was answered a moment ago is answered anew when something came or was corrected."""
    (outcome,) = take(world, file_of())
    machine, viewer = Asking(world.machine()), Asking(world.client("technologist"), "/viewer/dicomweb")
    for ask in (machine, viewer):
        for _again in range(2):
            assert ask.documents()[0]["00201208"]["Value"] == [1]
    take(world, file_of(StudyInstanceUID=outcome.study_uid, Modality="DX", SOPClassUID=DX))
    with database().writing() as session:
        patient = session.get_one(Study, outcome.study_id).patient
        patient.name = "王伟"
    assert machine.documents()[0]["00201208"]["Value"] == [2]
    assert machine.documents()[0]["00100010"]["Value"] == [{"Alphabetic": "WANG^WEI"}], "as sent"
    (shown,) = viewer.documents()
    assert shown["00080061"]["Value"] == ["CT", "DX"]
    assert shown["00100010"]["Value"] == [{"Alphabetic": "王伟"}], "as registered"
    assert viewer.uids(PatientName="王*") == viewer.uids(PatientName="wang*") == {outcome.study_uid}


def test_xml_and_compression(world: World) -> None:
    take(world, *(file_of(PatientID=f"P{number}") for number in range(20)))
    client = world.machine()
    xml = client.get("/dicomweb/studies", headers={"Accept": 'multipart/related; type="application/dicom+xml"'})
    assert xml.content.count(b"<NativeDicomModel") == 20
    assert client.get("/dicomweb/studies", headers={"Accept": "text/html"}).status_code == 406
    plain = client.get("/dicomweb/studies", headers={"Accept": JSON, "Accept-Encoding": "identity"})
    for accept, name in (("gzip", "gzip"), ("gzip;q=0.5, br", "br"), ("gzip, zstd;q=0.9", "gzip"), ("*;q=0", None)):
        for _again in range(2):
            answer = client.get("/dicomweb/studies", headers={"Accept": JSON, "Accept-Encoding": accept})
            assert answer.headers.get("content-encoding") == name
            assert answer.json() == plain.json()


# --- metadata made ready ------------------------------------------------------------------------------------------


def metadata_of(client: TestClient, outcome: Outcome, door: str = "/dicomweb", **headers: str) -> Any:
    path = f"{door}/studies/{outcome.study_uid}/series/{outcome.series_uid}/metadata"
    return client.get(path, headers={"Accept": JSON, **headers})


def test_metadata_made_ready_are_those_built(world: World) -> None:
    (outcome,) = take(world, file_of(PatientComments='a \x01 "bulkdata/ quote', OtherPatientIDs="X"))
    machine, person = world.machine(), world.client("technologist")
    doors = ((machine, "/dicomweb"), (person, "/viewer/dicomweb"))
    built = [metadata_of(client, outcome, door).json() for client, door in doors]
    assert studies_metadata.prepare_study(outcome.study_id) == 1
    assert studies_metadata.prepare_study(outcome.study_id) == 0
    metadata.kept.clear()
    ready = [metadata_of(client, outcome, door) for client, door in doors]
    assert [one.json() for one in ready] == built
    sent, shown = (one[0] for one in built)
    assert sent["00100020"]["Value"] == ["001"]
    assert shown["00100020"]["Value"] != ["001"]
    assert (sent["00101000"]["Value"], "00101000" in shown) == (["X"], False)
    for document, (_client, door) in zip((sent, shown), doors, strict=True):
        assert document["7FE00010"]["BulkDataURI"].startswith(f"http://testserver{door}/studies/{outcome.study_uid}/")
    for (client, door), document in zip(doors, (sent, shown), strict=True):
        for coding in ("br", "zstd", "gzip", "identity"):
            for _again in range(2):
                answer = metadata_of(client, outcome, door, **{"Accept-Encoding": coding})
                # The test's client knows no zstd.
                body = imagecodecs.zstd_decode(answer.content) if coding == "zstd" else answer.content
                assert json.loads(body) == [document]
            held = {"Accept-Encoding": coding, "If-None-Match": answer.headers["etag"]}
            again = metadata_of(client, outcome, door, **held)
            assert (again.status_code, again.content) == (304, b"")


def test_metadata_of_another_revision_are_not_served(world: World) -> None:
    """Whatever a worker that was killed left behind, or never came to do: an answer has all instances, once."""
    (outcome,) = take(world, file_of(SeriesNumber=1))
    studies_metadata.prepare_study(outcome.study_id)
    client = world.machine()
    tags = []
    for count in (2, 3):
        take(
            world,
            file_of(StudyInstanceUID=outcome.study_uid, SeriesInstanceUID=outcome.series_uid, InstanceNumber=count),
        )
        for _again in range(2):
            answer = metadata_of(client, outcome)
            assert [one["00200013"]["Value"][0] for one in answer.json()] == list(range(1, count + 1))
        tags.append(answer.headers["etag"])
    assert tags[0] != tags[1]
    with database().writing() as session:
        session.execute(update(SeriesMetadata).values(revision=3, body=b"cut off"))
    metadata.kept.clear()
    assert len(metadata_of(client, outcome).json()) == 3
    whole = client.get(f"/dicomweb/studies/{outcome.study_uid}/metadata", headers={"Accept": JSON})
    assert len(whole.json()) == 3


def test_a_worker_that_dies_while_it_makes_metadata(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance arrives between its looks, and then the process ends before, while and after it writes."""
    (outcome,) = take(world, file_of())
    real = studies_metadata.build

    class Killed(BaseException):
        pass

    def late(rows: Any) -> Any:
        made = real(rows)
        take(world, file_of(StudyInstanceUID=outcome.study_uid, SeriesInstanceUID=outcome.series_uid, InstanceNumber=2))
        monkeypatch.setattr(studies_metadata, "build", real)
        return made

    monkeypatch.setattr(studies_metadata, "build", late)
    assert studies_metadata.prepare_study(outcome.study_id) == 1
    assert len(metadata_of(world.machine(), outcome).json()) == 2
    monkeypatch.setattr(studies_metadata, "pack", lambda _texts: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        studies_metadata.prepare_study(outcome.study_id)
    assert len(metadata_of(world.machine(), outcome).json()) == 2
    monkeypatch.undo()
    assert studies_metadata.prepare_study(outcome.study_id) == 1
    with database().reading() as session:
        row, series = session.query(SeriesMetadata).one(), session.query(Series).one()
        assert row.revision == series.instance_count == 2


# --- a stranger, and a naive matcher --------------------------------------------------------------------------------


@pytest.fixture
def stranger(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[DICOMwebClient]:
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {world.key('C01')}"
    with serving(world.app) as address:
        monkeypatch.setattr(get_settings(), "public_url", address)
        yield DICOMwebClient(f"{address}/dicomweb", session=session)


def test_a_stranger_searches(world: World, stranger: DICOMwebClient) -> None:
    first, second = rich(world)
    (found,) = stranger.search_for_studies(search_filters={"PatientID": "A1"}, fields=["InstitutionName"])
    assert Dataset.from_json(found).InstitutionName == "Clinic"
    assert Dataset.from_json(found).StudyInstanceUID == first.study_uid
    assert stranger.search_for_studies(search_filters={"PatientID": "none"}) == []
    named = stranger.search_for_studies(search_filters={"PatientName": "wang wei"}, fuzzymatching=True)
    assert [one["0020000D"]["Value"] for one in named] == [[first.study_uid]]
    assert len(stranger.search_for_studies(limit=1, offset=1)) == 1
    assert len(stranger.search_for_series(get_remaining=True, limit=2)) == 3
    assert len(stranger.search_for_series(first.study_uid, search_filters={"Modality": "DX"})) == 1
    assert len(stranger.search_for_instances(first.study_uid, first.series_uid)) == 2
    assert len(stranger.search_for_instances(search_filters={"SOPClassUID": DX})) == 2
    with pytest.raises(requests.HTTPError):
        stranger.search_for_studies(search_filters={"StudyDate": "soon"})
    assert second.study_uid


NAMES = ["WANG^WEI", "Wang^Wei^^Dr", "王^伟", "LI^NA=李^娜", "", "K1*^X", "k1[a]^y", "Ünal^Ö", "K1_0%^z"]
IDS = ["001", "0011", "01", "A_1", "a%1", "[1]", "A1"]
DAYS = ["20260101", "20260102", "20260115", "", "20261231"]
TIMES = ["", "10", "1000", "100000", "100000.5", "235959.999999", "1030"]
PATTERNS = ["*", "?", "W", "w", "a", "K1", "1", "0", "_", "%", "[", "]", "^", "王", "伟", "Li", "Na", "ö"]


def naive_text(value: str, key: str) -> bool:
    pattern = key.replace("[", "[[]")
    return fnmatch.fnmatchcase(value, pattern)


def naive_name(name: str, key: str) -> bool:
    if not key.strip(" ^*"):
        return True
    if keys.han(key):
        return naive_text(keys.han(name), keys.together(keys.fold(key)))
    folded = keys.fold(key)
    if not folded.strip("*?"):
        return naive_text(keys.latin(name), folded) or naive_text(keys.han(name), folded)
    return naive_text(keys.latin(name), folded)


def seconds(value: str, *, last: bool) -> float:
    whole, _dot, fraction = value.partition(".")
    whole += ("5959" if last else "0000")[len(whole) - 2 :] if len(whole) < 6 else ""
    digits = fraction.ljust(6, "9" if last else "0")
    return int(whole[:2]) * 3600 + int(whole[2:4]) * 60 + int(whole[4:6]) + int(digits) / 1e6


def naive_time(value: str, key: str) -> bool:
    if not value:
        return False
    first, dash, end = key.partition("-")
    low, high = (first, end) if dash else (first, first)
    at = seconds(value, last=False)
    return (not low or at >= seconds(low, last=False)) and (not high or at <= seconds(high, last=True))


def naive_day(value: str, key: str) -> bool:
    first, dash, end = key.partition("-")
    if not dash:
        return value == first
    return bool(value) and (not first or value >= first) and (not end or value <= end)


def test_a_naive_matcher_agrees(world: World) -> None:
    rows: dict[str, tuple[str, str, str, str]] = {}
    (model,) = take(world, file_of(PatientName="Z^Z", PatientID="Z", StudyDate="20200101", StudyTime="01"))
    rows[model.study_uid] = ("Z^Z", "Z", "20200101", "01")
    with database().writing() as session:
        patient = session.get_one(Study, model.study_id).patient_id
        for number in range(60):
            name, ident = NAMES[number % len(NAMES)], IDS[number % len(IDS)]
            day, hour = DAYS[number // 3 % len(DAYS)], TIMES[number // 2 % len(TIMES)]
            uid = new_uid()
            rows[uid] = (name, ident, day, hour)
            session.add(
                Study(
                    uid=uid, org_id=world.orgs["C01"].id, patient_id=patient, study_date=day, study_time=hour,
                    header_patient={"name": name, "patient_id": ident}, created_at=clock.now(),
                    last_instance_at=clock.now(),
                )
            )  # fmt: skip
    actor = world.actor("technologist")
    texts = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4).map("".join)
    days = st.sampled_from(["20260101", "20260102-", "-20260102", "20260102-20260115", "20260115-20261231"])
    times = st.sampled_from(["10", "1000", "100000", "0930-10", "-1000", "1000-", "1015-1030", "100000.4-100000.5"])

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(name=st.none() | texts, ident=st.none() | texts, day=st.none() | days, hour=st.none() | times)
    def agrees(name: str | None, ident: str | None, day: str | None, hour: str | None) -> None:
        wanted = {"00100010": name, "00100020": ident, "00080020": day, "00080030": hour}
        query = Query(Level.STUDY, tuple((path, (value,)) for path, value in wanted.items() if value is not None))
        with database().reading() as session:
            found = {row.study_uid for row in search.search(session, actor, query).rows}
        combined = day and hour and "-" in day

        def fits(row: tuple[str, str, str, str]) -> bool:
            if name is not None and not naive_name(row[0], name):
                return False
            if ident is not None and ident != "*" and not naive_text(row[1], ident):
                return False
            if not combined:
                return (day is None or naive_day(row[2], day)) and (hour is None or naive_time(row[3], hour))
            assert day is not None
            assert hour is not None
            first, _dash, last = day.partition("-")
            low, dash, high = hour.partition("-")
            high = high if dash else low
            if not naive_day(row[2], day):
                return False
            late = not (first and low) or row[2] > first or naive_time(row[3], f"{low}-")
            return late and (not (last and high) or row[2] < last or naive_time(row[3], f"-{high}"))

        assert found == {uid for uid, row in rows.items() if fits(row)}, wanted

    agrees()


def test_the_queries_texts_are_understood_once() -> None:
    """A query is a value: what an address says can be kept by it."""
    asked = qido.parse("PatientName=K1*&limit=50&includefield=StudyID", Level.STUDY)
    assert asked is qido.parse("PatientName=K1*&limit=50&includefield=StudyID", Level.STUDY)
    assert hash(asked.query) == hash(qido.parse("PatientName=K1*&limit=50&includefield=00200010", Level.STUDY).query)
    assert json.dumps(asked.query.keys) == '[["00100010", ["K1*"]]]'
