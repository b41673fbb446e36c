"""What can be asked for: modalities, body parts, priorities, encounters, and phrases for the history. Data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy.orm import Session

from hub.kit.i18n import Message, _
from hub.sites.models import CountySetting

PRIORITIES: dict[str, Message] = {"emergency": _("急诊"), "urgent": _("加急"), "routine": _("常规")}
PRIORITY_RANKS: dict[str, int] = {"emergency": 0, "urgent": 1, "routine": 2}

ENCOUNTERS: dict[str, Message] = {
    "outpatient": _("门诊"),
    "emergency": _("急诊"),
    "inpatient": _("住院"),
    "checkup": _("体检"),
}

ENCOUNTER_NUMBERS: dict[str, Message] = {
    "outpatient": _("门诊号"),
    "emergency": _("急诊号"),
    "inpatient": _("住院号"),
    "checkup": _("体检号"),
}

SEXES: dict[str, Message] = {"M": _("男"), "F": _("女"), "O": _("其他")}

MODALITIES: dict[str, Message] = {
    "CT": _("CT"),
    "DX": _("X 线摄影"),
    "MG": _("乳腺摄影"),
    "RF": _("透视造影"),
    "US": _("超声"),
    "MR": _("磁共振"),
    "OT": _("其他"),
}
"""Requested modality; DR and CR belong to DX."""

IONISING = frozenset({"CT", "DX", "MG", "RF"})

_FAMILIES: dict[str, str] = {
    "CT": "CT",
    "PT": "CT",
    "DX": "DX",
    "DR": "DX",
    "CR": "DX",
    "RG": "DX",
    "PX": "DX",
    "IO": "DX",
    "DG": "DX",
    "MG": "MG",
    "RF": "RF",
    "XA": "RF",
    "XC": "OT",
    "US": "US",
    "IVUS": "US",
    "MR": "MR",
}


@dataclass(frozen=True, slots=True)
class BodyPart:
    """A body part as requested.

    Attributes:
        code: As in Exam.body_parts.
        name: For people.
        pregnancy: Whether an exposure reaches the uterus, so that the question is due.
        sex: "M" or "F" where only one has it, else "".
        terms: What BodyPartExamined (0018,0015; PS3.16 Annex L) and descriptions say, in capitals.
    """

    code: str
    name: Message
    pregnancy: bool = False
    sex: str = ""
    terms: tuple[str, ...] = ()


BODY_PARTS: dict[str, BodyPart] = {
    part.code: part
    for part in (
        BodyPart("head", _("头颅"), terms=("HEAD", "BRAIN", "SKULL", "头")),
        BodyPart(
            "face", _("面部/鼻窦"), terms=("FACE", "SINUS", "ORBIT", "JAW", "NOSE", "EAR", "鼻", "眼", "颌", "耳")
        ),
        BodyPart("neck", _("颈部"), terms=("NECK", "THYROID", "LARYNX", "颈部")),
        BodyPart("chest", _("胸部"), terms=("CHEST", "THORAX", "LUNG", "胸", "肺")),
        BodyPart("ribs", _("肋骨/胸骨"), terms=("RIB", "STERNUM", "肋")),
        BodyPart("heart", _("心脏/冠脉"), terms=("HEART", "CORONARY", "心")),
        BodyPart("breast", _("乳腺"), terms=("BREAST", "乳")),
        BodyPart(
            "abdomen", _("腹部"), pregnancy=True, terms=("ABDOMEN", "ABD", "LIVER", "KIDNEY", "KUB", "腹", "肝", "肾")
        ),
        BodyPart("pelvis", _("骨盆/盆腔"), pregnancy=True, terms=("PELVIS", "BLADDER", "UTERUS", "盆")),
        BodyPart("spine_cervical", _("颈椎"), terms=("CSPINE", "CERVICAL", "颈椎")),
        BodyPart("spine_thoracic", _("胸椎"), terms=("TSPINE", "THORACIC", "胸椎")),
        BodyPart(
            "spine_lumbar",
            _("腰椎/骶尾椎"),
            pregnancy=True,
            terms=("LSPINE", "LUMBAR", "SSPINE", "SACRUM", "COCCYX", "腰", "骶", "尾椎"),
        ),
        BodyPart("shoulder", _("肩关节"), terms=("SHOULDER", "CLAVICLE", "SCAPULA", "肩", "锁骨")),
        BodyPart("upper_limb", _("上肢"), terms=("ARM", "HUMERUS", "FOREARM", "ELBOW", "UP_EXM", "上肢", "肘", "臂")),
        BodyPart("hand", _("手/腕"), terms=("HAND", "WRIST", "FINGER", "THUMB", "手", "腕", "指")),
        BodyPart("hip", _("髋关节"), pregnancy=True, terms=("HIP", "髋")),
        BodyPart(
            "lower_limb",
            _("下肢"),
            terms=("LEG", "FEMUR", "TIBIA", "EXTREMITY", "LOW_EXM", "下肢", "腿", "股骨", "小腿"),
        ),
        BodyPart("knee", _("膝关节"), terms=("KNEE", "PATELLA", "膝")),
        BodyPart("foot", _("足/踝"), terms=("FOOT", "ANKLE", "TOE", "CALCANEUS", "HEEL", "足", "踝", "趾", "跟骨")),
        BodyPart("whole", _("全身/其他"), pregnancy=True, terms=("WHOLEBODY", "WHOLE")),
    )
}

PREGNANCY: dict[str, Message] = {
    "no": _("未怀孕"),
    "possible": _("可能怀孕"),
    "yes": _("已怀孕"),
    "unknown": _("无法询问"),
}

PREGNANCY_AGES = (11, 55)
"""Years, both included, between which the question is asked."""


def modality_family(modality: str) -> str:
    """The requested modality that a DICOM Modality (0008,0060) belongs to: CR, DR and DX are "DX"; else "OT"."""
    return _FAMILIES.get(modality.strip().upper(), "OT")


def body_part_of(text: str) -> str | None:
    """The body part that BodyPartExamined or a description names; None where it names none of ours."""
    found = re.sub(r"[^A-Z_一-鿿]", "", text.upper())
    if not found:
        return None
    best: tuple[int, str] | None = None
    for part in BODY_PARTS.values():
        for term in part.terms:
            if term in found and (best is None or len(term) > best[0]):
                best = (len(term), part.code)
    return best[1] if best else None


def pregnancy_applies(sex: str, age_years: int | None, modality: str, body_parts: list[str]) -> bool:
    """Whether the question about pregnancy is due: ionising, abdomen or pelvis in the beam, a woman of that age."""
    if sex == "M" or modality not in IONISING:
        return False
    if age_years is not None and not PREGNANCY_AGES[0] <= age_years <= PREGNANCY_AGES[1]:
        return False
    return any(BODY_PARTS[code].pregnancy for code in body_parts if code in BODY_PARTS)


def years_between(born: date, day: date) -> int:
    """Completed years of age."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


