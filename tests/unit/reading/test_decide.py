"""Where an exam goes: one function of plain facts, whole, the same each time, and never without a reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.exams.catalogue import BODY_PARTS, MODALITIES, PRIORITIES
from hub.kit.errors import Invalid
from hub.kit.i18n import translate
from hub.reading.routing import plan as plans
from hub.reading.routing import skills
from hub.reading.routing.decide import Facts, decide, within
from hub.reading.routing.plan import Balance, Plan, Rule, Target

ZONE = "Asia/Shanghai"
# A Monday, 10:00 in the county.
MONDAY = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)
HOSPITALS = frozenset({"H01", "H02", "H03"})
NOBODY_SKILLED = (("MR",),)


def facts(*rules: Rule, **more: object) -> Facts:
    plan = more.pop("plan", None) or Plan(rules=rules)
    base = Facts(
        plan=plan, at=MONDAY, zone=ZONE, clinic="C01", modality="CT", body_parts=("head",), hospitals=HOSPITALS,
        agreements=("H01", "H02"),
    )  # fmt: skip
    return replace(base, **more)


def rule(key: str = "one", *targets: str | tuple[str, int], **more: object) -> Rule:
    pairs = tuple(Target(*one) if isinstance(one, tuple) else Target(one) for one in targets or ("H03",))
    return Rule(key=key, name=key, targets=pairs, **more)


def said(found) -> str:
    return " ".join(str(one) for one in found.why)


def test_without_rules_the_first_agreement_reads():
    found = decide(facts())
    assert (found.hospital, found.rule) == ("H01", "agreement")
    assert "没有规则适用" in said(found)


def test_without_agreement_the_shared_pool():
    found = decide(facts(agreements=()))
    assert (found.hospital, found.rule) == (None, "pool")
    assert "共享池" in said(found)


def test_a_hospital_that_was_switched_off_reads_nothing():
    assert decide(facts(hospitals=frozenset({"H02", "H03"}))).hospital == "H02"
    assert decide(facts(rule("one", "H01"), hospitals=frozenset({"H02"}))).hospital == "H02"


def test_the_first_rule_that_fits_decides():
    first, second = rule("first", "H03", modalities=("DX",)), rule("second", "H02", modalities=("CT",))
    assert (decide(facts(first, second)).hospital, decide(facts(first, second)).rule) == ("H02", "second")
    assert decide(facts(rule("off", "H03", active=False), second)).rule == "second"


@pytest.mark.parametrize(
    ("condition", "fitting", "other"),
    [
        ({"clinics": ("C01",)}, {}, {"clinic": "C02"}),
        ({"modalities": ("CT", "MR")}, {}, {"modality": "DX"}),
        ({"body_parts": ("head", "neck")}, {"body_parts": ("chest", "neck")}, {"body_parts": ("chest",)}),
        ({"body_parts": ("head",)}, {}, {"body_parts": ()}),
        ({"priorities": ("urgent",)}, {"priority": "urgent"}, {}),
        ({"encounters": ("inpatient",)}, {"encounter": "inpatient"}, {}),
        ({"weekdays": (0,)}, {}, {"at": MONDAY + timedelta(days=1)}),
        ({"start": "08:00", "end": "12:00"}, {}, {"at": MONDAY + timedelta(hours=2)}),
    ],
)
def test_each_condition(condition, fitting, other):
    asked = facts(rule("only", "H03", **condition))
    assert decide(replace(asked, **fitting)).rule == "only"
    assert decide(replace(asked, **other)).rule == "agreement"


def at(day: int, clock: str) -> datetime:
    """A moment of the week of 2 March 2026 in the county's zone."""
    hour, minute = map(int, clock.split(":"))
    return datetime(2026, 3, 1 + day, hour, minute, tzinfo=UTC) - timedelta(hours=8)


@pytest.mark.parametrize(
    ("weekdays", "start", "end", "moment", "wanted"),
    [
        ((), "20:00", "08:00", at(1, "19:59"), False),
        ((), "20:00", "08:00", at(1, "20:00"), True),
        ((), "20:00", "08:00", at(2, "07:59"), True),
        ((), "20:00", "08:00", at(2, "08:00"), False),
        # Friday's night: the morning of Saturday belongs to it, the morning of Friday does not.
        ((4,), "20:00", "08:00", at(5, "21:00"), True),
        ((4,), "20:00", "08:00", at(6, "03:00"), True),
        ((4,), "20:00", "08:00", at(5, "03:00"), False),
        ((4,), "20:00", "08:00", at(6, "21:00"), False),
        # Sunday's night goes into Monday.
        ((6,), "22:00", "06:00", at(8, "05:00"), True),
        ((6,), "22:00", "06:00", at(1, "05:00"), True),
        ((), "00:00", "00:00", at(3, "00:00"), True),
        ((2,), "08:00", "08:00", at(3, "09:00"), True),
        ((2,), "08:00", "08:00", at(4, "07:59"), True),
        ((2,), "08:00", "08:00", at(3, "07:59"), False),
        ((5, 6), "", "", at(6, "00:00"), True),
        ((5, 6), "", "", at(5, "23:59"), False),
    ],
)
def test_hours_are_the_countys_and_may_go_over_midnight(weekdays, start, end, moment, wanted):
    assert within(rule(weekdays=weekdays, start=start, end=end), moment, ZONE) is wanted


