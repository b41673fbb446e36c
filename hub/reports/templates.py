"""Report templates: the county's (given as data), a hospital's, one's own; for whom each is, and which one fits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.dicom.identity import age_at, parse_age
from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.exams.models import Exam
from hub.kit import clock
from hub.kit.actor import SYSTEM, Actor
from hub.kit.db import database
from hub.kit.errors import Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.kit.serials import Serial, next_serial
from hub.kit.settings import get_settings
from hub.reports.models import Template
from hub.reports.policy import MAX_TEXT
from hub.reports.texts import phrases, scopes
from hub.reports.texts.fields import faults
from hub.reports.texts.scopes import Scope

DEFAULTS = Path(__file__).parent / "data" / "templates.json"
MAX_AGE = 150
_SEEDED = "templates:seeded"
TEXTS = ("technique", "findings", "impression", "recommendation")


def seed(session: Session) -> int:
    """Write the county's default templates, once in a hub's life: what is removed stays away.

    Returns:
        How many were written.
    """
    if session.get(Serial, _SEEDED) is not None or next_serial(session, _SEEDED) > 1:
        return 0
    defaults = json.loads(DEFAULTS.read_text(encoding="utf-8"))["templates"]
    for number, values in enumerate(defaults):
        # Older than whatever the county keeps itself.
        session.add(Template(id=f"{number:026d}", org_id=None, person_id=None, **values))
    audit.record(session, SYSTEM, "templates.seed", "report_template", "", count=len(defaults))
    return len(defaults)


def ensure_seeded() -> None:
    """Seed templates and phrases where nobody has done it yet."""
    with database().reading() as session:
        if session.get(Serial, _SEEDED) is not None and phrases.seeded(session):
            return
    with database().writing() as session:
        seed(session)
        phrases.seed(session)


def scope_of(row: Template) -> Scope:
    """Whose a template is."""
    return "county" if row.org_id is None else "own" if row.person_id else "hospital"


def _usable(actor: Actor) -> Select[Template]:
    return select(Template).where(
        or_(
            Template.person_id == actor.id,
            Template.person_id.is_(None) & or_(Template.org_id.is_(None), Template.org_id == actor.org_id),
        )
    )


def usable(
    session: Session, actor: Actor, *, modality: str = "", body_part: str = "", scope: Scope | None = None
) -> list[Template]:
    """The county's, the hospital's and one's own templates; normal ones first, own ones before others."""
    statement = _usable(actor)
    if modality:
        statement = statement.where(Template.modality == modality)
    if body_part:
        statement = statement.where(Template.body_part == body_part)
    found = [row for row in session.scalars(statement) if scope in (None, scope_of(row))]
    found.sort(key=lambda t: (t.body_part, t.person_id is None, t.org_id is None, not t.normal, t.id))
    return found


def years_of(exam: Exam) -> int | None:
    """The patient's age at the exam in whole years; None where it is not known."""
    born = exam.stated_birth_date or exam.patient.birth_date
    age = parse_age(exam.stated_age) if exam.stated_age else None
    if age is None and born is not None:
        age = age_at(born, clock.local(exam.exam_at or exam.registered_at, get_settings().timezone).date())
    if age is None:
        return None
    return age.value if age.unit == "Y" else age.value // 12 if age.unit == "M" else 0


def fits(template: Template, sex: str, years: int | None) -> bool:
    """Whether a template is for a patient of this sex and age.

    Where the hub does not know them, a template that depends on them is not taken for fitting.
    """
    if template.sex and template.sex != sex:
        return False
    if template.age_from is None and template.age_to is None:
        return True
    return years is not None and (template.age_from or 0) <= years <= (
        MAX_AGE if template.age_to is None else template.age_to
    )


def for_exam(session: Session, actor: Actor, exam: Exam) -> list[Template]:
    """Templates of the exam's modality, best first: its body parts, its patient's sex and age, one's own."""
    sex, years = exam.patient.sex, years_of(exam)
    return sorted(
        usable(session, actor, modality=exam.modality),
        key=lambda t: (t.body_part not in exam.body_parts, not fits(t, sex, years)),
    )


def normals(found: Sequence[Template], exam: Exam) -> list[Template]:
    """The normal template of each of the exam's body parts, as far as there is one.

    Of those that fit the patient, one's own counts before the hospital's, that before the county's; then the one that
    says most about whom it is for; of two alike the newer.
    """
    sex, years = exam.patient.sex, years_of(exam)
    chosen = []
    for part in exam.body_parts:
        fitting = [t for t in found if t.normal and t.body_part == part and fits(t, sex, years)]
        fitting.sort(key=lambda t: t.id, reverse=True)
        fitting.sort(key=lambda t: (scopes.SCOPES.index(scope_of(t)), -_narrow(t)))
        chosen += fitting[:1]
    return chosen


