"""What a reading hospital lets its doctors do."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import object_session

from hub.accounts.models import Person
from hub.exams.models import Exam
from hub.kit import clock
from hub.reading.signatures import policy_of


def needs_second_signature(exam: Exam, person_id: str | None = None, at: datetime | None = None) -> bool:
    """Whether the reading hospital wants a reviewer who is not the author.

    An exam that no hospital has taken yet is under the strict rule.

    Args:
        exam: The exam, of an open session where a person is named.
        person_id: Whose own report it is; without, what holds in general.
        at: When he would sign; by default now.
    """
    policy = policy_of(exam.reading_org)
    if person_id is None:
        return policy.double
    session = object_session(exam)
    person = session.get(Person, person_id) if session is not None else None
    return not policy.may_sign_alone(person, emergency=exam.priority != "routine", at=at or clock.now())


def is_resident(exam: Exam, person_id: str | None) -> bool:
    """Whether an attending must review what this person writes, by the policy of the exam's hospital."""
    session = object_session(exam)
    person = session.get(Person, person_id) if session is not None and person_id else None
    return policy_of(exam.reading_org).is_resident(person)


def may_issue_preliminary(exam: Exam, person_id: str, at: datetime | None = None) -> bool:
    """Whether this person may send the clinic a preliminary report of the exam at a time (by default now)."""
    session = object_session(exam)
    person = session.get(Person, person_id) if session is not None else None
    return policy_of(exam.reading_org).may_issue_preliminary(
        person, emergency=exam.priority != "routine", at=at or clock.now()
    )
