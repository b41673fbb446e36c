"""Turnaround as CSV and XLSX. Exports hold clocks, organisations and doctors; no patient, no word of a report.

Cells that a spreadsheet would take for a formula are neutralised: accession numbers and names come from machines and
people, and what starts with `=` there must not run here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams import limits
from hub.exams.catalogue import MODALITIES, PRIORITIES
from hub.exams.limits import CLASS_NAMES, Limits
from hub.exams.states import STATE_NAMES
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.cells import safe
from hub.kit.i18n import Message, _, translate, use_locale
from hub.kit.settings import get_settings
from hub.turnaround.frame import Frame
from hub.turnaround.measures import MEASURES, STAGE_NOTES
from hub.turnaround.service import (
    GROUPINGS,
    SOURCE_NAMES,
    By,
    Filters,
    Names,
    Summary,
    choose,
    lines,
    may_measure,
    names,
    select_frame,
    summarise,
)

What = Literal["exams", "summary"]
Cell = str | int | float | datetime | None
Sheet = tuple[Message, Iterator[list[Cell]], tuple[int, ...]]
"""Title, rows and the widths of the columns."""

_BATCH = 2000


class Export:
    """The rows of one export, in one language; pulled once, then written in any form."""

    def __init__(self, frame: Frame, county: Limits, filters: Filters, by: By, known: Names, locale: str) -> None:
        self.frame = choose(frame, county, filters)
        self.county = county
        self.summary: Summary = summarise(frame, county, filters, by)
        self.by = by
        self.names = known
        self.locale = locale

    def _say(self, text: Message | str) -> str:
        return translate(text, self.locale)

    def _label(self, key: str) -> Message | str:
        # Pieces of a stream are made in other threads, where no language is set.
        with use_locale(self.locale):
            return self.names.label(self.by, key)

    def _person(self, key: str) -> Message | str:
        with use_locale(self.locale):
            return self.names.person(key) if key else ""

    def _org(self, key: str) -> Message | str:
        with use_locale(self.locale):
            return self.names.org(key)

    def exams(self) -> Iterator[list[Cell]]:
        """A head, then one row per exam: what it is, its clocks in the county's zone, minutes of each stage."""
        stages = (_("{stage}(分钟)").format(stage=MEASURES[name]) for name in MEASURES)
        yield [self._say(text) for text in (*_EXAM_HEAD, *stages)]
        zone = get_settings().timezone
        for start in range(0, len(self.frame), _BATCH):
            part = self.frame.take(np.arange(start, min(start + _BATCH, len(self.frame))))
            for line in lines(part, self.county):
                texts = (
                    line.accession,
                    STATE_NAMES[line.state],
                    self._org(line.clinic),
                    self._org(line.hospital),
                    self._person(line.author),
                    self._person(line.reviewer),
                    MODALITIES.get(line.modality, line.modality),
                    PRIORITIES.get(line.priority, line.priority),
                    CLASS_NAMES.get(line.klass, line.klass),
                    SOURCE_NAMES.get(line.source, line.source),
                )
                row: list[Cell] = [safe(self._say(text)) for text in texts]
                for name in _EXAM_CLOCKS:
                    at = line.clocks[name]
                    row.append(None if at is None else clock.local(at, zone).replace(tzinfo=None))
                due = line.clocks["due_at"]
                row.append("" if due is None else self._say(_YES if line.late["report"] else _NO))
                for name in MEASURES:
                    seconds = line.seconds[name]
                    row.append(None if seconds is None or line.running[name] else round(seconds / 60, 1))
                yield row

    def groups(self) -> Iterator[list[Cell]]:
        """A head, then the whole and every group: n, median, P90, share within limit of each stage."""
        head: list[Cell] = [self._say(GROUPINGS[self.by]), self._say(_("检查数"))]
        for name in MEASURES:
            stage = self._say(MEASURES[name])
            head += [f"{stage} n", *(f"{stage} {self._say(text)}" for text in _CELL_HEAD)]
        shares = (_("急诊 2 小时达标率"), _("急诊应达标数"), _("退回重拍率"), _("已收齐数"))
        yield [*head, *(self._say(text) for text in shares)]
        for row in (self.summary.total, *self.summary.groups):
            label = self._label(row.key) if row is not self.summary.total else _("全部")
            found: list[Cell] = [safe(self._say(label)), row.exams]
            for name in MEASURES:
                cell = row.cells[name]
                found += [
                    cell.n,
                    None if cell.median is None else round(cell.median / 60, 1),
                    None if cell.p90 is None else round(cell.p90 / 60, 1),
                    None if cell.share is None else round(cell.share, 4),
                    cell.due,
                ]
            for share in (row.national, row.returns):
                found += [None if share.share is None else round(share.share, 4), share.of]
            yield found

    def notes(self) -> Iterator[list[Cell]]:
        """How the numbers were counted."""
        filters = self.summary.filters
        yield [self._say(_("时间段")), f"{filters.first.isoformat()} – {filters.last.isoformat()}"]
        yield [self._say(_("生成时间")), clock.local(clock.now(), get_settings().timezone).replace(tzinfo=None)]
        yield [self._say(_("归期")), self._say(_("按登记日期归入时间段;已取消和作废的不计"))]
        yield [
            self._say(_("达标率")),
            self._say(_("时限内完成 ÷ 应完成;超时未完成的留在分母;分母为零时留空,表示无数据")),
        ]
        yield [self._say(_("分位数")), self._say(_("与 Excel 的 PERCENTILE.INC 相同;时长以分钟计"))]
        for name, note in STAGE_NOTES.items():
            yield [self._say(MEASURES[name]), self._say(note)]


