"""Why a file is not taken in: codes for programs, sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from hub.dicom.errors import MESSAGES, DicomRefused
from hub.kit.i18n import Message, _

CHANGED_CONTENT: Final = "changed-content"
IDENTIFIER_CONFLICT: Final = "identifier-conflict"
WRONG_EXAM: Final = "wrong-exam"
STUDY_MISMATCH: Final = "study-mismatch"
WRONG_INSTANCE: Final = "wrong-instance"
DICOMDIR: Final = "dicomdir"
QUARANTINE_FULL: Final = "quarantine-full"
UNSUPPORTED_PART: Final = "unsupported-part"
UNREFERENCED: Final = "unreferenced-part"
MISSING_BULK: Final = "missing-bulk-data"
BAD_METADATA: Final = "bad-metadata"
PROCESSING_FAILED: Final = "processing-failed"
STORE_UNAVAILABLE: Final = "store-unavailable"

OWN: Final[dict[str, Message]] = {
    CHANGED_CONTENT: _("中心已收到过同一编号、内容不同的影像;两份都已保留,由质控员核对。"),
    # The same words for whatever the conflict is with: one clinic is not told what another one holds.
    IDENTIFIER_CONFLICT: _("影像的检查标识有冲突,文件已保留,由质控员核对。请检查设备是否重复使用了检查编号。"),
    WRONG_EXAM: _("所选的检查不存在、已结束或不属于本机构,影像未归入。请重新选择检查后上传。"),
    STUDY_MISMATCH: _("影像的检查标识与请求地址中的不一致,未接收。"),
    WRONG_INSTANCE: _("影像的类型或编号与发送设备声明的不一致,文件已保留,由影像中心检查。"),
    DICOMDIR: _("这是光盘目录文件(DICOMDIR),不是影像,无需上传;其中列出的影像文件请一并上传。"),
    QUARANTINE_FULL: _("文件未被接收,且隔离区已满,中心没有保留它:请保留原文件,联系影像中心后再发送。原因:{why}"),
    PROCESSING_FAILED: _("文件处理失败,已保留并记录,由影像中心检查。"),
    UNSUPPORTED_PART: _("这一部分不是 DICOM 影像文件({type}),未接收。"),
    UNREFERENCED: _("没有元数据引用这一部分,未接收。"),
    MISSING_BULK: _("元数据引用的数据没有一起发送,未接收。"),
    BAD_METADATA: _("元数据不能组成影像文件({why}),未接收。"),
}


def from_dicom(refused: DicomRefused) -> tuple[str, dict[str, Any]]:
    """Code and JSON parameters of a reader's refusal; pairs of words are reduced to the Chinese, which is the key."""
    return refused.code, {
        name: value[0] if isinstance(value, tuple) else value for name, value in refused.params.items()
    }


def template(code: str) -> str:
    """The Chinese sentence of `code`, with its placeholders."""
    own = OWN.get(code)
    return own.msgid if own is not None else MESSAGES[code][0]


def words(reason: str, params: Mapping[str, Any]) -> Message:
    """A stored sentence and its parameters as a message; parameters that are words are translated, too."""
    return Message(
        reason, {name: Message(value) if isinstance(value, str) else value for name, value in params.items()}
    )


def message(code: str, params: Mapping[str, Any] | None = None) -> Message:
    """The sentence of `code`."""
    return words(template(code), params or {})
