"""Mutual recognition: what is offered, to whom, for how long; and that nobody fishes in it."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update

from hub.accounts.roles import Role
from hub.audit.models import AuditEntry
from hub.dicom.identity import check_digit
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden
from hub.kit.objects import object_store
from hub.patients import links
from hub.patients import service as patients
from hub.reading.scoring import service as scoring
from hub.reports.models import Report, ReportVersion
from hub.reports.recognition import marks, rules, service
from hub.reports.recognition.models import Recognition
from hub.reports.recognition.states import TRANSITIONS, RecognitionEvent, RecognitionState
from hub.studies.models import ExamStudy, Instance
from support.reading import make_exam, ok

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World

BORN = date(1970, 5, 4)


def number(serial: int = 1) -> str:
    first = f"36073119700504{serial:02d}1"
    return first + check_digit(first)


def form(**changes: Any) -> dict[str, Any]:
    """What C02 types for the patient who stands before it."""
    values = {
        "name": "王伟",
        "sex": "M",
        "identity_number": number(),
        "modality": "CT",
        "body_parts": ["head"],
        "history": "头痛两天",
        "doctor": "李明",
        "doctor_phone": "13900000000",
        "priority": "routine",
    }
    return {**values, **changes}


@pytest.fixture
def prior(world: World) -> str:
    """A signed head CT of C01 with the county's mark; returns the exam's id."""
    now = clock.now()
    with database().writing() as session:
        clinic = world.orgs["C01"].id
        patient = patients.ensure(session, clinic, "P1", "王伟", "M", BORN, identity_number=number())
        session.expunge(patient)
        marks.note(
            session,
            world.actor("administrator"),
            org_id=clinic,
            items=["ct_head"],
            scope="county",
            valid_from=date(2020, 1, 1),
            evidence="县质控 2026-01",
        )
    exam_id = make_exam(world, patient=patient, state=State.SEEN, signed_at=now)
    with database().writing() as session:
        report = Report(exam_id=exam_id, number="H01-1", created_at=now)
        session.add(report)
        session.flush()
        words = {"findings": "颅内未见异常密度", "impression": "颅脑CT平扫未见异常"}
        session.add(
            ReportVersion(
                report_id=report.id, state="signed", created_at=now, saved_at=now, signed_at=now, pdf_key="r/1", **words
            )
        )
    return exam_id


def _ask(client: TestClient, **changes: Any) -> tuple[str, Any]:
    made = ok(client.post("/api/exams", json=form(**changes)), 201)
    return made["id"], ok(client.post(f"/api/exams/{made['id']}/recognition"))["recognition"]


def _actions(exam_id: str) -> list[str]:
    with database().reading() as session:
        return list(
            session.scalars(
                select(AuditEntry.action).where(
                    AuditEntry.object_id == exam_id, AuditEntry.action.like("recognition.%")
                )
            )
        )


def test_what_the_county_has_is_shown_with_report_and_images(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    made, found = _ask(client)
    (one,) = found["exams"]
    assert (found["state"], one["exam_id"], one["mark"]) == ("offered", prior, "青溪县HR")
    assert one["versions"][0]["impression"]
    assert "recognition.view" in _actions(prior)
    with database().writing() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "recognition.view")).first()
        assert entry is not None
        assert (entry.detail["purpose"], entry.detail["for_exam"]) == ("mutual-recognition", made)
        instance = session.scalars(
            select(Instance).join(ExamStudy, ExamStudy.study_id == Instance.study_id).where(ExamStudy.exam_id == prior)
        ).one()
        instance.preview_key = "previews/one"
        instance_id = instance.id
        version = session.scalars(select(ReportVersion.id)).one()
    object_store().put_pieces("previews/one", [b"jpeg"])
    base = f"/recognition/{found['id']}/exams/{prior}"
    assert client.get(f"{base}/pictures/image/{instance_id}").content == b"jpeg"
    object_store().put_pieces("r/1", [b"%PDF-1.7"])
    assert client.get(f"{base}/reports/{version}.pdf").content.startswith(b"%PDF")
    page = client.get(f"/clinic/exams/{made}/recognition")
    assert page.status_code == 200
    assert "青溪县HR" in page.text and "不是诊断结论" in page.text
    # Everything else of the other clinic stays shut, and so does this door for everybody else.
    for path in (
        f"/api/exams/{prior}",
        f"/clinic/exams/{prior}",
        f"/clinic/exams/{prior}/pictures/image/{instance_id}",
    ):
        assert client.get(path).status_code == 404
    for login in ("technologist", "clinician"):
        other = world.client(login)
        assert other.get(f"/api/recognition/{found['id']}").status_code == 404
        assert other.get(f"{base}/pictures/image/{instance_id}").status_code == 404
    assert world.client("clinician.c02").get(f"/api/recognition/{found['id']}").json()["exams"]


@pytest.mark.parametrize(
    "changes",
    [
        {"identity_number": ""},
        {"identity_number": number(2)},
        {"name": "王玮"},
        {"identity_number": "", "birth_date": "1970-05-04"},
        {"body_parts": ["chest"]},
        {"body_parts": ["head", "chest"]},
        {"modality": "MR"},
    ],
    ids=[
        "no number",
        "another number",
        "another name",
        "name and birth date",
        "another part",
        "one part more",
        "other kind",
    ],
)
def test_whoever_does_not_fit_is_told_nothing(world: World, prior: str, changes: dict[str, Any]) -> None:
    if not changes.get("identity_number", "x"):
        changes = {"birth_date": "1970-05-04", **changes}
    _made, found = _ask(world.client("technologist.c02"), **changes)
    assert found is None
    assert not [action for action in _actions(prior) if action == "recognition.view"]
    with database().reading() as session:
        assert session.scalars(select(Recognition)).all() == []


def test_who_types_wrong_names_to_a_number_again_and_again_is_shut_out(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    for turn in range(6):
        assert _ask(client, name=f"王{'一二三四五六'[turn]}", number=f"N{turn}")[1] is None
    made, found = _ask(client)
    assert found is None, "even the right name, now"
    assert _actions(made) == ["recognition.refused"]
    with database().reading() as session:
        assert session.scalars(select(AuditEntry).where(AuditEntry.action == "recognition.mismatch")).all()


def test_who_asks_for_too_many_is_shut_out(world: World, prior: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_OFFERS", 2)
    client = world.client("technologist.c02")
    assert [bool(_ask(client)[1]) for _turn in range(3)] == [True, True, False]


@pytest.mark.parametrize("what", ["old", "unmarked", "ended", "waste", "unsigned", "trashed", "shut"])
def test_what_is_not_recognisable(world: World, prior: str, what: str) -> None:
    with database().writing() as session:
        exam = session.get_one(Exam, prior)
        if what == "old":
            exam.exam_at = clock.now() - timedelta(days=15)
        elif what == "unsigned":
            exam.state = State.TO_REVIEW.value
        elif what == "waste":
            scoring.score(session, world.actor("quality"), prior, grade="reject", reasons=["motion"])
        elif what == "trashed":
            from hub.studies.models import Study

            session.execute(update(Study).values(trashed_at=clock.now()))
        elif what == "shut":
            table = rules.to_json(rules.load(session))
            for kind in table["kinds"]:
                kind["days"] = 0
            rules.save(session, world.actor("administrator"), table)
        else:
            (row,) = marks.evaluations(session)
            if what == "ended":
                row.valid_until = date(2020, 1, 2)
            else:
                row.org_id = world.orgs["C02"].id
    assert _ask(world.client("technologist.c02"))[1] is None


def test_an_undone_link_shuts_the_door_at_once(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    made, found = _ask(client)
    with database().writing() as session:
        one, two = session.get_one(Exam, prior).patient_id, session.get_one(Exam, made).patient_id
        pair = links.pair_of(session, one, two)
        assert pair is not None
        links.undo(session, world.actor("director"), pair.id, reason="冒用身份证")
    assert client.get(f"/api/recognition/{found['id']}").json()["exams"] == []
    assert client.post(f"/api/recognition/{found['id']}/reuse", json={"exam_id": prior}).status_code == 404


def test_the_door_shuts_with_time_and_with_images(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    made, found = _ask(client)
    with database().writing() as session:
        session.execute(update(Exam).where(Exam.id == made).values(state=State.RECEIVING.value))
    assert client.get(f"/api/recognition/{found['id']}").json()["exams"] == []
    with database().writing() as session:
        session.execute(update(Exam).where(Exam.id == made).values(state=State.REGISTERED.value))
        session.execute(update(Recognition).values(expires_at=clock.now()))
    assert client.get(f"/api/recognition/{found['id']}").json()["exams"] == []
    with database().writing() as session:
        assert service.lapse(session) == 1
        assert service.lapse(session) == 0
    assert client.get(f"/api/recognition/{found['id']}").json()["state"] == "lapsed"
    again = ok(client.post(f"/api/exams/{made}/recognition"))["recognition"]
    assert (again["state"], len(again["exams"])) == ("offered", 1)


def test_reusing_cancels_the_new_exam_and_keeps_the_old_one_open(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    made, found = _ask(client)
    done = ok(client.post(f"/api/recognition/{found['id']}/reuse", json={"exam_id": prior}))
    assert (done["state"], done["chosen_id"], [one["exam_id"] for one in done["exams"]]) == ("reused", prior, [prior])
    exam = ok(client.get(f"/api/exams/{made}"))
    assert exam["state"] == "cancelled"
    assert "互认" in exam["end_reason"]
    assert "已被" in world.client("technologist").get(f"/clinic/exams/{prior}").text
    assert client.get(f"/clinic/exams/{made}/recognition").status_code == 200
    again = client.post(f"/api/recognition/{found['id']}/repeat", json={"reason": "changed"})
    assert again.status_code == 409
    with database().writing() as session:
        session.execute(update(Recognition).values(access_until=clock.now()))
    assert client.get(f"/api/recognition/{found['id']}").json()["exams"] == []


def test_repeating_wants_one_of_the_reasons(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    made, found = _ask(client)
    path = f"/api/recognition/{found['id']}/repeat"
    assert "reason" in client.post(path, json={"reason": "habit"}).json()["fields"]
    assert "text" in client.post(path, json={"reason": "other", "text": " "}).json()["fields"]
    done = ok(client.post(path, json={"reason": "changed", "text": "今晨加重"}))
    assert (done["state"], done["reason"], done["exams"]) == ("repeated", "changed", [])
    assert ok(client.get(f"/api/exams/{made}"))["state"] == "registered"
    assert client.get(f"/recognition/{found['id']}/exams/{prior}/pictures/study/x").status_code == 404


def test_an_emergency_is_never_held_up(world: World, prior: str) -> None:
    _made, found = _ask(world.client("technologist.c02"), priority="emergency")
    assert (found["state"], found["reason"], found["exams"]) == ("repeated", "emergency", [])


def test_a_clinics_own_system_decides_as_its_technologist_does(world: World, prior: str) -> None:
    client = world.machine("C02", "register")
    _made, found = _ask(client)
    assert ok(client.post(f"/api/recognition/{found['id']}/reuse", json={"exam_id": prior}))["state"] == "reused"


def test_of_two_decisions_one_counts(world: World, prior: str) -> None:
    client = world.client("technologist.c02")
    _made, found = _ask(client)
    actor = world.actor("technologist.c02")
    with database().writing() as session:
        row = service.get(session, actor, found["id"])
        later = update(Recognition).values(version=Recognition.version + 1)
        session.execute(later.execution_options(synchronize_session=False))
        with pytest.raises(Conflict):
            service._move(session, actor, row, RecognitionEvent.REPEAT, reason="changed")
        session.rollback()


@pytest.mark.parametrize(("state", "event"), list(product(RecognitionState, RecognitionEvent)))
def test_every_state_event_and_role(world: World, state: RecognitionState, event: RecognitionEvent) -> None:
    exam_id = make_exam(world, with_study=False)
    actors = [SYSTEM, *(world.actor(role.value) for role in Role)]
    rule = TRANSITIONS.get((state, event))
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        row = Recognition(
            exam_id=exam_id,
            org_id=exam.org_id,
            patient_id=exam.patient_id,
            item="ct_head",
            found=[],
            offered_at=clock.now(),
            offered_to="x",
            expires_at=clock.now(),
        )
        session.add(row)
        for actor in actors:
            row.state = state.value
            session.flush()
            roles = {"system"} if actor.kind == "system" else actor.roles
            if rule is not None and roles & rule.roles:
                service._move(session, actor, row, event)
                assert row.state == rule.target
            else:
                with pytest.raises(Conflict if rule is None else Forbidden):
                    service._move(session, actor, row, event)
                assert row.state == state
        session.rollback()


# --- the county's rules and marks ---------------------------------------------------------------------------------


def test_kinds_stand_for_each_other_by_the_countys_table(world: World) -> None:
    with database().writing() as session:
        table = rules.to_json(rules.load(session))
        table["kinds"] = [
            {"code": "ct_trunk", "modality": "CT", "parts": ["chest", "ribs"], "days": 10},
            {"code": "ct_head", "modality": "CT", "parts": ["head"], "days": 3},
        ]
        found = rules.save(session, world.actor("administrator"), table)
        assert rules.kinds_of(found, "CT", ["ribs"]) == rules.kinds_of(found, "CT", ["chest"]) == {"ct_trunk"}
        assert rules.kinds_of(found, "CT", ["chest", "whole"]) is None
        assert rules.kinds_of(found, "CT", []) is None
        assert rules.days_of(found, {"ct_trunk", "ct_head"}) == 3


def test_wrong_rules_are_told_by_field(world: World) -> None:
    client = world.client("administrator")
    table = ok(client.get("/api/recognition-rules"))
    table["kinds"].append({"code": "again", "modality": "CT", "parts": ["head"], "days": 3})
    answer = client.put("/api/recognition-rules", json={**table, "minutes": 1, "access_days": 0})
    assert set(answer.json()["fields"]) == {"kinds", "minutes", "access_days"}


def test_a_mark_is_of_the_day_and_of_every_part(world: World, prior: str) -> None:
    administrator = world.actor("administrator")
    with database().writing() as session:
        exam = session.get_one(Exam, prior)
        assert marks.mark_of(session, exam) == marks.Mark("county", "青溪县HR")
        marks.note(
            session,
            administrator,
            org_id=exam.org_id,
            items=["ct_head"],
            scope="national",
            valid_from=date(2020, 1, 1),
            evidence="国家质控",
        )
        assert marks.mark_of(session, exam) == marks.Mark("national", "全国HR")
        exam.body_parts = ["head", "neck"]
        assert marks.mark_of(session, exam) is None
        exam.body_parts = ["head"]
        for row in marks.evaluations(session):
            marks.end(session, administrator, row.id)
        assert marks.mark_of(session, exam) is not None, "it was passed on the day of the exam"
        exam.exam_at = clock.now() + timedelta(minutes=1)
        assert marks.mark_of(session, exam) is None
        session.rollback()


def test_evaluations_are_checked(world: World) -> None:
    client = world.client("administrator")
    body = {"org_id": world.orgs["C01"].id, "items": ["nothing"], "scope": "world", "valid_from": "2026-01-01"}
    assert set(client.post("/api/recognition-evaluations", json=body).json()["fields"]) == {
        "items",
        "scope",
        "evidence",
    }
    good = {**body, "items": ["ct_head", "ct_chest"], "scope": "province", "evidence": "省 2026-3"}
    assert len(ok(client.post("/api/recognition-evaluations", json=good), 201)) == 2
    row = ok(client.get("/api/recognition-evaluations"))[0]
    ok(client.post(f"/api/recognition-evaluations/{row['id']}/end"))
    assert client.post(f"/api/recognition-evaluations/{row['id']}/end").status_code == 409
    assert client.get("/admin/recognition").status_code == 200


def test_a_slip_made_elsewhere_is_not_held_against_the_right_name(world: World, prior: str) -> None:
    with database().writing() as session:
        clinic = world.orgs["H02"].id
        patients.ensure(session, clinic, "X", "王玮", "M", BORN, identity_number=number())
    client = world.client("technologist.c02")
    assert [bool(_ask(client)[1]) for _turn in range(6)] == [True] * 6
