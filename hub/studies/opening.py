"""What a viewer will ask for first when it opens a study: so that its page can ask before the viewer runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.kit.actor import Actor
from hub.kit.errors import HubError
from hub.studies import repository
from hub.studies.models import Instance, Series

MOST_SERIES: Final = 20
MOST_IMAGES: Final = 24
_STACKS: Final = frozenset({"CT", "MR", "PT"})


@dataclass(frozen=True, slots=True)
class Opening:
    """What opening a study begins with.

    Attributes:
        study: Study Instance UID.
        series: Series Instance UIDs, in the order of their numbers.
        stack: Series Instance UID of the one that is shown first, or "".
        images: SOP Instance UIDs of that one, in the order in which they are wanted: the first is shown first.
    """

    study: str
    series: list[str]
    stack: str
    images: list[str]


def of(session: Session, actor: Actor, study_uid: str, *, first: str = "") -> Opening | None:
    """What the viewer begins with; None where the actor may not see such a study, or may not for longer than a moment.

    Args:
        session: For reading.
        actor: Who opens it.
        study_uid: Study Instance UID.
        first: SOP Instance UID of the image that he wants to see first, if any.
    """
    try:
        study = repository.by_uid(session, actor, study_uid)
    except HubError:
        return None
    if not repository.seen_lastingly(session, actor, study.id):
        # What is asked for early may be taken from the browser's cache for a while.
        return None
    rows = session.execute(
        select(Series.id, Series.uid, Series.modality, Series.frame_count)
        .where(Series.study_id == study.id, repository.shown(session, study.id))
        .order_by(Series.number.nulls_last(), Series.id)
        .limit(MOST_SERIES)
    ).all()
    named = select(Instance.series_id).where(Instance.uid == first, Instance.study_id == study.id)
    series_id = session.scalar(named) if first else None
    stacks = [row for row in rows if row.frame_count]
    stack = next((row for row in stacks if row.id == series_id), stacks[0] if stacks else None)
    uids = [row.uid for row in rows]
    if stack is None:
        return Opening(study.uid, uids, "", [])
    images = session.scalars(
        select(Instance.uid)
        .where(Instance.series_id == stack.id, Instance.has_pixels)
        .order_by(Instance.number.nulls_last(), Instance.id)
    ).all()
    at = 0
    if first in images:
        at = images.index(first)
    elif stack.modality in _STACKS and len(images) > 2:
        # As the viewer's own rule has it (hub/web/src/ohif/app-config.js): a stack begins in its middle.
        at = len(images) // 2
    nearest = sorted(range(len(images)), key=lambda number: (abs(number - at), number))[:MOST_IMAGES]
    return Opening(study.uid, uids, stack.uid, [images[number] for number in nearest])
