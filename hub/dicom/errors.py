"""Why a DICOM object is not taken in, in words a technologist at a clinic can act on."""

from __future__ import annotations

from typing import Final

#: code → (Chinese sentence, English sentence). Placeholders are filled from the refusal's parameters.
MESSAGES: Final[dict[str, tuple[str, str]]] = {
    "empty": (
        "文件是空的(0 字节)。请在设备上重新导出后再上传。",
        "The file is empty (0 bytes). Export it again from the device and upload it again.",
    ),
    "not-dicom": (
        "这不是 DICOM 文件({why})。请只上传设备导出的影像文件。",
        "This is not a DICOM file ({why}). Upload only image files exported by the device.",
    ),
    "truncated": (
        "文件不完整:{where} 处应有 {expected} 字节,只剩 {found} 字节。请从设备重新导出或重新发送。",
        "The file is cut off: at {where} there should be {expected} bytes, only {found} are left. "
        "Export or send it again from the device.",
    ),
    "no-uids": (
        "文件缺少必需的标识 {missing},无法归入检查。请从设备重新导出,不要用其他软件另存。",
        "The file lacks the required identifiers {missing} and cannot be filed under a study. "
        "Export it again from the device, not through other software.",
    ),
    "invalid-uid": (
        "{where} 的标识不合规(“{value}”,只能是数字和点,最长 64 位)。请联系设备厂家检查导出设置。",
        "The identifier at {where} is invalid (“{value}”; only digits and dots, at most 64). "
        "Ask the device's maker to check its export settings.",
    ),
    "absurd-length": (
        "文件结构损坏:{where} 声称长度 {length} 字节,超出所在范围。请从设备重新导出。",
        "The file's structure is broken: {where} claims a length of {length} bytes, beyond what contains it. "
        "Export it again from the device.",
    ),
    "broken-structure": (
        "文件结构损坏:{where} 处无法读取({why})。请从设备重新导出。",
        "The file's structure is broken: it cannot be read at {where} ({why}). Export it again from the device.",
    ),
    "bomb": (
        "文件内容异常({why},上限 {limit}),为保护系统未予接收。若确为设备所出,请联系影像中心。",
        "The file's content is abnormal ({why}, limit {limit}) and was not taken in, to protect the system. "
        "If a device really made it, call the imaging centre.",
    ),
    "too-large": (
        "文件太大({size} 字节,上限 {limit} 字节)。请联系影像中心。",
        "The file is too large ({size} bytes, limit {limit}). Call the imaging centre.",
    ),
    "frame-too-large": (
        "一帧图像解码后将达 {size} 字节(上限 {limit} 字节;{where}),文件可能损坏或有恶意。请从设备重新导出。",
        "One frame would decode to {size} bytes (limit {limit}; {where}); the file may be broken or hostile. "
        "Export it again from the device.",
    ),
    "unsupported": (
        "暂不支持这种文件:{why}。请改用其他导出格式,或联系影像中心。",
        "This kind of file is not supported: {why}. Choose another export format or call the imaging centre.",
    ),
    "executable-preamble": (
        "文件开头藏有可执行程序({why}),为安全起见拒收。请检查来源电脑是否中毒。",
        "The file begins with an executable program ({why}) and was refused for safety. "
        "Check the computer it came from for malware.",
    ),
    "zip-bad": (
        "压缩包损坏或不是 ZIP 文件({why})。请重新压缩后上传。",
        "The archive is damaged or is not a ZIP file ({why}). Pack it again and upload it again.",
    ),
    "zip-bomb": (
        "压缩包展开后过大({why},上限 {limit}),未予展开。请分成几个压缩包,或直接上传文件夹。",
        "The archive would unpack to too much ({why}, limit {limit}) and was not unpacked. "
        "Split it into several archives or upload the folder itself.",
    ),
    "zip-encrypted": (
        "压缩包中的“{name}”有密码保护。请去掉密码后重新压缩上传。",
        "“{name}” in the archive is protected by a password. Pack it again without one.",
    ),
    "zip-symlink": (
        "压缩包中的“{name}”是指向别处的链接,不是文件,已跳过。",
        "“{name}” in the archive is a link to somewhere else, not a file; it was left out.",
    ),
    "zip-nested": (
        "压缩包层层嵌套过深(“{name}”,最多 {limit} 层)。请直接压缩影像文件夹。",
        "Archives are nested too deeply (“{name}”, at most {limit} levels). Pack the image folder itself.",
    ),
}


class DicomRefused(Exception):
    """An object that is refused, with the reason.

    Attributes:
        code: Kebab-case reason, a key of `MESSAGES`.
        params: What fills the sentence (tag, offset, sizes); no patient data. A pair is (Chinese, English).
        message_zh: The sentence in Chinese.
        message_en: The sentence in English.
    """

    def __init__(self, code: str, **params: object) -> None:
        zh, en = MESSAGES[code]
        self.code = code
        self.params: dict[str, object] = params
        self.message_zh = zh.format(**{k: v[0] if isinstance(v, tuple) else v for k, v in params.items()})
        self.message_en = en.format(**{k: v[1] if isinstance(v, tuple) else v for k, v in params.items()})
        super().__init__(f"{code}: {self.message_en}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the parameters when the refusal crosses a process boundary."""
        return (_rebuild, (self.code, self.params))


def _rebuild(code: str, params: dict[str, object]) -> DicomRefused:
    return DicomRefused(code, **params)
