"""Organs against the person and the exam: sex, body part, method, and what was removed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hub.exams.catalogue import BODY_PARTS
from hub.kit.i18n import Message, _
from hub.reports.checks.core import Finding, Report, Source
from hub.reports.checks.lexicon import LIMBS, ORGANS
from hub.reports.checks.text import Document, Status, lexicon, terms

# --- sex ------------------------------------------------------------------------------------------------------------

_OF_WOMEN = lexicon(
    terms("""
    子宫 | 双侧附件 | 双附件 | 左侧附件 | 右侧附件 | 左附件 | 右附件 | 附件区 | 卵巢 | 宫颈 | 宫腔 | 阴道 |
    输卵管 | 节育环 |
    uterus | uterine | ovary | ovaries | ovarian | adnexa | adnexal | endometrium | endometrial | vagina |
    fallopian""")
)
_OF_MEN = lexicon(
    terms("""
    前列腺 | 精囊 | 睾丸 | 阴茎 | 附睾 | 精索 | prostate | prostatic | seminal vesicle | seminal vesicles | testis |
    testes | testicular | scrotum | penis""")
)
_SPINE = re.compile(r"椎|棘突|骨质")
_NOT_MEANT = re.compile(r"前列腺素|家族|母亲|父亲|姐|妹|family|mother|sister|father|brother")
_SEXES: dict[str, Message] = {"M": _("男"), "F": _("女")}


def sex(report: Report) -> Iterable[Finding]:
    """An organ that the patient's sex does not have."""
    words = {"M": _OF_WOMEN, "F": _OF_MEN}.get(report.facts.sex)
    if words is None:
        return
    for name in ("findings", "impression", "technique", "recommendation"):
        document = report[name]
        for m in words.finditer(document.plain):
            sentence = document.sentence_at(m.start())
            around = document.plain[sentence.start : sentence.end]
            if _NOT_MEANT.search(around) or ("附件" in m[0] and _SPINE.search(around)):
                continue
            yield report.finding(
                "sex-organ",
                name,
                m.span(),
                _("患者为{sex}性,报告写有“{organ}”").format(
                    sex=_SEXES[report.facts.sex], organ=document.text[m.start() : m.end()]
                ),
                _("登记的性别与文字中的器官不符:可能用错模板或患者。请核对。"),
                source="registration",
            )


# --- body part ------------------------------------------------------------------------------------------------------

_OTHER_THING = re.compile(r"\s*(?:癌|转移|来源|术后|疾病|病史)")


def body_part(report: Report) -> Iterable[Finding]:
    """The findings describe what was not asked for, and nothing of what was."""
    facts = report.facts
    asked = {code for code in facts.body_parts if code in BODY_PARTS}
    if not asked or "whole" in asked or len(asked) != len(facts.body_parts):
        return
    document = report["findings"]
    named = [one for one in report.reading("findings").organs if not _OTHER_THING.match(document.plain, one.end)]
    foreign = [one for one in named if not ORGANS[one.organ].parts & asked]
    fitting = len(named) > len(foreign)
    if asked <= LIMBS:
        foreign = foreign if not fitting else [one for one in foreign if ORGANS[one.organ].inner]
    elif fitting:
        return
    if not foreign:
        return
    one = foreign[0]
    parts = [BODY_PARTS[code].name for code in facts.body_parts]
    yield report.finding(
        "body-part",
        "findings",
        (one.start, one.end),
        _("申请的部位是{part},检查所见写的是“{organ}”").format(part=parts[0], organ=document.text[one.start : one.end]),
        _("检查所见描述的部位与申请的部位不符:可能用错模板、打开了别的检查,或登记有误。请核对。"),
        source="registration",
    )


# --- method ---------------------------------------------------------------------------------------------------------

