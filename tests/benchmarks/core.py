"""The imaging core against Orthanc: every load on both sides in one run, in turn, and the table of targets."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from tests.benchmarks import loads
from tests.benchmarks.rows import Row, Target, text
from tests.benchmarks.sides import CALLING, LOGIN, HubSide, OrthancSide, Peaks, Spent, database_of_its_own, servers

PARTS = ("cstore", "stow", "frames", "rest", "metadata", "viewer", "memory", "qido", "million")
"""In this order: what fills the databases comes last."""

SEARCHES = {
    "QIDO page": "?limit=50&offset=100",
    "QIDO by name": "?PatientName=K1*&limit=50",
    "QIDO by date": "?StudyDate=20240101-20240107&limit=50",
    "QIDO by UID": "?StudyInstanceUID={uid}",
}


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    repeats: int = 3
    studies: int = 8
    seconds: float = 6
    small: int = 10_000
    large: int = 1_000_000
    memory_mb: int = 2048

    @classmethod
    def quick(cls) -> Sizes:
        """To see that it runs, not how fast."""
        return cls(repeats=1, studies=4, seconds=2, small=600, large=20_000, memory_mb=100)


@dataclass
class Run:
    """A run's two sides, what was sent to both, and where files go."""

    hub: HubSide
    peer: OrthancSide
    stack: str
    sizes: Sizes
    folder: Path
    images: list[Dataset]
    services: Path | None = None
    sent: list[loads.Study] = field(default_factory=list)
    serial: int = 0

    def studies(self, label: str, count: int | None = None, *, body: bool = True) -> list[loads.Study]:
        """Fresh studies that neither side has seen."""
        self.serial += 1
        target = self.folder / "made" / f"{label}{self.serial}"
        return loads.studies(self.images, target, count or self.sizes.studies, f"{label}{self.serial}n", body=body)

    def in_turn(self, measure: Callable[[Any], float], *, settle: bool = True) -> tuple[list[float], list[float]]:
        """Readings of both sides, A B, then B A, each after the other has come to rest (unless not `settle`)."""
        found: dict[str, list[float]] = {self.hub.name: [], self.peer.name: []}
        for number in range(self.sizes.repeats):
            sides: list[Any] = [self.hub, self.peer]
            for side in sides if number % 2 == 0 else reversed(sides):
                found[side.name].append(measure(side))
                if settle:
                    side.settle()
        return found[self.hub.name], found[self.peer.name]

    def target(self, sense: Any, embedded: float, server: float | None = None, unit: str = "×") -> Target:
        """The target of this stack."""
        return Target(sense, server if server is not None and self.stack == "server" else embedded, unit)

    def some(self) -> list[loads.Study]:
        """Studies that both sides hold."""
        if not self.sent:
            self.sent = self.studies("BASE")
            for side in (self.hub, self.peer):
                loads.stow(side.dicomweb, side.headers, [one.body for one in self.sent], 4, self.folder)
                side.settle()
        return self.sent


def stow(run: Run) -> Iterator[Row]:
    """Store Instances with four clients, a study of 28 slices a request."""
    batches = [run.studies("STOW") for _ in range(run.sizes.repeats)]
    count = sum(len(one.sops) for one in batches[0])
    sizes = sum(one.body.stat().st_size for one in batches[0])
    taken: dict[str, int] = {}
    spent = Spent(run.hub, run.services)

    def one(side: Any) -> float:
        batch = batches[taken.setdefault(side.name, 0)]
        taken[side.name] += 1
        with spent if side is run.hub else nullcontext():
            return count / loads.stow(side.dicomweb, side.headers, [study.body for study in batch], 4, run.folder)

    hub, peer = run.in_turn(one)
    run.sent = run.sent or batches[0]
    note = f"{len(batches[0])} requests of {len(batches[0][0].sops)} instances, {sizes / count / 1e6:.2f} MB each"
    note += f"; {spent.told(count * len(batches))}"
    yield Row("stow", "STOW, 4 clients", "instances/s", hub, peer, target=run.target("≥", 1.5, 1), note=note)
    if run.stack == "server":
        bare = [_bare_puts(run, batch) for batch in batches]
        target = Target("≥", 0.6)
        yield Row("stow", "STOW, 4 clients", "instances/s", hub, bare, "minio client's puts", target)


