"""The yardstick for bytes: a server that keeps and hands out files and does nothing else."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

PROGRAM = """
import os, secrets, sys
from pathlib import Path
import anyio.to_thread, uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

folder = Path(sys.argv[1])

def sync(file):
    file.flush()
    os.fsync(file.fileno())
    file.close()

async def put(request):
    name = request.query_params.get("name") or secrets.token_hex(8)
    file = (folder / name).open("wb")
    async for piece in request.stream():
        file.write(piece)
    await anyio.to_thread.run_sync(sync, file)
    return PlainTextResponse(name)

app = Starlette(routes=[Route("/put", put, methods=["PUT"]), Mount("/files", StaticFiles(directory=folder))])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
"""


class PlainFiles:
    """The server in a process of its own: `PUT /put?name=` (fsynced) and `GET /files/NAME`."""

    def __init__(self, folder: Path) -> None:
        from support.running import free_port

        folder.mkdir(parents=True, exist_ok=True)
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), str(port)], env=dict(os.environ))
        until = time.monotonic() + 60
        while True:
            try:
                httpx.get(f"{self.url}/files/{secrets.token_hex(4)}", timeout=2, trust_env=False)
                return
            except httpx.TransportError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.wait(10)
