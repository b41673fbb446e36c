"""Who may fetch frames, remembered for a few seconds.

A viewer fetches hundreds of frames of one study within seconds. Looking up session, person and study for each would
cost more than the frame; so both answers are kept for `TTL` seconds, which is also the longest that a revoked session
or key, or a withdrawn exam, still gets frames.

What is seen only as a prior of an exam that one holds is not kept: when a link between two patients is undone, or the
exam given back, the images of the other one are gone with the next request, on whichever process it is answered.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from fastapi import Request
from sqlalchemy import select
from starlette.concurrency import run_in_threadpool

from hub.accounts.roles import Permission
from hub.accounts.sessions import SESSION_COOKIE
from hub.dicom.framing import FrameIndex
from hub.dicom.objects import BASIC_TEXT_SR, ENCAPSULATED_PDF
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.edge import Require
from hub.kit.errors import HubError, NotFound
from hub.kit.i18n import _
from hub.kit.logging import get_logger
from hub.studies import repository
from hub.studies.models import Instance, Series, Study

log = get_logger(__name__)

TTL: Final = 4.0
_REPORTS: Final = frozenset({BASIC_TEXT_SR, ENCAPSULATED_PDF})

V = TypeVar("V")


class Recent(Generic[V]):
    """Values that expire after `seconds`; the oldest go when there are more than `most`. Safe among threads."""

    def __init__(self, *, seconds: float, most: int) -> None:
        self.seconds = seconds
        self.most = most
        self._kept: OrderedDict[Any, tuple[float, V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> V | None:
        """The value, if it is fresh."""
        found = self._kept.get(key)
        return found[1] if found is not None and found[0] > time.monotonic() else None

    def ageing(self, key: Any) -> bool:
        """Whether a value is fresh, but past half of its time."""
        found = self._kept.get(key)
        return found is not None and 0 < found[0] - time.monotonic() < self.seconds / 2

    def put(self, key: Any, value: V) -> None:
        """Keep a value."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (time.monotonic() + self.seconds, value)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)

    def drop(self, key: Any) -> None:
        """Forget a value."""
        with self._lock:
            self._kept.pop(key, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._kept.clear()


@dataclass(frozen=True, slots=True)
class Location:
    """Where an instance lies, and where its frames lie within it."""

    instance_id: str
    series_uid: str
    transfer_syntax: str
    object_key: str
    object_offset: int
    size: int
    frames: FrameIndex
    sop_class: str = ""
    original_syntax: str = ""
    """Transfer syntax in which it was sent, where it was recompressed since."""
    object_end: int = 0
    """Up to where the object is known to reach; what lies before may be read ahead."""
    dataset_offset: int = 0
    """Where the data set begins in the file, which only frames of a deflated one need."""


@dataclass(frozen=True, slots=True)
class StudyMap:
    """All instances of a study by SOP Instance UID, as of one revision of it."""

    revision: int
    instances: dict[str, Location]


_actors: Recent[Actor] = Recent(seconds=TTL, most=2_000)
_grants: Recent[tuple[str, int, bool]] = Recent(seconds=TTL, most=4_000)
# Studies that somebody may see, and whose viewing was noted (hub.protocols.dicomweb.fastsearch).
allowed: Recent[str] = Recent(seconds=TTL, most=4_000)
# Not a grant: only where things lie. A changed revision or a missing object has it read anew.
_maps: Recent[StudyMap] = Recent(seconds=300, most=64)


class RequireViewing(Require):
    """`require(IMAGES_VIEW)` for frames: the actor behind a cookie or key is remembered for `TTL` seconds."""

    def __init__(self) -> None:
        super().__init__((Permission.IMAGES_VIEW,))

    async def __call__(self, request: Request) -> Actor:  # type: ignore[override]
        """The actor of this request; errors as `Require`."""
        key = credential(request.headers.get("authorization"), request.cookies.get(SESSION_COOKIE))
        actor = _actors.get(key) if key else None
        if actor is None:
            # What a page fetches by itself keeps no session awake.
            asked = _unattended if repository.ahead.get() else super().__call__
            actor = await run_in_threadpool(asked, request)
            if key:
                _actors.put(key, actor)
        return actor


_viewing = RequireViewing()
_unattended = Require((Permission.IMAGES_VIEW,), passive=True)
_renewing: set[tuple[bytes, str]] = set()


async def renew(request: Request, key: bytes, study_uid: str) -> None:
    """Ask anew who this is and what he may see, if both were asked some time ago: a viewer at work never waits for it.

    What is refused now is forgotten at once.
    """
    actor = _actors.get(key)
    place = (key, study_uid)
    if actor is None or place in _renewing:
        return
    grant = (actor.id, actor.session_id, study_uid)
    if not (_actors.ageing(key) or _grants.ageing(grant)):
        return
    _renewing.add(place)
    try:
        actor = await run_in_threadpool(super(RequireViewing, _viewing).__call__, request)
        _actors.put(key, actor)
        found, lasting = await run_in_threadpool(_ask, actor, study_uid)
        if lasting:
            _grants.put(grant, found)
        else:
            _grants.drop(grant)
    except HubError:
        _actors.drop(key)
        _grants.drop(grant)
    except Exception as error:
        log.info("a grant was not renewed", kind=type(error).__name__)
    finally:
        _renewing.discard(place)


def ageing(key: bytes, study_uid: str) -> bool:
    """Whether `renew` has something to do."""
    actor = _actors.get(key)
    return actor is not None and (_actors.ageing(key) or _grants.ageing((actor.id, actor.session_id, study_uid)))


def credential(authorization: str | None, cookie: str | None) -> bytes:
    """What an actor is remembered by: a hash of all that authentication looks at; empty where there is nothing."""
    if not authorization and not cookie:
        return b""
    return hashlib.sha256(f"{authorization or ''}\0{cookie or ''}".encode()).digest()


def at_hand(key: bytes, study_uid: str, series_uid: str, sop_uid: str) -> Location | None:
    """Where an instance lies, if everything that `RequireViewing` and `locate` would ask was asked just now."""
    actor = _actors.get(key) if key else None
    grant = _grants.get((actor.id, actor.session_id, study_uid)) if actor is not None else None
    known = _maps.get(grant[0]) if grant is not None else None
    if grant is None or known is None or known.revision < grant[1]:
        return None
    location = known.instances.get(sop_uid)
    return location if location is not None and location.series_uid == series_uid else None


def known(key: bytes) -> Actor | None:
    """Who is behind a `credential`, if he was looked up just now and may view images."""
    return _actors.get(key) if key else None


def forget() -> None:
    """Forget everything (tests, and whoever needs a revocation to hold at once in this process)."""
    _actors.clear()
    _grants.clear()
    allowed.clear()
    _maps.clear()


async def locate(actor: Actor, study_uid: str, series_uid: str, sop_uid: str) -> Location:
    """Where an instance lies that `actor` may see; the first time in a session the viewing is audited.

    Raises:
        NotFound: The address names nothing, or nothing that the actor may know.
    """
    key = (actor.id, actor.session_id, study_uid)
    grant = _grants.get(key)
    if grant is None:
        asked = await run_in_threadpool(_ask, actor, study_uid)
        grant, lasting = asked[0], asked[1]
        if lasting and not repository.ahead.get():
            # Remembered, it would let the first look pass that is to be audited.
            _grants.put(key, grant)
    known = _maps.get(grant[0])
    if known is None or known.revision < grant[1]:
        known = await run_in_threadpool(_read, grant[0], grant[1])
        _maps.put(grant[0], known)
    location = known.instances.get(sop_uid)
    if location is None or location.series_uid != series_uid or (grant[2] and location.sop_class in _REPORTS):
        raise NotFound(_("没有找到这些影像"))
    return location


def moved(actor: Actor, study_uid: str) -> None:
    """Say that an object was not where it was thought to be: it may have been stored anew."""
    grant = _grants.get((actor.id, actor.session_id, study_uid))
    if grant is not None:
        _maps.drop(grant[0])


def _ask(actor: Actor, study_uid: str) -> tuple[tuple[str, int, bool], bool]:
    """What is granted (the study, its revision, whether it is only lent: without reports); whether to remember it."""
    with database().reading() as session:
        row = session.execute(
            select(Study.id, Study.revision).where(Study.uid == study_uid, repository.visibility(actor))
        ).one_or_none()
        if row is None:
            raise repository.missing(session, actor, study_uid)
        lasting = repository.seen_lastingly(session, actor, row.id)
        lent = not lasting and row.id in repository.only_lent(session, actor)
    repository.note_view(actor, row.id)
    return (row.id, row.revision, lent), lasting


def _read(study_id: str, revision: int) -> StudyMap:
    with database().reading() as session:
        rows = session.execute(
            select(
                Instance.uid,
                Instance.id,
                Series.uid,
                Instance.transfer_syntax,
                Instance.object_key,
                Instance.object_offset,
                Instance.size,
                Instance.frame_index,
                Instance.sop_class,
                Instance.original_syntax,
                Instance.dataset_offset,
            )
            .join(Series, Series.id == Instance.series_id)
            .where(Instance.study_id == study_id)
        ).all()
    ends: dict[str, int] = {}
    for row in rows:
        ends[row[4]] = max(ends.get(row[4], 0), row[5] + row[6])
    return StudyMap(
        revision,
        {
            row[0]: Location(
                *row[1:7], FrameIndex.from_bytes(row[7]) if row[7] else FrameIndex(), *row[8:10], ends[row[4]], row[10]
            )
            for row in rows
        },
    )
