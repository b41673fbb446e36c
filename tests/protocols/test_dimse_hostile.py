"""What a peer may send that no device would: the service ends that association, and goes on."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Iterator

import psutil
import pytest
from pynetdicom import AE, build_context
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification

from hub.protocols.dimse.transport import MAX_PDU
from support.dimse import CT, RunningDimse, ct, device
from support.world import World

pytestmark = [pytest.mark.slow]
EXPLICIT = "1.2.840.10008.1.2.1"


@pytest.fixture
def dimse(world: World) -> Iterator[RunningDimse]:
    """The service, with one device."""
    device(world.orgs["C01"], "CT01")
    with RunningDimse(processes=1) as running:
        yield running


def associate(dimse: RunningDimse) -> socket.socket:
    """An association made by hand, context 1 for CT images."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = "CT01", "HUB"
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3.4"  # type: ignore[assignment]
    request.user_information = [length, implementation]
    context = build_context(CT, EXPLICIT)
    context.context_id = 1
    request.presentation_context_definition_list = [context]
    connection = socket.create_connection(("127.0.0.1", dimse.port), 60)
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    connection.sendall(pdu.encode())
    head = connection.recv(6)
    assert head[0] == 2, head
    left = struct.unpack(">L", head[2:])[0]
    while left:
        left -= len(connection.recv(left))
    return connection


def pdv(control: int, data: bytes, context: int = 1) -> bytes:
    item = struct.pack(">LBB", len(data) + 2, context, control) + data
    return struct.pack(">BBL", 4, 0, len(item)) + item


def element(tag: int, value: bytes) -> bytes:
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHL", 0, tag, len(value)) + value


def command(*, field: int = 1, data_set: int = 0, sop: bytes = b"1.2.3.4.5") -> bytes:
    """A C-STORE request's command set."""
    body = b"".join(
        (
            element(0x0002, CT.encode()),
            element(0x0100, struct.pack("<H", field)),
            element(0x0110, struct.pack("<H", 1)),
            element(0x0700, struct.pack("<H", 0)),
            element(0x0800, struct.pack("<H", data_set)),
            element(0x1000, sop),
        )
    )
    return element(0x0000, struct.pack("<L", len(body))) + body


HOSTILE = {
    "a data set without a command": pdv(2, b"x" * 100),
    "a PDV longer than its PDU": struct.pack(">BBLLBB", 4, 0, 6, 1000, 1, 3),
    "a PDV of nothing": struct.pack(">BBLL", 4, 0, 4, 0),
    "a PDU of a length that is no length": struct.pack(">BBL", 4, 0, 3) + b"abc",
    "an unknown PDU": struct.pack(">BBL", 99, 0, 4) + b"abcd",
    "a long PDU that is no data": struct.pack(">BBL", 1, 0, 0x7FFFFFFF),
    "a command that is none": pdv(3, b"\xff" * 64),
    "a command without end": b"".join(pdv(1, b"\0" * 60_000) for _n in range(100)),
    "a command of an unknown kind": pdv(3, command(field=0x4242)),
    "a data set in another context": pdv(3, command()) + pdv(2, b"x" * 10, context=3),
    "a context that was not negotiated": pdv(3, command(), context=7) + pdv(2, b"x" * 10, context=7),
    "an endless UID": pdv(3, command(sop=b"1." * 500)) + pdv(2, b"x"),
    "requests without waiting": (pdv(3, command()) + pdv(2, b"x" * 10)) * 50,
    "an answer to nothing": pdv(3, command(field=0x8001, data_set=0x0101)),
    "an association within an association": struct.pack(">BBL", 1, 0, 68) + b"\0" * 68,
}


def test_hostile_streams(dimse: RunningDimse) -> None:
    for name, stream in HOSTILE.items():
        connection = associate(dimse)
        try:
            connection.sendall(stream)
            connection.settimeout(60)
            if name == "an answer to nothing":
                connection.sendall(struct.pack(">BBL", 5, 0, 4) + b"\0" * 4)
            answer = connection.recv(10)
            while answer[:1] == b"\x04" and (more := connection.recv(65_536)):
                answer = more if len(more) > 9 else answer
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            pytest.fail(f"{name}: the association was left standing")
        finally:
            connection.close()
    noise = random.Random(1)
    for _round in range(30):
        connection = associate(dimse)
        with contextlib.suppress(OSError):
            connection.sendall(pdv(3, command()) + noise.randbytes(noise.randrange(1, 4000)))
        connection.close()
    # It still works, and nothing of all this is left.
    ae = AE(ae_title="CT01")
    target = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(CT, EXPLICIT)], ae_title="HUB")
    assert target.is_established and target.send_c_store(ct()).Status == 0x0000
    target.release()
    process = psutil.Process(dimse.running[0].pid)
    until = time.monotonic() + 60
    while process.num_threads() > 14 and time.monotonic() < until:
        time.sleep(0.2)
    assert process.num_threads() <= 14, process.num_threads()


def test_a_long_data_set_is_not_held_in_memory(dimse: RunningDimse) -> None:
    """Half a gigabyte passes through; a fragment is as long as the longest PDU."""
    connection = associate(dimse)
    process = psutil.Process(dimse.running[0].pid)
    before = most = process.memory_info().rss
    connection.sendall(pdv(3, command()))
    piece = pdv(0, b"\0" * (MAX_PDU - 6))
    for number in range(4096):
        connection.sendall(piece)
        if number % 256 == 0:
            most = max(most, process.memory_info().rss)
    connection.sendall(pdv(2, b"\0" * 10))
    head = connection.recv(6)
    most = max(most, process.memory_info().rss)
    assert head[:1] == b"\x04"
    connection.close()
    assert most - before < 150 << 20, (most - before) >> 20
