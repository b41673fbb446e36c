"""Finds the source texts in templates, Python and scripts, for the build and for the test that none lacks English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jinja2
from babel.messages.jslexer import tokenize, unquote_string
from jinja2 import nodes

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_STATEMENTS = jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"], autoescape=True)


class Word(NamedTuple):
    """A literal given to ``_()`` or ``t()``, with its line."""

    text: str
    line: int


class Fault(NamedTuple):
    """A place where words are written in a way that cannot be translated."""

    line: int
    what: str


class Words(NamedTuple):
    """What one file holds."""

    words: list[Word]
    faults: list[Fault]


def has_cjk(text: str) -> bool:
    """Whether a text has Chinese characters."""
    return _CJK.search(text) is not None


def in_python(source: str) -> Words:
    """Collect the literals of ``_("…")``; any other first argument is a fault. Chinese elsewhere is allowed (data)."""
    words: list[Word] = []
    faults: list[Fault] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "_":
            text = node.args[0] if len(node.args) == 1 else None
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                words.append(Word(text.value, node.lineno))
            else:
                faults.append(Fault(node.lineno, "_() wants one plain literal; parameters go by name"))
    return Words(words, faults)


def in_template(source: str) -> Words:
    """Collect the literals of ``_("…")`` in a Jinja template; Chinese outside of it is a fault."""
    words: list[Word] = []
    faults: list[Fault] = []
    counted: set[int] = set()
    tree = _STATEMENTS.parse(source)
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name == "_" and call.args:
            first = call.args[0]
            if isinstance(first, nodes.Const) and isinstance(first.value, str):
                words.append(Word(first.value, call.lineno))
                counted.add(id(first))
    for data in tree.find_all(nodes.TemplateData):
        visible = _HTML_COMMENT.sub("", data.data)
        if has_cjk(visible):
            faults.append(Fault(data.lineno, f"Chinese outside of _(): {_excerpt(visible)}"))
    for const in tree.find_all(nodes.Const):
        if isinstance(const.value, str) and id(const) not in counted and has_cjk(const.value):
            faults.append(Fault(const.lineno, f"Chinese outside of _(): {_excerpt(const.value)}"))
    return Words(words, faults)


def in_script(source: str) -> Words:
    """Collect the literals of ``t("…")`` in an ES module; Chinese in any other literal is a fault."""
    words: list[Word] = []
    faults: list[Fault] = []
    tokens = [token for token in tokenize(source, jsx=False) if token.type not in ("linecomment", "multilinecomment")]
    for index, token in enumerate(tokens):
        if token.type not in ("string", "template_string"):
            if token.type == "regexp" and has_cjk(token.value):
                faults.append(Fault(token.lineno, "Chinese in a regular expression: use \\u escapes"))
            continue
        called = (
            index >= 2
            and tokens[index - 1].value == "("
            and tokens[index - 2].value == "t"
            and (index < 3 or tokens[index - 3].value not in (".", "function"))
        )
        if called and token.type == "string" and tokens[index + 1].value in (")", ","):
            words.append(Word(unquote_string(token.value), token.lineno))
        elif has_cjk(token.value):
            faults.append(Fault(token.lineno, f"Chinese outside of t(): {_excerpt(token.value)}"))
    return Words(words, faults)


def scripts(folder: Path) -> Iterator[Path]:
    """Yield the modules below ``hub/web/src``."""
    return iter(sorted(folder.rglob("*.js")))


def _excerpt(text: str) -> str:
    found = _CJK.search(text)
    start = max(0, found.start() - 5) if found else 0
    return " ".join(text[start : start + 40].split())