_YES, _NO = _("是"), _("否")
_CELL_HEAD = (_("中位数(分钟)"), _("P90(分钟)"), _("达标率"), _("应完成数"))
_EXAM_CLOCKS = (
    "registered_at",
    "exam_at",
    "received_at",
    "reading_at",
    "submitted_at",
    "preliminary_at",
    "signed_at",
    "returned_at",
    "seen_at",
    "due_at",
)
_EXAM_HEAD = (
    _("检查号"),
    _("状态"),
    _("卫生院"),
    _("阅片医院"),
    _("书写医师"),
    _("审核医师"),
    _("检查类型"),
    _("优先级"),
    _("时限类别"),
    _("检查时间来源"),
    _("登记时间"),
    _("检查开始时间"),
    _("接收完整时间"),
    _("开始书写时间"),
    _("提交时间"),
    _("急诊报告时间"),
    _("签发时间"),
    _("送达时间"),
    _("查看时间"),
    _("应签发时间"),
    _("超时"),
)


def prepare(session: Session, actor: Actor, filters: Filters, by: By, *, locale: str) -> Export:
    """Pull what an export needs."""
    may_measure(actor)
    return Export(select_frame(session, filters), limits.load(session), filters, by, names(session), locale)


def record(session: Session, actor: Actor, export: Export, *, kind: str) -> None:
    """Write into the audit log who takes what away."""
    audit.record(
        session,
        actor,
        "turnaround.export",
        "turnaround",
        kind,
        filters=export.summary.filters.address(),
        by=export.by,
        exams=len(export.frame),
    )


def csv_chunks(rows: Iterable[list[Cell]]) -> Iterator[bytes]:
    """CSV (RFC 4180) in pieces, with the byte order mark without which Excel takes UTF-8 for the local code page."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    yield b"\xef\xbb\xbf"
    for number, row in enumerate(rows, 1):
        writer.writerow([_plain(value) for value in row])
        if number % 500 == 0:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue().encode()


def _plain(value: Cell) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return "" if value is None else value


def write_xlsx(export: Export, path: Path, *, more: Sheet | None = None) -> None:
    """Write a workbook (ECMA-376): the summary, the exams, how they were counted. Row by row, so that a year fits.

    `more` is a sheet of figures from elsewhere, put before the notes.
    """
    # Loaded when somebody exports, not at every start.
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    book = Workbook(write_only=True)
    sheets: tuple[Sheet, ...] = (
        (_("汇总"), export.groups(), (24, 10)),
        (_("检查"), export.exams(), (20, 10, 20, 20, 12, 12, 10, 8, 16, 16, *(17,) * 10, 8)),
        *((more,) if more is not None else ()),
        (_("说明"), export.notes(), (16, 80)),
    )
    bold = Font(bold=True)
    for title, rows, widths in sheets:
        sheet = book.create_sheet(translate(title, export.locale))
        sheet.freeze_panes = "A2" if title.msgid != "说明" else None
        for column, width in enumerate(widths, 1):
            sheet.column_dimensions[get_column_letter(column)].width = width
        for number, row in enumerate(rows):
            if number == 0 and sheet.freeze_panes:
                head = []
                for value in row:
                    cell = WriteOnlyCell(sheet, value=_text(value))
                    cell.font = bold
                    head.append(cell)
                sheet.append(head)
            else:
                sheet.append([_text(value) for value in row])
    book.save(path)


def _text(value: Cell) -> Any:
    # Control characters are not allowed in XML 1.0; openpyxl refuses the whole sheet for one.
    if isinstance(value, str):
        return "".join(char for char in value if char >= " " or char in "\t\n")
    return value
