"""C-STORE (PS3.4 annex B): the data set that was staged goes the way of every file, and is then acknowledged."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pynetdicom.dimse_primitives import C_STORE

from hub.kit.actor import Actor
from hub.kit.errors import HubError
from hub.kit.i18n import translate
from hub.kit.logging import get_logger
from hub.protocols.dimse import statuses
from hub.protocols.dimse.staging import Staged
from hub.studies import intake, reasons
from hub.studies.intake import Batch, Incoming
from hub.studies.outcomes import Outcome

if TYPE_CHECKING:
    from hub.protocols.dimse.association import DeviceAssociation
    from hub.protocols.dimse.service import Caller

log = get_logger(__name__)

SOURCE: Final = "dimse"
_STATUS: Final[dict[str, int]] = {
    reasons.CHANGED_CONTENT: statuses.CHANGED_CONTENT,
    reasons.IDENTIFIER_CONFLICT: statuses.IDENTIFIER_CONFLICT,
    reasons.PROCESSING_FAILED: statuses.PROCESSING_FAILURE,
    reasons.WRONG_INSTANCE: statuses.DOES_NOT_MATCH_CLASS,
    reasons.DICOMDIR: statuses.NO_SUCH_CLASS,
    reasons.STORE_UNAVAILABLE: statuses.OUT_OF_RESOURCES,
    reasons.QUARANTINE_FULL: statuses.OUT_OF_RESOURCES,
    "too-large": statuses.OUT_OF_RESOURCES,
}
# What was tolerated and yet makes an image incomplete: said to the sender, who alone can mend it.
_WARNINGS: Final = frozenset({"pixel-data-short", "frames-missing", "no-image-size", "bad-offset-table", "no-frames"})


def serve(assoc: DeviceAssociation, caller: Caller, request: Any, context: Any) -> None:
    """Take the data set in, and answer when its fate is committed."""
    if context.abstract_syntax in assoc.service.services:
        status, why = statuses.NO_SUCH_CLASS, "the context is not for storage"
    else:
        status, why = _store(caller, request)
    if status >= 0xA000 or 0 < status < 0xA000:
        log.info("a data set was answered with a status", status=f"{status:04X}", device=caller.device_id)
    answer: Any = C_STORE()
    answer.MessageID = request.MessageID
    answer.MessageIDBeingRespondedTo = request.MessageID
    answer.AffectedSOPInstanceUID = request.AffectedSOPInstanceUID
    answer.AffectedSOPClassUID = request.AffectedSOPClassUID
    answer.Status = status
    if why:
        answer.ErrorComment = statuses.comment(why)
    assoc.dimse.send_msg(answer, context.context_id)


def _store(caller: Caller, request: Any) -> tuple[int, str]:
    staged: Staged | None = getattr(request, "_staged", None)
    if not caller.stores:
        return statuses.NOT_AUTHORISED, "this device may not send"
    if staged is None:
        return statuses.NOT_UNDERSTOOD, "no data set"
    if staged.too_large:
        return statuses.OUT_OF_RESOURCES, "the instance is larger than the hub accepts"
    if staged.no_room:
        return statuses.OUT_OF_RESOURCES, "no room; send it again later"
    try:
        source = staged.finish()
        file = Incoming(
            source,
            caller.aet,
            want_instance=(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)),
        )
        outcome = _groups.take_in(caller.actor, caller.org_id, file)
    except HubError as error:
        return statuses.OUT_OF_RESOURCES, translate(error.message, "en")
    except OSError as error:
        log.error("a data set could not be taken in", errno=error.errno)
        return statuses.OUT_OF_RESOURCES, "no room; send it again later"
    except Exception as error:
        log.exception("a data set could not be taken in", kind=type(error).__name__)
        return statuses.OUT_OF_RESOURCES, "the hub cannot store now; send it again later"
    return status_of(outcome)


def status_of(outcome: Outcome) -> tuple[int, str]:
    """Status and Error Comment for what became of a data set."""
    if outcome.status != "refused":
        doubts = sorted(_WARNINGS.intersection(outcome.notes)) if outcome.status == "stored" else []
        return (statuses.ELEMENTS_DOUBTFUL, ", ".join(doubts)) if doubts else (statuses.SUCCESS, "")
    return _STATUS.get(outcome.code, statuses.NOT_UNDERSTOOD), f"{outcome.code}: {translate(outcome.reason, 'en')}"


@dataclass(slots=True)
class _Waiting:
    batch: Batch
    done: bool = False
    outcome: Outcome | None = None
    error: Exception | None = None


class _Groups:
    """Data sets that several associations of one device bring at the same time share a transaction.

    Each association's thread reads its own. Whoever then finds nobody at it commits all that waits; whoever comes
    meanwhile waits for the next round. A device that sends on one association never waits for another.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._waiting: dict[str, list[_Waiting]] = {}
        self._busy: set[str] = set()

    def take_in(self, actor: Actor, org_id: str, file: Incoming) -> Outcome:
        """The outcome of one file; errors as `ingest_many`."""
        intake.check_room()
        mine = _Waiting(Batch(actor, org_id=org_id, source=SOURCE))
        mine.batch.read([file])
        with self._turn:
            self._waiting.setdefault(actor.id, []).append(mine)
            self._turn.wait_for(lambda: mine.done or actor.id not in self._busy)
            group: list[_Waiting] = []
            if not mine.done:
                self._busy.add(actor.id)
                group = self._waiting.pop(actor.id)
        if group:
            self._lead(actor, group)
        if mine.error is not None:
            raise mine.error
        assert mine.outcome is not None
        return mine.outcome

    def _lead(self, actor: Actor, group: list[_Waiting]) -> None:
        try:
            batch = group[0].batch
            for one in group[1:]:
                batch.join(one.batch)
            for one, outcome in zip(group, batch.commit(), strict=True):
                one.outcome = outcome
        except Exception as error:
            for one in group:
                one.error = error
        finally:
            with self._turn:
                self._busy.discard(actor.id)
                for one in group:
                    one.done = True
                self._turn.notify_all()


_groups = _Groups()
