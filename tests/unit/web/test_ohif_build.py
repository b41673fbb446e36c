"""The rewriting of the prebuilt viewer, on small stand-ins for its files."""

from __future__ import annotations

import json
from functools import partial

import pytest

from hub.web import ohif

VERSION = "0123456789abcdef"
rewrite = partial(ohif.rewrite, version=VERSION)
STYLES = b'__webpack_require__.miniCssF = (chunkId) => {\n  // return url\n  return "" + chunkId + ".css"\n}'
STYLES_DONE = STYLES.replace(b'.css"', b".css?v=" + VERSION.encode() + b'"')

INDEX = (
    '<!doctype html><html lang="en"><head><meta name="msapplication-TileImage" content="/assets/mstile.png">'
    '<script>console.time("scriptToView"),window.PUBLIC_URL="/"</script><link rel="manifest" href="/manifest.json">'
    '<link rel="icon" type="image/png" href="/assets/favicon-16x16.png">'
    '<link rel="apple-touch-icon" sizes="57x57" href="/assets/apple-touch-icon-57x57.png">'
    '<script rel="preload" as="script" src="/app-config.js"></script>'
    '<script rel="preload" as="script" type="module" src="/init-service-worker.js"></script>'
    '<script>function browserImportFunction(n){return import(n)}window.PUBLIC_URL="/"</script>'
    '<script defer src="/app.bundle.0f61.js"></script><link href="/app.bundle.css" rel="stylesheet"></head>'
    "<body><div id=root></div></body></html>"
)


def test_index_lives_below_its_base_and_has_no_inline_script() -> None:
    html = ohif.rewrite_index(INDEX)
    assert 'src="/ohif/app.bundle.0f61.js"' in html
    assert 'href="/ohif/app.bundle.css"' in html
    assert 'href="/ohif/assets/favicon-16x16.png"' in html
    assert "<script>" not in html
    assert "service-worker" not in html
    assert "apple-touch" not in html
    assert "mstile" not in html
    assert (
        html.index("early.js") < html.index("boot.js") < html.index("app-config.js") < html.index("app.bundle.0f61.js")
    )
    assert '"/' not in html.replace('"/ohif/', "")


def test_an_unknown_inline_script_stops_the_build() -> None:
    with pytest.raises(ohif.OhifChangedError, match="alert"):
        ohif.rewrite_index(INDEX.replace("</head>", "<script>alert(1)</script></head>"))


def test_an_index_without_configuration_stops_the_build() -> None:
    with pytest.raises(ohif.OhifChangedError, match="app-config"):
        ohif.rewrite_index(INDEX.replace("app-config", "other"))


def test_workers_find_themselves() -> None:
    source = b'x;__webpack_require__.p = "/";y'
    ohif.check_script("app.bundle.12.js", source)
    assert b'.p = self.PUBLIC_URL || new URL(".", self.location.href).pathname;y' in rewrite("8097.bundle.1.js", source)
    with pytest.raises(ohif.OhifChangedError):
        ohif.check_script("app.bundle.12.js", b"n.p='/'")
    ohif.check_script("100.bundle.1.js", b"nothing")


def test_styles_and_manifest() -> None:
    assert rewrite("1.css", b"a{src:url(/x.woff2)}b{src:url('/y.png')}c{src:url(//h/z)}") == (
        b"a{src:url(x.woff2)}b{src:url('y.png')}c{src:url(//h/z)}"
    )
    assert "icons" not in json.loads(rewrite("manifest.json", b'{"name":"v","icons":[{"src":"/a"}]}'))
    assert rewrite("a.png", b'__webpack_require__.p = "/"') == b'__webpack_require__.p = "/"'


WASM = b"\0asm\x01\0\0\0"


def test_debug_information_is_dropped_from_webassembly() -> None:
    code = b"\x0a\x81\x01" + b"c" * 129  # a length of two bytes
    assert rewrite("a.wasm", WASM + b"\0\x05\x04name" + code + b"\0\x02\x01d") == WASM + code
    for broken in (b"asm", WASM + b"\x01\x05ab", WASM + b"\x01\xff\xff\xff\xff\xff", WASM + b"\x01"):
        with pytest.raises(ohif.OhifChangedError):
            ohif.strip_wasm(broken)


