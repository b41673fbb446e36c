"""Reports to devices that asked whether they may forget what they sent."""

from __future__ import annotations

from typing import Any

from hub.protocols.dimse import commitment
from workers.registry import handler


@handler(commitment.JOB)
def report_commitment(payload: dict[str, Any]) -> None:
    """N-EVENT-REPORT of a Storage Commitment request."""
    commitment.report(payload)