_METHODS: dict[str, re.Pattern[str]] = {
    "CT": re.compile(r"(?<![a-z])ct(?:平扫|增强|扫描|检查|示|值|a(?![a-z])|\s+scan|\s+of)|(?<![a-z])hu(?![a-z])"),
    "MR": re.compile(r"(?<![a-z])(?:mri|mr|dwi)(?:平扫|增强|扫描|检查|\s+of)?(?![a-z])|t[12]wi|磁共振"
    r"|(?<![a-z])flair(?![a-z])"),
    "DX": re.compile(r"(?:正位|侧位|斜位)片|(?<![a-z])dr(?:摄影|片|平片)|胸片|平片"
    r"|(?<![a-z])radiographs?(?![a-z])|x\s*线(?:摄影|片)"),
    "US": re.compile(r"回声|超声|彩超|(?<![a-z])(?:echogenic|hypoechoic|ultrasound)(?![a-z])"),
}  # fmt: skip
_ELSEWHERE = re.compile(
    r"建议|必要时|对比|对照|比较|结合|前片|旧片|复查|外院|参照|参考|进一步|前次|既往|原|曾|定位|可行|不如|敏感"
    r"|(?<![a-z])(?:recommend\w*|compar\w+|prior|previous|correlat\w+|consider|follow|advise\w*|suggest\w*"
    r"|further|see|ordered|obtained|seen|could|would|needed)(?![a-z])"
)
_METHOD_NAMES: dict[str, Message] = {
    "CT": _("CT"), "MR": _("磁共振"), "DX": _("X 线摄影"), "US": _("超声"),
}  # fmt: skip


def modality(report: Report) -> Iterable[Finding]:
    """The text speaks of a method that was not used."""
    own = report.facts.modality
    if own not in _METHODS:
        return
    for name in ("technique", "findings", "impression"):
        document = report[name]
        for method, pattern in _METHODS.items():
            if method == own:
                continue
            for m in pattern.finditer(document.plain):
                sentence = document.sentence_at(m.start())
                if _ELSEWHERE.search(document.plain, sentence.start, sentence.end):
                    continue
                if document.status(m.start(), m.end()) is Status.MOOT:
                    continue
                yield report.finding(
                    "modality",
                    name,
                    m.span(),
                    _("这是{own}检查,报告写的是{method}").format(own=_METHOD_NAMES[own], method=_METHOD_NAMES[method]),
                    _("文字“{words}”属于另一种检查方法:可能用错模板。请核对。").format(
                        words=document.text[m.start() : m.end()]
                    ),
                    source="registration",
                )
                return


# --- what was removed -----------------------------------------------------------------------------------------------

_REMOVABLE: dict[str, tuple[str, str, str]] = {
    # organ: (its words, words that say that it was removed, words beside which it is not the organ that is meant)
    "gallbladder": (r"胆囊|(?<=、)胆(?=[、,])|肝胆|gallbladder", r"胆囊(?:切除|摘除)|cholecystectomy", r"窝|床|区"),
    "spleen": (r"脾脏?(?!区|曲|窝|门)|spleen", r"脾脏?(?:切除|摘除)|splenectomy", r"副脾"),
    "uterus": (r"子宫(?!区)|uterus", r"子宫(?:全|次全)?切除|子宫全切|hysterectomy", r"附件"),
    "appendix": (r"阑尾(?!区)|appendix", r"阑尾切除|appendectomy|appendicectomy", r"区"),
    "prostate": (r"前列腺(?!区|素)|prostate", r"前列腺(?:全)?切除|前列腺癌根治|prostatectomy", r"电切"),
    "thyroid": (r"甲状腺(?!区|床)|thyroid(?!ectomy)", r"甲状腺(?:全|全部)切(?:除)?|total thyroidectomy", r"叶"),
    "left kidney": (r"左肾(?!上腺|区|窝)|双肾(?!上腺|区)|left kidney|both kidneys"
    r"|kidneys", r"左侧?肾(?:脏)?(?:癌根治性)?切除|left nephrectomy", r""),
    "right kidney": (r"右肾(?!上腺|区|窝)|双肾(?!上腺|区)|right kidney|both kidneys"
    r"|kidneys", r"右侧?肾(?:脏)?(?:癌根治性)?切除|right nephrectomy", r""),
    "bladder": (r"膀胱(?!区)|urinary bladder", r"膀胱(?:全)切除|cystectomy", r""),
    "stomach": (r"胃(?!肠|窦部?切|大部|底)|stomach", r"全胃切除|胃全切|total gastrectomy", r""),
}  # fmt: skip
_GONE = {
    organ: (re.compile(f"(?:{words})"), re.compile(f"(?:{removed})"), re.compile(beside) if beside else None)
    for organ, (words, removed, beside) in _REMOVABLE.items()
}
_ORGAN_NAMES: dict[str, Message] = {
    "gallbladder": _("胆囊"), "spleen": _("脾"), "uterus": _("子宫"), "appendix": _("阑尾"), "prostate": _("前列腺"),
    "thyroid": _("甲状腺"), "left kidney": _("左肾"), "right kidney": _("右肾"), "bladder": _("膀胱"),
    "stomach": _("胃"),
}  # fmt: skip
# Planned, partial, or not done.
_NOT_DONE = re.compile(
    r"拟行?|拟|准备|预约|待行|建议|考虑行|术前|部分|次全|大部|息肉切除|肿瘤切除|囊肿切除|肌瘤|未行?"
    r"|(?<![a-z])(?:scheduled|planned|plan|for|"
    r"before|awaiting|partial|pre-?op\w*|consider|recommend\w*|no|without)(?![a-z])"
)
_AFTER_NOT_DONE = re.compile(r"\s*(?:术前|待|未|planned|scheduled)")
_WELL = re.compile(
    r"正常|未见(?:明显|明确|确切)?(?:异常|增粗|增大|肿大|扩张|积水|结石)|不大|不厚|充盈(?:良好|可)|形态(?:可"
    r"|如常|自然)|均匀|光滑|unremarkable"
    r"|(?<![a-z])normal(?![a-z])|not\s+(?:enlarged|thickened|dilated)|intact"
)
_NOT_WELL = re.compile(r"缺如|阙如|切除|未见显示|未显示|术后|摘除|absent|removed|surgical|ectomy")


