"""What readers return exams for, and what clinics answer: the county's lists, as data in the setting `conversation`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from hub.audit import service as audit
from hub.exams.catalogue import MODALITIES
from hub.kit import clock
from hub.kit.actor import Actor
from hub.kit.errors import Invalid
from hub.kit.i18n import Message, _
from hub.sites.models import CountySetting

SETTING = "conversation"
MAX_REASONS = 60
MOST_MINUTES = 240
_CODE = re.compile(r"[a-z][a-z0-9_]{0,39}")

KINDS: dict[str, Message] = {
    "message": _("留言"),
    "history_asked": _("请补充病史"),
    "history_answered": _("病史答复"),
    "retake_asked": _("退回重拍"),
    "retake_registered": _("已登记重拍"),
    "retake_declined": _("无法重拍"),
    "images_late": _("影像迟到"),
    "returned": _("报告回传"),
    "void": _("检查作废"),
}
"""Kinds of lines in a thread."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry of a list. `modalities`: for which it is offered; empty: for all."""

    code: str
    name: str
    name_en: str
    modalities: tuple[str, ...] = ()

    def words(self, locale: str) -> str:
        """Its name in a language."""
        return self.name_en if locale == "en" and self.name_en else self.name

    def fits(self, modality: str) -> bool:
        """Whether it is offered for a modality."""
        return not self.modalities or modality in self.modalities


@dataclass(frozen=True, slots=True)
class Conversation:
    """The county's rules.

    `retake` and `decline`: why readers return exams, why clinics cannot take them again. `keep_minutes`: how long an
    answered exam is its asker's before "next for me" gives it to others; `keep_minutes_emergency` for emergencies.
    `questions`: one-tap questions about the history.
    """

    retake: tuple[Reason, ...]
    decline: tuple[Reason, ...]
    questions: tuple[str, ...]
    keep_minutes: int = 15
    keep_minutes_emergency: int = 3

    def reason(self, code: str) -> Reason | None:
        """The entry of a code, of either list."""
        return next((one for one in (*self.retake, *self.decline) if one.code == code), None)


_XRAY, _PLANES = ("DX", "MG", "RF"), ("CT", "MR")
DEFAULTS = Conversation(
    retake=(
        Reason("positioning", "体位不正", "Positioning"),
        Reason("motion", "呼吸/运动伪影", "Breathing or motion artefact"),
        Reason("underexposed", "曝光不足", "Underexposed", _XRAY),
        Reason("overexposed", "曝光过度", "Overexposed", _XRAY),
        Reason("coverage", "范围不全", "Incomplete coverage"),
        Reason("foreign_body", "异物(衣物、饰品、膏药)", "Foreign object (clothes, jewellery, plaster)"),
        Reason("wrong_part", "部位/侧别错误", "Wrong body part or side"),
        Reason("missing_view", "投照位置不全", "A view is missing", _XRAY),
        Reason("missing_series", "序列缺失", "A series is missing", _PLANES),
        Reason("thick_slices", "层厚过厚或缺薄层", "Slices too thick, or no thin slices", ("CT",)),
        Reason("contrast_phase", "增强期相不当", "Wrong contrast phase", _PLANES),
        Reason("noise", "噪声过大", "Too much noise", ("CT", "MR", "DX")),
        Reason("metal", "金属伪影,可改变体位避开", "Metal artefact that another position would avoid", _PLANES),
        Reason("compression", "压迫不足", "Too little compression", ("MG",)),
        Reason("wrong_patient", "疑为他人影像", "Perhaps another patient's images"),
        Reason("other", "其他", "Other"),
    ),
    decline=(
        Reason("patient_left", "患者已离开,无法联系", "The patient has left and cannot be reached"),
        Reason("patient_refuses", "患者不同意重拍", "The patient does not agree"),
        Reason("condition", "患者病情不允许", "The patient's condition does not allow it"),
        Reason("referred", "患者已转院", "The patient has been referred elsewhere"),
        Reason("device", "设备故障", "The machine is out of order"),
        Reason("best_possible", "已是所能拍到的最好影像", "These are the best images that can be had"),
        Reason("other_decline", "其他", "Other"),
    ),
    questions=(
        "主要症状、部位(侧别)和持续时间?",
        "有无外伤?受伤时间和经过?",
        "有无手术史?手术方式和时间?",
        "有无肿瘤、结核等既往史?",
        "有无发热、咳嗽、咯血?血象如何?",
        "有无既往影像?请上传或告知医院和时间。",
        "育龄女性:是否怀孕?末次月经?",
    ),
)


