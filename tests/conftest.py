"""Fixtures of the whole suite: a fresh hub in a temporary folder, people of each role, an HTTP client.

`HUB_TEST_STACK=server` runs the same tests on PostgreSQL, Redis and S3 instead of the embedded parts.
"""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    from support.brokers import Broker
    from support.databases import Databases
    from support.world import World

sys.path.insert(0, str(Path(__file__).parent))

SERVER = os.environ.get("HUB_TEST_STACK") == "server"
REQUIRE_ALL = os.environ.get("HUB_TEST_REQUIRE_ALL") == "1"

# How long an example takes to make or to try says how busy the machine is, not whether the hub is right. Where
# everything must run the same examples are tried each time, so that a change is not refused for what it did not touch;
# people who run the tests by hand get new ones.
settings.register_profile(
    "hub", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=REQUIRE_ALL, print_blob=True
)
settings.load_profile("hub")


def need(variable: str) -> str:
    """The value of a HUB_TEST_… variable; the test is skipped by name where it is not set."""
    value = os.environ.get(variable, "")
    if not value:
        pytest.skip(f"{variable} is not set")
    return value


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where everything must run, a skip is a failure."""
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although nothing may be: {report.longrepr}"
    return report


_STACK_FIXTURES = frozenset({"hub_env", "running_hub", "template_database", "running"})


_QUICK_ROOMS = ("tests/unit/exams/", "tests/unit/accounts/", "tests/unit/patients/", "tests/unit/sites/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a whole hub is slow, but for some rooms; on the servers only what touches them runs again."""
    for item in items:
        touches = not _STACK_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        if touches and not any(room in item.path.as_posix() for room in _QUICK_ROOMS):
            item.add_marker(pytest.mark.slow)
    if not SERVER:
        # CI runs them on the servers, where nothing is skipped either; others are told by name.
        chosen = [item for item in items if not (REQUIRE_ALL and item.get_closest_marker("server"))]
        for item in chosen:
            if item.get_closest_marker("server"):
                item.add_marker(pytest.mark.skip(reason="about several writers at once: needs HUB_TEST_STACK=server"))
        _choose(config, items, chosen)
        return
    chosen = [
        item
        for item in items
        if not item.get_closest_marker("embedded")
        and (
            not _STACK_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
            or item.get_closest_marker("postgres")
            or item.get_closest_marker("redis")
        )
    ]
    _choose(config, items, chosen)


def _choose(config: pytest.Config, items: list[pytest.Item], chosen: list[pytest.Item]) -> None:
    kept = set(chosen)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = chosen


@pytest.fixture(scope="session")
def template_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A migrated, empty database that each test copies: a file path (SQLite) or the name of a PostgreSQL template."""
    from hub.kit.settings import Settings, get_settings
    from hub.migrations.upgrade import upgrade

    folder = tmp_path_factory.mktemp("template")
    if not SERVER:
        os.environ["HUB_DATA_DIR"] = str(folder)
        get_settings.cache_clear()
        upgrade(get_settings())
        engine = create_engine(f"sqlite:///{folder / 'hub.sqlite'}")
        with engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        engine.dispose()
        yield str(folder / "hub.sqlite")
        return
    name = f"hub_template_{uuid.uuid4().hex[:8]}"
    admin = create_engine(need("HUB_TEST_DATABASE_URL"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    url = make_url(need("HUB_TEST_DATABASE_URL")).set(database=name).render_as_string(hide_password=False)
    os.environ.update(HUB_DATA_DIR=str(folder), HUB_DATABASE_URL=url)
    get_settings.cache_clear()
    upgrade(Settings())
    yield name
    with admin.connect() as connection:
        connection.execute(text(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def databases(template_database: str) -> Iterator[Databases | None]:
    """PostgreSQL databases for the tests of this process, one after another; None on the embedded stack."""
    from support.databases import Databases

    if not SERVER:
        yield None
        return
    found = Databases(make_url(need("HUB_TEST_DATABASE_URL")), template_database)
    yield found
    found.drop()


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker | None]:
    """A Redis database for the tests of this process; None on the embedded stack."""
    from support.brokers import Broker

    if not SERVER:
        yield None
        return
    need("HUB_TEST_BROKER_URL")
    found = Broker()
    yield found
    found.give_back()


@pytest.fixture
def hub_env(
    tmp_path: Path,
    template_database: str,
    databases: Databases | None,
    broker: Broker | None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Settings, database and object store of a fresh, empty hub; yields its data folder."""
    from hub.kit import clock, db, jobs
    from hub.kit.db import reset_database
    from hub.kit.objects import reset_object_store
    from hub.kit.settings import get_settings
    from support.once import one_engine

    data = tmp_path / "var"
    data.mkdir()
    monkeypatch.setenv("HUB_DATA_DIR", str(data))
    monkeypatch.setenv("HUB_SECRET_KEY", "test-only-" + "x" * 40)
    for name in ("HUB_DATABASE_URL", "HUB_BROKER_URL", "HUB_OBJECT_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    if databases is not None and broker is not None:
        broker.empty()
        monkeypatch.setenv("HUB_DATABASE_URL", databases.give().render_as_string(hide_password=False))
        monkeypatch.setenv("HUB_BROKER_URL", broker.url)
        s3 = need("HUB_TEST_S3_URL")
        head, _slash, tail = s3.rpartition("/")
        query = tail.partition("?")[2]
        monkeypatch.setenv(
            "HUB_OBJECT_STORE_URL", f"{head}/hub-{uuid.uuid4().hex[:12]}" + (f"?{query}" if query else "")
        )
    else:
        shutil.copy(template_database, data / "hub.sqlite")
    get_settings.cache_clear()
    reset_database()
    reset_object_store()
    monkeypatch.setattr(db, "make_engine", one_engine(get_settings().database_url))
    yield data
    jobs.set_sender(None)
    clock.set_source(None)
    reset_database()
    reset_object_store()
    get_settings.cache_clear()
    if databases is not None:
        databases.take_back()


@pytest.fixture
def world(hub_env: Path) -> World:
    """A small county with people of each role; see support.world."""
    from support.world import make_world

    return make_world()
