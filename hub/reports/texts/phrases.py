"""Phrases by abbreviation: `wjyc` and the space bar write 未见明显异常。"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.catalogue import MODALITIES
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.kit.serials import Serial, next_serial
from hub.reports.models import Phrase
from hub.reports.texts import scopes
from hub.reports.texts.fields import faults
from hub.reports.texts.initials import initials
from hub.reports.texts.scopes import Scope

DEFAULTS = Path(__file__).parents[1] / "data" / "phrases.json"
MAX_TEXT = 4000
MAX_CODE = 20
_SEEDED = "phrases:seeded"
_CODE = re.compile(r"[a-z][a-z0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class Known:
    """A phrase as its reader knows it."""

    id: str
    scope: Scope
    code: str
    modality: str
    text: str


def seed(session: Session) -> int:
    """Write the county's phrases, once in a hub's life: what is removed stays away.

    Returns:
        How many were written.
    """
    if session.get(Serial, _SEEDED) is not None or next_serial(session, _SEEDED) > 1:
        return 0
    rows = json.loads(DEFAULTS.read_text(encoding="utf-8"))["phrases"]
    for row in rows:
        session.add(Phrase(id=new_id(), scope="county", **row))
    audit.record(session, SYSTEM, "phrases.seed", "report_phrase", "", count=len(rows))
    return len(rows)


def seeded(session: Session) -> bool:
    """Whether the county's phrases were written."""
    return session.get(Serial, _SEEDED) is not None


def key_of(actor: Actor, scope: Scope) -> str:
    """How the table names a scope of the actor's."""
    return {"own": f"own:{actor.id}", "hospital": f"org:{actor.org_id}", "county": "county"}[scope]


def _scope_of(key: str) -> Scope:
    return "county" if key == "county" else "hospital" if key.startswith("org:") else "own"


def _known(row: Phrase) -> Known:
    return Known(row.id, _scope_of(row.scope), row.code, row.modality, row.text)


def usable(session: Session, actor: Actor, *, scope: Scope | None = None) -> list[Known]:
    """The actor's, his hospital's and the county's phrases; his own first, each by code."""
    keys = [key_of(actor, one) for one in scopes.SCOPES if scope in (None, one)]
    rows = session.scalars(select(Phrase).where(Phrase.scope.in_(keys)))
    return sorted(
        (_known(row) for row in rows), key=lambda one: (scopes.SCOPES.index(one.scope), one.code, one.modality)
    )


def for_modality(session: Session, actor: Actor, modality: str) -> list[Known]:
    """What an abbreviation stands for while an exam of this modality is written: one phrase a code.

    One's own counts before the hospital's, that before the county's; the modality's before any.
    """
    found: dict[str, Known] = {}
    rows = [row for row in usable(session, actor) if row.modality in ("", modality)]
    for row in sorted(rows, key=lambda one: (scopes.SCOPES.index(one.scope), one.modality == "")):
        found.setdefault(row.code, row)
    return sorted(found.values(), key=lambda one: one.code)


def checked(values: Mapping[str, Any]) -> dict[str, str]:
    """A phrase's values as they are kept; without a code it gets its text's initials.

    Raises:
        Invalid: With the fields that are wrong.
    """
    text = str(values.get("text") or "").replace("\r\n", "\n").strip()
    modality = str(values.get("modality") or "").strip().upper()
    code = str(values.get("code") or "").strip().lower() or initials(text)[:8]
    wrong: dict[str, Message | str] = {}
    if not text:
        wrong["text"] = _("请填写短语的内容")
    elif len(text) > MAX_TEXT:
        wrong["text"] = _("最多 {n} 个字").format(n=MAX_TEXT)
    elif faults(text):
        wrong["text"] = _("填空写法有误:{what}").format(what=faults(text)[0][:40])
    if not _CODE.fullmatch(code):
        wrong["code"] = _("缩写为 2 到 20 个小写字母或数字,以字母开头")
    if modality and modality not in MODALITIES:
        wrong["modality"] = _("没有这种检查类型:{what}").format(what=modality[:20])
    if wrong:
        raise Invalid(fields=wrong)
    return {"text": text, "modality": modality, "code": code}


def add(session: Session, actor: Actor, *, scope: Scope, **values: Any) -> Known:
    """Keep a phrase.

    Raises:
        Forbidden: The scope is not the actor's to keep.
        Invalid: With the fields that are wrong.
        Conflict: The abbreviation is taken.
    """
    scopes.demand(actor, scope)
    kept = checked(values)
    row = Phrase(id=new_id(), scope=key_of(actor, scope), **kept)
    _free(session, row)
    session.add(row)
    audit.record(session, actor, "phrase.add", "report_phrase", row.id, org_id=actor.org_id, scope=scope)
    return _known(row)


def change(session: Session, actor: Actor, phrase_id: str, **values: Any) -> Known:
    """Change a phrase.

    Raises:
        NotFound: There is none, or it is somebody else's.
        Forbidden: It is not the actor's to keep.
        Invalid: With the fields that are wrong.
        Conflict: The abbreviation is taken.
    """
    row = _kept(session, actor, phrase_id)
    with session.no_autoflush:
        for name, value in checked(values).items():
            setattr(row, name, value)
        _free(session, row)
    audit.record(session, actor, "phrase.change", "report_phrase", row.id, org_id=actor.org_id)
    return _known(row)


def remove(session: Session, actor: Actor, phrase_id: str) -> None:
    """Remove a phrase.

    Raises:
        NotFound: There is none, or it is somebody else's.
        Forbidden: It is not the actor's to keep.
    """
    row = _kept(session, actor, phrase_id)
    session.delete(row)
    audit.record(session, actor, "phrase.remove", "report_phrase", phrase_id, org_id=actor.org_id)


def _kept(session: Session, actor: Actor, phrase_id: str) -> Phrase:
    row = session.get(Phrase, phrase_id)
    if row is None or row.scope not in [key_of(actor, scope) for scope in scopes.SCOPES]:
        raise NotFound(_("没有找到这条短语"))
    scopes.demand(actor, _scope_of(row.scope))
    return row


def _free(session: Session, row: Phrase) -> None:
    taken = select(Phrase.id).where(
        Phrase.scope == row.scope, Phrase.code == row.code, Phrase.modality == row.modality, Phrase.id != row.id
    )
    if session.scalar(taken.limit(1)) is not None:
        raise Conflict(_("缩写“{code}”已有短语").format(code=row.code), code="code-taken")
