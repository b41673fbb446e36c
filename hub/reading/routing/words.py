"""Reasons of a decision: kept as JSON, said to people in their language with the names of organisations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.kit.i18n import Message, translate
from hub.sites.models import Organisation

_CODES = frozenset({"hospital", "hospitals", "clinics"})


def to_json(reasons: Iterable[Message]) -> list[dict[str, Any]]:
    """Reasons as the database keeps them."""
    return [_dump(reason) for reason in reasons]


def _dump(value: Message) -> dict[str, Any]:
    params = {name: _dump(one) if isinstance(one, Message) else one for name, one in value.params.items()}
    return {"text": value.msgid, "params": params}


def from_json(kept: Iterable[Mapping[str, Any]]) -> list[Message]:
    """The reasons again."""
    return [_read(one) for one in kept]


def _read(kept: Mapping[str, Any]) -> Message:
    params = kept.get("params") or {}
    return Message(
        str(kept.get("text", "")),
        {name: _read(one) if isinstance(one, dict) else one for name, one in params.items()},
    )


def names(session: Session, locale: str) -> dict[str, str]:
    """Every organisation's name by its code."""
    rows = session.execute(select(Organisation.code, Organisation.name, Organisation.name_en))
    return {code: (name_en if locale == "en" and name_en else name) for code, name, name_en in rows}


def say(reason: Message, locale: str, named: Mapping[str, str]) -> str:
    """One reason in words."""
    text = translate(_named(reason, named), locale)
    return text.replace("、", ", ") if locale == "en" else text


def _named(reason: Message, named: Mapping[str, str]) -> Message:
    params: dict[str, object] = {}
    for name, value in reason.params.items():
        if isinstance(value, Message):
            params[name] = _named(value, named)
        elif name in _CODES and isinstance(value, str):
            params[name] = "、".join(named.get(code, code) for code in value.split("、"))
        else:
            params[name] = value
    return Message(reason.msgid, params)
