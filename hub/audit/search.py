"""Finding audit entries."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from hub.audit.models import AuditEntry
from hub.audit.seal import SEALED_COLUMNS
from hub.kit.cells import safe
from hub.kit.db import database

EXPORT_BATCH = 1_000
EXPORT_COLUMNS = (*SEALED_COLUMNS, "seal_no", "seal")


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; empty values do not narrow.

    `action` ending in a dot finds all actions of a family (`report.`). `org_id` is the organisation of the data or of
    the actor. `since` is included, `until` is not.
    """

    actor_ids: tuple[str, ...] | None = None
    action: str = ""
    object_type: str = ""
    object_id: str = ""
    patient_id: str = ""
    org_id: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def described(self) -> dict[str, Any]:
        """As JSON values, for the entry that tells of an export."""
        found = {key: value for key, value in asdict(self).items() if value}
        return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in found.items()}


def _conditions(wanted: Filter) -> list[Any]:
    found: list[Any] = []
    if wanted.actor_ids is not None:
        found.append(AuditEntry.actor_id.in_(wanted.actor_ids))
    if wanted.action.endswith("."):
        # A range, because a prefix match by LIKE uses no index on PostgreSQL in most locales ("/" follows ".").
        found.append(AuditEntry.action >= wanted.action)
        found.append(AuditEntry.action < wanted.action[:-1] + "/")
    elif wanted.action:
        found.append(AuditEntry.action == wanted.action)
    if wanted.object_type:
        found.append(AuditEntry.object_type == wanted.object_type)
    if wanted.object_id:
        found.append(AuditEntry.object_id == wanted.object_id)
    if wanted.patient_id:
        found.append(AuditEntry.patient_id == wanted.patient_id)
    if wanted.org_id:
        found.append(or_(AuditEntry.org_id == wanted.org_id, AuditEntry.actor_org_id == wanted.org_id))
    if wanted.since is not None:
        found.append(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        found.append(AuditEntry.at < wanted.until)
    return found


def find(session: Session, wanted: Filter, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
    """Entries that fit, newest first, at most `limit`, with ids below `before` (the last id of the page before)."""
    statement = select(AuditEntry).where(*_conditions(wanted)).order_by(AuditEntry.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(AuditEntry.id < before)
    return list(session.scalars(statement))


def as_csv(wanted: Filter, zone: str) -> Iterator[str]:
    """All entries that fit, newest first, as CSV for a spreadsheet, in batches.

    Args:
        wanted: What to look for.
        zone: Name of the zone in which times are written.
    """
    clock = ZoneInfo(zone)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    # A spreadsheet takes UTF-8 for its own code page without this mark.
    buffer.write("\ufeff")
    writer.writerow(EXPORT_COLUMNS)
    before: int | None = None
    while True:
        with database().reading() as session:
            rows = find(session, wanted, before=before, limit=EXPORT_BATCH)
        for row in rows:
            values = {name: getattr(row, name) for name in EXPORT_COLUMNS}
            values["at"] = row.at.astimezone(clock).isoformat(timespec="milliseconds")
            values["detail"] = json.dumps(row.detail, ensure_ascii=False, sort_keys=True)
            writer.writerow([_cell(values[name]) for name in EXPORT_COLUMNS])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
        if len(rows) < EXPORT_BATCH:
            return
        before = rows[-1].id


def _cell(value: object) -> str:
    """A cell's text that no spreadsheet takes for a formula."""
    return safe("" if value is None else str(value))
