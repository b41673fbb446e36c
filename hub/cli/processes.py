"""`hub run`, `hub serve`, `hub dimse`, `hub worker`, `hub scheduler`: the hub's processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Annotated, TypeVar

import typer

from hub.cli import checks
from hub.kit import lifeline, metrics
from hub.kit.logging import configure, get_logger
from hub.kit.settings import Settings, get_settings

log = get_logger(__name__)
GRACE_SECONDS = 8.0
LISTENER = "HUB_LISTENER"  # as in hub.server, which is loaded by its own process
DIMSE_LISTENERS = "HUB_DIMSE_LISTENERS"  # as in hub.protocols.dimse.server
SETTLED_SECONDS = 5.0
T = TypeVar("T")


def refuse(check: Callable[[Settings], T], settings: Settings) -> T:
    """The result of a check; where it refuses, say so and end with status 2."""
    try:
        return check(settings)
    except checks.Refusal as error:
        typer.echo(f"\nThe hub does not start: {error}\n", err=True)
        raise typer.Exit(2) from None


def serve() -> None:
    """The web server alone, in the foreground: `HUB_WEB_PROCESSES` processes on one port."""
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    refuse(checks.data_folder, settings)
    listening = refuse(checks.listen, settings)
    refuse(checks.schema, settings)
    refuse(checks.sample_stays_home, settings)
    supervisor = Supervisor(settings, listening, web_only=True)
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGTERM, supervisor.stop)
    try:
        supervisor.load()
        if supervisor.start():
            supervisor.watch()
        elif not supervisor.stopping.is_set():
            raise typer.Exit(2)
    finally:
        supervisor.end()


def dimse() -> None:
    """The DIMSE service alone (C-STORE and the like), in the foreground: `HUB_DIMSE_PROCESSES` processes."""
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    refuse(checks.data_folder, settings)
    listening = refuse(checks.listen_dimse, settings)
    if not any(listening):
        typer.echo("\nNothing to do: HUB_DIMSE_PORT is 0 and HUB_DIMSE_TLS_CERT is not set.\n", err=True)
        raise typer.Exit(2)
    refuse(checks.schema, settings)
    refuse(checks.sample_stays_home, settings)
    supervisor = Supervisor(settings, None, dimse=listening)
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGTERM, supervisor.stop)
    try:
        supervisor.start()
        supervisor.watch()
    finally:
        supervisor.end()


def worker() -> None:
    """A worker in the foreground; it starts Celery by name."""
    settings = get_settings()
    refuse(checks.data_folder, settings)
    refuse(checks.schema, settings)
    _exec(_worker_command(settings))


def scheduler() -> None:
    """The scheduler in the foreground: it sends periodic work and does none."""
    settings = get_settings()
    refuse(checks.data_folder, settings)
    _exec(_scheduler_command(settings))


def _celery(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "celery", "--quiet", "--app", "workers.main", *arguments]


def _worker_command(settings: Settings) -> list[str]:
    return _celery(
        *("worker", "--pool", "prefork", "--concurrency", str(settings.worker_concurrency)),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", "WARNING", "--hostname", f"hub-{os.getpid()}@%h"),
    )


def _scheduler_command(settings: Settings) -> list[str]:
    return _celery("beat", "--loglevel", "WARNING", "--pidfile=", "--schedule", str(settings.data_dir / "schedule"))


def _exec(command: list[str]) -> None:
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 (Celery takes this process's place)


@dataclass
class _Process:
    name: str
    command: list[str]
    handle: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    wait: float = field(default=0.5)

    def start(self, env: dict[str, str], descriptors: tuple[int, ...]) -> None:
        # A group of its own: Ctrl-C reaches the supervisor alone, which then stops the rest in order.
        self.handle = subprocess.Popen(
            self.command, env=env, pass_fds=descriptors, start_new_session=True, stdin=subprocess.PIPE
        )
        self.started = time.monotonic()

    def alive(self) -> bool:
        return self.handle is not None and self.handle.poll() is None

    def go(self) -> None:
        """Say that the checks passed."""
        if self.handle is not None and self.handle.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.handle.stdin.write(b"\n")
                self.handle.stdin.close()

    def ask(self) -> None:
        """Ask it to end. Its children are its own to end: a worker finishes the job at hand."""
        if self.handle is not None and self.handle.poll() is None:
            self.handle.terminate()

    def kill(self) -> None:
        """End what is left of it and of its children."""
        if self.handle is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.handle.pid, signal.SIGKILL)
            self.handle.wait()


class Supervisor:
    """Starts the processes, starts again what dies, and ends all of them together."""

    def __init__(
        self,
        settings: Settings,
        listening: socket.socket | None,
        *,
        web_only: bool = False,
        dimse: checks.DimseSockets = (None, None),
    ) -> None:
        self.settings = settings
        self.web = _Process("web server", [sys.executable, "-m", "hub.server"])
        # They share the socket: whichever is idle takes the next connection.
        self.more_web = [
            _Process(f"web server {number}", [sys.executable, "-m", "hub.server"])
            for number in range(2, settings.web_processes + 1)
        ]
        self.worker = _Process("worker", _worker_command(settings))
        self.scheduler = _Process("scheduler", _scheduler_command(settings))
        self.dimse = [
            _Process(f"DIMSE server {number}", [sys.executable, "-m", "hub.protocols.dimse.server"])
            for number in range(1, settings.dimse_processes + 1)
            if any(dimse)
        ]
        self.after = (*self.more_web,) if web_only else (self.worker, self.scheduler, *self.more_web, *self.dimse)
        """What is started once the first web server answers."""
        if listening is None:
            self.after = (*self.dimse,)
        self.processes = (self.web, *self.after) if listening is not None else self.after
        self.stopping = threading.Event()
        self._listening = listening
        self._dimse = dimse
        self._line, self._keep = os.pipe()

    def stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Begin to end."""
        self.stopping.set()

    def load(self) -> None:
        """Start the first web server's process; it serves when `start` says so."""
        metrics.clear(self.settings)
        self._start(self.web)

    def start(self) -> bool:
        """Let the web server serve, and when it answers start the others; False if it ended or was asked to stop."""
        if self._listening is not None:
            self.web.go()
            if not self._ready():
                return False
        for process in self.after:
            self._start(process)
            process.go()
        return True

    def _start(self, process: _Process) -> None:
        env = dict(os.environ)
        env[lifeline.VARIABLE] = str(self._line)
        # Compiled code is kept beside its source: the next start saves a second for each process.
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        descriptors = [self._line]
        if process in self.dimse:
            numbers = [str(one.fileno()) if one is not None else "" for one in self._dimse]
            env[DIMSE_LISTENERS] = ",".join(numbers)
            descriptors += [int(number) for number in numbers if number]
        if self._listening is not None and (process is self.web or process in self.more_web):
            env[metrics.VARIABLE] = str(metrics.folder(self.settings))
            env[LISTENER] = str(self._listening.fileno())
            descriptors.append(self._listening.fileno())
        if process is self.worker and self.settings.is_sqlite:
            # An embedded hub has this one worker, and it is not alive: its leases need not run out first.
            from hub.kit import jobs
            from hub.kit.db import database

            with database().writing() as session:
                jobs.release_all(session)
        process.start(env, tuple(descriptors))

    def watch(self) -> None:
        """Until asked to stop: start again what died, waiting longer each time it dies at once."""
        while not self.stopping.wait(0.3):
            for process in self.processes:
                if process.alive():
                    if time.monotonic() - process.started > SETTLED_SECONDS:
                        process.wait = 0.5
                    continue
                code = process.handle.returncode if process.handle else None
                log.error("a process ended and is started again", process=process.name, status=code)
                process.kill()
                if self.stopping.wait(process.wait):
                    break
                process.wait = min(30.0, process.wait * 2)
                self._start(process)
                process.go()

    def end(self) -> None:
        """End every process: asked politely, then without."""
        for process in reversed(self.processes):
            process.ask()
        limit = time.monotonic() + GRACE_SECONDS
        while any(process.alive() for process in self.processes) and time.monotonic() < limit:
            time.sleep(0.05)
        for process in self.processes:
            process.kill()

    def _ready(self) -> bool:
        import httpx

        host = "127.0.0.1" if self.settings.bind in ("0.0.0.0", "::") else self.settings.bind  # noqa: S104
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{self.settings.http_port}/readyz"
        while not self.stopping.is_set():
            if not self.web.alive():
                return False
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(url, timeout=2, trust_env=False).status_code == 200:
                    return True
            self.stopping.wait(0.15)
        return False


