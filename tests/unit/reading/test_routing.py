"""Exams are routed when they enter the queue, asked on when nobody answers, moved when a hospital falls behind."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.exams.models import Exam
from hub.exams.service import apply
from hub.exams.states import Event, State
from hub.kit import clock, jobs, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.reading import service as reading
from hub.reading.routing import alerts, balance, rota, service
from hub.reading.routing.models import ExamRoute, LimitAlert, RotaShift
from hub.sites.models import Agreement
from support.meeting import meet
from support.reading import claim, make_exam, ok, state_of, write
from workers import routing as worker
from workers import runner


def later(minutes: float) -> None:
    clock.set_source(lambda: datetime.now(UTC) + timedelta(minutes=minutes))


def on_duty(world, *logins: str, hours: float = 8, begin: float = -1, skills: tuple[str, ...] = ()) -> None:
    now = clock.now()
    with database().writing() as session:
        for login in logins:
            person = world.people[login]
            session.add(
                RotaShift(
                    hospital_id=person.org_id,
                    person_id=person.id,
                    starts_at=now + timedelta(hours=begin),
                    ends_at=now + timedelta(hours=hours),
                    skills=list(skills),
                    changed_at=now,
                    changed_by="test",
                )
            )


def save_plan(world, *rules, **more):
    with database().writing() as session:
        number, _plan = service.load(session)
        service.save(session, world.actor("director"), {"rules": list(rules), **more}, based_on=number)


def rule(key, *targets, **more):
    pairs = [{"hospital": one[0], "weight": one[1]} if isinstance(one, tuple) else {"hospital": one} for one in targets]
    return {"key": key, "name": key, "targets": pairs, **more}


def route(exam_id):
    with database().writing() as session:
        return service.route(session, exam_id)


def where(world, exam_id) -> str | None:
    with database().reading() as session:
        exam = session.get_one(Exam, exam_id)
        return exam.reading_org.code if exam.reading_org is not None else None


def row(exam_id) -> ExamRoute:
    with database().reading() as session:
        return session.get_one(ExamRoute, exam_id)


def test_entering_the_queue_asks_for_a_decision_in_the_same_transaction(world):
    save_plan(world, rule("all", "H02"))
    exam_id = make_exam(world, state=State.RECEIVING)
    with database().writing() as session:
        apply(session, SYSTEM, session.get_one(Exam, exam_id), Event.COMPLETE)
    assert where(world, exam_id) == "H01", "meanwhile it lies where its clinic's agreement says"
    assert runner.run(f"key:route:{exam_id}")
    assert where(world, exam_id) == "H02"
    reader = world.client("reporter.h02")
    found = ok(reader.get(f"/api/exams/{exam_id}/route"))
    assert (found["hospital"], found["rule"], found["plan"]) == ("H02", "all", 1)
    assert found["why"][-1] == "因此到县中医院"
    reader.cookies.set("hub_locale", "en")
    assert (
        ok(reader.get(f"/api/exams/{exam_id}/route"))["why"][-1] == "So it goes to County Hospital of Chinese Medicine"
    )
    assert world.client("reporter").get(f"/api/exams/{exam_id}/route").status_code == 404
    with database().reading() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "exam.route")).one()
        assert entry.detail["rule"] == "all"
        heard = [set(c.orgs) for c in session.scalars(select(live.Change)) if c.data.get("event") == "routed"]
    assert heard == [{world.orgs[code].id for code in ("C01", "H01", "H02")}]


def test_routing_twice_is_routing_once(world):
    save_plan(world, rule("all", "H02"), answer_minutes={"routine": 30})
    exam_id = make_exam(world)
    assert route(exam_id).hospital == "H02"
    first = row(exam_id).answer_by
    later(5)
    assert route(exam_id) is None
    assert row(exam_id).answer_by == first, "the time to answer does not begin again"


def test_a_corrected_registration_is_decided_anew(world):
    save_plan(world, rule("fast", "H02", priorities=["urgent"]))
    exam_id = make_exam(world)
    assert route(exam_id).hospital == "H01"
    with database().writing() as session:
        exam = session.get_one(Exam, exam_id)
        exam.priority, exam.priority_rank = "urgent", 1
    assert route(exam_id).hospital == "H02"


def test_what_is_held_or_has_a_draft_never_moves(world):
    save_plan(world, rule("all", "H02"))
    held, drafted, rejected = make_exam(world), make_exam(world), make_exam(world, state=State.REJECTED)
    client = world.client("reporter")
    claim(client, held)
    lease = claim(client, drafted)
    write(client, drafted, lease)
    ok(client.post(f"/api/exams/{drafted}/release", json={"lease": lease}))
    assert state_of(drafted) == "to_read"
    moves = [balance.Wanted(exam_id, "H01", "H02") for exam_id in (held, drafted, rejected)]
    for exam_id in (held, drafted, rejected):
        assert route(exam_id) is None
        assert where(world, exam_id) == "H01"
    with database().writing() as session:
        done = balance.move(session, world.actor("director"), moves)
    assert [bool(one.refusal) for one in done] == [True, True, True]
    assert {where(world, exam_id) for exam_id in (held, drafted, rejected)} == {"H01"}


def test_an_exam_of_the_pool_with_a_draft_stays_with_the_hospital_that_wrote_it(world):
    with database().writing() as session:
        session.query(Agreement).delete()
    exam_id = make_exam(world, reading=None)
    assert route(exam_id).hospital is None
    client = world.client("reporter")
    lease = claim(client, exam_id)
    write(client, exam_id, lease)
    ok(client.post(f"/api/exams/{exam_id}/release", json={"lease": lease}))
    assert where(world, exam_id) == "H01"


def test_so_does_one_with_a_draft_that_was_taken_before_routing_looked_at_it(world):
    with database().writing() as session:
        session.query(Agreement).delete()
    exam_id = make_exam(world, reading=None)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    write(client, exam_id, lease)
    ok(client.post(f"/api/exams/{exam_id}/release", json={"lease": lease}))
    assert where(world, exam_id) == "H01", "another hospital must not be handed this one's draft"
    assert route(exam_id) is None


def test_what_is_kept_for_who_asked_the_clinic_is_not_moved_away_from_him(world):
    exam_id = make_exam(world, waited_minutes=45)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    reason = {"lease": lease, "reason": "有无外伤?", "text": "有无外伤?"}
    ok(client.post(f"/api/exams/{exam_id}/request-history", json=reason))
    ok(world.client("technologist").post(f"/api/exams/{exam_id}/answer-history", json={"text": "有"}))
    assert state_of(exam_id) == "to_read"
    with database().writing() as session:
        done = balance.move(session, world.actor("director"), [balance.Wanted(exam_id, "H01", "H02")])
    assert done[0].refusal is not None
    assert where(world, exam_id) == "H01"


def test_an_exam_taken_from_the_pool_returns_there(world):
    save_plan(world)
    on_duty(world, "reporter", "reporter.h02")
    exam_id = make_exam(world, priority="emergency")
    assert route(exam_id).offered == ("H01", "H02")
    client = world.client("reporter.h02")
    lease = claim(client, exam_id)
    assert where(world, exam_id) == "H02"
    ok(client.post(f"/api/exams/{exam_id}/release", json={"lease": lease}))
    assert where(world, exam_id) is None


def test_an_emergency_is_offered_to_all_on_duty_and_the_first_claim_takes_it(world):
    on_duty(world, "reporter", "reporter.h02")
    exam_id = make_exam(world, priority="emergency")
    found = route(exam_id)
    assert (found.hospital, found.offered) == (None, ("H01", "H02"))
    with database().reading() as session:
        offered = [c for c in session.scalars(select(live.Change)) if c.data.get("event") == "emergency_offered"]
    assert [set(c.orgs) for c in offered] == [{world.orgs["H01"].id, world.orgs["H02"].id}]
    first, second = world.client("reporter"), world.client("reporter.h02")
    for client in (first, second):
        page = client.get("/queue").text
        assert exam_id in page
        assert "值班医院都可接" in page
    assert ok(second.post("/api/queue/next", json={}))["next"]["exam_id"] == exam_id
    assert where(world, exam_id) == "H02"
    assert ok(first.post("/api/queue/next", json={}))["next"] is None


def test_who_is_not_on_duty_is_not_offered_the_emergency_but_may_pick_it(world):
    on_duty(world, "reporter", "reviewer")
    exam_id = make_exam(world, priority="emergency")
    on_duty(world, "reporter.h02", begin=5, hours=9)
    with database().writing() as session:
        session.add(
            ExamRoute(exam_id=exam_id, rule="emergency", why=[], tried=[], offered=["H01"], decided_at=clock.now())
        )
        session.get_one(Exam, exam_id).reading_org_id = None
    stranger = world.client("reporter.h02")
    assert ok(stranger.post("/api/queue/next", json={}))["next"] is None
    assert claim(stranger, exam_id)


def test_nobody_answers_the_next_is_asked_then_everybody_is(world):
    with database().writing() as session:
        h2 = world.orgs["H02"].id
        session.add(Agreement(clinic_id=world.orgs["C01"].id, hospital_id=h2, rank=2))
    exam_id = make_exam(world, priority="urgent", due_minutes=600)
    assert route(exam_id).hospital == "H01"
    worker.ask_next()
    assert where(world, exam_id) == "H01"
    later(31)
    worker.ask_next()
    worker.ask_next()
    assert where(world, exam_id) == "H02"
    assert row(exam_id).tried == ["H01"]
    later(62)
    worker.ask_next()
    assert where(world, exam_id) is None
    assert row(exam_id).answer_by is None
    with database().reading() as session:
        alert = session.scalars(select(LimitAlert)).one()
        assert (alert.limit_key, alert.state) == (alerts.UNANSWERED, "raised")
    director = world.client("director")
    assert [one["level"] for one in ok(director.get("/api/alerts"))["alerts"]] == [0]
    claim(world.client("reporter"), exam_id)
    worker.raise_alerts()
    assert ok(director.get("/api/alerts"))["alerts"] == []


def test_an_answer_ends_the_waiting(world):
    exam_id = make_exam(world, priority="urgent")
    route(exam_id)
    client = world.client("reporter")
    claim(client, exam_id)
    later(40)
    worker.ask_next()
    assert where(world, exam_id) == "H01"
    assert row(exam_id).answer_by is None


@pytest.mark.server
def test_two_workers_ask_on_once(world):
    """Each of two sees the same overdue exam; the second finds that it was asked on already."""
    with database().writing() as session:
        session.add(Agreement(clinic_id=world.orgs["C01"].id, hospital_id=world.orgs["H02"].id, rank=2))
    exam_id = make_exam(world, priority="urgent")
    route(exam_id)
    later(31)

    def again():
        with database().writing() as session:
            return service.ask_next(session, exam_id)

    assert meet(lambda session: service.ask_next(session, exam_id), again) is None
    assert (where(world, exam_id), row(exam_id).tried) == ("H02", ["H01"])


@pytest.mark.server
def test_a_claim_and_a_move_of_the_same_instant(world):
    """Who claims first keeps the exam; the move finds it held."""
    exam_id = make_exam(world)
    actor, director = world.actor("reporter"), world.actor("director")

    def move():
        with database().writing() as session:
            return balance.move(session, director, [balance.Wanted(exam_id, "H01", "H02")])

    done = meet(lambda session: reading.claim(session, actor, exam_id), move)
    assert done[0].refusal is not None
    assert (where(world, exam_id), state_of(exam_id)) == ("H01", "reading")


@pytest.mark.server
def test_many_who_pull_at_once_get_different_exams(world):
    wanted = {make_exam(world, with_study=False) for _number in range(6)}
    actors = [world.actor(login) for login in ("reporter", "reviewer", "reviewer2")] * 2
    barrier, got = threading.Barrier(len(actors)), []

    def pull(actor):
        barrier.wait()
        with database().writing() as session:
            got.append(reading.next_for(session, actor).exam.id)

    threads = [threading.Thread(target=pull, args=(actor,)) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(got) == wanted
    assert len(got) == len(wanted)


def test_shares_between_hospitals(world):
    save_plan(world, rule("share", ("H01", 2), ("H02", 1)))
    exams = [make_exam(world, with_study=False) for _number in range(9)]
    for exam_id in exams:
        route(exam_id)
    got = [where(world, exam_id) for exam_id in exams]
    assert (got.count("H01"), got.count("H02")) == (6, 3)
    later(60 * 25)
    fresh = make_exam(world, with_study=False)
    assert "近 24 小时已接 0 份" in " ".join(str(one) for one in route(fresh).why)


def test_a_person_gets_what_he_reads_and_may_pick_the_rest(world):
    chest = make_exam(world, modality="DX", body_parts=["chest"])
    both = make_exam(world, modality="DX", body_parts=["chest", "hand"], priority="urgent")
    head = make_exam(world, priority="emergency")
    keeper, reader = world.client("director"), world.client("reporter")
    person = world.people["reporter"].id
    found = ok(keeper.put(f"/api/rota/skills/{person}", json={"skills": "DX:胸部"}))
    assert (found["skills"], found["words"]) == (["DX:chest"], ["X 线摄影 胸部"])
    assert ok(reader.post("/api/queue/ahead", json={}))["exam_id"] == chest
    assert ok(reader.post("/api/queue/next", json={}))["next"]["exam_id"] == chest
    assert ok(reader.post("/api/queue/next", json={}))["next"] is None
    assert claim(reader, head), "by hand he may open what he is not offered"
    on_duty(world, "reporter", skills=("DX",))
    assert ok(reader.post("/api/queue/next", json={}))["next"]["exam_id"] == both
    assert keeper.put(f"/api/rota/skills/{person}", json={"skills": "骨龄"}).status_code == 422
    assert ok(keeper.put(f"/api/rota/skills/{person}", json={"skills": ""}))["skills"] == []
    assert keeper.put(f"/api/rota/skills/{world.people['technologist'].id}", json={"skills": "CT"}).status_code == 404


def test_many_that_he_does_not_read_do_not_hide_the_one_that_he_does(world):
    for _number in range(45):
        make_exam(world, with_study=False, due_minutes=5, modality="DX", body_parts=["hand"])
    mine = make_exam(world, modality="DX", body_parts=["chest"], due_minutes=500)
    with database().writing() as session:
        rota.set_skills(session, world.actor("director"), world.people["reporter"].id, "DX:chest")
    assert ok(world.client("reporter").post("/api/queue/next", json={}))["next"]["exam_id"] == mine


def test_a_hospital_that_took_its_part_of_the_pool_reads_its_own_first(world):
    now = clock.now()
    for number in range(4):
        taken = make_exam(world, state=State.TO_REVIEW, with_study=False)
        with database().writing() as session:
            session.add(
                ExamRoute(
                    exam_id=taken, rule="pool", why=[], tried=[], offered=[], decided_at=now, taken_at=now,
                    taken_by=world.orgs["H01" if number else "H02"].id,
                )
            )  # fmt: skip
    pool = make_exam(world, reading=None, due_minutes=10)
    own = make_exam(world, due_minutes=300)
    late = make_exam(world, reading=None, due_minutes=-5)
    reader = world.client("reporter")
    got = [ok(reader.post("/api/queue/next", json={}))["next"]["exam_id"] for _number in range(3)]
    assert got == [late, own, pool]


def test_moving_when_a_hospital_is_behind(world):
    save_plan(world, balance={"waiting_minutes": 30, "exams": 2})
    on_duty(world, "reporter.h02")
    waiting = [make_exam(world, waited_minutes=45, with_study=False) for _number in range(3)]
    # Without a limit: what is left of one in working minutes hangs on the time of day.
    fresh = make_exam(world, waited_minutes=5, due_minutes=None, with_study=False)
    director = world.client("director")
    loads = {one["hospital"]: one for one in ok(director.get("/api/queue/loads"))["hospitals"]}
    assert (loads["H01"]["is_behind"], loads["H01"]["behind"], loads["H02"]["is_behind"]) == (True, 3, False)
    assert "落后" in director.get("/queue").text
    moves = ok(director.get("/api/queue/balance"))["moves"]
    assert {one["exam_id"] for one in moves} == set(waiting)
    assert {one["target"] for one in moves} <= {"H02", None}
    assert all(one["why"] for one in moves)
    claim(world.client("reporter"), waiting[0])
    body = {"moves": [{"exam_id": one["exam_id"], "source": "H01", "target": "H02"} for one in moves], "reason": "支援"}
    done = ok(director.post("/api/queue/balance", json=body))["moved"]
    assert {one["exam_id"]: one["moved"] for one in done} == {
        waiting[0]: False, waiting[1]: True, waiting[2]: True
    }  # fmt: skip
    assert [where(world, one) for one in (*waiting, fresh)] == ["H01", "H02", "H02", "H01"]
    again = ok(director.post("/api/queue/balance", json=body))["moved"]
    assert not any(one["moved"] for one in again)
    found = ok(world.client("reporter.h02").get(f"/api/exams/{waiting[1]}/route"))
    assert found["why"][:2] == [f"由{world.people['director'].name}移动", "支援"]
    assert (
        director.post("/api/queue/balance", json={"moves": [{**body["moves"][0], "target": "C01"}]}).status_code == 422
    )


def test_the_board_counts_what_would_be_moved_and_loads_no_exam_for_it(world):
    """It stands beside every queue page and is fetched anew with every change."""
    save_plan(world, balance={"waiting_minutes": 30, "exams": 2, "limit_percent": 80})
    make_exam(world, waited_minutes=45, with_study=False)
    make_exam(world, waited_minutes=5, due_minutes=-1, with_study=False)
    make_exam(world, waited_minutes=5, due_minutes=None, with_study=False)
    lease = claim(world.client("reporter"), drafted := make_exam(world, waited_minutes=45))
    write(world.client("reporter"), drafted, lease)
    ok(world.client("reporter").post(f"/api/exams/{drafted}/release", json={"lease": lease}))
    with database().reading() as session:
        loads = {load.hospital.code: load for load in balance.loads(session)}
        assert (loads["H01"].behind, loads["H01"].is_behind, loads["H01"].waiting) == (2, True, 4)
        assert not any(isinstance(one, Exam) for one in session.identity_map.values())
        assert len(balance.propose(session, hospital_id=world.orgs["H01"].id)) == 3


def test_a_hospital_with_nobody_on_duty_gets_nothing_by_itself(world):
    """Without agreement, rule or anybody on duty elsewhere the exams go to the shared pool."""
    save_plan(world, balance={"waiting_minutes": 30, "exams": 1, "automatic": True})
    on_duty(world, "reporter.h02", begin=5, hours=9)
    exam_id = make_exam(world, waited_minutes=45)
    worker.rebalance()
    assert where(world, exam_id) is None
    assert row(exam_id).rule == "balance"


def test_rebalancing_by_itself_is_off_until_it_is_wanted(world):
    exam_id = make_exam(world, waited_minutes=600, due_minutes=-300)
    for _number in range(3):
        make_exam(world, waited_minutes=600, with_study=False)
    worker.rebalance()
    assert where(world, exam_id) == "H01"


# --- rules through the API ----------------------------------------------------------------------------------------


def test_rules_are_versions_and_nobody_overwrites_unseen(world):
    director, office = world.client("director"), world.client("administrator")
    assert ok(director.get("/api/routing/plan"))["number"] == 0
    first = ok(director.put("/api/routing/plan", json={"plan": {"rules": [rule("a", "H01")]}, "based_on": 0}))
    assert (first["number"], first["changed_by"]) == (1, world.people["director"].name)
    refused = office.put("/api/routing/plan", json={"plan": {"rules": []}, "based_on": 0})
    assert (refused.status_code, refused.json()["code"]) == (409, "plan-changed")
    ok(office.put("/api/routing/plan", json={"plan": {"rules": [], "share_hours": 2}, "based_on": 1, "note": "少一条"}))
    assert ok(office.get("/api/routing/plan"))["plan"]["rules"] == []
    assert ok(office.get("/api/routing/plan/1"))["plan"]["rules"][0]["key"] == "a"
    assert office.get("/api/routing/plan/9").status_code == 404
    wrong = office.put("/api/routing/plan", json={"plan": {"rules": [rule("a", "H09")]}, "based_on": 2})
    assert (wrong.status_code, list(wrong.json()["fields"])) == (422, ["rules.0.targets"])
    with database().reading() as session:
        entries = session.scalars(select(AuditEntry).where(AuditEntry.action == "routing.plan")).all()
    assert [(one.detail["added"], one.detail["removed"]) for one in entries] == [(["a"], []), ([], ["a"])]
    assert entries[1].detail["settings"] == {"share_hours": 2}


def test_the_dry_run_says_where_and_why_and_changes_nothing(world):
    exam_id = make_exam(world)
    director, office = world.client("director"), world.client("administrator")
    with database().reading() as session:
        accession = session.get_one(Exam, exam_id).accession
    draft = {"rules": [rule("night", "H02", start="20:00", end="08:00", weekdays=[4])]}
    body = {"clinic": "C01", "modality": "CT", "plan": draft}
    assert ok(office.post("/api/routing/dry-run", json={**body, "at": "2026-03-07 03:00"}))["hospital"] == "H02"
    found = ok(office.post("/api/routing/dry-run", json={**body, "at": "2026-03-07T21:00"}))
    assert (found["hospital"], found["name"], found["rule"]) == ("H01", "县人民医院", "agreement")
    real = ok(director.post("/api/routing/dry-run", json={"accession": accession.lower()}))
    assert real["hospital"] == "H01"
    # The community's office knows no exam.
    assert office.post("/api/routing/dry-run", json={"accession": accession}).status_code == 404
    assert where(world, exam_id) == "H01"
    with database().reading() as session:
        assert session.scalars(select(ExamRoute)).all() == []
    wrong = office.post("/api/routing/dry-run", json={"clinic": "H01", "modality": "XX", "at": "gestern"})
    assert set(wrong.json()["fields"]) == {"clinic", "modality"}
    assert office.post("/api/routing/dry-run", json={**body, "at": "gestern"}).status_code == 422


def retake_of(world, exam_id):
    """The clinic's retake of an exam that its reader has sent back; it has its images and waits."""
    reader, clinic = world.client("reporter"), world.client("technologist")
    lease = claim(reader, exam_id)
    ok(reader.post(f"/api/exams/{exam_id}/request-retake", json={"lease": lease, "reasons": ["motion"], "reason": ""}))
    made = ok(clinic.post(f"/api/exams/{exam_id}/retake"), 201)
    with database().writing() as session:
        session.get_one(Exam, made["exam_id"]).state = State.TO_READ.value
    return made


