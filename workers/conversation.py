"""What the hub itself says in the threads between reader and clinic."""

from __future__ import annotations

from typing import Any

from hub.kit.db import database
from hub.reading.conversation import thread
from workers.registry import handler


@handler("conversation.images_late")
def images_late(payload: dict[str, Any]) -> None:
    """Tell both sides that images came after reading had begun."""
    with database().writing() as session:
        thread.images_late(session, payload["exam_id"])
