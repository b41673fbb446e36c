"""Who is whom in the county: pairs of patients, their states, and the one writer of them.

Whoever stands under one county patient follows from the pairs that are linked: patients joined by links are one human
being, under the oldest of their county numbers. Nothing else is kept of a group, so undoing a link puts everything
back as it was before it.

Two things hold of every group, whoever links: no two different identity numbers, and nobody together with whom he was
kept apart by a person's decision. By itself the hub links only on the same valid identity number, name, sex and birth
date. The same number under another name (sex, birth date) is a conflict, which is never linked: what was typed wrong
is corrected first, or the two are kept apart.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from sqlalchemy import CursorResult, func, or_, select, update
from sqlalchemy.orm import Session

from hub.accounts.roles import Role
from hub.audit import service as audit
from hub.dicom import pinyin
from hub.dicom.identity import IdentityNumber, check_identity_number, mask
from hub.kit import clock, jobs, live
from hub.kit.actor import SYSTEM, Actor
from hub.kit.errors import Conflict, Forbidden, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.turns import one_at_a_time
from hub.patients.models import Patient, PatientCorrection, PatientPair, PatientPairEvent

UNKNOWN_NAME = "无名氏"
"""Stands for the name of an emergency patient until it is known: two of that name have nothing in common."""

MAX_REASON = 400
SUGGEST_JOB = "patients.suggest"
CHANGED_JOB = "patients.changed"


class PairState(StrEnum):
    """What the county holds of two patients."""

    NONE = "none"
    CANDIDATE = "candidate"
    CONFLICT = "conflict"
    LINKED = "linked"
    APART = "apart"


class PairEvent(StrEnum):
    """What happens to a pair. The first four come from what stands in the index, the others from a person."""

    SUGGEST = "suggest"
    CONTRADICT = "contradict"
    LINK_SURE = "link_sure"
    WITHDRAW = "withdraw"
    LINK = "link"
    KEEP_APART = "keep_apart"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class PairRule:
    """Where an event leads and who may raise it."""

    target: PairState
    roles: frozenset[str]


SYSTEM_ROLE = "system"
_SYSTEM = frozenset({SYSTEM_ROLE})
_DECIDER = frozenset({Role.QUALITY, Role.DIRECTOR})

S, E = PairState, PairEvent

TRANSITIONS: dict[tuple[PairState, PairEvent], PairRule] = {
    (S.NONE, E.SUGGEST): PairRule(S.CANDIDATE, _SYSTEM),
    (S.NONE, E.CONTRADICT): PairRule(S.CONFLICT, _SYSTEM),
    (S.NONE, E.LINK_SURE): PairRule(S.LINKED, _SYSTEM),
    (S.NONE, E.LINK): PairRule(S.LINKED, _DECIDER),
    (S.NONE, E.KEEP_APART): PairRule(S.APART, _DECIDER),
    (S.CANDIDATE, E.CONTRADICT): PairRule(S.CONFLICT, _SYSTEM),
    (S.CANDIDATE, E.LINK_SURE): PairRule(S.LINKED, _SYSTEM),
    (S.CANDIDATE, E.WITHDRAW): PairRule(S.NONE, _SYSTEM),
    (S.CANDIDATE, E.LINK): PairRule(S.LINKED, _DECIDER),
    (S.CANDIDATE, E.KEEP_APART): PairRule(S.APART, _DECIDER),
    # Never linked by a person: what was typed wrong is corrected, and then it is no conflict any more.
    (S.CONFLICT, E.SUGGEST): PairRule(S.CANDIDATE, _SYSTEM),
    (S.CONFLICT, E.LINK_SURE): PairRule(S.LINKED, _SYSTEM),
    (S.CONFLICT, E.WITHDRAW): PairRule(S.NONE, _SYSTEM),
    (S.CONFLICT, E.KEEP_APART): PairRule(S.APART, _DECIDER),
    (S.LINKED, E.CONTRADICT): PairRule(S.CONFLICT, _SYSTEM),
    (S.LINKED, E.WITHDRAW): PairRule(S.NONE, _SYSTEM),
    (S.LINKED, E.UNDO): PairRule(S.APART, _DECIDER),
    # Only a person brings together whom a person kept apart.
    (S.APART, E.LINK): PairRule(S.LINKED, _DECIDER),
}

STATE_NAMES: dict[PairState, Message] = {
    S.NONE: _("未判定"),
    S.CANDIDATE: _("疑似同一人"),
    S.CONFLICT: _("身份冲突"),
    S.LINKED: _("已关联"),
    S.APART: _("已分开"),
}
EVENT_NAMES: dict[PairEvent, Message] = {
    E.SUGGEST: _("系统提示疑似同一人"),
    E.CONTRADICT: _("系统发现身份冲突"),
    E.LINK_SURE: _("系统自动关联"),
    E.WITHDRAW: _("信息更正后,系统撤回判断"),
    E.LINK: _("人工关联"),
    E.KEEP_APART: _("人工判定不是同一人"),
    E.UNDO: _("撤销关联"),
}
_AUDIT = {
    E.SUGGEST: "patient.suggest",
    E.CONTRADICT: "patient.conflict",
    E.LINK_SURE: "patient.link",
    E.WITHDRAW: "patient.withdraw",
    E.LINK: "patient.link",
    E.KEEP_APART: "patient.keep-apart",
    E.UNDO: "patient.unlink",
}

IDENTITY_FIELDS = ("name", "sex", "birth_date", "identity_number")


def lock(session: Session) -> None:
    """Let nobody else change who is whom until the transaction ends. Before any patient's row is held or written."""
    one_at_a_time(session, "patient-pairs")


