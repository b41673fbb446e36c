"""Makes the prebuilt OHIF viewer (npm ``@ohif/app``) fit below ``/ohif/``, and says under which CSP it runs.

The package holds a finished build for the root of a host. At build time its files are rewritten (addresses),
thinned out (a neural network runtime, microscopy, phone icons), minified and compressed by ``hub.web.build``.
Nothing of it is kept in the repository.
"""

from __future__ import annotations

import json
import re

BASE = "/ohif/"

OHIF_CSP = (
    "default-src 'none'; "
    "script-src 'self' 'wasm-unsafe-eval'; "
    "worker-src 'self' blob:; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; "
    "font-src 'self' data:; "
    "connect-src 'self' blob: data:; "
    "frame-src 'self' blob:; "
    "object-src 'self' blob:; "
    "manifest-src 'self'; "
    "base-uri 'none'; "
    "form-action 'none'; "
    "frame-ancestors 'self'"
)
"""Policy of every answer below ``/ohif/`` but the decode worker. A worker has the policy of its own answer."""

OHIF_WORKER_CSP = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'unsafe-eval'; connect-src 'self' blob: data:; "
    "worker-src 'self' blob:; frame-ancestors 'self'"
)
"""Policy of the decode worker: its codecs are built by Emscripten, which makes functions from text."""

_EVAL_WORKER = re.compile(r"^8097\.bundle\.[0-9a-f]+\.js$")

_DROPPED_FOLDERS = ("ort/", "dicom-microscopy-viewer/", "customizations/")
_DROPPED_NAMES = frozenset(
    {
        "sw.js",
        "init-service-worker.js",
        "oidc-client.min.js",
        "silent-refresh.html",
        "google.js",
        "es6-shim.min.js",
        "polyfill.min.js",
        "_headers",
        "_redirects",
        "serve.json",
        "app-config.js",
    }
)
_DROPPED = re.compile(r"^(5731\.|8832\.|.*\.map$|assets/(?!images/|favicon))")

_PUBLIC_PATH = '__webpack_require__.p = "/"'
_PUBLIC_PATH_BELOW = '__webpack_require__.p = self.PUBLIC_URL || new URL(".", self.location.href).pathname'

BOOT_JS = f'window.PUBLIC_URL="{BASE}";function browserImportFunction(name){{return import(name)}}\n'
"""What the page's inline scripts did, as a file, so that the policy needs no hashes."""

_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_ICON_LINK = re.compile(
    r'<(?:link rel="(?:apple-touch[^"]*|yandex[^"]*)"|meta name="(?:msapplication|apple-)[^"]*")[^>]*>'
)
_ICON_LINK_COAST = re.compile(r'<link rel="icon"[^>]*coast-228x228[^>]*>')


_MODE = re.compile(
    rb"\b\w+\.push\("
    rb'"@ohif/(?:mode-(?:basic|segmentation|tmtv|microscopy|preclinical-4d|ultrasound-pleura-bline)'
    rb'|extension-ultrasound-pleura-bline)"\)'
)
"""Modes that the hub has no address for, each with extensions of its own, fetched by every opening of the viewer."""
_MODES = 7

_AT_ONCE = (
    r"89|100|781|899|1206|1673|2623|3500|3760|5406|5448"
    r"|5696|5910|6489|6495|6749|6938|7248|7463|8478|9068|9116|9383|9415"
)
"""Chunks (numbers before `.bundle.`) that opening a study takes, one after the other has been read by the browser."""
_AT_ONCE_FILE = re.compile(rf"^(?:{_AT_ONCE})\.bundle\.[0-9a-f]+\.js$")

_STYLES_AT_ONCE = ("2623", "3760", "3833", "5910", "6214", "7463", "781", "9415")
"""Styles of these chunks: asked for together, not each once its chunk has been read."""

_STYLE_ADDRESS = re.compile(rb'(__webpack_require__\.miniCssF = \(chunkId\) => \{[^}]*return "" \+ chunkId \+ "\.css)"')
"""Where the application makes the address of a chunk's style, which has no hash in its name."""

