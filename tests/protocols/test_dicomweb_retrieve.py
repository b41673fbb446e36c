"""Retrieve (PS3.18 §8.7, §8.9, §9, §10.4): every row of the negotiation, ranges, pictures, packages, deletion."""

from __future__ import annotations

import io
import subprocess
import zipfile
from datetime import timedelta
from email.parser import BytesParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.data import get_testdata_file
from sqlalchemy import select, update

from hub.audit.models import AuditEntry
from hub.dicom import codecs
from hub.dicom.transcoding import EXPLICIT, HTJ2K, IMPLICIT, JPEG_2000, JPEG_LS, transcode
from hub.exams.models import Exam
from hub.exams.states import State
from hub.kit import clock
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.protocols.dicomweb import grants
from hub.studies import intake, repository, retired, trash
from hub.studies.intake import Incoming, Outcome
from hub.studies.models import Instance, Study
from support.files import dicom_file, multipart_body, related

if TYPE_CHECKING:
    from support.world import World

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"


@pytest.fixture(autouse=True)
def fresh() -> None:
    grants.forget()
    repository.forget_views()
    codecs.register()


def take(world: World, *files: bytes) -> list[Outcome]:
    actor = world.actor("technologist")
    found = intake.ingest_many(actor, [Incoming(file) for file in files], org_id=world.orgs["C01"].id, source="web")
    assert all(one.status in ("stored", "known") for one in found), found
    return found


def sample(name: str, **values: Any) -> bytes:
    """A file that pydicom ships, as somebody's own."""
    dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID = new_uid(), new_uid(), new_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name_, value in values.items():
        setattr(dataset, name_, value)
    out = io.BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def address(outcome: Outcome, door: str = "/dicomweb") -> str:
    return f"{door}/studies/{outcome.study_uid}/series/{outcome.series_uid}/instances/{outcome.sop_uid}"


def parts(answer: Any) -> list[tuple[str, bytes]]:
    """(Content-Type, body) of each part, by a parser that is not ours."""
    message = BytesParser().parsebytes(
        b"Content-Type: " + answer.headers["content-type"].encode() + b"\r\n\r\n" + answer.content
    )
    assert message.is_multipart()
    found = []
    for part in message.get_payload():
        body = part.get_payload(decode=True)  # type: ignore[union-attr]
        found.append((str(part["Content-Type"]), bytes(body)))  # type: ignore[index]
    return found


def read(data: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(data))


def dicom(syntax: str = "", quoted: bool = True) -> str:
    text = f'"{syntax}"' if quoted else syntax
    return "application/dicom" + (f"; transfer-syntax={text}" if syntax else "")


# --- whole instances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("syntax", ["", "*", EXPLICIT, HTJ2K, JPEG_LS, JPEG_2000])
def test_one_instance_in_every_transfer_syntax(world: World, syntax: str, quoted: bool) -> None:
    data = sample("CT_small.dcm")
    (outcome,) = take(world, data)
    client = world.machine()
    expected = EXPLICIT if syntax in ("", "*") else syntax
    single = client.get(address(outcome), headers={"Accept": dicom(syntax, quoted)})
    assert single.status_code == 200
    assert single.headers["content-type"] == f"application/dicom; transfer-syntax={expected}"
    made = read(single.content)
    assert made.file_meta.TransferSyntaxUID == expected
    assert np.array_equal(made.pixel_array, read(data).pixel_array)
    if expected == EXPLICIT:
        assert single.content == data
    kind = 'multipart/related; type="application/dicom"' + (
        f"; transfer-syntax={f'{chr(34)}{syntax}{chr(34)}' if quoted else syntax}" if syntax else ""
    )
    several = client.get(address(outcome), headers={"Accept": kind})
    assert several.headers["content-type"].startswith('multipart/related; type="application/dicom"; boundary=')
    ((part, body),) = parts(several)
    assert part == f"application/dicom; transfer-syntax={expected}"
    assert body == single.content


