"""The front-end's build, and the serving of what it made."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import brotli
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from hub.web import build, ohif, static

VERSION = "0123456789abcdef"
BODY = "window.words = 'hello hello hello';\n" * 200


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "dist"
    (root / "sub").mkdir(parents=True)
    for name in (
        "app-ABCDEFG2.js",
        "plain.js",
        "37fa160cc3a47cfd.wasm",
        "index.html",
        "8097.bundle.8ae6404ba94890a0.js",
    ):
        (root / name).write_text(BODY, encoding="utf-8")
        build.compress_file(root / name)
    (root / "sub" / "only.txt").write_text("only", encoding="utf-8")
    (root / ".hidden").write_text("no", encoding="utf-8")
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    return root


@pytest.fixture
def client(folder: Path) -> Iterator[TestClient]:
    viewer = static.PrecompressedStatic(
        folder,
        spa_prefixes=("viewer",),
        index=True,
        headers=lambda path: {"Content-Security-Policy": ohif.csp_for(path)},
        versions=lambda: frozenset({VERSION}),
    )
    app = Starlette(routes=[Mount("/static", static.PrecompressedStatic(folder)), Mount("/ohif", viewer)])
    with TestClient(app) as session:
        yield session


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("br, gzip", "br"), ("gzip", "gzip"), ("identity", None), ("br;q=0, gzip", "gzip"), ("*", "br"), ("", None)],
)
def test_the_best_accepted_coding_is_served(client: TestClient, accepted: str, coding: str | None) -> None:
    with client.stream("GET", "/static/app-ABCDEFG2.js", headers={"Accept-Encoding": accepted}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert int(answer.headers["content-length"]) == len(raw)
    plain = brotli.decompress(raw) if coding == "br" else gzip.decompress(raw) if coding == "gzip" else raw
    assert plain.decode() == BODY


def test_only_hashed_files_are_kept_for_ever(client: TestClient) -> None:
    for name in ("app-ABCDEFG2.js", "37fa160cc3a47cfd.wasm", "8097.bundle.8ae6404ba94890a0.js"):
        assert "immutable" in client.get(f"/static/{name}").headers["cache-control"]
    for name in ("plain.js", "index.html", "sub/only.txt"):
        assert client.get(f"/static/{name}").headers["cache-control"] == "no-cache"
    assert "immutable" in client.get(f"/ohif/plain.js?v={VERSION}").headers["cache-control"]
    others = (f"index.html?v={VERSION}", "plain.js?v=", f"plain.js?v={VERSION[::-1]}", f"missing.js?v={VERSION}")
    for address in (*(f"/ohif/{other}" for other in others), f"/static/plain.js?v={VERSION}"):
        assert client.get(address).headers["cache-control"] == "no-cache", address
    assert client.get("/static/37fa160cc3a47cfd.wasm").headers["content-type"] == "application/wasm"


def test_revalidation_knows_the_coding(client: TestClient) -> None:
    first = client.get("/static/plain.js", headers={"Accept-Encoding": "br"})
    etag = first.headers["etag"]
    again = client.get("/static/plain.js", headers={"Accept-Encoding": "br", "If-None-Match": etag})
    assert again.status_code == 304
    assert again.content == b""
    other = client.get("/static/plain.js", headers={"Accept-Encoding": "gzip", "If-None-Match": etag})
    assert other.status_code == 200
    dated = client.get("/static/plain.js", headers={"If-Modified-Since": first.headers["last-modified"]})
    assert dated.status_code == 304
    assert client.get("/static/plain.js", headers={"If-Modified-Since": "nonsense"}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt", "%2e%2e/secret.txt", "sub/../../secret.txt", "sub/%2e%2e/%2e%2e/secret.txt", "..%5csecret.txt",
        ".hidden", "%00", "app-ABCDEFG2.js.br", "sub", "", "missing.js", "/etc/passwd", "%2fetc%2fpasswd", "link.txt",
    ],
)  # fmt: skip
def test_nothing_else_is_served(client: TestClient, folder: Path, path: str) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    answer = client.get(f"/static/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_methods(client: TestClient) -> None:
    assert client.head("/static/plain.js").headers["content-length"] != "0"
    assert client.head("/static/plain.js").content == b""
    assert client.post("/static/plain.js").status_code == 405


def test_the_viewers_own_addresses_give_its_page(client: TestClient) -> None:
    for path in ("/ohif/", "/ohif/viewer", "/ohif/viewer?StudyInstanceUIDs=1.2", "/ohif/viewer/dicomweb"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
    assert client.get("/ohif/other").status_code == 404
    worker = client.get("/ohif/8097.bundle.8ae6404ba94890a0.js")
    assert "'unsafe-eval'" in worker.headers["content-security-policy"]


def test_asset_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "manifest.json"
    monkeypatch.setattr(static, "_manifest", static._Manifest(manifest))
    with pytest.raises(static.AssetMissingError, match="build"):
        static.asset("app.js")
    manifest.write_text(json.dumps({"app.js": "app-1.js"}), encoding="utf-8")
    assert static.asset("app.js") == "/static/app-1.js"
    manifest.write_text(json.dumps({"app.js": "app-2.js"}), encoding="utf-8")
    os.utime(manifest, ns=(1, 1))
    assert static.asset("app.js") == "/static/app-2.js"
    with pytest.raises(static.AssetMissingError, match="none"):
        static.asset("none.js")


def test_words_for_scripts_cannot_end_their_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "DIST", tmp_path)
    assert static.i18n_json("en") == "{}"
    (tmp_path / "messages.en.json").write_text(json.dumps({"一": "</script>"}), encoding="utf-8")
    text = static.i18n_json("en")
    assert "<" not in text
    assert json.loads(text) == {"一": "</script>"}
    assert static.i18n_json("zh") == "{}"


def test_compressing_leaves_nothing_half_written(tmp_path: Path) -> None:
    small, large, picture = tmp_path / "s.js", tmp_path / "l.js", tmp_path / "p.png"
    for path, size in ((small, 100), (large, 5000), (picture, 5000)):
        path.write_bytes(b"a" * size)
    build.compress([small, large, picture])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["l.js", "l.js.br", "l.js.gz", "p.png", "s.js"]


def test_a_stamp_changes_with_names_and_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "WEB", tmp_path)
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("x", encoding="utf-8")
    first = build.digest([one])
    assert build.digest([one]) == first
    one.rename(two)
    assert build.digest([two]) != first
    two.write_text("y", encoding="utf-8")
    assert len({first, build.digest([two]), build.digest([two], "more")}) == 3


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("npm error code ENOTFOUND", "cannot be reached"),
        ("npm error code ENOSPC\nno space left on device", "disk is full"),
        ("npm error code EINTEGRITY", "not the one of the lock file"),
        ("npm error 404 E404", "lacks a package"),
        ("something else", "own words"),
    ],
)
def test_errors_of_npm_are_explained(output: str, hint: str) -> None:
    text = build._explain_npm(("ci",), output)
    assert hint in text
    assert output.splitlines()[0] in text


def test_a_changed_package_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tgz"
    archive.write_bytes(b"other")
    with pytest.raises(build.BuildError, match="pinned"):
        build._check_integrity(archive, "sha512-" + "A" * 86 + "==")


def test_an_old_node_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("node", "#!/bin/sh\necho v18.1.0\n"), ("npm", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    assert build._node_on_path() is None
    (tmp_path / "node").write_text("#!/bin/sh\necho v22.1.0\n", encoding="utf-8")
    found = build._node_on_path()
    assert found is not None
    assert found.node == tmp_path / "node"


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((build.WEB / "package-lock.json").read_text(encoding="utf-8"))
    package = build._package()
    assert not [name for name, entry in lock["packages"].items() if "resolved" in entry]
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)
    assert lock["packages"][""]["dependencies"] == package["dependencies"]
    assert package["ohif"]["integrity"].startswith("sha512-")


built = pytest.mark.skipif(not (build.DIST / "manifest.json").exists(), reason="the front-end is not built")


@built
def test_nothing_is_built_twice() -> None:
    if build._read(build.DIST / ".stamp-static") != build.static_stamp():
        pytest.skip("the built front-end is older than its sources")
    assert build.build() is False


@built
def test_every_entry_stands_in_the_manifest_with_its_compressed_copies() -> None:
    names = json.loads((build.DIST / "manifest.json").read_text(encoding="utf-8"))
    assert {"app.js", "base.css", "live-worker.js", "mark.svg"} <= set(names)
    for name, file in names.items():
        path = build.DIST / "static" / file
        assert path.exists(), name
        assert static._HASHED.search(path.name), name
        if path.suffix in (".js", ".css") and path.stat().st_size >= build.SMALLEST_COMPRESSED:
            assert path.with_name(path.name + ".br").exists(), name


@built
def test_the_built_viewer_is_whole() -> None:
    root = build.DIST / "ohif"
    html = (root / "index.html").read_text(encoding="utf-8")
    import re

    for address in re.findall(r'(?:src|href)="/ohif/([^"]+)"', html):
        name, _mark, version = address.partition("?v=")
        assert (root / name).exists(), address
        # What the page needs is asked about once: by a hash in its name, or by its version.
        if name.endswith((".js", ".css")):
            assert static._HASHED.search(name) or re.fullmatch("[0-9a-f]{16}", version), address
    assert (root / "LICENSE.txt").exists()
    assert sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) < 60_000_000
    for path in root.glob("*.js"):
        assert b'p="/"' not in path.read_bytes().replace(b" ", b""), path.name


LINT = build.MODULES / "eslint/bin/eslint.js"


@pytest.mark.slow
@pytest.mark.skipif(not LINT.exists(), reason="the linters are not installed: `python -m hub.web.build --lint`")
@pytest.mark.parametrize(
    ("script", "name", "source", "complaint"),
    [
        ("eslint/bin/eslint.js", "x.js", "export const a = Object.groupBy([], (x) => x);\n", "groupBy"),
        ("eslint/bin/eslint.js", "x.js", "export const a = AbortSignal.any([]);\n", "109"),
        ("eslint/bin/eslint.js", "x.js", "document.body.showPopover();\n", "109"),
        ("eslint/bin/eslint.js", "x.js", "export const a = structuredClone([]).findLast((x) => x);\n", ""),
        ("stylelint/bin/stylelint.mjs", "x.css", ".a { & .b { color: red; } }\n", "css-nesting"),
        ("stylelint/bin/stylelint.mjs", "x.css", ".a { color: color-mix(in srgb, red, blue); }\n", "color-mix"),
        ("stylelint/bin/stylelint.mjs", "x.css", ".a:has(b) { inset: 0; }\n", ""),
    ],
)
def test_the_linters_know_chromium_109(script: str, name: str, source: str, complaint: str) -> None:
    node = build.find_node()
    done = subprocess.run(
        [str(node.node), str(build.MODULES / script), "--stdin", "--stdin-filename", str(build.SRC / name)],
        input=source,
        cwd=build.WEB,
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) is (complaint == ""), output
    assert complaint in output
