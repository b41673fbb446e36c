"""`Study.readers`, which searches walk by, says at every moment what the exams say: for every actor, after every change."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select, text, update

from hub.accounts.roles import Role
from hub.exams import registration
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.actor import QUERY_SCOPE, SYSTEM, Actor
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.studies import intake, linking, repository, search, trash
from hub.studies.intake import Incoming
from hub.studies.models import ExamStudy, Study
from hub.studies.search import Level, Query, scope
from support.files import dicom_file
from support.reading import claim, make_exam

if TYPE_CHECKING:
    from support.world import World


def actors(world: World) -> list[Actor]:
    """Those who see by their organisation, in clinics and hospitals; archives; machines of clinics; real readers."""
    orgs = [world.orgs[code] for code in ("C01", "C02", "H01", "H02")]
    alone = (Role.TECHNOLOGIST, Role.CLINICIAN, Role.REPORTER, Role.ADMINISTRATOR, Role.QUALITY)
    roles = [frozenset({role}) for role in alone]
    roles += [frozenset({Role.REPORTER, Role.TECHNOLOGIST}), frozenset({Role.CLINICIAN, Role.REVIEWER})]
    found = [SYSTEM]
    for org, held in product(orgs, roles):
        found.append(Actor(kind="person", id="p", org_id=org.id, org_kind=org.kind, roles=held))
    for org, scopes in product(orgs, (frozenset({QUERY_SCOPE}), frozenset({"retrieve"}))):
        found.append(Actor(kind="machine", id="m", org_id=org.id, org_kind=org.kind, scopes=scopes))
    return [*found, *(world.actor(login) for login in ("reporter", "reporter.h02"))]


def agree(world: World) -> dict[str, str]:
    """Prove for everybody that what is walked by the index is what the exams allow; returns `readers` by study."""
    hidden = {State.REGISTERED, State.RECEIVING, State.CANCELLED}
    with database().reading() as session:
        for actor in actors(world):
            priors = repository.prior_studies(session, actor)
            exact = set(session.scalars(select(Study.id).where(repository.visibility(actor))))
            for condition in (
                repository.indexed_visibility(actor, priors),
                repository.visibility_knowing(actor, priors),
                repository.visibility_knowing(actor, priors, few=True),
            ):
                assert set(session.scalars(select(Study.id).where(condition))) == exact, actor
        found = {study.id: study.readers for study in session.scalars(select(Study))}
        for study, readers in found.items():
            exams = session.scalars(
                select(Exam).join(ExamStudy, ExamStudy.exam_id == Exam.id).where(ExamStudy.study_id == study)
            ).unique()
            kinds = {exam.reading_org_id or "*" for exam in exams if State(exam.state) not in hidden}
            assert readers == ("" if not kinds else kinds.pop() if len(kinds) == 1 else "+")
    return found


def studies_of(exam: str) -> str:
    with database().reading() as session:
        return session.scalars(select(ExamStudy.study_id).where(ExamStudy.exam_id == exam)).one()


def test_through_the_life_of_an_exam(world: World) -> None:
    """Arrives, is complete, claimed, moved, detached, deleted, restored, purged, cancelled."""
    technologist = world.actor("technologist")
    home = world.orgs["H01"].id

    def take(*files: bytes) -> str:
        (outcome, *_more) = intake.ingest_many(
            technologist, [Incoming(file) for file in files], org_id=world.orgs["C01"].id, source="web"
        )
        return outcome.study_id

    file = dicom_file(study=new_uid())
    study = take(file)
    assert agree(world) == {study: ""}
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    assert agree(world) == {study: home}
    with database().reading() as session:
        first = session.scalars(select(ExamStudy.exam_id)).one()
    claim(world.client("reporter"), first)
    assert agree(world) == {study: home}
    with database().writing() as session:
        session.execute(update(Exam).values(reading_org_id=None))
    assert agree(world) == {study: "*"}
    # Moved to another exam, which nobody has received yet.
    with database().writing() as session:
        patient = session.get_one(Exam, first).patient
        other = registration.new_exam(
            session, technologist, patient, org_id=world.orgs["C01"].id, source="web", modality="CT",
            body_parts=["head"], incomplete=[],
        )  # fmt: skip
        session.execute(update(Exam).where(Exam.id == first).values(state=State.TO_VERIFY.value))
        held = session.get_one(Exam, first, populate_existing=True)
        linking.relink(session, technologist, session.get_one(Study, study), from_exam=held, to_exam=other)
    assert agree(world) == {study: ""}
    with database().writing() as session:
        session.execute(update(Exam).where(Exam.id == other.id).values(state=State.TO_VERIFY.value))
    assert agree(world) == {study: home}
    with database().writing() as session:
        uid = trash.put(session, world.actor("director"), session.get_one(Study, study).uid, "拍错病人了").uid
    agree(world)
    with database().writing() as session:
        trash.restore(session, SYSTEM, uid)
    agree(world)
    with database().writing() as session:
        exams = list(session.scalars(select(Exam)).unique())
        for exam in exams:
            if exam.state in (State.REGISTERED, State.RECEIVING):
                registration.cancel(session, technologist, exam, reason="登记错误")
    agree(world)
    with database().writing() as session:
        session.execute(update(Study).values(trashed_at=clock.now() - timedelta(days=400)))
    assert trash.empty() == 1
    assert agree(world) == {}


def test_every_pair_of_states_and_hospitals(world: World) -> None:
    """Two exams of one study, and every change of either; at last each link is taken away."""
    one = make_exam(world, state=State.TO_READ)
    study = studies_of(one)
    agree(world)
    two = make_exam(world, state=State.TO_READ, reading="H02", with_study=False)
    with database().writing() as session:
        session.add(ExamStudy(exam_id=two, study_id=study, linked_at=clock.now(), linked_by="test"))
    assert agree(world) == {study: "+"}
    hospitals = (world.orgs["H01"].id, world.orgs["H02"].id, None)
    for state, hospital in product((State.SIGNED, State.RECEIVING), hospitals):
        for exam in (one, two):
            with database().writing() as session:
                session.execute(update(Exam).where(Exam.id == exam).values(state=state, reading_org_id=hospital))
            agree(world)
    other = studies_of(make_exam(world, state=State.TO_READ, reading=None))
    with database().writing() as session:
        session.execute(update(ExamStudy).where(ExamStudy.exam_id == one).values(study_id=other))
    agree(world)
    for exam in (two, one):
        with database().writing() as session:
            session.execute(delete(ExamStudy).where(ExamStudy.exam_id == exam))
        agree(world)


def test_a_link_across_clinics_is_asked_of_the_exam(world: World) -> None:
    exam = make_exam(world, state=State.TO_READ)
    with database().writing() as session:
        session.execute(update(Exam).where(Exam.id == exam).values(org_id=world.orgs["C02"].id))
        (readers,) = session.scalars(select(Study.readers))
        assert readers == "+"
        for actor in actors(world):
            exact = list(session.scalars(select(Study.id).where(repository.visibility(actor))))
            indexed = repository.indexed_visibility(actor, repository.prior_studies(session, actor))
            assert list(session.scalars(select(Study.id).where(indexed))) == exact, actor


def test_priors_come_and_go_with_the_lease(world: World) -> None:
    """The other hospital's exam of the same human being is found while one of his is held, by the same question."""
    now = clock.now()
    held = make_exam(world, state=State.TO_READ)
    with database().reading() as session:
        patient = session.get_one(Exam, held).patient
    prior = make_exam(world, state=State.SEEN, reading="H02", patient=patient)
    stranger = make_exam(world, state=State.SEEN, reading="H02")
    reader = world.actor("reporter")

    def found() -> set[str]:
        with database().reading() as session:
            rows = [
                search.study_values(session, reader, Query(Level.STUDY, county=county))[1] for county in (False, True)
            ]
            uids = [{row[0] for row in one} for one in rows]
            assert (
                uids[0] == uids[1] == {one.study_uid for one in search.search(session, reader, Query(Level.STUDY)).rows}
            )
            return set(session.scalars(select(Study.id).where(Study.uid.in_(uids[0]))))

    mine, theirs = studies_of(held), studies_of(prior)
    for few in (True, False):
        scope.sizes[reader.org_id or ""] = (float("inf"), few)
        for _again in range(3):
            with database().writing() as session:
                session.execute(update(Exam).where(Exam.id == held).values(lease_person_id=None, lease_until=None))
            for _more in range(3):
                assert found() == {mine}
            with database().writing() as session:
                session.execute(
                    update(Exam)
                    .where(Exam.id == held)
                    .values(lease_person_id=reader.id, lease_until=now + timedelta(minutes=5))
                )
            for _more in range(3):
                assert found() == {mine, theirs}
            agree(world)
    scope.sizes.clear()
    assert studies_of(stranger) not in found()


