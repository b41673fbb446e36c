"""Structured logs without patient data: identifiers of rows only, never names, numbers or report text."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import structlog

QUIET = (
    *("alembic", "celery", "fontTools", "httpcore", "httpx", "kombu", "multipart", "pyhanko", "python_multipart"),
    *("uvicorn", "uvicorn.error", "uvicorn.access"),
)
# Errors whose text names code and never values.
_HARMLESS = (AttributeError, ImportError, NameError, NotImplementedError, RecursionError)


def configure(level: str = "INFO", *, json: bool = False) -> None:
    """Set up structlog and route the standard library's loggers through it."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer(colors=False)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _without_values, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # A server that was set up by another's hand has handlers of its own, which print what ours leave out.
    for server in ("uvicorn", "uvicorn.error", "uvicorn.access", "celery"):
        logger = logging.getLogger(server)
        logger.handlers.clear()
        logger.propagate = True
    # pydicom warns with the values of elements, which are patient data; so may any other library.
    logging.captureWarnings(True)
    for silent in ("pydicom", "pynetdicom", "py.warnings"):
        logging.getLogger(silent).setLevel(logging.CRITICAL)
    for noisy in QUIET:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger bound to `name`."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


def place_of(error: BaseException) -> str:
    """Where `error` was raised: the last line of this project, or of a library where it never came through ours."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if {"hub", "workers", "storage"} & set(Path(frame.filename).parts[-4:-1])]
    last = (ours or frames)[-1:]
    return f"{Path(last[0].filename).name}:{last[0].lineno}" if last else "?"


def describe(error: BaseException) -> str:
    """A traceback without the texts of the errors and without values: both may quote patient data.

    A database names the row that it refuses, a parser the text that it cannot read.
    """
    parts: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        text = type(current).__qualname__
        if isinstance(current, _HARMLESS):
            text += f": {current}"
        elif isinstance(current, OSError) and current.errno is not None:
            text += f": errno {current.errno}"
        parts.append("".join(traceback.format_list(traceback.extract_tb(current.__traceback__))) + text)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich came from\n\n".join(parts)


def _without_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info` by `describe`."""
    info = event.pop("exc_info", None)
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event["exception"] = describe(error)
    return event
