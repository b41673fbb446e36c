"""Repair of text whose bytes are not what the header declares (PS3.5 §6.1, PS3.3 C.12.1.1.2).

Devices send GBK under ISO_IR 100, the made-up term ``GBK``, UTF-8 with nothing declared, and worse. The stored bytes
are never altered; what is repaired is the text in the index and in what is served as JSON.

Order of belief: a declared multi-byte set that decodes strictly to something plausible; strict UTF-8; GB18030, if the
result is plausible Chinese; else what was declared, and flagged. A Latin name nearly always decodes as GB18030 too
(Müller → M黮ler), hence the test of plausibility: GB18030 swallows the ASCII letter after an accented one as its second
byte, which yields ideographs outside the everyday set, glued to Latin letters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

How = Literal["ascii", "declared", "utf-8", "gb18030", "hint", "fallback"]

#: VRs whose values SpecificCharacterSet governs (PS3.5 §6.1.2.2).
TEXT_VRS: Final = frozenset({"PN", "LO", "SH", "LT", "ST", "UC", "UT"})

_SINGLE: Final[dict[str, str]] = {
    "6": "latin_1",
    "100": "latin_1",
    "101": "iso8859_2",
    "109": "iso8859_3",
    "110": "iso8859_4",
    "144": "iso8859_5",
    "127": "iso8859_6",
    "126": "iso8859_7",
    "138": "iso8859_8",
    "148": "iso8859_9",
    "203": "iso8859_15",
    "166": "tis_620",
    "13": "shift_jis",
}
_MULTI: Final[dict[str, str]] = {
    "192": "utf_8",
    "87": "iso2022_jp",
    "159": "iso2022_jp_2",
    "149": "euc_kr",
    "58": "gb18030",
}
#: Escape sequence → (codec, whether it puts a multi-byte set into G0, where `\` and `^` are ordinary trail bytes).
_ESCAPES: Final[dict[bytes, tuple[str, bool]]] = {
    b"\x1b(B": ("ascii", False),
    b"\x1b(J": ("shift_jis", False),
    b"\x1b)I": ("shift_jis", False),
    b"\x1b-A": ("latin_1", False),
    b"\x1b-B": ("iso8859_2", False),
    b"\x1b-C": ("iso8859_3", False),
    b"\x1b-D": ("iso8859_4", False),
    b"\x1b-L": ("iso8859_5", False),
    b"\x1b-G": ("iso8859_6", False),
    b"\x1b-F": ("iso8859_7", False),
    b"\x1b-H": ("iso8859_8", False),
    b"\x1b-M": ("iso8859_9", False),
    b"\x1b-b": ("iso8859_15", False),
    b"\x1b-T": ("tis_620", False),
    b"\x1b$)C": ("euc_kr", False),
    b"\x1b$)A": ("gb18030", False),
    b"\x1b$B": ("iso2022_jp", True),
    b"\x1b$(D": ("iso2022_jp_2", True),
}
_ESCAPE_RE: Final = re.compile(rb"(\x1b(?:\([BJ]|\)I|-[A-DFGHLMTb]|\$\)[AC]|\$B|\$\(D))")
_LINE_SIGNS: Final = dict.fromkeys((9, 10, 12, 13, 0x3000, 0xA0))
_PRIVATE_USE: Final = re.compile("[\ue000-\uf8ff]")
_SAMPLE: Final = 2000  # characters are enough to tell a language by
_CONTROLS: Final = {c: None for c in range(32) if c not in (9, 10, 12, 13)} | {127: None}

# Common family names, by how often they are met; compound ones apart.
SURNAMES: Final = frozenset(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏"
    "钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷施陶洪翟安颜"
    "倪严牛温芦季俞章鲁葛伍韦申尤毕聂丛焦向柳邢路岳齐沿梅莫庄辛管祝左涂谷祁时舒耿牟卜肖詹关苗凌费纪靳盛童欧甄项曲成"
    "游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮桂闵解强柴华车冉房边辜吉饶刁瞿戚丘古米池滕晋苑邬臧畅宫来嵺苟全"
    "褚廉简娄盖符奚木穆党燕郎邸冀谈姬屠连郜晏栾郁商蒙计喻揭窦迟宇敖糜鄢冷卓花仇艾蓝都巩稽井练仲乐虞卞封竺冼原官衣楚"
    "佟栗匡宗应台巫鞠僧桑荆谌银扬明沙薄伏岑习胥保和蔺占封郇麻宣鹿闫邝苻笪逄佘危阚缪鄂宓湛逯阙贲蒲尚农敬贡虎冶矫乌焉巴"
    "厉储亓步茅尧邰凡惠元幸车侍郗逢代晁门才战信税布隆那粟初修荣水云支昌操杭年宛厚区折撒扈帅海哈商缑朴洛伊依塔达买阿吾"
    "玉尼古艾热沙木祖萨加克拉亚努次扎旦索仁德格桑普多达央巴"
    "張劉陳楊趙黃吳孫馬羅鄭謝韓馮許鄧蕭呂蘇盧蔣賈葉閻餘鍾譚鄒陸顧龍萬錢湯賴龐蘭顏嚴溫蘆魯韋畢聶叢齊莊塗時關費紀項歐遊"
    "衛單寧閔強車華邊饒畢連樂應竇遲鞏銀莊榮區買達瑪維鳳"
)
COMPOUND_SURNAMES: Final = frozenset(
    re.findall(
        "..",
        "欧阳太史端木上官司马东方独孤南宫万俟闻人夏侯诸葛尉迟公羊赫连澹台皇甫宗政濮阳公冶太叔申屠公孙慕容仲孙钟离长孙宇文"
        "司徒鲜于司空闾丘令狐百里呼延东郭南门羊舌微生梁丘左丘东门西门拓跋轩辕歐陽司馬諸葛東方獨孤尉遲長孫鮮于軒轅",
    )
)
# Outside GB2312, yet met in names every day.
_NAME_CHARS: Final = frozenset(
    "喆珺堃赟祎昇淼垚犇骉羴鑫焱燊璟玥玙琬琰翀翾晞晟旻昶曌婳嫄婧妤姝嬿頔顼颉颢飏飚骐骞骢鸷鹓龑䶮犨甯祐禛禤稥竑筠箐篪"
    "粲纮绾缊翊翙翚耒芃苡茏荻莜菀菡葳蒽蓁蔺薇薷蘅蘧虓蜚衎谞豳贇趯跞轫迺逖遄邈郃郄鄞醴钊钇钏钘钜铄铖锳锽镕镠闳闿阇"
    "靖韫顗颋颙飒飓馥馗騄骁骦髯鲲鸾麒麟黼琇珣珅珑珝珮珵珹琎琏琛琤琨琭琯琲琳瑀瑄瑆瑗瑢瑧瑨瑭瑷璇璎璐璘璞璠璥璨璩瓒"
    "昉昕昀昙昫晔晗暄暐暕暠暻曈曦沅沄沚沛沨泠泓洺洳浛浠涴淇淏湉湜湦溦滢漪潆潇澂澍澔濂濯瀚灏炅炘炜炫烜烨焓焜煊煜煦"
    "熠燚爔峣峻崟嵘嵚嶷巘彧惇愔懿戬扆斌旸昳朦栩桉桢梓棣棫榕槿樾橦檀檗歆毓汭凃凊劼勍卲厷吒咏哿唅唔啟喬圳坤坮坵垭埕"
    "埗堉堽塬墉壵夌奀妍妧妶姀姁姃姈姗姞姮娉娫婌婕婷媗媛嫣孖孮宬寁寕寯尅屾峯崑崧嵒嵗庥廸弢弨彣彤忻恺悫惢惪慜昐昇昤"
    "晧晳暎暘朤杺枬柷栢桠梽棽椤楒楚樑櫆欣殳沺洧洢浤涏淽渂渼湲溎滎滘澐澴瀅瀞炆炣炤烔煒煠熒燁燿牁玘玚玠玭珂珈珏珒珖珞珩"
    "烊玺㛃赞钰铭鋆錡鎏鑒铱闫陞雋霂霈霏霖韡顕風飛騫魠鴻鵬"
)

# Words of the trade that GB2312 puts in its second level, and those that stand alone.
_TRADE_CHARS: Final = frozenset(
    "颞髂髌腓骶椎颈颌颧髋踝跖趾腘肱桡掌蝶鞍脾胰肾囟颅膈纵隔腔窦瘘疝痔癌瘤囊钙栓塞龛憩痿瘫瘢痂踵骺骼胛髁胫腱腺膀胱胆"
    "脐胯肘腕膝腰胸腹盆骨肺心肝胃肠脑眼耳鼻喉颏牙左右正侧位片室号科男女无阴阳轴斜头手足肩臂腿颊腋鹰枕顶额肋肛睾卵输尿"
)

_NON_LATIN: Final[dict[str, re.Pattern[str]]] = {
    "iso8859_5": re.compile(r"[\u0401-\u045f]"),
    "iso8859_6": re.compile(r"[\u0600-\u06ff]"),
    "iso8859_7": re.compile(r"[\u0370-\u03ff]"),
    "iso8859_8": re.compile(r"[\u0590-\u05ff]"),
    "tis_620": re.compile(r"[\u0e00-\u0e7f]"),
    "cp1251": re.compile(r"[\u0401-\u0459]"),
}


@dataclass(frozen=True, slots=True)
class RepairedText:
    """One value's text.

    Attributes:
        text: Decoded value, still with its `\\` and `^` delimiters; trailing padding removed.
        charset: Defined term whose decoding was believed, e.g. ``GB18030``, ``ISO_IR 192``.
        flagged: True where a person should look: nothing but the declaration speaks for this text, or bytes were lost.
        how: Which step of the order decided.
    """

    text: str
    charset: str
    flagged: bool
    how: How


@dataclass(frozen=True, slots=True)
class TextCell:
    """One raw text element of a data set.

    Attributes:
        key: The caller's handle, given back unchanged.
        vr: Two letters.
        raw: Value bytes as stored.
        declared: SpecificCharacterSet in force there, if other than the data set's.
    """

    key: object
    vr: str
    raw: bytes
    declared: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class RepairedDataset:
    """Result of `repair_dataset_text`.

    Attributes:
        values: The cells' keys with their texts, in order.
        charset: What most of the non-ASCII values turned out to be, or None if all is ASCII.
        flagged: Whether any value is.
        differs: Whether any value was found in another set than the declared.
    """

    values: list[tuple[object, RepairedText]]
    charset: str | None
    flagged: bool
    differs: bool


@lru_cache(maxsize=256)
def _resolve(term: str) -> tuple[str, str, bool, bool] | None:
    """Give (codec, defined term, multi-byte, known to the standard) for a term as devices write it, or None."""
    raw = term.strip().upper()
    if not raw:
        return ("latin_1", "ISO_IR 6", False, True)
    flat = re.sub(r"[\s_\-]+", " ", raw)
    if m := re.fullmatch(r"(?:ISO (?:IR|2022 IR)|ISO 2022|ISOIR|ISO) ?(\d+)", flat):
        number = m[1]
        standard = raw in (f"ISO_IR {number}", f"ISO 2022 IR {number}")
        if number in _MULTI:
            name = "ISO_IR 192" if number == "192" else f"ISO 2022 IR {number}"
            return (_MULTI[number], name, True, standard and not (number == "58" and raw.startswith("ISO_IR")))
        if number in _SINGLE:
            return (_SINGLE[number], f"ISO_IR {number}", False, standard)
        if number.startswith("8859"):
            part = {"1": "100", "2": "101", "3": "109", "4": "110", "5": "144", "6": "127", "7": "126", "8": "138"}
            ir = part.get(number[4:], "100")
            return (_SINGLE[ir], f"ISO_IR {ir}", False, False)
    squeezed = flat.replace(" ", "").removeprefix("ISO2022").removeprefix("IR")
    if squeezed in ("GB18030", "GBK", "GB2312", "CP936", "936", "GB", "EUCCN", "GB23121980", "WINDOWS936"):
        term_out = "GB18030" if squeezed == "GB18030" else "GBK"
        return ("gb18030", term_out, True, raw in ("GB18030", "GBK"))
    if squeezed in ("UTF8", "UNICODE", "UNICODE11UTF8"):
        return ("utf_8", "ISO_IR 192", True, False)
    if squeezed in ("WINDOWS1251", "CP1251", "1251"):
        return ("cp1251", "windows-1251", False, False)
    if squeezed in ("ASCII", "USASCII", "LATIN1", "ISO88591"):
        return ("latin_1", "ISO_IR 100", False, False)
    if m := re.fullmatch(r"ISO8859(\d+)", squeezed):
        return _resolve(f"ISO 8859{m[1]}")
    return None


def charset_notes(declared: Sequence[str]) -> list[str]:
    """Say whether the declared terms are the standard's: ``bad-charset-term`` for any that is not."""
    for term in declared:
        known = _resolve(term)
        if known is None or not known[3]:
            return ["bad-charset-term"]
    return []


