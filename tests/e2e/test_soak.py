"""kill -9 of the web server or the worker at random moments: nothing acknowledged is lost, doubled or stuck.

`SOAK_RUNS` says how often (20); `SOAK_SEED` repeats a series. In each run a clinic uploads and a machine stores images
while a report is written and signed, and in the middle of it a process group is killed. Clients go on as real ones do:
they ask what arrived, and send the rest.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from hub.cli.client import Client, Outgoing, Refused
from hub.cli.rehearsal import report_text
from hub.kit.ids import new_uid
from support.clinic_files import dicom_file
from support.running import RunningHub

RUNS = int(os.environ.get("SOAK_RUNS", "20"))
SEED = int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(10**9))
PATIENCE = 90.0
pytestmark = [pytest.mark.soak, pytest.mark.timeout(max(600, RUNS * 60))]

STOW = {
    "Content-Type": 'multipart/related; type="application/dicom"; boundary=soak',
    "Accept": "application/dicom+json",
}


@dataclass
class Sent:
    """An image that the hub acknowledged."""

    study: str
    series: str
    sha256: str


@dataclass
class Journal:
    """What the clients were told, to be compared with what the hub has."""

    acknowledged: dict[str, Sent] = field(default_factory=dict)
    exams: dict[str, int] = field(default_factory=dict)
    """Images sent, by the patient's number; there is one exam of each."""
    readable: list[str] = field(default_factory=list)
    signed: dict[str, str] = field(default_factory=dict)
    """Report numbers by exam."""
    kills: Counter[str] = field(default_factory=Counter)


