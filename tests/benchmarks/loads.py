"""What is sent and asked, and the foreign clients that do it: curl, wrk and dcmsend.

They are written in C, so that the client costs little of the cores that it shares with the server.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hub.dicom.phantoms import PhantomPatient, generate

BOUNDARY = "hub-bench"
ANY_FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
JSON = "application/dicom+json"
SAMPLE = Path(__file__).parents[3] / "shared" / "data" / "ct-head-ge"
"""A real CT, where it lies beside the clone; a generated one is used elsewhere."""


def missing() -> list[str]:
    """Which of the clients are not on this machine."""
    return [name for name in ("curl", "wrk", "dcmsend") if shutil.which(name) is None]


@dataclass
class Study:
    """One study to send: its identifiers, its files, and all of them as one request body."""

    uid: str
    series: str
    sops: list[str] = field(default_factory=list)
    folder: Path = Path()
    body: Path = Path()

    @property
    def files(self) -> list[Path]:
        """Its files in order."""
        return sorted(self.folder.iterdir())


def ct(folder: Path | None) -> tuple[list[Dataset], str]:
    """The slices of a raw head CT, and where they are from.

    Args:
        folder: Of DICOM files; None: the sample beside the clone, or a generated CT.
    """
    chosen = folder or (SAMPLE if SAMPLE.is_dir() else None)
    if chosen is not None:
        found = [pydicom.dcmread(path, force=True) for path in sorted(chosen.rglob("*")) if path.is_file()]
        images = [one for one in found if "PixelData" in one]
        return images, f"{len(images)} slices of {chosen.name}"
    patient = PhantomPatient("B1", "王伟", "M", birth_date=date(1970, 1, 1))
    made = generate("ct_head", seed=1, patient=patient, study_time=datetime(2026, 1, 2, 9), slices=28)  # noqa: DTZ001
    return [pydicom.dcmread(io.BytesIO(one)) for one in made], "28 slices of a generated head CT"


def studies(images: list[Dataset], target: Path, count: int, label: str, *, body: bool = True) -> list[Study]:
    """Write `count` copies of a CT, each of a patient of its own, with fresh identifiers.

    Args:
        images: Its slices; they are changed.
        target: A folder, made if missing.
        count: How many studies.
        label: Begins their numbers.
        body: Whether a multipart body is written beside the files.
    """
    made = []
    for number in range(count):
        study = Study(generate_uid(), generate_uid(), folder=target / f"{label}{number}")
        study.folder.mkdir(parents=True)
        for position, image in enumerate(images):
            image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (
                study.uid,
                study.series,
                generate_uid(),
            )
            image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
            image.PatientID, image.PatientName = f"{label}{number}", f"BENCH^{label}{number}"
            image.AccessionNumber = f"{label}{number}"[:16]
            image.save_as(study.folder / f"{position:05}.dcm")
            study.sops.append(image.SOPInstanceUID)
        if body:
            study.body = target / f"{label}{number}.multipart"
            write_body(study.files, study.body)
        made.append(study)
    return made


def write_body(files: list[Path], target: Path) -> None:
    """All files as the parts of one Store Instances request."""
    with target.open("wb") as out:
        for path in files:
            out.write(f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode())
            with path.open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
            out.write(b"\r\n")
        out.write(f"--{BOUNDARY}--\r\n".encode())


def small_studies(target: Path, count: int, at_once: int = 200) -> list[Path]:
    """Bodies of `count` studies of one instance without pixels, for searches.

    Names begin with any letter and five digits, dates spread over ten years: both are the same in every run.
    """
    dice = random.Random(1)
    target.mkdir(parents=True, exist_ok=True)
    bodies: list[Path] = []
    batch: list[Path] = []
    one = Dataset()
    one.SOPClassUID, one.Modality, one.Manufacturer = "1.2.840.10008.5.1.4.1.1.2", "CT", "BENCH"
    one.Rows, one.Columns, one.BitsAllocated = 0, 0, 16
    one.ensure_file_meta()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID
    for number in range(count):
        one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID = (generate_uid() for _ in range(3))
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.PatientID = one.AccessionNumber = f"T{number:07}"
        one.PatientName = f"{dice.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')}{dice.randrange(10**5):05}^TINY"
        one.StudyDate = f"20{dice.randrange(16, 26)}{dice.randrange(1, 13):02}{dice.randrange(1, 29):02}"
        one.StudyTime = f"{dice.randrange(24):02}0000"
        path = target / f"{number}.dcm"
        one.save_as(path, enforce_file_format=True)
        batch.append(path)
        if len(batch) == at_once or number == count - 1:
            bodies.append(target / f"{len(bodies)}.multipart")
            write_body(batch, bodies[-1])
            for path in batch:
                path.unlink()
            batch = []
    return bodies


def stow(base: str, headers: dict[str, str], bodies: list[Path], width: int, scratch: Path) -> float:
    """Seconds in which curl posts all bodies, `width` at a time.

    Raises:
        AssertionError: A request was not answered by 200 or 202.
    """
    wanted = {
        "Content-Type": f'multipart/related; type="application/dicom"; boundary={BOUNDARY}',
        "Accept": JSON,
        "Expect": "",
        **headers,
    }
    lines: list[str] = []
    for number, body in enumerate(bodies):
        lines += ["next"] if number else []
        lines += [f'url = "{base}/studies"', 'request = "POST"', f'upload-file = "{body}"', 'output = "/dev/null"']
        for name, value in wanted.items():
            spoken = f"{name}: {value}" if value else f"{name}:"
            lines.append('header = "' + spoken.replace('"', '\\"') + '"')
        lines.append('write-out = "%{http_code}\\n"')
    file = scratch / "stow.curl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    file.chmod(0o600)
    begun = time.monotonic()
    done = subprocess.run(
        ["curl", "-s", "-Z", "--parallel-max", str(width), "-K", str(file)], capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - begun
    file.unlink()
    codes = done.stdout.split()
    assert len(codes) == len(bodies) and set(codes) <= {"200", "202"}, (
        f"{base} answered {sorted(set(codes))}, {len(codes)} of {len(bodies)}: {done.stderr[-300:]}"
    )
    return seconds


def cstore(address: tuple[str, int], called: str, calling: str, folders: list[Path], width: int) -> float:
    """Seconds in which `width` associations of dcmsend store the files of all folders.

    Raises:
        AssertionError: An association failed or a file was refused.
    """
    host, port = address
    command = ["dcmsend", "-q", "-aec", called, "-aet", calling, "+sd", "+r", "--no-halt", host, str(port)]
    begun = time.monotonic()
    running = [
        subprocess.Popen([*command, *map(str, folders[number::width])], stderr=subprocess.PIPE, text=True)
        for number in range(width)
    ]
    problems = [process.communicate()[1] for process in running]
    seconds = time.monotonic() - begun
    codes = [process.returncode for process in running]
    assert not any(codes), f"dcmsend ended with {codes}: {' '.join(problems)[-500:]}"
    return seconds


@dataclass(frozen=True)
class Rate:
    """What wrk saw: answers a second, bytes a second, latencies in ms."""

    per_second: float
    bytes_per_second: float
    p50: float
    p95: float


_LUA = """
{headers}
local paths = {{{paths}}}
local at = 0
request = function()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
done = function(summary, latency, requests)
  local bad = summary.errors.status + summary.errors.read + summary.errors.timeout + summary.errors.connect
  io.write(string.format('FOUND {{"n":%d,"us":%d,"bytes":%d,"bad":%d,"p50":%d,"p95":%d}}\\n', summary.requests,
    summary.duration, summary.bytes, bad, latency:percentile(50), latency:percentile(95)))
