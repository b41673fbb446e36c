"""The door at submitting and signing: warnings wait for an answer, answers are kept, and no checker stops anybody."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.db import database
from hub.reports.checks import core, policy, service
from hub.reports.checks.catalogue import RULES
from hub.reports.checks.models import CheckOverride
from hub.sites.models import Organisation
from support.critical import READ_BACK, flagged
from support.reading import cheap_keys, claim, make_exam, make_patient, ok, open_key, sign, write
from support.world import World

WRONG_SIDE = {
    "findings": "右肺下叶见片状密度增高影,边缘模糊。余肺野清晰。",
    "impression": "左肺下叶炎症。",
    "technique": "",
    "positive": True,
    "critical": False,
}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap_keys(monkeypatch)


def chest(world: World, **more: Any) -> str:
    """A chest CT that waits."""
    return make_exam(world, body_parts=["chest"], **more)


def drafted(world: World, **texts: Any) -> tuple[Any, str, str, Any]:
    """A reporter's client, the exam, its lease, and the saved draft."""
    exam_id = chest(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    return client, exam_id, lease, write(client, exam_id, lease, **{**WRONG_SIDE, **texts})


def submit(client: Any, exam_id: str, lease: str, version: Any, **more: Any) -> Any:
    body = {"lease": lease, "revision": version["revision"], **more}
    return client.post(f"/api/exams/{exam_id}/submit", json=body)


def test_a_text_is_checked_while_it_is_written(world: World) -> None:
    exam_id = chest(world)
    client = world.client("reporter")
    said = ok(client.post(f"/api/exams/{exam_id}/check", json={**WRONG_SIDE, "impression": "左肺下叶炎症。"}))
    (found,) = [one for one in said["findings"] if one["code"] == "side-differs"]
    assert found["field"] == "impression"
    assert found["passage"] == "左肺下叶炎症"
    assert (found["start"], found["end"]) == (0, 6)
    assert found["level"] == "warn"
    assert found["override"] is None
    assert "左侧" in found["message"]
    assert "右肺下叶" in found["explanation"]
    client.cookies.set("hub_locale", "en")
    said = ok(client.post(f"/api/exams/{exam_id}/check", json=WRONG_SIDE))
    assert "left" in said["findings"][0]["message"]
    # Nothing was kept of it.
    assert ok(client.get(f"/api/exams/{exam_id}/reports"))["versions"] == []


def test_places_count_as_a_browser_counts(world: World) -> None:
    exam_id = chest(world)
    body = {**WRONG_SIDE, "impression": "𠮷𠮷:左肺下叶炎症。"}
    said = ok(world.client("reporter").post(f"/api/exams/{exam_id}/check", json=body))
    (found,) = [one for one in said["findings"] if one["code"] == "side-differs"]
    assert (found["start"], found["end"]) == (5, 11)


def test_a_warning_waits_for_an_answer_and_the_answer_is_kept(world: World) -> None:
    client, exam_id, lease, version = drafted(world)
    refused = submit(client, exam_id, lease, version)
    assert refused.status_code == 409
    problem = refused.json()
    assert problem["code"] == "checks"
    (waiting,) = problem["checks"]
    assert waiting["code"] == "side-differs"
    answer = {"fingerprint": waiting["fingerprint"], "why": "other", "reason": ""}
    assert submit(client, exam_id, lease, version, answers=[answer]).status_code == 422
    answer["reason"] = "右肺为陈旧灶"
    ok(submit(client, exam_id, lease, version, answers=[answer]))
    with database().reading() as session:
        (row,) = session.scalars(select(CheckOverride))
        assert (row.code, row.field, row.passage, row.why) == ("side-differs", "impression", "左肺下叶炎症", "other")
        assert (row.person_id, row.reason) == (world.people["reporter"].id, "右肺为陈旧灶")
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "report.check-override"))
        assert "陈旧灶" not in str(entry.detail)
    # The reviewer is shown it, and the quality officer; a clinic is not told.
    for login in ("reviewer", "quality"):
        said = ok(world.client(login).get(f"/api/reports/{version['version_id']}/checks"))
        assert said["standing"] == 0
        assert said["findings"][0]["override"]["reason"] == "右肺为陈旧灶"
        assert said["findings"][0]["override"]["person"] == world.people["reporter"].name
    assert world.client("technologist").get(f"/api/reports/{version['version_id']}/checks").status_code == 404
    given = ok(world.client("quality").get("/api/checks/answers"))["answers"]
    assert [one["reason"] for one in given] == ["右肺为陈旧灶"]
    assert world.client("reviewer.h02").get(f"/api/reports/{version['version_id']}/checks").status_code == 404


