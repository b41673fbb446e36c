"""Rendering pages: environment, navigation, language."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from hub.accounts.roles import ROLE_NAMES, Permission, Role, permissions_of
from hub.delivery import service as delivery
from hub.dicom.identity import mask
from hub.exams import registration
from hub.exams.states import STATE_NAMES
from hub.kit import clock
from hub.kit.actor import ANONYMOUS, Actor
from hub.kit.db import database
from hub.kit.i18n import LOCALE_COOKIE, Locale, Message, _, current_locale, install_jinja, pick_locale, use_locale
from hub.kit.settings import get_settings
from hub.patients import links
from hub.reading.conversation import thread
from hub.reading.routing import alerts as limit_alerts
from hub.reports.review import peer
from hub.reports.review import service as review
from hub.sites.models import Organisation
from hub.web.critical_views import bar_values
from hub.web.review_views import open_conclusions
from hub.web.static import asset, i18n_json

TEMPLATES = Path(__file__).parent / "templates"

_environment: jinja2.Environment | None = None


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the application bar; shown to those who hold any of `permissions`.

    Entries of one `group` open from a menu of that name, for whoever has more than one of them.
    """

    href: str
    label: Message
    permissions: frozenset[Permission]
    badge: str = ""
    group: Message | None = None


P = Permission
_SECOND_LOOK = _("审核与复阅")
_QUALITY = _("质控")
_TOOLS = _("工具")
_RULES = _("规则")
_COUNTY = _("管理")
NAVIGATION: tuple[NavItem, ...] = (
    NavItem("/clinic", _("检查"), frozenset({P.EXAM_REGISTER, P.REPORT_SEE})),
    NavItem("/clinic/register", _("登记"), frozenset({P.EXAM_REGISTER})),
    NavItem("/clinic/upload", _("上传"), frozenset({P.IMAGES_UPLOAD})),
    NavItem("/clinic/inbox", _("报告"), frozenset({P.REPORT_SEE}), badge="inbox"),
    NavItem("/queue", _("阅片队列"), frozenset({P.QUEUE_VIEW})),
    NavItem("/critical", _("危急值管理"), frozenset({P.CRITICAL_VIEW})),
    NavItem("/messages", _("消息"), frozenset({P.THREAD_WRITE}), badge="messages"),
    NavItem("/alerts", _("时限提醒"), frozenset({P.ALERTS_VIEW}), badge="alerts"),
    NavItem("/verify-identity", _("待核对"), frozenset({P.EXAM_VERIFY}), badge="verify"),
    NavItem("/clinic/quality", _("影像质量"), frozenset({P.SCORE_OWN})),
    NavItem("/turnaround", _("时效"), frozenset({P.TURNAROUND_VIEW})),
    NavItem("/reviews", _("审核反馈"), frozenset({P.REPORT_WRITE}), "reviews", _SECOND_LOOK),
    NavItem("/peer", _("盲法复阅"), frozenset({P.REPORT_REVIEW}), "peer", _SECOND_LOOK),
    NavItem("/templates", _("模板"), frozenset({P.TEMPLATE_EDIT}), group=_TOOLS),
    NavItem("/signing", _("签名证书"), frozenset({P.SIGNING_KEY}), group=_TOOLS),
    NavItem("/quality/reviews", _("复阅与裁定"), frozenset({P.REVIEW_OVERSEE}), "arbitrations", _QUALITY),
    NavItem("/patients", _("患者索引"), frozenset({P.PATIENT_LINK}), "patients", _QUALITY),
    NavItem("/quarantine", _("隔离区"), frozenset({P.QUARANTINE_VIEW}), group=_QUALITY),
    NavItem("/turnaround/quality", _("质量"), frozenset({P.TURNAROUND_VIEW}), group=_QUALITY),
    NavItem("/checks", _("报告检查"), frozenset({P.CHECKS_VIEW}), group=_RULES),
    NavItem("/admin/routing", _("阅片分配"), frozenset({P.ROUTING_MANAGE}), group=_RULES),
    NavItem("/admin/rota", _("值班表"), frozenset({P.ROTA_VIEW}), group=_RULES),
    NavItem("/admin/review-policy", _("审核规定"), frozenset({P.REVIEW_POLICY}), group=_RULES),
    NavItem("/admin/recognition", _("互认"), frozenset({P.RECOGNITION_SETTINGS}), group=_RULES),
    NavItem("/critical/contacts", _("危急值联系人"), frozenset({P.ORGANISATIONS_MANAGE}), group=_RULES),
    NavItem("/admin/people", _("人员"), frozenset({P.PEOPLE_MANAGE}), group=_COUNTY),
    NavItem("/admin/organisations", _("机构"), frozenset({P.ORGANISATIONS_MANAGE}), group=_COUNTY),
    NavItem("/admin/audit", _("审计"), frozenset({P.AUDIT_VIEW}), group=_COUNTY),
    NavItem("/system", _("系统"), frozenset({P.SYSTEM_VIEW})),
)


