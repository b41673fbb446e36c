"""One contract for every object store: the filesystem and two S3 servers by different makers."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from storage import filesystem
from storage.base import ObjectStore
from storage.errors import (
    ChecksumMismatch,
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageFull,
    StorageUnavailable,
)
from storage.factory import open_store
from storage.filesystem import FilesystemStore
from storage.keys import new_key, validate_key
from storage.s3 import MAX_PARTS, PART_SIZE, S3Store, part_size

REPOSITORY = Path(__file__).resolve().parents[2]

HOSTILE_KEYS = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "a//b",
    "a/",
    "/a",
    ".tmp/x",
    "a/.hidden",
    "a\\b",
    "a\0b",
    "a\nb",
    "a b",
    "C:x",
    "检查/1",
    "a" * 600,
    "a/" + "b" * 201,
    "%2e%2e/x",
    "a?x=1",
    "~root",
]


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def s3_url(variable: str) -> str:
    url = os.environ.get(variable)
    if not url:
        pytest.skip(f"{variable} names no S3 server")
    return url


@pytest.fixture(
    params=[
        "filesystem",
        pytest.param("HUB_TEST_S3_URL", marks=pytest.mark.s3),
        pytest.param("HUB_TEST_S3_URL_2", marks=pytest.mark.s3),
    ]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty place in each kind of store."""
    if request.param == "filesystem":
        return f"file://{tmp_path / 'objects'}"
    base, _, query = s3_url(request.param).partition("?")
    return f"{base}/contract-{secrets.token_hex(8)}?{query}"


@pytest.fixture
def store(url: str) -> Iterator[ObjectStore]:
    opened = open_store(url)
    opened.check()
    yield opened
    for stat in list(opened.list()):
        opened.delete(stat.key)
    opened.close()


def visible(store: ObjectStore) -> set[str]:
    return {stat.key for stat in store.list()}


class Dribble(io.RawIOBase):
    """A source that cannot seek, gives a few bytes at a time, and may break."""

    def __init__(self, data: bytes, *, breaks_at: int | None = None) -> None:
        self.data, self.position, self.breaks_at = data, 0, breaks_at

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        if self.breaks_at is not None and self.position >= self.breaks_at:
            raise ConnectionResetError("the clinic's line broke")
        step = 70_000 if size is None or size < 0 else min(size, 70_000)
        piece = self.data[self.position : self.position + step]
        self.position += len(piece)
        return piece


# --- keys --------------------------------------------------------------------------------------------------------


def test_new_keys_are_valid_random_and_sharded() -> None:
    keys = {new_key("instances") for _ in range(2000)}
    assert len(keys) == 2000
    assert all(validate_key(key).startswith("instances/") for key in keys)
    folders = {key.split("/")[1] for key in keys}
    assert 200 < len(folders) <= 256, "even, and few enough that a store soon has them all"


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_hostile_keys_are_refused_everywhere(store: ObjectStore, key: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b"x"),
        lambda: store.put_file(key, file),
        lambda: store.put_pieces(key, [b"x"]),
        lambda: store.open(key),
        lambda: store.read(key),
        lambda: store.iter_range(key, 0, 1),
        lambda: store.stat(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.presign(key, 60) if isinstance(store, S3Store) else store.stat(key),
        lambda: store.verify(key, sha(b"x")),
    ]
    for call in calls:
        with pytest.raises(InvalidKey):
            call()
    assert file.exists()
    with pytest.raises(InvalidKey):
        new_key(key)


def test_hostile_prefixes_are_refused(store: ObjectStore) -> None:
    for prefix in ("../", "/", "a/../", ".tmp/", "a\0"):
        with pytest.raises(InvalidKey):
            list(store.list(prefix))


# --- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4096, 300_001])
def test_round_trip(store: ObjectStore, size: int) -> None:
    data, key = os.urandom(size), new_key("instances")
    stat = store.put(key, data, size=size, sha256=sha(data), content_type="application/dicom")
    assert (stat.key, stat.size, stat.sha256) == (key, size, sha(data))
    assert store.read(key) == data
    assert b"".join(store.iter_range(key)) == data
    with store.open(key) as stream:
        assert stream.read() == data
    assert store.stat(key).size == size
    assert store.stat(key).sha256 in (None, sha(data))
    assert store.exists(key)
    assert store.verify(key, sha(data)).sha256 == sha(data)


