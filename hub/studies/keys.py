"""What a study's and a series' columns for searching hold: functions of what the header said, worked out once.

They depend on nothing that changes later, so that no correction of a patient and no new link can make them stale.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from pydicom.dataset import Dataset

from hub.dicom import pinyin

NAME_MOST: Final = 200
PINYIN_MOST: Final = 200
ID_MOST: Final = 64
_STEPS: Final = 16
"""Requests of one series that are indexed; more would be no series."""


def fold(text: str) -> str:
    """A name without case and accents (PS3.4 §C.2.2.2.1 leaves both open): ``MÜLLER^Jörg `` → ``muller^jorg``."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", plain).casefold()).strip().rstrip("^ ")


def together(text: str) -> str:
    """Ideographs without what stands between them: ``王^伟`` and ``王 伟`` → ``王伟``."""
    return re.sub(r"[\s^]", "", text)


def latin(name: str) -> str:
    """The folded first component group of a PN that is not written in ideographs, or ""."""
    for group in name.split("="):
        if group.strip(" ^") and not pinyin.han_of(group):
            return fold(group)[:NAME_MOST]
    return ""


def han(name: str) -> str:
    """The folded component group of a PN that is written in ideographs, run together, or ""."""
    for group in name.split("="):
        if pinyin.han_of(group):
            return together(fold(group))[:NAME_MOST]
    return ""


def sound(name: str) -> str:
    """How a name sounds: pinyin of ideographs, else the letters alone."""
    return pinyin.keys(name).full[:PINYIN_MOST]


def _header(context: Any) -> Mapping[str, Any]:
    found = context.get_current_parameters().get("header_patient")
    return found if isinstance(found, Mapping) else {}


def name_of(context: Any) -> str:
    """PatientName among the values that are being inserted."""
    return str(_header(context).get("name") or "")


def latin_default(context: Any) -> str:
    """Default of `Study.name_latin`."""
    return latin(name_of(context))


def han_default(context: Any) -> str:
    """Default of `Study.name_han`."""
    return han(name_of(context))


def sound_default(context: Any) -> str:
    """Default of `Study.name_sound`."""
    return sound(name_of(context))


def number_default(context: Any) -> str:
    """Default of `Study.patient_number`."""
    return str(_header(context).get("patient_id") or "")[:ID_MOST]


def of_series(header: Dataset) -> dict[str, Any]:
    """Columns of a series that only its header knows, for `Series(**of_series(parsed.header), …)`.

    Returns:
        `performed_date` and `performed_time` (0040,0244/0245) and `requests`: for each item of Request Attributes
        Sequence (0040,0275) its Scheduled Procedure Step ID and Requested Procedure ID. Never raises.
    """

    def text(dataset: Any, keyword: str, most: int) -> str:
        try:
            value = dataset.get(keyword)
            return "" if value is None else str(value).strip()[:most]
        except Exception:
            # A value that cannot be converted is none.
            return ""

    try:
        items = list(header.get("RequestAttributesSequence") or ())[:_STEPS]
    except Exception:
        items = []
    requests = [
        {
            "step": text(item, "ScheduledProcedureStepID", ID_MOST),
            "procedure": text(item, "RequestedProcedureID", ID_MOST),
        }
        for item in items
    ]
    day = text(header, "PerformedProcedureStepStartDate", 10)
    return {
        "performed_date": day if re.fullmatch(r"[0-9]{8}", day) else "",
        "performed_time": text(header, "PerformedProcedureStepStartTime", 16),
        "requests": [one for one in requests if one["step"] or one["procedure"]],
    }


def of_series_json(document: Mapping[str, Any]) -> dict[str, Any]:
    """`of_series` from a header in the DICOM JSON model."""

    def first(here: Mapping[str, Any], tag: str) -> str:
        values = here.get(tag, {}).get("Value") or [""]
        return str(values[0] or "")

    requests = [
        {"step": first(item, "00400009")[:ID_MOST], "procedure": first(item, "00401001")[:ID_MOST]}
        for item in (document.get("00400275", {}).get("Value") or [])[:_STEPS]
        if isinstance(item, Mapping)
    ]
    day = first(document, "00400244")
    return {
        "performed_date": day if re.fullmatch(r"[0-9]{8}", day) else "",
        "performed_time": first(document, "00400245")[:16],
        "requests": [one for one in requests if one["step"] or one["procedure"]],
    }
