"""A text that is the previous patient's."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hub.kit.i18n import _
from hub.reports.checks.core import Finding, Report
from hub.reports.checks.text import Document

_SHORT = 60
"""Characters of own words below which two reports may well be the same."""
_SAME = 0.9
_MARKS = re.compile(r"[\s,。;:、.()!?\-]+")
_DIGITS = re.compile(r"\d+(?:\.\d+)?")
_PIECES = re.compile(r"[^,。;!?\n]+")


def _pieces(text: str) -> list[str]:
    """What stands between commas, without marks and with every number alike."""
    plain = Document(text).plain
    found = (_DIGITS.sub("#", _MARKS.sub("", piece[0])) for piece in _PIECES.finditer(plain))
    return [piece for piece in found if piece]


def copied(report: Report) -> Iterable[Finding]:
    """Nearly all that is not a normal template's stands in the author's previous report of another patient."""
    previous = report.facts.previous
    if previous is None:
        return
    normal = {piece for text in report.facts.normal_templates for piece in _pieces(text)}
    own = [piece for name in ("findings", "impression") for piece in _pieces(report.texts[name]) if piece not in normal]
    size = sum(map(len, own))
    if size < _SHORT:
        return
    there = set(_pieces(previous.findings)) | set(_pieces(previous.impression))
    same = sum(len(piece) for piece in own if piece in there)
    if same < _SAME * size:
        return
    yield report.finding(
        "copied",
        "findings",
        (0, len(report.texts["findings"].rstrip())),
        _("文字与您上一位患者的报告相同({percent}%)").format(percent=round(100 * same / size)),
        _("正常模板的文字不算在内。请核对这是不是这位患者的影像。"),
        source="previous-report",
    )
