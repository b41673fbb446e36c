"""Objects that are written past the page cache hold exactly their pieces, and every filesystem takes them."""

from __future__ import annotations

import fcntl
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from storage import direct
from storage.filesystem import FilesystemStore

EDGES = [
    [direct.WORTHWHILE - 1],
    [direct.WORTHWHILE],
    [direct.BUFFER - 1, 1],
    [direct.BUFFER],
    [direct.BUFFER, 1],
    [4095, direct.BUFFER, 0, 4097, 3 * direct.BUFFER + 5],
    [526_336] * 28,
]


def pieces(sizes: list[int]) -> list[bytes]:
    return [os.urandom(size) for size in sizes]


@pytest.mark.parametrize("sizes", EDGES, ids=str)
def test_what_is_read_is_what_was_put(tmp_path: Path, sizes: list[int]) -> None:
    store = FilesystemStore(tmp_path / "objects")
    data = pieces(sizes)
    store.put_pieces("instances/one", data)
    assert store.read("instances/one") == b"".join(data)
    assert store.stat("instances/one").size == sum(sizes)


def test_more_writers_than_buffers(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "objects")
    many = {f"instances/{number}": pieces([direct.BUFFER + number, 77]) for number in range(24)}
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda key: store.put_pieces(key, many[key]), many))
    assert all(store.read(key) == b"".join(data) for key, data in many.items())


def test_a_filesystem_that_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(descriptor: int, command: int, argument: int = 0) -> int:
        if command == fcntl.F_SETFL and argument & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return fcntl.fcntl(descriptor, command, argument)

    class Refusing:
        F_GETFL, F_SETFL = fcntl.F_GETFL, fcntl.F_SETFL
        fcntl = staticmethod(refused)

    monkeypatch.setattr(direct, "fcntl", Refusing)
    store = FilesystemStore(tmp_path / "objects")
    data = pieces([direct.BUFFER, 12_345])
    store.put_pieces("instances/one", data)
    assert store.read("instances/one") == b"".join(data)


@pytest.mark.parametrize("at", [1, 2])
def test_a_write_that_is_cut_short_is_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    calls, real = [], os.pwrite

    def short(descriptor: int, data: memoryview, offset: int) -> int:
        calls.append(offset)
        return real(descriptor, data[:4096], offset) if len(calls) == at else real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", short)
    store = FilesystemStore(tmp_path / "objects")
    data = pieces([direct.BUFFER, 12_345])
    store.put_pieces("instances/one", data)
    assert len(calls) == at
    assert store.read("instances/one") == b"".join(data)
