"""Devices: an AE title is a name, an address or a certificate makes it somebody."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.kit.actor import QUERY_SCOPE, SYSTEM
from hub.kit.db import database
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.settings import get_settings
from hub.sites import devices
from support.world import World


def add(world: World, org: str, aet: str, **more: object) -> str:
    with database().writing() as session:
        return devices.add(session, SYSTEM, world.orgs[org], aet=aet, **more).id  # type: ignore[arg-type]


def who(aet: str, peer: str, *, certificate: str = "", loopback: bool = False) -> str:
    with database().reading() as session:
        found = devices.find(session, aet, peer=peer, certificate=certificate, loopback=loopback)
    return found[1].code if found else ""


def test_one_ae_title_in_two_clinics_is_told_by_the_address(world: World) -> None:
    add(world, "C01", "CT", address="10.1.0.0/24")
    add(world, "C02", "CT", address="10.2.0.7")
    for address in ("", "10.1.0.9", "10.0.0.0/8"):
        with pytest.raises(Conflict):
            add(world, "H01", "CT", address=address)
    assert who("CT", "10.1.0.200") == "C01"
    assert who("CT", "10.2.0.7") == "C02"
    assert who("CT", "::ffff:10.2.0.7") == "C02"
    assert who("CT", "10.2.0.8") == ""
    assert who("ct", "10.2.0.7") == ""
    assert who("CT", "nonsense") == ""


def test_an_ae_title_alone_is_enough_on_the_loopback_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    add(world, "C01", "CT")
    assert who("CT", "127.0.0.1", loopback=True) == "C01"
    assert who("CT", "127.0.0.1") == ""
    assert who("CT", "10.1.0.1", loopback=True) == ""
    monkeypatch.setenv("HUB_DIMSE_BIND", "0.0.0.0")
    get_settings.cache_clear()
    with pytest.raises(Invalid):
        add(world, "C01", "MR")
    add(world, "C01", "MR", address="10.1.0.1")


def test_a_certificate_is_asked_for_where_one_is_registered(world: World) -> None:
    with database().writing() as session:
        device = devices.add(session, SYSTEM, world.orgs["C01"], aet="CT", address="10.1.0.1")
        device.certificate = "ab" * 32
    assert who("CT", "10.1.0.1") == ""
    assert who("CT", "10.1.0.1", certificate="cd" * 32) == ""
    assert who("CT", "10.1.0.1", certificate="ab" * 32) == "C01"
    assert who("CT", "10.1.0.2", certificate="ab" * 32) == ""


@pytest.mark.parametrize(
    "values",
    [
        {"aet": ""},
        {"aet": "A" * 17},
        {"aet": "BACK\\SLASH"},
        {"aet": "影像"},
        {"aet": "CT", "address": "10.1.0"},
        {"aet": "CT", "address": "0.0.0.0/0"},
        {"aet": "CT", "address": "128.0.0.0/1"},
        {"aet": "CT", "address": "::/0"},
        {"aet": "CT", "certificate": b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----"},
        {"aet": "CT", "host": "10.1.0.1"},
        {"aet": "CT", "port": 104},
        {"aet": "CT", "host": "a b", "port": 104},
        {"aet": "CT", "host": "a", "port": 70000},
        {"aet": "CT", "stores": False},
    ],
)
def test_wrong_values(world: World, values: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        add(world, "C01", **values)  # type: ignore[arg-type]


def test_removed_inactive_and_audited(world: World) -> None:
    device_id = add(world, "C01", "CT", queries=True, host="10.1.0.1", port=104)
    with pytest.raises(Conflict):
        add(world, "C01", "CT")
    with database().reading() as session:
        assert devices.destination(session, "CT", world.orgs["C01"].id) is not None
        assert devices.destination(session, "CT", world.orgs["C02"].id) is None
        found = devices.find(session, "CT", peer="127.0.0.1", loopback=True)
    assert found is not None
    actor = devices.actor_of(*found, peer="127.0.0.1")
    assert (actor.kind, actor.name, actor.org_id) == ("machine", "CT", world.orgs["C01"].id)
    assert actor.scopes == {"stow", "retrieve", QUERY_SCOPE}
    with database().writing() as session:
        session.merge(world.orgs["C01"]).active = False
    assert who("CT", "127.0.0.1", loopback=True) == ""
    with database().writing() as session:
        devices.remove(session, SYSTEM, device_id)
        with pytest.raises(NotFound):
            devices.remove(session, SYSTEM, "none")
    with database().reading() as session:
        actions = [entry.action for entry in session.scalars(select(AuditEntry).order_by(AuditEntry.id))]
    assert actions[-2:] == ["device.add", "device.remove"]


def test_a_hospitals_archive_sees_what_its_readers_see(world: World) -> None:
    """The rule itself is in hub.exams.repository; who has it is decided here."""
    from hub.exams.repository import archive_of_readers

    def actor(org: str, *, queries: bool) -> bool:
        with database().writing() as session:
            device = devices.add(session, SYSTEM, world.orgs[org], aet=f"{org}{queries}", queries=queries)
            return archive_of_readers(devices.actor_of(device, world.orgs[org]))

    assert actor("H01", queries=True) and actor("T01", queries=True)
    assert not actor("H01", queries=False)
    assert not actor("C01", queries=True) and not actor("HUB", queries=True)
