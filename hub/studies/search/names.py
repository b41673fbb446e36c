"""Names: the conditions on a patient's, as it was sent and as it is registered, by letters, ideographs and sound."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import BooleanClauseList, and_, func, or_, select, true, union_all
from sqlalchemy.orm import Session

from hub.dicom import pinyin
from hub.patients.models import Patient
from hub.studies import keys as columns
from hub.studies.models import Study
from hub.studies.search.matching import Condition, Matching
from hub.studies.search.query import Query
from hub.studies.search.values import WILD

RARE: Final = 10_000
"""Up to how many studies of a name are looked up and put in order, instead of walked in order and asked."""


class Names:
    """The condition on a name, and what it means for order and count."""

    def __init__(self, session: Session, query: Query, matching: Matching) -> None:
        self.session = session
        self.query = query
        self.matching = matching
        self.by_name: Any = None
        """The column of names by whose beginning is searched: then an index gives its order, too."""
        self.spread: Condition | None = None
        """The condition on a name that several indexes serve, each by one of `branches`."""
        self.branches: list[tuple[bool, Condition]] = []
        """Whether it is a condition on the patient, and the condition."""

    def sent(self, value: str) -> Condition:
        """The sender's view: the name as it was sent, each of its component groups by itself."""
        if self.matching.empty(value):
            return and_(Study.name_latin == "", Study.name_han == "")
        conditions = [self._group(group) for group in value.split("=") if group.strip(" ^*")]
        strict = and_(*conditions) if conditions else true()
        if not self.query.fuzzy or not conditions:
            return strict
        ordered, self.by_name = self.by_name, None
        branches = [strict, *self._sounds(value, Study.name_sound)]
        return or_(*branches) if self.query.county or ordered is None else self._any_of(branches)

    def _group(self, group: str) -> Condition:
        if pinyin.han_of(group):
            return self._named(Study.name_han, columns.together(columns.fold(group)))
        folded = columns.fold(group)
        if not folded.strip("*?"):
            return or_(self.matching.pattern(Study.name_latin, folded), self.matching.pattern(Study.name_han, folded))
        return self._named(Study.name_latin, folded)

    def _named(self, name: Any, value: str) -> Condition:
        if not value.startswith(("*", "?")):
            self.by_name = name
        return self.matching.pattern(name, value)

    def _sounds(self, value: str, sound: Any) -> list[Condition]:
        plain = WILD.sub("", value)
        spellings = set()
        for group in plain.split("="):
            spelled = pinyin.keys(group)
            words = spelled.spaced.split()
            spellings.add(spelled.full)
            if not pinyin.han_of(group) and len(words) > 1:
                # Given name first, or last.
                spellings.update(("".join([*words[1:], words[0]]), "".join([words[-1], *words[:-1]])))
        return [self.matching.pattern(sound, f"{spelling}*") for spelling in sorted(filter(None, spellings))]

    def registered(self, value: str) -> Condition:
        """The county's view: the name that was registered, in ideographs or by its pinyin."""
        if self.matching.empty(value):
            return Study.patient_id.in_(select(Patient.id).where(Patient.name == ""))
        typed = columns.fold(value)
        patterns = (
            [self.matching.pattern(Patient.name, columns.together(typed))]
            if pinyin.han_of(typed)
            # Names in Latin letters are their own pinyin: letters and digits, in lower case, with an index.
            else [self.matching.pattern(Patient.pinyin, re.sub(r"[^a-z0-9*?]", "", typed) or typed)]
        )
        if self.query.fuzzy:
            patterns += self._sounds(value, Patient.pinyin)
        header = self.sent(value)
        ordered, self.by_name = self.by_name, None
        if value.startswith(("*", "?")) or (ordered is None and not self.query.fuzzy):
            return or_(header, Study.patient_id.in_(select(Patient.id).where(or_(*patterns))))
        headers = list(header.clauses) if self.query.fuzzy and isinstance(header, BooleanClauseList) else [header]
        return self._any_of(headers, patterns)

    def _any_of(self, studies: list[Condition], patients: Sequence[Condition] = ()) -> Condition:
        """One of `studies` or of `patients` holds, each of which an index serves.

        Where few fit, they are looked up by those indexes; where many do, the walk in the answer's order asks each
        study that it passes, and soon has a page.
        """
        # Each reads its own studies: not those of the statement around it. The indexes are of what is not in the trash.
        live = select(Study.id).where(Study.trashed_at.is_(None)).correlate(None)
        found = union_all(
            *(live.where(one) for one in studies),
            *(live.join(Patient, Patient.id == Study.patient_id).where(one) for one in patients),
        )
        some = found.limit(RARE + 1).subquery()
        if (self.session.scalar(select(func.count()).select_from(some)) or 0) <= RARE:
            self.spread = Study.id.in_(found)
        else:
            walked = list(studies)
            if patients:
                # With OFFSET 0, PostgreSQL asks of each that it passes, as `visibility` does.
                people = select(Patient.id).where(Patient.id == Study.patient_id, or_(*patients)).correlate(Study)
                walked.append(people.offset(0).exists())
            self.spread = or_(*walked)
        self.branches = [(False, one) for one in studies] + [(True, one) for one in patients]
        return self.spread