def test_the_countys_zone_not_the_servers():
    night = rule(start="20:00", end="08:00")
    # 13:00 UTC is 21:00 in Shanghai and 14:00 in Berlin.
    moment = datetime(2026, 7, 1, 13, 0, tzinfo=UTC)
    assert within(night, moment, ZONE)
    assert not within(night, moment, "Europe/Berlin")


def test_shares_are_kept_over_the_window():
    shared = rule("share", ("H01", 3), ("H02", 1))
    counts: dict[tuple[str, str], int] = {}
    for _number in range(400):
        found = decide(facts(shared, counts=counts))
        assert found.hospital
        counts[("share", found.hospital)] = counts.get(("share", found.hospital), 0) + 1
        # At every moment, not only at the end, nobody is more than one exam off his part.
        whole = sum(counts.values())
        assert abs(counts.get(("share", "H01"), 0) - whole * 0.75) <= 1
    assert counts == {("share", "H01"): 300, ("share", "H02"): 100}
    assert "应占 75%" in said(decide(facts(shared, counts=counts)))


def test_a_share_of_nothing_is_asked_when_the_others_cannot():
    spare = rule("spare", ("H01", 1), ("H03", 0))
    assert decide(facts(spare, counts={("spare", "H01"): 900})).hospital == "H01"
    assert decide(facts(spare, tried=("H01",))).hospital == "H03"


def test_a_rule_may_keep_to_the_agreements():
    agreed = rule("agreed", "H03", "H02", agreed_only=True)
    found = decide(facts(agreed))
    assert found.hospital == "H02"
    assert "没有阅片协议" in said(found)


def test_a_hospital_with_a_rota_reads_only_with_somebody_there():
    night = rule("night", "H01", "H02")
    nobody = facts(night, rota=frozenset({"H01"}))
    assert decide(nobody).hospital == "H02"
    assert "无人值班" in said(decide(nobody))
    assert decide(replace(nobody, duty={"H01": ((),)})).hospital == "H01"
    assert decide(replace(nobody, duty={"H01": NOBODY_SKILLED})).hospital == "H02"
    # Without a rota nobody knows, so somebody is there.
    assert decide(replace(nobody, rota=frozenset())).hospital == "H01"


def test_when_no_hospital_of_a_rule_can_the_next_is_asked():
    first, second = rule("first", "H03"), rule("second", "H02")
    found = decide(facts(first, second, rota=frozenset({"H03"})))
    assert (found.hospital, found.rule) == ("H02", "second")
    assert "都接不了" in said(found)


def test_who_did_not_answer_is_not_asked_again():
    assert decide(facts(tried=("H01",))).hospital == "H02"
    assert decide(facts(tried=("H01", "H02"))).hospital is None
    assert decide(facts(rule("one", "H03"), tried=("H03",))).hospital == "H01"


def test_an_exam_that_comes_back_stays_where_it_was():
    shared = rule("share", "H01", "H02")
    counts = {("share", "H02"): 50}
    assert decide(facts(shared, counts=counts)).hospital == "H01"
    assert decide(facts(shared, counts=counts, settled="H02")).hospital == "H02"
    assert decide(facts(shared, counts=counts, settled="H02", rota=frozenset({"H02"}))).hospital == "H01"


def test_emergencies_go_to_all_on_duty():
    asked = facts(rule("one", "H03"), priority="emergency", rota=HOSPITALS, duty={"H01": ((),), "H02": ((), ("MR",))})
    found = decide(asked)
    assert (found.hospital, found.rule, found.offered) == (None, "emergency", ("H01", "H02"))
    assert found.answer_minutes == 10
    assert "先接先得" in said(found)


def test_an_emergency_with_one_hospital_on_duty_goes_there_and_to_all_if_it_does_not_answer():
    asked = facts(priority="emergency", rota=HOSPITALS, duty={"H02": ((),)})
    assert (decide(asked).hospital, decide(asked).rule) == ("H02", "emergency")
    again = decide(replace(asked, tried=("H02",)))
    assert (again.hospital, again.offered, again.answer_minutes) == (None, ("H02",), 0)