# --- what two rows say of each other ------------------------------------------------------------------------------


def plain_name(name: str) -> str:
    """A name as it is compared: without widths, spaces, case, and the many kinds of the dot in it."""
    text = unicodedata.normalize("NFKC", name)
    return "".join(char for char in text if char not in "·•・‧∙⋅." and not char.isspace()).casefold()


def sure_number(patient: Patient) -> IdentityNumber | None:
    """The identity number of a patient, if it is valid and sex and (true) birth date are those that it says."""
    found = check_identity_number(patient.identity_number) if patient.identity_number else None
    if not isinstance(found, IdentityNumber) or found.normalised != patient.identity_number:
        return None
    if patient.birth_estimated or patient.birth_date != found.birth_date or patient.sex != found.sex:
        return None
    return found


def same_name(one: Patient, two: Patient) -> bool:
    """Whether two patients have the same name, and it is one."""
    name = plain_name(one.name)
    return bool(name) and name != UNKNOWN_NAME and name == plain_name(two.name)


def verdict(one: Patient, two: Patient) -> PairEvent | None:
    """What the index says of two patients: LINK_SURE, CONTRADICT, SUGGEST, or nothing."""
    sexes = {one.sex, two.sex} - {""}
    births = {row.birth_date for row in (one, two) if row.birth_date and not row.birth_estimated}
    if one.identity_number and two.identity_number:
        if one.identity_number != two.identity_number:
            return None
        if same_name(one, two) and sure_number(one) and sure_number(two):
            return E.LINK_SURE
        if not same_name(one, two) or len(sexes) > 1 or len(births) > 1:
            return E.CONTRADICT
        return E.SUGGEST
    known = all(row.birth_date and not row.birth_estimated for row in (one, two))
    if same_name(one, two) and known and len(births) == 1 and len(sexes) < 2:
        return E.SUGGEST
    return None


def differences(one: Patient, two: Patient) -> list[str]:
    """In which of IDENTITY_FIELDS two patients differ (where one is silent, it does not differ)."""
    found = []
    for name in IDENTITY_FIELDS:
        left, right = getattr(one, name), getattr(two, name)
        # Names are compared as `verdict` compares them; where one side is silent, there is nothing to differ from.
        if not same_name(one, two) if name == "name" else left and right and left != right:
            found.append(name)
    return found


