"""One process of the DIMSE service: `python -m hub.protocols.dimse.server`, under the supervisor.

Several share one listening socket, each waiting in `accept`: the one that has waited longest gets the next connection,
so that associations spread over the processes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Final

from pynetdicom.transport import AddressInformation

from hub.kit import jobs, lifeline, memory
from hub.kit.broker import make_sender
from hub.kit.logging import configure, get_logger
from hub.kit.settings import Settings, get_settings
from hub.protocols.dimse.association import DeviceAssociation
from hub.protocols.dimse.service import ACSE_SECONDS, Service
from hub.protocols.dimse.transport import QuickSocket

log = get_logger(__name__)

LISTENERS: Final = "HUB_DIMSE_LISTENERS"
"""Variable with the numbers of the supervisor's sockets: the plain one, and the one for TLS; "" where there is none."""

GRACE_SECONDS: Final = 5.0
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or newer with a client certificate (PS3.15 B.9, the BCP 195 profile); None without a certificate.

    Raises:
        OSError, ssl.SSLError: The files cannot be read or do not fit each other.
    """
    if not settings.dimse_tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.load_cert_chain(settings.dimse_tls_cert, settings.dimse_tls_key or None)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(settings.dimse_tls_client_ca or settings.dimse_tls_cert)
    return context


class Listener:
    """Takes connections from one listening socket, each in a thread of its own from the first byte."""

    def __init__(self, service: Service, listening: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self.service = service
        self.stopping = threading.Event()
        self._listening = listening
        self._tls = tls
        # A connection that has not said who it is costs a thread, too: there are twice as many as associations, of
        # which one address has half at most.
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def start(self) -> None:
        """Accept in a thread."""
        threading.Thread(target=self._accept, daemon=True, name="dimse-accept").start()

    def _accept(self) -> None:
        self._listening.settimeout(None)
        while not self.stopping.is_set():
            try:
                connection, address = self._listening.accept()
            except OSError as error:
                if self.stopping.is_set():
                    return
                log.error("no connection could be taken", errno=error.errno)
                time.sleep(0.5)
                continue
            if self.stopping.is_set() or not self._room_for(address[0]):
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection, address), daemon=True, name="dimse").start()

    def _room_for(self, peer: str) -> bool:
        most = self.service.settings.dimse_associations
        with self._lock:
            if self._open.total() >= most * 2 or self._open[peer] >= most:
                return False
            self._open[peer] += 1
            return True

    def _left(self, peer: str) -> None:
        with self._lock:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    def _serve(self, connection: socket.socket, address: tuple[str, int]) -> None:
        try:
            connection.settimeout(ACSE_SECONDS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            certificate = ""
            if self._tls is not None:
                secured = self._tls.wrap_socket(connection, server_side=True)
                connection = secured
                presented = secured.getpeercert(binary_form=True)
                certificate = hashlib.sha256(presented).hexdigest() if presented else ""
            association = self._association(connection, address, certificate)
            association.start()
            association.join()
        except OSError as error:
            log.info("a connection came to nothing", kind=type(error).__name__)
        except Exception as error:
            log.exception("a connection failed", kind=type(error).__name__)
        finally:
            self._left(address[0])
            with contextlib.suppress(OSError):
                connection.close()

    def _association(self, connection: socket.socket, address: tuple[str, int], certificate: str) -> DeviceAssociation:
        service = self.service
        association = DeviceAssociation(service, peer=address[0], certificate=certificate)
        association.name = f"AcceptorThread@{datetime.now(UTC):%Y%m%d%H%M%S}"
        wrapped = QuickSocket(association, client_socket=connection)
        wrapped.deadline = time.monotonic() + ACSE_SECONDS
        wrapped.patience = float(service.settings.dimse_idle_seconds)
        association.set_socket(wrapped)
        acceptor = association.acceptor
        acceptor.maximum_length = service.ae.maximum_pdu_size
        acceptor.ae_title = service.ae.ae_title
        acceptor.address_info = AddressInformation.from_tuple(connection.getsockname())
        acceptor.implementation_class_uid = service.ae.implementation_class_uid
        acceptor.implementation_version_name = service.ae.implementation_version_name
        acceptor.supported_contexts = service.contexts
        association.requestor.address_info = AddressInformation.from_tuple(address)
        return association


class Server:
    """The service on its listening sockets, in threads of this process."""

    def __init__(self, settings: Settings, plain: socket.socket | None, secured: socket.socket | None) -> None:
        self.service = Service(settings)
        self._sockets = [one for one in (plain, secured) if one is not None]
        self._listeners = [Listener(self.service, plain)] if plain is not None else []
        if secured is not None:
            self._listeners.append(Listener(self.service, secured, tls_context(settings)))

    def start(self) -> None:
        """Take connections."""
        for listener in self._listeners:
            listener.start()

    def stop(self) -> None:
        """Take no more; associations under way are given a moment. Other processes on the sockets go on."""
        for listener in self._listeners:
            listener.stopping.set()
        limit = time.monotonic() + GRACE_SECONDS
        while self.service.present() and time.monotonic() < limit:
            time.sleep(0.05)


def serve(settings: Settings, plain: socket.socket | None, secured: socket.socket | None) -> None:
    """Serve until asked to end; associations under way are given a moment."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    signal.signal(signal.SIGINT, lambda _number, _frame: stopping.set())
    server = Server(settings, plain, secured)
    memory.prepare()
    server.start()
    while not stopping.wait(1.0):
        pass
    server.stop()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of associations that did not end would hold the process.
    os._exit(0)


def main() -> None:
    """Serve on the supervisor's sockets, and end with the supervisor.

    The code is loaded while the supervisor still looks at the database; a line on standard input says that it is fit.
    """
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    lifeline.hold()
    jobs.set_sender(make_sender(settings))
    if not sys.stdin.buffer.read(1):
        return
    found = [socket.socket(fileno=int(number)) if number else None for number in os.environ.pop(LISTENERS).split(",")]
    serve(settings, *found)


if __name__ == "__main__":
    main()
