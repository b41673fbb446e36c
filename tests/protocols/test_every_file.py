"""Every file that pydicom ships; the real images beside the clone too: in by STOW and by C-STORE, and back."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from hub.dicom import codecs, reader
from hub.dicom.errors import DicomRefused
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from hub.studies import intake
from support.dimse import RunningDimse, device
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

# What lies in the object store is the same on every stack, and its ranges are the contract suite's.
pytestmark = [pytest.mark.slow, pytest.mark.embedded, pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore")]

SHARED = Path(__file__).parents[3] / "shared" / "data"
TARGETS = {
    "uncompressed": "1.2.840.10008.1.2.1",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
    "HTJ2K": "1.2.840.10008.1.2.4.201",
}


@dataclass
class File:
    """A file as it is sent.

    `parsed` is None where the hub's reader takes it for no DICOM instance; `sampled` says whether it is also asked for
    in other transfer syntaxes (of a series of many slices only some are).
    """

    name: str
    data: bytes
    sampled: bool
    parsed: reader.ParsedInstance | None = None

    @property
    def uids(self) -> tuple[str, str, str]:
        """Study, series, instance."""
        assert self.parsed is not None
        return self.parsed.study_instance_uid, self.parsed.series_instance_uid, self.parsed.sop_instance_uid


def read_header(data: bytes) -> reader.ParsedInstance | None:
    """What the hub's reader sees; None where it refuses."""
    try:
        return reader.read(data, limits=intake.limits())
    except DicomRefused:
        return None


def every_file() -> Iterator[File]:
    """All of them. What has a study's or an instance's UID that an earlier one had gets others of the same length."""
    seen: set[str] = set()
    paths = [(Path(path), True) for path in sorted(map(str, get_testdata_files()))]
    paths += [(path, number % 16 == 0) for number, path in enumerate(sorted((SHARED / "ct-head-ge").rglob("*")))]
    paths += [
        (path, number % 40 == 0) for number, path in enumerate(sorted((SHARED / "ct-phantom-philips").rglob("*")))
    ]
    paths += [(path, True) for path in sorted((SHARED / "xray").glob("*.dcm"))]
    for path, sampled in paths:
        if path.is_file():
            yield fresh(File(path.name, path.read_bytes(), sampled), seen)


def fresh(file: File, seen: set[str]) -> File:
    """The file, with identifiers of its own where an earlier file had its SOP Instance UID (a variant of that one)."""
    file.parsed = read_header(file.data)
    if file.parsed is None or not all(file.uids):
        return file
    if file.uids[2] in seen:
        for uid in dict.fromkeys(file.uids):
            numbers = (f"{uid[:-3]}{number}" for number in range(100, 1000))
            other = next(other for other in numbers if other not in seen)
            file.data = file.data.replace(uid.encode(), other.encode())
            seen.add(other)
        file.parsed = read_header(file.data)
    if file.parsed is not None:
        seen.update(file.uids)
    return file


@dataclass
class Door:
    """The hub as a client sees it, and what went wrong."""

    address: str
    key: str
    stored: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=self.address, headers={"Authorization": f"Bearer {self.key}"}, timeout=120, trust_env=False
        )

    def get(self, uids: tuple[str, str, str], syntax: str) -> httpx.Response:
        """An instance in a transfer syntax; `*` is as it was stored."""
        path = "/dicomweb/studies/{}/series/{}/instances/{}".format(*uids)
        return self.client.get(path, headers={"Accept": f"application/dicom; transfer-syntax={syntax}"})

    def came_back(self, file: File, *, whole: bool = False) -> str | None:
        """What is wrong with what the hub gives back as it was stored; None where its bytes are those that were sent.

        Args:
            file: As it was sent.
            whole: Whether the file header was sent too. A data set without one gets one, which Part 10 asks for.
        """
        assert file.parsed is not None
        answer = self.get(file.uids, "*")
        if answer.status_code != 200:
            return f"{file.name}: {answer.status_code} {answer.text[:200]}"
        if whole and file.data[128:132] == b"DICM":
            return None if answer.content == file.data else f"{file.name}: came back otherwise"
        kept, sent = read_header(answer.content), file.data[file.parsed.dataset_offset :]
        same = kept is not None and answer.content[kept.dataset_offset :] == sent
        return None if same else f"{file.name}: its data set came back otherwise"

    def judge(self) -> None:
        """The verdict over all files."""
        print(f"{self.stored} stored; refused: {self.refused}")
        assert not self.wrong, "\n".join(self.wrong)
        assert self.stored > 100

    def check_transcoded(self, file: File) -> None:
        """The pixels of every transfer syntax it is given in are those that were sent."""
        assert file.parsed is not None
        sent = pixels(file.data, file.parsed)
        for name, syntax in TARGETS.items():
            answer = self.get(file.uids, syntax)
            if answer.status_code == 406 and (name != "uncompressed" or sent is None):
                continue
            if answer.status_code != 200:
                self.wrong.append(f"{file.name} as {name}: {answer.status_code} {answer.text[:150]}")
                continue
            got = pydicom.dcmread(io.BytesIO(answer.content), force=True)
            if sent is None or "PixelData" not in got:
                continue
            try:
                given = pixel_array(got)
            except Exception as error:
                self.wrong.append(f"{file.name} as {name}: {type(error).__name__} {str(error)[:150]}")
                continue
            if sent.shape != given.shape or not np.array_equal(sent, given):
                self.wrong.append(f"{file.name} as {name}: other pixels {difference(sent, given)}")