@pytest.mark.parametrize(
    ("accept", "status", "syntax"),
    [
        ("*/*", 200, EXPLICIT),
        ("application/*", 200, EXPLICIT),
        (f"{dicom(JPEG_LS)};q=0.3, {dicom(HTJ2K)};q=0.8", 200, HTJ2K),
        (f"{dicom(JPEG_BASELINE)}, {dicom(JPEG_LS)};q=0.5", 200, JPEG_LS),
        (f"{dicom(HTJ2K)};q=0, {dicom(JPEG_LS)}", 200, JPEG_LS),
        (dicom(IMPLICIT), 406, ""),
        (dicom(JPEG_BASELINE), 406, ""),
        (dicom("1.2.840.10008.1.2.2"), 406, ""),
        (dicom("1.2.3"), 406, ""),
        ("text/html", 406, ""),
        ("application/dicom;q=0", 406, ""),
        ("image/jpeg", 406, ""),
    ],
)
def test_negotiation_of_an_instance(world: World, accept: str, status: int, syntax: str) -> None:
    (outcome,) = take(world, sample("CT_small.dcm"))
    client = world.machine()
    for answer in (
        client.get(address(outcome), headers={"Accept": accept}),
        client.get(address(outcome), params={"accept": accept}, headers={"Accept": "text/html"}),
    ):
        assert answer.status_code == status, accept
        if status == 200:
            kind = answer.headers["content-type"]
            body = parts(answer)[0][1] if kind.startswith("multipart") else answer.content
            assert read(body).file_meta.TransferSyntaxUID == syntax


def test_several_instances_have_no_place_in_one_part(world: World) -> None:
    study, series = new_uid(), new_uid()
    outcomes = take(world, *(dicom_file(study=study, series=series, number=n) for n in range(3)))
    client = world.machine()
    assert client.get(f"/dicomweb/studies/{study}", headers={"Accept": dicom()}).status_code == 406
    for path in (f"/dicomweb/studies/{study}", f"/dicomweb/studies/{study}/series/{series}"):
        found = parts(client.get(path, headers={"Accept": 'multipart/related; type="application/dicom"'}))
        assert [read(body).SOPInstanceUID for _kind, body in found] == [one.sop_uid for one in outcomes]


@pytest.mark.parametrize("name", ["MR_small_implicit.dcm", "MR_small_bigendian.dcm", "SC_rgb_jpeg_dcmtk.dcm"])
def test_what_was_sent_comes_back_byte_for_byte(world: World, name: str) -> None:
    data = sample(name)
    (outcome,) = take(world, data)
    sent = str(read(data).file_meta.TransferSyntaxUID)
    client = world.machine()
    for syntax in (sent, "*"):
        assert client.get(address(outcome), headers={"Accept": dicom(syntax)}).content == data
    default = read(client.get(address(outcome), headers={"Accept": dicom()}).content)
    lossy = sent == JPEG_BASELINE
    assert default.file_meta.TransferSyntaxUID == (sent if lossy else EXPLICIT)
    decoded = read(client.get(address(outcome), headers={"Accept": dicom(EXPLICIT)}).content)
    assert decoded.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(decoded.pixel_array, read(data).pixel_array)
    assert not lossy or decoded.LossyImageCompression == "01"


def test_what_is_no_image_comes_uncompressed_to_whoever_wants_compressed_images(world: World) -> None:
    study = new_uid()
    take(world, sample("CT_small.dcm", StudyInstanceUID=study, PatientID="R1", PatientName="A^B", PatientSex="M"))
    take(world, sample("reportsi.dcm", StudyInstanceUID=study, PatientID="R1", PatientName="A^B", PatientSex="M"))
    accept = {"Accept": f'multipart/related; type="application/dicom"; transfer-syntax={HTJ2K}'}
    found = parts(world.machine().get(f"/dicomweb/studies/{study}", headers=accept))
    assert sorted(kind for kind, _body in found) == [
        f"application/dicom; transfer-syntax={EXPLICIT}",
        f"application/dicom; transfer-syntax={HTJ2K}",
    ]


