"""The upper layer (PS3.8) of pynetdicom without its waiting, and data sets that go to a file as they arrive.

pynetdicom asks its queues and its socket every millisecond, reads 4 KB at a time and copies a P-DATA-TF PDU five times
before a data set is whole. Here the same state machine waits on a selector and bells, and the fragments of a C-STORE
data set go from the socket into their staging place. Everything else (A-ASSOCIATE, commands, release, abort) is
pynetdicom's own.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.dimse import _RQ_TO_MESSAGE, _RSP_TO_MESSAGE, DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_CANCEL
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from hub.kit.logging import get_logger
from hub.protocols.dimse.staging import Staged

if TYPE_CHECKING:
    from pynetdicom.association import Association

log = get_logger(__name__)

MAX_PDU: Final = 131_072
"""Longest P-DATA-TF that is asked for; what DCMTK sends at most."""

_MOST_ACSE: Final = 1 << 20
"""Longest A-ASSOCIATE and the like: 128 contexts of 40 transfer syntaxes are 330 KB."""

_MOST_IN_MEMORY: Final = 4 << 20
"""Longest command, identifier or action information; Storage Commitment of 20,000 instances is 3 MB."""

_MOST_WAITING: Final = 8
"""Messages that may wait: no asynchronous operations are negotiated (PS3.7 D.3.3.3), so more is no protocol."""

_MOST_UNSENT: Final = 16
_TICK: Final = 0.5

P_DATA_TF: Final = 0x04
ESTABLISHED: Final = "Sta6"


class BadStream(Exception):
    """The peer sent what no PDU, PDV or message is."""


class Bell(queue.Queue[Any]):
    """A queue that rings when something is put in."""

    def __init__(self, ring: Callable[[], object]) -> None:
        super().__init__()
        self._ring = ring

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Put, and ring."""
        super().put(item, block, timeout)
        self._ring()


