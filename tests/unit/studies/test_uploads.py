"""Batches: what is declared, known, refused, reconciled; what goes on to the exam."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams import registration
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, NotFound
from hub.kit.ids import new_uid
from hub.kit.jobs import Job
from hub.kit.objects import object_store
from hub.studies import completeness, trash, uploads, verifying
from hub.studies.models import Instance, Study, UploadFile
from storage.keys import new_key
from support.clinic_files import dicom_file, form, form_values

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

BODY = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}


def folder(count: int, **more: Any) -> dict[str, bytes]:
    study, series = new_uid(), new_uid()
    return {f"CT/IM{n:03}": dicom_file(study=study, series=series, number=n, **more) for n in range(count)}


def upload(client: TestClient, files: dict[str, bytes], *, only: int | None = None, **more: Any) -> dict[str, Any]:
    body = {"files": [{"path": path, "size": len(data)} for path, data in files.items()], **more}
    batch = client.post("/api/uploads", json=body).json()
    for at, (row, data) in enumerate(zip(batch["files"], files.values(), strict=True)):
        if row["state"] == "receiving" and (only is None or at < only):
            assert client.patch(row["url"], content=data, headers=BODY).status_code == 204
    return dict(batch)


def exam_of(client: TestClient, **changes: Any) -> dict[str, Any]:
    return dict(client.post("/api/exams", json=form_values(**changes)).json())


@pytest.fixture
def client(world: World) -> TestClient:
    return world.client("technologist")


def settle(exam_id: str) -> Exam:
    with database().writing() as session:
        completeness.settle(session, SYSTEM, exam_id)
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        session.expunge_all()
        return exam


def test_a_whole_folder_becomes_a_complete_exam(client: TestClient) -> None:
    exam = exam_of(client)
    batch = upload(client, folder(4), exam_id=exam["id"])
    closed = client.post(f"/api/uploads/{batch['id']}/close", json={})
    assert closed.status_code == 200
    assert closed.json()["state"] == "closed"
    assert closed.json()["counts"]["stored"] == 4
    found = settle(exam["id"])
    assert (found.state, found.declared_count, found.received_count) == ("to_read", 4, 4)
    assert found.identity == "noted"


def test_a_shortfall_asks_for_a_click(client: TestClient) -> None:
    exam = exam_of(client)
    batch = upload(client, folder(4), only=3, exam_id=exam["id"])
    answer = client.post(f"/api/uploads/{batch['id']}/close", json={})
    assert answer.status_code == 409
    assert (answer.json()["code"], answer.json()["shortfall"]) == ("shortfall", 1)
    assert settle(exam["id"]).state == "receiving"
    confirmed = client.post(f"/api/uploads/{batch['id']}/close", json={"confirm_short": True}).json()
    assert (confirmed["state"], confirmed["shortfall"]) == ("short", 1)
    later = datetime.now(UTC) + timedelta(minutes=5)
    clock.set_source(lambda: later)
    assert settle(exam["id"]).state == "to_read"


def test_the_folder_dropped_again_goes_on_where_it_stopped(client: TestClient) -> None:
    exam, files = exam_of(client), folder(4)
    batch = upload(client, files, only=2, exam_id=exam["id"])
    again = upload(client, files, batch_id=batch["id"])
    assert again["id"] == batch["id"]
    assert [row["state"] for row in again["files"]] == ["stored", "stored", "receiving", "receiving"]
    assert client.post(f"/api/uploads/{batch['id']}/close", json={}).json()["counts"]["stored"] == 4


def test_a_second_batch_of_the_same_folder_is_counted_once(client: TestClient) -> None:
    exam, files = exam_of(client), folder(3)
    upload(client, files, only=1, exam_id=exam["id"])
    second = upload(client, files, exam_id=exam["id"])
    client.post(f"/api/uploads/{second['id']}/close", json={})
    with database().reading() as session:
        assert session.get_one(Exam, exam["id"]).declared_count == 3


def test_known_files_are_not_sent_again_and_others_are_never_told(world: World, client: TestClient) -> None:
    files = folder(2)
    upload(client, files)
    hashes = {path: hashlib.sha256(data).hexdigest() for path, data in files.items()}
    body = {"files": [{"path": path, "size": len(files[path]), "sha256": sha} for path, sha in hashes.items()]}
    again = client.post("/api/uploads", json=body).json()
    assert [row["state"] for row in again["files"]] == ["known", "known"]
    other = world.client("technologist.c02").post("/api/uploads", json=body).json()
    assert [row["state"] for row in other["files"]] == ["receiving", "receiving"]


def test_known_files_sent_for_an_exam_are_linked_to_it(client: TestClient) -> None:
    files = folder(2)
    first = upload(client, files)
    exam = exam_of(client)
    batch = client.post(
        "/api/uploads",
        json={"exam_id": exam["id"], "files": [{"path": path, "size": len(data)} for path, data in files.items()]},
    ).json()
    assert first["id"] != batch["id"]
    rows = {
        row["id"]: hashlib.sha256(data).hexdigest() for row, data in zip(batch["files"], files.values(), strict=True)
    }
    assert len(client.post(f"/api/uploads/{batch['id']}/known", json={"files": rows}).json()["known"]) == 2
    closed = client.post(f"/api/uploads/{batch['id']}/close", json={}).json()
    assert exam["id"] in [item["id"] for item in closed["exams"]]
    assert client.get(f"/api/exams/{exam['id']}").json()["received_count"] == 2


def test_what_is_no_image_is_ignored_with_a_reason(client: TestClient) -> None:
    names = ["CD/DICOMDIR", "CD/Thumbs.db", "__MACOSX/CD/._IM1", "CD/viewer.exe"]
    files = [{"path": name, "size": 10, "dicom": not name.endswith("exe")} for name in names]
    batch = client.post("/api/uploads", json={"files": [*files, {"path": "CD/empty", "size": 0}]}).json()
    assert [row["state"] for row in batch["files"]] == ["ignored"] * 4 + ["refused"]
    assert all(row["reason"] for row in batch["files"])
    assert batch["counts"]["images"] == 1


def test_images_first_make_an_exam_whose_registration_is_completed(client: TestClient) -> None:
    batch = upload(client, folder(2, name="LIU^YANG", patient_id="77", sex="M", birth="19700101"))
    closed = client.post(f"/api/uploads/{batch['id']}/close", json={}).json()
    exam_id = closed["exams"][0]["id"]
    assert closed["exams"][0]["incomplete"] == ["registration"]
    assert settle(exam_id).state == "to_verify"
    page = client.get(f"/clinic/exams/{exam_id}/register", headers={"Accept": "text/html"})
    assert "LIU YANG" in page.text
    assert 'value="77"' in page.text
    changes = {
        "name": "刘洋",
        "history": "咳嗽",
        "doctor": "李明",
        "doctor_phone": "13900001234",
        "body_parts": ["chest"],
    }
    done = client.patch(f"/api/exams/{exam_id}", json=changes)
    assert done.status_code == 200, done.text
    assert done.json()["incomplete"] == []
    assert settle(exam_id).state == "to_read"


def test_a_disagreement_waits_and_a_person_decides(world: World, client: TestClient) -> None:
    exam = exam_of(client)
    batch = upload(client, folder(2, name="LI^NA", sex="F"), exam_id=exam["id"])
    client.post(f"/api/uploads/{batch['id']}/close", json={})
    found = settle(exam["id"])
    assert (found.state, found.identity) == ("to_verify", "open")
    page = client.get("/verify-identity", headers={"Accept": "text/html"}).text
    assert "LI NA" in page
    assert "王伟" in page
    assert exam["id"] not in world.client("technologist.c02").get("/verify-identity").text
    assert client.post(f"/api/exams/{exam['id']}/verify", json={"reason": " "}).status_code == 422
    assert (
        world.client("technologist.c02").post(f"/api/exams/{exam['id']}/verify", json={"reason": "x"}).status_code
        == 404
    )
    done = world.client("quality").post(f"/api/exams/{exam['id']}/verify", json={"reason": "电话核实"})
    assert done.status_code == 200, done.text
    assert (done.json()["state"], done.json()["identity"]) == ("to_read", "verified")
    assert done.json()["clocks"]["due_at"]


def test_an_emergency_enters_the_queue_and_is_verified_there(client: TestClient) -> None:
    exam = exam_of(client, priority="emergency", encounter="emergency")
    batch = upload(client, folder(1, name="LI^NA"), exam_id=exam["id"])
    client.post(f"/api/uploads/{batch['id']}/close", json={})
    found = settle(exam["id"])
    assert (found.state, found.identity) == ("to_read", "open")
    done = client.post(f"/api/exams/{exam['id']}/verify", json={"reason": "当面确认"}).json()
    assert (done["state"], done["identity"]) == ("to_read", "verified")
    assert client.post(f"/api/exams/{exam['id']}/verify", json={"reason": "again"}).status_code == 409


def test_wrong_images_are_moved_and_the_exam_waits_again(client: TestClient) -> None:
    exam, other = exam_of(client), exam_of(client, name="李娜", sex="F", number="P2")
    batch = upload(client, folder(2, name="LI^NA", sex="F", patient_id="P2"), exam_id=exam["id"])
    client.post(f"/api/uploads/{batch['id']}/close", json={})
    assert settle(exam["id"]).state == "to_verify"
    with database().reading() as session:
        study = verifying.studies_of(session, exam["id"])[0].id
    url = f"/api/exams/{exam['id']}/studies/{study}/move"
    assert client.post(url, json={"reason": ""}).status_code == 422
    moved = client.post(url, json={"to_exam_id": other["id"], "reason": "选错了检查"})
    assert moved.status_code == 200, moved.text
    assert moved.json()["id"] == other["id"]
    assert settle(other["id"]).received_count == 2
    with database().reading() as session:
        left = session.get_one(Exam, exam["id"])
        assert (left.state, left.received_count, left.first_image_at) == ("registered", 0, None)


def test_wrong_images_may_become_an_exam_of_their_own(client: TestClient) -> None:
    exam = exam_of(client)
    batch = upload(client, folder(1, name="SUN^LI", sex="F", patient_id="55"), exam_id=exam["id"])
    client.post(f"/api/uploads/{batch['id']}/close", json={})
    settle(exam["id"])
    with database().reading() as session:
        study = verifying.studies_of(session, exam["id"])[0].id
    made = client.post(f"/api/exams/{exam['id']}/studies/{study}/move", json={"reason": "不是本人"}).json()
    assert made["id"] != exam["id"]
    assert (made["source"], made["incomplete"], made["patient"]["name"]) == ("images", ["registration"], "SUN LI")


def test_correcting_the_registration_lets_the_exam_go_on(client: TestClient) -> None:
    exam = exam_of(client, name="王炜")
    batch = upload(client, folder(1, name="王伟"), exam_id=exam["id"])
    client.post(f"/api/uploads/{batch['id']}/close", json={})
    assert settle(exam["id"]).state == "to_verify"
    assert client.patch(f"/api/exams/{exam['id']}", json={"name": "王伟"}).status_code == 200
    assert settle(exam["id"]).state == "to_read"


def test_stale_uploads_expire(client: TestClient) -> None:
    batch = upload(client, folder(2), only=0)
    client.patch(batch["files"][0]["url"], content=b"x" * 20, headers=BODY)
    assert uploads.part_path(batch["files"][0]["id"]).exists()
    later = datetime.now(UTC) + timedelta(hours=80)
    clock.set_source(lambda: later)
    assert uploads.expire() == 2
    assert not list(uploads.staging().glob("*.part"))
    clock.set_source(None)
    found = client.get(f"/api/uploads/{batch['id']}?files=refused").json()
    assert found["state"] == "expired"
    assert {row["code"] for row in found["files"]} == {"expired"}


def test_jobs_of_received_files_are_asked_for_again(world: World, client: TestClient) -> None:
    batch = upload(client, folder(1), only=0)
    with database().writing() as session:
        row = session.get_one(UploadFile, batch["files"][0]["id"])
        row.state = uploads.RECEIVED
    later = datetime.now(UTC) + timedelta(hours=1)
    clock.set_source(lambda: later)
    uploads.expire()
    with database().reading() as session:
        assert session.query(Job).filter_by(kind="uploads.ingest").count() == 1
    clock.set_source(None)
    # Its bytes are gone: it is asked for anew rather than lost.
    uploads.ingest_file(batch["files"][0]["id"])
    assert client.head(batch["files"][0]["url"]).headers["Upload-Offset"] == "0"


def test_parallel_senders_are_all_counted(world: World) -> None:
    client = world.client("technologist")
    exam, files = exam_of(client), folder(12)
    body = {"exam_id": exam["id"], "files": [{"path": path, "size": len(data)} for path, data in files.items()]}
    batch = client.post("/api/uploads", json=body).json()
    work = list(zip(batch["files"], files.values(), strict=True))
    clients = [world.client("technologist") for _ in range(3)]

    def go(one: TestClient, start: int) -> None:
        for row, data in work[start::3]:
            assert one.patch(row["url"], content=data, headers=BODY).headers["X-Upload-State"] == "stored"

    threads = [threading.Thread(target=go, args=(one, at)) for at, one in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    closed = client.post(f"/api/uploads/{batch['id']}/close", json={}).json()
    assert closed["counts"]["stored"] == 12
    assert client.get(f"/api/exams/{exam['id']}").json()["received_count"] == 12


def test_a_batch_is_its_clinics_own(world: World, client: TestClient) -> None:
    batch = upload(client, folder(1), only=0)
    other = world.client("technologist.c02")
    for answer in (
        other.get(f"/api/uploads/{batch['id']}"),
        other.post(f"/api/uploads/{batch['id']}/close", json={}),
        other.post("/api/uploads", json={"batch_id": batch["id"], "files": []}),
        other.delete(batch["files"][0]["url"]),
    ):
        assert answer.status_code == 404
    with pytest.raises(NotFound), database().reading() as session:
        uploads.get_batch(session, world.actor("technologist.c02"), batch["id"])


def test_what_another_clinic_sends_of_the_same_study_stays_its_own(world: World, client: TestClient) -> None:
    study = new_uid()
    first = {"CT/A": dicom_file(study=study)}
    exam_id = client.post(f"/api/uploads/{upload(client, first)['id']}/close", json={}).json()["exams"][0]["id"]
    theirs = world.client("technologist.c02")
    batch = upload(theirs, {"张三丰的片子.dcm": dicom_file(study=study, number=2)})
    assert theirs.get(f"/api/uploads/{batch['id']}?files=all").json()["files"][0]["state"] == "refused"
    assert upload(client, {"OWN.dcm": dicom_file(study=study, patient_id="P9", name="LI^SI")})
    page = client.get(f"/clinic/exams/{exam_id}", headers={"Accept": "text/html"}).text
    assert "OWN.dcm" in page
    assert "张三丰" not in page


def test_a_preview_is_not_looked_at_unrecorded(world: World, client: TestClient) -> None:
    batch = upload(client, {"CT/A": dicom_file()})
    exam_id = client.post(f"/api/uploads/{batch['id']}/close", json={}).json()["exams"][0]["id"]
    with database().writing() as session:
        row = session.scalars(select(Instance)).one()
        row.preview_key = new_key("previews")
        object_store().put(row.preview_key, b"jpeg", size=4, sha256=hashlib.sha256(b"jpeg").hexdigest())
        address = f"/clinic/exams/{exam_id}/pictures/image/{row.id}"
    looking = world.client("clinician")
    for _again in range(2):
        shown = looking.get(address)
        assert shown.content == b"jpeg"
    looking.get(f"/clinic/exams/{exam_id}", headers={"Accept": "text/html"})
    assert shown.headers["cache-control"] == "private, no-cache", "the next person at this screen is asked for"
    assert looking.get(address, headers={"If-None-Match": shown.headers["etag"]}).status_code == 304
    with database().reading() as session:
        seen = session.scalars(select(AuditEntry).where(AuditEntry.action == "images.view")).all()
        assert [entry.actor_id for entry in seen] == [world.people["clinician"].id]


def test_pages_open_for_those_they_are_for(world: World, client: TestClient) -> None:
    with database().writing() as session:
        exam = registration.register(session, world.actor("technologist"), form())
    upload(client, folder(2), exam_id=exam.id)
    html = {"Accept": "text/html"}
    for path in (
        "/clinic",
        "/clinic/register",
        f"/clinic/upload?exam={exam.id}",
        "/clinic/inbox",
        f"/clinic/exams/{exam.id}",
    ):
        for locale in ("zh", "en"):
            client.cookies.set("hub_locale", locale)
            assert client.get(path, headers=html).status_code == 200, path
    assert world.client("technologist.c02").get(f"/clinic/exams/{exam.id}", headers=html).status_code == 404
    assert client.get(f"/clinic/exams/{exam.id}/pictures/image/nothing").status_code == 404
    with pytest.raises(Conflict), database().writing() as session:
        registration.verify(
            session, world.actor("technologist"), session.get_one(Exam, exam.id), reason="nothing to do"
        )


def test_a_known_file_in_the_trash_is_asked_for_again(client: TestClient, world: World) -> None:
    """Told by its hash, it would count as received and be purged with the trash."""
    files = folder(1)
    upload(client, files)
    with database().writing() as session:
        trash.put(session, world.actor("director"), session.scalars(select(Study.uid)).one(), "拍错病人")
    (data,) = files.values()
    body = {"files": [{"path": "CT/1", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}]}
    batch = client.post("/api/uploads", json=body).json()
    assert batch["files"][0]["state"] == "receiving"
    assert client.patch(batch["files"][0]["url"], content=data, headers=BODY).status_code == 204
    with database().reading() as session:
        assert session.scalars(select(Study.trashed_at)).one() is None
