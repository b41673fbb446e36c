"""Pages of the readers: queue, reading page, signing certificates; and the page of a report."""

from __future__ import annotations

from hub.web.reading import page, queue, report, signing, texts

ROUTERS = (queue.router, page.router, signing.router, report.router, texts.router)