class QuickSocket(AssociationSocket):
    """A connected socket that reads into memory of the right size.

    Nothing may take longer than `deadline` (monotonic seconds) while it is set: then a peer that sends a byte now and
    then gets no further than one that sends nothing.
    """

    deadline: float | None = None
    patience: float = 60.0

    def fill(self, view: memoryview) -> None:
        """Read exactly as much as `view` takes.

        Raises:
            OSError: The connection ended, or was silent for too long.
        """
        connection = self.socket
        while view:
            if connection is None:
                raise ConnectionAbortedError("closed")
            wait = self.patience
            if self.deadline is not None:
                wait = min(wait, self.deadline - time.monotonic())
                if wait <= 0:
                    raise TimeoutError("too slow")
            connection.settimeout(wait)
            count = connection.recv_into(view)
            if not count:
                raise ConnectionResetError("cut off")
            # A sender with Nagle's algorithm keeps the short end of a data set back until all before it is
            # acknowledged, which the kernel puts off by 40 ms: 25 instances a second. The option holds for once.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            view = view[count:]

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly `nr_bytes`; errors as `fill`."""
        found = bytearray(nr_bytes)
        self.fill(memoryview(found))
        return found

    def send(self, bytestream: bytes) -> None:
        """Send all; a failure ends the association."""
        try:
            if self.socket is not None:
                self.socket.settimeout(self.patience)
                self.socket.sendall(bytestream)
        except OSError:
            self.event_queue.put("Evt17")

    def wait(self, bell: int, seconds: float) -> bool:
        """Wait until there is something to read or the bell rings; whether there is something to read."""
        connection = self.socket
        if connection is None or not self._is_connected:
            select.select([bell], [], [], seconds)
            return False
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return True
        try:
            # poll, not select: a process may have more than 1,024 descriptors.
            poller = select.poll()
            poller.register(connection, select.POLLIN)
            poller.register(bell, select.POLLIN)
            ready = {descriptor for descriptor, _event in poller.poll(seconds * 1000)}
            return connection.fileno() in ready
        except (OSError, ValueError):
            self.event_queue.put("Evt17")
            return False


class QuickDul(DULServiceProvider):
    """The upper layer's thread: waits for the peer or for the association's own thread, and loses no time between."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.daemon = True
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell_lock = threading.Lock()
        self.to_provider_queue = Bell(self.ring)

    def ring(self) -> None:
        """Wake the thread."""
        with self._bell_lock:
            if self._bell >= 0:
                os.eventfd_write(self._bell, 1)

    def kill_dul(self) -> None:
        """End the thread."""
        super().kill_dul()
        self.ring()

    def stop_dul(self) -> bool:
        """End the thread if the connection is at its end; whether it is."""
        if self.state_machine.current_state != "Sta1":
            return False
        self.kill_dul()
        if threading.current_thread() is not self:
            self.join(5)
        return True

    def run_reactor(self) -> None:
        """Until the connection is at its end: send what is to be sent, read what is there, step the state machine."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                self._step()
        except Exception as error:
            log.exception("an association ended by an error of its upper layer", kind=type(error).__name__)
            self.assoc.is_aborted = True
            self.assoc.is_established = False
            self.assoc._kill = True
            if self.socket is not None:
                self.socket.close()
        finally:
            self._kill_thread = True
            with self._bell_lock:
                os.close(self._bell)
                self._bell = -1
            self.assoc.stir()  # type: ignore[attr-defined]

    def _step(self) -> None:
        if self.artim_timer.expired:
            self.artim_timer.stop()
            self.event_queue.put("Evt18")
        if self.event_queue.empty() and not self._process_recv_primitive():
            self._listen()
        try:
            event = self.event_queue.get(block=False)
        except queue.Empty:
            return
        self.state_machine.do_action(event)
        if self._kill_thread or self.state_machine.current_state != ESTABLISHED:
            self.assoc.stir()  # type: ignore[attr-defined]

    def _listen(self) -> None:
        connection = self.socket
        if not isinstance(connection, QuickSocket):
            return
        if connection.wait(self._bell, _TICK):
            self._read_pdu_data()
            self._idle_timer.restart()
        elif self.state_machine.current_state == "Sta13" and self.artim_timer.timeout is None:
            connection.close()
        with self._bell_lock:
            if self._bell >= 0:
                try:
                    os.eventfd_read(self._bell)
                except BlockingIOError:
                    return

    def _read_pdu_data(self) -> None:
        connection = self.socket
        assert isinstance(connection, QuickSocket)
        if self.state_machine.current_state == ESTABLISHED:
            # Each PDU for itself must arrive within the time that silence may last.
            connection.deadline = time.monotonic() + connection.patience
        try:
            head = connection.recv(6)
            kind, _reserved, length = struct.unpack(">BBL", head)
            if kind == P_DATA_TF and self.state_machine.current_state == ESTABLISHED:
                self._read_fragments(connection, length)
                return
            if not 1 <= kind <= 7 or length > _MOST_ACSE:
                raise BadStream("no PDU")
            body = connection.recv(length)
        except OSError:
            self.event_queue.put("Evt17")
            return
        except BadStream as error:
            log.warning("a peer broke the protocol", why=str(error))
            self.event_queue.put("Evt19")
            return
        try:
            pdu, event = self._decode_pdu(head + body)
        except Exception as error:
            log.warning("a PDU could not be read", kind=type(error).__name__)
            self.event_queue.put("Evt19")
            return
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _read_fragments(self, connection: QuickSocket, length: int) -> None:
        """The presentation data values of one P-DATA-TF PDU (PS3.8 §9.3.5), each handed on as it is read."""
        dimse = self.assoc.dimse
        assert isinstance(dimse, StreamingDimse)
        left = length
        while left:
            if left < 6:
                raise BadStream("a PDU ends within a PDV")
            size, context_id, control = struct.unpack(">LBB", connection.recv(6))
            if size < 2 or size + 4 > left:
                raise BadStream("a PDV is longer than its PDU")
            left -= size + 4
            dimse.fragment(connection, context_id, control, size - 2)


class ThrottledDimse(DIMSEServiceProvider):
    """Sends a long data set no faster than the network takes it, instead of filling the memory with its PDUs."""

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Send; a long data set waits for the network instead of filling the memory."""
        table: Any = _RQ_TO_MESSAGE if primitive.MessageIDBeingRespondedTo is None else _RSP_TO_MESSAGE
        message = table[primitive.__class__]()
        message.primitive_to_message(primitive)
        message.context_id = context_id
        # A peer that takes PDUs of any length would have a data set of gigabytes in memory, and at once.
        longest = min(self.maximum_pdu_size or MAX_PDU, MAX_PDU)
        for part in message.encode_msg(context_id, longest):
            while self.dul.to_provider_queue.qsize() > _MOST_UNSENT:
                if not self.dul.is_alive():
                    return
                time.sleep(0.002)
            self.dul.send_pdu(part)