def _narrow(template: Template) -> int:
    return bool(template.sex) + (template.age_from is not None or template.age_to is not None)


def checked(values: Mapping[str, Any]) -> dict[str, Any]:
    """A template's values as they are kept.

    Raises:
        Invalid: With the fields that are wrong.
    """
    kept: dict[str, Any] = {
        "name": str(values.get("name") or "").strip(),
        "modality": str(values.get("modality") or "").strip().upper(),
        "body_part": str(values.get("body_part") or "").strip(),
        "sex": str(values.get("sex") or "").strip().upper(),
        "normal": bool(values.get("normal", False)),
        "age_from": values.get("age_from"),
        "age_to": values.get("age_to"),
        **{name: str(values.get(name) or "").replace("\r\n", "\n").strip() for name in TEXTS},
    }
    wrong: dict[str, Message | str] = {}
    if not kept["name"] or len(kept["name"]) > 100:
        wrong["name"] = _("请填写模板名称")
    if kept["modality"] not in MODALITIES:
        wrong["modality"] = _("没有这种检查类型:{what}").format(what=kept["modality"][:20])
    if kept["body_part"] not in BODY_PARTS:
        wrong["body_part"] = _("没有这个部位:{what}").format(what=kept["body_part"][:20])
    if kept["sex"] not in ("", "M", "F"):
        wrong["sex"] = _("性别只能是 M、F 或空")
    for name in ("age_from", "age_to"):
        value = kept[name]
        if value is not None and not (isinstance(value, int) and 0 <= value <= MAX_AGE):
            wrong[name] = _("年龄应为 0 到 {n} 之间的整数").format(n=MAX_AGE)
    if not wrong and None not in (kept["age_from"], kept["age_to"]) and kept["age_from"] > kept["age_to"]:
        wrong["age_to"] = _("年龄上限小于下限")
    if not (kept["findings"] or kept["impression"]):
        wrong["findings"] = _("模板没有内容")
    for name in TEXTS:
        if len(kept[name]) > MAX_TEXT:
            wrong[name] = _("模板太长")
        elif faults(kept[name]):
            wrong[name] = _("填空写法有误:{what}").format(what=faults(kept[name])[0][:40])
    if wrong:
        raise Invalid(fields=wrong)
    return kept


def owner(actor: Actor, scope: Scope) -> dict[str, str | None]:
    """The columns that say whose a template is."""
    return {
        "org_id": None if scope == "county" else actor.org_id,
        "person_id": actor.id if scope == "own" else None,
    }


def add(session: Session, actor: Actor, values: Mapping[str, Any], *, scope: Scope = "own") -> Template:
    """Keep a template.

    Raises:
        Forbidden: The scope is not the actor's to keep.
        Invalid: With the fields that are wrong.
    """
    scopes.demand(actor, scope)
    row = Template(id=new_id(), **owner(actor, scope), **checked(values))
    session.add(row)
    audit.record(session, actor, "template.add", "report_template", row.id, org_id=actor.org_id, scope=scope)
    return row


def change(session: Session, actor: Actor, template_id: str, values: Mapping[str, Any]) -> Template:
    """Change a template; whose it is stays.

    Raises:
        NotFound: There is none, or it is somebody else's.
        Forbidden: It is not the actor's to keep.
        Invalid: With the fields that are wrong.
    """
    row = get(session, actor, template_id)
    scopes.demand(actor, scope_of(row))
    for name, value in checked(values).items():
        setattr(row, name, value)
    audit.record(session, actor, "template.change", "report_template", row.id, org_id=actor.org_id)
    return row


def get(session: Session, actor: Actor, template_id: str) -> Template:
    """A template that the actor may use.

    Raises:
        NotFound: There is none, or it is somebody else's.
    """
    row = session.scalars(_usable(actor).where(Template.id == template_id)).one_or_none()
    if row is None:
        raise NotFound(_("没有找到这个模板"))
    return row


def remove(session: Session, actor: Actor, template_id: str) -> None:
    """Remove a template.

    Raises:
        NotFound: There is none, or it is somebody else's.
        Forbidden: It is not the actor's to keep.
    """
    row = get(session, actor, template_id)
    scopes.demand(actor, scope_of(row))
    session.delete(row)
    audit.record(session, actor, "template.remove", "report_template", template_id, org_id=actor.org_id)