def test_an_emergency_does_not_wait_for_a_skill():
    found = decide(facts(priority="emergency", rota=HOSPITALS, duty={"H01": NOBODY_SKILLED, "H02": NOBODY_SKILLED}))
    assert found.offered == ("H01", "H02")
    one = decide(facts(priority="emergency", rota=HOSPITALS, duty={"H01": NOBODY_SKILLED, "H02": (("CT",),)}))
    assert one.hospital == "H02"


def test_an_emergency_with_nobody_on_duty_follows_rules_and_agreements():
    assert decide(facts(priority="emergency")).rule == "agreement"
    assert decide(facts(priority="emergency", rota=HOSPITALS)).hospital is None
    off = Plan(rules=(rule("one", "H03"),), emergency_to_all=False)
    assert decide(facts(plan=off, priority="emergency", duty={"H01": ((),)})).rule == "one"


def test_a_retake_goes_to_the_hospital_that_asked_for_it():
    asked = facts(rule("all", "H03"), retake_by="H02")
    found = decide(asked)
    assert (found.hospital, found.rule) == ("H02", "retake_asked")
    assert "重拍" in said(found)
    # Its load does not send it elsewhere, and it is asked on like anything else.
    shared = facts(rule("share", "H01", "H02"), counts={("share", "H02"): 900}, retake_by="H02", priority="urgent")
    assert (decide(shared).hospital, decide(shared).answer_minutes) == ("H02", 30)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"rota": frozenset({"H02"})}, "无人值班"),
        ({"rota": frozenset({"H02"}), "duty": {"H02": NOBODY_SKILLED}}, "没有登记这类检查的阅片能力"),
        ({"hospitals": frozenset({"H01", "H03"})}, "已停用或不阅片"),
        ({"tried": ("H02",)}, "无人应答"),
        ({"agreements": ("H01",)}, "已不在阅片协议"),
    ],
)
def test_a_retake_falls_back_on_rules_and_agreements_with_the_reason(more, why):
    found = decide(facts(retake_by="H02", **more))
    assert (found.hospital, found.rule) == ("H01", "agreement")
    assert why in said(found)
    assert "按规则和协议" in said(found)
    ruled = decide(facts(rule("all", "H03"), retake_by="H02", **more))
    assert (ruled.hospital, ruled.rule) == ("H03", "all")
    assert why in said(ruled)


def test_what_a_retakes_hospital_may_read_is_what_it_would_be_given():
    """An agreement, a rule that names it without one, the shared pool, and emergencies that go to all."""
    asked = facts(retake_by="H03")
    assert decide(asked).rule == "agreement"
    assert decide(replace(asked, plan=Plan(rules=(rule("one", "H03", "H01"),)))).hospital == "H03"
    closed = Plan(rules=(rule("one", "H03", agreed_only=True), rule("off", "H03", active=False)))
    assert decide(replace(asked, plan=closed)).hospital == "H01"
    assert decide(replace(asked, agreements=())).hospital == "H03"
    manned = replace(asked, priority="emergency", rota=HOSPITALS, duty={"H01": ((),), "H03": ((),)})
    assert decide(manned).hospital == "H03"
    assert decide(replace(manned, plan=Plan(emergency_to_all=False))).hospital == "H01"


def test_an_emergency_retake_goes_to_all_where_its_hospital_does_not_answer():
    asked = facts(priority="emergency", rota=HOSPITALS, duty={"H01": ((),), "H02": ((),)}, retake_by="H02")
    assert (decide(asked).hospital, decide(asked).answer_minutes) == ("H02", 10)
    again = decide(replace(asked, tried=("H02",)))
    assert (again.hospital, again.rule, again.offered) == (None, "emergency", ("H01", "H02"))
    nobody = decide(replace(asked, duty={"H01": ((),)}))
    assert (nobody.hospital, nobody.rule) == ("H01", "emergency")
    assert "无人值班" in said(nobody)
    # A hospital without a rota may be asleep, while somebody elsewhere is known to be there.
    unknown = decide(replace(asked, rota=frozenset({"H01"}), duty={"H01": ((),)}))
    assert (unknown.hospital, unknown.rule) == ("H01", "emergency")
    assert "没有排值班表" in said(unknown)
    assert decide(replace(asked, rota=frozenset(), duty={})).hospital == "H02"


