"""Storage Commitment with pynetdicom as the modality, and DIMSE over TLS with certificates made here."""

from __future__ import annotations

import queue
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context, evt
from sqlalchemy import select

from hub.kit import jobs
from hub.kit.db import database
from hub.kit.jobs import Job
from hub.kit.objects import object_store
from hub.protocols.dimse import commitment
from hub.sites import devices
from hub.studies.models import Instance
from support.dimse import CT, RunningDimse, ct, device, save
from support.running import free_port
from support.world import World
from workers import runner

pytestmark = [pytest.mark.slow, pytest.mark.stranger]
needs_dcmtk = pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed")


def _ask(
    dimse: RunningDimse, images: list[Dataset], *, strange: Dataset | None = None, heard: bool = True
) -> tuple[int, str, queue.Queue[Any]]:
    """Store images and ask for commitment on one association; status, transaction, and what was reported there."""
    reports: queue.Queue[Any] = queue.Queue()

    def reported(event: evt.Event) -> tuple[int, None]:
        reports.put((event.request.EventTypeID, event.event_information))
        return 0x0000, None

    ae = AE(ae_title="CT01")
    target = ae.associate(
        "127.0.0.1", dimse.port, contexts=[build_context(CT, "1.2.840.10008.1.2.1"), build_context(commitment.SOP_CLASS)],
        ae_title="HUB", evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported)],
    )  # fmt: skip
    for one in images:
        assert target.send_c_store(one).Status == 0x0000
    action = Dataset()
    action.TransactionUID = generate_uid()
    action.ReferencedSOPSequence = []
    for one in [*images, *([strange] if strange else [])]:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
        action.ReferencedSOPSequence.append(item)
    status, _reply = target.send_n_action(action, 1, commitment.SOP_CLASS, commitment.INSTANCE)
    try:
        found = reports.get(timeout=60 if heard else 1)
        reports.put(found)
    except queue.Empty:
        pass
    target.release()
    return status.Status, action.TransactionUID, reports


def test_a_device_without_a_listener_hears_on_its_own_association(world: World) -> None:
    device(world.orgs["C01"], "CT01")
    images, strange = [ct(), ct()], ct()
    with RunningDimse() as dimse:
        status, transaction, reports = _ask(dimse, images)
        assert status == 0x0000
        event, information = reports.get_nowait()
        assert event == 1 and information.TransactionUID == transaction
        committed = {one.ReferencedSOPInstanceUID for one in information.ReferencedSOPSequence}
        assert committed == {one.SOPInstanceUID for one in images}
        assert "FailedSOPSequence" not in information
        # What was never sent, and an object that is gone, are not committed.
        more = [ct()]
        status, _transaction, reports = _ask(dimse, more, strange=strange)
        event, information = reports.get_nowait()
        assert event == 2
        (failed,) = information.FailedSOPSequence
        assert (failed.ReferencedSOPInstanceUID, failed.FailureReason) == (strange.SOPInstanceUID, 0x0112)
        with database().reading() as session:
            key = session.scalars(select(Instance.object_key).where(Instance.uid == more[0].SOPInstanceUID)).one()
            org_id = world.orgs["C01"].id
        object_store().delete(key)
        result = commitment.verify(org_id, [(CT, more[0].SOPInstanceUID), (generate_uid(), images[0].SOPInstanceUID)])
        assert [reason for _reference, reason in result.failed] == [0x0110, 0x0119]
        # Another clinic's device learns nothing of these.
        foreign = commitment.verify(world.orgs["C02"].id, [(CT, images[0].SOPInstanceUID)])
        assert [reason for _reference, reason in foreign.failed] == [0x0112]


def test_a_device_with_a_listener_is_called_and_called_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    device(world.orgs["C01"], "CT01", host="127.0.0.1", port=port)
    images = [ct()]
    with RunningDimse() as dimse:
        status, transaction, reports = _ask(dimse, images, heard=False)
    assert status == 0x0000 and reports.empty()
    with database().reading() as session:
        (job,) = session.scalars(select(Job).where(Job.kind == commitment.JOB))
    # Nobody listens yet: the job stays.
    with pytest.raises(commitment.NotTaken):
        commitment.report(job.payload)
    came: list[tuple[int, Dataset]] = []

    def reported(event: evt.Event) -> tuple[int, None]:
        came.append((event.request.EventTypeID, event.event_information))
        return 0x0000, None

    ae = AE(ae_title="CT01")
    ae.add_supported_context(commitment.SOP_CLASS, scu_role=True, scp_role=True)
    listener = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, reported)])
    try:
        jobs.set_sender(None)
        assert runner.run(job.id)
    finally:
        listener.shutdown()
    ((event, information),) = came
    assert event == 1 and information.TransactionUID == transaction
    with database().reading() as session:
        assert session.get_one(Job, job.id).state == jobs.DONE


class Authority:
    """A certificate authority, and certificates by it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.path = self._write(name, self._sign(self._subject, self._key, ca=True), self._key)[0]

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )

    def _write(self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
        pem, private = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return pem, private

    def issue(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of somebody."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._write(name, self._sign(subject, key), key)


@needs_dcmtk
def test_tls_with_a_client_certificate(world: World, tmp_path: Path) -> None:
    county, other = Authority(tmp_path, "county"), Authority(tmp_path, "other")
    hub_pem, hub_key = county.issue("hub")
    ct_pem, ct_key = county.issue("ct01")
    twin_pem, twin_key = county.issue("ct02")
    false_pem, false_key = other.issue("false")
    device(world.orgs["C01"], "CT01", certificate=ct_pem.read_bytes())
    path = save(ct(), tmp_path / "one.dcm")
    secured = free_port()
    settings = {
        "dimse_tls_port": secured,
        "dimse_tls_cert": hub_pem,
        "dimse_tls_key": hub_key,
        "dimse_tls_client_ca": county.path,
    }
    with RunningDimse(settings=settings) as dimse:

        def send(pem: Path, key: Path) -> Any:
            return dimse.call("storescu", "+tls", key, pem, "+cf", county.path, "--", path, aet="CT01")

        # By its AE title alone, on the plain port, the device is nobody.
        assert "Calling AE Title Not Recognized" in dimse.call("storescu", "--", path, aet="CT01").stderr
        dimse.port = secured
        assert dimse.call("storescu", "--", path, aet="CT01").returncode != 0
        assert send(false_pem, false_key).returncode != 0
        assert "Calling AE Title Not Recognized" in send(twin_pem, twin_key).stderr
        done = send(ct_pem, ct_key)
        assert done.returncode == 0, done.stderr
    with database().reading() as session:
        assert session.scalars(select(Instance)).one().org_id == world.orgs["C01"].id
        assert devices.devices(session)[0].certificate == devices.fingerprint(ct_pem.read_bytes())
