"""Statements: a query's conditions as the SQL of its page and of its count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select, union
from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.patients.models import Patient
from hub.sites.models import Organisation
from hub.studies import repository
from hub.studies.models import Instance, Series, Study
from hub.studies.search.conditions import StudyKeys, instance_conditions, series_conditions, with_lower
from hub.studies.search.documents import INSTANCE_COLUMNS, SERIES_COLUMNS, study_columns
from hub.studies.search.matching import Condition, Matching
from hub.studies.search.names import Names
from hub.studies.search.query import COUNTED, Level, Query, counted, window
from hub.studies.search.scope import Scope


class Asked:
    """One query on its way: conditions, order, page."""

    def __init__(self, session: Session, actor: Actor, query: Query, scope: Scope) -> None:
        self.session = session
        self.scope = scope
        self.actor = actor
        self.query = query
        self.selective = False
        """Few studies can match: what is searched by their own keys needs no index in the answer's order."""
        self.wanted: dict[str, tuple[str, ...]] = {}
        for path, values in query.keys:
            given = tuple(value for value in values if value and value != "*")
            if given:
                self.wanted[path] = given
        self.matching = Matching(sqlite=session.get_bind().dialect.name == "sqlite", empty_values=query.empty_values)
        self.names = Names(session, query, self.matching)
        self.study = repository.by_uid(session, actor, query.study_uid) if query.study_uid else None

    def conditions(self) -> list[Condition]:
        """Everything that a row must fulfil; scope first."""
        scope = self.scope
        studies = StudyKeys(self.session, self.query, self.matching, self.names, self.wanted)
        found: list[Condition] = [
            repository.visibility_knowing(self.actor, scope.priors, few=True)
            if scope.few
            else repository.indexed_visibility(self.actor, scope.priors),
            *studies.conditions(),
        ]
        self.selective = studies.selective
        if self.study is not None:
            found.append(Study.id == self.study.id)
            self.selective = True
        lent = repository.only_lent(self.session, self.actor) if self.query.level is not Level.STUDY else frozenset()
        if lent:
            found.append(repository.no_reports(lent))
        series = series_conditions(self.matching, self.query, self.wanted)
        instance = instance_conditions(self.matching, self.wanted)
        if self.query.series_uid:
            series.append(Series.uid == self.query.series_uid)
        level = self.query.level
        named = "0020000E" in self.wanted or "00080018" in self.wanted
        if named:
            self.selective = True
        if level is Level.STUDY and (series or instance):
            found.append(with_lower(Study.id, Series.study_id, series, instance, named=named))
        elif level is Level.SERIES:
            found += series
            if instance:
                lower = select(Instance.series_id).where(*instance)
                found.append(
                    Series.id.in_(lower)
                    if "00080018" in self.wanted
                    else lower.where(Instance.series_id == Series.id).correlate(Series).exists()
                )
        elif level is Level.INSTANCE:
            found += [*series, *instance]
        return found

    def columns(self) -> tuple[Any, ...]:
        """What is read for each row, by level; studies' columns come first."""
        level = self.query.level
        found: tuple[Any, ...] = study_columns(county=self.query.county)
        if level is not Level.STUDY:
            found += SERIES_COLUMNS
        if level is Level.INSTANCE:
            found += INSTANCE_COLUMNS
        return found

    def _from(self, statement: Select[Any]) -> Select[Any]:
        level = self.query.level
        if level is Level.STUDY:
            return statement.select_from(Study)
        statement = statement.select_from(Study).join(Series, Series.study_id == Study.id)
        return statement.join(Instance, Instance.series_id == Series.id) if level is Level.INSTANCE else statement

    def _order(self) -> list[Any]:
        level = self.query.level
        order: list[Any] = (
            [self.names.by_name, Study.id]
            if self.names.by_name is not None and not self.selective
            else [Study.study_date.desc(), Study.id.desc()]
        )
        if level is not Level.STUDY:
            order += [Series.number.is_(None), Series.number, Series.uid]
        if level is Level.INSTANCE:
            order += [Instance.number.is_(None), Instance.number, Instance.uid]
        return order

    def statements(self, wanted: Sequence[Any]) -> tuple[Select[Any], Select[Any]]:
        """What reads the page's rows and one more, and what counts up to `COUNTED` and one more."""
        conditions = self.conditions()
        limit, offset = window(self.query)
        ident = {Level.STUDY: Study.id, Level.SERIES: Series.id, Level.INSTANCE: Instance.id}[self.query.level]
        order = self._order()
        # Rows are found by their index alone, and only those of the page are then read.
        inner = (
            self._from(select(ident.label("id"))).where(*conditions).order_by(*order).limit(limit + 1).offset(offset)
        ).subquery("page")
        statement = self._from(select(*wanted)).join(inner, inner.c.id == ident).order_by(*order)
        statement = statement.join(Organisation, Organisation.id == Study.org_id)
        if not self.scope.plain:
            # What is shown is asked of the exams themselves.
            statement = statement.where(repository.visibility_knowing(self.actor, self.scope.priors))
        if self.query.county:
            statement = statement.join(Patient, Patient.id == Study.patient_id)
        return statement, select(func.count()).select_from(
            self._counting(ident, conditions).limit(COUNTED + 1).subquery()
        )

    def _counting(self, ident: Any, conditions: list[Condition]) -> Any:
        """Ids of what matches, of which no more than what is counted is read."""
        if self.names.spread is None:
            return self._from(select(ident)).where(*conditions)
        rest = [one for one in conditions if one is not self.names.spread]
        parts = []
        for of_patient, one in self.names.branches:
            part = self._from(select(ident.label("id")))
            if of_patient:
                part = part.join(Patient, Patient.id == Study.patient_id)
            parts.append(part.where(*rest, one).limit(COUNTED + 1).subquery())
        return union(*(select(part.c.id) for part in parts))

    def page(self, wanted: Sequence[Any]) -> tuple[list[Any], int, bool, bool]:
        """Rows of the page, the total, whether that is only a lower bound, and whether more rows follow."""
        statement, count = self.statements(wanted)
        rows: list[Any] = list(self.session.execute(statement))
        return counted(self.query, rows, lambda: self.session.scalar(count) or 0)