def test_a_retake_goes_where_it_was_asked_for_whatever_the_rules_say_of_others(world):
    original = make_exam(world)
    save_plan(world, rule("all", "H02"))
    made = retake_of(world, original)
    director, office = world.client("director"), world.client("administrator")
    tried = ok(director.post("/api/routing/dry-run", json={"accession": made["accession"]}))
    assert (tried["hospital"], tried["rule"]) == ("H01", "retake_asked")
    assert tried["why"] == ["这是重拍检查,由县人民医院要求重拍", "因此到县人民医院"]
    route(made["exam_id"])
    assert where(world, made["exam_id"]) == "H01"
    assert ok(world.client("reporter").get(f"/api/exams/{made['exam_id']}/route"))["why"] == tried["why"]
    assert route(make_exam(world)).hospital == "H02"
    # The office knows no exam: it tries the same with the hospital named.
    body = {"clinic": "C01", "modality": "CT"}
    assert ok(office.post("/api/routing/dry-run", json=body))["hospital"] == "H02"
    assert ok(office.post("/api/routing/dry-run", json={**body, "retake_by": "h01"}))["why"] == tried["why"]
    wrong = office.post("/api/routing/dry-run", json={**body, "retake_by": "C02"})
    assert (wrong.status_code, list(wrong.json()["fields"])) == (422, ["retake_by"])
    office.cookies.set("hub_locale", "en")
    page = office.get("/admin/routing").text
    assert "Retake asked for by" in page and 'value="H02"' in page