def _weight(char: str) -> float:
    """Say how everyday an ideograph is: 1 for GB2312 level 1, down to -1 for one nobody writes."""
    code = ord(char)
    if char in _TRADE_CHARS:
        return 1.0
    if char in _NAME_CHARS:
        return 0.7
    if 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x323AF:
        try:
            lead = char.encode("gb2312")[0]
        except UnicodeEncodeError:
            try:  # Traditional forms in everyday use are Big5's first level.
                return 0.55 if 0xA4 <= char.encode("big5")[0] <= 0xC6 else -1.0
            except UnicodeEncodeError:
                return -1.0
        return 1.0 if lead < 0xD8 else 0.35
    return -1.0


def _is_han(char: str) -> bool:
    code = ord(char)
    return 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0x20000 <= code <= 0x323AF or code == 0x3007


#: Non-ASCII signs that belong in Chinese text beside ideographs.
_CHINESE_SIGNS: Final = frozenset(
    "·•、。,;:?!()【】《》〈〉“”‘’—…~×÷±°℃%/+-=<>〇①②③④⑤⑥⑦⑧⑨⑩ⅠⅡⅢⅣⅤⅥ→←↑↓■□●○★☆▲△ ㎝㎜㎡αβγμ≥≤≈"
)


def _sign(char: str) -> bool:
    return char in _CHINESE_SIGNS or 0xFF01 <= ord(char) <= 0xFF5E or 0x3000 <= ord(char) <= 0x303F


