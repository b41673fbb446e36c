"""The printed report: what stands on it, what can never stop it, and that it is PDF/A-2b."""

from __future__ import annotations

import io
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pypdf import PdfReader

from hub.reports.document import KeyFigure, Patient, RenderError, ReportDocument, ReportKind, render_pdf
from support.signed_reports import a_report
from support.verapdf.run import VeraPdfMissing, pdfa_problems


def text_of(pdf: bytes) -> str:
    """All text without white space (a PDF has none of its own between Han characters)."""
    joined = "".join(page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages)
    return "".join(joined.replace("\u200b", "").split())


def picture(kind: str, mode: str = "L", size: tuple[int, int] = (120, 90)) -> bytes:
    out = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert(mode).save(out, kind)
    return out.getvalue()


def test_says_who_and_what() -> None:
    text = text_of(render_pdf(a_report(recognition_mark="江西HR")).bytes)
    for wanted in (
        *("于都县人民医院", "禾丰镇中心卫生院", "YD01-20260302-0147", "张智宏", "63岁", "360731********1234", "李建国"),
        *("急诊科", "中线结构左移约4mm", "右侧基底节区脑出血", "王珺", "陈喆", "危急值", "阳性", "江西HR"),
        *("7KQ2-M9XD-4TWB-3HZC", "2026-03-0209:41", "自建CA", "未加盖可信时间戳", "不含诊断结论", "Findings"),
    ):
        assert wanted in text, wanted


def test_issuer_is_the_reading_organisation() -> None:
    text = text_of(render_pdf(a_report()).bytes)
    assert text.index("于都县人民医院") < text.index("医学影像诊断报告") < text.index("禾丰镇中心卫生院")


def test_metadata_names_no_patient() -> None:
    pdf = render_pdf(a_report()).bytes
    reader = PdfReader(io.BytesIO(pdf))
    assert reader.metadata is not None
    assert "张智宏" not in "".join(str(v) for v in reader.metadata.values())
    assert "张智宏".encode() not in pdf
    assert reader.pages[0].mediabox.width == pytest.approx(595.28, abs=0.1)


def test_same_document_same_bytes() -> None:
    assert render_pdf(a_report()).bytes == render_pdf(a_report()).bytes


def test_english_labels_first() -> None:
    text = text_of(render_pdf(a_report(), locale="en").bytes)
    assert "DiagnosticImagingReport" in text
    assert "Page1of" in text
    assert "张智宏" in text


def test_kinds() -> None:
    corrected = text_of(
        render_pdf(
            a_report(kind=ReportKind.CORRECTION, version=2, reason="侧别写错", prior_version="第1版 2026-03-02 10:41")
        ).bytes
    )
    assert "更正报告" in corrected
    assert "侧别写错" in corrected
    assert "取代:第1版" in corrected
    preliminary = text_of(render_pdf(a_report(kind=ReportKind.PRELIMINARY)).bytes)
    assert preliminary.count("急诊报告,以正式报告为准") >= 2  # the notice and the watermark
    assert "未签名" in text_of(render_pdf(a_report(signed_at=None, signature=None)).bytes)


def test_sample_is_marked_on_each_page() -> None:
    pdf = render_pdf(a_report(sample=True, findings="双肺纹理清晰。\n" * 90)).bytes
    pages = PdfReader(io.BytesIO(pdf)).pages
    assert len(pages) > 2
    for page in pages:
        assert "非临床" in "".join(page.extract_text().split())


@pytest.mark.parametrize(
    "hostile",
    [
        '#import "x.typ": *',
        '#read("data.json") #eval("1+1") #panic()',
        "*粗* _斜_ $x^2$ `raw` <label> @ref = 标题",
        "// 注释 /* 注释 */ \\ \\u{41} ~ -- ...",
        '"}] #set page(width: 1pt)',
        "]]]]((((#{{{{",
        "https://example.org/ ''' \"\"\"",
    ],
)
def test_text_is_never_code(hostile: str) -> None:
    doc = a_report(
        findings=hostile, impression=hostile, history=hostile, author=hostile, patient=Patient(hostile), number=hostile
    )
    rendered = render_pdf(doc)
    assert rendered.replaced_characters == ()
    assert text_of(rendered.bytes).count("".join(hostile.split())) >= 4


def test_characters_without_a_glyph() -> None:
    doc = a_report(
        patient=Patient("𠮷田"), findings="见\ue5e5区\n心😀率\x07快 a\u0301 e\u0308\u0301 नि ا \ufdd0", impression="𠮷"
    )
    rendered = render_pdf(doc)
    replaced = {r.code_point: r.count for r in rendered.replaced_characters}
    assert replaced["U+20BB7"] >= 2
    assert {"U+E5E5", "U+1F600", "U+0007", "U+FDD0"} <= set(replaced)
    assert "U+00E1" not in replaced  # a + combining acute exists as one glyph
    text = text_of(rendered.bytes)
    assert "〓田" in text
    assert "见〓区" in text
    assert "U+20BB7" in text
    assert "U+E5E5" in text


