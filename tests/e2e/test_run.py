"""`hub run`: it starts, refuses clearly, keeps its processes alive and ends all of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import create_engine, text

from support.running import RunningHub, free_port, hub, hub_environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
EMBEDDED = pytest.mark.embedded


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningHub]:
    """A hub with the sample county's people and no studies."""
    started = RunningHub(tmp_path / "var")
    try:
        yield started.start()
    finally:
        started.stop()


def _eventually(what: Callable[[], bool], within: float) -> bool:
    until = time.monotonic() + within
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.1)
    return False


def test_it_says_where_it_is_and_who_can_log_in(running: RunningHub) -> None:
    assert _eventually(lambda: "Ctrl-C" in running.log.read_text(), 60)
    said = running.log.read_text()
    assert running.url in said
    assert "tech01" in said
    assert "sample-county" in said
    assert "271828" in said
    assert running.client("reviewer01").me["roles"] == ["reviewer"]


def test_ctrl_c_ends_every_process(running: RunningHub) -> None:
    assert _eventually(lambda: len(running.children()) == 3, 60)
    processes = running.everything()
    assert running.interrupt() == 0
    gone, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    assert len(gone) >= 4
    with pytest.raises(httpx.ConnectError):
        httpx.get(running.url + "/healthz", trust_env=False)


@pytest.mark.parametrize("name", ["serve", "worker", "scheduler"])
def test_a_killed_process_is_started_again(running: RunningHub, name: str) -> None:
    # The supervisor starts the worker and the scheduler once it has seen the web server answer; from then on it watches.
    assert _eventually(lambda: len(running.children()) == 3, 60)
    before = running.children()[name].pid
    running.kill(name)
    assert _eventually(lambda: running.started_again(name, before), 60)
    assert _eventually(running.ready, 60)
    assert running.process is not None
    assert running.process.poll() is None


def test_a_second_start_keeps_what_is_there(running: RunningHub) -> None:
    tech = running.client("tech01")
    form = {
        "name": "王伟", "sex": "M", "age": "45", "modality": "CT", "body_parts": ["chest"],
        "history": "咳嗽一周", "doctor": "李明", "doctor_phone": "13900000000",
    }  # fmt: skip
    exam = tech.post("/api/exams", form)
    assert running.interrupt() == 0
    running.start()
    assert running.client("tech01").get(f"/api/exams/{exam['id']}")["accession"] == exam["accession"]


def test_sample_lists_organisations_and_logins(running: RunningHub) -> None:
    logins = running.logins()
    assert {login.role for login in logins.values()} == {
        "technologist", "clinician", "reporter", "reviewer", "expert", "quality", "director", "administrator",
        "operator",
    }  # fmt: skip
    assert logins["reviewer01"].pin
    assert _eventually(lambda: running.hub("doctor").returncode == 0, 60), "the worker shows itself within seconds"


def test_sample_is_refused_elsewhere(tmp_path: Path) -> None:
    env = hub_environment(tmp_path)
    assert hub("db", "upgrade", env=env).returncode == 0
    done = hub("sample", "--json", env=env)
    assert done.returncode == 1
    assert "sample county is not in this hub" in done.stderr
    assert hub("rehearse", env=env).returncode == 1


# --- refusals -----------------------------------------------------------------------------------------------------


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = hub("run", "--sample", env=hub_environment(tmp_path, http_port=port))
    assert done.returncode == 2
    assert f"Port {port} is taken" in done.stderr
    assert "HUB_HTTP_PORT" in done.stderr


@pytest.mark.parametrize("command", ["run", "serve", "worker"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, command: str) -> None:
    # A file where the folder should be: modes would not stop a privileged test.
    (tmp_path / "file").write_text("x")
    folder = tmp_path / "file" / "var"
    done = hub(command, env=hub_environment(folder, http_port=free_port()))
    assert done.returncode == 2
    assert str(folder) in done.stderr
    assert "HUB_DATA_DIR" in done.stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    done = hub("run", env=hub_environment(tmp_path, http_port=free_port(), min_free_mb=10**9))
    assert done.returncode == 2
    assert "HUB_MIN_FREE_MB" in done.stderr
    assert "Make room" in done.stderr


@EMBEDDED
def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    env = hub_environment(tmp_path, http_port=free_port())
    assert hub("db", "upgrade", env=env).returncode == 0
    engine = create_engine(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    done = hub("run", env=env)
    assert done.returncode == 2
    assert "newer than this code" in done.stderr
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


@EMBEDDED
def test_a_database_out_of_reach_is_named(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody:x@127.0.0.1:{free_port()}/none"
    done = hub("run", env=hub_environment(tmp_path, http_port=free_port(), database_url=url))
    assert done.returncode == 2
    assert "HUB_DATABASE_URL" in done.stderr


@EMBEDDED
def test_the_sample_county_stays_on_loopback(tmp_path: Path) -> None:
    started = RunningHub(tmp_path / "var")
    try:
        started.start()
        assert started.interrupt() == 0
        done = hub("run", env=started.env | {"HUB_BIND": "0.0.0.0"})
        assert done.returncode == 2
        assert "sample county" in done.stderr
        assert hub("serve", env=started.env | {"HUB_BIND": "0.0.0.0"}).returncode == 2
    finally:
        started.stop()


@EMBEDDED
def test_bound_elsewhere_the_sample_county_is_not_made(tmp_path: Path) -> None:
    started = RunningHub(tmp_path / "var", environment={"bind": "0.0.0.0"})
    try:
        started.start()
        assert "left out" in started.log.read_text()
        assert started.hub("sample", "--json").returncode == 1
    finally:
        started.stop()
