"""Reading a report's text, Chinese or English: sentences, and what in them is denied, doubted, past, left or right.

Rules and not a model: a report is written in a narrow language, the rules can be read by the doctor who is asked, and
an answer is the same on every machine. Nothing here is sure: the tests measure how often it is right.

The working form of a text (`Document.plain`) has one character for each of the text, so that places are the same in
both: full-width forms become ASCII, capitals small letters.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Protocol, TypeVar

_PLAIN = {
    **{code: chr(code - 0xFEE0).lower() for code in range(0xFF01, 0xFF5F)},
    **{code: chr(code + 32) for code in range(ord("A"), ord("Z") + 1)},
    0x3000: " ",
    0x00A0: " ",
    0x00D7: "x",
    0x2018: "'",
    0x2019: "'",
    0x2010: "-",
    0x2011: "-",
    0x2012: "-",
    0x2013: "-",
    0x2212: "-",
}
_END = re.compile(r"[。;!?\n]+|\.(?!\d)")
_COMMA = re.compile(r",")


def plain(text: str) -> str:
    """The working form: one character for each."""
    return text.translate(_PLAIN)


def terms(table: str) -> tuple[str, ...]:
    """The entries of a table that is written as `a | b | c`, over as many lines as it needs."""
    return tuple(one for one in (" ".join(part.split()) for part in table.split("|")) if one)


def lexicon(entries: Iterable[str]) -> re.Pattern[str]:
    """A pattern of literal terms in working form, the longest first; Latin words match whole."""
    parts = []
    for term in sorted(set(entries), key=lambda one: (-len(one), one)):
        found = re.escape(term).replace(r"\ ", r"\s+")
        if term[0].isascii() and term[0].isalnum():
            found = r"(?<![a-z0-9])" + found
        if term[-1].isascii() and term[-1].isalnum():
            found += r"(?![a-z0-9])"
        parts.append(found)
    return re.compile("|".join(parts)) if parts else re.compile(r"(?!)")


class Status(Enum):
    """What a text says of a thing that it names."""

    PRESENT = "present"
    ABSENT = "absent"
    DOUBTED = "doubted"
    PAST = "past"
    MOOT = "moot"
    """Only thought of: a recommendation, a condition, somebody's family."""


# --- cues: words that change what is said of the words beside them --------------------------------------------------

