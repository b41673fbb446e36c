"""What images are judged by: grades, and reasons by modality. Data."""

from __future__ import annotations

from dataclasses import dataclass

from hub.kit.i18n import Message, _

GRADES: dict[str, Message] = {"A": _("甲级"), "B": _("乙级"), "C": _("丙级"), "reject": _("废片")}
"""The best first."""

GRADE_NOTES: dict[str, Message] = {
    "A": _("体位、范围、曝光都好,无伪影"),
    "B": _("有小缺点,不影响诊断"),
    "C": _("缺点明显,勉强可以诊断"),
    "reject": _("不能诊断,应退回重拍"),
}

ARTEFACTS: dict[str, Message] = {"none": _("无伪影"), "some": _("有伪影"), "bad": _("严重伪影")}
"""`bad` counts in the national indicator of CT and MR."""

INDICATOR_MODALITIES = frozenset({"CT", "MR"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an image is not of the best grade.

    Attributes:
        name: For people.
        advice: What the clinic does better next time.
        modalities: Requested modalities that it may be said of; empty: all.
        artefact: Whether it is an artefact.
    """

    name: Message
    advice: Message
    modalities: frozenset[str] = frozenset()
    artefact: bool = False


_X = frozenset({"DX", "MG", "RF"})
_CT = frozenset({"CT"})
_MR = frozenset({"MR"})
_SECTION = _CT | _MR

REASONS: dict[str, Reason] = {
    "position": Reason(_("体位不正"), _("按体位规范摆位,照前再看一次左右是否对称")),
    "coverage": Reason(_("范围不全"), _("扩大照射或扫描范围,包全要求的部位与相邻关节")),
    "motion": Reason(_("运动模糊"), _("嘱患者不动,缩短曝光时间,必要时固定"), artefact=True),
    "breath": Reason(
        _("呼吸配合差"), _("照前练习屏气,看到胸廓不动再曝光"), frozenset({"CT", "MR", "DX"}), artefact=True
    ),
    "foreign": Reason(_("体外异物"), _("照前取下饰物、纽扣、膏药、文胸"), artefact=True),
    "identity": Reason(_("标识缺失或错误"), _("核对姓名、左右标记和日期后再发送")),
    "under": Reason(_("曝光不足"), _("按体厚加大条件,检查探测器剂量指数"), _X),
    "over": Reason(_("曝光过度"), _("按体厚减小条件,检查探测器剂量指数"), _X),
    "rotation": Reason(_("身体旋转"), _("使两侧锁骨胸骨端或髂骨对称"), frozenset({"DX"})),
    "scapula": Reason(_("肩胛骨重叠肺野"), _("双肩前旋,手背叉腰"), frozenset({"DX"})),
    "projection": Reason(_("投照角度不当"), _("中心线对准、垂直于要求的关节或椎间隙"), _X),
    "collimation": Reason(_("照射野过大"), _("把光野缩到需要的部位,减少散射和剂量"), _X),
    "grid": Reason(_("滤线栅伪影"), _("检查滤线栅位置与焦距"), frozenset({"DX"}), artefact=True),
    "detector": Reason(_("探测器坏点或残影"), _("做探测器校准,仍有则报修"), _X, artefact=True),
    "noise": Reason(_("噪声过大"), _("加大管电流或信号平均次数,用合适的重建算法"), _SECTION),
    "beam": Reason(_("线束硬化或金属伪影"), _("取下可取的金属,用去金属算法或改变倾角"), _CT, artefact=True),
    "ring": Reason(_("环状伪影"), _("做空气校准,仍有则报修"), _CT, artefact=True),
    "window": Reason(_("重建或窗宽窗位不当"), _("同时发送肺窗与纵隔窗(或骨窗)重建"), _CT),
    "thickness": Reason(_("层厚过大"), _("发送薄层重建(≤ 1.5 mm)"), _SECTION),
    "contrast": Reason(_("增强时相不当"), _("按体重和心率设定延迟时间,用追踪触发"), _SECTION),
    "metal": Reason(_("金属伪影"), _("取下金属物,改用对金属不敏感的序列"), _MR, artefact=True),
    "wrap": Reason(_("卷褶伪影"), _("加大视野或过采样"), _MR, artefact=True),
    "compression": Reason(_("压迫不足"), _("压迫到皮肤绷紧、患者可以忍受"), frozenset({"MG"})),
    "gain": Reason(_("增益或深度不当"), _("调好增益、深度和焦点再冻结"), frozenset({"US"})),
    "other": Reason(_("其他(写在说明里)"), _("见说明")),
}
"""By code, in the order in which they are shown."""


def reasons_for(modality: str) -> dict[str, Reason]:
    """The reasons that may be said of a modality's images."""
    return {code: reason for code, reason in REASONS.items() if not reason.modalities or modality in reason.modalities}
