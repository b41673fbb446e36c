"""Chinese names in Latin letters: search keys, and whether a header's pinyin means the registered name."""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from hub.dicom.text import COMPOUND_SURNAMES

#: Readings that a character has only as a family name.
_SURNAME_READING: Final[dict[str, str]] = {
    "单": "shan", "單": "shan", "曾": "zeng", "解": "xie", "仇": "qiu", "区": "ou", "區": "ou", "查": "zha",
    "任": "ren", "盖": "ge", "蓋": "ge", "朴": "piao", "华": "hua", "華": "hua", "乐": "yue", "樂": "yue",
    "覃": "qin", "缪": "miao", "繆": "miao", "冼": "xian", "洗": "xian", "折": "she", "黑": "he", "繁": "po",
    "种": "chong", "员": "yun", "員": "yun", "贠": "yun", "召": "shao", "燕": "yan", "牟": "mou", "宓": "mi",
    "粘": "nian", "祭": "zhai", "佴": "nai", "秘": "bi", "柏": "bai", "谌": "chen", "諶": "chen", "逄": "pang",
    "干": "gan", "哈": "ha", "葛": "ge", "纪": "ji", "紀": "ji", "翟": "zhai", "郇": "xun", "车": "che", "車": "che",
    "都": "du", "尉": "wei", "长": "chang", "石": "shi", "沈": "shen", "尹": "yin", "卜": "bu", "于": "yu",
    "宁": "ning", "甯": "ning", "晁": "chao", "褚": "chu", "句": "gou", "不": "fou", "番": "pan", "过": "guo",
    "那": "na", "能": "nai", "泷": "shuang", "隗": "kui", "瞿": "qu", "臧": "zang", "郗": "xi", "阚": "kan",
    "厘": "xi", "藏": "zang", "叶": "ye", "葉": "ye", "呙": "guo", "訾": "zi", "晟": "cheng", "殷": "yin",
}  # fmt: skip
_SURNAME_ALSO: Final[dict[str, tuple[str, ...]]] = {
    "盖": ("gai",), "乐": ("le",), "覃": ("tan",), "牟": ("mu",), "谌": ("shen",), "翟": ("di",), "郇": ("huan",),
    "隗": ("wei",), "晟": ("sheng",), "祭": ("ji",), "粘": ("zhan",), "宓": ("fu",), "洗": ("xi",), "吕": ("lv",),
}  # fmt: skip
_COMPOUND_READING: Final[dict[str, tuple[str, str]]] = {
    "尉迟": ("yu", "chi"), "尉遲": ("yu", "chi"), "长孙": ("zhang", "sun"), "長孫": ("zhang", "sun"),
    "万俟": ("mo", "qi"), "令狐": ("ling", "hu"), "澹台": ("tan", "tai"), "单于": ("chan", "yu"),
}  # fmt: skip
_HAN: Final = re.compile(r"[\u3007\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]")


@dataclass(frozen=True, slots=True)
class NameKeys:
    """What a name is found by.

    Attributes:
        full: All syllables run together, ``wangwei``.
        initials: First letters, ``ww``.
        spaced: Syllables apart, ``wang wei``.
    """

    full: str
    initials: str
    spaced: str


def han_of(name: str) -> str:
    """Give the ideographs of a name: of the PN component group that has any, without delimiters."""
    for group in name.split("\\", maxsplit=1)[0].split("="):
        if found := _HAN.findall(group):
            return "".join(found)
    return ""


@lru_cache(maxsize=4096)
def keys(name: str) -> NameKeys:
    """Make the search keys of a name.

    Args:
        name: A name as registered or as in a header; a PN with `^` and `=` is understood.

    Returns:
        Lower-case letters and digits only, ü written v. A name in Latin letters is its own spelling.
    """
    han = han_of(name)
    if han:
        syllables = [_plain(s) for s in _syllables(han)]
    else:
        group = next((g for g in name.split("\\", maxsplit=1)[0].split("=") if g.strip(" ^")), "")
        syllables = [w for w in re.split(r"[\W_]+", _plain_words(group)) if w]
    return NameKeys("".join(syllables), "".join(s[0] for s in syllables if s), " ".join(syllables))


# The dictionaries take a third of a second to load: they are read when the first name is.


def _spelled(text: str) -> list[str]:
    from pypinyin import lazy_pinyin

    found: list[str] = lazy_pinyin(text, v_to_u=False)
    return found


def _heteronyms(char: str) -> list[str]:
    from pypinyin import Style, pinyin

    found: list[str] = pinyin(char, style=Style.NORMAL, heteronym=True, v_to_u=False)[0]
    return found


