"""C-ECHO, C-STORE and admission, as DCMTK's tools and a plain socket see them."""

from __future__ import annotations

import shutil
import socket
import struct
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID, JPEG2000Lossless, generate_uid
from pynetdicom import AE, build_context
from pynetdicom.dimse_primitives import C_STORE
from sqlalchemy import select

from hub.audit.models import AuditEntry
from hub.kit.db import database
from hub.studies import stored
from hub.studies.models import Instance, Quarantined, Study
from support.dimse import CT, RunningDimse, ct, device, save
from support.world import World

pytestmark = [pytest.mark.slow, pytest.mark.stranger]
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmsend") is None, reason="DCMTK is not installed")


@pytest.fixture
def dimse(world: World) -> Iterator[RunningDimse]:
    """The service, with a device of each clinic."""
    device(world.orgs["C01"], "CT01")
    device(world.orgs["C02"], "CT02")
    with RunningDimse() as running:
        yield running


def instances() -> list[Instance]:
    with database().reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.uid)))


@needs_dcmtk
def test_echo_and_who_is_let_in(dimse: RunningDimse) -> None:
    assert dimse.call("echoscu", aet="CT01").returncode == 0
    stranger = dimse.call("echoscu", aet="NOBODY")
    assert stranger.returncode != 0 and "Calling AE Title Not Recognized" in stranger.stderr
    wrong = dimse.call("echoscu", "-aec", "OTHER", aet="CT01")
    assert wrong.returncode != 0 and "Called AE Title Not Recognized" in wrong.stderr


@needs_dcmtk
@pytest.mark.parametrize("tool", ["storescu", "dcmsend"])
def test_images_arrive_as_they_were_sent(dimse: RunningDimse, world: World, tmp_path: Path, tool: str) -> None:
    ds = ct()
    path = save(ds, tmp_path / "one.dcm")
    done = dimse.call(tool, "--", path, aet="CT01")
    assert done.returncode == 0, done.stderr
    (row,) = instances()
    assert row.uid == ds.SOPInstanceUID and row.org_id == world.orgs["C01"].id
    kept = dcmread(BytesIO(stored.original_file(row)))
    assert kept.PixelData == ds.PixelData
    assert kept.file_meta.SourceApplicationEntityTitle == "CT01"
    assert kept.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID
    with database().reading() as session:
        entry = session.scalars(select(AuditEntry).where(AuditEntry.action == "study.receive")).one()
    assert (entry.actor_kind, entry.actor_name, entry.actor_org_id) == ("machine", "CT01", world.orgs["C01"].id)
    assert entry.detail["source"] == "dimse"
    # The same again is success, and stored once.
    assert dimse.call(tool, "--", path, aet="CT01").returncode == 0
    assert len(instances()) == 1


def _send(
    dimse: RunningDimse, *data_sets: object, aet: str = "CT01", syntaxes: list[str] | None = None
) -> list[object]:
    ae = AE(ae_title=aet)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    contexts = {(str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)) for ds in data_sets}
    target = ae.associate(
        "127.0.0.1",
        dimse.port,
        contexts=[build_context(one, syntax) for one, syntax in sorted(contexts)],
        ae_title="HUB",
    )
    assert target.is_established
    answers = [target.send_c_store(ds) for ds in data_sets]
    target.release()
    return answers


def test_statuses(dimse: RunningDimse, world: World) -> None:
    first = ct(patient="001", name="Wang^Wei")
    changed = ct(
        study=first.StudyInstanceUID, series=first.SeriesInstanceUID, sop=first.SOPInstanceUID, patient="001", fill=9
    )
    other = ct(study=first.StudyInstanceUID, patient="777", name="Li^Na")
    private = ct(SOPClassUID="1.2.826.0.1.3680043.99.1")
    private.file_meta.MediaStorageSOPClassUID = private.SOPClassUID
    short = ct()
    short.PixelData = short.PixelData[:100]
    bad = ct()
    del bad.StudyInstanceUID
    answers = _send(dimse, first, first, changed, other, private, short, bad)
    codes = [f"{one.Status:04X}" for one in answers]
    assert codes == ["0000", "0000", "C010", "C011", "0000", "B007", "C000"]
    for answer in answers[2:4]:
        assert 0 < len(answer.ErrorComment) <= 64 and answer.ErrorComment.isascii()
    # The other clinic learns no more than that there is a conflict, and its bytes are kept as well.
    (foreign,) = _send(dimse, first, aet="CT02")
    assert foreign.Status == 0xC011
    with database().reading() as session:
        kept = {one.code for one in session.scalars(select(Quarantined))}
    assert {"changed-content", "identifier-conflict"} <= kept


def test_an_instance_other_than_announced_is_refused(dimse: RunningDimse) -> None:
    ds = ct()
    ae = AE(ae_title="CT01")
    target = ae.associate(
        "127.0.0.1", dimse.port, contexts=[build_context(CT, ds.file_meta.TransferSyntaxUID)], ae_title="HUB"
    )
    original = ds.SOPInstanceUID
    send = target.dimse.send_msg

    def other(primitive: object, context_id: int) -> None:
        primitive.AffectedSOPInstanceUID = generate_uid()  # type: ignore[attr-defined]
        send(primitive, context_id)  # type: ignore[arg-type]

    target.dimse.send_msg = other  # type: ignore[method-assign]
    answer = target.send_c_store(ds)
    target.release()
    assert answer.Status == 0xA900, original
    assert not instances()


