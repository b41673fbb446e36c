"""tus 1.0 over HTTP: resuming, refusing, locking, and what is left after a kill -9."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from hub.kit.db import database
from hub.protocols.tus import receiver
from hub.studies import intake, uploads
from hub.studies.models import Instance, Quarantined, UploadFile
from support.clinic_files import dicom_file, form_values, zip_of
from support.running import free_port

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

TUS = {"Tus-Resumable": "1.0.0"}
BODY = {**TUS, "Content-Type": "application/offset+octet-stream"}


def meta(**values: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in values.items())


def declare(client: Any, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    body = {"files": [{"path": path, "size": len(data)} for path, data in files.items()], **more}
    answer = client.post("/api/uploads", json=body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def patch(client: Any, url: str, offset: int, data: bytes, **headers: str) -> Any:
    return client.patch(url, content=data, headers={**BODY, "Upload-Offset": str(offset), **headers})


def send(client: Any, files: dict[str, bytes], **more: Any) -> dict[str, Any]:
    """Declare and send everything, each file with one PATCH; the batch's state."""
    batch = declare(client, files, **more)
    for row, data in zip(batch["files"], files.values(), strict=True):
        if row["state"] == "receiving":
            assert patch(client, row["url"], 0, data).status_code == 204
    found = client.get(f"/api/uploads/{batch['id']}?files=all").json()
    return dict(found)


@pytest.fixture
def client(world: World) -> TestClient:
    return world.client("technologist")


def test_says_what_it_can(client: TestClient) -> None:
    answer = client.options("/api/tus")
    assert answer.status_code == 204
    assert answer.headers["Tus-Version"] == "1.0.0"
    assert "creation-with-upload" in answer.headers["Tus-Extension"]


def test_a_file_in_parts_is_stored_when_its_last_part_is_answered(client: TestClient) -> None:
    data = dicom_file()
    made = client.post(
        "/api/tus", headers={**TUS, "Upload-Length": str(len(data)), "Upload-Metadata": meta(filename="a.dcm")}
    )
    assert made.status_code == 201
    url = made.headers["Location"]
    assert patch(client, url, 0, data[:100]).headers["Upload-Offset"] == "100"
    assert client.head(url, headers=TUS).headers["Upload-Offset"] == "100"
    last = patch(client, url, 100, data[100:])
    assert last.status_code == 204
    assert last.headers["X-Upload-State"] == "stored"
    with database().reading() as session:
        instance = session.query(Instance).one()
        assert instance.file_sha256 == hashlib.sha256(data).hexdigest()
    assert not list(uploads.staging().glob("*.part"))
    # A sender whose answer was lost asks, and learns that all is here.
    again = client.head(url, headers=TUS)
    assert again.headers["Upload-Offset"] == again.headers["Upload-Length"] == str(len(data))


def test_creation_with_upload(client: TestClient) -> None:
    data = dicom_file()
    answer = client.post(
        "/api/tus",
        content=data,
        headers={**BODY, "Upload-Length": str(len(data)), "Upload-Metadata": meta(filename="a.dcm")},
    )
    assert answer.status_code == 201
    assert answer.headers["Upload-Offset"] == str(len(data))
    assert answer.headers["X-Upload-State"] == "stored"