class Soak:
    """The clients and what they do."""

    def __init__(self, running: RunningHub, stack: ExitStack) -> None:
        self.running = running
        self.journal = Journal()
        self.tech, self.doctor = self._client(stack, "tech01"), self._client(stack, "doctor01")
        self.reader, self.reviewer = self._client(stack, "reader01a"), self._client(stack, "reviewer01")
        self.director = self._client(stack, "director01")
        key = running.hub("key", "add", "--org", "C01", "--scope", "stow", "--scope", "retrieve").stdout.strip()
        self.machine = stack.enter_context(Client(running.url, key=key, patience=PATIENCE))
        self.reviewer.post("/api/signing/unlock", {"pin": "271828"})

    def _client(self, stack: ExitStack, login: str) -> Client:
        return stack.enter_context(self.running.client(login, patience=PATIENCE))

    # --- what goes on ---------------------------------------------------------------------------------------------

    def upload(self, number: str) -> None:
        """A clinic registers an exam and drops a folder."""
        images = self._images(number)
        exam = self._register(number, len(images))
        self.journal.exams[number] = len(images)
        files = [Outgoing(f"{number}/IM{index}", data) for index, (data, _uids) in enumerate(images)]
        batch = None
        while batch is None:
            try:
                batch = self.tech.declare(files, exam_id=exam["id"])
            except httpx.TransportError:
                # Whether it arrived is not known: the page would find its open batch, or declare once more.
                time.sleep(0.1)
                batch = next(
                    (self.tech.batch(b["id"]) for b in self.tech.get("/api/uploads") if b["exam_id"] == exam["id"]),
                    None,
                )
        rows = {row["path"]: row for row in batch.files}
        for outgoing, (data, (study, series, sop)) in zip(files, images, strict=True):
            state = self.tech.send(outgoing, rows[outgoing.path], chunk=700)
            assert state in ("stored", "known"), state
            self.journal.acknowledged[sop] = Sent(study, series, hashlib.sha256(data).hexdigest())
        self.tech.finish(batch.id)

    def _register(self, number: str, _count: int) -> dict[str, Any]:
        form = {
            "name": "王伟", "sex": "M", "age": "45", "number": number, "modality": "CT", "body_parts": ["chest"],
            "history": "咳嗽一周", "doctor": "李明", "doctor_phone": "13900000000",
        }  # fmt: skip
        while True:
            try:
                return dict(self.tech.post("/api/exams", form))
            except (httpx.TransportError, Refused) as error:
                if isinstance(error, Refused) and error.status < 500:
                    raise
                time.sleep(0.2)
                found = self.tech.get("/api/exams", q=number)["items"]
                if found:
                    return dict(found[0])

    def store(self, number: str) -> None:
        """A machine stores a study that nobody has registered."""
        images = self._images(number)
        self.journal.exams[number] = len(images)
        parts = [b"--soak\r\nContent-Type: application/dicom\r\n\r\n" + data + b"\r\n" for data, _uids in images]
        body = b"".join(parts) + b"--soak--\r\n"
        answer = self.machine.request("POST", "/dicomweb/studies", content=body, headers=STOW, again=True)
        assert answer.status_code == 200, answer.text
        for data, (study, series, sop) in images:
            self.journal.acknowledged[sop] = Sent(study, series, hashlib.sha256(data).hexdigest())

    def _images(self, number: str) -> list[tuple[bytes, tuple[str, str, str]]]:
        study, series = new_uid(), new_uid()
        found = []
        for index in range(3):
            sop = new_uid()
            # Another person than the registered ones, or the images would find one of their exams.
            name = "WANG^WEI" if number.startswith("T") else "LI^NA"
            data = dicom_file(
                study=study, series=series, sop=sop, name=name, patient_id=number, birth="", number=index, side=24
            )
            found.append((data, (study, series, sop)))
        return found

    def sign(self, exam_id: str) -> None:
        """A radiologist writes and submits, another one reviews and signs."""
        lease = self._claim(self.reader, exam_id)
        exam = self.director.get(f"/api/exams/{exam_id}")
        version = self._again(lambda: self._save(exam, lease))
        body = {"lease": lease, "revision": version["revision"]}
        self._until(
            lambda: self.reader.post(f"/api/exams/{exam_id}/submit", body), lambda: self._state(exam_id) == "to_review"
        )
        lease = self._claim(self.reviewer, exam_id)
        version = self.reviewer.get(f"/api/exams/{exam_id}/reports")["versions"][0]
        body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
        path = f"/api/reports/{version['version_id']}/sign"
        self.journal.signed[exam_id] = self._again(lambda: self.reviewer.post(path, body))["number"]

    def _save(self, exam: dict[str, Any], lease: str) -> dict[str, Any]:
        versions = self.reader.get(f"/api/exams/{exam['id']}/reports")["versions"]
        body = report_text(exam) | {"lease": lease, "revision": versions[0]["revision"] if versions else 0}
        return dict(self.reader.put(f"/api/exams/{exam['id']}/report", body))

    def _claim(self, client: Client, exam_id: str) -> str:
        return str(self._again(lambda: client.post(f"/api/exams/{exam_id}/claim"))["lease"])

    def _again(self, act: Callable[[], Any]) -> Any:
        """What may safely be asked for again, until there is an answer."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                return act()
            except (httpx.TransportError, Refused) as error:
                if (isinstance(error, Refused) and error.status < 500) or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def _until(self, act: Callable[[], Any], done: Callable[[], bool]) -> None:
        """What may not be repeated: after a lost answer it is looked up."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                act()
                return
            except (httpx.TransportError, Refused) as error:
                if (isinstance(error, Refused) and error.status < 500) or time.monotonic() > until:
                    raise
                time.sleep(0.2)
                if done():
                    return

    def _state(self, exam_id: str) -> str:
        return str(self.director.get(f"/api/exams/{exam_id}")["state"])

    def kill_soon(self, dice: random.Random, busy: threading.Event) -> None:
        """kill -9 of one process group, or both, somewhere in the next second."""
        victims = dice.choice((["serve"], ["worker"], ["serve"], ["worker"], ["serve", "worker"], ["scheduler"]))
        busy.wait(dice.uniform(0.0, 1.2))
        for name in victims:
            self.running.kill(name)
            self.journal.kills[name] += 1

    def run(self, run: int) -> None:
        """One run: three things at once, and a kill in the middle of them."""
        dice = random.Random(SEED * 1000 + run)
        acts: list[tuple[str, Callable[[], None]]] = [
            ("upload", lambda: self.upload(f"T{run:05}")),
            ("store", lambda: self.store(f"M{run:05}")),
        ]
        if self.journal.readable:
            exam_id = self.journal.readable.pop(0)
            acts.append(("sign", lambda: self.sign(exam_id)))
        errors: list[str] = []

        def guarded(name: str, act: Callable[[], None]) -> None:
            try:
                act()
            except Exception as error:
                errors.append(f"{name}: {type(error).__name__}: {error}")

        threads = [threading.Thread(target=guarded, args=pair, daemon=True) for pair in acts]
        for thread in threads:
            thread.start()
        self.kill_soon(dice, threading.Event())
        for thread in threads:
            thread.join(PATIENCE * 3)
            assert not thread.is_alive(), f"run {run} of seed {SEED}: a client waits for ever"
        assert not errors, f"run {run} of seed {SEED}: {errors}"
        self._find_readable(f"T{run:05}")

    def _find_readable(self, number: str) -> None:
        """The exam of this run is read in a later one."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            (exam,) = self.tech.get("/api/exams", q=number)["items"]
            if exam["state"] == "to_read":
                self.journal.readable.append(exam["id"])
                return
            time.sleep(0.2)
        raise AssertionError(f"seed {SEED}: the exam of {number} is stuck in {exam['state']}")

    # --- what must hold -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nothing lost, nothing doubled, nothing stuck, everything sent."""
        exams = self._all_exams()
        by_number = Counter(exam["patient"]["number"].rpartition(":")[2] for exam in exams)
        assert by_number == Counter(dict.fromkeys(self.journal.exams, 1)), "exams are missing or doubled"
        self._check_bytes()
        inbox = self._inbox()
        numbers: list[str] = []
        for exam in exams:
            transitions = [row["event"] for row in self.director.get(f"/api/exams/{exam['id']}/transitions")]
            number = exam["patient"]["number"].rpartition(":")[2]
            # One arrival in the queue; what a machine sent alone waits for its registration.
            assert transitions.count("complete") == number.startswith("T"), f"{number}: {transitions}"
            images = self.director.get(f"/api/exams/{exam['id']}/images")
            own = [i for s in images["studies"] for r in s["series"] for i in r["instances"] if not i["made_by_hub"]]
            assert len({one["uid"] for one in own}) == len(own) == self.journal.exams[number]
            made = [r["modality"] for s in images["studies"] for r in s["series"] if r["instances"][0]["made_by_hub"]]
            if exam["id"] not in self.journal.signed:
                wanted = "to_read" if number.startswith("T") else "to_verify"
                assert exam["state"] == wanted, f"{number} is stuck in {exam['state']}"
                continue
            assert transitions.count("sign") == transitions.count("return") == 1, transitions
            assert [row["number"] for row in inbox if row["exam_id"] == exam["id"]] == [self.journal.signed[exam["id"]]]
            assert sorted(made) == ["DOC", "SR"], f"{number}: {made}"
            numbers.append(self.journal.signed[exam["id"]])
        assert len(set(numbers)) == len(numbers) == len(self.journal.signed)
        assert {row["exam_id"] for row in inbox} == set(self.journal.signed), "a report was returned that none signed"

    def _all_exams(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        page = 1
        while True:
            answer = self.director.get("/api/exams", page=page, size=200)
            found += answer["items"]
            if len(found) >= answer["total"]:
                return found
            page += 1

    def _check_bytes(self) -> None:
        for sop, sent in self.journal.acknowledged.items():
            path = f"/dicomweb/studies/{sent.study}/series/{sent.series}/instances/{sop}"
            accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
            answer = self.machine.request("GET", path, headers={"Accept": accept})
            boundary = answer.headers["content-type"].partition("boundary=")[2].strip('"').encode()
            data = answer.content.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--" + boundary)[0]
            assert hashlib.sha256(data).hexdigest() == sent.sha256, f"{sop} is not what was sent"

    def _inbox(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        before = {}
        while True:
            rows = self.doctor.get("/api/inbox", limit=200, **before)["reports"]
            found += rows
            if len(rows) < 200:
                return found
            before = {"before": rows[-1]["delivered_at"]}

    def settle(self) -> None:
        """Wait until no work is left."""
        engine = create_engine(
            self.running.env.get("HUB_DATABASE_URL", f"sqlite:///{self.running.data / 'hub.sqlite'}?timeout=60")
        )
        until = time.monotonic() + 180
        try:
            while True:
                with engine.connect() as connection:
                    rows = connection.execute(text("SELECT kind, state, error FROM job WHERE state <> 'done'")).all()
                if not rows:
                    return
                failed = [tuple(row) for row in rows if row[1] == "failed"]
                assert not failed, f"jobs were given up: {failed}"
                assert time.monotonic() < until, f"work is stuck: {[tuple(row) for row in rows]}"
                time.sleep(0.3)
        finally:
            engine.dispose()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub whose leases and quiet periods are short."""
    settings = {
        "job_lease_seconds": 5,
        "quiet_period_seconds": 2,
        "job_attempts": 20,
        "login_attempts": 1000,
        "web_processes": 2,
    }
    started = RunningHub(tmp_path / "var", environment=settings)
    try:
        yield started.start()
    finally:
        started.stop()


def test_nothing_is_lost_whatever_is_killed(running: RunningHub, capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    with ExitStack() as stack:
        soak = Soak(running, stack)
        for run in range(RUNS):
            soak.run(run)
        while soak.journal.readable:
            soak.sign(soak.journal.readable.pop(0))
        soak.settle()
        soak.check()
        verified = running.hub("audit", "verify", "--json", timeout=300)
        assert verified.returncode == 0, verified.stdout[-2000:]
        assert json.loads(verified.stdout)["ok"]
        assert all(isinstance(child, psutil.Process) for child in running.children().values())
        journal = soak.journal
        with capsys.disabled():
            print(
                f"\nsoak: seed {SEED}, {RUNS} runs in {time.monotonic() - begun:.0f} s; killed {dict(journal.kills)}; "
                f"{len(journal.acknowledged)} files acknowledged and present, {len(journal.exams)} exams once each, "
                f"{len(journal.signed)} reports signed and returned once"
            )
