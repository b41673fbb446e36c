"""The web server's process: `python -m hub.server`, under the supervisor; `hub serve` calls it too."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import sys

import uvicorn

from hub.kit import lifeline, memory
from hub.kit.logging import configure
from hub.kit.settings import Settings, get_settings

LISTENER = "HUB_LISTENER"
"""Variable with the number of the socket that the supervisor listens on: nobody takes the port meanwhile."""


def serve(settings: Settings, listening: socket.socket) -> None:
    """Serve until asked to end."""
    config = uvicorn.Config(
        "hub.app:create_app",
        factory=True,
        log_config=None,
        access_log=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    config.load()
    memory.prepare()
    listening.listen(config.backlog)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    """Serve on the supervisor's socket, and end with the supervisor.

    The code is loaded while the supervisor still looks at the database; a line on standard input says that it is fit.
    """
    settings = get_settings()
    configure(settings.log_level, json=settings.log_json)
    lifeline.hold()
    importlib.import_module("hub.app")
    if not sys.stdin.buffer.read(1):
        return
    serve(settings, socket.socket(fileno=int(os.environ.pop(LISTENER))))


if __name__ == "__main__":
    main()
