"""From a `ReportDocument` to a printable PDF/A-2b (ISO 19005-2), by typst.

The page never waits for a character: what the font cannot draw becomes 〓 and a note at the foot names its code
point (typst refuses a whole PDF/A document for one missing glyph). Report text travels as JSON beside the layout
and is only ever a string there, so ``#import``, ``*`` or ``$`` in it are printed as they are.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
import unicodedata
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pylopdf_fonts_zh_cn
import segno
import typst
from fontTools.ttLib import TTFont
from PIL import Image

from hub.reports.document.content import KeyFigure, ReportDocument, ReportKind

Locale = Literal["zh", "en"]
Pair = tuple[str, str]

GETA = "〓"
_FAMILY = "Noto Sans SC"
_LAYOUT = Path(__file__).with_name("layout.typ")
_REFUSED = re.compile(r'the text `"(.*?)"` could not be displayed', re.DOTALL)
# A run without a break opportunity would leave the page on the right; a zero-width space lets it wrap.
_LONG_RUN = re.compile(r"[!-~\u00a0-\u024f]{32}(?=[!-~\u00a0-\u024f])")
_MAX_FIGURE_PIXELS = 40_000_000
_MAX_NAMED = 12


class RenderError(RuntimeError):
    """The report could not be rendered for a reason that is not its text."""


@dataclass(frozen=True, slots=True)
class ReplacedCharacter:
    """A character that the page could not show.

    Attributes:
        character: the character itself.
        code_point: ``"U+20BB7"``.
        count: how often it was replaced.
    """

    character: str
    code_point: str
    count: int


@dataclass(frozen=True, slots=True)
class RenderedPdf:
    """A PDF/A-2b file and the characters that were replaced by 〓 in it (empty if none)."""

    bytes: bytes
    replaced_characters: tuple[ReplacedCharacter, ...] = ()


@lru_cache(maxsize=1)
def _fonts() -> tuple[Any, frozenset[int]]:
    """The font book with Noto Sans SC alone, and the code points it draws."""
    path = pylopdf_fonts_zh_cn.sans_path()
    with TTFont(path, lazy=True) as font:
        known = frozenset(font.getBestCmap())
    # typst takes folders. Without the font it would print blank pages and call them good.
    fonts = typst.Fonts(include_system_fonts=False, include_embedded_fonts=False, font_paths=[str(Path(path).parent)])
    if _FAMILY not in fonts.families():
        raise RenderError(f"the font {_FAMILY} is missing")
    return fonts, known


class _Cleaner:
    """Makes text printable and remembers what it had to replace."""

    def __init__(self, refused: frozenset[str] = frozenset()) -> None:
        self._known = _fonts()[1]
        self._refused = refused
        self.replaced: dict[str, int] = {}

    def _drawable(self, char: str) -> bool:
        if char in self._refused:
            return False
        if unicodedata.category(char) in {"Cc", "Cs", "Co", "Cn"}:
            return False
        return ord(char) in self._known

    def __call__(self, text: str) -> str:
        """`text` with every character drawable; line breaks stay."""
        # NFC first: a base letter with a combining mark may exist as one glyph. Full-width forms stay as typed.
        text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
        text = text.replace("\u2028", "\n").replace("\u2029", "\n").replace("\v", "\n").replace("\f", "\n")
        out: list[str] = []
        for char in text:
            if char == "\n":
                out.append(char)
            elif char == "\t":
                out.append("    ")
            elif unicodedata.category(char) in {"Zs"}:
                out.append(char if self._drawable(char) else " ")
            elif (
                unicodedata.category(char) == "Cf"
                or "\ufe00" <= char <= "\ufe0f"
                or "\U000e0100" <= char <= "\U000e01ef"
            ):
                # Invisible: joiners, direction marks and variation selectors change nothing a reader could see,
                # but a direction override could make a number read backwards.
                continue
            elif self._drawable(char):
                out.append(char)
            else:
                self.replaced[char] = self.replaced.get(char, 0) + 1
                out.append(GETA)
        return _LONG_RUN.sub(lambda m: m.group() + "\u200b", "".join(out))

    def line(self, text: str) -> str:
        """`text` on one line."""
        return " ".join(self(text).split())

    def paragraphs(self, text: str) -> list[str]:
        """`text` by line; an empty string is an empty line. Never two empty lines in a row."""
        lines = [part.rstrip() for part in self(text).strip("\n").split("\n")]
        return [part for i, part in enumerate(lines) if part or (i and lines[i - 1])]

    def report(self) -> tuple[ReplacedCharacter, ...]:
        return tuple(ReplacedCharacter(c, f"U+{ord(c):04X}", n) for c, n in sorted(self.replaced.items()))


_KINDS: dict[ReportKind, Pair] = {
    ReportKind.ORIGINAL: ("", ""),
    ReportKind.ADDENDUM: ("补充报告", "Addendum"),
    ReportKind.CORRECTION: ("更正报告", "Corrected report"),
    ReportKind.PRELIMINARY: ("急诊报告,以正式报告为准", "Preliminary – the formal report prevails"),
}


class _Words:
    """Label pairs in the page's language order."""

    def __init__(self, locale: Locale) -> None:
        self._first = 1 if locale == "en" else 0

    def pair(self, zh: str, en: str) -> list[str]:
        return [en, zh] if self._first else [zh, en]

    def one(self, zh: str, en: str) -> str:
        return en if self._first else zh