def test_rare_names_have_glyphs() -> None:
    assert render_pdf(a_report(patient=Patient("喆珺堃赟祎㛃䶮𬱖𫖮〇·"))).replaced_characters == ()


def test_invisible_characters_vanish_without_a_note() -> None:
    rendered = render_pdf(a_report(findings="右\u202e左\u200d\ufe0f肺\ufeff\u00ad"))
    assert rendered.replaced_characters == ()
    assert "右左肺" in text_of(rendered.bytes)


def test_lone_surrogate() -> None:
    assert [r.code_point for r in render_pdf(a_report(findings="a\ud842b")).replaced_characters] == ["U+D842"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
def test_any_text_renders(text: str) -> None:
    pdf = render_pdf(a_report(findings=text, patient=Patient(text[:20]), author=text[-20:])).bytes
    assert pdf.startswith(b"%PDF-")


def test_random_planes() -> None:
    chooser = random.Random(7)
    planes = [(0x20, 0x2FFF), (0x3000, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x1FFFF), (0x20000, 0x323AF)]
    for low, high in planes:
        text = "".join(chr(chooser.randint(low, high)) for _ in range(3000))
        assert render_pdf(a_report(findings=text)).bytes


def test_long_text_flows_with_headers_repeated() -> None:
    findings = "\n".join(f"第{n}处:右肺上叶见小结节影,边界清,随诊。" for n in range(1, 301))
    pdf = render_pdf(a_report(findings=findings)).bytes
    pages = [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(pdf)).pages]
    assert len(pages) >= 5
    whole = text_of(pdf)
    assert "第1处" in whole
    assert "第300处" in whole
    for number, page in enumerate(pages, 1):
        assert "YD01-20260302-0147" in page
        assert f"第{number}页/共{len(pages)}页" in page.replace(" ", "")
        assert "张智宏" in page


def test_a_run_without_spaces_stays_on_the_page() -> None:
    pdf = render_pdf(a_report(findings="A" * 900, impression="x" * 400, patient=Patient("W" * 120))).bytes
    page = PdfReader(io.BytesIO(pdf)).pages[0]
    rightmost = []
    page.extract_text(visitor_text=lambda text, _cm, tm, _font, size: rightmost.append((tm[4], len(text), size)))
    assert text_of(pdf).count("A") >= 900
    assert max(x for x, _n, _s in rightmost) < 595


def test_key_figures_of_every_kind() -> None:
    figures = tuple(
        KeyFigure(picture(kind, mode, (100 + n, 90)), f"图 {kind} {mode}")
        for n, (kind, mode) in enumerate(
            [
                ("JPEG", "L"),
                ("JPEG", "RGB"),
                ("JPEG", "CMYK"),
                ("PNG", "RGBA"),
                ("PNG", "1"),
                ("PNG", "P"),
            ]
        )
    )
    pdf = render_pdf(a_report(figures=figures)).bytes
    assert "图PNGRGBA" in text_of(pdf)
    assert sum(len(page.images) for page in PdfReader(io.BytesIO(pdf)).pages) == 6


def test_a_broken_figure_is_an_error() -> None:
    with pytest.raises(RenderError):
        render_pdf(a_report(figures=(KeyFigure(b"not an image"),)))


def hard_cases() -> dict[str, ReportDocument]:
    return {
        "plain": a_report(),
        "english": a_report(sample=True),
        "figures": a_report(
            figures=(
                KeyFigure(picture("JPEG"), "一"),
                KeyFigure(picture("PNG", "RGBA")),
                KeyFigure(picture("JPEG", "CMYK")),
            )
        ),
        "strange": a_report(
            findings="𠮷\ue5e5😀\x07 a\u0301नि" + "长" * 5000, kind=ReportKind.PRELIMINARY, sample=True
        ),
    }


@pytest.mark.stranger
@pytest.mark.slow
def test_is_pdfa_2b(tmp_path: Path) -> None:
    files = []
    for name, doc in hard_cases().items():
        path = tmp_path / f"{name}.pdf"
        path.write_bytes(render_pdf(doc, locale="en" if name == "english" else "zh").bytes)
        files.append(path)
    try:
        problems = pdfa_problems(files)
    except VeraPdfMissing as missing:
        pytest.skip(f"veraPDF: {missing}")
    assert problems == {path: [] for path in files}