def test_answering_times_are_the_rules_or_the_plans():
    assert decide(facts(rule("one", answer_minutes=7))).answer_minutes == 7
    assert decide(facts(rule("one"), priority="urgent")).answer_minutes == 30
    assert decide(facts(rule("one"))).answer_minutes == 0


CODES = st.sampled_from(["H01", "H02", "H03", "H04"])
TIMES = st.sampled_from(["", "00:00", "08:00", "20:00", "23:59"])
SKILLS = st.lists(st.sampled_from(["CT", "DX", "DX:chest", "*:head", "MR:heart"]), max_size=2, unique=True).map(tuple)


@st.composite
def any_rule(draw):
    start = draw(TIMES)
    return Rule(
        key=draw(st.sampled_from("abcd")),
        name="r",
        active=draw(st.booleans()),
        clinics=draw(st.sampled_from([(), ("C01",), ("C02",)])),
        modalities=draw(st.sampled_from([(), ("CT",), ("DX", "MR")])),
        body_parts=draw(st.sampled_from([(), ("head",)])),
        priorities=draw(st.sampled_from([(), ("emergency",), ("routine",)])),
        encounters=draw(st.sampled_from([(), ("inpatient",)])),
        weekdays=draw(st.sampled_from([(), (0,), (5, 6)])),
        start=start,
        end=draw(TIMES.filter(bool)) if start else "",
        targets=tuple(
            Target(code, draw(st.integers(0, 5))) for code in draw(st.lists(CODES, min_size=1, max_size=3, unique=True))
        ),
        agreed_only=draw(st.booleans()),
        answer_minutes=draw(st.none() | st.integers(0, 60)),
    )


@st.composite
def any_facts(draw):
    duty = draw(st.dictionaries(CODES, st.lists(SKILLS, min_size=1, max_size=3).map(tuple), max_size=4))
    return Facts(
        plan=Plan(rules=tuple(draw(st.lists(any_rule(), max_size=4))), emergency_to_all=draw(st.booleans())),
        at=MONDAY + timedelta(minutes=draw(st.integers(0, 60 * 24 * 14))),
        zone=ZONE,
        clinic=draw(st.sampled_from(["C01", "C02", "C99"])),
        modality=draw(st.sampled_from(["CT", "DX", "MR"])),
        body_parts=draw(st.lists(st.sampled_from(["head", "chest"]), max_size=2, unique=True).map(tuple)),
        priority=draw(st.sampled_from(list(PRIORITIES))),
        encounter=draw(st.sampled_from(["outpatient", "inpatient"])),
        hospitals=draw(st.frozensets(CODES)),
        agreements=draw(st.lists(CODES, max_size=3, unique=True).map(tuple)),
        rota=draw(st.frozensets(CODES)) | frozenset(duty),
        duty=duty,
        counts=draw(st.dictionaries(st.tuples(st.sampled_from("abcd"), CODES), st.integers(0, 99), max_size=8)),
        tried=draw(st.lists(CODES, max_size=3, unique=True).map(tuple)),
        settled=draw(st.none() | CODES),
        retake_by=draw(st.just("") | CODES),
    )


@given(any_facts())
def test_it_always_decides_the_same_and_says_why(asked):
    found = decide(asked)
    assert found == decide(asked)
    assert found.why
    for reason in found.why:
        for locale in ("zh", "en"):
            text = translate(reason, locale)
            assert text.strip()
            assert "{" not in text
    if found.hospital is None:
        assert found.rule in ("pool", "emergency")
        return
    assert found.hospital in asked.hospitals
    assert found.hospital not in asked.tried
    # A hospital that keeps a rota is asked only while somebody is there who reads such an exam, or for an emergency.
    if found.hospital in asked.rota:
        people = asked.duty.get(found.hospital, ())
        assert people
        assert found.rule == "emergency" or any(skills.covers(p, asked.modality, asked.body_parts) for p in people)
    assert str(found.why[-1]).endswith(found.hospital)


@given(any_facts())
def test_asking_on_ends_in_the_shared_pool(asked):
    """However often nobody answers, the exam is offered to somebody else and at last to everybody."""
    seen = []
    for _number in range(8):
        found = decide(asked)
        if found.hospital is None:
            return
        assert found.hospital not in seen
        seen.append(found.hospital)
        asked = replace(asked, tried=(*asked.tried, found.hospital), settled=None)
    pytest.fail("it never came to an end")


@given(st.lists(any_rule(), max_size=4))
def test_a_plan_is_read_as_it_was_written(found):
    rules = tuple(replace(one, key=f"k{number}") for number, one in enumerate(found))
    plan = Plan(
        rules=rules, emergency_to_all=False, answer_minutes={"emergency": 1, "urgent": 2, "routine": 3},
        share_hours=5, pool_shares={"H01": 3}, balance=Balance(10, 20, 1, True),
    )  # fmt: skip
    assert plans.parse(plans.to_json(plan), clinics=None, hospitals=None) == plan