def chinese_score(text: str, *, is_pn: bool = False) -> float:
    """Rate how much a text looks like Chinese someone meant to write.

    Args:
        text: Decoded text.
        is_pn: Whether it is a person's name, where a family name counts and Latin letters glued to an ideograph do not.

    Returns:
        -1 (no) to 1 (surely); 0.5 and above is plausible.
    """
    text = text[:_SAMPLE]
    foreign = [c for c in text if ord(c) > 127]
    han = [c for c in foreign if _is_han(c)]
    if not han:
        # A value of signs alone ("±" as two bytes) is too little to go by.
        return -1.0
    if any(not _is_han(c) and not _sign(c) for c in foreign):
        return -1.0
    glued_low = re.search(r"[a-z][\u3400-\u9fff]|[\u3400-\u9fff][a-z]", text)
    if is_pn:
        return _name_score(text, glued=re.search(r"[A-Za-z][\u3400-\u9fff]|[\u3400-\u9fff][A-Za-z]", text) is not None)
    weights = [_weight(c) for c in han]
    if len(han) == 1:
        return 0.9 if han[0] in _TRADE_CHARS or han[0] in SURNAMES else 0.2
    score = sum(weights) / len(weights)
    if score < 0.7:
        score = min(score, 0.4)
    if min(weights) < 0:
        # One ideograph nobody writes among many everyday ones is a rare name; in a short text it is a wrong decoding.
        rare = sum(1 for w in weights if w < 0)
        if rare * 6 > len(weights):
            score = min(score, 0.2)
    if glued_low and score < 0.95:
        score -= 0.5
    return score


