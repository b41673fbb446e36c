"""A client that is not ours, against the hub on a real socket."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.data import get_charset_files, get_testdata_file
from pydicom.dataset import Dataset
from sqlalchemy import update

from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import grants
from hub.sites.models import ApiKey
from support.files import dicom_file
from support.serving import serving

if TYPE_CHECKING:
    from support.world import World


@pytest.fixture
def client(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[DICOMwebClient]:
    grants.forget()
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {world.key('C01', 'stow', 'retrieve')}"
    with serving(world.app) as address:
        # This client names its host without the port.
        monkeypatch.setattr(get_settings(), "public_url", address)
        yield DICOMwebClient(f"{address}/dicomweb", session=session)


def read(data: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def test_store_and_retrieve(client: DICOMwebClient) -> None:
    study, series = new_uid(), new_uid()
    sent = [read(dicom_file(study=study, series=series, number=number, pixel=number * 50)) for number in (1, 2, 3)]
    answer = client.store_instances(sent, study_instance_uid=study)
    assert [one.ReferencedSOPInstanceUID for one in answer.ReferencedSOPSequence] == [
        one.SOPInstanceUID for one in sent
    ]
    metadata = client.retrieve_series_metadata(study, series)
    assert [Dataset.from_json(one, lambda *_a: None).InstanceNumber for one in metadata] == [1, 2, 3]
    assert len(client.retrieve_study_metadata(study)) == 3
    one = client.retrieve_instance_metadata(study, series, sent[0].SOPInstanceUID)
    assert one["00080018"]["Value"] == [sent[0].SOPInstanceUID]
    for dataset in sent:
        given = client.retrieve_instance(study, series, dataset.SOPInstanceUID)
        assert given == dataset
        (frame,) = client.retrieve_instance_frames(study, series, dataset.SOPInstanceUID, [1])
        assert frame == dataset.PixelData
        bulk = client.retrieve_bulkdata(
            client.retrieve_instance_metadata(study, series, dataset.SOPInstanceUID)["7FE00010"]["BulkDataURI"]
        )
        assert bulk == [dataset.PixelData]
    assert [one.SOPInstanceUID for one in client.retrieve_series(study, series)] == [one.SOPInstanceUID for one in sent]
    assert len(client.retrieve_study(study)) == 3


def test_a_refusal_reaches_the_client(client: DICOMwebClient) -> None:
    ids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    client.store_instances([read(dicom_file(**ids, pixel=1))])
    answer = client.store_instances([read(dicom_file(**ids, pixel=2)), read(dicom_file())])
    assert answer.FailedSOPSequence[0].ReferencedSOPInstanceUID == ids["sop"]
    assert answer.FailedSOPSequence[0].FailureReason == 0x0110
    assert len(answer.ReferencedSOPSequence) == 1


COMPRESSED = ("JPEG2000.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm")


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_images_are_given_as_stored_or_decoded(client: DICOMwebClient, name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    sent = pydicom.dcmread(path)
    client.store_instances([sent])
    uids = (sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
    given = client.retrieve_instance(*uids)
    assert given.file_meta.TransferSyntaxUID == sent.file_meta.TransferSyntaxUID
    assert given.PixelData == sent.PixelData
    plain = client.retrieve_instance(*uids, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert plain.Rows == sent.Rows
    (frame,) = client.retrieve_instance_frames(*uids, [1])
    assert len(frame) == sent.Rows * sent.Columns * sent.SamplesPerPixel * sent.BitsAllocated // 8


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "MR_small_implicit.dcm", "CT_small.dcm", "image_dfl.dcm"])
def test_native_images_of_every_encoding_give_little_endian_frames(client: DICOMwebClient, name: str) -> None:
    path = get_testdata_file(name, download=False)
    assert path is not None
    with open(path, "rb") as file:  # noqa: PTH123
        raw = file.read()
    sent = read(raw)
    answer = client._session.post(
        f"{client.base_url}/studies", data=raw, headers={"Content-Type": "application/dicom"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    uids = (sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
    (frame,) = client.retrieve_instance_frames(*uids, [1])
    kind = np.dtype(f"<{'i' if sent.PixelRepresentation else 'u'}{sent.BitsAllocated // 8}")
    pixels = np.frombuffer(frame[: sent.pixel_array.size * kind.itemsize], kind).reshape(sent.pixel_array.shape)
    assert np.array_equal(pixels, sent.pixel_array)
    plain = client.retrieve_instance(*uids, media_types=(("application/dicom", "1.2.840.10008.1.2.1"),))
    assert plain.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert np.array_equal(plain.pixel_array, sent.pixel_array)


@pytest.mark.parametrize("path", get_charset_files("*.dcm"), ids=lambda path: str(path).rpartition("/")[2])
def test_names_in_sixteen_character_sets(client: DICOMwebClient, path: str) -> None:
    sent = pydicom.dcmread(path)
    sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID = new_uid(), new_uid(), new_uid()
    sent.file_meta.MediaStorageSOPInstanceUID = sent.SOPInstanceUID
    wanted: Any = sent.get("PatientName")
    out = io.BytesIO()
    sent.save_as(out)
    answer = client._session.post(
        f"{client.base_url}/studies", data=out.getvalue(), headers={"Content-Type": "application/dicom"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    (metadata,) = client.retrieve_study_metadata(sent.StudyInstanceUID)
    if wanted is None:
        return
    given = metadata["00100010"]["Value"][0]
    spoken = [given.get(group, "") for group in ("Alphabetic", "Ideographic", "Phonetic")]
    expected = [wanted.alphabetic, wanted.ideographic, wanted.phonetic]
    assert [text.rstrip("^") for text in spoken] == [text.rstrip("^") for text in expected]


def test_pictures_and_other_encodings(client: DICOMwebClient) -> None:
    sent = [read(dicom_file(study="1.2.77.1", series="1.2.77.2", number=n, pixel=n, size=32)) for n in (1, 2)]
    client.store_instances(sent)
    first = sent[0]
    uids = (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    for picture in (
        client.retrieve_instance_rendered(*uids, media_types=("image/png",)),
        client.retrieve_instance_frames_rendered(*uids, [1], media_types=("image/png",)),
    ):
        assert picture[:4] == b"\x89PNG"
    assert {one.SOPInstanceUID for one in client.retrieve_series(*uids[:2])} == {one.SOPInstanceUID for one in sent}
    assert len(client.retrieve_study(uids[0])) == 2
    for syntax in ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"):
        given = client.retrieve_instance(*uids, media_types=(("application/dicom", syntax),))
        assert given.file_meta.TransferSyntaxUID == syntax
    (frame,) = client.retrieve_instance_frames(*uids, [1], media_types=(("image/jls", "1.2.840.10008.1.2.4.80"),))
    assert frame[:4] == b"\xff\xd8\xff\xf7"


def test_a_withdrawn_key_is_noticed_while_frames_are_fetched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant is renewed while it is used; whatever is refused then ends at once, not after its time."""
    key = world.key("C01", "stow", "retrieve")
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {key}"
    grants.forget()
    data = dicom_file()
    sent = read(data)
    with serving(world.app) as address:
        stored = session.post(f"{address}/dicomweb/studies", data, headers={"Content-Type": "application/dicom"})
        assert stored.status_code == 200
        path = f"{address}/dicomweb/studies/{sent.StudyInstanceUID}/series/{sent.SeriesInstanceUID}"
        path += f"/instances/{sent.SOPInstanceUID}/frames/1"
        monkeypatch.setattr(grants._actors, "seconds", 3600.0)
        monkeypatch.setattr(grants._grants, "seconds", 3600.0)
        for _time in range(3):
            assert session.get(path).status_code == 200
        with database().writing() as writing:
            writing.execute(update(ApiKey).values(revoked_at=clock.now()))
        assert session.get(path).status_code == 200, "remembered"
        monkeypatch.setattr(grants.Recent, "ageing", lambda *_a: True)
        until = time.monotonic() + 60
        while session.get(path).status_code == 200 and time.monotonic() < until:
            time.sleep(0.02)
        assert session.get(path).status_code == 401
    grants.forget()
