"""Signed reports become DICOM objects of their study."""

from __future__ import annotations

from typing import Any

from hub.reports import objects_service
from workers.registry import handler


@handler("reports.make_objects")
def make_objects(payload: dict[str, Any]) -> None:
    """The SR and the Encapsulated PDF of a signed version."""
    objects_service.make_objects(payload["version_id"])
