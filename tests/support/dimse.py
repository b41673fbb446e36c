"""The DIMSE service in processes of its own on a free port, and files for devices to send."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hub.cli import checks
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.protocols.dimse.server import LISTENERS, Server
from hub.sites import devices
from hub.sites.models import Device, Organisation
from support.running import ROOT, free_port

CT = "1.2.840.10008.5.1.4.1.1.2"


@dataclass
class RunningDimse:
    """The DIMSE service on this process's hub (`hub_env`); `with` ends it.

    In threads of this process, or in `processes` of its own for what is killed or measured.
    """

    processes: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)
    server: Server | None = None
    sockets: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> RunningDimse:
        os.environ["HUB_DIMSE_PORT"] = str(self.port)
        for name, value in self.settings.items():
            os.environ[f"HUB_{name.upper()}"] = str(value)
        get_settings.cache_clear()
        sockets = checks.listen_dimse(get_settings())
        if not self.processes:
            self.sockets = [one for one in sockets if one is not None]
            self.server = Server(get_settings(), *sockets)
            self.server.start()
            return self
        numbers = [one.fileno() for one in sockets if one is not None]
        env = os.environ | {
            LISTENERS: ",".join(str(one.fileno()) if one is not None else "" for one in sockets),
            "PYTHONPATH": str(ROOT),
        }
        for _number in range(self.processes):
            process = subprocess.Popen(
                [sys.executable, "-m", "hub.protocols.dimse.server"], env=env, pass_fds=numbers, stdin=subprocess.PIPE
            )
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.close()
            self.running.append(process)
        for one in sockets:
            if one is not None:
                one.close()
        self._await()
        return self

    def _await(self, *, within: float = 120) -> None:
        """Wait until a process answers: the port is open long before, and a device waits only so long."""
        with socket.create_connection(("127.0.0.1", self.port)) as probe, contextlib.suppress(ConnectionError):
            probe.settimeout(within)
            # An A-ABORT: the service closes the connection.
            probe.sendall(struct.pack(">BBL4x", 7, 0, 4))
            while probe.recv(64):
                pass

    def kill(self) -> None:
        """kill -9 of every process."""
        for process in self.running:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def __exit__(self, *_error: object) -> None:
        if self.server is not None:
            self.server.stop()
        for one in self.sockets:
            # Else a thread waits in `accept` for ever.
            one.shutdown(socket.SHUT_RDWR)
            one.close()
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        until = time.monotonic() + 8
        for process in self.running:
            try:
                process.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in ("dimse_port", *self.settings):
            os.environ.pop(f"HUB_{name.upper()}", None)
        get_settings.cache_clear()

    def call(self, tool: str, *arguments: object, aet: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a tool of DCMTK as a device calling the hub; its arguments come before the address."""
        split = next((number for number, one in enumerate(arguments) if one == "--"), len(arguments))
        before, after = arguments[:split], arguments[split + 1 :]
        command = [tool, "-aet", aet, "-aec", "HUB", *before, "127.0.0.1", self.port, *after]
        return subprocess.run(
            [str(one) for one in command], capture_output=True, text=True, timeout=timeout, check=False
        )


def device(org: Organisation, aet: str, **more: Any) -> Device:
    """A registered device."""
    with database().writing() as session:
        return devices.add(session, SYSTEM, org, aet=aet, **more)


def ct(
    *,
    study: str = "",
    series: str = "",
    sop: str = "",
    patient: str = "001",
    name: str = "Wang^Wei",
    syntax: str = str(ExplicitVRLittleEndian),
    rows: int = 16,
    fill: int = 0,
    **more: Any,
) -> Dataset:
    """A small CT image as a data set with file meta."""
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = sop or generate_uid()
    ds.StudyInstanceUID = study or generate_uid()
    ds.SeriesInstanceUID = series or generate_uid()
    ds.PatientID, ds.PatientName, ds.PatientSex, ds.PatientBirthDate = patient, name, "M", "19600102"
    ds.Modality, ds.StudyDate, ds.StudyTime, ds.AccessionNumber = "CT", "20260301", "101500", ""
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.ReferringPhysicianName = "1", 1, 1, ""
    ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined = "HEAD", "AXIAL", "HEAD"
    ds.Rows = ds.Columns = rows
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.PixelData = bytes([fill, 0]) * (rows * rows)
    for keyword, value in more.items():
        setattr(ds, keyword, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


def save(ds: Dataset, path: Path) -> Path:
    """The data set as a DICOM file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
