"""Static files that were compressed at build time, and the addresses of built assets."""

from __future__ import annotations

import json
import mimetypes
import os
import re
import stat
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import anyio
from starlette.datastructures import Headers
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

WEB_DIR = Path(__file__).resolve().parent
DIST = WEB_DIR / "dist"
STATIC_DIR = DIST / "static"
OHIF_DIR = DIST / "ohif"
STATIC_URL = "/static/"

IMMUTABLE = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"

_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
    ".ico": "image/x-icon",
}
_HASHED = re.compile(r"(^|[.\-])([0-9a-f]{16,20}|[A-Z2-7]{8})\.\w+$")
_VERSION = re.compile(rb"v=([0-9a-f]{16})")
_CODINGS = (("br", ".br"), ("gzip", ".gz"))


class AssetMissingError(RuntimeError):
    """The front-end was not built, or has no asset of this name."""


# --- addresses --------------------------------------------------------------------------------------------------


class _Manifest:
    """``dist/manifest.json``, read again when a build replaces it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = -1
        self._names: dict[str, str] = {}

    def names(self) -> Mapping[str, str]:
        try:
            stamp = self.path.stat().st_mtime_ns
        except FileNotFoundError as error:
            raise AssetMissingError("The front-end is not built: run `python -m hub.web.build`.") from error
        if stamp != self._stamp:
            self._names = json.loads(self.path.read_text(encoding="utf-8"))
            self._stamp = stamp
        return self._names


_manifest = _Manifest(DIST / "manifest.json")


def asset(name: str) -> str:
    """Return the address of a built file: ``asset("pages/queue.js")`` → ``/static/pages/queue-3FA9….js``.

    Raises:
        AssetMissingError: there is no such file, or nothing was built yet.
    """
    try:
        return STATIC_URL + _manifest.names()[name]
    except KeyError as error:
        raise AssetMissingError(f"No asset {name!r} in the built front-end.") from error


@lru_cache(maxsize=8)
def _i18n_json(path: Path, _stamp: int) -> str:
    words = json.loads(path.read_text(encoding="utf-8"))
    # "<" could end the script block that holds it.
    return json.dumps(words, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def i18n_json(locale: str) -> str:
    """Return the words that scripts use, as JSON safe within ``<script type="application/json">``.

    Chinese is the source language: it needs none, and neither does a front-end that is not built.
    """
    path = DIST / f"messages.{locale}.json"
    try:
        return "{}" if locale == "zh" else _i18n_json(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return "{}"


@lru_cache(maxsize=2)
def _page(path: Path, _stamp: int) -> str:
    return path.read_text(encoding="utf-8")


def ohif_page() -> str:
    """Return the viewer's ``index.html``.

    Raises:
        AssetMissingError: nothing was built yet.
    """
    path = OHIF_DIR / "index.html"
    try:
        return _page(path, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise AssetMissingError("The viewer is not built: run `python -m hub.web.build`.") from error


@lru_cache(maxsize=2)
def _versions(page: str) -> frozenset[str]:
    return frozenset(re.findall(r"\?v=([0-9a-f]{16})\"", page))


def ohif_versions() -> frozenset[str]:
    """Return the versions with which the viewer's page asks for its files; none where nothing was built."""
    try:
        return _versions(ohif_page())
    except AssetMissingError:
        return frozenset()


# --- serving ----------------------------------------------------------------------------------------------------


class _Found(NamedTuple):
    path: Path
    stat: os.stat_result
    coding: str | None


