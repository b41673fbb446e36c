"""Every word that people see exists in both languages."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from hub.kit.i18n import LOCALE_DIR
from hub.web import words

HUB = Path(words.__file__).resolve().parents[1]
WEB = HUB / "web"
READERS = {".py": words.in_python, ".html": words.in_template, ".txt": words.in_template, ".js": words.in_script}


def sources() -> list[Path]:
    found = [path for path in HUB.rglob("*.py") if not {"node_modules", "migrations"} & set(path.parts)]
    found += [path for path in (WEB / "templates").rglob("*") if path.suffix in (".html", ".txt")]
    found += words.scripts(WEB / "src")
    return sorted(found)


@pytest.fixture(scope="module")
def texts() -> dict[Path, words.Words]:
    return {path: READERS[path.suffix](path.read_text(encoding="utf-8")) for path in sources()}


@pytest.fixture(scope="module")
def english() -> dict[str, dict[str, str]]:
    """Source text → {file: translation} for all files."""
    entries: dict[str, dict[str, str]] = defaultdict(dict)
    for path in sorted((LOCALE_DIR / "en").glob("*.po")):
        with path.open("rb") as handle:
            for entry in read_po(handle, charset="utf-8"):
                if entry.id:
                    entries[str(entry.id)][path.name] = str(entry.string)
    return entries


def test_every_text_has_english(texts: dict[Path, words.Words], english: dict[str, dict[str, str]]) -> None:
    missing = [
        f"{path.relative_to(HUB.parent)}:{word.line}: {word.text}"
        for path, found in texts.items()
        for word in found.words
        if words.has_cjk(word.text) and word.text not in english
    ]
    assert not missing, f"{len(missing)} texts without English:\n" + "\n".join(missing)


def test_no_chinese_outside_of_the_marks(texts: dict[Path, words.Words]) -> None:
    faults = [
        f"{path.relative_to(HUB.parent)}:{fault.line}: {fault.what}"
        for path, found in texts.items()
        for fault in found.faults
    ]
    assert not faults, "\n".join(faults)


def test_entries_are_filled_and_settled() -> None:
    faults = []
    for path in sorted((LOCALE_DIR / "en").glob("*.po")):
        with path.open("rb") as handle:
            for entry in read_po(handle, charset="utf-8"):
                if entry.id and not entry.string:
                    faults.append(f"{path.name}: empty: {entry.id}")
                if entry.id and entry.fuzzy:
                    faults.append(f"{path.name}: fuzzy: {entry.id}")
    assert not faults, "\n".join(faults)


def test_one_text_has_one_translation(english: dict[str, dict[str, str]]) -> None:
    faults = [f"{text}: {found}" for text, found in english.items() if len(set(found.values())) > 1]
    assert not faults, "\n".join(faults)


def test_translations_keep_the_parameters(english: dict[str, dict[str, str]]) -> None:
    faults = [
        f"{text} → {translation}"
        for text, found in english.items()
        for translation in found.values()
        if placeholders(text) != placeholders(translation)
    ]
    assert not faults, "\n".join(faults)


def test_english_has_no_chinese(english: dict[str, dict[str, str]]) -> None:
    faults = [text for text, found in english.items() if any(words.has_cjk(value) for value in found.values())]
    assert not faults, "\n".join(faults)


def placeholders(text: str) -> set[str]:
    import re

    return set(re.findall(r"\{(\w+)\}", text))


class TestReading:
    """The readers find exactly what is marked."""

    def test_python(self) -> None:
        found = words.in_python('x = _("一" "二", n=3)\ny = _(z)\nz = _(f"{a}")\nw = "中文数据"\n')
        assert [word.text for word in found.words] == ["一二"]
        assert [fault.line for fault in found.faults] == [2, 3]

    def test_template(self) -> None:
        found = words.in_template(
            "{# 注释 #}<!-- 注释 --><p>{{ _('一', n=1) }}</p>{% set a = '二' %}<b>三</b>{{ _(variable) }}"
        )
        assert [word.text for word in found.words] == ["一"]
        assert len(found.faults) == 2

    def test_script(self) -> None:
        found = words.in_script(
            't("一", { n }); // 注释\n/* 注释 */ const a = "二"; const b = `三${t("四")}`; fetch("x"); c.t("五");\n'
        )
        assert [word.text for word in found.words] == ["一"]
        assert len(found.faults) == 3

    def test_script_after_regular_expressions(self) -> None:
        found = words.in_script('const a = b.replace(/["\']/g, ""); const c = t("一") / 2; t("二");')
        assert [word.text for word in found.words] == ["一", "二"]