_REPORT_CHUNK = "9068.bundle."
_REPORT_FAULTS = (
    (
        re.compile(rb"(const measuredValue = contentItem\.MeasuredValueSequence\?\.\[0\];\s*if \(!measuredValue)\)"),
        rb"\1?.MeasurementUnitsCodeSequence)",
    ),
    (re.compile(rb"(CodeValue,\s*CodeMeaning\s*\} = ConceptNameCodeSequence);"), rb"\1 ?? {};"),
)
"""A structured report with an empty measured value, or an item without a name (both may be so: PS3.3 §C.17.3, §C.18.1),
would end the whole viewer."""

_WASM_MAGIC = b"\0asm\x01\0\0\0"
HTJ2K_NAME = b"openjph"
"""What the module of the codec for HTJ2K, in which the hub keeps images, says of itself."""


class OhifChangedError(Exception):
    """The package does not look as it did when the rewriting was written."""


def csp_for(path: str) -> str:
    """Return the Content-Security-Policy of a file below ``/ohif/``, by its path relative to there."""
    return OHIF_WORKER_CSP if _EVAL_WORKER.match(path) else OHIF_CSP


def wanted(name: str) -> bool:
    """Say whether a file (its path below the package's ``dist/``) belongs to our installation."""
    return not (name.startswith(_DROPPED_FOLDERS) or name in _DROPPED_NAMES or _DROPPED.match(name))


def rewrite(name: str, content: bytes, *, version: str) -> bytes:
    """Return a file's bytes as they must be served below :data:`BASE`.

    Args:
        name: Its path below the package's ``dist/``.
        content: Its bytes there.
        version: What the addresses of styles are to carry, so that a browser need not ask whether they still hold.

    Raises:
        OhifChangedError: what has to be replaced is not there.
    """
    if name == "index.html":
        return rewrite_index(content.decode()).encode()
    if name == "manifest.json":
        manifest = json.loads(content)
        manifest.pop("icons", None)
        return json.dumps(manifest).encode()
    if name.startswith("app.bundle.") and name.endswith(".js"):
        content, found = _MODE.subn(b"void 0", content)
        if found != _MODES:
            raise OhifChangedError(f"{name}: {found} of {_MODES} modes that the hub does not use were found.")
        content, found = _STYLE_ADDRESS.subn(rb'\1?v=%s"' % version.encode(), content)
        if found != 1:
            raise OhifChangedError(f"{name}: the addresses of styles were not found.")
    if name.startswith(_REPORT_CHUNK) and name.endswith(".js"):
        for fault, instead in _REPORT_FAULTS:
            content, found = fault.subn(instead, content)
            if found != 1:
                raise OhifChangedError(f"{name}: the reading of a report's items was not found.")
    if name.endswith(".js") and "/" not in name:
        return content.replace(_PUBLIC_PATH.encode(), _PUBLIC_PATH_BELOW.encode())
    if name.endswith(".wasm"):
        return strip_wasm(content)
    if name.endswith(".css") and "/" not in name:
        return re.sub(rb"""url\((["']?)/(?!/)""", rb"url(\1", content)
    return content