def _moment(value: datetime | None, zone: ZoneInfo) -> str:
    return value.astimezone(zone).strftime("%Y-%m-%d %H:%M") if value else ""


def _day(value: date | None) -> str:
    return value.isoformat() if value else ""


def _notice(doc: ReportDocument, words: _Words, clean: _Cleaner) -> list[str]:
    if doc.kind is ReportKind.ORIGINAL and not doc.prior_version:
        return []
    head = (
        words.one(*_KINDS[doc.kind]) if doc.kind is not ReportKind.ORIGINAL else words.one("正式报告", "Formal report")
    )
    if doc.kind is ReportKind.PRELIMINARY:
        # Whoever holds the page must understand this, in either language.
        head = " / ".join(words.pair(*_KINDS[doc.kind]))
    lines = [head if doc.version <= 1 else f"{head} · " + words.one(f"第 {doc.version} 版", f"version {doc.version}")]
    if doc.prior_version:
        relation = {
            ReportKind.ADDENDUM: words.one("补充于:", "Adds to: "),
            ReportKind.CORRECTION: words.one("取代:", "Replaces: "),
            # Only a preliminary report can come before an original.
            ReportKind.ORIGINAL: words.one("取代:", "Replaces: "),
            ReportKind.PRELIMINARY: words.one("取代:", "Replaces: "),
        }.get(doc.kind, words.one("相关版本:", "Related version: "))
        lines.append(relation + clean.line(doc.prior_version))
    if doc.reason:
        label = "" if doc.kind is ReportKind.ORIGINAL else words.one("原因:", "Reason: ")
        lines.append(label + clean.line(doc.reason))
    return lines


def _fields(doc: ReportDocument, words: _Words, clean: _Cleaner, zone: ZoneInfo) -> dict[str, list[dict[str, Any]]]:
    """Rows of label and value, three to a line; what is empty and optional is left out."""
    p, e = doc.patient, doc.exam

    def row(
        zh: str, en: str, value: str, *, span: int = 1, strong: bool = False, always: bool = False
    ) -> dict[str, Any] | None:
        text = clean.line(value)
        if not text and not always:
            return None
        return {"label": words.pair(zh, en), "value": text or "—", "span": span, "strong": strong}

    patient = [
        row("姓名", "Name", p.name, strong=True, always=True),
        row("性别", "Sex", p.sex, always=True),
        row("年龄", "Age", p.age, always=True),
        row("出生日期", "Born", _day(p.birth_date)),
        row("身份证号", "ID no.", p.masked_identity),
        row("患者编号", "Pat. no.", p.clinic_number),
        row("县域编号", "County", p.county_number),
        row("门诊号", "Outpatient", p.outpatient_number),
        row("住院号", "Inpatient", p.inpatient_number),
        row("床号", "Bed", p.bed),
    ]
    separator = words.one("、", ", ")
    exam = [
        row("申请机构", "Clinic", doc.requesting_organisation, always=True, span=3),
        row("申请科室", "Dept.", e.department),
        row("申请医生", "Doctor", e.doctor),
        row("就诊类型", "Type", e.encounter),
        row(
            "检查项目",
            "Exam",
            " ".join(filter(None, [e.modality, separator.join(e.body_parts)])),
            strong=True,
            always=True,
            span=3,
        ),
        row("检查号", "Acc. no.", e.accession_number),
        row("检查时间", "Taken", _moment(e.performed_at, zone)),
        row("登记时间", "Reg.", _moment(e.registered_at, zone)),
        row("报告编号", "Report", doc.number, always=True),
        row("版本", "Version", words.one(f"第 {doc.version} 版", str(doc.version)), always=True),
        row("阅片机构", "Read by", doc.issuer.name, always=True),
    ]
    return {
        "patient": _packed([r for r in patient if r]),
        "exam": _packed([r for r in exam if r]),
    }


