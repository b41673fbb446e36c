"""Orthanc with DICOMweb in a folder of its own: a peer for tests, and the yardstick of the benchmarks."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
from sqlalchemy.engine import make_url

from support.running import free_port

PLUGINS = (Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
DICOM_WEB = "/dicom-web"
MEDIA_TYPES = {"": "text/html", "wasm": "application/wasm", "json": "application/json", "mjs": "text/javascript"}
"""Of files by their extension, beside those that its plugin knows; the viewer's page has none."""


def program() -> str | None:
    """The server's path; None where it is not installed."""
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")


def plugin(name: str) -> Path | None:
    """The path of one of its plugins, such as `OrthancDicomWeb`; None where it is not installed."""
    for folder in PLUGINS:
        found = sorted(folder.glob(f"lib{name}.so*"))
        if found:
            return found[0]
    return None


def missing() -> str:
    """What is wanting on this machine, by name; empty where all is there."""
    if program() is None:
        return "Orthanc"
    return "" if plugin("OrthancDicomWeb") else "Orthanc's DICOMweb plugin"


@dataclass
class Orthanc:
    """A server that runs from `with` to its end, without passwords, on free ports of the loopback.

    Attributes:
        folder: For its configuration, index, images and log.
        aet: Its AE title.
        devices: Other DIMSE stations by name: (AE title, host, port).
        servers: Other DICOMweb servers by name: the values of `DicomWeb.Servers`.
        postgres: URL of a PostgreSQL database for its index; SQLite where it is empty.
        folders: Folders of files to serve, by path.
        more: Further values of its configuration.
    """

    folder: Path
    aet: str = "ORTHANC"
    devices: dict[str, tuple[str, str, int]] = field(default_factory=dict)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)
    postgres: str = ""
    folders: dict[str, Path] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    dimse_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def dicomweb(self) -> str:
        """The root of its DICOMweb."""
        return f"{self.url}{DICOM_WEB}"

    def configuration(self) -> dict[str, Any]:
        """Its configuration: the defaults but for what a peer on the loopback needs."""
        wanted = ["OrthancDicomWeb", *(["OrthancPostgreSQLIndex"] if self.postgres else [])]
        wanted += ["ServeFolders"] if self.folders else []
        plugins = [str(plugin(name)) for name in wanted]
        found: dict[str, Any] = {
            "Name": "peer",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "StorageCompression": False,
            "HttpPort": self.port,
            "DicomPort": self.dimse_port,
            "DicomAet": self.aet,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "OverwriteInstances": True,
            "DicomModalities": {name: list(where) for name, where in self.devices.items()},
            "Plugins": plugins,
            "DicomWeb": {"Enable": True, "Root": f"{DICOM_WEB}/", "EnableWado": True, "Servers": self.servers},
        }
        if self.postgres:
            url = make_url(self.postgres)
            found["PostgreSQL"] = {
                "EnableIndex": True,
                "EnableStorage": False,
                "Host": url.host,
                "Port": url.port,
                "Database": url.database,
                "Username": url.username,
                "Password": url.password,
                "EnableSsl": False,
                "Lock": False,
            }
        if self.folders:
            found["ServeFolders"] = {
                "AllowCache": True,
                "Folders": {path: str(folder) for path, folder in self.folders.items()},
                "Extensions": MEDIA_TYPES,
            }
        return found | self.more

    def start(self, *, within: float = 120) -> Self:
        """Start it and wait until it answers."""
        binary = program()
        assert binary, "Orthanc is not installed"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / "orthanc.json"
        file.write_text(json.dumps(self.configuration(), indent=1), "utf-8")
        log = self.folder / "orthanc.log"
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [binary, str(file)], cwd=self.folder, stdout=out, stderr=out, start_new_session=True
            )
        until = time.monotonic() + within
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/system", timeout=5, trust_env=False).status_code == 200:
                    return self
            except httpx.HTTPError:
                time.sleep(0.05)
        self.stop()
        raise AssertionError(f"Orthanc did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")

    def stop(self) -> None:
        """End it."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def processes(self) -> list[psutil.Process]:
        """Its process."""
        return [psutil.Process(self.process.pid)] if self.process is not None else []

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The JSON of one of its own REST routes (not DICOMweb).

        Args:
            method: Of HTTP.
            path: From the root.
            body: Bytes as they are, anything else as JSON.
            **options: For httpx.
        """
        if body is not None:
            options |= {"content": body} if isinstance(body, bytes) else {"json": body}
        answer = httpx.request(method, f"{self.url}{path}", timeout=120, trust_env=False, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None
