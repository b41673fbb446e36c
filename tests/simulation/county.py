"""The county that is simulated: readers of two hospitals, clinics, a director, and exams that wait to be read."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field

from hub.accounts.models import Person
from hub.accounts.roles import Role
from hub.kit import clock
from hub.kit.db import database
from hub.reports.checks.catalogue import CHECKS
from hub.sites.models import CountySetting
from support.reading import make_exam
from support.world import PASSWORD, PASSWORD_HASH, make_world


@dataclass
class County:
    """Who plays and what is read: logins, ids of the exams."""

    readers: list[str] = field(default_factory=list)
    reviewers: list[str] = field(default_factory=list)
    clinics: list[str] = field(default_factory=list)
    director: str = "director"
    password: str = PASSWORD
    exams: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)


def seed(readers: int, exams: int, *, chance: random.Random) -> County:
    """Write the county into the empty database of the settings; each hospital needs two reviewers (8 readers)."""
    assert readers >= 8, "a report whose author is the only reviewer is never signed"
    world = make_world()
    county = County(clinics=["technologist", "technologist.c02"])
    with database().writing() as session:
        # What the texts say is not the question here.
        session.add(
            CountySetting(
                name="report_checks",
                value=dict.fromkeys(CHECKS, "off"),
                changed_at=clock.now(),
                changed_by="simulation",
            )
        )
        for number in range(readers):
            reviews = number % 2 == 0
            login = f"reader{number:02}"
            session.add(
                Person(
                    org_id=world.orgs["H01" if number % 4 < 2 else "H02"].id,
                    login=login,
                    name=f"医师{number:02}",
                    roles=[Role.REPORTER.value, Role.REVIEWER.value] if reviews else [Role.REPORTER.value],
                    password_hash=PASSWORD_HASH,
                    created_at=clock.now(),
                )
            )
            county.readers.append(login)
            if reviews:
                county.reviewers.append(login)
    for number in range(exams):
        priority = chance.choices(["routine", "urgent", "emergency"], [6, 2, 1])[0]
        county.exams.append(
            make_exam(
                world,
                org="C01" if number % 2 else "C02",
                reading="H01" if number % 2 else "H02",
                modality="DX",
                body_parts=["chest"],
                priority=priority,
                due_minutes=chance.uniform(5, 300),
                name=f"患者{number:04}",
            )
        )
    return county