def test_what_does_not_decode_is_refused_or_given_as_it_came(world: World) -> None:
    dataset = read(transcode(sample("CT_small.dcm"), HTJ2K))
    dataset.PixelData = dataset.PixelData[:600] + b"\0" * (len(dataset.PixelData) - 620) + dataset.PixelData[-20:]
    out = io.BytesIO()
    dataset.save_as(out)
    (outcome,) = take(world, out.getvalue())
    client = world.machine()
    assert client.get(address(outcome), headers={"Accept": dicom(JPEG_LS)}).status_code == 406
    assert client.get(address(outcome), headers={"Accept": dicom()}).content == out.getvalue()
    frame = {"Accept": 'multipart/related; type="application/octet-stream"'}
    assert client.get(f"{address(outcome)}/frames/1", headers=frame).status_code == 406


def test_ranges_of_an_instance(world: World) -> None:
    data = sample("CT_small.dcm")
    (outcome,) = take(world, data)
    client, path, accept = world.machine(), address(outcome), {"Accept": dicom()}
    whole = client.get(path, headers=accept)
    assert whole.headers["accept-ranges"] == "bytes"
    assert int(whole.headers["content-length"]) == len(data)
    etag, size = whole.headers["etag"], len(data)
    for asked, first, last in (
        ("0-99", 0, 99),
        ("100-", 100, size - 1),
        ("-50", size - 50, size - 1),
        ("5-999999999", 5, size - 1),
    ):
        part = client.get(path, headers={**accept, "Range": f"bytes={asked}"})
        assert part.status_code == 206
        assert part.content == data[first : last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    for asked in ("0-1,5-6", "9-3", "x", "-"):
        assert client.get(path, headers={**accept, "Range": f"bytes={asked}"}).content == data
    assert client.get(path, headers={**accept, "Range": f"bytes={size}-"}).status_code == 416
    same = {**accept, "Range": "bytes=0-9", "If-Range": etag}
    assert client.get(path, headers=same).status_code == 206
    assert client.get(path, headers={**same, "If-Range": '"other"'}).status_code == 200
    assert client.get(path, headers={**accept, "If-None-Match": etag}).status_code == 304
    bulk = client.get(f"{path}/bulkdata/7FE00010", headers={"Accept": "application/octet-stream", "Range": "bytes=2-5"})
    assert bulk.content == read(data).PixelData[2:6]


# --- frames ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ('multipart/related; type="application/octet-stream"', f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        ("multipart/related; type=application/octet-stream; transfer-syntax=*", f"image/jphc; transfer-syntax={HTJ2K}"),
        (
            f'multipart/related; type="application/octet-stream"; transfer-syntax="{EXPLICIT}"',
            f"application/octet-stream; transfer-syntax={EXPLICIT}",
        ),
        ('multipart/related; type="image/jphc"', f"image/jphc; transfer-syntax={HTJ2K}"),
        (f"multipart/related; type=image/jphc; transfer-syntax={HTJ2K}", f"image/jphc; transfer-syntax={HTJ2K}"),
        ('multipart/related; type="image/jls"', f"image/jls; transfer-syntax={JPEG_LS}"),
        (
            f'multipart/related; type="image/jp2"; transfer-syntax={JPEG_2000}',
            f"image/jp2; transfer-syntax={JPEG_2000}",
        ),
        (
            'multipart/related; type="image/jpeg", multipart/related; type="image/jls"; q=0.5',
            f"image/jls; transfer-syntax={JPEG_LS}",
        ),
        ("*/*", f"application/octet-stream; transfer-syntax={EXPLICIT}"),
        ('multipart/related; type="image/jpeg"', None),
        (f'multipart/related; type="image/jpeg"; transfer-syntax={JPEG_BASELINE}', None),
        ('multipart/related; type="video/mp4"', None),
        ("text/html", None),
    ],
)
def test_negotiation_of_frames(world: World, accept: str, kind: str | None) -> None:
    """Of an image that is stored as HTJ2K; twice, for the second answer goes past the framework."""
    plain = sample("CT_small.dcm")
    (outcome,) = take(world, transcode(plain, HTJ2K))
    client, path = world.machine(), f"{address(outcome)}/frames/1"
    for _time in range(2):
        answer = client.get(path, headers={"Accept": accept})
        if kind is None:
            assert answer.status_code == 406
            continue
        ((given, body),) = parts(answer)
        assert given == kind
        syntax = kind.rpartition("=")[2]
        shape = {"rows": 128, "columns": 128, "bits_allocated": 16, "signed": True}
        pixels = codecs.decode_frame(body, transfer_syntax=syntax, **shape)  # type: ignore[arg-type]
        assert np.array_equal(pixels, read(plain).pixel_array)


