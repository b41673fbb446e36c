"""Unpacking archives, kind and hostile."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from hub.dicom.archive import ArchiveLimits, Member, RefusedMember, clean_name, is_zip, iter_zip


def packed(files: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def unpack(tmp_path: Path, data: bytes, limits: ArchiveLimits | None = None) -> tuple[dict[str, bytes], dict[str, str]]:
    path = tmp_path / "upload.zip"
    path.write_bytes(data)
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    good: dict[str, bytes] = {}
    bad: dict[str, str] = {}
    for member in iter_zip(path, limits=limits or ArchiveLimits(), workdir=work):
        if isinstance(member, Member):
            with member.open() as file:
                good[member.name] = file.read()
            assert member.size == len(good[member.name])
            assert work in member.path.parents
        else:
            assert isinstance(member, RefusedMember)
            assert member.reason.message_zh
            bad[member.name] = member.reason.code
    assert list(work.iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"upload.zip", "work"}
    return good, bad


def test_folder_of_files(tmp_path: Path) -> None:
    files = {"a/1.dcm": b"one", "a/b/2.dcm": b"two" * 100, "__MACOSX/a/._1.dcm": b"x", "a/.DS_Store": b"x"}
    good, bad = unpack(tmp_path, packed(files))
    assert good == {"a/1.dcm": b"one", "a/b/2.dcm": b"two" * 100}
    assert bad == {}
    assert is_zip(tmp_path / "upload.zip")


def test_evil_names_are_shown_clean_and_never_used(tmp_path: Path) -> None:
    names = ["../../etc/x", "/abs/y", "C:\\windows\\z", "a/../../b", "..\\..\\w", "ok\x1b[31m/v"]
    good, bad = unpack(tmp_path, packed({n: n.encode() for n in names}))
    assert set(good) == {"etc/x", "abs/y", "windows/z", "a/b", "w", "ok[31m/v"}
    assert bad == {}
    assert clean_name("../..") == "?"
    assert len(clean_name("x" * 5000)) == 255


def test_gbk_names(tmp_path: Path) -> None:
    raw = "头颅平扫/王伟.dcm".encode("gbk")
    data = packed({"A" * len(raw): b"x"}).replace(b"A" * len(raw), raw)
    good, _ = unpack(tmp_path, data)
    assert list(good) == ["头颅平扫/王伟.dcm"]


def test_ratio_bomb_keeps_the_others(tmp_path: Path) -> None:
    good, bad = unpack(tmp_path, packed({"1": b"one", "bomb": bytes(64 << 20), "2": b"two"}))
    assert good == {"1": b"one", "2": b"two"}
    assert bad == {"bomb": "zip-bomb"}


def test_size_that_lies(tmp_path: Path) -> None:
    data = packed({"liar": bytes(100_000)}).replace(struct.pack("<L", 100_000), struct.pack("<L", 10))
    good, bad = unpack(tmp_path, data)
    assert bad == {"liar": "zip-bad"}
    assert good == {}


def test_totals(tmp_path: Path) -> None:
    files = {str(i): bytes(1000) for i in range(10)}
    good, bad = unpack(tmp_path, packed(files), ArchiveLimits(max_total_bytes=3500))
    assert len(good) == 3
    assert bad == {"3": "zip-bomb"}
    good, bad = unpack(tmp_path, packed(files), ArchiveLimits(max_members=4))
    assert (len(good), set(bad.values())) == (0, {"zip-bomb"}) or len(good) == 4
    good, bad = unpack(tmp_path, packed(files), ArchiveLimits(max_member_bytes=999))
    assert (len(good), len(bad)) == (0, 10)
    assert unpack(tmp_path, packed(files), ArchiveLimits(max_directory_bytes=100))[1] == {"upload.zip": "zip-bomb"}


def test_nested_archives(tmp_path: Path) -> None:
    inner = packed({"x.dcm": b"inner"})
    good, bad = unpack(tmp_path, packed({"in.zip": inner, "y.dcm": b"outer"}))
    assert good == {"in.zip!/x.dcm": b"inner", "y.dcm": b"outer"}
    deep = packed({"z.zip": packed({"in.zip": inner}), "y.dcm": b"outer"})
    good, bad = unpack(tmp_path, deep)
    assert good == {"y.dcm": b"outer"}
    assert bad == {"z.zip!/in.zip": "zip-nested"}


def test_nested_bomb_counts_to_the_whole(tmp_path: Path) -> None:
    inner = packed({str(i): bytes(200_000) for i in range(20)}, method=zipfile.ZIP_STORED)
    outer = packed({"a.zip": inner, "b.zip": inner, "c": b"c"})
    good, bad = unpack(tmp_path, outer, ArchiveLimits(max_total_bytes=6_000_000))
    assert "zip-bomb" in bad.values()
    assert sum(map(len, good.values())) < 6_000_000


def test_symlinks_and_devices(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, kind in (("link", stat.S_IFLNK), ("pipe", stat.S_IFIFO)):
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
        archive.writestr("ok", b"ok")
    good, bad = unpack(tmp_path, out.getvalue())
    assert good == {"ok": b"ok"}
    assert bad == {"link": "zip-symlink", "pipe": "zip-symlink"}


def test_encrypted_and_strange_methods(tmp_path: Path) -> None:
    data = bytearray(packed({"secret": b"abc", "ok": b"ok"}, method=zipfile.ZIP_STORED))
    central = data.index(b"PK\1\2")
    data[6] |= 1
    data[central + 8] |= 1
    good, bad = unpack(tmp_path, bytes(data))
    assert (good, bad) == ({"ok": b"ok"}, {"secret": "zip-encrypted"})
    good, bad = unpack(tmp_path, packed({"l": b"abc"}, method=zipfile.ZIP_LZMA))
    assert bad == {"l": "unsupported"}


@pytest.mark.parametrize("cut", [0, 3, 30, 100])
def test_damaged(tmp_path: Path, cut: int) -> None:
    data = packed({"a": b"x" * 50, "b": b"y" * 50})
    good, bad = unpack(tmp_path, data[:cut])
    assert (good, bad) == ({}, {"upload.zip": "zip-bad"})


def test_one_damaged_member(tmp_path: Path) -> None:
    data = packed({"a": b"x" * 50, "b": b"y" * 50}, method=zipfile.ZIP_STORED).replace(b"xxx", b"zzz", 1)
    good, bad = unpack(tmp_path, data)
    assert (good, bad) == ({"b": b"y" * 50}, {"a": "zip-bad"})


def test_mutations_yield_only_members_or_refusals(tmp_path: Path) -> None:
    import random

    dice = random.Random(7)
    base = packed({"a.dcm": b"x" * 300, "in.zip": packed({"b": b"y"}), "头.dcm": b"z"})
    for _ in range(300):
        data = bytearray(base)
        for _ in range(dice.randrange(1, 6)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        unpack(tmp_path, bytes(data))


def test_stops_cleanly_when_the_caller_stops(tmp_path: Path) -> None:
    path = tmp_path / "upload.zip"
    path.write_bytes(packed({"a": b"1", "b": b"2"}))
    walk = iter_zip(path, workdir=tmp_path)
    next(walk)
    walk.close()  # type: ignore[attr-defined]
    assert [p.name for p in tmp_path.iterdir()] == ["upload.zip"]


def test_a_table_of_contents_cannot_be_hidden_behind_another(tmp_path):
    """The ZIP64 locator names a harmless record, while the module reads the one that lies before the locator."""

    def record(count, directory):
        return struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, directory, 0)

    harmless, hostile = record(1, 100), record(10**7, 1 << 33)
    for named, beside in ((harmless, hostile), (hostile, harmless)):
        path = tmp_path / "x.zip"
        locator = struct.pack("<4sLQL", b"PK\6\7", 0, 4, 1)
        end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        path.write_bytes(b"PK\3\4" + named + beside + locator + end)
        (refused,) = iter_zip(path)
        assert isinstance(refused, RefusedMember)
        assert refused.reason.code == "zip-bomb"
