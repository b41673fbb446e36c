"""What one text changes of another, in words: deletions and insertions that a person can read and take back.

A word is a run of letters or a number with its decimals, and each Han character is one, as is each other mark. What
stays between two changes and is shorter than a word of Chinese belongs to them: "左肺上叶" → "右肺下叶" is read at
once, four characters struck out one by one are not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

_WORDS = re.compile(r"\d+(?:[.,]\d+)*|[A-Za-zÀ-ÖØ-öø-ɏ]+(?:['’-][A-Za-zÀ-ÖØ-öø-ɏ]+)*|\s|.", re.DOTALL)
_GLUE = 1
_MOST_PAIRS = 1_000_000
"""Pairs of equal words in two texts; comparing takes time with them, and honest texts of a report have far fewer."""
FIELDS = ("technique", "comparison", "findings", "impression", "recommendation")
MARKS = ("positive", "critical")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of the comparison. `same`: `before` equals `after`; else `before` is struck out and `after` put in."""

    kind: Literal["same", "change"]
    before: str
    after: str


def words(text: str) -> list[str]:
    """The words of a text; joined they are the text."""
    return _WORDS.findall(text)


def opcodes(old: Sequence[str], new: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """As `SequenceMatcher.get_opcodes`, in bounded time: of texts that repeat themselves without end, what stands
    between their common head and tail is one replacement.
    """
    counts = Counter(new)
    if sum(number * counts[word] for word, number in Counter(old).items()) <= _MOST_PAIRS:
        return list(SequenceMatcher(None, old, new, autojunk=False).get_opcodes())
    most = min(len(old), len(new))
    head = next((at for at in range(most) if old[at] != new[at]), most)
    tail = next((at for at in range(most - head) if old[-1 - at] != new[-1 - at]), most - head)
    ends = len(old) - tail, len(new) - tail
    found = [("equal", 0, head, 0, head), ("replace", head, ends[0], head, ends[1])]
    found.append(("equal", ends[0], len(old), ends[1], len(new)))
    return [one for one in found if one[1] < one[2] or one[3] < one[4]]


def compare(before: str, after: str) -> list[Segment]:
    """The pieces of two texts: their `before`s joined are the one, their `after`s the other."""
    old, new = words(before), words(after)
    found: list[Segment] = []
    for tag, i1, i2, j1, j2 in opcodes(old, new):
        was, now = "".join(old[i1:i2]), "".join(new[j1:j2])
        kind: Literal["same", "change"] = "same" if tag == "equal" else "change"
        if found and found[-1].kind == kind == "change":
            found[-1] = Segment(kind, found[-1].before + was, found[-1].after + now)
        elif (
            kind == "change"
            and len(found) >= 2
            and found[-2].kind == "change"
            and len(words(found[-1].before)) <= _GLUE
            and not found[-1].before.isspace()
            and found[-1].before not in ",;\n\u3001\u3002\uff0c\uff1b"
        ):
            gap, last = found.pop(), found.pop()
            found.append(Segment(kind, last.before + gap.before + was, last.after + gap.after + now))
        else:
            found.append(Segment(kind, was, now))
    return found


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of the fields and marks that two versions' bodies have otherwise."""
    return [name for name in (*FIELDS, *MARKS) if before.get(name) != after.get(name)]


_MEANINGLESS = re.compile(r"[\s\u3001\u3002\uff0c\uff1a\uff1b;:]+|(?<!\d)[.,]|[.,](?!\d)")


def plain(text: str) -> str:
    """A text without what does not change its sense: blanks, and marks between sentences (not 3.2, not a minus)."""
    return _MEANINGLESS.sub("", text).casefold()


def conclusion_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What of a conclusion differs: `impression`, `positive`, `critical`."""
    found = ["impression"] if plain(str(before["impression"])) != plain(str(after["impression"])) else []
    return found + [name for name in MARKS if before[name] != after[name]]
