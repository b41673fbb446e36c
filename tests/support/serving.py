"""The application on a real socket of the loopback, for clients that are not ours."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI


@contextmanager
def serving(app: FastAPI, *, live: bool = False) -> Iterator[str]:
    """Serve `app` in a thread; yields its address. `live`: with the reader of changes, so that pages hear of them."""
    # Bound here and kept: between a look for a free port and its use somebody else could take it.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="on" if live else "off"))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    until = time.monotonic() + 120
    while not server.started:
        assert time.monotonic() < until, "the server did not start"
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        # A page's stream has no end of its own.
        server.force_exit = live
        thread.join(15)
        listener.close()
