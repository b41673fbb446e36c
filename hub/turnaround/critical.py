"""The indicator of critical values for a period, by clinic or hospital: figures for pages, API and exports.

How it is counted stands in hub.reports.critical.figures. No patient, no finding: counts only.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.kit.cells import safe
from hub.kit.i18n import Message, _, translate, use_locale
from hub.reports.critical.figures import By, Figures, Report, figures
from hub.turnaround.export import Cell
from hub.turnaround.frame import bounds
from hub.turnaround.service import Filters, Names, may_measure

_HEAD = (
    _("国家危急值 10 分钟内"),
    _("国家危急值应达标"),
    _("国家危急值 10 分钟率"),
    _("县增危急值 10 分钟内"),
    _("县增危急值应达标"),
    _("县增危急值 10 分钟率"),
    _("尚未双方确认"),
    _("已撤销"),
    _("超时后撤销"),
)

NOTE = _(
    "危急值 10 分钟率 = 发现后 10 分钟内双方确认 ÷ 全部到期的危急值(按发现日期归期);国家分类与县增分类分开;"
    "撤销的不计;无到期的为无数据。"
)
"""How the indicator is counted, in words."""


def of_period(session: Session, actor: Actor, filters: Filters, by: By) -> Report:
    """The figures of the period that the filters name; of them clinic and hospital count, too.

    Raises:
        Forbidden: The actor may not see the county's figures.
    """
    may_measure(actor)
    begins, ends = bounds(filters.first, filters.last)
    return figures(session, begins, ends, by=by, clinic=filters.clinic, hospital=filters.hospital)


def rows(report: Report, by: By, known: Names, locale: str) -> Iterator[list[Cell]]:
    """A head, the whole, and every group; what has no denominator is left empty."""
    with use_locale(locale):
        group: Message = _("卫生院") if by == "clinic" else _("阅片医院")
        yield [translate(text) for text in (group, *_HEAD)]
        for found in (report.total, *report.groups):
            label = known.org(found.key) if found is not report.total else _("全部")
            yield [safe(translate(label)), *_cells(found)]


def _cells(found: Figures) -> list[Cell]:
    cells: list[Cell] = []
    for count in (found.national, found.county):
        cells += [count.done, count.of, None if count.share is None else round(count.share, 4)]
    return [*cells, found.open, found.withdrawn, found.withdrawn_late]
