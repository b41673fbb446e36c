"""The mark of mutual recognition: scope + HR, only for items that passed quality evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.reports.recognition import rules as county
from hub.reports.recognition.models import EvaluatedItem
from hub.reports.recognition.rules import SCOPES, Rules
from hub.sites.models import Organisation, OrgKind


@dataclass(frozen=True, slots=True)
class Mark:
    """`scope` of an exam's mark, and what is printed ("全国HR")."""

    scope: str
    text: str


def moment_of(exam: Exam) -> datetime:
    """When the images were taken, as far as it is known."""
    return exam.exam_at or exam.registered_at


def mark_of(session: Session, exam: Exam, rules: Rules | None = None) -> Mark | None:
    """The mark of an exam: what the organisation that took the images had passed on that day, for every part of it.

    Of several parts the narrowest scope counts.
    """
    rules = rules or county.load(session)
    kinds = county.kinds_of(rules, exam.modality, exam.body_parts)
    if kinds is None:
        return None
    return _mark(session, exam, kinds, rules)


def _mark(session: Session, exam: Exam, kinds: Collection[str], rules: Rules) -> Mark | None:
    at = moment_of(exam)
    day = clock.local(at, get_settings().timezone).date()
    rows = session.execute(
        select(EvaluatedItem.item, EvaluatedItem.scope).where(
            EvaluatedItem.org_id == exam.org_id,
            EvaluatedItem.item.in_(list(kinds)),
            EvaluatedItem.valid_from <= day,
            or_(EvaluatedItem.valid_until.is_(None), EvaluatedItem.valid_until >= day),
            or_(EvaluatedItem.ended_at.is_(None), EvaluatedItem.ended_at > at),
        )
    )
    order = list(SCOPES)
    widest: dict[str, int] = {}
    for item, scope in rows:
        widest[item] = min(widest.get(item, len(order)), order.index(scope))
    if set(widest) != set(kinds):
        return None
    scope = order[max(widest.values())]
    return Mark(scope, f"{rules.marks[scope]}HR")


def evaluations(session: Session, *, ended: bool = False) -> list[EvaluatedItem]:
    """What organisations passed; `ended` includes what was ended."""
    statement = select(EvaluatedItem).order_by(EvaluatedItem.org_id, EvaluatedItem.item, EvaluatedItem.noted_at)
    if not ended:
        statement = statement.where(EvaluatedItem.ended_at.is_(None))
    return list(session.scalars(statement))


def note(
    session: Session,
    actor: Actor,
    *,
    org_id: str,
    items: Collection[str],
    scope: str,
    valid_from: date,
    valid_until: date | None = None,
    evidence: str = "",
) -> list[EvaluatedItem]:
    """Note that an organisation passed the quality evaluation of items.

    Raises:
        Invalid: By field.
        NotFound: There is no such organisation.
    """
    rules = county.load(session)
    fields: dict[str, Message | str] = {}
    org = session.get(Organisation, org_id)
    if org is None:
        raise NotFound(_("没有找到这个机构"))
    if org.kind == OrgKind.HUB:
        fields["org_id"] = _("请选择拍摄影像的机构")
    if not items or any(item not in rules.kinds for item in items):
        fields["items"] = _("请选择互认项目")
    if scope not in SCOPES:
        fields["scope"] = _("请选择互认范围")
    if valid_until is not None and valid_until < valid_from:
        fields["valid_until"] = _("到期日早于生效日")
    if len(evidence.strip()) < 2:
        fields["evidence"] = _("请写明评价依据(文件名称或文号)")
    if fields:
        raise Invalid(fields=fields)
    made = []
    for item in dict.fromkeys(items):
        row = EvaluatedItem(
            org_id=org_id,
            item=item,
            scope=scope,
            evidence=evidence.strip()[:200],
            valid_from=valid_from,
            valid_until=valid_until,
            noted_at=clock.now(),
            noted_by=actor.id,
        )
        session.add(row)
        made.append(row)
    session.flush()
    audit.record(
        session,
        actor,
        "recognition.evaluate",
        "organisation",
        org_id,
        org_id=org_id,
        items=sorted(items),
        scope=scope,
    )
    return made


def end(session: Session, actor: Actor, row_id: str) -> EvaluatedItem:
    """End an evaluation: exams from now on carry no mark by it, those of before keep theirs.

    Raises:
        NotFound: There is none.
        Conflict: It ended already.
    """
    row = session.get(EvaluatedItem, row_id, with_for_update=True)
    if row is None:
        raise NotFound(_("没有找到这条评价"))
    if row.ended_at is not None:
        raise Conflict(_("这条评价已经停用"), code="ended")
    row.ended_at, row.ended_by = clock.now(), actor.id
    audit.record(
        session,
        actor,
        "recognition.end-evaluation",
        "organisation",
        row.org_id,
        org_id=row.org_id,
        item=row.item,
        scope=row.scope,
    )
    return row
