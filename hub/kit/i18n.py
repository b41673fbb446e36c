"""Words in two languages.

Chinese is the source: code and templates say ``_("提交报告")`` and the English text stands in
``hub/web/locale/en/<area>.po``. The catalogues are read as they are (no compiled ``.mo``), all of a
language's files together, once per process.

In Python ``_`` only *marks* a text and keeps its parameters, because services do not know who will read it;
the edge turns the :class:`Message` into words with :func:`translate`. In templates ``_`` translates at once.
Parameters are named and in braces: ``_("超过 {n} 个文件", n=3)`` or ``_("超过 {n} 个文件").format(n=3)``.
Where English counts, ``{n:file|files}`` stands for the word that fits the number.
"""

from __future__ import annotations

import contextlib
import string
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import jinja2
from babel.messages.pofile import read_po

Locale = Literal["zh", "en"]
LOCALES: tuple[Locale, ...] = get_args(Locale)
SOURCE_LOCALE: Locale = "zh"
LOCALE_COOKIE = "hub_locale"
LOCALE_DIR = Path(__file__).resolve().parent.parent / "web" / "locale"

_current: ContextVar[Locale] = ContextVar("hub_locale", default=SOURCE_LOCALE)


@dataclass(frozen=True, slots=True)
class Message:
    """A text of the user interface with its parameters, not yet in any language.

    ``str()`` gives the Chinese source with the parameters filled in, so that logs and tests stay readable.
    """

    msgid: str
    params: Mapping[str, object] = field(default_factory=dict)

    def format(self, **params: object) -> Message:
        """Return the same text with more parameters."""
        return Message(self.msgid, {**self.params, **params})

    def __str__(self) -> str:
        return translate(self, SOURCE_LOCALE)

    def __hash__(self) -> int:
        return hash((self.msgid, tuple(sorted((key, str(value)) for key, value in self.params.items()))))


def _(text: str, /, **params: object) -> Message:
    """Mark a literal for translation."""
    return Message(text, params)


class _Params(dict[str, object]):
    """Leaves an unknown placeholder standing: a wrong text must not turn an error answer into another error."""

    def __missing__(self, key: str) -> str:
        return "{" + key + "}"


class _Counting(string.Formatter):
    """Says `{n:image|images}` by the number."""

    def format_field(self, value: object, format_spec: str) -> str:
        one, bar, many = format_spec.partition("|")
        if not bar:
            return str(super().format_field(value, format_spec))
        return one if str(value) == "1" else many


_counting = _Counting()


def translate(text: Message | str | object, locale: str | None = None) -> str:
    """Say ``text`` in a language.

    Args:
        text: a :class:`Message` (its parameters may be messages too), or a source text.
        locale: ``"zh"`` or ``"en"``; without it the locale of :func:`use_locale`. A text without an entry is
            returned as it is.
    """
    wanted = pick_locale(locale) if locale is not None else _current.get()
    message = text if isinstance(text, Message) else Message(str(text))
    words = message.msgid if wanted == SOURCE_LOCALE else get_catalogue(wanted).get(message.msgid, message.msgid)
    if not message.params:
        return words
    params = _Params(
        {
            key: translate(value, wanted) if isinstance(value, Message) else value
            for key, value in message.params.items()
        }
    )
    try:
        # The plain way is several times faster, and most texts count nothing.
        return _counting.vformat(words, (), params) if "|" in words else words.format_map(params)
    except (ValueError, IndexError, AttributeError, KeyError, TypeError):
        return words


def pick_locale(wanted: str | None, accept_language: str | None = None) -> Locale:
    """Choose the language of a request.

    Args:
        wanted: an explicit choice (the cookie :data:`LOCALE_COOKIE`); unknown values are ignored.
        accept_language: the header of RFC 9110 §12.5.4; the first of our languages in order of weight.

    Returns:
        ``"zh"`` unless English was asked for.
    """
    for candidate in (wanted or "", *_by_weight(accept_language or "")):
        short = candidate.strip().lower().replace("_", "-").split("-")[0]
        if short in LOCALES:
            return short
    return SOURCE_LOCALE