def test_what_the_column_says_too_much_is_not_shown(world: World) -> None:
    """Even if the column were wrong, an answer holds nothing that the exams do not allow."""
    make_exam(world, state=State.TO_READ, reading="H02")
    reader = world.actor("reporter")
    with database().writing() as session:
        session.execute(update(Study).values(readers="*"))
    scope.sizes[reader.org_id or ""] = (float("inf"), False)
    with database().reading() as session:
        for _again in range(3):
            assert search.study_values(session, reader, Query(Level.STUDY))[1] == []
            for level in Level:
                assert search.search(session, reader, Query(level)).rows == []
    scope.sizes.clear()


def test_the_migration_fills_it(world: World, hub_env: Path) -> None:
    """Back below it and forward again, with rows in the tables."""
    from alembic import command

    from hub.migrations.upgrade import config, upgrade

    make_exam(world, state=State.TO_READ)
    make_exam(world, state=State.SEEN, reading=None)
    make_exam(world, state=State.CANCELLED)
    before = agree(world)
    assert sorted(before.values()) == sorted(["", "*", world.orgs["H01"].id])
    database().engine.dispose()
    command.downgrade(config(), "0004")
    with database().reading() as session, pytest.raises(Exception, match="readers"):
        session.execute(text("SELECT readers FROM study"))
    upgrade(get_settings())
    assert agree(world) == before
