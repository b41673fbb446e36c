"""The sample county's patients over time: links, a conflict, a candidate; an exam to recognise; images judged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

from sqlalchemy import select

from hub.cli.client import Client
from hub.dicom.identity import check_digit
from hub.kit import clock
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.reports.recognition import marks
from hub.reports.recognition.models import EvaluatedItem
from hub.sites.models import Organisation, OrgKind

STORY = "24005"
"""The chest CT with a nodule: the same woman comes to other clinics with her identity card."""

_ITEMS = ("ct_head", "ct_chest", "dx_chest", "dx_hand")
_SCORES: tuple[tuple[str, int, str, tuple[str, ...], str], ...] = (
    ("24003", 2, "A", (), ""),
    ("24004", 1, "A", (), ""),
    ("24005", 5, "A", (), ""),
    ("24012", 5, "B", ("scapula", "position"), "肩胛骨未拉开,与肺野重叠"),
    ("24014", 4, "A", (), ""),
    ("24015", 1, "C", ("motion",), "第 20 层以后头部移动,请固定头部"),
    ("24017", 7, "B", ("foreign",), "衣扣未取下"),
    ("24022", 21, "A", (), ""),
)


REGISTERED = ("24031", "24032", "24033", "24034")
"""Encounter numbers of those who are registered besides the stories' patients."""


def _number(age: int) -> str:
    """An identity number of a woman of that age; no person's: the region has no such serial numbers."""
    first = f"360731{clock.now().year - age}010199" + "8"
    return first + check_digit(first)


def identity(key: str, age: int) -> dict[str, Any]:
    """What a story's registration says beyond its own words."""
    return {"identity_number": _number(age), "age": ""} if key == STORY else {}


def write() -> None:
    """Every clinic passed the county's evaluation of the usual items, where nothing was noted yet."""
    with database().writing() as session:
        if session.scalar(select(EvaluatedItem.id).limit(1)) is not None:
            return
        clinics = select(Organisation.id).where(Organisation.sample, Organisation.kind == OrgKind.CLINIC)
        for org_id in session.scalars(clinics):
            marks.note(
                session,
                SYSTEM,
                org_id=org_id,
                items=_ITEMS,
                scope="county",
                valid_from=date(clock.now().year - 1, 1, 1),
                evidence="样例:县影像质控 01 号",
            )


def play(client: Callable[[str], Client]) -> None:
    """She is registered at two more clinics, once under a wrong name; two who may be one person; some scores."""
    found = client("tech05").get("/api/exams", q=f"P{STORY}")["items"]
    if not found or found[0]["state"] not in ("signed", "returned", "seen"):
        return
    # As it was typed: a run in another year must not make another number.
    born = date.fromisoformat(found[0]["patient"]["birth_date"])
    first = f"360731{born:%Y%m%d}998"
    her = {"name": "刘桂英", "sex": "F", "identity_number": first + check_digit(first)}
    exam = _register(client("tech02"), REGISTERED[0], {**her, "modality": "CT", "body_parts": ["chest"]})
    client("tech02").post(f"/api/exams/{exam['id']}/recognition")
    _register(client("tech03"), REGISTERED[1], {**her, "name": "刘桂瑛", "modality": "DX", "body_parts": ["chest"]})
    man = {"name": "赵建军", "sex": "M", "birth_date": "1969-03-04", "modality": "DX", "body_parts": ["chest"]}
    _register(client("tech06"), REGISTERED[2], man)
    _register(client("tech08"), REGISTERED[3], man)
    officer = client("quality01")
    for key, clinic, grade, reasons, note in _SCORES:
        exams = client(f"tech{clinic:02}").get("/api/exams", q=f"P{key}")["items"]
        if not exams or exams[0]["state"] not in ("signed", "returned", "seen"):
            continue
        path = f"/api/exams/{exams[0]['id']}/image-score"
        if officer.get(path)["current"] is None:
            artefact = "bad" if grade == "C" else "none"
            officer.put(path, {"grade": grade, "reasons": reasons, "note": note, "artefact": artefact})


def _register(tech: Client, key: str, values: dict[str, Any]) -> dict[str, Any]:
    """An exam by its encounter number, registered where it is not there yet."""
    found = tech.get("/api/exams", q=f"P{key}")["items"]
    if found:
        return dict(found[0])
    form = {
        "number": f"P{key}",
        "encounter_number": key,
        "department": "全科",
        "doctor": "刘医生",
        "doctor_phone": "0790-5502121",
        "history": "肺结节复查,吸烟史",
        "priority": "routine",
        **values,
    }
    return dict(tech.post("/api/exams", form))
