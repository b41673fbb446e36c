"""C-FIND (PS3.4 §C.4.1) in the patient root and study root models, on the same search as QIDO-RS.

What is found is decided by the visibility of the device's organisation. PatientID is the sending clinic's own number
and always comes with that clinic's IssuerOfPatientID: two clinics may both have a "001".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_FIND

from hub.kit.actor import Actor
from hub.kit.db import database
from hub.kit.errors import HubError
from hub.kit.i18n import translate
from hub.kit.logging import get_logger
from hub.protocols.dimse import identifiers, statuses
from hub.protocols.dimse.identifiers import IMAGE, PATIENT, SERIES, STUDY, Identifier, Refused
from hub.studies import search

if TYPE_CHECKING:
    from hub.protocols.dimse.association import DeviceAssociation
    from hub.protocols.dimse.service import Caller

log = get_logger(__name__)

PATIENT_ROOT: Final = "1.2.840.10008.5.1.4.1.2.1.1"
STUDY_ROOT: Final = "1.2.840.10008.5.1.4.1.2.2.1"
LEVELS_OF: Final[dict[str, tuple[str, ...]]] = {
    PATIENT_ROOT: (PATIENT, STUDY, SERIES, IMAGE),
    STUDY_ROOT: (STUDY, SERIES, IMAGE),
}
MOST: Final = 10_000
"""Matches that one query gives at most."""

_LEVEL: Final = {
    PATIENT: search.Level.STUDY,
    STUDY: search.Level.STUDY,
    SERIES: search.Level.SERIES,
    IMAGE: search.Level.INSTANCE,
}
_PATIENT_TAGS: Final = ("00100010", "00100020", "00100021", "00100030", "00100040")
# What the index itself answers; anything else is looked up in a header.
_INDEXED: Final = frozenset(
    {key.path.partition(".")[0] for key in search.KEYS}
    | {"00080056", "00201206", "00201208", "00201209", "00280008", "00280010", "00280011"}
)
_ISSUER: Final = "00100021"


def serve(assoc: DeviceAssociation, caller: Caller, request: Any, context: Any) -> None:
    """Answer with a pending response for each match, and a last one."""
    try:
        if not caller.queries:
            raise Refused(statuses.NOT_AUTHORISED, "this device may not query")
        asked = understood(request.Identifier, context)
        _cancelled(assoc, request)
        status = statuses.PENDING if supported(asked) else statuses.PENDING_SOME_KEYS_UNSUPPORTED
        for number, document in enumerate(matches(caller.actor, asked)):
            if _cancelled(assoc, request):
                raise Refused(statuses.CANCELLED, "")
            if not assoc.is_established or assoc.acse.is_aborted():
                return
            if number >= MOST:
                raise Refused(statuses.OUT_OF_RESOURCES, f"more than {MOST} matches; ask for less")
            found = answer(document, asked, aet=str(assoc.service.settings.dimse_aet))
            _respond(assoc, request, context, status, found)
        _respond(assoc, request, context, statuses.SUCCESS)
    except Refused as refusal:
        _respond(assoc, request, context, refusal.status, why=refusal.why)
    except search.BadQuery as error:
        _respond(assoc, request, context, statuses.UNABLE_TO_PROCESS, why=translate(error.message, "en"))
    except HubError as error:
        _respond(assoc, request, context, statuses.OUT_OF_RESOURCES, why=translate(error.message, "en"))
    except Exception as error:
        log.exception("a query failed", kind=type(error).__name__)
        _respond(assoc, request, context, statuses.UNABLE_TO_PROCESS, why="the hub failed on this query")


def understood(data: Any, context: Any) -> Identifier:
    """The identifier of a C-FIND request.

    Raises:
        Refused: It cannot be read, or its level and unique keys do not fit the SOP class (PS3.4 §C.4.1.1.3.1).
    """
    asked = identifiers.asked(data, context, LEVELS_OF)
    for level in (STUDY, SERIES):
        if identifiers.ORDER.index(level) < identifiers.ORDER.index(asked.level):
            identifiers.require_unique(asked, level)
    return asked


def supported(asked: Identifier) -> bool:
    """Whether every key that has a value is one that is matched."""
    return all(path in search.BY_PATH for path, values in asked.keys if values and values != ("*",))


def matches(actor: Actor, asked: Identifier) -> Iterator[search.Document]:
    """What matches, in the DICOM JSON model; read page by page, without a session open between."""
    keys = tuple((path, values) for path, values in asked.keys if values and path in search.BY_PATH)
    include = () if asked.level == PATIENT else tuple(tag for tag in asked.returned if tag not in _INDEXED)
    offset, more = 0, True
    patients: set[tuple[str, str]] = set()
    while more and offset <= MOST:
        query = search.Query(_LEVEL[asked.level], keys=keys, fuzzy=True, include=include, offset=offset)
        with database().reading() as session:
            page = search.search(session, actor, query)
        for row in page.rows:
            if asked.level == PATIENT:
                patient = (_text(row.attributes, _ISSUER), _text(row.attributes, "00100020"))
                if not patient[1] or patient in patients:
                    continue
                patients.add(patient)
            yield row.attributes
        offset, more = offset + len(page.rows), page.more and bool(page.rows)


def _text(document: search.Document, tag: str) -> str:
    values = document.get(tag, {}).get("Value") or [""]
    return str(values[0])


def answer(document: search.Document, asked: Identifier, *, aet: str) -> Dataset:
    """The identifier of a pending response: what was asked for, and what tells the match from others."""
    wanted = {*asked.returned, *(identifiers.UNIQUE[one] for one in _levels(asked.level))}
    if "00100020" in wanted:
        wanted.add(_ISSUER)
    if asked.level == PATIENT:
        wanted &= set(_PATIENT_TAGS)
    found = Dataset()
    for tag in sorted(wanted):
        element = document.get(tag)
        if element is None and int(tag[:4], 16) & 1:
            continue
        try:
            # One value that cannot be said must not take the match away.
            found.update(Dataset.from_json({tag: element or {"vr": _vr(tag)}}))
        except Exception:
            log.warning("an attribute of a match could not be said", tag=tag)
    found.SpecificCharacterSet = "ISO_IR 192"
    found.QueryRetrieveLevel = asked.level
    found.RetrieveAETitle = aet
    if asked.level != PATIENT:
        found.InstanceAvailability = "ONLINE"
    return found


def _levels(level: str) -> tuple[str, ...]:
    return identifiers.ORDER[: identifiers.ORDER.index(level) + 1]


def _vr(tag: str) -> str:
    from pydicom.datadict import dictionary_VR

    try:
        return str(dictionary_VR(int(tag, 16))).partition(" ")[0]
    except KeyError:
        return "LO"


def _cancelled(assoc: DeviceAssociation, request: Any) -> bool:
    return assoc.dimse.cancel_req.pop(request.MessageID, None) is not None


def _respond(
    assoc: DeviceAssociation, request: Any, context: Any, status: int, found: Dataset | None = None, *, why: str = ""
) -> None:
    response: Any = C_FIND()
    response.MessageID = request.MessageID
    response.MessageIDBeingRespondedTo = request.MessageID
    response.AffectedSOPClassUID = request.AffectedSOPClassUID
    response.Status = status
    if why:
        response.ErrorComment = statuses.comment(why)
    if found is not None:
        response.Identifier = identifiers.write(found, context)
    assoc.dimse.send_msg(response, context.context_id)
