"""The two sides: the hub as users start it, and Orthanc, each in a folder of its own on free ports."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import psutil

ROOT = Path(__file__).parents[2]
CALLING = "BENCH"
LOGIN = ("reader01a", "sample-county")


class Side(Protocol):
    """A server that takes and gives DICOM."""

    name: str

    @property
    def dicomweb(self) -> str:
        """The root of its DICOMweb."""

    @property
    def headers(self) -> dict[str, str]:
        """What each request must carry."""

    @property
    def dimse(self) -> tuple[str, int]:
        """Where it listens for DIMSE."""

    @property
    def aet(self) -> str:
        """The AE title by which it is called."""

    def processes(self) -> dict[int, str]:
        """Its processes by id, and what each is; database and object servers are not among them."""

    def settle(self) -> None:
        """Wait until it has nothing to do, so that the other side has the machine."""

    def at_rest(self) -> int:
        """Bytes of the images it keeps."""


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL, Redis and MinIO for the server stack; their addresses are in the environment meanwhile.

    PostgreSQL flushes as it does by default, unlike in tests.
    """
    script = ROOT / ".ci" / "services"
    subprocess.run([script, "start", str(folder)], check=True, stdout=subprocess.DEVNULL)
    try:
        lines = (folder / "env").read_text("utf-8").splitlines()
        found = dict(line.split("=", 1) for line in lines if "=" in line)
        os.environ.update(found, HUB_TEST_STACK="server")
        _execute(found["HUB_TEST_DATABASE_URL"], "ALTER SYSTEM SET fsync = on", "SELECT pg_reload_conf()")
        yield found
    finally:
        subprocess.run([script, "stop", str(folder)], check=False)


