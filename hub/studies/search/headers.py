"""Headers: attributes that are asked for beyond the index's columns, from those of the instances."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from hub.studies import repository
from hub.studies.models import Instance, InstanceHeader, Series, Study
from hub.studies.search.documents import study_columns, study_document
from hub.studies.search.query import Level, Query, Row, is_private, level_of

_IDENTITY: Final = frozenset({"00100010", "00100020", "00100021", "00100030", "00100040"})
"""Who the patient is: the index says it, in the view that is asked for; a header never does."""


def complete(session: Session, query: Query, found: Sequence[Any], rows: list[Row]) -> None:
    """Add what was asked for beyond the index's columns, from the header of (the first of) the instances."""
    level = query.level
    uids = {Level.STUDY: "study_uid", Level.SERIES: "series_uid", Level.INSTANCE: "sop_uid"}[level]
    owner = {Level.STUDY: Study.uid, Level.SERIES: Series.uid, Level.INSTANCE: Instance.uid}[level]
    grouped = {Level.STUDY: Instance.study_id, Level.SERIES: Instance.series_id, Level.INSTANCE: Instance.id}[level]
    ranks = {Level.STUDY: 0, Level.SERIES: 1, Level.INSTANCE: 2}
    by_uid = {getattr(row, uids): row for row in rows}
    names = list(by_uid)
    _identify(query, found, rows)
    for start in range(0, len(names), 200):
        first = (
            _all_levels(select(func.min(Instance.id))).where(owner.in_(names[start : start + 200])).group_by(grouped)
        )
        statement = (
            select(owner, InstanceHeader.body)
            .select_from(InstanceHeader)
            .join(Instance, Instance.id == InstanceHeader.instance_id)
            .join(Series, Series.id == Instance.series_id)
            .join(Study, Study.id == Instance.study_id)
            .where(Instance.id.in_(first))
        )
        for uid, body in session.execute(statement):
            header = json.loads(zlib.decompress(body))
            document = by_uid[uid].attributes
            for tag in header if query.include_all else query.include:
                element = header.get(tag)
                if (
                    element is None
                    or tag in document
                    or ranks[level_of(tag)] > ranks[level]
                    or "BulkDataURI" in element
                    or is_private(tag)
                    or tag in _IDENTITY
                    or (query.county and tag in repository.OTHER_IDENTITIES)
                ):
                    continue
                document[tag] = element
            ordered = dict(sorted(document.items()))
            document.clear()
            document.update(ordered)


def _identify(query: Query, found: Sequence[Any], rows: list[Row]) -> None:
    """Add who the patient is, where that is asked for below a study: as a search for the study says it.

    A header says it as the sender does, which is not the county's view, and leaves its PatientID unqualified.
    """
    wanted = _IDENTITY if query.include_all else _IDENTITY.intersection(query.include)
    if "00100020" in wanted:
        wanted |= {"00100021"}
    width = len(study_columns(county=query.county))
    for values, row in zip(found, rows, strict=True):
        if wanted:
            study = study_document(tuple(values)[:width], county=query.county, issuer=query.issuer)
            row.attributes.update((tag, study[tag]) for tag in sorted(wanted) if tag in study)


def _all_levels(statement: Select[Any]) -> Select[Any]:
    return (
        statement.select_from(Instance)
        .join(Series, Series.id == Instance.series_id)
        .join(Study, Study.id == Instance.study_id)
    )
