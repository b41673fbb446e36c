"""Objects on an S3 server, through the `minio` client and plain S3 calls only."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import random
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.sse import Sse, SseKMS, SseS3
from urllib3.exceptions import HTTPError, MaxRetryError

from storage.base import (
    COPY_CHUNK,
    PROBE_NAMESPACE,
    ObjectStat,
    ObjectStore,
    RangeIterator,
    as_stream,
    check_expected,
    clip_range,
)
from storage.errors import (
    ChecksumMismatch,
    InvalidKey,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from storage.filesystem import open_regular
from storage.keys import validate_key, validate_prefix

PART_SIZE = 16 * 1024 * 1024
MAX_PARTS = 10_000
SPOOL_IN_MEMORY = 8 * 1024 * 1024
_MIB = 1024 * 1024
_META_SHA256 = "sha256"
_T = TypeVar("_T")

_MISSING = {"NoSuchKey", "NoSuchObject", "ObjectNotFound"}
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
_NOT_UNDERSTOOD = {"NotImplemented", "InvalidArgument", "InvalidRequest"}
_FULL = {"XMinioStorageFull", "InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}
_BAD_KEY = {
    "XMinioParentIsObject",
    "XMinioObjectExistsAsDirectory",
    "ExistingObjectIsDirectory",
    "ObjectParentIsFile",
    "ObjectExistsAsDirectory",
    "XMinioInvalidObjectName",
    "KeyTooLongError",
}
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})


class _CreateOnlyPool(urllib3.PoolManager):
    """Makes every write of an object conditional on its absence.

    The client's public calls cannot send `If-None-Match`. It is added below the signature, which S3 allows for any
    header that is not `x-amz-*`. Parts of a multipart upload carry no condition; completing it does.
    """

    create_only = True

    def urlopen(self, method: str, url: str, redirect: bool = True, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]
        """Send a request, conditional where it would write an object."""
        if self.create_only and method in ("PUT", "POST"):
            parts = urlsplit(url)
            query = parse_qs(parts.query, keep_blank_values=True)
            names_object = parts.path.strip("/").count("/") >= 1
            writes = (method == "PUT" and not query) or (method == "POST" and set(query) == {"uploadId"})
            if names_object and writes:
                kw["headers"] = {**dict(kw.get("headers") or {}), "If-None-Match": "*"}
        return super().urlopen(method, url, redirect=redirect, **kw)


class _PromisedReader(io.RawIOBase):
    """A stream that fails, instead of ending, if its bytes are not the promised ones.

    The client asks for the last bytes before it completes an upload, so a source that changed between hashing and
    sending is never made visible.
    """

    def __init__(self, stream: BinaryIO, size: int, digest: str, key: str) -> None:
        self._stream, self._size, self._digest, self._key = stream, size, digest, key
        self._hasher, self._sent = hashlib.sha256(), 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self._stream.read(-1 if size is None else size)
        self._hasher.update(data)
        self._sent += len(data)
        if self._sent >= self._size or not data:
            check_expected(self._key, self._sent, self._hasher.hexdigest(), self._size, self._digest)
        return data


class S3Store(ObjectStore):
    """Objects in one bucket, optionally below a prefix.

    Requests are repeated with growing, jittered pauses while the server is unreachable, overloaded or restarting; each
    is safe to repeat because objects are only ever created. What outlasts the pauses is `StorageUnavailable`.

    Args:
        endpoint: `host:port`.
        access_key: Access key.
        secret_key: Secret key.
        bucket: Bucket; made if missing.
        prefix: Put before every key, ends in `/` unless empty.
        secure: TLS.
        region: Region; naming it saves a request.
        sse: Server-side encryption: empty, `s3` (the server's key) or `kms:KEY-ID`; needs TLS.
        ca: PEM file of the authority that signed the server's certificate, where it is not a public one.
        attempts: Tries of one call.
        timeout: Seconds without a byte after which a connection counts as dead.
        pool_size: Connections kept.
    """

    def __init__(
        self,
        endpoint: str,
        access_key: str,
        secret_key: str,
        bucket: str,
        *,
        prefix: str = "",
        secure: bool = True,
        region: str = "us-east-1",
        sse: str = "",
        ca: str | None = None,
        attempts: int = 5,
        timeout: float = 60.0,
        pool_size: int = 16,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix
        self.endpoint = endpoint
        self.attempts = max(1, attempts)
        self._region = region
        self._sse = _parse_sse(sse)
        options: dict[str, Any] = {"ca_certs": ca} if ca else {}
        self._http = _CreateOnlyPool(
            timeout=urllib3.Timeout(connect=5.0, read=timeout),
            maxsize=pool_size,
            # Each request is repeated by itself: repeating a whole multipart upload for one lost part would, on a bad
            # line, never end. POST may be repeated too, since objects are only ever created.
            retries=urllib3.Retry(
                total=self.attempts - 1,
                redirect=0,
                status_forcelist=_PASSING_STATUS,
                allowed_methods=None,
                backoff_factor=0.2,
                backoff_max=4.0,
                backoff_jitter=0.2,
                raise_on_status=False,
                respect_retry_after_header=False,
            ),
            cert_reqs="CERT_REQUIRED",
            **options,
        )
        self._client = Minio(
            endpoint, access_key=access_key, secret_key=secret_key, secure=secure, region=region, http_client=self._http
        )
        self._honours_condition: bool | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"S3Store({self.endpoint}/{self.bucket}/{self.prefix})"

    # --- writing -----------------------------------------------------------------------------------------------

    def put(
        self,
        key: str,
        source: BinaryIO | bytes,
        *,
        size: int | None = None,
        sha256: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectStat:
        """Store an object; see `ObjectStore.put`.

        The hash must be known before the first byte leaves, because it travels in the object's metadata: a seekable
        source is read twice, another is spooled (8 MiB in memory, the rest on disk).
        """
        validate_key(key)
        stream = as_stream(source)
        if _seekable(stream):
            return self._put_seekable(key, stream, size, sha256, content_type)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_IN_MEMORY) as spool:
            shutil.copyfileobj(stream, spool, COPY_CHUNK)
            spool.seek(0)
            return self._put_seekable(key, cast("BinaryIO", spool), size, sha256, content_type)

    def _put_seekable(
        self, key: str, stream: BinaryIO, size: int | None, sha256: str | None, content_type: str
    ) -> ObjectStat:
        start = stream.tell()
        digest, length = _hash(stream)
        check_expected(key, length, digest, size, sha256)
        self._upload(key, stream, start, length, digest, content_type)
        return ObjectStat(key, length, digest, datetime.now(UTC))

    def put_file(
        self, key: str, path: Path, *, sha256: str | None = None, move: bool = True, keep: bool = False
    ) -> ObjectStat:
        """Upload a finished local file; see `ObjectStore.put_file`."""
        validate_key(key)
        with open_regular(path) as source:
            stat = self.put(key, source, sha256=sha256)
        if move and not keep:
            path.unlink(missing_ok=True)
        return stat

    def put_pieces(self, key: str, pieces: Sequence[bytes]) -> ObjectStat:
        """Upload the pieces as one object; see `ObjectStore.put_pieces`. Its metadata holds no hash."""
        validate_key(key)
        data = b"".join(pieces)
        self._upload(key, io.BytesIO(data), 0, len(data), None, "application/octet-stream")
        return ObjectStat(key, len(data), None, datetime.now(UTC))

    def _upload(
        self, key: str, stream: BinaryIO, start: int, length: int, digest: str | None, content_type: str
    ) -> None:
        def expected() -> str:
            stream.seek(start)
            return digest or _hash(stream)[0]

        if not self._conditional() and self.exists(key):
            self._settle_existing(key, expected(), length)
            return

        def send() -> bool:
            stream.seek(start)
            try:
                self._client.put_object(
                    self.bucket,
                    self.prefix + key,
                    cast("BinaryIO", _PromisedReader(stream, length, digest, key)) if digest else stream,
                    length,
                    content_type=content_type,
                    metadata={_META_SHA256: digest} if digest else None,
                    sse=self._sse,
                    part_size=part_size(length),
                    # The client's own threads are never ended when an upload fails; parts go one after another.
                    num_parallel_uploads=1,
                )
            except S3Error as error:
                # NoSuchUpload: completing it did arrive, and only the answer was lost.
                if error.code in _TAKEN or error.code == "NoSuchUpload" or error.response.status == 412:
                    return False
                if error.code != "NoSuchBucket":
                    raise
                self._make_bucket()
                raise _TryAgain from error
            return True

        if not self._call(key, send):
            # Also reached when an earlier try did arrive and only its answer was lost.
            try:
                self._settle_existing(key, expected(), length)
            except ObjectNotFound as error:
                raise StorageUnavailable(f"{key}: the object server lost the upload") from error

    def _conditional(self) -> bool:
        """Whether the server refuses to replace an object when asked to; found out once, on a probe."""
        if self._honours_condition is None:
            with self._lock:
                if self._honours_condition is None:
                    self._honours_condition = self._probe_condition()
        return self._honours_condition

    def _probe_condition(self) -> bool:
        name = f"{self.prefix}{PROBE_NAMESPACE}/{random.getrandbits(128):032x}"

        def write(data: bytes) -> str | None:
            try:
                self._client.put_object(self.bucket, name, io.BytesIO(data), len(data))
            except S3Error as error:
                if error.code == "NoSuchBucket":
                    self._make_bucket()
                    raise _TryAgain from error
                if error.code in _TAKEN | _NOT_UNDERSTOOD:
                    return str(error.code)
                raise
            return None

        # A server that does not know the header for writes may refuse it outright; then it must not be sent.
        if self._call(name, lambda: write(b"first")) in _NOT_UNDERSTOOD:
            self._http.create_only = False
            return False
        try:
            return self._call(name, lambda: write(b"second")) in _TAKEN
        finally:
            with contextlib.suppress(StorageError):
                self._call(name, lambda: self._client.remove_object(self.bucket, name))

    def _make_bucket(self) -> None:
        try:
            self._client.make_bucket(self.bucket, location=self._region)
        except S3Error as error:
            if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is success."""
        name = self._name(key)
        with contextlib.suppress(ObjectNotFound):
            self._call(key, lambda: self._client.remove_object(self.bucket, name))

    def sweep(self, older_than_seconds: float = 86_400) -> int:
        """Abort multipart uploads that nobody can still be sending.

        MinIO lists none for a prefix and drops them by itself after a day; other servers keep them for ever.
        """
        limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        removed = 0
        for name, upload in self._stale_uploads(limit):
            with contextlib.suppress(ObjectNotFound):
                self._call("", functools.partial(self._abort, name, upload))
            removed += 1
        return removed

    def _stale_uploads(self, limit: datetime) -> Iterator[tuple[str, str]]:
        key_marker: str | None = None
        upload_marker: str | None = None
        while True:
            page = self._call(
                "",
                functools.partial(
                    self._client._list_multipart_uploads,
                    self.bucket,
                    prefix=self.prefix,
                    key_marker=key_marker,
                    upload_id_marker=upload_marker,
                ),
            )
            for upload in page.uploads:
                if upload.initiated_time and upload.initiated_time <= limit:
                    yield str(upload.object_name), str(upload.upload_id)
            if not page.is_truncated:
                return
            key_marker, upload_marker = page.next_key_marker, page.next_upload_id_marker

    def _abort(self, name: str, upload: str) -> None:
        try:
            self._client._abort_multipart_upload(self.bucket, name, upload)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise

    # --- reading -----------------------------------------------------------------------------------------------

    def open(self, key: str) -> BinaryIO:
        """Open an object for streaming; a broken connection is taken up again where it broke."""
        stat = self.stat(key)
        return cast("BinaryIO", io.BufferedReader(_ObjectReader(self, key, stat.size), 256 * 1024))

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range whole into memory, in one request."""
        name = self._name(key)
        if offset < 0 or (length is not None and length < 0):
            clip_range(0, offset, length)
        if length == 0:
            clip_range(self.stat(key).size, offset, 0)
            return b""

        def fetch() -> bytes | None:
            try:
                response = self._client.get_object(self.bucket, name, offset=offset, length=length or 0)
            except S3Error as error:
                if error.code == "InvalidRange" or error.response.status == 416:
                    return None
                raise
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

        data = self._call(key, fetch)
        if data is None or (length is not None and len(data) != length):
            # The server shortens a range that leaves the object; a short frame would be a damaged image.
            size = self.stat(key).size
            if clip_range(size, offset, length) != len(data or b""):
                raise ChecksumMismatch(f"{key}: the server gave fewer bytes than the object has")
        return data or b""

    def iter_range(
        self, key: str, offset: int = 0, length: int | None = None, chunk: int = COPY_CHUNK
    ) -> Iterator[bytes]:
        """Stream a range; up to one chunk costs a single request."""
        if length is not None and length <= chunk:
            data = self.read(key, offset, length)
            return iter((data,) if data else ())
        size = self.stat(key).size
        wanted = clip_range(size, offset, length)
        reader = _ObjectReader(self, key, size, end=offset + wanted)
        reader.seek(offset)
        return RangeIterator(cast("BinaryIO", io.BufferedReader(reader, min(chunk, COPY_CHUNK))), wanted, chunk)

    def stat(self, key: str) -> ObjectStat:
        """Size, time, and the hash that was stored with the object."""
        name = self._name(key)
        try:
            found = self._call(key, lambda: self._client.stat_object(self.bucket, name))
        except ObjectNotFound:
            # The answer to HEAD has no body, so it does not say whether object or bucket is missing; a lost bucket
            # must not look like lost objects.
            if not self._call(key, lambda: self._client.bucket_exists(self.bucket)):
                raise StorageUnavailable(f"the bucket {self.bucket} does not exist at {self.endpoint}") from None
            raise
        digest = (found.metadata or {}).get(f"x-amz-meta-{_META_SHA256}")
        return ObjectStat(key, found.size or 0, digest, found.last_modified)

    def list(self, prefix: str = "") -> Iterator[ObjectStat]:
        """Every object whose key starts with `prefix`."""
        validate_prefix(prefix)
        after: str | None = None
        # Each page is one call, taken up after the last key seen, so that a passing failure does not end the list.
        while page := self._call("", functools.partial(self._page, prefix, after)):
            yield from page
            after = self.prefix + page[-1].key

    def _page(self, prefix: str, after: str | None) -> tuple[ObjectStat, ...]:
        found = self._client.list_objects(self.bucket, prefix=self.prefix + prefix, recursive=True, start_after=after)
        page = []
        try:
            for item in found:
                name = str(item.object_name)
                if not item.is_dir:
                    page.append(ObjectStat(name.removeprefix(self.prefix), item.size or 0, None, item.last_modified))
                if len(page) == 1000:
                    break
        except S3Error as error:
            # The bucket comes with the first object: before it there is nothing to list.
            if error.code != "NoSuchBucket":
                raise
        return tuple(page)

    def presign(self, key: str, seconds: int) -> str | None:
        """A URL that serves this object for so many seconds, at the address by which the hub itself reaches it."""
        name = self._name(key)
        return str(self._client.presigned_get_object(self.bucket, name, expires=timedelta(seconds=seconds)))

    def check(self) -> None:
        """Prove that the server works, and that it encrypts where it was told to: some ignore the wish silently."""
        super().check()
        if self._sse is None:
            return
        key = f"{PROBE_NAMESPACE}/{random.getrandbits(128):032x}"
        self.put(key, b"encrypted?")
        try:
            found = self._call(key, lambda: self._client.stat_object(self.bucket, self.prefix + key))
            if "x-amz-server-side-encryption" not in (found.metadata or {}):
                raise StorageUnavailable(f"the object server {self.endpoint} ignores the wish for encryption (sse)")
        finally:
            self.delete(key)

    def close(self) -> None:
        """Release connections."""
        self._http.clear()

    # --- calls -------------------------------------------------------------------------------------------------

    def _name(self, key: str) -> str:
        return self.prefix + validate_key(key)

    def _call(self, key: str, action: Callable[[], _T]) -> _T:
        """Run one idempotent action, translating its errors.

        Requests repeat themselves (see the pool); here only what breaks after a request was answered is repeated: a
        body that ends early, or a bucket that had to be made first.
        """
        last: BaseException | None = None
        for attempt in range(self.attempts):
            if attempt > 1:
                time.sleep(min(4.0, 0.2 * 2**attempt) * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            try:
                return action()
            except _TryAgain as error:
                last = error.__cause__
            except StorageError:
                raise
            except S3Error as error:
                raise self._translate(error, key) from error
            except MaxRetryError as error:
                raise self._unanswered(error.reason or error) from error
            except InvalidResponseError as error:
                raise self._unanswered(error) from error
            except (HTTPError, ConnectionError, TimeoutError) as error:
                last = error
            except MinioException as error:
                if isinstance(error, ServerError) and error.status_code == 507:
                    raise StorageFull("the object server has no room left") from error
                raise self._unanswered(error) from error
        raise self._unanswered(last) from last

    def _unanswered(self, error: BaseException | None) -> StorageUnavailable:
        reason = re.sub(r"\s+", " ", str(error))[:300]
        return StorageUnavailable(
            f"the object server {self.endpoint} did not answer properly {self.attempts} times: {reason}"
        )

    def _translate(self, error: S3Error, key: str) -> StorageError:
        code = error.code or "no code"
        if code in _MISSING:
            return ObjectNotFound(key)
        if code in _FULL or error.response.status == 507:
            return StorageFull("the object server has no room left")
        if code in _BAD_KEY:
            return InvalidKey(f"{key}: the object server refuses the key ({code})")
        if code == "InvalidRange":
            return RangeNotSatisfiable(f"{key}: the range leaves the object")
        if code in {"BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody"}:
            return ChecksumMismatch(f"{key}: the object server received other bytes than were sent ({code})")
        if code == "NoSuchBucket":
            return StorageUnavailable(f"the bucket {self.bucket} does not exist at {self.endpoint}")
        return StorageUnavailable(f"the object server {self.endpoint} refused: {code}: {error.message}")


class _TryAgain(Exception):
    """The obstacle was removed; repeat the call."""


class _ObjectReader(io.RawIOBase):
    """A seekable view of an object that fetches only what is read, over one connection while reading goes forward."""

    def __init__(self, store: S3Store, key: str, size: int, *, end: int | None = None) -> None:
        self._store, self._key, self._size = store, key, size
        self._end = size if end is None else end
        self._position = 0
        self._response: Any = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        position = base + offset
        if position < 0:
            raise ValueError("negative seek position")
        if position != self._position:
            self._drop()
            self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._end - self._position)
        if wanted <= 0:
            return 0
        data = self._store._call(self._key, lambda: self._fetch(wanted))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _fetch(self, wanted: int) -> bytes:
        try:
            if self._response is None:
                self._response = self._store._client.get_object(
                    self._store.bucket,
                    self._store.prefix + self._key,
                    offset=self._position,
                    length=self._end - self._position,
                )
            data = cast("bytes", self._response.read(wanted))
        except BaseException:
            self._drop()
            raise
        if not data:
            self._drop()
            raise ConnectionError("the answer ended before the object did")
        return data

    def _drop(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            # Closing discards a half-read connection; a finished one goes back to the pool.
            if self._position < self._end:
                response.close()
            response.release_conn()

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()


def part_size(length: int) -> int:
    """Bytes per part: one part up to 16 MiB, and never more than the 10,000 parts that S3 allows."""
    needed = -(-length // MAX_PARTS)
    return max(PART_SIZE, -(-needed // _MIB) * _MIB)


def _parse_sse(text: str) -> Sse | None:
    if not text:
        return None
    if text.lower() == "s3":
        return SseS3()
    if re.fullmatch(r"kms:.+", text, re.IGNORECASE):
        return SseKMS(text[4:], {})
    raise ValueError(f"server-side encryption is `s3` or `kms:KEY-ID`, not {text!r}")


def _seekable(stream: BinaryIO) -> bool:
    try:
        return stream.seekable()
    except AttributeError:
        return False


def _hash(stream: BinaryIO) -> tuple[str, int]:
    hasher, length = hashlib.sha256(), 0
    while data := stream.read(COPY_CHUNK):
        hasher.update(data)
        length += len(data)
    return hasher.hexdigest(), length