def test_sources_that_can_seek_and_that_cannot(store: ObjectStore) -> None:
    data = os.urandom(9_500_000)
    first, second = new_key("instances"), new_key("instances")
    assert store.put(first, Dribble(data)).sha256 == sha(data)  # type: ignore[arg-type]
    source = io.BytesIO(b"skipped" + data)
    source.seek(7)
    assert store.put(second, source, size=len(data)).sha256 == sha(data)
    assert store.read(first) == store.read(second) == data


@pytest.mark.parametrize("size", [64 * 1024 * 1024 + 12_345, 2 * PART_SIZE])
def test_large_object_goes_in_parts(store: ObjectStore, size: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    block = os.urandom(1024 * 1024)
    hasher = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(-(-size // len(block))):
            piece = (number.to_bytes(8, "big") + block[8:])[: size - number * len(block)]
            file.write(piece)
            hasher.update(piece)
    digest, key = hasher.hexdigest(), new_key("instances")
    with path.open("rb") as file:
        assert store.put(key, file, size=size, sha256=digest).sha256 == digest
    assert store.verify(key, digest, size).size == size
    with path.open("rb") as file:
        for offset, length in ((0, 10), (PART_SIZE - 5, 10), (size - 10, 10)):
            file.seek(offset)
            assert store.read(key, offset, length) == file.read(length)
    other = new_key("instances")
    assert store.put_file(other, path, sha256=digest).sha256 == digest
    assert not path.exists()
    assert store.verify(other, digest).size == size


def test_seeking_in_an_open_object(store: ObjectStore) -> None:
    data, key = os.urandom(1_500_000), new_key("instances")
    store.put(key, data)
    with store.open(key) as stream:
        assert stream.seekable()
        for offset in (1_400_000, 0, 700_000, 1_499_999):
            stream.seek(offset)
            assert stream.read(5) == data[offset : offset + 5]
        assert stream.seek(0, io.SEEK_END) == len(data)
        assert stream.read() == b""


def test_ranges(store: ObjectStore) -> None:
    data, key = os.urandom(200_000), new_key("frames")
    store.put(key, data)
    for offset, length in [(0, 1), (0, 200_000), (199_999, 1), (5_000, 70_000), (0, 0), (200_000, 0), (77, 0)]:
        assert store.read(key, offset, length) == data[offset : offset + length]
        for chunk in (1_000, 1_000_000):
            pieces = list(store.iter_range(key, offset, length, chunk))
            assert b"".join(pieces) == data[offset : offset + length]
            assert all(0 < len(piece) <= chunk for piece in pieces)
    for offset in (0, 1, 199_999, 200_000):
        assert store.read(key, offset) == data[offset:]
        assert b"".join(store.iter_range(key, offset, chunk=999)) == data[offset:]


@pytest.mark.parametrize(("offset", "length"), [(-1, 5), (0, -1), (0, 101), (99, 2), (100, 1), (101, 0), (101, None)])
def test_ranges_that_leave_the_object_are_errors_not_short_answers(
    store: ObjectStore, offset: int, length: int | None
) -> None:
    key = new_key("frames")
    store.put(key, bytes(100))
    with pytest.raises(RangeNotSatisfiable):
        store.read(key, offset, length)
    for chunk in (10, 1_000):
        with pytest.raises(RangeNotSatisfiable):
            store.iter_range(key, offset, length, chunk)


def test_what_is_at_hand_is_never_short(store: ObjectStore) -> None:
    key, data = new_key("test"), bytes(range(256)) * 8
    store.put(key, data)
    assert store.read_now(key, 10, 300) in (data[10:310], None)
    for offset, length in ((len(data) - 1, 2), (len(data) + 5, 1)):
        assert store.read_now(key, offset, length) is None
    assert store.read_now(new_key("test"), 0, 1) is None


def test_abandoned_range_releases_its_connection(store: ObjectStore) -> None:
    key = new_key("frames")
    store.put(key, bytes(3_000_000))
    for _ in range(40):
        pieces = store.iter_range(key, 0, 3_000_000, 1_000)
        assert len(next(pieces)) == 1_000
        del pieces
    assert store.read(key, 0, 1) == b"\0"


def test_missing_objects(store: ObjectStore) -> None:
    store.put(new_key("instances"), b"so that the place exists")
    key = new_key("instances")
    calls: list[Callable[[], object]] = [
        lambda: store.open(key),
        lambda: store.read(key),
        lambda: store.read(key, 0, 0),
        lambda: store.iter_range(key, 0, 5),
        lambda: store.iter_range(key, 0, None, 1),
        lambda: store.stat(key),
        lambda: store.verify(key, sha(b"")),
    ]
    for call in calls:
        with pytest.raises(ObjectNotFound):
            call()
    assert not store.exists(key)
    store.delete(key)


def test_a_place_that_nothing_was_put_into_is_empty(url: str) -> None:
    opened = open_store(url)
    assert list(opened.list()) == []
    opened.put(new_key("first"), b"bytes")
    assert len(list(opened.list())) == 1
    opened.close()


def test_listing_by_prefix(store: ObjectStore) -> None:
    keys = {"a/one", "a/two", "ab/three", "b/a/four", "b/five"}
    for key in keys:
        store.put(key, key.encode())
    assert visible(store) == keys
    for prefix in ("a", "a/", "ab", "b/a", "b/", "b/a/four", "c", "a/one"):
        assert {stat.key for stat in store.list(prefix)} == {key for key in keys if key.startswith(prefix)}
    assert {stat.key: stat.size for stat in store.list()} == {key: len(key) for key in keys}


def test_listing_more_than_a_page(store: ObjectStore) -> None:
    keys = {new_key("many") for _ in range(1_050)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))
    listed = [stat.key for stat in store.list("many/")]
    assert len(listed) == len(keys)
    assert set(listed) == keys


def test_delete(store: ObjectStore) -> None:
    key = new_key("instances")
    store.put(key, b"x")
    store.delete(key)
    store.delete(key)
    assert not store.exists(key)
    assert store.put(key, b"y").size == 1
    assert store.read(key) == b"y"


def test_presigned_url_serves_the_object(store: ObjectStore) -> None:
    key = new_key("instances")
    store.put(key, b"picture")
    url = store.presign(key, 60)
    if isinstance(store, FilesystemStore):
        assert url is None
    else:
        assert url is not None
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.read() == b"picture"


# --- promises ----------------------------------------------------------------------------------------------------


def test_what_differs_from_its_promise_is_not_stored(store: ObjectStore, tmp_path: Path) -> None:
    key, data = new_key("instances"), os.urandom(50_000)
    with pytest.raises(ChecksumMismatch):
        store.put(key, data, sha256=sha(b"other"))
    with pytest.raises(ChecksumMismatch):
        store.put(key, data[:-1], size=len(data))
    with pytest.raises(ChecksumMismatch):
        store.put(key, Dribble(data[:-1]), sha256=sha(data))  # type: ignore[arg-type]
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ChecksumMismatch):
        store.put_file(key, path, sha256=sha(b"other"))
    assert path.read_bytes() == data
    store.put(new_key("instances"), b"so that the place exists")
    assert len(visible(store)) == 1


def test_same_bytes_again_are_success_and_others_are_refused(store: ObjectStore, tmp_path: Path) -> None:
    key = new_key("instances")
    store.put(key, b"first")
    assert store.put(key, b"first").sha256 == sha(b"first")
    same, other = tmp_path / "same", tmp_path / "other"
    same.write_bytes(b"first")
    other.write_bytes(b"other")
    assert store.put_file(key, same).sha256 == sha(b"first")
    assert not same.exists()
    for attempt in (lambda: store.put(key, b"other"), lambda: store.put_file(key, other)):
        with pytest.raises(ObjectExists):
            attempt()
    assert other.exists()
    assert store.read(key) == b"first"


def test_large_object_is_never_replaced(store: ObjectStore) -> None:
    key, data = new_key("instances"), os.urandom(PART_SIZE + 1)
    store.put(key, data)
    assert store.put(key, data).size == len(data)
    with pytest.raises(ObjectExists):
        store.put(key, data[::-1])
    store.verify(key, sha(data))


def test_put_file_keeps_or_moves(store: ObjectStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    first, second = new_key("instances"), new_key("instances")
    store.put_file(first, path, move=False)
    assert path.exists()
    path.write_bytes(b"changed later")
    assert store.read(first) == b"bytes"
    store.put_file(second, path, sha256=sha(b"changed later"))
    assert not path.exists()
    assert store.read(second) == b"changed later"
    with pytest.raises(FileNotFoundError):
        store.put_file(new_key("instances"), path)


def test_pieces_are_one_object_and_each_is_a_range_of_it(store: ObjectStore) -> None:
    pieces = [secrets.token_bytes(n * 977 % 40_000) for n in range(700)] + [b"", b"x"]
    key = new_key("packs")
    stat = store.put_pieces(key, pieces)
    assert stat.size == store.stat(key).size == sum(map(len, pieces))
    offset = 0
    for piece in pieces[::50]:
        offset = sum(map(len, pieces[: pieces.index(piece)]))
        assert store.read(key, offset, len(piece)) == piece
    assert store.read(key) == b"".join(pieces)
    store.put_pieces(key, pieces)
    with pytest.raises(ObjectExists):
        store.put_pieces(key, [*pieces[:-1], b"y"])
    assert store.read(key, stat.size - 1) == b"x"


def test_put_file_may_leave_the_file_to_its_owner(store: ObjectStore, tmp_path: Path) -> None:
    file, key = tmp_path / "kept", new_key("instances")
    file.write_bytes(b"not decided yet")
    store.put_file(key, file, keep=True)
    assert file.read_bytes() == store.read(key) == b"not decided yet"
    # Of two objects from one file each has bytes of its own or the same ones; removing the file harms neither.
    other = new_key("instances")
    store.put_file(other, file, keep=True)
    file.unlink()
    assert store.read(key) == store.read(other) == b"not decided yet"
    store.delete(key)
    assert store.read(other) == b"not decided yet"


def test_put_file_takes_only_regular_files(store: ObjectStore, tmp_path: Path) -> None:
    secret, link, pipe = tmp_path / "secret", tmp_path / "link", tmp_path / "pipe"
    secret.write_bytes(b"secret")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, Path("/dev/zero")):
        with pytest.raises(InvalidKey):
            store.put_file(new_key("instances"), path)
    assert secret.exists()


def test_file_with_a_second_name_is_copied(store: ObjectStore, tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"bytes")
    other.hardlink_to(path)
    key = new_key("instances")
    store.put_file(key, path)
    other.write_bytes(b"altered through the other name")
    assert store.read(key) == b"bytes"


# --- atomic and concurrent ---------------------------------------------------------------------------------------


def test_source_that_breaks_leaves_nothing(store: ObjectStore) -> None:
    store.put(new_key("instances"), b"so that the place exists")
    for size, breaks_at in ((100_000, 70_000), (40_000_000, 35_000_000)):
        key = new_key("instances")
        with pytest.raises(ConnectionResetError):
            store.put(key, Dribble(bytes(size), breaks_at=breaks_at))  # type: ignore[arg-type]
        assert not store.exists(key)
    assert len(visible(store)) == 1
    if isinstance(store, FilesystemStore):
        assert list((store.root / ".tmp").iterdir()) == []


def test_source_that_changes_while_it_is_sent_is_not_stored(store: ObjectStore) -> None:
    class Shifty(io.BytesIO):
        """Other bytes on every pass."""

        def seek(self, offset: int, whence: int = 0) -> int:
            self.getbuffer()[-1] ^= 1
            return super().seek(offset, whence)

    store.put(new_key("instances"), b"so that the place exists")
    for size in (1_000, PART_SIZE + 1_000):
        key, source = new_key("instances"), Shifty(bytes(size))
        if isinstance(store, FilesystemStore):
            store.put(key, source)  # one pass only: what was hashed is what was written
        else:
            with pytest.raises(ChecksumMismatch):
                store.put(key, source)
            assert not store.exists(key)


WRITER = """
import sys
from storage.factory import open_store

class Endless:
    def __init__(self): self.left = 400
    def seekable(self): return %(seekable)s
    def tell(self): return 0
    def seek(self, offset, whence=0): self.left = 400; return 0
    def read(self, size=-1):
        if not self.left: return b""
        self.left -= 1
        return bytes(min(size, 1024 * 1024) if size and size > 0 else 1024 * 1024)

print("go", flush=True)
open_store(sys.argv[1]).put(sys.argv[2], Endless())
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.9, 1.5])
def test_killed_put_leaves_nothing_visible(store: ObjectStore, url: str, seconds: float) -> None:
    store.put("witness", b"so that the place exists")
    key = new_key("instances")
    # A seekable source makes the S3 upload itself, not the spooling before it, take most of the time.
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER % {"seekable": not isinstance(store, FilesystemStore)}, url, key],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"go\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = process.stdout.read() == b"done\n"
    process.stdout.close()
    time.sleep(0.2)
    if store.exists(key):
        # Killed after the last byte: then it must be whole.
        assert store.stat(key).size == 400 * 1024 * 1024
    else:
        assert not finished
        assert visible(store) == {"witness"}
        assert store.put(key, b"a later try").size == 11


def test_sweep_removes_leftovers_and_nothing_else(store: ObjectStore) -> None:
    key = new_key("instances")
    store.put(key, b"kept")
    if isinstance(store, FilesystemStore):
        (store.root / ".tmp" / "put-dead").write_bytes(b"half")
        assert store.sweep() == 0
        assert store.sweep(older_than_seconds=0) == 1
        assert list((store.root / ".tmp").iterdir()) == []
    else:
        assert isinstance(store, S3Store)
        name = f"{store.prefix}instances/abc/unfinished"
        store._client._create_multipart_upload(store.bucket, name, {})
        assert store.sweep() == 0
        store.sweep(older_than_seconds=-5)
        assert store.sweep(older_than_seconds=-5) == 0
    assert visible(store) == {key}


def test_of_many_writers_of_one_key_exactly_one_wins(store: ObjectStore) -> None:
    for size in (2_000, PART_SIZE + 7):
        key = new_key("instances")
        bodies = [bytes([number]) * size for number in range(4)]
        start = threading.Barrier(len(bodies))

        def write(body: bytes, key: str = key, start: threading.Barrier = start) -> str | None:
            start.wait()
            try:
                return store.put(key, body).sha256
            except (ObjectExists, StorageUnavailable):
                return None

        with ThreadPoolExecutor(len(bodies)) as pool:
            winners = [digest for digest in pool.map(write, bodies) if digest]
        assert len(winners) == 1
        store.verify(key, winners[0])


def test_many_writers_of_the_same_bytes_all_succeed(store: ObjectStore) -> None:
    key, body = new_key("instances"), os.urandom(30_000)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: store.put(key, body).sha256, range(16)))
    assert digests == {sha(body)}
    assert store.read(key) == body


def test_readers_and_writers_together(store: ObjectStore) -> None:
    bodies = {new_key("instances"): os.urandom(5_000 + number) for number in range(60)}

    def journey(item: tuple[str, bytes]) -> bool:
        key, body = item
        store.put(key, body, sha256=sha(body))
        return store.read(key, 100, 4_000) == body[100:4_100] and b"".join(store.iter_range(key, chunk=999)) == body

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(journey, bodies.items()))
    assert visible(store) == set(bodies)


def test_processes_share_a_store(store: ObjectStore, url: str) -> None:
    script = (
        "import sys; from storage.factory import open_store; from storage.keys import new_key\n"
        "store = open_store(sys.argv[1])\n"
        "for number in range(30): store.put(new_key('shared'), str(number).encode() * 100)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, url], cwd=REPOSITORY) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert len(visible(store)) == 90


# --- damage ------------------------------------------------------------------------------------------------------


def stored_file(store: ObjectStore, key: str) -> Path:
    assert isinstance(store, FilesystemStore)
    return store.root / key


def replace_bytes(store: ObjectStore, key: str, data: bytes) -> None:
    """Damage an object behind the store's back."""
    if isinstance(store, S3Store):
        store.delete(key)
        digest = store.put(key, data).sha256
        assert digest == sha(data)
    else:
        stored_file(store, key).write_bytes(data)


def test_verify_finds_a_flipped_bit_and_a_lost_tail(store: ObjectStore) -> None:
    data = os.urandom(100_000)
    for damaged in (data[:50_000] + bytes([data[50_000] ^ 1]) + data[50_001:], data[:-1], data + b"\0", b""):
        key = new_key("instances")
        store.put(key, data)
        store.verify(key, sha(data), len(data))
        replace_bytes(store, key, damaged)
        with pytest.raises(ChecksumMismatch):
            store.verify(key, sha(data), len(data))
        with pytest.raises(ChecksumMismatch):
            store.verify(key, sha(data))


def test_repeating_a_put_over_damaged_bytes_is_not_called_success(store: ObjectStore) -> None:
    key = new_key("instances")
    store.put(key, b"good")
    replace_bytes(store, key, b"evil")
    with pytest.raises(ObjectExists):
        store.put(key, b"good")


# --- health ------------------------------------------------------------------------------------------------------


def test_check_works_on_a_new_store_and_leaves_nothing(store: ObjectStore) -> None:
    store.check()
    store.check()
    assert visible(store) == set()
    free = store.free_bytes()
    assert free is None or free > 0


def test_no_secret_is_shown(store: ObjectStore, url: str) -> None:
    password = urlsplit(url).password
    if password:
        assert password not in repr(store)
        with pytest.raises(ValueError, match="unknown option") as caught:
            open_store(url + "&colour=red")
        assert password not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "objects",
        "file://relative/path",
        "ftp://host/x",
        "s3://host/bucket",
        "s3://a:b@host",
        "s3://a:b@host/bucket?secure=yes",
        "s3://a:b@host/bucket?colour=red",
        "s3://a:b@host/bucket?sse=rot13",
        "s3://a:b@host/bucket/../x",
        "s3://a:b@host/Bucket_",
        "s3://a:b@host/b",
    ],
)
def test_malformed_urls_are_refused(bad: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        open_store(bad)


def test_urls_are_decoded(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/with%20space")
    assert isinstance(store, FilesystemStore)
    assert store.root == tmp_path / "with space"
    remote = open_store("s3://key:p%40ss%2Fw@host:9000/bucket/some/prefix?secure=0")
    assert isinstance(remote, S3Store)
    assert (remote.bucket, remote.prefix, remote.endpoint) == ("bucket", "some/prefix/", "host:9000")


# --- the filesystem alone ----------------------------------------------------------------------------------------

FULL_DISK = """
import resource, sys
from storage.errors import StorageFull
from storage.factory import open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = open_store(sys.argv[1])
store.put("small", bytes(50_000))
try:
    store.put("large", bytes(200_000))
except StorageFull:
    print("full")
"""


def test_full_disk_by_the_kernel(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'objects'}"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, url], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout == "full\n"
    store = open_store(url)
    assert visible(store) == {"small"}
    assert list((tmp_path / "objects" / ".tmp").iterdir()) == []


@pytest.mark.parametrize("call", ["write", "fsync", "link"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageUnavailable)],
)
def test_disk_errors_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: type[Exception]
) -> None:
    store = FilesystemStore(tmp_path)
    store.put("before", b"x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(filesystem.os, call, fail)
        with pytest.raises(expected):
            store.put("after", b"x")
    assert visible(store) == {"before"}
    assert list((tmp_path / ".tmp").iterdir()) == []


def test_reserve_is_left_free(tmp_path: Path) -> None:
    free = FilesystemStore(tmp_path).free_bytes()
    assert free is not None
    store = FilesystemStore(tmp_path, reserve_bytes=free * 2)
    with pytest.raises(StorageFull):
        store.put("x", b"x")
    with pytest.raises(StorageFull):
        store.check()


def test_folder_that_cannot_be_made_is_a_clear_refusal(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable, match="not writable"):
        FilesystemStore(tmp_path / "file" / "objects").check()


def test_without_hard_links_nothing_is_replaced_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(filesystem.os, "link", refuse)
    store = FilesystemStore(tmp_path)
    assert store.put("a/key", b"first").size == 5
    with pytest.raises(ObjectExists):
        store.put("a/key", b"other")
    with ThreadPoolExecutor(8) as pool:

        def write(number: int) -> bool:
            try:
                return bool(store.put("a/race", b"%d" % number))
            except ObjectExists:
                return False

        assert sum(pool.map(write, range(16))) == 1


def test_everything_is_flushed_before_a_put_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    monkeypatch.setattr(filesystem.os, "fsync", note)
    root = tmp_path / "new" / "objects"
    FilesystemStore(root).put("instances/abc/x", b"x")
    assert any("/.tmp/put-" in name for name in flushed)
    for folder in (root / "instances" / "abc", root / "instances", root, root.parent, tmp_path):
        assert str(folder) in flushed
    assert flushed[-1] == str(root / "instances" / "abc")

    # The folder exists, but this process cannot know that its maker has flushed it.
    flushed.clear()
    FilesystemStore(root).put("instances/abc/y", b"x")
    assert str(root / "instances") in flushed


def test_object_as_a_folder_of_another_is_refused(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("a/b", b"x")
    for key in ("a/b/c", "a"):
        with pytest.raises(InvalidKey):
            store.put(key, b"x")
    assert not store.exists("a")


def test_folder_tidied_away_is_made_anew(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("a/b", b"x")
    store.delete("a/b")
    (tmp_path / "a").rmdir()
    store.put("a/b", b"y")
    assert store.read("a/b") == b"y"


# --- S3 alone ----------------------------------------------------------------------------------------------------


def test_part_sizes() -> None:
    assert part_size(0) == part_size(PART_SIZE) == PART_SIZE
    for length in (10 * 2**30, 500 * 2**30, 5 * 2**40):
        assert part_size(length) * MAX_PARTS >= length


def test_server_that_is_away_is_named_and_retriable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        store = open_store(f"s3://key:secret@127.0.0.1:{taken.getsockname()[1]}/bucket?secure=0", attempts=2)
        for call in (store.check, lambda: store.read("x"), lambda: store.put("x", b"x")):
            with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1") as caught:
                call()
            assert caught.value.retriable
            assert "secret" not in str(caught.value)


class Middleman(threading.Thread):
    """Between client and server: drops or garbles chosen connections, passes the others on."""

    def __init__(self, host: str, port: int, plan: Callable[[int, bytes], str]) -> None:
        super().__init__(daemon=True)
        self.target, self.plan, self.count = (host, port), plan, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(self.target) as server:
            while head := self.receive_message(client):
                self.count += 1
                action = self.plan(self.count, head)
                if action == "drop":
                    return
                if action == "busy":
                    client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                    continue
                server.sendall(head)
                answer = self.receive_answer(server, head.startswith(b"HEAD"))
                if action == "lose answer":
                    return
                if action == "cut":
                    client.sendall(answer[: len(answer) // 2])
                    return
                client.sendall(answer)

    @staticmethod
    def receive_message(peer: socket.socket, bodiless: bool = False) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65_536)
            if not piece:
                return b""
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length" and not bodiless:
                length = int(value)
        while len(body) < length:
            body += peer.recv(1_000_000)
        return head + b"\r\n\r\n" + body

    @classmethod
    def receive_answer(cls, server: socket.socket, bodiless: bool) -> bytes:
        while True:
            answer = cls.receive_message(server, bodiless)
            if not answer.startswith(b"HTTP/1.1 100"):
                return answer

    def close(self) -> None:
        self.listener.close()


@pytest.fixture
def bad_line(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[ObjectStore, Middleman]]]:
    parts = urlsplit(s3_url("HUB_TEST_S3_URL"))
    made: list[tuple[ObjectStore, Middleman]] = []

    def make(plan: Callable[[int, bytes], str]) -> tuple[ObjectStore, Middleman]:
        middleman = Middleman(parts.hostname or "", parts.port or 0, plan)
        middleman.start()
        place = f"{parts.path.strip('/')}/line-{secrets.token_hex(8)}"
        store = open_store(f"s3://{parts.username}:{parts.password}@127.0.0.1:{middleman.port}/{place}?{parts.query}")
        made.append((store, middleman))
        return store, middleman

    yield make
    for store, middleman in made:
        store.close()
        middleman.close()


@pytest.mark.s3
@pytest.mark.parametrize("trouble", ["drop", "busy", "lose answer"])
def test_put_survives_a_bad_line(bad_line: Callable[..., tuple[ObjectStore, Middleman]], trouble: str) -> None:
    store, _ = bad_line(lambda count, _: trouble if count % 3 == 1 else "pass")
    bodies = {new_key("instances"): os.urandom(20_000) for _ in range(5)}
    bodies[new_key("instances")] = os.urandom(2 * PART_SIZE + 99)
    for key, body in bodies.items():
        assert store.put(key, body).sha256 == sha(body)
        store.verify(key, sha(body))
    assert visible(store) == set(bodies)


@pytest.mark.s3
def test_reading_goes_on_where_the_line_broke(bad_line: Callable[..., tuple[ObjectStore, Middleman]]) -> None:
    broken: list[int] = []

    def plan(count: int, head: bytes) -> str:
        if head.startswith(b"GET") and b"list-type" not in head and len(broken) < 3:
            broken.append(count)
            return "cut"
        return "pass"

    store, _ = bad_line(plan)
    key, body = new_key("instances"), os.urandom(8_000_000)
    store.put(key, body)
    assert b"".join(store.iter_range(key, 0, None, 100_000)) == body
    assert len(broken) == 3
    broken.clear()
    assert store.read(key, 0, len(body)) == body


@pytest.mark.s3
def test_line_that_stays_bad_is_unavailable(bad_line: Callable[..., tuple[ObjectStore, Middleman]]) -> None:
    store, middleman = bad_line(lambda _count, _head: "busy")
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="5 times"):
        store.put(new_key("instances"), b"x")
    assert middleman.count == 5
    assert time.monotonic() - started < 30


@pytest.mark.s3
def test_wrong_secret_is_refused_at_once_in_words(bad_line: Callable[..., tuple[ObjectStore, Middleman]]) -> None:
    parts = urlsplit(s3_url("HUB_TEST_S3_URL"))
    _store, middleman = bad_line(lambda _count, _head: "pass")
    store = open_store(f"s3://{parts.username}:wrong-secret@127.0.0.1:{middleman.port}{parts.path}?{parts.query}")
    with pytest.raises(StorageUnavailable, match="SignatureDoesNotMatch"):
        store.check()
    assert middleman.count == 1, "asked once, and not again"


@pytest.mark.s3
@pytest.mark.parametrize("variable", ["HUB_TEST_S3_URL", "HUB_TEST_S3_URL_2"])
def test_bucket_is_made_and_its_loss_is_not_taken_for_missing_objects(variable: str) -> None:
    parts = urlsplit(s3_url(variable))
    bucket = f"made-{secrets.token_hex(6)}"
    store = open_store(
        f"s3://{parts.username}:{parts.password}@{parts.hostname}:{parts.port}/{bucket}?{parts.query}", attempts=2
    )
    assert isinstance(store, S3Store)
    for call in (lambda: store.read("x"), lambda: store.stat("x"), lambda: store.exists("x")):
        with pytest.raises(StorageUnavailable, match="bucket"):
            call()
    store.put("x", b"x")
    assert store.read("x") == b"x"
    store.delete("x")
    store._client.remove_bucket(bucket)


@pytest.mark.s3
def test_server_without_conditions_is_asked_first() -> None:
    store = open_store(f"{s3_url('HUB_TEST_S3_URL').replace('/hub-test', '/hub-test/plain')}")
    assert isinstance(store, S3Store)
    store._http.create_only = False
    key = new_key("instances")
    store.put(key, b"first")
    assert store._honours_condition is False
    assert store.put(key, b"first").size == 5
    with pytest.raises(ObjectExists):
        store.put(key, b"other")
    store.delete(key)


@pytest.mark.s3
@pytest.mark.parametrize("variable", ["HUB_TEST_S3_URL", "HUB_TEST_S3_URL_2"])
def test_servers_honour_conditional_writes(variable: str) -> None:
    store = open_store(s3_url(variable))
    assert isinstance(store, S3Store)
    assert store._conditional()


@pytest.mark.s3
@pytest.mark.parametrize("variable", ["HUB_TEST_S3_URL", "HUB_TEST_S3_URL_2"])
def test_encryption_that_was_wished_is_done_or_refused(variable: str) -> None:
    # One test server has no key service and says so; the other takes the wish and stores plain bytes.
    with pytest.raises(StorageUnavailable, match=r"(?i)encryption"):
        open_store(f"{s3_url(variable)}&sse=s3").check()
