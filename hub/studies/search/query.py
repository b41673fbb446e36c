"""What is asked and what comes back, in plain values; `KEYS` is the whole list of what can be matched."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from pydicom import datadict

from hub.kit.errors import HubError

Document = dict[str, Any]
"""A data set in the DICOM JSON model (PS3.18 Annex F)."""

MOST: Final = 1000
"""Rows that one answer holds at most."""

COUNTED: Final = 1000
"""Up to how many a total is exact: counting a million rows for one page is not free."""


class BadQuery(HubError):
    """A key or an option cannot be understood."""

    status = 400
    code = "bad-query"


class TooBroad(HubError):
    """It takes too long to look through all that could match (PS3.18 Table 10.6.3-1)."""

    status = 413
    code = "too-broad"


class Level(StrEnum):
    """What is searched for."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


class Match(StrEnum):
    """How a key is compared."""

    UID = "UID, list of UIDs"
    TEXT = "single value, wildcard"
    NAME = "single value, wildcard; without case and accents"
    CODE = "single value, list, wildcard"
    DATE = "date, range"
    TIME = "time, range"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Key:
    """One attribute that can be matched; `path` is its tag, or tags joined by dots within a sequence."""

    path: str
    keyword: str
    vr: str
    level: Level
    match: Match


def _keys(level: Level, *rows: tuple[str, str, str, Match]) -> tuple[Key, ...]:
    return tuple(Key(path, keyword, vr, level, match) for path, keyword, vr, match in rows)


KEYS: Final[tuple[Key, ...]] = (
    *_keys(
        Level.STUDY,
        ("00080020", "StudyDate", "DA", Match.DATE),
        ("00080030", "StudyTime", "TM", Match.TIME),
        ("00080050", "AccessionNumber", "SH", Match.TEXT),
        ("00080061", "ModalitiesInStudy", "CS", Match.CODE),
        ("00080090", "ReferringPhysicianName", "PN", Match.NAME),
        ("00081030", "StudyDescription", "LO", Match.TEXT),
        ("00100010", "PatientName", "PN", Match.NAME),
        ("00100020", "PatientID", "LO", Match.TEXT),
        ("00100021", "IssuerOfPatientID", "LO", Match.TEXT),
        ("00100030", "PatientBirthDate", "DA", Match.DATE),
        ("00100040", "PatientSex", "CS", Match.CODE),
        ("0020000D", "StudyInstanceUID", "UI", Match.UID),
        ("00200010", "StudyID", "SH", Match.TEXT),
    ),
    *_keys(
        Level.SERIES,
        ("00080021", "SeriesDate", "DA", Match.DATE),
        ("00080031", "SeriesTime", "TM", Match.TIME),
        ("00080060", "Modality", "CS", Match.CODE),
        ("0008103E", "SeriesDescription", "LO", Match.TEXT),
        ("00180015", "BodyPartExamined", "CS", Match.CODE),
        ("0020000E", "SeriesInstanceUID", "UI", Match.UID),
        ("00200011", "SeriesNumber", "IS", Match.NUMBER),
        ("00400244", "PerformedProcedureStepStartDate", "DA", Match.DATE),
        ("00400245", "PerformedProcedureStepStartTime", "TM", Match.TIME),
        ("00400275.00400009", "RequestAttributesSequence.ScheduledProcedureStepID", "SH", Match.TEXT),
        ("00400275.00401001", "RequestAttributesSequence.RequestedProcedureID", "SH", Match.TEXT),
    ),
    *_keys(
        Level.INSTANCE,
        ("00080016", "SOPClassUID", "UI", Match.UID),
        ("00080018", "SOPInstanceUID", "UI", Match.UID),
        ("00200013", "InstanceNumber", "IS", Match.NUMBER),
    ),
)
"""Everything that can be matched (PS3.18 Tables 10.6.1-5, PS3.4 Tables C.6-1 to C.6-4, and what costs nothing more)."""

BY_PATH: Final[Mapping[str, Key]] = {key.path: key for key in KEYS}


def _tags(text: str) -> list[str]:
    return text.split()


