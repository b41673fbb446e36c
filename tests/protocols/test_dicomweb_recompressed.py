"""What a client sees of recompression at rest: the same metadata and pixels, smaller frames, and the file it sent."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from sqlalchemy import select, update

from hub.dicom import codecs
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.protocols.dicomweb import grants
from hub.studies import intake, recompression, repository, retired
from hub.studies.intake import Incoming
from hub.studies.models import Instance
from support.files import JSON, dicom_file

if TYPE_CHECKING:
    from support.world import World

EXPLICIT, HTJ2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.201"
FRAME = {"Accept": "multipart/related; type=application/octet-stream; transfer-syntax=*"}


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    repository.forget_views()
    codecs.register()


def test_before_and_after(world: World) -> None:
    study, series = new_uid(), new_uid()
    files = [dicom_file(study=study, series=series, number=n, pixel=n, size=96) for n in range(3)]
    found = intake.ingest_many(
        world.actor("technologist"), [Incoming(file) for file in files], org_id=world.orgs["C01"].id, source="web"
    )
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))
    viewer, machine = world.client("reporter"), world.machine("C01", "retrieve")
    path = f"studies/{study}/series/{series}"
    one = f"{path}/instances/{found[1].sop_uid}"

    def metadata() -> tuple[object, object]:
        return (
            viewer.get(f"/viewer/dicomweb/{path}/metadata", headers={"Accept": JSON}).json(),
            viewer.get(f"/viewer/dicomweb/studies/{study}/instances", headers={"Accept": JSON}).json(),
        )

    before = metadata()
    raw = viewer.get(f"/viewer/dicomweb/{one}/frames/1", headers=FRAME)
    assert raw.headers["content-type"].endswith(EXPLICIT)

    assert recompression.recompress_study(str(found[0].study_id)).moved == 3
    # Within the same seconds: where things lie is remembered, and what lay there is still there.
    for _time in range(2):
        answer = viewer.get(f"/viewer/dicomweb/{one}/frames/1", headers=FRAME)
        assert answer.status_code == 200
    # Even if it were not.
    retired.sweep(grace=timedelta(0))
    assert viewer.get(f"/viewer/dicomweb/{one}/frames/1", headers=FRAME).status_code == 200
    # And when what is remembered has lapsed.
    grants.forget()
    answer = viewer.get(f"/viewer/dicomweb/{one}/frames/1", headers=FRAME | {"If-None-Match": raw.headers["etag"]})
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/jphc; transfer-syntax={HTJ2K}")
    assert answer.headers["etag"] != raw.headers["etag"]
    assert len(answer.content) < 0.3 * len(raw.content)
    with database().reading() as session:
        row = session.scalars(select(Instance).where(Instance.uid == found[1].sop_uid)).one()
        key = row.object_key
    assert answer.content in object_store().read(key)
    assert metadata() == before

    # A client that names no compressed transfer syntax gets pixels and files as they were sent.
    decoded = machine.get(f"/dicomweb/{one}/frames/1", headers={"Accept": "multipart/related"})
    assert decoded.status_code == 200
    assert raw.content in decoded.content
    for accept in ("application/dicom", f'application/dicom; transfer-syntax="{EXPLICIT}"'):
        whole = machine.get(f"/dicomweb/{one}", headers={"Accept": accept})
        assert (whole.status_code, whole.content) == (200, files[1])
    stored = machine.get(f"/dicomweb/{one}", headers={"Accept": "application/dicom; transfer-syntax=*"})
    data = pydicom.dcmread(io.BytesIO(stored.content))
    assert data.file_meta.TransferSyntaxUID == HTJ2K
    assert np.array_equal(data.pixel_array, pydicom.dcmread(io.BytesIO(files[1])).pixel_array)

    # What was sent once and is sent again is known.
    again = intake.ingest_many(
        world.actor("technologist"), [Incoming(files[0])], org_id=world.orgs["C01"].id, source="web"
    )
    assert again[0].status == "known"