def difference(one: Any, other: Any) -> str:
    """How two images differ."""
    if one.shape != other.shape:
        return f"{one.shape} {other.shape}"
    return f"by up to {np.abs(one.astype(np.int64) - other.astype(np.int64)).max()}"


def pixels(data: bytes, parsed: reader.ParsedInstance) -> Any:
    """All pixels as pydicom decodes them; None where it cannot."""
    try:
        ds: Dataset = pydicom.dcmread(io.BytesIO(data), force=True)
        if "TransferSyntaxUID" not in getattr(ds, "file_meta", ()):
            ds.ensure_file_meta()
            ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(parsed.transfer_syntax_uid)
        return pixel_array(ds) if "PixelData" in ds else None
    except Exception:
        return None


@pytest.fixture
def door(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    warnings.simplefilter("ignore")
    codecs.register()
    grants.forget()
    with serving(world.app) as address:
        monkeypatch.setattr(get_settings(), "public_url", address)
        yield Door(address, world.key("C01", "stow", "retrieve"))


def stow(door: Door, data: bytes) -> tuple[bool, str]:
    """Whether it was stored, and why not."""
    answer = door.client.post(
        "/dicomweb/studies",
        content=data,
        headers={"Content-Type": "application/dicom", "Accept": "application/dicom+json"},
    )
    if answer.status_code not in (200, 202, 400, 409, 415):
        return False, f"CRASH {answer.status_code} {answer.text[:200]}"
    told = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    if "00081199" in told:
        return True, ""
    failed = (told.get("00081198") or told.get("0008119A") or {}).get("Value", [{}])[0]
    reason = failed.get("00081197", {}).get("Value", [0])[0]
    if not reason:
        return False, f"CRASH without a reason: {answer.status_code} {answer.text[:200]}"
    return False, f"{reason:04X} {''.join(failed.get('00000902', {}).get('Value', []))}".strip()


def test_by_stow(door: Door) -> None:
    for file in every_file():
        stored, why = stow(door, file.data)
        if not stored:
            door.refused[file.name] = why
            if why.startswith("CRASH"):
                door.wrong.append(f"{file.name}: {why}")
            continue
        door.stored += 1
        file.parsed = file.parsed or read_header(file.data)
        assert file.parsed is not None, file.name
        if (wrong := door.came_back(file, whole=True)) is not None:
            door.wrong.append(wrong)
        if file.sampled:
            door.check_transcoded(file)
    door.judge()
    assert door.client.get("/readyz").status_code == 200


class Device:
    """A DIMSE client that sends data sets byte for byte; one association for files of one class and syntax."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kind = ("", "")
        self._association: Any = None

    def send(self, file: File) -> int | str:
        """The status of a C-STORE; a text where it could not be sent."""
        assert file.parsed is not None
        kind = (file.parsed.sop_class_uid, file.parsed.transfer_syntax_uid)
        if self._association is None or self._kind != kind or not self._association.is_established:
            self.close()
            ae = AE("TESTER")
            ae.add_requested_context(*kind)
            self._kind, self._association = kind, ae.associate("127.0.0.1", self._port, ae_title="HUB")
        if not self._association.is_established or not self._association.accepted_contexts:
            return "no association"
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = kind[0], file.uids[2]
        request.Priority = 2
        request.DataSet = io.BytesIO(file.data[file.parsed.dataset_offset :])
        # As the library's own requests do: its thread must not take the answer.
        self._association._reactor_checkpoint.clear()
        while not self._association._is_paused:
            time.sleep(0.001)
        self._association.dimse.send_msg(request, self._association.accepted_contexts[0].context_id)
        _context, answer = self._association.dimse.get_msg(block=True)
        self._association._reactor_checkpoint.set()
        return "no answer" if answer is None else int(answer.Status)

    def close(self) -> None:
        """Release the association."""
        if self._association is not None and self._association.is_established:
            self._association.release()


def test_by_c_store(door: Door, world: World) -> None:
    device(world.orgs["C01"], "TESTER", address="127.0.0.1")
    with RunningDimse(processes=1) as dimse:
        sender = Device(dimse.port)
        for file in every_file():
            if file.parsed is None or not file.uids[2] or not file.parsed.sop_class_uid:
                continue
            status = sender.send(file)
            if isinstance(status, str) or (status and status >> 12 != 0xB):
                door.refused[file.name] = status if isinstance(status, str) else f"{status:04X}"
                if not isinstance(status, int):
                    door.wrong.append(f"{file.name}: {status}")
                continue
            door.stored += 1
            if (wrong := door.came_back(file)) is not None:
                door.wrong.append(wrong)
        sender.close()
        assert all(process.poll() is None for process in dimse.running)
    door.judge()