def test_a_wrong_offset_changes_nothing(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    patch(client, row["url"], 0, data[:50])
    for offset in (0, 49, 51, len(data)):
        answer = patch(client, row["url"], offset, data[50:60])
        assert answer.status_code == 409
        assert answer.json()["offset"] == 50
    assert uploads.part_path(row["id"]).read_bytes() == data[:50]


def test_bytes_behind_the_recorded_offset_are_cut_off(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    patch(client, row["url"], 0, data[:50])
    with uploads.part_path(row["id"]).open("ab") as file:
        file.write(b"left by a killed process")
    assert client.head(row["url"], headers=TUS).headers["Upload-Offset"] == "50"
    assert patch(client, row["url"], 50, data[50:]).headers["X-Upload-State"] == "stored"


def test_bytes_that_the_disk_lost_are_asked_for_again(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    patch(client, row["url"], 0, data[:200])
    os.truncate(uploads.part_path(row["id"]), 120)
    assert client.head(row["url"], headers=TUS).headers["Upload-Offset"] == "120"
    assert patch(client, row["url"], 200, data[200:]).status_code == 409
    assert patch(client, row["url"], 120, data[120:]).headers["X-Upload-State"] == "stored"


def test_too_many_bytes_are_not_kept(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    assert patch(client, row["url"], 0, data + b"x").status_code == 413

    def endless() -> Iterator[bytes]:
        yield data[:10]
        yield data

    answer = client.patch(row["url"], content=endless(), headers={**BODY, "Upload-Offset": "0"})
    assert answer.status_code == 413
    assert client.head(row["url"], headers=TUS).headers["Upload-Offset"] == "0"
    assert patch(client, row["url"], 0, data).headers["X-Upload-State"] == "stored"


def test_checksum(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    good = base64.b64encode(hashlib.sha256(data[:64]).digest()).decode()
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    assert patch(client, row["url"], 0, data[:64], **{"Upload-Checksum": f"sha256 {wrong}"}).status_code == 460
    assert client.head(row["url"], headers=TUS).headers["Upload-Offset"] == "0"
    assert patch(client, row["url"], 0, data[:64], **{"Upload-Checksum": f"sha256 {good}"}).status_code == 204
    assert patch(client, row["url"], 64, data[64:], **{"Upload-Checksum": "crc9 AAAA"}).status_code == 422


def test_a_file_whose_declared_hash_is_another_is_sent_again(client: TestClient) -> None:
    data = dicom_file()
    batch = client.post("/api/uploads", json={"files": [{"path": "a", "size": len(data), "sha256": "0" * 64}]}).json()
    row = batch["files"][0]
    assert patch(client, row["url"], 0, data).status_code == 409
    assert client.head(row["url"], headers=TUS).headers["Upload-Offset"] == "0"


def test_an_unauthorised_part_writes_nothing(world: World, client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    assert patch(world.anonymous(), row["url"], 0, data).status_code == 401
    assert patch(world.client("clinician"), row["url"], 0, data).status_code == 403
    assert patch(world.client("technologist.c02"), row["url"], 0, data).status_code == 404
    assert world.client("technologist.c02").head(row["url"], headers=TUS).status_code == 404
    del client.headers["X-CSRF-Token"]
    assert patch(client, row["url"], 0, data).status_code == 403
    assert not uploads.part_path(row["id"]).exists()


def test_two_at_once_meet_a_lock(world: World, client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    part = receiver.Part(world.actor("technologist"), row["id"], 0)
    try:
        assert patch(client, row["url"], 0, data).status_code == 423
    finally:
        part.close()
    assert patch(client, row["url"], 0, data).headers["X-Upload-State"] == "stored"


def test_many_at_once_give_one_exact_file(world: World, client: TestClient) -> None:
    data = dicom_file(side=256)
    row = declare(client, {"a.dcm": data})["files"][0]
    clients = [world.client("technologist") for _ in range(4)]
    seen: list[int] = []

    def go(one: TestClient) -> None:
        for _ in range(3):
            seen.append(patch(one, row["url"], 0, data).status_code)

    threads = [threading.Thread(target=go, args=(one,)) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen.count(204) == 1
    assert set(seen) <= {204, 409, 423}
    with database().reading() as session:
        assert session.query(Instance).one().file_sha256 == hashlib.sha256(data).hexdigest()


def test_who_comes_between_the_bytes_and_the_row_meets_the_lock(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dicom_file(side=256)
    row = declare(client, {"a.dcm": data})["files"][0]
    other, seen = world.client("technologist"), list[int]()
    conclude = uploads._conclude

    def late(file_id: str, outcome: intake.Outcome) -> UploadFile:
        seen.append(patch(other, row["url"], 0, data).status_code)
        return conclude(file_id, outcome)

    monkeypatch.setattr(uploads, "_conclude", late)
    assert patch(client, row["url"], 0, data).status_code == 204
    assert seen == [423]
    assert patch(other, row["url"], 0, data).status_code == 409
    assert not list(uploads.staging().iterdir())


def test_termination(client: TestClient) -> None:
    data = dicom_file()
    row = declare(client, {"a.dcm": data})["files"][0]
    patch(client, row["url"], 0, data[:10])
    assert client.delete(row["url"], headers=TUS).status_code == 204
    assert client.head(row["url"], headers=TUS).status_code == 404
    assert not uploads.part_path(row["id"]).exists()


def test_hostile_names_are_labels_only(client: TestClient, hub_env: Path) -> None:
    data = dicom_file()
    names = [
        "../../../etc/passwd",
        "C:\\windows\\..\\x.dcm",
        "/abs/olute",
        "a\x00b\x1b[31m",
        "\u202egpj.exe",
        "..",
        "..//..",
    ]
    before = {path for path in hub_env.parent.rglob("*") if "objects" not in path.parts}
    batch = declare(client, dict.fromkeys(names, data))
    assert [row["path"] for row in batch["files"]] == [
        "etc/passwd", "windows/x.dcm", "abs/olute", "ab[31m", "gpj.exe", "?", "? (2)",
    ]  # fmt: skip
    for row in batch["files"]:
        patch(client, row["url"], 0, data[:20])
    made = {path for path in hub_env.parent.rglob("*") if "objects" not in path.parts} - before
    assert all(path.name.endswith((".part", ".lock", "-wal", "-shm", ".sqlite", "uploads")) for path in made), made
    assert client.get("/api/tus/..%2F..%2Fhub.sqlite").status_code in (404, 405)


def test_absurd_sizes_are_refused_at_once(client: TestClient) -> None:
    huge = 10 * 2**40
    answer = client.post("/api/tus", headers={**TUS, "Upload-Length": str(huge), "Upload-Metadata": meta(filename="a")})
    assert answer.status_code == 413
    for length in ("-1", "1e3", "99999999999999999999", ""):
        assert client.post("/api/tus", headers={**TUS, "Upload-Length": length}).status_code == 422
    batch = client.post("/api/uploads", json={"files": [{"path": "a", "size": huge}]}).json()
    assert batch["files"][0]["state"] == "refused"
    assert batch["files"][0]["code"] == "too-large"


def test_a_full_disk_is_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "room", lambda: 100)
    answer = client.post("/api/uploads", json={"files": [{"path": "a", "size": 500}]})
    assert answer.status_code == 503
    assert answer.json()["code"] == "disk-full"


def test_another_clinics_exam_is_refused(world: World, client: TestClient) -> None:
    other = world.client("technologist.c02").post("/api/exams", json=form_values()).json()
    answer = client.post("/api/uploads", json={"exam_id": other["id"], "files": [{"path": "a", "size": 5}]})
    assert answer.status_code == 404
    assert answer.json()["code"] == "wrong-exam"


def test_refused_files_say_why_and_lie_in_quarantine(client: TestClient) -> None:
    found = send(client, {"notes.txt": b"hello, no image at all " * 20, "cut.dcm": dicom_file()[:400]})
    assert [row["state"] for row in found["files"]] == ["refused", "refused"]
    assert all(row["reason"] and "{" not in row["reason"] for row in found["files"])
    # The text was no image: only the cut one is missing.
    assert found["shortfall"] == 1
    with database().reading() as session:
        assert session.query(Quarantined).count() == 2


def test_zip_members_become_rows(client: TestClient) -> None:
    study = "1.2.826.0.1.3680043.8.498.77"
    archive = zip_of(
        {
            "CD/DICOMDIR": b"x" * 300,
            "CD/IM1": dicom_file(study=study, number=1),
            "CD/IM2": dicom_file(study=study, number=2),
            "CD/../../evil": b"not an image " * 30,
        }
    )
    batch = declare(client, {"scan.zip": archive})
    row = batch["files"][0]
    assert patch(client, row["url"], 0, archive).headers["X-Upload-State"] == "received"
    assert client.post(f"/api/uploads/{batch['id']}/close", json={}).json()["code"] == "still-working"
    uploads.expand_file(row["id"])
    uploads.expand_file(row["id"])
    found = client.get(f"/api/uploads/{batch['id']}?files=all").json()
    states = {item["path"]: item["state"] for item in found["files"]}
    assert states == {
        "scan.zip": "expanded",
        "scan.zip!/CD/DICOMDIR": "ignored",
        "scan.zip!/CD/IM1": "stored",
        "scan.zip!/CD/IM2": "stored",
        "scan.zip!/CD/evil": "refused",
    }
    assert found["counts"]["images"] == 2
    assert client.post(f"/api/uploads/{batch['id']}/close", json={}).json()["state"] == "closed"


def test_a_broken_zip_is_kept_in_quarantine(client: TestClient) -> None:
    archive = zip_of({"a": b"x" * 1000})[:-30]
    batch = declare(client, {"scan.zip": archive})
    patch(client, batch["files"][0]["url"], 0, archive)
    uploads.expand_file(batch["files"][0]["id"])
    found = client.get(f"/api/uploads/{batch['id']}?files=refused").json()
    assert found["files"][0]["code"] == "zip-bad"
    assert found["shortfall"] == 1
    with database().reading() as session:
        assert session.query(Quarantined).one().object_key


def test_a_store_out_of_reach_loses_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.kit.errors import Unavailable
    from hub.studies import intake

    data = dicom_file()
    batch = declare(client, {"a.dcm": data})
    real = intake.ingest

    def fail(*args: Any, **more: Any) -> Any:
        raise Unavailable("no store")

    monkeypatch.setattr(uploads.intake, "ingest", fail)
    answer = patch(client, batch["files"][0]["url"], 0, data)
    assert answer.headers["X-Upload-State"] == "received"
    monkeypatch.setattr(uploads.intake, "ingest", real)
    uploads.ingest_file(batch["files"][0]["id"])
    assert client.get(f"/api/uploads/{batch['id']}").json()["counts"]["stored"] == 1


@pytest.fixture
def served(world: World, hub_env: Path) -> Iterator[Any]:
    """A function that starts the hub's web process on a port; the same port each time."""
    port = free_port()
    running: list[subprocess.Popen[bytes]] = []

    def start() -> tuple[subprocess.Popen[bytes], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "--factory", "hub.app:create_app", "--port", str(port)],
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        running.append(process)
        url = f"http://127.0.0.1:{port}"
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            try:
                httpx.get(f"{url}/api/session", timeout=5)
                return process, url
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the web process did not start")

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.slow
def test_kill_in_the_middle_of_a_part_then_resume_gives_the_exact_file(world: World, served: Any) -> None:
    """kill -9 while a part is streaming: what is resumed is the file, byte for byte, and no 204 was given before."""
    headers = {"Authorization": f"Bearer {world.key('C01', 'stow')}"}
    data = dicom_file(side=1448) + b""
    assert len(data) > 4_000_000
    process, url = served()
    made = httpx.post(
        f"{url}/api/tus",
        headers={**headers, **TUS, "Upload-Length": str(len(data)), "Upload-Metadata": meta(filename="big.dcm")},
        timeout=60,
    )
    where = url + made.headers["Location"]
    first = httpx.patch(where, content=data[:1_000_000], headers={**headers, **BODY, "Upload-Offset": "0"}, timeout=60)
    assert first.is_success
    for _ in range(2):
        started, killed = threading.Event(), threading.Event()

        def slowly(event: threading.Event = started, killed: threading.Event = killed) -> Iterator[bytes]:
            for at in range(1_000_000, len(data), 65536):
                yield data[at : at + 65536]
                if at > 2_200_000:
                    # The rest is never sent: whenever the kill comes, it comes in the middle.
                    event.set()
                    killed.wait(60)

        def run() -> None:
            with pytest.raises(httpx.TransportError):
                httpx.patch(
                    where, content=slowly(), headers={**headers, **BODY, "Upload-Offset": "1000000"}, timeout=60
                )

        thread = threading.Thread(target=run)
        thread.start()
        assert started.wait(60)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        killed.set()
        thread.join()
        process, url = served()
        offset = int(httpx.head(where, headers={**headers, **TUS}, timeout=60).headers["Upload-Offset"])
        assert offset == 1_000_000
    with database().reading() as session:
        assert session.query(Instance).count() == 0
        file_id = session.query(UploadFile).one().id
    assert uploads.part_path(file_id).stat().st_size >= 1_000_000
    answer = httpx.patch(
        where, content=data[1_000_000:], headers={**headers, **BODY, "Upload-Offset": "1000000"}, timeout=60
    )
    assert answer.status_code == 204
    assert answer.headers["X-Upload-State"] == "stored"
    with database().reading() as session:
        assert session.query(Instance).one().file_sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.slow
def test_a_lost_link_keeps_what_came(world: World, served: Any) -> None:
    headers = {"Authorization": f"Bearer {world.key('C01', 'stow')}"}
    data = secrets.token_bytes(3_000_000)
    _process, url = served()
    made = httpx.post(
        f"{url}/api/tus",
        headers={**headers, **TUS, "Upload-Length": str(len(data)), "Upload-Metadata": meta(filename="x")},
        timeout=60,
    )
    where = url + made.headers["Location"]

    def broken() -> Iterator[bytes]:
        yield data[:2_000_000]
        raise RuntimeError("the lid was closed")

    with pytest.raises(RuntimeError):
        httpx.patch(where, content=broken(), headers={**headers, **BODY, "Upload-Offset": "0"}, timeout=60)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        offset = int(httpx.head(where, headers={**headers, **TUS}, timeout=60).headers["Upload-Offset"])
        if offset:
            break
        time.sleep(0.1)
    assert 0 < offset <= 2_000_000
    with database().reading() as session:
        file_id = session.query(UploadFile).one().id
    assert uploads.part_path(file_id).read_bytes()[:offset] == data[:offset]
