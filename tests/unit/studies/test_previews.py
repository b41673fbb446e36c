"""Previews: of everything that can be shown, and never a stopped study for what cannot."""

from __future__ import annotations

import io
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from sqlalchemy import select

from hub.dicom import codecs
from hub.kit import jobs
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.studies import intake, previews
from hub.studies.intake import Incoming
from hub.studies.models import Instance, Series, Study
from storage.base import ObjectStore
from storage.errors import ObjectNotFound, StorageUnavailable
from support.clinic_files import dicom_file
from support.stored import bundled, stored
from support.world import World


@pytest.fixture
def store(hub_env: Path) -> Iterator[ObjectStore]:
    codecs.register()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield object_store()


def objects(namespace: str = "previews") -> set[str]:
    return {stat.key for stat in object_store().list(f"{namespace}/")}


def referenced() -> set[str]:
    with database().reading() as session:
        found: set[str] = set()
        for column in (Instance.preview_key, Series.preview_key, Study.preview_key, Study.sheet_key):
            found |= set(session.scalars(select(column)))
    return found - {""}


def send(world: World, *files: bytes) -> str:
    """Take files of one study in; the study's id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcomes = intake.ingest_many(
            world.actor("technologist"), [Incoming(file) for file in files], org_id=world.orgs["C01"].id, source="web"
        )
    assert {outcome.status for outcome in outcomes} == {"stored"}
    return outcomes[0].study_id


def stack(count: int) -> list[bytes]:
    study, series = new_uid(), new_uid()
    return [dicom_file(study=study, series=series, number=number) for number in range(1, count + 1)]


@pytest.mark.slow
def test_every_file_that_pydicom_brings(store: ObjectStore) -> None:
    shown, failed = 0, set()
    for path in bundled():
        instance = stored(path)
        if instance is None:
            continue
        picture, note = previews.picture_of(store, instance, 256)
        assert max(picture.size) <= 256
        assert picture.mode in ("L", "RGB")
        shown += not note
        if note:
            failed.add(path.name)
    assert not failed
    assert shown > 90


HOSTILE: list[dict[str, object]] = [
    {"WindowCenter": "0", "WindowWidth": "0"},
    {"WindowCenter": "nan", "WindowWidth": "inf"},
    {"WindowCenter": "1e308", "WindowWidth": "-1e308"},
    {"RescaleSlope": "0", "RescaleIntercept": "1e308"},
    {"RescaleSlope": "nan", "RescaleIntercept": "0"},
    {"PhotometricInterpretation": "NONSENSE"},
    {"PhotometricInterpretation": "PALETTE COLOR"},
    {"PhotometricInterpretation": "YBR_FULL_422"},
    {"BitsStored": 40, "HighBit": 39},
    {"BitsStored": 0, "HighBit": 0},
    {"PixelAspectRatio": ["0", "0"]},
    {"PixelAspectRatio": ["1000000", "1"]},
    {"PixelSpacing": ["0", "0"]},
    {"PixelSpacing": ["nan", "1e-300"]},
    {"ImagePositionPatient": ["nan", "inf", "0"], "ImageOrientationPatient": ["0"] * 6},
    {"NumberOfFrames": "-3"},
    {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 65535},
    {"VOILUTFunction": "BOOM", "WindowCenter": ["1", "2", "3"], "WindowWidth": ["1"]},
    {"ImageType": ["LOCALIZER"] * 50},
    {"InstanceNumber": "999999999999"},
    {"SamplesPerPixel": 7},
    {"PlanarConfiguration": 9},
]


@pytest.mark.parametrize("header", HOSTILE, ids=lambda header: "-".join(f"{k}" for k in header))
def test_a_hostile_header_does_not_stop_its_study(world: World, header: dict[str, object]) -> None:
    study, series = new_uid(), new_uid()
    good = dicom_file(study=study, series=series, number=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bad = dicom_file(study=study, series=series, number=2, **header)  # type: ignore[arg-type]
        outcome = intake.ingest_many(
            world.actor("technologist"),
            [Incoming(good), Incoming(bad)],
            org_id=world.orgs["C01"].id,
            source="web",
        )
        assert outcome[0].status == "stored"
        previews.prepare_study(outcome[0].study_id)
    with database().reading() as session:
        images = session.scalars(select(Instance).where(Instance.has_pixels)).all()
        assert all(image.preview_key for image in images)
        found = session.scalars(select(Study)).one()
        assert (found.prepared_revision, bool(found.preview_key)) == (found.revision, True)


@pytest.mark.slow
def test_damaged_files_do_not_stop_their_study(store: ObjectStore) -> None:
    """Bytes of headers and pixels changed at random; what intake lets in must give a picture or a placeholder."""
    chance = random.Random(20260102)
    names = {"CT_small.dcm", "examples_palette.dcm", "examples_jpeg2k.dcm", "liver_1frame.dcm", "image_dfl.dcm"}
    names |= {"JPEG-LL.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "color3d_jpeg_baseline.dcm"}
    kept = 0
    for path in (path for path in bundled() if path.name in names):
        original = path.read_bytes()
        for _round in range(12):
            data = bytearray(original)
            for _change in range(chance.choice((1, 5, 60))):
                data[chance.randrange(140, len(data))] = chance.randrange(256)
            instance = stored(bytes(data))
            if instance is not None:
                previews.picture_of(store, instance, 64)
                kept += 1
    assert kept > 20


def test_a_lost_object_is_a_placeholder_and_a_store_that_is_away_is_not(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = stored(dicom_file())
    assert instance is not None

    def away(*_more: object) -> bytes:
        raise StorageUnavailable("away")

    def lost(*_more: object) -> bytes:
        raise ObjectNotFound("lost")

    monkeypatch.setattr(type(store), "read", lost)
    assert previews.picture_of(store, instance, 64)[1]
    monkeypatch.setattr(type(store), "read", away)
    with pytest.raises(StorageUnavailable):
        previews.picture_of(store, instance, 64)


def test_a_stack_has_a_sheet_and_every_series_a_picture(world: World) -> None:
    study_id = send(world, *stack(6))
    assert previews.prepare_study(study_id)
    with database().reading() as session:
        study = session.get_one(Study, study_id)
        series = session.scalars(select(Series)).one()
    assert study.sheet_key
    assert study.prepared_revision == study.revision
    assert study.summary["undecodable"] == 0
    with Image.open(io.BytesIO(object_store().read(series.preview_key))) as picture:
        assert max(picture.size) <= previews.SERIES_EDGE
    assert objects() == referenced()


def test_running_again_leaves_nothing_behind(world: World) -> None:
    files = stack(8)
    study_id = send(world, *files[:5])
    previews.prepare_study(study_id)
    before = objects()
    previews.prepare_study(study_id)
    assert objects() == before
    send(world, *files[5:])
    previews.prepare_study(study_id)
    assert objects() == referenced()
    assert len(objects() & before) >= 5


def test_two_workers_at_once_leave_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = send(world, *stack(5))
    original = previews.picture_of
    inner = False

    def meanwhile(*more: object) -> tuple[Image.Image, str]:
        nonlocal inner
        if not inner:
            inner = True
            previews.prepare_study(study_id)
        return original(*more)  # type: ignore[arg-type]

    monkeypatch.setattr(previews, "picture_of", meanwhile)
    previews.prepare_study(study_id)
    assert objects() == referenced()


def test_killed_between_object_and_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    study_id = send(world, *stack(3))

    class Killed(BaseException):
        pass

    def killed(*_more: object, **_named: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(previews, "_brief", killed)
        previews.prepare_study(study_id)
    assert previews.prepare_study(study_id)
    with database().reading() as session:
        assert session.get_one(Study, study_id).prepared_revision == session.get_one(Study, study_id).revision


def test_images_that_come_meanwhile_ask_for_another_turn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    files = stack(3)
    study_id = send(world, *files[:2])
    original = previews._sheet

    def meanwhile(*more: object) -> Image.Image | None:
        send(world, files[2])
        with database().writing() as session:
            session.query(jobs.Job).delete()
        return original(*more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(previews, "_sheet", meanwhile)
        previews.prepare_study(study_id)
    with database().reading() as session:
        study = session.get_one(Study, study_id)
        assert study.prepared_revision < study.revision
        assert session.scalars(select(jobs.Job.key)).all() == [f"preview:{study_id}"]


def test_a_study_that_is_gone(world: World) -> None:
    assert previews.prepare_study("nothing") is False


def test_orphans_are_swept_and_the_rest_stays(world: World) -> None:
    study_id = send(world, *stack(5))
    previews.prepare_study(study_id)
    object_store().put("previews/abc/orphan", b"x")
    assert intake.sweep_orphans(older_than_hours=-1) == 1
    assert objects() == referenced()