def locale_of(request: Request, *, program: bool = False) -> Locale:
    """The reader's language: his cookie, then his account's; Chinese otherwise, whatever his browser was installed in.

    Args:
        request: What was asked.
        program: Whether the answer is for a program; one that is no browser may choose by Accept-Language.
    """
    chosen = request.cookies.get(LOCALE_COOKIE)
    person = getattr(request.state, "person", None)
    accepted = request.headers.get("accept-language") if program and "sec-fetch-mode" not in request.headers else None
    return pick_locale(chosen or (person.locale if person is not None else None), accepted)


def environment() -> jinja2.Environment:
    """The Jinja environment of this process."""
    global _environment  # noqa: PLW0603
    if _environment is None:
        env = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        install_jinja(env, zone=ZoneInfo(get_settings().timezone))
        env.filters["masked"] = mask
        env.filters["org_name"] = org_name
        env.globals.update(asset=asset, state_name=STATE_NAMES.__getitem__, role_name=_role_name)
        _environment = env
    return _environment


def org_name(org: Organisation, locale: Locale | None = None) -> str:
    """What an organisation is called in a language, by default that of the page."""
    return org.name_en if (locale or current_locale()) == "en" and org.name_en else org.name


def _role_name(code: str) -> Message:
    return ROLE_NAMES[Role(code)]


def can(actor: Actor, *permissions: str) -> bool:
    """Whether the actor holds any of `permissions`."""
    return not permissions_of(actor.roles, actor.scopes).isdisjoint(permissions)


def navigation(actor: Actor, path: str) -> list[dict[str, Any]]:
    """The entries of the application bar for `actor` on the page `path`, with what waits for him.

    Returns:
        `{href, label, active, badge}` each; a menu has `entries` of that form in the place of `href`.
    """
    held = permissions_of(actor.roles, actor.scopes)
    items = [item for item in NAVIGATION if not held.isdisjoint(item.permissions)]
    fitting = [item.href for item in items if path == item.href or path.startswith(item.href + "/")]
    active = max(fitting, key=len, default="")
    counts = _waiting(actor, {item.badge for item in items if item.badge})
    bar: list[dict[str, Any]] = []
    entries: list[dict[str, Any]]
    for group, members in itertools.groupby(items, key=lambda item: item.group):
        entries = [
            {
                "href": item.href,
                "label": item.label,
                "active": item.href == active,
                "badge": str(counts[item.badge]) if counts.get(item.badge) else "",
            }
            for item in members
        ]
        if group is None or len(entries) == 1:
            bar += entries
            continue
        waiting = sum(int(entry["badge"] or 0) for entry in entries)
        bar.append(
            {
                "label": group,
                "entries": entries,
                "active": any(entry["active"] for entry in entries),
                "badge": str(waiting) if waiting else "",
            }
        )
    return bar


def _waiting(actor: Actor, wanted: set[str]) -> dict[str, int]:
    if not wanted:
        return {}
    counts: dict[str, int] = {}
    with database().reading() as session:
        if "inbox" in wanted:
            counts["inbox"] = delivery.unseen_count(session, actor.org_id)
        if "patients" in wanted:
            counts["patients"] = links.waiting(session)
        if "reviews" in wanted:
            counts["reviews"] = review.unread(session, actor)
        if "peer" in wanted:
            counts["peer"] = peer.waiting(session, actor)
        if "arbitrations" in wanted:
            counts["arbitrations"] = review.open_arbitrations(session)
        if "alerts" in wanted:
            counts["alerts"] = limit_alerts.count(session, actor)
        if "verify" in wanted:
            counts["verify"] = registration.count_to_verify(session, actor)
        if "messages" in wanted:
            counts["messages"] = len(thread.unread(session, actor))
    return counts


def render(
    request: Request,
    template: str,
    values: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Render a page or a fragment for whoever asked, in his language.

    Templates get: `request`, `actor` (None when nobody is logged in), `person`, `organisation`, `nav()`, `locale`,
    `csrf_token`, `i18n_json`, `settings`, `can(permission…)`, `now`, and `values`.
    """
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is ANONYMOUS:
        actor = None
    session = getattr(request.state, "login_session", None)
    locale = locale_of(request)
    context: dict[str, Any] = {
        "request": request,
        "actor": actor,
        "person": getattr(request.state, "person", None),
        "organisation": getattr(request.state, "organisation", None),
        # Asked for where it is shown: a fragment has no application bar, and counts nothing for it.
        "nav": lambda: navigation(actor, request.url.path) if actor is not None else [],
        "live_since": getattr(request.state, "live_since", 0),
        "locale": locale,
        "csrf_token": session.csrf if session is not None else "",
        "i18n_json": i18n_json(locale),
        "settings": get_settings(),
        "critical_bar": lambda: bar_values(actor, locale) if actor is not None else None,
        "can": lambda *permissions: actor is not None and can(actor, *permissions),
        "conclusion_bar": lambda: open_conclusions(actor, locale) if actor is not None else [],
        "now": clock.now(),
        **(values or {}),
    }
    with use_locale(locale):
        body = environment().get_template(template).render(context)
    response = HTMLResponse(body, status, headers=dict(headers or {}))
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Vary"] = "Cookie"
    return response
