"""multipart/related as it streams: any cut of the bytes gives the same parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.protocols.dicomweb.multipart import (
    MultipartError,
    MultipartReader,
    PartBegin,
    PartData,
    PartEnd,
    parse_media_type,
    write,
)


def parts_of(chunks: list[bytes], boundary: str = "B") -> list[tuple[dict[str, str], bytes]]:
    reader = MultipartReader(boundary)
    found: list[tuple[dict[str, str], bytes]] = []
    whole = 0
    for chunk in chunks:
        for event in reader.feed(chunk):
            if isinstance(event, PartBegin):
                found.append((event.headers, b""))
            elif isinstance(event, PartData):
                found[-1] = (found[-1][0], found[-1][1] + event.data)
            elif isinstance(event, PartEnd):
                whole += 1
    reader.finish()
    assert whole == len(found) == reader.parts
    return found


@given(
    st.lists(
        st.lists(st.sampled_from([b"\r\n", b"--", b"--B", b"\r\n--", b"\r", b"\n", b"B", b"\0", b"x"])).map(b"".join),
        min_size=1,
        max_size=4,
    ).filter(lambda parts: not any(b"\r\n--B" in b"\r\n\r\n" + part + b"\r" for part in parts)),
    st.integers(1, 9),
)
def test_what_is_written_is_read_back_however_it_is_cut(parts: list[bytes], step: int) -> None:
    message = b"".join(write((({"Content-Type": "x/y"}, [part]) for part in parts), "B"))
    cut = [message[at : at + step] for at in range(0, len(message), step)]
    assert [body for _headers, body in parts_of(cut)] == parts


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_preamble_epilogue_padding_and_folding(step: int) -> None:
    message = (
        b"This is ignored --B\r\nso is this\r\n--B  \t\r\nContent-Type: application/dicom;\r\n  x=1\r\nContent-ID: <a>\r\n\r\n"
        b"one\r\n--Bx is data\r\n--B\r\n\r\ntwo, without headers\r\n--B--\r\nthe epilogue\r\n--B\r\n\r\nis not a part"
    )
    cut = [message[at : at + step] for at in range(0, len(message), step)]
    assert parts_of(cut) == [
        ({"content-type": "application/dicom; x=1", "content-id": "<a>"}, b"one\r\n--Bx is data"),
        ({}, b"two, without headers"),
    ]


def test_an_empty_part() -> None:
    assert parts_of([b"--B\r\nA: b\r\n\r\n\r\n--B\r\nA: c\r\n\r\n--B--"]) == [({"a": "b"}, b""), ({"a": "c"}, b"")]


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"--B\r\nA: b\r\n\r\ncut off",
        b"--B\r\nA: b\r\n\r\nwhole\r\n--B",
        b"--B\r\nA: b\r\n\r\nwhole\r\n--B\r\nC: d\r\n\r\n",
        b"no boundary " * 10_000,
        b"--B\r\nA: " + b"x" * 40_000 + b"\r\n\r\n",
        b"--B\r\nno colon\r\n\r\nx\r\n--B--",
    ],
)
def test_what_is_cut_off_or_malformed_is_said(message: bytes) -> None:
    with pytest.raises(MultipartError):
        parts_of([message])


def test_a_boundary_of_73_characters_as_orthanc_makes_it() -> None:
    boundary = "-".join(["671508ad-184e-4e88-b207-1651049772ea"] * 2)
    message = f"--{boundary}\r\n\r\nabc\r\n--{boundary}--".encode()
    assert [data for _headers, data in parts_of([message], boundary)] == [b"abc"]


@pytest.mark.parametrize("boundary", ["", "x" * 201, "a\r\nb"])
def test_a_boundary_that_is_none(boundary: str) -> None:
    with pytest.raises(MultipartError):
        MultipartReader(boundary)


def test_media_types() -> None:
    media = parse_media_type('Multipart/Related; TYPE="application/dicom"; boundary=a=b')
    assert (media.name, media.params) == ("multipart/related", {"type": "application/dicom", "boundary": "a=b"})
    quoted = parse_media_type('multipart/related; boundary="a b;c"; type=application/dicom')
    assert quoted.params["boundary"] == "a b;c"
