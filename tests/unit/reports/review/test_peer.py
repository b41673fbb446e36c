"""Reading again after signing: drawn fairly, blinded, lent for its time, graded, counted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_id
from hub.reports.models import Report, ReportVersion
from hub.reports.review import peer
from hub.reports.review.models import PeerDraw, PeerReview
from hub.studies.loans import ImageLoan
from hub.studies.models import ExamStudy, Instance, Series, Study
from support.reading import TEXT, cheap_keys, make_exam, ok, signed
from support.review import set_policy

EVERY = {"random": {"*": 1.0}}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


def step(deed, **more):
    with database().writing() as session:
        return deed(session, **more)


def given(world, policy=None, **more):
    """A signed report of H01 that is to be read again by H02's reviewer; exam, version, reading, his client."""
    set_policy(world, **(policy or EVERY))
    exam_id, version = signed(world, **more)
    step(peer.draw)
    step(peer.assign)
    reader = world.client("reviewer.h02")
    rows = ok(reader.get("/api/peer"))["readings"]
    return exam_id, version, rows[0], reader


def test_what_nobody_can_be_given_keeps_nothing_else_waiting(world):
    set_policy(world, **EVERY)
    signed(world)
    step(peer.draw)
    with database().writing() as session:
        session.scalars(select(PeerReview)).one().passed = [person.id for person in world.people.values()]
    signed(world)
    step(peer.draw)
    # By lot, one in two each time: sixty times in vain would be one in 10^18.
    assert any(step(peer.assign, limit=1) for _pass in range(60))


def studies_of(exam_id):
    with database().reading() as session:
        return session.execute(
            select(Study.uid, Study.id)
            .join(ExamStudy, ExamStudy.study_id == Study.id)
            .where(ExamStudy.exam_id == exam_id)
        ).one()


def put_report_among_the_images(study_id):
    """What the worker stores after a signature: a series of the hub's own; returns its UIDs."""
    with database().writing() as session:
        study = session.get_one(Study, study_id)
        image = session.scalars(select(Instance).where(Instance.study_id == study_id)).first()
        series = Series(
            id=new_id(), study_id=study_id, uid=study.uid + ".9", modality="SR", number=990, created_at=clock.now()
        )
        session.add(series)
        session.flush()
        values = {
            column.name: getattr(image, column.name)
            for column in Instance.__table__.columns
            if column.name not in ("id", "uid", "series_id", "made_by_hub", "sop_class")
        }
        session.add(
            Instance(
                **values,
                id=new_id(),
                uid=study.uid + ".9.1",
                series_id=series.id,
                made_by_hub=True,
                sop_class="1.2.840.10008.5.1.4.1.1.88.11",
            )
        )
        return series.uid, study.uid + ".9.1"


