"""The viewer's page names what opening a study begins with, to whoever may see it and to nobody else."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.studies import intake
from hub.web.static import OHIF_DIR
from support.files import dicom_file

if TYPE_CHECKING:
    from support.world import World

pytestmark = pytest.mark.skipif(not (OHIF_DIR / "index.html").exists(), reason="the viewer is not built")


def take(world: World, *files: bytes) -> None:
    """Images of C01 that wait to be read."""
    intake.ingest_many(
        world.actor("technologist"),
        [intake.Incoming(file) for file in files],
        org_id=world.orgs["C01"].id,
        source="web",
    )
    with database().writing() as session:
        session.execute(update(Exam).values(state=State.TO_READ.value))


def named(client: Any, **query: str) -> list[dict[str, Any]] | None:
    """What the page names; None where it names nothing at all."""
    answer = client.get("/ohif/viewer", params=query)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "private, no-cache"
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    found = re.search(r'<script type="application/json" id="hub-opening">(.*?)</script>', answer.text)
    assert (found is None) == ("hub-opening" not in answer.text)
    if found is None:
        return None
    assert found.start() < answer.text.index("early.js")
    return list(json.loads(found[1]))


def test_a_stack_begins_in_its_middle_or_where_it_is_said(world: World) -> None:
    study, series = new_uid(), new_uid()
    sops = [new_uid() for _ in range(5)]
    take(world, *(dicom_file(study=study, series=series, sop=sop, number=n) for n, sop in enumerate(sops)))
    client = world.client("reporter")
    (found,) = named(client, StudyInstanceUIDs=study) or []
    assert (found["study"], found["series"], found["stack"]) == (study, [series], series)
    assert found["images"] == [sops[n] for n in (2, 1, 3, 0, 4)]
    (found,) = named(client, StudyInstanceUIDs=study, initialSopInstanceUid=sops[4]) or []
    assert found["images"] == [sops[n] for n in (4, 3, 2, 1, 0)]


def test_an_image_that_is_asked_for_brings_its_own_stack(world: World) -> None:
    study, one, other = new_uid(), new_uid(), new_uid()
    first, second = new_uid(), new_uid()
    take(world, dicom_file(study=study, series=one, sop=first), dicom_file(study=study, series=other, sop=second))
    client = world.client("reporter")
    for series, sop in ((one, first), (other, second)):
        (found,) = named(client, StudyInstanceUIDs=study, initialSopInstanceUid=sop) or []
        assert set(found["series"]) == {one, other}
        assert (found["stack"], found["images"]) == (series, [sop])


def test_a_radiograph_begins_with_its_first_image(world: World) -> None:
    study, series = new_uid(), new_uid()
    sops = [new_uid() for _ in range(3)]
    files = (dicom_file(study=study, series=series, sop=sop, modality="DX", number=n) for n, sop in enumerate(sops))
    take(world, *files)
    (found,) = named(world.client("reporter"), StudyInstanceUIDs=study) or []
    assert found["images"] == sops


def test_nobody_learns_what_is_not_his(world: World) -> None:
    study = new_uid()
    take(world, dicom_file(study=study))
    assert named(world.client("technologist"), StudyInstanceUIDs=study)
    assert named(world.client("technologist.c02"), StudyInstanceUIDs=study) == []
    assert named(world.client("administrator"), StudyInstanceUIDs=study) is None
    assert named(world.anonymous(), StudyInstanceUIDs=study) is None
    for odd in (new_uid(), "", "</script>", "1.2.3,4.5.6,7.8.9", "x" * 5000):
        assert named(world.client("reporter"), StudyInstanceUIDs=odd) == []
    for odd in ("\0", "1.2\0", "x" * 5000):
        (found,) = named(world.client("reporter"), StudyInstanceUIDs=study, initialSopInstanceUid=odd) or []
        assert len(found["images"]) == 1
