"""Pages of turnaround: the board, a period's numbers, the exams behind them, one exam's clocks, the settings."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import select

from hub.accounts.models import Person
from hub.exams import calendar, limits
from hub.exams.catalogue import MODALITIES
from hub.exams.limits import CLASS_NAMES, CLOCK_NAMES
from hub.kit.edge import ReadDb
from hub.kit.i18n import Message, _, translate, use_locale
from hub.sites.models import CountySetting
from hub.turnaround import service
from hub.turnaround.measures import MEASURES, STAGE_NOTES
from hub.turnaround.routes import Chosen, Setter, Viewer
from hub.turnaround.service import GROUPINGS, SOURCE_NAMES, WAITS_FOR, By, Filters, Names, Summary
from hub.web.pages import locale_of, render

router = APIRouter(tags=["turnaround"], include_in_schema=False)

PARAMETERS: dict[By, str] = {name: name for name in GROUPINGS}

LATENESS: dict[str, Message] = {
    "": _("全部"),
    "done": _("已完成"),
    "within": _("时限内"),
    "late": _("超时"),
    "open": _("超时未完成"),
}

CLOCKS: tuple[tuple[str, Message], ...] = (
    ("exam_at", _("检查开始")),
    ("received_at", _("接收完整")),
    ("signed_at", _("签发")),
    ("seen_at", _("临床查看")),
)
"""The four clocks that are always shown."""


def _address(path: str, values: dict[str, str]) -> str:
    return f"{path}?{urlencode(values)}" if values else path


def _exams_address(filters: Filters) -> Callable[..., str]:
    def address(**changes: str) -> str:
        return _address("/turnaround/exams", filters.address(**changes))

    return address


def _words(names: Names) -> dict[str, Any]:
    return {
        "measures": MEASURES,
        "stage_notes": STAGE_NOTES,
        "classes": CLASS_NAMES,
        "modalities": MODALITIES,
        "waits_for": WAITS_FOR,
        "sources": SOURCE_NAMES,
        "names": names,
        "clock_names": CLOCK_NAMES,
        "four_clocks": CLOCKS,
    }


@router.get("/turnaround", response_class=HTMLResponse)
def turnaround_page(
    request: Request, actor: Viewer, session: ReadDb, filters: Chosen, by: str = "clinic"
) -> HTMLResponse:
    """Today's board on top, then a period."""
    with use_locale(locale_of(request)):
        chosen = service.grouping(by)
        names = service.names(session)
        summary = service.summary(session, actor, filters, chosen)
        county = limits.load(session)
        return render(
            request,
            "turnaround/index.html",
            {
                **_words(names),
                "board": service.board(session, actor),
                "summary": summary,
                "filters": filters,
                "by": chosen,
                "groupings": GROUPINGS,
                "periods": _periods(filters, chosen),
                "county": county,
                "address": _exams_address(filters),
                "tab": lambda name: _address("/turnaround", {**filters.address(), "by": name}),
                "query": urlencode({**filters.address(), "by": chosen}),
                "chart": _chart(summary, names, county),
                "slice_of": lambda key: {PARAMETERS[chosen]: key},
            },
        )


@router.get("/turnaround/board", response_class=HTMLResponse)
def board_fragment(request: Request, actor: Viewer, session: ReadDb) -> HTMLResponse:
    """Today's board by itself; the page asks for it whenever an exam changes."""
    with use_locale(locale_of(request)):
        values = {
            **_words(service.names(session)),
            "board": service.board(session, actor),
            "county": limits.load(session),
        }
        return render(request, "turnaround/_board.html", values)


@router.get("/turnaround/waits", response_class=HTMLResponse)
def waits_fragment(request: Request, actor: Viewer, session: ReadDb, filters: Chosen) -> HTMLResponse:
    """For what the exams of a period waited, in sum; asked for after the page, because it reads every transition."""
    with use_locale(locale_of(request)):
        found = service.waits(session, actor, filters)
        values = {**_words(Names()), "waits": found, "whole": sum(wait.seconds for wait in found)}
        return render(request, "turnaround/_waits.html", values)


def _periods(filters: Filters, by: By) -> list[dict[str, Any]]:
    day = service.today()
    found = []
    for label, days in ((_("今天"), 1), (_("近 7 天"), 7), (_("近 30 天"), 30), (_("近 90 天"), 90)):
        first = day - timedelta(days=days - 1)
        values = {**filters.address(**{"from": first.isoformat(), "to": day.isoformat()}), "by": by}
        found.append(
            {
                "label": label,
                "href": _address("/turnaround", values),
                "on": (filters.first, filters.last) == (first, day),
            }
        )
    return found


_MOST_BARS = 40