def strip_wasm(module: bytes) -> bytes:
    """Return a WebAssembly module without its custom sections: symbols and debug information, which do nothing.

    In the codec for HTJ2K they are seven eighths of what goes over the line.

    Raises:
        OhifChangedError: it is no module of the known version.
    """
    if not module.startswith(_WASM_MAGIC):
        raise OhifChangedError("A .wasm file is no WebAssembly module of version 1.")
    kept = [_WASM_MAGIC]
    at = len(_WASM_MAGIC)
    while at < len(module):
        size, body = _leb128(module, at + 1)
        if module[at] != 0:
            kept.append(module[at : body + size])
        at = body + size
    if at != len(module):
        raise OhifChangedError("A WebAssembly module ends within a section.")
    return b"".join(kept)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise OhifChangedError("A WebAssembly module ends within a number.")
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def hints(html: str, names: list[str], later: list[str], *, version: str) -> str:
    """Return ``index.html`` with the files that follow from the first: asked for at once, not one after another.

    Args:
        html: As `rewrite_index` returns it.
        names: All files beside it; those of a cold opening are chosen.
        later: What the decode worker will fetch: its script, and the codec of most images.
        version: As for `rewrite`.
    """
    # The hash in the application's name is of the package's file, not of what `rewrite` made of it.
    html = re.sub(rf'"({BASE}app\.bundle\.(?:[0-9a-f]+\.js|css))"', rf'"\1?v={version}"', html)
    first = sorted(name for name in names if _AT_ONCE_FILE.match(name))
    links = [f'<link rel="preload" as="script" href="{BASE}{name}">' for name in first]
    links += [f'<link rel="preload" as="style" href="{BASE}{name}.css?v={version}">' for name in _STYLES_AT_ONCE]
    links += [f'<link rel="prefetch" href="{BASE}{name}">' for name in later]
    head, found, tail = html.partition("</head>")
    return f"{head}{''.join(links)}{found}{tail}"


def versioned(html: str, names: list[str], version: str) -> str:
    """Return ``index.html`` with addresses of files that need not be asked about until they are others.

    Args:
        html: As `hints` returns it.
        names: Files without a hash in their names.
        version: What their addresses are to carry.
    """
    for name in names:
        html = re.sub(rf'"{BASE}{re.escape(name)}(?:\?v=[0-9a-f]*)?"', f'"{BASE}{name}?v={version}"', html)
    return html


def is_worker(name: str) -> bool:
    """Whether a script is the decode worker."""
    return bool(_EVAL_WORKER.match(name))


def needs_public_path(name: str) -> bool:
    """Whether a script must hold webpack's public path: the application itself and each worker that it starts."""
    return name.startswith(("app.bundle.", "8097.bundle.", "compute.bundle.")) and name.endswith(".js")


def check_script(name: str, content: bytes) -> None:
    """Refuse a script that would look for its parts at the root of the host.

    Raises:
        OhifChangedError: the public path of the original was not found.
    """
    if needs_public_path(name) and _PUBLIC_PATH.encode() not in content:
        raise OhifChangedError(f"{name}: webpack's public path was not found; the rewriting must be looked at again.")


def rewrite_index(html: str) -> str:
    """Return ``index.html`` for :data:`BASE`: addresses, no service worker, no inline scripts, our configuration.

    Raises:
        OhifChangedError: the page has other inline scripts than the known ones.
    """
    for script in _INLINE_SCRIPT.findall(html):
        rest = script.replace('console.time("scriptToView"),', "").replace('window.PUBLIC_URL="/"', "")
        rest = re.sub(r"function browserImportFunction\((\w)\)\{return import\(\1\)\}", "", rest).strip("; \n")
        if rest:
            raise OhifChangedError(f"index.html has an unknown inline script: {rest[:80]}")
    html = _INLINE_SCRIPT.sub("", html)
    html = re.sub(r'<script[^>]*src="/init-service-worker\.js"[^>]*></script>', "", html)
    html = _ICON_LINK_COAST.sub("", _ICON_LINK.sub("", html))
    html = re.sub(r'\b(href|src|content)="/(?!/)', rf'\1="{BASE}', html)
    app_config = re.search(r'<script[^>]*src="[^"]*app-config\.js"[^>]*></script>', html)
    if app_config is None:
        raise OhifChangedError("index.html does not load app-config.js.")
    scripts = "".join(f'<script src="{BASE}{name}"></script>' for name in ("early.js", "boot.js", "app-config.js"))
    html = html.replace(app_config.group(0), scripts)
    head, found, tail = html.partition("</head>")
    return f'{head}<link rel="stylesheet" href="{BASE}hub.css">{found}{tail}'
