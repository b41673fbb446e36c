"""The whole journey against a hub that runs in processes of its own, and the sample county's filling."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hub.cli.client import Client
from hub.cli.material import gather
from hub.cli.sample import STORIES
from hub.cli.sample_patients import REGISTERED
from support.clinic_files import dicom_file
from support.running import ROOT, RunningHub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningHub]:
    """A hub with the sample county's people."""
    started = RunningHub(tmp_path_factory.mktemp("journey") / "var", environment={"web_processes": 2})
    try:
        yield started.start()
    finally:
        started.stop()


def rehearse(running: RunningHub, *arguments: str) -> tuple[int, dict[str, Any]]:
    """`hub rehearse --json` beside the hub."""
    done = running.hub("rehearse", *arguments, "--json", timeout=400)
    assert done.stdout.count("\n") == 1, done.stderr[-2000:]
    return done.returncode, json.loads(done.stdout)


def test_generated_images_travel_from_clinic_to_report_and_back_twice(running: RunningHub, tmp_path: Path) -> None:
    seen: set[str] = set()
    for turn in ("first", "second"):
        out = tmp_path / turn
        status, found = rehearse(running, "--out", str(out), "--small")
        assert found["ok"], [step for step in found["steps"] if not step["ok"]]
        assert status == 0
        assert found["sent"] == found["stored"] == 9
        assert found["refused"] == []
        assert len(found["studies"]) == 2
        assert seen.isdisjoint(found["studies"])
        seen |= set(found["studies"])
        assert (out / found["files"]["pdf"]).read_bytes().startswith(b"%PDF")
        assert len(found["reports"]) == 2
        for report in found["reports"]:
            sr = pydicom.dcmread(out / report["sr"])
            assert sr.StudyInstanceUID == report["study"]
            assert sr.SpecificCharacterSet == "ISO_IR 192"


def test_refused_files_are_named_with_their_reason(running: RunningHub, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    good = [dicom_file(study="1.2.3.4", series="1.2.3.5", patient_id="R77", number=n) for n in (1, 2)]
    for number, data in enumerate(good):
        (folder / f"IM{number}").write_bytes(data)
    (folder / "cut").write_bytes(good[0][:-100])
    (folder / "notes.txt").write_text("no image")
    status, found = rehearse(running, str(folder), "--out", str(tmp_path / "out"))
    assert found["ok"], [step for step in found["steps"] if not step["ok"]]
    assert status == 0
    assert found["sent"] == 4
    assert found["stored"] == 2
    assert {entry["file"] for entry in found["refused"]} == {"cut", "notes.txt"}
    assert all(entry["reason"] for entry in found["refused"])


def test_a_folder_without_an_image_fails(running: RunningHub, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    status, found = rehearse(running, str(tmp_path), "--out", str(tmp_path / "out"))
    assert status == 1
    assert not found["ok"]
    assert [entry["file"] for entry in found["refused"]] == ["notes.txt"]


def test_a_step_that_fails_is_shown_and_ends_with_one(running: RunningHub, tmp_path: Path) -> None:
    done = running.hub("rehearse", "--small", "--url", "http://127.0.0.1:9", "--out", str(tmp_path), timeout=200)
    assert done.returncode == 1
    assert "✗" in done.stdout


def test_fresh_uids_are_consistent(tmp_path: Path) -> None:
    folder, work = tmp_path / "in", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    first = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_file(study="1.2.3", series="1.2.4", sop="1.2.5.1")))
    second = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_file(study="1.2.3", series="1.2.4", sop="1.2.5.2")))
    item = pydicom.Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, "1.2.5.1"
    second.ReferencedImageSequence = [item]
    other = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom_file(study="1.2.3", series="1.2.4", sop="1.2.5.1")))
    other.PixelData = bytes(len(other.PixelData))
    for name, dataset in (("a", first), ("b", second), ("c", other)):
        dataset.save_as(folder / name)
    (case,) = gather(folder, work).cases
    written = [image.dataset() for image in case.images]
    assert {one.StudyInstanceUID for one in written} == {case.study_uid}
    assert len({one.SeriesInstanceUID for one in written}) == 1
    assert case.study_uid != "1.2.3"
    assert written[1].ReferencedImageSequence[0].ReferencedSOPInstanceUID == written[0].SOPInstanceUID
    assert written[1].ReferencedImageSequence[0].ReferencedSOPClassUID == first.SOPClassUID
    # Another image under a UID that is taken gets one of its own.
    assert len({one.SOPInstanceUID for one in written}) == 3
    assert all(one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID for one in written)
    assert written[0].PixelData == first.PixelData


def test_the_filling_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    started = RunningHub(tmp_path / "var", environment={"sample_size": 64})
    try:
        started.start()
        env = started.env | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "hub.cli", "sample", "--fill"]
        for pause in (4.0, 6.0):
            filling = subprocess.Popen(command, env=env, cwd=started.data, start_new_session=True)
            time.sleep(pause)
            os.killpg(filling.pid, signal.SIGKILL)
            filling.wait()
        assert started.hub("sample", "--fill", timeout=400).returncode == 0
        once = _exams(started)
        assert started.hub("sample", "--fill", timeout=400).returncode == 0
        assert _exams(started) == once
        assert len(once) == len(STORIES) + len(REGISTERED)
        numbers = [number for number, _state in once]
        assert len(set(numbers)) == len(numbers) - 1, "two stories are of one patient, and no exam is doubled"
        assert {state for _number, state in once} >= {
            "registered", "to_verify", "to_read", "history_requested", "to_review", "rejected", "returned", "seen",
        }  # fmt: skip
    finally:
        started.stop()


def _exams(running: RunningHub) -> list[tuple[str, str]]:
    client: Client = running.client("director01")
    found = client.get("/api/exams", size=200)["items"]
    return sorted((exam["patient"]["number"], exam["state"]) for exam in found)