def _side(patient: Patient) -> dict[str, Any]:
    return {
        "id": patient.id,
        "org_id": patient.org_id,
        "number": patient.number,
        "name": patient.name,
        "sex": patient.sex,
        "birth_date": patient.birth_date.isoformat() if patient.birth_date else "",
        "birth_estimated": patient.birth_estimated,
        "identity_number": mask(patient.identity_number),
    }


# --- pairs ---------------------------------------------------------------------------------------------------------


def pair_of(session: Session, one_id: str, two_id: str) -> PatientPair | None:
    """The pair of two patients, if anything was ever said of them."""
    one, two = sorted((one_id, two_id))
    return session.scalars(
        select(PatientPair)
        .where(PatientPair.one_id == one, PatientPair.two_id == two)
        .execution_options(populate_existing=True)
    ).one_or_none()


def _ensure_pair(session: Session, one_id: str, two_id: str) -> PatientPair:
    found = pair_of(session, one_id, two_id)
    if found is None:
        one, two = sorted((one_id, two_id))
        now = clock.now()
        found = PatientPair(one_id=one, two_id=two, state=S.NONE.value, version=1, created_at=now, changed_at=now)
        session.add(found)
        session.flush()
    return found


def _roles_of(actor: Actor) -> frozenset[str]:
    return _SYSTEM if actor.kind == "system" else actor.roles


def _apply(
    session: Session, actor: Actor, pair: PatientPair, event: PairEvent, *, reason: str = "", basis: str = ""
) -> None:
    """The one writer of a pair's state."""
    before = PairState(pair.state)
    rule = TRANSITIONS.get((before, event))
    if rule is None:
        raise Conflict(
            _("这两条记录现在是“{state}”,不能执行此操作").format(state=STATE_NAMES[before]),
            code="wrong-state",
            state=before.value,
            event=event.value,
        )
    if _roles_of(actor).isdisjoint(rule.roles):
        raise Forbidden(_("您的角色不能执行此操作"), event=event.value)
    now = clock.now()
    result = session.execute(
        update(PatientPair)
        .where(PatientPair.id == pair.id, PatientPair.state == before.value, PatientPair.version == pair.version)
        .values(
            state=rule.target.value,
            version=pair.version + 1,
            basis=basis or ("person" if actor.kind == "person" else pair.basis),
            reason=reason,
            changed_at=now,
            changed_by=actor.id,
            changed_by_name=actor.name,
        )
        .execution_options(synchronize_session=False)
    )
    if not isinstance(result, CursorResult) or result.rowcount != 1:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    session.refresh(pair)
    sides = [session.get_one(Patient, pair.one_id), session.get_one(Patient, pair.two_id)]
    session.add(
        PatientPairEvent(
            pair_id=pair.id,
            at=now,
            event=event.value,
            from_state=before.value,
            to_state=rule.target.value,
            actor_id=actor.id,
            actor_name=actor.name,
            reason=reason,
            sides=[_side(patient) for patient in sides],
        )
    )
    for patient in sides:
        other = sides[1] if patient is sides[0] else sides[0]
        audit.record(
            session,
            actor,
            _AUDIT[event],
            "patient",
            patient.id,
            org_id=patient.org_id,
            patient_id=patient.id,
            other=other.id,
            pair=pair.id,
            state=rule.target.value,
        )
    # Who decides looks at the whole county; clinics are told nothing of each other's patients.
    live.publish(session, "patient", pair.id, state=rule.target.value)


# --- groups --------------------------------------------------------------------------------------------------------