DEFAULT_PHRASES: dict[str, list[str]] = {
    "common": [
        "外伤后疼痛",
        "发热",
        "体检",
        "复查",
        "术后复查",
        "高血压病史",
        "糖尿病史",
        "肿瘤病史",
        "既往体健",
    ],
    "head": ["头痛", "头晕", "突发肢体无力", "言语不清", "意识障碍", "头部外伤", "呕吐", "抽搐"],
    "chest": ["咳嗽咳痰", "胸痛", "胸闷气促", "咯血", "肺结节复查", "结核病史", "吸烟史"],
    "abdomen": ["腹痛", "腹胀", "恶心呕吐", "停止排气排便", "血尿", "黄疸", "腹部外伤"],
    "spine": ["腰背痛", "颈肩痛", "下肢麻木", "活动受限", "跌倒致伤"],
    "limb": ["跌倒致伤", "肿胀", "压痛", "活动受限", "畸形", "骨折复查", "异物扎伤"],
}
"""One-tap phrases for the history by region; the county changes them in the setting `history_phrases`."""

REGIONS: dict[str, str] = {
    "head": "head",
    "face": "head",
    "neck": "head",
    "chest": "chest",
    "ribs": "chest",
    "heart": "chest",
    "breast": "chest",
    "abdomen": "abdomen",
    "pelvis": "abdomen",
    "spine_cervical": "spine",
    "spine_thoracic": "spine",
    "spine_lumbar": "spine",
    "shoulder": "limb",
    "upper_limb": "limb",
    "hand": "limb",
    "hip": "limb",
    "lower_limb": "limb",
    "knee": "limb",
    "foot": "limb",
}
"""Which group of phrases fits a body part."""


def phrases(session: Session) -> dict[str, list[str]]:
    """The county's phrases by region, or the defaults."""
    row = session.get(CountySetting, "history_phrases")
    value: Any = row.value if row is not None else None
    if not isinstance(value, dict):
        return DEFAULT_PHRASES
    found = {str(group): [str(text) for text in texts] for group, texts in value.items() if isinstance(texts, list)}
    return found or DEFAULT_PHRASES