def _by_weight(header: str) -> list[str]:
    ranked: list[tuple[float, str]] = []
    for part in header.split(","):
        name, *options = part.split(";")
        weight = 1.0
        for option in options:
            key, _sep, value = option.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if weight > 0:
            ranked.append((weight, name))
    return [name for _weight, name in sorted(ranked, key=lambda item: -item[0])]


@contextlib.contextmanager
def use_locale(locale: str | None) -> Iterator[Locale]:
    """Make ``locale`` the language of :func:`translate` within the block (per task and thread)."""
    chosen = pick_locale(locale)
    token = _current.set(chosen)
    try:
        yield chosen
    finally:
        _current.reset(token)


def current_locale() -> Locale:
    """Return the language set by :func:`use_locale`, Chinese by default."""
    return _current.get()


@cache
def get_catalogue(locale: str) -> Mapping[str, str]:
    """Return ``{source text: translation}`` of every ``<locale>/*.po``; empty for the source language."""
    return load_catalogue(LOCALE_DIR / locale)


def load_catalogue(folder: Path) -> dict[str, str]:
    """Read all ``*.po`` files of a folder in order of name; the first non-empty, non-fuzzy entry of a text counts."""
    words: dict[str, str] = {}
    for path in sorted(folder.glob("*.po")):
        with path.open("rb") as handle:
            for entry in read_po(handle, charset="utf-8"):
                if (
                    isinstance(entry.id, str)
                    and isinstance(entry.string, str)
                    and not entry.fuzzy
                    and entry.id
                    and entry.string
                ):
                    words.setdefault(entry.id, entry.string)
    return words


# --- Jinja ------------------------------------------------------------------------------------------------------


@jinja2.pass_context
def _jinja_gettext(context: jinja2.runtime.Context, text: object, /, **params: object) -> str:
    # Macros imported without context see no `locale`; then the one of use_locale() counts.
    locale = context.get("locale") or current_locale()
    message = text if isinstance(text, Message) else Message(str(text))
    return translate(message.format(**params) if params else message, locale)


@jinja2.pass_context
def _jinja_duration(context: jinja2.runtime.Context, seconds: float | None) -> str:
    return format_duration(seconds, context.get("locale") or current_locale())


def format_duration(seconds: float | None, locale: str | None = None) -> str:
    """Say a duration in the two largest fitting units.

    Args:
        seconds: length of time; ``None`` gives a dash.
        locale: language, see :func:`translate`.
    """
    if seconds is None:
        return "—"
    minutes, rest = divmod(round(abs(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        text = _("{days} 天 {hours} 小时", days=days, hours=hours)
    elif hours:
        text = _("{hours} 小时 {minutes} 分", hours=hours, minutes=f"{minutes:02d}")
    elif minutes:
        text = _("{minutes} 分钟", minutes=minutes)
    else:
        text = _("{seconds} 秒", seconds=rest)
    return translate(text, locale)


_FORMATS = {
    "date": "%Y-%m-%d",
    "minute": "%Y-%m-%d %H:%M",
    "second": "%Y-%m-%d %H:%M:%S",
    "time": "%H:%M",
    "short": "%m-%d %H:%M",
}


def format_time(value: datetime | date | None, style: str = "minute", zone: tzinfo = UTC) -> str:
    """Write a time in the county's zone.

    Args:
        value: an aware time (a naive one is taken as UTC), a date, or ``None`` (a dash).
        style: ``date``, ``minute``, ``second``, ``time`` or ``short`` (month, day, minute).
        zone: the zone to write it in.
    """
    if value is None:
        return "—"
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return aware.astimezone(zone).strftime(_FORMATS[style])
    return value.strftime(_FORMATS["date"])


def install_jinja(env: jinja2.Environment, *, zone: tzinfo = UTC) -> None:
    """Give an environment the global ``_`` and the filters ``tr``, ``duration`` and ``localtime``.

    ``_("…", n=3)`` and ``message|tr`` speak the language in the template variable ``locale`` (else that of
    :func:`use_locale`); ``seconds|duration`` and ``time|localtime("minute")`` follow the same language and ``zone``.
    """

    def localtime(value: datetime | date | None, style: str = "minute") -> str:
        return format_time(value, style, zone)

    env.globals["_"] = _jinja_gettext
    env.filters["tr"] = _jinja_gettext
    env.filters["duration"] = _jinja_duration
    env.filters["localtime"] = localtime
