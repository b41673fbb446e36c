"""What somebody reads: `CT`, `DX:chest` (this part of that modality), `*:breast` (that part of any)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from hub.exams.catalogue import BODY_PARTS, MODALITIES
from hub.kit.i18n import translate

ANY = "*"
_SPLIT = re.compile(r"[;;,,、\s]+")


def parse(text: str) -> tuple[list[str], list[str]]:
    """Skills from typed text, and the pieces that are none.

    Modalities and body parts may be given by code or by Chinese name: `CT;DX:胸部` is `CT`, `DX:chest`.
    """
    found: list[str] = []
    unknown: list[str] = []
    for piece in _SPLIT.split(text.strip()):
        if not piece:
            continue
        modality, _colon, part = piece.replace(":", ":").partition(":")
        modality = _modality(modality)
        code = _part(part) if part else ""
        if modality is None or code is None or (modality == ANY and not code):
            unknown.append(piece[:40])
            continue
        skill = f"{modality}:{code}" if code else modality
        if skill not in found:
            found.append(skill)
    return found, unknown


def _modality(text: str) -> str | None:
    if text in (ANY, "") or text.upper() in MODALITIES:
        return text.upper() or ANY
    return next((code for code, name in MODALITIES.items() if text == translate(name, "zh")), None)


def _part(text: str) -> str | None:
    if text.lower() in BODY_PARTS:
        return text.lower()
    return next((code for code, part in BODY_PARTS.items() if text in translate(part.name, "zh").split("/")), None)


def covers(skills: Sequence[str], modality: str, body_parts: Iterable[str]) -> bool:
    """Whether who declared `skills` reads such an exam. Nothing declared reads everything.

    Every part that was asked for must be covered; an exam without one is read by whoever reads its modality at all.
    """
    if not skills:
        return True
    split = [skill.partition(":") for skill in skills]
    of_modality = [part for name, _colon, part in split if name in (modality, ANY)]
    parts = list(body_parts)
    if not parts:
        return any(name == modality for name, _colon, _part in split)
    return all("" in of_modality or part in of_modality for part in parts)


def modalities(skills: Sequence[str]) -> list[str]:
    """The modalities that `skills` name; empty where they do not narrow them."""
    named = {skill.partition(":")[0] for skill in skills}
    return [] if ANY in named else sorted(named)


def words(skills: Iterable[str], locale: str = "zh") -> list[str]:
    """Skills for people: `CT`, `X 线摄影 胸部`."""
    found = []
    for skill in skills:
        modality, _colon, part = skill.partition(":")
        first = (
            "" if modality == ANY else translate(MODALITIES[modality], locale) if modality in MODALITIES else modality
        )
        second = translate(BODY_PARTS[part].name, locale) if part in BODY_PARTS else part
        found.append(f"{first} {second}".strip())
    return found