# Read as a whole before any shorter cue in them: "不能排除" is doubt, although "排除" denies; "未见明显变化" says that
# something is still there.
_NEUTRAL = terms("""
    未见明显变化 | 未见变化 | 无明显变化 | 无变化 | 无显著变化 | 未见显著变化 | 未见确切变化 | 未见明显吸收 |
    未见吸收 | 未完全吸收 | 无明显吸收 | 未见明显增大 | 未见增大 | 无明显增大 | 未见明显缩小 | 未见好转 |
    无好转 | 未见明显好转 | 未愈合 | 未见愈合 | 未见明确愈合 | 未见明显进展 | 无明显进展 | 未见消失 | 未消失 |
    无菌性 | 非特异性 | 非小细胞 | 无痛 | 无创 | 无名 | 不均匀 | 不规则 | 不规整 | 不全 | 不连续 | 不清 |
    不光整 | 不光滑 | 不对称 | 不整 | 不等 | 不稳 | 不典型 | 不张 | 无症状 | 无移位 | 无明显移位 | 未见移位 |
    未见明显移位 | 未见明确移位 | 无错位 | 未见错位 | 未见明显错位 | 未见强化 | 无强化 | 无明显强化 |
    未见明显强化 | 无肺纹理 | 未见肺纹理 | 无血供 | no significant change | no interval change | no change |
    not significantly changed | unchanged | without change | without significant change |
    near-complete resolution | partial resolution | incomplete resolution |
    no significant interval change | not only | no increase | not resolved | has not resolved |
    not completely resolved | not healed | nonunion | non-displaced | no substantial change |
    no definite change | no displacement | without displacement | nondisplaced |
    without significant displacement
""")
_DENY_BEFORE = terms("""
    未见 | 未发现 | 未显示 | 未示 | 未及 | 未查及 | 未查见 | 未探及 | 未有 | 未提示 | 未合并 | 未伴 | 未累及 |
    未触及 | 未见有 | 未明确见 | 无 | 没有 | 并无 | 亦无 | 均无 | 不伴 | 不合并 | 不见 | 不支持 | 不考虑 |
    否认 | 已排除 | 可排除 | 可除外 | 已除外 | 排除了 | 除外了 | 未闻及 | 不存在 | 尚无 | 尚未见 | no |
    no evidence of | without | without evidence of | negative for | absence of | absent | denies | free of |
    free from | clear of | not | neither | nor | rules out | ruled out | excludes | excluded |
    fails to show | no sign of |
    no signs of | no radiographic evidence of | never | resolution of | resolved
""")
_DENY_AFTER = terms("""
    (-) | 阴性 | 已排除 | 可排除 | 已除外 | 可除外 | 不考虑 | 消失 | 已消失 | 已吸收 | 完全吸收 | 已完全吸收 |
    不明显 | 未见显示 | 已除 | 不支持 | 基本吸收 | 吸收消失 | 已不明显 | 已不可见 | is absent | are absent |
    absent | not seen | not identified | not present | not visualized | not detected | not demonstrated |
    has resolved | have resolved | resolved | is excluded | was excluded | are excluded | ruled out |
    no longer seen | no longer visualized | no longer present | negative | not evident | not appreciated |
    is not seen | are not seen
""")
_DOUBT = terms("""
    不除外 | 不能除外 | 不能排除 | 不排除 | 未除外 | 未排除 | 不能完全除外 | 不能完全排除 | 尚不能除外 |
    未能除外 | 尚不能排除 | 难以除外 | 难以排除 | 难除外 | 难排除 | 无法除外 | 无法排除 | 待排 | 待排除 |
    待除外 | 待查 | 待定 | 可能 | 可能性大 | 可能为 | 不能确定 | 疑 | 疑似 | 可疑 | 怀疑 | 考虑 | 考虑为 |
    倾向 | 警惕 | 似 | 似见 | 除外 | 排除 | 鉴别 | 不完全除外 | 不能完全 | 高度怀疑 | 首先考虑 | 多考虑 |
    possible | possibly | probable | probably | suspected | suspicious for | suspicion of | may represent |
    may be | might be | could represent | could be | cannot exclude | can not exclude | cannot be excluded |
    can't exclude | cannot rule out | cannot be ruled out | can not be excluded | not excluded | not ruled out |
    is not excluded | cannot entirely exclude | not entirely excluded | concern for | concerning for | likely |
    rule out | r/o | versus | vs | questionable | differential | question of | equivocal | worrisome for |
    to exclude |
    not be excluded | difficult to exclude | could not be excluded | cannot be entirely excluded | suggestive of
""")
_PAST_BEFORE = terms("""
    既往 | 曾 | 曾有 | 陈旧 | 陈旧性 | 旧 | 慢性 | 原有 | 史: | 原 | old | prior | previous | previously |
    history of | hx of | h/o | s/p | status post | chronic | remote | healed | healing | post | known prior |
    past | after
""")
_PAST_AFTER = terms("""
    术后 | 病史 | 史 | 手术史 | 治疗后 | 愈合 | 已愈合 | 内固定术后 | 切除术后 | 清除术后 | 后遗 | 修补术后 |
    介入术后 | 栓塞术后 | 术后改变 | 术后复查 | 后改变 | 恢复期 | repair | status post repair | post repair |
    sequela | sequelae
""")
_MOOT_BEFORE = terms("""
    建议 | 必要时 | 如有 | 若有 | 如出现 | 若出现 | 如伴 | 以除外 | 以排除 | 进一步除外 | 进一步排除 | 家族史 |
    父亲 | 母亲 | 申请 | 临床考虑 | 临床怀疑 | 临床诊断 | 临床拟诊 | 临床提示 | 进一步检查 | 除外有无 | if |
    recommend | recommended | suggest | advise | family history of | to evaluate for | evaluate for |
    evaluation of | evaluation for | limited for | to assess for | assess for | indication: |
    clinical question | clinical suspicion | mother with |
    father with
""")
_MOOT_AFTER = terms(
    "家族史 | 可无异常 | 可无阳性 | 可以无异常 | 可表现正常 | 风险 | 高危 | risk | protocol | 筛查 | precautions"
)
# After these a sentence begins to say something of its own.
_BUT = terms("""
    但 | 但是 | 而 | 然而 | 可见 | 另见 | 并见 | 伴有 | 伴 | 内见 | 尚见 | 仍见 | 余 | 其余 | 另 | 考虑 | 提示 |
    呈 | 示 | 表现为 | 见有 | 出现 | 符合 | but | however | although | though | except | apart from |
    aside from | there is | there are | which | with | is | are | was | shows | showing | demonstrates |
    other than | yet | consistent with | has | secondary to | due to | because of | status | remains | remain
""")