def test_an_answer_holds_while_its_passage_stays(world: World) -> None:
    client, exam_id, lease, version = drafted(world)
    (waiting,) = submit(client, exam_id, lease, version).json()["checks"]
    body = {"lease": lease, "answers": [{"fingerprint": waiting["fingerprint"], "why": "confirmed"}]}
    said = ok(client.post(f"/api/exams/{exam_id}/check/answers", json=body))
    assert said["standing"] == 0
    # Twice is once.
    ok(client.post(f"/api/exams/{exam_id}/check/answers", json=body))
    moved = {**WRONG_SIDE, "impression": "结合病史:左肺下叶炎症。", "recommendation": "建议复查。"}
    version = write(client, exam_id, lease, version["revision"], **moved)
    assert ok(client.post(f"/api/exams/{exam_id}/check", json=moved))["standing"] == 0
    # Another passage is another warning.
    other = {**WRONG_SIDE, "impression": "左肺上叶炎症。"}
    assert ok(client.post(f"/api/exams/{exam_id}/check", json=other))["standing"] == 1
    # Taken back, it waits again; the row stays.
    address = f"/api/exams/{exam_id}/check/answers/{waiting['fingerprint']}"
    assert ok(client.delete(address, params={"lease": lease}))["standing"] == 1
    assert client.delete(address, params={"lease": lease}).status_code == 404
    assert submit(client, exam_id, lease, version).status_code == 409
    ok(client.post(f"/api/exams/{exam_id}/check/answers", json=body))
    ok(submit(client, exam_id, lease, version))
    with database().reading() as session:
        assert sorted(row.withdrawn_at is None for row in session.scalars(select(CheckOverride))) == [False, True]


def test_only_who_holds_the_report_answers(world: World) -> None:
    client, exam_id, lease, version = drafted(world)
    (waiting,) = submit(client, exam_id, lease, version).json()["checks"]
    answers = [{"fingerprint": waiting["fingerprint"], "why": "confirmed"}]
    other = world.client("reviewer").post(
        f"/api/exams/{exam_id}/check/answers", json={"lease": lease, "answers": answers}
    )
    assert (other.status_code, other.json()["code"]) == (409, "lease-lost")
    strange = world.client("reporter.h02").post(f"/api/exams/{exam_id}/check/answers", json={"answers": answers})
    assert strange.status_code == 404
    none = [{"fingerprint": "0" * 24, "why": "confirmed"}]
    gone = client.post(f"/api/exams/{exam_id}/check/answers", json={"lease": lease, "answers": none})
    assert (gone.status_code, gone.json()["code"]) == (409, "check-changed")
    bad = [{"fingerprint": waiting["fingerprint"], "why": "because"}]
    assert client.post(f"/api/exams/{exam_id}/check/answers", json={"lease": lease, "answers": bad}).status_code == 422


def test_what_the_reviewer_changed_is_asked_at_the_signature(world: World) -> None:
    client, exam_id, lease, version = drafted(world, findings="左肺下叶见片状密度增高影。")
    ok(submit(client, exam_id, lease, version))
    reviewer = world.client("reviewer")
    lease = claim(reviewer, exam_id)
    open_key(reviewer)
    version = write(reviewer, exam_id, lease, version["revision"], **WRONG_SIDE)
    refused = sign(reviewer, version, lease)
    assert (refused.status_code, refused.json()["code"]) == (409, "checks")
    answers = [{"fingerprint": one["fingerprint"], "why": "false-alarm"} for one in refused.json()["checks"]]
    body = {
        "lease": lease,
        "revision": version["revision"],
        "content_hash": version["content_hash"],
        "answers": answers,
    }
    address = f"/api/reports/{version['version_id']}/sign"
    first = ok(reviewer.post(address, json=body))
    # The same request again answers as the first time.
    again = ok(reviewer.post(address, json=body))
    assert again["verification_code"] == first["verification_code"]
    counts = ok(world.client("director").get("/api/checks/settings"))["checks"]
    assert next(one for one in counts if one["code"] == "side-differs")["answers"] == {"false-alarm": 1}


