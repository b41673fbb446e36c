"""Whose report this is: name, sex, age and day that the text itself writes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date

from hub.kit.i18n import Message, _
from hub.reports.checks.core import FIELDS, Finding, Report, Source
from hub.reports.checks.text import Document, lexicon

_HAN = r"[一-鿿㐀-䶿·]"
_NAMED = re.compile(rf"姓名\s?:\s?({_HAN}{{2,6}})(?=[\s,。;.]|$)|患者\s?({_HAN}{{2,4}})(?=\s?[,。;.]|$)")
# After 患者, these are no names.
_NO_NAME = re.compile(
    r"男|女|性|呼吸|配合|体位|因|自|诉|既往|本|曾|为|于|有|无|术|移动|躁动|不能|情况|意识|一般|左|右|摆|运动"
    r"|检查|目前|主诉|年龄|老|幼|高龄"
)
_SEX_SAID = re.compile(
    r"(?:患者|患儿|病人|姓名[^。]{0,12})\s?[,:]?\s?(男|女)(?:性|,|(?=\d))|(?:^|[。;\n])\s?(男"
    r"|女)(?:性)?\s?,\s?\d|性别\s?:\s?(男|女)"
    r"|year[\s-]?old\s+(?:\w+\s+)?(male|man|gentleman|boy|female|woman|lady|girl)(?![a-z])|(?<![a-z])(mr|mrs|ms)\.\s"
)
_SEX_OF = {
    **dict.fromkeys(("男", "male", "man", "gentleman", "boy", "mr"), "M"),
    **dict.fromkeys(("女", "female", "woman", "lady", "girl", "mrs", "ms"), "F"),
}
_AGE_SAID = re.compile(
    r"(?:患者|患儿|病人|(?:^|[。;\n,])\s?[男女]性?|年龄)[^。;\n\d]{0,8}(\d{1,3})\s?岁"
    r"|(?<!\d)(\d{1,3})[\s-]year[\s-]?old(?![\s-]+(?:injury|fracture|child\s+standard))"
)
_DAY = r"(\d{4})\s?[-/.年]\s?(\d{1,2})\s?[-/.月]\s?(\d{1,2})"
_STUDY_DAY = re.compile(rf"(?:检查日期|检查时间|摄片日期|扫描日期|study date|exam date|date of exam)\s?:?\s?{_DAY}")
_COMPARED_DAY = re.compile(
    r"(?:对比|对照|比较|与|前片|compared?\s+(?:to|with)|comparison:?)"
    rf"[^。;\n\d]{{0,12}}{_DAY}"
)
_SEXES: dict[str, Message] = {"M": _("男"), "F": _("女")}


def patient(report: Report) -> Iterable[Finding]:
    """The text names another person, sex, age or day."""
    for name in FIELDS:
        document = report[name]
        yield from _names(report, name, document)
        yield from _sexes(report, name, document)
        yield from _ages(report, name, document)
        yield from _days(report, name, document)


def _finding(
    report: Report, name: str, span: tuple[int, int], message: Message, source: Source = "registration"
) -> Finding:
    return report.finding(
        "patient",
        name,
        span,
        message,
        _("可能是复制了别人的文字,或打开了别人的检查。请核对患者和影像,再修改文字。"),
        source=source,
    )


def _names(report: Report, name: str, document: Document) -> Iterable[Finding]:
    own = report.facts.name.strip()
    if not own:
        return
    for m in _NAMED.finditer(document.plain):
        group = 1 if m[1] else 2
        said = document.text[m.start(group) : m.end(group)]
        if said not in own and own not in said and not (group == 2 and _NO_NAME.search(said)):
            yield _finding(report, name, m.span(group), _("文中的姓名“{name}”不是这位患者").format(name=said))
    previous = report.facts.previous
    other = previous.patient_name.strip() if previous is not None else ""
    # Two characters are often a word.
    if len(other) >= 3 and other not in own and own not in other:
        m2 = lexicon([other.lower()]).search(document.plain)
        if m2 is not None:
            message = _("文中出现上一位患者的姓名“{name}”").format(name=other)
            yield _finding(report, name, m2.span(), message, "previous-report")


def _sexes(report: Report, name: str, document: Document) -> Iterable[Finding]:
    own = report.facts.sex
    if own not in _SEXES:
        return
    for m in _SEX_SAID.finditer(document.plain):
        said = _SEX_OF[next(group for group in m.groups() if group)]
        if said != own:
            message = _("文中写患者为{said}性,登记为{own}性").format(said=_SEXES[said], own=_SEXES[own])
            yield _finding(report, name, m.span(), message)


def _ages(report: Report, name: str, document: Document) -> Iterable[Finding]:
    own = report.facts.age_years
    if own is None:
        return
    for m in _AGE_SAID.finditer(document.plain):
        said = int(m[1] or m[2])
        # Nominal years count one or two more.
        if abs(said - own) > 2:
            yield _finding(report, name, m.span(), _("文中写 {said} 岁,登记为 {own} 岁").format(said=said, own=own))


def _days(report: Report, name: str, document: Document) -> Iterable[Finding]:
    day = report.facts.exam_date
    if day is None:
        return
    for pattern in (_STUDY_DAY, _COMPARED_DAY):
        for m in pattern.finditer(document.plain):
            try:
                said = date(int(m[1]), int(m[2]), int(m[3]))
            except ValueError:
                continue
            if said > day or (pattern is _STUDY_DAY and said != day):
                message = _("文中的日期 {said} 与本次检查({own})不符").format(
                    said=said.isoformat(), own=day.isoformat()
                )
                yield _finding(report, name, m.span(), message)