def test_it_is_blinded_until_the_verdict_and_ends_with_the_grade(world):
    exam_id, version, row, reader = given(world)
    uid, study_id = studies_of(exam_id)
    report_series, report_sop = put_report_among_the_images(study_id)
    case = ok(reader.get(f"/api/peer/{row['id']}"))
    assert case["report"] is None
    assert case["studies"] == [uid]
    names = {world.people["reporter"].name, world.people["reviewer"].name, TEXT["impression"], TEXT["findings"]}
    names |= {world.orgs["H01"].name, world.orgs["C01"].name}
    for page in (reader.get(f"/peer/{row['id']}"), reader.get("/peer"), reader.get(f"/api/peer/{row['id']}")):
        assert page.status_code == 200
        assert not [name for name in names if name in page.text]

    # The images of exactly this exam, without the report that lies among them; nothing of the exam itself.
    assert ok(reader.get(f"/dicomweb/studies/{uid}/series"))[0]["00080060"]["Value"] == ["CT"]
    for door in ("/dicomweb", "/viewer/dicomweb"):
        series = ok(reader.get(f"{door}/studies/{uid}/series"))
        assert report_series not in {one["0020000E"]["Value"][0] for one in series}
        everywhere = reader.get(f"{door}/series")
        assert report_series not in everywhere.text
        assert report_sop not in reader.get(f"{door}/studies/{uid}/metadata").text
        for path in (
            f"/studies/{uid}/series/{report_series}/metadata",
            f"/studies/{uid}/series/{report_series}/instances/{report_sop}",
            f"/studies/{uid}/series/{report_series}/instances/{report_sop}/metadata",
            f"/studies/{uid}/series/{report_series}/instances/{report_sop}/bulkdata/00420011",
        ):
            assert reader.get(door + path).status_code == 404, path
    for path in (
        f"/api/exams/{exam_id}",
        f"/api/exams/{exam_id}/reports",
        f"/api/reports/{version['version_id']}",
        f"/api/reports/{version['version_id']}/pdf",
        f"/reports/{version['version_id']}",
        f"/read/{exam_id}",
    ):
        assert reader.get(path).status_code == 404, path

    grade = {"agreement": "minor", "significant": False, "note": "描述可更具体"}
    assert reader.post(f"/api/peer/{row['id']}/grade", json=grade).json()["code"] == "wrong-state"
    assert "positive" in reader.post(f"/api/peer/{row['id']}/verdict", json={"verdict": "出血"}).json()["fields"]
    ok(reader.post(f"/api/peer/{row['id']}/verdict", json={"verdict": "脑出血", "positive": True}))
    case = ok(reader.get(f"/api/peer/{row['id']}"))
    assert case["report"]["impression"] == TEXT["impression"]
    page = reader.get(f"/peer/{row['id']}").text
    assert world.people["reporter"].name not in page
    assert reader.post(f"/api/peer/{row['id']}/verdict", json={"verdict": "改", "positive": True}).status_code == 409
    assert "note" in reader.post(f"/api/peer/{row['id']}/grade", json={**grade, "note": ""}).json()["fields"]
    done = ok(reader.post(f"/api/peer/{row['id']}/grade", json=grade))
    assert done["radpeer"] == "2a"
    # With the grade, the scope ends, at once.
    assert reader.get(f"/dicomweb/studies/{uid}/series").status_code in (204, 404)
    assert reader.get(f"/dicomweb/studies/{uid}/metadata").status_code == 404
    with database().reading() as session:
        assert session.scalars(select(ImageLoan)).all() == []
    assert world.client("quality").get("/quality/reviews").status_code == 200


def test_a_priors_study_of_the_reader_is_not_hidden_from_him(world):
    """Whoever may know the exam anyway sees what he saw before."""
    set_policy(world, random={"*": 1.0}, panel="own")
    exam_id, _version = signed(world)
    step(peer.draw)
    step(peer.assign)
    uid, study_id = studies_of(exam_id)
    report_series, _sop = put_report_among_the_images(study_id)
    own = world.client("reviewer2")
    assert len(ok(own.get("/api/peer"))["readings"]) == 1
    series = ok(own.get(f"/dicomweb/studies/{uid}/series"))
    assert report_series in {one["0020000E"]["Value"][0] for one in series}


