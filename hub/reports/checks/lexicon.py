"""Words of radiology reports: lesions, organs and where they lie, critical values; and how to find them in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from hub.reports.checks.text import Document, SideWord, Status, lexicon, side_of, side_words, terms, within

# --- lesions --------------------------------------------------------------------------------------------------------

LESIONS: dict[str, tuple[str, ...]] = {
    "fracture": terms("""骨折 | 骨折线 | 骨皮质不连续 | 骨质不连续 | 骨皮质连续性中断 | 骨质连续性中断 | 骨皮质中断 |
        fracture | fractures | cortical disruption | cortical break"""),
    "dislocation": terms("脱位 | dislocation | dislocations | subluxation"),
    "pneumothorax": terms("气胸 | 液气胸 | 血气胸 | pneumothorax | pneumothoraces | hydropneumothorax"),
    "effusion": terms("积液 | 胸水 | 腹水 | 积血 | effusion | effusions | ascites"),
    "stone": terms("""结石 | 结石影 | calculus | calculi | stone | stones | gallstone | gallstones | cholelithiasis |
        nephrolithiasis | urolithiasis"""),
    "hydronephrosis": terms("积水 | hydronephrosis | hydroureteronephrosis"),
    "nodule": terms("结节 | 结节影 | nodule | nodules"),
    "mass": terms("肿块 | 占位 | 肿物 | 肿瘤 | 团块影 | mass | masses | tumor | tumour | neoplasm"),
    "cyst": terms("囊肿 | 囊性灶 | 囊性病变 | cyst | cysts"),
    "inflammation": terms("""炎症 | 肺炎 | 感染 | 炎 | pneumonia | infection | appendicitis |
        sinusitis | cholecystitis | pancreatitis"""),
    "consolidation": terms("实变 | consolidation | consolidations"),
    "haemorrhage": terms("出血 | 血肿 | 积血 | hemorrhage | haemorrhage | hematoma | haematoma"),
    "infarct": terms("梗死 | 梗死灶 | 脑梗 | infarct | infarcts | infarction"),
}
"""Kind of lesion → its words. What is in neither list is no lesion that the checks know."""

# Longer words that hold a lesion's word and are none.
_NO_LESION = terms("""
    结节状 | 小结节状 | 结节样 | 结石样 | 团块状 | 消炎 | 抗炎 | 炎性反应 | 肿块型 | 占位效应 | mass effect |
    抗感染 | 感染科 | 囊肿样 | 肿瘤病史 | 炎症指标 | 抗肿瘤
""")
ABNORMAL = terms("""
    斑片影 | 片状影 | 片影 | 渗出 | 渗出影 | 密度增高影 | 高密度影 | 低密度影 | 磨玻璃影 | 团块状 | 充盈缺损 |
    气液平面 | 游离气体 | 断端 | 骨质破坏 | 透亮区 | 透亮影 | 软组织密度影 | 混杂密度影 | 异常信号 | 异物影 |
    opacity | opacities | hyperdensity | hypodensity | filling defect | filling defects | free air | lucency |
    airspace disease | infiltrate | infiltrates | atelectasis | collection | air bronchogram | air bronchograms