def _execute(url: str, *statements: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def database_of_its_own(url: str) -> str:
    """A fresh PostgreSQL database beside that of `url`; its address."""
    from sqlalchemy.engine import make_url

    name = f"peer_{uuid4().hex[:10]}"
    _execute(url, f'CREATE DATABASE "{name}"')
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def folder_bytes(folder: Path) -> int:
    """Sizes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


class HubSide:
    """The hub, by `hub run`, with the sample county and a device and an API key of one of its clinics.

    Args:
        folder: For its data.
        minio: The folder of MinIO's data on the server stack.
    """

    name = "hub"
    aet = "HUB"

    def __init__(self, folder: Path, *, minio: Path | None = None) -> None:
        # Only now: which stack it runs on is read from the environment when this module is imported.
        from support.running import AS_SHIPPED, RunningHub, free_port

        self.dimse: tuple[str, int] = ("127.0.0.1", free_port())
        self.minio = minio
        self.running = RunningHub(
            folder / "var",
            environment={
                "dimse_port": self.dimse[1],
                "web_processes": 2,
                **AS_SHIPPED,
                "quiet_period_seconds": 3,
                "quarantine_max_mb": 512,
            },
        )
        self.headers: dict[str, str] = {}

    def start(self) -> HubSide:
        """Start it, and let the benchmark's clients in."""
        self.running.start()
        scopes = ("--scope", "stow", "--scope", "retrieve")
        key = self._hub("key", "add", "--org", "C01", *scopes).strip()
        self.headers = {"Authorization": f"Bearer {key}"}
        self._hub("device", "add", "--org", "C01", "--aet", CALLING, "--address", "127.0.0.1")
        return self

    def stop(self) -> None:
        """End it."""
        self.running.stop()

    @property
    def dicomweb(self) -> str:
        """The door for machines."""
        return f"{self.running.url}/dicomweb"

    def _hub(self, *arguments: str, timeout: float = 600) -> str:
        done = self.running.hub(*arguments, timeout=timeout)
        assert done.returncode == 0, f"hub {' '.join(arguments[:2])}: {done.stdout}{done.stderr}"
        return done.stdout

    def processes(self) -> dict[int, str]:
        """Its processes by id, and the command of each."""
        return {one.pid: what_is(one) for one in self.running.everything()}

    @contextmanager
    def without_workers(self) -> Iterator[None]:
        """Its background work stands still meanwhile."""
        workers = [one for one in self.running.everything() if what_is(one) == "worker"]
        for one in workers:
            one.suspend()
        try:
            yield
        finally:
            for one in workers:
                one.resume()

    @contextmanager
    def database(self) -> Iterator[None]:
        """Its settings are this process's meanwhile, for what writes and reads its database directly."""
        from hub.kit.db import reset_database
        from hub.kit.settings import get_settings

        before = dict(os.environ)
        os.environ.update({name: value for name, value in self.running.env.items() if name.startswith("HUB_")})
        get_settings.cache_clear()
        reset_database()
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
            reset_database()
            get_settings.cache_clear()

    def waiting(self) -> int:
        """How many jobs are due or run."""
        from datetime import timedelta

        from sqlalchemy import func, or_, select

        from hub.kit import clock
        from hub.kit.db import database
        from hub.kit.jobs import QUEUED, RUNNING, Job

        with self.database(), database().reading() as session:
            soon = clock.now() + timedelta(seconds=10)
            due = or_(Job.state == RUNNING, (Job.state == QUEUED) & (Job.run_after < soon))
            return session.scalar(select(func.count()).select_from(Job).where(due)) or 0

    def settle(self, within: float = 900) -> None:
        """Wait until no job has been due for two seconds: previews, metadata and recompression are done."""
        until, quiet = time.monotonic() + within, 0
        while quiet < 4:
            quiet = 0 if self.waiting() else quiet + 1
            assert time.monotonic() < until, f"{self.waiting()} jobs still wait after {within:.0f} s"
            time.sleep(0.5)

    def recompress(self) -> str:
        """Recompress what is left, and delete at once what has been replaced; what the command says."""
        return self._hub("archive", "recompress", "--grace", "0").strip().splitlines()[-1]

    def at_rest(self) -> int:
        """Bytes of all it keeps of images, previews included."""
        if self.minio is None:
            return folder_bytes(self.running.data / "objects")
        bucket = self.running.env["HUB_OBJECT_STORE_URL"].rpartition("/")[2].partition("?")[0]
        return folder_bytes(self.minio / bucket)


@dataclass
class OrthancSide:
    """Orthanc with DICOMweb."""

    folder: Path
    postgres: str = ""
    viewer: Path | None = None
    name: str = "Orthanc"
    aet: str = "ORTHANC"
    headers: dict[str, str] = field(default_factory=dict)

    def start(self) -> OrthancSide:
        """Start it."""
        from support.orthanc import Orthanc

        folders = {"/ohif": self.viewer} if self.viewer else {}
        self._running = Orthanc(self.folder, aet=self.aet, postgres=self.postgres, folders=folders).start()
        return self

    def stop(self) -> None:
        """End it."""
        self._running.stop()

    @property
    def url(self) -> str:
        """Its address."""
        return self._running.url

    @property
    def dicomweb(self) -> str:
        """The root of its DICOMweb."""
        return self._running.dicomweb

    @property
    def dimse(self) -> tuple[str, int]:
        """Where it listens for DIMSE."""
        return ("127.0.0.1", self._running.dimse_port)

    def processes(self) -> dict[int, str]:
        """Its one process."""
        return {one.pid: "orthanc" for one in self._running.processes()}

    def settle(self) -> None:
        """It works only while it is asked."""

    def at_rest(self) -> int:
        """Bytes of the files in its storage, without the index."""
        storage = self.folder / "storage"
        return folder_bytes(storage) - sum(path.stat().st_size for path in storage.glob("index*"))

    def version(self) -> str:
        """Its version and that of its plugin, as it says them."""
        plugin = self._running.ask("GET", "/plugins/dicom-web")["Version"]
        return f"Orthanc {self._running.ask('GET', '/system')['Version']}, DICOMweb plugin {plugin}"


def what_is(process: psutil.Process) -> str:
    """What one of the hub's processes does, by its command line."""
    try:
        words = " ".join(process.cmdline())
    except psutil.Error:
        return "ended"
    for mark, name in (("hub.server", "web"), ("dimse", "dimse"), (" worker", "worker"), (" beat", "scheduler")):
        if mark in words:
            return name
    return "supervisor" if "hub.cli" in words else "other"


class Peaks:
    """The most memory that each process held while it was watched: `with Peaks(side) as seen: …`.

    RSS, sampled ten times a second; pages that processes share are counted in each.
    """

    def __init__(self, side: Any) -> None:
        self._side = side
        self.most: dict[int, int] = {}
        self.names: dict[int, str] = {}
        self._end = threading.Event()

    def __enter__(self) -> Peaks:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.is_set():
            self.names |= self._side.processes()
            for pid in list(self.names):
                try:
                    rss = psutil.Process(pid).memory_info().rss
                except psutil.Error:
                    continue
                self.most[pid] = max(self.most.get(pid, 0), rss)
            self._end.wait(0.1)

    def largest(self) -> float:
        """MB of the largest process."""
        return max(self.most.values()) / 1e6

    def told(self) -> str:
        """The largest process of each kind."""
        kinds: dict[str, float] = {}
        for pid, size in self.most.items():
            kinds[self.names[pid]] = max(kinds.get(self.names[pid], 0), size / 1e6)
        return ", ".join(f"{kind} {size:.0f} MB" for kind, size in sorted(kinds.items(), key=lambda one: -one[1]))


class Spent:
    """Processor time of everything that works at a load: `with Spent(side, services) as spent: …; spent.told(count)`.

    Args:
        side: Whose processes.
        services: Folder of the servers that it keeps its data in, if it has such.
    """

    def __init__(self, side: Any, services: Path | None = None) -> None:
        self._side = side
        self._services = services
        self._before: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Spent:
        self._before = self._now()
        return self

    def __exit__(self, *_exception: object) -> None:
        after = self._now()
        for kind, seconds in after.items():
            self.seconds[kind] = self.seconds.get(kind, 0) + seconds - self._before.get(kind, 0)

    def _now(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for pid, kind in {**self._side.processes(), **self._servers()}.items():
            with contextlib.suppress(psutil.Error):
                times = psutil.Process(pid).cpu_times()
                found[kind] = found.get(kind, 0) + times.user + times.system
        # Clients are children that have ended.
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        found["client"] = ended.ru_utime + ended.ru_stime
        return found

    def _servers(self) -> dict[int, str]:
        found: dict[int, str] = {}
        for file in self._services.glob("*.pid") if self._services else ():
            with contextlib.suppress(psutil.Error, ValueError):
                first = psutil.Process(int(file.read_text()))
                found |= {one.pid: file.stem for one in (first, *first.children(recursive=True))}
        return found

    def told(self, count: int) -> str:
        """Milliseconds for each of `count` instances by kind, and how many a second these leave the cores at most."""
        each = {
            kind: 1000 * seconds / count for kind, seconds in self.seconds.items() if seconds * 1000 / count >= 0.05
        }
        cores = os.cpu_count() or 1
        parts = ", ".join(f"{kind} {ms:.1f}" for kind, ms in sorted(each.items(), key=lambda one: -one[1]))
        return (
            f"the hub's processor time an instance, ms: {parts}; "
            f"{cores} cores that were never idle would end at {cores * 1000 / sum(each.values()):.0f} a second"
        )
