"""Left and right: against the exam, and between findings and impression."""

from __future__ import annotations

from collections.abc import Iterable

from hub.kit.i18n import Message, _
from hub.reports.checks.core import Finding, Report
from hub.reports.checks.lexicon import PAIRED, Mention, Reading, opposite, same_place

_NAMES: dict[str, Message] = {"L": _("左侧"), "R": _("右侧")}


def against_exam(report: Report) -> Iterable[Finding]:
    """The exam is of one side, and the report names the other side only."""
    facts = report.facts
    if len(facts.sides) != 1 or not set(facts.body_parts) & PAIRED:
        return
    (side,) = facts.sides
    words = [(name, word) for name in ("findings", "impression") for word in report.reading(name).sides]
    if any(word.side in (side, "B") for _name, word in words):
        return
    for name, word in words:
        source = _("登记的检查名称") if facts.sides_from == "registration" else _("影像的侧别标记")
        yield report.finding(
            "side-exam",
            name,
            (word.start, word.end),
            _("检查的是{side},报告写的是{other}").format(side=_NAMES[side], other=_NAMES[word.side]),
            _("{source}写明{side},而报告全文没有提到这一侧。请核对侧别。").format(source=source, side=_NAMES[side]),
            source=facts.sides_from,
            other=side,
        )
        return


def within(report: Report) -> Iterable[Finding]:
    """The impression names a lesion on one side, the findings describe it on the other only."""
    described = report.reading("findings")
    for mention in report.reading("impression").mentions:
        if mention.side not in ("L", "R") or not mention.said or mention.kind == "abnormal":
            continue
        alike = [
            one
            for one in described.mentions
            if one.kind == mention.kind and one.said and same_place(one.organ, mention.organ)
        ]
        if not alike and not _spoken_of(described, mention):
            alike = [
                one
                for one in described.mentions
                if one.said
                and one.kind in ("abnormal", "consolidation")
                and mention.organ
                and one.organ
                and same_place(one.organ, mention.organ)
            ]
        if alike and all(opposite(one.side, mention.side) for one in alike):
            other = alike[0]
            sentence = report["findings"].sentence_text(other.start)
            start = _side_start(report, mention.start, mention.side)
            yield report.finding(
                "side-differs",
                "impression",
                (start, mention.end),
                _("意见写{side},所见写{other}").format(side=_NAMES[mention.side], other=_NAMES[other.side]),
                _("检查所见中的相应描述是:“{sentence}”。请核对哪一侧是对的。").format(sentence=sentence[:80]),
                other=sentence[:80],
            )


def _spoken_of(described: Reading, mention: Mention) -> bool:
    """Whether the findings say anything but good of the same place on the impression's side, in whatever words."""
    return any(side in (mention.side, "B") and same_place(organ, mention.organ) for organ, side in described.troubled)


def _side_start(report: Report, start: int, side: str) -> int:
    before = [one for one in report.reading("impression").sides if one.side == side and one.start <= start]
    sentence = report["impression"].sentence_at(start)
    return before[-1].start if before and before[-1].start >= sentence.start else start