GOOD = {"key": "k", "name": "n", "targets": [{"hospital": "H01", "weight": 1}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"rules": "x"}, "rules"),
        ({"ruls": []}, "ruls"),
        ({"rules": [{**GOOD, "key": "emergency"}]}, "rules.0.key"),
        ({"rules": [{**GOOD, "key": "Ä"}]}, "rules.0.key"),
        ({"rules": [GOOD, GOOD]}, "rules.1.key"),
        ({"rules": [{**GOOD, "name": ""}]}, "rules.0.name"),
        ({"rules": [{**GOOD, "targets": []}]}, "rules.0.targets"),
        ({"rules": [{**GOOD, "targets": [{"hospital": "C01"}]}]}, "rules.0.targets"),
        ({"rules": [{**GOOD, "targets": [{"hospital": "H01"}] * 2}]}, "rules.0.targets"),
        ({"rules": [{**GOOD, "targets": [{"hospital": "H01", "weight": -1}]}]}, "rules.0.targets.0"),
        ({"rules": [{**GOOD, "modality": ["CT"]}]}, "rules.0.modality"),
        ({"rules": [{**GOOD, "modalities": ["XX"]}]}, "rules.0.modalities"),
        ({"rules": [{**GOOD, "clinics": ["C09"]}]}, "rules.0.clinics"),
        ({"rules": [{**GOOD, "weekdays": [7]}]}, "rules.0.weekdays"),
        ({"rules": [{**GOOD, "start": "8:00", "end": "09:00"}]}, "rules.0.start"),
        ({"rules": [{**GOOD, "start": "08:00"}]}, "rules.0.start"),
        ({"rules": [{**GOOD, "active": 1}]}, "rules.0.active"),
        ({"rules": [{**GOOD, "answer_minutes": True}]}, "rules.0.answer_minutes"),
        ({"rules": [None]}, "rules.0"),
        ({"rules": [GOOD] * 101}, "rules"),
        ({"share_hours": 0}, "share_hours"),
        ({"answer_minutes": {"emergency": -1}}, "answer_minutes.emergency"),
        ({"answer_minutes": []}, "answer_minutes"),
        ({"pool_shares": {"C01": 1}}, "pool_shares.C01"),
        ({"balance": {"automatic": "yes"}}, "balance.automatic"),
        ({"balance": {"exam": 1}}, "balance.exam"),
        ({"emergency_to_all": None}, "emergency_to_all"),
    ],
)
def test_a_wrong_plan_says_where(body, field):
    with pytest.raises(Invalid) as caught:
        plans.parse(body, clinics=frozenset({"C01"}), hospitals=frozenset({"H01"}))
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize(
    ("typed", "wanted", "unknown"),
    [
        ("", [], []),
        ("CT;DX:chest", ["CT", "DX:chest"], []),
        ("ct, dx:胸部", ["CT", "DX:chest"], []),
        ("CT、MR CT", ["CT", "MR"], []),
        ("*:breast", ["*:breast"], []),
        ("超声;骨龄;*", ["US"], ["骨龄", "*"]),
        ("DX:牙", [], ["DX:牙"]),
    ],
)
def test_skills_as_people_type_them(typed, wanted, unknown):
    assert skills.parse(typed) == (wanted, unknown)


@pytest.mark.parametrize(
    ("declared", "modality", "parts", "wanted"),
    [
        ([], "MG", ["breast"], True),
        (["CT"], "CT", ["head", "chest"], True),
        (["CT"], "DX", ["chest"], False),
        (["DX:chest"], "DX", ["chest"], True),
        (["DX:chest"], "DX", ["chest", "hand"], False),
        (["DX:chest", "DX:hand"], "DX", ["chest", "hand"], True),
        (["*:head"], "MR", ["head"], True),
        (["*:head"], "MR", [], False),
        (["DX:chest"], "DX", [], True),
    ],
)
def test_what_skills_cover(declared, modality, parts, wanted):
    assert skills.covers(declared, modality, parts) is wanted


@given(st.sampled_from(list(MODALITIES)), st.sampled_from(list(BODY_PARTS)))
def test_every_modality_and_part_can_be_a_skill_by_code_and_by_name(modality, part):
    name = translate(BODY_PARTS[part].name, "zh").split("/")[0]
    assert skills.parse(f"{modality}:{part}") == ([f"{modality}:{part}"], [])
    assert skills.parse(f"{modality}:{name}") == ([f"{modality}:{part}"], [])
