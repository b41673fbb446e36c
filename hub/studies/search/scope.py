"""Scope: what an actor's visibility hangs on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.accounts.roles import COUNTY_WIDE_ROLES
from hub.exams import repository as exams
from hub.exams.models import Exam
from hub.kit.actor import Actor
from hub.studies import repository

FEW: Final = 2_000
"""Below how many rows of an index a list of them is made, instead of asking each study that is walked past."""

_REMEMBERED: Final = 60.0
sizes: dict[str, tuple[float, bool]] = {}
"""By organisation: until when (monotonic) it is remembered whether it sees few."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What an actor's visibility hangs on: for equal scopes, the same SQL is asked.

    Attributes:
        plain: The whole county, or one clinic's own by its machine: no exam decides.
        org_id: The actor's organisation; "" for the whole county.
        kind: Of the actor.
        roles: Of the actor.
        few: His hospital may see few studies: they are listed.
        priors: Studies that he may know for what he holds at this moment.
    """

    plain: bool
    org_id: str = ""
    kind: str = ""
    roles: frozenset[str] = frozenset()
    few: bool = False
    priors: tuple[str, ...] = ()


def scope_of(session: Session, actor: Actor) -> Scope:
    """What the actor's visibility hangs on at this moment."""
    if actor.kind == "system" or actor.has(*COUNTY_WIDE_ROLES):
        return Scope(plain=True)
    archive = exams.archive_of_readers(actor)
    if actor.kind == "machine" and not archive:
        return Scope(plain=True, org_id=actor.org_id or "", kind=actor.kind)
    return Scope(
        plain=False,
        org_id=actor.org_id or "",
        kind=actor.kind,
        roles=frozenset(actor.roles),
        few=_sees_few(session, actor),
        priors=repository.prior_studies(session, actor),
    )


def _sees_few(session: Session, actor: Actor) -> bool:
    """Whether a reader's hospital and the shared pool hold few exams; remembered for a minute.

    It chooses the plan, not the answer: where few studies are his, walking all of them in the answer's order would
    pass a million to find ten; where many are his, listing them would.
    """
    if not actor.org_id:
        return False
    known = sizes.get(actor.org_id)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    held = 0
    for routed in (Exam.reading_org_id == actor.org_id, Exam.reading_org_id.is_(None)):
        some = select(Exam.id).where(routed).limit(FEW).subquery()
        held += session.scalar(select(func.count()).select_from(some)) or 0
    if len(sizes) > 1000:
        sizes.clear()
    sizes[actor.org_id] = (time.monotonic() + _REMEMBERED, held < FEW)
    return held < FEW