def _name_score(text: str, *, glued: bool) -> float:
    worst = 1.0
    for group in re.split(r"[=\\]", text):
        chars = [c for c in group if _is_han(c)]
        if not chars:
            continue
        weights = [_weight(c) for c in chars]
        mean = sum(weights) / len(weights)
        led = chars[0] in SURNAMES or "".join(chars[:2]) in COMPOUND_SURNAMES
        if led and len(chars) <= 4 and not glued:
            rest = weights[1:] or [1.0]
            # After a real family name one rare character is a rare given name; several are a wrong decoding.
            score = 0.9 if min(rest) >= 0.3 else (0.6 if sum(w < 0 for w in rest) == 1 and len(rest) <= 2 else 0.1)
            if len(rest) >= 2 and all(w <= 0.35 for w in rest):
                score = min(score, 0.3)
            if len(chars) == 4 and "".join(chars[:2]) not in COMPOUND_SURNAMES and min(rest) <= 0.35:
                score = min(score, 0.3)
        else:
            score = mean if len(chars) >= 2 else 0.2
            if len(chars) > 1 and min(weights) < 0.3:
                score = min(score, 0.3)
            if not led and sum(w <= 0.35 for w in weights) * 2 >= len(weights):
                score = min(score, 0.4)
        if glued:
            score = min(score - 0.5, 0.45)
        worst = min(worst, score)
    return worst