def test_a_rule_that_fails_stops_nobody(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(report: core.Report) -> Any:
        raise RuntimeError(report.texts["findings"])

    monkeypatch.setitem(RULES, "side-differs", broken)
    client, exam_id, lease, version = drafted(world)
    said = ok(client.post(f"/api/exams/{exam_id}/check", json=WRONG_SIDE))
    assert said["not_run"] == ["所见与意见侧别不一致"]
    ok(submit(client, exam_id, lease, version))


def test_county_and_hospital_choose(world: World) -> None:
    director = world.client("director")
    client, exam_id, lease, version = drafted(world)
    assert submit(client, exam_id, lease, version).status_code == 409
    ok(director.put("/api/checks/settings", json={"levels": {"side-differs": "hint"}}))
    said = ok(client.post(f"/api/exams/{exam_id}/check", json=WRONG_SIDE))
    assert [one["level"] for one in said["findings"]] == ["hint"]
    h01, h02 = world.orgs["H01"].id, world.orgs["H02"].id
    chosen = ok(director.put("/api/checks/settings", json={"org_id": h01, "levels": {"side-differs": "warn"}}))
    assert next(one for one in chosen["checks"] if one["code"] == "side-differs")["effective"] == "warn"
    assert submit(client, exam_id, lease, version).status_code == 409
    other = ok(director.get("/api/checks/settings", params={"org_id": h02}))
    row = next(one for one in other["checks"] if one["code"] == "side-differs")
    assert (row["level"], row["effective"], row["default"]) == ("", "hint", "warn")
    ok(director.put("/api/checks/settings", json={"org_id": h01, "levels": {"side-differs": ""}}))
    ok(submit(client, exam_id, lease, version))
    for bad in ({"levels": {"no-such": "warn"}}, {"levels": {"unit": "loud"}}):
        assert director.put("/api/checks/settings", json=bad).status_code == 422
    clinic = {"org_id": world.orgs["C01"].id, "levels": {}}
    assert director.put("/api/checks/settings", json=clinic).status_code == 422
    assert world.client("administrator").put("/api/checks/settings", json={"levels": {}}).status_code == 403


def test_a_setting_that_somebody_spoilt_is_as_if_it_were_not_there(world: World) -> None:
    with database().writing() as session:
        org = session.get_one(Organisation, world.orgs["H01"].id)
        org.policy = {**org.policy, "checks": {"unit": 7, "no-such": "warn", "magnitude": "hint"}}
    with database().reading() as session:
        org = session.get_one(Organisation, world.orgs["H01"].id)
        assert policy.hospital_levels(org) == {"magnitude": "hint"}


def test_facts_come_from_history_priors_images_and_the_last_report(world: World) -> None:
    with database().writing() as session:
        patient = make_patient(session, world, name="何雪梅")
        session.expunge(patient)
    earlier = chest(world, patient=patient, history="腹痛")
    author, reviewer = world.client("reporter"), world.client("reviewer")
    lease = claim(author, earlier)
    text = {**WRONG_SIDE, "impression": "右肺下叶炎症。胆囊切除术后。"}
    version = write(author, earlier, lease, **text)
    ok(submit(author, earlier, lease, version))
    lease = claim(reviewer, earlier)
    open_key(reviewer)
    ok(sign(reviewer, version, lease))
    later = make_exam(
        world, patient=patient, body_parts=["knee"], modality="DX", procedure="左膝关节正侧位", history="跌倒"
    )
    with database().reading() as session:
        exam = session.get_one(Exam, later)
        facts = service.facts_of(session, world.actor("reporter"), exam, positive=None, critical=False)
    assert facts.name == "何雪梅"
    assert (facts.sides, facts.sides_from) == (frozenset("L"), "registration")
    assert facts.priors == ("右肺下叶见片状密度增高影,边缘模糊。余肺野清晰。\n右肺下叶炎症。胆囊切除术后。",)
    # The last report is of the same person: nothing is copied from somebody else.
    assert facts.previous is None
    assert facts.age_years is not None
    stranger = chest(world)
    with database().reading() as session:
        facts = service.facts_of(
            session, world.actor("reporter"), session.get_one(Exam, stranger), positive=None, critical=False
        )
    assert facts.previous is not None
    assert facts.previous.patient_name == "何雪梅"
    assert facts.priors == ()


def test_stops_are_named_before_anybody_is_refused(world: World) -> None:
    exam_id = chest(world, identity="open", state=State.TO_READ)
    said = ok(world.client("reporter").post(f"/api/exams/{exam_id}/check", json={"findings": "双肺清晰。"}))
    assert [one["code"] for one in said["stops"]] == ["report-incomplete", "identity-open"]


def test_what_was_raised_and_closed_is_not_asked_about_again(world: World) -> None:
    exam_id = make_exam(world)
    reader, clinician = world.client("reporter"), world.client("clinician")
    texts = {"findings": "右侧基底节区见团块状高密度影。", "impression": "右侧基底节区脑出血。", "critical": False}

    def asked() -> list[str]:
        said = ok(reader.post(f"/api/exams/{exam_id}/check", json={**WRONG_SIDE, **texts}))
        return [one["code"] for one in said["findings"] if one["code"] == "critical-words"]

    assert asked() == ["critical-words"]
    first = flagged(world, exam_id=exam_id)
    assert asked() == []
    ok(reader.post(f"/api/critical/{first['id']}/withdraw", json={"text": "误标"}))
    assert asked() == ["critical-words"], "what was withdrawn says nothing of the text"
    second = flagged(world, exam_id=exam_id)
    ok(clinician.post(f"/api/critical/{second['id']}/read-back", json={"text": READ_BACK}))
    ok(reader.post(f"/api/critical/{second['id']}/confirm", json={}))
    ok(clinician.post(f"/api/critical/{second['id']}/actions", json={"action": "patient_reached"}), 201)
    assert ok(clinician.post(f"/api/critical/{second['id']}/close", json={}))["state"] == "closed"
    assert asked() == []
