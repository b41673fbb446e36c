"""JSON API of the county patient index, for those who decide who is whom."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.orm import Session

from hub.accounts.roles import Permission
from hub.audit import service as audit
from hub.kit.actor import Actor
from hub.kit.edge import ReadDb, WriteDb, require
from hub.kit.errors import NotFound
from hub.kit.i18n import _
from hub.patients import links
from hub.patients.links import PairState
from hub.patients.models import Patient, PatientPair
from hub.patients.schemas import (
    CorrectionIn,
    Decision,
    NewPair,
    PairOut,
    PairsOut,
    PatientSide,
    Undoing,
    pair_out,
    side_of,
)

router = APIRouter(prefix="/api/patients", tags=["patients"])

Decider = Annotated[Actor, require(Permission.PATIENT_LINK)]


def _out(session: Session, pair: PatientPair) -> PairOut:
    return pair_out(pair, session.get_one(Patient, pair.one_id), session.get_one(Patient, pair.two_id))


def _looked(session: Session, actor: Actor, pair: PatientPair) -> PairOut:
    """The same; looking at patients of several clinics is an access of its own, here as on the page."""
    for patient_id in (pair.one_id, pair.two_id):
        patient = session.get_one(Patient, patient_id)
        audit.record(
            session,
            actor,
            "patient.view",
            "patient",
            patient.id,
            org_id=patient.org_id,
            patient_id=patient.id,
            pair=pair.id,
        )
    return _out(session, pair)


@router.get("/pairs", summary="Pairs of patients in a state")
def list_pairs(
    actor: Decider,
    session: ReadDb,
    state: PairState = PairState.CANDIDATE,
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> PairsOut:
    """Candidates (same name and birth date), conflicts (one number, two names), links, and pairs kept apart."""
    found, total = links.pairs(session, state, page=page)
    return PairsOut(total=total, page=page, items=[_out(session, pair) for pair in found])


@router.post("/pairs", status_code=201, summary="Bring up two patients about whom nobody asked")
def bring_up(body: NewPair, actor: Decider, session: WriteDb) -> PairOut:
    """The pair of any two patients; nothing is decided by it."""
    return _looked(session, actor, links.pair_for(session, body.one_id, body.two_id))


@router.get("/pairs/{pair_id}", summary="A pair of patients")
def show_pair(pair_id: str, actor: Decider, session: WriteDb) -> PairOut:
    """Both sides, and in what they differ."""
    pair = session.get(PatientPair, pair_id)
    if pair is None:
        raise NotFound(_("没有找到这一对记录"))
    return _looked(session, actor, pair)


@router.post("/pairs/{pair_id}/link", summary="Both are one human being")
def link(pair_id: str, body: Decision, actor: Decider, session: WriteDb) -> PairOut:
    """Never with two different identity numbers, and never out of a conflict: correct what was typed wrong first."""
    return _out(session, links.link(session, actor, pair_id, reason=body.reason, version=body.version))


@router.post("/pairs/{pair_id}/keep-apart", summary="Both are two human beings")
def keep_apart(pair_id: str, body: Decision, actor: Decider, session: WriteDb) -> PairOut:
    """The hub asks no more, and never links them by itself."""
    return _out(session, links.keep_apart(session, actor, pair_id, reason=body.reason, version=body.version))


@router.post("/pairs/{pair_id}/undo", summary="Undo a link")
def undo(pair_id: str, body: Undoing, actor: Decider, session: WriteDb) -> PairOut:
    """All is as before it; readers lose the other one's exams at once. 409 `still-joined`: `with_one` must be said."""
    pair = links.undo(session, actor, pair_id, reason=body.reason, version=body.version, with_one=body.with_one)
    return _out(session, pair)


@router.post("/{patient_id}/correct", summary="Put right what was typed wrong of a patient's identity")
def correct(patient_id: str, body: CorrectionIn, actor: Decider, session: WriteDb) -> PatientSide:
    """Links, conflicts and candidates follow at once. Signed reports stay as they were signed."""
    wanted = links.Identity(body.name, body.sex, body.birth_date, body.identity_number)
    return side_of(links.correct(session, actor, patient_id, wanted, reason=body.reason))
