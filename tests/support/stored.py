"""Files put into the object store with the row that intake would write, without a database."""

from __future__ import annotations

from pathlib import Path

import pydicom.data

from hub.dicom import reader
from hub.dicom.errors import DicomRefused
from hub.kit.objects import object_store
from hub.studies import intake
from hub.studies.models import Instance
from storage.keys import new_key


def stored(source: Path | bytes) -> Instance | None:
    """The instance of a file; None where it is refused or has no image."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    try:
        parsed = reader.read(data, limits=intake.limits())
    except DicomRefused:
        return None
    if parsed.kind == "dicomdir" or parsed.frames.kind == "none":
        return None
    key = new_key("instances")
    object_store().put(key, data)
    return Instance(
        id="test",
        transfer_syntax=parsed.transfer_syntax_uid,
        frames=len(parsed.frames),
        has_pixels=True,
        object_key=key,
        object_offset=0,
        size=len(data),
        dataset_offset=parsed.dataset_offset,
        frame_index=parsed.frames.to_bytes(),
    )


def bundled() -> list[Path]:
    """Every DICOM file that pydicom brings."""
    root = Path(pydicom.data.__file__).parent
    others = {".py", ".pyc", ".json", ".md", ".txt"}
    return sorted(path for path in root.rglob("*") if path.is_file() and path.suffix not in others)