_STUDY_TAGS: Final = frozenset(
    _tags(
        "00080020 00080030 00080050 00080051 00080056 00080061 00080062 00080080 00080090 00080096 00080201 00081030 "
        "00081032 00081040 00081048 00081049 00081060 00081062 00081080 00081084 00081110 0020000D 00200010 00201206 "
        "00201208 00321032 00321033 00321060 00380010 00380014 00380060 00380062 00380064 00380500 00401012 00102180 "
        "00080005"
    )
)
_SERIES_TAGS: Final = frozenset(
    _tags(
        "00080021 00080031 00080060 00080064 00080068 00080070 0008103E 0008103F 00081010 00081050 00081052 00081070 "
        "00081072 00081090 00081111 00081250 00180015 00181000 00181020 00181030 00181050 00181200 00181201 00181800 "
        "00185100 0020000E 00200011 00200052 00200060 00201040 00201209 00280108 00280109 00400244 00400245 00400250 "
        "00400251 00400253 00400254 00400260 00400275 00400280 00400555 00400248 00540400"
    )
)


def level_of(tag: str) -> Level:
    """The entity that an attribute belongs to, as far as an answer's rows are concerned."""
    if tag.startswith("0010") or tag in _STUDY_TAGS:
        return Level.STUDY
    return Level.SERIES if tag in _SERIES_TAGS else Level.INSTANCE


def path_of(name: str) -> str | None:
    """The tag path of a keyword or of hexadecimal digits, dotted within sequences; None where it names no attribute.

    A private tag (odd group) is a path as well: it names something, though nobody else knows what.
    """
    found = []
    for part in name.strip().split("."):
        if re.fullmatch(r"[0-9A-Fa-f]{8}", part):
            tag = int(part, 16)
            if not tag >> 16 & 1 and not datadict.dictionary_has_tag(tag):
                return None
        else:
            named = datadict.tag_for_keyword(part)
            if named is None:
                return None
            tag = int(named)
        found.append(f"{tag:08X}")
    return ".".join(found)


def is_private(path: str) -> bool:
    """Whether a tag path names a private attribute."""
    return any(int(tag[:4], 16) & 1 for tag in path.split("."))


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, in plain values.

    Attributes:
        level: What is searched for.
        keys: (tag path of `KEYS`, values as written). An empty value matches everything. Keys of any level may stand
            in a query of any other. Several values of a UID or code are a list; so is one with `\\` or `,`.
        study_uid: Only of this study, which must exist and be the actor's to know.
        series_uid: Only of this series of it.
        fuzzy: PatientName by sound too: pinyin, any order of its parts, the beginning is enough.
        county: PatientID is the county's number and the patient is the one registered.
        issuer: IssuerOfPatientID of the county; with `county`.
        include: More tags to answer, top level.
        include_all: Every attribute of the level that is known.
        empty_values: `""` matches what has no value (PS3.4 §C.2.2.2.7).
        limit: Rows at most; `MOST` is the roof.
        offset: Rows to pass over.
    """

    level: Level
    keys: tuple[tuple[str, tuple[str, ...]], ...] = ()
    study_uid: str = ""
    series_uid: str = ""
    fuzzy: bool = False
    county: bool = False
    issuer: str = ""
    include: tuple[str, ...] = ()
    include_all: bool = False
    empty_values: bool = False
    limit: int = MOST
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One match; `attributes` in ascending order of tags, without Retrieve URL."""

    study_uid: str
    series_uid: str
    sop_uid: str
    attributes: Document


@dataclass(frozen=True, slots=True)
class Page:
    """Matches of one page.

    Attributes:
        rows: In a stable order: by the name where its beginning is asked for, else the newest study first.
        total: How many match in all; with `at_least`, that there are more than so many.
        at_least: The total is not exact.
        more: There are rows after this page.
    """

    rows: list[Row] = field(default_factory=list)
    total: int = 0
    at_least: bool = False
    more: bool = False


def window(query: Query) -> tuple[int, int]:
    """Rows of the page at most, and rows to pass over."""
    return min(MOST, max(0, query.limit)), max(0, query.offset)


def counted(query: Query, rows: list[Any], count: Callable[[], int]) -> tuple[list[Any], int, bool, bool]:
    """Rows of the page, the total, whether that is only a lower bound, and whether more rows follow.

    Args:
        query: What is asked.
        rows: Those of the page and one more, if there is one.
        count: Counts all that match, up to `COUNTED` and one more; called only where `rows` do not tell.
    """
    limit, offset = window(query)
    more = len(rows) > limit
    rows = rows[:limit]
    if not more and (rows or not offset):
        return rows, offset + len(rows), False, False
    if offset + len(rows) + more > COUNTED:
        return rows, COUNTED, True, more
    total = count()
    return rows, min(total, COUNTED), total > COUNTED, more
