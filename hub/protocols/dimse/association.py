"""One association that a device made with the hub."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom._globals import MODE_ACCEPTOR
from pynetdicom.association import Association
from pynetdicom.dimse_messages import DIMSEMessage

from hub.kit.logging import get_logger
from hub.kit.settings import get_settings
from hub.protocols.dimse.staging import Staged, header
from hub.protocols.dimse.transport import Bell, QuickDul, QuickSocket, StreamingDimse

if TYPE_CHECKING:
    from hub.protocols.dimse.service import Caller, Service

log = get_logger(__name__)

_TICK: Final = 1.0


class DeviceAssociation(Association):
    """An association as acceptor: waits on a bell for messages, and hands each to the hub's own services.

    Attributes:
        caller: Who the peer is; None until its request was admitted.
        peer: IP address that it comes from.
        certificate: Fingerprint of its TLS certificate, or "".
    """

    dul: QuickDul
    dimse: StreamingDimse

    def __init__(self, service: Service, *, peer: str, certificate: str = "") -> None:
        super().__init__(service.ae, MODE_ACCEPTOR)
        self.service = service
        self.caller: Caller | None = None
        self.peer = peer
        self.certificate = certificate
        self._stirred = threading.Event()
        self.dul = QuickDul(self)
        self.dul.to_user_queue = Bell(self.stir)
        self.dimse = StreamingDimse(self, self.stir)
        # The timers belong to the upper layer that was just replaced.
        self.acse_timeout = service.ae.acse_timeout
        self.network_timeout = service.ae.network_timeout
        self.bind(evt.EVT_REQUESTED, service.admit)

    def stir(self) -> None:
        """Wake the association's thread."""
        self._stirred.set()

    def stage(self, message: DIMSEMessage) -> Staged:
        """Where the data set of a C-STORE request goes."""
        command, context = message.command_set, self._accepted_cx.get(message.context_id or 0)
        head = header(
            sop_class=str(command.get("AffectedSOPClassUID", ""))[:64],
            sop_uid=str(command.get("AffectedSOPInstanceUID", ""))[:64],
            transfer_syntax=str(context.transfer_syntax[0]) if context is not None else "",
            sender=str(self.requestor.ae_title),
        )
        return Staged(head, most=get_settings().instance_max_mb * 2**20)

    def run_reactor(self) -> None:
        """The association's thread, from the request to the end of the connection."""
        try:
            super().run_reactor()
        except Exception as error:
            log.exception("an association ended by an error", kind=type(error).__name__)
            self.dul.kill_dul()
        finally:
            self.service.gone(self)
            self.dul.join(5)
            self.dimse.abandon()
            connection = self.dul.socket
            if connection is not None:
                connection.close()

    def _run_reactor(self) -> None:
        connection = self.dul.socket
        if isinstance(connection, QuickSocket):
            connection.deadline = None
        self._is_paused = False
        while not self._kill:
            self._stirred.wait(_TICK)
            self._stirred.clear()
            while self.is_established and not self._kill:
                context_id, message = self.dimse.get_msg(block=False)
                if message is None or context_id is None:
                    break
                self._serve_request(message, context_id)
            if self._ended():
                self.service.gone(self)
                self.kill()
                return

    def _ended(self) -> bool:
        if self.is_established and self.acse.is_release_requested():
            self.acse.send_release(is_response=True)
            self.is_released = True
            self.is_established = False
            return True
        if self.acse.is_aborted():
            self.dul.receive_pdu(wait=False)
            self.is_aborted = True
            self.is_established = False
            return True
        if not self.dul.is_alive():
            return True
        if self.dul.idle_timer_expired():
            log.info("an association was idle for too long", aet=str(self.requestor.ae_title))
            self.abort()
            return True
        return False

    def kill(self) -> None:
        """End: wait until the last PDU went out and the peer closed, or its time is up."""
        self._reactor_checkpoint.set()
        self._kill = True
        self.is_established = False
        self._is_paused = True
        limit = time.monotonic() + float(self.acse_timeout or 10) + 1
        while self.dul.is_alive() and not self.dul.stop_dul() and time.monotonic() < limit:
            self._stirred.wait(0.05)
            self._stirred.clear()
        self.dul.kill_dul()

    def _serve_request(self, msg: Any, context_id: int) -> None:
        context = self._accepted_cx.get(context_id)
        if self.caller is None or context is None:
            log.warning("a message in a context that was not accepted")
            self.abort()
            return
        if not msg.is_valid_request:
            log.warning("a message that is no request", kind=type(msg).__name__)
            return
        # What serves a request may itself send on this association (C-GET, N-EVENT-REPORT).
        self._is_paused = True
        try:
            if not self.service.still_known(self):
                log.warning("a device that was removed is cut off", peer=self.peer)
                self.abort()
                return
            if not self.service.serve(self, self.caller, msg, context):
                super()._serve_request(msg, context_id)
        except Exception as error:
            log.exception("a request ended by an error", kind=type(error).__name__, message=type(msg).__name__)
            self.abort()
        finally:
            self._is_paused = False
            staged = getattr(msg, "_staged", None)
            if staged is not None:
                staged.drop()

    def syntax_of(self, sop_class: str) -> dict[str, int]:
        """Transfer syntaxes in which the peer takes instances of a class (it is the SCP), with their contexts."""
        return {
            str(context.transfer_syntax[0]): int(context.context_id or 0)
            for context in self.accepted_contexts
            if context.abstract_syntax == UID(sop_class) and context.as_scu
        }