def group_of(session: Session, patient_id: str, *, without: Collection[str] = ()) -> set[str]:
    """Ids of all who are joined with a patient by links, himself among them.

    Args:
        session: A session.
        patient_id: Where to begin.
        without: Ids of pairs that are taken for not linked.
    """
    found, todo = {patient_id}, {patient_id}
    while todo:
        rows = session.execute(
            select(PatientPair.id, PatientPair.one_id, PatientPair.two_id).where(
                PatientPair.state == S.LINKED.value,
                or_(PatientPair.one_id.in_(todo), PatientPair.two_id.in_(todo)),
            )
        )
        near = {end for row in rows if row[0] not in without for end in (row[1], row[2])}
        todo = near - found
        found |= todo
    return found


def _patients(session: Session, ids: Iterable[str]) -> list[Patient]:
    statement = select(Patient).where(Patient.id.in_(list(ids))).order_by(Patient.id)
    return list(session.scalars(statement.execution_options(populate_existing=True)))


def _regroup(session: Session, ids: Iterable[str]) -> None:
    """Bring the county patient of everybody who is joined with `ids` in line with the links."""
    todo, moved = set(ids), []
    while todo:
        members = _patients(session, group_of(session, next(iter(todo))))
        todo -= {patient.id for patient in members}
        for patient in members:
            if patient.home_county_id is None:
                patient.home_county_id = patient.county_patient_id
        # Ids are in order of time: the oldest number is the one by which the county has known him longest.
        county = min(str(patient.home_county_id) for patient in members)
        for patient in members:
            if patient.county_patient_id != county:
                patient.county_patient_id = county
                moved.append(patient.id)
    session.flush()
    if moved:
        jobs.enqueue(session, CHANGED_JOB, {"patients": sorted(moved)}, priority=1)


def obstacle(session: Session, one_id: str, two_id: str) -> Message | None:
    """Why two patients cannot come to stand under one county patient, whoever wants it; None where they can."""
    left, right = group_of(session, one_id), group_of(session, two_id)
    if left & right:
        return None
    members = _patients(session, left | right)
    if len({patient.identity_number for patient in members} - {""}) > 1:
        return _("两侧(或与其已关联的记录)的身份证号不同,不能关联;若有一侧填错,请先更正")
    between = (PatientPair.one_id.in_(left) & PatientPair.two_id.in_(right)) | (
        PatientPair.one_id.in_(right) & PatientPair.two_id.in_(left)
    )
    states = session.execute(select(PatientPair.state, PatientPair.one_id, PatientPair.two_id).where(between)).all()
    this = {one_id, two_id}
    if any(row[0] == S.APART and {row[1], row[2]} != this for row in states):
        return _("与其已关联的记录中,有人工判定“不是同一人”的,不能关联;请先处理那一对")
    if any(row[0] == S.CONFLICT and {row[1], row[2]} != this for row in states):
        return _("与其已关联的记录之间有身份冲突,不能关联;请先处理那一对")
    return None


# --- what the hub does by itself -----------------------------------------------------------------------------------


def evaluate(session: Session, patient: Patient) -> bool:
    """Look anew at what a patient's identity number says, after he was registered or corrected.

    Pairs whose ground is gone are withdrawn; a new sure one is linked; one number under two names becomes a conflict.

    Returns:
        Whether a link was made.
    """
    lock(session)
    session.flush()
    before = {patient.id}
    for pair in _pairs_of(session, patient.id):
        other = session.get_one(Patient, pair.two_id if pair.one_id == patient.id else pair.one_id)
        before.add(other.id)
        _review(session, pair, patient, other)
    _regroup(session, before)
    members = _patients(session, group_of(session, patient.id))
    if len({row.identity_number for row in members} - {""}) > 1:
        # His number was changed, and somebody with whom he is linked by others has another one.
        for pair in _pairs_of(session, patient.id):
            if pair.state == S.LINKED:
                _apply(session, SYSTEM, pair, E.CONTRADICT)
        _regroup(session, {row.id for row in members})
    linked = _by_number(session, patient) if patient.identity_number and patient.name else False
    jobs.enqueue(session, SUGGEST_JOB, {"patient_id": patient.id}, key=f"{SUGGEST_JOB}:{patient.id}")
    return linked


