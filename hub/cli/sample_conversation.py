"""The sample county talks: a message to a clinic and a note among readers on an exam that waits."""

from __future__ import annotations

from collections.abc import Callable

from hub.cli.client import Client


def talk(client: Callable[[str], Client]) -> None:
    """Enter it; said once, however often the sample is entered.

    Args:
        client: Gives the client of a login.
    """
    reader = client("reader01a")
    rows = [row for row in reader.get("/api/queue")["exams"] if row["state"] == "to_read" and row["modality"] == "CT"]
    if not rows:
        return
    exam = rows[-1]["id"]
    reader.post(f"/api/exams/{exam}/thread", {"text": "请问患者有无抗凝药服用史?", "key": "sample-1"})
    reader.post(f"/api/exams/{exam}/thread", {"text": "请与上次检查对照后再写", "note": True, "key": "sample-2"})