_KINDS: dict[str, tuple[str, ...]] = {
    "neutral": _NEUTRAL,
    "deny-before": _DENY_BEFORE,
    "deny-after": _DENY_AFTER,
    "doubt": _DOUBT,
    "past-before": _PAST_BEFORE,
    "past-after": _PAST_AFTER,
    "moot-before": _MOOT_BEFORE,
    "moot-after": _MOOT_AFTER,
    "but": _BUT,
}
_OF_TERM: dict[str, set[str]] = {}
for _kind, _terms in _KINDS.items():
    for _term in _terms:
        _OF_TERM.setdefault(_term, set()).add(_kind)
_CUES = lexicon(_OF_TERM)
_SPACE = re.compile(r"\s+")
# "骨折线未见。": what comes before it is denied.
_UNSEEN = re.compile(r"未[见示](?:明确|明显|确切|异常)?(?:显示|征象)?(?=\s*(?:[,。;.)、]|$))|缺如|阙如")
_ANEW = re.compile(
    r"\s*(?:and\s+)?(?:(?:a|an|the|there|small|mild|mildly|moderate|minimal|trace|tiny|stable|unchanged"
    r"|left|right|bilateral|patchy|new|old"
    r"|increased|subtle|calcified|healed|chronic|probable|possible|likely|heart|lungs|lung|cardiac|mediastin\w+"
    r"|normal|clear|degenerative|some"
    r"|scattered|multiple|several|again|again|now|also|this|these|it|status|however|although|if|as)(?![a-z])|\d)"
)
_LIST = re.compile(r"\s*(?:or|nor)(?![a-z])")
_JOINED = re.compile(r"\s*(?:或|及|以及|和|亦未|也未)")
_AFTER_REACH = 24
_LONGEST = 400


@dataclass(frozen=True, slots=True)
class Cue:
    """A word that changes what is said of others."""

    start: int
    end: int
    kinds: frozenset[str]
    latin: bool


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence's place, its end mark included."""

    start: int
    end: int