def _bare_puts(run: Run, batch: list[loads.Study]) -> float:
    """Objects a second that four threads of the minio client put, one object an instance."""
    import os
    from concurrent.futures import ThreadPoolExecutor
    from urllib.parse import urlsplit
    from uuid import uuid4

    from minio import Minio

    url = urlsplit(os.environ["HUB_TEST_S3_URL"])
    client = Minio(f"{url.hostname}:{url.port}", url.username, url.password, secure=False)
    bucket = f"bare-{uuid4().hex[:12]}"
    client.make_bucket(bucket)
    files = [path for study in batch for path in study.files]

    def put(path: Path) -> None:
        with path.open("rb") as file:
            client.put_object(bucket, uuid4().hex, file, path.stat().st_size)

    with ThreadPoolExecutor(4) as pool:
        begun = time.monotonic()
        list(pool.map(put, files))
        seconds = time.monotonic() - begun
    for found in client.list_objects(bucket):
        client.remove_object(bucket, found.object_name or "")
    client.remove_bucket(bucket)
    return len(files) / seconds


def cstore(run: Run) -> Iterator[Row]:
    """C-STORE by dcmsend, one association and four at once."""
    for width, target in ((1, Target("≥", 5)), (4, Target("≥", 3))):
        batches = [run.studies("DIMSE", body=False) for _ in range(run.sizes.repeats)]
        count = sum(len(one.sops) for one in batches[0])
        taken: dict[str, int] = {}
        spent = Spent(run.hub, run.services)

        def one(
            side: Any,
            batches: Any = batches,
            taken: Any = taken,
            count: int = count,
            width: int = width,
            spent: Spent = spent,
        ) -> float:
            batch = batches[taken.setdefault(side.name, 0)]
            taken[side.name] += 1
            with spent if side is run.hub else nullcontext():
                return count / loads.cstore(side.dimse, side.aet, CALLING, [study.folder for study in batch], width)

        hub, peer = run.in_turn(one)
        name = f"C-STORE, {width} association{'s' * (width > 1)}"
        note = spent.told(count * len(batches))
        yield Row("cstore", name, "instances/s", hub, peer, target=target, note=note)


def frames(run: Run) -> Iterator[Row]:
    """Retrieve of single frames as they lie, before and after recompression at rest."""

    def rate(side: Any, sent: list[loads.Study]) -> float:
        headers = side.headers | {"Accept": loads.ANY_FRAME}
        paths = loads.frame_paths(sent)
        return loads.get(
            side.dicomweb, paths, headers, width=8, seconds=run.sizes.seconds, scratch=run.folder
        ).per_second

    with run.hub.without_workers():
        fresh = run.studies("RAW")
        for side in (run.hub, run.peer):
            loads.stow(side.dicomweb, side.headers, [one.body for one in fresh], 4, run.folder)
        raw = [rate(run.hub, fresh) for _ in range(run.sizes.repeats)]
        raw_peer = [rate(run.peer, fresh) for _ in range(run.sizes.repeats)]
    yield Row(
        "frames", "WADO-RS frames before recompression, 8 clients", "frames/s", raw, raw_peer,
        note="workers held still; as many bytes a frame as Orthanc sends",
    )  # fmt: skip
    run.hub.settle()
    run.hub.recompress()
    hub, peer = run.in_turn(lambda side: rate(side, fresh))
    yield Row(
        "frames", "WADO-RS frames, 8 clients", "frames/s", hub, peer, target=run.target("≥", 1.5, 1.2),
        note="after recompression at rest: HTJ2K without loss from the hub, uncompressed from Orthanc",
    )  # fmt: skip


def rest(run: Run) -> Iterator[Row]:
    """Bytes to open a raw CT, and bytes that it takes at rest."""
    sent = run.some()
    run.hub.settle()
    run.hub.recompress()
    for coded, name in ((False, "no coding accepted"), (True, "gzip, br, zstd accepted, as browsers do")):
        hub, peer = (
            loads.opening_bytes(side.dicomweb, side.headers, sent[0], coded=coded) / 1e6 for side in (run.hub, run.peer)
        )
        yield Row("rest", f"bytes to open a raw CT study, {name}", "MB", [hub], [peer], target=Target("≤", 0.3),
                  note="bodies of its series' metadata and all its frames")  # fmt: skip
    before = {side.name: side.at_rest() for side in (run.hub, run.peer)}
    more = run.studies("REST")
    for side in (run.hub, run.peer):
        loads.stow(side.dicomweb, side.headers, [one.body for one in more], 4, run.folder)
    run.hub.settle()
    said = run.hub.recompress()
    grown = [(side.at_rest() - before[side.name]) / 1e6 for side in (run.hub, run.peer)]
    yield Row("rest", f"bytes at rest, {len(more)} raw CT studies", "MB", [grown[0]], [grown[1]],
              target=Target("≤", 0.35),
              note=f"the hub's with previews and prepared metadata, after replaced objects went; {said}")  # fmt: skip


