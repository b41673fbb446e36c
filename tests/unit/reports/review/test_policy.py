"""A hospital's policy: what is refused, what it says in plain words, who keeps it, when it counts."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from hub.kit.db import database
from hub.reading.signatures import checked, parse, policy_of, summary, to_json, within
from hub.sites.models import Organisation
from support.reading import ok


def test_an_old_policy_reads_as_before() -> None:
    assert parse({}).double
    assert not parse({"double_signature": False}).double
    assert not parse({}).preliminary
    assert not parse({}).grade_required
    # What a foreign hand wrote and makes no sense counts as default, the strict word on signatures stays.
    assert parse({"double_signature": True, "review": {"alone": "yes"}}) == parse({})
    assert parse({"review": "x"}) == parse({})


def test_what_is_kept_reads_back() -> None:
    values = {
        "alone": True,
        "alone_hours": [["22:00", "07:30"], ["12:00", "13:00"]],
        "random": {"CT": 0.05, "*": 0.01},
        "targets": [{"rate": 0.5, "modality": "CT", "critical": True}],
        "panel": "any",
        "peer_days": 3,
    }
    policy = checked(values, double=True)
    assert checked(to_json(policy), double=True) == policy


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"alone": "yes"}, "alone"),
        ({"alone_hours": [["22:00", "25:00"]]}, "alone_hours"),
        ({"alone_hours": [["22:00", "22:00"]]}, "alone_hours"),
        ({"preliminary_hours": "18-8"}, "preliminary_hours"),
        ({"preliminary_hours": [["18:00"]]}, "preliminary_hours"),
        ({"random": {"CT": 1.5}}, "random.CT"),
        ({"random": {"XX": 0.5}}, "random.XX"),
        ({"random": [1]}, "random"),
        ({"targets": [{"rate": 0.5}]}, "targets.0.rate"),
        ({"targets": [{"rate": True, "critical": True}]}, "targets.0.rate"),
        ({"targets": [{"rate": 0.5, "body_part": "nose-tip"}]}, "targets.0.body_part"),
        ({"targets": [{"rate": 0.1, "critical": True}] * 51}, "targets"),
        ({"panel": "all"}, "panel"),
        ({"peer_days": 0}, "peer_days"),
        ({"peer_days": True}, "peer_days"),
        ({"resident_titles": "x"}, "resident_titles"),
        ({"residents": ["a"], "attendings": ["a"]}, "attendings"),
    ],
)
def test_each_wrong_value_is_named(values, field) -> None:
    from hub.kit.errors import Invalid

    with pytest.raises(Invalid) as refused:
        checked(values, double=True)
    assert set(refused.value.fields) == {field}


def test_hours_are_the_countys(hub_env) -> None:
    night = ((18 * 60, 8 * 60),)
    # 23:30 and 07:59 in Shanghai are in the night, 08:00 and noon are not.
    for hour, minute, wanted in ((15, 30, True), (23, 59, True), (0, 0, False), (4, 0, False), (10, 0, True)):
        assert within(night, datetime(2026, 3, 2, hour, minute, tzinfo=UTC)) is wanted, hour
    assert within((), datetime(2026, 3, 2, 4, 0, tzinfo=UTC))


def test_it_is_said_in_plain_words() -> None:
    night = {"alone": True, "alone_hours": [["22:00", "07:00"]], "alone_by": ["p1"], "preliminary": True}
    lines = [str(line) for line in summary(checked(night, double=True), {"p1": "陈静"})]
    assert "双签;但陈静在22:00–07:00可以单独签发自己书写的报告。" in lines
    assert any("18:00–08:00可以先发急诊报告" in line for line in lines)
    assert any("住院医师" in line for line in lines)
    assert "单签" in str(summary(checked({}, double=False), {})[0])


def test_director_and_administrator_keep_it(world) -> None:
    hospital, admin, director = world.orgs["H01"].id, world.client("administrator"), world.client("director")
    path = f"/api/review-policies/{hospital}"
    before = ok(director.get(path))
    assert before["double_signature"]
    assert before["review"]["preliminary"] is False
    change = {"double_signature": True, "review": {**before["review"], "preliminary": True, "random": {"CT": 0.05}}}
    after = ok(admin.put(path, json=change))
    assert after["review"]["random"] == {"CT": 0.05}
    assert any("CT 5%" in line for line in after["summary"])
    with database().reading() as session:
        org = session.get_one(Organisation, hospital)
        assert policy_of(org).preliminary
        assert org.policy["double_signature"] is True
    people = {name: world.people[name].id for name in ("reporter", "reporter.h02", "quality", "clinician")}
    for review, field in (
        ({"residents": [people["reporter.h02"]]}, "residents"),
        ({"arbiter_id": people["clinician"]}, "arbiter_id"),
        ({"targets": [{"rate": 1, "author_id": people["reporter.h02"]}]}, "targets.0.author_id"),
    ):
        refused = admin.put(path, json={"review": review})
        assert field in refused.json()["fields"], refused.text
    ok(admin.put(path, json={"review": {"arbiter_id": people["quality"], "residents": [people["reporter"]]}}))
    assert admin.get(f"/api/review-policies/{world.orgs['C01'].id}").status_code == 404
    assert world.client("reviewer").get(path).status_code == 403
    page = director.get(f"/admin/review-policy?org={hospital}")
    assert page.status_code == 200
    assert "现行规定" in page.text


def test_a_switch_of_the_organisations_page_leaves_the_rest(world) -> None:
    hospital, admin = world.orgs["H01"].id, world.client("administrator")
    ok(admin.put(f"/api/review-policies/{hospital}", json={"review": {"preliminary": True}}))
    ok(admin.patch(f"/api/admin/organisations/{hospital}", json={"double_signature": False}))
    found = ok(admin.get(f"/api/review-policies/{hospital}"))
    assert (found["double_signature"], found["review"]["preliminary"]) == (False, True)