def test_a_context_that_is_not_for_storage(dimse: RunningDimse) -> None:
    ae = AE(ae_title="CT01")
    target = ae.associate("127.0.0.1", dimse.port, contexts=[build_context("1.2.840.10008.1.1")], ae_title="HUB")
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = UID(CT), UID("1.2.3")
    request.DataSet = BytesIO(b"\0" * 64)
    target._reactor_checkpoint.clear()
    target.dimse.send_msg(request, 1)
    _context, answer = target.dimse.get_msg(block=True)
    target._reactor_checkpoint.set()
    target.release()
    assert answer is not None and answer.Status == 0x0122


def test_any_transfer_syntax_is_taken(dimse: RunningDimse, tmp_path: Path) -> None:
    from pydicom.data import get_testdata_file

    compressed = dcmread(get_testdata_file("MR_small_jp2klossless.dcm"))
    assert compressed.file_meta.TransferSyntaxUID == JPEG2000Lossless
    deflated = dcmread(get_testdata_file("image_dfl.dcm"))
    big = dcmread(get_testdata_file("MR_small_bigendian.dcm"))
    big.SOPInstanceUID = big.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    for ds in (compressed, deflated, big):
        (answer,) = _send(dimse, ds)
        assert answer.Status in (0x0000, 0xB007), (ds.file_meta.TransferSyntaxUID.name, answer)
    syntaxes = {one.transfer_syntax for one in instances()}
    assert str(JPEG2000Lossless) in syntaxes


def test_large_data_sets_go_to_a_file_and_too_large_ones_are_refused(world: World, hub_env: Path) -> None:
    device(world.orgs["C01"], "CT01")
    large = ct(rows=1400)
    assert len(large.PixelData) > 3 << 20
    with RunningDimse(settings={"instance_max_mb": 5}) as dimse:
        (answer,) = _send(dimse, large)
        assert answer.Status == 0x0000
        small, huge = ct(), ct(rows=1800)
        codes = [one.Status for one in _send(dimse, huge, small)]
        assert codes == [0xA700, 0x0000]
    assert not list((hub_env / "staging").glob("dimse-*"))
    assert {one.uid for one in instances()} == {large.SOPInstanceUID, small.SOPInstanceUID}


def test_a_device_that_may_not_send(world: World) -> None:
    device(world.orgs["H01"], "PACS", stores=False, queries=True)
    with RunningDimse() as dimse:
        (answer,) = _send(dimse, ct(), aet="PACS")
    assert answer.Status == 0x0124
    assert not instances()


def test_quotas_and_silent_peers(world: World) -> None:
    device(world.orgs["C01"], "CT01")
    with RunningDimse(settings={"dimse_device_associations": 2}) as dimse:
        ae = AE(ae_title="CT01")
        held = [ae.associate("127.0.0.1", dimse.port, contexts=[build_context(CT)], ae_title="HUB") for _n in range(2)]
        assert all(one.is_established for one in held)
        third = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(CT)], ae_title="HUB")
        assert third.is_rejected
        for one in held:
            one.release()
        # A peer that says nothing, one that drips, and one that speaks nonsense keep nobody else out.
        silent, nonsense = (socket.create_connection(("127.0.0.1", dimse.port)) for _n in range(2))
        silent.sendall(b"\x01")
        nonsense.sendall(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        huge = socket.create_connection(("127.0.0.1", dimse.port))
        huge.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0))
        until = time.monotonic() + 10
        while time.monotonic() < until:
            again = ae.associate("127.0.0.1", dimse.port, contexts=[build_context(CT)], ae_title="HUB")
            if again.is_established:
                break
        assert again.is_established
        again.release()
        huge.settimeout(10)
        assert huge.recv(100)[:1] in (b"\x07", b"")
        for one in (silent, nonsense, huge):
            one.close()


@needs_dcmtk
def test_kill_in_the_middle_loses_nothing_acknowledged(world: World, tmp_path: Path) -> None:
    device(world.orgs["C01"], "CT01")
    study, series = generate_uid(), generate_uid()
    sent: list[str] = []
    with RunningDimse(processes=2) as dimse:
        ae = AE(ae_title="CT01")
        target = ae.associate(
            "127.0.0.1", dimse.port, contexts=[build_context(CT, "1.2.840.10008.1.2.1")], ae_title="HUB"
        )
        started = time.monotonic()
        for number in range(500):
            ds = ct(study=study, series=series, rows=128, fill=number % 250)
            if sent and time.monotonic() - started > 1.5:
                dimse.kill()
            answer = target.send_c_store(ds) if target.is_established else None
            if answer is None or answer.get("Status") != 0:
                break
            sent.append(ds.SOPInstanceUID)
    assert sent
    rows = {one.uid: one for one in instances()}
    for uid in sent:
        assert stored.original_file(rows[uid])
    with database().reading() as session:
        row = session.scalars(select(Study).where(Study.uid == study)).one()
    assert row.instance_count == len(rows)
