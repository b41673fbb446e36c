"""Pages of the quality officer: the quarantine of refused files."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import ReadDb, require
from hub.kit.errors import HubError, Invalid
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.sites.models import Organisation
from hub.studies import quarantine, reasons, routes
from hub.studies.models import Quarantined
from hub.web.pages import locale_of, render

router = APIRouter(tags=["quality"])

QuarantineViewer = Annotated[Actor, require(Permission.QUARANTINE_VIEW)]
QuarantineDecider = Annotated[Actor, require(Permission.QUARANTINE_DECIDE)]

PAGE_SIZE = 50

CODE_NAMES: dict[str, Message] = {
    reasons.CHANGED_CONTENT: _("同号不同内容"),
    reasons.IDENTIFIER_CONFLICT: _("标识冲突"),
    reasons.WRONG_EXAM: _("检查不属于本机构"),
    reasons.STUDY_MISMATCH: _("与请求地址不符"),
    reasons.WRONG_INSTANCE: _("与设备声明不符"),
    reasons.PROCESSING_FAILED: _("处理失败"),
    "not-dicom": _("不是 DICOM"),
    "empty": _("空文件"),
    "truncated": _("文件不完整"),
    "no-uids": _("缺少标识"),
    "invalid-uid": _("标识不合规"),
    "absurd-length": _("长度不合理"),
    "broken-structure": _("结构损坏"),
    "bomb": _("内容异常"),
    "too-large": _("文件过大"),
    "frame-too-large": _("图像过大"),
    "unsupported": _("不支持"),
    "executable-preamble": _("藏有程序"),
    "zip-bad": _("压缩包损坏"),
    "zip-bomb": _("压缩包异常"),
    "zip-encrypted": _("压缩包加密"),
    "zip-symlink": _("压缩包含链接"),
    "zip-nested": _("压缩包嵌套"),
}
SOURCE_NAMES: dict[str, Message] = {
    "web": _("网页上传"),
    "stow": _("设备(STOW-RS)"),
    "dimse": _("设备(C-STORE)"),
    "hub": _("中心自身"),
}
DETAIL_NAMES: dict[str, Message] = {
    "other-bytes": _("本机构已有同一影像编号、内容不同的影像"),
    "instance-of-other-organisation": _("影像编号已被另一机构使用"),
    "study-of-other-organisation": _("检查标识已被另一机构使用"),
    "study-of-other-patient": _("检查标识已用于本机构的另一位患者"),
    "series-of-other-study": _("序列标识已用于另一次检查"),
    "exam-not-of-sender": _("发送时指定的检查不属于该机构"),
}
"""What only the quality officer is told of a conflict."""


def _context(
    session: Session,
    actor: Actor,
    locale: str,
    *,
    decided: bool = False,
    org: str = "",
    code: str = "",
    source: str = "",
    page: int = 1,
) -> dict[str, Any]:
    found = routes.quarantine_page(
        session,
        actor,
        locale=locale,
        page=page,
        size=PAGE_SIZE,
        open_only=not decided,
        org_id=org,
        code=code,
        source=source,
    )
    senders = session.execute(
        select(Organisation.id, Organisation.name, Organisation.name_en)
        .where(Organisation.id.in_(select(Quarantined.org_id).distinct()))
        .order_by(Organisation.code)
    ).all()
    chosen = {"org": org, "code": code, "source": source, "decided": "1" if decided else ""}

    def url(number: int) -> str:
        query = {name: value for name, value in chosen.items() if value}
        return "/quarantine?" + urlencode({**query, "page": number})

    return {
        "found": found,
        "pages": max(1, -(-found.total // PAGE_SIZE)),
        "chosen": chosen,
        "senders": [(row.id, row.name_en if locale == "en" and row.name_en else row.name) for row in senders],
        "codes": CODE_NAMES,
        "sources": SOURCE_NAMES,
        "details": DETAIL_NAMES,
        "room_mb": found.room_bytes // 2**20,
        "most_mb": get_settings().quarantine_max_mb,
        "url": url,
    }


@router.get("/quarantine", response_class=HTMLResponse, include_in_schema=False)
def quarantine_page(
    request: Request,
    session: ReadDb,
    actor: QuarantineViewer,
    decided: bool = False,
    org: Annotated[str, Query(max_length=26)] = "",
    code: Annotated[str, Query(max_length=40)] = "",
    source: Annotated[str, Query(max_length=20)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
    done: Annotated[str, Query(max_length=12)] = "",
) -> HTMLResponse:
    """Refused files with filters in the address."""
    values = _context(session, actor, locale_of(request), decided=decided, org=org, code=code, source=source, page=page)
    notices = {
        quarantine.RELEASED: {"text": _("文件已接收,并归入其检查。"), "tone": "ok"},
        quarantine.DISCARDED: {"text": _("文件已丢弃,记录保留。"), "tone": "ok"},
    }
    return render(request, "quality/quarantine.html", {**values, "flashes": [notices[done]] if done in notices else []})


@router.post("/quarantine/{item}/release", response_class=HTMLResponse, include_in_schema=False)
def release(request: Request, item: str, actor: QuarantineDecider) -> Response:
    """Take a refused file in after all; where it still does not fit, the page says why."""
    try:
        routes.release(actor, item)
    except HubError as error:
        return _again(request, actor, error)
    return RedirectResponse(f"/quarantine?done={quarantine.RELEASED}", 303)


@router.post("/quarantine/{item}/discard", response_class=HTMLResponse, include_in_schema=False)
def discard(
    request: Request, item: str, actor: QuarantineDecider, reason: Annotated[str, Form(max_length=400)] = ""
) -> Response:
    """Let a refused file go, with a reason."""
    try:
        quarantine.discard(actor, item, reason=reason)
    except HubError as error:
        return _again(request, actor, error)
    return RedirectResponse(f"/quarantine?done={quarantine.DISCARDED}", 303)


def _again(request: Request, actor: Actor, error: HubError) -> HTMLResponse:
    message = error.fields.get("reason", error.message) if isinstance(error, Invalid) else error.message
    with database().reading() as session:
        values = _context(session, actor, locale_of(request))
        flashes = [{"text": message, "tone": "bad"}]
        return render(request, "quality/quarantine.html", {**values, "flashes": flashes}, status=error.status)
