"""The whole journey on real images, only through the hub's public HTTP API, step by step with its time."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
from pydicom.dataset import Dataset

from hub.cli.client import Batch, Client, Live, Login, Outgoing, Refused
from hub.cli.material import Case, Image, Material, gather, generated
from hub.dicom import codecs

FRAMES = "multipart/related; type=application/octet-stream; transfer-syntax=*"
DICOM = "multipart/related; type=application/dicom; transfer-syntax=*"
DICOM_JSON = "application/dicom+json"
SAMPLES = 3
"""Images of each study whose pixels are compared."""


class Failed(Exception):
    """What a step found to be wrong, in words."""


class _Stop(Exception):
    """A step failed without which the next make no sense."""


@dataclass(slots=True)
class Step:
    """One step of the journey."""

    name: str
    ok: bool = True
    seconds: float = 0.0
    detail: str = ""


@dataclass(slots=True)
class Result:
    """What `hub rehearse --json` prints."""

    ok: bool = True
    steps: list[Step] = field(default_factory=list)
    studies: list[str] = field(default_factory=list)
    sent: int = 0
    stored: int = 0
    refused: list[dict[str, str]] = field(default_factory=list)
    reports: list[dict[str, str]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """JSON form: `reports` has `study`, `pdf` and `sr` (paths below the output folder) of each study, `files` the
        first one's."""
        return {
            "ok": self.ok,
            "steps": [
                {"name": s.name, "ok": s.ok, "seconds": round(s.seconds, 3), "detail": s.detail} for s in self.steps
            ],
            "studies": self.studies,
            "sent": self.sent,
            "stored": self.stored,
            "refused": self.refused,
            "files": {name: self.reports[0][name] for name in ("pdf", "sr")} if self.reports else {"pdf": "", "sr": ""},
            "reports": self.reports,
        }


@dataclass(slots=True)
class Journey:
    """A case on its way: what the hub answered so far."""

    case: Case
    exam: dict[str, Any] = field(default_factory=dict)
    batch: Batch | None = None
    lease: str = ""
    version: dict[str, Any] = field(default_factory=dict)
    signed: dict[str, Any] = field(default_factory=dict)
    delivery: dict[str, Any] = field(default_factory=dict)
    pdf: bytes = b""

    @property
    def id(self) -> str:
        """The exam's identifier."""
        return str(self.exam["id"])


def rehearse(
    url: str,
    logins: Sequence[Login],
    folder: Path | None,
    out: Path,
    *,
    show: Callable[[str], None],
    small: bool = False,
) -> Result:
    """Play the journey.

    Args:
        url: Where the hub answers.
        logins: A technologist and a clinician of one clinic, a reporter and a reviewer of the hospital that reads for
            it, an administrator; the first of each role is taken.
        folder: DICOM files; None: generated images.
        out: Where PDF and SR are saved.
        show: Prints a line.
        small: Generate small images.
    """
    codecs.register()
    with tempfile.TemporaryDirectory(prefix="rehearse-") as work, ExitStack() as stack:
        play = _Play(url, logins, out, show, stack)
        try:
            with play.step("read the files"):
                material = gather(folder, Path(work)) if folder else generated(small=small)
                if not material.cases and not material.others:
                    raise Failed("the folder holds no file")
                play.note(
                    f"{len(material.cases)} studies, {sum(len(c.images) for c in material.cases)} images"
                    + (f", {len(material.others)} files that are none" if material.others else "")
                )
            play.run(material)
        except _Stop:
            show("stopped: the next steps need what failed")
    result = play.result
    result.ok = bool(result.steps) and all(step.ok for step in result.steps)
    total = sum(step.seconds for step in result.steps)
    show(
        f"{'✓ the whole journey' if result.ok else '✗ NOT the whole journey'}: {len(result.steps)} steps, "
        f"{total:.1f} s; sent {result.sent}, stored {result.stored}, refused {len(result.refused)}"
    )
    for refusal in result.refused:
        show(f"  refused {refusal['file']}: {refusal['reason']}")
    return result