def test_lists_of_frames_in_another_encoding(world: World) -> None:
    (outcome,) = take(world, dicom_file(frames=4, pixel=9, size=16))
    path = f"{address(outcome)}/frames/3,1"
    answer = world.machine().get(path, headers={"Accept": 'multipart/related; type="image/jls"'})
    for (kind, body), value in zip(parts(answer), (11, 9), strict=True):
        assert kind == f"image/jls; transfer-syntax={JPEG_LS}"
        pixels = codecs.decode_frame(body, transfer_syntax=JPEG_LS, rows=16, columns=16)
        assert (pixels == value).all()
    assert world.machine().get(f"{address(outcome)}/frames/1,5").status_code == 404


def test_a_frame_of_odd_size_in_big_endian_words(world: World) -> None:
    data = sample("SC_rgb_small_odd_big_endian.dcm")
    (outcome,) = take(world, data)
    ((_kind, body),) = parts(world.machine().get(f"{address(outcome)}/frames/1"))
    assert body == read(data).pixel_array.tobytes()


# --- pictures -------------------------------------------------------------------------------------------------------


def picture(answer: Any) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


@pytest.mark.parametrize("door", ["/dicomweb", "/viewer/dicomweb"])
def test_rendered_instances(world: World, door: str) -> None:
    (outcome,) = take(world, sample("CT_small.dcm"))
    client, path = world.client("technologist"), f"{address(outcome, door)}/rendered"
    for accept, form in (("image/jpeg", "JPEG"), ("image/png", "PNG"), ("image/gif", "GIF"), ("*/*", "JPEG")):
        made = picture(client.get(path, headers={"Accept": accept}))
        assert (made.format, made.size) == (form, (128, 128))
    png = {"Accept": "image/png"}
    assert picture(client.get(f"{path}?viewport=64,64", headers=png)).size == (64, 64)
    assert picture(client.get(f"{path}?viewport=512,256", headers=png)).size == (256, 256)
    assert picture(client.get(f"{path}?viewport=100,100,0,0,64,32", headers=png)).size == (100, 50)
    dark, bright = (
        np.asarray(picture(client.get(f"{path}?window={window},linear", headers=png)).convert("L")).mean()
        for window in ("3000,100", "-3000,100")
    )
    assert (dark, bright) == (0, 255)
    small = client.get(f"{path}?quality=5", headers={"Accept": "image/jpeg"})
    assert len(small.content) < len(client.get(path, headers={"Accept": "image/jpeg"}).content)
    noted = client.get(f"{path}?annotation=patient,technique")
    assert noted.headers["warning"].startswith("299")
    for wrong in (
        "viewport=0,0",
        "viewport=9,9,9",
        "viewport=1e9,5",
        "viewport=10,10,500,500,5,5",
        "viewport=x",
        "window=1,2",
        "window=1,2,curve",
        "window=1,-2,linear",
        "window=nan,2,linear",
        "quality=0",
        "quality=101",
        "annotation=nonsense",
        "iccprofile=nonsense",
    ):
        if wrong != "viewport=9,9,9":
            assert client.get(f"{path}?{wrong}").status_code == 400, wrong
    assert client.get(path, headers={"Accept": "video/mp4"}).status_code == 406
    assert picture(client.get(f"{address(outcome, door)}/frames/1/rendered", headers=png)).size == (128, 128)
    assert client.get(f"{address(outcome, door)}/frames/2/rendered").status_code == 404


