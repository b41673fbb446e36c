"""Documents: rows of the index as attributes in the DICOM JSON model, without addresses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import String, cast, literal_column

from hub.patients.models import Patient
from hub.sites.models import Organisation
from hub.studies import repository
from hub.studies.models import Instance, Series, Study
from hub.studies.search.query import Document, Level, Query, Row

_STUDY_COLUMNS: Final = (
    Study.uid,
    Study.study_date,
    Study.study_time,
    Study.accession,
    cast(Study.modalities, String),
    Study.referring,
    Study.description,
    Study.study_id,
    Study.series_count,
    Study.instance_count,
    cast(Study.header_patient, String),
    literal_column("study.summary ->> 'timezone_offset'", String),
    Organisation.issuer,
)
SERIES_COLUMNS: Final = (
    Series.uid,
    Series.modality,
    Series.number,
    Series.description,
    Series.body_part,
    Series.series_date,
    Series.series_time,
    Series.performed_date,
    Series.performed_time,
    Series.requests,
    Series.instance_count,
)
INSTANCE_COLUMNS: Final = (
    Instance.uid,
    Instance.sop_class,
    Instance.number,
    Instance.rows,
    Instance.columns,
    Instance.frames,
)


@lru_cache(maxsize=2)
def study_columns(*, county: bool) -> tuple[Any, ...]:
    """The columns that `study_document` needs, in its order."""
    if not county:
        return _STUDY_COLUMNS
    number = repository.county_number().label("number")
    return (*_STUDY_COLUMNS, number, Patient.name, Patient.sex, cast(Patient.birth_date, String))


def element(vr: str, *values: Any) -> dict[str, Any]:
    """An element of the DICOM JSON model; without values where none is known."""
    kept = [value for value in values if value not in ("", None)]
    return {"vr": vr, "Value": kept} if kept else {"vr": vr}


def name_element(text: str) -> dict[str, Any]:
    """A PN element of a name as the index keeps it: its component groups stand in their own fields."""
    groups = text.split("=")
    labels = ("Alphabetic", "Ideographic", "Phonetic")
    value = {label: one for label, one in zip(labels, groups, strict=False) if one}
    return {"vr": "PN", "Value": [value]} if value else {"vr": "PN"}


def study_document(values: Sequence[Any], *, county: bool, issuer: str = "") -> Document:
    """Attributes of a study (PS3.18 Table 10.6.3-3) from the values of `study_columns`."""
    uid, day, hour, accession, modalities, referring, description, study_id, series, instances, header, zone, sender = (
        values[:13]
    )
    sent = json.loads(header) if header else {}
    kinds = json.loads(modalities) if modalities else []
    if county:
        number, name, sex, born = values[13:17]
        birth = str(born or "").replace("-", "")
        whose = issuer
    else:
        name, number, sex = (str(sent.get(one) or "") for one in ("name", "patient_id", "sex"))
        birth = str(sent.get("birth_date") or "").replace("-", "")
        whose = (sender or str(sent.get("issuer") or "")) if number else ""
    document = {
        "00080005": element("CS", "ISO_IR 192"),
        "00080020": element("DA", day),
        "00080030": element("TM", hour),
        "00080050": element("SH", accession),
        "00080056": element("CS", "ONLINE"),
        "00080061": element("CS", *kinds),
    }
    if county:
        # What the viewer's study list sorts by.
        document["00080060"] = element("CS", *kinds[:1])
    document["00080090"] = name_element(referring)
    if zone:
        document["00080201"] = element("SH", zone)
    document["00081030"] = element("LO", description)
    document["00100010"] = name_element(name)
    document["00100020"] = element("LO", number)
    if whose:
        document["00100021"] = element("LO", whose)
    document["00100030"] = element("DA", birth)
    document["00100040"] = element("CS", sex)
    document["0020000D"] = element("UI", uid)
    document["00200010"] = element("SH", study_id)
    document["00201206"] = element("IS", series)
    document["00201208"] = element("IS", instances)
    return document


def _series_document(values: Sequence[Any]) -> Document:
    uid, modality, number, description, part, day, hour, performed, performed_at, requests, instances = values
    document = {
        "00080021": element("DA", day),
        "00080031": element("TM", hour),
        "00080056": element("CS", "ONLINE"),
        "00080060": element("CS", modality),
        "0008103E": element("LO", description),
        "00180015": element("CS", part),
        "0020000E": element("UI", uid),
        "00200011": element("IS", number),
        "00201209": element("IS", instances),
        "00400244": element("DA", performed),
        "00400245": element("TM", performed_at),
    }
    items: list[Document] = [
        {"00400009": element("SH", one.get("step")), "00401001": element("SH", one.get("procedure"))}
        for one in requests or ()
    ]
    if items:
        document["00400275"] = {"vr": "SQ", "Value": items}
    return document


def _instance_document(values: Sequence[Any]) -> Document:
    uid, sop_class, number, rows, width, frames = values
    document = {
        "00080016": element("UI", sop_class),
        "00080018": element("UI", uid),
        "00080056": element("CS", "ONLINE"),
        "00200013": element("IS", number),
        "00280010": element("US", rows),
        "00280011": element("US", width),
    }
    if frames > 1:
        document["00280008"] = element("IS", frames)
    return document


def row_of(query: Query, found: Any) -> Row:
    """A match from its columns."""
    county, level = query.county, query.level
    width = len(study_columns(county=county))
    values = tuple(found)
    study = study_document(values[:width], county=county, issuer=query.issuer)
    if level is Level.STUDY:
        return Row(values[0], "", "", study)
    series = values[width : width + len(SERIES_COLUMNS)]
    # The levels above an answer's own are told where the address does not name them (PS3.18 §10.6.3.3).
    known: Document = {tag: study[tag] for tag in ("00080005", "0020000D", "00080201") if tag in study}
    document: Document = {**(known if query.study_uid else study), **_series_document(series)}
    if level is Level.SERIES:
        return Row(values[0], series[0], "", dict(sorted(document.items())))
    if query.series_uid:
        kept = ("0020000E", "00080060")
        document = {**known, **{tag: document[tag] for tag in kept}}
    instance = values[width + len(SERIES_COLUMNS) :]
    document.update(_instance_document(instance))
    return Row(values[0], series[0], instance[0], dict(sorted(document.items())))
