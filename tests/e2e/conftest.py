"""What all browser tests share."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):
    from playwright.sync_api import expect

    # A page is waited for as long as a loaded machine may take to show it.
    expect.set_options(timeout=30_000)
