"""Orthanc as a peer: it sends to the hub, asks it and fetches from it, by DIMSE and by DICOMweb."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from support import orthanc
from support.dimse import RunningDimse, device
from support.orthanc import Orthanc
from support.running import free_port
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.stranger]

FILES = (
    *("CT_small.dcm", "rtdose.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm", "J2K_pixelrep_mismatch.dcm"),
    *("SC_rgb_small_odd_jpeg.dcm", "examples_ybr_color.dcm", "test-SR.dcm"),
)
"""Uncompressed and compressed, grey and colour, one and several frames, and one without pixels."""


@dataclass
class Peers:
    """Orthanc and the hub, who know each other."""

    peer: Orthanc
    hub: str
    headers: dict[str, str]

    def have(self, names: tuple[str, ...] = FILES) -> dict[str, bytes]:
        """Give Orthanc these files; by its own identifiers."""
        return {self.peer.ask("POST", "/instances", content(name))["ID"]: content(name) for name in names}

    def forget(self) -> None:
        """Orthanc deletes all that it has."""
        for study in self.peer.ask("GET", "/studies"):
            self.peer.ask("DELETE", f"/studies/{study}")

    def peer_has(self) -> dict[str, bytes]:
        """Orthanc's files by SOP Instance UID."""
        found = {}
        for one in self.peer.ask("GET", "/instances"):
            answer = httpx.get(f"{self.peer.url}/instances/{one}/file", timeout=60, trust_env=False)
            found[str(read(answer.content).SOPInstanceUID)] = answer.content
        return found

    def hub_has(self, ds: Dataset) -> httpx.Response:
        """The hub's answer to a request for this instance, as it came."""
        path = f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
        accept = {"Accept": "application/dicom; transfer-syntax=*"}
        return httpx.get(f"{self.hub}/dicomweb/{path}", headers=self.headers | accept, timeout=60, trust_env=False)

    def send_by_stow(self) -> None:
        """Orthanc sends all that it has."""
        sent = self.peer.ask(
            "POST", "/dicom-web/servers/hub/stow", {"Resources": self.peer.ask("GET", "/studies"), "Synchronous": True}
        )
        assert sent


@pytest.fixture
def peers(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Peers]:
    if orthanc.missing():
        pytest.skip(f"{orthanc.missing()} is not installed")
    grants.forget()
    listens = free_port()
    device(world.orgs["C01"], "ORTHANC", address="127.0.0.1", queries=True, host="127.0.0.1", port=listens)
    headers = {"Authorization": f"Bearer {world.key('C01', 'stow', 'retrieve')}"}
    with RunningDimse() as dimse, serving(world.app) as address:
        monkeypatch.setattr(get_settings(), "public_url", address)
        server = {"Url": f"{address}/dicomweb/", "HttpHeaders": headers}
        known = {"hub": ("HUB", "127.0.0.1", dimse.port)}
        folder, patient = tmp_path / "peer", {"DicomScuTimeout": 60}
        with Orthanc(folder, devices=known, servers={"hub": server}, dimse_port=listens, more=patient) as peer:
            yield Peers(peer, address, headers)


def content(name: str) -> bytes:
    """One of the files that pydicom brings."""
    path = get_testdata_file(name, download=False)
    assert path is not None
    return Path(str(path)).read_bytes()


def read(data: bytes) -> Dataset:
    """Its data set."""
    return pydicom.dcmread(io.BytesIO(data))


def same(one: Dataset, other: Dataset) -> bool:
    """Whether two data sets say the same; group lengths and padding are no part of it."""
    told = [
        {
            element.tag: element.value
            for element in ds
            if element.tag.element != 0 and element.tag not in (0xFFFCFFFC, 0x7FE00010)
        }
        for ds in (one, other)
    ]
    return told[0] == told[1] and one.get("PixelData") == other.get("PixelData")


def same_pixels(one: Dataset, other: Dataset) -> bool:
    """Whether two images of any transfer syntaxes decode to the same numbers."""
    if "PixelData" not in one:
        return "PixelData" not in other
    return bool(np.array_equal(pixel_array(one), pixel_array(other)))


def test_by_dicomweb_it_sends_searches_and_retrieves(peers: Peers) -> None:
    files = list(peers.have().values())
    given = [read(data) for data in files]
    peers.send_by_stow()
    for data in files:
        answer = peers.hub_has(read(data))
        assert (answer.status_code, answer.content) == (200, data), "the very bytes that were sent"

    ask = {"Uri": "/studies", "Arguments": {"limit": "100"}}
    studies = peers.peer.ask("POST", "/dicom-web/servers/hub/qido", ask)
    assert {one["0020000D"]["Value"] for one in studies} == {str(one.StudyInstanceUID) for one in given}
    keys = {"00100020": str(given[0].PatientID), "StudyInstanceUID": str(given[0].StudyInstanceUID)}
    (found,) = peers.peer.ask("POST", "/dicom-web/servers/hub/qido", {"Uri": "/series", "Arguments": keys})
    assert found["0020000E"]["Value"] == given[0].SeriesInstanceUID

    peers.forget()
    wanted = [{"Study": uid} for uid in sorted({str(one.StudyInstanceUID) for one in given})]
    peers.peer.ask("POST", "/dicom-web/servers/hub/retrieve", {"Resources": wanted, "Synchronous": True})
    fetched = {uid: read(data) for uid, data in peers.peer_has().items()}
    assert set(fetched) == {str(one.SOPInstanceUID) for one in given}
    for sent in given:
        assert same_pixels(fetched[str(sent.SOPInstanceUID)], sent), sent.SOPClassUID


def test_by_dimse_it_sends_finds_and_moves(peers: Peers) -> None:
    given = peers.have()
    told = peers.peer.ask("POST", "/modalities/hub/store", {"Resources": list(given), "Synchronous": True})
    assert (told["InstancesCount"], told["FailedInstancesCount"]) == (len(given), 0)
    for sent in map(read, given.values()):
        answer = peers.hub_has(sent)
        assert answer.status_code == 200, sent.SOPClassUID
        kept = read(answer.content)
        assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert same(kept, sent), sent.SOPClassUID

    peers.forget()
    assert peers.peer_has() == {}
    ask: dict[str, Any] = {"Level": "Study", "Query": {"StudyInstanceUID": ""}}
    query = peers.peer.ask("POST", "/modalities/hub/query", ask)["ID"]
    answers = peers.peer.ask("GET", f"/queries/{query}/answers?expand&simplify")
    assert {one["StudyInstanceUID"] for one in answers} == {str(read(data).StudyInstanceUID) for data in given.values()}
    ask["Query"]["StudyInstanceUID"] = answers[0]["StudyInstanceUID"]
    one = peers.peer.ask("POST", "/modalities/hub/query", ask)["ID"]
    assert len(peers.peer.ask("GET", f"/queries/{one}/answers")) == 1

    peers.peer.ask("POST", f"/queries/{query}/retrieve", {"TargetAet": "ORTHANC", "Synchronous": True})
    fetched = {uid: read(data) for uid, data in peers.peer_has().items()}
    for sent in map(read, given.values()):
        kept = fetched[str(sent.SOPInstanceUID)]
        assert kept.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
        assert same(kept, sent), sent.SOPClassUID
