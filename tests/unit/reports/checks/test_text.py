"""What a text denies, doubts, tells of the past; left and right; and that no text whatever stops or stalls the checks."""

from __future__ import annotations

import time
from datetime import date

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.reports.checks.catalogue import RULES
from hub.reports.checks.core import FIELDS, Facts, Previous, examine
from hub.reports.checks.lexicon import CRITICAL, Reading
from hub.reports.checks.text import Document, Status, plain, sides_in
from hub.reports.critical.classes import NATIONAL

P, A, D, H, M = Status.PRESENT, Status.ABSENT, Status.DOUBTED, Status.PAST, Status.MOOT


@pytest.mark.parametrize(
    ("text", "word", "status"),
    [
        ("右侧气胸。", "气胸", P),
        ("未见气胸。", "气胸", A),
        ("未见骨折、脱位及气胸。", "气胸", A),
        ("未见骨折,右侧气胸。", "气胸", P),
        ("未见骨折,或气胸。", "气胸", A),
        ("气胸未见。", "气胸", A),
        ("气胸(-)。", "气胸", A),
        ("气胸不除外。", "气胸", D),
        ("不能排除气胸。", "气胸", D),
        ("气胸待排。", "气胸", D),
        ("气胸?", "气胸", D),
        ("气胸已吸收。", "气胸", A),
        ("气胸未完全吸收。", "气胸", P),
        ("气胸较前未见明显变化。", "气胸", P),
        ("未见气胸吸收征象,考虑气胸。", "考虑气胸", D),
        ("气胸术后复查。", "气胸", H),
        ("陈旧性气胸。", "气胸", H),
        ("既往无气胸。", "气胸", A),
        ("建议复查除外气胸。", "气胸", M),
        ("如出现气胸,及时就诊。", "气胸", M),
        ("结节,考虑气胸可能。", "结节", P),
        ("There is a small pneumothorax.", "pneumothorax", P),
        ("No pneumothorax.", "pneumothorax", A),
        ("No evidence of fracture, effusion or pneumothorax.", "pneumothorax", A),
        ("Negative for consolidation, effusion, pneumothorax.", "pneumothorax", A),
        ("No fracture, small right pneumothorax.", "pneumothorax", P),
        ("No fracture but there is a pneumothorax.", "pneumothorax", P),
        ("Pneumothorax cannot be excluded.", "Pneumothorax", D),
        ("Cannot exclude pneumothorax.", "pneumothorax", D),
        ("Pneumothorax is not seen.", "Pneumothorax", A),
        ("Pneumothorax has resolved.", "Pneumothorax", A),
        ("No significant change in the pneumothorax.", "pneumothorax", P),
        ("Prior pneumothorax.", "pneumothorax", H),
        ("If pneumothorax is suspected, obtain CT.", "pneumothorax", M),
    ],
)
def test_what_is_said_of_a_thing(text: str, word: str, status: Status) -> None:
    start = text.index(word) + (2 if word == "考虑气胸" else 0)
    assert Document(text).status(start, text.index(word) + len(word)) is status


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("左膝关节正侧位", "L"),
        ("RIGHT KNEE AP", "R"),
        ("双手正位", "LR"),
        ("胸部正位", ""),
        ("左、右肩关节", "LR"),
        ("颈椎左前斜位", ""),
        ("胸部右侧位", ""),
        ("中线向左移位", ""),
        ("midline shift to the right", ""),
        ("both hands", "LR"),
        ("bright copyright", ""),
    ],
)
def test_sides(text: str, sides: str) -> None:
    assert sides_in(text) == frozenset(sides)


def test_each_side_belongs_to_its_lesion() -> None:
    text = "右肺上叶见结节;左肺下叶见肿块。双侧胸腔见积液,以左侧为著。"
    assert [(one.kind, one.side, one.organ) for one in Reading(Document(text)).mentions] == [
        ("nodule", "R", "lung"),
        ("mass", "L", "lung"),
        ("effusion", "B", "pleura"),
    ]
    text = "Nodule in the left upper lobe and small right pleural effusion."
    assert [(one.kind, one.side) for one in Reading(Document(text)).mentions] == [("nodule", "L"), ("effusion", "R")]


def test_critical_words_are_of_the_national_classes() -> None:
    assert set(CRITICAL) == {one.code for one in NATIONAL}


def test_the_working_form_keeps_every_place() -> None:
    text = "ＣＴ值约４５ＨＵ，İstanbul ß 𠮷×"
    assert len(plain(text)) == len(text)
    assert plain(text).startswith("ct值约45hu,")


FACTS = Facts(
    name="王伟",
    sex="M",
    age_years=50,
    modality="CT",
    body_parts=("hand",),
    sides=frozenset("L"),
    history="胆囊切除术后,脾切除术后",
    priors=("子宫切除术后",),
    exam_date=date(2026, 5, 20),
    previous=Previous("欧阳春梅", "右肺结节" * 20, "右肺结节"),
    normal_templates=("双肺清晰。",),
    positive=False,
)
_SCRAPS = st.sampled_from(
    [
        *(
            "右肺",
            "左侧",
            "未见",
            "结节",
            ",",
            "。",
            "、",
            "考虑",
            "不除外",
            "大小约",
            "12",
            "×",
            "cm",
            "mm",
            "CT值约",
            "HU",
        ),
        *(
            "患者",
            "男",
            "45岁",
            "姓名:",
            "[",
            "]",
            "_",
            "?",
            " ",
            "\n",
            "胆囊",
            "正常",
            "子宫",
            "no ",
            "evidence of ",
            "or ",
        ),
        *(
            "2026-05-20",
            "对比",
            "检查日期:",
            "{",
            "}",
            "<",
            "(",
            ")",
            "第",
            "肋",
            "pneumothorax",
            "left ",
            "right ",
            ".",
        ),
    ]
)


@given(st.dictionaries(st.sampled_from(FIELDS), st.text(max_size=200) | st.lists(_SCRAPS, max_size=60).map("".join)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_text_makes_a_rule_fail(texts: dict[str, str]) -> None:
    outcome = examine(texts, FACTS, RULES)
    assert outcome.not_run == []
    for finding in outcome.findings:
        assert texts.get(finding.field, "")[finding.start : finding.end] == finding.passage
        assert str(finding.message)
        assert str(finding.explanation)
        assert len(finding.fingerprint) == 24


@pytest.mark.parametrize("scrap", ["no nodule, ", "考虑肺炎,", "见结节", "大小约1 x 1 x ", "[ ", "_", "左右", "9"])
def test_a_report_of_the_greatest_length_is_read_in_bounded_time(scrap: str) -> None:
    text = (scrap * (20_000 // len(scrap) + 1))[:20_000]
    begun = time.process_time()
    outcome = examine({"findings": text, "impression": text}, FACTS, RULES)
    # A rule that read the rest of the text again for each word took minutes.
    assert time.process_time() - begun < 10
    assert outcome.not_run == []
