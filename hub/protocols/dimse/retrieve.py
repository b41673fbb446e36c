"""C-MOVE and C-GET (PS3.4 §C.4.2, §C.4.3): what a device may see is sent to it, or to another of its organisation.

Instances go out as they came where the receiver takes that transfer syntax, else uncompressed.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import C_GET, C_MOVE, C_STORE
from pynetdicom.presentation import PresentationContext, build_context
from sqlalchemy import ColumnElement, select
from sqlalchemy.exc import SQLAlchemyError

from hub.audit import service as audit
from hub.dicom.transcoding import TranscodeError
from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.settings import Settings
from hub.protocols.dimse import identifiers, statuses
from hub.protocols.dimse.identifiers import IMAGE, PATIENT, SERIES, STUDY, Identifier, Refused
from hub.protocols.dimse.transport import MAX_PDU, ThrottledDimse
from hub.sites import devices
from hub.sites.models import Device, Organisation
from hub.studies import repository, sending
from hub.studies.models import Instance, Series, Study
from hub.studies.sending import CannotSend, Listed
from storage.errors import StorageError

if TYPE_CHECKING:
    from hub.protocols.dimse.association import DeviceAssociation
    from hub.protocols.dimse.service import Caller

log = get_logger(__name__)

_PATIENT_LEVELS: Final = (PATIENT, STUDY, SERIES, IMAGE)
_STUDY_LEVELS: Final = (STUDY, SERIES, IMAGE)
MOVES: Final = {"1.2.840.10008.5.1.4.1.2.1.2": _PATIENT_LEVELS, "1.2.840.10008.5.1.4.1.2.2.2": _STUDY_LEVELS}
GETS: Final = {"1.2.840.10008.5.1.4.1.2.1.3": _PATIENT_LEVELS, "1.2.840.10008.5.1.4.1.2.2.3": _STUDY_LEVELS}
_MOST_CONTEXTS: Final = 128


@dataclass(slots=True)
class _Count:
    """Sub-operations of one request."""

    remaining: int
    completed: int = 0
    failed: int = 0
    warned: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, uid: str, status: int) -> None:
        """One more was done."""
        self.remaining -= 1
        if status == statuses.SUCCESS:
            self.completed += 1
        elif status in (0x0001, 0x0107, 0x0116) or status >> 12 == 0xB:
            self.warned += 1
        else:
            self.failed += 1
            self.failures.append(uid)

    def result(self) -> int:
        """Status of the last response."""
        if not self.failed and not self.warned:
            return statuses.SUCCESS
        return statuses.SUBOPERATIONS_WARNING if self.completed or self.warned else statuses.SUBOPERATIONS_FAILED


# --- what is asked for ----------------------------------------------------------------------------------------------


def understood(data: Any, context: Any, levels: dict[str, tuple[str, ...]]) -> Identifier:
    """The identifier of a C-MOVE or C-GET request.

    Raises:
        Refused: It cannot be read, or its level and unique keys do not fit the SOP class (PS3.4 §C.4.2.1.4).
    """
    asked = identifiers.asked(data, context, levels)
    identifiers.require_unique(asked, asked.level)
    return asked


def found(actor: Actor, asked: Identifier) -> list[Listed]:
    """The instances that are asked for, as far as the actor may know them.

    Raises:
        Refused: A PatientID that several clinics gave to different people, without the issuer; or too many instances.
    """
    conditions: list[ColumnElement[bool]] = []
    columns: dict[str, Any] = {
        "00100020": Study.patient_number,
        "0020000D": Study.uid,
        "0020000E": Series.uid,
        "00080018": Instance.uid,
    }
    for tag, column in columns.items():
        if values := asked.values(tag):
            conditions.append(column.in_(values))
    if issuers := asked.values("00100021"):
        conditions.append(Study.org_id.in_(select(Organisation.id).where(Organisation.issuer.in_(issuers))))
    try:
        with database().reading() as session:
            items = sending.listed(session, actor, conditions)
    except SQLAlchemyError as error:
        log.error("the instances to send could not be looked up", kind=type(error).__name__)
        raise Refused(statuses.NO_MATCHES_CALCULATED, "the database is out of reach; try again later") from error
    if asked.level == PATIENT and not issuers and len({one.org_id for one in items}) > 1:
        raise Refused(statuses.DOES_NOT_MATCH_CLASS, "several clinics have this PatientID: name IssuerOfPatientID")
    if len(items) > sending.MOST:
        raise Refused(statuses.NO_MATCHES_CALCULATED, f"more than {sending.MOST} instances; ask for less")
    return items


# --- C-GET ----------------------------------------------------------------------------------------------------------


def serve_get(assoc: DeviceAssociation, caller: Caller, request: Any, context: Any) -> None:
    """Send on the same association; the device takes the role of the SCP (PS3.7 D.3.3.4)."""
    try:
        if not caller.queries:
            raise Refused(statuses.NOT_AUTHORISED, "this device may not retrieve")
        items = found(caller.actor, understood(request.Identifier, context, GETS))
    except Refused as refusal:
        _respond(C_GET, assoc, request, context, refusal.status, why=refusal.why)
        return
    _note(caller.actor, items, "")

    def send(one: Listed, number: int) -> int:
        return _send(assoc, one, number, accepted=list(assoc.syntax_of(one.sop_class)))

    _run(C_GET, assoc, request, context, items, send)


# --- C-MOVE ---------------------------------------------------------------------------------------------------------


def serve_move(assoc: DeviceAssociation, caller: Caller, request: Any, context: Any) -> None:
    """Send on a new association to a registered device of the same organisation, and to nobody else."""
    settings = assoc.service.settings
    target: Any = None
    try:
        if not caller.queries:
            raise Refused(statuses.NOT_AUTHORISED, "this device may not retrieve")
        asked = understood(request.Identifier, context, MOVES)
        aet = str(request.MoveDestination or "").strip()
        with database().reading() as session:
            device = devices.destination(session, aet, caller.org_id)
        if device is None:
            raise Refused(statuses.UNKNOWN_DESTINATION, "no device of this organisation listens under that AE title")
        items = found(caller.actor, asked)
        if items:
            target = connect(assoc.service.ae, settings, device, contexts_for(items))
            if target is None:
                raise Refused(statuses.UNKNOWN_DESTINATION, "the destination does not answer")
    except Refused as refusal:
        _respond(C_MOVE, assoc, request, context, refusal.status, why=refusal.why)
        return
    try:
        _note(caller.actor, items, aet)

        def send(one: Listed, number: int) -> int:
            if not target.is_established:
                raise CannotSend("the destination ended the association")
            accepted = [
                str(each.transfer_syntax[0])
                for each in target.accepted_contexts
                if each.abstract_syntax == UID(one.sop_class)
            ]
            return _send(target, one, number, accepted=accepted, origin=(caller.aet, int(request.MessageID)))

        _run(C_MOVE, assoc, request, context, items, send)
    finally:
        if target is not None and target.is_established:
            target.release()


def contexts_for(items: Sequence[Listed]) -> list[PresentationContext]:
    """One presentation context for each class and transfer syntax, so that the receiver's choice is known for each."""
    pairs: dict[tuple[str, str], None] = {(one.sop_class, one.syntax): None for one in items}
    for sop_class in dict.fromkeys(one.sop_class for one in items):
        for syntax in sending.UNCOMPRESSED:
            pairs[(sop_class, syntax)] = None
    return [build_context(sop_class, syntax) for sop_class, syntax in list(pairs)[:_MOST_CONTEXTS]]