def _pairs_of(session: Session, patient_id: str) -> list[PatientPair]:
    return list(
        session.scalars(
            select(PatientPair)
            .where(or_(PatientPair.one_id == patient_id, PatientPair.two_id == patient_id))
            .order_by(PatientPair.id)
            .execution_options(populate_existing=True)
        )
    )


def _review(session: Session, pair: PatientPair, patient: Patient, other: Patient) -> None:
    """Take back what a pair's state no longer rests on."""
    said = verdict(patient, other)
    numbers = {patient.identity_number, other.identity_number} - {""}
    if pair.state == S.LINKED:
        if len(numbers) > 1 or said is E.CONTRADICT:
            _apply(session, SYSTEM, pair, E.CONTRADICT)
        elif pair.basis == "number" and said is not E.LINK_SURE:
            _apply(session, SYSTEM, pair, E.WITHDRAW)
    elif pair.state == S.CANDIDATE:
        if said is E.CONTRADICT:
            _apply(session, SYSTEM, pair, E.CONTRADICT)
        elif said is None:
            _apply(session, SYSTEM, pair, E.WITHDRAW)
    elif pair.state == S.CONFLICT and said is not E.CONTRADICT and said is not E.LINK_SURE:
        _apply(session, SYSTEM, pair, E.WITHDRAW if said is None else E.SUGGEST)


def _by_number(session: Session, patient: Patient) -> bool:
    others = session.scalars(
        select(Patient)
        .where(Patient.identity_number == patient.identity_number, Patient.id != patient.id)
        .order_by(Patient.created_at, Patient.id)
    ).all()
    linked = False
    for other in others:
        said = verdict(patient, other)
        if said is None or other.id in group_of(session, patient.id):
            continue
        pair = _ensure_pair(session, patient.id, other.id)
        if pair.state == S.APART:
            continue
        if said is E.LINK_SURE:
            if obstacle(session, patient.id, other.id) is None:
                _apply(session, SYSTEM, pair, E.LINK_SURE, basis="number")
                _regroup(session, (patient.id, other.id))
                linked = True
            elif pair.state == S.NONE:
                _apply(session, SYSTEM, pair, E.SUGGEST, basis="number")
        elif (
            said is E.CONTRADICT
            and pair.state != S.CONFLICT
            # One question of each human being that the county knows by this number is enough.
            and not _asked(session, patient.id, other.id)
        ):
            _apply(session, SYSTEM, pair, E.CONTRADICT, basis="number")
        elif said is E.SUGGEST and pair.state == S.NONE:
            _apply(session, SYSTEM, pair, E.SUGGEST, basis="number")
    return linked


def _asked(session: Session, one_id: str, two_id: str) -> bool:
    """Whether a conflict between the groups of two patients is known already, or was decided."""
    left, right = group_of(session, one_id), group_of(session, two_id)
    return (
        session.scalar(
            select(PatientPair.id)
            .where(
                PatientPair.state.in_([S.CONFLICT.value, S.APART.value]),
                or_(
                    PatientPair.one_id.in_(left) & PatientPair.two_id.in_(right),
                    PatientPair.one_id.in_(right) & PatientPair.two_id.in_(left),
                ),
            )
            .limit(1)
        )
        is not None
    )