class _Play:
    def __init__(
        self, url: str, logins: Sequence[Login], out: Path, show: Callable[[str], None], stack: ExitStack
    ) -> None:
        self.url, self.logins, self.out, self.show, self.stack = url, logins, out, show, stack
        self.result = Result()
        self._step: Step | None = None
        self.journeys: list[Journey] = []

    # --- steps ----------------------------------------------------------------------------------------------------

    @contextmanager
    def step(self, name: str, *, needed: bool = True) -> Iterator[None]:
        """Time a step; what goes wrong is shown, and ends the journey where the step is `needed`."""
        step = self._step = Step(name)
        started = time.perf_counter()
        error: Exception | None = None
        try:
            yield
        except Exception as found:  # an answer of another shape than expected fails its step, too
            error = found
        step.seconds = time.perf_counter() - started
        if error is not None:
            step.ok = False
            words = str(error) if isinstance(error, Failed | Refused) else f"{type(error).__name__}: {error}"
            step.detail = f"{words}{'; ' + step.detail if step.detail else ''}"
        self.result.steps.append(step)
        self.show(
            f"{'✓' if step.ok else '✗'} {step.seconds:7.2f} s  {name}{' — ' + step.detail if step.detail else ''}"
        )
        if error is not None and needed:
            raise _Stop

    def note(self, text: str) -> None:
        """Add to the present step's detail."""
        assert self._step is not None
        self._step.detail = f"{self._step.detail}; {text}" if self._step.detail else text

    def each(self) -> Iterator[Journey]:
        """Every journey; an error names the study it befell."""
        for journey in self.journeys:
            try:
                yield journey
            except Failed as error:
                raise Failed(f"study {journey.case.study_uid}: {error}") from error

    def _login(self, role: str) -> Login:
        for login in self.logins:
            if login.role == role:
                return login
        raise Failed(f"no login of the role {role}")

    def _client(self, role: str) -> Client:
        login = self._login(role)
        client = self.stack.enter_context(Client(self.url, patience=20))
        return client.log_in(login.login, login.password)

    # --- the journey ----------------------------------------------------------------------------------------------

    def run(self, material: Material) -> None:
        """All steps in order."""
        with self.step("the hub is ready"):
            with Client(self.url, patience=30) as anybody:
                ready = anybody.get("/readyz")
            if not ready["ok"]:
                raise Failed(f"it is not: {ready}")
        with self.step("clinic, radiologist, reviewer and administrator log in"):
            self.tech, self.doctor = self._client("technologist"), self._client("clinician")
            self.reader, self.reviewer = self._client("reporter"), self._client("reviewer")
            self.admin = self._client("administrator")
            self.note(", ".join(c.me["name"] for c in (self.tech, self.doctor, self.reader, self.reviewer, self.admin)))
        with self.step("their pages listen for changes"):
            self.at_queue: Live = self.stack.enter_context(self.reader.live())
            self.at_inbox: Live = self.stack.enter_context(self.doctor.live())
        self.journeys = [Journey(case) for case in material.cases]
        self.result.studies = [case.study_uid for case in material.cases]
        if self.journeys:
            self._register()
            self._upload()
        if material.others:
            self._send_others(material.others)
        if not self.journeys:
            with self.step("a report comes of it"):
                raise Failed("no file of the folder is an image")
        self._arrive()
        self._look()
        self._read()
        self._sign()
        self._return()
        self._check_pdf()
        self._check_objects()
        self._administer()

    def _register(self) -> None:
        with self.step("the clinic registers the exams"):
            for journey in self.each():
                journey.exam = self._registered(journey.case.form)
            self.note(", ".join(j.exam["accession"] for j in self.journeys))

    def _registered(self, form: dict[str, Any]) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.tech.post("/api/exams", form)
        except Refused as error:
            if "number" not in error.body.get("fields", {}):
                raise
            # A patient number that this clinic has given to somebody else: a test image's, mostly.
            found = self.tech.post("/api/exams", form | {"number": ""})
        return found

    def _upload(self) -> None:
        with self.step("the clinic uploads; a lost link is taken up again"):
            resumed = 0
            for number, journey in enumerate(self.each()):
                files = [image.outgoing for image in journey.case.images]
                batch = self.tech.declare(files, exam_id=journey.id)
                if number == 0:
                    resumed = self._lose_the_link(files, batch)
                journey.batch = self._send_all(files, batch)
            self.note(f"resumed at byte {resumed}")
            self._count([j.batch for j in self.journeys if j.batch is not None])
        with self.step("the counts agree"):
            for journey in self.each():
                counts, images = self._batch(journey).counts, journey.case.images
                here = counts["stored"] + counts["known"]
                if here + counts["refused"] != len(images):
                    raise Failed(f"{len(images)} were sent, the hub counts {counts}")
                if here == 0:
                    raise Failed("none of its images was taken in")
            self.note(f"{self.result.sent} sent, {self.result.stored} stored, {len(self.result.refused)} refused")

    @staticmethod
    def _batch(journey: Journey) -> Batch:
        assert journey.batch is not None
        return journey.batch

    def _lose_the_link(self, files: list[Outgoing], batch: Batch) -> int:
        """Break off in the middle of the largest file; where the hub says that it goes on."""
        waiting = [pair for pair in zip(files, batch.files, strict=True) if pair[1]["state"] == "receiving"]
        if not waiting:
            return 0
        outgoing, row = max(waiting, key=lambda pair: pair[0].size)
        half = outgoing.size // 2

        def breaking() -> Iterator[bytes]:
            yield outgoing.read()[:half]
            time.sleep(0.3)
            raise ConnectionAbortedError

        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        length = {"Content-Length": str(outgoing.size)}
        with suppress(ConnectionAbortedError, httpx.HTTPError):
            self.tech.http.request("PATCH", row["url"], content=breaking(), headers=headers | length)
        # Bytes that the hub had not read yet when the link broke may be lost; it says what it has.
        until = time.monotonic() + 3
        offset = 0
        while time.monotonic() < until:
            offset, _state = self.tech.offset(row["url"])
            if offset:
                break
            time.sleep(0.1)
        if offset > half:
            raise Failed(f"after a lost link at byte {half} the hub goes on at {offset}")
        row["offset"] = offset
        return offset

    def _send_all(self, files: list[Outgoing], batch: Batch) -> Batch:
        for outgoing, row in zip(files, batch.files, strict=True):
            if row["state"] == "receiving":
                self.tech.send(outgoing, row)
        try:
            return self.tech.finish(batch.id)
        except Refused as error:
            if error.code != "shortfall":
                raise
            # Some were refused, with reasons: the clinic confirms that these are all.
            return self.tech.finish(batch.id, confirm_short=True)

    def _count(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            for row in batch.files:
                self.result.sent += 1
                if row["state"] in ("stored", "known"):
                    self.result.stored += 1
                elif row["state"] in ("refused", "ignored"):
                    self.result.refused.append({"file": row["path"], "reason": row["reason"] or row["code"]})
                    if not row["reason"]:
                        raise Failed(f"{row['path']} was refused without a reason")

    def _send_others(self, others: list[Outgoing]) -> None:
        with self.step("files that are no images are sent, and refused with a reason"):
            sent = self._send_all(others, self.tech.declare(others))
            self._count([sent])
            taken = [row["path"] for row in sent.files if row["state"] not in ("refused", "ignored")]
            self.note(f"{len(others) - len(taken)} of {len(others)} refused" + (f"; taken: {taken}" if taken else ""))

    def _arrive(self) -> None:
        with self.step("the exams appear in the queue without reloading"):
            verified = 0
            for journey in self.each():
                verified += self._in_queue(journey)
            if verified:
                self.note(f"{verified} after the clinic had confirmed whose they are")
            rows = self._queue_rows()
            for journey in self.each():
                row = rows.get(journey.id)
                if row is None:
                    raise Failed("it is not in the queue's list")
                if row["state"] != "to_read" or not row["claimable"]:
                    raise Failed(f"it stands in the queue as {row['state']}")
        with self.step("the previews are ready"):
            for journey in self.each():
                self._previews(journey)

    def _in_queue(self, journey: Journey) -> int:
        """Wait for the live event; 1 if the clinic had to decide about the identity first."""

        def comes(event: dict[str, Any]) -> bool:
            settled = event["data"].get("state") in ("to_read", "to_verify")
            return bool(event["topic"] == "exam" and event["ref"] == journey.id and settled)

        if self.at_queue.wait(comes, 90) is None:
            state = self.tech.get(f"/api/exams/{journey.id}")["state"]
            raise Failed(f"no event came within 90 s; the exam is {state}")
        journey.exam = self.tech.get(f"/api/exams/{journey.id}")
        if journey.exam["state"] == "to_verify" or journey.exam["identity"] == "open":
            self.tech.post(f"/api/exams/{journey.id}/verify", {"reason": "演练:与登记核对,为同一患者"})
            until = time.monotonic() + 30
            while journey.exam["state"] != "to_read" or journey.exam["identity"] == "open":
                if time.monotonic() > until:
                    raise Failed(f"verified, but the exam is {journey.exam['state']}")
                time.sleep(0.2)
                journey.exam = self.tech.get(f"/api/exams/{journey.id}")
            return 1
        if journey.exam["state"] != "to_read":
            raise Failed(f"the exam is {journey.exam['state']}")
        return 0

    def _queue_rows(self) -> dict[str, dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        after: str | None = ""
        while after is not None:
            page = self.reader.get("/api/queue", after=after, limit=200)
            rows |= {row["id"]: row for row in page["exams"]}
            after = page["after"]
        return rows

    def _previews(self, journey: Journey) -> None:
        until = time.monotonic() + 120
        while True:
            found = self.doctor.get(f"/api/exams/{journey.id}/images")
            studies = [one for one in found["studies"] if one["uid"] == journey.case.study_uid]
            if studies and studies[0]["prepared"]:
                break
            if time.monotonic() > until:
                raise Failed("no previews within 120 s")
            time.sleep(0.2)
        pictures = 0
        for series in studies[0]["series"]:
            if series["preview_url"]:
                answer = self.doctor.request("GET", series["preview_url"])
                if not answer.headers["content-type"].startswith("image/") or len(answer.content) < 300:
                    raise Failed(f"the preview of series {series['uid']} is no picture")
                pictures += 1
        if pictures == 0:
            raise Failed("no series has a preview")
        self.note(f"{pictures} pictures")

    # --- the viewer -----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        with self.step("the viewer finds study, series and metadata"):
            for journey in self.each():
                self._find(journey)
        with self.step("the viewer's pixels are those that were sent"):
            compared, undecodable = 0, 0
            for journey in self.each():
                images = [image for image in self._here(journey) if image.frames]
                for image in images[:: max(1, len(images) // SAMPLES)][:SAMPLES] if len(images) > 8 else images:
                    same = self._compare(journey, image)
                    compared, undecodable = compared + (same is True), undecodable + (same is None)
            self.note(f"{compared} frames equal to what pydicom decodes")
            if undecodable:
                self.note(f"{undecodable} that cannot be decoded are handed on as they came")

    def _here(self, journey: Journey) -> list[Image]:
        stored = {row["sop_uid"] for row in self._batch(journey).files if row["state"] in ("stored", "known")}
        return [image for image in journey.case.images if image.sop_uid in stored]

    def _json(self, client: Client, path: str, **params: str) -> list[dict[str, Any]]:
        response = client.request("GET", path, params=params, headers={"Accept": DICOM_JSON})
        found: list[dict[str, Any]] = response.json() if response.status_code == 200 else []
        return found

    def _find(self, journey: Journey) -> None:
        study = journey.case.study_uid
        found = self._json(self.reader, "/viewer/dicomweb/studies", StudyInstanceUID=study)
        if [_value(row, "0020000D") for row in found] != [study]:
            raise Failed(f"QIDO-RS finds {len(found)} studies")
        series = self._json(self.reader, f"/viewer/dicomweb/studies/{study}/series")
        here = self._here(journey)
        if {_value(row, "0020000E") for row in series} < {image.series_uid for image in here}:
            raise Failed("QIDO-RS does not name all series")
        instances: set[str] = set()
        for row in series:
            path = f"/viewer/dicomweb/studies/{study}/series/{_value(row, '0020000E')}/metadata"
            instances |= {str(_value(one, "00080018")) for one in self._json(self.reader, path)}
        if not instances >= {image.sop_uid for image in here}:
            raise Failed("the metadata do not name all instances")

    def _compare(self, journey: Journey, image: Image) -> bool | None:
        """Whether the first frame is what was sent; None where neither side can decode it."""
        sent = image.dataset()
        path = (
            f"/viewer/dicomweb/studies/{journey.case.study_uid}/series/{image.series_uid}"
            f"/instances/{image.sop_uid}/frames/1"
        )
        response = self.reader.request("GET", path, headers={"Accept": FRAMES})
        data, kind = _part(response)
        syntax = re.search(r"transfer-syntax=\"?([0-9.]+)", kind)
        ours = _decoded(sent)
        if ours is None:
            return None if data else False
        theirs = codecs.decode_frame(
            data, **codecs.frame_parameters(sent, syntax[1] if syntax else "1.2.840.10008.1.2.1")
        )
        if not np.array_equal(ours, theirs):
            raise Failed(f"the pixels of {image.path} differ")
        return True

    # --- reading and signing --------------------------------------------------------------------------------------

    def _read(self) -> None:
        with self.step("the radiologist opens the exams; nobody else can"):
            for journey in self.each():
                journey.lease = self.reader.post(f"/api/exams/{journey.id}/claim")["lease"]
                try:
                    self.reviewer.post(f"/api/exams/{journey.id}/claim")
                except Refused as error:
                    if error.status != 409:
                        raise
                else:
                    raise Failed("a second radiologist could open it as well")
        with self.step("he writes, and what he typed is kept as he goes"):
            for journey in self.each():
                text = report_text(journey.exam)
                saved = self._save(journey, text | {"impression": ""}, 0)
                journey.version = self._save(journey, text, saved["revision"])
                kept = self.reader.get(f"/api/exams/{journey.id}/reports")["versions"][0]
                if kept["findings"] != text["findings"] or kept["impression"] != text["impression"]:
                    raise Failed("the draft is not what was typed")
                held = self.reader.post(f"/api/exams/{journey.id}/lease", {"lease": journey.lease, "active": True})
                if not held["held"]:
                    raise Failed("the lease was lost")
        with self.step("he submits"):
            for journey in self.each():
                body = {"lease": journey.lease, "revision": journey.version["revision"]}
                journey.version = self._leaves(self.reader, f"/api/exams/{journey.id}/submit", body)

    def _save(self, journey: Journey, text: dict[str, Any], revision: int) -> dict[str, Any]:
        body = text | {"lease": journey.lease, "revision": revision}
        found: dict[str, Any] = self.reader.put(f"/api/exams/{journey.id}/report", body)
        return found

    def _sign(self) -> None:
        with self.step("the reviewer opens them"):
            for journey in self.each():
                journey.lease = self.reviewer.post(f"/api/exams/{journey.id}/claim")["lease"]
                journey.version = self.reviewer.get(f"/api/reports/{journey.version['version_id']}")
        with self.step("he unlocks his certificate with his PIN"):
            try:
                self._signature(self.journeys[0])
            except Refused as error:
                if error.status not in (401, 403, 423):
                    raise
            else:
                raise Failed("a report could be signed without the PIN")
            until = self.reviewer.post("/api/signing/unlock", {"pin": self._login("reviewer").pin})["until"]
            self.note(f"open until {until}")
        with self.step("he signs, one by one"):
            for journey in self.each():
                journey.signed = self._signature(journey)
            self.note(", ".join(j.signed["number"] for j in self.journeys))

    def _signature(self, journey: Journey) -> dict[str, Any]:
        version = journey.version
        body = {"lease": journey.lease, "revision": version["revision"], "content_hash": version["content_hash"]}
        return self._leaves(self.reviewer, f"/api/reports/{version['version_id']}/sign", body, again=True)

    def _leaves(self, who: Client, path: str, body: dict[str, Any], *, again: bool = False) -> dict[str, Any]:
        """Submit or sign. Its words fit no image in particular: what the checks ask about them is answered."""
        try:
            found: dict[str, Any] = who.post(path, body, again=again)
        except Refused as error:
            if error.code != "checks":
                raise
            answers = [
                {"fingerprint": one["fingerprint"], "why": "other", "reason": "演练报告"}
                for one in error.body["checks"]
            ]
            found = who.post(path, body | {"answers": answers}, again=again)
        return found

    def _return(self) -> None:
        with self.step("the reports appear at the clinic without reloading"):
            for journey in self.each():
                version = journey.signed["version_id"]

                def comes(event: dict[str, Any], version: str = version) -> bool:
                    data = event["data"]
                    return bool(
                        event["topic"] == "report"
                        and data.get("version_id") == version
                        and data.get("event") == "delivered"
                    )

                if self.at_inbox.wait(comes, 60) is None:
                    raise Failed("no event came within 60 s")
            rows = {row["version_id"]: row for row in self.doctor.get("/api/inbox", limit=200)["reports"]}
            for journey in self.each():
                journey.delivery = rows.get(journey.signed["version_id"], {})
                if journey.delivery.get("state") != "delivered":
                    raise Failed(f"the inbox shows it as {journey.delivery.get('state', 'missing')}")
        with self.step("the clinic opens them: seen"):
            for number, journey in enumerate(self.each(), 1):
                journey.pdf = self.doctor.request("GET", journey.delivery["pdf"]).content
                exam = self.doctor.get(f"/api/exams/{journey.id}")
                if exam["state"] != "seen" or not exam["clocks"]["seen_at"]:
                    raise Failed(f"opened, but the exam is {exam['state']}")
                name = f"report-{number:02}.pdf"
                (self.out / name).write_bytes(journey.pdf)
                self.result.reports.append({"study": journey.case.study_uid, "pdf": name, "sr": ""})

    # --- what came home -------------------------------------------------------------------------------------------

    def _check_pdf(self) -> None:
        step = self.step("the public page calls the signatures valid, and a changed byte not", needed=False)
        with step, Client(self.url) as anybody:
            for journey in self.each():
                found = anybody.get(f"/api/verify/{journey.signed['verification_code']}")
                if found["verdict"] != "valid":
                    raise Failed(f"by code: {found['verdict']}")
                if self._verdict(anybody, journey.pdf) != "valid":
                    raise Failed("the saved file is not the one that was issued")
            changed = bytearray(self.journeys[0].pdf)
            changed[len(changed) // 3] ^= 1
            verdict = self._verdict(anybody, bytes(changed))
            if verdict in ("valid", "superseded"):
                raise Failed("a file with a changed byte passes")
            self.note(f"changed file: {verdict}")
        tool = shutil.which("pdfsig")
        if tool:
            with self.step("pdfsig calls the signatures valid", needed=False):
                for name in (report["pdf"] for report in self.result.reports):
                    said = subprocess.run(
                        [tool, str(self.out / name)], capture_output=True, text=True, check=False, timeout=60
                    ).stdout
                    if "Signature is Valid" not in said:
                        raise Failed(f"{name}: {' '.join(said.split())[:200]}")

    def _verdict(self, anybody: Client, pdf: bytes) -> str:
        files = {"file": ("report.pdf", pdf, "application/pdf")}
        return str(anybody.request("POST", "/api/verify", files=files).json()["verdict"])

    def _check_objects(self) -> None:
        with self.step("the SR and the PDF are instances of the study; the SR says what was written", needed=False):
            for number, journey in enumerate(self.each(), 1):
                sr = self._object(journey, "SR")
                name = f"report-{number:02}-sr.dcm"
                (self.out / name).write_bytes(sr)
                self.result.reports[number - 1]["sr"] = name
                self._compare_text(journey, pydicom.dcmread(self.out / name))
                wrapped = pydicom.dcmread(pydicom.filebase.DicomBytesIO(self._object(journey, "DOC")))
                if bytes(wrapped.EncapsulatedDocument).rstrip(b"\0") != journey.pdf.rstrip(b"\0"):
                    raise Failed("the encapsulated PDF is not the signed one")

    def _object(self, journey: Journey, modality: str) -> bytes:
        """The hub's own instance of that modality in the study, once the worker has made it."""
        study, until = journey.case.study_uid, time.monotonic() + 60
        sent = {image.series_uid for image in journey.case.images}
        while True:
            series = self._json(self.reader, f"/viewer/dicomweb/studies/{study}/series")
            found = [
                str(_value(row, "0020000E"))
                for row in series
                if _value(row, "00080060") == modality and _value(row, "0020000E") not in sent
            ]
            if found:
                break
            if time.monotonic() > until:
                raise Failed(f"no {modality} within 60 s")
            time.sleep(0.3)
        base = f"/viewer/dicomweb/studies/{study}/series/{found[-1]}"
        instance = _value(self._json(self.reader, f"{base}/metadata")[-1], "00080018")
        door = base.removeprefix("/viewer")
        return _part(self.reader.request("GET", f"{door}/instances/{instance}", headers={"Accept": DICOM}))[0]

    def _compare_text(self, journey: Journey, sr: Dataset) -> None:
        texts = "\n".join(_texts(sr))
        for name in ("findings", "impression", "recommendation"):
            words = journey.version[name]
            if words and words not in texts:
                raise Failed(f"the SR's {name} are not those that were signed")
        if str(sr.StudyInstanceUID) != journey.case.study_uid:
            raise Failed("the SR belongs to another study")

    def _administer(self) -> None:
        with self.step("the administrator sees how long each waited for what", needed=False):
            for journey in self.each():
                line = self._line(journey)
                missing = [name for name in ("wait", "read", "review", "return") if line["seconds"].get(name) is None]
                if missing:
                    raise Failed(f"no time for {missing}: {line['seconds']}")
            self.note(", ".join(f"{k} {v:.1f} s" for k, v in line["seconds"].items() if v is not None))
            csv = self.admin.request("GET", "/api/turnaround/export.csv").text
            if any(j.exam["accession"] not in csv for j in self.journeys):
                raise Failed("the export does not name the exam")
        with self.step("the audit log says who looked and who signed", needed=False):
            for journey in self.each():
                rows = self.admin.get("/api/admin/audit", object_id=journey.signed["version_id"], limit=200)["entries"]
                actions = {row["action"] for row in rows}
                if not actions >= {"report.sign", "report.deliver", "report.see"}:
                    raise Failed(f"it names only {sorted(actions)}")

    def _line(self, journey: Journey) -> dict[str, Any]:
        page, pages = 1, 1
        while page <= pages:
            found = self.admin.get("/api/turnaround/exams", page=page, size=500, clinic=journey.exam["org_id"])
            for line in found["exams"]:
                if line["id"] == journey.id:
                    return dict(line)
            page, pages = page + 1, found["pages"]
        raise Failed("the turnaround page does not know the exam")


def report_text(exam: dict[str, Any]) -> dict[str, Any]:
    """A report for a rehearsal, with characters that are rare in names and absent from GB2312."""
    return {
        "technique": "按常规方案扫描或摄片。",
        "comparison": "无可比较的既往检查。",
        "findings": "演练报告,不用于诊疗。\n所示结构大致正常,未见明确异常密度及占位。\n"
        "用字核对:喆、珺、堃、赟、祎,Müller,≥5 mm。",
        "impression": f"演练:{exam['accession']} 未见明显异常。",
        "recommendation": "结合临床,必要时复查。",
        "positive": False,
    }


def _value(row: dict[str, Any], tag: str) -> Any:
    values = row.get(tag, {}).get("Value") or [None]
    return values[0]


def _part(response: httpx.Response) -> tuple[bytes, str]:
    """The first body part of a multipart answer (or the single part) with its Content-Type."""
    kind = response.headers.get("content-type", "")
    if not kind.startswith("multipart/"):
        return response.content, kind
    boundary = re.search(r'boundary="?([^";]+)', kind)
    if boundary is None:
        raise Failed("a multipart answer without a boundary")
    mark = b"--" + boundary[1].encode()
    body = response.content
    start = body.index(mark) + len(mark) + 2
    head, _gap, rest = body[start:].partition(b"\r\n\r\n")
    headers = message_from_bytes(head + b"\r\n\r\n", policy=policy.HTTP)
    end = rest.rindex(b"\r\n" + mark)
    first = rest.find(b"\r\n" + mark)
    return rest[: first if first >= 0 else end], str(headers.get("content-type", ""))


def _decoded(dataset: Dataset) -> Any:
    """The first frame as pydicom decodes it; colour and what pydicom alone cannot read as the hub's codecs do."""
    try:
        if int(dataset.get("SamplesPerPixel") or 1) == 1:
            return pydicom.pixels.pixel_array(dataset, index=0, raw=True)
        return codecs.frame_of(dataset)
    except Exception:  # any decoder's own error: then the image cannot be decoded here
        try:
            return codecs.frame_of(dataset)
        except codecs.FrameError:
            return None


def _texts(dataset: Dataset) -> Iterator[str]:
    for item in dataset.get("ContentSequence") or []:
        if "TextValue" in item:
            yield str(item.TextValue).replace("\r\n", "\n")
        yield from _texts(item)
