"""Storage Commitment, push model (PS3.4 annex J): a device asks whether it may forget what it sent.

The request is written down as a job and acknowledged; the report says for each instance whether the hub has it
durably. It goes to the device's own listener, where one is registered, and is tried again until it is taken; else on
the association of the request, as long as that lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.presentation import build_context, build_role
from sqlalchemy import select

from hub.audit import service as audit
from hub.kit import jobs
from hub.kit.db import database
from hub.kit.logging import get_logger
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.protocols.dimse import identifiers, statuses
from hub.sites import devices
from hub.sites.models import Device, Organisation
from hub.studies.indexing import damaged
from hub.studies.models import Instance, Quarantined, Study
from storage.errors import ObjectNotFound

if TYPE_CHECKING:
    from hub.protocols.dimse.association import DeviceAssociation
    from hub.protocols.dimse.service import Caller

log = get_logger(__name__)

SOP_CLASS: Final = "1.2.840.10008.1.20.1"
INSTANCE: Final = "1.2.840.10008.1.20.1.1"
JOB: Final = "dimse.report_commitment"
MOST: Final = 20_000
"""References of one request; a study of more is asked for in parts."""

_ACTION: Final = 1
_COMMITTED, _FAILURES = 1, 2
_CLASS_CONFLICT: Final = 0x0119
_MESSAGE_ID: Final = 1

Reference = tuple[str, str]
"""SOP Class and SOP Instance UID."""


class NotTaken(Exception):
    """The device did not take the report; it is tried again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a request: what is committed, and what is not and why (PS3.4 Table J.3-2)."""

    committed: list[Reference]
    failed: list[tuple[Reference, int]]

    @property
    def event(self) -> int:
        """Event Type ID."""
        return _FAILURES if self.failed else _COMMITTED


def serve(assoc: DeviceAssociation, caller: Caller, request: Any, context: Any) -> None:
    """Write the request down, acknowledge it, and report."""
    status, why, transaction, references = statuses.SUCCESS, "", "", list[Reference]()
    listens = False
    try:
        if str(request.RequestedSOPInstanceUID) != INSTANCE:
            status = statuses.NO_SUCH_INSTANCE
        elif request.ActionTypeID != _ACTION:
            status = statuses.NO_SUCH_ACTION
        elif not caller.stores:
            status, why = statuses.NOT_AUTHORISED, "this device may not send"
        else:
            transaction, references = _read(request.ActionInformation, context)
            if len(references) > MOST:
                status, why = statuses.RESOURCE_LIMITATION, f"more than {MOST} references"
            else:
                listens = _write_down(caller, transaction, references)
    except ValueError as error:
        status, why = statuses.INVALID_ARGUMENT, str(error)
    except Exception as error:
        log.exception("a commitment request could not be written down", kind=type(error).__name__)
        status, why = statuses.PROCESSING_FAILURE, "the hub could not write the request down; ask again"
    response: Any = N_ACTION()
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.RequestedSOPClassUID
    response.AffectedSOPInstanceUID = request.RequestedSOPInstanceUID
    response.ActionTypeID = request.ActionTypeID
    response.Status = status
    if why:
        response.ErrorComment = statuses.comment(why)
    assoc.dimse.send_msg(response, context.context_id)
    if status == statuses.SUCCESS and not listens:
        _report_here(assoc, caller, context, transaction, references)


def _read(data: Any, context: Any) -> tuple[str, list[Reference]]:
    try:
        information = identifiers.decoded(data, context)
        transaction = str(information.TransactionUID)
        references = [
            (str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID))
            for item in information.ReferencedSOPSequence
        ]
    except Exception as error:
        raise ValueError("Action Information cannot be read") from error
    if not references or not all(UID(uid).is_valid for uid in (transaction, *(one for _class, one in references))):
        raise ValueError("Transaction UID or references are not valid")
    return transaction, references


def _write_down(caller: Caller, transaction: str, references: list[Reference]) -> bool:
    """A job for the report; whether there is a listener to send it to."""
    with database().writing() as session:
        device = session.get(Device, caller.device_id)
        listens = device is not None and device.port is not None
        audit.record(
            session,
            caller.actor,
            "images.commitment",
            "device",
            caller.device_id,
            org_id=caller.org_id,
            transaction=transaction,
            instances=len(references),
        )
        if listens:
            payload = {"device_id": caller.device_id, "transaction": transaction, "references": references}
            jobs.enqueue(session, JOB, payload, key=f"commitment:{caller.device_id}:{transaction}", priority=4)
    return listens


def verify(org_id: str, references: list[Reference]) -> Result:
    """Which of the instances of an organisation the hub has durably: rows that are committed, objects that are there.

    What lies in quarantine under the same UID was not taken in, whatever else is known by it.
    """
    wanted = [uid for _class, uid in references]
    known: dict[str, tuple[str, str, int]] = {}
    doubtful: set[str] = set()
    with database().reading() as session:
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            rows = session.execute(
                select(
                    Instance.uid,
                    Instance.id,
                    Instance.sop_class,
                    Instance.object_key,
                    Instance.object_offset + Instance.size,
                    Instance.recipe_offset + Instance.recipe_size,
                )
                .join(Study, Study.id == Instance.study_id)
                .where(Instance.uid.in_(part), Instance.org_id == org_id, Study.trashed_at.is_(None))
            ).all()
            known.update({row[0]: (row[2], row[3], max(row[4], row[5])) for row in rows})
            # An original that was found damaged is not one that its sender may forget.
            lost = damaged(session, (row[1] for row in rows))
            doubtful.update(row[0] for row in rows if row[1] in lost)
            doubtful.update(
                session.scalars(
                    select(Quarantined.sop_uid).where(
                        Quarantined.org_id == org_id, Quarantined.decision == "", Quarantined.sop_uid.in_(part)
                    )
                )
            )
    there = {key: _length(key) for key in {key for _class, key, _end in known.values()}}
    committed: list[Reference] = []
    failed: list[tuple[Reference, int]] = []
    for sop_class, uid in references:
        found = known.get(uid)
        if found is None:
            failed.append(((sop_class, uid), statuses.NO_SUCH_INSTANCE))
        elif found[0] != sop_class:
            failed.append(((sop_class, uid), _CLASS_CONFLICT))
        elif uid in doubtful or there[found[1]] < found[2]:
            failed.append(((sop_class, uid), statuses.PROCESSING_FAILURE))
        else:
            committed.append((sop_class, uid))
    return Result(committed, failed)


def _length(key: str) -> int:
    """Bytes of an object; -1 where it is not there."""
    try:
        return object_store().stat(key).size
    except ObjectNotFound:
        return -1


def information(transaction: str, result: Result) -> Dataset:
    """Event Information of the report."""

    def item(reference: Reference, reason: int | None = None) -> Dataset:
        found = Dataset()
        found.ReferencedSOPClassUID, found.ReferencedSOPInstanceUID = reference
        if reason is not None:
            found.FailureReason = reason
        return found

    event = Dataset()
    event.TransactionUID = transaction
    if result.committed:
        event.ReferencedSOPSequence = [item(one) for one in result.committed]
    if result.failed:
        event.FailedSOPSequence = [item(one, reason) for one, reason in result.failed]
    return event


def _report_here(
    assoc: DeviceAssociation, caller: Caller, context: Any, transaction: str, references: list[Reference]
) -> None:
    """Report on the association of the request: the device has no listener that the hub knows."""
    result = verify(caller.org_id, references)
    request: Any = N_EVENT_REPORT()
    request.MessageID = _MESSAGE_ID
    request.AffectedSOPClassUID = SOP_CLASS
    request.AffectedSOPInstanceUID = INSTANCE
    request.EventTypeID = result.event
    request.EventInformation = identifiers.write(information(transaction, result), context)
    assoc.dimse.send_msg(request, context.context_id)
    _context_id, response = assoc.dimse.get_msg(block=True)
    if response is None:
        log.warning("a commitment report was not answered, and the device has no listener", device=caller.device_id)


def report(payload: dict[str, Any]) -> None:
    """Report to the device's listener; may run twice, which the Transaction UID makes harmless.

    Raises:
        NotTaken: It does not answer, or refuses.
    """
    from hub.protocols.dimse import retrieve, service

    with database().reading() as session:
        device = session.get(Device, payload["device_id"])
        org = session.get(Organisation, device.org_id) if device is not None else None
    if device is None or org is None or not device.active or device.port is None:
        log.warning("a commitment report has nowhere to go any more", device=payload["device_id"])
        return
    result = verify(org.id, [(one[0], one[1]) for one in payload["references"]])
    settings = get_settings()
    service.configure_library()
    target = retrieve.connect(
        service.make_ae(settings),
        settings,
        device,
        [build_context(SOP_CLASS, service.COMMAND_SYNTAXES[:2])],
        negotiation=[build_role(SOP_CLASS, scu_role=False, scp_role=True)],
    )
    if target is None:
        raise NotTaken(device.id)
    try:
        event = information(payload["transaction"], result)
        status, _reply = target.send_n_event_report(event, result.event, SOP_CLASS, INSTANCE, msg_id=_MESSAGE_ID)
        if status.get("Status", 0xFFFF) != statuses.SUCCESS:
            raise NotTaken(device.id)
    finally:
        if target.is_established:
            target.release()
    with database().writing() as session:
        audit.record(
            session,
            devices.actor_of(device, org),
            "images.commitment.report",
            "device",
            device.id,
            org_id=org.id,
            transaction=payload["transaction"],
            committed=len(result.committed),
            failed=len(result.failed),
        )
