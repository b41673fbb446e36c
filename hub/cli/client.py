"""A client of the hub's public HTTP API, as a program of a clinic or hospital would write one.

It knows nothing of the hub's inside: logging in, problem details, resumable uploads (tus 1.0) and server-sent events.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

CHUNK = 8 << 20
BODY_TYPE = "application/offset+octet-stream"
DONE = frozenset({"stored", "known", "refused", "ignored", "expanded"})


class Refused(Exception):
    """The hub answered with an error; `code` and `body` are those of its problem details (RFC 9457)."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        body: Any = None
        with suppress(ValueError):
            body = response.json()
        self.body: dict[str, Any] = body if isinstance(body, dict) else {}
        self.code = str(self.body.get("code", ""))
        request = response.request
        words = str(self.body.get("title") or response.text[:200])
        fields = self.body.get("fields")
        super().__init__(
            f"{request.method} {request.url.path}: {self.status} {self.code} {words}"
            + (f" {json.dumps(fields, ensure_ascii=False)}" if fields else "")
        )


@dataclass(frozen=True, slots=True)
class Login:
    """Who to log in as: a row of `hub sample --json`."""

    role: str
    org: str
    login: str
    password: str
    pin: str = ""

    @classmethod
    def of(cls, row: dict[str, Any]) -> Login:
        """From the JSON form."""
        return cls(
            str(row["role"]), str(row["organisation"]), str(row["login"]), str(row["password"]), str(row.get("pin", ""))
        )


@dataclass(slots=True)
class Outgoing:
    """A file to upload: a label, and its bytes or where they lie."""

    path: str
    source: Path | bytes
    size: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        data = self.read()
        self.size = len(data)
        self.sha256 = hashlib.sha256(data).hexdigest()

    def read(self) -> bytes:
        """All bytes."""
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()


@dataclass(slots=True)
class Batch:
    """What became of an upload: the hub's own account (`GET /api/uploads/{id}?files=all`)."""

    id: str
    counts: dict[str, int]
    files: list[dict[str, Any]] = field(default_factory=list)
    exams: list[dict[str, Any]] = field(default_factory=list)
    shortfall: int = 0


