"""First letters of a Chinese text's pinyin, by which templates, phrases and choices are found."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=8192)
def initials(text: str) -> str:
    """`未见明显异常` → `wjmxyc`; Latin letters and digits stay, all else is left out."""
    # The dictionaries take a third of a second to load: they are read when the first text is.
    from pypinyin import Style, lazy_pinyin

    return re.sub(r"[^a-z0-9]", "", "".join(lazy_pinyin(text, style=Style.FIRST_LETTER)).lower())
