"""Signed reports go home."""

from __future__ import annotations

from typing import Any

from hub.delivery import service
from hub.kit.actor import SYSTEM
from hub.kit.db import database
from workers.registry import handler


@handler("delivery.return_report")
def return_report(payload: dict[str, Any]) -> None:
    """Put a signed version into the clinic's inbox."""
    with database().writing() as session:
        service.return_report(session, SYSTEM, payload["version_id"])