class Client:
    """One person (or machine) at the hub.

    `patience` seconds of a hub that does not answer, or answers 502 to 504, are bridged by asking again where a
    request may safely be repeated.
    """

    def __init__(self, url: str, *, key: str = "", patience: float = 0, timeout: float = 120) -> None:
        self.url = url.rstrip("/")
        self.patience = patience
        headers = {"Accept-Language": "en", "User-Agent": "hub-client"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        # The hub is on this machine or near: a proxy from the environment would only be in the way.
        self.http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout, trust_env=False)
        self.me: dict[str, Any] = {}

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- requests -------------------------------------------------------------------------------------------------

    def log_in(self, login: str, password: str) -> Self:
        """Open a session; its CSRF token goes with every further request."""
        self.me = self.post("/api/session", {"login": login, "password": password}, again=True)
        self.http.headers["X-CSRF-Token"] = self.me["csrf"]
        return self

    def request(self, method: str, path: str, *, again: bool | None = None, **options: Any) -> httpx.Response:
        """A request; `again`: it may be repeated where its answer was lost (by default those that change nothing).

        Raises:
            Refused: Status 400 or above.
            httpx.TransportError: No answer, within the patience.
        """
        repeat = again if again is not None else method in ("GET", "HEAD")
        until = time.monotonic() + (self.patience if repeat else 0)
        while True:
            try:
                response = self.http.request(method, path, **options)
                if response.status_code not in (502, 503, 504) or time.monotonic() >= until:
                    break
            except httpx.TransportError:
                if time.monotonic() >= until:
                    raise
            time.sleep(0.1)
        if response.status_code >= 400:
            raise Refused(response)
        return response

    def get(self, path: str, **params: Any) -> Any:
        """JSON of a GET."""
        return self.request("GET", path, params=params).json()

    def post(self, path: str, body: Any = None, *, again: bool | None = None) -> Any:
        """JSON of a POST; None where there is none."""
        response = self.request("POST", path, json={} if body is None else body, again=again)
        return response.json() if response.content else None

    def put(self, path: str, body: Any, *, again: bool | None = None) -> Any:
        """JSON of a PUT."""
        response = self.request("PUT", path, json=body, again=again)
        return response.json() if response.content else None

    # --- uploads --------------------------------------------------------------------------------------------------

    def declare(self, files: Sequence[Outgoing], *, exam_id: str | None = None, batch_id: str | None = None) -> Batch:
        """Say what will be sent; the answer's files, in the same order, say what need not be."""
        body = {
            "exam_id": exam_id,
            "batch_id": batch_id,
            "files": [{"path": one.path, "size": one.size, "sha256": one.sha256} for one in files],
        }
        return _batch(self.post("/api/uploads", body, again=batch_id is not None))

    def offset(self, url: str) -> tuple[int, str]:
        """Bytes of a file that are in the hub, and its state."""
        response = self.request("HEAD", url, headers={"Tus-Resumable": "1.0.0"})
        return int(response.headers["Upload-Offset"]), response.headers.get("X-Upload-State", "")

    def patch(self, url: str, offset: int, data: bytes | Iterator[bytes]) -> tuple[int, str]:
        """Append bytes; the new offset and the file's state."""
        headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset), "Content-Type": BODY_TYPE}
        response = self.request("PATCH", url, content=data, headers=headers)
        return int(response.headers["Upload-Offset"]), response.headers.get("X-Upload-State", "")

    def send(self, outgoing: Outgoing, row: dict[str, Any], *, chunk: int = CHUNK) -> str:
        """Send what is missing of one declared file, whatever happens to the link; its last state."""
        url, data, offset, state = row["url"], outgoing.read(), int(row["offset"]), str(row["state"])
        until = time.monotonic() + self.patience
        while state == "receiving":
            try:
                offset, state = self.patch(url, offset, data[offset : offset + chunk])
                until = time.monotonic() + self.patience
            except (Refused, httpx.TransportError) as error:
                # What the hub really has is asked for, as after any lost link.
                lost = isinstance(error, httpx.TransportError) or error.status in (409, 423, 460, 502, 503, 504)
                if not lost or time.monotonic() >= until:
                    raise
                time.sleep(0.1)
                offset, state = self.offset(url)
        return state

    def upload(
        self,
        files: Sequence[Outgoing],
        *,
        exam_id: str | None = None,
        parallel: int = 2,
        confirm_short: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> Batch:
        """Declare, send, and close a folder; the hub's account of it.

        Raises:
            Refused: `shortfall`, where files were refused and `confirm_short` was not given; and any other refusal.
        """
        batch = self.declare(files, exam_id=exam_id)

        def one(pair: tuple[Outgoing, dict[str, Any]]) -> None:
            state = self.send(*pair)
            if progress:
                progress(state)

        pairs = [pair for pair in zip(files, batch.files, strict=True) if pair[1]["state"] == "receiving"]
        with ThreadPoolExecutor(parallel) as pool:
            list(pool.map(one, pairs))
        return self.finish(batch.id, confirm_short=confirm_short)

    def finish(self, batch_id: str, *, confirm_short: bool = False, within: float = 120) -> Batch:
        """Close a batch, once its archives are unpacked, and read how it ended."""
        until = time.monotonic() + within
        while True:
            try:
                self.post(f"/api/uploads/{batch_id}/close", {"confirm_short": confirm_short}, again=True)
                return self.batch(batch_id)
            except Refused as error:
                if error.code != "still-working" or time.monotonic() > until:
                    raise
                time.sleep(0.3)

    def batch(self, batch_id: str) -> Batch:
        """A batch with all its files."""
        return _batch(self.get(f"/api/uploads/{batch_id}", files="all"))

    # --- live -----------------------------------------------------------------------------------------------------

    def live(self) -> Live:
        """The event stream of this session, opened; close it."""
        return Live(self)


def _batch(answer: dict[str, Any]) -> Batch:
    return Batch(answer["id"], answer["counts"], answer["files"], answer["exams"], answer["shortfall"])


class Live:
    """Events of `/api/live`, collected by a thread of their own as a browser does; after a lost link it goes on."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._opened = threading.Event()
        self._last = ""
        self._response: httpx.Response | None = None
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        self._opened.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _listen(self) -> None:
        while not self._closing.is_set():
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self._last} if self._last else {})
            with suppress(httpx.HTTPError, httpx.StreamError, RuntimeError):
                timeout = httpx.Timeout(10, read=40)
                with self._client.http.stream("GET", "/api/live", headers=headers, timeout=timeout) as response:
                    self._response = response
                    if response.status_code == 200:
                        self._read(response)
            self._closing.wait(0.3)

    def _read(self, response: httpx.Response) -> None:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if self._closing.is_set():
                return
            if line:
                name, _colon, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if fields.get("event") == "hello":
                self._opened.set()
            elif "data" in fields and "event" not in fields:
                self._last = fields.get("id", self._last)
                with self._news:
                    self._events.append(json.loads(fields["data"]))
                    self._news.notify_all()
            fields = {}

    def wait(self, wanted: Callable[[dict[str, Any]], bool], timeout: float) -> dict[str, Any] | None:
        """The first event, past or to come, that is wanted; None where none comes in time."""
        until = time.monotonic() + timeout
        seen = 0
        with self._news:
            while True:
                for event in self._events[seen:]:
                    if wanted(event):
                        return event
                seen = len(self._events)
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._news.wait(left)

    def close(self) -> None:
        """End the stream."""
        self._closing.set()