def _packed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lets long values take the room of two columns, so that lines of three come out full."""
    out: list[dict[str, Any]] = []
    column = 0
    for index, row in enumerate(rows):
        last = index == len(rows) - 1
        following = None if last else rows[index + 1]
        span = row["span"]
        if span > 3 - column:
            # Stretch what stands before, rather than leaving a hole.
            if out and column:
                out[-1] = {**out[-1], "span": out[-1]["span"] + 3 - column}
            column = 0
        if (
            span == 1
            and column < 2
            and _wide(row["value"]) > 19
            and (following is None or column == 1 or _wide(following["value"]) <= 19)
        ):
            span = 2
        if last:
            span = 3 - column
        out.append({**row, "span": span})
        column = (column + span) % 3
    return out


def _wide(text: str) -> int:
    """Width in Latin letters: a Han character counts two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _result(doc: ReportDocument, words: _Words) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    if doc.critical:
        out.append({"text": words.one("危急值 CRITICAL", "CRITICAL 危急值"), "alarm": True, "quiet": False})
    if doc.positive is not None:
        text = (
            words.one("阳性 Positive", "Positive 阳性") if doc.positive else words.one("阴性 Negative", "Negative 阴性")
        )
        out.append({"text": text, "alarm": False, "quiet": not doc.positive})
    return out


def _notes(doc: ReportDocument, words: _Words, clean: _Cleaner) -> list[str]:
    notes: list[str] = []
    if doc.signature is not None:
        notes.append(clean.line(doc.signature.standing))
        notes.append(
            words.one("签名含可信时间戳。", "The signature carries a trusted time stamp.")
            if doc.signature.time_stamp
            else words.one(
                "未加盖可信时间戳:签发时间由本系统时钟给出。",
                "No trusted time stamp: the time of signing is this system's own clock.",
            )
        )
    elif doc.signed_at is None:
        notes.append(words.one("未签名,仅供内部查阅。", "Not signed; for internal use only."))
    if doc.kind is ReportKind.PRELIMINARY:
        notes.append(
            words.one(
                "本急诊报告由书写医师署名发出,尚未经审核;正式报告签发后以正式报告为准。",
                "This preliminary report is signed by its author and not reviewed; the formal report prevails.",
            )
        )
    if doc.recognition_mark:
        notes.append(
            words.one(
                "互认标识仅指影像及检查数据,不含诊断结论。",
                "The recognition mark covers the images and data, not the diagnostic conclusion.",
            )
        )
    if doc.verification_code:
        code = clean.line(doc.verification_code)
        url = clean.line(doc.verification_url)
        notes.append(words.one(f"查验码 {code}  {url}", f"Verification code {code}  {url}").strip())
    notes.append(
        words.one(
            "本报告由阅片机构依据所收影像出具,请结合临床;如有疑问请联系阅片机构。",
            "Issued by the reading organisation from the images it received; correlate clinically.",
        )
    )
    return notes


def _replaced_note(replaced: tuple[ReplacedCharacter, ...], words: _Words) -> str:
    names = ", ".join(r.code_point + (f"×{r.count}" if r.count > 1 else "") for r in replaced[:_MAX_NAMED])
    if len(replaced) > _MAX_NAMED:
        names += words.one(f" 等 {len(replaced)} 种", f" and others, {len(replaced)} in all")
    return words.one(
        f"{GETA} 处为字库未收之字,原字符编码:{names};电子记录中保留原字。",
        f"{GETA} stands for characters without a glyph: {names}; the electronic record keeps them.",
    )