def test_pictures_of_studies_and_series(world: World) -> None:
    study, series = new_uid(), new_uid()
    (outcome, *_rest) = take(world, *(dicom_file(study=study, series=series, number=n, size=16) for n in range(3)))
    client = world.machine()
    for path in (f"/dicomweb/studies/{study}", f"/dicomweb/studies/{study}/series/{series}"):
        accept = {"Accept": 'multipart/related; type="image/png"'}
        assert [kind for kind, _body in parts(client.get(f"{path}/rendered", headers=accept))] == ["image/png"] * 3
        assert client.get(f"{path}/rendered", headers={"Accept": "image/png"}).status_code == 406
        assert picture(client.get(f"{path}/thumbnail")).size == (16, 16)
        assert picture(client.get(f"{path}/thumbnail?viewport=8,8")).size == (8, 8)
    assert picture(client.get(f"{address(outcome)}/thumbnail", headers={"Accept": "image/png"})).format == "PNG"
    (report,) = take(world, sample("reportsi.dcm"))
    for kind in ("rendered", "thumbnail"):
        assert client.get(f"{address(report)}/{kind}").status_code == 404


def test_a_moving_picture(world: World) -> None:
    (outcome,) = take(world, dicom_file(frames=4, size=16))
    made = picture(world.machine().get(f"{address(outcome)}/rendered", headers={"Accept": "image/gif"}))
    assert getattr(made, "n_frames", 1) >= 1
    several = world.machine().get(f"{address(outcome)}/frames/1,2/rendered")
    assert len(parts(several)) == 2


# --- WADO-URI -------------------------------------------------------------------------------------------------------


def test_wado_uri(world: World) -> None:
    data = sample("CT_small.dcm")
    (outcome,) = take(world, data)
    client = world.machine()
    names = {
        "requestType": "WADO",
        "studyUID": outcome.study_uid,
        "seriesUID": outcome.series_uid,
        "objectUID": outcome.sop_uid,
    }

    def ask(**more: str) -> Any:
        return client.get("/dicomweb/wado", params={**names, **more})

    assert picture(ask()).size == (128, 128)
    assert picture(ask(contentType="image/png", rows="64")).size == (64, 64)
    assert picture(ask(contentType="image/jpeg", region="0,0,0.5,0.25")).size == (64, 32)
    assert (
        picture(ask(contentType="image/jpeg", windowCenter="40", windowWidth="400", imageQuality="50")).format == "JPEG"
    )
    assert picture(ask(frameNumber="1")).size == (128, 128)
    assert ask(contentType="application/dicom").content == data
    given = read(ask(contentType="application/dicom", transferSyntax=JPEG_LS).content)
    assert given.file_meta.TransferSyntaxUID == JPEG_LS
    # What cannot be had is answered in the default transfer syntax.
    assert ask(contentType="application/dicom", transferSyntax=JPEG_BASELINE).content == data
    assert ask(contentType="application/dicom", anonymize="yes").status_code == 406
    assert ask(presentationUID="1.2.3", presentationSeriesUID="1.2").status_code == 406
    assert ask(contentType="text/html").status_code == 406
    assert ask(frameNumber="2").status_code == 404
    assert ask(objectUID=new_uid()).status_code == 404
    for wrong in (
        {"requestType": "X"},
        {"studyUID": "x"},
        {"rows": "0"},
        {"windowCenter": "4"},
        {"region": "0,0,2,2"},
        {"frameNumber": "-1"},
        {"contentType": "application/dicom", "rows": "5"},
        {"annotation": "all"},
    ):
        assert ask(**wrong).status_code == 400, wrong


# --- capabilities ---------------------------------------------------------------------------------------------------


def test_capabilities_come_from_the_routes(world: World) -> None:
    client = world.machine()
    for ask in (client.get, client.options):
        wadl = ask("/dicomweb/")
        assert wadl.headers["content-type"].startswith("application/vnd.sun.wadl+xml")
        assert b'path="studies/{study}/series/{series}/instances/{sop}/frames/{numbers}"' in wadl.content
        listed = ask("/dicomweb/", headers={"Accept": "application/json"}).json()
        assert {one["path"] for one in listed["resources"]} >= {"/studies", "/wado", "/studies/{study}/thumbnail"}
    assert client.get("/dicomweb/", headers={"Accept": "text/html"}).status_code == 406


