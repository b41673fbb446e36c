"""Addendum and correction, the whole loop: reason, both versions kept, the clinic told again, seen again, marked."""

from __future__ import annotations

import re
import threading

import pytest
from pypdf import PdfReader
from sqlalchemy import select

from hub.delivery import service as delivery
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.reports.models import ReportVersion
from hub.reports.verification import by_code, by_file
from support.critical import flagged
from support.reading import TEXT, cheap_keys, ok, open_key, sign, signed, state_of

KINDS = {"correction": "更正报告", "addendum": "补充报告"}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def deliver():
    """What the outbox asks for."""
    with database().writing() as session:
        for job in session.scalars(select(Job).where(Job.kind == "delivery.return_report")).all():
            delivery.return_report(session, SYSTEM, job.payload["version_id"])


def begun(world, exam_id, kind):
    """A new version that its author has submitted."""
    author = world.client("reporter")
    version = ok(author.post(f"/api/exams/{exam_id}/amend", json={"kind": kind, "reason": "左右侧别写反"}), 201)
    body = {
        **{name: version[name] for name in ("technique", "comparison", "recommendation", "critical")},
        "revision": version["revision"],
        "findings": "左侧基底节区见团块状高密度影。",
        "impression": "左侧基底节区脑出血。",
        "positive": True,
    }
    version = ok(author.put(f"/api/exams/{exam_id}/report", json=body))
    return ok(author.post(f"/api/exams/{exam_id}/submit", json={"revision": version["revision"]}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_loop(world, tmp_path, kind):
    exam_id, first = signed(world)
    deliver()
    clinic = world.client("clinician")
    old = clinic.get(f"/api/reports/{first['version_id']}/pdf").content
    assert state_of(exam_id) == "seen"
    refused = world.client("reporter").post(f"/api/exams/{exam_id}/amend", json={"kind": kind, "reason": " "})
    assert "reason" in refused.json()["fields"]

    version = begun(world, exam_id, kind)
    # Until it is signed the clinic knows nothing of it, and the old one counts.
    assert [one["version"] for one in ok(clinic.get(f"/api/exams/{exam_id}/reports"))["versions"]] == [1]
    assert clinic.get(f"/reports/{version['version_id']}").status_code == 404
    assert state_of(exam_id) == "seen"
    reviewer = world.client("reviewer")
    open_key(reviewer)
    done = ok(sign(reviewer, version, ""))
    assert (done["version"], done["number"]) == (2, first["number"])
    deliver()

    # Told again, to be seen again; the old version stays, readable, and says what counts.
    assert state_of(exam_id) == "returned"
    rows = {row["version"]: row for row in ok(clinic.get("/api/inbox"))["reports"]}
    assert (rows[2]["kind"], rows[2]["seen_at"], rows[1]["superseded"]) == (kind, None, kind == "correction")
    assert clinic.get(f"/api/reports/{first['version_id']}/pdf").content == old
    assert state_of(exam_id) == "returned"
    page = clinic.get(f"/reports/{first['version_id']}").text
    assert ("这一版已被取代" in page) is (kind == "correction")
    assert done["version_id"] in page
    assert TEXT["impression"] in page
    pdf = clinic.get(f"/api/reports/{done['version_id']}/pdf").content
    assert state_of(exam_id) == "seen"
    path = tmp_path / "report.pdf"
    path.write_bytes(pdf)
    words = re.sub(r"\s+", "", "".join(one.extract_text() for one in PdfReader(path).pages))
    assert f"{KINDS[kind]}·第2版" in words
    assert "左右侧别写反" in words
    assert ("取代:" if kind == "correction" else "补充于:") in words
    # Whoever checks the old paper is told as well.
    assert by_file(old).verdict == ("superseded" if kind == "correction" else "valid")
    code = first["verification_code"]
    assert (by_code(code).report.newer is None) is (kind == "addendum")
    # The author is told what his reviewer did with it.
    assert len(ok(world.client("reporter").get("/api/reviews"))["reviews"]) == 2


@pytest.mark.server
def test_a_correction_and_an_addendum_begun_at_once_leave_one(world):
    exam_id, _first = signed(world)
    clients = {"correction": world.client("reporter"), "addendum": world.client("reviewer2")}
    gate, answers = threading.Barrier(2), {}

    def go(kind, client):
        gate.wait()
        answers[kind] = client.post(f"/api/exams/{exam_id}/amend", json={"kind": kind, "reason": "补"}).status_code

    threads = [threading.Thread(target=go, args=item) for item in clients.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [201, 409]
    with database().reading() as session:
        assert sorted(session.scalars(select(ReportVersion.number)).all()) == [1, 2]


@pytest.mark.server
def test_signing_and_taking_back_a_correction_at_once_leaves_one(world):
    exam_id, _first = signed(world)
    version = begun(world, exam_id, "correction")
    reviewer, author = world.client("reviewer"), world.client("reporter")
    open_key(reviewer)
    gate, answers = threading.Barrier(2), {}

    def go(name, deed):
        gate.wait()
        answers[name] = deed().status_code

    threads = [
        threading.Thread(target=go, args=("sign", lambda: sign(reviewer, version, ""))),
        threading.Thread(target=go, args=("withdraw", lambda: author.post(f"/api/exams/{exam_id}/withdraw"))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers.values()) == [200, 409]
    with database().reading() as session:
        state = session.get_one(ReportVersion, version["version_id"]).state
    assert state == ("signed" if answers["sign"] == 200 else "draft")


def test_a_new_version_is_marked_as_its_critical_values_stand(world):
    """Withdrawn since the signature, the mark does not come back and alarm the clinic; flagged since, it is there."""
    exam_id, first = signed(world)
    assert first["critical"]
    author = world.client("reporter")
    (opened,) = ok(author.get("/api/critical"))["criticals"]
    ok(author.post(f"/api/critical/{opened['id']}/withdraw", json={"text": "复核为钙化"}))
    amend = {"kind": "correction", "reason": "复核为钙化"}
    assert not ok(author.post(f"/api/exams/{exam_id}/amend", json=amend), 201)["critical"]
    ok(author.post(f"/api/exams/{exam_id}/discard"), 204)
    flagged(world, client=author, exam_id=exam_id)
    assert ok(author.post(f"/api/exams/{exam_id}/amend", json=amend), 201)["critical"]
