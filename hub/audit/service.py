"""Appending to the audit log."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from hub.audit.models import AuditEntry
from hub.kit import clock
from hub.kit.actor import Actor


def record(
    session: Session,
    actor: Actor,
    action: str,
    object_type: str,
    object_id: str,
    *,
    org_id: str | None = None,
    patient_id: str | None = None,
    **detail: Any,
) -> None:
    """Append one entry in the transaction of the deed.

    Args:
        session: The transaction that does the deed.
        actor: Who did it.
        action: Dotted verb such as `exam.claim`, `report.sign`, `images.view`.
        object_type: Table-like name (`exam`, `study`, `report_version`, `person`).
        object_id: Row id or UID.
        org_id: The organisation whose data it is.
        patient_id: The patient row whose data it is.
        **detail: JSON values; identifiers and states, never clinical text.
    """
    session.add(
        AuditEntry(
            at=clock.now(),
            actor_kind=actor.kind,
            actor_id=actor.id,
            actor_name=actor.name,
            actor_org_id=actor.org_id,
            ip=actor.ip,
            action=action,
            object_type=object_type,
            object_id=object_id,
            org_id=org_id,
            patient_id=patient_id,
            detail=detail,
        )
    )
