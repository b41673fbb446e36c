"""Fields of a template: what its text leaves open, to be filled in from one to the next by the Tab key.

A field stands in square brackets, with a name before a colon where it helps::

    [左|右]              one of these
    [侧别:左侧|右侧]     the same, with a name that is not part of the text
    [__ mm]              a number, in its unit
    [大小:__×__ cm]      two of them
    [描述:…]             any text

Brackets with neither ``|`` nor ``__`` nor ``…`` in them are ordinary text. The browser's side is src/read/fields.js.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

BLANK = "__"
_FIELD = re.compile(r"\[(?:([^\[\]|::\n_…]{1,20})[::])?([^\[\]\n]*(?:\||__|…)[^\[\]\n]*)\]")


@dataclass(frozen=True, slots=True)
class Field:
    """What stands open in a text.

    Attributes:
        start: Where its opening bracket is.
        end: Behind its closing bracket.
        name: What is asked for; empty where the text around it says it.
        choices: What may be put there; empty for a blank.
        body: What stands between name and closing bracket.
    """

    start: int
    end: int
    name: str
    choices: tuple[str, ...]
    body: str


def open_fields(text: str) -> list[Field]:
    """The fields of a text that nobody has filled in, in their order."""
    found = []
    for match in _FIELD.finditer(text):
        body = match[2]
        choices = tuple(part.strip() for part in body.split("|")) if "|" in body and BLANK not in body else ()
        found.append(Field(match.start(), match.end(), match[1] or "", choices, body))
    return found


def open_fields_of(texts: Mapping[str, str]) -> dict[str, list[Field]]:
    """The same for several texts by name; a text without an open field is left out."""
    return {name: found for name, text in texts.items() if (found := open_fields(text))}


def faults(text: str) -> list[str]:
    """Pieces of a template that look like fields and are none: a bracket that is not closed, a choice of one."""
    found = [field.body for field in open_fields(text) if "" in field.choices]
    rest = _FIELD.sub("", text)
    found += re.findall(r"\[[^\[\]\n]*(?:__|\|)[^\[\]\n]*(?=\n|$)", rest)
    return found
