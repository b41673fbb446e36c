"""Conditions: what the keys of a study, a series and an instance ask of their rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import JSON, column, exists, false, func, select, true
from sqlalchemy.orm import Session

from hub.patients.models import CountyPatient, Patient
from hub.sites.models import Organisation
from hub.studies import repository
from hub.studies.models import Instance, Series, Study
from hub.studies.search.matching import Condition, Matching, nothing
from hub.studies.search.names import Names
from hub.studies.search.query import BY_PATH, Key, Level, Query
from hub.studies.search.scope import FEW
from hub.studies.search.values import EMPTY, WILD, one

Wanted = Mapping[str, tuple[str, ...]]
"""Tag paths and the values that are to be matched, without what matches everything."""


def lenient(matching: Matching, query: Query, column: Any, value: str) -> Condition:
    """A text, without case in the county's view."""
    if query.county and value != EMPTY:
        return matching.pattern(func.lower(column), value.lower())
    return matching.text(column, value)


class StudyKeys:
    """What is asked of studies and of their patients."""

    def __init__(self, session: Session, query: Query, matching: Matching, names: Names, wanted: Wanted) -> None:
        self.session = session
        self.query = query
        self.matching = matching
        self.names = names
        self.wanted = wanted
        self.selective = False
        """Few studies can match: a key of their own names them."""

    def conditions(self) -> list[Condition]:
        """What the keys of a study ask for."""
        found: list[Condition] = []
        patient = Study.header_patient
        wanted = self.wanted
        day, hour = wanted.get("00080020", ()), wanted.get("00080030", ())
        moment = (
            self.matching.moment(day[0], hour[0], Study.study_date, Study.study_time)
            if len(day) == len(hour) == 1 and EMPTY not in (day[0], hour[0])
            else None
        )
        if moment is not None:
            found.append(moment)
        makers: dict[str, Callable[[Key, tuple[str, ...]], Condition]] = {
            "00080020": lambda key, v: self.matching.days(key, Study.study_date, v),
            "00080030": lambda key, v: self.matching.times(key, Study.study_time, v),
            "00080050": lambda key, v: self._accession(one(key, v)),
            "00080061": self._of_modality,
            "00080090": lambda key, v: self._folded(Study.referring, one(key, v)),
            "00081030": lambda key, v: lenient(self.matching, self.query, Study.description, one(key, v)),
            "00100010": lambda key, v: (
                self.names.registered(one(key, v)) if self.query.county else self.names.sent(one(key, v))
            ),
            "00100020": lambda key, v: self._patient_id(one(key, v)),
            "00100021": lambda key, v: self._issuer(one(key, v)),
            "00100030": lambda key, v: self.matching.days(key, patient["birth_date"].as_string(), v, iso=True),
            "00100040": lambda key, v: self.matching.codes(patient["sex"].as_string(), v),
            "0020000D": lambda key, v: self.matching.uids(key, Study.uid, v),
            "00200010": lambda key, v: self.matching.text(Study.study_id, one(key, v)),
        }
        for path, values in wanted.items():
            if moment is not None and path in ("00080020", "00080030"):
                continue
            if path in makers:
                found.append(makers[path](BY_PATH[path], values))
                if path in ("0020000D", "00080050", "00100020") and not WILD.search("".join(values)):
                    self.selective = True
        return found

    def _accession(self, value: str) -> Condition:
        if self.query.county and value != EMPTY and not WILD.search(value):
            # People type it in either case; three values are still looked up.
            return Study.accession.in_(sorted({value, value.upper(), value.lower()}))
        return self.matching.text(Study.accession, value)

    def _folded(self, column: Any, value: str) -> Condition:
        if self.matching.empty(value):
            return nothing(column)
        return self.matching.pattern(func.lower(func.rtrim(column, "^ ")), value.lower().rstrip("^ "))

    def _patient_id(self, value: str) -> Condition:
        if not self.query.county:
            return self.matching.text(Study.patient_number, value)
        people = (
            select(Patient.id)
            .join(CountyPatient, CountyPatient.id == Patient.county_patient_id)
            .where(self.matching.text(CountyPatient.number, value))
        )
        return repository.of_people(people)

    def _issuer(self, value: str) -> Condition:
        if self.query.county:
            pattern = re.escape(value).replace(r"\*", ".*").replace(r"\?", ".")
            return true() if re.fullmatch(pattern, self.query.issuer) else false()
        return Study.org_id.in_(select(Organisation.id).where(self.matching.text(Organisation.issuer, value)))

    def _of_modality(self, _key: Key, values: tuple[str, ...]) -> Condition:
        fits = self.matching.codes(Series.modality, values)
        some = select(Series.id).where(fits).limit(FEW).subquery()
        if (self.session.scalar(select(func.count()).select_from(some)) or 0) < FEW:
            # A rare one is looked up; asked of every study, the whole archive would be walked for it.
            return Study.id.in_(select(Series.study_id).where(fits))
        return exists().where(Series.study_id == Study.id, fits).correlate(Study)


