"""Critical values by their words: the report is asked about, never flagged by itself."""

from __future__ import annotations

from collections.abc import Iterable

from hub.kit.i18n import _
from hub.reports.checks.core import Finding, Report
from hub.reports.checks.lexicon import CRITICAL_OF, CRITICAL_WORDS
from hub.reports.checks.text import Status
from hub.reports.critical.classes import name_of

_WANTED = {"impression": (Status.PRESENT, Status.DOUBTED), "findings": (Status.PRESENT,)}


def unflagged(report: Report) -> Iterable[Finding]:
    """The text says, or in its impression suspects, what is a critical value, and nobody has said so."""
    if report.facts.critical:
        return
    asked: set[str] = set()
    for name, wanted in _WANTED.items():
        document = report[name]
        for m in CRITICAL_WORDS.finditer(document.plain):
            code = CRITICAL_OF[" ".join(m[0].split())]
            if code in asked or document.status(m.start(), m.end()) not in wanted:
                continue
            asked.add(code)
            yield report.finding(
                "critical-words",
                name,
                m.span(),
                _("“{words}”可能是危急值:{kind}").format(
                    words=document.text[m.start() : m.end()], kind=name_of(code, code)
                ),
                _("报告没有标记危急值。是,请标记并通知临床;不是,请说明理由。系统不会自行标记。"),
                other=code,
            )
