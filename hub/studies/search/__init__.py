"""Searching for studies, series and instances: the keys of QIDO-RS and C-FIND on the index's own columns.

A door translates what it was asked into a `Query` of plain values and gives `search` the session and the actor; what
comes back are rows of attributes in the DICOM JSON model, without addresses. `KEYS` is the whole list of what can be
matched. Matching is that of PS3.4 §C.2.2.2: universal, single value, list of UIDs, wildcard, range, combined date and
time, sequence.

Two views of one archive: a machine's is the sender's (PatientID as sent, qualified by the clinic's issuer), the
viewer's (`Query.county`) is the county's.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.studies.search.documents import element, name_element, row_of, study_columns, study_document
from hub.studies.search.headers import complete
from hub.studies.search.patience import bounded
from hub.studies.search.plans import plan_of
from hub.studies.search.query import (
    BY_PATH,
    COUNTED,
    KEYS,
    MOST,
    BadQuery,
    Document,
    Key,
    Level,
    Match,
    Page,
    Query,
    Row,
    TooBroad,
    is_private,
    level_of,
    path_of,
)
from hub.studies.search.scope import scope_of
from hub.studies.search.statements import Asked
from hub.studies.search.values import day_range, time_range

__all__ = [
    "BY_PATH",
    "COUNTED",
    "KEYS",
    "MOST",
    "BadQuery",
    "Document",
    "Key",
    "Level",
    "Match",
    "Page",
    "Query",
    "Row",
    "TooBroad",
    "day_range",
    "element",
    "is_private",
    "level_of",
    "name_element",
    "path_of",
    "search",
    "study_columns",
    "study_document",
    "study_values",
    "time_range",
]


def search(session: Session, actor: Actor, query: Query) -> Page:
    """The page of matches that `actor` may know.

    Raises:
        BadQuery: A key's value is none of its kind.
        NotFound: `study_uid` names nothing that the actor may know.
        TooBroad: No index serves it, and the archive is too large to look at every study.
    """
    scope = scope_of(session, actor)
    asked = Asked(session, actor, query, scope)
    with bounded(session, scope, query):
        found, total, at_least, more = asked.page(asked.columns())
    rows = [row_of(query, one) for one in found]
    if query.include_all or query.include:
        complete(session, query, found, rows)
    return Page(rows, total, at_least, more)


def study_values(session: Session, actor: Actor, query: Query) -> tuple[Page, list[tuple[Any, ...]]]:
    """The page of a query for studies (`Level.STUDY`, nothing included) as the values of `study_columns`.

    They are plain and hashable: what is made of them may be remembered by them, and is never older than they are.

    Raises:
        BadQuery, NotFound, TooBroad: As `search`.
    """
    scope = scope_of(session, actor)
    plan = plan_of(session, actor, query, scope)
    if plan is not None:
        with bounded(session, scope, query):
            read, total, at_least, more = plan.run(session)
        return Page([], total, at_least, more), read
    asked = Asked(session, actor, query, scope)
    with bounded(session, scope, query):
        found, total, at_least, more = asked.page(asked.columns())
    return Page([], total, at_least, more), [tuple(one) for one in found]