end
"""


def get(base: str, paths: list[str], headers: dict[str, str], *, width: int, seconds: float, scratch: Path) -> Rate:
    """Ask for `paths`, below `base`, in turn with `width` connections.

    Raises:
        AssertionError: An answer was not 2xx.
    """
    root = urlsplit(base)
    script = scratch / "get.lua"
    spoken = "\n".join(f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items())
    listed = ",".join(json.dumps(root.path + path) for path in paths)
    script.write_text(_LUA.format(headers=spoken, paths=listed), "utf-8")
    script.chmod(0o600)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{width}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(script),
         f"{root.scheme}://{root.netloc}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    script.unlink()
    found = json.loads(done.stdout.partition("FOUND ")[2].splitlines()[0])
    assert not found["bad"] and found["n"], f"{base}{paths[0]}: {found}"
    scale = 1e6 / found["us"]
    return Rate(found["n"] * scale, found["bytes"] * scale, found["p50"] / 1e3, found["p95"] / 1e3)


def frame_paths(sent: list[Study]) -> list[str]:
    """Every frame of these studies, in an order that is the same each time but no series'."""
    paths = [
        f"/studies/{study.uid}/series/{study.series}/instances/{sop}/frames/1" for study in sent for sop in study.sops
    ]
    random.Random(2).shuffle(paths)
    return paths


def metadata_paths(sent: list[Study]) -> list[str]:
    """The metadata of every series."""
    return [f"/studies/{study.uid}/series/{study.series}/metadata" for study in sent]


def opening_bytes(base: str, headers: dict[str, str], study: Study, *, coded: bool) -> int:
    """Bytes of bodies on the wire to show a study: its series' metadata and all its frames, as a viewer asks.

    Args:
        base: Root of DICOMweb.
        headers: What each request must carry.
        study: The study.
        coded: Whether answers may come gzipped or the like, as browsers accept it, or only as they are.
    """
    accepts = {"Accept-Encoding": "gzip, deflate, br, zstd" if coded else "identity"}
    total = 0
    with httpx.Client(headers=headers | accepts, timeout=60, trust_env=False) as client:
        asked = [(f"{base}{metadata_paths([study])[0]}", JSON)]
        asked += [(f"{base}{path}", ANY_FRAME) for path in frame_paths([study])]
        for url, accept in asked:
            with client.stream("GET", url, headers={"Accept": accept}) as answer:
                assert answer.status_code == 200, f"{url}: {answer.status_code}"
                for _piece in answer.iter_raw():
                    pass
                total += answer.num_bytes_downloaded
    return total
