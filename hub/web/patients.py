"""Pages of the county patient index, for those who decide who is whom: search, timeline, queues, a pair."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission as P
from hub.audit import service as audit
from hub.dicom.identity import mask
from hub.exams.models import Exam
from hub.exams.repository import visibility
from hub.exams.states import State
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import require
from hub.kit.errors import NotFound
from hub.kit.i18n import Message, _
from hub.patients import links
from hub.patients import service as patients
from hub.patients.links import EVENT_NAMES, STATE_NAMES, PairEvent, PairState
from hub.patients.models import CountyPatient, Patient, PatientPair
from hub.reading.words import exam_words, sex_words
from hub.sites.models import Organisation
from hub.studies.models import ExamStudy, Study
from hub.web.pages import locale_of, render

router = APIRouter(tags=["patients"])

Decider = Annotated[Actor, require(P.PATIENT_LINK, people=True)]

TABS: dict[PairState, Message] = {
    PairState.CONFLICT: _("身份冲突"),
    PairState.CANDIDATE: _("疑似同一人"),
    PairState.LINKED: _("已关联"),
    PairState.APART: _("已分开"),
}
FIELD_NAMES: dict[str, Message] = {
    "name": _("姓名"),
    "sex": _("性别"),
    "birth_date": _("出生日期"),
    "identity_number": _("身份证号"),
}
BASIS_NAMES: dict[str, Message] = {
    "number": _("身份证号相同"),
    "name": _("姓名、出生日期相同"),
    "person": _("人工判定"),
}
PAGE_SIZE = 30


def _people(session: Session, ids: Collection[str]) -> dict[str, Patient]:
    rows = session.scalars(select(Patient).where(Patient.id.in_(list(ids))))
    return {row.id: row for row in rows}


def _orgs(session: Session) -> dict[str, Organisation]:
    return {org.id: org for org in session.scalars(select(Organisation))}


def _org_name(org: Organisation, locale: str) -> str:
    return org.name_en if locale == "en" and org.name_en else org.name


def _person(patient: Patient, orgs: dict[str, Organisation], locale: str, exams: int = 0) -> dict[str, Any]:
    return {
        "row": patient,
        "org": _org_name(orgs[patient.org_id], locale),
        "number": "" if patients.hub_given(patient.number) else patient.number,
        "sex": sex_words(patient.sex, locale),
        "identity": mask(patient.identity_number),
        "sure": links.sure_number(patient) is not None,
        "exams": exams,
    }


def _counted(session: Session, ids: Collection[str]) -> dict[str, int]:
    rows = session.execute(
        select(Exam.patient_id, func.count()).where(Exam.patient_id.in_(list(ids))).group_by(Exam.patient_id)
    )
    return {row[0]: row[1] for row in rows}


def _note(actor: Actor, action: str, patient: Patient, **detail: Any) -> None:
    """Looking at a patient over all clinics is an access of its own."""
    with database().writing() as session:
        audit.record(
            session, actor, action, "patient", patient.id, org_id=patient.org_id, patient_id=patient.id, **detail
        )


@router.get("/patients", response_class=HTMLResponse, include_in_schema=False)
def index(
    request: Request,
    actor: Decider,
    q: Annotated[str, Query(max_length=60)] = "",
    state: PairState = PairState.CONFLICT,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> HTMLResponse:
    """Search, and the queues of what waits for a decision."""
    locale = locale_of(request)
    with database().reading() as session:
        orgs = _orgs(session)
        found: list[Patient] = []
        if q.strip():
            statement = select(Patient).where(patients.matches(q)).order_by(func.length(Patient.name), Patient.name)
            found = list(session.scalars(statement.order_by(Patient.created_at).limit(60)))
        exams = _counted(session, [row.id for row in found])
        counties = _numbers(session, found)
        pairs, total = links.pairs(session, state, page=page, size=PAGE_SIZE)
        people = _people(session, {end for pair in pairs for end in (pair.one_id, pair.two_id)})
        counts = {tab: links.pairs(session, tab, size=1)[1] for tab in TABS}
        values = {
            "q": q,
            "tab": state,
            "tabs": [(tab, name, counts[tab]) for tab, name in TABS.items()],
            "people": [
                {**_person(row, orgs, locale, exams.get(row.id, 0)), "county": counties[row.county_patient_id]}
                for row in found
            ],
            "rows": [
                {
                    "pair": pair,
                    "one": _person(people[pair.one_id], orgs, locale),
                    "two": _person(people[pair.two_id], orgs, locale),
                    "differences": links.differences(people[pair.one_id], people[pair.two_id]),
                }
                for pair in pairs
            ],
            "total": total,
            "page": page,
            "pages": max(1, -(-total // PAGE_SIZE)),
            "url": lambda number: "/patients?" + urlencode({"state": state.value, "page": number}),
            "fields": FIELD_NAMES,
            "bases": BASIS_NAMES,
        }
    if found:
        _note(actor, "patient.search", found[0], found=len(found))
    return render(request, "patients/index.html", values)


def _numbers(session: Session, rows: Collection[Patient]) -> dict[str, str]:
    ids = {row.county_patient_id for row in rows}
    return {row.id: row.number for row in session.scalars(select(CountyPatient).where(CountyPatient.id.in_(ids)))}


def _exams(
    session: Session, actor: Actor, ids: Collection[str], locale: str, *, limit: int = 60
) -> list[dict[str, Any]]:
    """The exams of patients, the newest first, each with the studies that have a picture."""
    orgs = _orgs(session)
    rows = list(
        session.scalars(
            select(Exam)
            .where(visibility(actor), Exam.patient_id.in_(list(ids)))
            .order_by(Exam.registered_at.desc())
            .limit(limit)
        ).unique()
    )
    studies: dict[str, list[Study]] = {}
    statement = (
        select(ExamStudy.exam_id, Study)
        .join(Study, Study.id == ExamStudy.study_id)
        .where(ExamStudy.exam_id.in_([row.id for row in rows]), Study.trashed_at.is_(None))
    )
    for exam_id, study in session.execute(statement):
        studies.setdefault(exam_id, []).append(study)
    return [
        {
            "exam": exam,
            "words": exam_words(exam, locale),
            "org": _org_name(orgs[exam.org_id], locale),
            "reader": _org_name(exam.reading_org, locale) if exam.reading_org else "",
            "studies": studies.get(exam.id, []),
            "over": exam.state in (State.CANCELLED, State.VOID),
        }
        for exam in rows
    ]


def _said(session: Session, pairs: Collection[PatientPair], locale: str) -> list[dict[str, Any]]:
    """What was decided about pairs and corrected of patients, the newest first."""
    rows = links.history(session, [pair.id for pair in pairs])
    sides = {pair.id: pair for pair in pairs}
    people = _people(session, {end for pair in pairs for end in (pair.one_id, pair.two_id)})
    orgs = _orgs(session)
    return [
        {
            "at": row.at,
            "what": EVENT_NAMES[PairEvent(row.event)],
            "who": "" if row.actor_id == "system" else row.actor_name,
            "reason": row.reason,
            "pair": row.pair_id,
            "sides": [f"{side['name']} · {_org_name(orgs[side['org_id']], locale)}" for side in row.sides]
            or [people[sides[row.pair_id].one_id].name, people[sides[row.pair_id].two_id].name],
        }
        for row in rows
    ]


@router.get("/patients/pairs/{pair_id}", response_class=HTMLResponse, include_in_schema=False)
def pair_page(request: Request, pair_id: str, actor: Decider) -> HTMLResponse:
    """Both sides of a pair: what differs, their exams with pictures, and the decisions."""
    locale = locale_of(request)
    with database().reading() as session:
        pair = session.get(PatientPair, pair_id)
        if pair is None:
            raise NotFound(_("没有找到这一对记录"))
        orgs = _orgs(session)
        people = _people(session, (pair.one_id, pair.two_id))
        one, two = people[pair.one_id], people[pair.two_id]
        groups = [links.group_of(session, row.id) for row in (one, two)]
        others = (groups[0] | groups[1]) - {one.id, two.id}
        joined = two.id in groups[0]
        verdict = links.verdict(one, two)
        values = {
            "pair": pair,
            "state": PairState(pair.state),
            "state_names": STATE_NAMES,
            "bases": BASIS_NAMES,
            "fields": FIELD_NAMES,
            "sides": [
                {
                    **_person(row, orgs, locale),
                    "county": _numbers(session, [row])[row.county_patient_id],
                    "exams": _exams(session, actor, [row.id], locale, limit=12),
                }
                for row in (one, two)
            ],
            "differences": links.differences(one, two),
            "contradiction": verdict is PairEvent.CONTRADICT,
            "obstacle": None if joined else links.obstacle(session, one.id, two.id),
            "joined": joined,
            "others": [_person(row, orgs, locale) for row in _people(session, others).values()],
            "must_choose": joined and two.id in links.group_of(session, one.id, without={pair.id}),
            "history": _said(session, [pair], locale),
            "corrections": links.corrections(session, [one.id, two.id]),
            "page_data": {"pair": pair.id, "version": pair.version},
        }
    for row in (one, two):
        _note(actor, "patient.view", row, pair=pair.id)
    return render(request, "patients/pair.html", values)


@router.get("/patients/{patient_id}", response_class=HTMLResponse, include_in_schema=False)
def timeline(request: Request, patient_id: str, actor: Decider) -> HTMLResponse:
    """One human being as the county knows him: his rows, and his exams over all clinics."""
    locale = locale_of(request)
    with database().reading() as session:
        patient = session.get(Patient, patient_id)
        if patient is None:
            raise NotFound(_("没有找到这位患者"))
        orgs = _orgs(session)
        rows = list(
            session.scalars(
                select(Patient)
                .where(Patient.county_patient_id == patient.county_patient_id)
                .order_by(Patient.created_at, Patient.id)
            )
        )
        ids = [row.id for row in rows]
        counts = _counted(session, ids)
        pairs = links.pairs_among(session, ids)
        people = _people(session, {end for pair in pairs for end in (pair.one_id, pair.two_id)})
        values = {
            "patient": patient,
            "county": _numbers(session, [patient])[patient.county_patient_id],
            "rows": [_person(row, orgs, locale, counts.get(row.id, 0)) for row in rows],
            "exams": _exams(session, actor, ids, locale),
            "pairs": [
                {
                    "pair": pair,
                    "state": STATE_NAMES[PairState(pair.state)],
                    "one": _person(people[pair.one_id], orgs, locale),
                    "two": _person(people[pair.two_id], orgs, locale),
                }
                for pair in pairs
            ],
            "history": _said(session, pairs, locale),
            "corrections": links.corrections(session, ids),
            "fields": FIELD_NAMES,
            "bases": BASIS_NAMES,
        }
    _note(actor, "patient.view", patient, rows=len(rows))
    return render(request, "patients/patient.html", values)