def _strip(raw: bytes) -> bytes:
    return raw.rstrip(b"\0 ")


def _strict(raw: bytes, codec: str) -> tuple[str, bool] | None:
    """Decode strictly. A character cut in half by the VR's maximum length is dropped; then the second value is True."""
    try:
        return raw.decode(codec), False
    except UnicodeDecodeError as problem:
        cut = len(raw) - problem.start
        if (
            problem.start > 0
            and len(raw) in (15, 16, 64, 1024, 10240)
            and cut <= 3
            and "incomplete" in _reason(problem)
        ):
            try:
                return raw[: problem.start].decode(codec), True
            except UnicodeDecodeError:
                return None
        return None


def _reason(problem: UnicodeDecodeError) -> str:
    return "incomplete" if "incomplete" in problem.reason or "unexpected end" in problem.reason else problem.reason


def _decode_2022(raw: bytes, first: str, others: Sequence[str], *, is_pn: bool) -> str | None:
    """Decode code extensions strictly (PS3.5 §6.1.2.4-5); None where an escape sequence or a byte does not fit."""
    reset_at = re.compile(rb"([\\^=\r\n\t\f])" if is_pn else rb"([\\\r\n\t\f])")
    parts = _ESCAPE_RE.split(raw)
    out: list[str] = []
    active, wide = first, False
    try:
        for part in parts:
            if part in _ESCAPES:
                codec, wide = _ESCAPES[part]
                # ESC ( B re-designates G0 only: what G1 holds stays active for bytes above 127.
                if codec == "ascii":
                    active = active if not active.startswith("iso2022") else first
                elif wide:
                    active = codec
                else:
                    active, wide = codec, False
                escape = part
                continue
            if not part:
                continue
            if b"\x1b" in part:
                return None
            if wide:
                out.append((escape + part + b"\x1b(B").decode(active))
                continue
            if active == "gb18030":  # a second byte may be a delimiter's: decode before looking for one
                text = part.decode(active)
                out.append(text)
                continue
            for piece in reset_at.split(part):
                if reset_at.fullmatch(piece):
                    active = first
                    out.append(piece.decode("ascii"))
                elif piece:
                    out.append(_with_fallback(piece, active, first, others))
    except UnicodeDecodeError:
        return None
    return "".join(out)


def _with_fallback(piece: bytes, active: str, first: str, others: Sequence[str]) -> str:
    """Decode with the active set; senders who omit the escape sequence mean the only other set they declared."""
    if active.startswith("iso2022"):
        active = first
    if active == first and first == "latin_1" and len(others) == 1 and not piece.isascii():
        if others[0].startswith("iso2022"):
            return piece.decode("latin_1")
        return piece.decode(others[0])
    return piece.decode(active)


def _clean(text: str) -> str:
    return text.rstrip(" ").translate(_CONTROLS)


def _plausible_other(text: str) -> bool:
    """Whether a strict decoding gave letters and signs rather than unassigned code points."""
    return text.translate(_LINE_SIGNS).isprintable()


_RUSSIAN_OR_LATIN: Final = re.compile(
    r"[\x20-\x7e\r\n\t\f\u00a0-\u024f]*|[\x20-\x7e\r\n\t\f\u0401\u0410-\u044f\u0451\u2116]*"
    r"|[\x20-\x7e\r\n\t\f\u0370-\u03ff]*|[\x20-\x7e\r\n\t\f\u0600-\u06ff]*|[\x20-\x7e\r\n\t\f\u0590-\u05ff]*"
)