""")
"""How findings describe a lesion without calling it by its name."""

# --- organs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Organ:
    """Where an organ lies: a group of body parts of hub.exams.catalogue in which a report may speak of it."""

    words: tuple[str, ...]
    parts: frozenset[str]
    inner: bool = False
    """Whether no report of a limb speaks of it."""


def _organ(words: str, parts: str, *, inner: bool = False) -> Organ:
    return Organ(terms(words), frozenset(parts.split()), inner)


_TRUNK = "chest abdomen pelvis ribs heart spine_thoracic spine_lumbar"
ORGANS: dict[str, Organ] = {
    "brain": _organ(
        """脑 | 大脑 | 小脑 | 脑干 | 脑室 | 脑实质 | 脑沟 | 基底节 | 基底节区 | 额叶 | 颞叶 | 顶叶 | 枕叶 |
        丘脑 | 颅内 |
        颅脑 | 内板下 | 额颞 | 额颞顶 | 颞顶 | 颞顶部 | 额顶 | 颞部 | 额部 | 硬膜下 | 硬膜外 | 蛛网膜下腔 | 放射冠 |
        brain | cerebral | intracranial | ventricles | cerebellum | frontal lobe | parietal lobe | temporal lobe |
        basal ganglia | thalamus | subdural | epidural | subarachnoid""",
        "head face neck", inner=True,
    ),
    "sinus": _organ("鼻窦 | 上颌窦 | 筛窦 | 额窦 | 蝶窦 | maxillary sinus | "
    "paranasal sinuses", "head face neck", inner=True),
    "thyroid": _organ("甲状腺 | thyroid", "neck chest spine_cervical"),
    "lung": _organ(
        """肺 | 双肺 | 肺野 | 肺纹理 | 肺门 | 肺叶 | 肺下叶 | 肺上叶 | 支气管 | lung | lungs | pulmonary |
        upper lobe |
        lower lobe | middle lobe | bibasilar | lingula""",
        "chest ribs heart abdomen neck breast spine_thoracic shoulder", inner=True,
    ),
    "pleura": _organ(
        "胸腔 | 胸膜 | 肋膈角 | 胸水 | 气胸 | pleural | costophrenic | pneumothorax",
        "chest ribs heart abdomen breast spine_thoracic shoulder", inner=True,
    ),
    "heart": _organ(
        "心影 | 心脏 | 心包 | 心腔 | cardiac | heart | pericardial | "
        "cardiomediastinal", _TRUNK + " breast", inner=True
    ),
    "mediastinum": _organ("纵隔 | mediastinum | mediastinal", _TRUNK + " neck breast", inner=True),
    "aorta": _organ("主动脉 | aorta | aortic", _TRUNK + " neck"),
    "rib": _organ("肋骨 | 肋 | rib | ribs", _TRUNK + " shoulder neck breast"),
    "liver": _organ("肝 | 肝脏 | 肝内 | 肝右叶 | 肝左叶 | liver | hepatic", _TRUNK, inner=True),
    "gallbladder": _organ("胆囊 | gallbladder", _TRUNK, inner=True),
    "duct": _organ("胆管 | 胆总管 | bile duct | biliary", _TRUNK, inner=True),
    "pancreas": _organ("胰腺 | 胰 | pancreas | pancreatic", _TRUNK, inner=True),
    "spleen": _organ("脾 | 脾脏 | spleen | splenic", _TRUNK, inner=True),
    "kidney": _organ("肾 | 双肾 | 肾盂 | kidney | kidneys | renal", _TRUNK, inner=True),
    "adrenal": _organ("肾上腺 | adrenal | adrenals", _TRUNK, inner=True),
    "ureter": _organ("输尿管 | ureter | ureteral", _TRUNK, inner=True),
    "bladder": _organ("膀胱 | urinary bladder", "abdomen pelvis hip spine_lumbar", inner=True),
    "appendix": _organ("阑尾 | appendix", "abdomen pelvis spine_lumbar", inner=True),
    "bowel": _organ("肠管 | 结肠 | 小肠 | 回盲部 | bowel | colon", _TRUNK, inner=True),
    "peritoneum": _organ("腹腔 | 盆腔 | 腹水 | abdominal cavity | peritoneal | ascites", _TRUNK + " hip", inner=True),
    "uterus": _organ("子宫 | 宫腔 | uterus | uterine", "abdomen pelvis hip spine_lumbar", inner=True),
    "adnexa": _organ("附件区 | 卵巢 | ovary | ovaries | adnexal", "abdomen pelvis hip spine_lumbar", inner=True),
    "prostate": _organ("前列腺 | 精囊 | prostate", "abdomen pelvis hip spine_lumbar", inner=True),
    "cervical": _organ("颈椎 | cervical spine", "spine_cervical neck head face chest shoulder spine_thoracic"),
    "thoracic": _organ("胸椎 | "
    "thoracic spine", "spine_thoracic chest ribs heart abdomen spine_cervical spine_lumbar"),
    "lumbar": _organ("腰椎 | 骶椎 | lumbar spine", "spine_lumbar abdomen pelvis hip spine_thoracic"),
    "shoulder": _organ("肩关节 | 肩胛骨 | 锁骨 | 肱骨头 | shoulder | clavicle | "
    "scapula", "shoulder upper_limb chest ribs neck"),
    "upper_arm": _organ("肱骨 | humerus", "shoulder upper_limb chest ribs"),
    "elbow": _organ("肘关节 | 尺骨鹰嘴 | elbow | olecranon", "upper_limb hand"),
    "forearm": _organ("桡骨 | 尺骨 | 尺桡骨 | radius | ulna", "upper_limb hand"),
    "hand": _organ("掌骨 | 指骨 | 腕关节 | 腕骨 | metacarpal | metacarpals | wrist | scaphoid", "hand upper_limb"),
    "hip": _organ("髋关节 | 股骨颈 | 股骨头 | 髋臼 | 耻骨 | hip joint | femoral neck | "
    "acetabulum", "hip pelvis lower_limb abdomen spine_lumbar"),
    "thigh": _organ("股骨 | femur | femoral shaft", "hip pelvis lower_limb knee abdomen"),
    "knee": _organ("膝关节 | 髌骨 | 胫骨平台 | 髁间隆突 | 半月板 | knee | patella | "
    "tibial plateau", "knee lower_limb"),
    "leg": _organ("胫骨 | 腓骨 | 胫腓骨 | tibia | fibula", "knee lower_limb foot"),
    "foot": _organ("踝关节 | 踝穴 | 跗骨 | 跟骨 | 跖骨 | 趾骨 | 距骨 | 足 | ankle | calcaneus | metatarsal | "
    "tarsal", "foot lower_limb"),
}  # fmt: skip

FAMILIES: dict[str, str] = {
    "pleura": "thorax", "lung": "thorax", "upper_arm": "arm", "hand": "arm", "elbow": "arm", "forearm": "arm",
    "ureter": "urinary", "kidney": "urinary", "gallbladder": "biliary", "duct": "biliary",
}  # fmt: skip
"""Organs whose lesions are told by one another's words: a stone in the ureter, water in the kidney."""