def test_a_retake_whose_hospital_has_nobody_there_goes_by_the_rules_and_says_why(world):
    save_plan(world, rule("all", "H02"))
    made = retake_of(world, make_exam(world))
    on_duty(world, "reporter", begin=4)
    found = route(made["exam_id"])
    assert where(world, made["exam_id"]) == "H02"
    why = " ".join(str(one) for one in found.why)
    assert "H01现在无人值班" in why and "要求重拍的H01接不了" in why


def test_a_retake_without_agreement_goes_to_who_has_one(world):
    made = retake_of(world, make_exam(world))
    with database().writing() as session:
        agreement = session.scalars(select(Agreement).where(Agreement.clinic_id == world.orgs["C01"].id)).one()
        agreement.hospital_id = world.orgs["H02"].id
    found = route(made["exam_id"])
    assert where(world, made["exam_id"]) == "H02"
    assert "不在阅片协议" in " ".join(str(one) for one in found.why)


def test_a_retake_that_its_hospital_does_not_answer_is_asked_on(world):
    save_plan(world, rule("all", "H02"), answer_minutes={"routine": 30})
    made = retake_of(world, make_exam(world))
    route(made["exam_id"])
    later(31)
    with database().writing() as session:
        found = service.ask_next(session, made["exam_id"])
    assert where(world, made["exam_id"]) == "H02"
    assert "H01已被询问,无人应答" in [str(one) for one in found.why]


