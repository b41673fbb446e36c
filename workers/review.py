"""Reading again after signing: reports are drawn, readings given out, and taken back when their time is over."""

from __future__ import annotations

from hub.kit.db import database
from hub.reports.review import peer
from workers.registry import periodic


@periodic("review.peer", every=60)
def peer_review() -> None:
    """Each step in its own transaction: what one has done stays, whatever becomes of the next."""
    for step in (peer.expire, peer.draw, peer.assign):
        with database().writing() as session:
            step(session)