def _syllables(han: str) -> list[str]:
    if han[:2] in COMPOUND_SURNAMES or han[:2] in _COMPOUND_READING:
        head = list(_COMPOUND_READING.get(han[:2], ())) or _spelled(han[:2])
        rest = han[2:]
    else:
        head = [_SURNAME_READING[han[0]]] if han[0] in _SURNAME_READING else _spelled(han[0])
        rest = han[1:]
    return [*head, *(_spelled(rest) if rest else [])]


def family_size(han: str) -> int:
    """How many characters of a Chinese name are the family name; of a name of two the first."""
    compound = han[:2] in COMPOUND_SURNAMES or han[:2] in _COMPOUND_READING
    return 2 if compound and len(han) > 2 else 1


def spelled(family: str, given: str) -> tuple[str, str]:
    """Family and given name in small Latin letters, each run together, ü as v: ``("moqi", "xiaoming")``."""
    parts = _syllables(family) if family else [], _spelled(given) if given else []
    return "".join(map(_plain, parts[0])), "".join(map(_plain, parts[1]))


def _plain_words(text: str) -> str:
    # ü must become v before its dots are taken for a tone mark.
    text = unicodedata.normalize("NFC", text).lower()
    text = re.sub("(?<=[ln])[üǖǘǚǜ]", "v", text)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.replace("u:", "v")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", _plain_words(text))


@lru_cache(maxsize=1024)
def _readings(char: str, *, surname: bool) -> frozenset[str]:
    found = {_plain(r) for r in _heteronyms(char)}
    if surname:
        if char in _SURNAME_READING:
            found.add(_SURNAME_READING[char])
        found.update(_SURNAME_ALSO.get(char, ()))
    out = set(found)
    for r in found:
        if "v" in r:  # nü, lü, lüe: written nv, nu, nyu, and so in passports
            out.update((r.replace("v", "u"), r.replace("v", "yu"), r.replace("ve", "ue")))
    return frozenset(out)


def same_name(chinese: str, header: str) -> Literal["equal", "pinyin", "differs", "unknown"]:
    """Compare a registered name with the one in a header.

    Args:
        chinese: Registered name, usually ideographs.
        header: PatientName as repaired; any component group may match.

    Returns:
        ``equal`` for the same characters, ``pinyin`` where the header spells the name in Latin letters (family name
        first or last, any case, spacing, `^`, tone marks or digits, ü as v, u or yu), ``unknown`` where a side is
        empty, else ``differs``. Initials are not agreement.
    """
    groups = [g for g in header.split("\\", maxsplit=1)[0].split("=") if re.sub(r"[\W_]", "", g)]
    if not groups or not re.sub(r"[\W_]", "", chinese):
        return "unknown"
    han = han_of(chinese)
    header_han = [h for g in groups if (h := "".join(_HAN.findall(g)))]
    if not han:
        mine = sorted(re.split(r"[\W_]+", _plain_words(chinese).strip(" ^")))
        for g in groups:
            if sorted(w for w in re.split(r"[\W_]+", _plain_words(g)) if w) == [w for w in mine if w]:
                return "equal"
            if (h := "".join(_HAN.findall(g))) and same_name(h, chinese) == "pinyin":
                return "pinyin"
        return "differs"
    if header_han:
        # Ideographs speak louder than letters beside them.
        return "equal" if han in header_han else "differs"
    return "pinyin" if any(_spells(han, g) for g in groups) else "differs"


def _spells(han: str, latin: str) -> bool:
    if len(han) > 12:
        return False
    letters = re.sub(r"[^a-z]", "", _plain_words(latin))
    size = 2 if han[:2] in COMPOUND_SURNAMES or han[:2] in _COMPOUND_READING else 1
    readings = [_readings(c, surname=i < size) for i, c in enumerate(han)]
    for extra in [_COMPOUND_READING.get(han[:2])] if size == 2 else []:
        if extra:
            readings[:2] = [readings[0] | {extra[0]}, readings[1] | {extra[1]}]
    orders = [readings, readings[size:] + readings[:size]]
    if len(readings) <= 3:
        orders.extend(list(p) for p in itertools.permutations(readings))
    return any(_matches(order, letters) for order in orders)


def _matches(order: list[frozenset[str]], letters: str) -> bool:
    ends = {0}
    for options in order:
        ends = {e + len(o) for e in ends for o in options if letters.startswith(o, e)}
        if not ends:
            return False
    return len(letters) in ends