def _believe_utf8(text: str, gb: str | None, *, is_pn: bool, hint_codec: str | None) -> bool:
    """Decide between a strict UTF-8 reading and a GB18030 reading of the same bytes.

    UTF-8 with three-byte characters is hardly ever anything else. Two-byte UTF-8 (Latin, Cyrillic, Greek) is what
    four in a hundred two-character GBK names decode to as well.
    """
    if max(text, default="") > "\u07ff":
        return _plausible_other(text) and not _PRIVATE_USE.search(text)
    if gb is None:
        return True
    score = chinese_score(gb, is_pn=is_pn)
    if hint_codec == "gb18030" and score >= 0.5:
        return False
    if not _RUSSIAN_OR_LATIN.fullmatch(text):
        return score < 0.5
    if re.search("[A-Za-z]", text):
        return True
    if hint_codec == "utf_8" or score < 0.85 or len(re.findall(r"\w", text)) > 6:
        return True
    return is_pn and gb.lstrip()[:1] not in SURNAMES and re.match(r"\w[^\W\d_]*$", text) is not None and text.istitle()


def repair(raw: bytes, declared: Sequence[str], *, is_pn: bool = False, hint: str | None = None) -> RepairedText:
    """Decode a text value whose declared character set may be wrong.

    Args:
        raw: Value bytes.
        declared: Values of SpecificCharacterSet as found; empty if absent.
        is_pn: Whether the value is a PN, where `^` and `=` delimit too and the text should be a name.
        hint: Character set that the sending device or organisation has been seen to use: tips the balance where two
            readings are possible, and is tried before falling back to the declared single-byte set.

    Returns:
        The text, which set was believed, and whether a person should look. Never raises.
    """
    raw = _strip(raw)
    terms = [_resolve(t) for t in declared] or [None]
    first = terms[0] or ("latin_1", "ISO_IR 100" if declared and declared[0].strip() else "ISO_IR 6", False, False)
    known = [t for t in terms if t is not None]
    multi = [t for t in known if t[2]]
    if raw.isascii() and (b"\x1b" not in raw or not (multi or len(known) > 1)):
        return RepairedText(_clean(raw.decode("ascii")), first[1], flagged=False, how="ascii")

    hinted = _resolve(hint) if hint else None
    hint_codec = hinted[0] if hinted else None
    gb = _strict(raw, "gb18030")
    utf = _strict(raw, "utf_8")

    # 1. What is declared, if it is a multi-byte set, fits every byte, and says something.
    if b"\x1b" in raw:
        others = [t[0] for t in known[1:]]
        base = first[0] if not first[0].startswith("iso2022") else "latin_1"
        text = _decode_2022(raw, base, others, is_pn=is_pn)
        if text is not None and _plausible_other(text):
            name = multi[0][1] if multi else known[-1][1] if known else first[1]
            # Escape sequences speak for themselves, whether or not the header declared them.
            return RepairedText(_clean(text), name, flagged=False, how="declared")
    else:
        for codec, name, _, _ in multi:
            if (
                codec == "utf_8"
                and utf is not None
                and (
                    _believe_utf8(utf[0], None, is_pn=is_pn, hint_codec=None)
                    if gb is None or hint_codec == "utf_8" or _RUSSIAN_OR_LATIN.fullmatch(utf[0])
                    else _believe_utf8(utf[0], gb[0], is_pn=is_pn, hint_codec=hint_codec)
                )
            ):
                return RepairedText(_clean(utf[0]), name, flagged=utf[1], how="declared")
            if codec == "gb18030" and gb is not None:
                believable = chinese_score(gb[0], is_pn=is_pn) >= 0.3 and _plausible_other(gb[0])
                if believable or (utf is None and _plausible_other(gb[0]) and not _latin_words(gb[0])):
                    return RepairedText(_clean(gb[0]), name, flagged=gb[1] or not believable, how="declared")
            if codec == "euc_kr" and (korean := _strict(raw, codec)) is not None:
                hangul = sum(0xAC00 <= ord(c) <= 0xD7AF for c in korean[0])
                if hangul or chinese_score(korean[0], is_pn=is_pn) >= 0.5:
                    return RepairedText(_clean(korean[0]), name, flagged=korean[1], how="declared")

    # 2. Strict UTF-8.
    gb_text = gb[0] if gb else None
    if utf is not None and _believe_utf8(utf[0], gb_text, is_pn=is_pn, hint_codec=hint_codec):
        return RepairedText(_clean(utf[0]), "ISO_IR 192", flagged=utf[1], how="utf-8")

    # A declared single-byte set of another script that yields words of that script is no mislabelled GB18030.
    script = _NON_LATIN.get(first[0])
    if script is not None:
        own = _strict(raw, first[0])
        if own is not None and _all_in_script(own[0], script):
            return RepairedText(_clean(own[0]), first[1], flagged=False, how="declared")
    if first[0] == "shift_jis" and (own := _strict(raw, "shift_jis")) is not None and _plausible_other(own[0]):
        return RepairedText(_clean(own[0]), first[1], flagged=False, how="declared")

    # What this device is known to use, before the guess.
    if hinted is not None and hint_codec not in (None, "gb18030", "utf_8", "latin_1"):
        own = _strict(raw, hinted[0])
        pattern = _NON_LATIN.get(hinted[0])
        if own is not None and _plausible_other(own[0]) and (pattern is None or _all_in_script(own[0], pattern)):
            return RepairedText(_clean(own[0]), hinted[1], flagged=False, how="hint")

    # 3. GB18030, if it is plausible Chinese.
    if gb is not None:
        score = chinese_score(gb[0], is_pn=is_pn)
        if score >= 0.5:
            return RepairedText(_clean(gb[0]), "GB18030", flagged=gb[1], how="gb18030")
        if hint_codec == "gb18030" and score >= 0.0 and not _latin_words(gb[0]):
            return RepairedText(_clean(gb[0]), "GB18030", flagged=gb[1], how="hint")

    # 4. What was declared, and a person looks at it.
    codec = first[0] if first[0] != "ascii" and not first[0].startswith("iso2022") else "latin_1"
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        text = raw.decode(codec, "replace")
    return RepairedText(_clean(text), first[1], flagged=True, how="fallback")