def suggest(session: Session, patient_id: str) -> int:
    """Note who else in the county has a patient's name and birth date: a person decides. Returns how many are new.

    Run after the registration's transaction, so that of two registered at once each sees the other.
    """
    lock(session)
    patient = session.get(Patient, patient_id, populate_existing=True)
    if patient is None or not patient.name or patient.birth_date is None or patient.birth_estimated:
        return 0
    # Names that are equal but for dots and widths sound the same: the index of pinyin finds them.
    named = Patient.pinyin == patient.pinyin if patient.pinyin else Patient.name == patient.name
    others = session.scalars(
        select(Patient)
        .where(named, Patient.birth_date == patient.birth_date, Patient.id != patient.id)
        .order_by(Patient.created_at, Patient.id)
        .limit(200)
    ).all()
    found, joined = 0, group_of(session, patient.id)
    for other in others:
        if other.id in joined or verdict(patient, other) is not E.SUGGEST:
            continue
        pair = _ensure_pair(session, patient.id, other.id)
        if pair.state == S.NONE and obstacle(session, patient.id, other.id) is None:
            _apply(session, SYSTEM, pair, E.SUGGEST, basis="name")
            found += 1
    return found


# --- what a person decides -----------------------------------------------------------------------------------------


def _reason(text: str) -> str:
    if sum(char.isalnum() for char in text) < 2:
        raise Invalid(fields={"reason": _("请写明依据")})
    return text.strip()[:MAX_REASON]


def _known(session: Session, patient_id: str) -> Patient:
    patient = session.get(Patient, patient_id)
    if patient is None:
        raise NotFound(_("没有找到这位患者"))
    return patient


def _fresh(session: Session, pair_id: str, version: int | None) -> PatientPair:
    pair = session.get(PatientPair, pair_id, populate_existing=True)
    if pair is None:
        raise NotFound(_("没有找到这一对记录"))
    if version is not None and pair.version != version:
        raise Conflict(_("刚刚被别人改动,请刷新后再试"), code="changed-meanwhile")
    return pair


def pair_for(session: Session, one_id: str, two_id: str) -> PatientPair:
    """The pair of any two patients, for a decision about whom nobody asked.

    Raises:
        NotFound: One of them does not exist.
        Invalid: Both are the same row.
    """
    lock(session)
    one, two = _known(session, one_id), _known(session, two_id)
    if one.id == two.id:
        raise Invalid(_("请选择两条不同的记录"), code="same-row")
    return _ensure_pair(session, one.id, two.id)


def link(session: Session, actor: Actor, pair_id: str, *, reason: str, version: int | None = None) -> PatientPair:
    """Decide that both are one human being.

    Raises:
        Invalid: No reason.
        Conflict: `changed-meanwhile`, `wrong-state` (a conflict is corrected first), `obstacle`.
        Forbidden: Not a decider.
    """
    lock(session)
    pair = _fresh(session, pair_id, version)
    said = _reason(reason)
    rows = [session.get_one(Patient, pair.one_id), session.get_one(Patient, pair.two_id)]
    if verdict(*rows) is E.CONTRADICT:
        raise Conflict(
            _("同一身份证号下信息不同,不能直接关联:请先更正填错的一侧,或判定不是同一人"), code="contradiction"
        )
    why = obstacle(session, pair.one_id, pair.two_id)
    if why is not None:
        raise Conflict(why, code="obstacle")
    _apply(session, actor, pair, E.LINK, reason=said)
    _regroup(session, (pair.one_id, pair.two_id))
    return pair


def keep_apart(session: Session, actor: Actor, pair_id: str, *, reason: str, version: int | None = None) -> PatientPair:
    """Decide that both are two human beings; the hub asks no more, and links them by itself never.

    Raises:
        Invalid: No reason.
        Conflict: `changed-meanwhile`, `wrong-state`, `still-joined` (others link them: undo those).
        Forbidden: Not a decider.
    """
    lock(session)
    pair = _fresh(session, pair_id, version)
    said = _reason(reason)
    if pair.two_id in group_of(session, pair.one_id):
        raise Conflict(_("两条记录已经由关联连在一起,请用“撤销关联”分开"), code="still-joined")
    _apply(session, actor, pair, E.KEEP_APART, reason=said)
    return pair


