"""STOW-RS to the letter of PS3.18 §10.5, and what hostile senders try."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import httpx
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from sqlalchemy import func, select

from hub.dicom import reader
from hub.dicom.reader import Limits
from hub.kit.db import database
from hub.kit.ids import new_uid
from hub.kit.objects import object_store
from hub.kit.settings import get_settings
from hub.protocols.dicomweb import dicomxml, receiving
from hub.studies import intake
from hub.studies.models import Instance, Quarantined, Study
from support.dicom_bytes import CT, ITEM_END, UNDEFINED, body, element, item, meta
from support.files import JSON, dicom_file, multipart_body, related
from support.serving import serving

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

    from support.world import World


XML = "application/dicom+xml"


def post(client: TestClient, *files: bytes, study: str = "", **headers: str) -> Any:
    address = f"/dicomweb/studies/{study}" if study else "/dicomweb/studies"
    return client.post(address, content=multipart_body(files), headers={**related(), **headers})


def uids(sequence: dict[str, Any]) -> list[str]:
    return [one["00081155"]["Value"][0] for one in sequence["Value"]]


def stored() -> int:
    with database().reading() as session:
        return session.scalar(select(func.count()).select_from(Instance)) or 0


def test_all_stored(world: World) -> None:
    study, series, sops = new_uid(), new_uid(), [new_uid(), new_uid()]
    files = [dicom_file(study=study, series=series, sop=sop) for sop in sops]
    answer = post(world.machine(), *files)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    document = answer.json()
    assert document["00081190"]["Value"] == [f"http://testserver/dicomweb/studies/{study}"]
    references = document["00081199"]
    assert uids(references) == sops
    assert "00081198" not in document
    first = references["Value"][0]
    assert first["00081150"]["Value"] == [CT]
    assert first["00081190"]["Value"] == [
        f"http://testserver/dicomweb/studies/{study}/series/{series}/instances/{sops[0]}"
    ]
    again = post(world.machine(), *files)
    assert (again.status_code, uids(again.json()["00081199"])) == (200, sops)
    assert stored() == 2


def test_what_is_acknowledged_can_be_retrieved_byte_by_byte(world: World) -> None:
    file = dicom_file()
    client = world.machine()
    document = post(client, file).json()
    address = document["00081199"]["Value"][0]["00081190"]["Value"][0]
    answer = client.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    assert (answer.status_code, answer.content) == (200, file)
    metadata = client.get(f"{address}/metadata", headers={"Accept": JSON}).json()
    assert metadata[0]["00100010"]["Value"] == [{"Alphabetic": "WANG^WEI"}]
    assert metadata[0]["7FE00010"]["BulkDataURI"] == f"{address}/bulkdata/7FE00010"
    pixels = client.get(metadata[0]["7FE00010"]["BulkDataURI"], headers={"Accept": "application/octet-stream"})
    assert file.endswith(pixels.content)


def test_some_stored_is_202_with_reasons(world: World) -> None:
    ids = {"study": new_uid(), "series": new_uid(), "sop": new_uid()}
    good = new_uid()
    post(world.machine(), dicom_file(**ids, pixel=1))
    answer = post(world.machine(), dicom_file(**ids, pixel=2), dicom_file(sop=good), b"no DICOM at all")
    assert answer.status_code == 202
    document = answer.json()
    assert uids(document["00081199"]) == [good]
    failed = document["00081198"]["Value"]
    assert uids(document["00081198"]) == [ids["sop"]]
    assert failed[0]["00081197"]["Value"] == [0x0110]
    assert "内容不同" in failed[0]["00000902"]["Value"][0]
    # An instance that nobody can name stands among the other failures.
    other = document["0008119A"]["Value"]
    assert other[0]["00081197"]["Value"] == [0xC000]
    english = post(world.machine(), b"no DICOM at all", **{"Accept-Language": "en"})
    assert "not a DICOM file" in english.json()["0008119A"]["Value"][0]["00000902"]["Value"][0]


def test_none_stored_is_409(world: World) -> None:
    answer = post(world.machine(), b"no DICOM at all")
    assert answer.status_code == 409
    assert "00081199" not in answer.json()


def test_the_study_of_the_address_counts(world: World) -> None:
    study = new_uid()
    inside, outside = dicom_file(study=study), dicom_file()
    answer = post(world.machine(), inside, outside, study=study)
    assert answer.status_code == 202
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert stored() == 1
    assert post(world.machine(), outside, study=study).status_code == 409


def test_warnings_make_202(world: World) -> None:
    short = dicom_file(frames=3)[: -8 * 8 * 2]
    cut = short.rfind(struct.pack("<HH", 0x7FE0, 0x0010))
    short = short[: cut + 8] + struct.pack("<L", len(short) - cut - 12) + short[cut + 12 :]
    answer = post(world.machine(), short)
    assert answer.status_code == 202
    assert answer.json()["00081199"]["Value"][0]["00081196"]["Value"] == [0xB007]


def test_a_single_part_body(world: World) -> None:
    answer = world.machine().post(
        "/dicomweb/studies", content=dicom_file(), headers={"Content-Type": "application/dicom"}
    )
    assert answer.status_code == 200


def test_xml_where_only_xml_is_accepted(world: World) -> None:
    sop = new_uid()
    answer = post(world.machine(), dicom_file(sop=sop), Accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(answer.content)
    found = [value.text for value in root.iterfind(".//DicomAttribute[@keyword='ReferencedSOPInstanceUID']/Value")]
    assert found == [sop]


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"Content-Type": "text/plain"}, b"x", 415),
        ({}, b"x", 415),
        ({"Content-Type": 'multipart/related; type="application/dicom+json"; boundary=B'}, b"x", 400),
        ({"Content-Type": 'multipart/related; type="image/jpeg"; boundary=B'}, b"x", 415),
        ({"Content-Type": "multipart/form-data; boundary=B"}, b"x", 415),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, b"x", 400),
        ({"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}, b"", 400),
        ({"Content-Type": 'multipart/related; type="application/dicom"; boundary=B'}, b"--B--\r\n", 400),
        ({"Content-Type": 'multipart/related; type="application/dicom"; boundary=OTHER'}, multipart_body([b"x"]), 400),
        ({"Content-Type": "application/dicom", "Accept": "text/html"}, b"x", 406),
    ],
)
def test_requests_that_are_none(world: World, headers: dict[str, str], content: bytes, status: int) -> None:
    answer = world.machine().post("/dicomweb/studies", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert stored() == 0


def test_a_body_that_is_cut_off_acknowledges_nothing(world: World) -> None:
    whole = multipart_body([dicom_file(), dicom_file()])
    for length in (len(whole) - 6, len(whole) // 2 + 40, 60):
        answer = world.machine().post("/dicomweb/studies", content=whole[:length], headers=related())
        assert answer.status_code == 400, length
        assert "00081199" not in answer.text
    # What was whole may be here; a repetition finds it and acknowledges all.
    assert world.machine().post("/dicomweb/studies", content=whole, headers=related()).status_code == 200
    assert stored() == 2
    assert list(intake.staging().iterdir()) == []


def test_a_part_of_another_media_type_is_refused_alone(world: World) -> None:
    content = multipart_body([b"{}"], kind="application/json")[: -len(b"--B--\r\n")] + multipart_body([dicom_file()])
    answer = world.machine().post("/dicomweb/studies", content=content, headers=related())
    assert answer.status_code == 202
    assert "application/json" in answer.json()["0008119A"]["Value"][0]["00000902"]["Value"][0]


def test_limits_of_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "stow_max_request_mb", 1)
    large = dicom_file(size=800)
    assert post(world.machine(), large).status_code == 413

    def chunks() -> Iterator[bytes]:
        yield multipart_body([large])

    answer = world.machine().post("/dicomweb/studies", content=chunks(), headers=related())
    assert answer.status_code == 413, "without a Content-Length the bytes are counted"
    monkeypatch.setattr(get_settings(), "stow_max_request_mb", 100)
    monkeypatch.setattr(get_settings(), "instance_max_mb", 1)
    assert post(world.machine(), large).status_code == 413
    assert stored() == 0
    assert list(intake.staging().iterdir()) == []


def test_a_claim_of_ten_gigabytes_is_answered_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "stow_max_request_mb", 1024)
    with serving(world.app) as address:
        host = address.removeprefix("http://").split(":")
        import socket

        with socket.create_connection((host[0], int(host[1])), timeout=60) as connection:
            connection.sendall(
                b"POST /dicomweb/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 10737418240\r\n"
                b"Content-Type: multipart/related; type=application/dicom; boundary=B\r\n"
                b"Authorization: Bearer " + world.key().encode() + b"\r\n\r\n--B\r\n"
            )
            assert b"413" in connection.recv(4096).split(b"\r\n")[0]


def test_no_room_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "min_free_mb", 10**9)
    answer = post(world.machine(), dicom_file())
    assert (answer.status_code, answer.json()["code"]) == (503, "no-room")


def test_a_store_that_fails_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from storage.errors import StorageUnavailable

    def broken(*_args: object, **_kw: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(object_store(), "put_pieces", broken)
    answer = post(world.machine(), dicom_file())
    assert answer.status_code == 503
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
    assert stored() == 0


def test_who_may_store(world: World) -> None:
    assert post(world.anonymous(), dicom_file()).status_code == 401
    assert post(world.machine("C01", "retrieve"), dicom_file()).status_code == 403
    assert post(world.client("clinician"), dicom_file()).status_code == 403
    unknown = world.anonymous()
    unknown.headers["Authorization"] = "Bearer hub_nonsense"
    assert post(unknown, dicom_file()).status_code == 401
    person = world.client("technologist")
    assert post(person, dicom_file()).status_code == 200
    del person.headers["X-CSRF-Token"]
    assert post(person, dicom_file()).status_code == 403


def test_another_clinics_study_is_refused_without_saying_whose(world: World) -> None:
    study = new_uid()
    post(world.machine("C01"), dicom_file(study=study))
    answer = post(world.machine("C02"), dicom_file(study=study))
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0x0110]
    assert "机构" not in answer.text
    assert world.machine("C02").get(f"/dicomweb/studies/{study}/metadata").status_code == 404


# --- metadata and bulk data apart -----------------------------------------------------------------------------------


def parts(*entries: tuple[str, str, bytes]) -> bytes:
    out = b""
    for kind, location, content in entries:
        where = f"Content-Location: {location}\r\n" if location else ""
        out += f"--B\r\nContent-Type: {kind}\r\n{where}\r\n".encode() + content + b"\r\n"
    return out + b"--B--\r\n"


def post_apart(client: TestClient, content: bytes, kind: str = JSON, study: str = "", accept: str = JSON) -> Any:
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary=B', "Accept": accept}
    return client.post(f"/dicomweb/studies{f'/{study}' if study else ''}", content=content, headers=headers)


def apart(file: bytes, location: str) -> tuple[dict[str, Any], bytes]:
    """Metadata and pixels of a file as another system would send them."""
    dataset = pydicom.dcmread(io.BytesIO(file))
    pixels = dataset.PixelData
    document = dataset.to_json_dict(bulk_data_threshold=10**9)
    document["7FE00010"] = {"vr": "OW", "BulkDataURI": location}
    return document, pixels


OCTETS = "application/octet-stream"


def the_file(outcome_uid: str) -> pydicom.Dataset:
    with database().reading() as session:
        row = session.scalars(select(Instance).where(Instance.uid == outcome_uid)).one()
        return pydicom.dcmread(io.BytesIO(object_store().read(row.object_key, row.object_offset, row.size)))


def test_metadata_and_bulk_data_make_instances(world: World) -> None:
    study, sops = new_uid(), [new_uid(), new_uid()]
    pairs = [apart(dicom_file(study=study, sop=sop, frames=2), f"bulk/{n}") for n, sop in enumerate(sops)]
    content = parts(
        (JSON, "", json.dumps([document for document, _pixels in pairs]).encode()),
        *((OCTETS, f"bulk/{n}", pixels) for n, (_document, pixels) in enumerate(pairs)),
    )
    answer = post_apart(world.machine(), content, study=study)
    assert answer.status_code == 202, answer.text
    references = answer.json()["00081199"]["Value"]
    assert [one["00081155"]["Value"][0] for one in references] == sops
    # The metadata said ISO_IR 100, and JSON is UTF-8: a value was truly changed.
    assert [one["00081196"]["Value"] for one in references] == [[0xB000], [0xB000]]
    for sop, (_document, pixels) in zip(sops, pairs, strict=True):
        dataset = the_file(sop)
        assert dataset.PixelData == pixels
        assert (dataset.PatientName, dataset.StudyInstanceUID) == ("WANG^WEI", study)
        assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert post_apart(world.machine(), content, study=study).status_code == 200, "now both are known"
    assert post_apart(world.machine(), content, study=new_uid()).status_code == 409
    assert list(intake.staging().iterdir()) == []


def test_the_same_as_xml(world: World) -> None:
    sop = new_uid()
    document, pixels = apart(dicom_file(sop=sop, charset=b"ISO_IR 192", name="王^伟".encode()), "http://far/bulk?n=1")
    content = parts((XML, "", dicomxml.write(document)), (OCTETS, "http://far/bulk?n=1", pixels))
    answer = post_apart(world.machine(), content, XML)
    assert answer.status_code == 200, answer.text
    assert (the_file(sop).PixelData, str(the_file(sop).PatientName)) == (pixels, "王^伟")


@pytest.mark.parametrize("as_frames", [False, True])
def test_compressed_pixels_keep_their_transfer_syntax(world: World, as_frames: bool) -> None:
    source = pydicom.dcmread(get_testdata_file("SC_rgb_jpeg_dcmtk.dcm"))
    stream = next(generate_frames(source.PixelData, number_of_frames=1))
    source.SOPInstanceUID = sop = new_uid()
    del source.PixelData
    document = source.to_json_dict()
    document["7FE00010"] = {"vr": "OB", "BulkDataURI": "pixels"}
    location = "pixels/frames/1" if as_frames else "pixels"
    content = parts((JSON, "", json.dumps([document]).encode()), ("image/jpeg", location, stream))
    answer = post_apart(world.machine(), content)
    assert answer.status_code in (200, 202), answer.text
    dataset = the_file(sop)
    assert dataset.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0") == stream.rstrip(b"\0")


def test_references_that_lead_nowhere(world: World) -> None:
    document, pixels = apart(dicom_file(), "here")
    lost, _pixels = apart(dicom_file(), "elsewhere")
    content = parts(
        (JSON, "", json.dumps([document, lost, {"00080060": {"vr": "CS", "Value": ["CT"]}}, 7]).encode()),
        (OCTETS, "here", pixels),
        (OCTETS, "nobody/asks", b"x"),
    )
    answer = post_apart(world.machine(), content)
    assert answer.status_code == 202
    said = answer.json()
    assert len(said["00081199"]["Value"]) == 1
    (failed,) = said["00081198"]["Value"]
    assert failed["00081155"]["Value"] == lost["00080018"]["Value"]
    assert len(said["0008119A"]["Value"]) == 3
    assert stored() == 1
    assert list(intake.staging().iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "metadata"),
    [
        (JSON, b"{"),
        (JSON, b"[" * 100_000),
        (XML, b"<NativeDicomModel"),
        (XML, b"<html/>"),
        (XML, b'<!DOCTYPE x [<!ENTITY a "aaaa">]><NativeDicomModel/>'),
        (
            XML,
            '<?xml version="1.0" encoding="cp037"?>'.encode("cp037")
            + "<!DOCTYPE x><NativeDicomModel/>".encode("cp037"),
        ),
    ],
)
def test_metadata_that_are_none(world: World, kind: str, metadata: bytes) -> None:
    assert post_apart(world.machine(), parts((kind, "", metadata)), kind).status_code == 400
    assert post_apart(world.machine(), parts((OCTETS, "x", b"x")), kind).status_code == 400


# --- packs ----------------------------------------------------------------------------------------------------------


def test_the_instances_of_a_request_lie_in_one_object(world: World) -> None:
    study = new_uid()
    files = [dicom_file(study=study, number=number, size=8 + number) for number in range(7)]
    refused = dicom_file(study=study, patient_id=b"P999", name=b"LI^NA")
    answer = post(world.machine(), *files[:3], refused, b"no DICOM", *files[3:])
    assert answer.status_code == 202
    with database().reading() as session:
        rows = list(session.scalars(select(Instance).order_by(Instance.object_offset)))
        kept = set(session.scalars(select(Quarantined.object_key)))
    assert len({row.object_key for row in rows}) == 1
    assert not kept & {row.object_key for row in rows}
    for row, file in zip(rows, files, strict=True):
        assert object_store().read(row.object_key, row.object_offset, row.size) == file
    assert object_store().stat(rows[0].object_key).size == sum(map(len, files)), "nothing refused lies in it"
    for reference, file in zip(answer.json()["00081199"]["Value"], files, strict=True):
        address = reference["00081190"]["Value"][0]
        given = world.machine().get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
        assert given.content == file


def test_many_parts_at_once_are_taken_in_by_groups(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "GROUP_PARTS", 3)
    monkeypatch.setattr(receiving, "_READ_AT_ONCE", 1)
    study = new_uid()
    files = [dicom_file(study=study, number=number) for number in range(8)]
    content = multipart_body([*files[:4], b"no DICOM", *files[4:]])
    answer = world.machine().post("/dicomweb/studies", content=content, headers=related())
    assert answer.status_code == 202
    assert len(answer.json()["00081199"]["Value"]) == 8
    with database().reading() as session:
        assert len(set(session.scalars(select(Instance.object_key)))) == 3
        assert session.scalars(select(Study)).one().instance_count == 8
    assert receiving._Held.total == 0


def test_a_full_memory_sends_parts_to_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "PROCESS_IN_MEMORY", 0)
    monkeypatch.setattr(receiving, "_WRITE_AT_ONCE", 100)
    files = [dicom_file(size=64) for _ in range(3)]
    answer = post(world.machine(), *files)
    assert answer.status_code == 200
    with database().reading() as session:
        rows = {row.uid: row for row in session.scalars(select(Instance))}
    for uid, file in zip(uids(answer.json()["00081199"]), files, strict=True):
        assert object_store().read(rows[uid].object_key, rows[uid].object_offset, rows[uid].size) == file
    assert receiving._Held.total == 0
    assert list(intake.staging().iterdir()) == []


# --- hostile and broken input ---------------------------------------------------------------------------------------

_UIDS = element(0x0020000D, "UI", b"1.2.3.1") + element(0x0020000E, "UI", b"1.2.3.2")
_CLASS = element(0x00080016, "UI", CT.encode()) + element(0x00080018, "UI", b"1.2.3.4")


def _deflated(size: int) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    out = engine.compress(_CLASS + struct.pack("<HH2sHL", 0x0009, 0x1010, b"OB", 0, size))
    zeros = bytes(1 << 20)
    for _ in range(size >> 20):
        out += engine.compress(zeros)
    return meta("1.2.840.10008.1.2.1.99") + out + engine.flush()


def _nested(depth: int) -> bytes:
    tag = struct.pack("<HH2sHL", 0x0040, 0xA730, b"SQ", 0, UNDEFINED)
    return meta() + _CLASS + (tag + item(length=UNDEFINED)) * depth + ITEM_END * 2


HOSTILE: dict[str, tuple[bytes, str]] = {
    "not DICOM": (b"%PDF-1.7 a letter", "not-dicom"),
    "empty": (b"", "empty"),
    "text": ("只是一个文本文件".encode() * 20, "not-dicom"),
    "truncated": ((meta() + body())[:-10], "truncated"),
    "truncated header": ((meta() + body())[:200], "truncated"),
    "no UIDs": (meta() + element(0x00080060, "CS", b"CT") + element(0x00100010, "PN", b"A"), "no-uids"),
    "bad UID": (meta() + (_CLASS + _UIDS).replace(b"1.2.3.4", b"../../x"), "invalid-uid"),
    "absurd length": (meta() + _CLASS + element(0x00081030, "UT", b"x", length=0xFFFFFFF0) + _UIDS, "absurd-length"),
    "deflate bomb": (_deflated(64 << 20), "bomb"),
    "nesting": (_nested(5_000), "bomb"),
    "a frame of gigabytes": (
        meta() + body(rows=65535, columns=65535, pixels=b"\0" * 64),
        "frame-too-large",
    ),
    "a code stream of gigabytes": (
        meta("1.2.840.10008.1.2.4.50")
        + body(bits=8, encapsulated=[b"", b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03" + b"\x01\x11\x00" * 3]),
        "frame-too-large",
    ),
    "executable": (b"MZ" + (meta() + body())[2:], "executable-preamble"),
    "script": (b"#!/bin/sh\nrm -rf /\n".ljust(128, b"\0") + (meta() + body())[128:], "executable-preamble"),
    "ELF": (b"\x7fELF".ljust(128, b"\0") + (meta() + body())[128:], "executable-preamble"),
    "ZIP": (b"PK\x03\x04" + b"\0" * 200, "not-dicom"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_and_kept(world: World, kind: str) -> None:
    content, code = HOSTILE[kind]
    answer = post(world.machine(), content, dicom_file())
    assert answer.status_code == 202, "the file beside it goes in"
    document = answer.json()
    refusals = document.get("00081198", document.get("0008119A"))["Value"]
    assert len(refusals) == 1
    assert refusals[0]["00081197"]["Value"][0] in (0xC000, 0xA700)
    assert stored() == 1
    with database().reading() as session:
        row = session.scalars(select(Quarantined)).one()
    assert (row.code, row.size) == (code, len(content))
    if content:
        assert object_store().read(row.object_key) == content


TOLERATED: dict[str, bytes] = {
    "no preamble": (meta() + body())[132:],
    "no file meta": body(),
    "mark at the beginning": (meta() + body())[128:],
    "no PatientID": meta() + body(patient_id=None),
    "trailing zeros": meta() + body() + bytes(512),
    "no transfer syntax": meta(None) + body(),
}


@pytest.mark.parametrize("kind", TOLERATED)
def test_broken_files_that_devices_send_go_in(world: World, kind: str) -> None:
    client = world.machine()
    answer = post(client, TOLERATED[kind])
    assert answer.status_code == 200
    address = answer.json()["00081199"]["Value"][0]["00081190"]["Value"][0]
    given = client.get(address, headers={"Accept": "application/dicom; transfer-syntax=*"})
    parsed = reader.read(given.content)
    assert parsed.sop_instance_uid == "1.2.3.4"
    assert given.content[128:132] == b"DICM", "what is given out is a valid file, whatever came in"


def test_a_bomb_costs_neither_time_nor_memory(world: World) -> None:
    with pytest.raises(reader.DicomRefused):
        reader.read(_deflated(256 << 20), limits=Limits())
    assert post(world.machine(), _deflated(256 << 20)).status_code == 409


def test_a_name_beside_the_part_is_not_a_path(world: World) -> None:
    content = multipart_body([b"no image"]).replace(
        b"Content-Type: application/dicom", b"Content-Type: application/dicom\r\nContent-Location: ../../../etc/passwd"
    )
    assert world.machine().post("/dicomweb/studies", content=content, headers=related()).status_code == 409
    assert list(intake.staging().iterdir()) == []


# --- streaming ------------------------------------------------------------------------------------------------------


def _anonymous_memory() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) << 10


@pytest.mark.slow
def test_a_large_request_never_sits_in_memory(world: World) -> None:
    """One instance of 300 MB and fifty small ones; the process grows by a fraction of that."""
    megabytes = 300
    large = dicom_file()[: -8 * 8 * 2 - 12]
    large += struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, megabytes << 20)
    peak = [0]

    def stream() -> Iterator[bytes]:
        yield b"--B\r\nContent-Type: application/dicom\r\n\r\n" + large
        for _ in range(megabytes):
            peak[0] = max(peak[0], _anonymous_memory())
            yield bytes(1 << 20)
        yield b"\r\n" + multipart_body([dicom_file() for _ in range(50)])

    with serving(world.app) as address:
        before = _anonymous_memory()
        answer = httpx.post(
            f"{address}/dicomweb/studies",
            content=stream(),
            headers={**related(), "Authorization": f"Bearer {world.key()}"},
            timeout=240,
        )
    assert answer.status_code in (200, 202), answer.text
    assert len(answer.json()["00081199"]["Value"]) == 51
    assert max(peak[0], _anonymous_memory()) - before < 120 << 20
    with database().reading() as session:
        assert session.scalar(select(func.sum(Study.total_bytes))) > megabytes << 20
    assert list(intake.staging().iterdir()) == []
