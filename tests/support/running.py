"""A whole hub in processes of its own, started and ended as an operator would: `hub run` on a free port."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from hub.cli.client import Client, Login
from hub.kit.settings import Settings
from support.brokers import Broker

ROOT = Path(__file__).parents[2]
AS_SHIPPED: dict[str, Any] = {"worker_nice": Settings.model_fields["worker_nice"].default}
"""Settings that hubs in tests have otherwise, for what measures."""
SERVER = os.environ.get("HUB_TEST_STACK") == "server"


_given: set[int] = set()
"""Ports that `free_port` has given: whoever has one may not listen on it yet."""


def free_port() -> int:
    """A port of the loopback that nobody listens on now, and that no other process of the same test run is given.

    Below those that the system gives to connections: one of these could take it before the server that it is for.
    """
    chance = random.Random(os.urandom(8))
    shares = max(1, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % shares
    for _try in range(200):
        port = chance.randrange(20_000 + share, 32_000, shares)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no port is free")


def listens(port: int, *, within: float = 30) -> None:
    """Wait until somebody listens on a port of the loopback."""
    until = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        assert time.monotonic() < until, f"nobody listens on port {port}"
        time.sleep(0.05)


def hub_environment(data: Path, **settings: Any) -> dict[str, str]:
    """The environment of a hub in `data`, without what the machine may have set for others."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    chosen = {
        "DATA_DIR": data,
        "SECRET_KEY": "test-only-" + "x" * 40,
        "LOG_LEVEL": "WARNING",
        "DIMSE_PORT": 0,
        "WEB_PROCESSES": 1,
        # Beside a suite that takes every core, what steps back would hardly come to its turn.
        "WORKER_NICE": 0,
        **settings,
    }
    env |= {f"HUB_{name.upper()}": str(value) for name, value in chosen.items()}
    return env | {"PYTHONUNBUFFERED": "1"}


def hub(*arguments: str, env: dict[str, str], timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a `hub` command to its end."""
    command = [sys.executable, "-m", "hub.cli", *arguments]
    return subprocess.run(
        command, cwd=env["HUB_DATA_DIR"] if Path(env["HUB_DATA_DIR"]).is_dir() else ROOT, env=env | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


@dataclass
class RunningHub:
    """A hub that runs; `stop()` ends it wholly.

    `environment` are further HUB_ settings without their prefix. On the server stack (HUB_TEST_STACK=server) it has a
    database, a broker and a bucket of its own.
    """

    data: Path
    sample: bool = True
    fill: bool = False
    environment: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _database: str = ""
    _broker: Broker | None = None

    def __post_init__(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        settings: dict[str, Any] = {"http_port": self.port, **self.environment}
        if SERVER:
            settings |= self._servers()
        self.env = hub_environment(self.data, **settings)
        self.log = self.data.parent / f"{self.data.name}.log"

    def _servers(self) -> dict[str, str]:
        base = make_url(os.environ["HUB_TEST_DATABASE_URL"])
        self._database = f"hub_run_{uuid.uuid4().hex[:10]}"
        engine = create_engine(base, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f'CREATE DATABASE "{self._database}"'))
        engine.dispose()
        head, _slash, tail = os.environ["HUB_TEST_S3_URL"].rpartition("/")
        query = tail.partition("?")[2]
        # Two hubs at once must not take each other's messages: what each is told of are rows of its own database.
        self._broker = Broker()
        return {
            "database_url": base.set(database=self._database).render_as_string(hide_password=False),
            "object_store_url": f"{head}/hub-{uuid.uuid4().hex[:12]}" + (f"?{query}" if query else ""),
            "broker_url": self._broker.url,
        }

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, within: float = 120) -> RunningHub:
        """Start it and wait until it is ready."""
        command = [sys.executable, "-m", "hub.cli", "run", *(["--sample"] if self.sample else [])]
        env = self.env | {"PYTHONPATH": str(ROOT)}
        if self.sample and not self.fill:
            env["HUB_SAMPLE_STUDIES"] = "false"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.data, env=env, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(f"the hub ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            if self.ready():
                return self
            time.sleep(0.1)
        raise AssertionError(f"the hub was not ready within {within} s:\n{self.log.read_text()[-3000:]}")

    def ready(self) -> bool:
        """Whether /readyz answers 200."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def children(self) -> dict[str, psutil.Process]:
        """The processes that the supervisor started, by their command: serve, worker, scheduler."""
        assert self.process is not None
        names = {"hub.server": "serve", "hub.protocols.dimse.server": "dimse", "worker": "worker", "beat": "scheduler"}
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            for word, name in names.items():
                if word in words:
                    found.setdefault(name, child)
        return found

    def kill(self, name: str) -> None:
        """kill -9 of the whole process group of `serve`, `worker` or `scheduler`."""
        child = self.children().get(name)
        if child is not None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def started_again(self, name: str, before: int) -> bool:
        """Whether a child runs under `name` that is not the process `before`.

        Looks once: between two looks the supervisor may have buried the one and not yet started the other.
        """
        child = self.children().get(name)
        return child is not None and child.pid != before

    def everything(self) -> list[psutil.Process]:
        """The supervisor and all below it."""
        if self.process is None or self.process.poll() is not None:
            return []
        try:
            root = psutil.Process(self.process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def interrupt(self, *, within: float = 60) -> int:
        """Ctrl-C; its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(within)

    def stop(self) -> None:
        """End it and all its processes, and drop its database."""
        processes = self.everything()
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(processes, timeout=10)
        if self._database:
            engine = create_engine(make_url(os.environ["HUB_TEST_DATABASE_URL"]), isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f'DROP DATABASE IF EXISTS "{self._database}" WITH (FORCE)'))
            engine.dispose()
            self._database = ""
        if self._broker is not None:
            self._broker.give_back()
            self._broker = None

    def hub(self, *arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """A `hub` command beside it, with the same settings."""
        return hub(*arguments, env=self.env, timeout=timeout)

    def logins(self) -> dict[str, Login]:
        """The sample county's logins by name."""
        found = json.loads(self.hub("sample", "--json").stdout)
        return {row["login"]: Login.of(row) for row in found["logins"]}

    def client(self, login: str, password: str = "sample-county", *, patience: float = 0) -> Client:
        """Somebody logged in."""
        return Client(self.url, patience=patience).log_in(login, password)