def _figure_file(figure: KeyFigure) -> tuple[str, bytes] | None:
    """File name and bytes of a key figure as baseline RGB or grey without transparency, or None if undecodable.

    Re-encoded always: what typst embeds must be what the standard allows (no CMYK, no alpha, no stray metadata
    that could carry a name).
    """
    try:
        with Image.open(io.BytesIO(figure.image), formats=("JPEG", "PNG")) as image:
            if image.width * image.height > _MAX_FIGURE_PIXELS:
                return None
            kind = image.format
            if image.mode in {"1", "I", "I;16", "F"}:
                flat = image.convert("L")
            elif image.mode in {"RGBA", "LA", "P", "PA"}:
                rgba = image.convert("RGBA")
                flat = Image.new("RGB", rgba.size, "black")
                flat.paste(rgba, mask=rgba.getchannel("A"))
            else:
                flat = image.convert("L" if image.mode == "L" else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    flat.info.clear()
    flat.thumbnail((1400, 1400))
    out = io.BytesIO()
    if kind == "PNG":
        flat.save(out, "PNG")
        return "png", out.getvalue()
    flat.save(out, "JPEG", quality=90)
    return "jpg", out.getvalue()


def _data(doc: ReportDocument, locale: Locale, clean: _Cleaner, files: dict[str, bytes]) -> dict[str, Any]:
    """The JSON beside the layout. `files` receives the images."""
    words = _Words(locale)
    zone = ZoneInfo(doc.zone)

    figures = []
    for number, figure in enumerate(doc.figures, 1):
        prepared = _figure_file(figure)
        caption = clean.line(figure.caption) or words.one(f"图 {number}", f"Figure {number}")
        if prepared is None:
            raise RenderError(f"key figure {number} is not a readable JPEG or PNG")
        files[f"figure{number}.{prepared[0]}"] = prepared[1]
        figures.append({"file": f"figure{number}.{prepared[0]}", "caption": caption, "alt": caption})

    if doc.verification_url:
        svg = io.BytesIO()
        segno.make(doc.verification_url, error="m", micro=False).save(
            svg, kind="svg", border=0, dark="#16232e", xmldecl=True
        )
        files["qr.svg"] = svg.getvalue()

    marks: list[dict[str, Any]] = []
    if doc.sample:
        marks.append({"text": words.one("样例 非临床", "SAMPLE · NOT CLINICAL"), "size": 64 if locale == "zh" else 44})
    if doc.kind is ReportKind.PRELIMINARY:
        both = [{"text": _KINDS[doc.kind][0], "size": 40}, {"text": _KINDS[doc.kind][1], "size": 22}]
        marks += both if locale == "zh" else both[::-1]

    def block(zh: str, en: str, text: str, *, boxed: bool = False) -> dict[str, Any]:
        return {"label": words.pair(zh, en), "text": clean.paragraphs(text), "boxed": boxed}

    brief = [
        block("病史", "History", doc.history),
        block("检查技术", "Technique", doc.technique),
        block("对比", "Comparison", doc.comparison),
    ]
    sections = [
        block("检查所见", "Findings", doc.findings),
        block("诊断意见", "Impression", doc.impression, boxed=True),
        block("建议", "Recommendation", doc.recommendation),
    ]
    signatures = [
        {"label": words.pair("报告医师", "Reported by"), "value": clean.line(doc.author) or "—"},
        {"label": words.pair("审核医师", "Reviewed by"), "value": clean.line(doc.reviewer) or "—"},
        {"label": words.pair("签发时间", "Signed"), "value": _moment(doc.signed_at, zone) or "—"},
    ]
    seal = None
    if doc.signature is not None and doc.signed_at is not None:
        serial = clean.line(doc.signature.certificate_serial)
        who = clean.line(doc.reviewer or doc.author)
        seal = {
            "head": words.one("电子签名", "Electronically signed"),
            "line": "  ".join(
                filter(
                    None,
                    [
                        who,
                        clean.line(doc.issuer.name),
                        _moment(doc.signed_at, zone),
                        serial and words.one("证书号 ", "cert. ") + serial,
                    ],
                )
            ),
        }

    issuer_name = clean.line(doc.issuer.name)
    data: dict[str, Any] = {
        "lang": "zh" if locale == "zh" else "en",
        "region": "CN" if locale == "zh" else "GB",
        # Neither patient nor finding: the metadata of a PDF is shown by file managers and search engines.
        "meta": {
            "title": f"{words.one('医学影像诊断报告', 'Diagnostic imaging report')} {clean.line(doc.number)}",
            "author": issuer_name,
        },
        "number": clean.line(doc.number),
        "title": words.pair("医学影像诊断报告", "Diagnostic Imaging Report"),
        "issuer": {
            "name": issuer_name,
            "centre": clean.line(doc.issuer.centre),
            "size": 20 if _wide(issuer_name) <= 26 else 16 if _wide(issuer_name) <= 36 else 13,
        },
        "running": {
            "patient": "  ".join(
                filter(None, [clean.line(doc.patient.name), clean.line(doc.patient.sex), clean.line(doc.patient.age)])
            )
        },
        "words": {
            "page": ["第", "页 / 共", "页"] if locale == "zh" else ["Page", "of", ""],
            "number": words.one("报告编号", "Report no."),
            "figures": words.pair("关键图像", "Key images"),
            "critical": words.pair("危急值通知(截至签发时)", "Critical value notified (as at signing)"),
            "qr": words.one("查验二维码", "QR code for verification"),
            "scan": words.one("扫码查验", "Scan to verify"),
        },
        "recognition": {"mark": clean.line(doc.recognition_mark), "words": words.one("检查互认", "Mutual recognition")}
        if doc.recognition_mark
        else None,
        "qr": bool(doc.verification_url),
        "notice": _notice(doc, words, clean),
        "fields": _fields(doc, words, clean, zone),
        "brief": [b for b in brief if b["text"] and any(b["text"])],
        "sections": [s for s in sections if any(s["text"]) or s["label"][0] not in {"建议", "Recommendation"}],
        "result": _result(doc, words),
        "critical": [clean.line(line) for line in doc.critical_record],
        "figures": figures,
        "signatures": signatures,
        "seal": seal,
        "watermarks": marks,
        "footer": "  ".join(
            filter(
                None,
                [
                    issuer_name,
                    doc.issuer.phone and words.one("电话 ", "Tel. ") + clean.line(doc.issuer.phone),
                    clean.line(doc.number),
                ],
            )
        ),
        "notes": _notes(doc, words, clean),
    }
    replaced = clean.report()
    if replaced:
        data["notes"].insert(0, _replaced_note(replaced, words))
    return data


def _compile(data: dict[str, Any], files: dict[str, bytes], when: datetime | None) -> bytes:
    fonts = _fonts()[0]
    with tempfile.TemporaryDirectory(prefix="report-") as name:
        root = Path(name)
        (root / "layout.typ").write_bytes(_LAYOUT.read_bytes())
        (root / "data.json").write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
        for path, content in files.items():
            (root / path).write_bytes(content)
        compiler = typst.Compiler(
            str(root / "layout.typ"),
            root=str(root),
            font_paths=fonts,
            ignore_system_fonts=True,
            package_path=str(root),
            package_cache_path=str(root),
        )
        pdf, warnings = compiler.compile_with_warnings(
            format="pdf", pdf_standards="a-2b", timestamp=int(when.timestamp()) if when else None
        )
    if warnings:
        raise RenderError("; ".join(str(w) for w in warnings))
    if not isinstance(pdf, bytes):
        raise RenderError("typst gave no PDF")
    return pdf


def render_pdf(doc: ReportDocument, *, locale: Locale = "zh") -> RenderedPdf:
    """Renders one version of a report.

    The same document gives the same bytes if it has a time of signing (it is the file's creation date).

    Args:
        doc: what to print.
        locale: language that stands first on labels; the other follows in small print. Report text is not translated.

    Returns:
        PDF/A-2b bytes, A4, fonts embedded, and the characters shown as 〓.

    Raises:
        RenderError: a key figure cannot be decoded, or typst failed for a reason other than the text.
    """
    refused: frozenset[str] = frozenset()
    for _attempt in range(8):
        clean = _Cleaner(refused)
        files: dict[str, bytes] = {}
        data = _data(doc, locale, clean, files)
        try:
            return RenderedPdf(_compile(data, files, doc.signed_at), clean.report())
        except typst.TypstError as error:
            # The cmap said yes and shaping said no (marks, sequences): take away what it names, and try again.
            named = _REFUSED.search(str(error))
            if named is None:
                raise RenderError(str(error)) from error
            text = re.sub(r"\\u\{([0-9a-f]+)\}", lambda m: chr(int(m.group(1), 16)), named.group(1))
            refused |= {c for c in text if ord(c) > 0x7E}
    raise RenderError("characters without a glyph remained")
