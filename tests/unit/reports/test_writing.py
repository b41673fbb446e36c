"""Writing: fields, template choice, phrases, copied sentences, links, kept texts and differences, import and export."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

import pytest

from hub.kit.db import database
from hub.kit.errors import Invalid
from hub.reports import service, templates
from hub.reports.models import Phrase, SavedText, StrayText, Template
from hub.reports.texts.copied import pieces, sentences
from hub.reports.texts.fields import faults, open_fields, open_fields_of
from hub.reports.texts.history import between
from hub.reports.texts.initials import initials
from support.reading import cheap_keys, claim, make_exam, make_patient, ok, signed, write


@pytest.fixture(autouse=True)
def _cheap(monkeypatch):
    cheap_keys(monkeypatch)


# --- fields -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("未见异常。", []),
        ("[左|右]肺", [("", ("左", "右"))]),
        ("[侧别:左|右]肺", [("侧别", ("左", "右"))]),
        ("[侧别: 左 | 右 ]肺", [("侧别", ("左", "右"))]),
        ("约[__ mm]", [("", ())]),
        ("约[大小:__×__ cm],[描述:…]", [("大小", ()), ("描述", ())]),
        ("见文献[1],[a],L[4]", []),
        ("约[12 mm]", []),
        ("[左|右", []),
        ("[左\n|右]", []),
    ],
)
def test_fields_that_stand_open(text, wanted):
    found = open_fields(text)
    assert [(field.name, field.choices) for field in found] == wanted
    assert all(text[field.start] == "[" and text[field.end - 1] == "]" for field in found)


def test_open_fields_by_text():
    assert list(open_fields_of({"findings": "[__ mm]", "impression": "正常"})) == ["findings"]


@pytest.mark.parametrize(("text", "faulty"), [("[左|右]", False), ("[左|]", True), ("[__ mm", True), ("[|右]", True)])
def test_a_field_that_is_none_is_named(text, faulty):
    assert bool(faults(text)) == faulty


# --- which template -----------------------------------------------------------------------------------------------


def _exam(world, sex="M", age=50, parts=("abdomen",), modality="CT", **more):
    with database().writing() as session:
        patient = make_patient(session, world)
        patient.sex, patient.birth_date = sex, date(2026, 1, 1).replace(year=2026 - age)
    return make_exam(world, patient=patient, modality=modality, body_parts=list(parts), **more)


def _kept(world, who, **values):
    body = {
        "modality": "CT",
        "body_part": "abdomen",
        "findings": "所见",
        "impression": "意见",
        "normal": True,
        **values,
    }
    return ok(world.client(who).post("/api/templates", json=body), 201)


def _none_given():
    """Leave the county without the templates that every hub begins with."""
    templates.ensure_seeded()
    with database().writing() as session:
        session.query(Template).delete()


def _offered(world, exam_id, who="reporter"):
    text = world.client(who).get(f"/read/{exam_id}").text
    block = text.split('id="read-data">')[1].split("</script>")[0]
    return json.loads(block)["editor"]


def _normals(world, exam_id):
    client = world.client("reporter")
    claim(client, exam_id)
    found = _offered(world, exam_id)
    return [one["name"] for key in found["normals"] for one in found["templates"] if one["id"] == key]


def test_the_normal_template_is_that_of_part_sex_and_age(world):
    _none_given()
    for name, more in {
        "任何人": {},
        "男": {"sex": "M"},
        "女": {"sex": "F"},
        "儿童": {"age_to": 13},
        "女童": {"sex": "F", "age_to": 13},
    }.items():
        _kept(world, "director", scope="county", name=name, **more)
    assert _normals(world, _exam(world, "M", 50)) == ["男"]
    assert _normals(world, _exam(world, "F", 50)) == ["女"]
    assert _normals(world, _exam(world, "F", 7)) == ["女童"]
    assert _normals(world, _exam(world, "O", 50)) == ["任何人"]
    assert _normals(world, _exam(world, "M", 7)) in (["男"], ["儿童"])
    assert _normals(world, _exam(world, parts=("knee",))) == []


def test_ones_own_normal_counts_before_the_hospitals_and_the_countys(world):
    _none_given()
    _kept(world, "director", scope="county", name="县", sex="M")
    assert _normals(world, _exam(world)) == ["县"]
    _kept(world, "reviewer", scope="hospital", name="院")
    assert _normals(world, _exam(world)) == ["院"]
    _kept(world, "reporter", scope="own", name="自己")
    assert _normals(world, _exam(world)) == ["自己"]


def test_an_exam_of_two_parts_has_two_normals(world):
    templates.ensure_seeded()
    found = _normals(world, _exam(world, parts=("chest", "abdomen")))
    assert len(found) == 2
    assert "胸" in found[0]
    assert "腹" in found[1]


def test_every_template_and_phrase_that_is_given_is_whole(world):
    templates.ensure_seeded()
    with database().reading() as session:
        rows, lines = list(session.query(Template)), list(session.query(Phrase))
    assert len(rows) >= 60
    for row in rows:
        names = {
            c.name: getattr(row, c.name)
            for c in Template.__table__.columns
            if c.name not in ("id", "org_id", "person_id")
        }
        assert templates.checked(names) == names, row.name
        assert not (row.normal and open_fields(row.findings)), row.name
        assert "约  " not in row.findings, row.name
    assert len({(row.modality, row.body_part, row.sex, row.age_from, row.age_to, row.name) for row in rows}) == len(
        rows
    )
    for part in ("head", "chest", "abdomen", "spine_lumbar", "spine_cervical"):
        assert any(row.modality == "CT" and row.body_part == part and row.normal for row in rows), part
    for part in (
        "chest",
        "abdomen",
        "hand",
        "knee",
        "foot",
        "shoulder",
        "spine_lumbar",
        "spine_cervical",
        "pelvis",
        "ribs",
    ):
        assert any(row.modality == "DX" and row.body_part == part and row.normal for row in rows), part
    # A woman's pelvis is not described with a prostate, nor a man's with a uterus.
    for row in rows:
        if "前列腺" in row.findings:
            assert row.sex == "M", row.name
        if "子宫" in row.findings:
            assert row.sex == "F", row.name
    assert len(lines) >= 20


# --- rights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "scope", "status"),
    [
        ("reporter", "own", 201), ("reporter", "hospital", 403), ("reporter", "county", 403),
        ("reviewer", "hospital", 201), ("reviewer", "county", 403),
        ("director", "county", 201),
    ],
)  # fmt: skip
def test_who_keeps_what(world, who, scope, status):
    client = world.client(who)
    template = {"modality": "CT", "body_part": "head", "name": "模板", "findings": "所见", "scope": scope}
    phrase = {"code": "abc", "text": "短语", "scope": scope}
    for path, body in (("templates", template), ("phrases", phrase)):
        answer = client.post(f"/api/{path}", json=body)
        assert answer.status_code == status, path
        if status != 201:
            continue
        key = answer.json()["id"]
        assert ok(client.put(f"/api/{path}/{key}", json={**body, "scope": "own"}))["scope"] == scope
        stranger = world.client("reporter.h02")
        wanted = 403 if scope == "county" else 404
        assert stranger.put(f"/api/{path}/{key}", json=body).status_code == wanted
        assert stranger.delete(f"/api/{path}/{key}").status_code == wanted
        ok(client.delete(f"/api/{path}/{key}"), 204)
        assert client.delete(f"/api/{path}/{key}").status_code == 404


# --- phrases ------------------------------------------------------------------------------------------------------


def test_initials():
    assert initials("未见明显异常。") == "wjmxyc"
    assert initials("CT 平扫 3mm") == "ctps3mm"


def test_a_phrase_without_a_code_gets_its_initials_and_no_code_is_taken_twice(world):
    client = world.client("reporter")
    assert ok(client.post("/api/phrases", json={"text": "心影不大。"}), 201)["code"] == "xybd"
    assert client.post("/api/phrases", json={"text": "心影不大"}).json()["code"] == "code-taken"
    ok(client.post("/api/phrases", json={"text": "心影不大", "modality": "DX"}), 201)
    assert client.post("/api/phrases", json={"text": "x", "code": "9"}).status_code == 422
    assert client.post("/api/phrases", json={"text": "[左|", "code": "ab"}).status_code == 422


def test_ones_own_phrase_stands_before_the_countys(world):
    ok(world.client("director").post("/api/phrases", json={"code": "xy", "text": "县", "scope": "county"}), 201)
    ok(world.client("reporter").post("/api/phrases", json={"code": "xy", "text": "自己"}), 201)
    ok(world.client("reporter").post("/api/phrases", json={"code": "dr", "text": "只在平片", "modality": "DX"}), 201)
    exam_id = _exam(world)
    claim(world.client("reporter"), exam_id)
    found = {one["code"]: one["text"] for one in _offered(world, exam_id)["phrases"]}
    assert found["xy"] == "自己"
    assert "dr" not in found


# --- import and export --------------------------------------------------------------------------------------------


def _export(client, kind, form, scope="own"):
    answer = client.get("/api/texts/export", params={"kind": kind, "form": form, "scope": scope})
    assert answer.status_code == 200
    return answer.content


def _import(client, data, kind, scope="own", **more):
    return client.post("/api/texts/import", files={"file": ("x", data)}, data={"kind": kind, "scope": scope, **more})


@pytest.mark.parametrize("form", ["json", "csv"])
def test_what_is_exported_comes_in_again(world, form):
    client, other = world.client("reporter"), world.client("reporter.h02")
    for name, more in {
        "甲": {"sex": "F", "age_from": 14},
        "乙": {"normal": False, "findings": '-5 "mm",\n=1+1'},
    }.items():
        body = {"modality": "CT", "body_part": "head", "findings": "所见", "impression": "意见", "normal": True}
        ok(client.post("/api/templates", json={**body, "name": name, **more}), 201)
    ok(client.post("/api/phrases", json={"code": "abc", "text": "@短语,\n第二行"}), 201)
    for kind, count in (("templates", 2), ("phrases", 1)):
        data = _export(client, kind, form)
        again = ok(_import(client, data, kind))
        assert (again["added"], again["changed"], again["same"]) == (0, 0, count)
        told = ok(_import(other, data, kind, apply="false"))
        assert (told["applied"], told["added"]) == (False, count)
        assert ok(_import(other, data, kind))["added"] == count
        mine, theirs = (ok(one.get(f"/api/{kind}"))[kind] for one in (client, other))
        plain = [[{k: v for k, v in row.items() if k != "id"} for row in rows] for rows in (mine, theirs)]
        assert sorted(plain[0], key=str) == sorted(plain[1], key=str)


def test_a_file_with_a_wrong_row_brings_nothing(world):
    client = world.client("reporter")
    rows = [
        {"modality": "CT", "body_part": "head", "name": "好", "findings": "所见"},
        {"modality": "XX", "body_part": "nowhere", "name": "", "findings": "", "age_from": "abc"},
        {"modality": "CT", "body_part": "head", "name": "好", "findings": "又一次"},
    ]
    answer = _import(client, json.dumps({"templates": rows}), "templates")
    assert (answer.status_code, answer.json()["code"]) == (422, "import-rows")
    assert {"2.modality", "2.body_part", "2.name", "2.findings", "2.age_from", "3"} <= set(answer.json()["fields"])
    assert ok(client.get("/api/templates"))["templates"] == []
    out = io.StringIO()
    csv.writer(out).writerows([["code", "modality", "text"], ["ok", "", "好"], ["!!", "", "坏"]])
    answer = _import(client, out.getvalue().encode("gb18030"), "phrases")
    assert list(answer.json()["fields"]) == ["3.code"]
    assert "第 3 行" in answer.json()["fields"]["3.code"]
    assert ok(client.get("/api/phrases"))["phrases"] == []


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[1]", b'{"other": []}', b"a,b\n1,2\n", b"\xff\xfe\x81", b'code,modality,text\n"x']
)
def test_what_is_no_such_file_is_refused(world, data):
    assert _import(world.client("reporter"), data, "phrases").status_code == 422


# --- copied sentences ---------------------------------------------------------------------------------------------


def test_sentences_of_a_text():
    text = "1. 双肺清晰。心影不大;膈面光整\n\n2. 未见骨折!"
    assert "".join(pieces(text)) == text
    assert sentences(text) == ["1. 双肺清晰。", "心影不大;", "膈面光整", "2. 未见骨折!"]


@pytest.fixture
def prior(world):
    """A patient with a signed report, and a new exam that the reader holds: (client, exam, lease, version id)."""
    with database().writing() as session:
        patient = make_patient(session, world)
    _first, version = signed(world, patient=patient)
    client = world.client("reporter")
    source = version["version_id"]
    exam_id = make_exam(world, patient=patient)
    return client, exam_id, claim(client, exam_id), source


def test_copied_sentences_wait_until_each_is_confirmed(world, prior):
    client, exam_id, lease, source = prior
    marks = [{"field": "findings", "text": text, "source_id": source} for text in ("双肺清晰。", "右肺结节5 mm。")]
    body = {"findings": "双肺清晰。右肺结节5 mm。", "impression": "稳定。", "positive": True}
    version = write(client, exam_id, lease, copied=marks, **body)
    assert [row["text"] for row in version["copied"]] == ["双肺清晰。", "右肺结节5 mm。"]
    submit = {"lease": lease, "revision": version["revision"]}
    refused = client.post(f"/api/exams/{exam_id}/submit", json=submit)
    assert (refused.status_code, refused.json()["code"]) == (409, "copied-unconfirmed")
    confirm = f"/api/exams/{exam_id}/report/copied/confirm"
    first, second = (row["id"] for row in version["copied"])
    assert len(ok(client.post(confirm, json={"lease": lease, "ids": [first]}))["copied"]) == 1
    # Sent again, what is confirmed stays so; rewritten, the other is nobody's concern; taken back, it is again.
    version = write(
        client, exam_id, lease, version["revision"], copied=marks, **{**body, "findings": "双肺清晰。7 mm。"}
    )
    assert version["copied"] == []
    version = write(client, exam_id, lease, version["revision"], copied=marks, **body)
    assert [row["id"] for row in version["copied"]] == [second]
    for _twice in range(2):
        ok(client.post(confirm, json={"lease": lease, "ids": [second]}))
    version = ok(client.get(f"/api/exams/{exam_id}/reports"))["versions"][0]
    assert version["copied"] == []


def test_a_mark_from_a_report_that_is_not_ones_own_to_read_does_not_stop_the_save(world, prior):
    client, exam_id, lease, _source = prior
    marks = [{"field": "findings", "text": "双肺清晰。", "source_id": "01" + "z" * 24}]
    assert write(client, exam_id, lease, findings="双肺清晰。", copied=marks)["copied"] == []


# --- links --------------------------------------------------------------------------------------------------------


def test_a_link_lasts_while_its_text_stands(world, prior):
    client, exam_id, lease, _source = prior
    write(client, exam_id, lease, findings="长径 12.4 mm")
    link = {"lease": lease, "label": "12.4 mm", "study": "1.2", "sop": "1.2.3", "frame": 2, "annotation": {"a": 1}}
    path = f"/api/exams/{exam_id}/report/links"
    for _twice in range(2):
        version = ok(client.post(path, json=link))
    assert [(one["label"], one["frame"], one["annotation"]) for one in version["links"]] == [("12.4 mm", 2, {"a": 1})]
    assert client.post(path, json={**link, "lease": "other"}).status_code == 409
    assert client.post(path, json={**link, "annotation": {"a": "x" * 70_000}}).status_code == 422
    assert write(client, exam_id, lease, version["revision"], findings="长径 12.5 mm")["links"] == []


# --- kept texts ---------------------------------------------------------------------------------------------------


def test_text_without_a_lease_is_kept_though_there_is_no_version(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    path = f"/api/exams/{exam_id}/report"
    for _twice in range(2):
        assert client.put(path, json={"lease": "gone", "findings": "写好的字"}).status_code == 409
    with database().reading() as session:
        assert [row.body["findings"] for row in session.query(StrayText)] == ["写好的字"]
    mine = ok(client.get(f"{path}/history"))["texts"]
    assert [(one["event"], one["mine"], one["version"]) for one in mine] == [("lease-lost", True, None)]
    assert ok(world.client("reviewer").get(f"{path}/history"))["texts"] == [], "nobody else's to read"


def test_the_history_has_every_text_and_is_the_hospitals(world):
    exam_id = make_exam(world)
    client = world.client("reporter")
    lease = claim(client, exam_id)
    version = write(client, exam_id, lease, findings="第一稿,很长的一段文字")
    version = write(client, exam_id, lease, version["revision"], findings="第二稿")
    stale = {"lease": lease, "revision": 1, "findings": "另一窗口"}
    assert client.put(f"/api/exams/{exam_id}/report", json=stale).status_code == 409
    found = ok(client.get(f"/api/exams/{exam_id}/report/history"))["texts"]
    assert {(one["event"], one["body"]["findings"]) for one in found} == {
        ("draft", "第二稿"), ("overwritten", "第一稿,很长的一段文字"), ("conflict", "另一窗口"),
    }  # fmt: skip
    assert [one["current"] for one in found].count(True) == 1
    assert world.client("reporter.h02").get(f"/api/exams/{exam_id}/report/history").status_code == 404


def test_differences_by_words():
    found = between(
        {"findings": "右肺上叶结节,长径5.2 mm。"}, {"findings": "右肺下叶结节,长径7.1 mm。", "impression": "x"}
    )
    changes = [(one.before, one.after) for one in found["findings"] if one.kind == "change"]
    assert changes == [("上", "下"), ("5.2", "7.1")]
    assert list(found) == ["findings", "impression"]
    for before, after in (("", ""), ("同", "同")):
        assert all(one.kind == "same" for one in between({"findings": before}, {"findings": after}).get("findings", []))


def test_long_texts_are_compared_without_long_waiting():
    before = "".join(f"第{n}层面未见异常密度影。" for n in range(1200))
    after = before.replace("第600层面未见异常", "第600层面可见异常")
    parts = between({"findings": before}, {"findings": after})["findings"]
    assert "".join(one.before for one in parts) == before
    assert "".join(one.after for one in parts) == after
    assert sum(len(one.before) for one in parts if one.kind == "change") < 20


def test_a_template_for_nobody_is_refused():
    body = {"modality": "CT", "body_part": "head", "name": "x", "findings": "x"}
    with pytest.raises(Invalid):
        templates.checked({**body, "age_from": 20, "age_to": 10})
    with pytest.raises(Invalid):
        templates.checked({**body, "sex": "X"})


@pytest.mark.parametrize(
    ("before", "after", "removed"),
    [
        ("双肺清晰。", "双肺清晰。心影不大。", 0),
        ("双肺清晰。", "双侧肺野清晰。", 1),
        ("双肺纹理清晰", "双肺纹理模糊", 2),
        ("正常 aaaaaaaa", "正常 bbbbbbbb", 8),
        ("abcabc", "abc", 3),
        ("一二三四五", "", 5),
    ],
)
def test_how_much_of_a_text_is_gone(before: str, after: str, removed: int) -> None:
    assert service._removed(before, after) == removed


def test_words_replaced_by_as_many_are_kept(world):
    exam_id = _exam(world)
    lease = claim(world.client("reporter"), exam_id)
    revision = 0
    for words in ("正常 第一次所写的文字", "正常 第二次所写的文字甲", "正常 完全不同的另一些话语"):
        revision = write(world.client("reporter"), exam_id, lease, revision, findings=words)["revision"]
    with database().reading() as session:
        kept = [row.body["findings"] for row in session.query(SavedText)]
    assert "正常 第二次所写的文字甲" in kept
