"""Templates and phrases as files: JSON and CSV, out and in again; an import is done whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.kit.actor import Actor
from hub.kit.errors import Invalid, TooLarge
from hub.kit.i18n import Message, _
from hub.kit.ids import new_id
from hub.reports import templates
from hub.reports.models import Phrase, Template
from hub.reports.texts import phrases, scopes
from hub.reports.texts.scopes import Scope

Kind = Literal["templates", "phrases"]
COLUMNS: dict[Kind, tuple[str, ...]] = {
    "templates": (
        *("modality", "body_part", "sex", "age_from", "age_to", "name", "normal"),
        *("technique", "findings", "impression", "recommendation"),
    ),
    "phrases": ("code", "modality", "text"),
}
KEYS: dict[Kind, tuple[str, ...]] = {
    "templates": ("modality", "body_part", "sex", "age_from", "age_to", "name"),
    "phrases": ("code", "modality"),
}
"""What makes two rows the same one: an import changes it instead of adding another."""

MAX_BYTES = 4 * 1024 * 1024
MAX_ROWS = 3000
VERSION = 1
# A spreadsheet would run what begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass(slots=True)
class Done:
    """What an import did, or would do."""

    added: int = 0
    changed: int = 0
    same: int = 0


def _values(row: Any, kind: Kind) -> dict[str, Any]:
    return {name: getattr(row, name) for name in COLUMNS[kind]}


def export(
    session: Session, actor: Actor, *, kind: Kind, form: Literal["json", "csv"], scope: Scope | Literal[""]
) -> tuple[bytes, str]:
    """The templates or phrases that the actor may use, of one scope or of all, as bytes with their media type."""
    wanted = scope or None
    rows: list[tuple[Scope, dict[str, Any]]]
    if kind == "templates":
        found = templates.usable(session, actor, scope=wanted)
        rows = [(templates.scope_of(row), _values(row, kind)) for row in found]
    else:
        rows = [(row.scope, _values(row, kind)) for row in phrases.usable(session, actor, scope=wanted)]
    if form == "json":
        body = {"version": VERSION, kind: [{"scope": whose, **values} for whose, values in rows]}
        return json.dumps(body, ensure_ascii=False, indent=1).encode(), "application/json"
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("scope", *COLUMNS[kind]))
    for whose, values in rows:
        writer.writerow([whose, *(_cell(values[name]) for name in COLUMNS[kind])])
    # With a mark of byte order, by which spreadsheets know UTF-8.
    return out.getvalue().encode("utf-8-sig"), "text/csv; charset=utf-8"


def _cell(value: Any) -> str:
    text = "" if value is None else ("1" if value else "0") if isinstance(value, bool) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _uncell(text: str) -> str:
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def take(session: Session, actor: Actor, data: bytes, *, kind: Kind, scope: Scope, apply: bool) -> Done:
    """Bring a file's rows into a scope of the actor's. A row with the same key is changed, nothing is removed.

    Args:
        session: The transaction.
        actor: Who imports.
        data: JSON or CSV, as `export` writes it; CSV may be UTF-8 or GB 18030.
        kind: What is in it.
        scope: Whose the rows become, whatever the file says.
        apply: False only tells.

    Raises:
        Forbidden: The scope is not the actor's to keep.
        TooLarge: The file is.
        Invalid: It cannot be read, or `import-rows`, with every row that is wrong; then nothing is written.
    """
    scopes.demand(actor, scope)
    if len(data) > MAX_BYTES:
        raise TooLarge(_("文件不能超过 {n} MB").format(n=MAX_BYTES // 1024 // 1024))
    known = _known(session, actor, kind, scope)
    wrong: dict[str, Message | str] = {}
    fresh: dict[tuple[Any, ...], dict[str, Any]] = {}
    where: dict[tuple[Any, ...], int] = {}
    for number, row in _rows(data, kind):
        if len(fresh) + len(wrong) > MAX_ROWS:
            raise Invalid(_("一次最多导入 {n} 行").format(n=MAX_ROWS))
        try:
            values = templates.checked(row) if kind == "templates" else phrases.checked(row)
        except Invalid as refused:
            for name, message in refused.fields.items():
                wrong[f"{number}.{name}"] = _("第 {row} 行 {column}:{what}").format(
                    row=number, column=name, what=message
                )
            continue
        key = tuple(values[name] for name in KEYS[kind])
        if key in where:
            wrong[f"{number}"] = _("第 {row} 行与第 {other} 行重复").format(row=number, other=where[key])
        where[key] = number
        fresh[key] = values
    if wrong:
        raise Invalid(_("文件中有 {n} 处错误,没有导入任何内容").format(n=len(wrong)), fields=wrong, code="import-rows")
    if not fresh:
        raise Invalid(_("文件里没有可以导入的内容"))
    done = Done()
    for key, values in fresh.items():
        old = known.get(key)
        if old is None:
            done.added += 1
            if apply:
                session.add(_new(actor, kind, scope, values))
        elif _values(old, kind) == values:
            done.same += 1
        else:
            done.changed += 1
            if apply:
                for name, value in values.items():
                    setattr(old, name, value)
    if apply:
        action = "template.import" if kind == "templates" else "phrase.import"
        what = f"report_{kind[:-1]}"
        counts = f"+{done.added} ~{done.changed}"
        audit.record(session, actor, action, what, "", org_id=actor.org_id, scope=scope, rows=counts)
    return done


def _new(actor: Actor, kind: Kind, scope: Scope, values: Mapping[str, Any]) -> Template | Phrase:
    if kind == "templates":
        return Template(id=new_id(), **templates.owner(actor, scope), **values)
    return Phrase(id=new_id(), scope=phrases.key_of(actor, scope), **values)


def _known(session: Session, actor: Actor, kind: Kind, scope: Scope) -> dict[tuple[Any, ...], Any]:
    rows: list[Any]
    if kind == "templates":
        rows = list(templates.usable(session, actor, scope=scope))
    else:
        rows = list(session.scalars(select(Phrase).where(Phrase.scope == phrases.key_of(actor, scope))))
    return {tuple(getattr(row, name) for name in KEYS[kind]): row for row in rows}


def _rows(data: bytes, kind: Kind) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers: lines of the table for CSV, counted from 1 for JSON."""
    text = _decoded(data)
    if text.lstrip().startswith(("{", "[")):
        yield from _json_rows(text, kind)
        return
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        missing = [name for name in KEYS[kind] if name not in (reader.fieldnames or ())]
        if missing:
            raise Invalid(_("表头缺少这些列:{columns}").format(columns=", ".join(missing)), code="import-header")
        for number, row in enumerate(reader, start=2):
            if None in row:
                raise Invalid(_("第 {row} 行的列数比表头多").format(row=number), code="import-rows")
            values: dict[str, Any] = {name: _uncell(row[name] or "") for name in COLUMNS[kind] if name in row}
            if any(values.values()):
                yield number, _typed(values)
    except csv.Error as problem:
        raise Invalid(_("不是有效的 CSV 文件:第 {line} 行").format(line=reader.line_num)) from problem


def _decoded(data: bytes) -> str:
    for charset in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    raise Invalid(_("文件的文字编码无法识别,请另存为 UTF-8"))


def _json_rows(text: str, kind: Kind) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise Invalid(_("不是有效的 JSON 文件")) from problem
    rows = body.get(kind) if isinstance(body, dict) else body
    if not isinstance(rows, list):
        raise Invalid(_("文件里没有“{kind}”").format(kind=kind))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise Invalid(_("第 {row} 行不是一个条目").format(row=number), code="import-rows")
        yield number, {name: row[name] for name in COLUMNS[kind] if name in row}


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    """A table's cells as values: numbers, yes and no; what is neither stays text, for the check to name."""
    for name in ("age_from", "age_to"):
        if name in values:
            text = values[name].strip()
            values[name] = None if not text else int(text) if re.fullmatch(r"[0-9]{1,4}", text) else text
    if "normal" in values:
        values["normal"] = values["normal"].strip().lower() in ("1", "true", "yes", "是", "y")
    return values
