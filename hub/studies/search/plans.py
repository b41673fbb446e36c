"""Plans: the same question of the same scope is put into SQL once."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.studies.search.query import Query, counted
from hub.studies.search.scope import Scope
from hub.studies.search.statements import Asked

_MOST_PLANS: Final = 1_000
_PLAIN: Final = frozenset(
    {
        "00080020",
        "00080030",
        "00080050",
        "00081030",
        "00100010",
        "00100020",
        "00100021",
        "0020000D",
        "00200010",
    }
)
"""Keys whose values go to the database as they are."""

_UNSEEN: Final = object()
kept: dict[tuple[Any, ...], Plan | None] = {}
"""Plans by database, scope and query; None where it was asked once."""


class Plan:
    """SQL and its values. Only how to ask is kept, never an answer."""

    def __init__(self, asked: Asked, session: Session) -> None:
        self.query = asked.query
        dialect = session.get_bind().dialect
        made = []
        for statement in asked.statements(asked.columns()):
            compiled = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
            values: Any = compiled.params
            if compiled.positiontup is not None:
                values = tuple(compiled.params[name] for name in compiled.positiontup)
            made.append((str(compiled), values))
        self.rows, self.count = made

    def run(self, session: Session) -> tuple[list[tuple[Any, ...]], int, bool, bool]:
        """As `Asked.page`."""
        connection = session.connection()
        rows = [tuple(row) for row in connection.exec_driver_sql(*self.rows)]
        return counted(self.query, rows, lambda: connection.exec_driver_sql(*self.count).scalar() or 0)


def plan_of(session: Session, actor: Actor, query: Query, scope: Scope) -> Plan | None:
    """The plan of a query for studies, made when it is asked for the second time; None where there is none."""
    if query.study_uid or not _PLAIN.issuperset(path for path, _values in query.keys):
        return None
    key = (session.get_bind().dialect.name, scope, query)
    plan = kept.get(key, _UNSEEN)
    if plan is None:
        plan = kept[key] = Plan(Asked(session, actor, query, scope), session)
    if isinstance(plan, Plan):
        return plan
    # Putting it into SQL for good costs more than asking once: it is worth it for who asks again.
    if len(kept) >= _MOST_PLANS:
        kept.clear()
    kept[key] = None
    return None