def load(session: Session) -> Conversation:
    """The county's rules, or the defaults; remembered for the length of the session."""
    known = session.info.get(SETTING)
    if not isinstance(known, Conversation):
        row = session.get(CountySetting, SETTING)
        known = parse(row.value) if row is not None else DEFAULTS
        session.info[SETTING] = known
    return known


def to_json(rules: Conversation) -> dict[str, Any]:
    """The setting that gives these rules again."""
    return {
        "retake": [{**asdict(one), "modalities": list(one.modalities)} for one in rules.retake],
        "decline": [{**asdict(one), "modalities": list(one.modalities)} for one in rules.decline],
        "questions": list(rules.questions),
        "keep_minutes": rules.keep_minutes,
        "keep_minutes_emergency": rules.keep_minutes_emergency,
    }


def parse(value: Mapping[str, Any]) -> Conversation:
    """Rules from their setting; what is not named keeps its default.

    Raises:
        Invalid: With one message per field (`retake.3.name`, `keep_minutes` …).
    """
    fields: dict[str, Message | str] = {}
    seen: set[str] = set()

    def reasons(part: str, default: tuple[Reason, ...]) -> tuple[Reason, ...]:
        given = value.get(part)
        if given is None:
            seen.update(one.code for one in default)
            return default
        if not isinstance(given, list) or not 1 <= len(given) <= MAX_REASONS:
            fields[part] = _("应有 1 到 {most} 项").format(most=MAX_REASONS)
            return default
        found = []
        for number, one in enumerate(given):
            entry = one if isinstance(one, dict) else {}
            code, name = str(entry.get("code", "")), str(entry.get("name", "")).strip()
            modalities = entry.get("modalities", [])
            if not _CODE.fullmatch(code):
                fields[f"{part}.{number}.code"] = _("代码用小写字母、数字和下划线,以字母开头")
            elif code in seen:
                fields[f"{part}.{number}.code"] = _("代码 {code} 重复").format(code=code)
            if not 0 < len(name) <= 60:
                fields[f"{part}.{number}.name"] = _("请填写名称,最多 60 个字")
            if not isinstance(modalities, list) or any(one not in MODALITIES for one in modalities):
                fields[f"{part}.{number}.modalities"] = _("没有这种检查类型")
                modalities = []
            seen.add(code)
            found.append(Reason(code, name, str(entry.get("name_en", "")).strip()[:100], tuple(modalities)))
        return tuple(found)

    def minutes(name: str, default: int) -> int:
        given = value.get(name, default)
        if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= MOST_MINUTES:
            fields[name] = _("应为 0 到 {most} 之间的整数分钟").format(most=MOST_MINUTES)
            return default
        return given

    questions = value.get("questions", list(DEFAULTS.questions))
    if not isinstance(questions, list) or len(questions) > MAX_REASONS:
        fields["questions"] = _("格式不对")
        questions = []
    found = Conversation(
        retake=reasons("retake", DEFAULTS.retake),
        decline=reasons("decline", DEFAULTS.decline),
        questions=tuple(str(one).strip()[:200] for one in questions if str(one).strip()),
        keep_minutes=minutes("keep_minutes", DEFAULTS.keep_minutes),
        keep_minutes_emergency=minutes("keep_minutes_emergency", DEFAULTS.keep_minutes_emergency),
    )
    if fields:
        raise Invalid(fields=fields)
    return found


def change(session: Session, actor: Actor, value: Mapping[str, Any]) -> Conversation:
    """Replace the county's rules. Codes that exams name already keep their name there: it is written with them.

    Raises:
        Invalid: See `parse`.
    """
    found = parse(value)
    row = session.get(CountySetting, SETTING)
    if row is None:
        row = CountySetting(name=SETTING, value={}, changed_at=clock.now(), changed_by=actor.id)
        session.add(row)
    row.value, row.changed_at, row.changed_by = to_json(found), clock.now(), actor.id
    session.flush()
    session.info[SETTING] = found
    audit.record(session, actor, "conversation.settings", "county_setting", SETTING)
    return found
