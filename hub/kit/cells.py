"""Cells of exported tables, which people open in a spreadsheet."""

from __future__ import annotations

_SIGNS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CONTROLS = ("\t", "\r", "\n")


def safe(text: str) -> str:
    """`text` with a leading apostrophe where a spreadsheet might run it (also after blanks, and full-width signs)."""
    return f"'{text}" if text.startswith(_CONTROLS) or text.strip().startswith(_SIGNS) else text
