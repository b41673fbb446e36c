"""Findings and impression against each other, and against the flag."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hub.kit.i18n import _
from hub.reports.checks.core import Finding, Report
from hub.reports.checks.lexicon import Mention, all_normal, opposite, same_place
from hub.reports.checks.text import Document, Status

# Small words of findings with which an impression may well be normal.
_WEIGHTY = frozenset(
    {"fracture", "dislocation", "pneumothorax", "effusion", "stone", "hydronephrosis", "nodule", "mass", "cyst"}
) | {"inflammation", "consolidation", "haemorrhage", "infarct", "abnormal"}
_ACUTE = frozenset({"fracture", "dislocation", "pneumothorax", "inflammation", "consolidation", "haemorrhage"})
_CLEAR = _WEIGHTY - {"abnormal", "cyst", "nodule"}


_NO_ACUTE = re.compile(r"(?<![a-z])(?:acute|active|significant|suspicious)(?![a-z])|急性|活动性")
_SMALL = re.compile(r"(?<!non)(?<!non-)calcified|钙化|granuloma|benign|良性|少许|轻度|轻微|微小|生理性|小淋巴结")


def _small(document: Document, one: Mention) -> bool:
    """Whether a lesion is called calcified, slight or the like, with which a report may well be normal."""
    left, _right = document.clause_at(one.start, one.end)
    return bool(_SMALL.search(document.plain, max(left, one.start - 24), min(len(document.plain), one.end + 12)))


def _meets(first: Mention, second: Mention) -> bool:
    return same_place(first.organ, second.organ) and not opposite(first.side, second.side)


def denied(report: Report) -> Iterable[Finding]:
    """The impression calls normal, or denies, what the findings describe."""
    described, concluded = report.reading("findings"), report.reading("impression")
    if all_normal(concluded):
        # "No acute abnormality" says nothing of what is old.
        weighty = _ACUTE if _NO_ACUTE.search(report["impression"].plain) else _WEIGHTY
        for one in described.mentions:
            if one.kind in weighty and one.status is Status.PRESENT and not _small(report["findings"], one):
                yield _denial(report, one, (0, len(report["impression"].text.rstrip())))
                return
    for one in concluded.mentions:
        if one.status is not Status.ABSENT or one.rest or one.kind == "abnormal":
            continue
        if any(other.kind == one.kind and other.status is not Status.ABSENT for other in concluded.mentions):
            continue
        found = next(
            (
                other
                for other in described.mentions
                if other.kind == one.kind and other.status is Status.PRESENT and _meets(one, other)
            ),
            None,
        )
        if found is not None:
            yield _denial(report, found, (one.start, one.end))


def _denial(report: Report, found: Mention, span: tuple[int, int]) -> Finding:
    sentence = report["findings"].sentence_text(found.start)[:80]
    return report.finding(
        "contradiction",
        "impression",
        span,
        _("检查所见写有“{words}”,诊断意见写未见").format(words=report["findings"].text[found.start : found.end]),
        _("检查所见:“{sentence}”。请核对意见,或修改所见。").format(sentence=sentence),
        other=sentence,
    )


def unfounded(report: Report) -> Iterable[Finding]:
    """The impression names what the findings deny and nowhere describe."""
    described, concluded = report.reading("findings"), report.reading("impression")
    for one in concluded.mentions:
        if one.status is not Status.PRESENT or one.kind == "abnormal":
            continue
        alike = [other for other in described.mentions if other.kind == one.kind and _meets(one, other)]
        if any(other.status is not Status.ABSENT for other in alike):
            continue
        if any(
            other.kind == "abnormal" and other.said and same_place(other.organ, one.organ)
            for other in described.mentions
        ):
            continue
        against = next((other for other in alike if not other.rest), None)
        if against is None:
            continue
        sentence = report["findings"].sentence_text(against.start)[:80]
        yield report.finding(
            "unfounded",
            "impression",
            (one.start, one.end),
            _("诊断意见写有“{words}”,检查所见写未见").format(words=report["impression"].text[one.start : one.end]),
            _("检查所见:“{sentence}”。请核对意见,或修改所见。").format(sentence=sentence),
            other=sentence,
        )


def flag(report: Report) -> Iterable[Finding]:
    """The flag says positive and the impression says normal, or the other way round."""
    positive, concluded = report.facts.positive, report.reading("impression")
    if positive is None:
        return
    if positive and all_normal(concluded):
        yield report.finding(
            "flag",
            "impression",
            (0, len(report["impression"].text.rstrip())),
            _("标为阳性,诊断意见未见异常"),
            _("阳性率按此标记统计。请核对标记或意见。"),
            other="positive",
        )
    if not positive:
        found = next((m for m in concluded.mentions if m.kind in _CLEAR and m.status is Status.PRESENT), None)
        if found is not None:
            yield report.finding(
                "flag",
                "impression",
                (found.start, found.end),
                _("标为阴性,诊断意见写有“{words}”").format(words=report["impression"].text[found.start : found.end]),
                _("阳性率按此标记统计。请核对标记或意见。"),
                other="negative",
            )