def series_conditions(matching: Matching, query: Query, wanted: Wanted) -> list[Condition]:
    """What the keys of a series ask for."""
    found: list[Condition] = []
    makers: dict[str, Callable[[Key, tuple[str, ...]], Condition]] = {
        "00080021": lambda key, v: matching.days(key, Series.series_date, v),
        "00080031": lambda key, v: matching.times(key, Series.series_time, v),
        "00080060": lambda key, v: matching.codes(Series.modality, v),
        "0008103E": lambda key, v: lenient(matching, query, Series.description, one(key, v)),
        "00180015": lambda key, v: matching.codes(Series.body_part, v),
        "0020000E": lambda key, v: matching.uids(key, Series.uid, v),
        "00200011": lambda key, v: matching.number(key, Series.number, v),
        "00400244": lambda key, v: matching.days(key, Series.performed_date, v),
        "00400245": lambda key, v: matching.times(key, Series.performed_time, v),
    }
    for path, values in wanted.items():
        if path in makers:
            found.append(makers[path](BY_PATH[path], values))
    asked = [path for path in wanted if path.startswith("00400275.")]
    if asked:
        found.append(_requested(matching, asked, wanted))
    return found


def _requested(matching: Matching, paths: list[str], wanted: Wanted) -> Condition:
    """Sequence matching (PS3.4 §C.2.2.2.6): one item must fit all keys."""
    each = func.json_each if matching.sqlite else func.json_array_elements
    item = each(Series.requests).table_valued(column("value", JSON), name="request")
    names = {"00400275.00400009": "step", "00400275.00401001": "procedure"}
    conditions = [
        matching.text(item.c.value[names[path]].as_string(), one(BY_PATH[path], wanted[path])) for path in paths
    ]
    return select(item.c.value).where(*conditions).correlate(Series).exists()


def instance_conditions(matching: Matching, wanted: Wanted) -> list[Condition]:
    """What the keys of an instance ask for."""
    found: list[Condition] = []
    for path, values in wanted.items():
        key = BY_PATH.get(path)
        if key is None or key.level is not Level.INSTANCE:
            continue
        if path == "00200013":
            found.append(matching.number(key, Instance.number, values))
        else:
            found.append(matching.uids(key, Instance.uid if path == "00080018" else Instance.sop_class, values))
    return found


def with_lower(ident: Any, owner: Any, series: list[Condition], instance: list[Condition], *, named: bool) -> Condition:
    """Studies that have a series, or an instance of a series, that fits."""
    statement = select(owner)
    if instance:
        statement = statement.join(Instance, Instance.series_id == Series.id)
    statement = statement.where(*series, *instance)
    if named:
        # A UID names one: it is looked up, instead of asking every study.
        return ident.in_(statement)  # type: ignore[no-any-return]
    return statement.where(owner == ident).correlate(Study).exists()
