"""Work on what machines sent: previews, completeness, recompression at rest."""

from __future__ import annotations

from typing import Any

from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.studies import completeness, metadata, previews, recompression, retired, scrubbing
from workers.registry import handler, periodic


@handler("studies.preview")
def preview(payload: dict[str, Any]) -> None:
    """Metadata made ready, previews, contact sheet and header summary of a study."""
    metadata.prepare_study(payload["study_id"])
    previews.prepare_study(payload["study_id"])


@handler("studies.settle")
def settle(payload: dict[str, Any]) -> None:
    """Decide whether an exam is fully received."""
    with database().writing() as session:
        completeness.settle(session, SYSTEM, payload["exam_id"])


@handler(recompression.JOB)
def recompress(payload: dict[str, Any]) -> None:
    """Recompress what can be of a study, without loss."""
    recompression.recompress_study(payload["study_id"], seconds=recompression.TURN)


@periodic("studies.recompress-due", every=60)
def recompress_due() -> None:
    """Ask for the studies to which nothing is added any more."""
    recompression.enqueue_due()


@periodic("studies.scrub", every=60)
def scrub() -> None:
    """Read some originals again."""
    scrubbing.scrub()


@periodic("studies.retire", every=300)
def retire() -> None:
    """Delete objects whose images lie in others by now."""
    retired.sweep()
