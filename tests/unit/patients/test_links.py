"""Who is whom: what is linked by itself, what a person decides, and that undoing holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit.models import AuditEntry
from hub.dicom.identity import check_digit
from hub.kit import jobs
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import Conflict, Forbidden, HubError, Invalid
from hub.patients import links
from hub.patients import service as patients
from hub.patients.links import TRANSITIONS, Identity, PairEvent, PairState
from hub.patients.models import Patient, PatientCorrection, PatientPair

if TYPE_CHECKING:
    from support.world import World

BORN = date(1981, 5, 12)


def number(serial: int = 1, born: date = BORN, sex: str = "M") -> str:
    """A valid identity number."""
    first = f"360731{born:%Y%m%d}{serial:02d}{'1' if sex == 'M' else '2'}"
    return first + check_digit(first)


def make(session: Session, world: World, org: str, *, name: str = "王伟", **values: Any) -> Patient:
    """A patient as a registration makes him."""
    given_ = {"sex": "M", "birth_date": BORN, "identity_number": "", **values}
    return patients.ensure(session, world.orgs[org].id, given_.pop("number", None), name, **given_)


def pair(session: Session, one: Patient, two: Patient) -> PatientPair:
    """The pair of two patients."""
    found = links.pair_of(session, one.id, two.id)
    assert found is not None
    return found


@contextmanager
def unwritten() -> Iterator[Session]:
    """A transaction that is rolled back: many examples of hypothesis in one hub."""
    with database().writing() as session:
        yield session
        session.rollback()


# --- by itself ----------------------------------------------------------------------------------------------------


def test_the_same_number_name_sex_and_birth_date_are_linked(world: World) -> None:
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=number())
        two = make(session, world, "C02", identity_number=number(), name=" 王 伟")
        assert one.county_patient_id == two.county_patient_id == one.home_county_id
        assert pair(session, one, two).basis == "number"
        assert session.scalars(select(AuditEntry.action).where(AuditEntry.action == "patient.link")).all()


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({"name": "李强"}, "conflict"),
        ({"birth_date": date(1981, 5, 13)}, "conflict"),
        ({"sex": "F"}, "conflict"),
        ({"sex": ""}, "candidate"),
        ({"birth_date": None}, "candidate"),
        ({"birth_estimated": True}, "candidate"),
    ],
)
def test_what_is_missing_or_differs_is_not_linked(world: World, values: dict[str, Any], state: str) -> None:
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=number())
        two = make(session, world, "C02", identity_number=number(), **values)
        assert one.county_patient_id != two.county_patient_id
        assert pair(session, one, two).state == state


def test_a_number_that_is_not_valid_links_nobody(world: World) -> None:
    """However it came into the index: the check digit, the date and the sex in it are asked again."""
    wrong = number()[:17] + ("1" if number()[17] != "1" else "2")
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=wrong)
        two = make(session, world, "C02", identity_number=wrong)
        assert one.county_patient_id != two.county_patient_id
        three = make(session, world, "C01", identity_number=number(sex="F"), number="3")
        four = make(session, world, "C02", identity_number=number(sex="F"), number="4")
        assert three.county_patient_id != four.county_patient_id


def test_same_name_and_birth_date_are_a_question(world: World) -> None:
    with database().writing() as session:
        one = make(session, world, "C01")
        two = make(session, world, "C02", identity_number=number())
        make(session, world, "C02", identity_number=number(7), number="other")
        make(session, world, "C02", sex="F", number="woman")
        # The other two are of another number, and of another sex.
        assert links.suggest(session, one.id) == 2
        assert pair(session, one, two).state == "candidate"
        assert one.county_patient_id != two.county_patient_id
        assert links.suggest(session, one.id) == 0
        assert links.waiting(session) == 2


def test_unknown_people_have_nothing_in_common(world: World) -> None:
    with database().writing() as session:
        one = make(session, world, "C01", name=links.UNKNOWN_NAME)
        make(session, world, "C02", name=links.UNKNOWN_NAME)
        assert links.suggest(session, one.id) == 0


def test_a_registration_asks_for_a_look_at_names(world: World) -> None:
    with database().writing() as session:
        one = make(session, world, "C01")
        kinds = session.scalars(select(jobs.Job.payload).where(jobs.Job.kind == links.SUGGEST_JOB)).all()
        assert kinds == [{"patient_id": one.id}]


# --- by a person --------------------------------------------------------------------------------------------------


def test_link_undo_and_again(world: World) -> None:
    director = world.actor("director")
    with database().writing() as session:
        one, two = make(session, world, "C01"), make(session, world, "C02")
        homes = one.county_patient_id, two.county_patient_id
        links.suggest(session, one.id)
        found = pair(session, one, two)
        with pytest.raises(Invalid):
            links.link(session, director, found.id, reason=" ")
        links.link(session, director, found.id, reason="电话核实", version=found.version)
        assert one.county_patient_id == two.county_patient_id == min(homes)
        links.undo(session, director, found.id, reason="其实是堂兄弟")
        assert (one.county_patient_id, two.county_patient_id) == homes
        assert found.state == "apart"
        assert links.suggest(session, one.id) == 0
        said = [(row.event, row.reason) for row in links.history(session, [found.id])]
        assert said == [("undo", "其实是堂兄弟"), ("link", "电话核实"), ("suggest", "")]
        links.link(session, director, found.id, reason="又核实过")
        assert one.county_patient_id == two.county_patient_id


def test_an_undone_pair_is_not_joined_again_by_a_third(world: World) -> None:
    """A third row of the same number may follow one of the two, never bring both together."""
    director = world.actor("quality")
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=number())
        two = make(session, world, "C02", identity_number=number())
        links.undo(session, director, pair(session, one, two).id, reason="冒用他人身份证")
        three = make(session, world, "H01", identity_number=number())
        assert one.county_patient_id != two.county_patient_id
        assert three.county_patient_id == one.county_patient_id
        assert pair(session, two, three).state == "candidate"
        links.evaluate(session, two)
        assert one.county_patient_id != two.county_patient_id


def test_a_conflict_is_corrected_or_kept_apart_never_linked(world: World) -> None:
    director = world.actor("director")
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=number())
        two = make(session, world, "C02", identity_number=number(), name="王玮")
        found = pair(session, one, two)
        with pytest.raises(Conflict) as caught:
            links.link(session, director, found.id, reason="看着像")
        assert caught.value.code == "contradiction"
        with pytest.raises(Forbidden):
            links.correct(session, world.actor("technologist"), two.id, Identity(name="王伟"), reason="笔误")
        with pytest.raises(Invalid) as refused:
            links.correct(session, director, two.id, Identity(sex="F"), reason="笔误")
        assert set(refused.value.fields) == {"sex"}
        links.correct(session, director, two.id, Identity(name="王伟"), reason="身份证原件为王伟")
        assert one.county_patient_id == two.county_patient_id
        assert found.state == "linked"
        kept = session.scalars(select(PatientCorrection)).one()
        assert (kept.before, kept.after) == ({"name": "王玮"}, {"name": "王伟"})
        assert two.pinyin == one.pinyin
        # And back: the link rested on the name.
        links.correct(session, director, two.id, Identity(name="王玮"), reason="看错了")
        assert found.state == "conflict"
        assert one.county_patient_id != two.county_patient_id
        links.keep_apart(session, director, found.id, reason="两个人,号码录错")
        links.evaluate(session, two)
        assert found.state == "apart"


def test_different_numbers_are_never_brought_together(world: World) -> None:
    director = world.actor("director")
    with database().writing() as session:
        one = make(session, world, "C01", identity_number=number(1))
        two = make(session, world, "C02", identity_number=number(2))
        middle = make(session, world, "H01")
        with pytest.raises(Conflict):
            links.link(session, director, links.pair_for(session, one.id, two.id).id, reason="看着像")
        links.link(session, director, links.pair_for(session, one.id, middle.id).id, reason="核实")
        with pytest.raises(Conflict):
            links.link(session, director, links.pair_for(session, middle.id, two.id).id, reason="核实")
        # The one in the middle turns out to have a number of his own.
        links.correct(session, director, middle.id, Identity(identity_number=number(2)), reason="补录")
        assert pair(session, one, middle).state == "conflict"
        assert middle.county_patient_id == two.county_patient_id != one.county_patient_id


def test_who_is_linked_by_others_is_parted_by_sides(world: World) -> None:
    director = world.actor("director")
    with database().writing() as session:
        rows = [make(session, world, org) for org in ("C01", "C02", "H01")]
        homes = [row.county_patient_id for row in rows]
        for one, two in ((0, 1), (1, 2), (0, 2)):
            links.link(session, director, links.pair_for(session, rows[one].id, rows[two].id).id, reason="核实")
        found = pair(session, rows[0], rows[1])
        with pytest.raises(Conflict) as caught:
            links.undo(session, director, found.id, reason="不是")
        assert caught.value.code == "still-joined"
        side = [rows[2].id] if found.one_id == rows[0].id else []
        links.undo(session, director, found.id, reason="不是", with_one=side)
        assert rows[0].county_patient_id == rows[2].county_patient_id == homes[0]
        assert rows[1].county_patient_id == homes[1]


def test_of_two_deciders_the_second_is_told(world: World) -> None:
    with database().writing() as session:
        one, two = make(session, world, "C01"), make(session, world, "C02")
        links.suggest(session, one.id)
        found = pair(session, one, two)
        seen = found.version
        links.keep_apart(session, world.actor("quality"), found.id, reason="两个人", version=seen)
        with pytest.raises(Conflict) as caught:
            links.link(session, world.actor("director"), found.id, reason="一个人", version=seen)
        assert caught.value.code == "changed-meanwhile"


# --- every cell ---------------------------------------------------------------------------------------------------


def _cells() -> list[tuple[PairState, PairEvent]]:
    return list(product(PairState, PairEvent))


@pytest.mark.parametrize(("state", "event"), _cells())
def test_every_state_event_and_role(world: World, state: PairState, event: PairEvent) -> None:
    actors: list[Actor] = [SYSTEM, *(world.actor(role.value) for role in Role)]
    with database().writing() as session:
        one, two = make(session, world, "C01"), make(session, world, "C02")
        found = links.pair_for(session, one.id, two.id)
        rule = TRANSITIONS.get((state, event))
        for actor in actors:
            found.state = state.value
            session.flush()
            roles = {"system"} if actor.kind == "system" else actor.roles
            if rule is not None and roles & rule.roles:
                links._apply(session, actor, found, event)
                assert found.state == rule.target
                assert links.history(session, [found.id])[0].to_state == rule.target
            else:
                with pytest.raises(Conflict if rule is None else Forbidden):
                    links._apply(session, actor, found, event)
                assert found.state == state
        session.rollback()


# --- whatever happens ---------------------------------------------------------------------------------------------

NAMES, NUMBERS = ("王伟", "王玮"), ("", number(1), number(2))
_row = st.tuples(st.sampled_from(("C01", "C02", "H01")), st.sampled_from(NAMES), st.sampled_from(NUMBERS))
_step = st.one_of(
    st.tuples(st.sampled_from(("link", "undo", "apart", "split")), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("name"), st.integers(0, 5), st.integers(0, 1)),
    st.tuples(st.just("number"), st.integers(0, 5), st.integers(0, 2)),
)


def _check(session: Session, rows: list[Patient]) -> None:
    groups: dict[str, set[str]] = {}
    for row in rows:
        groups.setdefault(row.county_patient_id, set()).add(row.id)
        # Who stands under one county patient is exactly who is joined by links.
        assert links.group_of(session, row.id) == {r.id for r in rows if r.county_patient_id == row.county_patient_id}
    for members in groups.values():
        theirs = [row for row in rows if row.id in members]
        assert len({row.identity_number for row in theirs} - {""}) <= 1, "two numbers under one county patient"
        assert min(str(row.home_county_id) for row in theirs) == theirs[0].county_patient_id
    for found in session.scalars(select(PatientPair).execution_options(populate_existing=True)):
        together = any({found.one_id, found.two_id} <= members for members in groups.values())
        assert not (together and found.state in ("apart", "conflict")), found.state
        assert together or found.state != "linked"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=st.lists(_row, min_size=3, max_size=6), steps=st.lists(_step, max_size=10))
def test_no_sequence_of_deeds_merges_two_numbers(
    world: World, rows: list[tuple[str, str, str]], steps: list[tuple[str, int, int]]
) -> None:
    director = world.actor("director")
    with unwritten() as session:
        made = [make(session, world, org, name=name, identity_number=given_) for org, name, given_ in rows]
        _check(session, made)
        for what, first, second in steps:
            one, two = made[first % len(made)], made[second % len(made)]
            before = {row.id: row.county_patient_id for row in made}
            try:
                if what == "name":
                    links.correct(session, director, one.id, Identity(name=NAMES[second]), reason="更正")
                elif what == "number":
                    links.correct(session, director, one.id, Identity(identity_number=NUMBERS[second]), reason="更正")
                else:
                    found = links.pair_for(session, one.id, two.id)
                    if what == "link":
                        links.link(session, director, found.id, reason="核实")
                        _check(session, made)
                        if links.group_of(session, one.id, without={found.id}) != links.group_of(session, one.id):
                            # What was linked just now can be undone, and then all is as it was.
                            links.undo(session, director, found.id, reason="撤销")
                            assert {row.id: row.county_patient_id for row in made} == before
                    elif what == "undo":
                        links.undo(session, director, found.id, reason="撤销")
                        assert one.county_patient_id != two.county_patient_id
                    elif what == "split":
                        others = links.group_of(session, found.one_id) - {found.one_id, found.two_id}
                        links.undo(session, director, found.id, reason="撤销", with_one=sorted(others)[::2])
                        assert one.county_patient_id != two.county_patient_id
                    else:
                        links.keep_apart(session, director, found.id, reason="两人")
            except HubError:
                assert {row.id: row.county_patient_id for row in made} == before
            for row in made:
                links.evaluate(session, row)
                links.suggest(session, row.id)
            _check(session, made)