def test_modes_without_an_address_are_not_loaded() -> None:
    names = ["basic", "segmentation", "tmtv", "microscopy", "preclinical-4d", "ultrasound-pleura-bline"]
    pushes = [f'm.push("@ohif/mode-{name}");' for name in ["longitudinal", *names]]
    source = "".join(['e.push("@ohif/extension-ultrasound-pleura-bline");', *pushes]).encode() + STYLES
    done = rewrite("app.bundle.12.js", source)
    assert done == b'void 0;m.push("@ohif/mode-longitudinal");' + b"void 0;" * 6 + STYLES_DONE
    with pytest.raises(ohif.OhifChangedError):
        rewrite("app.bundle.12.js", source.replace(b"tmtv", b"pet"))
    with pytest.raises(ohif.OhifChangedError):
        rewrite("app.bundle.12.js", source.replace(STYLES, b""))


def test_a_report_with_empty_items_is_read() -> None:
    source = b"const measuredValue = contentItem.MeasuredValueSequence?.[0];\n    if (!measuredValue) {\n"
    source += b"  const {\n    CodeValue,\n    CodeMeaning\n  } = ConceptNameCodeSequence;\n"
    done = rewrite("9068.bundle.1.js", source)
    assert b"if (!measuredValue?.MeasurementUnitsCodeSequence) {" in done
    assert b"CodeMeaning\n  } = ConceptNameCodeSequence ?? {};" in done
    with pytest.raises(ohif.OhifChangedError):
        rewrite("9068.bundle.1.js", b"other")


def test_what_a_cold_opening_takes_is_asked_for_at_once() -> None:
    page = '<head><script src="/ohif/app.bundle.0f61.js"></script><link href="/ohif/app.bundle.css"></head>'
    names = ["89.bundle.0f61.js", "7.bundle.0f61.js", "89.bundle.0f61.js.br"]
    html = ohif.hints(page, names, ["a.wasm"], version=VERSION)
    assert html.count('rel="preload" as="script"') == 1
    assert '<link rel="preload" as="script" href="/ohif/89.bundle.0f61.js">' in html
    assert f'<link rel="preload" as="style" href="/ohif/2623.css?v={VERSION}">' in html
    assert '<link rel="prefetch" href="/ohif/a.wasm"></head>' in html
    # What the rewriting changes is another file.
    assert f'"/ohif/app.bundle.0f61.js?v={VERSION}"' in html
    assert f'"/ohif/app.bundle.css?v={VERSION}"' in html


def test_a_new_version_takes_the_place_of_the_old() -> None:
    page = '<script src="/ohif/boot.js"></script><script src="/ohif/other.js"></script>'
    once = ohif.versioned(page, ["boot.js"], VERSION)
    assert once == page.replace("boot.js", f"boot.js?v={VERSION}")
    assert ohif.versioned(once, ["boot.js"], "f" * 16) == page.replace("boot.js", f"boot.js?v={'f' * 16}")


@pytest.mark.parametrize(
    "name",
    [
        "ort/esm/ort.wasm", "dicom-microscopy-viewer/x.js", "5731.bundle.1.js", "8832.css", "sw.js", "app-config.js",
        "silent-refresh.html", "serve.json", "assets/apple-touch-icon.png", "assets/mstile-70x70.png", "a.js.map",
    ],
)  # fmt: skip
def test_dropped(name: str) -> None:
    assert not ohif.wanted(name)


@pytest.mark.parametrize(
    "name", ["index.html", "app.bundle.1.js", "8097.bundle.1.js", "37fa160cc3a47cfd.wasm", "assets/images/CT-Bone.png"]
)
def test_kept(name: str) -> None:
    assert ohif.wanted(name)


def test_only_the_decode_worker_may_make_functions_from_text() -> None:
    assert "'unsafe-eval'" in ohif.csp_for("8097.bundle.8ae6404ba94890a0.js")
    for path in ("index.html", "viewer", "app.bundle.0f6159c501addfe9.js", "x/8097.bundle.8ae6404ba94890a0.js"):
        assert "'unsafe-eval'" not in ohif.csp_for(path)
        assert "'unsafe-inline'" not in ohif.csp_for(path).split("script-src")[1].split(";")[0]
