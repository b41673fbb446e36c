"""Numbers: units that are missing, mixed or exchanged, and sizes that cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hub.kit.i18n import _
from hub.reports.checks.core import Finding, Report
from hub.reports.checks.text import Document, lexicon, terms

_FIELDS = ("findings", "impression")
_U = r"(?:mm|cm|毫米|厘米|公分|(?<=\d)m(?![a-z]))"
_N = r"\d{1,6}(?:\.\d{1,4})?"
_SIZE = re.compile(rf"(?<![\d.a-z/]){_N}\s{{0,2}}{_U}?(?:\s{{0,2}}[x*]\s{{0,2}}{_N}\s{{0,2}}{_U}?){{0,2}}")
_PART = re.compile(rf"({_N})\s{{0,2}}({_U})?")
_MM = {"mm": 1.0, "毫米": 1.0, "cm": 10.0, "厘米": 10.0, "公分": 10.0, "m": 1000.0}
_INTRODUCED = re.compile(
    r"(?:大小|直径|长径|短径|最大径|径|厚度?|最厚处|最宽处|最宽|宽度|深度?|范围|测量|移位|长度|measur(?:es|ing"
    r"|ed)|diameter|size)"
    r"\s{0,2}(?:约|为|约为|达|of|approximately|about|is|:)?\s{0,2}:?$"
)
_OTHER_UNIT = re.compile(
    r"\s{0,2}(?:ml|l(?![a-z])|%|hu|岁|个|枚|倍|度|°|mg|mmhg|cc|毫升|椎|肋|[-~]\s?\d|年|月|日|层|:|/|级|期|分|张)"
)
_HU = re.compile(rf"ct\s?值\s{{0,2}}(?:约|为|约为|范围|:)?\s{{0,2}}(-?{_N})(?:\s?[~-]\s?(-?{_N}))?\s{{0,2}}(hu)?")
_PERCENT = re.compile(rf"(?:压缩|狭窄|compress\w*|stenosis)[^。;,\d]{{0,8}}({_N})\s{{0,2}}%")


@dataclass(frozen=True, slots=True)
class Size:
    """A measure of one to three numbers: numbers, units as written ("" for none), millimetres where known."""

    start: int
    end: int
    numbers: tuple[float, ...]
    units: tuple[str, ...]

    @property
    def unit(self) -> str:
        """The unit that holds for all: the last that was written."""
        return next((one for one in reversed(self.units) if one), "")

    @property
    def millimetres(self) -> tuple[float, ...]:
        """In millimetres; a number without a unit takes the last one's."""
        return (
            tuple(n * _MM[u or self.unit] for n, u in zip(self.numbers, self.units, strict=True)) if self.unit else ()
        )


def sizes(document: Document) -> list[Size]:
    """All numbers that may be sizes, in order."""
    found = []
    for m in _SIZE.finditer(document.plain):
        parts = _PART.findall(m[0])
        found.append(
            Size(
                m.start(),
                m.start() + len(m[0].rstrip()),
                tuple(float(n) for n, _u in parts),
                tuple(u for _n, u in parts),
            )
        )
    return found


def unit(report: Report) -> Iterable[Finding]:
    """A size or density without its unit."""
    for name in _FIELDS:
        document = report[name]
        for size in sizes(document):
            if size.unit or _OTHER_UNIT.match(document.plain, size.end):
                continue
            if _INTRODUCED.search(document.plain[max(0, size.start - 24) : size.start]):
                yield _missing(report, name, (size.start, size.end))
        for m in _HU.finditer(document.plain):
            if not m[3]:
                yield _missing(report, name, m.span())


def _missing(report: Report, name: str, span: tuple[int, int]) -> Finding:
    words = report[name].text[span[0] : span[1]].strip()
    return report.finding(
        "unit",
        name,
        span,
        _("“{words}”没有单位").format(words=words),
        _("没有单位的数字会被读错十倍。请补上 mm、cm 或 HU。"),
    )


