"""Devices: which machine of which organisation speaks to the hub by DICOM's own protocol.

An AE title is a name that anybody may give, so it identifies a device only together with where the connection comes
from: an address, or a TLS client certificate. An AE title alone is enough on the loopback and nowhere else.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.kit import clock
from hub.kit.actor import QUERY_SCOPE, Actor
from hub.kit.errors import Conflict, Invalid, NotFound
from hub.kit.i18n import Message, _
from hub.kit.settings import get_settings
from hub.kit.turns import one_at_a_time
from hub.sites.models import Device, Organisation

# PS3.5 Table 6.2-1, AE: the default repertoire without backslash and control characters, spaces not significant.
_AET: Final = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,253}[A-Za-z0-9])?")

_WIDEST: Final = {4: 8, 6: 32}
"""Shortest prefix of a network that tells a device from others, by IP version."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_loopback(address: str) -> bool:
    """Whether `address` (an IP address or `localhost`) is reached from this machine alone."""
    if address == "localhost":
        return True
    try:
        return _address(address).is_loopback
    except ValueError:
        return False


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(text.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate in hex, by which a device is known.

    Args:
        certificate: DER, or PEM (its first certificate).

    Raises:
        ValueError: It is no certificate.
    """
    if b"-----BEGIN" in certificate:
        certificate = x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    else:
        x509.load_der_x509_certificate(certificate)
    return hashlib.sha256(certificate).hexdigest()


def add(
    session: Session,
    actor: Actor,
    org: Organisation,
    *,
    aet: str,
    address: str = "",
    certificate: bytes = b"",
    stores: bool = True,
    queries: bool = False,
    host: str = "",
    port: int | None = None,
    tls: bool = False,
) -> Device:
    """Add a device of an organisation.

    Args:
        session: The transaction.
        actor: Who adds it.
        org: Whose it is.
        aet: Its AE title, by which it calls and is called.
        address: IP address or network (CIDR) that it calls from.
        certificate: Its TLS client certificate, PEM or DER.
        stores: It may send images (C-STORE) and ask for storage commitment.
        queries: It may query and retrieve.
        host: Where it listens itself: destination of C-MOVE and of commitment reports.
        port: … and on which port.
        tls: … and whether it expects TLS there.

    Raises:
        Invalid: A value is wrong, or the AE title alone would identify it beyond the loopback.
        Conflict: The AE title already means a device that this one could not be told from.
    """
    aet = aet.strip()
    fields: dict[str, Message | str] = {}
    if not _AET.fullmatch(aet):
        fields["aet"] = _("AE 标题为 1 到 16 个 ASCII 字符,不含反斜杠")
    network: _Network | None = None
    if address.strip():
        try:
            network = ipaddress.ip_network(address.strip(), strict=False)
            if network.prefixlen < _WIDEST[network.version]:
                # Half the world is nobody's address: it would leave the AE title alone.
                raise ValueError
        except ValueError:
            fields["address"] = _("请填写 IP 地址或网段,例如 10.20.0.7 或 10.20.0.0/24")
    known_by = ""
    if certificate:
        try:
            known_by = fingerprint(certificate)
        except ValueError:
            fields["certificate"] = _("不是 X.509 证书(PEM)")
    if bool(host) != bool(port) or (host and not _HOST.fullmatch(host)) or (port and not 0 < port < 65_536):
        fields["host"] = _("目的地要同时写明主机和端口")
    if not stores and not queries:
        fields["queries"] = _("设备至少要能发送或查询")
    if not fields and network is None and not known_by and not is_loopback(get_settings().dimse_bind):
        fields["address"] = _("AE 标题谁都可以冒用:请写明设备的地址,或登记它的 TLS 客户端证书")
    if fields:
        raise Invalid(fields=fields)
    shown = "" if network is None else str(network.network_address) if network.num_addresses == 1 else str(network)
    device = Device(
        org_id=org.id,
        aet=aet,
        address=shown,
        certificate=known_by,
        stores=stores,
        queries=queries,
        host=host,
        port=port,
        tls=tls,
        created_at=clock.now(),
        created_by=actor.id,
    )
    one_at_a_time(session, f"device:{aet}")
    for other in session.scalars(select(Device).where(Device.aet == aet, Device.active.is_(True))):
        if other.org_id != org.id and not _told_apart(device, other):
            raise Conflict(_("AE 标题 {aet} 已属于另一家机构,且两者的地址分不开").format(aet=aet), code="aet-taken")
    session.add(device)
    try:
        session.flush()
    except IntegrityError:
        raise Conflict(_("已登记了 AE 标题和地址都相同的设备"), code="device-known") from None
    audit.record(
        session,
        actor,
        "device.add",
        "device",
        device.id,
        org_id=org.id,
        aet=aet,
        address=shown,
        certificate=known_by[:16],
        stores=stores,
        queries=queries,
        destination=f"{host}:{port}" if host else "",
    )
    return device


def _told_apart(one: Device, other: Device) -> bool:
    if one.certificate and other.certificate:
        return one.certificate != other.certificate
    if not one.address or not other.address:
        return False
    ours, theirs = ipaddress.ip_network(one.address), ipaddress.ip_network(other.address)
    return ours.version != theirs.version or not ours.overlaps(theirs)


def remove(session: Session, actor: Actor, device_id: str) -> None:
    """Forget a device; its next association is refused.

    Raises:
        NotFound: There is none.
    """
    device = session.get(Device, device_id)
    if device is None:
        raise NotFound(_("没有找到这台设备"))
    session.delete(device)
    audit.record(
        session,
        actor,
        "device.remove",
        "device",
        device.id,
        org_id=device.org_id,
        aet=device.aet,
        address=device.address,
    )


def devices(session: Session) -> list[Device]:
    """All, by AE title and address."""
    return list(session.scalars(select(Device).order_by(Device.aet, Device.address)))


def nameless(device: Device) -> bool:
    """Whether only its AE title identifies it, so that it is accepted on the loopback alone."""
    return not device.address and not device.certificate


def find(
    session: Session, aet: str, *, peer: str, certificate: str = "", loopback: bool = False
) -> tuple[Device, Organisation] | None:
    """The active device behind a connection; the one described most closely where several fit.

    Args:
        session: Reads.
        aet: The calling AE title.
        peer: IP address that the connection comes from.
        certificate: Fingerprint of its verified TLS certificate, "" without TLS.
        loopback: Whether the listener is reached from this machine alone: an AE title alone identifies then.
    """
    try:
        came_from = _address(peer)
    except ValueError:
        return None
    found: list[tuple[tuple[bool, int], Device, Organisation]] = []
    rows = session.execute(
        select(Device, Organisation)
        .join(Organisation, Organisation.id == Device.org_id)
        .where(Device.aet == aet.strip(), Device.active.is_(True), Organisation.active.is_(True))
    )
    for device, org in rows:
        if device.certificate and device.certificate != certificate:
            continue
        width = -1
        if device.address:
            network = ipaddress.ip_network(device.address)
            if came_from.version != network.version or came_from not in network:
                continue
            width = network.prefixlen
        elif not device.certificate and not (loopback and came_from.is_loopback):
            continue
        found.append(((bool(device.certificate), width), device, org))
    if not found:
        return None
    _how, device, org = max(found, key=lambda one: one[0])
    return device, org


def destination(session: Session, aet: str, org_id: str) -> Device | None:
    """The device of an organisation that may be sent to under an AE title, if it is known where it listens."""
    return session.scalars(
        select(Device)
        .where(Device.aet == aet.strip(), Device.org_id == org_id, Device.active.is_(True), Device.port.is_not(None))
        .order_by(Device.created_at)
        .limit(1)
    ).one_or_none()


def actor_of(device: Device, org: Organisation, *, peer: str = "") -> Actor:
    """Who acts when a device does: a machine of its organisation, named in the audit log by its AE title."""
    scopes: set[str] = set()
    if device.stores:
        scopes.add("stow")
    if device.queries:
        scopes |= {"retrieve", QUERY_SCOPE}
    return Actor(
        kind="machine",
        id=device.id,
        name=device.aet,
        org_id=org.id,
        org_kind=org.kind,
        scopes=frozenset(scopes),
        ip=peer,
    )
