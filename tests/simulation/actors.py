"""People who work at the hub at the same time, through its HTTP API alone, carelessly and with bad luck.

What the hub has acknowledged is written down (`Ledger`), to be asked for afterwards.
"""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx

PIN = "258036"
NORMAL = "双肺纹理清晰,未见异常密度影。纵隔居中,心影大小形态正常。"
KEPT = frozenset({"lease-lost", "revision-conflict"})
"""Refusals of a save that say that the text was kept beside the draft."""


BUSY = frozenset({"database-unavailable", "store-unavailable"})
"""503s that say honestly that nothing was done, and to try again. They are counted among the refusals."""


@dataclass
class Ledger:
    """What was acknowledged and what was met, by all who play."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    signed: list[tuple[str, str]] = field(default_factory=list)
    answers: list[tuple[str, str]] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    deeds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def did(self, what: str) -> None:
        """Count a deed."""
        with self.lock:
            self.deeds[what] += 1

    def took(self, what: str, seconds: float) -> None:
        """Remember how long a request took."""
        with self.lock:
            self.seconds.setdefault(what, []).append(seconds)


@dataclass
class Habits:
    """How likely somebody does what, of each exam that he gets."""

    crash: float = 0.06
    history: float = 0.06
    retake: float = 0.05
    release: float = 0.04
    withdraw: float = 0.04
    reject: float = 0.10
    double: float = 0.25
    rival: float = 0.15
    void: float = 0.01
    lease_seconds: float = 6.0
    first_crashes: bool = False
    """Every reader's first reading ends in a crash, so that a small day has some whatever chance brings."""
    most_interventions: int = 1_000_000
    """How often the director intervenes at most: he looks by the clock, and a slow day would be his alone."""