def _latin_words(text: str) -> bool:
    return re.search(r"[A-Za-z][\u3400-\u9fff]|[\u3400-\u9fff][A-Za-z]{2}", text) is not None


def _all_in_script(text: str, script: re.Pattern[str]) -> bool:
    foreign = [c for c in text if c.isalpha() and ord(c) > 127]
    return bool(foreign) and all(script.match(c) for c in foreign)


def repair_dataset_text(
    cells: Iterable[TextCell], charset_values: Sequence[str], hint: str | None = None
) -> RepairedDataset:
    """Repair all text elements of one data set, letting the clear ones speak for the unclear.

    Args:
        cells: Raw text values (pure ASCII ones may be left out by the caller: they need nothing).
        charset_values: SpecificCharacterSet of the data set.
        hint: As in `repair`.

    Returns:
        Texts by the cells' keys. A value that is flagged alone is tried once more with the set that the others turned
        out to use: one file is mostly written by one program.
    """
    cells = list(cells)
    results = [
        repair(c.raw, c.declared if c.declared is not None else charset_values, is_pn=c.vr == "PN", hint=hint)
        for c in cells
    ]
    sure = Counter(r.charset for r in results if not r.flagged and r.how not in ("ascii",))
    found = sure.most_common(1)[0][0] if sure else None
    if found and found != hint:
        for i, r in enumerate(results):
            if r.how == "fallback":
                c = cells[i]
                declared = c.declared if c.declared is not None else charset_values
                results[i] = repair(c.raw, declared, is_pn=c.vr == "PN", hint=found)
    foreign = Counter(r.charset for r in results if r.how != "ascii")
    return RepairedDataset(
        values=[(c.key, r) for c, r in zip(cells, results, strict=True)],
        charset=foreign.most_common(1)[0][0] if foreign else None,
        flagged=any(r.flagged for r in results),
        differs=any(r.how in ("utf-8", "gb18030", "hint") for r in results),
    )
