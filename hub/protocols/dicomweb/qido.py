"""QIDO-RS: Search (PS3.18 §10.6): parameters become a `Query` of hub.studies.search, its page an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl

from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.kit.i18n import _
from hub.studies import search
from hub.studies.search import BadQuery, Level, Page, Query, Row

Document = dict[str, Any]

_OPTIONS: Final = frozenset(
    {
        "limit",
        "offset",
        "includefield",
        "fuzzymatching",
        "emptyvaluematching",
        "multiplevaluematching",
        "accept",
        "charset",
    }
)
_DIGITS: Final = frozenset("0123456789")
TOTAL: Final = "X-Total-Count"
"""Header with how many match in all; `1000+` where it is more than are counted."""

_FUZZY_NAMES: Final = frozenset({"00100010"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A search as its address says it, and what of it is not honoured (texts of a Warning header, ASCII)."""

    query: Query
    warnings: tuple[str, ...] = field(default=())


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, "").strip()
    if not text:
        return default
    if not set(text) <= _DIGITS or len(text) > 12:
        raise BadQuery(_("limit 和 offset 必须是数字"))
    return int(text)


def _truth(options: dict[str, str], name: str) -> bool:
    value = options.get(name, "false").strip().lower()
    if value not in ("true", "false", ""):
        raise BadQuery(_("{name} 只能是 true 或 false").format(name=name))
    return value == "true"


def _path(name: str) -> str:
    found = search.path_of(name)
    if found is None:
        raise BadQuery(_("没有这个 DICOM 属性:{name}").format(name=name[:64]))
    return found


@lru_cache(maxsize=512)
def parse(text: str, level: Level, study_uid: str = "", series_uid: str = "", issuer: str | None = None) -> Asked:
    """Understand the query part of an address.

    Args:
        text: As it stands after the question mark.
        level: What is searched for.
        study_uid: Of the target resource, or "".
        series_uid: Of the target resource, or "".
        issuer: IssuerOfPatientID of the county, at the viewer's door; None at the standard's.

    Raises:
        BadQuery: A parameter, an attribute or the value of an option cannot be understood.
    """
    options: dict[str, str] = {}
    keys: dict[str, list[str]] = {}
    fields: list[str] = []
    warnings: list[str] = []
    ignored: list[str] = []
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name == "includefield":
            fields += [one.strip() for one in value.split(",") if one.strip()]
        elif name in _OPTIONS:
            options[name] = value
        else:
            path = _path(name)
            if path in search.BY_PATH:
                keys.setdefault(path, []).append(value)
            elif value.strip("* "):
                ignored.append(path)
            else:
                # Universal matching asks for the attribute, nothing else.
                fields.append(path.partition(".")[0])
    include: list[str] = []
    private: list[str] = []
    for one in fields:
        if one == "all":
            continue
        path = _path(one)
        if search.is_private(path):
            private.append(path)
        else:
            include.append(path.partition(".")[0])
    if private:
        warnings.append("Private attributes are not returned: " + ", ".join(dict.fromkeys(private[:20])))
    if ignored:
        # PS3.18 §8.3.4.1: what is not supported for matching is ignored, and said.
        warnings.append("These attributes are not matched: " + ", ".join(ignored[:20]))
    fuzzy = _truth(options, "fuzzymatching")
    if fuzzy and "00080090" in keys:
        warnings.append("The fuzzymatching parameter applies to PatientName only.")
    if _truth(options, "multiplevaluematching"):
        warnings.append("The multiplevaluematching parameter is honoured for UIDs and codes only.")
    limit = _number(options, "limit", search.MOST)
    if limit > search.MOST:
        warnings.append(f"The limit is {search.MOST}.")
    query = Query(
        level,
        tuple((path, tuple(values)) for path, values in keys.items()),
        study_uid=study_uid,
        series_uid=series_uid,
        fuzzy=fuzzy and not _FUZZY_NAMES.isdisjoint(keys),
        county=issuer is not None,
        issuer=issuer or "",
        include=tuple(dict.fromkeys(include)),
        include_all="all" in fields,
        empty_values=_truth(options, "emptyvaluematching"),
        limit=min(limit, search.MOST),
        offset=min(_number(options, "offset", 0), 1 << 40),
    )
    return Asked(query, tuple(warnings))


@dataclass(frozen=True, slots=True)
class Answer:
    """Body (a JSON array) and headers of a search's answer."""

    body: bytes
    headers: tuple[tuple[str, str], ...]
    count: int


def answer(session: Session, actor: Actor, asked: Asked, *, base: str, service: str) -> Answer:
    """Search, and write what is found.

    Args:
        session: Reads.
        actor: Whose visibility counts.
        asked: From `parse`.
        base: Address of the door.
        service: Host of this service, for Warning.

    Raises:
        BadQuery: The value of a key is none of its kind.
        NotFound: The study of the target resource is not the actor's to know.
    """
    query = asked.query
    if query.level is Level.STUDY and not query.include and not query.include_all:
        found, values = search.study_values(session, actor, query)
        texts = [_study_text(one, base, query.issuer if query.county else None) for one in values]
    else:
        found = search.search(session, actor, query)
        texts = [_dump(_addressed(row, base)) for row in found.rows]
    return Answer(b"[" + b",".join(texts) + b"]", _headers(asked, found, len(texts), service), len(texts))


def _headers(asked: Asked, found: Page, count: int, service: str) -> tuple[tuple[str, str], ...]:
    total = f"{found.total}+" if found.at_least else str(found.total)
    warnings = list(asked.warnings)
    if found.more:
        rest = f"more than {max(1, found.total - asked.query.offset - count)}" if found.at_least else None
        rest = rest or str(found.total - asked.query.offset - count)
        warnings.append(f"There are {rest} additional results that can be requested")
    return ((TOTAL, total), *(("Warning", f'299 {service} "{text}"') for text in warnings))


def _dump(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _addressed(row: Row, base: str) -> Document:
    address = f"{base}/studies/{row.study_uid}"
    if row.series_uid:
        address += f"/series/{row.series_uid}"
    if row.sop_uid:
        address += f"/instances/{row.sop_uid}"
    row.attributes["00081190"] = search.element("UR", address)
    return dict(sorted(row.attributes.items()))


@lru_cache(maxsize=16_384)
def _study_text(values: tuple[Any, ...], base: str, issuer: str | None) -> bytes:
    # Of the values alone: what is kept here cannot be older than the row that was just read.
    document = search.study_document(values, county=issuer is not None, issuer=issuer or "")
    return _dump(_addressed(Row(values[0], "", "", document), base))
