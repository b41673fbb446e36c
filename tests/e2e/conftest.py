"""What all browser tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import wraps
from typing import Any

from support.desk import PATIENCE

_ACTS = ("check", "click", "fill", "press", "select_option", "set_input_files", "uncheck")


def _once_its_scripts_ran(act: Callable[..., Any]) -> Callable[..., Any]:
    """An act that waits until the page's scripts have run (they do before DOMContentLoaded).

    What a form leads to can be seen before its buttons do anything: a person is never so quick, a test on a loaded
    machine is.
    """

    @wraps(act)
    def acted(self: Any, *args: Any, **kw: Any) -> Any:
        page = getattr(self, "page", self)
        page.wait_for_load_state("domcontentloaded")
        return act(self, *args, **kw)

    return acted


def _patient(new_context: Callable[..., Any]) -> Callable[..., Any]:
    """Contexts whose pages are waited for as long as what is expected of them."""

    @wraps(new_context)
    def made(self: Any, *args: Any, **kw: Any) -> Any:
        context = new_context(self, *args, **kw)
        context.set_default_timeout(PATIENCE)
        return context

    return made


with contextlib.suppress(ImportError):
    from playwright.sync_api import Browser, Locator, Page, expect

    expect.set_options(timeout=PATIENCE)
    Browser.new_context = _patient(Browser.new_context)
    for _kind in (Locator, Page):
        for _name in _ACTS:
            setattr(_kind, _name, _once_its_scripts_ran(getattr(_kind, _name)))
