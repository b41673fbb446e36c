"""What must be true afterwards, asked of the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.exams.models import Exam, Transition
from hub.exams.states import TRANSITIONS, Event, State
from hub.reading.conversation.models import RetakeRequest, ThreadEntry
from hub.reports.models import Report, ReportVersion, SavedText, StrayText
from simulation.actors import Ledger

FINAL = frozenset({State.SIGNED, State.RETURNED, State.SEEN, State.VOID, State.RETAKE})
HOLDS = frozenset({Event.CLAIM, Event.CLAIM_REVIEW, Event.WITHDRAW})


def faults(session: Session, exams: Sequence[str], ledger: Ledger) -> list[str]:
    """Everything that is wrong; an empty list is the wanted answer."""
    found: list[str] = [f"server error: {one}" for one in ledger.broken]
    rows = {exam.id: exam for exam in session.scalars(select(Exam).where(Exam.id.in_(list(exams))))}
    found += [f"{exam}: lost" for exam in exams if exam not in rows]
    for exam in rows.values():
        if State(exam.state) not in FINAL:
            found.append(f"{exam.id}: left in {exam.state}")
        if exam.lease_token or exam.lease_person_id or exam.lease_until:
            found.append(f"{exam.id}: left leased")
    found += _signatures(session, rows, ledger)
    found += _walks(session, rows)
    found += _words(session, ledger)
    found += _retakes(session, rows)
    return found


def _signatures(session: Session, rows: dict[str, Exam], ledger: Ledger) -> list[str]:
    """One exam, one signed original by two people, one number; what was acknowledged as signed is that."""
    found: list[str] = []
    versions: dict[str, list[ReportVersion]] = {}
    numbers: Counter[str] = Counter()
    for report, version in session.execute(
        select(Report, ReportVersion)
        .join(ReportVersion, ReportVersion.report_id == Report.id)
        .where(Report.exam_id.in_(list(rows)))
    ):
        versions.setdefault(report.exam_id, []).append(version)
        if version.state == "signed":
            numbers[report.number or ""] += 1
    signs = Counter(
        session.scalars(
            select(Transition.exam_id).where(Transition.event == "sign", Transition.exam_id.in_(list(rows)))
        )
    )
    acknowledged: dict[str, set[str]] = {}
    for exam_id, number in ledger.signed:
        acknowledged.setdefault(exam_id, set()).add(number)
    for exam in rows.values():
        mine = versions.get(exam.id, [])
        signed = [version for version in mine if version.state == "signed"]
        if len(mine) > 1 or len(signed) > 1 or signs[exam.id] > 1:
            found.append(f"{exam.id}: {len(mine)} versions, {len(signed)} signed, {signs[exam.id]} signatures")
        if exam.state in (State.SIGNED, State.RETURNED, State.SEEN) and len(signed) != 1:
            found.append(f"{exam.id}: {exam.state} with {len(signed)} signed versions")
        if signed and (signed[0].author_id == signed[0].signer_id or not signed[0].signer_id):
            found.append(f"{exam.id}: author and signer are one")
        if signed and (len(acknowledged.get(exam.id, set())) != 1):
            found.append(f"{exam.id}: signed, acknowledged as {acknowledged.get(exam.id)}")
        if exam.id in acknowledged and not signed:
            found.append(f"{exam.id}: acknowledged as signed, and is not")
    found += [f"number {number!r} was given {times} times" for number, times in numbers.items() if times > 1]
    return found


def _walks(session: Session, rows: dict[str, Exam]) -> list[str]:
    """The log of each exam is a walk through the table of states, with one holder at a time and a clock that only goes on."""
    found: list[str] = []
    walks: dict[str, list[Transition]] = {exam_id: [] for exam_id in rows}
    for step in session.scalars(select(Transition).where(Transition.exam_id.in_(list(rows))).order_by(Transition.id)):
        walks[step.exam_id].append(step)
    for exam_id, steps in walks.items():
        state, last = State.TO_READ, None
        for step in steps:
            rule = TRANSITIONS.get((State(step.from_state), Event(step.event)))
            if step.from_state != state or rule is None or rule.target != step.to_state:
                found.append(f"{exam_id}: {state} -{step.event}-> {step.to_state} is no step")
                break
            if last is not None and step.at < last:
                found.append(f"{exam_id}: its clock went back at {step.event}")
            state, last = State(step.to_state), step.at
        else:
            if state != rows[exam_id].state:
                found.append(f"{exam_id}: the log ends in {state}, the exam is {rows[exam_id].state}")
    return found


def _words(session: Session, ledger: Ledger) -> list[str]:
    """Every text that was acknowledged stands in a version or beside one; answers and messages stand where they were said."""
    found: list[str] = []
    kept: dict[str, str] = {}
    for exam_id, version in session.execute(
        select(Report.exam_id, ReportVersion).join(ReportVersion, ReportVersion.report_id == Report.id)
    ):
        kept[exam_id] = kept.get(exam_id, "") + version.findings
    for exam_id, body in session.execute(
        select(Report.exam_id, SavedText.body)
        .join(ReportVersion, ReportVersion.id == SavedText.version_id)
        .join(Report, Report.id == ReportVersion.report_id)
    ):
        kept[exam_id] = kept.get(exam_id, "") + json.dumps(body)
    for exam_id, body in session.execute(select(StrayText.exam_id, StrayText.body)):
        kept[exam_id] = kept.get(exam_id, "") + json.dumps(body)
    found += [f"{exam}: text {mark} is gone" for exam, mark in ledger.texts if mark not in kept.get(exam, "")]
    histories = {row[0]: row[1] for row in session.execute(select(Exam.id, Exam.history))}
    found += [
        f"{exam}: answer {mark} stands {histories[exam].count(mark)} times"
        for exam, mark in ledger.answers
        if histories[exam].count(mark) != 1
    ]
    said = Counter(session.scalars(select(ThreadEntry.text).where(ThreadEntry.kind == "message")))
    found += [f"{exam}: message {mark}" for exam, mark in ledger.messages if said[f"请问 {mark}"] != 1]
    return found


def _retakes(session: Session, rows: dict[str, Exam]) -> list[str]:
    """Whoever ended as a retake has exactly one retake that lives, linked both ways."""
    found: list[str] = []
    made = dict(
        session.execute(
            select(Exam.retake_of_id, func.count()).where(Exam.retake_of_id.is_not(None)).group_by(Exam.retake_of_id)
        ).all()
    )
    registered = set(session.scalars(select(RetakeRequest.exam_id).where(RetakeRequest.state == "registered")))
    for exam in rows.values():
        wanted = 1 if exam.state == State.RETAKE else 0
        if exam.state != State.VOID and (made.get(exam.id, 0) != wanted or (exam.id in registered) != bool(wanted)):
            found.append(f"{exam.id}: {exam.state} with {made.get(exam.id, 0)} retakes")
    return found
