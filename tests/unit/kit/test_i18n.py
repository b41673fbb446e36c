"""Messages, catalogues, times and Jinja."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import jinja2
import pytest

from hub.kit import i18n
from hub.kit.i18n import Message, _, format_duration, format_time, pick_locale, translate, use_locale


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = {"超过 {n} 个": "More than {n}", "待审核": "To review", "状态:{state}": "State: {state}"}
    monkeypatch.setattr(i18n, "get_catalogue", lambda locale: catalogue)


def test_message_keeps_its_parameters(words: None) -> None:
    message = _("超过 {n} 个").format(n=3)
    assert str(message) == "超过 3 个"
    assert translate(message, "en") == "More than 3"
    assert message == _("超过 {n} 个", n=3)
    assert len({message, _("超过 {n} 个", n=3)}) == 1


def test_a_parameter_may_be_a_message(words: None) -> None:
    assert translate(_("状态:{state}", state=_("待审核")), "en") == "State: To review"
    assert str(_("状态:{state}", state=_("待审核"))) == "状态:待审核"


def test_unknown_text_and_missing_parameter_do_no_harm(words: None) -> None:
    assert translate("没有译文", "en") == "没有译文"
    assert translate(_("超过 {n} 个", other=1), "en") == "More than {n}"
    assert translate(Message("坏 {", {"a": 1}), "zh") == "坏 {"
    assert translate("{不是参数}", "zh") == "{不是参数}"


def test_the_word_fits_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = {"{n} 幅": "{n} {n:image|images}", "{n} 份,{who}": "{n} {n:report is|reports are} with {who}"}
    monkeypatch.setattr(i18n, "get_catalogue", lambda locale: catalogue)
    said = [translate(_("{n} 幅", n=n), "en") for n in (0, 1, 2, "1")]
    assert said == ["0 images", "1 image", "2 images", "1 image"]
    assert translate(_("{n} 份,{who}", n=1), "en") == "1 report is with {who}"
    assert translate(_("{n} 幅", n=1), "zh") == "1 幅"


def test_use_locale(words: None) -> None:
    assert translate("待审核") == "待审核"
    with use_locale("en"):
        assert translate("待审核") == "To review"
    assert i18n.current_locale() == "zh"


@pytest.mark.parametrize(
    ("cookie", "header", "expected"),
    [
        (None, None, "zh"),
        ("en", "zh-CN", "en"),
        ("fr", "en-GB,zh;q=0.5", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "de, en;q=0.7, zh;q=0.9", "zh"),
        (None, "en;q=0, *", "zh"),
        (None, "en;q=x", "zh"),
        ("zh_CN", "en", "zh"),
    ],
)
def test_pick_locale(cookie: str | None, header: str | None, expected: str) -> None:
    assert pick_locale(cookie, header) == expected


def test_catalogue_takes_the_first_settled_entry(tmp_path: Path) -> None:
    head = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    (tmp_path / "a.po").write_text(
        head + 'msgid "一"\nmsgstr ""\n\n#, fuzzy\nmsgid "二"\nmsgstr "wrong"\n', encoding="utf-8"
    )
    (tmp_path / "b.po").write_text(head + 'msgid "一"\nmsgstr "one"\n\nmsgid "二"\nmsgstr "two"\n', encoding="utf-8")
    assert i18n.load_catalogue(tmp_path) == {"一": "one", "二": "two"}


def test_durations() -> None:
    assert format_duration(None) == "—"
    assert format_duration(42, "zh") == "42 秒"
    assert format_duration(3900, "zh") == "1 小时 05 分"
    assert format_duration(3900, "en") == "1 h 05 min"
    assert format_duration(90000, "en") == "1 d 1 h"


def test_times_are_written_in_the_countys_zone() -> None:
    zone = ZoneInfo("Asia/Shanghai")
    late = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
    assert format_time(late, "minute", zone) == "2026-03-02 01:30"
    assert format_time(late.replace(tzinfo=None), "date", zone) == "2026-03-02"
    assert format_time(late.date()) == "2026-03-01"
    assert format_time(None) == "—"


def test_jinja(words: None) -> None:
    env = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        loader=jinja2.DictLoader(
            {
                "m": "{% macro label() %}{{ _('待审核') }}{% endmacro %}",
                "p": "{% import 'm' as m %}{{ m.label() }} {{ _('超过 {n} 个', n='<b>') }} {{ word|tr }}",
            }
        ),
    )
    i18n.install_jinja(env)
    with use_locale("en"):
        text = env.get_template("p").render(locale="en", word=_("待审核"))
    assert text == "To review More than &lt;b&gt; To review"
    assert env.get_template("p").render(locale="zh", word=_("待审核")) == "待审核 超过 &lt;b&gt; 个 待审核"
