"""How far two readers agree: the county's three words, and the RADPEER score that each stands for.

符合 is 1. 基本符合 is a difference that understandably happens (2), 不符合 one that should mostly not happen (3); of
both it is said whether it was likely to matter to the patient (b) or not (a). RADPEER: American College of Radiology,
2016 scale. Significant disagreement, which goes to arbitration, is 3b.
"""

from __future__ import annotations

from enum import StrEnum

from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _


class Agreement(StrEnum):
    """How far two readers agree."""

    AGREE = "agree"
    MINOR = "minor"
    DISAGREE = "disagree"


AGREEMENT_NAMES: dict[Agreement, Message] = {
    Agreement.AGREE: _("符合"),
    Agreement.MINOR: _("基本符合"),
    Agreement.DISAGREE: _("不符合"),
}
RADPEER = ("1", "2a", "2b", "3a", "3b")
ARBITRATED = "3b"
RADPEER_NAMES: dict[str, Message] = {
    "1": _("符合"),
    "2a": _("基本符合,差异可以理解,无临床意义"),
    "2b": _("基本符合,差异可以理解,有临床意义"),
    "3a": _("不符合,多数情况下应能避免,无临床意义"),
    "3b": _("不符合,多数情况下应能避免,有临床意义"),
}


def radpeer(agreement: str, significant: bool | None) -> str:
    """The RADPEER score of a grade.

    Raises:
        Invalid: No such grade, or a difference of which is not said whether it mattered.
    """
    if agreement not in set(Agreement):
        raise Invalid(fields={"agreement": _("请评定:符合、基本符合或不符合")})
    if agreement == Agreement.AGREE:
        if significant:
            raise Invalid(fields={"significant": _("“符合”没有临床意义上的差异")})
        return "1"
    if significant is None:
        raise Invalid(fields={"significant": _("请说明差异有没有临床意义")})
    return ("2" if agreement == Agreement.MINOR else "3") + ("b" if significant else "a")
