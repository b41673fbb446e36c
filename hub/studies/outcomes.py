"""What goes into intake and what comes out of it: plain values, no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from hub.dicom.reader import ParsedInstance
from hub.kit.i18n import Message

NAMESPACE: Final = "instances"
PREVIEWS: Final = "previews"
BULK_PREFIX: Final = "bulkdata/"
"""Start of a BulkDataURI in a stored header; the door that serves it puts the instance's address before it."""

HUB_SOURCE: Final = "hub"
"""Source of what the hub makes itself (reports); it belongs to a study that is already there."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file that was read and whose bytes are durable; what `index` needs, and nothing that touches a disk."""

    parsed: ParsedInstance
    header: bytes
    org_id: str
    source: str
    name: str
    object_key: str
    size: int
    object_offset: int = 0
    """Where in the object the file begins: the files of one call lie one after another in one object."""
    dataset_sha256: str = ""
    """As `sameness.kept_hash`."""
    compared: tuple[str, bool] | None = None
    """An instance that is here under the same SOP Instance UID, and whether it holds the same data set."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that is no acceptable DICOM instance. Its bytes are in quarantine under `object_key`, or "" (no room)."""

    code: str
    params: dict[str, Any]
    org_id: str
    source: str
    name: str
    object_key: str
    size: int
    sha256: str
    study_uid: str = ""
    sop_uid: str = ""
    sop_class_uid: str = ""
    quarantine_id: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one file.

    Attributes:
        status: `stored`, `known` (already here: success) or `refused`.
        code: Kebab-case reason of a refusal, else "".
        reason: Sentence for the person who sent it.
        params: JSON parameters of the sentence.
        quarantine_id: Where the refused bytes are kept.
        notes: Oddities that were tolerated (hub.dicom.reader).
    """

    status: Literal["stored", "known", "refused"]
    code: str = ""
    reason: Message = field(default_factory=lambda: Message(""))
    params: dict[str, Any] = field(default_factory=dict)
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    sop_class_uid: str = ""
    instance_id: str = ""
    study_id: str = ""
    quarantine_id: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A file to take in; with `move` a local one is removed once its fate is committed, never before."""

    source: Path | bytes
    """A finished local file, or a small one's bytes."""
    name: str = ""
    move: bool = True
    want_study: str = ""
    """Study Instance UID that it must have (STOW-RS to a study), or ""."""
    want_instance: tuple[str, str] | None = None
    """SOP Class and Instance UID that it was announced with (C-STORE)."""