def connect(
    ae: Any,
    settings: Settings,
    device: Device,
    contexts: list[PresentationContext],
    *,
    negotiation: list[Any] | None = None,
) -> Any:
    """An association with a device's own listener, or None."""
    tls = (_client_tls(settings), device.host) if device.tls else None
    target = ae.associate(
        device.host,
        device.port,
        contexts=contexts,
        ae_title=device.aet,
        max_pdu=MAX_PDU,
        ext_neg=negotiation,
        tls_args=tls,
    )
    if not target.is_established:
        log.warning("a device does not answer", device=device.id, rejected=bool(target.is_rejected))
        return None
    target.dimse = ThrottledDimse(target)
    return target


def _client_tls(settings: Settings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Devices' certificates name no host; who signed them is what counts.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(settings.dimse_tls_client_ca or settings.dimse_tls_cert)
    if settings.dimse_tls_cert:
        context.load_cert_chain(settings.dimse_tls_cert, settings.dimse_tls_key or None)
    return context


# --- both -----------------------------------------------------------------------------------------------------------


def _run(
    kind: type[C_GET | C_MOVE],
    assoc: DeviceAssociation,
    request: Any,
    context: Any,
    items: Sequence[Listed],
    send: Callable[[Listed, int], int],
) -> None:
    count = _Count(len(items))
    for number, one in enumerate(items, 1):
        if not assoc.is_established or assoc.acse.is_aborted() or assoc.acse.is_release_requested():
            return
        if assoc.dimse.cancel_req.pop(request.MessageID, None) is not None:
            _respond(kind, assoc, request, context, statuses.CANCELLED, count)
            return
        try:
            status = send(one, number)
        except (CannotSend, TranscodeError, StorageError, OSError, ValueError) as error:
            log.warning("an instance could not be sent", instance=one.id, kind=type(error).__name__)
            status = statuses.PROCESSING_FAILURE
        count.add(one.uid, status)
        if count.remaining:
            _respond(kind, assoc, request, context, statuses.PENDING, count)
    _respond(kind, assoc, request, context, count.result(), count)


def _send(
    target: Any, one: Listed, number: int, *, accepted: Sequence[str], origin: tuple[str, int] | None = None
) -> int:
    """C-STORE of one instance; the receiver's status."""
    path, offset, syntax = sending.data_set(one, accepted)
    try:
        request: Any = C_STORE()
        request.MessageID = number % 65_536
        request.Priority = 2
        request.AffectedSOPClassUID = one.sop_class
        request.AffectedSOPInstanceUID = one.uid
        if origin is not None:
            request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID = origin
        request._dataset_path = (path, offset)
        context_id = next(
            int(each.context_id)
            for each in target.accepted_contexts
            if each.abstract_syntax == UID(one.sop_class) and str(each.transfer_syntax[0]) == syntax
        )
        return _exchange(target, request, context_id)
    finally:
        Path(path).unlink(missing_ok=True)


def _exchange(target: Any, request: Any, context_id: int) -> int:
    """Send a request and wait for its answer, with the association's own thread standing still meanwhile."""
    import time

    target._reactor_checkpoint.clear()
    while not target._is_paused:
        time.sleep(0.0005)
    try:
        target.dimse.send_msg(request, context_id)
        _context_id, response = target.dimse.get_msg(block=True)
    finally:
        target._reactor_checkpoint.set()
    if response is None or response.Status is None:
        raise CannotSend("the receiver did not answer")
    return int(response.Status)


def _respond(
    kind: type[C_GET | C_MOVE],
    assoc: DeviceAssociation,
    request: Any,
    context: Any,
    status: int,
    count: _Count | None = None,
    *,
    why: str = "",
) -> None:
    response: Any = kind()
    response.MessageID = request.MessageID
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = status
    if why:
        response.ErrorComment = statuses.comment(why)
    if count is not None:
        if status in (statuses.PENDING, statuses.CANCELLED):
            response.NumberOfRemainingSuboperations = count.remaining
        response.NumberOfCompletedSuboperations = count.completed
        response.NumberOfFailedSuboperations = count.failed
        response.NumberOfWarningSuboperations = count.warned
        if count.failures and status != statuses.PENDING:
            failed = Dataset()
            failed.FailedSOPInstanceUIDList = count.failures
            response.Identifier = identifiers.write(failed, context)
    assoc.dimse.send_msg(response, context.context_id)


def _note(actor: Actor, items: Sequence[Listed], destination: str) -> None:
    """Audit that images leave the hub; before the first one does."""
    for study_id in dict.fromkeys(one.study_id for one in items):
        repository.note_view(actor, study_id)
    if not destination or not items:
        return
    with database().writing() as session:
        for uid, org_id in dict.fromkeys((one.study_uid, one.org_id) for one in items):
            audit.record(session, actor, "study.send", "study", uid, org_id=org_id, destination=destination)
