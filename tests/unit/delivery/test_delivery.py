"""What goes home: delivered once, seen by a person of the clinic, told live to those whom it concerns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from hub.audit.models import AuditEntry
from hub.delivery import service
from hub.delivery.models import Delivery
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict
from hub.kit.live import Change
from support.reading import cheap_keys, make_exam, ok, signed, state_of


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def deliver(version_id):
    with database().writing() as session:
        return service.return_report(session, SYSTEM, version_id).id


def test_delivering_again_changes_nothing(world):
    exam_id, version = signed(world)
    first = deliver(version["version_id"])
    with database().reading() as session:
        at = session.get_one(Delivery, first).delivered_at
        changes = session.scalar(select(func.count()).select_from(Change))
    clock.set_source(lambda: datetime.now(UTC) + timedelta(minutes=5))
    assert deliver(version["version_id"]) == first
    with database().reading() as session:
        assert session.get_one(Delivery, first).delivered_at == at
        assert session.scalar(select(func.count()).select_from(Change)) == changes
        assert session.get_one(Exam, exam_id).returned_at is not None


def test_an_unsigned_version_does_not_go_home(world):
    from support.reading import submitted

    _exam, version = submitted(world)
    with pytest.raises(Conflict), database().writing() as session:
        service.return_report(session, SYSTEM, version["version_id"])


def test_seen_is_recorded_once_with_who_and_when(world):
    exam_id, version = signed(world)
    delivery_id = deliver(version["version_id"])
    clinician, technologist = world.client("clinician"), world.client("technologist")
    first = ok(clinician.post(f"/api/deliveries/{delivery_id}/seen"))
    assert first["seen_by"] == world.people["clinician"].name
    assert ok(technologist.post(f"/api/deliveries/{delivery_id}/seen")) == first
    assert state_of(exam_id) == "seen"
    with database().reading() as session:
        seen = session.scalars(select(AuditEntry).where(AuditEntry.action == "report.see")).all()
    assert [entry.actor_id for entry in seen] == [world.people["clinician"].id]


def test_only_people_of_that_clinic_see_it(world):
    exam_id, version = signed(world)
    delivery_id = deliver(version["version_id"])
    assert world.client("clinician.c02").post(f"/api/deliveries/{delivery_id}/seen").status_code == 404
    machine = world.machine("C01", "report")
    assert machine.post(f"/api/deliveries/{delivery_id}/seen").status_code == 403
    assert machine.get(f"/api/reports/{version['version_id']}/pdf").status_code == 200
    assert world.client("reviewer").get(f"/api/reports/{version['version_id']}/pdf").status_code == 200
    assert state_of(exam_id) == "returned"
    assert ok(world.client("clinician").get("/api/inbox"))["unseen"] == 1


def test_the_clinic_is_told_live_and_others_are_not(world):
    exam_id, version = signed(world)
    deliver(version["version_id"])
    with database().reading() as session:
        told = session.scalars(select(Change).where(Change.topic == "report", Change.ref == exam_id)).all()
    delivered = next(change for change in told if change.data["event"] == "delivered")
    assert world.orgs["C01"].id in delivered.orgs
    assert world.orgs["C02"].id not in delivered.orgs
    assert set(delivered.data) <= {"event", "version_id", "delivery_id", "state"}


def test_the_inbox_pages_and_searches(world):
    wanted = []
    for n, name in enumerate(("王伟", "李娜", "王芳")):
        _exam, version = signed(world, name=name)
        clock.set_source(lambda n=n: datetime.now(UTC) + timedelta(seconds=n))
        deliver(version["version_id"])
        wanted.insert(0, version["version_id"])
    clinic = world.client("clinician")
    first = ok(clinic.get("/api/inbox", params={"limit": 2}))["reports"]
    rest = ok(clinic.get("/api/inbox", params={"before": first[-1]["delivered_at"]}))["reports"]
    assert [row["version_id"] for row in first + rest] == wanted
    found = ok(clinic.get("/api/inbox", params={"q": "wang"}))["reports"]
    assert {row["patient"]["name"] for row in found} == {"王伟", "王芳"}
    clinic.post(f"/api/deliveries/{first[0]['id']}/seen")
    assert len(ok(clinic.get("/api/inbox", params={"unseen": True}))["reports"]) == 2


def test_a_clinic_reads_no_drafts(world):
    from support.reading import claim, write

    exam_id = make_exam(world)
    author = world.client("reporter")
    version = write(author, exam_id, claim(author, exam_id))
    clinic = world.client("technologist")
    assert ok(clinic.get(f"/api/exams/{exam_id}/reports"))["versions"] == []
    assert clinic.get(f"/api/reports/{version['version_id']}").status_code == 404
    assert clinic.get(f"/reports/{version['version_id']}").status_code == 404


def test_a_correction_of_a_report_that_was_seen_waits_to_be_seen(world):
    from hub.exams import listing

    exam_id, version = signed(world)
    delivery = deliver(version["version_id"])
    clinic = world.client("clinician")

    def waiting():
        with database().reading() as session:
            actor = world.actor("clinician")
            exam = session.get_one(Exam, exam_id)
            return listing.alert_counts(session, actor)["unseen"], "unseen" in listing.alerts_of(exam)

    assert waiting() == (1, True)
    clinic.post(f"/api/deliveries/{delivery}/seen")
    assert waiting() == (0, False)
    with database().writing() as session:
        # As a signed correction leaves it once it is delivered: back home, the first clocks kept.
        session.get_one(Exam, exam_id).state = "returned"
    assert waiting() == (1, True)