def undo(
    session: Session,
    actor: Actor,
    pair_id: str,
    *,
    reason: str,
    version: int | None = None,
    with_one: Collection[str] | None = None,
) -> PatientPair:
    """Undo a link: both stand under different county patients again, and are not linked by themselves any more.

    Args:
        session: The transaction.
        actor: Quality officer or director.
        pair_id: The pair; linked by itself, or joined by others.
        reason: Why, in words.
        version: The pair's, as the decider saw it.
        with_one: Who else of the group is the same human being as `one_id`; everybody else goes with `two_id`. Must be
            said where taking this link away does not part the two.

    Raises:
        Invalid: No reason, or somebody is named who is not of the group.
        Conflict: `changed-meanwhile`, `wrong-state`, `still-joined`.
        Forbidden: Not a decider.
    """
    lock(session)
    pair = _fresh(session, pair_id, version)
    said = _reason(reason)
    group = group_of(session, pair.one_id)
    if pair.state != S.LINKED or pair.two_id not in group:
        raise Conflict(_("这两条记录没有关联"), code="wrong-state", state=pair.state)
    if with_one is None:
        left = group_of(session, pair.one_id, without={pair.id})
        if pair.two_id in left:
            raise Conflict(_("这两条记录还经由其他记录连在一起,请指明各属哪一侧"), code="still-joined")
    else:
        left = {pair.one_id, *with_one}
        if not left <= group or pair.two_id in left:
            raise Invalid(fields={"with_one": _("只能选择这一组中的记录")})
    right = group - left
    crossing = session.scalars(
        select(PatientPair)
        .where(
            PatientPair.state == S.LINKED.value,
            or_(
                PatientPair.one_id.in_(left) & PatientPair.two_id.in_(right),
                PatientPair.one_id.in_(right) & PatientPair.two_id.in_(left),
            ),
        )
        .order_by(PatientPair.id)
        .execution_options(populate_existing=True)
    ).all()
    for row in crossing:
        _apply(session, actor, row, E.UNDO, reason=said)
    _regroup(session, group)
    session.refresh(pair)
    return pair


@dataclass(frozen=True, slots=True)
class Identity:
    """What a correction may change; None: stays."""

    name: str | None = None
    sex: str | None = None
    birth_date: date | None = None
    identity_number: str | None = None