def run(
    sample: Annotated[bool, typer.Option("--sample", help="Fill an empty hub with the sample county.")] = False,
) -> None:
    """The whole hub in the foreground: web server, DIMSE service, worker and scheduler. Ctrl-C ends all of it."""
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    refuse(checks.data_folder, settings)
    listening = refuse(checks.listen, settings)
    supervisor = Supervisor(settings, listening, dimse=refuse(checks.listen_dimse, settings))
    signal.signal(signal.SIGINT, supervisor.stop)
    signal.signal(signal.SIGTERM, supervisor.stop)
    filler: subprocess.Popen[bytes] | None = None
    try:
        supervisor.load()
        from hub.cli import journey

        refuse(checks.schema, settings)
        wanted = settings.sample_county if settings.sample_county is not None else sample
        if wanted and checks.is_empty():
            if checks.is_home(settings):
                journey.seed_people(settings)
            else:
                typer.echo(
                    "The sample county is left out: its passwords are public, and HUB_BIND or HUB_PUBLIC_URL is not "
                    "loopback."
                )
        refuse(checks.sample_stays_home, settings)
        _fresh_broker(settings)
        if supervisor.start():
            typer.echo(journey.welcome(settings))
            if journey.needs_filling():
                filler = subprocess.Popen([sys.executable, "-m", "hub.cli", "sample", "--fill"], start_new_session=True)
            supervisor.watch()
        elif not supervisor.stopping.is_set():
            raise typer.Exit(2)
    finally:
        if filler is not None and filler.poll() is None:
            os.killpg(filler.pid, signal.SIGTERM)
            filler.wait()
        supervisor.end()


def _fresh_broker(settings: Settings) -> None:
    """The embedded broker holds hints only: a new file at each start keeps it small, and WAL quick."""
    name = settings.broker_url.removeprefix("sqla+sqlite:///")
    if Path(name) != settings.data_dir / "broker.sqlite":
        return
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(name + suffix).unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(name)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("run")(run)
    app.command("serve")(serve)
    app.command("dimse")(dimse)
    app.command("worker")(worker)
    app.command("scheduler")(scheduler)
