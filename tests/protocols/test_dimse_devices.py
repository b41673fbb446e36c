"""A device that was let in: changed or removed while its association lasts, or of boundless appetite."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from sqlalchemy import update

from hub.kit.actor import SYSTEM
from hub.kit.db import database
from hub.kit.settings import get_settings
from hub.protocols.dimse.association import DeviceAssociation
from hub.protocols.dimse.service import KNOWN_SECONDS, Service
from hub.protocols.dimse.transport import MAX_PDU
from hub.sites import devices
from hub.sites.models import Device, Organisation
from support.dimse import CT, device

if TYPE_CHECKING:
    from support.world import World


@pytest.fixture
def admitted(world: World) -> DeviceAssociation:
    """An association of CT01, admitted but not served by a thread."""
    device(world.orgs["C01"], "CT01")
    association = DeviceAssociation(Service(get_settings()), peer="127.0.0.1")
    request = A_ASSOCIATE()
    request.calling_ae_title, request.called_ae_title = "CT01", "HUB"
    association.requestor.primitive = request
    assert association.service._admit(association) is None
    os.close(association.dul._bell)
    return association


def later(association: DeviceAssociation) -> None:
    assert association.caller is not None
    association.caller = replace(association.caller, since=association.caller.since - KNOWN_SECONDS)


def test_a_removed_device_is_known_for_seconds_only(admitted: DeviceAssociation) -> None:
    service = admitted.service
    later(admitted)
    assert service.still_known(admitted)
    with database().writing() as session:
        devices.remove(session, SYSTEM, admitted.caller.device_id)  # type: ignore[union-attr]
    assert service.still_known(admitted)
    later(admitted)
    assert not service.still_known(admitted)
    assert not service.still_known(admitted)


def test_a_device_of_a_closed_organisation(world: World, admitted: DeviceAssociation) -> None:
    with database().writing() as session:
        session.execute(update(Organisation).where(Organisation.id == world.orgs["C01"].id).values(active=False))
    later(admitted)
    assert not admitted.service.still_known(admitted)


def test_what_a_device_may_do_is_looked_up_anew(admitted: DeviceAssociation) -> None:
    assert admitted.caller is not None and admitted.caller.stores and not admitted.caller.queries
    with database().writing() as session:
        session.execute(update(Device).values(stores=False, queries=True))
    later(admitted)
    assert admitted.service.still_known(admitted)
    assert admitted.caller.queries and not admitted.caller.stores
    assert "stow" not in admitted.caller.actor.scopes


@pytest.mark.parametrize("most", [0, 1 << 31])
def test_a_data_set_is_sent_in_pieces_to_whoever_takes_any_length(
    admitted: DeviceAssociation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, most: int
) -> None:
    (tmp_path / "data").write_bytes(bytes(1 << 20))
    sent: list[int] = []

    def kept(part: Any) -> None:
        sent.append(max(len(value) for _context, value in part.presentation_data_value_list))

    monkeypatch.setattr(admitted.dul, "send_pdu", kept)
    length = MaximumLengthNotification()
    length.maximum_length_received = most
    admitted.requestor.primitive.user_information = [length]  # type: ignore[union-attr]
    request: Any = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CT, "1.2.3"
    request._dataset_path = (tmp_path / "data", 0)
    admitted.dimse.send_msg(request, 1)
    assert max(sent) <= MAX_PDU
    assert sum(sent) > 1 << 20