LIMBS = frozenset({"shoulder", "upper_limb", "hand", "hip", "lower_limb", "knee", "foot"})
PAIRED = LIMBS | {"breast"}
"""Parts of which a person has two, so that an exam has a side."""

_DEFAULT_ORGAN = {"pneumothorax": "pleura"}


def _index(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, words in table.items():
        for word in words:
            found.setdefault(word, key)
    return found


_LESION_OF = {
    **dict.fromkeys(ABNORMAL, "abnormal"),
    **_index(LESIONS),
    **dict.fromkeys(_NO_LESION, ""),
    "团块状": "abnormal",
}
_ORGAN_OF = _index({code: organ.words for code, organ in ORGANS.items()})
# Words that hold an organ's word and are another thing.
_NO_ORGAN = terms("""
    肺癌 | 肝癌 | 肾癌 | 胃癌 | 结肠癌 | 乳腺癌 | 前列腺癌 | 甲状腺癌 | 肺动脉 | 肺栓塞 | 脑脊液 | 足够 |
    不足 | 充足 |
    肋膈角 | 肺结核病史 | 心肺膈 | 前列腺素 | 肝素 | 脾气 | 满足 | 足月 | 手足
""")
for _word in _NO_ORGAN:
    _ORGAN_OF.setdefault(_word, "")
_LESIONS = lexicon(_LESION_OF)
_ORGANS = lexicon(_ORGAN_OF)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Named:
    """An organ where a text names it."""

    start: int
    end: int
    organ: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A lesion where a text names it.

    Attributes:
        kind: A key of LESIONS, or "abnormal" for what is described and not called by a name.
        status: What the text says of it.
        side: "L", "R", "B", or empty.
        organ: A key of ORGANS, or empty.
        rest: Whether it is spoken of as what remains beside something else ("余未见骨折", "no other fracture").
    """

    start: int
    end: int
    kind: str
    status: Status
    side: str
    organ: str
    rest: bool

    @property
    def said(self) -> bool:
        """Whether it is or may be there."""
        return self.status in (Status.PRESENT, Status.DOUBTED)


_WELL = re.compile(r"未见|无|正常|清晰|完整|通畅|良好|(?<![a-z])(?:no|not|without|clear|normal|unremarkable)(?![a-z])")
_MOST_MENTIONS = 300
"""Lesions in one text; what names more is no report."""
_REST = re.compile(
    r"余|其他|其它|新发|新鲜|新近|另未|(?<![a-z])(?:other|new|additional|further|another|displaced|suspicious|large)(?![a-z])"
)


class Reading:
    """A document with what it names."""

    def __init__(self, document: Document) -> None:
        self.document = document

    @cached_property
    def sides(self) -> list[SideWord]:
        """Words for a side."""
        return side_words(self.document)

    @cached_property
    def organs(self) -> list[Named]:
        """Organs, in order."""
        found = []
        for m in _ORGANS.finditer(self.document.plain):
            organ = _ORGAN_OF[_SPACE.sub(" ", m[0])]
            if organ:
                found.append(Named(m.start(), m.end(), organ))
        return found

    @cached_property
    def mentions(self) -> list[Mention]:
        """Lesions, in order."""
        found = []
        for m in _LESIONS.finditer(self.document.plain):
            kind = _LESION_OF[_SPACE.sub(" ", m[0])]
            if kind:
                found.append(self._mention(kind, m.start(), m.end()))
            if len(found) >= _MOST_MENTIONS:
                break
        return found

    @cached_property
    def troubled(self) -> frozenset[tuple[str, str]]:
        """Organs with a side of which the text says anything but good, in whatever words."""
        found: set[tuple[str, str]] = set()
        for word in self.sides:
            left, right = self.document.clause_at(word.start, word.end)
            if _WELL.search(self.document.plain, left, right):
                continue
            sentence = self.document.sentence_at(word.start)
            there = (one.organ for one in within(self.organs, sentence) if left <= one.start < right)
            found.update((organ, word.side) for organ in there)
        return frozenset(found)

    def _mention(self, kind: str, start: int, end: int) -> Mention:
        document = self.document
        word = side_of(document, self.sides, start, end)
        sentence = document.sentence_at(start)
        return Mention(
            start,
            end,
            kind,
            document.status(start, end),
            word.side if word else "",
            self.organ_of(start, end) or _DEFAULT_ORGAN.get(kind, ""),
            bool(_REST.search(document.plain, max(sentence.start, start - 30), start)),
        )

    def organ_of(self, start: int, end: int) -> str:
        """The organ that a passage speaks of: the nearest before it in its sentence, else the first after it."""
        sentence = self.document.sentence_at(start)
        left, right = self.document.clause_at(start, end)
        inside = within(self.organs, sentence)
        before = [one for one in inside if one.start <= start]
        if before and before[-1].end > left:
            return before[-1].organ
        after = [one for one in inside if one.start >= end and one.start < right]
        latin = self.document.plain[start : start + 1].isascii()
        if after and latin:
            return after[0].organ
        if before:
            return before[-1].organ
        return ""


def same_place(first: str, second: str) -> bool:
    """Whether two organs may be one place; one that is not named may be anywhere."""
    if not first or not second or first == second:
        return True
    return first in FAMILIES and FAMILIES.get(first) == FAMILIES.get(second)


def opposite(first: str, second: str) -> bool:
    """Whether one is left and the other right."""
    return {first, second} == {"L", "R"}


_NORMAL = re.compile(
    r"未见(?:明显|明确|确切|显著)?(?:的)?(?:急性|外伤性)?异常|未见(?:明显|明确)?病变|(?<!不)正常|无异常|无明显异常"
    r"|no\s+(?:acute\s+|significant\s+|definite\s+)?(?:\w+\s+){0,2}abnormalit\w+|unremarkable"
    r"|(?<![a-z])normal(?![a-z])"
)
_NUMBER = re.compile(r"^\s*\(?\d{1,2}\s*[.、,)]?\s*")


def all_normal(reading: Reading) -> bool:
    """Whether an impression says that all is well, and nothing else: each sentence denies, and one calls normal."""
    document = reading.document
    normal = False
    for sentence in document.sentences:
        said = _NUMBER.sub("", document.plain[sentence.start : sentence.end]).strip(" 。;.!\n\t")
        if not said:
            continue
        inside = [m for m in reading.mentions if sentence.start <= m.start < sentence.end]
        if any(m.said or m.status is Status.PAST for m in inside):
            return False
        if _REST.search(said) or "考虑" in said or ("建议" in said and not _NORMAL.search(said)):
            return False
        denied = bool(inside) and all(m.status is Status.ABSENT for m in inside)
        if not (_NORMAL.search(said) or denied):
            return False
        normal = normal or bool(_NORMAL.search(said))
    return normal


# --- critical values ------------------------------------------------------------------------------------------------

CRITICAL: dict[str, tuple[str, ...]] = {
    "pulmonary_embolism": terms("""
        肺动脉栓塞 | 肺栓塞 | 肺动脉血栓栓塞 | 肺血栓栓塞 | pulmonary embolism | pulmonary emboli |
        pulmonary embolus |
        pulmonary thromboembolism"""),
    "aortic": terms("""
        主动脉夹层 | 主动脉破裂 | 主动脉瘤破裂 | 夹层动脉瘤 | 主动脉壁间血肿 | aortic dissection | aortic rupture |
        ruptured aortic aneurysm | intramural hematoma | ruptured aneurysm"""),
    "tamponade": terms("心包填塞 | 心包压塞 | 心脏压塞 | cardiac tamponade | pericardial tamponade | tamponade"),
    "pneumothorax": terms("""
        张力性气胸 | 大量血气胸 | 大量液气胸 | 大量气胸 | 大量血胸 | 张力性液气胸 | tension pneumothorax |
        large hemopneumothorax | massive hemothorax | large hemothorax"""),
    "airway_foreign_body": terms("""
        气管异物 | 主支气管异物 | 支气管异物 | 气道异物 | 喉异物 | airway foreign body | tracheal foreign body |
        bronchial foreign body"""),
    "cerebral_infarction": terms("""
        急性脑梗死 | 急性脑梗塞 | 急性大面积脑梗死 | 大面积脑梗死 | 新发脑梗死 | 超急性脑梗死 | 超急性期脑梗死 |
        急性期脑梗死 | 急性梗死 | 新鲜脑梗死 | acute infarct | acute infarction | acute ischemic stroke |
        acute cerebral infarction | acute ischaemic stroke"""),
    "cerebral_haemorrhage": terms("""
        脑出血 | 颅内出血 | 基底节出血 | 基底节区出血 | 丘脑出血 | 小脑出血 | 脑干出血 | 脑室出血 | 脑叶出血 |
        脑室积血 |
        脑内血肿 | 颅内血肿 | 脑血肿 | intracranial hemorrhage | cerebral hemorrhage | intracerebral hemorrhage |
        intraparenchymal hemorrhage | intraventricular hemorrhage | intracranial haemorrhage |
        intracerebral hematoma"""),
    "epidural_subdural": terms("""
        硬膜外血肿 | 硬膜下血肿 | 硬脑膜下血肿 | 硬脑膜外血肿 | 硬膜下出血 | 硬膜外出血 | subdural hematoma |
        epidural hematoma | extradural hematoma | subdural hemorrhage | epidural hemorrhage | subdural haematoma"""),
    "subarachnoid": terms("蛛网膜下腔出血 | subarachnoid hemorrhage | subarachnoid haemorrhage"),
    "herniation": terms("""
        脑疝 | 沟回疝 | 钩回疝 | 大脑镰下疝 | 小脑扁桃体疝 | 天幕疝 | 小脑幕切迹疝 | 枕骨大孔疝 | brain herniation |
        uncal herniation | subfalcine herniation | tonsillar herniation | transtentorial herniation"""),
    "perforation": terms("""
        消化道穿孔 | 胃肠穿孔 | 胃穿孔 | 肠穿孔 | 空腔脏器穿孔 | 十二指肠穿孔 | 膈下游离气体 | 胃肠道穿孔 |
        perforated viscus |
        bowel perforation | gastrointestinal perforation | pneumoperitoneum | free intraperitoneal air"""),
    "organ_rupture": terms("""
        脾破裂 | 肝破裂 | 肾破裂 | 脏器破裂 | 肝脏破裂 | 脾脏破裂 | 胰腺断裂 | 膀胱破裂 | splenic rupture |
        liver rupture |
        splenic laceration | hepatic laceration | ruptured spleen"""),
    "strangulation": terms("""
        绞窄性肠梗阻 | 肠绞窄 | 闭袢性肠梗阻 | 绞窄性梗阻 | 绞窄疝 | strangulated bowel obstruction |
        strangulated obstruction |
        strangulated hernia | closed-loop obstruction"""),
}  # fmt: skip
"""The thirteen national classes (codes of hub.reports.critical.classes) by their words in reports."""

CRITICAL_OF = _index(CRITICAL)
CRITICAL_WORDS = lexicon(CRITICAL_OF)