# What a size may be at most, in millimetres. None: words that end the reach of an earlier one.
_LIMITS: dict[str, float] = {
    **dict.fromkeys(terms("中线 | 中线结构 | midline shift | midline"), 30),
    **dict.fromkeys(terms("阑尾 | appendix"), 40),
    **dict.fromkeys(terms("胆总管 | common bile duct | 胰管"), 50),
    **dict.fromkeys(terms("硬膜外 | 硬膜下 | 内板下 | subdural | epidural"), 60),
    **dict.fromkeys(terms("结节 | 小结节 | 结节影 | nodule | nodules"), 60),
    **dict.fromkeys(terms("结石 | stone | calculus | gallstone"), 120),
    **dict.fromkeys(terms("淋巴结 | lymph node | lymph nodes"), 100),
    **dict.fromkeys(terms("突出 | 膨出 | protrusion"), 25),
    **dict.fromkeys(terms("主动脉 | aorta | 主动脉瘤"), 150),
    **dict.fromkeys(
        terms("囊肿 | 囊性灶 | 肿块 | 占位 | 肌瘤 | 团块影 | 巨大 | 血肿 | cyst | mass | 积液 | 肿物"), 400
    ),
}
_SUBJECTS = lexicon(_LIMITS)
_MOST = 500.0


def magnitude(report: Report) -> Iterable[Finding]:
    """A size that the named structure cannot have."""
    for name in _FIELDS:
        document = report[name]
        for size in sizes(document):
            if not size.unit:
                continue
            sentence = document.sentence_at(size.start)
            before = list(_SUBJECTS.finditer(document.plain, max(sentence.start, size.start - 60), size.start))
            most = _LIMITS[" ".join(before[-1][0].split())] if before else _MOST
            if max(size.millimetres) > most:
                yield _cannot_be(report, name, (size.start, size.end))
        for m in _HU.finditer(document.plain):
            if any(value and not -1100 <= float(value) <= 4000 for value in (m[1], m[2])):
                yield _cannot_be(report, name, m.span())
        for m in _PERCENT.finditer(document.plain):
            if float(m[1]) > 100:
                yield _cannot_be(report, name, m.span())


def _cannot_be(report: Report, name: str, span: tuple[int, int]) -> Finding:
    words = report[name].text[span[0] : span[1]].strip()
    return report.finding(
        "magnitude",
        name,
        span,
        _("“{words}”不合常理").format(words=words),
        _("所述结构不会有这样的数值:多为 mm 写成 cm,或小数点位置不对。请核对。"),
    )


def mixed(report: Report) -> Iterable[Finding]:
    """Millimetres and centimetres exchanged: within one measure, or between findings and impression."""
    for name in _FIELDS:
        for size in sizes(report[name]):
            if len({_MM[u] for u in size.units if u}) > 1:
                words = report[name].text[size.start : size.end].strip()
                yield report.finding(
                    "unit-differs",
                    name,
                    (size.start, size.end),
                    _("“{words}”中单位不一致").format(words=words),
                    _("同一组数值用了不同的单位。请核对。"),
                )
    described = [one for one in sizes(report["findings"]) if one.unit]
    for size in sizes(report["impression"]):
        if not size.unit or any(_same(size.millimetres, one.millimetres) for one in described):
            continue
        other = next((one for one in described if one.numbers == size.numbers), None)
        if other is not None:
            words = report["impression"].text[size.start : size.end].strip()
            there = report["findings"].text[other.start : other.end].strip()
            yield report.finding(
                "unit-differs",
                "impression",
                (size.start, size.end),
                _("意见写“{words}”,所见写“{other}”").format(words=words, other=there),
                _("数字相同而单位不同,其中一处写错了。请核对。"),
                other=there,
            )


def _same(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    return len(first) == len(second) and all(abs(a - b) < 1e-6 for a, b in zip(first, second, strict=True))
