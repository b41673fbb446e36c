"""The quarantine: seen by quality officers, downloaded under audit, released or discarded by a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from hub.audit.models import AuditEntry
from hub.dicom.errors import MESSAGES
from hub.kit.db import database
from hub.kit.i18n import get_catalogue
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.studies import intake, reasons
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Instance, Quarantined, Study
from hub.web import quality
from storage.errors import ObjectNotFound
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World


def take(world: World, file: bytes, org: str = "C01") -> Outcome:
    login = "technologist" if org == "C01" else "technologist.c02"
    return intake.ingest_many(
        world.actor(login), [Incoming(file, "<b>影像</b>.dcm")], org_id=world.orgs[org].id, source="web"
    )[0]


def conflicting(world: World) -> tuple[Outcome, bytes, str]:
    """A file of C02 whose study C01 has."""
    study = new_uid()
    first = take(world, dicom_file(study=study))
    file = dicom_file(study=study, patient_id=b"P9", name=b"LI^NA")
    return take(world, file, "C02"), file, first.study_id


def actions() -> list[str]:
    with database().reading() as session:
        return [one for one in session.scalars(select(AuditEntry.action)) if one.startswith("quarantine.")]


def test_the_quality_officer_sees_what_the_clinic_is_not_told(world: World) -> None:
    outcome, file, _study = conflicting(world)
    client = world.client("quality")
    listed = client.get("/api/quarantine").json()
    assert listed["total"] == 1
    (row,) = listed["items"]
    assert row["id"] == outcome.quarantine_id
    assert (row["code"], row["detail"]) == ("identifier-conflict", "study-of-other-organisation")
    assert (row["org_name"], row["size"], row["kept"]) == ("岭背镇卫生院", len(file), True)
    assert client.get(f"/api/quarantine/{row['id']}").json() == row
    assert client.get("/api/quarantine/nothing").status_code == 404
    for filters, total in (
        ({"org": world.orgs["C02"].id}, 1),
        ({"org": world.orgs["C01"].id}, 0),
        ({"code": "not-dicom"}, 0),
        ({"source": "web"}, 1),
    ):
        assert client.get("/api/quarantine", params=filters).json()["total"] == total


def test_the_original_bytes_are_taken_under_audit(world: World) -> None:
    outcome, file, _study = conflicting(world)
    answer = world.client("quality").get(f"/api/quarantine/{outcome.quarantine_id}/file")
    assert answer.content == file
    assert answer.headers["content-disposition"].startswith("attachment")
    assert sorted(actions()) == ["quarantine.download", "quarantine.keep"]


def test_release_takes_in_what_fits_now(world: World) -> None:
    outcome, file, study = conflicting(world)
    client = world.client("quality")
    still = client.post(f"/api/quarantine/{outcome.quarantine_id}/release")
    assert (still.status_code, still.json()["code"]) == (409, "identifier-conflict")
    with database().writing() as session:
        session.execute(update(Study).where(Study.id == study).values(uid=new_uid()))
    done = client.post(f"/api/quarantine/{outcome.quarantine_id}/release")
    assert done.status_code == 200, done.text
    assert done.json()["status"] == "stored"
    with database().reading() as session:
        instance = session.get_one(Instance, done.json()["instance_id"])
        assert instance.org_id == world.orgs["C02"].id
        row = session.get_one(Quarantined, outcome.quarantine_id)
        assert (row.decision, row.object_key) == ("released", "")
    assert object_store().read(instance.object_key) == file
    assert client.post(f"/api/quarantine/{outcome.quarantine_id}/release").status_code == 409
    assert client.get("/api/quarantine").json()["total"] == 0
    assert client.get("/api/quarantine?decided=true").json()["total"] == 1
    assert "quarantine.released" in actions()
    assert intake.sweep_orphans(older_than_hours=0) == 0
    assert list(intake.staging().iterdir()) == []


def test_discarding_needs_a_reason_and_lets_the_bytes_go(world: World) -> None:
    outcome, _file, _study = conflicting(world)
    client = world.client("quality")
    with database().reading() as session:
        key = session.get_one(Quarantined, outcome.quarantine_id).object_key
    path = f"/api/quarantine/{outcome.quarantine_id}"
    assert client.post(f"{path}/discard", json={"reason": "  "}).status_code == 422
    assert client.post(f"{path}/discard", json={"reason": "误传"}).status_code == 204
    with pytest.raises(ObjectNotFound):
        object_store().stat(key)
    assert client.get(f"{path}/file").status_code == 409
    assert client.post(f"{path}/discard", json={"reason": "误传"}).status_code == 409
    assert client.get(path).json()["decision"] == "discarded"
    with database().reading() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "quarantine.discarded")).one()
        assert entry.detail["reason"] == "误传"


def test_the_page_in_both_languages(world: World) -> None:
    outcome, _file, _study = conflicting(world)
    client = world.client("quality")
    page = client.get("/quarantine", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "检查标识已被另一机构使用" in page.text
    assert "&lt;b&gt;影像&lt;/b&gt;.dcm" in page.text
    assert "<b>影像</b>" not in page.text
    client.cookies.set("hub_locale", "en")
    page = client.get("/quarantine", headers={"Accept": "text/html"})
    assert "in use by another organisation" in page.text
    visible = re.sub(
        r"<b>.*?</b>|影像|中文|岭背镇卫生院|银坑镇卫生院|县域影像中心|赵敏|[一-鿿]{2,3}(?=</)", "", page.text
    )
    assert "隔离" not in visible
    director = world.client("director").get("/quarantine", headers={"Accept": "text/html"})
    assert f"/quarantine/{outcome.quarantine_id}/discard" not in director.text
    empty = client.get("/quarantine?code=not-dicom", headers={"Accept": "text/html"})
    assert outcome.quarantine_id not in empty.text


def test_the_buttons_of_the_page(world: World) -> None:
    outcome, _file, study = conflicting(world)
    client = world.client("quality")
    still = client.post(f"/quarantine/{outcome.quarantine_id}/release", headers={"Accept": "text/html"})
    assert still.status_code == 409
    assert "仍不能接收" in still.text
    missing = client.post(f"/quarantine/{outcome.quarantine_id}/discard", data={"reason": ""})
    assert (missing.status_code, "请填写原因" in missing.text) == (422, True)
    with database().writing() as session:
        session.execute(update(Study).where(Study.id == study).values(uid=new_uid()))
    done = client.post(f"/quarantine/{outcome.quarantine_id}/release")
    assert (done.status_code, done.headers["location"]) == (303, "/quarantine?done=released")
    assert "归入其检查" in client.get("/quarantine?done=released").text


NEVER_KEPT = {
    reasons.DICOMDIR,
    reasons.QUARANTINE_FULL,
    reasons.UNSUPPORTED_PART,
    reasons.UNREFERENCED,
    reasons.MISSING_BULK,
    reasons.BAD_METADATA,
}


def test_every_refusal_has_words_in_both_languages_and_a_short_name() -> None:
    english = get_catalogue("en")
    for code, (chinese, sentence) in MESSAGES.items():
        assert english[chinese] == sentence, code
        assert code in quality.CODE_NAMES, code
    for code in reasons.OWN:
        if code not in NEVER_KEPT:
            assert code in quality.CODE_NAMES, code