def removed(report: Report) -> Iterable[Finding]:
    """An organ that was taken out is called normal."""
    for organ, (words, gone, beside) in _GONE.items():
        source = _removed_where(report, gone)
        if source is None:
            continue
        for name in ("findings", "impression"):
            found = _called_well(report[name], words, beside)
            if found is not None:
                yield report.finding(
                    "removed-organ",
                    name,
                    found,
                    _("{organ}已切除,报告写其正常").format(organ=_ORGAN_NAMES[organ]),
                    _WHERE[source],
                    source=source,
                    other=organ,
                )
                break


_WHERE: dict[Source, Message] = {
    "history": _("临床病史写明该器官已切除。请核对病史与影像,或修改描述。"),
    "prior": _("这位患者既往的报告写明该器官已切除。请核对既往报告与影像,或修改描述。"),
    "text": _("本报告另一处写明该器官已切除,前后矛盾。"),
}


def _removed_where(report: Report, gone: re.Pattern[str]) -> Source | None:
    places: Iterator[tuple[Source, Document]] = iter(
        [
            ("history", report.history),
            *(("prior", document) for document in report.priors),
            *(("text", report[name]) for name in ("findings", "impression", "comparison")),
        ]
    )
    for source, document in places:
        for m in gone.finditer(document.plain):
            left, _right = document.clause_at(m.start(), m.end())
            if not _NOT_DONE.search(document.plain, left, m.start()) and not _AFTER_NOT_DONE.match(
                document.plain, m.end()
            ):
                return source
    return None


def _called_well(document: Document, words: re.Pattern[str], beside: re.Pattern[str] | None) -> tuple[int, int] | None:
    for m in words.finditer(document.plain):
        if beside is not None and beside.search(document.plain, m.end(), m.end() + 3):
            continue
        left, right = document.clause_at(m.start(), m.end())
        sentence = document.sentence_at(m.start())
        if _NOT_WELL.search(document.plain, left, right):
            continue
        # Its description may go on past the comma: "胆囊大小正常,壁不厚"; another organ ends it.
        well = _WELL.search(document.plain, m.end(), min(right, m.end() + 40))
        if well is None and _LISTED.match(document.plain, m.end()):
            well = _WELL.search(document.plain, m.end(), min(sentence.end, m.end() + 40))
        if well is not None:
            return m.start(), well.end()
    return None


_LISTED = re.compile(r"[、,]?(?:肝|胆|胰|脾|双肾|肾)")