def metadata(run: Run) -> Iterator[Row]:
    """Metadata of whole series."""
    sent = run.some()
    run.hub.settle()
    paths = loads.metadata_paths(sent)

    def rate(side: Any) -> float:
        headers = side.headers | {"Accept": loads.JSON}
        return loads.get(
            side.dicomweb, paths, headers, width=8, seconds=run.sizes.seconds, scratch=run.folder
        ).per_second

    hub, peer = run.in_turn(rate)
    yield Row("metadata", "series metadata, 8 clients", "series/s", hub, peer, target=Target("≥", 2))


def qido(run: Run) -> Iterator[Row]:
    """Searches among the small studies; the hub's workers, which have their previews to make, are held still."""
    bodies = loads.small_studies(run.folder / "small", run.sizes.small)
    uid = run.some()[0].uid
    with run.hub.without_workers():
        for side in (run.hub, run.peer):
            begun = time.monotonic()
            loads.stow(side.dicomweb, side.headers, bodies, 4, run.folder)
            print(f"{side.name}: {run.sizes.small} small studies in {time.monotonic() - begun:.0f} s", flush=True)
        for name, query in SEARCHES.items():
            path = "/studies" + query.format(uid=uid)

            def rate(side: Any, path: str = path) -> float:
                headers = side.headers | {"Accept": loads.JSON}
                seconds = max(2, run.sizes.seconds * 0.6)
                return loads.get(
                    side.dicomweb, [path], headers, width=4, seconds=seconds, scratch=run.folder
                ).per_second

            hub, peer = run.in_turn(rate, settle=False)
            wanted = None if "UID" in name else Target("≥", 3)
            yield Row("qido", f"{name}, {run.sizes.small:,} studies, 4 clients", "answers/s", hub, peer, target=wanted)


def viewer(run: Run) -> Iterator[Row]:
    """OHIF over a slow line: the first image, and all of a head CT."""
    from tests.benchmarks.viewer import measure

    sent = run.some()
    run.hub.settle()
    run.hub.recompress()
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(run.sizes.repeats):
        study = sent[number % len(sent)]
        images = len(study.sops)
        for warm in (False, True):
            one = measure(run.hub.running.url, study.uid, login=LOGIN, images=images, warm=warm)
            other = measure(run.peer.url, study.uid, images=images, warm=warm, viewer="/ohif/index.html", timeout=120)
            for who, got in ((run.hub.name, one), (run.peer.name, other)):
                for what in ("first_image_s", "all_slices_s"):
                    found.setdefault(f"{what}{warm}", {}).setdefault(who, []).append(got[what])
    for warm, state in ((False, "cold"), (True, "warm")):
        for what, name in (("first_image_s", "first image in OHIF"), ("all_slices_s", f"all {images} slices in OHIF")):
            got = found[f"{what}{warm}"]
            yield Row("viewer", f"{name}, {state}, 10 Mbit/s and 50 ms", "s", got[run.hub.name], got[run.peer.name],
                      target=Target("≤", 0.3))  # fmt: skip