def test_pages_show_rules_rota_and_board(world):
    save_plan(world, rule("night", "H02"))
    on_duty(world, "reporter")
    make_exam(world)
    for login in ("director", "administrator"):
        client = world.client(login)
        page = client.get("/admin/routing")
        assert page.status_code == 200
        assert '"key": "night"' in page.text
        assert ("d-accession" in page.text) is (login == "director")
        assert "现在 1 人值班" in client.get("/admin/rota").text
        client.cookies.set("hub_locale", "en")
        assert "Rules" in client.get("/admin/routing").text
        assert "1 on duty now" in client.get("/admin/rota/table").text
    reader = world.client("reporter")
    assert "add-shift" not in reader.get("/admin/rota").text
    board = reader.get("/queue/board").text
    assert world.people["reporter"].name in board
    assert "县中医院" not in board, "how another hospital stands is the director's to see"
    assert "县中医院" in world.client("director").get("/queue/board").text


def test_a_version_that_the_hub_saved_itself_names_it_in_the_pages_language(world):
    with database().writing() as session:
        service.save(session, Actor(kind="system", id="system", name="sample county"), {"rules": []}, based_on=0)
    office = world.client("administrator")
    assert "· 系统<" in office.get("/admin/routing").text
    refused = office.put("/api/routing/plan", json={"plan": {"rules": []}, "based_on": 0})
    assert refused.json()["title"] == "规则刚刚被系统改过,请刷新后再改"
    office.cookies.set("hub_locale", "en")
    assert "· System<" in office.get("/admin/routing").text
    assert "sample county" not in office.get("/admin/routing").text


def test_the_job_of_an_exam_that_went_is_no_error(world):
    with database().writing() as session:
        jobs.enqueue(session, service.JOB, {"exam_id": "01zzzzzzzzzzzzzzzzzzzzzzzz"}, key="route:x")
    assert runner.run("key:route:x")
    with database().reading() as session:
        assert session.scalars(select(jobs.Job.state).where(jobs.Job.kind == service.JOB)).all() == [jobs.DONE]
