"""Text repair: what devices declare against what they send."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_charset_files

from hub.dicom.text import TEXT_VRS, TextCell, chinese_score, repair, repair_dataset_text

NAMES = [
    "王伟",
    "李喆",
    "王珺",
    "陈堃",
    "张赟",
    "刘祎",
    "李誠",
    "張誠",
    "欧阳娜娜",
    "单雄信",
    "曾志伟",
    "解晓东",
    "诸葛亮",
    "张智宏",
    "陈丽华",
    "黄婷",
    "吴芳芳",
    "马骏",
    "赵子龙",
    "高小孝",
    "林黛玉",
    "薛宝钗",
    "于谦",
    "董洁",
    "梁咏琪",
    "宋祖英",
    "谭晶",
    "覃辉",
    "王璟玥",
    "李翀",
    "吕骞",
    "龚琳娜",
    "廖凡",
    "邱淑贞",
    "段奕宏",
    "汤唯",
    "黎明",
    "易烊千玺",
    "钱学森",
]
LATIN = [
    "Müller",
    "Björn^Åse",
    "François",
    "Jürgen^Größe",
    "José",
    "Núñez^María",
    "Ångström",
    "Sørensen^Søren",
    "Gößling",
    "Schäfer",
    "Weiß",
    "Öztürk",
    "Çelik",
    "Hélène^Bérénice",
    "Zoë",
    "Peña",
    "Noël",
    "Renée",
    "André^Lefèvre",
    "Köhler",
    "Krüger",
    "Böhm",
    "Jäger",
    "Häußler",
    "MÜLLER^JÖRG",
    "Ñuñoa",
    "Größe^Süß",
]
RUSSIAN = [
    "Емельянова^Антонина^Ивановна",
    "Иванов^Иван",
    "Петров",
    "Сидоров^Пётр",
    "Смирнова",
    "Кузнецов",
    "Попов",
    "Васильев^Сергей",
    "Михайлов",
    "Новиков",
    "Фёдоров",
    "Морозова",
    "Волков",
    "Алексеев",
    "Лебедев",
    "Семёнов",
    "Егоров",
    "Павлов",
    "Козлов",
    "Степанов",
    "Николаев",
    "Орлов",
    "Соловьёв",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("codec", "declared"),
    [
        ("gbk", ["ISO_IR 100"]),
        ("gbk", []),
        ("gbk", [""]),
        ("gbk", ["GBK"]),
        ("gb18030", ["GB18030"]),
        ("gbk", ["ISO 2022 IR 58"]),
        ("gbk", ["", "ISO 2022 IR 58"]),
        ("gbk", ["ISO_IR 192"]),
        ("gbk", ["NONSENSE"]),
        ("utf_8", ["ISO_IR 192"]),
        ("utf_8", ["ISO_IR 100"]),
        ("utf_8", []),
        ("utf_8", ["GB18030"]),
        ("utf_8", ["GBK"]),
        ("utf_8", ["ISO 2022 IR 58"]),
    ],
)
def test_chinese_names_survive_whatever_is_declared(name: str, codec: str, declared: list[str]) -> None:
    for form in (name, f"{name[0]}^{name[1:]}", f"WANG^WEI={name}"):
        found = repair(form.encode(codec) + b" ", declared, is_pn=True)
        assert found.text == form
        assert not found.flagged


def test_second_byte_that_is_a_delimiter_is_not_split() -> None:
    raw = "張誠".encode("gbk")
    assert raw[-1:] == b"\\"
    assert repair(raw, ["ISO_IR 100"], is_pn=True).text == "張誠"
    assert repair("王^誠=".encode("gbk"), ["GBK"], is_pn=True).text == "王^誠="


@pytest.mark.parametrize("name", LATIN)
@pytest.mark.parametrize("declared", [["ISO_IR 100"], []])
@pytest.mark.parametrize("is_pn", [True, False])
def test_latin_names_are_not_taken_for_chinese(name: str, declared: list[str], is_pn: bool) -> None:
    found = repair(name.encode("latin_1"), declared, is_pn=is_pn)
    assert found.text == name
    assert found.flagged
    assert repair(name.encode(), declared, is_pn=is_pn).text == name


@pytest.mark.parametrize("name", RUSSIAN)
def test_cyrillic_under_a_latin_set_is_flagged_and_mended_by_the_hint(name: str) -> None:
    raw = name.encode("cp1251")
    for declared in (["ISO_IR 100"], []):
        for is_pn in (True, False):
            found = repair(raw, declared, is_pn=is_pn)
            assert found.flagged
            assert found.text == raw.decode("latin_1")
    assert repair(raw, ["ISO_IR 100"], is_pn=True, hint="windows-1251").text == name
    right = repair(name.encode("iso8859_5"), ["ISO_IR 144"], is_pn=True)
    assert (right.text, right.flagged) == (name, False)
    assert repair(name.encode(), ["ISO_IR 100"], is_pn=True).text == name


@pytest.mark.parametrize(
    "text",
    [
        "头颅CT平扫",
        "胸部正位片",
        "腰椎侧位",
        "于都县人民医院",
        "贡江镇中心卫生院",
        "CT增强扫描",
        "左膝关节正侧位",
        "放射科",
        "头部",
        "肺",
        "右手",
        "胸部DR",
        "全腹部CT平扫+增强",
        "骨盆",
        "颞颌关节",
        "腓骨",
        "髌骨轴位",
    ],
)
@pytest.mark.parametrize(
    ("codec", "declared"),
    [
        ("gbk", ["ISO_IR 100"]),
        ("gbk", []),
        ("gbk", ["GBK"]),
        ("gbk", ["ISO_IR 192"]),
        ("utf_8", []),
        ("utf_8", ["GBK"]),
    ],
)
def test_descriptions(text: str, codec: str, declared: list[str]) -> None:
    assert repair(text.encode(codec), declared).text == text


def test_two_character_utf8_names_that_also_decode_as_gb18030() -> None:
    doubles = [n for n in NAMES if len(n) == 2]
    assert doubles
    for name in doubles:
        assert repair(name.encode(), [], is_pn=True, hint="GB18030").text == name


def test_ascii_is_left_alone_and_padding_goes() -> None:
    found = repair(b"WANG^WEI \0", ["NONSENSE"], is_pn=True)
    assert (found.text, found.flagged, found.how) == ("WANG^WEI", False, "ascii")
    assert repair(b"A\0B", []).text == "AB"


def test_character_cut_in_half_by_the_length_limit() -> None:
    raw = ("检" * 40).encode()[:64]
    found = repair(raw, ["ISO_IR 192"])
    assert found.text == "检" * 21
    assert found.flagged


def test_hint_breaks_a_tie() -> None:
    raw = "谢芯".encode("gbk")  # also two Russian letters in UTF-8
    assert repair(raw, [], is_pn=True, hint="GB18030").text == "谢芯"
    assert repair(raw, [], is_pn=True, hint="ISO_IR 192").text == raw.decode()


def test_plausibility() -> None:
    assert chinese_score("王伟", is_pn=True) >= 0.5
    assert chinese_score("M黮ler", is_pn=True) < 0.5
    assert chinese_score("鐜嬩紵", is_pn=True) < 0.3
    assert chinese_score("Smith") < 0


def test_clear_values_speak_for_unclear_ones() -> None:
    cells = [
        TextCell("a", "LO", "于都县人民医院".encode("gbk")),
        TextCell("b", "PN", "仝囡".encode("gbk")),
        TextCell("c", "LO", b"plain"),
    ]
    done = repair_dataset_text(cells, ["ISO_IR 100"])
    texts = {k: v.text for k, v in done.values}
    assert texts == {"a": "于都县人民医院", "b": "仝囡", "c": "plain"}
    assert done.charset == "GB18030"
    assert done.differs
    assert not done.flagged


def test_arbitrary_bytes_never_raise() -> None:
    import random

    dice = random.Random(5)
    terms = [
        [],
        ["GBK"],
        ["ISO_IR 192"],
        ["ISO 2022 IR 87"],
        ["", "ISO 2022 IR 149"],
        ["ISO_IR 13"],
        ["\\", "x"],
        ["ISO_IR 166"],
    ]
    for _ in range(3000):
        raw = dice.randbytes(dice.randrange(24))
        found = repair(
            raw, dice.choice(terms), is_pn=dice.random() < 0.5, hint=dice.choice([None, "GBK", "UTF-8", "?"])
        )
        found.text.encode("utf-8")


def _walk(dataset: pydicom.Dataset, charset: list[str]):
    own = dataset.get("SpecificCharacterSet")
    if own is not None:
        charset = [own] if isinstance(own, str) else [c or "" for c in own]
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)
        if raw.VR == "SQ":
            for item in dataset[tag].value:
                yield from _walk(item, charset)
        elif raw.VR in TEXT_VRS and getattr(raw, "is_raw", False):
            value = dataset[tag].value
            many = type(value).__name__ == "MultiValue"
            yield raw.VR, raw.value, charset, "\\".join(map(str, value)) if many else str(value)


@pytest.mark.parametrize("path", [f for f in get_charset_files() if f.endswith(".dcm")], ids=lambda p: Path(p).stem)
def test_the_standard_samples_decode_as_pydicom_decodes_them(path: str) -> None:
    seen = 0
    for vr, raw, charset, expected in _walk(pydicom.dcmread(path), []):
        found = repair(raw, charset, is_pn=vr == "PN")
        seen += 1
        assert found.text.replace("\r\n", "\n").rstrip("=") == expected.replace("\r\n", "\n").rstrip("=")
        # Accented Latin under ISO_IR 100 has nothing but the declaration for it.
        assert not found.flagged or charset == ["ISO_IR 100"]
    assert seen