def test_a_method_that_is_not_allowed_names_those_that_are(world: World) -> None:
    client = world.machine()
    for path, methods in (
        (f"/dicomweb/studies/{new_uid()}", "DELETE, GET, POST"),
        (f"/dicomweb/studies/{new_uid()}/series/{new_uid()}", "GET"),
        ("/dicomweb/studies", "GET, POST"),
    ):
        answer = client.patch(path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    gone = client.delete(f"/dicomweb/studies/{new_uid()}/series/{new_uid()}")
    assert gone.status_code == 405, "a part of a study is never deleted"


# --- packages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", ["/dicomweb", "/viewer/dicomweb"])
def test_a_study_as_zip_with_a_dicomdir(world: World, tmp_path: Path, door: str) -> None:
    study, other = new_uid(), new_uid()
    common = {"StudyInstanceUID": study, "PatientID": "Z1", "PatientName": "王^伟", "PatientSex": "M"}
    common |= {"SpecificCharacterSet": "ISO_IR 192"}
    files = [
        sample("CT_small.dcm", **common, SeriesInstanceUID=other, InstanceNumber=1),
        sample("CT_small.dcm", **common, SeriesInstanceUID=other, InstanceNumber=2),
        sample("MR_small_implicit.dcm", **common),
        sample("reportsi.dcm", **common),
    ]
    take(world, *files)
    client = world.client("technologist")
    answer = client.get(f"{door}/studies/{study}", params={"accept": "application/zip"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert sorted(archive.read(name) for name in names if name != "DICOMDIR") == sorted(files)
        archive.extractall(tmp_path / "disc")
    for name in names:
        assert all(len(piece) <= 8 and piece == piece.upper() and piece.isalnum() for piece in name.split("/"))
    subprocess.run(["dcmdump", "-q", "+sd", "+r", "."], cwd=tmp_path / "disc", check=True, capture_output=True)
    listed = subprocess.run(
        ["dcmdump", "-q", "DICOMDIR"], cwd=tmp_path / "disc", check=True, capture_output=True
    ).stdout
    assert listed.count(b"(0004,1500)") == len(files)
    directory = pydicom.dcmread(tmp_path / "disc" / "DICOMDIR")
    assert directory.file_meta.MediaStorageSOPClassUID == "1.2.840.10008.1.3.10"
    from pydicom.fileset import FileSet

    found = FileSet(tmp_path / "disc" / "DICOMDIR")
    assert {one.SOPInstanceUID for one in found} == {read(file).SOPInstanceUID for file in files}
    assert {str(one.PatientName) for one in found} == {"王^伟"}
    kinds = [str(one.DirectoryRecordType) for one in directory.DirectoryRecordSequence]
    assert kinds.count("PATIENT") == kinds.count("STUDY") == 1
    assert (kinds.count("SERIES"), kinds.count("IMAGE"), kinds.count("SR DOCUMENT")) == (3, 3, 1)
    with database().reading() as session:
        (entry,) = session.scalars(select(AuditEntry).where(AuditEntry.action == "images.export"))
    assert entry.object_id == study
    series = client.get(f"{door}/studies/{study}/series/{other}", headers={"Accept": "application/zip"})
    assert series.status_code == 406


# --- deletion -------------------------------------------------------------------------------------------------------


def exam_states() -> list[str]:
    with database().reading() as session:
        return list(session.scalars(select(Exam.state)))


def test_a_deleted_study_is_gone_and_comes_back(world: World) -> None:
    (outcome,) = take(world, sample("CT_small.dcm"))
    path = f"/dicomweb/studies/{outcome.study_uid}"
    director, owner, stranger = world.client("director"), world.client("technologist"), world.client("technologist.c02")
    frame = address(outcome, "/viewer/dicomweb") + "/frames/1"
    assert owner.get(frame).status_code == 200
    assert director.delete(path).status_code == 422, "a reason is needed"
    assert owner.delete(f"{path}?reason=wrong patient").status_code == 403
    assert director.delete(f"{path}?reason=wrong patient").status_code == 204
    for client, status in ((owner, 410), (director, 410), (stranger, 404)):
        for where in (path, f"{path}/metadata", address(outcome), frame, f"{address(outcome)}/rendered"):
            assert client.get(where).status_code == status, where
    assert director.delete(f"{path}?reason=wrong patient").status_code == 410
    assert outcome.study_uid not in owner.get("/viewer/dicomweb/studies").text
    (listed,) = director.get("/api/trash").json()
    assert (listed["uid"], listed["reason"]) == (outcome.study_uid, "wrong patient")
    assert exam_states() == ["registered"], "the exam waits for images again"
    assert director.post(f"/api/trash/{outcome.study_uid}/restore").status_code == 204
    assert owner.get(path).status_code == 200
    assert exam_states() == ["receiving"]
    with database().reading() as session:
        actions = list(
            session.scalars(
                select(AuditEntry.action).where(AuditEntry.object_id == outcome.study_uid).order_by(AuditEntry.id)
            )
        )
    assert [one for one in actions if one.startswith("study.")][-2:] == ["study.delete", "study.restore"]


@pytest.mark.parametrize("state", [State.READING, State.TO_REVIEW, State.SIGNED, State.RETURNED, State.SEEN])
def test_what_is_read_or_reported_is_never_deleted(world: World, state: State) -> None:
    (outcome,) = take(world, dicom_file())
    with database().writing() as session:
        session.execute(update(Exam).values(state=state.value))
    answer = world.client("director").delete(f"/dicomweb/studies/{outcome.study_uid}?reason=no longer wanted")
    assert (answer.status_code, answer.json()["code"]) == (409, "not-deletable")


def test_what_is_sent_again_leaves_the_trash(world: World) -> None:
    data = sample("CT_small.dcm")
    (outcome,) = take(world, data)
    path = f"/dicomweb/studies/{outcome.study_uid}"
    world.client("director").delete(f"{path}?reason=wrong patient")
    sender = world.machine("C02", "stow")
    assert sender.post("/dicomweb/studies", content=multipart_body([data]), headers=related()).status_code == 409
    assert world.client("technologist").get(path).status_code == 410, "another clinic restores nothing"
    sender = world.machine("C01", "stow")
    assert sender.post("/dicomweb/studies", content=multipart_body([data]), headers=related()).status_code == 200
    assert world.client("technologist").get(path).status_code == 200


def test_the_trash_empties_after_its_time(world: World) -> None:
    from hub.kit.objects import object_store

    study, series = new_uid(), new_uid()
    (outcome, _second) = take(world, *(dicom_file(study=study, series=series, number=n) for n in range(2)))
    (neighbour,) = take(world, dicom_file())
    with database().reading() as session:
        key = session.scalars(select(Instance.object_key).where(Instance.uid == outcome.sop_uid)).one()
    world.client("director").delete(f"/dicomweb/studies/{study}?reason=a test image")
    assert trash.empty() == 0
    with database().writing() as session:
        session.execute(update(Study).where(Study.uid == study).values(trashed_at=clock.now() - timedelta(days=31)))
    assert trash.empty() == 1
    assert object_store().exists(key), "a reader may still be at it"
    retired.sweep(grace=timedelta(0))
    assert not object_store().exists(key)
    client = world.client("technologist")
    assert client.get(f"/dicomweb/studies/{study}").status_code == 404
    assert client.get(address(neighbour)).status_code == 200


def test_objects_with_a_row_left_are_kept(world: World) -> None:
    """Instances of two studies in one pack: the trash takes one of them."""
    from hub.kit.objects import object_store

    first, second = take(world, dicom_file(), dicom_file())
    with database().writing() as session:
        row = session.scalars(select(Instance).where(Instance.uid == first.sop_uid)).one()
        other = session.scalars(select(Instance).where(Instance.uid == second.sop_uid)).one()
        if row.object_key != other.object_key:
            data = b"".join(object_store().read(one.object_key, one.object_offset, one.size) for one in (row, other))
            object_store().put("instances/abc/together", data)
            row.object_key, row.object_offset = "instances/abc/together", 0
            other.object_key, other.object_offset = "instances/abc/together", row.size
    world.client("director").delete(f"/dicomweb/studies/{first.study_uid}?reason=a test image")
    with database().writing() as session:
        session.execute(
            update(Study).where(Study.trashed_at.is_not(None)).values(trashed_at=clock.now() - timedelta(days=31))
        )
    assert trash.empty() == 1
    retired.sweep(grace=timedelta(0))
    assert world.client("technologist").get(address(second)).status_code == 200
