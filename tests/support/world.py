"""A small county for tests: two clinics, two hospitals, a supporting hospital, one person of each role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from argon2 import PasswordHasher
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from hub.accounts import sessions
from hub.accounts.models import Person
from hub.accounts.roles import COUNTY_WIDE_ROLES, Role
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.ids import new_secret
from hub.kit.settings import get_settings
from hub.sites.models import Agreement, ApiKey, Organisation

# A hash says its own cost: the hub's takes 20 ms at each log-in, which tests of other things need not wait for.
PASSWORD = "correct-horse-9"
PASSWORD_HASH = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)


@dataclass
class World:
    """Organisations by code, people by login, and clients that are logged in as them.

    Organisations: C01, C02 (clinics), H01 (reads for C01), H02 (reads for C02), T01 (supporting), HUB.
    People of C01/H01/HUB are named by their role (`technologist`, `reporter`, …, `operator`); others are
    `technologist.c02`, `clinician.c02`, `reporter.h02`, `reviewer.h02`, and `reviewer2` of H01.
    """

    orgs: dict[str, Organisation] = field(default_factory=dict)
    people: dict[str, Person] = field(default_factory=dict)
    _app: FastAPI | None = None

    @property
    def app(self) -> FastAPI:
        """The application, made once."""
        if self._app is None:
            from hub.app import create_app
            from support.once import with_known_routes

            self._app = with_known_routes(create_app())
        return self._app

    def actor(self, login: str) -> Actor:
        """The actor that `login` would be, without a session."""
        person = self.people[login]
        org = next(org for org in self.orgs.values() if org.id == person.org_id)
        return Actor(
            kind="person",
            id=person.id,
            name=person.name,
            org_id=org.id,
            org_kind=org.kind,
            roles=frozenset(person.roles),
            ip="127.0.0.1",
        )

    def anonymous(self) -> TestClient:
        """A client that nobody is logged in with."""
        return TestClient(self.app, raise_server_exceptions=False, follow_redirects=False)

    def client(self, login: str) -> TestClient:
        """A client with a session of `login` and its CSRF header."""
        client = self.anonymous()
        with database().writing() as session:
            person = session.get_one(Person, self.people[login].id)
            token, row = sessions.start(
                session, person, ip="testclient", agent="test", settings=get_settings(), second_factor=False
            )
        client.cookies.set(sessions.SESSION_COOKIE, token)
        client.headers["X-CSRF-Token"] = row.csrf
        return client

    def key(self, org: str = "C01", *scopes: str) -> str:
        """A fresh API key of `org`."""
        token = sessions.KEY_PREFIX + new_secret()
        with database().writing() as session:
            session.add(
                ApiKey(
                    org_id=self.orgs[org].id,
                    label="test",
                    prefix=token[:12],
                    sha256=sessions.digest(token),
                    scopes=list(scopes) or ["stow", "retrieve"],
                    created_at=clock.now(),
                    created_by="test",
                )
            )
        return token

    def machine(self, org: str = "C01", *scopes: str) -> TestClient:
        """A client with an API key of `org`."""
        client = self.anonymous()
        client.headers["Authorization"] = f"Bearer {self.key(org, *scopes)}"
        return client


def _org(session: Session, code: str, kind: str, name: str, name_en: str, **more: Any) -> Organisation:
    org = Organisation(
        code=code, kind=kind, name=name, name_en=name_en, issuer=f"360731.{code}", created_at=clock.now(), **more
    )
    session.add(org)
    session.flush()
    return org


def make_world() -> World:
    """Write the county into the database of the settings."""
    world = World()
    with database().writing() as session:
        for code, kind, name, name_en in (
            ("C01", "clinic", "银坑镇卫生院", "Yinkeng Clinic"),
            ("C02", "clinic", "岭背镇卫生院", "Lingbei Clinic"),
            ("H01", "hospital", "县人民医院", "County People's Hospital"),
            ("H02", "hospital", "县中医院", "County Hospital of Chinese Medicine"),
            ("T01", "tertiary", "市附属医院", "City University Hospital"),
            ("HUB", "hub", "影像中心", "Imaging Centre"),
        ):
            world.orgs[code] = _org(
                session, code, kind, name, name_en, policy={"double_signature": True}, phone="0797-1234567"
            )
        for clinic, hospital in (("C01", "H01"), ("C02", "H02")):
            session.add(Agreement(clinic_id=world.orgs[clinic].id, hospital_id=world.orgs[hospital].id, rank=1))
        where = {
            Role.TECHNOLOGIST: "C01",
            Role.CLINICIAN: "C01",
            Role.REPORTER: "H01",
            Role.REVIEWER: "H01",
            Role.EXPERT: "T01",
        }
        plan = [(role.value, role, where.get(role, "HUB")) for role in Role]
        plan += [
            ("technologist.c02", Role.TECHNOLOGIST, "C02"),
            ("clinician.c02", Role.CLINICIAN, "C02"),
            ("reporter.h02", Role.REPORTER, "H02"),
            ("reviewer.h02", Role.REVIEWER, "H02"),
            ("reviewer2", Role.REVIEWER, "H01"),
        ]
        names = [
            "张伟",
            "王芳",
            "李娜",
            "刘洋",
            "陈静",
            "杨磊",
            "赵敏",
            "黄强",
            "周杰",
            "吴婷",
            "徐明",
            "孙丽",
            "马超",
            "朱军",
        ]
        for index, (login, role, code) in enumerate(plan):
            person = Person(
                org_id=world.orgs[code].id,
                login=login,
                name=names[index],
                roles=[role.value],
                password_hash=PASSWORD_HASH,
                created_at=clock.now(),
            )
            session.add(person)
            world.people[login] = person
        session.flush()
        session.expunge_all()
    return world


COUNTY_WIDE = {role.value for role in COUNTY_WIDE_ROLES}