class Person:
    """Somebody logged in."""

    def __init__(self, url: str, login: str, password: str, ledger: Ledger) -> None:
        self.login, self.ledger = login, ledger
        self.http = httpx.Client(base_url=url, timeout=120, trust_env=False, limits=httpx.Limits(max_connections=4))
        answer = self.http.post("/api/session", json={"login": login, "password": password})
        answer.raise_for_status()
        self.http.headers["X-CSRF-Token"] = answer.json()["csrf"]
        self.id = answer.json().get("id", "")

    def call(self, what: str, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; a 5xx is written down as broken, a refusal by its code."""
        begun = time.perf_counter()
        try:
            answer = self.http.request(method, path, **options)
        except httpx.TransportError:
            # The line is cut, perhaps after the deed: he clicks again, and what was done must not be done twice.
            self.ledger.did("line cut")
            answer = self.http.request(method, path, **options)
        self.ledger.took(what, time.perf_counter() - begun)
        code = answer.json().get("code", "") if answer.status_code >= 400 else ""
        if answer.status_code >= 500 and code not in BUSY:
            with self.ledger.lock:
                self.ledger.broken.append(f"{what} {answer.status_code} {answer.text[:200]}")
        elif answer.status_code >= 400:
            with self.ledger.lock:
                self.ledger.refused[f"{what} {code or answer.status_code}"] += 1
        return answer

    def twice(self, double: bool, what: str, method: str, path: str, **options: Any) -> list[httpx.Response]:
        """The request, or, as with a double click, the same one two times at once."""
        if not double:
            return [self.call(what, method, path, **options)]
        self.ledger.did("double click")
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(self.call, what, method, path, **options) for _click in range(2)]
        return [one.result() for one in both]


class Reader(threading.Thread):
    """A radiologist at his page."""

    def __init__(
        self, person: Person, ledger: Ledger, habits: Habits, stop: threading.Event, seed: int, *, reviews: bool
    ) -> None:
        super().__init__(daemon=True, name=person.login)
        self.person, self.ledger, self.habits, self.stop = person, ledger, habits, stop
        self.chance = random.Random(seed)
        self.reviews = reviews
        self.fresh = True
        self.ghosts: list[tuple[float, str, str, int, str]] = []
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Read until nothing is left."""
        try:
            if self.reviews:
                self._open_key()
            while not self.stop.is_set():
                self._come_back()
                if not self._one():
                    self.stop.wait(self.chance.uniform(0.1, 0.6))
            self._come_back(all_of_them=True)
        except Exception as error:
            self.failure = error

    def _open_key(self) -> None:
        for what, path in (("certificate", "/api/signing/identities"), ("unlock", "/api/signing/unlock")):
            while (answer := self.person.call(what, "POST", path, json={"pin": PIN})).status_code == 503:
                self.stop.wait(self.chance.uniform(0.5, 3))
            answer.raise_for_status()

    def _happens(self, likely: float) -> bool:
        return self.chance.random() < likely

    def _one(self) -> bool:
        """Take the next exam and do something with it; False where there is none."""
        double = self._happens(self.habits.double)
        if self._happens(self.habits.rival):
            taken = self._pick()
        else:
            review = self.chance.choice([None, None, True, False]) if self.reviews else None
            found = self.person.twice(double, "next", "POST", "/api/queue/next", json={"review": review})
            taken = [answer.json()["next"] for answer in found if answer.status_code == 200]
            taken = list({one["exam_id"]: one for one in taken if one}.values())
        for one in taken:
            self.ledger.did("claim")
            if one["state"] == "reading":
                self._read(one["exam_id"], one["lease"])
            else:
                self._review(one["exam_id"], one["lease"])
        return bool(taken)

    def _pick(self) -> list[dict[str, Any]]:
        """Open the exam at the head of the queue by hand, which others do as well."""
        rows = self.person.call("queue", "GET", "/api/queue", params={"limit": 5}).json().get("exams", [])
        rows = [row for row in rows if row["claimable"]]
        if not rows:
            return []
        answer = self.person.call("claim", "POST", f"/api/exams/{rows[0]['id']}/claim")
        return [answer.json()] if answer.status_code == 200 else []

    def _version(self, exam: str) -> dict[str, Any]:
        found = self.person.call("versions", "GET", f"/api/exams/{exam}/reports").json().get("versions") or [{}]
        return dict(found[0])

    def _save(self, exam: str, lease: str, revision: int, findings: str) -> dict[str, Any] | None:
        """Save a text with a mark of its own; the mark is written down if the hub says that it has it."""
        mark = uuid.uuid4().hex
        text = f"{findings}\n{mark}"
        body = {
            "lease": lease,
            "revision": revision,
            "findings": text,
            "impression": "心肺膈未见异常。",
            "positive": False,
        }
        answers = self.person.twice(
            self._happens(self.habits.double), "save", "PUT", f"/api/exams/{exam}/report", json=body
        )
        kept = [one for one in answers if one.status_code == 200 or one.json().get("code") in KEPT]
        if kept:
            with self.ledger.lock:
                self.ledger.texts.append((exam, mark))
        good = [one.json() for one in answers if one.status_code == 200]
        return {**good[0], "findings": text} if good else None

    def _read(self, exam: str, lease: str) -> None:
        version = self._version(exam)
        revision = version.get("revision", 0) if version.get("state") == "draft" else 0
        before = version.get("findings") or NORMAL
        # Some begin anew, and what stood there must not be lost by it.
        text = NORMAL if self._happens(0.2) else before
        for _time in range(self.chance.randint(1, 3)):
            saved = self._save(exam, lease, revision, text)
            if saved is None:
                return
            revision, text = saved["revision"], saved["findings"]
            self.person.call("heartbeat", "POST", f"/api/exams/{exam}/lease", json={"lease": lease})
        path = f"/api/exams/{exam}"
        first, self.fresh = self.fresh, False
        if (first and self.habits.first_crashes) or self._happens(self.habits.crash):
            self._crash(exam, lease, revision, text)
        elif self._happens(self.habits.history):
            self.ledger.did("history asked")
            body = {"lease": lease, "reason": "请补充病史"}
            self.person.twice(self._happens(0.5), "ask history", "POST", f"{path}/request-history", json=body)
        elif self._happens(self.habits.retake):
            self.ledger.did("retake asked")
            body = {"lease": lease, "reasons": ["motion"], "reason": "呼吸伪影"}
            self.person.twice(self._happens(0.5), "ask retake", "POST", f"{path}/request-retake", json=body)
        elif self._happens(self.habits.release):
            self.person.call("release", "POST", f"{path}/release", json={"lease": lease})
        else:
            if self._happens(0.15):
                self._say(exam)
            body = {"lease": lease, "revision": revision}
            double = self._happens(self.habits.double)
            done = self.person.twice(double, "submit", "POST", f"{path}/submit", json=body)
            if any(one.status_code == 200 for one in done):
                self.ledger.did("submit")
                if self._happens(self.habits.withdraw):
                    self.ledger.did("withdraw")
                    self.person.call("withdraw", "POST", f"{path}/withdraw")

    def _say(self, exam: str) -> None:
        mark = uuid.uuid4().hex
        body = {"text": f"请问 {mark}", "key": mark, "note": self._happens(0.3)}
        sent = self.person.twice(self._happens(0.5), "message", "POST", f"/api/exams/{exam}/thread", json=body)
        if any(one.status_code == 201 for one in sent):
            with self.ledger.lock:
                self.ledger.messages.append((exam, mark))

    def _review(self, exam: str, lease: str) -> None:
        version = self._version(exam)
        path = f"/api/exams/{exam}"
        if version.get("state") != "submitted":
            # His page does not load: he gives up, and the lease runs out.
            self.ledger.did("crash")
            return
        if self._happens(self.habits.crash):
            self._crash(exam, lease, version["revision"], version["findings"])
            return
        if self._happens(0.3):
            saved = self._save(exam, lease, version["revision"], version["findings"])
            if saved is None:
                return
            version = self._version(exam)
        if self._happens(self.habits.reject):
            self.ledger.did("reject")
            passages = [{"field": "findings", "start": 0, "end": 2, "comment": "请核对"}]
            body = {"lease": lease, "note": "请核对", "passages": passages, "revision": version["revision"]}
            self.person.twice(self._happens(0.5), "reject", "POST", f"{path}/reject", json=body)
            return
        if self._happens(self.habits.release):
            self.person.call("release", "POST", f"{path}/release", json={"lease": lease})
            return
        body = {"lease": lease, "revision": version["revision"], "content_hash": version["content_hash"]}
        done = self.person.twice(
            self._happens(self.habits.double), "sign", "POST", f"/api/reports/{version['version_id']}/sign", json=body
        )
        for answer in done:
            if answer.status_code == 200:
                with self.ledger.lock:
                    self.ledger.signed.append((exam, answer.json()["number"]))

    # --- crashes ---

    def _crash(self, exam: str, lease: str, revision: int, text: str) -> None:
        """The browser dies: nobody hears of it, and it comes back when its lease is long over, or nearly."""
        self.ledger.did("crash")
        wait = self.habits.lease_seconds * self.chance.uniform(0.3, 2.5)
        self.ghosts.append((time.monotonic() + wait, exam, lease, revision, text))

    def _come_back(self, *, all_of_them: bool = False) -> None:
        """What a page of before the crash still had is sent: accepted, or kept beside the draft."""
        now = time.monotonic()
        back = [ghost for ghost in self.ghosts if all_of_them or ghost[0] <= now]
        self.ghosts = [ghost for ghost in self.ghosts if ghost not in back]
        for _at, exam, lease, revision, text in back:
            self.ledger.did("came back")
            saved = self._save(exam, lease, revision, text)
            if saved is not None:
                # It was in time: what he still holds he gives back.
                self.person.call("release", "POST", f"/api/exams/{exam}/release", json={"lease": lease})


class Clinic(threading.Thread):
    """A clinic's technologist who answers what readers ask."""

    def __init__(self, person: Person, ledger: Ledger, stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True, name=person.login)
        self.person, self.ledger, self.stop = person, ledger, stop
        self.chance = random.Random(seed)
        self.answered: set[str] = set()
        self.idle = threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        """Answer until told to stop."""
        try:
            while not self.stop.is_set():
                asked, returned = self._list("history_requested"), self._list("retake")
                returned = [row for row in returned if row["id"] not in self.answered]
                if asked or returned:
                    self.idle.clear()
                for row in asked:
                    self._history(row["id"])
                for row in returned:
                    self._retake(row["id"])
                if not asked and not returned:
                    self.idle.set()
                    self.stop.wait(0.3)
        except Exception as error:
            self.failure = error

    def _list(self, state: str) -> list[dict[str, Any]]:
        params: dict[str, Any] = {"state": state, "size": 100}
        return list(self.person.call("list", "GET", "/api/exams", params=params).json().get("items", []))

    def _history(self, exam: str) -> None:
        mark = uuid.uuid4().hex
        sent = self.person.twice(
            self.chance.random() < 0.5, "answer", "POST", f"/api/exams/{exam}/answer-history", json={"text": mark}
        )
        if any(one.status_code == 200 for one in sent):
            self.ledger.did("history answered")
            with self.ledger.lock:
                self.ledger.answers.append((exam, mark))

    def _retake(self, exam: str) -> None:
        double = self.chance.random() < 0.5
        if self.chance.random() < 0.5:
            sent = self.person.twice(double, "retake", "POST", f"/api/exams/{exam}/retake")
            if any(one.status_code == 201 for one in sent):
                self.answered.add(exam)
                self.ledger.did("retake registered")
        else:
            body = {"reason": "patient_left"}
            sent = self.person.twice(double, "decline", "POST", f"/api/exams/{exam}/decline-retake", json=body)
            if any(one.status_code == 200 for one in sent):
                self.ledger.did("retake declined")


class Director(threading.Thread):
    """The centre's director: looks at the queue, breaks a lease now and then, makes an exam void."""

    def __init__(self, person: Person, ledger: Ledger, habits: Habits, stop: threading.Event, seed: int) -> None:
        super().__init__(daemon=True, name=person.login)
        self.person, self.ledger, self.habits, self.stop = person, ledger, habits, stop
        self.chance = random.Random(seed)
        self.failure: BaseException | None = None

    def left(self) -> int:
        """How many exams the queue still holds."""
        answer = self.person.call("counts", "GET", "/api/queue", params={"limit": 1})
        return sum(answer.json()["counts"].values()) if answer.status_code == 200 else -1

    def run(self) -> None:
        """Look in now and then."""
        try:
            left = self.habits.most_interventions
            while left > 0 and not self.stop.wait(0.7):
                rows = self.person.call("board", "GET", "/api/queue", params={"limit": 50}).json().get("exams")
                if not rows:
                    continue
                row = self.chance.choice(rows)
                if row["state"] in ("reading", "reviewing") and self.chance.random() < 0.2:
                    left -= 1
                    self.ledger.did("lease broken")
                    body: dict[str, Any] = {"reason": "电脑故障"}
                    self.person.call("break", "POST", f"/api/exams/{row['id']}/take-over", json=body)
                elif self.chance.random() < self.habits.void * 5:
                    left -= 1
                    self.ledger.did("void")
                    self.person.call("void", "POST", f"/api/exams/{row['id']}/void", json={"reason": "他人影像"})
        except Exception as error:
            self.failure = error
