"""What was not filled in: blanks of a template, an impression that says nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hub.kit.i18n import _
from hub.reports.checks.core import FIELDS, Finding, Report

_UNIT = r"(?:mm|cm|ml|hu|%|毫米|厘米)"
_BLANKS = re.compile(
    r"\[[^\]\n]{0,20}[/|][^\]\n]{0,20}\]"  # a choice
    r"|[\[(【][ \t_]*[\])】]"  # brackets around nothing
    r"|_{2,}|\*{2,}|\?{2,}|…{2,}|\.{4,}|#{2,}|~{3,}"
    r"|(?<![a-z])x{2,}(?![a-z])|某某|○○|〇〇"
    r"|请(?:填写|选择|输入|描述|补充)|待(?:填写|补充|填|完善)|(?<![a-z])(?:tbd|to be completed|fill in"
    r"|insert here)(?![a-z])"
    r"|\{[^{}\n]{1,20}\}|<[^<>\n\d=]{1,20}>|【[^】\n]{0,4}(?:选择|填写|输入)[^】\n]{0,10}】"
    rf"|(?:约|为|径|厚|深|达|x|于|移位)[ \t]+{_UNIT}"
    r"|第[ \t]{1,6}(?:肋|腰|胸|颈|骶|掌|跖|趾|指)|[左右][/|][左右](?=侧|上|下|肺|肾|膝|手|足|髋|肩|叶)(?!肝管)"
)


def blanks(report: Report) -> Iterable[Finding]:
    """A blank that nobody filled in."""
    for name in FIELDS:
        document = report[name]
        for m in _BLANKS.finditer(document.plain):
            yield report.finding(
                "placeholder",
                name,
                m.span(),
                _("这里还没有填写:“{words}”").format(words=document.text[m.start() : m.end()].strip() or "␣"),
                _("模板留下的空、示例文字或没有选定的选项。请填写或删去。"),
            )


_NOTHING = re.compile(
    r"(?:[\s\d.、,;:。()\-_*/·~]|同上|同前|见上|如上(?:所述)?|见(?:检查)?所见|详见(?:检查)?所见|略|无|待定"
    r"|见描述|详见描述|参见所见"
    r"|see\s+above|as\s+above|see\s+findings|as\s+described|n/?a|none|tbd)*"
)


def impression(report: Report) -> Iterable[Finding]:
    """An impression of numbers and marks, or one that only points elsewhere."""
    document = report["impression"]
    if not document.plain.strip() or _NOTHING.fullmatch(document.plain[:200]) is None or len(document.plain) > 200:
        return
    yield report.finding(
        "impression-empty",
        "impression",
        (0, len(document.text)),
        _("诊断意见没有内容"),
        _("临床医生先看诊断意见。请写出结论,正常也请写明。"),
    )