def correct(session: Session, actor: Actor, patient_id: str, wanted: Identity, *, reason: str) -> Patient:
    """Put right what was typed wrong in a patient's identity; what follows for pairs and groups follows at once.

    Signed reports stay as they were signed.

    Raises:
        Invalid: By field: no reason, an invalid number, sex or birth date that the number contradicts.
        Forbidden: Not a decider.
        NotFound: There is no such patient.
    """
    if actor.roles.isdisjoint(_DECIDER):
        raise Forbidden(_("您的角色不能执行此操作"))
    lock(session)
    _known(session, patient_id)
    patient = session.scalars(
        select(Patient)
        .where(Patient.id == patient_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    said = _reason(reason)
    after: dict[str, Any] = {name: getattr(patient, name) for name in IDENTITY_FIELDS}
    before = dict(after)
    fields: dict[str, Message | str] = {}
    if wanted.name is not None:
        after["name"] = " ".join(unicodedata.normalize("NFKC", wanted.name).split())[:200]
        if not after["name"]:
            fields["name"] = _("请填写姓名")
    if wanted.sex is not None:
        after["sex"] = wanted.sex
        if wanted.sex not in ("M", "F", "O", ""):
            fields["sex"] = _("请选择性别")
    if wanted.birth_date is not None:
        after["birth_date"] = wanted.birth_date
        if not date(1880, 1, 1) <= wanted.birth_date <= clock.now().date():
            fields["birth_date"] = _("出生日期不能晚于今天")
    if wanted.identity_number is not None:
        after["identity_number"] = ""
        if wanted.identity_number.strip():
            found = check_identity_number(wanted.identity_number)
            if isinstance(found, IdentityNumber):
                after["identity_number"] = found.normalised
            else:
                fields["identity_number"] = _("身份证号无效,请核对")
    if after["identity_number"] and "identity_number" not in fields:
        number = check_identity_number(after["identity_number"])
        assert isinstance(number, IdentityNumber)
        if after["sex"] in ("M", "F") and after["sex"] != number.sex:
            fields.setdefault("sex", _("性别与身份证号不符"))
        if after["birth_date"] is not None and after["birth_date"] != number.birth_date:
            fields.setdefault("birth_date", _("出生日期与身份证号不符"))
    if fields:
        raise Invalid(fields=fields)
    changed = [name for name in IDENTITY_FIELDS if before[name] != after[name]]
    if not changed:
        raise Invalid(_("没有改动"), code="nothing-changed")
    for name in changed:
        setattr(patient, name, after[name])
    if "birth_date" in changed:
        patient.birth_estimated = False
    if "name" in changed:
        keys = pinyin.keys(patient.name)
        patient.pinyin, patient.initials = keys.full[:400], keys.initials[:60]
    session.flush()
    session.add(
        PatientCorrection(
            patient_id=patient.id,
            at=clock.now(),
            actor_id=actor.id,
            actor_name=actor.name,
            reason=said,
            before=_plain(before, changed),
            after=_plain(after, changed),
        )
    )
    audit.record(
        session,
        actor,
        "patient.correct",
        "patient",
        patient.id,
        org_id=patient.org_id,
        patient_id=patient.id,
        changed=changed,
    )
    jobs.enqueue(session, CHANGED_JOB, {"patients": [patient.id]}, priority=1)
    live.publish(session, "patient", patient.id)
    evaluate(session, patient)
    return patient


def _plain(values: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: values[name].isoformat() if isinstance(values[name], date) else values[name] for name in names}


# --- looking -------------------------------------------------------------------------------------------------------


def pairs(session: Session, state: PairState, *, page: int = 1, size: int = 30) -> tuple[list[PatientPair], int]:
    """A page of the pairs in a state, the newest first, and how many there are. For deciders: the whole county's."""
    statement = select(PatientPair).where(PatientPair.state == state.value)
    total = session.scalar(select(func.count()).select_from(statement.subquery())) or 0
    ordered = statement.order_by(PatientPair.changed_at.desc(), PatientPair.id.desc())
    return list(session.scalars(ordered.offset((page - 1) * size).limit(size))), total


def waiting(session: Session) -> int:
    """How many candidates and conflicts wait for a decision."""
    return session.scalar(select(func.count()).where(PatientPair.state.in_([S.CANDIDATE.value, S.CONFLICT.value]))) or 0


def history(session: Session, pair_ids: Collection[str]) -> list[PatientPairEvent]:
    """What happened to pairs, the newest first."""
    return list(
        session.scalars(
            select(PatientPairEvent).where(PatientPairEvent.pair_id.in_(pair_ids)).order_by(PatientPairEvent.id.desc())
        )
    )


def corrections(session: Session, patient_ids: Collection[str]) -> list[PatientCorrection]:
    """What was corrected of patients, the newest first."""
    return list(
        session.scalars(
            select(PatientCorrection)
            .where(PatientCorrection.patient_id.in_(patient_ids))
            .order_by(PatientCorrection.at.desc(), PatientCorrection.id.desc())
        )
    )


def pairs_among(session: Session, patient_ids: Collection[str]) -> list[PatientPair]:
    """Pairs with one side or both among patients, of which something holds."""
    return list(
        session.scalars(
            select(PatientPair)
            .where(
                or_(PatientPair.one_id.in_(patient_ids), PatientPair.two_id.in_(patient_ids)),
                PatientPair.state != S.NONE.value,
            )
            .order_by(PatientPair.changed_at.desc())
        )
    )
