"""Instances built of metadata and bulk data: what is bounded."""

from __future__ import annotations

import pytest

from hub.dicom import assembling
from hub.dicom.assembling import Bulk, Unfit
from hub.kit.ids import new_uid


def test_bulk_data_count_as_often_as_they_are_referred_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembling, "MOST_BULK", 1 << 20)
    document = {
        "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
        "00080018": {"vr": "UI", "Value": [new_uid()]},
    }
    asked = 0

    def bulk(_uri: str) -> Bulk:
        nonlocal asked
        asked += 1
        return Bulk([b"x" * (1 << 18)])

    few = {f"0009{number:04X}": {"vr": "OB", "BulkDataURI": "one"} for number in range(0x1001, 0x1005)}
    data, _coerced = assembling.assemble({**document, **few}, bulk)
    assert len(data) > 1 << 20
    many = {f"0009{number:04X}": {"vr": "OB", "BulkDataURI": "one"} for number in range(0x1001, 0x1100)}
    with pytest.raises(Unfit):
        assembling.assemble({**document, **many}, bulk)
    assert asked == 2
