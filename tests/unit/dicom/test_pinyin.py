"""Pinyin keys and names in headers."""

from __future__ import annotations

import pytest

from hub.dicom.pinyin import keys, same_name


@pytest.mark.parametrize(
    ("name", "full", "initials"),
    [
        ("王伟", "wangwei", "ww"),
        ("单雄信", "shanxiongxin", "sxx"),
        ("曾志伟", "zengzhiwei", "zzw"),
        ("解晓东", "xiexiaodong", "xxd"),
        ("仇英", "qiuying", "qy"),
        ("尉迟恭", "yuchigong", "ycg"),
        ("长孙无忌", "zhangsunwuji", "zswj"),
        ("吕布", "lvbu", "lb"),
        ("王^伟", "wangwei", "ww"),
        ("Wang^Wei=王^伟", "wangwei", "ww"),
        ("Müller^Jörg", "mullerjorg", "mj"),
        ("", "", ""),
        ("^^^", "", ""),
    ],
)
def test_keys(name: str, full: str, initials: str) -> None:
    found = keys(name)
    assert (found.full, found.initials) == (full, initials)
    assert found.spaced.replace(" ", "") == full


@pytest.mark.parametrize(
    ("chinese", "header", "expected"),
    [
        ("王伟", "WANG WEI", "pinyin"),
        ("王伟", "Wei^Wang", "pinyin"),
        ("王伟", "wang2 wei3", "pinyin"),
        ("王伟", "Wáng Wěi", "pinyin"),
        ("王伟", "WANGWEI", "pinyin"),
        ("王伟", "WW", "differs"),
        ("王伟", "W^W", "differs"),
        ("王伟", "wang w", "differs"),
        ("王伟", "李娜", "differs"),
        ("王伟", "Zhang wei", "differs"),
        ("王伟", "王^伟", "equal"),
        ("王伟", "Wang^Wei=王^伟=", "equal"),
        ("王伟", "Wang^Wei=王^玮=", "differs"),
        ("王伟", "", "unknown"),
        ("王伟", "^^^", "unknown"),
        ("", "WANG", "unknown"),
        ("吕律", "LYU LYU", "pinyin"),
        ("吕律", "lv lu", "pinyin"),
        ("吕绿", "LÜ LÜ", "pinyin"),
        ("张女", "zhang nyu", "pinyin"),
        ("张略", "ZHANG LVE", "pinyin"),
        ("曾志伟", "Zhi Wei Zeng", "pinyin"),
        ("乐嘉", "le jia", "pinyin"),
        ("乐嘉", "YUE^JIA", "pinyin"),
        ("欧阳娜娜", "NANA^OUYANG", "pinyin"),
        ("买买提·艾力", "MAIMAITI AILI", "pinyin"),
        ("John Smith", "SMITH^JOHN", "equal"),
        ("John Smith", "SMITH^JANE", "differs"),
    ],
)
def test_same_name(chinese: str, header: str, expected: str) -> None:
    assert same_name(chinese, header) == expected
