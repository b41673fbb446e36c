"""What the hub does for devices: who is let in, and which message goes where."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE, C_STORE, N_ACTION
from pynetdicom.presentation import build_context
from sqlalchemy.exc import SQLAlchemyError

from hub.dicom.objects import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_NAME
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.settings import Settings
from hub.protocols.dimse import commitment, query, retrieve, store
from hub.protocols.dimse.transport import MAX_PDU
from hub.sites import devices
from hub.sites.models import Device, Organisation

if TYPE_CHECKING:
    from hub.protocols.dimse.association import DeviceAssociation

log = get_logger(__name__)

VERIFICATION: Final = "1.2.840.10008.1.1"
SERVICES: Final = (
    VERIFICATION,
    commitment.SOP_CLASS,
    *query.LEVELS_OF,
    *retrieve.MOVES,
    *retrieve.GETS,
)
"""SOP classes beside storage, of which every one is accepted."""

COMMAND_SYNTAXES: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
ACSE_SECONDS: Final = 15
"""ARTIM: a peer that does not say who it is, or does not hang up, is given this long."""

KNOWN_SECONDS: Final = 15.0
"""How long a device is taken for known; the longest that one which was removed still gets something."""

_REJECT_CALLING: Final = (0x01, 0x01, 0x03)
_REJECT_CALLED: Final = (0x01, 0x01, 0x07)
_REJECT_CONGESTED: Final = (0x02, 0x03, 0x01)
_REJECT_LIMIT: Final = (0x02, 0x03, 0x02)


@dataclass(frozen=True, slots=True)
class Caller:
    """The device at the other end.

    Attributes:
        actor: The machine of its organisation.
        device_id: Its row.
        org_id: Whose it is.
        aet: Its AE title.
        stores: It may send.
        queries: It may query and retrieve.
        since: When this was looked up, in monotonic seconds.
    """

    actor: Actor
    device_id: str
    org_id: str
    aet: str
    stores: bool
    queries: bool
    since: float = field(default_factory=time.monotonic, compare=False)


def configure_library() -> None:
    """Set pynetdicom up: every storage class, no logs of what it reads (they quote patients)."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = False
    _config.LOG_RESPONSE_IDENTIFIERS = False


def make_ae(settings: Settings) -> AE:
    """The hub's application entity."""
    ae = AE(ae_title=settings.dimse_aet)
    ae.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    ae.implementation_version_name = IMPLEMENTATION_NAME
    ae.maximum_pdu_size = MAX_PDU
    ae.acse_timeout = ACSE_SECONDS
    ae.connection_timeout = ACSE_SECONDS
    ae.dimse_timeout = settings.dimse_idle_seconds
    ae.network_timeout = settings.dimse_idle_seconds
    # Admission counts by itself, also by device.
    ae.maximum_associations = 1_000_000
    return ae


class Service:
    """One process's share of the DIMSE service."""

    def __init__(self, settings: Settings) -> None:
        configure_library()
        self.settings = settings
        self.ae = make_ae(settings)
        self.services = frozenset(UID(uid) for uid in SERVICES)
        self.contexts = [build_context(uid, COMMAND_SYNTAXES) for uid in SERVICES]
        self._lock = threading.Lock()
        self._present: dict[DeviceAssociation, str] = {}

    # --- admission ------------------------------------------------------------------------------------------------

    def admit(self, event: evt.Event) -> None:
        """Let an association request in, or reject it (PS3.8 §9.3.4)."""
        assoc: DeviceAssociation = event.assoc  # type: ignore[assignment]
        try:
            refusal = self._admit(assoc)
        except Exception as error:
            log.exception("nobody could be asked whether to admit a device", kind=type(error).__name__)
            refusal = _REJECT_CONGESTED
        if refusal is None:
            return
        assoc.caller = None
        assoc.acse.send_reject(*refusal)
        assoc.is_rejected = True
        assoc.kill()

    def _admit(self, assoc: DeviceAssociation) -> tuple[int, int, int] | None:
        request: Any = assoc.requestor.primitive
        calling, called = str(request.calling_ae_title).strip(), str(request.called_ae_title).strip()
        peer = assoc.peer
        found = self._find(assoc)
        if found is None:
            log.warning("an unknown device was rejected", aet=_plain(calling), peer=peer)
            return _REJECT_CALLING
        if called != self.settings.dimse_aet.strip():
            log.warning("a device called another AE title", aet=_plain(calling), called=_plain(called), peer=peer)
            return _REJECT_CALLED
        device, org = found
        with self._lock:
            if len(self._present) >= self.settings.dimse_associations:
                log.warning("too many associations", aet=_plain(calling))
                return _REJECT_LIMIT
            if Counter(self._present.values())[device.id] >= self.settings.dimse_device_associations:
                log.warning("too many associations of one device", aet=_plain(calling), device=device.id)
                return _REJECT_LIMIT
            self._present[assoc] = device.id
        assoc.caller = _caller(device, org, peer)
        return None

    def _find(self, assoc: DeviceAssociation) -> tuple[Device, Organisation] | None:
        request: Any = assoc.requestor.primitive
        with database().reading() as session:
            return devices.find(
                session,
                str(request.calling_ae_title).strip(),
                peer=assoc.peer,
                certificate=assoc.certificate,
                loopback=devices.is_loopback(self.settings.dimse_bind),
            )

    def still_known(self, assoc: DeviceAssociation) -> bool:
        """Whether the caller is who was admitted; asked anew every `KNOWN_SECONDS`, with what it may do.

        An association can be kept for days, and a device that was removed must not go on by it.
        """
        caller = assoc.caller
        if caller is None:
            return False
        if time.monotonic() - caller.since < KNOWN_SECONDS:
            return True
        try:
            found = self._find(assoc)
        except SQLAlchemyError as error:
            # What is asked will be told so itself, with a status by which it is sent again.
            log.error("nobody could be asked whether a device is still known", kind=type(error).__name__)
            return True
        if found is None or (found[0].id, found[1].id) != (caller.device_id, caller.org_id):
            assoc.caller = None
            return False
        assoc.caller = _caller(*found, assoc.peer)
        return True

    def gone(self, assoc: DeviceAssociation) -> None:
        """An association ended; its place is free."""
        with self._lock:
            self._present.pop(assoc, None)

    def present(self) -> int:
        """How many associations there are."""
        with self._lock:
            return len(self._present)

    # --- messages -------------------------------------------------------------------------------------------------

    def serve(self, assoc: DeviceAssociation, caller: Caller, message: Any, context: Any) -> bool:
        """Answer a request; False where pynetdicom's own service does (C-ECHO)."""
        if isinstance(message, C_STORE):
            store.serve(assoc, caller, message, context)
        elif isinstance(message, C_FIND):
            query.serve(assoc, caller, message, context)
        elif isinstance(message, C_GET):
            retrieve.serve_get(assoc, caller, message, context)
        elif isinstance(message, C_MOVE):
            retrieve.serve_move(assoc, caller, message, context)
        elif isinstance(message, N_ACTION):
            commitment.serve(assoc, caller, message, context)
        else:
            return False
        return True


def _caller(device: Device, org: Organisation, peer: str) -> Caller:
    actor = devices.actor_of(device, org, peer=peer)
    return Caller(actor, device.id, org.id, device.aet, device.stores, device.queries)


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:16]