class StreamingDimse(ThrottledDimse):
    """Puts messages together: commands and identifiers in memory, the data sets of C-STORE in a `Staged`."""

    def __init__(self, assoc: Association, stir: Callable[[], object]) -> None:
        super().__init__(assoc)
        self.msg_queue = Bell(stir)
        self.staged: Staged | None = None

    def fragment(self, connection: QuickSocket, context_id: int, control: int, size: int) -> None:
        """One PDV whose `size` bytes are still to be read from the connection.

        Args:
            connection: Where to read.
            context_id: Its presentation context.
            control: Message control header: bit 0 command, bit 1 last (PS3.8 E.2).
            size: Bytes of the fragment.

        Raises:
            BadStream: It does not belong here.
            OSError: The connection ended.
        """
        if control & 1:
            self._small(connection, context_id, control, size)
            return
        if self.message is None or self.message.context_id is None:
            raise BadStream("a data set without its command")
        if context_id != self.message.context_id:
            raise BadStream("a data set in another context than its command")
        if not isinstance(self.message, C_STORE_RQ):
            self._small(connection, context_id, control, size)
            return
        if self.staged is None:
            self.staged = self.assoc.stage(self.message)  # type: ignore[attr-defined]
        self.staged.take(connection.fill, size)
        if control & 2:
            self._whole()

    def _small(self, connection: QuickSocket, context_id: int, control: int, size: int) -> None:
        held = 0
        if self.message is not None:
            data = self.message.data_set
            held = self.message.encoded_command_set.tell() + (data.tell() if data is not None else 0)
        if held + size > _MOST_IN_MEMORY:
            raise BadStream("a message that is no data set is too long")
        if self.message is None:
            if not control & 1:
                raise BadStream("a data set without its command")
            self.message = DIMSEMessage()
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((context_id, bytes([control]) + bytes(connection.recv(size))))
        try:
            whole = self.message.decode_msg(primitive, self.assoc)
        except Exception as error:
            raise BadStream("no command set") from error
        if whole:
            self._whole()

    def _whole(self) -> None:
        """The message is complete: as `receive_primitive` of pynetdicom, but for what was staged."""
        message, self.message = self.message, None
        staged, self.staged = self.staged, None
        assert message is not None
        try:
            primitive = message.message_to_primitive()
        except Exception as error:
            if staged is not None:
                staged.drop()
            raise BadStream("no message") from error
        if isinstance(primitive, C_CANCEL):
            if len(self.cancel_req) < _MOST_WAITING and primitive.MessageIDBeingRespondedTo is not None:
                self.cancel_req[primitive.MessageIDBeingRespondedTo] = primitive
            return
        if self.msg_queue.qsize() >= _MOST_WAITING:
            if staged is not None:
                staged.drop()
            raise BadStream("requests without waiting for answers")
        primitive._staged = staged  # type: ignore[union-attr]
        self.msg_queue.put((message.context_id or 0, primitive))
        message.encoded_command_set = BytesIO()

    def abandon(self) -> None:
        """The association ended: nothing of what was under way stays on the disk."""
        staged, self.staged = self.staged, None
        if staged is not None:
            staged.drop()
        while True:
            try:
                _context_id, primitive = self.msg_queue.get(block=False)
            except queue.Empty:
                return
            waiting = getattr(primitive, "_staged", None)
            if waiting is not None:
                waiting.drop()