def test_nobody_reads_his_own_case_and_a_declined_one_goes_on(world):
    set_policy(world, random={"*": 1.0}, panel="any")
    exam_id, _version = signed(world)
    step(peer.draw)
    assert step(peer.assign) == 1
    taken = {login: world.client(login) for login in ("reviewer", "reviewer2", "reviewer.h02")}
    assert ok(taken["reviewer"].get("/api/peer"))["readings"] == []
    holder = next(login for login in ("reviewer2", "reviewer.h02") if ok(taken[login].get("/api/peer"))["readings"])
    row = ok(taken[holder].get("/api/peer"))["readings"][0]
    other = "reviewer.h02" if holder == "reviewer2" else "reviewer2"
    assert taken[other].get(f"/api/peer/{row['id']}").status_code == 404
    assert (
        taken[other].post(f"/api/peer/{row['id']}/verdict", json={"verdict": "x", "positive": True}).status_code == 404
    )
    assert "reason" in taken[holder].post(f"/api/peer/{row['id']}/decline", json={"reason": ""}).json()["fields"]
    ok(taken[holder].post(f"/api/peer/{row['id']}/decline", json={"reason": "认识患者"}))
    assert taken[holder].get(f"/api/peer/{row['id']}").status_code == 404
    assert step(peer.assign) == 1
    assert [one["id"] for one in ok(taken[other].get("/api/peer"))["readings"]] == [row["id"]]
    ok(taken[other].post(f"/api/peer/{row['id']}/decline", json={"reason": "不熟悉"}))
    # Nobody is left: it waits, and nobody's scope is open.
    assert step(peer.assign) == 0
    with database().reading() as session:
        assert session.scalars(select(PeerReview.state)).all() == ["waiting"]
        assert session.scalars(select(ImageLoan)).all() == []
    del exam_id


def test_the_time_runs_out(world):
    exam_id, _version, row, reader = given(world)
    uid, _id = studies_of(exam_id)
    with database().writing() as session:
        late = clock.now() - timedelta(minutes=1)
        session.get_one(PeerReview, row["id"]).due_at = late
        session.scalars(select(ImageLoan)).one().until = late
    # The loan ends by its own time, also where no worker is alive.
    assert reader.get(f"/dicomweb/studies/{uid}/metadata").status_code == 404
    assert step(peer.expire) == 1
    assert step(peer.expire) == 0
    assert reader.get(f"/api/peer/{row['id']}").status_code == 404
    with database().reading() as session:
        found = session.get_one(PeerReview, row["id"])
        assert (found.state, found.passed) == ("waiting", [world.people["reviewer.h02"].id])


def test_of_a_voided_exam_nothing_is_read(world):
    exam_id, _version, row, reader = given(world)
    with database().writing() as session:
        session.get_one(Exam, exam_id).state = "void"
    assert step(peer.expire) == 1
    assert reader.get(f"/api/peer/{row['id']}").status_code == 404
    with database().reading() as session:
        assert session.get_one(PeerReview, row["id"]).state == "dropped"
        assert session.scalars(select(ImageLoan)).all() == []


def test_significant_disagreement_goes_to_arbitration_without_names(world):
    _exam, _version, row, reader = given(world)
    ok(reader.post(f"/api/peer/{row['id']}/verdict", json={"verdict": "钙化", "positive": False}))
    ok(reader.post(f"/api/peer/{row['id']}/grade", json={"agreement": "disagree", "significant": True, "note": "误诊"}))
    author, director = world.client("reporter"), world.client("director")
    # The author learns of it with the decision.
    assert ok(author.get("/api/arbitrations"))["arbitrations"] == []
    case = ok(director.get("/api/arbitrations"))["arbitrations"][0]
    body = {"decision": "first", "radpeer": "1", "reason": "确为出血"}
    ok(director.post(f"/api/arbitrations/{case['id']}/decide", json=body))
    page = author.get("/reviews").text
    assert "确为出血" in page
    assert world.people["reviewer.h02"].name not in page
    assert "确为出血" in reader.get("/reviews").text


# --- the draw -------------------------------------------------------------------------------------------------------


def many(world, count, **more):
    """Signed reports as rows."""
    exam_id = make_exam(world, with_study=False, **more)
    with database().writing() as session:
        source = session.get_one(Exam, exam_id)
        columns = {column.name: getattr(source, column.name) for column in Exam.__table__.columns}
        for number in range(count):
            exam = Exam(**{**columns, "id": new_id(), "accession": f"N{exam_id[-6:]}{number:05d}", "state": "returned"})
            session.add(exam)
            session.flush()
            report = Report(id=new_id(), exam_id=exam.id, created_at=clock.now())
            session.add(report)
            session.flush()
            session.add(
                ReportVersion(
                    report_id=report.id,
                    state="signed",
                    author_id=world.people["reporter"].id,
                    reviewer_id=world.people["reviewer"].id,
                    signer_id=world.people["reviewer"].id,
                    issuer_id=exam.reading_org_id,
                    key_images=[],
                    created_at=clock.now(),
                    saved_at=clock.now(),
                    signed_at=clock.now() - timedelta(minutes=1),
                )
            )
        session.delete(source)