def memory(run: Run) -> Iterator[Row]:
    """Memory of every process while a large study arrives."""
    limit = Target("≤", 300, "MB")
    slices = max(1, run.sizes.memory_mb * 1_000_000 // max(1, len(run.images[0].PixelData)))
    images = [run.images[number % len(run.images)] for number in range(slices)]
    for way in ("STOW", "C-STORE"):
        target = run.folder / "made" / f"large{way}"
        (large,) = loads.studies(images, target, 1, f"L{way[0]}{run.serial}", body=way == "STOW")
        readings: list[float] = []
        told = ""
        for side in (run.hub, run.peer):
            with Peaks(side) as seen:
                if way == "STOW":
                    loads.stow(side.dicomweb, side.headers, [large.body], 1, run.folder)
                else:
                    loads.cstore(side.dimse, side.aet, CALLING, [large.folder], 1)
            readings.append(seen.largest())
            told = told or seen.told()
        yield Row(
            "memory", f"largest process while {run.sizes.memory_mb / 1024:.1f} GB arrive by {way}", "MB",
            [readings[0]], [readings[1]], target=limit, note=told,
        )  # fmt: skip
        _forget(target)
        run.hub.settle(3600)


def _forget(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder)


def million(run: Run) -> Iterator[Row]:
    """What pages cost at many studies, to what they cost at few; in hubs of their own."""
    found: dict[str, list[list[float]]] = {}
    for count in (run.sizes.small, run.sizes.large):
        hub = HubSide(run.folder / f"population{count}", minio=run.hub.minio)
        try:
            hub.start()
            begun = time.monotonic()
            key = _populate(hub, count)
            print(f"{count:,} studies written in {time.monotonic() - begun:.0f} s", flush=True)
            hub.settle(3600)
            for name, readings in _latencies(run, hub, key).items():
                found.setdefault(name, []).append(readings)
        finally:
            hub.stop()
    for name, (few, many) in found.items():
        yield Row(
            "million", f"{name}, P95 at {run.sizes.large:,} to that at {run.sizes.small:,}", "ms", many, few,
            f"at {run.sizes.small:,}", Target("≤", 2),
        )  # fmt: skip


def _populate(hub: HubSide, count: int) -> str:
    from tests.benchmarks.population import machine_key, populate

    with hub.database():
        populate(count, say=True)
        return machine_key()


def _latencies(run: Run, hub: HubSide, key: str) -> dict[str, list[float]]:
    """P95 in ms of every search and of the queue page, some times each."""
    headers = {"Authorization": f"Bearer {key}", "Accept": loads.JSON}
    seconds = max(2, run.sizes.seconds * 0.6)
    found: dict[str, list[float]] = {}
    reader = hub.running.client(*LOGIN)
    for _ in range(run.sizes.repeats):
        for name, query in SEARCHES.items():
            if "UID" in name:
                continue
            rate = loads.get(hub.dicomweb, [f"/studies{query}"], headers, width=1, seconds=seconds, scratch=run.folder)
            found.setdefault(name, []).append(rate.p95)
        times = []
        for _number in range(40):
            begun = time.perf_counter()
            reader.request("GET", "/queue")
            times.append((time.perf_counter() - begun) * 1000)
        found.setdefault("queue page", []).append(sorted(times)[37])
    return found


LOADS: dict[str, Callable[[Run], Iterator[Row]]] = {
    "cstore": cstore,
    "stow": stow,
    "frames": frames,
    "rest": rest,
    "metadata": metadata,
    "viewer": viewer,
    "qido": qido,
    "memory": memory,
    "million": million,
}


def play(
    stack: str, parts: list[str], sizes: Sizes, *, images: Path | None = None, keep_going: bool = True
) -> tuple[list[Row], dict[str, Any]]:
    """Start both sides, play the loads, end everything.

    Args:
        stack: `embedded` or `server`.
        parts: Which of PARTS, in their order.
        sizes: How much.
        images: Folder of the CT to send; None: see `loads.ct`.
        keep_going: Whether a load that fails is told and the next one played.

    Returns:
        The rows, and what was measured against.
    """
    random.seed(1)
    rows: list[Row] = []
    about: dict[str, Any] = {"failed": {}}
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as name, ExitStack() as stack_of:
        folder = Path(name)
        # PostgreSQL runs as a user of its own and must pass through.
        folder.chmod(0o711)
        minio, postgres = None, ""
        if stack == "server":
            found = stack_of.enter_context(servers(folder / "services"))
            minio, postgres = folder / "services" / "minio", database_of_its_own(found["HUB_TEST_DATABASE_URL"])
        slices, about["images"] = loads.ct(images)
        viewer_files = None
        if "viewer" in parts:
            from tests.benchmarks.viewer import peer_files

            viewer_files = peer_files(folder / "ohif", "/dicom-web")
        peer = OrthancSide(folder / "orthanc", postgres=postgres, viewer=viewer_files).start()
        stack_of.callback(peer.stop)
        hub = HubSide(folder / "hub", minio=minio)
        stack_of.callback(hub.stop)
        hub.start()
        about["peer"] = peer.version()
        print(f"{about['peer']}; {about['images']}", flush=True)
        services = folder / "services" if stack == "server" else None
        run = Run(hub, peer, stack, sizes, folder, slices, services)
        for part in [part for part in PARTS if part in parts]:
            try:
                for row in LOADS[part](run):
                    rows.append(row)
                    print(text(row), flush=True)
            except Exception as error:
                if not keep_going:
                    raise
                about["failed"][part] = f"{type(error).__name__}: {error}"[:2000]
                print(f"{part} FAILED: {about['failed'][part]}", flush=True)
    return rows, about