class Document:
    """One text, taken apart as far as anybody asks."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = plain(text)
        self._cues: dict[int, list[Cue]] = {}

    @cached_property
    def sentences(self) -> list[Sentence]:
        """In order; they cover the whole text. One without an end is cut, so that no text takes long to read."""
        found, start = [], 0
        for end in (*(mark.end() for mark in _END.finditer(self.plain)), len(self.plain)):
            while end - start > _LONGEST:
                comma = self.plain.rfind(",", start + 1, start + _LONGEST)
                cut = comma + 1 if comma > 0 else start + _LONGEST
                found.append(Sentence(start, cut))
                start = cut
            if start < end:
                found.append(Sentence(start, end))
                start = end
        return found

    @cached_property
    def _starts(self) -> list[int]:
        return [one.start for one in self.sentences]

    def sentence_at(self, place: int) -> Sentence:
        """The sentence that holds a place."""
        if not self.sentences:
            return Sentence(0, 0)
        return self.sentences[max(0, bisect_right(self._starts, place) - 1)]

    def clause_at(self, start: int, end: int) -> tuple[int, int]:
        """The part of a sentence between commas that holds a passage."""
        sentence = self.sentence_at(start)
        left = self.plain.rfind(",", sentence.start, start)
        right = self.plain.find(",", end, sentence.end)
        return (left + 1 if left >= 0 else sentence.start), (right if right >= 0 else sentence.end)

    def sentence_text(self, place: int) -> str:
        """The sentence around a place as it was written, for people."""
        one = self.sentence_at(place)
        return self.text[one.start : one.end].strip()

    def cues(self, sentence: Sentence) -> list[Cue]:
        """The cues of a sentence, in order."""
        known = self._cues.get(sentence.start)
        if known is None:
            known = [
                Cue(
                    m.start(), m.end(), frozenset(_OF_TERM[_SPACE.sub(" ", m[0])]), m[0][0].isascii() and m[0][0] != "("
                )
                for m in _CUES.finditer(self.plain, sentence.start, sentence.end)
            ]
            known += [
                Cue(m.start(), m.end(), frozenset({"deny-after"}), False)
                for m in _UNSEEN.finditer(self.plain, sentence.start, sentence.end)
            ]
            known.sort(key=lambda cue: (cue.start, cue.end))
            self._cues[sentence.start] = known
        return known

    def status(self, start: int, end: int) -> Status:
        """What the text says of the thing named at `start`–`end`."""
        sentence = self.sentence_at(start)
        kinds: set[str] = set()
        before = [cue for cue in self.cues(sentence) if cue.end <= start]
        stops = [cue for cue in before if "but" in cue.kinds]
        for cue in before[-40:]:
            between = self.plain[cue.end : start]
            if "moot-before" in cue.kinds:
                kinds.add("moot")
            stopped = any(stop.start >= cue.end for stop in stops)
            if "deny-before" in cue.kinds and not stopped and self._reaches(cue, start, sentence):
                kinds.add("denied")
            if "doubt" in cue.kinds and len(between) <= 60 and ("," not in between or (cue.latin and not stopped)):
                kinds.add("doubted")
            if "past-before" in cue.kinds and "," not in between and len(between) <= (40 if cue.latin else 8):
                kinds.add("past")
        for cue in self.cues(sentence):
            if cue.start < end:
                continue
            between = self.plain[end : cue.start]
            if len(between) > _AFTER_REACH or "," in between:
                break
            if "but" in cue.kinds and cue.kinds == {"but"} and not cue.latin:
                break
            near = "、" not in between and "及" not in between
            if "deny-after" in cue.kinds and (cue.latin or near):
                kinds.add("denied")
            if (
                "doubt" in cue.kinds
                and not (cue.latin and " and " in between)
                and not _leads(self.plain, cue, sentence)
            ):
                kinds.add("doubted")
            if "past-after" in cue.kinds and len(between) <= 10 and near:
                kinds.add("past")
            if "moot-after" in cue.kinds and len(between) <= 6:
                kinds.add("moot")
        if self.plain[sentence.end - 1 : sentence.end] == "?" and "," not in self.plain[end : sentence.end]:
            kinds.add("doubted")
        for kind, status in (
            ("moot", Status.MOOT),
            ("denied", Status.ABSENT),
            ("past", Status.PAST),
            ("doubted", Status.DOUBTED),
        ):
            if kind in kinds:
                return status
        return Status.PRESENT

    def _reaches(self, cue: Cue, start: int, sentence: Sentence) -> bool:
        """Whether what a cue denies goes on as far as `start`."""
        between = self.plain[cue.end : start]
        commas = between.count(",")
        if commas == 0:
            return True
        if not cue.latin:
            # In Chinese a comma ends it, unless the list openly goes on.
            return all(_JOINED.match(part) for part in between.split(",")[1:])
        # In English it goes on through a list of bare names: "no pneumothorax, effusion or edema"; "no fracture, small
        # effusion" begins anew.
        parts = self.plain[cue.end : sentence.end].split(",")
        last = max((index for index, part in enumerate(parts) if _LIST.match(part)), default=0)
        return commas <= last or not any(_ANEW.match(part) for part in parts[1 : commas + 1])


def _leads(text: str, cue: Cue, sentence: Sentence) -> bool:
    """Whether a doubting word after a thing speaks of what follows it ("结节,考虑炎症"; "nodule, likely benign")."""
    if text[cue.start : cue.end] not in (
        "考虑",
        "考虑为",
        "似",
        "疑",
        "疑似",
        "倾向",
        "首先考虑",
        "可能为",
        "除外",
        "排除",
    ):
        return False
    rest = text[cue.end : sentence.end].strip(" 。;.,!\n")
    return bool(rest)


# --- left and right -------------------------------------------------------------------------------------------------

_NOT_A_SIDE = re.compile(
    r"[向偏居往朝][左右]侧?|[左右](?:侧)?[移偏旋]|左右径|[左右]前斜|[左右]后斜|[左右]侧?卧|[左右]侧位"
    r"|[左右][心房室冠]|左主干|左前降支"
    r"|左回旋支|左旋支|[左右]利手|(?:shift(?:ed)?|deviat\w+|displace\w+|bowing|convex\w*)\s+"
    r"(?:slightly\s+)?(?:to\s+(?:the\s+)?)?(?:left|right)"
    r"|(?:left|right)ward|(?:left|right)\s+(?:lateral|anterior oblique|posterior oblique|decubitus)"
    r"|(?:left|right)[\s-]+to[\s-]+(?:left|right)"
    r"|(?:left|right)\s+(?:ventric\w+|atri\w+|heart|main coronary|anterior descending)"
    r"|right[\s-]?(?:handed|angle)|(?:left|right)\s+(?:greater\s+than|more\s+than|worse\s+than"
    r"|>)\s+(?:the\s+)?(?:left|right)"
)
_BOTH = (
    r"双侧|两侧|左右|左、右|右、左|左及右|右及左|左/右"
    r"|双(?=[肺肾膝手足髋肩乳眼耳附下上踝腕肘颞额顶枕锁股胫腓尺桡膈肋胸腿眶基])"
    r"|两(?=[肺肾膈下上髋膝乳眼])|bilateral(?:ly)?|both|bibasilar|bibasal|biapical|right\s+and\s+left"
    r"|left\s+and\s+right"
)
_SIDES = re.compile(
    rf"(?P<B>{_BOTH})|(?P<L>左|(?<![a-z])(?:left|lt)(?![a-z]))|(?P<R>右|(?<![a-z])(?:right|rt)(?![a-z]))"
)


@dataclass(frozen=True, slots=True)
class SideWord:
    """A word for a side: "L", "R" or "B" (both)."""

    start: int
    end: int
    side: str


class Placed(Protocol):
    """Something that stands in a text."""

    @property
    def start(self) -> int:
        """Its first character."""


_P = TypeVar("_P", bound=Placed)


def within(placed: list[_P], sentence: Sentence) -> list[_P]:
    """Those that begin in a sentence; they are in order."""
    low = bisect_left(placed, sentence.start, key=lambda one: one.start)
    high = bisect_left(placed, sentence.end, lo=low, key=lambda one: one.start)
    return placed[low:high]


def side_words(document: Document) -> list[SideWord]:
    """All words for a side, in order; directions, views and the heart's chambers are none."""
    masked = _NOT_A_SIDE.sub(lambda m: "\0" * len(m[0]), document.plain)
    return [SideWord(m.start(), m.end(), str(m.lastgroup)) for m in _SIDES.finditer(masked)]


def side_of(document: Document, words: list[SideWord], start: int, end: int) -> SideWord | None:
    """The side of the thing named at `start`–`end`, of the document's words for sides.

    In Chinese the nearest word before it in its sentence; in English one before it in its clause, else one after it.
    """
    sentence = document.sentence_at(start)
    left, right = document.clause_at(start, end)
    inside = within(words, sentence)
    before = [one for one in inside if one.end <= start or (one.start >= start and one.end <= end)]
    near = [one for one in before if one.start >= left]
    if near:
        return near[-1]
    after = [one for one in inside if one.start >= end and one.end <= right]
    latin = document.plain[start : start + 1].isascii()
    if latin and after:
        return after[0]
    if before:
        return before[-1]
    return after[0] if after and document.plain[end : after[0].start].strip() in ("(", "") else None


def sides_in(text: str) -> frozenset[str]:
    """The sides that a text names: of {"L", "R"}; both for "双侧"."""
    found: set[str] = set()
    for word in side_words(Document(text)):
        found |= {"L", "R"} if word.side == "B" else {word.side}
    return frozenset(found)