def test_each_report_is_drawn_once_at_the_rate_of_its_moment(world):
    set_policy(world, random={"CT": 0.3})
    many(world, 400)
    many(world, 50, modality="DX", body_parts=["chest"])
    taken = step(peer.draw, limit=1000)
    assert step(peer.draw, limit=1000) == 0
    set_policy(world, random={"CT": 1.0, "DX": 1.0})
    assert step(peer.draw, limit=1000) == 0
    with database().reading() as session:
        draws = session.scalars(select(PeerDraw)).all()
        rows = session.scalars(select(PeerReview)).all()
    assert len(draws) == 450
    assert taken == len(rows) == sum(draw.taken for draw in draws)
    # 400 at 30 %: within five standard deviations of 120; X-rays at none.
    assert 74 <= taken <= 166
    assert {row.modality for row in rows} == {"CT"}
    # By the hash alone, so that anybody who knows the secret can check it.
    assert all(draw.share == peer._share(draw.version_id) for draw in draws)
    assert all(draw.taken == (draw.share < draw.rate) for draw in draws)


def test_targeted_rules_add_to_the_random_ones(world):
    author = world.people["reporter"].id
    set_policy(
        world,
        random={"CT": 0.1},
        targets=[
            {"rate": 0.6, "author_id": author, "body_part": "head"},
            {"rate": 1.0, "modality": "DX"},
            {"rate": 1.0, "critical": True},
        ],
    )
    many(world, 200)
    many(world, 20, modality="DX", body_parts=["chest"])
    step(peer.draw, limit=1000)
    with database().reading() as session:
        rows = session.scalars(select(PeerReview)).all()
        draws = session.scalars(select(PeerDraw).where(PeerDraw.modality == "CT")).all()
    assert sum(row.modality == "DX" for row in rows) == 20
    assert {row.rule for row in rows if row.modality == "DX"} == {"targeted"}
    assert {draw.rate for draw in draws} == {0.6}
    # The random ones are those whose share lies below the random rate: a fair sample of all.
    assert all((draw.rule == "random") == (draw.share < 0.1) for draw in draws)


def test_readings_are_spread_over_the_readers(world):
    set_policy(world, random={"CT": 1.0}, panel="any")
    many(world, 20)
    step(peer.draw, limit=1000)
    assert step(peer.assign) == 20
    with database().reading() as session:
        readers = session.scalars(select(PeerReview.reader_id)).all()
    counts = {login: readers.count(world.people[login].id) for login in ("reviewer", "reviewer2", "reviewer.h02")}
    assert counts == {"reviewer": 0, "reviewer2": 10, "reviewer.h02": 10}


def test_an_empty_denominator_is_no_data(world):
    quality = world.client("quality")
    found = ok(quality.get("/api/review-figures"))
    assert found["peer"] == {
        "graded": 0,
        "radpeer": {"1": 0, "2a": 0, "2b": 0, "3a": 0, "3b": 0},
        "agreement": None,
        "concordance": None,
        "significant": None,
    }
    assert "无数据" in quality.get("/quality/reviews").text
    _exam, _version, row, reader = given(world)
    ok(reader.post(f"/api/peer/{row['id']}/verdict", json={"verdict": "脑出血", "positive": True}))
    ok(reader.post(f"/api/peer/{row['id']}/grade", json={"agreement": "agree"}))
    found = ok(quality.get("/api/review-figures"))
    assert (found["peer"]["graded"], found["peer"]["agreement"], found["random"]["graded"]) == (1, 1.0, 1)
    assert found["review"]["agreement"] is None
    assert found["progress"] == {"graded": 1}