def _chart(summary: Summary, names: Names, county: limits.Limits) -> dict[str, Any]:
    groups = summary.groups if summary.by == "day" else summary.groups[:_MOST_BARS]
    return {
        "by": summary.by,
        "parameter": PARAMETERS[summary.by],
        "filters": summary.filters.address(),
        "stages": list(MEASURES),
        "limits": county.stages,
        "groups": [
            {
                "key": group.key,
                "label": _said(names.label(summary.by, group.key)),
                "exams": group.exams,
                "cells": {
                    name: {
                        "n": cell.n,
                        "median": cell.median,
                        "p90": cell.p90,
                        "mean": cell.total / cell.n if cell.n else None,
                        "total": cell.total,
                        "share": cell.share,
                        "due": cell.due,
                    }
                    for name, cell in group.cells.items()
                },
            }
            for group in groups
        ],
        "names": {name: _said(text) for name, text in MEASURES.items()},
    }


def _said(text: Message | str) -> str:
    return translate(text)


@router.get("/turnaround/exams", response_class=HTMLResponse)
def exams_page(
    request: Request,
    actor: Viewer,
    session: ReadDb,
    filters: Chosen,
    page: Annotated[int, Query(ge=1)] = 1,
) -> HTMLResponse:
    """The exams behind a number."""
    with use_locale(locale_of(request)):
        names = service.names(session)
        found = service.exams(session, actor, filters, page=page)
        chips = [
            {
                "label": GROUPINGS[name],
                "value": names.label(name, value),
                "href": _address("/turnaround/exams", filters.address(**{PARAMETERS[name]: ""})),
            }
            for name in GROUPINGS
            if (value := filters.address().get(PARAMETERS[name], ""))
        ]
        address = _exams_address(filters)
        return render(
            request,
            "turnaround/exams.html",
            {
                **_words(names),
                "found": found,
                "filters": filters,
                "chips": chips,
                "lateness": LATENESS,
                "address": address,
                "page_address": lambda number: address(page=str(number)),
                "back": _address("/turnaround", {"from": filters.first.isoformat(), "to": filters.last.isoformat()}),
                "query": urlencode(filters.address()),
            },
        )


@router.get("/turnaround/exams/{exam_id}", response_class=HTMLResponse)
def exam_page(request: Request, actor: Viewer, session: ReadDb, exam_id: str) -> HTMLResponse:
    """The clocks of one exam: no patient, no word of the report."""
    with use_locale(locale_of(request)):
        found = service.detail(session, actor, exam_id)
        values = {
            **_words(service.names(session)),
            "detail": found,
            "line": found.line,
            "county": limits.load(session),
            "whole": sum(wait.seconds for wait in found.sums),
            "events": EVENTS,
        }
        return render(request, "turnaround/exam.html", values)


@router.get("/turnaround/settings", response_class=HTMLResponse)
def settings_page(request: Request, actor: Setter, session: ReadDb) -> HTMLResponse:
    """Limits and working calendar."""
    with use_locale(locale_of(request)):
        rows = session.execute(
            select(CountySetting.name, CountySetting.changed_at, Person.name)
            .outerjoin(Person, Person.id == CountySetting.changed_by)
            .where(CountySetting.name.in_([limits.SETTING, calendar.SETTING]))
        )
        values = {
            **_words(Names()),
            "county": limits.load(session),
            "calendar": calendar.to_json(calendar.load(session)),
            "weekdays": calendar.WEEKDAYS,
            "changed": {name: (at, who) for name, at, who in rows},
        }
        return render(request, "turnaround/settings.html", values)


EVENTS: dict[str, Message] = {
    "images_arrive": _("影像到达"),
    "complete": _("接收完整"),
    "disagree": _("发现不符"),
    "verify": _("核对完成"),
    "claim": _("开始书写"),
    "take_over": _("接管"),
    "release": _("退出书写"),
    "lease_expires": _("占用到期"),
    "submit": _("提交审核"),
    "withdraw": _("撤回"),
    "claim_review": _("开始审核"),
    "take_over_review": _("接管审核"),
    "release_review": _("退出审核"),
    "review_lease_expires": _("审核占用到期"),
    "reject": _("驳回"),
    "sign": _("签发"),
    "return": _("送达卫生院"),
    "see": _("临床查看"),
    "amend": _("补充或更正"),
    "issue_preliminary": _("发出急诊报告"),
    "request_retake": _("退回重拍"),
    "decline_retake": _("卫生院答复:无法重拍"),
    "decline_retake_review": _("卫生院答复:无法重拍"),
    "request_history": _("请求补充病史"),
    "answer_history": _("病史已补充"),
    "consult": _("发起会诊"),
    "end_consultation": _("会诊结束"),
    "cancel": _("取消"),
    "void": _("作废"),
}
"""What people call each event of the state machine."""