class PrecompressedStatic:
    """An ASGI application for a folder of built files, to be mounted: ``app.mount("/static", PrecompressedStatic(…))``.

    Serves ``name.br`` or ``name.gz`` in place of ``name`` where the client accepts it (RFC 9110 §12.5.3). Files with a
    hash in their name, and those that the page asks for with a version (``?v=…``), may be kept for ever; all others are
    revalidated by their ETag.

    Args:
        directory: the folder; nothing outside of it is ever served, links included.
        spa_prefixes: first path segments whose unknown paths are answered with ``index.html``.
        index: whether the folder's root is answered with ``index.html``.
        headers: more headers of an answer, by the file's path relative to the folder.
        versions: the versions with which the page asks for files now; an address with another one is nobody's.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        spa_prefixes: tuple[str, ...] = (),
        index: bool = False,
        headers: Callable[[str], Mapping[str, str]] | None = None,
        versions: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self.directory = Path(directory).resolve()
        self.spa_prefixes = spa_prefixes
        self.index = index
        self.headers = headers
        self.versions = versions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("Static files are served over HTTP only.")
        response = await self._respond(scope)
        await response(scope, receive, send)

    async def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"Allow": "GET, HEAD"})
        root = scope.get("root_path", "")
        path = scope["path"]
        relative = (path[len(root) :] if root and path.startswith(root) else path).lstrip("/")
        request = Headers(scope=scope)
        accepted = _accepted(request.get("accept-encoding", ""))
        found = await anyio.to_thread.run_sync(self._find, relative, accepted)
        if found is None and ((relative == "" and self.index) or relative.split("/", 1)[0] in self.spa_prefixes):
            relative = "index.html"
            found = await anyio.to_thread.run_sync(self._find, relative, accepted)
        if found is None:
            return PlainTextResponse("Not Found", 404, {"Cache-Control": REVALIDATE})
        version = _VERSION.fullmatch(scope.get("query_string", b""))
        versioned = version is not None and version[1].decode() in self.versions()
        return self._answer(relative, found, request, versioned=versioned)

    def _find(self, relative: str, accepted: frozenset[str]) -> _Found | None:
        if not relative or "\0" in relative or "\\" in relative or relative.endswith((".br", ".gz")):
            return None
        parts = PurePosixPath(relative).parts
        if any(part in ("..", "/") or part.startswith(".") for part in parts):
            return None
        plain = self.directory.joinpath(*parts)
        for coding, suffix in (*((c, s) for c, s in _CODINGS if c in accepted), (None, "")):
            path = plain.with_name(plain.name + suffix)
            try:
                info = path.stat()
            except OSError:
                continue
            if stat.S_ISREG(info.st_mode) and path.resolve().is_relative_to(self.directory):
                return _Found(path, info, coding)
        return None

    def _answer(self, relative: str, found: _Found, request: Headers, *, versioned: bool) -> Response:
        name = PurePosixPath(relative).name
        suffix = PurePosixPath(relative).suffix
        etag = f'"{found.stat.st_mtime_ns:x}-{found.stat.st_size:x}{"-" + found.coding if found.coding else ""}"'
        lasting = (versioned or _HASHED.search(name)) and suffix != ".html"
        headers = {
            "Cache-Control": IMMUTABLE if lasting else REVALIDATE,
            "ETag": etag,
            "Last-Modified": formatdate(found.stat.st_mtime, usegmt=True),
            "Vary": "Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
            **(self.headers(relative) if self.headers else {}),
        }
        if _not_modified(request, etag, found.stat.st_mtime):
            return Response(status_code=304, headers=headers)
        kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        if found.coding:
            headers["Content-Encoding"] = found.coding
        return FileResponse(found.path, headers=headers, media_type=kind, stat_result=found.stat)


def _accepted(header: str) -> frozenset[str]:
    """Content codings with a weight above zero (RFC 9110 §12.5.3)."""
    names = set()
    for part in header.lower().split(","):
        name, _sep, options = part.partition(";")
        weight = options.replace(" ", "").removeprefix("q=")
        if name.strip() and weight not in ("0", "0.0", "0.00", "0.000"):
            names.add(name.strip())
    return frozenset({"br", "gzip"} if "*" in names else names)


def _not_modified(request: Headers, etag: str, changed: float) -> bool:
    """Preconditions of RFC 9110 §13.1.2 and §13.1.3; the time counts only without an entity tag."""
    tags = request.get("if-none-match")
    if tags is not None:
        return "*" in tags or etag in [tag.strip().removeprefix("W/") for tag in tags.split(",")]
    since = request.get("if-modified-since")
    if since is None:
        return False
    try:
        return int(changed) <= parsedate_to_datetime(since).timestamp()
    except (TypeError, ValueError):
        return False


def static_app() -> PrecompressedStatic:
    """Return the application for ``/static``."""
    return PrecompressedStatic(STATIC_DIR)


def ohif_app(csp_for: Callable[[str], str]) -> PrecompressedStatic:
    """Return the application for ``/ohif``: unknown paths below ``viewer`` are the viewer's own addresses.

    Args:
        csp_for: :func:`hub.web.ohif.csp_for`.
    """
    return PrecompressedStatic(
        OHIF_DIR,
        spa_prefixes=("viewer",),
        index=True,
        headers=lambda path: {"Content-Security-Policy": csp_for(path), "X-Frame-Options": "SAMEORIGIN"},
        versions=ohif_versions,
    )
