"""The checks by name: data. What each has been measured to be worth stands in `data/measured.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import sqrt
from pathlib import Path

from hub.kit.i18n import Message, _
from hub.reports.checks.core import Rule
from hub.reports.checks.rules import RULES as _RULES

MEASURED = Path(__file__).parent / "data" / "measured.json"
PRECISION = 0.95
"""A check whose measured precision is under this is off unless somebody turns it on."""

RULES: dict[str, Rule] = _RULES


class Level(StrEnum):
    """What a check may do."""

    OFF = "off"
    HINT = "hint"
    WARN = "warn"


LEVEL_NAMES: dict[Level, Message] = {
    Level.OFF: _("不检查"),
    Level.HINT: _("只提示"),
    Level.WARN: _("提醒,须答复"),
}
"""What people call them."""


@dataclass(frozen=True, slots=True)
class Check:
    """A check as people know it."""

    name: Message
    help: Message


CHECKS: dict[str, Check] = {
    "side-exam": Check(_("侧别与检查不符"), _("登记或影像为一侧,报告只写了另一侧。")),
    "side-differs": Check(_("所见与意见侧别不一致"), _("同一病变在检查所见与诊断意见中左右相反。")),
    "sex-organ": Check(_("性别与器官不符"), _("男性报告中出现子宫、附件,女性报告中出现前列腺、精囊等。")),
    "body-part": Check(_("部位与检查不符"), _("检查所见描述的是没有申请的部位。")),
    "modality": Check(_("检查方法不符"), _("X 线报告写成 CT,或相反。")),
    "placeholder": Check(_("未填的空"), _("留有未填的空格、括号、问号、示例文字,或未选定的“左/右”。")),
    "impression-empty": Check(_("诊断意见没有内容"), _("诊断意见只有编号、标点或“同上”。")),
    "contradiction": Check(_("意见否定了所见"), _("检查所见写有病变,诊断意见写未见该病变或未见异常。")),
    "unfounded": Check(_("意见与所见相反"), _("诊断意见写有病变,检查所见写未见该病变。")),
    "unit": Check(_("缺少单位"), _("大小、CT 值等数字没有单位。")),
    "magnitude": Check(_("数值不合常理"), _("数值大小与所述结构不符,多为单位或小数点写错。")),
    "unit-differs": Check(_("前后数值单位不一致"), _("同一数值在所见与意见中单位不同,或一组数值单位混用。")),
    "removed-organ": Check(_("已切除的器官写为正常"), _("病史、既往报告或本报告说明器官已切除,又写其正常。")),
    "patient": Check(_("文中患者与本检查不符"), _("文字中的姓名、性别、年龄或检查日期不是这位患者的。")),
    "critical-words": Check(
        _("疑有危急值而未标记"), _("文字提到危急值所列的情况而没有标记。系统只询问,不会自行标记。")
    ),
    "copied": Check(_("与上一位患者的报告相同"), _("除正常模板外,文字与同一医师上一位患者的报告相同。")),
    "flag": Check(_("阳性/阴性与意见不符"), _("标为阳性而意见未见异常,或标为阴性而意见有明确病变。")),
}
"""In the order of the settings page."""

WHY: dict[str, Message] = {
    "false-alarm": _("误报:文字没有这个问题"),
    "confirmed": _("已核对,就是如此"),
    "other": _("其他原因"),
}
"""Why a warning is answered and the text stays."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a check did on the list of report snippets in `tests/`.

    Attributes:
        wanted: Snippets in which it should speak.
        found: Snippets in which it spoke.
        right: Snippets in which it spoke and should.
    """

    wanted: int = 0
    found: int = 0
    right: int = 0

    @property
    def precision(self) -> float | None:
        """Right among found; None where it never spoke."""
        return self.right / self.found if self.found else None

    @property
    def at_least(self) -> float | None:
        """The lower end of the precision's 95 % confidence interval (Wilson): what so few snippets can promise."""
        if not self.found:
            return None
        z2, n, share = 1.96**2, self.found, self.right / self.found
        spread = sqrt(share * (1 - share) / n + z2 / (4 * n * n))
        return float((share + z2 / (2 * n) - 1.96 * spread) / (1 + z2 / n))

    @property
    def recall(self) -> float | None:
        """Right among wanted; None where it never should speak."""
        return self.right / self.wanted if self.wanted else None


@cache
def measured() -> dict[str, dict[str, Measured]]:
    """Check → part of the list ("all", "development", "held-out") → figures, written by the test that measures them."""
    try:
        kept = json.loads(MEASURED.read_text(encoding="utf-8"))["checks"]
        return {
            code: {part: Measured(values["wanted"], values["found"], values["right"]) for part, values in parts.items()}
            for code, parts in kept.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


@cache
def snippets() -> int:
    """How many snippets the figures come from."""
    try:
        return int(json.loads(MEASURED.read_text(encoding="utf-8"))["snippets"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def default_level(code: str) -> Level:
    """`warn` where the check has been measured to be right often enough, else `off`."""
    precision = measured().get(code, {}).get("all", Measured()).precision
    return Level.WARN if precision is not None and precision >= PRECISION else Level.OFF
